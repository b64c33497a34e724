//! Training of any task: batches, looks at a validation part, the best parameters, checkpoints.

use crate::TaskError;
use gatefold::file::Checkpoint;
use gatefold::training::Schedule;
use gatefold::{Device, Network, NetworkConfig, Parameters, Sequences, Targets, TrainConfig, Trainer};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A task that a network learns from batches.
pub trait Task {
    /// The layers of the network.
    ///
    /// # Errors
    /// [`TaskError::Model`] for layers that contradict each other.
    fn network(&self) -> Result<NetworkConfig, TaskError>;

    /// The loss and whatever else training needs; [`fit`] sets learning rate, schedule, clipping, average and the seed of
    /// dropout.
    fn training(&self) -> TrainConfig;

    /// The batch of an update, from its number and `random`, whose numbers depend on seed and update alone.
    ///
    /// # Errors
    /// [`TaskError::Data`] when there is nothing to draw from.
    fn batch(
        &self,
        update: u64,
        random: &mut ChaCha8Rng,
    ) -> Result<(Sequences<'static>, Targets<'static>), TaskError>;

    /// Whether each batch starts from the states that the one before ended with (truncated backpropagation through time),
    /// except where [`Task::begins_anew`].
    fn carries_state(&self) -> bool {
        false
    }

    /// Whether an update starts from the network's initial states. Training is resumed at such an update only.
    fn begins_anew(&self, _update: u64) -> bool {
        true
    }

    /// The error of a network on the validation part, less is better; `None` without such a part.
    ///
    /// # Errors
    /// Those of the device.
    fn error(&self, network: &Network) -> Result<Option<f64>, TaskError>;
}

/// How long and how fast to train. With the task and the device, these settings determine every bit of the result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct FitSettings {
    /// Updates of the parameters.
    pub updates: u64,
    /// The highest learning rate; it rises over the first updates and falls along a cosine to zero.
    pub learning_rate: f32,
    /// The limit of the gradient's norm; `None` for no limit.
    pub clip: Option<f32>,
    /// The decay of the average of parameters, from update to update; `None` to take the last ones.
    pub average: Option<f32>,
    /// Looks at the validation part.
    pub looks: u64,
    /// The seed of parameters, batches and dropout.
    pub seed: u64,
}

impl FitSettings {
    /// So many updates, with the other settings that suit most tasks.
    pub fn new(updates: u64) -> Self {
        FitSettings { updates, learning_rate: 3e-3, clip: Some(1.0), average: Some(0.99), looks: 20, seed: 1 }
    }

    fn train_config(&self, task: &dyn Task) -> TrainConfig {
        task.training()
            .learning_rate(self.learning_rate)
            .schedule(Schedule::cosine(self.updates).warm_up((self.updates / 20).min(100)))
            .clip_norm(self.clip)
            .average(self.average)
            .dropout_seed(self.seed)
    }
}

/// A look at the training while it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Look {
    /// Updates done.
    pub update: u64,
    /// The mean training loss since the last look.
    pub loss: f32,
    /// The error on the validation part.
    pub error: Option<f64>,
}

/// Whoever watches a training: shows progress, keeps what is done, and may stop it.
pub trait Watch {
    /// Called after each update; false stops the training.
    fn progress(&mut self, _update: u64) -> bool {
        true
    }

    /// Called after each look.
    fn look(&mut self, _look: &Look) {}

    /// Whether a checkpoint is wanted now, to be given to [`Watch::keep`].
    fn wants_checkpoint(&mut self) -> bool {
        false
    }

    /// Keeps the state of the training.
    ///
    /// # Errors
    /// [`TaskError`] when it cannot be kept.
    fn keep(&mut self, _checkpoint: Checkpoint) -> Result<(), TaskError> {
        Ok(())
    }

    /// Gives the state to continue from; `None` to begin.
    ///
    /// # Errors
    /// [`TaskError`] when there is one that cannot be read.
    fn kept(&mut self) -> Result<Option<Checkpoint>, TaskError> {
        Ok(None)
    }
}

/// Watches nothing.
impl Watch for () {}

/// A trained network.
#[derive(Debug)]
pub struct Fitted {
    /// The network, with the parameters that did best on the validation part, or else the last.
    pub network: Network,
    /// The updates after which its parameters were taken.
    pub update: u64,
    /// All looks, in order.
    pub looks: Vec<Look>,
}

/// Trains a network for a task.
///
/// # Errors
/// [`TaskError::Settings`] when the loss is not finite any more; [`TaskError::Stopped`]; those of the task, of whoever
/// watches, and of the device.
pub fn fit(
    device: &Device,
    task: &dyn Task,
    settings: &FitSettings,
    watch: &mut dyn Watch,
) -> Result<Fitted, TaskError> {
    let config = task.network()?;
    let train_config = settings.train_config(task);
    let (mut trainer, mut history) = match watch.kept()? {
        Some(checkpoint) => {
            let history = History::of(&checkpoint)?;
            (Trainer::resume(device, &checkpoint, train_config)?, history)
        }
        None => {
            let network = Network::new(device, &config, settings.seed)?;
            (Trainer::new(network, train_config)?, History::default())
        }
    };
    if task.carries_state() {
        trainer.carry_state(true)?;
    }
    let mut judged = Network::with_parameters(device, &config, &trainer.network().parameters()?)?;
    let between = settings.updates.div_ceil(settings.looks.max(1)).max(1);
    // The state at the last update that began anew; training that carries states can be resumed there only.
    let mut resumable = None;
    while trainer.steps() < settings.updates {
        let update = trainer.steps();
        if task.begins_anew(update) {
            trainer.reset_state();
        }
        let mut random = ChaCha8Rng::seed_from_u64(settings.seed);
        random.set_stream(update + 1);
        let (input, targets) = task.batch(update, &mut random)?;
        trainer.step(&input, &targets)?;
        let update = update + 1;
        if update % between == 0 || update == settings.updates {
            let loss = history.mean_loss(trainer.take_losses()?);
            if !loss.is_finite() {
                return Err(TaskError::Settings(format!(
                    "the loss is not finite after {update} updates; use a smaller learning rate, and look for outliers \
                     in the data"
                )));
            }
            let parameters = current(&trainer, settings)?;
            judged.set_parameters(&parameters)?;
            let look = Look { update, loss, error: task.error(&judged)? };
            history.add(look, parameters);
            watch.look(&look);
        }
        let go_on = watch.progress(update);
        let wanted = watch.wants_checkpoint() || !go_on;
        if task.begins_anew(update) && (wanted || task.carries_state()) {
            history.losses.extend(trainer.take_losses()?);
            resumable = Some(history.kept_in(trainer.checkpoint(settings.seed, BTreeMap::new())?));
        }
        if wanted && let Some(checkpoint) = resumable.take() {
            watch.keep(checkpoint)?;
        }
        if !go_on {
            return Err(TaskError::Stopped);
        }
    }
    let (update, parameters) = match history.best.take() {
        Some(best) => (best.update, best.parameters),
        None => (settings.updates, current(&trainer, settings)?),
    };
    judged.set_parameters(&parameters)?;
    Ok(Fitted { network: judged, update, looks: history.looks })
}

/// The averaged parameters, or the last.
fn current(trainer: &Trainer, settings: &FitSettings) -> Result<Parameters, TaskError> {
    match settings.average {
        Some(_) => Ok(trainer.averaged_parameters()?),
        None => Ok(trainer.network().parameters()?),
    }
}

/// The looks so far, and the parameters that did best.
#[derive(Default)]
struct History {
    looks: Vec<Look>,
    /// The losses since the last look that were taken from the trainer.
    losses: Vec<f32>,
    best: Option<Best>,
}

struct Best {
    error: f64,
    update: u64,
    parameters: Parameters,
}

impl History {
    /// The name of the best parameters among a checkpoint's tensors, and of the rest in its metadata.
    const KEY: &str = "best";

    fn add(&mut self, look: Look, parameters: Parameters) {
        self.looks.push(look);
        if let Some(error) = look.error
            && self.best.as_ref().is_none_or(|best| error < best.error)
        {
            self.best = Some(Best { error, update: look.update, parameters });
        }
    }

    /// The mean of all losses since the last look.
    fn mean_loss(&mut self, newest: Vec<f32>) -> f32 {
        self.losses.extend(newest);
        let mean = self.losses.iter().sum::<f32>() / self.losses.len() as f32;
        self.losses.clear();
        mean
    }

    fn of(checkpoint: &Checkpoint) -> Result<History, TaskError> {
        let text = checkpoint.metadata.get(History::KEY).map_or("", String::as_str);
        let (looks, losses, best): (Vec<Look>, Vec<f32>, Option<(f64, u64)>) = serde_json::from_str(text)
            .map_err(|error| {
                TaskError::Settings(format!("a checkpoint's history cannot be read: {error}; train again"))
            })?;
        let parameters = checkpoint.optimizer.get(History::KEY).cloned();
        let best =
            best.zip(parameters).map(|((error, update), parameters)| Best { error, update, parameters });
        Ok(History { looks, losses, best })
    }

    fn kept_in(&self, mut checkpoint: Checkpoint) -> Checkpoint {
        let numbers = (&self.looks, &self.losses, self.best.as_ref().map(|best| (best.error, best.update)));
        let text = serde_json::to_string(&numbers).expect("numbers are JSON");
        checkpoint.metadata.insert(History::KEY.into(), text);
        if let Some(best) = &self.best {
            checkpoint.optimizer.insert(History::KEY.into(), best.parameters.clone());
        }
        checkpoint
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use gatefold::Loss;
    use ndarray::Array3;
    use rand::RngExt;

    /// The sum of the inputs so far, modulo 1, in strips of `strip` batches that carry their states.
    struct RunningSum {
        strip: u64,
        judged: bool,
    }

    impl RunningSum {
        fn example(random: &mut ChaCha8Rng) -> (Array3<f32>, Array3<f32>) {
            let input = Array3::from_shape_simple_fn((6, 4, 1), || random.random::<f32>());
            let mut sums = input.clone();
            sums.accumulate_axis_inplace(ndarray::Axis(0), |before, now| *now += before);
            (input, sums.mapv(f32::fract))
        }
    }

    impl Task for RunningSum {
        fn network(&self) -> Result<NetworkConfig, TaskError> {
            Ok(NetworkConfig::with_input(1).gru(5).dense(1).build()?)
        }

        fn training(&self) -> TrainConfig {
            TrainConfig::new()
        }

        fn batch(
            &self,
            _: u64,
            random: &mut ChaCha8Rng,
        ) -> Result<(Sequences<'static>, Targets<'static>), TaskError> {
            let (input, targets) = RunningSum::example(random);
            Ok((Sequences::from(input), Targets::from(targets)))
        }

        fn carries_state(&self) -> bool {
            self.strip > 1
        }

        fn begins_anew(&self, update: u64) -> bool {
            update.is_multiple_of(self.strip)
        }

        fn error(&self, network: &Network) -> Result<Option<f64>, TaskError> {
            let (input, targets) = RunningSum::example(&mut ChaCha8Rng::seed_from_u64(99));
            let output = network.predict(&input)?;
            let error =
                Targets::from(&targets).loss(&Loss::SquaredError, Default::default(), output.view())?;
            Ok(self.judged.then_some(error))
        }
    }

    /// Stops after some updates, and keeps the last checkpoint.
    pub(crate) struct StopAfter {
        pub(crate) updates: u64,
        pub(crate) kept: Option<Checkpoint>,
    }

    impl Watch for StopAfter {
        fn progress(&mut self, update: u64) -> bool {
            update != self.updates
        }

        fn keep(&mut self, checkpoint: Checkpoint) -> Result<(), TaskError> {
            self.kept = Some(checkpoint);
            Ok(())
        }

        fn kept(&mut self) -> Result<Option<Checkpoint>, TaskError> {
            Ok(self.kept.take())
        }
    }

    #[test]
    fn a_resumed_run_is_the_uninterrupted_one() {
        let device = Device::cpu().unwrap();
        for strip in [1, 4] {
            for judged in [true, false] {
                let task = RunningSum { strip, judged };
                let settings = FitSettings { looks: 7, ..FitSettings::new(30) };
                let whole = fit(&device, &task, &settings, &mut ()).unwrap();
                let mut watch = StopAfter { updates: 14, kept: None };
                assert!(matches!(fit(&device, &task, &settings, &mut watch), Err(TaskError::Stopped)));
                assert!(watch.kept.is_some(), "strip {strip}");
                watch.updates = 0;
                let resumed = fit(&device, &task, &settings, &mut watch).unwrap();
                assert_eq!(resumed.looks, whole.looks, "strip {strip}, judged {judged}");
                assert_eq!(resumed.update, whole.update);
                assert_eq!(resumed.network.parameters().unwrap(), whole.network.parameters().unwrap());
            }
        }
    }
}
