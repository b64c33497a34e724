//! States of recurrent layers, all directions of a layer together.

use crate::{Real, scan};
use gatefold_model::{NetworkConfig, Recurrent, StateKind};
use ndarray::{Array2, Array3, ArrayView2, Axis, concatenate, s};

/// The initial or final states of one recurrent layer, or the loss's gradients with respect to them.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerState<R> {
    /// `[D k, B, R]`: for each direction, forward first, the last `k` values of h, oldest first; `k` is 1 without a
    /// skip connection or a dilation.
    pub h: Array3<R>,
    /// `[D d, B, H]`, an LSTM's cell state, oldest first; `d` is 1 without a dilation.
    pub c: Option<Array3<R>>,
    /// `[B, O]`, the readout of a layer with feedback.
    pub y: Option<Array2<R>>,
}

/// The states of a network: one for each recurrent layer, in the layers' order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct States<R> {
    /// The states by recurrent layer.
    pub layers: Vec<LayerState<R>>,
}

impl<R: Real> States<R> {
    /// Zeros for `batch` rows.
    pub fn zeros(config: &NetworkConfig, batch: usize) -> Self {
        let recurrent = config.recurrent_layers().filter_map(|layer| layer.recurrent());
        States { layers: recurrent.map(|recurrent| LayerState::zeros(recurrent, batch)).collect() }
    }
}

impl<R: Real> LayerState<R> {
    /// Zeros for `batch` rows.
    pub fn zeros(recurrent: &Recurrent, batch: usize) -> Self {
        let scans = recurrent.direction.scans().len();
        LayerState {
            h: Array3::zeros((scans * recurrent.history(), batch, recurrent.recurrent_width())),
            c: recurrent
                .cell
                .has_state()
                .then(|| Array3::zeros((scans * recurrent.dilation, batch, recurrent.hidden))),
            y: recurrent.feedback.map(|feedback| Array2::zeros((batch, feedback.output))),
        }
    }

    /// Whether its shapes are those of the layer.
    pub fn fits(&self, recurrent: &Recurrent, batch: usize) -> bool {
        let expected = LayerState::<R>::zeros(recurrent, batch);
        self.h.dim() == expected.h.dim()
            && self.c.as_ref().map(Array3::dim) == expected.c.as_ref().map(Array3::dim)
            && self.y.as_ref().map(Array2::dim) == expected.y.as_ref().map(Array2::dim)
    }

    /// The states of one direction.
    pub(crate) fn direction(&self, recurrent: &Recurrent, d: usize) -> scan::States<R> {
        let of =
            |state: &Array3<R>, slots: usize| state.slice(s![d * slots..(d + 1) * slots, .., ..]).to_owned();
        scan::States {
            h: of(&self.h, recurrent.history()),
            c: self.c.as_ref().map(|c| of(c, recurrent.dilation)),
            y: self.y.clone(), // a layer with feedback has one direction
        }
    }

    /// The states of all directions together.
    pub(crate) fn of_directions(directions: &[scan::States<R>]) -> Self {
        let h: Vec<_> = directions.iter().map(|states| states.h.view()).collect();
        let c: Vec<_> = directions.iter().flat_map(|states| &states.c).map(|c| c.view()).collect();
        LayerState {
            h: concatenate(Axis(0), &h).expect("directions have equal widths"),
            c: (!c.is_empty()).then(|| concatenate(Axis(0), &c).expect("directions have equal widths")),
            y: directions[0].y.clone(),
        }
    }

    /// The newest h or c of every direction side by side, forward first: `[B, D R]` or `[B, D H]`.
    pub(crate) fn side_by_side(&self, recurrent: &Recurrent, kind: StateKind) -> Option<Array2<R>> {
        let (states, slots) = match kind {
            StateKind::Hidden => (&self.h, recurrent.history()),
            StateKind::Cell => (self.c.as_ref()?, recurrent.dilation),
        };
        let newest: Vec<_> =
            (slots - 1..states.dim().0).step_by(slots).map(|slot| states.index_axis(Axis(0), slot)).collect();
        Some(concatenate(Axis(1), &newest).expect("directions have equal widths"))
    }

    /// The chain rule through [`LayerState::side_by_side`], added to the gradient.
    pub(crate) fn add_side_by_side(&mut self, recurrent: &Recurrent, kind: StateKind, d: ArrayView2<R>) {
        let (states, slots) = match kind {
            StateKind::Hidden => (&mut self.h, recurrent.history()),
            StateKind::Cell => (self.c.as_mut().expect("an LSTM has a cell state"), recurrent.dilation),
        };
        let width = states.dim().2;
        for (direction, slot) in (slots - 1..states.dim().0).step_by(slots).enumerate() {
            let mut newest = states.index_axis_mut(Axis(0), slot);
            newest += &d.slice(s![.., direction * width..(direction + 1) * width]);
        }
    }
}
