use crate::{Plan, Span};

/// The state of one scan before its first step or after its last, or the gradients with respect to it.
#[derive(Clone, Copy, Debug)]
pub struct ScanState {
    /// `[k, B, R]`, the slot of the smallest t first.
    pub h: Span,
    /// `[d, B, H]`, if the cell has a state, in the same order.
    pub c: Option<Span>,
    /// `[B, O]`, if an output is fed back.
    pub y: Option<Span>,
}

impl ScanState {
    /// Copies every part that both have.
    pub fn copy_to(&self, plan: &mut Plan, to: &ScanState) {
        for (from, to) in [(Some(self.h), Some(to.h)), (self.c, to.c), (self.y, to.y)] {
            if let (Some(from), Some(to)) = (from, to) {
                plan.copy(from, to);
            }
        }
    }
}
