//! RNN, GRU and LSTM nodes, which run on the engine.

use super::{Cell, Host, Source, Step, Value, Work};
use crate::OnnxError;
use crate::graph::Node;
use crate::operators::Need;
use crate::recurrent::{INITIAL_C, INITIAL_H, RecurrentOperator, SEQUENCE_LENS, WEIGHTS, X, numbers};
use crate::tensor::{Tensor, volume};
use gatefold::{Network, Sequences, States, Stream};
use ndarray::{Array3, ArrayD, Axis, IxDyn};
use std::collections::BTreeSet;

/// A recurrent node as a network.
#[derive(Debug)]
pub(super) struct Layer {
    operator: RecurrentOperator,
    hidden: usize,
    network: Network,
}

/// A layer that ran, with its results.
type Ran = (Box<Layer>, Result<Vec<Tensor>, OnnxError>);

impl Step<'_> {
    pub(super) fn recurrent(&mut self, frame: &mut [Cell], host: &mut Host) -> Result<Vec<Value>, OnnxError> {
        let work = std::mem::replace(&mut self.work, Work::Recurrent(None));
        // Whatever fails, the states stay with the node.
        let mut keeper = self.keeper.take();
        let ran = self.run_layer(work, keeper.as_deref_mut(), frame, host);
        self.keeper = keeper;
        let (layer, results) = ran?;
        let constant = |at: usize| !matches!(self.inputs.get(at), Some(Some(Source::Slot(_))));
        if WEIGHTS.into_iter().all(constant) {
            self.work = Work::Recurrent(Some(layer));
        }
        Ok(results?.into_iter().map(Value::Tensor).collect())
    }

    /// Runs the layer, or a new one. Returns it, with its results.
    fn run_layer(
        &self,
        work: Work,
        keeper: Option<&mut Keeper>,
        frame: &[Cell],
        host: &mut Host,
    ) -> Result<Ran, OnnxError> {
        let node = self.node;
        let given: Vec<Option<&Tensor>> = (0..self.inputs.len())
            .map(|at| self.tensor(at, frame).map_err(|problem| node.error(problem)))
            .collect::<Result<_, _>>()?;
        let mut layer = match work {
            Work::Recurrent(Some(layer)) => layer,
            _ => Box::new(Layer::new(node, self.opset, &given, host)?),
        };
        let used = [0, 1, 2].map(|at| self.outputs.get(at).is_some_and(Option::is_some));
        let results = layer.run(node, &given, used, keeper, host);
        Ok((layer, results))
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
        used: [bool; 3],
        keeper: Option<&mut Keeper>,
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
        let outputs = match keeper {
            None => {
                let forward = network.forward(&sequences, Some(&states))?;
                operator.outputs(forward.output, forward.states, sequences.lengths())
            }
            Some(keeper) => {
                let (output, states) = keeper
                    .advance(operator, network, &sequences, states, used[1] || used[2])
                    .map_err(|problem| match problem {
                        Problem::Node(problem) => node.error(problem),
                        Problem::Engine(error) => error.into(),
                    })?;
                operator.outputs(output, states, None)
            }
        };
        let mut results = vec![Tensor::from(outputs.y), Tensor::from(outputs.y_h)];
        results.extend(outputs.y_c.map(Tensor::from));
        Ok(results)
    }
}

/// The names under which a node's states are known.
#[derive(Clone, Debug)]
pub(crate) struct StateNames {
    pub(crate) h: String,
    /// Of an LSTM.
    pub(crate) c: Option<String>,
}

/// The states of a recurrent node that goes on where it ended.
#[derive(Debug)]
pub(crate) struct Keeper {
    names: StateNames,
    /// From the first run on.
    stream: Option<Stream>,
    operator: Option<RecurrentOperator>,
    /// The states that the node itself begins with.
    first: Option<States>,
    /// Whether the next run begins anew.
    begins: bool,
    /// The states to begin with instead of the node's own.
    given: Vec<GivenState>,
}

/// A state for a node to begin with.
#[derive(Debug)]
struct GivenState {
    name: String,
    array: ArrayD<f32>,
    /// The rows that begin as the node says, whatever the array has there.
    anew: BTreeSet<usize>,
}

enum Problem {
    Node(String),
    Engine(gatefold::Error),
}

impl From<gatefold::Error> for Problem {
    fn from(error: gatefold::Error) -> Problem {
        Problem::Engine(error)
    }
}

impl Keeper {
    pub(crate) fn new(names: StateNames) -> Keeper {
        Keeper { names, stream: None, operator: None, first: None, begins: true, given: Vec::new() }
    }

    /// Runs the next steps from where the last run ended, or from `first`. Returns the output and, if wanted, the states
    /// after it.
    fn advance(
        &mut self,
        operator: &RecurrentOperator,
        network: &Network,
        sequences: &Sequences,
        first: States,
        wanted: bool,
    ) -> Result<(Array3<f32>, States), Problem> {
        let batch = sequences.batch();
        let kept = self.stream.take().filter(|stream| !self.begins || stream.batch() == batch);
        let mut stream = kept.map_or_else(|| network.stream(batch), Ok)?;
        if stream.batch() != batch {
            let before = stream.batch();
            self.stream = Some(stream);
            return Err(Problem::Node(format!(
                "X has {batch} rows and its states, which go on from the call before, have {before}; reset the stream \
                 to change the number of rows"
            )));
        }
        if self.begins {
            let mut states = first.clone();
            for given in std::mem::take(&mut self.given) {
                put(operator, &self.names, &mut states, &given.name, &given.array).map_err(Problem::Node)?;
                if let Some(row) = given.anew.iter().find(|row| **row >= batch) {
                    return Err(Problem::Node(format!("X has {batch} rows, and row {row} was reset")));
                }
                copy_rows(&first, &mut states, given.name == self.names.h, given.anew);
            }
            stream.set_states(&states)?;
            (self.begins, self.first, self.operator) = (false, Some(first), Some(operator.clone()));
        }
        let output = match sequences.lengths() {
            None => stream.advance(sequences.values())?,
            Some(_) => {
                let forward = network.forward(sequences, Some(&stream.states()?))?;
                stream.set_states(&forward.states)?;
                forward.output
            }
        };
        let states = if wanted { stream.states()? } else { self.first.clone().unwrap_or_default() };
        self.stream = Some(stream);
        Ok((output, states))
    }

    /// The names of its states.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        [Some(&self.names.h), self.names.c.as_ref()].into_iter().flatten().map(String::as_str)
    }

    /// The states in the node's layout; none before the first run.
    pub(crate) fn states(&self) -> Result<Vec<(String, Tensor)>, OnnxError> {
        let (Some(stream), Some(operator), false) = (&self.stream, &self.operator, self.begins) else {
            if let Some(given) = self.given.iter().find(|given| !given.anew.is_empty()) {
                return Err(OnnxError::Stream(format!(
                    "rows of {} begin anew with the next run; the states are known after it",
                    given.name
                )));
            }
            let given = self.given.iter();
            return Ok(given.map(|given| (given.name.clone(), given.array.clone().into())).collect());
        };
        let states = stream.states()?.layers.swap_remove(0);
        let axes = if operator.batch_first { [1, 0, 2] } else { [0, 1, 2] };
        let arrays = [Some(states.h), states.c].into_iter().flatten();
        let turned = arrays.map(|array| array.permuted_axes(axes).as_standard_layout().into_owned());
        Ok(self.names().map(str::to_owned).zip(turned.map(Tensor::from)).collect())
    }

    /// Goes on from another state.
    pub(crate) fn set(&mut self, name: &str, array: &ArrayD<f32>) -> Result<(), OnnxError> {
        let (Some(stream), Some(operator), false) = (&mut self.stream, &self.operator, self.begins) else {
            self.given.retain(|given| given.name != name);
            self.given.push(GivenState { name: name.into(), array: array.clone(), anew: BTreeSet::new() });
            return Ok(());
        };
        let mut states = stream.states()?;
        put(operator, &self.names, &mut states, name, array).map_err(|problem| OnnxError::Input {
            name: name.into(),
            expected: "a state of the shape that it has".into(),
            found: problem,
        })?;
        Ok(stream.set_states(&states)?)
    }

    /// Begins anew with the next run.
    pub(crate) fn reset(&mut self) {
        self.begins = true;
        self.given.clear();
    }

    /// Begins some rows anew. `batch` is the number of streams.
    pub(crate) fn reset_rows(&mut self, rows: &[usize], batch: usize) -> Result<(), OnnxError> {
        let (Some(stream), Some(first), false) = (&mut self.stream, &self.first, self.begins) else {
            self.given.iter_mut().for_each(|given| given.anew.extend(rows));
            return Ok(());
        };
        if stream.batch() != batch {
            return Err(OnnxError::Input {
                name: self.names.h.clone(),
                expected: format!("one row for each of {batch} streams"),
                found: format!("{} rows; reset all streams", stream.batch()),
            });
        }
        let mut states = stream.states()?;
        for h in [true, false] {
            copy_rows(first, &mut states, h, rows.iter().copied());
        }
        Ok(stream.set_states(&states)?)
    }
}

/// Copies rows of h, or of c where there is one. Both have the same shapes.
fn copy_rows(from: &States, to: &mut States, h: bool, rows: impl IntoIterator<Item = usize>) {
    let (from, to) = (&from.layers[0], &mut to.layers[0]);
    let pair = if h { Some((&from.h, &mut to.h)) } else { from.c.as_ref().zip(to.c.as_mut()) };
    if let Some((from, to)) = pair {
        for row in rows {
            to.index_axis_mut(Axis(1), row).assign(&from.index_axis(Axis(1), row));
        }
    }
}

/// Puts an array of the node's layout in the place of one of its states.
fn put(
    operator: &RecurrentOperator,
    names: &StateNames,
    states: &mut States,
    name: &str,
    array: &ArrayD<f32>,
) -> Result<(), String> {
    let state = &mut states.layers[0];
    let (_, batch, hidden) = state.h.dim();
    let (h, c) = if name == names.h { (Some(array), None) } else { (None, Some(array)) };
    let found =
        operator.states(h, c, batch, hidden).map_err(|error| error.to_string())?.layers.swap_remove(0);
    if name == names.h {
        state.h = found.h;
    } else {
        state.c = found.c;
    }
    Ok(())
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
