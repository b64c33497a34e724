//! Layers lowered to plans that nobody runs: how many kernels they start, and with which constants.

use gatefold_model::{Activation, DenseConfig, EmbeddingConfig, LayerConfig, LstmConfig, NetworkConfig};
use gatefold_schedule::layer::{Lowering, Purpose, Sequence, Tape, backward, forward, recurrent};
use gatefold_schedule::{Element, Given, Half, ParameterLayout, ParameterSpans, Plan, Step, Target};
use gatefold_shaders::KernelId;

fn training<'a>(plan: &'a mut Plan, target: &'a Target, parameters: &'a ParameterSpans<'a>) -> Lowering<'a> {
    Lowering { plan, target, parameters, purpose: Purpose::Training, drops: true }
}

fn network(input: usize, layer: impl Into<LayerConfig>) -> (NetworkConfig, ParameterLayout) {
    let config = NetworkConfig::new(input, [layer.into()]).unwrap();
    let layout = ParameterLayout::new(&config, &Target::webgpu());
    (config, layout)
}

/// Six token numbers.
fn tokens(plan: &mut Plan) -> Sequence {
    Sequence { span: plan.given(Given::Input(Half::Input), 6), steps: 3, batch: 2, width: 1 }
}

/// Embeddings that are frozen sort nothing.
#[test]
fn a_frozen_embedding_has_no_backward() {
    let (config, layout) = network(1, EmbeddingConfig::new(9, 2));
    let mut plan = Plan::default();
    let x = tokens(&mut plan);
    let d_y = Sequence { span: plan.given(Given::DOutput, 12), width: 2, ..x };
    let (parameters, target) = (ParameterSpans::new(&layout, |_| false), Target::webgpu());
    let mut low = training(&mut plan, &target, &parameters);
    let layer = &config.layers()[0];
    assert!(backward(&mut low, layer, &Tape::Embedding { x }, d_y, true).unwrap().is_none());
    assert_eq!(plan.dispatches(), 0);
}

/// More tokens take another pass of the sort for every six bits.
#[test]
fn embeddings_start_few_kernels() {
    for (count, expected) in [(1, 5), (64, 5), (65, 8), (4096, 8), (4097, 11), (1 << 24, 14)] {
        let (config, layout) = network(1, EmbeddingConfig::new(count, 1));
        let mut plan = Plan::default();
        let x = tokens(&mut plan);
        let (parameters, target) = (ParameterSpans::new(&layout, |_| true), Target::webgpu());
        let mut low = training(&mut plan, &target, &parameters);
        backward(&mut low, &config.layers()[0], &Tape::Embedding { x }, x, false).unwrap();
        assert_eq!(plan.dispatches(), expected, "{count} tokens");
    }
}

/// Where rows have lengths, each product over all steps is told, forward and back.
#[test]
fn products_pass_over_padded_steps() {
    let layers: [LayerConfig; 2] = [
        LstmConfig::new(8).projection(4).into(),
        DenseConfig::new(2).activation(Activation::Softplus).into(),
    ];
    let config = NetworkConfig::new(3, layers).unwrap();
    let (mut plan, target) = (Plan::default(), Target::webgpu());
    let layout = ParameterLayout::new(&config, &target);
    let span = plan.given(Given::Input(Half::Input), 4 * 5 * 3);
    let x = Sequence { span, steps: 4, batch: 5, width: 3 };
    let lengths = Some(plan.given_as(Given::Lengths(Half::Input), Element::U32, 5));
    let parameters = ParameterSpans::new(&layout, |_| true);
    let mut low = training(&mut plan, &target, &parameters);
    let [lstm, dense] = config.layers() else { panic!("two layers") };
    recurrent::pack(&mut low, lstm);
    let tape = recurrent::forward(&mut low, lstm, x, lengths, &[None]).unwrap();
    let (y, kept) = forward(&mut low, dense, tape.output(), lengths).unwrap();
    let d = backward(&mut low, dense, &kept, y, true).unwrap();
    recurrent::backward(&mut low, lstm, &tape, d, &[None], true, false).unwrap();

    let mut products = 0;
    for step in plan.steps() {
        let Step::Dispatch(dispatch) = step else { continue };
        if dispatch.kernel.id == KernelId::MatMul {
            let [rows, inner] = ["SKIP_ROWS", "SKIP_INNER"].map(|name| dispatch.kernel.constant(name));
            assert_eq!(rows + inner, 1, "{}", dispatch.note);
            products += 1;
        }
    }
    assert_eq!(products, 8, "x, y and four gradients of weights, two of inputs");
}
