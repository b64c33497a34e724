//! Training of one network.

use crate::encode::{Encoder, Window, WindowUnit};
use crate::linear_branch::set_bands;
use crate::{ForecastError, Loss, Settings};
use gatefold::file::Checkpoint;
use gatefold::training::ParameterGroup;
use gatefold::{Device, Network, Parameters, TrainConfig, Trainer};
use ndarray::{Array2, Array3, ArrayView3, s};
use rand::RngExt;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use std::collections::BTreeMap;

/// The parameters of the linear branch, which comes first.
pub(crate) const LINEAR: &str = "conv0.";
/// The share of the learning rate for the linear branch of a single series: its regression was fitted to the same windows.
const LINEAR_RATE: f32 = 0.1;
/// Windows whose errors say how wide intervals are before training.
const SAMPLED: usize = 1_000;

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
        let first = encoder.whole();
        let ranges = series.iter().enumerate().map(|(at, values)| {
            let unknown = values.iter().take_while(|value| value.is_nan()).count();
            (at, unknown + first, values.len().saturating_sub(horizon))
        });
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
        self.at(series, random.random_range(first..=last))
    }

    /// The window before an origin, and its targets in its unit.
    fn at(&self, series: usize, origin: usize) -> (Window, Vec<f32>) {
        let values = self.series[series];
        let window = self.encoder.window(series, &values[..origin]);
        let targets =
            values[origin..origin + self.horizon].iter().map(|value| window.unit.encoded(*value)).collect();
        (window, targets)
    }

    /// So many windows, evenly spaced over all of them, or all if there are fewer; `None` if there is none.
    pub(crate) fn spread(&self, rows: usize) -> Option<Batch> {
        let counts: Vec<usize> = self.origins.iter().map(|(_, first, last)| last - first + 1).collect();
        let all: usize = counts.iter().sum();
        let rows = rows.min(all);
        let last = all.checked_sub(1)?;
        let mut batch = Batch::zeros(self.encoder.shape(), (rows, self.horizon));
        let mut halves = vec![[0.0; 2]; rows];
        for (row, halves) in halves.iter_mut().enumerate() {
            let mut place = row * last / (rows - 1).max(1);
            let mut of = self.origins.iter().zip(&counts);
            let (&(series, first, _), _) = of.find(|&(_, &count)| {
                let found = place < count;
                place -= if found { 0 } else { count };
                found
            })?;
            let drawn = self.at(series, first + place);
            batch.units.push(drawn.0.unit);
            batch.add(row, &drawn, 1.0, halves);
        }
        batch.weigh(&halves);
        Some(batch)
    }

    /// The outputs after the first, `[output][step]`, that suit the errors of a network on windows to train on.
    fn bands(&self, network: &Network, settings: &Settings) -> Result<Vec<Vec<f32>>, ForecastError> {
        let mut random = ChaCha8Rng::seed_from_u64(settings.seed);
        random.set_stream(u64::MAX);
        let drawn: Vec<(Window, Vec<f32>)> = (0..SAMPLED).map(|_| self.draw(&mut random)).collect();
        let (steps, width) = self.encoder.shape();
        let input = Array3::from_shape_fn((steps, drawn.len(), width), |(t, row, k)| {
            drawn[row].0.input[t * width + k]
        });
        let output = network.predict(&input)?;
        let mut raw = vec![Vec::with_capacity(self.horizon); settings.loss.outputs() - 1];
        for k in 0..self.horizon {
            let of = |(row, (window, targets)): (usize, &(Window, Vec<f32>))| {
                (output[[0, row, k]] + window.base(k), targets[k], window.unit)
            };
            let forecasts: Vec<_> = drawn.iter().enumerate().map(of).collect();
            let start = settings.loss.start(&forecasts);
            raw.iter_mut().zip(start).for_each(|(raw, start)| raw.push(start));
        }
        Ok(raw)
    }

    /// The batch of an update: it depends on seed and update alone.
    fn batch(&self, settings: &Settings, seed: u64, update: u64) -> Batch {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        random.set_stream(update);
        let rows = settings.batch;
        let mut batch = Batch::zeros(self.encoder.shape(), (rows, self.horizon));
        let mut halves = vec![[0.0; 2]; rows];
        for (row, halves) in halves.iter_mut().enumerate() {
            let drawn = self.draw(&mut random);
            batch.units.push(drawn.0.unit);
            if random.random::<f64>() < settings.mixing {
                let share = random.random_range(0.5f32..1.0);
                batch.add(row, &drawn, share, halves);
                batch.add(row, &self.draw(&mut random), 1.0 - share, halves);
            } else {
                batch.add(row, &drawn, 1.0, halves);
            }
        }
        batch.weigh(&halves);
        batch
    }
}

pub(crate) struct Batch {
    /// `[steps, batch, width]`
    pub(crate) input: Array3<f32>,
    /// In the unit of each window, `[batch, horizon]`.
    targets: Array2<f32>,
    /// The part of the forecast that is not the network's, `[batch, horizon]`.
    base: Array2<f32>,
    units: Vec<WindowUnit>,
    weights: Vec<f32>,
}

impl Batch {
    fn zeros((steps, width): (usize, usize), (rows, horizon): (usize, usize)) -> Batch {
        Batch {
            input: Array3::zeros((steps, rows, width)),
            targets: Array2::zeros((rows, horizon)),
            base: Array2::zeros((rows, horizon)),
            units: Vec::with_capacity(rows),
            weights: Vec::new(),
        }
    }

    /// Weighs the rows by both halves, each of which has a mean of 1 then.
    fn weigh(&mut self, halves: &[[f32; 2]]) {
        let mean = |half: usize| {
            let sum = halves.iter().map(|weights| weights[half]).sum::<f32>();
            (sum / halves.len() as f32).max(f32::MIN_POSITIVE)
        };
        let means = [mean(0), mean(1)];
        let weight = |halves: &[f32; 2]| 0.5 * (halves[0] / means[0] + halves[1] / means[1]);
        self.weights = halves.iter().map(weight).collect();
    }

    /// Adds a share of a window and its targets to a row.
    fn add(
        &mut self,
        row: usize,
        (window, targets): &(Window, Vec<f32>),
        share: f32,
        weights: &mut [f32; 2],
    ) {
        let width = self.input.dim().2;
        for (mut step, values) in self.input.outer_iter_mut().zip(window.input.chunks_exact(width)) {
            step.row_mut(row).iter_mut().zip(values).for_each(|(to, value)| *to += share * value);
        }
        let add = |(to, value): (&mut f32, &f32)| *to += share * value;
        self.targets.row_mut(row).iter_mut().zip(targets).for_each(add);
        self.base.row_mut(row).iter_mut().zip(&window.base).for_each(add);
        weights.iter_mut().zip(window.weights).for_each(|(to, weight)| *to += share * weight);
    }
}

/// `ln(1 + exp(x))`
pub(crate) fn softplus(x: f32) -> f32 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

/// The mean loss, and its gradient with respect to the output `[1, batch, outputs horizon]`: the first output of every
/// step, then the second, and so on.
pub(crate) fn loss(output: ArrayView3<f32>, batch: &Batch, kind: Loss) -> (f32, Array3<f32>) {
    let (rows, horizon) = batch.targets.dim();
    let mut gradient = Array3::zeros(output.dim());
    let (mut sum, count) = (0.0f32, (rows * horizon) as f32);
    for row in 0..rows {
        let (weight, unit) = (batch.weights[row] / count, &batch.units[row]);
        let output = output.slice(s![0, row, ..]);
        let mut gradient = gradient.slice_mut(s![0, row, ..]);
        for k in 0..horizon {
            let mut outputs = outputs_of(kind, horizon, k, |at| output[at]);
            outputs[0] += batch.base[[row, k]];
            let (value, slopes) = kind.of(outputs, batch.targets[[row, k]], unit);
            sum += weight * value;
            for (at, slope) in slopes.into_iter().enumerate().take(kind.outputs()) {
                gradient[at * horizon + k] = weight * slope;
            }
        }
    }
    (sum, gradient)
}

/// The outputs for step `k`; zeros for those that the loss has not.
pub(crate) fn outputs_of(kind: Loss, horizon: usize, k: usize, output: impl Fn(usize) -> f32) -> [f32; 3] {
    std::array::from_fn(|at| if at < kind.outputs() { output(at * horizon + k) } else { 0.0 })
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
        let config = settings.network(set.encoder.shape())?;
        let mut parameters = set.encoder.linear(settings.horizon).parameters(&config, seed)?;
        let mut network = Network::with_parameters(device, &config, &parameters)?;
        let raw = set.bands(&network, settings)?;
        set_bands(&mut parameters, &config, &raw);
        network.set_parameters(&parameters)?;
        Ok(Training { set, settings, seed, trainer: Trainer::new(network, train_config(settings, seed))? })
    }

    /// One update; the mean loss of its batch, before it.
    pub(crate) fn update(&mut self) -> Result<f32, ForecastError> {
        let batch = self.set.batch(self.settings, self.seed, self.trainer.steps());
        let tape =
            self.trainer.network().forward_training(&batch.input, None, Some(self.trainer.dropout()))?;
        let (loss, d_output) = loss(tape.output(), &batch, self.settings.loss);
        let gradients = self.trainer.network().backward(tape, d_output.view(), None)?;
        self.trainer.apply(&gradients)?;
        Ok(loss)
    }

    /// Continues from a checkpoint instead.
    pub(crate) fn resume(&mut self, device: &Device, checkpoint: &Checkpoint) -> Result<(), ForecastError> {
        self.trainer = Trainer::resume(device, checkpoint, train_config(self.settings, self.seed))?;
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

fn train_config(settings: &Settings, seed: u64) -> TrainConfig {
    let linear = if settings.shared { 1.0 } else { LINEAR_RATE };
    TrainConfig::new()
        .group(ParameterGroup::new(LINEAR).learning_rate_factor(linear))
        .optimizer(settings.optimizer.into())
        .learning_rate(settings.learning_rate)
        .schedule(settings.schedule())
        .clip_norm(Some(settings.clip))
        .clip_value(settings.clip_value)
        .average(Some(settings.average))
        .dropout_seed(seed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_relative_eq;

    /// A batch of two rows and two steps with unlike weights, units and bases, and an output for it.
    fn case(kind: Loss) -> (Array3<f32>, Batch) {
        let output = Array3::from_shape_fn((1, 2, 2 * kind.outputs()), |(_, row, at)| {
            0.37 * (row as f32 + 1.0) - 0.21 * at as f32
        });
        let unit = |row: usize| WindowUnit { zero: 2.0, scale: 1.0 + row as f64, logarithm: false };
        let batch = Batch {
            input: Array3::zeros((1, 2, 1)),
            targets: Array2::from_shape_fn((2, 2), |(row, k)| unit(row).encoded((3 * row + 2 * k) as f64)),
            base: Array2::from_shape_fn((2, 2), |(row, k)| 0.11 * (row + 2 * k) as f32),
            units: vec![unit(0), unit(1)],
            weights: vec![0.5, 1.5],
        };
        (output, batch)
    }

    #[test]
    fn the_gradient_of_the_loss_is_that_of_its_differences() {
        // Those losses whose ends pull at the median as their differences say; `heads` tests each on its own.
        for kind in [Loss::Quantile, Loss::Gaussian, Loss::Poisson, Loss::NegativeBinomial] {
            let (output, batch) = case(kind);
            let (_, gradient) = loss(output.view(), &batch, kind);
            for ((_, row, at), slope) in gradient.indexed_iter() {
                let moved = |by: f32| {
                    let mut output = output.clone();
                    output[[0, row, at]] += by;
                    loss(output.view(), &batch, kind).0
                };
                let difference = (moved(5e-3) - moved(-5e-3)) / 1e-2;
                // Losses near 2 in f32, divided by a step of 1e-2, err by 5e-5; curvature adds as much.
                assert_relative_eq!(*slope, difference, epsilon = 5e-4, max_relative = 1e-3);
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
        assert_eq!((&one.input, &one.targets), (&again.input, &again.targets));
        assert_ne!(one.input, set.batch(&settings, 3, 6).input);
        assert_ne!(one.input, set.batch(&settings, 4, 5).input);
        assert_relative_eq!(one.weights.iter().sum::<f32>(), 8.0, max_relative = 1e-6);
    }
}
