//! Operators that change or return shapes.

use super::{Call, axes, broadcast};
use crate::tensor::{Tensor, filled, map_tensor, volume};
use ndarray::{ArrayD, IxDyn, arr0};

/// The same elements under another shape.
fn reshaped(tensor: &Tensor, shape: &[usize]) -> Result<Tensor, String> {
    if volume(shape)? != tensor.len() {
        return Err(format!("shape {:?} cannot become {shape:?}", tensor.shape()));
    }
    fn of<T: Clone>(array: &ArrayD<T>, shape: &[usize]) -> Result<ArrayD<T>, String> {
        let values: Vec<T> = array.iter().cloned().collect();
        ArrayD::from_shape_vec(IxDyn(shape), values).map_err(|error| error.to_string())
    }
    Ok(map_tensor!(tensor, array => of(array, shape)?))
}

pub(super) fn transpose(call: &Call) -> Result<Vec<Tensor>, String> {
    call.node.only(&["perm"])?;
    let input = call.required(0)?;
    let count = input.shape().len();
    let order = match call.node.ints("perm")? {
        None => (0..count).rev().collect(),
        Some(given) => {
            let sorted = axes(given, count)?;
            if sorted.len() != count {
                return Err(format!("perm {given:?} does not fit a tensor with {count} axes"));
            }
            given.iter().map(|&value| super::axis(value, count)).collect::<Result<Vec<_>, _>>()?
        }
    };
    let order = IxDyn(&order);
    Ok(vec![map_tensor!(input, array => array.view().permuted_axes(order).as_standard_layout().into_owned())])
}

pub(super) fn squeeze(call: &Call) -> Result<Vec<Tensor>, String> {
    call.node.only(&["axes"])?;
    let input = call.required(0)?;
    let shape = input.shape();
    let gone = match call.attribute_or_input("axes", 13, 1)? {
        Some(given) => axes(&given, shape.len())?,
        None => (0..shape.len()).filter(|&axis| shape[axis] == 1).collect(),
    };
    if let Some(&axis) = gone.iter().find(|&&axis| shape[axis] != 1) {
        return Err(format!("axis {axis} of shape {shape:?} is not of length 1"));
    }
    let left: Vec<usize> =
        (0..shape.len()).filter(|axis| !gone.contains(axis)).map(|axis| shape[axis]).collect();
    Ok(vec![reshaped(input, &left)?])
}

pub(super) fn unsqueeze(call: &Call) -> Result<Vec<Tensor>, String> {
    call.node.only(&["axes"])?;
    let input = call.required(0)?;
    let given = call.attribute_or_input("axes", 13, 1)?.ok_or("its axes are missing")?;
    let new = axes(&given, input.shape().len() + given.len())?;
    let mut shape = input.shape().to_vec();
    // In increasing order, since each is an axis of the final shape.
    for axis in new {
        shape.insert(axis, 1);
    }
    Ok(vec![reshaped(input, &shape)?])
}

pub(super) fn reshape(call: &Call) -> Result<Vec<Tensor>, String> {
    call.node.only(&["allowzero"])?;
    let input = call.required(0)?;
    let asked = call.integers(1)?.ok_or("its shape is missing")?;
    let zero_is_zero = call.node.int_or("allowzero", 0)? != 0;
    if zero_is_zero && call.opset < 14 {
        return Err("allowzero exists since opset 14".into());
    }
    let impossible = || format!("shape {:?} cannot become {asked:?}", input.shape());
    let mut shape = Vec::with_capacity(asked.len());
    let mut open = None;
    for (axis, &len) in asked.iter().enumerate() {
        shape.push(match len {
            -1 if open.is_none() => {
                open = Some(axis);
                1
            }
            0 if !zero_is_zero => *input.shape().get(axis).ok_or_else(impossible)?,
            len => usize::try_from(len).map_err(|_| impossible())?,
        });
    }
    if let Some(axis) = open {
        let rest = volume(&shape)?;
        if rest == 0 || !input.len().is_multiple_of(rest) {
            return Err(impossible());
        }
        shape[axis] = input.len() / rest;
    }
    Ok(vec![reshaped(input, &shape)?])
}

pub(super) fn shape(call: &Call) -> Result<Vec<Tensor>, String> {
    call.node.only(&["start", "end"])?;
    let shape: Vec<i64> = call.required(0)?.shape().iter().map(|&len| len as i64).collect();
    let axes = shape.len() as i64;
    let clamp =
        |value: i64| (if value < 0 { value.saturating_add(axes) } else { value }).clamp(0, axes) as usize;
    let (start, end) = (clamp(call.node.int_or("start", 0)?), clamp(call.node.int_or("end", axes)?));
    Ok(vec![Tensor::of_integers(shape.get(start..end).unwrap_or_default().to_vec())])
}

/// A shape given as an input, whose lengths must not be negative.
fn lengths(given: &[i64]) -> Result<Vec<usize>, String> {
    given.iter().map(|&len| usize::try_from(len).map_err(|_| format!("{given:?} is not a shape"))).collect()
}

pub(super) fn constant_of_shape(call: &Call) -> Result<Vec<Tensor>, String> {
    call.node.only(&["value"])?;
    let shape = lengths(&call.integers(0)?.ok_or("its shape is missing")?)?;
    let Some(value) = call.node.tensor("value")? else {
        return Ok(vec![Tensor::F32(filled(&shape, 0.0)?)]);
    };
    if value.len() != 1 {
        return Err(format!("attribute value: expected one element, found {}", value.len()));
    }
    fn of<T: Copy>(array: &ArrayD<T>, shape: &[usize]) -> Result<ArrayD<T>, String> {
        match array.first() {
            Some(&value) => filled(shape, value),
            None => Err("attribute value is empty".into()),
        }
    }
    Ok(vec![map_tensor!(value, array => of(array, &shape)?)])
}

pub(super) fn expand(call: &Call) -> Result<Vec<Tensor>, String> {
    call.node.only(&[])?;
    let input = call.required(0)?;
    let shape = lengths(&call.integers(1)?.ok_or("its shape is missing")?)?;
    let shape = broadcast(input.shape(), &shape)?;
    volume(&shape)?;
    fn of<T: Clone>(array: &ArrayD<T>, shape: &[usize]) -> Result<ArrayD<T>, String> {
        let wide = array
            .broadcast(IxDyn(shape))
            .ok_or_else(|| format!("shape {:?} does not expand to {shape:?}", array.shape()))?;
        Ok(wide.as_standard_layout().into_owned())
    }
    Ok(vec![map_tensor!(input, array => of(array, &shape)?)])
}

pub(super) fn constant(call: &Call) -> Result<Vec<Tensor>, String> {
    let node = call.node;
    if node.attributes.len() != 1 {
        return Err("expected exactly one attribute, its value".into());
    }
    let scalar_int = |value| Tensor::I64(arr0(value).into_dyn());
    let value = if let Some(tensor) = node.tensor("value")? {
        tensor.clone()
    } else if let Some(value) = node.int("value_int")? {
        scalar_int(value)
    } else if let Some(values) = node.ints("value_ints")? {
        Tensor::of_integers(values.to_vec())
    } else if let Some(value) = node.float("value_float")? {
        Tensor::F32(arr0(value).into_dyn())
    } else if node.attributes.contains_key("value_floats") {
        Tensor::F32(ndarray::arr1(node.floats("value_floats")?).into_dyn())
    } else {
        let found: Vec<&str> = node.attributes.keys().map(String::as_str).collect();
        return Err(format!("a value of the kind {} is not supported", found.join(", ")));
    };
    Ok(vec![value])
}
