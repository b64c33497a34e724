use super::least_squares::{LeastSquares, least_squares};
use super::recursion::{Recursion, bounds, check};
use super::{FittedModel, Model};
use crate::SeriesError;
use std::collections::VecDeque;

/// The linear autoregression `y(t) = c + a(1) y(t-1) + ... + a(p) y(t-p) + e(t)`, fitted by least squares (Box,
/// Jenkins and Reinsel, "Time series analysis", chapter 7). Forecasts several steps ahead take the forecasts before
/// them for samples.
///
/// The order is given, or the one with the smallest `AIC = n ln(RSS / n) + 2 (p + 2)` (Akaike 1974), all orders
/// compared on the same samples. A series that an order explains exactly gets that order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ar {
    order: Order,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Given(usize),
    UpTo(usize),
    Automatic,
}

impl Ar {
    /// The order with the smallest AIC, up to `10 log10(n)`.
    pub fn automatic() -> Self {
        Ar { order: Order::Automatic }
    }

    /// The order with the smallest AIC, up to `order`.
    pub fn up_to(order: usize) -> Self {
        Ar { order: Order::UpTo(order) }
    }

    /// The given order; 0 forecasts the mean of the fitted series.
    pub fn of_order(order: usize) -> Self {
        Ar { order: Order::Given(order) }
    }

    /// The coefficients of the given order, that of the sample before first.
    pub(crate) fn coefficients(series: &[f64], order: usize) -> Vec<f64> {
        fit(series, order, order).coefficients
    }

    fn choose(&self, series: &[f64]) -> usize {
        let n = series.len();
        let most = match self.order {
            Order::Given(order) => return order,
            Order::UpTo(order) => order,
            Order::Automatic => (10.0 * (n as f64).log10()) as usize,
        };
        // At least twice as many samples to fit as parameters.
        let most = most.min((n - 1) / 3);
        let residual = fit(series, most, most).residual;
        let exact = 1e-20 * residual[0];
        if let Some(order) = residual.iter().position(|rss| *rss <= exact) {
            return order;
        }
        let rows = (n - most) as f64;
        let aic = |order: usize| rows * (residual[order] / rows).ln() + 2.0 * order as f64;
        (0..=most).min_by(|a, b| aic(*a).total_cmp(&aic(*b))).unwrap_or(0)
    }
}

impl Model for Ar {
    fn name(&self) -> String {
        match self.order {
            Order::Given(order) => format!("ar ({order})"),
            Order::UpTo(_) | Order::Automatic => "ar".into(),
        }
    }

    fn fit(&self, series: &[f64]) -> Result<Box<dyn FittedModel>, SeriesError> {
        let least = match self.order {
            Order::Given(order) => order.saturating_mul(2).saturating_add(2),
            Order::UpTo(_) | Order::Automatic => 1,
        };
        check(&self.name(), series, least)?;
        let order = self.choose(series);
        let coefficients = fit(series, order, order).coefficients;
        let samples = &series[order..];
        let mean = |samples: &[f64]| samples.iter().sum::<f64>() / samples.len() as f64;
        let lagged = |lag: usize| mean(&series[order - lag..series.len() - lag]);
        let explained: f64 = coefficients.iter().zip(1..).map(|(a, lag)| a * lagged(lag)).sum();
        let intercept = mean(samples) - explained;
        Ok(Box::new(FittedAr { name: self.name(), intercept, coefficients, bounds: bounds(series) }))
    }
}

/// Fits the samples after the first `skip` to the `order <= skip` before each. Samples and lags are centred, which
/// takes the intercept out.
fn fit(series: &[f64], order: usize, skip: usize) -> LeastSquares {
    let n = series.len();
    let centred = |lag: usize| -> Vec<f64> {
        let samples = &series[skip - lag..n - lag];
        let mean = samples.iter().sum::<f64>() / samples.len() as f64;
        // Rounding of the mean of equal samples must not look like a signal.
        let off = |sample: f64| {
            if (sample - mean).abs() <= 4.0 * f64::EPSILON * mean.abs() { 0.0 } else { sample - mean }
        };
        samples.iter().map(|sample| off(*sample)).collect()
    };
    least_squares((1..=order).map(centred).collect(), centred(0))
}

#[derive(Clone, Debug)]
struct FittedAr {
    name: String,
    intercept: f64,
    /// Of the sample before first.
    coefficients: Vec<f64>,
    bounds: (f64, f64),
}

impl Recursion for FittedAr {
    /// The last samples, newest first.
    type State = VecDeque<f64>;

    fn choice(&self) -> Option<String> {
        Some(format!("order {}", self.coefficients.len()))
    }

    fn name(&self) -> String {
        self.name.clone()
    }

    fn needed(&self) -> usize {
        self.coefficients.len().max(1)
    }

    fn start(&self) -> Self::State {
        VecDeque::with_capacity(self.coefficients.len() + 1)
    }

    fn follow(&self, last: &mut Self::State, sample: f64) {
        last.push_front(sample);
        last.truncate(self.coefficients.len());
    }

    fn ahead(&self, last: &Self::State, out: &mut [f64]) {
        let mut last = last.clone();
        for value in out {
            let explained: f64 = self.coefficients.iter().zip(&last).map(|(a, y)| a * y).sum();
            *value = (self.intercept + explained).clamp(self.bounds.0, self.bounds.1);
            self.follow(&mut last, *value);
        }
    }
}
