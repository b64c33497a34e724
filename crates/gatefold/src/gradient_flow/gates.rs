//! The share of gates that are near an end of their range.

use gatefold_model::{Activation, Cell, GruGate, LstmGate, Recurrent};
use gatefold_reference::cells::Gating;
use gatefold_reference::scan::Forward;
use ndarray::s;

/// A gate with a value nearer than this to an end of its range counts as saturated, as a share of the range (Karpathy,
/// Johnson and Fei-Fei, "Visualizing and understanding recurrent networks", 2015).
const SATURATED: f64 = 0.1;

/// The shares of a gate's units that are near an end of their range, over the first eight rows.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct GateSaturation {
    /// The gate's name: `input`, `forget`, `cell`, `output`, `reset`, `update`, `new`, or `output` for an RNN.
    pub gate: &'static str,
    /// The share in the lowest tenth of the range. A relu has no range, and counts where it is 0.
    pub low: Vec<f64>,
    /// The share in the highest tenth.
    pub high: Vec<f64>,
}

/// The saturated shares of a scan's gates.
pub(super) fn saturation(recurrent: &Recurrent, scan: &Forward<f64>) -> Vec<GateSaturation> {
    let cell = recurrent.cell_of(scan.reverse);
    let gating = Gating::<f64>::new(cell, recurrent.clip.map(f64::from));
    let gates = gates(cell).into_iter().enumerate().map(|(lane, (gate, function))| {
        let shares = scan.steps.iter().map(|tape| {
            let units = lane * recurrent.hidden..(lane + 1) * recurrent.hidden;
            let lanes = tape.step.saved.slice(s![.., units]);
            let rows = lanes.rows().into_iter().zip(&tape.active).filter(|(_, active)| **active);
            let values = rows.flat_map(|(row, _)| row.to_vec()).map(|kept| gating.value(function, kept));
            shares(function, values)
        });
        let (low, high) = shares.unzip();
        GateSaturation { gate, low, high }
    });
    gates.collect()
}

/// A cell's gates with their functions, in the order of its lanes; none of a custom cell, whose functions are its own.
fn gates(cell: &Cell) -> Vec<(&'static str, Activation)> {
    match cell {
        Cell::Rnn { activation } => vec![("output", *activation)],
        Cell::Lstm(cell) => {
            let name = |gate| match gate {
                LstmGate::Input => ("input", cell.activations.gate),
                LstmGate::Forget => ("forget", cell.activations.gate),
                LstmGate::Cell => ("cell", cell.activations.candidate),
                LstmGate::Output => ("output", cell.activations.gate),
            };
            LstmGate::ALL.map(name).to_vec()
        }
        Cell::Custom(_) => Vec::new(),
        Cell::Gru(cell) => {
            let name = |gate| match gate {
                GruGate::Reset => ("reset", cell.activations.gate),
                GruGate::Update => ("update", cell.activations.gate),
                GruGate::New => ("new", cell.activations.candidate),
            };
            GruGate::ALL.map(name).to_vec()
        }
    }
}

/// The shares of values near the low and the high end of a function's range.
fn shares(function: Activation, values: impl Iterator<Item = f64>) -> (f64, f64) {
    let range = match function {
        Activation::Sigmoid | Activation::HardSigmoid { .. } => Some((0.0, 1.0)),
        Activation::Tanh | Activation::Softsign => Some((-1.0, 1.0)),
        _ => None,
    };
    let (mut low, mut high, mut count) = (0.0, 0.0, 0.0f64);
    for value in values {
        count += 1.0;
        match range {
            Some((from, to)) => {
                let margin = SATURATED * (to - from);
                low += f64::from(u8::from(value < from + margin));
                high += f64::from(u8::from(value > to - margin));
            }
            None => low += f64::from(u8::from(function == Activation::Relu && value <= 0.0)),
        }
    }
    (low / count.max(1.0), high / count.max(1.0))
}
