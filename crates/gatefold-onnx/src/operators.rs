//! The operators on arrays: which there are, what they may cost, and how a library computes them.
//!
//! `table.rs` lists them. `size.rs` says how large a result becomes before it is computed, `library.rs` computes it with
//! rten, one small model per node, and `recipe.rs` writes that model, in other words where the library means something
//! else than ONNX. The recurrent operators are in `recurrent`, those that contain graphs in `walk`.

mod convolution;
mod functions;
mod library;
mod recipe;
mod size;
mod table;
#[cfg(test)]
mod tests;

use crate::graph::Node;
use crate::tensor::Tensor;
use gatefold_model::Activation;
use rten::RunOptions;

pub(crate) use convolution::Convolution;
pub(crate) use library::{Given, Kernel};
pub(crate) use size::{Budget, CALL_WORK, Need};

/// A node about to run.
#[derive(Clone)]
pub(crate) struct Call<'a> {
    pub(crate) node: &'a Node,
    pub(crate) opset: i64,
    pub(crate) inputs: Vec<Option<&'a Tensor>>,
}

/// The operators that run as layers on the engine.
pub(crate) const RECURRENT: [&str; 3] = ["RNN", "GRU", "LSTM"];
/// The operators that contain graphs.
pub(crate) const CONTROL: [&str; 3] = ["If", "Loop", "Scan"];
/// The operators on lists of tensors.
pub(crate) const LISTS: [&str; 8] = [
    "ConcatFromSequence",
    "SequenceAt",
    "SequenceConstruct",
    "SequenceEmpty",
    "SequenceErase",
    "SequenceInsert",
    "SequenceLength",
    "SplitToSequence",
];

/// The names of the operators that models may use, after their domain if that is not ONNX's own.
pub fn supported_operators() -> impl Iterator<Item = &'static str> {
    let others = RECURRENT.into_iter().chain(CONTROL).chain(LISTS);
    others.chain(table::OPERATORS.iter().map(|operator| operator.name))
}

pub(crate) fn is_supported(operator: &str) -> bool {
    is_recurrent(operator)
        || CONTROL.contains(&operator)
        || LISTS.contains(&operator)
        || table::find(operator).is_some()
}

/// Whether an operator computes arrays of arrays.
pub(crate) fn is_plain(operator: &str) -> bool {
    table::find(operator).is_some()
}

pub(crate) fn is_recurrent(operator: &str) -> bool {
    RECURRENT.contains(&operator)
}

/// Whether an operator's result is found without the library and without arithmetic.
pub(crate) fn moves_alone(operator: &str) -> bool {
    matches!(operator, "Constant" | "Dropout" | "Identity" | "Shape" | "Size" | "Squeeze" | "Unsqueeze")
}

/// Checks the attributes of a node whose operator computes arrays of arrays.
pub(crate) fn check_attributes(node: &Node, opset: i64) -> Result<(), String> {
    let operator = table::find(&node.operator).ok_or("it is not an operator on arrays")?;
    operator.check(&Call { node, opset, inputs: Vec::new() })
}

/// Runs an operator on arrays once; returns one tensor for each of its outputs.
pub(crate) fn run(call: &Call, budget: &mut Budget) -> Result<Vec<Tensor>, String> {
    let given = call.inputs.iter().map(|input| input.map(Given::Lent)).collect();
    Kernel::default().run(call.node, call.opset, given, budget, &RunOptions::default())
}

impl<'a> Call<'a> {
    pub(crate) fn optional(&self, at: usize) -> Option<&'a Tensor> {
        self.inputs.get(at).copied().flatten()
    }

    pub(crate) fn required(&self, at: usize) -> Result<&'a Tensor, String> {
        self.optional(at).ok_or_else(|| format!("its input {at} is missing"))
    }

    pub(crate) fn shape(&self, at: usize) -> Result<&'a [usize], String> {
        Ok(self.required(at)?.shape())
    }

    /// A list of whole numbers, or a single one.
    pub(crate) fn integers(&self, at: usize) -> Result<Option<Vec<i64>>, String> {
        let Some(tensor) = self.optional(at) else { return Ok(None) };
        match tensor.integers() {
            Some(values) if tensor.shape().len() <= 1 => Ok(Some(values)),
            _ => Err(format!(
                "input {at}: expected a list of whole numbers, found {} {:?}",
                tensor.element(),
                tensor.shape()
            )),
        }
    }

    /// A list of whole numbers that was an attribute and became an input later.
    pub(crate) fn attribute_or_input(&self, key: &str, at: usize) -> Result<Option<Vec<i64>>, String> {
        match self.node.attributes.contains_key(key) {
            true => Ok(self.node.ints(key)?.map(<[i64]>::to_vec)),
            false => self.integers(at),
        }
    }
}

/// An axis counted from the front, or from the end if negative.
pub(crate) fn axis(value: i64, axes: usize) -> Result<usize, String> {
    let signed = axes as i64;
    let place = if value < 0 { value.checked_add(signed) } else { Some(value) };
    match place.and_then(|place| usize::try_from(place).ok()).filter(|&place| place < axes) {
        Some(place) => Ok(place),
        None => Err(format!("axis {value} is outside a tensor with {axes} axes")),
    }
}

/// The common shape of two that broadcast, by NumPy's rule.
pub(crate) fn broadcast(a: &[usize], b: &[usize]) -> Result<Vec<usize>, String> {
    let axes = a.len().max(b.len());
    let len = |shape: &[usize], axis: usize| (axis + shape.len()).checked_sub(axes).map_or(1, |at| shape[at]);
    (0..axes)
        .map(|axis| match (len(a, axis), len(b, axis)) {
            (a, b) if a == b => Ok(a),
            (1, other) | (other, 1) => Ok(other),
            _ => Err(format!("shapes {a:?} and {b:?} do not broadcast")),
        })
        .collect()
}

/// The activation that an operator is, with its `alpha` and `beta`; `None` if it is none.
pub(crate) fn function_of(node: &Node) -> Result<Option<Activation>, String> {
    let number = |key: &str, default: f32| Ok::<_, String>(node.float(key)?.unwrap_or(default));
    Ok(Some(match &*node.operator {
        "Elu" => Activation::Elu { alpha: number("alpha", 1.0)? },
        "HardSigmoid" => Activation::HardSigmoid { alpha: number("alpha", 0.2)?, beta: number("beta", 0.5)? },
        "LeakyRelu" => Activation::LeakyRelu { alpha: number("alpha", 0.01)? },
        "ThresholdedRelu" => Activation::ThresholdedRelu { alpha: number("alpha", 1.0)? },
        "Relu" => Activation::Relu,
        "Sigmoid" => Activation::Sigmoid,
        "Softplus" => Activation::Softplus,
        "Softsign" => Activation::Softsign,
        "Tanh" => Activation::Tanh,
        _ => return Ok(None),
    }))
}
