//! Convolutions over one axis with constant weights, which run on the engine's CPU device as networks: those that follow
//! each other are one, with the functions between them, and so the values between them stay in the network's layout.

use super::{Cell, Host, Step, Value, Work, tensor_of};
use crate::OnnxError;
use crate::graph::{Graph, Node};
use crate::operators::{self, Convolution, Need};
use crate::tensor::Tensor;
use gatefold::{Device, Network};
use gatefold_model::{Activation, Conv1dConfig, LayerConfig, NetworkConfig, Parameters, Role};
use ndarray::{ArrayD, Ix3, IxDyn};
use std::collections::{BTreeMap, BTreeSet};

/// Nodes that are one network.
#[derive(Debug)]
pub(super) struct Convolutions<'a> {
    links: Vec<Link<'a>>,
    /// Once it has run.
    network: Option<Network>,
}

/// A convolution and the function after it.
#[derive(Debug)]
struct Link<'a> {
    node: &'a Node,
    conv: Convolution,
    /// `[O, I, K]`
    weight: &'a ArrayD<f32>,
    /// `[O]`
    bias: Option<&'a ArrayD<f32>>,
    function: Option<(&'a Node, Activation)>,
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
        let is_needed =
            |node: &&Node| node.outputs.iter().flatten().any(|name| needed.contains(name.as_str()));
        for node in graph.nodes.iter().filter(is_needed) {
            for name in node.reads() {
                let reader = readers.entry(name).or_insert(Reader::Only(node));
                if !matches!(reader, Reader::Only(first) if std::ptr::eq(*first, node)) {
                    *reader = Reader::Several;
                }
            }
        }
        readers.extend(outputs.map(|name| (name, Reader::Several)));
        Readers(readers)
    }

    /// The node that alone reads the only output of another, as its first input.
    fn after(&self, node: &Node) -> Option<&'a Node> {
        let [Some(name)] = &node.outputs[..] else { return None };
        let Some(Reader::Only(reader)) = self.0.get(name.as_str()) else { return None };
        let reads = reader.reads().filter(|read| read == name).count();
        (reads == 1 && reader.input_name(0) == Some(name)).then_some(*reader)
    }
}

impl<'a> Link<'a> {
    /// `None` for a node that the engine has no layer for.
    fn of(node: &'a Node, graph: &'a Graph) -> Option<Link<'a>> {
        if node.operator != "Conv" || operators::check_attributes(node, graph.opset).is_err() {
            return None;
        }
        let constant = |at: usize| match node.input_name(at).map(|name| graph.constants.get(name)) {
            None => Some(None),
            Some(Some(Tensor::F32(array))) => Some(Some(array)),
            Some(_) => None,
        };
        let (weight, bias) = (constant(1)??, constant(2)?);
        let conv = Convolution::of_node(node, weight.shape()).ok()?;
        let is_layer = conv.kernel.len() == 1 && conv.groups == 1 && conv.padding(0, None).is_some();
        let fits = bias.is_none_or(|bias| bias.shape() == [weight.shape()[0]]);
        (is_layer && fits).then_some(Link { node, conv, weight, bias, function: None })
    }

    /// The last of its nodes.
    fn last(&self) -> &'a Node {
        self.function.map_or(self.node, |(node, _)| node)
    }

    fn layer(&self) -> LayerConfig {
        let (left, right) = self.conv.padding(0, None).unwrap_or((0, 0));
        Conv1dConfig::new(self.weight.shape()[0], self.conv.kernel[0])
            .stride(self.conv.stride[0])
            .dilation(self.conv.dilation[0])
            .padding(left, right)
            .bias(self.bias.is_some())
            .activation(self.function.map_or(Activation::Identity, |(_, activation)| activation))
            .into()
    }
}

/// The function that a node applies, if a layer computes it to the last bit of NaN.
fn function(node: &Node, opset: i64) -> Option<Activation> {
    let known = matches!(&*node.operator, "Relu" | "Sigmoid" | "Tanh");
    let known = known && operators::check_attributes(node, opset).is_ok();
    known.then(|| operators::function_of(node).ok().flatten()).flatten()
}

impl<'a> Convolutions<'a> {
    /// The longest chain that begins with a node; `None` if it cannot.
    pub(super) fn from(node: &'a Node, graph: &'a Graph, readers: &Readers<'a>) -> Option<Convolutions<'a>> {
        let mut links = vec![Link::of(node, graph)?];
        while let Some(link) = links.last_mut()
            && let Some(next) = readers.after(link.last())
        {
            if let (None, Some(activation)) = (link.function, function(next, graph.opset)) {
                link.function = Some((next, activation));
            } else if let Some(next) = Link::of(next, graph) {
                links.push(next);
            } else {
                break;
            }
        }
        Some(Convolutions { links, network: None })
    }

    pub(super) fn nodes(&self) -> impl Iterator<Item = &'a Node> + '_ {
        self.links.iter().flat_map(|link| [Some(link.node), link.function.map(|(node, _)| node)]).flatten()
    }

    pub(super) fn last(&self) -> &'a Node {
        self.links[self.links.len() - 1].last()
    }

    /// `[B, I, T]` to `[B, O, T']`.
    fn run(&mut self, x: &Tensor, host: &mut Host) -> Result<Tensor, OnnxError> {
        let mut shape = x.shape().to_vec();
        for link in &self.links {
            let refuse = |problem| link.node.error(problem);
            let w = link.weight.shape();
            shape = link.conv.result(&shape, w).map_err(refuse)?;
            host.budget.spend(Need::of_convolution(&shape, w).map_err(refuse)?).map_err(refuse)?;
            host.note(link.node.outputs[0].as_ref(), &shape);
        }
        let Tensor::F32(x) = x else {
            return Err(self.links[0].node.error(format!("its input is {}; expected float32", x.element())));
        };
        if shape.contains(&0) {
            return Ok(Tensor::F32(ArrayD::zeros(IxDyn(&shape))));
        }
        let network = match &mut self.network {
            Some(network) => network,
            none => none.insert(network(&self.links, host.device)?),
        };
        let rows = x
            .view()
            .into_dimensionality::<Ix3>()
            .map_err(|error| self.links[0].node.error(error.to_string()))?;
        let steps = rows.permuted_axes([2, 0, 1]);
        let y = network.predict(steps.as_standard_layout().view())?;
        Ok(y.permuted_axes([1, 2, 0]).as_standard_layout().into_owned().into())
    }
}

fn network(links: &[Link], device: &Device) -> Result<Network, OnnxError> {
    let first = links[0].node;
    let refuse = |problem: String| first.error(problem);
    let layers: Vec<LayerConfig> = links.iter().map(Link::layer).collect();
    let config =
        NetworkConfig::new(links[0].weight.shape()[1], layers).map_err(|error| refuse(error.to_string()))?;
    let named = links.iter().zip(config.layers()).flat_map(|(link, layer)| {
        let given = [(Role::ConvWeight, Some(link.weight)), (Role::ConvBias, link.bias)];
        given
            .into_iter()
            .filter_map(|(role, values)| Some((layer.find(role, false)?.name.clone(), values?.clone())))
    });
    let parameters: Parameters = named.collect();
    // A device that is not the CPU computes the recurrent nodes alone: what lies between stays on the host.
    let device = if device.threads().is_some() { device.clone() } else { Device::cpu()? };
    Ok(Network::with_parameters(&device, &config, &parameters)?)
}

impl Step<'_> {
    pub(super) fn convolutions(&mut self, frame: &[Cell], host: &mut Host) -> Result<Vec<Value>, OnnxError> {
        let Step { node, inputs, work, .. } = self;
        let Work::Convolutions(chain) = work else { return Ok(Vec::new()) };
        let x = tensor_of(inputs, 0, frame).and_then(|x| x.ok_or("its input 0 is missing".into()));
        let x = x.map_err(|problem: String| node.error(problem))?;
        Ok(vec![Value::Tensor(chain.run(x, host)?)])
    }
}
