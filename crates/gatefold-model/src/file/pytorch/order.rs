use super::super::tensors::shown;
use super::fold::{self, Fold, Part, Source, WeightNorms, WrittenNorm};
use super::modules::{self, Kind, Module, Shapes, Stack};
use super::options::{ModuleStep, ReadOptions, Step};
use crate::{
    Activation, Biases, Bridge, Conv1dConfig, DenseConfig, Direction, EmbeddingConfig, GruConfig,
    LayerConfig, LayerNorm, LstmConfig, NetworkConfig, ParameterSpec, RnnConfig, Role,
};
use serde::{Deserialize, Serialize};

/// A network, and the sources of its parameters in the order of [`NetworkConfig::parameter_specs`].
pub(super) struct Network {
    pub(super) config: NetworkConfig,
    pub(super) sources: Vec<Source>,
    /// The modules in the order of their layers.
    pub(super) modules: Vec<Written>,
    /// The assumptions made, a line each.
    pub(super) assumed: Vec<String>,
}

/// A module of a state_dict that was read, as it is to be written again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Written {
    pub(super) name: String,
    pub(super) layers: usize,
    /// Whether it is a cell, whose tensors have no number of a layer.
    pub(super) cell: bool,
    /// Its tensors that had `weight_norm`, and whether in the spelling with `parametrizations`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) weight_norms: Vec<(String, bool)>,
    /// The batch normalisations folded into it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) batch_norms: Vec<WrittenNorm>,
}

/// The largest number of modules, more than any network has. The search recurses once per module.
const MAX_MODULES: usize = 256;

/// Derives the network of a state_dict.
pub(super) fn network(
    shapes: &Shapes,
    norms: &WeightNorms,
    options: &ReadOptions,
) -> Result<Network, String> {
    let modules = modules::find(shapes)?;
    if modules.len() > MAX_MODULES {
        return Err(format!("it holds {} modules; expected at most {MAX_MODULES}", modules.len()));
    }
    let (steps, mut assumed) = match &options.steps[..] {
        [] => {
            let steps = only_order(&modules)?;
            check_said(&steps)?;
            let assumed = assumed(&steps);
            (steps, assumed)
        }
        given => (in_given_order(modules, given)?, Vec::new()),
    };
    let tanh = steps.iter().filter_map(Resolved::rnn_without_function);
    assumed.extend(tanh.map(|name| {
        format!(
            "{name} is taken as tanh, nn.RNN's default; if it has nonlinearity='relu', say \"{name} relu\""
        )
    }));
    assumed.extend(steps.iter().filter_map(Resolved::norm_without_eps).map(|name| {
        format!(
            "{name} is taken as nn.LayerNorm with its default eps of 1e-5; for another, say \"{name} eps 1e-3\""
        )
    }));
    assumed.extend(norms.keys().map(|weight| {
        format!("{} is the product of its weight_norm, magnitude and direction of each row", shown(weight))
    }));
    let steps = fold::folded(steps, &mut assumed)?;
    Ok(Network { assumed, ..assemble(shapes, norms, &steps)? })
}

/// Refuses an order that leaves open what is computed between its modules.
fn check_said(steps: &[Resolved]) -> Result<(), String> {
    let modules: Vec<&Module> = steps
        .iter()
        .filter_map(|step| match step {
            Resolved::Module(module, ..) => Some(module),
            Resolved::Layer(_) => None,
        })
        .collect();
    // An example of the option, with a function after each of these modules.
    let example = |unclear: &dyn Fn(usize) -> Option<&'static str>| {
        let step = |(at, module): (usize, &&Module)| {
            let said = unclear(at).map_or_else(String::new, |said| format!(" {said}"));
            format!("{}{said}", module.text())
        };
        modules.iter().enumerate().map(step).collect::<Vec<_>>().join(", ")
    };
    if let Some(conv) = modules.iter().find(|module| matches!(module.kind, Kind::Conv1d { .. })) {
        let conv_at = |at: usize| {
            matches!(modules[at].kind, Kind::Conv1d { .. }).then_some("relu stride 1 padding 0 0")
        };
        return Err(format!(
            "{conv}: the file does not hold its stride, its padding and the function after it; say them with the option \
             modules, such as \"{}\"",
            example(&conv_at)
        ));
    }
    if let Some(norm) = modules.iter().find(|module| matches!(module.kind, Kind::BatchNorm { .. })) {
        return Err(format!(
            "{norm}: the file does not hold its place and the function after it; say them with the option modules, such as \
             \"layer, {} relu\"",
            norm.text()
        ));
    }
    let linear = |at: usize| matches!(modules[at].kind, Kind::Linear { .. });
    // A normalisation between them hides a function as well.
    let norm = |at: &usize| matches!(modules[*at].kind, Kind::LayerNorm { .. });
    let pair = |at: usize| {
        let next = (at + 1..modules.len()).find(|next| !norm(next));
        next.filter(|&next| linear(at) && linear(next)).map(|next| (at, next))
    };
    if let Some((at, next)) = (0..modules.len()).find_map(pair) {
        let first_of_pair = |at: usize| pair(at).map(|_| "relu");
        return Err(format!(
            "{} and {} are Linear layers in a row, and the file does not hold the function between them; say it with the \
             option modules, such as \"{}\", or identity for none",
            modules[at].text(),
            modules[next].text(),
            example(&first_of_pair)
        ));
    }
    Ok(())
}

/// The assumptions of an order without options.
fn assumed(steps: &[Resolved]) -> Vec<String> {
    let names: Vec<String> = steps
        .iter()
        .filter_map(|step| match step {
            Resolved::Module(module, ..) => Some(module.text()),
            Resolved::Layer(_) => None,
        })
        .collect();
    let mut assumed = Vec::new();
    if names.len() > 1 {
        assumed.push(format!(
            "the modules are taken in the only order that fits, {}, with nothing between them: no function, residual \
             connection or last step",
            names.join(", ")
        ));
    }
    assumed
}

/// A step of the network: a module with its options and what is folded into it, or a layer without parameters.
pub(super) enum Resolved {
    Module(Module, ModuleStep, Vec<Fold>),
    Layer(LayerConfig),
}

impl Resolved {
    /// The module, if it is an `nn.RNN` whose function nobody said.
    fn rnn_without_function(&self) -> Option<String> {
        match self {
            Resolved::Module(module, said, _)
                if matches!(module.kind, Kind::Recurrent(Stack { gates: 1, .. }))
                    && said.activation.is_none() =>
            {
                Some(module.text())
            }
            _ => None,
        }
    }
}

impl Resolved {
    /// The module, if it is an `nn.LayerNorm` whose eps nobody said.
    fn norm_without_eps(&self) -> Option<String> {
        match self {
            Resolved::Module(module, said, _)
                if matches!(module.kind, Kind::LayerNorm { .. }) && said.eps.is_none() =>
            {
                Some(module.text())
            }
            _ => None,
        }
    }
}

impl Module {
    /// Its name in [`ReadOptions`].
    pub(super) fn text(&self) -> String {
        let name = if self.prefix.is_empty() { ".".into() } else { shown(&self.prefix) };
        if matches!(self.kind, Kind::Embedding { .. }) { format!("{name} embedding") } else { name }
    }
}

/// The candidates for one place of the order.
enum Place {
    /// Any module not used yet.
    Any,
    /// This module.
    Module(usize),
    /// The beginning of a decoder with this input width.
    Decoder(usize),
}

/// Searches for the orders of modules in which every width fits the next.
struct Search<'a> {
    modules: &'a [Module],
    places: &'a [Place],
    /// Modules declared to be linear.
    linear: Vec<bool>,
    path: Vec<(usize, Kind)>,
    used: Vec<bool>,
    found: Vec<Vec<(usize, Kind)>>,
    /// The budget of places left to try: many equal modules have more orders than can be tried.
    budget: usize,
}

/// Enough to try every order of six modules.
const BUDGET: usize = 10_000;

impl<'a> Search<'a> {
    fn run(modules: &'a [Module], places: &'a [Place], linear: Vec<bool>) -> Search<'a> {
        let (path, used) = (Vec::new(), vec![false; modules.len()]);
        let mut search = Search { modules, places, linear, path, used, found: Vec::new(), budget: BUDGET };
        search.fill(0, None, true);
        search
    }

    /// Fills the places from this one on. `width` is the incoming width, unknown at the very beginning. `fresh` means
    /// that the input is that of the network or of a decoder, which may be tokens.
    fn fill(&mut self, place: usize, width: Option<usize>, fresh: bool) {
        if self.found.len() > 1 || self.budget == 0 {
            return;
        }
        self.budget -= 1;
        match self.places.get(place) {
            None => self.found.push(self.path.clone()),
            Some(Place::Decoder(input)) => self.fill(place + 1, Some(*input), true),
            Some(Place::Module(module)) => self.put(*module, place, width, fresh),
            Some(Place::Any) => {
                for module in 0..self.modules.len() {
                    if !self.used[module] {
                        self.put(module, place, width, fresh);
                    }
                }
            }
        }
    }

    fn put(&mut self, module: usize, place: usize, width: Option<usize>, fresh: bool) {
        for kind in readings(self.modules[module].kind) {
            let (fits, output) = match kind {
                Kind::Recurrent(stack) => (width.is_none_or(|width| width == stack.input), stack.output()),
                Kind::Linear { input, output, .. } => (width.is_none_or(|width| width == input), output),
                Kind::Conv1d { input, output, .. } => (width.is_none_or(|width| width == input), output),
                Kind::LayerNorm { width: own } | Kind::BatchNorm { width: own, .. } => {
                    (width.is_none_or(|width| width == own), own)
                }
                Kind::Embedding { output, .. } => {
                    (fresh && width.is_none_or(|width| width == 1) && !self.linear[module], output)
                }
            };
            if fits {
                self.path.push((module, kind));
                self.used[module] = true;
                self.fill(place + 1, Some(output), false);
                self.used[module] = false;
                self.path.pop();
            }
        }
    }
}

/// The kinds that a module can be: a weight without a bias is an `nn.Linear`'s `[output, input]` or an `nn.Embedding`'s
/// `[tokens, output]`.
fn readings(kind: Kind) -> impl Iterator<Item = Kind> {
    let other = match kind {
        Kind::Linear { input, output, bias: false } => {
            Some(Kind::Embedding { tokens: output, output: input })
        }
        _ => None,
    };
    [Some(kind), other].into_iter().flatten()
}

fn only_order(modules: &[Module]) -> Result<Vec<Resolved>, String> {
    let places: Vec<Place> = modules.iter().map(|_| Place::Any).collect();
    let search = Search::run(modules, &places, vec![false; modules.len()]);
    match &search.found[..] {
        [only] if search.budget > 0 => {
            Ok(only.iter().map(|&(at, kind)| resolved(&modules[at], kind, None)).collect())
        }
        [] if search.budget > 0 => Err(format!(
            "there is no order in which every width fits the next; found {}",
            listed(modules, modules.iter().map(ToString::to_string))
        )),
        [first, second] => Err(format!(
            "more than one order of modules fits, such as {:?} and {:?}; say which with the option modules",
            as_text(modules, first),
            as_text(modules, second)
        )),
        _ => Err(format!(
            "too many orders of modules to try; say which with the option modules; found {}",
            listed(modules, modules.iter().map(ToString::to_string))
        )),
    }
}

/// An order of modules, in the syntax of [`ReadOptions`].
fn as_text(modules: &[Module], row: &[(usize, Kind)]) -> String {
    let names = row.iter().map(|&(at, kind)| {
        let prefix = &modules[at].prefix;
        let name = if prefix.is_empty() { ".".into() } else { shown(prefix) };
        match kind {
            Kind::Embedding { .. } => format!("{name} embedding"),
            _ => name,
        }
    });
    listed(modules, names)
}

fn listed(modules: &[Module], names: impl Iterator<Item = String>) -> String {
    const SHOWN: usize = 8;
    let first: Vec<String> = names.take(SHOWN).collect();
    let more = modules.len().saturating_sub(SHOWN);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    first.join(", ") + &more
}

fn resolved(module: &Module, kind: Kind, said: Option<&ModuleStep>) -> Resolved {
    let module = Module { kind, ..module.clone() };
    let said = said.cloned().unwrap_or_else(|| Step::module(module.prefix.clone()));
    Resolved::Module(module, said, Vec::new())
}

fn in_given_order(mut modules: Vec<Module>, steps: &[Step]) -> Result<Vec<Resolved>, String> {
    let mut places = Vec::new();
    let (mut listed_already, mut linear) = (vec![false; modules.len()], vec![false; modules.len()]);
    for step in steps {
        match step {
            Step::Module(said) => {
                let prefix = if said.prefix.is_empty() { "." } else { &said.prefix };
                let Some(at) = modules.iter().position(|module| module.prefix == said.prefix) else {
                    let found = listed(&modules, modules.iter().map(ToString::to_string));
                    return Err(format!("there is no module {}; found {found}", shown(prefix)));
                };
                if std::mem::replace(&mut listed_already[at], true) {
                    return Err(format!(
                        "module {} is listed twice; expected every module once",
                        shown(prefix)
                    ));
                }
                match (said.embedding, modules[at].kind) {
                    (None, _) => {}
                    (Some(true), Kind::Linear { input, output, bias: false }) => {
                        modules[at].kind = Kind::Embedding { tokens: output, output: input };
                    }
                    (Some(false), Kind::Linear { .. }) => linear[at] = true,
                    (Some(true), _) => {
                        return Err(format!("{}: expected only a weight for an embedding", modules[at]));
                    }
                    (Some(false), _) => return Err(format!("{}: expected a linear layer", modules[at])),
                }
                places.push(Place::Module(at));
            }
            Step::Layer(LayerConfig::Decoder(decoder)) => {
                if decoder.bridge != Bridge::Same {
                    return Err("a decoder's bridge has parameters of its own; expected Bridge::Same".into());
                }
                places.push(Place::Decoder(decoder.input));
            }
            Step::Layer(
                LayerConfig::Rnn(_)
                | LayerConfig::Lstm(_)
                | LayerConfig::Gru(_)
                | LayerConfig::Custom(_)
                | LayerConfig::Dense(_)
                | LayerConfig::Conv1d(_)
                | LayerConfig::Embedding(_)
                | LayerConfig::Normalise { .. },
            ) => return Err("a step is a layer with parameters; expected its module's prefix".into()),
            Step::Layer(_) => {}
        }
    }
    if let Some(left) = listed_already.iter().position(|listed| !listed) {
        return Err(format!("{} is not listed; expected every module once", modules[left]));
    }
    let search = Search::run(&modules, &places, linear);
    let row = match &search.found[..] {
        [only] => only,
        [] => {
            let row = places.iter().filter_map(|place| match place {
                Place::Module(at) => Some(modules[*at].to_string()),
                _ => None,
            });
            return Err(format!("in this order widths do not fit: {}", listed(&modules, row)));
        }
        [first, second, ..] => {
            return Err(format!(
                "it can be read as {:?} and as {:?}; write embedding or linear after the lone weight",
                as_text(&modules, first),
                as_text(&modules, second)
            ));
        }
    };
    let mut row = row.iter();
    let steps = steps.iter().map(|step| match step {
        Step::Layer(layer) => Resolved::Layer(layer.clone()),
        Step::Module(said) => {
            let &(at, kind) = row.next().expect("a place for each module");
            resolved(&modules[at], kind, Some(said))
        }
    });
    Ok(steps.collect())
}

/// Builds the network, and finds the tensor of each of its parameters.
fn assemble(shapes: &Shapes, norms: &WeightNorms, steps: &[Resolved]) -> Result<Network, String> {
    let mut layers: Vec<LayerConfig> = Vec::new();
    // For each layer, its module and its number within it.
    let mut origins: Vec<Option<(&Module, usize, &[Fold])>> = Vec::new();
    let mut input = None;
    let mut written = Vec::new();
    for step in steps {
        match step {
            Resolved::Layer(layer) => {
                layers.push(layer.clone());
                origins.push(None);
            }
            Resolved::Module(module, said, folds) => {
                input = input.or(Some(match module.kind {
                    Kind::Recurrent(Stack { input, .. })
                    | Kind::Linear { input, .. }
                    | Kind::Conv1d { input, .. } => input,
                    Kind::LayerNorm { width } => width,
                    Kind::Embedding { .. } => 1,
                    Kind::BatchNorm { .. } => unreachable!("it was folded"),
                }));
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
                written.push(Written {
                    name: module.prefix.clone(),
                    layers: layers_of,
                    cell,
                    weight_norms: normed.collect(),
                    batch_norms: folds.iter().map(|fold| fold.written(has_bias)).collect(),
                });
                for (layer, index) in module_layers(module, said, folds)? {
                    layers.push(layer);
                    origins.push(index.map(|index| (module, index, &folds[..])));
                }
            }
        }
    }
    let input = input.ok_or("no module is listed; expected every module once")?;
    let config = NetworkConfig::new(input, layers).map_err(|error| error.to_string())?;
    let mut sources = Vec::new();
    for layer in config.layers().iter().filter(|layer| layer.owner == layer.index) {
        for spec in &layer.parameters {
            let (module, index, folds) = origins[layer.index].expect("only modules bring parameters");
            let source = source(module, index, folds, spec);
            if let Some(name) = &source.tensor {
                assert_eq!(shapes.get(name), Some(&spec.shape), "{name} was checked against its module");
            }
            sources.push(source);
        }
    }
    Ok(Network { config, sources, modules: written, assumed: Vec::new() })
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
    if said.activation.is_some() && !rnn && !matches!(module.kind, Kind::Linear { .. } | Kind::Conv1d { .. })
    {
        return refuse("its functions cannot be chosen; expected none");
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
            let epsilon = said.eps.map_or_else(|| LayerNorm::default().epsilon, |eps| eps as f32);
            vec![(LayerConfig::Normalise { epsilon }, Some(0))]
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
                return refuse(&format!("its function is {activation}; expected tanh or relu"));
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

/// The tensors of a parameter. Folds reach the first layer of a recurrent module, and every other module.
fn source(module: &Module, index: usize, folds: &[Fold], spec: &ParameterSpec) -> Source {
    let (part, leaf) = match spec.role {
        Role::DenseWeight | Role::ConvWeight => (Part::Weight, "weight"),
        Role::EmbeddingWeight | Role::NormaliseWeight => (Part::Other, "weight"),
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
