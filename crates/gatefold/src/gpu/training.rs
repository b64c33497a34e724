//! Training on a GPU: a batch's gradient and an update as two plans. Losses and failures stay on the device until asked
//! for.

mod chunks;
mod in_chunks;

use super::network::{shape_of, upload};
use super::prepared::{Kept, Prepared, read_chunks, write_chunks};
use super::{Compiled, DeviceBuffer, GpuGradients, GpuNetwork, Steps};
use crate::Error;
use crate::batch::TrainBatch;
use chunks::Chunks;
use gatefold_model::{Optimizer, Parameters, States, TrainConfig};
use gatefold_schedule::pass::{self, InitialFrom, Part, Pass, PassPlan};
use gatefold_schedule::{
    Given, HYPER_LEN, LOSS_CAPACITY, LOSSES_AT, Plan, REPORT_LEN, STATUS_LEN, StateLayout, StateSet, Target,
};
use gatefold_shaders::params::{Hyper, Status};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

/// The most batches under way: enough to keep the device busy, but few, since each holds its inputs in memory.
const MAX_UNDER_WAY: usize = 3;

/// A batch's plan, and the row weights that its buffer holds.
#[derive(Debug)]
struct Batch {
    prepared: Prepared,
    weights: Vec<f32>,
}

/// The state of training on the device beside the network's parameters.
#[derive(Debug)]
pub(crate) struct GpuTraining {
    batches: Kept<Pass, Batch>,
    /// The same for batches in chunks, by the pass of the whole.
    chunks: Kept<Pass, Chunks>,
    update: Prepared,
    gradients: Vec<Arc<DeviceBuffer>>,
    moments: BTreeMap<&'static str, Vec<Arc<DeviceBuffer>>>,
    /// The moving average of the parameters; empty without one.
    average: Vec<Arc<DeviceBuffer>>,
    hyper: Arc<DeviceBuffer>,
    /// Status and losses.
    report: Arc<DeviceBuffer>,
    /// Batches that may not be done yet, the oldest first.
    under_way: VecDeque<wgpu::SubmissionIndex>,
    /// For each loss on the device, whether it completes that of its batch.
    waiting: Vec<bool>,
    /// The losses of a batch's chunks that were fetched so far, added up.
    begun: f64,
    /// Losses that were fetched and not yet taken.
    fetched: Vec<f32>,
}

impl GpuTraining {
    pub(crate) async fn new(network: &GpuNetwork, config: &TrainConfig) -> Result<Self, Error> {
        let (gpu, shared, layout) = (&network.gpu, &network.shared, &network.layout);
        // An earlier trainer may have left its own state under these names.
        shared.forget(|given| {
            matches!(
                given,
                Given::Gradients(_) | Given::Report | Given::Hyper | Given::Moment(..) | Given::Average(_)
            )
        });
        let mut moments = BTreeMap::new();
        for name in config.optimizer.moments() {
            moments.insert(name, shared.chunks(gpu, layout, |chunk| Given::Moment(name, chunk)).await?);
        }
        let average = match config.average {
            Some(_) => shared.chunks(gpu, layout, Given::Average).await?,
            None => Vec::new(),
        };
        let plan = pass::update(&network.config, config, gpu.target());
        let planned = PassPlan { plan, uploads: Vec::new(), reads: Vec::new() };
        let mut training = GpuTraining {
            gradients: shared.chunks(gpu, layout, Given::Gradients).await?,
            hyper: shared.get(gpu, &Given::Hyper, HYPER_LEN).await?,
            report: shared.get(gpu, &Given::Report, REPORT_LEN).await?,
            update: Prepared::new(gpu, &planned, shared).await?,
            moments,
            average,
            batches: Kept::default(),
            chunks: Kept::default(),
            under_way: VecDeque::new(),
            waiting: Vec::new(),
            begun: 0.0,
            fetched: Vec::new(),
        };
        if config.average.is_some() {
            training.run(network, &pass::start_average(layout), HashMap::new()).await?;
        }
        Ok(training)
    }

    /// Adds a batch's gradients and its loss.
    pub(crate) async fn accumulate(
        &mut self,
        network: &GpuNetwork,
        config: &TrainConfig,
        given: TrainBatch<'_, '_>,
    ) -> Result<(), Error> {
        let pass = Pass {
            initial: if given.carry.read { InitialFrom::Given } else { InitialFrom::Configured },
            carry: given.carry.keep,
            dropout: given.dropout.is_some(),
            ..Pass::whole(shape_of(Part::Whole, given.input))
        };
        if let Some(steps) = config.recompute.filter(|&steps| steps < given.input.steps()) {
            return self.accumulate_chunks(network, config, &given, (pass, steps)).await;
        }
        self.make_room_for_a_loss().await?;
        let TrainBatch { input, target, weights, dropout, .. } = given;
        let plan = |target: &Target| pass::batch(&network.config, config, target, &pass);
        let mut batch = match self.batches.take(&pass) {
            Some(batch) => batch,
            None => {
                let planned = plan(network.gpu.target())?;
                let prepared = Prepared::new(&network.gpu, &planned, &network.shared).await?;
                Batch { prepared, weights: Vec::new() }
            }
        };
        upload(&batch.prepared, input, dropout).await?;
        batch.prepared.write_sequence(&Given::Target, target).await?;
        if batch.weights != weights {
            batch.prepared.write(&Given::Weights, weights).await?;
            batch.weights = weights.to_vec();
        }
        let submitted = batch.prepared.run(&network.gpu, &network.shared, Steps::All, plan).await?;
        self.batches.put(pass, batch);
        self.waiting.push(true);
        self.went_under_way(network, submitted)
    }

    /// Fetches the losses if the device has no room for another.
    async fn make_room_for_a_loss(&mut self) -> Result<(), Error> {
        if self.waiting.len() == LOSS_CAPACITY {
            self.fetch_losses().await?;
        }
        Ok(())
    }

    /// Remembers a submission, and waits for the oldest one if there are too many.
    fn went_under_way(
        &mut self,
        network: &GpuNetwork,
        submitted: Option<wgpu::SubmissionIndex>,
    ) -> Result<(), Error> {
        self.under_way.extend(submitted);
        if self.under_way.len() > MAX_UNDER_WAY
            && let Some(oldest) = self.under_way.pop_front()
        {
            network.gpu.wait_for(oldest)?;
        }
        Ok(())
    }

    /// Adds the gradients of a tape without reading them back.
    pub(crate) async fn accumulate_gradients(
        &mut self,
        network: &GpuNetwork,
        config: &TrainConfig,
        gradients: &GpuGradients,
    ) -> Result<(), Error> {
        let (plan, sources) = pass::add_gradients(&network.layout, config);
        let mut given = HashMap::new();
        for (chunk, buffer) in gradients.buffers().iter().enumerate() {
            given.insert(sources(chunk), buffer.raw().clone());
        }
        self.run(network, &plan, given).await
    }

    /// Adds gradients held by the host.
    pub(crate) async fn accumulate_parameters(
        &mut self,
        network: &GpuNetwork,
        config: &TrainConfig,
        gradients: &Parameters,
    ) -> Result<(), Error> {
        let (plan, sources) = pass::add_gradients(&network.layout, config);
        let mut given = HashMap::new();
        let mut buffers = Vec::new();
        for (chunk, values) in network.layout.flatten(gradients).iter().enumerate() {
            let buffer = DeviceBuffer::with_values(&network.gpu, "given gradients", values).await?;
            given.insert(sources(chunk), buffer.raw().clone());
            buffers.push(buffer);
        }
        self.run(network, &plan, given).await
    }

    async fn run(
        &mut self,
        network: &GpuNetwork,
        plan: &Plan,
        given: HashMap<Given, wgpu::Buffer>,
    ) -> Result<(), Error> {
        let given = network.shared.given(&network.gpu, plan, given).await?;
        let submitted = Compiled::new(&network.gpu, plan, &given).await?.submit().await?;
        self.under_way.extend(submitted);
        Ok(())
    }

    /// Clips the gradients, updates the parameters with them, and clears them. `step` counts updates from 1; the new
    /// parameters have a weight of `average_weight` in their moving average, if there is one.
    pub(crate) async fn update(
        &mut self,
        network: &GpuNetwork,
        config: &TrainConfig,
        rate: f32,
        average_weight: f32,
        step: u64,
    ) -> Result<(), Error> {
        let correction = |beta: f32| (1.0 - f64::from(beta).powf(step as f64)) as f32;
        let (correction1, correction2) = match config.optimizer {
            Optimizer::Sgd { .. } | Optimizer::RmsProp { .. } => (1.0, 1.0),
            Optimizer::Adam { beta1, beta2, .. } | Optimizer::AdamW { beta1, beta2, .. } => {
                (correction(beta1), correction(beta2))
            }
        };
        let step = u32::try_from(step).unwrap_or(u32::MAX);
        let clip_value = config.clip_value.unwrap_or(0.0);
        let hyper = Hyper {
            step,
            learning_rate: rate,
            correction1,
            correction2,
            clip_value,
            average_weight,
            ..Default::default()
        };
        self.hyper.write(0, &[hyper]).await?;
        self.update.compiled.submit().await?;
        network.parameters_changed();
        Ok(())
    }

    pub(crate) async fn take_losses(&mut self, network: &GpuNetwork) -> Result<Vec<f32>, Error> {
        let status = self.fetch_losses().await?;
        self.check_status(network, status).await?;
        Ok(std::mem::take(&mut self.fetched))
    }

    /// Reads the report back: notes the losses, and returns the status.
    async fn fetch_losses(&mut self) -> Result<Status, Error> {
        if self.waiting.is_empty() {
            return self.read_status().await;
        }
        let found = self.report.read(0, LOSSES_AT + 1 + self.waiting.len()).await?;
        for (loss, completes) in found[LOSSES_AT + 1..].iter().zip(self.waiting.drain(..)) {
            self.begun += f64::from(*loss);
            if completes {
                self.fetched.push(std::mem::take(&mut self.begun) as f32);
            }
        }
        self.report.write(LOSSES_AT, &[0u32]).await?;
        Ok(status_in(&found))
    }

    async fn read_status(&self) -> Result<Status, Error> {
        Ok(status_in(&self.report.read(0, STATUS_LEN).await?))
    }

    /// Checks that the device remembers no failure. An overflow is reported once; from then on updates are made again.
    async fn check_finite(&self, network: &GpuNetwork) -> Result<(), Error> {
        let status = self.read_status().await?;
        self.check_status(network, status).await
    }

    async fn check_status(&self, network: &GpuNetwork, status: Status) -> Result<(), Error> {
        if status.overflow_step != 0 {
            self.report.write(0, &[Status::default()]).await?;
            let parameter = network.layout.in_block(status.overflow_block).name.clone();
            return Err(Error::Overflow { step: u64::from(status.overflow_step), parameter });
        }
        if status.failed_step == 0 {
            return Ok(());
        }
        let layer = network.config.layers()[status.failed_layer as usize].place();
        Err(Error::NotFinite { step: u64::from(status.failed_step), layer })
    }

    pub(crate) async fn gradients(&self, network: &GpuNetwork) -> Result<Parameters, Error> {
        Ok(network.layout.unflatten(&read_chunks(&network.layout, &self.gradients).await?))
    }

    pub(crate) async fn moments(&self, network: &GpuNetwork) -> Result<BTreeMap<String, Parameters>, Error> {
        self.check_finite(network).await?;
        let mut found = BTreeMap::new();
        for (name, buffers) in &self.moments {
            let flat = read_chunks(&network.layout, buffers).await?;
            found.insert(name.to_string(), network.layout.unflatten(&flat));
        }
        Ok(found)
    }

    /// Restores every moment of the optimiser, by its name in a checkpoint.
    pub(crate) async fn set_moments(
        &mut self,
        network: &GpuNetwork,
        moments: &BTreeMap<String, Parameters>,
    ) -> Result<(), Error> {
        for (name, buffers) in &self.moments {
            write_chunks(buffers, &network.layout.flatten(&moments[*name])).await?;
        }
        Ok(())
    }

    /// The moving average of the parameters; frozen ones as they were when training began.
    pub(crate) async fn average(&self, network: &GpuNetwork) -> Result<Parameters, Error> {
        Ok(network.layout.unflatten(&read_chunks(&network.layout, &self.average).await?))
    }

    /// Restores the moving average.
    pub(crate) async fn set_average(
        &mut self,
        network: &GpuNetwork,
        average: &Parameters,
    ) -> Result<(), Error> {
        write_chunks(&self.average, &network.layout.flatten(average)).await
    }

    /// Sets the states that the next batch of `batch` rows starts from.
    pub(crate) async fn set_states(
        &mut self,
        network: &GpuNetwork,
        states: &States,
        batch: usize,
    ) -> Result<(), Error> {
        let layout = StateLayout::new(&network.config, batch);
        if layout.len == 0 {
            return Ok(());
        }
        let buffer = network.shared.get(&network.gpu, &layout.given(StateSet::Initial), layout.len).await?;
        buffer.write(0, &layout.flatten(states)).await
    }
}

/// The status at the head of a report.
fn status_in(report: &[f32]) -> Status {
    bytemuck::cast_slice(&report[..STATUS_LEN])[0]
}
