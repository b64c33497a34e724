//! Networks with parallel branches.

use super::{SequenceCase, lengths};
use gatefold::NetworkConfig;
use gatefold::layers::{
    Activation, Bridge, Conv1dConfig, DecoderConfig, DenseConfig, Direction, Expansion, GruConfig,
    InitialState, LstmConfig, Merge, NetworkBuilder, branch,
};

fn dense(output: usize, activation: Activation) -> DenseConfig {
    DenseConfig::new(output).activation(activation)
}

impl SequenceCase {
    /// Sums and concatenations, nested, with every source that a branch can read and every value that it can end with.
    pub(super) fn branches() -> Vec<SequenceCase> {
        let (sum, concatenate) = (Merge::Sum, Merge::Concatenate);
        let both = || GruConfig::new(5).direction(Direction::Bidirectional);
        let network = NetworkConfig::with_input;
        let case = |network: NetworkBuilder, sizes: (usize, usize)| {
            let config = network.build().expect("the cases are valid");
            SequenceCase {
                config,
                ..SequenceCase::new(1, vec![dense(1, Activation::Identity).into()], sizes)
            }
        };
        let mut cases = vec![
            // A linear path beside a recurrent one.
            case(
                network(4)
                    .parallel(sum, [branch().gru(5).last_step().dense(3), branch().last_step().dense(3)]),
                (6, 5),
            )
            .with_lengths(),
            // Widths 10, 3 and 7 side by side, one branch without layers; learned states in two branches.
            case(
                network(2)
                    .layer(dense(3, Activation::Tanh))
                    .parallel(
                        concatenate,
                        [
                            branch().layer(both().initial_state(InitialState::Learned)),
                            branch(),
                            branch()
                                .dropout(0.3)
                                .layer(LstmConfig::new(7).initial_state(InitialState::Learned))
                                .layer(dense(7, Activation::Sigmoid)),
                        ],
                    )
                    .gru(4)
                    .dense(2),
                (7, 3),
            )
            .with_lengths(),
            // The network's input is one of the values; residual connections within a branch; given states.
            case(
                network(3)
                    .parallel(
                        sum,
                        [
                            branch().lstm(3).residual(0).layer(dense(3, Activation::Tanh)),
                            branch(),
                            branch().rnn(3).gru(3).residual(4),
                        ],
                    )
                    .residual(6)
                    .softmax(),
                (5, 4),
            )
            .with_lengths()
            .with_states(),
            // Branches of branches; the final state of the layer before them, and the same output read otherwise.
            case(
                network(2).layer(both()).parallel(
                    sum,
                    [
                        branch().final_state().layer(dense(4, Activation::Relu)),
                        branch().last_step().parallel(concatenate, [branch().dense(3), branch().dense(1)]),
                        branch().gru(4).last_step(),
                    ],
                ),
                (6, 6),
            )
            .with_lengths(),
            // The final state is the end of a branch, and its layer alone is read by another.
            case(
                network(3)
                    .gru(4)
                    .parallel(concatenate, [branch().final_state(), branch().lstm(6).last_step()])
                    .expand(3, Expansion::Repeat)
                    .parallel(sum, [branch().rnn(2), branch().dense(2)]),
                (4, 3),
            ),
            // Tied layers in two branches share their parameters.
            case(
                network(3)
                    .parallel(concatenate, [branch().lstm(4).dense(2), branch().tied(0).tied(1)])
                    .dense(2),
                (5, 3),
            )
            .with_lengths(),
            // Tokens, looked up once.
            case(
                network(1)
                    .embedding(9, 4)
                    .parallel(sum, [branch().gru(4), branch(), branch().dense(4)])
                    .dense(9),
                (5, 4),
            )
            .with_lengths(),
        ];
        // A convolution before a recurrence, beside one over the whole window.
        let conv = Conv1dConfig::new;
        let (recurrent, window) = (branch().layer(conv(5, 3).stride(3)).gru(6), branch().conv1d(3, 9));
        let beside = [recurrent.last_step().dense(3), window.last_step()];
        cases.push(case(network(4).parallel(sum, beside), (9, 6)));
        // Both leave floor((T - 1) / 2) steps of T, of each row.
        let padded = conv(3, 5).padding(1, 1).stride(2).activation(Activation::Tanh);
        let equal = [branch().layer(conv(4, 3).stride(2)).gru(5), branch().layer(padded)];
        cases.push(SequenceCase {
            lengths: Some(vec![9, 4, 0, 8, 7, 5]),
            ..case(network(3).dense(4).parallel(concatenate, equal).lstm(4), (9, 6))
        });
        let bridge = DecoderConfig::new(2).bridge(Bridge::Dense { activation: Activation::Tanh });
        let translator = network(3)
            .parallel(concatenate, [branch().gru(2), branch().dense(3)])
            .lstm(4)
            .layer(bridge)
            .parallel(concatenate, [branch().lstm(3), branch(), branch().gru(2)])
            .rnn(4)
            .dense(2);
        let translator = case(translator, (6, 5)).with_lengths();
        cases.push(SequenceCase { decoder: Some((4, Some(lengths(4, 5)))), ..translator });
        cases
    }
}
