//! The tangent of a scan: a linear recurrence over what the forward pass saved, with a dispatch for each step and stage of the
//! cell. Products over all steps come first: those of the inputs' tangents with the weights, and those of all that the steps
//! read with the tangents of the weights.

use super::step::Tiles;
use super::{Columns, Packed, Pass, Scan, ScanState, Slots, packed, rows};
use crate::layer::{self, Lowering, Sequence};
use crate::product::{self, LaneMap, Matrix, Order};
use crate::{Error, ParameterSpans, Span};
use gatefold_model::{Activation, GruGate, Layer, Role};
use gatefold_shaders::{CellStage, KernelId, params};

/// The tangents of a scan's states.
#[derive(Clone, Copy, Debug)]
pub struct Tangent {
    /// `[T+k, B, width]`: in the slots of h, the tangents of a row of h, then those of the state.
    pub dots: Span,
    /// The width of a row.
    pub width: usize,
}

/// Buffers that the steps of a tangent read besides those of the scan.
struct Sums {
    /// `[T, B, H]` of lanes.
    x: Span,
    /// `[T, B, R]`
    readout: Option<Span>,
    /// `[6, H]`: the peepholes, then their tangents.
    peepholes: Option<Span>,
}

/// The tangents of all steps, after [`forward`](super::forward) in a plan that saves: from that of the inputs, and from those
/// of the initial states, `None` for zeros.
///
/// # Errors
/// Those of [`forward`](super::forward).
pub fn tangent(
    low: &mut Lowering<'_>,
    along: &ParameterSpans<'_>,
    layer: &Layer,
    scan: &Scan,
    x_dot: Sequence,
    initial: Option<&ScanState>,
) -> Result<Tangent, Error> {
    let (form, k) = (&scan.form, scan.form.history());
    let width = form.width() + if form.cell().has_state() { form.hidden() } else { 0 };
    let dots = low.plan.scratch(format!("{}.dots", scan.label), (scan.steps + k) * scan.batch * width);
    let tangent = Tangent { dots, width };
    put_initial(low, scan, &tangent, initial);
    let packed = packed::pack_tangents(&mut low.along(along), layer, form, &scan.label, &scan.packed);
    let sums = Sums {
        x: sums(low, along, layer, scan, &packed, x_dot)?,
        readout: readout_sums(low, along, layer, scan, &packed)?,
        peepholes: peepholes(low, along, layer, scan),
    };
    for t in scan.order() {
        step(low, scan, &tangent, &sums, t)?;
    }
    Ok(tangent)
}

fn put_initial(low: &mut Lowering<'_>, scan: &Scan, tangent: &Tangent, initial: Option<&ScanState>) {
    let (k, form, Tangent { dots, width }) = (scan.form.history(), &scan.form, *tangent);
    let all = Columns { begin: 0, len: width };
    rows::initial_rows(low.plan, scan, dots, (all, width), (k, 0), None);
    let Some(initial) = initial else { return };
    rows::initial_rows(low.plan, scan, dots, (form.own(), width), (k, k), Some(initial.h));
    if let Some(c) = initial.c {
        let columns = Columns { begin: form.width(), len: form.hidden() };
        rows::initial_rows(low.plan, scan, dots, (columns, width), (k, 1), Some(c));
    }
}

/// The tangents of the pre-activations of all steps, but for the products with tangents of h.
fn sums(
    low: &mut Lowering<'_>,
    along: &ParameterSpans<'_>,
    layer: &Layer,
    scan: &Scan,
    packed: &Packed,
    x_dot: Sequence,
) -> Result<Span, Error> {
    let (form, k) = (&scan.form, scan.form.history());
    let (hidden, lanes, own) = (form.hidden(), form.hidden() * form.lanes(), form.own());
    // The slots of h(t-1), h(t-k) and h(t) at step 0.
    let (before, skipped, now) = if form.reverse { (1, k, 0) } else { (k - 1, 0, k) };
    let recurs = form.recurs();
    let from_input = |span| Matrix::new(span, form.input, lanes);
    let u = |begin: usize, len: usize| Matrix::new(packed.u.part(begin * lanes, len * lanes), len, lanes);
    let mut products = vec![
        (scan.x.rows(scan.lengths), from_input(packed.w), packed.bias, "x"),
        (x_dot.rows(scan.lengths), from_input(scan.packed.w), None, "x_through"),
        (scan.rows(before, recurs), u(0, recurs.len), None, "h"),
    ];
    if form.recurrent.skip.is_some() {
        products.push((scan.rows(skipped, own), u(recurs.len, own.len), None, "skip"));
    }
    if form.resets_before() {
        let new = GruGate::New as usize;
        let map = LaneMap::new(&[None, None, Some(new), None]);
        let weight = along.find(low.plan, layer, Role::RecurrentWeight, form.reverse);
        let weight = weight.expect("every recurrent layer has recurrent weights");
        let to = low.plan.scratch(format!("{}.dot.u_new", scan.label), hidden * lanes);
        product::pack(low.plan, weight, None, Order::columns_units_lanes(map, hidden, hidden), to);
        products.push((scan.rows(now, form.reset_h()), Matrix::new(to, hidden, lanes), None, "reset"));
    }
    let mut sum: Option<Span> = None;
    for (read, weights, bias, name) in products {
        let what = format!("{}.dot.{name}", scan.label);
        let out = low.plan.scratch(what.clone(), scan.steps * scan.batch * lanes);
        product::matmul(low.plan, low.target, &what, (read, weights), bias, Activation::Identity, out)?;
        match sum {
            None => sum = Some(out),
            Some(sum) => layer::add_into(low.plan, out, sum),
        }
    }
    Ok(sum.expect("there are products"))
}

/// The tangents of a readout's pre-activations, but for the product with that of h.
fn readout_sums(
    low: &mut Lowering<'_>,
    along: &ParameterSpans<'_>,
    layer: &Layer,
    scan: &Scan,
    packed: &Packed,
) -> Result<Option<Span>, Error> {
    let form = &scan.form;
    let (Some(readout), Some(weights)) = (form.readout(), packed.readout) else { return Ok(None) };
    let now = if form.reverse { 0 } else { form.history() };
    let bias = readout.bias.and_then(|role| along.find(low.plan, layer, role, form.reverse));
    let what = format!("{}.dot.readout", scan.label);
    let out = low.plan.scratch(what.clone(), scan.steps * scan.batch * readout.width);
    let factors = (scan.rows(now, form.h()), Matrix::new(weights, form.hidden(), readout.width));
    product::matmul(low.plan, low.target, &what, factors, bias, Activation::Identity, out)?;
    Ok(Some(out))
}

fn peepholes(low: &mut Lowering<'_>, along: &ParameterSpans<'_>, layer: &Layer, scan: &Scan) -> Option<Span> {
    let find = |low: &mut Lowering<'_>, of: &ParameterSpans<'_>| {
        of.find(low.plan, layer, Role::Peephole, scan.form.reverse)
    };
    let (values, tangents) = (find(low, low.parameters)?, find(low, along)?);
    let both = low.plan.scratch(format!("{}.dot.peepholes", scan.label), values.len + tangents.len);
    low.plan.copy(values, both.part(0, values.len));
    low.plan.copy(tangents, both.part(values.len, tangents.len));
    Some(both)
}

/// One dispatch of a step.
#[derive(Clone, Copy)]
struct Stage {
    cell: CellStage,
    hidden: usize,
    units: Option<Span>,
    weights: Span,
    segments: u32,
    /// The slot and the columns that its product reads.
    reads: (usize, Columns),
    saved: Span,
    x: Span,
    /// Whether it leaves the tangents of its pre-activations for the next stage.
    leaves: bool,
    /// The column of the result.
    to: usize,
}

/// One dispatch for each stage of the cell, and one for the readout.
fn step(low: &mut Lowering<'_>, scan: &Scan, tangent: &Tangent, sums: &Sums, t: usize) -> Result<(), Error> {
    let (form, slots) = (&scan.form, scan.slots(t));
    let h = form.h();
    let main = Stage {
        cell: form.cell(),
        hidden: form.hidden(),
        units: sums.peepholes,
        weights: scan.packed.u,
        segments: scan.segments(),
        reads: (slots.h_from, form.recurs()),
        saved: scan.gates,
        x: sums.x,
        leaves: false,
        to: h.begin,
    };
    let mut run = |stage: &Stage| stage.run(low, scan, tangent, &slots);
    match scan.packed.u_reset {
        Some(weights) => {
            run(&Stage { cell: CellStage::GruReset, leaves: true, to: form.reset_h().begin, ..main })?;
            run(&Stage { weights, segments: 1, reads: (slots.h_to, form.reset_h()), ..main })?;
        }
        None => run(&main)?,
    }
    let readout = form.readout().zip(scan.packed.readout).zip(scan.readout).zip(sums.readout);
    if let Some((((readout, weights), saved), x)) = readout {
        let (hidden, to) = (readout.width, form.read_out(&readout).begin);
        let (cell, units, segments, reads) = (CellStage::Readout, None, 1, (slots.h_to, h));
        run(&Stage { cell, hidden, units, weights, segments, reads, saved, x, leaves: false, to })?;
    }
    Ok(())
}

impl Stage {
    fn run(
        &self,
        low: &mut Lowering<'_>,
        scan: &Scan,
        tangent: &Tangent,
        slots: &Slots,
    ) -> Result<(), Error> {
        let (form, batch) = (&scan.form, scan.batch);
        let (read, skipped) = (self.reads.1, form.own());
        let inner = read.len + if self.segments == 2 { skipped.len } else { 0 };
        let units = if self.units.is_some() { form.units() as u32 } else { 0 };
        let own = [
            ("UNITS", units),
            ("SEGMENTS", self.segments),
            ("LENGTHS", scan.has_lengths()),
            ("SAVE", u32::from(self.leaves)),
        ];
        let consts = [&own[..], &form.consts(self.cell)].concat();
        let shape = Tiles { rows: scan.rows_of(Pass::Forward), batch, columns: self.hidden, inner };
        let (kernel, groups) = shape.kernel(low.target, scan, KernelId::StepTangent, self.cell, &consts)?;
        let params = params::StepTangent {
            t: slots.t as u32,
            batch: batch as u32,
            hidden: self.hidden as u32,
            width: form.width() as u32,
            dot_width: tangent.width as u32,
            r_slot: self.reads.0 as u32,
            r_begin: read.begin as u32,
            r_len: read.len as u32,
            skip_slot: slots.skip as u32,
            skip_begin: skipped.begin as u32,
            skip_len: skipped.len as u32,
            h_from: slots.h_from as u32,
            h_begin: if self.cell == CellStage::Readout { 0 } else { form.h().begin as u32 },
            h_to: slots.h_to as u32,
            to_begin: self.to as u32,
            state_back: (slots.h_from - slots.state.0) as u32,
            ..Default::default()
        };
        let bindings = [
            self.weights.into(),
            self.units.into(),
            scan.lengths(),
            self.saved.into(),
            scan.state.into(),
            scan.h.into(),
            self.x.into(),
            tangent.dots.into(),
        ];
        low.plan
            .dispatch(kernel, params, &bindings, groups)
            .note(format!("t={}", slots.t))
            .flops(2 * batch * inner * self.hidden * self.cell.product_lanes() as usize);
        Ok(())
    }
}

impl Tangent {
    /// The tangent of the final h of each row, `[k, B, R]`.
    pub fn final_h(&self, low: &mut Lowering<'_>, scan: &Scan) -> ScanState {
        let k = scan.form.history();
        let from = (self.dots, self.width);
        let h = rows::final_rows(low.plan, scan, "dot.h_final", from, scan.form.own(), (k, k), scan.steps);
        ScanState { h, c: None, y: None }
    }
}
