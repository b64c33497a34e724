//! Networks whose matrix products go through workgroup memory, whatever the device would choose, against the reference and
//! against the CPU device.

use gatefold::devices::{GpuOptions, ProductChoice};
use gatefold::file::Checkpoint;
use gatefold::hooks::run_plan;
use gatefold::layers::{Activation, DenseConfig, Direction, GruConfig, LayerConfig, LstmConfig};
use gatefold::schedule::{Plan, Shape, Target, schedule};
use gatefold::{Device, Gpu, Network, NetworkConfig, Optimizer, Parameters, Sequences, TrainConfig, Trainer};
use gatefold_check::{
    Failures, NetworkCase, Random, SequenceCase, Tolerance, assert_close, check_backward, check_forward,
    check_sequences, gradient_terms, test_gpu_with, waves,
};
use gatefold_reference::linear;
use gatefold_schedule::product::{self, Matrix, Order, StepRows};
use gatefold_schedule::{Dispatch, Element, Given, Step};
use gatefold_shaders::KernelId;
use ndarray::{Array1, Array2, Axis};
use std::collections::BTreeMap;

fn gpu(choice: ProductChoice) -> Option<Gpu> {
    test_gpu_with(&GpuOptions::new().product(choice))
}

/// Every network, which has every layer, cell and option, and products of sizes from 1 to 11,003.
#[test]
fn networks_match_the_reference() {
    let Some(gpu) = gpu(ProductChoice::Staged) else { return };
    check_forward(&gpu, &NetworkCase::all()).unwrap().assert("forward");
    check_backward(&gpu, &NetworkCase::all()).unwrap().assert("backward");
}

/// Rows of different length skip tiles of rows and blocks of steps.
#[test]
fn sequences_match_the_reference() {
    let Some(gpu) = gpu(ProductChoice::Staged) else { return };
    check_sequences(&Device::Gpu(gpu), &SequenceCase::networks()).unwrap().assert("networks");
}

/// A product as layers ask for it: sides that begin anywhere in a buffer, in rows or transposed, with or without lengths.
struct Case {
    sizes: [usize; 3],
    transposed: [bool; 2],
    /// Which axis has the steps of sequences: rows, the inner axis, or none.
    steps: [bool; 2],
    stream: u64,
}

/// Sequences, if there are lengths: every third lasts to the end, the others half as long.
const SEQUENCES: usize = 21;
const OFFSETS: [usize; 2] = [5, 3];

impl Case {
    fn lengths(&self) -> Vec<usize> {
        let [m, k, _] = self.sizes;
        let steps = if self.steps[0] { m } else { k }.div_ceil(SEQUENCES);
        (0..SEQUENCES).map(|row| if row % 3 == 0 { steps } else { steps / 2 }).collect()
    }

    /// Both sides; rows past the ends of their sequences are zero, as they are in networks.
    fn sides(&self) -> [Array2<f32>; 2] {
        let [m, k, n] = self.sizes;
        let lengths = self.lengths();
        let mut random = Random::new(31, self.stream);
        let mut side = |shape: (usize, usize), ends: bool| {
            // Sums of few results must not be small differences: nothing else would show how large their terms are.
            let range = if m * n < 20 { 0.01..0.3 } else { -1.0..1.0 };
            let values = random.within(range, shape.0 * shape.1);
            let mut side = Array2::from_shape_vec(shape, values).unwrap();
            for (row, mut values) in side.rows_mut().into_iter().enumerate() {
                if ends && row / SEQUENCES >= lengths[row % SEQUENCES] {
                    values.fill(0.0);
                }
            }
            side
        };
        [side((m, k), self.steps[0]), side((k, n), self.steps[1])]
    }

    /// The content of a side's buffer.
    fn stored(&self, number: usize, side: &Array2<f32>) -> Vec<f32> {
        let values = if self.transposed[number] { side.t().iter().copied().collect() } else { flat(side) };
        [vec![9.0; OFFSETS[number]], values].concat()
    }

    /// A plan of one product, and its sides.
    fn plan(&self) -> (Plan, Matrix, Matrix) {
        let mut plan = Plan::default();
        let [m, k, n] = self.sizes;
        let lengths = plan.given_as(Given::Argument(2), Element::U32, SEQUENCES);
        let mut side = |number: usize, rows: usize, columns: usize| {
            let offset = OFFSETS[number];
            let span = plan.given(Given::Argument(number), offset + rows * columns);
            let span = span.part(offset, rows * columns);
            let matrix = match self.transposed[number] {
                true => Matrix::new(span, columns, rows).transposed(),
                false => Matrix::new(span, rows, columns),
            };
            let steps = StepRows { lengths, batch: SEQUENCES };
            Matrix { steps: self.steps[number].then_some(steps), ..matrix }
        };
        let (a, b) = (side(0, m, k), side(1, k, n));
        (plan, a, b)
    }

    /// Runs a plan, with the content of its third argument; returns that afterwards.
    fn run(&self, gpu: &Gpu, plan: &Plan, out: &[f32], bias: &[f32]) -> Vec<f32> {
        let [a, b] = self.sides();
        let lengths: Vec<f32> = self.lengths().iter().map(|&len| f32::from_bits(len as u32)).collect();
        let (a, b) = (self.stored(0, &a), self.stored(1, &b));
        let mut given: Vec<(Given, &[f32])> = vec![
            (Given::Argument(0), &a),
            (Given::Argument(1), &b),
            (Given::Argument(2), &lengths),
            (Given::Argument(3), out),
        ];
        if !bias.is_empty() {
            given.push((Given::Argument(4), bias));
        }
        run_plan(gpu, plan, &given).unwrap().swap_remove(3)
    }

    fn expected(&self) -> Array2<f64> {
        let [a, b] = self.sides().map(|side| side.mapv(f64::from));
        linear::matmul(a.view(), b.view())
    }
}

fn flat(values: &Array2<f32>) -> Vec<f32> {
    values.iter().copied().collect()
}

/// Every pair of awkward rows and columns, with the inner axis in turns, and gradients over an axis of several slices.
fn awkward() -> Vec<Case> {
    const SIZES: [usize; 6] = [1, 3, 17, 63, 65, 130];
    let case = |number: usize| {
        let (row, column) = (number / 6, number % 6);
        let steps = [[false, false], [true, false], [false, true]][(row + column) % 3];
        Case {
            sizes: [SIZES[row], SIZES[(row + 2 * column) % 6], SIZES[column]],
            transposed: [(row + column) % 2 == 1, column / 2 % 2 == 1],
            steps,
            stream: number as u64,
        }
    };
    (0..36).map(case).collect()
}

#[test]
fn products_of_any_size_match_the_reference() {
    let Some(gpu) = gpu(ProductChoice::Staged) else { return };
    let mut failures = Failures::new();
    for case in awkward() {
        let [m, k, n] = case.sizes;
        failures.check(format!("{m} {k} {n} {:?} {:?}", case.transposed, case.steps), || {
            let (mut plan, a, b) = case.plan();
            let out = plan.given(Given::Argument(3), m * n);
            let span = plan.given(Given::Argument(4), n);
            product::matmul(&mut plan, gpu.target(), "c", (a, b), Some(span), Activation::Softsign, out)
                .unwrap();
            assert!(dispatches(&plan).all(|found| found.kernel.id == KernelId::MatMulStaged));
            let bias = Random::new(32, case.stream).values(n);
            let found = case.run(&gpu, &plan, &vec![7.0; m * n], &bias);
            let slices = case.expected().insert_axis(Axis(0));
            let bias = Array1::from_iter(bias.iter().map(|&value| f64::from(value)));
            let want = linear::sum_slices(slices.view(), Some(bias.view()), Activation::Softsign);
            let want: Vec<f64> = want.iter().copied().collect();
            assert_close("c", &[("row", m), ("column", n)], &found, &want, Tolerance::output(k));
        });
    }
    failures.finish();
}

#[test]
fn gradients_over_many_steps_match_the_reference() {
    let Some(gpu) = gpu(ProductChoice::Staged) else { return };
    let mut failures = Failures::new();
    for case in awkward() {
        let [m, _, n] = case.sizes;
        let k = 1_303;
        // Only b's rows, the inner axis, are steps where gradients are summed.
        let case = Case { sizes: [m, k, n], steps: [false, case.steps[1]], ..case };
        failures.check(format!("{m} {k} {n} {:?} {:?}", case.transposed, case.steps), || {
            let (mut plan, a, b) = case.plan();
            let d = plan.given(Given::Argument(3), m * n);
            product::add_gradient(&mut plan, gpu.target(), "d", (a, b), Order::same(m * n), d).unwrap();
            let product = dispatches(&plan).next().unwrap();
            assert_eq!((product.kernel.id, product.groups[2]), (KernelId::MatMulStaged, 5));
            let before = Random::new(33, case.stream).values(m * n);
            let found = case.run(&gpu, &plan, &before, &[]);
            let want = case.expected();
            let want: Vec<f64> = want.iter().zip(&before).map(|(sum, &d)| sum + f64::from(d)).collect();
            assert_close("d", &[("row", m), ("column", n)], &found, &want, Tolerance::product(k + 1));
        });
    }
    failures.finish();
}

const STEPS: usize = 11;
const BATCH: usize = 13;

/// Gates of two layers, of 4 x 21 and 3 x 9 columns, over 143 rows.
fn wide() -> NetworkConfig {
    NetworkConfig::new(
        3,
        [
            LstmConfig::new(21).direction(Direction::Bidirectional).into(),
            GruConfig::new(9).into(),
            DenseConfig::new(17).activation(Activation::Tanh).into(),
            LayerConfig::LastStep,
            DenseConfig::new(1).into(),
        ],
    )
    .unwrap()
}

fn trained(device: &Device, updates: usize) -> (Vec<f32>, Parameters) {
    let options = TrainConfig::new()
        .optimizer(Optimizer::Sgd { momentum: 0.9, nesterov: false, weight_decay: 0.0 })
        .learning_rate(0.05);
    let mut trainer = Trainer::new(Network::new(device, &wide(), 1).unwrap(), options).unwrap();
    let lengths: Vec<usize> = (0..BATCH).map(|row| STEPS - row * 10 / BATCH).collect();
    for number in 0..updates {
        let (input, target) = waves(number, (STEPS, BATCH), (3, 1));
        let input = Sequences::time_major(input).with_lengths(lengths.clone()).unwrap();
        trainer.step(input, target.view()).unwrap();
    }
    (trainer.take_losses().unwrap(), trainer.network().parameters().unwrap())
}

/// Both devices err, and the updates add up, as in `training`.
#[test]
fn a_training_equals_that_of_the_cpu() {
    let Some(gpu) = gpu(ProductChoice::Staged) else { return };
    let updates = 8;
    let tolerance = Tolerance::gradient(gradient_terms(&wide(), STEPS, BATCH)).times(2 * updates);
    let (found, expected) = (trained(&Device::Gpu(gpu), updates), trained(&Device::cpu().unwrap(), updates));
    let curve: Vec<f64> = expected.0.iter().map(|&loss| f64::from(loss)).collect();
    assert_close("loss", &[("update", updates)], &found.0, &curve, tolerance);
    for (name, found) in found.1.iter() {
        let found: Vec<f32> = found.iter().copied().collect();
        let expected: Vec<f64> = expected.1[name].iter().map(|&value| f64::from(value)).collect();
        assert_close(name, &[("element", found.len())], &found, &expected, tolerance);
    }
}

#[test]
fn a_training_repeats_bit_for_bit() {
    let Some(gpu) = gpu(ProductChoice::Staged) else { return };
    let device = Device::Gpu(gpu);
    assert_eq!(trained(&device, 5), trained(&device, 5));
}

fn dispatches(plan: &Plan) -> impl Iterator<Item = &Dispatch> {
    plan.steps().iter().filter_map(|step| match step {
        Step::Dispatch(dispatch) => Some(dispatch),
        _ => None,
    })
}

fn products(plan: &Plan, kernel: KernelId) -> usize {
    dispatches(plan).filter(|dispatch| dispatch.kernel.id == kernel).count()
}

fn planned(config: &NetworkConfig, target: &Target, (steps, batch): (usize, usize)) -> Plan {
    schedule(config, target, Shape::plain(config, steps, batch), Some(&TrainConfig::new())).unwrap()
}

/// An LSTM with a dense output: the input's product, the output's, three gradients of weights, one of the output's input.
fn forecaster(input: usize, hidden: usize) -> NetworkConfig {
    let layers: [LayerConfig; 2] = [LstmConfig::new(hidden).into(), DenseConfig::new(1).into()];
    NetworkConfig::new(input, layers).unwrap()
}

#[test]
fn the_plan_has_the_kernel_that_was_forced() {
    let target = |product, software| Target { product, software, ..Target::webgpu() };
    let both = |target: &Target, config: &NetworkConfig, shape| {
        let plan = planned(config, target, shape);
        (products(&plan, KernelId::MatMul), products(&plan, KernelId::MatMulStaged))
    };
    let (small, large) = (forecaster(3, 4), forecaster(64, 128));
    for software in [false, true] {
        let both = |product, config, shape| both(&target(product, software), config, shape);
        assert_eq!(both(ProductChoice::Staged, &small, (2, 5)), (0, 6));
        assert_eq!(both(ProductChoice::Streamed, &large, (100, 64)), (6, 0));
        assert_eq!(both(ProductChoice::Auto, &small, (2, 5)), (6, 0));
        // Those with one column stay as they are.
        let staged = if software { (6, 0) } else { (3, 3) };
        assert_eq!(both(ProductChoice::Auto, &large, (100, 64)), staged, "software {software}");
    }
    let no_room = Target { max_workgroup_bytes: 8 << 10, ..target(ProductChoice::Staged, false) };
    assert_eq!(both(&no_room, &large, (100, 64)), (6, 0));
}

/// Mesa's llvmpipe ends loops silently after 65,535 iterations.
#[test]
fn long_products_are_cut_for_drivers_that_end_loops() {
    let limit = 65_535;
    let target = Target {
        software: true,
        max_loop_iterations: Some(limit),
        product: ProductChoice::Staged,
        max_buffer_bytes: 1 << 40,
        max_binding_bytes: 1 << 34,
        ..Target::webgpu()
    };
    let config = forecaster(20_000, 4);
    let plan = planned(&config, &target, (40, 300));
    let longest = dispatches(&plan)
        .filter(|dispatch| dispatch.kernel.id == KernelId::MatMulStaged)
        .map(|dispatch| dispatch.iterations)
        .max()
        .unwrap();
    assert!(longest <= u64::from(limit), "{longest} iterations");
    let input = dispatches(&plan).find(|dispatch| dispatch.note == "layer0.x").unwrap();
    assert!(input.groups[2] > 1, "20,000 inputs take several slices: {:?}", input.groups);
}

/// A checkpoint keeps the kernels of its products, unless the device was opened with others.
#[test]
fn a_resumed_run_keeps_its_products() {
    let (Some(staged), Some(auto), Some(streamed)) =
        (gpu(ProductChoice::Staged), gpu(ProductChoice::Auto), gpu(ProductChoice::Streamed))
    else {
        return;
    };
    let config = wide();
    let network = Network::new(&Device::Gpu(staged), &config, 1).unwrap();
    let trainer = Trainer::new(network, TrainConfig::new()).unwrap();
    let mut checkpoint = trainer.checkpoint(0, BTreeMap::new()).unwrap();
    let resumed = |gpu: &Gpu, checkpoint: &Checkpoint| {
        let device = Device::Gpu(gpu.clone());
        let trainer = Trainer::resume(&device, checkpoint, TrainConfig::new())?;
        match trainer.network().device() {
            Device::Gpu(gpu) => Ok(gpu.target().product),
            other => panic!("a GPU was given, not {other:?}"),
        }
    };
    let mut failures = Failures::new();
    for (device, expected) in [(&auto, ProductChoice::Staged), (&streamed, ProductChoice::Streamed)] {
        failures.check(expected.to_string(), || {
            let found: Result<_, gatefold::Error> = resumed(device, &checkpoint);
            assert_eq!(found.unwrap(), expected);
        });
    }
    failures.finish();
    checkpoint.metadata.insert("products".into(), "tiled".into());
    let error = resumed(&auto, &checkpoint).unwrap_err().to_string();
    assert!(error.contains("products of a checkpoint") && error.contains("tiled"), "{error}");
}
