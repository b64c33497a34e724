use super::forward::{Forward, Kept, KeptTape, is_handed_over};
use super::hand_over::hand_back;
use super::{InitialStates, input_width, newest_slot, recurrent_of};
use crate::layer::recurrent::{self, InputAndInitial, RecurrentTape};
use crate::layer::{self, Lowering, Sequence};
use crate::scan::ScanState;
use crate::stack::stack_to;
use crate::{Error, Half, Plan, Span};
use gatefold_model::{InitialState, Layer, Merge, NetworkConfig, Recurrent, Source, StateKind};
use std::collections::BTreeMap;
use std::ops::Range;

/// The gradients that a caller wants besides those of the parameters.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted {
    /// With respect to the inputs.
    pub inputs: bool,
    /// With respect to the initial states.
    pub initial: bool,
    /// With respect to the initial states of the layers that are visited anyway.
    pub carried: bool,
}

/// The gradients that the backward pass leaves besides those of the parameters.
#[derive(Debug, Default)]
pub struct Backward {
    /// With respect to the input.
    pub input: Option<Sequence>,
    /// With respect to the decoder's input.
    pub decoder_input: Option<Sequence>,
    /// With respect to the initial states of each recurrent layer.
    pub initial: BTreeMap<usize, InitialStates>,
}

/// Lowers the backward pass, which adds the gradients of all trained parameters. `d_finals` are the gradients with
/// respect to final states.
///
/// # Errors
/// [`Error::Limit`] for work that the device cannot split.
pub fn backward(
    low: &mut Lowering<'_>,
    config: &NetworkConfig,
    forward: &Forward,
    d_output: Option<Sequence>,
    d_finals: BTreeMap<usize, InitialStates>,
    wanted: Wanted,
) -> Result<Backward, Error> {
    let graph = config.graph();
    let decoder = config.decoder();
    let encoder_learns = decoder.is_some_and(|at| {
        let trains = |layer: &Layer| low.parameters.trains(layer);
        wanted.inputs || wanted.initial || config.layers()[..=at].iter().any(trains)
    });
    let needed = needed(low, config, wanted, encoder_learns);
    let mut gathered = Gathered::new(d_finals);
    let mut found = Backward::default();
    // Gradients with respect to values, summed over their readers from the last to the first.
    let mut stacked: BTreeMap<usize, InputAndInitial> = BTreeMap::new();
    let mut d_values: BTreeMap<Source, Sequence> =
        d_output.map(|d| (graph.output(), d)).into_iter().collect();
    for (&index, Kept { x, tape }) in forward.layers.iter().rev().filter(|(index, _)| needed[**index]) {
        let (layer, node) = (&config.layers()[index], graph.node(index));
        let wants = |source: &Source| match source {
            Source::Input | Source::DecoderInput => wanted.inputs,
            Source::Output(of) | Source::FinalHidden(of) => needed[*of],
        };
        let wants_input = node.inputs.iter().any(wants);
        let d_y = d_values.remove(&Source::Output(index));
        let d_x = match (tape, d_y) {
            (KeptTape::Recurrent(tape), d_y) => {
                let recurrent = recurrent_of(config, index);
                let learned = |index| {
                    recurrent_of(config, index).initial == InitialState::Learned && forward.configured
                };
                let wants_initial = |index| {
                    let handed_back = is_handed_over(graph.node(index)) && encoder_learns;
                    wanted.initial || wanted.carried || learned(index) || handed_back
                };
                if let Some(stack) =
                    stack_to(config, index).filter(|stack| stack.clone().all(|at| needed[at]))
                {
                    let lowest = graph.node(stack.start).inputs.iter().any(wants);
                    let wants_initial: Vec<bool> = stack.clone().map(wants_initial).collect();
                    let wanted = (lowest, wants_initial.as_slice());
                    stacked.extend(backward_of_stack(
                        low,
                        config,
                        forward,
                        stack,
                        d_y,
                        &mut gathered,
                        wanted,
                    )?);
                }
                let (d_x, d_initial) = match stacked.remove(&index) {
                    Some(found) => found,
                    None => {
                        let d_final = gathered.take(low.plan, layer, recurrent, x.batch);
                        let wants_initial = wants_initial(index);
                        recurrent::backward(low, layer, tape, d_y, &d_final, wants_input, wants_initial)?
                    }
                };
                if learned(index) && !is_handed_over(node) {
                    recurrent::add_initial_gradients(low, layer, &d_initial)?;
                }
                found.initial.insert(index, d_initial);
                d_x
            }
            (KeptTape::Decoder(handed), _) => {
                if encoder_learns {
                    hand_back(low, config, layer, handed, &found.initial, &mut gathered)?;
                }
                None
            }
            (_, None) => None,
            (KeptTape::Same, Some(d_y)) => Some(d_y),
            (KeptTape::Plain(tape), Some(d_y)) => layer::backward(low, layer, tape, d_y, wants_input)?,
        };
        let Some(d_x) = d_x.filter(|_| wants_input) else { continue };
        let mut column = 0;
        for source in &node.inputs {
            let width = width_of(config, *source);
            let columns = column..column + width;
            column = columns.end;
            if !wants(source) {
                continue;
            }
            let d = match node.merge {
                Merge::Sum => d_x,
                Merge::Concatenate => layer::columns(low.plan, &layer.label(), d_x, columns),
            };
            if let Source::FinalHidden(of) = *source {
                let recurrent = recurrent_of(config, of);
                gathered.add(low.plan, &layer.label(), (of, recurrent), StateKind::Hidden, d);
                continue;
            }
            let met = match d_values.remove(source) {
                Some(other) => layer::add(low.plan, &format!("{}.d_met", layer.label()), d, other),
                None => d,
            };
            d_values.insert(*source, met);
        }
    }
    let mut of_input = |source| d_values.remove(&source).filter(|_| wanted.inputs);
    (found.input, found.decoder_input) = (of_input(Source::Input), of_input(Source::DecoderInput));
    Ok(found)
}

/// The gradients of the layers of a stack that was run side by side; none if it was not.
fn backward_of_stack(
    low: &mut Lowering<'_>,
    config: &NetworkConfig,
    forward: &Forward,
    stack: Range<usize>,
    d_y: Option<Sequence>,
    gathered: &mut Gathered,
    (wants_input, wants_initial): (bool, &[bool]),
) -> Result<Vec<(usize, InputAndInitial)>, Error> {
    let layers: Vec<&Layer> = config.layers()[stack.clone()].iter().collect();
    let tapes: Vec<&RecurrentTape> = stack.clone().filter_map(|at| forward.recurrent_tape(at)).collect();
    let batch = tapes[0].output().batch;
    let take = |gathered: &mut Gathered, plan: &mut Plan, layer: &Layer| {
        gathered.take(plan, layer, recurrent_of(config, layer.index), batch)
    };
    if !recurrent::runs_as_stack(low.target, &tapes) {
        return Ok(Vec::new());
    }
    let d_finals: Vec<InitialStates> = layers.iter().map(|layer| take(gathered, low.plan, layer)).collect();
    let found = recurrent::backward_stack(low, &layers, &tapes, d_y, &d_finals, wants_input, wants_initial)?;
    Ok(stack.zip(found).collect())
}

/// Values a step of a value of the layer graph.
fn width_of(config: &NetworkConfig, source: Source) -> usize {
    match source {
        Source::Input => input_width(config, Half::Input),
        Source::DecoderInput => input_width(config, Half::Decoder),
        Source::Output(layer) => config.layers()[layer].output,
        Source::FinalHidden(layer) => {
            let recurrent = recurrent_of(config, layer);
            recurrent.direction.scans().len() * recurrent.recurrent_width()
        }
    }
}

/// The layers that the backward pass must visit: those that learn, or have something before them that does, or have
/// gradients that the caller wants.
fn needed(low: &Lowering<'_>, config: &NetworkConfig, wanted: Wanted, encoder_learns: bool) -> Vec<bool> {
    let mut needed = Vec::with_capacity(config.layers().len());
    for node in config.graph().nodes() {
        let layer = &config.layers()[node.layer];
        let input = node.inputs.iter().any(|source| match source {
            Source::Input | Source::DecoderInput => wanted.inputs,
            Source::Output(of) | Source::FinalHidden(of) => needed[*of],
        });
        let initial = node.states.is_some() && (wanted.initial || is_handed_over(node) && encoder_learns);
        let hands_over = config.decoder() == Some(node.layer) && encoder_learns;
        needed.push(low.parameters.trains(layer) || input || initial || hands_over);
    }
    needed
}

/// Gradients with respect to final states, summed over their readers.
#[derive(Debug, Default)]
pub(super) struct Gathered(BTreeMap<usize, Vec<OfScan>>);

/// The gradients of one scan; h and c are those of the last step only, `[B, R]` and `[B, H]`.
#[derive(Clone, Copy, Debug, Default)]
struct OfScan {
    all: Option<ScanState>,
    h: Option<Span>,
    c: Option<Span>,
}

impl Gathered {
    fn new(given: BTreeMap<usize, InitialStates>) -> Gathered {
        let of_scan = |all| OfScan { all, ..OfScan::default() };
        let of_layer =
            |(index, scans): (usize, InitialStates)| (index, scans.into_iter().map(of_scan).collect());
        Gathered(given.into_iter().map(of_layer).collect())
    }

    /// Adds the gradient with respect to a final state, both scans side by side.
    pub(super) fn add(
        &mut self,
        plan: &mut Plan,
        label: &str,
        (index, recurrent): (usize, &Recurrent),
        state: StateKind,
        d: Sequence,
    ) {
        let scans = recurrent.direction.scans().len();
        let parts = layer::split_side_by_side(plan, label, d, scans);
        let all = self.0.entry(index).or_insert_with(|| vec![OfScan::default(); scans]);
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

    /// The gradients with respect to a layer's final states, as the layer takes them.
    fn take(&mut self, plan: &mut Plan, layer: &Layer, recurrent: &Recurrent, batch: usize) -> InitialStates {
        let scans = recurrent.direction.scans();
        let Some(found) = self.0.remove(&layer.index) else { return vec![None; scans.len()] };
        let whole = |(&reverse, found)| whole(plan, layer, (recurrent, reverse), batch, found);
        scans.iter().zip(found).map(whole).collect()
    }
}

/// The gradient with respect to a scan's final state, in scratch buffers: sums must not go into a caller's buffer.
fn whole(
    plan: &mut Plan,
    layer: &Layer,
    (recurrent, reverse): (&Recurrent, bool),
    batch: usize,
    OfScan { all, h, c }: OfScan,
) -> Option<ScanState> {
    if h.is_none() && c.is_none() {
        return all;
    }
    let step = batch * recurrent.recurrent_width();
    let label = format!("{}.d_final", layer.label());
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
        let at = whole_h.part(newest_slot(recurrent.history(), reverse) * step, step);
        match all {
            None => plan.copy(h, at),
            Some(_) => layer::add_into(plan, h, at),
        }
    }
    let whole_c = recurrent.cell.has_state().then(|| {
        let step = batch * recurrent.hidden;
        let there = begin(plan, "c", recurrent.dilation * step, all.and_then(|all| all.c));
        if let Some(c) = c {
            let at = there.part(newest_slot(recurrent.dilation, reverse) * step, step);
            layer::add_into(plan, c, at);
        }
        there
    });
    let y = recurrent.feedback.map(|y| begin(plan, "y", batch * y.output, all.and_then(|all| all.y)));
    Some(ScanState { h: whole_h, c: whole_c, y })
}
