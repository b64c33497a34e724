//! The loss, and with it the meaning of a network's outputs: medians with quantiles, or the parameters of a distribution.

use crate::distributions::{NegativeBinomial, Poisson, QUANTILE_975};
use crate::encode::WindowUnit;
use crate::{ForecastError, network::softplus};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The quantiles at the ends of the interval, and the weight of their losses beside the median's absolute error.
const QUANTILES: [f32; 2] = [0.025, 0.975];
const QUANTILE_WEIGHT: f32 = 0.3;
/// The least deviation in units of a window, and the least dispersion: keep likelihoods finite.
const LEAST: f32 = 1e-4;

/// The loss to minimise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Loss {
    /// The absolute error of the median and, with a weight of 0.3, the losses of two quantiles, which do not move it.
    #[default]
    Absolute,
    /// Half the squared error: the forecast is then a mean. Quantiles as above.
    Squared,
    /// Half the square of errors up to 1, and linear beyond (Huber 1964). Quantiles as above.
    Huber,
    /// The losses of the median and two quantiles (Koenker and Bassett 1978), all with the same weight.
    Quantile,
    /// The likelihood of a Gaussian, of which the network gives mean and deviation.
    Gaussian,
    /// The likelihood of counts around a rate (Poisson).
    Poisson,
    /// The likelihood of counts that scatter more: variance `m + a m^2` around the mean `m`.
    NegativeBinomial,
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Loss::Absolute => "absolute",
            Loss::Squared => "squared",
            Loss::Huber => "huber",
            Loss::Quantile => "quantile",
            Loss::Gaussian => "gaussian",
            Loss::Poisson => "poisson",
            Loss::NegativeBinomial => "negative-binomial",
        })
    }
}

/// The loss of one value, and its derivatives with respect to the outputs for it.
type Slopes = (f32, [f32; 3]);

impl Loss {
    /// Outputs for each step of the horizon.
    pub(crate) fn outputs(self) -> usize {
        match self {
            Loss::Absolute | Loss::Squared | Loss::Huber | Loss::Quantile => 3,
            Loss::Gaussian | Loss::NegativeBinomial => 2,
            Loss::Poisson => 1,
        }
    }

    /// Whether it suits whole numbers from 0 alone.
    pub fn counts(self) -> bool {
        matches!(self, Loss::Poisson | Loss::NegativeBinomial)
    }

    /// Checks that the series suit the loss: counts where it needs them.
    ///
    /// # Errors
    /// [`ForecastError::Settings`] with the first sample that is no count.
    pub fn check(self, name: &str, series: &[f64]) -> Result<(), ForecastError> {
        let bad = |value: &f64| *value < 0.0 || value.fract() != 0.0;
        match series.iter().position(bad).filter(|_| self.counts()) {
            Some(at) => Err(ForecastError::Settings(format!(
                "the loss {self} needs whole numbers from 0, and sample {} of {name} is {}; use another loss",
                at + 1,
                series[at]
            ))),
            None => Ok(()),
        }
    }

    /// The loss of a value in the unit of its window, whose outputs these are, with what is not the network's added to the
    /// first.
    pub(crate) fn of(self, outputs: [f32; 3], truth: f32, unit: &WindowUnit) -> Slopes {
        match self {
            Loss::Absolute | Loss::Squared | Loss::Huber | Loss::Quantile => self.quantiles(outputs, truth),
            Loss::Gaussian => gaussian(outputs, truth),
            Loss::Poisson | Loss::NegativeBinomial => {
                let (rate, slope) = rate(outputs[0], unit);
                let count = unit.decoded(f64::from(truth)).round();
                if self == Loss::Poisson {
                    let (value, by_rate) = Poisson { rate }.loss(count);
                    return (value as f32, [(by_rate * slope) as f32, 0.0, 0.0]);
                }
                let dispersion = f64::from(softplus(outputs[1]) + LEAST);
                let (value, [by_mean, by_dispersion]) =
                    NegativeBinomial { mean: rate, dispersion }.loss(count);
                let by_raw = by_dispersion * f64::from(sigmoid(outputs[1]));
                (value as f32, [(by_mean * slope) as f32, by_raw as f32, 0.0])
            }
        }
    }

    fn quantiles(self, [median, below, above]: [f32; 3], truth: f32) -> Slopes {
        let (mut sum, slope) = self.median(median - truth);
        let mut slopes = [slope, 0.0, 0.0];
        let joint = self == Loss::Quantile;
        let weight = if joint { 1.0 } else { QUANTILE_WEIGHT };
        for (end, (raw, sign)) in [(below, -1.0), (above, 1.0)].into_iter().enumerate() {
            let missing = truth - (median + sign * softplus(raw));
            let slope = if missing > 0.0 { QUANTILES[end] } else { QUANTILES[end] - 1.0 };
            sum += weight * missing * slope;
            slopes[1 + end] = -weight * slope * sign * sigmoid(raw);
            if joint {
                slopes[0] -= weight * slope;
            }
        }
        (sum, slopes)
    }

    /// The loss of the median's error, and its derivative.
    fn median(self, error: f32) -> (f32, f32) {
        let half = if self == Loss::Quantile { 0.5 } else { 1.0 };
        match self {
            Loss::Squared => (0.5 * error * error, error),
            Loss::Huber if error.abs() <= 1.0 => (0.5 * error * error, error),
            Loss::Huber => (error.abs() - 0.5, error.signum()),
            _ if error == 0.0 => (0.0, 0.0),
            _ => (half * error.abs(), half * error.signum()),
        }
    }

    /// The raw outputs after the first that suit forecasts and truths of one step, in the units of their windows: bands that
    /// hold 95 % of the errors, their deviation, or the dispersion of counts.
    pub(crate) fn start(self, forecasts: &[(f32, f32, WindowUnit)]) -> Vec<f32> {
        let count = forecasts.len().max(1) as f32;
        let positive = |value: f32| inverse_softplus(value.max(1e-3));
        let mut errors: Vec<f32> =
            forecasts.iter().map(|(first, truth, unit)| truth - self.point(*first, unit)).collect();
        match self {
            Loss::Absolute | Loss::Squared | Loss::Huber | Loss::Quantile => {
                errors.sort_unstable_by(f32::total_cmp);
                let at = |share: f32| errors[(share * (count - 1.0)).round() as usize];
                vec![positive(-at(QUANTILES[0])), positive(at(QUANTILES[1]))]
            }
            Loss::Gaussian => {
                let variance = errors.iter().map(|error| error * error).sum::<f32>() / count;
                vec![positive(variance.sqrt())]
            }
            Loss::NegativeBinomial => {
                let dispersion = |(first, truth, unit): &(f32, f32, WindowUnit)| {
                    let (mean, _) = rate(*first, unit);
                    let error = unit.decoded(f64::from(*truth)) - mean;
                    (error * error - mean, mean * mean)
                };
                let (over, squares) = forecasts
                    .iter()
                    .map(dispersion)
                    .fold((0.0, 0.0), |sum, (over, square)| (sum.0 + over, sum.1 + square));
                vec![positive((over / squares.max(1e-9)).clamp(0.0, 10.0) as f32)]
            }
            Loss::Poisson => Vec::new(),
        }
    }

    /// The forecast in the unit of its window: a median, or the mean of a distribution.
    pub(crate) fn point(self, first: f32, unit: &WindowUnit) -> f32 {
        if self.counts() { unit.encoded(rate(first, unit).0) } else { first }
    }

    /// The forecast, and the ends of an interval of 95 %, in the unit of the series.
    pub(crate) fn interval(self, outputs: [f32; 3], unit: &WindowUnit) -> [f64; 3] {
        let [first, second, third] = outputs;
        let decoded = |ends: [f32; 3]| ends.map(|end| unit.decoded(f64::from(end)));
        let around = |mean: f64, [low, high]: [f64; 2]| {
            // A band of no width could not be stretched: half a count is the least, but no count is below 0.
            [mean, low.min(mean - mean.min(0.5)), high.max(mean + 0.5)]
        };
        match self {
            Loss::Absolute | Loss::Squared | Loss::Huber | Loss::Quantile => {
                decoded([first, first - softplus(second), first + softplus(third)])
            }
            Loss::Gaussian => {
                let reach = QUANTILE_975 as f32 * (softplus(second) + LEAST);
                decoded([first, first - reach, first + reach])
            }
            Loss::Poisson => {
                let poisson = Poisson { rate: rate(first, unit).0 };
                around(poisson.rate, poisson.interval())
            }
            Loss::NegativeBinomial => {
                let dispersion = f64::from(softplus(second) + LEAST);
                let counts = NegativeBinomial { mean: rate(first, unit).0, dispersion };
                around(counts.mean, counts.interval())
            }
        }
    }
}

/// The negative log-likelihood without its constant, for mean and raw deviation.
fn gaussian([mean, raw, _]: [f32; 3], truth: f32) -> Slopes {
    let deviation = softplus(raw) + LEAST;
    let error = (mean - truth) / deviation;
    let by_deviation = (1.0 - error * error) / deviation;
    (deviation.ln() + 0.5 * error * error, [error / deviation, by_deviation * sigmoid(raw), 0.0])
}

/// The rate that an output stands for, always positive, and its derivative: the exponential where the unit has logarithms,
/// else a softplus, so that a rate that is large beside its unit is linear in the output.
fn rate(output: f32, unit: &WindowUnit) -> (f64, f64) {
    let value = unit.zero / unit.scale + f64::from(output);
    if unit.logarithm {
        let rate = (value * unit.scale).min(50.0).exp();
        return (rate, rate * unit.scale);
    }
    let softplus = value.max(0.0) + (-value.abs()).exp().ln_1p();
    let rate = (unit.scale * softplus).max(1e-6);
    (rate, unit.scale / (1.0 + (-value).exp()))
}

/// The number whose softplus this is.
fn inverse_softplus(y: f32) -> f32 {
    if y > 20.0 { y } else { y.exp_m1().ln() }
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_relative_eq;

    const ALL: [Loss; 7] = [
        Loss::Absolute,
        Loss::Squared,
        Loss::Huber,
        Loss::Quantile,
        Loss::Gaussian,
        Loss::Poisson,
        Loss::NegativeBinomial,
    ];

    #[test]
    fn the_slopes_of_every_loss_are_those_of_its_differences() {
        let plain = WindowUnit { zero: 3.0, scale: 2.5, logarithm: false };
        let logarithmic = WindowUnit { zero: 1.1, scale: 0.7, logarithm: true };
        for (loss, unit) in ALL.into_iter().flat_map(|loss| [(loss, &plain), (loss, &logarithmic)]) {
            for (count, outputs) in
                [(7.0, [0.4, -0.3, 0.8]), (0.0, [-1.3, 0.9, -2.0]), (2.0, [2.1, 1.5, 0.1])]
            {
                if count == 0.0 && unit.logarithm {
                    continue; // it has no logarithm
                }
                let truth = unit.encoded(count);
                let (_, slopes) = loss.of(outputs, truth, unit);
                for at in 0..loss.outputs() {
                    let moved = |by: f32| {
                        let mut outputs = outputs;
                        outputs[at] += by;
                        // The ends of the interval do not pull at the median unless the loss is theirs: its own alone counts.
                        match at {
                            0 if loss.outputs() == 3 && loss != Loss::Quantile => {
                                loss.median(outputs[0] - truth).0
                            }
                            _ => loss.of(outputs, truth, unit).0,
                        }
                    };
                    // Losses up to 30 in f32, divided by 4e-3, err by 1e-3; so does the second derivative.
                    let difference = (moved(2e-3) - moved(-2e-3)) / 4e-3;
                    assert_relative_eq!(slopes[at], difference, epsilon = 3e-3, max_relative = 3e-3);
                }
            }
        }
    }

    #[test]
    fn what_is_no_count_is_named() {
        assert!(Loss::Poisson.check("sales", &[0.0, 3.0, 1e6]).is_ok());
        assert!(Loss::Gaussian.check("sales", &[-0.5]).is_ok());
        for (value, text) in [(2.5, "sample 2 of sales is 2.5"), (-1.0, "sample 2 of sales is -1")] {
            let error = Loss::NegativeBinomial.check("sales", &[1.0, value]).unwrap_err().to_string();
            assert!(error.contains(text) && error.contains("negative-binomial"), "{error}");
        }
    }

    #[test]
    fn intervals_of_counts_never_lack_width() {
        let unit = WindowUnit { zero: 0.02, scale: 0.1, logarithm: false };
        for loss in [Loss::Poisson, Loss::NegativeBinomial] {
            let [mean, low, high] = loss.interval([-3.0, 0.0, 0.0], &unit);
            assert!(mean > 0.0 && low >= 0.0 && low < mean && high >= mean + 0.5, "{mean} {low} {high}");
        }
    }
}
