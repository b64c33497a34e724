//! Operators on elements that no single layer computes: their results are sums and products of elements.

use super::Value;
use super::chain::Chain;
use super::expression::Function;
use super::nodes::matrix;
use crate::ElementType;
use crate::graph::Node;
use crate::operators::{self, Need};
use crate::tensor::{Tensor, volume};
use gatefold_model::Activation;
use ndarray::{Array2, ArrayD, Axis, IxDyn};

impl Chain<'_> {
    /// The results of an operator on elements; `None` if there is no rule for it.
    pub(super) fn symbolic(
        &mut self,
        node: &Node,
        inputs: &[Option<Value>],
    ) -> Result<Option<Vec<Value>>, String> {
        let given = |at: usize| inputs.get(at).and_then(Option::as_ref);
        let result = match (&*node.operator, given(0), given(1)) {
            ("Add", Some(a), Some(b)) => self.added(a, b, 1.0)?,
            ("Sub", Some(a), Some(b)) => self.added(a, b, -1.0)?,
            ("Mul", Some(a), Some(b)) => self.multiplied(a, b)?,
            ("Div", Some(a), Some(Value::Known(Tensor::F32(by)))) => {
                let by = Tensor::F32(by.mapv(|value| 1.0 / value));
                self.multiplied(a, &Value::Known(by))?
            }
            ("Neg", Some(a), None) => {
                let minus = Value::Known(Tensor::F32(ArrayD::from_elem(IxDyn(&[]), -1.0)));
                self.multiplied(a, &minus)?
            }
            ("Where", Some(Value::Known(Tensor::Bool(condition))), Some(a)) => {
                self.chosen(condition, a, given(2))?
            }
            ("MatMul", Some(Value::Traced(ids)), Some(Value::Known(weight))) => {
                let weight = matrix(&without_leading_ones(weight))?;
                Some(self.rows_times(ids, weight)?)
            }
            ("Gemm", Some(Value::Traced(ids)), Some(Value::Known(weight))) => {
                self.affine(node, ids, weight, given(2))?
            }
            ("Cast", Some(Value::Traced(ids)), None) if is_float(node)? => Some(ids.clone()),
            (_, Some(Value::Traced(ids)), _) => match function(node, inputs)? {
                Some(function) => {
                    let mut results = ids.clone();
                    for id in &mut results {
                        *id = self.expressions.apply(function, *id)?;
                    }
                    Some(results)
                }
                None => None,
            },
            _ => None,
        };
        Ok(result.map(|ids| vec![self.tidy(ids)]))
    }

    /// Identities of the elements of a tensor; constants get some.
    fn ids_of(&mut self, value: &Value) -> Result<Option<ArrayD<i64>>, String> {
        match value {
            Value::Traced(ids) => Ok(Some(ids.clone())),
            Value::Known(Tensor::F32(array)) => {
                let ids: Result<Vec<i64>, String> =
                    array.iter().map(|&value| self.expressions.constant(f64::from(value))).collect();
                let ids = ArrayD::from_shape_vec(array.raw_dim(), ids?).map_err(|error| error.to_string())?;
                Ok(Some(ids))
            }
            _ => Ok(None),
        }
    }

    /// The inputs of an operator that moves elements, with constants among them as elements.
    pub(super) fn as_elements(&mut self, inputs: &[Option<Value>]) -> Result<Vec<Option<Value>>, String> {
        let mut all = Vec::with_capacity(inputs.len());
        for value in inputs {
            all.push(match value {
                Some(value @ Value::Known(Tensor::F32(_))) => self.ids_of(value)?.map(Value::Traced),
                other => other.clone(),
            });
        }
        Ok(all)
    }

    /// A tensor of elements, or of numbers if they depend on nothing. What was multiplied by 0 stays: a state of zeros adds
    /// nothing, not even a constant.
    pub(super) fn tidy(&self, ids: ArrayD<i64>) -> Value {
        if ids.iter().any(|&id| self.expressions.is_nothing(id)) {
            return Value::Traced(ids);
        }
        let known: Option<Vec<f32>> =
            ids.iter().map(|&id| self.expressions.known(id).map(|value| value as f32)).collect();
        match known.and_then(|values| ArrayD::from_shape_vec(ids.raw_dim(), values).ok()) {
            Some(values) => Value::Known(Tensor::F32(values)),
            None => Value::Traced(ids),
        }
    }

    /// Two tensors of elements in their common shape.
    fn broadcast(&mut self, a: &Value, b: &Value) -> Result<Option<Pair>, String> {
        let (Some(a), Some(b)) = (self.ids_of(a)?, self.ids_of(b)?) else { return Ok(None) };
        let shape = operators::broadcast(a.shape(), b.shape())?;
        let elements = volume(&shape)? as u64;
        self.budget.spend(Need { elements, work: elements })?;
        let wide = |ids: &ArrayD<i64>| ids.broadcast(IxDyn(&shape)).map(|ids| ids.to_owned());
        Ok(wide(&a).zip(wide(&b)))
    }

    fn added(&mut self, a: &Value, b: &Value, factor: f64) -> Result<Option<ArrayD<i64>>, String> {
        let nothing = [a, b].map(is_state_of_zeros);
        let Some((mut a, b)) = self.broadcast(a, b)? else { return Ok(None) };
        match nothing {
            [_, true] => return Ok(Some(a)),
            [true, _] if factor == 1.0 => return Ok(Some(b)),
            _ => {}
        }
        for (a, &b) in a.iter_mut().zip(&b) {
            *a = self.expressions.add(*a, b, factor)?;
        }
        Ok(Some(a))
    }

    fn multiplied(&mut self, a: &Value, b: &Value) -> Result<Option<ArrayD<i64>>, String> {
        let Some((mut a, b)) = self.broadcast(a, b)? else { return Ok(None) };
        for (a, &b) in a.iter_mut().zip(&b) {
            *a = self.expressions.multiply(*a, b)?;
        }
        Ok(Some(a))
    }

    fn chosen(
        &mut self,
        condition: &ArrayD<bool>,
        a: &Value,
        b: Option<&Value>,
    ) -> Result<Option<ArrayD<i64>>, String> {
        let Some(b) = b else { return Ok(None) };
        let Some((a, b)) = self.broadcast(a, b)? else { return Ok(None) };
        let shape = operators::broadcast(a.shape(), condition.shape())?;
        volume(&shape)?;
        let shape = IxDyn(&shape);
        let wide =
            (condition.broadcast(shape.clone()), a.broadcast(shape.clone()), b.broadcast(shape.clone()));
        let (Some(condition), Some(a), Some(b)) = wide else { return Ok(None) };
        let pairs = condition.iter().zip(a.iter().zip(b.iter()));
        let chosen = pairs.map(|(&first, (&a, &b))| if first { a } else { b }).collect();
        ArrayD::from_shape_vec(shape, chosen).map(Some).map_err(|error| error.to_string())
    }

    /// Rows of elements times a matrix `[I, O]`.
    fn rows_times(&mut self, ids: &ArrayD<i64>, weight: Array2<f32>) -> Result<ArrayD<i64>, String> {
        let (input, output) = weight.dim();
        let Some(&width) = ids.shape().last() else { return Err("it multiplies a single number".into()) };
        if width != input || width == 0 {
            return Err(format!("its weight of shape {:?} does not fit {width} values", weight.dim()));
        }
        let mut shape = ids.shape().to_vec();
        let last = shape.len() - 1;
        shape[last] = output;
        let elements = volume(&shape)? as u64;
        self.budget.spend(Need { elements, work: elements + weight.len() as u64 })?;
        let matrix = self.expressions.matrix_number(weight);
        let flat: Vec<i64> = ids.iter().copied().collect();
        let mut results = Vec::with_capacity(elements as usize);
        for row in flat.chunks(width) {
            let row = self.expressions.row_number(row.to_vec());
            for column in 0..output {
                results.push(self.expressions.product(row, matrix, column)?);
            }
        }
        ArrayD::from_shape_vec(shape, results).map_err(|error| error.to_string())
    }

    /// A Gemm.
    fn affine(
        &mut self,
        node: &Node,
        ids: &ArrayD<i64>,
        weight: &Tensor,
        bias: Option<&Value>,
    ) -> Result<Option<ArrayD<i64>>, String> {
        if node.int_or("transA", 0)? != 0 {
            return Err("it transposes its input".into());
        }
        let weight = matrix(weight)?;
        let weight = if node.int_or("transB", 0)? != 0 { weight.reversed_axes() } else { weight };
        let weight = weight.as_standard_layout().into_owned() * node.float("alpha")?.unwrap_or(1.0);
        let product = self.rows_times(ids, weight)?;
        let Some(bias) = bias else { return Ok(Some(product)) };
        let beta = node.float("beta")?.unwrap_or(1.0);
        self.added(&Value::Traced(product), bias, f64::from(beta))
    }

    /// The comparison of the network's input with one number, as a mask does. The walk takes every step as present.
    pub(super) fn masked(&mut self, node: &Node, inputs: &[Option<Value>]) -> Option<Vec<Value>> {
        let (value, number) = match inputs {
            [Some(value), Some(Value::Known(number))] | [Some(Value::Known(number)), Some(value)] => {
                (value, number.scalar()?)
            }
            _ => return None,
        };
        let shape = match value {
            Value::Traced(ids) => {
                let input = self.sources.first().filter(|source| source.place == 0)?;
                let inside = |&id: &i64| id >= input.first && id < input.first + input.len() as i64;
                ids.iter().all(inside).then_some(ids.shape())?
            }
            Value::Tokens(tokens) => tokens.shape(),
            _ => return None,
        };
        if node.operator != "Equal" || self.mask.is_some_and(|other| other != number) {
            return None;
        }
        self.mask = Some(number);
        Some(vec![Value::Known(Tensor::Bool(ArrayD::from_elem(IxDyn(shape), false)))])
    }
}

/// The elements of two tensors of one shape.
type Pair = (ArrayD<i64>, ArrayD<i64>);

/// Whether a tensor is zero in every row, as a state is at the beginning; a vector of zeros is a bias, which is kept.
fn is_state_of_zeros(value: &Value) -> bool {
    matches!(value, Value::Known(Tensor::F32(array)) if array.ndim() > 1 && array.iter().all(|&x| x == 0.0))
}

/// Whether a Cast keeps numbers as they are computed here.
fn is_float(node: &Node) -> Result<bool, String> {
    Ok(matches!(node.int("to")?, Some(1 | 10 | 11)))
}

/// A matrix that exporters wrote with axes of length 1 in front.
fn without_leading_ones(tensor: &Tensor) -> Tensor {
    let mut tensor = tensor.clone();
    if let Tensor::F32(array) = &mut tensor {
        while array.ndim() > 2 && array.shape()[0] == 1 {
            *array = array.index_axis(Axis(0), 0).to_owned();
        }
    }
    tensor
}

/// The function of one number that an operator is.
fn function(node: &Node, inputs: &[Option<Value>]) -> Result<Option<Function>, String> {
    match operators::function_of(node)? {
        Some(Activation::Relu) => return Ok(Some(Function::Clip { low: 0.0, high: f32::INFINITY })),
        Some(function) => return Ok(Some(Function::Activation(function))),
        None => {}
    }
    let bound = |at: usize, key: &str, open: f32| -> Result<Option<f32>, String> {
        match inputs.get(at).and_then(Option::as_ref) {
            None => Ok(Some(node.float(key)?.unwrap_or(open))),
            Some(Value::Known(tensor)) if tensor.element() == ElementType::F32 => Ok(tensor.scalar()),
            Some(_) => Ok(None),
        }
    };
    let (low, high) = match &*node.operator {
        "Clip" => (bound(1, "min", f32::NEG_INFINITY)?, bound(2, "max", f32::INFINITY)?),
        "Max" if inputs.len() == 2 => (bound(1, "", 0.0)?, Some(f32::INFINITY)),
        "Min" if inputs.len() == 2 => (Some(f32::NEG_INFINITY), bound(1, "", 0.0)?),
        _ => return Ok(None),
    };
    Ok(low.zip(high).filter(|(low, high)| low <= high).map(|(low, high)| Function::Clip { low, high }))
}
