//! Keras' arrays of a layer, and the parameters here. Keras multiplies from the left: its matrices are `[input, output]`.
//! A GRU's gates are z, r, h there and r, z, n here; those of an LSTM, i, f, c, o, are in the same order.

use crate::{Biases, Cell, GruGate, Layer, LayerKind, Parameters, Role};
use ndarray::{Array, ArrayD, Axis, IxDyn, Slice, concatenate, stack};

/// The shapes of a layer's arrays, in Keras' order: kernel, recurrent kernel, bias.
pub(super) fn shapes(layer: &Layer) -> Vec<Vec<usize>> {
    match &layer.kind {
        LayerKind::Recurrent(recurrent) => {
            let rows = recurrent.cell.gates() * recurrent.hidden;
            let mut shapes = vec![vec![layer.input, rows], vec![recurrent.hidden, rows]];
            shapes.extend(match recurrent.biases {
                Biases::Two => Some(vec![2, rows]),
                Biases::One => Some(vec![rows]),
                Biases::None => None,
            });
            shapes
        }
        LayerKind::Dense { bias, .. } => {
            let mut shapes = vec![vec![layer.input, layer.output]];
            shapes.extend(bias.then(|| vec![layer.output]));
            shapes
        }
        LayerKind::Conv1d(conv) => {
            let mut shapes = vec![vec![conv.kernel, layer.input, layer.output]];
            shapes.extend(conv.bias.then(|| vec![layer.output]));
            shapes
        }
        LayerKind::Embedding { tokens } => vec![vec![*tokens, layer.output]],
        LayerKind::Normalise { .. } => vec![vec![layer.output]; 2],
        _ => Vec::new(),
    }
}

/// Puts Keras' arrays, which have the layer's [`shapes`], among the parameters.
pub(super) fn put(layer: &Layer, reverse: bool, arrays: &[ArrayD<f32>], parameters: &mut Parameters) {
    let mut insert = |role: Role, values: ArrayD<f32>| {
        if let Some(spec) = layer.find(role, reverse) {
            parameters.insert(spec.name.clone(), values);
        }
    };
    let bias = arrays.last().filter(|_| arrays.len() > 1);
    match &layer.kind {
        LayerKind::Recurrent(recurrent) => {
            let rows = |array: ArrayD<f32>| reordered(&recurrent.cell, array);
            insert(Role::InputWeight, rows(arrays[0].t().to_owned()));
            insert(Role::RecurrentWeight, rows(arrays[1].t().to_owned()));
            match (recurrent.biases, arrays.get(2)) {
                (Biases::Two, Some(both)) => {
                    insert(Role::InputBias, rows(both.index_axis(Axis(0), 0).to_owned()));
                    insert(Role::RecurrentBias, rows(both.index_axis(Axis(0), 1).to_owned()));
                }
                (_, Some(bias)) => insert(Role::InputBias, rows(bias.clone())),
                (_, None) => {}
            }
        }
        LayerKind::Dense { .. } => {
            insert(Role::DenseWeight, arrays[0].t().to_owned());
            bias.into_iter().for_each(|bias| insert(Role::DenseBias, bias.clone()));
        }
        LayerKind::Conv1d(_) => {
            insert(Role::ConvWeight, arrays[0].t().to_owned());
            bias.into_iter().for_each(|bias| insert(Role::ConvBias, bias.clone()));
        }
        LayerKind::Embedding { .. } => insert(Role::EmbeddingWeight, arrays[0].clone()),
        LayerKind::Normalise { .. } => {
            insert(Role::NormaliseWeight, arrays[0].clone());
            insert(Role::NormaliseBias, arrays[1].clone());
        }
        _ => {}
    }
}

/// Keras' arrays of a layer's parameters, in its order. Two biases that Keras keeps as one are added.
pub(super) fn arrays(layer: &Layer, reverse: bool, parameters: &Parameters) -> Vec<ArrayD<f32>> {
    let find = |role: Role| layer.find(role, reverse).and_then(|spec| parameters.get(&spec.name));
    let turned = |array: &ArrayD<f32>| array.t().as_standard_layout().into_owned();
    let mut all = Vec::new();
    match &layer.kind {
        LayerKind::Recurrent(recurrent) => {
            // The exchange of z and r is its own inverse.
            let rows = |array: &ArrayD<f32>| reordered(&recurrent.cell, array.clone());
            all.extend(find(Role::InputWeight).map(|weight| turned(&rows(weight))));
            all.extend(find(Role::RecurrentWeight).map(|weight| turned(&rows(weight))));
            let (input, state) = (find(Role::InputBias).map(&rows), find(Role::RecurrentBias).map(&rows));
            all.extend(match (input, state) {
                (Some(input), state) if is_gru_after(&recurrent.cell) => {
                    let state = state.unwrap_or_else(|| Array::zeros(input.raw_dim()));
                    Some(stack(Axis(0), &[input.view(), state.view()]).expect("both have one shape"))
                }
                (Some(input), Some(state)) => Some(input + state),
                (input, _) => input,
            });
        }
        LayerKind::Dense { .. } => {
            all.extend(find(Role::DenseWeight).map(turned));
            all.extend(find(Role::DenseBias).cloned());
        }
        LayerKind::Conv1d(_) => {
            all.extend(find(Role::ConvWeight).map(turned));
            all.extend(find(Role::ConvBias).cloned());
        }
        LayerKind::Embedding { .. } => all.extend(find(Role::EmbeddingWeight).cloned()),
        LayerKind::Normalise { .. } => {
            all.extend(find(Role::NormaliseWeight).cloned());
            all.extend(find(Role::NormaliseBias).cloned());
        }
        _ => {}
    }
    all
}

fn is_gru_after(cell: &Cell) -> bool {
    matches!(cell, Cell::Gru(gru) if gru.reset == crate::Reset::After)
}

/// Rows of gates from Keras' order to the one here, or back: a GRU's first two change places.
fn reordered(cell: &Cell, rows: ArrayD<f32>) -> ArrayD<f32> {
    if !matches!(cell, Cell::Gru(_)) {
        return rows.as_standard_layout().into_owned();
    }
    let units = rows.len_of(Axis(0)) / GruGate::COUNT;
    let block = |gate: GruGate| {
        let at = gate as usize;
        rows.slice_axis(Axis(0), Slice::from(at * units..(at + 1) * units))
    };
    let [r, z, n] = [GruGate::Reset, GruGate::Update, GruGate::New].map(block);
    let all = concatenate(Axis(0), &[z, r, n]).expect("blocks of one array fit");
    let shape: Vec<usize> = all.shape().to_vec();
    all.into_shape_with_order(IxDyn(&shape)).expect("it keeps its shape")
}
