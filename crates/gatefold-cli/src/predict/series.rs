//! The series of a table, beside those that a model was fitted on.

use crate::failure::Failure;
use crate::forecast::{Data, Report, SavedModel};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// Names that a line shows.
const SHOWN: usize = 3;
/// The most samples by which a table may start after the one that the model was fitted on.
const MOST_LATER: i64 = 1_000_000;

fn refuse(table: &Path, problem: impl std::fmt::Display) -> Failure {
    Failure::failed(format!("{}: {problem}", table.display()))
}

/// The first names of some.
pub(super) fn shown(names: &[String]) -> String {
    let first = names[..names.len().min(SHOWN)].join(", ");
    if names.len() > SHOWN { format!("{first} and {} more", names.len() - SHOWN) } else { first }
}

/// Checks that samples are as far apart as those that the model was fitted on.
pub(super) fn check_frequency(table: &Path, saved: &SavedModel, data: &Data) -> Result<(), Failure> {
    let frequency = data.dataset.calendar().frequency().to_string();
    if frequency == saved.frequency {
        return Ok(());
    }
    Err(refuse(
        table,
        format!(
            "its samples are {frequency}, and those that the model was fitted on were {}; give a table like that, or train \
             on this one",
            saved.frequency
        ),
    ))
}

/// Keeps the series that the model can forecast, those that it was fitted on first and in its order, and returns their numbers
/// there: `None` for a new one. `new` says what a model that takes new series does with them. Reports what is new, and what is
/// missing.
///
/// # Errors
/// A table without any series that the model can forecast.
pub(super) fn matched(
    table: &Path,
    saved: &SavedModel,
    data: &mut Data,
    new: Option<&str>,
    report: &Report,
) -> Result<Vec<Option<usize>>, Failure> {
    let targets = data.targets();
    let numbers: HashMap<&String, usize> =
        saved.names.iter().step_by(targets).enumerate().map(|(number, name)| (name, number)).collect();
    let names: Vec<String> = data.names().iter().step_by(targets).cloned().collect();
    let found: Vec<Option<usize>> = names.iter().map(|name| numbers.get(name).copied()).collect();
    let mut order: Vec<usize> = (0..found.len()).filter(|at| new.is_some() || found[*at].is_some()).collect();
    order.sort_by_key(|at| found[*at].unwrap_or(usize::MAX));
    let known = found.iter().flatten().count();
    if order.is_empty() {
        return Err(lacking(table, saved, data, &saved.names[0]));
    }
    if (1..numbers.len()).contains(&known) {
        let lacking = |name: &&String| !names.contains(name);
        let lacking: Vec<String> =
            saved.names.iter().step_by(targets).filter(lacking).take(1 + SHOWN).cloned().collect();
        let count = numbers.len() - known;
        let first = if count == 1 { lacking[0].clone() } else { format!("{count}, first {}", lacking[0]) };
        report.line(format!("warning   series of the model that this table lacks: {first}"));
    }
    let unknown: Vec<String> =
        found.iter().zip(&names).filter(|(found, _)| found.is_none()).map(|(_, name)| name.clone()).collect();
    match new {
        Some(how) if !unknown.is_empty() => {
            report.line(format!("new       {}: {how}, intervals as for all", shown(&unknown)));
        }
        None if !unknown.is_empty() => {
            report.line(format!(
                "warning   {} of the table's series are not the model's: no forecast",
                unknown.len()
            ));
        }
        _ => {}
    }
    data.keep(&order);
    let of_target = |at: &usize| {
        let number = found[*at];
        (0..targets).map(move |target| number.map(|number| number * targets + target))
    };
    Ok(order.iter().flat_map(of_target).collect())
}

/// Keeps the series that the model was fitted on, in its order.
///
/// # Errors
/// A series that the table lacks, and samples that are not as far apart.
pub(crate) fn select(table: &Path, saved: &SavedModel, data: &mut Data) -> Result<(), Failure> {
    check_frequency(table, saved, data)?;
    let targets = data.targets();
    let names: Vec<&String> = data.names().iter().step_by(targets).collect();
    let place = |name: &String| {
        names.iter().position(|found| *found == name).ok_or_else(|| lacking(table, saved, data, name))
    };
    let places = saved.names.iter().step_by(targets).map(place).collect::<Result<Vec<usize>, _>>()?;
    data.keep(&places);
    Ok(())
}

fn lacking(table: &Path, saved: &SavedModel, data: &Data, missing: &str) -> Failure {
    refuse(
        table,
        format!(
            "the model was fitted on {}, and this table has {}; {missing} is missing: give a table that has it",
            counted(&saved.names),
            counted(data.names())
        ),
    )
}

fn counted(names: &[String]) -> String {
    match names {
        [] => "no series".into(),
        [one] => format!("the series {one}"),
        [first, ..] => format!("{} series from {first} on", names.len()),
    }
}

/// The samples by which each series starts later than the one that the model was fitted on.
///
/// # Errors
/// A series that starts earlier, or on another calendar.
pub(crate) fn delays(
    table: &Path,
    saved: &SavedModel,
    data: &Data,
    known: &[Option<usize>],
) -> Result<Vec<usize>, Failure> {
    let calendar = data.dataset.calendar();
    let later = known.iter().enumerate().map(|(series, number)| {
        let Some(first) = number.map(|number| &saved.first[number]) else { return Ok(0) };
        let start = data.start(series);
        let found = calendar.label(start);
        if found == *first {
            return Ok(0);
        }
        // Rows without a time of their own say nothing about where the table starts.
        let most = if calendar.has_times() { MOST_LATER } else { 0 };
        (1..=most).find(|by| calendar.label(start - by) == *first).map(|by| by as usize).ok_or_else(|| {
            refuse(
                table,
                format!(
                    "the first row of {} is {found}, and that of the model's table was {first}; start with that row, or a later \
                     one of the same calendar",
                    data.names()[series]
                ),
            )
        })
    });
    later.collect()
}

/// Leaves out the ids some of whose series could not be forecast, and returns the places of the series that stay.
///
/// # Errors
/// The first reason, if none stays.
pub(super) fn leave_out(
    table: &Path,
    data: &mut Data,
    failed: &BTreeMap<usize, String>,
    report: &Report,
) -> Result<Vec<usize>, Failure> {
    let targets = data.targets();
    let bad = |id: usize| (id * targets..(id + 1) * targets).any(|series| failed.contains_key(&series));
    let (bad, good): (Vec<usize>, Vec<usize>) = (0..data.names().len() / targets).partition(|id| bad(*id));
    let (first, why) = failed.iter().next().expect("something failed");
    if good.is_empty() {
        return Err(refuse(table, why));
    }
    let names: Vec<String> = bad.iter().map(|id| data.names()[id * targets].clone()).collect();
    report.line(format!("left out  {} of {} series: {}", bad.len(), bad.len() + good.len(), shown(&names)));
    report.line(format!("          {}: {why}", data.names()[*first]));
    data.keep(&good);
    Ok(good.iter().flat_map(|id| id * targets..(id + 1) * targets).collect())
}
