//! One series of several as a network sees it.

use super::gaps::{distances, interpolated};
use super::rhythm::Rhythm;
use crate::TaskError;
use gatefold_series::{FittedKalman, Kalman};
use ndarray::Array2;
use std::f64::consts::TAU;

/// At most so many other columns are read beside the one to fill.
const MOST_OTHERS: usize = 8;
/// Numbers further away are cut: one wild value must not rule a network.
const LIMIT: f64 = 20.0;

/// The scales of a series, and its linear dynamic system.
#[derive(Clone, Debug)]
pub(super) struct Unit {
    mean: f64,
    deviation: f64,
    /// The mean absolute change from one known value to the next.
    pub(super) change: f64,
    kalman: FittedKalman,
}

impl Unit {
    /// # Errors
    /// [`TaskError::Series`] when no value is known.
    pub(super) fn of(values: &[f64], season: usize) -> Result<Unit, TaskError> {
        let known: Vec<f64> = values.iter().copied().filter(|value| !value.is_nan()).collect();
        let n = known.len().max(1) as f64;
        let mean = known.iter().sum::<f64>() / n;
        let deviation = (known.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n).sqrt();
        let change = known.windows(2).map(|pair| (pair[1] - pair[0]).abs()).sum::<f64>() / (n - 1.0).max(1.0);
        let positive = |x: f64, other: f64| if x > 0.0 { x } else { other };
        let deviation = positive(deviation, 1.0);
        let kalman = Kalman::automatic(season).fit_form(values)?;
        Ok(Unit { mean, deviation, change: positive(change, deviation), kalman })
    }
}

/// Guesses of a series by methods that are not networks.
#[derive(Clone, Debug)]
pub(super) struct Guesses {
    pub(super) linear: Vec<f64>,
    pub(super) kalman: Vec<f64>,
    /// Regression where a value is missing, and smoothing elsewhere; empty until it is fitted.
    pub(super) regression: Vec<f64>,
    /// The smoother's standard deviation of each value, above 0.
    pub(super) deviation: Vec<f64>,
}

impl Guesses {
    pub(super) fn of(values: &[f64], unit: &Unit) -> Result<Guesses, TaskError> {
        let smoothed = unit.kalman.smooth(values)?;
        let least = 1e-6 * unit.change;
        Ok(Guesses {
            linear: interpolated(values),
            kalman: smoothed.mean,
            regression: Vec::new(),
            deviation: smoothed.variance.iter().map(|variance| variance.sqrt().max(least)).collect(),
        })
    }
}

/// A channel with gaps, and everything around it.
pub(super) struct Surroundings<'a> {
    pub(super) channel: usize,
    pub(super) visible: &'a [Vec<f64>],
    pub(super) units: &'a [Unit],
    pub(super) rhythm: Rhythm,
    /// Steps to the nearest known values before and after.
    pub(super) near: Vec<(usize, usize)>,
    /// Other channels, their gaps bridged by straight lines.
    pub(super) others: Vec<(usize, Vec<f64>)>,
}

impl<'a> Surroundings<'a> {
    pub(super) fn of(channel: usize, visible: &'a [Vec<f64>], units: &'a [Unit], rhythm: Rhythm) -> Self {
        let others = (0..visible.len()).filter(|other| *other != channel).take(MOST_OTHERS);
        Surroundings {
            channel,
            visible,
            units,
            rhythm,
            near: distances(&visible[channel]),
            others: others.map(|other| (other, interpolated(&visible[other]))).collect(),
        }
    }

    /// The mean change of the channel.
    pub(super) fn change(&self) -> f64 {
        self.units[self.channel].change
    }

    /// The number of other channels that are read, of so many channels.
    pub(super) fn others(channels: usize) -> usize {
        (channels - 1).min(MOST_OTHERS)
    }

    /// The input `[steps, width]` of a network that adds to `start`: the visible values about it, where they are and how
    /// far away, the start itself, the season, and the other channels.
    pub(super) fn input(&self, start: &[f64]) -> Array2<f32> {
        let (values, unit) = (&self.visible[self.channel], &self.units[self.channel]);
        let mut input = Array2::zeros((values.len(), width(self.visible.len(), self.rhythm)));
        for (t, mut row) in input.rows_mut().into_iter().enumerate() {
            let known = !values[t].is_nan();
            let change = |values: &[f64], unit: f64| {
                if t == 0 { 0.0 } else { ((values[t] - values[t - 1]) / unit).clamp(-LIMIT, LIMIT) }
            };
            let mut cells = vec![
                if known { ((values[t] - start[t]) / unit.change).clamp(-LIMIT, LIMIT) } else { 0.0 },
                f64::from(u8::from(known)),
                (1.0 + self.near[t].0 as f64).ln(),
                (1.0 + self.near[t].1 as f64).ln(),
                change(start, unit.change),
                ((start[t] - unit.mean) / unit.deviation).clamp(-LIMIT, LIMIT),
            ];
            if self.rhythm.season >= 2 {
                let (sine, cosine) = (TAU * (t as f64 / self.rhythm.period).fract()).sin_cos();
                cells.extend([sine, cosine]);
            }
            for (other, lines) in &self.others {
                cells.push(f64::from(u8::from(!self.visible[*other][t].is_nan())));
                cells.push(change(lines, self.units[*other].change));
            }
            if self.visible.len() > 1 {
                cells.extend((0..self.visible.len()).map(|other| f64::from(u8::from(other == self.channel))));
            }
            row.iter_mut().zip(cells).for_each(|(to, from)| *to = from as f32);
        }
        input
    }
}

/// The number of values at each step of the input.
pub(super) fn width(channels: usize, rhythm: Rhythm) -> usize {
    let season = if rhythm.season >= 2 { 2 } else { 0 };
    6 + season + 2 * Surroundings::others(channels) + if channels > 1 { channels } else { 0 }
}
