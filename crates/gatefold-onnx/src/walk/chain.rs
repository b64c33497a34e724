//! Convolutions over one axis, and products with a matrix, whose weights are constants: those that follow each other are one
//! network on the engine's CPU device, with the functions after them, so that the values between them stay in its layout.

use super::{Cell, Host, Names, Source, Step, Value, Work, is_needed, tensor_of};
use crate::OnnxError;
use crate::graph::{Graph, Node};
use crate::operators::{self, Convolution, Need};
use crate::tensor::Tensor;
use gatefold::{Device, Network};
use gatefold_model::{Activation, Conv1dConfig, DenseConfig, LayerConfig, NetworkConfig, Parameters, Role};
use ndarray::{ArrayD, Axis, Ix2, Ix3, IxDyn};
use std::collections::{BTreeMap, BTreeSet};

/// Nodes that are one network: convolutions of `[B, I, T]`, or products of `[..., I]`.
#[derive(Debug)]
pub(super) struct Chain<'a> {
    links: Vec<Link<'a>>,
    /// Once it has run.
    network: Option<Network>,
}

/// A layer: a convolution or a product, the sum after a product, and the function after that.
#[derive(Debug)]
struct Link<'a> {
    nodes: Vec<&'a Node>,
    kind: Kind,
    weight: &'a ArrayD<f32>,
    /// `[O]`, or that after axes of length 1
    bias: Option<&'a ArrayD<f32>>,
    function: Option<Activation>,
}

#[derive(Debug)]
enum Kind {
    /// With a weight `[O, I, K]`.
    Convolution(Convolution),
    /// Of any number of axes, with a weight `[I, O]`.
    MatMul,
    /// Of two axes, with a weight `[I, O]` or, transposed, `[O, I]`.
    Gemm { transposed: bool },
}

/// The constants that a node may read: those of its graph and of the graphs around it.
#[derive(Clone, Copy)]
pub(super) struct Constants<'n, 'a> {
    pub(super) names: &'n Names<'a>,
    pub(super) opset: i64,
}

impl<'a> Constants<'_, 'a> {
    fn get(self, name: &str) -> Option<&'a Tensor> {
        match self.names.get(name) {
            Some(Source::Constant(tensor)) => Some(tensor),
            _ => None,
        }
    }
}

/// The nodes that read each name of a graph.
pub(super) struct Readers<'a>(BTreeMap<&'a str, Reader<'a>>);

enum Reader<'a> {
    Only(&'a Node),
    Several,
}

impl<'a> Readers<'a> {
    /// Of the nodes that are needed for some outputs.
    pub(super) fn of(
        graph: &'a Graph,
        needed: &BTreeSet<&str>,
        outputs: impl Iterator<Item = &'a str>,
    ) -> Readers<'a> {
        let mut readers = BTreeMap::new();
        for node in graph.nodes.iter().filter(|node| is_needed(node, needed)) {
            for name in node.reads() {
                let again = readers.insert(name, Reader::Only(node)).is_some();
                if again {
                    readers.insert(name, Reader::Several);
                }
            }
        }
        readers.extend(outputs.map(|name| (name, Reader::Several)));
        Readers(readers)
    }

    /// The node that alone reads the only output of another, once, and the place of that input.
    fn after(&self, node: &Node) -> Option<(&'a Node, usize)> {
        let [Some(name)] = &node.outputs[..] else { return None };
        let Some(Reader::Only(reader)) = self.0.get(name.as_str()) else { return None };
        let at = reader.inputs.iter().position(|input| input.as_ref() == Some(name))?;
        Some((*reader, at))
    }
}

impl<'a> Link<'a> {
    /// `None` for a node that the engine has no layer for.
    fn of(node: &'a Node, constants: Constants<'_, 'a>) -> Option<Link<'a>> {
        let is_layer = matches!(&*node.operator, "Conv" | "Gemm" | "MatMul");
        if !is_layer || operators::check_attributes(node, constants.opset).is_err() {
            return None;
        }
        let constant = |at: usize| match node.input_name(at).map(|name| constants.get(name)) {
            None => Some(None),
            Some(Some(Tensor::F32(array))) => Some(Some(array)),
            Some(_) => None,
        };
        let (weight, bias) = (constant(1)??, constant(2)?);
        let kind = match &*node.operator {
            "Conv" => {
                let conv = Convolution::of_node(node, weight.shape()).ok()?;
                let fits = conv.kernel.len() == 1 && conv.groups == 1 && conv.padding(0, None).is_some();
                fits.then_some(Kind::Convolution(conv))?
            }
            "Gemm" => {
                let plain = node.int_or("transA", 0) == Ok(0)
                    && ["alpha", "beta"]
                        .into_iter()
                        .all(|key| matches!(node.float(key), Ok(None | Some(1.0))));
                plain.then_some(Kind::Gemm { transposed: node.int_or("transB", 0).ok()? != 0 })?
            }
            _ => Kind::MatMul,
        };
        let axes = if matches!(kind, Kind::Convolution(_)) { 3 } else { 2 };
        if weight.ndim() != axes || weight.is_empty() {
            return None;
        }
        let link = Link { nodes: vec![node], kind, weight, bias, function: None };
        bias.is_none_or(|bias| link.is_bias(bias)).then_some(link)
    }

    fn outputs(&self) -> usize {
        let axis = usize::from(!matches!(self.kind, Kind::Convolution(_) | Kind::Gemm { transposed: true }));
        self.weight.shape()[axis]
    }

    fn inputs(&self) -> usize {
        let axis = usize::from(matches!(self.kind, Kind::Convolution(_) | Kind::Gemm { transposed: true }));
        self.weight.shape()[axis]
    }

    /// Whether an array adds a number to each output: a sum with it has no more axes than the product.
    fn is_bias(&self, array: &ArrayD<f32>) -> bool {
        let most = if matches!(self.kind, Kind::Convolution(_)) { 1 } else { 2 };
        let (len, axes) = (array.len(), array.ndim());
        len == self.outputs() && (1..=most).contains(&axes) && array.shape()[axes - 1] == len
    }

    fn last(&self) -> &'a Node {
        self.nodes[self.nodes.len() - 1]
    }

    /// Takes the node after it into the layer, if it is its sum or its function; `at` is the input that is this layer's.
    fn takes(&mut self, next: &'a Node, at: usize, constants: Constants<'_, 'a>) -> bool {
        if self.function.is_some() || operators::check_attributes(next, constants.opset).is_err() {
            return false;
        }
        match &*next.operator {
            "Add" if self.bias.is_none() && matches!(self.kind, Kind::MatMul) && next.inputs.len() == 2 => {
                let other = next.input_name(1 - at).and_then(|name| constants.get(name));
                let Some(Tensor::F32(array)) = other else { return false };
                self.bias = Some(array).filter(|array| self.is_bias(array));
                if self.bias.is_none() {
                    return false;
                }
            }
            // The layers keep NaN where these do.
            "Relu" | "Sigmoid" | "Tanh" => match operators::function_of(next) {
                Ok(Some(function)) => self.function = Some(function),
                _ => return false,
            },
            _ => return false,
        }
        self.nodes.push(next);
        true
    }

    /// Whether the layers of both compute in one layout.
    fn joins(&self, other: &Link) -> bool {
        matches!(self.kind, Kind::Convolution(_)) == matches!(other.kind, Kind::Convolution(_))
    }

    /// The shape of its result, and what it costs.
    fn result(&self, x: &[usize]) -> Result<(Vec<usize>, Need), String> {
        let w = self.weight.shape();
        if let Kind::Convolution(conv) = &self.kind {
            let shape = conv.result(x, w)?;
            let need = Need::of_convolution(&shape, w)?;
            return Ok((shape, need));
        }
        let inputs = self.inputs();
        let fits = match self.kind {
            Kind::MatMul => !x.is_empty(),
            _ => x.len() == 2,
        };
        let Some((&width, rows)) = x.split_last().filter(|(width, _)| fits && **width == inputs) else {
            return Err(format!("its weight of shape {w:?} does not fit an input of shape {x:?}"));
        };
        let shape = [rows, &[self.outputs()]].concat();
        let need = Need::of(&shape, width)?;
        Ok((shape, need))
    }

    fn layer(&self) -> LayerConfig {
        let function = self.function.unwrap_or(Activation::Identity);
        match &self.kind {
            Kind::Convolution(conv) => {
                let (left, right) = conv.padding(0, None).unwrap_or((0, 0));
                Conv1dConfig::new(self.outputs(), conv.kernel[0])
                    .stride(conv.stride[0])
                    .dilation(conv.dilation[0])
                    .padding(left, right)
                    .bias(self.bias.is_some())
                    .activation(function)
                    .into()
            }
            _ => DenseConfig::new(self.outputs()).bias(self.bias.is_some()).activation(function).into(),
        }
    }

    /// The layer's parameters.
    fn parameters(&self) -> impl Iterator<Item = (Role, ArrayD<f32>)> + use<> {
        let (weight, bias) = match self.kind {
            Kind::Convolution(_) => (Role::ConvWeight, Role::ConvBias),
            _ => (Role::DenseWeight, Role::DenseBias),
        };
        let own = match self.kind {
            Kind::Convolution(_) | Kind::Gemm { transposed: true } => self.weight.clone(),
            _ => self.weight.t().as_standard_layout().into_owned(),
        };
        let b = self.bias.map(|b| (bias, b.iter().copied().collect::<ndarray::Array1<f32>>().into_dyn()));
        [(weight, own)].into_iter().chain(b)
    }
}

impl<'a> Chain<'a> {
    /// The longest chain that begins with a node; `None` if none does.
    pub(super) fn from(
        node: &'a Node,
        constants: Constants<'_, 'a>,
        readers: &Readers<'a>,
    ) -> Option<Chain<'a>> {
        let mut links = vec![Link::of(node, constants)?];
        while let Some(link) = links.last_mut()
            && let Some((next, at)) = readers.after(link.last())
        {
            if link.takes(next, at, constants) {
                continue;
            }
            let next = Link::of(next, constants).filter(|next| at == 0 && link.joins(next));
            let Some(next) = next else { break };
            links.push(next);
        }
        Some(Chain { links, network: None })
    }

    pub(super) fn nodes(&self) -> impl Iterator<Item = &'a Node> + '_ {
        self.links.iter().flat_map(|link| link.nodes.iter().copied())
    }

    pub(super) fn last(&self) -> &'a Node {
        self.links[self.links.len() - 1].last()
    }

    fn run(&mut self, x: &Tensor, host: &mut Host) -> Result<Tensor, OnnxError> {
        let first = self.links[0].nodes[0];
        let mut shape = x.shape().to_vec();
        for link in &self.links {
            let refuse = |problem| link.nodes[0].error(problem);
            let need;
            (shape, need) = link.result(&shape).map_err(refuse)?;
            host.budget.spend(need).map_err(refuse)?;
            link.nodes.iter().for_each(|node| host.note(node.outputs[0].as_ref(), &shape));
        }
        let Tensor::F32(x) = x else {
            return Err(first.error(format!("its input is {}; expected float32", x.element())));
        };
        if shape.contains(&0) {
            return Ok(Tensor::F32(ArrayD::zeros(IxDyn(&shape))));
        }
        let network = match &mut self.network {
            Some(network) => network,
            none => none.insert(network(&self.links, host.device)?),
        };
        let wrong = |error: ndarray::ShapeError| first.error(error.to_string());
        if matches!(self.links[0].kind, Kind::Convolution(_)) {
            let rows = x.view().into_dimensionality::<Ix3>().map_err(wrong)?;
            let steps = rows.permuted_axes([2, 0, 1]);
            let y = network.predict(steps.as_standard_layout().view())?;
            return Ok(y.permuted_axes([1, 2, 0]).as_standard_layout().into_owned().into());
        }
        let width = self.links[0].inputs();
        let rows = x.to_shape((x.len() / width, width)).map_err(wrong)?;
        let rows = rows.view().into_dimensionality::<Ix2>().map_err(wrong)?;
        let y = network.predict(rows.insert_axis(Axis(0)))?;
        Ok(Tensor::F32(y.into_shape_with_order(IxDyn(&shape)).map_err(wrong)?))
    }
}

fn network(links: &[Link], device: &Device) -> Result<Network, OnnxError> {
    let refuse = |problem: String| links[0].nodes[0].error(problem);
    let layers: Vec<LayerConfig> = links.iter().map(Link::layer).collect();
    let config = NetworkConfig::new(links[0].inputs(), layers).map_err(|error| refuse(error.to_string()))?;
    let named = links.iter().zip(config.layers()).flat_map(|(link, layer)| {
        link.parameters().filter_map(|(role, values)| Some((layer.find(role, false)?.name.clone(), values)))
    });
    let parameters: Parameters = named.collect();
    // A device that is not the CPU computes the recurrent nodes alone: what lies between stays on the host.
    let device = if device.threads().is_some() { device.clone() } else { Device::cpu()? };
    Ok(Network::with_parameters(&device, &config, &parameters)?)
}

impl Step<'_> {
    pub(super) fn chain(&mut self, frame: &[Cell], host: &mut Host) -> Result<Vec<Value>, OnnxError> {
        let Step { node, inputs, work, .. } = self;
        let Work::Chain(chain) = work else { return Ok(Vec::new()) };
        let x = tensor_of(inputs, 0, frame).and_then(|x| x.ok_or("its input 0 is missing".into()));
        let x = x.map_err(|problem: String| node.error(problem))?;
        Ok(vec![Value::Tensor(chain.run(x, host)?)])
    }
}
