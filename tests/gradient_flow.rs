//! The way of a gradient back through time is the same on both devices.

use gatefold::layers::{
    Conv1dConfig, DenseConfig, Direction, GruConfig, LayerConfig, LstmConfig, Merge, ParallelConfig,
    RnnConfig,
};
use gatefold::training::Reduction;
use gatefold::{Device, Loss, Network, NetworkConfig, Sequences};
use gatefold_check::{Failures, test_gpu, waves};
use ndarray::Array3;

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
            let target = Array3::from_shape_fn(shape, |(t, row, k)| ((t + 3 * row + 7 * k) as f32).cos());
            let flow = |device: &Device, lengths: [usize; 4]| {
                let network = Network::new(device, &config, 3).unwrap();
                let input = Sequences::from(&input).with_lengths(lengths).unwrap();
                network.gradient_flow(input, &target, &Loss::SquaredError, Reduction::Mean).unwrap()
            };
            // Rows without steps too.
            let flows = [[6, 6, 4, 1], [6, 0, 4, 1], [0, 6, 4, 0]].map(|lengths| {
                (flow(&Device::cpu().unwrap(), lengths), flow(&Device::Gpu(gpu.clone()), lengths))
            });
            for (cpu, gpu) in flows.iter().flat_map(|(cpu, gpu)| cpu.layers.iter().zip(&gpu.layers)) {
                assert_eq!(cpu.gates, gpu.gates, "{}", cpu.place);
                let lists = [
                    (Some(&cpu.hidden), Some(&gpu.hidden)),
                    (cpu.cell.as_ref(), gpu.cell.as_ref()),
                    (Some(&cpu.jacobian), Some(&gpu.jacobian)),
                ];
                for (cpu, gpu) in lists {
                    assert_eq!(cpu.is_some(), gpu.is_some());
                    let (Some(cpu), Some(gpu)) = (cpu, gpu) else { continue };
                    for (cpu, gpu) in cpu.iter().zip(gpu) {
                        // Both sum in f32; a norm loses no more digits than its terms.
                        assert!((cpu - gpu).abs() <= 1e-4 * cpu.abs().max(1e-6), "{cpu} and {gpu}");
                    }
                }
            }
        });
    }
    failures.finish();
}
