//! The runs whose networks can be looked at: forecasts, and the other tasks.

use super::Arguments;
use crate::failure::Failure;
use crate::forecast::{Data, Folder, SavedModel};
use crate::predict::{delays, select};
use crate::table::FormatArguments;
use crate::task::model_name;
use crate::{classify, generate, impute, label, score, translate};
use gatefold::training::GradientFlow;
use gatefold::{Device, Network, NetworkConfig};
use gatefold_forecast::{Fitted, NETWORKS};
use gatefold_tasks::Examples;
use std::path::Path;

/// A run with a network in it.
pub(super) enum Source {
    Forecast(Box<SavedModel>),
    /// One of a task, by its command.
    Task(String),
}

/// The gradient's way back in a network, over some rows.
pub(super) struct Found {
    pub(super) network: NetworkConfig,
    pub(super) rows: usize,
    /// One of the rows in words, such as window.
    pub(super) kind: &'static str,
    pub(super) flow: GradientFlow,
}

impl Source {
    /// Finds out which command wrote the directory.
    ///
    /// # Errors
    /// If none did that has a network to look at.
    pub(super) fn of(arguments: &Arguments) -> Result<Source, Failure> {
        let path = &arguments.model;
        let refuse = |problem: &str| Err(Failure::failed(format!("{}: {problem}", path.display())));
        if path.is_file() {
            return refuse(
                "a model file alone does not say how a table becomes its input, nor what its loss is; give the directory \
                 of the run that trained it, or call Network::gradient_flow in a program",
            );
        }
        let (folder, model) = (Folder::new(path), path.join(model_name(0)));
        match (folder.has_model(), model.exists()) {
            (true, false) => Ok(Source::Forecast(Box::new(folder.model()?))),
            (false, true) => match gatefold_tasks::task_of(&model)? {
                Some(task) => Ok(Source::Task(task)),
                None => refuse("no command trained the model in it; give the directory that one wrote to"),
            },
            (true, true) => refuse(
                "it holds a forecast and the model of another task, and which one is meant is not clear; train one of \
                 them into a directory of its own with --out",
            ),
            (false, false) => refuse(
                "there is no model in it; give the directory that 'gatefold forecast', impute, classify, label, score, \
                 generate or translate wrote to",
            ),
        }
    }

    /// Follows the gradient back through the network that is asked for.
    ///
    /// # Errors
    /// If there is no such network, or the table does not suit it; those of the device.
    pub(super) fn follow(&self, device: &Device, arguments: &Arguments) -> Result<Found, Failure> {
        match self {
            Source::Forecast(saved) => of_forecast(saved, device, arguments),
            Source::Task(task) => of_task(task, device, arguments),
        }
    }
}

/// A task's function that reads its networks, and examples of a table.
type Reader = fn(&Device, &Path, &Path, &FormatArguments, usize) -> Result<(Vec<Network>, Examples), Failure>;

fn of_task(task: &str, device: &Device, arguments: &Arguments) -> Result<Found, Failure> {
    let (model, table, format) = (&arguments.model, &arguments.table, &arguments.format);
    let read: Reader = match task {
        classify::TASK => classify::examples,
        generate::TASK => generate::examples,
        impute::TASK => impute::examples,
        label::TASK => label::examples,
        score::TASK => score::examples,
        translate::TASK => translate::examples,
        other => {
            return Err(Failure::failed(format!(
                "{}: a model of {other}, which this version does not know; use the version that trained it",
                model.display()
            )));
        }
    };
    let (networks, examples) = read(device, model, table, format, arguments.windows)?;
    let Some(network) = networks.get(arguments.member - 1) else {
        return Err(Failure::failed(format!(
            "{}: there is no network {}; found {}",
            model.display(),
            arguments.member,
            networks.len()
        )));
    };
    let flow = examples.gradient_flow(network)?;
    let rows = examples.input.batch();
    Ok(Found { network: network.config().clone(), rows, kind: "sequence", flow })
}

fn of_forecast(saved: &SavedModel, device: &Device, arguments: &Arguments) -> Result<Found, Failure> {
    if arguments.format != FormatArguments::default() {
        return Err(Failure::Usage(
            "a run of 'gatefold forecast' remembers how its table is read; leave out the options for that"
                .into(),
        ));
    }
    let name = network(arguments, saved)?;
    let mut data = Data::read(&arguments.table, &saved.reading)?;
    select(&arguments.table, saved, &mut data)?;
    let places: Vec<Option<usize>> = (0..data.names().len()).map(Some).collect();
    let delays = delays(&arguments.table, saved, &data, &places)?;
    let folder = Folder::new(&arguments.model);
    let mut fitted = Fitted::load(device, folder.path(), name)?;
    fitted.put_beside(&saved.options.beside(&data, saved.horizon)?.delayed(&delays));
    // A network counts moments from the first sample that it was trained on.
    let known: Vec<Vec<f64>> = data
        .series()
        .into_iter()
        .zip(&delays)
        .map(|(values, by)| [&vec![f64::NAN; *by], values].concat())
        .collect();
    let known: Vec<&[f64]> = known.iter().map(Vec::as_slice).collect();
    let member = arguments.member - 1;
    let (rows, flow) = fitted.gradient_flow(member, &known, arguments.windows)?;
    Ok(Found { network: fitted.networks()[member].config().clone(), rows, kind: "window", flow })
}

/// The recurrent network of a run.
fn network<'a>(arguments: &Arguments, saved: &'a SavedModel) -> Result<&'a str, Failure> {
    let names = saved.members.iter().chain([&saved.best]).map(String::as_str);
    let kept: Vec<&str> = names.filter(|name| NETWORKS.contains(name)).collect();
    kept.into_iter().find(|name| *name == "network").ok_or_else(|| {
        Failure::failed(format!(
            "{}: the run chose {}, and kept no recurrent network; train one with 'gatefold forecast {} --model network'",
            arguments.model.display(),
            saved.best,
            arguments.table.display()
        ))
    })
}
