//! Every cell, direction, shape of network and kind of layer through the public API, against the reference in `f64`:
//! outputs, final states, and gradients with respect to everything, for a random weighting of all results.

mod branches;
mod cells;
mod custom;
mod stacks;
mod tangents;

pub(crate) use custom::check_streams;
pub use tangents::check_tangents;

use crate::Random;
use crate::compare::Tolerance;
use crate::selfcheck::Checks;
use cells::{cells, directed, is_normalised};
use gatefold::data::LayerState;
use gatefold::layers::{
    Activation, Biases, Bridge, Conv1dConfig, DecoderConfig, DenseConfig, Direction, EmbeddingConfig,
    Expansion, GruActivations, GruConfig, LayerConfig, LayerKind, LstmActivations, LstmConfig, Merge,
    ParallelConfig, Reset, RnnConfig,
};
use gatefold::training::Dropout;
use gatefold::{Device, Error, Network, NetworkConfig, Parameters, Sequences, States};
use gatefold_reference as reference;
use ndarray::{Array, Array3, ArrayView, Dimension};

/// A network, the shape of its input, and its other inputs.
#[derive(Clone, Debug)]
pub struct SequenceCase {
    /// The network.
    pub config: NetworkConfig,
    /// T
    pub steps: usize,
    /// B
    pub batch: usize,
    /// The lengths of the rows, if not all are T.
    pub lengths: Option<Vec<usize>>,
    /// T and lengths of the decoder's input.
    pub decoder: Option<(usize, Option<Vec<usize>>)>,
    /// Whether random initial states are given.
    pub given: bool,
    /// The seed of parameters and data.
    pub seed: u64,
    /// The magnitudes of a small signal; its tolerances are relative.
    pub small: Option<Small>,
}

/// The magnitudes of a signal near zero.
#[derive(Clone, Copy, Debug)]
pub struct Small {
    /// The size of the largest input and the largest given state.
    pub signal: f32,
    /// The factor of every parameter.
    pub weights: f32,
}

const DROPOUT: Dropout = Dropout { seed: 0x5eed_0000_0001, batch: 3, first_step: 0 };

/// Lengths of rows: all steps, none, one, and others.
fn lengths(steps: usize, batch: usize) -> Vec<usize> {
    (0..batch).map(|row| [steps, 1, 0, steps.div_ceil(2), steps - 1][row % 5].min(steps)).collect()
}

impl SequenceCase {
    fn new(input: usize, layers: Vec<LayerConfig>, (steps, batch): (usize, usize)) -> SequenceCase {
        let config = NetworkConfig::new(input, layers).expect("the cases are valid");
        SequenceCase {
            config,
            steps,
            batch,
            lengths: None,
            decoder: None,
            given: false,
            seed: 60,
            small: None,
        }
    }

    fn with_lengths(self) -> SequenceCase {
        let lengths = Some(lengths(self.steps, self.batch));
        SequenceCase { lengths, ..self }
    }

    fn with_states(self) -> SequenceCase {
        SequenceCase { given: true, ..self }
    }

    /// Every cell in every direction, with and without lengths, over sizes that some tile does not divide.
    pub fn cells() -> Vec<SequenceCase> {
        (0..cells(1).len()).flat_map(SequenceCase::of_kind).collect()
    }

    /// One of the cells in every direction.
    fn of_kind(kind: usize) -> Vec<SequenceCase> {
        let sizes = [(1, 1, 1, 1), (5, 3, 3, 7), (4, 2, 5, 33), (9, 17, 2, 5), (3, 6, 7, 16), (6, 5, 4, 8)];
        SequenceCase::in_every_direction(kind, &cells, sizes)
    }

    /// One of these cells in every direction, of these steps, rows, inputs and units.
    fn in_every_direction(
        kind: usize,
        cells: &dyn Fn(usize) -> Vec<(LayerConfig, bool)>,
        sizes: [(usize, usize, usize, usize); 6],
    ) -> Vec<SequenceCase> {
        let mut cases = Vec::new();
        for (turn, direction) in
            [Direction::Forward, Direction::Bidirectional, Direction::Reverse, Direction::BidirectionalSum]
                .into_iter()
                .enumerate()
        {
            let (steps, batch, input, hidden) = sizes[(kind + 5 * turn) % sizes.len()];
            let (cell, two_ways) = cells(hidden).swap_remove(kind);
            // Normalised, the products of a lone input hardly depend on its size, and its gradient cancels.
            let input = if is_normalised(&cell) { input.max(3) } else { input };
            if !two_ways && direction.scans().len() == 2 {
                continue;
            }
            let mut case = SequenceCase::new(input, vec![directed(cell, direction)], (steps, batch));
            if hidden == 1 {
                // No other number beside a lone one shows how large its terms were; with this seed none is a
                // small difference of large terms.
                case.seed = 64;
            }
            // The forward direction without lengths, the others with; half of them from given states.
            if turn > 0 {
                case = case.with_lengths();
            }
            cases.push(if (kind + turn).is_multiple_of(2) { case } else { case.with_states() });
        }
        cases
    }

    /// Every kind of layer, stacks of different cells and widths, encoders and decoders.
    pub fn networks() -> Vec<SequenceCase> {
        let dense = |output, activation| DenseConfig::new(output).activation(activation).into();
        let both = Direction::Bidirectional;
        let linear = Activation::Identity;
        let last = LayerConfig::LastStep;
        let mut cases = vec![
            SequenceCase::new(
                3,
                vec![
                    GruConfig::new(8).direction(both).into(),
                    LayerConfig::Dropout { rate: 0.3 },
                    LstmConfig::new(5).direction(both).into(),
                    RnnConfig::new(6).into(),
                    DenseConfig::new(4).activation(Activation::Tanh).bias(false).into(),
                ],
                (6, 5),
            )
            .with_lengths(),
            // Residual connections around a stack and around one layer, their sources shared.
            SequenceCase::new(
                4,
                vec![
                    dense(6, Activation::Tanh),
                    GruConfig::new(6).into(),
                    LayerConfig::Residual { from: 1 },
                    LstmConfig::new(6).into(),
                    LayerConfig::Residual { from: 3 },
                    LayerConfig::Residual { from: 1 },
                    dense(2, linear),
                ],
                (5, 3),
            )
            .with_lengths(),
            SequenceCase::new(
                1,
                vec![
                    EmbeddingConfig::new(11, 6).into(),
                    LstmConfig::new(7).direction(both).into(),
                    dense(11, linear),
                    LayerConfig::Softmax,
                ],
                (7, 4),
            )
            .with_lengths(),
            SequenceCase::new(
                3,
                vec![LstmConfig::new(5).direction(both).into(), LayerConfig::FinalState, dense(3, linear)],
                (6, 6),
            )
            .with_lengths(),
            SequenceCase::new(
                2,
                vec![GruConfig::new(9).into(), last.clone(), DenseConfig::new(9).bias(false).into()],
                (6, 6),
            )
            .with_lengths(),
            SequenceCase::new(
                2,
                vec![
                    LstmConfig::new(5).projection(3).into(),
                    last.clone(),
                    LayerConfig::Expand { steps: 4, fill: Expansion::Repeat },
                    GruConfig::new(4).into(),
                    dense(2, linear),
                ],
                (5, 5),
            )
            .with_lengths(),
            SequenceCase::new(
                5,
                vec![LayerConfig::Expand { steps: 6, fill: Expansion::Zeros }, RnnConfig::new(7).into()],
                (1, 3),
            ),
            SequenceCase::new(
                6,
                vec![
                    LstmConfig::new(3).direction(both).into(),
                    LayerConfig::Tied { to: 0 },
                    LayerConfig::Dropout { rate: 0.5 },
                ],
                (4, 3),
            )
            .with_states(),
        ];
        cases.extend(SequenceCase::convolutions());
        cases.extend(SequenceCase::pools());
        let decoder = |bridge: Bridge| DecoderConfig::new(1).bridge(bridge).into();
        let translator = |encoder: Vec<LayerConfig>, bridge: Bridge, after: Vec<LayerConfig>| {
            let mut layers: Vec<LayerConfig> = vec![EmbeddingConfig::new(9, 4).into()];
            layers.extend(encoder);
            layers.extend([decoder(bridge), EmbeddingConfig::new(8, 3).into()]);
            layers.extend(after);
            layers.push(DenseConfig::new(8).into());
            let case = SequenceCase::new(1, layers, (6, 5)).with_lengths();
            SequenceCase { decoder: Some((4, Some(lengths(4, 5)))), ..case }
        };
        let lstm = |hidden| LayerConfig::from(LstmConfig::new(hidden));
        cases.push(translator(vec![lstm(6), lstm(5)], Bridge::Same, vec![lstm(6), lstm(5)]));
        cases.push(translator(
            vec![GruConfig::new(5).direction(both).into(), LstmConfig::new(4).direction(both).into()],
            Bridge::Dense { activation: Activation::Tanh },
            vec![LstmConfig::new(7).skip(2).into(), GruConfig::new(3).into(), lstm(6)],
        ));
        cases.push(translator(
            vec![GruConfig::new(5).into()],
            Bridge::Dense { activation: linear },
            vec![LstmConfig::new(5).feedback(3, Activation::Tanh).into()],
        ));
        cases.push(translator(
            vec![GruConfig::new(5).dilation(2).into(), LstmConfig::new(4).dilation(4).direction(both).into()],
            Bridge::Dense { activation: Activation::Tanh },
            vec![LstmConfig::new(6).dilation(3).into(), lstm(4)],
        ));
        cases.extend(SequenceCase::branches());
        cases.extend(SequenceCase::stacks());
        // As many steps, but rows of h that hold more than h, so these layers run one after another.
        let before = || GruConfig::new(16).reset(Reset::Before);
        cases.push(SequenceCase::new(
            3,
            vec![before().into(), before().into(), last, dense(2, linear)],
            (17, 4),
        ));
        let projected = || LstmConfig::new(16).projection(5);
        cases
            .push(SequenceCase::new(3, vec![projected().into(), projected().into()], (17, 4)).with_lengths());
        let feedback = || LstmConfig::new(16).feedback(3, Activation::Tanh);
        cases.push(SequenceCase::new(3, vec![feedback().into(), feedback().into()], (17, 4)));
        cases
    }

    /// Normalised values, and pools of rows of different lengths, in branches too.
    fn pools() -> Vec<SequenceCase> {
        let normalise = LayerConfig::Normalise { epsilon: 1e-5 };
        let both = |hidden| LayerConfig::from(LstmConfig::new(hidden).direction(Direction::Bidirectional));
        let dense = |output| LayerConfig::from(DenseConfig::new(output).activation(Activation::Tanh));
        let case = |layers| SequenceCase::new(3, layers, (7, 6)).with_lengths();
        let pools = |merge| {
            let branches = [vec![LayerConfig::MaxPool], vec![LayerConfig::MeanPool]];
            LayerConfig::from(ParallelConfig::new(merge, branches))
        };
        vec![
            case(vec![
                normalise.clone(),
                both(4),
                normalise.clone(),
                LayerConfig::Dropout { rate: 0.3 },
                GruConfig::new(8).into(),
                LayerConfig::Residual { from: 4 },
                LayerConfig::Tied { to: 2 },
            ])
            .with_states(),
            case(vec![both(5), LayerConfig::MaxPool, dense(3)]),
            case(vec![both(5), normalise.clone(), LayerConfig::MeanPool, dense(3)]),
            case(vec![GruConfig::new(4).into(), pools(Merge::Concatenate), normalise, dense(2)]),
            case(vec![both(3), pools(Merge::Sum)]),
        ]
    }

    /// Convolutions around recurrent layers, over rows of different lengths with padding at each row's own ends.
    fn convolutions() -> Vec<SequenceCase> {
        let conv = |output, kernel| Conv1dConfig::new(output, kernel);
        let both = Direction::Bidirectional;
        let elu = Activation::Elu { alpha: -0.7 };
        let case = |layers| SequenceCase::new(3, layers, (9, 6));
        vec![
            case(vec![
                conv(4, 3).causal().activation(Activation::Tanh).into(),
                LayerConfig::Dropout { rate: 0.3 },
                LstmConfig::new(5).direction(both).into(),
                conv(3, 2).causal().dilation(3).stride(2).into(),
                GruConfig::new(4).into(),
            ])
            .with_lengths(),
            case(vec![
                GruConfig::new(4).into(),
                conv(5, 4).padding(2, 3).stride(2).activation(elu).into(),
                LayerConfig::LastStep,
                DenseConfig::new(2).into(),
            ])
            .with_lengths(),
            case(vec![conv(5, 4).padding(3, 2).into(), RnnConfig::new(4).into(), LayerConfig::FinalState])
                .with_lengths()
                .with_states(),
            case(vec![conv(6, 9).activation(Activation::Softplus).into(), conv(2, 1).bias(false).into()]),
            SequenceCase {
                lengths: Some(vec![9, 4, 0, 8, 7, 5]),
                ..case(vec![conv(3, 4).stride(3).into(), LstmConfig::new(4).into()])
            },
        ]
    }

    /// Signals of 1e-8 to 1e-2 through cells and layers without biases, with weights of usual size and with small ones.
    /// Here a function that errs in absolute terms shows, for all results are small too.
    pub fn small_signals() -> Vec<SequenceCase> {
        let none = Biases::None;
        let elu = Activation::Elu { alpha: 0.7 };
        let scaled = Activation::ScaledTanh { alpha: 1.7, beta: 0.6 };
        let lstm_functions = LstmActivations { gate: Activation::Sigmoid, candidate: elu, output: scaled };
        let gru_functions = GruActivations { gate: Activation::Sigmoid, candidate: scaled };
        let dense = |activation| DenseConfig::new(11).activation(activation).bias(false).into();
        let layers: Vec<Vec<LayerConfig>> = vec![
            vec![RnnConfig::new(13).biases(none).into()],
            vec![RnnConfig::new(13).activation(elu).biases(none).into()],
            vec![LstmConfig::new(13).biases(none).into()],
            vec![LstmConfig::new(13).activations(lstm_functions).biases(none).into()],
            vec![GruConfig::new(13).biases(none).into()],
            vec![GruConfig::new(13).reset(Reset::Before).activations(gru_functions).biases(none).into()],
            vec![dense(Activation::Tanh), dense(elu), dense(scaled), dense(Activation::Softsign)],
        ];
        let sizes =
            [(1e-8, 1.0), (3e-8, 1.0), (1e-6, 1.0), (1e-4, 1.0), (1e-2, 1.0), (1.0, 1e-6), (1e-3, 1e-3)];
        let mut cases = Vec::new();
        for layers in layers {
            for (at, (signal, weights)) in sizes.into_iter().enumerate() {
                let case = SequenceCase::new(9, layers.clone(), (5, 3));
                let case = SequenceCase { small: Some(Small { signal, weights }), ..case };
                cases.push(if at % 2 == 0 { case } else { case.with_states() });
            }
        }
        cases
    }

    fn parameters(&self) -> Parameters {
        let mut random = Random::new(self.seed, 0);
        let mut parameters = Parameters::initial(&self.config, self.seed).expect("cases are small");
        // At initial zeros, mistakes in these would not show.
        for spec in self.config.parameter_specs().filter(|spec| spec.shape.len() == 1) {
            let values = parameters.get_mut(&spec.name).expect("every parameter has initial values");
            values.iter_mut().zip(random.within(-0.4..0.4, spec.len())).for_each(|(value, by)| *value += by);
        }
        if let Some(Small { weights, .. }) = self.small {
            for spec in self.config.parameter_specs() {
                let values = parameters.get_mut(&spec.name).expect("every parameter has initial values");
                values.iter_mut().for_each(|value| *value *= weights);
            }
        }
        parameters
    }

    fn part(&self, stream: u64, shape: (usize, usize, usize), reader: Option<&LayerKind>) -> Array3<f32> {
        let values = Random::new(self.seed, stream).sequence(shape);
        match reader {
            Some(LayerKind::Embedding { tokens }) => {
                values.mapv(|v| ((v + 1.0) / 2.0 * *tokens as f32).floor())
            }
            _ => values * self.signal(),
        }
    }

    /// The size of the largest input and the largest given state.
    fn signal(&self) -> f32 {
        self.small.map_or(1.0, |small| small.signal)
    }

    fn input(&self) -> Result<Sequences<'static>, Error> {
        let layers = self.config.layers();
        let shape = (self.steps, self.batch, self.config.input());
        let mut input = Sequences::time_major(self.part(1, shape, layers.first().map(|layer| &layer.kind)));
        if let Some(lengths) = &self.lengths {
            input = input.with_lengths(lengths.clone())?;
        }
        let (Some(at), Some((steps, lengths))) = (self.config.decoder(), &self.decoder) else {
            return Ok(input);
        };
        let shape = (*steps, self.batch, layers[at].output);
        let mut own = Sequences::time_major(self.part(2, shape, layers.get(at + 1).map(|layer| &layer.kind)));
        if let Some(lengths) = lengths {
            own = own.with_lengths(lengths.clone())?;
        }
        Ok(input.with_decoder(own))
    }

    /// Random states, no larger than `size`.
    fn states(&self, stream: u64, size: f32) -> States {
        let mut random = Random::new(self.seed, stream);
        let mut states = States::zeros(&self.config, self.batch);
        for LayerState { h, c, y, .. } in &mut states.layers {
            let all = h.iter_mut().chain(c.iter_mut().flatten()).chain(y.iter_mut().flatten());
            all.for_each(|value| *value = size * random.values(1)[0]);
        }
        states
    }

    fn describe(&self) -> String {
        let lengths = if self.lengths.is_some() { " lengths" } else { "" };
        let given = if self.given { " from given states" } else { "" };
        let small = self.small.map_or(String::new(), |Small { signal, weights }| {
            format!(" signals {signal:e} weights {weights:e}")
        });
        format!("{}, T {} B {}{lengths}{given}{small}", self.config, self.steps, self.batch)
    }

    /// The terms of the sums that an output goes through, layer by layer; see docs/numerics.md.
    fn output_terms(&self) -> usize {
        let terms = |kind: &LayerKind, input: usize, output: usize| match kind {
            LayerKind::Recurrent(recurrent) => {
                let width = recurrent.recurrent_width();
                let readout = recurrent.feedback.map_or(0, |y| y.output + recurrent.hidden);
                input
                    + width * if recurrent.skip.is_some() { 2 } else { 1 }
                    + readout
                    + recurrent.projection.map_or(0, |_| recurrent.hidden)
                    + recurrent.norm.map_or(0, |_| (recurrent.cell.gates() + 1) * recurrent.hidden)
            }
            LayerKind::Dense { .. } => input,
            LayerKind::Conv1d(conv) => input * conv.kernel,
            LayerKind::Softmax | LayerKind::Normalise { .. } => output,
            LayerKind::Decoder { .. } => input,
            _ => 0,
        };
        let layers = self.config.layers().iter();
        layers.map(|layer| terms(&layer.kind, layer.input, layer.output)).sum::<usize>().max(1)
    }

    fn gradient_terms(&self) -> usize {
        let back = self.config.layers().iter().map(|layer| match layer.kind {
            LayerKind::Recurrent(recurrent) => 4 * recurrent.hidden,
            LayerKind::Conv1d(conv) => layer.output * conv.kernel,
            _ => layer.output,
        });
        let steps = self.steps.max(self.decoder.as_ref().map_or(0, |(steps, _)| *steps));
        self.output_terms() + back.sum::<usize>() + steps * self.batch
    }
}

fn wide<D: Dimension>(values: ArrayView<'_, f32, D>) -> Array<f64, D> {
    values.mapv(f64::from)
}

fn wide_states(states: &States) -> reference::States<f64> {
    let of_layer = |layer: &LayerState| reference::LayerState {
        h: wide(layer.h.view()),
        c: layer.c.as_ref().map(|c| wide(c.view())),
        y: layer.y.as_ref().map(|y| wide(y.view())),
    };
    reference::States { layers: states.layers.iter().map(of_layer).collect() }
}

/// Compares outputs, final states and all gradients of every case on a device.
///
/// # Errors
/// Any error of the engine.
pub fn check_sequences(device: &Device, cases: &[SequenceCase]) -> Result<Checks, Error> {
    let mut checks = Checks::default();
    for case in cases {
        check(device, case, &mut checks)?;
    }
    Ok(checks)
}

fn check(device: &Device, case: &SequenceCase, checks: &mut Checks) -> Result<(), Error> {
    let SequenceCase { config, .. } = case;
    let (parameters, input) = (case.parameters(), case.input()?);
    let given = case.given.then(|| case.states(3, case.signal()));
    let dropout = config.has_noise().then_some(DROPOUT);
    let network = Network::with_parameters(device, config, &parameters)?;
    let tape = network.forward_training(&input, given.as_ref(), dropout)?;
    let (output, states) = (tape.output().to_owned(), tape.states().clone());
    let d_output = Random::new(case.seed, 4).sequence(output.dim());
    let d_states = case.states(5, 1.0);
    let found = network.backward(tape, d_output.view(), Some(&d_states))?.read()?;

    let judge = reference::Network::<f64>::new(config, &parameters)?;
    let (values, wide_given) = (wide(input.values()), given.as_ref().map(wide_states));
    let decoder = input.decoder().map(|own| (wide(own.values()), own.lengths()));
    let batch = reference::Batch {
        input: values.view(),
        lengths: input.lengths(),
        states: wide_given.as_ref(),
        decoder: decoder.as_ref().map(|(values, lengths)| (values.view(), *lengths)),
        dropout: dropout.map(|Dropout { seed, batch, .. }| reference::Dropout { seed, batch }),
    };
    let tape = judge.forward(&batch);
    let want = judge.backward(&tape, wide(d_output.view()).view(), Some(&wide_states(&d_states)));

    checks.case(case.describe());
    let terms = case.output_terms();
    // A small signal's errors are compared with the signal.
    let forward = if case.small.is_some() { Tolerance::gradient(terms) } else { Tolerance::output(terms) };
    let backward = Tolerance::gradient(case.gradient_terms());
    compare(checks, "output", output.view(), tape.output(), forward);
    compare_states(checks, "final", config, &states, tape.states(), forward);
    for (name, want) in &want.parameters {
        compare(checks, name, found.parameters[name].view(), want.view(), backward);
    }
    compare(checks, "d_input", found.input.view(), want.input.view(), backward);
    if let (Some(found), Some(want)) = (&found.decoder_input, &want.decoder_input) {
        compare(checks, "d_decoder_input", found.view(), want.view(), backward);
    }
    compare_states(checks, "d_start", config, &found.states, &want.states, backward);
    if dropout.is_none() {
        // Inference takes another path: it saves nothing, and keeps each state in one place.
        let network = Network::with_parameters(device, config, &parameters)?;
        let again = network.forward(&input, given.as_ref())?;
        compare(checks, "inference", again.output.view(), tape.output(), forward);
        compare_states(checks, "inference's final", config, &again.states, tape.states(), forward);
    }
    Ok(())
}

fn compare<D: Dimension>(
    checks: &mut Checks,
    name: &str,
    found: ArrayView<'_, f32, D>,
    want: ArrayView<'_, f64, D>,
    tolerance: Tolerance,
) {
    assert_eq!(found.shape(), want.shape(), "{name} has the shape that the reference gives it");
    let names = ["first", "second", "third", "fourth"];
    let axes: Vec<(&str, usize)> = names.into_iter().zip(found.shape().iter().copied()).collect();
    let (found, want): (Vec<f32>, Vec<f64>) =
        (found.iter().copied().collect(), want.iter().copied().collect());
    checks.tensor(name, &axes, &found, &want, tolerance);
}

fn compare_states(
    checks: &mut Checks,
    name: &str,
    config: &NetworkConfig,
    found: &States,
    want: &reference::States<f64>,
    tolerance: Tolerance,
) {
    assert_eq!(found.layers.len(), want.layers.len(), "{name}: a state for each recurrent layer");
    for ((layer, found), want) in config.recurrent_layers().zip(&found.layers).zip(&want.layers) {
        let label = |state: &str| format!("{name} {state} of layer {}", layer.index);
        compare(checks, &label("h"), found.h.view(), want.h.view(), tolerance);
        if let (Some(found), Some(want)) = (&found.c, &want.c) {
            compare(checks, &label("c"), found.view(), want.view(), tolerance);
        }
        if let (Some(found), Some(want)) = (&found.y, &want.y) {
            compare(checks, &label("y"), found.view(), want.view(), tolerance);
        }
    }
}
