//! Whole networks on buffers of our own. Outputs, final states and every gradient are those of the same network through
//! the engine's other doors: the same bits on the same GPU, and within tolerance those of the CPU. Past the rows' ends,
//! our inputs and gradients of outputs hold NaN, where the other doors have zeros.

use super::{buffer, encode, gradient, lengths, read, written};
use gatefold::data::LayerState;
use gatefold::embed::{self, BackwardBuffers, DecoderBuffers, ForwardBuffers, StateBuffers};
use gatefold::layers::{
    Activation, Bridge, Conv1dConfig, DecoderConfig, DenseConfig, Direction, Expansion, GruConfig,
    InitialState, LayerConfig, LayerKind, LayerNorm, LstmConfig, Merge, Reset, RnnConfig, branch,
};
use gatefold::{Device, Gpu, Network, NetworkConfig, Parameters, Sequences, States, wgpu};
use gatefold_check::{
    Failures, NetworkCase, Random, Tolerance, assert_array, assert_parameters, assert_states, gradient_terms,
    output_terms, test_gpu,
};
use ndarray::{Array3, ArrayD, ArrayView3, Axis, s};

const TANH: Activation = Activation::Tanh;

/// `[T, B, I]`, and where rows end.
struct Part {
    values: Array3<f32>,
    lengths: Option<Vec<usize>>,
}

impl Part {
    fn sequences(&self) -> Sequences<'static> {
        let values = Sequences::time_major(self.values.clone());
        match &self.lengths {
            Some(lengths) => values.with_lengths(lengths.clone()).unwrap(),
            None => values,
        }
    }

    fn buffers(&self, gpu: &Gpu) -> (wgpu::Buffer, Option<wgpu::Buffer>) {
        let ends = self.lengths.as_ref().map(|ends| lengths(gpu, ends));
        (buffer(gpu, past_ends(&self.values, self.lengths.as_deref()).as_slice().unwrap()), ends)
    }
}

/// The same with NaN past the rows' ends.
fn past_ends(values: &Array3<f32>, lengths: Option<&[usize]>) -> Array3<f32> {
    let mut values = values.clone();
    for (row, &length) in lengths.unwrap_or_default().iter().enumerate() {
        values.slice_mut(s![length.., row, ..]).fill(f32::NAN);
    }
    values
}

/// A network, a batch, and the gradients that go back through it.
struct Case {
    config: NetworkConfig,
    parameters: Parameters,
    batch: usize,
    input: Part,
    decoder: Option<Part>,
    initial: Option<States>,
    d_output: Array3<f32>,
    d_finals: States,
}

/// The result of a pass.
struct Found {
    output: Array3<f32>,
    finals: States,
    gradients: Option<Gradients>,
}

struct Gradients {
    parameters: Parameters,
    input: Array3<f32>,
    decoder_input: Option<Array3<f32>>,
    initial: States,
}

impl Case {
    /// `ended` rows have lengths of their own, one of them none; `given` states are not the configured ones.
    fn new(config: &NetworkConfig, batch: usize, ended: bool, given: bool) -> Case {
        let mut random = Random::new(5, 3);
        let layers = config.layers();
        let mut part = |reader: usize, width: usize, steps: usize, lengths: [usize; 5]| {
            let values = random.sequence((steps, batch, width));
            let tokens = match layers[reader].kind {
                LayerKind::Embedding { tokens } => Some(tokens as f32),
                _ => None,
            };
            let values = tokens.map_or(values.clone(), |tokens| {
                values.mapv(|value| ((value + 1.0) / 2.0 * tokens).floor().min(tokens - 1.0))
            });
            Part { values, lengths: ended.then(|| lengths[..batch].to_vec()) }
        };
        let expands = matches!(layers[0].kind, LayerKind::Expand { .. });
        let mut input = part(0, config.input(), if expands { 1 } else { 6 }, [6, 0, 3, 5, 1]);
        input.lengths = input.lengths.filter(|_| !expands);
        let decoder = config.decoder().map(|at| part(at + 1, layers[at].output, 5, [2, 5, 0, 4, 3]));
        let steps = decoder.as_ref().unwrap_or(&input).values.dim().0;
        let d_output = random.sequence((config.output_steps(steps), batch, config.output()));
        let mut states = || {
            let mut states = States::zeros(config, batch);
            for LayerState { h, c, y, .. } in &mut states.layers {
                let values = h.iter_mut().chain(c.iter_mut().flatten()).chain(y.iter_mut().flatten());
                values.for_each(|value| *value = random.values(1)[0]);
            }
            states
        };
        let (initial, d_finals) = (given.then(&mut states), states());
        let parameters = NetworkCase { config: config.clone(), steps, batch, seed: 7 }.parameters();
        Case { config: config.clone(), parameters, batch, input, decoder, initial, d_output, d_finals }
    }

    fn sequences(&self) -> Sequences<'static> {
        match &self.decoder {
            Some(decoder) => self.input.sequences().with_decoder(decoder.sequences()),
            None => self.input.sequences(),
        }
    }

    /// The lengths of the output's rows.
    fn output_lengths(&self) -> Option<Vec<usize>> {
        let (lengths, timeline) =
            (self.decoder.as_ref().unwrap_or(&self.input).lengths.as_ref(), self.config.timeline());
        let lengths = lengths.filter(|_| timeline.has_lengths())?;
        Some(lengths.iter().map(|&length| timeline.steps(length)).collect())
    }

    /// By the engine's other doors.
    fn expected(&self, device: &Device, backward: bool) -> Found {
        let network = Network::with_parameters(device, &self.config, &self.parameters).unwrap();
        let (batch, initial) = (self.sequences(), self.initial.as_ref());
        if !backward {
            let found = network.forward(&batch, initial).unwrap();
            return Found { output: found.output, finals: found.states, gradients: None };
        }
        let tape = network.forward_training(&batch, initial, None).unwrap();
        let (output, finals) = (tape.output().to_owned(), tape.states().clone());
        let found = network.backward(tape, self.d_output.view(), Some(&self.d_finals)).unwrap();
        let found = found.read().unwrap();
        let gradients = Gradients {
            parameters: found.parameters,
            input: found.input,
            decoder_input: found.decoder_input,
            initial: found.states,
        };
        Found { output, finals, gradients: Some(gradients) }
    }

    /// The buffers of a forward call.
    fn forward(&self, gpu: &Gpu, output: &wgpu::Buffer) -> ForwardBuffers {
        let (x, lengths) = self.input.buffers(gpu);
        let mut forward = ForwardBuffers::new(&x, output);
        if let Some(lengths) = lengths {
            forward = forward.lengths(&lengths);
        }
        if let Some(decoder) = &self.decoder {
            let (x, lengths) = decoder.buffers(gpu);
            let buffers = DecoderBuffers::new(decoder.values.dim().0, &x);
            forward = forward.decoder(match lengths {
                Some(lengths) => buffers.lengths(&lengths),
                None => buffers,
            });
        }
        match &self.initial {
            Some(states) => forward.initial(state_buffers(gpu, &self.config, states)),
            None => forward,
        }
    }

    fn d_output(&self, gpu: &Gpu) -> wgpu::Buffer {
        buffer(gpu, past_ends(&self.d_output, self.output_lengths().as_deref()).as_slice().unwrap())
    }

    fn steps(&self) -> usize {
        self.input.values.dim().0
    }

    /// Recorded on buffers of our own.
    fn recorded(&self, gpu: &Gpu, backward: bool) -> Found {
        let config = &self.config;
        let network = embed::Network::with_parameters(gpu, config, &self.parameters).unwrap();
        let of = |like: &Array3<f32>| written(gpu, like.len());
        let zeros = States::zeros(config, self.batch);
        let output = of(&self.d_output);
        let finals = state_buffers(gpu, config, &zeros);
        let forward = self.forward(gpu, &output).finals(finals.clone());
        let back = |like: &Array3<f32>, buffer: &wgpu::Buffer| {
            Array3::from_shape_vec(like.dim(), read(gpu, buffer)).unwrap()
        };
        let found = |gradients| Found {
            output: back(&self.d_output, &output),
            finals: read_states(gpu, config, &finals, &zeros),
            gradients,
        };
        if !backward {
            let sequence = network.sequence(self.steps(), self.batch, &forward, None).unwrap();
            encode(gpu, |encoder| sequence.forward(encoder));
            return found(None);
        }
        let d_initial = state_buffers(gpu, config, &zeros);
        let (d_input, d_decoder) =
            (of(&self.input.values), self.decoder.as_ref().map(|part| of(&part.values)));
        let mut backward = BackwardBuffers::new(&self.d_output(gpu))
            .finals(state_buffers(gpu, config, &self.d_finals))
            .initial(d_initial.clone())
            .input(&d_input);
        if let Some(d_decoder) = &d_decoder {
            backward = backward.decoder_input(d_decoder);
        }
        let sequence = network.sequence(self.steps(), self.batch, &forward, Some(&backward)).unwrap();
        encode(gpu, |encoder| {
            sequence.forward(encoder);
            sequence.backward(encoder).unwrap();
        });
        found(Some(Gradients {
            parameters: self.gradients(gpu, &network),
            input: back(&self.input.values, &d_input),
            decoder_input: d_decoder.zip(self.decoder.as_ref()).map(|(d, part)| back(&part.values, &d)),
            initial: read_states(gpu, config, &d_initial, &zeros),
        }))
    }

    fn gradients(&self, gpu: &Gpu, network: &embed::Network) -> Parameters {
        let read = |(name, like): (&str, &ArrayD<f32>)| {
            let values = ArrayD::from_shape_vec(like.raw_dim(), gradient(gpu, network, name)).unwrap();
            (name.to_owned(), values)
        };
        self.parameters.iter().map(read).collect()
    }

    /// Forward alone, and there and back.
    fn check(&self, gpu: &Gpu) {
        for backward in [false, true] {
            let found = self.recorded(gpu, backward);
            // NaN would not be equal to itself.
            found.check(&self.expected(&Device::Gpu(gpu.clone()), backward), [Tolerance::EXACT; 2]);
            // Both devices round.
            let terms = [output_terms(&self.config), gradient_terms(&self.config, self.steps(), self.batch)]
                .map(|terms| terms + bridge_terms(&self.config));
            let tolerances = [Tolerance::output(terms[0]).times(2), Tolerance::gradient(terms[1]).times(2)];
            found.check(&self.expected(&Device::cpu().unwrap(), backward), tolerances);
        }
    }
}

impl Found {
    fn check(&self, expected: &Found, [outputs, gradients]: [Tolerance; 2]) {
        assert_array("output", self.output.view(), expected.output.view(), outputs);
        assert_states("final", &self.finals, &expected.finals, outputs);
        assert_eq!(self.gradients.is_some(), expected.gradients.is_some());
        let (Some(found), Some(expected)) = (&self.gradients, &expected.gradients) else { return };
        assert_parameters("gradients", &found.parameters, &expected.parameters, gradients);
        assert_array("d_input", found.input.view(), expected.input.view(), gradients);
        assert_states("d_initial", &found.initial, &expected.initial, gradients);
        assert_eq!(found.decoder_input.is_some(), expected.decoder_input.is_some());
        if let (Some(found), Some(expected)) = (&found.decoder_input, &expected.decoder_input) {
            assert_array("decoder.d_input", found.view(), expected.view(), gradients);
        }
    }
}

/// The terms of the sums in bridges.
fn bridge_terms(config: &NetworkConfig) -> usize {
    config.graph().hand_overs().iter().map(|between| between.source_width + between.width).sum()
}

/// The slots of one scan in the order of time.
fn slots(h: &Array3<f32>, history: usize, scan: usize, reverse: bool) -> ArrayView3<'_, f32> {
    let mut slots = h.slice(s![scan * history..(scan + 1) * history, .., ..]);
    if reverse {
        slots.invert_axis(Axis(0)); // states have the oldest first, as the scan saw them
    }
    slots
}

/// One for each direction of each recurrent layer.
fn state_buffers(gpu: &Gpu, config: &NetworkConfig, states: &States) -> Vec<StateBuffers> {
    let flat = |values: Vec<f32>| buffer(gpu, &values);
    let mut buffers = Vec::new();
    for (layer, state) in config.recurrent_layers().zip(&states.layers) {
        let recurrent = layer.recurrent().unwrap();
        for (scan, &reverse) in recurrent.direction.scans().iter().enumerate() {
            let c = state.c.as_ref().map(|c| slots(c, recurrent.dilation, scan, reverse));
            buffers.push(StateBuffers {
                h: flat(slots(&state.h, recurrent.history(), scan, reverse).iter().copied().collect()),
                c: c.map(|c| flat(c.iter().copied().collect())),
                y: state.y.as_ref().map(|y| flat(y.iter().copied().collect())),
            });
        }
    }
    buffers
}

/// The reverse of [`state_buffers`].
fn read_states(gpu: &Gpu, config: &NetworkConfig, buffers: &[StateBuffers], like: &States) -> States {
    let (mut states, mut buffers) = (like.clone(), buffers.iter());
    for (layer, state) in config.recurrent_layers().zip(&mut states.layers) {
        let recurrent = layer.recurrent().unwrap();
        let history = recurrent.history();
        for (scan, &reverse) in recurrent.direction.scans().iter().enumerate() {
            let found = buffers.next().unwrap();
            let mut h = state.h.slice_mut(s![scan * history..(scan + 1) * history, .., ..]);
            if reverse {
                h.invert_axis(Axis(0));
            }
            h.iter_mut().zip(read(gpu, &found.h)).for_each(|(to, value)| *to = value);
            if let (Some(c), Some(found)) = (&mut state.c, &found.c) {
                let d = recurrent.dilation;
                let mut c = c.slice_mut(s![scan * d..(scan + 1) * d, .., ..]);
                if reverse {
                    c.invert_axis(Axis(0));
                }
                c.iter_mut().zip(read(gpu, found)).for_each(|(to, value)| *to = value);
            }
            if let (Some(y), Some(found)) = (&mut state.y, &found.y) {
                y.iter_mut().zip(read(gpu, found)).for_each(|(to, value)| *to = value);
            }
        }
    }
    states
}

fn alone(input: usize, layer: impl Into<LayerConfig>) -> NetworkConfig {
    NetworkConfig::new(input, [layer.into()]).unwrap()
}

fn check_all(configs: impl IntoIterator<Item = NetworkConfig>, ended: &[bool]) {
    let Some(gpu) = test_gpu() else { return };
    let mut failures = Failures::new();
    for config in configs {
        for &ended in ended {
            for given in [false, true] {
                let name = format!("{config}, lengths {ended}, given states {given}");
                failures.check(name, || Case::new(&config, 4, ended, given).check(&gpu));
            }
        }
    }
    failures.finish();
}

#[test]
fn layers_alone() {
    let configs = [
        alone(2, RnnConfig::new(5).feedback(3, TANH)),
        alone(2, RnnConfig::new(9).direction(Direction::BidirectionalSum)),
        alone(2, RnnConfig::new(4).skip(2).direction(Direction::Reverse)),
        alone(2, LstmConfig::new(6).projection(4).direction(Direction::Reverse)),
        alone(2, LstmConfig::new(7).peephole().dilation(3).direction(Direction::Bidirectional)),
        alone(2, GruConfig::new(5).dilation(4).initial_state(InitialState::Learned)),
        alone(2, LstmConfig::new(7).peephole().skip(2).direction(Direction::Bidirectional)),
        alone(2, GruConfig::new(5).reset(Reset::Before).initial_state(InitialState::Learned)),
        alone(2, DenseConfig::new(3).activation(Activation::Softplus)),
        // Normalised, and noisy: no masks are drawn here, so zoneout is its expectation, forward and back.
        alone(2, LstmConfig::new(7).layer_norm(LayerNorm::default()).direction(Direction::Bidirectional)),
        alone(2, GruConfig::new(6).layer_norm(LayerNorm { epsilon: 0.05 }).direction(Direction::Reverse)),
        alone(2, LstmConfig::new(5).zoneout(0.3).zoneout_cell(0.4)),
        alone(2, GruConfig::new(5).zoneout(0.3).recurrent_dropout(0.4).candidate_dropout(0.2)),
        alone(2, RnnConfig::new(5).zoneout(0.3).drop_connect(0.5)),
    ];
    check_all(configs, &[true]);
}

#[test]
fn stacks() {
    let (both, learned) = (Direction::Bidirectional, InitialState::Learned);
    let tanh = |output| DenseConfig::new(output).activation(TANH);
    let input = NetworkConfig::with_input;
    let configs = [
        // Tokens to a distribution.
        input(1)
            .embedding(7, 4)
            .layer(GruConfig::new(5).direction(both))
            .lstm(6)
            .last_step()
            .dense(3)
            .softmax(),
        input(1).embedding(9, 5).gru(5).layer(tanh(5)).residual(1).dense(2),
        input(4)
            .parallel(Merge::Sum, [branch().gru(4), branch(), branch().layer(tanh(4)).residual(1)])
            .dense(2),
        input(4).gru(4).residual(0).layer(LstmConfig::new(5).direction(both).initial_state(learned)).dense(2),
        input(6).gru(6).tied(0).layer(tanh(3)).layer(LstmConfig::new(5).feedback(3, TANH).skip(2)),
        input(3).lstm(5).final_state().layer(tanh(4)).expand(3, Expansion::Repeat).rnn(4).dense(2),
        // Convolutions, at whose inputs and outputs rows end at lengths of their own.
        input(3).layer(Conv1dConfig::new(4, 3).stride(2).activation(TANH)).lstm(5).dense(2),
        input(2).layer(tanh(4)).layer(Conv1dConfig::new(3, 2).causal()).rnn(4).conv1d(2, 1).last_step(),
        input(2).gru(3).layer(Conv1dConfig::new(4, 4).padding(2, 3).stride(3)),
        // Dropout is off here.
        input(3).layer(GruConfig::new(5).reset(Reset::Before)).dropout(0.5).rnn(4),
    ];
    check_all(configs.map(|layers| layers.build().unwrap()), &[false, true]);
}

#[test]
fn one_step_made_into_many() {
    let config = NetworkConfig::with_input(3).expand(4, Expansion::Zeros).gru(5).dense(2).build().unwrap();
    check_all([config], &[false]);
}

#[test]
fn encoders_with_decoders() {
    let both = LstmConfig::new(4).direction(Direction::Bidirectional);
    let bridge = Bridge::Dense { activation: TANH };
    let input = NetworkConfig::with_input;
    let configs = [
        input(3).gru(5).decoder(2).layer(GruConfig::new(5).skip(2)).dense(2),
        input(3)
            .layer(LstmConfig::new(5).dilation(2))
            .decoder(2)
            .layer(LstmConfig::new(5).dilation(3))
            .dense(2),
        // More layers in front than there are states to hand over.
        input(3)
            .lstm(6)
            .layer(both)
            .layer(DecoderConfig::new(1).bridge(bridge))
            .embedding(7, 4)
            .lstm(5)
            .dense(2),
        input(1).embedding(8, 3).lstm(6).decoder(2).lstm(6).final_state().dense(3),
    ];
    check_all(configs.map(|layers| layers.build().unwrap()), &[false, true]);
}

/// The gradients of the parameters do not depend on which of the others are taken.
#[test]
fn gradients_that_nobody_takes() {
    let Some(gpu) = test_gpu() else { return };
    let config = NetworkConfig::with_input(3).lstm(6).decoder(2).lstm(6).dense(2).build().unwrap();
    let mut case = Case::new(&config, 4, true, false);
    case.d_finals = States::zeros(&config, 4);
    let network = embed::Network::with_parameters(&gpu, &config, &case.parameters).unwrap();
    let forward = case.forward(&gpu, &written(&gpu, case.d_output.len()));
    let backward = BackwardBuffers::new(&case.d_output(&gpu));
    let sequence = network.sequence(case.steps(), 4, &forward, Some(&backward)).unwrap();
    encode(&gpu, |encoder| {
        sequence.forward(encoder);
        sequence.backward(encoder).unwrap();
    });
    let expected = case.recorded(&gpu, true).gradients.unwrap().parameters;
    assert_eq!(case.gradients(&gpu, &network), expected);
}

/// The fed-back output of a state may be left out, and one of two gradients of inputs; batches of several sizes go through
/// one network.
#[test]
fn buffers_that_a_caller_leaves_out() {
    let Some(gpu) = test_gpu() else { return };
    let mut failures = Failures::new();
    let fed_back = alone(2, RnnConfig::new(5).feedback(3, TANH));
    let decoder = NetworkConfig::with_input(3).gru(5).decoder(2).gru(5).build().unwrap();
    for (config, is_decoder) in [(fed_back, false), (decoder, true)] {
        let parameters = Case::new(&config, 2, true, true).parameters;
        let network = embed::Network::with_parameters(&gpu, &config, &parameters).unwrap();
        for batch in [2, 5] {
            failures.check(format!("{config}, batch {batch}"), || {
                let mut case = Case::new(&config, batch, true, true);
                // Left out, it is zero.
                for states in [case.initial.as_mut().unwrap(), &mut case.d_finals] {
                    states.layers.iter_mut().flat_map(|layer| &mut layer.y).for_each(|y| y.fill(0.0));
                }
                let without_y = |states: &States| {
                    let mut buffers = state_buffers(&gpu, &config, states);
                    buffers.iter_mut().for_each(|state| state.y = None);
                    buffers
                };
                let zeros = States::zeros(&config, batch);
                let (finals, d_initial) = (without_y(&zeros), without_y(&zeros));
                let (output, d_input) =
                    (written(&gpu, case.d_output.len()), written(&gpu, case.input.values.len()));
                let forward = case.forward(&gpu, &output);
                let forward =
                    forward.initial(without_y(case.initial.as_ref().unwrap())).finals(finals.clone());
                let backward = BackwardBuffers::new(&case.d_output(&gpu))
                    .finals(without_y(&case.d_finals))
                    .initial(d_initial.clone())
                    .input(&d_input);
                let sequence = network.sequence(case.steps(), batch, &forward, Some(&backward)).unwrap();
                encode(&gpu, |encoder| {
                    network.clear_gradients(encoder);
                    sequence.forward(encoder);
                    sequence.backward(encoder).unwrap();
                });

                let expected = case.recorded(&gpu, true);
                let gradients = expected.gradients.unwrap();
                let flat = |values: &Array3<f32>| values.iter().copied().collect::<Vec<f32>>();
                assert_eq!(read(&gpu, &output), flat(&expected.output));
                assert_eq!(read(&gpu, &d_input), flat(&gradients.input));
                assert_eq!(case.gradients(&gpu, &network), gradients.parameters);
                let h = |states: &States| {
                    states.layers.iter().flat_map(|layer| layer.h.clone()).collect::<Vec<f32>>()
                };
                let read_h = |buffers: &[StateBuffers]| {
                    buffers.iter().flat_map(|state| read(&gpu, &state.h)).collect::<Vec<f32>>()
                };
                assert_eq!(read_h(&finals), h(&expected.finals));
                assert_eq!(read_h(&d_initial), h(&gradients.initial));
                assert_eq!(is_decoder, gradients.decoder_input.is_some());
            });
        }
    }
    failures.finish();
}
