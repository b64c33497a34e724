use super::interleaved::final_by_sequence;
use super::rows::copy_or_clear;
use super::{Scan, ScanState};
use crate::Span;
use crate::layer::Lowering;
use crate::plan::Members;

/// The gradients that travel backward in time, from step to step, in one buffer.
#[derive(Clone, Copy, Debug)]
pub struct CarriedGradients {
    /// In this order: the gradient that bypasses the weights, `[B, H]`; with a readout, its gradient `[B, R]` and that
    /// of h through the recurrence `[B, H]`; the gradients of the final values; with a reset before the product, the
    /// candidate's gradient `[B, H]`.
    pub(super) carry: Span,
    /// Whether final values have gradients.
    pub(super) given: bool,
    pub(super) readout_at: usize,
    pub(super) row_at: usize,
    pub(super) finals_at: usize,
    pub(super) candidate_at: usize,
}

impl CarriedGradients {
    /// Declares the buffer and puts the gradients of the final state into it.
    pub(crate) fn declare(
        low: &mut Lowering<'_>,
        scan: &Scan,
        d_final: Option<&ScanState>,
        (members, member): (&mut Members, usize),
    ) -> Self {
        if scan.dressed.is_some() {
            let carry = super::dressed::carry(low, scan, d_final);
            let none = 0;
            return CarriedGradients {
                carry,
                given: d_final.is_some(),
                readout_at: none,
                row_at: none,
                finals_at: none,
                candidate_at: none,
            };
        }
        let d_final = d_final.map(|&d_final| final_by_sequence(low, scan, d_final));
        let scan = &*scan.stepped();
        let (form, batch, step_len) = (&scan.form, scan.batch, scan.step_len());
        let readout = form.readout();
        let readout_at = step_len;
        let row_at = readout_at + readout.map_or(0, |readout| batch * readout.width);
        let finals_at = row_at + if readout.is_some() { step_len } else { 0 };
        let own_len = form.history() * batch * form.own().len;
        let lone_len = batch * (form.recurs().len - form.own().len);
        let candidate_at = finals_at + if d_final.is_some() { own_len + lone_len } else { 0 };
        let len = candidate_at + if form.resets_before() { step_len } else { 0 };
        let carry =
            members.part((member, &scan.label), "carry", len, |name, len| low.plan.scratch(name, len));
        copy_or_clear(low.plan, carry.part(0, step_len), d_final.and_then(|d_final| d_final.c));
        if let Some(d_final) = d_final {
            low.plan.copy(d_final.h, carry.part(finals_at, own_len));
            if lone_len > 0 {
                copy_or_clear(low.plan, carry.part(finals_at + own_len, lone_len), d_final.y);
            }
        }
        CarriedGradients { carry, given: d_final.is_some(), readout_at, row_at, finals_at, candidate_at }
    }
}
