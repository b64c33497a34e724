//! The text of [`ReadOptions`], read and written.

use super::super::tensors::shown;
use super::options::{ConvOption, Given, ModuleStep, ReadOptions, Step};
use crate::{Activation, DecoderConfig, LayerConfig, ModelError};
use std::str::FromStr;

/// Steps without parameters, for which a word is enough.
const LAYERS: [(&str, LayerConfig); 5] = [
    ("last_step", LayerConfig::LastStep),
    ("final_state", LayerConfig::FinalState),
    ("max_pool", LayerConfig::MaxPool),
    ("mean_pool", LayerConfig::MeanPool),
    ("softmax", LayerConfig::Softmax),
];

/// Steps with parameters; `dropout` and `layer_norm` may also follow a module.
const WITH_PARAMETERS: [&str; 4] = ["decoder", "dropout", "residual", "layer_norm"];

/// Activations without parameters, for which a name is enough.
const NAMED: [Activation; 6] = [
    Activation::Identity,
    Activation::Relu,
    Activation::Tanh,
    Activation::Sigmoid,
    Activation::Softsign,
    Activation::Softplus,
];

/// The activations with parameters, as they are written.
const PARAMETRIZED: &str = "leaky_relu(SLOPE), elu(ALPHA), hard_sigmoid(SLOPE, OFFSET), thresholded_relu(THRESHOLD), \
                            affine(SLOPE, OFFSET), scaled_tanh(BOUND, FACTOR)";

impl FromStr for ReadOptions {
    type Err = ModelError;

    fn from_str(text: &str) -> Result<Self, ModelError> {
        let refusal = |problem| ModelError::Config { place: "modules".into(), problem };
        let steps = split(text, |c| c == ',').map_err(refusal)?.into_iter();
        let steps = steps.map(|step| parse_step(step).map_err(refusal));
        Ok(ReadOptions::of_given(steps.collect::<Result<_, _>>()?))
    }
}

/// Splits a text at separators outside parentheses.
fn split(text: &str, separates: fn(char) -> bool) -> Result<Vec<&str>, String> {
    let (mut parts, mut start, mut depth) = (Vec::new(), 0, 0_usize);
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            c if depth == 0 && separates(c) => {
                parts.push(&text[start..at]);
                start = at + c.len_utf8();
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    if depth > 0 {
        return Err(format!("{:?}: expected a closing parenthesis", shown(text[start..].trim())));
    }
    Ok(parts)
}

fn parse_step(text: &str) -> Result<Given, String> {
    let words = split(text.trim(), char::is_whitespace)?;
    let words: Vec<&str> = words.into_iter().filter(|word| !word.is_empty()).collect();
    let Some((&first, rest)) = words.split_first() else {
        return Err("a step is empty; expected a module's name, or . for a bare module".into());
    };
    if let Some(prefix) = first.strip_prefix('.') {
        return Ok(Given::Step(module_step(prefix, rest)?.into()));
    }
    if let Some((word, arguments)) = call(first)
        && let Some(step) = own_step(word, &arguments, first)
    {
        let step = step?;
        return match rest {
            [] => Ok(Given::Step(step)),
            [word, ..] => Err(format!("{word:?} after {}: expected a comma", text.trim())),
        };
    }
    match (module_step(first, rest), own_step(first, rest, text.trim())) {
        (Ok(module), Some(step)) => Ok(Given::Either(module, step.map(Box::new))),
        (Ok(module), None) => Ok(Given::Step(module.into())),
        (Err(_), Some(step)) => Ok(Given::Step(step?)),
        (Err(problem), None) => Err(problem),
    }
}

/// The word and the arguments of `word(argument, argument)`.
fn call(text: &str) -> Option<(&str, Vec<&str>)> {
    let (word, arguments) = text.strip_suffix(')')?.split_once('(')?;
    let arguments = arguments.split(',').map(str::trim);
    Some((word, arguments.filter(|argument| !argument.is_empty()).collect()))
}

/// A step of its own that begins with this word; `None` if none does. `text` is all of it.
fn own_step(word: &str, rest: &[&str], text: &str) -> Option<Result<Step, String>> {
    let mut words = rest.iter().copied();
    let step = if let Some((_, layer)) = LAYERS.iter().find(|(name, _)| *name == word) {
        Ok(layer.clone().into())
    } else {
        match word {
            "decoder" => {
                let width = count(word, words.next()).map_err(|_| {
                    "decoder: expected its width, as in decoder 3, or a module of this name".to_owned()
                });
                width.map(|width| LayerConfig::from(DecoderConfig::new(width)).into())
            }
            "dropout" => rate(words.next()).map(|rate| LayerConfig::Dropout { rate }.into()),
            "residual" => {
                let name = words.next().map(|name| name.strip_prefix('.').unwrap_or(name).to_owned());
                Ok(Step::Residual(name))
            }
            "layer_norm" => match words.next() {
                None => Ok(Step::LayerNorm(None)),
                Some("eps") => eps(words.next()).map(|eps| Step::LayerNorm(Some(eps))),
                found => eps(found).map(|eps| Step::LayerNorm(Some(eps))),
            },
            word => {
                words.by_ref().for_each(drop);
                function(word, rest)?.map(Step::Function)
            }
        }
    };
    Some(step.and_then(|step| match words.next() {
        Some(word) => Err(format!("{word:?} after {text}: expected a comma")),
        None => Ok(step),
    }))
}

fn module_step(prefix: &str, words: &[&str]) -> Result<ModuleStep, String> {
    let mut module = Step::module(prefix);
    let prefix = if prefix.is_empty() { "." } else { prefix };
    let mut words = words.iter().copied();
    while let Some(word) = words.next() {
        let (name, arguments) = call(word).unwrap_or((word, Vec::new()));
        module = match word {
            "embedding" => module.embedding(),
            "linear" => module.linear(),
            "layer_norm" => module.layer_norm(),
            "dropout" => module.dropout(rate(words.next())?),
            "stride" => module.stride(count(word, words.next())?),
            "dilation" => module.dilation(count(word, words.next())?),
            "padding" => module.padding(count(word, words.next())?, count(word, words.next())?),
            "causal" => module.causal(),
            "eps" => module.eps(eps(words.next())?),
            word => match function(name, &arguments) {
                Some(function) => module.activation(function?),
                None if LAYERS.iter().any(|(name, _)| *name == word) || WITH_PARAMETERS.contains(&word) => {
                    return Err(format!(
                        "{word:?} after {prefix} is a step of its own; expected a comma between"
                    ));
                }
                None => {
                    let names = NAMED.map(Activation::name).join(", ");
                    return Err(format!(
                        "{word:?} after {prefix}: expected one of embedding, linear, layer_norm, dropout RATE, stride STEPS, \
                         dilation STEPS, padding LEFT RIGHT, causal, eps VALUE, {names}, {PARAMETRIZED}"
                    ));
                }
            },
        };
    }
    Ok(module)
}

/// The function of a name with these arguments, by default PyTorch's; `None` if there is no such name.
fn function(name: &str, arguments: &[&str]) -> Option<Result<Activation, String>> {
    let known = NAMED.into_iter().chain(Activation::ALL).find(|function| function.name() == name)?;
    let numbers: Option<Vec<f32>> = arguments.iter().map(|argument| argument.parse().ok()).collect();
    let function = match (known, numbers.as_deref()) {
        (Activation::LeakyRelu { .. }, Some(&[])) => Activation::LeakyRelu { alpha: 0.01 },
        (Activation::LeakyRelu { .. }, Some(&[alpha])) => Activation::LeakyRelu { alpha },
        (Activation::Elu { .. }, Some(&[])) => Activation::Elu { alpha: 1.0 },
        (Activation::Elu { .. }, Some(&[alpha])) => Activation::Elu { alpha },
        (Activation::HardSigmoid { .. }, Some(&[])) => {
            Activation::HardSigmoid { alpha: 1.0 / 6.0, beta: 0.5 }
        }
        (Activation::HardSigmoid { .. }, Some(&[alpha, beta])) => Activation::HardSigmoid { alpha, beta },
        (Activation::ThresholdedRelu { .. }, Some(&[alpha])) => Activation::ThresholdedRelu { alpha },
        (Activation::Affine { .. }, Some(&[alpha, beta])) => Activation::Affine { alpha, beta },
        (Activation::ScaledTanh { .. }, Some(&[alpha, beta])) => Activation::ScaledTanh { alpha, beta },
        (known, Some(&[])) if NAMED.contains(&known) => known,
        _ => {
            let found = format!("{name}({})", arguments.join(", "));
            let mut written =
                split(PARAMETRIZED, |c| c == ',').unwrap_or_default().into_iter().map(str::trim);
            let expected = written.find(|text| text.split('(').next() == Some(name)).unwrap_or(name);
            return Some(Err(format!("{found}: expected {expected}")));
        }
    };
    Some(Ok(function))
}

fn count(option: &str, word: Option<&str>) -> Result<usize, String> {
    let steps = word.and_then(|word| word.parse().ok());
    steps.ok_or_else(|| format!("{option} {}: expected a number", word.unwrap_or("")))
}

fn eps(word: Option<&str>) -> Result<f64, String> {
    let eps = word.and_then(|word| word.parse().ok()).filter(|eps: &f64| eps.is_finite() && *eps >= 0.0);
    eps.ok_or_else(|| format!("eps {}: expected a number such as 1e-5", word.unwrap_or("")))
}

fn rate(word: Option<&str>) -> Result<f32, String> {
    let rate = word.and_then(|word| word.parse().ok());
    rate.ok_or_else(|| format!("dropout {}: expected a rate such as 0.1", word.unwrap_or("")))
}

/// A module's step as text. `embedding` says that it is one.
pub(super) fn module_text(said: &ModuleStep, embedding: bool) -> String {
    let mut text = if said.prefix.is_empty() { ".".into() } else { shown(&said.prefix) };
    let mut add = |word: String| {
        text.push(' ');
        text.push_str(&word);
    };
    match said.embedding {
        Some(false) => add("linear".into()),
        Some(true) => add("embedding".into()),
        None if embedding => add("embedding".into()),
        None => {}
    }
    if said.layer_norm {
        add("layer_norm".into());
    }
    if let Some(function) = said.activation {
        add(function.to_string());
    }
    if let Some(rate) = said.dropout {
        add(format!("dropout {rate}"));
    }
    for option in &said.conv {
        add(match option {
            ConvOption::Stride(steps) => format!("stride {steps}"),
            ConvOption::Dilation(steps) => format!("dilation {steps}"),
            ConvOption::Padding(left, right) => format!("padding {left} {right}"),
            ConvOption::Causal => "causal".into(),
        });
    }
    if let Some(eps) = said.eps {
        add(format!("eps {eps:e}"));
    }
    text
}

/// A layer's step as text, with parentheses where a module of the file has its name.
pub(super) fn layer_text(layer: &LayerConfig, is_module: impl Fn(&str) -> bool) -> String {
    match layer {
        LayerConfig::Decoder(decoder) => format!("decoder {}", decoder.input),
        LayerConfig::Dropout { rate } => format!("dropout {rate}"),
        layer => match LAYERS.iter().find(|(_, known)| known == layer) {
            Some((word, _)) => own_text(word, is_module),
            None => "...".into(),
        },
    }
}

/// A word for a step of its own, with parentheses where a module of the file has its name.
pub(super) fn own_text(word: &str, is_module: impl Fn(&str) -> bool) -> String {
    if is_module(word) { format!("{word}()") } else { word.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The steps for a file with these modules.
    fn steps(text: &str, modules: &[&str]) -> Result<Vec<Step>, String> {
        let options: ReadOptions = text.parse().map_err(|error: ModelError| error.to_string())?;
        options.steps_for(|name| modules.contains(&name))
    }

    #[test]
    fn text_says_the_same_as_steps() {
        let text = " table embedding, rnn.inner relu dropout 0.25 ,last_step,final_state, dropout 0.5, head tanh, softmax";
        let expected: [Step; 7] = [
            Step::module("table").embedding().into(),
            Step::module("rnn.inner").activation(Activation::Relu).dropout(0.25).into(),
            LayerConfig::LastStep.into(),
            LayerConfig::FinalState.into(),
            LayerConfig::Dropout { rate: 0.5 }.into(),
            Step::module("head").activation(Activation::Tanh).into(),
            LayerConfig::Softmax.into(),
        ];
        assert_eq!(steps(text, &[]).unwrap(), expected);
        let text = "conv relu stride 2 dilation 3 padding 4 0, causal causal, rnn";
        let conv = Step::module("conv").activation(Activation::Relu).stride(2).dilation(3).padding(4, 0);
        let expected: [Step; 3] =
            [conv.into(), Step::module("causal").causal().into(), Step::module("rnn").into()];
        assert_eq!(steps(text, &[]).unwrap(), expected);
        assert_eq!(steps(".", &[]).unwrap(), [Step::module("").into()]);
    }

    #[test]
    fn functions_have_pytorchs_defaults() {
        for (text, function) in [
            ("leaky_relu", Activation::LeakyRelu { alpha: 0.01 }),
            ("leaky_relu(0.2)", Activation::LeakyRelu { alpha: 0.2 }),
            ("elu", Activation::Elu { alpha: 1.0 }),
            ("elu( 0.5 )", Activation::Elu { alpha: 0.5 }),
            ("hard_sigmoid", Activation::HardSigmoid { alpha: 1.0 / 6.0, beta: 0.5 }),
            ("hard_sigmoid(0.2, 0.5)", Activation::HardSigmoid { alpha: 0.2, beta: 0.5 }),
            ("thresholded_relu(1)", Activation::ThresholdedRelu { alpha: 1.0 }),
            ("affine(0.3, 0.4)", Activation::Affine { alpha: 0.3, beta: 0.4 }),
            ("scaled_tanh(0.7,0.6)", Activation::ScaledTanh { alpha: 0.7, beta: 0.6 }),
            ("relu()", Activation::Relu),
        ] {
            let after = steps(&format!("a {text}, b"), &[]).unwrap();
            assert_eq!(after, [Step::module("a").activation(function).into(), Step::module("b").into()]);
            assert_eq!(steps(text, &[]).unwrap(), [Step::Function(function)], "{text}");
        }
        let refusal = |text: &str| steps(text, &[]).expect_err("it should be refused");
        assert_eq!(refusal("a scaled_tanh"), "modules: scaled_tanh(): expected scaled_tanh(BOUND, FACTOR)");
        assert_eq!(refusal("a relu(1)"), "modules: relu(1): expected relu");
        assert_eq!(refusal("elu(x)"), "modules: elu(x): expected elu(ALPHA)");
        assert_eq!(refusal("a, b elu(1"), "modules: \"b elu(1\": expected a closing parenthesis");
    }

    /// A word is a module where the file has it; a dot or parentheses decide.
    #[test]
    fn modules_may_have_the_names_of_steps() {
        let decoder = |width| Step::from(LayerConfig::from(DecoderConfig::new(width)));
        let module = |name: &str| Step::from(Step::module(name));
        let own = [
            ("last_step", LayerConfig::LastStep.into()),
            ("final_state", LayerConfig::FinalState.into()),
            ("max_pool", LayerConfig::MaxPool.into()),
            ("mean_pool", LayerConfig::MeanPool.into()),
            ("softmax", LayerConfig::Softmax.into()),
            ("relu", Step::Function(Activation::Relu)),
            ("residual", Step::Residual(None)),
            ("layer_norm", Step::LayerNorm(None)),
        ];
        for (word, step) in own {
            assert_eq!(steps(word, &[]).unwrap(), std::slice::from_ref(&step), "{word}");
            assert_eq!(steps(word, &[word]).unwrap(), [module(word)], "{word}");
            assert_eq!(steps(&format!(".{word}"), &[]).unwrap(), [module(word)], "{word}");
            assert_eq!(steps(&format!("{word}()"), &[word]).unwrap(), [step], "{word}");
        }
        for text in ["decoder 3", "decoder(3)"] {
            assert_eq!(steps(text, &["decoder"]).unwrap(), [decoder(3)], "{text}");
        }
        let dropout = Step::from(LayerConfig::Dropout { rate: 0.5 });
        assert_eq!(steps("dropout 0.5, dropout", &["dropout"]).unwrap(), [dropout, module("dropout")]);
        assert_eq!(
            steps("softmax relu", &["softmax"]).unwrap(),
            [Step::module("softmax").activation(Activation::Relu).into()]
        );
        assert_eq!(
            steps("residual lstm, residual(.relu), residual linear", &[]).unwrap(),
            ["lstm", "relu", "linear"].map(|name| Step::Residual(Some(name.into())))
        );
        let eps = Step::LayerNorm(Some(1e-3));
        assert_eq!(steps("layer_norm eps 1e-3, layer_norm(1e-3)", &[]).unwrap(), [eps.clone(), eps]);
        assert_eq!(
            steps("a, decoder", &["a"]).unwrap_err(),
            "decoder: expected its width, as in decoder 3, or a module of this name"
        );
    }

    #[test]
    fn words_that_mean_nothing_are_refused() {
        let refusal = |text: &str| steps(text, &[]).expect_err("it should be refused");
        assert_eq!(
            refusal("a,,b"),
            "modules: a step is empty; expected a module's name, or . for a bare module"
        );
        assert_eq!(
            refusal("a, b swish"),
            "modules: \"swish\" after b: expected one of embedding, linear, layer_norm, dropout RATE, stride STEPS, \
             dilation STEPS, padding LEFT RIGHT, causal, eps VALUE, identity, relu, tanh, sigmoid, softsign, softplus, \
             leaky_relu(SLOPE), elu(ALPHA), hard_sigmoid(SLOPE, OFFSET), thresholded_relu(THRESHOLD), affine(SLOPE, OFFSET), \
             scaled_tanh(BOUND, FACTOR)"
        );
        assert_eq!(
            refusal("rnn last_step"),
            "modules: \"last_step\" after rnn is a step of its own; expected a comma between"
        );
        assert_eq!(refusal("last_step relu"), "\"relu\" after last_step relu: expected a comma");
        assert_eq!(refusal("a padding 3"), "modules: padding : expected a number");
        assert_eq!(refusal("a eps -1"), "modules: eps -1: expected a number such as 1e-5");
        assert_eq!(refusal("a dropout often"), "modules: dropout often: expected a rate such as 0.1");
    }
}
