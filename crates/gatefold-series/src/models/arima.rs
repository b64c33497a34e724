use super::decompose::seasonal_strength;
use super::minimise::bfgs;
use super::recursion::{Recursion, bounds, check};
use super::{FittedModel, Model};
use crate::SeriesError;
use filter::Filter;
use lags::{Lags, differenced, is_level};

mod filter;
mod lags;

/// A longer season is left out: its states would make the likelihood slow, and it is no season of months or hours.
const LONGEST_SEASON: usize = 24;
/// The largest orders that the search takes: p and q, then P and Q.
const MOST: (usize, usize) = (4, 2);
/// A season of this strength or more is differenced (Wang, Smith and Hyndman 2006, as R's `nsdiffs` has it).
const STRONG: f64 = 0.64;
const ITERATIONS: usize = 60;

/// The orders of an [`Arima`] model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ArimaOrder {
    /// Autoregressive terms.
    pub p: usize,
    /// Differences.
    pub d: usize,
    /// Moving-average terms.
    pub q: usize,
    /// The same over whole seasons: P, D and Q.
    pub seasonal: (usize, usize, usize),
}

/// The seasonal autoregressive integrated moving average (Box, Jenkins and Reinsel, "Time series analysis", chapter 9):
/// `phi(B) Phi(B^m) (w(t) - mu) = theta(B) Theta(B^m) e(t)` for the differences `w = (1 - B)^d (1 - B^m)^D y`. The mean `mu`
/// is left out where there are two differences or more.
///
/// The parameters maximise the exact Gaussian likelihood by the Kalman filter (Harvey 1989, section 3.3), over the region
/// where the model is stationary and invertible (Monahan 1984). The automatic orders follow Hyndman and Khandakar (2008):
/// differences by the strength of the season and the test of Kwiatkowski, Phillips, Schmidt and Shin (1992), the other
/// orders by a stepwise search for the least AICc, which here is that of conditional sums of squares. As there, a fit of
/// such orders whose roots come too near to the unit circle gives way to one whose roots do not, where there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arima {
    order: Option<ArimaOrder>,
    season: usize,
}

impl Arima {
    /// The orders that suit the series, which may repeat after `season` samples; 1 for none. A season of more than 24 is
    /// left out.
    pub fn automatic(season: usize) -> Self {
        Arima { order: None, season: if season > LONGEST_SEASON { 1 } else { season.max(1) } }
    }

    /// The given orders.
    pub fn of_order(order: ArimaOrder, season: usize) -> Self {
        Arima { order: Some(order), season: season.max(1) }
    }

    /// Fits as [`Model::fit`] does, and returns the parameters too.
    ///
    /// # Errors
    /// Those of [`Model::fit`]; [`SeriesError::Series`] too when orders reach back more than half of the samples.
    pub fn fit_order(&self, series: &[f64]) -> Result<FittedArima, SeriesError> {
        check("arima", series, 3)?;
        let order = self.order.unwrap_or_else(|| automatic_order(series, self.season));
        let lags = Lags::new(order, self.season);
        if 2 * lags.reach() >= series.len() {
            return Err(SeriesError::Series(format!(
                "the model 'arima' of order {} reaches {} samples back and needs twice as many; found {}; add samples",
                shown(order, self.season),
                lags.reach(),
                series.len()
            )));
        }
        let w = Scaled::of(&differenced(series, order.d, order.seasonal.1, self.season), lags.has_mean());
        let mut cost = |x: &[f64]| -> f64 {
            let (phi, theta, mean) = lags.polynomials(x);
            Filter::new(phi, theta, mean).map_or(f64::NAN, |filter| -filter.log_likelihood(&w.values))
        };
        let x = if w.constant {
            vec![0.0; lags.parameters()]
        } else {
            let starts = std::iter::once(conditional(&w.values, &lags).0).chain(lags.starts());
            let found: Vec<Vec<f64>> = starts.map(|start| bfgs(&mut cost, &start, ITERATIONS)).collect();
            let within: Vec<Vec<f64>> = found.iter().filter(|x| !lags.is_at_the_edge(x)).cloned().collect();
            let is_searched = self.order.is_none() && !within.is_empty();
            least(if is_searched { within } else { found }, &mut cost)
        };
        let log_likelihood = -cost(&x) - w.values.len() as f64 * w.scale.ln();
        let (phi, theta, mean) = lags.polynomials(&x);
        let filter = Filter::new(phi, theta, w.centre + w.scale * mean).ok_or_else(|| {
            SeriesError::Series(
                "the model 'arima' is not stationary; the series is too extreme for it".into(),
            )
        })?;
        Ok(FittedArima { order, lags, filter, log_likelihood, bounds: bounds(series) })
    }
}

/// Values in their standard deviation, about their mean where a model has one.
struct Scaled {
    values: Vec<f64>,
    centre: f64,
    scale: f64,
    constant: bool,
}

impl Scaled {
    fn of(w: &[f64], has_mean: bool) -> Scaled {
        let n = w.len().max(1) as f64;
        let mean = w.iter().sum::<f64>() / n;
        let size = (w.iter().map(|w| w * w).sum::<f64>() / n).sqrt();
        let deviation = (w.iter().map(|w| (w - mean).powi(2)).sum::<f64>() / n).sqrt();
        let constant = deviation <= 1e-12 * size.max(f64::MIN_POSITIVE);
        let scale = if constant { 1.0 } else { deviation };
        let centre = if has_mean { mean } else { 0.0 };
        Scaled { values: w.iter().map(|w| (w - centre) / scale).collect(), centre, scale, constant }
    }
}

/// The place of the least cost.
fn least(places: Vec<Vec<f64>>, cost: &mut dyn FnMut(&[f64]) -> f64) -> Vec<f64> {
    let costs: Vec<f64> = places.iter().map(|x| cost(x)).collect();
    let numbers = (0..places.len()).filter(|at| !costs[*at].is_nan());
    let best = numbers.min_by(|a, b| costs[*a].total_cmp(&costs[*b])).unwrap_or(0);
    places[best].clone()
}

/// The parameters with the least conditional sum of squares, and its AICc.
fn conditional(w: &[f64], lags: &Lags) -> (Vec<f64>, f64) {
    let n = w.len() as f64;
    let mut cost = |x: &[f64]| -> f64 {
        let (phi, theta, mean) = lags.polynomials(x);
        0.5 * n * (lags::conditional_squares(w, &phi, &theta, mean) / n).ln()
    };
    let x = least(lags.starts().map(|start| bfgs(&mut cost, &start, ITERATIONS)).into(), &mut cost);
    let k = lags.parameters() as f64 + 1.0; // and the variance
    let penalty = if n > k + 1.0 { 2.0 * k + 2.0 * k * (k + 1.0) / (n - k - 1.0) } else { f64::INFINITY };
    let aicc = 2.0 * cost(&x) + penalty;
    (x, aicc)
}

/// Differences by tests, the other orders by a stepwise search.
fn automatic_order(series: &[f64], season: usize) -> ArimaOrder {
    let seasonal = season >= 2 && series.len() >= 4 * season;
    let season = if seasonal { season } else { 1 };
    let seasons = usize::from(seasonal && seasonal_strength(series, season) >= STRONG);
    let d = (0..2).find(|d| is_level(&differenced(series, *d, seasons, season))).unwrap_or(2);
    let w = Scaled::of(&differenced(series, d, seasons, season), d + seasons < 2);
    let of = |p, q, (sp, sq): (usize, usize)| ArimaOrder { p, d, q, seasonal: (sp, seasons, sq) };
    if w.constant {
        return of(0, 0, (0, 0));
    }
    let mut tried: Vec<(ArimaOrder, f64)> = Vec::new();
    let mut best = (of(0, 0, (0, 0)), f64::INFINITY);
    let some = usize::from(seasonal);
    let mut queue = vec![of(2, 2, (some, some)), of(0, 0, (0, 0)), of(1, 0, (some, 0)), of(0, 1, (0, some))];
    while !queue.is_empty() {
        let before = best.1;
        for order in queue.drain(..) {
            let lags = Lags::new(order, season);
            if tried.iter().any(|(known, _)| *known == order) || 3 * lags.reach() > series.len() {
                continue;
            }
            let (x, aicc) = conditional(&w.values, &lags);
            let edge = lags.is_at_the_edge(&x);
            tried.push((order, aicc));
            if aicc < best.1 && !edge {
                best = (order, aicc);
            }
        }
        if best.1 < before {
            queue = neighbours(best.0, seasonal);
        }
    }
    best.0
}

/// Orders that differ by one from these, in one place or in p and q, or P and Q, at once.
fn neighbours(order: ArimaOrder, seasonal: bool) -> Vec<ArimaOrder> {
    let moved =
        |value: usize, by: isize, most: usize| value.checked_add_signed(by).filter(|value| *value <= most);
    let steps: [(isize, isize); 8] = [(1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, -1), (1, -1), (-1, 1)];
    let mut found = Vec::new();
    for (a, b) in steps {
        if let (Some(p), Some(q)) = (moved(order.p, a, MOST.0), moved(order.q, b, MOST.0)) {
            found.push(ArimaOrder { p, q, ..order });
        }
        let (sp, sd, sq) = order.seasonal;
        if let (true, Some(sp), Some(sq)) = (seasonal, moved(sp, a, MOST.1), moved(sq, b, MOST.1)) {
            found.push(ArimaOrder { seasonal: (sp, sd, sq), ..order });
        }
    }
    found
}

fn shown(order: ArimaOrder, season: usize) -> String {
    let ArimaOrder { p, d, q, seasonal: (sp, sd, sq) } = order;
    let seasonal =
        if (sp, sd, sq) == (0, 0, 0) { String::new() } else { format!("({sp},{sd},{sq}){season}") };
    format!("({p},{d},{q}){seasonal}")
}

impl Model for Arima {
    fn name(&self) -> String {
        "arima".into()
    }

    fn fit(&self, series: &[f64]) -> Result<Box<dyn FittedModel>, SeriesError> {
        Ok(Box::new(self.fit_order(series)?))
    }
}

/// An [`Arima`] model whose parameters are known.
#[derive(Clone, Debug)]
pub struct FittedArima {
    order: ArimaOrder,
    lags: Lags,
    filter: Filter,
    log_likelihood: f64,
    bounds: (f64, f64),
}

impl FittedArima {
    /// The orders.
    pub fn order(&self) -> ArimaOrder {
        self.order
    }

    /// The natural logarithm of the likelihood of the differences.
    pub fn log_likelihood(&self) -> f64 {
        self.log_likelihood
    }
}

/// The newest samples, and the filter's belief about the differences.
pub(crate) struct Followed {
    /// Newest first, as many as differences reach back.
    samples: Vec<f64>,
    belief: filter::Belief,
}

impl Recursion for FittedArima {
    type State = Followed;

    fn name(&self) -> String {
        "arima".into()
    }

    fn needed(&self) -> usize {
        self.lags.differences().len().max(1)
    }

    fn start(&self) -> Followed {
        Followed { samples: Vec::new(), belief: self.filter.start() }
    }

    fn follow(&self, state: &mut Followed, sample: f64) {
        let differences = self.lags.differences();
        if state.samples.len() == differences.len() {
            let carried: f64 = differences.iter().zip(&state.samples).map(|(a, y)| a * y).sum();
            self.filter.follow(&mut state.belief, sample - carried);
        }
        state.samples.insert(0, sample);
        state.samples.truncate(differences.len());
    }

    fn ahead(&self, state: &Followed, out: &mut [f64]) {
        let differences = self.lags.differences();
        let mut samples = state.samples.clone();
        let mut belief = state.belief.clone();
        for value in out {
            let carried: f64 = differences.iter().zip(&samples).map(|(a, y)| a * y).sum();
            let next = carried + self.filter.expected(&belief);
            self.filter.skip(&mut belief);
            samples.insert(0, next);
            samples.truncate(differences.len());
            *value = next.clamp(self.bounds.0, self.bounds.1);
        }
    }

    fn choice(&self) -> Option<String> {
        let drift =
            if self.lags.has_mean() && !self.lags.differences().is_empty() { " with drift" } else { "" };
        Some(format!("{}{drift}", shown(self.order, self.lags.season())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A wave of a year and values that look like noise: a root at the unit circle takes them for a second wave.
    #[test]
    fn noise_is_not_taken_for_a_wave() {
        let value = |t: usize| {
            let rough = (t * t * 7919 % 1000) as f64 / 1000.0;
            50.0 + 10.0 * (t as f64 * std::f64::consts::TAU / 12.0).sin() + 4.0 * rough
        };
        let series: Vec<f64> = (0..240).map(value).collect();
        for known in [144, 192] {
            let fitted = Arima::automatic(12).fit(&series[..known]).unwrap();
            let errors = (known..237).flat_map(|origin| {
                let forecast = fitted.forecast(&series[..origin], 3).unwrap();
                (0..3).map(|k| (forecast[k] - series[origin + k]).abs()).collect::<Vec<_>>()
            });
            let mean = errors.sum::<f64>() / (3 * (237 - known)) as f64;
            // The rough part alone, by its mean, is 1 off.
            assert!(mean < 1.2, "{known}: {mean}");
        }
    }
}
