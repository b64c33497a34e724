//! The parts of a batch that go through a network on their own.

use crate::buffers::Buffers;
use crate::packing::Part;
use crate::scan::ScanStates;
use crate::tensors::Values;
use gatefold_model::{InitialState, Layer, LayerState, Recurrent, Role};
use ndarray::{Array2, Array3, ArrayView2, ArrayViewMut2, Axis};
use std::cmp::Reverse;
use std::sync::Arc;

/// The rows of a part of a batch up to [`SMALL_BATCH`], so that many threads find work.
const FEW_ROWS: usize = 4;
/// The rows of a part of a larger batch, so that more of them share what is read of the weights.
const ROWS: usize = 8;
const SMALL_BATCH: usize = 64;
/// The most parts, since their gradients are added up one after another: many would lose accuracy.
const MOST_PARTS: usize = 128;

/// Divides a batch. Rows of similar length go together, the longest first.
pub(crate) fn divide(batch: usize, lengths: Option<&[usize]>) -> Vec<Part> {
    let rows = if batch <= SMALL_BATCH { FEW_ROWS } else { ROWS.max(batch.div_ceil(MOST_PARTS)) };
    let parts = batch.div_ceil(rows).max(1);
    let mut order: Vec<usize> = (0..batch).collect();
    if let Some(lengths) = lengths {
        order.sort_by_key(|&row| Reverse(lengths[row]));
    }
    let start = |n: usize| n * batch / parts;
    let part = |n: usize| {
        let mut rows = order[start(n)..start(n + 1)].to_vec();
        rows.sort_unstable();
        Part { rows: rows.into(), whole: batch }
    };
    (0..parts).map(part).collect()
}

/// The states of a recurrent layer, or gradients with respect to them, for the rows of a part in their order.
#[derive(Clone, Debug)]
pub(crate) struct PartState {
    /// Of the forward scan, the reverse scan, or both in this order.
    pub(crate) scans: [Option<ScanStates>; 2],
}

impl PartState {
    pub(crate) fn zeros(buffers: &Arc<Buffers>, recurrent: &Recurrent, batch: usize) -> Self {
        let scan = || ScanStates {
            h: buffers.zeros(recurrent.history() * batch, recurrent.recurrent_width()),
            c: recurrent
                .cell
                .has_state()
                .then(|| buffers.zeros(recurrent.dilation * batch, recurrent.hidden)),
            y: recurrent.feedback.map(|feedback| buffers.zeros(batch, feedback.output)),
        };
        let both = recurrent.direction.scans().len() == 2;
        PartState { scans: [Some(scan()), both.then(scan)] }
    }

    /// The layer's own initial states, as [`States::initial`](gatefold_model::States::initial) has them.
    pub(crate) fn initial(
        buffers: &Arc<Buffers>,
        values: Values,
        layer: &Layer,
        recurrent: &Recurrent,
        batch: usize,
    ) -> Self {
        let mut state = PartState::zeros(buffers, recurrent, batch);
        for (scan, &reverse) in state.scans.iter_mut().flatten().zip(recurrent.direction.scans()) {
            match recurrent.initial {
                InitialState::Zeros => {}
                InitialState::Constant(value) => {
                    scan.h.fill(value);
                    scan.c.iter_mut().for_each(|c| c.fill(value));
                }
                InitialState::Learned => {
                    for (role, to) in [(Role::InitialH, Some(&mut scan.h)), (Role::InitialC, scan.c.as_mut())]
                    {
                        if let (Some(to), Some(from)) = (to, values.vector(layer, role, reverse)) {
                            to.assign(&from);
                        }
                    }
                }
            }
        }
        state
    }

    /// A part's rows of the state of a batch.
    pub(crate) fn take(
        buffers: &Arc<Buffers>,
        recurrent: &Recurrent,
        from: &LayerState,
        part: &Part,
    ) -> Self {
        let (k, batch) = (recurrent.history(), part.rows.len());
        let mut state = PartState::zeros(buffers, recurrent, batch);
        for (scan, to) in state.scans.iter_mut().flatten().enumerate() {
            for j in 0..k {
                take_rows(from.h.index_axis(Axis(0), scan * k + j), part, to.h_mut(j, batch));
            }
            if let (Some(from), Some(to)) = (&from.c, &mut to.c) {
                let d = recurrent.dilation;
                for (j, to) in to.axis_chunks_iter_mut(Axis(0), batch).enumerate() {
                    take_rows(from.index_axis(Axis(0), scan * d + j), part, to);
                }
            }
            if let (Some(from), Some(to)) = (&from.y, &mut to.y) {
                take_rows(from.view(), part, to.view_mut());
            }
        }
        state
    }

    /// A state of the whole batch, all zeros.
    pub(crate) fn whole(&self, part: &Part) -> LayerState {
        let (first, scans) = (self.scan(0), self.scans.iter().flatten().count());
        let slots = scans * first.history(part.rows.len());
        LayerState {
            h: Array3::zeros((slots, part.whole, first.h.ncols())),
            c: first
                .c
                .as_ref()
                .map(|c| Array3::zeros((scans * c.nrows() / part.rows.len(), part.whole, c.ncols()))),
            y: first.y.as_ref().map(|y| Array2::zeros((part.whole, y.ncols()))),
        }
    }

    /// Writes the state to the part's rows of that of the batch.
    pub(crate) fn put(&self, part: &Part, to: &mut LayerState) {
        let batch = part.rows.len();
        for (scan, from) in self.scans.iter().flatten().enumerate() {
            let k = from.history(batch);
            for j in 0..k {
                put_rows(from.h(j, batch), part, to.h.index_axis_mut(Axis(0), scan * k + j));
            }
            if let (Some(from), Some(to)) = (&from.c, &mut to.c) {
                let d = from.nrows() / batch;
                for (j, from) in from.axis_chunks_iter(Axis(0), batch).enumerate() {
                    put_rows(from, part, to.index_axis_mut(Axis(0), scan * d + j));
                }
            }
            if let (Some(from), Some(to)) = (&from.y, &mut to.y) {
                put_rows(from.view(), part, to.view_mut());
            }
        }
    }

    pub(crate) fn scan(&self, scan: usize) -> &ScanStates {
        self.scans[scan].as_ref().expect("the layer has this scan")
    }

    pub(crate) fn scan_mut(&mut self, scan: usize) -> &mut ScanStates {
        self.scans[scan].as_mut().expect("the layer has this scan")
    }
}

fn take_rows(from: ArrayView2<f32>, part: &Part, mut to: ArrayViewMut2<f32>) {
    for (&row, mut to) in part.rows.iter().zip(to.rows_mut()) {
        to.assign(&from.row(row));
    }
}

fn put_rows(from: ArrayView2<f32>, part: &Part, mut to: ArrayViewMut2<f32>) {
    for (&row, from) in part.rows.iter().zip(from.rows()) {
        to.row_mut(row).assign(&from);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gatefold_model::{LayerConfig, LstmConfig, NetworkConfig, States};

    #[test]
    fn every_row_is_in_one_part_and_long_rows_are_together() {
        let lengths: Vec<usize> = (0..37).map(|row| row * 7 % 37).collect();
        let parts = divide(37, Some(&lengths));
        let mut rows: Vec<usize> = parts.iter().flat_map(|part| part.rows.to_vec()).collect();
        rows.sort_unstable();
        assert_eq!(rows, (0..37).collect::<Vec<_>>());
        assert!(parts.iter().all(|part| part.rows.len() <= FEW_ROWS && part.whole == 37));
        let length = |part: &Part, pick: fn(usize, usize) -> usize, from| {
            part.rows.iter().fold(from, |length, &row| pick(length, lengths[row]))
        };
        for pair in parts.windows(2) {
            assert!(length(&pair[0], usize::min, usize::MAX) >= length(&pair[1], usize::max, 0));
        }
        for (batch, parts) in [(1, 1), (4, 1), (5, 2), (64, 16), (65, 9), (1024, 128), (1_000_000, 128)] {
            assert_eq!(divide(batch, None).len(), parts, "{batch} rows");
        }
    }

    #[test]
    fn states_go_out_and_come_back() {
        for lstm in [LstmConfig::new(3).skip(2), LstmConfig::new(3).dilation(3).bidirectional()] {
            go_out_and_come_back(lstm);
        }
    }

    fn go_out_and_come_back(lstm: LstmConfig) {
        let config = NetworkConfig::new(1, &[LayerConfig::from(lstm)]).unwrap();
        let recurrent = config.layers()[0].recurrent().unwrap();
        let mut states = States::zeros(&config, 21);
        let [state] = &mut states.layers[..] else { unreachable!("one layer") };
        let elements = state.h.iter_mut().chain(state.c.iter_mut().flatten());
        elements.zip(1..).for_each(|(element, n)| *element = n as f32);
        let mut back = States::zeros(&config, 21);
        let buffers = Arc::default();
        for part in divide(21, Some(&[4; 21])) {
            PartState::take(&buffers, recurrent, &states.layers[0], &part).put(&part, &mut back.layers[0]);
        }
        assert_eq!(back, states);
    }
}
