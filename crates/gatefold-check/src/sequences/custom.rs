//! Layers of a custom cell, and its streams.

use super::{SequenceCase, compare, wide};
use crate::compare::Tolerance;
use crate::selfcheck::Checks;
use gatefold::layers::{
    Activation, Biases, Bridge, CustomCell, CustomConfig, DecoderConfig, DenseConfig, Direction,
    InitialState, LayerConfig, LstmConfig,
};
use gatefold::{Device, Error, Network};
use gatefold_reference as reference;
use ndarray::{Array3, Axis};

/// The cell with every option once; the last with a readout that feeds back, which runs in one direction only.
fn layers(cell: CustomCell, hidden: usize) -> Vec<(LayerConfig, bool)> {
    let own = || CustomConfig::new(cell, hidden);
    vec![
        (own().into(), true),
        (own().biases(Biases::One).initial_state(InitialState::Learned).into(), true),
        (own().biases(Biases::None).initial_state(InitialState::Constant(0.5)).into(), true),
        (own().skip(2).initial_state(InitialState::Learned).into(), true),
        (own().dilation(3).initial_state(InitialState::Learned).into(), true),
        (own().drop_connect(0.3).into(), true),
        (own().feedback(3, Activation::Tanh).into(), false),
    ]
}

impl SequenceCase {
    /// Layers of a custom cell: every option in every direction, with and without lengths, over sizes that some tile does not
    /// divide; in stacks, tied, and on both sides of a decoder.
    pub(crate) fn of_custom(cell: CustomCell) -> Vec<SequenceCase> {
        // No lone unit and row: nothing beside its gradients would show how large their terms were.
        let sizes = [(1, 2, 2, 3), (5, 3, 3, 7), (4, 2, 5, 33), (9, 17, 2, 5), (3, 6, 7, 16), (6, 5, 4, 8)];
        let cells = |hidden| layers(cell, hidden);
        let mut cases: Vec<SequenceCase> = (0..cells(1).len())
            .flat_map(|kind| SequenceCase::in_every_direction(kind, &cells, sizes))
            .collect();
        let own = |hidden| CustomConfig::new(cell, hidden);
        let stack = vec![
            own(8).direction(Direction::Bidirectional).into(),
            LayerConfig::Dropout { rate: 0.3 },
            own(6).into(),
            own(6).into(),
            LayerConfig::Residual { from: 3 },
            LstmConfig::new(4).into(),
            DenseConfig::new(3).activation(Activation::Tanh).into(),
        ];
        cases.push(SequenceCase::new(3, stack, (6, 5)).with_lengths());
        let tied = vec![own(5).into(), LayerConfig::Tied { to: 0 }, own(7).into(), LayerConfig::FinalState];
        cases.push(SequenceCase::new(5, tied, (5, 4)).with_lengths().with_states());
        let translator = vec![
            own(5).into(),
            DecoderConfig::new(2).bridge(Bridge::Same).into(),
            own(5).into(),
            DenseConfig::new(2).into(),
        ];
        let decoder = Some((4, Some(super::lengths(4, 5))));
        cases.push(SequenceCase { decoder, ..SequenceCase::new(3, translator, (6, 5)).with_lengths() });
        cases
    }

    /// Layers of a custom cell that go step by step.
    pub(crate) fn streams_of_custom(cell: CustomCell) -> Vec<SequenceCase> {
        let alone = layers(cell, 7).into_iter();
        let cases = alone.map(|(layer, _)| SequenceCase::new(3, vec![layer], (6, 3)));
        let stack = vec![
            CustomConfig::new(cell, 6).into(),
            CustomConfig::new(cell, 5).into(),
            DenseConfig::new(2).into(),
        ];
        cases.filter(|case| !case.config.has_noise()).chain([SequenceCase::new(3, stack, (6, 3))]).collect()
    }
}

/// Compares the outputs of streams with those of the reference for whole sequences.
///
/// # Errors
/// Any error of the engine.
pub(crate) fn check_streams(device: &Device, cases: &[SequenceCase]) -> Result<Checks, Error> {
    let mut checks = Checks::default();
    for case in cases {
        let (parameters, input) = (case.parameters(), case.input()?);
        let mut stream = Network::with_parameters(device, &case.config, &parameters)?.stream(case.batch)?;
        let values = input.values();
        let mut found = Array3::zeros((case.steps, case.batch, case.config.output()));
        for (step, mut to) in values.axis_iter(Axis(0)).zip(found.axis_iter_mut(Axis(0))) {
            to.assign(&stream.step(step)?);
        }
        let judge = reference::Network::<f64>::new(&case.config, &parameters)?;
        let values = wide(values);
        let batch = reference::Batch {
            input: values.view(),
            lengths: None,
            states: None,
            decoder: None,
            dropout: None,
        };
        checks.case(case.describe());
        let tolerance = Tolerance::output(case.output_terms());
        compare(&mut checks, "output", found.view(), judge.forward(&batch).output(), tolerance);
    }
    Ok(checks)
}
