//! Floating-point operations of a network: those of its matrix products, a multiplication and an addition each.

use gatefold_model::{Layer, LayerKind};

/// Operations of a layer for `batch` rows of one time step, forward; backward takes twice as many.
///
/// An LSTM's `8 B H (I + H)` are those of four gates, each a product with the input and one with `h`. What a gate
/// computes element by element is left out, as in every figure that one compares with.
pub(crate) fn forward_step(layer: &Layer, batch: usize) -> u128 {
    let (batch, input, output) = (batch as u128, layer.input as u128, layer.output as u128);
    match layer.kind {
        LayerKind::Recurrent(_) => 8 * batch * output * (input + output),
        LayerKind::Dense { .. } => 2 * batch * input * output,
        _ => 0,
    }
}

/// Operations of the gradient of the layer's input alone, for `batch` rows of one time step; the first layer of a
/// network in training needs none.
pub(crate) fn input_gradient_step(layer: &Layer, batch: usize) -> u128 {
    let gates = if matches!(layer.kind, LayerKind::Recurrent(_)) { 4 } else { 1 };
    if layer.parameters.is_empty() {
        return 0;
    }
    2 * batch as u128 * gates * layer.input as u128 * layer.output as u128
}

#[cfg(test)]
mod tests {
    use super::*;
    use gatefold::{DenseConfig, LayerConfig, LstmConfig, NetworkConfig};

    #[test]
    fn operations_by_hand() {
        let stack = [LstmConfig::new(5).into(), LayerConfig::LastStep, DenseConfig::new(2).into()];
        let config = NetworkConfig::new(3, stack).unwrap();
        let [lstm, last, dense] = config.layers() else { panic!("three layers") };
        // Seven rows, four gates of five units, each a sum over three inputs and five units.
        assert_eq!(forward_step(lstm, 7), 7 * 4 * 5 * (3 + 5) * 2);
        assert_eq!(input_gradient_step(lstm, 7), 7 * 3 * (4 * 5) * 2);
        assert_eq!((forward_step(last, 7), input_gradient_step(last, 7)), (0, 0));
        assert_eq!((forward_step(dense, 7), input_gradient_step(dense, 7)), (7 * 2 * 5 * 2, 7 * 5 * 2 * 2));
    }
}
