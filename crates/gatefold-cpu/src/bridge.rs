//! The bridge from the final states of an encoder to the initial states of its decoder.

use crate::buffers::{Buffers, Matrix};
use crate::dense::{self, DenseTape};
use crate::network::Context;
use crate::parts::PartState;
use crate::tensors::Sums;
use gatefold_model::{
    Bridge, HandOver, InitialSource, Layer, LayerKind, NetworkConfig, Recurrent, Role, StateKind,
};
use ndarray::{ArrayView2, Axis, s};
use std::sync::Arc;

/// The tape of the bridge: for each hand-over its source `[B, W]` and the dense layer's tape; `None` where states are
/// handed over unchanged.
#[derive(Clone, Debug)]
pub(crate) struct BridgeTape {
    dense: Vec<Option<(Matrix, DenseTape)>>,
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
pub(crate) fn newest(
    buffers: &Arc<Buffers>,
    state: &PartState,
    kind: StateKind,
    recurrent: &Recurrent,
) -> Matrix {
    let batch = state.scan(0).h.nrows() / recurrent.history();
    let width = match kind {
        StateKind::Hidden => recurrent.recurrent_width(),
        StateKind::Cell => recurrent.hidden,
    };
    let scans = recurrent.direction.scans().len();
    let mut all = buffers.matrix(batch, scans * width);
    for (scan, mut columns) in state.scans.iter().flatten().zip(all.axis_chunks_iter_mut(Axis(1), width)) {
        match kind {
            StateKind::Hidden => columns.assign(&scan.h(recurrent.history() - 1, batch)),
            StateKind::Cell => {
                let c = scan.c.as_ref().expect("the layer has a cell");
                columns.assign(&c.slice(s![c.nrows() - batch.., ..]));
            }
        }
    }
    all
}

/// The backward of [`newest`]: adds to the gradient of the state.
pub(crate) fn add_to_newest(
    d: ArrayView2<f32>,
    kind: StateKind,
    recurrent: &Recurrent,
    state: &mut PartState,
) {
    let (batch, width) = (d.nrows(), d.ncols() / recurrent.direction.scans().len());
    for (scan, d) in state.scans.iter_mut().flatten().zip(d.axis_chunks_iter(Axis(1), width)) {
        match kind {
            StateKind::Hidden => {
                let mut to = scan.h_mut(recurrent.history() - 1, batch);
                to += &d;
            }
            StateKind::Cell => {
                let c = scan.c.as_mut().expect("the layer has a cell");
                let mut to = c.slice_mut(s![(recurrent.dilation - 1) * batch.., ..]);
                to += &d;
            }
        }
    }
}

/// Fills the initial states of the decoder's recurrent layers from the final states of the encoder's.
pub(crate) fn forward(context: Context, states: &mut [PartState]) -> BridgeTape {
    let config = context.config;
    let (decoder, bridge) = decoder(config);
    for node in config.graph().nodes() {
        if node.states.as_ref().is_some_and(|states| states.initial == InitialSource::HandedOver) {
            let (number, recurrent) = recurrent_of(config, node.layer);
            let batch = states[number].scan(0).h.nrows() / recurrent.history();
            states[number] = PartState::zeros(context.buffers, recurrent, batch);
        }
    }
    let mut hand_over = |(place, hand_over): (usize, &HandOver)| {
        let &HandOver { target, number, state, source, source_state, .. } = hand_over;
        let (from, recurrent) = recurrent_of(config, source);
        let given = newest(context.buffers, &states[from], source_state, recurrent);
        let (value, dense) = match bridge {
            Bridge::Same => (given, None),
            Bridge::Dense { activation } => {
                let weight = &context.packed.layer(decoder).bridge[place];
                let bias = context.values.elements(decoder, Role::BridgeBias(number, state), false);
                let tape = dense::forward(context, given.view(), weight, bias, activation);
                (tape.y.clone(), Some((given, tape)))
            }
        };
        let to = states[recurrent_of(config, target).0].scan_mut(0);
        let to = match state {
            StateKind::Hidden => &mut to.h,
            StateKind::Cell => to.c.as_mut().expect("the layer has a cell"),
        };
        let slots = to.axis_chunks_iter_mut(Axis(0), value.nrows());
        slots.into_iter().for_each(|mut slot| slot.assign(&*value));
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
    d_states: &mut [Option<PartState>],
) -> BridgeGradients {
    let config = context.config;
    let (decoder, bridge) = decoder(config);
    let mut back = |(place, hand_over): (usize, &HandOver)| {
        let &HandOver { target, state, source, source_state, .. } = hand_over;
        let d_initial = &d_states[recurrent_of(config, target).0];
        let d_initial = d_initial.as_ref().expect("the decoder's layers had their turn");
        let d_initial = d_initial.scan(0);
        // All slots of a skip connection or a dilation started with the same values.
        let batch = d_initial.h.nrows() / recurrent_of(config, target).1.history();
        let slots = match state {
            StateKind::Hidden => &d_initial.h,
            StateKind::Cell => d_initial.c.as_ref().expect("the layer has a cell"),
        };
        let mut d = context.buffers.zeros(batch, slots.ncols());
        slots.axis_chunks_iter(Axis(0), batch).for_each(|slot| *d += &slot);
        let mut found = None;
        if let (Some((_, tape)), Bridge::Dense { activation }) = (&tape.dense[place], bridge) {
            dense::backward(context.set, tape, activation, &mut d);
            let weight = &context.packed.layer(decoder).bridge[place];
            let d_given = dense::product(context, d.view(), weight, None);
            found = Some(std::mem::replace(&mut d, d_given));
        }
        let (from, recurrent) = recurrent_of(config, source);
        let d_final =
            d_states[from].get_or_insert_with(|| PartState::zeros(context.buffers, recurrent, d.nrows()));
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
        sums.add_weight(weight, 0..d.ncols(), d.view(), x.view());
        sums.add_bias(decoder.find(Role::BridgeBias(hand_over.number, hand_over.state), false), d.view());
    }
}
