use crate::graph::{Axis, Graph, Port};
use crate::operators::Budget;
use crate::tensor::volume;
use crate::walk::fold_constants;
use crate::{ElementType, OnnxError, Session, Tensor, read};
use bytes::Bytes;
use gatefold::Device;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// An ONNX model, read and checked.
#[derive(Clone, Debug)]
pub struct OnnxModel {
    pub(crate) graph: Graph,
    maker: String,
}

impl OnnxModel {
    /// Reads a model and the tensors stored in files beside it.
    ///
    /// # Errors
    /// [`OnnxError::Io`] if a file cannot be read, [`OnnxError::Operator`] for an operator that is not supported,
    /// [`OnnxError::File`] or [`OnnxError::Node`] with the reason if the model is truncated, hostile, of an unsupported
    /// version or breaks ONNX's rules.
    pub fn read(path: impl AsRef<Path>) -> Result<OnnxModel, OnnxError> {
        OnnxModel::of(read::model_file(path.as_ref())?)
    }

    /// Reads a model from bytes. `path` is named in messages, and external data is read from files beside it.
    ///
    /// # Errors
    /// Those of [`OnnxModel::read`].
    pub fn from_bytes(bytes: impl Into<Bytes>, path: impl AsRef<Path>) -> Result<OnnxModel, OnnxError> {
        OnnxModel::of(read::model(bytes.into(), path.as_ref())?)
    }

    fn of((mut graph, maker): (Graph, String)) -> Result<OnnxModel, OnnxError> {
        fold_constants(&mut graph)?;
        Ok(OnnxModel { graph, maker })
    }

    /// The inputs to give, in the model's order. An input with a value in the file is a constant and not listed.
    pub fn inputs(&self) -> &[Port] {
        &self.graph.inputs
    }

    /// The outputs, in the model's order.
    pub fn outputs(&self) -> &[Port] {
        &self.graph.outputs
    }

    /// The version of ONNX's operators that the model uses.
    pub fn opset(&self) -> i64 {
        self.graph.opset
    }

    /// Prepares the model for a device. Recurrent layers with constant weights are set up there once, by the first
    /// [`Session::run`], which may be called as often as you like.
    pub fn on(&self, device: &Device) -> Session<'_> {
        Session::new(self, device)
    }

    /// Runs the model once. Inputs and outputs go by the model's own names.
    ///
    /// # Errors
    /// Those of [`Session::run`].
    pub fn run(
        &self,
        device: &Device,
        inputs: &BTreeMap<String, Tensor>,
    ) -> Result<BTreeMap<String, Tensor>, OnnxError> {
        self.on(device).run(inputs)
    }

    /// Whether the model runs on inputs of ones, on the CPU and in short time: small ones, or longer ones along the axes that
    /// it does not fix. One that does not may still run on others.
    pub fn runs_on_example(&self) -> bool {
        let Ok(device) = Device::cpu() else { return false };
        example_lens(self.inputs()).iter().any(|lens| {
            let inputs = self.inputs().iter().map(|port| Some((port.name.clone(), example(port, lens)?)));
            let Some(inputs) = inputs.collect::<Option<_>>() else { return false };
            let budget = Some(Budget::walking(self.graph.stored()));
            self.on(&device).run_within(&inputs, budget).is_ok()
        })
    }

    /// The name that the program that wrote the model gives itself.
    pub fn maker(&self) -> &str {
        &self.maker
    }
}

/// The most elements of an example.
const MOST_OF_EXAMPLE: usize = 1 << 20;
/// The length of an axis that a model does not fix, in the first example.
const SHORT: usize = 2;
/// Lengths to try after it: a convolution without padding needs as many steps as it reads.
const LONGER: [usize; 3] = [9, 40, 640];
/// The most axes that are made longer alone.
const MOST_OPEN: usize = 3;

/// The lengths of axes that are not [`SHORT`], by [`key`].
type Lens = BTreeMap<String, usize>;

/// The name of an axis that a model does not fix, or its place; `None` if the length is fixed.
fn key(at: usize, axis: &Axis) -> Option<String> {
    match axis {
        Axis::Fixed(_) => None,
        Axis::Named(name) => Some(name.clone()),
        Axis::Any => Some(format!("axis {at}")),
    }
}

/// Examples to try one after another: all axes short, all a bit longer, and each alone longer still.
fn example_lens(ports: &[Port]) -> Vec<Lens> {
    let axes = ports.iter().flat_map(|port| port.shape.iter().flatten().enumerate());
    let open: BTreeSet<String> = axes.filter_map(|(at, axis)| key(at, axis)).collect();
    let mut all = vec![Lens::new()];
    if open.is_empty() {
        return all;
    }
    all.push(open.iter().map(|key| (key.clone(), LONGER[0])).collect());
    for key in open.iter().take(MOST_OPEN) {
        all.extend(LONGER.map(|len| [(key.clone(), len)].into()));
    }
    all
}

/// Ones for an input, with axes of these lengths; `None` if it is large.
fn example(port: &Port, lens: &Lens) -> Option<Tensor> {
    let len = |(at, axis): (usize, &Axis)| match axis {
        Axis::Fixed(len) => *len,
        open => key(at, open).and_then(|key| lens.get(&key).copied()).unwrap_or(SHORT),
    };
    let lens: Vec<usize> = port.shape.iter().flatten().enumerate().map(len).collect();
    volume(&lens).ok().filter(|&len| len <= MOST_OF_EXAMPLE)?;
    let shape = ndarray::IxDyn(&lens);
    Some(match port.element {
        Some(ElementType::I64) => Tensor::I64(ndarray::ArrayD::ones(shape)),
        Some(ElementType::I32) => Tensor::I32(ndarray::ArrayD::ones(shape)),
        Some(ElementType::Bool) => Tensor::Bool(ndarray::ArrayD::from_elem(shape, true)),
        Some(ElementType::U8) => Tensor::U8(ndarray::ArrayD::ones(shape)),
        Some(ElementType::I8) => Tensor::I8(ndarray::ArrayD::ones(shape)),
        _ => Tensor::F32(ndarray::ArrayD::ones(shape)),
    })
}
