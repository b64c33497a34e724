use crate::bridge::{self, BridgeGradients, add_to_newest, recurrent_of};
use crate::buffers::Matrix;
use crate::chain;
use crate::dense;
use crate::network::{Context, Kept, Network, PartTape, Tape};
use crate::outer::Pair;
use crate::packing::Packing;
use crate::parts::{put_states, take_states};
use crate::recurrent::{self, Backward, Passed, RecurrentGradients};
use crate::steps;
use crate::tensors::{Sums, Tensors};
use crate::threads::Threads;
use crate::weights::Pass;
use gatefold_model::{
    InitialSource, InitialState, Layer, LayerKind, Merge, NetworkConfig, Node, Recurrent, Role, Source,
    StateKind,
};
use gatefold_model::{LayerState, States};
use ndarray::{Array3, ArrayD, ArrayView2, ArrayView3, Axis, s};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

/// The gradients of a whole network.
#[derive(Clone, Debug, PartialEq)]
pub struct Gradients {
    /// With respect to each parameter, summed over rows, steps and tied layers.
    pub parameters: Tensors,
    /// `[T, B, I]`: with respect to the input; zeros for padding and for tokens.
    pub input: Array3<f32>,
    /// `[T', B, I']`: with respect to the decoder's input.
    pub decoder_input: Option<Array3<f32>>,
    /// With respect to the initial states used, wherever they came from.
    pub states: States,
}

/// The results of a part's backward pass.
struct Back {
    /// Gradients with respect to values of the layer graph, summed over the readers visited so far.
    d: BTreeMap<Source, Matrix>,
    /// Gradients with respect to final states; once a layer has been visited, with respect to its initial states.
    d_states: Vec<Option<LayerState>>,
    /// By layer, the material of its parameters' gradients.
    found: BTreeMap<usize, Found>,
}

/// The material of the gradients of a layer's parameters, beside the layer's input.
enum Found {
    Recurrent(RecurrentGradients),
    /// The gradient with respect to the pre-activations, or to the rows of an embedding.
    Rows(Matrix),
    Bridge(BridgeGradients),
}

impl Network {
    /// The gradients of a loss, from its gradient with respect to the output, `[T', B, O]`, and to the final states.
    ///
    /// # Panics
    /// If `d_output` is not shaped like the tape's output, or `d_states` like its states.
    pub fn backward(
        &self,
        mut tape: Tape,
        d_output: ArrayView3<f32>,
        d_states: Option<&States>,
    ) -> Gradients {
        let zeros = |(name, tensor): (&String, &ArrayD<f32>)| (name.clone(), ArrayD::zeros(tensor.raw_dim()));
        let mut parameters: Tensors = self.parameters.iter().map(zeros).collect();
        let first = tape.parts[0].first;
        let mut parts = self.through(&mut tape, d_output, d_states, first, true);
        self.add_gradients(&tape, &parts, first, &mut parameters);

        let rows = d_output.dim().1;
        let mut states = States::zeros(&self.config, rows);
        for (tape, back) in tape.parts.iter().zip(&mut parts) {
            let mut own = States::zeros(&self.config, tape.part.rows.len());
            for (state, found) in own.layers.iter_mut().zip(&mut back.d_states) {
                if let Some(found) = found.take() {
                    *state = found;
                }
            }
            put_states(&own, &tape.part, &mut states);
        }
        let unpacked = |source: Source, width: usize| {
            let steps = tape.parts[0].packings.get(&source)?.padded_steps();
            let mut all = Array3::zeros((steps, rows, width));
            for (tape, back) in tape.parts.iter().zip(&parts) {
                if let Some(d) = back.d.get(&source) {
                    tape.packings[&source].unpack(d.view(), &mut all);
                }
            }
            Some(all)
        };
        let decoder_input = self
            .config
            .decoder()
            .and_then(|at| unpacked(Source::DecoderInput, self.config.layers()[at].output));
        // A tape of the decoder alone has no other input.
        let (input, decoder_input) = match unpacked(Source::Input, self.config.input()) {
            Some(input) => (input, decoder_input),
            None => (decoder_input.expect("a tape has an input"), None),
        };
        Gradients { input, decoder_input, states, parameters }
    }

    /// Adds the gradient of every parameter that has an entry in `gradients`. Stops at the first layer that needs a
    /// gradient.
    ///
    /// # Panics
    /// As [`Network::backward`], or if a gradient is not shaped like its parameter.
    pub fn accumulate(
        &self,
        mut tape: Tape,
        d_output: ArrayView3<f32>,
        d_states: Option<&States>,
        gradients: &mut Tensors,
    ) {
        let wanted = |layer: &Layer| layer.parameters.iter().any(|spec| gradients.contains_key(&spec.name));
        let Some(first) = self.config.layers().iter().position(wanted) else { return };
        let first = first.max(tape.parts[0].first);
        let parts = self.through(&mut tape, d_output, d_states, first, false);
        self.add_gradients(&tape, &parts, first, gradients);
    }

    /// Walks every part back to layer `first`, and to the inputs if wanted.
    fn through(
        &self,
        tape: &mut Tape,
        d_output: ArrayView3<f32>,
        d_states: Option<&States>,
        first: usize,
        wants_inputs: bool,
    ) -> Vec<Back> {
        assert_eq!(d_output.dim(), tape.output().dim(), "one gradient element per output");
        if let Some(states) = d_states
            && let Err(problem) = states.check(&self.config, d_output.dim().1)
        {
            panic!("gradients of final {problem}");
        }
        let rows: usize =
            tape.parts.iter().flat_map(|tape| tape.packings.values().next()).map(|p| p.len()).sum();
        let threads = self.threads.worth(rows * self.weights());
        let d_output = d_output.as_standard_layout();
        let d_output = d_output.view();
        let recurrent = self.config.recurrent_layers().count();
        let begin = |context: Context, tape: &PartTape| {
            let output = self.config.graph().output();
            let d_states = d_states.map(|states| take_states(states, &tape.part));
            Back {
                d: BTreeMap::from([(output, tape.packings[&output].pack(context.buffers, d_output))]),
                d_states: match d_states {
                    Some(states) => states.layers.into_iter().map(Some).collect(),
                    None => vec![None; recurrent],
                },
                found: BTreeMap::new(),
            }
        };
        self.with_context(Pass::Backward, |context| {
            if tape.parts.len() < threads.count() {
                let walk = BackWalk { context, threads, first, wants_inputs };
                let mut backs: Vec<Back> = tape.parts.iter().map(|tape| begin(context, tape)).collect();
                walk.run(&mut tape.parts, &mut backs);
                return backs;
            }
            let walk = BackWalk { context, threads: Threads::new(1), first, wants_inputs };
            let mut parts: Vec<Option<Back>> = tape.parts.iter().map(|_| None).collect();
            threads.run(tape.parts.iter_mut().zip(&mut parts), |(tape, back)| {
                let own = back.insert(begin(context, tape));
                walk.run(std::slice::from_mut(tape), std::slice::from_mut(own));
            });
            parts.into_iter().map(|back| back.expect("every part was run")).collect()
        })
    }

    /// Adds the gradients of the parameters of the layers from `first` on. Threads share each sum over a few parts.
    fn add_gradients(&self, tape: &Tape, parts: &[Back], first: usize, gradients: &mut Tensors) {
        let mut sums = Sums { gradients, threads: self.threads, set: self.set };
        for node in &self.config.graph().nodes()[first..] {
            let layer = &self.config.layers()[node.layer];
            if layer.parameters.iter().any(|spec| sums.wants(Some(spec))) {
                let count = parts_together(layer, &tape.parts);
                for (tapes, backs) in tape.parts.chunks(count).zip(parts.chunks(count)) {
                    add_layer_gradients(&self.config, layer, node, tapes, backs, &mut sums);
                }
            }
        }
    }
}

/// The elements of the gradients that several sums read in turn: 1 MiB, so that they stay in a core's second cache.
const SUMMED_TOGETHER: usize = 1 << 18;

/// The number of parts whose gradients are summed together in this layer.
fn parts_together(layer: &Layer, tapes: &[PartTape]) -> usize {
    let width = layer.recurrent().map_or(layer.output, |recurrent| recurrent.cell.gates() * recurrent.hidden);
    let rows = tapes.iter().flat_map(|tape| tape.packings.values()).map(|packing| packing.len()).max();
    (SUMMED_TOGETHER / (rows.unwrap_or(1) * width).max(1)).max(1)
}

/// Adds the gradients of a layer's parameters, from some parts.
fn add_layer_gradients(
    config: &NetworkConfig,
    layer: &Layer,
    node: &Node,
    tapes: &[PartTape],
    backs: &[Back],
    sums: &mut Sums,
) {
    let found =
        || tapes.iter().zip(backs).filter_map(|(tape, back)| Some((tape, back.found.get(&layer.index)?)));
    match layer.kind {
        LayerKind::Recurrent(recurrent) => {
            let parts: Vec<Passed> =
                found().map(|(tape, found)| passed(config, layer, node, tape, found)).collect();
            if !parts.is_empty() {
                recurrent::add_gradients(layer, &recurrent, &parts, sums);
            }
            let states = node.states.as_ref().expect("recurrent layers have states");
            if states.initial == InitialSource::Own && recurrent.initial == InitialState::Learned {
                for (_, back) in tapes.iter().zip(backs).filter(|(tape, _)| !tape.given) {
                    if let Some(d_initial) = &back.d_states[states.number] {
                        add_learned(layer, &recurrent, d_initial, sums);
                    }
                }
            }
        }
        LayerKind::Dense { .. } => {
            let inputs: Vec<_> = found().map(|(tape, _)| tape.input_of(config, node)).collect();
            let d: Vec<ArrayView2<f32>> = found().map(|(_, found)| found.rows().view()).collect();
            let pairs: Vec<Pair> = d.iter().map(|d| d.view()).zip(inputs.iter().map(|x| x.view())).collect();
            sums.add_weight(layer.find(Role::DenseWeight, false), 0..layer.output, &pairs);
            sums.add_bias(layer.find(Role::DenseBias, false), &d);
        }
        LayerKind::Embedding { .. } => {
            for (tape, found) in found() {
                if let Some(table) = sums.matrix(layer.find(Role::EmbeddingWeight, false)) {
                    steps::embed_backward(tape.input_of(config, node).view(), found.rows().view(), table);
                }
            }
        }
        LayerKind::Decoder { .. } => {
            for (tape, found) in found() {
                let Found::Bridge(found) = found else {
                    unreachable!("a decoder leaves those of its bridge")
                };
                let bridge = tape.bridge.as_ref().expect("the encoder was run");
                bridge::add_gradients(config, bridge, found, sums);
            }
        }
        kind => unreachable!("{} has no parameters", kind.name()),
    }
}

fn passed<'a>(
    config: &NetworkConfig,
    layer: &Layer,
    node: &Node,
    tape: &'a PartTape,
    found: &'a Found,
) -> Passed<'a> {
    let (Found::Recurrent(found), Some(Kept::Recurrent(kept))) =
        (found, tape.values.get(&Source::Output(layer.index)))
    else {
        unreachable!("it was run as a recurrent layer")
    };
    Passed { packing: tape.packing_of(node), input: tape.input_of(config, node), tape: kept, found }
}

impl Found {
    /// The gradient with respect to the pre-activations, or to the rows of an embedding.
    fn rows(&self) -> &Matrix {
        let Found::Rows(d) = self else { unreachable!("the layer has no steps of its own") };
        d
    }
}

/// The walk over the layers of a backward pass, back to layer `first`, and to the inputs if wanted.
#[derive(Clone, Copy)]
struct BackWalk<'a> {
    context: Context<'a>,
    threads: Threads,
    first: usize,
    wants_inputs: bool,
}

impl BackWalk<'_> {
    fn run(&self, tapes: &mut [PartTape], backs: &mut [Back]) {
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
            self.threads.run(tapes.iter_mut().zip(backs), |(tape, back)| {
                let d_input = back.other(self.context, node, tape, wants_input);
                self.pass_on(node, d_input, tape, back);
            });
            return at;
        };
        let chain = if self.threads.count() > 1 { chain::upto(config, at, self.first) } else { Vec::new() };
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

    fn wants_input_of(&self, node: &Node) -> bool {
        node.inputs.iter().any(|source| self.wants(source))
    }

    /// Hands the gradient with respect to a layer's input to the values that it was merged of.
    fn pass_on(&self, node: &Node, d_input: Option<Matrix>, tape: &PartTape, back: &mut Back) {
        let Some(d_input) = d_input else { return };
        let config = self.context.config;
        let wanted = || node.inputs.iter().copied().filter(|source| self.wants(source));
        let count = wanted().count();
        match node.merge {
            Merge::Sum => {
                for other in wanted().take(count.saturating_sub(1)) {
                    back.meet(config, other, d_input.clone(), tape);
                }
                if let Some(last) = wanted().next_back() {
                    back.meet(config, last, d_input, tape);
                }
            }
        }
    }

    fn recurrent(&self, node: &Node, recurrent: &Recurrent, tapes: &mut [PartTape], backs: &mut [Back]) {
        let layer = &self.context.config.layers()[node.layer];
        let number = node.states.as_ref().expect("recurrent layers have states").number;
        let own = Source::Output(node.layer);
        let packings: Vec<Arc<Packing>> =
            tapes.iter().map(|tape| Arc::clone(tape.packing_of(node))).collect();
        let parts = tapes.iter_mut().zip(&mut *backs).zip(&packings);
        let given = parts.map(|((tape, back), packing)| {
            let Some(Kept::Recurrent(tape)) = tape.values.get_mut(&own) else {
                unreachable!("it was run as one")
            };
            let d_out = back.d.remove(&own);
            recurrent::GivenBack { packing, tape, d_out, d_final: back.d_states[number].as_ref() }
        });
        let (given, wants_input) = (given.collect(), self.wants_input_of(node));
        let found = recurrent::backward(self.context, self.threads, layer, recurrent, given, wants_input);
        for ((tape, back), found) in tapes.iter().zip(backs).zip(found) {
            let d_input = back.put(node, found);
            self.pass_on(node, d_input, tape, back);
        }
    }

    fn chain(&self, chain: &[usize], tapes: &mut [PartTape], backs: &mut [Back]) {
        let graph = self.context.config.graph();
        let (node, last) = (graph.node(chain[0]), Source::Output(chain[chain.len() - 1]));
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
                d_out: back.d.remove(&last),
                d_final: &back.d_states,
            }
        });
        let (given, wants_input) = (given.collect(), self.wants_input_of(node));
        let found = chain::backward(self.context, self.threads, chain, given, wants_input);
        for ((tape, back), found) in tapes.iter().zip(backs).zip(found) {
            for (&layer, found) in chain.iter().rev().zip(found) {
                let d_input = back.put(graph.node(layer), found);
                self.pass_on(node, d_input, tape, back);
            }
        }
    }
}

impl Back {
    /// Takes the results of a recurrent layer; returns the gradient with respect to its input.
    fn put(&mut self, node: &Node, (d_input, d_initial, found): Backward) -> Option<Matrix> {
        let number = node.states.as_ref().expect("recurrent layers have states").number;
        self.d_states[number] = Some(d_initial);
        self.found.insert(node.layer, Found::Recurrent(found));
        d_input
    }

    /// Backward through a layer that is not recurrent; returns the gradient with respect to its input.
    fn other(&mut self, context: Context, node: &Node, tape: &PartTape, wants_input: bool) -> Option<Matrix> {
        let layer = &context.config.layers()[node.layer];
        let d = self.d.remove(&Source::Output(node.layer));
        if let LayerKind::Decoder { .. } = layer.kind {
            let bridge = tape.bridge.as_ref().expect("the encoder was run");
            let found = bridge::backward(context, bridge, &mut self.d_states);
            self.found.insert(layer.index, Found::Bridge(found));
            return None;
        }
        self.other_backward(context, layer, node, tape, d?, wants_input)
    }

    /// Adds one reader's share of the gradient with respect to a value.
    fn meet(&mut self, config: &NetworkConfig, source: Source, d: Matrix, tape: &PartTape) {
        if let Source::FinalHidden(layer) = source {
            let (number, recurrent) = recurrent_of(config, layer);
            let zeros = || LayerState::zeros(recurrent, d.nrows());
            let d_final = self.d_states[number].get_or_insert_with(zeros);
            let d = tape.packings[&source].unsort(d.view());
            return add_to_newest(d.view(), StateKind::Hidden, recurrent, d_final);
        }
        match self.d.entry(source) {
            Entry::Vacant(place) => {
                place.insert(d);
            }
            Entry::Occupied(mut sum) => **sum.get_mut() += &*d,
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
        match (layer.kind, tape.values.get(&Source::Output(layer.index))) {
            (LayerKind::Dense { activation, .. }, Some(Kept::Dense(kept))) => {
                dense::backward(context.set, kept, activation, &mut d);
                let weight = &context.packed.layer(layer).dense;
                let d_input = wants_input.then(|| dense::product(context, d.view(), weight, None));
                self.found.insert(layer.index, Found::Rows(d));
                d_input
            }
            (LayerKind::Embedding { .. }, _) => {
                self.found.insert(layer.index, Found::Rows(d));
                None
            }
            (LayerKind::Dropout { rate }, _) => {
                if let Some(dropout) = tape.dropout {
                    steps::drop_out(dropout, layer.index, rate, packing, 0..packing.steps(), &mut d);
                }
                Some(d)
            }
            (LayerKind::Softmax, Some(Kept::Rows(y))) => {
                steps::softmax_backward(y.view(), &mut d);
                Some(d)
            }
            (LayerKind::LastStep, _) => Some(packing.spread_last_rows(context.buffers, d.view())),
            (LayerKind::Expand { fill, .. }, _) => {
                let d = steps::expand_backward(context.buffers, d.view(), packing.batch(), fill);
                Some(packing.spread_last_rows(context.buffers, d.view()))
            }
            // These layers only read.
            (LayerKind::Residual { .. } | LayerKind::FinalState, _) => Some(d),
            (kind, _) => unreachable!("{} is run elsewhere, or kept what backward needs", kind.name()),
        }
    }
}

/// Adds the gradients of learned states, which all rows share, and h all slots.
fn add_learned(layer: &Layer, recurrent: &Recurrent, d_initial: &LayerState, sums: &mut Sums) {
    let k = recurrent.history();
    for (scan, &reverse) in recurrent.direction.scans().iter().enumerate() {
        if let Some(mut h0) = sums.vector(layer.find(Role::InitialH, reverse)) {
            for j in 0..k {
                h0 += &d_initial.h.index_axis(Axis(0), scan * k + j).sum_axis(Axis(0));
            }
        }
        if let (Some(d_c), Some(mut c0)) = (&d_initial.c, sums.vector(layer.find(Role::InitialC, reverse))) {
            c0 += &d_c.slice(s![scan, .., ..]).sum_axis(Axis(0));
        }
    }
}
