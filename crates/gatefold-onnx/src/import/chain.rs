//! The layers found so far, and what the next one reads.

use super::expression::Expressions;
use super::recognise::Same;
use super::trace::{Content, Rows, Source, rows};
use super::{BATCH, GivenState, Imported, Layout, MOST_STEPS, STEPS, Value, Values};
use crate::graph::{Axis, Graph, Port};
use crate::operators::{Budget, Convolution};
use crate::recurrent::{RecurrentOperator, Weights};
use crate::tensor::{Tensor, volume};
use crate::{ElementType, OnnxError};
use gatefold_model::{
    Activation, Conv1dConfig, DenseConfig, Direction, EmbeddingConfig, GruConfig, InitialState, LayerConfig,
    NetworkConfig, Parameters, Role,
};
use ndarray::{Array1, Array2, Array3, ArrayD, Axis as AxisOf};
use std::collections::BTreeMap;

/// A layer found in a graph, with its weights.
#[derive(Clone)]
pub(super) enum Found {
    Recurrent {
        operator: RecurrentOperator,
        hidden: usize,
        weights: Box<Weights>,
        initial: Option<Box<Initial>>,
    },
    Dense {
        weight: Array2<f32>,
        bias: Option<Array1<f32>>,
        activation: Activation,
    },
    Conv1d {
        /// Without an activation.
        config: Conv1dConfig,
        /// `[O, I, K]`
        weight: Array3<f32>,
        bias: Option<Array1<f32>>,
        activation: Activation,
    },
    Embedding(Array2<f32>),
    Normalise {
        weight: Array1<f32>,
        bias: Array1<f32>,
        epsilon: f32,
    },
    Plain(LayerConfig),
}

/// An initial state stored in the graph: the same for every row, one vector for each direction.
#[derive(Clone)]
pub(super) struct Initial {
    pub(super) h: Array2<f32>,
    pub(super) c: Option<Array2<f32>>,
}

pub(super) struct Chain<'a> {
    pub(super) graph: &'a Graph,
    pub(super) values: Values,
    pub(super) sources: Vec<Source>,
    pub(super) layers: Vec<Found>,
    /// The number of the source that each layer reads.
    pub(super) reads: Vec<usize>,
    /// The source that the next layer reads; `None` before an embedding.
    pub(super) tip: Option<usize>,
    pub(super) steps: usize,
    pub(super) batch: usize,
    input: (String, Layout),
    width: usize,
    pub(super) lengths: Option<String>,
    pub(super) states: Vec<GivenState>,
    pub(super) budget: Budget,
    /// Elements that no single layer computes.
    pub(super) expressions: Expressions,
    /// Those of them that turned out to be a layer's, and elements of layers that have changed since.
    pub(super) same: Same,
    /// Whether a layer was put together from elements, so that its results must be compared with the graph's.
    pub(super) rebuilt: bool,
    /// The layers within each other that are being put together.
    pub(super) depth: usize,
    /// The graphs inside nodes that are being walked.
    pub(super) inside: usize,
    /// The number that masks a step of the input.
    pub(super) mask: Option<f32>,
    /// Whether a product with one step belongs to a cell written out step by step, until a recurrent layer is found.
    written_out: bool,
    /// The first node that no layer computes by itself.
    pub(super) first_part: Option<OnnxError>,
}

/// The layers and values that a chain has found so far.
pub(super) struct Snapshot {
    layers: Vec<Found>,
    reads: Vec<usize>,
    sources: Vec<Source>,
    states: Vec<GivenState>,
    tip: Option<usize>,
    same: Same,
    rebuilt: bool,
    depth: usize,
}

impl Snapshot {
    pub(super) fn of(chain: &Chain) -> Snapshot {
        Snapshot {
            layers: chain.layers.clone(),
            reads: chain.reads.clone(),
            sources: chain.sources.clone(),
            states: chain.states.clone(),
            tip: chain.tip,
            same: chain.same.clone(),
            rebuilt: chain.rebuilt,
            depth: chain.depth,
        }
    }

    pub(super) fn restore(self, chain: &mut Chain) {
        let Snapshot { layers, reads, sources, states, tip, same, rebuilt, depth } = self;
        (chain.layers, chain.reads, chain.sources, chain.states) = (layers, reads, sources, states);
        (chain.tip, chain.same, chain.rebuilt, chain.depth) = (tip, same, rebuilt, depth);
    }
}

impl<'a> Chain<'a> {
    pub(super) fn new(
        graph: &'a Graph,
        main: &Port,
        layout: Layout,
        written_out: bool,
    ) -> Result<Chain<'a>, String> {
        let shape = main.shape.as_deref().unwrap_or_default();
        let (time, rows) = if layout == Layout::BatchFirst { (1, 0) } else { (0, 1) };
        let len = |axis: usize, free: usize| match shape.get(axis) {
            Some(Axis::Fixed(len)) => *len,
            _ => free,
        };
        let (steps, batch) = (len(time, steps_of(graph)), len(rows, BATCH));
        let mut chain = Chain {
            graph,
            values: BTreeMap::new(),
            sources: Vec::new(),
            layers: Vec::new(),
            reads: Vec::new(),
            tip: None,
            steps,
            batch,
            input: (main.name.clone(), layout),
            width: 1,
            lengths: None,
            states: Vec::new(),
            budget: Budget::walking(graph.stored()),
            expressions: Expressions::new(graph.stored()),
            same: Same::default(),
            rebuilt: false,
            depth: 0,
            inside: 0,
            mask: None,
            written_out,
            first_part: None,
        };
        for port in &graph.inputs {
            let value = if port == main { chain.sequences(port, layout)? } else { chain.other(port)? };
            chain.values.insert(port.name.clone(), value);
        }
        Ok(chain)
    }

    fn sequences(&mut self, port: &Port, layout: Layout) -> Result<Value, String> {
        let (steps, batch) = (self.steps, self.batch);
        let turned = layout == Layout::BatchFirst;
        if port.element == Some(ElementType::F32) {
            let Some([_, _, Axis::Fixed(width)]) = port.shape.as_deref() else {
                return Err(format!("the input {}: expected a fixed number of features", port.name));
            };
            self.width = *width;
            let source = self.source(Content::Steps, vec![steps, batch, *width])?;
            self.tip = Some(source);
            let ids = self.sources[source].ids();
            let ids =
                if turned { ids.permuted_axes(vec![1, 0, 2]).as_standard_layout().into_owned() } else { ids };
            return Ok(Value::Traced(ids));
        }
        let shape = if turned { [batch, steps] } else { [steps, batch] };
        let len = volume(&shape)? as i64;
        // Example tokens within the smallest table they index, scattered so that any other order of axes changes them.
        let tables = self.graph.nodes.iter().filter(|node| node.operator == "Gather");
        let tables = tables.filter_map(|node| self.graph.constants.get(node.input_name(0)?));
        let tokens = tables.filter(|t| t.shape().len() == 2).map(|table| table.shape()[0]).min().unwrap_or(2);
        if tokens < 2 {
            return Err("its embedding has fewer than two tokens".into());
        }
        // A token that masks its step is no example.
        let masked = self.graph.nodes.iter().filter(|node| node.operator == "Equal").find_map(|node| {
            let (a, b) = (node.input_name(0)?, node.input_name(1)?);
            let other = if a == port.name { b } else { a };
            let value = self.graph.constants.get(other)?.scalar()?;
            (a == port.name || b == port.name).then_some(value as i64)
        });
        let masked = masked.filter(|&masked| tokens > 2 && masked >= 0);
        let scattered = |k: i64| {
            let token =
                (k.wrapping_mul(0x9e37_79b9) >> 7).rem_euclid(tokens as i64 - i64::from(masked.is_some()));
            token + i64::from(masked.is_some_and(|masked| token >= masked))
        };
        let values: Vec<i64> = (0..len).map(scattered).collect();
        let array = ArrayD::from_shape_vec(shape.to_vec(), values).map_err(|error| error.to_string())?;
        Ok(Value::Tokens(match port.element {
            Some(ElementType::I32) => Tensor::I32(array.mapv(|value| value as i32)),
            _ => Tensor::I64(array),
        }))
    }

    /// An input other than the sequences: their lengths, or initial states.
    fn other(&mut self, port: &Port) -> Result<Value, String> {
        let axes = port.shape.as_ref().map(Vec::len);
        match (port.element, axes) {
            (Some(ElementType::I64 | ElementType::I32), Some(1)) if self.lengths.is_none() => {
                self.lengths = Some(port.name.clone());
                Ok(Value::Lengths)
            }
            (Some(ElementType::F32), Some(2 | 3)) => {
                let shape = port.shape.as_deref().unwrap_or_default();
                let mut lens = Vec::new();
                for (axis, len) in shape.iter().enumerate() {
                    lens.push(match len {
                        Axis::Fixed(len) => *len,
                        // The batch is the axis before the units; the other axes have to be fixed.
                        _ if axis + 2 == shape.len() => self.batch,
                        _ => return Err(second_input(port)),
                    });
                }
                let source = self.source(Content::Given(port.name.clone()), lens)?;
                Ok(Value::Traced(self.sources[source].ids()))
            }
            _ => Err(second_input(port)),
        }
    }

    pub(super) fn input_is_batch_first(&self) -> bool {
        self.input.1 == Layout::BatchFirst
    }

    /// Adds a source after the layers so far.
    pub(super) fn source(&mut self, content: Content, shape: Vec<usize>) -> Result<usize, String> {
        volume(&shape)?;
        let first = self.sources.last().map_or(1, |last| last.first + last.len() as i64);
        self.sources.push(Source { content, shape, first, place: self.layers.len() });
        Ok(self.sources.len() - 1)
    }

    /// The final h of the recurrent layer whose output is the tip.
    fn final_h(&self) -> Option<&Source> {
        let place = self.layers.len();
        self.sources.iter().rev().find(|source| source.content == Content::FinalH && source.place == place)
    }

    /// Whether each direction of the last layer is reversed.
    fn reversed(&self) -> &'static [bool] {
        match self.layers.last() {
            Some(Found::Recurrent { operator, .. }) => operator.direction.scans(),
            _ => &[],
        }
    }

    /// Identifies a tensor's rows as rows of the last layer's output.
    pub(super) fn rows_of(&self, ids: &ArrayD<i64>) -> Option<Rows> {
        if let Some(rows) = self.own_ends(ids) {
            return Some(Rows::LastStep(rows));
        }
        let tip = &self.sources[self.tip?];
        rows(ids, tip, self.final_h(), self.reversed(), self.lengths.is_some())
    }

    /// The batch's rows in order of appearance, if the tensor holds each row's own last step exactly once.
    fn own_ends(&self, ids: &ArrayD<i64>) -> Option<Vec<usize>> {
        // Reversed rows of an earlier tip, before a bias or an activation joined the layer, do not count.
        let of_tip = Content::Ends(self.tip?);
        let ends = self.sources.iter().rev().find(|source| source.content == of_tip)?;
        let (batch, width) = (self.batch, ends.shape[2]);
        let first: Vec<i64> = (0..batch * width).map(|k| ends.first + k as i64).collect();
        let flat: Vec<i64> = ids.iter().copied().collect();
        let rows = flat.chunks(width).map(|row| first.chunks(width).position(|end| end == row));
        let rows: Vec<usize> = rows.collect::<Option<_>>()?;
        let whole = rows.len() == batch && (0..batch).all(|b| rows.contains(&b));
        (whole && ids.shape().last() == Some(&width)).then_some(rows)
    }

    /// Turns the rows into whole steps: a last step or a final state becomes a layer of its own.
    pub(super) fn settle(&mut self, ids: &ArrayD<i64>) -> Result<(Vec<(usize, usize)>, usize), String> {
        let ids = &self.resolve(ids)?;
        let found = self.rows_of(ids).ok_or(
            "its input is not the whole output of the layer before, in order; branches are not supported",
        )?;
        let width = *ids.shape().last().unwrap_or(&0);
        let (layer, rows) = match found {
            Rows::Steps(rows) => return Ok((rows, width)),
            Rows::LastStep(rows) => (LayerConfig::LastStep, rows),
            Rows::FinalState(rows) => (LayerConfig::FinalState, rows),
        };
        let batch = self.batch;
        self.push(Found::Plain(layer), Content::Steps, vec![1, batch, width])?;
        Ok((rows.into_iter().map(|b| (0, b)).collect(), width))
    }

    /// Adds a layer whose output is a new source, which becomes the tip.
    pub(super) fn push(
        &mut self,
        layer: Found,
        content: Content,
        shape: Vec<usize>,
    ) -> Result<usize, String> {
        self.reads.push(self.tip.unwrap_or(usize::MAX));
        self.layers.push(layer);
        let source = self.source(content, shape)?;
        self.tip = Some(source);
        Ok(source)
    }

    /// Gives the last layer a new source, since its output changed. No layer may read its earlier output.
    pub(super) fn replace_tip(&mut self, width: usize) -> Result<(), String> {
        let steps = self.tip.map_or(1, |tip| self.sources[tip].shape[0]);
        let source = self.source(Content::Steps, vec![steps, self.batch, width])?;
        self.tip = Some(source);
        Ok(())
    }

    /// The place in the tip of each element, if the tensor is the whole output of the last layer in whatever order.
    pub(super) fn places_of(&self, ids: &ArrayD<i64>) -> Option<ArrayD<usize>> {
        let tip = &self.sources[self.tip?];
        let mut seen = vec![false; tip.len()];
        let mut once = ids.len() == tip.len() && tip.content == Content::Steps;
        let places = ids.mapv(|id| {
            let place = usize::try_from(id - tip.first).ok().filter(|&place| place < seen.len());
            once &= place.is_some_and(|place| !std::mem::replace(&mut seen[place], true));
            place.unwrap_or(0)
        });
        once.then_some(places)
    }

    /// Identities of the tip's elements at these places.
    pub(super) fn in_places(&self, places: &ArrayD<usize>) -> Result<Value, String> {
        let tip = self.tip.map(|tip| &self.sources[tip]).ok_or("no layer precedes it")?;
        Ok(Value::Traced(places.mapv(|place| tip.first + place as i64)))
    }

    /// Identities of the tip's rows in the given order. The shape is the given one with the tip's width as its last
    /// axis.
    pub(super) fn in_rows(&self, shape: &[usize], rows: &[(usize, usize)]) -> Result<Value, String> {
        let tip = self.tip.map(|tip| &self.sources[tip]).ok_or("no layer precedes it")?;
        let width = tip.shape[2];
        let mut shape = shape.to_vec();
        if let Some(last) = shape.last_mut() {
            *last = width;
        }
        let ids = rows.iter().flat_map(|&(t, b)| (0..width).map(move |f| tip.at(&[t, b, f]))).collect();
        ArrayD::from_shape_vec(shape, ids).map(Value::Traced).map_err(|error| error.to_string())
    }

    /// Builds the network after every node was walked.
    /// Tells too whether its results must be compared with the graph's.
    pub(super) fn finish(mut self, outputs: &[Port]) -> Result<(Imported, bool), OnnxError> {
        let refuse = |problem: String| OnnxError::Import(problem);
        let mut output = None;
        for port in outputs {
            let value = self.values.get(&port.name).cloned().or_else(|| {
                self.graph.constants.get(&port.name).map(|constant| Value::Known(constant.clone()))
            });
            let Some(Value::Traced(ids)) = value else {
                return Err(refuse(format!("the output {} does not come from a layer", port.name)));
            };
            let ids = self.resolve(&ids).map_err(|reason| self.no_part(&reason))?;
            if output.is_none() && self.rows_of(&ids).is_some() {
                output =
                    Some((port.name.clone(), self.layout(&ids).map_err(|p| refuse(format!("{port}: {p}")))?));
            } else if !self.is_final_state(&ids) {
                return Err(refuse(format!(
                    "the output {} is neither the last layer's output nor a final state; branches are not supported",
                    port.name
                )));
            }
        }
        let output = output.ok_or_else(|| refuse("no output is the last layer's".into()))?;
        let (config, parameters) = self.build()?;
        let Chain { input, lengths, states, mask, .. } = self;
        let rebuilt = self.rebuilt || mask.is_some();
        Ok((Imported { config, parameters, input, output, lengths, states, mask }, rebuilt))
    }

    /// The refusal of elements that are no layer's: the first node that no layer computes by itself.
    fn no_part(&self, reason: &str) -> OnnxError {
        match &self.first_part {
            Some(OnnxError::Node { node, operator, problem }) => OnnxError::Node {
                node: node.clone(),
                operator: operator.clone(),
                problem: format!("{problem}; nor is it part of a cell that is written out: {reason}"),
            },
            _ => OnnxError::Import(reason.into()),
        }
    }

    /// Whether a product with these rows is put off: one step of sequences, inside a loop or before any recurrent layer.
    pub(super) fn is_put_off(&self, ids: &ArrayD<i64>) -> bool {
        let recurrent = matches!(self.layers.last(), Some(Found::Recurrent { .. }));
        (self.inside > 0 || (self.written_out && !recurrent))
            && matches!(self.rows_of(ids), Some(Rows::LastStep(_) | Rows::FinalState(_)))
    }

    /// The layout of the network's output in a tensor. Adds a layer that keeps one step if the tensor holds only one.
    fn layout(&mut self, ids: &ArrayD<i64>) -> Result<Layout, String> {
        let rows = self.rows_of(ids).ok_or("it is not the last layer's output")?;
        let steps = match rows {
            Rows::Steps(_) => self.tip.map_or(1, |tip| self.sources[tip].shape[0]),
            Rows::LastStep(_) | Rows::FinalState(_) => 1,
        };
        self.settle(ids)?;
        let shape = &ids.shape()[..ids.ndim() - 1];
        if shape == [steps, self.batch] && rows.are_time_major(steps, self.batch) {
            Ok(Layout::TimeMajor)
        } else if shape == [self.batch, steps] && rows.are_batch_first(steps, self.batch) {
            Ok(Layout::BatchFirst)
        } else if shape == [self.batch] && steps == 1 && rows.are_time_major(1, self.batch) {
            Ok(Layout::OneStep)
        } else if shape == [steps, 1, self.batch] && rows.are_time_major(steps, self.batch) {
            Ok(Layout::OneDirection)
        } else {
            Err("its rows are not ordered by steps and batch".into())
        }
    }

    /// Whether all elements belong to final states, or to the last step of recurrent layers in one direction.
    fn is_final_state(&self, ids: &ArrayD<i64>) -> bool {
        ids.iter().all(|&id| {
            let source = self.sources.iter().find(|s| id >= s.first && id < s.first + s.len() as i64);
            source.is_some_and(|source| match (&source.content, &source.shape[..]) {
                (Content::FinalH | Content::FinalC, _) => true,
                (Content::Recurrent, &[steps, 1, ..]) => {
                    self.lengths.is_none() && id >= source.at(&[steps - 1, 0, 0, 0])
                }
                _ => false,
            })
        })
    }

    fn build(&self) -> Result<(NetworkConfig, Parameters), OnnxError> {
        let configs: Vec<LayerConfig> = self.layers.iter().map(config).collect();
        let config = NetworkConfig::new(self.width, configs)?;
        let mut parameters = Parameters::zeros(&config)?;
        for (found, layer) in self.layers.iter().zip(config.layers()) {
            let mut insert = |role: Role, reverse: bool, tensor: ArrayD<f32>| {
                if let Some(spec) = layer.find(role, reverse) {
                    parameters.insert(spec.name.clone(), tensor);
                }
            };
            match found {
                Found::Recurrent { operator, weights, initial, .. } => {
                    if let Some(Initial { h, c }) = initial.as_deref() {
                        for (d, &reverse) in operator.direction.scans().iter().enumerate() {
                            insert(Role::InitialH, reverse, h.index_axis(AxisOf(0), d).to_owned().into_dyn());
                            if let Some(c) = c {
                                insert(
                                    Role::InitialC,
                                    reverse,
                                    c.index_axis(AxisOf(0), d).to_owned().into_dyn(),
                                );
                            }
                        }
                    }
                    operator.put(weights, layer, &mut parameters);
                }
                Found::Dense { weight, bias, .. } => {
                    insert(Role::DenseWeight, false, weight.clone().into_dyn());
                    if let Some(bias) = bias {
                        insert(Role::DenseBias, false, bias.clone().into_dyn());
                    }
                }
                Found::Conv1d { weight, bias, .. } => {
                    insert(Role::ConvWeight, false, weight.clone().into_dyn());
                    if let Some(bias) = bias {
                        insert(Role::ConvBias, false, bias.clone().into_dyn());
                    }
                }
                Found::Embedding(table) => insert(Role::EmbeddingWeight, false, table.clone().into_dyn()),
                Found::Normalise { weight, bias, .. } => {
                    insert(Role::NormaliseWeight, false, weight.clone().into_dyn());
                    insert(Role::NormaliseBias, false, bias.clone().into_dyn());
                }
                Found::Plain(_) => {}
            }
        }
        parameters.check(&config)?;
        Ok((config, parameters))
    }
}

/// The refusal of an input that a network does not have.
fn second_input(port: &Port) -> String {
    format!(
        "the input {port} is a second input of data; a network has one, beside lengths [batch] and initial states \
         [directions, batch, units]"
    )
}

/// The description of a layer, as a user would write it.
fn config(found: &Found) -> LayerConfig {
    match found {
        Found::Recurrent { operator, hidden, weights, initial } => {
            let layer = operator.layer(*hidden, weights.b.is_some(), weights.p.is_some());
            if initial.is_none() {
                return layer;
            }
            match layer {
                LayerConfig::Rnn(config) => config.initial_state(InitialState::Learned).into(),
                LayerConfig::Gru(config) => GruConfig::initial_state(config, InitialState::Learned).into(),
                LayerConfig::Lstm(config) => config.initial_state(InitialState::Learned).into(),
                other => other,
            }
        }
        Found::Dense { weight, bias, activation } => {
            DenseConfig::new(weight.nrows()).activation(*activation).bias(bias.is_some()).into()
        }
        Found::Conv1d { config, activation, .. } => config.clone().activation(*activation).into(),
        Found::Embedding(table) => EmbeddingConfig::new(table.nrows(), table.ncols()).into(),
        Found::Normalise { epsilon, .. } => LayerConfig::Normalise { epsilon: *epsilon },
        Found::Plain(layer) => layer.clone(),
    }
}

/// The steps to walk a graph with if it does not fix them: enough that convolutions leave [`STEPS`] of them.
fn steps_of(graph: &Graph) -> usize {
    let convolutions = graph.nodes.iter().rev().filter(|node| node.operator == "Conv");
    convolutions.fold(STEPS, |steps, node| {
        let weight = node.input_name(1).and_then(|name| graph.constants.get(name));
        let conv = weight.and_then(|weight| Convolution::of_node(node, weight.shape()).ok());
        conv.map_or(steps, |conv| {
            (steps - 1).saturating_mul(conv.stride[0]).saturating_add(conv.reach(0)).min(MOST_STEPS)
        })
    })
}

impl Found {
    /// The function after a dense layer or a convolution.
    pub(super) fn activation_mut(&mut self) -> Option<&mut Activation> {
        match self {
            Found::Dense { activation, .. } | Found::Conv1d { activation, .. } => Some(activation),
            _ => None,
        }
    }

    /// Makes a recurrent layer add its two directions, if it has two; tells whether it does.
    pub(super) fn add_directions(&mut self) -> bool {
        match self {
            Found::Recurrent { operator, .. } if operator.direction == Direction::Bidirectional => {
                operator.direction = Direction::BidirectionalSum;
                true
            }
            _ => false,
        }
    }
}
