//! Elementwise operators, and the softmax.

use super::{Call, axes, axis, broadcast};
use crate::graph::Node;
use crate::proto::tensor_proto::DataType;
use crate::tensor::{Tensor, filled, volume};
use gatefold_model::Activation;
use ndarray::{ArrayD, Axis, IxDyn};

fn pairwise<T: Copy, U>(a: &ArrayD<T>, b: &ArrayD<T>, of: impl Fn(T, T) -> U) -> Result<ArrayD<U>, String> {
    let shape = broadcast(a.shape(), b.shape())?;
    volume(&shape)?;
    match (a.broadcast(IxDyn(&shape)), b.broadcast(IxDyn(&shape))) {
        (Some(a), Some(b)) => {
            let values = a.iter().zip(b.iter()).map(|(&a, &b)| of(a, b)).collect();
            ArrayD::from_shape_vec(IxDyn(&shape), values).map_err(|error| error.to_string())
        }
        _ => Err(format!("shapes {:?} and {:?} do not broadcast", a.shape(), b.shape())),
    }
}

fn both(
    call: &Call,
    float: fn(f32, f32) -> f32,
    long: fn(i64, i64) -> i64,
    short: fn(i32, i32) -> i32,
) -> Result<Vec<Tensor>, String> {
    call.node.only(&[])?;
    Ok(vec![match (call.required(0)?, call.required(1)?) {
        (Tensor::F32(a), Tensor::F32(b)) => Tensor::F32(pairwise(a, b, float)?),
        (Tensor::I64(a), Tensor::I64(b)) => Tensor::I64(pairwise(a, b, long)?),
        (Tensor::I32(a), Tensor::I32(b)) => Tensor::I32(pairwise(a, b, short)?),
        (a, b) => {
            return Err(format!(
                "expected two numbers of one type, found {} and {}",
                a.element(),
                b.element()
            ));
        }
    }])
}

pub(super) fn add(call: &Call) -> Result<Vec<Tensor>, String> {
    both(call, |a, b| a + b, i64::wrapping_add, i32::wrapping_add)
}

pub(super) fn mul(call: &Call) -> Result<Vec<Tensor>, String> {
    both(call, |a, b| a * b, i64::wrapping_mul, i32::wrapping_mul)
}

pub(super) fn less(call: &Call) -> Result<Vec<Tensor>, String> {
    call.node.only(&[])?;
    Ok(vec![Tensor::Bool(match (call.required(0)?, call.required(1)?) {
        (Tensor::F32(a), Tensor::F32(b)) => pairwise(a, b, |a, b| a < b)?,
        (Tensor::I64(a), Tensor::I64(b)) => pairwise(a, b, |a, b| a < b)?,
        (Tensor::I32(a), Tensor::I32(b)) => pairwise(a, b, |a, b| a < b)?,
        (a, b) => {
            return Err(format!(
                "expected two numbers of one type, found {} and {}",
                a.element(),
                b.element()
            ));
        }
    })])
}

pub(super) fn not(call: &Call) -> Result<Vec<Tensor>, String> {
    call.node.only(&[])?;
    match call.required(0)? {
        Tensor::Bool(array) => Ok(vec![Tensor::Bool(array.mapv(|value| !value))]),
        other => Err(format!("input 0: expected bool, found {}", other.element())),
    }
}

/// The product along the given axes, or along all if none are given.
pub(super) fn reduce_prod(call: &Call) -> Result<Vec<Tensor>, String> {
    call.node.only(&["axes", "keepdims", "noop_with_empty_axes"])?;
    let input = call.required(0)?;
    let count = input.shape().len();
    let given = call.attribute_or_input("axes", 18, 1)?.filter(|axes| !axes.is_empty());
    if given.is_none() && call.node.int_or("noop_with_empty_axes", 0)? != 0 {
        return Ok(vec![input.clone()]);
    }
    let reduced = given.map_or_else(|| Ok((0..count).collect()), |given| axes(&given, count))?;
    let keep = call.node.int_or("keepdims", 1)? != 0;
    fn of<T: Copy>(
        array: &ArrayD<T>,
        reduced: &[usize],
        keep: bool,
        one: T,
        times: fn(T, T) -> T,
    ) -> ArrayD<T> {
        let mut result = array.clone();
        for &axis in reduced.iter().rev() {
            result = result.fold_axis(Axis(axis), one, |&product, &value| times(product, value));
            if keep {
                result.insert_axis_inplace(Axis(axis));
            }
        }
        result.as_standard_layout().into_owned()
    }
    Ok(vec![match input {
        Tensor::F32(array) => Tensor::F32(of(array, &reduced, keep, 1.0, |a, b| a * b)),
        Tensor::I64(array) => Tensor::I64(of(array, &reduced, keep, 1, i64::wrapping_mul)),
        Tensor::I32(array) => Tensor::I32(of(array, &reduced, keep, 1, i32::wrapping_mul)),
        Tensor::Bool(_) => return Err("input 0: expected numbers, found bool".into()),
    }])
}

pub(super) fn identity(call: &Call) -> Result<Vec<Tensor>, String> {
    call.node.only(&[])?;
    Ok(vec![call.required(0)?.clone()])
}

/// The operators that are functions of one number, with their `alpha` and `beta`.
const FUNCTIONS: [&str; 9] =
    ["Elu", "HardSigmoid", "LeakyRelu", "Relu", "Sigmoid", "Softplus", "Softsign", "Tanh", "ThresholdedRelu"];

/// The function that a node computes, if it is one; `alpha` and `beta` default to those of ONNX's operators.
pub(crate) fn function_of(node: &Node) -> Result<Option<Activation>, String> {
    if !FUNCTIONS.contains(&&*node.operator) {
        return Ok(None);
    }
    let (alpha, beta) = (node.float("alpha")?, node.float("beta")?);
    let (function, takes): (Activation, &[&str]) = match &*node.operator {
        "Elu" => (Activation::Elu { alpha: alpha.unwrap_or(1.0) }, &["alpha"]),
        "HardSigmoid" => {
            let (alpha, beta) = (alpha.unwrap_or(0.2), beta.unwrap_or(0.5));
            (Activation::HardSigmoid { alpha, beta }, &["alpha", "beta"])
        }
        "LeakyRelu" => (Activation::LeakyRelu { alpha: alpha.unwrap_or(0.01) }, &["alpha"]),
        "ThresholdedRelu" => (Activation::ThresholdedRelu { alpha: alpha.unwrap_or(1.0) }, &["alpha"]),
        "Relu" => (Activation::Relu, &[]),
        "Sigmoid" => (Activation::Sigmoid, &[]),
        "Softplus" => (Activation::Softplus, &[]),
        "Softsign" => (Activation::Softsign, &[]),
        _ => (Activation::Tanh, &[]),
    };
    node.only(takes)?;
    Ok(Some(function))
}

/// Applies a function to each element. NaN stays NaN. No exponential overflows, since none is of a positive number.
pub(super) fn function(call: &Call) -> Result<Vec<Tensor>, String> {
    let function = function_of(call.node)?.ok_or("it is not a function of one number")?;
    let of: Box<dyn Fn(f32) -> f32> = match function {
        Activation::Relu => Box::new(|x| if x < 0.0 { 0.0 } else { x }),
        Activation::Tanh => Box::new(f32::tanh),
        Activation::Sigmoid => Box::new(|x: f32| {
            let e = (-x.abs()).exp();
            if x < 0.0 { e / (1.0 + e) } else { 1.0 / (1.0 + e) }
        }),
        Activation::Elu { alpha } => Box::new(move |x: f32| if x < 0.0 { alpha * x.exp_m1() } else { x }),
        Activation::HardSigmoid { alpha, beta } => Box::new(move |x| (alpha * x + beta).clamp(0.0, 1.0)),
        Activation::LeakyRelu { alpha } => Box::new(move |x| if x < 0.0 { alpha * x } else { x }),
        Activation::ThresholdedRelu { alpha } => Box::new(move |x| if x <= alpha { 0.0 } else { x }),
        // The first term is NaN if x is; `max` alone would lose it.
        Activation::Softplus => Box::new(|x: f32| (if x < 0.0 { 0.0 } else { x }) + (-x.abs()).exp().ln_1p()),
        Activation::Softsign => Box::new(|x: f32| x / (1.0 + x.abs())),
        other => return Err(format!("{other} is not an operator of ONNX")),
    };
    Ok(vec![Tensor::F32(call.f32(0)?.mapv(of))])
}

/// Softmax along one axis; before opset 13, along that axis and all after it, flattened.
pub(super) fn softmax(call: &Call) -> Result<Vec<Tensor>, String> {
    call.node.only(&["axis"])?;
    let input = call.f32(0)?;
    let shape = input.shape();
    let flattens = call.opset < 13;
    let along = call.node.int_or("axis", if flattens { 1 } else { -1 })?;
    // Flattening may split after the last axis: rows of one element.
    let along = if flattens && usize::try_from(along) == Ok(shape.len()) {
        shape.len()
    } else {
        axis(along, shape.len())?
    };
    let lane = |mut values: ndarray::ArrayViewMut1<f32>| {
        let most = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        values.mapv_inplace(|x| (x - most).exp());
        let sum: f32 = values.iter().sum();
        values.mapv_inplace(|x| x / sum);
    };
    if !flattens {
        let mut result = input.clone();
        result.lanes_mut(Axis(along)).into_iter().for_each(lane);
        return Ok(vec![Tensor::F32(result)]);
    }
    let rows: usize = shape[..along].iter().product();
    let columns: usize = shape[along..].iter().product();
    let flat = ndarray::Array2::from_shape_vec((rows, columns), input.iter().copied().collect());
    let mut flat = flat.map_err(|error| error.to_string())?;
    flat.rows_mut().into_iter().for_each(lane);
    let result = flat.into_dyn().into_shape_with_order(IxDyn(shape)).map_err(|error| error.to_string())?;
    Ok(vec![Tensor::F32(result)])
}

/// Dropout in inference, which drops nothing.
pub(super) fn dropout(call: &Call) -> Result<Vec<Tensor>, String> {
    call.node.only(&["ratio", "seed"])?;
    let input = call.required(0)?;
    let trains = match call.optional(2) {
        None => false,
        Some(Tensor::Bool(mode)) if mode.len() == 1 => mode.iter().any(|&on| on),
        Some(_) => return Err("its training mode is not a single bool".into()),
    };
    if trains {
        return Err("it drops values, as in training; export the model for inference".into());
    }
    // Before opset 10 the mask had the input's type.
    let mask = match (call.node.outputs.len() > 1, input) {
        (false, _) => return Ok(vec![input.clone()]),
        (true, Tensor::F32(_)) if call.opset < 10 => Tensor::F32(filled(input.shape(), 1.0)?),
        (true, _) => Tensor::Bool(filled(input.shape(), true)?),
    };
    Ok(vec![input.clone(), mask])
}

pub(super) fn cast(call: &Call) -> Result<Vec<Tensor>, String> {
    call.node.only(&["to", "saturate"])?;
    let input = call.required(0)?;
    let to = call.node.int("to")?.ok_or("the type to cast to is missing")?;
    let to = i32::try_from(to).ok().and_then(|code| DataType::try_from(code).ok());
    macro_rules! to {
        ($kind:ident, $type:ty) => {
            Tensor::$kind(match input {
                Tensor::F32(array) => array.mapv(|value| value as $type),
                Tensor::I64(array) => array.mapv(|value| value as $type),
                Tensor::I32(array) => array.mapv(|value| value as $type),
                Tensor::Bool(array) => array.mapv(|value| u8::from(value) as $type),
            })
        };
    }
    Ok(vec![match to {
        Some(DataType::Float) => to!(F32, f32),
        Some(DataType::Int64) => to!(I64, i64),
        Some(DataType::Int32) => to!(I32, i32),
        Some(DataType::Bool) => Tensor::Bool(match input {
            Tensor::F32(array) => array.mapv(|value| value != 0.0),
            Tensor::I64(array) => array.mapv(|value| value != 0),
            Tensor::I32(array) => array.mapv(|value| value != 0),
            Tensor::Bool(array) => array.clone(),
        }),
        other => {
            let found = other.map_or("an unknown type", |other| other.as_str_name());
            return Err(format!("it casts to {found}; FLOAT, INT64, INT32 and BOOL are supported"));
        }
    }])
}
