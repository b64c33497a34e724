//! A model whose states stay from call to call.

use crate::graph::{Axis, Port};
use crate::session::checked;
use crate::tensor::volume;
use crate::walk::{Program, Seen};
use crate::{ElementType, OnnxError, Session, Tensor};
use ndarray::{ArrayD, Axis as AxisOf, IxDyn};
use states::States;
use std::collections::BTreeMap;
pub use whole::StepAxes;

mod elements;
mod names;
mod states;
mod steps;
#[cfg(test)]
mod tests;
mod whole;

/// Options of [`Session::stream`].
#[derive(Clone, Debug)]
pub struct StreamOptions {
    batch: usize,
    carried: Vec<(String, String)>,
    not_carried: Vec<String>,
}

impl StreamOptions {
    /// For `batch` streams side by side: the rows of states that are inputs, and of [`Stream::reset_rows`]. A node that
    /// keeps its own states takes the number of its rows from its first input, which may be a multiple of it.
    pub fn new(batch: usize) -> StreamOptions {
        StreamOptions { batch, carried: Vec::new(), not_carried: Vec::new() }
    }

    /// Says that an output is the next value of an input. Needed where neither the graph nor the names tell.
    pub fn carry(mut self, input: impl Into<String>, output: impl Into<String>) -> StreamOptions {
        self.carried.push((input.into(), output.into()));
        self
    }

    /// Says that an input is data, whatever its name looks like. [`Stream::run`] takes it.
    pub fn not_carried(mut self, input: impl Into<String>) -> StreamOptions {
        self.not_carried.push(input.into());
        self
    }
}

/// Streams through a model on a device: the states stay from call to call.
///
/// A model that takes its states as inputs and gives the next ones as outputs carries them on: an output is the next
/// value of an input if it is the final state of the recurrent nodes that begin with the input, element for element, if
/// their names correspond (`h0` and `hn`, `state` and `stateN`, `in_cache` and `out_cache`) and other inputs are left, or
/// if [`StreamOptions::carry`] says so; not if [`StreamOptions::not_carried`] does.
/// Such inputs are not given and such outputs not returned. They begin with zeros. If a node takes such an input as it
/// is, its state stays on the device.
///
/// In a model without such inputs, every RNN, GRU and LSTM goes on where the call before ended, and its states stay on
/// the device. They are known as NAME.h and NAME.c, where NAME is the node's.
///
/// ```
/// use gatefold::{Device, Network, NetworkConfig};
/// use gatefold_onnx::{ExportOptions, OnnxModel, StreamOptions, Tensor};
/// use ndarray::{Array3, Axis, concatenate, s};
///
/// # let device = Device::cpu()?;
/// # let config = NetworkConfig::with_input(3).gru(8).dense(2).build()?;
/// # let network = Network::new(&device, &config, 1)?;
/// # let bytes = gatefold_onnx::export(network.config(), &network.parameters()?, ExportOptions::new())?;
/// let model = OnnxModel::from_bytes(bytes, "model.onnx")?;
/// let (input, output) = (&model.inputs()[0].name, &model.outputs()[0].name);
/// let mut stream = model.on(&device).stream(StreamOptions::new(1))?;
/// for _ in 0..3 {
///     let chunk = Array3::<f32>::ones((4, 1, 3)); // four steps of one row
///     let outputs = stream.run(&[(input.clone(), Tensor::from(chunk))].into())?;
///     assert_eq!(outputs[output].shape(), [4, 1, 2]);
/// }
/// # Ok::<(), gatefold_onnx::OnnxError>(())
/// ```
#[derive(Debug)]
pub struct Stream<'a> {
    session: Session<'a>,
    batch: usize,
    states: States,
    /// The values of carried inputs; `None` means zeros.
    values: Vec<Option<Tensor>>,
    /// Whether a call failed, which may have left some states ahead of others.
    broken: bool,
}

impl<'a> Stream<'a> {
    pub(crate) fn new(mut session: Session<'a>, options: StreamOptions) -> Result<Stream<'a>, OnnxError> {
        let graph = &session.model().graph;
        if options.batch == 0 {
            return Err(OnnxError::Stream("0 streams: expected at least 1".into()));
        }
        let states = states::find(graph, &options)?;
        *session.program() = Program::new(graph, &states.scope);
        let values = vec![None; states.carried.len()];
        let stream = Stream { session, batch: options.batch, states, values, broken: false };
        for port in stream.begun() {
            stream.zeros(port)?;
        }
        Ok(stream)
    }

    /// The inputs that begin with zeros.
    fn begun(&self) -> impl Iterator<Item = &'a Port> {
        let inputs = &self.session.model().graph.inputs;
        self.states
            .carried
            .iter()
            .map(|(input, _)| *input)
            .chain(self.states.held.iter().copied())
            .map(|at| &inputs[at])
    }

    /// Runs the model on the next chunk: the inputs that are not states. Returns the outputs that are not.
    ///
    /// # Errors
    /// Those of [`Session::run`]; [`OnnxError::Node`] for another number of rows than before. After an error the streams
    /// must be reset; until then, [`OnnxError::Stream`].
    pub fn run(&mut self, inputs: &BTreeMap<String, Tensor>) -> Result<BTreeMap<String, Tensor>, OnnxError> {
        self.run_watched(inputs, None)
    }

    fn run_watched(
        &mut self,
        inputs: &BTreeMap<String, Tensor>,
        seen: Option<&mut Seen>,
    ) -> Result<BTreeMap<String, Tensor>, OnnxError> {
        if self.broken {
            return Err(OnnxError::Stream("the call before failed; reset the stream before the next".into()));
        }
        for port in self.begun() {
            if inputs.contains_key(&port.name) {
                let expected = "nothing, since the stream carries it on; use Stream::set_states, or \
                                StreamOptions::not_carried if it is data"
                    .into();
                return Err(OnnxError::Input { name: port.name.clone(), expected, found: "an array".into() });
            }
        }
        let ports = self.ports();
        for at in 0..self.values.len() {
            if self.values[at].is_none() {
                self.values[at] = Some(self.zeros(&ports[self.states.carried[at].0])?);
            }
        }
        let held = self.states.held.iter().map(|&input| self.zeros(&ports[input]));
        let held: Vec<Tensor> = held.collect::<Result<_, _>>()?;
        let carried = self.states.carried.iter().map(|&(input, _)| input).zip(self.values.iter().flatten());
        let states = carried.chain(self.states.held.iter().copied().zip(&held));
        let states = states.map(|(input, tensor)| (ports[input].name.as_str(), tensor));
        let given = inputs.iter().map(|(name, tensor)| (name.as_str(), tensor));
        let inputs = checked(ports, given.chain(states).collect())?;
        self.broken = true;
        let results = self.session.compute(inputs, None, seen)?;
        self.broken = false;
        let names: Vec<&str> = self.session.program().output_names().collect();
        let mut outputs: BTreeMap<String, Tensor> = BTreeMap::new();
        for (name, tensor) in names.into_iter().zip(results) {
            match self.carried_by(name) {
                Some(at) => self.values[at] = Some(tensor),
                None => drop(outputs.insert(name.into(), tensor)),
            }
        }
        Ok(outputs)
    }

    fn ports(&self) -> &'a [Port] {
        &self.session.model().graph.inputs
    }

    /// The carried input whose next value an output is.
    fn carried_by(&self, output: &str) -> Option<usize> {
        let outputs = &self.session.model().graph.outputs;
        self.states.carried.iter().position(|&(_, at)| outputs[at].name == output)
    }

    /// The first value of a state.
    fn zeros(&self, port: &Port) -> Result<Tensor, OnnxError> {
        let refuse = |expected: &str, found: String| OnnxError::Input {
            name: port.name.clone(),
            expected: expected.into(),
            found,
        };
        let Some(axes) = &port.shape else {
            return Err(refuse(
                "a state whose shape the model gives",
                "none; call Session::run instead".into(),
            ));
        };
        let mut open = axes.iter().filter(|axis| !matches!(axis, Axis::Fixed(_)));
        if let Some(first) = open.next()
            && open.any(|axis| axis != first || *axis == Axis::Any)
        {
            return Err(refuse(
                "a state with one axis of streams",
                format!("{port}; call Session::run instead"),
            ));
        }
        let lens: Vec<usize> =
            axes.iter().map(|axis| if let Axis::Fixed(len) = axis { *len } else { self.batch }).collect();
        volume(&lens).map_err(|problem| refuse("a state", problem))?;
        let shape = IxDyn(&lens);
        Ok(match port.element.map(ElementType::stored) {
            None | Some(ElementType::F32) => Tensor::F32(ArrayD::zeros(shape)),
            Some(ElementType::I64) => Tensor::I64(ArrayD::zeros(shape)),
            Some(ElementType::I32) => Tensor::I32(ArrayD::zeros(shape)),
            Some(other) => return Err(refuse("a state of numbers", other.to_string())),
        })
    }

    /// The number of streams.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// The inputs to give with each chunk, in the model's order.
    pub fn inputs(&self) -> Vec<&'a Port> {
        let begun: Vec<&str> = self.begun().map(|port| port.name.as_str()).collect();
        self.ports().iter().filter(|port| !begun.contains(&port.name.as_str())).collect()
    }

    /// The outputs of each chunk, in the model's order.
    pub fn outputs(&self) -> Vec<&'a Port> {
        let outputs = self.session.model().graph.outputs.iter();
        let dropped = &self.states.scope.dropped;
        outputs
            .filter(|port| self.carried_by(&port.name).is_none() && !dropped.contains(&port.name))
            .collect()
    }

    /// The names of the states.
    pub fn state_names(&mut self) -> Vec<String> {
        let carried: Vec<String> =
            self.states.carried.iter().map(|&(input, _)| self.ports()[input].name.clone()).collect();
        let kept = self.session.program().keepers();
        let kept: Vec<String> = kept.iter().flat_map(|keeper| keeper.names()).map(str::to_owned).collect();
        carried.into_iter().chain(kept).collect()
    }

    /// The inputs that the stream carries on, each with the output that gives its next value. Their states go by the names
    /// of the inputs.
    pub fn carried(&self) -> Vec<(&'a str, &'a str)> {
        let graph = &self.session.model().graph;
        let pairs = self.states.pairs.iter();
        pairs.map(|&(i, o)| (graph.inputs[i].name.as_str(), graph.outputs[o].name.as_str())).collect()
    }

    /// The states after the last chunk. Those of nodes that have not run are left out.
    ///
    /// # Errors
    /// [`OnnxError::Engine`] from reading back; [`OnnxError::Stream`] after [`Stream::reset_rows`] of states that were
    /// set for a node which has not run since.
    pub fn states(&mut self) -> Result<BTreeMap<String, Tensor>, OnnxError> {
        let mut found = BTreeMap::new();
        for (&(input, _), value) in self.states.carried.iter().zip(&self.values) {
            let port = &self.ports()[input];
            found.insert(port.name.clone(), value.clone().map_or_else(|| self.zeros(port), Ok)?);
        }
        for keeper in self.session.program().keepers() {
            found.extend(keeper.states()?);
        }
        Ok(found)
    }

    /// Goes on from other states, such as those of [`Stream::states`]; those not given stay as they are.
    ///
    /// # Errors
    /// [`OnnxError::Input`] for a name that is no state, or a value that does not fit; for the state of a node that has
    /// not run yet, the next [`Stream::run`] finds that.
    pub fn set_states(&mut self, states: BTreeMap<String, Tensor>) -> Result<(), OnnxError> {
        let names = self.state_names();
        for (name, value) in states {
            let wrong = |expected: String| {
                let found = format!("{} {:?}", value.element(), value.shape());
                OnnxError::Input { name: name.clone(), expected, found }
            };
            let ports = self.ports();
            let at = self.states.carried.iter().position(|&(input, _)| ports[input].name == name);
            if let Some(at) = at {
                let zeros = self.zeros(&ports[self.states.carried[at].0])?;
                if zeros.element() != value.element() || zeros.shape() != value.shape() {
                    return Err(wrong(format!("{} {:?}", zeros.element(), zeros.shape())));
                }
                self.values[at] = Some(value);
                continue;
            }
            if !names.contains(&name) {
                return Err(wrong(format!("one of the states {}", names.join(", "))));
            }
            let Tensor::F32(array) = &value else { return Err(wrong("float32".into())) };
            for keeper in self.session.program().keepers() {
                if keeper.names().any(|own| own == name) {
                    keeper.set(&name, array)?;
                }
            }
        }
        Ok(())
    }

    /// Begins all streams anew.
    pub fn reset(&mut self) {
        self.values.fill(None);
        self.session.program().keepers().into_iter().for_each(|keeper| keeper.reset());
        self.broken = false;
    }

    /// Begins the streams in these rows anew; the others go on.
    ///
    /// # Errors
    /// [`OnnxError::Stream`] for a row that does not exist; [`OnnxError::Input`] for a state in which the model does not
    /// tell the rows; [`OnnxError::Engine`] from reading back.
    pub fn reset_rows(&mut self, rows: &[usize]) -> Result<(), OnnxError> {
        if let Some(row) = rows.iter().find(|row| **row >= self.batch) {
            let last = self.batch - 1;
            return Err(OnnxError::Stream(format!("no stream {row} to reset: expected 0 to {last}")));
        }
        let places: Vec<Option<usize>> = self
            .states
            .carried
            .iter()
            .map(|&(input, _)| self.row_axis(&self.ports()[input]))
            .collect::<Result<_, _>>()?;
        for (value, axis) in self.values.iter_mut().zip(places) {
            match (value, axis) {
                (value, None) if !rows.is_empty() => *value = None,
                (Some(Tensor::F32(array)), Some(axis)) => {
                    rows.iter().for_each(|&row| array.index_axis_mut(AxisOf(axis), row).fill(0.0));
                }
                (Some(Tensor::I64(array)), Some(axis)) => {
                    rows.iter().for_each(|&row| array.index_axis_mut(AxisOf(axis), row).fill(0));
                }
                (Some(Tensor::I32(array)), Some(axis)) => {
                    rows.iter().for_each(|&row| array.index_axis_mut(AxisOf(axis), row).fill(0));
                }
                _ => {}
            }
        }
        let batch = self.batch;
        for keeper in self.session.program().keepers() {
            keeper.reset_rows(rows, batch)?;
        }
        Ok(())
    }

    /// The axis of a state with a place for each stream; `None` if there is one stream.
    fn row_axis(&self, port: &Port) -> Result<Option<usize>, OnnxError> {
        let axes = port.shape.as_deref().unwrap_or_default();
        let open: Vec<usize> = (0..axes.len()).filter(|&at| !matches!(axes[at], Axis::Fixed(_))).collect();
        let fixed: Vec<usize> = (0..axes.len()).filter(|&at| axes[at] == Axis::Fixed(self.batch)).collect();
        match (&open[..], &fixed[..]) {
            _ if self.batch == 1 => Ok(None),
            (&[axis], _) | (&[], &[axis]) => Ok(Some(axis)),
            _ => Err(OnnxError::Input {
                name: port.name.clone(),
                expected: format!("one axis of {} streams", self.batch),
                found: format!("{port}; reset all streams"),
            }),
        }
    }
}
