//! The way of a gradient back through time is the same on both devices, with a cell from outside of the crates, with tokens
//! as input, and in a training that recomputes.

use crate::custom_cells::cells::OwnLstm;
use gatefold::custom;
use gatefold::layers::{
    Conv1dConfig, CustomConfig, DenseConfig, Direction, EmbeddingConfig, GruConfig, LayerConfig, LstmConfig,
    Merge, ParallelConfig, RnnConfig,
};
use gatefold::training::{GradientFlow, LayerFlow, Reduction};
use gatefold::{Device, Loss, Network, NetworkConfig, Parameters, Sequences, TrainConfig, Trainer};
use gatefold_check::{Failures, test_devices, test_gpu, waves};
use ndarray::{Array2, Array3};

/// Requires the norms of both to be the same but for rounding; gates, which are shares of a few units, exactly.
fn assert_same(found: &GradientFlow, expected: &GradientFlow) {
    assert_eq!(found.layers.len(), expected.layers.len());
    for (found, expected) in found.layers.iter().zip(&expected.layers) {
        assert_eq!(found.gates, expected.gates, "{}", found.place);
        assert_same_norms(found, expected);
    }
}

fn assert_same_norms(found: &LayerFlow, expected: &LayerFlow) {
    let lists = [
        ("h", Some(&found.hidden), Some(&expected.hidden)),
        ("c", found.cell.as_ref(), expected.cell.as_ref()),
        ("Jacobian", Some(&found.jacobian), Some(&expected.jacobian)),
    ];
    for (name, found, expected) in lists {
        assert_eq!(found.map(Vec::len), expected.map(Vec::len), "{name}");
        for (found, expected) in found.into_iter().flatten().zip(expected.into_iter().flatten()) {
            // Both sum in f32; a norm loses no more digits than its terms.
            let within = (found - expected).abs() <= 1e-4 * expected.abs().max(1e-6);
            assert!(within, "{name}: found {found}, expected {expected}");
        }
    }
}

/// The flow of the sum of squared errors.
fn flow_of<'a>(network: &Network, input: impl Into<Sequences<'a>>, target: &Array3<f32>) -> GradientFlow {
    network.gradient_flow(input, target.clone(), &Loss::SquaredError, Reduction::Sum).unwrap()
}

fn cosines(shape: (usize, usize, usize)) -> Array3<f32> {
    Array3::from_shape_fn(shape, |(t, row, k)| ((t + 3 * row + 7 * k) as f32).cos())
}

#[test]
fn a_gpu_finds_what_the_cpu_finds() {
    let Some(gpu) = test_gpu() else { return };
    let linear = vec![Conv1dConfig::new(2, 3).causal().into(), LayerConfig::LastStep];
    let recurrent = vec![GruConfig::new(4).into(), LayerConfig::LastStep, DenseConfig::new(2).into()];
    let stacks: [Vec<LayerConfig>; 5] = [
        vec![RnnConfig::new(5).into(), DenseConfig::new(2).into()],
        vec![LstmConfig::new(6).projection(3).into(), LstmConfig::new(5).peephole().into()],
        vec![GruConfig::new(7).into(), LayerConfig::LastStep, DenseConfig::new(1).into()],
        // By the reference but for the Jacobian.
        vec![ParallelConfig::new(Merge::Sum, [linear, recurrent]).into()],
        vec![LstmConfig::new(4).direction(Direction::Bidirectional).into()],
    ];
    let mut failures = Failures::new();
    for layers in stacks {
        let config = NetworkConfig::new(3, layers).unwrap();
        failures.check(config.to_string(), || {
            let (input, _) = waves(2, (6, 4), (3, 1));
            let shape = (config.output_steps(6), 4, config.output());
            let target = cosines(shape);
            let flow = |device: &Device, lengths: [usize; 4]| {
                let network = Network::new(device, &config, 3).unwrap();
                let input = Sequences::from(&input).with_lengths(lengths).unwrap();
                network.gradient_flow(input, &target, &Loss::SquaredError, Reduction::Mean).unwrap()
            };
            // Rows without steps too.
            let flows = [[6, 6, 4, 1], [6, 0, 4, 1], [0, 6, 4, 0]].map(|lengths| {
                (flow(&Device::cpu().unwrap(), lengths), flow(&Device::Gpu(gpu.clone()), lengths))
            });
            for (cpu, gpu) in &flows {
                assert_same(gpu, cpu);
            }
        });
    }
    failures.finish();
}

/// The parameters of a network under the names that another one of the same shapes has for them.
fn renamed(from: &Network, to: &NetworkConfig) -> Parameters {
    let all = from.parameters().unwrap();
    let mut renamed = Parameters::zeros(to).unwrap();
    for (old, new) in from.config().parameter_specs().zip(to.parameter_specs()) {
        renamed.get_mut(&new.name).unwrap().assign(all.get(&old.name).unwrap());
    }
    renamed
}

/// An LSTM written as a cell of one's own has the norms of the engine's; its gates are not known.
#[test]
fn a_cell_from_outside_has_a_way_back_too() {
    let cell = custom::register::<OwnLstm>().unwrap();
    let (input, _) = waves(2, (6, 4), (3, 1));
    let mut failures = Failures::new();
    for (name, device) in test_devices() {
        failures.check(name, || {
            let lstm = NetworkConfig::new(3, [LstmConfig::new(5).into(), DenseConfig::new(2).into()]);
            let own = NetworkConfig::new(3, [CustomConfig::new(cell, 5).into(), DenseConfig::new(2).into()]);
            let engine = Network::new(&device, &lstm.unwrap(), 3).unwrap();
            let own = own.unwrap();
            let network = Network::with_parameters(&device, &own, &renamed(&engine, &own)).unwrap();
            let target = cosines((6, 4, 2));
            let short = Sequences::from(&input).with_lengths([6, 5, 0, 2]).unwrap();
            let (found, expected) = (flow_of(&network, &short, &target), flow_of(&engine, &short, &target));
            assert_same_norms(&found.layers[0], &expected.layers[0]);
            assert!(found.layers[0].gates.is_empty());
            assert!((found.loss - expected.loss).abs() <= 1e-5 * expected.loss);
        });
    }
    failures.finish();
}

/// Tokens in front of an embedding are the vectors that it has for them.
#[test]
fn tokens_are_read_as_their_vectors() {
    let tokens = Array2::from_shape_fn((6, 4), |(t, row)| ((3 * t + 5 * row + t * row) % 7) as u32);
    let both = Direction::Bidirectional;
    let stacks: [Vec<LayerConfig>; 2] = [
        vec![LstmConfig::new(5).into(), DenseConfig::new(2).into()],
        vec![GruConfig::new(4).direction(both).into(), LayerConfig::LastStep, DenseConfig::new(2).into()],
    ];
    let mut failures = Failures::new();
    for (name, device) in test_devices() {
        for rest in &stacks {
            failures.check(format!("{name}, {} layers", rest.len()), || {
                let layers = [vec![EmbeddingConfig::new(7, 3).into()], rest.clone()].concat();
                let network = Network::new(&device, &NetworkConfig::new(1, layers).unwrap(), 3).unwrap();
                let all = network.parameters().unwrap();
                let table = all.get("embedding0.weight").unwrap();
                let vectors =
                    Array3::from_shape_fn((6, 4, 3), |(t, row, k)| table[[tokens[[t, row]] as usize, k]]);
                let config = NetworkConfig::new(3, rest.clone()).unwrap();
                let mut parameters = Parameters::zeros(&config).unwrap();
                for (name, values) in all.iter().filter(|(name, _)| *name != "embedding0.weight") {
                    parameters.get_mut(name).unwrap().assign(values);
                }
                let plain = Network::with_parameters(&device, &config, &parameters).unwrap();
                let target = cosines((config.output_steps(6), 4, 2));
                let lengths = [6, 5, 1, 2];
                let read = Sequences::tokens(tokens.view()).with_lengths(lengths).unwrap();
                let found = flow_of(&network, &read, &target);
                let vectors = Sequences::from(&vectors).with_lengths(lengths).unwrap();
                assert_same(&found, &flow_of(&plain, &vectors, &target));
                assert!(found.layers[0].place.starts_with("layer 1 "), "{}", found.layers[0].place);
            });
        }
    }
    failures.finish();
}

/// A training that recomputes chunks of steps, which has nothing else of them in memory, shows the same norms, and a look
/// at them leaves its updates as they were.
#[test]
fn a_training_in_chunks_shows_the_same() {
    let config = NetworkConfig::new(3, [LstmConfig::new(5).into(), GruConfig::new(4).into()]).unwrap();
    let (input, _) = waves(2, (7, 4), (3, 1));
    let target = cosines((7, 4, 4));
    let mut failures = Failures::new();
    for (name, device) in test_devices() {
        failures.check(name, || {
            let trainer = |recompute| {
                let options = TrainConfig::new().learning_rate(0.01).recompute(recompute);
                Trainer::new(Network::new(&device, &config, 3).unwrap(), options).unwrap()
            };
            let (mut whole, mut chunks, mut unseen) = (trainer(None), trainer(Some(3)), trainer(Some(3)));
            for _ in 0..3 {
                for trainer in [&mut whole, &mut chunks, &mut unseen] {
                    trainer.step(&input, &target).unwrap();
                }
                let found = chunks.gradient_flow(&input, &target).unwrap();
                assert_same(&found, &whole.gradient_flow(&input, &target).unwrap());
                assert_eq!(found.layers[1].hidden.len(), 7);
            }
            assert_eq!(chunks.take_losses().unwrap(), unseen.take_losses().unwrap());
            let parameters = |trainer: &Trainer| trainer.network().parameters().unwrap();
            assert_eq!(parameters(&chunks), parameters(&unseen));
        });
    }
    failures.finish();
}
