//! A network lowered to a plan: its layers in a row, forward and back, on top of what [`crate::layer`] does for each.

use crate::Error;
use crate::layer::recurrent::{self, RecurrentTape, Start};
use crate::layer::{self, Lowering, Sequence, Tape};
use crate::plan::{Plan, Span};
use crate::product::{self, LaneMap, Matrix, Order};
use crate::state_layout::{STARTS, StateLayout};
use gatefold_model::{
    Activation, Bridge, InitialState, Layer, LayerKind, NetworkConfig, Recurrent, Role, StateKind,
};
use std::collections::BTreeMap;
use std::ops::Range;

pub(crate) const INPUT: &str = "input";
pub(crate) const LENGTHS: &str = "lengths";
pub(crate) const DECODER_INPUT: &str = "decoder.input";
pub(crate) const DECODER_LENGTHS: &str = "decoder.lengths";

/// The shape of a batch, as far as a plan depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Shape {
    pub(crate) batch: usize,
    pub(crate) input: Axis,
    pub(crate) decoder: Option<Axis>,
}

/// A time axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Axis {
    pub(crate) steps: usize,
    /// Whether rows may end earlier.
    pub(crate) lengths: bool,
}

/// Which layers run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Part {
    /// All of them.
    Whole,
    /// Those up to the decoder, whose initial states come out.
    Encoder,
    /// Those behind it, from given states.
    Decoder,
}

/// Where the states in front of the first step come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum From {
    /// From the layers' descriptions.
    Layers,
    /// From buffers that the host or a plan before filled.
    Buffers,
}

/// What of a network's forward pass a plan is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Pass {
    pub(crate) shape: Shape,
    pub(crate) part: Part,
    pub(crate) from: From,
    /// After this many steps the states are copied into the buffers that [`From::Buffers`] reads.
    pub(crate) carry: Option<usize>,
    /// Whether dropout layers drop.
    pub(crate) dropout: bool,
}

impl Pass {
    pub(crate) fn whole(shape: Shape) -> Pass {
        Pass { shape, part: Part::Whole, from: From::Layers, carry: None, dropout: false }
    }

    fn layers(&self, config: &NetworkConfig) -> Range<usize> {
        let end = config.layers().len();
        match (self.part, config.decoder()) {
            (Part::Encoder, Some(decoder)) => 0..decoder + 1,
            (Part::Decoder, Some(decoder)) => decoder + 1..end,
            _ => 0..end,
        }
    }
}

/// The states of a recurrent layer, one for each of its scans.
pub(crate) type Scans = Vec<Option<Start>>;

/// What the forward pass leaves.
#[derive(Debug, Default)]
pub(crate) struct Forward {
    /// None behind an encoder alone.
    pub(crate) output: Option<Sequence>,
    /// The states that each recurrent layer started from; none for zeros.
    pub(crate) starts: BTreeMap<usize, Scans>,
    /// The states that each recurrent layer ended with.
    pub(crate) finals: BTreeMap<usize, Vec<Start>>,
    layers: BTreeMap<usize, Kept>,
    /// Whether the layers' own descriptions say where they start.
    from_layers: bool,
}

impl Forward {
    /// The states of a recurrent layer after some of the steps, by scan; none of a layer that did not run.
    pub(crate) fn states_after(&self, low: &mut Lowering<'_>, index: usize, steps: usize) -> Vec<Start> {
        match self.layers.get(&index).map(|kept| &kept.tape) {
            Some(KeptTape::Recurrent(tape)) => recurrent::states_after(low, tape, steps),
            _ => Vec::new(),
        }
    }
}

/// What a layer keeps from forward to backward.
#[derive(Debug)]
struct Kept {
    x: Sequence,
    tape: KeptTape,
}

#[derive(Debug)]
enum KeptTape {
    Recurrent(RecurrentTape),
    Plain(Tape),
    Residual { from: usize },
    FinalState,
    Decoder(Vec<Handed>),
}

/// A state handed from an encoder's layer to a decoder's.
#[derive(Clone, Copy, Debug)]
struct Handed {
    /// The decoder's layer, and its number among the decoder's recurrent ones.
    target: (usize, usize),
    state: StateKind,
    /// The encoder's layer and its state, both scans side by side.
    source: (usize, StateKind),
    from: Sequence,
    to: Sequence,
    /// What the bridge's function kept for its slope.
    kept: Sequence,
}

/// Lowers a pass forward; `finals` are wanted of all layers, or only of those that others start from.
pub(crate) fn forward(
    low: &mut Lowering<'_>,
    config: &NetworkConfig,
    pass: &Pass,
    finals: bool,
) -> Result<Forward, Error> {
    let Shape { batch, input, decoder } = pass.shape;
    let mut found = Forward { from_layers: pass.from == From::Layers, ..Forward::default() };
    let states = StateLayout::new(config, batch);
    let first = if pass.part == Part::Decoder { decoder } else { Some(input) };
    let first = first.expect("a pass through a decoder has its shape");
    let names = if pass.part == Part::Decoder { (DECODER_INPUT, DECODER_LENGTHS) } else { (INPUT, LENGTHS) };
    let range = pass.layers(config);
    let width = config.layers()[range.start].input;
    let (mut x, mut lengths) = given_input(low.plan, names, first, batch, width);
    for layer in &config.layers()[range] {
        let (y, tape) = match layer.kind {
            LayerKind::Recurrent(_) => {
                let own = || starts(low, &states, layer, batch, pass.from);
                let starts = found.starts.entry(layer.index).or_insert_with(own);
                let tape = recurrent::forward(low, layer, x, lengths, starts)?;
                let next = config.layers().get(layer.index + 1).map(|next| next.kind);
                let read = next == Some(LayerKind::FinalState) || config.decoder() > Some(layer.index);
                if finals || read {
                    found.finals.insert(layer.index, recurrent::finals(low, &tape));
                }
                (tape.output(), KeptTape::Recurrent(tape))
            }
            LayerKind::Residual { from } => {
                let other = found.layers[&from].x;
                (layer::add(low.plan, &layer.label(), x, other), KeptTape::Residual { from })
            }
            LayerKind::FinalState => {
                let recurrent = recurrent_of(config, layer.index - 1);
                let h = nearest(recurrent, &found.finals[&(layer.index - 1)], batch);
                (side_by_side(low.plan, &layer.label(), &h), KeptTape::FinalState)
            }
            LayerKind::Decoder { bridge } => {
                let handed = hand_over(low, config, layer, bridge, &mut found, batch)?;
                let Some(axis) = decoder.filter(|_| pass.part == Part::Whole) else {
                    found.layers.insert(layer.index, Kept { x, tape: KeptTape::Decoder(handed) });
                    return Ok(found);
                };
                let names = (DECODER_INPUT, DECODER_LENGTHS);
                let (own, own_lengths) = given_input(low.plan, names, axis, batch, layer.output);
                lengths = own_lengths;
                (own, KeptTape::Decoder(handed))
            }
            _ => {
                let (y, tape) = layer::forward(low, layer, x, lengths)?;
                (y, KeptTape::Plain(tape))
            }
        };
        if !layer.timeline.has_lengths() {
            lengths = None;
        }
        found.layers.insert(layer.index, Kept { x, tape });
        x = y;
    }
    found.output = Some(x);
    Ok(found)
}

fn given_input(
    plan: &mut Plan,
    (values, lengths): (&str, &str),
    axis: Axis,
    batch: usize,
    width: usize,
) -> (Sequence, Option<Span>) {
    let span = plan.given(values, axis.steps * batch * width);
    let lengths = axis.lengths.then(|| plan.given(lengths, batch));
    (Sequence { span, steps: axis.steps, batch, width }, lengths)
}

fn recurrent_of(config: &NetworkConfig, index: usize) -> &Recurrent {
    config.layers()[index].recurrent().expect("the network's description says that it is recurrent")
}

/// The states in front of the first step, by scan.
fn starts(low: &mut Lowering<'_>, states: &StateLayout, layer: &Layer, batch: usize, from: From) -> Scans {
    if from == From::Layers {
        return recurrent::initial_starts(low, layer, batch);
    }
    let scans = layer.recurrent().map_or(0, |recurrent| recurrent.direction.scans().len());
    (0..scans).map(|scan| Some(states.scan(low.plan, STARTS, layer, scan))).collect()
}

/// The h of the last step of each scan, `[1, B, R]`.
fn nearest(recurrent: &Recurrent, finals: &[Start], batch: usize) -> Vec<Sequence> {
    let width = recurrent.recurrent_width();
    let scans = recurrent.direction.scans().iter().zip(finals);
    let slot = |reverse: bool| if reverse { 0 } else { recurrent.history() - 1 };
    let of_scan = |(&reverse, last): (&bool, &Start)| {
        let span = last.h.part(slot(reverse) * batch * width, batch * width);
        Sequence { span, steps: 1, batch, width }
    };
    scans.map(of_scan).collect()
}

/// One state of a layer, both scans side by side; an h where it has no c.
fn final_state(
    plan: &mut Plan,
    layer: &Layer,
    finals: &[Start],
    state: StateKind,
    batch: usize,
) -> (StateKind, Sequence) {
    let recurrent = layer.recurrent().expect("states are those of recurrent layers");
    let state = if recurrent.cell.has_state() { state } else { StateKind::Hidden };
    let parts = match state {
        StateKind::Hidden => nearest(recurrent, finals, batch),
        StateKind::Cell => {
            let c = |last: &Start| last.c.expect("the cell has a state");
            let width = recurrent.hidden;
            finals.iter().map(|last| Sequence { span: c(last), steps: 1, batch, width }).collect()
        }
    };
    (state, side_by_side(plan, &format!("{}.final_{}", layer.label(), state.name()), &parts))
}

fn side_by_side(plan: &mut Plan, label: &str, parts: &[Sequence]) -> Sequence {
    match parts {
        [one] => *one,
        parts => layer::side_by_side(plan, label, parts),
    }
}

/// Makes initial states of the decoder's recurrent layers from final states of the encoder's.
fn hand_over(
    low: &mut Lowering<'_>,
    config: &NetworkConfig,
    decoder: &Layer,
    bridge: Bridge,
    found: &mut Forward,
    batch: usize,
) -> Result<Vec<Handed>, Error> {
    let (encoder, behind) = config.layers().split_at(decoder.index);
    let sources: Vec<&Layer> = encoder.iter().filter(|layer| layer.recurrent().is_some()).collect();
    let targets = behind.iter().filter(|layer| layer.recurrent().is_some());
    let mut all = Vec::new();
    for (number, target) in targets.enumerate() {
        let recurrent = target.recurrent().expect("it was chosen for it");
        let source = sources[number.min(sources.len() - 1)];
        let mut hand = |low: &mut Lowering<'_>, state: StateKind, width: usize| {
            let (kind, from) = final_state(low.plan, source, &found.finals[&source.index], state, batch);
            let (to, kept) = match bridge {
                Bridge::Same => (from, from),
                Bridge::Dense { activation } => {
                    let weight = low.parameters.values(low.plan, decoder, Role::BridgeWeight(number, state));
                    let bias = low.parameters.values(low.plan, decoder, Role::BridgeBias(number, state));
                    let weight = Matrix::new(weight, width, from.width).transposed();
                    let what = format!("bridge.{}{number}", state.name());
                    let (factors, y) = ((from.matrix(), weight), Sequence { width, ..from });
                    let saved = layer::dense::product(low, &what, factors, Some(bias), activation, y)?;
                    (saved.y, saved.kept)
                }
            };
            all.push(Handed {
                target: (target.index, number),
                state,
                source: (source.index, kind),
                from,
                to,
                kept,
            });
            Ok::<Span, Error>(to.span)
        };
        let h = hand(low, StateKind::Hidden, recurrent.recurrent_width())?;
        let c = match recurrent.cell.has_state() {
            true => Some(hand(low, StateKind::Cell, recurrent.hidden)?),
            false => None,
        };
        let h = repeat(low.plan, &format!("{}.history", target.label()), h, recurrent.history());
        found.starts.insert(target.index, vec![Some(Start { h, c, y: None })]);
    }
    Ok(all)
}

/// As many copies of a span behind each other.
fn repeat(plan: &mut Plan, name: &str, span: Span, times: usize) -> Span {
    if times == 1 {
        return span;
    }
    let all = plan.scratch(name, times * span.len);
    (0..times).for_each(|k| plan.copy(span, all.part(k * span.len, span.len)));
    all
}

/// What a caller wants of the backward pass beside the gradients of parameters.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wanted {
    pub(crate) inputs: bool,
    pub(crate) starts: bool,
}

/// What the backward pass leaves beside the gradients of parameters.
#[derive(Debug, Default)]
pub(crate) struct Backward {
    pub(crate) input: Option<Sequence>,
    pub(crate) decoder_input: Option<Sequence>,
    /// By the states that each recurrent layer started from.
    pub(crate) starts: BTreeMap<usize, Scans>,
}

/// Lowers the way back: adds the gradients of all parameters that are trained. `d_finals` are the gradients of final states.
pub(crate) fn backward(
    low: &mut Lowering<'_>,
    config: &NetworkConfig,
    forward: &Forward,
    d_output: Option<Sequence>,
    d_finals: BTreeMap<usize, Scans>,
    wanted: Wanted,
) -> Result<Backward, Error> {
    let mut gathered: BTreeMap<usize, Vec<Gathered>> = BTreeMap::new();
    for (index, scans) in d_finals {
        gathered.insert(index, scans.into_iter().map(Gathered::from).collect());
    }
    let trains = |layer: &Layer| low.parameters.trains(layer);
    let decoder = config.decoder();
    let below: Vec<bool> = config
        .layers()
        .iter()
        .map(|layer| {
            // A decoder's layers hand gradients to the encoder through their states, not through their inputs.
            let begin = decoder.filter(|&at| layer.index > at).map_or(0, |at| at + 1);
            wanted.inputs || config.layers()[begin..layer.index].iter().any(trains)
        })
        .collect();
    let encoder_learns =
        decoder.is_some_and(|at| wanted.inputs || wanted.starts || config.layers()[..=at].iter().any(trains));
    let mut found = Backward::default();
    let mut d = d_output;
    // Gradients that meet at the input of a layer, from residual connections behind it.
    let mut meeting: BTreeMap<usize, Sequence> = BTreeMap::new();
    // Nobody asks for a gradient of what lies in front of the first layer that is trained.
    let first = config.layers().iter().position(trains).unwrap_or(config.layers().len());
    let first = if wanted.inputs || wanted.starts { 0 } else { first };
    for (&index, Kept { x, tape }) in forward.layers.range(first..).rev() {
        let layer = &config.layers()[index];
        let wants_input = below[index] || meeting.contains_key(&index);
        d = match (tape, d) {
            (KeptTape::Recurrent(tape), d_y) => {
                let recurrent = recurrent_of(config, index);
                let in_decoder = decoder.is_some_and(|at| index > at);
                let learned = recurrent.initial == InitialState::Learned && forward.from_layers;
                let wants_start = wanted.starts || learned || (in_decoder && encoder_learns);
                let d_final = whole(low.plan, layer, recurrent, x.batch, gathered.remove(&index));
                let (d_x, d_starts) =
                    recurrent::backward(low, layer, tape, d_y, &d_final, wants_input, wants_start)?;
                if learned {
                    recurrent::add_start_gradients(low, layer, &d_starts)?;
                }
                found.starts.insert(index, d_starts);
                d_x
            }
            (KeptTape::Decoder(handed), d_y) => {
                found.decoder_input = d_y.filter(|_| wanted.inputs);
                if encoder_learns {
                    hand_back(low, config, layer, handed, &found.starts, &mut gathered)?;
                }
                None
            }
            (_, None) => None,
            (KeptTape::Residual { from }, Some(d_y)) => {
                let met = match meeting.remove(from) {
                    Some(other) => layer::add(low.plan, &format!("{}.d", layer.label()), other, d_y),
                    None => d_y,
                };
                meeting.insert(*from, met);
                Some(d_y)
            }
            (KeptTape::FinalState, Some(d_y)) => {
                let recurrent = recurrent_of(config, index - 1);
                let label = layer.label();
                gather(low.plan, &mut gathered, &label, (index - 1, recurrent), StateKind::Hidden, d_y);
                None
            }
            (KeptTape::Plain(tape), Some(d_y)) => layer::backward(low, layer, tape, d_y, wants_input)?,
        };
        if let Some(other) = meeting.remove(&index) {
            d = Some(match d {
                Some(d_x) => layer::add(low.plan, &format!("{}.d_met", layer.label()), d_x, other),
                None => other,
            });
        }
    }
    match forward.layers.keys().next() {
        Some(&first) if decoder.is_some_and(|at| first > at) => {
            found.decoder_input = d.filter(|_| wanted.inputs)
        }
        _ => found.input = d.filter(|_| wanted.inputs),
    }
    Ok(found)
}

/// What gradients of a scan's final states came together so far; h is that of the last step alone, `[B, R]`.
#[derive(Clone, Copy, Debug, Default)]
struct Gathered {
    all: Option<Start>,
    h: Option<Span>,
    c: Option<Span>,
}

impl std::convert::From<Option<Start>> for Gathered {
    fn from(all: Option<Start>) -> Self {
        Gathered { all, ..Gathered::default() }
    }
}

/// Adds the gradient of a final state, both scans side by side, to what is there.
fn gather(
    plan: &mut Plan,
    gathered: &mut BTreeMap<usize, Vec<Gathered>>,
    label: &str,
    (index, recurrent): (usize, &Recurrent),
    state: StateKind,
    d: Sequence,
) {
    let scans = recurrent.direction.scans().len();
    let parts = match scans {
        1 => vec![d],
        _ => layer::split_side_by_side(plan, label, d, scans),
    };
    let all = gathered.entry(index).or_insert_with(|| vec![Gathered::default(); scans]);
    for (there, part) in all.iter_mut().zip(parts) {
        let slot = match state {
            StateKind::Hidden => &mut there.h,
            StateKind::Cell => &mut there.c,
        };
        *slot = Some(match *slot {
            Some(other) => layer::add(plan, label, part, Sequence { span: other, ..part }).span,
            None => part.span,
        });
    }
}

/// Gradients of final states as the recurrent layers take them.
fn whole(
    plan: &mut Plan,
    layer: &Layer,
    recurrent: &Recurrent,
    batch: usize,
    gathered: Option<Vec<Gathered>>,
) -> Scans {
    let scans = recurrent.direction.scans();
    let Some(gathered) = gathered else { return vec![None; scans.len()] };
    let step = batch * recurrent.recurrent_width();
    let mut of_scan = |(&reverse, found): (&bool, Gathered)| {
        let Gathered { all, h, c } = found;
        if h.is_none() && c.is_none() {
            return all;
        }
        let label = format!("{}.d_final", layer.label());
        // Its own copy: what is added to must not be a caller's buffer.
        let begin = |plan: &mut Plan, state: &str, len: usize, from: Option<Span>| {
            let span = plan.scratch(format!("{label}_{state}"), len);
            match from {
                Some(from) => plan.copy(from, span),
                None => plan.clear(span),
            }
            span
        };
        let whole_h = begin(plan, "h", recurrent.history() * step, all.map(|all| all.h));
        if let Some(h) = h {
            let slot = if reverse { 0 } else { recurrent.history() - 1 };
            let at = whole_h.part(slot * step, step);
            match all {
                None => plan.copy(h, at),
                Some(_) => layer::add_into(plan, h, at),
            }
        }
        let whole_c = recurrent.cell.has_state().then(|| {
            let there = begin(plan, "c", batch * recurrent.hidden, all.and_then(|all| all.c));
            if let Some(c) = c {
                layer::add_into(plan, c, there);
            }
            there
        });
        let y = recurrent.feedback.map(|y| begin(plan, "y", batch * y.output, all.and_then(|all| all.y)));
        Some(Start { h: whole_h, c: whole_c, y })
    };
    scans.iter().zip(gathered).map(&mut of_scan).collect()
}

/// From the gradients of the decoder's initial states to those of the bridge's parameters and of the encoder's final states.
fn hand_back(
    low: &mut Lowering<'_>,
    config: &NetworkConfig,
    decoder: &Layer,
    handed: &[Handed],
    starts: &BTreeMap<usize, Scans>,
    gathered: &mut BTreeMap<usize, Vec<Gathered>>,
) -> Result<(), Error> {
    for Handed { target, state, source, from, to, kept } in handed {
        let (index, number) = *target;
        let Some(Some(d_start)) = starts.get(&index).and_then(|scans| scans.first()) else { continue };
        let label = format!("bridge.{}{number}", state.name());
        let d_span = match state {
            StateKind::Hidden => {
                sum_parts(low.plan, &label, d_start.h, recurrent_of(config, index).history())
            }
            StateKind::Cell => d_start.c.expect("the cell has a state"),
        };
        let mut d = Sequence { span: d_span, ..*to };
        if let LayerKind::Decoder { bridge: Bridge::Dense { activation } } = decoder.kind {
            d = layer::dense::in_front_of_activation(low.plan, &label, activation, *kept, d);
            if let Some(d_weight) =
                low.parameters.gradient(low.plan, decoder, Role::BridgeWeight(number, *state))
            {
                let order = Order::columns_units_lanes(LaneMap::same(1), to.width, from.width);
                let product = (from.matrix().transposed(), d.matrix());
                product::add_gradient(low.plan, low.target, &label, product, order, d_weight)?;
            }
            if let Some(d_bias) = low.parameters.gradient(low.plan, decoder, Role::BridgeBias(number, *state))
            {
                let sums = [(Order::same(d_bias.len), d_bias)];
                product::add_column_sums(low.plan, low.target, &label, d.matrix(), &sums)?;
            }
            let weight = low.parameters.values(low.plan, decoder, Role::BridgeWeight(number, *state));
            let weight = Matrix::new(weight, to.width, from.width);
            let d_from = low.plan.scratch(format!("{label}.d_from"), from.len());
            let product = (d.matrix(), weight);
            product::matmul(low.plan, low.target, &label, product, None, Activation::Identity, d_from)?;
            d = Sequence { span: d_from, ..*from };
        }
        let (source, kind) = *source;
        gather(low.plan, gathered, &label, (source, recurrent_of(config, source)), kind, d);
    }
    Ok(())
}

/// The sum of the equal parts of a span.
fn sum_parts(plan: &mut Plan, label: &str, span: Span, parts: usize) -> Span {
    if parts == 1 {
        return span;
    }
    let len = span.len / parts;
    let sum = plan.scratch(format!("{label}.sum"), len);
    plan.copy(span.part(0, len), sum);
    (1..parts).for_each(|k| layer::add_into(plan, span.part(k * len, len), sum));
    sum
}
