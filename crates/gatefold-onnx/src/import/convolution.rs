//! A Conv over the steps of `[B, I, T]`, with the zeros that a Pad before it has added.

use super::Value;
use super::chain::{Chain, Found};
use super::nodes::vector;
use super::trace::{Content, Rows};
use crate::graph::Node;
use crate::operators::Convolution;
use crate::recurrent::numbers;
use crate::tensor::Tensor;
use gatefold_model::{Activation, Conv1dConfig};
use ndarray::{Array3, ArrayD, Axis};

/// The identity of zeros that a Pad adds; elements of sources are numbered from 1.
const PADDING: i64 = 0;

/// Steps of a sequence, between steps of zeros.
struct Padded {
    /// `[B, T, I]`
    steps: ArrayD<i64>,
    before: usize,
    after: usize,
}

impl Padded {
    /// From `[B, I, T]`.
    fn new(ids: &ArrayD<i64>) -> Padded {
        let rows = ids.view().permuted_axes(vec![0, 2, 1]);
        let is_padding = |t: usize| rows.index_axis(Axis(1), t).iter().all(|&id| id == PADDING);
        let all = rows.shape()[1];
        let before = (0..all).take_while(|&t| is_padding(t)).count();
        let after = (before..all).rev().take_while(|&t| is_padding(t)).count();
        let steps = rows.slice_axis(Axis(1), (before..all - after).into());
        Padded { steps: steps.as_standard_layout().into_owned(), before, after }
    }
}

impl Chain<'_> {
    /// Adds a convolution.
    pub(super) fn convolution(
        &mut self,
        node: &Node,
        ids: &ArrayD<i64>,
        weight: &Tensor,
        bias: Option<&Value>,
    ) -> Result<Vec<Value>, String> {
        let conv = Convolution::of_node(node, weight.shape())?;
        let (&[kernel], &[stride], &[dilation]) = (&conv.kernel[..], &conv.stride[..], &conv.dilation[..])
        else {
            return Err(format!("it is over {} axes; expected a convolution over one", conv.kernel.len()));
        };
        if self.lengths.is_some() {
            return Err("it reads past the ends of rows, whose lengths are an input of the model".into());
        }
        if conv.groups != 1 {
            return Err(format!("it has {} groups of channels; expected 1", conv.groups));
        }
        let weight = numbers("its weight", Some(weight))?.ok_or("its weight is missing")?;
        let weight: Array3<f32> =
            weight.view().into_dimensionality().map_err(|error| error.to_string())?.to_owned();
        let (output, input, _) = weight.dim();
        if ids.ndim() != 3 || ids.shape()[1] != input {
            return Err(format!("its input of shape {:?} does not fit {input} channels", ids.shape()));
        }
        let bias = match bias {
            None => None,
            Some(Value::Known(bias)) => Some(vector(bias, output)?),
            Some(_) => return Err("its bias is not constant".into()),
        };
        let (left, right) = conv.padding(0, None).ok_or("its padding depends on the number of steps")?;
        let Padded { steps, before, after } = Padded::new(ids);
        let count = self.whole_rows(&steps)?;
        let padding = (before + left, after + right);
        let padded = count + padding.0 + padding.1;
        let Some(spare) = padded.checked_sub(conv.reach(0)) else {
            return Err(format!("each output step reads {} steps, of {padded}", conv.reach(0)));
        };
        let config = Conv1dConfig::new(output, kernel).stride(stride).dilation(dilation);
        let config = config.padding(padding.0, padding.1).bias(bias.is_some());
        let layer = Found::Conv1d { config, weight, bias, activation: Activation::Identity };
        let shape = vec![spare / stride + 1, self.batch, output];
        let source = self.push(layer, Content::Steps, shape)?;
        let ids = self.sources[source].ids().permuted_axes(vec![1, 2, 0]);
        Ok(vec![Value::Traced(ids.as_standard_layout().into_owned())])
    }

    /// The number of steps of a tensor `[B, T, I]` that is the whole output of the layer before.
    fn whole_rows(&mut self, ids: &ArrayD<i64>) -> Result<usize, String> {
        let (places, _) = self.settle(ids)?;
        let (steps, batch) = (places.len() / self.batch.max(1), self.batch);
        let in_order = Rows::Steps(places).are_batch_first(steps, batch);
        if ids.shape()[..2] != [batch, steps] || !in_order {
            return Err("its input is not laid out as [batch, channels, steps]".into());
        }
        Ok(steps)
    }
}
