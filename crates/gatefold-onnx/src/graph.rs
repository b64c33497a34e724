//! A checked graph: every name is defined once, every input exists, and nodes are in order.

use crate::tensor::Tensor;
use crate::{ElementType, OnnxError};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// The length of an axis of a model's input or output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Axis {
    /// Fixed by the model.
    Fixed(usize),
    /// Decided by the data, under the model's name for it.
    Named(String),
    /// Decided by the data.
    Any,
}

/// `4`, `batch` or `?`
impl fmt::Display for Axis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Axis::Fixed(len) => write!(f, "{len}"),
            Axis::Named(name) => f.write_str(name),
            Axis::Any => f.write_str("?"),
        }
    }
}

/// An input or output of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Its name.
    pub name: String,
    /// The type of its elements, if the model gives it.
    pub element: Option<ElementType>,
    /// Its axes, if the model gives them.
    pub shape: Option<Vec<Axis>>,
}

/// `X float32 [steps, batch, 4]`
impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if let Some(element) = self.element {
            write!(f, " {element}")?;
        }
        if let Some(shape) = &self.shape {
            let axes: Vec<String> = shape.iter().map(ToString::to_string).collect();
            write!(f, " [{}]", axes.join(", "))?;
        }
        Ok(())
    }
}

/// An attribute of a node.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Attribute {
    Int(i64),
    Float(f32),
    Text(String),
    Ints(Vec<i64>),
    Floats(Vec<f32>),
    Texts(Vec<String>),
    Tensor(Tensor),
    Graph(Box<Graph>),
}

/// One use of an operator.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Node {
    /// Its name, or that of its first output if it has none.
    pub(crate) name: String,
    /// Its operator, after the operator's domain if that is not ONNX's own.
    pub(crate) operator: String,
    /// `None` for an optional input that is left out.
    pub(crate) inputs: Vec<Option<String>>,
    /// `None` for an output that is not used.
    pub(crate) outputs: Vec<Option<String>>,
    pub(crate) attributes: BTreeMap<String, Attribute>,
}

impl Node {
    /// An error about this node.
    pub(crate) fn error(&self, problem: impl Into<String>) -> OnnxError {
        OnnxError::Node { node: self.name.clone(), operator: self.operator.clone(), problem: problem.into() }
    }

    fn wrong(&self, key: &str, expected: &str) -> String {
        format!("attribute {key}: expected {expected}, found {:?}", self.attributes.get(key))
    }

    pub(crate) fn int(&self, key: &str) -> Result<Option<i64>, String> {
        match self.attributes.get(key) {
            None => Ok(None),
            Some(Attribute::Int(value)) => Ok(Some(*value)),
            Some(_) => Err(self.wrong(key, "a whole number")),
        }
    }

    pub(crate) fn int_or(&self, key: &str, default: i64) -> Result<i64, String> {
        Ok(self.int(key)?.unwrap_or(default))
    }

    pub(crate) fn float(&self, key: &str) -> Result<Option<f32>, String> {
        match self.attributes.get(key) {
            None => Ok(None),
            Some(Attribute::Float(value)) => Ok(Some(*value)),
            Some(_) => Err(self.wrong(key, "a number")),
        }
    }

    pub(crate) fn text(&self, key: &str) -> Result<Option<&str>, String> {
        match self.attributes.get(key) {
            None => Ok(None),
            Some(Attribute::Text(value)) => Ok(Some(value)),
            Some(_) => Err(self.wrong(key, "a string")),
        }
    }

    pub(crate) fn ints(&self, key: &str) -> Result<Option<&[i64]>, String> {
        match self.attributes.get(key) {
            None => Ok(None),
            Some(Attribute::Ints(values)) => Ok(Some(values)),
            Some(_) => Err(self.wrong(key, "whole numbers")),
        }
    }

    pub(crate) fn floats(&self, key: &str) -> Result<&[f32], String> {
        match self.attributes.get(key) {
            None => Ok(&[]),
            Some(Attribute::Floats(values)) => Ok(values),
            // Exporters write empty lists without an element type.
            Some(Attribute::Ints(values)) if values.is_empty() => Ok(&[]),
            Some(_) => Err(self.wrong(key, "numbers")),
        }
    }

    pub(crate) fn texts(&self, key: &str) -> Result<Option<&[String]>, String> {
        match self.attributes.get(key) {
            None => Ok(None),
            Some(Attribute::Texts(values)) => Ok(Some(values)),
            Some(_) => Err(self.wrong(key, "strings")),
        }
    }

    pub(crate) fn tensor(&self, key: &str) -> Result<Option<&Tensor>, String> {
        match self.attributes.get(key) {
            None => Ok(None),
            Some(Attribute::Tensor(value)) => Ok(Some(value)),
            Some(_) => Err(self.wrong(key, "a tensor")),
        }
    }

    /// Refuses an attribute that the operator does not have.
    pub(crate) fn only(&self, known: &[&str]) -> Result<(), String> {
        match self.attributes.keys().find(|key| !known.contains(&key.as_str())) {
            Some(key) => Err(format!("the attribute {key} is not one of {}", known.join(", "))),
            None => Ok(()),
        }
    }

    pub(crate) fn graph(&self, key: &str) -> Result<&Graph, String> {
        match self.attributes.get(key) {
            Some(Attribute::Graph(graph)) => Ok(graph),
            _ => Err(self.wrong(key, "a graph")),
        }
    }

    /// The graphs inside this node.
    pub(crate) fn graphs(&self) -> impl Iterator<Item = &Graph> {
        self.attributes.values().filter_map(|attribute| match attribute {
            Attribute::Graph(graph) => Some(&**graph),
            _ => None,
        })
    }

    /// The same, to change.
    pub(crate) fn graphs_mut(&mut self) -> impl Iterator<Item = &mut Graph> {
        self.attributes.values_mut().filter_map(|attribute| match attribute {
            Attribute::Graph(graph) => Some(&mut **graph),
            _ => None,
        })
    }

    /// The names that the node reads, those that its graphs take from around it included.
    pub(crate) fn reads(&self) -> impl Iterator<Item = &str> {
        let captured = self.graphs().flat_map(|graph| &graph.captures);
        self.inputs.iter().flatten().chain(captured).map(String::as_str)
    }

    pub(crate) fn input_name(&self, at: usize) -> Option<&str> {
        self.inputs.get(at).and_then(Option::as_deref)
    }
}

/// A checked graph.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Graph {
    /// The version of ONNX's operators.
    pub(crate) opset: i64,
    /// The inputs that a caller gives; initialised inputs are constants instead.
    pub(crate) inputs: Vec<Port>,
    pub(crate) outputs: Vec<Port>,
    /// Initialisers by name.
    pub(crate) constants: BTreeMap<String, Tensor>,
    /// In an order in which each node comes after those it reads from.
    pub(crate) nodes: Vec<Node>,
    /// The names that a graph inside a node takes from the graphs around it.
    pub(crate) captures: BTreeSet<String>,
}

impl Graph {
    /// Checks the names and puts the nodes in order. A name that is not defined belongs to a graph around this one.
    pub(crate) fn new(
        opset: i64,
        inputs: Vec<Port>,
        outputs: Vec<Port>,
        constants: BTreeMap<String, Tensor>,
        nodes: Vec<Node>,
    ) -> Result<Graph, String> {
        let mut defined: BTreeSet<&str> = constants.keys().map(String::as_str).collect();
        for port in &inputs {
            if !defined.insert(&port.name) {
                return Err(format!("the input {} is defined twice", port.name));
            }
        }
        let mut maker: BTreeMap<&str, usize> = BTreeMap::new();
        for (place, node) in nodes.iter().enumerate() {
            for output in node.outputs.iter().flatten() {
                if defined.contains(output.as_str()) || maker.insert(output, place).is_some() {
                    return Err(format!("node {} ({}): {output} is defined twice", node.name, node.operator));
                }
            }
        }
        // Kahn's algorithm; of several nodes that are ready, the first in the file comes first.
        let mut waits_for: Vec<usize> = vec![0; nodes.len()];
        let mut captures = BTreeSet::new();
        let mut readers: Vec<Vec<usize>> = vec![Vec::new(); nodes.len()];
        for (place, node) in nodes.iter().enumerate() {
            let read: BTreeSet<&str> = node.reads().collect();
            for input in read {
                if let Some(&source) = maker.get(input) {
                    readers[source].push(place);
                    waits_for[place] += 1;
                } else if !defined.contains(input) {
                    captures.insert(input.to_owned());
                }
            }
        }
        for port in &outputs {
            if !defined.contains(port.name.as_str()) && !maker.contains_key(port.name.as_str()) {
                captures.insert(port.name.clone());
            }
        }
        let mut ready: BTreeSet<usize> = (0..nodes.len()).filter(|&place| waits_for[place] == 0).collect();
        let mut order = Vec::with_capacity(nodes.len());
        while let Some(place) = ready.pop_first() {
            order.push(place);
            for &reader in &readers[place] {
                waits_for[reader] -= 1;
                if waits_for[reader] == 0 {
                    ready.insert(reader);
                }
            }
        }
        if let Some(stuck) = (0..nodes.len()).find(|&place| waits_for[place] > 0) {
            let node = &nodes[stuck];
            return Err(format!(
                "node {} ({}): it is part of a cycle or depends on one",
                node.name, node.operator
            ));
        }
        let mut nodes: Vec<Option<Node>> = nodes.into_iter().map(Some).collect();
        let nodes = order.into_iter().filter_map(|place| nodes[place].take()).collect();
        Ok(Graph { opset, inputs, outputs, constants, nodes, captures })
    }

    /// Refuses a whole model that reads a name which nothing defines.
    pub(crate) fn closed(self) -> Result<Graph, String> {
        let Some(name) = self.captures.first() else { return Ok(self) };
        Err(match self.nodes.iter().find(|node| node.reads().any(|read| read == name)) {
            Some(node) => format!("node {} ({}): its input {name} is not defined", node.name, node.operator),
            None => format!("the output {name} is not defined"),
        })
    }

    /// The elements of all constants, those of the graphs inside included.
    pub(crate) fn stored(&self) -> usize {
        let own: usize = self.constants.values().map(Tensor::len).sum();
        own + self.nodes.iter().flat_map(Node::graphs).map(Graph::stored).sum::<usize>()
    }
}
