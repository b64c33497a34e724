//! Steps backward in time: one dispatch for each step and stage.

use super::Tiles;
use crate::layer::{Lowering, Sequence};
use crate::product;
use crate::scan::{CarriedGradients, Pass, Readout, Scan, ScanState};
use crate::{Error, Span};
use gatefold_model::{Layer, Role};
use gatefold_shaders::{CellStage, KernelId, params};
use std::ops::Range;

/// Step after step back; leaves the gradients with respect to the pre-activations in the scan's buffers.
pub(in crate::scan) fn backward(
    low: &mut Lowering<'_>,
    layer: &Layer,
    scan: &Scan,
    carried: &CarriedGradients,
    (d_out, d_begin): (Sequence, usize),
    steps: Range<usize>,
) -> Result<(), Error> {
    for t in scan.in_order(steps).rev() {
        match scan.form.readout() {
            None => from_recurrence(low, layer, scan, carried, (d_out, d_begin), t)?,
            Some(readout) => {
                readout_backward(low, scan, carried, &readout, (d_out, d_begin), t)?;
                let weights = low
                    .parameters
                    .find(low.plan, layer, readout.weight, scan.form.reverse)
                    .expect("a readout has weights");
                let inner = (weights, readout.width, carried.readout_at);
                from_inner(low, layer, scan, carried, scan.form.cell(), inner, t)?;
            }
        }
        if let Some(weights) = scan.transposed().u_reset {
            let inner = (weights, scan.form.hidden(), carried.candidate_at);
            from_inner(low, layer, scan, carried, CellStage::GruReset, inner, t)?;
        }
    }
    Ok(())
}

fn from_recurrence(
    low: &mut Lowering<'_>,
    layer: &Layer,
    scan: &Scan,
    carried: &CarriedGradients,
    (d_out, d_begin): (Sequence, usize),
    t: usize,
) -> Result<(), Error> {
    let (form, batch, hidden) = (&scan.form, scan.batch, scan.form.hidden());
    let ut = scan.transposed().u;
    let (slots, segments) = (scan.slots(t), scan.segments());
    let own = [
        ("UNITS", form.units() as u32),
        ("SEGMENTS", segments),
        ("LENGTHS", scan.has_lengths()),
        ("FINALS", u32::from(carried.given)),
    ];
    let consts = [&own[..], &form.consts(form.cell())].concat();
    let shape = Tiles { rows: scan.rows_of(Pass::Backward), batch, columns: hidden, inner: hidden };
    let (kernel, groups) = shape.kernel(low.target, scan, KernelId::StepBackward, form.cell(), &consts)?;
    let params = params::StepBackward {
        t: t as u32,
        batch: batch as u32,
        hidden: hidden as u32,
        width: form.width() as u32,
        h_from: slots.h_from as u32,
        h_begin: form.h().begin as u32,
        state_from: slots.state.0 as u32,
        state_to: slots.state.1 as u32,
        inner_to: carried.candidate_at as u32,
        next: scan.after(t, 1),
        skip_next: scan.after(t, form.history()),
        d_stride: d_out.width as u32,
        d_begin: d_begin as u32,
        history: form.history() as u32,
        steps: scan.steps as u32,
        reverse: u32::from(form.reverse),
        ..Default::default()
    };
    let peepholes = low.parameters.find(low.plan, layer, Role::Peephole, form.reverse);
    let bindings = [
        ut.into(),
        peepholes.into(),
        scan.lengths(),
        scan.state.into(),
        scan.h.into(),
        d_out.span.into(),
        scan.gates.into(),
        carried.carry.into(),
    ];
    low.plan
        .dispatch(kernel, params, &bindings, groups)
        .note(format!("t={t}"))
        .flops(2 * batch * hidden * hidden * form.lanes() * segments as usize);
    Ok(())
}

fn from_inner(
    low: &mut Lowering<'_>,
    layer: &Layer,
    scan: &Scan,
    carried: &CarriedGradients,
    cell: CellStage,
    (weights, inner_len, inner_from): (Span, usize, usize),
    t: usize,
) -> Result<(), Error> {
    let (form, batch, hidden) = (&scan.form, scan.batch, scan.form.hidden());
    let slots = scan.slots(t);
    let is_main = cell == form.cell();
    let with_row = is_main && form.readout().is_some_and(|readout| !readout.replaces_h);
    let own = [
        ("UNITS", if is_main { form.units() as u32 } else { 0 }),
        ("LENGTHS", scan.has_lengths()),
        ("WITH_ROW", u32::from(with_row)),
    ];
    let consts = [&own[..], &form.consts(cell)].concat();
    let shape = Tiles { rows: scan.rows_of(Pass::Backward), batch, columns: hidden, inner: inner_len };
    let (kernel, groups) = shape.kernel(low.target, scan, KernelId::StepBackwardInner, cell, &consts)?;
    let params = params::StepBackwardInner {
        t: t as u32,
        batch: batch as u32,
        hidden: hidden as u32,
        width: form.width() as u32,
        h_from: slots.h_from as u32,
        h_begin: form.h().begin as u32,
        state_from: slots.state.0 as u32,
        state_to: slots.state.1 as u32,
        inner_to: carried.candidate_at as u32,
        inner_from: inner_from as u32,
        inner_len: inner_len as u32,
        row_from: carried.row_at as u32,
        ..Default::default()
    };
    let peepholes = low.parameters.find(low.plan, layer, Role::Peephole, form.reverse).filter(|_| is_main);
    let bindings = [
        weights.into(),
        peepholes.into(),
        scan.lengths(),
        scan.state.into(),
        scan.h.into(),
        scan.gates.into(),
        carried.carry.into(),
    ];
    low.plan
        .dispatch(kernel, params, &bindings, groups)
        .note(format!("t={t}"))
        .flops(2 * batch * inner_len * hidden);
    Ok(())
}

fn readout_backward(
    low: &mut Lowering<'_>,
    scan: &Scan,
    carried: &CarriedGradients,
    readout: &Readout,
    (d_out, d_begin): (Sequence, usize),
    t: usize,
) -> Result<(), Error> {
    let (form, batch, hidden) = (&scan.form, scan.batch, scan.form.hidden());
    let (ut, columns) = (scan.transposed().u, form.recurs().len);
    let own = [
        ("SEGMENTS", scan.segments()),
        ("LENGTHS", scan.has_lengths()),
        ("FINALS", u32::from(carried.given)),
        ("KEEP_PRE", u32::from(!readout.activation.slope_from_output())),
    ];
    let consts = [&own[..], &product::activation_consts(readout.activation)].concat();
    let shape = Tiles { rows: scan.rows_of(Pass::Backward), batch, columns, inner: hidden };
    let (kernel, groups) = shape.kernel(low.target, scan, KernelId::ReadoutBackward, form.cell(), &consts)?;
    let params = params::ReadoutBackward {
        t: t as u32,
        batch: batch as u32,
        hidden: hidden as u32,
        columns: columns as u32,
        skip_columns: form.own().len as u32,
        own: form.own().len as u32,
        readout_from: (columns - readout.width) as u32,
        next: scan.after(t, 1),
        skip_next: scan.after(t, form.history()),
        d_stride: d_out.width as u32,
        d_begin: d_begin as u32,
        history: form.history() as u32,
        steps: scan.steps as u32,
        reverse: u32::from(form.reverse),
        inner_to: carried.readout_at as u32,
        finals_at: carried.finals_at as u32,
        ..Default::default()
    };
    let saved = scan.readout.expect("a scan with a readout has its buffer");
    let bindings =
        [ut.into(), scan.lengths(), scan.gates.into(), d_out.span.into(), saved.into(), carried.carry.into()];
    low.plan
        .dispatch(kernel, params, &bindings, groups)
        .note(format!("t={t}"))
        .flops(2 * batch * hidden * columns * form.lanes());
    Ok(())
}

/// The gradient with respect to the initial state, after [`backward`].
pub(in crate::scan) fn initial_gradient(
    low: &mut Lowering<'_>,
    scan: &Scan,
    carried: &CarriedGradients,
) -> Result<ScanState, Error> {
    let (form, batch, hidden) = (&scan.form, scan.batch, scan.form.hidden());
    let (columns, own) = (form.recurs().len, form.own().len);
    let consts = [
        ("SEGMENTS", scan.segments()),
        ("LENGTHS", scan.has_lengths()),
        ("FINALS", u32::from(carried.given)),
    ];
    let shape = Tiles { rows: scan.rows_of(Pass::Backward), batch, columns, inner: hidden };
    let (kernel, mut groups) =
        shape.kernel(low.target, scan, KernelId::InitialBackward, form.cell(), &consts)?;
    groups[2] = form.history() as u32;
    let params = params::InitialBackward {
        batch: batch as u32,
        hidden: hidden as u32,
        columns: columns as u32,
        skip_columns: own as u32,
        own: own as u32,
        history: form.history() as u32,
        steps: scan.steps as u32,
        reverse: u32::from(form.reverse),
        carries_h: u32::from(form.cell().carries_h()),
        finals_at: carried.finals_at as u32,
        ..Default::default()
    };
    let (own_len, lone_len) = (form.history() * batch * own, batch * (columns - own));
    let d_initial = low.plan.scratch(format!("{}.d_initial", scan.label), own_len + lone_len);
    let ut = scan.transposed().u;
    let bindings = [ut.into(), scan.lengths(), scan.gates.into(), carried.carry.into(), d_initial.into()];
    low.plan.dispatch(kernel, params, &bindings, groups);
    Ok(ScanState {
        h: d_initial.part(0, own_len),
        c: form.cell().has_state().then(|| carried.carry.part(0, scan.step_len())),
        y: (lone_len > 0).then(|| d_initial.part(own_len, lone_len)),
    })
}
