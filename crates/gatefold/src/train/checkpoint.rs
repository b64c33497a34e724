//! Training written to a checkpoint and resumed from one.

use super::{State, Trainer};
use crate::network::OnDevice;
use crate::{Device, Error, Network, Refusal, block_on};
use gatefold_model::file::Checkpoint;
use gatefold_model::{NetworkConfig, Optimizer, Parameters, ScheduleState, TrainConfig};
use ndarray::ArrayD;
use std::collections::BTreeMap;

/// The key of a checkpoint's metadata that holds the state of the learning-rate schedule.
const SCHEDULE: &str = "schedule";
/// The key that holds the strategies of a GPU's scans, without which a resumed run would round differently.
#[cfg(feature = "gpu")]
const SCANS: &str = "scans";
/// The key of the kernels that products may take, for the same reason.
#[cfg(feature = "gpu")]
const PRODUCTS: &str = "products";

impl Trainer {
    /// Everything needed to resume from here, except the [`TrainConfig`], a changed learning rate, carried states,
    /// accumulated gradients and losses not yet taken; so call it right after an update. The average of the parameters,
    /// if there is one, is stored like a moment, as `average`. `seed` and `metadata` belong
    /// to the caller and are stored with it; the trainer adds the metadata keys `schedule` and, on
    /// a GPU, `scans`.
    ///
    /// # Errors
    /// On a GPU [`Error::NotFinite`], [`Error::Overflow`], after which the next call succeeds, and those of reading back.
    pub fn checkpoint(&self, seed: u64, metadata: BTreeMap<String, String>) -> Result<Checkpoint, Error> {
        block_on(self.checkpoint_async(seed, metadata))
    }

    /// [`Trainer::checkpoint`] for callers that must not block.
    ///
    /// # Errors
    /// Those of [`Trainer::checkpoint`].
    pub async fn checkpoint_async(
        &self,
        seed: u64,
        mut metadata: BTreeMap<String, String>,
    ) -> Result<Checkpoint, Error> {
        let mut optimizer = match (&self.network.on, &self.state) {
            (OnDevice::Cpu(network), State::Cpu(training)) => training.moments(network),
            #[cfg(feature = "gpu")]
            (OnDevice::Gpu(network), State::Gpu(training)) => {
                self.withheld(training.moments(network).await)?
            }
            #[cfg(feature = "gpu")]
            _ => unreachable!("training is on the network's device"),
        };
        if self.config.average.is_some() && self.has_begun_average() {
            optimizer.insert(Optimizer::AVERAGE.into(), self.averaged_parameters_async().await?);
        }
        if self.schedule != ScheduleState::default() {
            metadata.insert(SCHEDULE.into(), self.schedule.to_json());
        }
        #[cfg(feature = "gpu")]
        if let OnDevice::Gpu(network) = &self.network.on {
            metadata.insert(SCANS.into(), network.gpu.scans());
            metadata.insert(PRODUCTS.into(), network.gpu.products());
        }
        Ok(Checkpoint {
            config: self.network.config().clone(),
            parameters: self.network.parameters_async().await?,
            optimizer,
            step: self.steps(),
            seed,
            metadata,
        })
    }

    /// Resumes from a checkpoint. With the same configuration, batches and device, the parameters equal those of an
    /// uninterrupted run, bit for bit, and so does their average. If the checkpoint has no average, one begins with the
    /// next update. Other tensors, such as the best epoch's parameters, are ignored.
    ///
    /// # Errors
    /// [`Error::Refused`] if the checkpoint comes from another kind of optimiser; [`Error::Model`] for tensors that do
    /// not fit; those of [`Network::with_parameters`] and [`Trainer::new`].
    pub fn resume(device: &Device, checkpoint: &Checkpoint, config: TrainConfig) -> Result<Trainer, Error> {
        block_on(Trainer::resume_async(device, checkpoint, config))
    }

    /// [`Trainer::resume`] for callers that must not block.
    ///
    /// # Errors
    /// Those of [`Trainer::resume`].
    pub async fn resume_async(
        device: &Device,
        checkpoint: &Checkpoint,
        config: TrainConfig,
    ) -> Result<Trainer, Error> {
        let Checkpoint { config: network, parameters, optimizer, step, metadata, .. } = checkpoint;
        #[cfg(feature = "gpu")]
        let device = &as_before(device, metadata)?;
        let built = Network::with_parameters_async(device, network, parameters).await?;
        let mut trainer = Trainer::new_async(built, config).await?;
        let moments = moments_of(network, &trainer.config, optimizer)?;
        match (&trainer.network.on, &mut trainer.state) {
            (OnDevice::Cpu(_), State::Cpu(training)) => training.set_moments(&moments),
            #[cfg(feature = "gpu")]
            (OnDevice::Gpu(network), State::Gpu(training)) => {
                training.set_moments(network, &moments).await?;
            }
            #[cfg(feature = "gpu")]
            _ => unreachable!("training is on the network's device"),
        }
        if let Some(text) = metadata.get(SCHEDULE) {
            trainer.schedule = ScheduleState::from_json(text)?;
        }
        *trainer.steps.get_mut() = *step;
        trainer.resume_average(optimizer.get(Optimizer::AVERAGE)).await?;
        Ok(trainer)
    }
}

/// The device with the strategies for scans and the products that the checkpoint was made with, unless the caller chose.
#[cfg(feature = "gpu")]
fn as_before(device: &Device, metadata: &BTreeMap<String, String>) -> Result<Device, Error> {
    let Device::Gpu(gpu) = device else { return Ok(device.clone()) };
    let gpu = metadata.get(SCANS).map_or_else(|| Ok(gpu.clone()), |text| gpu.with_scans(text))?;
    let gpu = metadata.get(PRODUCTS).map_or_else(|| Ok(gpu.clone()), |text| gpu.with_products(text))?;
    Ok(Device::Gpu(gpu))
}

/// The optimiser's moments among the tensors of a checkpoint; zeros if a frozen parameter has none, since nothing reads
/// those.
fn moments_of(
    network: &NetworkConfig,
    config: &TrainConfig,
    tensors: &BTreeMap<String, Parameters>,
) -> Result<BTreeMap<String, Parameters>, Error> {
    let wanted = config.optimizer.moments();
    let is_moment = |name: &&String| Optimizer::MOMENTS.contains(&name.as_str());
    let found: Vec<&str> = tensors.keys().filter(is_moment).map(String::as_str).collect();
    if wanted != found {
        return Err(Error::refused(
            Refusal::Checkpoint,
            format!(
                "checkpoint: the optimizer needs the moments [{}], found [{}]; resume with the optimizer that wrote it",
                wanted.join(", "),
                found.join(", ")
            ),
        ));
    }
    let mut all = BTreeMap::new();
    for name in wanted {
        let mut moments = tensors[name].clone();
        for spec in network.parameter_specs().filter(|spec| config.rule(&spec.name).frozen) {
            if moments.get(&spec.name).is_none() {
                moments.insert(&spec.name, ArrayD::zeros(spec.shape.as_slice()));
            }
        }
        moments.check(network)?;
        all.insert(name.to_owned(), moments);
    }
    Ok(all)
}
