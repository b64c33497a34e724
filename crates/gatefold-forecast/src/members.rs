use crate::encode::{Encoder, Window};
use crate::network::{Training, TrainingSet, outputs_of};
use crate::{Architecture, Beside, Cell, ForecastError, Settings};
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
                    Some(best) if error >= best.error => (best.last, best.improving) = (error, improving),
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
            let truth = &validation.series[*series][*origin..*origin + settings.horizon];
            let errors = truth.iter().enumerate().map(|(k, truth)| {
                let forecast = settings.loss.point(window.base(k) + output[[0, row, k]], &window.unit);
                f64::from((forecast - window.unit.encoded(*truth)).abs())
            });
            let error = errors.sum::<f64>() / truth.len() as f64;
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
        let kind = match (architecture, cell) {
            (Architecture::Dense, _) => "dense",
            (Architecture::Convolution, _) => "channels",
            (Architecture::Recurrent, Cell::Gru) => "gru",
            (Architecture::Recurrent, Cell::Lstm) => "lstm",
            (Architecture::Recurrent, Cell::Rnn) => "rnn",
        };
        let times = if *layers > 1 { format!("{layers} x ") } else { String::new() };
        let networks = match self.members.len() {
            1 => String::new(),
            many => format!(", median of {many}"),
        };
        let best = self.best_updates;
        let end = match () {
            () if self.improving => ", still improving at the end: more --updates may help",
            () if best == 0 => ": no better than where it starts, the regression",
            () => "",
        };
        format!(
            "{times}{kind} {hidden}, window {}{networks}, best after {best} of {updates} updates{end}",
            self.needed()
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
mod tests {
    use super::*;
    use crate::Loss;
    use crate::distributions::{NegativeBinomial, Poisson};
    use gatefold_series::{FittedModel, Linear};
    use rand::RngExt;
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::SeedableRng;

    fn wave(t: usize) -> f64 {
        40.0 + 9.0 * (t as f64 * std::f64::consts::TAU / 12.0).sin() + ((t * t * 7919) % 100) as f64 / 50.0
    }

    #[test]
    fn an_untrained_network_is_the_linear_regression() {
        let series: Vec<f64> = (0..200).map(wave).collect();
        let mut settings = Settings::new(4, Some(12), &[200]);
        (settings.stop_after, settings.members) = (Some(0), 1);
        let fitted =
            Forecaster::new(settings).fit(&Device::cpu().unwrap(), &[&series[..150]], None, &mut ()).unwrap();
        let linear = Linear::new(4).season(Some(12.0)).fit_linear(&series[..150]).unwrap();
        for origin in [150, 163, 190] {
            let forecast = fitted.forecast(&[(0, &series[..origin])]).unwrap();
            let expected = linear.forecast(&series[..origin], 4).unwrap();
            for k in 0..4 {
                let error = (forecast[[0, 0, k]] - expected[k]).abs();
                assert!(error < 1e-5 * expected[k].abs(), "origin {origin}, step {k}: {error}");
                assert!(
                    forecast[[1, 0, k]] < forecast[[0, 0, k]] && forecast[[0, 0, k]] < forecast[[2, 0, k]]
                );
            }
        }
    }

    #[test]
    fn the_fourier_terms_of_a_regression_are_turned_into_weights() {
        // A season that does not last whole samples, under noise: the moment says more than the window.
        let value = |t: usize| {
            let noise = ((t * t * 7919 + t * 104_729) % 1000) as f64 / 50.0;
            40.0 + 9.0 * (t as f64 * std::f64::consts::TAU / 90.7).sin() + noise
        };
        let series: Vec<f64> = (0..700).map(value).collect();
        let linear = Linear::new(5).season(Some(90.7)).fit_linear(&series[..600]).unwrap();
        assert!(linear.fourier().is_some(), "otherwise there is nothing to test: {linear:?}");
        let mut settings = Settings::new(5, Some(90), &[600]);
        (settings.stop_after, settings.members, settings.longest_season) = (Some(0), 1, Some(90.7));
        let fitted =
            Forecaster::new(settings).fit(&Device::cpu().unwrap(), &[&series[..600]], None, &mut ()).unwrap();
        for origin in [600, 613, 690] {
            let forecast = fitted.forecast(&[(0, &series[..origin])]).unwrap();
            for (k, expected) in linear.forecast(&series[..origin], 5).unwrap().into_iter().enumerate() {
                let error = (forecast[[0, 0, k]] - expected).abs();
                assert!(error < 1e-5 * expected.abs(), "origin {origin}, step {k}: {error}");
            }
        }
    }

    #[test]
    fn the_regressions_of_several_series_stay_outside_an_untrained_network() {
        let series: Vec<Vec<f64>> =
            [1.0, 30.0].map(|scale| (0..200).map(|t| scale * wave(t + scale as usize)).collect()).into();
        let views: Vec<&[f64]> = series.iter().map(|values| &values[..150]).collect();
        let mut settings = Settings::new(3, Some(12), &[150, 150]);
        (settings.stop_after, settings.members) = (Some(0), 1);
        let fitted = Forecaster::new(settings).fit(&Device::cpu().unwrap(), &views, None, &mut ()).unwrap();
        for (at, values) in series.iter().enumerate() {
            let forecast = fitted.forecast(&[(at, &values[..170])]).unwrap();
            let linear = Linear::new(3).season(Some(12.0)).fit_linear(&values[..150]).unwrap();
            for (k, expected) in linear.forecast(&values[..170], 3).unwrap().into_iter().enumerate() {
                assert!((forecast[[0, 0, k]] - expected).abs() < 1e-5 * expected.abs(), "{at} {k}");
            }
        }
    }

    #[test]
    fn an_untrained_network_of_many_series_repeats_their_season() {
        // Seasons of 6 without noise: the last one, repeated, leaves nothing to the regression. The horizon is longer.
        let value = |at: usize, t: usize| 20.0 + at as f64 + ((t % 6 + at) * (t % 6) % 7) as f64;
        let series: Vec<Vec<f64>> = (0..10).map(|at| (0..90).map(|t| value(at, t)).collect()).collect();
        let views: Vec<&[f64]> = series.iter().map(Vec::as_slice).collect();
        let mut settings = Settings::new(8, Some(6), &[90; 10]);
        assert!(settings.shared);
        (settings.stop_after, settings.members, settings.hidden) = (Some(0), 1, 4);
        let fitted = Forecaster::new(settings).fit(&Device::cpu().unwrap(), &views, None, &mut ()).unwrap();
        for (at, values) in views.iter().enumerate() {
            let forecast = fitted.forecast(&[(at, values)]).unwrap();
            for k in 0..8 {
                let error = (forecast[[0, 0, k]] - value(at, 90 + k)).abs();
                assert!(error < 1e-3, "series {at}, step {k}: {error}");
                // Nothing was left on the windows either, so the band is narrow.
                assert!(forecast[[2, 0, k]] - forecast[[1, 0, k]] < 0.1, "series {at}, step {k}");
            }
        }
    }

    /// Counts with this mean, the reciprocal of a gamma distribution's shape as dispersion, or none (Poisson).
    fn counts(len: usize, mean: f64, dispersion: Option<f64>) -> Vec<f64> {
        let mut random = ChaCha8Rng::seed_from_u64(5);
        let poisson = |rate: f64, random: &mut ChaCha8Rng| {
            // Arrivals until one unit of time is over.
            let (mut time, mut count) = (0.0, 0.0);
            loop {
                time -= (1.0 - random.random::<f64>()).ln() / rate;
                if time > 1.0 {
                    return count;
                }
                count += 1.0;
            }
        };
        (0..len)
            .map(|_| {
                // A gamma variable with the shape 2 is the sum of two exponential ones.
                let rate = dispersion.map_or(mean, |dispersion| {
                    assert_eq!(dispersion, 0.5);
                    -(0..2).map(|_| (1.0 - random.random::<f64>()).ln()).sum::<f64>() * mean * dispersion
                });
                poisson(rate, &mut random)
            })
            .collect()
    }

    #[test]
    fn likelihoods_recover_the_distribution_of_counts() {
        for (loss, dispersion) in [
            (Loss::Poisson, None),
            (Loss::NegativeBinomial, Some(0.5)),
            (Loss::Gaussian, None),
            (Loss::Quantile, None),
        ] {
            let series = counts(1600, 8.0, dispersion);
            let mut settings = Settings::new(2, None, &[1200]);
            (settings.members, settings.updates, settings.hidden) = (1, 1500, 4);
            (settings.window, settings.loss) = (Some(4), loss);
            let fitted = Forecaster::new(settings)
                .fit(&Device::cpu().unwrap(), &[&series[..1200]], None, &mut ())
                .unwrap();
            let known: Vec<(usize, &[f64])> = (1200..1598).map(|at| (0, &series[..at])).collect();
            let forecast = fitted.forecast(&known).unwrap();
            let mean = forecast.index_axis(Axis(0), 0).mean().unwrap();
            // The mean of 1,200 counts errs by 0.1 to 0.2 (deviations of 2.8 and 6.3), the network by a little more.
            assert!((mean - 8.0).abs() < 0.8, "{loss}: {mean}");
            let high = forecast.index_axis(Axis(0), 2).mean().unwrap();
            let expected = match dispersion {
                Some(dispersion) => NegativeBinomial { mean: 8.0, dispersion }.interval()[1],
                None => Poisson { rate: 8.0 }.interval()[1],
            };
            assert!((high / expected - 1.0).abs() < 0.15, "{loss}: {high} for {expected}");
            let inside = known.iter().enumerate().flat_map(|(at, (_, past))| {
                let (forecast, series) = (&forecast, &series);
                (0..2).map(move |k| {
                    let truth = series[past.len() + k];
                    f64::from(forecast[[1, at, k]] <= truth && truth <= forecast[[2, at, k]])
                })
            });
            let coverage = inside.sum::<f64>() / (2 * known.len()) as f64;
            // Intervals of whole numbers hold up to 2 % more; 800 values scatter by 0.8 %.
            assert!((0.92..=0.99).contains(&coverage), "{loss}: {coverage}");
        }
    }

    #[test]
    fn what_the_loss_cannot_take_is_refused_by_name() {
        let refused = |settings: Settings, last: f64| {
            let mut series = counts(200, 8.0, None);
            series[199] = last;
            let fit = Forecaster::new(settings).fit(&Device::cpu().unwrap(), &[&series], None, &mut ());
            fit.unwrap_err().to_string()
        };
        let settings =
            Settings { members: 1, updates: 2, loss: Loss::Poisson, ..Settings::new(2, None, &[200]) };
        assert!(refused(settings.clone(), 0.5).contains("sample 200 of series 1 is 0.5"));
        assert!(refused(Settings { mixing: 0.5, ..settings.clone() }, 1.0).contains("blends of counts"));
        let settings = Settings { loss: Loss::Absolute, logarithm: true, ..settings };
        assert!(refused(settings, 0.0).contains("no logarithm of 0"));
    }

    #[test]
    fn a_network_learns_what_a_linear_regression_cannot() {
        // The logistic map is a parabola of the sample before: a line through it says nothing.
        let mut series = vec![0.3];
        for t in 1..1500 {
            series.push(3.9 * series[t - 1] * (1.0 - series[t - 1]));
        }
        let mut settings = Settings::new(1, None, &[1200]);
        (settings.members, settings.updates, settings.window, settings.hidden) = (1, 2000, Some(4), 32);
        let fitted = Forecaster::new(settings)
            .fit(&Device::cpu().unwrap(), &[&series[..1200]], None, &mut ())
            .unwrap();
        let known: Vec<(usize, &[f64])> = (1200..1500).map(|origin| (0, &series[..origin])).collect();
        let network = fitted.forecast(&known).unwrap();
        let linear =
            Linear::new(1).fit_linear(&series[..1200]).unwrap().forecasts(&series, 1200..1500, 1).unwrap();
        let mae = |forecast: &dyn Fn(usize) -> f64| {
            (0..300).map(|at| (forecast(at) - series[1200 + at]).abs()).sum::<f64>() / 300.0
        };
        let (ours, line) = (mae(&|at| network[[0, at, 0]]), mae(&|at| linear[[at, 0]]));
        assert!(ours < 0.3 * line, "{ours} beside {line}");
    }

    #[test]
    fn many_series_share_a_network_whatever_their_scale() {
        // The same shape at scales of a thousandth and a thousand: in units of their own the forecasts are equal.
        let shape: Vec<f64> = (0..160).map(wave).collect();
        let scaled = |scale: f64| shape.iter().map(|value| scale * value).collect::<Vec<f64>>();
        let series: Vec<Vec<f64>> = (0..12).map(|at| scaled(10f64.powi(at % 7 - 3))).collect();
        let views: Vec<&[f64]> = series.iter().map(Vec::as_slice).collect();
        let mut settings = Settings::new(6, Some(12), &[160; 12]);
        assert!(settings.shared && settings.window == Some(72), "{settings:?}");
        (settings.members, settings.updates, settings.hidden) = (1, 30, 8);
        let fitted = Forecaster::new(settings).fit(&Device::cpu().unwrap(), &views, None, &mut ()).unwrap();
        let known: Vec<(usize, &[f64])> = views.iter().copied().enumerate().collect();
        let forecast = fitted.forecast(&known).unwrap();
        for (at, values) in views.iter().enumerate() {
            for k in 0..6 {
                let ratio = forecast[[0, at, k]] / values[0] / (forecast[[0, 3, k]] / views[3][0]);
                assert!((ratio - 1.0).abs() < 1e-4, "series {at}, step {k}: {ratio}");
            }
        }
    }
}
