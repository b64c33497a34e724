//! A scan against time: dispatches of a step in reverse order, then products over all steps for the gradients.

use super::form::Readout;
use super::recurrent::Start;
use super::scan::{Scan, Tiles, fill};
use super::{Lowering, Sequence};
use crate::Error;
use crate::plan::Span;
use crate::product::{self, LaneMap, Matrix, Order};
use gatefold_model::{Activation, GruGate, Layer, Role};
use gatefold_shaders::{CellStage, ELEMENT_WG_SIZE, KernelId, KernelVariant, params};

/// The gradients that travel against time, in one buffer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ends {
    /// `[B, H]` of what goes past the weights; where there is a readout its gradient `[B, R]` and that of h by the
    /// recurrence `[B, H]`; the gradients of the final values; where h is reset the candidate's gradient `[B, H]`.
    carry: Span,
    /// Whether final values have gradients.
    given: bool,
    readout_at: usize,
    row_at: usize,
    finals_at: usize,
    candidate_at: usize,
}

impl Ends {
    pub(crate) fn declare(low: &mut Lowering<'_>, scan: &Scan, d_final: Option<&Start>) -> Ends {
        let (form, batch, step_len) = (&scan.form, scan.batch, scan.step_len());
        let readout = form.readout();
        let readout_at = step_len;
        let row_at = readout_at + readout.map_or(0, |readout| batch * readout.width);
        let finals_at = row_at + if readout.is_some() { step_len } else { 0 };
        let own_len = form.history() * batch * form.own().len;
        let lone_len = batch * (form.recurs().len - form.own().len);
        let candidate_at = finals_at + if d_final.is_some() { own_len + lone_len } else { 0 };
        let len = candidate_at + if form.resets_before() { step_len } else { 0 };
        let carry = low.plan.scratch(format!("{}.carry", scan.label), len);
        fill(low.plan, carry.part(0, step_len), d_final.and_then(|d_final| d_final.c));
        if let Some(d_final) = d_final {
            low.plan.copy(d_final.h, carry.part(finals_at, own_len));
            if lone_len > 0 {
                fill(low.plan, carry.part(finals_at + own_len, lone_len), d_final.y);
            }
        }
        Ends { carry, given: d_final.is_some(), readout_at, row_at, finals_at, candidate_at }
    }
}

/// Step after step back; leaves the gradients of the pre-activations in the scan's buffers.
pub(crate) fn steps_backward(
    low: &mut Lowering<'_>,
    layer: &Layer,
    scan: &Scan,
    ends: &Ends,
    d_out: Sequence,
    d_begin: usize,
) -> Result<(), Error> {
    for t in scan.order().rev() {
        match scan.form.readout() {
            None => from_recurrence(low, layer, scan, ends, (d_out, d_begin), t)?,
            Some(readout) => {
                readout_backward(low, scan, ends, &readout, (d_out, d_begin), t)?;
                let weights = low
                    .parameters
                    .find(low.plan, layer, readout.weight, scan.form.reverse)
                    .expect("a readout has weights");
                let inner = (weights, readout.width, ends.readout_at);
                from_inner(low, layer, scan, ends, scan.form.cell(), inner, t)?;
            }
        }
        if let Some(weights) = scan.transposed().u_reset {
            let inner = (weights, scan.form.hidden(), ends.candidate_at);
            from_inner(low, layer, scan, ends, CellStage::GruReset, inner, t)?;
        }
    }
    Ok(())
}

fn from_recurrence(
    low: &mut Lowering<'_>,
    layer: &Layer,
    scan: &Scan,
    ends: &Ends,
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
        ("FINALS", u32::from(ends.given)),
    ];
    let consts = [&own[..], &form.consts(form.cell())].concat();
    let shape = Tiles { batch, columns: hidden, inner: hidden };
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
        inner_to: ends.candidate_at as u32,
        next: scan.behind(t, 1),
        skip_next: scan.behind(t, form.history()),
        d_stride: d_out.width as u32,
        d_begin: d_begin as u32,
        history: form.history() as u32,
        steps: scan.steps as u32,
        reverse: u32::from(form.reverse),
    };
    let units = low.parameters.find(low.plan, layer, Role::Peephole, form.reverse).unwrap_or(ut);
    let bindings = [ut, units, scan.lengths_or(ut), scan.state, scan.h, d_out.span, scan.gates, ends.carry];
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
    ends: &Ends,
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
    let shape = Tiles { batch, columns: hidden, inner: inner_len };
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
        inner_to: ends.candidate_at as u32,
        inner_from: inner_from as u32,
        inner_len: inner_len as u32,
        row_from: ends.row_at as u32,
    };
    let units = low.parameters.find(low.plan, layer, Role::Peephole, form.reverse).unwrap_or(weights);
    let bindings = [weights, units, scan.lengths_or(weights), scan.state, scan.h, scan.gates, ends.carry];
    low.plan
        .dispatch(kernel, params, &bindings, groups)
        .note(format!("t={t}"))
        .flops(2 * batch * inner_len * hidden);
    Ok(())
}

fn readout_backward(
    low: &mut Lowering<'_>,
    scan: &Scan,
    ends: &Ends,
    readout: &Readout,
    (d_out, d_begin): (Sequence, usize),
    t: usize,
) -> Result<(), Error> {
    let (form, batch, hidden) = (&scan.form, scan.batch, scan.form.hidden());
    let (ut, columns) = (scan.transposed().u, form.recurs().len);
    let own = [
        ("SEGMENTS", scan.segments()),
        ("LENGTHS", scan.has_lengths()),
        ("FINALS", u32::from(ends.given)),
        ("KEEP_PRE", u32::from(!readout.activation.slope_from_output())),
    ];
    let consts = [&own[..], &product::activation_consts(readout.activation)].concat();
    let shape = Tiles { batch, columns, inner: hidden };
    let (kernel, groups) = shape.kernel(low.target, scan, KernelId::ReadoutBackward, form.cell(), &consts)?;
    let params = params::ReadoutBackward {
        t: t as u32,
        batch: batch as u32,
        hidden: hidden as u32,
        columns: columns as u32,
        skip_columns: form.own().len as u32,
        own: form.own().len as u32,
        readout_from: (columns - readout.width) as u32,
        next: scan.behind(t, 1),
        skip_next: scan.behind(t, form.history()),
        d_stride: d_out.width as u32,
        d_begin: d_begin as u32,
        history: form.history() as u32,
        steps: scan.steps as u32,
        reverse: u32::from(form.reverse),
        inner_to: ends.readout_at as u32,
        finals_at: ends.finals_at as u32,
    };
    let saved = scan.readout.expect("a scan with a readout has its buffer");
    let bindings = [ut, scan.lengths_or(ut), scan.gates, d_out.span, saved, ends.carry];
    low.plan
        .dispatch(kernel, params, &bindings, groups)
        .note(format!("t={t}"))
        .flops(2 * batch * hidden * columns * form.lanes());
    Ok(())
}

/// The gradients of the start, after [`steps_backward`].
pub(crate) fn start_gradient(low: &mut Lowering<'_>, scan: &Scan, ends: &Ends) -> Result<Start, Error> {
    let (form, batch, hidden) = (&scan.form, scan.batch, scan.form.hidden());
    let (columns, own) = (form.recurs().len, form.own().len);
    let consts =
        [("SEGMENTS", scan.segments()), ("LENGTHS", scan.has_lengths()), ("FINALS", u32::from(ends.given))];
    let shape = Tiles { batch, columns, inner: hidden };
    let (kernel, mut groups) =
        shape.kernel(low.target, scan, KernelId::InitialBackward, form.cell(), &consts)?;
    groups[2] = form.history() as u32;
    let carries_h = matches!(form.cell(), CellStage::Gru | CellStage::GruUpdate);
    let params = params::InitialBackward {
        batch: batch as u32,
        hidden: hidden as u32,
        columns: columns as u32,
        skip_columns: own as u32,
        own: own as u32,
        history: form.history() as u32,
        steps: scan.steps as u32,
        reverse: u32::from(form.reverse),
        carries_h: u32::from(carries_h),
        finals_at: ends.finals_at as u32,
        ..Default::default()
    };
    let (own_len, lone_len) = (form.history() * batch * own, batch * (columns - own));
    let d_start = low.plan.scratch(format!("{}.d_start", scan.label), own_len + lone_len);
    let ut = scan.transposed().u;
    let bindings = [ut, scan.lengths_or(ut), scan.gates, ends.carry, d_start];
    low.plan.dispatch(kernel, params, &bindings, groups);
    Ok(Start {
        h: d_start.part(0, own_len),
        c: form.cell().has_state().then(|| ends.carry.part(0, scan.step_len())),
        y: (lone_len > 0).then(|| d_start.part(own_len, lone_len)),
    })
}

/// Products over all steps, after [`steps_backward`].
pub(crate) fn parameter_gradients(low: &mut Lowering<'_>, layer: &Layer, scan: &Scan) -> Result<(), Error> {
    let (form, hidden) = (&scan.form, scan.form.hidden());
    let k = form.history();
    // The slots of h(t-1), h(t-k) and h(t) at step 0.
    let (before, skipped, now) = if form.reverse { (1, k, 0) } else { (k - 1, 0, k) };
    let (own, from_input) = (form.own(), form.input_map());
    let d_pre = scan.d_pre();
    let mut products: Vec<(Role, Matrix, Matrix, LaneMap, &str)> = vec![
        (Role::InputWeight, scan.x.matrix(), d_pre, from_input, "w_ih"),
        (Role::RecurrentWeight, scan.rows(before, own), d_pre, form.recurrent_map(), "w_hh"),
    ];
    if form.resets_before() {
        let (rows, d_n) = (scan.rows(now, form.reset_h()), scan.d_lane(GruGate::New as usize));
        products.push((Role::RecurrentWeight, rows, d_n, form.reset_map(), "w_hh.reset"));
    }
    if form.recurrent.skip.is_some() {
        products.push((Role::SkipWeight, scan.rows(skipped, own), d_pre, form.recurrent_map(), "w_sh"));
    }
    let readout = form.readout();
    if let Some(readout) = readout.filter(|readout| !readout.replaces_h) {
        let rows = scan.rows(before, form.read_out(&readout));
        products.push((Role::FeedbackWeight, rows, d_pre, from_input, "w_yh"));
    }
    for (role, read, d, map, name) in products {
        if let Some(gradient) = low.parameters.find_gradient(low.plan, layer, role, form.reverse) {
            let order = Order::columns_units_lanes(map, hidden, read.columns);
            let what = format!("{}.{name}", scan.label);
            product::add_gradient(low.plan, low.target, &what, (read.transposed(), d), order, gradient)?;
        }
    }

    let mut biases = Vec::new();
    for (role, map) in [(Role::InputBias, from_input), (Role::RecurrentBias, form.recurrent_bias_map())] {
        let gradient = low.parameters.find_gradient(low.plan, layer, role, form.reverse);
        biases.extend(gradient.map(|d| (Order::columns_units_lanes(map, hidden, 1), d)));
    }
    if !biases.is_empty() {
        let what = format!("{}.bias", scan.label);
        product::add_column_sums(low.plan, low.target, &what, d_pre, &biases)?;
    }
    if let Some(d) = low.parameters.find_gradient(low.plan, layer, Role::Peephole, form.reverse) {
        peephole_gradient(low, scan, d)?;
    }
    let (Some(readout), Some(d_readout)) = (readout, scan.readout) else { return Ok(()) };
    let d_readout = Matrix::new(d_readout, scan.steps * scan.batch, readout.width);
    let d_readout = Matrix { steps: scan.step_rows(), ..d_readout };
    if let Some(d) = low.parameters.find_gradient(low.plan, layer, readout.weight, form.reverse) {
        let order = Order::columns_units_lanes(LaneMap::same(1), readout.width, hidden);
        let what = format!("{}.w_readout", scan.label);
        let read = scan.rows(now, form.h()).transposed();
        product::add_gradient(low.plan, low.target, &what, (read, d_readout), order, d)?;
    }
    let bias =
        readout.bias.and_then(|role| low.parameters.find_gradient(low.plan, layer, role, form.reverse));
    if let Some(d) = bias {
        let what = format!("{}.b_readout", scan.label);
        product::add_column_sums(low.plan, low.target, &what, d_readout, &[(Order::same(d.len), d)])?;
    }
    Ok(())
}

fn peephole_gradient(low: &mut Lowering<'_>, scan: &Scan, d: Span) -> Result<(), Error> {
    let (rows, batch, hidden) = (scan.steps * scan.batch, scan.batch, scan.form.hidden());
    let what = format!("{}.peephole", scan.label);
    let slices = product::row_slices(low.target, &what, rows, hidden)?;
    let parts = low.plan.scratch(format!("{what}.sums"), slices.count * 3 * hidden);
    let (before, after) = if scan.form.reverse { (batch, 0) } else { (0, batch) };
    low.plan
        .dispatch(
            KernelVariant::new(KernelId::PeepholeGradient, &[("WG_SIZE", ELEMENT_WG_SIZE)]),
            params::PeepholeGradient {
                rows: rows as u32,
                hidden: hidden as u32,
                before: before as u32,
                after: after as u32,
                slice_len: slices.len as u32,
                ..Default::default()
            },
            &[scan.gates, scan.state, parts],
            slices.groups,
        )
        .note(what.clone());
    product::unpack(low.plan, &what, parts, slices.count, Order::same(3 * hidden), d);
    Ok(())
}

/// The gradient of the scan's inputs, after [`steps_backward`].
pub(crate) fn input_gradient(low: &mut Lowering<'_>, scan: &Scan) -> Result<Sequence, Error> {
    let form = &scan.form;
    let d_x = low.plan.scratch(format!("{}.d_x", scan.label), scan.x.len());
    let wt = Matrix::new(scan.transposed().w, form.hidden() * form.lanes(), form.input);
    let what = format!("{}.d_x", scan.label);
    product::matmul(low.plan, low.target, &what, (scan.d_pre(), wt), None, Activation::Identity, d_x)?;
    Ok(Sequence { span: d_x, ..scan.x })
}
