//! The gradients of a network's parameters.

use crate::backward::{Back, BackWalk, Found, convolution_of};
use crate::bridge;
use crate::network::{Context, Kept, Network, PartTape, Tape};
use crate::normalise;
use crate::parts::PartState;
use crate::recurrent;
use crate::shelf::Parts;
use crate::steps;
use crate::tensors::{Sums, Tensors};
use crate::threads::{Threads, lock};
use crate::weights::Pass;
use gatefold_model::{
    InitialSource, InitialState, Layer, LayerKind, NetworkConfig, Node, Recurrent, Role, Source, States,
};
use ndarray::{Array3, ArrayD, ArrayView3};
use std::slice::from_mut;

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
        assert_eq!(d_output.dim(), tape.output().dim(), "one gradient element per output");
        let zeros = |(name, tensor): (&String, &ArrayD<f32>)| (name.clone(), ArrayD::zeros(tensor.raw_dim()));
        let mut parameters: Tensors = self.parameters.iter().map(zeros).collect();
        let parts = &mut *tape.parts;
        let first = parts.tapes[0].first;
        let begin = Begin { d_output, d_states, first, wants_inputs: true };
        self.walk_back(parts, begin, &mut parameters);

        let rows = d_output.dim().1;
        let states = self.initial_gradients(parts, 0);
        let unpacked = |source: Source, width: usize| {
            let steps = parts.tapes[0].packings.get(source)?.padded_steps();
            let mut all = Array3::zeros((steps, rows, width));
            let elements = all.as_slice_mut().expect("it is in standard layout");
            for (tape, back) in parts.tapes.iter().zip(&parts.backs) {
                if let Some(d) = back.d.get(source) {
                    tape.packings[source].unpack(d.view(), elements);
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
        self.accumulate_parts(&mut tape, d_output, d_states, gradients);
    }

    /// [`Network::accumulate`], and the gradients with respect to the initial states; zeros for layers before the first
    /// that needs a gradient.
    ///
    /// # Panics
    /// As [`Network::accumulate`].
    pub fn accumulate_through(
        &self,
        mut tape: Tape,
        d_output: ArrayView3<f32>,
        d_states: Option<&States>,
        gradients: &mut Tensors,
    ) -> States {
        match self.accumulate_parts(&mut tape, d_output, d_states, gradients) {
            Some(first) => self.initial_gradients(&tape.parts, first),
            None => States::zeros(&self.config, d_output.dim().1),
        }
    }

    /// [`Network::accumulate`]; returns the first layer that it has walked back through.
    fn accumulate_parts(
        &self,
        tape: &mut Tape,
        d_output: ArrayView3<f32>,
        d_states: Option<&States>,
        gradients: &mut Tensors,
    ) -> Option<usize> {
        assert_eq!(d_output.dim(), tape.output().dim(), "one gradient element per output");
        let wanted = |layer: &Layer| layer.parameters.iter().any(|spec| gradients.contains_key(&spec.name));
        let first = self.config.layers().iter().position(wanted)?;
        let parts = &mut *tape.parts;
        let first = first.max(parts.tapes[0].first);
        let begin = Begin { d_output, d_states, first, wants_inputs: false };
        self.walk_back(parts, begin, gradients);
        Some(first)
    }

    /// The gradients with respect to the initial states of the layers from `first` on, after [`Network::walk_back`].
    fn initial_gradients(&self, parts: &Parts, first: usize) -> States {
        let mut states = States::zeros(&self.config, parts.tapes[0].part.whole);
        for (tape, back) in parts.tapes.iter().zip(&parts.backs) {
            let layers = self.config.recurrent_layers().zip(&back.d_states).zip(&mut states.layers);
            for ((_, from), to) in layers.filter(|((layer, _), _)| layer.index >= first) {
                from.iter().for_each(|from| from.put(&tape.part, to));
            }
        }
        states
    }

    /// Walks every part back, and adds the gradients of the parameters.
    ///
    /// There are two sums, over the earlier parts and over the later ones, whatever the number of threads. Up to two
    /// threads take a sum each, and add a part's gradients as soon as it was walked, while its values are in their cache.
    /// More threads share all walks, then each product.
    ///
    /// # Panics
    /// If the gradients with respect to final states are not shaped like the states.
    fn walk_back(&self, parts: &mut Parts, begin: Begin, gradients: &mut Tensors) {
        let Begin { d_output, d_states, first, wants_inputs } = begin;
        if let Some(states) = d_states
            && let Err(problem) = states.check(&self.config, d_output.dim().1)
        {
            panic!("gradients of final {problem}");
        }
        let Parts { tapes, backs, .. } = parts;
        let steps = |tape: &PartTape| tape.packings.iter().next().map_or(0, |(_, packing)| packing.len());
        let rows: usize = tapes.iter().map(steps).sum();
        let threads = self.threads.worth(rows * self.weights());
        let (is_few, takes_sums) = (tapes.len() < threads.count(), threads.count() <= 2);
        let adds_at_once = takes_sums && !is_few;
        let d_output = d_output.as_standard_layout();
        let d_output = d_output.view();
        let begin = |context: Context, tape: &PartTape, back: &mut Back| {
            back.begin(context, tape, d_output, d_states);
        };
        let mut late = std::mem::take(&mut *lock(&self.late_sums));
        let early_parts = earlier_half(tapes.iter().map(steps), rows);
        if early_parts < tapes.len() {
            zero_sums(&mut late, &self.config, gradients);
        }
        self.with_context(Pass::Backward, tapes[0].dropout, |context| {
            let walk = BackWalk { context, first, wants_inputs };
            if is_few {
                tapes.iter().zip(&mut *backs).for_each(|(tape, back)| begin(context, tape, back));
                let context = context.with_threads(threads);
                BackWalk { context, ..walk }.run(tapes, backs);
            } else if !adds_at_once {
                threads.run(tapes.iter_mut().zip(&mut *backs), |(tape, back)| {
                    begin(context, tape, back);
                    walk.run(from_mut(tape), from_mut(back));
                });
            }
            let (early_tapes, late_tapes) = tapes.split_at_mut(early_parts);
            let (early_backs, late_backs) = backs.split_at_mut(early_parts);
            let halves = [(early_tapes, early_backs, &mut *gradients), (late_tapes, late_backs, &mut late)];
            let add =
                |threads: Threads,
                 (tapes, backs, gradients): (&mut [PartTape], &mut [Back], &mut Tensors)| {
                    let mut sums = Sums { gradients, threads, set: self.set, buffers: &self.buffers };
                    for (tape, back) in tapes.iter_mut().zip(backs) {
                        if adds_at_once {
                            begin(context, tape, back);
                            walk.run(from_mut(tape), from_mut(back));
                        }
                        add_part_gradients(context, first, tape, back, &mut sums);
                    }
                };
            if adds_at_once {
                threads.run(halves, |half| add(Threads::new(1), half));
            } else {
                halves.into_iter().for_each(|half| add(self.threads, half));
            }
            if early_parts < tapes.len() {
                let pairs = gradients.iter_mut().filter_map(|(name, sum)| Some((sum, late.get(name)?)));
                threads.run(pairs, |(sum, late)| *sum += late);
            }
            let mut sums = Sums { gradients, threads: self.threads, set: self.set, buffers: &self.buffers };
            for (tape, back) in tapes.iter().zip(backs) {
                add_table_gradients(context, first, tape, back, &mut sums);
            }
        });
        *lock(&self.late_sums) = late;
    }
}

/// The beginning of a backward pass.
struct Begin<'a> {
    d_output: ArrayView3<'a, f32>,
    d_states: Option<&'a States>,
    /// The first layer that is walked through.
    first: usize,
    wants_inputs: bool,
}

/// The number of parts, from the first on, that hold about half of all rows; all parts if there is only one.
fn earlier_half(lengths: impl Iterator<Item = usize>, rows: usize) -> usize {
    let mut before = 0;
    lengths
        .take_while(|length| {
            let is_early = 2 * before < rows;
            before += length;
            is_early
        })
        .count()
}

/// Zeros for each parameter that has an entry in `gradients`, but for tables of embeddings, which are large and of which
/// few rows get a gradient. A table that another layer shares is none of these.
fn zero_sums(sums: &mut Tensors, config: &NetworkConfig, gradients: &Tensors) {
    let is_table = |layer: &&Layer| matches!(layer.kind, LayerKind::Embedding { .. });
    let has = |layer: &Layer, name: &String| layer.parameters.iter().any(|spec| spec.name == *name);
    let wanted = |name: &String| {
        let mut tables = config.layers().iter().filter(is_table);
        let mut others = config.layers().iter().filter(|layer| !is_table(layer));
        !tables.any(|layer| has(layer, name)) || others.any(|layer| has(layer, name))
    };
    sums.retain(|name, _| gradients.contains_key(name) && wanted(name));
    for (name, gradient) in gradients.iter().filter(|(name, _)| wanted(name)) {
        match sums.get_mut(name) {
            Some(sum) => sum.fill(0.0),
            None => drop(sums.insert(name.clone(), ArrayD::zeros(gradient.raw_dim()))),
        }
    }
}

/// Adds the gradients of one part, but for tables of embeddings.
fn add_part_gradients(context: Context, first: usize, tape: &PartTape, back: &Back, sums: &mut Sums) {
    for node in &context.config.graph().nodes()[first..] {
        let layer = &context.config.layers()[node.layer];
        add_layer_gradients(context, layer, node, tape, back, sums);
    }
}

/// Adds one part's gradients of tables of embeddings.
fn add_table_gradients(context: Context, first: usize, tape: &PartTape, back: &Back, sums: &mut Sums) {
    for node in &context.config.graph().nodes()[first..] {
        let layer = &context.config.layers()[node.layer];
        if let (LayerKind::Embedding { .. }, Some(Some(Found::Rows(d)))) =
            (layer.kind, back.found.get(layer.index))
            && let Some(table) = sums.matrix(layer.find(Role::EmbeddingWeight, false))
        {
            steps::embed_backward(tape.input_of(context, node).view(), d.view(), table);
        }
    }
}

/// Adds one part's gradients of a layer's parameters.
fn add_layer_gradients(
    context: Context,
    layer: &Layer,
    node: &Node,
    tape: &PartTape,
    back: &Back,
    sums: &mut Sums,
) {
    let Some(Some(found)) = back.found.get(layer.index) else { return };
    match (layer.kind, found, tape.values.get(Source::Output(layer.index))) {
        (LayerKind::Recurrent(recurrent), Found::Recurrent(found), Some(Kept::Recurrent(kept))) => {
            let (packing, input) = (tape.packing_of(node), tape.input_of(context, node));
            recurrent::add_gradients(context, layer, &recurrent, packing, input, kept, found, sums);
            let states = node.states.as_ref().expect("recurrent layers have states");
            let own = !tape.given && states.initial == InitialSource::Own;
            if let (true, Some(d_initial)) = (own, &back.d_states[states.number])
                && recurrent.initial == InitialState::Learned
            {
                add_learned(layer, &recurrent, d_initial, sums);
            }
        }
        (LayerKind::Dense { .. }, Found::Rows(d), _) => {
            let input = tape.input_of(context, node);
            sums.add_weight(layer.find(Role::DenseWeight, false), 0..d.ncols(), d.view(), input.view());
            sums.add_bias(layer.find(Role::DenseBias, false), d.view());
        }
        (LayerKind::Conv1d(conv), Found::Rows(d), _) => {
            let input = tape.input_of(context, node);
            let convolution = convolution_of(&conv, layer, node, tape);
            convolution.add_gradients(layer, input.view(), d.view(), sums);
        }
        // Added by `add_table_gradients`.
        (LayerKind::Embedding { .. }, ..) => {}
        (LayerKind::Normalise { .. }, Found::Normalise(found), _) => {
            normalise::add_gradients(layer, found, sums);
        }
        (LayerKind::Decoder { .. }, Found::Bridge(found), _) => {
            let bridge = tape.bridge.as_ref().expect("the encoder was run");
            bridge::add_gradients(context.config, bridge, found, sums);
        }
        (kind, ..) => unreachable!("{} has no parameters", kind.name()),
    }
}

/// Adds the gradients of learned states, which all rows share, and h all slots.
fn add_learned(layer: &Layer, recurrent: &Recurrent, d_initial: &PartState, sums: &mut Sums) {
    for (d, &reverse) in d_initial.scans.iter().flatten().zip(recurrent.direction.scans()) {
        for (role, d) in [(Role::InitialH, Some(&d.h)), (Role::InitialC, d.c.as_ref())] {
            if let (Some(d), Some(mut sum)) = (d, sums.vector(layer.find(role, reverse))) {
                d.rows().into_iter().for_each(|d| sum += &d);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::earlier_half;

    #[test]
    fn the_earlier_half_holds_half_of_the_rows() {
        for (lengths, expected) in [
            (vec![], 0),
            (vec![4], 1),
            (vec![5, 5], 1),
            (vec![9, 5, 3, 1], 1),
            (vec![4; 16], 8),
            (vec![3; 5], 3),
        ] {
            let rows = lengths.iter().sum();
            assert_eq!(earlier_half(lengths.iter().copied(), rows), expected, "{lengths:?}");
        }
    }
}
