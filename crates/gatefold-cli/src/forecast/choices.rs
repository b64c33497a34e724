use super::{Data, NetworkOptions, Options};
use crate::cell::CellChoice;
use crate::failure::Failure;
use gatefold_forecast::{
    Beside, Candidate, CellKind, Ids, Intervals, Loss, MODELS, MOST_IDS, MadeUp, OptimizerKind, Plan,
    Seasons, Settings, candidates, typical,
};
use serde::{Deserialize, Serialize};

/// The ends of intervals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum IntervalChoice {
    /// the model's band, stretched so that it holds its share of the validation errors
    #[default]
    Calibrated,
    /// quantiles of the validation errors at each step, which may lean to one side
    Sampled,
}

impl IntervalChoice {
    /// Whether it is what run.toml need not hold.
    pub(crate) fn is_default(&self) -> bool {
        *self == IntervalChoice::default()
    }
}

impl From<IntervalChoice> for Intervals {
    fn from(choice: IntervalChoice) -> Intervals {
        match choice {
            IntervalChoice::Calibrated => Intervals::Calibrated,
            IntervalChoice::Sampled => Intervals::Sampled,
        }
    }
}

/// Whether the network that many series share reads which series it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum IdsChoice {
    /// if the validation part says that it pays, of 200 series or fewer
    Auto,
    /// yes
    Yes,
    /// no
    No,
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
    /// Series that are left out, in words.
    left_out: Option<String>,
}

pub(super) fn choose(data: &mut Data, options: &Options) -> Result<Chosen, Failure> {
    let basis = Basis::of(data, options)?;
    let series = data.series();
    data.check_future(basis.horizon)?;
    let plan = Plan::new(&series, basis.horizon, basis.seasons.shortest(), options.test)?;
    let lengths: Vec<usize> = series.iter().map(|values| plan.train(values.len()).len()).collect();
    let settings = basis.settings(&options.network, &lengths)?;
    check(&settings, data.names(), &series)?;
    let candidates = basis.candidates(options, &settings, &series)?;
    let limits = options.limits();
    let least = limits.0.or(settings.loss.counts().then_some(0.0));
    let limits = (least.unwrap_or(f64::NEG_INFINITY), limits.1.unwrap_or(f64::INFINITY));
    let plan = Plan { refit: !settings.shared, made_up: basis.made_up, limits, ..plan };
    Ok(Chosen { seasons: basis.seasons, plan, settings, candidates, left_out: basis.left_out })
}

/// A line about the samples of these parts that were made up to fill gaps; none without any.
pub(crate) fn made_up_line(counts: &[usize], parts: &[(&str, usize)]) -> Option<String> {
    let of = counts.iter().zip(parts).map(|(count, (name, all))| format!("{count} of {all} {name}"));
    let of = of.collect::<Vec<_>>().join(", ");
    counts.iter().any(|count| *count > 0).then(|| format!("made up   {of} samples: not scored"))
}

/// Checks that the loss suits the values.
pub(crate) fn check(settings: &Settings, names: &[String], series: &[&[f64]]) -> Result<(), Failure> {
    for (name, values) in names.iter().zip(series) {
        settings.check(name, values).map_err(|error| Failure::failed(error.to_string()))?;
    }
    Ok(())
}

/// Seasons, horizon and covariates, which follow from the table before its samples are divided.
pub(crate) struct Basis {
    pub(crate) seasons: Seasons,
    pub(crate) horizon: usize,
    pub(crate) beside: Beside,
    /// Samples that were made up to fill gaps.
    pub(crate) made_up: MadeUp,
    /// Series that are left out, in words.
    pub(crate) left_out: Option<String>,
}

impl Basis {
    /// Finds seasons, horizon and covariates from the options and the table. Series that are too short for them are left
    /// out of the table if they are few of many.
    pub(crate) fn of(data: &mut Data, options: &Options) -> Result<Basis, Failure> {
        options.check_limits()?;
        let series = data.series();
        let shortest = series.iter().map(|values| values.len()).min().unwrap_or(0);
        let seasons = match options.season.as_slice() {
            [] => Seasons::of(data.dataset.calendar(), &series),
            [0] => Seasons::default(),
            lengths => {
                if let Some(season) = lengths.iter().find(|season| **season < 2 || **season > shortest / 2) {
                    return Err(Failure::failed(format!(
                        "a season of {season} samples does not fit twice into {shortest}; use a shorter --season, or 0 for \
                         none"
                    )));
                }
                Seasons::new(lengths)
            }
        };
        let usual = seasons.shortest().unwrap_or(12);
        // As many as there are rows without a value, if that is known; else a season, as far as the parts hold it.
        let wanted = if data.future() > 0 { data.future() } else { usual };
        let longest = (typical(&series).saturating_sub(2) / 3).max(1);
        let horizon = options.horizon.unwrap_or_else(|| wanted.min(longest));
        let left_out = data.leave_short_out(3 * horizon + usual.max(2));
        let beside = options.beside(data, horizon)?;
        Ok(Basis { seasons, horizon, beside, made_up: options.made_up(data), left_out })
    }

    /// A line about series that are left out.
    pub(crate) fn left_out_line(left_out: Option<&String>) -> Option<String> {
        left_out.map(|text| format!("warning   {text}"))
    }

    /// The network's settings for training parts of these lengths.
    pub(crate) fn settings(&self, network: &NetworkOptions, lengths: &[usize]) -> Result<Settings, Failure> {
        let mut settings = Settings::new(self.horizon, self.seasons.shortest(), lengths);
        settings.longest_season = self.seasons.exact;
        settings.beside = self.beside.clone();
        settings.window = network.input.or(settings.window);
        settings.hidden = network.hidden.unwrap_or(settings.hidden);
        settings.layers = network.layers.unwrap_or(settings.layers);
        settings.dilations = network.dilations.clone();
        if network.layers.is_some() && !network.dilations.is_empty() {
            return Err(Failure::Usage("dilations say how many layers there are; leave out layers".into()));
        }
        settings.updates = network.updates.map_or(settings.updates, |updates| updates as u64);
        settings.batch = network.batch.unwrap_or(settings.batch);
        settings.learning_rate = network.lr.unwrap_or(settings.learning_rate);
        settings.clip = network.clip.unwrap_or(settings.clip);
        settings.clip_value = network.clip_value;
        settings.seed = network.seed.unwrap_or(settings.seed);
        settings.cell = network.cell.map_or(CellKind::Gru, CellKind::from);
        settings.loss = match network.loss {
            None | Some(LossChoice::Absolute) => Loss::Absolute,
            Some(LossChoice::Squared) => Loss::Squared,
            Some(LossChoice::Huber) => Loss::Huber,
            Some(LossChoice::Quantile) => Loss::Quantile,
            Some(LossChoice::Gaussian) => Loss::Gaussian,
            Some(LossChoice::Poisson) => Loss::Poisson,
            Some(LossChoice::NegativeBinomial) => Loss::NegativeBinomial,
        };
        settings.ids = match network.ids {
            None | Some(IdsChoice::Auto) => Ids::Validated,
            Some(IdsChoice::Yes) => Ids::Always,
            Some(IdsChoice::No) => Ids::Never,
        };
        if settings.ids == Ids::Always && !settings.shared {
            return Err(Failure::Usage("--ids yes is for the network that many long series share".into()));
        }
        if settings.ids == Ids::Always && lengths.len() > MOST_IDS {
            return Err(Failure::Usage(format!(
                "--ids yes is for at most {MOST_IDS} series, each of which is a column of every step; found {}",
                lengths.len()
            )));
        }
        settings.logarithm = network.log;
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
        settings.members = network.ensemble.unwrap_or_else(|| settings.affordable_members());
        Ok(settings)
    }

    /// The models that were asked for, or all that suit the table.
    pub(crate) fn candidates(
        &self,
        options: &Options,
        settings: &Settings,
        series: &[&[f64]],
    ) -> Result<Vec<Candidate>, Failure> {
        let names = (!options.model.is_empty()).then_some(options.model.as_slice());
        candidates(names, &self.seasons, settings, series).map_err(|error| Failure::Usage(error.to_string()))
    }

    /// A line about the seasons.
    pub(crate) fn seasons_line(seasons: &Seasons) -> String {
        let seasons = match seasons.lengths.as_slice() {
            [] => "none".into(),
            lengths => lengths.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ") + " samples",
        };
        format!("season    {seasons}")
    }

    /// A line about the horizon.
    pub(crate) fn horizon_line(horizon: usize) -> String {
        format!("horizon   {horizon} {}", if horizon == 1 { "sample" } else { "samples" })
    }
}

impl Chosen {
    /// The options with everything that was chosen for the user, so that a later version chooses the same.
    pub(super) fn resolved(&self, options: &Options) -> Options {
        let resolved = options.resolved(&self.seasons, &self.settings, &self.candidates);
        Options { test: Some(self.plan.test), ..resolved }
    }

    /// The samples of the validation and the test part that were made up, over all series.
    pub(super) fn made_up(&self, series: &[&[f64]]) -> [usize; 2] {
        let plan = &self.plan;
        let within = |range: &dyn Fn(usize) -> std::ops::Range<usize>| {
            let of = |(at, values): (usize, &&[f64])| plan.made_up.within(at, range(values.len()));
            series.iter().enumerate().map(of).sum()
        };
        let validation = within(&|len| plan.train(len).end..plan.past(len).end);
        [validation, within(&|len| plan.past(len).end..len)]
    }

    /// A line about them.
    fn made_up_line(&self, series: &[&[f64]]) -> Option<String> {
        let counts = self.made_up(series);
        let parts = [("validation", self.plan.validation), ("test", self.plan.test)];
        made_up_line(&counts, &parts.map(|(name, len)| (name, len * series.len())))
    }

    /// Lines about what is going to happen.
    pub(super) fn lines(&self, data: &Data) -> Vec<String> {
        let series = data.series();
        let plan = &self.plan;
        let shortest = series.iter().map(|values| values.len()).min().unwrap_or(0);
        let each = if series.len() == 1 { "" } else { " of each series" };
        let mut lines: Vec<String> = Basis::left_out_line(self.left_out.as_ref()).into_iter().collect();
        lines.extend([
            Basis::seasons_line(&self.seasons),
            Basis::horizon_line(plan.horizon),
            format!(
                "parts     train {}, validation {}, test {}{each}",
                plan.train(shortest).len(),
                plan.validation,
                plan.test
            ),
        ]);
        lines.extend(self.made_up_line(&series));
        if shortest < 30 {
            lines.push(format!("warning   {shortest} samples say little: no model can be told from another"));
        }
        lines
    }
}

impl Options {
    /// These options with everything that was chosen for the user, apart from the parts of the table.
    pub(crate) fn resolved(
        &self,
        seasons: &Seasons,
        settings: &Settings,
        candidates: &[Candidate],
    ) -> Options {
        let mut models: Vec<String> = self.model.clone();
        if models.is_empty() {
            let kept = |name: &&str| candidates.iter().any(|candidate| is_named(candidate, name));
            models = MODELS.into_iter().filter(kept).map(str::to_owned).collect();
        }
        let network = NetworkOptions {
            input: settings.window,
            cell: self.network.cell.or(Some(CellChoice::Gru)),
            hidden: Some(settings.hidden),
            layers: settings.dilations.is_empty().then_some(settings.layers),
            dilations: settings.dilations.clone(),
            ensemble: Some(settings.members),
            updates: Some(settings.updates as usize),
            batch: Some(settings.batch),
            lr: Some(settings.learning_rate),
            loss: self.network.loss.or(Some(LossChoice::Absolute)),
            optimizer: self.network.optimizer.or(Some(OptimizerChoice::Adam)),
            clip_value: settings.clip_value,
            clip: Some(settings.clip),
            mixing: Some(settings.mixing),
            ids: self.network.ids,
            seed: Some(settings.seed),
            log: settings.logarithm,
        };
        let min = self.min.or(settings.loss.counts().then_some(0.0));
        let season = if seasons.lengths.is_empty() { vec![0] } else { seasons.lengths.clone() };
        Options { horizon: Some(settings.horizon), season, model: models, min, network, ..self.clone() }
    }
}
