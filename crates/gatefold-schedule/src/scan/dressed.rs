//! Steps of cells with layer normalisation or noise: the recurrent product, then a kernel whose workgroups run a row each
//! and can sum over it. Backward goes the other way.
//!
//! Such layers have neither a readout nor a skip connection nor a second stage, so rows of h hold nothing but h.

use super::rows::copy_or_clear;
use super::workgroup::{self, Tile};
use super::{CarriedGradients, Form, Pass, Scan, ScanState, Slots, Strategy};
use crate::layer::{Lowering, Purpose, Sequence, dropout, elementwise};
use crate::plan::ALIGNMENT;
use crate::product::{self, LaneMap, Matrix, Order};
use crate::{Error, Plan, Span, Target};
use gatefold_model::{Activation, Layer, NoiseKind, Role};
use gatefold_shaders::params::{self, Params, ROW_STATS, own_rows, sum_rows};
use gatefold_shaders::{Columns, ELEMENT_WG_SIZE, KernelId, KernelVariant, Lanes};

/// The buffers of a scan that the plain steps do not have.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dressed {
    /// The units' own numbers, then the masks: see `scan/row.wgsl`.
    fixed: Span,
    masks_at: usize,
    /// Whether masks are drawn.
    noise: bool,
    /// `[B, H]` of lanes: the product of a step.
    product: Span,
    /// The buffer that the scan's gates are the first part of.
    gates: Span,
    /// Slots before the normalised inputs in it.
    x_at: usize,
    /// `[T, B, H]` of lanes: the normalised products; after backward, their gradients before normalisation.
    normal: Option<Span>,
    /// The buffer that the scan's state is the first part of.
    state: Option<Span>,
    stats_at: usize,
    /// `[T, B, H]`, h(t-1) as the product reads it, with recurrent dropout.
    read: Option<Span>,
    /// Where the recurrent weights for the way back are among the fixed numbers, if one dispatch goes through many steps.
    weights_at: Option<usize>,
}

/// Whether the steps of a scan need more than the plain cell in this pass: only training draws masks, but zoneout has an
/// expectation.
pub(super) fn is_dressed(low: &Lowering<'_>, form: &Form) -> bool {
    let recurrent = &form.recurrent;
    let always = recurrent.norm.is_some() || recurrent.noise.zones_out();
    recurrent.is_dressed() && (always || low.drops || low.purpose == Purpose::Training)
}

/// The masks of `[T, B, H]`, in their order.
fn step_masks(form: &Form) -> impl Iterator<Item = NoiseKind> {
    let kinds = [NoiseKind::Zoneout, NoiseKind::ZoneoutCell, NoiseKind::Candidate];
    let noise = form.recurrent.noise;
    kinds.into_iter().filter(move |&kind| noise.rate(kind) > 0.0)
}

/// The gates and the state of a scan, and what else it needs.
pub(super) fn declare(
    low: &mut Lowering<'_>,
    form: &Form,
    label: &str,
    (steps, batch, saves): (usize, usize, bool),
    strategies: [Strategy; 2],
    mut declare: impl FnMut(&mut Plan, &'static str, usize) -> Span,
) -> (Span, Option<Span>, Dressed) {
    let (hidden, lanes) = (form.hidden(), form.lanes());
    let (step_len, norm) = (batch * hidden, form.recurrent.norm.is_some());
    let noise = low.drops && form.recurrent.noise.in_training_steps();
    let keeps = norm && saves;
    let gates_len = steps * step_len * lanes;
    let x_begin = if keeps { gates_len.next_multiple_of(ALIGNMENT) } else { 0 };
    let gates = declare(low.plan, "gates", x_begin + gates_len);
    let has_state = form.cell().has_state();
    let state_len = if has_state { if saves { (steps + 1) * step_len } else { step_len } } else { 0 };
    let stats_len = if keeps { steps * batch * ROW_STATS } else { 0 };
    let state = (state_len + stats_len > 0).then(|| declare(low.plan, "state", state_len + stats_len));
    let own_len = own_rows(form.units() as u32, norm, lanes as u32) as usize * hidden;
    let masks_at = own_len.next_multiple_of(ALIGNMENT);
    let masks = if noise { step_masks(form).count() * steps * step_len } else { 0 };
    let weights_at = (masks_at + masks).next_multiple_of(ALIGNMENT);
    let back = matches!(strategies[Pass::Backward as usize], Strategy::SequencePerWorkgroup(_));
    let weights = if saves && back { hidden * hidden * lanes } else { 0 };
    let drops = noise && form.recurrent.noise.recurrent > 0.0;
    let dressed = Dressed {
        fixed: low.plan.scratch(
            format!("{label}.fixed"),
            if weights > 0 { weights_at + weights } else { masks_at + masks.max(1) },
        ),
        masks_at,
        noise,
        product: low.plan.scratch(format!("{label}.product"), step_len * lanes),
        gates,
        x_at: x_begin / lanes,
        normal: keeps.then(|| low.plan.scratch(format!("{label}.normal"), gates_len)),
        state,
        stats_at: state_len,
        read: drops.then(|| low.plan.scratch(format!("{label}.read"), steps * step_len)),
        weights_at: (weights > 0).then_some(weights_at),
    };
    (gates.part(0, gates_len), state.filter(|_| has_state).map(|state| state.part(0, state_len)), dressed)
}

/// Puts the units' own numbers and the masks in their places.
fn prepare(low: &mut Lowering<'_>, layer: &Layer, scan: &Scan, dressed: &Dressed) {
    let (form, hidden, lanes) = (&scan.form, scan.form.hidden(), scan.form.lanes());
    let mut begin = 0;
    let mut place = |len: usize| {
        begin += len;
        dressed.fixed.part(begin - len, len)
    };
    let find = |low: &mut Lowering<'_>, role| low.parameters.find(low.plan, layer, role, form.reverse);
    if form.units() > 0 {
        let peephole = find(low, Role::Peephole).expect("a cell with peepholes has them");
        low.plan.copy(peephole, place(form.units() * hidden));
    }
    if form.recurrent.norm.is_some() {
        copy_or_clear(low.plan, place(lanes * hidden), scan.packed.bias);
        let maps = [(Role::InputGain, form.input_map()), (Role::RecurrentGain, form.recurrent_map())];
        for (role, map) in maps {
            let gain = find(low, role).expect("a normalised layer has gains");
            let packed = low.plan.scratch(format!("{}.gain", scan.label), lanes * hidden);
            product::pack(low.plan, gain, None, Order::columns_units_lanes(map, hidden, 1), packed);
            low.plan.copy(packed, place(lanes * hidden));
        }
        for role in [Role::CellGain, Role::CellBias] {
            let given = find(low, role);
            copy_or_clear(low.plan, place(hidden), given);
        }
    }
    if let Some(at) = dressed.weights_at {
        low.plan.copy(scan.transposed().u, dressed.fixed.part(at, hidden * hidden * lanes));
    }
    if !dressed.noise {
        return;
    }
    let len = scan.steps * scan.step_len();
    let ones = low.plan.scratch(format!("{}.ones", scan.label), len);
    elementwise::fill(low.plan, ones, 1.0);
    for (nth, kind) in step_masks(form).enumerate() {
        let mask = low.plan.scratch(format!("{}.mask", scan.label), len);
        let (stream, rate) = (kind.stream(layer.index, form.reverse), form.recurrent.noise.rate(kind));
        dropout::mask(low, stream, rate, ones, mask, dropout::step_len(layer, scan.step_len()));
        low.plan.copy(mask, dressed.fixed.part(dressed.masks_at + nth * len, len));
    }
}

/// The product of the inputs of a normalised layer, without biases.
pub(super) fn input_place(scan: &Scan) -> Option<Span> {
    let dressed = scan.dressed.filter(|_| scan.form.recurrent.norm.is_some())?;
    Some(dressed.gates.part(dressed.x_at * scan.form.lanes(), scan.gates.len))
}

/// All steps forward.
pub(super) fn forward(
    low: &mut Lowering<'_>,
    layer: &Layer,
    scan: &Scan,
    dressed: &Dressed,
) -> Result<(), Error> {
    prepare(low, layer, scan, dressed);
    if let Strategy::SequencePerWorkgroup(tile) = &scan.strategies[Pass::Forward as usize] {
        scan_forward(low, scan, dressed, tile);
        return Ok(());
    }
    scan.order().try_for_each(|t| step(low, layer, scan, dressed, scan.slots(t)))
}

/// The only step of a stream.
pub(super) fn stream_step(
    low: &mut Lowering<'_>,
    layer: &Layer,
    scan: &Scan,
    dressed: &Dressed,
    slots: Slots,
) -> Result<(), Error> {
    prepare(low, layer, scan, dressed);
    step(low, layer, scan, dressed, slots)
}

fn constants(scan: &Scan, dressed: &Dressed, id: KernelId, own: &[(&'static str, u32)]) -> KernelVariant {
    variant(&scan.form, id, (ELEMENT_WG_SIZE, scan.lengths.is_some(), dressed.noise), own)
}

fn variant(
    form: &Form,
    id: KernelId,
    (invocations, lengths, draws): (u32, bool, bool),
    own: &[(&'static str, u32)],
) -> KernelVariant {
    let noise = form.recurrent.noise;
    let norm = form.recurrent.norm;
    let consts = [
        ("WG_SIZE", invocations),
        ("ROWS", 1),
        ("UNITS", form.units() as u32),
        ("LENGTHS", u32::from(lengths)),
        ("NORM", u32::from(norm.is_some())),
        ("EPSILON", norm.map_or(0.0, |norm| norm.epsilon).to_bits()),
        ("NOISE", u32::from(draws)),
        ("ZONEOUT", noise.zoneout.to_bits()),
        ("ZONEOUT_CELL", noise.zoneout_cell.to_bits()),
        ("CANDIDATE_MASK", u32::from(noise.candidate > 0.0)),
    ];
    let consts = [&consts[..], own, &form.consts(form.cell())].concat();
    KernelVariant {
        id,
        cell: Some(form.cell()),
        lanes: Lanes::Single,
        columns: Columns::F32,
        consts,
        members: 1,
    }
}

/// A matrix of one step, `[B, columns]`.
fn step_matrix(span: Span, step: usize, batch: usize, columns: usize) -> Matrix {
    Matrix::new(span.part(step * batch * columns, batch * columns), batch, columns)
}

fn step(
    low: &mut Lowering<'_>,
    layer: &Layer,
    scan: &Scan,
    dressed: &Dressed,
    slots: Slots,
) -> Result<(), Error> {
    let (form, batch, hidden) = (&scan.form, scan.batch, scan.form.hidden());
    let mut read = scan.h.part(slots.h_from * scan.slot_len(), scan.slot_len());
    if let Some(all) = dressed.read {
        let masked = low.plan.scratch(format!("{}.masked", scan.label), read.len);
        mask_h(low, layer, scan, read, masked);
        low.plan.copy(masked, all.part(slots.t * scan.step_len(), scan.step_len()));
        read = masked;
    }
    let u = Matrix::new(scan.packed.u, hidden, hidden * form.lanes());
    let (what, a) = (format!("{}.r", scan.label), Matrix::new(read, batch, hidden));
    product::matmul(low.plan, low.target, &what, (a, u), None, Activation::Identity, dressed.product)?;

    let kernel = constants(scan, dressed, KernelId::RowForward, &[("SAVE", u32::from(scan.saves))]);
    let (groups, groups_x) = product::groups(batch);
    let params = params::RowForward {
        t: slots.t as u32,
        batch: batch as u32,
        hidden: hidden as u32,
        steps: scan.steps as u32,
        h_from: slots.h_from as u32,
        h_to: slots.h_to as u32,
        state_from: slots.state.0 as u32,
        state_to: slots.state.1 as u32,
        x_at: dressed.x_at as u32,
        masks_at: dressed.masks_at as u32,
        stats_at: dressed.stats_at as u32,
        groups_x,
    };
    let bindings = [
        dressed.fixed.into(),
        scan.lengths(),
        dressed.product.into(),
        dressed.gates.into(),
        dressed.normal.into(),
        dressed.state.into(),
        scan.h.into(),
    ];
    low.plan.dispatch(kernel, params, &bindings, groups).note(format!("t={}", slots.t));
    Ok(())
}

/// h, or a gradient with respect to it, times the mask of recurrent dropout.
fn mask_h(low: &mut Lowering<'_>, layer: &Layer, scan: &Scan, from: Span, to: Span) {
    let stream = NoiseKind::Recurrent.stream(layer.index, scan.form.reverse);
    dropout::mask(low, stream, scan.form.recurrent.noise.recurrent, from, to, 0);
}

/// Rows of `[B, H]` in the buffer of carry before the sums: through the recurrence, around it, and of the state.
const CARRIED: usize = 3;

/// The gradients that travel from step to step, with sums for the gradients of parameters.
pub(super) fn carry(low: &mut Lowering<'_>, scan: &Scan, d_final: Option<&ScanState>) -> Span {
    let (form, step_len) = (&scan.form, scan.step_len());
    let norm = form.recurrent.norm.is_some();
    let sums = sum_rows(form.units() as u32, norm, form.lanes() as u32) as usize;
    let carry = low.plan.scratch(format!("{}.carry", scan.label), (CARRIED + sums) * step_len);
    low.plan.clear(carry.part(0, step_len));
    copy_or_clear(low.plan, carry.part(step_len, step_len), d_final.map(|d_final| d_final.h));
    copy_or_clear(low.plan, carry.part(2 * step_len, step_len), d_final.and_then(|d_final| d_final.c));
    if sums > 0 {
        low.plan.clear(carry.part(CARRIED * step_len, sums * step_len));
    }
    carry
}

/// All steps backward.
pub(super) fn backward(
    low: &mut Lowering<'_>,
    layer: &Layer,
    scan: &Scan,
    dressed: &Dressed,
    carried: &CarriedGradients,
    (d_out, d_begin): (Sequence, usize),
) -> Result<(), Error> {
    if let Strategy::SequencePerWorkgroup(tile) = &scan.strategies[Pass::Backward as usize] {
        scan_backward(low, scan, dressed, tile, carried, (d_out, d_begin));
        return Ok(());
    }
    let (form, batch, hidden) = (&scan.form, scan.batch, scan.form.hidden());
    let width = hidden * form.lanes();
    let (carry, through) = (carried.carry, carried.carry.part(0, scan.step_len()));
    let ut = Matrix::new(scan.transposed().u, width, hidden);
    let kernel = constants(scan, dressed, KernelId::RowBackward, &[]);
    let (groups, groups_x) = product::groups(batch);
    for t in scan.order().rev() {
        let slots = scan.slots(t);
        let params = params::RowBackward {
            t: t as u32,
            batch: batch as u32,
            hidden: hidden as u32,
            steps: scan.steps as u32,
            h_from: slots.h_from as u32,
            state_from: slots.state.0 as u32,
            d_stride: d_out.width as u32,
            d_begin: d_begin as u32,
            x_at: dressed.x_at as u32,
            masks_at: dressed.masks_at as u32,
            stats_at: dressed.stats_at as u32,
            groups_x,
        };
        let bindings = [
            dressed.fixed.into(),
            scan.lengths(),
            dressed.state.into(),
            scan.h.into(),
            d_out.span.into(),
            dressed.gates.into(),
            dressed.normal.into(),
            carry.into(),
        ];
        low.plan.dispatch(kernel.clone(), params, &bindings, groups).note(format!("t={t}"));
        let what = format!("{}.through", scan.label);
        let d_r = step_matrix(dressed.normal.unwrap_or(scan.gates), t, batch, width);
        let to = match dressed.read {
            Some(_) => low.plan.scratch(format!("{}.unmasked", scan.label), scan.step_len()),
            None => through,
        };
        product::matmul(low.plan, low.target, &what, (d_r, ut), None, Activation::Identity, to)?;
        if dressed.read.is_some() {
            mask_h(low, layer, scan, to, through);
        }
    }
    Ok(())
}

/// The gradient with respect to the initial state.
pub(super) fn initial_gradient(low: &mut Lowering<'_>, scan: &Scan, carried: &CarriedGradients) -> ScanState {
    let step_len = scan.step_len();
    let h = low.plan.scratch(format!("{}.d_initial", scan.label), step_len);
    low.plan.copy(carried.carry.part(step_len, step_len), h);
    elementwise::add_into(low.plan, carried.carry.part(0, step_len), h);
    let c = scan.form.cell().has_state().then(|| carried.carry.part(2 * step_len, step_len));
    ScanState { h, c, y: None }
}

/// The gradients of the products of the inputs and of h, which differ from those of the pre-activations in a normalised layer.
pub(super) fn product_gradients(scan: &Scan) -> (Matrix, Matrix) {
    let d_pre = scan.d_pre();
    let of = |span: Option<Span>| span.map_or(d_pre, |span| Matrix { span, ..d_pre });
    let normal = scan.dressed.and_then(|dressed| dressed.normal);
    (of(input_place(scan).filter(|_| normal.is_some())), of(normal))
}

/// h(t-1) of all steps as the product read it, if it was masked.
pub(super) fn masked_rows(scan: &Scan) -> Option<Matrix> {
    let read = scan.dressed?.read?;
    Some(Matrix::new(read, scan.steps * scan.batch, scan.form.hidden()))
}

/// Adds the gradients that are sums in the buffer of carry: of peepholes, gains, and the bias of the state.
pub(super) fn add_sums(
    low: &mut Lowering<'_>,
    layer: &Layer,
    scan: &Scan,
    carried: &CarriedGradients,
) -> Result<(), Error> {
    let (form, hidden, lanes) = (&scan.form, scan.form.hidden(), scan.form.lanes());
    let same = Order::same(hidden);
    let mut parts: Vec<(Role, usize, usize, Order)> = Vec::new(); // role, place in the gradient, rows, order
    parts.extend((0..form.units()).map(|block| (Role::Peephole, block * hidden, 1, same)));
    if form.recurrent.norm.is_some() {
        let order = |map: LaneMap| Order::columns_units_lanes(map, hidden, 1);
        parts.extend([
            (Role::InputGain, 0, lanes, order(form.input_map())),
            (Role::RecurrentGain, 0, lanes, order(form.recurrent_map())),
            (Role::CellGain, 0, 1, same),
            (Role::CellBias, 0, 1, same),
        ]);
    }
    let mut begin = CARRIED * scan.step_len();
    for (role, place, rows, order) in parts {
        let len = rows * scan.step_len();
        let found = low.parameters.find_gradient(low.plan, layer, role, form.reverse);
        if let Some(d) = found {
            let d = if role == Role::Peephole { d.part(place, hidden) } else { d };
            let sums = Matrix::new(carried.carry.part(begin, len), scan.batch, rows * hidden);
            let what = format!("{}.sums", scan.label);
            product::add_column_sums(low.plan, low.target, &what, sums, &[(order, d)])?;
        }
        begin += len;
    }
    Ok(())
}

/// Where the gradient of the recurrent weights is added up before its mask, with DropConnect.
pub(super) fn begin_dropped(low: &mut Lowering<'_>, scan: &Scan, gradient: Span) -> Option<Span> {
    scan.drops_weights.then(|| {
        let own = low.plan.scratch(format!("{}.d_dropped", scan.label), gradient.len);
        low.plan.clear(own);
        own
    })
}

/// Adds that gradient, masked, to the parameter's.
pub(super) fn finish_dropped(low: &mut Lowering<'_>, layer: &Layer, scan: &Scan, own: Span, gradient: Span) {
    let masked = low.plan.scratch(format!("{}.d_masked", scan.label), own.len);
    let stream = NoiseKind::Weights.stream(layer.owner, scan.form.reverse);
    dropout::mask(low, stream, scan.form.recurrent.noise.weights, own, masked, 0);
    elementwise::add_into(low.plan, masked, gradient);
}

/// Most invocations of a workgroup that runs a row: every halving of a sum over them is a barrier.
const MOST_INVOCATIONS: u32 = 256;

/// The workgroup of a row, when one dispatch goes through many steps.
pub(super) fn usual_tile(target: &Target, form: &Form) -> Tile {
    let most = MOST_INVOCATIONS.min(1 << target.max_invocations.max(1).ilog2());
    let invocations = (form.hidden() as u32).next_power_of_two().clamp(ELEMENT_WG_SIZE.min(most), most);
    Tile { rows: 1, parts: 1, invocations, kept: 0 }
}

/// Whether a workgroup may run a row of a scan so. Recurrent dropout masks h between the steps, so it takes a dispatch a
/// step.
pub(super) fn tile_fits(target: &Target, form: &Form, pass: Pass, tile: &Tile) -> bool {
    let Tile { rows, parts, invocations, kept } = *tile;
    let lanes = form.lanes() + usize::from(pass == Pass::Forward);
    let bytes = 4 * form.hidden() * lanes + 16 * invocations as usize;
    (rows, parts, kept) == (1, 1, 0)
        && form.recurrent.noise.recurrent == 0.0
        && invocations.is_power_of_two()
        && invocations <= target.max_invocations
        && bytes <= target.max_workgroup_bytes as usize
}

/// Loop iterations of a dispatch of so many steps.
pub(super) fn iterations(form: &Form, pass: Pass, tile: &Tile, count: u32) -> u64 {
    let (hidden, choices) = (form.hidden() as u32, (tile.invocations, false, false));
    let with_hidden = ("HIDDEN", hidden);
    match pass {
        Pass::Forward => {
            let own = [with_hidden, ("SAVE", 1)];
            let kernel = variant(form, KernelId::RowScanForward, choices, &own);
            let params = params::RowScanForward { count, batch: 1, steps: 1, hidden, ..Default::default() };
            params.extents(&kernel, [1; 3]).iterations
        }
        Pass::Backward => {
            let kernel = variant(form, KernelId::RowScanBackward, choices, &[with_hidden]);
            let params = params::RowScanBackward { count, batch: 1, steps: 1, hidden, ..Default::default() };
            params.extents(&kernel, [1; 3]).iterations
        }
    }
}

/// All steps forward, a workgroup for each row.
fn scan_forward(low: &mut Lowering<'_>, scan: &Scan, dressed: &Dressed, tile: &Tile) {
    let form = &scan.form;
    let own = [("HIDDEN", form.hidden() as u32), ("SAVE", u32::from(scan.saves))];
    let choices = (tile.invocations, scan.lengths.is_some(), dressed.noise);
    let kernel = variant(form, KernelId::RowScanForward, choices, &own);
    let bindings = [
        dressed.fixed.into(),
        scan.lengths(),
        scan.packed.u.into(),
        dressed.gates.into(),
        dressed.normal.into(),
        dressed.state.into(),
        scan.h.into(),
    ];
    for (first, count) in workgroup::stretches(low, scan, Pass::Forward, tile, 0..scan.steps) {
        let params = params::RowScanForward {
            first: first as u32,
            count: count as u32,
            steps: scan.steps as u32,
            batch: scan.batch as u32,
            hidden: form.hidden() as u32,
            history: form.history() as u32,
            reverse: u32::from(form.reverse),
            x_at: dressed.x_at as u32,
            masks_at: dressed.masks_at as u32,
            stats_at: dressed.stats_at as u32,
            ..Default::default()
        };
        workgroup::dispatch(low, scan, tile, (kernel.clone(), params), &bindings, (first, count));
    }
}

/// All steps backward, likewise.
fn scan_backward(
    low: &mut Lowering<'_>,
    scan: &Scan,
    dressed: &Dressed,
    tile: &Tile,
    carried: &CarriedGradients,
    (d_out, d_begin): (Sequence, usize),
) {
    let form = &scan.form;
    let own = [("HIDDEN", form.hidden() as u32)];
    let weights_at = dressed.weights_at.expect("a scan that goes back so has its weights there");
    let choices = (tile.invocations, scan.lengths.is_some(), dressed.noise);
    let kernel = variant(form, KernelId::RowScanBackward, choices, &own);
    let bindings = [
        dressed.fixed.into(),
        scan.lengths(),
        dressed.state.into(),
        scan.h.into(),
        d_out.span.into(),
        dressed.gates.into(),
        dressed.normal.into(),
        carried.carry.into(),
    ];
    for (first, count) in workgroup::stretches(low, scan, Pass::Backward, tile, 0..scan.steps) {
        let params = params::RowScanBackward {
            first: first as u32,
            count: count as u32,
            steps: scan.steps as u32,
            batch: scan.batch as u32,
            hidden: form.hidden() as u32,
            history: form.history() as u32,
            reverse: u32::from(form.reverse),
            d_stride: d_out.width as u32,
            d_begin: d_begin as u32,
            x_at: dressed.x_at as u32,
            masks_at: dressed.masks_at as u32,
            stats_at: dressed.stats_at as u32,
            weights_at: weights_at as u32,
            ..Default::default()
        };
        workgroup::dispatch(low, scan, tile, (kernel.clone(), params), &bindings, (first, count));
    }
}
