//! A network on a GPU: its parameters in one buffer, its plans made per shape and replayed.

use crate::buffer::DeviceBuffer;
use crate::gpu::Target;
use crate::layer::{self, Lowering, Purpose, Sequence};
use crate::memory::{self, MemoryNeed};
use crate::parameters::{ParameterLayout, ParameterSpans, VALUES};
use crate::plan::Plan;
use crate::run::Compiled;
use crate::{Error, Gpu, gpu_training};
use gatefold_model::{LayerKind, LstmGate, NetworkConfig, Parameters};
use ndarray::{Array3, ArrayView3};
use std::collections::HashMap;
use std::sync::Arc;

pub(crate) const INPUT: &str = "input";
pub(crate) const OUTPUT: &str = "output";

/// How many shapes a network keeps plans for.
const KEPT_PLANS: usize = 4;

/// Things made for a shape `(steps, batch)`, the least recently used going first.
#[derive(Debug)]
pub(crate) struct ByShape<T> {
    kept: Vec<((usize, usize), T)>,
}

impl<T> Default for ByShape<T> {
    fn default() -> Self {
        ByShape { kept: Vec::new() }
    }
}

impl<T> ByShape<T> {
    /// What is kept for that shape, or made now.
    pub(crate) fn get_or_make(
        &mut self,
        shape: (usize, usize),
        make: impl FnOnce() -> Result<T, Error>,
    ) -> Result<&mut T, Error> {
        match self.kept.iter().position(|(kept, _)| *kept == shape) {
            Some(at) => {
                let found = self.kept.remove(at);
                self.kept.push(found);
            }
            None => {
                // Room first: the memory of the one that goes may be what the new one needs.
                if self.kept.len() == KEPT_PLANS {
                    self.kept.remove(0);
                }
                self.kept.push((shape, make()?));
            }
        }
        Ok(&mut self.kept.last_mut().expect("one was just put there").1)
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
        own: &[&str],
    ) -> Result<Prepared, Error> {
        memory::check(plan, gpu.target())?;
        let mut kept = HashMap::new();
        for buffer in plan.buffers.iter().filter(|buffer| own.contains(&buffer.name.as_str())) {
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
    inference: ByShape<Prepared>,
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
            inference: ByShape::default(),
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
    }

    pub(crate) fn predict(&mut self, input: ArrayView3<f32>) -> Result<Array3<f32>, Error> {
        let (steps, batch, _) = input.dim();
        self.pack()?;
        let (gpu, config, shared) = (&self.gpu, &self.config, &mut self.shared);
        let prepared = self.inference.get_or_make((steps, batch), || {
            let plan = inference_plan(config, gpu.target(), steps, batch)?;
            Prepared::new(gpu, &plan, shared, &[INPUT, OUTPUT])
        })?;
        upload(&prepared.own[INPUT], input)?;
        prepared.compiled.submit()?;
        let shape = (config.output_steps(steps), batch, config.output());
        let values = prepared.own[OUTPUT].read(0, shape.0 * shape.1 * shape.2)?;
        Ok(Array3::from_shape_vec(shape, values).expect("the plan writes the whole output"))
    }

    /// Packs the weights where the parameters changed since.
    fn pack(&mut self) -> Result<(), Error> {
        if self.packed_is_current {
            return Ok(());
        }
        check_sizes(&self.config, self.gpu.target(), 1, 1)?;
        if self.packing.is_none() {
            let plan = packing_plan(&self.config, &self.layout);
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
        Ok(inference_plan(&self.config, self.gpu.target(), steps, batch)?.dispatches())
    }
}

/// Writes a `[T, B, F]` array into a buffer of that size.
pub(crate) fn upload(buffer: &DeviceBuffer, values: ArrayView3<f32>) -> Result<(), Error> {
    let contiguous = values.as_standard_layout();
    buffer.write(0, contiguous.as_slice().expect("the standard layout is contiguous"))
}

/// Weights into the order of the kernels.
fn packing_plan(config: &NetworkConfig, layout: &ParameterLayout) -> Plan {
    let mut plan = Plan::default();
    let spans = ParameterSpans::new(layout, |_| false);
    for layer in config.layers().iter().filter(|layer| layer.owner == layer.index) {
        layer::pack(&mut plan, layer, &spans, Purpose::Inference);
    }
    plan
}

/// That every parameter and what every layer holds of a sequence fit the device: asked before a plan is made, whose own
/// buffers would name less, and for sizes at which there is no counting elements.
pub(crate) fn check_sizes(
    config: &NetworkConfig,
    target: &Target,
    steps: usize,
    batch: usize,
) -> Result<(), Error> {
    let bytes = |factors: &[usize]| {
        factors.iter().fold(4u64, |product, &factor| product.saturating_mul(factor as u64))
    };
    for spec in config.parameter_specs() {
        target.check_size(&spec.name, bytes(&spec.shape))?;
    }
    target.check_size(INPUT, bytes(&[steps, batch, config.input()]))?;
    for layer in config.layers() {
        let label = layer.label();
        match layer.kind {
            LayerKind::Recurrent(gatefold_model::Recurrent { hidden, .. }) => {
                target
                    .check_size(&format!("{label}.gates"), bytes(&[steps, batch, hidden, LstmGate::COUNT]))?;
            }
            _ => target.check_size(&format!("{label}.y"), bytes(&[steps, batch, layer.output]))?,
        }
    }
    Ok(())
}

/// From `input` to `output`, saving nothing.
pub(crate) fn inference_plan(
    config: &NetworkConfig,
    target: &Target,
    steps: usize,
    batch: usize,
) -> Result<Plan, Error> {
    check_sizes(config, target, steps, batch)?;
    let mut plan = Plan::default();
    let layout = ParameterLayout::new(config);
    let spans = ParameterSpans::new(&layout, |_| false);
    let width = config.input();
    let mut x = Sequence { span: plan.given(INPUT, steps * batch * width), steps, batch, width };
    for layer in config.layers() {
        let mut low = Lowering { plan: &mut plan, target, parameters: &spans, purpose: Purpose::Inference };
        (x, _) = layer::forward(&mut low, layer, x, None)?;
    }
    let output = plan.given(OUTPUT, x.len());
    plan.copy(x.span, output);
    Ok(plan)
}

/// The schedule of a network for inputs of `steps` steps and `batch` rows, to read or to count: a training step with
/// its update where `training` says so.
///
/// # Errors
/// [`Error::Device`] where the device cannot walk a layer as large.
pub fn plan(
    config: &NetworkConfig,
    target: &Target,
    steps: usize,
    batch: usize,
    training: Option<&crate::TrainConfig>,
) -> Result<Plan, Error> {
    check_sizes(config, target, steps, batch)?;
    let layout = ParameterLayout::new(config);
    let Some(training) = training else {
        let mut plan = packing_plan(config, &layout);
        plan.append(inference_plan(config, target, steps, batch)?);
        return Ok(plan);
    };
    let mut plan = gpu_training::batch_plan(config, training, target, steps, batch)?;
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
    batch: usize,
    training: Option<&crate::TrainConfig>,
) -> Result<MemoryNeed, Error> {
    let plan = plan(config, target, steps, batch, training)?;
    memory::check(&plan, target)?;
    Ok(memory::need(&plan))
}
