//! The plans that the engine's doors ask for, and the data that goes in and out of each.

mod limits;
mod predict;
mod recompute;
mod recording;
mod stream;
mod tape;
mod train;

pub use limits::{check_parameters, check_sizes};
pub use predict::{packing, predict};
pub use recompute::{ChunkStage, chunk, chunks, kept_len};
pub use recording::{Backward, Recording, record, ring, ring_initial, ring_period};
pub use stream::stream;
pub use tape::tape;
pub use train::{add_gradients, batch, start_average, update};

use crate::layer::{self, Lowering, Purpose, Sequence};
use crate::network::Forward;
use crate::scan::ScanState;
use crate::{
    Error, Given, Half, MemoryNeed, ParameterLayout, ParameterSpans, Plan, StateLayout, StateSet, Step,
    Target, memory,
};
use gatefold_model::{Layer, NetworkConfig, TrainConfig};
use std::collections::BTreeSet;
use std::ops::Range;

/// The shape of a batch, as far as a plan depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Shape {
    /// B
    pub batch: usize,
    /// The time axis of the network's input.
    pub input: Axis,
    /// The time axis of the decoder's own input.
    pub decoder: Option<Axis>,
}

/// A time axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Axis {
    /// T
    pub steps: usize,
    /// Whether rows may end earlier.
    pub lengths: bool,
}

impl Shape {
    /// A batch whose rows all have `steps` steps; a decoder's rows have as many.
    pub fn plain(config: &NetworkConfig, steps: usize, batch: usize) -> Shape {
        let axis = Axis { steps, lengths: false };
        Shape { batch, input: axis, decoder: config.decoder().map(|_| axis) }
    }

    /// The same with another number of steps in the decoder's input, if there is one.
    pub fn with_decoder_steps(mut self, steps: usize) -> Shape {
        self.decoder = self.decoder.map(|axis| Axis { steps, ..axis });
        self
    }

    /// The time axis of one of the inputs.
    ///
    /// # Panics
    /// If there is no decoder.
    pub fn axis(&self, half: Half) -> Axis {
        match half {
            Half::Input => self.input,
            Half::Decoder => self.decoder.expect("a network with a decoder has its input"),
        }
    }
}

/// The layers that run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// All of them.
    Whole,
    /// Those up to the decoder, whose initial states come out.
    Encoder,
    /// Those after it, from given states.
    Decoder,
    /// Those up to the last recurrent one, whose states come out.
    Recurrent,
}

/// The source of initial states.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum InitialFrom {
    /// The layers' configured ones.
    Configured,
    /// Buffers that the host or an earlier plan filled.
    Given,
}

/// The buffers that hold the states of all layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StatePlaces {
    /// One for each set, [`Given::States`].
    Together,
    /// One for each state, [`Given::State`].
    Apart,
}

/// One run of a network, forward and perhaps back; plans are kept under it as a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Pass {
    /// The shape of its batch.
    pub shape: Shape,
    /// The layers that run.
    pub part: Part,
    /// The source of initial states.
    pub initial: InitialFrom,
    /// The buffers of states.
    pub places: StatePlaces,
    /// The number of steps after which the states are copied into the buffers that [`InitialFrom::Given`] reads; `None`
    /// if they are not carried.
    pub carry: Option<usize>,
    /// Whether dropout layers drop.
    pub dropout: bool,
    /// Whether tangents of the parameters and of the input go through the network after its forward pass.
    pub tangent: bool,
    /// The turn of a stream whose states go round in rings.
    pub turn: Option<usize>,
}

impl Pass {
    /// A run of the whole network from its configured initial states.
    pub fn whole(shape: Shape) -> Pass {
        Pass {
            shape,
            part: Part::Whole,
            initial: InitialFrom::Configured,
            places: StatePlaces::Together,
            carry: None,
            dropout: false,
            tangent: false,
            turn: None,
        }
    }

    pub(crate) fn layers(&self, config: &NetworkConfig) -> Range<usize> {
        let end = config.layers().len();
        match (self.part, config.decoder()) {
            (Part::Encoder, Some(decoder)) => 0..decoder + 1,
            (Part::Decoder, Some(decoder)) => decoder + 1..end,
            (Part::Recurrent, _) => 0..config.recurrent_layers().last().map_or(0, |layer| layer.index + 1),
            _ => 0..end,
        }
    }

    /// The input whose steps and lengths the output has.
    pub fn output_half(&self) -> Half {
        match (self.part, self.shape.decoder) {
            (Part::Whole | Part::Decoder, Some(_)) => Half::Decoder,
            _ => Half::Input,
        }
    }

    /// The shape of the output, `[T', B, O]`.
    pub fn output_shape(&self, config: &NetworkConfig) -> [usize; 3] {
        let steps = self.shape.axis(self.output_half()).steps;
        [config.output_steps(steps), self.shape.batch, config.output()]
    }

    /// The states of one scan, in the buffers of a set.
    pub(crate) fn states(
        &self,
        plan: &mut Plan,
        config: &NetworkConfig,
        set: StateSet,
        layer: &Layer,
        scan: usize,
    ) -> ScanState {
        match self.places {
            StatePlaces::Together => StateLayout::new(config, self.shape.batch).scan(plan, set, layer, scan),
            StatePlaces::Apart => StateLayout::apart(plan, set, layer, scan, self.shape.batch),
        }
    }
}

/// A plan with the data that the host writes before it and may read after it.
#[derive(Clone, Debug)]
pub struct PassPlan {
    /// The plan.
    pub plan: Plan,
    /// The buffers that the host writes; only those that the plan uses.
    pub uploads: Vec<Given>,
    /// The buffers that the host may read, with the shapes of their content.
    pub reads: Vec<(Given, Vec<usize>)>,
}

impl PassPlan {
    fn new(
        mut plan: Plan,
        target: &Target,
        uploads: Vec<Given>,
        reads: Vec<(Given, Vec<usize>)>,
    ) -> PassPlan {
        plan.join(target);
        let sync = (Given::Sync, vec![1]);
        let reads = reads.into_iter().chain([sync]);
        let declared =
            |given: &Given| plan.buffers().iter().any(|buffer| buffer.given.as_ref() == Some(given));
        let uploads = uploads.into_iter().filter(|given| declared(given)).collect();
        let reads = reads.filter(|(given, _)| declared(given)).collect();
        PassPlan { plan, uploads, reads }
    }

    /// Whether workgroups of its dispatches wait for each other, and may give up; see [`Given::Sync`].
    pub fn may_give_up(&self) -> bool {
        self.owns(&Given::Sync)
    }

    /// The buffers outside the plan whose content it changes and may depend on: what has to be put back before the pass is run
    /// again. Packed weights are made anew, and buffers that the host only reads are overwritten.
    pub fn changes(&self) -> Vec<Given> {
        let written: BTreeSet<usize> =
            self.plan.steps().iter().flat_map(Step::written).map(|span| span.buffer.0).collect();
        let given = written.into_iter().filter_map(|buffer| self.plan.buffers()[buffer].given.clone());
        let only_read =
            |given: &Given| !self.uploads.contains(given) && self.reads.iter().any(|(read, _)| read == given);
        given.filter(|given| !matches!(given, Given::Packed { .. }) && !only_read(given)).collect()
    }

    /// Whether a buffer is this pass's own: one that the host writes or reads.
    pub fn owns(&self, given: &Given) -> bool {
        self.uploads.contains(given) || self.reads.iter().any(|(read, _)| read == given)
    }
}

/// The buffers that the host writes before a forward pass.
fn inputs(config: &NetworkConfig, pass: &Pass) -> Vec<Given> {
    let halves = [Half::Input, Half::Decoder];
    let mut found: Vec<Given> =
        halves.into_iter().flat_map(|half| [Given::Input(half), Given::Lengths(half)]).collect();
    found.push(Given::DropoutKey);
    if pass.initial == InitialFrom::Given {
        found.push(StateLayout::new(config, pass.shape.batch).given(StateSet::Initial));
    }
    found
}

fn lowering<'a>(
    plan: &'a mut Plan,
    target: &'a Target,
    parameters: &'a ParameterSpans<'a>,
    purpose: Purpose,
    pass: &Pass,
) -> Lowering<'a> {
    Lowering { plan, target, parameters, purpose, drops: pass.dropout }
}

/// Packs the weights of every layer that owns some.
fn pack_all(
    plan: &mut Plan,
    target: &Target,
    config: &NetworkConfig,
    parameters: &ParameterSpans<'_>,
    purpose: Purpose,
) {
    for layer in config.layers().iter().filter(|layer| layer.owner == layer.index) {
        layer::pack(plan, target, layer, parameters, purpose);
    }
}

/// Copies output and states into the buffers where the host, or the next pass, finds them.
fn finish(low: &mut Lowering<'_>, config: &NetworkConfig, pass: &Pass, forward: &Forward, finals: bool) {
    if let Some(y) = forward.output {
        let output = low.plan.given(Given::Output, y.len());
        low.plan.copy(y.span, output);
        mask(low.plan, forward, Sequence { span: output, ..y });
    }
    for layer in config.recurrent_layers().filter(|_| finals) {
        // After an encoder alone, the decoder's initial states count as its final ones.
        let last = forward.finals.get(&layer.index).map(|scans| scans.iter().map(Some).collect());
        let initial =
            || forward.initial.get(&layer.index).map(|scans| scans.iter().map(Option::as_ref).collect());
        let scans: Vec<_> = last.or_else(initial).unwrap_or_default();
        for (scan, found) in scans.into_iter().enumerate() {
            if let Some(found) = found {
                let to = pass.states(low.plan, config, StateSet::Final, layer, scan);
                found.copy_to(low.plan, &to);
            }
        }
    }
    carry(low, config, pass, forward);
}

/// Zeroes each row of the network's output, or of its gradient, past its end.
fn mask(plan: &mut Plan, forward: &Forward, y: Sequence) {
    if let Some(lengths) = forward.output_lengths {
        layer::mask_rows(plan, y, lengths);
    }
}

/// Copies the states into the buffers that the next pass starts from.
fn carry(low: &mut Lowering<'_>, config: &NetworkConfig, pass: &Pass, forward: &Forward) {
    let Some(step) = pass.carry else { return };
    for layer in config.recurrent_layers() {
        for (scan, found) in forward.states_after(low, layer.index, step).iter().enumerate() {
            let to = pass.states(low.plan, config, StateSet::Initial, layer, scan);
            found.copy_to(low.plan, &to);
        }
    }
}

/// The schedule of a network for a batch of that shape, to read or to count: a prediction, or a training step with its
/// update, without recomputation.
///
/// # Errors
/// [`Error::Shape`] for a batch that the network does not read; [`Error::TooLarge`] and [`Error::Limit`] for what the device
/// has no room for.
pub fn schedule(
    config: &NetworkConfig,
    target: &Target,
    shape: Shape,
    training: Option<&TrainConfig>,
) -> Result<Plan, Error> {
    let pass = Pass::whole(shape);
    let Some(training) = training else {
        let mut plan = packing(config, target, Purpose::Inference);
        plan.append(predict(config, target, &pass, false)?.plan);
        return Ok(plan);
    };
    let mut plan = batch(config, training, target, &pass)?.plan;
    plan.append(update(config, training, target));
    Ok(plan)
}

/// The memory that a prediction, or a training step with its update, needs on the device.
///
/// # Errors
/// Those of [`schedule`], and [`Error::TooLarge`] naming the tensor that the device has no room for.
pub fn memory_need(
    config: &NetworkConfig,
    target: &Target,
    shape: Shape,
    training: Option<&TrainConfig>,
) -> Result<MemoryNeed, Error> {
    let chunks = training.and_then(|training| Some((training, training.recompute?)));
    if let Some((training, steps)) = chunks.filter(|&(_, steps)| steps < shape.input.steps) {
        return recompute::memory_need(config, training, target, (&Pass::whole(shape), steps));
    }
    let plan = schedule(config, target, shape, training)?;
    memory::check(&plan, target)?;
    Ok(memory::need(&plan))
}

/// The parameters of a network on a device, none of them trained.
fn frozen(layout: &ParameterLayout) -> ParameterSpans<'_> {
    ParameterSpans::new(layout, |_| false)
}
