//! The caller's buffers, checked before anything is prepared.

use crate::gpu::bytes;
use crate::{Error, Refusal};
use gatefold_model::{Layer, NetworkConfig};
use gatefold_schedule::pass::Shape;
use gatefold_schedule::{Given, Half, StateSet};
use std::collections::HashMap;

/// The usages that a caller's buffer needs; which of them are used depends on the network.
const USAGES: wgpu::BufferUsages =
    wgpu::BufferUsages::STORAGE.union(wgpu::BufferUsages::COPY_SRC).union(wgpu::BufferUsages::COPY_DST);

/// The states of one direction of a recurrent layer, or their gradients.
#[derive(Clone, Debug)]
pub struct StateBuffers {
    /// `[k, B, R]`, the slot of the smallest t first.
    pub h: wgpu::Buffer,
    /// `[B, H]`, for an LSTM.
    pub c: Option<wgpu::Buffer>,
    /// `[B, O]`, for a layer whose output is fed back; zeros without it.
    pub y: Option<wgpu::Buffer>,
}

/// The buffers of a forward call.
#[derive(Clone, Debug)]
pub struct ForwardBuffers {
    pub(super) input: wgpu::Buffer,
    pub(super) lengths: Option<wgpu::Buffer>,
    pub(super) decoder: Option<DecoderBuffers>,
    pub(super) initial: Vec<StateBuffers>,
    pub(super) output: wgpu::Buffer,
    pub(super) finals: Vec<StateBuffers>,
}

/// The decoder's own input.
#[derive(Clone, Debug)]
pub struct DecoderBuffers {
    pub(super) steps: usize,
    pub(super) input: wgpu::Buffer,
    pub(super) lengths: Option<wgpu::Buffer>,
}

impl DecoderBuffers {
    /// An input of `steps` steps, `[steps, B, I]`, read.
    pub fn new(steps: usize, input: &wgpu::Buffer) -> Self {
        DecoderBuffers { steps, input: input.clone(), lengths: None }
    }

    /// The steps of each row, `[B]` of `u32`, read; without it every row has all steps.
    pub fn lengths(mut self, lengths: &wgpu::Buffer) -> Self {
        self.lengths = Some(lengths.clone());
        self
    }
}

impl ForwardBuffers {
    /// `input [T, B, I]` is read, `output [T', B, O]` written; zero past a row's end.
    pub fn new(input: &wgpu::Buffer, output: &wgpu::Buffer) -> Self {
        ForwardBuffers {
            input: input.clone(),
            lengths: None,
            decoder: None,
            initial: Vec::new(),
            output: output.clone(),
            finals: Vec::new(),
        }
    }

    /// The steps of each row, `[B]` of `u32`, read; without it every row has T steps.
    pub fn lengths(mut self, lengths: &wgpu::Buffer) -> Self {
        self.lengths = Some(lengths.clone());
        self
    }

    /// The input of an encoder-decoder's decoder.
    pub fn decoder(mut self, decoder: DecoderBuffers) -> Self {
        self.decoder = Some(decoder);
        self
    }

    /// The initial states of each direction of each recurrent layer, in order, read; without them the configured ones
    /// are used.
    pub fn initial(mut self, states: impl Into<Vec<StateBuffers>>) -> Self {
        self.initial = states.into();
        self
    }

    /// The final states likewise, at each row's own end, written.
    pub fn finals(mut self, states: impl Into<Vec<StateBuffers>>) -> Self {
        self.finals = states.into();
        self
    }
}

/// The buffers of a backward call.
#[derive(Clone, Debug)]
pub struct BackwardBuffers {
    pub(super) d_output: wgpu::Buffer,
    pub(super) d_finals: Vec<StateBuffers>,
    pub(super) d_initial: Vec<StateBuffers>,
    pub(super) d_input: Option<wgpu::Buffer>,
    pub(super) d_decoder_input: Option<wgpu::Buffer>,
}

impl BackwardBuffers {
    /// `d_output [T', B, O]`, read: the gradient with respect to the outputs.
    pub fn new(d_output: &wgpu::Buffer) -> Self {
        BackwardBuffers {
            d_output: d_output.clone(),
            d_finals: Vec::new(),
            d_initial: Vec::new(),
            d_input: None,
            d_decoder_input: None,
        }
    }

    /// The gradients with respect to the final states, read; zeros without them.
    pub fn finals(mut self, d_states: impl Into<Vec<StateBuffers>>) -> Self {
        self.d_finals = d_states.into();
        self
    }

    /// The gradients with respect to the initial states, written.
    pub fn initial(mut self, d_states: impl Into<Vec<StateBuffers>>) -> Self {
        self.d_initial = d_states.into();
        self
    }

    /// The gradient with respect to the input, `[T, B, I]`, written; zeros for tokens.
    pub fn input(mut self, d_input: &wgpu::Buffer) -> Self {
        self.d_input = Some(d_input.clone());
        self
    }

    /// The gradient with respect to the decoder's input, `[T', B, I']`, written; zeros for tokens.
    pub fn decoder_input(mut self, d_input: &wgpu::Buffer) -> Self {
        self.d_decoder_input = Some(d_input.clone());
        self
    }
}

/// The caller's buffers by their places in plans.
pub(super) struct Callers<'a> {
    config: &'a NetworkConfig,
    batch: usize,
    pub(super) buffers: HashMap<Given, wgpu::Buffer>,
}

impl<'a> Callers<'a> {
    pub(super) fn new(
        config: &'a NetworkConfig,
        batch: usize,
        buffers: HashMap<Given, wgpu::Buffer>,
    ) -> Callers<'a> {
        Callers { config, batch, buffers }
    }

    pub(super) fn forward(&mut self, shape: &Shape, forward: &ForwardBuffers) -> Result<(), Error> {
        self.input(Half::Input, shape.input.steps, &forward.input, forward.lengths.as_ref())?;
        if let Some(decoder) = &forward.decoder {
            self.input(Half::Decoder, decoder.steps, &decoder.input, decoder.lengths.as_ref())?;
        }
        self.states(StateSet::Initial, &forward.initial)?;
        self.output(Given::Output, shape, &forward.output)?;
        self.states(StateSet::Final, &forward.finals)
    }

    pub(super) fn backward(&mut self, shape: &Shape, backward: &BackwardBuffers) -> Result<(), Error> {
        self.output(Given::DOutput, shape, &backward.d_output)?;
        self.states(StateSet::DFinal, &backward.d_finals)?;
        self.states(StateSet::DInitial, &backward.d_initial)?;
        for (half, buffer) in [(Half::Input, &backward.d_input), (Half::Decoder, &backward.d_decoder_input)] {
            let Some(buffer) = buffer else { continue };
            let Some(axis) = (if half == Half::Input { Some(shape.input) } else { shape.decoder }) else {
                return Err(Error::Shape {
                    what: "buffer decoder.d_input".into(),
                    expected: "none, the network has no decoder".into(),
                    found: "one".into(),
                });
            };
            let axes = self.of_step(axis.steps, ("input", input_width(self.config, half)));
            self.take(Given::DInput(half), buffer, &axes)?;
        }
        Ok(())
    }

    pub(super) fn stream(&mut self, input: &wgpu::Buffer, output: &wgpu::Buffer) -> Result<(), Error> {
        let batch = self.batch;
        self.take(Given::Input(Half::Input), input, &[("batch", batch), ("input", self.config.input())])?;
        self.take(Given::Output, output, &[("batch", batch), ("output", self.config.output())])
    }

    fn of_step(&self, steps: usize, values: (&'static str, usize)) -> [(&'static str, usize); 3] {
        [("steps", steps), ("batch", self.batch), values]
    }

    fn input(
        &mut self,
        half: Half,
        steps: usize,
        values: &wgpu::Buffer,
        lengths: Option<&wgpu::Buffer>,
    ) -> Result<(), Error> {
        let axes = self.of_step(steps, ("input", input_width(self.config, half)));
        self.take(Given::Input(half), values, &axes)?;
        match lengths {
            Some(lengths) => self.take(Given::Lengths(half), lengths, &[("batch", self.batch)]),
            None => Ok(()),
        }
    }

    fn output(&mut self, given: Given, shape: &Shape, buffer: &wgpu::Buffer) -> Result<(), Error> {
        let steps = self.config.output_steps(shape.decoder.unwrap_or(shape.input).steps);
        let axes = self.of_step(steps, ("output", self.config.output()));
        self.take(given, buffer, &axes)
    }

    /// Takes a buffer after checking that it has this shape and every usage, and is not used elsewhere.
    fn take(&mut self, given: Given, buffer: &wgpu::Buffer, axes: &[(&str, usize)]) -> Result<(), Error> {
        let len = axes.iter().map(|(_, len)| *len).try_fold(1usize, usize::checked_mul);
        let expected = len.map_or(u64::MAX, bytes);
        if buffer.size() != expected {
            let axes: Vec<String> = axes.iter().map(|(axis, len)| format!("{axis} {len}")).collect();
            return Err(Error::Shape {
                what: format!("buffer {given}"),
                expected: format!("[{}], {expected} bytes", axes.join(", ")),
                found: format!("{} bytes", buffer.size()),
            });
        }
        if !buffer.usage().contains(USAGES) {
            return Err(Error::refused(
                Refusal::Buffer,
                format!(
                    "buffer {given}: expected the usages {}, found {}; create it with all of them",
                    named(USAGES),
                    named(buffer.usage())
                ),
            ));
        }
        if let Some((other, _)) = self.buffers.iter().find(|(_, taken)| *taken == buffer) {
            return Err(Error::refused(
                Refusal::Buffer,
                format!("buffer {given} is the same as buffer {other}; expected a buffer for each"),
            ));
        }
        self.buffers.insert(given, buffer.clone());
        Ok(())
    }

    /// Takes the states of every direction of every recurrent layer, or none.
    fn states(&mut self, set: StateSet, states: &[StateBuffers]) -> Result<(), Error> {
        if states.is_empty() {
            return Ok(());
        }
        let places: Vec<(&Layer, usize)> = scans(self.config).collect();
        let refuse = |expected: String, found: String| {
            Err(Error::Shape { what: format!("states {}", set.name()), expected, found })
        };
        if states.len() != places.len() {
            let expected = format!("{}, one for each direction of each recurrent layer", places.len());
            return refuse(expected, states.len().to_string());
        }
        for ((layer, scan), found) in places.into_iter().zip(states) {
            let recurrent = *layer.recurrent().expect("only recurrent layers have states");
            let has = |present: bool| if present { "c" } else { "no c" };
            let (wanted, given) = (recurrent.cell.has_state(), found.c.is_some());
            if wanted != given {
                return refuse(format!("h and {}", has(wanted)), format!("h and {}", has(given)));
            }
            if found.y.is_some() && recurrent.feedback.is_none() {
                return refuse("no y, since no output is fed back".into(), "y".into());
            }
            let place = |part| state(set, layer.index, scan, part);
            let (batch, width) = (self.batch, recurrent.recurrent_width());
            self.take(
                place("h"),
                &found.h,
                &[("slots", recurrent.history()), ("batch", batch), ("h", width)],
            )?;
            if let Some(c) = &found.c {
                let all = [("slots", recurrent.dilation), ("batch", batch), ("c", recurrent.hidden)];
                self.take(place("c"), c, if recurrent.is_dilated() { &all } else { &all[1..] })?;
            }
            if let Some(y) = &found.y {
                self.take(place("y"), y, &[("batch", batch), ("y", recurrent.scan_width())])?;
            }
        }
        Ok(())
    }
}

/// `COPY_SRC, COPY_DST, STORAGE`
fn named(usages: wgpu::BufferUsages) -> String {
    let names: Vec<&str> = usages.iter_names().map(|(name, _)| name).collect();
    if names.is_empty() { "none".into() } else { names.join(", ") }
}

/// Every direction of every recurrent layer, in order: the places of states.
fn scans(config: &NetworkConfig) -> impl Iterator<Item = (&Layer, usize)> {
    config.recurrent_layers().flat_map(|layer| {
        let scans = layer.recurrent().map_or(0, |recurrent| recurrent.direction.scans().len());
        (0..scans).map(move |scan| (layer, scan))
    })
}

/// The buffer of one state.
fn state(set: StateSet, layer: usize, scan: usize, part: &'static str) -> Given {
    Given::State { set, layer, scan, part }
}

/// Values per step of an input.
fn input_width(config: &NetworkConfig, half: Half) -> usize {
    match (half, config.decoder()) {
        (Half::Decoder, Some(at)) => config.layers()[at].output,
        _ => config.input(),
    }
}
