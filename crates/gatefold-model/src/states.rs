//! States of recurrent layers, all directions of a layer together, and the key of dropout.

use crate::{InitialState, Layer, NetworkConfig, Parameters, Recurrent, Role};
use ndarray::{Array2, Array3, ArrayD, Axis, s};

/// The state of one recurrent layer: initial or final values, or a loss's gradients with respect to them.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerState {
    /// `[D k, B, R]`: for each direction, forward first, the last `k` values of h, oldest first. `k` is 1, or the reach
    /// of a skip connection; `R` is H, or the width of the projection.
    pub h: Array3<f32>,
    /// `[D, B, H]`: an LSTM's cell state.
    pub c: Option<Array3<f32>>,
    /// `[B, O]`: the readout of a layer with feedback.
    pub y: Option<Array2<f32>>,
}

/// The states of a network's recurrent layers, in the layers' order, including those of an encoder and its decoder.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct States {
    /// One state per recurrent layer.
    pub layers: Vec<LayerState>,
}

/// The key of dropout's masks. The same seed and batch number give the same masks on every device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropout {
    /// The key of the generator.
    pub seed: u64,
    /// The batch's number, so that each batch gets masks of its own.
    pub batch: u32,
}

impl LayerState {
    /// Zeros for `batch` rows.
    pub fn zeros(recurrent: &Recurrent, batch: usize) -> Self {
        let scans = recurrent.direction.scans().len();
        LayerState {
            h: Array3::zeros((scans * recurrent.history(), batch, recurrent.recurrent_width())),
            c: recurrent.cell.has_state().then(|| Array3::zeros((scans, batch, recurrent.hidden))),
            y: recurrent.feedback.map(|feedback| Array2::zeros((batch, feedback.output))),
        }
    }

    /// Puts the elements of a caller's arrays in standard layout.
    pub fn make_standard(&mut self) {
        let LayerState { h, c, y } = self;
        for array in std::iter::once(h).chain(c) {
            if !array.is_standard_layout() {
                *array = array.as_standard_layout().into_owned();
            }
        }
        if let Some(y) = y.as_mut().filter(|y| !y.is_standard_layout()) {
            *y = y.as_standard_layout().into_owned();
        }
    }

    /// The layer's configured initial state.
    fn initial<'a>(
        layer: &Layer,
        recurrent: &Recurrent,
        batch: usize,
        parameter: impl Fn(&str) -> &'a ArrayD<f32>,
    ) -> Self {
        let mut state = LayerState::zeros(recurrent, batch);
        match recurrent.initial {
            InitialState::Zeros => {}
            InitialState::Constant(value) => {
                state.h.fill(value);
                state.c.iter_mut().for_each(|c| c.fill(value));
            }
            InitialState::Learned => {
                let k = recurrent.history();
                for (scan, &reverse) in recurrent.direction.scans().iter().enumerate() {
                    if let Some(h0) = layer.find(Role::InitialH, reverse) {
                        state.h.slice_mut(s![scan * k..(scan + 1) * k, .., ..]).assign(parameter(&h0.name));
                    }
                    if let (Some(c), Some(c0)) = (&mut state.c, layer.find(Role::InitialC, reverse)) {
                        c.index_axis_mut(Axis(0), scan).assign(parameter(&c0.name));
                    }
                }
            }
        }
        state
    }

    fn check(&self, recurrent: &Recurrent, batch: usize) -> Result<(), String> {
        let expected = LayerState::zeros(recurrent, batch);
        let shape = |shape: Option<&[usize]>| shape.map_or("none".into(), |shape| format!("{shape:?}"));
        let axes = [
            ("h", "[directions x slots, rows, width]", Some(expected.h.shape()), Some(self.h.shape())),
            (
                "c",
                "[directions, rows, units]",
                expected.c.as_ref().map(|c| c.shape()),
                self.c.as_ref().map(|c| c.shape()),
            ),
            (
                "y",
                "[rows, outputs]",
                expected.y.as_ref().map(|y| y.shape()),
                self.y.as_ref().map(|y| y.shape()),
            ),
        ];
        match axes.into_iter().find(|(.., expected, found)| expected != found) {
            None => Ok(()),
            Some((name, _, None, found)) => {
                Err(format!("state {name}: expected none, found {}; leave it out", shape(found)))
            }
            Some((name, axes, expected, found)) => {
                Err(format!("state {name}: expected {axes} {}, found {}", shape(expected), shape(found)))
            }
        }
    }
}

impl States {
    /// Zeros for `batch` rows.
    pub fn zeros(config: &NetworkConfig, batch: usize) -> Self {
        let recurrent = config.recurrent_layers().filter_map(Layer::recurrent);
        States { layers: recurrent.map(|recurrent| LayerState::zeros(recurrent, batch)).collect() }
    }

    /// The configured initial states: zeros, constants or learned ones, as each layer's config says. A decoder's layers,
    /// which start from the encoder's states, get zeros.
    ///
    /// # Panics
    /// If a learned state is missing from the parameters or has another shape; [`Parameters::check`] finds out.
    pub fn initial(config: &NetworkConfig, parameters: &Parameters, batch: usize) -> Self {
        States::initial_of(config, batch, |name| &parameters[name])
    }

    /// [`States::initial`] with parameters looked up by name.
    ///
    /// # Panics
    /// If a learned state has another shape than its parameter.
    pub fn initial_of<'a>(
        config: &NetworkConfig,
        batch: usize,
        parameter: impl Fn(&str) -> &'a ArrayD<f32>,
    ) -> Self {
        let state = |layer: &Layer| {
            let recurrent = layer.recurrent().expect("only those are asked for");
            LayerState::initial(layer, recurrent, batch, &parameter)
        };
        States { layers: config.recurrent_layers().map(state).collect() }
    }

    /// Checks that these are states of the network for `batch` rows.
    ///
    /// # Errors
    /// The first mismatch, in one line.
    pub fn check(&self, config: &NetworkConfig, batch: usize) -> Result<(), String> {
        let (expected, found) = (config.recurrent_layers().count(), self.layers.len());
        if expected != found {
            return Err(format!(
                "states: expected one for each of {expected} recurrent layers, found {found}"
            ));
        }
        for (layer, state) in config.recurrent_layers().zip(&self.layers) {
            let recurrent = layer.recurrent().expect("only those are asked for");
            state.check(recurrent, batch).map_err(|problem| format!("{}: {problem}", layer.place()))?;
        }
        Ok(())
    }
}
