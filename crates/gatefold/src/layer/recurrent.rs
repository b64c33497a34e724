//! Recurrent layers: one scan for each direction, and what is put together from them.

use super::form::Form;
use super::scan::{self, Scan};
use super::scan_backward::{self, Ends};
use super::{Lowering, Sequence, elementwise, weights};
use crate::Error;
use crate::plan::Span;
use crate::product::{self, Matrix, Order};
use gatefold_model::{Direction, InitialState, Layer, Recurrent, Role};
use gatefold_shaders::{ELEMENT_WG_SIZE, KernelId, KernelVariant, params};

/// The values in front of a scan's first step, those behind its last, or their gradients.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Start {
    /// `[k, B, R]`, the slot of the smallest t first.
    pub(crate) h: Span,
    /// `[B, H]`, where the cell has a state.
    pub(crate) c: Option<Span>,
    /// `[B, O]`, where an output is fed back.
    pub(crate) y: Option<Span>,
}

/// What forward leaves: everything that backward needs, or the outputs alone.
#[derive(Debug)]
pub(crate) struct RecurrentTape {
    pub(crate) scans: Vec<Scan>,
    output: Sequence,
}

impl RecurrentTape {
    /// `[T, B, output]`, contiguous; zero at padded steps.
    pub(crate) fn output(&self) -> Sequence {
        self.output
    }
}

fn recurrent(layer: &Layer) -> &Recurrent {
    layer.recurrent().expect("only recurrent layers come here")
}

/// The scans of a layer; none of one that is not recurrent.
pub(crate) fn forms(layer: &Layer) -> Vec<Form> {
    let Some(&recurrent) = layer.recurrent() else { return Vec::new() };
    let form = |&reverse: &bool| Form { recurrent, reverse, input: layer.input };
    recurrent.direction.scans().iter().map(form).collect()
}

/// Puts the weights into the order of the kernels.
pub(crate) fn pack(low: &mut Lowering<'_>, layer: &Layer) {
    for form in forms(layer) {
        weights::pack(low, layer, &form);
    }
}

/// The layer's outputs. `starts` has an entry for each scan; without one it starts from zeros.
pub(crate) fn forward(
    low: &mut Lowering<'_>,
    layer: &Layer,
    x: Sequence,
    lengths: Option<Span>,
    starts: &[Option<Start>],
) -> Result<RecurrentTape, Error> {
    let forms = forms(layer);
    assert_eq!(starts.len(), forms.len(), "a start for every scan");
    let mut scans = Vec::new();
    for (form, start) in forms.into_iter().zip(starts) {
        let scan = Scan::declare(low, layer, form, x, lengths);
        scan::start(low, &scan, start.as_ref());
        scan::steps_forward(low, layer, &scan)?;
        scans.push(scan);
    }
    let output = output(low, layer, &scans, starts);
    Ok(RecurrentTape { scans, output })
}

/// The outputs of the scans side by side or added; the slots of h themselves where they are just that.
fn output(low: &mut Lowering<'_>, layer: &Layer, scans: &[Scan], starts: &[Option<Start>]) -> Sequence {
    let (first, width) = (&scans[0], layer.output);
    let (steps, batch) = (first.steps, first.batch);
    let sequence = |span| Sequence { span, steps, batch, width };
    // Padded slots of a reverse scan hold its start.
    let is_clean = !first.form.reverse || first.lengths.is_none() || starts[0].is_none();
    if let ([scan], true) = (scans, first.form.is_plain() && is_clean) {
        let slot = scan.first_slot();
        return sequence(scan.h.part(slot * batch * width, steps * batch * width));
    }
    let out = low.plan.scratch(format!("{}.out", layer.label()), steps * batch * width);
    let sum = recurrent(layer).direction == Direction::BidirectionalSum;
    for (index, scan) in scans.iter().enumerate() {
        let from = scan.form.output();
        let (groups, groups_x) = product::element_groups(steps * batch * from.len);
        let consts = [
            ("WG_SIZE", ELEMENT_WG_SIZE),
            ("LENGTHS", u32::from(scan.lengths.is_some())),
            ("ADD", u32::from(sum && index > 0)),
        ];
        let params = params::ScanOutput {
            steps: steps as u32,
            batch: batch as u32,
            width: scan.form.width() as u32,
            begin: from.begin as u32,
            columns: from.len as u32,
            first_slot: scan.first_slot() as u32,
            out_width: width as u32,
            out_begin: output_begin(layer, index) as u32,
            groups_x,
            ..Default::default()
        };
        let bindings = [scan.h, scan.lengths.unwrap_or(scan.h), out];
        low.plan.dispatch(KernelVariant::new(KernelId::ScanOutput, &consts), params, &bindings, groups);
    }
    sequence(out)
}

/// The column of the layer's output at which a scan's part begins.
fn output_begin(layer: &Layer, scan: usize) -> usize {
    let recurrent = recurrent(layer);
    if recurrent.direction == Direction::BidirectionalSum { 0 } else { scan * recurrent.scan_width() }
}

/// The starts that the layer itself says, the same for every row; none for zeros.
pub(crate) fn initial_starts(low: &mut Lowering<'_>, layer: &Layer, batch: usize) -> Vec<Option<Start>> {
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
                let c = described.cell.has_state().then(|| filled("c0", batch * described.hidden));
                Some(Start { h, c, y: None })
            }
            InitialState::Learned => {
                let mut repeated = |role: Role, name: &str, times: usize| {
                    let row = low.parameters.find(low.plan, layer, role, reverse)?;
                    let all = low.plan.scratch(format!("{label}.{name}"), times * row.len);
                    elementwise::broadcast_rows(low.plan, row, all);
                    Some(all)
                };
                let h = repeated(Role::InitialH, "h0", k * batch)?;
                Some(Start { h, c: repeated(Role::InitialC, "c0", batch), y: None })
            }
        }
    };
    described.direction.scans().iter().map(of_scan).collect()
}

/// Adds the gradients of learned starts, from those of the starts of all rows.
pub(crate) fn add_start_gradients(
    low: &mut Lowering<'_>,
    layer: &Layer,
    d_starts: &[Option<Start>],
) -> Result<(), Error> {
    for (&reverse, d_start) in recurrent(layer).direction.scans().iter().zip(d_starts) {
        let Some(d_start) = d_start else { continue };
        for (role, d) in [(Role::InitialH, Some(d_start.h)), (Role::InitialC, d_start.c)] {
            let into = low.parameters.find_gradient(low.plan, layer, role, reverse);
            if let (Some(d), Some(into)) = (d, into) {
                let (what, rows) = (format!("{}.start", layer.label()), d.len / into.len);
                let (d, sums) = (Matrix::new(d, rows, into.len), [(Order::same(into.len), into)]);
                product::add_column_sums(low.plan, low.target, &what, d, &sums)?;
            }
        }
    }
    Ok(())
}

/// The values of every scan behind its last step.
pub(crate) fn finals(low: &mut Lowering<'_>, tape: &RecurrentTape) -> Vec<Start> {
    states_after(low, tape, tape.output.steps)
}

/// The values of every scan after so many steps; of a reverse scan, or where nothing is saved, behind the last.
pub(crate) fn states_after(low: &mut Lowering<'_>, tape: &RecurrentTape, steps: usize) -> Vec<Start> {
    tape.scans.iter().map(|scan| scan::states_after(low, scan, steps)).collect()
}

/// Adds the gradients of the layer's parameters, those of a learned start aside; gives the gradients of its input and
/// of its starts where they are wanted. `d_finals` has an entry for each scan.
pub(crate) fn backward(
    low: &mut Lowering<'_>,
    layer: &Layer,
    tape: &RecurrentTape,
    d_out: Option<Sequence>,
    d_finals: &[Option<Start>],
    wants_input: bool,
    wants_start: bool,
) -> Result<(Option<Sequence>, Vec<Option<Start>>), Error> {
    let Sequence { steps, batch, width, .. } = tape.output;
    let d_out = d_out.unwrap_or_else(|| {
        let span = low.plan.scratch(format!("{}.d_out", layer.label()), steps * batch * width);
        low.plan.clear(span);
        Sequence { span, steps, batch, width }
    });
    let (mut d_x, mut d_starts): (Option<Sequence>, _) = (None, Vec::new());
    for (index, (scan, d_final)) in tape.scans.iter().zip(d_finals).enumerate() {
        let ends = Ends::declare(low, scan, d_final.as_ref());
        scan_backward::steps_backward(low, layer, scan, &ends, d_out, output_begin(layer, index))?;
        scan_backward::parameter_gradients(low, layer, scan)?;
        d_starts.push(if wants_start {
            Some(scan_backward::start_gradient(low, scan, &ends)?)
        } else {
            None
        });
        if wants_input {
            let part = scan_backward::input_gradient(low, scan)?;
            d_x = Some(match d_x {
                None => part,
                Some(sum) => {
                    elementwise::add_into(low.plan, part.span, sum.span);
                    sum
                }
            });
        }
    }
    Ok((d_x, d_starts))
}
