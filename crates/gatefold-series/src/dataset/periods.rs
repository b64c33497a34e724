//! Several rows made one: the moments within a period that have no value, and those that end it.

use super::options::{Aggregate, ReadOptions};
use super::regular::{Counts, Placed, Problem, Values};
use crate::Fill;
use crate::calendar::clock::{MISSING, Times};
use crate::calendar::grid::Grid;
use std::collections::HashSet;

/// The times as periods are made of them. Hours 1 to 24 are named by their ends, so midnight belongs to the day that ends.
pub(super) fn within(mut times: Times, options: &ReadOptions) -> Times {
    let ends = times.format.as_ref().is_some_and(|format| format.ends_day());
    let (Some(frequency), true, true) = (options.freq, options.aggregate.is_some(), ends) else {
        return times;
    };
    let mut sorted: Vec<i64> = times.values.clone();
    sorted.sort_unstable();
    let step = sorted.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).filter(|step| *step > 0).min();
    if frequency.micros().zip(step).is_none_or(|(period, step)| period > step) {
        times.values.iter_mut().filter(|value| **value != MISSING).for_each(|value| *value -= 1);
    }
    times
}

/// Checks that no moment within the periods of a series lacks its row or a value, if no fill was asked for. With a fill, a sum of
/// less than all is no value, unless what is missing counts as zero; other aggregates are made of the values there are.
///
/// # Errors
/// [`Problem::Absent`] and [`Problem::Missing`], counted over the series.
pub(super) fn check(
    rows: &[Placed],
    times: &Times,
    values: &mut Values,
    options: &ReadOptions,
    counts: &mut Counts,
) -> Result<(), Problem> {
    let known = |placed: &Placed| values.targets.iter().any(|column| !column[placed.row].is_nan());
    let (Some(first), Some(last)) = (rows.iter().position(known), rows.iter().rposition(known)) else {
        return Ok(());
    };
    let rows = &rows[first..=last];
    let gaps = if options.freq.is_some() { gaps(rows, times) } else { Gaps::default() };
    let mut missing: Vec<(usize, Vec<&Placed>)> = Vec::new();
    for (column, target) in values.targets.iter().enumerate() {
        missing.push((column, rows.iter().filter(|placed| target[placed.row].is_nan()).collect()));
    }
    if options.fill == Fill::Refuse {
        if let Some(after) = gaps.after.first() {
            return Err(Problem::Absent { absent: gaps.absent, of: gaps.of, after: after.row });
        }
        if let Some((column, placed)) = missing.iter().find_map(|(column, all)| Some((*column, all.first()?)))
        {
            let all = missing[column].1.len();
            return Err(Problem::Missing { column, row: placed.row, all, why: "" });
        }
        return Ok(());
    }
    if options.aggregate != Some(Aggregate::Sum) || options.fill == Fill::Zero {
        let merged: HashSet<i64> = rows
            .windows(2)
            .filter(|pair| pair[0].position == pair[1].position)
            .map(|pair| pair[0].position)
            .collect();
        let all = missing.iter().flat_map(|(_, all)| all);
        counts.within += gaps.absent + all.filter(|placed| merged.contains(&placed.position)).count();
        return Ok(());
    }
    for (column, all) in missing {
        let lacking: HashSet<i64> =
            all.iter().map(|placed| placed.position).chain(gaps.positions.iter().copied()).collect();
        let lost: Vec<usize> = rows
            .iter()
            .filter(|placed| lacking.contains(&placed.position))
            .map(|placed| placed.row)
            .collect();
        lost.into_iter().for_each(|row| values.targets[column][row] = f64::NAN);
    }
    Ok(())
}

/// The moments between the rows of a series that have no row.
#[derive(Clone, Debug, Default)]
struct Gaps {
    absent: usize,
    of: usize,
    after: Vec<Placed>,
    /// The periods next to a gap, in which moments may lack.
    positions: Vec<i64>,
}

/// The gaps of rows that are evenly spaced otherwise; none where most steps differ, as those of events do.
fn gaps(rows: &[Placed], times: &Times) -> Gaps {
    let local = times.local();
    let clocks = [Some(times), local.as_ref()];
    clocks.into_iter().flatten().find_map(|times| gaps_of(rows, times)).unwrap_or_default()
}

fn gaps_of(rows: &[Placed], times: &Times) -> Option<Gaps> {
    let mut moments: Vec<(i64, Placed)> =
        rows.iter().map(|placed| (times.values[placed.row], *placed)).collect();
    moments.dedup_by_key(|(value, _)| *value);
    let values: Vec<i64> = moments.iter().map(|(value, _)| *value).collect();
    let grid = Grid::find(&[&values], times.dated()).ok().flatten()?;
    let places: Vec<i64> = values.iter().map(|value| grid.position(*value)).collect::<Option<_>>()?;
    let steps = || places.windows(2).map(|pair| pair[1] - pair[0]);
    let mut gaps = Gaps { of: (places[places.len() - 1] - places[0]) as usize + 1, ..Gaps::default() };
    if steps().filter(|step| *step == 1).count() * 2 < places.len() - 1 {
        return Some(gaps);
    }
    gaps.absent = gaps.of - places.len();
    for (pair, _) in moments.windows(2).zip(steps()).filter(|(_, step)| *step > 1) {
        gaps.after.push(pair[0].1);
        // Periods without any row are gaps of the calendar, and counted there.
        gaps.positions.extend([pair[0].1.position, pair[1].1.position]);
    }
    Some(gaps)
}
