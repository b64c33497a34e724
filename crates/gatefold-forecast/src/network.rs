//! Training of one network.

use crate::encode::{Encoder, Window};
use crate::settings::MedianLoss;
use crate::{ForecastError, Settings};
use gatefold::file::Checkpoint;
use gatefold::training::Schedule;
use gatefold::{Device, Network, Parameters, TrainConfig, Trainer};
use gatefold_model::LayerKind;
use ndarray::{Array3, ArrayView3};
use rand::RngExt;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use std::collections::BTreeMap;

/// The quantiles at the ends of the interval, and the weight of their losses beside the median's absolute error.
pub(crate) const QUANTILES: [f32; 2] = [0.025, 0.975];
const QUANTILE_WEIGHT: f32 = 0.3;
const WARM_UP: u64 = 100;

/// The windows to train on: every origin of every series with a whole horizon after it.
pub(crate) struct TrainingSet<'a> {
    pub(crate) encoder: &'a Encoder,
    pub(crate) series: &'a [&'a [f64]],
    /// Series that have windows, with their first and last origin.
    origins: Vec<(usize, usize, usize)>,
    horizon: usize,
}

impl<'a> TrainingSet<'a> {
    pub(crate) fn new(encoder: &'a Encoder, series: &'a [&'a [f64]], horizon: usize) -> Self {
        let first = encoder.needed();
        let ranges =
            series.iter().enumerate().map(|(at, values)| (at, first, values.len().saturating_sub(horizon)));
        TrainingSet {
            encoder,
            series,
            origins: ranges.filter(|(_, first, last)| first <= last).collect(),
            horizon,
        }
    }

    /// A window drawn uniformly over series, then over time, and its targets in its unit.
    fn draw(&self, random: &mut ChaCha8Rng) -> (Window, Vec<f32>) {
        let &(series, first, last) = self.origins.choose(random).expect("checked: there is a window");
        let origin = random.random_range(first..=last);
        let values = self.series[series];
        let window = self.encoder.window(series, &values[..origin]);
        let targets =
            values[origin..origin + self.horizon].iter().map(|value| window.unit.encoded(*value)).collect();
        (window, targets)
    }

    /// The batch of an update: it depends on seed and update alone.
    fn batch(&self, settings: &Settings, seed: u64, update: u64) -> Batch {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        random.set_stream(update);
        let (steps, width) = self.encoder.shape();
        let rows = settings.batch;
        let mut batch = Batch {
            input: Array3::zeros((steps, rows, width)),
            rest: Array3::zeros((1, rows, self.horizon)),
            weights: vec![0.0; rows],
        };
        for row in 0..rows {
            let (window, targets) = self.draw(&mut random);
            let other = (random.random::<f64>() < settings.mixing).then(|| {
                let share = random.random_range(0.5f32..1.0);
                (self.draw(&mut random), share)
            });
            let mix = |own: f32, other: Option<(f32, f32)>| match other {
                Some((other, share)) => share * own + (1.0 - share) * other,
                None => own,
            };
            for t in 0..steps {
                for k in 0..width {
                    let at = t * width + k;
                    let blended = other.as_ref().map(|((window, _), share)| (window.input[at], *share));
                    batch.input[[t, row, k]] = mix(window.input[at], blended);
                }
            }
            for (k, target) in targets.iter().enumerate() {
                let blended =
                    other.as_ref().map(|((window, targets), share)| (targets[k] - window.base[k], *share));
                batch.rest[[0, row, k]] = mix(target - window.base[k], blended);
            }
            batch.weights[row] =
                mix(window.weight, other.as_ref().map(|((window, _), share)| (window.weight, *share)));
        }
        let mean = batch.weights.iter().sum::<f32>() / rows as f32;
        batch.weights.iter_mut().for_each(|weight| *weight /= mean.max(f32::MIN_POSITIVE));
        batch
    }
}

struct Batch {
    /// `[steps, batch, width]`
    input: Array3<f32>,
    /// The remainder of the linear forecast, `[1, batch, horizon]`.
    rest: Array3<f32>,
    weights: Vec<f32>,
}

/// `ln(1 + exp(x))`
pub(crate) fn softplus(x: f32) -> f32 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

/// The mean loss, and its gradient with respect to the output `[1, batch, 3 horizon]`: for each step the median `m`, and
/// two numbers `a`, `b`. The interval goes from `m - softplus(a)` to `m + softplus(b)`; its pinball losses do not move
/// the median.
fn loss(output: ArrayView3<f32>, batch: &Batch, kind: MedianLoss) -> (f32, Array3<f32>) {
    let (_, rows, horizon) = batch.rest.dim();
    let mut gradient = Array3::zeros(output.dim());
    let (mut sum, count) = (0.0f32, (rows * horizon) as f32);
    for row in 0..rows {
        let weight = batch.weights[row] / count;
        for k in 0..horizon {
            let (median, truth) = (output[[0, row, k]], batch.rest[[0, row, k]]);
            let error = median - truth;
            let (value, slope) = kind.of(error);
            sum += weight * value;
            gradient[[0, row, k]] = weight * slope;
            for (end, (quantile, sign)) in QUANTILES.into_iter().zip([-1.0f32, 1.0]).enumerate() {
                let at = [0, row, (end + 1) * horizon + k];
                let raw = output[at];
                let below = truth - (median + sign * softplus(raw));
                let slope = if below > 0.0 { quantile } else { quantile - 1.0 };
                sum += QUANTILE_WEIGHT * weight * below * slope;
                gradient[at] = -QUANTILE_WEIGHT * weight * slope * sign / (1.0 + (-raw).exp());
            }
        }
    }
    (sum, gradient)
}

/// One network in training.
pub(crate) struct Training<'a> {
    set: &'a TrainingSet<'a>,
    settings: &'a Settings,
    seed: u64,
    trainer: Trainer,
}

impl<'a> Training<'a> {
    pub(crate) fn new(
        device: &Device,
        set: &'a TrainingSet<'a>,
        settings: &'a Settings,
        seed: u64,
    ) -> Result<Self, ForecastError> {
        if set.origins.is_empty() {
            return Err(ForecastError::Settings(
                "no series is long enough for a window and its horizon".into(),
            ));
        }
        let config = settings.network(set.encoder.shape().1)?;
        let mut parameters = Parameters::initial(&config, seed)?;
        // The last layer starts at zero: an untrained network is the linear regression.
        let dense =
            config.layers().iter().filter(|layer| matches!(layer.kind, LayerKind::Dense { .. })).count();
        for name in ["weight", "bias"].map(|name| format!("dense{}.{name}", dense - 1)) {
            parameters.get_mut(&name).expect("the last layer is dense, with a bias").fill(0.0);
        }
        let network = Network::with_parameters(device, &config, &parameters)?;
        Ok(Training { set, settings, seed, trainer: Trainer::new(network, train_config(settings))? })
    }

    /// One update; the mean loss of its batch, before it.
    pub(crate) fn update(&mut self) -> Result<f32, ForecastError> {
        let batch = self.set.batch(self.settings, self.seed, self.trainer.steps());
        let tape = self.trainer.network().forward_training(&batch.input, None, None)?;
        let (loss, d_output) = loss(tape.output(), &batch, self.settings.loss);
        let gradients = self.trainer.network().backward(tape, d_output.view(), None)?;
        self.trainer.apply(&gradients)?;
        Ok(loss)
    }

    /// Continues from a checkpoint instead.
    pub(crate) fn resume(&mut self, device: &Device, checkpoint: &Checkpoint) -> Result<(), ForecastError> {
        self.trainer = Trainer::resume(device, checkpoint, train_config(self.settings))?;
        Ok(())
    }

    /// Everything needed to continue.
    pub(crate) fn checkpoint(&self) -> Result<Checkpoint, ForecastError> {
        Ok(self.trainer.checkpoint(self.seed, BTreeMap::new())?)
    }

    pub(crate) fn network(&self) -> &Network {
        self.trainer.network()
    }

    /// Updates done.
    pub(crate) fn updates(&self) -> u64 {
        self.trainer.steps()
    }

    /// The parameters so far, averaged over the updates.
    pub(crate) fn averaged(&self) -> Result<Parameters, ForecastError> {
        Ok(self.trainer.averaged_parameters()?)
    }
}

fn train_config(settings: &Settings) -> TrainConfig {
    TrainConfig::new()
        .optimizer(settings.optimizer.into())
        .learning_rate(settings.learning_rate)
        .schedule(Schedule::cosine(settings.updates).warm_up(WARM_UP.min(settings.updates / 4)))
        .clip_norm(Some(settings.clip))
        .clip_value(settings.clip_value)
        .average(Some(settings.average))
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_relative_eq;

    /// A batch of two rows and two steps with unlike weights, and an output for it.
    fn case() -> (Array3<f32>, Batch) {
        let output =
            Array3::from_shape_fn((1, 2, 6), |(_, row, at)| 0.37 * (row as f32 + 1.0) - 0.21 * at as f32);
        let rest = Array3::from_shape_fn((1, 2, 2), |(_, row, k)| 0.5 * k as f32 - 0.8 * row as f32 + 0.05);
        (output, Batch { input: Array3::zeros((1, 2, 1)), rest, weights: vec![0.5, 1.5] })
    }

    #[test]
    fn the_gradient_of_the_loss_is_that_of_its_differences() {
        for kind in [MedianLoss::Absolute, MedianLoss::Squared, MedianLoss::Huber] {
            let (output, batch) = case();
            let (_, gradient) = loss(output.view(), &batch, kind);
            for row in 0..2 {
                for at in 0..6 {
                    let moved = |by: f32| {
                        let mut output = output.clone();
                        output[[0, row, at]] += by;
                        // The ends of the interval do not pull at the median: its own loss alone counts.
                        match at {
                            0 | 1 => {
                                let error = output[[0, row, at]] - batch.rest[[0, row, at]];
                                batch.weights[row] / 4.0 * kind.of(error).0
                            }
                            _ => loss(output.view(), &batch, kind).0,
                        }
                    };
                    let difference = (moved(1e-2) - moved(-1e-2)) / 2e-2;
                    // Losses near 1 in f32, divided by a step of 2e-2, err by 1e-5; the squared terms are exact here.
                    assert_relative_eq!(gradient[[0, row, at]], difference, epsilon = 2e-4);
                }
            }
        }
    }

    #[test]
    fn batches_depend_on_seed_and_update_alone() {
        let values: Vec<f64> = (0..120).map(|t| (0.3 * f64::from(t)).sin() + 0.01 * f64::from(t)).collect();
        let settings = Settings { mixing: 0.5, batch: 8, ..Settings::new(2, Some(7), &[120]) };
        let series = [values.as_slice()];
        let encoder = Encoder::fit(&settings, &series).unwrap();
        let set = TrainingSet::new(&encoder, &series, 2);
        let (one, again) = (set.batch(&settings, 3, 5), set.batch(&settings, 3, 5));
        assert_eq!((&one.input, &one.rest), (&again.input, &again.rest));
        assert_ne!(one.input, set.batch(&settings, 3, 6).input);
        assert_ne!(one.input, set.batch(&settings, 4, 5).input);
        assert_relative_eq!(one.weights.iter().sum::<f32>(), 8.0, max_relative = 1e-6);
    }
}
