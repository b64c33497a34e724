//! Layer normalisation: the operator, the nodes that exporters write for it below opset 17, and scales of features.

use super::Value;
use super::chain::{Chain, Found};
use super::nodes::vector;
use super::trace::Rows;
use crate::graph::{Attribute, Graph, Node};
use crate::operators;
use crate::tensor::Tensor;
use gatefold_model::Activation;
use ndarray::{Array1, Array2, ArrayD, Axis};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

/// The nodes of a graph, where those of a normalisation that is written out,
/// `d / sqrt(mean(d^2) + epsilon) weight + bias` of `d = x - mean(x)`, are one LayerNormalization.
pub(super) fn fused(graph: &Graph) -> Vec<Cow<'_, Node>> {
    let names = Names::new(graph);
    let mut replaced: BTreeMap<usize, Node> = BTreeMap::new();
    let mut gone: BTreeSet<usize> = BTreeSet::new();
    for at in 0..graph.nodes.len() {
        if let Some(found) = names.normalisation(at) {
            let (&last, _) = found.nodes.split_last().expect("it has nodes");
            gone.extend(&found.nodes);
            replaced.insert(last, found.fused(&graph.nodes[last]));
        }
    }
    let nodes = graph.nodes.iter().enumerate();
    nodes
        .filter_map(|(at, node)| match replaced.remove(&at) {
            Some(fused) => Some(Cow::Owned(fused)),
            None => (!gone.contains(&at)).then_some(Cow::Borrowed(node)),
        })
        .collect()
}

/// A normalisation that is written out.
struct Written {
    x: String,
    axis: i64,
    epsilon: f32,
    weight: Option<String>,
    bias: Option<String>,
    /// Its nodes; the last gives its output.
    nodes: Vec<usize>,
}

impl Written {
    fn fused(self, last: &Node) -> Node {
        let mut inputs = vec![Some(self.x), self.weight, self.bias];
        while inputs.last().is_some_and(Option::is_none) {
            inputs.pop();
        }
        let attributes = [("axis", Attribute::Int(self.axis)), ("epsilon", Attribute::Float(self.epsilon))];
        Node {
            name: last.name.clone(),
            operator: "LayerNormalization".into(),
            inputs,
            outputs: last.outputs.clone(),
            attributes: attributes.map(|(key, value)| (key.to_owned(), value)).into(),
        }
    }
}

/// Who makes and who reads each value of a graph.
struct Names<'a> {
    graph: &'a Graph,
    makers: BTreeMap<&'a str, usize>,
    readers: BTreeMap<&'a str, Vec<usize>>,
    /// Outputs of the graph, and names that graphs within it read.
    seen_outside: BTreeSet<&'a str>,
}

impl<'a> Names<'a> {
    fn new(graph: &'a Graph) -> Names<'a> {
        let (mut makers, mut readers) = (BTreeMap::new(), BTreeMap::<&str, Vec<usize>>::new());
        let mut seen_outside: BTreeSet<&str> = graph.outputs.iter().map(|port| port.name.as_str()).collect();
        for (at, node) in graph.nodes.iter().enumerate() {
            makers.extend(node.outputs.iter().flatten().map(|name| (name.as_str(), at)));
            for name in node.inputs.iter().flatten() {
                readers.entry(name).or_default().push(at);
            }
            node.attributes.values().for_each(|value| names_within(value, &mut seen_outside));
        }
        Names { graph, makers, readers, seen_outside }
    }

    /// The node that makes a value, if it is of this operator.
    fn made_by(&self, name: &str, operator: &str) -> Option<(usize, &'a Node)> {
        let at = *self.makers.get(name)?;
        let node = &self.graph.nodes[at];
        (node.operator == operator).then_some((at, node))
    }

    /// A constant of the graph, in a node of its own or without.
    fn constant(&self, name: &str) -> Option<Cow<'a, Tensor>> {
        if let Some(constant) = self.graph.constants.get(name) {
            return Some(Cow::Borrowed(constant));
        }
        let (_, node) = self.made_by(name, "Constant")?;
        match node.attributes.get("value").or(node.attributes.get("value_float"))? {
            Attribute::Tensor(tensor) => Some(Cow::Borrowed(tensor)),
            Attribute::Float(value) => Some(Cow::Owned(Tensor::F32(ndarray::arr0(*value).into_dyn()))),
            _ => None,
        }
    }

    /// The axis of a mean over one, whose length stays 1.
    fn mean_axis(&self, node: &Node) -> Option<i64> {
        let given = node.input_name(1).map(|name| self.constant(name)?.integers());
        let axes = given.unwrap_or_else(|| node.ints("axes").ok()?.map(<[i64]>::to_vec))?;
        match (node.int_or("keepdims", 1), &axes[..]) {
            (Ok(1), [axis]) => Some(*axis),
            _ => None,
        }
    }

    /// The two inputs of a node, the one that is constant last.
    fn with_constant(&self, node: &'a Node) -> Option<(&'a str, &'a str)> {
        let (a, b) = (node.input_name(0)?, node.input_name(1)?);
        match (self.constant(a).is_some(), self.constant(b).is_some()) {
            (false, true) => Some((a, b)),
            (true, false) => Some((b, a)),
            _ => None,
        }
    }

    /// Whether a value is `x - mean(x)` over an axis; adds its nodes.
    fn centred(&self, name: &str, nodes: &mut Vec<usize>) -> Option<(&'a str, i64)> {
        let (difference, sub) = self.made_by(name, "Sub")?;
        let (x, mean) = (sub.input_name(0)?, sub.input_name(1)?);
        let (mean, reduced) = self.made_by(mean, "ReduceMean")?;
        nodes.extend([mean, difference]);
        (reduced.input_name(0)? == x).then(|| Some((x, self.mean_axis(reduced)?)))?
    }

    /// The normalisation whose division this node is.
    fn normalisation(&self, at: usize) -> Option<Written> {
        let division = &self.graph.nodes[at];
        if division.operator != "Div" {
            return None;
        }
        let mut nodes = Vec::new();
        let (x, axis) = self.centred(division.input_name(0)?, &mut nodes)?;
        let (root, sqrt) = self.made_by(division.input_name(1)?, "Sqrt")?;
        let (sum, add) = self.made_by(sqrt.input_name(0)?, "Add")?;
        let (variance, epsilon) = self.with_constant(add)?;
        let epsilon = self.constant(epsilon)?.scalar()?;
        let (mean, reduced) = self.made_by(variance, "ReduceMean")?;
        let squared = reduced.input_name(0)?;
        let (square, base) = self.square(squared)?;
        if self.mean_axis(reduced)? != axis || self.centred(base, &mut nodes)? != (x, axis) {
            return None;
        }
        nodes.extend([square, mean, sum, root, at]);
        let mut found = Written { x: x.into(), axis, epsilon, weight: None, bias: None, nodes };
        if let Some((next, factor)) = self.only_reader(division, "Mul") {
            found.weight = Some(factor.into());
            found.nodes.push(next);
            if let Some((next, summand)) = self.only_reader(&self.graph.nodes[next], "Add") {
                found.bias = Some(summand.into());
                found.nodes.push(next);
            }
        }
        self.is_closed(&found.nodes).then_some(found)
    }

    /// The node that squares a value.
    fn square(&self, name: &str) -> Option<(usize, &'a str)> {
        if let Some((at, node)) = self.made_by(name, "Pow") {
            let two = self.constant(node.input_name(1)?)?.scalar()? == 2.0;
            return two.then(|| Some((at, node.input_name(0)?)))?;
        }
        let (at, node) = self.made_by(name, "Mul")?;
        let base = node.input_name(0)?;
        (node.input_name(1)? == base).then_some((at, base))
    }

    /// The only node that reads a node's output, if it is of this operator and its other input is constant.
    fn only_reader(&self, node: &Node, operator: &str) -> Option<(usize, &'a str)> {
        let output = node.outputs.first()?.as_deref()?;
        let [reader] = self.readers.get(output)?[..] else { return None };
        let next = &self.graph.nodes[reader];
        let (_, constant) = self.with_constant(next).filter(|_| next.operator == operator)?;
        (!self.seen_outside.contains(output)).then_some((reader, constant))
    }

    /// Whether nobody else reads what these nodes make, but for the last.
    fn is_closed(&self, nodes: &[usize]) -> bool {
        let (_, inner) = nodes.split_last().expect("it has nodes");
        inner.iter().flat_map(|&at| self.graph.nodes[at].outputs.iter().flatten()).all(|name| {
            let readers = self.readers.get(name.as_str()).into_iter().flatten();
            !self.seen_outside.contains(name.as_str()) && readers.into_iter().all(|at| nodes.contains(at))
        })
    }
}

/// All names that the nodes and outputs of graphs in an attribute mention.
fn names_within<'a>(attribute: &'a Attribute, names: &mut BTreeSet<&'a str>) {
    let Attribute::Graph(graph) = attribute else { return };
    names.extend(graph.outputs.iter().map(|port| port.name.as_str()));
    for node in &graph.nodes {
        names.extend(node.inputs.iter().flatten().map(String::as_str));
        node.attributes.values().for_each(|value| names_within(value, names));
    }
}

impl Chain<'_> {
    /// Adds a normalisation of each step.
    pub(super) fn layer_normalization(
        &mut self,
        node: &Node,
        ids: &ArrayD<i64>,
        [weight, bias]: [Option<&Value>; 2],
    ) -> Result<Vec<Value>, String> {
        if node.outputs.iter().skip(1).any(Option::is_some) {
            return Err("its mean or its deviation is used".into());
        }
        let axis = operators::axis(node.int_or("axis", -1)?, ids.ndim())?;
        if axis + 1 != ids.ndim() {
            return Err(format!("it covers more than the features of a step: axis {axis} of {}", ids.ndim()));
        }
        let width = ids.shape()[axis];
        let given = |value: Option<&Value>, default: f32| match value {
            None => Ok(Array1::from_elem(width, default)),
            Some(Value::Known(values)) => vector(values, width),
            Some(_) => Err("its scale or its bias is not constant".into()),
        };
        let (weight, bias) = (given(weight, 1.0)?, given(bias, 0.0)?);
        let epsilon = node.float("epsilon")?.unwrap_or(1e-5);
        self.append(ids, Found::Normalise { weight, bias, epsilon })
    }

    /// A factor for each feature of a layer that has no function to take it: a dense layer with a diagonal weight, as what is
    /// left of a batch normalisation.
    pub(super) fn scaled(&mut self, ids: &ArrayD<i64>, factor: &Tensor) -> Result<Vec<Value>, String> {
        let last = self.layers.last_mut();
        let free = last.is_some_and(|layer| layer.activation_mut().is_none()) && self.inside == 0;
        let ids = &self.resolve(ids)?;
        if !free || !matches!(self.rows_of(ids), Some(Rows::Steps(_))) {
            return Err("no layer of the engine computes this here".into());
        }
        let factor = vector(factor, *ids.shape().last().unwrap_or(&0))?;
        let weight = Array2::from_diag(&factor);
        Ok(vec![Value::Traced(self.dense_layer(ids, weight, None, Activation::Identity)?)])
    }
    /// A batch normalisation with the statistics of training: a factor and a shift for each feature, which is axis 1. They join
    /// a dense layer or a convolution without a function; after others they are a dense layer with a diagonal weight.
    pub(super) fn batch_normalization(
        &mut self,
        node: &Node,
        ids: &ArrayD<i64>,
        inputs: &[Option<Value>],
    ) -> Result<Vec<Value>, String> {
        let trains =
            node.int_or("training_mode", 0)? != 0 || node.outputs.iter().skip(1).any(Option::is_some);
        if trains {
            return Err(
                "it uses the statistics of a batch, as in training; export the model for inference".into()
            );
        }
        if node.int_or("spatial", 1)? == 0 {
            return Err("it has statistics for each step".into());
        }
        let (true, Some(&width)) = (self.inside == 0, ids.shape().get(1)) else {
            return Err("no layer of the engine computes this here".into());
        };
        let given = |at: usize, name: &str| match inputs.get(at).and_then(Option::as_ref) {
            Some(Value::Known(values)) if values.len() == width => vector(values, width),
            Some(Value::Known(values)) => {
                Err(format!("its {name}: expected {width} numbers, found shape {:?}", values.shape()))
            }
            _ => Err(format!("its {name} is not constant")),
        };
        let (scale, bias) = (given(1, "scale")?, given(2, "bias")?);
        let (mean, variance) = (given(3, "mean")?, given(4, "variance")?);
        let epsilon = node.float("epsilon")?.unwrap_or(1e-5);
        let factor = scale / (variance + epsilon).mapv(f32::sqrt);
        let shift = bias - mean * &factor;
        let last = ids.ndim() - 1;
        let mut axes: Vec<usize> = (0..=last).filter(|&axis| axis != 1).collect();
        axes.push(1);
        let rows = self.resolve(&ids.view().permuted_axes(axes.clone()).as_standard_layout().into_owned())?;
        let result = self.scaled_and_shifted(&rows, factor, shift)?;
        let mut back: Vec<usize> = (0..=last).collect();
        back.sort_by_key(|&axis| axes[axis]);
        let result = result.view().permuted_axes(back).as_standard_layout().into_owned();
        Ok(vec![Value::Traced(result)])
    }

    /// A factor and a shift for each feature of these rows.
    fn scaled_and_shifted(
        &mut self,
        ids: &ArrayD<i64>,
        factor: Array1<f32>,
        shift: Array1<f32>,
    ) -> Result<ArrayD<i64>, String> {
        let own = self.whole_steps(ids);
        let bias = match (&own, self.layers.last_mut()) {
            (Ok(_), Some(Found::Dense { weight, bias, activation: Activation::Identity })) => {
                *weight *= &factor.view().insert_axis(Axis(1));
                bias
            }
            (Ok(_), Some(Found::Conv1d { config, weight, bias, activation: Activation::Identity })) => {
                *weight *= &factor.view().insert_axis(Axis(1)).insert_axis(Axis(2));
                *config = config.clone().bias(true);
                bias
            }
            _ => return self.dense_layer(ids, Array2::from_diag(&factor), Some(shift), Activation::Identity),
        };
        *bias = Some(bias.take().map_or(shift.clone(), |bias| bias * &factor + &shift));
        self.replace_tip(factor.len())?;
        match self.in_rows(ids.shape(), &own?)? {
            Value::Traced(ids) => Ok(ids),
            _ => Err("its output is not traced".into()),
        }
    }
}
