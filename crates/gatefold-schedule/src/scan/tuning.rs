//! Strategies found by timing them on a device.

use super::{Form, Pass, Strategy};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// The fastest strategy of each kind of scan that was timed, by [`key`]. As text it has a line for each: key, `=`,
/// strategy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tuning(BTreeMap<String, Strategy>);

impl Tuning {
    /// The strategy for a key.
    pub fn get(&self, key: &str) -> Option<Strategy> {
        self.0.get(key).copied()
    }

    /// Notes the strategy for a key.
    pub fn insert(&mut self, key: String, strategy: Strategy) {
        self.0.insert(key, strategy);
    }

    /// Whether nothing was timed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether some kind of scan takes a grid.
    pub fn has_grids(&self) -> bool {
        self.0.values().any(|strategy| matches!(strategy, Strategy::PersistentGrid(_)))
    }

    /// Takes over what another tuning found.
    pub fn extend(&mut self, other: Tuning) {
        self.0.extend(other.0);
    }
}

impl fmt::Display for Tuning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(key, strategy)| writeln!(f, "{key} = {strategy}"))
    }
}

impl FromStr for Tuning {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let entry = |line: &str| {
            let (key, strategy) =
                line.split_once(" = ").ok_or_else(|| format!("\"{line}\" is no key = strategy"))?;
            Ok((key.to_owned(), strategy.parse()?))
        };
        text.lines().map(entry).collect::<Result<_, String>>().map(Tuning)
    }
}

/// The kind of a scan, as far as its speed depends on it: `lstm forward H 64 B 32`, the batch rounded up to a power of
/// two. Scans of one kind share a strategy.
pub fn key(form: &Form, pass: Pass, batch: usize) -> String {
    let (cell, pass, hidden) = (form.cell().name(), pass.name(), form.hidden());
    let skip = if form.recurrent.skip.is_some() { " skip" } else { "" };
    let width = if form.is_plain() { String::new() } else { format!(" width {}", form.width()) };
    // Other kernels than those of the plain cell.
    let rows = if form.recurrent.is_dressed() { " by rows" } else { "" };
    format!("{cell} {pass} H {hidden} B {}{skip}{width}{rows}", batch.next_power_of_two())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tuning_is_read_as_it_is_written() {
        let mut tuning = Tuning::default();
        tuning.insert("lstm forward H 64 B 32".into(), Strategy::STEP);
        tuning.insert("gru backward H 8 B 1".into(), Strategy::StepPerDispatch { rows: Some(2) });
        assert_eq!(tuning.to_string().parse(), Ok(tuning));
        assert_eq!("".parse(), Ok(Tuning::default()));
        for text in ["lstm", "lstm = ", "lstm = fast"] {
            assert!(text.parse::<Tuning>().is_err(), "{text}");
        }
    }
}
