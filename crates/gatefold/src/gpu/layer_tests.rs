//! Layers lowered, run and compared with the reference: tensors begin in the middle of buffers, rows end early, gradients
//! meet others that are there already.

use super::elementwise::{broadcast_rows, fill};
use super::*;
use crate::parameters::{GRADIENTS, ParameterLayout, VALUES};
use crate::plan::Step;
use crate::run::Compiled;
use crate::{DeviceChoice, Gpu, GpuOptions};
use gatefold_model::{
    Activation, DenseConfig, EmbeddingConfig, Expansion, LayerConfig, LstmConfig, NetworkConfig, Role,
};
use gatefold_reference::{linear, sequence};
use gatefold_shaders::KernelId;
use ndarray::{Array2, Array3, ArrayView2, Axis};
use std::collections::HashMap;
use std::io::Write as _;

/// The rounding of one operation in `f32`.
const U: f64 = 1.0 / (1u64 << 24) as f64;

/// A GPU, or none where there is no adapter and none is demanded.
fn gpu() -> Option<Gpu> {
    match Gpu::request(&DeviceChoice::Gpu, &GpuOptions::new()) {
        Ok(gpu) => gpu,
        Err(error @ Error::NoAdapter { .. })
            if std::env::var_os("GATEFOLD_GPU").is_none_or(|value| value != "require") =>
        {
            // Past the test runner, which keeps what passing tests print to itself.
            let _ = writeln!(std::io::stderr(), "skipped: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// A plan in the making, with what its given buffers hold.
struct Bench {
    gpu: Gpu,
    plan: Plan,
    given: HashMap<String, Vec<f32>>,
    kept: usize,
}

impl Bench {
    fn new(gpu: &Gpu) -> Bench {
        Bench { gpu: gpu.clone(), plan: Plan::default(), given: HashMap::new(), kept: 0 }
    }

    /// A tensor that begins at element `before` of its buffer.
    fn given(&mut self, name: &str, before: usize, values: &[f32]) -> Span {
        self.given.insert(name.into(), [&vec![9.0; before], values].concat());
        self.plan.given(name, before + values.len()).part(before, values.len())
    }

    fn sequence(
        &mut self,
        name: &str,
        before: usize,
        shape: (usize, usize, usize),
        values: &[f32],
    ) -> Sequence {
        let span = self.given(name, before, values);
        Sequence { span, steps: shape.0, batch: shape.1, width: shape.2 }
    }

    /// Whole numbers as `u32`.
    fn words(&mut self, name: &str, values: &[usize]) -> Span {
        let values: Vec<f32> = values.iter().map(|&value| f32::from_bits(value as u32)).collect();
        self.given(name, 0, &values)
    }

    /// Lowers with the parameters of a network, all of them trained.
    fn lower<T>(
        &mut self,
        layout: &ParameterLayout,
        purpose: Purpose,
        with: impl FnOnce(&mut Lowering<'_>) -> T,
    ) -> T {
        let parameters = ParameterSpans::new(layout, |_| true);
        let target = self.gpu.target().clone();
        let mut low = Lowering {
            plan: &mut self.plan,
            target: &target,
            parameters: &parameters,
            purpose,
            drops: purpose == Purpose::Training,
        };
        with(&mut low)
    }

    /// To be read back, under the number that is returned.
    fn keep(&mut self, span: Span) -> usize {
        let name = format!("kept{}", self.kept);
        self.given.insert(name.clone(), vec![7.0; span.len]);
        let to = self.plan.given(name, span.len);
        self.plan.copy(span, to);
        self.kept += 1;
        self.kept - 1
    }

    /// What was kept, in order.
    fn run(&self) -> Vec<Vec<f32>> {
        let buffers: HashMap<String, _> = self
            .given
            .iter()
            .map(|(name, values)| {
                let buffer = crate::buffer::DeviceBuffer::with_values(&self.gpu, name, values);
                (name.clone(), buffer.expect("the device has room"))
            })
            .collect();
        let given = buffers.iter().map(|(name, buffer)| (name.clone(), buffer.raw().clone())).collect();
        let compiled = Compiled::new(&self.gpu, &self.plan, &given).expect("the plan compiles");
        compiled.submit().expect("the plan runs");
        let read = |k| {
            let name = format!("kept{k}");
            buffers[&name].read(0, self.given[&name].len()).expect("it is read back")
        };
        (0..self.kept).map(read).collect()
    }
}

/// Numbers in [-1, 1) that look random.
fn numbers(len: usize, seed: u32) -> Vec<f32> {
    let word = |i: usize| sequence::threefry2x32([seed, 1], [i as u32, 0])[0];
    (0..len).map(|i| (word(i) >> 8) as f32 / (1u32 << 23) as f32 - 1.0).collect()
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&value| f64::from(value)).collect()
}

fn matrix(values: &[f32], columns: usize) -> Array2<f64> {
    Array2::from_shape_vec((values.len() / columns, columns), wide(values)).expect("whole rows")
}

fn cube(values: &[f32], shape: (usize, usize, usize)) -> Array3<f64> {
    Array3::from_shape_vec(shape, wide(values)).expect("as many as the shape has")
}

/// Within `4 u sqrt(terms)` of the tensor's scale and `extra` roundings of it; with no terms the same numbers.
#[track_caller]
fn assert_near(what: &str, found: &[f32], want: impl IntoIterator<Item = f64>, terms: usize, extra: f64) {
    let want: Vec<f64> = want.into_iter().collect();
    assert_eq!(found.len(), want.len(), "{what}");
    let scale = want.iter().fold(0.0f64, |scale, want| scale.max(want.abs()));
    let allowed = (4.0 * (terms as f64).sqrt() + extra) * U * scale;
    for (at, (&found, want)) in found.iter().zip(want).enumerate() {
        assert!((f64::from(found) - want).abs() <= allowed, "{what} at {at}: {found}, reference {want}");
    }
}

/// A lowering that nobody runs.
fn training<'a>(plan: &'a mut Plan, target: &'a Target, parameters: &'a ParameterSpans<'a>) -> Lowering<'a> {
    Lowering { plan, target, parameters, purpose: Purpose::Training, drops: true }
}

fn network(input: usize, layer: impl Into<LayerConfig>) -> (NetworkConfig, ParameterLayout) {
    let config = NetworkConfig::new(input, [layer.into()]).expect("the layer is a network");
    let layout = ParameterLayout::new(&config);
    (config, layout)
}

#[test]
fn embeddings_gather_rows_and_add_up_their_gradients() {
    let Some(gpu) = gpu() else { return };
    let (steps, batch, width) = (29, 23, 5);
    for tokens in [1, 3, 65, 5000] {
        let (config, layout) = network(1, EmbeddingConfig::new(tokens, width));
        let layer = &config.layers()[0];
        let drawn: Vec<f32> =
            numbers(steps * batch, 1).iter().map(|x| ((x + 1.0) / 2.0 * tokens as f32).floor()).collect();
        let (table, there) = (numbers(layout.len, 2), numbers(layout.len, 3));
        let d_y = numbers(steps * batch * width, 4);

        let mut bench = Bench::new(&gpu);
        bench.given(VALUES, 0, &table);
        bench.given(GRADIENTS, 0, &there);
        let x = bench.sequence("x", 3, (steps, batch, 1), &drawn);
        let d = bench.sequence("d_y", 5, (steps, batch, width), &d_y);
        let (y, gradient) = bench.lower(&layout, Purpose::Training, |low| {
            let (y, tape) = forward(low, layer, x, None).expect("it is lowered");
            let d_x = backward(low, layer, &tape, d, true).expect("it is lowered");
            assert!(d_x.is_none(), "token numbers have no gradient");
            let gradient = low.parameters.gradient(low.plan, layer, Role::EmbeddingWeight);
            (y, gradient.expect("it is trained"))
        });
        assert_eq!((y.steps, y.batch, y.width), (steps, batch, width));
        bench.keep(y.span);
        bench.keep(gradient);
        let found = bench.run();

        let len = tokens * width;
        let want = sequence::gather_rows(&wide(&drawn), matrix(&table[..len], width).view());
        assert_near("y", &found[0], want, 0, 0.0);
        let mut want = matrix(&there[..len], width);
        sequence::scatter_rows(&wide(&drawn), matrix(&d_y, width).view(), &mut want);
        assert_near(&format!("{tokens} tokens"), &found[1], want, steps * batch + 1, 0.0);
        // Sums alone, in an order that no device chooses: the same bits.
        let token = |row: usize| drawn[row] as usize;
        let mut order: Vec<usize> = (0..steps * batch).collect();
        order.sort_by_key(|&row| token(row));
        let rows = |values: &[f32]| {
            Array2::from_shape_vec((values.len() / width, width), values.to_vec()).expect("whole rows")
        };
        let mut sums = Array2::zeros((steps * batch, width));
        sequence::run_sums(&drawn, &order, tokens, rows(&d_y).view(), embedding::STRETCH, &mut sums);
        let mut want = rows(&there[..len]);
        sequence::add_runs(&drawn, &order, sums.view(), embedding::STRETCH, &mut want);
        assert_eq!(found[1], want.into_iter().collect::<Vec<f32>>(), "{tokens} tokens");
    }
}

/// Embeddings that are frozen sort nothing.
#[test]
fn a_frozen_embedding_has_no_backward() {
    let (config, layout) = network(1, EmbeddingConfig::new(9, 2));
    let mut plan = Plan::default();
    let x = Sequence { span: plan.given("x", 6), steps: 3, batch: 2, width: 1 };
    let d_y = Sequence { span: plan.given("d_y", 12), width: 2, ..x };
    let (parameters, target) = (ParameterSpans::new(&layout, |_| false), Target::webgpu());
    let mut low = training(&mut plan, &target, &parameters);
    let layer = &config.layers()[0];
    assert!(backward(&mut low, layer, &Tape::Embedding { x }, d_y, true).expect("it is lowered").is_none());
    assert_eq!(plan.dispatches(), 0);
}

/// More tokens take another pass of the sort for every six bits.
#[test]
fn embeddings_start_few_kernels() {
    for (tokens, expected) in [(1, 5), (64, 5), (65, 8), (4096, 8), (4097, 11), (1 << 24, 14)] {
        let (config, layout) = network(1, EmbeddingConfig::new(tokens, 1));
        let mut plan = Plan::default();
        let x = Sequence { span: plan.given("x", 6), steps: 3, batch: 2, width: 1 };
        let (parameters, target) = (ParameterSpans::new(&layout, |_| true), Target::webgpu());
        let mut low = training(&mut plan, &target, &parameters);
        backward(&mut low, &config.layers()[0], &Tape::Embedding { x }, x, false).expect("it is lowered");
        assert_eq!(plan.dispatches(), expected, "{tokens} tokens");
    }
}

#[test]
fn softmax_is_taken_over_the_values_of_a_step() {
    let Some(gpu) = gpu() else { return };
    for shape @ (steps, batch, width) in [(3, 5, 1), (7, 9, 8), (3, 11, 40), (2, 3, 2000)] {
        let (config, layout) = network(width, LayerConfig::Softmax);
        let layer = &config.layers()[0];
        let (x, d_y) = (numbers(steps * batch * width, 5), numbers(steps * batch * width, 6));
        let x: Vec<f32> = x.iter().map(|x| 6.0 * x).collect();
        let mut bench = Bench::new(&gpu);
        let given = bench.sequence("x", 7, shape, &x);
        let d = bench.sequence("d_y", 1, shape, &d_y);
        let (y, d_x) = bench.lower(&layout, Purpose::Training, |low| {
            let (y, tape) = forward(low, layer, given, None).expect("it is lowered");
            assert!(backward(low, layer, &tape, d, false).expect("it is lowered").is_none());
            let d_x = backward(low, layer, &tape, d, true).expect("it is lowered");
            (y, d_x.expect("it is wanted"))
        });
        bench.keep(y.span);
        bench.keep(d_x.span);
        let found = bench.run();

        let want = sequence::softmax(matrix(&x, width).view());
        assert_near(&format!("y of {shape:?}"), &found[0], want.iter().copied(), width, 16.0);
        // From the outputs that the kernel was given: what they are off by is not the backward's.
        let want = sequence::softmax_backward(matrix(&found[0], width).view(), matrix(&d_y, width).view());
        assert_near(&format!("d_x of {shape:?}"), &found[1], want, width + 2, 16.0);
    }
}

#[test]
fn dropout_draws_the_zeros_of_the_reference_both_ways() {
    let Some(gpu) = gpu() else { return };
    let (shape, rate) = ((7, 5, 9), 0.3);
    let len = shape.0 * shape.1 * shape.2;
    let config =
        NetworkConfig::new(9, [LayerConfig::Softmax, LayerConfig::Dropout { rate }]).expect("it is one");
    let (layout, layer) = (ParameterLayout::new(&config), &config.layers()[1]);
    let (x, d_y) = (numbers(len, 7), numbers(len, 8));
    let mut bench = Bench::new(&gpu);
    let given = bench.sequence("x", 2, shape, &x);
    let d = bench.sequence("d_y", 65, shape, &d_y);
    let stream = sequence::DropoutStream { seed: 0xfedc_ba98_7654_3210, batch: 77, layer: 1 };
    bench.words(DROPOUT, &[0x7654_3210, 0xfedc_ba98, 77, 0]);
    let (y, d_x) = bench.lower(&layout, Purpose::Training, |low| {
        let (y, tape) = forward(low, layer, given, None).expect("it is lowered");
        (y, backward(low, layer, &tape, d, true).expect("it is lowered").expect("it is wanted"))
    });
    bench.keep(y.span);
    bench.keep(d_x.span);
    let found = bench.run();
    assert_eq!(found[0], sequence::dropout(&x, stream, rate));
    assert_eq!(found[1], sequence::dropout(&d_y, stream, rate));

    let mut bench = Bench::new(&gpu);
    let given = bench.sequence("x", 2, shape, &x);
    let (y, _) =
        bench.lower(&layout, Purpose::Inference, |low| forward(low, layer, given, None)).expect("it is");
    assert_eq!((y.span, bench.plan.steps.len()), (given.span, 0), "inference drops nothing");
}

#[test]
fn the_last_step_is_each_rows_own() {
    let Some(gpu) = gpu() else { return };
    let shape @ (steps, batch, width) = (6, 5, 3);
    let (config, layout) = network(width, LayerConfig::LastStep);
    let layer = &config.layers()[0];
    let (x, d_y) = (numbers(steps * batch * width, 9), numbers(batch * width, 10));
    for lengths in [None, Some([6, 0, 3, 1, 5])] {
        let mut bench = Bench::new(&gpu);
        let given = bench.sequence("x", 1, shape, &x);
        let d = bench.sequence("d_y", 3, (1, batch, width), &d_y);
        let ends = lengths.map(|lengths| bench.words("lengths", &lengths));
        let (y, d_x) = bench.lower(&layout, Purpose::Training, |low| {
            let (y, tape) = forward(low, layer, given, ends).expect("it is lowered");
            (y, backward(low, layer, &tape, d, true).expect("it is lowered").expect("it is wanted"))
        });
        assert_eq!((y.steps, d_x.steps), (1, steps));
        bench.keep(y.span);
        bench.keep(d_x.span);
        let found = bench.run();

        let lengths = lengths.unwrap_or([steps; 5]);
        let want = sequence::last_rows(&lengths, cube(&x, shape).view());
        assert_near("y", &found[0], want, 0, 0.0);
        let want = sequence::last_rows_backward(&lengths, matrix(&d_y, width).view(), steps);
        assert_near("d_x", &found[1], want, 0, 0.0);
    }
}

#[test]
fn one_step_becomes_several() {
    let Some(gpu) = gpu() else { return };
    let (batch, width) = (3, 7);
    let (x, len) = (numbers(batch * width, 11), batch * width);
    for (steps, fill) in [
        (1, Expansion::Zeros),
        (1, Expansion::Repeat),
        (5, Expansion::Zeros),
        (5, Expansion::Repeat),
        (1300, Expansion::Repeat),
    ] {
        let (config, layout) = network(width, LayerConfig::Expand { steps, fill });
        let layer = &config.layers()[0];
        let d_y = numbers(steps * len, 12);
        let mut bench = Bench::new(&gpu);
        let given = bench.sequence("x", 1, (1, batch, width), &x);
        let d = bench.sequence("d_y", 3, (steps, batch, width), &d_y);
        let (y, d_x) = bench.lower(&layout, Purpose::Training, |low| {
            let (y, tape) = forward(low, layer, given, None).expect("it is lowered");
            (y, backward(low, layer, &tape, d, true).expect("it is lowered").expect("it is wanted"))
        });
        assert_eq!((y.steps, d_x.steps), (steps, 1));
        bench.keep(y.span);
        bench.keep(d_x.span);
        let found = bench.run();

        let want = sequence::expand(cube(&x, (1, batch, width)).view(), steps, fill);
        assert_near("y", &found[0], want, 0, 0.0);
        let want = sequence::expand_backward(cube(&d_y, (steps, batch, width)).view(), fill);
        assert_near(&format!("d_x of {steps} {fill:?}"), &found[1], want, steps - 1, 0.0);
    }
    let (config, layout) = network(width, LayerConfig::Expand { steps: 2, fill: Expansion::Zeros });
    let mut bench = Bench::new(&gpu);
    let given = bench.sequence("x", 0, (3, 1, width), &x);
    let refused =
        bench.lower(&layout, Purpose::Inference, |low| forward(low, &config.layers()[0], given, None));
    assert_eq!(
        refused.expect_err("three steps are not one").to_string(),
        "input of layer 0 (expand): expected one step, found 3"
    );
}

#[test]
fn dense_layers_read_tensors_that_begin_anywhere() {
    let Some(gpu) = gpu() else { return };
    let shape @ (steps, batch, input) = (3, 5, 8);
    let (rows, output) = (steps * batch, 4);
    for activation in [Activation::Identity, Activation::Tanh] {
        let (config, layout) = network(input, DenseConfig::new(output).activation(activation));
        let layer = &config.layers()[0];
        let (x, values, d_y) =
            (numbers(rows * input, 13), numbers(layout.len, 14), numbers(rows * output, 15));
        for before in [0, 1, 4] {
            let mut bench = Bench::new(&gpu);
            bench.given(VALUES, 0, &values);
            bench.given(GRADIENTS, 0, &vec![0.0; layout.len]);
            let given = bench.sequence("x", before, shape, &x);
            let d = bench.sequence("d_y", before, (steps, batch, output), &d_y);
            let spans = bench.lower(&layout, Purpose::Training, |low| {
                let (_, tape) = forward(low, layer, given, None).expect("it is lowered");
                let d_x = backward(low, layer, &tape, d, true).expect("it is lowered").expect("it is wanted");
                let [weight, bias] = [Role::DenseWeight, Role::DenseBias]
                    .map(|role| low.parameters.gradient(low.plan, layer, role).expect("it is trained"));
                [d_x.span, weight, bias]
            });
            for span in spans {
                bench.keep(span);
            }
            let found = bench.run();

            let weight = matrix(&values[..output * input], input);
            let bias = matrix(&values[64..64 + output], output);
            let (x, d_y) = (matrix(&x, input), matrix(&d_y, output));
            let y = linear::dense_forward(x.view(), weight.view(), Some(bias.row(0)), activation);
            let want = linear::dense_backward(x.view(), weight.view(), y.view(), activation, d_y.view());
            let extra = if activation == Activation::Identity { 0.0 } else { 16.0 };
            assert_near("d_x", &found[0], want.d_x, output, extra);
            assert_near("d_weight", &found[1], want.d_weight, rows, extra);
            assert_near("d_bias", &found[2], want.d_bias, rows, extra);
        }
    }
}

/// Where rows have lengths, each product over all steps is told, forward and back.
#[test]
fn products_pass_over_padded_steps() {
    let layers: [LayerConfig; 2] = [
        LstmConfig::new(8).projection(4).into(),
        DenseConfig::new(2).activation(Activation::Softplus).into(),
    ];
    let config = NetworkConfig::new(3, layers).expect("it is a network");
    let layout = ParameterLayout::new(&config);
    let mut plan = Plan::default();
    let x = Sequence { span: plan.given("x", 4 * 5 * 3), steps: 4, batch: 5, width: 3 };
    let lengths = Some(plan.given("lengths", 5));
    let (parameters, target) = (ParameterSpans::new(&layout, |_| true), Target::webgpu());
    let mut low = training(&mut plan, &target, &parameters);
    let [lstm, dense] = config.layers() else { panic!("two layers") };
    recurrent::pack(&mut low, lstm);
    let tape = recurrent::forward(&mut low, lstm, x, lengths, &[None]).expect("it is lowered");
    let (y, kept) = forward(&mut low, dense, tape.output(), lengths).expect("it is lowered");
    let d = backward(&mut low, dense, &kept, y, true).expect("it is lowered");
    recurrent::backward(&mut low, lstm, &tape, d, &[None], true, false).expect("it is lowered");

    let mut products = 0;
    for step in &plan.steps {
        let Step::Dispatch(dispatch) = step else { continue };
        if dispatch.kernel.id == KernelId::MatMul {
            let [rows, inner] = ["SKIP_ROWS", "SKIP_INNER"].map(|name| dispatch.kernel.constant(name));
            assert_eq!(rows + inner, 1, "{}", dispatch.note);
            products += 1;
        }
    }
    assert_eq!(products, 8, "x, y and four gradients of weights, two of inputs");
}

#[test]
fn whole_tensors_wherever_they_begin() {
    let Some(gpu) = gpu() else { return };
    let shape @ (steps, batch, width) = (4, 3, 5);
    let len = steps * batch * width;
    let (a, b) = (numbers(len, 16), numbers(len, 17));
    let sum: Vec<f32> = a.iter().zip(&b).map(|(a, b)| a + b).collect();
    let mut bench = Bench::new(&gpu);
    let (x, other) = (bench.sequence("a", 1, shape, &a), bench.sequence("b", 70, shape, &b));
    let into = bench.given("into", 3, &b);
    let mut wanted: Vec<Vec<f32>> = Vec::new();
    let mut keep = |bench: &mut Bench, span: Span, values: Vec<f32>| {
        bench.keep(span);
        wanted.push(values);
    };

    let out = add(&mut bench.plan, "a", x, other);
    keep(&mut bench, out.span, sum.clone());
    add_into(&mut bench.plan, x.span, into);
    keep(&mut bench, into, sum);

    let filled = bench.given("filled", 2, &[7.0; 6]);
    fill(&mut bench.plan, filled.part(1, 4), -2.5);
    keep(&mut bench, filled, vec![7.0, -2.5, -2.5, -2.5, -2.5, 7.0]);

    let rows = bench.given("rows", 2, &[7.0; 16]);
    broadcast_rows(&mut bench.plan, x.span.part(width, width), rows.part(0, 3 * width));
    let row = &a[width..2 * width];
    keep(&mut bench, rows, [row, row, row, &[7.0]].concat());

    let narrow = Sequence { span: other.span.part(1, steps * batch * 2), width: 2, ..other };
    let both = side_by_side(&mut bench.plan, "both", &[x, narrow]);
    let view = |values: &[f32], width: usize| Array2::from_shape_vec((steps * batch, width), values.to_vec());
    let (left, right) =
        (view(&a, width).expect("rows"), view(&b[1..1 + steps * batch * 2], 2).expect("rows"));
    let beside = ndarray::concatenate(Axis(1), &[left.view(), right.view()]).expect("as many rows");
    let flat = |part: ArrayView2<f32>| part.iter().copied().collect::<Vec<f32>>();
    keep(&mut bench, both.span, flat(beside.view()));
    assert_eq!(both.width, width + 2);
    let pair = Sequence { span: x.span.part(0, steps * batch * 4), width: 4, ..x };
    let rows = view(&a[..steps * batch * 4], 4).expect("rows");
    for (part, k) in split_side_by_side(&mut bench.plan, "pair", pair, 2).into_iter().zip([0, 2]) {
        keep(&mut bench, part.span, flat(rows.slice(ndarray::s![.., k..k + 2])));
    }
    assert_eq!(side_by_side(&mut bench.plan, "one", &[x]).span, x.span, "one alone is not moved");
    assert_eq!(split_side_by_side(&mut bench.plan, "one", x, 1)[0].span, x.span);

    let masked = bench.sequence("masked", 1, shape, &a);
    let lengths = bench.words("lengths", &[4, 0, 2]);
    mask_rows(&mut bench.plan, masked, lengths);
    let zero =
        |(at, &a): (usize, &f32)| if at / (batch * width) < [4, 0, 2][at / width % batch] { a } else { 0.0 };
    keep(&mut bench, masked.span, a.iter().enumerate().map(zero).collect());

    for (k, (found, want)) in bench.run().into_iter().zip(wanted).enumerate() {
        assert_eq!(found, want, "tensor {k}");
    }
}
