//! Passes for programs that record into their own encoders: every tensor that goes in or out is a buffer by itself.

use super::tape::store_initial;
use super::{InitialFrom, Pass, Shape, StatePlaces, check_sizes, finish, frozen, lowering, mask};
use crate::layer::{self, Purpose, Sequence};
use crate::network::{self, Wanted};
use crate::{Error, Given, Half, ParameterLayout, ParameterSpans, Plan, StateSet, Target};
use gatefold_model::{NetworkConfig, Recurrent};
use std::collections::BTreeMap;

/// A pass over sequences as a caller wants it recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recording {
    /// The shape of its batch.
    pub shape: Shape,
    /// The source of initial states.
    pub initial: InitialFrom,
    /// Whether final states come out.
    pub finals: bool,
    /// The gradients that the backward pass reads and writes; `None` without one.
    pub backward: Option<Backward>,
}

/// The gradients of a recorded backward pass, besides that with respect to the output, which goes in, and those of the
/// parameters, which are added to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backward {
    /// Those with respect to final states go in.
    pub finals: bool,
    /// Those with respect to initial states come out.
    pub initial: bool,
    /// Those with respect to the inputs come out.
    pub inputs: bool,
}

/// A forward pass and, after the plan's mark, a backward pass if wanted. Weights must be packed already.
///
/// # Errors
/// [`Error::Shape`] for a batch that the network does not read; [`Error::TooLarge`] and [`Error::Limit`] for what the device
/// has no room for.
pub fn record(config: &NetworkConfig, target: &Target, recording: &Recording) -> Result<Plan, Error> {
    let &Recording { shape, initial, finals, backward } = recording;
    // Nobody looks whether a workgroup gave up before the caller uses the results.
    let target = &target.without_grids();
    let pass = Pass { initial, places: StatePlaces::Apart, ..Pass::whole(shape) };
    check_sizes(config, target, &pass)?;
    let mut plan = Plan::default();
    let layout = ParameterLayout::new(config, target);
    let parameters = ParameterSpans::new(&layout, |_| true);
    let purpose = if backward.is_some() { Purpose::Training } else { Purpose::Inference };
    let mut low = lowering(&mut plan, target, &parameters, purpose, &pass);
    let forward = network::forward(&mut low, config, &pass, finals)?;
    finish(&mut low, config, &pass, &forward, finals);
    low.plan.set_mark();
    let Some(backward) = backward else { return Ok(plan) };

    let d_output = forward.output.map(|y| Sequence { span: low.plan.given(Given::DOutput, y.len()), ..y });
    // The caller's gradient stays as it is: zeros past the ends of rows go into a copy.
    let d_output = d_output.map(|d| {
        if forward.output_lengths.is_none() {
            return d;
        }
        let masked = Sequence { span: low.plan.scratch("d_output.masked", d.len()), ..d };
        low.plan.copy(d.span, masked.span);
        mask(low.plan, &forward, masked);
        masked
    });
    let mut d_finals = BTreeMap::new();
    for (&index, scans) in forward.finals.iter().filter(|_| backward.finals) {
        let layer = &config.layers()[index];
        let of_scan = |scan| Some(pass.states(low.plan, config, StateSet::DFinal, layer, scan));
        d_finals.insert(index, (0..scans.len()).map(of_scan).collect());
    }
    let wanted = Wanted { inputs: backward.inputs, initial: backward.initial, carried: false };
    let back = network::backward(&mut low, config, &forward, d_output, d_finals, wanted)?;
    let halves =
        [Some((Half::Input, back.input)), shape.decoder.map(|_| (Half::Decoder, back.decoder_input))];
    for (half, d) in halves.into_iter().flatten().filter(|_| backward.inputs) {
        let width = network::input_width(config, half);
        let to = low.plan.given(Given::DInput(half), shape.axis(half).steps * shape.batch * width);
        match d {
            Some(d) => low.plan.copy(d.span, to),
            // Nothing flows to tokens.
            None => low.plan.clear(to),
        }
    }
    if backward.initial {
        store_initial(low.plan, config, &pass, &back, StateSet::DInitial);
    }
    plan.join(target);
    Ok(plan)
}

/// The most turns of a ring that plans are made for.
const MAX_TURNS: usize = 64;

/// The number of turns after which every ring of a stream is back where it was: h goes round `k + 1` slots,
/// and so does the cell state of a dilated layer.
///
/// # Errors
/// [`Error::Limit`] for a network whose rings take too many turns to be back together.
pub fn ring_period(config: &NetworkConfig) -> Result<usize, Error> {
    let slots = |recurrent: &Recurrent| recurrent.history() + 1;
    let recurrent = config.recurrent_layers().filter_map(|layer| layer.recurrent());
    let period = recurrent.map(slots).try_fold(1usize, |all, slots| all.checked_mul(slots / gcd(all, slots)));
    period.filter(|&turns| turns <= MAX_TURNS).ok_or_else(|| {
        Error::limit(
            "a stream".into(),
            "more turns of its rings than can be prepared".into(),
            format!("{MAX_TURNS} turns"),
            "use fewer skip connections or dilations, or such of equal reach",
        )
    })
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

fn ring_pass(config: &NetworkConfig, batch: usize, turn: usize) -> Pass {
    Pass { turn: Some(turn), places: StatePlaces::Apart, ..Pass::whole(Shape::plain(config, 1, batch)) }
}

/// Puts the configured initial states into the rings of `batch` streams.
pub fn ring_initial(config: &NetworkConfig, target: &Target, batch: usize) -> Plan {
    let mut plan = Plan::default();
    let layout = ParameterLayout::new(config, target);
    let parameters = frozen(&layout);
    let mut low = lowering(&mut plan, target, &parameters, Purpose::Inference, &ring_pass(config, batch, 0));
    for layer in config.recurrent_layers() {
        layer::recurrent::reset_ring(&mut low, layer, batch);
    }
    plan
}

/// One step of `batch` streams whose states go round in rings, at one of their turns.
///
/// # Errors
/// [`Error::Shape`] for a batch that the network does not read; [`Error::TooLarge`] and [`Error::Limit`] for what the device
/// has no room for.
pub fn ring(config: &NetworkConfig, target: &Target, batch: usize, turn: usize) -> Result<Plan, Error> {
    let pass = ring_pass(config, batch, turn);
    check_sizes(config, target, &pass)?;
    let mut plan = Plan::default();
    let layout = ParameterLayout::new(config, target);
    let parameters = frozen(&layout);
    let mut low = lowering(&mut plan, target, &parameters, Purpose::Inference, &pass);
    let forward = network::forward(&mut low, config, &pass, false)?;
    finish(&mut low, config, &pass, &forward, false);
    Ok(plan)
}
