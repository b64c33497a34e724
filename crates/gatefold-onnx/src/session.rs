use crate::graph::{Axis, Port};
use crate::operators::Budget;
use crate::stream::{Stream, StreamOptions};
use crate::tensor::Tensor;
use crate::walk::{Cell, Host, Program, Scope, Seen, Value, ValueRef};
use crate::{ElementType, OnnxError, OnnxModel};
use gatefold::Device;
use rten::{RunOptions, ThreadPool};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A model ready to run on a device.
#[derive(Debug)]
pub struct Session<'a> {
    model: &'a OnnxModel,
    device: Device,
    program: Program<'a>,
    /// Elements of weights.
    stored: usize,
    /// The threads for operators that do not run on the device: those of the CPU device, or one for each core.
    threads: Option<Arc<ThreadPool>>,
}

impl<'a> Session<'a> {
    pub(crate) fn new(model: &'a OnnxModel, device: &Device) -> Session<'a> {
        let (program, stored) = (Program::new(&model.graph, &Scope::default()), model.graph.stored());
        let threads = device.threads().map(|count| Arc::new(ThreadPool::with_num_threads(count)));
        Session { model, device: device.clone(), program, stored, threads }
    }

    /// Turns the session into streams: states stay from call to call.
    ///
    /// # Errors
    /// [`OnnxError::Node`] for a node that cannot go on where the call before ended, [`OnnxError::Input`] for an input or
    /// output that is not a state; see [`Stream`].
    pub fn stream(self, options: StreamOptions) -> Result<Stream<'a>, OnnxError> {
        Stream::new(self, options)
    }

    pub(crate) fn model(&self) -> &'a OnnxModel {
        self.model
    }

    pub(crate) fn program(&mut self) -> &mut Program<'a> {
        &mut self.program
    }

    /// Runs the model on its inputs and returns its outputs, by name. RNN, GRU and LSTM run on the device, all
    /// other operators on the host. Whole numbers may be int32 or int64 and are converted to the type that the model
    /// expects; the values of float16 and float64 inputs and outputs are float32.
    ///
    /// # Errors
    /// [`OnnxError::Input`] for an input that is missing, unknown or does not fit; [`OnnxError::Node`] for the first
    /// node whose inputs do not fit it, or that asks for too much memory or arithmetic for inputs of this size;
    /// [`OnnxError::Engine`] for an error of the device.
    pub fn run(&mut self, inputs: &BTreeMap<String, Tensor>) -> Result<BTreeMap<String, Tensor>, OnnxError> {
        self.run_within(inputs, None)
    }

    /// Runs the model with as much arithmetic as a budget allows, or, without one, as its inputs may ask for.
    pub(crate) fn run_within(
        &mut self,
        inputs: &BTreeMap<String, Tensor>,
        budget: Option<Budget>,
    ) -> Result<BTreeMap<String, Tensor>, OnnxError> {
        let inputs = inputs.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        let inputs = checked(&self.model.graph.inputs, inputs)?;
        let results = self.compute(inputs, budget, None)?;
        let outputs = self.model.graph.outputs.iter().zip(results);
        Ok(outputs.map(|(port, tensor)| (port.name.clone(), tensor)).collect())
    }

    /// Runs the program on checked inputs in the model's order; returns its outputs in its order. Notes the course
    /// of the run if asked to.
    pub(crate) fn compute(
        &mut self,
        inputs: Vec<Cow<Tensor>>,
        budget: Option<Budget>,
        seen: Option<&mut Seen>,
    ) -> Result<Vec<Tensor>, OnnxError> {
        let given = inputs.iter().map(|tensor| tensor.len()).sum();
        let options = RunOptions::default().with_thread_pool(self.threads.clone());
        let mut host = Host::new(&self.device, &options, given, self.stored);
        host.budget = budget.unwrap_or(host.budget);
        let inputs = inputs.iter().map(|tensor| Cell::Lent(ValueRef::Tensor(tensor))).collect();
        let program = &mut self.program;
        // Inside the library's own threads, calls of its operators cost a tenth.
        let pool = self.threads.as_deref().unwrap_or_else(|| rten::thread_pool());
        host.seen = seen.is_some().then(Seen::default);
        let inside = program.needs_library();
        let run = move || (program.run(inputs, &mut host), host.seen);
        // A change of threads costs more than some whole networks.
        let (results, noted) = if inside { pool.run(run) } else { run() };
        let results = results?;
        if let (Some(seen), Some(noted)) = (seen, noted) {
            *seen = noted;
        }
        let names = self.program.output_names();
        results
            .into_iter()
            .zip(names)
            .map(|(value, name)| match value {
                Value::Tensor(tensor) => Ok(tensor),
                Value::List(_) => Err(OnnxError::Input {
                    name: name.into(),
                    expected: "a tensor".into(),
                    found: "a list of tensors".into(),
                }),
            })
            .collect()
    }
}

/// Checks that the inputs are exactly those of the model, each of its type and shape; returns them in its order.
pub(crate) fn checked<'t>(
    ports: &[Port],
    mut given: BTreeMap<&str, &'t Tensor>,
) -> Result<Vec<Cow<'t, Tensor>>, OnnxError> {
    let mut inputs = Vec::with_capacity(ports.len());
    let mut named: BTreeMap<&str, usize> = BTreeMap::new();
    for port in ports {
        let wrong =
            |found: String| OnnxError::Input { name: port.name.clone(), expected: port.to_string(), found };
        let tensor = given.remove(port.name.as_str()).ok_or_else(|| wrong("none".into()))?;
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
        inputs.push(as_element(tensor, port.element).ok_or(problem)?);
    }
    match given.pop_first() {
        Some((name, tensor)) => {
            let names: Vec<&str> = ports.iter().map(|port| port.name.as_str()).collect();
            let (expected, found) = (format!("one of {}", names.join(", ")), tensor.element().to_string());
            Err(OnnxError::Input { name: name.into(), expected, found })
        }
        None => Ok(inputs),
    }
}

/// A tensor in row-major order, of the type that a model expects: whole numbers change their width if their values fit.
fn as_element(tensor: &Tensor, element: Option<ElementType>) -> Option<Cow<'_, Tensor>> {
    match (tensor, element) {
        (tensor, element) if element.is_none_or(|element| tensor.element() == element.stored()) => {
            Some(tensor.in_order())
        }
        (Tensor::I32(array), Some(ElementType::I64)) => {
            Some(Cow::Owned(Tensor::I64(array.mapv(i64::from)).in_order().into_owned()))
        }
        (Tensor::I64(array), Some(ElementType::I32)) => {
            let narrow = array.iter().all(|&value| i32::try_from(value).is_ok());
            narrow.then(|| Cow::Owned(Tensor::I32(array.mapv(|value| value as i32)).in_order().into_owned()))
        }
        _ => None,
    }
}
