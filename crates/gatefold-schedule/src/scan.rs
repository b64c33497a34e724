//! A scan: one direction of a recurrent layer over time. The product of all steps' inputs comes first, then the steps;
//! products over all steps compute the gradients of the weights. Only the [`Strategy`] decides how steps are spread
//! over dispatches.
//!
//! Everything is stored in time order. h has history slots before the steps: a forward scan has h(t) in slot t + k and its
//! initial values in slots 0 to k - 1; a reverse scan has h(t) in slot t and its initial values in slots T to T + k - 1,
//! with lengths in the k slots after each row's own last step.

mod carried;
mod dressed;
mod form;
mod gradients;
mod grid;
mod interleaved;
mod packed;
mod rows;
mod stacked;
mod state;
mod step;
mod strategy;
mod tangent;
mod tuning;
mod workgroup;

pub use carried::CarriedGradients;
pub use form::{Columns, Form, Readout};
pub use gradients::{input_gradient, parameter_gradients};
pub use grid::{GridTile, probe};
pub use interleaved::Sequences;
pub use packed::{Packed, Transposed, pack};
pub use rows::{copy_slot, put_initial, states_after};
pub(crate) use stacked::{Chunks, backward_stack, forward_stack};
pub use state::ScanState;
pub use strategy::{Pass, ScanChoice, Strategy};
pub use tangent::{Tangent, tangent};
pub use tuning::{Tuning, key};
pub use workgroup::Tile;

use crate::layer::{Lowering, Purpose, Sequence};
use crate::plan::Members;
use crate::product::{self, Matrix, StepRows};
use crate::{Binding, Error, Given, Plan, Span};
use dressed::Dressed;
use gatefold_model::{Activation, Layer};
use gatefold_shaders::NO_STEP;
use std::ops::Range;

/// A scan and the buffers of its sequence.
#[derive(Clone, Debug)]
pub struct Scan {
    /// The scan's form.
    pub form: Form,
    /// Its name in plans, such as `layer0.reverse`.
    pub label: String,
    /// T
    pub steps: usize,
    /// B
    pub batch: usize,
    /// `[T, B, I]`, the layer's inputs.
    pub x: Sequence,
    /// `[B]`, `u32`; `None` if all rows last T steps.
    pub lengths: Option<Span>,
    /// The scan's weights.
    pub packed: Packed,
    /// The sequences that a dilated scan interleaves, over which its steps go; T is then rounded up to a multiple of d in
    /// the buffers below.
    pub sequences: Option<Sequences>,
    /// `[T, B, H]` of lanes: the values saved at every step; after backward, the gradients with respect to the
    /// pre-activations.
    pub gates: Span,
    /// `[T+d, B, H]`; in inference `[d, B, H]`, the last of each sequence. `None` if the cell has no state.
    pub state: Option<Span>,
    /// `[T+k, B, width]`; in a stream `[k+1, B, width]`, a ring.
    pub h: Span,
    /// `[T, B, R]`: the saved readout; after backward, the gradient before its activation. `None` in inference or
    /// without a readout.
    pub readout: Option<Span>,
    /// Whether it saves what backward needs.
    pub saves: bool,
    /// The way its steps are spread over dispatches, forward and backward.
    pub strategies: [Strategy; 2],
    /// With layer normalisation or noise in its steps.
    dressed: Option<Dressed>,
    /// Whether its recurrent weights went through DropConnect.
    drops_weights: bool,
}

/// The slots that a step reads and writes.
#[derive(Clone, Copy, Debug)]
struct Slots {
    t: usize,
    h_from: usize,
    h_to: usize,
    /// h(t-k)
    skip: usize,
    state: (usize, usize),
}

impl Scan {
    /// A scan over whole sequences, its buffers in the plan and, where it is one of two directions, beside those of the
    /// other.
    pub(crate) fn declare(
        low: &mut Lowering<'_>,
        layer: &Layer,
        form: Form,
        x: Sequence,
        lengths: Option<Span>,
        sequences: Option<Sequences>,
        (members, member): (&mut Members, usize),
    ) -> Scan {
        let saves = low.purpose == Purpose::Training;
        let steps = x.steps.next_multiple_of(form.dilation());
        let slots = [steps + form.history(), if saves { steps + form.dilation() } else { form.dilation() }];
        let label = form.label(layer);
        let declare = |plan: &mut Plan, part: &'static str, len| {
            members.part((member, &label), part, len, |name, len| plan.scratch(name, len))
        };
        Scan::with_slots(low, layer, form, x, lengths, sequences, (saves, steps, slots), declare)
    }

    /// One step of a stream: h in a ring of slots, and all buffers outside the plan.
    pub fn declare_ring(low: &mut Lowering<'_>, layer: &Layer, form: Form, x: Sequence) -> Scan {
        let index = layer.index;
        let declare = |plan: &mut Plan, part, len| plan.given(Given::Stream { layer: index, part }, len);
        // A dilated layer's state goes round like h; that of others stays where it is.
        let slots = [form.history() + 1, if form.dilation() > 1 { form.dilation() + 1 } else { 1 }];
        Scan::with_slots(low, layer, form, x, None, None, (false, x.steps, slots), declare)
    }

    #[expect(clippy::too_many_arguments, reason = "both ways of declaring a scan meet here")]
    fn with_slots(
        low: &mut Lowering<'_>,
        layer: &Layer,
        form: Form,
        x: Sequence,
        lengths: Option<Span>,
        sequences: Option<Sequences>,
        (saves, gate_steps, [h_slots, state_slots]): (bool, usize, [usize; 2]),
        mut declare: impl FnMut(&mut Plan, &'static str, usize) -> Span,
    ) -> Scan {
        let label = form.label(layer);
        let (steps, batch, step_len) = (x.steps, x.batch, x.batch * form.hidden());
        let mut packed = Packed::declare(low, layer.owner, &form);
        let drops_weights = low.drops && form.recurrent.noise.weights > 0.0;
        if drops_weights {
            packed = packed::drop_weights(low, layer, &form, packed);
        }
        let is_dressed = dressed::is_dressed(low, &form);
        let rows = if sequences.is_some() { form.dilation() * batch } else { batch };
        let strategies = Pass::ALL.map(|pass| match form.recurrent.is_dressed() && !is_dressed {
            // The plain cell's tiles are others.
            true => Strategy::STEP,
            false => Strategy::choose(low.target, &form, pass, rows),
        });
        let (gates, state, dressed) = if is_dressed {
            let (gates, state, dressed) =
                dressed::declare(low, &form, &label, (steps, batch, saves), strategies, &mut declare);
            (gates, state, Some(dressed))
        } else {
            let gates = declare(low.plan, "gates", gate_steps * step_len * form.lanes());
            let state = form.cell().has_state().then(|| declare(low.plan, "state", state_slots * step_len));
            (gates, state, None)
        };
        let mut buffer = |part: &'static str, len: usize| declare(low.plan, part, len);
        let h = buffer("h", h_slots * batch * form.width());
        let readout = form.readout().filter(|_| saves);
        let readout = readout.map(|readout| buffer("readout", gate_steps * batch * readout.width));
        Scan {
            form,
            label,
            steps,
            batch,
            x,
            lengths,
            packed,
            sequences,
            gates,
            state,
            h,
            readout,
            saves,
            strategies,
            dressed,
            drops_weights,
        }
    }

    /// The rows of an invocation in a dispatch of one step, if the strategy says so.
    fn rows_of(&self, pass: Pass) -> Option<u32> {
        match self.strategies[pass as usize] {
            Strategy::StepPerDispatch { rows } => rows,
            Strategy::SequencePerWorkgroup(_) | Strategy::PersistentGrid(_) => None,
        }
    }

    fn step_len(&self) -> usize {
        self.batch * self.form.hidden()
    }

    /// Elements of a slot of h.
    fn slot_len(&self) -> usize {
        self.batch * self.form.width()
    }

    /// The slot of h of step 0.
    pub fn first_slot(&self) -> usize {
        if self.form.reverse { 0 } else { self.form.history() }
    }

    /// The first slot of the initial values, if there are no lengths.
    fn initial_slot(&self) -> usize {
        if self.form.reverse { self.steps } else { 0 }
    }

    /// The slot of the cell state before the first step.
    fn initial_state(&self) -> usize {
        if self.form.reverse && self.saves { self.steps } else { 0 }
    }

    /// Steps in the order of the scan.
    fn order(&self) -> impl DoubleEndedIterator<Item = usize> + use<> {
        self.in_order(0..self.steps)
    }

    /// Some of the steps in the order of the scan.
    fn in_order(&self, some: Range<usize>) -> impl DoubleEndedIterator<Item = usize> + use<> {
        let (steps, reverse) = (self.steps, self.form.reverse);
        some.map(move |n| if reverse { steps - 1 - n } else { n })
    }

    fn slots(&self, t: usize) -> Slots {
        let k = self.form.history();
        let state = match (self.saves, self.form.reverse) {
            (false, _) => (0, 0),
            (true, false) => (t, t + 1),
            (true, true) => (t + 1, t),
        };
        match self.form.reverse {
            false => Slots { t, h_from: t + k - 1, h_to: t + k, skip: t, state },
            true => Slots { t, h_from: t + 1, h_to: t, skip: t + k, state },
        }
    }

    /// The step that comes `by` steps after t in the scan, if there is one.
    fn after(&self, t: usize, by: usize) -> u32 {
        let step =
            if self.form.reverse { t.checked_sub(by) } else { Some(t + by).filter(|&t| t < self.steps) };
        step.map_or(NO_STEP, |step| step as u32)
    }

    /// Part of the rows of all steps, from a slot of h on.
    fn rows(&self, slot: usize, columns: Columns) -> Matrix {
        let offset = self.h.offset + slot * self.slot_len() + columns.begin;
        let len = self.steps * self.slot_len() - columns.begin;
        let span = Span { offset, len, ..self.h };
        let (rows, row_stride) = (self.steps * self.batch, self.form.width());
        Matrix { span, rows, columns: columns.len, row_stride, column_stride: 1, steps: None }
    }

    /// The lanes of every step, without those past the last step of a dilated scan.
    fn all_gates(&self) -> Span {
        self.gates.part(0, self.steps * self.step_len() * self.form.lanes())
    }

    /// The lanes of some steps.
    fn gates_of(&self, steps: &Range<usize>) -> Span {
        let step = self.step_len() * self.form.lanes();
        self.gates.part(steps.start * step, steps.len() * step)
    }

    fn d_pre(&self) -> Matrix {
        let width = self.form.hidden() * self.form.lanes();
        let all = Matrix::new(self.all_gates(), self.steps * self.batch, width);
        Matrix { steps: self.step_rows(), ..all }
    }

    /// The ends of the rows of all steps, if they have lengths.
    fn step_rows(&self) -> Option<StepRows> {
        self.lengths.map(|lengths| StepRows { lengths, batch: self.batch })
    }

    /// One lane of every unit.
    fn d_lane(&self, lane: usize) -> Matrix {
        let (lanes, gates) = (self.form.lanes(), self.all_gates());
        let span = Span { offset: gates.offset + lane, len: gates.len - lane, ..gates };
        Matrix { span, columns: self.form.hidden(), column_stride: lanes, ..self.d_pre() }
    }

    /// The binding of the lengths.
    fn lengths(&self) -> Binding {
        self.lengths.into()
    }

    fn has_lengths(&self) -> u32 {
        u32::from(self.lengths.is_some())
    }

    fn segments(&self) -> u32 {
        if self.form.recurrent.skip.is_some() { 2 } else { 1 }
    }

    fn transposed(&self) -> Transposed {
        self.packed.transposed.expect("a plan for training packs both directions")
    }
}

/// All steps of the scans of a layer forward: the products of the inputs, then the recurrences, side by side. The initial
/// states must be in their slots already.
///
/// # Errors
/// [`Error::Limit`] for a layer beyond the device's loops or workgroups.
pub fn forward(low: &mut Lowering<'_>, layer: &Layer, scans: &[Scan]) -> Result<(), Error> {
    scans.iter().try_for_each(|scan| input_product(low, scan, None))?;
    let mut begins = Vec::with_capacity(scans.len());
    for scan in scans {
        begins.push(low.plan.here());
        match &scan.dressed {
            Some(dressed) => dressed::forward(low, layer, scan, dressed)?,
            None => {
                let scan = &*scan.stepped();
                steps_forward(low, layer, scan, 0..scan.steps)?;
            }
        }
    }
    low.plan.merge(&begins, scans.len());
    Ok(())
}

/// Some steps of a scan forward, counted in its own order; all where workgroups wait for each other.
fn steps_forward(
    low: &mut Lowering<'_>,
    layer: &Layer,
    scan: &Scan,
    steps: Range<usize>,
) -> Result<(), Error> {
    match &scan.strategies[Pass::Forward as usize] {
        Strategy::StepPerDispatch { .. } => step::forward(low, layer, scan, steps),
        Strategy::SequencePerWorkgroup(tile) => workgroup::forward(low, layer, scan, tile, steps),
        Strategy::PersistentGrid(tile) => grid::forward(low, layer, scan, tile),
    }
}

/// All steps of the scans of a layer backward. Leaves the gradients with respect to the pre-activations in the scans'
/// buffers. Each scan's part of `d_out` begins at one of the columns of `d_begins`.
///
/// # Errors
/// Those of [`forward`].
pub fn backward(
    low: &mut Lowering<'_>,
    layer: &Layer,
    scans: &[Scan],
    carried: &[CarriedGradients],
    d_out: Sequence,
    d_begins: &[usize],
) -> Result<(), Error> {
    let all_steps = interleaved::all_steps(low, &scans[0], d_out);
    let mut begins = Vec::with_capacity(scans.len());
    for ((scan, carried), &d_begin) in scans.iter().zip(carried).zip(d_begins) {
        begins.push(low.plan.here());
        match &scan.dressed {
            Some(dressed) => dressed::backward(low, layer, scan, dressed, carried, (d_out, d_begin))?,
            None => {
                let scan = &*scan.stepped();
                steps_backward(low, layer, scan, carried, (all_steps, d_begin), 0..scan.steps)?;
            }
        }
    }
    low.plan.merge(&begins, scans.len());
    Ok(())
}

/// Some steps of a scan backward, counted in the order of the scan and run from the last to the first; all where workgroups
/// wait for each other.
fn steps_backward(
    low: &mut Lowering<'_>,
    layer: &Layer,
    scan: &Scan,
    carried: &CarriedGradients,
    d_out: (Sequence, usize),
    steps: Range<usize>,
) -> Result<(), Error> {
    match &scan.strategies[Pass::Backward as usize] {
        Strategy::StepPerDispatch { .. } => step::backward(low, layer, scan, carried, d_out, steps),
        Strategy::SequencePerWorkgroup(tile) => {
            workgroup::backward(low, layer, scan, tile, carried, d_out, steps)
        }
        Strategy::PersistentGrid(tile) => grid::backward(low, layer, scan, tile, carried, d_out),
    }
}

/// The gradient with respect to the initial state, after [`backward`].
///
/// # Errors
/// Those of [`forward`].
pub fn initial_gradient(
    low: &mut Lowering<'_>,
    scan: &Scan,
    carried: &CarriedGradients,
) -> Result<ScanState, Error> {
    if scan.dressed.is_some() {
        return Ok(dressed::initial_gradient(low, scan, carried));
    }
    let found = step::initial_gradient(low, &scan.stepped(), carried)?;
    Ok(interleaved::initial_by_time(low, scan, found))
}

/// One step of a stream, at turn `n` of its ring, below the number of slots: h moves on by one slot, the state stays
/// where it is unless the layer is dilated. Returns the slot of the new h.
///
/// # Errors
/// Those of [`forward`].
pub fn stream_step(low: &mut Lowering<'_>, layer: &Layer, scan: &Scan, n: usize) -> Result<usize, Error> {
    let k = scan.form.history();
    let (oldest, newest, to) = (n % (k + 1), (n + k - 1) % (k + 1), (n + k) % (k + 1));
    let (h_from, state) = if scan.form.dilation() > 1 { (oldest, (oldest, to)) } else { (newest, (0, 0)) };
    let slots = Slots { t: 0, h_from, h_to: to, skip: oldest, state };
    input_product(low, scan, None)?;
    match &scan.dressed {
        Some(dressed) => dressed::stream_step(low, layer, scan, dressed, slots)?,
        None => step::one(low, layer, scan, slots)?,
    }
    Ok(slots.h_to)
}

/// The products of the inputs of all steps, or of some steps of a plain scan forward.
fn input_product(low: &mut Lowering<'_>, scan: &Scan, steps: Option<&Range<usize>>) -> Result<(), Error> {
    let w = Matrix::new(scan.packed.w, scan.form.input, scan.form.hidden() * scan.form.lanes());
    let what = format!("{}.x", scan.label);
    let (x, bias, to) = match (steps, dressed::input_place(scan)) {
        (Some(steps), _) => (scan.x.part(steps).matrix(), scan.packed.bias, scan.gates_of(steps)),
        (None, Some(to)) => (scan.x.rows(scan.lengths), None, to),
        (None, None) => (scan.x.rows(scan.lengths), scan.packed.bias, scan.all_gates()),
    };
    product::matmul(low.plan, low.target, &what, (x, w), bias, Activation::Identity, to)
}
