//! The proofs of a cell that a program brought along, the same as those of the engine's own cells.

use crate::Random;
use crate::kernels::check_custom_kernels;
use crate::selfcheck::{Report, Row};
use crate::sequences::{SequenceCase, check_sequences, check_streams};
use gatefold::Device;
use gatefold::layers::CustomCell;
use gatefold_model::CUSTOM_LANES;

/// Points at which the twin is held against central differences.
const POINTS: usize = 200;
/// The step of the differences, and the error that they may have, as a share of the gradient or of 1.
const STEP: f64 = 1e-5;
const ERROR: f64 = 1e-7;

/// Proves a custom cell on a device, in a report with a row for each proof:
///
/// - its Rust twin's backward against central differences of its forward, in `f64`;
/// - on a GPU, every kernel that it is joined with against the twin in `f64`, at awkward sizes;
/// - layers of it, alone and among others, in every direction, with lengths, initial states, skips, dilations, feedback and
///   DropConnect, forward, backward and in inference, and in streams, for random weightings of all results.
///
/// The tolerances are those of docs/numerics.md, for functions whose slopes are around 1 at most. The scan is that of the
/// device: open it with [`GpuOptions::scan`](gatefold::devices::GpuOptions::scan) to prove another.
pub fn prove_cell(cell: CustomCell, device: &Device) -> Report {
    let mut rows = vec![twin(cell)];
    if let Device::Gpu(gpu) = device {
        let kernels = check_custom_kernels(gpu, cell);
        rows.extend(kernels.into_iter().map(|(id, checks)| Row::new(id.name(), checks)));
    }
    rows.push(Row::new("layers", check_sequences(device, &SequenceCase::of_custom(cell))));
    rows.push(Row::new("streams", check_streams(device, &SequenceCase::streams_of_custom(cell))));
    Report { device: format!("{:?} on {}", cell.name(), device.summary()), rows }
}

/// The twin's backward at random points, for random weights of h and the state.
fn twin(cell: CustomCell) -> Row {
    let functions = cell.parts().double;
    let has_state = cell.has_state();
    let mut random = Random::new(91, 0);
    let mut worst = (0.0, String::from("nothing was compared"));
    for point in 0..POINTS {
        let drawn: Vec<f64> = random.values(CUSTOM_LANES + 3).into_iter().map(f64::from).collect();
        let (w_h, w_state) = (drawn[CUSTOM_LANES + 1], if has_state { drawn[CUSTOM_LANES + 2] } else { 0.0 });
        let at: Vec<f64> =
            drawn[..CUSTOM_LANES].iter().map(|a| 2.0 * a).chain([drawn[CUSTOM_LANES]]).collect();
        let step = |at: &[f64]| {
            let pre = std::array::from_fn(|lane| if lane < cell.lanes() { at[lane] } else { 0.0 });
            (functions.forward)(pre, at[CUSTOM_LANES])
        };
        let loss = |at: &[f64]| {
            let step = step(at);
            w_h * step.h + if has_state { w_state * step.state } else { 0.0 }
        };
        let done = step(&at);
        let state = if has_state { done.state } else { 0.0 };
        let found = (functions.backward)(done.saved, at[CUSTOM_LANES], state, w_h, w_state);
        let lanes = (0..cell.lanes()).map(|lane| (lane, found.pre[lane]));
        for (place, gradient) in lanes.chain([(CUSTOM_LANES, found.prev)]) {
            let shifted = |by: f64| {
                let mut at = at.clone();
                at[place] += by;
                loss(&at)
            };
            let difference = (shifted(STEP) - shifted(-STEP)) / (2.0 * STEP);
            let share = (gradient - difference).abs() / (ERROR * difference.abs().max(1.0));
            let share = if share.is_finite() { share } else { f64::INFINITY };
            if share >= worst.0 {
                let name = name_of(cell, place);
                let text = format!(
                    "{name}: {} at point {point}: backward {gradient:e}, central difference {difference:e}",
                    cell.name()
                );
                worst = (share, text);
            }
        }
    }
    let (share, place) = worst;
    let passed = share <= 1.0;
    Row {
        name: "twin".into(),
        cases: POINTS,
        share,
        failure: (!passed).then(|| place.clone()),
        place,
        passed,
    }
}

/// `d_pre of forget`, `d_prev`
fn name_of(cell: CustomCell, place: usize) -> String {
    let gates = cell.gates();
    match place {
        CUSTOM_LANES => "d_prev".into(),
        lane if lane < gates.len() => format!("d_pre of {}", gates[lane].name()),
        lane => {
            let split = gates[cell.summed() + lane - gates.len()];
            format!("d_pre of {}, recurrent part", split.name())
        }
    }
}

impl Report {
    /// The failures in full: the device, the proof, the tensor, the case and the worst element of each row that did not
    /// pass. Empty if all did.
    pub fn failures(&self) -> Vec<String> {
        let failed = self.rows.iter().filter(|row| !row.passed);
        let text = |row: &Row| row.failure.clone().unwrap_or_else(|| row.place.clone());
        failed.map(|row| format!("{}: {}: {}", self.device, row.name, text(row))).collect()
    }

    /// Asserts that every row passed.
    ///
    /// # Panics
    /// If one did not, with [`failures`](Self::failures).
    #[track_caller]
    pub fn assert(&self) {
        assert!(self.passed(), "{}", self.failures().join("\n"));
        println!("{self}");
    }
}
