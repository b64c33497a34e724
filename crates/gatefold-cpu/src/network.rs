use crate::batch::{Batch, check_half};
use crate::bridge::{self, BridgeTape, newest};
use crate::dense::{self, DenseTape};
use crate::packing::Packing;
use crate::recurrent::{self, RecurrentTape};
use crate::steps;
use crate::tensors::{Tensors, Values};
use crate::threads::Threads;
use gatefold_model::{Dropout, States};
use gatefold_model::{Layer, LayerKind, ModelError, NetworkConfig, Parameters, Role, StateKind};
use ndarray::{Array2, Array3, ArrayD, ArrayView2, ArrayView3};
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
    /// `[N, I]`: that layer's input.
    pub(crate) input: Array2<f32>,
    pub(crate) input_packing: Arc<Packing>,
    pub(crate) layers: Vec<LayerTape>,
    /// Of each layer's output.
    pub(crate) packings: Vec<Arc<Packing>>,
    pub(crate) bridge: Option<BridgeTape>,
    /// Whether the caller gave the initial states.
    pub(crate) given: bool,
    /// Whether everything is kept that backward needs; else only what is still to be read.
    keeps: bool,
    pub(crate) dropout: Option<Dropout>,
    /// Of the output `[T', B, O]`.
    shape: (usize, usize, usize),
    /// The output, where it is not the last layer's as it lies there.
    output: Option<Array3<f32>>,
    states: States,
}

/// What a layer keeps of its forward pass.
#[derive(Clone, Debug)]
pub(crate) enum LayerTape {
    Recurrent(Box<RecurrentTape>),
    Dense(DenseTape),
    /// Its output alone.
    Output(Array2<f32>),
    /// Nothing: the output is the input. Also layers in front of the first one that ran.
    Same,
}

impl Tape {
    /// The network's output, `[T', B, O]`; zeros behind a row's end.
    pub fn output(&self) -> ArrayView3<'_, f32> {
        match &self.output {
            Some(output) => output.view(),
            None => {
                self.input_of(self.layers.len()).into_shape_with_order(self.shape).expect("the same elements")
            }
        }
    }

    /// The final states of all recurrent layers.
    pub fn states(&self) -> &States {
        &self.states
    }

    /// Both, the output without a copy where it is the last layer's own.
    fn into_results(mut self) -> (Array3<f32>, States) {
        let output = match (self.output.take(), self.layers.pop()) {
            (Some(output), _) => output,
            (None, Some(LayerTape::Output(output))) => {
                output.into_shape_with_order(self.shape).expect("the same elements")
            }
            (None, last) => {
                self.layers.extend(last);
                self.output().to_owned()
            }
        };
        (output, self.states)
    }

    /// Lets go what no layer behind that one reads: the output of each layer in front of the last that has one, but for
    /// those that a residual layer adds.
    fn forget(&mut self, config: &NetworkConfig) {
        let done = self.layers.len();
        let provider =
            |at: usize| self.layers[..at].iter().rposition(|layer| !matches!(layer, LayerTape::Same));
        let Some(newest) = provider(done) else { return };
        let mut read: Vec<Option<usize>> = vec![Some(newest)];
        for layer in &config.layers()[done..] {
            match layer.kind {
                LayerKind::Residual { from } if from < done => read.push(provider(from)),
                _ => {}
            }
        }
        for at in 0..newest {
            if !read.contains(&Some(at)) {
                self.layers[at] = LayerTape::Same;
            }
        }
        if !read.contains(&None) {
            self.input = Array2::zeros((0, 0));
        }
    }

    /// The input of that layer, packed; of the one behind the last, the output.
    pub(crate) fn input_of(&self, index: usize) -> ArrayView2<'_, f32> {
        for layer in self.layers[self.first.min(index)..index].iter().rev() {
            match layer {
                LayerTape::Recurrent(tape) => return tape.output(),
                LayerTape::Dense(tape) => return tape.y.view(),
                LayerTape::Output(output) => return output.view(),
                LayerTape::Same => {}
            }
        }
        self.input.view()
    }

    /// The packing of that layer's input.
    pub(crate) fn packing_of(&self, index: usize) -> &Arc<Packing> {
        if index > self.first { &self.packings[index - 1] } else { &self.input_packing }
    }
}

impl Network {
    /// The network of that description with those parameters.
    ///
    /// # Errors
    /// What [`Parameters::check`] finds.
    pub fn new(
        config: &NetworkConfig,
        parameters: &Parameters,
        threads: Threads,
    ) -> Result<Self, ModelError> {
        parameters.check(config)?;
        let standard = |tensor: &ArrayD<f32>| tensor.as_standard_layout().into_owned();
        let parameters =
            parameters.iter().map(|(name, tensor)| (name.to_owned(), standard(tensor))).collect();
        Ok(Network { config: config.clone(), parameters, threads })
    }

    /// What the network was made from.
    pub fn config(&self) -> &NetworkConfig {
        &self.config
    }

    /// The parameters by name.
    pub fn parameters(&self) -> &Tensors {
        &self.parameters
    }

    /// The parameters by name, to change their values but not their shapes.
    pub fn parameters_mut(&mut self) -> &mut Tensors {
        &mut self.parameters
    }

    /// What the layers start from where a caller gives nothing, for `batch` rows; see [`States::initial`].
    pub fn initial_states(&self, batch: usize) -> States {
        States::initial_of(&self.config, batch, |name| &self.parameters[name])
    }

    /// The forward pass.
    ///
    /// # Panics
    /// If [`Batch::check`] has something against the batch.
    pub fn forward(&self, batch: &Batch) -> Tape {
        self.pass(batch, true)
    }

    fn pass(&self, batch: &Batch, keeps: bool) -> Tape {
        if let Err(problem) = batch.check(&self.config) {
            panic!("{problem}");
        }
        let (steps, rows, _) = batch.input.dim();
        let packing = Arc::new(Packing::new(steps, rows, batch.lengths));
        let mut tape = self.start(0, packing.pack(batch.input), packing, batch.states, batch.dropout);
        tape.keeps = keeps;
        let second = batch.decoder.map(|(input, lengths)| {
            let packing = Arc::new(Packing::new(input.dim().0, rows, lengths));
            (packing.pack(input), packing)
        });
        self.run(&mut tape, self.config.layers().len(), second);
        tape
    }

    /// The output and the final states, with the bits of [`Network::forward`]; of the pass nothing is kept longer than it
    /// is read.
    ///
    /// # Panics
    /// As [`Network::forward`].
    pub fn infer(&self, batch: &Batch) -> (Array3<f32>, States) {
        self.pass(batch, false).into_results()
    }

    /// The output alone.
    ///
    /// # Panics
    /// As [`Network::forward`].
    pub fn predict(&self, batch: &Batch) -> Array3<f32> {
        self.infer(batch).0
    }

    /// Runs the encoder, and gives the states to run the decoder from: its recurrent layers' initial states, and the
    /// encoder's final ones. The batch's decoder input, if it has one, is not read.
    ///
    /// # Errors
    /// [`ModelError::Config`] if the network has no decoder.
    ///
    /// # Panics
    /// If [`Batch::check`] has something against the encoder's part of the batch.
    pub fn encode(&self, batch: &Batch) -> Result<States, ModelError> {
        let decoder = self.decoder()?;
        let (steps, rows, _) = batch.input.dim();
        let problem = check_half("input", &self.config, 0, batch.input, batch.lengths);
        let problem =
            problem.and_then(|()| batch.states.map_or(Ok(()), |states| states.check(&self.config, rows)));
        if let Err(problem) = problem {
            panic!("{problem}");
        }
        let packing = Arc::new(Packing::new(steps, rows, batch.lengths));
        let mut tape = self.start(0, packing.pack(batch.input), packing, batch.states, batch.dropout);
        tape.keeps = false;
        self.run(&mut tape, decoder, None);
        let (starts, _) = bridge::forward(self.values(), &self.config, &tape.states.layers);
        let encoder = bridge::encoder_states(&self.config);
        tape.states.layers.truncate(encoder);
        tape.states.layers.extend(starts);
        Ok(tape.states)
    }

    /// Runs the decoder alone over its input `[T', B, I']` from given states, such as those of [`Network::encode`]; the
    /// encoder's are handed through. In the backward pass of this tape the gradient by `input` is the one by this input.
    ///
    /// # Errors
    /// [`ModelError::Config`] if the network has no decoder.
    ///
    /// # Panics
    /// If the input is empty or not as wide as the decoder's, or lengths or states do not fit.
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
        let packing = Arc::new(Packing::new(steps, rows, lengths));
        let mut tape = self.start(first, packing.pack(input), packing, Some(states), dropout);
        self.run(&mut tape, self.config.layers().len(), None);
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

    /// A tape on which nothing has run.
    fn start(
        &self,
        first: usize,
        input: Array2<f32>,
        packing: Arc<Packing>,
        states: Option<&States>,
        dropout: Option<Dropout>,
    ) -> Tape {
        let initial = || self.initial_states(packing.batch());
        Tape {
            first,
            input,
            layers: vec![LayerTape::Same; first],
            packings: vec![packing.clone(); first],
            bridge: None,
            given: states.is_some(),
            keeps: true,
            dropout,
            shape: (0, 0, 0),
            output: None,
            states: states.cloned().unwrap_or_else(initial),
            input_packing: packing,
        }
    }

    /// Runs the layers from the tape's first to in front of `end`; final states take the places of initial ones.
    fn run(&self, tape: &mut Tape, end: usize, mut second: Option<(Array2<f32>, Arc<Packing>)>) {
        let layers = self.config.layers();
        let mut state = layers[..tape.first].iter().filter(|layer| layer.recurrent().is_some()).count();
        for layer in &layers[tape.first..end] {
            let (kept, packing) = match layer.kind {
                LayerKind::Decoder { .. } => {
                    let (starts, bridge) =
                        bridge::forward(self.values(), &self.config, &tape.states.layers[..state]);
                    tape.bridge = Some(bridge);
                    tape.states.layers.truncate(state);
                    tape.states.layers.extend(starts);
                    let (input, packing) = second.take().expect("a network with a decoder has its input");
                    (LayerTape::Output(input), packing)
                }
                LayerKind::Recurrent(recurrent) => {
                    let (packing, input) = (tape.packing_of(layer.index).clone(), tape.input_of(layer.index));
                    let start = &tape.states.layers[state];
                    let values = self.values();
                    let (kept, last) = if tape.keeps {
                        let (kept, last) =
                            recurrent::forward(values, layer, &recurrent, &packing, input, start);
                        (LayerTape::Recurrent(Box::new(kept)), last)
                    } else {
                        let (output, last) =
                            recurrent::infer(values, layer, &recurrent, &packing, input, start);
                        (LayerTape::Output(output), last)
                    };
                    tape.states.layers[state] = last;
                    state += 1;
                    (kept, packing)
                }
                _ => self.other_forward(layer, tape, state),
            };
            tape.layers.push(kept);
            tape.packings.push(packing);
            if !tape.keeps {
                tape.forget(&self.config);
            }
        }
        if end == layers.len() {
            let packing = tape.packing_of(end).clone();
            tape.shape = (packing.padded_steps(), packing.batch(), self.config.output());
            if !packing.is_plain() {
                tape.output = Some(packing.unpack(tape.input_of(end)));
            }
        }
    }

    /// A layer that is neither recurrent nor a decoder; `states` recurrent layers ran before it.
    fn other_forward(&self, layer: &Layer, tape: &Tape, states: usize) -> (LayerTape, Arc<Packing>) {
        let (input, packing) = (tape.input_of(layer.index), tape.packing_of(layer.index));
        let kept = match layer.kind {
            LayerKind::Dense { activation, .. } => {
                let (weight, bias) = self.dense_parameters(layer);
                let dense = dense::forward(self.threads, input, weight, bias, activation);
                if tape.keeps { LayerTape::Dense(dense) } else { LayerTape::Output(dense.y) }
            }
            LayerKind::Embedding { .. } => LayerTape::Output(steps::embed(self.embedding(layer), input)),
            LayerKind::Dropout { rate } => match tape.dropout {
                None => LayerTape::Same,
                Some(dropout) => {
                    let mut y = input.to_owned();
                    steps::drop_out(dropout, layer.index, rate, packing, &mut y);
                    LayerTape::Output(y)
                }
            },
            LayerKind::Softmax => LayerTape::Output(steps::softmax(input)),
            LayerKind::Residual { from } => LayerTape::Output(&input + &tape.input_of(from)),
            LayerKind::LastStep => {
                return (LayerTape::Output(packing.last_rows(input)), Arc::new(packing.of_steps(1)));
            }
            LayerKind::FinalState => {
                let behind = &self.config.layers()[layer.index - 1];
                let recurrent = behind.recurrent().expect("a final state stands behind a recurrent layer");
                let h = newest(&tape.states.layers[states - 1], StateKind::Hidden, recurrent);
                return (LayerTape::Output(packing.sort(h.view())), Arc::new(packing.of_steps(1)));
            }
            LayerKind::Expand { steps: count, fill } => {
                let y = steps::expand(packing.last_rows(input).view(), count, fill);
                return (LayerTape::Output(y), Arc::new(packing.of_steps(count)));
            }
            kind => unreachable!("{} is run elsewhere", kind.name()),
        };
        (kept, packing.clone())
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

    fn kept(layers: &[LayerConfig], keeps: bool) -> (bool, Vec<usize>) {
        let config = NetworkConfig::new(3, layers).unwrap();
        let network = Network::new(&config, &Parameters::initial(&config, 1), Threads::new(1)).unwrap();
        let input = Array3::ones((4, 2, 3));
        let tape = network.pass(&Batch::new(input.view()), keeps);
        let is_kept = |at: &usize| !matches!(tape.layers[*at], LayerTape::Same);
        (!tape.input.is_empty(), (0..layers.len()).filter(is_kept).collect())
    }

    #[test]
    fn inference_keeps_what_is_still_read_and_nothing_else() {
        let lstm = || LstmConfig::new(3).into();
        let plain = [lstm(), lstm(), DenseConfig::new(2).into()];
        assert_eq!(kept(&plain, true), (true, vec![0, 1, 2]));
        assert_eq!(kept(&plain, false), (false, vec![2]));
        // A residual layer that has run holds nothing any more.
        let added = [lstm(), lstm(), LayerConfig::Residual { from: 1 }, lstm()];
        assert_eq!(kept(&added, false), (false, vec![3]));
        // In front of its turn it does: the pass ends where it is about to run.
        let config =
            NetworkConfig::new(3, [&added[..], &[LayerConfig::Residual { from: 0 }]].concat()).unwrap();
        let network = Network::new(&config, &Parameters::initial(&config, 1), Threads::new(1)).unwrap();
        let packing = Arc::new(Packing::new(4, 2, None));
        let mut tape = network.start(0, Array2::ones((8, 3)), packing, None, None);
        tape.keeps = false;
        network.run(&mut tape, 2, None);
        assert!(!tape.input.is_empty(), "layer 4 adds it");
        let is_kept: Vec<bool> = tape.layers.iter().map(|layer| !matches!(layer, LayerTape::Same)).collect();
        assert_eq!(is_kept, [true, true], "layer 2 adds the output of layer 0, the input of layer 1");
    }
}
