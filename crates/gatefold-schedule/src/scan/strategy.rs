//! Ways to spread the steps of a scan over dispatches.

use super::Form;
use super::workgroup::{self, Tile};
use crate::Target;
use std::fmt;
use std::str::FromStr;

/// A way to run the recurrence on a device, in one direction of time. A new one is a variant, a file beside `step.rs`,
/// and an arm in [`forward`](super::forward) and [`backward`](super::backward). Both write the same buffers, so a scan
/// may go forward in one way and backward in another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Strategy {
    /// One dispatch for each step and stage of the cell: any size, any device.
    StepPerDispatch,
    /// All steps in one dispatch, a workgroup for each tile of rows: cells of one stage whose hidden state fits a
    /// workgroup.
    SequencePerWorkgroup(Tile),
}

/// The pass that a strategy is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pass {
    /// From the inputs to h.
    Forward,
    /// From the gradients with respect to h to those with respect to the pre-activations.
    Backward,
}

/// The strategies that a caller allows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ScanChoice {
    /// The one that suits the device and the shape.
    #[default]
    Auto,
    /// [`Strategy::StepPerDispatch`] everywhere.
    Step,
    /// [`Strategy::SequencePerWorkgroup`] for every scan that it can run, else one dispatch a step.
    Workgroup,
}

impl ScanChoice {
    /// Every choice.
    pub const ALL: [ScanChoice; 3] = [ScanChoice::Auto, ScanChoice::Step, ScanChoice::Workgroup];

    /// The name that options and tables use.
    pub fn name(self) -> &'static str {
        match self {
            ScanChoice::Auto => "auto",
            ScanChoice::Step => "step",
            ScanChoice::Workgroup => "workgroup",
        }
    }
}

impl fmt::Display for ScanChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for ScanChoice {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        ScanChoice::ALL.into_iter().find(|choice| choice.name() == name).ok_or_else(|| {
            let names = ScanChoice::ALL.map(ScanChoice::name).join(", ");
            format!("no scan is called {name}; expected one of {names}")
        })
    }
}

/// Hidden units up to which a workgroup keeps or streams its weights fast enough on a GPU, with any batch.
const SMALL_HIDDEN: usize = 128;
/// The same for batches of a few workgroups, which leave the caches to each other.
const MEDIUM_HIDDEN: usize = 256;
/// Rows in such a batch.
const FEW_ROWS: usize = 64;

impl Strategy {
    /// The strategy for a pass over `batch` rows of a scan on a device. Without measurements, a rule of thumb: on a GPU
    /// a dispatch costs more than a step of a small network, on a software driver it costs less than a barrier.
    pub fn choose(target: &Target, form: &Form, pass: Pass, batch: usize) -> Strategy {
        let in_a_workgroup = || workgroup::usual_tile(target, form, pass, batch);
        let small = form.hidden() <= SMALL_HIDDEN || (form.hidden() <= MEDIUM_HIDDEN && batch <= FEW_ROWS);
        let tile = match target.scan {
            ScanChoice::Step => None,
            ScanChoice::Workgroup => in_a_workgroup(),
            ScanChoice::Auto => in_a_workgroup().filter(|_| small && !target.software),
        };
        tile.map_or(Strategy::StepPerDispatch, Strategy::SequencePerWorkgroup)
    }
}
