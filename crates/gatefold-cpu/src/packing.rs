//! Sequences of different length, packed without padding.
//!
//! Rows of the batch are sorted by length, longest first, and only existing steps are kept: step `t` holds its
//! `rows_at(t)` rows, which are the first of those at step `t - 1`. So products over all steps, and each step of a
//! scan, only see rows that matter; padding is neither read nor written. Without lengths this is the plain `[T B, F]`.
//!
//! A batch is packed in parts of a few rows each, since the parts go through the network on their own.

use crate::buffers::{Buffers, Matrix, Rows};
use crate::dilation::Interleaved;
use crate::threads::lock;
use gatefold_model::{Conv1d, Recurrent};
use ndarray::{ArrayView2, ArrayView3, ArrayViewMut1, ArrayViewMut2, s};
use std::ops::Range;
use std::sync::{Arc, Mutex};

/// A part of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// The row of the whole batch that each row of this part is.
    pub(crate) rows: Arc<[usize]>,
    /// The rows of the whole batch.
    pub(crate) whole: usize,
}

/// The layout of a packed sequence `[N, F]`: the place of each step's rows.
#[derive(Debug)]
pub(crate) struct Packing {
    part: Part,
    /// The row of the part at each place; sorted by length, rows of equal length in their order.
    order: Vec<usize>,
    /// The length of the row at each place, in descending order.
    lengths: Vec<usize>,
    /// The first row of each step, and N at the end.
    offsets: Vec<usize>,
    /// T of the padded sequence, which may exceed the longest row.
    steps: usize,
    /// The windows that were asked for, kept for the next pass.
    windows: Mutex<Vec<(Range<usize>, Arc<Packing>)>>,
    /// The interleaved sequences of dilated layers that were asked for, kept likewise.
    interleaved: Mutex<Vec<Arc<Interleaved>>>,
}

impl Packing {
    /// The packing of a part of a batch with these lengths.
    pub(crate) fn new(steps: usize, part: &Part, lengths: Option<&[usize]>) -> Self {
        let mut order: Vec<usize> = (0..part.rows.len()).collect();
        let length = |row: usize| lengths.map_or(steps, |lengths| lengths[part.rows[row]]);
        if lengths.is_some() {
            order.sort_by_key(|&row| std::cmp::Reverse(length(row)));
        }
        let lengths = order.iter().map(|&row| length(row)).collect();
        Packing::ordered(steps, part.clone(), order, lengths)
    }

    fn ordered(steps: usize, part: Part, order: Vec<usize>, lengths: Vec<usize>) -> Self {
        let mut offsets = vec![0];
        let mut left = lengths.len();
        for t in 0..lengths.first().copied().unwrap_or(0) {
            while lengths[left - 1] <= t {
                left -= 1;
            }
            offsets.push(offsets[t] + left);
        }
        let (windows, interleaved) = (Mutex::default(), Mutex::default());
        Packing { part, order, lengths, offsets, steps, windows, interleaved }
    }

    /// The packing of rows that are in descending order of their lengths.
    pub(crate) fn of_rows(steps: usize, order: Vec<usize>, lengths: Vec<usize>) -> Self {
        let part = Part { rows: (0..order.len()).collect(), whole: order.len() };
        Packing::ordered(steps, part, order, lengths)
    }

    /// The interleaved sequences that a dilated layer's scans go over; `None` without a dilation.
    pub(crate) fn interleaved(&self, dilation: usize) -> Option<Arc<Interleaved>> {
        if dilation == 1 {
            return None;
        }
        let mut made = lock(&self.interleaved);
        if let Some(found) = made.iter().find(|found| found.dilation() == dilation) {
            return Some(Arc::clone(found));
        }
        let interleaved = Arc::new(Interleaved::new(self, dilation));
        made.push(Arc::clone(&interleaved));
        Some(interleaved)
    }

    /// Whether [`Packing::new`] would make the same of these.
    pub(crate) fn is_of(&self, steps: usize, part: &Part, lengths: Option<&[usize]>) -> bool {
        let length = |&row: &usize| lengths.map_or(steps, |lengths| lengths[part.rows[row]]);
        self.steps == steps
            && self.part == *part
            && self.lengths.iter().copied().eq(self.order.iter().map(length))
    }

    /// Whether the other packing's [`Packing::of_steps`] would make the same as this.
    pub(crate) fn is_of_steps(&self, steps: usize, other: &Packing) -> bool {
        self.steps == steps
            && self.part == other.part
            && self.order == other.order
            && self.lengths.iter().all(|&length| length == steps)
    }

    /// The packing of a range of steps; a row that ends before the range has no steps in it.
    pub(crate) fn window(&self, steps: &Range<usize>) -> Arc<Packing> {
        let mut windows = lock(&self.windows);
        if let Some((_, window)) = windows.iter().find(|(made, _)| made == steps) {
            return Arc::clone(window);
        }
        let window = Arc::new(self.make_window(steps));
        windows.push((steps.clone(), Arc::clone(&window)));
        window
    }

    fn make_window(&self, steps: &Range<usize>) -> Self {
        let within = |&length: &usize| length.clamp(steps.start, steps.end) - steps.start;
        let first = self.offsets[steps.start];
        Packing {
            part: self.part.clone(),
            order: self.order.clone(),
            lengths: self.lengths.iter().map(within).collect(),
            offsets: self.offsets[steps.start..=steps.end].iter().map(|offset| offset - first).collect(),
            steps: steps.len(),
            windows: Mutex::default(),
            interleaved: Mutex::default(),
        }
    }

    /// The packing of `steps` steps for every row, in the same order of rows.
    pub(crate) fn of_steps(&self, steps: usize) -> Self {
        Packing::ordered(steps, self.part.clone(), self.order.clone(), vec![steps; self.batch()])
    }

    /// The packing of a convolution's output; longer rows stay before shorter ones.
    pub(crate) fn convolved(&self, conv: &Conv1d) -> Self {
        let lengths = self.lengths.iter().map(|&length| conv.steps(length)).collect();
        Packing::ordered(conv.steps(self.steps), self.part.clone(), self.order.clone(), lengths)
    }

    /// Whether the other packing's [`Packing::convolved`] would make the same as this.
    pub(crate) fn is_convolved(&self, conv: &Conv1d, other: &Packing) -> bool {
        self.steps == conv.steps(other.steps)
            && self.part == other.part
            && self.order == other.order
            && self.lengths.iter().copied().eq(other.lengths.iter().map(|&length| conv.steps(length)))
    }

    /// The length of the row at a place.
    pub(crate) fn length(&self, place: usize) -> usize {
        self.lengths[place]
    }

    /// The row of the part at a place.
    pub(crate) fn row_at(&self, place: usize) -> usize {
        self.order[place]
    }

    /// B
    pub(crate) fn batch(&self) -> usize {
        self.order.len()
    }

    /// T, including steps without rows.
    pub(crate) fn padded_steps(&self) -> usize {
        self.steps
    }

    /// The number of steps that have rows.
    pub(crate) fn steps(&self) -> usize {
        self.offsets.len() - 1
    }

    /// N
    pub(crate) fn len(&self) -> usize {
        self.offsets[self.steps()]
    }

    /// The rows of step `t`.
    pub(crate) fn at(&self, t: usize) -> Range<usize> {
        self.offsets[t]..self.offsets[t + 1]
    }

    /// The rows of a range of steps.
    pub(crate) fn rows_of(&self, steps: &Range<usize>) -> Range<usize> {
        self.offsets[steps.start]..self.offsets[steps.end]
    }

    /// The number of rows of step `t`.
    pub(crate) fn rows_at(&self, t: usize) -> usize {
        self.at(t).len()
    }

    /// The step and the row of the whole batch, for each packed row of some steps.
    pub(crate) fn places(&self, steps: Range<usize>) -> impl Iterator<Item = (usize, usize)> {
        steps
            .flat_map(move |t| self.order[..self.rows_at(t)].iter().map(move |&row| (t, self.part.rows[row])))
    }

    /// The rows of the whole batch.
    pub(crate) fn whole(&self) -> usize {
        self.part.whole
    }

    /// For each step, where its rows begin in the packed sequence, and the rows of the whole batch `[T, B]` that they
    /// are; as one range where these follow one another.
    fn runs(&self) -> impl Iterator<Item = (usize, Range<usize>)> {
        let first = self.part.rows[self.order[0]];
        let row = |place: usize| self.part.rows[self.order[place]];
        let together = (0..self.batch()).all(|place| row(place) == first + place);
        (0..self.steps()).flat_map(move |t| {
            let (at, step) = (self.at(t), t * self.part.whole);
            let (runs, length) = if together { (1, at.len()) } else { (at.len(), 1) };
            (0..runs).map(move |n| {
                let from = step + self.part.rows[self.order[n]];
                (at.start + n, from..from + length)
            })
        })
    }

    /// The rows of this part of a whole batch's `[T, B, F]` in standard layout, to `[N, F]`.
    pub(crate) fn pack(&self, buffers: &Arc<Buffers>, sequence: ArrayView3<f32>) -> Matrix {
        let width = sequence.dim().2;
        let from = sequence.to_slice().expect("it was put in standard layout");
        let mut packed = buffers.matrix(self.len(), width);
        let to = packed.elements_mut();
        for (start, rows) in self.runs() {
            let part = &from[rows.start * width..rows.end * width];
            to[start * width..][..part.len()].copy_from_slice(part);
        }
        packed
    }

    /// `[N, F]` to the rows of this part of a whole batch's `[T, B, F]`, without its padding.
    pub(crate) fn unpack(&self, packed: ArrayView2<f32>, sequence: &mut [f32]) {
        let width = packed.ncols();
        let from = packed.to_slice().expect("values are kept in standard layout");
        for (start, rows) in self.runs() {
            let part = &mut sequence[rows.start * width..rows.end * width];
            part.copy_from_slice(&from[start * width..][..part.len()]);
        }
    }

    /// Rows of the part, `[B, F]`, in the order of the packed sequence.
    pub(crate) fn sort(&self, buffers: &Arc<Buffers>, rows: ArrayView2<f32>) -> Matrix {
        let mut sorted = buffers.matrix(rows.nrows(), rows.ncols());
        for (&row, mut to) in self.order.iter().zip(sorted.rows_mut()) {
            to.assign(&rows.row(row));
        }
        sorted
    }

    /// Undoes [`Packing::sort`].
    pub(crate) fn unsort(&self, sorted: ArrayView2<f32>, mut rows: ArrayViewMut2<f32>) {
        for (&row, from) in self.order.iter().zip(sorted.rows()) {
            rows.row_mut(row).assign(&from);
        }
    }

    /// The last step of each row, `[B, F]`; zeros for a row without steps.
    pub(crate) fn last_rows(&self, buffers: &Arc<Buffers>, packed: ArrayView2<f32>) -> Matrix {
        let mut last = buffers.zeros(self.batch(), packed.ncols());
        for (place, mut to) in last.rows_mut().into_iter().enumerate() {
            if let Some(t) = self.lengths[place].checked_sub(1) {
                to.assign(&packed.row(self.offsets[t] + place));
            }
        }
        last
    }

    /// The backward of [`Packing::last_rows`]: `[N, F]` with these rows in each row's last step and zeros elsewhere.
    pub(crate) fn spread_last_rows(&self, buffers: &Arc<Buffers>, last: ArrayView2<f32>) -> Matrix {
        let mut packed = buffers.zeros(self.len(), last.ncols());
        for (place, from) in last.rows().into_iter().enumerate() {
            if let Some(t) = self.lengths[place].checked_sub(1) {
                packed.row_mut(self.offsets[t] + place).assign(&from);
            }
        }
        packed
    }
}

/// The direction and history of a scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Walk {
    pub(crate) reverse: bool,
    /// k
    pub(crate) history: usize,
}

/// A state over time, stored in time order for both directions: initial values, and one value per step.
///
/// Forward, `h(t)` is in slot `t + k`, and slots `0..k` hold the initial values, oldest first. In reverse, `h(t)` is in
/// slot `t`, and a row of length `L` has its initial values in slots `L..L + k`, newest first. In both directions, slot
/// `s` has B rows for `s < k`, else those of step `s - k`.
impl Walk {
    /// The walk of a scan. That of a dilated layer goes over interleaved sequences, each with one initial value.
    pub(crate) fn of(recurrent: &Recurrent, reverse: bool) -> Self {
        Walk { reverse, history: recurrent.skip.unwrap_or(1) }
    }

    pub(crate) fn steps(self, packing: &Packing) -> impl DoubleEndedIterator<Item = usize> + use<> {
        let steps = packing.steps();
        (0..steps).map(move |n| if self.reverse { steps - 1 - n } else { n })
    }

    /// The slot of `h(t)`.
    pub(crate) fn own(self, t: usize) -> usize {
        if self.reverse { t } else { t + self.history }
    }

    /// The slot of the value `back` steps before step `t`, in the direction of this walk.
    pub(crate) fn before(self, t: usize, back: usize) -> usize {
        if self.reverse { t + back } else { t + self.history - back }
    }

    /// The slot of a row's `j`-th initial value, oldest first.
    fn initial_slot(self, length: usize, j: usize) -> usize {
        if self.reverse { length + self.history - 1 - j } else { j }
    }

    /// The slot of a row's `j`-th final value, oldest first.
    fn final_slot(self, length: usize, j: usize) -> usize {
        if self.reverse { self.history - 1 - j } else { length + j }
    }

    /// The number of rows of all slots together.
    pub(crate) fn len(self, packing: &Packing) -> usize {
        self.history * packing.batch() + packing.len()
    }

    fn first_row(self, packing: &Packing, slot: usize) -> usize {
        let before = slot.min(self.history) * packing.batch();
        before + slot.checked_sub(self.history).map_or(0, |t| packing.offsets[t])
    }

    /// The rows of a slot.
    pub(crate) fn slot(self, packing: &Packing, slot: usize) -> Range<usize> {
        let rows = if slot < self.history { packing.batch() } else { packing.rows_at(slot - self.history) };
        let start = self.first_row(packing, slot);
        start..start + rows
    }

    /// Writes the `j`-th initial values of the part's rows, `[B, F]`, to their slots.
    pub(crate) fn set_initial(
        self,
        packing: &Packing,
        j: usize,
        from: ArrayView2<f32>,
        mut to: ArrayViewMut2<f32>,
    ) {
        for (place, &row) in packing.order.iter().enumerate() {
            let slot = self.initial_slot(packing.lengths[place], j);
            to.row_mut(self.first_row(packing, slot) + place).assign(&from.row(row));
        }
    }

    /// Writes the `j`-th final values to those of the part's rows, `[B, F]`.
    pub(crate) fn put_final(
        self,
        packing: &Packing,
        j: usize,
        slots: ArrayView2<f32>,
        mut to: ArrayViewMut2<f32>,
    ) {
        for (place, &row) in packing.order.iter().enumerate() {
            let slot = self.final_slot(packing.lengths[place], j);
            to.row_mut(row).assign(&slots.row(self.first_row(packing, slot) + place));
        }
    }
}

/// Gradients of a state over time, in two matrices, so that the gradients of the outputs can be taken over without a
/// copy.
#[derive(Clone, Debug)]
pub(crate) struct SlotGradients {
    walk: Walk,
    /// The first k slots.
    head: Matrix,
    /// The other slots; forward, these are exactly the steps.
    tail: Matrix,
}

impl SlotGradients {
    /// Gradients `by_step [N, F]`, with zeros in the slots that belong to no step.
    pub(crate) fn new(buffers: &Arc<Buffers>, walk: Walk, packing: &Packing, by_step: Matrix) -> Self {
        let mut head = buffers.zeros(walk.history * packing.batch(), by_step.ncols());
        if !walk.reverse {
            return SlotGradients { walk, head, tail: by_step };
        }
        let mut tail = buffers.zeros(by_step.nrows(), by_step.ncols());
        for t in 0..packing.steps() {
            let from = by_step.slice(s![packing.at(t), ..]);
            let (to, start) = match walk.own(t).checked_sub(walk.history) {
                None => (&mut head, t * packing.batch()),
                Some(slot) => (&mut tail, packing.at(slot).start),
            };
            to.slice_mut(s![start..start + from.nrows(), ..]).assign(&from);
        }
        SlotGradients { walk, head, tail }
    }

    /// The matrix that holds a slot, and where its rows begin there.
    fn part(&self, packing: &Packing, slot: usize) -> (bool, usize) {
        match slot.checked_sub(self.walk.history) {
            None => (false, slot * packing.batch()),
            Some(t) => (true, packing.offsets[t]),
        }
    }

    /// The elements of the first `rows` rows of a slot.
    pub(crate) fn rows(&self, packing: &Packing, slot: usize, rows: usize) -> &[f32] {
        let (in_tail, start) = self.part(packing, slot);
        let matrix = if in_tail { &self.tail } else { &self.head };
        let width = matrix.ncols();
        &matrix.elements()[start * width..(start + rows) * width]
    }

    /// Like [`SlotGradients::rows`], to write.
    pub(crate) fn rows_mut(&mut self, packing: &Packing, slot: usize, rows: usize) -> &mut [f32] {
        let (in_tail, start) = self.part(packing, slot);
        let matrix = if in_tail { &mut self.tail } else { &mut self.head };
        let width = matrix.ncols();
        &mut matrix.elements_mut()[start * width..(start + rows) * width]
    }

    /// The elements of the first `rows` rows of two different slots, the second to write.
    pub(crate) fn neighbours(
        &mut self,
        packing: &Packing,
        read: usize,
        write: usize,
        rows: usize,
    ) -> (&[f32], &mut [f32]) {
        let width = self.tail.ncols();
        let range = |start: usize| start * width..(start + rows) * width;
        let ((read_tail, read), (write_tail, write)) = (self.part(packing, read), self.part(packing, write));
        let (head, tail) = (self.head.elements_mut(), self.tail.elements_mut());
        let (matrix, ranges) = match (read_tail, write_tail) {
            (true, false) => return (&tail[range(read)], &mut head[range(write)]),
            (false, true) => return (&head[range(read)], &mut tail[range(write)]),
            (true, true) => (tail, [range(read), range(write)]),
            (false, false) => (head, [range(read), range(write)]),
        };
        let [read, write] = matrix.get_disjoint_mut(ranges).expect("slots are different");
        (read, write)
    }

    fn row(&mut self, packing: &Packing, slot: usize, place: usize) -> ArrayViewMut1<'_, f32> {
        match slot.checked_sub(self.walk.history) {
            None => self.head.row_mut(slot * packing.batch() + place),
            Some(t) => self.tail.row_mut(packing.offsets[t] + place),
        }
    }

    /// Sets the gradients of some steps' values, for a forward walk.
    pub(crate) fn set_steps(&mut self, packing: &Packing, steps: &Range<usize>, from: &[f32]) {
        debug_assert!(!self.walk.reverse, "in reverse, the slots of steps are elsewhere");
        let (rows, width) = (packing.rows_of(steps), self.tail.ncols());
        self.tail.elements_mut()[rows.start * width..rows.end * width].copy_from_slice(from);
    }

    /// Adds those of the part's rows, `[B, F]`, to the gradients of the `j`-th final values, in the slots that are wanted: by the step that the slot belongs
    /// to in a forward walk, or `None` for one of the first k.
    pub(crate) fn add_to_final(
        &mut self,
        packing: &Packing,
        j: usize,
        add: ArrayView2<f32>,
        wanted: impl Fn(Option<usize>) -> bool,
    ) {
        for (place, &row) in packing.order.iter().enumerate() {
            let slot = self.walk.final_slot(packing.lengths[place], j);
            if !wanted(slot.checked_sub(self.walk.history)) {
                continue;
            }
            let mut to = self.row(packing, slot, place);
            to += &add.row(row);
        }
    }

    /// Writes the gradients of the `j`-th initial values to those of the part's rows, `[B, F]`.
    pub(crate) fn put_initial(&mut self, packing: &Packing, j: usize, mut to: ArrayViewMut2<f32>) {
        for (place, &row) in packing.order.iter().enumerate() {
            let slot = self.walk.initial_slot(packing.lengths[place], j);
            to.row_mut(row).assign(&self.row(packing, slot, place));
        }
    }

    /// The gradients of each step's own value, `[N, F]`.
    pub(crate) fn by_step(&self, buffers: &Arc<Buffers>, packing: &Packing) -> Rows<'_> {
        if !self.walk.reverse {
            return Rows::Kept(self.tail.view());
        }
        let mut rows = buffers.matrix(self.tail.nrows(), self.tail.ncols());
        for t in 0..packing.steps() {
            let from = self.rows(packing, self.walk.own(t), packing.rows_at(t));
            let mut to = rows.slice_mut(s![packing.at(t), ..]);
            to.as_slice_mut().expect("whole rows are contiguous").copy_from_slice(from);
        }
        Rows::Made(rows)
    }
}
