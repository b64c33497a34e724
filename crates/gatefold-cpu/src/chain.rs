//! Recurrent layers one after another, as a pipeline: while one computes a window of steps, the next computes the
//! window before. For batches of so few rows that these alone do not keep all threads busy.
//!
//! The windows change no bit, since a row's results do not depend on the rows and steps computed with it.

use crate::buffers::Matrix;
use crate::forward::state_number;
use crate::network::{Context, Kept, PartTape};
use crate::packing::Packing;
use crate::parts::PartState;
use crate::pipeline::Chain;
use crate::product::Start;
use crate::recurrent::{self, Inference, RecurrentTape};
use crate::scan::{self, BackwardScan, ScanGradients, ScanStates, ScanTape};
use crate::steps::{drop_out, dropout_of};
use crate::weights::Weights;
use gatefold_model::{Direction, Dropout, Layer, LayerKind, NetworkConfig, Node, Recurrent, Source};
use ndarray::{ArrayView2, s};
use std::ops::Range;
use std::sync::Arc;

/// The multiplications and additions of a window in one layer that are worth handing it on, a few us.
const WORTH_A_WINDOW: usize = 1 << 18;
/// The most windows of a sequence, unless their lanes would not fit a core's second cache.
const MOST_WINDOWS: usize = 16;

/// The recurrent layer before this one, if it has a chain with this one: both go forward, and this one alone reads the
/// other's output, at most through dropout.
fn link(config: &NetworkConfig, at: usize) -> Option<usize> {
    let (layers, graph) = (config.layers(), config.graph());
    // The steps of a dilated layer's scan are several steps of its neighbours'.
    let is_linked = |r: &Recurrent| r.direction == Direction::Forward && !r.is_dilated();
    let is_recurrent = |at: usize| layers[at].recurrent().is_some_and(is_linked);
    // Between branches, a layer may read one that does not lie before it.
    let before = |at: usize| match graph.node(at).inputs[..] {
        [Source::Output(before)] if before + 1 == at && graph.readers(Source::Output(before)) == [at] => {
            Some(before)
        }
        _ => None,
    };
    let mut found = before(at).filter(|_| is_recurrent(at))?;
    if let LayerKind::Dropout { .. } = layers[found].kind {
        found = before(found)?;
    }
    is_recurrent(found).then_some(found)
}

/// The recurrent layers of the chain that begins with this layer, up to `end`, exclusive.
pub(crate) fn from(config: &NetworkConfig, at: usize, end: usize) -> Vec<usize> {
    let mut chain = vec![at];
    while let Some(&last) = chain.last()
        && let Some(next) = (last + 1..end.min(last + 3)).find(|&next| link(config, next) == Some(last))
    {
        chain.push(next);
    }
    chain
}

/// The recurrent layers of the chain that ends with this layer, down to `first`.
pub(crate) fn upto(config: &NetworkConfig, at: usize, first: usize) -> Vec<usize> {
    let mut chain = vec![at];
    while let Some(before) = link(config, chain[0]).filter(|&before| before >= first) {
        chain.insert(0, before);
    }
    chain
}

/// A dropout layer that follows a recurrent layer in a chain.
#[derive(Clone, Copy)]
struct DropoutAfter {
    dropout: Dropout,
    layer: usize,
    rate: f32,
}

/// A layer of a chain.
#[derive(Clone, Copy)]
struct Link<'a> {
    node: &'a Node,
    layer: &'a Layer,
    recurrent: &'a Recurrent,
    weights: Weights<'a>,
    /// The dropout layer between this layer and the next of the chain, also where no dropout is given.
    after: Option<usize>,
    dropout: Option<DropoutAfter>,
}

fn links<'a>(context: Context<'a>, chain: &[usize], dropout: Option<Dropout>) -> Vec<Link<'a>> {
    let layers = context.config.layers();
    let link = |(place, &at): (usize, &usize)| {
        let recurrent = layers[at].recurrent().expect("chains are of recurrent layers");
        let after = chain.get(place + 1).filter(|&&next| next > at + 1).map(|_| at + 1);
        let dropout = after.zip(dropout).map(|(layer, dropout)| {
            let LayerKind::Dropout { rate } = layers[layer].kind else { unreachable!("chains skip these") };
            DropoutAfter { dropout: dropout_of(dropout, &layers[layer]), layer, rate }
        });
        let weights = Weights::of(context, &layers[at], recurrent, 0);
        let node = context.config.graph().node(at);
        Link { node, layer: &layers[at], recurrent, weights, after, dropout }
    };
    chain.iter().enumerate().map(link).collect()
}

/// Divides the steps of a part into windows for these layers.
fn windows(packing: &Packing, links: &[Link]) -> Vec<Range<usize>> {
    let weights = |link: &Link| link.layer.parameters.iter().map(|spec| spec.len()).sum::<usize>();
    let (steps, rows) = (packing.steps(), packing.batch());
    let layer = links.iter().map(weights).sum::<usize>() / links.len();
    let lanes = links.iter().map(|link| link.weights.packed.bias.len()).max().unwrap_or(1);
    let fewest_steps = WORTH_A_WINDOW.div_ceil(rows * layer).max(1);
    let most = MOST_WINDOWS.max((steps * rows * lanes).div_ceil(scan::WINDOW_LANES));
    let count = (steps / fewest_steps).clamp(1, most);
    (0..count).map(|n| n * steps / count..(n + 1) * steps / count).filter(|w| !w.is_empty()).collect()
}

/// A layer of a chain, forward over one part.
struct Stage<'a> {
    link: &'a Link<'a>,
    packing: &'a Packing,
    windows: Arc<[Range<usize>]>,
    /// The chain's own input, for its first layer.
    input: Option<ArrayView2<'a, f32>>,
    is_last: bool,
    /// The initial states.
    states: &'a PartState,
    pass: StagePass<'a>,
    /// `[N, R]`: what an inference's last layer puts out, or what dropout makes of what is kept.
    output: Option<Matrix>,
}

#[expect(clippy::large_enum_variant, reason = "there are a few of them, for a whole pass")]
enum StagePass<'a> {
    Keeps { tape: ScanTape, scratch: Matrix },
    Infers(Inference<'a>),
}

/// Runs the layers of a chain.
pub(crate) fn forward(context: Context, tapes: &mut [PartTape], chain: &[usize]) {
    let links = links(context, chain, tapes[0].dropout);
    let inputs: Vec<_> = tapes.iter().map(|tape| tape.input_of(context, links[0].node)).collect();
    let parts = tapes.iter().zip(&inputs);
    let chains = parts.map(|(tape, input)| stages(context, tape, input.view(), &links)).collect();
    let done = context.threads.pipeline(chains, |stage, n, item| stage.run(context, n, item));
    let finish = |stages: Vec<Stage>| stages.into_iter().map(|stage| stage.finish(context)).collect();
    let found: Vec<Vec<Results>> = done.into_iter().map(finish).collect();
    drop(inputs);
    for (tape, found) in tapes.iter_mut().zip(found) {
        for (link, (kept, finals, dropped)) in links.iter().zip(found) {
            tape.states[state_number(link.node)] = finals;
            tape.put(context, link.node, kept);
            tape.put_dropped(context, link, dropped);
        }
    }
}

/// The value of a layer, unless nobody reads it, its final states, and the value after dropout.
type Results = (Option<Kept>, PartState, Option<Matrix>);

fn stages<'a>(
    context: Context,
    tape: &'a PartTape,
    input: ArrayView2<'a, f32>,
    links: &'a [Link<'a>],
) -> Chain<Stage<'a>> {
    let packing = &**tape.packing_of(links[0].node);
    let windows: Arc<[_]> = windows(packing, links).into();
    let stage = |(place, link): (usize, &'a Link<'a>)| {
        let (states, is_last) = (&tape.states[state_number(link.node)], place + 1 == links.len());
        let (pass, has_output) = if tape.keeps {
            let tape = recurrent::begin_scan(context, packing, &link.weights, states.scan(0));
            (
                StagePass::Keeps {
                    tape,
                    scratch: context.buffers.matrix(1, link.weights.scratch_len(packing.batch())),
                },
                link.dropout.is_some(),
            )
        } else {
            (StagePass::Infers(Inference::new(link.weights, states.scan(0))), is_last)
        };
        Stage {
            link,
            packing,
            windows: Arc::clone(&windows),
            input: (place == 0).then_some(input),
            is_last,
            states,
            pass,
            output: has_output.then(|| context.buffers.matrix(packing.len(), link.layer.output)),
        }
    };
    Chain { items: windows.len(), stages: links.iter().enumerate().map(stage).collect() }
}

impl Stage<'_> {
    /// Runs a window; returns the input of the next layer.
    fn run(&mut self, context: Context, n: usize, item: Option<Matrix>) -> Option<Matrix> {
        let (steps, width) = (self.windows[n].clone(), self.link.layer.input);
        let rows = self.packing.rows_of(&steps);
        let input = match (&item, &self.input) {
            (Some(item), _) => item.elements(),
            (None, Some(input)) => {
                let all = input.to_slice().expect("values are kept in standard layout");
                &all[rows.start * width..rows.end * width]
            }
            (None, None) => unreachable!("the layer before hands its outputs on"),
        };
        let (packing, weights) = (self.packing, &self.link.weights);
        let mut next = (!self.is_last).then(|| context.buffers.matrix(rows.len(), self.link.layer.output));
        match &mut self.pass {
            StagePass::Keeps { tape, scratch } => {
                scan::forward_steps(
                    context.set,
                    packing,
                    weights,
                    steps.clone(),
                    input,
                    width,
                    tape,
                    scratch.elements_mut(),
                );
                if let Some(next) = &mut next {
                    next.assign(&recurrent::rows_of_outputs(packing, weights, tape, rows.clone()));
                }
            }
            StagePass::Infers(inference) => {
                let to = match (&mut next, &mut self.output) {
                    (Some(next), _) => next.view_mut(),
                    (None, Some(output)) => output.slice_mut(s![rows.clone(), ..]),
                    (None, None) => unreachable!("the last layer has an output"),
                };
                inference.run(context, packing, steps.clone(), input, width, to);
            }
        }
        let mut next = next?;
        if let Some(DropoutAfter { dropout, layer, rate }) = self.link.dropout {
            drop_out(dropout, layer, rate, packing, steps, &mut next);
            if let Some(dropped) = &mut self.output {
                dropped.slice_mut(s![rows, ..]).assign(&*next);
            }
        }
        Some(next)
    }

    fn finish(self, context: Context) -> Results {
        let (packing, recurrent) = (self.packing, self.link.recurrent);
        let mut states = self.states.clone();
        match self.pass {
            StagePass::Keeps { tape, .. } => {
                let mut tape = RecurrentTape::of([Some(tape), None], None);
                recurrent::finish(context, packing, self.link.layer, recurrent, &mut tape, &mut states);
                (Some(Kept::Recurrent(tape)), states, self.output)
            }
            StagePass::Infers(inference) => {
                states.scans = [Some(inference.states), None];
                (self.output.map(Kept::Rows), states, None)
            }
        }
    }
}

impl PartTape {
    /// Adds the value of the dropout layer after a layer of a chain, as far as it is read again.
    fn put_dropped(&mut self, context: Context, link: &Link, dropped: Option<Matrix>) {
        let Some(after) = link.after else { return };
        let node = context.config.graph().node(after);
        let (own, packing) = (Source::Output(after), Arc::clone(self.packing_of(node)));
        self.packings.insert(own, packing);
        if self.keeps {
            let same = || Kept::Same(Source::Output(link.layer.index));
            self.values.insert(own, dropped.map_or_else(same, Kept::Rows));
        }
    }
}

/// A part on its way back through a chain.
pub(crate) struct GivenBack<'a> {
    pub(crate) packing: &'a Packing,
    pub(crate) dropout: Option<Dropout>,
    /// The tapes of the chain's layers, the first layer's first.
    pub(crate) tapes: Vec<&'a mut ScanTape>,
    /// `[N, width]`: with respect to the last layer's outputs.
    pub(crate) d_out: Option<Matrix>,
    /// With respect to the final states of all recurrent layers.
    pub(crate) d_final: &'a [Option<PartState>],
}

/// A layer of a chain, backward over one part.
struct BackStage<'a> {
    link: &'a Link<'a>,
    packing: &'a Packing,
    /// The windows, for the last layer.
    windows: Arc<[Range<usize>]>,
    tape: &'a mut ScanTape,
    d_final: Option<&'a ScanStates>,
    scan: BackwardScan<'a>,
    /// The steps that it has not gone through.
    left: usize,
    /// The dropout layer before this layer.
    dropout: Option<DropoutAfter>,
    is_first: bool,
    /// `[N, I]`: with respect to the chain's input, for the first layer, if wanted.
    d_input: Option<Matrix>,
}

/// Backward through the layers of a chain; for each part and layer, the last layer first, the gradient with respect to
/// the input if it is the chain's, and what else the layer's pass leaves. The context's weights are those packed for backward.
pub(crate) fn backward(
    context: Context,
    chain: &[usize],
    given: Vec<GivenBack>,
    wants_input: bool,
) -> Vec<Vec<(Option<Matrix>, ScanGradients)>> {
    let Some(dropout) = given.first().map(|given| given.dropout) else { return Vec::new() };
    let links = links(context, chain, dropout);
    let chains = given.into_iter().map(|given| back_stages(context, given, &links, wants_input)).collect();
    let done = context.threads.pipeline(chains, |stage, n, item| stage.run(context, n, item));
    let finish = |stage: BackStage| (stage.d_input, stage.scan.gradients);
    done.into_iter().map(|stages| stages.into_iter().map(finish).collect()).collect()
}

fn back_stages<'a>(
    context: Context,
    given: GivenBack<'a>,
    links: &'a [Link<'a>],
    wants_input: bool,
) -> Chain<BackStage<'a>> {
    let GivenBack { packing, dropout: _, tapes, mut d_out, d_final } = given;
    let windows: Arc<[_]> = windows(packing, links).into();
    let (buffers, last) = (context.buffers, links.len() - 1);
    let stage = |(place, tape): (usize, &'a mut ScanTape)| {
        let link = &links[place];
        let d_final = d_final[state_number(link.node)].as_ref().map(|d_final| d_final.scan(0));
        let scan = if place == last {
            let zeros = || buffers.zeros(packing.len(), link.layer.output);
            let d_out = d_out.take().unwrap_or_else(zeros);
            BackwardScan::new(context, packing, link.weights, tape, d_out, d_final)
        } else {
            let room = buffers.matrix(packing.len(), link.layer.output);
            let mut scan = BackwardScan::without_outputs(context, packing, link.weights, tape, room, d_final);
            scan.add_final(packing, d_final, |step| step.is_none());
            scan
        };
        let is_first = place == 0;
        BackStage {
            link,
            packing,
            windows: Arc::clone(&windows),
            tape,
            d_final,
            scan,
            left: packing.steps(),
            dropout: place.checked_sub(1).and_then(|before| links[before].dropout),
            is_first,
            d_input: (is_first && wants_input).then(|| buffers.matrix(packing.len(), link.layer.input)),
        }
    };
    let stages = tapes.into_iter().enumerate().rev().map(stage).collect();
    Chain { items: windows.len(), stages }
}

impl BackStage<'_> {
    /// Goes back through a window; returns the gradients of the outputs of the layer before, and their steps.
    fn run(
        &mut self,
        context: Context,
        n: usize,
        item: Option<(Range<usize>, Matrix)>,
    ) -> Option<(Range<usize>, Matrix)> {
        let (packing, weights) = (self.packing, &self.link.weights);
        let first = match item {
            None => self.windows[self.windows.len() - 1 - n].start,
            Some((steps, d_out)) => {
                self.scan.give(packing, &steps, &d_out);
                let here = |step: Option<usize>| step.is_some_and(|step| steps.contains(&step));
                self.scan.add_final(packing, self.d_final, here);
                // A step adds to the gradients of the k steps before it, which have to be there.
                let reach = if steps.start == 0 { 0 } else { weights.walk.history };
                (steps.start + reach).min(self.left)
            }
        };
        let steps = first..std::mem::replace(&mut self.left, first);
        self.scan.run(context.set, packing, self.tape, steps.clone().rev());
        let (rows, width) = (packing.rows_of(&steps), self.link.layer.input);
        if self.is_first {
            if let Some(d_input) = &mut self.d_input {
                let to = &mut d_input.elements_mut()[rows.start * width..rows.end * width];
                recurrent::input_gradient_rows(context, weights, self.tape, rows, Start::Zero, to);
            }
            return None;
        }
        let mut next = context.buffers.matrix(rows.len(), width);
        let to = next.elements_mut();
        recurrent::input_gradient_rows(context, weights, self.tape, rows, Start::Zero, to);
        if let Some(DropoutAfter { dropout, layer, rate }) = self.dropout {
            drop_out(dropout, layer, rate, packing, steps.clone(), &mut next);
        }
        Some((steps, next))
    }
}
