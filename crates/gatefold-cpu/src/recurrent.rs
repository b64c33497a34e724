//! A recurrent layer: its scans, the products over all steps, and its gradients.

use crate::buffers::Matrix;
use crate::cells::{Block, CellStep};
use crate::network::Context;
use crate::outer::Pair;
use crate::packing::{Packing, Walk};
use crate::product::{Columns, ColumnsMut, Start, TILE_ROWS};
use crate::scan::{self, BackwardScan, ScanGradients, ScanStates, ScanTape};
use crate::tensors::{Sums, add_column_product_sums, add_column_sums};
use crate::threads::{Threads, split_rows};
use crate::weights::Weights;
use gatefold_model::{Direction, Layer, LayerState, LstmGate, Recurrent, Role};
use ndarray::{Array1, Array2, ArrayView2, ArrayViewMut2, Axis, CowArray, Ix2, s};
use std::ops::Range;
use std::sync::Arc;

/// The tape of a recurrent layer.
#[derive(Clone, Debug)]
pub(crate) struct RecurrentTape {
    /// The forward scan, the reverse scan, or both in this order.
    scans: Vec<ScanTape>,
    /// `[N, width]`, unless the output is part of the only scan's tape.
    output: Option<Matrix>,
    /// The rows of initial values before the output in that tape.
    initial_rows: usize,
}

impl RecurrentTape {
    /// The tape of the only scan.
    pub(crate) fn only_scan(&mut self) -> &mut ScanTape {
        &mut self.scans[0]
    }

    /// `[N, width]`
    pub(crate) fn output(&self) -> ArrayView2<'_, f32> {
        match (&self.output, &self.scans[0]) {
            (Some(output), _) => output.view(),
            (None, ScanTape { y: Some(y), .. }) => y.slice(s![self.initial_rows.., ..]),
            (None, ScanTape { h, .. }) => h.slice(s![self.initial_rows.., ..]),
        }
    }
}

/// The part of a layer's states that belongs to one scan.
pub(crate) fn scan_states(
    state: &LayerState,
    recurrent: &Recurrent,
    scan: usize,
    packing: &Packing,
) -> ScanStates {
    let k = recurrent.history();
    ScanStates {
        h: (0..k).map(|j| packing.sort(state.h.index_axis(Axis(0), scan * k + j))).collect(),
        c: state.c.as_ref().map(|c| packing.sort(c.index_axis(Axis(0), scan))),
        y: state.y.as_ref().map(|y| packing.sort(y.view())),
    }
}

/// The final states of a scan.
fn final_states(packing: &Packing, weights: &Weights, tape: &ScanTape) -> ScanStates {
    let (walk, short) = (weights.walk, weights.short_walk());
    ScanStates {
        h: (0..walk.history).map(|j| walk.final_rows(packing, j, tape.h.view())).collect(),
        c: tape.c.as_ref().map(|c| short.final_rows(packing, 0, c.view())),
        y: tape.y.as_ref().map(|y| short.final_rows(packing, 0, y.view())),
    }
}

/// The reverse of [`scan_states`].
fn put_scan_states(states: &ScanStates, scan: usize, packing: &Packing, state: &mut LayerState) {
    let k = states.h.len();
    for (j, h) in states.h.iter().enumerate() {
        state.h.index_axis_mut(Axis(0), scan * k + j).assign(&packing.unsort(h.view()));
    }
    if let (Some(c), Some(to)) = (&states.c, &mut state.c) {
        to.index_axis_mut(Axis(0), scan).assign(&packing.unsort(c.view()));
    }
    if let (Some(y), Some(to)) = (&states.y, &mut state.y) {
        to.assign(&packing.unsort(y.view()));
    }
}

/// The output of each step, `[N, width]`.
fn outputs<'a>(packing: &Packing, weights: &Weights, tape: &'a ScanTape) -> CowArray<'a, f32, Ix2> {
    let (slots, walk) = tape.y.as_ref().map_or((&tape.h, weights.walk), |y| (y, weights.short_walk()));
    walk.by_step(packing, slots.view(), |t| walk.own(t))
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
fn put_output(recurrent: &Recurrent, scan: usize, from: ArrayView2<f32>, mut to: ArrayViewMut2<f32>) {
    let width = recurrent.scan_width();
    match (recurrent.direction, scan) {
        (Direction::Bidirectional, _) => to.slice_mut(s![.., scan * width..(scan + 1) * width]).assign(&from),
        (_, 0) => to.assign(&from),
        _ => to += &from,
    }
}

/// A part of a batch on its way through the layer.
pub(crate) struct Given<'a> {
    pub(crate) packing: &'a Packing,
    /// `[N, I]`
    pub(crate) input: ArrayView2<'a, f32>,
    pub(crate) initial: &'a LayerState,
}

impl<'a> Given<'a> {
    fn elements(&self) -> &'a [f32] {
        self.input.to_slice().expect("values are kept in standard layout")
    }
}

/// Runs the layer over some parts; also returns the final states. Threads share the parts and directions.
pub(crate) fn forward(
    context: Context,
    threads: Threads,
    layer: &Layer,
    recurrent: &Recurrent,
    given: &[Given],
) -> Vec<(RecurrentTape, LayerState)> {
    let scans = recurrent.direction.scans().len();
    let mut tapes: Vec<Option<ScanTape>> = (0..given.len() * scans).map(|_| None).collect();
    threads.run(tapes.iter_mut().enumerate(), |(n, to)| {
        let (given, scan) = (&given[n / scans], n % scans);
        let weights = Weights::of(context.values, context.packed, layer, recurrent, scan);
        let mut tape = begin(context, given.packing, &weights, given.initial, recurrent, scan);
        scan::forward(context.set, given.packing, &weights, given.elements(), given.input.ncols(), &mut tape);
        *to = Some(tape);
    });
    let mut tapes = tapes.into_iter().map(|tape| tape.expect("every scan was run"));
    given
        .iter()
        .map(|given| finish(context, given.packing, layer, recurrent, tapes.by_ref().take(scans).collect()))
        .collect()
}

/// A tape with a scan's initial states.
pub(crate) fn begin(
    context: Context,
    packing: &Packing,
    weights: &Weights,
    initial: &LayerState,
    recurrent: &Recurrent,
    scan: usize,
) -> ScanTape {
    let mut tape = ScanTape::new(context.buffers, packing, weights);
    tape.begin(packing, weights, &scan_states(initial, recurrent, scan, packing));
    tape
}

/// A layer's tape of those of its scans, and its final states.
pub(crate) fn finish(
    context: Context,
    packing: &Packing,
    layer: &Layer,
    recurrent: &Recurrent,
    scans: Vec<ScanTape>,
) -> (RecurrentTape, LayerState) {
    let mut finals = LayerState::zeros(recurrent, packing.batch());
    let mut output = (recurrent.direction != Direction::Forward)
        .then(|| context.buffers.matrix(packing.len(), recurrent.output()));
    let mut initial_rows = 0;
    for (scan, tape) in scans.iter().enumerate() {
        let weights = Weights::of(context.values, context.packed, layer, recurrent, scan);
        put_scan_states(&final_states(packing, &weights, tape), scan, packing, &mut finals);
        match &mut output {
            Some(output) => {
                put_output(recurrent, scan, outputs(packing, &weights, tape).view(), output.view_mut());
            }
            None => {
                let walk = if tape.y.is_some() { weights.short_walk() } else { weights.walk };
                initial_rows = walk.history * packing.batch();
            }
        }
    }
    (RecurrentTape { scans, output, initial_rows }, finals)
}

/// A scan that goes window by window, each from the final states of the one before, and keeps no tape.
pub(crate) struct Inference<'a> {
    weights: Weights<'a>,
    states: ScanStates,
    /// The tape of the last window; windows of equal size share it.
    kept: Option<(ScanTape, usize)>,
}

impl<'a> Inference<'a> {
    pub(crate) fn new(
        weights: Weights<'a>,
        packing: &Packing,
        initial: &LayerState,
        recurrent: &Recurrent,
        scan: usize,
    ) -> Self {
        Inference { weights, states: scan_states(initial, recurrent, scan, packing), kept: None }
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
        let window = packing.window(steps);
        let tape = self.kept.take().filter(|&(_, len)| len == window.len());
        let mut tape =
            tape.map_or_else(|| ScanTape::new(context.buffers, &window, &self.weights), |(tape, _)| tape);
        tape.begin(&window, &self.weights, &self.states);
        scan::forward(context.set, &window, &self.weights, input, width, &mut tape);
        to.assign(&outputs(&window, &self.weights, &tape));
        self.states = final_states(&window, &self.weights, &tape);
        self.kept = Some((tape, window.len()));
    }

    /// Writes the final states to those of the layer.
    pub(crate) fn put_states(&self, scan: usize, packing: &Packing, state: &mut LayerState) {
        put_scan_states(&self.states, scan, packing, state);
    }
}

/// The outputs of [`forward`], `[N, width]`, and the final states, bit for bit and without tapes.
pub(crate) fn infer(
    context: Context,
    threads: Threads,
    layer: &Layer,
    recurrent: &Recurrent,
    given: &[Given],
) -> Vec<(Matrix, LayerState)> {
    let scans = recurrent.direction.scans();
    let matrix = |given: &Given| context.buffers.matrix(given.packing.len(), recurrent.output());
    let mut found: Vec<(Matrix, LayerState)> =
        given.iter().map(|g| (matrix(g), LayerState::zeros(recurrent, g.packing.batch()))).collect();
    // The outputs of second scans that are added to those of the first.
    let adds = recurrent.direction == Direction::BidirectionalSum;
    let mut added: Vec<Matrix> = if adds { given.iter().map(matrix).collect() } else { Vec::new() };
    let mut added_to = added.iter_mut();
    let mut jobs = Vec::with_capacity(given.len() * scans.len());
    for (given, (output, _)) in given.iter().zip(&mut found) {
        let (first, second) = match recurrent.direction {
            Direction::Bidirectional => {
                let (first, second) = output.view_mut().split_at(Axis(1), recurrent.scan_width());
                (first, Some(second))
            }
            _ => (output.view_mut(), added_to.next().map(|added| added.view_mut())),
        };
        jobs.extend([Some(first), second].into_iter().flatten().enumerate().map(|job| (given, job, None)));
    }
    threads.run(jobs.iter_mut(), |(given, (scan, to), done)| {
        let weights = Weights::of(context.values, context.packed, layer, recurrent, *scan);
        let mut inference = Inference::new(weights, given.packing, given.initial, recurrent, *scan);
        let (input, width) = (given.elements(), given.input.ncols());
        let walk = Walk { reverse: scans[*scan], history: 1 };
        for steps in scan::windows(given.packing, walk, weights.packed.bias.len()) {
            let rows = given.packing.rows_of(&steps);
            let input = &input[rows.start * width..rows.end * width];
            let to = to.slice_mut(s![rows, ..]);
            inference.run(context, given.packing, steps, input, width, to);
        }
        *done = Some(inference);
    });
    let done: Vec<_> = jobs.into_iter().map(|(_, (scan, _), done)| (scan, done)).collect();
    let mut done = done.into_iter();
    for (given, (_, finals)) in given.iter().zip(&mut found) {
        for (scan, inference) in done.by_ref().take(scans.len()) {
            inference.expect("every scan was run").put_states(scan, given.packing, finals);
        }
    }
    for ((output, _), added) in found.iter_mut().zip(added) {
        **output += &*added;
    }
    found
}

/// The gradients that a layer's backward pass leaves beside those that it wrote over the tape.
#[derive(Clone, Debug)]
pub(crate) struct RecurrentGradients {
    scans: Vec<ScanGradients>,
}

/// A part of a batch on its way back through the layer.
pub(crate) struct GivenBack<'a> {
    pub(crate) packing: &'a Packing,
    pub(crate) tape: &'a mut RecurrentTape,
    /// `[N, width]`; left out where only final states matter.
    pub(crate) d_out: Option<Matrix>,
    pub(crate) d_final: Option<&'a LayerState>,
}

/// Gradients with respect to a layer's input, if wanted, and to its initial states, and what else its backward pass
/// leaves.
pub(crate) type Backward = (Option<Matrix>, LayerState, RecurrentGradients);

/// Backward through the layer, for some parts. The context's weights are those packed for backward. Threads share the
/// parts and directions.
pub(crate) fn backward(
    context: Context,
    threads: Threads,
    layer: &Layer,
    recurrent: &Recurrent,
    given: Vec<GivenBack>,
    wants_input: bool,
) -> Vec<Backward> {
    let (scans, width) = (recurrent.direction.scans().len(), recurrent.scan_width());
    let mut jobs = Vec::with_capacity(given.len() * scans);
    let mut rest = Vec::with_capacity(given.len());
    for GivenBack { packing, tape, d_out, d_final } in given {
        let shared = Arc::new(d_out);
        for (scan, tape) in tape.scans.iter_mut().enumerate() {
            jobs.push((packing, scan, tape, Arc::clone(&shared), d_final, None));
        }
        rest.push(packing);
    }
    threads.run(jobs.iter_mut(), |(packing, scan, tape, shared, d_final, found)| {
        let weights = Weights::of(context.values, context.packed, layer, recurrent, *scan);
        let d_out = match (std::mem::take(shared), recurrent.direction) {
            (d_out, Direction::Bidirectional) => d_out
                .as_ref()
                .as_ref()
                .map(|d_out| context.buffers.copy(d_out.slice(s![.., *scan * width..(*scan + 1) * width]))),
            (d_out, _) => Arc::unwrap_or_clone(d_out),
        };
        let d_out = d_out.unwrap_or_else(|| context.buffers.zeros(packing.len(), width));
        let d_final = d_final.map(|d_final| scan_states(d_final, recurrent, *scan, packing));
        let mut back = BackwardScan::new(context, packing, weights, tape, d_out, d_final.as_ref());
        back.run(context.set, packing, tape, weights.walk.steps(packing).rev());
        *found = Some(back.gradients);
    });
    let mut jobs = jobs.into_iter();
    let finish = |packing: &Packing| {
        let (tapes, found): (Vec<&mut ScanTape>, Vec<ScanGradients>) = jobs
            .by_ref()
            .take(scans)
            .map(|(_, _, tape, _, _, found)| (tape, found.expect("every scan was run")))
            .unzip();
        let d_input =
            wants_input.then(|| input_gradient(context, threads, layer, recurrent, packing, &tapes));
        let (d_initial, found) = finish_backward(recurrent, packing, found);
        (d_input, d_initial, found)
    };
    rest.into_iter().map(finish).collect()
}

/// The gradient with respect to the layer's input, from the lanes of its scans; threads share the rows.
fn input_gradient(
    context: Context,
    threads: Threads,
    layer: &Layer,
    recurrent: &Recurrent,
    packing: &Packing,
    tapes: &[&mut ScanTape],
) -> Matrix {
    let mut to = context.buffers.matrix(packing.len(), layer.input);
    let work: usize = tapes.iter().map(|tape| tape.lanes.len() * layer.input).sum();
    let ranges = threads.ranges(packing.len(), TILE_ROWS, work);
    let parts = split_rows(to.view_mut(), &ranges);
    threads.run(ranges.into_iter().zip(parts), |(rows, mut part)| {
        for (scan, tape) in tapes.iter().enumerate() {
            let weights = Weights::of(context.values, context.packed, layer, recurrent, scan);
            let start = if scan == 0 { Start::Zero } else { Start::Output };
            let to = part.as_slice_mut().expect("matrices are kept in standard layout");
            input_gradient_rows(context, &weights, tape, rows.clone(), start, to);
        }
    });
    to
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
    let (product, lanes) = (&weights.packed.input, tape.lanes.ncols());
    let from = Columns::all(&tape.lanes.elements()[rows.start * lanes..rows.end * lanes], lanes);
    product.multiply(context.set, from, start, ColumnsMut::all(to, product.width()));
}

/// The gradients with respect to the initial states, and what else the scans leave.
pub(crate) fn finish_backward(
    recurrent: &Recurrent,
    packing: &Packing,
    mut scans: Vec<ScanGradients>,
) -> (LayerState, RecurrentGradients) {
    let k = recurrent.history();
    let mut d_initial = LayerState::zeros(recurrent, packing.batch());
    for (scan, found) in scans.iter_mut().enumerate() {
        for j in 0..k {
            let rows = found.d_h.initial(packing, j);
            d_initial.h.index_axis_mut(Axis(0), scan * k + j).assign(&packing.unsort(rows.view()));
        }
        if let (Some(to), Some(d_c)) = (&mut d_initial.c, &found.d_c) {
            to.index_axis_mut(Axis(0), scan).assign(&packing.unsort(d_c.view()));
        }
        if let (Some(to), Some(d_y)) = (&mut d_initial.y, &mut found.d_y) {
            to.assign(&packing.unsort(d_y.initial(packing, 0).view()));
        }
    }
    (d_initial, RecurrentGradients { scans })
}

/// What the passes over a part leave for the gradients of a layer's parameters.
pub(crate) struct Passed<'a> {
    pub(crate) packing: &'a Packing,
    pub(crate) input: CowArray<'a, f32, Ix2>,
    pub(crate) tape: &'a RecurrentTape,
    pub(crate) found: &'a RecurrentGradients,
}

/// Adds the gradients of the layer's parameters, summed over the parts in order.
pub(crate) fn add_gradients(layer: &Layer, recurrent: &Recurrent, parts: &[Passed], sums: &mut Sums) {
    for (scan, &reverse) in recurrent.direction.scans().iter().enumerate() {
        let cell = CellStep {
            cell: *recurrent.cell_of(reverse),
            hidden: recurrent.hidden,
            clip: recurrent.clip,
            peephole: None,
        };
        let walk = Walk { reverse, history: recurrent.history() };
        add_scan_gradients(layer, &cell, walk, scan, parts, sums);
    }
}

/// Adds the gradients that are sums over all steps of one scan.
fn add_scan_gradients(
    layer: &Layer,
    cell: &CellStep,
    walk: Walk,
    scan: usize,
    parts: &[Passed],
    sums: &mut Sums,
) {
    let short = Walk { history: 1, ..walk };
    let spec = |role| layer.find(role, walk.reverse);
    let tapes = || parts.iter().map(|part| (part.packing, &part.tape.scans[scan]));
    let lanes = |columns: &Range<usize>| {
        let columns = columns.clone();
        tapes().map(move |(_, tape)| tape.lanes.slice(s![.., columns.clone()]))
    };
    // Pairs some lanes of each part with rows that belong to its steps.
    let add_lanes = |sums: &mut Sums, role, block: &Block, x: &[CowArray<f32, Ix2>]| {
        let pairs: Vec<Pair> = lanes(&block.lanes).zip(x.iter().map(|x| x.view())).collect();
        sums.add_weight(spec(role), block.rows.clone(), &pairs);
    };
    let back = |steps: usize| -> Vec<CowArray<f32, Ix2>> {
        tapes()
            .map(|(packing, tape)| walk.by_step(packing, tape.h.view(), |t| walk.before(t, steps)))
            .collect()
    };
    let shorts = |slots: fn(&ScanTape) -> &Option<Matrix>, slot: &dyn Fn(usize) -> usize| {
        let rows = |(packing, tape)| Some(short.by_step(packing, slots(tape).as_ref()?.view(), slot));
        tapes().filter_map(rows).collect::<Vec<CowArray<f32, Ix2>>>()
    };

    let inputs: Vec<CowArray<f32, Ix2>> = parts.iter().map(|part| part.input.view().into()).collect();
    for block in cell.input_blocks() {
        add_lanes(sums, Role::InputWeight, &block, &inputs);
        if sums.wants(spec(Role::FeedbackWeight)) {
            add_lanes(sums, Role::FeedbackWeight, &block, &shorts(|tape| &tape.y, &|t| short.before(t, 1)));
        }
    }
    let block = cell.recurrent_block();
    if sums.wants(spec(Role::RecurrentWeight)) {
        add_lanes(sums, Role::RecurrentWeight, &block, &back(1));
        if cell.resets_before() {
            let reset = tapes().filter_map(|(_, tape)| Some(tape.reset.as_ref()?.view().into()));
            let reset: Vec<CowArray<f32, Ix2>> = reset.collect();
            add_lanes(sums, Role::RecurrentWeight, &cell.reset_block(), &reset);
        }
    }
    if sums.wants(spec(Role::SkipWeight)) {
        add_lanes(sums, Role::SkipWeight, &block, &back(walk.history));
    }
    if sums.wants(spec(Role::InputBias)) || sums.wants(spec(Role::RecurrentBias)) {
        let all: Vec<ArrayView2<f32>> = tapes().map(|(_, tape)| tape.lanes.view()).collect();
        let mut columns = Array1::zeros(cell.lanes() * cell.hidden);
        add_column_sums(sums.set, sums.threads, &all, columns.view_mut());
        let input = cell.input_blocks().into_iter().map(|block| (Role::InputBias, block));
        for (role, block) in input.chain([(Role::RecurrentBias, cell.recurrent_bias_block())]) {
            if let Some(mut gradient) = sums.vector(spec(role)) {
                let mut part = gradient.slice_mut(s![block.rows]);
                part += &columns.slice(s![block.lanes]);
            }
        }
    }
    if sums.wants(spec(Role::ProjectionWeight)) {
        let d_h: Vec<_> = parts.iter().map(|part| part.found.scans[scan].d_h.by_step(part.packing)).collect();
        let m = tapes().filter_map(|(_, tape)| Some(tape.m.as_ref()?.view()));
        let pairs: Vec<Pair> = d_h.iter().map(|d| d.view()).zip(m).collect();
        sums.add_weight(spec(Role::ProjectionWeight), 0..pairs[0].0.ncols(), &pairs);
    }
    let d_pre: Vec<ArrayView2<f32>> =
        tapes().filter_map(|(_, tape)| Some(tape.y_pre.as_ref()?.view())).collect();
    if sums.wants(spec(Role::ReadoutWeight)) {
        let h: Vec<_> =
            tapes().map(|(packing, tape)| walk.by_step(packing, tape.h.view(), |t| walk.own(t))).collect();
        let pairs: Vec<Pair> = d_pre.iter().map(|d| d.view()).zip(h.iter().map(|h| h.view())).collect();
        sums.add_weight(spec(Role::ReadoutWeight), 0..d_pre[0].ncols(), &pairs);
    }
    sums.add_bias(spec(Role::ReadoutBias), &d_pre);
    if sums.wants(spec(Role::Peephole)) {
        let c_prev = shorts(|tape| &tape.c, &|t| short.before(t, 1));
        let c = shorts(|tape| &tape.c, &|t| short.own(t));
        let (hidden, set, threads) = (cell.hidden, sums.set, sums.threads);
        let mut gradient = sums.vector(spec(Role::Peephole)).expect("it is wanted");
        let sees = [(LstmGate::Input, &c_prev), (LstmGate::Forget, &c_prev), (LstmGate::Output, &c)];
        for (place, (gate, c)) in sees.into_iter().enumerate() {
            let from = gate as usize * hidden;
            let part = gradient.slice_mut(s![place * hidden..(place + 1) * hidden]);
            let pairs: Vec<Pair> = lanes(&(from..from + hidden)).zip(c.iter().map(|c| c.view())).collect();
            add_column_product_sums(set, threads, &pairs, part);
        }
    }
}

/// Concatenates matrices of equal height side by side.
pub(crate) fn side_by_side(parts: &[ArrayView2<f32>]) -> Array2<f32> {
    let (rows, width) = parts[0].dim();
    let mut all = Array2::zeros((rows, parts.len() * width));
    for (part, mut columns) in parts.iter().zip(all.axis_chunks_iter_mut(Axis(1), width)) {
        columns.assign(part);
    }
    all
}

impl Walk {
    /// `[N, F]`: for each step the rows of `slot(t)`, copied only where the slots differ in size.
    fn by_step<'a>(
        self,
        packing: &Packing,
        slots: ArrayView2<'a, f32>,
        slot: impl Fn(usize) -> usize,
    ) -> CowArray<'a, f32, Ix2> {
        let start = |t: usize| self.slot(packing, slot(t)).start;
        let steps = packing.steps();
        if steps == 0 {
            return slots.slice_move(s![..0, ..]).into();
        }
        if (0..steps).all(|t| start(t) == start(0) + packing.at(t).start) {
            return slots.slice_move(s![start(0)..start(0) + packing.len(), ..]).into();
        }
        let mut rows = Array2::zeros((packing.len(), slots.ncols()));
        for t in 0..steps {
            let to = packing.at(t);
            rows.slice_mut(s![to.clone(), ..]).assign(&slots.slice(s![start(t)..start(t) + to.len(), ..]));
        }
        rows.into()
    }
}
