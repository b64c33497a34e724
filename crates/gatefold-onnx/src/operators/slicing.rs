//! Operators that split tensors and join them.

use super::{Call, axes, axis};
use crate::tensor::{Tensor, map_tensor, volume};
use ndarray::{ArrayD, ArrayView, Axis, IxDyn};

pub(super) fn slice(call: &Call) -> Result<Vec<Tensor>, String> {
    call.node.only(&["starts", "ends", "axes"])?;
    let input = call.required(0)?;
    let starts = call.attribute_or_input("starts", 10, 1)?.ok_or("its starts are missing")?;
    let ends = call.attribute_or_input("ends", 10, 2)?.ok_or("its ends are missing")?;
    let given = call.attribute_or_input("axes", 10, 3)?;
    let steps = if call.opset < 10 { None } else { call.integers(4)? };
    let given = given.unwrap_or_else(|| (0..starts.len() as i64).collect());
    let steps = steps.unwrap_or_else(|| vec![1; starts.len()]);
    if [ends.len(), given.len(), steps.len()] != [starts.len(); 3] {
        return Err(format!(
            "starts {starts:?}, ends {ends:?}, axes {given:?} and steps {steps:?} differ in length"
        ));
    }
    axes(&given, input.shape().len())?;
    let mut result = None;
    for (((&start, &end), &along), &step) in starts.iter().zip(&ends).zip(&given).zip(&steps) {
        let tensor = result.as_ref().unwrap_or(input);
        let along = axis(along, tensor.shape().len())?;
        let places = places(start, end, step, tensor.shape()[along])?;
        result = Some(selected(tensor, along, &places));
    }
    Ok(vec![result.unwrap_or_else(|| input.clone())])
}

/// The positions that a slice selects out of `len`, clamped as in ONNX.
fn places(start: i64, end: i64, step: i64, len: usize) -> Result<Vec<usize>, String> {
    let len = len as i64;
    let from_front = |value: i64| if value < 0 { value.saturating_add(len) } else { value };
    let (start, end) = (from_front(start), from_front(end));
    match step {
        0 => Err("its step is 0".into()),
        1.. => {
            let (start, end) = (start.clamp(0, len), end.clamp(0, len));
            let step = usize::try_from(step).unwrap_or(usize::MAX);
            Ok((start as usize..(end as usize).max(start as usize)).step_by(step).collect())
        }
        _ => {
            let (start, end) = (start.clamp(-1, len - 1), end.clamp(-1, len - 1));
            let step = usize::try_from(step.unsigned_abs()).unwrap_or(usize::MAX);
            Ok((end + 1..start + 1).rev().step_by(step).map(|place| place as usize).collect())
        }
    }
}

/// Selects positions along an axis, in the order given. They must be inside it.
fn selected(tensor: &Tensor, along: usize, places: &[usize]) -> Tensor {
    map_tensor!(tensor, array => array.select(Axis(along), places).as_standard_layout().into_owned())
}

pub(super) fn gather(call: &Call) -> Result<Vec<Tensor>, String> {
    call.node.only(&["axis"])?;
    let (data, indices) = (call.required(0)?, call.required(1)?);
    let along = axis(call.node.int_or("axis", 0)?, data.shape().len())?;
    let len = data.shape()[along];
    let places: Vec<usize> = indices
        .integers()
        .ok_or_else(|| format!("input 1: expected whole numbers, found {}", indices.element()))?
        .into_iter()
        .map(|index| {
            let place = if index < 0 { index.saturating_add(len as i64) } else { index };
            let place = usize::try_from(place).ok().filter(|&place| place < len);
            place.ok_or_else(|| format!("index {index} is outside axis {along} of length {len}"))
        })
        .collect::<Result<_, _>>()?;
    let shape = [&data.shape()[..along], indices.shape(), &data.shape()[along + 1..]].concat();
    volume(&shape)?;
    fn of<T: Clone>(
        array: &ArrayD<T>,
        along: usize,
        places: &[usize],
        shape: &[usize],
    ) -> Result<ArrayD<T>, String> {
        let picked = array.select(Axis(along), places).as_standard_layout().into_owned();
        picked.into_shape_with_order(IxDyn(shape)).map_err(|error| error.to_string())
    }
    Ok(vec![map_tensor!(data, array => of(array, along, &places, &shape)?)])
}

pub(super) fn concat(call: &Call) -> Result<Vec<Tensor>, String> {
    call.node.only(&["axis"])?;
    let first = call.required(0)?;
    let tensors = (0..call.inputs.len()).map(|at| call.required(at)).collect::<Result<Vec<_>, _>>()?;
    let along = call.node.int("axis")?.ok_or("its axis is missing")?;
    let along = axis(along, first.shape().len())?;
    let mut shape = first.shape().to_vec();
    shape[along] = 0;
    for tensor in &tensors {
        let found = tensor.shape();
        let fits =
            found.len() == shape.len() && (0..shape.len()).all(|at| at == along || found[at] == shape[at]);
        if !fits || tensor.element() != first.element() {
            return Err(format!(
                "{} {:?} and {} {found:?} cannot be joined along axis {along}",
                first.element(),
                first.shape(),
                tensor.element()
            ));
        }
        shape[along] = shape[along].saturating_add(found[along]);
    }
    volume(&shape)?;
    fn of<T: Clone>(
        along: usize,
        arrays: impl Iterator<Item = Option<ArrayD<T>>>,
    ) -> Result<ArrayD<T>, String> {
        let arrays: Vec<ArrayD<T>> = arrays.flatten().collect();
        let views: Vec<ArrayView<T, IxDyn>> = arrays.iter().map(|array| array.view()).collect();
        let joined = ndarray::concatenate(Axis(along), &views).map_err(|error| error.to_string())?;
        Ok(joined.as_standard_layout().into_owned())
    }
    macro_rules! all {
        ($kind:ident) => {
            Tensor::$kind(of(
                along,
                tensors.iter().map(|tensor| match tensor {
                    Tensor::$kind(array) => Some(array.clone()),
                    _ => None,
                }),
            )?)
        };
    }
    Ok(vec![match first {
        Tensor::F32(_) => all!(F32),
        Tensor::I64(_) => all!(I64),
        Tensor::I32(_) => all!(I32),
        Tensor::Bool(_) => all!(Bool),
    }])
}

pub(super) fn split(call: &Call) -> Result<Vec<Tensor>, String> {
    call.node.only(&["axis", "split", "num_outputs"])?;
    let input = call.required(0)?;
    let along = axis(call.node.int_or("axis", 0)?, input.shape().len())?;
    let (len, parts) = (input.shape()[along], call.node.outputs.len());
    if let Some(number) = call.node.int("num_outputs")?
        && (call.opset < 18 || usize::try_from(number) != Ok(parts))
    {
        return Err(format!("num_outputs is {number}; it has {parts} outputs at opset {}", call.opset));
    }
    let lens: Vec<usize> = match call.attribute_or_input("split", 13, 1)? {
        Some(given) => given
            .iter()
            .map(|&part| usize::try_from(part).map_err(|_| format!("split {given:?}")))
            .collect::<Result<_, _>>()?,
        None if parts == 0 => return Err("it has no output".into()),
        None => {
            // From opset 18 on the last part may be smaller.
            let part = len.div_ceil(parts);
            if call.opset < 18 && !len.is_multiple_of(parts) {
                return Err(format!("axis {along} of length {len} does not split into {parts} equal parts"));
            }
            (0..parts).map(|at| len.saturating_sub(at * part).min(part)).collect()
        }
    };
    let total = lens.iter().try_fold(0usize, |sum, &part| sum.checked_add(part));
    if lens.len() != parts || total != Some(len) {
        return Err(format!("axis {along} of length {len} does not split into {lens:?} for {parts} outputs"));
    }
    let mut from = 0;
    Ok(lens
        .into_iter()
        .map(|part| {
            let places: Vec<usize> = (from..from + part).collect();
            from += part;
            selected(input, along, &places)
        })
        .collect())
}

/// Reverses the first steps of each row, as many as its length.
pub(super) fn reverse_sequence(call: &Call) -> Result<Vec<Tensor>, String> {
    call.node.only(&["batch_axis", "time_axis"])?;
    let input = call.required(0)?;
    let lens = call.integers(1)?.ok_or("its lengths are missing")?;
    let count = input.shape().len();
    let (rows, time) =
        (axis(call.node.int_or("batch_axis", 1)?, count)?, axis(call.node.int_or("time_axis", 0)?, count)?);
    let (batch, steps) = (input.shape()[rows], input.shape()[time]);
    if rows == time || lens.len() != batch {
        return Err(format!(
            "lengths {lens:?} do not fit axes {rows} and {time} of shape {:?}",
            input.shape()
        ));
    }
    let fits = |len: &i64| usize::try_from(*len).ok().filter(|&len| len <= steps);
    let lens: Option<Vec<usize>> = lens.iter().map(fits).collect();
    let lens = lens.ok_or_else(|| format!("expected lengths of 0 to {steps} steps"))?;
    fn of<T: Clone>(array: &ArrayD<T>, rows: usize, time: usize, lens: &[usize]) -> ArrayD<T> {
        let mut result = array.clone();
        // Removing the batch axis moves the time axis forward by one if it came after it.
        let time = if rows < time { time - 1 } else { time };
        for (row, &len) in lens.iter().enumerate() {
            let mut row = result.index_axis_mut(Axis(rows), row);
            let mut begin = row.slice_axis_mut(Axis(time), (0..len).into());
            let mut turned = begin.to_owned();
            turned.invert_axis(Axis(time));
            begin.assign(&turned);
        }
        result
    }
    Ok(vec![map_tensor!(input, array => of(array, rows, time, &lens))])
}
