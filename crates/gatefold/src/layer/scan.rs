//! One scan over time: one product for the inputs of all steps, one fused dispatch a step and stage, products over all
//! steps for the gradients.
//!
//! Everything is stored in time order. h has history slots in front of the steps: a forward scan has h(t) in slot t + k and
//! its start in slots 0 to k - 1; a reverse scan has h(t) in slot t and its start in slots T to T + k - 1, with lengths in
//! the k slots behind each row's own last step.

use super::form::{Columns, Form};
use super::recurrent::Start;
use super::weights::{Packed, Transposed};
use super::{Lowering, Purpose, Sequence};
use crate::Error;
use crate::gpu::Target;
use crate::plan::{MAX_GROUPS, Plan, Span};
use crate::product::{self, Matrix, StepRows};
use gatefold_model::{Activation, Layer, Role};
use gatefold_shaders::{
    CellStage, Columns as ColumnWidth, ELEMENT_WG_SIZE, KernelId, KernelVariant, NO_STEP, TILE_WG_SIZE,
    params,
};

/// A scan and the buffers of its sequence.
#[derive(Clone, Debug)]
pub(crate) struct Scan {
    pub(crate) form: Form,
    pub(crate) label: String,
    pub(crate) steps: usize,
    pub(crate) batch: usize,
    pub(crate) x: Sequence,
    /// `[B]`, whole numbers.
    pub(crate) lengths: Option<Span>,
    pub(crate) packed: Packed,
    /// `[T, B, H]` of lanes: saved of every step, after backward the gradient of the pre-activations.
    pub(crate) gates: Span,
    /// `[T+1, B, H]`; in inference `[1, B, H]`, the last alone. One element where the cell has no state.
    pub(crate) state: Span,
    /// `[T+k, B, width]`; in a stream `[k+1, B, width]`, a ring.
    pub(crate) h: Span,
    /// `[T, B, R]`: the readout as it was saved, after backward the gradient in front of its function. In inference one
    /// element.
    pub(crate) readout: Option<Span>,
    pub(crate) saves: bool,
}

/// Which slots a step reads and writes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slots {
    t: usize,
    pub(super) h_from: usize,
    h_to: usize,
    /// h(t-k)
    skip: usize,
    pub(super) state: (usize, usize),
}

impl Scan {
    pub(crate) fn declare(
        low: &mut Lowering<'_>,
        layer: &Layer,
        form: Form,
        x: Sequence,
        lengths: Option<Span>,
    ) -> Scan {
        let saves = low.purpose == Purpose::Training;
        let h_slots = x.steps + form.history();
        Scan::with_slots(low, layer, form, x, lengths, (saves, h_slots), Plan::scratch::<String>)
    }

    /// One step of a stream: h in a ring of slots, and all buffers outside the plan.
    pub(crate) fn declare_ring(low: &mut Lowering<'_>, layer: &Layer, form: Form, x: Sequence) -> Scan {
        Scan::with_slots(low, layer, form, x, None, (false, form.history() + 1), Plan::given::<String>)
    }

    fn with_slots(
        low: &mut Lowering<'_>,
        layer: &Layer,
        form: Form,
        x: Sequence,
        lengths: Option<Span>,
        (saves, h_slots): (bool, usize),
        declare: impl Fn(&mut Plan, String, usize) -> Span,
    ) -> Scan {
        let label = if form.reverse { format!("{}.reverse", layer.label()) } else { layer.label() };
        let (steps, batch, step_len) = (x.steps, x.batch, x.batch * form.hidden());
        let packed = Packed::declare(low.plan, layer.owner, &form, low.purpose);
        let state_len = match (form.cell().has_state(), saves) {
            (false, _) => 1,
            (true, true) => (steps + 1) * step_len,
            (true, false) => step_len,
        };
        let mut buffer = |name: &str, len: usize| declare(low.plan, format!("{label}.{name}"), len);
        let gates = buffer("gates", steps * step_len * form.lanes());
        let state = buffer(if form.cell().has_state() { "state" } else { "no_state" }, state_len);
        let h = buffer("h", h_slots * batch * form.width());
        let readout = form
            .readout()
            .map(|readout| buffer("readout", if saves { steps * batch * readout.width } else { 1 }));
        Scan { form, label, steps, batch, x, lengths, packed, gates, state, h, readout, saves }
    }

    pub(super) fn step_len(&self) -> usize {
        self.batch * self.form.hidden()
    }

    /// Elements of a slot of h.
    fn slot_len(&self) -> usize {
        self.batch * self.form.width()
    }

    /// The slot of h of step 0.
    pub(crate) fn first_slot(&self) -> usize {
        if self.form.reverse { 0 } else { self.form.history() }
    }

    /// The first slot of the start, where no row has a length of its own.
    fn start_slot(&self) -> usize {
        if self.form.reverse { self.steps } else { 0 }
    }

    /// Where the state stands in front of the first step: its slot.
    fn start_state(&self) -> usize {
        if self.form.reverse && self.saves { self.steps } else { 0 }
    }

    /// Steps in the order of the scan.
    pub(super) fn order(&self) -> impl DoubleEndedIterator<Item = usize> + use<> {
        let (steps, reverse) = (self.steps, self.form.reverse);
        (0..steps).map(move |n| if reverse { steps - 1 - n } else { n })
    }

    pub(super) fn slots(&self, t: usize) -> Slots {
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

    /// The step that is `by` steps behind t in the scan, if there is one.
    pub(super) fn behind(&self, t: usize, by: usize) -> u32 {
        let step =
            if self.form.reverse { t.checked_sub(by) } else { Some(t + by).filter(|&t| t < self.steps) };
        step.map_or(NO_STEP, |step| step as u32)
    }

    /// Part of the rows of all steps, from a slot of h on.
    pub(super) fn rows(&self, slot: usize, columns: Columns) -> Matrix {
        let offset = self.h.offset + slot * self.slot_len() + columns.begin;
        let len = self.steps * self.slot_len() - columns.begin;
        let span = Span { offset, len, ..self.h };
        let (rows, row_stride) = (self.steps * self.batch, self.form.width());
        Matrix { span, rows, columns: columns.len, row_stride, column_stride: 1, steps: None }
    }

    pub(super) fn d_pre(&self) -> Matrix {
        let width = self.form.hidden() * self.form.lanes();
        let all = Matrix::new(self.gates, self.steps * self.batch, width);
        Matrix { steps: self.step_rows(), ..all }
    }

    /// Where the rows of all steps end, if they have lengths.
    pub(super) fn step_rows(&self) -> Option<StepRows> {
        self.lengths.map(|lengths| StepRows { lengths, batch: self.batch })
    }

    /// One lane of every unit.
    pub(super) fn d_lane(&self, lane: usize) -> Matrix {
        let (lanes, Span { offset, len, .. }) = (self.form.lanes(), self.gates);
        let span = Span { offset: offset + lane, len: len - lane, ..self.gates };
        Matrix { span, columns: self.form.hidden(), column_stride: lanes, ..self.d_pre() }
    }

    /// What a binding of lengths holds: any buffer where they are not read.
    pub(super) fn lengths_or(&self, other: Span) -> Span {
        self.lengths.unwrap_or(other)
    }

    pub(super) fn has_lengths(&self) -> u32 {
        u32::from(self.lengths.is_some())
    }

    pub(super) fn segments(&self) -> u32 {
        if self.form.recurrent.skip.is_some() { 2 } else { 1 }
    }

    pub(super) fn transposed(&self) -> Transposed {
        self.packed.transposed.expect("a plan for training packs both directions")
    }
}

/// Puts the start into its slots, zeros where there is none.
pub(crate) fn start(low: &mut Lowering<'_>, scan: &Scan, start: Option<&Start>) {
    let (k, slot_len) = (scan.form.history(), scan.slot_len());
    if scan.lengths.is_none() && scan.form.is_plain() {
        let slots = scan.h.part(scan.start_slot() * slot_len, k * slot_len);
        fill(low.plan, slots, start.map(|start| start.h));
    } else {
        let own = scan.form.own();
        let all = Columns { begin: 0, len: scan.form.width() };
        if own != all || start.is_none() {
            initial_rows(low.plan, scan, scan.h, (all, all.len), (k, 0), None);
        }
        if let Some(start) = start {
            initial_rows(low.plan, scan, scan.h, (own, all.len), (k, k), Some(start.h));
            if let (Some(y), Some(readout)) = (start.y, scan.form.readout()) {
                initial_rows(
                    low.plan,
                    scan,
                    scan.h,
                    (scan.form.read_out(&readout), all.len),
                    (k, 1),
                    Some(y),
                );
            }
        }
    }
    if scan.form.cell().has_state() {
        let c = start.and_then(|start| start.c);
        if scan.lengths.is_none() || !scan.saves {
            let slot = scan.state.part(scan.start_state() * scan.step_len(), scan.step_len());
            fill(low.plan, slot, c);
        } else {
            let columns = Columns { begin: 0, len: scan.form.hidden() };
            initial_rows(low.plan, scan, scan.state, (columns, columns.len), (1, 1), c);
        }
    }
}

pub(super) fn fill(plan: &mut Plan, to: Span, from: Option<Span>) {
    match from {
        Some(from) => plan.copy(from, to),
        None => plan.clear(to),
    }
}

/// The start of each row at its own first step, and zeros in padded slots. The buffer has `history` slots more than
/// steps; `given` of them have a value.
fn initial_rows(
    plan: &mut Plan,
    scan: &Scan,
    into: Span,
    (columns, width): (Columns, usize),
    (history, given): (usize, usize),
    from: Option<Span>,
) {
    let padded = scan.lengths.is_some();
    let first = if padded { 0 } else { scan.start_slot() };
    let slots = if padded { scan.steps + history } else { history };
    let (groups, groups_x) = product::element_groups(slots * scan.batch * columns.len);
    let consts = [
        ("WG_SIZE", ELEMENT_WG_SIZE),
        ("LENGTHS", scan.has_lengths()),
        ("WITH_INITIAL", u32::from(from.is_some())),
    ];
    let params = params::InitialRows {
        first_slot: first as u32,
        slots: slots as u32,
        batch: scan.batch as u32,
        width: width as u32,
        begin: columns.begin as u32,
        columns: columns.len as u32,
        history: history as u32,
        values: given as u32,
        steps: scan.steps as u32,
        reverse: u32::from(scan.form.reverse),
        groups_x,
        ..Default::default()
    };
    let unread = scan.packed.u;
    let bindings = [from.unwrap_or(unread), scan.lengths_or(unread), into];
    plan.dispatch(KernelVariant::new(KernelId::InitialRows, &consts), params, &bindings, groups);
}

/// The values after so many steps, those behind the last of a reverse scan or of one that saves nothing: parts of the
/// scan's own buffers where they lie together, else gathered.
pub(crate) fn states_after(low: &mut Lowering<'_>, scan: &Scan, steps: usize) -> Start {
    let (k, form) = (scan.form.history(), &scan.form);
    assert!(steps == scan.steps || (scan.saves && !form.reverse), "earlier states were not saved");
    let last = if form.reverse { 0 } else { steps };
    let same_ends = scan.lengths.is_none() || form.reverse;
    let h = if same_ends && form.is_plain() {
        scan.h.part(last * scan.slot_len(), k * scan.slot_len())
    } else {
        final_rows(low.plan, scan, "h_final", (scan.h, form.width()), form.own(), (k, k), steps)
    };
    let c = form.cell().has_state().then(|| {
        let columns = Columns { begin: 0, len: form.hidden() };
        match (scan.saves, same_ends) {
            (false, _) => scan.state,
            (true, true) => scan.state.part(last * scan.step_len(), scan.step_len()),
            (true, false) => {
                final_rows(low.plan, scan, "c_final", (scan.state, columns.len), columns, (1, 1), steps)
            }
        }
    });
    let fed_back = form.readout().filter(|readout| !readout.replaces_h);
    let y = fed_back.map(|readout| {
        final_rows(low.plan, scan, "y_final", (scan.h, form.width()), form.read_out(&readout), (k, 1), steps)
    });
    Start { h, c, y }
}

fn final_rows(
    plan: &mut Plan,
    scan: &Scan,
    name: &str,
    (from, width): (Span, usize),
    columns: Columns,
    (history, given): (usize, usize),
    steps: usize,
) -> Span {
    let out = plan.scratch(format!("{}.{name}", scan.label), given * scan.batch * columns.len);
    let (groups, groups_x) = product::element_groups(out.len);
    let consts = [("WG_SIZE", ELEMENT_WG_SIZE), ("LENGTHS", scan.has_lengths())];
    let params = params::FinalRows {
        batch: scan.batch as u32,
        width: width as u32,
        begin: columns.begin as u32,
        columns: columns.len as u32,
        history: history as u32,
        values: given as u32,
        steps: steps as u32,
        reverse: u32::from(scan.form.reverse),
        groups_x,
        ..Default::default()
    };
    let bindings = [from, scan.lengths_or(from), out];
    plan.dispatch(KernelVariant::new(KernelId::FinalRows, &consts), params, &bindings, groups);
    out
}

/// The input product of all steps, then step after step; the start is in its slots.
pub(crate) fn steps_forward(low: &mut Lowering<'_>, layer: &Layer, scan: &Scan) -> Result<(), Error> {
    input_product(low, scan)?;
    for t in scan.order() {
        step(low, layer, scan, scan.slots(t))?;
    }
    Ok(())
}

/// A step of a stream, the n-th of as many as the ring has slots: h goes round, the state stays where it is.
pub(crate) fn stream_step(
    low: &mut Lowering<'_>,
    layer: &Layer,
    scan: &Scan,
    n: usize,
) -> Result<usize, Error> {
    let k = scan.form.history();
    let slots = Slots {
        t: 0,
        h_from: (n + k - 1) % (k + 1),
        h_to: (n + k) % (k + 1),
        skip: n % (k + 1),
        state: (0, 0),
    };
    input_product(low, scan)?;
    step(low, layer, scan, slots)?;
    Ok(slots.h_to)
}

fn input_product(low: &mut Lowering<'_>, scan: &Scan) -> Result<(), Error> {
    let w = Matrix::new(scan.packed.w, scan.form.input, scan.form.hidden() * scan.form.lanes());
    let (what, product) = (format!("{}.x", scan.label), (scan.x.rows(scan.lengths), w));
    product::matmul(low.plan, low.target, &what, product, scan.packed.bias, Activation::Identity, scan.gates)
}

/// One dispatch for each stage of the cell, and one for the readout.
fn step(low: &mut Lowering<'_>, layer: &Layer, scan: &Scan, slots: Slots) -> Result<(), Error> {
    let form = &scan.form;
    let (u, h) = (scan.packed.u, form.h());
    let peepholes = low.parameters.find(low.plan, layer, Role::Peephole, form.reverse);
    let main = Stage {
        cell: form.cell(),
        hidden: form.hidden(),
        units: (form.units(), peepholes.unwrap_or(u)),
        weights: u,
        segments: scan.segments(),
        reads: (slots.h_from, form.recurs()),
        gates: scan.gates,
        saves: scan.saves,
        to: h.begin,
    };
    let stage = |low: &mut Lowering<'_>, stage: &Stage| stage.forward(low, scan, &slots);
    if let Some(u_reset) = scan.packed.u_reset {
        // The second stage reads what the first leaves, in inference too.
        let reset = Stage { cell: CellStage::GruReset, saves: true, to: form.reset_h().begin, ..main };
        stage(low, &reset)?;
        stage(low, &Stage { weights: u_reset, segments: 1, reads: (slots.h_to, form.reset_h()), ..main })?;
    } else {
        stage(low, &main)?;
    }
    if let (Some(readout), Some(weights), Some(saved)) = (form.readout(), scan.packed.readout, scan.readout) {
        let bias = readout.bias.and_then(|role| low.parameters.find(low.plan, layer, role, form.reverse));
        let readout = Stage {
            cell: CellStage::Readout,
            hidden: readout.width,
            units: (usize::from(bias.is_some()), bias.unwrap_or(weights)),
            weights,
            segments: 1,
            reads: (slots.h_to, h),
            gates: saved,
            saves: scan.saves,
            to: form.read_out(&readout).begin,
        };
        stage(low, &readout)?;
    }
    Ok(())
}

/// One dispatch of a step forward.
#[derive(Clone, Copy)]
struct Stage {
    cell: CellStage,
    hidden: usize,
    /// How many numbers a unit has of its own, and where.
    units: (usize, Span),
    weights: Span,
    segments: u32,
    /// The slot and the columns that its product reads.
    reads: (usize, Columns),
    gates: Span,
    saves: bool,
    /// The column of the result.
    to: usize,
}

impl Stage {
    fn forward(&self, low: &mut Lowering<'_>, scan: &Scan, slots: &Slots) -> Result<(), Error> {
        let (form, batch) = (&scan.form, scan.batch);
        let (read, skipped) = (self.reads.1, form.own());
        let inner = read.len + if self.segments == 2 { skipped.len } else { 0 };
        let own = [
            ("UNITS", self.units.0 as u32),
            ("SEGMENTS", self.segments),
            ("LENGTHS", scan.has_lengths()),
            ("SAVE", u32::from(self.saves)),
        ];
        let consts = [&own[..], &form.consts(self.cell)].concat();
        let shape = Tiles { batch, columns: self.hidden, inner };
        let (kernel, groups) = shape.kernel(low.target, scan, KernelId::StepForward, self.cell, &consts)?;
        let params = params::StepForward {
            t: slots.t as u32,
            batch: batch as u32,
            hidden: self.hidden as u32,
            width: form.width() as u32,
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
            state_from: slots.state.0 as u32,
            state_to: slots.state.1 as u32,
        };
        let lengths = scan.lengths_or(self.weights);
        let bindings = [self.weights, self.units.1, lengths, self.gates, scan.state, scan.h];
        low.plan
            .dispatch(kernel, params, &bindings, groups)
            .note(format!("t={}", slots.t))
            .flops(2 * batch * inner * self.hidden * self.cell.product_lanes() as usize);
        Ok(())
    }
}

/// How a tiled kernel covers a step: rows of the batch, columns, and how long its products are.
pub(super) struct Tiles {
    pub(super) batch: usize,
    pub(super) columns: usize,
    pub(super) inner: usize,
}

impl Tiles {
    /// The variant of a kernel for this device and shape, and its workgroups.
    pub(super) fn kernel(
        &self,
        target: &Target,
        scan: &Scan,
        id: KernelId,
        cell: CellStage,
        consts: &[(&'static str, u32)],
    ) -> Result<(KernelVariant, [u32; 3]), Error> {
        let Tiles { batch, columns, inner } = *self;
        let variant = |rows: u32| {
            let own = [("WG_SIZE", TILE_WG_SIZE), ("ROWS", rows)];
            let consts = [&own[..], consts].concat();
            KernelVariant { id, cell: Some(cell), lanes: target.lanes, columns: ColumnWidth::F32, consts }
        };
        let mut rows = product::tile_rows(target, batch, columns, if columns <= 64 { 8 } else { 16 });
        while rows > 1 && inner > product::max_inner(target, &variant(rows)) {
            rows /= 2;
        }
        let kernel = variant(rows);
        let longest = product::max_inner(target, &kernel);
        let groups = [columns.div_ceil(TILE_WG_SIZE as usize), batch.div_ceil(rows as usize), 1];
        if inner > longest {
            return Err(Error::Device(format!(
                "{}: {inner} units are more than this driver can walk in one step, {longest}; use device \"cpu\"",
                scan.label
            )));
        }
        if groups.iter().any(|&count| count > MAX_GROUPS as usize) {
            return Err(Error::Device(format!(
                "{}: a batch of {batch} takes {groups:?} workgroups, the device allows {MAX_GROUPS} an axis; use a \
                 smaller batch",
                scan.label
            )));
        }
        Ok((kernel, groups.map(|count| count as u32)))
    }
}

/// The layer's output from one slot of h, for a scan whose output it is.
pub(crate) fn copy_output(low: &mut Lowering<'_>, scan: &Scan, slot: usize, out: Span) {
    if scan.form.is_plain() {
        low.plan.copy(scan.h.part(slot * scan.slot_len(), scan.slot_len()), out);
        return;
    }
    let from = scan.form.output();
    let (groups, groups_x) = product::element_groups(out.len);
    let params = params::ScanOutput {
        steps: 1,
        batch: scan.batch as u32,
        width: scan.form.width() as u32,
        begin: from.begin as u32,
        columns: from.len as u32,
        first_slot: slot as u32,
        out_width: from.len as u32,
        groups_x,
        ..Default::default()
    };
    let consts = [("WG_SIZE", ELEMENT_WG_SIZE), ("LENGTHS", 0), ("ADD", 0)];
    low.plan.dispatch(
        KernelVariant::new(KernelId::ScanOutput, &consts),
        params,
        &[scan.h, scan.h, out],
        groups,
    );
}
