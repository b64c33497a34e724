//! The parts that `impute`, `classify`, `label`, `generate`, `translate` and `score` share.
//!
//! Each of these commands has two forms. `gatefold TASK TABLE --out DIR` trains, measures on a part held out, and writes
//! the model, the test's predictions, metrics.json and log.csv to DIR. `gatefold TASK use DIR ...` uses the model in DIR;
//! its `--out` is a file, and without it the result goes to standard output.
//!
//! For clap, the arguments of a command are
//!
//! ```text
//! #[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
//! struct Arguments {
//!     #[command(subcommand)]
//!     using: Option<Using>, // enum Using { Use(UseArguments) }
//!     #[command(flatten)]
//!     training: Training, // whose required arguments are `#[arg(required = true)] table: Option<PathBuf>`
//! }
//! ```

mod watch;

use crate::ComputeArguments;
use crate::cell::CellChoice;
use crate::failure::Failure;
use crate::forecast::{Report, count, interruption, positive, quoted, remove_own};
use crate::html::{RunPage, Training};
use crate::table::FormatArguments;
use crate::texts::name_of;
use gatefold::{Device, Network, NetworkConfig};
use gatefold_model::file::write_atomically;
use gatefold_tasks::{CellKind, FitSettings, Fitted, Recurrent, TaskError};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
pub(crate) use watch::Watching;

/// An argument that clap requires, unless the command is to use a model.
///
/// # Panics
/// If the declaration does not say `required = true`.
pub(crate) fn required<T>(argument: &Option<T>) -> &T {
    argument.as_ref().expect("clap requires this argument")
}

/// Where to train, where to, and whether to go on.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct RunArguments {
    /// The directory to write to
    #[arg(long, value_name = "DIR", default_value = "gatefold-out")]
    pub(crate) out: PathBuf,
    #[command(flatten)]
    pub(crate) compute: ComputeArguments,
    /// Continue an interrupted run in DIR; the other options as before
    #[arg(long)]
    pub(crate) resume: bool,
    /// Print nothing but errors
    #[arg(long, short)]
    pub(crate) quiet: bool,
}

/// The network and its training.
#[derive(clap::Args, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[command(next_help_heading = "The network")]
pub(crate) struct NetworkArguments {
    /// The recurrent cell [default: gru; lstm for generate and translate]
    #[arg(long, value_name = "CELL")]
    pub(crate) cell: Option<CellChoice>,
    /// Units in each recurrent layer [default: from the data]
    #[arg(long, value_name = "N", value_parser = count())]
    pub(crate) hidden: Option<usize>,
    /// Recurrent layers [default: from the task]
    #[arg(long, value_name = "N", value_parser = count())]
    pub(crate) layers: Option<usize>,
    /// Updates of the network; the parameters that did best on the validation part are kept [default: from the data]
    #[arg(long, value_name = "N", value_parser = count())]
    pub(crate) updates: Option<usize>,
    /// The highest learning rate [default: from the task]
    #[arg(long, value_name = "X", value_parser = positive)]
    pub(crate) lr: Option<f32>,
    /// The seed of everything that is drawn
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,
    /// A few updates only: a try of the command, not a model to use
    #[arg(long)]
    pub(crate) quick: bool,
}

impl NetworkArguments {
    /// The recurrent layers, of the usual width and number unless options say otherwise.
    pub(crate) fn recurrent(&self, hidden: usize, layers: usize) -> Recurrent {
        self.recurrent_of(CellKind::Gru, hidden, layers)
    }

    /// The same for tasks that another cell suits.
    pub(crate) fn recurrent_of(&self, cell: CellKind, hidden: usize, layers: usize) -> Recurrent {
        let cell = self.cell.map_or(cell, CellKind::from);
        Recurrent { cell, hidden: self.hidden.unwrap_or(hidden), layers: self.layers.unwrap_or(layers) }
    }

    /// The training, of the usual number of updates, or the number for `--quick`, unless options say otherwise.
    pub(crate) fn settings(&self, usual: u64, quick: u64) -> FitSettings {
        let updates = self.updates.map_or(if self.quick { quick } else { usual }, |updates| updates as u64);
        let mut settings = FitSettings::new(updates);
        settings.seed = self.seed;
        if let Some(rate) = self.lr {
            settings.learning_rate = rate;
        }
        settings
    }
}

/// A training under way: its folder, its device and what it prints.
pub(crate) struct Run {
    task: &'static str,
    pub(crate) report: Report,
    pub(crate) device: Device,
    out: PathBuf,
    stop: Arc<AtomicBool>,
    looks: Vec<String>,
    training: Vec<Training>,
}

const CHECKPOINTS: &str = "checkpoints";
/// The options of a run and the fingerprint of its data, beside the checkpoints.
const BEGUN: &str = "begun.json";
const LOG: &str = "log.csv";
const METRICS: &str = "metrics.json";
const REPORT: &str = "report.html";

impl Run {
    /// Opens the device and the folder. `options` are all that change the result, and `data` is [`fingerprint`] of
    /// everything that was read; a run is resumed with the same ones only.
    pub(crate) fn begin(
        task: &'static str,
        arguments: &RunArguments,
        options: &impl Serialize,
        data: &str,
    ) -> Result<Run, Failure> {
        let out = &arguments.out;
        let begun = json!({ "task": task, "data": data, "options": options });
        let checkpoints = out.join(CHECKPOINTS);
        if arguments.resume {
            check_resumed(out, &begun)?;
        } else {
            remove_own(&checkpoints, BEGUN)?;
        }
        let device = arguments.compute.open(arguments.quiet)?;
        fs::create_dir_all(&checkpoints).map_err(|error| {
            Failure::failed(format!("{}: cannot create this directory: {error}", checkpoints.display()))
        })?;
        write_atomically(checkpoints.join(BEGUN), format!("{begun:#}\n").as_bytes())?;
        let stop = interruption(arguments.quiet)?;
        let report = Report::new(arguments.quiet);
        Ok(Run { task, report, device, out: out.clone(), stop, looks: Vec::new(), training: Vec::new() })
    }

    /// Whoever watches the training of network `member` of `members`, counted from 0. `error` names what a look
    /// measures, such as `bits per character`.
    pub(crate) fn watch<'a>(
        &'a self,
        settings: &FitSettings,
        (member, members): (usize, usize),
        error: &'a str,
    ) -> Watching<'a> {
        let name = if members == 1 { "network".into() } else { format!("network {}/{members}", member + 1) };
        let checkpoint = self.out.join(CHECKPOINTS).join(format!("{}.safetensors", member + 1));
        Watching::new(&self.report, name, settings.updates, error, checkpoint, Arc::clone(&self.stop))
    }

    /// The failure to end the run with after an error of the library. `place`, such as the table's path, comes before it.
    pub(crate) fn failure(&self, place: &Path, error: TaskError) -> Failure {
        match error {
            TaskError::Stopped => {
                let words = std::env::args().skip(1).filter(|word| word != "--resume");
                let words: Vec<String> = words.map(|word| quoted(&word)).collect();
                Failure::Interrupted(format!(
                    "interrupted; continue with\n  gatefold {} --resume",
                    words.join(" ")
                ))
            }
            other => Failure::failed(format!("{}: {other}", place.display())),
        }
    }

    /// Adds the looks of a trained network to the log.
    pub(crate) fn log(&mut self, fitted: &Fitted) {
        let member = self.looks.iter().filter(|line| line.ends_with('*')).count() + 1;
        let mut training = Training::default();
        for look in &fitted.looks {
            training.losses.push((look.update as f64, f64::from(look.loss)));
            training.errors.extend(look.error.map(|error| (look.update as f64, error)));
            let error = look.error.map_or_else(String::new, |error| error.to_string());
            let kept = if look.update == fitted.update { "*" } else { "" };
            self.looks.push(format!("{member},{},{},{error},{kept}", look.update, look.loss));
        }
        self.training.push(training);
    }

    /// Writes one file of the run.
    pub(crate) fn save(&self, name: &str, content: impl AsRef<[u8]>) -> Result<(), Failure> {
        Ok(write_atomically(self.out.join(name), content.as_ref())?)
    }

    /// Writes the networks, with the task's data in each, the log and the metrics; then the run is over, and its
    /// checkpoints go. `files` are those that [`Run::save`] wrote.
    pub(crate) fn finish(
        &self,
        networks: &[&Network],
        data: &impl Serialize,
        metrics: &Value,
        files: &[&str],
    ) -> Result<(), Failure> {
        for (member, network) in networks.iter().enumerate() {
            gatefold_tasks::save(self.out.join(model_name(member)), network, self.task, data)?;
        }
        // Networks of an earlier run with more of them.
        for member in networks.len().. {
            let path = self.out.join(model_name(member));
            if !path.exists() {
                break;
            }
            fs::remove_file(&path)
                .map_err(|error| Failure::failed(format!("{}: {error}", path.display())))?;
        }
        self.save(LOG, format!("network,update,loss,error,kept\n{}\n", self.looks.join("\n")))?;
        self.save(METRICS, format!("{metrics:#}\n"))?;
        self.report.line(format!("\nWritten to {}:", self.out.display()));
        let models = if networks.len() == 1 {
            "model.safetensors".into()
        } else {
            format!("model.safetensors to model-{}.safetensors", networks.len())
        };
        self.save(REPORT, self.page(networks, files)?)?;
        self.report.line(format!("  {REPORT}  {}  {LOG}  {METRICS}\n  {models}", files.join("  ")));
        remove(&self.out.join(CHECKPOINTS))
    }
}

impl Run {
    /// The page that shows the run.
    fn page(&self, networks: &[&Network], files: &[&str]) -> Result<String, Failure> {
        let read = |name: &str| {
            let path = self.out.join(name);
            fs::read_to_string(&path).map_err(|error| Failure::failed(format!("{}: {error}", path.display())))
        };
        let pictures = files.iter().filter(|name| name.ends_with(".svg")).map(|name| read(name));
        let pictures = pictures.collect::<Result<Vec<_>, _>>()?;
        let networks: Vec<NetworkConfig> = networks.iter().map(|network| network.config().clone()).collect();
        let page = RunPage {
            title: &format!("gatefold {}", self.task),
            about: &self.device.summary(),
            printed: &self.report.printed(),
            pictures: &pictures,
            training: &self.training,
            networks: &networks,
        };
        Ok(page.html())
    }
}

/// Refuses to go on with a run that was begun with other data or options, or not at all.
fn check_resumed(out: &Path, begun: &Value) -> Result<(), Failure> {
    let text = fs::read_to_string(out.join(CHECKPOINTS).join(BEGUN)).unwrap_or_default();
    let Ok(found) = serde_json::from_str::<Value>(&text) else {
        return Err(Failure::failed(format!(
            "{}: there is nothing to resume: the run is finished, or was not begun; train without --resume",
            out.display()
        )));
    };
    if found == *begun {
        return Ok(());
    }
    let other = match &begun["options"] {
        _ if found["task"] != begun["task"] => format!("the run to resume is one of {}", found["task"]),
        _ if found["data"] != begun["data"] => "the data differs from that of the run to resume".into(),
        Value::Object(options) => {
            let differs = options.iter().find(|(name, value)| found["options"][name.as_str()] != **value);
            let (name, value) = differs.map_or(("an option", &Value::Null), |(name, value)| (name, value));
            format!("{name} was {} in the run to resume, and is {value}", found["options"][name])
        }
        _ => "an option differs from the run to resume".into(),
    };
    Err(Failure::Usage(format!("{other}; resume as it was begun, or train again without --resume")))
}

fn remove(checkpoints: &Path) -> Result<(), Failure> {
    fs::remove_dir_all(checkpoints).map_err(|error| {
        Failure::failed(format!("{}: cannot remove the old checkpoints: {error}", checkpoints.display()))
    })
}

/// The file of a network of a run.
pub(crate) fn model_name(member: usize) -> String {
    if member == 0 { "model.safetensors".into() } else { format!("model-{}.safetensors", member + 1) }
}

/// Reads the networks that [`Run::finish`] wrote to a folder, and the task's data.
pub(crate) fn load<D: DeserializeOwned>(
    device: &Device,
    folder: &Path,
    task: &str,
) -> Result<(Vec<Network>, D), Failure> {
    if !folder.join(model_name(0)).exists() {
        return Err(Failure::failed(format!(
            "{}: there is no model in it; give the directory that 'gatefold {task}' wrote to",
            folder.display()
        )));
    }
    let (network, data) = gatefold_tasks::load(device, folder.join(model_name(0)), task)?;
    let mut networks = vec![network];
    while folder.join(model_name(networks.len())).exists() {
        let path = folder.join(model_name(networks.len()));
        networks.push(gatefold_tasks::load::<serde::de::IgnoredAny>(device, path, task)?.0);
    }
    Ok((networks, data))
}

/// The failure of a table that does not suit a task.
pub(crate) fn at(table: &Path, error: TaskError) -> Failure {
    Failure::failed(format!("{}: {error}", name_of(table)))
}

/// Refuses options for reading a table where a text is read.
pub(crate) fn refuse_format(format: &FormatArguments) -> Result<(), Failure> {
    if *format == FormatArguments::default() {
        return Ok(());
    }
    Err(Failure::Usage(
        "the model reads a text, which the options for reading a table say nothing about; leave them out"
            .into(),
    ))
}

/// FNV-1a over bytes: tells data apart without keeping any of it.
pub(crate) fn fingerprint(parts: impl IntoIterator<Item = impl AsRef<[u8]>>) -> String {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for part in parts {
        // The end of a part counts too: "ab", "c" is not "a", "bc".
        for byte in part.as_ref().iter().copied().chain([0xff]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
    format!("{hash:016x}")
}

/// Writes the result of `use` to a file, or to standard output.
pub(crate) fn give(out: Option<&Path>, text: &str) -> Result<(), Failure> {
    match out {
        Some(path) => Ok(write_atomically(path, text.as_bytes())?),
        None => {
            use std::io::Write;
            // No error if the reader has gone, as `| head` does.
            let _ = std::io::stdout().write_all(text.as_bytes());
            Ok(())
        }
    }
}

/// The text as a cell of a CSV file, quoted if necessary.
pub(crate) fn csv_cell(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.into()
    }
}
