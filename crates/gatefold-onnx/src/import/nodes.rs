//! The effect of each operator on the chain.

use super::Value;
use super::chain::{Chain, Found};
use super::pooling::pools;
use super::trace::{Content, Rows};
use crate::graph::Node;
use crate::operators::{self, Call};
use crate::recurrent::numbers;
use crate::tensor::Tensor;
use gatefold_model::{Activation, LayerConfig};
use ndarray::{Array1, Array2, ArrayD, Ix2};

/// Operators that move elements without changing them, or pad them with zeros.
const MOVES: [&str; 11] = [
    "Concat",
    "Expand",
    "Gather",
    "Identity",
    "Pad",
    "Reshape",
    "ReverseSequence",
    "Slice",
    "Split",
    "Squeeze",
    "Transpose",
];

impl Chain<'_> {
    /// Walks one node.
    pub(super) fn node(&mut self, node: &Node) -> Result<(), String> {
        let inputs: Vec<Option<Value>> =
            node.inputs.iter().map(|name| name.as_ref().and_then(|name| self.value(name))).collect();
        let results = if operators::is_recurrent(&node.operator) {
            self.recurrent(node, &inputs)?
        } else if operators::CONTROL.contains(&&*node.operator) {
            let results = self.control(node, &inputs)?;
            results.iter().for_each(|value| self.try_to_resolve(value));
            results
        } else if inputs.iter().flatten().all(|value| matches!(value, Value::Known(_))) {
            let known: Vec<Option<&Tensor>> =
                inputs.iter().map(|value| value.as_ref().and_then(known)).collect();
            self.plain(node, known)?.into_iter().map(Value::Known).collect()
        } else if let Some(results) = self.masked(node, &inputs) {
            results
        } else {
            self.computed(node, &inputs)?
        };
        for (name, value) in node.outputs.iter().zip(results) {
            if let Some(name) = name {
                self.values.insert(name.clone(), value);
            }
        }
        Ok(())
    }

    /// Runs an operator on tensors.
    fn plain(&mut self, node: &Node, inputs: Vec<Option<&Tensor>>) -> Result<Vec<Tensor>, String> {
        operators::run(&Call { node, opset: self.graph.opset, inputs }, &mut self.budget)
    }

    pub(super) fn value(&self, name: &str) -> Option<Value> {
        let constant = || self.graph.constants.get(name).map(|tensor| Value::Known(tensor.clone()));
        match self.values.get(name).cloned().or_else(constant)? {
            Value::Traced(ids) => Some(Value::Traced(self.all_mapped(ids))),
            other => Some(other),
        }
    }

    /// An operator with an input that is not known: a layer or a part of one, or else a part of a cell that is written
    /// out step by step.
    fn computed(&mut self, node: &Node, inputs: &[Option<Value>]) -> Result<Vec<Value>, String> {
        let in_parts = inputs
            .iter()
            .flatten()
            .any(|value| matches!(value, Value::Traced(ids) if ids.iter().any(|&id| id < 0)));
        if in_parts && let Some(results) = self.symbolic(node, inputs)? {
            return Ok(results);
        }
        let before = (self.layers.len(), self.reads.len(), self.sources.len(), self.tip);
        let problem = match self.traced(node, inputs) {
            Ok(results) => return Ok(results),
            Err(problem) => problem,
        };
        if self.layers.len() >= before.0 {
            self.layers.truncate(before.0);
            self.reads.truncate(before.1);
            self.sources.truncate(before.2);
            self.tip = before.3;
        }
        let results = match MOVES.contains(&&*node.operator) {
            true => {
                let inputs = self.as_elements(inputs)?;
                self.moved(node, &inputs).ok()
            }
            false => self.symbolic(node, inputs)?,
        };
        let results = results.ok_or_else(|| problem.clone())?;
        self.first_part.get_or_insert_with(|| node.error(problem));
        Ok(results)
    }

    /// A plain operator with an input that is not known.
    fn traced(&mut self, node: &Node, inputs: &[Option<Value>]) -> Result<Vec<Value>, String> {
        let first = inputs.first().and_then(Option::as_ref).ok_or("its input 0 is missing")?;
        let second = inputs.get(1).and_then(Option::as_ref);
        let shape = node.operator == "Shape";
        match (first, second) {
            (Value::Lengths, None) if matches!(&*node.operator, "Cast" | "Identity") => {
                Ok(vec![Value::Lengths])
            }
            (Value::Known(table), Some(Value::Tokens(indices))) if node.operator == "Gather" => {
                self.embedding(node, table, indices)
            }
            _ if shape || inputs.iter().flatten().any(|value| matches!(value, Value::Tokens(_))) => {
                // Shapes are known, and tokens are traced by their example values.
                let given: Vec<Option<Tensor>> =
                    inputs.iter().map(|value| value.as_ref().and_then(stand_in)).collect();
                let given = given.iter().map(Option::as_ref).collect();
                let results = self.plain(node, given)?;
                Ok(results.into_iter().map(if shape { Value::Known } else { Value::Tokens }).collect())
            }
            (Value::Traced(ids), Some(Value::Lengths)) if node.operator == "ReverseSequence" => {
                self.ends_first(node, ids)
            }
            (Value::Traced(ids), _) if node.operator == "LayerNormalization" => {
                self.layer_normalization(node, ids, [second, inputs.get(2).and_then(Option::as_ref)])
            }
            (Value::Traced(ids), _) if node.operator == "BatchNormalization" => {
                self.batch_normalization(node, ids, inputs)
            }
            (Value::Traced(ids), axes) if pools(&node.operator) => self.pool(node, ids, axes),
            (Value::Traced(ids), _) if node.operator == "Dropout" => self.dropout(node, ids, inputs),
            (Value::Traced(ids), None) if node.operator == "Cast" && node.int("to")? == Some(1) => {
                Ok(vec![Value::Traced(ids.clone())])
            }
            _ if MOVES.contains(&&*node.operator) || node.operator == "Unsqueeze" => self.moved(node, inputs),
            (Value::Traced(ids), Some(Value::Known(weight))) if node.operator == "Conv" => {
                self.convolution(node, ids, weight, inputs.get(2).and_then(Option::as_ref))
            }
            (Value::Traced(ids), Some(Value::Known(weight))) if node.operator == "MatMul" => {
                let weight = matrix(weight)?;
                self.dense(ids, weight.reversed_axes(), None)
            }
            (Value::Traced(ids), Some(Value::Known(weight))) if node.operator == "Gemm" => {
                self.gemm(node, ids, weight, inputs.get(2).and_then(Option::as_ref))
            }
            (Value::Traced(ids), Some(Value::Known(bias)))
            | (Value::Known(bias), Some(Value::Traced(ids)))
                if node.operator == "Add" =>
            {
                self.bias(ids, bias)
            }
            (Value::Traced(ids), Some(Value::Known(factor)))
            | (Value::Known(factor), Some(Value::Traced(ids)))
                if node.operator == "Mul" =>
            {
                self.factor(ids, factor)
            }
            (Value::Traced(a), Some(Value::Traced(b))) if node.operator == "Add" => self.sum(a, b),
            (Value::Traced(ids), None) if node.operator == "Softmax" => self.softmax(node, ids),
            (Value::Traced(ids), None) => match operators::function_of(node)? {
                Some(function) => self.activation(ids, function),
                None => Err("no layer of the engine computes this here".into()),
            },
            _ => Err("no layer of the engine computes this here".into()),
        }
    }

    /// Runs an operator that moves elements on identities.
    fn moved(&mut self, node: &Node, inputs: &[Option<Value>]) -> Result<Vec<Value>, String> {
        let given: Vec<Option<Tensor>> = inputs
            .iter()
            .map(|value| match value {
                None => Ok(None),
                Some(Value::Lengths | Value::Tokens(_)) => {
                    Err("it mixes lengths or tokens with other values")
                }
                Some(value) => Ok(stand_in(value)),
            })
            .collect::<Result<_, _>>()?;
        let mut given: Vec<Option<&Tensor>> = given.iter().map(Option::as_ref).collect();
        if node.operator == "Pad" && given.get(2).copied().flatten().and_then(Tensor::scalar) == Some(0.0) {
            // Zeros of the sequence's type are padding, and so is the identity 0.
            given[2] = None;
        }
        // A constant mixed with identities has another element type, so the operator refuses it.
        self.plain(node, given)?
            .into_iter()
            .map(|tensor| match tensor {
                Tensor::I64(ids) => Ok(Value::Traced(ids)),
                other => Err(format!("its result is {}", other.element())),
            })
            .collect()
    }

    fn embedding(&mut self, node: &Node, table: &Tensor, indices: &Tensor) -> Result<Vec<Value>, String> {
        let main = self.graph.inputs.iter().find_map(|port| match self.values.get(&port.name) {
            Some(Value::Tokens(examples)) => Some(examples.clone()),
            _ => None,
        });
        // As given, or transposed: time first although the input has the batch first.
        let same = |found: &Tensor, examples: &Tensor| {
            found.shape() == examples.shape() && found.integers() == examples.integers()
        };
        let turned = |tensor: &Tensor| match tensor {
            Tensor::I64(array) => Tensor::I64(array.t().as_standard_layout().into_owned()),
            other => other.clone(),
        };
        let examples = main.ok_or("the network has no input of tokens")?;
        let examples = examples.integers().zip(Some(examples.shape().to_vec()));
        let examples = examples.and_then(|(values, shape)| ArrayD::from_shape_vec(shape, values).ok());
        let examples = Tensor::I64(examples.ok_or("the network has no input of tokens")?);
        let as_given = same(indices, &examples);
        let table = matrix(table)?;
        if node.int_or("axis", 0)? != 0 || !(as_given || same(indices, &turned(&examples))) {
            return Err("an embedding must look up rows of a table by the network's input tokens".into());
        }
        if self.tip.is_some() {
            return Err("an embedding must be the first layer".into());
        }
        let (width, steps, batch) = (table.ncols(), self.steps, self.batch);
        let source = self.push(Found::Embedding(table), Content::Steps, vec![steps, batch, width])?;
        let ids = self.sources[source].ids();
        let ids = if self.input_is_batch_first() == as_given {
            ids.permuted_axes(vec![1, 0, 2]).as_standard_layout().into_owned()
        } else {
            ids
        };
        Ok(vec![Value::Traced(ids)])
    }

    fn dropout(
        &mut self,
        node: &Node,
        ids: &ArrayD<i64>,
        inputs: &[Option<Value>],
    ) -> Result<Vec<Value>, String> {
        if node.outputs.iter().skip(1).any(Option::is_some) {
            return Err("its mask output is used".into());
        }
        if let Some(Value::Known(Tensor::Bool(mode))) = inputs.get(2).and_then(Option::as_ref)
            && mode.iter().any(|&on| on)
        {
            return Err("it drops values, as in training; export the model for inference".into());
        }
        let rate = match inputs.get(1).and_then(Option::as_ref) {
            Some(Value::Known(rate)) => rate.scalar(),
            _ => node.float("ratio")?,
        };
        let rate = rate.unwrap_or(0.5);
        // One that does not act on whole steps, or whose rate is out of range, is left out: it does nothing in
        // inference.
        let acts = rate > 0.0 && rate < 1.0 && matches!(self.rows_of(ids), Some(Rows::Steps(_)));
        if !acts {
            return Ok(vec![Value::Traced(ids.clone())]);
        }
        self.append(ids, Found::Plain(LayerConfig::Dropout { rate }))
    }

    /// Adds a layer that keeps the width.
    pub(super) fn append(&mut self, ids: &ArrayD<i64>, layer: Found) -> Result<Vec<Value>, String> {
        let (rows, width) = self.settle(ids)?;
        let steps = rows.len() / self.batch.max(1);
        self.push(layer, Content::Steps, vec![steps, self.batch, width])?;
        Ok(vec![self.in_rows(ids.shape(), &rows)?])
    }

    /// Adds a dense layer; `weight` is `[O, I]`.
    fn dense(
        &mut self,
        ids: &ArrayD<i64>,
        weight: Array2<f32>,
        bias: Option<Array1<f32>>,
    ) -> Result<Vec<Value>, String> {
        if self.is_put_off(ids) {
            return Err("it reads one step".into());
        }
        Ok(vec![Value::Traced(self.dense_layer(ids, weight, bias, Activation::Identity)?)])
    }

    /// Adds a dense layer; gives the elements of its output, where those of its input were.
    pub(super) fn dense_layer(
        &mut self,
        ids: &ArrayD<i64>,
        weight: Array2<f32>,
        bias: Option<Array1<f32>>,
        activation: Activation,
    ) -> Result<ArrayD<i64>, String> {
        let (rows, width) = self.settle(ids)?;
        if weight.ncols() != width || weight.nrows() == 0 {
            return Err(format!("its weight of shape {:?} does not fit {width} values", weight.dim()));
        }
        let (steps, output) = (rows.len() / self.batch.max(1), weight.nrows());
        let weight = weight.as_standard_layout().into_owned();
        let layer = Found::Dense { weight, bias, activation };
        self.push(layer, Content::Steps, vec![steps, self.batch, output])?;
        match self.in_rows(ids.shape(), &rows)? {
            Value::Traced(ids) => Ok(ids),
            _ => Err("its output is not traced".into()),
        }
    }

    fn gemm(
        &mut self,
        node: &Node,
        ids: &ArrayD<i64>,
        weight: &Tensor,
        bias: Option<&Value>,
    ) -> Result<Vec<Value>, String> {
        if node.int_or("transA", 0)? != 0 {
            return Err("it transposes the layer's input".into());
        }
        let weight = matrix(weight)?;
        let weight = if node.int_or("transB", 0)? != 0 { weight } else { weight.reversed_axes() };
        let weight = weight * node.float("alpha")?.unwrap_or(1.0);
        let bias = match bias {
            None => None,
            Some(Value::Known(bias)) => {
                Some(vector(bias, weight.nrows())? * node.float("beta")?.unwrap_or(1.0))
            }
            Some(_) => return Err("its C is not constant".into()),
        };
        self.dense(ids, weight, bias)
    }

    fn bias(&mut self, ids: &ArrayD<i64>, given: &Tensor) -> Result<Vec<Value>, String> {
        let rows = self.whole_steps(ids)?;
        let width = *ids.shape().last().unwrap_or(&0);
        let one = given.scalar();
        let given = vector(given, width)?;
        match self.layers.last_mut() {
            Some(Found::Dense { bias: bias @ None, activation: Activation::Identity, .. }) => {
                *bias = Some(given)
            }
            layer => match (layer.and_then(Found::activation_mut), one) {
                (Some(Activation::Affine { beta, .. }), Some(one)) if *beta == 0.0 => *beta = one,
                _ => return Err("it adds a constant to something other than a dense layer's output".into()),
            },
        }
        self.replace_tip(width)?;
        Ok(vec![self.in_rows(ids.shape(), &rows)?])
    }

    fn activation(&mut self, ids: &ArrayD<i64>, function: Activation) -> Result<Vec<Value>, String> {
        let places = self.whole_output(ids)?;
        let Some(activation) = self.layers.last_mut().and_then(Found::activation_mut) else {
            return Err("it does not follow a dense layer or a convolution".into());
        };
        *activation = match (*activation, function) {
            (Activation::Identity, _) => function,
            (Activation::Affine { alpha, beta: 0.0 }, Activation::Tanh) => {
                Activation::ScaledTanh { alpha: 1.0, beta: alpha }
            }
            (other, _) => return Err(format!("it follows a layer that already has the activation {other}")),
        };
        self.replaced(&places)
    }

    /// A number times a dense layer's output: part of an affine function or a scaled tanh, with the nodes around it.
    fn factor(&mut self, ids: &ArrayD<i64>, factor: &Tensor) -> Result<Vec<Value>, String> {
        let refuse = || "no layer of the engine computes this here".to_string();
        if factor.scalar().is_none() {
            return self.scaled(ids, factor);
        }
        let places = self.whole_output(ids)?;
        let factor = factor.scalar().ok_or_else(refuse)?;
        let activation = self.layers.last_mut().and_then(Found::activation_mut).ok_or_else(refuse)?;
        *activation = match *activation {
            Activation::Identity => Activation::Affine { alpha: factor, beta: 0.0 },
            Activation::Tanh => Activation::ScaledTanh { alpha: factor, beta: 1.0 },
            Activation::ScaledTanh { alpha: 1.0, beta } => Activation::ScaledTanh { alpha: factor, beta },
            _ => return Err(refuse()),
        };
        self.replaced(&places)
    }

    /// The places of a tensor's elements, which is the whole output of the last layer in whatever order.
    fn whole_output(&self, ids: &ArrayD<i64>) -> Result<ArrayD<usize>, String> {
        let refuse = "its input is not the whole output of the layer before, in order";
        self.places_of(ids).ok_or_else(|| refuse.into())
    }

    /// The last layer's output after a change of its function, with the elements where they were.
    fn replaced(&mut self, places: &ArrayD<usize>) -> Result<Vec<Value>, String> {
        let width = self.tip.map_or(0, |tip| self.sources[tip].shape[2]);
        self.replace_tip(width)?;
        Ok(vec![self.in_places(places)?])
    }

    /// Every row reversed within its own length, so that its last step comes first. No layer reads the other steps.
    fn ends_first(&mut self, node: &Node, ids: &ArrayD<i64>) -> Result<Vec<Value>, String> {
        let axes = (node.int_or("time_axis", 0)?, node.int_or("batch_axis", 1)?);
        let tip = self.tip.ok_or("no layer precedes it")?;
        let (steps, batch) = (self.sources[tip].shape[0], self.batch);
        let straight = self
            .rows_of(ids)
            .is_some_and(|rows| matches!(rows, Rows::Steps(_)) && rows.are_time_major(steps, batch));
        if axes != (0, 1) || !straight || ids.shape()[..ids.ndim() - 1] != [steps, batch] {
            return Err("it reverses something other than the steps of the layer before".into());
        }
        let source = self.source(Content::Ends(tip), vec![steps, batch, ids.shape()[2]])?;
        Ok(vec![Value::Traced(self.sources[source].ids())])
    }

    /// The rows of a tensor that is the whole output of the last layer.
    pub(super) fn whole_steps(&self, ids: &ArrayD<i64>) -> Result<Vec<(usize, usize)>, String> {
        match self.rows_of(ids) {
            Some(Rows::Steps(rows)) if self.sources[self.tip.unwrap_or(0)].content == Content::Steps => {
                Ok(rows)
            }
            _ => Err("its input is not the whole output of the layer before, in order".into()),
        }
    }

    fn softmax(&mut self, node: &Node, ids: &ArrayD<i64>) -> Result<Vec<Value>, String> {
        let default = if self.graph.opset < 13 { 1 } else { -1 };
        let axis = operators::axis(node.int_or("axis", default)?, ids.ndim())?;
        if axis + 1 != ids.ndim() {
            return Err(format!("it covers more than the features of a step: axis {axis} of {}", ids.ndim()));
        }
        self.append(ids, Found::Plain(LayerConfig::Softmax))
    }

    /// The sum of two layers' outputs, or of a layer's two directions.
    fn sum(&mut self, a: &ArrayD<i64>, b: &ArrayD<i64>) -> Result<Vec<Value>, String> {
        if a.shape() != b.shape() {
            return Err("it adds tensors of different shapes".into());
        }
        if let Some(value) = self.sum_of_directions(a, b)? {
            return Ok(vec![value]);
        }
        for (last, earlier) in [(a, b), (b, a)] {
            let Some(Rows::Steps(rows)) = self.rows_of(last) else { continue };
            // The same rows of an earlier layer's input.
            let from = self.reads.iter().position(|&read| {
                let Some(source) = self.sources.get(read) else { return false };
                let same = super::trace::rows(earlier, source, None, &[], false);
                matches!(same, Some(Rows::Steps(same)) if same == rows)
            });
            if let Some(from) = from {
                return self.append(last, Found::Plain(LayerConfig::Residual { from }));
            }
        }
        Err("it is not a residual connection, which adds an earlier layer's input to a layer's output".into())
    }

    fn sum_of_directions(&mut self, a: &ArrayD<i64>, b: &ArrayD<i64>) -> Result<Option<Value>, String> {
        let Some(tip) = self.tip.map(|tip| self.sources[tip].clone()) else { return Ok(None) };
        let [steps, 2, batch, units] = tip.shape[..] else { return Ok(None) };
        if tip.content != Content::Recurrent || a.shape().last() != Some(&units) {
            return Ok(None);
        }
        let mut rows = Vec::new();
        let (a_flat, b_flat): (Vec<i64>, Vec<i64>) =
            (a.iter().copied().collect(), b.iter().copied().collect());
        for (a, b) in a_flat.chunks(units).zip(b_flat.chunks(units)) {
            let place = (0..steps).flat_map(|t| (0..batch).map(move |r| (t, r))).find(|&(t, r)| {
                let is = |row: &[i64], d: usize| {
                    row.iter().enumerate().all(|(h, &id)| id == tip.at(&[t, d, r, h]))
                };
                (is(a, 0) && is(b, 1)) || (is(a, 1) && is(b, 0))
            });
            match place {
                Some(place) => rows.push(place),
                None => return Ok(None),
            }
        }
        let mut sorted = rows.clone();
        sorted.sort_unstable();
        sorted.dedup();
        if sorted.len() != steps * batch || !self.layers.last_mut().is_some_and(Found::add_directions) {
            return Ok(None);
        }
        self.replace_tip(units)?;
        self.in_rows(a.shape(), &rows).map(Some)
    }
}

fn known(value: &Value) -> Option<&Tensor> {
    match value {
        Value::Known(tensor) => Some(tensor),
        _ => None,
    }
}

/// A tensor to run an operator on: identities as whole numbers, tokens as their example values.
fn stand_in(value: &Value) -> Option<Tensor> {
    match value {
        Value::Known(tensor) | Value::Tokens(tensor) => Some(tensor.clone()),
        Value::Traced(ids) => Some(Tensor::I64(ids.clone())),
        Value::Lengths => None,
    }
}

pub(super) fn matrix(tensor: &Tensor) -> Result<Array2<f32>, String> {
    let array = numbers("its constant", Some(tensor))?.ok_or("its constant is missing")?;
    array
        .view()
        .into_dimensionality::<Ix2>()
        .map(|matrix| matrix.to_owned())
        .map_err(|_| format!("expected a matrix, found shape {:?}", array.shape()))
}

/// A bias of `width` numbers, or one number for all.
pub(super) fn vector(tensor: &Tensor, width: usize) -> Result<Array1<f32>, String> {
    let array = numbers("its constant", Some(tensor))?.ok_or("its constant is missing")?;
    let flat: Vec<f32> = array.iter().copied().collect();
    match flat[..] {
        [one] => Ok(Array1::from_elem(width, one)),
        _ if flat.len() == width && array.shape().last() == Some(&width) => Ok(Array1::from(flat)),
        _ => Err(format!("expected {width} numbers, found shape {:?}", array.shape())),
    }
}
