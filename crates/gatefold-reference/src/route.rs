//! The ways through a network with parallel branches, from its description as it was written.

use gatefold_model::{LayerConfig, NetworkConfig};

/// The values that a layer reads, by their numbers: 0 is the network's input, `n + 1` the output of layer `n`.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    /// The value that arrives at the layer; at the end of branches, the one that they read.
    pub(crate) input: usize,
    /// The last values of the branches that end here.
    pub(crate) branches: Vec<usize>,
}

/// The ways to all layers: those of branches come one branch after another, then the layer that joins them.
pub(crate) fn routes(config: &NetworkConfig) -> Vec<Route> {
    let mut found = Vec::new();
    walk(config.layer_configs(), 0, &mut found);
    found
}

/// Adds the ways to some layers, at the first of which a value arrives; returns the value that leaves the last.
fn walk(layers: &[LayerConfig], mut input: usize, found: &mut Vec<Route>) -> usize {
    for layer in layers {
        let branches = match layer {
            LayerConfig::Parallel(parallel) => {
                parallel.branches().iter().map(|branch| walk(branch, input, found)).collect()
            }
            _ => Vec::new(),
        };
        found.push(Route { input, branches });
        input = found.len();
    }
    input
}
