//! The weights of a network for Keras.

use super::super::atomic::write_atomically;
use super::super::tensors::refusal;
use super::{GROUPS, Group, Model, h5, weights};
use crate::{Activation, Cell, InitialState, Layer, LayerKind, LstmCell, Merge, ModelError, Recurrent};
use std::collections::BTreeMap;
use std::path::Path;

/// Writes a network's weights as a `.weights.h5` file, all of it or nothing, for a Keras 3 model of the same layers.
///
/// A model that was read from a Keras file gets its groups back. Any other is written for a Sequential model: Embedding,
/// SimpleRNN, LSTM, GRU, each within Bidirectional if it has two directions, Dense, Conv1D, in the order of the layers. Two biases that Keras keeps
/// as one are added.
///
/// # Errors
/// [`ModelError::Config`] names the layer and the option that Keras' layers lack; [`ModelError::Io`] if the file cannot
/// be written.
pub fn write(path: impl AsRef<Path>, model: &Model) -> Result<(), ModelError> {
    let path = path.as_ref();
    model.parameters.check(&model.config)?;
    for layer in model.config.layers() {
        if let Some(problem) = no_counterpart(layer) {
            return Err(ModelError::Config { place: layer.place(), problem });
        }
    }
    let groups = as_read(model).unwrap_or_else(|| sequential(model));
    let arrays = groups.into_iter().map(|group| {
        let layer = &model.config.layers()[group.layer];
        (group.path, weights::arrays(layer, group.reverse, &model.parameters))
    });
    let bytes = h5::file(arrays.collect()).map_err(|problem| refusal(path, problem))?;
    write_atomically(path, &bytes)
}

/// The groups that a model was read from; `None` if it was not, or has other layers now.
fn as_read(model: &Model) -> Option<Vec<Group>> {
    let groups: Vec<Group> = serde_json::from_str(model.metadata.get(GROUPS)?).ok()?;
    let of = |groups: &[Group]| -> Vec<(usize, bool)> {
        groups.iter().map(|group| (group.layer, group.reverse)).collect()
    };
    (of(&groups) == of(&sequential(model))).then_some(groups)
}

/// The groups of a Sequential model of the same layers.
fn sequential(model: &Model) -> Vec<Group> {
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    let mut groups = Vec::new();
    for layer in model.config.layers().iter().filter(|layer| !layer.parameters.is_empty()) {
        let scans = layer.recurrent().map_or(&[false][..], |recurrent| recurrent.direction.scans());
        let class = match &layer.kind {
            LayerKind::Recurrent(_) if scans.len() == 2 => "bidirectional",
            LayerKind::Recurrent(recurrent) => match recurrent.cell {
                Cell::Rnn { .. } => "simple_rnn",
                Cell::Gru(_) => "gru",
                Cell::Lstm(_) => "lstm",
                Cell::Custom(cell) => cell.name(),
            },
            LayerKind::Embedding { .. } => "embedding",
            LayerKind::Conv1d(_) => "conv1d",
            LayerKind::Normalise { .. } => "layer_normalization",
            _ => "dense",
        };
        let count = seen.entry(class).or_default();
        let name = if *count == 0 { class.to_owned() } else { format!("{class}_{count}") };
        *count += 1;
        for &reverse in scans {
            let below = match (layer.recurrent().is_some(), scans.len(), reverse) {
                (false, ..) => "",
                (true, 1, _) => "/cell",
                (true, _, false) => "/forward_layer/cell",
                (true, _, true) => "/backward_layer/cell",
            };
            groups.push(Group { path: format!("layers/{name}{below}"), layer: layer.index, reverse });
        }
    }
    groups
}

/// The first property of a layer that Keras' layers lack.
fn no_counterpart(layer: &Layer) -> Option<String> {
    let lacks = |what: &str| Some(format!("Keras has no {what}"));
    match &layer.kind {
        LayerKind::Recurrent(recurrent) => no_recurrent(recurrent),
        LayerKind::Dense { activation, .. } => no_function(*activation),
        LayerKind::Conv1d(conv) => no_function(conv.activation),
        LayerKind::Residual { .. } => lacks("layer for a residual connection in a Sequential model"),
        LayerKind::Decoder { .. } => lacks("decoder that takes states over in a Sequential model"),
        LayerKind::Merge(Merge::Sum | Merge::Concatenate) => lacks("parallel branches in a Sequential model"),
        _ if layer.owner != layer.index => lacks("tied layers in a Sequential model"),
        _ => None,
    }
}

fn no_recurrent(recurrent: &Recurrent) -> Option<String> {
    let lacks = |what: &str| Some(format!("Keras' recurrent layers have no {what}"));
    match recurrent.cell {
        Cell::Lstm(LstmCell { activations, .. }) if activations.output != activations.candidate => {
            return lacks("function of the cell state other than that of the candidate");
        }
        Cell::Lstm(LstmCell { peephole: true, .. }) => return lacks("peepholes"),
        Cell::Lstm(LstmCell { coupling: Some(_), .. }) => return lacks("coupled gates"),
        Cell::Lstm(LstmCell { squashed: true, .. }) => return lacks("squashed cell"),
        Cell::Custom(cell) => return lacks(&format!("custom cell {:?}", cell.name())),
        Cell::Gru(_) | Cell::Lstm(_) | Cell::Rnn { .. } => {}
    }
    if recurrent.reverse_cell != recurrent.cell && recurrent.direction.scans().len() == 2 {
        return lacks("other functions in the second direction");
    }
    let options = [
        (recurrent.projection.is_some(), "projection"),
        (recurrent.clip.is_some(), "clipping"),
        (recurrent.skip.is_some(), "second recurrence"),
        (recurrent.is_dilated(), "dilation"),
        (recurrent.feedback.is_some(), "readout that feeds back"),
        (recurrent.norm.is_some(), "layer normalisation"),
        (recurrent.noise.zones_out(), "zoneout"),
        (!matches!(recurrent.initial, InitialState::Zeros), "initial states other than zeros"),
    ];
    if let Some((_, what)) = options.into_iter().find(|(has, _)| *has) {
        return lacks(what);
    }
    recurrent.cell.activations().into_iter().find_map(no_function)
}

fn no_function(activation: Activation) -> Option<String> {
    match activation {
        Activation::Affine { .. } | Activation::ScaledTanh { .. } | Activation::ThresholdedRelu { .. } => {
            Some(format!("Keras has no function {activation}"))
        }
        _ => None,
    }
}
