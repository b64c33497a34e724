//! A dilated scan as a plain one. Its steps t = q d + r, for r from 0 to d - 1, are d sequences that never meet. Step q of
//! all of them lies together, so a plain scan over `[ceil(T/d), d B]` is the dilated one over `[T, B]`, in the same memory:
//! sequence r of row b is row `r B + b`. Products over all steps, and the slots of initial and final values, need not know.

use super::{Scan, ScanState};
use crate::layer::{Lowering, Sequence};
use crate::{Element, Plan, Span, product};
use gatefold_model::Layer;
use gatefold_shaders::{ELEMENT_WG_SIZE, KernelId, KernelVariant, params};
use std::borrow::Cow;

/// The sequences that the scans of a dilated layer interleave.
#[derive(Clone, Copy, Debug)]
pub struct Sequences {
    /// `[d, B]`, `u32`; `None` if all have equally many steps.
    lengths: Option<Span>,
}

impl Sequences {
    /// Those of a layer; `None` if it is not dilated. They differ in length where rows do, or where d does not divide T.
    pub fn of(
        low: &mut Lowering<'_>,
        layer: &Layer,
        x: Sequence,
        lengths: Option<Span>,
    ) -> Option<Sequences> {
        let d = layer.recurrent().filter(|recurrent| recurrent.is_dilated())?.dilation;
        if lengths.is_none() && x.steps.is_multiple_of(d) {
            return Some(Sequences { lengths: None });
        }
        let name = format!("{}.interleaved_lengths", layer.label());
        let out = low.plan.scratch_as(name, Element::U32, d * x.batch);
        let (groups, groups_x) = product::element_groups(out.len);
        let consts = [("WG_SIZE", ELEMENT_WG_SIZE), ("LENGTHS", u32::from(lengths.is_some()))];
        let params = params::InterleavedLengths {
            batch: x.batch as u32,
            dilation: d as u32,
            steps: x.steps as u32,
            groups_x,
        };
        let kernel = KernelVariant::new(KernelId::InterleavedLengths, &consts);
        low.plan.dispatch(kernel, params, &[lengths.into(), out.into()], groups);
        Some(Sequences { lengths: Some(out) })
    }
}

impl Scan {
    /// The scan that its steps go over: this one, or that over the sequences that it interleaves.
    pub(super) fn stepped(&self) -> Cow<'_, Scan> {
        let Some(Sequences { lengths }) = self.sequences else { return Cow::Borrowed(self) };
        let d = self.form.dilation();
        let mut form = self.form;
        form.recurrent.dilation = 1;
        Cow::Owned(Scan {
            form,
            steps: self.steps.div_ceil(d),
            batch: d * self.batch,
            lengths,
            sequences: None,
            ..self.clone()
        })
    }

    /// States next to the ends of rows, `[d, B, width]` in the order of time, in that of the sequences.
    pub(super) fn by_sequence(&self, plan: &mut Plan, name: &str, state: Span) -> Span {
        self.rearranged(plan, name, state, false)
    }

    /// The reverse of [`Scan::by_sequence`].
    pub(super) fn by_time(&self, plan: &mut Plan, name: &str, state: Span) -> Span {
        self.rearranged(plan, name, state, true)
    }

    fn rearranged(&self, plan: &mut Plan, name: &str, state: Span, back: bool) -> Span {
        let d = self.form.dilation();
        if d == 1 || self.lengths.is_none() && self.steps.is_multiple_of(d) {
            return state;
        }
        let x = self.aligned(plan, &format!("{name}_aligned"), state);
        let out = plan.scratch(format!("{}.{name}", self.label), state.len);
        let (groups, groups_x) = product::element_groups(out.len);
        let consts = [("WG_SIZE", ELEMENT_WG_SIZE), ("LENGTHS", u32::from(self.lengths.is_some()))];
        let params = params::InterleavedRows {
            batch: self.batch as u32,
            columns: (state.len / (d * self.batch)) as u32,
            dilation: d as u32,
            steps: self.steps as u32,
            back: u32::from(back),
            groups_x,
            ..Default::default()
        };
        let bindings = [x.into(), self.lengths.into(), out.into()];
        plan.dispatch(KernelVariant::new(KernelId::InterleavedRows, &consts), params, &bindings, groups);
        out
    }
}

/// The gradients of the outputs, with room for the steps that the last of the sequences lack.
pub(super) fn all_steps(low: &mut Lowering<'_>, scan: &Scan, d_out: Sequence) -> Sequence {
    let steps = scan.steps.next_multiple_of(scan.form.dilation());
    if scan.sequences.is_none() || steps == scan.steps {
        return d_out;
    }
    // The lengths of the sequences say that nobody reads the rest.
    let len = steps * d_out.batch * d_out.width;
    let span = low.plan.scratch(format!("{}.d_out_all", scan.label), len);
    low.plan.copy(d_out.span, span.part(0, d_out.len()));
    Sequence { span, steps, ..d_out }
}

/// The gradients of final states, as the steps of the scan take them. Those of a reverse scan are at the beginning of time,
/// where both orders are one.
pub(super) fn final_by_sequence(low: &mut Lowering<'_>, scan: &Scan, d_final: ScanState) -> ScanState {
    if scan.form.reverse {
        return d_final;
    }
    ScanState {
        h: scan.by_sequence(low.plan, "d_h_final", d_final.h),
        c: d_final.c.map(|c| scan.by_sequence(low.plan, "d_c_final", c)),
        ..d_final
    }
}

/// The gradients of initial states in the order of time; only in a reverse scan they are at its end.
pub(super) fn initial_by_time(low: &mut Lowering<'_>, scan: &Scan, d_initial: ScanState) -> ScanState {
    if !scan.form.reverse {
        return d_initial;
    }
    ScanState {
        h: scan.by_time(low.plan, "d_h_initial", d_initial.h),
        c: d_initial.c.map(|c| scan.by_time(low.plan, "d_c_initial", c)),
        ..d_initial
    }
}
