use crate::{Activation, Conv1dConfig, DecoderConfig, LayerConfig, ModelError};
use std::str::FromStr;

/// Everything that a state_dict leaves out: the order of the modules, and the layers between them that have no tensors.
///
/// As text, steps are separated by commas. A step is a module, named by the prefix of its tensors (`.` for a bare
/// module, whose tensors have none) and followed by optional words: `embedding` or `linear`, an activation,
/// `dropout RATE` between the layers of its stack; for an `nn.Conv1d` also `stride STEPS`, `dilation STEPS`, and `causal` or
/// `padding LEFT RIGHT`; for an `nn.LayerNorm` or an `nn.BatchNorm1d` `eps VALUE`. Or it is one of `last_step`, `final_state`,
/// `max_pool`, `mean_pool`, `softmax`, `dropout RATE` and `decoder WIDTH`, after which a decoder's modules read inputs of that
/// width (1 for tokens), as in `table embedding, rnn relu dropout 0.1, last_step, head relu, answer, softmax`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ReadOptions {
    pub(super) steps: Vec<Step>,
    pub(super) ignored: Vec<String>,
}

impl ReadOptions {
    /// The default: only the modules, in the one order that fits.
    pub fn new() -> Self {
        ReadOptions::default()
    }

    /// Sets the order: each module once, as data passes through them, with the layers in between.
    pub fn steps(mut self, steps: impl Into<Vec<Step>>) -> Self {
        self.steps = steps.into();
        self
    }

    /// Leaves out tensors, each name being that of a tensor or of a module.
    pub fn ignore<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.ignored = names.into_iter().map(Into::into).collect();
        self
    }
}

/// One step of the network to read.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Step {
    /// A module of the state_dict.
    Module(ModuleStep),
    /// A layer without parameters, such as [`LayerConfig::LastStep`].
    Layer(LayerConfig),
}

impl Step {
    /// The module whose tensors have this prefix, without the dot after it; empty for a bare module.
    pub fn module(prefix: impl Into<String>) -> ModuleStep {
        ModuleStep {
            prefix: prefix.into(),
            activation: None,
            embedding: None,
            dropout: None,
            eps: None,
            conv: Vec::new(),
        }
    }
}

impl From<ModuleStep> for Step {
    fn from(step: ModuleStep) -> Self {
        Step::Module(step)
    }
}

impl From<LayerConfig> for Step {
    fn from(layer: LayerConfig) -> Self {
        Step::Layer(layer)
    }
}

/// A module of a state_dict, with the properties that its tensors do not show.
#[derive(Clone, Debug, PartialEq)]
pub struct ModuleStep {
    pub(super) prefix: String,
    pub(super) activation: Option<Activation>,
    /// Whether a weight without a bias belongs to an Embedding or to a Linear.
    pub(super) embedding: Option<bool>,
    pub(super) dropout: Option<f32>,
    pub(super) eps: Option<f64>,
    pub(super) conv: Vec<ConvOption>,
}

/// An option of a convolution.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum ConvOption {
    Stride(usize),
    Dilation(usize),
    Padding(usize, usize),
    Causal,
}

impl ConvOption {
    pub(super) fn apply(self, conv: Conv1dConfig) -> Conv1dConfig {
        match self {
            ConvOption::Stride(steps) => conv.stride(steps),
            ConvOption::Dilation(steps) => conv.dilation(steps),
            ConvOption::Padding(left, right) => conv.padding(left, right),
            ConvOption::Causal => conv.causal(),
        }
    }
}

impl ModuleStep {
    /// Sets the `nonlinearity` of an `nn.RNN`, tanh by default, or the activation after an `nn.Linear`, an `nn.Conv1d` or
    /// an `nn.BatchNorm1d`, none by default.
    pub fn activation(mut self, activation: Activation) -> Self {
        self.activation = Some(activation);
        self
    }

    /// Declares a `weight` without a bias to be an `nn.Embedding`.
    pub fn embedding(mut self) -> Self {
        self.embedding = Some(true);
        self
    }

    /// Declares a `weight` without a bias to be an `nn.Linear`.
    pub fn linear(mut self) -> Self {
        self.embedding = Some(false);
        self
    }

    /// Sets the stride of an `nn.Conv1d`, 1 by default.
    pub fn stride(self, steps: usize) -> Self {
        self.conv_option(ConvOption::Stride(steps))
    }

    /// Sets the dilation of an `nn.Conv1d`, 1 by default.
    pub fn dilation(self, steps: usize) -> Self {
        self.conv_option(ConvOption::Dilation(steps))
    }

    /// Sets the steps of zeros before and after the sequence that an `nn.Conv1d` reads, none by default; a padding of one
    /// number is that many on both sides.
    pub fn padding(self, left: usize, right: usize) -> Self {
        self.conv_option(ConvOption::Padding(left, right))
    }

    /// Puts as many steps of zeros before the sequence that an `nn.Conv1d` reads as make it causal, and none after it.
    pub fn causal(self) -> Self {
        self.conv_option(ConvOption::Causal)
    }

    /// Sets the epsilon of an `nn.LayerNorm` or an `nn.BatchNorm1d`, 1e-5 by default.
    pub fn eps(mut self, eps: f64) -> Self {
        self.eps = Some(eps);
        self
    }

    /// Whether zeros are put beside what it reads.
    pub(super) fn is_padded(&self) -> bool {
        let pads = |option: &ConvOption| matches!(option, ConvOption::Causal | ConvOption::Padding(..));
        self.conv.iter().any(|option| pads(option) && *option != ConvOption::Padding(0, 0))
    }

    fn conv_option(mut self, option: ConvOption) -> Self {
        self.conv.push(option);
        self
    }

    /// Sets the dropout between the layers of a recurrent module; none by default.
    pub fn dropout(mut self, rate: f32) -> Self {
        self.dropout = Some(rate);
        self
    }
}

/// Steps that are not modules; `dropout` is handled apart, since it may also follow a module.
const LAYERS: [&str; 6] = ["last_step", "final_state", "max_pool", "mean_pool", "softmax", "decoder"];

/// Activations without parameters, for which a name is enough.
const NAMED: [Activation; 6] = [
    Activation::Identity,
    Activation::Relu,
    Activation::Tanh,
    Activation::Sigmoid,
    Activation::Softsign,
    Activation::Softplus,
];

impl FromStr for ReadOptions {
    type Err = ModelError;

    fn from_str(text: &str) -> Result<Self, ModelError> {
        let steps = text.split(',').map(|step| {
            parse_step(step).map_err(|problem| ModelError::Config { place: "modules".into(), problem })
        });
        Ok(ReadOptions { steps: steps.collect::<Result<_, _>>()?, ignored: Vec::new() })
    }
}

fn parse_step(text: &str) -> Result<Step, String> {
    let mut words = text.split_whitespace();
    let step = match words.next() {
        None => return Err("a step is empty; expected a module's name, or . for a bare module".into()),
        Some("last_step") => LayerConfig::LastStep.into(),
        Some("final_state") => LayerConfig::FinalState.into(),
        Some("max_pool") => LayerConfig::MaxPool.into(),
        Some("mean_pool") => LayerConfig::MeanPool.into(),
        Some("softmax") => LayerConfig::Softmax.into(),
        Some("decoder") => LayerConfig::from(DecoderConfig::new(count("decoder", words.next())?)).into(),
        Some("dropout") => LayerConfig::Dropout { rate: rate(words.next())? }.into(),
        Some(prefix) => {
            let mut module = Step::module(if prefix == "." { "" } else { prefix });
            while let Some(word) = words.next() {
                module = match word {
                    "embedding" => module.embedding(),
                    "linear" => module.linear(),
                    "dropout" => module.dropout(rate(words.next())?),
                    "stride" => module.stride(count(word, words.next())?),
                    "dilation" => module.dilation(count(word, words.next())?),
                    "padding" => module.padding(count(word, words.next())?, count(word, words.next())?),
                    "causal" => module.causal(),
                    "eps" => module.eps(eps(words.next())?),
                    word => match NAMED.into_iter().find(|activation| activation.name() == word) {
                        Some(activation) => module.activation(activation),
                        None if LAYERS.contains(&word) => {
                            return Err(format!(
                                "{word:?} after {prefix} is a step of its own; expected a comma between"
                            ));
                        }
                        None => {
                            let names = NAMED.map(Activation::name).join(", ");
                            let known = format!(
                                "embedding, linear, dropout RATE, stride STEPS, dilation STEPS, padding LEFT RIGHT, causal, eps VALUE, \
                                 {names}"
                            );
                            return Err(format!("{word:?} after {prefix}: expected one of {known}"));
                        }
                    },
                };
            }
            module.into()
        }
    };
    match words.next() {
        Some(word) => Err(format!("{word:?} after {}: expected a comma", text.trim())),
        None => Ok(step),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_says_the_same_as_steps() {
        let text = " table embedding, rnn.inner relu dropout 0.25 ,last_step,final_state, dropout 0.5, head tanh, softmax";
        let options: ReadOptions = text.parse().unwrap();
        let steps: [Step; 7] = [
            Step::module("table").embedding().into(),
            Step::module("rnn.inner").activation(Activation::Relu).dropout(0.25).into(),
            LayerConfig::LastStep.into(),
            LayerConfig::FinalState.into(),
            LayerConfig::Dropout { rate: 0.5 }.into(),
            Step::module("head").activation(Activation::Tanh).into(),
            LayerConfig::Softmax.into(),
        ];
        assert_eq!(options, ReadOptions::new().steps(steps));
        let text = "conv relu stride 2 dilation 3 padding 4 0, causal causal, rnn";
        let conv = Step::module("conv").activation(Activation::Relu).stride(2).dilation(3).padding(4, 0);
        let steps: [Step; 3] =
            [conv.into(), Step::module("causal").causal().into(), Step::module("rnn").into()];
        assert_eq!(text.parse::<ReadOptions>().unwrap(), ReadOptions::new().steps(steps));
        assert_eq!(".".parse::<ReadOptions>().unwrap(), ReadOptions::new().steps([Step::module("").into()]));
    }

    #[test]
    fn words_that_mean_nothing_are_refused() {
        let refusal = |text: &str| text.parse::<ReadOptions>().expect_err("it should be refused").to_string();
        assert_eq!(
            refusal("a,,b"),
            "modules: a step is empty; expected a module's name, or . for a bare module"
        );
        assert_eq!(
            refusal("a, b swish"),
            "modules: \"swish\" after b: expected one of embedding, linear, dropout RATE, stride STEPS, dilation STEPS, \
             padding LEFT RIGHT, causal, eps VALUE, identity, relu, tanh, sigmoid, \
             softsign, softplus"
        );
        assert_eq!(
            refusal("rnn last_step"),
            "modules: \"last_step\" after rnn is a step of its own; expected a comma between"
        );
        assert_eq!(refusal("last_step relu"), "modules: \"relu\" after last_step relu: expected a comma");
        assert_eq!(refusal("a padding 3"), "modules: padding : expected a number");
        assert_eq!(refusal("a eps -1"), "modules: eps -1: expected a number such as 1e-5");
        assert_eq!(refusal("a dropout often"), "modules: dropout often: expected a rate such as 0.1");
    }
}
