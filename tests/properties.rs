//! Properties that hold for any sequences: padding has no effect, time may be reversed or cut in two. Also masks of
//! dropout, and training of learned states, tables and shared layers. On the CPU and on a GPU.

use gatefold::data::LayerState;
use gatefold::layers::{
    Activation, Conv1dConfig, DenseConfig, Direction, EmbeddingConfig, GruConfig, InitialState, LayerConfig,
    LstmConfig, Reset, RnnConfig,
};
use gatefold::training::{Dropout, GradientArrays, ParameterGroup};
use gatefold::{
    Device, Error, Network, NetworkConfig, Optimizer, Parameters, Sequences, States, TrainConfig, Trainer,
};
use gatefold_check::{
    Failures, NetworkCase, Random, Tolerance, assert_array, assert_parameters, assert_states, gradient_terms,
    output_terms, test_devices,
};
use ndarray::{Array3, ArrayView3, Axis, s};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use std::collections::BTreeMap;

fn config(input: usize, layers: impl Into<Vec<LayerConfig>>) -> NetworkConfig {
    NetworkConfig::new(input, layers).unwrap()
}

fn dense(output: usize) -> LayerConfig {
    DenseConfig::new(output).into()
}

/// A network without zero parameters.
fn network(device: &Device, config: &NetworkConfig, seed: u64) -> Network {
    let case = NetworkCase { config: config.clone(), steps: 1, batch: 1, seed };
    Network::with_parameters(device, config, &case.parameters()).unwrap()
}

/// A batch that proptest chose.
#[derive(Clone, Debug)]
struct Chosen {
    /// The index among the property's networks.
    network: usize,
    steps: usize,
    lengths: Vec<usize>,
    /// Steps before the cut, or steps of padding.
    cut: usize,
    given: bool,
    seed: u64,
}

fn chosen(networks: usize) -> impl Strategy<Value = Chosen> {
    let shape = (2usize..7, 1usize..5);
    shape.prop_flat_map(move |(steps, batch)| {
        let lengths = proptest::collection::vec(0..=steps, batch);
        (0..networks, lengths, 1..steps, any::<bool>(), 0u64..1000).prop_map(
            move |(network, lengths, cut, given, seed)| Chosen { network, steps, lengths, cut, given, seed },
        )
    })
}

/// Runs the same cases every time; few on a GPU, where each compiles its own plans.
fn for_all(networks: &[NetworkConfig], property: impl Fn(&str, &Device, &NetworkConfig, &Chosen)) {
    let mut failures = Failures::new();
    for (name, device) in &test_devices() {
        failures.check(*name, || {
            let cases = if *name == "cpu" { 40 } else { 5 };
            let config =
                Config { cases, failure_persistence: None, max_shrink_iters: 20, ..Config::default() };
            let mut runner =
                TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
            let found = runner.run(&chosen(networks.len()), |chosen| {
                property(name, device, &networks[chosen.network], &chosen);
                Ok(())
            });
            if let Err(problem) = found {
                panic!("{problem}");
            }
        });
    }
    failures.finish();
}

impl Chosen {
    fn batch(&self) -> usize {
        self.lengths.len()
    }

    fn values(&self, config: &NetworkConfig, steps: usize) -> Array3<f32> {
        NetworkCase { config: config.clone(), steps, batch: self.batch(), seed: self.seed }.input()
    }

    fn input(&self, config: &NetworkConfig) -> Sequences<'static> {
        Sequences::time_major(self.values(config, self.steps)).with_lengths(self.lengths.clone()).unwrap()
    }

    fn states(&self, config: &NetworkConfig, stream: u64) -> States {
        let mut random = Random::new(self.seed, stream);
        let mut states = States::zeros(config, self.batch());
        for LayerState { h, c, y, .. } in &mut states.layers {
            let all = h.iter_mut().chain(c.iter_mut().flatten()).chain(y.iter_mut().flatten());
            all.for_each(|value| *value = random.values(1)[0]);
        }
        states
    }

    fn d_output(&self, config: &NetworkConfig) -> Array3<f32> {
        let shape = (config.output_steps(self.steps), self.batch(), config.output());
        Random::new(self.seed, 9).sequence(shape)
    }
}

/// All results of a batch.
struct Pass {
    output: Array3<f32>,
    states: States,
    gradients: GradientArrays,
}

fn pass(
    network: &Network,
    input: &Sequences,
    initial: Option<&States>,
    d_output: ArrayView3<f32>,
    d_states: &States,
) -> Pass {
    let tape = network.forward_training(input, initial, None).unwrap();
    let (output, states) = (tape.output().to_owned(), tape.states().clone());
    let gradients = network.backward(tape, d_output, Some(d_states)).unwrap().read().unwrap();
    Pass { output, states, gradients }
}

/// One row of all states.
fn row_of(states: &States, row: usize) -> States {
    let of_layer = |layer: &LayerState| LayerState {
        h: layer.h.select(Axis(1), &[row]),
        c: layer.c.as_ref().map(|c| c.select(Axis(1), &[row])),
        y: layer.y.as_ref().map(|y| y.select(Axis(0), &[row])),
    };
    States { layers: states.layers.iter().map(of_layer).collect() }
}

fn sum(parts: &[Parameters], config: &NetworkConfig) -> Parameters {
    let mut total = Parameters::zeros(config).unwrap();
    for part in parts {
        for (name, gradient) in part.iter() {
            *total.get_mut(name).unwrap() += gradient;
        }
    }
    total
}

#[test]
fn padding_changes_nothing() {
    let both = Direction::Bidirectional;
    let networks = [
        config(
            3,
            [
                LstmConfig::new(5).peephole().direction(both).into(),
                GruConfig::new(4).direction(Direction::BidirectionalSum).into(),
                dense(3),
            ],
        ),
        config(
            2,
            [
                RnnConfig::new(5)
                    .skip(2)
                    .direction(Direction::Reverse)
                    .initial_state(InitialState::Learned)
                    .into(),
                dense(2),
            ],
        ),
        config(
            2,
            [
                GruConfig::new(4).reset(Reset::Before).feedback(3, Activation::Tanh).into(),
                LstmConfig::new(4).projection(3).into(),
                LayerConfig::LastStep,
            ],
        ),
        config(
            2,
            [
                dense(4),
                LstmConfig::new(4).skip(3).into(),
                LayerConfig::Residual { from: 1 },
                GruConfig::new(3).direction(both).into(),
                LayerConfig::FinalState,
            ],
        ),
        // Convolutions, each padded at a row's own ends.
        config(
            2,
            [
                Conv1dConfig::new(4, 3).causal().dilation(2).activation(Activation::Tanh).into(),
                LstmConfig::new(3).into(),
                Conv1dConfig::new(2, 2).causal().stride(2).into(),
            ],
        ),
        config(
            2,
            [
                Conv1dConfig::new(4, 4).padding(2, 3).stride(2).into(),
                GruConfig::new(3).direction(both).into(),
                LayerConfig::LastStep,
            ],
        ),
    ];
    for_all(&networks, |device, opened, config, chosen| {
        let network = network(opened, config, chosen.seed);
        let input = chosen.input(config);
        // A row without steps cannot run alone, so its initial state must be known here.
        let given = chosen.given || chosen.lengths.contains(&0);
        let initial = given.then(|| chosen.states(config, 5));
        let (d_output, d_states) = (chosen.d_output(config), chosen.states(config, 6));
        let whole = pass(&network, &input, initial.as_ref(), d_output.view(), &d_states);
        let outputs = Tolerance::output(output_terms(config)).times(2);
        let terms = gradient_terms(config, chosen.steps, chosen.batch());
        let gradients = Tolerance::gradient(terms).times(2);

        let mut of_rows = Vec::new();
        for (row, &length) in chosen.lengths.iter().enumerate() {
            let what = format!("row {row}");
            let d_states = row_of(&d_states, row);
            let (found_states, found_d) = (row_of(&whole.states, row), row_of(&whole.gradients.states, row));
            let kept = config.output_steps(length);
            let found = whole.output.slice(s![..kept, row..row + 1, ..]);
            let past = whole.output.slice(s![kept.., row, ..]);
            assert!(past.iter().all(|value| *value == 0.0), "{what}: the output past its end");
            let past = whole.gradients.input.slice(s![length.., row, ..]);
            assert!(past.iter().all(|value| *value == 0.0), "{what}: the gradient past its end");
            if length == 0 {
                assert_states(
                    &what,
                    &found_states,
                    &row_of(initial.as_ref().unwrap(), row),
                    Tolerance::EXACT,
                );
                continue;
            }
            let alone =
                Sequences::time_major(input.values().slice(s![..length, row..row + 1, ..]).to_owned());
            let initial = initial.as_ref().map(|states| row_of(states, row));
            let d_output = d_output.slice(s![..kept, row..row + 1, ..]);
            let alone = pass(&network, &alone, initial.as_ref(), d_output, &d_states);
            assert_array(&format!("{what}: output"), found, alone.output.view(), outputs);
            assert_states(&format!("{what}: final"), &found_states, &alone.states, outputs);
            let found = whole.gradients.input.slice(s![..length, row..row + 1, ..]);
            assert_array(&format!("{what}: d_input"), found, alone.gradients.input.view(), gradients);
            assert_states(&format!("{what}: d_initial"), &found_d, &alone.gradients.states, gradients);
            of_rows.push(alone.gradients.parameters);
        }
        assert_parameters("sum of rows", &whole.gradients.parameters, &sum(&of_rows, config), gradients);

        // With more padding, and NaN in its gradients, the CPU computes the same bits.
        let longer = chosen.steps + chosen.cut;
        let mut values = chosen.values(config, longer);
        values.slice_mut(s![..chosen.steps, .., ..]).assign(&input.values());
        let longer = Sequences::time_major(values).with_lengths(chosen.lengths.clone()).unwrap();
        let steps = config.output_steps(longer.steps());
        let is_sequence = steps > 1;
        let d_longer = Array3::from_shape_fn((steps, chosen.batch(), config.output()), |(t, row, k)| {
            if is_sequence && t >= config.output_steps(chosen.lengths[row]) {
                f32::NAN
            } else {
                d_output[[t, row, k]]
            }
        });
        let found = pass(&network, &longer, initial.as_ref(), d_longer.view(), &d_states);
        let bits = |tolerance| if device == "cpu" { Tolerance::EXACT } else { tolerance };
        let kept = whole.output.dim().0;
        let output = found.output.slice(s![..kept, .., ..]);
        assert_array("output with padding", output, whole.output.view(), bits(outputs));
        assert!(found.output.slice(s![kept.., .., ..]).iter().all(|value| *value == 0.0));
        assert_states("final with padding", &found.states, &whole.states, bits(outputs));
        let (found, want) = (found.gradients, &whole.gradients);
        assert_parameters("with padding", &found.parameters, &want.parameters, bits(gradients));
        let d_input = found.input.slice(s![..chosen.steps, .., ..]);
        assert_array("d_input with padding", d_input, want.input.view(), bits(gradients));
        assert_states("d_initial with padding", &found.states, &want.states, bits(gradients));
    });
}

/// Each row's steps in reverse order, within its length.
fn reversed(values: ArrayView3<f32>, lengths: &[usize]) -> Array3<f32> {
    let at = |(t, row, k): (usize, usize, usize)| match t < lengths[row] {
        true => values[[lengths[row] - 1 - t, row, k]],
        false => values[[t, row, k]],
    };
    Array3::from_shape_fn(values.dim(), at)
}

#[test]
fn a_reverse_layer_on_reversed_time_is_a_forward_layer() {
    let cells = |direction: Direction| -> Vec<LayerConfig> {
        let tanh = Activation::Tanh;
        vec![
            RnnConfig::new(4).skip(2).direction(direction).into(),
            LstmConfig::new(4).peephole().projection(3).direction(direction).into(),
            GruConfig::new(4).reset(Reset::Before).direction(direction).into(),
            GruConfig::new(4).feedback(3, tanh).direction(direction).into(),
        ]
    };
    let networks: Vec<NetworkConfig> =
        cells(Direction::Forward).into_iter().map(|cell| config(2, [cell])).collect();
    for_all(&networks, |device, opened, forward, chosen| {
        let cell = cells(Direction::Reverse).swap_remove(chosen.network);
        let backward = config(2, [cell]);
        let ahead = network(opened, forward, chosen.seed);
        let parameters = ahead.parameters().unwrap();
        // The same parameters under the names of the reverse direction.
        let pairs: Vec<(String, String)> = forward
            .parameter_specs()
            .zip(backward.parameter_specs())
            .map(|(one, other)| (one.name.clone(), other.name.clone()))
            .collect();
        let renamed: Parameters =
            pairs.iter().map(|(one, other)| (other.clone(), parameters[one].clone())).collect();
        let reverse = Network::with_parameters(opened, &backward, &renamed).unwrap();

        let input = chosen.input(forward);
        let turned = Sequences::time_major(reversed(input.values(), &chosen.lengths));
        let turned = turned.with_lengths(chosen.lengths.clone()).unwrap();
        let initial = chosen.given.then(|| chosen.states(forward, 5));
        let (d_output, d_states) = (chosen.d_output(forward), chosen.states(forward, 6));
        let want = pass(&ahead, &input, initial.as_ref(), d_output.view(), &d_states);
        let d_turned = reversed(d_output.view(), &chosen.lengths);
        let found = pass(&reverse, &turned, initial.as_ref(), d_turned.view(), &d_states);

        let exact = device == "cpu";
        let bits = |tolerance: Tolerance| if exact { Tolerance::EXACT } else { tolerance.times(2) };
        let outputs = bits(Tolerance::output(output_terms(forward)));
        let terms = gradient_terms(forward, chosen.steps, chosen.batch());
        let output = reversed(found.output.view(), &chosen.lengths);
        assert_array("output", output.view(), want.output.view(), outputs);
        assert_states("final", &found.states, &want.states, outputs);
        let gradients = bits(Tolerance::gradient(terms));
        let d_input = reversed(found.gradients.input.view(), &chosen.lengths);
        assert_array("d_input", d_input.view(), want.gradients.input.view(), gradients);
        assert_states("d_initial", &found.gradients.states, &want.gradients.states, gradients);
        // Sums over steps run in reverse order.
        let gradients = Tolerance::gradient(terms).times(2);
        for (one, other) in &pairs {
            let (found, want) = (&found.gradients.parameters[other], &want.gradients.parameters[one]);
            assert_array(one, found.view(), want.view(), gradients);
        }
    });
}

#[test]
fn a_sequence_may_be_cut_in_two() {
    let tanh = Activation::Tanh;
    let learned = InitialState::Learned;
    let networks = [
        config(
            3,
            [RnnConfig::new(4).skip(3).initial_state(learned).into(), GruConfig::new(4).into(), dense(2)],
        ),
        config(
            2,
            [
                LstmConfig::new(5).projection(3).peephole().skip(2).into(),
                GruConfig::new(4).feedback(3, tanh).initial_state(learned).into(),
            ],
        ),
        config(2, [LstmConfig::new(4).feedback(2, tanh).squashed().into(), LstmConfig::new(4).into()]),
        config(2, [GruConfig::new(4).reset(Reset::Before).into(), dense(3), RnnConfig::new(3).into()]),
    ];
    for_all(&networks, |device, opened, config, chosen| {
        let network = network(opened, config, chosen.seed);
        let input = chosen.input(config);
        let initial = chosen.given.then(|| chosen.states(config, 5));
        let (d_output, d_states) = (chosen.d_output(config), chosen.states(config, 6));
        let whole = pass(&network, &input, initial.as_ref(), d_output.view(), &d_states);
        let cut = chosen.cut;
        let part = |steps: std::ops::Range<usize>| {
            let lengths: Vec<usize> = chosen
                .lengths
                .iter()
                .map(|length| (*length).clamp(steps.start, steps.end) - steps.start)
                .collect();
            let values = input.values().slice(s![steps, .., ..]).to_owned();
            Sequences::time_major(values).with_lengths(lengths).unwrap()
        };
        let first = network.forward_training(part(0..cut), initial.as_ref(), None).unwrap();
        let boundary = first.states().clone();
        let d_second = d_output.slice(s![cut.., .., ..]);
        let second = pass(&network, &part(cut..chosen.steps), Some(&boundary), d_second, &d_states);
        let first_output = first.output().to_owned();
        // The gradient with respect to the boundary's states continues into the first part.
        let d_first = d_output.slice(s![..cut, .., ..]);
        let first = network.backward(first, d_first, Some(&second.gradients.states)).unwrap().read().unwrap();

        let outputs = Tolerance::output(output_terms(config)).times(2);
        let outputs = if device == "cpu" && chosen.batch() > 2 { Tolerance::EXACT } else { outputs };
        let output = ndarray::concatenate![Axis(0), first_output, second.output];
        assert_array("output", output.view(), whole.output.view(), outputs);
        assert_states("final", &second.states, &whole.states, outputs);
        let terms = gradient_terms(config, chosen.steps, chosen.batch());
        let gradients = Tolerance::gradient(terms).times(2);
        let d_input = ndarray::concatenate![Axis(0), first.input, second.gradients.input];
        assert_array("d_input", d_input.view(), whole.gradients.input.view(), gradients);
        assert_states("d_initial", &first.states, &whole.gradients.states, gradients);
        let both = sum(&[first.parameters, second.gradients.parameters], config);
        assert_parameters("sum of parts", &whole.gradients.parameters, &both, gradients);
    });
}

/// The output of a dropout layer for an input of ones.
fn masks(device: &Device, shape: (usize, usize, usize), rate: f32, dropout: Option<Dropout>) -> Array3<f32> {
    let config = config(shape.2, [LayerConfig::Dropout { rate }]);
    let network = network(device, &config, 1);
    let input = Sequences::time_major(Array3::ones(shape));
    let tape = network.forward_training(&input, None, dropout).unwrap();
    tape.output().to_owned()
}

#[test]
fn masks_are_those_of_seed_and_batch_on_every_device() {
    let (shape, rate) = ((5, 7, 13), 0.3);
    let of = |device: &Device, seed: u64, batch: u32| {
        masks(device, shape, rate, Some(Dropout { seed, batch, first_step: 0 }))
    };
    let first = of(&Device::cpu().unwrap(), 7, 1);
    let kept = first.iter().filter(|value| **value != 0.0).count() as f64;
    let expected = first.len() as f64 * f64::from(1.0 - rate);
    let five_sigma = 5.0 * (expected * f64::from(rate)).sqrt();
    assert!((kept - expected).abs() < five_sigma, "{kept} of {} are kept", first.len());
    assert!(first.iter().all(|value| *value == 0.0 || *value == 1.0 / (1.0 - rate)));
    let mut failures = Failures::new();
    for (name, device) in &test_devices() {
        failures.check(*name, || {
            for (seed, batch) in [(7, 1), (7, 2), (8, 1), (7 + (1 << 40), 1), (7, 1 << 20)] {
                let found = of(device, seed, batch);
                assert_eq!(found, of(&Device::cpu().unwrap(), seed, batch), "seed {seed}, batch {batch}");
                assert_eq!(found == first, (seed, batch) == (7, 1), "seed {seed}, batch {batch}");
            }
            assert_eq!(masks(device, shape, rate, None), Array3::<f32>::ones(shape), "off");
        });
    }
    failures.finish();
}

#[test]
fn inference_drops_nothing() {
    let (drops, plain) = (config(4, [LayerConfig::Dropout { rate: 0.9 }]), Array3::ones((2, 3, 4)));
    let mut failures = Failures::new();
    for (name, device) in &test_devices() {
        failures.check(*name, || {
            let network = network(device, &drops, 1);
            assert_eq!(network.predict(plain.view()).unwrap(), plain);
            let input = Sequences::time_major(plain.clone());
            assert_eq!(network.forward(&input, None).unwrap().output, plain);
            let mut stream = network.stream(3).unwrap();
            let step = plain.index_axis(Axis(0), 0);
            assert_eq!(stream.step(step).unwrap(), step);
        });
    }
    failures.finish();
}

fn dropping() -> NetworkConfig {
    config(
        3,
        [
            dense(8),
            LayerConfig::Dropout { rate: 0.4 },
            GruConfig::new(5).into(),
            LayerConfig::Dropout { rate: 0.5 },
            dense(2),
        ],
    )
}

fn dropping_trainer(device: &Device, seed: u64, rate: f32) -> Trainer {
    let options = TrainConfig::new().learning_rate(rate).dropout_seed(seed);
    Trainer::new(network(device, &dropping(), 3), options).unwrap()
}

/// Trains with two batches per update, always of the same data.
fn train_dropping(trainer: &mut Trainer, updates: usize) -> Vec<f32> {
    let mut random = Random::new(1, 1);
    let (input, target) = (random.sequence((4, 3, 3)), random.sequence((4, 3, 2)));
    for _ in 0..updates {
        trainer.accumulate(input.view(), target.view()).unwrap();
        trainer.step(input.view(), target.view()).unwrap();
    }
    trainer.take_losses().unwrap()
}

#[test]
fn training_draws_masks_by_its_seed_and_new_ones_for_each_batch() {
    let mut of_devices: Vec<Vec<f32>> = Vec::new();
    let mut failures = Failures::new();
    for (name, device) in &test_devices() {
        failures.check(*name, || {
            // At a learning rate of zero only the masks change.
            let losses = train_dropping(&mut dropping_trainer(device, 5, 0.0), 3);
            assert_eq!(losses, train_dropping(&mut dropping_trainer(device, 5, 0.0), 3), "the same seed");
            let other = train_dropping(&mut dropping_trainer(device, 6, 0.0), 3);
            let all: Vec<f32> = losses.iter().chain(&other).copied().collect();
            for (at, loss) in all.iter().enumerate() {
                assert!(!all[..at].contains(loss), "batch {at} has the masks of an earlier one");
            }
            of_devices.push(losses);
        });
    }
    failures.finish();
    if let [cpu, gpu] = &of_devices[..] {
        let tolerance = Tolerance::output(output_terms(&dropping()) + 24).times(2);
        assert_array("loss", ndarray::aview1(gpu), ndarray::aview1(cpu), tolerance);
    }
}

/// More batches per update than a byte counts, and several updates.
#[test]
fn masks_do_not_repeat() {
    let config = config(64, [LayerConfig::Dropout { rate: 0.5 }]);
    let mut trainer =
        Trainer::new(network(&Device::cpu().unwrap(), &config, 1), TrainConfig::new().learning_rate(0.0))
            .unwrap();
    let values = Random::new(2, 1).sequence((1, 1, 64));
    let zeros = Array3::zeros((1, 1, 64));
    for _ in 0..3 {
        for _ in 0..300 {
            trainer.accumulate(values.view(), zeros.view()).unwrap();
        }
        trainer.update().unwrap();
    }
    let losses = trainer.take_losses().unwrap();
    let mut bits: Vec<u32> = losses.iter().map(|loss| loss.to_bits()).collect();
    bits.sort_unstable();
    bits.dedup();
    // Each mask leaves other terms of a sum of 64 different numbers, so equal losses are a coincidence.
    assert!(bits.len() + 2 >= losses.len(), "{} different losses of {}", bits.len(), losses.len());
}

#[test]
fn a_resumed_run_continues_with_the_masks_of_an_uninterrupted_one() {
    let mut failures = Failures::new();
    for (name, device) in &test_devices() {
        failures.check(*name, || {
            let mut whole = dropping_trainer(device, 5, 0.01);
            let expected = train_dropping(&mut whole, 4);
            let mut first = dropping_trainer(device, 5, 0.01);
            let mut found = train_dropping(&mut first, 2);
            let checkpoint = first.checkpoint(0, BTreeMap::new()).unwrap();
            let options = TrainConfig::new().learning_rate(0.01).dropout_seed(5);
            let mut second = Trainer::resume(device, &checkpoint, options).unwrap();
            found.extend(train_dropping(&mut second, 2));
            assert_eq!(found, expected, "the losses");
            let parameters = |trainer: &mut Trainer| trainer.network().parameters().unwrap();
            assert_eq!(parameters(&mut second), parameters(&mut whole), "the parameters");
        });
    }
    failures.finish();
}

/// Everything but the initial states is frozen and the input is zero, so the output depends on the initial states
/// alone.
#[test]
fn learned_initial_states_learn() {
    let learned = InitialState::Learned;
    let config = config(
        1,
        [
            LstmConfig::new(4).skip(2).initial_state(learned).into(),
            GruConfig::new(4).initial_state(learned).into(),
            LayerConfig::LastStep,
            dense(2),
        ],
    );
    let (input, target) = (Array3::zeros((2, 3, 1)), Array3::from_elem((1, 3, 2), 0.1));
    let mut failures = Failures::new();
    for (name, device) in &test_devices() {
        failures.check(*name, || {
            let frozen = config.parameter_specs().map(|spec| spec.name.as_str());
            let frozen = frozen.filter(|name| !name.contains(".h0") && !name.contains(".c0"));
            let options = frozen.fold(TrainConfig::new().learning_rate(0.05), |options, name| {
                options.group(ParameterGroup::new(name).frozen())
            });
            let mut trainer = Trainer::new(network(device, &config, 8), options).unwrap();
            let before = trainer.network().parameters().unwrap();
            for _ in 0..80 {
                trainer.step(input.view(), target.view()).unwrap();
            }
            let losses = trainer.take_losses().unwrap();
            assert!(losses[79] < 0.05 * losses[0], "from {} to {}", losses[0], losses[79]);
            let after = trainer.network().parameters().unwrap();
            for (parameter, values) in after.iter() {
                let moves = *values != before[parameter];
                assert_eq!(moves, parameter.contains(".h0") || parameter.contains(".c0"), "{parameter}");
            }
        });
    }
    failures.finish();
}

#[test]
fn the_gradient_of_a_token_adds_up_over_its_places() {
    let config = config(1, [EmbeddingConfig::new(6, 3).into()]);
    let tokens = ndarray::array![[3u32, 5], [0, 3], [3, 2]];
    // The token past the second row's end is not read.
    let input = Sequences::tokens(tokens.view()).with_lengths([3, 2]).unwrap();
    let d_output = Random::new(4, 1).sequence((3, 2, 3));
    let mut expected = ndarray::Array2::<f32>::zeros((6, 3));
    for ((t, row), &token) in tokens.indexed_iter() {
        if (t, row) != (2, 1) {
            let mut to = expected.row_mut(token as usize);
            to += &d_output.slice(s![t, row, ..]);
        }
    }
    let mut failures = Failures::new();
    for (name, device) in &test_devices() {
        failures.check(*name, || {
            let network = network(device, &config, 1);
            let tape = network.forward_training(&input, None, None).unwrap();
            let gradients = network.backward(tape, d_output.view(), None).unwrap().read().unwrap();
            let (_, found) = gradients.parameters.iter().next().unwrap();
            // Three terms, in any order.
            assert_array("gradient", found.view(), expected.view().into_dyn(), Tolerance::product(3));
            for token in [1, 2, 4] {
                let row = found.index_axis(Axis(0), token);
                assert!(row.iter().all(|value| *value == 0.0), "token {token}, which does not occur");
            }
        });
    }
    failures.finish();
}

/// The gradient of a layer used twice is the sum of those of two copies.
#[test]
fn tied_layers_share_their_gradients() {
    let gru = || LayerConfig::from(GruConfig::new(4));
    let tied = config(4, [gru(), dense(4), LayerConfig::Tied { to: 0 }, LayerConfig::Tied { to: 1 }]);
    let untied = config(4, [gru(), dense(4), gru(), dense(4)]);
    let case = NetworkCase { config: tied.clone(), steps: 4, batch: 3, seed: 5 };
    let shared = case.parameters();
    // The name of a parameter's second copy.
    let twin = |name: &str| -> Option<String> {
        let specs: Vec<&str> = untied.parameter_specs().map(|spec| spec.name.as_str()).collect();
        let at = specs.iter().position(|other| *other == name)?;
        specs.get(at + specs.len() / 2).map(|name| (*name).to_owned())
    };
    let mut copies = Parameters::zeros(&untied).unwrap();
    for (name, values) in shared.iter() {
        copies.get_mut(name).unwrap().assign(values);
        copies.get_mut(&twin(name).unwrap()).unwrap().assign(values);
    }
    let input = Sequences::time_major(case.input());
    let d_output = Random::new(4, 1).sequence((4, 3, 4));
    let mut failures = Failures::new();
    for (name, device) in &test_devices() {
        failures.check(*name, || {
            let gradients = |config: &NetworkConfig, parameters: &Parameters| {
                let network = Network::with_parameters(device, config, parameters).unwrap();
                let tape = network.forward_training(&input, None, None).unwrap();
                network.backward(tape, d_output.view(), None).unwrap().parameters().unwrap()
            };
            let (found, of_copies) = (gradients(&tied, &shared), gradients(&untied, &copies));
            let mut expected = Parameters::zeros(&tied).unwrap();
            for (parameter, _) in shared.iter() {
                let both = &of_copies[parameter] + &of_copies[&twin(parameter).unwrap()];
                expected.get_mut(parameter).unwrap().assign(&both);
            }
            // The same terms, summed at once or in two halves.
            let tolerance = Tolerance::gradient(gradient_terms(&tied, 4, 3)).times(2);
            assert_parameters("gradients", &found, &expected, tolerance);
        });
    }
    failures.finish();
}

/// `y = x + f(x)`, and the gradient takes both paths.
#[test]
fn a_residual_connection_adds() {
    let inner = config(3, [dense(3)]);
    let around = config(3, [dense(3), LayerConfig::Residual { from: 0 }]);
    let (input, d_output) = (Random::new(4, 2).sequence((2, 3, 3)), Random::new(4, 1).sequence((2, 3, 3)));
    let read = Sequences::time_major(input.clone());
    let mut failures = Failures::new();
    for (name, device) in &test_devices() {
        failures.check(*name, || {
            let run = |config: &NetworkConfig| {
                let network = network(device, config, 5);
                let tape = network.forward_training(&read, None, None).unwrap();
                let output = tape.output().to_owned();
                (output, network.backward(tape, d_output.view(), None).unwrap().read().unwrap())
            };
            let ((plain, d_plain), (found, d_found)) = (run(&inner), run(&around));
            assert_eq!(found, &input + &plain, "output");
            assert_eq!(d_found.input, &d_output + &d_plain.input, "d_input");
            assert_eq!(d_found.parameters, d_plain.parameters, "parameters");
        });
    }
    failures.finish();
}

#[track_caller]
fn assert_refused<T>(found: Result<T, Error>, expected: &str) {
    let found = found.err().map(|error| error.to_string());
    assert_eq!(found.as_deref(), Some(expected));
}

#[test]
fn data_of_another_network_is_refused() {
    let gru = config(2, [GruConfig::new(4).into()]);
    let stack = config(2, [GruConfig::new(4).into(), GruConfig::new(4).into()]);
    let lstm = config(2, [LstmConfig::new(4).into()]);
    let words = config(1, [EmbeddingConfig::new(5, 2).into(), GruConfig::new(4).into()]);
    let input = Sequences::time_major(Array3::zeros((3, 2, 2)));
    let zeros = Array3::zeros((3, 2, 4));
    let devices = test_devices();
    let mut failures = Failures::new();
    for (name, device) in &devices {
        failures.check(*name, || {
            let mut network = network(device, &gru, 1);
            let wrong_h = "layer 0 (gru): state h: expected [directions x slots, rows, width] [1, 2, 4], \
                           found [1, 3, 4]";
            assert_refused(input.clone().with_lengths([3, 4]), "length of row 1: expected 0 to 3, found 4");
            assert_refused(
                network.forward(&input, Some(&States::zeros(&stack, 2))),
                "states: expected one for each of 1 recurrent layers, found 2",
            );
            assert_refused(
                network.forward_training(&input, Some(&States::zeros(&lstm, 2)), None),
                "layer 0 (gru): state c: expected none, found [1, 2, 4]; leave it out",
            );
            assert_refused(network.forward(&input, Some(&States::zeros(&gru, 3))), wrong_h);
            assert_refused(
                network.forward(input.clone().with_decoder(input.clone()), None),
                "decoder's input: expected none, the network has no decoder, found one",
            );
            assert_refused(
                network.encode(&input),
                &format!("{gru}: there is no decoder to encode for; use Network::forward"),
            );
            let wide = Sequences::time_major(Array3::zeros((3, 2, 5)));
            assert_refused(
                network.forward(&wide, None),
                "input: expected [steps, batch, features 2], none of them 0, found [3, 2, 5]",
            );
            let tape = network.forward_training(&input, None, None).unwrap();
            assert_refused(
                network.backward(tape, Array3::zeros((3, 2, 5)).view(), None),
                "gradient with respect to the output: expected (3, 2, 4), found (3, 2, 5)",
            );
            let tape = network.forward_training(&input, None, None).unwrap();
            assert_refused(network.backward(tape, zeros.view(), Some(&States::zeros(&gru, 3))), wrong_h);
            for other in [&gru, &stack] {
                let other = self::network(device, other, 1);
                let tape = other.forward_training(&input, None, None).unwrap();
                assert_refused(
                    network.backward(tape, zeros.view(), None),
                    "the tape is of another network; use the network that made it",
                );
            }
            // A tape is stale once the parameters change.
            let stale = "this tape is stale: parameters changed after its forward pass; run forward again";
            let tape = network.forward_training(&input, None, None).unwrap();
            let same = network.parameters().unwrap();
            network.set_parameters(&same).unwrap();
            assert_refused(network.backward(tape, zeros.view(), None), stale);
            let mut trainer = Trainer::new(network, TrainConfig::new()).unwrap();
            let tape = trainer.network().forward_training(&input, None, None).unwrap();
            trainer.step(input.values(), zeros.view()).unwrap();
            assert_refused(trainer.network().backward(tape, zeros.view(), None), stale);
            let network = trainer.into_network();
            for (other_name, other) in &devices {
                if other_name != name {
                    let tape = self::network(other, &gru, 1).forward_training(&input, None, None).unwrap();
                    assert_refused(
                        network.backward(tape, zeros.view(), None),
                        "the tape is of another network; use the network that made it",
                    );
                }
            }
            let words = self::network(device, &words, 1);
            let tokens = Sequences::time_major(ndarray::array![[[4.0], [1.0]], [[2.5], [5.0]]]);
            assert_refused(
                words.forward(&tokens, None),
                "input at step 1, row 0: expected a token number, 0 to 4, found 2.5",
            );
            // Tokens past a row's end are not read.
            let tokens = tokens.with_lengths([1, 1]).unwrap();
            words.forward(&tokens, None).unwrap();
            // A trainer refuses them as well, and does not train.
            let options = TrainConfig::new().optimizer(Optimizer::sgd());
            let mut trainer = Trainer::new(network, options).unwrap();
            assert_refused(
                trainer.step(wide.values(), zeros.view()),
                "input: expected [steps, batch, features 2], none of them 0, found [3, 2, 5]",
            );
            assert_eq!(trainer.steps(), 0);
        });
    }
    let translator = config(
        2,
        [GruConfig::new(4).into(), gatefold::layers::DecoderConfig::new(3).into(), GruConfig::new(4).into()],
    );
    for (name, device) in &devices {
        failures.check(format!("a decoder, {name}"), || {
            let network = network(device, &translator, 1);
            assert_refused(
                network.forward(&input, None),
                "decoder's input: expected [steps, batch, 3]; give it with Sequences::with_decoder, \
                 found none",
            );
            let own = Sequences::time_major(Array3::zeros((2, 3, 3)));
            assert_refused(
                network.forward(input.clone().with_decoder(own), None),
                "decoder's input: expected 2 rows, as in the encoder's input, found 3",
            );
        });
    }
    failures.finish();
}
