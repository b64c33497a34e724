use crate::columns::Unseen;
use crate::encode::{Encoder, Window};
use crate::network::{Training, TrainingSet, outputs_of};
use crate::{Architecture, Beside, ForecastError, Ids, MadeUp, Settings};
use gatefold::file::Checkpoint;
use gatefold::{Device, Network, Parameters};
use ndarray::{Array2, Array3, Axis, s};

/// Windows per call of a network outside training: bounds memory, changes no result.
const AT_ONCE: usize = 512;
/// Looks at the validation part in the course of a training.
const LOOKS: u64 = 12;
/// Errors that are below this share of those of the look before are still falling.
const IMPROVING: f64 = 0.995;

/// Fits networks to series.
#[derive(Clone, Debug)]
pub struct Forecaster {
    settings: Settings,
}

/// Where training stands.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// The network in training, from 0.
    pub member: usize,
    /// Updates of this network done.
    pub update: u64,
    /// The mean loss of its last batch, before the update.
    pub loss: f32,
    /// The last error on the validation part.
    pub validation: Option<f64>,
}

/// Whoever watches a training: shows progress, keeps what is done, and may stop it.
pub trait Watch {
    /// Called after each update; false stops the training.
    fn progress(&mut self, _progress: &Progress) -> bool {
        true
    }

    /// Whether a checkpoint is wanted now; asked after each update, and followed by [`Watch::keep`].
    fn wants_checkpoint(&mut self) -> bool {
        false
    }

    /// Keeps the state of the network in training.
    ///
    /// # Errors
    /// [`ForecastError`] when it cannot be kept.
    fn keep(&mut self, _member: usize, _checkpoint: Checkpoint) -> Result<(), ForecastError> {
        Ok(())
    }

    /// Gives the state to continue a network's training from; `None` to begin.
    ///
    /// # Errors
    /// [`ForecastError`] when there is one that cannot be read.
    fn kept(&mut self, _member: usize) -> Result<Option<Checkpoint>, ForecastError> {
        Ok(None)
    }
}

/// Watches nothing.
impl Watch for () {}

/// The part of the series that decides how long to train.
#[derive(Clone, Debug)]
pub struct Validation<'a> {
    /// Whole series, of which the training saw only the start.
    pub series: &'a [&'a [f64]],
    /// Origins to forecast from, as series number and known samples.
    pub origins: Vec<(usize, usize)>,
    /// Samples at which no error is measured.
    pub made_up: MadeUp,
}

impl Forecaster {
    /// A forecaster with these settings.
    pub fn new(settings: Settings) -> Self {
        Forecaster { settings }
    }

    /// Trains the networks on whole series, oldest sample first. With a validation part, each network keeps the
    /// parameters that did best on it.
    ///
    /// # Errors
    /// [`ForecastError::Settings`] and [`ForecastError::Series`] for series that are too short for the settings,
    /// [`ForecastError::Stopped`], and those of the device.
    pub fn fit(
        &self,
        device: &Device,
        series: &[&[f64]],
        validation: Option<&Validation>,
        watch: &mut dyn Watch,
    ) -> Result<Fitted, ForecastError> {
        for (at, values) in series.iter().enumerate() {
            self.settings.check(&format!("series {}", at + 1), values)?;
        }
        if self.settings.loss.counts() && self.settings.mixing > 0.0 {
            return Err(ForecastError::Settings(format!(
                "blends of counts are no counts: the loss {} needs a mixing of 0",
                self.settings.loss
            )));
        }
        let encoder = Encoder::fit(&self.settings, series)?;
        for (series, origin) in validation.iter().flat_map(|validation| &validation.origins) {
            encoder.check(*series, *origin)?;
        }
        let set = TrainingSet::new(&encoder, series, self.settings.horizon);
        let mut members = Vec::with_capacity(self.settings.members);
        let (mut best_updates, mut improving) = (Vec::new(), false);
        for member in 0..self.settings.members {
            let trained = self.train(device, &set, member, validation, watch)?;
            members.push(trained.network);
            best_updates.push(trained.updates);
            improving |= trained.improving;
        }
        drop(set);
        best_updates.sort_unstable();
        let best_updates = best_updates[best_updates.len() / 2];
        Ok(Fitted { settings: self.settings.clone(), encoder, members, best_updates, improving })
    }

    /// Trains one network.
    fn train(
        &self,
        device: &Device,
        set: &TrainingSet,
        member: usize,
        validation: Option<&Validation>,
        watch: &mut dyn Watch,
    ) -> Result<Trained, ForecastError> {
        let settings = &self.settings;
        let mut training = Training::new(device, set, settings, settings.seed + member as u64)?;
        let parameters = training.network().parameters()?;
        let mut network = Network::with_parameters(device, training.network().config(), &parameters)?;
        let mut best: Option<Best> = None;
        let mut last = None;
        match watch.kept(member)? {
            Some(checkpoint) => {
                training.resume(device, &checkpoint)?;
                best = Best::of(&checkpoint)?;
                last = best.as_ref().map(|best| best.last);
            }
            None => {
                if let Some(validation) = validation {
                    let error = error(set.encoder, &network, settings, validation)?; // of the linear regression alone
                    best = Some(Best { error, update: 0, last: error, improving: false, parameters });
                    last = Some(error);
                }
            }
        }
        let until = settings.stop_after.unwrap_or(settings.updates).min(settings.updates);
        let look = settings.updates.div_ceil(LOOKS);
        while training.updates() < until {
            let loss = training.update()?;
            let update = training.updates();
            if !loss.is_finite() {
                return Err(ForecastError::Settings(format!(
                    "the loss is not finite after {update} updates; use a smaller learning rate, and look for outliers in \
                     the table"
                )));
            }
            if let Some(validation) = validation.filter(|_| update % look == 0 || update == until) {
                let averaged = training.averaged()?;
                network.set_parameters(&averaged)?;
                let error = error(set.encoder, &network, settings, validation)?;
                last = Some(error);
                let improving = best.as_ref().is_some_and(|best| error < IMPROVING * best.last);
                match &mut best {
                    // Whatever it does from one look to the next, it was better before.
                    Some(best) if error >= best.error => (best.last, best.improving) = (error, false),
                    _ => best = Some(Best { error, update, last: error, improving, parameters: averaged }),
                }
            }
            if watch.wants_checkpoint() {
                watch.keep(member, Best::kept_in(training.checkpoint()?, best.as_ref()))?;
            }
            if !watch.progress(&Progress { member, update, loss, validation: last }) {
                watch.keep(member, Best::kept_in(training.checkpoint()?, best.as_ref()))?;
                return Err(ForecastError::Stopped);
            }
        }
        watch.keep(member, Best::kept_in(training.checkpoint()?, best.as_ref()))?;
        let (updates, parameters, improving) = match best {
            Some(best) => (best.update, best.parameters, best.improving),
            None if until == 0 => (0, network.parameters()?, false),
            None => (until, training.averaged()?, false),
        };
        network.set_parameters(&parameters)?;
        Ok(Trained { network, updates, improving })
    }
}

/// A network at the end of its training.
struct Trained {
    network: Network,
    /// The updates after which its parameters were taken.
    updates: u64,
    /// Whether its last look at the validation part was clearly better than the one before.
    improving: bool,
}

/// The parameters that did best on the validation part so far.
struct Best {
    error: f64,
    update: u64,
    /// The error at the last look.
    last: f64,
    /// Whether it was clearly better than the one before.
    improving: bool,
    parameters: Parameters,
}

impl Best {
    /// The name of the parameters among a checkpoint's tensors, and of the rest in its metadata.
    const KEY: &str = "best";

    /// The best parameters that a checkpoint holds; `None` if it was kept without a validation part.
    fn of(checkpoint: &Checkpoint) -> Result<Option<Best>, ForecastError> {
        let Some(parameters) = checkpoint.optimizer.get(Best::KEY).cloned() else { return Ok(None) };
        let text = checkpoint.metadata.get(Best::KEY).map_or("", String::as_str);
        let (error, update, last, improving) = serde_json::from_str(text).map_err(|error| {
            ForecastError::Settings(format!(
                "a checkpoint's validation errors cannot be read: {error}; train again"
            ))
        })?;
        Ok(Some(Best { error, update, last, improving, parameters }))
    }

    fn kept_in(mut checkpoint: Checkpoint, best: Option<&Best>) -> Checkpoint {
        if let Some(best) = best {
            let numbers = serde_json::to_string(&(best.error, best.update, best.last, best.improving));
            checkpoint.metadata.insert(Best::KEY.into(), numbers.expect("numbers are JSON"));
            checkpoint.optimizer.insert(Best::KEY.into(), best.parameters.clone());
        }
        checkpoint
    }
}

/// The mean absolute error of one network's medians, each in the unit and with the weight of its window.
fn error(
    encoder: &Encoder,
    network: &Network,
    settings: &Settings,
    validation: &Validation,
) -> Result<f64, ForecastError> {
    let (mut sums, mut weights) = ([0.0; 2], [0.0; 2]);
    for origins in validation.origins.chunks(AT_ONCE) {
        let known: Vec<(usize, &[f64])> = origins
            .iter()
            .map(|(series, origin)| (*series, &validation.series[*series][..*origin]))
            .collect();
        let windows = windows(encoder, &known);
        let output = network.predict(input(encoder, &windows))?;
        for (row, (window, (series, origin))) in windows.iter().zip(origins).enumerate() {
            let (mut error, mut count) = (0.0, 0.0);
            for k in 0..settings.horizon {
                let truth = validation.made_up.truth(*series, validation.series[*series], *origin, k);
                if !truth.is_nan() {
                    let forecast = settings.loss.point(window.base(k) + output[[0, row, k]], &window.unit);
                    error += f64::from((forecast - window.unit.encoded(truth)).abs());
                    count += 1.0;
                }
            }
            if count == 0.0 {
                continue;
            }
            error /= count;
            for (half, weight) in window.weights.into_iter().map(f64::from).enumerate() {
                sums[half] += weight * error;
                weights[half] += weight;
            }
        }
    }
    let half = |at: usize| sums[at] / weights[at].max(f64::MIN_POSITIVE);
    Ok(0.5 * (half(0) + half(1)))
}

fn windows(encoder: &Encoder, known: &[(usize, &[f64])]) -> Vec<Window> {
    known.iter().map(|(series, past)| encoder.window(*series, past)).collect()
}

/// `[steps, windows, width]`
fn input(encoder: &Encoder, windows: &[Window]) -> Array3<f32> {
    let (steps, width) = encoder.shape();
    Array3::from_shape_fn((steps, windows.len(), width), |(t, row, k)| windows[row].input[t * width + k])
}

/// Trained networks and what they need to forecast.
#[derive(Debug)]
pub struct Fitted {
    pub(crate) settings: Settings,
    pub(crate) encoder: Encoder,
    pub(crate) members: Vec<Network>,
    pub(crate) best_updates: u64,
    /// Whether a network's error on the validation part was still falling at the end of its training.
    pub(crate) improving: bool,
}

impl Fitted {
    /// The settings of the training.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Takes what is known beside the series from here on: of the same series as in the training, in the same columns. A
    /// file does not hold it.
    pub fn put_beside(&mut self, beside: &Beside) {
        self.encoder.put(beside);
        self.settings.beside = beside.clone();
    }

    /// Takes other series, in their order, and what is known beside them. `known` has the number of each among those it had so
    /// far (at first those of the training), `None` for a new one, and `lengths` the samples of each. A new series is scaled by its
    /// own samples.
    ///
    /// # Errors
    /// [`ForecastError::Settings`] for a new series of networks that do not share their window and units ([`Settings::shared`]).
    pub fn put_series(
        &mut self,
        beside: &Beside,
        known: &[Option<usize>],
        lengths: &[usize],
    ) -> Result<(), ForecastError> {
        self.encoder.put_series(beside, known, lengths)?;
        self.settings.beside = beside.clone();
        Ok(())
    }

    /// The constant values of the first `series` series that the training did not have.
    pub fn unseen(&self, series: usize) -> Vec<Unseen> {
        self.encoder.unseen(series)
    }

    /// The networks, one for each seed.
    pub fn networks(&self) -> &[Network] {
        &self.members
    }

    /// The samples that must be known before a forecast.
    pub fn needed(&self) -> usize {
        self.encoder.needed()
    }

    /// The networks and how long they were trained, in a few words.
    pub fn describe(&self) -> String {
        let Settings { architecture, cell, hidden, layers, updates, .. } = &self.settings;
        let kind = match architecture {
            Architecture::Dense => "dense",
            Architecture::Convolution => "channels",
            Architecture::Recurrent => cell.name(),
        };
        let times = if *layers > 1 { format!("{layers} x ") } else { String::new() };
        let ids = if self.settings.ids == Ids::Always { ", reads ids" } else { "" };
        let networks = match self.members.len() {
            1 => String::new(),
            many => format!(", median of {many}"),
        };
        let best = self.best_updates;
        let end = match () {
            () if self.improving => ", still improving at the end: more --updates may help",
            () if best == 0 && self.settings.shared => ": no better than its start, one regression for all",
            () if best == 0 => ": no better than its start, the regression",
            () => "",
        };
        format!(
            "{times}{kind} {hidden}, window {}{ids}{networks}, best after {best} of {updates} updates{end}",
            self.encoder.whole()
        )
    }

    /// The updates after which the parameters were taken, the median over the networks.
    pub fn best_updates(&self) -> u64 {
        self.best_updates
    }

    /// Forecasts the horizon after the known samples of several series, given by their number in the training:
    /// `[3, rows, horizon]`, the median, then the ends of an interval of 95 %, not calibrated.
    ///
    /// # Errors
    /// [`ForecastError::Settings`] when too few samples are known; those of the device.
    pub fn forecast(&self, known: &[(usize, &[f64])]) -> Result<Array3<f64>, ForecastError> {
        let mut out = Array3::zeros((3, known.len(), self.settings.horizon));
        for (at, known) in known.chunks(AT_ONCE).enumerate() {
            self.forecast_some(known, |end, row, k, value| out[[end, at * AT_ONCE + row, k]] = value)?;
        }
        Ok(out)
    }

    /// Forecasts as [`Fitted::forecast`] does: the medians, `[rows, horizon]`, and their bands, how far the interval's ends lie
    /// below and above them, `[2, rows, horizon]`.
    ///
    /// # Errors
    /// Those of [`Fitted::forecast`].
    pub fn forecast_bands(
        &self,
        known: &[(usize, &[f64])],
    ) -> Result<(Array2<f64>, Array3<f64>), ForecastError> {
        let mut bands = self.forecast(known)?;
        let medians = bands.index_axis(Axis(0), 0).to_owned();
        for (end, sign) in [(1, -1.0), (2, 1.0)] {
            let mut band = bands.index_axis_mut(Axis(0), end);
            band.zip_mut_with(&medians, |end, median| *end = (sign * (*end - median)).max(0.0));
        }
        bands.slice_collapse(s![1.., .., ..]);
        Ok((medians, bands))
    }

    fn forecast_some(
        &self,
        known: &[(usize, &[f64])],
        mut give: impl FnMut(usize, usize, usize, f64),
    ) -> Result<(), ForecastError> {
        if let Some((_, past)) = known.iter().find(|(_, past)| past.len() < self.needed()) {
            return Err(ForecastError::Settings(format!(
                "a forecast needs {} samples before it; found {}; give a table with more rows",
                self.needed(),
                past.len()
            )));
        }
        for (series, past) in known {
            self.encoder.check(*series, past.len())?;
        }
        let windows = windows(&self.encoder, known);
        let input = input(&self.encoder, &windows);
        let outputs = self.members.iter().map(|network| network.predict(&input));
        let outputs = outputs.collect::<Result<Vec<_>, _>>()?;
        let horizon = self.settings.horizon;
        for (row, window) in windows.iter().enumerate() {
            for k in 0..horizon {
                let of = |at: usize| median(outputs.iter().map(|output| output[[0, row, at]]).collect());
                let mut outputs = outputs_of(self.settings.loss, horizon, k, of);
                outputs[0] += window.base(k);
                let ends = self.settings.loss.interval(outputs, &window.unit);
                for (end, value) in ends.into_iter().enumerate() {
                    give(end, row, k, value);
                }
            }
        }
        Ok(())
    }
}

fn median(mut values: Vec<f32>) -> f32 {
    values.sort_unstable_by(f32::total_cmp);
    let half = values.len() / 2;
    if values.len() % 2 == 1 { values[half] } else { 0.5 * (values[half - 1] + values[half]) }
}

#[cfg(test)]
mod tests;
