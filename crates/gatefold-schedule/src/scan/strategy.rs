//! Ways to spread the steps of a scan over dispatches.

use super::Form;
use crate::Target;

/// A way to run the recurrence on a device. A new one is a variant, a file beside `step.rs`, and an arm in
/// [`forward`](super::forward) and [`backward`](super::backward).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Strategy {
    /// One dispatch for each step and stage of the cell: any size, any device.
    StepPerDispatch,
}

impl Strategy {
    /// The strategy for `steps` steps and `batch` rows of a scan on a device.
    pub fn choose(_target: &Target, _form: &Form, _steps: usize, _batch: usize) -> Strategy {
        Strategy::StepPerDispatch
    }
}
