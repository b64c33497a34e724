//! The layer graph: which values each layer reads, who reads its output, and how states pass between layers.

use crate::{Layer, LayerKind, StateKind};
use serde::{Deserialize, Serialize};

/// The connections between a network's layers, resolved once for all code that walks them.
///
/// ```
/// use gatefold_model::{Merge, NetworkConfig, Source};
///
/// let config = NetworkConfig::with_input(8).gru(8).gru(8).residual(1).last_step().build()?;
/// let graph = config.graph();
///
/// // Layer 2 adds the output of layer 1 and the input of layer 1, which is the output of layer 0.
/// assert_eq!(graph.node(2).inputs, [Source::Output(1), Source::Output(0)]);
/// assert_eq!(graph.node(2).merge, Merge::Sum);
///
/// // Backward, the gradients of two layers meet at the output of layer 0.
/// assert_eq!(graph.readers(Source::Output(0)), [1, 2]);
/// assert_eq!(graph.output(), Source::Output(3));
/// # Ok::<(), gatefold_model::ModelError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Graph {
    nodes: Vec<Node>,
    hand_overs: Vec<HandOver>,
    input_readers: Vec<usize>,
    decoder_input_readers: Vec<usize>,
}

/// One layer and its connections.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// The layer, by its index in the network.
    pub layer: usize,
    /// The values it reads, in the order of merging. A decoder reads none: it only hands states over.
    pub inputs: Vec<Source>,
    /// The way several inputs become one.
    pub merge: Merge,
    /// The layers that read its output, in ascending order. Empty for the network's last layer, and for an output that
    /// is never read, such as that of an encoder's last layer.
    pub readers: Vec<usize>,
    /// The sources and readers of its states; `None` unless the layer is recurrent.
    pub states: Option<StateFlow>,
}

/// A value that layers read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// The network's input.
    Input,
    /// The decoder's input.
    DecoderInput,
    /// The output of this layer.
    Output(usize),
    /// The final h of this recurrent layer, directions side by side.
    FinalHidden(usize),
}

/// The way several inputs of a layer, or the outputs of parallel branches, become one; a single one is read unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Merge {
    /// Their sum, added in order: `[T, B, F]` of each to `[T, B, F]`.
    Sum,
    /// Their values side by side, in order: `[T, B, F]` of each to `[T, B, sum of F]`.
    Concatenate,
}

/// The ways to a layer, by the layers from whose outputs they come; `None` is the network's input.
#[derive(Debug)]
pub(crate) struct Route {
    /// The value that arrives, whether or not the layer itself reads it; at a merge, what its branches read.
    pub(crate) arriving: Option<usize>,
    /// The ends of the branches that a merge joins.
    pub(crate) branches: Vec<Option<usize>>,
}

/// The sources and readers of a recurrent layer's states.
#[derive(Clone, Debug, PartialEq)]
pub struct StateFlow {
    /// The layer's number among the network's recurrent layers, from 0.
    pub number: usize,
    /// The source of its initial states.
    pub initial: InitialSource,
    /// The layers that read its final states, in ascending order: a final-state layer, or a decoder that hands them over.
    pub final_readers: Vec<usize>,
}

/// The source of a recurrent layer's initial states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InitialSource {
    /// The caller, or else the layer's own description: zeros, a constant or learned states.
    Own,
    /// An encoder, through [`Graph::hand_overs`]. The caller gives them only when the decoder runs alone.
    HandedOver,
}

/// One final state of an encoder's layer that becomes an initial state of a decoder's layer.
///
/// A [`Bridge::Dense`](crate::Bridge::Dense) transforms it with the decoder's parameters
/// [`Role::BridgeWeight(number, state)`](crate::Role::BridgeWeight) and
/// [`Role::BridgeBias(number, state)`](crate::Role::BridgeBias).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HandOver {
    /// The decoder's recurrent layer, by its index in the network.
    pub target: usize,
    /// The target's number among the decoder's recurrent layers, from 0.
    pub number: usize,
    /// The initial state to fill.
    pub state: StateKind,
    /// The width of that state. An h fills all slots of a skip connection.
    pub width: usize,
    /// The encoder's recurrent layer, by its index in the network.
    pub source: usize,
    /// The final state to read: `state`, or h where the source has no c.
    pub source_state: StateKind,
    /// The width of the final state, directions side by side.
    pub source_width: usize,
}

impl Graph {
    /// Connects resolved layers, given the ways to each of them and their hand-overs.
    pub(crate) fn new(layers: &[Layer], routes: &[Route], hand_overs: Vec<HandOver>) -> Self {
        let mut graph = Graph {
            nodes: Vec::with_capacity(layers.len()),
            hand_overs,
            input_readers: Vec::new(),
            decoder_input_readers: Vec::new(),
        };
        let value_of = |from: Option<usize>| match from.map(|from| &layers[from]) {
            None => Source::Input,
            Some(Layer { kind: LayerKind::Decoder { .. }, .. }) => Source::DecoderInput,
            Some(layer) => Source::Output(layer.index),
        };
        let mut number = 0;
        for (layer, route) in layers.iter().zip(routes) {
            let at = layer.index;
            let arriving = value_of(route.arriving);
            let mut merge = Merge::Sum;
            let inputs = match layer.kind {
                // A residual connection from a layer adds what arrives at it, whether or not the layer itself reads it.
                LayerKind::Residual { from } => vec![arriving, value_of(routes[from].arriving)],
                LayerKind::FinalState => {
                    vec![Source::FinalHidden(route.arriving.expect("it follows a recurrent layer"))]
                }
                LayerKind::Decoder { .. } => Vec::new(),
                LayerKind::Merge(of_branches) => {
                    merge = of_branches;
                    route.branches.iter().copied().map(value_of).collect()
                }
                _ => vec![arriving],
            };
            inputs.iter().for_each(|&input| graph.readers_mut(input).push(at));
            let states = layer.recurrent().map(|_| {
                let handed_over = graph.hand_overs.iter().any(|hand_over| hand_over.target == at);
                let initial = if handed_over { InitialSource::HandedOver } else { InitialSource::Own };
                StateFlow { number, initial, final_readers: Vec::new() }
            });
            number += usize::from(states.is_some());
            graph.nodes.push(Node { layer: at, inputs, merge, readers: Vec::new(), states });
            if let LayerKind::Decoder { .. } = layer.kind {
                for index in 0..graph.hand_overs.len() {
                    let readers = graph.readers_mut(Source::FinalHidden(graph.hand_overs[index].source));
                    if readers.last() != Some(&at) {
                        readers.push(at);
                    }
                }
            }
        }
        graph
    }

    /// The layers with their connections, in order of execution; layer `i` is node `i`.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// One layer with its connections.
    pub fn node(&self, layer: usize) -> &Node {
        &self.nodes[layer]
    }

    /// The network's output.
    pub fn output(&self) -> Source {
        Source::Output(self.nodes.len() - 1)
    }

    /// The states that a decoder takes from its encoder, in the order of the decoder's layers, h before c. Empty without
    /// a decoder.
    pub fn hand_overs(&self) -> &[HandOver] {
        &self.hand_overs
    }

    /// The layers that read a value, in ascending order. The gradient with respect to the value is the sum over them,
    /// plus the caller's own gradient for the network's output.
    pub fn readers(&self, source: Source) -> &[usize] {
        match source {
            Source::Input => &self.input_readers,
            Source::DecoderInput => &self.decoder_input_readers,
            Source::Output(layer) => &self.nodes[layer].readers,
            Source::FinalHidden(layer) => {
                self.nodes[layer].states.as_ref().map_or(&[], |states| &states.final_readers)
            }
        }
    }

    /// Whether another layer reads final states of this one.
    pub fn reads_final(&self, layer: usize) -> bool {
        !self.readers(Source::FinalHidden(layer)).is_empty()
    }

    fn readers_mut(&mut self, source: Source) -> &mut Vec<usize> {
        match source {
            Source::Input => &mut self.input_readers,
            Source::DecoderInput => &mut self.decoder_input_readers,
            Source::Output(layer) => &mut self.nodes[layer].readers,
            Source::FinalHidden(layer) => {
                let states = self.nodes[layer].states.as_mut();
                &mut states.expect("only recurrent layers have final states").final_readers
            }
        }
    }
}

/// The states that pass from an encoder to its decoder. The j-th recurrent layer of the decoder takes those of the
/// encoder's j-th, or of its last if it has fewer.
pub(crate) fn hand_overs(layers: &[Layer]) -> Vec<HandOver> {
    let Some(at) = layers.iter().position(|layer| matches!(layer.kind, LayerKind::Decoder { .. })) else {
        return Vec::new();
    };
    let sources: Vec<&Layer> = layers[..at].iter().filter(|layer| layer.recurrent().is_some()).collect();
    let targets = layers[at..].iter().filter(|layer| layer.recurrent().is_some());
    let mut found = Vec::new();
    for (number, target) in targets.enumerate() {
        let source = sources[number.min(sources.len() - 1)];
        for state in [StateKind::Hidden, StateKind::Cell] {
            let Some(width) = state_width(target, state) else { continue };
            let given = [state, StateKind::Hidden].into_iter();
            let mut given = given.filter_map(|state| Some((state, state_width(source, state)?)));
            let (source_state, source_width) = given.next().expect("every cell has h");
            let (target, source) = (target.index, source.index);
            found.push(HandOver { target, number, state, width, source, source_state, source_width });
        }
    }
    found
}

/// The width of a layer's initial or final state, directions side by side; `None` where it has no such state.
fn state_width(layer: &Layer, state: StateKind) -> Option<usize> {
    let recurrent = layer.recurrent()?;
    let scans = recurrent.direction.scans().len();
    match state {
        StateKind::Hidden => Some(scans * recurrent.recurrent_width()),
        StateKind::Cell => recurrent.cell.has_state().then_some(scans * recurrent.hidden),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Activation, Bridge, DecoderConfig, DenseConfig, Direction, Expansion, GruConfig, LayerConfig,
        LstmConfig, NetworkConfig, RnnConfig,
    };

    fn graph(input: usize, layers: &[LayerConfig]) -> Graph {
        NetworkConfig::new(input, layers).unwrap().graph().clone()
    }

    fn inputs(graph: &Graph) -> Vec<&[Source]> {
        graph.nodes().iter().map(|node| node.inputs.as_slice()).collect()
    }

    fn lstm(hidden: usize) -> LayerConfig {
        LstmConfig::new(hidden).into()
    }

    fn gru(hidden: usize) -> LayerConfig {
        GruConfig::new(hidden).into()
    }

    fn dense_decoder(input: usize) -> LayerConfig {
        DecoderConfig::new(input).bridge(Bridge::Dense { activation: Activation::Tanh }).into()
    }

    #[test]
    fn a_chain_reads_the_layer_before() {
        let graph = graph(3, &[lstm(4), LayerConfig::LastStep, DenseConfig::new(2).into()]);
        assert_eq!(inputs(&graph), [[Source::Input], [Source::Output(0)], [Source::Output(1)]]);
        assert_eq!(graph.readers(Source::Input), [0]);
        assert_eq!(graph.readers(Source::Output(0)), [1]);
        assert!(graph.readers(graph.output()).is_empty(), "only the caller reads the output");
        assert!(graph.nodes().iter().enumerate().all(|(at, node)| node.layer == at));
        assert!(graph.hand_overs().is_empty());
        assert!(!graph.reads_final(0), "the last step is read from the output");
    }

    #[test]
    fn a_residual_adds_the_input_of_an_earlier_layer() {
        let graph = graph(4, &[gru(4), gru(4), gru(4), LayerConfig::Residual { from: 1 }, gru(4)]);
        assert_eq!(graph.node(3).inputs, [Source::Output(2), Source::Output(0)]);
        assert_eq!(graph.readers(Source::Output(0)), [1, 3]);
        assert_eq!(graph.readers(Source::Output(2)), [3]);
        assert_eq!(graph.readers(Source::Output(3)), [4]);
    }

    #[test]
    fn residuals_from_layer_0_read_the_input_of_the_network() {
        let from_0 = LayerConfig::Residual { from: 0 };
        let graph = graph(4, &[gru(4), from_0.clone(), gru(4), from_0]);
        assert_eq!(graph.node(1).inputs, [Source::Output(0), Source::Input]);
        assert_eq!(graph.node(3).inputs, [Source::Output(2), Source::Input]);
        assert_eq!(graph.readers(Source::Input), [0, 1, 3]);
    }

    #[test]
    fn a_residual_from_a_residual_adds_what_arrived_before_the_sum() {
        let residual = |from| LayerConfig::Residual { from };
        let graph = graph(4, &[gru(4), residual(0), gru(4), residual(1), residual(3)]);
        assert_eq!(graph.node(3).inputs, [Source::Output(2), Source::Output(0)]);
        assert_eq!(graph.node(4).inputs, [Source::Output(3), Source::Output(2)]);
        assert_eq!(graph.readers(Source::Output(0)), [1, 3]);
    }

    #[test]
    fn a_final_state_reads_h_and_a_residual_from_it_the_sequence() {
        let expand = LayerConfig::Expand { steps: 5, fill: Expansion::Repeat };
        let layers = [expand.clone(), lstm(4), LayerConfig::FinalState, expand, lstm(4)];
        let graph = graph(4, &[&layers[..], &[LayerConfig::Residual { from: 2 }]].concat());
        assert_eq!(graph.node(2).inputs, [Source::FinalHidden(1)]);
        assert_eq!(graph.node(5).inputs, [Source::Output(4), Source::Output(1)]);
        assert_eq!(graph.readers(Source::FinalHidden(1)), [2]);
        assert_eq!(graph.readers(Source::Output(1)), [5]);
        assert!(graph.reads_final(1));
        assert!(!graph.reads_final(4));
        assert!(!graph.reads_final(0), "it has no states");
    }

    #[test]
    fn tied_layers_are_nodes_of_their_own() {
        let graph = graph(4, &[lstm(4), LayerConfig::Tied { to: 0 }, LayerConfig::Tied { to: 0 }]);
        assert_eq!(inputs(&graph), [[Source::Input], [Source::Output(0)], [Source::Output(1)]]);
        let numbers: Vec<usize> =
            graph.nodes().iter().map(|node| node.states.as_ref().unwrap().number).collect();
        assert_eq!(numbers, [0, 1, 2]);
    }

    #[test]
    fn a_decoder_of_more_layers_takes_the_last_of_the_encoder_again() {
        let graph = graph(
            3,
            &[lstm(4), lstm(5), dense_decoder(2), lstm(6), DenseConfig::new(7).into(), lstm(7), lstm(8)],
        );
        let pairs: Vec<_> = graph.hand_overs().iter().map(|h| (h.number, h.target, h.source)).collect();
        assert_eq!(pairs, [(0, 3, 0), (0, 3, 0), (1, 5, 1), (1, 5, 1), (2, 6, 1), (2, 6, 1)]);
        let widths: Vec<_> =
            graph.hand_overs().iter().map(|h| (h.state.name(), h.width, h.source_width)).collect();
        assert_eq!(widths, [("h", 6, 4), ("c", 6, 4), ("h", 7, 5), ("c", 7, 5), ("h", 8, 5), ("c", 8, 5)]);

        assert!(graph.node(2).inputs.is_empty());
        assert!(graph.readers(Source::Output(1)).is_empty(), "the decoder reads states, not the output");
        assert_eq!(graph.node(3).inputs, [Source::DecoderInput]);
        assert_eq!(graph.readers(Source::DecoderInput), [3]);
        let states = |layer: usize| graph.node(layer).states.as_ref().unwrap();
        assert_eq!([0, 1, 3, 5, 6].map(|layer| states(layer).number), [0, 1, 2, 3, 4]);
        assert_eq!([0, 1].map(|layer| states(layer).initial), [InitialSource::Own; 2]);
        assert_eq!([3, 5, 6].map(|layer| states(layer).initial), [InitialSource::HandedOver; 3]);
        assert_eq!([0, 1, 3].map(|layer| states(layer).final_readers.clone()), [vec![2], vec![2], vec![]]);
    }

    #[test]
    fn an_encoder_of_more_layers_hands_over_its_first() {
        let graph = graph(3, &[gru(4), gru(5), dense_decoder(2), gru(6)]);
        assert!(graph.reads_final(0));
        assert!(!graph.reads_final(1), "the decoder has one recurrent layer, and takes the first");
    }

    #[test]
    fn c_comes_from_h_where_the_encoder_has_no_c() {
        let gru = GruConfig::new(4).direction(Direction::Bidirectional);
        let graph = graph(3, &[gru.into(), dense_decoder(2), lstm(5)]);
        let hand_over = |state| HandOver {
            target: 2,
            number: 0,
            state,
            width: 5,
            source: 0,
            source_state: StateKind::Hidden,
            source_width: 8,
        };
        assert_eq!(graph.hand_overs(), [hand_over(StateKind::Hidden), hand_over(StateKind::Cell)]);
    }

    #[test]
    fn a_decoder_without_c_takes_h_alone() {
        let graph = graph(3, &[lstm(4), DecoderConfig::new(2).into(), RnnConfig::new(4).into()]);
        let states: Vec<_> = graph.hand_overs().iter().map(|h| (h.state, h.source_state)).collect();
        assert_eq!(states, [(StateKind::Hidden, StateKind::Hidden)]);
    }

    #[test]
    fn a_residual_in_a_decoder_reads_the_input_of_the_decoder() {
        let layers = [lstm(4), DecoderConfig::new(4).into(), lstm(4), LayerConfig::Residual { from: 2 }];
        let graph = graph(3, &layers);
        assert_eq!(graph.node(3).inputs, [Source::Output(2), Source::DecoderInput]);
        assert_eq!(graph.readers(Source::DecoderInput), [2, 3]);
        assert_eq!(graph.readers(Source::Input), [0]);
    }
}
