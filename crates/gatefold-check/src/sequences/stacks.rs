//! Stacks long enough for their layers to run side by side.

use super::{SequenceCase, lengths};
use gatefold::layers::{
    Bridge, DecoderConfig, DenseConfig, EmbeddingConfig, GruConfig, InitialState, LayerConfig, LstmConfig,
    RnnConfig,
};

impl SequenceCase {
    /// Stacks of each cell that lie between other layers, begin with every kind of state, have rows of different lengths or a
    /// last chunk shorter than the others, and are a layer longer than a stack may be.
    pub fn stacks() -> Vec<SequenceCase> {
        let head = || LayerConfig::from(DenseConfig::new(2));
        let lstm = |hidden| LstmConfig::new(hidden);
        let gru = |hidden| GruConfig::new(hidden);
        vec![
            SequenceCase::new(3, vec![lstm(8).into(), lstm(8).into(), lstm(8).into(), head()], (23, 8))
                .with_lengths(),
            SequenceCase::new(
                2,
                vec![head(), lstm(16).peephole().into(), lstm(16).peephole().into()],
                (19, 4),
            )
            .with_states(),
            // 15 elements a step: chunks of 64 steps, where a binding may begin.
            SequenceCase::new(4, vec![gru(5).into(), gru(5).into(), LayerConfig::FinalState], (150, 3))
                .with_lengths()
                .with_states(),
            SequenceCase::new(
                3,
                vec![lstm(16).skip(3).into(), lstm(16).skip(3).into(), lstm(16).into()],
                (20, 4),
            )
            .with_lengths(),
            SequenceCase::new(
                2,
                (0..5).map(|_| RnnConfig::new(16).initial_state(InitialState::Learned).into()).collect(),
                (33, 4),
            )
            .with_lengths(),
            SequenceCase {
                decoder: Some((18, Some(lengths(18, 8)))),
                ..SequenceCase::new(
                    1,
                    vec![
                        EmbeddingConfig::new(9, 4).into(),
                        lstm(8).into(),
                        lstm(8).into(),
                        DecoderConfig::new(1).bridge(Bridge::Same).into(),
                        EmbeddingConfig::new(8, 3).into(),
                        lstm(8).into(),
                        lstm(8).into(),
                        head(),
                    ],
                    (21, 8),
                )
                .with_lengths()
            },
        ]
    }
}
