use crate::bridge::{self, add_to_newest, recurrent_of};
use crate::dense;
use crate::network::{Kept, Network, Tape};
use crate::recurrent;
use crate::steps;
use crate::tensors::{Sums, Tensors};
use crate::threads::add_product;
use gatefold_model::{
    InitialSource, InitialState, Layer, LayerKind, Merge, Node, Recurrent, Role, Source, StateKind,
};
use gatefold_model::{LayerState, States};
use ndarray::{Array2, Array3, ArrayD, ArrayView3, Axis, s};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

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

/// The state of the backward walk.
struct Back<'a> {
    sums: Sums<'a>,
    /// Gradients with respect to values of the layer graph, summed over the readers visited so far.
    d: BTreeMap<Source, Array2<f32>>,
    /// Gradients with respect to final states; once a layer has been visited, with respect to its initial states.
    d_states: Vec<Option<LayerState>>,
}

impl Network {
    /// The gradients of a loss, from its gradient with respect to the output, `[T', B, O]`, and to the final states.
    ///
    /// # Panics
    /// If `d_output` is not shaped like the tape's output, or `d_states` like its states.
    pub fn backward(&self, tape: Tape, d_output: ArrayView3<f32>, d_states: Option<&States>) -> Gradients {
        let zeros = |(name, tensor): (&String, &ArrayD<f32>)| (name.clone(), ArrayD::zeros(tensor.raw_dim()));
        let mut parameters: Tensors = self.parameters.iter().map(zeros).collect();
        let (first, batch, packings) = (tape.first, tape.batch(), tape.packings.clone());
        let Back { mut d, d_states: found, .. } =
            self.through(tape, d_output, d_states, &mut parameters, first, true);
        let mut states = States::zeros(&self.config, batch);
        for (state, found) in states.layers.iter_mut().zip(found) {
            if let Some(found) = found {
                *state = found;
            }
        }
        let mut unpacked = |source: Source, width: usize| {
            let packing = packings.get(&source)?;
            let d = d.remove(&source).unwrap_or_else(|| Array2::zeros((packing.len(), width)));
            Some(packing.unpack(d.view()))
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
        tape: Tape,
        d_output: ArrayView3<f32>,
        d_states: Option<&States>,
        gradients: &mut Tensors,
    ) {
        let wanted = |layer: &Layer| layer.parameters.iter().any(|spec| gradients.contains_key(&spec.name));
        let Some(first) = self.config.layers().iter().position(wanted) else { return };
        let first = first.max(tape.first);
        self.through(tape, d_output, d_states, gradients, first, false);
    }

    /// Walks back to layer `first`, and to the inputs if wanted.
    fn through<'a>(
        &self,
        mut tape: Tape,
        d_output: ArrayView3<f32>,
        d_states: Option<&States>,
        gradients: &'a mut Tensors,
        first: usize,
        wants_inputs: bool,
    ) -> Back<'a> {
        assert_eq!(d_output.dim(), tape.output().dim(), "one gradient element per output");
        let graph = self.config.graph();
        if let Some(states) = d_states
            && let Err(problem) = states.check(&self.config, tape.batch())
        {
            panic!("gradients of final {problem}");
        }
        let mut back = Back {
            sums: Sums { gradients, threads: self.threads },
            d: BTreeMap::from([(graph.output(), tape.packings[&graph.output()].pack(d_output))]),
            d_states: match d_states {
                Some(states) => states.layers.iter().cloned().map(Some).collect(),
                None => vec![None; self.config.recurrent_layers().count()],
            },
        };
        let wanted = |source: &Source| match *source {
            Source::Input | Source::DecoderInput => wants_inputs,
            Source::Output(layer) | Source::FinalHidden(layer) => layer >= first,
        };
        for node in graph.nodes()[first..].iter().rev() {
            let layer = &self.config.layers()[node.layer];
            let own = Source::Output(node.layer);
            let (kept, d) = (tape.values.remove(&own), back.d.remove(&own));
            let d_input = match (layer.kind, &node.states) {
                (LayerKind::Recurrent(recurrent), Some(states)) => {
                    let Some(Kept::Recurrent(kept)) = kept else { unreachable!("it was run as one") };
                    let (d, d_initial) = recurrent::backward(
                        self.values(),
                        layer,
                        &recurrent,
                        tape.packing_of(node),
                        tape.input_of(&self.config, node).view(),
                        *kept,
                        d,
                        back.d_states[states.number].as_ref(),
                        node.inputs.iter().any(wanted),
                        &mut back.sums,
                    );
                    let own = !tape.given && states.initial == InitialSource::Own;
                    if own && recurrent.initial == InitialState::Learned {
                        add_learned(layer, &recurrent, &d_initial, &mut back.sums);
                    }
                    back.d_states[states.number] = Some(d_initial);
                    d
                }
                (LayerKind::Decoder { .. }, _) => {
                    let bridge = tape.bridge.take().expect("the encoder was run");
                    let (values, d_states) = (self.values(), &mut back.d_states);
                    bridge::backward(values, &self.config, bridge, d_states, &mut back.sums);
                    None
                }
                _ => d.map(|d| self.other_backward(layer, node, kept, &tape, d, &mut back.sums)),
            };
            let Some(d_input) = d_input else { continue };
            let inputs: Vec<Source> = node.inputs.iter().copied().filter(wanted).collect();
            let Some((&last, others)) = inputs.split_last() else { continue };
            match node.merge {
                Merge::Sum => {
                    others.iter().for_each(|&other| self.meet(other, d_input.clone(), &tape, &mut back));
                    self.meet(last, d_input, &tape, &mut back);
                }
            }
        }
        back
    }

    /// Adds one reader's share of the gradient with respect to a value.
    fn meet(&self, source: Source, d: Array2<f32>, tape: &Tape, back: &mut Back) {
        if let Source::FinalHidden(layer) = source {
            let (number, recurrent) = recurrent_of(&self.config, layer);
            let zeros = || LayerState::zeros(recurrent, d.nrows());
            let d_final = back.d_states[number].get_or_insert_with(zeros);
            let d = tape.packings[&source].unsort(d.view());
            return add_to_newest(d.view(), StateKind::Hidden, recurrent, d_final);
        }
        match back.d.entry(source) {
            Entry::Vacant(place) => {
                place.insert(d);
            }
            Entry::Occupied(mut sum) => *sum.get_mut() += &d,
        }
    }

    /// Backward through a layer that is neither recurrent nor a decoder: turns the gradient with respect to its output
    /// into that with respect to its input.
    fn other_backward(
        &self,
        layer: &Layer,
        node: &Node,
        kept: Option<Kept>,
        tape: &Tape,
        mut d: Array2<f32>,
        sums: &mut Sums,
    ) -> Array2<f32> {
        let packing = tape.packing_of(node);
        match (layer.kind, kept) {
            (LayerKind::Dense { activation, .. }, Some(Kept::Dense(kept))) => {
                let input = tape.input_of(&self.config, node);
                dense::backward(&kept, activation, &mut d);
                let weight = layer.find(Role::DenseWeight, false);
                sums.add_weight(weight, 0..d.ncols(), d.view(), input.view());
                sums.add_bias(layer.find(Role::DenseBias, false), d.view());
                let mut d_input = Array2::zeros(input.raw_dim());
                add_product(self.threads, d.view(), self.dense_parameters(layer).0, d_input.view_mut());
                d_input
            }
            (LayerKind::Embedding { .. }, _) => {
                let tokens = tape.input_of(&self.config, node);
                if let Some(table) = sums.matrix(layer.find(Role::EmbeddingWeight, false)) {
                    steps::embed_backward(tokens.view(), d.view(), table);
                }
                Array2::zeros(tokens.raw_dim())
            }
            (LayerKind::Dropout { rate }, _) => {
                if let Some(dropout) = tape.dropout {
                    steps::drop_out(dropout, layer.index, rate, packing, &mut d);
                }
                d
            }
            (LayerKind::Softmax, Some(Kept::Rows(y))) => {
                steps::softmax_backward(y.view(), &mut d);
                d
            }
            (LayerKind::LastStep, _) => packing.spread_last_rows(d.view()),
            (LayerKind::Expand { fill, .. }, _) => {
                let d = steps::expand_backward(d.view(), packing.batch(), fill);
                packing.spread_last_rows(d.view())
            }
            // These layers only read.
            (LayerKind::Residual { .. } | LayerKind::FinalState, _) => d,
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
