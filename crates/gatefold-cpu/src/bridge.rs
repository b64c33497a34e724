//! From the final states of an encoder to the initial states of its decoder.

use crate::dense::{self, DenseTape};
use crate::recurrent::side_by_side;
use crate::tensors::{Sums, Values};
use crate::threads::add_product;
use gatefold_model::LayerState;
use gatefold_model::{Bridge, Layer, LayerKind, NetworkConfig, Recurrent, Role, StateKind};
use ndarray::{Array2, ArrayView2, Axis, s};

/// One state that is handed over.
#[derive(Clone, Debug)]
struct Passage {
    /// The recurrent layer that ends with it, of the whole network.
    source: usize,
    /// Which of the source's states: c comes from h where the source has no c.
    from: StateKind,
    /// The recurrent layer of the decoder that starts with it, counted there.
    target: usize,
    to: StateKind,
    /// `[B, W]` and the layer's result; without a dense layer nothing is needed.
    dense: Option<(Array2<f32>, DenseTape)>,
}

/// What the forward pass leaves behind.
#[derive(Clone, Debug)]
pub(crate) struct BridgeTape {
    passages: Vec<Passage>,
}

/// How many recurrent layers an encoder has, if there is one.
pub(crate) fn encoder_states(config: &NetworkConfig) -> usize {
    let decoder = config.decoder().unwrap_or(0);
    config.recurrent_layers().filter(|layer| layer.index < decoder).count()
}

fn recurrent(layer: &Layer) -> &Recurrent {
    layer.recurrent().expect("only those have states")
}

/// The newest values of a state, directions side by side: `[B, D R]` or `[B, D H]`.
pub(crate) fn newest(state: &LayerState, kind: StateKind, recurrent: &Recurrent) -> Array2<f32> {
    let k = recurrent.history();
    let parts: Vec<ArrayView2<f32>> = (0..recurrent.direction.scans().len())
        .map(|scan| match kind {
            StateKind::Hidden => state.h.index_axis(Axis(0), scan * k + k - 1),
            StateKind::Cell => state.c.as_ref().expect("the layer has a cell").index_axis(Axis(0), scan),
        })
        .collect();
    side_by_side(&parts)
}

/// Adds a derivative by [`newest`].
pub(crate) fn add_to_newest(
    d: ArrayView2<f32>,
    kind: StateKind,
    recurrent: &Recurrent,
    state: &mut LayerState,
) {
    let k = recurrent.history();
    let scans = recurrent.direction.scans().len();
    let width = d.ncols() / scans;
    for scan in 0..scans {
        let mut to = match kind {
            StateKind::Hidden => state.h.index_axis_mut(Axis(0), scan * k + k - 1),
            StateKind::Cell => state.c.as_mut().expect("the layer has a cell").index_axis_mut(Axis(0), scan),
        };
        to += &d.slice(s![.., scan * width..(scan + 1) * width]);
    }
}

/// The initial states of the decoder's recurrent layers from the final ones of the encoder's.
pub(crate) fn forward(
    values: Values,
    config: &NetworkConfig,
    last: &[LayerState],
) -> (Vec<LayerState>, BridgeTape) {
    let decoder = &config.layers()[config.decoder().expect("only decoders have a bridge")];
    let LayerKind::Decoder { bridge } = decoder.kind else { unreachable!("found as a decoder") };
    let encoder = encoder_states(config);
    let layers: Vec<&Layer> = config.recurrent_layers().collect();
    let batch = last[0].h.dim().1;
    let mut starts = Vec::new();
    let mut passages = Vec::new();
    for (target, layer) in layers[encoder..].iter().enumerate() {
        let source = target.min(encoder - 1);
        let mut start = LayerState::zeros(recurrent(layer), batch);
        for to in [StateKind::Hidden, StateKind::Cell] {
            if to == StateKind::Cell && start.c.is_none() {
                continue;
            }
            let from = if last[source].c.is_none() { StateKind::Hidden } else { to };
            let given = newest(&last[source], from, recurrent(layers[source]));
            let (value, dense) = match bridge {
                Bridge::Same => (given, None),
                Bridge::Dense { activation } => {
                    let weight = values.matrix(decoder, Role::BridgeWeight(target, to), false);
                    let bias = values.vector(decoder, Role::BridgeBias(target, to), false);
                    let (weight, bias) = weight.zip(bias).expect("a dense bridge has both");
                    let tape = dense::forward(values.threads, given.view(), weight, Some(bias), activation);
                    (tape.y.clone(), Some((given, tape)))
                }
            };
            match (to, &mut start.c) {
                (StateKind::Cell, Some(c)) => c.index_axis_mut(Axis(0), 0).assign(&value),
                _ => start.h.assign(&value),
            }
            passages.push(Passage { source, from, target, to, dense });
        }
        starts.push(start);
    }
    (starts, BridgeTape { passages })
}

/// Adds to the derivatives by the encoder's final states, and the gradients of the bridge's own parameters.
pub(crate) fn backward(
    values: Values,
    config: &NetworkConfig,
    tape: BridgeTape,
    d_starts: &[LayerState],
    d_last: &mut [LayerState],
    sums: &mut Sums,
) {
    let decoder = &config.layers()[config.decoder().expect("only decoders have a bridge")];
    let LayerKind::Decoder { bridge } = decoder.kind else { unreachable!("found as a decoder") };
    let layers: Vec<&Layer> = config.recurrent_layers().collect();
    for Passage { source, from, target, to, dense } in tape.passages {
        let mut d = match (to, &d_starts[target].c) {
            (StateKind::Cell, Some(c)) => c.index_axis(Axis(0), 0).to_owned(),
            // Every slot of a skip connection started with the same h.
            _ => d_starts[target].h.sum_axis(Axis(0)),
        };
        if let (Some((x, tape)), Bridge::Dense { activation }) = (dense, bridge) {
            dense::backward(&tape, activation, &mut d);
            let weight = decoder.find(Role::BridgeWeight(target, to), false);
            sums.add_weight(weight, 0..d.ncols(), d.view(), x.view());
            sums.add_bias(decoder.find(Role::BridgeBias(target, to), false), d.view());
            let weight = values.matrix(decoder, Role::BridgeWeight(target, to), false);
            let mut d_x = Array2::zeros(x.raw_dim());
            add_product(values.threads, d.view(), weight.expect("a dense bridge has it"), d_x.view_mut());
            d = d_x;
        }
        add_to_newest(d.view(), from, recurrent(layers[source]), &mut d_last[source]);
    }
}
