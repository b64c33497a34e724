//! The walk back through the layers of a network.

use crate::bridge::{self, BridgeGradients, add_to_newest, recurrent_of};
use crate::buffers::Matrix;
use crate::by_source::BySource;
use crate::chain;
use crate::convolution::Convolution;
use crate::dense;
use crate::forward::{most_rows, state_number};
use crate::network::{Context, Kept, PartTape};
use crate::normalise::{self, NormaliseGradients};
use crate::packing::Packing;
use crate::parts::PartState;
use crate::pool;
use crate::recurrent::{self, BackJob, BackWork, RecurrentGradients};
use crate::running::run_scans;
use crate::steps;
use crate::team::Team;
use gatefold_model::{Conv1d, Layer, LayerKind, Merge, Node, Recurrent, Source, StateKind, States};
use ndarray::{ArrayView3, s};
use std::sync::Arc;

/// The results of a part's backward pass.
#[derive(Debug, Default)]
pub(crate) struct Back {
    /// Gradients with respect to values of the layer graph, summed over the readers visited so far.
    pub(crate) d: BySource<Matrix>,
    /// Gradients with respect to final states; once a layer has been visited, with respect to its initial states.
    pub(crate) d_states: Vec<Option<PartState>>,
    /// By layer, the material of its parameters' gradients.
    pub(crate) found: Vec<Option<Found>>,
    /// The scans of the recurrent layer that runs.
    works: [BackWork; 2],
}

/// The material of the gradients of a layer's parameters, beside the layer's input.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "its list is kept from pass to pass")]
pub(crate) enum Found {
    Recurrent(RecurrentGradients),
    /// The gradient with respect to the pre-activations, or to the rows of an embedding.
    Rows(Matrix),
    Bridge(BridgeGradients),
    Normalise(NormaliseGradients),
}

/// A convolution between the packed sequences of a tape.
pub(crate) fn convolution_of<'a>(
    conv: &'a Conv1d,
    layer: &Layer,
    node: &Node,
    tape: &'a PartTape,
) -> Convolution<'a> {
    let to = &tape.packings[Source::Output(layer.index)];
    Convolution { conv, from: tape.packing_of(node), to, input: layer.input }
}

/// The walk over the layers of a backward pass, back to layer `first`, and to the inputs if wanted.
#[derive(Clone, Copy)]
pub(crate) struct BackWalk<'a> {
    pub(crate) context: Context<'a>,
    pub(crate) first: usize,
    pub(crate) wants_inputs: bool,
}

impl BackWalk<'_> {
    pub(crate) fn run(&self, tapes: &mut [PartTape], backs: &mut [Back]) {
        let mut end = self.context.config.layers().len();
        while end > self.first {
            end = self.layer(end - 1, tapes, backs);
        }
    }

    /// Walks back through this layer, and through those before it that form a chain with it; returns the first of them.
    fn layer(&self, at: usize, tapes: &mut [PartTape], backs: &mut [Back]) -> usize {
        let config = self.context.config;
        let (node, kind) = (config.graph().node(at), config.layers()[at].kind);
        let LayerKind::Recurrent(recurrent) = kind else {
            let wants_input = self.wants_input_of(node);
            self.context.threads.run(tapes.iter_mut().zip(backs), |(tape, back)| {
                let d_input = back.other(self.context, node, tape, wants_input);
                self.pass_on(node, d_input, tape, back);
            });
            return at;
        };
        let chain =
            if self.context.threads.count() > 1 { chain::upto(config, at, self.first) } else { Vec::new() };
        if let [first, _, ..] = chain[..] {
            self.chain(&chain, tapes, backs);
            first
        } else {
            self.recurrent(node, &recurrent, tapes, backs);
            at
        }
    }

    fn wants(&self, source: &Source) -> bool {
        match *source {
            Source::Input | Source::DecoderInput => self.wants_inputs,
            Source::Output(layer) | Source::FinalHidden(layer) => layer >= self.first,
        }
    }

    /// The values a step of a value of the layer graph.
    fn width_of(&self, source: Source) -> usize {
        let config = self.context.config;
        match source {
            Source::Input => config.input(),
            Source::DecoderInput => {
                config.decoder().map_or(config.input(), |decoder| config.layers()[decoder].output)
            }
            Source::Output(layer) => config.layers()[layer].output,
            Source::FinalHidden(layer) => {
                let (_, recurrent) = recurrent_of(config, layer);
                recurrent.direction.scans().len() * recurrent.recurrent_width()
            }
        }
    }

    fn wants_input_of(&self, node: &Node) -> bool {
        node.inputs.iter().any(|source| self.wants(source))
    }

    /// Hands the gradient with respect to a layer's input to the values that it was merged of.
    fn pass_on(&self, node: &Node, d_input: Option<Matrix>, tape: &PartTape, back: &mut Back) {
        let Some(d_input) = d_input else { return };
        let wanted = || node.inputs.iter().copied().filter(|source| self.wants(source));
        let count = wanted().count();
        match node.merge {
            Merge::Sum => {
                for other in wanted().take(count.saturating_sub(1)) {
                    back.meet(self.context, other, d_input.clone(), tape);
                }
                if let Some(last) = wanted().next_back() {
                    back.meet(self.context, last, d_input, tape);
                }
            }
            Merge::Concatenate => {
                let mut column = 0;
                for &source in &node.inputs {
                    let end = column + self.width_of(source);
                    if self.wants(&source) {
                        let part = self.context.buffers.copy(d_input.slice(s![.., column..end]));
                        back.meet(self.context, source, part, tape);
                    }
                    column = end;
                }
            }
        }
    }

    fn recurrent(&self, node: &Node, recurrent: &Recurrent, tapes: &mut [PartTape], backs: &mut [Back]) {
        let (context, wants_input) = (self.context, self.wants_input_of(node));
        let layer = &context.config.layers()[node.layer];
        for (tape, back) in tapes.iter().zip(&mut *backs) {
            let d_out = back.d.remove(Source::Output(node.layer));
            let (packing, d_final) = (tape.packing_of(node), back.d_states[state_number(node)].as_mut());
            recurrent::begin_backward(context.buffers, packing, recurrent, d_out, d_final, &mut back.works);
        }
        let size = (tapes.len(), most_rows(tapes, node));
        let parts = tapes.iter_mut().zip(&mut *backs);
        let jobs = parts.flat_map(|(tape, back)| back.scan_jobs(node, tape).into_iter().flatten());
        let run = |job: BackJob, team: Option<&Team>| job.run(context, layer, recurrent, team);
        run_scans(context, layer, recurrent, size, jobs, run);
        for (tape, back) in tapes.iter().zip(backs) {
            let packing = tape.packing_of(node);
            let d_input = wants_input.then(|| {
                let Some(Kept::Recurrent(kept)) = tape.values.get(Source::Output(node.layer)) else {
                    unreachable!("it was run as one")
                };
                recurrent::input_gradient(context, layer, recurrent, packing, kept)
            });
            let scans = back.works.each_mut().map(|work| work.found.take());
            back.put(context, node, recurrent, packing, RecurrentGradients { scans });
            self.pass_on(node, d_input, tape, back);
        }
    }

    fn chain(&self, chain: &[usize], tapes: &mut [PartTape], backs: &mut [Back]) {
        let (context, config) = (self.context, self.context.config);
        let (node, last) = (config.graph().node(chain[0]), Source::Output(chain[chain.len() - 1]));
        let packings: Vec<Arc<Packing>> =
            tapes.iter().map(|tape| Arc::clone(tape.packing_of(node))).collect();
        let parts = tapes.iter_mut().zip(&mut *backs).zip(&packings);
        let given = parts.map(|((tape, back), packing)| {
            let own = |source: &Source| matches!(source, Source::Output(layer) if chain.contains(layer));
            let kept = tape.values.iter_mut().filter(|(source, _)| own(source));
            let scans = kept.map(|(_, kept)| match kept {
                Kept::Recurrent(tape) => tape.only_scan(),
                _ => unreachable!("it was run as one"),
            });
            chain::GivenBack {
                packing,
                dropout: tape.dropout,
                tapes: scans.collect(),
                d_out: back.d.remove(last),
                d_final: &back.d_states,
            }
        });
        let (given, wants_input) = (given.collect(), self.wants_input_of(node));
        let found = chain::backward(context, chain, given, wants_input);
        for (((tape, back), packing), found) in tapes.iter().zip(backs).zip(&packings).zip(found) {
            for (&layer, (d_input, found)) in chain.iter().rev().zip(found) {
                let (node, recurrent) = (config.graph().node(layer), config.layers()[layer].recurrent());
                let recurrent = recurrent.expect("chains are of recurrent layers");
                let scans = [Some(found), None];
                back.put(context, node, recurrent, packing, RecurrentGradients { scans });
                self.pass_on(node, d_input, tape, back);
            }
        }
    }
}

impl Back {
    /// Takes the gradients with respect to the output, `[T', B, O]`, and to the final states.
    pub(crate) fn begin(
        &mut self,
        context: Context,
        tape: &PartTape,
        d_output: ArrayView3<f32>,
        d_states: Option<&States>,
    ) {
        let output = context.config.graph().output();
        self.d.insert(output, tape.packings[output].pack(context.buffers, d_output));
        let state = |(number, layer): (usize, &Layer)| {
            let (recurrent, given) = (layer.recurrent()?, &d_states?.layers[number]);
            Some(PartState::take(context.buffers, recurrent, given, &tape.part))
        };
        self.d_states.extend(context.config.recurrent_layers().enumerate().map(state));
        self.found.resize_with(context.config.layers().len(), || None);
    }

    /// Returns the matrices to the network.
    pub(crate) fn clear(&mut self) {
        self.d.clear();
        self.d_states.clear();
        self.found.clear();
        self.works = Default::default();
    }

    fn scan_jobs<'a>(&'a mut self, node: &Node, tape: &'a mut PartTape) -> [Option<BackJob<'a>>; 2] {
        let PartTape { packings, values, .. } = tape;
        let Some(Kept::Recurrent(kept)) = values.get_mut(Source::Output(node.layer)) else {
            unreachable!("it was run as one")
        };
        let d_final = self.d_states[state_number(node)].as_ref();
        recurrent::back_jobs(&packings[node.inputs[0]], kept, &mut self.works, d_final)
    }

    /// Takes the results of a recurrent layer.
    fn put(
        &mut self,
        context: Context,
        node: &Node,
        recurrent: &Recurrent,
        packing: &Packing,
        mut found: RecurrentGradients,
    ) {
        let d_initial = recurrent::initial_gradients(context.buffers, recurrent, packing, &mut found);
        self.d_states[state_number(node)] = Some(d_initial);
        self.found[node.layer] = Some(Found::Recurrent(found));
    }

    /// Backward through a layer that is not recurrent; returns the gradient with respect to its input.
    fn other(&mut self, context: Context, node: &Node, tape: &PartTape, wants_input: bool) -> Option<Matrix> {
        let layer = &context.config.layers()[node.layer];
        let d = self.d.remove(Source::Output(node.layer));
        if let LayerKind::Decoder { .. } = layer.kind {
            let bridge = tape.bridge.as_ref().expect("the encoder was run");
            let found = bridge::backward(context, bridge, &mut self.d_states);
            self.found[layer.index] = Some(Found::Bridge(found));
            return None;
        }
        self.other_backward(context, layer, node, tape, d?, wants_input)
    }

    /// Adds one reader's share of the gradient with respect to a value.
    fn meet(&mut self, context: Context, source: Source, d: Matrix, tape: &PartTape) {
        if let Source::FinalHidden(layer) = source {
            let (number, recurrent) = recurrent_of(context.config, layer);
            let zeros = || PartState::zeros(context.buffers, recurrent, d.nrows());
            let d_final = self.d_states[number].get_or_insert_with(zeros);
            let mut rows = context.buffers.matrix(d.nrows(), d.ncols());
            tape.packings[source].unsort(d.view(), rows.view_mut());
            return add_to_newest(rows.view(), StateKind::Hidden, recurrent, d_final);
        }
        match self.d.get_mut(source) {
            None => self.d.insert(source, d),
            Some(sum) => **sum += &*d,
        }
    }

    /// Backward through a layer that is neither recurrent nor a decoder: turns the gradient with respect to its output
    /// into that with respect to its input, if wanted and there is one.
    fn other_backward(
        &mut self,
        context: Context,
        layer: &Layer,
        node: &Node,
        tape: &PartTape,
        mut d: Matrix,
        wants_input: bool,
    ) -> Option<Matrix> {
        let packing = tape.packing_of(node);
        match (layer.kind, tape.values.get(Source::Output(layer.index))) {
            (LayerKind::Dense { activation, .. }, Some(Kept::Dense(kept))) => {
                dense::backward(context.set, kept, activation, &mut d);
                let weight = &context.packed.layer(layer).dense;
                let d_input = wants_input.then(|| dense::product(context, d.view(), weight, None));
                self.found[layer.index] = Some(Found::Rows(d));
                d_input
            }
            (LayerKind::Conv1d(conv), Some(Kept::Dense(kept))) => {
                dense::backward(context.set, kept, conv.activation, &mut d);
                let weight = &context.packed.layer(layer).dense;
                let convolution = convolution_of(&conv, layer, node, tape);
                let d_input = wants_input.then(|| convolution.input_gradient(context, d.view(), weight));
                self.found[layer.index] = Some(Found::Rows(d));
                d_input
            }
            (LayerKind::Embedding { .. }, _) => {
                self.found[layer.index] = Some(Found::Rows(d));
                None
            }
            (LayerKind::Dropout { rate }, _) => {
                if let Some(dropout) = tape.dropout {
                    let dropout = steps::dropout_of(dropout, layer);
                    steps::drop_out(dropout, layer.index, rate, packing, 0..packing.steps(), &mut d);
                }
                Some(d)
            }
            (LayerKind::Softmax, Some(Kept::Rows(y))) => {
                steps::softmax_backward(y.view(), &mut d);
                Some(d)
            }
            (LayerKind::Normalise { epsilon }, _) => {
                let x = tape.input_of(context, node);
                let (d_input, found) = normalise::backward(context, layer, epsilon, x.view(), d, wants_input);
                self.found[layer.index] = Some(Found::Normalise(found));
                d_input
            }
            (LayerKind::Pool(pooling), Some(Kept::Rows(y))) => {
                let x = tape.input_of(context, node);
                Some(pool::backward(context.buffers, packing, (x.view(), y.view()), d, pooling))
            }
            (LayerKind::LastStep, _) => Some(packing.spread_last_rows(context.buffers, d.view())),
            (LayerKind::Expand { fill, .. }, _) => {
                let d = steps::expand_backward(context.buffers, d.view(), packing.batch(), fill);
                Some(packing.spread_last_rows(context.buffers, d.view()))
            }
            // These layers only read.
            (LayerKind::Residual { .. } | LayerKind::FinalState | LayerKind::Merge(_), _) => Some(d),
            (kind, _) => unreachable!("{} is run elsewhere, or kept what backward needs", kind.name()),
        }
    }
}
