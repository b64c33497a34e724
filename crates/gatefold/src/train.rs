mod average;
mod checkpoint;

use crate::batch::{Carry, TrainBatch};
use crate::cpu::CpuTraining;
#[cfg(feature = "gpu")]
use crate::gpu::GpuTraining;
use crate::gradient_flow::GradientFlow;
use crate::network::{Gradients, KeptGradients, OnDevice, check_states};
use crate::stream::check_goes_on;
use crate::targets::{RowWeights, Targets, TargetsView};
use crate::{Error, Network, Refusal, Sequences, block_on};
use gatefold_model::{
    Dropout, Parameters, ScheduleState, States, Timeline, TrainConfig, check_learning_rate,
};
use std::sync::atomic::{AtomicU64, Ordering};

/// A network in training: gradients, optimiser and losses on the network's device.
///
/// ```
/// use gatefold::training::Schedule;
/// use gatefold::{Device, Network, NetworkConfig, TrainConfig, Trainer};
/// use ndarray::Array3;
///
/// let config = NetworkConfig::with_input(2).lstm(8).last_step().dense(1).build()?;
/// let network = Network::new(&Device::cpu()?, &config, 7)?;
/// let options = TrainConfig::new().learning_rate(0.01).schedule(Schedule::cosine(50));
/// let mut trainer = Trainer::new(network, options)?;
/// let (input, target) = (Array3::ones((5, 4, 2)), Array3::zeros((1, 4, 1)));
///
/// trainer.step(&input, &target)?; // the loss that the options name
///
/// // A loss of your own: its gradient with respect to the output is all that is needed.
/// let tape = trainer.network().forward_training(&input, None, None)?;
/// let d_output = tape.output().mapv(|y| 4.0 * y.powi(3));
/// let gradients = trainer.network().backward(tape, d_output.view(), None)?;
/// trainer.apply(&gradients)?;
/// assert_eq!(trainer.steps(), 2);
/// # Ok::<(), gatefold::Error>(())
/// ```
#[derive(Debug)]
pub struct Trainer {
    network: Network,
    config: TrainConfig,
    learning_rate: f32,
    schedule: ScheduleState,
    /// Updates so far. Atomic because a checkpoint, which borrows the trainer, may be the first to learn that a GPU has
    /// withheld some.
    steps: AtomicU64,
    /// The count of updates after which the moving average begins; `None` if a checkpoint holds one that has begun.
    average_from: Option<u64>,
    /// Batches accumulated since the last update.
    accumulated: u32,
    carries: bool,
    /// The rows of the batch whose final states the device holds.
    carried: Option<usize>,
    /// The weights of the last batch's rows, kept so that they are not made anew.
    weights: RowWeights,
    single_weights: Vec<f32>,
    /// The lengths of the last batch's outputs, likewise.
    ends: Vec<usize>,
    state: State,
}

/// Truncated backpropagation through time over long series (Williams and Peng 1990): windows of `horizon` steps, one
/// every `stride` steps, with an update after each. A step's loss counts in the first window that contains it, and its
/// gradient goes back to the beginning of that window: at least `horizon - stride` steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Truncation {
    /// The most steps that gradients go back.
    pub horizon: usize,
    /// The steps from one window to the next, 1 to `horizon`.
    pub stride: usize,
}

/// The state of training on the device.
#[derive(Debug)]
enum State {
    Cpu(CpuTraining),
    #[cfg(feature = "gpu")]
    Gpu(GpuTraining),
}

impl Trainer {
    /// Takes over a network to train it; [`Trainer::into_network`] hands it back.
    ///
    /// # Errors
    /// [`Error::Model`] for an option out of range and for a parameter group that matches no parameter; on a GPU also
    /// [`Error::OutOfMemory`].
    pub fn new(network: Network, config: TrainConfig) -> Result<Trainer, Error> {
        block_on(Trainer::new_async(network, config))
    }

    /// [`Trainer::new`] for callers that must not block.
    ///
    /// # Errors
    /// Those of [`Trainer::new`].
    pub async fn new_async(network: Network, config: TrainConfig) -> Result<Trainer, Error> {
        config.check(network.config())?;
        let state = match &network.on {
            OnDevice::Cpu(network) => State::Cpu(CpuTraining::new(network, &config)),
            #[cfg(feature = "gpu")]
            OnDevice::Gpu(network) => State::Gpu(GpuTraining::new(network, &config).await?),
        };
        let learning_rate = config.learning_rate;
        Ok(Trainer {
            network,
            config,
            learning_rate,
            schedule: ScheduleState::default(),
            steps: AtomicU64::new(0),
            average_from: Some(0),
            accumulated: 0,
            carries: false,
            carried: None,
            weights: RowWeights::default(),
            single_weights: Vec::new(),
            ends: Vec::new(),
            state,
        })
    }

    /// Trains on one batch: [`Trainer::accumulate`], then [`Trainer::update`].
    ///
    /// # Errors
    /// Those of both.
    pub fn step<'a>(
        &mut self,
        input: impl Into<Sequences<'a>>,
        targets: impl Into<Targets<'a>>,
    ) -> Result<(), Error> {
        block_on(self.step_async(input, targets))
    }

    /// [`Trainer::step`] for callers that must not block.
    ///
    /// # Errors
    /// Those of [`Trainer::step`].
    pub async fn step_async<'a>(
        &mut self,
        input: impl Into<Sequences<'a>>,
        targets: impl Into<Targets<'a>>,
    ) -> Result<(), Error> {
        check_learning_rate(self.learning_rate)?;
        self.accumulate_async(input, targets).await?;
        self.update_async().await
    }

    /// Adds the gradients of a batch to those accumulated since the last update. They are summed, as in PyTorch, not
    /// averaged. Inputs `[T, B, I]` and targets `[T', B, F]` are arrays or [`Sequences`] and [`Targets`]; steps past a
    /// row's end are ignored.
    ///
    /// # Errors
    /// [`Error::Shape`] where input or targets do not fit the network, [`Error::Value`] for a label that is not a
    /// class, [`Error::Refused`] for labels if the loss takes values and for a carried state of another batch size; on
    /// a GPU also [`Error::TooLarge`], [`Error::Limit`] and [`Error::OutOfMemory`].
    pub fn accumulate<'a>(
        &mut self,
        input: impl Into<Sequences<'a>>,
        targets: impl Into<Targets<'a>>,
    ) -> Result<(), Error> {
        block_on(self.accumulate_async(input, targets))
    }

    /// [`Trainer::accumulate`] for callers that must not block.
    ///
    /// # Errors
    /// Those of [`Trainer::accumulate`].
    pub async fn accumulate_async<'a>(
        &mut self,
        input: impl Into<Sequences<'a>>,
        targets: impl Into<Targets<'a>>,
    ) -> Result<(), Error> {
        let (input, targets) = (input.into(), targets.into());
        let read = self.carried.is_some();
        let carry = Carry { read, keep: self.carries.then_some(input.steps()) };
        self.accumulate_view(&input, targets.view(), carry).await
    }

    /// Adds the gradients of a pass of this network, such as those of your own loss; on a GPU they are not read back.
    /// They carry no loss, so [`Trainer::take_losses`] has no entry for them.
    ///
    /// # Errors
    /// [`Error::Refused`] for gradients of another network; those of the device.
    pub fn accumulate_gradients(&mut self, gradients: &Gradients) -> Result<(), Error> {
        block_on(self.accumulate_gradients_async(gradients))
    }

    /// [`Trainer::accumulate_gradients`] for callers that must not block.
    ///
    /// # Errors
    /// Those of [`Trainer::accumulate_gradients`].
    pub async fn accumulate_gradients_async(&mut self, gradients: &Gradients) -> Result<(), Error> {
        match (&self.network.on, &mut self.state, &gradients.kept) {
            (OnDevice::Cpu(network), State::Cpu(training), KeptGradients::Cpu(found, of))
                if std::sync::Arc::ptr_eq(network, of) =>
            {
                training.accumulate_gradients(|name| &found.parameters[name]);
            }
            #[cfg(feature = "gpu")]
            (OnDevice::Gpu(network), State::Gpu(training), KeptGradients::Gpu(found))
                if std::sync::Arc::ptr_eq(network, &found.network) =>
            {
                training.accumulate_gradients(network, &self.config, found).await?;
            }
            _ => {
                let message = "the gradients are of another network; use those of Trainer::network";
                return Err(Error::refused(Refusal::ForeignTape, message));
            }
        }
        self.accumulated = self.accumulated.wrapping_add(1);
        Ok(())
    }

    /// Adds gradients held by the host, under the parameters' names.
    ///
    /// # Errors
    /// [`Error::Model`] for gradients that are not shaped like the parameters; those of the device.
    pub fn accumulate_parameters(&mut self, gradients: &Parameters) -> Result<(), Error> {
        block_on(self.accumulate_parameters_async(gradients))
    }

    /// [`Trainer::accumulate_parameters`] for callers that must not block.
    ///
    /// # Errors
    /// Those of [`Trainer::accumulate_parameters`].
    pub async fn accumulate_parameters_async(&mut self, gradients: &Parameters) -> Result<(), Error> {
        gradients.check(self.network.config())?;
        match (&self.network.on, &mut self.state) {
            (OnDevice::Cpu(_), State::Cpu(training)) => {
                training.accumulate_gradients(|name| &gradients[name]);
            }
            #[cfg(feature = "gpu")]
            (OnDevice::Gpu(network), State::Gpu(training)) => {
                training.accumulate_parameters(network, &self.config, gradients).await?;
            }
            #[cfg(feature = "gpu")]
            _ => unreachable!("training is on the network's device"),
        }
        self.accumulated = self.accumulated.wrapping_add(1);
        Ok(())
    }

    /// Trains on the gradients of a pass: [`Trainer::accumulate_gradients`], then [`Trainer::update`].
    ///
    /// # Errors
    /// Those of both.
    pub fn apply(&mut self, gradients: &Gradients) -> Result<(), Error> {
        block_on(self.apply_async(gradients))
    }

    /// [`Trainer::apply`] for callers that must not block.
    ///
    /// # Errors
    /// Those of [`Trainer::apply`].
    pub async fn apply_async(&mut self, gradients: &Gradients) -> Result<(), Error> {
        check_learning_rate(self.learning_rate)?;
        self.accumulate_gradients_async(gradients).await?;
        self.update_async().await
    }

    /// Carries the (detached) final state of one batch into the next; the first batch starts from the configured
    /// initial state. The states stay on the device and are not part of a checkpoint. Off by default.
    ///
    /// # Errors
    /// [`Error::Refused`] for a network with a layer that reads the sequence from its end, or with a decoder.
    pub fn carry_state(&mut self, carries: bool) -> Result<(), Error> {
        if carries {
            check_goes_on(self.network.config())?;
        }
        self.carries = carries;
        self.reset_state();
        Ok(())
    }

    /// Drops the carried states: the next batch starts from the configured initial state.
    pub fn reset_state(&mut self) {
        self.carried = None;
    }

    /// Starts the next batch from these states, whether or not states are carried.
    ///
    /// # Errors
    /// [`Error::Refused`] for states that are not this network's; those of the device.
    pub fn set_states(&mut self, states: &States) -> Result<(), Error> {
        block_on(self.set_states_async(states))
    }

    /// [`Trainer::set_states`] for callers that must not block.
    ///
    /// # Errors
    /// Those of [`Trainer::set_states`].
    pub async fn set_states_async(&mut self, states: &States) -> Result<(), Error> {
        let batch = states.layers.first().map_or(1, |layer| layer.h.dim().1);
        check_states(self.network.config(), batch, Some(states))?;
        match (&self.network.on, &mut self.state) {
            (OnDevice::Cpu(_), State::Cpu(training)) => training.set_states(states.clone()),
            #[cfg(feature = "gpu")]
            (OnDevice::Gpu(network), State::Gpu(training)) => {
                training.set_states(network, states, batch).await?;
            }
            #[cfg(feature = "gpu")]
            _ => unreachable!("training is on the network's device"),
        }
        self.carried = Some(batch);
        Ok(())
    }

    /// Trains by truncated backpropagation through time over long series: `input [T, B, I]` and targets for all `T`
    /// steps, with an update after each window. States always pass from window to window. The first window starts from
    /// the states of [`Trainer::carry_state`] or [`Trainer::set_states`], if there are any.
    ///
    /// # Errors
    /// [`Error::Refused`] for a stride of 0 or above the horizon, and for a network without an output at every step, with
    /// a layer that reads the sequence from its end, or with a decoder; those of [`Trainer::step`].
    pub fn step_truncated<'a>(
        &mut self,
        input: impl Into<Sequences<'a>>,
        targets: impl Into<Targets<'a>>,
        truncation: Truncation,
    ) -> Result<(), Error> {
        block_on(self.step_truncated_async(input, targets, truncation))
    }

    /// [`Trainer::step_truncated`] for callers that must not block.
    ///
    /// # Errors
    /// Those of [`Trainer::step_truncated`].
    pub async fn step_truncated_async<'a>(
        &mut self,
        input: impl Into<Sequences<'a>>,
        targets: impl Into<Targets<'a>>,
        truncation: Truncation,
    ) -> Result<(), Error> {
        let (input, targets) = (input.into(), targets.into());
        let Truncation { horizon, stride } = truncation;
        if stride == 0 || stride > horizon {
            return Err(Error::refused(
                Refusal::Option,
                format!(
                    "truncation: the horizon is {horizon} and the stride {stride}; expected a stride of 1 to the horizon"
                ),
            ));
        }
        let network = self.network.config();
        check_goes_on(network)?;
        if network.timeline() != Timeline::Input {
            let found = format!("{network}: truncation needs an output at every step");
            return Err(Error::refused(Refusal::Stream, found));
        }
        // Everything is checked before the first update, which cannot be undone.
        check_learning_rate(self.learning_rate)?;
        input.check(network)?;
        let output = (input.steps(), input.batch(), network.output());
        RowWeights::new(&self.config.loss, self.config.reduction, &targets.view(), input.lengths(), output)?;
        let done = self.windows(&input, &targets, truncation).await;
        if !self.carries {
            self.reset_state();
        }
        done
    }

    async fn windows(
        &mut self,
        input: &Sequences<'_>,
        targets: &Targets<'_>,
        Truncation { horizon, stride }: Truncation,
    ) -> Result<(), Error> {
        let mut begin = 0;
        let mut counted = 0;
        while counted < input.steps() {
            let end = (begin + horizon).min(input.steps());
            let keep = if end == input.steps() { end - begin } else { stride };
            let carry = Carry { read: self.carried.is_some(), keep: Some(keep) };
            let window = input.window(begin..end);
            self.accumulate_view(&window, targets.view().window(begin..end, counted), carry).await?;
            self.update_async().await?;
            counted = end;
            begin += stride;
        }
        Ok(())
    }

    async fn accumulate_view(
        &mut self,
        input: &Sequences<'_>,
        targets: TargetsView<'_>,
        carry: Carry,
    ) -> Result<(), Error> {
        let network = self.network.config();
        input.check(network)?;
        let batch = input.batch();
        if let Some(carried) = self.carried.filter(|&carried| carry.read && carried != batch) {
            return Err(Error::refused(
                Refusal::States,
                format!(
                    "the carried state has {carried} rows, the batch has {batch}; call Trainer::reset_state first"
                ),
            ));
        }
        let of_output = input.of_output();
        let output = (network.output_steps(of_output.steps()), batch, network.output());
        let dropout = network.has_noise().then(|| self.dropout());
        let timeline = network.timeline();
        let lengths = of_output.lengths().filter(|_| timeline.has_lengths()).map(|lengths| {
            self.ends.clear();
            self.ends.extend(lengths.iter().map(|&length| timeline.steps(length)));
            &self.ends[..]
        });
        let TrainConfig { loss, reduction, .. } = &self.config;
        self.weights.refill(loss, *reduction, &targets, lengths, output)?;
        self.weights.put_single(&mut self.single_weights);
        let weights = &self.single_weights;
        let given = TrainBatch { input, target: targets.values, weights, dropout, carry };
        match (&self.network.on, &mut self.state) {
            (OnDevice::Cpu(network), State::Cpu(training)) => {
                training.accumulate(network, given);
            }
            #[cfg(feature = "gpu")]
            (OnDevice::Gpu(network), State::Gpu(training)) => {
                training.accumulate(network, &self.config, given).await?;
            }
            #[cfg(feature = "gpu")]
            _ => unreachable!("training is on the network's device"),
        }
        self.accumulated = self.accumulated.wrapping_add(1);
        self.carried = carry.keep.map(|_| batch);
        Ok(())
    }

    /// The key of the next batch's dropout masks, for [`Network::forward_training`] in your own training loop.
    pub fn dropout(&self) -> Dropout {
        // Every batch has its own masks, also after a checkpoint. Multiples of 2^32 over the golden ratio stay apart:
        // those of a million updates by more than a thousand, so an update may accumulate a thousand batches.
        let number = (self.steps() as u32).wrapping_mul(0x9E37_79B1).wrapping_add(self.accumulated);
        Dropout { seed: self.config.dropout_seed, batch: number, first_step: 0 }
    }

    /// Updates the parameters with the accumulated gradients, clipped if so configured, and clears the gradients. If
    /// nothing was accumulated, the gradient is zero.
    ///
    /// # Errors
    /// [`Error::NotFinite`] for a gradient that is not finite, and from then on; the parameters keep their last good
    /// values. [`Error::Overflow`] if the update would leave a parameter or a moment infinite or NaN. Then no parameter,
    /// moment or count changes, only the accumulated gradients are cleared, and the next update is made as usual, for
    /// example with a lower learning rate. On a GPU, [`Trainer::take_losses`] and [`Trainer::checkpoint`] return both
    /// instead; until they do, later updates are not made either. [`Error::Model`] for a learning rate out of range.
    pub fn update(&mut self) -> Result<(), Error> {
        block_on(self.update_async())
    }

    /// [`Trainer::update`] for callers that must not block.
    ///
    /// # Errors
    /// Those of [`Trainer::update`].
    pub async fn update_async(&mut self) -> Result<(), Error> {
        check_learning_rate(self.learning_rate)?;
        let rate = self.learning_rate();
        // A checkpoint may hold any number.
        let step = self.steps().saturating_add(1);
        let average_weight = self.average_weight();
        match (&self.network.on, &mut self.state) {
            (OnDevice::Cpu(network), State::Cpu(training)) => {
                let updated = training.update(network, &self.config, rate, average_weight, step);
                if matches!(updated, Err(Error::Overflow { .. })) {
                    self.accumulated = 0; // the gradients are gone
                }
                updated?;
            }
            #[cfg(feature = "gpu")]
            (OnDevice::Gpu(network), State::Gpu(training)) => {
                training.update(network, &self.config, rate, average_weight, step).await?;
            }
            #[cfg(feature = "gpu")]
            _ => unreachable!("training is on the network's device"),
        }
        *self.steps.get_mut() = step;
        self.accumulated = 0;
        Ok(())
    }

    /// Sets the learning rate that the schedule multiplies, from the next update on. That update refuses a rate that is
    /// negative or not finite.
    pub fn set_learning_rate(&mut self, rate: f32) {
        self.learning_rate = rate;
    }

    /// The learning rate of the next update, with the schedule applied.
    pub fn learning_rate(&self) -> f32 {
        self.learning_rate * self.config.schedule.factor(self.steps(), &self.schedule)
    }

    /// Reports a value to be minimised, such as a validation loss, to a plateau schedule. Other schedules ignore it.
    pub fn observe(&mut self, value: f64) {
        self.config.schedule.observe(&mut self.schedule, value);
    }

    /// Returns the losses of all batches since the last call, in order.
    ///
    /// # Errors
    /// On a GPU [`Error::NotFinite`], [`Error::Overflow`], after which the next call returns the losses, and those of
    /// reading back.
    pub fn take_losses(&mut self) -> Result<Vec<f32>, Error> {
        block_on(self.take_losses_async())
    }

    /// [`Trainer::take_losses`] for callers that must not block.
    ///
    /// # Errors
    /// Those of [`Trainer::take_losses`].
    pub async fn take_losses_async(&mut self) -> Result<Vec<f32>, Error> {
        let taken = match (&self.network.on, &mut self.state) {
            (OnDevice::Cpu(_), State::Cpu(training)) => Ok(training.take_losses()),
            #[cfg(feature = "gpu")]
            (OnDevice::Gpu(network), State::Gpu(training)) => training.take_losses(network).await,
            #[cfg(feature = "gpu")]
            _ => unreachable!("training is on the network's device"),
        };
        self.withheld(taken)
    }

    /// The number of updates so far, including those before a resumed checkpoint. A GPU also counts updates that it
    /// skipped because a gradient was not finite, and, until it reports an overflow, those that it withheld after it.
    pub fn steps(&self) -> u64 {
        self.steps.load(Ordering::Relaxed)
    }

    /// Takes back the count of the updates that a GPU has withheld, if it reports an overflow.
    fn withheld<T>(&self, result: Result<T, Error>) -> Result<T, Error> {
        if let Err(Error::Overflow { step, .. }) = &result {
            self.steps.fetch_min(step - 1, Ordering::Relaxed);
        }
        result
    }

    /// The gradients accumulated since the last update; zeros for frozen parameters.
    ///
    /// # Errors
    /// On a GPU [`Error::Device`], [`Error::DeviceLost`] and [`Error::OutOfMemory`], from reading back.
    pub fn gradients(&self) -> Result<Parameters, Error> {
        block_on(self.gradients_async())
    }

    /// [`Trainer::gradients`] for callers that must not block.
    ///
    /// # Errors
    /// Those of [`Trainer::gradients`].
    pub async fn gradients_async(&self) -> Result<Parameters, Error> {
        match (&self.network.on, &self.state) {
            (OnDevice::Cpu(network), State::Cpu(training)) => Ok(training.gradients(network)),
            #[cfg(feature = "gpu")]
            (OnDevice::Gpu(network), State::Gpu(training)) => training.gradients(network).await,
            #[cfg(feature = "gpu")]
            _ => unreachable!("training is on the network's device"),
        }
    }

    /// Follows the gradient of the loss that the options name back through time, as [`Network::gradient_flow`] does.
    /// Nothing of the training changes.
    ///
    /// # Errors
    /// Those of [`Network::gradient_flow`].
    pub fn gradient_flow<'a>(
        &self,
        input: impl Into<Sequences<'a>>,
        targets: impl Into<Targets<'a>>,
    ) -> Result<GradientFlow, Error> {
        self.network.gradient_flow(input, targets, &self.config.loss, self.config.reduction)
    }

    /// The network, to predict with or to read its parameters.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Replaces every parameter; moments, average, accumulated gradients and the count of updates stay.
    ///
    /// # Errors
    /// Those of [`Network::set_parameters`].
    pub fn set_parameters(&mut self, parameters: &Parameters) -> Result<(), Error> {
        self.network.set_parameters(parameters)
    }

    /// Ends training and returns the network.
    pub fn into_network(self) -> Network {
        self.network
    }
}
