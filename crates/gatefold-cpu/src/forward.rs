//! The walk over the layers of a forward pass.

use crate::bridge;
use crate::chain;
use crate::dense;
use crate::network::{Context, Kept, PartTape};
use crate::packing::Packing;
use crate::recurrent::{self, Given};
use crate::steps;
use crate::threads::Threads;
use gatefold_model::{Layer, LayerKind, LayerState, Node, Recurrent, Role, Source};
use ndarray::{CowArray, Ix2};
use std::sync::Arc;

/// Runs the layers of all parts from their first up to `end`, exclusive, with the inputs that `give` adds; final states
/// replace initial ones.
///
/// With fewer parts than threads, the threads share what there is in each layer, or in a chain of layers.
pub(crate) fn run(
    context: Context,
    threads: Threads,
    tapes: &mut [PartTape],
    end: usize,
    give: impl Fn(&mut PartTape) + Sync,
) {
    if tapes.len() < threads.count() {
        threads.run(tapes.iter_mut(), give);
        return walk(context, threads, tapes, end);
    }
    threads.run(tapes.iter_mut(), |tape| {
        give(tape);
        walk(context, Threads::new(1), std::slice::from_mut(tape), end);
    });
}

fn walk(context: Context, threads: Threads, tapes: &mut [PartTape], end: usize) {
    let nodes = context.config.graph().nodes();
    let mut at = tapes[0].first;
    while at < end {
        let node = &nodes[at];
        let chain = if threads.count() > 1 { chain::from(context.config, at, end) } else { Vec::new() };
        at += 1;
        if let [_, .., last] = chain[..] {
            chain::forward(context, threads, tapes, &chain);
            at = last + 1;
        } else if let LayerKind::Recurrent(recurrent) = context.config.layers()[node.layer].kind {
            run_recurrent(context, threads, tapes, node, &recurrent);
        } else {
            threads.run(tapes.iter_mut(), |tape| tape.run_other(context, node));
        }
        if !tapes[0].keeps {
            tapes.iter_mut().for_each(|tape| tape.forget(context.config.graph(), at));
        }
    }
}

/// Runs a recurrent layer.
fn run_recurrent(
    context: Context,
    threads: Threads,
    tapes: &mut [PartTape],
    node: &Node,
    recurrent: &Recurrent,
) {
    let layer = &context.config.layers()[node.layer];
    let number = node.states.as_ref().expect("recurrent layers have states").number;
    let inputs: Vec<CowArray<f32, Ix2>> =
        tapes.iter().map(|tape| tape.input_of(context.config, node)).collect();
    let parts = tapes.iter().zip(&inputs).map(|(tape, input)| Given {
        packing: tape.packing_of(node),
        input: input.view(),
        initial: &tape.states.layers[number],
    });
    let given: Vec<Given> = parts.collect();
    let found: Vec<(Kept, LayerState)> = if tapes[0].keeps {
        let found = recurrent::forward(context, threads, layer, recurrent, &given);
        found.into_iter().map(|(tape, finals)| (Kept::Recurrent(Box::new(tape)), finals)).collect()
    } else {
        let found = recurrent::infer(context, threads, layer, recurrent, &given);
        found.into_iter().map(|(output, finals)| (Kept::Rows(output), finals)).collect()
    };
    drop(given);
    drop(inputs);
    for (tape, (kept, finals)) in tapes.iter_mut().zip(found) {
        tape.put(context, node, Some(kept), finals);
    }
}

impl PartTape {
    /// Takes the results of a recurrent layer; its value is left out where nobody reads it.
    pub(crate) fn put(&mut self, context: Context, node: &Node, kept: Option<Kept>, finals: LayerState) {
        let number = node.states.as_ref().expect("recurrent layers have states").number;
        self.states.layers[number] = finals;
        let (packing, own) = (Arc::clone(self.packing_of(node)), Source::Output(node.layer));
        if context.config.graph().reads_final(node.layer) {
            self.packings.insert(Source::FinalHidden(node.layer), Arc::new(packing.of_steps(1)));
        }
        self.values.extend(kept.map(|kept| (own, kept)));
        self.packings.insert(own, packing);
    }

    /// Runs a layer that is not recurrent.
    fn run_other(&mut self, context: Context, node: &Node) {
        let layer = &context.config.layers()[node.layer];
        if let LayerKind::Decoder { .. } = layer.kind {
            self.bridge = Some(bridge::forward(context, &mut self.states.layers));
            return;
        }
        let input = self.input_of(context.config, node);
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
        input: CowArray<f32, Ix2>,
        packing: &mut Arc<Packing>,
    ) -> Kept {
        match layer.kind {
            LayerKind::Dense { activation, .. } => {
                let bias = context.values.elements(layer, Role::DenseBias, false);
                let weight = &context.packed.layer(layer).dense;
                let dense = dense::forward(context, input.view(), weight, bias, activation);
                if self.keeps { Kept::Dense(dense) } else { Kept::Rows(dense.y) }
            }
            LayerKind::Embedding { .. } => {
                Kept::Rows(steps::embed(context.buffers, context.values.table(layer), input.view()))
            }
            LayerKind::Dropout { rate } => match self.dropout {
                None => self.unchanged(context.buffers, node, input),
                Some(dropout) => {
                    let mut y = context.buffers.copy(input.view());
                    steps::drop_out(dropout, layer.index, rate, packing, 0..packing.steps(), &mut y);
                    Kept::Rows(y)
                }
            },
            LayerKind::Softmax => Kept::Rows(steps::softmax(context.buffers, input.view())),
            LayerKind::LastStep => {
                let rows = packing.last_rows(context.buffers, input.view());
                *packing = Arc::new(packing.of_steps(1));
                Kept::Rows(rows)
            }
            LayerKind::Expand { steps: count, fill } => {
                let rows = steps::expand(
                    context.buffers,
                    packing.last_rows(context.buffers, input.view()).view(),
                    count,
                    fill,
                );
                *packing = Arc::new(packing.of_steps(count));
                Kept::Rows(rows)
            }
            // These layers only read.
            LayerKind::Residual { .. } | LayerKind::FinalState => {
                self.unchanged(context.buffers, node, input)
            }
            kind => unreachable!("{} is run elsewhere", kind.name()),
        }
    }
}
