//! The operators that exporters write around recurrent layers, on arrays. The recurrent ones are in `recurrent`.

mod convolution;
mod elementwise;
mod product;
mod shape;
mod slicing;
#[cfg(test)]
mod tests;

use crate::graph::Node;
use crate::tensor::Tensor;
use ndarray::ArrayD;

/// A node about to run.
pub(crate) struct Call<'a> {
    pub(crate) node: &'a Node,
    pub(crate) opset: i64,
    pub(crate) inputs: Vec<Option<&'a Tensor>>,
}

pub(crate) use convolution::Convolution;
pub(crate) use elementwise::function_of;

type Run = fn(&Call) -> Result<Vec<Tensor>, String>;

/// Every operator but the recurrent ones, by name.
///
/// Less, Not, ReduceProd and ReverseSequence occur in Keras' exports. Our own dense layers are exported with functions
/// other than relu, tanh and sigmoid too.
const PLAIN: [(&str, Run); 35] = [
    ("Add", elementwise::add),
    ("Cast", elementwise::cast),
    ("Concat", slicing::concat),
    ("Constant", shape::constant),
    ("ConstantOfShape", shape::constant_of_shape),
    ("Conv", convolution::conv),
    ("Dropout", elementwise::dropout),
    ("Elu", elementwise::function),
    ("Expand", shape::expand),
    ("Gather", slicing::gather),
    ("Gemm", product::gemm),
    ("HardSigmoid", elementwise::function),
    ("Identity", elementwise::identity),
    ("LeakyRelu", elementwise::function),
    ("Less", elementwise::less),
    ("MatMul", product::mat_mul),
    ("Mul", elementwise::mul),
    ("Not", elementwise::not),
    ("ReduceProd", elementwise::reduce_prod),
    ("Pad", convolution::pad),
    ("Relu", elementwise::function),
    ("Reshape", shape::reshape),
    ("ReverseSequence", slicing::reverse_sequence),
    ("Shape", shape::shape),
    ("Sigmoid", elementwise::function),
    ("Slice", slicing::slice),
    ("Softmax", elementwise::softmax),
    ("Softplus", elementwise::function),
    ("Softsign", elementwise::function),
    ("Split", slicing::split),
    ("Squeeze", shape::squeeze),
    ("Tanh", elementwise::function),
    ("ThresholdedRelu", elementwise::function),
    ("Transpose", shape::transpose),
    ("Unsqueeze", shape::unsqueeze),
];

/// The operators that run as layers on the engine.
pub(crate) const RECURRENT: [&str; 3] = ["RNN", "GRU", "LSTM"];

pub(crate) fn is_supported(operator: &str) -> bool {
    is_recurrent(operator) || PLAIN.iter().any(|(name, _)| *name == operator)
}

pub(crate) fn is_recurrent(operator: &str) -> bool {
    RECURRENT.contains(&operator)
}

pub(crate) fn names() -> String {
    let names: Vec<&str> = RECURRENT.into_iter().chain(PLAIN.iter().map(|(name, _)| *name)).collect();
    names.join(", ")
}

/// Runs a plain operator; returns one tensor for each of its outputs.
pub(crate) fn run(call: &Call) -> Result<Vec<Tensor>, String> {
    match PLAIN.iter().find(|(name, _)| *name == call.node.operator) {
        Some((_, run)) => run(call),
        None => Err("it is not an operator on arrays".into()),
    }
}

impl<'a> Call<'a> {
    pub(crate) fn optional(&self, at: usize) -> Option<&'a Tensor> {
        self.inputs.get(at).copied().flatten()
    }

    pub(crate) fn required(&self, at: usize) -> Result<&'a Tensor, String> {
        self.optional(at).ok_or_else(|| format!("its input {at} is missing"))
    }

    pub(crate) fn f32(&self, at: usize) -> Result<&'a ArrayD<f32>, String> {
        match self.required(at)? {
            Tensor::F32(array) => Ok(array),
            other => Err(format!("input {at}: expected float32, found {}", other.element())),
        }
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

    /// A value that was an attribute and became an input with opset `since`.
    pub(crate) fn attribute_or_input(
        &self,
        key: &str,
        since: i64,
        at: usize,
    ) -> Result<Option<Vec<i64>>, String> {
        if self.opset < since {
            Ok(self.node.ints(key)?.map(<[i64]>::to_vec))
        } else if self.node.attributes.contains_key(key) {
            Err(format!(
                "attribute {key}: it is an input since opset {since}; this model uses opset {}",
                self.opset
            ))
        } else {
            self.integers(at)
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

/// Axes without repetition, in increasing order.
pub(crate) fn axes(values: &[i64], count: usize) -> Result<Vec<usize>, String> {
    let mut places = values.iter().map(|&value| axis(value, count)).collect::<Result<Vec<_>, _>>()?;
    places.sort_unstable();
    if places.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(format!("axes {values:?} name an axis twice"));
    }
    Ok(places)
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
