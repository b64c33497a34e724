//! The engine inside another program: networks on buffers of a wgpu device that the caller owns.
//!
//! Calls record into the caller's [`wgpu::CommandEncoder`], between the caller's own passes. They submit nothing and do
//! not write to the queue. The caller submits encoders in the order in which calls were recorded. Every buffer belongs
//! to the network's device, holds `f32` or, for lengths, `u32`, and needs the usages `STORAGE`, `COPY_SRC` and
//! `COPY_DST`.
//!
//! No masks are drawn: dropout layers pass on their input, and recurrent layers with noise compute as they do in inference,
//! forward and backward, zoneout as its expectation. A [`Trainer`](crate::Trainer) trains with noise.
//!
//! Shapes: T steps, B rows, I inputs, O outputs of the network; H units, R values of h (H, or the width of a
//! projection) and k slots of h (1, or the reach of a skip connection) of a recurrent layer. Inputs and gradients past
//! a row's end are ignored.

mod buffers;

pub use buffers::{BackwardBuffers, DecoderBuffers, ForwardBuffers, StateBuffers};

use crate::gpu::{Compiled, DeviceBuffer, Gpu, SharedBuffers, bytes};
use crate::sequences::check_steps;
use crate::{Error, Refusal, block_on};
use buffers::Callers;
use gatefold_model::{Direction, LayerKind, NetworkConfig, Parameters};
use gatefold_schedule::layer::Purpose;
use gatefold_schedule::pass::{self, Axis, InitialFrom, Recording, Shape};
use gatefold_schedule::{Given, ParameterLayout, Plan};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A parameter or its gradient on the device: part of a buffer, in PyTorch's shape and row order.
#[derive(Clone, Debug)]
pub struct ParameterSlice {
    /// The buffer; other parameters lie in it too.
    pub buffer: wgpu::Buffer,
    /// Its first byte; a multiple of 256.
    pub offset_bytes: u64,
    /// Its length.
    pub size_bytes: u64,
}

/// A network on the caller's device.
///
/// Its parameters lie in buffers that the caller may read and write. After a change, [`Network::pack`] must be recorded
/// before the next forward call; the initial parameters need no such call. Backward adds to the gradients;
/// [`Network::clear_gradients`] zeroes them.
#[derive(Debug)]
pub struct Network {
    gpu: Gpu,
    config: NetworkConfig,
    layout: ParameterLayout,
    shared: SharedBuffers,
    values: Vec<Arc<DeviceBuffer>>,
    gradients: Vec<Arc<DeviceBuffer>>,
    weights: Arc<Weights>,
}

/// The weights as the kernels walk them.
#[derive(Debug)]
struct Weights {
    packing: Compiled,
    /// Whether the caller has recorded the packing.
    packed: AtomicBool,
}

impl Weights {
    /// Records the packing for a sequence or a stream unless the caller did. Each does so once, since any of them may
    /// be submitted first.
    fn pack_first(&self, packed: &AtomicBool, encoder: &mut wgpu::CommandEncoder) {
        if !packed.swap(true, Ordering::Relaxed) && !self.packed.load(Ordering::Relaxed) {
            self.packing.record(encoder);
        }
    }
}

/// A batch of sequences of fixed shape through a [`Network`], forward and, if so prepared, backward.
#[derive(Debug)]
pub struct Sequence {
    /// Used through the bind groups.
    _buffers: Vec<Arc<DeviceBuffer>>,
    compiled: Compiled,
    /// The numbers of kernels of forward and of backward.
    dispatches: (usize, usize),
    has_backward: bool,
    weights: Arc<Weights>,
    packed: AtomicBool,
    /// Whether forward was recorded, with no backward since.
    saved: AtomicBool,
}

/// Many streams, one time step at a time; their states stay on the device.
#[derive(Debug)]
pub struct Stream {
    /// Used through the bind groups.
    _buffers: Vec<Arc<DeviceBuffer>>,
    initial: Compiled,
    /// The states go round in rings: one plan for each turn.
    turns: Vec<Compiled>,
    turn: usize,
    fresh: bool,
    weights: Arc<Weights>,
    packed: AtomicBool,
}

impl Network {
    /// A network with the parameters that [`Parameters::initial`] draws from the seed.
    ///
    /// # Errors
    /// [`Error::TooLarge`] and [`Error::OutOfMemory`] for a network that the device cannot hold.
    pub fn new(gpu: &Gpu, config: &NetworkConfig, seed: u64) -> Result<Network, Error> {
        block_on(Network::new_async(gpu, config, seed))
    }

    /// [`Network::new`] for callers that must not block.
    ///
    /// # Errors
    /// Those of [`Network::new`].
    pub async fn new_async(gpu: &Gpu, config: &NetworkConfig, seed: u64) -> Result<Network, Error> {
        pass::check_parameters(config, gpu.target())?;
        Network::with_parameters_async(gpu, config, &Parameters::initial(config, seed)?).await
    }

    /// A network with given parameters.
    ///
    /// # Errors
    /// Those of [`Network::new`], and [`Error::Model`] for parameters of another shape.
    pub fn with_parameters(
        gpu: &Gpu,
        config: &NetworkConfig,
        parameters: &Parameters,
    ) -> Result<Network, Error> {
        block_on(Network::with_parameters_async(gpu, config, parameters))
    }

    /// [`Network::with_parameters`] for callers that must not block.
    ///
    /// # Errors
    /// Those of [`Network::with_parameters`].
    pub async fn with_parameters_async(
        gpu: &Gpu,
        config: &NetworkConfig,
        parameters: &Parameters,
    ) -> Result<Network, Error> {
        parameters.check(config)?;
        pass::check_parameters(config, gpu.target())?;
        let layout = ParameterLayout::new(config, gpu.target());
        let shared = SharedBuffers::default();
        let mut values = Vec::new();
        for (chunk, flat) in layout.flatten(parameters).iter().enumerate() {
            let given = Given::Parameters(chunk);
            let buffer = DeviceBuffer::with_values(gpu, &given.to_string(), flat).await?;
            shared.put(given, &buffer);
            values.push(buffer);
        }
        let gradients = shared.chunks(gpu, &layout, Given::Gradients).await?;
        let plan = pass::packing(config, gpu.target(), Purpose::Training);
        let packing = Compiled::tried(gpu, &plan, &shared.given(gpu, &plan, HashMap::new()).await?).await?;
        Ok(Network {
            gpu: gpu.clone(),
            config: config.clone(),
            layout,
            shared,
            values,
            gradients,
            weights: Arc::new(Weights { packing, packed: AtomicBool::new(false) }),
        })
    }

    /// The network's description.
    pub fn config(&self) -> &NetworkConfig {
        &self.config
    }

    /// Records the packing of the weights for the kernels; needed after every change of the parameters.
    pub fn pack(&self, encoder: &mut wgpu::CommandEncoder) {
        self.weights.packing.record(encoder);
        self.weights.packed.store(true, Ordering::Relaxed);
    }

    /// Records the clearing of every gradient to zero.
    pub fn clear_gradients(&self, encoder: &mut wgpu::CommandEncoder) {
        for gradients in &self.gradients {
            encoder.clear_buffer(gradients.raw(), 0, None);
        }
    }

    /// The place of a parameter, such as `rnn0.weight_hh_l0`; `None` for another name.
    pub fn parameter(&self, name: &str) -> Option<ParameterSlice> {
        self.slice(name, &self.values)
    }

    /// The place of a parameter's gradient; `None` for another name.
    pub fn gradient(&self, name: &str) -> Option<ParameterSlice> {
        self.slice(name, &self.gradients)
    }

    fn slice(&self, name: &str, chunks: &[Arc<DeviceBuffer>]) -> Option<ParameterSlice> {
        let entry = self.layout.entries.iter().find(|entry| entry.name == name)?;
        Some(ParameterSlice {
            buffer: chunks[entry.chunk].raw().clone(),
            offset_bytes: 4 * entry.offset as u64,
            size_bytes: bytes(entry.len),
        })
    }

    /// A set without any of the caller's buffers so far. It knows the network's own, so that the caller cannot pass
    /// those.
    fn callers(&self, batch: usize) -> Callers<'_> {
        let own = (0..).map(Given::Parameters).zip(&self.values);
        let own = own.chain((0..).map(Given::Gradients).zip(&self.gradients));
        let buffers = own.map(|(given, buffer)| (given, buffer.raw().clone())).collect();
        Callers::new(&self.config, batch, buffers)
    }

    /// Makes the buffers of a plan that neither the caller nor the network has: those that a stream keeps from step to
    /// step, and those that a caller left out.
    async fn make_missing(
        &self,
        plan: &Plan,
        buffers: &mut HashMap<Given, wgpu::Buffer>,
    ) -> Result<Vec<Arc<DeviceBuffer>>, Error> {
        let mut made = Vec::new();
        for declared in plan.buffers() {
            let Some(given) = &declared.given else { continue };
            if buffers.contains_key(given) || matches!(given, Given::Packed { .. }) {
                continue;
            }
            let buffer = DeviceBuffer::new(&self.gpu, &declared.name, declared.len).await?;
            buffers.insert(given.clone(), buffer.raw().clone());
            made.push(buffer);
        }
        Ok(made)
    }

    /// Prepares calls for sequences of `steps` steps and `batch` rows on these buffers. With `backward`, forward saves what
    /// backward needs.
    ///
    /// # Errors
    /// [`Error::Shape`] for a buffer of another size or states that do not fit the network; [`Error::Refused`] for a buffer
    /// in two places; [`Error::TooLarge`], [`Error::Limit`], [`Error::OutOfMemory`] and [`Error::Device`] for what the
    /// device cannot do.
    pub fn sequence(
        &self,
        steps: usize,
        batch: usize,
        forward: &ForwardBuffers,
        backward: Option<&BackwardBuffers>,
    ) -> Result<Sequence, Error> {
        block_on(self.sequence_async(steps, batch, forward, backward))
    }

    /// [`Network::sequence`] for callers that must not block.
    ///
    /// # Errors
    /// Those of [`Network::sequence`].
    pub async fn sequence_async(
        &self,
        steps: usize,
        batch: usize,
        forward: &ForwardBuffers,
        backward: Option<&BackwardBuffers>,
    ) -> Result<Sequence, Error> {
        check_not_empty(steps, batch)?;
        let config = &self.config;
        check_steps("sequence", config, steps)?;
        let axis = |steps, lengths: &Option<wgpu::Buffer>| Axis { steps, lengths: lengths.is_some() };
        if config.decoder().is_some() != forward.decoder.is_some() {
            let has = |there: bool| if there { "one" } else { "none" };
            return Err(Error::Shape {
                what: "buffers of the decoder".into(),
                expected: has(config.decoder().is_some()).into(),
                found: has(forward.decoder.is_some()).into(),
            });
        }
        let shape = Shape {
            batch,
            input: axis(steps, &forward.lengths),
            decoder: forward.decoder.as_ref().map(|decoder| axis(decoder.steps, &decoder.lengths)),
        };
        let recording = Recording {
            shape,
            initial: if forward.initial.is_empty() { InitialFrom::Configured } else { InitialFrom::Given },
            finals: !forward.finals.is_empty(),
            backward: backward.map(|backward| pass::Backward {
                finals: !backward.d_finals.is_empty(),
                initial: !backward.d_initial.is_empty(),
                inputs: backward.d_input.is_some() || backward.d_decoder_input.is_some(),
            }),
        };
        let mut callers = self.callers(batch);
        callers.forward(&shape, forward)?;
        if let Some(backward) = backward {
            callers.backward(&shape, backward)?;
        }
        let plan = pass::record(config, self.gpu.target(), &recording)?;
        let own = self.make_missing(&plan, &mut callers.buffers).await?;
        let given = self.shared.given(&self.gpu, &plan, callers.buffers).await?;
        let forward_dispatches = plan.dispatches_before_mark();
        Ok(Sequence {
            _buffers: own,
            compiled: Compiled::tried(&self.gpu, &plan, &given).await?,
            dispatches: (forward_dispatches, plan.dispatches() - forward_dispatches),
            has_backward: backward.is_some(),
            weights: Arc::clone(&self.weights),
            packed: AtomicBool::new(false),
            saved: AtomicBool::new(false),
        })
    }

    /// Prepares steps of `batch` streams, each of which reads `input [B, I]` and writes the network's output to
    /// `output [B, O]`. Streams start from the configured initial states.
    ///
    /// # Errors
    /// Those of [`Network::sequence`]; [`Error::Refused`] for a network with a decoder or with a layer that needs more than
    /// the steps so far.
    pub fn stream(&self, batch: usize, input: &wgpu::Buffer, output: &wgpu::Buffer) -> Result<Stream, Error> {
        block_on(self.stream_async(batch, input, output))
    }

    /// [`Network::stream`] for callers that must not block.
    ///
    /// # Errors
    /// Those of [`Network::stream`].
    pub async fn stream_async(
        &self,
        batch: usize,
        input: &wgpu::Buffer,
        output: &wgpu::Buffer,
    ) -> Result<Stream, Error> {
        check_not_empty(1, batch)?;
        check_streams(&self.config)?;
        let (gpu, target) = (&self.gpu, self.gpu.target());
        let mut callers = self.callers(batch);
        callers.stream(input, output)?;
        let mut own = Vec::new();
        let mut plans = vec![pass::ring_initial(&self.config, target, batch)];
        for turn in 0..pass::ring_period(&self.config)? {
            plans.push(pass::ring(&self.config, target, batch, turn)?);
        }
        let mut compiled = Vec::with_capacity(plans.len());
        for plan in &plans {
            own.extend(self.make_missing(plan, &mut callers.buffers).await?);
            let given = self.shared.given(gpu, plan, callers.buffers.clone()).await?;
            compiled.push(Compiled::tried(gpu, plan, &given).await?);
        }
        Ok(Stream {
            _buffers: own,
            initial: compiled.remove(0),
            turns: compiled,
            turn: 0,
            fresh: true,
            weights: Arc::clone(&self.weights),
            packed: AtomicBool::new(false),
        })
    }
}

fn check_not_empty(steps: usize, batch: usize) -> Result<(), Error> {
    if steps > 0 && batch > 0 {
        return Ok(());
    }
    Err(Error::Shape {
        what: "sequence".into(),
        expected: "at least one step and one row".into(),
        found: format!("steps {steps}, batch {batch}"),
    })
}

/// Checks that a network can run step by step.
fn check_streams(config: &NetworkConfig) -> Result<(), Error> {
    for layer in config.layers() {
        let problem = match layer.kind {
            LayerKind::Recurrent(recurrent) if recurrent.direction != Direction::Forward => {
                "reads the end of a sequence first; expected direction forward for a stream"
            }
            LayerKind::Conv1d(conv) if !conv.is_pointwise() => {
                "reads several steps at once; expected no such layer in a stream"
            }
            LayerKind::Pool(_) => "reads all steps of a row; expected no such layer in a stream",
            LayerKind::Expand { .. } => "makes several steps of one; expected no such layer in a stream",
            LayerKind::Decoder { .. } => "starts from an encoder's states; expected no decoder in a stream",
            _ => continue,
        };
        let message = format!("{} {problem}", layer.place());
        return Err(Error::refused_for(Refusal::Stream, layer.index, message));
    }
    Ok(())
}

impl Sequence {
    /// Records the whole sequence forward.
    pub fn forward(&self, encoder: &mut wgpu::CommandEncoder) {
        self.weights.pack_first(&self.packed, encoder);
        self.saved.store(true, Ordering::Relaxed);
        self.compiled.record_before_mark(encoder);
    }

    /// Records the whole sequence backward. Each call needs a forward call of the same sequence before it, since
    /// backward replaces the saved gates with their gradients. The gradients of the parameters are added to those
    /// accumulated.
    ///
    /// # Errors
    /// [`Error::Refused`] if the sequence was prepared without buffers for backward, or if no forward call was recorded
    /// since the last backward.
    pub fn backward(&self, encoder: &mut wgpu::CommandEncoder) -> Result<(), Error> {
        if !self.has_backward {
            return Err(Error::refused(
                Refusal::Order,
                "this sequence was prepared for forward alone; give Network::sequence the buffers of backward",
            ));
        }
        if !self.saved.swap(false, Ordering::Relaxed) {
            return Err(Error::refused(
                Refusal::Order,
                "backward replaces what forward saved; expected a forward call before each backward, found none; record \
                 Sequence::forward again",
            ));
        }
        self.compiled.record_from_mark(encoder);
        Ok(())
    }

    /// The numbers of kernels that forward and backward start; 0 for backward without buffers for it.
    pub fn dispatches(&self) -> (usize, usize) {
        self.dispatches
    }
}

impl Stream {
    /// Records one time step. The encoders of one stream must be submitted in the order in which steps were recorded,
    /// each once.
    pub fn step(&mut self, encoder: &mut wgpu::CommandEncoder) {
        self.weights.pack_first(&self.packed, encoder);
        if self.fresh {
            self.reset(encoder);
        }
        self.fresh = false;
        self.turns[self.turn].record(encoder);
        self.turn = (self.turn + 1) % self.turns.len();
    }

    /// Records the reset of every stream to the configured initial states.
    pub fn reset(&mut self, encoder: &mut wgpu::CommandEncoder) {
        self.initial.record(encoder);
        (self.turn, self.fresh) = (0, false);
    }
}
