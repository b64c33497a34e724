//! Turns a graph that is a chain of this engine's layers into a network that can be trained.

mod cell;
mod chain;
mod compare;
mod convolution;
mod expression;
mod loops;
mod nodes;
mod normalise;
mod pooling;
mod recognise;
mod recurrent;
mod step;
mod symbolic;
#[cfg(test)]
mod tests;
mod trace;
mod weights;

use crate::graph::Port;
use crate::model::OnnxModel;
use crate::tensor::Tensor;
use crate::{Axis, ElementType, OnnxError};
use chain::Chain;
use gatefold::{Device, Network};
use gatefold_model::{NetworkConfig, Parameters};
use std::collections::BTreeMap;

/// The order of the axes of steps and batch in a tensor of the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// `[T, B, F]`, as in the engine; tokens `[T, B]`.
    TimeMajor,
    /// `[B, T, F]`; tokens `[B, T]`.
    BatchFirst,
    /// `[B, F]`: one step, without an axis for it.
    OneStep,
    /// `[T, 1, B, F]`, as a recurrent node of one direction writes it.
    OneDirection,
}

/// An initial state that the model takes as rows of an input, one row for each direction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GivenState {
    /// The name of the model's input.
    pub input: String,
    /// The first of the rows.
    pub row: usize,
    /// The recurrent layer that it belongs to, counted from 0.
    pub layer: usize,
    /// Whether it is the cell state c, not h.
    pub cell: bool,
}

/// A network made from a model.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Imported {
    /// The network's description.
    pub config: NetworkConfig,
    /// The network's parameters.
    pub parameters: Parameters,
    /// The model's input for the sequences, and its layout.
    pub input: (String, Layout),
    /// The model's output that is the network's output, and its layout.
    pub output: (String, Layout),
    /// The model's input for the lengths of the sequences, if it has one.
    pub lengths: Option<String>,
    /// The model's inputs for initial states.
    pub states: Vec<GivenState>,
    /// The number that masks a step in the model, if all its features, or its token, are that number. The network does
    /// not look for it: it takes the lengths of the rows instead. Masked steps have to be the last of their rows, and
    /// past a row's end the output is not the one of the last step, as the model's, but what the layers make of zeros.
    pub mask: Option<f32>,
}

impl Imported {
    /// The network on a device, to run, to train or to save. It takes and gives `[T, B, F]`, whatever the layouts of
    /// [`Imported::input`] and [`Imported::output`] are.
    ///
    /// # Errors
    /// [`OnnxError::Engine`] with those of [`Network::with_parameters`].
    pub fn network(&self, device: &Device) -> Result<Network, OnnxError> {
        Ok(Network::with_parameters(device, &self.config, &self.parameters)?)
    }
}

impl OnnxModel {
    /// Turns the model into a network, if it is a chain of the engine's layers. The patterns that PyTorch's and Keras'
    /// exporters write around layers are recognised by what they compute, not by how they are written. So are the cells
    /// of an RNN, GRU or LSTM that are written out step by step, in a loop or without one; they are compared with the
    /// graph on numbers too.
    ///
    /// A missing bias becomes zeros in a layer that always has one. A dropout is kept and acts in training.
    ///
    /// # Errors
    /// [`OnnxError::Import`], or [`OnnxError::Node`] for the first node that does not fit any layer. Such a model can
    /// still be run.
    pub fn import(&self) -> Result<Imported, OnnxError> {
        // Only a recurrent layer shows whether time is the first axis of the input, and only the whole graph whether
        // the last step of a sequence belongs to a cell that is written out.
        let mut furthest: Option<Refusal> = None;
        for written_out in [false, true] {
            for layout in [Layout::TimeMajor, Layout::BatchFirst] {
                match import(self, layout, written_out) {
                    Ok(imported) => return Ok(imported),
                    // Of several refusals, the one that got further says more.
                    Err(refusal) if furthest.as_ref().is_none_or(|other| refusal.0 > other.0) => {
                        furthest = Some(refusal);
                    }
                    Err(_) => {}
                }
            }
        }
        Err(furthest.map_or_else(|| OnnxError::Import("it cannot be walked".into()), |refusal| *refusal.1))
    }
}

/// Sizes to walk the graph with if it does not fix them: above 1, and not equal.
const STEPS: usize = 5;
const BATCH: usize = 3;
/// The most steps to walk a graph with, for convolutions that read many.
const MOST_STEPS: usize = 1 << 13;

/// An error, and the number of nodes walked before it.
type Refusal = (usize, Box<OnnxError>);

fn import(model: &OnnxModel, layout: Layout, written_out: bool) -> Result<Imported, Refusal> {
    let graph = &model.graph;
    let refuse = |problem: String| (0, Box::new(OnnxError::Import(problem)));
    let main = graph.inputs.iter().find(|port| is_sequence(port));
    let Some(main) = main else {
        let found: Vec<String> = graph.inputs.iter().map(ToString::to_string).collect();
        return Err(refuse(format!(
            "expected an input of sequences [steps, batch, features] or of tokens [steps, batch], found {}",
            found.join(", ")
        )));
    };
    let mut chain = Chain::new(graph, main, layout, written_out).map_err(refuse)?;
    let nodes = normalise::fused(graph);
    for (passed, node) in nodes.iter().enumerate() {
        chain.node(node).map_err(|problem| (passed + 1, Box::new(node.error(problem))))?;
    }
    let passed = nodes.len() + 1;
    let (steps, batch) = (chain.steps, chain.batch);
    let (imported, rebuilt) = chain.finish(&graph.outputs).map_err(|error| (passed, Box::new(error)))?;
    if rebuilt {
        compare::compare(model, &imported, steps, batch)
            .map_err(|problem| (passed + 1, Box::new(OnnxError::Import(problem))))?;
    }
    Ok(imported)
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

/// A tensor of the graph, as far as it is known.
#[derive(Clone, Debug)]
enum Value {
    /// A known tensor: a constant, a shape, a state of zeros.
    Known(Tensor),
    /// Identities of elements of sources.
    Traced(ndarray::ArrayD<i64>),
    /// Tokens, with example values.
    Tokens(Tensor),
    /// The lengths of sequences.
    Lengths,
}
