//! Texts with a number each, from a table.

use crate::TaskError;
use crate::pairs::{plain, split};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashSet};

/// The fewest texts that can be learnt from.
const LEAST_TEXTS: usize = 30;
/// The shares of the texts that are held out for test and validation.
const TEST: f64 = 0.2;
const VALIDATION: f64 = 0.1;

/// A text with its number.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rated {
    /// The text.
    pub text: String,
    /// The number, from -1 to 1.
    pub number: f64,
}

/// The columns of a table of texts and numbers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RatedColumns {
    /// The name or number, from 1, of the column of texts; by default the only one that holds no numbers.
    pub text: Option<String>,
    /// The name or number, from 1, of the column of numbers; by default the only one of numbers alone.
    pub target: Option<String>,
    /// Whether the first line names the columns; by default it does if its cell in the column of numbers is none.
    pub header: Option<bool>,
    /// The numbers that stand for -1 and 1; by default these themselves.
    pub range: Option<(f64, f64)>,
}

/// The texts of a table.
#[derive(Clone, Debug, PartialEq)]
pub struct RatedTable {
    /// The texts and their numbers.
    pub rows: Vec<Rated>,
    /// The names, or numbers, of the two columns.
    pub columns: [String; 2],
    /// The delimiter, in words.
    pub delimiter: &'static str,
    /// Rows left out because one of the two cells is empty.
    pub empty: usize,
}

impl RatedTable {
    /// Reads a table: with tabs and without quotes if the first line has a tab, else as CSV (RFC 4180) with commas, or with
    /// semicolons if the first line has more of them.
    ///
    /// # Errors
    /// [`TaskError::Data`] for a table that is not regular, does not have the columns, or has a cell in the column of
    /// numbers that is no number, or is out of range.
    pub fn read(text: &str, columns: &RatedColumns) -> Result<RatedTable, TaskError> {
        let (cells, delimiter) = cells_of(text)?;
        if cells.len() < 2 {
            return Err(TaskError::Data(
                "there are fewer than two rows; expected a text and a number in each".into(),
            ));
        }
        let (text_at, target_at, header) = places(&cells, columns)?;
        let shown = |at: usize| if header { cells[0].1[at].clone() } else { (at + 1).to_string() };
        let mut table =
            RatedTable { rows: Vec::new(), columns: [shown(text_at), shown(target_at)], delimiter, empty: 0 };
        for (line, cells) in &cells[usize::from(header)..] {
            let (text, cell) = (&cells[text_at], &cells[target_at]);
            if text.is_empty() || cell.is_empty() {
                table.empty += 1;
            } else {
                let number = number(cell, columns.range).map_err(|problem| {
                    TaskError::Data(format!("line {line}, column {}: {problem}", table.columns[1]))
                })?;
                table.rows.push(Rated { text: text.clone(), number });
            }
        }
        Ok(table)
    }

    /// The cells of one column of a table like those of [`RatedTable::read`], which needs no numbers: a column by its name,
    /// which is in the first line then, or by its number, from 1, of a table without names.
    ///
    /// # Errors
    /// [`TaskError::Data`] for a table that is not regular, or does not have the column.
    pub fn texts(text: &str, column: &str) -> Result<Vec<String>, TaskError> {
        let (mut cells, _) = cells_of(text)?;
        let Some((_, first)) = cells.first() else {
            return Err(TaskError::Data("there are no rows; expected a text in each".into()));
        };
        let named = first.iter().position(|cell| cell == column);
        let at = named.map_or_else(|| numbered(column, first), Ok)?;
        if named.is_some() {
            cells.remove(0);
        }
        Ok(cells.into_iter().map(|(_, mut cells)| cells.swap_remove(at)).collect())
    }
}

/// The cells of a row, with its line.
type Row = (u64, Vec<String>);

/// The rows of a table, and the delimiter in words.
fn cells_of(text: &str) -> Result<(Vec<Row>, &'static str), TaskError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let first = text.lines().next().unwrap_or_default();
    let count = |delimiter| first.matches(delimiter).count();
    let (delimiter, name) = match () {
        () if count('\t') > 0 => (b'\t', "tab"),
        () if count(';') > count(',') => (b';', "semicolon"),
        () => (b',', "comma"),
    };
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .delimiter(delimiter)
        .quoting(delimiter != b'\t')
        .from_reader(text.as_bytes());
    let mut cells = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|error| TaskError::Data(one_line(&error)))?;
        let line = record.position().map_or(0, csv::Position::line);
        cells.push((line, record.iter().map(|cell| cell.trim().to_owned()).collect()));
    }
    Ok((cells, name))
}

/// The place of the column with this number, from 1.
fn numbered(name: &str, first: &[String]) -> Result<usize, TaskError> {
    let number = name.parse::<usize>().ok().and_then(|number| number.checked_sub(1));
    number.filter(|at| *at < first.len()).ok_or_else(|| {
        TaskError::Data(format!("there is no column '{name}'; expected one of {}", first.join(", ")))
    })
}

/// The number of a cell, from -1 to 1.
fn number(cell: &str, range: Option<(f64, f64)>) -> Result<f64, String> {
    let Some(number) = cell.parse::<f64>().ok().filter(|number| number.is_finite()) else {
        return Err(format!(
            "'{cell}' is not a number; write -1 and 1, or others with --range, for two classes"
        ));
    };
    let (low, high) = range.unwrap_or((-1.0, 1.0));
    if number < low.min(high) || number > low.max(high) {
        let hint =
            if range.is_none() { "; name the range of your numbers with --range LOW,HIGH" } else { "" };
        return Err(format!("{cell} is not between {low} and {high}{hint}"));
    }
    Ok(2.0 * (number - low) / (high - low) - 1.0)
}

/// The columns of texts and of numbers, and whether the first row names them.
fn places(rows: &[Row], columns: &RatedColumns) -> Result<(usize, usize, bool), TaskError> {
    let first = &rows[0].1;
    let is_number = |cell: &str| cell.parse::<f64>().is_ok();
    let numeric: Vec<bool> = (0..first.len())
        .map(|at| {
            let mut cells =
                rows[1..].iter().map(|(_, cells)| cells[at].as_str()).filter(|cell| !cell.is_empty());
            cells.clone().next().is_some() && cells.all(is_number)
        })
        .collect();
    let find = |name: &Option<String>, option: &str, wanted: bool| match name {
        Some(name) => first.iter().position(|cell| cell == name).map_or_else(|| numbered(name, first), Ok),
        None => {
            let mut found = (0..first.len()).filter(|at| numeric[*at] == wanted);
            match (found.next(), found.next()) {
                (Some(at), None) => Ok(at),
                (at, _) => {
                    let many = if at.is_some() { "more than one" } else { "no" };
                    let kind = if wanted { "numbers" } else { "text" };
                    Err(TaskError::Data(format!("there is {many} column of {kind}; name it with --{option}")))
                }
            }
        }
    };
    let target = find(&columns.target, "target", true)?;
    let text = find(&columns.text, "text", false)?;
    if text == target {
        return Err(TaskError::Data(format!(
            "texts and numbers are both in column {}; give two columns",
            text + 1
        )));
    }
    Ok((text, target, columns.header.unwrap_or(!is_number(&first[target]))))
}

fn one_line(error: &csv::Error) -> String {
    match error.kind() {
        csv::ErrorKind::UnequalLengths { pos, expected_len, len } => format!(
            "line {} has {len} cells; expected {expected_len}, as in the first row",
            pos.as_ref().map_or(0, csv::Position::line)
        ),
        _ => error.to_string(),
    }
}

/// Rated texts in three parts. No text of one part is in another, whatever its case and its spaces.
#[derive(Clone, Debug, PartialEq)]
pub struct RatedParts {
    /// The texts to learn from.
    pub training: Vec<Rated>,
    /// The texts by which the best parameters are found.
    pub validation: Vec<Rated>,
    /// The texts of the test.
    pub test: Vec<Rated>,
    /// Rows left out because they repeat another one, text and number.
    pub repeated: usize,
}

impl RatedParts {
    /// Splits texts at random, by the seed: a fifth for the test, a tenth for validation.
    ///
    /// # Errors
    /// [`TaskError::Data`] if fewer than 30 different texts are left.
    pub fn new(rows: &[Rated], seed: u64) -> Result<RatedParts, TaskError> {
        let mut seen = HashSet::new();
        let mut texts: BTreeMap<String, Vec<&Rated>> = BTreeMap::new();
        let mut repeated = 0;
        for row in rows {
            if seen.insert((plain(&row.text), row.number.to_bits())) {
                texts.entry(plain(&row.text)).or_default().push(row);
            } else {
                repeated += 1;
            }
        }
        if texts.len() < LEAST_TEXTS {
            return Err(TaskError::Data(format!(
                "there are {} different texts; expected at least {LEAST_TEXTS}",
                texts.len()
            )));
        }
        let part = |share: f64| (texts.len() as f64 * share) as usize;
        let (test, validation) = (part(TEST), part(VALIDATION));
        let [training, validation, test] = split(texts.into_values().collect(), validation, test, seed)
            .map(|rows| rows.into_iter().cloned().collect());
        Ok(RatedParts { training, validation, test, repeated })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, columns: &RatedColumns) -> Result<RatedTable, String> {
        RatedTable::read(text, columns).map_err(|error| error.to_string())
    }

    fn usual(text: &str) -> Result<RatedTable, String> {
        read(text, &RatedColumns::default())
    }

    #[test]
    fn text_and_number_are_found_in_csv_and_tsv() {
        let csv = usual("text,score\n\"Good, really \"\"good\"\"\",1\r\nbad,-0.5\n,1\n").unwrap();
        assert_eq!(csv.rows[0], Rated { text: "Good, really \"good\"".into(), number: 1.0 });
        assert_eq!((csv.rows.len(), csv.empty, csv.delimiter), (2, 1, "comma"));
        let tsv = usual("0.5\tHe said \"no\n-1\tbad; worse, worst\n").unwrap();
        assert_eq!(tsv.rows[0], Rated { text: "He said \"no".into(), number: 0.5 });
        assert_eq!((tsv.columns, tsv.rows.len()), (["2".into(), "1".into()], 2));
        let stars = "id;review;stars\n1;fine, I think;3\n2;awful;1\n3;great;5\n";
        let columns =
            RatedColumns { target: Some("stars".into()), range: Some((1.0, 5.0)), ..Default::default() };
        let numbers: Vec<f64> = read(stars, &columns).unwrap().rows.iter().map(|row| row.number).collect();
        assert_eq!(numbers, [0.0, -1.0, 1.0]);
        let reversed = RatedColumns { range: Some((5.0, 1.0)), ..columns };
        assert_eq!(read(stars, &reversed).unwrap().rows[1].number, 1.0);
    }

    #[test]
    fn one_column_of_texts_is_read_by_its_name_or_number() {
        let table = "id,text\n1,\"Good, really\"\n2,\n";
        assert_eq!(RatedTable::texts(table, "text").unwrap(), ["Good, really", ""]);
        assert_eq!(RatedTable::texts("1\tgood\n2\tbad", "2").unwrap(), ["good", "bad"]);
        let refused = RatedTable::texts(table, "review").unwrap_err().to_string();
        assert_eq!(refused, "there is no column 'review'; expected one of id, text");
    }

    #[test]
    fn tables_without_texts_and_numbers_are_refused_with_one_line() {
        let refused = |text: &str| usual(text).unwrap_err();
        assert_eq!(refused("a,b\n"), "there are fewer than two rows; expected a text and a number in each");
        assert_eq!(
            refused("text,score\na,good\nb,1\n"),
            "there is no column of numbers; name it with --target"
        );
        assert_eq!(
            refused("id,score\n1,2\n3,4\n"),
            "there is more than one column of numbers; name it with --target"
        );
        assert_eq!(refused("text,score\na,1\nb\n"), "line 3 has 1 cells; expected 2, as in the first row");
        assert_eq!(
            refused("text,score\na,0\nb,3\n"),
            "line 3, column score: 3 is not between -1 and 1; name the range of your numbers with --range LOW,HIGH"
        );
        let named = |text: &str, target: &str| {
            let columns = RatedColumns { target: Some(target.into()), ..Default::default() };
            read(text, &columns).unwrap_err()
        };
        assert_eq!(
            named("text,score\na,0\nb,nan\n", "score"),
            "line 3, column score: 'nan' is not a number; write -1 and 1, or others with --range, for two classes"
        );
        assert_eq!(
            named("text,score\na,0\nb,1\n", "stars"),
            "there is no column 'stars'; expected one of text, score"
        );
        assert_eq!(
            named("text,score\na,0\nb,1\n", "text"),
            "texts and numbers are both in column 1; give two columns"
        );
    }

    #[test]
    fn no_text_of_the_test_is_trained_on() {
        let row = |k: usize, text: &str| Rated { text: format!("{text} {}", k % 50), number: (k % 2) as f64 };
        let mut rows: Vec<Rated> = (0..75).map(|k| row(k, "Text")).collect();
        rows.extend((0..75).map(|k| row(k, " text ")));
        rows.extend((0..50).map(|k| Rated { number: -0.5, ..row(k, "TEXT") }));
        for seed in 1..20 {
            let parts = RatedParts::new(&rows, seed).unwrap();
            let texts = |rows: &[Rated]| rows.iter().map(|row| plain(&row.text)).collect::<HashSet<_>>();
            let [training, validation, test] =
                [&parts.training, &parts.validation, &parts.test].map(|rows| texts(rows));
            assert_eq!((training.len(), validation.len(), test.len()), (35, 5, 10));
            assert!(training.is_disjoint(&test) && training.is_disjoint(&validation));
            assert!(validation.is_disjoint(&test));
            let kept = parts.training.len() + parts.validation.len() + parts.test.len();
            assert_eq!((kept, parts.repeated), (100, 100));
        }
        let few = RatedParts::new(&rows[..29], 1).unwrap_err().to_string();
        assert_eq!(few, "there are 29 different texts; expected at least 30");
    }
}
