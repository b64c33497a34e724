use crate::batch::{Batch, check_half};
use crate::bridge::{BridgeTape, newest, recurrent_of};
use crate::buffers::{Buffers, Matrix, Rows};
use crate::by_source::BySource;
use crate::dense::DenseTape;
use crate::forward;
use crate::instructions::Instructions;
use crate::packing::{Packing, Part};
use crate::parts::PartState;
use crate::recurrent::RecurrentTape;
use crate::running::Running;
use crate::shelf::{Lent, Parts, Shelf};
use crate::tensors::{Tensors, Values};
use crate::threads::Threads;
use crate::weights::{PackedNetwork, Pass, Store};
use gatefold_model::{Conv1d, Dropout, LayerState, States};
use gatefold_model::{Graph, Layer, Merge, ModelError, NetworkConfig, Node, Parameters, Source, StateKind};
use ndarray::{Array3, ArrayD, ArrayView2, ArrayView3, s};
use std::sync::{Arc, Mutex};

/// A network with its parameters.
///
/// Weights are packed for the products when they are first needed, and again after [`Network::parameters_mut`].
#[derive(Debug)]
pub struct Network {
    pub(crate) config: NetworkConfig,
    pub(crate) parameters: Tensors,
    pub(crate) threads: Threads,
    pub(crate) set: Instructions,
    forward: Store,
    backward: Store,
    pub(crate) buffers: Arc<Buffers>,
    shelf: Arc<Shelf>,
    /// Room for the sums over the later parts of a batch.
    pub(crate) late_sums: Mutex<Tensors>,
}

/// The parts of the network that a pass reads.
#[derive(Clone, Copy)]
pub(crate) struct Context<'a> {
    pub(crate) set: Instructions,
    pub(crate) config: &'a NetworkConfig,
    pub(crate) values: Values<'a>,
    pub(crate) packed: &'a PackedNetwork,
    pub(crate) buffers: &'a Arc<Buffers>,
    /// The key of the masks of recurrent layers, in training.
    pub(crate) dropout: Option<Dropout>,
    /// The threads that share the work on a layer.
    pub(crate) threads: Threads,
}

impl Context<'_> {
    /// The same with these threads.
    pub(crate) fn with_threads(self, threads: Threads) -> Self {
        Context { threads, ..self }
    }
}

/// The forward pass of a network, as the backward pass needs it.
///
/// A batch goes through the network in parts of a few rows, each with a tape of its own. The parts depend on the
/// batch and the network, not on the number of threads.
#[derive(Clone, Debug)]
pub struct Tape {
    pub(crate) parts: Lent,
    /// `[T' B, O]`
    output: Matrix,
    /// `[T', B, O]`
    shape: (usize, usize, usize),
}

/// The forward pass of a part of a batch.
#[derive(Clone, Debug)]
pub(crate) struct PartTape {
    pub(crate) part: Part,
    /// The first layer that ran.
    pub(crate) first: usize,
    /// The inputs, and the outputs of the layers that ran.
    pub(crate) values: BySource<Kept>,
    /// The packing of each value, kept even when the value is forgotten.
    pub(crate) packings: BySource<Arc<Packing>>,
    /// The packings of the pass before, which may fit again.
    before: BySource<Arc<Packing>>,
    pub(crate) bridge: Option<BridgeTape>,
    /// Whether the caller gave the initial states.
    pub(crate) given: bool,
    /// Whether to keep everything that backward needs, or only what is still to be read.
    pub(crate) keeps: bool,
    pub(crate) dropout: Option<Dropout>,
    /// The value that is the network's output.
    pub(crate) result: Source,
    /// Of each recurrent layer: the initial states, replaced by the final ones when the layer has run.
    pub(crate) states: Vec<PartState>,
    /// The recurrent layer that runs, and its input if that had to be made.
    pub(crate) running: Option<(Running, Option<Matrix>)>,
}

/// A value, with what its layer keeps of the forward pass.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "its list is kept from pass to pass")]
pub(crate) enum Kept {
    Recurrent(RecurrentTape),
    Dense(DenseTape),
    /// The value alone.
    Rows(Matrix),
    /// No rows of its own: the value equals this other one, which has its own.
    Same(Source),
}

impl Tape {
    /// The network's output, `[T', B, O]`; zeros past a row's end.
    pub fn output(&self) -> ArrayView3<'_, f32> {
        ArrayView3::from_shape(self.shape, self.output.elements()).expect("the output has that shape")
    }

    /// The final states of all recurrent layers.
    pub fn states(&self) -> States {
        finals(&self.parts)
    }
}

impl BySource<Kept> {
    /// The value that holds the rows of `source`.
    fn origin(&self, source: Source) -> Source {
        match self.get(source) {
            Some(Kept::Same(origin)) => *origin,
            _ => source,
        }
    }

    /// The packed rows of a value.
    pub(crate) fn rows(&self, source: Source) -> ArrayView2<'_, f32> {
        match &self[source] {
            Kept::Recurrent(tape) => tape.output(),
            Kept::Dense(tape) => tape.y.view(),
            Kept::Rows(rows) => rows.view(),
            Kept::Same(origin) => self.rows(*origin),
        }
    }
}

impl PartTape {
    /// The tape of no pass yet.
    pub(crate) fn new(part: Part) -> Self {
        PartTape {
            part,
            first: 0,
            values: BySource::default(),
            packings: BySource::default(),
            before: BySource::default(),
            bridge: None,
            given: false,
            keeps: false,
            dropout: None,
            result: Source::Input,
            states: Vec::new(),
            running: None,
        }
    }

    /// Returns the matrices to the network, and keeps the packings.
    pub(crate) fn clear(&mut self) {
        self.values.clear();
        std::mem::swap(&mut self.packings, &mut self.before);
        self.packings.clear();
        self.bridge = None;
        self.states.clear();
        self.running = None;
    }

    /// Drops every value that neither a layer from `done` on nor the caller still reads.
    pub(crate) fn forget(&mut self, graph: &Graph, done: usize) {
        let sources = graph.nodes()[..done].iter().map(|node| Source::Output(node.layer));
        for source in sources.chain([Source::Input, Source::DecoderInput]) {
            let reads = |&read: &Source| read == source || self.values.origin(read) == source;
            if !graph.nodes()[done..].iter().flat_map(|node| &node.inputs).chain([&self.result]).any(reads) {
                self.values.remove(source);
            }
        }
    }

    /// The packed input of a layer, merged where it reads several values.
    pub(crate) fn input_of(&self, context: Context, node: &Node) -> Rows<'_> {
        let value = |source: Source| match source {
            Source::FinalHidden(layer) => {
                let (number, recurrent) = recurrent_of(context.config, layer);
                let h = newest(context.buffers, &self.states[number], StateKind::Hidden, recurrent);
                Rows::Made(self.packings[source].sort(context.buffers, h.view()))
            }
            _ => Rows::Kept(self.values.rows(source)),
        };
        let (first, others) = node.inputs.split_first().expect("it reads a value");
        match node.merge {
            Merge::Concatenate if !others.is_empty() => {
                let rows = self.packings[*first].len();
                let mut all = context.buffers.matrix(rows, context.config.layers()[node.layer].output);
                let mut column = 0;
                for &source in &node.inputs {
                    let part = value(source);
                    let end = column + part.view().ncols();
                    all.slice_mut(s![.., column..end]).assign(&part.view());
                    column = end;
                }
                Rows::Made(all)
            }
            Merge::Sum | Merge::Concatenate => others.iter().fold(value(*first), |merged, &other| {
                let mut sum = match merged {
                    Rows::Made(rows) => rows,
                    Rows::Kept(rows) => context.buffers.copy(rows),
                };
                *sum += &value(other).view();
                Rows::Made(sum)
            }),
        }
    }

    /// The output of a layer that passes its input through.
    pub(crate) fn unchanged(&self, node: &Node, input: Rows) -> Kept {
        match input {
            Rows::Made(rows) => Kept::Rows(rows),
            Rows::Kept(_) => Kept::Same(self.values.origin(node.inputs[0])),
        }
    }

    /// Packs the part's rows of a caller's sequence and adds them as an input.
    fn give(
        &mut self,
        buffers: &Arc<Buffers>,
        source: Source,
        sequence: ArrayView3<f32>,
        lengths: Option<&[usize]>,
    ) {
        let steps = sequence.dim().0;
        let before = self.before.get(source).filter(|before| before.is_of(steps, &self.part, lengths));
        let packing = before.cloned().unwrap_or_else(|| Arc::new(Packing::new(steps, &self.part, lengths)));
        self.values.insert(source, Kept::Rows(packing.pack(buffers, sequence)));
        self.packings.insert(source, packing);
    }

    /// The packing of a layer's input.
    pub(crate) fn packing_of(&self, node: &Node) -> &Arc<Packing> {
        &self.packings[node.inputs[0]]
    }

    /// The packing of a value with so many steps of every row, in the order of another packing.
    pub(crate) fn packing_of_steps(&self, source: Source, steps: usize, other: &Packing) -> Arc<Packing> {
        let before = self.before.get(source).filter(|before| before.is_of_steps(steps, other));
        before.cloned().unwrap_or_else(|| Arc::new(other.of_steps(steps)))
    }

    /// The packing of a convolution's output, which is that of its input where no row gets shorter.
    pub(crate) fn packing_of_conv(
        &self,
        source: Source,
        conv: &Conv1d,
        input: &Arc<Packing>,
    ) -> Arc<Packing> {
        let before = [Some(input), self.before.get(source)].into_iter().flatten();
        let fits = before.clone().find(|before| before.is_convolved(conv, input));
        fits.cloned().unwrap_or_else(|| Arc::new(input.convolved(conv)))
    }
}

impl Clone for Network {
    fn clone(&self) -> Self {
        Network::assemble(self.config.clone(), self.parameters.clone(), self.threads, self.set)
    }
}

impl Network {
    /// A network with this description and these parameters, computed with the machine's widest instructions.
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
        Ok(Self::assemble(config.clone(), parameters, threads, Instructions::widest()))
    }

    fn assemble(config: NetworkConfig, parameters: Tensors, threads: Threads, set: Instructions) -> Self {
        let (forward, backward) = (Store::new(Pass::Forward), Store::new(Pass::Backward));
        let (buffers, shelf, late_sums) = Default::default();
        Network { config, parameters, threads, set, forward, backward, buffers, shelf, late_sums }
    }

    /// The same network, computed with these instructions.
    pub fn with_instructions(self, set: Instructions) -> Self {
        Self::assemble(self.config, self.parameters, self.threads, set)
    }

    /// The instructions that it is computed with.
    pub fn instructions(&self) -> Instructions {
        self.set
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
        self.forward.forget();
        self.backward.forget();
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
        self.tape(self.pass(batch, true))
    }

    fn pass(&self, batch: &Batch, keeps: bool) -> Lent {
        if let Err(problem) = batch.check(&self.config) {
            panic!("{problem}");
        }
        let (_, rows, _) = batch.input.dim();
        let input = batch.input.as_standard_layout();
        let decoder = batch.decoder.as_ref().map(|(input, lengths)| (input.as_standard_layout(), *lengths));
        let run = Run { first: 0, end: self.config.layers().len(), keeps, given: batch.states };
        let steps = batch.input.dim().0 + batch.decoder.map_or(0, |(input, _)| input.dim().0);
        self.run_parts(rows, steps, batch.lengths, run, batch.dropout, |tape| {
            tape.give(&self.buffers, Source::Input, input.view(), batch.lengths);
            if let Some((input, lengths)) = &decoder {
                tape.give(&self.buffers, Source::DecoderInput, input.view(), *lengths);
            }
        })
    }

    /// The output and the final states, bit for bit those of [`Network::forward`], without keeping anything longer than
    /// needed.
    ///
    /// # Panics
    /// As [`Network::forward`].
    pub fn infer(&self, batch: &Batch) -> (Array3<f32>, States) {
        let parts = self.pass(batch, false);
        (self.output(&parts), finals(&parts))
    }

    /// Only the output.
    ///
    /// # Panics
    /// As [`Network::forward`].
    pub fn predict(&self, batch: &Batch) -> Array3<f32> {
        self.output(&self.pass(batch, false))
    }

    /// Only the final states: no layer after the last recurrent one runs. Bit for bit those of [`Network::forward`].
    ///
    /// # Panics
    /// As [`Network::forward`], and if the network has a decoder.
    pub fn advance(&self, batch: &Batch) -> States {
        assert!(self.config.decoder().is_none(), "a decoder's states are those of its own input");
        if let Err(problem) = batch.check(&self.config) {
            panic!("{problem}");
        }
        let end = self.config.recurrent_layers().last().map_or(0, |layer| layer.index + 1);
        finals(&self.run_input(batch, end))
    }

    /// Runs the layers up to `end`, exclusive, from the batch's input alone, without keeping anything.
    fn run_input(&self, batch: &Batch, end: usize) -> Lent {
        let (steps, rows, _) = batch.input.dim();
        let input = batch.input.as_standard_layout();
        let run = Run { first: 0, end, keeps: false, given: batch.states };
        self.run_parts(rows, steps, batch.lengths, run, batch.dropout, |tape| {
            tape.give(&self.buffers, Source::Input, input.view(), batch.lengths);
        })
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
        // The decoder layer itself is the bridge.
        Ok(finals(&self.run_input(batch, decoder + 1)))
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
        let (steps, rows, _) = input.dim();
        let problem = check_half("decoder input", &self.config, first, input, lengths);
        if let Err(problem) = problem.and_then(|()| states.check(&self.config, rows)) {
            panic!("{problem}");
        }
        let input = input.as_standard_layout();
        let run = Run { first, end: self.config.layers().len(), keeps: true, given: Some(states) };
        let parts = self.run_parts(rows, steps, lengths, run, dropout, |tape| {
            tape.give(&self.buffers, Source::DecoderInput, input.view(), lengths);
        });
        Ok(self.tape(parts))
    }

    pub(crate) fn values(&self) -> Values<'_> {
        Values { tensors: &self.parameters }
    }

    /// Calls `work` with what passes in this direction read of the network.
    pub(crate) fn with_context<R>(
        &self,
        pass: Pass,
        dropout: Option<Dropout>,
        work: impl FnOnce(Context) -> R,
    ) -> R {
        let store = match pass {
            Pass::Forward => &self.forward,
            Pass::Backward => &self.backward,
        };
        let packed = store.read(&self.config, self.values(), self.set, dropout);
        let (values, buffers) = (self.values(), &self.buffers);
        let (set, config, packed, threads) = (self.set, &self.config, &*packed, Threads::new(1));
        work(Context { set, config, values, packed, buffers, dropout, threads })
    }

    fn decoder(&self) -> Result<usize, ModelError> {
        self.config.decoder().ok_or_else(|| ModelError::Config {
            place: "network".into(),
            problem: "it has no decoder to run by itself; run the network as a whole".into(),
        })
    }

    /// Runs the parts of a batch forward, each with the inputs that `give` adds to its tape.
    fn run_parts(
        &self,
        rows: usize,
        steps: usize,
        lengths: Option<&[usize]>,
        run: Run,
        dropout: Option<Dropout>,
        give: impl Fn(&mut PartTape) + Sync,
    ) -> Lent {
        self.buffers.begin();
        let mut parts = self.shelf.take(rows, lengths);
        for tape in &mut parts.tapes {
            (tape.first, tape.keeps, tape.given) = (run.first, run.keeps, run.given.is_some());
            (tape.dropout, tape.result) = (dropout, self.config.graph().output());
            let state = |(number, layer): (usize, &Layer)| {
                let recurrent = layer.recurrent().expect("only those are asked for");
                match run.given {
                    Some(given) => {
                        PartState::take(&self.buffers, recurrent, &given.layers[number], &tape.part)
                    }
                    None => {
                        let rows = tape.part.rows.len();
                        PartState::initial(&self.buffers, self.values(), layer, recurrent, rows)
                    }
                }
            };
            tape.states.extend(self.config.recurrent_layers().enumerate().map(state));
        }
        self.with_context(Pass::Forward, dropout, |context| {
            let threads = self.threads.worth(rows * steps * self.weights());
            forward::run(context.with_threads(threads), &mut parts.tapes, run.end, give);
        });
        parts
    }

    /// The elements of all weights: about half of the arithmetic of a row's step.
    pub(crate) fn weights(&self) -> usize {
        self.parameters.values().map(|tensor| tensor.len()).sum()
    }

    /// The shape of the output, `[T', B, O]`.
    fn output_shape(&self, parts: &Parts) -> (usize, usize, usize) {
        let PartTape { packings, result, part, .. } = &parts.tapes[0];
        (packings[*result].padded_steps(), part.whole, self.config.output())
    }

    /// Writes the output to zeros, `[T', B, O]`.
    fn put_output(parts: &Parts, to: &mut [f32]) {
        for tape in &parts.tapes {
            tape.packings[tape.result].unpack(tape.values.rows(tape.result), to);
        }
    }

    fn output(&self, parts: &Parts) -> Array3<f32> {
        let mut output = Array3::zeros(self.output_shape(parts));
        Self::put_output(parts, output.as_slice_mut().expect("it is in standard layout"));
        output
    }

    fn tape(&self, parts: Lent) -> Tape {
        let shape @ (steps, rows, width) = self.output_shape(&parts);
        let mut output = self.buffers.zeros(steps * rows, width);
        Self::put_output(&parts, output.elements_mut());
        Tape { parts, output, shape }
    }
}

/// The states of the whole batch.
fn finals(parts: &Parts) -> States {
    let first = &parts.tapes[0];
    let mut layers: Vec<LayerState> = first.states.iter().map(|state| state.whole(&first.part)).collect();
    for tape in &parts.tapes {
        tape.states.iter().zip(&mut layers).for_each(|(from, to)| from.put(&tape.part, to));
    }
    States { layers }
}

/// The layers to run, and how.
#[derive(Clone, Copy)]
struct Run<'a> {
    first: usize,
    /// Exclusive.
    end: usize,
    keeps: bool,
    given: Option<&'a States>,
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
        let run = Run { first: 0, end, keeps, given: None };
        let ones = Array3::ones((4, 2, 3));
        let give = |tape: &mut PartTape| tape.give(&network.buffers, Source::Input, ones.view(), None);
        let parts = network.run_parts(2, 4, None, run, None, give);
        let [tape] = &parts.tapes[..] else { panic!("two rows are one part") };
        tape.values.iter().map(|(source, _)| source).collect()
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
