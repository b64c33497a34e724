//! The operators on lists of tensors.

use super::{Cell, Source, Step, Value};
use crate::operators::{self, Budget, Call};
use crate::tensor::Tensor;
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
            _ => Value::Tensor(self.joined(self.list_at_0(frame)?)?),
        }])
    }

    fn list_at_0<'f>(&'f self, frame: &'f [Cell]) -> Result<&'f [Tensor], String> {
        match self.inputs.first().copied().flatten() {
            Some(Source::Slot(slot)) => match frame[slot].value() {
                Some(Value::List(list)) => Ok(list),
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
    crate::tensor::map_tensor!(tensor, array => array.insert_axis(ndarray::Axis(place)))
}
