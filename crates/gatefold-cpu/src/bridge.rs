//! The bridge from the final states of an encoder to the initial states of its decoder.

use crate::buffers::Matrix;
use crate::dense::{self, DenseTape};
use crate::network::Context;
use crate::recurrent::side_by_side;
use crate::tensors::Sums;
use gatefold_model::LayerState;
use gatefold_model::{
    Bridge, HandOver, InitialSource, Layer, LayerKind, NetworkConfig, Recurrent, Role, StateKind,
};
use ndarray::{Array2, ArrayView2, Axis, s};

/// The tape of the bridge: for each hand-over its source `[B, W]` and the dense layer's tape; `None` where states are
/// handed over unchanged.
#[derive(Clone, Debug)]
pub(crate) struct BridgeTape {
    dense: Vec<Option<(Array2<f32>, DenseTape)>>,
}

/// A recurrent layer, with its number among the recurrent layers, which is also that of its state.
pub(crate) fn recurrent_of(config: &NetworkConfig, layer: usize) -> (usize, &Recurrent) {
    let states = config.graph().node(layer).states.as_ref();
    let recurrent = config.layers()[layer].recurrent();
    let (states, recurrent) = states.zip(recurrent).expect("only recurrent layers have states");
    (states.number, recurrent)
}

/// The decoder layer, which owns the bridge's parameters.
fn decoder(config: &NetworkConfig) -> (&Layer, Bridge) {
    let layer = &config.layers()[config.decoder().expect("only decoders have a bridge")];
    let LayerKind::Decoder { bridge } = layer.kind else { unreachable!("found as a decoder") };
    (layer, bridge)
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

/// The backward of [`newest`]: adds to the gradient of the state.
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

/// Fills the initial states of the decoder's recurrent layers from the final states of the encoder's.
pub(crate) fn forward(context: Context, states: &mut [LayerState]) -> BridgeTape {
    let config = context.config;
    let (decoder, bridge) = decoder(config);
    let batch = states[0].h.dim().1;
    for node in config.graph().nodes() {
        if node.states.as_ref().is_some_and(|states| states.initial == InitialSource::HandedOver) {
            let (number, recurrent) = recurrent_of(config, node.layer);
            states[number] = LayerState::zeros(recurrent, batch);
        }
    }
    let mut hand_over = |(place, hand_over): (usize, &HandOver)| {
        let &HandOver { target, number, state, source, source_state, .. } = hand_over;
        let (from, recurrent) = recurrent_of(config, source);
        let given = newest(&states[from], source_state, recurrent);
        let (value, dense) = match bridge {
            Bridge::Same => (given, None),
            Bridge::Dense { activation } => {
                let weight = &context.packed.layer(decoder).bridge[place];
                let bias = context.values.elements(decoder, Role::BridgeBias(number, state), false);
                let tape = dense::forward(context, given.view(), weight, bias, activation);
                (Array2::clone(&tape.y), Some((given, tape)))
            }
        };
        let to = &mut states[recurrent_of(config, target).0];
        match state {
            StateKind::Hidden => to.h.assign(&value),
            StateKind::Cell => {
                to.c.as_mut().expect("the layer has a cell").index_axis_mut(Axis(0), 0).assign(&value)
            }
        }
        dense
    };
    BridgeTape { dense: config.graph().hand_overs().iter().enumerate().map(&mut hand_over).collect() }
}

/// The gradients of a dense bridge's pre-activations, for each hand-over.
pub(crate) type BridgeGradients = Vec<Option<Matrix>>;

/// The backward of [`forward`]: from the gradients of the decoder's initial states, adds to those of the encoder's
/// final states.
pub(crate) fn backward(
    context: Context,
    tape: &BridgeTape,
    d_states: &mut [Option<LayerState>],
) -> BridgeGradients {
    let config = context.config;
    let (decoder, bridge) = decoder(config);
    let mut back = |(place, hand_over): (usize, &HandOver)| {
        let &HandOver { target, state, source, source_state, .. } = hand_over;
        let d_initial = &d_states[recurrent_of(config, target).0];
        let d_initial = d_initial.as_ref().expect("the decoder's layers had their turn");
        let d: Array2<f32> = match state {
            // All slots of a skip connection started with the same h.
            StateKind::Hidden => d_initial.h.sum_axis(Axis(0)),
            StateKind::Cell => {
                d_initial.c.as_ref().expect("the layer has a cell").index_axis(Axis(0), 0).to_owned()
            }
        };
        let mut d = context.buffers.copy(d.view());
        let mut found = None;
        if let (Some((_, tape)), Bridge::Dense { activation }) = (&tape.dense[place], bridge) {
            dense::backward(context.set, tape, activation, &mut d);
            let weight = &context.packed.layer(decoder).bridge[place];
            let d_given = dense::product(context, d.view(), weight, None);
            found = Some(std::mem::replace(&mut d, d_given));
        }
        let (from, recurrent) = recurrent_of(config, source);
        let d_final = d_states[from].get_or_insert_with(|| LayerState::zeros(recurrent, d.nrows()));
        add_to_newest(d.view(), source_state, recurrent, d_final);
        found
    };
    config.graph().hand_overs().iter().enumerate().map(&mut back).collect()
}

/// Adds the gradients of the bridge's parameters.
pub(crate) fn add_gradients(
    config: &NetworkConfig,
    tape: &BridgeTape,
    found: &BridgeGradients,
    sums: &mut Sums,
) {
    let (decoder, _) = decoder(config);
    for ((hand_over, dense), d) in config.graph().hand_overs().iter().zip(&tape.dense).zip(found) {
        let (Some((x, _)), Some(d)) = (dense, d) else { continue };
        let weight = decoder.find(Role::BridgeWeight(hand_over.number, hand_over.state), false);
        sums.add_weight(weight, 0..d.ncols(), &[(d.view(), x.view())]);
        sums.add_bias(decoder.find(Role::BridgeBias(hand_over.number, hand_over.state), false), &[d.view()]);
    }
}
