//! Whole networks on the GPU, forward and backward, against the reference in `f64`.

use crate::Random;
use crate::compare::Tolerance;
use crate::selfcheck::Checks;
use gatefold::layers::{
    Activation, Biases, Conv1dConfig, Coupling, DenseConfig, Direction, EmbeddingConfig, Expansion,
    GruConfig, InitialState, LayerConfig, LayerKind, LstmConfig, Recurrent, Reset, RnnConfig,
};
use gatefold::{Device, Error, Gpu, Network, NetworkConfig, Parameters, TrainConfig, Trainer};
use gatefold_reference::loss;
use ndarray::Array3;

/// A network and the shape of its input.
#[derive(Clone, Debug)]
pub struct NetworkCase {
    /// The network.
    pub config: NetworkConfig,
    /// T
    pub steps: usize,
    /// B
    pub batch: usize,
    /// The seed of parameters and data.
    pub seed: u64,
}

/// Short names for the layers of the cases.
fn lstm(hidden: usize) -> LayerConfig {
    LstmConfig::new(hidden).into()
}

fn dense(output: usize, activation: Activation) -> LayerConfig {
    DenseConfig::new(output).activation(activation).into()
}

fn embedding(tokens: usize, width: usize) -> LayerConfig {
    EmbeddingConfig::new(tokens, width).into()
}

const LAST: LayerConfig = LayerConfig::LastStep;
const LINEAR: Activation = Activation::Identity;

/// Convolutions before, between and after other layers, over windows of the whole sequence and over many steps.
fn convolutions() -> Vec<NetworkCase> {
    let conv = |output, kernel| Conv1dConfig::new(output, kernel);
    let relu = Activation::Relu;
    vec![
        NetworkCase::new(1, vec![conv(1, 1).into()], 1, 1),
        NetworkCase::new(3, vec![conv(7, 3).stride(2).activation(relu).into(), lstm(5), LAST], 11, 5),
        NetworkCase::new(
            4,
            vec![
                conv(4, 2).causal().activation(Activation::Tanh).into(),
                LayerConfig::Residual { from: 0 },
                conv(4, 2).causal().dilation(2).into(),
                LayerConfig::Tied { to: 0 },
                dense(2, LINEAR),
            ],
            9,
            3,
        ),
        NetworkCase::new(2, vec![lstm(6), conv(3, 4).padding(2, 3).bias(false).into(), lstm(4)], 7, 17),
        // A network on a window, and periods of a longer one.
        NetworkCase::new(3, vec![conv(8, 24).activation(relu).into(), dense(2, LINEAR)], 24, 6),
        NetworkCase::new(2, vec![conv(5, 24).stride(24).into(), GruConfig::new(4).into(), LAST], 168, 3),
        NetworkCase::new(3, vec![conv(2, 7).stride(3).padding(0, 2).into()], 300, 33),
        // More values than a driver can walk in one loop.
        NetworkCase::new(11_003, vec![conv(2, 7).into()], 8, 1),
    ]
}

/// Normalised values and pools of them, over long and wide sequences too.
fn pools() -> Vec<NetworkCase> {
    let normalise = LayerConfig::Normalise { epsilon: 1e-5 };
    let mut cases = vec![
        NetworkCase::new(7, vec![normalise.clone(), lstm(9), normalise.clone(), dense(2, LINEAR)], 5, 3),
        NetworkCase::new(65, vec![normalise.clone(), dense(3, Activation::Tanh)], 4, 7),
        NetworkCase::new(1_100, vec![normalise.clone(), dense(2, LINEAR)], 2, 3),
    ];
    for pool in [LayerConfig::MaxPool, LayerConfig::MeanPool] {
        cases.push(NetworkCase::new(3, vec![lstm(7), pool.clone(), dense(2, LINEAR)], 1, 2));
        cases.push(NetworkCase::new(3, vec![lstm(8), normalise.clone(), pool.clone()], 11, 5));
        cases.push(NetworkCase::new(2, vec![lstm(5), pool.clone(), dense(2, LINEAR)], 300, 3));
        cases.push(NetworkCase::new(70, vec![pool, dense(2, LINEAR)], 4, 33));
    }
    cases
}

/// Every cell and option, alone and next to each other.
fn recurrent_cases() -> Vec<NetworkCase> {
    use gatefold::layers::{GruActivations, LstmActivations};
    let odd = Activation::Elu { alpha: -0.7 };
    let both = |direction| (LstmConfig::new(5).direction(direction), GruConfig::new(9).direction(direction));
    let (lstm_both, gru_sum) = (both(Direction::Bidirectional).0, both(Direction::BidirectionalSum).1);
    let lstm = |hidden| LstmConfig::new(hidden);
    let gates = LstmActivations {
        gate: Activation::HardSigmoid { alpha: 0.2, beta: 0.5 },
        candidate: Activation::Softsign,
        output: odd,
    };
    let configs: Vec<(usize, LayerConfig)> = vec![
        (3, RnnConfig::new(7).into()),
        (3, RnnConfig::new(33).activation(Activation::Relu).clip(0.6).into()),
        (3, RnnConfig::new(5).activation(odd).skip(3).into()),
        (3, RnnConfig::new(33).dilation(2).into()),
        (3, RnnConfig::new(5).feedback(4, Activation::Tanh).into()),
        (3, RnnConfig::new(5).feedback(4, odd).skip(2).direction(Direction::Reverse).into()),
        (4, GruConfig::new(7).into()),
        (4, GruConfig::new(33).biases(Biases::One).direction(Direction::Reverse).into()),
        (4, GruConfig::new(6).biases(Biases::None).clip(0.5).initial_state(InitialState::Learned).into()),
        (4, GruConfig::new(6).skip(2).initial_state(InitialState::Constant(0.3)).into()),
        (4, GruConfig::new(6).dilation(7).direction(Direction::Reverse).into()),
        (4, GruConfig::new(6).feedback(3, Activation::Sigmoid).into()),
        (4, GruConfig::new(7).reset(Reset::Before).into()),
        (4, GruConfig::new(33).reset(Reset::Before).clip(0.4).initial_state(InitialState::Learned).into()),
        (4, GruConfig::new(5).reset(Reset::Before).direction(Direction::Reverse).into()),
        (4, GruConfig::new(5).reset(Reset::Before).feedback(3, Activation::Tanh).into()),
        (
            4,
            GruConfig::new(5)
                .activations(GruActivations { gate: Activation::Sigmoid, candidate: odd })
                .reset(Reset::Before)
                .into(),
        ),
        (3, lstm(7).peephole().into()),
        (3, lstm(7).peephole().coupled(Coupling::Input).clip(0.7).into()),
        (3, lstm(7).coupled(Coupling::Forget).peephole().direction(Direction::Reverse).into()),
        (3, lstm(33).squashed().into()),
        (3, lstm(6).squashed().biases(Biases::Two).peephole().coupled(Coupling::Input).into()),
        (3, lstm(6).activations(gates).into()),
        (3, lstm(6).activations(gates).peephole().clip(2.0).initial_state(InitialState::Learned).into()),
        (3, lstm(7).projection(4).into()),
        (3, lstm(33).projection(5).skip(3).peephole().initial_state(InitialState::Learned).into()),
        (3, lstm(6).projection(2).direction(Direction::Bidirectional).into()),
        (3, lstm(7).dilation(3).peephole().direction(Direction::Bidirectional).into()),
        (3, lstm(6).feedback(5, Activation::Softplus).skip(2).into()),
        (3, lstm(6).skip(7).initial_state(InitialState::Learned).direction(Direction::Reverse).into()),
        (3, lstm_both.clone().initial_state(InitialState::Learned).into()),
        (3, gru_sum.clone().into()),
    ];
    let mut cases: Vec<NetworkCase> =
        configs.into_iter().map(|(input, layer)| NetworkCase::new(input, vec![layer], 5, 3)).collect();
    // Stacks of several kinds, and a single step.
    cases.push(NetworkCase::new(
        3,
        vec![lstm_both.into(), gru_sum.into(), RnnConfig::new(4).into(), dense(2, odd)],
        6,
        17,
    ));
    cases.push(NetworkCase::new(
        3,
        vec![
            lstm(5).into(),
            lstm(5).dilation(2).into(),
            lstm(5).dilation(4).into(),
            LayerConfig::Residual { from: 1 },
            LayerConfig::LastStep,
            dense(2, odd),
        ],
        7,
        3,
    ));
    cases.push(NetworkCase::new(2, vec![GruConfig::new(3).reset(Reset::Before).into()], 1, 1));
    cases
}

impl NetworkCase {
    fn new(input: usize, layers: Vec<LayerConfig>, steps: usize, batch: usize) -> NetworkCase {
        let config = NetworkConfig::new(input, layers).expect("the cases are valid");
        NetworkCase { config, steps, batch, seed: 30 }
    }

    /// Every kind of layer in every place, over sizes that some limit or tile does not divide.
    pub fn all() -> Vec<NetworkCase> {
        let mut cases = vec![
            // The smallest.
            NetworkCase::new(1, vec![lstm(1)], 1, 1),
            NetworkCase::new(1, vec![dense(1, LINEAR)], 1, 1),
            // An LSTM at the end of the network; a single step, which has no recurrent gradient.
            NetworkCase::new(3, vec![lstm(7)], 5, 3),
            NetworkCase::new(3, vec![lstm(7), lstm(7)], 1, 2),
            // Stacks, equal and not, to a last step and a head.
            NetworkCase::new(
                2,
                vec![lstm(8), lstm(8), LAST, dense(5, Activation::Relu), dense(1, LINEAR)],
                7,
                4,
            ),
            NetworkCase::new(5, vec![lstm(13), lstm(31), lstm(4), dense(3, Activation::Tanh)], 11, 33),
            NetworkCase::new(
                4,
                vec![dense(12, Activation::Sigmoid), lstm(16), dense(4, LINEAR), lstm(5)],
                6,
                17,
            ),
            // Dense layers only; a last step at the start, in the middle, at the end.
            NetworkCase::new(
                64,
                vec![dense(128, Activation::Tanh), dense(68, Activation::Sigmoid), dense(4, LINEAR)],
                3,
                9,
            ),
            NetworkCase::new(6, vec![LAST, dense(5, Activation::Relu)], 4, 3),
            NetworkCase::new(6, vec![dense(7, Activation::Relu), LAST, dense(2, Activation::Sigmoid)], 4, 3),
            NetworkCase::new(3, vec![lstm(9), LAST], 4, 3),
            // Tied layers share parameters, and their gradients add up.
            NetworkCase::new(
                8,
                vec![
                    lstm(8),
                    LayerConfig::Tied { to: 0 },
                    dense(8, Activation::Tanh),
                    LayerConfig::Tied { to: 0 },
                    LayerConfig::Tied { to: 2 },
                ],
                4,
                3,
            ),
            // A long sequence, a wide layer.
            NetworkCase::new(5, vec![lstm(33), LAST, dense(3, LINEAR)], 300, 3),
            NetworkCase::new(7, vec![lstm(513), dense(3, Activation::Tanh)], 4, 2),
        ];
        // Tokens in, a distribution over them out; more tokens than a digit of the sort has values; a last step of rows
        // only.
        cases.push(NetworkCase::new(
            1,
            vec![embedding(27, 5), lstm(7), dense(27, LINEAR), LayerConfig::Softmax],
            9,
            5,
        ));
        cases.push(NetworkCase::new(1, vec![embedding(300, 3), LAST, dense(2, Activation::Tanh)], 3, 131));
        // Connections around layers, two of which meet; the final h; one step expanded into several, at the start and
        // in between.
        let residual = |from| LayerConfig::Residual { from };
        let expand = |steps, fill| LayerConfig::Expand { steps, fill };
        cases.push(NetworkCase::new(
            4,
            vec![
                lstm(4),
                dense(4, Activation::Tanh),
                residual(1),
                residual(0),
                lstm(6),
                LayerConfig::FinalState,
            ],
            5,
            3,
        ));
        cases.push(NetworkCase::new(
            3,
            vec![lstm(5), LayerConfig::FinalState, expand(4, Expansion::Repeat), lstm(3), dense(2, LINEAR)],
            6,
            7,
        ));
        cases.push(NetworkCase::new(
            3,
            vec![expand(7, Expansion::Zeros), lstm(5), LayerConfig::Softmax],
            1,
            4,
        ));
        cases.extend(convolutions());
        cases.extend(pools());
        cases.extend(recurrent_cases());
        // More steps than fit into one submission.
        cases.push(NetworkCase::new(2, vec![lstm(5), dense(1, LINEAR)], 2_100, 2));
        // More rows over all steps, and more inputs, than a driver can walk in one loop: products are split.
        cases.push(NetworkCase::new(1, vec![lstm(1), dense(1, LINEAR)], 10, 7_001));
        cases.push(NetworkCase::new(
            70_001,
            vec![dense(2, Activation::Tanh), dense(70_001, LINEAR), dense(1, LINEAR)],
            1,
            2,
        ));
        cases
    }

    /// Fresh parameters, with random biases: at their initial zeros, mistakes in them would not show.
    pub fn parameters(&self) -> Parameters {
        let mut random = Random::new(self.seed, 0);
        let mut parameters = Parameters::initial(&self.config, self.seed).expect("cases are small");
        for spec in self.config.parameter_specs().filter(|spec| spec.shape.len() == 1) {
            let bias = parameters.get_mut(&spec.name).expect("every parameter has initial values");
            bias.iter_mut().zip(random.within(-0.4..0.4, spec.len())).for_each(|(bias, by)| *bias += by);
        }
        parameters
    }

    /// `[T, B, I]`: token numbers for an embedding, else within -1 to 1.
    pub fn input(&self) -> Array3<f32> {
        let input = Random::new(self.seed, 1).sequence((self.steps, self.batch, self.config.input()));
        match self.config.layers()[0].kind {
            LayerKind::Embedding { tokens } => {
                input.mapv(|value| ((value + 1.0) / 2.0 * tokens as f32).floor().min(tokens as f32 - 1.0))
            }
            _ => input,
        }
    }

    /// `[T', B, O]`; random, so that the loss weighs every output differently, and 2 to 3 away from zero, so that a
    /// residual is not a small difference of large terms.
    pub fn target(&self) -> Array3<f32> {
        Random::new(self.seed, 2).sequence(self.output_shape()).mapv(|value| value + 2f32.copysign(value))
    }

    fn output_shape(&self) -> (usize, usize, usize) {
        (self.config.output_steps(self.steps), self.batch, self.config.output())
    }

    fn reference(&self) -> gatefold_reference::Network<f64> {
        gatefold_reference::Network::new(&self.config, &self.parameters())
            .expect("the parameters are the network's")
    }

    fn describe(&self) -> String {
        format!("{}, T {} B {}", self.config, self.steps, self.batch)
    }
}

/// The terms of the sums that an output goes through, layer by layer; see docs/numerics.md.
pub fn output_terms(config: &NetworkConfig) -> usize {
    let terms = config.layers().iter().map(|layer| match layer.kind {
        LayerKind::Recurrent(recurrent) => layer.input + recurrent_terms(&recurrent),
        LayerKind::Dense { .. } | LayerKind::Softmax | LayerKind::Normalise { .. } => layer.input,
        LayerKind::Conv1d(conv) => layer.input * conv.kernel,
        LayerKind::Residual { .. } => 2,
        LayerKind::Merge(_) => config.graph().node(layer.index).inputs.len(),
        _ => 0,
    });
    terms.sum::<usize>().max(1)
}

/// The terms of the sums from step to step: from h, through a skip, into and out of a readout.
fn recurrent_terms(recurrent: &Recurrent) -> usize {
    let readout = recurrent.projection.or(recurrent.feedback.map(|feedback| feedback.output));
    let skipped = recurrent.skip.map_or(0, |_| recurrent.hidden);
    recurrent.direction.scans().len() * (recurrent.hidden + skipped + readout.unwrap_or(0))
}

/// The terms of the sums that a parameter's gradient goes through: forward, back through every layer, and over all rows
/// of all steps.
pub fn gradient_terms(config: &NetworkConfig, steps: usize, batch: usize) -> usize {
    let back = config.layers().iter().map(|layer| match layer.kind {
        LayerKind::Recurrent(recurrent) => 4 * recurrent_terms(&recurrent),
        LayerKind::Dense { .. } | LayerKind::Softmax | LayerKind::Normalise { .. } => layer.output,
        LayerKind::Conv1d(conv) => layer.output * conv.kernel,
        LayerKind::Expand { steps, .. } => steps,
        LayerKind::Residual { .. } => 2,
        LayerKind::Merge(_) => config.graph().node(layer.index).inputs.len(),
        _ => 0,
    });
    output_terms(config) + back.sum::<usize>() + steps * batch
}

/// Compares the outputs of every case.
///
/// # Errors
/// Any error of the engine.
pub fn check_forward(gpu: &Gpu, cases: &[NetworkCase]) -> Result<Checks, Error> {
    let mut checks = Checks::default();
    for case in cases {
        let device = Device::Gpu(gpu.clone());
        let network = Network::with_parameters(&device, &case.config, &case.parameters())?;
        let found = network.predict(case.input().view())?;
        let tape =
            case.reference().forward(&gatefold_reference::Batch::new(case.input().mapv(f64::from).view()));
        let (steps, batch, output) = case.output_shape();
        assert_eq!(found.dim(), (steps, batch, output), "the output's shape is the network's");
        checks.case(case.describe());
        let axes = [("step", steps), ("row", batch), ("feature", output)];
        let (found, want): (Vec<f32>, Vec<f64>) =
            (found.into_iter().collect(), tape.output().iter().copied().collect());
        checks.tensor("output", &axes, &found, &want, Tolerance::output(output_terms(&case.config)));
    }
    Ok(checks)
}

/// Compares the loss and the gradients with respect to every parameter of every case.
///
/// # Errors
/// Any error of the engine.
pub fn check_backward(gpu: &Gpu, cases: &[NetworkCase]) -> Result<Checks, Error> {
    let mut checks = Checks::default();
    for case in cases {
        let device = Device::Gpu(gpu.clone());
        let network = Network::with_parameters(&device, &case.config, &case.parameters())?;
        let mut trainer = Trainer::new(network, TrainConfig::new())?;
        let (input, target) = (case.input(), case.target());
        trainer.accumulate(input.view(), target.view())?;
        let (found, losses) = (trainer.gradients()?, trainer.take_losses()?);

        let reference = case.reference();
        let target = target.mapv(f64::from);
        let tape = reference.forward(&gatefold_reference::Batch::new(input.mapv(f64::from).view()));
        let d_output = loss::squared_error_gradient(tape.output(), target.view());
        let want = reference.backward(&tape, d_output.view(), None);
        checks.case(case.describe());
        let terms = output_terms(&case.config) + target.len();
        let loss = loss::squared_error(tape.output(), target.view());
        checks.tensor("loss", &[("batch", 1)], &losses, &[loss], Tolerance::output(terms));
        let terms = gradient_terms(&case.config, case.steps, case.batch);
        for (name, want) in &want.parameters {
            let want: Vec<f64> = want.iter().copied().collect();
            let shape = found[name].shape();
            let axes: Vec<(&str, usize)> =
                ["row", "column", "weight"].into_iter().zip(shape.iter().copied()).collect();
            let found: Vec<f32> = found[name].iter().copied().collect();
            checks.tensor(name, &axes, &found, &want, Tolerance::gradient(terms));
        }
    }
    Ok(checks)
}
