//! The walk over the layers of a forward pass.

use crate::bridge;
use crate::buffers::Rows;
use crate::chain;
use crate::convolution::Convolution;
use crate::dense;
use crate::network::{Context, Kept, PartTape};
use crate::normalise;
use crate::packing::Packing;
use crate::pool;
use crate::running::{Running, ScanJob, run_scans};
use crate::steps;
use crate::threads::Threads;
use gatefold_model::{Layer, LayerKind, Node, Recurrent, Role, Source};
use std::sync::Arc;

/// Runs the layers of all parts from their first up to `end`, exclusive, with the inputs that `give` adds; final states
/// replace initial ones.
///
/// With fewer parts than threads, the threads share what there is in each layer, or in a chain of layers.
pub(crate) fn run(context: Context, tapes: &mut [PartTape], end: usize, give: impl Fn(&mut PartTape) + Sync) {
    let threads = context.threads;
    if tapes.len() < threads.count() {
        threads.run(tapes.iter_mut(), give);
        return walk(context, tapes, end);
    }
    let alone = context.with_threads(Threads::new(1));
    threads.run(tapes.iter_mut(), |tape| {
        give(tape);
        walk(alone, std::slice::from_mut(tape), end);
    });
}

fn walk(context: Context, tapes: &mut [PartTape], end: usize) {
    let nodes = context.config.graph().nodes();
    let mut at = tapes[0].first;
    while at < end {
        let node = &nodes[at];
        let chain =
            if context.threads.count() > 1 { chain::from(context.config, at, end) } else { Vec::new() };
        at += 1;
        if let [_, .., last] = chain[..] {
            chain::forward(context, tapes, &chain);
            at = last + 1;
        } else if let LayerKind::Recurrent(recurrent) = context.config.layers()[node.layer].kind {
            run_recurrent(context, tapes, node, &recurrent);
        } else {
            context.threads.run(tapes.iter_mut(), |tape| tape.run_other(context, node));
        }
        if !tapes[0].keeps {
            tapes.iter_mut().for_each(|tape| tape.forget(context.config.graph(), at));
        }
    }
}

/// Runs a recurrent layer.
fn run_recurrent(context: Context, tapes: &mut [PartTape], node: &Node, recurrent: &Recurrent) {
    let layer = &context.config.layers()[node.layer];
    tapes.iter_mut().for_each(|tape| tape.begin_recurrent(context, node, recurrent));
    let size = (tapes.len(), most_rows(tapes, node));
    let jobs = tapes.iter_mut().flat_map(|tape| tape.scan_jobs(node, recurrent).into_iter().flatten());
    run_scans(context, layer, recurrent, size, jobs, |job, team| job.run(context, layer, recurrent, team));
    tapes.iter_mut().for_each(|tape| tape.finish_recurrent(context, node, recurrent));
}

/// The rows of the largest part of what this node reads.
pub(crate) fn most_rows(tapes: &[PartTape], node: &Node) -> usize {
    tapes.iter().map(|tape| tape.packing_of(node).batch()).max().unwrap_or(0)
}

/// The number of a recurrent layer's state.
pub(crate) fn state_number(node: &Node) -> usize {
    node.states.as_ref().expect("recurrent layers have states").number
}

impl PartTape {
    fn begin_recurrent(&mut self, context: Context, node: &Node, recurrent: &Recurrent) {
        let (layer, packing) = (&context.config.layers()[node.layer], Arc::clone(self.packing_of(node)));
        let initial = &mut self.states[state_number(node)];
        let running = Running::begin(context, &packing, layer, recurrent, initial, self.keeps);
        let made = match running.input(context.buffers, self.input_of(context, node)) {
            Rows::Made(input) => Some(input),
            Rows::Kept(_) => None,
        };
        self.running = Some((running, made));
    }

    fn scan_jobs(&mut self, node: &Node, recurrent: &Recurrent) -> [Option<ScanJob<'_>>; 2] {
        let packing = &*self.packings[node.inputs[0]];
        let (running, made) = self.running.as_mut().expect("the layer began");
        let input = made.as_ref().map_or_else(|| self.values.rows(node.inputs[0]), |made| made.view());
        running.jobs(packing, recurrent, input, &mut self.states[state_number(node)])
    }

    fn finish_recurrent(&mut self, context: Context, node: &Node, recurrent: &Recurrent) {
        let (running, _) = self.running.take().expect("the layer began");
        let layer = &context.config.layers()[node.layer];
        let (packing, states) = (&self.packings[node.inputs[0]], &mut self.states[state_number(node)]);
        let kept = running.finish(context, packing, layer, recurrent, states);
        self.put(context, node, Some(kept));
    }

    /// Takes the value of a recurrent layer, left out where nobody reads it.
    pub(crate) fn put(&mut self, context: Context, node: &Node, kept: Option<Kept>) {
        let (packing, own) = (Arc::clone(self.packing_of(node)), Source::Output(node.layer));
        if context.config.graph().reads_final(node.layer) {
            let source = Source::FinalHidden(node.layer);
            self.packings.insert(source, self.packing_of_steps(source, 1, &packing));
        }
        if let Some(kept) = kept {
            self.values.insert(own, kept);
        }
        self.packings.insert(own, packing);
    }

    /// Runs a layer that is not recurrent.
    fn run_other(&mut self, context: Context, node: &Node) {
        let layer = &context.config.layers()[node.layer];
        if let LayerKind::Decoder { .. } = layer.kind {
            self.bridge = Some(bridge::forward(context, &mut self.states));
            return;
        }
        let input = self.input_of(context, node);
        let mut packing = Arc::clone(self.packing_of(node));
        let kept = self.other_forward(context, layer, node, input, &mut packing);
        self.values.insert(Source::Output(layer.index), kept);
        self.packings.insert(Source::Output(layer.index), packing);
    }

    /// Runs a layer that is neither recurrent nor a decoder. `packing` is that of its input, and becomes that of its
    /// output.
    fn other_forward(
        &self,
        context: Context,
        layer: &Layer,
        node: &Node,
        input: Rows,
        packing: &mut Arc<Packing>,
    ) -> Kept {
        let own = Source::Output(layer.index);
        match layer.kind {
            LayerKind::Dense { activation, .. } => {
                let bias = context.values.elements(layer, Role::DenseBias, false);
                let weight = &context.packed.layer(layer).dense;
                let dense = dense::forward(context, input.view(), weight, bias, activation);
                if self.keeps { Kept::Dense(dense) } else { Kept::Rows(dense.y) }
            }
            LayerKind::Conv1d(conv) => {
                let to = self.packing_of_conv(own, &conv, packing);
                let convolution = Convolution { conv: &conv, from: packing, to: &to, input: layer.input };
                let bias = context.values.elements(layer, Role::ConvBias, false);
                let weight = &context.packed.layer(layer).dense;
                let made = convolution.forward(context, input.view(), weight, bias);
                *packing = to;
                if self.keeps { Kept::Dense(made) } else { Kept::Rows(made.y) }
            }
            LayerKind::Embedding { .. } => {
                Kept::Rows(steps::embed(context.buffers, context.values.table(layer), input.view()))
            }
            LayerKind::Dropout { rate } => match self.dropout {
                None => self.unchanged(node, input),
                Some(dropout) => {
                    let mut y = context.buffers.copy(input.view());
                    let dropout = steps::dropout_of(dropout, layer);
                    steps::drop_out(dropout, layer.index, rate, packing, 0..packing.steps(), &mut y);
                    Kept::Rows(y)
                }
            },
            LayerKind::Softmax => Kept::Rows(steps::softmax(context.set, context.buffers, input.view())),
            LayerKind::Normalise { epsilon } => {
                Kept::Rows(normalise::forward(context, layer, epsilon, input.view()))
            }
            LayerKind::Pool(pooling) => {
                let rows = pool::forward(context.buffers, packing, input.view(), pooling);
                *packing = self.packing_of_steps(own, 1, packing);
                Kept::Rows(rows)
            }
            LayerKind::LastStep => {
                let rows = packing.last_rows(context.buffers, input.view());
                *packing = self.packing_of_steps(own, 1, packing);
                Kept::Rows(rows)
            }
            LayerKind::Expand { steps: count, fill } => {
                let rows = steps::expand(
                    context.buffers,
                    packing.last_rows(context.buffers, input.view()).view(),
                    count,
                    fill,
                );
                *packing = self.packing_of_steps(own, count, packing);
                Kept::Rows(rows)
            }
            // These layers only read.
            LayerKind::Residual { .. } | LayerKind::FinalState | LayerKind::Merge(_) => {
                self.unchanged(node, input)
            }
            kind => unreachable!("{} is run elsewhere", kind.name()),
        }
    }
}
