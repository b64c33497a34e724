//! Parallel branches: layers side by side on one input.

use crate::{LayerConfig, Merge};
use serde::{Deserialize, Serialize};

/// Branches that read the same input, each a list of layers, and whose outputs become one.
///
/// All branches must end with the same time axis and, for a sum, the same width. A branch without layers passes the
/// input on. Branches may hold everything but a decoder, parallel branches too.
///
/// ```
/// use gatefold_model::{DenseConfig, GruConfig, LayerConfig, Merge, NetworkConfig, ParallelConfig};
///
/// let recurrent = vec![GruConfig::new(16).into(), LayerConfig::LastStep, DenseConfig::new(3).into()];
/// let linear = vec![LayerConfig::LastStep, DenseConfig::new(3).into()];
/// let config = NetworkConfig::new(4, [ParallelConfig::new(Merge::Sum, [recurrent, linear]).into()])?;
/// assert_eq!(config.to_string(), "4 -> parallel sum (gru 16 -> last step -> dense 3 | last step -> dense 3)");
/// # Ok::<(), gatefold_model::ModelError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ParallelConfig {
    pub(crate) merge: Merge,
    pub(crate) branches: Vec<Vec<LayerConfig>>,
}

impl ParallelConfig {
    /// Branches, two or more, and the way in which their outputs become one.
    pub fn new<B: Into<Vec<LayerConfig>>>(merge: Merge, branches: impl IntoIterator<Item = B>) -> Self {
        ParallelConfig { merge, branches: branches.into_iter().map(Into::into).collect() }
    }

    /// The way in which the outputs become one.
    pub fn merge(&self) -> Merge {
        self.merge
    }

    /// The layers of each branch.
    pub fn branches(&self) -> &[Vec<LayerConfig>] {
        &self.branches
    }
}
