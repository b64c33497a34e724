use ndarray::linalg::general_mat_mul;
use ndarray::{Array1, ArrayView2, ArrayViewMut2, ArrayViewMut3, Axis, s};
use std::num::NonZero;
use std::ops::Range;

/// How many threads share the work. Results do not depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Threads(NonZero<usize>);

/// Work below this many multiplications and additions is not shared: starting a thread takes about 20 us, in which a
/// core does about this much.
const WORTH_A_THREAD: usize = 1 << 20;

impl Threads {
    /// One for each core that this process may use.
    pub fn available() -> Self {
        Threads(std::thread::available_parallelism().unwrap_or(NonZero::<usize>::MIN))
    }

    /// That many, or one for 0.
    pub fn new(count: usize) -> Self {
        Threads(NonZero::new(count).unwrap_or(NonZero::<usize>::MIN))
    }

    /// How many there are.
    pub fn count(self) -> usize {
        self.0.get()
    }

    /// `0..length` in one range per thread, each but the last a multiple of `tile` long, when there are `operations`
    /// to do altogether.
    pub(crate) fn ranges(self, length: usize, tile: usize, operations: usize) -> Vec<Range<usize>> {
        let parts = self.count().min(operations / WORTH_A_THREAD).min(length.div_ceil(tile)).max(1);
        let part = length.div_ceil(tile).div_ceil(parts) * tile;
        (0..parts)
            .map(|k| (k * part).min(length)..((k + 1) * part).min(length))
            .filter(|r| !r.is_empty())
            .collect()
    }
}

/// Does every job, the first on this thread and each other one on a thread of its own.
pub(crate) fn run<J: Send>(jobs: impl IntoIterator<Item = J>, work: impl Fn(J) + Sync) {
    let mut jobs = jobs.into_iter();
    let Some(first) = jobs.next() else { return };
    std::thread::scope(|scope| {
        for job in jobs {
            let work = &work;
            scope.spawn(move || work(job));
        }
        work(first);
    });
}

/// The matrix product's register tile has at most so many rows or columns.
pub(crate) const TILE: usize = 16;

/// `out += A B`, the rows of `out [M, N]` shared out.
pub(crate) fn add_product(threads: Threads, a: ArrayView2<f32>, b: ArrayView2<f32>, out: ArrayViewMut2<f32>) {
    let operations = 2 * a.nrows() * a.ncols() * b.ncols();
    let ranges = threads.ranges(a.nrows(), TILE, operations);
    let parts = split_rows(out, &ranges);
    run(ranges.into_iter().zip(parts), |(rows, mut out)| {
        general_mat_mul(1.0, &a.slice(s![rows, ..]), &b, 1.0, &mut out);
    });
}

/// The sum of every column of `a [M, N]`, the columns shared out and rows added in order.
pub(crate) fn column_sum(threads: Threads, a: ArrayView2<f32>) -> Array1<f32> {
    let mut sums = Array1::zeros(a.ncols());
    let ranges = threads.ranges(a.ncols(), TILE, a.len());
    let parts = split_rows(sums.view_mut().insert_axis(Axis(1)), &ranges);
    run(ranges.into_iter().zip(parts), |(columns, mut sums)| {
        let mut sums = sums.column_mut(0);
        for row in a.slice(s![.., columns]).rows() {
            sums += &row;
        }
    });
    sums
}

/// The parts of a matrix with those rows.
fn split_rows<'a>(
    mut matrix: ArrayViewMut2<'a, f32>,
    ranges: &[Range<usize>],
) -> Vec<ArrayViewMut2<'a, f32>> {
    let mut parts = Vec::with_capacity(ranges.len());
    for rows in ranges {
        let (part, rest) = matrix.split_at(Axis(0), rows.len());
        parts.push(part);
        matrix = rest;
    }
    parts
}

/// The parts of a sequence `[T, B, F]` with those rows of the batch.
pub(crate) fn split_batch<'a>(
    mut sequence: ArrayViewMut3<'a, f32>,
    ranges: &[Range<usize>],
) -> Vec<ArrayViewMut3<'a, f32>> {
    let mut parts = Vec::with_capacity(ranges.len());
    for rows in ranges {
        let (part, rest) = sequence.split_at(Axis(1), rows.len());
        parts.push(part);
        sequence = rest;
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_cover_everything_once() {
        for threads in [1, 2, 3, 7] {
            for length in [1, 15, 16, 17, 100] {
                let ranges = Threads::new(threads).ranges(length, 16, usize::MAX);
                assert!(ranges.len() <= threads);
                let all: Vec<usize> = ranges.into_iter().flatten().collect();
                assert_eq!(all, (0..length).collect::<Vec<_>>(), "{threads} threads, length {length}");
            }
        }
        assert_eq!(Threads::new(4).ranges(64, 16, WORTH_A_THREAD - 1).len(), 1);
    }
}
