use super::hand_over::{Handed, hand_over};
use super::{InitialStates, input_width, newest, recurrent_of};
use crate::layer::recurrent::{self, RecurrentTape};
use crate::layer::{self, Lowering, Purpose, Sequence, Tape};
use crate::pass::{InitialFrom, Part, Pass, StatePlaces};
use crate::scan::ScanState;
use crate::stack::stack_from;
use crate::{Element, Error, Given, Half, Span, StateSet};
use gatefold_model::{InitialSource, Layer, LayerKind, Merge, NetworkConfig, Node, Source};
use std::collections::BTreeMap;

/// The values that a forward pass leaves.
#[derive(Debug, Default)]
pub struct Forward {
    /// The network's output; `None` after an encoder alone.
    pub output: Option<Sequence>,
    /// The lengths of its rows, if they end early.
    pub output_lengths: Option<Span>,
    /// The initial states of each recurrent layer that ran.
    pub initial: BTreeMap<usize, InitialStates>,
    /// The final states of each recurrent layer, if somebody reads them.
    pub finals: BTreeMap<usize, Vec<ScanState>>,
    pub(super) layers: BTreeMap<usize, Kept>,
    /// Whether the initial states are the configured ones.
    pub(super) configured: bool,
}

impl Forward {
    /// The tape of a recurrent layer, if it ran.
    pub(super) fn recurrent_tape(&self, index: usize) -> Option<&RecurrentTape> {
        match &self.layers.get(&index)?.tape {
            KeptTape::Recurrent(tape) => Some(tape),
            _ => None,
        }
    }

    /// The states of a recurrent layer after `steps` steps, by scan; empty if the layer did not run.
    pub fn states_after(&self, low: &mut Lowering<'_>, index: usize, steps: usize) -> Vec<ScanState> {
        self.recurrent_tape(index).map_or_else(Vec::new, |tape| recurrent::states_after(low, tape, steps))
    }
}

/// The values that a layer keeps from forward to backward.
#[derive(Debug)]
pub(super) struct Kept {
    /// Its input, merged.
    pub(super) x: Sequence,
    pub(super) tape: KeptTape,
}

#[derive(Debug)]
pub(super) enum KeptTape {
    Recurrent(RecurrentTape),
    Plain(Tape),
    /// The output is the merged input.
    Same,
    Decoder(Vec<Handed>),
}

/// A value with the lengths of its rows, if they end early.
type Value = (Sequence, Option<Span>);

/// Lowers a forward pass. With `finals`, it leaves the final states of all recurrent layers, otherwise only those that
/// other layers read.
///
/// # Errors
/// [`Error::Limit`] for work that the device cannot split.
pub fn forward(
    low: &mut Lowering<'_>,
    config: &NetworkConfig,
    pass: &Pass,
    finals: bool,
) -> Result<Forward, Error> {
    let graph = config.graph();
    let batch = pass.shape.batch;
    let mut found = Forward { configured: pass.initial == InitialFrom::Configured, ..Forward::default() };
    let mut values: BTreeMap<Source, Value> = BTreeMap::new();
    let mut stacked: BTreeMap<usize, RecurrentTape> = BTreeMap::new();
    for node in &graph.nodes()[pass.layers(config)] {
        let layer = &config.layers()[node.layer];
        if let LayerKind::Decoder { bridge } = layer.kind {
            let handed = hand_over(low, config, layer, bridge, &mut found, batch)?;
            let x = values.last_key_value().map(|(_, (x, _))| *x).expect("an encoder has layers");
            found.layers.insert(layer.index, Kept { x, tape: KeptTape::Decoder(handed) });
            continue;
        }
        for &source in &node.inputs {
            values.entry(source).or_insert_with(|| match source {
                Source::Input => given_input(low, config, pass, Half::Input),
                Source::DecoderInput => given_input(low, config, pass, Half::Decoder),
                Source::FinalHidden(of) => {
                    let h = newest(recurrent_of(config, of), &found.finals[&of], batch);
                    (layer::side_by_side(low.plan, &layer.label(), &h), None)
                }
                Source::Output(of) => panic!("layer {of} runs before its readers"),
            });
        }
        let (x, lengths) = merged(low, layer, node, &values);
        let (y, tape) = match layer.kind {
            LayerKind::Recurrent(_) => {
                if let Some(turn) = pass.turn {
                    let wants_hidden = graph.reads_final(layer.index);
                    let (y, h) = recurrent::ring_step(low, layer, x, turn, wants_hidden)?;
                    values.insert(Source::Output(layer.index), (y, None));
                    values.extend(h.map(|h| (Source::FinalHidden(layer.index), (h, None))));
                    continue;
                }
                stack_from_here(low, config, (layer, pass), (x, lengths), &mut found, &mut stacked)?;
                let tape = match stacked.remove(&layer.index) {
                    Some(tape) => tape,
                    None => {
                        let own = || initial_states(low, config, layer, pass);
                        let initial = found.initial.entry(layer.index).or_insert_with(own);
                        recurrent::forward(low, layer, x, lengths, initial)?
                    }
                };
                if finals || graph.reads_final(layer.index) {
                    found.finals.insert(layer.index, recurrent::finals(low, &tape));
                }
                (tape.output(), KeptTape::Recurrent(tape))
            }
            LayerKind::Residual { .. } | LayerKind::FinalState | LayerKind::Merge(_) => (x, KeptTape::Same),
            _ => {
                let (y, tape) = layer::forward(low, layer, x, lengths)?;
                (y, KeptTape::Plain(tape))
            }
        };
        let lengths = match &tape {
            KeptTape::Plain(tape) => tape.ends(layer, lengths),
            _ => lengths.filter(|_| layer.timeline.has_lengths()),
        };
        found.layers.insert(layer.index, Kept { x, tape });
        values.insert(Source::Output(layer.index), (y, lengths));
    }
    let output = values.get(&graph.output()).filter(|_| pass.part != Part::Encoder);
    found.output = output.map(|(y, _)| *y);
    found.output_lengths = output.and_then(|(_, lengths)| *lengths);
    Ok(found)
}

/// Runs the stack that begins with a layer, if one does and its layers are better run side by side.
fn stack_from_here(
    low: &mut Lowering<'_>,
    config: &NetworkConfig,
    (first, pass): (&Layer, &Pass),
    (x, lengths): Value,
    found: &mut Forward,
    stacked: &mut BTreeMap<usize, RecurrentTape>,
) -> Result<(), Error> {
    let Some(stack) = stack_from(config, first.index) else { return Ok(()) };
    let layers: Vec<&Layer> = config.layers()[stack.clone()].iter().collect();
    for layer in &layers {
        let own = || initial_states(low, config, layer, pass);
        found.initial.entry(layer.index).or_insert_with(own);
    }
    let initial: Vec<&[Option<ScanState>]> =
        stack.clone().map(|index| found.initial[&index].as_slice()).collect();
    let tapes = recurrent::forward_stack(low, &layers, x, lengths, &initial)?;
    stacked.extend(stack.zip(tapes));
    Ok(())
}

/// A layer's inputs, merged into one.
fn merged(low: &mut Lowering<'_>, layer: &Layer, node: &Node, values: &BTreeMap<Source, Value>) -> Value {
    let (first, lengths) = values[&node.inputs[0]];
    let x = match node.merge {
        Merge::Sum => {
            let others = node.inputs[1..].iter();
            others.fold(first, |x, source| layer::add(low.plan, &layer.label(), x, values[source].0))
        }
        Merge::Concatenate => {
            let parts: Vec<Sequence> = node.inputs.iter().map(|source| values[source].0).collect();
            layer::side_by_side(low.plan, &layer.label(), &parts)
        }
    };
    (x, lengths)
}

/// The network's input, or the decoder's own.
fn given_input(low: &mut Lowering<'_>, config: &NetworkConfig, pass: &Pass, half: Half) -> Value {
    let (axis, width) = (pass.shape.axis(half), input_width(config, half));
    let batch = pass.shape.batch;
    let span = low.plan.given(Given::Input(half), axis.steps * batch * width);
    let lengths = axis.lengths.then(|| low.plan.given_as(Given::Lengths(half), Element::U32, batch));
    let mut x = Sequence { span, steps: axis.steps, batch, width };
    if let (Some(lengths), Purpose::Training, StatePlaces::Apart) = (lengths, low.purpose, pass.places) {
        // A caller's padding may hold anything. It takes part in products over all steps, times a gradient of zero, so
        // it must be finite.
        x.span = low.plan.scratch(format!("{}.masked", Given::Input(half)), x.len());
        low.plan.copy(span, x.span);
        layer::mask_rows(low.plan, x, lengths);
    }
    (x, lengths)
}

/// The initial states of a layer, by scan, unless an encoder hands them over.
fn initial_states(
    low: &mut Lowering<'_>,
    config: &NetworkConfig,
    layer: &Layer,
    pass: &Pass,
) -> InitialStates {
    let scans = layer.recurrent().map_or(0, |recurrent| recurrent.direction.scans().len());
    match pass.initial {
        InitialFrom::Configured => recurrent::configured_initial(low, layer, pass.shape.batch),
        InitialFrom::Given => (0..scans)
            .map(|scan| Some(pass.states(low.plan, config, StateSet::Initial, layer, scan)))
            .collect(),
    }
}

/// Whether a layer's initial states come from an encoder.
pub(super) fn is_handed_over(node: &Node) -> bool {
    node.states.as_ref().is_some_and(|states| states.initial == InitialSource::HandedOver)
}
