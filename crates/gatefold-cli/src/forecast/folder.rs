//! The folder of a run: its options, its checkpoints, and the model for `gatefold predict`.

use super::choices::Chosen;
use super::{Arguments, Data, Options};
use crate::failure::Failure;
use crate::table::TableArguments;
use gatefold::Device;
use gatefold_forecast::{Calibrations, Comparison, Fitted};
use gatefold_model::file::write_atomically;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};

const MODEL: &str = "model.json";
const CHECKPOINTS: &str = "checkpoints";
const TABLE: &str = "table";

/// A folder that a run writes to.
#[derive(Clone, Debug)]
pub(crate) struct Folder {
    path: PathBuf,
}

/// A run that begins, or goes on.
pub(crate) struct Beginning<'a> {
    pub(crate) table: &'a Path,
    /// The fingerprint of the series.
    pub(crate) fingerprint: String,
    /// Another one rounds otherwise.
    pub(crate) device: &'a Device,
    /// Every option, as TOML.
    pub(crate) options: &'a str,
    /// The name of the file for them.
    pub(crate) file: &'a str,
    /// Whether to go on.
    pub(crate) resume: bool,
}

/// Everything that `gatefold predict` needs besides networks.
#[derive(Serialize, Deserialize)]
pub(crate) struct SavedModel {
    pub(crate) version: u32,
    /// The best model's name, and those whose mean it is.
    pub(crate) best: String,
    pub(crate) members: Vec<String>,
    pub(crate) reading: TableArguments,
    pub(crate) options: Options,
    pub(crate) horizon: usize,
    pub(crate) seasons: Vec<usize>,
    pub(crate) names: Vec<String>,
    /// The time from sample to sample, in words.
    pub(crate) frequency: String,
    /// The label of each series' first sample.
    pub(crate) first: Vec<String>,
    /// The label of each series' last sample.
    #[serde(default)]
    pub(crate) last: Vec<String>,
    pub(crate) units: Vec<f64>,
    pub(crate) calibrations: Calibrations,
}

pub(crate) const VERSION: u32 = 1;

/// The device in words, without its number of threads, which changes no bit of a result.
fn rounding(device: &Device) -> String {
    let summary = device.summary();
    let instructions = summary.strip_prefix("cpu (").and_then(|rest| Some(rest.split_once(", ")?.1));
    instructions.map_or(summary.clone(), |instructions| format!("cpu ({instructions}"))
}

/// Removes the checkpoints of an earlier run, which has left the file `mark` in them.
///
/// # Errors
/// A directory without that file, unless it is empty: it is someone else's.
pub(crate) fn remove_own(checkpoints: &Path, mark: &str) -> Result<(), Failure> {
    if !checkpoints.exists() {
        return Ok(());
    }
    let refuse = |problem: String| Failure::failed(format!("{}: {problem}", checkpoints.display()));
    let removed = match checkpoints.join(mark).is_file() {
        true => fs::remove_dir_all(checkpoints),
        // Fails unless it is empty.
        false if fs::remove_dir(checkpoints).is_ok() => Ok(()),
        false => {
            return Err(refuse(
                "this is not from a run like this one; move it away, or give another --out".into(),
            ));
        }
    };
    removed.map_err(|error| refuse(format!("cannot remove the old checkpoints: {error}")))
}

impl Folder {
    pub(crate) fn new(path: &Path) -> Self {
        Folder { path: path.into() }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the options. Checkpoints of an earlier run are removed, unless it is the one to resume.
    pub(crate) fn begin(&self, run: &Beginning) -> Result<(), Failure> {
        let checkpoints = self.path.join(CHECKPOINTS);
        let Beginning { options, fingerprint, .. } = run;
        let program = format!("gatefold {} on {}", env!("CARGO_PKG_VERSION"), rounding(run.device));
        if run.resume {
            let found = fs::read_to_string(checkpoints.join(TABLE)).unwrap_or_default();
            let (table, rest) = found.split_once('\n').unwrap_or((&found, ""));
            let (found_program, found_options) = rest.split_once('\n').unwrap_or((rest, ""));
            if found.is_empty() {
                return Err(Failure::failed(format!(
                    "{}: there is nothing to resume: the run is finished, or was not begun; train without --resume",
                    self.path.display()
                )));
            }
            if table != fingerprint {
                return Err(Failure::failed(format!(
                    "{}: the series are not those that the run was begun with ({fingerprint}; expected {table}); resume \
                     with that table, or train again without --resume",
                    run.table.display()
                )));
            }
            if found_program != program {
                return Err(Failure::failed(format!(
                    "{}: the run was not begun with {program} (expected {found_program}), which would not end with the same \
                     numbers; resume with that, or train again without --resume",
                    self.path.display()
                )));
            }
            if found_options != *options {
                let differs = |line: &&str| !found_options.lines().any(|found| found == *line);
                let other = options.lines().find(differs).unwrap_or("an option is missing");
                return Err(Failure::Usage(format!(
                    "an option differs from the run to resume: {other}; leave it out, or train again without --resume"
                )));
            }
        } else {
            remove_own(&checkpoints, TABLE)?;
        }
        fs::create_dir_all(&checkpoints).map_err(|error| {
            Failure::failed(format!("{}: cannot create this directory: {error}", checkpoints.display()))
        })?;
        let kept = format!("{fingerprint}\n{program}\n{options}");
        write_atomically(checkpoints.join(TABLE), kept.as_bytes())?;
        Ok(write_atomically(self.path.join(run.file), options.as_bytes())?)
    }

    /// The file for the state of one network in training.
    pub(super) fn checkpoint(&self, model: &str, stage: &str, member: usize) -> PathBuf {
        self.path.join(CHECKPOINTS).join(format!("{model}-{stage}-{}.safetensors", member + 1))
    }

    /// Removes the checkpoints of a run that is finished.
    pub(crate) fn remove_checkpoints(&self) -> Result<(), Failure> {
        let checkpoints = self.path.join(CHECKPOINTS);
        fs::remove_dir_all(&checkpoints).map_err(|error| {
            Failure::failed(format!("{}: cannot remove the old checkpoints: {error}", checkpoints.display()))
        })
    }

    /// Writes the model, and removes the checkpoints.
    pub(super) fn finish(
        &self,
        data: &Data,
        arguments: &Arguments,
        chosen: &Chosen,
        comparison: &Comparison,
        networks: &[(String, Fitted)],
    ) -> Result<(), Failure> {
        for (name, fitted) in networks {
            fitted.save(&self.path, name)?;
        }
        let best = &comparison.models[comparison.best];
        let last = |series: usize, len: usize| data.labels(series, len - 1..len).remove(0);
        let saved = SavedModel {
            version: VERSION,
            best: best.name.clone(),
            members: best.members.iter().map(|place| comparison.models[*place].name.clone()).collect(),
            reading: arguments.reading.clone(),
            options: arguments.options.clone(),
            horizon: chosen.plan.horizon,
            seasons: chosen.seasons.lengths.clone(),
            names: data.names().to_vec(),
            frequency: data.dataset.calendar().frequency().to_string(),
            first: (0..data.names().len()).map(|series| data.labels(series, 0..1).remove(0)).collect(),
            last: data.series().iter().enumerate().map(|(at, values)| last(at, values.len())).collect(),
            units: comparison.units.clone(),
            calibrations: best.calibrations.clone(),
        };
        let text = serde_json::to_string_pretty(&saved).expect("numbers and names are JSON");
        write_atomically(self.path.join(MODEL), format!("{text}\n").as_bytes())?;
        self.remove_checkpoints()
    }

    /// Whether `gatefold forecast` has written a model here.
    pub(crate) fn has_model(&self) -> bool {
        self.path.join(MODEL).exists()
    }

    /// Reads what [`Folder::finish`] wrote.
    pub(crate) fn model(&self) -> Result<SavedModel, Failure> {
        let path = self.path.join(MODEL);
        let refuse = |problem: String| Failure::failed(format!("{}: {problem}", path.display()));
        let text = fs::read_to_string(&path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => {
                refuse("there is no such file; give the directory that 'gatefold forecast' wrote to".into())
            }
            _ => refuse(error.to_string()),
        })?;
        let saved: SavedModel = serde_json::from_str(&text).map_err(|error| {
            refuse(format!("it was not written by 'gatefold forecast': {error}; train a model with that"))
        })?;
        if saved.version != VERSION || saved.horizon == 0 || saved.units.len() != saved.names.len() {
            return Err(refuse(format!(
                "expected version {VERSION} of this file, found {}; train the model again",
                saved.version
            )));
        }
        Ok(saved)
    }
}
