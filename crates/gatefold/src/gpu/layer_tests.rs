//! Layers lowered, run and compared with the reference: tensors begin in the middle of buffers, rows end early, gradients
//! meet others that are there already.

use super::{Gpu, GpuOptions, run_plan};
use crate::{DeviceChoice, Error};
use gatefold_model::{Activation, DenseConfig, EmbeddingConfig, Expansion, LayerConfig, NetworkConfig, Role};
use gatefold_reference::{linear, sequence};
use gatefold_schedule::layer::{
    Lowering, Purpose, STRETCH, Sequence, add, add_into, backward, broadcast_rows, fill, forward, mask_rows,
    side_by_side, split_side_by_side,
};
use gatefold_schedule::{Element, Given, ParameterLayout, ParameterSpans, Plan, Span, Target};
use ndarray::{Array2, Array3, ArrayView2, Axis};
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

/// A plan in the making, and the content of its given buffers.
struct Bench {
    gpu: Gpu,
    plan: Plan,
    given: Vec<(Given, Vec<f32>)>,
    /// The buffers that are read back, among the given ones.
    kept: Vec<usize>,
}

impl Bench {
    fn new(gpu: &Gpu) -> Bench {
        Bench { gpu: gpu.clone(), plan: Plan::default(), given: Vec::new(), kept: Vec::new() }
    }

    /// A buffer that the layers look up themselves.
    fn named(&mut self, given: Given, element: Element, values: Vec<f32>) -> Span {
        let span = self.plan.given_as(given.clone(), element, values.len());
        self.given.push((given, values));
        span
    }

    /// The number of the next buffer that nothing but the test knows.
    fn argument(&self) -> Given {
        Given::Argument(self.given.len())
    }

    /// A tensor that begins at element `before` of its buffer.
    fn tensor(&mut self, before: usize, values: &[f32]) -> Span {
        let all = [&vec![9.0; before], values].concat();
        self.named(self.argument(), Element::F32, all).part(before, values.len())
    }

    fn sequence(&mut self, before: usize, shape: (usize, usize, usize), values: &[f32]) -> Sequence {
        let span = self.tensor(before, values);
        Sequence { span, steps: shape.0, batch: shape.1, width: shape.2 }
    }

    /// Whole numbers as `u32`.
    fn words(&mut self, given: Given, values: &[usize]) -> Span {
        let values = values.iter().map(|&value| f32::from_bits(value as u32)).collect();
        self.named(given, Element::U32, values)
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

    /// Reads a span back after the plan has run.
    fn keep(&mut self, span: Span) {
        let to = self.named(self.argument(), Element::F32, vec![7.0; span.len]);
        self.plan.copy(span, to);
        self.kept.push(self.given.len() - 1);
    }

    /// The spans that were kept, in order.
    fn run(&self) -> Vec<Vec<f32>> {
        let given: Vec<(Given, &[f32])> =
            self.given.iter().map(|(given, values)| (given.clone(), values.as_slice())).collect();
        let mut found = run_plan(&self.gpu, &self.plan, &given).expect("the plan runs");
        self.kept.iter().map(|&at| std::mem::take(&mut found[at])).collect()
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

fn network(input: usize, layer: impl Into<LayerConfig>) -> (NetworkConfig, ParameterLayout) {
    let config = NetworkConfig::new(input, [layer.into()]).expect("the layer is a network");
    let layout = ParameterLayout::new(&config, &Target::webgpu());
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
        let (table, there) = (numbers(layout.chunks[0], 2), numbers(layout.chunks[0], 3));
        let d_y = numbers(steps * batch * width, 4);

        let mut bench = Bench::new(&gpu);
        bench.named(Given::Parameters(0), Element::F32, table.clone());
        bench.named(Given::Gradients(0), Element::F32, there.clone());
        let x = bench.sequence(3, (steps, batch, 1), &drawn);
        let d = bench.sequence(5, (steps, batch, width), &d_y);
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
        sequence::run_sums(&drawn, &order, tokens, rows(&d_y).view(), STRETCH, &mut sums);
        let mut want = rows(&there[..len]);
        sequence::add_runs(&drawn, &order, sums.view(), STRETCH, &mut want);
        assert_eq!(found[1], want.into_iter().collect::<Vec<f32>>(), "{tokens} tokens");
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
        let given = bench.sequence(7, shape, &x);
        let d = bench.sequence(1, shape, &d_y);
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
    let (layout, layer) = (ParameterLayout::new(&config, &Target::webgpu()), &config.layers()[1]);
    let (x, d_y) = (numbers(len, 7), numbers(len, 8));
    let mut bench = Bench::new(&gpu);
    let given = bench.sequence(2, shape, &x);
    let d = bench.sequence(65, shape, &d_y);
    let stream = sequence::DropoutStream { seed: 0xfedc_ba98_7654_3210, batch: 77, layer: 1 };
    bench.words(Given::DropoutKey, &[0x7654_3210, 0xfedc_ba98, 77, 0]);
    let (y, d_x) = bench.lower(&layout, Purpose::Training, |low| {
        let (y, tape) = forward(low, layer, given, None).expect("it is lowered");
        (y, backward(low, layer, &tape, d, true).expect("it is lowered").expect("it is wanted"))
    });
    bench.keep(y.span);
    bench.keep(d_x.span);
    let found = bench.run();
    assert_eq!(found[0], sequence::dropout(&x, 0, stream, rate));
    assert_eq!(found[1], sequence::dropout(&d_y, 0, stream, rate));

    let mut bench = Bench::new(&gpu);
    let given = bench.sequence(2, shape, &x);
    let (y, _) =
        bench.lower(&layout, Purpose::Inference, |low| forward(low, layer, given, None)).expect("it is");
    assert_eq!((y.span, bench.plan.steps().len()), (given.span, 0), "inference drops nothing");
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
        let given = bench.sequence(1, shape, &x);
        let d = bench.sequence(3, (1, batch, width), &d_y);
        let ends = lengths.map(|lengths| bench.words(bench.argument(), &lengths));
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
        let given = bench.sequence(1, (1, batch, width), &x);
        let d = bench.sequence(3, (steps, batch, width), &d_y);
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
            (numbers(rows * input, 13), numbers(layout.chunks[0], 14), numbers(rows * output, 15));
        for before in [0, 1, 4] {
            let mut bench = Bench::new(&gpu);
            bench.named(Given::Parameters(0), Element::F32, values.clone());
            bench.named(Given::Gradients(0), Element::F32, vec![0.0; layout.chunks[0]]);
            let given = bench.sequence(before, shape, &x);
            let d = bench.sequence(before, (steps, batch, output), &d_y);
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

#[test]
fn whole_tensors_wherever_they_begin() {
    let Some(gpu) = gpu() else { return };
    let shape @ (steps, batch, width) = (4, 3, 5);
    let len = steps * batch * width;
    let (a, b) = (numbers(len, 16), numbers(len, 17));
    let sum: Vec<f32> = a.iter().zip(&b).map(|(a, b)| a + b).collect();
    let mut bench = Bench::new(&gpu);
    let (x, other) = (bench.sequence(1, shape, &a), bench.sequence(70, shape, &b));
    let into = bench.tensor(3, &b);
    let mut wanted: Vec<Vec<f32>> = Vec::new();
    let mut keep = |bench: &mut Bench, span: Span, values: Vec<f32>| {
        bench.keep(span);
        wanted.push(values);
    };

    let out = add(&mut bench.plan, "a", x, other);
    keep(&mut bench, out.span, sum.clone());
    add_into(&mut bench.plan, x.span, into);
    keep(&mut bench, into, sum);

    let filled = bench.tensor(2, &[7.0; 6]);
    fill(&mut bench.plan, filled.part(1, 4), -2.5);
    keep(&mut bench, filled, vec![7.0, -2.5, -2.5, -2.5, -2.5, 7.0]);

    let rows = bench.tensor(2, &[7.0; 16]);
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

    let masked = bench.sequence(1, shape, &a);
    let lengths = bench.words(bench.argument(), &[4, 0, 2]);
    mask_rows(&mut bench.plan, masked, lengths);
    let zero =
        |(at, &a): (usize, &f32)| if at / (batch * width) < [4, 0, 2][at / width % batch] { a } else { 0.0 };
    keep(&mut bench, masked.span, a.iter().enumerate().map(zero).collect());

    for (k, (found, want)) in bench.run().into_iter().zip(wanted).enumerate() {
        assert_eq!(found, want, "tensor {k}");
    }
}
