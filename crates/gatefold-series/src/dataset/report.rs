use super::Series;
use super::options::ReadOptions;
use super::regular::Counts;
use super::time_names::is_text_time_name;
use crate::calendar::clock::{Clock, Times};
use crate::table::sheet::Sheet;
use crate::table::{Delimiter, one_line, shown};
use crate::{Calendar, Fill};
use std::fmt;
use std::ops::Range;

/// The facts found out about a table: a few lines of at most 76 columns.
///
/// Each line begins with a word of at most nine letters, padded to ten.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableReport {
    lines: Vec<(&'static str, String)>,
    filled: usize,
    absent: usize,
}

/// The most lines, and those that go first where there are more.
const MOST_LINES: usize = 16;
const LESS_NEEDED: [&str; 4] = ["beside", "left out", "span", "merged"];
const WIDTH: usize = 76;
const INDENT: usize = 10;

impl TableReport {
    pub(crate) fn say(&mut self, label: &'static str, text: impl Into<String>) {
        self.lines.push((label, text.into()));
    }

    pub(crate) fn add_filled(&mut self, cells: usize) {
        self.filled += cells;
    }

    /// The number of values that the fill made up.
    pub fn filled(&self) -> usize {
        self.filled
    }

    /// The number of moments between rows that have no row of their own.
    pub fn moments_without_rows(&self) -> usize {
        self.absent
    }

    /// The lines, each with its label.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        let mut kept: Vec<&(&str, String)> = self.lines.iter().collect();
        for label in LESS_NEEDED {
            if kept.len() > MOST_LINES {
                kept.retain(|line| line.0 != label);
            }
        }
        kept.truncate(MOST_LINES);
        kept.into_iter().map(|(label, text)| {
            let room = WIDTH - INDENT;
            let text = one_line(text);
            let text = if text.chars().count() > room {
                text.chars().take(room - 3).chain("...".chars()).collect()
            } else {
                text
            };
            format!("{label:<INDENT$}{text}")
        })
    }

    /// The lines about what may be wrong with the values.
    pub fn warnings(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().filter(|(label, _)| *label == "warning").map(|(_, text)| text.as_str())
    }
}

impl fmt::Display for TableReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, line) in self.lines().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            f.write_str(&line)?;
        }
        Ok(())
    }
}

/// Names for a line of the report: a few of them, shortened.
pub(crate) fn listed<'a>(names: impl ExactSizeIterator<Item = &'a str>) -> String {
    let count = names.len();
    let mut out: Vec<String> = names.take(4).map(shown).collect();
    if count > 4 {
        out.truncate(3);
        out.push(format!("... ({count})"));
    }
    out.join(", ")
}

/// The lines about the file: its name and size, and whatever is not usual about it.
pub(super) fn of_sheet(sheet: &Sheet, target: Option<usize>) -> TableReport {
    let mut report = TableReport::default();
    let gzip = if sheet.gzip { ", gzip" } else { "" };
    report.say(
        "table",
        format!(
            "{}, {}, {}, {}{gzip}",
            shown(&sheet.source.name()),
            counted(sheet.rows(), "row"),
            counted(sheet.columns.len(), "column"),
            if sheet.parquet { "Parquet".to_owned() } else { sheet.encoding.to_string() }
        ),
    );
    let mut cells = vec![match sheet.dialect.delimiter {
        Delimiter::None => "one column".to_owned(),
        Delimiter::Spaces => "separated by spaces".to_owned(),
        delimiter => format!("separated by {delimiter}"),
    }];
    if let Some(column) = target
        && let Ok(format) = sheet.format(column)
    {
        let marks = &sheet.columns[column].marks;
        cells.push(format.to_string());
        let thousands = match format.thousands {
            Some('.') if marks.has_thousands(format) => Some("point"),
            Some(',') if marks.has_thousands(format) => Some("comma"),
            _ if marks.spaced => Some("space or apostrophe"),
            _ => None,
        };
        cells.extend(thousands.map(|mark| format!("thousands {mark}")));
        cells.extend(marks.unit.as_ref().map(|unit| format!("'{unit}' taken off")));
        cells.extend(marks.parentheses.then(|| "parentheses are negative".to_owned()));
    }
    if sheet.parquet {
        return report;
    }
    report.say("cells", cells.join(", "));
    if let Some(doubt) = &sheet.encoding_doubt {
        report.say("warning", doubt.as_str());
    }
    if let Some(cell) = target.and_then(|column| sheet.doubtful(column)) {
        let mark = if cell.contains(',') { ',' } else { '.' };
        report.say(
            "warning",
            format!("'{}' is read as a decimal; if not, say --thousands {mark}", shown(cell)),
        );
    }
    if let Some((one, other)) = target.and_then(|column| other_marks(sheet, column)) {
        report.say("warning", format!("{one} has decimal points, {other} decimal commas"));
    }
    let head = &sheet.head;
    let mut names = match head.names_line {
        Some(1) => Vec::new(),
        Some(line) => vec![format!("names in line {line}")],
        None => vec!["no line of names; columns are numbered".to_owned()],
    };
    names.extend(lines("skipped above", &head.above));
    names.extend(head.units_line.map(|line| format!("units in line {line}")));
    names.extend(lines("skipped below", &head.below));
    if !names.is_empty() {
        report.say("lines", names.join("; "));
    }
    report
}

/// Two columns of numbers whose cells prove different decimal marks, that with points first; one of them is the target. Times may
/// have any.
fn other_marks(sheet: &Sheet, target: usize) -> Option<(String, String)> {
    let mark = |column: usize| sheet.columns[column].marks.proven();
    let own = mark(target)?;
    let differs = |column: &usize| {
        mark(*column).is_some_and(|mark| mark != own) && !is_text_time_name(sheet.name(*column))
    };
    let names = (shown(sheet.name(target)), shown(sheet.name(sheet.numeric().find(differs)?)));
    Some(if own == '.' { names } else { (names.1, names.0) })
}

/// A number with its noun, such as `1 row` or `3 rows`.
fn counted(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

fn lines(what: &str, lines: &[usize]) -> Option<String> {
    match *lines {
        [] => None,
        [line] => Some(format!("{what}: line {line}")),
        [first, .., last] => Some(format!("{what}: lines {first} to {last}")),
    }
}

pub(super) fn say_time(
    report: &mut TableReport,
    times: Option<&Times>,
    calendar: &Calendar,
    series: &[Series],
) {
    let Some(times) = times else {
        report.say("time", "none; rows are taken as evenly spaced, oldest first");
        return;
    };
    let first = series.iter().map(|series| series.start).min().unwrap_or(0);
    let last = series.iter().map(|series| series.start + series.len() as i64 - 1).max().unwrap_or(0);
    let format = times.format.as_ref().map_or_else(String::new, |format| format!(" ({format})"));
    let step = match times.clock {
        Clock::Number(decimals) => {
            let step = calendar.grid().value(1) - calendar.grid().value(0);
            format!("numbers in steps of {}", Clock::Number(decimals).text(step, None))
        }
        _ => calendar.frequency().to_string(),
    };
    report.say("time", format!("{}{format}, {step}", shown(&times.name)));
    if let Some(remark) = &times.mixed {
        report.say("warning", remark.as_str());
    }
    report.say("span", format!("{} to {}", calendar.label(first), calendar.label(last)));
    if calendar.slack_micros() > 0 {
        let seconds = calendar.slack_micros() as f64 / 1e6;
        report.say("warning", format!("times are up to {seconds} s off their place on the calendar"));
    }
    if let Clock::Offsets(changes) | Clock::LocalOffsets(changes) = &times.clock
        && changes.len() > 1
    {
        report.say("warning", "offsets change; say --zone, or all later ones are as the last");
    }
}

pub(super) fn say_counts(
    report: &mut TableReport,
    counts: &Counts,
    options: &ReadOptions,
    calendar: &Calendar,
) {
    let how = match options.fill {
        Fill::Previous => "the value before",
        Fill::Linear => "a straight line",
        _ => "zero",
    };
    report.absent += counts.absent;
    if let Some(first) = counts.first_gap {
        report.say(
            "gaps",
            format!(
                "{} without a row, first after {}",
                counted(counts.absent, "moment"),
                calendar.label(first)
            ),
        );
    }
    if counts.missing > 0 {
        report.say("filled", format!("{} with {how}", counted(counts.missing, "missing value")));
        report.add_filled(counts.missing);
    }
    if counts.merged > 0 {
        report.say("merged", format!("{} with others of the same moment", counted(counts.merged, "row")));
    }
    if counts.within > 0 {
        let moments = counted(counts.within, "moment");
        report.say("warning", format!("{moments} within periods have no value: made of the others"));
    }
    for position in &counts.partial {
        report.say("warning", format!("{} has fewer rows than the other periods", calendar.label(*position)));
    }
    if counts.leading > 0 {
        report.say("left out", format!("{} before the first value", counted(counts.leading, "row")));
    }
    if counts.future > 0 {
        report.say(
            "future",
            format!("{} at the end without a value: to be forecast", counted(counts.future, "row")),
        );
    }
}

/// The lines about other columns: `kinds` has the places of past and of future ones among the covariates.
pub(super) fn say_others(
    report: &mut TableReport,
    sheet: &Sheet,
    covariates: &[usize],
    (past, future): &(Range<usize>, Vec<usize>),
    left_out: &[String],
) {
    let names = |places: &mut dyn Iterator<Item = usize>| {
        listed(places.map(|place| sheet.name(covariates[place])).collect::<Vec<_>>().into_iter())
    };
    if !past.is_empty() {
        report.say("past", format!("{}: known up to the newest sample", names(&mut past.clone())));
    }
    if !future.is_empty() {
        report.say("ahead", format!("{}: known ahead", names(&mut future.iter().copied())));
    }
    let mut others = (0..covariates.len()).filter(|place| !past.contains(place) && !future.contains(place));
    if others.clone().next().is_some() {
        report.say("beside", format!("{}: not used; see --past, --future", names(&mut others)));
    }
    if !left_out.is_empty() {
        report.say("left out", format!("{}: not numbers", listed(left_out.iter().map(String::as_str))));
    }
}

/// Marks for missing values that some programs write as numbers.
const SENTINELS: [f64; 24] = [
    -1.0,
    -9.0,
    -99.0,
    -999.0,
    -9999.0,
    -99_999.0,
    -999_999.0,
    -99.9,
    -99.99,
    -999.9,
    -999.99,
    -9999.9,
    99.99,
    999.0,
    999.9,
    999.99,
    9999.0,
    9999.9,
    99_999.0,
    999_999.0,
    -32_768.0,
    -2_147_483_648.0,
    1e20,
    9.969_209_968_386_869e36,
];
/// A shorter series says little about how well it can be forecast.
const FEW: usize = 30;

/// The lines about values that may not be what they seem.
pub(super) fn say_values(report: &mut TableReport, series: &[Series], names: Vec<&str>, calendar: &Calendar) {
    let shortest = series.iter().map(Series::len).min().unwrap_or(0);
    if shortest < FEW {
        let of = if series.len() == 1 { "only" } else { "a series of only" };
        report.say("warning", format!("{of} {}: measured errors say little", counted(shortest, "sample")));
    }
    for (target, name) in names.iter().enumerate().take(3) {
        let name = if names.len() > 1 { format!("{}: ", shown(name)) } else { String::new() };
        let many = series.len() > 1;
        for one in series {
            let of =
                one.id().filter(|_| many).map_or_else(String::new, |id| format!("series {}: ", shown(id)));
            let values = one.targets.get(target).map_or(&[][..], Vec::as_slice);
            let found = oddities(values, &|at| calendar.label(one.start + at as i64));
            for text in &found {
                report.say("warning", format!("{of}{name}{text}"));
            }
            if !found.is_empty() {
                break; // one series is enough of an example
            }
        }
    }
}

/// Whether a mark for missing values stands apart in a series: far from the middle half, or twice or more and either the
/// only negative number or further from all others than they are from one another.
fn stands_apart(mark: f64, sorted: &[f64], far: &dyn Fn(f64) -> bool) -> bool {
    let count = sorted.iter().filter(|value| **value == mark).count();
    if count == 0 || count == sorted.len() {
        return false;
    }
    if far(mark) {
        return true;
    }
    let below = sorted[0] == mark;
    if count < 2 || !below && sorted[sorted.len() - 1] != mark {
        return false;
    }
    let rest = if below { &sorted[count..] } else { &sorted[..sorted.len() - count] };
    let (low, high) = (rest[0], rest[rest.len() - 1]);
    let gap = if below { low - mark } else { mark - high };
    below && mark <= -9.0 && low >= 0.0 || gap > high - low
}

/// Odd things about a series: marks for missing values, values far from all others, and one that stays.
fn oddities(values: &[f64], label: &dyn Fn(usize) -> String) -> Vec<String> {
    let mut out = Vec::new();
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let at = |share: usize| sorted[(sorted.len() - 1) * share / 100];
    if sorted.len() < 8 {
        return out;
    }
    let (low, high) = (at(25), at(75));
    let far = |value: f64| value < low - 10.0 * (high - low) || value > high + 10.0 * (high - low);
    let mut marks = Vec::new();
    for mark in SENTINELS {
        if marks.len() < 3 && stands_apart(mark, &sorted, &far) {
            marks.push(mark);
            sorted.retain(|value| *value != mark);
        }
    }
    for mark in &marks {
        let count = values.iter().filter(|value| *value == mark).count();
        let text = if mark.abs() < 1e7 { mark.to_string() } else { format!("{mark:e}") };
        out.push(format!("{text} comes {}: say --na {text} if it means no value", counted(count, "time")));
    }
    let odd = |value: &f64| far(*value) && !marks.contains(value);
    if high > low
        && let Some(place) = values.iter().position(odd)
    {
        let count = values.iter().filter(|value| odd(value)).count();
        let (text, place) = (shown_number(values[place]), label(place));
        out.push(match count {
            1 => format!("1 value far from the rest: {text} at {place}"),
            _ => format!("{count} values far from the rest, first {text} at {place}"),
        });
    }
    let (mut start, mut best) = (0, (0, 0));
    for (place, value) in values.iter().enumerate() {
        if *value != values[start] {
            start = place;
        }
        best = best.max((place + 1 - start, start));
    }
    let (len, start) = best;
    let long = len >= 24 && len * 20 >= values.len() && values[start] != 0.0;
    if (long || len == values.len()) && !marks.contains(&values[start]) {
        out.push(format!("{} stays for {len} samples from {}", values[start], label(start)));
    }
    out
}

/// A number for a message; one of many digits with an exponent.
fn shown_number(value: f64) -> String {
    if value.abs() < 1e15 { value.to_string() } else { format!("{value:e}") }
}
