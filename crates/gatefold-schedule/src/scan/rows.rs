//! Rows of states: initial ones put into their slots, final ones gathered, one slot copied out.

use super::{Columns, Scan, ScanState};
use crate::layer::Lowering;
use crate::product;
use crate::{Binding, Plan, Span};
use gatefold_shaders::{ELEMENT_WG_SIZE, KernelId, KernelVariant, params};

/// Puts the initial state into its slots, or zeros if there is none.
pub fn put_initial(low: &mut Lowering<'_>, scan: &Scan, initial: Option<&ScanState>) {
    let (k, slot_len) = (scan.form.history(), scan.slot_len());
    if scan.lengths.is_none() && scan.form.is_plain() {
        let slots = scan.h.part(scan.initial_slot() * slot_len, k * slot_len);
        copy_or_clear(low.plan, slots, initial.map(|initial| initial.h));
    } else {
        let own = scan.form.own();
        let all = Columns { begin: 0, len: scan.form.width() };
        if own != all || initial.is_none() {
            initial_rows(low.plan, scan, scan.h, (all, all.len), (k, 0), None);
        }
        if let Some(initial) = initial {
            initial_rows(low.plan, scan, scan.h, (own, all.len), (k, k), Some(initial.h));
            if let (Some(y), Some(readout)) = (initial.y, scan.form.readout()) {
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
    if let Some(state) = scan.state {
        let (d, mut c) = (scan.form.dilation(), initial.and_then(|initial| initial.c));
        if scan.lengths.is_none() || !scan.saves {
            if !scan.saves && scan.form.reverse {
                c = c.map(|c| scan.by_sequence(low.plan, "c_initial", c));
            }
            let slots = state.part(scan.initial_state() * scan.step_len(), d * scan.step_len());
            copy_or_clear(low.plan, slots, c);
        } else {
            let columns = Columns { begin: 0, len: scan.form.hidden() };
            initial_rows(low.plan, scan, state, (columns, columns.len), (d, d), c);
        }
    }
}

impl Scan {
    /// A state that lies within a scan's own buffer may begin where no binding can; then this is a copy of it.
    pub(super) fn aligned(&self, plan: &mut Plan, name: &str, from: Span) -> Span {
        match plan.bind(from) {
            (from, 0) => from,
            _ => {
                let aligned = plan.scratch(format!("{}.{name}", self.label), from.len);
                plan.copy(from, aligned);
                aligned
            }
        }
    }
}

pub(super) fn copy_or_clear(plan: &mut Plan, to: Span, from: Option<Span>) {
    match from {
        Some(from) => plan.copy(from, to),
        None => plan.clear(to),
    }
}

/// Puts initial values before each row's own first step, and zeros into padded slots. The buffer has `history` slots
/// more than steps; `given` of them have a value.
pub(super) fn initial_rows(
    plan: &mut Plan,
    scan: &Scan,
    into: Span,
    (columns, width): (Columns, usize),
    (history, given): (usize, usize),
    from: Option<Span>,
) {
    let padded = scan.lengths.is_some();
    let first = if padded { 0 } else { scan.initial_slot() };
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
    let from = from.map(|from| scan.aligned(plan, "initial_aligned", from));
    let bindings = [from.into(), scan.lengths(), into.into()];
    plan.dispatch(KernelVariant::new(KernelId::InitialRows, &consts), params, &bindings, groups);
}

/// The state after `steps` steps, which must be all of them for a reverse scan and for one that saves nothing. It
/// consists of parts of the scan's own buffers if they lie together there, else it is gathered.
///
/// # Panics
/// If an earlier state is asked for that was not saved.
pub fn states_after(low: &mut Lowering<'_>, scan: &Scan, steps: usize) -> ScanState {
    let (k, form) = (scan.form.history(), &scan.form);
    assert!(steps == scan.steps || (scan.saves && !form.reverse), "earlier states were not saved");
    let last = if form.reverse { 0 } else { steps };
    let same_ends = scan.lengths.is_none() || form.reverse;
    let h = if same_ends && form.is_plain() {
        scan.h.part(last * scan.slot_len(), k * scan.slot_len())
    } else {
        final_rows(low.plan, scan, "h_final", (scan.h, form.width()), form.own(), (k, k), steps)
    };
    let c = scan.state.map(|state| {
        let (d, columns) = (form.dilation(), Columns { begin: 0, len: form.hidden() });
        match (scan.saves, same_ends) {
            (false, _) if form.reverse => state,
            (false, _) => scan.by_time(low.plan, "c_final", state),
            (true, true) => state.part(last * scan.step_len(), d * scan.step_len()),
            (true, false) => {
                final_rows(low.plan, scan, "c_final", (state, columns.len), columns, (d, d), steps)
            }
        }
    });
    let fed_back = form.readout().filter(|readout| !readout.replaces_h);
    let y = fed_back.map(|readout| {
        final_rows(low.plan, scan, "y_final", (scan.h, form.width()), form.read_out(&readout), (k, 1), steps)
    });
    ScanState { h, c, y }
}

pub(super) fn final_rows(
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
    let bindings = [from.into(), scan.lengths(), out.into()];
    plan.dispatch(KernelVariant::new(KernelId::FinalRows, &consts), params, &bindings, groups);
    out
}

/// Some columns of one slot of h, `[B, columns]`.
pub fn copy_slot(low: &mut Lowering<'_>, scan: &Scan, slot: usize, columns: Columns, out: Span) {
    if scan.form.is_plain() {
        low.plan.copy(scan.h.part(slot * scan.slot_len(), scan.slot_len()), out);
        return;
    }
    let (groups, groups_x) = product::element_groups(out.len);
    let params = params::ScanOutput {
        steps: 1,
        batch: scan.batch as u32,
        width: scan.form.width() as u32,
        begin: columns.begin as u32,
        columns: columns.len as u32,
        first_slot: slot as u32,
        out_width: columns.len as u32,
        groups_x,
        ..Default::default()
    };
    let consts = [("WG_SIZE", ELEMENT_WG_SIZE), ("LENGTHS", 0), ("ADD", 0)];
    low.plan.dispatch(
        KernelVariant::new(KernelId::ScanOutput, &consts),
        params,
        &[scan.h.into(), Binding::Unused, out.into()],
        groups,
    );
}
