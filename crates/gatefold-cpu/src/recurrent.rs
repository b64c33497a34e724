//! A recurrent layer: its scans, the products over all steps, and its gradients.

use crate::buffers::Matrix;
use crate::cells::CellStep;
use crate::network::Context;
use crate::packing::{Packing, Walk};
use crate::product::{Columns, ColumnsMut, Start};
use crate::scan::{self, ScanGradients, ScanStates, ScanTape};
use crate::tensors::{Sums, add_column_product_sums, add_column_sums};
use crate::weights::Weights;
use gatefold_model::{Direction, Layer, LayerState, LstmGate, Recurrent, Role};
use ndarray::{Array1, Array2, ArrayView2, ArrayViewMut2, Axis, CowArray, Ix2, s};

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
fn scan_states(state: &LayerState, recurrent: &Recurrent, scan: usize, packing: &Packing) -> ScanStates {
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

/// Writes the outputs of a scan to those of its layer: beside those of the scan before, or added to them.
fn put_output(recurrent: &Recurrent, scan: usize, from: ArrayView2<f32>, mut to: ArrayViewMut2<f32>) {
    let width = recurrent.scan_width();
    match (recurrent.direction, scan) {
        (Direction::Bidirectional, _) => to.slice_mut(s![.., scan * width..(scan + 1) * width]).assign(&from),
        (_, 0) => to.assign(&from),
        _ => to += &from,
    }
}

/// Runs the layer over `input [N, I]` from `initial`; also returns the final states.
pub(crate) fn forward(
    context: Context,
    layer: &Layer,
    recurrent: &Recurrent,
    packing: &Packing,
    input: ArrayView2<f32>,
    initial: &LayerState,
) -> (RecurrentTape, LayerState) {
    let mut finals = LayerState::zeros(recurrent, packing.batch());
    let mut scans = Vec::new();
    let mut output = (recurrent.direction != Direction::Forward)
        .then(|| context.buffers.matrix(packing.len(), recurrent.output()));
    let mut initial_rows = 0;
    let elements = input.to_slice().expect("values are kept in standard layout");
    for scan in 0..recurrent.direction.scans().len() {
        let weights = Weights::of(context.values, context.packed, layer, recurrent, scan);
        let mut tape = ScanTape::new(context.buffers, packing, &weights);
        tape.begin(packing, &weights, &scan_states(initial, recurrent, scan, packing));
        scan::forward(context.set, packing, &weights, elements, input.ncols(), &mut tape);
        put_scan_states(&final_states(packing, &weights, &tape), scan, packing, &mut finals);
        if recurrent.direction == Direction::Forward {
            let walk = if tape.y.is_some() { weights.short_walk() } else { weights.walk };
            initial_rows = walk.history * packing.batch();
        }
        if let Some(output) = &mut output {
            put_output(recurrent, scan, outputs(packing, &weights, &tape).view(), output.view_mut());
        }
        scans.push(tape);
    }
    (RecurrentTape { scans, output, initial_rows }, finals)
}

/// The output of [`forward`], `[N, width]`, and the final states, bit for bit and without a tape: window by window,
/// each from the final states of the one before.
pub(crate) fn infer(
    context: Context,
    layer: &Layer,
    recurrent: &Recurrent,
    packing: &Packing,
    input: ArrayView2<f32>,
    initial: &LayerState,
) -> (Matrix, LayerState) {
    let mut finals = LayerState::zeros(recurrent, packing.batch());
    let mut output = context.buffers.matrix(packing.len(), recurrent.output());
    let elements = input.to_slice().expect("values are kept in standard layout");
    for (scan, &reverse) in recurrent.direction.scans().iter().enumerate() {
        let weights = Weights::of(context.values, context.packed, layer, recurrent, scan);
        let mut states = scan_states(initial, recurrent, scan, packing);
        let mut kept: Option<(ScanTape, usize)> = None;
        for steps in scan::windows(packing, Walk { reverse, history: 1 }, weights.packed.bias.len()) {
            let rows = packing.at(steps.start).start..packing.at(steps.end - 1).end;
            let part = packing.window(steps);
            // Windows of equal size share a tape.
            let tape = kept.take().filter(|&(_, len)| len == part.len());
            let mut tape =
                tape.map_or_else(|| ScanTape::new(context.buffers, &part, &weights), |(tape, _)| tape);
            tape.begin(&part, &weights, &states);
            let inputs = &elements[rows.start * input.ncols()..rows.end * input.ncols()];
            scan::forward(context.set, &part, &weights, inputs, input.ncols(), &mut tape);
            put_output(
                recurrent,
                scan,
                outputs(&part, &weights, &tape).view(),
                output.slice_mut(s![rows, ..]),
            );
            states = final_states(&part, &weights, &tape);
            kept = Some((tape, part.len()));
        }
        put_scan_states(&states, scan, packing, &mut finals);
    }
    (output, finals)
}

/// The gradients that a layer's backward pass leaves beside those that it wrote over the tape.
#[derive(Clone, Debug)]
pub(crate) struct RecurrentGradients {
    scans: Vec<ScanGradients>,
}

/// Backward through the layer: the gradients with respect to its input, if wanted, and to its initial states. The
/// context's weights are those packed for backward.
///
/// `d_out [N, width]` may be left out where only final states matter.
#[expect(clippy::too_many_arguments, reason = "a layer's forward pass has that many parts")]
pub(crate) fn backward(
    context: Context,
    layer: &Layer,
    recurrent: &Recurrent,
    packing: &Packing,
    tape: &mut RecurrentTape,
    mut d_out: Option<Matrix>,
    d_final: Option<&LayerState>,
    wants_input: bool,
) -> (Option<Matrix>, LayerState, RecurrentGradients) {
    let mut d_input = None;
    let mut d_initial = LayerState::zeros(recurrent, packing.batch());
    let mut scans = Vec::new();
    let (k, width) = (recurrent.history(), recurrent.scan_width());
    for (scan, tape) in tape.scans.iter_mut().enumerate() {
        let weights = Weights::of(context.values, context.packed, layer, recurrent, scan);
        let d_out = match (&d_out, recurrent.direction) {
            (None, _) => context.buffers.zeros(packing.len(), width),
            (Some(d_out), Direction::Bidirectional) => {
                context.buffers.copy(d_out.slice(s![.., scan * width..(scan + 1) * width]))
            }
            (Some(d_out), Direction::BidirectionalSum) => d_out.clone(),
            (Some(_), _) => d_out.take().expect("it is there"),
        };
        let d_final_states = d_final.map(|d_final| scan_states(d_final, recurrent, scan, packing));
        let mut found = scan::backward(context, packing, &weights, tape, d_out, d_final_states.as_ref());
        if wants_input {
            let product = &weights.packed.input;
            let (start, mut to) = match d_input.take() {
                Some(sum) => (Start::Output, sum),
                None => (Start::Zero, context.buffers.matrix(packing.len(), product.width())),
            };
            let lanes = Columns::all(tape.lanes.elements(), tape.lanes.ncols());
            let out = ColumnsMut::all(to.elements_mut(), product.width());
            product.multiply(context.set, lanes, start, out);
            d_input = Some(to);
        }
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
        scans.push(found);
    }
    (d_input, d_initial, RecurrentGradients { scans })
}

/// Adds the gradients of the layer's parameters, from its input and what backward left.
pub(crate) fn add_gradients(
    layer: &Layer,
    recurrent: &Recurrent,
    packing: &Packing,
    input: ArrayView2<f32>,
    tape: &RecurrentTape,
    found: &mut RecurrentGradients,
    sums: &mut Sums,
) {
    for (scan, (tape, found)) in tape.scans.iter().zip(&mut found.scans).enumerate() {
        let reverse = recurrent.direction.scans()[scan];
        let cell = CellStep {
            cell: *recurrent.cell_of(reverse),
            hidden: recurrent.hidden,
            clip: recurrent.clip,
            peephole: None,
        };
        let walk = Walk { reverse, history: recurrent.history() };
        add_scan_gradients(layer, packing, &cell, walk, input, tape, found, sums);
    }
}

/// Adds the gradients that are sums over all steps of one scan.
#[expect(clippy::too_many_arguments, reason = "a scan's passes leave that many parts")]
fn add_scan_gradients(
    layer: &Layer,
    packing: &Packing,
    cell: &CellStep,
    walk: Walk,
    input: ArrayView2<f32>,
    tape: &ScanTape,
    found: &mut ScanGradients,
    sums: &mut Sums,
) {
    let short = Walk { history: 1, ..walk };
    let spec = |role| layer.find(role, walk.reverse);
    let lanes = |columns: &std::ops::Range<usize>| tape.lanes.slice(s![.., columns.clone()]);
    let back = |steps: usize| walk.by_step(packing, tape.h.view(), |t| walk.before(t, steps));

    for block in cell.input_blocks() {
        let d = lanes(&block.lanes);
        sums.add_weight(spec(Role::InputWeight), block.rows.clone(), d, input);
        if let Some(y) = tape.y.as_ref().filter(|_| sums.wants(spec(Role::FeedbackWeight))) {
            let y_prev = short.by_step(packing, y.view(), |t| short.before(t, 1));
            sums.add_weight(spec(Role::FeedbackWeight), block.rows, d, y_prev.view());
        }
    }
    let block = cell.recurrent_block();
    if sums.wants(spec(Role::RecurrentWeight)) {
        let weight = spec(Role::RecurrentWeight);
        sums.add_weight(weight, block.rows.clone(), lanes(&block.lanes), back(1).view());
        if let Some(reset) = &tape.reset {
            let block = cell.reset_block();
            sums.add_weight(weight, block.rows, lanes(&block.lanes), reset.view());
        }
    }
    if sums.wants(spec(Role::SkipWeight)) {
        let far = back(walk.history);
        sums.add_weight(spec(Role::SkipWeight), block.rows, lanes(&block.lanes), far.view());
    }
    if sums.wants(spec(Role::InputBias)) || sums.wants(spec(Role::RecurrentBias)) {
        let mut columns = Array1::zeros(tape.lanes.ncols());
        add_column_sums(sums.set, sums.threads, tape.lanes.view(), columns.view_mut());
        let input = cell.input_blocks().into_iter().map(|block| (Role::InputBias, block));
        for (role, block) in input.chain([(Role::RecurrentBias, cell.recurrent_bias_block())]) {
            if let Some(mut gradient) = sums.vector(spec(role)) {
                let mut part = gradient.slice_mut(s![block.rows]);
                part += &columns.slice(s![block.lanes]);
            }
        }
    }
    if let Some(m) = tape.m.as_ref().filter(|_| sums.wants(spec(Role::ProjectionWeight))) {
        let d_h = found.d_h.by_step(packing);
        sums.add_weight(spec(Role::ProjectionWeight), 0..d_h.ncols(), d_h.view(), m.view());
    }
    if let Some(d_pre) = &tape.y_pre {
        if sums.wants(spec(Role::ReadoutWeight)) {
            let h = walk.by_step(packing, tape.h.view(), |t| walk.own(t));
            sums.add_weight(spec(Role::ReadoutWeight), 0..d_pre.ncols(), d_pre.view(), h.view());
        }
        sums.add_bias(spec(Role::ReadoutBias), d_pre.view());
    }
    if let Some(c) = tape.c.as_ref().filter(|_| sums.wants(spec(Role::Peephole))) {
        let (hidden, set, threads) = (cell.hidden, sums.set, sums.threads);
        let c_prev = short.by_step(packing, c.view(), |t| short.before(t, 1));
        let c = short.by_step(packing, c.view(), |t| short.own(t));
        let mut gradient = sums.vector(spec(Role::Peephole)).expect("it is wanted");
        let sees = [(LstmGate::Input, &c_prev), (LstmGate::Forget, &c_prev), (LstmGate::Output, &c)];
        for (place, (gate, c)) in sees.into_iter().enumerate() {
            let from = gate as usize * hidden;
            let part = gradient.slice_mut(s![place * hidden..(place + 1) * hidden]);
            add_column_product_sums(set, threads, lanes(&(from..from + hidden)), c.view(), part);
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
