//! Converts an operator's inputs to the engine's sequences and states, and the engine's results to the operator's
//! outputs.

use super::{Operator, RecurrentOperator};
use crate::OnnxError;
use gatefold::data::LayerState;
use gatefold::{Sequences, States};
use ndarray::{Array3, Array4, ArrayD, Axis, Ix3};

/// An operator's outputs, in its layout.
#[derive(Clone, Debug, PartialEq)]
pub struct Outputs {
    /// `[T, D, B, H]`, zero past the end of each row.
    pub y: Array4<f32>,
    /// `[D, B, H]`
    pub y_h: Array3<f32>,
    /// `[D, B, H]`; only an LSTM has it.
    pub y_c: Option<Array3<f32>>,
}

impl RecurrentOperator {
    /// Converts X and the lengths of its rows.
    ///
    /// # Errors
    /// [`OnnxError::Recurrent`] for axes or lengths that do not fit.
    pub fn sequences(
        &self,
        x: &ArrayD<f32>,
        lengths: Option<&[i64]>,
    ) -> Result<Sequences<'static>, OnnxError> {
        let x = x
            .view()
            .into_dimensionality::<Ix3>()
            .map_err(|_| self.error(format!("X: expected three axes, found shape {:?}", x.shape())))?;
        let sequences =
            if self.batch_first { Sequences::batch_first(x) } else { Sequences::time_major(x.to_owned()) };
        let Some(lengths) = lengths else { return Ok(sequences) };
        let (steps, batch, _) = sequences.values().dim();
        let checked: Option<Vec<usize>> =
            lengths.iter().map(|&len| usize::try_from(len).ok().filter(|&len| len <= steps)).collect();
        match checked.filter(|lengths| lengths.len() == batch) {
            Some(lengths) => Ok(sequences.with_lengths(lengths)?),
            None => Err(self.error(format!(
                "sequence_lens: expected {batch} lengths of 0 to {steps}, found {lengths:?}"
            ))),
        }
    }

    /// Converts the initial states. Those left out are zero.
    ///
    /// # Errors
    /// [`OnnxError::Recurrent`] for shapes that do not fit.
    pub fn states(
        &self,
        initial_h: Option<&ArrayD<f32>>,
        initial_c: Option<&ArrayD<f32>>,
        batch: usize,
        hidden: usize,
    ) -> Result<States, OnnxError> {
        let shape = [self.directions(), batch, hidden];
        let state = |name: &str, given: Option<&ArrayD<f32>>| -> Result<Array3<f32>, OnnxError> {
            let Some(given) = given else { return Ok(Array3::zeros(shape)) };
            let axes = given.view().into_dimensionality::<Ix3>().ok();
            let axes = axes.map(|axes| if self.batch_first { axes.permuted_axes([1, 0, 2]) } else { axes });
            match axes.filter(|axes| axes.shape() == shape) {
                Some(axes) => Ok(axes.as_standard_layout().into_owned()),
                None => Err(self.error(format!(
                    "{name}: expected [directions {}, batch {batch}, units {hidden}], found {:?}",
                    self.directions(),
                    given.shape()
                ))),
            }
        };
        let h = state("initial_h", initial_h)?;
        let c = match self.operator {
            Operator::Lstm => Some(state("initial_c", initial_c)?),
            Operator::Rnn | Operator::Gru => None,
        };
        Ok(States { layers: vec![LayerState { h, c, y: None }] })
    }

    /// Converts the network's results, `output [T, B, D H]` and final states, to the operator's outputs. The final
    /// state of a row of length zero is zero, as in ONNX runtimes; the engine's own networks return its initial state.
    pub fn outputs(&self, output: Array3<f32>, states: States, lengths: Option<&[usize]>) -> Outputs {
        let (steps, batch, width) = output.dim();
        let directions = self.directions();
        let split = output.into_shape_with_order((steps, batch, directions, width / directions));
        // [T, B, D, H]
        let y = split.expect("the directions lie side by side");
        let state = states.layers.into_iter().next().expect("the network has one recurrent layer");
        let ended = |mut state: Array3<f32>| {
            for (row, _) in lengths.unwrap_or_default().iter().enumerate().filter(|(_, len)| **len == 0) {
                state.index_axis_mut(Axis(1), row).fill(0.0);
            }
            state
        };
        let layout = |state: Array3<f32>| {
            let axes = if self.batch_first { [1, 0, 2] } else { [0, 1, 2] };
            state.permuted_axes(axes).as_standard_layout().into_owned()
        };
        let axes = if self.batch_first { [1, 0, 2, 3] } else { [0, 2, 1, 3] };
        Outputs {
            y: y.permuted_axes(axes).as_standard_layout().into_owned(),
            y_h: layout(ended(state.h)),
            y_c: state.c.map(|c| layout(ended(c))),
        }
    }
}
