use super::recursion::{Recursion, check};
use super::{FittedModel, Model};
use crate::SeriesError;
use filter::States;
use fit::{Fit, Likelihood};
use std::fmt;
use std::str::FromStr;

pub(crate) mod filter;
mod fit;

/// How the errors of an [`EtsForm`] enter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EtsError {
    /// Errors of the same size at every level.
    Additive,
    /// Errors that grow with the forecast. For positive series.
    Multiplicative,
}

/// The trend of an [`EtsForm`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EtsTrend {
    /// A level alone.
    None,
    /// A level and a slope that goes on.
    Additive,
    /// A level and a slope that fades.
    Damped,
}

/// The season of an [`EtsForm`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EtsSeason {
    /// No season.
    None,
    /// A season of the same size at every level.
    Additive,
    /// A season that grows with the level. For positive series.
    Multiplicative,
}

/// A form of exponential smoothing, written as its letters: `ANN` is simple exponential smoothing, `AAN` Holt's linear
/// trend, `MAdM` multiplicative error, damped trend and multiplicative season.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EtsForm {
    /// Error.
    pub error: EtsError,
    /// Trend.
    pub trend: EtsTrend,
    /// Season.
    pub season: EtsSeason,
}

const ERRORS: [(&str, EtsError); 2] = [("A", EtsError::Additive), ("M", EtsError::Multiplicative)];
const TRENDS: [(&str, EtsTrend); 3] =
    [("N", EtsTrend::None), ("Ad", EtsTrend::Damped), ("A", EtsTrend::Additive)];
const SEASONS: [(&str, EtsSeason); 3] =
    [("N", EtsSeason::None), ("A", EtsSeason::Additive), ("M", EtsSeason::Multiplicative)];

impl EtsForm {
    /// The forms that can be fitted to a series. Multiplicative ones need positive samples, and a season with them a
    /// multiplicative error, whose forecasts stay stable (Hyndman et al. 2008, section 15.1).
    fn all(positive: bool, seasonal: bool) -> impl Iterator<Item = EtsForm> {
        let trends = [EtsTrend::None, EtsTrend::Additive, EtsTrend::Damped];
        let forms = ERRORS.into_iter().flat_map(move |(_, error)| {
            trends.into_iter().flat_map(move |trend| {
                SEASONS.into_iter().map(move |(_, season)| EtsForm { error, trend, season })
            })
        });
        forms.filter(move |form| {
            (seasonal || form.season == EtsSeason::None)
                && (positive || !form.needs_positive())
                && (form.season != EtsSeason::Multiplicative || form.error == EtsError::Multiplicative)
        })
    }

    fn needs_positive(self) -> bool {
        self.error == EtsError::Multiplicative || self.season == EtsSeason::Multiplicative
    }

    /// The number of smoothing parameters.
    fn smoothings(self) -> usize {
        let trend = match self.trend {
            EtsTrend::None => 0,
            EtsTrend::Additive => 1,
            EtsTrend::Damped => 2,
        };
        1 + trend + usize::from(self.season != EtsSeason::None)
    }
}

/// `MAdM`
impl fmt::Display for EtsForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let error = ERRORS.iter().find(|(_, error)| *error == self.error);
        let trend = TRENDS.iter().find(|(_, trend)| *trend == self.trend);
        let season = SEASONS.iter().find(|(_, season)| *season == self.season);
        let letters = [error.map(|pair| pair.0), trend.map(|pair| pair.0), season.map(|pair| pair.0)];
        f.pad(&letters.into_iter().flatten().collect::<String>())
    }
}

impl FromStr for EtsForm {
    type Err = SeriesError;

    fn from_str(text: &str) -> Result<Self, SeriesError> {
        let parse = || {
            let (letters, error) = ERRORS.into_iter().find(|(letters, _)| text.starts_with(letters))?;
            let text = &text[letters.len()..];
            let (letters, trend) = TRENDS.into_iter().find(|(letters, _)| text.starts_with(letters))?;
            let text = &text[letters.len()..];
            let (_, season) = SEASONS.into_iter().find(|(letters, _)| text == *letters)?;
            Some(EtsForm { error, trend, season })
        };
        parse().ok_or_else(|| {
            SeriesError::Series(format!(
                "'{text}' is no form of exponential smoothing; expected error A or M, trend N, A or Ad and season N, A or \
                 M, such as AAN or MAdM"
            ))
        })
    }
}

/// Exponential smoothing in its state-space form (Hyndman, Koehler, Ord and Snyder 2008, "Forecasting with exponential
/// smoothing"): the one-step error of each sample moves a level, a slope and a season by shares `alpha`, `beta` and
/// `gamma`. With an additive season,
///
/// ```text
/// y_hat = l(t-1) + phi b(t-1) + s(t-m)        e = y(t) - y_hat
/// l(t) = l(t-1) + phi b(t-1) + alpha e    b(t) = phi b(t-1) + beta e    s(t) = s(t-m) + gamma e
/// ```
///
/// Parameters have the largest likelihood, by Nelder and Mead's method and then BFGS; so have the first states of
/// seasons up to 24 samples. The form is given, or the one with the smallest AICc among those that fit the series:
/// multiplicative ones only if all samples are positive, a season only if there are two of it. A multiplicative season
/// is tried with a multiplicative error alone, and no multiplicative trend is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ets {
    form: Option<EtsForm>,
    season: usize,
}

impl Ets {
    /// The form with the smallest AICc, for series that may repeat after `season` samples; 1 for none.
    pub fn automatic(season: usize) -> Self {
        Ets { form: None, season }
    }

    /// The given form; `season` is ignored where the form has none.
    pub fn of_form(form: EtsForm, season: usize) -> Self {
        Ets { form: Some(form), season }
    }

    /// Fits as [`Model::fit`] does, and returns what was chosen too.
    ///
    /// # Errors
    /// Those of [`Model::fit`]; [`SeriesError::Series`] too when a given form needs positive samples and one is not.
    pub fn fit_form(&self, series: &[f64]) -> Result<FittedEts, SeriesError> {
        check(&self.name(), series, 1)?;
        let positive = series.iter().all(|sample| *sample > 0.0);
        let seasons = self.season >= 2 && series.len() >= 2 * self.season;
        let refuse = |problem| Err(SeriesError::Series(format!("the model '{}' {problem}", self.name())));
        let forms: Vec<EtsForm> = match self.form {
            None => EtsForm::all(positive, seasons).collect(),
            Some(form) if form.needs_positive() && !positive => {
                return refuse("needs positive samples; use an additive form".to_owned());
            }
            Some(form) if form.season != EtsSeason::None && !seasons => {
                return refuse(format!(
                    "needs two seasons of {} samples; found {}; add samples or use a form without season",
                    self.season.max(2),
                    series.len()
                ));
            }
            Some(form) => vec![form],
        };
        let n = series.len();
        let simplest = forms[0];
        let admitted = forms.into_iter().filter_map(|form| {
            let states = 1
                + usize::from(form.trend != EtsTrend::None)
                + if form.season == EtsSeason::None { 0 } else { self.season - 1 };
            let enough = n > form.smoothings() + states + 2; // else the AICc has no denominator
            (enough || form == simplest).then(|| (form, fit::fit(form, series, self.season)))
        });
        let best = admitted.map(|(form, fit)| (aicc(&fit, n), form, fit)).min_by(|a, b| a.0.total_cmp(&b.0));
        match best {
            Some((_, form, Fit { parameters, .. })) => Ok(FittedEts { form, parameters }),
            None => refuse("found no form to fit".to_owned()),
        }
    }
}

/// Akaike's criterion, corrected for few samples (Hurvich and Tsai 1989); infinite where these do not suffice.
fn aicc(fit: &Fit, n: usize) -> f64 {
    let (k, n) = (fit.free as f64, n as f64);
    if n <= k + 1.0 {
        return f64::INFINITY;
    }
    -2.0 * fit.log_likelihood + 2.0 * k * n / (n - k - 1.0)
}

impl Model for Ets {
    fn name(&self) -> String {
        self.form.map_or_else(|| "ets".into(), |form| format!("ets ({form})"))
    }

    fn fit(&self, series: &[f64]) -> Result<Box<dyn FittedModel>, SeriesError> {
        Ok(Box::new(self.fit_form(series)?))
    }
}

/// The parameters of exponential smoothing, and its states before the first sample.
#[derive(Clone, Debug, PartialEq)]
pub struct EtsParameters {
    /// The share of an error that moves the level.
    pub alpha: f64,
    /// The share of an error that moves the slope; 0 without a trend.
    pub beta: f64,
    /// The share of an error that moves the season; 0 without one.
    pub gamma: f64,
    /// The factor by which the slope fades at each step; 1 where it goes on.
    pub phi: f64,
    /// The first level.
    pub level: f64,
    /// The first slope.
    pub slope: f64,
    /// The season's first terms or factors, that of the first sample first; empty without a season.
    pub season: Vec<f64>,
}

/// Exponential smoothing with its parameters.
#[derive(Clone, Debug)]
pub struct FittedEts {
    form: EtsForm,
    parameters: EtsParameters,
}

impl FittedEts {
    /// Takes parameters as they are.
    ///
    /// # Errors
    /// [`SeriesError::Series`] when a season is missing or there is one too many, or a parameter is no number.
    pub fn new(form: EtsForm, parameters: EtsParameters) -> Result<Self, SeriesError> {
        let EtsParameters { alpha, beta, gamma, phi, level, slope, season } = &parameters;
        let all = [alpha, beta, gamma, phi, level, slope];
        let finite = all.into_iter().chain(season).all(|value| value.is_finite());
        if !finite || (form.season == EtsSeason::None) != season.is_empty() {
            return Err(SeriesError::Series(format!(
                "expected finite parameters for exponential smoothing of the form {form}, with states of a season only if \
                 it has one; found {parameters:?}"
            )));
        }
        Ok(FittedEts { form, parameters })
    }

    /// The form, given or chosen.
    pub fn form(&self) -> EtsForm {
        self.form
    }

    /// The parameters.
    pub fn parameters(&self) -> &EtsParameters {
        &self.parameters
    }

    /// The logarithm of the likelihood of a series, with the best variance of errors for it; minus infinity where the
    /// form needs positive forecasts and one is not.
    pub fn log_likelihood(&self, series: &[f64]) -> f64 {
        Likelihood::new(self.form, series).log(&self.parameters, &mut self.start())
    }
}

impl Recursion for FittedEts {
    type State = States;

    fn choice(&self) -> Option<String> {
        Some(self.form.to_string())
    }

    fn name(&self) -> String {
        format!("ets ({})", self.form)
    }

    fn start(&self) -> States {
        States::first(&self.parameters)
    }

    fn follow(&self, states: &mut States, sample: f64) {
        let error = sample - states.ahead(self.form, &self.parameters);
        states.follow(self.form, &self.parameters, error);
    }

    fn ahead(&self, states: &States, out: &mut [f64]) {
        states.write_ahead(self.form, &self.parameters, out);
    }
}
