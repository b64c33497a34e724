//! RNN, GRU and LSTM nodes, which run on the engine.

use super::{Cell, Host, Source, Step, Value, Work};
use crate::OnnxError;
use crate::graph::Node;
use crate::operators::Need;
use crate::recurrent::{INITIAL_C, INITIAL_H, RecurrentOperator, SEQUENCE_LENS, WEIGHTS, X, numbers};
use crate::tensor::{Tensor, volume};
use gatefold::Network;
use ndarray::{ArrayD, IxDyn};

/// A recurrent node as a network.
#[derive(Debug)]
pub(super) struct Layer {
    operator: RecurrentOperator,
    hidden: usize,
    network: Network,
}

impl Step<'_> {
    pub(super) fn recurrent(&mut self, frame: &mut [Cell], host: &mut Host) -> Result<Vec<Value>, OnnxError> {
        let node = self.node;
        let work = std::mem::replace(&mut self.work, Work::Recurrent(None));
        let given: Vec<Option<&Tensor>> = (0..self.inputs.len())
            .map(|at| self.tensor(at, frame).map_err(|problem| node.error(problem)))
            .collect::<Result<_, _>>()?;
        let mut layer = match work {
            Work::Recurrent(Some(layer)) => layer,
            _ => Box::new(Layer::new(node, self.opset, &given, host)?),
        };
        let results = layer.run(node, &given, host);
        let constant = |at: usize| !matches!(self.inputs.get(at), Some(Some(Source::Slot(_))));
        if WEIGHTS.into_iter().all(constant) {
            self.work = Work::Recurrent(Some(layer));
        }
        Ok(results?.into_iter().map(Value::Tensor).collect())
    }
}

impl Layer {
    fn new(node: &Node, opset: i64, given: &[Option<&Tensor>], host: &Host) -> Result<Layer, OnnxError> {
        let operator = RecurrentOperator::of_node(node, opset).map_err(|problem| node.error(problem))?;
        let weights = operator.weights_of_node(node, given).map_err(|problem| node.error(problem))?;
        let (config, parameters) =
            operator.network(&weights).map_err(|error| node.error(error.to_string()))?;
        let network = Network::with_parameters(host.device, &config, &parameters)?;
        Ok(Layer { operator, hidden: weights.r.dim().2, network })
    }

    /// Runs the node.
    fn run(
        &mut self,
        node: &Node,
        given: &[Option<&Tensor>],
        host: &mut Host,
    ) -> Result<Vec<Tensor>, OnnxError> {
        let Layer { operator, hidden, network } = self;
        let input = |at: usize| given.get(at).copied().flatten();
        let array = |name: &str, at: usize| numbers(name, input(at)).map_err(|problem| node.error(problem));
        let x = array("X", X)?.ok_or_else(|| node.error("its input X is missing"))?;
        let features = network.config().input();
        if let Some(results) = nothing(operator, x.shape(), features, *hidden) {
            return Ok(results);
        }
        if x.is_empty() || x.ndim() != 3 || x.shape()[2] != features {
            let axes = if operator.batch_first { "batch, steps" } else { "steps, batch" };
            let found = x.shape();
            return Err(
                node.error(format!("X: expected [{axes}, {features}], none of them 0, found {found:?}"))
            );
        }
        let lengths = match input(SEQUENCE_LENS) {
            None => None,
            Some(tensor) => {
                let lengths = tensor.integers().filter(|_| tensor.shape().len() == 1);
                Some(lengths.ok_or_else(|| node.error("sequence_lens: expected a list of whole numbers"))?)
            }
        };
        // Problems of the operator are reported for this node; errors of the device stay as they are.
        let named = |error: OnnxError| match error {
            OnnxError::Recurrent { problem, .. } => node.error(problem),
            other => other,
        };
        let sequences = operator.sequences(x, lengths.as_deref()).map_err(named)?;
        let (steps, batch) = (sequences.steps(), sequences.batch());
        let need =
            need(operator, [steps, batch, features, *hidden]).map_err(|problem| node.error(problem))?;
        host.budget.spend(need).map_err(|problem| node.error(problem))?;
        let (h, c) = (array("initial_h", INITIAL_H)?, array("initial_c", INITIAL_C)?);
        let states = operator.states(h, c, batch, *hidden).map_err(named)?;
        let forward = network.forward(&sequences, Some(&states))?;
        let outputs = operator.outputs(forward.output, forward.states, sequences.lengths());
        let mut results = vec![Tensor::from(outputs.y), Tensor::from(outputs.y_h)];
        results.extend(outputs.y_c.map(Tensor::from));
        Ok(results)
    }
}

/// The needs of a recurrent node, whose steps each cost at least a call.
fn need(operator: &RecurrentOperator, [steps, batch, features, hidden]: [usize; 4]) -> Result<Need, String> {
    let directions = operator.directions();
    let elements = volume(&[steps, directions, batch, hidden])? as u64;
    let gates = operator.operator.gates() as u64;
    let each = gates.saturating_mul((features + hidden) as u64);
    let work = elements
        .saturating_mul(each)
        .saturating_add((steps as u64).saturating_mul(crate::operators::CALL_WORK));
    Ok(Need { elements: elements.saturating_mul(2), work })
}

/// The results for a batch of no rows; `None` for any other input.
fn nothing(operator: &RecurrentOperator, x: &[usize], features: usize, hidden: usize) -> Option<Vec<Tensor>> {
    let (steps, directions) = match *x {
        [0, steps, width] if operator.batch_first && width == features => (steps, operator.directions()),
        [steps, 0, width] if !operator.batch_first && width == features => (steps, operator.directions()),
        _ => return None,
    };
    let (y, state) = match operator.batch_first {
        true => (vec![0, steps, directions, hidden], vec![0, directions, hidden]),
        false => (vec![steps, directions, 0, hidden], vec![directions, 0, hidden]),
    };
    let empty = |shape: &[usize]| Tensor::F32(ArrayD::zeros(IxDyn(shape)));
    Some(vec![empty(&y), empty(&state), empty(&state)])
}
