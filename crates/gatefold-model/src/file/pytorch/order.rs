//! The order of the modules of a state_dict: as it was given, or the only one in which every width fits the next.

use super::super::tensors::shown;
use super::assemble::assemble;
use super::fold::{self, Fold, Source, WeightNorms, WrittenNorm};
use super::modules::{self, Kind, Module, Shapes};
use super::options::{ModuleStep, ReadOptions, Step};
use super::said;
use crate::{Activation, Bridge, LayerConfig, NetworkConfig};
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
    /// Its parameters that no tensor was read for, such as the bias of an `nn.LayerNorm` that has none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) made: Vec<String>,
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
    let is_module = |name: &str| modules.iter().any(|module| module.prefix == name);
    let given = options.steps_for(is_module)?;
    let mut steps = if given.is_empty() { only_order(&modules)? } else { in_given_order(&modules, &given)? };
    give_functions(&mut steps);
    said::check(&steps, !given.is_empty())?;
    let mut assumed = said::assumptions(&steps, !given.is_empty());
    assumed.extend(norms.keys().map(|weight| {
        format!("{} is the product of its weight_norm, magnitude and direction of each row", shown(weight))
    }));
    let steps = fold::folded(steps, &mut assumed)?;
    let network = assemble(shapes, norms, &steps, &mut assumed)?;
    Ok(Network { assumed, ..network })
}

/// Gives each function that is a step of its own to the module before it, if it can take one.
fn give_functions(steps: &mut Vec<Resolved>) {
    let mut kept: Vec<Resolved> = Vec::with_capacity(steps.len());
    for step in steps.drain(..) {
        match (kept.last_mut(), step) {
            (Some(Resolved::Module(module, said, _)), Resolved::Function(function))
                if said.activation.is_none() && module.takes_function() =>
            {
                said.activation = Some(function);
            }
            (_, step) => kept.push(step),
        }
    }
    *steps = kept;
}

/// A step of the network: a module with its options and what is folded into it, or one without tensors.
#[derive(Clone)]
pub(super) enum Resolved {
    Module(Module, ModuleStep, Vec<Fold>),
    Layer(LayerConfig),
    Function(Activation),
    /// Adds the input of the module with this prefix.
    Residual(String),
    LayerNorm(Option<f64>),
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
                Kind::LayerNorm { width: own, .. } | Kind::BatchNorm { width: own, .. } => {
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
    modules.iter().try_for_each(|module| said::check_lone_weight(module, false))?;
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

fn in_given_order(modules: &[Module], steps: &[Step]) -> Result<Vec<Resolved>, String> {
    let mut modules = modules.to_vec();
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
                said::check_lone_weight(&modules[at], said.layer_norm)?;
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
                | LayerConfig::Normalise { .. }
                | LayerConfig::Parallel(_),
            ) => return Err("a step is a layer with parameters; expected its module's prefix".into()),
            Step::Layer(_) | Step::Function(_) | Step::Residual(_) | Step::LayerNorm(_) => {}
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
    let mut taken: Vec<&str> = Vec::new();
    let steps = steps.iter().map(|step| match step {
        Step::Layer(layer) => Ok(Resolved::Layer(layer.clone())),
        Step::Function(function) => Ok(Resolved::Function(*function)),
        Step::LayerNorm(eps) => Ok(Resolved::LayerNorm(*eps)),
        Step::Residual(name) => {
            let module = match name {
                Some(name) => taken.iter().find(|taken| name == *taken),
                None => taken.last(),
            };
            let module = module.ok_or_else(|| {
                let name = name.as_ref().map_or_else(String::new, |name| format!(" {}", shown(name)));
                format!("residual{name}: expected a module that is listed before it; found none")
            });
            module.map(|module| Resolved::Residual((*module).to_owned()))
        }
        Step::Module(said) => {
            let &(at, kind) = row.next().expect("a place for each module");
            taken.push(&said.prefix);
            Ok(resolved(&modules[at], kind, Some(said)))
        }
    });
    steps.collect()
}
