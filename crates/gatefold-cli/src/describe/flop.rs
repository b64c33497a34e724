//! Floating-point operations (FLOP) of a network: those of its matrix products, a multiplication and an addition per
//! term.
//!
//! Element-wise work is left out, as in every figure this is compared with, and so are rows of zeros that a kernel
//! multiplies for its own convenience. Backward takes twice as many: every product needs two more, for the gradients
//! of its two factors.

use gatefold_model::{Cell, Layer, LayerKind, LstmCell, Recurrent, Role};

/// Forward operations of a layer for `batch` rows of one time step. For a decoder, the operations of its bridge, once
/// for all steps.
///
/// A scan of a recurrent layer takes `2 B G H (I + R)`: `G` gates of `H` units, each a sum over `I` inputs and the
/// `R` values of `h`. A skip connection sums over another `R` values, feedback over `O`. A projection takes `2 B R H`
/// more, the readout of feedback `2 B O H`. A convolution takes `2 B O I K` for each step of its output.
pub(crate) fn forward_step(layer: &Layer, batch: usize) -> u128 {
    let terms = match &layer.kind {
        LayerKind::Recurrent(recurrent) => {
            let scans = recurrent.direction.scans().len() as u128;
            scans * scan_terms(recurrent, layer.input)
        }
        LayerKind::Dense { .. } => product(layer.input, layer.output),
        LayerKind::Conv1d(conv) => product(layer.input, layer.output) * conv.kernel as u128,
        LayerKind::Decoder { .. } => {
            let weights = layer.parameters.iter().filter(|spec| matches!(spec.role, Role::BridgeWeight(..)));
            weights.map(|spec| spec.len() as u128).sum()
        }
        _ => 0,
    };
    2 * batch as u128 * terms
}

/// Operations of only the gradient with respect to the layer's input, for `batch` rows of one time step. The first
/// layer of a network in training needs none.
pub(crate) fn input_gradient_step(layer: &Layer, batch: usize) -> u128 {
    let rows = match &layer.kind {
        LayerKind::Recurrent(recurrent) => {
            let scans = recurrent.direction.scans().len();
            scans as u128 * gate_rows(recurrent)
        }
        LayerKind::Dense { .. } => layer.output as u128,
        LayerKind::Conv1d(conv) => product(layer.output, conv.kernel),
        _ => 0,
    };
    2 * batch as u128 * rows * layer.input as u128
}

/// Terms of the sums in one scan, for one row of one step.
fn scan_terms(recurrent: &Recurrent, input: usize) -> u128 {
    let (hidden, width) = (recurrent.hidden, recurrent.recurrent_width());
    let readout = recurrent.feedback.map_or(0, |feedback| feedback.output);
    let recurrences = if recurrent.skip.is_some() { 2 } else { 1 };
    let summed = input as u128 + recurrences * width as u128 + readout as u128;
    let projection = recurrent.projection.unwrap_or(0);
    gate_rows(recurrent) * summed + product(hidden, projection) + product(hidden, readout)
}

/// Rows of the weights that are read: those of all gates but the derived one of a coupled LSTM.
fn gate_rows(recurrent: &Recurrent) -> u128 {
    computed_gates(&recurrent.cell) as u128 * recurrent.hidden as u128
}

/// The number of gates computed from weights.
pub(crate) fn computed_gates(cell: &Cell) -> usize {
    let derived = matches!(cell, Cell::Lstm(LstmCell { coupling: Some(_), .. }));
    cell.gates() - usize::from(derived)
}

fn product(columns: usize, rows: usize) -> u128 {
    columns as u128 * rows as u128
}

#[cfg(test)]
mod tests {
    use super::*;
    use gatefold::NetworkConfig;
    use gatefold::layers::{
        Activation, Bridge, Conv1dConfig, Coupling, DecoderConfig, DenseConfig, Direction, EmbeddingConfig,
        GruConfig, LayerConfig, LstmConfig, Reset, RnnConfig,
    };

    fn layers(input: usize, stack: &[LayerConfig]) -> Vec<Layer> {
        NetworkConfig::new(input, stack).unwrap().layers().to_vec()
    }

    /// Operations of forward and of the input gradient, of one layer on three inputs, for seven rows.
    fn of(layer: impl Into<LayerConfig>) -> (u128, u128) {
        let layer = &layers(3, &[layer.into()])[0];
        (forward_step(layer, 7), input_gradient_step(layer, 7))
    }

    #[test]
    fn gates_are_sums_over_input_and_recurrence() {
        // Seven rows, two operations per term; gates of five units, each a sum over three inputs and five units.
        assert_eq!(of(RnnConfig::new(5)), (2 * 7 * 5 * (3 + 5), 2 * 7 * 5 * 3));
        assert_eq!(of(GruConfig::new(5)), (2 * 7 * 15 * (3 + 5), 2 * 7 * 15 * 3));
        assert_eq!(of(GruConfig::new(5).reset(Reset::Before)), of(GruConfig::new(5)));
        assert_eq!(of(LstmConfig::new(5)), (2 * 7 * 20 * (3 + 5), 2 * 7 * 20 * 3));
        // Peepholes, biases and functions are not products; a coupled gate is 1 minus another.
        assert_eq!(of(LstmConfig::new(5).peephole().squashed()), of(LstmConfig::new(5)));
        assert_eq!(of(LstmConfig::new(5).coupled(Coupling::Input)), (2 * 7 * 15 * (3 + 5), 2 * 7 * 15 * 3));
        assert_eq!(of(DenseConfig::new(2)), (2 * 7 * 3 * 2, 2 * 7 * 3 * 2));
        assert_eq!(of(Conv1dConfig::new(2, 4).stride(3)), (2 * 7 * 3 * 2 * 4, 2 * 7 * 3 * 2 * 4));
    }

    #[test]
    fn options_add_their_products() {
        // h is two wide for the recurrence: 20 rows of 3 + 2, and a projection from five to two.
        assert_eq!(of(LstmConfig::new(5).projection(2)), (2 * 7 * (20 * (3 + 2) + 2 * 5), 2 * 7 * 20 * 3));
        // Three recurrences of five.
        assert_eq!(of(RnnConfig::new(5).skip(4)).0, 2 * 7 * 5 * (3 + 5 + 5));
        // y, two wide, joins the input and is read out of five units.
        let feedback = GruConfig::new(5).feedback(2, Activation::Tanh);
        assert_eq!(of(feedback), (2 * 7 * (15 * (3 + 5 + 2) + 2 * 5), 2 * 7 * 15 * 3));
        let (one, one_input) = of(LstmConfig::new(5).projection(2).skip(2));
        for both in [Direction::Bidirectional, Direction::BidirectionalSum] {
            let two = LstmConfig::new(5).projection(2).skip(2).direction(both);
            assert_eq!(of(two), (2 * one, 2 * one_input));
        }
        assert_eq!(of(LstmConfig::new(5).direction(Direction::Reverse)), of(LstmConfig::new(5)));
    }

    #[test]
    fn layers_without_products_take_none() {
        let stack = [
            EmbeddingConfig::new(9, 4).into(),
            LayerConfig::Dropout { rate: 0.5 },
            LayerConfig::Residual { from: 1 },
            LayerConfig::LastStep,
            LayerConfig::Expand { steps: 3, fill: gatefold::layers::Expansion::Repeat },
            LayerConfig::Softmax,
        ];
        for layer in layers(1, &stack) {
            assert_eq!(
                (forward_step(&layer, 7), input_gradient_step(&layer, 7)),
                (0, 0),
                "{}",
                layer.place()
            );
        }
    }

    #[test]
    fn a_bridge_is_a_product_for_each_state() {
        let bridge = Bridge::Dense { activation: Activation::Tanh };
        let encoder = GruConfig::new(3).direction(Direction::Bidirectional).into();
        let stack = |bridge, decoder| [encoder, DecoderConfig::new(2).bridge(bridge).into(), decoder];
        let found = &layers(4, &stack(bridge, LstmConfig::new(5).into()))[1];
        // h and c, five units each, from both directions' three.
        assert_eq!((forward_step(found, 7), input_gradient_step(found, 7)), (2 * 7 * 2 * (5 * 6), 0));
        let encoder = GruConfig::new(5).into();
        let same = layers(4, &[encoder, DecoderConfig::new(2).into(), GruConfig::new(5).into()]);
        assert_eq!(forward_step(&same[1], 7), 0);
    }
}
