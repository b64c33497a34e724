//! The options that describe a network.

use crate::cell;
use crate::failure::Failure;
use gatefold::NetworkConfig;
use gatefold::layers::{Activation, DenseConfig, LayerConfig};

#[derive(clap::Args, Debug)]
#[group(id = "network", multiple = true)]
pub(super) struct Arguments {
    /// Input values per time step
    #[arg(long, value_name = "N", default_value = "1", value_parser = width())]
    input: usize,
    /// Units in each recurrent layer; a list such as 64,32 gives the layers one by one
    #[arg(long, value_name = "N", default_value = "32", value_delimiter = ',', value_parser = width())]
    hidden: Vec<usize>,
    /// Number of recurrent layers, all of the same width [default: 2, or as many as --hidden lists]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    layers: Option<u16>,
    /// Widths of dense layers with relu before the output layer, such as 100 or 64,32
    #[arg(long, value_name = "N", value_delimiter = ',', value_parser = width())]
    dense: Vec<usize>,
    /// Output values of the last dense layer
    #[arg(long, value_name = "N", default_value = "1", value_parser = width())]
    output: usize,
    /// Give an output for every time step, not only for the last
    #[arg(long)]
    every_step: bool,
}

// With this bound no product of sizes overflows: an activation has at most 2^19 steps of 2^19 rows of 8 * 2^19 values.
fn width() -> clap::builder::RangedU64ValueParser<usize> {
    clap::builder::RangedU64ValueParser::<usize>::new().range(1..=1 << 19)
}

const DEFAULT_LAYERS: usize = 2;

impl Arguments {
    pub(super) fn config(&self, recurrent: &cell::Choice) -> Result<NetworkConfig, Failure> {
        let widths = match (&self.hidden[..], self.layers) {
            (&[width], layers) => vec![width; layers.map_or(DEFAULT_LAYERS, usize::from)],
            (widths, None) => widths.to_vec(),
            (widths, Some(layers)) => {
                return Err(Failure::Usage(format!(
                    "--layers {layers}: --hidden already lists {} layers; leave out one of the two options",
                    widths.len()
                )));
            }
        };
        let mut stack: Vec<LayerConfig> = widths.into_iter().map(|width| recurrent.layer(width)).collect();
        if !self.every_step {
            stack.push(LayerConfig::LastStep);
        }
        let dense = |width| DenseConfig::new(width).bias(!recurrent.no_biases);
        let hidden = self.dense.iter().map(|&width| dense(width).activation(Activation::Relu));
        stack.extend(hidden.map(LayerConfig::from));
        stack.push(dense(self.output).into());
        Ok(NetworkConfig::new(self.input, stack)?)
    }
}
