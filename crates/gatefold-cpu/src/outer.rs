//! Sums over the rows of a sequence: the gradients of weights and biases.
//!
//! They are cut into blocks of [`BLOCK`] rows, so that the rounding errors of a sum over K rows do not grow like K.

use crate::instructions::{Instructions, mul_add};
use crate::product::{Lines, TILE_ROWS, load_at, panel_vectors, panels, store_at};
use crate::threads::Threads;
use ndarray::{ArrayView2, ArrayViewMut1, ArrayViewMut2, Axis, s};
use pulp::{Simd, WithSimd};
use std::cell::{Cell, RefCell};
use std::ops::Range;

/// The rows that a sum over a sequence takes at a time. A block of a panel, 32 KiB with AVX-512, fits the first cache.
const BLOCK: usize = 128;

/// `out [M, I] += a^T b`, from `a [N, M]` and `b [N, I]`, with the rows of `out` divided among threads.
///
/// Each thread copies its columns of a block of `a` into tiles, and all of the block of `b` into panels, which costs
/// little beside the products of the two.
pub(crate) fn add_outer(
    set: Instructions,
    threads: Threads,
    a: ArrayView2<f32>,
    b: ArrayView2<f32>,
    mut out: ArrayViewMut2<f32>,
) {
    // Vectors run along the columns of b; with very few of these, along those of a.
    if is_thin(b) && a.ncols() > b.ncols() {
        let shape = (b.ncols(), a.ncols());
        let mut elements = TURNED.take();
        elements.clear();
        elements.resize(shape.0 * shape.1, 0.0);
        let mut turned = ArrayViewMut2::from_shape(shape, &mut elements).expect("it has that length");
        add_outer(set, threads, b, a, turned.view_mut());
        out += &turned.t();
        TURNED.set(elements);
        return;
    }
    let share = threads.share(a.ncols(), TILE_ROWS, a.len() * b.ncols());
    let parts = out.axis_chunks_iter_mut(Axis(0), share).enumerate();
    threads.run(parts, |(n, out)| {
        let left = Left { columns: n * share..n * share + out.nrows(), rows: [Some(0), None] };
        Outer { a, lefts: &[left], rights: &mut [Some(Right { b, out }), None] }.run(set);
    });
}

/// Columns of a left side, and the first row of the sums with each right side that they go to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Left {
    pub(crate) columns: Range<usize>,
    pub(crate) rows: [Option<usize>; 2],
}

/// A right side, and the sums of its products.
#[derive(Debug)]
pub(crate) struct Right<'a> {
    pub(crate) b: ArrayView2<'a, f32>,
    pub(crate) out: ArrayViewMut2<'a, f32>,
}

/// [`add_outer`] for parts of one left side with two right sides. On one thread, each is copied once.
pub(crate) fn add_outers(
    set: Instructions,
    threads: Threads,
    a: ArrayView2<f32>,
    lefts: &[Left],
    rights: &mut [Option<Right>; 2],
) {
    if threads.count() == 1 && rights.iter().flatten().all(|right| !is_thin(right.b)) {
        return Outer { a, lefts, rights }.run(set);
    }
    for (n, right) in rights.iter_mut().enumerate() {
        let Some(right) = right else { continue };
        for Left { columns, rows } in lefts {
            if let Some(row) = rows[n] {
                let out = right.out.slice_mut(s![row..row + columns.len(), ..]);
                add_outer(set, threads, a.slice(s![.., columns.clone()]), right.b, out);
            }
        }
    }
}

/// Whether most of a vector along the columns would be padding.
fn is_thin(b: ArrayView2<f32>) -> bool {
    b.ncols() < 8
}

thread_local! {
    /// Room for a block's tiles and panels, kept between products.
    static SCRATCH: RefCell<(Vec<f32>, Lines)> = const { RefCell::new((Vec::new(), Lines::EMPTY)) };
    /// Room for a product that is computed transposed, kept likewise.
    static TURNED: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
}

/// One thread's work.
struct Outer<'a, 'b> {
    a: ArrayView2<'a, f32>,
    lefts: &'a [Left],
    rights: &'a mut [Option<Right<'b>>; 2],
}

impl Outer<'_, '_> {
    fn run(self, set: Instructions) {
        SCRATCH.with_borrow_mut(|(tiles, panels)| set.run(WithScratch { outer: self, tiles, panels }));
    }
}

struct WithScratch<'a, 'b, 'c> {
    outer: Outer<'a, 'b>,
    tiles: &'c mut Vec<f32>,
    panels: &'c mut Lines,
}

impl WithSimd for WithScratch<'_, '_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let WithScratch { outer: Outer { a, lefts, rights }, tiles, panels: panels_of_b } = self;
        for block in (0..a.nrows()).step_by(BLOCK) {
            let depth = BLOCK.min(a.nrows() - block);
            let rows = block..block + depth;
            // The room of a tile ends with a cache line to spare, since tiles a power of two apart would share a few sets
            // of the cache.
            let tile_room = depth * TILE_ROWS + 16;
            let room_of = |left: &Left| left.columns.len().div_ceil(TILE_ROWS) * tile_room;
            tiles.resize(lefts.iter().map(room_of).sum(), 0.0);
            let mut rest = tiles.as_mut_slice();
            for left in lefts {
                let own;
                (own, rest) = rest.split_at_mut(room_of(left));
                pack_tiles(a.slice(s![rows.clone(), left.columns.clone()]), tile_room, own);
            }
            for (n, right) in rights.iter_mut().enumerate() {
                let Some(Right { b, out }) = right else { continue };
                let out_width = b.ncols();
                pack_panels(simd, b.slice(s![rows.clone(), ..]), panels_of_b);
                let mut rest = panels_of_b.elements();
                for columns in panels::<S>(out_width) {
                    let panel;
                    (panel, rest) = rest.split_at(depth * columns.len().next_multiple_of(S::F32_LANES));
                    let (panel, _) = S::as_simd_f32s(panel);
                    let mut rest = tiles.as_slice();
                    for left in lefts {
                        let own;
                        (own, rest) = rest.split_at(room_of(left));
                        let Some(row) = left.rows[n] else { continue };
                        let mut out = out.slice_mut(s![row..row + left.columns.len(), ..]);
                        let outs = out.axis_chunks_iter_mut(Axis(0), TILE_ROWS);
                        for (tile, mut out) in own.chunks_exact(tile_room).zip(outs) {
                            let rows = out.nrows();
                            let tile = &tile[..rows * depth];
                            let out = out.as_slice_mut().expect("gradients are in standard layout");
                            let columns = columns.clone();
                            match (columns.len() > S::F32_LANES, panel_vectors::<S>()) {
                                (true, 4) => {
                                    add_tile::<S, 4>(simd, tile, rows, panel, out, out_width, columns)
                                }
                                (true, _) => {
                                    add_tile::<S, 2>(simd, tile, rows, panel, out, out_width, columns)
                                }
                                _ => add_tile::<S, 1>(simd, tile, rows, panel, out, out_width, columns),
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Copies columns in tiles of [`TILE_ROWS`], row by row; the last tile holds the columns that are left.
#[inline(always)]
fn pack_tiles(a: ArrayView2<f32>, tile_room: usize, tiles: &mut [f32]) {
    for (k, row) in a.rows().into_iter().enumerate() {
        let (whole, last) = row.to_slice().expect("rows are contiguous").as_chunks::<TILE_ROWS>();
        let (whole_tiles, last_tile) = tiles.split_at_mut(whole.len() * tile_room);
        for (tile, row) in whole_tiles.chunks_exact_mut(tile_room).zip(whole) {
            tile[k * TILE_ROWS..][..TILE_ROWS].copy_from_slice(row);
        }
        if !last.is_empty() {
            last_tile[k * last.len()..][..last.len()].copy_from_slice(last);
        }
    }
}

/// Copies a block of a right side into panels.
#[inline(always)]
fn pack_panels<S: Simd>(simd: S, b: ArrayView2<f32>, to: &mut Lines) {
    let (depth, width) = b.dim();
    to.resize(depth * width.next_multiple_of(S::F32_LANES));
    let packed = to.elements_mut();
    for (k, row) in b.rows().into_iter().enumerate() {
        let row = row.to_slice().expect("rows are contiguous");
        for columns in panels::<S>(width) {
            let padded = columns.len().next_multiple_of(S::F32_LANES);
            let to = &mut packed[depth * columns.start + k * padded..][..padded];
            let (to, _) = S::as_mut_simd_f32s(to);
            let row = &row[columns];
            match (to.len() > 1, panel_vectors::<S>()) {
                (true, 4) => copy::<S, 4>(simd, row, to),
                (true, _) => copy::<S, 2>(simd, row, to),
                _ => copy::<S, 1>(simd, row, to),
            }
        }
    }
}

/// Copies a row of a panel, filled up with zeros to whole vectors.
#[inline(always)]
fn copy<S: Simd, const V: usize>(simd: S, row: &[f32], to: &mut [S::f32s]) {
    for (v, to) in to.iter_mut().take(V).enumerate() {
        *to = load_at::<S, V>(simd, row, v);
    }
}

/// Adds the product of a tile of packed columns with one panel.
#[inline(always)]
fn add_tile<S: Simd, const V: usize>(
    simd: S,
    tile: &[f32],
    rows: usize,
    panel: &[S::f32s],
    out: &mut [f32],
    out_width: usize,
    columns: Range<usize>,
) {
    let (panel, _) = panel.as_chunks::<V>();
    macro_rules! with_rows {
        ($($rows:literal)*) => {
            match rows {
                $($rows => add_tile_of::<S, V, $rows>(simd, tile.as_chunks().0, panel, out, out_width, columns),)*
                rows => unreachable!("a tile of {rows} rows"),
            }
        };
    }
    with_rows!(1 2 3 4 5 6);
}

#[inline(always)]
#[expect(clippy::needless_range_loop, reason = "iterators would keep the sums in memory")]
fn add_tile_of<S: Simd, const V: usize, const R: usize>(
    simd: S,
    tile: &[[f32; R]],
    panel: &[[S::f32s; V]],
    out: &mut [f32],
    out_width: usize,
    columns: Range<usize>,
) {
    let mut sums = [[simd.splat_f32s(0.0); V]; R];
    for (a, b) in tile.iter().zip(panel) {
        for r in 0..R {
            let a = simd.splat_f32s(a[r]);
            for v in 0..V {
                sums[r][v] = mul_add(simd, a, b[v], sums[r][v]);
            }
        }
    }
    for r in 0..R {
        let row = &mut out[r * out_width..][columns.clone()];
        for v in 0..V {
            let total = simd.add_f32s(load_at::<S, V>(simd, row, v), sums[r][v]);
            store_at::<S, V>(simd, row, v, total);
        }
    }
}

/// `out [M] += sums over the rows of f(row)`, in blocks of [`BLOCK`] rows, with columns divided among threads.
/// `f(n, columns, sums)` adds row n's part to the sums.
pub(crate) fn add_row_sums(
    set: Instructions,
    threads: Threads,
    rows: usize,
    out: ArrayViewMut1<f32>,
    add: impl Fn(usize, Range<usize>, &mut [f32]) + Sync,
) {
    struct Sums<'a, F> {
        rows: usize,
        columns: Range<usize>,
        out: ArrayViewMut2<'a, f32>,
        add: &'a F,
    }
    impl<F: Fn(usize, Range<usize>, &mut [f32])> WithSimd for Sums<'_, F> {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) {
            let Sums { rows, columns, mut out, add } = self;
            let mut sums = [0.0; 256];
            for (part, mut out) in out.axis_chunks_iter_mut(Axis(0), sums.len()).enumerate() {
                let first = columns.start + part * sums.len();
                let sums = &mut sums[..out.nrows()];
                for block in (0..rows).step_by(BLOCK) {
                    sums.fill(0.0);
                    for n in block..rows.min(block + BLOCK) {
                        add(n, first..first + sums.len(), sums);
                    }
                    out.iter_mut().zip(&*sums).for_each(|(out, sum)| *out += sum);
                }
            }
        }
    }
    let share = threads.share(out.len(), 16, rows * out.len());
    let mut out = out.insert_axis(Axis(1));
    threads.run(out.axis_chunks_iter_mut(Axis(0), share).enumerate(), |(n, out)| {
        let columns = n * share..n * share + out.nrows();
        set.run(Sums { rows, columns, out, add: &add });
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::product::tests::{SIZES, assert_close, numbers};
    use gatefold_reference::Failures;
    use ndarray::{Array1, Array2};

    #[test]
    fn outer_products_add_up_over_the_rows_with_the_same_bits_for_any_threads() {
        let mut failures = Failures::new();
        for set in Instructions::available() {
            let sizes = SIZES.into_iter().map(|(a, n, b)| (a, 2 * n, b)).chain([(64, 700, 200), (3, 300, 5)]);
            for (left, rows, right) in sizes {
                failures.check(format!("{set}: {rows} rows, {left} x {right}"), || {
                    let (a, b) = (numbers(rows, left + 2, 7), numbers(rows, right + 3, 8));
                    let (a, b) = (a.slice(s![.., 1..left + 1]), b.slice(s![.., 2..right + 2]));
                    let run = |threads| {
                        let mut out = Array2::from_elem((left, right), 0.5);
                        add_outer(set, Threads::new(threads), a, b, out.view_mut());
                        out
                    };
                    let out = run(1);
                    assert_eq!(out, run(3));
                    for ((m, n), &found) in out.indexed_iter() {
                        let products = (0..rows).map(|k| f64::from(a[[k, m]]) * f64::from(b[[k, n]]));
                        let exact: f64 = 0.5 + products.clone().sum::<f64>();
                        let magnitude = 0.5 + products.map(f64::abs).sum::<f64>();
                        assert_close(found, exact, magnitude, rows + 1, &format!("{m}, {n}"));
                    }
                });
            }
        }
        failures.finish();
    }

    /// Parts of one left side, some with one right side and some with both, give the bits that each gives alone; rows that
    /// belong to none stay.
    #[test]
    fn outer_products_together_have_the_bits_of_each_alone() {
        let mut failures = Failures::new();
        for set in Instructions::available() {
            for (rows, one, two) in [(5, 9, 70), (300, 64, 8), (129, 130, 3)] {
                failures.check(format!("{set}: {rows} rows, {one} and {two} columns"), || {
                    let a = numbers(rows, 41, 1);
                    let (x, h) = (numbers(rows, one, 2), numbers(rows, two, 3));
                    let lefts =
                        [(0..7, [Some(23), None]), (7..30, [Some(0), Some(1)]), (30..41, [None, Some(24)])];
                    let lefts = lefts.map(|(columns, rows)| Left { columns, rows });
                    let zeros = || (Array2::zeros((31, one)), Array2::zeros((36, two)));
                    let (mut w, mut u) = zeros();
                    for left in &lefts {
                        let a = a.slice(s![.., left.columns.clone()]);
                        for (row, b, out) in [(left.rows[0], &x, &mut w), (left.rows[1], &h, &mut u)] {
                            let Some(row) = row else { continue };
                            let out = out.slice_mut(s![row..row + a.ncols(), ..]);
                            add_outer(set, Threads::new(1), a, b.view(), out);
                        }
                    }
                    for threads in [1, 3] {
                        let (mut found_w, mut found_u) = zeros();
                        let right = |b, out| Some(Right { b, out });
                        let mut rights =
                            [right(x.view(), found_w.view_mut()), right(h.view(), found_u.view_mut())];
                        add_outers(set, Threads::new(threads), a.view(), &lefts, &mut rights);
                        assert_eq!((&found_w, &found_u), (&w, &u));
                    }
                });
            }
        }
        failures.finish();
    }

    /// A million rows: the sums stay within 4 u sqrt(K) of the sum of magnitudes, as docs/numerics.md says. In a single
    /// chain they would be off by three times that.
    #[test]
    fn sums_over_a_million_rows_keep_their_accuracy() {
        let rows = 1_000_000;
        let a = Array2::from_shape_fn((rows, 2), |(n, c)| 0.1 + ((n * 7 + c) % 13) as f32 * 1e-3);
        let ones = Array2::from_elem((rows, 1), 1.0);
        let exact: Vec<f64> =
            a.columns().into_iter().map(|column| column.iter().map(|&x| f64::from(x)).sum()).collect();
        let bound = 4.0 * f64::from(f32::EPSILON) / 2.0 * (rows as f64).sqrt();
        for set in Instructions::available() {
            let mut sums = Array1::zeros(2);
            add_row_sums(set, Threads::new(2), rows, sums.view_mut(), |n, columns, sums| {
                sums.iter_mut().zip(a.row(n).slice(s![columns])).for_each(|(sum, a)| *sum += a);
            });
            let mut products = Array2::zeros((2, 1));
            add_outer(set, Threads::new(2), a.view(), ones.view(), products.view_mut());
            for (column, exact) in exact.iter().enumerate() {
                for found in [sums[column], products[[column, 0]]] {
                    let error = (f64::from(found) - exact).abs() / exact;
                    assert!(error <= bound, "{set}: {error} of {bound}");
                }
            }
        }
    }
}
