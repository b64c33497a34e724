//! Small judgements about cells.

use crate::calendar::find::{formats_of, interval_start, short_year_formats, time_of_day};

/// Cells that mean "no value": the empty cell and the markers of R, Python, SQL and spreadsheets.
const MISSING: [&str; 25] = [
    "", "na", "n/a", "#n/a", "n.a.", "n.a", "nan", "nat", "null", "none", "nil", "-", "--", ".", "..", "...",
    "?", ":", "<na>", "#na", "\\n", "#div/0!", "#value!", "#ref!", "missing",
];

/// Whether a cell has no value: one of the usual markers, or of those asked for.
pub(crate) fn is_missing(cell: &str, further: &[String]) -> bool {
    if cell.is_empty() {
        return true;
    }
    let digit = cell.as_bytes()[0].is_ascii_digit();
    !digit && cell.len() <= 8 && MISSING.iter().any(|marker| cell.eq_ignore_ascii_case(marker))
        || further.iter().any(|marker| marker == cell)
}

/// Whether a cell is a date, a time of day or both.
pub(crate) fn looks_dated(cell: &str) -> bool {
    let digits = cell.bytes().filter(u8::is_ascii_digit).count();
    let named = cell.bytes().any(|byte| byte.is_ascii_alphabetic());
    (if named { 2 } else { 3 }..=40).contains(&digits)
        && cell.len() <= 60
        && (!formats_of(cell).is_empty()
            || !short_year_formats(cell).is_empty()
            || cell.contains(':') && time_of_day(cell).is_some()
            || interval_start(cell).is_some())
}

/// A cell for a message, on one line and not too long.
pub(crate) fn shown(cell: &str) -> String {
    let line = one_line(cell);
    if line.chars().count() > 32 { line.chars().take(29).chain("...".chars()).collect() } else { line }
}

/// The text with every run of blanks and line ends made one space.
pub(crate) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Names on one line, each another: an empty one is the column's number, a second one gets it added.
pub(crate) fn unique_names(names: Vec<String>) -> Vec<String> {
    let mut seen = std::collections::HashSet::new();
    let mut out = Vec::with_capacity(names.len());
    for (index, name) in names.into_iter().enumerate() {
        let name = one_line(&name);
        let mut name = if name.is_empty() { (index + 1).to_string() } else { name };
        while !seen.insert(name.clone()) {
            name = format!("{name} ({})", index + 1);
        }
        out.push(name);
    }
    out
}

/// How many names at the end of a line are one another's successors: V2, V3, V4.
pub(crate) fn numbered_run(names: &[&str]) -> usize {
    let split = |name: &str| {
        let letters = name.trim_end_matches(|c: char| c.is_ascii_digit()).len();
        Some((name[..letters].to_owned(), name[letters..].parse::<usize>().ok()?))
    };
    let follows = |pair: &&[&str]| match (split(pair[0]), split(pair[1])) {
        (Some((a, m)), Some((b, n))) => a == b && !a.is_empty() && n == m.saturating_add(1),
        _ => false,
    };
    match names.windows(2).rev().take_while(follows).count() {
        0 => 0,
        pairs => pairs + 1,
    }
}
