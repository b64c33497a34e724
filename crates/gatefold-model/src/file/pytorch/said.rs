//! Statements about a state_dict that only its user can make: what must be said is asked for, the rest is noted. Messages
//! quote whole orders, which can be given as they stand.

use super::super::tensors::shown;
use super::modules::{Kind, Module, Stack};
use super::options::{ConvOption, ModuleStep};
use super::order::Resolved;
use super::text::{layer_text, module_text, own_text};
use crate::{Activation, LayerConfig};

/// Refuses a lone weight with one axis that nobody said to be an `nn.LayerNorm`'s, and the reverse.
pub(super) fn check_lone_weight(module: &Module, said: bool) -> Result<(), String> {
    let name = module.text();
    match (module.kind, said) {
        (Kind::LayerNorm { width, bias: false }, false) => Err(format!(
            "{name}: a lone weight of {width} may be that of an nn.LayerNorm with bias=False, an nn.RMSNorm or an nn.PReLU; for \
             the first, say \"{name} layer_norm\" at its place in the option modules; for a PReLU with one slope, ignore the \
             module and say leaky_relu(SLOPE); for others, export the model as ONNX, which gatefold run takes as it is"
        )),
        (Kind::LayerNorm { .. }, _) | (_, false) => Ok(()),
        (_, true) => Err(format!("{module}: expected a weight with one axis for layer_norm")),
    }
}

/// Refuses an order that leaves open what is computed between its modules. Without a given order, convolutions and batch
/// normalisations are refused too.
pub(super) fn check(steps: &[Resolved], given: bool) -> Result<(), String> {
    let pairs: Vec<(usize, usize)> =
        (0..steps.len()).filter_map(|at| Some((at, linear_after(steps, at)?))).collect();
    let example = || {
        quoted(steps, |at, module, said| {
            let after_product = at.checked_sub(1).is_some_and(|before| {
                kind(&steps[before])
                    .is_some_and(|kind| matches!(kind, Kind::Linear { .. } | Kind::Conv1d { .. }))
            });
            let normed = at + 1 < steps.len() && kind(&steps[at + 1]).is_some_and(is_batch_norm);
            let unsaid = pairs.iter().any(|&(first, next)| function_place(steps, first, next) == at)
                || is_batch_norm(module.kind) && after_product
                || matches!(module.kind, Kind::Conv1d { .. }) && !normed;
            if unsaid && said.activation.is_none() {
                said.activation = Some(Activation::Relu);
            }
            if let Kind::Conv1d { .. } = module.kind {
                let options = [ConvOption::Stride(1), ConvOption::Dilation(1), ConvOption::Padding(0, 0)];
                let unsaid = said.said_of_conv().into_iter().zip(options).filter(|(said, _)| !said);
                said.conv.extend(unsaid.map(|(_, option)| option).collect::<Vec<_>>());
            }
        })
    };
    let of_kind = |wanted: fn(Kind) -> bool| {
        steps.iter().find_map(|step| match step {
            Resolved::Module(module, ..) if !given && wanted(module.kind) => Some(module),
            _ => None,
        })
    };
    if let Some(conv) = of_kind(|kind| matches!(kind, Kind::Conv1d { .. })) {
        return Err(format!(
            "{conv}: the file does not hold its stride, its dilation, its padding and the function after it; say them with the \
             option modules, such as \"{}\"",
            example()
        ));
    }
    if let Some(norm) = of_kind(is_batch_norm) {
        return Err(format!(
            "{norm}: the file does not hold its place and the function after it; say them with the option modules, such as \
             \"{}\"",
            example()
        ));
    }
    match pairs.first() {
        None => Ok(()),
        Some(&(first, next)) => {
            let name = |at: usize| match &steps[at] {
                Resolved::Module(module, ..) => module.text(),
                _ => unreachable!("pairs are of modules"),
            };
            Err(format!(
                "{} and {} are Linear layers in a row, and the file does not hold the function between them; say it with the \
                 option modules, such as \"{}\", or identity for none",
                name(first),
                name(next),
                example()
            ))
        }
    }
}

fn is_batch_norm(kind: Kind) -> bool {
    matches!(kind, Kind::BatchNorm { .. })
}

fn kind(step: &Resolved) -> Option<Kind> {
    match step {
        Resolved::Module(module, ..) => Some(module.kind),
        _ => None,
    }
}

/// The step that the output of a module without a function goes to.
enum Next {
    /// One that says a function, or the end of an encoder.
    Said,
    /// This module, through others that are no functions.
    Module(usize),
    End,
}

/// Follows the output of the step at `from` to the next function or module; normalisations are on the way.
fn next(steps: &[Resolved], from: usize) -> Next {
    if matches!(&steps[from], Resolved::Module(_, said, _) if said.activation.is_some()) {
        return Next::Said;
    }
    for (at, step) in steps.iter().enumerate().skip(from + 1) {
        match step {
            Resolved::Function(_) | Resolved::Layer(LayerConfig::Softmax | LayerConfig::Decoder(_)) => {
                return Next::Said;
            }
            Resolved::Module(
                Module { kind: Kind::LayerNorm { .. } | Kind::BatchNorm { .. }, .. },
                said,
                _,
            ) => {
                if said.activation.is_some() {
                    return Next::Said;
                }
            }
            Resolved::Module(..) => return Next::Module(at),
            Resolved::Layer(_) | Resolved::Residual(_) | Resolved::LayerNorm(_) => {}
        }
    }
    Next::End
}

/// The Linear module that the output of the one at `at` goes to without a function that was said.
fn linear_after(steps: &[Resolved], at: usize) -> Option<usize> {
    let linear = |at: usize| kind(&steps[at]).is_some_and(|kind| matches!(kind, Kind::Linear { .. }));
    match next(steps, at) {
        Next::Module(next) if linear(at) && linear(next) => Some(next),
        _ => None,
    }
}

/// The module at which the function between two Linear modules is usual: the last normalisation right after the first.
fn function_place(steps: &[Resolved], first: usize, next: usize) -> usize {
    let norm = |at: &usize| {
        kind(&steps[*at]).is_some_and(|kind| matches!(kind, Kind::LayerNorm { .. } | Kind::BatchNorm { .. }))
    };
    (first + 1..next).take_while(norm).last().unwrap_or(first)
}

/// The assumptions of an order, a line each.
pub(super) fn assumptions(steps: &[Resolved], given: bool) -> Vec<String> {
    let mut assumed = Vec::new();
    let names: Vec<String> = modules(steps).map(|(_, module, _)| module.text()).collect();
    if !given && names.len() > 1 {
        assumed.push(format!(
            "the modules are taken in the only order that fits, {}, with nothing between them: no function, residual \
             connection or last step",
            names.join(", ")
        ));
    }
    let rnn = |kind: Kind| matches!(kind, Kind::Recurrent(Stack { gates: 1, .. }));
    if let Some(names) = named(steps, |module, said| rnn(module.kind) && said.activation.is_none()) {
        let example = quoted(steps, |_, module, said| {
            if rnn(module.kind) {
                said.activation.get_or_insert(Activation::Relu);
            }
        });
        assumed.push(format!(
            "{names} taken as tanh, nn.RNN's default; if it has nonlinearity='relu', say \"{example}\""
        ));
    }
    let norm = |kind: Kind| matches!(kind, Kind::LayerNorm { .. });
    if let Some(names) = named(steps, |module, said| norm(module.kind) && said.eps.is_none()) {
        assumed.push(format!(
            "{names} taken as nn.LayerNorm with its default eps of 1e-5; for another, say \"{}\"",
            with_eps(steps, norm)
        ));
    }
    if steps.iter().any(|step| matches!(step, Resolved::LayerNorm(None))) {
        assumed.push(format!(
            "layer_norm is taken as nn.LayerNorm with its default eps of 1e-5; for another, say \"{}\"",
            with_eps(steps, norm)
        ));
    }
    for (at, module, said) in modules(steps) {
        if let Kind::Conv1d { input, .. } = module.kind {
            assumed.extend(of_conv(steps, at, module, said));
            let first = !steps[..at].iter().any(|step| kind(step).is_some());
            let decoder = at > 0 && matches!(steps[at - 1], Resolved::Layer(LayerConfig::Decoder(_)));
            if first && !decoder {
                assumed.push(format!(
                    "{} is taken as a Conv1d with groups=1, whose input is {input} wide; one with more groups cannot be told \
                     from it, and is read only from ONNX",
                    module.text()
                ));
            }
        }
        let open = matches!(module.kind, Kind::Linear { .. }) && matches!(next(steps, at), Next::Module(_));
        if open && given {
            let name = module.text();
            let example = with_function(steps, at);
            assumed.push(format!("{name} is taken without a function after it; for one, say \"{example}\""));
        }
    }
    assumed
}

/// A line about the options of a convolution that nobody said.
fn of_conv(steps: &[Resolved], at: usize, module: &Module, said: &ModuleStep) -> Option<String> {
    let [stride, dilation, padding] = said.said_of_conv();
    let function = matches!(next(steps, at), Next::Said);
    let defaults = [
        (stride, "stride 1", ConvOption::Stride(2)),
        (dilation, "dilation 1", ConvOption::Dilation(2)),
        (padding, "padding 0 0", ConvOption::Padding(1, 1)),
    ];
    let mut unsaid: Vec<&str> =
        defaults.iter().filter(|(said, ..)| !said).map(|(_, text, _)| *text).collect();
    unsaid.extend((!function).then_some("no function"));
    let last = unsaid.pop()?;
    let taken = if unsaid.is_empty() { last.into() } else { format!("{} and {last}", unsaid.join(", ")) };
    let place = function_place(steps, at, steps.len());
    let example = quoted(steps, |step, _, said| {
        if step == place && !function {
            said.activation = Some(Activation::Relu);
        }
        if step == at {
            said.conv.extend(defaults.iter().filter(|(said, ..)| !said).map(|(_, _, option)| *option));
        }
    });
    Some(format!("{} is taken with {taken}; for others, say \"{example}\"", module.text()))
}

/// An order with a relu after the module at `at`.
fn with_function(steps: &[Resolved], at: usize) -> String {
    let place = function_place(steps, at, steps.len());
    quoted(steps, |step, _, said| {
        if step == place {
            said.activation = Some(Activation::Relu);
        }
    })
}

/// An order with an eps after each normalisation of these kinds that has none.
pub(super) fn with_eps(steps: &[Resolved], kinds: impl Fn(Kind) -> bool) -> String {
    const EPS: f64 = 1e-3;
    let mut steps = steps.to_vec();
    let own = kinds(Kind::LayerNorm { width: 1, bias: true });
    for step in steps.iter_mut().filter(|_| own) {
        if let Resolved::LayerNorm(eps) = step {
            eps.get_or_insert(EPS);
        }
    }
    quoted(&steps, |_, module, said| {
        if kinds(module.kind) {
            said.eps.get_or_insert(EPS);
        }
    })
}

/// The modules among the steps, with their places.
fn modules(steps: &[Resolved]) -> impl Iterator<Item = (usize, &Module, &ModuleStep)> {
    steps.iter().enumerate().filter_map(|(at, step)| match step {
        Resolved::Module(module, said, _) => Some((at, module, said)),
        _ => None,
    })
}

/// The modules of which this holds and a verb, such as `a and b are`; `None` if there are none.
fn named(steps: &[Resolved], holds: impl Fn(&Module, &ModuleStep) -> bool) -> Option<String> {
    let held = modules(steps).filter(|(_, module, said)| holds(module, said));
    let mut names: Vec<String> = held.map(|(_, module, _)| module.text()).collect();
    let last = names.pop()?;
    Some(if names.is_empty() { format!("{last} is") } else { format!("{} and {last} are", names.join(", ")) })
}

/// The text of an order in which the options of modules are changed.
fn quoted(steps: &[Resolved], change: impl Fn(usize, &Module, &mut ModuleStep)) -> String {
    let is_module = |name: &str| modules(steps).any(|(_, module, _)| module.prefix == name);
    let text = |(at, step): (usize, &Resolved)| match step {
        Resolved::Module(module, said, _) => {
            let mut said = said.clone();
            change(at, module, &mut said);
            module_text(&said, matches!(module.kind, Kind::Embedding { .. }))
        }
        Resolved::Layer(layer) => layer_text(layer, is_module),
        Resolved::Function(function) if is_module(function.name()) => {
            let text = function.to_string();
            if text.ends_with(')') { text } else { own_text(function.name(), is_module) }
        }
        Resolved::Function(function) => function.to_string(),
        Resolved::Residual(name) if is_module("residual") => format!("residual({})", shown(name)),
        Resolved::Residual(name) => {
            format!("residual {}", if name.is_empty() { ".".into() } else { shown(name) })
        }
        Resolved::LayerNorm(eps) => {
            let eps = eps.map_or_else(String::new, |eps| format!("{eps:e}"));
            match (is_module("layer_norm"), eps.as_str()) {
                (true, eps) => format!("layer_norm({eps})"),
                (false, "") => "layer_norm".into(),
                (false, eps) => format!("layer_norm eps {eps}"),
            }
        }
    };
    steps.iter().enumerate().map(text).collect::<Vec<_>>().join(", ")
}
