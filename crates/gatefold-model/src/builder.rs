use crate::{
    Conv1dConfig, CustomCell, CustomConfig, DecoderConfig, DenseConfig, EmbeddingConfig, Expansion,
    GruConfig, LayerConfig, LayerNorm, LstmConfig, Merge, ModelError, NetworkConfig, ParallelConfig,
    RnnConfig,
};

/// The methods that add a layer, of networks and of branches.
macro_rules! adds_layers {
    () => {
        /// Adds any layer, such as one configured by [`LstmConfig`].
        pub fn layer(mut self, layer: impl Into<LayerConfig>) -> Self {
            self.layers.push(layer.into());
            self
        }

        /// Adds a vanilla recurrent layer of `hidden` units.
        pub fn rnn(self, hidden: usize) -> Self {
            self.layer(RnnConfig::new(hidden))
        }

        /// Adds an LSTM of `hidden` units.
        pub fn lstm(self, hidden: usize) -> Self {
            self.layer(LstmConfig::new(hidden))
        }

        /// Adds a GRU of `hidden` units.
        pub fn gru(self, hidden: usize) -> Self {
            self.layer(GruConfig::new(hidden))
        }

        /// Adds a layer of `hidden` units of a cell that the program brought along.
        pub fn custom(self, cell: CustomCell, hidden: usize) -> Self {
            self.layer(CustomConfig::new(cell, hidden))
        }

        /// Adds a dense layer of `output` values, with a bias and no activation.
        pub fn dense(self, output: usize) -> Self {
            self.layer(DenseConfig::new(output))
        }

        /// Adds a convolution over time to `output` channels that reads `kernel` steps at a time, with a bias and no activation;
        /// `layer(Conv1dConfig::new(output, kernel).causal())` and the like add one with options.
        pub fn conv1d(self, output: usize, kernel: usize) -> Self {
            self.layer(Conv1dConfig::new(output, kernel))
        }

        /// Adds an embedding: a vector of `width` numbers for each of the tokens `0..tokens`.
        pub fn embedding(self, tokens: usize, width: usize) -> Self {
            self.layer(EmbeddingConfig::new(tokens, width))
        }

        /// Adds [`LayerConfig::Dropout`].
        pub fn dropout(self, rate: f32) -> Self {
            self.layer(LayerConfig::Dropout { rate })
        }

        /// Adds [`LayerConfig::Softmax`].
        pub fn softmax(self) -> Self {
            self.layer(LayerConfig::Softmax)
        }

        /// Adds [`LayerConfig::Normalise`] with an epsilon of 1e-5.
        pub fn normalise(self) -> Self {
            self.layer(LayerConfig::Normalise { epsilon: LayerNorm::default().epsilon })
        }

        /// Adds the input of layer `from` to the output of the layer before: [`LayerConfig::Residual`].
        pub fn residual(self, from: usize) -> Self {
            self.layer(LayerConfig::Residual { from })
        }

        /// Adds [`LayerConfig::LastStep`].
        pub fn last_step(self) -> Self {
            self.layer(LayerConfig::LastStep)
        }

        /// Adds [`LayerConfig::FinalState`].
        pub fn final_state(self) -> Self {
            self.layer(LayerConfig::FinalState)
        }

        /// Adds [`LayerConfig::MaxPool`].
        pub fn max_pool(self) -> Self {
            self.layer(LayerConfig::MaxPool)
        }

        /// Adds [`LayerConfig::MeanPool`].
        pub fn mean_pool(self) -> Self {
            self.layer(LayerConfig::MeanPool)
        }

        /// Adds [`LayerConfig::Expand`].
        pub fn expand(self, steps: usize, fill: Expansion) -> Self {
            self.layer(LayerConfig::Expand { steps, fill })
        }

        /// Adds layer `to` again, with the same parameters: [`LayerConfig::Tied`].
        pub fn tied(self, to: usize) -> Self {
            self.layer(LayerConfig::Tied { to })
        }

        /// Adds branches that read the same input, and whose outputs become one: [`LayerConfig::Parallel`].
        pub fn parallel<B: Into<Vec<LayerConfig>>>(
            self,
            merge: Merge,
            branches: impl IntoIterator<Item = B>,
        ) -> Self {
            self.layer(ParallelConfig::new(merge, branches))
        }
    };
}

/// A network written layer by layer; see [`NetworkConfig::with_input`].
///
/// Each method adds one layer with its defaults. [`layer`](NetworkBuilder::layer) adds a layer with options of its own.
/// Nothing is checked before [`build`](NetworkBuilder::build).
#[derive(Clone, Debug, PartialEq)]
#[must_use = "a network is made by build()"]
pub struct NetworkBuilder {
    input: usize,
    layers: Vec<LayerConfig>,
}

impl NetworkBuilder {
    pub(crate) fn new(input: usize) -> Self {
        NetworkBuilder { input, layers: Vec::new() }
    }

    adds_layers!();

    /// Ends the encoder and begins a decoder whose input has `input` values per step. States are handed over unchanged.
    pub fn decoder(self, input: usize) -> Self {
        self.layer(DecoderConfig::new(input))
    }

    /// Checks the layers and connects them.
    ///
    /// # Errors
    /// As [`NetworkConfig::new`].
    pub fn build(self) -> Result<NetworkConfig, ModelError> {
        NetworkConfig::new(self.input, self.layers)
    }
}

/// A branch of parallel layers, written layer by layer; see [`branch`].
#[derive(Clone, Debug, Default, PartialEq)]
#[must_use = "a branch is an argument of parallel()"]
pub struct BranchBuilder {
    layers: Vec<LayerConfig>,
}

/// Begins a branch for [`NetworkBuilder::parallel`], to be written layer by layer. Left empty, it passes its input on.
///
/// ```
/// use gatefold_model::{Merge, NetworkConfig, branch};
///
/// let branches = [branch().gru(16).last_step().dense(3), branch().last_step().dense(3)];
/// let config = NetworkConfig::with_input(4).parallel(Merge::Sum, branches).build()?;
/// assert_eq!(config.output(), 3);
/// # Ok::<(), gatefold_model::ModelError>(())
/// ```
pub fn branch() -> BranchBuilder {
    BranchBuilder::default()
}

impl BranchBuilder {
    adds_layers!();
}

impl From<BranchBuilder> for Vec<LayerConfig> {
    fn from(branch: BranchBuilder) -> Self {
        branch.layers
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Activation, Bridge};

    #[test]
    fn a_builder_makes_what_a_list_does() {
        let built = NetworkConfig::with_input(1)
            .embedding(9, 5)
            .lstm(4)
            .gru(4)
            .tied(2)
            .residual(3)
            .rnn(3)
            .final_state()
            .expand(4, Expansion::Repeat)
            .dropout(0.5)
            .layer(LstmConfig::new(3).bidirectional())
            .last_step()
            .dense(2)
            .softmax();
        let list = [
            EmbeddingConfig::new(9, 5).into(),
            LstmConfig::new(4).into(),
            GruConfig::new(4).into(),
            LayerConfig::Tied { to: 2 },
            LayerConfig::Residual { from: 3 },
            RnnConfig::new(3).into(),
            LayerConfig::FinalState,
            LayerConfig::Expand { steps: 4, fill: Expansion::Repeat },
            LayerConfig::Dropout { rate: 0.5 },
            LstmConfig::new(3).direction(crate::Direction::Bidirectional).into(),
            LayerConfig::LastStep,
            DenseConfig::new(2).into(),
            LayerConfig::Softmax,
        ];
        assert_eq!(built.build().unwrap(), NetworkConfig::new(1, list).unwrap());
    }

    #[test]
    fn a_builder_makes_decoders() {
        let built = NetworkConfig::with_input(3).lstm(4).decoder(2).lstm(4).build().unwrap();
        let list = [LstmConfig::new(4).into(), DecoderConfig::new(2).into(), LstmConfig::new(4).into()];
        assert_eq!(built, NetworkConfig::new(3, list).unwrap());
        let bridge = DecoderConfig::new(2).bridge(Bridge::Dense { activation: Activation::Tanh });
        assert!(NetworkConfig::with_input(3).lstm(4).layer(bridge).gru(5).build().is_ok());
    }

    #[test]
    fn build_refuses_what_a_list_would_be_refused_for() {
        let refused = NetworkConfig::with_input(3).lstm(4).dense(0).build().unwrap_err();
        assert_eq!(refused.to_string(), "layer 1 (dense): its width is 0; expected at least 1");
    }
}
