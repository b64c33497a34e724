//! The engine inside another program: layers on buffers of a wgpu device that the caller owns.
//!
//! Calls record into the caller's [`wgpu::CommandEncoder`]; nothing is submitted and the queue is not written to, so
//! they stand between the caller's own passes; encoders are submitted in the order in which calls were recorded. Every
//! buffer is one of the layer's device, holds `f32`, but for lengths, which are `u32`, and needs the usages `STORAGE`,
//! `COPY_SRC` and `COPY_DST`.
//!
//! Shapes: T steps, B rows, I inputs, H units, R values of h (H, or what it is projected to), k slots of h (1, or the reach
//! of a skip connection), O outputs of the layer. What inputs and gradients hold behind a row's end changes nothing.

use crate::buffer::{self, DeviceBuffer};
use crate::gpu_network::{SharedBuffers, check_parameters, check_sizes};
use crate::layer::recurrent::{self, Start};
use crate::layer::{self, Lowering, Purpose, Sequence as Values, scan};
use crate::lower::{Pass, Shape};
use crate::parameters::{GRADIENTS, ParameterLayout, ParameterSpans, VALUES};
use crate::plan::{Plan, Span};
use crate::run::Compiled;
use crate::{Error, Gpu};
use gatefold_model::{Direction, InitialState, Layer, LayerConfig, NetworkConfig, Parameters, Recurrent};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What the engine may do with a caller's buffer; which of it depends on the layer.
const USAGES: wgpu::BufferUsages =
    wgpu::BufferUsages::STORAGE.union(wgpu::BufferUsages::COPY_SRC).union(wgpu::BufferUsages::COPY_DST);

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

/// A recurrent layer of any cell on the caller's device.
///
/// Its parameters lie in a buffer that the caller may read and write; after a change, [`RecurrentLayer::pack`] must be
/// recorded before the next forward call; those that it was made with need no call. Backward adds to the gradients;
/// [`RecurrentLayer::clear_gradients`] zeroes them.
#[derive(Debug)]
pub struct RecurrentLayer {
    gpu: Gpu,
    config: NetworkConfig,
    layout: ParameterLayout,
    shared: SharedBuffers,
    values: Arc<DeviceBuffer>,
    gradients: Arc<DeviceBuffer>,
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
    /// Packs for a sequence or a stream where nobody did: each does so for itself, once, whichever is submitted first.
    fn pack_first(&self, packed: &AtomicBool, encoder: &mut wgpu::CommandEncoder) {
        if !packed.swap(true, Ordering::Relaxed) && !self.packed.load(Ordering::Relaxed) {
            self.packing.record(encoder);
        }
    }
}

/// The states of one direction, or their gradients.
#[derive(Clone, Debug)]
pub struct StateBuffers {
    /// `[k, B, R]`, the slot of the smallest t first.
    pub h: wgpu::Buffer,
    /// `[B, H]`, for an LSTM.
    pub c: Option<wgpu::Buffer>,
    /// `[B, O]`, for a layer whose output is fed back; without it zeros.
    pub y: Option<wgpu::Buffer>,
}

/// The buffers of a forward call.
#[derive(Clone, Debug)]
pub struct ForwardBuffers {
    /// `[T, B, I]`, read.
    pub input: wgpu::Buffer,
    /// `[B]` of `u32`, read: how many steps each row has; without it all T.
    pub lengths: Option<wgpu::Buffer>,
    /// The states in front of the first step, for each direction, read; none for those that the layer itself says.
    pub start: Vec<StateBuffers>,
    /// `[T, B, O]`, written; zero at steps that a row does not have.
    pub output: wgpu::Buffer,
    /// The states behind each row's last step, for each direction, written; none where nobody wants them.
    pub last: Vec<StateBuffers>,
}

/// The buffers of a backward call.
#[derive(Clone, Debug)]
pub struct BackwardBuffers {
    /// `[T, B, O]`, read: the gradient of the outputs.
    pub d_output: wgpu::Buffer,
    /// The gradient of the last states, read; none for zeros.
    pub d_last: Vec<StateBuffers>,
    /// The gradient of the start, written; none where nobody wants it.
    pub d_start: Vec<StateBuffers>,
    /// `[T, B, I]`, written: the gradient of the inputs; none where nobody wants it.
    pub d_input: Option<wgpu::Buffer>,
}

/// A sequence of fixed shape through a [`RecurrentLayer`], forward and, if so prepared, backward.
#[derive(Debug)]
pub struct Sequence {
    compiled: Compiled,
    /// Steps and kernels of the part that goes forward.
    forward: (usize, usize),
    steps: usize,
    weights: Arc<Weights>,
    packed: AtomicBool,
    /// Whether forward was recorded, and no backward since.
    saved: AtomicBool,
}

/// One time step at a time, the states of many streams kept on the device.
#[derive(Debug)]
pub struct Stream {
    /// Used through the bind groups.
    _buffers: Vec<Arc<DeviceBuffer>>,
    start: Compiled,
    /// h goes round a ring of slots: a plan for each place in it.
    steps: Vec<Compiled>,
    turn: usize,
    fresh: bool,
    weights: Arc<Weights>,
    packed: AtomicBool,
}

impl RecurrentLayer {
    /// A layer of `input` values a step; the seed gives the parameters of [`Parameters::initial`].
    ///
    /// # Errors
    /// [`Error::Model`] for a description that makes no sense, [`Error::Config`] for one of another kind of layer,
    /// [`Error::TooLarge`] and [`Error::OutOfMemory`] for what the device cannot hold.
    pub fn new(
        gpu: &Gpu,
        input: usize,
        config: impl Into<LayerConfig>,
        seed: u64,
    ) -> Result<RecurrentLayer, Error> {
        let config = NetworkConfig::new(input, [config.into()])?;
        check_parameters(&config, gpu.target())?;
        RecurrentLayer::with_parameters(gpu, &config, &Parameters::initial(&config, seed)?)
    }

    /// A layer with given parameters, for a network of one recurrent layer.
    ///
    /// # Errors
    /// Those of [`RecurrentLayer::new`], and [`Error::Model`] for parameters of another shape.
    pub fn with_parameters(
        gpu: &Gpu,
        config: &NetworkConfig,
        parameters: &Parameters,
    ) -> Result<RecurrentLayer, Error> {
        if config.layers().len() != 1 || config.layers()[0].recurrent().is_none() {
            return Err(Error::Config(format!("expected a network of one recurrent layer, found {config}")));
        }
        parameters.check(config)?;
        let layout = ParameterLayout::new(config);
        let mut shared = SharedBuffers::default();
        let values = DeviceBuffer::with_values(gpu, VALUES, &layout.flatten(parameters))?;
        shared.put(VALUES, &values);
        let gradients = shared.get(gpu, GRADIENTS, layout.len)?;
        let spans = ParameterSpans::new(&layout, |_| false);
        let mut plan = Plan::default();
        layer::pack(&mut plan, gpu.target(), &config.layers()[0], &spans, Purpose::Training);
        let packing = Compiled::tried(gpu, &plan, &shared.given(gpu, &plan, &HashMap::new())?)?;
        Ok(RecurrentLayer {
            gpu: gpu.clone(),
            config: config.clone(),
            layout,
            shared,
            values,
            gradients,
            weights: Arc::new(Weights { packing, packed: AtomicBool::new(false) }),
        })
    }

    /// Records the reordering of the weights for the kernels, after every change of the parameters.
    pub fn pack(&self, encoder: &mut wgpu::CommandEncoder) {
        self.weights.packing.record(encoder);
        self.weights.packed.store(true, Ordering::Relaxed);
    }

    /// Records zeros into every gradient.
    pub fn clear_gradients(&self, encoder: &mut wgpu::CommandEncoder) {
        encoder.clear_buffer(self.gradients.raw(), 0, None);
    }

    /// Where a parameter lies, such as `rnn0.weight_hh_l0`; none by another name.
    pub fn parameter(&self, name: &str) -> Option<ParameterSlice> {
        self.slice(name, &self.values)
    }

    /// Where a parameter's gradient lies; none by another name.
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

    fn layer(&self) -> Layer {
        self.config.layers()[0].clone()
    }

    /// None of the caller's buffers so far, and the layer's own, which are none of them.
    fn callers<'a>(&self, layer: &'a Layer, batch: usize) -> Callers<'a> {
        let own = [(VALUES, &self.values), (GRADIENTS, &self.gradients)];
        let buffers = own.map(|(name, buffer)| (name.into(), buffer.raw().clone())).into();
        Callers { layer, batch, buffers }
    }

    fn check_shape(&self, steps: usize, batch: usize) -> Result<(), Error> {
        if steps == 0 || batch == 0 {
            return Err(Error::Shape {
                what: "sequence".into(),
                expected: "at least one step and one row".into(),
                found: format!("steps {steps}, batch {batch}"),
            });
        }
        check_sizes(&self.config, self.gpu.target(), &Pass::whole(Shape::plain(steps, batch)))
    }

    /// Prepares calls for sequences of `steps` steps and `batch` rows on these buffers. With `backward` forward saves
    /// what backward needs.
    ///
    /// # Errors
    /// [`Error::Shape`] for a buffer of another size or states that do not fit the layer; [`Error::Config`] for a buffer
    /// in two places; [`Error::TooLarge`], [`Error::OutOfMemory`] and [`Error::Device`] for what the device cannot do.
    pub fn sequence(
        &mut self,
        steps: usize,
        batch: usize,
        forward: &ForwardBuffers,
        backward: Option<&BackwardBuffers>,
    ) -> Result<Sequence, Error> {
        self.check_shape(steps, batch)?;
        let purpose = if backward.is_some() { Purpose::Training } else { Purpose::Inference };
        let (layer, target) = (self.layer(), self.gpu.target().clone());
        let spans = ParameterSpans::new(&self.layout, |_| true);
        let mut plan = Plan::default();
        let mut callers = self.callers(&layer, batch);
        let (input, output) = (layer.input, layer.output);
        let values = |span, width| Values { span, steps, batch, width };
        let of_step = |what, width| [("steps", steps), ("batch", batch), (what, width)];
        let x = callers.take(&mut plan, "input", &forward.input, &of_step("input", input))?;
        let mut x = values(x, input);
        let lengths = match &forward.lengths {
            Some(lengths) => Some(callers.take(&mut plan, "lengths", lengths, &[("batch", batch)])?),
            None => None,
        };
        let start = callers.states(&mut plan, "start", &forward.start)?;
        let y = callers.take(&mut plan, "output", &forward.output, &of_step("output", output))?;
        let last = callers.states(&mut plan, "last", &forward.last)?;
        if let (Some(lengths), true) = (lengths, backward.is_some()) {
            // Padded input takes part in products over all steps, times a gradient of zero: it must be finite.
            let padded = x.span;
            x.span = plan.scratch(format!("{}.x", layer.label()), x.len());
            plan.copy(padded, x.span);
            layer::mask_rows(&mut plan, x, lengths);
        }
        let mut low =
            Lowering { plan: &mut plan, target: &target, parameters: &spans, purpose, drops: false };
        let starts = if start.is_empty() {
            recurrent::initial_starts(&mut low, &layer, batch)
        } else {
            start.iter().copied().map(Some).collect()
        };
        let tape = recurrent::forward(&mut low, &layer, x, lengths, &starts)?;
        low.plan.copy(tape.output().span, y);
        if !last.is_empty() {
            let finals = recurrent::finals(&mut low, &tape);
            finals.iter().zip(&last).for_each(|(found, to)| copy_states(low.plan, found, to));
        }
        let forward = (low.plan.steps.len(), low.plan.dispatches());

        if let Some(backward) = backward {
            let d_y = callers.take(low.plan, "d_output", &backward.d_output, &of_step("output", output))?;
            let d_last = callers.states(low.plan, "d_last", &backward.d_last)?;
            let d_start = callers.states(low.plan, "d_start", &backward.d_start)?;
            let d_finals = match d_last.len() {
                0 => vec![None; tape.scans.len()],
                _ => d_last.iter().copied().map(Some).collect(),
            };
            let recurrent = layer.recurrent().expect("it was made with a recurrent layer");
            let learns = start.is_empty() && recurrent.initial == InitialState::Learned;
            let wants = (backward.d_input.is_some(), learns || !d_start.is_empty());
            let d_y = Some(values(d_y, output));
            let (d_x, found) =
                recurrent::backward(&mut low, &layer, &tape, d_y, &d_finals, wants.0, wants.1)?;
            if learns {
                recurrent::add_start_gradients(&mut low, &layer, &found)?;
            }
            for (found, to) in found.iter().flatten().zip(&d_start) {
                copy_states(low.plan, found, to);
            }
            if let (Some(d_x), Some(buffer)) = (d_x, &backward.d_input) {
                let d_input = callers.take(low.plan, "d_input", buffer, &of_step("input", input))?;
                low.plan.copy(d_x.span, d_input);
            }
        }
        let given = self.shared.given(&self.gpu, &plan, &callers.buffers)?;
        Ok(Sequence {
            compiled: Compiled::tried(&self.gpu, &plan, &given)?,
            forward,
            steps: plan.steps.len(),
            weights: Arc::clone(&self.weights),
            packed: AtomicBool::new(false),
            saved: AtomicBool::new(false),
        })
    }

    /// Prepares steps of `batch` streams: each reads `input [B, I]` and leaves the layer's output in `output [B, O]`. It
    /// starts from the states that the layer itself says.
    ///
    /// # Errors
    /// Those of [`RecurrentLayer::sequence`]; [`Error::Config`] for a layer that goes backward in time.
    pub fn stream(
        &mut self,
        batch: usize,
        input: &wgpu::Buffer,
        output: &wgpu::Buffer,
    ) -> Result<Stream, Error> {
        self.check_shape(1, batch)?;
        let (layer, target) = (self.layer(), self.gpu.target().clone());
        let recurrent = layer.recurrent().expect("it was made with a recurrent layer");
        if recurrent.direction != Direction::Forward {
            return Err(Error::Config(format!(
                "{} reads the end of a sequence first; expected direction forward for a stream",
                layer.place()
            )));
        }
        let form = recurrent::forms(&layer)[0];
        let spans = ParameterSpans::new(&self.layout, |_| false);
        let none_yet = self.callers(&layer, batch);
        let (gpu, shared) = (&self.gpu, &mut self.shared);
        let mut own: HashMap<String, Arc<DeviceBuffer>> = HashMap::new();
        // Of every plan: the same buffers, those of the state and of a step's gates among them.
        let mut compile = |record: &mut dyn FnMut(&mut Lowering<'_>, &scan::Scan, Span)| {
            let mut plan = Plan::default();
            let mut callers = none_yet.clone();
            let of_step = |what, width| [("batch", batch), (what, width)];
            let x = callers.take(&mut plan, "input", input, &of_step("input", layer.input))?;
            let y = callers.take(&mut plan, "output", output, &of_step("output", layer.output))?;
            let purpose = Purpose::Inference;
            let mut low =
                Lowering { plan: &mut plan, target: &target, parameters: &spans, purpose, drops: false };
            let x = Values { span: x, steps: 1, batch, width: layer.input };
            let scan = scan::Scan::declare_ring(&mut low, &layer, form, x);
            record(&mut low, &scan, y);
            for declared in plan.buffers.iter().filter(|buffer| buffer.given) {
                if declared.name.starts_with(&scan.label) && !own.contains_key(&declared.name) {
                    let made = DeviceBuffer::new(gpu, &declared.name, declared.len)?;
                    own.insert(declared.name.clone(), made);
                }
            }
            callers.buffers.extend(own.iter().map(|(name, buffer)| (name.clone(), buffer.raw().clone())));
            Compiled::tried(gpu, &plan, &shared.given(gpu, &plan, &callers.buffers)?)
        };
        let start = compile(&mut |low, scan, _| {
            let starts = recurrent::initial_starts(low, &layer, batch);
            scan::start(low, scan, starts[0].as_ref());
        })?;
        let mut steps = Vec::new();
        for turn in 0..=form.history() {
            let mut refused = Ok(());
            steps.push(compile(&mut |low, scan, y| {
                let stepped = scan::stream_step(low, &layer, scan, turn);
                refused = stepped.map(|slot| scan::copy_output(low, scan, slot, y));
            })?);
            refused?;
        }
        Ok(Stream {
            _buffers: own.into_values().collect(),
            start,
            steps,
            turn: 0,
            fresh: true,
            weights: Arc::clone(&self.weights),
            packed: AtomicBool::new(false),
        })
    }
}

/// The caller's buffers by their names in a plan.
#[derive(Clone)]
struct Callers<'a> {
    layer: &'a Layer,
    batch: usize,
    buffers: HashMap<String, wgpu::Buffer>,
}

impl Callers<'_> {
    /// Declares a buffer that must have this shape and every usage, and be no other's.
    fn take(
        &mut self,
        plan: &mut Plan,
        name: &str,
        buffer: &wgpu::Buffer,
        shape: &[(&str, usize)],
    ) -> Result<Span, Error> {
        let len = shape.iter().map(|(_, len)| len).product();
        if buffer.size() != buffer::bytes(len) {
            let axes: Vec<String> = shape.iter().map(|(axis, len)| format!("{axis} {len}")).collect();
            return Err(Error::Shape {
                what: format!("buffer {name}"),
                expected: format!("[{}], {} bytes", axes.join(", "), buffer::bytes(len)),
                found: format!("{} bytes", buffer.size()),
            });
        }
        if !buffer.usage().contains(USAGES) {
            return Err(Error::Config(format!(
                "buffer {name}: expected the usages {}, found {}; create it with all of them",
                named(USAGES),
                named(buffer.usage())
            )));
        }
        if let Some((other, _)) = self.buffers.iter().find(|(_, taken)| *taken == buffer) {
            return Err(Error::Config(format!(
                "buffer {name} is the same as buffer {other}; expected a buffer for each"
            )));
        }
        self.buffers.insert(name.into(), buffer.clone());
        Ok(plan.given(name, len))
    }

    /// The states of every direction, or none.
    fn states(&mut self, plan: &mut Plan, name: &str, states: &[StateBuffers]) -> Result<Vec<Start>, Error> {
        let recurrent: Recurrent = *self.layer.recurrent().expect("it was made with a recurrent layer");
        let scans = recurrent.direction.scans().len();
        if states.is_empty() {
            return Ok(Vec::new());
        }
        let refuse = |expected: String, found: String| {
            Err(Error::Shape { what: format!("states {name}"), expected, found })
        };
        if states.len() != scans {
            return refuse(format!("{scans}, one for each direction"), states.len().to_string());
        }
        let mut found = Vec::new();
        for (at, state) in states.iter().enumerate() {
            let has = |present: bool| if present { "c" } else { "no c" };
            let (wanted, given) = (recurrent.cell.has_state(), state.c.is_some());
            if wanted != given {
                return refuse(format!("h and {}", has(wanted)), format!("h and {}", has(given)));
            }
            if state.y.is_some() && recurrent.feedback.is_none() {
                return refuse("no y, since no output is fed back".into(), "y".into());
            }
            let (batch, width) = (self.batch, recurrent.recurrent_width());
            let shape = [("slots", recurrent.history()), ("batch", batch), ("h", width)];
            let h = self.take(plan, &format!("{name}{at}.h"), &state.h, &shape)?;
            let mut part = |what: &str, buffer: &Option<wgpu::Buffer>, width: usize| match buffer {
                Some(buffer) => {
                    let shape = [("batch", batch), (what, width)];
                    self.take(plan, &format!("{name}{at}.{what}"), buffer, &shape).map(Some)
                }
                None => Ok(None),
            };
            let c = part("c", &state.c, recurrent.hidden)?;
            let y = part("y", &state.y, recurrent.scan_width())?;
            found.push(Start { h, c, y });
        }
        Ok(found)
    }
}

/// `COPY_SRC, COPY_DST, STORAGE`
fn named(usages: wgpu::BufferUsages) -> String {
    let names: Vec<&str> = usages.iter_names().map(|(name, _)| name).collect();
    if names.is_empty() { "none".into() } else { names.join(", ") }
}

fn copy_states(plan: &mut Plan, found: &Start, to: &Start) {
    let pairs = [(Some(found.h), Some(to.h)), (found.c, to.c), (found.y, to.y)];
    for (found, to) in pairs {
        if let (Some(found), Some(to)) = (found, to) {
            plan.copy(found, to);
        }
    }
}

impl Sequence {
    /// Records the whole sequence forward.
    pub fn forward(&self, encoder: &mut wgpu::CommandEncoder) {
        self.weights.pack_first(&self.packed, encoder);
        self.saved.store(true, Ordering::Relaxed);
        self.compiled.record_range(0..self.forward.0, encoder);
    }

    /// Records the whole sequence backward, behind a forward call of the same sequence: once for each, since it
    /// replaces the saved gates by their gradients. Those of the parameters are added to what is there.
    ///
    /// # Errors
    /// [`Error::Config`] if the sequence was prepared without buffers for it, or no forward was recorded since the last.
    pub fn backward(&self, encoder: &mut wgpu::CommandEncoder) -> Result<(), Error> {
        if self.forward.0 == self.steps {
            return Err(Error::Config(
                "this sequence was prepared for forward alone; give RecurrentLayer::sequence the buffers of backward"
                    .into(),
            ));
        }
        if !self.saved.swap(false, Ordering::Relaxed) {
            return Err(Error::Config(
                "backward replaces what forward saved; expected a forward call in front of each backward, found \
                 none; record Sequence::forward again"
                    .into(),
            ));
        }
        self.compiled.record_range(self.forward.0..self.steps, encoder);
        Ok(())
    }

    /// How many kernels forward and backward start, backward 0 without buffers for it.
    pub fn dispatches(&self) -> (usize, usize) {
        (self.forward.1, self.compiled.dispatches() - self.forward.1)
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
        self.steps[self.turn].record(encoder);
        self.turn = (self.turn + 1) % self.steps.len();
    }

    /// Records the return to the initial states.
    pub fn reset(&mut self, encoder: &mut wgpu::CommandEncoder) {
        self.start.record(encoder);
        (self.turn, self.fresh) = (0, false);
    }
}
