//! Recurrent layers: one scan for each direction, and the layer's output put together from them.

use super::{Lowering, Sequence, elementwise};
use crate::plan::Members;
use crate::product::{self, Matrix, Order};
use crate::scan::{self, CarriedGradients, Chunks, Columns, Form, Scan, ScanState};
use crate::{Binding, Error, ParameterSpans, Span, Target};
use gatefold_model::{Direction, InitialState, Layer, Recurrent, Role};
use gatefold_shaders::{ELEMENT_WG_SIZE, KernelId, KernelVariant, params};

/// The scans of a layer and its output, as backward needs them.
#[derive(Debug)]
pub struct RecurrentTape {
    /// A scan for each direction, forward first.
    pub scans: Vec<Scan>,
    output: Sequence,
}

impl RecurrentTape {
    /// `[T, B, output]`, contiguous; zero at padded steps.
    pub fn output(&self) -> Sequence {
        self.output
    }
}

fn recurrent(layer: &Layer) -> &Recurrent {
    layer.recurrent().expect("only recurrent layers come here")
}

/// The scans of a layer; empty if it is not recurrent.
pub fn forms(layer: &Layer) -> Vec<Form> {
    let Some(&recurrent) = layer.recurrent() else { return Vec::new() };
    let form = |&reverse: &bool| Form { recurrent, reverse, input: layer.input };
    recurrent.direction.scans().iter().map(form).collect()
}

/// Packs the weights of a layer in the order of the kernels.
pub fn pack(low: &mut Lowering<'_>, layer: &Layer) {
    for form in forms(layer) {
        scan::pack(low, layer, &form);
    }
}

/// The layer's outputs. `initial` has an entry for each scan; `None` means zeros.
///
/// # Errors
/// [`Error::Limit`] for a layer beyond the device's loops or workgroups.
///
/// # Panics
/// If `initial` has another number of scans.
pub fn forward(
    low: &mut Lowering<'_>,
    layer: &Layer,
    x: Sequence,
    lengths: Option<Span>,
    initial: &[Option<ScanState>],
) -> Result<RecurrentTape, Error> {
    let forms = forms(layer);
    assert_eq!(initial.len(), forms.len(), "an initial state for every scan");
    let sequences = scan::Sequences::of(low, layer, x, lengths);
    let mut members = Members::new(low.target, layer.label(), forms.len());
    let mut scans = Vec::new();
    for (index, (form, initial)) in forms.into_iter().zip(initial).enumerate() {
        let scan = Scan::declare(low, layer, form, x, lengths, sequences, (&mut members, index));
        scan::put_initial(low, &scan, initial.as_ref());
        scans.push(scan);
    }
    scan::forward(low, layer, &scans)?;
    let output = output(low, layer, &scans, initial);
    Ok(RecurrentTape { scans, output })
}

/// Whether the layers of a stack ran side by side.
pub(crate) fn runs_as_stack(target: &Target, tapes: &[&RecurrentTape]) -> bool {
    let forms: Vec<Form> = tapes.iter().map(|tape| tape.scans[0].form).collect();
    Chunks::of(target, &forms, tapes[0].output.steps, tapes[0].output.batch).is_some()
}

/// The outputs of the layers of a stack, the lowest first, run side by side; `initial` has the initial states of each. None
/// where a layer after another is the better way.
///
/// # Errors
/// Those of [`forward`].
pub(crate) fn forward_stack(
    low: &mut Lowering<'_>,
    layers: &[&Layer],
    x: Sequence,
    lengths: Option<Span>,
    initial: &[&[Option<ScanState>]],
) -> Result<Vec<RecurrentTape>, Error> {
    let forms: Vec<Form> = layers.iter().flat_map(|layer| forms(layer)).collect();
    let Some(chunks) = Chunks::of(low.target, &forms, x.steps, x.batch) else { return Ok(Vec::new()) };
    let mut members = Members::new(low.target, format!("{}.stack", layers[0].label()), layers.len());
    let (mut scans, mut x): (Vec<Scan>, _) = (Vec::new(), x);
    for (index, (layer, form)) in layers.iter().zip(forms).enumerate() {
        let scan = Scan::declare(low, layer, form, x, lengths, None, (&mut members, index));
        scan::put_initial(low, &scan, initial[index][0].as_ref());
        x = slots_as_output(&scan);
        scans.push(scan);
    }
    scan::forward_stack(low, layers, &scans, &chunks)?;
    let tape = |scan: Scan| RecurrentTape { output: slots_as_output(&scan), scans: vec![scan] };
    Ok(scans.into_iter().map(tape).collect())
}

/// The slots of h after each step, where they are the layer's output as they stand.
fn slots_as_output(scan: &Scan) -> Sequence {
    let (steps, batch, width) = (scan.steps, scan.batch, scan.form.hidden());
    let span = scan.h.part(scan.first_slot() * batch * width, steps * batch * width);
    Sequence { span, steps, batch, width }
}

/// The outputs of the scans, side by side or added; the slots of h themselves if they already are the output.
fn output(low: &mut Lowering<'_>, layer: &Layer, scans: &[Scan], initial: &[Option<ScanState>]) -> Sequence {
    let (first, width) = (&scans[0], layer.output);
    let (steps, batch) = (first.steps, first.batch);
    let sequence = |span| Sequence { span, steps, batch, width };
    // Padded slots of a reverse scan hold its initial state.
    let is_clean = !first.form.reverse || first.lengths.is_none() || initial[0].is_none();
    if let ([scan], true) = (scans, first.form.is_plain() && is_clean) {
        return slots_as_output(scan);
    }
    let out = low.plan.scratch(format!("{}.out", layer.label()), steps * batch * width);
    let sum = recurrent(layer).direction == Direction::BidirectionalSum;
    for (index, scan) in scans.iter().enumerate() {
        let to = (output_begin(layer, index), sum && index > 0);
        put_output(low, scan, (scan.h, scan.form.width()), sequence(out), to);
    }
    sequence(out)
}

/// Writes the output's columns of a scan's slots, in rows of some width, to those of its layer from a column on, or adds
/// them.
fn put_output(
    low: &mut Lowering<'_>,
    scan: &Scan,
    (slots, width): (Span, usize),
    out: Sequence,
    (begin, add): (usize, bool),
) {
    let from = scan.form.output();
    let (groups, groups_x) = product::element_groups(scan.steps * scan.batch * from.len);
    let consts = [
        ("WG_SIZE", ELEMENT_WG_SIZE),
        ("LENGTHS", u32::from(scan.lengths.is_some())),
        ("ADD", u32::from(add)),
    ];
    let params = params::ScanOutput {
        steps: scan.steps as u32,
        batch: scan.batch as u32,
        width: width as u32,
        begin: from.begin as u32,
        columns: from.len as u32,
        first_slot: scan.first_slot() as u32,
        out_width: out.width as u32,
        out_begin: begin as u32,
        groups_x,
        ..Default::default()
    };
    let bindings: [Binding; 3] = [slots.into(), scan.lengths.into(), out.span.into()];
    low.plan.dispatch(KernelVariant::new(KernelId::ScanOutput, &consts), params, &bindings, groups);
}

/// The tangents of a recurrent layer.
#[derive(Debug)]
pub struct RecurrentTangent {
    /// Of its output.
    pub output: Sequence,
    /// Of the final h of each scan; the other states are left out.
    pub finals: Vec<ScanState>,
}

/// The tangents of a layer, from that of its input and, `along`, those of its parameters. The initial states move with the
/// parameters where they are learned and `configured`.
///
/// # Errors
/// Those of [`forward`].
pub fn tangent(
    low: &mut Lowering<'_>,
    along: &ParameterSpans<'_>,
    layer: &Layer,
    tape: &RecurrentTape,
    x_dot: Sequence,
    configured: bool,
) -> Result<RecurrentTangent, Error> {
    let Sequence { steps, batch, width, .. } = tape.output;
    let out = low.plan.scratch(format!("{}.dot.out", layer.label()), steps * batch * width);
    let output = Sequence { span: out, ..tape.output };
    let learned = configured && recurrent(layer).initial == InitialState::Learned;
    let initial = match learned {
        true => configured_initial(&mut low.along(along), layer, batch),
        false => vec![None; tape.scans.len()],
    };
    let sum = recurrent(layer).direction == Direction::BidirectionalSum;
    let mut finals = Vec::new();
    for (index, (scan, initial)) in tape.scans.iter().zip(&initial).enumerate() {
        let tangent = scan::tangent(low, along, layer, scan, x_dot, initial.as_ref())?;
        let to = (output_begin(layer, index), sum && index > 0);
        put_output(low, scan, (tangent.dots, tangent.width), output, to);
        finals.push(tangent.final_h(low, scan));
    }
    Ok(RecurrentTangent { output, finals })
}

/// The column of the layer's output at which a scan's part begins.
fn output_begin(layer: &Layer, scan: usize) -> usize {
    let recurrent = recurrent(layer);
    if recurrent.direction == Direction::BidirectionalSum { 0 } else { scan * recurrent.scan_width() }
}

/// The configured initial states, the same for every row; `None` means zeros.
pub fn configured_initial(low: &mut Lowering<'_>, layer: &Layer, batch: usize) -> Vec<Option<ScanState>> {
    let described = *recurrent(layer);
    let k = described.history();
    let of_scan = |&reverse: &bool| {
        let label = format!("{}{}", layer.label(), if reverse { ".reverse" } else { "" });
        match described.initial {
            InitialState::Zeros => None,
            InitialState::Constant(value) => {
                let mut filled = |name: &str, len: usize| {
                    let all = low.plan.scratch(format!("{label}.{name}"), len);
                    elementwise::fill(low.plan, all, value);
                    all
                };
                let h = filled("h0", k * batch * described.recurrent_width());
                let c = described
                    .cell
                    .has_state()
                    .then(|| filled("c0", described.dilation * batch * described.hidden));
                Some(ScanState { h, c, y: None })
            }
            InitialState::Learned => {
                let mut repeated = |role: Role, name: &str, times: usize| {
                    let row = low.parameters.find(low.plan, layer, role, reverse)?;
                    let all = low.plan.scratch(format!("{label}.{name}"), times * row.len);
                    elementwise::broadcast_rows(low.plan, row, all);
                    Some(all)
                };
                let h = repeated(Role::InitialH, "h0", k * batch)?;
                let c = repeated(Role::InitialC, "c0", described.dilation * batch);
                Some(ScanState { h, c, y: None })
            }
        }
    };
    described.direction.scans().iter().map(of_scan).collect()
}

/// The scan of a stream's layer, its buffers outside the plan.
fn ring(low: &mut Lowering<'_>, layer: &Layer, x: Sequence) -> Scan {
    let forms = forms(layer);
    assert_eq!(forms.len(), 1, "{} goes forward in a stream", layer.place());
    Scan::declare_ring(low, layer, forms[0], x)
}

/// One step of a stream at the given turn of its ring: the layer's output, `[1, B, O]`, and, if wanted, the new h,
/// `[1, B, R]`.
///
/// # Errors
/// Those of [`forward`].
///
/// # Panics
/// If the layer has a reverse scan.
pub fn ring_step(
    low: &mut Lowering<'_>,
    layer: &Layer,
    x: Sequence,
    turn: usize,
    wants_hidden: bool,
) -> Result<(Sequence, Option<Sequence>), Error> {
    let scan = ring(low, layer, x);
    let slot = scan::stream_step(low, layer, &scan, turn % (scan.form.history() + 1))?;
    let mut part = |name: &str, columns: Columns| {
        let (steps, batch, width) = (1, x.batch, columns.len);
        let span = low.plan.scratch(format!("{}.{name}", layer.label()), batch * width);
        scan::copy_slot(low, &scan, slot, columns, span);
        Sequence { span, steps, batch, width }
    };
    let output = part("out", scan.form.output());
    Ok((output, wants_hidden.then(|| part("h_final", scan.form.own()))))
}

/// Puts the configured initial state of a stream's layer into its ring.
///
/// # Panics
/// If the layer has a reverse scan.
pub fn reset_ring(low: &mut Lowering<'_>, layer: &Layer, batch: usize) {
    let initial = configured_initial(low, layer, batch);
    // The input is not read: any span of its length stands for it.
    let span = low.plan.scratch(format!("{}.no_input", layer.label()), batch * layer.input);
    let scan = ring(low, layer, Sequence { span, steps: 1, batch, width: layer.input });
    scan::put_initial(low, &scan, initial[0].as_ref());
}

/// Adds the gradients of learned initial states, from those of all rows.
///
/// # Errors
/// [`Error::Limit`] for more rows than the device can add up.
pub fn add_initial_gradients(
    low: &mut Lowering<'_>,
    layer: &Layer,
    d_initial: &[Option<ScanState>],
) -> Result<(), Error> {
    for (&reverse, d_scan) in recurrent(layer).direction.scans().iter().zip(d_initial) {
        let Some(d_scan) = d_scan else { continue };
        for (role, d) in [(Role::InitialH, Some(d_scan.h)), (Role::InitialC, d_scan.c)] {
            let into = low.parameters.find_gradient(low.plan, layer, role, reverse);
            if let (Some(d), Some(into)) = (d, into) {
                let (what, rows) = (format!("{}.initial", layer.label()), d.len / into.len);
                let (d, sums) = (Matrix::new(d, rows, into.len), [(Order::same(into.len), into)]);
                product::add_column_sums(low.plan, low.target, &what, d, &sums)?;
            }
        }
    }
    Ok(())
}

/// The gradients with respect to a layer's input and to its initial states, if wanted.
pub(crate) type InputAndInitial = (Option<Sequence>, Vec<Option<ScanState>>);

/// The final state of every scan.
pub fn finals(low: &mut Lowering<'_>, tape: &RecurrentTape) -> Vec<ScanState> {
    states_after(low, tape, tape.output.steps)
}

/// The state of every scan after `steps` steps, which must be all of them for a reverse scan or if nothing is saved.
pub fn states_after(low: &mut Lowering<'_>, tape: &RecurrentTape, steps: usize) -> Vec<ScanState> {
    tape.scans.iter().map(|scan| scan::states_after(low, scan, steps)).collect()
}

/// [`backward`] of the layers of a stack that [`forward_stack`] ran, the lowest first. Only the lowest has a gradient with
/// respect to its input, if wanted: those of the others were used up.
///
/// # Panics
/// If the layers did not run side by side.
///
/// # Errors
/// Those of [`forward`].
pub(crate) fn backward_stack(
    low: &mut Lowering<'_>,
    layers: &[&Layer],
    tapes: &[&RecurrentTape],
    d_out: Option<Sequence>,
    d_finals: &[Vec<Option<ScanState>>],
    wants_input: bool,
    wants_initial: &[bool],
) -> Result<Vec<InputAndInitial>, Error> {
    let scans: Vec<Scan> = tapes.iter().map(|tape| tape.scans[0].clone()).collect();
    let forms: Vec<Form> = scans.iter().map(|scan| scan.form).collect();
    let chunks = Chunks::of(low.target, &forms, scans[0].steps, scans[0].batch);
    let chunks = chunks.expect("the stack ran side by side");
    let mut members = Members::new(low.target, format!("{}.stack", layers[0].label()), layers.len());
    let (mut carried, mut d_outs) = (Vec::new(), Vec::new());
    for (index, (scan, d_final)) in scans.iter().zip(d_finals).enumerate() {
        carried.push(CarriedGradients::declare(low, scan, d_final[0].as_ref(), (&mut members, index)));
        let all = slots_as_output(scan);
        let names = (index, scan.label.as_str());
        let span = members.part(names, "d_out", all.len(), |name, len| low.plan.scratch(name, len));
        d_outs.push(Sequence { span, ..all });
    }
    let highest = d_outs[d_outs.len() - 1].span;
    match d_out {
        Some(d_out) => low.plan.copy(d_out.span, highest),
        None => low.plan.clear(highest),
    }
    scan::backward_stack(low, layers, &scans, &carried, &d_outs, &chunks)?;
    let mut found = Vec::new();
    for (index, (scan, carried)) in scans.iter().zip(&carried).enumerate() {
        scan::parameter_gradients(low, layers[index], scan, carried)?;
        let d_initial =
            wants_initial[index].then(|| scan::initial_gradient(low, scan, carried)).transpose()?;
        let d_x = (wants_input && index == 0).then(|| scan::input_gradient(low, scan)).transpose()?;
        found.push((d_x, vec![d_initial]));
    }
    Ok(found)
}

/// Adds the gradients of the layer's parameters, except those of a learned initial state. Returns the gradients with
/// respect to its input and to its initial states, if wanted. `d_final` has an entry for each scan; `None` means zeros.
///
/// # Errors
/// Those of [`forward`].
pub fn backward(
    low: &mut Lowering<'_>,
    layer: &Layer,
    tape: &RecurrentTape,
    d_out: Option<Sequence>,
    d_final: &[Option<ScanState>],
    wants_input: bool,
    wants_initial: bool,
) -> Result<InputAndInitial, Error> {
    let Sequence { steps, batch, width, .. } = tape.output;
    let d_out = d_out.unwrap_or_else(|| {
        let span = low.plan.scratch(format!("{}.d_out", layer.label()), steps * batch * width);
        low.plan.clear(span);
        Sequence { span, steps, batch, width }
    });
    let mut members = Members::new(low.target, layer.label(), tape.scans.len());
    let mut carried = Vec::new();
    for (index, (scan, d_final)) in tape.scans.iter().zip(d_final).enumerate() {
        carried.push(CarriedGradients::declare(low, scan, d_final.as_ref(), (&mut members, index)));
    }
    let d_begins: Vec<usize> = (0..tape.scans.len()).map(|index| output_begin(layer, index)).collect();
    scan::backward(low, layer, &tape.scans, &carried, d_out, &d_begins)?;
    let (mut d_x, mut d_initial): (Option<Sequence>, _) = (None, Vec::new());
    for (scan, carried) in tape.scans.iter().zip(&carried) {
        scan::parameter_gradients(low, layer, scan, carried)?;
        d_initial.push(if wants_initial { Some(scan::initial_gradient(low, scan, carried)?) } else { None });
        if wants_input {
            let part = scan::input_gradient(low, scan)?;
            d_x = Some(match d_x {
                None => part,
                Some(sum) => {
                    elementwise::add_into(low.plan, part.span, sum.span);
                    sum
                }
            });
        }
    }
    Ok((d_x, d_initial))
}
