use crate::batch::{Batch, check_half};
use crate::bridge::{self, BridgeTape, newest, recurrent_of};
use crate::dense::{self, DenseTape};
use crate::packing::Packing;
use crate::recurrent::{self, RecurrentTape};
use crate::steps;
use crate::tensors::{Tensors, Values};
use crate::threads::Threads;
use gatefold_model::{Dropout, States};
use gatefold_model::{
    Graph, Layer, LayerKind, Merge, ModelError, NetworkConfig, Node, Parameters, Role, Source, StateKind,
};
use ndarray::{Array2, Array3, ArrayD, ArrayView2, ArrayView3, CowArray, Ix2};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A network with its parameters.
#[derive(Clone, Debug)]
pub struct Network {
    pub(crate) config: NetworkConfig,
    pub(crate) parameters: Tensors,
    pub(crate) threads: Threads,
}

/// The forward pass of a network, as the backward pass needs it.
#[derive(Clone, Debug)]
pub struct Tape {
    /// The first layer that ran.
    pub(crate) first: usize,
    /// The inputs, and the outputs of the layers that ran, keyed as in the layer graph.
    pub(crate) values: BTreeMap<Source, Kept>,
    /// The packing of each value, kept even when the value is forgotten.
    pub(crate) packings: BTreeMap<Source, Arc<Packing>>,
    pub(crate) bridge: Option<BridgeTape>,
    /// Whether the caller gave the initial states.
    pub(crate) given: bool,
    /// Whether to keep everything that backward needs, or only what is still to be read.
    keeps: bool,
    pub(crate) dropout: Option<Dropout>,
    /// The value that is the network's output.
    result: Source,
    /// The output's shape, `[T', B, O]`.
    shape: (usize, usize, usize),
    /// The unpacked output, where the packed result has another layout.
    output: Option<Array3<f32>>,
    states: States,
}

/// A value, with what its layer keeps of the forward pass.
#[derive(Clone, Debug)]
pub(crate) enum Kept {
    Recurrent(Box<RecurrentTape>),
    Dense(DenseTape),
    /// The value alone.
    Rows(Array2<f32>),
    /// No rows of its own: the value equals this other one, which has its own.
    Same(Source),
}

impl Tape {
    /// The network's output, `[T', B, O]`; zeros past a row's end.
    pub fn output(&self) -> ArrayView3<'_, f32> {
        match &self.output {
            Some(output) => output.view(),
            None => self.rows(self.result).into_shape_with_order(self.shape).expect("the same elements"),
        }
    }

    /// The final states of all recurrent layers.
    pub fn states(&self) -> &States {
        &self.states
    }

    /// The output and the final states, without copying the output where possible.
    fn into_results(mut self) -> (Array3<f32>, States) {
        let output = match (self.output.take(), self.values.remove(&self.origin(self.result))) {
            (Some(output), _) => output,
            (None, Some(Kept::Rows(rows))) => {
                rows.into_shape_with_order(self.shape).expect("the same elements")
            }
            (None, kept) => {
                self.values.extend(kept.map(|kept| (self.result, kept)));
                self.output().to_owned()
            }
        };
        (output, self.states)
    }

    /// Drops every value that neither a layer from `done` on nor the caller still reads.
    fn forget(&mut self, graph: &Graph, done: usize) {
        let inputs = graph.nodes()[done..].iter().flat_map(|node| &node.inputs);
        let read = inputs.chain([&self.result]).flat_map(|&source| [source, self.origin(source)]);
        let read: BTreeSet<Source> = read.collect();
        self.values.retain(|source, _| read.contains(source));
    }

    /// The value that holds the rows of `source`.
    fn origin(&self, source: Source) -> Source {
        match self.values.get(&source) {
            Some(Kept::Same(origin)) => *origin,
            _ => source,
        }
    }

    /// The packed rows of a value.
    fn rows(&self, source: Source) -> ArrayView2<'_, f32> {
        match &self.values[&source] {
            Kept::Recurrent(tape) => tape.output(),
            Kept::Dense(tape) => tape.y.view(),
            Kept::Rows(rows) => rows.view(),
            Kept::Same(origin) => self.rows(*origin),
        }
    }

    /// The packed input of a layer, merged where it reads several values.
    pub(crate) fn input_of(&self, config: &NetworkConfig, node: &Node) -> CowArray<'_, f32, Ix2> {
        let value = |&source: &Source| match source {
            Source::FinalHidden(layer) => {
                let (number, recurrent) = recurrent_of(config, layer);
                let h = newest(&self.states.layers[number], StateKind::Hidden, recurrent);
                self.packings[&source].sort(h.view()).into()
            }
            _ => CowArray::from(self.rows(source)),
        };
        let (first, others) = node.inputs.split_first().expect("it reads a value");
        others.iter().fold(value(first), |merged, other| match node.merge {
            Merge::Sum => (&merged + &value(other)).into(),
        })
    }

    /// The output of a layer that passes its input through.
    fn unchanged(&self, node: &Node, input: CowArray<f32, Ix2>) -> Kept {
        match node.inputs[..] {
            [source] if self.values.contains_key(&source) => Kept::Same(self.origin(source)),
            _ => Kept::Rows(input.into_owned()),
        }
    }

    /// Packs a caller's sequence and adds it as an input.
    fn give(&mut self, source: Source, sequence: ArrayView3<f32>, lengths: Option<&[usize]>) {
        let (steps, batch, _) = sequence.dim();
        let packing = Arc::new(Packing::new(steps, batch, lengths));
        self.values.insert(source, Kept::Rows(packing.pack(sequence)));
        self.packings.insert(source, packing);
    }

    /// The packing of a layer's input.
    pub(crate) fn packing_of(&self, node: &Node) -> &Arc<Packing> {
        &self.packings[&node.inputs[0]]
    }

    /// B
    pub(crate) fn batch(&self) -> usize {
        self.packings.values().next().expect("every tape has an input").batch()
    }
}

impl Network {
    /// A network with this description and these parameters.
    ///
    /// # Errors
    /// As [`Parameters::check`] and [`Parameters::check_memory`].
    pub fn new(
        config: &NetworkConfig,
        parameters: &Parameters,
        threads: Threads,
    ) -> Result<Self, ModelError> {
        parameters.check(config)?;
        Parameters::check_memory(config)?;
        let standard = |tensor: &ArrayD<f32>| tensor.as_standard_layout().into_owned();
        let parameters =
            parameters.iter().map(|(name, tensor)| (name.to_owned(), standard(tensor))).collect();
        Ok(Network { config: config.clone(), parameters, threads })
    }

    /// The network's description.
    pub fn config(&self) -> &NetworkConfig {
        &self.config
    }

    /// The parameters by name.
    pub fn parameters(&self) -> &Tensors {
        &self.parameters
    }

    /// The parameters by name, mutable; their shapes must stay.
    pub fn parameters_mut(&mut self) -> &mut Tensors {
        &mut self.parameters
    }

    /// The layers' own initial states for `batch` rows; see [`States::initial`].
    pub fn initial_states(&self, batch: usize) -> States {
        States::initial_of(&self.config, batch, |name| &self.parameters[name])
    }

    /// The forward pass.
    ///
    /// # Panics
    /// If [`Batch::check`] refuses the batch.
    pub fn forward(&self, batch: &Batch) -> Tape {
        self.pass(batch, true)
    }

    fn pass(&self, batch: &Batch, keeps: bool) -> Tape {
        if let Err(problem) = batch.check(&self.config) {
            panic!("{problem}");
        }
        let rows = batch.input.dim().1;
        let mut tape = self.new_tape(0, rows, batch.states, batch.dropout);
        tape.keeps = keeps;
        tape.give(Source::Input, batch.input, batch.lengths);
        if let Some((input, lengths)) = batch.decoder {
            tape.give(Source::DecoderInput, input, lengths);
        }
        self.run(&mut tape, self.config.layers().len());
        tape
    }

    /// The output and the final states, bit for bit those of [`Network::forward`], without keeping anything longer than
    /// needed.
    ///
    /// # Panics
    /// As [`Network::forward`].
    pub fn infer(&self, batch: &Batch) -> (Array3<f32>, States) {
        self.pass(batch, false).into_results()
    }

    /// Only the output.
    ///
    /// # Panics
    /// As [`Network::forward`].
    pub fn predict(&self, batch: &Batch) -> Array3<f32> {
        self.infer(batch).0
    }

    /// Runs the encoder, and returns the states from which the decoder can run: the encoder's final states and the
    /// initial states of the decoder's recurrent layers. Ignores the batch's decoder input.
    ///
    /// # Errors
    /// [`ModelError::Config`] if the network has no decoder.
    ///
    /// # Panics
    /// If [`Batch::check`] refuses the encoder's part of the batch.
    pub fn encode(&self, batch: &Batch) -> Result<States, ModelError> {
        let decoder = self.decoder()?;
        let rows = batch.input.dim().1;
        let problem = check_half("input", &self.config, 0, batch.input, batch.lengths);
        let problem =
            problem.and_then(|()| batch.states.map_or(Ok(()), |states| states.check(&self.config, rows)));
        if let Err(problem) = problem {
            panic!("{problem}");
        }
        let mut tape = self.new_tape(0, rows, batch.states, batch.dropout);
        tape.keeps = false;
        tape.give(Source::Input, batch.input, batch.lengths);
        self.run(&mut tape, decoder);
        bridge::forward(self.values(), &self.config, &mut tape.states.layers);
        Ok(tape.states)
    }

    /// Runs only the decoder over its input `[T', B, I']` from given states, such as those of [`Network::encode`]; the
    /// encoder's states pass through. In the backward pass of this tape, [`Gradients::input`](crate::Gradients::input)
    /// is the gradient with respect to this input.
    ///
    /// # Errors
    /// [`ModelError::Config`] if the network has no decoder.
    ///
    /// # Panics
    /// If the input is empty or not as wide as the decoder's, or if lengths or states do not fit.
    pub fn forward_decoder(
        &self,
        input: ArrayView3<f32>,
        lengths: Option<&[usize]>,
        states: &States,
        dropout: Option<Dropout>,
    ) -> Result<Tape, ModelError> {
        let first = self.decoder()? + 1;
        let rows = input.dim().1;
        let problem = check_half("decoder input", &self.config, first, input, lengths);
        if let Err(problem) = problem.and_then(|()| states.check(&self.config, rows)) {
            panic!("{problem}");
        }
        let mut tape = self.new_tape(first, rows, Some(states), dropout);
        tape.give(Source::DecoderInput, input, lengths);
        self.run(&mut tape, self.config.layers().len());
        Ok(tape)
    }

    pub(crate) fn values(&self) -> Values<'_> {
        Values { tensors: &self.parameters, threads: self.threads }
    }

    fn decoder(&self) -> Result<usize, ModelError> {
        self.config.decoder().ok_or_else(|| ModelError::Config {
            place: "network".into(),
            problem: "it has no decoder to run by itself; run the network as a whole".into(),
        })
    }

    /// An empty tape.
    fn new_tape(
        &self,
        first: usize,
        batch: usize,
        states: Option<&States>,
        dropout: Option<Dropout>,
    ) -> Tape {
        Tape {
            first,
            values: BTreeMap::new(),
            packings: BTreeMap::new(),
            bridge: None,
            given: states.is_some(),
            keeps: true,
            dropout,
            result: self.config.graph().output(),
            shape: (0, 0, 0),
            output: None,
            states: states.cloned().unwrap_or_else(|| self.initial_states(batch)),
        }
    }

    /// Runs the layers from the tape's first up to `end`, exclusive; final states replace initial ones.
    fn run(&self, tape: &mut Tape, end: usize) {
        let graph = self.config.graph();
        for node in &graph.nodes()[tape.first..end] {
            let layer = &self.config.layers()[node.layer];
            if let LayerKind::Decoder { .. } = layer.kind {
                tape.bridge = Some(bridge::forward(self.values(), &self.config, &mut tape.states.layers));
                continue;
            }
            let input = tape.input_of(&self.config, node);
            let mut packing = tape.packing_of(node).clone();
            let kept = match (layer.kind, &node.states) {
                (LayerKind::Recurrent(recurrent), Some(states)) => {
                    let initial = &tape.states.layers[states.number];
                    let values = self.values();
                    let (kept, finals) = if tape.keeps {
                        let (kept, finals) =
                            recurrent::forward(values, layer, &recurrent, &packing, input.view(), initial);
                        (Kept::Recurrent(Box::new(kept)), finals)
                    } else {
                        let (output, finals) =
                            recurrent::infer(values, layer, &recurrent, &packing, input.view(), initial);
                        (Kept::Rows(output), finals)
                    };
                    tape.states.layers[states.number] = finals;
                    if graph.reads_final(layer.index) {
                        tape.packings.insert(Source::FinalHidden(layer.index), Arc::new(packing.of_steps(1)));
                    }
                    kept
                }
                _ => self.other_forward(layer, node, tape, input, &mut packing),
            };
            tape.values.insert(Source::Output(layer.index), kept);
            tape.packings.insert(Source::Output(layer.index), packing);
            if !tape.keeps {
                tape.forget(graph, layer.index + 1);
            }
        }
        if end == graph.nodes().len() {
            let packing = &tape.packings[&tape.result];
            tape.shape = (packing.padded_steps(), packing.batch(), self.config.output());
            if !packing.is_plain() {
                tape.output = Some(packing.unpack(tape.rows(tape.result)));
            }
        }
    }

    /// Runs a layer that is neither recurrent nor a decoder. `packing` is that of its input, and becomes that of its
    /// output.
    fn other_forward(
        &self,
        layer: &Layer,
        node: &Node,
        tape: &Tape,
        input: CowArray<f32, Ix2>,
        packing: &mut Arc<Packing>,
    ) -> Kept {
        match layer.kind {
            LayerKind::Dense { activation, .. } => {
                let (weight, bias) = self.dense_parameters(layer);
                let dense = dense::forward(self.threads, input.view(), weight, bias, activation);
                if tape.keeps { Kept::Dense(dense) } else { Kept::Rows(dense.y) }
            }
            LayerKind::Embedding { .. } => Kept::Rows(steps::embed(self.embedding(layer), input.view())),
            LayerKind::Dropout { rate } => match tape.dropout {
                None => tape.unchanged(node, input),
                Some(dropout) => {
                    let mut y = input.into_owned();
                    steps::drop_out(dropout, layer.index, rate, packing, &mut y);
                    Kept::Rows(y)
                }
            },
            LayerKind::Softmax => Kept::Rows(steps::softmax(input.view())),
            LayerKind::LastStep => {
                let rows = packing.last_rows(input.view());
                *packing = Arc::new(packing.of_steps(1));
                Kept::Rows(rows)
            }
            LayerKind::Expand { steps: count, fill } => {
                let rows = steps::expand(packing.last_rows(input.view()).view(), count, fill);
                *packing = Arc::new(packing.of_steps(count));
                Kept::Rows(rows)
            }
            // These layers only read.
            LayerKind::Residual { .. } | LayerKind::FinalState => tape.unchanged(node, input),
            kind => unreachable!("{} is run elsewhere", kind.name()),
        }
    }

    pub(crate) fn dense_parameters(
        &self,
        layer: &Layer,
    ) -> (ArrayView2<'_, f32>, Option<ndarray::ArrayView1<'_, f32>>) {
        let weight = self.values().matrix(layer, Role::DenseWeight, false);
        (weight.expect("dense layers have weights"), self.values().vector(layer, Role::DenseBias, false))
    }

    pub(crate) fn embedding(&self, layer: &Layer) -> ArrayView2<'_, f32> {
        self.values().matrix(layer, Role::EmbeddingWeight, false).expect("embeddings have a table")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gatefold_model::{DenseConfig, LayerConfig, LstmConfig};

    fn lstm() -> LayerConfig {
        LstmConfig::new(3).into()
    }

    /// The values that a tape still holds after running the layers up to `end`, exclusive.
    fn kept(layers: &[LayerConfig], end: usize, keeps: bool) -> Vec<Source> {
        let config = NetworkConfig::new(3, layers).unwrap();
        let network =
            Network::new(&config, &Parameters::initial(&config, 1).unwrap(), Threads::new(1)).unwrap();
        let mut tape = network.new_tape(0, 2, None, None);
        tape.keeps = keeps;
        tape.give(Source::Input, Array3::ones((4, 2, 3)).view(), None);
        network.run(&mut tape, end);
        tape.values.into_keys().collect()
    }

    #[test]
    fn inference_keeps_what_is_still_read_and_nothing_else() {
        use Source::{Input, Output};
        let plain = [lstm(), lstm(), DenseConfig::new(2).into()];
        assert_eq!(kept(&plain, 3, true), [Input, Output(0), Output(1), Output(2)]);
        assert_eq!(kept(&plain, 3, false), [Output(2)]);
        // A residual layer that has run keeps nothing alive.
        let added = [lstm(), lstm(), LayerConfig::Residual { from: 1 }, lstm()];
        assert_eq!(kept(&added, 4, false), [Output(3)]);
        // Until then it does: layer 4 will add the input, and layer 2 the output of layer 0, which is the input of
        // layer 1.
        let added = [&added[..], &[LayerConfig::Residual { from: 0 }]].concat();
        assert_eq!(kept(&added, 2, false), [Input, Output(0), Output(1)]);
        assert_eq!(kept(&added, 3, false), [Input, Output(2)]);
    }

    #[test]
    fn inference_keeps_what_a_layer_hands_through_unchanged() {
        use Source::Output;
        // In inference, the output of a dropout layer is its input.
        let layers = [lstm(), LayerConfig::Dropout { rate: 0.5 }, lstm(), LayerConfig::Residual { from: 2 }];
        assert_eq!(kept(&layers, 2, false), [Output(0), Output(1)]);
        assert_eq!(kept(&layers, 3, false), [Output(0), Output(1), Output(2)]);
        assert_eq!(kept(&layers, 4, false), [Output(3)]);
        assert_eq!(kept(&layers[..2], 2, false), [Output(0), Output(1)], "the output is that of layer 0");
    }

    #[test]
    fn inference_forgets_an_output_of_which_the_final_state_alone_is_read() {
        let layers = [lstm(), LayerConfig::FinalState];
        assert_eq!(kept(&layers, 1, false), []);
        assert_eq!(kept(&layers, 2, false), [Source::Output(1)]);
    }
}
