use super::data::Data;
use super::report::{Moment, Report};
use super::settings::Settings;
use crate::failure::Failure;
use crate::forecaster::Forecaster;
use gatefold::file::Checkpoint;
use gatefold::{Device, Network, NetworkConfig, Parameters, Trainer};
use gatefold_model::file::Model;
use gatefold_series::Windows;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Epochs without a better validation loss before the learning rate falls.
const PATIENCE: usize = 5;
const DECAY: f32 = 0.3;
/// The number of falls of the learning rate that ends training.
const MOST_DECAYS: u32 = 3;
/// A power cut loses at most this much work.
const BETWEEN_SAVES: Duration = Duration::from_secs(20);
/// How often losses are read back from the device. They are summed in order, so this changes no result.
const BETWEEN_REPORTS: Duration = Duration::from_millis(100);

/// Keys under which a checkpoint keeps what is not a tensor, besides the forecaster's own.
const SETTINGS: &str = "training";
const PROGRESS: &str = "progress";
const DEVICE: &str = "device";
/// The parameters of the best epoch, stored beside the optimiser's moments.
const BEST: &str = "best";

/// The history so far: with the parameters and the moments, everything needed to continue.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Progress {
    training_loss: Vec<f64>,
    validation_loss: Vec<f64>,
    /// The sum of the losses of the current epoch.
    partial: f64,
    best_epoch: Option<usize>,
    without_gain: usize,
    decays: u32,
    ended_early: bool,
}

/// A checkpoint that has been read.
pub(super) struct Saved {
    checkpoint: Checkpoint,
    best: Option<Parameters>,
    progress: Progress,
    pub(super) settings: Settings,
    pub(super) forecaster: Forecaster,
}

impl Saved {
    /// The device of the run so far, if it was another one: from now on, results may round differently.
    pub(super) fn other_device(&self, device: &Device) -> Option<String> {
        // The number of CPU threads changes no bit.
        let kind = |summary: &str| summary.split(" (").next() == Some("cpu");
        let summary = device.summary();
        let other = |found: &&String| **found != summary && !(kind(found) && kind(&summary));
        self.checkpoint.metadata.get(DEVICE).filter(other).cloned()
    }

    pub(super) fn load(path: &Path) -> Result<Saved, Failure> {
        if !path.exists() {
            return Err(Failure::failed(format!(
                "{}: there is no checkpoint to resume; train without --resume first, or give its directory with --out",
                path.display()
            )));
        }
        let mut checkpoint = Checkpoint::load(path)?;
        let forecaster = Forecaster::from_metadata(path, &checkpoint.metadata)?;
        fn read<T: for<'a> Deserialize<'a>>(
            path: &Path,
            checkpoint: &Checkpoint,
            key: &str,
        ) -> Result<T, Failure> {
            let text = checkpoint.metadata.get(key).map_or("", String::as_str);
            serde_json::from_str(text).map_err(|error| {
                Failure::failed(format!(
                    "{}: its {key} cannot be read: {error}; train again without --resume",
                    path.display()
                ))
            })
        }
        let settings = read(path, &checkpoint, SETTINGS)?;
        let progress = read(path, &checkpoint, PROGRESS)?;
        let best = checkpoint.optimizer.remove(BEST);
        Ok(Saved { checkpoint, best, progress, settings, forecaster })
    }
}

/// A network in training.
pub(super) struct Training<'a> {
    data: &'a Data,
    forecaster: &'a Forecaster,
    settings: &'a Settings,
    trainer: Trainer,
    config: NetworkConfig,
    progress: Progress,
    best: Option<Parameters>,
    resumed_at: Option<u64>,
    device: String,
    path: PathBuf,
}

/// The results of training.
pub(super) struct Finished {
    pub(super) network: Network,
    pub(super) training_loss: Vec<f64>,
    pub(super) validation_loss: Vec<f64>,
    pub(super) best_epoch: usize,
    pub(super) steps: u64,
}

impl<'a> Training<'a> {
    pub(super) fn new(
        device: &Device,
        data: &'a Data,
        forecaster: &'a Forecaster,
        settings: &'a Settings,
        saved: Option<Saved>,
        path: PathBuf,
    ) -> Result<Self, Failure> {
        let config = forecaster.shape.network(settings.hidden, settings.layers)?;
        let train_config = settings.train_config();
        let resumed_at = saved.as_ref().map(|saved| saved.checkpoint.step);
        let (mut trainer, progress, best) = match saved {
            Some(saved) => {
                if saved.checkpoint.config != config {
                    return Err(Failure::failed(format!(
                        "{}: expected the network {config}, found {}; train again without --resume",
                        path.display(),
                        saved.checkpoint.config
                    )));
                }
                (Trainer::resume(device, &saved.checkpoint, train_config)?, saved.progress, saved.best)
            }
            None => {
                let network = Network::new(device, &config, settings.seed)?;
                (Trainer::new(network, train_config)?, Progress::default(), None)
            }
        };
        trainer.set_learning_rate(rate(settings, &progress));
        Ok(Training {
            data,
            forecaster,
            settings,
            trainer,
            config,
            progress,
            best,
            resumed_at,
            device: device.summary(),
            path,
        })
    }

    pub(super) fn network(&self) -> &NetworkConfig {
        &self.config
    }

    /// Updates done before this run.
    pub(super) fn resumed_at(&self) -> Option<u64> {
        self.resumed_at
    }

    pub(super) fn steps(&self) -> u64 {
        self.trainer.steps()
    }

    /// Epochs done.
    pub(super) fn epoch(&self) -> usize {
        self.progress.training_loss.len()
    }

    /// Trains to the end. When `stop` is raised, finishes the step, saves and returns false.
    pub(super) fn run(&mut self, report: &Report, stop: &AtomicBool) -> Result<bool, Failure> {
        let (data, forecaster) = (self.data, self.forecaster);
        let part = |range| {
            Windows::new(&data.series, forecaster.shape.window(), range).map_err(|error| data.failure(&error))
        };
        let windows = part(data.split.train())?;
        let validation = part(data.split.validation())?;
        let validation: Vec<usize> = (0..validation.len()).map(|index| validation.origin(index)).collect();
        let batches = windows.len().div_ceil(self.settings.batch) as u64;
        let running = report.start(self.settings.epochs, batches, self.steps());
        let mut saved = Instant::now();
        let mut reported = Instant::now();
        while self.epoch() < self.settings.epochs && !self.progress.ended_early {
            let epoch = self.epoch();
            let order = windows.order(self.settings.seed, epoch as u64);
            let done = (self.steps() - epoch as u64 * batches) as usize;
            for indices in order.chunks(self.settings.batch).skip(done) {
                let origins: Vec<usize> = indices.iter().map(|index| windows.origin(*index)).collect();
                let input = forecaster.inputs(&data.series, &origins);
                let target = forecaster.targets(&data.series, &origins);
                self.trainer.step(input.view(), target.view())?;
                if stop.load(Ordering::Relaxed) {
                    self.save()?;
                    running.end();
                    return Ok(false);
                }
                if reported.elapsed() > BETWEEN_REPORTS {
                    self.take_losses()?;
                    let of_epoch = self.steps() - epoch as u64 * batches;
                    running.step(&self.moment(self.progress.partial / of_epoch as f64));
                    reported = Instant::now();
                }
                if saved.elapsed() > BETWEEN_SAVES {
                    self.save()?;
                    saved = Instant::now();
                }
            }
            self.end_epoch(&validation, batches)?;
            running.epoch(&self.moment(self.progress.training_loss[epoch]));
        }
        running.end();
        Ok(true)
    }

    fn moment(&self, loss: f64) -> Moment {
        Moment {
            epoch: self.epoch(),
            step: self.steps(),
            loss,
            validation: self.progress.validation_loss.last().copied(),
        }
    }

    fn take_losses(&mut self) -> Result<(), Failure> {
        for loss in self.trainer.take_losses()? {
            self.progress.partial += f64::from(loss);
        }
        Ok(())
    }

    fn end_epoch(&mut self, validation: &[usize], batches: u64) -> Result<(), Failure> {
        self.take_losses()?;
        let loss = self.forecaster.loss(
            self.trainer.network(),
            &self.settings.loss.into(),
            &self.data.series,
            validation,
        )?;
        let trained = self.progress.partial / batches as f64;
        if !loss.is_finite() || !trained.is_finite() {
            return Err(Failure::failed(format!(
                "epoch {}: the loss is not finite; use a smaller --lr or --clip, and look for outliers in the table; the \
                 last checkpoint is kept",
                self.epoch() + 1
            )));
        }
        let progress = &mut self.progress;
        let best_so_far = progress.best_epoch.map_or(f64::INFINITY, |epoch| progress.validation_loss[epoch]);
        progress.partial = 0.0;
        progress.training_loss.push(trained);
        progress.validation_loss.push(loss);
        if loss < best_so_far {
            progress.best_epoch = Some(progress.validation_loss.len() - 1);
            progress.without_gain = 0;
            self.best = Some(self.trainer.network().parameters()?);
            return Ok(());
        }
        progress.without_gain += 1;
        if progress.without_gain == PATIENCE {
            progress.without_gain = 0;
            progress.decays += 1;
            progress.ended_early = progress.decays == MOST_DECAYS;
            let rate = rate(self.settings, progress);
            self.trainer.set_learning_rate(rate);
        }
        Ok(())
    }

    fn save(&mut self) -> Result<(), Failure> {
        self.take_losses()?;
        let mut metadata = BTreeMap::new();
        self.forecaster.write_metadata(&mut metadata);
        let json = "numbers and names are JSON";
        metadata.insert(SETTINGS.into(), serde_json::to_string(self.settings).expect(json));
        metadata.insert(PROGRESS.into(), serde_json::to_string(&self.progress).expect(json));
        metadata.insert(DEVICE.into(), self.device.clone());
        let mut checkpoint = self.trainer.checkpoint(self.settings.seed, metadata)?;
        if let Some(best) = &self.best {
            checkpoint.optimizer.insert(BEST.into(), best.clone());
        }
        Ok(checkpoint.save(&self.path)?)
    }

    /// Saves the checkpoint, and the best epoch's model into `folder`; returns the network of that epoch.
    pub(super) fn finish(mut self, folder: &Path) -> Result<Finished, Failure> {
        self.save()?;
        let (Some(parameters), Some(best_epoch)) = (self.best, self.progress.best_epoch) else {
            return Err(Failure::failed(format!(
                "{}: the checkpoint has no finished epoch; give --epochs",
                self.path.display()
            )));
        };
        let mut metadata = BTreeMap::new();
        self.forecaster.write_metadata(&mut metadata);
        let steps = self.trainer.steps();
        let mut network = self.trainer.into_network();
        network.set_parameters(&parameters)?;
        Model { config: self.config, parameters, metadata }.save(folder.join("model.safetensors"))?;
        Ok(Finished {
            network,
            training_loss: self.progress.training_loss,
            validation_loss: self.progress.validation_loss,
            best_epoch,
            steps,
        })
    }
}

/// The learning rate, multiplied step by step so that a resumed run has the same bits.
fn rate(settings: &Settings, progress: &Progress) -> f32 {
    (0..progress.decays).fold(settings.lr, |rate, _| rate * DECAY)
}

/// Loads the model to forecast with; from a checkpoint, the one of the best epoch.
pub(crate) fn load_for_use(path: &Path) -> Result<Model, Failure> {
    if let Ok(mut checkpoint) = Checkpoint::load(path) {
        if let Some(best) = checkpoint.optimizer.remove(BEST) {
            checkpoint.parameters = best;
        }
        return Ok(checkpoint.model());
    }
    Ok(Model::load(path)?)
}
