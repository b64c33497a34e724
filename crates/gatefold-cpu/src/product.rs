//! Matrix products: the innermost loop of everything here.
//!
//! A product's right side is packed once, into panels of a few vectors side by side ([`Packed`]). For a tile of up to
//! [`ROWS`] rows of the left side, the sums of a panel's columns stay in registers while the loop runs along the depth.
//! Each sum is one chain of multiply-adds from first to last, whatever the tile, so a row's result does not depend on
//! the rows around it, nor on how rows are shared among threads.
//!
//! Products that sum over the rows of a sequence, such as the gradient of a weight, are cut into blocks of [`BLOCK`]
//! rows, so that the rounding errors of a sum over K rows do not grow like K ([`add_outer`]).

use crate::instructions::{Instructions, load, mul_add, store};
use crate::threads::{Threads, split_rows};
use bytemuck::{Pod, Zeroable};
use ndarray::{ArrayView2, ArrayViewMut1, ArrayViewMut2, Axis, s};
use pulp::{Simd, WithSimd};
use std::cell::RefCell;
use std::ops::Range;

/// The most rows of a tile. With four vectors a panel, a tile has 24 sums, which leaves eight of 32 registers for its
/// operands; with 16 registers a panel has two.
const ROWS: usize = 6;

/// The rows that a sum over a sequence takes at a time. A block of a panel, 32 KiB with AVX-512, fits the first cache.
const BLOCK: usize = 128;

/// The vectors of a panel.
const fn panel_vectors<S: Simd>() -> usize {
    if S::REGISTER_COUNT >= 32 { 4 } else { 2 }
}

/// One cache line, so that vectors do not straddle two.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C, align(64))]
struct Line([f32; 16]);

/// The right side `B [K, N]` of a product, in the order in which the kernel reads it.
///
/// Panels of [`panel_vectors`] vectors come first, then the remaining columns in panels of one vector, the last filled
/// up with zeros. A panel holds its columns of row 0, then of row 1, and so on. A matrix with very few columns is kept
/// column by column instead, and its products run along the depth.
#[derive(Clone, Debug, Default)]
pub(crate) struct Packed {
    depth: usize,
    width: usize,
    lines: Vec<Line>,
}

/// The columns from one on of a matrix in standard layout.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Columns<'a> {
    pub(crate) elements: &'a [f32],
    /// All columns of the matrix.
    pub(crate) width: usize,
    pub(crate) first: usize,
}

/// [`Columns`], to write.
#[derive(Debug)]
pub(crate) struct ColumnsMut<'a> {
    pub(crate) elements: &'a mut [f32],
    pub(crate) width: usize,
    pub(crate) first: usize,
}

impl<'a> Columns<'a> {
    /// All columns of a matrix.
    pub(crate) fn all(elements: &'a [f32], width: usize) -> Self {
        Columns { elements, width, first: 0 }
    }
}

impl<'a> ColumnsMut<'a> {
    /// All columns of a matrix.
    pub(crate) fn all(elements: &'a mut [f32], width: usize) -> Self {
        ColumnsMut { elements, width, first: 0 }
    }
}

/// The value to which a product is added.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Start<'a> {
    Zero,
    /// The same row, `[N]`, for each row.
    Row(&'a [f32]),
    /// What the output holds.
    Output,
}

impl Packed {
    /// Packs `B [K, N]`, of which `row(k)` says where row k lies: `B[k, n] = from[row(k)][n]`.
    fn pack(&mut self, set: Instructions, depth: usize, width: usize, element: impl Fn(usize, usize) -> f32) {
        struct Pack<'a, F> {
            to: &'a mut Packed,
            element: F,
        }
        impl<F: Fn(usize, usize) -> f32> WithSimd for Pack<'_, F> {
            type Output = ();

            #[inline(always)]
            fn with_simd<S: Simd>(self, _: S) {
                let Pack { to, element } = self;
                let (depth, width) = (to.depth, to.width);
                if is_narrow::<S>(depth, width) {
                    to.resize(depth * width);
                    for (n, column) in
                        to.elements_mut().chunks_exact_mut(depth.max(1)).take(width).enumerate()
                    {
                        column.iter_mut().enumerate().for_each(|(k, to)| *to = element(k, n));
                    }
                    return;
                }
                to.resize(depth * width.next_multiple_of(S::F32_LANES));
                let mut rest = to.elements_mut();
                for columns in panels::<S>(width) {
                    let panel;
                    (panel, rest) = rest.split_at_mut(depth * columns.len().next_multiple_of(S::F32_LANES));
                    let width = columns.len().next_multiple_of(S::F32_LANES);
                    // Eight rows at a time: the source may be transposed, where its columns are far apart.
                    for (block, rows) in panel.chunks_mut(8 * width).enumerate() {
                        for (at, n) in columns.clone().enumerate() {
                            for (k, row) in rows.chunks_exact_mut(width).enumerate() {
                                row[at] = element(8 * block + k, n);
                            }
                        }
                        if columns.len() < width {
                            rows.chunks_exact_mut(width).for_each(|row| row[columns.len()..].fill(0.0));
                        }
                    }
                }
            }
        }
        (self.depth, self.width) = (depth, width);
        set.run(Pack { to: self, element });
    }

    /// Packs `W^T [K, N]` for `x W^T`, from these rows of `W [.., K]`.
    pub(crate) fn pack_transposed(&mut self, set: Instructions, w: ArrayView2<f32>, rows: &[Range<usize>]) {
        let at = indices(rows);
        let elements = w.as_slice().expect("weights are in standard layout");
        let depth = w.ncols();
        self.pack(set, depth, at.len(), |k, n| elements[at[n] * depth + k]);
    }

    /// Packs `W [K, N]` for `d W`, from these rows of `W [.., N]`.
    pub(crate) fn pack_rows(&mut self, set: Instructions, w: ArrayView2<f32>, rows: &[Range<usize>]) {
        let at = indices(rows);
        let elements = w.as_slice().expect("weights are in standard layout");
        let width = w.ncols();
        self.pack(set, at.len(), width, |k, n| elements[at[k] * width + n]);
    }

    /// N
    pub(crate) fn width(&self) -> usize {
        self.width
    }

    fn resize(&mut self, elements: usize) {
        self.lines.resize(elements.div_ceil(16), Line::zeroed());
    }

    fn elements(&self) -> &[f32] {
        bytemuck::cast_slice(&self.lines)
    }

    fn elements_mut(&mut self) -> &mut [f32] {
        bytemuck::cast_slice_mut(&mut self.lines)
    }

    /// `out = start + A B`, for K columns of `a` and N of `out`, which have the same number of rows.
    pub(crate) fn multiply(&self, set: Instructions, a: Columns, start: Start, out: ColumnsMut) {
        debug_assert_eq!(a.elements.len() / a.width, out.elements.len() / out.width, "as many rows");
        set.run(Multiply { a, b: self, start, out });
    }
}

/// The indices in these ranges, in order.
fn indices(ranges: &[Range<usize>]) -> Vec<usize> {
    ranges.iter().cloned().flatten().collect()
}

/// Whether a matrix has so few columns that most of a vector would be padding.
const fn is_narrow<S: Simd>(depth: usize, width: usize) -> bool {
    width * 4 <= S::F32_LANES && depth >= S::F32_LANES
}

/// The columns of each panel.
#[inline(always)]
fn panels<S: Simd>(width: usize) -> impl Iterator<Item = Range<usize>> {
    let wide = panel_vectors::<S>() * S::F32_LANES;
    let whole = width / wide * wide;
    let wide = (0..whole).step_by(wide).map(move |n| n..n + wide);
    wide.chain((whole..width).step_by(S::F32_LANES).map(move |n| n..(n + S::F32_LANES).min(width)))
}

/// The work of [`Packed::multiply`].
struct Multiply<'a> {
    a: Columns<'a>,
    b: &'a Packed,
    start: Start<'a>,
    out: ColumnsMut<'a>,
}

impl WithSimd for Multiply<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Multiply { a, b, start, out } = self;
        if is_narrow::<S>(b.depth, b.width) {
            return narrow(simd, a, b, start, out);
        }
        let mut rest = b.elements();
        for columns in panels::<S>(b.width) {
            let panel;
            (panel, rest) = rest.split_at(b.depth * columns.len().next_multiple_of(S::F32_LANES));
            let (panel, _) = S::as_simd_f32s(panel);
            let start = match start {
                Start::Zero => Start::Zero,
                Start::Row(row) => Start::Row(&row[columns.clone()]),
                Start::Output => Start::Output,
            };
            let out = ColumnsMut { elements: &mut *out.elements, first: out.first + columns.start, ..out };
            match (columns.len() > S::F32_LANES, panel_vectors::<S>()) {
                (true, 4) => rows_of_panel::<S, 4>(simd, a, panel, start, out, columns.len()),
                (true, _) => rows_of_panel::<S, 2>(simd, a, panel, start, out, columns.len()),
                _ => rows_of_panel::<S, 1>(simd, a, panel, start, out, columns.len()),
            }
        }
    }
}

/// The product with a matrix of very few columns: each element is a sum along the depth.
#[inline(always)]
fn narrow<S: Simd>(simd: S, a: Columns, b: &Packed, start: Start, out: ColumnsMut) {
    for (a_row, out_row) in a.elements.chunks_exact(a.width).zip(out.elements.chunks_exact_mut(out.width)) {
        let a_row = &a_row[a.first..][..b.depth];
        for (n, column) in b.elements().chunks_exact(b.depth).take(b.width).enumerate() {
            let to = &mut out_row[out.first + n];
            let start = match start {
                Start::Zero => 0.0,
                Start::Row(row) => row[n],
                Start::Output => *to,
            };
            *to = start + dot(simd, a_row, column);
        }
    }
}

/// The sum of the products of two rows' elements.
#[inline(always)]
fn dot<S: Simd>(simd: S, a: &[f32], b: &[f32]) -> f32 {
    let b = &b[..a.len()];
    let ((a, a_rest), (b, b_rest)) = (S::as_simd_f32s(a), S::as_simd_f32s(b));
    let ((a, a_last), (b, b_last)) = (a.as_chunks::<4>(), b.as_chunks::<4>());
    let mut sums = [simd.splat_f32s(0.0); 4];
    for (a, b) in a.iter().zip(b) {
        for (v, sum) in sums.iter_mut().enumerate() {
            *sum = mul_add(simd, a[v], b[v], *sum);
        }
    }
    let [mut sum, two, three, four] = sums;
    for (&a, &b) in a_last.iter().zip(b_last) {
        sum = mul_add(simd, a, b, sum);
    }
    let part = |rest: &[f32]| simd.partial_load_f32s(rest);
    sum = mul_add(simd, part(a_rest), part(b_rest), sum);
    simd.reduce_sum_f32s(simd.add_f32s(simd.add_f32s(sum, two), simd.add_f32s(three, four)))
}

/// The rows of a product, in tiles, for one panel of `V` vectors and `columns` columns.
#[inline(always)]
fn rows_of_panel<S: Simd, const V: usize>(
    simd: S,
    a: Columns,
    panel: &[S::f32s],
    start: Start,
    out: ColumnsMut,
    columns: usize,
) {
    let (panel, _) = panel.as_chunks::<V>();
    let rows = out.elements.len() / out.width;
    // Tiles of about equal height: 8 rows are 4 and 4, not 6 and 2.
    let height = rows.div_ceil(rows.div_ceil(ROWS).max(1)).max(1);
    let tiles = a.elements.chunks(height * a.width).zip(out.elements.chunks_mut(height * out.width));
    for (a_rows, out_rows) in tiles {
        let (a, out) = (Columns { elements: a_rows, ..a }, ColumnsMut { elements: out_rows, ..out });
        macro_rules! tile {
            ($($rows:literal)*) => {
                match out.elements.len() / out.width {
                    $($rows => tile::<S, V, $rows>(simd, a, panel, start, out, columns),)*
                    rows => unreachable!("a tile of {rows} rows"),
                }
            };
        }
        tile!(1 2 3 4 5 6);
    }
}

/// One tile: `R` rows and the columns of one panel.
#[inline(always)]
#[expect(clippy::needless_range_loop, reason = "see below")]
fn tile<S: Simd, const V: usize, const R: usize>(
    simd: S,
    a: Columns,
    panel: &[[S::f32s; V]],
    start: Start,
    out: ColumnsMut,
    columns: usize,
) {
    let rows: [&[f32]; R] = std::array::from_fn(|r| &a.elements[r * a.width + a.first..][..panel.len()]);
    // An array of registers. Loops over it go by index and call no closure, since the compiler keeps what others touch
    // in memory.
    let mut sums = [[simd.splat_f32s(0.0); V]; R];
    match start {
        Start::Zero => {}
        Start::Row(row) => {
            for r in 0..R {
                for v in 0..V {
                    sums[r][v] = load_at::<S, V>(simd, row, v);
                }
            }
        }
        Start::Output => {
            for r in 0..R {
                let row = &out.elements[r * out.width + out.first..][..columns];
                for v in 0..V {
                    sums[r][v] = load_at::<S, V>(simd, row, v);
                }
            }
        }
    }
    for (k, b) in panel.iter().enumerate() {
        for r in 0..R {
            let a = simd.splat_f32s(rows[r][k]);
            for v in 0..V {
                sums[r][v] = mul_add(simd, a, b[v], sums[r][v]);
            }
        }
    }
    for r in 0..R {
        let row = &mut out.elements[r * out.width + out.first..][..columns];
        for v in 0..V {
            store_at::<S, V>(simd, row, v, sums[r][v]);
        }
    }
}

/// One vector of a row's part of a panel of `V`; that of a panel of one may be short.
#[inline(always)]
fn load_at<S: Simd, const V: usize>(simd: S, row: &[f32], v: usize) -> S::f32s {
    if V > 1 { S::as_simd_f32s(&row[..V * S::F32_LANES]).0[v] } else { load(simd, row) }
}

#[inline(always)]
fn store_at<S: Simd, const V: usize>(simd: S, row: &mut [f32], v: usize, values: S::f32s) {
    if V > 1 {
        S::as_mut_simd_f32s(&mut row[..V * S::F32_LANES]).0[v] = values;
    } else {
        store(simd, row, values);
    }
}

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
    if b.ncols() < 8 && a.ncols() > b.ncols() {
        let mut turned = ndarray::Array2::zeros((b.ncols(), a.ncols()));
        add_outer(set, threads, b, a, turned.view_mut());
        out += &turned.t();
        return;
    }
    let ranges = threads.ranges(a.ncols(), ROWS, a.len() * b.ncols());
    let parts = split_rows(out, &ranges);
    threads.run(ranges.into_iter().zip(parts), |(columns, out)| {
        SCRATCH.with_borrow_mut(|scratch| {
            set.run(Outer { a: a.slice(s![.., columns]), b, out, scratch });
        });
    });
}

thread_local! {
    /// Room for a block's tiles and panels, kept between products.
    static SCRATCH: RefCell<(Vec<f32>, Packed)> = const { RefCell::new((Vec::new(), Packed::EMPTY)) };
}

impl Packed {
    const EMPTY: Packed = Packed { depth: 0, width: 0, lines: Vec::new() };
}

/// One thread's work of [`add_outer`].
struct Outer<'a> {
    a: ArrayView2<'a, f32>,
    b: ArrayView2<'a, f32>,
    out: ArrayViewMut2<'a, f32>,
    scratch: &'a mut (Vec<f32>, Packed),
}

impl WithSimd for Outer<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Outer { a, b, mut out, scratch: (tiles, panels_of_b) } = self;
        let (width, columns) = (a.ncols(), b.ncols());
        let out_width = columns;
        for block in (0..a.nrows()).step_by(BLOCK) {
            let depth = BLOCK.min(a.nrows() - block);
            let (a, b) = (a.slice(s![block..block + depth, ..]), b.slice(s![block..block + depth, ..]));
            // Tiles: ROWS columns of a, row by row; the last tile holds the columns that are left.
            tiles.resize(BLOCK * width, 0.0);
            for (k, row) in a.rows().into_iter().enumerate() {
                let (whole, last) = row.to_slice().expect("rows are contiguous").as_chunks::<ROWS>();
                for (tile, row) in whole.iter().enumerate() {
                    tiles[(tile * depth + k) * ROWS..][..ROWS].copy_from_slice(row);
                }
                tiles[whole.len() * depth * ROWS + k * last.len()..][..last.len()].copy_from_slice(last);
            }
            (panels_of_b.depth, panels_of_b.width) = (depth, columns);
            panels_of_b.resize(depth * columns.next_multiple_of(S::F32_LANES));
            let mut rest = panels_of_b.elements_mut();
            for columns in panels::<S>(columns) {
                let panel;
                let padded = columns.len().next_multiple_of(S::F32_LANES);
                (panel, rest) = rest.split_at_mut(depth * padded);
                for (row, to) in b.rows().into_iter().zip(panel.chunks_exact_mut(padded)) {
                    let row = row.to_slice().expect("rows are contiguous");
                    to[..columns.len()].copy_from_slice(&row[columns.clone()]);
                    to[columns.len()..].fill(0.0);
                }
            }
            let mut rest = panels_of_b.elements();
            for columns in panels::<S>(columns) {
                let panel;
                (panel, rest) = rest.split_at(depth * columns.len().next_multiple_of(S::F32_LANES));
                let (panel, _) = S::as_simd_f32s(panel);
                for (tile, mut out) in out.axis_chunks_iter_mut(Axis(0), ROWS).enumerate() {
                    let rows = out.nrows();
                    let tile = &tiles[tile * ROWS * depth..][..rows * depth];
                    let out = out.as_slice_mut().expect("gradients are in standard layout");
                    let columns = columns.clone();
                    match (columns.len() > S::F32_LANES, panel_vectors::<S>()) {
                        (true, 4) => add_tile::<S, 4>(simd, tile, rows, panel, out, out_width, columns),
                        (true, _) => add_tile::<S, 2>(simd, tile, rows, panel, out, out_width, columns),
                        _ => add_tile::<S, 1>(simd, tile, rows, panel, out, out_width, columns),
                    }
                }
            }
        }
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
#[expect(clippy::needless_range_loop, reason = "see `tile`")]
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
    let ranges = threads.ranges(out.len(), 16, rows * out.len());
    let parts = split_rows(out.insert_axis(Axis(1)), &ranges);
    threads.run(ranges.into_iter().zip(parts), |(columns, out)| {
        set.run(Sums { rows, columns, out, add: &add });
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use gatefold_reference::Failures;
    use ndarray::{Array1, Array2};

    /// Numbers of every size and sign, the same each time.
    fn numbers(rows: usize, columns: usize, seed: usize) -> Array2<f32> {
        Array2::from_shape_fn((rows, columns), |(r, c)| {
            let n = ((r * columns + c + 1) * 2_654_435_761 + seed * 40_503) % 65_521;
            n as f32 / 32_760.0 - 1.0
        })
    }

    /// `sum |a| |b| u (K + 2)`: the bound for a sum of K products, in any order.
    fn assert_close(found: f32, exact: f64, magnitude: f64, terms: usize, at: &str) {
        let bound = magnitude * f64::from(f32::EPSILON) / 2.0 * (terms + 2) as f64;
        assert!((f64::from(found) - exact).abs() <= bound, "{at}: {found}, expected {exact} within {bound}");
    }

    const SIZES: [(usize, usize, usize); 9] = [
        (1, 1, 1),
        (1, 100, 400),
        (2, 16, 3),
        (3, 17, 1),
        (5, 7, 65),
        (6, 64, 64),
        (7, 3, 31),
        (13, 33, 130),
        (20, 129, 79),
    ];

    /// Every start, columns inside wider matrices, weights as they are and transposed, whole and by blocks of rows.
    #[test]
    fn products_are_sums_of_products() {
        let mut failures = Failures::new();
        for set in Instructions::available() {
            for (rows, depth, width) in SIZES {
                failures.check(format!("{set}: {rows} x {depth} x {width}"), || {
                    let (a, w) = (numbers(rows, depth + 5, 1), numbers(width, depth, 2));
                    let row = numbers(1, width, 3).into_raw_vec_and_offset().0;
                    let before = numbers(rows, width + 4, 4);
                    let half = width / 2;
                    let (mut transposed, mut plain) = (Packed::default(), Packed::default());
                    transposed.pack_transposed(set, w.view(), &[half..width, 0..half]);
                    let order: Vec<usize> = (half..width).chain(0..half).collect();
                    let turned = w.select(Axis(0), &order).t().as_standard_layout().into_owned();
                    plain.pack_rows(set, turned.view(), &[0..depth / 2, depth / 2..depth]);
                    for start in [Start::Zero, Start::Row(&row), Start::Output] {
                        let run = |packed: &Packed| {
                            let mut out = before.clone();
                            let a = Columns { elements: a.as_slice().unwrap(), width: depth + 5, first: 2 };
                            let elements = out.as_slice_mut().unwrap();
                            packed.multiply(
                                set,
                                a,
                                start,
                                ColumnsMut { elements, width: width + 4, first: 3 },
                            );
                            out
                        };
                        let out = run(&transposed);
                        assert_eq!(out, run(&plain), "{start:?}");
                        for r in 0..rows {
                            for c in 0..width + 4 {
                                if !(3..width + 3).contains(&c) {
                                    assert_eq!(out[[r, c]], before[[r, c]], "other columns stay");
                                    continue;
                                }
                                let n = c - 3;
                                let first = match start {
                                    Start::Zero => 0.0,
                                    Start::Row(row) => row[n],
                                    Start::Output => before[[r, c]],
                                };
                                let products = (0..depth)
                                    .map(|k| f64::from(a[[r, k + 2]]) * f64::from(w[[order[n], k]]));
                                let products: Vec<f64> = products.chain([f64::from(first)]).collect();
                                let magnitude = products.iter().map(|product| product.abs()).sum();
                                let exact = products.iter().sum();
                                let at = format!("{start:?}, row {r}, column {c}");
                                assert_close(out[[r, c]], exact, magnitude, depth + 1, &at);
                            }
                        }
                    }
                });
            }
        }
        failures.finish();
    }

    /// A row has the same bits alone and among others.
    #[test]
    fn a_row_does_not_depend_on_the_others() {
        for set in Instructions::available() {
            for (_, depth, width) in SIZES {
                let (a, w) = (numbers(14, depth, 5), numbers(width, depth, 6));
                let mut packed = Packed::default();
                packed.pack_transposed(set, w.view(), &[0..1, 1..width]);
                let run = |a: &[f32]| {
                    let mut out = vec![0.0; a.len() / depth * width];
                    packed.multiply(
                        set,
                        Columns::all(a, depth),
                        Start::Zero,
                        ColumnsMut::all(&mut out, width),
                    );
                    out
                };
                let together = run(a.as_slice().unwrap());
                for (row, together) in a.rows().into_iter().zip(together.chunks_exact(width)) {
                    assert_eq!(run(row.to_slice().unwrap()), together, "{set}: {depth} x {width}");
                }
            }
        }
    }

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

    /// A million rows: the sums stay within 4 u sqrt(K) of the sum of magnitudes, as docs/numerics.md says, where adding
    /// row after row was off by a percent.
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
