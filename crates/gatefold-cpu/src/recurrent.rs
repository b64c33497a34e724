//! A recurrent layer: its scans, the products over all steps, and its gradients.

use crate::buffers::{Buffers, Matrix, Rows};
use crate::cells::{Block, CellStep};
use crate::dilation::{End, Interleaved, in_scan_order};
use crate::dressed::DressedSums;
use crate::network::Context;
use crate::noise::ScanNoise;
use crate::packing::{Packing, Walk};
use crate::parts::PartState;
use crate::product::{Columns, ColumnsMut, Start, TILE_ROWS};
use crate::scan::{self, BackwardScan, ScanGradients, ScanStates, ScanTape};
use crate::team::Team;
use crate::tensors::{Sums, add_column_product_sums, add_column_sums};
use crate::weights::Weights;
use gatefold_model::{Direction, Layer, LstmGate, ParameterSpec, Recurrent, Role};
use ndarray::{ArrayView2, ArrayViewMut2, Axis, s};
use std::ops::Range;
use std::sync::Arc;

/// The tape of a recurrent layer.
#[derive(Clone, Debug)]
pub(crate) struct RecurrentTape {
    /// The forward scan, the reverse scan, or both in this order.
    pub(crate) scans: [Option<ScanTape>; 2],
    /// `[N, width]`, unless the output is part of the only scan's tape.
    output: Option<Matrix>,
    /// The rows of initial values before the output in that tape.
    initial_rows: usize,
    /// The sequences that the scans of a dilated layer go over.
    pub(crate) interleaved: Option<Arc<Interleaved>>,
}

impl RecurrentTape {
    /// The tape of scans that [`finish`] has not seen.
    pub(crate) fn of(scans: [Option<ScanTape>; 2], interleaved: Option<Arc<Interleaved>>) -> Self {
        RecurrentTape { scans, output: None, initial_rows: 0, interleaved }
    }

    /// The forward scan, the reverse scan, or both in this order.
    pub(crate) fn scans(&self) -> impl Iterator<Item = &ScanTape> {
        self.scans.iter().flatten()
    }

    /// The tape of the only scan.
    pub(crate) fn only_scan(&mut self) -> &mut ScanTape {
        self.scans[0].as_mut().expect("every layer has a scan")
    }

    /// `[N, width]`
    pub(crate) fn output(&self) -> ArrayView2<'_, f32> {
        match (&self.output, &self.scans[0]) {
            (Some(output), _) => output.view(),
            (None, Some(ScanTape { y: Some(y), .. })) => y.slice(s![self.initial_rows.., ..]),
            (None, Some(ScanTape { h, .. })) => h.slice(s![self.initial_rows.., ..]),
            (None, None) => unreachable!("every layer has a scan"),
        }
    }
}

/// The output of each step, `[N, width]`.
pub(crate) fn outputs<'a>(
    buffers: &Arc<Buffers>,
    packing: &Packing,
    weights: &Weights,
    tape: &'a ScanTape,
) -> Rows<'a> {
    let (slots, walk) = tape.y.as_ref().map_or((&tape.h, weights.walk), |y| (y, weights.short_walk()));
    walk.by_step(buffers, packing, slots.view(), |t| walk.own(t))
}

/// Some rows of the outputs of a forward scan.
pub(crate) fn rows_of_outputs<'a>(
    packing: &Packing,
    weights: &Weights,
    tape: &'a ScanTape,
    rows: Range<usize>,
) -> ArrayView2<'a, f32> {
    let (slots, walk) = tape.y.as_ref().map_or((&tape.h, weights.walk), |y| (y, weights.short_walk()));
    let initial = walk.history * packing.batch();
    slots.slice(s![initial + rows.start..initial + rows.end, ..])
}

/// Writes the outputs of a scan to those of its layer: beside those of the scan before, or added to them.
pub(crate) fn put_output(
    recurrent: &Recurrent,
    scan: usize,
    from: ArrayView2<f32>,
    mut to: ArrayViewMut2<f32>,
) {
    let width = recurrent.scan_width();
    match (recurrent.direction, scan) {
        (Direction::Bidirectional, _) => to.slice_mut(s![.., scan * width..(scan + 1) * width]).assign(&from),
        (_, 0) => to.assign(&from),
        _ => to += &from,
    }
}

/// A tape with a scan's initial states.
pub(crate) fn begin_scan(
    context: Context,
    packing: &Packing,
    weights: &Weights,
    initial: &ScanStates,
) -> ScanTape {
    let mut tape = ScanTape::new(context.buffers, packing, weights);
    tape.begin(packing, weights, initial);
    tape
}

/// Puts a layer's output together from the tapes of its scans, and replaces its initial states by the final ones.
pub(crate) fn finish(
    context: Context,
    packing: &Packing,
    layer: &Layer,
    recurrent: &Recurrent,
    tape: &mut RecurrentTape,
    states: &mut PartState,
) {
    let RecurrentTape { scans, output, initial_rows, interleaved } = tape;
    let moves_rows = interleaved.as_ref().is_some_and(|interleaved| interleaved.moves_rows());
    *output = (recurrent.direction != Direction::Forward || moves_rows)
        .then(|| context.buffers.matrix(packing.len(), recurrent.output()));
    let packing = interleaved.as_ref().map_or(packing, |interleaved| &interleaved.packing);
    for (scan, tape) in scans.iter().flatten().enumerate() {
        let weights = Weights::of(context, layer, recurrent, scan);
        tape.put_final(packing, &weights, states.scan_mut(scan));
        match output {
            Some(output) => {
                let from = outputs(context.buffers, packing, &weights, tape);
                put_output(recurrent, scan, from.view(), output.view_mut());
            }
            None => {
                let walk = if tape.y.is_some() { weights.short_walk() } else { weights.walk };
                *initial_rows = walk.history * packing.batch();
            }
        }
    }
    if let Some(interleaved) = interleaved {
        interleaved.give_state(context.buffers, recurrent, End::Final, states);
        *output = output.take().map(|output| interleaved.give_all(context.buffers, output));
    }
}

/// A scan that goes window by window, each from the final states of the one before, and keeps no tape.
pub(crate) struct Inference<'a> {
    weights: Weights<'a>,
    pub(crate) states: ScanStates,
    /// The tape of the last window; windows of equal size share it.
    kept: Option<(ScanTape, usize)>,
}

impl<'a> Inference<'a> {
    pub(crate) fn new(weights: Weights<'a>, initial: &ScanStates) -> Self {
        Inference { weights, states: initial.clone(), kept: None }
    }

    /// Runs the next window over its rows of the input, and writes its outputs `[n, width]`.
    pub(crate) fn run(
        &mut self,
        context: Context,
        packing: &Packing,
        steps: Range<usize>,
        input: &[f32],
        width: usize,
        mut to: ArrayViewMut2<f32>,
    ) {
        let window = packing.window(&steps);
        let weights = self.weights.beginning_at(steps.start);
        let tape = self.kept.take().filter(|&(_, len)| len == window.len());
        let mut tape =
            tape.map_or_else(|| ScanTape::new(context.buffers, &window, &self.weights), |(tape, _)| tape);
        tape.begin(&window, &self.weights, &self.states);
        scan::forward(context, &window, &weights, input, width, &mut tape);
        to.assign(&outputs(context.buffers, &window, &self.weights, &tape).view());
        tape.put_final(&window, &self.weights, &mut self.states);
        self.kept = Some((tape, window.len()));
    }
}

/// The gradients that a layer's backward pass leaves beside those that it wrote over the tape.
#[derive(Clone, Debug)]
pub(crate) struct RecurrentGradients {
    pub(crate) scans: [Option<ScanGradients>; 2],
}

/// A scan's part of the backward pass of a layer: given its gradients of the outputs, it leaves others.
#[derive(Debug, Default)]
pub(crate) struct BackWork {
    /// `[N, width]`
    pub(crate) d_out: Option<Matrix>,
    pub(crate) found: Option<ScanGradients>,
}

/// Shares the gradients of a layer's outputs among its scans; zeros where only final states matter. Puts the gradients
/// of final states in the order of the scans.
pub(crate) fn begin_backward(
    buffers: &Arc<Buffers>,
    packing: &Packing,
    recurrent: &Recurrent,
    mut d_out: Option<Matrix>,
    d_final: Option<&mut PartState>,
    works: &mut [BackWork; 2],
) {
    if let Some(interleaved) = packing.interleaved(recurrent.dilation) {
        d_out = d_out.map(|d_out| interleaved.take_all(buffers, d_out));
        if let Some(d_final) = d_final {
            interleaved.take_state(buffers, recurrent, End::Final, d_final);
        }
    }
    let width = recurrent.scan_width();
    let [first, second] = works;
    (first.d_out, second.d_out) = match (recurrent.direction, d_out) {
        (Direction::Bidirectional, Some(d_out)) => {
            let half = |scan: usize| buffers.copy(d_out.slice(s![.., scan * width..(scan + 1) * width]));
            (Some(half(0)), Some(half(1)))
        }
        (direction, d_out) => {
            let d_out = d_out.unwrap_or_else(|| buffers.zeros(packing.len(), width));
            let second = (direction.scans().len() == 2).then(|| d_out.clone());
            (Some(d_out), second)
        }
    };
}

/// One scan on its way back over a part.
pub(crate) struct BackJob<'a> {
    packing: &'a Packing,
    scan: usize,
    tape: &'a mut ScanTape,
    work: &'a mut BackWork,
    d_final: Option<&'a ScanStates>,
}

/// The scans of a layer to run backward, with the gradients `d_final` of the final states.
pub(crate) fn back_jobs<'a>(
    packing: &'a Packing,
    tape: &'a mut RecurrentTape,
    works: &'a mut [BackWork; 2],
    d_final: Option<&'a PartState>,
) -> [Option<BackJob<'a>>; 2] {
    let RecurrentTape { scans, interleaved, .. } = tape;
    let packing = interleaved.as_ref().map_or(packing, |interleaved| &interleaved.packing);
    let ([first, second], [first_work, second_work]) = (scans.each_mut(), works.each_mut());
    let job = |scan: usize, tape: &'a mut Option<ScanTape>, work: &'a mut BackWork| {
        let d_final = d_final.and_then(|d_final| d_final.scans[scan].as_ref());
        tape.as_mut().map(|tape| BackJob { packing, scan, tape, work, d_final })
    };
    [job(0, first, first_work), job(1, second, second_work)]
}

impl BackJob<'_> {
    /// The context's weights are those packed for backward.
    pub(crate) fn run(self, context: Context, layer: &Layer, recurrent: &Recurrent, team: Option<&Team>) {
        let BackJob { packing, scan, tape, work, d_final } = self;
        let weights = Weights::of(context, layer, recurrent, scan).with_team(team);
        let d_out = work.d_out.take().expect("it was shared out");
        let mut back = BackwardScan::new(context, packing, weights, tape, d_out, d_final);
        back.run(context.set, packing, tape, weights.walk.steps(packing).rev());
        work.found = Some(back.gradients);
    }
}

/// The gradient with respect to the layer's input, from the lanes of its scans; threads share the rows.
pub(crate) fn input_gradient(
    context: Context,
    layer: &Layer,
    recurrent: &Recurrent,
    packing: &Packing,
    tape: &RecurrentTape,
) -> Matrix {
    let mut to = context.buffers.matrix(packing.len(), layer.input);
    let work: usize = tape.scans().map(|tape| tape.lanes.len() * layer.input).sum();
    let share = context.threads.share(packing.len(), TILE_ROWS, work);
    context.threads.run(to.axis_chunks_iter_mut(Axis(0), share).enumerate(), |(n, mut part)| {
        let rows = n * share..n * share + part.nrows();
        for (scan, tape) in tape.scans().enumerate() {
            let weights = Weights::of(context, layer, recurrent, scan);
            let start = if scan == 0 { Start::Zero } else { Start::Output };
            let to = part.as_slice_mut().expect("matrices are kept in standard layout");
            input_gradient_rows(context, &weights, tape, rows.clone(), start, to);
        }
    });
    match &tape.interleaved {
        Some(interleaved) => interleaved.give_all(context.buffers, to),
        None => to,
    }
}

/// Some rows of the gradient with respect to the input.
pub(crate) fn input_gradient_rows(
    context: Context,
    weights: &Weights,
    tape: &ScanTape,
    rows: Range<usize>,
    start: Start,
    to: &mut [f32],
) {
    let product = &weights.packed.input;
    let d = tape.normal.as_ref().map_or(&tape.lanes, |normal| &normal.x);
    let lanes = d.ncols();
    let from = Columns::all(&d.elements()[rows.start * lanes..rows.end * lanes], lanes);
    product.multiply(context.set, from, start, ColumnsMut::all(to, product.width()));
}

/// The gradients with respect to the initial states.
pub(crate) fn initial_gradients(
    buffers: &Arc<Buffers>,
    recurrent: &Recurrent,
    packing: &Packing,
    found: &mut RecurrentGradients,
) -> PartState {
    let mut d_initial = PartState::zeros(buffers, recurrent, packing.batch());
    let interleaved = packing.interleaved(recurrent.dilation);
    let packing = interleaved.as_ref().map_or(packing, |interleaved| &interleaved.packing);
    let batch = packing.batch();
    for (found, to) in found.scans.iter_mut().zip(&mut d_initial.scans) {
        let (Some(found), Some(to)) = (found, to) else { continue };
        for j in 0..Walk::of(recurrent, false).history {
            found.d_h.put_initial(packing, j, to.h_mut(j, batch));
        }
        if let (Some(to), Some(d_c)) = (&mut to.c, &found.d_c) {
            packing.unsort(d_c.view(), to.view_mut());
        }
        if let (Some(to), Some(d_y)) = (&mut to.y, &mut found.d_y) {
            d_y.put_initial(packing, 0, to.view_mut());
        }
    }
    if let Some(interleaved) = &interleaved {
        interleaved.give_state(buffers, recurrent, End::Initial, &mut d_initial);
    }
    d_initial
}

/// Adds the gradients of the layer's parameters, from its input and what backward left.
#[expect(clippy::too_many_arguments, reason = "a layer's passes leave that many parts")]
pub(crate) fn add_gradients(
    context: Context,
    layer: &Layer,
    recurrent: &Recurrent,
    packing: &Packing,
    input: Rows,
    tape: &RecurrentTape,
    found: &RecurrentGradients,
    sums: &mut Sums,
) {
    let interleaved = tape.interleaved.as_deref();
    let input = in_scan_order(sums.buffers, interleaved, input);
    let packing = interleaved.map_or(packing, |interleaved| &interleaved.packing);
    for (scan, (tape, found)) in tape.scans().zip(found.scans.iter().flatten()).enumerate() {
        let weights = Weights::of(context, layer, recurrent, scan);
        let noise = ScanNoise::of(context.dropout, layer, recurrent, weights.walk.reverse);
        add_scan_gradients(layer, packing, &weights, &noise, input.view(), tape, found, sums);
    }
}

/// Adds the gradients that are sums over all steps of one scan.
#[expect(clippy::too_many_arguments, reason = "a scan's passes leave that many parts")]
fn add_scan_gradients(
    layer: &Layer,
    packing: &Packing,
    weights: &Weights,
    noise: &ScanNoise,
    input: ArrayView2<f32>,
    tape: &ScanTape,
    found: &ScanGradients,
    sums: &mut Sums,
) {
    let (cell, walk, short) = (&weights.cell, weights.walk, weights.short_walk());
    let spec = |role| layer.find(role, walk.reverse);
    let lanes = |columns: &Range<usize>| tape.lanes.slice(s![.., columns.clone()]);
    let buffers = sums.buffers;
    let back = |steps: usize| walk.by_step(buffers, packing, tape.h.view(), |t| walk.before(t, steps));

    if let Some(y) = tape.y.as_ref().filter(|_| sums.wants(spec(Role::FeedbackWeight))) {
        let y_prev = short.by_step(buffers, packing, y.view(), |t| short.before(t, 1));
        for block in cell.input_blocks() {
            sums.add_weight(spec(Role::FeedbackWeight), block.rows, lanes(&block.lanes), y_prev.view());
        }
    }
    let block = cell.recurrent_block();
    let weight = spec(Role::RecurrentWeight);
    let own = noise.drops_weights().then(|| sums.set_aside(weight)).flatten();
    let mut read = if sums.wants(weight) { back(1) } else { Rows::Kept(tape.h.slice(s![..0, ..])) };
    if noise.rates.recurrent > 0.0 {
        let mut masked = buffers.copy(read.view());
        noise.mask_read(packing, &mut masked);
        read = Rows::Made(masked);
    }
    if let Some(normal) = &tape.normal {
        // The gradients of the products, which differ from those of the pre-activations.
        for block in cell.input_blocks() {
            let d = normal.x.slice(s![.., block.lanes]);
            sums.add_weight(spec(Role::InputWeight), block.rows, d, input);
        }
        sums.add_weight(weight, block.rows.clone(), normal.r.slice(s![.., ..block.lanes.len()]), read.view());
    } else {
        let weights = [(spec(Role::InputWeight), input), (weight, read.view())];
        sums.add_weights(tape.lanes.view(), &cell.weight_lanes(), weights);
    }
    if let Some(reset) = tape.reset.as_ref().filter(|_| sums.wants(weight)) {
        let block = cell.reset_block();
        sums.add_weight(weight, block.rows, lanes(&block.lanes), reset.view());
    }
    if let (Some(own), Some(mut gradient)) = (own, sums.matrix(weight)) {
        noise.mask_weights(gradient.view_mut());
        gradient += &own;
    }
    if sums.wants(spec(Role::SkipWeight)) {
        let far = back(walk.history);
        sums.add_weight(spec(Role::SkipWeight), block.rows, lanes(&block.lanes), far.view());
    }
    if sums.wants(spec(Role::InputBias)) || sums.wants(spec(Role::RecurrentBias)) {
        let mut columns = buffers.zeros(1, tape.lanes.ncols());
        let mut columns = columns.row_mut(0);
        add_column_sums(sums.set, sums.threads, tape.lanes.view(), columns.view_mut());
        let input = cell.input_blocks().map(|block| (Role::InputBias, block));
        for (role, block) in input.chain([(Role::RecurrentBias, cell.recurrent_bias_block())]) {
            if let Some(mut gradient) = sums.vector(spec(role)) {
                let mut part = gradient.slice_mut(s![block.rows]);
                part += &columns.slice(s![block.lanes]);
            }
        }
    }
    if let Some(found) = &found.sums {
        return add_dressed_sums(cell, found, &spec, sums);
    }
    if let Some(m) = tape.m.as_ref().filter(|_| sums.wants(spec(Role::ProjectionWeight))) {
        let d_h = found.d_h.by_step(buffers, packing);
        let d_h = d_h.view();
        sums.add_weight(spec(Role::ProjectionWeight), 0..d_h.ncols(), d_h, m.view());
    }
    if let Some(d_pre) = &tape.y_pre {
        if sums.wants(spec(Role::ReadoutWeight)) {
            let h = walk.by_step(buffers, packing, tape.h.view(), |t| walk.own(t));
            sums.add_weight(spec(Role::ReadoutWeight), 0..d_pre.ncols(), d_pre.view(), h.view());
        }
        sums.add_bias(spec(Role::ReadoutBias), d_pre.view());
    }
    if let Some(c) = tape.c.as_ref().filter(|_| sums.wants(spec(Role::Peephole))) {
        let (hidden, set, threads) = (cell.hidden, sums.set, sums.threads);
        let c_prev = short.by_step(buffers, packing, c.view(), |t| short.before(t, 1));
        let c = short.by_step(buffers, packing, c.view(), |t| short.own(t));
        let mut gradient = sums.vector(spec(Role::Peephole)).expect("it is wanted");
        let sees = [(LstmGate::Input, &c_prev), (LstmGate::Forget, &c_prev), (LstmGate::Output, &c)];
        for (place, (gate, c)) in sees.into_iter().enumerate() {
            let from = gate as usize * hidden;
            let part = gradient.slice_mut(s![place * hidden..(place + 1) * hidden]);
            add_column_product_sums(set, threads, lanes(&(from..from + hidden)), c.view(), part);
        }
    }
}

/// Adds the sums that a dressed cell's steps left; such a layer has neither a projection nor a readout.
fn add_dressed_sums<'a>(
    cell: &CellStep,
    found: &DressedSums,
    spec: &impl Fn(Role) -> Option<&'a ParameterSpec>,
    sums: &mut Sums,
) {
    let mut add = |role: Role, blocks: &[(Range<usize>, Range<usize>)], from: &[f64]| {
        let Some(to) = sums.elements(spec(role)) else { return };
        for (rows, lanes) in blocks {
            let pairs = to[rows.clone()].iter_mut().zip(&from[lanes.clone()]);
            pairs.for_each(|(to, from)| *to += *from as f32);
        }
    };
    let whole = |len: usize| [(0..len, 0..len)];
    let inputs: Vec<_> = cell.input_blocks().map(|block| (block.rows, block.lanes)).collect();
    if !found.gain_ih.is_empty() {
        add(Role::InputGain, &inputs, &found.gain_ih);
        let Block { lanes, rows } = cell.recurrent_block();
        add(Role::RecurrentGain, &[(rows, 0..lanes.len())], &found.gain_hh);
        add(Role::CellGain, &whole(cell.hidden), &found.gain_c);
        add(Role::CellBias, &whole(cell.hidden), &found.bias_c);
    }
    add(Role::Peephole, &whole(found.peephole.len()), &found.peephole);
}

impl Walk {
    /// `[N, F]`: for each step the rows of `slot(t)`, copied only where the slots differ in size.
    fn by_step<'a>(
        self,
        buffers: &Arc<Buffers>,
        packing: &Packing,
        slots: ArrayView2<'a, f32>,
        slot: impl Fn(usize) -> usize,
    ) -> Rows<'a> {
        let start = |t: usize| self.slot(packing, slot(t)).start;
        let steps = packing.steps();
        if steps == 0 {
            return Rows::Kept(slots.slice_move(s![..0, ..]));
        }
        if (0..steps).all(|t| start(t) == start(0) + packing.at(t).start) {
            return Rows::Kept(slots.slice_move(s![start(0)..start(0) + packing.len(), ..]));
        }
        let mut rows = buffers.matrix(packing.len(), slots.ncols());
        for t in 0..steps {
            let to = packing.at(t);
            rows.slice_mut(s![to.clone(), ..]).assign(&slots.slice(s![start(t)..start(t) + to.len(), ..]));
        }
        Rows::Made(rows)
    }
}
