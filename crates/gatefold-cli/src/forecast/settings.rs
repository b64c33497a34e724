use super::Arguments;
use super::data::Data;
use crate::failure::Failure;
use crate::forecaster::Shape;
use gatefold::{Loss, Optimizer, TrainConfig};
use gatefold_series::{Table, TableOptions, find_season};
use serde::{Deserialize, Serialize};
use std::fmt::Display;
use std::path::Path;

/// The loss to minimise, in units of the series' typical change over the horizon.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(super) enum LossChoice {
    /// mean squared error
    #[default]
    Squared,
    /// mean absolute error, on which outliers weigh less
    Absolute,
    /// squared up to the series' typical change, absolute beyond it
    Huber,
}

impl LossChoice {
    /// The label of the axis in the plot of the losses.
    pub(super) fn label(self) -> &'static str {
        match self {
            LossChoice::Squared => "mean squared error, scaled",
            LossChoice::Absolute => "mean absolute error, scaled",
            LossChoice::Huber => "mean Huber loss, scaled",
        }
    }
}

impl From<LossChoice> for Loss {
    fn from(choice: LossChoice) -> Loss {
        match choice {
            LossChoice::Squared => Loss::SquaredError,
            LossChoice::Absolute => Loss::AbsoluteError,
            LossChoice::Huber => Loss::Huber { delta: 1.0 },
        }
    }
}

/// The optimiser.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(super) enum OptimizerChoice {
    /// Adam
    #[default]
    Adam,
    /// Adam with a weight decay of 0.01
    Adamw,
    /// RMSprop
    Rmsprop,
    /// gradient descent with a momentum of 0.9
    Sgd,
}

impl From<OptimizerChoice> for Optimizer {
    fn from(choice: OptimizerChoice) -> Optimizer {
        match choice {
            OptimizerChoice::Adam => Optimizer::adam(),
            OptimizerChoice::Adamw => Optimizer::adamw(),
            OptimizerChoice::Rmsprop => Optimizer::rmsprop(),
            OptimizerChoice::Sgd => Optimizer::Sgd { momentum: 0.9, nesterov: false, weight_decay: 0.0 },
        }
    }
}

/// An option as written on the command line.
fn word(choice: &impl clap::ValueEnum) -> String {
    choice.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}

/// How the network is built and trained. With the shape and the data, this determines every bit of the result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Settings {
    pub(super) season: Option<usize>,
    pub(super) hidden: usize,
    pub(super) layers: usize,
    pub(super) epochs: usize,
    pub(super) batch: usize,
    pub(super) lr: f32,
    #[serde(default)]
    pub(super) loss: LossChoice,
    #[serde(default)]
    pub(super) optimizer: OptimizerChoice,
    /// `None` for no limit.
    #[serde(default)]
    pub(super) clip_value: Option<f32>,
    pub(super) clip: f32,
    /// The steps of a chunk; `None` to train on whole inputs.
    #[serde(default)]
    pub(super) recompute: Option<usize>,
    pub(super) seed: u64,
    data: String,
}

/// Reads the table, and derives from it the settings that the command line leaves open.
pub(super) fn choose(arguments: &Arguments) -> Result<(Data, Shape, Settings), Failure> {
    let table = Table::read(&arguments.table, &TableOptions::new())?;
    let target = match &arguments.target {
        Some(target) => target.clone(),
        None => table.last_numeric_name()?.to_owned(),
    };
    let fill = arguments.fill.unwrap_or_default();
    let data = Data::of_column(&arguments.table, &table, &target, fill)?;
    let shape = shape(arguments, &data, target)?;
    let past = &data.series[data.split.past()];
    let season = match arguments.season {
        Some(0) => None,
        Some(season) if season > past.len() => {
            return Err(Failure::failed(format!(
                "a season of {season} samples does not fit into the {} before the test part; use a shorter --season, \
                 or 0 for none",
                past.len()
            )));
        }
        Some(season) => Some(season),
        None => find_season(past),
    };
    let settings = Settings {
        season,
        hidden: arguments.hidden.unwrap_or(32),
        layers: arguments.layers.unwrap_or(2),
        epochs: arguments.epochs.unwrap_or(60),
        batch: arguments.batch.unwrap_or(32),
        lr: arguments.lr.unwrap_or(2e-3),
        loss: arguments.loss.unwrap_or_default(),
        optimizer: arguments.optimizer.unwrap_or_default(),
        clip_value: arguments.clip_value,
        clip: arguments.clip.unwrap_or(1.0),
        recompute: arguments.recompute,
        seed: arguments.seed.unwrap_or(1),
        data: data.fingerprint(),
    };
    Ok((data, shape, settings))
}

fn shape(arguments: &Arguments, data: &Data, target: String) -> Result<Shape, Failure> {
    let (horizon, width) = (arguments.horizon.unwrap_or(1), arguments.samples_per_step.unwrap_or(1));
    let train = data.split.train().len();
    let longest = data.split.validation().len().min(data.split.test().len()).min(train - 1);
    if horizon > longest {
        return Err(Failure::failed(format!(
            "{}: a horizon of {horizon} does not fit into {} rows, of which {} are forecast and {} choose the best epoch; {}",
            arguments.table.display(),
            data.series.len(),
            data.split.test().len(),
            data.split.validation().len(),
            if longest == 0 {
                "add rows".into()
            } else {
                format!("use --horizon {longest} or less, or add rows")
            }
        )));
    }
    // With a quarter of a short training part, enough windows are left to learn from.
    let input = arguments.input.unwrap_or_else(|| (train / 4).clamp(1, 24).div_ceil(width) * width);
    if !input.is_multiple_of(width) {
        return Err(Failure::Usage(format!(
            "--input {input} is not a multiple of --samples-per-step {width}; use --input {}",
            input.div_ceil(width) * width
        )));
    }
    if input + horizon > train {
        return Err(Failure::failed(format!(
            "{}: an input of {input} and a horizon of {horizon} do not fit into the {train} rows of the training part; \
             use --input {} or less, or add rows",
            arguments.table.display(),
            train - horizon
        )));
    }
    Ok(Shape { target, input, width, horizon, fill: arguments.fill.unwrap_or_default() })
}

impl Settings {
    pub(super) fn train_config(&self) -> TrainConfig {
        TrainConfig::new()
            .loss(self.loss.into())
            .optimizer(self.optimizer.into())
            .learning_rate(self.lr)
            .clip_value(self.clip_value)
            .clip_norm(Some(self.clip))
            .recompute(self.recompute)
    }

    /// The settings of a resumed run: the checkpoint's, with the epochs of the command line. Any other option that
    /// differs is refused, since no uninterrupted run could give the same result.
    pub(super) fn continued(&self, arguments: &Arguments, shape: &Shape) -> Result<Settings, Failure> {
        fn same<T: PartialEq + Display>(name: &str, asked: &Option<T>, found: &T) -> Result<(), Failure> {
            match asked {
                Some(asked) if asked != found => Err(Failure::Usage(format!(
                    "--{name} {asked} differs from the checkpoint's {found}; leave it out, or train again without --resume"
                ))),
                _ => Ok(()),
            }
        }
        same("target", &arguments.target, &shape.target)?;
        same("horizon", &arguments.horizon, &shape.horizon)?;
        same("input", &arguments.input, &shape.input)?;
        same("samples-per-step", &arguments.samples_per_step, &shape.width)?;
        same("season", &arguments.season, &self.season.unwrap_or(0))?;
        same("hidden", &arguments.hidden, &self.hidden)?;
        same("layers", &arguments.layers, &self.layers)?;
        same("batch", &arguments.batch, &self.batch)?;
        same("lr", &arguments.lr, &self.lr)?;
        same("loss", &arguments.loss.as_ref().map(word), &word(&self.loss))?;
        same("optimizer", &arguments.optimizer.as_ref().map(word), &word(&self.optimizer))?;
        fn or_off<T: Display>(option: &Option<T>) -> String {
            option.as_ref().map_or_else(|| "off".into(), |value| value.to_string())
        }
        same("clip-value", &arguments.clip_value.map(|limit| limit.to_string()), &or_off(&self.clip_value))?;
        same("clip", &arguments.clip, &self.clip)?;
        // Another chunk changes the order of sums.
        same("recompute", &arguments.recompute.map(|steps| steps.to_string()), &or_off(&self.recompute))?;
        same("seed", &arguments.seed, &self.seed)?;
        if arguments.fill.is_some_and(|fill| fill != shape.fill) {
            let problem =
                "--fill differs from the checkpoint's; leave it out, or train again without --resume";
            return Err(Failure::Usage(problem.into()));
        }
        Ok(Settings { epochs: arguments.epochs.unwrap_or(self.epochs), ..self.clone() })
    }

    pub(super) fn check_same_data(&self, path: &Path, data: &Data) -> Result<(), Failure> {
        let found = data.fingerprint();
        if found == self.data {
            return Ok(());
        }
        Err(Failure::failed(format!(
            "{}: the series is not the one the checkpoint was trained on ({found}; expected {}); resume with that table, \
             or train again without --resume",
            path.display(),
            self.data
        )))
    }
}
