use super::{Data, NetworkOptions, Options};
use crate::failure::Failure;
use gatefold_forecast::{Candidate, Cell, Loss, MODELS, OptimizerKind, Plan, Seasons, Settings, candidates};
use serde::{Deserialize, Serialize};

/// The cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum CellChoice {
    /// gated recurrent units
    Gru,
    /// long short-term memory
    Lstm,
    /// a plain recurrent network
    Rnn,
}

/// The loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum LossChoice {
    /// mean absolute error, on which outliers weigh less
    Absolute,
    /// mean squared error
    Squared,
    /// squared up to the series' typical change, absolute beyond it
    Huber,
    /// of the median and the interval's ends, each with the same weight
    Quantile,
    /// likelihood of a Gaussian
    Gaussian,
    /// likelihood of counts around a rate
    Poisson,
    /// likelihood of counts that scatter more
    NegativeBinomial,
}

/// The optimiser.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum OptimizerChoice {
    /// Adam
    Adam,
    /// Adam with a weight decay of 0.01
    Adamw,
    /// RMSprop
    Rmsprop,
    /// gradient descent with a momentum of 0.9
    Sgd,
}

/// Whether a candidate is the model that the option calls by this name.
fn is_named(candidate: &Candidate, option: &str) -> bool {
    let name = candidate.name();
    match option {
        "naive" => name == "repeat last",
        "seasonal" => name.starts_with("seasonal naive"),
        other => name == other,
    }
}

/// Everything that follows from the options and the table.
pub(crate) struct Chosen {
    pub(crate) seasons: Seasons,
    pub(crate) plan: Plan,
    pub(crate) settings: Settings,
    pub(crate) candidates: Vec<Candidate>,
}

pub(super) fn choose(data: &Data, options: &Options) -> Result<Chosen, Failure> {
    let series = data.series();
    let shortest = series.iter().map(|values| values.len()).min().unwrap_or(0);
    let seasons = match options.season.as_slice() {
        [] => Seasons::of(data.dataset.calendar(), &series),
        [0] => Seasons::default(),
        lengths => {
            if let Some(season) = lengths.iter().find(|season| **season < 2 || **season > shortest / 2) {
                return Err(Failure::failed(format!(
                    "a season of {season} samples does not fit twice into {shortest}; use a shorter --season, or 0 for none"
                )));
            }
            Seasons::new(lengths)
        }
    };
    let season = seasons.shortest();
    let horizon = options.horizon.unwrap_or_else(|| season.unwrap_or(12).min((shortest / 5).max(1)));
    let plan = Plan::new(&series, horizon, season, options.test)?;
    let lengths: Vec<usize> = series.iter().map(|values| plan.train(values.len()).len()).collect();
    let mut settings = Settings::new(horizon, season, &lengths);
    settings.longest_season = seasons.exact;
    let network = &options.network;
    settings.window = network.input.or(settings.window);
    settings.hidden = network.hidden.unwrap_or(settings.hidden);
    settings.layers = network.layers.unwrap_or(settings.layers);
    settings.members = network.ensemble.unwrap_or(settings.members);
    settings.updates = network.updates.map_or(settings.updates, |updates| updates as u64);
    settings.batch = network.batch.unwrap_or(settings.batch);
    settings.learning_rate = network.lr.unwrap_or(settings.learning_rate);
    settings.clip = network.clip.unwrap_or(settings.clip);
    settings.clip_value = network.clip_value;

    settings.seed = network.seed.unwrap_or(settings.seed);
    settings.cell = match network.cell {
        None | Some(CellChoice::Gru) => Cell::Gru,
        Some(CellChoice::Lstm) => Cell::Lstm,
        Some(CellChoice::Rnn) => Cell::Rnn,
    };
    settings.loss = match network.loss {
        None | Some(LossChoice::Absolute) => Loss::Absolute,
        Some(LossChoice::Squared) => Loss::Squared,
        Some(LossChoice::Huber) => Loss::Huber,
        Some(LossChoice::Quantile) => Loss::Quantile,
        Some(LossChoice::Gaussian) => Loss::Gaussian,
        Some(LossChoice::Poisson) => Loss::Poisson,
        Some(LossChoice::NegativeBinomial) => Loss::NegativeBinomial,
    };
    settings.logarithm = network.log;
    for (name, values) in data.names().iter().zip(&series) {
        settings.check(name, values).map_err(|error| Failure::failed(error.to_string()))?;
    }
    // A blend of counts is no count.
    let mixing = if settings.loss.counts() { 0.0 } else { settings.mixing };
    settings.mixing = network.mixing.unwrap_or(mixing);
    if settings.loss.counts() && settings.mixing > 0.0 {
        return Err(Failure::Usage(format!(
            "--loss {} takes no --mixing: a blend of counts is no count",
            settings.loss
        )));
    }
    settings.optimizer = match network.optimizer {
        None | Some(OptimizerChoice::Adam) => OptimizerKind::Adam,
        Some(OptimizerChoice::Adamw) => OptimizerKind::Adamw,
        Some(OptimizerChoice::Rmsprop) => OptimizerKind::Rmsprop,
        Some(OptimizerChoice::Sgd) => OptimizerKind::Sgd,
    };
    let plan = Plan { refit: !settings.shared, ..plan };
    let names = (!options.model.is_empty()).then_some(options.model.as_slice());
    let candidates =
        candidates(names, &seasons, &settings, &series).map_err(|error| Failure::Usage(error.to_string()))?;
    Ok(Chosen { seasons, plan, settings, candidates })
}

impl Chosen {
    /// The options with everything that was chosen for the user, so that a later version chooses the same.
    pub(super) fn resolved(&self, options: &Options) -> Options {
        let settings = &self.settings;
        let mut models: Vec<String> = options.model.clone();
        if models.is_empty() {
            let kept = |name: &&str| self.candidates.iter().any(|candidate| is_named(candidate, name));
            models = MODELS.into_iter().filter(kept).map(str::to_owned).collect();
        }
        let network = NetworkOptions {
            input: settings.window,
            cell: options.network.cell.or(Some(CellChoice::Gru)),
            hidden: Some(settings.hidden),
            layers: Some(settings.layers),
            ensemble: Some(settings.members),
            updates: Some(settings.updates as usize),
            batch: Some(settings.batch),
            lr: Some(settings.learning_rate),
            loss: options.network.loss.or(Some(LossChoice::Absolute)),
            optimizer: options.network.optimizer.or(Some(OptimizerChoice::Adam)),
            clip_value: settings.clip_value,
            clip: Some(settings.clip),
            mixing: Some(settings.mixing),
            seed: Some(settings.seed),
            log: settings.logarithm,
        };
        let season = if self.seasons.lengths.is_empty() { vec![0] } else { self.seasons.lengths.clone() };
        Options {
            horizon: Some(self.plan.horizon),
            season,
            model: models,
            test: Some(self.plan.test),
            min: options.min.or(settings.loss.counts().then_some(0.0)),
            network,
            ..options.clone()
        }
    }

    /// Lines about what is going to happen.
    pub(super) fn lines(&self, data: &Data) -> Vec<String> {
        let series = data.series();
        let plan = &self.plan;
        let shortest = series.iter().map(|values| values.len()).min().unwrap_or(0);
        let seasons = match self.seasons.lengths.as_slice() {
            [] => "none".into(),
            lengths => lengths.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ") + " samples",
        };
        let each = if series.len() == 1 { "" } else { " of each series" };
        let mut lines = vec![
            format!("season    {seasons}"),
            format!("horizon   {} {}", plan.horizon, if plan.horizon == 1 { "sample" } else { "samples" }),
            format!(
                "parts     train {}, validation {}, test {}{each}",
                plan.train(shortest).len(),
                plan.validation,
                plan.test
            ),
        ];
        if shortest < 30 {
            lines.push(format!("warning   {shortest} samples say little: no model can be told from another"));
        }
        lines
    }
}
