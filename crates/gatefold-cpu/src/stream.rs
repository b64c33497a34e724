use crate::batch::check_half;
use crate::buffers::Matrix;
use crate::dense;
use crate::dressed::NormalRows;
use crate::network::{Context, Network};
use crate::normalise;
use crate::scan::{Step, input_lanes, step_forward};
use crate::steps;
use crate::weights::{Pass, Weights};
use gatefold_model::{Direction, Layer, LayerKind, Merge, ModelError, Recurrent, Role, Source};
use gatefold_model::{LayerState, States};
use ndarray::{Array2, ArrayView2, ArrayViewMut2, ArrayViewMut3, Axis, s};
use std::cell::Cell;
use std::ops::Range;

/// The fewest streams worth a thread.
const STREAMS: usize = 8;

thread_local! {
    /// Room for the values of a step that are still to be read, kept between steps.
    static VALUES: Cell<Vec<(Source, Matrix)>> = const { Cell::new(Vec::new()) };
}

/// Some rows of a layer's state.
struct StateRows<'a> {
    /// `[k, B, R]`
    h: ArrayViewMut3<'a, f32>,
    /// `[d, B, H]`
    c: Option<ArrayViewMut3<'a, f32>>,
    /// `[B, O]`
    y: Option<ArrayViewMut2<'a, f32>>,
}

impl<'a> StateRows<'a> {
    fn all(state: &'a mut LayerState) -> Self {
        StateRows {
            h: state.h.view_mut(),
            c: state.c.as_mut().map(|c| c.view_mut()),
            y: state.y.as_mut().map(|y| y.view_mut()),
        }
    }

    /// Splits off the first `rows`.
    fn split(self, rows: usize) -> (Self, Self) {
        let (h, other_h) = self.h.split_at(Axis(1), rows);
        let (c, other_c) = self.c.map(|c| c.split_at(Axis(1), rows)).unzip();
        let (y, other_y) = self.y.map(|y| y.split_at(Axis(0), rows)).unzip();
        (StateRows { h, c, y }, StateRows { h: other_h, c: other_c, y: other_y })
    }
}

impl Network {
    /// One time step of `B` streams: `input [B, I]` to `[B, O]`, updating the states. With an encoder and decoder, only
    /// the decoder runs, from states such as those of [`Network::encode`]. Dropout is off, and a last-step or
    /// final-state layer treats this step as the last.
    ///
    /// The results are bit for bit those of whole sequences.
    ///
    /// # Errors
    /// [`ModelError::Config`] for a layer that cannot run step by step, because it runs in reverse, reads
    /// several steps at once or turns one step into several, and for an input or states that do not fit.
    pub fn step(&self, states: &mut States, input: ArrayView2<f32>) -> Result<Array2<f32>, ModelError> {
        let mut output = Array2::zeros((input.nrows(), self.config.output()));
        self.step_into(states, input, output.view_mut())?;
        Ok(output)
    }

    /// [`Network::step`], with the output written to `output [B, O]`. After the first few steps of a shape,
    /// none allocates anything, if they are too small to be shared among threads.
    ///
    /// # Errors
    /// Those of [`Network::step`], and for an output that does not fit.
    pub fn step_into(
        &self,
        states: &mut States,
        input: ArrayView2<f32>,
        mut output: ArrayViewMut2<f32>,
    ) -> Result<(), ModelError> {
        let first = self.config.decoder().map_or(0, |at| at + 1);
        let layers = &self.config.layers()[first..];
        if let Some((layer, problem)) = layers.iter().find_map(|layer| Some((layer, cannot_stream(layer)?))) {
            return Err(ModelError::Config { place: layer.place(), problem: problem.into() });
        }
        let rows = input.nrows();
        let expected = (rows, self.config.output());
        check_half("input of a step", &self.config, first, input.insert_axis(Axis(0)), None)
            .and_then(|()| states.check(&self.config, rows))
            .and_then(|()| match output.dim() == expected {
                true => Ok(()),
                false => Err(format!("output: expected {expected:?}, found {:?}", output.dim())),
            })
            .map_err(|problem| ModelError::Config { place: "network".into(), problem })?;

        states.layers.iter_mut().for_each(LayerState::make_standard);
        let weights: usize = layers.iter().flat_map(|layer| &layer.parameters).map(|spec| spec.len()).sum();
        let before = self.config.layers()[..first].iter().filter(|layer| layer.recurrent().is_some()).count();
        let states = states.layers[before..].iter_mut().map(StateRows::all);
        let threads = self.threads.worth(rows * weights);
        self.buffers.begin();
        self.with_context(Pass::Forward, None, |context| {
            if threads.count() == 1 || rows <= STREAMS {
                output.assign(&*self.step_rows(context, first, states, input));
                return;
            }
            let share = threads.share(rows, STREAMS, rows * weights);
            let ranges = (0..rows).step_by(share).map(|first| first..(first + share).min(rows));
            let mut jobs: Vec<(Range<usize>, Vec<StateRows>, ArrayViewMut2<f32>)> =
                Vec::with_capacity(ranges.len());
            let mut rest: Vec<StateRows> = states.collect();
            let mut output_rest = output;
            for range in ranges {
                let (part, others) = rest.into_iter().map(|state| state.split(range.len())).unzip();
                let (output, output_others) = output_rest.split_at(Axis(0), range.len());
                jobs.push((range, part, output));
                (rest, output_rest) = (others, output_others);
            }
            threads.run(jobs, |(range, states, mut output)| {
                let input = input.slice(s![range, ..]);
                output.assign(&*self.step_rows(context, first, states.into_iter(), input));
            });
        });
        Ok(())
    }

    /// Runs some streams through the layers from `first` on.
    fn step_rows<'s>(
        &self,
        context: Context,
        first: usize,
        mut states: impl Iterator<Item = StateRows<'s>>,
        input: ArrayView2<f32>,
    ) -> Matrix {
        let graph = self.config.graph();
        let given = if first == 0 { Source::Input } else { Source::DecoderInput };
        let mut values = VALUES.take();
        values.push((given, context.buffers.copy(input)));
        for node in &graph.nodes()[first..] {
            let layer = &self.config.layers()[node.layer];
            let mut read = |source: Source| {
                let at = values.iter().position(|(name, _)| *name == source).expect("it was kept");
                match graph.readers(source).last() == Some(&node.layer) {
                    true => values.swap_remove(at).1,
                    false => values[at].1.clone(),
                }
            };
            let (one, others) = node.inputs.split_first().expect("it reads a value");
            let x = match node.merge {
                Merge::Sum => others.iter().fold(read(*one), |mut sum, &other| {
                    *sum += &*read(other);
                    sum
                }),
                Merge::Concatenate => {
                    let mut all = context.buffers.matrix(input.nrows(), layer.output);
                    let mut column = 0;
                    for &source in &node.inputs {
                        let part = read(source);
                        all.slice_mut(s![.., column..column + part.ncols()]).assign(&*part);
                        column += part.ncols();
                    }
                    all
                }
            };
            let y = match layer.kind {
                LayerKind::Recurrent(recurrent) => {
                    let state = states.next().expect("one for each recurrent layer");
                    let (h, y) = recurrent_step(context, layer, &recurrent, state, &x);
                    if graph.reads_final(layer.index) {
                        values.push((Source::FinalHidden(layer.index), h.clone()));
                    }
                    y.unwrap_or(h)
                }
                LayerKind::Dense { activation, .. } => {
                    let bias = context.values.elements(layer, Role::DenseBias, false);
                    let weight = &context.packed.layer(layer).dense;
                    dense::forward(context, x.view(), weight, bias, activation).y
                }
                // Only one that reads a single step; others are refused.
                LayerKind::Conv1d(conv) => {
                    let bias = context.values.elements(layer, Role::ConvBias, false);
                    let weight = &context.packed.layer(layer).dense;
                    dense::forward(context, x.view(), weight, bias, conv.activation).y
                }
                LayerKind::Embedding { .. } => {
                    steps::embed(context.buffers, context.values.table(layer), x.view())
                }
                LayerKind::Softmax => steps::softmax(context.set, context.buffers, x.view()),
                LayerKind::Normalise { epsilon } => normalise::forward(context, layer, epsilon, x.view()),
                // These layers only read, and a single step is also the last.
                _ => x,
            };
            values.push((Source::Output(layer.index), y));
        }
        let output = values.iter().position(|(name, _)| *name == graph.output());
        let output = values.swap_remove(output.expect("the last layer has an output")).1;
        values.clear();
        VALUES.set(values);
        output
    }
}

/// Runs one step of a recurrent layer. Returns h and, with feedback, the output, which is h otherwise.
fn recurrent_step(
    context: Context,
    layer: &Layer,
    recurrent: &Recurrent,
    mut state: StateRows,
    x: &Matrix,
) -> (Matrix, Option<Matrix>) {
    let weights = Weights::of(context, layer, recurrent, 0);
    let (rows, k) = (x.nrows(), recurrent.history());
    let new = |width: usize| context.buffers.matrix(rows, width);
    let mut lanes = new(weights.cell.lanes() * recurrent.hidden);
    let mut normal = NormalRows::new(context.buffers, &weights, rows);
    let part = normal.as_mut().map(|normal| normal.rows(0..rows));
    input_lanes(context.set, &weights, x.elements(), x.ncols(), lanes.elements_mut(), part);
    let mut h = new(recurrent.recurrent_width());
    let mut c = state.c.as_ref().map(|_| new(recurrent.hidden));
    let mut m = weights.projects.then(|| new(recurrent.hidden));
    let mut reset = weights.cell.resets_before().then(|| new(recurrent.hidden));
    let mut y = state.y.as_ref().map(|y| new(y.ncols()));
    let mut y_pre = y.clone();
    fn whole<'a>(view: &'a ArrayView2<f32>) -> &'a [f32] {
        view.as_slice().expect("the state's rows lie together")
    }
    let h_prev = state.h.index_axis(Axis(0), if weights.skips { k - 1 } else { 0 });
    let h_far = weights.skips.then(|| state.h.index_axis(Axis(0), 0));
    let c_prev = state.c.as_ref().map(|c| c.index_axis(Axis(0), 0));
    let y_prev = state.y.as_ref().map(|y| y.view());
    let step = Step {
        lanes: lanes.elements_mut(),
        h_prev: whole(&h_prev),
        h_far: h_far.as_ref().map(whole),
        h: h.elements_mut(),
        c: c_prev.as_ref().map(whole).zip(c.as_mut().map(Matrix::elements_mut)),
        m: m.as_mut().map(Matrix::elements_mut),
        reset: reset.as_mut().map(Matrix::elements_mut),
        y: y_prev.as_ref().map(whole).zip(y.as_mut().map(Matrix::elements_mut)),
        y_pre: y_pre.as_mut().map(Matrix::elements_mut),
        normal: normal.as_mut().map(|normal| normal.rows(0..rows)),
    };
    let mut scratch = context.buffers.matrix(1, weights.scratch_len(rows));
    step_forward(context.set, &weights, None, step, scratch.elements_mut());
    push(&mut state.h, h.view());
    if let (Some(mut to), Some(c)) = (state.c, c) {
        push(&mut to, c.view());
    }
    if let (Some(mut to), Some(y)) = (state.y, &y) {
        to.assign(&**y);
    }
    (h, y)
}

/// Lets the oldest value of a state `[k, B, F]` drop out and the newest come in.
fn push(state: &mut ArrayViewMut3<f32>, newest: ArrayView2<f32>) {
    let k = state.dim().0;
    for j in 1..k {
        let (mut older, newer) = state.multi_slice_mut((s![j - 1, .., ..], s![j, .., ..]));
        older.assign(&newer);
    }
    state.index_axis_mut(Axis(0), k - 1).assign(&newest);
}

/// The reason why a layer cannot run step by step, if there is one.
fn cannot_stream(layer: &Layer) -> Option<&'static str> {
    match layer.kind {
        LayerKind::Recurrent(recurrent) if recurrent.direction != Direction::Forward => {
            Some("it starts at the end of a sequence, which a stream does not have; use direction forward")
        }
        LayerKind::Conv1d(conv) if !conv.is_pointwise() => {
            Some("it reads several steps at once; run whole sequences instead")
        }
        LayerKind::Pool(_) => Some("it reads all steps of a row; run whole sequences instead"),
        LayerKind::Expand { .. } => Some("it makes several steps of one; run whole sequences instead"),
        _ => None,
    }
}
