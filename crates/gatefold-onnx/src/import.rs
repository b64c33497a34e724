//! A graph that is a chain of this engine's layers, as a network that can be trained.

mod chain;
mod nodes;
#[cfg(test)]
mod tests;
mod trace;

use crate::graph::{Graph, Port};
use crate::model::OnnxModel;
use crate::tensor::Tensor;
use crate::{Axis, ElementType, OnnxError};
use chain::Chain;
use gatefold_model::{NetworkConfig, Parameters};
use std::collections::BTreeMap;

/// How the axes of steps and rows of a batch lie in a tensor of the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// `[T, B, F]`, as the engine has it; tokens `[T, B]`.
    TimeMajor,
    /// `[B, T, F]`; tokens `[B, T]`.
    BatchFirst,
    /// `[B, F]`: one step, whose axis is left out.
    OneStep,
}

/// An initial state that the model takes as an input: rows of it, one for each direction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GivenState {
    /// The model's input.
    pub input: String,
    /// Its first row.
    pub row: usize,
    /// Which recurrent layer it is for, counted from 0.
    pub layer: usize,
    /// Whether it is the cell state.
    pub cell: bool,
}

/// A network made from a model.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Imported {
    /// What it is.
    pub config: NetworkConfig,
    /// Its parameters.
    pub parameters: Parameters,
    /// The model's input for the sequences, and how they lie in it.
    pub input: (String, Layout),
    /// The model's output that the network gives, and how it lies in it.
    pub output: (String, Layout),
    /// The model's input for the sequences' lengths.
    pub lengths: Option<String>,
    /// The model's inputs for initial states.
    pub states: Vec<GivenState>,
}

impl OnnxModel {
    /// The network that the model is, if it is a chain of layers that the engine has. The patterns that the exporters of
    /// PyTorch and Keras write around layers are recognised by what they do, not by how they look.
    ///
    /// A bias that is left out becomes zeros where a layer always has one; a dropout stays, and acts in training.
    ///
    /// # Errors
    /// [`OnnxError::Import`], or [`OnnxError::Node`] for the first node that no layer can be made of. Such a model can
    /// still be run.
    pub fn import(&self) -> Result<Imported, OnnxError> {
        // Whether time is the first axis of the input is known only when a recurrent layer reads it.
        match import(&self.graph, Layout::TimeMajor) {
            Ok(imported) => Ok(imported),
            Err(first) => import(&self.graph, Layout::BatchFirst).map_err(|second| {
                // Of two refusals, the one that came further says more.
                if second.0 > first.0 { second.1 } else { first.1 }
            }),
        }
    }
}

/// Sizes to walk the graph with, where it does not fix them: more than one, and unequal.
const STEPS: usize = 5;
const BATCH: usize = 3;

/// An error, with how many nodes were passed before it.
type Refusal = (usize, OnnxError);

fn import(graph: &Graph, layout: Layout) -> Result<Imported, Refusal> {
    let refuse = |problem: String| (0, OnnxError::Import(problem));
    let main = graph.inputs.iter().find(|port| is_sequence(port));
    let Some(main) = main else {
        let found: Vec<String> = graph.inputs.iter().map(ToString::to_string).collect();
        return Err(refuse(format!(
            "expected an input of sequences [steps, batch, features] or of tokens [steps, batch], found {}",
            found.join(", ")
        )));
    };
    let mut chain = Chain::new(graph, main, layout).map_err(refuse)?;
    for (passed, node) in graph.nodes.iter().enumerate() {
        chain.node(node).map_err(|problem| (passed + 1, node.error(problem)))?;
    }
    let passed = graph.nodes.len() + 1;
    chain.finish(&graph.outputs).map_err(|error| (passed, error))
}

/// Whether an input can hold sequences: numbers with three axes, or whole numbers with two.
fn is_sequence(port: &Port) -> bool {
    let axes = port.shape.as_ref().map(Vec::len);
    match port.element {
        Some(ElementType::F32) => {
            axes == Some(3) && matches!(port.shape.as_ref().map(|s| &s[2]), Some(Axis::Fixed(_)))
        }
        Some(ElementType::I64 | ElementType::I32) => axes == Some(2),
        _ => false,
    }
}

/// Values by name while a graph is walked.
type Values = BTreeMap<String, Value>;

/// What a tensor of the graph is.
#[derive(Clone, Debug)]
enum Value {
    /// Known: a constant, a shape, a state of zeros.
    Known(Tensor),
    /// Identities of elements of sources.
    Traced(ndarray::ArrayD<i64>),
    /// Tokens, with example values.
    Tokens(Tensor),
    /// The lengths of sequences.
    Lengths,
}
