//! The layers of a network that was read, and the tensor of each of their parameters.

use super::super::tensors::shown;
use super::fold::{Fold, Part, Source, WeightNorms};
use super::modules::{Kind, Module, Shapes, Stack};
use super::options::ModuleStep;
use super::order::{Network, Resolved, Written};
use crate::{
    Activation, Biases, Conv1dConfig, DenseConfig, Direction, EmbeddingConfig, GruConfig, LayerConfig,
    LayerNorm, LstmConfig, NetworkConfig, ParameterSpec, RnnConfig, Role,
};
use std::collections::BTreeMap;

impl Written {
    /// A layer that no module was read for.
    fn made(leaves: &[&str]) -> Written {
        Written {
            name: String::new(),
            layers: 1,
            cell: false,
            weight_norms: Vec::new(),
            batch_norms: Vec::new(),
            made: leaves.iter().map(|&leaf| leaf.to_owned()).collect(),
        }
    }
}

impl Module {
    /// The input width.
    fn input(&self) -> usize {
        match self.kind {
            Kind::Recurrent(Stack { input, .. })
            | Kind::Linear { input, .. }
            | Kind::Conv1d { input, .. } => input,
            Kind::LayerNorm { width, .. } | Kind::BatchNorm { width, .. } => width,
            Kind::Embedding { .. } => 1,
        }
    }
}

/// Builds the network, and finds the tensor of each of its parameters.
pub(super) fn assemble(
    shapes: &Shapes,
    norms: &WeightNorms,
    steps: &[Resolved],
    assumed: &mut Vec<String>,
) -> Result<Network, String> {
    let input = steps.iter().find_map(|step| match step {
        Resolved::Module(module, ..) => Some(module.input()),
        _ => None,
    });
    let input = input.ok_or("no module is listed; expected every module once")?;
    let mut layers: Vec<LayerConfig> = Vec::new();
    let mut origins: Vec<Origin> = Vec::new();
    // The first layer of each module, and whether a normalisation of its input was folded into it.
    let mut firsts: BTreeMap<&str, (usize, bool)> = BTreeMap::new();
    let mut written = Vec::new();
    let mut diagonal = Vec::new();
    for step in steps {
        match step {
            Resolved::Layer(layer) => {
                layers.push(layer.clone());
                origins.push(Origin::None);
            }
            Resolved::Residual(name) => {
                let from = match firsts.get(name.as_str()) {
                    Some(&(from, false)) => from,
                    _ => {
                        return Err(format!(
                            "residual {}: its input is not computed, since a batch normalisation is folded there; export the model as ONNX, which gatefold run takes as it is",
                            shown(name)
                        ));
                    }
                };
                layers.push(LayerConfig::Residual { from });
                origins.push(Origin::None);
            }
            Resolved::LayerNorm(eps) => {
                layers.push(LayerConfig::Normalise { epsilon: epsilon(*eps) });
                origins.push(Origin::Made);
                written.push(Written::made(&["weight", "bias"]));
            }
            Resolved::Function(Activation::Identity) => {}
            Resolved::Function(function) => {
                layers.push(applied(*function, width(input, &layers)?)?);
                origins.push(Origin::Made);
                written.push(Written::made(&["weight"]));
                diagonal.push(function.to_string());
            }
            Resolved::Module(module, said, folds) => {
                let (layers_of, cell) = match module.kind {
                    Kind::Recurrent(stack) => (stack.layers, stack.cell),
                    _ => (1, false),
                };
                let own = |name: &String| {
                    let leaf = match module.prefix.as_str() {
                        "" => Some(name.as_str()),
                        prefix => name.strip_prefix(prefix)?.strip_prefix('.'),
                    };
                    leaf.filter(|leaf| !leaf.contains('.')).map(str::to_owned)
                };
                let normed =
                    norms.iter().filter_map(|(name, norm)| Some((own(name)?, norm.is_parametrized())));
                let has_bias = module.has_bias();
                let without_bias = matches!(module.kind, Kind::LayerNorm { bias: false, .. });
                written.push(Written {
                    name: module.prefix.clone(),
                    layers: layers_of,
                    cell,
                    weight_norms: normed.collect(),
                    batch_norms: folds.iter().map(|fold| fold.written(has_bias)).collect(),
                    made: without_bias.then(|| "bias".to_owned()).into_iter().collect(),
                });
                let normed_before = folds.iter().any(|fold| matches!(fold, Fold::Before(_)));
                firsts.insert(&module.prefix, (layers.len(), normed_before));
                for (layer, index) in module_layers(module, said, folds)? {
                    layers.push(layer);
                    origins.push(index.map_or(Origin::None, |index| Origin::Module(module, index, folds)));
                }
                if let Kind::LayerNorm { width, .. } = module.kind
                    && let Some(function) =
                        said.activation.filter(|function| *function != Activation::Identity)
                {
                    layers.push(applied(function, width)?);
                    origins.push(Origin::Made);
                    written.push(Written::made(&["weight"]));
                    diagonal.push(format!("{function} after {}", module.text()));
                }
            }
        }
    }
    if !diagonal.is_empty() {
        let (is, layers) =
            if diagonal.len() == 1 { ("is", "a dense layer") } else { ("are", "dense layers") };
        assumed.push(format!(
            "{} {is} computed by {layers} with ones on the diagonal, which training would change",
            diagonal.join(", ")
        ));
    }
    let config = NetworkConfig::new(input, layers).map_err(|error| error.to_string())?;
    let mut sources = Vec::new();
    for layer in config.layers().iter().filter(|layer| layer.owner == layer.index) {
        for spec in &layer.parameters {
            let source = match origins[layer.index] {
                Origin::Module(module, index, folds) => source(module, index, folds, spec),
                Origin::Made => made(spec),
                Origin::None => unreachable!("only modules bring parameters"),
            };
            if let Some(name) = &source.tensor {
                assert_eq!(shapes.get(name), Some(&spec.shape), "{name} was checked against its module");
            }
            sources.push(source);
        }
    }
    Ok(Network { config, sources, modules: written, assumed: Vec::new() })
}

/// The origin of a layer's parameters.
#[derive(Clone, Copy)]
enum Origin<'a> {
    /// It has none.
    None,
    /// The layer with this number of a module.
    Module(&'a Module, usize, &'a [Fold]),
    /// No tensor: its parameters change nothing.
    Made,
}

/// The widest function that is a dense layer of its own: its weight then takes 256 MiB.
const MAX_APPLIED: usize = 8192;

/// A function as a layer: a dense one with ones on the diagonal.
fn applied(function: Activation, width: usize) -> Result<LayerConfig, String> {
    if width > MAX_APPLIED {
        return Err(format!(
            "{function} of {width} values has no module before it that takes it in, and would be a dense layer; expected at \
             most {MAX_APPLIED} values; export the model as ONNX, which gatefold run takes as it is"
        ));
    }
    Ok(DenseConfig::new(width).activation(function).bias(false).into())
}

/// The output width of the layers so far.
fn width(input: usize, layers: &[LayerConfig]) -> Result<usize, String> {
    if layers.is_empty() {
        return Ok(input);
    }
    NetworkConfig::new(input, layers).map(|config| config.output()).map_err(|error| error.to_string())
}

fn epsilon(eps: Option<f64>) -> f32 {
    eps.map_or_else(|| LayerNorm::default().epsilon, |eps| eps as f32)
}

/// The layers of a module, each with its number within it; dropout in between has none.
fn module_layers(
    module: &Module,
    said: &ModuleStep,
    folds: &[Fold],
) -> Result<Vec<(LayerConfig, Option<usize>)>, String> {
    let refuse = |what: &str| Err(format!("{module}: {what}"));
    if said.dropout.is_some() && !matches!(module.kind, Kind::Recurrent(_)) {
        return refuse("dropout is between the layers of a recurrent module; expected a step of its own");
    }
    let rnn = matches!(module.kind, Kind::Recurrent(Stack { gates: 1, .. }));
    if let Some(function) = said.activation.filter(|_| !rnn && !module.takes_function()) {
        return refuse(&format!(
            "its functions cannot be chosen; expected none, or a step of its own for a function of its output: \"{}, {function}\"",
            module.text()
        ));
    }
    if !said.conv.is_empty() && !matches!(module.kind, Kind::Conv1d { .. }) {
        return refuse("it has no stride, dilation or padding; expected those of a Conv1d");
    }
    if said.eps.is_some() && !matches!(module.kind, Kind::LayerNorm { .. }) {
        return refuse("it has no eps; expected that of a LayerNorm or a BatchNorm1d");
    }
    // A normalisation of the output brings a bias along.
    let folded = folds.iter().any(|fold| matches!(fold, Fold::After(_)));
    let activation = said.activation;
    Ok(match module.kind {
        Kind::BatchNorm { .. } => unreachable!("it was folded"),
        Kind::LayerNorm { .. } => {
            vec![(LayerConfig::Normalise { epsilon: epsilon(said.eps) }, Some(0))]
        }
        Kind::Embedding { tokens, output } => vec![(EmbeddingConfig::new(tokens, output).into(), Some(0))],
        Kind::Linear { output, bias, .. } => {
            let activation = activation.unwrap_or(Activation::Identity);
            vec![(DenseConfig::new(output).activation(activation).bias(bias || folded).into(), Some(0))]
        }
        Kind::Conv1d { output, kernel, bias, .. } => {
            let conv = Conv1dConfig::new(output, kernel).bias(bias || folded);
            let conv = said.conv.iter().fold(conv, |conv, option| option.apply(conv));
            vec![(conv.activation(activation.unwrap_or(Activation::Identity)).into(), Some(0))]
        }
        Kind::Recurrent(stack) => {
            let activation = activation.unwrap_or(Activation::Tanh);
            if !matches!(activation, Activation::Tanh | Activation::Relu) {
                return refuse(&format!(
                    "its function is {activation}; expected tanh or relu, or a step of its own for a function of its output: \
                     \"{}, {activation}\"",
                    module.text()
                ));
            }
            let layer = recurrent(&stack, activation);
            let mut layers = Vec::new();
            for index in 0..stack.layers {
                if let Some(rate) = said.dropout.filter(|_| index > 0) {
                    layers.push((LayerConfig::Dropout { rate }, None));
                }
                layers.push((layer.clone(), Some(index)));
            }
            layers
        }
    })
}

fn recurrent(stack: &Stack, activation: Activation) -> LayerConfig {
    let direction = if stack.bidirectional { Direction::Bidirectional } else { Direction::Forward };
    let biases = if stack.biases { Biases::Two } else { Biases::None };
    match stack.gates {
        1 => RnnConfig::new(stack.hidden).activation(activation).direction(direction).biases(biases).into(),
        3 => GruConfig::new(stack.hidden).direction(direction).biases(biases).into(),
        _ => {
            let lstm = LstmConfig::new(stack.hidden).direction(direction).biases(biases);
            match stack.projection {
                Some(width) => lstm.projection(width).into(),
                None => lstm.into(),
            }
        }
    }
}

/// A parameter that changes nothing.
fn made(spec: &ParameterSpec) -> Source {
    let part = match spec.role {
        Role::DenseWeight => Part::Diagonal,
        Role::NormaliseWeight => Part::Ones,
        _ => Part::Zeros,
    };
    Source { tensor: None, weight: String::new(), part, folds: Vec::new() }
}

/// The tensors of a parameter. Folds reach the first layer of a recurrent module, and every other module.
fn source(module: &Module, index: usize, folds: &[Fold], spec: &ParameterSpec) -> Source {
    let (part, leaf) = match spec.role {
        Role::DenseWeight | Role::ConvWeight => (Part::Weight, "weight"),
        Role::EmbeddingWeight | Role::NormaliseWeight => (Part::Other, "weight"),
        Role::NormaliseBias if !module.has_bias() => return made(spec),
        Role::NormaliseBias => (Part::Other, "bias"),
        Role::DenseBias | Role::ConvBias => (Part::Bias, "bias"),
        Role::InputWeight => (Part::Weight, "weight_ih"),
        Role::RecurrentWeight => (Part::Other, "weight_hh"),
        Role::InputBias => (Part::Bias, "bias_ih"),
        Role::RecurrentBias => (Part::Other, "bias_hh"),
        Role::ProjectionWeight => (Part::Other, "weight_hr"),
        role => unreachable!("no module brings {role:?}"),
    };
    let named = |leaf: &str| match module.kind {
        Kind::Recurrent(stack) => {
            module.tensor(&stack.leaf(leaf, index, if spec.reverse { "_reverse" } else { "" }))
        }
        _ => module.tensor(leaf),
    };
    let recurrent = matches!(module.kind, Kind::Recurrent(_));
    Source {
        tensor: (part != Part::Bias || module.has_bias()).then(|| named(leaf)),
        weight: named(if recurrent { "weight_ih" } else { "weight" }),
        part: if index == 0 { part } else { Part::Other },
        folds: folds.to_vec(),
    }
}
