//! The bridge between an encoder and its decoder: final states of one become initial states of the other.

use crate::network::{Tensors, add_gradient};
use crate::scan::{readout_backward, readout_forward};
use crate::{LayerState, Real};
use gatefold_model::{Bridge, Layer, LayerKind, Recurrent, Role, StateKind};
use ndarray::{Array2, Array3, ArrayView1, ArrayView2, Axis, Ix1, Ix2};

/// The decoder's layer with its parameters, and the recurrent layers on both sides.
pub(crate) struct BridgeLayer<'a, R> {
    pub(crate) layer: &'a Layer,
    pub(crate) parameters: &'a Tensors<R>,
    /// The encoder's recurrent layers.
    pub(crate) sources: Vec<&'a Recurrent>,
    /// The decoder's recurrent layers.
    pub(crate) targets: Vec<&'a Recurrent>,
}

impl<R: Real> BridgeLayer<'_, R> {
    /// The encoder's layer that gives the decoder's layer `j` its initial states: the one with the same number, or the
    /// last.
    fn source(&self, j: usize) -> usize {
        j.min(self.sources.len() - 1)
    }

    /// The source's state that becomes this state of layer `j`: the same kind, or h where the source has no c.
    fn source_kind(&self, j: usize, kind: StateKind) -> StateKind {
        if self.sources[self.source(j)].cell.has_state() { kind } else { StateKind::Hidden }
    }

    fn given(&self, encoder: &[LayerState<R>], j: usize, kind: StateKind) -> Array2<R> {
        let source = self.source(j);
        let given = encoder[source].side_by_side(self.sources[source], self.source_kind(j, kind));
        given.expect("the state is there")
    }

    fn dense(&self, j: usize, kind: StateKind) -> (ArrayView2<'_, R>, ArrayView1<'_, R>) {
        let tensor = |role| self.parameters[&self.layer.parameter(role).name].view();
        (
            tensor(Role::BridgeWeight(j, kind)).into_dimensionality::<Ix2>().expect("weights are matrices"),
            tensor(Role::BridgeBias(j, kind)).into_dimensionality::<Ix1>().expect("biases are vectors"),
        )
    }

    fn bridge(&self) -> Bridge {
        match self.layer.kind {
            LayerKind::Decoder { bridge } => bridge,
            kind => unreachable!("a bridge at a layer of kind {}", kind.name()),
        }
    }

    /// The decoder's initial states from the encoder's final ones: unchanged, or `act(s W^T + b)`. All slots of the
    /// history get the same h; a readout that feeds back starts at zero.
    pub(crate) fn forward(&self, encoder: &[LayerState<R>]) -> Vec<LayerState<R>> {
        let state = |j: usize, kind| {
            let given = self.given(encoder, j, kind);
            match self.bridge() {
                Bridge::Same => given,
                Bridge::Dense { activation } => {
                    let (weight, bias) = self.dense(j, kind);
                    readout_forward(given.view(), weight, Some(bias), activation)
                }
            }
        };
        let batch = encoder[0].h.dim().1;
        let targets = self.targets.iter().enumerate();
        targets
            .map(|(j, target)| {
                let mut states = LayerState::zeros(target, batch);
                states.h.assign(&state(j, StateKind::Hidden));
                if let Some(c) = &mut states.c {
                    c.assign(&state(j, StateKind::Cell));
                }
                states
            })
            .collect()
    }

    /// The chain rule through [`BridgeLayer::forward`]: adds to the cotangents of the encoder's final states.
    pub(crate) fn backward(
        &self,
        encoder: &[LayerState<R>],
        d_decoder: &[LayerState<R>],
        d_encoder: &mut [LayerState<R>],
        gradients: &mut Tensors<R>,
    ) {
        for (j, d) in d_decoder.iter().enumerate() {
            let states: [(StateKind, Option<&Array3<R>>); 2] =
                [(StateKind::Hidden, Some(&d.h)), (StateKind::Cell, d.c.as_ref())];
            for (kind, d_state) in states {
                let Some(d_state) = d_state else { continue };
                let mut d_state = d_state.sum_axis(Axis(0));
                if let Bridge::Dense { activation } = self.bridge() {
                    let (weight, bias) = self.dense(j, kind);
                    let given = self.given(encoder, j, kind);
                    let back = readout_backward(given.view(), weight, Some(bias), activation, d_state.view());
                    let mut add = |role, gradient| {
                        add_gradient(gradients, self.layer, (role, false), Some(gradient));
                    };
                    add(Role::BridgeWeight(j, kind), back.d_weight.into_dyn());
                    add(Role::BridgeBias(j, kind), back.d_bias.into_dyn());
                    d_state = back.d_x;
                }
                let source = self.source(j);
                let source_kind = self.source_kind(j, kind);
                d_encoder[source].add_side_by_side(self.sources[source], source_kind, d_state.view());
            }
        }
    }
}
