//! Sequences from a long table: a row is a step, and columns of ids tell the sequences apart.

use crate::TaskError;
use gatefold_series::{SeriesError, Table};
use ndarray::Array2;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

/// The columns of a long table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LongColumns {
    /// The columns that tell sequences apart; with none, the table is one sequence.
    pub ids: Vec<String>,
    /// The column that orders the steps of a sequence; by default they are in the order of the rows.
    pub step: Option<String>,
    /// The columns of numbers to read; by default all that have no other use.
    pub channels: Vec<String>,
    /// The column of classes.
    pub label: Option<String>,
    /// The column that says which part a sequence belongs to.
    pub split: Option<String>,
}

impl LongColumns {
    /// The columns for a model's use, where parts have no meaning. A column of parts that the table has tells sequences
    /// apart as ids do: ids may be counted anew in each part.
    pub fn for_use(&self, table: &Table) -> LongColumns {
        let mut columns = LongColumns { split: None, ..self.clone() };
        columns.ids.extend(self.split.iter().filter(|name| table.names().contains(name)).cloned());
        columns
    }
}

/// The part of the data that a sequence belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// Networks learn from it.
    Training,
    /// Networks are chosen by it.
    Validation,
    /// The results are measured on it.
    Test,
}

impl FromStr for Part {
    type Err = String;

    fn from_str(text: &str) -> Result<Part, String> {
        match text.to_lowercase().as_str() {
            "train" | "training" => Ok(Part::Training),
            "validation" | "valid" | "val" | "dev" => Ok(Part::Validation),
            "test" | "testing" => Ok(Part::Test),
            _ => Err(format!("expected train, validation or test, found '{text}'")),
        }
    }
}

/// The sequences of a long table.
#[derive(Clone, Debug)]
pub struct Long {
    /// The columns, those found by default too.
    pub columns: LongColumns,
    /// Columns that are not read.
    pub ignored: Vec<String>,
    /// The sequences, in the order in which the table first names them; none is empty.
    pub sequences: Vec<LongSequence>,
}

/// One sequence.
#[derive(Clone, Debug)]
pub struct LongSequence {
    /// The cells of the id columns.
    pub id: Vec<String>,
    /// The rows of the table, in the order of the steps.
    pub rows: Vec<usize>,
    /// The channels, `[steps, channels]`, NaN where a cell is missing.
    pub values: Array2<f64>,
    /// The class at each step; `None` where the cell is missing, or without a column of classes.
    pub labels: Vec<Option<String>>,
    /// Its part, if a column says so.
    pub part: Option<Part>,
}

impl LongSequence {
    /// The id in one line, for messages.
    pub fn name(&self) -> String {
        self.id.join(" ")
    }
}

impl fmt::Display for LongSequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

impl Long {
    /// Finds the sequences of a table. Missing cells of channels stay NaN if `gaps`.
    ///
    /// # Errors
    /// [`TaskError::Series`] for columns that do not exist, have two uses or do not hold numbers; for missing ids, steps
    /// and, unless `gaps`, channels; for ids whose rows are apart though no column orders them; and for repeated steps.
    pub fn read(table: &Table, columns: &LongColumns, gaps: bool) -> Result<Long, TaskError> {
        let mut columns = columns.clone();
        check_uses(table, &columns)?;
        if table.rows() == 0 {
            return Err(table.problem("the table has no rows below its names; expected sequences").into());
        }
        let mut groups = groups(table, &columns)?;
        if let Some(step) = &columns.step {
            sort(table, step, &mut groups)?;
        } else if columns.channels.is_empty() {
            columns.step = counting(table, &columns, &groups)?;
        }
        if columns.channels.is_empty() {
            columns.channels = unused(table.numeric_names().map(str::to_owned), &columns);
            if columns.channels.is_empty() {
                return Err(table
                    .problem("no column of numbers is left to read sequences from; name some with --channel")
                    .into());
            }
        }
        let ignored = unused(table.names().iter().cloned(), &columns);
        let sequences = sequences(table, &columns, groups, gaps)?;
        Ok(Long { columns, ignored, sequences })
    }
}

/// The names that have no use yet.
fn unused(names: impl Iterator<Item = String>, columns: &LongColumns) -> Vec<String> {
    let used: Vec<&String> = uses(columns).into_iter().map(|(name, _)| name).collect();
    names.filter(|name| !used.contains(&name)).collect()
}

fn uses(columns: &LongColumns) -> Vec<(&String, &'static str)> {
    let mut uses: Vec<(&String, &'static str)> = columns.ids.iter().map(|name| (name, "an id")).collect();
    uses.extend(columns.step.iter().map(|name| (name, "the step")));
    uses.extend(columns.label.iter().map(|name| (name, "the class")));
    uses.extend(columns.split.iter().map(|name| (name, "the part")));
    uses.extend(columns.channels.iter().map(|name| (name, "a channel")));
    uses
}

fn check_uses(table: &Table, columns: &LongColumns) -> Result<(), TaskError> {
    let uses = uses(columns);
    for (at, (name, role)) in uses.iter().enumerate() {
        table.texts(name)?;
        if let Some((_, other)) = uses[..at].iter().find(|(earlier, _)| earlier == name) {
            return Err(table
                .problem(format!("column {name} is both {other} and {role}; leave one out"))
                .into());
        }
    }
    Ok(())
}

/// Rows with equal ids, and of the same part.
struct Group {
    id: Vec<String>,
    part: Option<Part>,
    rows: Vec<usize>,
}

fn groups(table: &Table, columns: &LongColumns) -> Result<Vec<Group>, TaskError> {
    let read = |name: &String| {
        let missing = |row: usize| table.cell_problem(row, name, "the cell is missing; fill it in");
        let cells = table.texts(name)?.into_iter().enumerate();
        cells
            .map(|(row, cell)| cell.map(str::to_owned).ok_or_else(|| missing(row)))
            .collect::<Result<Vec<String>, SeriesError>>()
    };
    let ids: Vec<Vec<String>> = columns.ids.iter().map(read).collect::<Result<_, _>>()?;
    let parts = match &columns.split {
        None => None,
        Some(name) => {
            let cells = read(name)?;
            let parsed = cells.iter().enumerate().map(|(row, cell)| {
                cell.parse::<Part>().map_err(|problem| table.cell_problem(row, name, problem))
            });
            Some(parsed.collect::<Result<Vec<Part>, SeriesError>>()?)
        }
    };
    let mut places: HashMap<(Vec<&str>, Option<Part>), usize> = HashMap::new();
    let mut groups: Vec<Group> = Vec::new();
    for row in 0..table.rows() {
        let id: Vec<&str> = ids.iter().map(|cells| cells[row].as_str()).collect();
        let part = parts.as_ref().map(|parts| parts[row]);
        let place = *places.entry((id.clone(), part)).or_insert_with(|| {
            groups.push(Group {
                id: id.iter().map(|cell| (*cell).to_owned()).collect(),
                part,
                rows: Vec::new(),
            });
            groups.len() - 1
        });
        let rows = &mut groups[place].rows;
        if columns.step.is_none() && rows.last().is_some_and(|last| last + 1 != row) {
            let name =
                columns.ids.first().or(columns.split.as_ref()).expect("only ids and parts make groups");
            let problem = format!(
                "the rows of {} are not together; sort the table, or name the column that orders them with --step",
                if id.is_empty() { "a part".into() } else { id.join(" ") }
            );
            return Err(table.cell_problem(row, name, problem).into());
        }
        rows.push(row);
    }
    Ok(groups)
}

/// Sorts the rows of each group by the column of steps.
fn sort(table: &Table, step: &str, groups: &mut [Group]) -> Result<(), TaskError> {
    let keys: Vec<Key> = match table.numeric_names().any(|name| name == step) {
        true => table.numbers_or_nan(step)?.into_iter().map(Key::Number).collect(),
        false => {
            let texts = table.texts(step)?.into_iter();
            texts.map(|cell| cell.map_or(Key::Number(f64::NAN), |cell| Key::Date(cell.into()))).collect()
        }
    };
    for (row, key) in keys.iter().enumerate() {
        let problem = match key {
            Key::Number(value) if value.is_nan() => "the cell is missing; fill it in",
            Key::Date(text) if !sorts_as_text(text) => {
                "expected a number or a date that begins with the year; write all steps so"
            }
            _ => continue,
        };
        return Err(table.cell_problem(row, step, problem).into());
    }
    for group in groups {
        group.rows.sort_by(|a, b| keys[*a].order(&keys[*b]));
        if let Some(pair) = group.rows.windows(2).find(|pair| keys[pair[0]] == keys[pair[1]]) {
            let problem = match group.id.is_empty() {
                true => {
                    "the same step as in a row before; name the columns that tell sequences apart with --id"
                        .into()
                }
                false => format!("the same step as in a row before of {}; remove one", group.id.join(" ")),
            };
            return Err(table.cell_problem(pair[1], step, problem).into());
        }
    }
    Ok(())
}

#[derive(PartialEq)]
enum Key {
    Number(f64),
    Date(String),
}

impl Key {
    fn order(&self, other: &Key) -> std::cmp::Ordering {
        match (self, other) {
            (Key::Number(a), Key::Number(b)) => a.total_cmp(b),
            (Key::Date(a), Key::Date(b)) => a.cmp(b),
            (Key::Number(_), Key::Date(_)) => std::cmp::Ordering::Less,
            (Key::Date(_), Key::Number(_)) => std::cmp::Ordering::Greater,
        }
    }
}

fn sorts_as_text(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() >= 7 && bytes[..4].iter().all(u8::is_ascii_digit) && b"-/.".contains(&bytes[4])
}

/// The column that does no more than count the steps of every sequence.
fn counting(table: &Table, columns: &LongColumns, groups: &[Group]) -> Result<Option<String>, TaskError> {
    if groups.iter().all(|group| group.rows.len() < 3) {
        return Ok(None);
    }
    for name in unused(table.numeric_names().map(str::to_owned), columns) {
        let Ok(values) = table.numbers_or_nan(&name) else { continue }; // refused later, if it is a channel
        let mut differences = groups
            .iter()
            .flat_map(|group| group.rows.windows(2))
            .map(|pair| values[pair[1]] - values[pair[0]]);
        let first = differences.next().unwrap_or(0.0);
        if first > 0.0 && differences.all(|difference| (difference - first).abs() <= 1e-6 * first) {
            return Ok(Some(name));
        }
        if columns.ids.is_empty()
            && let Some(starts) = starts_again(&values)
            && let Some(id) = changes_at(table, columns, &starts)?
        {
            let problem = format!(
                "the column counts, and starts again here, where {id} changes: these are several sequences; say --id {id}, \
                 or name the channels of one sequence with --channel"
            );
            return Err(table.cell_problem(starts[0], &name, problem).into());
        }
    }
    Ok(None)
}

/// The rows in which a column that counts starts again, always at the same number; `None` for any other column.
fn starts_again(values: &[f64]) -> Option<Vec<usize>> {
    let first = *values.first()?;
    let step = values.get(1)? - first;
    let same = |a: f64, b: f64| (a - b).abs() <= 1e-6 * step;
    let goes_on = |row: usize| same(values[row] - values[row - 1], step);
    let starts: Vec<usize> = (1..values.len()).filter(|row| !goes_on(*row)).collect();
    (step > 0.0 && !starts.is_empty() && starts.iter().all(|row| same(values[*row], first))).then_some(starts)
}

/// A column without a use that changes in these rows alone, and holds no dates.
fn changes_at(table: &Table, columns: &LongColumns, rows: &[usize]) -> Result<Option<String>, TaskError> {
    for name in unused(table.names().iter().cloned(), columns) {
        let cells = table.texts(&name)?;
        let changes = (1..cells.len()).filter(|row| cells[*row] != cells[row - 1]);
        if changes.eq(rows.iter().copied()) && !cells.iter().flatten().any(|cell| sorts_as_text(cell)) {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

fn sequences(
    table: &Table,
    columns: &LongColumns,
    groups: Vec<Group>,
    gaps: bool,
) -> Result<Vec<LongSequence>, TaskError> {
    let mut channels = Vec::with_capacity(columns.channels.len());
    for name in &columns.channels {
        let values = table.numbers_or_nan(name)?;
        let missing = || values.iter().filter(|value| value.is_nan()).count();
        if let Some(row) = (!gaps).then(|| values.iter().position(|value| value.is_nan())).flatten() {
            let problem = format!(
                "the cell is missing ({} in this column); fill the gaps with 'gatefold impute', or remove the sequence",
                missing()
            );
            return Err(table.cell_problem(row, name, problem).into());
        }
        channels.push(values);
    }
    let labels = columns.label.as_ref().map(|name| table.texts(name)).transpose()?;
    let sequence = |group: Group| LongSequence {
        values: Array2::from_shape_fn((group.rows.len(), channels.len()), |(t, c)| {
            channels[c][group.rows[t]]
        }),
        labels: match &labels {
            Some(cells) => group.rows.iter().map(|row| cells[*row].map(str::to_owned)).collect(),
            None => vec![None; group.rows.len()],
        },
        id: group.id,
        part: group.part,
        rows: group.rows,
    };
    Ok(groups.into_iter().map(sequence).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use gatefold_series::ReadOptions;

    fn read(text: &str, columns: &LongColumns) -> Result<Long, TaskError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.csv");
        std::fs::write(&path, text).unwrap();
        Long::read(&Table::read_rows(&path, &ReadOptions::new()).unwrap(), columns, false)
    }

    fn columns(ids: &str, step: &str, label: &str) -> LongColumns {
        let named = |name: &str| (!name.is_empty()).then(|| name.to_owned());
        LongColumns {
            ids: ids.split_whitespace().map(str::to_owned).collect(),
            step: named(step),
            label: named(label),
            ..Default::default()
        }
    }

    fn problem(text: &str, columns: &LongColumns) -> String {
        let message = read(text, columns).unwrap_err().to_string();
        assert!(!message.contains('\n'), "{message}");
        message.split_once(": ").or(message.split_once(", line")).unwrap().1.to_owned()
    }

    #[test]
    fn sequences_that_no_id_tells_apart_are_refused() {
        let rows = |id: fn(usize) -> String, second: fn(usize) -> usize| -> String {
            (0..12).map(|row| format!("{},{},{}\n", id(row), second(row), (row * row) % 7)).collect()
        };
        let several = format!("seq,t,x\n{}", rows(|row| format!("s{}", row / 4), |row| row % 4));
        assert_eq!(
            problem(&several, &columns("", "", "")),
            "the column counts, and starts again here, where seq changes: these are several sequences; say --id \
             seq, or name the channels of one sequence with --channel"
        );
        assert_eq!(read(&several, &columns("seq", "", "")).unwrap().sequences.len(), 3);
        // One sequence: the hour starts again where the date changes, or where nothing does.
        let dated =
            format!("date,hour,x\n{}", rows(|row| format!("2024-01-{:02}", 1 + row / 4), |row| row % 4));
        assert_eq!(read(&dated, &columns("", "", "")).unwrap().sequences.len(), 1);
        let hours = format!("note,hour,x\n{}", rows(|_| "n".into(), |row| row % 4));
        assert_eq!(read(&hours, &columns("", "", "")).unwrap().sequences.len(), 1);
    }

    #[test]
    fn rows_become_sequences_in_the_order_of_their_steps() {
        let text = "id,t,x,note,y,class\nb,2,20,n,2,u\na,0,1,n,3,v\nb,1,10,n,4,u\na,5,2,n,5,\n";
        let long = read(text, &columns("id", "t", "class")).unwrap();
        assert_eq!(long.columns.channels, ["x", "y"]);
        assert_eq!(long.ignored, ["note"]);
        let found: Vec<(String, Vec<usize>)> =
            long.sequences.iter().map(|one| (one.name(), one.rows.clone())).collect();
        assert_eq!(found, [("b".into(), vec![2, 0]), ("a".into(), vec![1, 3])]);
        assert_eq!(long.sequences[0].values, ndarray::array![[10.0, 4.0], [20.0, 2.0]]);
        assert_eq!(long.sequences[1].labels, [Some("v".to_owned()), None]);
    }

    #[test]
    fn a_column_that_only_counts_is_no_channel() {
        let text = "id,when,x\na,0,1\na,1,5\na,2,2\nb,0,1\nb,1,1\n";
        let long = read(text, &columns("id", "", "")).unwrap();
        assert_eq!(
            (long.columns.step.as_deref(), long.columns.channels.as_slice()),
            (Some("when"), &["x".into()][..])
        );
        let uneven = text.replace("a,2,2", "a,3,2");
        let long = read(&uneven, &columns("id", "", "")).unwrap();
        assert_eq!((long.columns.step, long.columns.channels.len()), (None, 2));
    }

    #[test]
    fn tables_with_two_readings_are_refused() {
        let apart = "id,x\na,1\nb,2\na,3\n";
        assert!(
            problem(apart, &columns("id", "", "")).contains("the rows of a are not together; sort the table")
        );
        let twice = "id,t,x\na,1,1\na,1,2\n";
        assert!(problem(twice, &columns("id", "t", "")).contains("the same step as in a row before of a"));
        let gap = "id,x,y\na,1,1\na,,2\na,,2\n";
        assert!(problem(gap, &columns("id", "", "")).contains("the cell is missing (2 in this column)"));
        assert!(
            problem("id,x\na,1\n,2\n", &columns("id", "", "")).contains("the cell is missing; fill it in")
        );
        assert!(
            problem(gap, &columns("id", "", "class"))
                .contains("there is no column class; the columns are id, x, y")
        );
        assert!(problem(gap, &columns("id", "id", "")).contains("column id is both an id and the step"));
        let text = "id,x\na,1\na,b\na,3\n";
        assert!(problem(text, &columns("id", "", "")).contains("'b' is not a number"));
        let parts = "id,p,x\na,train,1\nb,exam,2\n";
        let split = LongColumns { split: Some("p".into()), ..columns("id", "", "") };
        assert!(problem(parts, &split).contains("expected train, validation or test, found 'exam'"));
    }
}
