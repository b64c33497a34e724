//! A network on a GPU: its parameters in one buffer, its plans made per shape and replayed.

use crate::buffer::DeviceBuffer;
use crate::cpu::check_unchanged;
use crate::gpu::Target;
use crate::gpu_pass::{self, D_DECODER_INPUT, D_INPUT, D_OUTPUT, OUTPUT};
use crate::layer::{self, Purpose};
use crate::lower::{Axis, DECODER_INPUT, From, INPUT, Part, Pass, Shape};
use crate::memory::{self, MemoryNeed};
use crate::network::Gradients;
use crate::parameters::{GRADIENTS, ParameterLayout, ParameterSpans, VALUES};
use crate::plan::Plan;
use crate::run::Compiled;
use crate::state_layout::{D_FINALS, D_STARTS, FINALS, STARTS, StateLayout};
use crate::{Error, Gpu, Sequences, gpu_training};
use gatefold_cpu::{Dropout, States};
use gatefold_model::{LayerKind, NetworkConfig, Parameters};
use ndarray::{Array2, Array3, ArrayView2, ArrayView3};
use std::collections::HashMap;
use std::sync::Arc;

/// How many passes a network keeps plans for.
const KEPT_PLANS: usize = 6;

/// Things made for a key, the least recently used going first.
#[derive(Debug)]
pub(crate) struct Kept<K, T> {
    kept: Vec<(K, T)>,
}

impl<K, T> Default for Kept<K, T> {
    fn default() -> Self {
        Kept { kept: Vec::new() }
    }
}

impl<K: PartialEq, T> Kept<K, T> {
    /// What is kept under that key, or made now.
    pub(crate) fn get_or_make(
        &mut self,
        key: K,
        make: impl FnOnce() -> Result<T, Error>,
    ) -> Result<&mut T, Error> {
        let found = match self.take(&key) {
            Some(found) => found,
            None => {
                // Room first: the memory of the one that goes may be what the new one needs.
                if self.kept.len() >= KEPT_PLANS {
                    self.kept.remove(0);
                }
                make()?
            }
        };
        self.kept.push((key, found));
        Ok(&mut self.kept.last_mut().expect("one was just put there").1)
    }

    /// Takes out what is kept under that key.
    pub(crate) fn take(&mut self, key: &K) -> Option<T> {
        let at = self.kept.iter().position(|(kept, _)| kept == key)?;
        Some(self.kept.remove(at).1)
    }

    /// Puts something back.
    pub(crate) fn put(&mut self, key: K, value: T) {
        if self.kept.len() >= KEPT_PLANS {
            self.kept.remove(0);
        }
        self.kept.push((key, value));
    }
}

/// A plan for a shape, with the buffers through which data goes in and out.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) compiled: Compiled,
    pub(crate) own: HashMap<String, Arc<DeviceBuffer>>,
}

impl Prepared {
    /// Compiles a plan; `own` names the given buffers that are made for it alone, the others are the network's.
    pub(crate) fn new(
        gpu: &Gpu,
        plan: &Plan,
        shared: &mut SharedBuffers,
        own: &[String],
    ) -> Result<Prepared, Error> {
        memory::check(plan, gpu.target())?;
        let mut kept = HashMap::new();
        for buffer in plan.buffers.iter().filter(|buffer| buffer.given && own.contains(&buffer.name)) {
            kept.insert(buffer.name.clone(), DeviceBuffer::new(gpu, &buffer.name, buffer.len)?);
        }
        let own = kept.iter().map(|(name, buffer)| (name.clone(), buffer.raw().clone())).collect();
        let given = shared.given(gpu, plan, &own)?;
        Ok(Prepared { compiled: Compiled::new(gpu, plan, &given)?, own: kept })
    }
}

/// The buffers that all plans of a network share, by name.
#[derive(Debug, Default)]
pub(crate) struct SharedBuffers(HashMap<String, Arc<DeviceBuffer>>);

impl SharedBuffers {
    /// The buffer of that name, made at the first call.
    pub(crate) fn get(&mut self, gpu: &Gpu, name: &str, len: usize) -> Result<Arc<DeviceBuffer>, Error> {
        if let Some(found) = self.0.get(name) {
            return Ok(Arc::clone(found));
        }
        let made = DeviceBuffer::new(gpu, name, len)?;
        self.0.insert(name.into(), Arc::clone(&made));
        Ok(made)
    }

    /// A buffer that was made elsewhere.
    pub(crate) fn put(&mut self, name: &str, buffer: &Arc<DeviceBuffer>) {
        self.0.insert(name.into(), Arc::clone(buffer));
    }

    /// The given buffers of a plan: the caller's by their names, the others shared.
    pub(crate) fn given(
        &mut self,
        gpu: &Gpu,
        plan: &Plan,
        callers: &HashMap<String, wgpu::Buffer>,
    ) -> Result<HashMap<String, wgpu::Buffer>, Error> {
        let mut given = HashMap::new();
        for declared in plan.buffers.iter().filter(|buffer| buffer.given) {
            let buffer = match callers.get(&declared.name) {
                Some(buffer) => buffer.clone(),
                None => self.get(gpu, &declared.name, declared.len)?.raw().clone(),
            };
            given.insert(declared.name.clone(), buffer);
        }
        Ok(given)
    }

    /// Lets buffers go, so that the next [`SharedBuffers::get`] makes them anew.
    pub(crate) fn forget(&mut self, names: &[&str]) {
        self.0.retain(|name, _| !names.contains(&name.as_str()));
    }
}

/// A network on a GPU.
#[derive(Debug)]
pub struct GpuNetwork {
    pub(crate) gpu: Gpu,
    pub(crate) config: NetworkConfig,
    pub(crate) layout: ParameterLayout,
    pub(crate) values: Arc<DeviceBuffer>,
    pub(crate) shared: SharedBuffers,
    packing: Option<Prepared>,
    packed_is_current: bool,
    /// Changes of the parameters so far.
    changes: u64,
    inference: Kept<Pass, Prepared>,
    /// Plans for training that no tape holds now.
    tapes: Kept<Pass, Prepared>,
}

/// A pass that was run forward, with everything that backward needs; it holds its own plan and buffers.
#[derive(Debug)]
pub(crate) struct GpuTape {
    prepared: Prepared,
    pass: Pass,
    /// The network's parameters: a tape belongs to the network that made it.
    values: Arc<DeviceBuffer>,
    changes: u64,
}

impl GpuNetwork {
    pub(crate) fn new(gpu: &Gpu, config: &NetworkConfig, parameters: &Parameters) -> Result<Self, Error> {
        parameters.check(config)?;
        let layout = ParameterLayout::new(config);
        let mut shared = SharedBuffers::default();
        let values = shared.get(gpu, VALUES, layout.len)?;
        values.write(0, &layout.flatten(parameters))?;
        Ok(GpuNetwork {
            gpu: gpu.clone(),
            config: config.clone(),
            layout,
            values,
            shared,
            packing: None,
            packed_is_current: false,
            changes: 0,
            inference: Kept::default(),
            tapes: Kept::default(),
        })
    }

    pub(crate) fn config(&self) -> &NetworkConfig {
        &self.config
    }

    pub(crate) fn parameters(&self) -> Result<Parameters, Error> {
        Ok(self.layout.unflatten(&self.values.read(0, self.layout.len)?))
    }

    pub(crate) fn set_parameters(&mut self, parameters: &Parameters) -> Result<(), Error> {
        parameters.check(&self.config)?;
        self.values.write(0, &self.layout.flatten(parameters))?;
        self.parameters_changed();
        Ok(())
    }

    /// The packed weights are no longer those of the parameters.
    pub(crate) fn parameters_changed(&mut self) {
        self.packed_is_current = false;
        self.changes += 1;
    }

    /// Outputs and, where they are wanted, final states; behind an encoder alone the decoder's initial states.
    pub(crate) fn forward(
        &mut self,
        part: Part,
        input: &Sequences,
        states: Option<&States>,
        finals: bool,
    ) -> Result<(Option<Array3<f32>>, Option<States>), Error> {
        self.pack()?;
        let from = if states.is_some() { From::Buffers } else { From::Layers };
        let pass = Pass { part, from, ..Pass::whole(Shape::of_part(part, input)) };
        let layout = StateLayout::new(&self.config, pass.shape.batch);
        let (gpu, config, shared) = (&self.gpu, &self.config, &mut self.shared);
        let prepared = self.inference.get_or_make(pass, || {
            let plan = gpu_pass::inference_plan(config, gpu.target(), &pass, true)?;
            Prepared::new(gpu, &plan, shared, &gpu_pass::own_buffers(config, &pass))
        })?;
        gpu_pass::upload(prepared, &pass, input, None)?;
        if let (Some(states), Some(buffer)) = (states, prepared.own.get(&layout.name(STARTS))) {
            buffer.write(0, &layout.flatten(states))?;
        }
        prepared.compiled.submit()?;
        let output = match prepared.own.get(OUTPUT) {
            Some(buffer) => Some(read_sequence(buffer, output_shape(config, &pass))?),
            None => None,
        };
        let states = match prepared.own.get(&layout.name(FINALS)).filter(|_| finals) {
            Some(buffer) => Some(layout.unflatten(&buffer.read(0, layout.len)?)),
            None => None,
        };
        Ok((output, states))
    }

    /// Runs forward and keeps what backward needs.
    pub(crate) fn forward_training(
        &mut self,
        input: &Sequences,
        states: Option<&States>,
        dropout: Option<Dropout>,
    ) -> Result<(GpuTape, Array3<f32>, States), Error> {
        let from = if states.is_some() { From::Buffers } else { From::Layers };
        let pass =
            Pass { from, dropout: dropout.is_some(), ..Pass::whole(Shape::of_part(Part::Whole, input)) };
        let layout = StateLayout::new(&self.config, pass.shape.batch);
        let prepared = match self.tapes.take(&pass) {
            Some(prepared) => prepared,
            None => {
                let plan = gpu_pass::tape_plan(&self.config, self.gpu.target(), &pass)?;
                Prepared::new(
                    &self.gpu,
                    &plan,
                    &mut self.shared,
                    &gpu_pass::own_buffers(&self.config, &pass),
                )?
            }
        };
        gpu_pass::upload(&prepared, &pass, input, dropout)?;
        if let (Some(states), Some(buffer)) = (states, prepared.own.get(&layout.name(STARTS))) {
            buffer.write(0, &layout.flatten(states))?;
        }
        prepared.compiled.submit_before_mark()?;
        let output = read_sequence(&prepared.own[OUTPUT], output_shape(&self.config, &pass))?;
        let finals = match prepared.own.get(&layout.name(FINALS)) {
            Some(buffer) => layout.unflatten(&buffer.read(0, layout.len)?),
            None => States::default(),
        };
        let values = Arc::clone(&self.values);
        Ok((GpuTape { prepared, pass, values, changes: self.changes }, output, finals))
    }

    /// The gradients of everything, from those of the outputs and of the final states.
    pub(crate) fn backward(
        &mut self,
        tape: GpuTape,
        d_output: ArrayView3<f32>,
        d_states: Option<&States>,
    ) -> Result<Gradients, Error> {
        let GpuTape { prepared, pass, values, changes } = tape;
        if !Arc::ptr_eq(&values, &self.values) {
            return Err(Error::Config("the tape is of another network; use the network that made it".into()));
        }
        check_unchanged(changes, self.changes)?;
        let (config, shape) = (&self.config, pass.shape);
        let layout = StateLayout::new(config, shape.batch);
        upload(&prepared.own[D_OUTPUT], d_output)?;
        if let Some(buffer) = prepared.own.get(&layout.name(D_FINALS)) {
            let flat = d_states.map_or_else(|| vec![0.0; layout.len], |states| layout.flatten(states));
            buffer.write(0, &flat)?;
        }
        prepared.compiled.submit_from_mark()?;
        let sequence = |name: &str, steps: usize, width: usize| match prepared.own.get(name) {
            Some(buffer) => read_sequence(buffer, (steps, shape.batch, width)),
            // Nothing flows there: from tokens, or from an input that the network does not use.
            None => Ok(Array3::zeros((steps, shape.batch, width))),
        };
        let input = sequence(D_INPUT, shape.input.steps, config.input())?;
        let decoder_input = match (shape.decoder, config.decoder()) {
            (Some(axis), Some(at)) => {
                Some(sequence(D_DECODER_INPUT, axis.steps, config.layers()[at].output)?)
            }
            _ => None,
        };
        let states = match prepared.own.get(&layout.name(D_STARTS)) {
            Some(buffer) => layout.unflatten(&buffer.read(0, layout.len)?),
            None => States::default(),
        };
        let parameters = self.layout.unflatten(&prepared.own[GRADIENTS].read(0, self.layout.len)?);
        self.tapes.put(pass, prepared);
        Ok(Gradients { parameters, input, decoder_input, states })
    }

    /// One step at a time: the plan of a step, which leaves the states where it found them.
    pub(crate) fn stream(&mut self, batch: usize) -> Result<GpuStream, Error> {
        let axis = Axis { steps: 1, lengths: false };
        let decoder = self.config.decoder();
        let pass = Pass {
            shape: Shape { batch, input: axis, decoder: decoder.map(|_| axis) },
            part: if decoder.is_some() { Part::Decoder } else { Part::Whole },
            from: From::Buffers,
            carry: Some(1),
            dropout: false,
        };
        let plan = gpu_pass::inference_plan(&self.config, self.gpu.target(), &pass, false)?;
        let own = gpu_pass::own_buffers(&self.config, &pass);
        let prepared = Prepared::new(&self.gpu, &plan, &mut self.shared, &own)?;
        let layout = StateLayout::new(&self.config, batch);
        Ok(GpuStream { prepared, pass, layout, values: Arc::clone(&self.values) })
    }

    /// One step of a stream.
    pub(crate) fn step(&mut self, stream: &GpuStream, input: ArrayView2<f32>) -> Result<Array2<f32>, Error> {
        self.pack()?;
        let own = &stream.prepared.own;
        let name = if stream.pass.part == Part::Decoder { DECODER_INPUT } else { INPUT };
        upload(&own[name], input.insert_axis(ndarray::Axis(0)))?;
        stream.prepared.compiled.submit()?;
        let (_, batch, width) = output_shape(&self.config, &stream.pass);
        let values = own[OUTPUT].read(0, batch * width)?;
        Ok(Array2::from_shape_vec((batch, width), values).expect("the plan writes the whole output"))
    }

    /// Packs the weights where the parameters changed since.
    fn pack(&mut self) -> Result<(), Error> {
        if self.packed_is_current {
            return Ok(());
        }
        check_parameters(&self.config, self.gpu.target())?;
        if self.packing.is_none() {
            let plan = packing_plan(&self.config, self.gpu.target(), &self.layout);
            self.packing = Some(Prepared::new(&self.gpu, &plan, &mut self.shared, &[])?);
        }
        if let Some(packing) = &self.packing {
            packing.compiled.submit()?;
        }
        self.packed_is_current = true;
        Ok(())
    }

    /// How many kernels a prediction of that shape starts, packing aside.
    ///
    /// # Errors
    /// Those of making the plan.
    pub fn inference_dispatches(&self, steps: usize, batch: usize) -> Result<usize, Error> {
        let pass = Pass::whole(Shape::plain(steps, batch));
        Ok(gpu_pass::inference_plan(&self.config, self.gpu.target(), &pass, false)?.dispatches())
    }
}

/// Steps of a network one at a time, its states on the device.
#[derive(Debug)]
pub(crate) struct GpuStream {
    prepared: Prepared,
    pass: Pass,
    layout: StateLayout,
    pub(crate) values: Arc<DeviceBuffer>,
}

impl GpuStream {
    pub(crate) fn states(&self) -> Result<States, Error> {
        match self.prepared.own.get(&self.layout.name(STARTS)) {
            Some(buffer) => Ok(self.layout.unflatten(&buffer.read(0, self.layout.len)?)),
            None => Ok(States { layers: Vec::new() }),
        }
    }

    pub(crate) fn set_states(&self, states: &States) -> Result<(), Error> {
        match self.prepared.own.get(&self.layout.name(STARTS)) {
            Some(buffer) => buffer.write(0, &self.layout.flatten(states)),
            None => Ok(()),
        }
    }
}

fn read_sequence(buffer: &DeviceBuffer, shape: (usize, usize, usize)) -> Result<Array3<f32>, Error> {
    let values = buffer.read(0, shape.0 * shape.1 * shape.2)?;
    Ok(Array3::from_shape_vec(shape, values).expect("the plan writes the whole sequence"))
}

/// The shape of what comes out of a pass.
fn output_shape(config: &NetworkConfig, pass: &Pass) -> (usize, usize, usize) {
    let Shape { batch, input, decoder } = pass.shape;
    (config.output_steps(decoder.unwrap_or(input).steps), batch, config.output())
}

/// Writes a `[T, B, F]` array into a buffer of that size.
pub(crate) fn upload(buffer: &DeviceBuffer, values: ArrayView3<f32>) -> Result<(), Error> {
    let contiguous = values.as_standard_layout();
    buffer.write(0, contiguous.as_slice().expect("the standard layout is contiguous"))
}

/// Weights into the order of the kernels.
fn packing_plan(config: &NetworkConfig, target: &Target, layout: &ParameterLayout) -> Plan {
    let mut plan = Plan::default();
    pack_all(&mut plan, target, config, &ParameterSpans::new(layout, |_| false), Purpose::Inference);
    plan
}

/// The weights of every layer that owns some.
pub(crate) fn pack_all(
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

fn bytes(factors: &[usize]) -> u64 {
    factors.iter().fold(4u64, |product, &factor| product.saturating_mul(factor as u64))
}

/// That every parameter fits the device, and all of them one buffer: asked before the host makes room for them.
pub(crate) fn check_parameters(config: &NetworkConfig, target: &Target) -> Result<(), Error> {
    config.parameter_specs().try_for_each(|spec| target.check_size(&spec.name, bytes(&spec.shape)))?;
    let sum = config.parameter_specs().fold(0u64, |sum, spec| sum.saturating_add(bytes(&spec.shape)));
    target.check_size(VALUES, sum)
}

/// That every parameter and what every layer holds of a sequence fit the device: asked before a plan is made, whose own
/// buffers would name less, and for sizes at which there is no counting elements.
pub(crate) fn check_sizes(config: &NetworkConfig, target: &Target, pass: &Pass) -> Result<(), Error> {
    check_parameters(config, target)?;
    let Shape { batch, input, decoder } = pass.shape;
    target.check_size(INPUT, bytes(&[input.steps, batch, config.input()]))?;
    let mut steps = input.steps;
    for layer in config.layers() {
        if let (LayerKind::Decoder { .. }, Some(axis)) = (layer.kind, decoder) {
            steps = axis.steps;
        }
        let label = layer.label();
        match layer.recurrent() {
            Some(recurrent) => {
                let lanes = layer::lanes(layer);
                let steps = layer.timeline.steps(steps);
                target
                    .check_size(&format!("{label}.gates"), bytes(&[steps, batch, recurrent.hidden, lanes]))?;
            }
            None => {
                let steps = layer.timeline.steps(steps);
                target.check_size(&format!("{label}.y"), bytes(&[steps, batch, layer.output]))?;
            }
        }
    }
    Ok(())
}

/// The schedule of a network for inputs of `steps` steps and `batch` rows, to read or to count: a training step with
/// its update where `training` says so. A decoder's input has `decoder_steps` steps, or as many as the encoder's.
///
/// # Errors
/// [`Error::Device`] where the device cannot walk a layer as large.
pub fn plan(
    config: &NetworkConfig,
    target: &Target,
    steps: usize,
    decoder_steps: Option<usize>,
    batch: usize,
    training: Option<&crate::TrainConfig>,
) -> Result<Plan, Error> {
    let mut shape = Shape::plain(steps, batch);
    shape.decoder = config.decoder().map(|_| Axis { steps: decoder_steps.unwrap_or(steps), ..shape.input });
    let pass = Pass::whole(shape);
    check_sizes(config, target, &pass)?;
    let layout = ParameterLayout::new(config);
    let Some(training) = training else {
        let mut plan = packing_plan(config, target, &layout);
        plan.append(gpu_pass::inference_plan(config, target, &pass, false)?);
        return Ok(plan);
    };
    let mut plan = gpu_training::batch_plan(config, training, target, &pass)?;
    plan.append(gpu_training::update_plan(config, training));
    Ok(plan)
}

/// What [`plan`] needs on the device.
///
/// # Errors
/// Those of [`plan`], and [`Error::TooLarge`] naming the tensor that the device has no room for.
pub fn memory_need(
    config: &NetworkConfig,
    target: &Target,
    steps: usize,
    decoder_steps: Option<usize>,
    batch: usize,
    training: Option<&crate::TrainConfig>,
) -> Result<MemoryNeed, Error> {
    let plan = plan(config, target, steps, decoder_steps, batch, training)?;
    memory::check(&plan, target)?;
    Ok(memory::need(&plan))
}
