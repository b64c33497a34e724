use super::super::plain::unusual;
use super::super::tensors;
use super::Model;
use super::fold::{self, Part, WeightNorm};
use super::order::Written;
use crate::{Cell, Layer, ModelError, ParameterSpec, Recurrent, Role};
use ndarray::ArrayD;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Writes the state_dict of a network to a safetensors file, all of it or nothing.
///
/// # Errors
/// As [`state_dict`], and if the file cannot be written.
pub fn write(path: impl AsRef<Path>, model: &Model, names: &[&str]) -> Result<(), ModelError> {
    let path = path.as_ref();
    let state_dict = state_dict(model, names)?;
    let entries = BTreeMap::from([("format".into(), "pt".into())]);
    let by_name = state_dict.iter().map(|(name, tensor)| (name.clone(), tensor)).collect();
    tensors::write(path, &entries, &by_name)
}

/// The state_dict of a network, for modules of PyTorch of the same widths.
///
/// Equal consecutive recurrent layers are one module of several layers, unless `names` has a name for each of them.
/// Modules are called `rnn0`, `dense0`, `embedding0` and so on, like the parameters, or take their names from `names`,
/// in the order of the layers. An empty name stands for a bare module. Without `names`, a model that was read from a
/// state_dict gets the modules and names back that it had there; a batch normalisation that was folded on reading becomes one
/// that changes nothing, in inference. A layer with one bias gets a second one of
/// zeros, since PyTorch has two or none. A decoder's bridge is one Linear per state, such as `bridge0_h0`.
///
/// # Errors
/// [`ModelError::Config`] names the layer and the option that PyTorch's modules lack: coupled gates, peepholes, other
/// activations, clipping, a GRU that resets before the product, a reverse scan alone, summed directions, initial states
/// other than zeros, skip connections, dilation, feedback, layer normalisation, zoneout. Also if `names` does not have one
/// distinct name per module, or if the
/// parameters are not the network's. Without `names`, also if a parameter has changed that the modules of the state_dict do not have,
/// such as the bias of an `nn.LayerNorm` with `bias=False`.
pub fn state_dict(model: &Model, names: &[&str]) -> Result<BTreeMap<String, ArrayD<f32>>, ModelError> {
    model.parameters.check(&model.config)?;
    for layer in model.config.layers() {
        if let Some(problem) = layer.recurrent().and_then(no_counterpart) {
            return Err(ModelError::Config { place: layer.place(), problem });
        }
    }
    if names.is_empty()
        && let Some(tensors) = as_read(model)
    {
        return tensors;
    }
    let (mut modules, mut tensors) = modules(model, false);
    if !names.is_empty() {
        let apart = self::modules(model, true);
        let unlike: BTreeSet<&str> = names.iter().copied().collect();
        let fits = [modules.len(), apart.0.len()].contains(&names.len());
        if !fits || unlike.len() != names.len() {
            let most = apart.0.len();
            let or = if most > modules.len() {
                format!(", or {most} where every recurrent layer is a module")
            } else {
                String::new()
            };
            let problem = format!(
                "expected a different name for each of the modules {}{or}; found {}",
                modules.join(", "),
                names.join(", ")
            );
            return Err(ModelError::Config { place: "names".into(), problem });
        }
        if names.len() != modules.len() {
            tensors = apart.1;
        }
        modules = names.iter().map(|&name| name.into()).collect();
    }
    let tensors = tensors.into_iter().map(|(module, leaf, values)| match modules[module].as_str() {
        "" => (leaf, values),
        prefix => (format!("{prefix}.{leaf}"), values),
    });
    Ok(tensors.collect())
}

/// For each tensor, its module's number, its name and its values.
type Tensors = Vec<(usize, String, ArrayD<f32>)>;

/// The modules and their tensors; with `apart`, each recurrent layer is a module of its own.
fn modules(model: &Model, apart: bool) -> (Vec<String>, Tensors) {
    let mut modules: Vec<String> = Vec::new();
    let mut tensors = Vec::new();
    for layer in owners(model) {
        for spec in &layer.parameters {
            let (mut module, mut leaf) = split(spec);
            if apart && layer.recurrent().is_some() {
                (module, leaf) = (layer.label(), alone(&leaf));
            }
            let at = modules.iter().position(|known| *known == module).unwrap_or(modules.len());
            if at == modules.len() {
                modules.push(module);
            }
            let values = &model.parameters[&spec.name];
            if spec.role == Role::InputBias && layer.find(Role::RecurrentBias, spec.reverse).is_none() {
                tensors.push((at, leaf.replace("bias_ih", "bias_hh"), ArrayD::zeros(values.raw_dim())));
            }
            tensors.push((at, leaf, values.clone()));
        }
    }
    (modules, tensors)
}

/// The state_dict with the modules that the model was read from; `None` if it was not, or has other layers now.
///
/// # Errors
/// If a parameter that no tensor was read for has changed since.
fn as_read(model: &Model) -> Option<Result<BTreeMap<String, ArrayD<f32>>, ModelError>> {
    let modules: Vec<Written> = serde_json::from_str(model.metadata.get(super::MODULES)?).ok()?;
    let (layers, tensors) = self::modules(model, true);
    // The module of each layer, and the layer's number in it.
    let places: Vec<(&Written, usize)> =
        modules.iter().flat_map(|module| (0..module.layers).map(move |at| (module, at))).collect();
    let stacks: Vec<String> =
        owners(model).filter_map(|layer| layer.parameters.first()).map(|spec| split(spec).0).collect();
    // Layers of one module are equal, and so share a name.
    let stacked = |pair: &[(&Written, usize)], names: &[String]| pair[1].1 == 0 || names[0] == names[1];
    let fits = places.len() == layers.len()
        && stacks.len() == layers.len()
        && places.windows(2).zip(stacks.windows(2)).all(|(pair, names)| stacked(pair, names));
    if !fits {
        return None;
    }
    let mut written = BTreeMap::new();
    for (layer, leaf, values) in tensors {
        let (module, at) = places[layer];
        if module.made.contains(&leaf) {
            let part = match (leaf.as_str(), values.ndim()) {
                ("bias", _) => Part::Zeros,
                (_, 2) => Part::Diagonal,
                _ => Part::Ones,
            };
            if part.made(values.shape()).as_ref() != Some(&values) {
                let place = layers[layer].clone();
                let problem = format!(
                    "its {leaf} has changed, and the modules it was read from have none; expected it as it was read, frozen in \
                     training; or give names, for modules that have it"
                );
                return Some(Err(ModelError::Config { place, problem }));
            }
            continue;
        }
        let leaf = match leaf.rsplit_once("_l0") {
            Some((kind, _)) if module.cell => kind.to_owned(),
            Some((kind, suffix)) => format!("{kind}_l{at}{suffix}"),
            None => leaf,
        };
        let name = if module.name.is_empty() { leaf.clone() } else { format!("{}.{leaf}", module.name) };
        let holds_bias = module.batch_norms.iter().find(|norm| norm.bias && leaf == "bias");
        let normed = module.weight_norms.iter().find(|(normed, _)| *normed == leaf);
        match (holds_bias, normed) {
            (Some(norm), _) => written.extend(norm.tensors(Some(&values))),
            (None, Some((_, parametrized))) => {
                let parts = fold::magnitudes_and_directions(&values);
                written.extend(WeightNorm::names(&name, *parametrized).into_iter().zip(parts));
            }
            (None, None) => {
                written.insert(name, values);
            }
        }
    }
    let norms = modules.iter().flat_map(|module| &module.batch_norms);
    written.extend(norms.filter(|norm| !norm.bias).flat_map(|norm| norm.tensors(None)));
    Some(Ok(written))
}

/// A recurrent tensor's name in a module with only its layer: `weight_ih_l2_reverse` becomes `weight_ih_l0_reverse`.
fn alone(leaf: &str) -> String {
    let (kind, rest) = leaf.rsplit_once("_l").expect("recurrent parameters end with the number of a layer");
    format!("{kind}_l0{}", rest.trim_start_matches(|c: char| c.is_ascii_digit()))
}

/// The layers that own their parameters.
fn owners(model: &Model) -> impl Iterator<Item = &Layer> {
    model.config.layers().iter().filter(|layer| layer.owner == layer.index)
}

/// The module and tensor names of a parameter.
fn split(spec: &ParameterSpec) -> (String, String) {
    let (module, leaf) = spec.name.rsplit_once('.').expect("parameters are named module.tensor");
    match spec.role {
        Role::BridgeWeight(at, state) => (format!("{module}_{}{at}", state.name()), "weight".into()),
        Role::BridgeBias(at, state) => (format!("{module}_{}{at}", state.name()), "bias".into()),
        _ => (module.into(), leaf.into()),
    }
}

/// The first property of a recurrent layer that PyTorch's modules lack.
fn no_counterpart(recurrent: &Recurrent) -> Option<String> {
    let module = match recurrent.cell {
        Cell::Rnn { .. } => "nn.RNN",
        Cell::Lstm(_) => "nn.LSTM",
        Cell::Gru(_) => "nn.GRU",
        Cell::Custom(cell) => {
            return Some(format!(
                "PyTorch has no module of the custom cell {:?}; save the network as .safetensors",
                cell.name()
            ));
        }
    };
    let advice = "save the network as .safetensors, or build the layer without it";
    unusual(recurrent).map(|found| format!("it has {found}; PyTorch's {module} has no such thing: {advice}"))
}
