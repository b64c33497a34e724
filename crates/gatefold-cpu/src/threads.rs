use ndarray::linalg::{general_mat_mul, general_mat_vec_mul};
use ndarray::{Array1, ArrayView2, ArrayViewMut2, Axis, Zip, s};
use std::num::NonZero;
use std::ops::Range;

/// The number of threads that share the work. Results do not depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Threads(NonZero<usize>);

/// The multiplications and additions worth a thread: starting one takes about 20 us, in which a core does about this
/// many.
const WORTH_A_THREAD: usize = 1 << 20;

impl Threads {
    /// One thread per core that this process may use.
    pub fn available() -> Self {
        Threads(std::thread::available_parallelism().unwrap_or(NonZero::<usize>::MIN))
    }

    /// This many threads, or one for 0.
    pub fn new(count: usize) -> Self {
        Threads(NonZero::new(count).unwrap_or(NonZero::<usize>::MIN))
    }

    /// The number of threads.
    pub fn count(self) -> usize {
        self.0.get()
    }

    /// The number of threads that share `length` rows, in tiles of `tile`, for a total of `operations`.
    pub(crate) fn parts(self, length: usize, tile: usize, operations: usize) -> usize {
        self.count().min(operations / WORTH_A_THREAD).min(length.div_ceil(tile)).max(1)
    }

    /// Divides `0..length` into one range per thread for a total of `operations`; the length of each but the last is a
    /// multiple of `tile`.
    pub(crate) fn ranges(self, length: usize, tile: usize, operations: usize) -> Vec<Range<usize>> {
        let parts = self.parts(length, tile, operations);
        let part = length.div_ceil(tile).div_ceil(parts) * tile;
        (0..parts)
            .map(|k| (k * part).min(length)..((k + 1) * part).min(length))
            .filter(|r| !r.is_empty())
            .collect()
    }
}

/// Runs all jobs, the first on this thread and each other one on its own thread.
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

/// The most rows or columns of the matrix product's register tile.
pub(crate) const TILE: usize = 16;

/// `out += A B`, with the rows of `out [M, N]` divided among threads.
pub(crate) fn add_product(threads: Threads, a: ArrayView2<f32>, b: ArrayView2<f32>, out: ArrayViewMut2<f32>) {
    let operations = 2 * a.nrows() * a.ncols() * b.ncols();
    let ranges = threads.ranges(a.nrows(), TILE, operations);
    let parts = split_rows(out, &ranges);
    run(ranges.into_iter().zip(parts), |(rows, mut out)| {
        general_mat_mul(1.0, &a.slice(s![rows, ..]), &b, 1.0, &mut out);
    });
}

/// The sum of every column of `a [M, N]`, with columns divided among threads and rows added in order.
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

/// The sum of every column of the elementwise product `a * b`, divided like [`column_sum`].
pub(crate) fn column_product_sum(threads: Threads, a: ArrayView2<f32>, b: ArrayView2<f32>) -> Array1<f32> {
    let mut sums = Array1::zeros(a.ncols());
    let ranges = threads.ranges(a.ncols(), TILE, 2 * a.len());
    let parts = split_rows(sums.view_mut().insert_axis(Axis(1)), &ranges);
    run(ranges.into_iter().zip(parts), |(columns, mut sums)| {
        let mut sums = sums.column_mut(0);
        let (a, b) = (a.slice(s![.., columns.clone()]), b.slice(s![.., columns]));
        for (a, b) in a.rows().into_iter().zip(b.rows()) {
            Zip::from(&mut sums).and(&a).and(&b).for_each(|sum, &a, &b| *sum += a * b);
        }
    });
    sums
}

/// Splits a matrix into the parts with these rows.
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

/// Splits a matrix of steps, where each step has its number of `rows`, for threads that take their `shares` of every
/// step: by thread, then by step.
pub(crate) fn split_steps<'a>(
    mut matrix: ArrayViewMut2<'a, f32>,
    rows: impl Iterator<Item = usize>,
    shares: &[Range<usize>],
) -> Vec<Vec<ArrayViewMut2<'a, f32>>> {
    let mut parts: Vec<Vec<ArrayViewMut2<'a, f32>>> =
        shares.iter().map(|_| Vec::with_capacity(rows.size_hint().0)).collect();
    for rows in rows {
        for (places, part) in shares.iter().zip(&mut parts) {
            let (share, rest) = matrix.split_at(Axis(0), places.end.min(rows) - places.start.min(rows));
            part.push(share);
            matrix = rest;
        }
    }
    parts
}

/// The way a step multiplies with weights. The two ways add in different orders, so the choice depends on the whole
/// batch, not on a thread's share or on the rows left at a step.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Product {
    /// Row by row, for batches of one or two rows.
    Rows,
    /// The general product, which first copies the weights into its own order; more rows pay for that.
    General,
}

impl Product {
    pub(crate) fn for_batch(rows: usize) -> Self {
        if rows <= 2 { Product::Rows } else { Product::General }
    }

    /// `out += x W^T`, `W [N, K]`.
    pub(crate) fn add(self, x: ArrayView2<f32>, weight: ArrayView2<f32>, mut out: ArrayViewMut2<f32>) {
        match self {
            Product::General => general_mat_mul(1.0, &x, &weight.t(), 1.0, &mut out),
            Product::Rows => {
                for (x, mut out) in x.rows().into_iter().zip(out.rows_mut()) {
                    general_mat_vec_mul(1.0, &weight, &x, 1.0, &mut out);
                }
            }
        }
    }

    /// `d_x += d W`, `W [N, K]`.
    pub(crate) fn add_back(self, d: ArrayView2<f32>, weight: ArrayView2<f32>, mut d_x: ArrayViewMut2<f32>) {
        match self {
            Product::General => general_mat_mul(1.0, &d, &weight, 1.0, &mut d_x),
            Product::Rows => {
                for (d, mut d_x) in d.rows().into_iter().zip(d_x.rows_mut()) {
                    for (&d, row) in d.iter().zip(weight.rows()) {
                        d_x.scaled_add(d, &row);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gatefold_reference::Failures;

    #[test]
    fn ranges_cover_everything_once() {
        let mut failures = Failures::new();
        for threads in [1, 2, 3, 7] {
            for length in [1, 15, 16, 17, 100] {
                failures.check(format!("{threads} threads, length {length}"), || {
                    let ranges = Threads::new(threads).ranges(length, 16, usize::MAX);
                    assert!(ranges.len() <= threads);
                    let all: Vec<usize> = ranges.into_iter().flatten().collect();
                    assert_eq!(all, (0..length).collect::<Vec<_>>());
                });
            }
        }
        failures.finish();
        assert_eq!(Threads::new(4).ranges(64, 16, WORTH_A_THREAD - 1).len(), 1);
    }
}
