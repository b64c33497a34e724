//! Gradients as products over all steps, whatever the scan's strategy.

use super::{CarriedGradients, Scan, dressed};
use crate::layer::{Lowering, Sequence};
use crate::product::{self, LaneMap, Matrix, Order};
use crate::{Error, Span};
use gatefold_model::{Activation, GruGate, Layer, Role};
use gatefold_shaders::{ELEMENT_WG_SIZE, KernelId, KernelVariant, params};
use std::ops::Range;

/// Adds the gradients of the scan's parameters: products over all steps, after [`backward`](super::backward).
///
/// # Errors
/// [`Error::Limit`] for more rows or columns than the device can add up.
pub fn parameter_gradients(
    low: &mut Lowering<'_>,
    layer: &Layer,
    scan: &Scan,
    carried: &CarriedGradients,
) -> Result<(), Error> {
    let (form, hidden) = (&scan.form, scan.form.hidden());
    let k = form.history();
    // The slots of h(t-d), h(t-k) and h(t) at step 0.
    let d = form.dilation();
    let (before, skipped, now) = if form.reverse { (d, k, 0) } else { (k - d, 0, k) };
    let (own, from_input) = (form.own(), form.input_map());
    let d_pre = scan.d_pre();
    let (d_x, d_r) = dressed::product_gradients(scan);
    let read = dressed::masked_rows(scan).unwrap_or_else(|| scan.rows(before, own));
    let mut products: Vec<(Role, Matrix, Matrix, LaneMap, &str)> = vec![
        (Role::InputWeight, scan.x.matrix(), d_x, from_input, "w_ih"),
        (Role::RecurrentWeight, read, d_r, form.recurrent_map(), "w_hh"),
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
    let whole = low.parameters.find_gradient(low.plan, layer, Role::RecurrentWeight, form.reverse);
    let dropped = whole.and_then(|whole| dressed::begin_dropped(low, scan, whole));
    for (role, read, d, map, name) in products {
        if let Some(gradient) = low.parameters.find_gradient(low.plan, layer, role, form.reverse) {
            let gradient = dropped.filter(|_| role == Role::RecurrentWeight).unwrap_or(gradient);
            let order = Order::columns_units_lanes(map, hidden, read.columns);
            let what = format!("{}.{name}", scan.label);
            product::add_gradient(low.plan, low.target, &what, (read.transposed(), d), order, gradient)?;
        }
    }

    if let (Some(own), Some(whole)) = (dropped, whole) {
        dressed::finish_dropped(low, layer, scan, own, whole);
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
    if scan.dressed.is_some() {
        return dressed::add_sums(low, layer, scan, carried);
    }
    if let Some(d) = low.parameters.find_gradient(low.plan, layer, Role::Peephole, form.reverse) {
        peephole_gradient(low, scan, d)?;
    }
    let (Some(readout), Some(d_readout)) = (readout, scan.readout) else { return Ok(()) };
    let rows = scan.steps * scan.batch;
    let d_readout = Matrix::new(d_readout.part(0, rows * readout.width), rows, readout.width);
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
    let slots = scan.form.dilation() * batch;
    let (before, after) = if scan.form.reverse { (slots, 0) } else { (0, slots) };
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
            &[scan.gates.into(), scan.state.into(), parts.into()],
            slices.groups,
        )
        .note(what.clone());
    product::unpack(low.plan, &what, parts, slices.count, Order::same(3 * hidden), d);
    Ok(())
}

/// The gradient with respect to the scan's inputs, after [`backward`](super::backward).
///
/// # Errors
/// [`Error::Limit`] for a product that the device cannot split.
pub fn input_gradient(low: &mut Lowering<'_>, scan: &Scan) -> Result<Sequence, Error> {
    let d_x = low.plan.scratch(format!("{}.d_x", scan.label), scan.x.len());
    product_with_weights(low, scan, dressed::product_gradients(scan).0, d_x)?;
    Ok(Sequence { span: d_x, ..scan.x })
}

/// The gradient with respect to the inputs of some steps, once those have run.
pub(super) fn input_gradient_of(
    low: &mut Lowering<'_>,
    scan: &Scan,
    steps: &Range<usize>,
    d_x: Span,
) -> Result<(), Error> {
    let (rows, width) = (steps.len() * scan.batch, scan.form.hidden() * scan.form.lanes());
    product_with_weights(low, scan, Matrix::new(scan.gates_of(steps), rows, width), d_x)
}

fn product_with_weights(low: &mut Lowering<'_>, scan: &Scan, d_pre: Matrix, d_x: Span) -> Result<(), Error> {
    let form = &scan.form;
    let wt = Matrix::new(scan.transposed().w, form.hidden() * form.lanes(), form.input);
    let what = format!("{}.d_x", scan.label);
    product::matmul(low.plan, low.target, &what, (d_pre, wt), None, Activation::Identity, d_x)
}
