use crate::evaluate::evaluate;
use crate::graph::{Axis, Node, Port};
use crate::recurrent::{INITIAL_C, INITIAL_H, RecurrentOperator, SEQUENCE_LENS, WEIGHTS, X, numbers};
use crate::tensor::{Tensor, volume};
use crate::{ElementType, OnnxError, OnnxModel};
use gatefold::{Device, Network};
use std::collections::BTreeMap;

/// A model ready to run on a device.
#[derive(Debug)]
pub struct Session<'a> {
    model: &'a OnnxModel,
    device: Device,
    /// The networks of nodes with constant weights, by the node's position.
    networks: BTreeMap<usize, Layer>,
}

/// A recurrent node as a network.
#[derive(Debug)]
struct Layer {
    operator: RecurrentOperator,
    hidden: usize,
    network: Network,
}

impl<'a> Session<'a> {
    pub(crate) fn new(model: &'a OnnxModel, device: &Device) -> Session<'a> {
        Session { model, device: device.clone(), networks: BTreeMap::new() }
    }

    /// Runs the model: takes its inputs and returns its outputs, by name. RNN, GRU and LSTM run on the device, all
    /// other operators on the host. Whole numbers may be int32 or int64 and are converted to the type that the model
    /// expects.
    ///
    /// # Errors
    /// [`OnnxError::Input`] for an input that is missing, unknown or does not fit; [`OnnxError::Node`] for the first
    /// node whose inputs do not fit it; [`OnnxError::Engine`] for an error of the device.
    pub fn run(&mut self, inputs: BTreeMap<String, Tensor>) -> Result<BTreeMap<String, Tensor>, OnnxError> {
        let model = self.model;
        let inputs = checked(&model.graph.inputs, inputs)?;
        evaluate(&model.graph, inputs, &mut |place, node, given| self.recurrent(place, node, given))
    }

    fn recurrent(
        &mut self,
        place: usize,
        node: &Node,
        given: &[Option<&Tensor>],
    ) -> Result<Vec<Tensor>, OnnxError> {
        let graph = &self.model.graph;
        let constant = |at: usize| node.input_name(at).is_none_or(|name| graph.constants.contains_key(name));
        let kept = WEIGHTS.into_iter().all(constant);
        let mut layer = match self.networks.remove(&place) {
            Some(layer) => layer,
            None => {
                let operator =
                    RecurrentOperator::of_node(node, graph.opset).map_err(|problem| node.error(problem))?;
                let weights = operator.weights_of_node(node, given).map_err(|problem| node.error(problem))?;
                let network = operator.network(&weights);
                let (config, parameters) = network.map_err(|error| node.error(error.to_string()))?;
                let network = Network::with_parameters(&self.device, &config, &parameters)?;
                Layer { operator, hidden: weights.r.dim().2, network }
            }
        };
        let results = run(node, &mut layer, given);
        if kept {
            self.networks.insert(place, layer);
        }
        results
    }
}

/// Runs a recurrent node.
fn run(node: &Node, layer: &mut Layer, given: &[Option<&Tensor>]) -> Result<Vec<Tensor>, OnnxError> {
    let Layer { operator, hidden, network } = layer;
    let input = |at: usize| given.get(at).copied().flatten();
    let array = |name: &str, at: usize| numbers(name, input(at)).map_err(|problem| node.error(problem));
    let x = array("X", X)?.ok_or_else(|| node.error("its input X is missing"))?;
    let features = network.config().input();
    if x.is_empty() || x.ndim() != 3 || x.shape()[2] != features {
        let axes = if operator.batch_first { "batch, steps" } else { "steps, batch" };
        let found = x.shape();
        return Err(node.error(format!("X: expected [{axes}, {features}], none of them 0, found {found:?}")));
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
    volume(&[steps, operator.directions(), batch, *hidden]).map_err(|problem| node.error(problem))?;
    let (h, c) = (array("initial_h", INITIAL_H)?, array("initial_c", INITIAL_C)?);
    let states = operator.states(h, c, batch, *hidden).map_err(named)?;
    let forward = network.forward(&sequences, Some(&states))?;
    let outputs = operator.outputs(forward.output, forward.states, sequences.lengths());
    let mut results = vec![Tensor::from(outputs.y), Tensor::from(outputs.y_h)];
    results.extend(outputs.y_c.map(Tensor::from));
    Ok(results)
}

/// Checks that the inputs are exactly those of the model, each of its type and shape.
fn checked(
    ports: &[Port],
    mut given: BTreeMap<String, Tensor>,
) -> Result<BTreeMap<String, Tensor>, OnnxError> {
    let mut inputs = BTreeMap::new();
    let mut named: BTreeMap<&str, usize> = BTreeMap::new();
    for port in ports {
        let wrong =
            |found: String| OnnxError::Input { name: port.name.clone(), expected: port.to_string(), found };
        let tensor = given.remove(&port.name).ok_or_else(|| wrong("none".into()))?;
        let found = || format!("{} {:?}", tensor.element(), tensor.shape());
        let fits = |(axis, &len): (&Axis, &usize)| match axis {
            Axis::Fixed(fixed) => len == *fixed,
            _ => true,
        };
        if let Some(shape) = &port.shape {
            let same_axes = shape.len() == tensor.shape().len();
            if !same_axes || !shape.iter().zip(tensor.shape()).all(fits) {
                return Err(wrong(found()));
            }
            for (axis, &len) in shape.iter().zip(tensor.shape()) {
                if let Axis::Named(name) = axis
                    && *named.entry(name).or_insert(len) != len
                {
                    return Err(wrong(format!("{}, where {name} was {} before", found(), named[&**name])));
                }
            }
        }
        let problem = wrong(found());
        inputs.insert(port.name.clone(), as_element(tensor, port.element).ok_or(problem)?);
    }
    match given.pop_first() {
        Some((name, tensor)) => {
            let names: Vec<&str> = ports.iter().map(|port| port.name.as_str()).collect();
            let (expected, found) = (format!("one of {}", names.join(", ")), tensor.element().to_string());
            Err(OnnxError::Input { name, expected, found })
        }
        None => Ok(inputs),
    }
}

/// Converts a tensor to the type that a model expects: whole numbers change their width if their values fit.
fn as_element(tensor: Tensor, element: Option<ElementType>) -> Option<Tensor> {
    match (tensor, element) {
        (tensor, None) => Some(tensor),
        (tensor, Some(element)) if tensor.element() == element => Some(tensor),
        (Tensor::I32(array), Some(ElementType::I64)) => Some(Tensor::I64(array.mapv(i64::from))),
        (Tensor::I64(array), Some(ElementType::I32)) => {
            let narrow = array.iter().all(|&value| i32::try_from(value).is_ok());
            narrow.then(|| Tensor::I32(array.mapv(|value| value as i32)))
        }
        _ => None,
    }
}
