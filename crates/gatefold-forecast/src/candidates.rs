//! The models that take part in a comparison, by their names.

use crate::{Architecture, Candidate, ForecastError, Settings};
use gatefold_series::{
    Ar, Arima, Baseline, Calendar, Ets, Hmm, Kalman, Linear, Model, Mstl, Theta, find_season,
};

/// The names of the models, in the order in which they are compared.
pub const MODELS: [&str; 15] = [
    "naive",
    "mean",
    "drift",
    "seasonal",
    "linear",
    "ar",
    "arima",
    "ets",
    "theta",
    "mstl",
    "kalman",
    "hmm",
    "dense",
    "convolution",
    "network",
];
/// The names of those that are networks.
pub const NETWORKS: [&str; 3] = ["dense", "convolution", "network"];
/// Models that are left out by default when so many samples would take them long.
const SLOW: [&str; 5] = ["ets", "theta", "mstl", "kalman", "hmm"];
/// Models that take part only when they are asked for: two take as long as the recurrent network, and the search for the
/// orders of one longer than all others together.
const ON_REQUEST: [&str; 3] = ["arima", "dense", "convolution"];
/// Samples, over all series, from which the slow models are left out by default.
const MANY: usize = 20_000;

/// Series from which each has a quick regression only.
const FEW: usize = 50;

/// The lengths of the seasons of a table, in samples.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Seasons {
    /// Shortest first; such as 24 and 168 for hours.
    pub lengths: Vec<usize>,
    /// The longest one, exactly: 365.25 for days.
    pub exact: Option<f64>,
}

impl Seasons {
    /// The seasons that follow from the calendar, as far as the shortest series has two of them, or most of ten or more;
    /// without dates, the one that the longest series shows.
    pub fn of(calendar: &Calendar, series: &[&[f64]]) -> Seasons {
        let room = typical(series);
        let mut lengths: Vec<usize> =
            calendar.seasons().into_iter().filter(|season| 2 * season <= room).collect();
        if !calendar.has_dates() {
            let longest = series.iter().max_by_key(|values| values.len());
            lengths
                .extend(longest.and_then(|values| find_season(values)).filter(|season| 2 * season <= room));
        }
        Seasons::new(&lengths)
    }

    /// These seasons.
    pub fn new(lengths: &[usize]) -> Seasons {
        let exact = lengths.iter().max().map(|longest| match longest {
            365 => 365.2425, // days in a Gregorian year
            52 => 365.2425 / 7.0,
            other => *other as f64,
        });
        Seasons { lengths: lengths.to_vec(), exact }
    }

    /// The shortest season.
    pub fn shortest(&self) -> Option<usize> {
        self.lengths.iter().copied().min()
    }
}

/// The length of the shortest series; of ten or more, the median length.
pub fn typical(series: &[&[f64]]) -> usize {
    let mut lengths: Vec<usize> = series.iter().map(|values| values.len()).collect();
    lengths.sort_unstable();
    let place = if lengths.len() < crate::plan::MANY { 0 } else { lengths.len() / 2 };
    lengths.get(place).copied().unwrap_or(0)
}

/// The models of these names; without names, all that suit the series and do not take long.
///
/// # Errors
/// [`ForecastError::Settings`] for a name that is no model's, with those that are.
pub fn candidates(
    names: Option<&[String]>,
    seasons: &Seasons,
    settings: &Settings,
    series: &[&[f64]],
) -> Result<Vec<Candidate>, ForecastError> {
    let total: usize = series.iter().map(|values| values.len()).sum();
    let default = || {
        let kept = |name: &&str| (total < MANY || !SLOW.contains(name)) && !ON_REQUEST.contains(name);
        MODELS.into_iter().filter(kept).map(str::to_owned).collect::<Vec<_>>()
    };
    let asked = names.map_or_else(default, <[String]>::to_vec);
    let season = seasons.shortest().unwrap_or(1);
    let horizon = settings.horizon;
    let mut all: Vec<Candidate> = Vec::new();
    for name in &asked {
        let mut add = |model: Box<dyn Model>| all.push(Candidate::PerSeries(model, settings.beside.clone()));
        match name.as_str() {
            "naive" => add(Box::new(Baseline::RepeatLast)),
            "mean" => add(Box::new(Baseline::Mean)),
            "drift" => add(Box::new(Baseline::Drift)),
            "seasonal" if seasons.lengths.is_empty() && names.is_none() => {}
            "seasonal" => {
                for season in &seasons.lengths {
                    add(Box::new(Baseline::SeasonalNaive(*season)));
                }
            }
            "linear" if series.len() >= FEW => {
                add(Box::new(
                    Linear::new(horizon).season(seasons.shortest().map(|season| season as f64)).quick(),
                ));
            }
            "linear" => add(Box::new(Linear::new(horizon).season(seasons.exact))),
            "ar" => add(Box::new(Ar::automatic())),
            "arima" => add(Box::new(Arima::automatic(season))),
            "ets" => add(Box::new(Ets::automatic(season))),
            "theta" => add(Box::new(Theta::new(season))),
            "mstl" if seasons.lengths.is_empty() => {}
            "mstl" => add(Box::new(Mstl::new(&seasons.lengths))),
            "kalman" => add(Box::new(Kalman::automatic(season))),
            "hmm" => add(Box::new(Hmm::automatic())),
            "network" => all.push(Candidate::Network(name.clone(), settings.clone())),
            "dense" | "convolution" => {
                let architecture = match name.as_str() {
                    "dense" => Architecture::Dense,
                    _ => Architecture::Convolution,
                };
                all.push(Candidate::Network(name.clone(), Settings { architecture, ..settings.clone() }));
            }
            other => {
                return Err(ForecastError::Settings(format!(
                    "there is no model '{other}'; choose from {}",
                    MODELS.join(", ")
                )));
            }
        }
    }
    if all.is_empty() {
        return Err(ForecastError::Settings(
            "the models asked for need a season, and none was found; give --season".into(),
        ));
    }
    Ok(all)
}
