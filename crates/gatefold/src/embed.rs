//! The engine inside another program: layers on buffers of a wgpu device that the caller owns.
//!
//! Calls record into the caller's [`wgpu::CommandEncoder`]; nothing is submitted and the queue is not written to, so
//! they stand between the caller's own passes without a copy. Every buffer holds `f32` and needs the usages `STORAGE`,
//! `COPY_SRC` and `COPY_DST`. Shapes: T steps, B rows, I inputs, H units.

use crate::buffer::{self, DeviceBuffer};
use crate::gpu_network::SharedBuffers;
use crate::layer::{self, Carried, LstmShape, LstmTape, PackedLstm, Purpose, Sequence};
use crate::parameters::{GRADIENTS, ParameterLayout, ParameterSpans, VALUES};
use crate::plan::Plan;
use crate::run::Compiled;
use crate::{Error, Gpu};
use gatefold_model::{Layer, LstmConfig, NetworkConfig, Parameters};
use std::collections::HashMap;
use std::sync::Arc;

/// A parameter or its gradient on the device: part of a buffer, in PyTorch's shape and row order.
#[derive(Clone, Debug)]
pub struct ParameterSlice {
    /// The buffer; other parameters lie in it too.
    pub buffer: wgpu::Buffer,
    /// Where it begins; a multiple of 256.
    pub offset_bytes: u64,
    /// How long it is.
    pub size_bytes: u64,
}

/// An LSTM layer on the caller's device.
///
/// Its parameters lie in a buffer that the caller may read and write; after a change, [`LstmLayer::pack`] must be
/// recorded before the next forward call. Backward adds to the gradients; [`LstmLayer::clear_gradients`] zeroes them.
#[derive(Debug)]
pub struct LstmLayer {
    gpu: Gpu,
    config: NetworkConfig,
    layout: ParameterLayout,
    shared: SharedBuffers,
    values: Arc<DeviceBuffer>,
    gradients: Arc<DeviceBuffer>,
    packing: Compiled,
}

/// The buffers of a forward call; slot `t + 1` of h and c belongs to step `t`, slot 0 to the state before the first.
#[derive(Clone, Debug)]
pub struct LstmForward {
    /// `[T, B, I]`, read.
    pub input: wgpu::Buffer,
    /// `[T+1, B, H]`: the caller fills slot 0, the call the others; slots 1 to T are the layer's outputs.
    pub h: wgpu::Buffer,
    /// `[T+1, B, H]`: the caller fills slot 0, the call the others.
    pub c: wgpu::Buffer,
}

/// The buffers of a backward call.
#[derive(Clone, Debug)]
pub struct LstmBackward {
    /// `[T, B, H]`, read: the gradient of the outputs.
    pub d_output: wgpu::Buffer,
    /// `[B, H]`: the gradient of the final h, replaced by that of the initial h.
    pub d_h: wgpu::Buffer,
    /// `[B, H]`: the gradient of the final c, replaced by that of the initial c.
    pub d_c: wgpu::Buffer,
    /// `[T, B, I]`, written: the gradient of the inputs; none where nobody wants it.
    pub d_input: Option<wgpu::Buffer>,
}

/// A sequence of fixed shape through an [`LstmLayer`], forward and, if so prepared, backward.
#[derive(Debug)]
pub struct LstmSequence {
    forward: Compiled,
    backward: Option<Compiled>,
    /// What both plans see of the gates; used through their bind groups.
    _gates: Arc<DeviceBuffer>,
}

/// One time step at a time, the state kept on the device.
#[derive(Debug)]
pub struct LstmStream {
    h: Arc<DeviceBuffer>,
    state: Arc<DeviceBuffer>,
    /// Used through the bind groups.
    _gates: Arc<DeviceBuffer>,
    /// From slot 0 of h to slot 1, and back.
    steps: [Compiled; 2],
    turn: usize,
}

impl LstmLayer {
    /// A layer of `input` values a step; the seed gives the parameters of [`Parameters::initial`].
    ///
    /// # Errors
    /// [`Error::Model`] for a width of 0, [`Error::TooLarge`] and [`Error::OutOfMemory`] for what the device cannot
    /// hold.
    pub fn new(gpu: &Gpu, input: usize, config: &LstmConfig, seed: u64) -> Result<LstmLayer, Error> {
        let config = NetworkConfig::new(input, [config.clone().into()])?;
        LstmLayer::with_parameters(gpu, &config, &Parameters::initial(&config, seed))
    }

    /// A layer with given parameters, for a network of one LSTM layer.
    ///
    /// # Errors
    /// Those of [`LstmLayer::new`], and [`Error::Model`] for parameters of another shape; [`Error::Config`] for a
    /// network that is anything but one LSTM layer.
    pub fn with_parameters(
        gpu: &Gpu,
        config: &NetworkConfig,
        parameters: &Parameters,
    ) -> Result<LstmLayer, Error> {
        let [layer] = config.layers() else {
            return Err(Error::Config(format!("expected a network of one LSTM layer, found {config}")));
        };
        if !layer.recurrent().is_some_and(|recurrent| recurrent.is_plain_lstm()) {
            return Err(Error::Config(format!("expected a network of one LSTM layer, found {config}")));
        }
        parameters.check(config)?;
        let layout = ParameterLayout::new(config);
        let mut shared = SharedBuffers::default();
        let values = DeviceBuffer::with_values(gpu, VALUES, &layout.flatten(parameters))?;
        shared.put(VALUES, &values);
        let gradients = shared.get(gpu, GRADIENTS, layout.len)?;
        let spans = ParameterSpans::new(&layout, |_| false);
        let mut plan = Plan::default();
        layer::pack(&mut plan, &config.layers()[0], &spans, Purpose::Training);
        let packing = Compiled::new(gpu, &plan, &shared.given(gpu, &plan, &HashMap::new())?)?;
        Ok(LstmLayer { gpu: gpu.clone(), config: config.clone(), layout, shared, values, gradients, packing })
    }

    /// Records the reordering of the weights for the kernels: before the first call, and after every change of the
    /// parameters.
    pub fn pack(&self, encoder: &mut wgpu::CommandEncoder) {
        self.packing.record(encoder);
    }

    /// Records zeros into every gradient.
    pub fn clear_gradients(&self, encoder: &mut wgpu::CommandEncoder) {
        encoder.clear_buffer(self.gradients.raw(), 0, None);
    }

    /// Where a parameter lies, such as `rnn0.weight_hh_l0`; none by another name.
    pub fn parameter(&self, name: &str) -> Option<ParameterSlice> {
        self.slice(name, &self.values)
    }

    /// Where a parameter's gradient lies.
    pub fn gradient(&self, name: &str) -> Option<ParameterSlice> {
        self.slice(name, &self.gradients)
    }

    fn slice(&self, name: &str, whole: &DeviceBuffer) -> Option<ParameterSlice> {
        let entry = self.layout.entries.iter().find(|entry| entry.name == name)?;
        Some(ParameterSlice {
            buffer: whole.raw().clone(),
            offset_bytes: 4 * entry.offset as u64,
            size_bytes: buffer::bytes(entry.len),
        })
    }

    fn layer(&self) -> &Layer {
        &self.config.layers()[0]
    }

    fn shape(&self, steps: usize, batch: usize) -> Result<LstmShape, Error> {
        if steps == 0 || batch == 0 {
            return Err(Error::Shape {
                what: "sequence".into(),
                expected: "at least one step and one row".into(),
                found: format!("steps {steps}, batch {batch}"),
            });
        }
        Ok(LstmShape { steps, batch, input: self.config.input(), hidden: self.layer().output })
    }

    /// Prepares calls for sequences of `steps` steps and `batch` rows on these buffers. With `backward` forward saves
    /// what backward needs.
    ///
    /// # Errors
    /// [`Error::Shape`] for a buffer of another size; [`Error::TooLarge`], [`Error::OutOfMemory`] and
    /// [`Error::Device`] for what the device cannot do.
    pub fn sequence(
        &mut self,
        steps: usize,
        batch: usize,
        forward: &LstmForward,
        backward: Option<&LstmBackward>,
    ) -> Result<LstmSequence, Error> {
        let shape = self.shape(steps, batch)?;
        let purpose = if backward.is_some() { Purpose::Training } else { Purpose::Inference };
        let layer = self.layer().clone();
        let (label, target) = (layer.label(), self.gpu.target().clone());
        let step_len = shape.step_len();
        let mut callers = HashMap::new();
        let mut take = |name: &str, buffer: &wgpu::Buffer, axes: &str, len: usize| {
            check_len(name, axes, buffer, len)?;
            if let Some((other, _)) = callers.iter().find(|(_, taken)| *taken == buffer) {
                return Err(Error::Config(format!(
                    "buffer {name} is the same as buffer {other}; expected a buffer for each"
                )));
            }
            callers.insert(name.to_string(), buffer.clone());
            Ok(())
        };
        take("input", &forward.input, "steps, batch, input", steps * batch * shape.input)?;
        take("h", &forward.h, "steps + 1, batch, hidden", (steps + 1) * step_len)?;
        take("c", &forward.c, "steps + 1, batch, hidden", (steps + 1) * step_len)?;
        if let Some(backward) = backward {
            take("d_output", &backward.d_output, "steps, batch, hidden", steps * step_len)?;
            take("d_h", &backward.d_h, "batch, hidden", step_len)?;
            take("d_c", &backward.d_c, "batch, hidden", step_len)?;
            if let Some(d_input) = &backward.d_input {
                take("d_input", d_input, "steps, batch, input", steps * batch * shape.input)?;
            }
        }
        // Both plans see the gates: one buffer of this sequence alone.
        let gates_len = steps * step_len * gatefold_model::LstmGate::COUNT;
        let gates = DeviceBuffer::new(&self.gpu, "gates", gates_len)?;
        callers.insert("gates".into(), gates.raw().clone());
        let tape = |plan: &mut Plan| LstmTape {
            shape,
            x: Sequence {
                span: plan.given("input", steps * batch * shape.input),
                steps,
                batch,
                width: shape.input,
            },
            gates: plan.given("gates", gates_len),
            state: plan.given("c", (steps + 1) * step_len),
            h: plan.given("h", (steps + 1) * step_len),
        };

        let mut plan = Plan::default();
        let forward_tape = tape(&mut plan);
        let packed = PackedLstm::declare(&mut plan, 0, &shape, purpose);
        layer::lstm_steps_forward(&mut plan, &target, &label, &packed, &forward_tape, purpose, true)?;
        let ready = Compiled::new(&self.gpu, &plan, &self.shared.given(&self.gpu, &plan, &callers)?)?;
        let Some(backward) = backward else {
            return Ok(LstmSequence { forward: ready, backward: None, _gates: gates });
        };

        let mut plan = Plan::default();
        let tape = tape(&mut plan);
        let packed = PackedLstm::declare(&mut plan, 0, &shape, purpose);
        let d_output =
            Sequence { span: plan.given("d_output", steps * step_len), steps, batch, width: shape.hidden };
        let carried = Carried { d_h: plan.given("d_h", step_len), d_state: plan.given("d_c", step_len) };
        layer::lstm_backward(&mut plan, &target, &label, &packed, &tape, d_output, &carried)?;
        layer::lstm_initial_gradient(&mut plan, &target, &label, &packed, &tape, carried.d_h)?;
        let spans = ParameterSpans::new(&self.layout, |_| true);
        layer::lstm_parameter_gradients(&mut plan, &target, &layer, &spans, &tape)?;
        if backward.d_input.is_some() {
            let d_x = plan.given("d_input", tape.x.len());
            layer::lstm_input_gradient(&mut plan, &target, &label, &packed, &tape, d_x)?;
        }
        let given = self.shared.given(&self.gpu, &plan, &callers)?;
        Ok(LstmSequence {
            forward: ready,
            backward: Some(Compiled::new(&self.gpu, &plan, &given)?),
            _gates: gates,
        })
    }

    /// Prepares steps of `batch` streams: each reads `input [B, I]` and leaves h in `output [B, H]`.
    ///
    /// # Errors
    /// Those of [`LstmLayer::sequence`].
    pub fn stream(
        &mut self,
        batch: usize,
        input: &wgpu::Buffer,
        output: &wgpu::Buffer,
    ) -> Result<LstmStream, Error> {
        let shape = self.shape(1, batch)?;
        let step_len = shape.step_len();
        check_len("input", "batch, input", input, batch * shape.input)?;
        check_len("output", "batch, hidden", output, step_len)?;
        let h = DeviceBuffer::new(&self.gpu, "h", 2 * step_len)?;
        let state = DeviceBuffer::new(&self.gpu, "state", step_len)?;
        let mut callers: HashMap<String, wgpu::Buffer> =
            [("input", input), ("output", output), ("h", h.raw()), ("state", state.raw())]
                .into_iter()
                .map(|(name, buffer)| (name.to_string(), buffer.clone()))
                .collect();
        let gates = DeviceBuffer::new(&self.gpu, "gates", step_len * gatefold_model::LstmGate::COUNT)?;
        callers.insert("gates".into(), gates.raw().clone());
        let (label, target) = (self.layer().label(), self.gpu.target().clone());
        let mut step = |from: usize| {
            let mut plan = Plan::default();
            let tape = LstmTape {
                shape,
                x: Sequence {
                    span: plan.given("input", batch * shape.input),
                    steps: 1,
                    batch,
                    width: shape.input,
                },
                gates: plan.given("gates", step_len * gatefold_model::LstmGate::COUNT),
                state: plan.given("state", step_len),
                h: plan.given("h", 2 * step_len),
            };
            let packed = PackedLstm::declare(&mut plan, 0, &shape, Purpose::Inference);
            let output = plan.given("output", step_len);
            layer::lstm_one_step(&mut plan, &target, &label, &packed, &tape, from)?;
            plan.copy(tape.h.part((1 - from) * step_len, step_len), output);
            Compiled::new(&self.gpu, &plan, &self.shared.given(&self.gpu, &plan, &callers)?)
        };
        let steps = [step(0)?, step(1)?];
        Ok(LstmStream { h, state, _gates: gates, steps, turn: 0 })
    }
}

impl LstmSequence {
    /// Records the whole sequence forward.
    pub fn forward(&self, encoder: &mut wgpu::CommandEncoder) {
        self.forward.record(encoder);
    }

    /// Records the whole sequence backward, behind a forward call of the same sequence: once for each, since it
    /// replaces the saved gates by their gradients.
    ///
    /// # Errors
    /// [`Error::Config`] if the sequence was prepared without buffers for it.
    pub fn backward(&self, encoder: &mut wgpu::CommandEncoder) -> Result<(), Error> {
        let Some(backward) = &self.backward else {
            return Err(Error::Config(
                "this sequence was prepared for forward alone; give LstmLayer::sequence the buffers of backward".into(),
            ));
        };
        backward.record(encoder);
        Ok(())
    }

    /// How many kernels forward and backward start.
    pub fn dispatches(&self) -> (usize, usize) {
        (self.forward.dispatches(), self.backward.as_ref().map_or(0, Compiled::dispatches))
    }
}

impl LstmStream {
    /// Records one time step. The encoders of one stream must be submitted in the order in which steps were recorded,
    /// each once.
    pub fn step(&mut self, encoder: &mut wgpu::CommandEncoder) {
        self.steps[self.turn].record(encoder);
        self.turn = 1 - self.turn;
    }

    /// Records the return to a state of zeros.
    pub fn reset(&mut self, encoder: &mut wgpu::CommandEncoder) {
        encoder.clear_buffer(self.h.raw(), 0, None);
        encoder.clear_buffer(self.state.raw(), 0, None);
        self.turn = 0;
    }
}

fn check_len(name: &str, axes: &str, buffer: &wgpu::Buffer, len: usize) -> Result<(), Error> {
    if buffer.size() == buffer::bytes(len) {
        return Ok(());
    }
    Err(Error::Shape {
        what: format!("buffer {name}"),
        expected: format!("[{axes}], {} bytes", buffer::bytes(len)),
        found: format!("{} bytes", buffer.size()),
    })
}
