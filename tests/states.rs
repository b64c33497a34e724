//! States that outlive a batch: streams, split sequences, carried states, truncated training. On the CPU and on a GPU.

use gatefold::layers::{
    Activation, Bridge, Conv1dConfig, DecoderConfig, DenseConfig, Direction, EmbeddingConfig, Expansion,
    GruConfig, InitialState, LayerConfig, LstmConfig, Merge, Reset, RnnConfig, branch,
};
use gatefold::training::{Reduction, Truncation};
use gatefold::{
    Device, Network, NetworkConfig, Optimizer, Parameters, Sequences, States, Targets, TrainConfig, Trainer,
};
use gatefold_check::{
    Failures, NetworkCase, Random, Tolerance, assert_array, assert_parameters, assert_states, gradient_terms,
    output_terms, test_devices,
};
use ndarray::{Array2, Array3, Axis, s};

const SEED: u64 = 11;
/// With three or more rows, the CPU computes the same bits step by step as for all steps at once.
const BATCH: usize = 3;

fn config(input: usize, layers: impl Into<Vec<LayerConfig>>) -> NetworkConfig {
    NetworkConfig::new(input, layers).unwrap()
}

fn dense(output: usize) -> LayerConfig {
    DenseConfig::new(output).into()
}

/// Networks with every kind of state that a layer keeps from one step to the next.
fn networks() -> Vec<NetworkConfig> {
    let (tanh, learned) = (Activation::Tanh, InitialState::Learned);
    let embedding = EmbeddingConfig::new(7, 4).into();
    vec![
        config(
            3,
            [
                RnnConfig::new(5).skip(3).initial_state(learned).into(),
                GruConfig::new(5).reset(Reset::Before).into(),
                LayerConfig::Residual { from: 1 },
                dense(2),
            ],
        ),
        config(
            2,
            [
                LstmConfig::new(6).projection(4).peephole().skip(2).initial_state(learned).into(),
                GruConfig::new(4).feedback(3, tanh).skip(2).into(),
            ],
        ),
        config(
            2,
            [
                LstmConfig::new(6).dilation(3).projection(4).peephole().initial_state(learned).into(),
                GruConfig::new(4).dilation(2).reset(Reset::Before).into(),
                RnnConfig::new(4).dilation(9).into(),
                LayerConfig::Residual { from: 2 },
                dense(2),
            ],
        ),
        config(
            2,
            [
                LstmConfig::new(5)
                    .feedback(3, tanh)
                    .peephole()
                    .initial_state(InitialState::Constant(0.4))
                    .into(),
                LstmConfig::new(4).into(),
            ],
        ),
        config(
            1,
            [
                embedding,
                GruConfig::new(6).into(),
                LayerConfig::Dropout { rate: 0.5 },
                dense(7),
                LayerConfig::Softmax,
            ],
        ),
        // A convolution that reads a single step goes step by step, too.
        config(2, [Conv1dConfig::new(4, 1).activation(tanh).into(), LstmConfig::new(3).into()]),
        branches(),
    ]
}

/// Recurrent layers in two branches, beside the input itself; a sum within a concatenation.
fn branches() -> NetworkConfig {
    let inner = [branch().dense(3), branch().rnn(3)];
    let branches = [
        branch().layer(GruConfig::new(5).initial_state(InitialState::Learned)).dense(2),
        branch(),
        branch().lstm(4).parallel(Merge::Sum, inner),
    ];
    NetworkConfig::with_input(2).parallel(Merge::Concatenate, branches).dense(3).build().unwrap()
}

fn case(config: &NetworkConfig, steps: usize, batch: usize) -> NetworkCase {
    NetworkCase { config: config.clone(), steps, batch, seed: SEED }
}

/// A network without zero parameters.
fn network(device: &Device, config: &NetworkConfig) -> Network {
    Network::with_parameters(device, config, &case(config, 1, 1).parameters()).unwrap()
}

fn input(config: &NetworkConfig, steps: usize) -> Sequences<'static> {
    Sequences::time_major(case(config, steps, BATCH).input())
}

/// The tolerance between two passes that a device may plan differently. On the CPU they have the same bits.
fn same(device: &str, config: &NetworkConfig) -> Tolerance {
    match device {
        "cpu" => Tolerance::EXACT,
        _ => Tolerance::output(output_terms(config)).times(2),
    }
}

/// Part of the steps, with lengths to match.
fn part(input: &Sequences, steps: std::ops::Range<usize>) -> Sequences<'static> {
    let found = Sequences::time_major(input.values().slice(s![steps.clone(), .., ..]).to_owned());
    match input.lengths() {
        None => found,
        Some(lengths) => {
            let within = |length: &usize| (*length).clamp(steps.start, steps.end) - steps.start;
            found.with_lengths(lengths.iter().map(within).collect::<Vec<_>>()).unwrap()
        }
    }
}

#[test]
fn a_stream_is_the_whole_sequence_step_by_step() {
    let steps = 5;
    let mut failures = Failures::new();
    for (device, opened) in &test_devices() {
        for config in networks() {
            failures.check(format!("{device}, {config}"), || {
                let (network, input) = (network(opened, &config), input(&config, steps));
                let whole = network.forward(&input, None).unwrap();
                let mut stream = network.stream(BATCH).unwrap();
                for t in 0..steps {
                    let found = stream.step(input.values().index_axis(Axis(0), t)).unwrap();
                    let expected = whole.output.index_axis(Axis(0), t);
                    assert_array(&format!("step {t}"), found.view(), expected, same(device, &config));
                }
                assert_states("final", &stream.states().unwrap(), &whole.states, same(device, &config));
                stream.reset().unwrap();
                let found = stream.step(input.values().index_axis(Axis(0), 0)).unwrap();
                let expected = whole.output.index_axis(Axis(0), 0);
                assert_array("after reset", found.view(), expected, same(device, &config));

                // Chunks, the first length twice.
                stream.reset().unwrap();
                for chunk in [0..2, 2..3, 3..5] {
                    let part = s![chunk.clone(), .., ..];
                    let found = stream.advance(input.values().slice(part)).unwrap();
                    let expected = whole.output.slice(part);
                    assert_array(&format!("steps {chunk:?}"), found.view(), expected, same(device, &config));
                }
                assert_states("chunks", &stream.states().unwrap(), &whole.states, same(device, &config));

                // From the final states of another pass.
                let begun = network.forward(part(&input, 0..3), None).unwrap();
                stream.set_states(&begun.states).unwrap();
                for t in 3..steps {
                    let found = stream.step(input.values().index_axis(Axis(0), t)).unwrap();
                    let expected = whole.output.index_axis(Axis(0), t);
                    assert_array(
                        &format!("continued at step {t}"),
                        found.view(),
                        expected,
                        same(device, &config),
                    );
                }
                assert_states("continued", &stream.states().unwrap(), &whole.states, same(device, &config));
            });
        }
    }
    failures.finish();
}

/// Resetting some of many streams does not affect the others.
#[test]
fn some_streams_are_reset() {
    let mut failures = Failures::new();
    for (device, opened) in &test_devices() {
        for config in networks() {
            failures.check(format!("{device}, {config}"), || {
                let (network, input) = (network(opened, &config), input(&config, 4));
                let mut stream = network.stream(BATCH).unwrap();
                let mut found = Vec::new();
                for t in 0..4 {
                    if t == 2 {
                        stream.reset_rows(&[2, 0]).unwrap();
                    }
                    found.push(stream.step(input.values().index_axis(Axis(0), t)).unwrap());
                }
                let whole = network.forward(&input, None).unwrap();
                let anew = network.forward(part(&input, 2..4), None).unwrap();
                for (t, found) in found.iter().enumerate().skip(2) {
                    for row in 0..BATCH {
                        let expected = match row {
                            1 => whole.output.slice(s![t, row, ..]),
                            _ => anew.output.slice(s![t - 2, row, ..]),
                        };
                        let what = format!("step {t}, row {row}");
                        assert_array(&what, found.row(row), expected, same(device, &config));
                    }
                }
                let before = stream.states().unwrap();
                let problem = stream.reset_rows(&[0, BATCH]).unwrap_err().to_string();
                assert_eq!(problem, "stream to reset: expected 0 to 2, found 3");
                assert_eq!(stream.states().unwrap(), before, "a refused reset");
            });
        }
    }
    failures.finish();
}

/// A caller's arrays may have any memory layout.
#[test]
fn a_stream_takes_states_in_any_layout() {
    let config = config(
        2,
        [LstmConfig::new(4).skip(2).into(), GruConfig::new(3).feedback(2, Activation::Tanh).into()],
    );
    let mut failures = Failures::new();
    for (device, opened) in &test_devices() {
        failures.check(*device, || {
            let (network, input) = (network(opened, &config), input(&config, 1));
            let mut states = States::zeros(&config, BATCH);
            for (n, layer) in states.layers.iter_mut().enumerate() {
                let value = |(slot, row, unit): (usize, usize, usize)| {
                    0.1 * (n + 3 * slot + 2 * row + unit) as f32 - 0.4
                };
                let across = |dim: (usize, usize, usize)| {
                    Array3::from_shape_fn((dim.2, dim.1, dim.0), |(unit, row, slot)| value((slot, row, unit)))
                        .reversed_axes()
                };
                layer.h = across(layer.h.dim());
                layer.c = layer.c.as_ref().map(|c| across(c.dim()));
                layer.y = layer.y.as_ref().map(|y| y.t().mapv(|_| 0.3).reversed_axes());
            }
            let whole = network.forward(&input, Some(&states)).unwrap();
            let mut stream = network.stream(BATCH).unwrap();
            stream.set_states(&states).unwrap();
            let found = stream.step(input.values().index_axis(Axis(0), 0)).unwrap();
            let tolerance = same(device, &config);
            assert_array("output", found.view(), whole.output.index_axis(Axis(0), 0), tolerance);
            assert_states("final", &stream.states().unwrap(), &whole.states, tolerance);
        });
    }
    failures.finish();
}

/// A network with one output for all steps gives a stream the output as if this step were the last. New parameters
/// apply from the next step on.
#[test]
fn a_stream_follows_last_steps_and_parameters() {
    let config = config(2, [GruConfig::new(5).into(), LayerConfig::LastStep, dense(3)]);
    let mut failures = Failures::new();
    for (device, opened) in &test_devices() {
        failures.check(*device, || {
            let (mut network, input) = (network(opened, &config), input(&config, 4));
            let mut stream = network.stream(BATCH).unwrap();
            for t in 0..4 {
                let found = stream.step(input.values().index_axis(Axis(0), t)).unwrap();
                let expected = network.forward(part(&input, 0..t + 1), None).unwrap().output;
                let expected = expected.index_axis(Axis(0), 0);
                assert_array(&format!("step {t}"), found.view(), expected, same(device, &config));
            }
            let before = stream.states().unwrap();
            network.set_parameters(&Parameters::initial(&config, 3).unwrap()).unwrap();
            let found = stream.step(input.values().index_axis(Axis(0), 0)).unwrap();
            let expected = network.forward(part(&input, 0..1), Some(&before)).unwrap().output;
            let expected = expected.index_axis(Axis(0), 0);
            assert_array("other parameters", found.view(), expected, same(device, &config));
        });
    }
    failures.finish();
}

fn translator(bridge: Bridge, encoder: Vec<LayerConfig>, decoder: Vec<LayerConfig>) -> NetworkConfig {
    let mut layers: Vec<LayerConfig> = vec![EmbeddingConfig::new(9, 4).into()];
    layers.extend(encoder);
    layers.extend([DecoderConfig::new(1).bridge(bridge).into(), EmbeddingConfig::new(6, 3).into()]);
    layers.extend(decoder);
    layers.push(dense(6));
    config(1, layers)
}

#[test]
fn a_decoders_stream_is_its_teacher_forced_pass() {
    let (lstm, gru) = (LstmConfig::new(5), GruConfig::new(4));
    let same_widths = translator(Bridge::Same, vec![lstm.clone().into()], vec![lstm.clone().into()]);
    let others = translator(
        Bridge::Dense { activation: Activation::Tanh },
        vec![gru.clone().direction(Direction::Bidirectional).into()],
        vec![LstmConfig::new(6).skip(2).into(), gru.into()],
    );
    let mut failures = Failures::new();
    for (device, opened) in &test_devices() {
        for config in [&same_widths, &others] {
            failures.check(format!("{device}, {config}"), || {
                let network = network(opened, config);
                let tokens = Array2::from_shape_fn((4, BATCH), |(t, row)| ((5 * t + 3 * row) % 9) as u32);
                let encoder = Sequences::tokens(tokens.view()).with_lengths([4, 2, 3]).unwrap();
                let written = Array2::from_shape_fn((5, BATCH), |(t, row)| ((t + 2 * row) % 6) as u32);
                let teacher = Sequences::tokens(written.view());
                let whole = network.forward(encoder.clone().with_decoder(teacher.clone()), None).unwrap();
                let states = network.encode(&encoder).unwrap();
                let mut stream = network.stream(BATCH).unwrap();
                stream.set_states(&states).unwrap();
                for t in 0..5 {
                    let found = stream.step(teacher.values().index_axis(Axis(0), t)).unwrap();
                    let expected = whole.output.index_axis(Axis(0), t);
                    assert_array(&format!("step {t}"), found.view(), expected, same(device, config));
                }
                assert_states("final", &stream.states().unwrap(), &whole.states, same(device, config));
            });
        }
    }
    failures.finish();
}

#[test]
fn two_halves_are_one_sequence() {
    let mut failures = Failures::new();
    for (device, opened) in &test_devices() {
        for config in networks() {
            let network = network(opened, &config);
            for lengths in [[5, 5, 5], [5, 1, 0]] {
                failures.check(format!("{device}, {config}, lengths {lengths:?}"), || {
                    let input = input(&config, 5).with_lengths(lengths).unwrap();
                    let whole = network.forward(&input, None).unwrap();
                    let first = network.forward(part(&input, 0..2), None).unwrap();
                    let second = network.forward(part(&input, 2..5), Some(&first.states)).unwrap();
                    let found = ndarray::concatenate![Axis(0), first.output, second.output];
                    assert_array("output", found.view(), whole.output.view(), same(device, &config));
                    assert_states("final", &second.states, &whole.states, same(device, &config));
                });
            }
        }
    }
    failures.finish();
}

/// The network that these tests train: a skip connection, learned initial states, a state beside h, two cells.
fn learner() -> NetworkConfig {
    let lstm = LstmConfig::new(5).peephole().skip(2).initial_state(InitialState::Learned);
    config(2, [lstm.into(), GruConfig::new(4).into(), dense(2)])
}

const RATE: f32 = 0.1;

fn options() -> TrainConfig {
    TrainConfig::new().optimizer(Optimizer::sgd()).learning_rate(RATE)
}

fn trainer(device: &Device, config: &NetworkConfig, options: TrainConfig) -> Trainer {
    Trainer::new(network(device, config), options).unwrap()
}

/// A series in which one row ends early and one is empty, its targets, and weights, some of them zero.
fn series(
    config: &NetworkConfig,
    steps: usize,
    stream: u64,
) -> (Sequences<'static>, Array3<f32>, Array2<f32>) {
    let mut random = Random::new(SEED, 20 + stream);
    let input = Sequences::time_major(random.sequence((steps, BATCH, config.input())));
    let input = input.with_lengths([steps, steps.div_ceil(2), 0]).unwrap();
    let target = random.sequence((steps, BATCH, config.output()));
    let weights = random.within(0.5..2.0, steps * BATCH);
    let weights = Array2::from_shape_fn((steps, BATCH), |(t, row)| {
        if (t + row) % 4 == 1 { 0.0 } else { weights[t * BATCH + row] }
    });
    (input, target, weights)
}

fn targets<'a>(target: &Array3<f32>, weights: &Array2<f32>) -> Targets<'a> {
    Targets::values(target.clone()).with_weights(weights.clone()).unwrap()
}

/// The results of training.
#[derive(Debug)]
struct Trained {
    losses: Vec<f32>,
    parameters: Parameters,
}

impl Trained {
    fn of(trainer: &mut Trainer) -> Trained {
        Trained {
            losses: trainer.take_losses().unwrap(),
            parameters: trainer.network().parameters().unwrap(),
        }
    }

    /// Compares after as many updates, each with a gradient off by at most its tolerance; see docs/numerics.md,
    /// "Training curves".
    #[track_caller]
    fn assert_close(&self, what: &str, expected: &Trained, config: &NetworkConfig, steps: usize) {
        let updates = expected.losses.len();
        let tolerance = Tolerance::gradient(gradient_terms(config, steps, BATCH)).times(2 * updates);
        let (found, want) = (ndarray::arr1(&self.losses), ndarray::arr1(&expected.losses));
        assert_array(&format!("{what}: losses"), found.view(), want.view(), tolerance);
        assert_parameters(what, &self.parameters, &expected.parameters, tolerance);
    }
}

/// The mean squared error and plain gradient descent by hand, over a network's passes.
struct ByHand {
    network: Network,
    losses: Vec<f32>,
}

impl ByHand {
    fn new(config: &NetworkConfig) -> ByHand {
        ByHand { network: network(&Device::cpu().unwrap(), config), losses: Vec::new() }
    }

    /// Makes one update; returns the final states.
    fn step(
        &mut self,
        input: &Sequences,
        target: &Array3<f32>,
        weights: &Array2<f32>,
        initial: Option<&States>,
    ) -> States {
        let tape = self.network.forward_training(input, initial, None).unwrap();
        let within = |t: usize, row: usize| input.lengths().is_none_or(|lengths| t < lengths[row]);
        let weight = |t: usize, row: usize| if within(t, row) { f64::from(weights[[t, row]]) } else { 0.0 };
        let rows = (0..input.steps()).flat_map(|t| (0..BATCH).map(move |row| (t, row)));
        let total: f64 = rows.map(|(t, row)| weight(t, row)).sum();
        let elements = (total * target.dim().2 as f64).max(f64::MIN_POSITIVE);
        let mut loss = 0.0;
        let d_output = Array3::from_shape_fn(target.dim(), |(t, row, k)| {
            let off = f64::from(tape.output()[[t, row, k]]) - f64::from(target[[t, row, k]]);
            loss += weight(t, row) * off * off / elements;
            (2.0 * weight(t, row) * off / elements) as f32
        });
        let states = tape.states().clone();
        let gradients = self.network.backward(tape, d_output.view(), None).unwrap().read().unwrap();
        let mut parameters = self.network.parameters().unwrap();
        for (name, gradient) in gradients.parameters.iter() {
            *parameters.get_mut(name).unwrap() -= &(gradient * RATE);
        }
        self.network.set_parameters(&parameters).unwrap();
        self.losses.push(loss as f32);
        states
    }

    /// Trains on the windows of a series; returns the states at its end.
    fn truncated(
        &mut self,
        (input, target, weights): &(Sequences, Array3<f32>, Array2<f32>),
        Truncation { horizon, stride }: Truncation,
        mut initial: Option<States>,
    ) -> Option<States> {
        let (mut begin, mut counted) = (0, 0);
        while counted < input.steps() {
            let end = (begin + horizon).min(input.steps());
            let window = part(input, begin..end);
            let mut weights = weights.slice(s![begin..end, ..]).to_owned();
            // Steps of the window before counted there already.
            weights.slice_mut(s![..counted - begin, ..]).fill(0.0);
            let target = target.slice(s![begin..end, .., ..]).to_owned();
            let before = initial.clone();
            let next = (begin + stride).min(end);
            let keep = if end == input.steps() { end } else { next };
            initial = Some(self.network.forward(part(input, begin..keep), before.as_ref()).unwrap().states);
            self.step(&window, &target, &weights, before.as_ref());
            (begin, counted) = (begin + stride, end);
        }
        initial
    }

    fn trained(self) -> Trained {
        Trained { losses: self.losses, parameters: self.network.parameters().unwrap() }
    }
}

#[test]
fn the_next_batch_continues_from_carried_states() {
    let config = learner();
    let batches: Vec<_> = (0..4).map(|number| series(&config, 5, number)).collect();
    let mut by_hand = ByHand::new(&config);
    let mut states = None;
    for (number, (input, target, weights)) in batches.iter().enumerate() {
        // The third starts over.
        let initial = states.filter(|_| number != 2);
        states = Some(by_hand.step(input, target, weights, initial.as_ref()));
    }
    let expected = by_hand.trained();
    let mut failures = Failures::new();
    for (device, opened) in &test_devices() {
        failures.check(*device, || {
            let mut trainer = trainer(opened, &config, options());
            trainer.carry_state(true).unwrap();
            for (number, (input, target, weights)) in batches.iter().enumerate() {
                if number == 2 {
                    trainer.reset_state();
                }
                trainer.step(input, targets(target, weights)).unwrap();
            }
            Trained::of(&mut trainer).assert_close("carried", &expected, &config, 5);
        });
    }
    failures.finish();
}

/// A batch that continues another does not begin from the learned initial states.
#[test]
fn learned_initial_states_have_no_gradient_where_states_are_carried() {
    let config = learner();
    let names = config.parameter_specs().map(|spec| spec.name.as_str());
    let initial: Vec<&str> = names.filter(|name| name.contains(".h0") || name.contains(".c0")).collect();
    assert_eq!(initial.len(), 2, "h and c of the first layer");
    let mut failures = Failures::new();
    for (device, opened) in &test_devices() {
        failures.check(*device, || {
            let mut trainer = trainer(opened, &config, options());
            trainer.carry_state(true).unwrap();
            for batch in 0..2 {
                let (input, target, weights) = series(&config, 4, batch);
                trainer.accumulate(&input, targets(&target, &weights)).unwrap();
                let gradients = trainer.gradients().unwrap();
                for name in &initial {
                    let moves = gradients[name].iter().any(|g| *g != 0.0);
                    assert_eq!(moves, batch == 0, "{name}, batch {batch}");
                }
                trainer.update().unwrap();
            }
        });
    }
    failures.finish();
}

#[test]
fn a_horizon_beyond_the_series_is_the_whole_batch() {
    let config = learner();
    let (input, target, weights) = series(&config, 6, 0);
    let targets = targets(&target, &weights);
    let mut failures = Failures::new();
    for (device, opened) in &test_devices() {
        for horizon in [6, 1000, usize::MAX] {
            failures.check(format!("{device}, horizon {horizon}"), || {
                let mut whole = trainer(opened, &config, options());
                let mut truncated = trainer(opened, &config, options());
                for _ in 0..2 {
                    whole.step(&input, &targets).unwrap();
                    let truncation = Truncation { horizon, stride: horizon };
                    truncated.step_truncated(&input, &targets, truncation).unwrap();
                }
                let (found, expected) = (Trained::of(&mut truncated), Trained::of(&mut whole));
                assert_eq!(found.losses, expected.losses, "losses");
                assert_eq!(found.parameters, expected.parameters, "parameters");
            });
        }
    }
    failures.finish();
}

/// Adjacent windows and overlapping ones, with a shorter last one.
#[test]
fn truncated_training_is_a_loop_over_windows() {
    let config = learner();
    let mut failures = Failures::new();
    for (horizon, stride, steps) in [(3, 3, 8), (5, 3, 9), (4, 1, 6), (1, 1, 3)] {
        let truncation = Truncation { horizon, stride };
        let all = [series(&config, steps, 0), series(&config, steps, 1)];
        // The second series begins from its own initial states, or from the final states of the first.
        for carries in [false, true] {
            let mut by_hand = ByHand::new(&config);
            let ended = by_hand.truncated(&all[0], truncation, None);
            by_hand.truncated(&all[1], truncation, ended.filter(|_| carries));
            let expected = by_hand.trained();
            for (device, opened) in &test_devices() {
                failures.check(format!("{device}, {truncation:?}, carries {carries}"), || {
                    let mut trainer = trainer(opened, &config, options());
                    trainer.carry_state(carries).unwrap();
                    for (input, target, weights) in &all {
                        trainer.step_truncated(input, targets(target, weights), truncation).unwrap();
                    }
                    assert_eq!(trainer.steps(), expected.losses.len() as u64, "updates");
                    Trained::of(&mut trainer).assert_close("windows", &expected, &config, horizon);
                });
            }
        }
    }
    failures.finish();
}

/// A window's initial states depend on the dropout masks of the window before.
#[test]
fn devices_agree_on_windows_with_dropout() {
    let config =
        config(2, [dense(6), LayerConfig::Dropout { rate: 0.5 }, GruConfig::new(5).into(), dense(1)]);
    let (input, target, weights) = series(&config, 8, 0);
    let mut curves = Vec::new();
    let mut failures = Failures::new();
    for (device, opened) in &test_devices() {
        failures.check(*device, || {
            let mut trainer = trainer(opened, &config, options().reduction(Reduction::Sum).dropout_seed(5));
            let truncation = Truncation { horizon: 4, stride: 2 };
            trainer.step_truncated(&input, targets(&target, &weights), truncation).unwrap();
            let found = Trained::of(&mut trainer);
            if let Some(expected) = curves.first() {
                found.assert_close("windows", expected, &config, 4);
            }
            curves.push(found);
        });
    }
    failures.finish();
}

#[track_caller]
fn assert_refused<T>(found: Result<T, gatefold::Error>, expected: &str) {
    let found = found.err().map(|error| error.to_string());
    assert_eq!(found.as_deref(), Some(expected));
}

#[test]
fn networks_that_cannot_stream_are_refused_by_name() {
    let both = GruConfig::new(4).direction(Direction::Bidirectional);
    let bidirectional = config(2, [dense(3), both.into()]);
    let expanding =
        config(2, [LayerConfig::Expand { steps: 3, fill: Expansion::Zeros }, GruConfig::new(4).into()]);
    let convolved = config(2, [dense(2), Conv1dConfig::new(3, 2).causal().into(), GruConfig::new(4).into()]);
    let tokens = config(1, [EmbeddingConfig::new(5, 2).into(), GruConfig::new(3).into()]);
    let (gru, other) = (config(2, [GruConfig::new(4).into()]), config(2, [GruConfig::new(5).into()]));
    let mut failures = Failures::new();
    for (name, device) in &test_devices() {
        failures.check(*name, || {
            let backwards = "layer 1 (gru): it reads the sequence from its end";
            let several = "layer 0 (expand): it makes several steps of one";
            let window = "layer 1 (conv1d): it reads several steps at once";
            for (config, problem) in
                [(&bidirectional, backwards), (&expanding, several), (&convolved, window)]
            {
                let steps = format!("{problem}, so it cannot go step by step; use Network::forward");
                assert_refused(network(device, config).stream(2), &steps);
                let batches = format!(
                    "{problem}, so it cannot continue where a batch ended; \
                     train on whole sequences, with Trainer::step"
                );
                assert_refused(trainer(device, config, options()).carry_state(true), &batches);
                let (input, targets) = (
                    Sequences::time_major(Array3::zeros((1, 1, 2))),
                    Targets::values(Array3::zeros((1, 1, 4))),
                );
                let truncation = Truncation { horizon: 1, stride: 1 };
                let found = trainer(device, config, options()).step_truncated(&input, &targets, truncation);
                assert_refused(found, &batches);
            }
            let network = network(device, &gru);
            assert_refused(network.stream(0), "streams: expected at least 1, found 0");
            let mut stream = network.stream(2).unwrap();
            let found = stream.step(Array2::zeros((3, 2)).view());
            assert_refused(found, "input of a step: expected [batch 2, features 2], found [3, 2]");
            assert_refused(
                stream.set_states(&States::zeros(&gru, 3)),
                "layer 0 (gru): state h: expected [directions x slots, rows, width] [1, 2, 4], \
                 found [1, 3, 4]",
            );
            assert_refused(
                stream.set_states(&States::zeros(&other, 2)),
                "layer 0 (gru): state h: expected [directions x slots, rows, width] [1, 2, 4], \
                 found [1, 2, 5]",
            );
            stream.step(Array2::zeros((2, 2)).view()).unwrap();
            let reader = self::network(device, &tokens);
            let mut stream = reader.stream(2).unwrap();
            assert_refused(
                stream.step(ndarray::array![[4.0], [5.0]].view()),
                "input at step 0, row 1: expected a token number, 0 to 4, found 5",
            );
        });
    }
    failures.finish();
}

#[test]
fn impossible_carries_and_truncations_are_refused() {
    let decoder = translator(Bridge::Same, vec![GruConfig::new(4).into()], vec![GruConfig::new(4).into()]);
    let last = config(2, [GruConfig::new(4).into(), LayerConfig::LastStep, dense(2)]);
    let learner = learner();
    let (input, target, weights) = series(&learner, 4, 0);
    let all = targets(&target, &weights);
    let mut failures = Failures::new();
    for (name, device) in &test_devices() {
        failures.check(*name, || {
            let problem = format!("{decoder}: a decoder starts from its encoder, not from the batch before");
            assert_refused(trainer(device, &decoder, options()).carry_state(true), &problem);
            let whole = Truncation { horizon: 4, stride: 4 };
            let problem = format!("{last}: truncation needs an output at every step");
            assert_refused(trainer(device, &last, options()).step_truncated(&input, &all, whole), &problem);

            let mut trainer = trainer(device, &learner, options());
            for stride in [0, 3] {
                let problem = format!(
                    "truncation: the horizon is 2 and the stride {stride}; \
                     expected a stride of 1 to the horizon"
                );
                let truncation = Truncation { horizon: 2, stride };
                assert_refused(trainer.step_truncated(&input, &all, truncation), &problem);
            }
            let short = Targets::values(target.slice(s![..3, .., ..]).to_owned());
            assert_refused(
                trainer.step_truncated(&input, &short, whole),
                "target: expected [steps 4, batch 3, features 2], found [3, 3, 2]",
            );
            trainer.carry_state(true).unwrap();
            trainer.step(&input, &all).unwrap();
            let fewer = Sequences::time_major(input.values().slice(s![.., ..2, ..]).to_owned());
            let of_fewer = Targets::values(target.slice(s![.., ..2, ..]).to_owned());
            assert_refused(
                trainer.step(&fewer, &of_fewer),
                "the carried state has 3 rows, the batch has 2; call Trainer::reset_state first",
            );
            assert_eq!(trainer.steps(), 1, "a refused batch does not train");
            trainer.reset_state();
            trainer.step(&fewer, &of_fewer).unwrap();
            // Nor does a series with an error past its first window.
            trainer.reset_state();
            let before = trainer.network().parameters().unwrap();
            let mut labels = Array2::zeros((4, BATCH));
            labels[[3, 0]] = 9;
            let truncation = Truncation { horizon: 1, stride: 1 };
            let found = trainer.step_truncated(&input, Targets::labels(labels.view()), truncation);
            assert!(found.is_err(), "the loss takes no labels");
            assert_eq!(trainer.network().parameters().unwrap(), before);
        });
    }
    let words = config(1, [EmbeddingConfig::new(4, 3).into(), GruConfig::new(3).into(), dense(4)]);
    for (name, device) in &test_devices() {
        failures.check(format!("tokens, {name}"), || {
            let options = options().loss(gatefold::Loss::CrossEntropy);
            let mut trainer = trainer(device, &words, options);
            let tokens = ndarray::array![[0u32], [1], [4]];
            let labels = Targets::labels(ndarray::array![[0], [1], [2]].view());
            let each = Truncation { horizon: 1, stride: 1 };
            assert_refused(
                trainer.step_truncated(Sequences::tokens(tokens.view()), &labels, each),
                "input at step 2, row 0: expected a token number, 0 to 3, found 4",
            );
            let tokens = ndarray::array![[0u32], [1], [3]];
            let labels = Targets::labels(ndarray::array![[0], [1], [4]].view());
            assert_refused(
                trainer.step_truncated(Sequences::tokens(tokens.view()), &labels, each),
                "label at step 2, row 0: expected a whole number below 4, or a negative one for none, \
                 found 4",
            );
            assert_eq!(trainer.steps(), 0, "an update cannot be taken back");
        });
    }
    failures.finish();
}
