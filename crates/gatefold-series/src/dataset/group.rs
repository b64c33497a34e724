//! Tables in which a row is a moment: one series, several told apart by an id, or one a column.

use super::options::{Layout, ReadOptions};
use super::regular::{Complete, Counts, Placed, Problem, Regular, Values, placed};
use super::report::{TableReport, listed};
use super::roles::{Groups, Targets, is_constant, is_row_number};
use super::{Dataset, Series, StaticValue, periods, time};
use crate::calendar::clock::{Clock, Times};
use crate::calendar::grid::Grid;
use crate::calendar::stamp::DAY;
use crate::table::sheet::{Kind, Sheet};
use crate::table::shown;
use crate::{Calendar, SeriesError};
use std::ops::Range;

/// The order of a table's rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    OldestFirst,
    NewestFirst,
    Mixed,
}

/// The rows of each series, oldest first, and the order they were in.
struct Sorted {
    rows: Vec<Vec<usize>>,
    order: Order,
}

impl Sorted {
    fn of(groups: &Groups, times: Option<&Times>) -> Sorted {
        let mut rows: Vec<Vec<usize>> = vec![Vec::new(); groups.ids.len()];
        for (row, series) in groups.of_row.iter().enumerate() {
            rows[*series as usize].push(row);
        }
        let Some(times) = times else { return Sorted { rows, order: Order::OldestFirst } };
        let value = |row: &usize| times.values[*row];
        let up = rows.iter().all(|rows| rows.is_sorted_by_key(value));
        let down = rows.iter().all(|rows| rows.iter().rev().is_sorted_by_key(&value));
        let order = match (up, down) {
            (true, _) => Order::OldestFirst,
            (false, true) => Order::NewestFirst,
            (false, false) => Order::Mixed,
        };
        if !up {
            rows.iter_mut().for_each(|rows| rows.sort_by_key(value));
        }
        Sorted { rows, order }
    }
}

/// The calendar of sorted rows. Offsets and zones: days and longer are counted on the clock of the place, anything
/// shorter in UTC. `at` makes an error about a row.
pub(super) fn calendar(
    sheet: &Sheet,
    times: Times,
    rows: &[Vec<usize>],
    options: &ReadOptions,
    at: &dyn Fn(usize, String) -> SeriesError,
) -> Result<(Calendar, Times), SeriesError> {
    let periods = options.freq.is_some() && options.aggregate.is_some();
    if let Some(local) = times.local()
        && let Some(grid) = grid_of(sheet, &local, rows, options, at).ok().filter(whole_days)
    {
        let on_grid = periods || rows.iter().flatten().all(|row| grid.position(local.values[*row]).is_some());
        if on_grid {
            return Ok((Calendar::new(grid, &local), local));
        }
    }
    let grid = grid_of(sheet, &times, rows, options, at)?;
    Ok((Calendar::new(grid, &times), times))
}

fn whole_days(grid: &Grid) -> bool {
    match grid {
        Grid::Fixed { step, slack, .. } => step % DAY == 0 && *slack == 0,
        _ => true,
    }
}

fn grid_of(
    sheet: &Sheet,
    times: &Times,
    rows: &[Vec<usize>],
    options: &ReadOptions,
    at: &dyn Fn(usize, String) -> SeriesError,
) -> Result<Grid, SeriesError> {
    let periods = options.freq.is_some() && options.aggregate.is_some();
    let sorted: Vec<Vec<i64>> = rows
        .iter()
        .map(|rows| {
            let mut values: Vec<i64> = rows.iter().map(|row| times.values[*row]).collect();
            values.dedup();
            values
        })
        .collect();
    let runs: Vec<&[i64]> = sorted.iter().map(Vec::as_slice).collect();
    if let Some(frequency) = options.freq {
        let fits = times.dated() == (frequency.unit() != crate::Unit::Row);
        let grid = Grid::of_frequency(&runs, frequency, periods).filter(|_| fits);
        return grid.ok_or_else(|| {
            sheet
                .source
                .table(format!("--freq {frequency} does not fit the times of {}; say another", times.name))
        });
    }
    match Grid::find(&runs, times.dated()) {
        Ok(Some(grid)) => Ok(grid),
        Ok(None) => Err(sheet.source.table("one moment has no frequency; add rows, or say --freq")),
        Err(uneven) => {
            let [odd, usual] = [uneven.odd, uneven.usual].map(|step| step_text(step, times));
            let Some(value) = uneven.at else {
                let problem = format!(
                    "each series has a step of {usual}, but they are not in step with each other; say --freq and --agg"
                );
                return Err(sheet.source.table(problem));
            };
            let row = times.values.iter().position(|other| *other == value).unwrap_or(0);
            let problem = format!(
                "{odd} after the time before, where most steps are {usual}; say --freq and --agg, or --time none to take \
                 rows as evenly spaced"
            );
            Err(at(row, problem))
        }
    }
}

/// The length of a step for a message.
fn step_text(step: i64, times: &Times) -> String {
    if !times.dated() {
        return Clock::Number(if let Clock::Number(decimals) = times.clock { decimals } else { 0 })
            .text(step, None);
    }
    let units = [(DAY, "days"), (3_600_000_000, "hours"), (60_000_000, "minutes"), (1_000_000, "seconds")];
    let (size, name) = units.into_iter().find(|(size, _)| step % size == 0).unwrap_or((1000, "ms"));
    let count = step as f64 / size as f64;
    if count == 1.0 { format!("1 {}", name.trim_end_matches('s')) } else { format!("{count} {name}") }
}

/// Where the rows of each series are on the calendar.
fn places(
    sheet: &Sheet,
    calendar: &Calendar,
    times: Option<&Times>,
    rows: &[Vec<usize>],
    options: &ReadOptions,
) -> Result<Vec<Vec<Placed>>, SeriesError> {
    let periods = options.freq.is_some() && options.aggregate.is_some();
    let of_series = |rows: &Vec<usize>| {
        let Some(times) = times else {
            let at = |(at, row): (usize, &usize)| Placed { position: at as i64, row: *row };
            return Ok(rows.iter().enumerate().map(at).collect());
        };
        placed(calendar.grid(), rows.iter().map(|row| (times.values[*row], *row)), periods).map_err(|(_, row)| {
            let found = shown(sheet.cell(row, times.columns[0]));
            let frequency = calendar.frequency();
            let problem = format!("'{found}' is no moment of a calendar that is {frequency}; correct it, or say another --freq, or --agg");
            sheet.error(row, times.columns[0], problem)
        })
    };
    rows.iter().map(of_series).collect()
}

/// The first and the last period of a series, as far as they have fewer rows than is usual between.
fn partial(rows: &[Placed], values: &Values) -> Vec<i64> {
    let known = |placed: &&Placed| values.targets.iter().any(|column| !column[placed.row].is_nan());
    let rows: Vec<Placed> = rows.iter().filter(known).copied().collect();
    let periods: Vec<&[Placed]> = rows.chunk_by(|a, b| a.position == b.position).collect();
    let [first, inner @ .., last] = periods.as_slice() else { return Vec::new() };
    let mut counts: Vec<usize> = inner.iter().map(|rows| rows.len()).collect();
    counts.sort_unstable();
    let Some(usual) = counts.get(counts.len() / 2) else { return Vec::new() };
    [first, last].into_iter().filter(|rows| rows.len() < *usual).map(|rows| rows[0].position).collect()
}

/// The columns besides the targets.
struct Others {
    covariates: Vec<usize>,
    values: Vec<Vec<f64>>,
    complete: Vec<Complete>,
    statics: Vec<usize>,
    left_out: Vec<String>,
}

impl Others {
    fn find(
        sheet: &Sheet,
        times: Option<&Times>,
        groups: &Groups,
        targets: &[usize],
        options: &ReadOptions,
    ) -> Result<Others, SeriesError> {
        let mut others = Others {
            covariates: Vec::new(),
            values: Vec::new(),
            complete: Vec::new(),
            statics: Vec::new(),
            left_out: Vec::new(),
        };
        let taken = |column: usize| {
            times.is_some_and(|times| times.columns.contains(&column))
                || groups.columns.contains(&column)
                || targets.contains(&column)
        };
        let free: Vec<usize> = (0..sheet.columns.len()).filter(|column| !taken(*column)).collect();
        if groups.ids.len() > 1 || !groups.columns.is_empty() {
            others.statics =
                free.iter().copied().filter(|column| within_constant(sheet, groups, *column)).collect();
        }
        for (names, complete) in [(&options.past, Complete::Samples), (&options.future, Complete::Everywhere)]
        {
            for name in names {
                let column = sheet.find(name)?;
                if taken(column) || others.covariates.contains(&column) {
                    return Err(sheet.source.table(format!(
                        "the column '{name}' is asked for twice, as a covariate and as something else; leave one out"
                    )));
                }
                others.values.push(sheet.numbers(column)?);
                others.complete.push(complete);
                others.covariates.push(column);
            }
        }
        if options.covariates().is_some() {
            return Ok(others);
        }
        for column in free {
            let numeric = sheet.columns[column].kind == Kind::Number;
            if others.statics.contains(&column)
                || is_row_number(sheet, column)
                || numeric && is_constant(sheet, column)
            {
                continue;
            }
            match sheet.numbers(column) {
                Ok(values) if numeric => {
                    others.covariates.push(column);
                    others.values.push(values);
                    others.complete.push(Complete::Nowhere);
                }
                _ if sheet.columns[column].kind == Kind::Empty => {}
                _ => others.left_out.push(sheet.name(column).to_owned()),
            }
        }
        Ok(others)
    }
}

fn within_constant(sheet: &Sheet, groups: &Groups, column: usize) -> bool {
    let mut first: Vec<Option<&str>> = vec![None; groups.ids.len()];
    (0..sheet.rows()).all(|row| {
        let cell = sheet.cell(row, column);
        let known = first[groups.of_row[row] as usize].get_or_insert(cell);
        !sheet.is_missing(cell) && *known == cell
    })
}

fn static_value(sheet: &Sheet, row: usize, column: usize) -> StaticValue {
    let cell = sheet.cell(row, column);
    let number = (sheet.columns[column].kind == Kind::Number)
        .then(|| sheet.format(column).ok()?.parse(cell))
        .flatten();
    number.map_or_else(|| StaticValue::Text(shown(cell)), StaticValue::Number)
}

pub(super) fn dataset(sheet: &Sheet, options: &ReadOptions) -> Result<Dataset, SeriesError> {
    let times = time::find(sheet, options)?.map(|times| periods::within(times, options));
    let groups = Groups::find(sheet, times.as_ref(), options)?;
    let alike = groups.alike(times.as_ref());
    let label = |row: usize| {
        let cells = groups.columns.iter().map(|column| shown(sheet.cell(row, *column)));
        cells.collect::<Vec<_>>().join("/")
    };
    let alike = alike.map(|(one, other)| (other, label(one), label(other)));
    if let Some((row, one, other)) = alike.as_ref().filter(|_| groups.found) {
        let column = groups.columns[0];
        let problem = format!(
            "'{other}' and '{one}' may be one series; write them alike, or say --id {} if they are two",
            sheet.name(column)
        );
        return Err(sheet.error(*row, column, problem));
    }
    let mut targets = Targets::find(sheet, times.as_ref(), &groups, options)?;
    let wide = options.layout == Some(Layout::Wide);
    if wide && groups.ids.len() > 1 {
        let names = listed(groups.columns.iter().map(|column| sheet.name(*column)));
        let problem =
            format!("--layout wide, but {names} tells several series apart; leave out the layout or the id");
        return Err(sheet.source.table(problem));
    }
    if wide && options.targets.is_empty() {
        let time = times.as_ref().map_or(&[][..], |times| &times.columns);
        let number = |column: &usize| !time.contains(column) && !is_row_number(sheet, *column);
        targets.columns = sheet.numeric().filter(number).collect();
    }
    let mut others = if wide {
        Others { covariates: vec![], values: vec![], complete: vec![], statics: vec![], left_out: vec![] }
    } else {
        Others::find(sheet, times.as_ref(), &groups, &targets.columns, options)?
    };
    let sorted = Sorted::of(&groups, times.as_ref());
    let moments = times.clone().filter(|_| options.aggregate.is_some());
    let (calendar, times) = match times {
        Some(times) => {
            let column = times.columns[0];
            let at = |row: usize, problem: String| sheet.error(row, column, problem);
            let (calendar, times) = calendar(sheet, times, &sorted.rows, options, &at)?;
            (calendar, Some(times))
        }
        None => (Calendar::of_rows(), None),
    };
    let places = places(sheet, &calendar, times.as_ref(), &sorted.rows, options)?;
    let target_values =
        targets.columns.iter().map(|column| sheet.numbers(*column)).collect::<Result<Vec<_>, _>>()?;
    let mut values = Values {
        targets: target_values,
        covariates: std::mem::take(&mut others.values),
        complete: others.complete.clone(),
    };
    let mut counts = Counts::default();
    if options.freq.is_some() && options.aggregate.is_some() {
        counts.partial = places
            .iter()
            .map(|rows| partial(rows, &values))
            .find(|found| !found.is_empty())
            .unwrap_or_default();
    }
    let maker = Maker {
        sheet,
        times: times.as_ref(),
        targets: &targets.columns,
        others: &others,
        options,
        calendar: &calendar,
    };
    if let Some(moments) = &moments {
        for rows in &places {
            let of = |problem| maker.error(problem, &targets.columns, rows);
            periods::check(rows, moments, &mut values, options, &mut counts).map_err(of)?;
        }
    }
    let mut series = Vec::new();
    if wide {
        for (at, column) in targets.columns.iter().enumerate() {
            let values =
                Values { targets: vec![values.targets[at].clone()], covariates: vec![], complete: vec![] };
            let regular = maker.regular(&places[0], &values, &[*column], &mut counts)?;
            series.push(maker.series(Some(sheet.name(*column).to_owned()), regular, places[0][0].row));
        }
    } else {
        for (id, rows) in groups.ids.iter().zip(&places) {
            let regular = maker.regular(rows, &values, &targets.columns, &mut counts)?;
            let id = (!groups.columns.is_empty()).then(|| shown(id));
            series.push(maker.series(id, regular, rows[0].row));
        }
    }
    let kinds = covariate_kinds(options, &series, others.covariates.len());
    let mut report = report(&maker, &groups, &targets, &sorted, &series, &kinds, &counts);
    if let Some((_, one, other)) = alike {
        report.say("warning", format!("'{other}' and '{one}' are taken for two series"));
    }
    let (past, future) = kinds;
    let names = |columns: &[usize]| columns.iter().map(|column| sheet.name(*column).to_owned()).collect();
    Ok(Dataset {
        series,
        targets: if wide { vec!["value".into()] } else { names(&targets.columns) },
        ids: names(&groups.columns),
        in_columns: !wide,
        covariates: names(&others.covariates),
        past,
        future,
        statics: names(&others.statics),
        calendar,
        report,
    })
}

/// The places of the past and of the future covariates: those asked for, or those that rows after the last sample have.
fn covariate_kinds(options: &ReadOptions, series: &[Series], count: usize) -> (Range<usize>, Vec<usize>) {
    if options.covariates().is_some() {
        let past = options.past.len();
        return (0..past, (past..count).collect());
    }
    let known_ahead = |column: &usize| {
        series
            .iter()
            .all(|one| one.future > 0 && one.covariates[*column].iter().all(|value| value.is_finite()))
    };
    (0..0, (0..count).filter(known_ahead).collect())
}

/// The columns and rows that become series.
struct Maker<'a> {
    sheet: &'a Sheet,
    times: Option<&'a Times>,
    targets: &'a [usize],
    others: &'a Others,
    options: &'a ReadOptions,
    calendar: &'a Calendar,
}

impl Maker<'_> {
    fn regular(
        &self,
        rows: &[Placed],
        values: &Values,
        targets: &[usize],
        counts: &mut Counts,
    ) -> Result<Regular, SeriesError> {
        Regular::of(rows, values, self.options, counts).map_err(|problem| self.error(problem, targets, rows))
    }

    fn error(&self, problem: Problem, targets: &[usize], rows: &[Placed]) -> SeriesError {
        let name = |column: usize| {
            let all: Vec<usize> = targets.iter().chain(&self.others.covariates).copied().collect();
            self.sheet.name(all[column]).to_owned()
        };
        let at = |row: usize, column: Option<String>, problem: String| {
            let row = if row == 0 { rows[0].row } else { row };
            self.sheet.source.cell(self.sheet.line(row), &column.unwrap_or_default(), problem)
        };
        let time = self.times.map_or("1", |times| times.name.as_str());
        let hours = self.calendar.frequency().micros().is_some_and(|step| step < DAY);
        let clock = hours && self.times.is_some_and(|times| matches!(times.clock, Clock::Civil));
        let label = |row: usize| {
            let cells = self.times.map_or(&[][..], |times| &times.columns).iter();
            cells.map(|column| shown(self.sheet.cell(row, *column))).collect::<Vec<_>>().join(" ")
        };
        problem.error(&name, &at, time, &label, if clock { "; or --zone, for summer time" } else { "" })
    }

    fn series(&self, id: Option<String>, regular: Regular, row: usize) -> Series {
        let statics =
            self.others.statics.iter().map(|column| static_value(self.sheet, row, *column)).collect();
        Series {
            id,
            start: regular.start,
            targets: regular.targets,
            made_up: regular.made_up,
            covariates: regular.covariates,
            covariates_made_up: regular.covariates_made_up,
            statics,
            future: regular.future,
        }
    }
}

fn report(
    maker: &Maker<'_>,
    groups: &Groups,
    targets: &Targets,
    sorted: &Sorted,
    series: &[Series],
    kinds: &(Range<usize>, Vec<usize>),
    counts: &Counts,
) -> TableReport {
    let (sheet, calendar) = (maker.sheet, maker.calendar);
    let mut report = super::report::of_sheet(sheet, targets.columns.first().copied());
    super::report::say_time(&mut report, maker.times, calendar, series);
    match sorted.order {
        Order::OldestFirst => {}
        Order::NewestFirst => report.say("order", "newest row first; sorted by time"),
        Order::Mixed => report.say("order", "rows not in order of time; sorted"),
    }
    if groups.ids.len() > 1 || !groups.columns.is_empty() {
        let names = listed(groups.columns.iter().map(|column| sheet.name(*column)));
        let found = if groups.found { "found" } else { "asked for" };
        report.say("series", format!("{}, told apart by {names} ({found})", groups.ids.len()));
    }
    if let Some(column) = groups.doubt {
        let name = shown(sheet.name(column));
        report.say("warning", format!("{name} changes in blocks: say --id {name} if it tells series apart"));
    }
    super::report::say_counts(&mut report, counts, maker.options, calendar);
    if maker.options.layout != Some(Layout::Wide) {
        let names = listed(targets.columns.iter().map(|column| sheet.name(*column)));
        let why = if targets.why.is_empty() { String::new() } else { format!(": {}", targets.why) };
        report.say("target", format!("{names}{why}"));
        super::report::say_others(
            &mut report,
            sheet,
            &maker.others.covariates,
            kinds,
            &maker.others.left_out,
        );
    } else {
        report.say(
            "series",
            format!(
                "{}, one a column: {}",
                series.len(),
                listed(targets.columns.iter().map(|column| sheet.name(*column)))
            ),
        );
    }
    super::report::say_values(
        &mut report,
        series,
        maker.targets.iter().map(|column| sheet.name(*column)).collect(),
        calendar,
    );
    report
}
