//! A dilated layer as a plain one. Where a recurrence reads step `t - d`, a row of the batch is `d` sequences that never
//! meet: those of the steps `t = q d + r`, for `r` from 0 to `d - 1`. Step q of all of them lies together, so that a
//! scan over `[ceil(T/d), d B]` is the dilated one over `[T, B]`, in the same memory if all rows are equally long.

use crate::buffers::{Buffers, Matrix, Rows};
use crate::packing::Packing;
use crate::parts::PartState;
use gatefold_model::Recurrent;
use ndarray::ArrayView2;
use std::sync::Arc;

/// The packing of the interleaved sequences of a packed sequence. Sequence r of row b is row `r B + b` of it.
#[derive(Debug)]
pub(crate) struct Interleaved {
    pub(crate) packing: Packing,
    /// The row of the packed sequence for each row of this packing; `None` if these are the same.
    rows: Option<Vec<usize>>,
    dilation: usize,
    /// The length of each row of the part.
    lengths: Vec<usize>,
}

/// The end of a sequence at which states are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Before the first step of the scan.
    Initial,
    /// After the last.
    Final,
}

impl Interleaved {
    /// The sequences of a part whose rows, in the order of their places, have these numbers and lengths.
    pub(crate) fn new(whole: &Packing, dilation: usize) -> Self {
        let batch = whole.batch();
        let length = |(r, place): (usize, usize)| whole.length(place).saturating_sub(r).div_ceil(dilation);
        let mut sequences: Vec<(usize, usize)> =
            (0..dilation).flat_map(|r| (0..batch).map(move |place| (r, place))).collect();
        sequences.sort_by_key(|&sequence| std::cmp::Reverse(length(sequence)));
        let order = sequences.iter().map(|&(r, place)| r * batch + whole.row_at(place)).collect();
        let steps = whole.padded_steps().div_ceil(dilation);
        let packing =
            Packing::of_rows(steps, order, sequences.iter().map(|&sequence| length(sequence)).collect());
        let row = |q: usize, (r, place): (usize, usize)| whole.at(q * dilation + r).start + place;
        let rows: Vec<usize> = (0..packing.steps())
            .flat_map(|q| sequences[..packing.rows_at(q)].iter().map(move |&sequence| row(q, sequence)))
            .collect();
        let same = rows.iter().enumerate().all(|(to, &from)| to == from);
        let mut lengths = vec![0; batch];
        (0..batch).for_each(|place| lengths[whole.row_at(place)] = whole.length(place));
        Interleaved { packing, rows: (!same).then_some(rows), dilation, lengths }
    }

    pub(crate) fn dilation(&self) -> usize {
        self.dilation
    }

    /// Whether the rows of the scan lie elsewhere than those of the layer.
    pub(crate) fn moves_rows(&self) -> bool {
        self.rows.is_some()
    }

    /// Rows of the layer, `[N, F]`, in the order of the scan.
    pub(crate) fn take<'a>(&self, buffers: &Arc<Buffers>, from: ArrayView2<'a, f32>) -> Rows<'a> {
        let Some(rows) = &self.rows else { return Rows::Kept(from) };
        let mut to = buffers.matrix(from.nrows(), from.ncols());
        to.rows_mut().into_iter().zip(rows).for_each(|(mut to, &row)| to.assign(&from.row(row)));
        Rows::Made(to)
    }

    /// [`Interleaved::take`] of a matrix.
    pub(crate) fn take_all(&self, buffers: &Arc<Buffers>, from: Matrix) -> Matrix {
        match self.take(buffers, from.view()) {
            Rows::Made(to) => to,
            Rows::Kept(_) => from,
        }
    }

    /// The reverse of [`Interleaved::take_all`].
    pub(crate) fn give_all(&self, buffers: &Arc<Buffers>, from: Matrix) -> Matrix {
        let Some(rows) = &self.rows else { return from };
        let mut to = buffers.matrix(from.nrows(), from.ncols());
        from.rows().into_iter().zip(rows).for_each(|(from, &row)| to.row_mut(row).assign(&from));
        to
    }

    /// The slot of a state, oldest first, from which sequence r of a row begins, or in which it ends.
    fn slot(&self, end: End, reverse: bool, r: usize, row: usize) -> usize {
        let (d, length) = (self.dilation, self.lengths[row]);
        match (end, reverse) {
            // The times -d to -1, and length - d to length - 1.
            (End::Initial, false) => r,
            (End::Final, false) => (r + d - length % d) % d,
            // The times length + d - 1 to length, and d - 1 to 0.
            (End::Initial, true) => d - 1 - (r + d - length % d) % d,
            (End::Final, true) => d - 1 - r,
        }
    }

    /// Turns states of the layer, by slot, into those of the scan, by sequence.
    pub(crate) fn take_state(
        &self,
        buffers: &Arc<Buffers>,
        recurrent: &Recurrent,
        end: End,
        state: &mut PartState,
    ) {
        self.move_state(buffers, recurrent, state, |reverse, r, row| {
            (self.place(r, row), self.place(self.slot(end, reverse, r, row), row))
        });
    }

    /// The reverse of [`Interleaved::take_state`].
    pub(crate) fn give_state(
        &self,
        buffers: &Arc<Buffers>,
        recurrent: &Recurrent,
        end: End,
        state: &mut PartState,
    ) {
        self.move_state(buffers, recurrent, state, |reverse, r, row| {
            (self.place(self.slot(end, reverse, r, row), row), self.place(r, row))
        });
    }

    /// The place of a sequence, or of a slot, among the rows of a state.
    fn place(&self, r: usize, row: usize) -> usize {
        r * self.lengths.len() + row
    }

    /// Moves the rows of states; `moved` says where to and where from.
    fn move_state(
        &self,
        buffers: &Arc<Buffers>,
        recurrent: &Recurrent,
        state: &mut PartState,
        moved: impl Fn(bool, usize, usize) -> (usize, usize),
    ) {
        let scans = state.scans.iter_mut().flatten().zip(recurrent.direction.scans());
        for (scan, &reverse) in scans {
            for values in std::iter::once(&mut scan.h).chain(&mut scan.c) {
                let from = buffers.copy(values.view());
                for r in 0..self.dilation {
                    for row in 0..self.lengths.len() {
                        let (to, at) = moved(reverse, r, row);
                        values.row_mut(to).assign(&from.row(at));
                    }
                }
            }
        }
    }
}

/// Rows of a layer in the order of its scans.
pub(crate) fn in_scan_order<'a>(
    buffers: &Arc<Buffers>,
    interleaved: Option<&Interleaved>,
    rows: Rows<'a>,
) -> Rows<'a> {
    let Some(interleaved) = interleaved else { return rows };
    match rows {
        Rows::Kept(rows) => interleaved.take(buffers, rows),
        Rows::Made(rows) => Rows::Made(interleaved.take_all(buffers, rows)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packing::Part;

    fn packing(steps: usize, lengths: &[usize]) -> Packing {
        let part = Part { rows: (0..lengths.len()).collect(), whole: lengths.len() };
        Packing::new(steps, &part, Some(lengths))
    }

    #[test]
    fn equally_long_rows_stay_where_they_are() {
        for (steps, d) in [(6, 2), (7, 3), (5, 4), (3, 5), (1, 2)] {
            let interleaved = Interleaved::new(&packing(steps, &[steps; 3]), d);
            assert!(!interleaved.moves_rows(), "{steps} steps, dilation {d}");
            assert_eq!((interleaved.packing.batch(), interleaved.packing.len()), (3 * d, 3 * steps));
            assert_eq!(interleaved.packing.steps(), steps.div_ceil(d));
        }
    }

    #[test]
    fn rows_of_any_length_are_those_of_their_steps() {
        // Row 1 is the longest, row 0 has no step. Sequence r of a row has its steps r, r + 2, ..
        let whole = packing(5, &[0, 5, 2]);
        let interleaved = Interleaved::new(&whole, 2);
        let buffers = Arc::default();
        // The packed sequence: the number of each row and its step.
        let mut named = Buffers::matrix(&buffers, whole.len(), 1);
        for (n, (t, row)) in whole.places(0..whole.steps()).enumerate() {
            named[[n, 0]] = (10 * row + t) as f32;
        }
        let taken = interleaved.take_all(&buffers, named.clone());
        // Sequences by length: row 1 from 0 (3 steps), row 1 from 1 (2), row 2 from 0 (1), row 2 from 1 (1), row 0.
        assert_eq!(taken.elements(), [10.0, 11.0, 20.0, 21.0, 12.0, 13.0, 14.0]);
        assert_eq!(interleaved.give_all(&buffers, taken).elements(), named.elements());
    }
}
