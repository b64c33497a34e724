//! Results that are found without the library: the functions of the engine, which are as accurate and faster, and the same
//! elements in another shape.

use super::{Call, Given};
use crate::tensor::{Tensor, map_tensor};
use gatefold::devices::Instructions;
use gatefold_model::Activation;
use ndarray::{ArrayD, IxDyn};
use rayon::prelude::*;
use std::borrow::Cow;
use std::sync::LazyLock;

/// The elements that a thread computes at a time, which stay in its cache.
const PIECE: usize = 2048;

static INSTRUCTIONS: LazyLock<Instructions> =
    LazyLock::new(|| Instructions::choose().unwrap_or_else(|_| Instructions::widest()));

/// The function of floats that a node applies, if the engine has it on vectors.
pub(super) fn function(call: &Call) -> Option<Activation> {
    match (&*call.node.operator, call.optional(0)) {
        ("Sigmoid", Some(Tensor::F32(_))) => Some(Activation::Sigmoid),
        ("Tanh", Some(Tensor::F32(_))) => Some(Activation::Tanh),
        _ => None,
    }
}

/// A function of each element, in the place of the input if nothing else reads that.
pub(super) fn applied(function: Activation, input: Given) -> Result<Tensor, String> {
    let owned = match input {
        Given::Owned(Tensor::F32(mut array)) => match array.as_slice_mut() {
            Some(values) => {
                values.par_chunks_mut(PIECE).for_each(|piece| INSTRUCTIONS.activate(function, piece));
                return Ok(Tensor::F32(array));
            }
            None => array.as_standard_layout().into_owned(),
        },
        other => match other.tensor() {
            Tensor::F32(array) => match array.as_slice() {
                Some(values) => return computed(function, values, array.shape()),
                None => array.as_standard_layout().into_owned(),
            },
            other => return Err(format!("its input is {}; expected float32", other.element())),
        },
    };
    applied(function, Given::Owned(Tensor::F32(owned)))
}

/// A function of values that others read too.
fn computed(function: Activation, values: &[f32], shape: &[usize]) -> Result<Tensor, String> {
    let results = if rayon::current_num_threads() == 1 || values.len() <= PIECE {
        INSTRUCTIONS.activated(function, values)
    } else {
        // Threads write parts of memory that must be there.
        let mut results = vec![0.0; values.len()];
        results.par_chunks_mut(PIECE).zip(values.par_chunks(PIECE)).for_each(|(to, from)| {
            to.copy_from_slice(from);
            INSTRUCTIONS.activate(function, to);
        });
        results
    };
    ArrayD::from_shape_vec(IxDyn(shape), results).map(Tensor::F32).map_err(|error| error.to_string())
}

/// The shape that a node gives its input, with axes of length 1 more or less; `None` for any other node.
pub(super) fn reshaped(call: &Call) -> Result<Option<Vec<usize>>, String> {
    let squeezes = match &*call.node.operator {
        "Squeeze" => true,
        "Unsqueeze" => false,
        _ => return Ok(None),
    };
    let shape = call.shape(0)?;
    let Some(axes) = call.attribute_or_input("axes", 1)? else {
        return match squeezes {
            true => Ok(Some(shape.iter().copied().filter(|&len| len != 1).collect())),
            false => Err("its axes are missing".into()),
        };
    };
    let total = if squeezes { shape.len() } else { shape.len() + axes.len() };
    let mut chosen = vec![false; total];
    for &axis in &axes {
        if std::mem::replace(&mut chosen[super::axis(axis, total)?], true) && !squeezes {
            return Err(format!("axes: {axis} is given twice"));
        }
    }
    if !squeezes {
        let mut lens = shape.iter().copied();
        return Ok(chosen.into_iter().map(|new| if new { Some(1) } else { lens.next() }).collect());
    }
    if let Some(at) = (0..total).find(|&at| chosen[at] && shape[at] != 1) {
        return Err(format!("axes: axis {at} of shape {shape:?} is not 1 long"));
    }
    Ok(Some(shape.iter().zip(chosen).filter(|(_, gone)| !gone).map(|(&len, _)| len).collect()))
}

/// The same elements in another shape.
pub(super) fn in_shape(input: Given, shape: &[usize]) -> Result<Tensor, String> {
    let tensor = match input {
        Given::Owned(tensor) => tensor,
        Given::Lent(tensor) | Given::Constant(tensor) => tensor.clone(),
    };
    let is_ordered = matches!(tensor.in_order(), Cow::Borrowed(_));
    let tensor = if is_ordered { tensor } else { tensor.in_order().into_owned() };
    let shape = IxDyn(shape);
    Ok(map_tensor!(tensor, array => {
        array.into_shape_with_order(shape).map_err(|error| error.to_string())?
    }))
}
