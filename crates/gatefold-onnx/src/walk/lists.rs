//! The operators on lists of tensors.

use super::{Cell, Source, Step, Value, ValueRef};
use crate::operators::{self, Budget, Call};
use crate::tensor::{Tensor, map_tensor};
use ndarray::arr0;

impl Step<'_> {
    pub(super) fn list(&self, frame: &[Cell]) -> Result<Vec<Value>, String> {
        Ok(vec![match &*self.node.operator {
            "SequenceEmpty" => Value::List(Vec::new()),
            "SequenceConstruct" => {
                let all = (0..self.inputs.len()).map(|at| self.required(at, frame).cloned());
                Value::List(all.collect::<Result<_, _>>()?)
            }
            "SequenceLength" => {
                Value::Tensor(Tensor::I64(arr0(self.list_at_0(frame)?.len() as i64).into_dyn()))
            }
            "SequenceAt" => {
                let list = self.list_at_0(frame)?;
                let place = self.place(1, list.len(), false, frame)?.ok_or("its position is missing")?;
                Value::Tensor(list[place].clone())
            }
            "SequenceInsert" => {
                let mut list = self.list_at_0(frame)?.to_vec();
                let place = self.place(2, list.len(), true, frame)?.unwrap_or(list.len());
                list.insert(place, self.required(1, frame)?.clone());
                Value::List(list)
            }
            "SequenceErase" => {
                let mut list = self.list_at_0(frame)?.to_vec();
                let last = list.len().checked_sub(1).ok_or("its list is empty")?;
                let place = self.place(1, list.len(), false, frame)?.unwrap_or(last);
                list.remove(place);
                Value::List(list)
            }
            "SplitToSequence" => Value::List(self.split(frame)?),
            _ => Value::Tensor(self.joined(self.list_at_0(frame)?)?),
        }])
    }

    fn list_at_0<'f>(&'f self, frame: &'f [Cell]) -> Result<&'f [Tensor], String> {
        match self.inputs.first().copied().flatten() {
            Some(Source::Slot(slot)) => match frame[slot].value() {
                Some(ValueRef::List(list)) => Ok(list),
                _ => Err("its input 0 is not a list of tensors".into()),
            },
            _ => Err("its input 0 is not a list of tensors".into()),
        }
    }

    fn required<'f>(&'f self, at: usize, frame: &'f [Cell]) -> Result<&'f Tensor, String> {
        self.tensor(at, frame)?.ok_or_else(|| format!("its input {at} is missing"))
    }

    /// A position in a list of `len`, counted from the end if negative. `None` if it is left out.
    fn place(&self, at: usize, len: usize, or_end: bool, frame: &[Cell]) -> Result<Option<usize>, String> {
        let Some(tensor) = self.tensor(at, frame)? else { return Ok(None) };
        let value = tensor
            .integers()
            .and_then(|values| values.first().copied())
            .ok_or("its position is no number")?;
        if or_end && usize::try_from(value) == Ok(len) {
            return Ok(Some(len));
        }
        operators::axis(value, len)
            .map(Some)
            .map_err(|_| format!("position {value} is outside a list of {len}"))
    }

    /// Pieces of a tensor along an axis: of given lengths, of one length but for the last, or of one step.
    fn split(&self, frame: &[Cell]) -> Result<Vec<Tensor>, String> {
        let input = self.required(0, frame)?;
        let axis = operators::axis(self.node.int_or("axis", 0)?, input.shape().len())?;
        let len = input.shape()[axis];
        let given = self.tensor(1, frame)?;
        let numbers =
            given.map(|split| split.integers().ok_or("its split is not whole numbers")).transpose()?;
        let lens: Vec<usize> = match (given, numbers.as_deref()) {
            (Some(split), Some(&[part])) if split.shape().is_empty() => {
                let part =
                    usize::try_from(part).ok().filter(|&part| part > 0).ok_or("its split is not above 0")?;
                (0..len).step_by(part).map(|at| part.min(len - at)).collect()
            }
            (_, Some(parts)) => {
                parts.iter().map(|&part| usize::try_from(part).unwrap_or(usize::MAX)).collect()
            }
            (_, None) => vec![1; len],
        };
        if lens.iter().try_fold(0usize, |all, &part| all.checked_add(part)) != Some(len) {
            return Err(format!("axis {axis} of length {len} does not split into {lens:?}"));
        }
        let drops = given.is_none() && self.node.int_or("keepdims", 1)? == 0;
        let mut at = 0;
        let mut piece = |part: usize| {
            let place = ndarray::Axis(axis);
            let range: ndarray::Slice = (at..at + part).into();
            at += part;
            map_tensor!(input, array => {
                let piece = array.slice_axis(place, range).as_standard_layout().into_owned();
                if drops { piece.index_axis_move(place, 0) } else { piece }
            })
        };
        Ok(lens.into_iter().map(&mut piece).collect())
    }

    /// All tensors of a list side by side, or along a new axis.
    fn joined(&self, list: &[Tensor]) -> Result<Tensor, String> {
        let axis = self.node.int("axis")?.ok_or("its axis is missing")?;
        let new = self.node.int_or("new_axis", 0)? != 0;
        let first = list.first().ok_or("its list is empty")?;
        let mut tensors = list.to_vec();
        if new {
            let place = operators::axis(axis, first.shape().len() + 1)?;
            for tensor in &mut tensors {
                if tensor.shape().len() < place {
                    return Err("its tensors have different numbers of axes".into());
                }
                *tensor = with_axis(std::mem::replace(tensor, Tensor::of_integers(Vec::new())), place);
            }
        }
        let inputs = (0..tensors.len()).map(|at| Some(at.to_string())).collect();
        let attributes = [("axis".to_string(), crate::graph::Attribute::Int(axis))].into();
        let node = crate::graph::Node {
            name: self.node.name.clone(),
            operator: "Concat".into(),
            inputs,
            outputs: vec![Some(String::new())],
            attributes,
        };
        let call = Call { node: &node, opset: 13, inputs: tensors.iter().map(Some).collect() };
        let elements = tensors.iter().map(Tensor::len).sum();
        operators::run(&call, &mut Budget::running(elements, 0))?
            .pop()
            .ok_or_else(|| "it gives nothing".into())
    }
}

fn with_axis(tensor: Tensor, place: usize) -> Tensor {
    map_tensor!(tensor, array => array.insert_axis(ndarray::Axis(place)))
}
