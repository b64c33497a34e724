//! The moving average of the parameters in training.

use super::{State, Trainer};
use crate::network::OnDevice;
use crate::{Error, Refusal, block_on};
use gatefold_model::Parameters;

impl Trainer {
    /// The exponential moving average of the parameters that [`TrainConfig::average`](crate::TrainConfig::average) asks
    /// for, to make a network or a model of. Before the first update these are the parameters as they were when training
    /// began. Frozen parameters are those of the network.
    ///
    /// ```
    /// use gatefold::{Device, Network, NetworkConfig, TrainConfig, Trainer};
    /// use ndarray::Array3;
    ///
    /// let (device, config) = (Device::cpu()?, NetworkConfig::with_input(2).gru(8).last_step().dense(1).build()?);
    /// let options = TrainConfig::new().average(Some(0.99));
    /// let mut trainer = Trainer::new(Network::new(&device, &config, 7)?, options)?;
    /// for _ in 0..5 {
    ///     trainer.step(&Array3::ones((5, 4, 2)), &Array3::zeros((1, 4, 1)))?;
    /// }
    /// let averaged = Network::with_parameters(&device, &config, &trainer.averaged_parameters()?)?;
    /// assert_ne!(averaged.parameters()?, trainer.network().parameters()?);
    /// # Ok::<(), gatefold::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Refused`] if the options ask for no average; on a GPU those of reading back.
    pub fn averaged_parameters(&self) -> Result<Parameters, Error> {
        block_on(self.averaged_parameters_async())
    }

    /// [`Trainer::averaged_parameters`] for callers that must not block.
    ///
    /// # Errors
    /// Those of [`Trainer::averaged_parameters`].
    pub async fn averaged_parameters_async(&self) -> Result<Parameters, Error> {
        if self.config.average.is_none() {
            let message = "the training keeps no average of the parameters; set TrainConfig::average";
            return Err(Error::refused(Refusal::Option, message));
        }
        let mut average = match (&self.network.on, &self.state) {
            (OnDevice::Cpu(_), State::Cpu(training)) => training.average(),
            #[cfg(feature = "gpu")]
            (OnDevice::Gpu(network), State::Gpu(training)) => training.average(network).await?,
            #[cfg(feature = "gpu")]
            _ => unreachable!("training is on the network's device"),
        };
        self.fill_frozen(&mut average).await?;
        Ok(average)
    }

    /// The weight that the parameters after the next update have in their average: 1 for the first.
    pub(super) fn average_weight(&self) -> f32 {
        let decay = self.config.average.filter(|_| self.has_begun_average());
        decay.map_or(1.0, |decay| 1.0 - decay)
    }

    /// Whether an update has entered the average. On a GPU with an overflow to report, it may be that none has.
    pub(super) fn has_begun_average(&self) -> bool {
        self.average_from.is_none_or(|from| self.steps() > from)
    }

    /// Continues the average of a checkpoint, or begins one if it has none, from the count of updates that is set.
    ///
    /// # Errors
    /// [`Error::Model`] for tensors that do not fit; those of the device.
    pub(super) async fn resume_average(&mut self, average: Option<&Parameters>) -> Result<(), Error> {
        self.average_from = Some(self.steps());
        let Some(average) = average.filter(|_| self.config.average.is_some()) else { return Ok(()) };
        let mut average = average.clone();
        self.fill_frozen(&mut average).await?;
        average.check(self.network.config())?;
        match (&self.network.on, &mut self.state) {
            (OnDevice::Cpu(_), State::Cpu(training)) => training.set_average(&average),
            #[cfg(feature = "gpu")]
            (OnDevice::Gpu(network), State::Gpu(training)) => training.set_average(network, &average).await?,
            #[cfg(feature = "gpu")]
            _ => unreachable!("training is on the network's device"),
        }
        self.average_from = None;
        Ok(())
    }

    /// Puts in the frozen parameters as they are in the network.
    async fn fill_frozen(&self, average: &mut Parameters) -> Result<(), Error> {
        let names = self.network.config().parameter_specs().map(|spec| spec.name.as_str());
        let frozen: Vec<&str> = names.filter(|name| self.config.rule(name).frozen).collect();
        if frozen.is_empty() {
            return Ok(());
        }
        let now = self.network.parameters_async().await?;
        for name in frozen {
            average.insert(name, now[name].clone());
        }
        Ok(())
    }
}
