//! Pairs of texts, source and target, from a table whose cells are separated by tabs.

use crate::TaskError;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashSet};

/// The fewest pairs that can be learnt from.
const LEAST_PAIRS: usize = 20;
/// The shares of the sources that are held out for test and validation, and the most of them.
const TEST: f64 = 0.1;
const MOST_TEST: usize = 1000;
const MOST_VALIDATION: usize = 300;
/// Words that name a column of sources or targets.
const COLUMN_NAMES: [&str; 10] =
    ["source", "target", "src", "tgt", "trg", "from", "to", "input", "output", "id"];

/// A text and its translation.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Pair {
    /// The text to translate.
    pub source: String,
    /// Its translation.
    pub target: String,
}

/// The columns of a table that hold the pairs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PairColumns {
    /// The name or number, from 1, of the column of sources; the first by default.
    pub from: Option<String>,
    /// The name or number, from 1, of the column of targets; the second by default.
    pub to: Option<String>,
    /// Whether the first line names the columns; by default it does if a column is given by its name, or if all of its
    /// cells look like names of columns.
    pub header: Option<bool>,
}

/// The pairs of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PairTable {
    /// The pairs, without spaces around them.
    pub pairs: Vec<Pair>,
    /// The names, or numbers, of the two columns.
    pub columns: [String; 2],
    /// Whether the first line was taken as the names of the columns.
    pub header: bool,
    /// Rows left out because one of the two cells is empty.
    pub empty: usize,
}

impl PairTable {
    /// Reads the lines of a table. Quotes are characters like any other.
    ///
    /// # Errors
    /// [`TaskError::Data`] for a table without rows, without the columns, or with a row that has no such column.
    pub fn read(text: &str, columns: &PairColumns) -> Result<PairTable, TaskError> {
        let refuse = |problem: String| Err(TaskError::Data(problem));
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let lines = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty());
        let mut rows =
            lines.map(|(number, line)| (number, line.split('\t').collect::<Vec<&str>>())).peekable();
        let Some((_, first)) = rows.peek().cloned() else {
            return refuse(
                "there are no lines; expected a pair on each, source and target with a tab between".into(),
            );
        };
        if first.len() < 2 {
            return refuse("the first line has no tab; expected source and target with a tab between".into());
        }
        let numbered =
            |column: &Option<String>, usual: usize| match column.as_deref().map(str::parse::<usize>) {
                None => Some(usual),
                Some(number) => number.ok(),
            };
        let (from, to) = (numbered(&columns.from, 1), numbered(&columns.to, 2));
        let named = from.is_none() || to.is_none();
        let header = columns.header.unwrap_or(named || first.iter().all(|cell| is_column_name(cell)));
        if named && !header {
            return refuse(
                "columns are given by their names, and --header no says that there are none".into(),
            );
        }
        let place = |number: Option<usize>, name: &Option<String>| {
            let name = name.as_deref().unwrap_or_default();
            let found = match number {
                Some(number) => number.checked_sub(1).filter(|at| *at < first.len()),
                None => first.iter().position(|cell| cell.trim() == name),
            };
            let shown = number.map_or_else(|| format!("'{name}'"), |number| number.to_string());
            let known = if header { first.join(", ") } else { format!("1 to {}", first.len()) };
            found.ok_or_else(|| {
                TaskError::Data(format!("there is no column {shown}; expected one of {known}"))
            })
        };
        let (from, to) = (place(from, &columns.from)?, place(to, &columns.to)?);
        if from == to {
            return refuse(format!("sources and targets are both in column {}; give two columns", from + 1));
        }
        let name = |at: usize| if header { first[at].trim().to_owned() } else { (at + 1).to_string() };
        let mut table = PairTable { pairs: Vec::new(), columns: [name(from), name(to)], header, empty: 0 };
        for (number, cells) in rows.skip(usize::from(header)) {
            let [Some(source), Some(target)] = [from, to].map(|at| cells.get(at).map(|cell| cell.trim()))
            else {
                let found = cells.len();
                return refuse(format!(
                    "line {number} has {found} cells; expected at least {}",
                    from.max(to) + 1
                ));
            };
            if source.is_empty() || target.is_empty() {
                table.empty += 1;
            } else {
                table.pairs.push(Pair { source: source.into(), target: target.into() });
            }
        }
        Ok(table)
    }
}

/// Whether a cell of a first line is the name of a column: a word such as source, or the code of a language.
fn is_column_name(cell: &str) -> bool {
    let cell = cell.trim();
    let code = matches!(cell.len(), 2 | 3) && cell.bytes().all(|byte| byte.is_ascii_lowercase());
    code || COLUMN_NAMES.contains(&cell.to_ascii_lowercase().as_str())
}

/// Pairs in three parts. No source of one part is in another, whatever its case and its spaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PairParts {
    /// The pairs to learn from.
    pub training: Vec<Pair>,
    /// The pairs by which the best parameters are found.
    pub validation: Vec<Pair>,
    /// The pairs of the test.
    pub test: Vec<Pair>,
    /// Pairs left out because they repeat another one.
    pub repeated: usize,
    /// Pairs left out because one of their texts has more characters than allowed.
    pub long: usize,
}

impl PairParts {
    /// Splits pairs at random, by the seed: a tenth of the sources for the test, half as many for validation.
    ///
    /// # Errors
    /// [`TaskError::Data`] if fewer than 20 sources are left.
    pub fn new(pairs: &[Pair], most_characters: usize, seed: u64) -> Result<PairParts, TaskError> {
        let mut seen = HashSet::new();
        // In the order of the sources, not of the table, so that the split does not depend on repeated lines.
        let mut sources: BTreeMap<String, Vec<&Pair>> = BTreeMap::new();
        let (mut repeated, mut long) = (0, 0);
        for pair in pairs {
            if [&pair.source, &pair.target].iter().any(|text| text.chars().count() > most_characters) {
                long += 1;
            } else if seen.insert((plain(&pair.source), plain(&pair.target))) {
                sources.entry(plain(&pair.source)).or_default().push(pair);
            } else {
                repeated += 1;
            }
        }
        if sources.len() < LEAST_PAIRS {
            return Err(TaskError::Data(format!(
                "there are {} different sources; expected at least {LEAST_PAIRS}",
                sources.len()
            )));
        }
        let test = ((sources.len() as f64 * TEST) as usize).clamp(1, MOST_TEST);
        let validation = (test / 2).clamp(1, MOST_VALIDATION);
        let [training, validation, test] = split(sources.into_values().collect(), validation, test, seed)
            .map(|pairs| pairs.into_iter().cloned().collect());
        Ok(PairParts { training, validation, test, repeated, long })
    }
}

/// Splits groups at random into three parts, for training, validation and test; no group is in two of them.
pub(crate) fn split<T>(mut groups: Vec<Vec<T>>, validation: usize, test: usize, seed: u64) -> [Vec<T>; 3] {
    groups.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    let training = groups.split_off(test + validation);
    let held = groups.split_off(test);
    [training, held, groups].map(|groups| groups.into_iter().flatten().collect())
}

/// A text in lower case, with single spaces.
pub(crate) fn plain(text: &str) -> String {
    text.to_lowercase().split_whitespace().collect::<Vec<&str>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(
        text: &str,
        from: Option<&str>,
        to: Option<&str>,
        header: Option<bool>,
    ) -> Result<PairTable, String> {
        let columns = PairColumns { from: from.map(Into::into), to: to.map(Into::into), header };
        PairTable::read(text, &columns).map_err(|error| error.to_string())
    }

    fn pair(source: &str, target: &str) -> Pair {
        Pair { source: source.into(), target: target.into() }
    }

    #[test]
    fn columns_are_chosen_by_name_or_number() {
        let text = "en\tfr\tde\nyes\toui\tja\n\n\"no\"\t\"non\" \tnein\r\nmaybe\t\tvielleicht\n";
        let table = read(text, Some("de"), Some("fr"), None).unwrap();
        assert_eq!(table.pairs, [pair("ja", "oui"), pair("nein", "\"non\"")]);
        assert_eq!((table.columns, table.header, table.empty), (["de".into(), "fr".into()], true, 1));
        let usual = read(text, None, None, None).unwrap();
        assert_eq!((usual.header, &usual.pairs[0]), (true, &pair("yes", "oui")));
        let numbered = read(text, Some("3"), Some("1"), Some(false)).unwrap();
        assert_eq!((numbered.pairs.len(), &numbered.pairs[0]), (4, &pair("de", "en")));
        assert_eq!(read("Hello\tGoodbye\na\tb", None, None, None).unwrap().pairs.len(), 2);
        assert_eq!(read("\u{feff}Source\tTarget\na\tb", None, None, None).unwrap().pairs, [pair("a", "b")]);
    }

    #[test]
    fn tables_without_such_columns_are_refused() {
        let refused = |text, from, to, header| read(text, from, to, header).unwrap_err();
        assert!(refused(" \n\n", None, None, None).starts_with("there are no lines"));
        assert!(refused("a,b\n", None, None, None).starts_with("the first line has no tab"));
        let text = "en\tfr\nyes\toui\n";
        assert_eq!(refused(text, Some("xx"), None, None), "there is no column 'xx'; expected one of en, fr");
        assert_eq!(
            refused(text, Some("3"), None, Some(false)),
            "there is no column 3; expected one of 1 to 2"
        );
        assert_eq!(refused(text, Some("0"), None, None), "there is no column 0; expected one of en, fr");
        assert_eq!(
            refused(text, Some("fr"), None, None),
            "sources and targets are both in column 2; give two columns"
        );
        assert!(refused(text, Some("en"), None, Some(false)).contains("--header no"));
        assert_eq!(refused("yes\toui\nno\n", None, None, None), "line 2 has 1 cells; expected at least 2");
    }

    #[test]
    fn no_source_of_the_test_is_trained_on() {
        let mut pairs: Vec<Pair> =
            (0..200).map(|k| pair(&format!("Source {}", k % 60), &format!("target {}", k % 90))).collect();
        pairs.extend((0..200).map(|k| pair(&format!("source  {} ", k % 60), &format!("Target {}", k % 90))));
        pairs.push(pair("short", &"long".repeat(30)));
        for seed in 1..20 {
            let parts = PairParts::new(&pairs, 100, seed).unwrap();
            let sources =
                |pairs: &[Pair]| pairs.iter().map(|pair| plain(&pair.source)).collect::<HashSet<_>>();
            let [training, validation, test] =
                [&parts.training, &parts.validation, &parts.test].map(|pairs| sources(pairs));
            assert_eq!((training.len(), validation.len(), test.len()), (51, 3, 6));
            assert!(training.is_disjoint(&test) && training.is_disjoint(&validation));
            assert!(validation.is_disjoint(&test));
            let kept = parts.training.len() + parts.validation.len() + parts.test.len();
            // Of 180 combinations of k modulo 60 and 90, all occur.
            assert_eq!((kept, parts.repeated, parts.long), (180, 220, 1));
        }
        let test = |seed| PairParts::new(&pairs, 100, seed).unwrap().test;
        assert_eq!(test(1), test(1));
        assert_ne!(test(1), test(2));
        let few = PairParts::new(&pairs[..19], 100, 1).unwrap_err().to_string();
        assert_eq!(few, "there are 19 different sources; expected at least 20");
    }
}
