//! Training in chunks, with recomputation: the same gradients as uncut, in bounded memory. On the CPU and on a GPU.

use gatefold::devices::{GpuOptions, ScanChoice};
use gatefold::layers::{
    Activation, Direction, EmbeddingConfig, Expansion, GruConfig, InitialState, LayerConfig, LayerNorm,
    LstmConfig, Merge, Reset, RnnConfig, branch,
};
use gatefold::schedule::{Axis, Shape, Target, memory_need};
use gatefold::training::{ParameterGroup, Reduction, Truncation};
use gatefold::{
    Device, Loss, Network, NetworkConfig, Optimizer, Parameters, Sequences, Targets, TrainConfig, Trainer,
};
use gatefold_check::{
    Failures, NetworkCase, Random, Tolerance, assert_array, assert_parameters, gradient_terms, test_devices,
    test_gpu_with,
};
use ndarray::{Array2, Array3, s};

const SEED: u64 = 31;
const BATCH: usize = 3;
const STEPS: usize = 7;

fn config(input: usize, layers: impl Into<Vec<LayerConfig>>) -> NetworkConfig {
    NetworkConfig::new(input, layers).unwrap()
}

fn dense(output: usize) -> LayerConfig {
    gatefold::layers::DenseConfig::new(output).into()
}

/// Networks with every kind of state, of head and of step-by-step layer.
fn networks() -> Vec<NetworkConfig> {
    let learned = InitialState::Learned;
    let drop = || LayerConfig::Dropout { rate: 0.4 };
    vec![
        config(1, [LstmConfig::new(6).into(), dense(1)]),
        config(
            2,
            [
                LstmConfig::new(6).projection(4).peephole().skip(3).initial_state(learned).into(),
                GruConfig::new(5).reset(Reset::Before).into(),
                dense(2),
            ],
        ),
        // An odd number of elements a step, so that chunks begin with either word of dropout's generator.
        config(
            3,
            [
                drop(),
                RnnConfig::new(5).skip(2).initial_state(InitialState::Constant(0.3)).into(),
                dense(3),
                drop(),
                GruConfig::new(4).feedback(3, Activation::Tanh).into(),
            ],
        ),
        config(4, [GruConfig::new(4).into(), LayerConfig::Residual { from: 0 }, LstmConfig::new(3).into()]),
        // An odd number of elements a step here too, for masks within the step.
        config(
            2,
            [
                LstmConfig::new(5)
                    .layer_norm(LayerNorm { epsilon: 0.1 })
                    .peephole()
                    .zoneout(0.2)
                    .zoneout_cell(0.3)
                    .recurrent_dropout(0.3)
                    .candidate_dropout(0.2)
                    .drop_connect(0.3)
                    .into(),
                GruConfig::new(3).zoneout(0.3).candidate_dropout(0.3).initial_state(learned).into(),
                dense(2),
            ],
        ),
        config(
            2,
            [
                LstmConfig::new(5).dilation(3).initial_state(learned).into(),
                GruConfig::new(5).dilation(2).into(),
                LayerConfig::Residual { from: 1 },
                dense(1),
            ],
        ),
        config(
            2,
            [LstmConfig::new(5).initial_state(learned).into(), LayerConfig::LastStep, drop(), dense(2)],
        ),
        config(
            2,
            [
                LstmConfig::new(4).into(),
                GruConfig::new(5).initial_state(learned).into(),
                LayerConfig::FinalState,
                LayerConfig::Expand { steps: 2, fill: Expansion::Repeat },
                drop(),
                dense(1),
            ],
        ),
        config(
            1,
            [EmbeddingConfig::new(5, 4).into(), RnnConfig::new(6).into(), dense(4), LayerConfig::Softmax],
        ),
        config(2, [dense(3)]),
        NetworkConfig::with_input(3)
            .parallel(Merge::Sum, [branch().lstm(4).last_step().dense(2), branch().last_step().dense(2)])
            .build()
            .unwrap(),
        NetworkConfig::with_input(2)
            .parallel(Merge::Concatenate, [branch().gru(4), branch(), branch().rnn(3).dropout(0.4)])
            .dense(2)
            .build()
            .unwrap(),
    ]
}

fn case(config: &NetworkConfig, steps: usize) -> NetworkCase {
    NetworkCase { config: config.clone(), steps, batch: BATCH, seed: SEED }
}

fn trainer(device: &Device, config: &NetworkConfig, options: TrainConfig) -> Trainer {
    let network = Network::with_parameters(device, config, &case(config, 1).parameters()).unwrap();
    Trainer::new(network, options).unwrap()
}

/// Inputs and targets with weights, some of them zero.
fn series(
    config: &NetworkConfig,
    steps: usize,
    lengths: Option<[usize; BATCH]>,
    stream: u64,
) -> (Sequences<'static>, Targets<'static>) {
    let case = NetworkCase { seed: SEED + stream, ..case(config, steps) };
    let input = Sequences::time_major(case.input());
    let input = match lengths {
        Some(lengths) => input.with_lengths(lengths).unwrap(),
        None => input,
    };
    let target = case.target();
    let (steps, batch, _) = target.dim();
    let mut random = Random::new(SEED, 9 + stream);
    let weights = random.within(0.5..2.0, steps * batch);
    let weights = Array2::from_shape_fn((steps, batch), |(t, row)| {
        if steps > 2 && (t + row) % 4 == 1 { 0.0 } else { weights[t * batch + row] }
    });
    (input, Targets::values(target).with_weights(weights).unwrap())
}

/// The loss and the gradient of a batch.
fn gradient(trainer: &mut Trainer, input: &Sequences, targets: &Targets) -> (f32, Parameters) {
    trainer.accumulate(input, targets).unwrap();
    (trainer.take_losses().unwrap()[0], trainer.gradients().unwrap())
}

/// Both gradients are within a tolerance of the exact one.
fn close(config: &NetworkConfig, steps: usize) -> Tolerance {
    Tolerance::gradient(gradient_terms(config, steps, BATCH)).times(2)
}

#[test]
fn chunks_have_the_gradient_of_the_whole() {
    let mut failures = Failures::new();
    let in_workgroups = test_gpu_with(&GpuOptions::new().scan(ScanChoice::Workgroup)).map(Device::Gpu);
    let in_workgroups = in_workgroups.map(|device| ("gpu, scans in workgroups", device));
    for (device, opened) in &test_devices().into_iter().chain(in_workgroups).collect::<Vec<_>>() {
        for (config, lengths) in
            networks().iter().flat_map(|config| [None, Some([5, 2, 0]), Some([3, 7, 6])].map(|l| (config, l)))
        {
            let (input, targets) = series(config, STEPS, lengths, 0);
            let options = TrainConfig::new().dropout_seed(3);
            let (loss, expected) = gradient(&mut trainer(opened, config, options.clone()), &input, &targets);
            for steps in [1, 2, 3, 6, 7, 100] {
                failures.check(format!("{device}, {config}, lengths {lengths:?}, chunks of {steps}"), || {
                    let mut chunked = trainer(opened, config, options.clone().recompute(Some(steps)));
                    let (found_loss, found) = gradient(&mut chunked, &input, &targets);
                    let tolerance = if steps < STEPS { close(config, STEPS) } else { Tolerance::EXACT };
                    let losses = [found_loss, loss].map(|loss| ndarray::arr1(&[loss]));
                    assert_array("loss", losses[0].view(), losses[1].view(), tolerance);
                    assert_parameters("gradient", &found, &expected, tolerance);
                });
            }
        }
    }
    failures.finish();
}

/// Sums, labels and frozen layers; several batches are added up, and updates follow.
#[test]
fn training_in_chunks_is_training() {
    let config = config(
        2,
        [LstmConfig::new(5).into(), GruConfig::new(4).into(), LayerConfig::Dropout { rate: 0.2 }, dense(3)],
    );
    let frozen =
        ParameterGroup::new(config.parameter_specs().next().unwrap().name.split('.').next().unwrap());
    let options = TrainConfig::new()
        .loss(Loss::CrossEntropy)
        .reduction(Reduction::Sum)
        .optimizer(Optimizer::sgd())
        .learning_rate(0.02)
        .clip_norm(Some(1.0))
        .group(frozen.frozen());
    let mut failures = Failures::new();
    for (device, opened) in &test_devices() {
        failures.check(*device, || {
            let train = |options: TrainConfig| {
                let mut trainer = trainer(opened, &config, options);
                for update in 0..3 {
                    for part in 0..2 {
                        let steps = 5 + 3 * part;
                        let (input, _) = series(&config, steps, Some([5, 0, 4]), 2 * update + part as u64);
                        let label = |(t, row): (usize, usize)| ((t + row + part) % 4) as i64 - 1;
                        let labels = Array2::from_shape_fn((steps, BATCH), label);
                        trainer.accumulate(&input, &labels).unwrap();
                    }
                    trainer.update().unwrap();
                }
                (trainer.take_losses().unwrap(), trainer.network().parameters().unwrap())
            };
            let (losses, parameters) = train(options.clone());
            let (found_losses, found) = train(options.clone().recompute(Some(3)));
            let tolerance = close(&config, 8).times(6);
            let [found_losses, losses] = [found_losses, losses].map(ndarray::Array1::from_vec);
            assert_array("losses", found_losses.view(), losses.view(), tolerance);
            assert_parameters("parameters", &found, &parameters, tolerance);
        });
    }
    failures.finish();
}

/// States that pass between batches, and windows that overlap by a part of a chunk.
#[test]
fn states_are_carried_past_chunks() {
    let config =
        config(2, [LstmConfig::new(5).skip(2).into(), LstmConfig::new(4).dilation(3).into(), dense(2)]);
    let options = || TrainConfig::new().optimizer(Optimizer::sgd()).learning_rate(0.05);
    let mut failures = Failures::new();
    for (device, opened) in &test_devices() {
        for (lengths, truncation) in [
            (None, None),
            (Some([7, 0, 3]), None),
            (None, Some(Truncation { horizon: 5, stride: 3 })),
            (Some([7, 6, 1]), Some(Truncation { horizon: 4, stride: 4 })),
        ] {
            failures.check(format!("{device}, lengths {lengths:?}, {truncation:?}"), || {
                let train = |options: TrainConfig| {
                    let mut trainer = trainer(opened, &config, options);
                    trainer.carry_state(true).unwrap();
                    for batch in 0..3 {
                        let (input, targets) = series(&config, STEPS, lengths, batch);
                        match truncation {
                            None => trainer.step(&input, &targets).unwrap(),
                            Some(truncation) => {
                                trainer.step_truncated(&input, &targets, truncation).unwrap();
                            }
                        }
                    }
                    (trainer.take_losses().unwrap(), trainer.network().parameters().unwrap())
                };
                let (losses, parameters) = train(options());
                let (found_losses, found) = train(options().recompute(Some(2)));
                let tolerance = close(&config, STEPS).times(losses.len());
                let [found_losses, losses] = [found_losses, losses].map(ndarray::Array1::from_vec);
                assert_array("losses", found_losses.view(), losses.view(), tolerance);
                assert_parameters("parameters", &found, &parameters, tolerance);
            });
        }
    }
    failures.finish();
}

/// More chunks than a device holds losses.
#[test]
fn a_long_batch_in_many_chunks_has_one_loss() {
    let config = config(1, [RnnConfig::new(2).into(), dense(1)]);
    let (steps, mut failures) = (1_100, Failures::new());
    for (device, opened) in &test_devices() {
        failures.check(*device, || {
            let input = Sequences::time_major(case(&config, steps).input());
            let target = case(&config, steps).target();
            let mut whole = trainer(opened, &config, TrainConfig::new());
            let mut chunked = trainer(opened, &config, TrainConfig::new().recompute(Some(1)));
            let targets = Targets::values(target);
            let (loss, expected) = gradient(&mut whole, &input, &targets);
            chunked.accumulate(&input, &targets).unwrap();
            let (found, gradients) = (chunked.take_losses().unwrap(), chunked.gradients().unwrap());
            let tolerance = close(&config, steps);
            assert_array("loss", ndarray::arr1(&found).view(), ndarray::arr1(&[loss]).view(), tolerance);
            assert_parameters("gradient", &gradients, &expected, tolerance);
        });
    }
    failures.finish();
}

#[test]
fn networks_that_cannot_be_cut_are_refused_by_name() {
    let device = Device::cpu().unwrap();
    let refused = |layers: &[LayerConfig], steps| {
        let config = config(2, layers);
        let network = Network::new(&device, &config, 1).unwrap();
        let options = TrainConfig::new().recompute(Some(steps));
        Trainer::new(network, options).map(|_| ()).unwrap_err().to_string()
    };
    let both: LayerConfig = LstmConfig::new(2).direction(Direction::Bidirectional).into();
    let found = refused(&[GruConfig::new(3).into(), both], 5);
    let expected =
        "it reads the sequence from its end, so sequences cannot be cut into chunks; leave the option out";
    assert!(found.starts_with("recompute: layer 1") && found.ends_with(expected), "{found}");
    let expand = LayerConfig::Expand { steps: 3, fill: Expansion::Repeat };
    let twice = [GruConfig::new(3).into(), LayerConfig::LastStep, expand, GruConfig::new(3).into()];
    let found = refused(&twice, 5);
    assert!(
        found.starts_with("recompute: layer 3") && found.contains("steps of the network's input"),
        "{found}"
    );
    let decoder = [GruConfig::new(3).into(), gatefold::layers::DecoderConfig::new(2).into()];
    let found = refused(&[&decoder[..], &[GruConfig::new(3).into()]].concat(), 5);
    assert!(found.starts_with("recompute: layer 1") && found.contains("end of the encoder"), "{found}");
    let found =
        refused(&[gatefold::layers::Conv1dConfig::new(3, 2).causal().into(), GruConfig::new(3).into()], 5);
    assert!(found.starts_with("recompute: layer 0") && found.contains("both sides of a cut"), "{found}");
    let found = refused(&[GruConfig::new(3).into()], 0);
    assert_eq!(found, "recompute: the steps of a chunk is 0; expected 1 or more, or none");
}

/// 41,000 steps of 8 rows of 128 units, whose gates and states take over a gigabyte, in less than half of that.
#[test]
fn long_sequences_need_little_memory_on_a_device() {
    const LIMIT: u64 = 512 << 20;
    for head in [vec![dense(1)], vec![LayerConfig::LastStep, dense(1)]] {
        let config = config(1, [vec![LstmConfig::new(128).into()], head].concat());
        let shape = Shape { batch: 8, input: Axis { steps: 41_000, lengths: true }, decoder: None };
        let target = Target { max_buffer_bytes: 4 << 30, max_binding_bytes: 4 << 30, ..Target::webgpu() };
        let need = |options: &TrainConfig| memory_need(&config, &target, shape, Some(options)).unwrap().bytes;
        let (whole, chunked) = (need(&TrainConfig::new()), need(&TrainConfig::new().recompute(Some(512))));
        assert!(whole > 1 << 30, "{whole} bytes uncut");
        assert!(chunked < LIMIT, "{chunked} bytes in chunks");
    }
}

/// The need that is told is what is taken: training runs within it, and not within a little less.
#[test]
fn training_takes_the_memory_that_it_is_said_to_need() {
    let config = config(1, [LstmConfig::new(16).into(), dense(1)]);
    let (steps, batch) = (2_000, 2);
    let options = TrainConfig::new().recompute(Some(32));
    let shape = Shape::plain(&config, steps, batch);
    let Some(probe) = test_gpu_with(&GpuOptions::new()) else { return };
    let need =
        |options: &TrainConfig| memory_need(&config, probe.target(), shape, Some(options)).unwrap().bytes;
    let chunked = need(&options);
    assert!(2 * chunked < need(&TrainConfig::new()), "{chunked} bytes");
    let input = Array3::from_shape_fn((steps, batch, 1), |(t, row, _)| (0.1 * (t + 7 * row) as f32).sin());
    let target = input.slice(s![..;-1, .., ..]).to_owned();
    let train = |limit: u64| {
        let gpu = test_gpu_with(&GpuOptions::new().memory_limit_bytes(Some(limit))).unwrap();
        let network = Network::new(&Device::Gpu(gpu), &config, 1)?;
        let mut trainer = Trainer::new(network, options.clone())?;
        trainer.step(&input, &target)?;
        trainer.take_losses()
    };
    // Params, which are not buffers of the plans, take a little more.
    let losses = train(chunked + chunked / 4).unwrap();
    assert!(losses.len() == 1 && losses[0] > 0.0, "{losses:?}");
    let error = train(chunked - chunked / 4).unwrap_err();
    assert!(matches!(error, gatefold::Error::OutOfMemory { .. }), "{error}");
}
