//! Whole networks against central differences, in f64: every parameter, every input, every given state, with and without
//! lengths. The loss weighs outputs and final states at random.

use crate::common::{Shape, check_case};
use gatefold_model::{
    Activation, Bridge, Conv1dConfig, DecoderConfig, DenseConfig, Direction, EmbeddingConfig, Expansion,
    GruConfig, LayerConfig, LstmConfig, Merge, NetworkBuilder, NetworkConfig, RnnConfig, branch,
};
use gatefold_reference::Failures;

fn lstm(hidden: usize) -> LayerConfig {
    LstmConfig::new(hidden).into()
}

fn rnn(hidden: usize) -> LayerConfig {
    RnnConfig::new(hidden).into()
}

fn gru(hidden: usize) -> LayerConfig {
    GruConfig::new(hidden).into()
}

fn dense(output: usize, activation: Activation) -> LayerConfig {
    DenseConfig::new(output).activation(activation).into()
}

/// One row and one step; several of both; rows of different lengths, one of them empty.
fn check(failures: &mut Failures, name: &str, inputs: usize, layers: &[LayerConfig]) {
    check_case(failures, name, &Shape { states: true, ..Shape::new(inputs, 1, 1) }, layers);
    check_case(failures, name, &Shape::new(inputs, 4, 3), layers);
    let lengths = Shape { lengths: Some(vec![4, 0, 2]), states: true, ..Shape::new(inputs, 4, 3) };
    check_case(failures, &format!("{name}, lengths"), &lengths, layers);
}

#[test]
fn stacks_and_heads() {
    let mut list = Failures::new();
    let failures = &mut list;
    let identity = Activation::Identity;
    check(failures, "stacked", 2, &[lstm(5), lstm(5), gru(3)]);
    check(failures, "head on every step", 3, &[lstm(4), dense(5, Activation::Relu), dense(2, identity)]);
    check(failures, "last step", 1, &[gru(3), lstm(2), LayerConfig::LastStep, dense(4, Activation::Sigmoid)]);
    check(failures, "last step between layers", 2, &[lstm(3), LayerConfig::LastStep, lstm(2)]);
    check(failures, "dense first", 3, &[dense(4, Activation::Tanh), lstm(2)]);
    let unbiased = |activation| DenseConfig::new(3).activation(activation).bias(false).into();
    check(failures, "without biases", 2, &[lstm(3), unbiased(Activation::Softplus), unbiased(identity)]);
    let tied = |to| LayerConfig::Tied { to };
    check(failures, "tied", 4, &[lstm(4), tied(0), dense(4, Activation::Tanh), tied(2), tied(0)]);
    list.finish();
}

#[test]
fn dense_layers_with_functions_of_every_kind() {
    let mut list = Failures::new();
    let failures = &mut list;
    let odd = [Activation::Elu { alpha: -0.5 }, Activation::LeakyRelu { alpha: -0.2 }];
    for activation in Activation::ALL.into_iter().chain(odd) {
        check(failures, &format!("dense {activation}"), 2, &[dense(3, activation), rnn(2)]);
    }
    list.finish();
}

#[test]
fn softmax_residual_and_dropout() {
    let mut list = Failures::new();
    let failures = &mut list;
    check(failures, "softmax", 2, &[gru(3), dense(4, Activation::Identity), LayerConfig::Softmax]);
    check(failures, "softmax between layers", 2, &[rnn(3), LayerConfig::Softmax, rnn(2)]);
    let residual = |from| LayerConfig::Residual { from };
    check(
        failures,
        "residual",
        3,
        &[lstm(3), residual(0), gru(3), residual(1), residual(0), dense(2, Activation::Tanh)],
    );
    let dropout = |rate| LayerConfig::Dropout { rate };
    let layers = [lstm(3), dropout(0.4), lstm(3), dropout(0.2), dense(2, Activation::Tanh)];
    check(failures, "dropout, off", 2, &layers);
    check_case(failures, "dropout", &Shape { dropout: true, ..Shape::new(2, 4, 3) }, &layers);
    let lengths = Shape { dropout: true, lengths: Some(vec![1, 4, 0]), ..Shape::new(2, 4, 3) };
    check_case(failures, "dropout, lengths", &lengths, &layers);
    list.finish();
}

#[test]
fn normalisation_and_pooling() {
    let mut list = Failures::new();
    let failures = &mut list;
    let normalise = |epsilon| LayerConfig::Normalise { epsilon };
    check(failures, "normalise", 3, &[normalise(0.1), lstm(4), normalise(1e-5), dense(2, Activation::Tanh)]);
    check(failures, "normalise at the end", 2, &[gru(3), normalise(0.01)]);
    check(failures, "tied normalise", 3, &[normalise(0.1), rnn(3), LayerConfig::Tied { to: 0 }]);
    for pool in [LayerConfig::MaxPool, LayerConfig::MeanPool] {
        check(failures, "pool", 2, &[gru(3), normalise(0.1), pool.clone(), dense(2, Activation::Tanh)]);
        check(failures, "pool alone", 3, std::slice::from_ref(&pool));
        let expand = LayerConfig::Expand { steps: 3, fill: Expansion::Repeat };
        check(failures, "pool of an expansion", 2, &[rnn(2), LayerConfig::LastStep, expand, rnn(2), pool]);
    }
    list.finish();
}

#[test]
fn parallel_branches() {
    let mut list = Failures::new();
    let failures = &mut list;
    let mut check = |name: &str, network: NetworkBuilder| {
        let config = network.build().unwrap();
        check(failures, name, config.input(), config.layer_configs());
    };
    let network = NetworkConfig::with_input;
    let (sum, concatenate) = (Merge::Sum, Merge::Concatenate);
    check(
        "a linear path beside a recurrent one",
        network(2).parallel(sum, [branch().gru(3).last_step().dense(2), branch().last_step().dense(2)]),
    );
    check(
        "side by side, one without layers",
        network(2)
            .rnn(3)
            .parallel(concatenate, [branch().lstm(2), branch(), branch().gru(1).dense(4)])
            .dense(2),
    );
    check(
        "residual in a branch and from the branches",
        network(3)
            .parallel(sum, [branch().lstm(3).residual(0).dense(3), branch().gru(3).rnn(3).residual(4)])
            .residual(6),
    );
    check(
        "branches in branches, of a final state",
        network(2).gru(3).parallel(
            sum,
            [
                branch().final_state().dense(3),
                branch().last_step().parallel(concatenate, [branch().dense(2), branch().dense(1)]),
            ],
        ),
    );
    check(
        "tied across branches",
        network(2).parallel(concatenate, [branch().lstm(2), branch().tied(0)]).dense(1),
    );
    list.finish();
}

#[test]
fn convolutions_in_branches() {
    let mut list = Failures::new();
    let failures = &mut list;
    let conv = Conv1dConfig::new;
    let beside = |window: usize| {
        let recurrent = branch().layer(conv(3, 3).stride(3)).gru(2).last_step().dense(2);
        let linear = branch().conv1d(2, window).last_step();
        NetworkConfig::with_input(2).parallel(Merge::Sum, [recurrent, linear]).build().unwrap()
    };
    // Both leave floor((T - 1) / 2) steps of T.
    let equal = NetworkConfig::with_input(2)
        .parallel(
            Merge::Concatenate,
            [
                branch().layer(conv(3, 3).stride(2)).gru(2),
                branch().layer(conv(2, 5).padding(1, 1).stride(2).activation(Activation::Tanh)),
            ],
        )
        .rnn(2)
        .build()
        .unwrap();
    let lengths = || Some(vec![9, 0, 5, 7]);
    let cases = [
        ("a window beside a recurrence", beside(9), None),
        ("the last five steps beside a recurrence", beside(5), lengths()),
        ("equal steps", equal.clone(), None),
        ("equal steps, lengths", equal, lengths()),
    ];
    for (name, config, lengths) in cases {
        let shape = Shape { lengths, states: true, ..Shape::new(2, 9, 4) };
        check_case(failures, name, &shape, config.layer_configs());
    }
    list.finish();
}

#[test]
fn embeddings() {
    let mut list = Failures::new();
    let failures = &mut list;
    let layers =
        [EmbeddingConfig::new(5, 3).into(), gru(2), dense(5, Activation::Identity), LayerConfig::Softmax];
    for lengths in [None, Some(vec![6, 0, 3])] {
        let shape = Shape { tokens: Some(5), lengths, ..Shape::new(1, 6, 3) };
        check_case(failures, "embedding", &shape, &layers);
    }
    list.finish();
}

#[test]
fn final_states_and_expansion() {
    let mut list = Failures::new();
    let failures = &mut list;
    for direction in
        [Direction::Forward, Direction::Reverse, Direction::Bidirectional, Direction::BidirectionalSum]
    {
        let layers = [
            GruConfig::new(2).direction(direction).skip(2).into(),
            LayerConfig::FinalState,
            dense(3, Activation::Tanh),
        ];
        check(failures, &format!("final state, {direction:?}"), 2, &layers);
    }
    let projected = LstmConfig::new(3).projection(2).direction(Direction::Bidirectional).into();
    check(failures, "final state of a projection", 2, &[projected, LayerConfig::FinalState]);
    let fed_back = RnnConfig::new(3).feedback(2, Activation::Tanh).into();
    check(failures, "final state after a readout", 2, &[fed_back, LayerConfig::FinalState]);
    for fill in [Expansion::Zeros, Expansion::Repeat] {
        let expand = LayerConfig::Expand { steps: 3, fill };
        check(
            failures,
            &format!("{fill:?} in the middle"),
            2,
            &[gru(3), LayerConfig::LastStep, expand.clone(), lstm(2)],
        );
        check_case(
            failures,
            &format!("{fill:?}"),
            &Shape { states: true, ..Shape::new(2, 1, 3) },
            &[expand, lstm(2)],
        );
    }
    list.finish();
}

#[test]
fn convolutions() {
    let mut list = Failures::new();
    let failures = &mut list;
    let conv = Conv1dConfig::new;
    let causal = || conv(3, 2).causal().activation(Activation::Tanh);
    check(failures, "causal", 3, &[causal().into(), LayerConfig::Residual { from: 0 }, lstm(2)]);
    check(failures, "causal with gaps", 2, &[causal().dilation(2).into(), causal().stride(2).into()]);
    check(
        failures,
        "padded",
        2,
        &[conv(3, 4).padding(3, 2).activation(Activation::Elu { alpha: -0.5 }).into()],
    );
    check(failures, "pointwise", 2, &[gru(2), conv(2, 1).bias(false).into(), LayerConfig::LastStep]);
    let longer = |failures: &mut Failures, name: &str, layers: &[LayerConfig]| {
        check_case(failures, name, &Shape { states: true, ..Shape::new(2, 9, 3) }, layers);
        let lengths = Shape { lengths: Some(vec![9, 0, 5, 7]), states: true, ..Shape::new(2, 9, 4) };
        check_case(failures, &format!("{name}, lengths"), &lengths, layers);
        let padded = Shape { lengths: Some(vec![6, 5]), dropout: true, ..Shape::new(2, 9, 2) };
        check_case(failures, &format!("{name}, padding after the longest row"), &padded, layers);
    };
    let dropout = || LayerConfig::Dropout { rate: 0.3 };
    longer(
        failures,
        "strided before a recurrence",
        &[conv(3, 3).stride(2).into(), dropout(), lstm(3), dense(1, Activation::Tanh)],
    );
    longer(
        failures,
        "in both directions",
        &[conv(2, 2).dilation(3).into(), GruConfig::new(2).bidirectional().into(), LayerConfig::FinalState],
    );
    longer(
        failures,
        "after a recurrence",
        &[lstm(2), conv(3, 4).activation(Activation::Softplus).into(), LayerConfig::LastStep],
    );
    longer(
        failures,
        "twice",
        &[
            conv(2, 2).stride(2).padding(0, 1).into(),
            LayerConfig::Tied { to: 0 },
            rnn(2),
            conv(1, 2).causal().into(),
        ],
    );
    let window = [conv(4, 5).activation(Activation::Tanh).into(), dense(2, Activation::Identity)];
    check_case(failures, "one window", &Shape::new(3, 5, 2), &window);
    let expand = LayerConfig::Expand { steps: 4, fill: Expansion::Repeat };
    check(
        failures,
        "after an expansion",
        2,
        &[gru(3), LayerConfig::LastStep, expand, lstm(2), conv(2, 3).into()],
    );
    let tokens = [EmbeddingConfig::new(5, 3).into(), conv(2, 3).into(), gru(2)];
    let shape = Shape { tokens: Some(5), lengths: Some(vec![6, 0, 3]), ..Shape::new(1, 6, 3) };
    check_case(failures, "tokens", &shape, &tokens);
    let encoder = [
        conv(2, 2).stride(2).into(),
        gru(3),
        DecoderConfig::new(1).into(),
        gru(3),
        dense(1, Activation::Identity),
    ];
    let decoder = Shape { decoder: Some((3, None)), lengths: Some(vec![6, 2, 5]), ..Shape::new(2, 6, 3) };
    check_case(failures, "in an encoder", &decoder, &encoder);
    list.finish();
}

fn check_decoder(failures: &mut Failures, name: &str, layers: &[LayerConfig]) {
    for (lengths, decoder_lengths) in
        [(None, None), (Some(vec![4, 0, 2]), None), (Some(vec![1, 4, 3]), Some(vec![0, 3, 1]))]
    {
        for states in [false, true] {
            let name = format!("{name}, {lengths:?}, {decoder_lengths:?}, given {states}");
            let decoder = Some((3, decoder_lengths.clone()));
            let shape = Shape { lengths: lengths.clone(), decoder, states, ..Shape::new(2, 4, 3) };
            check_case(failures, &name, &shape, layers);
        }
    }
}

#[test]
fn encoders_with_decoders() {
    let mut list = Failures::new();
    let failures = &mut list;
    let bridge = |activation| Bridge::Dense { activation };
    let decoder = |bridge| LayerConfig::from(DecoderConfig::new(1).bridge(bridge));
    let head = || dense(2, Activation::Identity);
    check_decoder(failures, "the same", &[lstm(3), lstm(3), decoder(Bridge::Same), lstm(3), lstm(3), head()]);
    check_decoder(
        failures,
        "more layers in the decoder",
        &[gru(3), decoder(Bridge::Same), gru(3), rnn(3), gru(3), head()],
    );
    check_decoder(failures, "fewer", &[lstm(2), lstm(3), decoder(bridge(Activation::Tanh)), lstm(4), head()]);
    check_decoder(
        failures,
        "c from h",
        &[gru(2), decoder(bridge(Activation::Identity)), lstm(3), gru(2), head()],
    );
    check_decoder(failures, "c left out", &[lstm(2), decoder(Bridge::Same), gru(2), head()]);
    let both = |hidden| LstmConfig::new(hidden).direction(Direction::Bidirectional);
    check_decoder(failures, "both directions", &[both(2).into(), decoder(Bridge::Same), lstm(4), head()]);
    check_decoder(
        failures,
        "skips, projections, a readout",
        &[
            both(2).skip(2).projection(3).into(),
            decoder(bridge(Activation::Softsign)),
            GruConfig::new(3).skip(2).feedback(2, Activation::Tanh).into(),
            lstm(2),
        ],
    );
    check_decoder(
        failures,
        "dilations",
        &[
            both(2).dilation(2).into(),
            decoder(bridge(Activation::Softsign)),
            LstmConfig::new(3).dilation(3).into(),
            GruConfig::new(3).dilation(2).into(),
        ],
    );
    check_decoder(
        failures,
        "residual and last step",
        &[
            lstm(2),
            decoder(Bridge::Same),
            dense(2, Activation::Tanh),
            lstm(2),
            LayerConfig::Residual { from: 3 },
            LayerConfig::LastStep,
        ],
    );
    let bridged = [
        EmbeddingConfig::new(4, 3).into(),
        gru(2),
        decoder(Bridge::Same),
        EmbeddingConfig::new(4, 2).into(),
        gru(2),
        head(),
    ];
    let shape = Shape { tokens: Some(4), decoder: Some((3, None)), ..Shape::new(1, 5, 3) };
    check_case(failures, "tokens to tokens", &shape, &bridged);
    list.finish();
}
