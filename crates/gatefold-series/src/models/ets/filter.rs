use super::{EtsForm, EtsParameters, EtsSeason, EtsTrend};

/// Factors of a season stay between this and its inverse, whatever samples follow the fitted series.
const SMALLEST_FACTOR: f64 = 1e-3;

/// The states: level, slope, and the season's terms or factors.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct States {
    pub(crate) level: f64,
    pub(crate) slope: f64,
    /// One for each sample of a season; that of the next sample is at `next`.
    pub(crate) season: Vec<f64>,
    pub(crate) next: usize,
}

impl States {
    /// The states before the first sample.
    pub(crate) fn first(parameters: &EtsParameters) -> States {
        let EtsParameters { level, slope, season, .. } = parameters;
        States { level: *level, slope: *slope, season: season.clone(), next: 0 }
    }

    pub(crate) fn start_again(&mut self, parameters: &EtsParameters) {
        (self.level, self.slope, self.next) = (parameters.level, parameters.slope, 0);
        self.season.clone_from(&parameters.season);
    }

    /// The forecast of the next sample.
    #[inline]
    pub(crate) fn ahead(&self, form: EtsForm, parameters: &EtsParameters) -> f64 {
        let rest = self.level + parameters.phi * self.slope;
        match form.season {
            EtsSeason::None => rest,
            EtsSeason::Additive => rest + self.season[self.next],
            EtsSeason::Multiplicative => rest * self.season[self.next],
        }
    }

    /// Takes in the next sample, which was `error` above its forecast.
    ///
    /// With the error in the unit of the series, models of additive and multiplicative error have the same equations
    /// (Hyndman et al. 2008, tables 2.2 and 2.3, where a relative error is `e / y_hat`).
    #[inline]
    pub(crate) fn follow(&mut self, form: EtsForm, parameters: &EtsParameters, error: f64) {
        let rest = self.level + parameters.phi * self.slope;
        let mut change = error;
        match form.season {
            EtsSeason::None => {}
            EtsSeason::Additive => self.season[self.next] += parameters.gamma * error,
            EtsSeason::Multiplicative => {
                let factor = &mut self.season[self.next];
                change /= *factor;
                let next = *factor + parameters.gamma * error / rest;
                if next.is_finite() {
                    *factor = next.clamp(SMALLEST_FACTOR, 1.0 / SMALLEST_FACTOR);
                }
            }
        }
        self.level = rest + parameters.alpha * change;
        if form.trend != EtsTrend::None {
            self.slope = parameters.phi * self.slope + parameters.beta * change;
        }
        if form.season != EtsSeason::None {
            self.next = if self.next + 1 == self.season.len() { 0 } else { self.next + 1 };
        }
    }

    /// Writes the forecasts of the next samples.
    pub(crate) fn write_ahead(&self, form: EtsForm, parameters: &EtsParameters, out: &mut [f64]) {
        let (mut rest, mut slope) = (self.level, self.slope);
        for (k, value) in out.iter_mut().enumerate() {
            slope *= parameters.phi;
            rest += slope;
            let at = || self.season[(self.next + k) % self.season.len()];
            *value = match form.season {
                EtsSeason::None => rest,
                EtsSeason::Additive => rest + at(),
                EtsSeason::Multiplicative => rest * at(),
            };
        }
    }
}
