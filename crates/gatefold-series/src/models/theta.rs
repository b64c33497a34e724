use super::decompose::Seasonal;
use super::ets::{Ets, EtsError, EtsForm, EtsSeason, EtsTrend};
use super::least_squares::least_squares;
use super::recursion::{Recursion, check};
use super::{FittedModel, Model};
use crate::SeriesError;

/// The Theta method (Assimakopoulos and Nikolopoulos 2000, "The theta model: a decomposition approach to forecasting"),
/// as the M4 competition's benchmark has it.
///
/// A season is found and removed as in [`Naive2`](super::Naive2). A straight line fitted to the rest by least squares is
/// the theta line 0; `2 y - line` is the theta line 2, with the curvature doubled. The forecast is the mean of the line
/// continued and of the second theta line under simple exponential smoothing, with the season put back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Theta {
    season: usize,
}

impl Theta {
    /// The method for series that may repeat after `season` samples; 1 for none.
    pub fn new(season: usize) -> Self {
        Theta { season }
    }
}

impl Model for Theta {
    fn name(&self) -> String {
        "theta".into()
    }

    fn fit(&self, series: &[f64]) -> Result<Box<dyn FittedModel>, SeriesError> {
        check(&self.name(), series, 1)?;
        let seasonal = Seasonal::of_m4(series, self.season);
        let rest: Vec<f64> = series.iter().enumerate().map(|(t, y)| seasonal.remove(t, *y)).collect();
        // Time is centred, so that the two columns are at right angles.
        let centre = (rest.len() - 1) as f64 / 2.0;
        let times = (0..rest.len()).map(|t| t as f64 - centre).collect();
        let line = least_squares(vec![vec![1.0; rest.len()], times], rest.clone()).coefficients;
        let mut fitted =
            FittedTheta { seasonal, centre, mean: line[0], slope: line[1], alpha: 0.0, level: 0.0 };
        let curved: Vec<f64> = rest.iter().enumerate().map(|(t, y)| 2.0 * y - fitted.line(t)).collect();
        let form = EtsForm { error: EtsError::Additive, trend: EtsTrend::None, season: EtsSeason::None };
        let smoothing = Ets::of_form(form, 1).fit_form(&curved)?;
        (fitted.alpha, fitted.level) = (smoothing.parameters().alpha, smoothing.parameters().level);
        Ok(Box::new(fitted))
    }
}

#[derive(Clone, Debug)]
struct FittedTheta {
    seasonal: Seasonal,
    centre: f64,
    mean: f64,
    slope: f64,
    alpha: f64,
    /// The first level of the second theta line.
    level: f64,
}

impl FittedTheta {
    fn line(&self, t: usize) -> f64 {
        self.mean + self.slope * (t as f64 - self.centre)
    }
}

impl Recursion for FittedTheta {
    /// The number of samples, and the level of the second theta line.
    type State = (usize, f64);

    fn name(&self) -> String {
        "theta".into()
    }

    fn start(&self) -> Self::State {
        (0, self.level)
    }

    fn follow(&self, (t, level): &mut Self::State, sample: f64) {
        let curved = 2.0 * self.seasonal.remove(*t, sample) - self.line(*t);
        *level += self.alpha * (curved - *level);
        *t += 1;
    }

    fn ahead(&self, (t, level): &Self::State, out: &mut [f64]) {
        for (at, value) in (*t..).zip(out) {
            *value = self.seasonal.add(at, 0.5 * (self.line(at) + level));
        }
    }
}
