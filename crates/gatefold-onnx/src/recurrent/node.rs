//! Reads a node of a graph as a [`RecurrentOperator`] with its weights.

use super::{Operator, RecurrentOperator, Weights};
use crate::graph::Node;
use crate::tensor::Tensor;
use ndarray::{Array2, Array3, ArrayD, Ix2, Ix3};

/// The positions of the inputs.
pub(crate) const X: usize = 0;
const W: usize = 1;
const R: usize = 2;
const B: usize = 3;
pub(crate) const SEQUENCE_LENS: usize = 4;
pub(crate) const INITIAL_H: usize = 5;
pub(crate) const INITIAL_C: usize = 6;
const P: usize = 7;
/// The inputs that hold weights.
pub(crate) const WEIGHTS: [usize; 4] = [W, R, B, P];

impl RecurrentOperator {
    /// The operator of a node, with its attributes.
    pub(crate) fn of_node(node: &Node, opset: i64) -> Result<RecurrentOperator, String> {
        let operator = Operator::of_name(&node.operator).ok_or("it is not recurrent")?;
        let mut known =
            vec!["activation_alpha", "activation_beta", "activations", "clip", "direction", "hidden_size"];
        known.extend(match operator {
            Operator::Rnn => None,
            Operator::Gru => Some("linear_before_reset"),
            Operator::Lstm => Some("input_forget"),
        });
        if opset >= 14 {
            known.push("layout");
        }
        node.only(&known)?;
        let inputs = if operator == Operator::Lstm { P } else { INITIAL_H } + 1;
        if node.inputs.len() > inputs {
            return Err(format!("it has {} inputs; the operator takes {inputs}", node.inputs.len()));
        }
        // An infinite bound clips nothing.
        let clip = node.float("clip")?.filter(|&bound| bound != f32::INFINITY);
        if let Some(bound) = clip.filter(|&bound| bound.is_nan() || bound <= 0.0) {
            return Err(format!("attribute clip: expected a number above 0, found {bound}"));
        }
        let switch = |key: &str| match node.int_or(key, 0)? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(format!("attribute {key}: expected 0 or 1, found {other}")),
        };
        let mut recurrent = RecurrentOperator::new(operator)
            .direction(node.text("direction")?.unwrap_or("forward"))?
            .clip(clip)
            .input_forget(switch("input_forget")?)
            .linear_before_reset(switch("linear_before_reset")?)
            .batch_first(switch("layout")?);
        let (alpha, beta) = (node.floats("activation_alpha")?, node.floats("activation_beta")?);
        if let Some(names) = node.texts("activations")?.filter(|names| !names.is_empty()) {
            recurrent = recurrent.activations(names, alpha, beta)?;
        } else if !(alpha.is_empty() && beta.is_empty()) {
            return Err("it has activation_alpha or activation_beta without activations".into());
        }
        Ok(recurrent)
    }

    /// The weights among a node's inputs. Checks their shapes against each other and against `hidden_size`.
    pub(crate) fn weights_of_node(&self, node: &Node, inputs: &[Option<&Tensor>]) -> Result<Weights, String> {
        let given = |at: usize| inputs.get(at).copied().flatten();
        let weights = Weights {
            w: matrices("W", given(W))?.ok_or("its input W is missing")?,
            r: matrices("R", given(R))?.ok_or("its input R is missing")?,
            b: vectors("B", given(B))?,
            p: vectors("P", given(P))?,
        };
        let (hidden, _) = self.widths(&weights)?;
        match node.int("hidden_size")? {
            Some(size) if usize::try_from(size) != Ok(hidden) => {
                Err(format!("attribute hidden_size: expected {hidden}, as in R, found {size}"))
            }
            _ => Ok(weights),
        }
    }
}

/// The array of a float32 tensor, if one is given.
pub(crate) fn numbers<'a>(name: &str, tensor: Option<&'a Tensor>) -> Result<Option<&'a ArrayD<f32>>, String> {
    match tensor {
        None => Ok(None),
        Some(Tensor::F32(array)) => Ok(Some(array)),
        Some(other) => Err(format!("{name}: expected float32, found {}", other.element())),
    }
}

fn matrices(name: &str, tensor: Option<&Tensor>) -> Result<Option<Array3<f32>>, String> {
    let of = |array: &ArrayD<f32>| {
        let axes = array.view().into_dimensionality::<Ix3>();
        axes.map(|axes| axes.to_owned()).map_err(|_| wrong_axes(name, 3, array))
    };
    numbers(name, tensor)?.map(of).transpose()
}

fn vectors(name: &str, tensor: Option<&Tensor>) -> Result<Option<Array2<f32>>, String> {
    let of = |array: &ArrayD<f32>| {
        let axes = array.view().into_dimensionality::<Ix2>();
        axes.map(|axes| axes.to_owned()).map_err(|_| wrong_axes(name, 2, array))
    };
    numbers(name, tensor)?.map(of).transpose()
}

fn wrong_axes(name: &str, axes: usize, array: &ArrayD<f32>) -> String {
    format!("{name}: expected {axes} axes, found shape {:?}", array.shape())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Attribute;

    #[test]
    fn a_clip_is_above_0_and_an_infinite_one_is_none() {
        let clip = |bound: f32| {
            let attributes = [("clip".to_owned(), Attribute::Float(bound))].into_iter().collect();
            let (inputs, outputs) = (Vec::new(), Vec::new());
            let node = Node { name: "n".into(), operator: "RNN".into(), inputs, outputs, attributes };
            RecurrentOperator::of_node(&node, 14).map(|operator| operator.clip)
        };
        assert_eq!(clip(0.5), Ok(Some(0.5)));
        assert_eq!(clip(f32::INFINITY), Ok(None));
        let refused = [0.0, -1.0, f32::NAN];
        let expected =
            refused.map(|bound| Err(format!("attribute clip: expected a number above 0, found {bound}")));
        assert_eq!(refused.map(clip), expected);
    }
}
