//! A batch on its way from a trainer to a device.

use crate::Sequences;
use gatefold_model::Dropout;
use ndarray::ArrayView3;

/// The passing of states from batch to batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Carry {
    /// Whether the batch starts from the kept states.
    pub(crate) read: bool,
    /// The number of steps after which the states are kept.
    pub(crate) keep: Option<usize>,
}

/// One batch as a device trains on it.
#[derive(Debug)]
pub(crate) struct TrainBatch<'a, 'b> {
    pub(crate) input: &'a Sequences<'b>,
    pub(crate) target: ArrayView3<'a, f32>,
    /// `[T' B]`
    pub(crate) weights: &'a [f32],
    pub(crate) dropout: Option<Dropout>,
    pub(crate) carry: Carry,
}
