//! Ways to spread the steps of a scan over dispatches.

use super::grid::{self, GridTile};
use super::tuning::key;
use super::workgroup::{self, Tile};
use super::{Form, step};
use crate::Target;
use std::fmt;
use std::str::FromStr;

/// A way to run the recurrence on a device, in one direction of time. A new one is a variant, a file beside `step.rs`,
/// and an arm in [`forward`](super::forward) and [`backward`](super::backward). Both write the same buffers, so a scan
/// may go forward in one way and backward in another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Strategy {
    /// One dispatch for each step and stage of the cell: any size, any device.
    StepPerDispatch {
        /// Rows of the batch in an invocation; `None` for as many as suit the device and the shape.
        rows: Option<u32>,
    },
    /// All steps in one dispatch, a workgroup for each tile of rows: cells of one stage whose hidden state fits a
    /// workgroup.
    SequencePerWorkgroup(Tile),
    /// Many steps in a dispatch, several workgroups for each tile of rows, which wait for each other: the same cells, where a
    /// probe has shown that so many workgroups run at the same time.
    PersistentGrid(GridTile),
}

/// The pass that a strategy is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pass {
    /// From the inputs to h.
    Forward,
    /// From the gradients with respect to h to those with respect to the pre-activations.
    Backward,
}

impl Pass {
    /// Both passes.
    pub const ALL: [Pass; 2] = [Pass::Forward, Pass::Backward];

    /// The name that tables use.
    pub fn name(self) -> &'static str {
        match self {
            Pass::Forward => "forward",
            Pass::Backward => "backward",
        }
    }
}

/// The strategies that a caller allows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ScanChoice {
    /// The one that suits the device and the shape.
    #[default]
    Auto,
    /// [`Strategy::StepPerDispatch`] everywhere.
    Step,
    /// [`Strategy::SequencePerWorkgroup`] for every scan that it can run, else one dispatch a step.
    Workgroup,
    /// [`Strategy::PersistentGrid`] for every scan that it can run, else as without tuning.
    Grid,
}

impl ScanChoice {
    /// Every choice.
    pub const ALL: [ScanChoice; 4] =
        [ScanChoice::Auto, ScanChoice::Step, ScanChoice::Workgroup, ScanChoice::Grid];

    /// The name that options and tables use.
    pub fn name(self) -> &'static str {
        match self {
            ScanChoice::Auto => "auto",
            ScanChoice::Step => "step",
            ScanChoice::Workgroup => "workgroup",
            ScanChoice::Grid => "grid",
        }
    }
}

impl fmt::Display for ScanChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for ScanChoice {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        ScanChoice::ALL.into_iter().find(|choice| choice.name() == name).ok_or_else(|| {
            let names = ScanChoice::ALL.map(ScanChoice::name).join(", ");
            format!("no scan is called {name}; expected one of {names}")
        })
    }
}

/// Hidden units up to which a workgroup keeps or streams its weights fast enough on a GPU, with any batch.
const SMALL_HIDDEN: usize = 128;
/// The same for batches of a few workgroups, which leave the caches to each other.
const MEDIUM_HIDDEN: usize = 256;
/// Rows in such a batch.
const FEW_ROWS: usize = 64;

impl Strategy {
    /// The strategy of a dispatch a step with the usual tiles.
    pub const STEP: Strategy = Strategy::StepPerDispatch { rows: None };

    /// The strategy for a pass over `batch` rows of a scan on a device: the one that tuning found fastest there, else a
    /// rule of thumb. On a GPU a dispatch costs more than a step of a small network, on a software driver it costs less
    /// than a barrier.
    pub fn choose(target: &Target, form: &Form, pass: Pass, batch: usize) -> Strategy {
        let in_a_workgroup = || workgroup::usual_tile(target, form, pass, batch);
        let small = form.hidden() <= SMALL_HIDDEN || (form.hidden() <= MEDIUM_HIDDEN && batch <= FEW_ROWS);
        let by_rule = || in_a_workgroup().filter(|_| small && !target.software);
        let tile = match target.scan {
            ScanChoice::Step => None,
            ScanChoice::Workgroup => in_a_workgroup(),
            ScanChoice::Grid => {
                if let Some(tile) = grid::usual_tile(target, form, pass, batch) {
                    return Strategy::PersistentGrid(tile);
                }
                by_rule()
            }
            ScanChoice::Auto => {
                let tuned = target.tuning.get(&key(form, pass, batch));
                if let Some(tuned) = tuned.filter(|strategy| strategy.fits(target, form, pass, batch)) {
                    return tuned;
                }
                by_rule()
            }
        };
        tile.map_or(Strategy::STEP, Strategy::SequencePerWorkgroup)
    }

    /// The few strategies worth timing for a pass, the plain one first.
    pub fn candidates(target: &Target, form: &Form, pass: Pass, batch: usize) -> Vec<Strategy> {
        let rows = step::candidate_rows(batch).filter(|_| !form.recurrent.is_dressed());
        let steps = rows.map(|rows| Strategy::StepPerDispatch { rows: Some(rows) });
        let tiles = workgroup::candidate_tiles(target, form, pass, batch);
        let tiles = tiles.into_iter().map(Strategy::SequencePerWorkgroup);
        let grids = grid::candidate_tiles(target, form, pass, batch);
        let grids = grids.into_iter().map(Strategy::PersistentGrid);
        let mut found = vec![Strategy::STEP];
        found.extend(
            steps.chain(tiles).chain(grids).filter(|strategy| strategy.fits(target, form, pass, batch)),
        );
        found
    }

    /// Whether a scan can be run so on a device.
    fn fits(&self, target: &Target, form: &Form, pass: Pass, batch: usize) -> bool {
        match self {
            Strategy::StepPerDispatch { rows } => rows.is_none_or(step::is_tile),
            Strategy::SequencePerWorkgroup(tile) => workgroup::can_run(target, form, pass, batch, tile),
            Strategy::PersistentGrid(tile) => grid::can_run(target, form, pass, batch, tile),
        }
    }
}

/// `step`, `step 4 rows`, `workgroup 1 rows 4 parts 256 invocations 16 kept`,
/// `grid 16 rows 128 sharers 8 parts 4 splits 256 invocations 24 kept`
impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Strategy::StepPerDispatch { rows: None } => f.pad("step"),
            Strategy::StepPerDispatch { rows: Some(rows) } => f.pad(&format!("step {rows} rows")),
            Strategy::SequencePerWorkgroup(Tile { rows, parts, invocations, kept }) => {
                f.pad(&format!("workgroup {rows} rows {parts} parts {invocations} invocations {kept} kept"))
            }
            Strategy::PersistentGrid(GridTile { rows, sharers, parts, splits, invocations, kept }) => {
                let work = format!("{rows} rows {sharers} sharers {parts} parts {splits} splits");
                f.pad(&format!("grid {work} {invocations} invocations {kept} kept"))
            }
        }
    }
}

impl FromStr for Strategy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let refused = || format!("\"{text}\" is no strategy of a scan");
        let number =
            |word: &str| word.parse::<u32>().ok().filter(|&number| number <= 1 << 16).ok_or_else(refused);
        match words[..] {
            ["step"] => Ok(Strategy::STEP),
            ["step", rows, "rows"] => Ok(Strategy::StepPerDispatch { rows: Some(number(rows)?) }),
            ["workgroup", rows, "rows", parts, "parts", invocations, "invocations", kept, "kept"] => {
                let (rows, parts) = (number(rows)?, number(parts)?);
                let (invocations, kept) = (number(invocations)?, number(kept)?);
                Ok(Strategy::SequencePerWorkgroup(Tile { rows, parts, invocations, kept }))
            }
            [
                "grid",
                rows,
                "rows",
                sharers,
                "sharers",
                parts,
                "parts",
                splits,
                "splits",
                invocations,
                "invocations",
                kept,
                "kept",
            ] => {
                let (rows, sharers, parts) = (number(rows)?, number(sharers)?, number(parts)?);
                let (splits, invocations, kept) = (number(splits)?, number(invocations)?, number(kept)?);
                Ok(Strategy::PersistentGrid(GridTile { rows, sharers, parts, splits, invocations, kept }))
            }
            _ => Err(refused()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strategy_is_read_as_it_is_written() {
        let tile = Tile { rows: 2, parts: 4, invocations: 256, kept: 16 };
        let grid = GridTile { rows: 16, sharers: 128, parts: 8, splits: 4, invocations: 256, kept: 24 };
        for strategy in [
            Strategy::STEP,
            Strategy::StepPerDispatch { rows: Some(4) },
            Strategy::SequencePerWorkgroup(tile),
            Strategy::PersistentGrid(grid),
        ] {
            assert_eq!(strategy.to_string().parse(), Ok(strategy));
        }
        for text in
            ["", "steps", "step 4", "step -1 rows", "workgroup 1 rows 4 parts 99999999 invocations 0 kept"]
        {
            assert!(text.parse::<Strategy>().is_err(), "{text}");
        }
    }
}
