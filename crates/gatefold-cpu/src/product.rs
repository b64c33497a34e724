//! Matrix products: the innermost loop of everything here.
//!
//! A product's right side is packed once, into panels of a few vectors side by side ([`Packed`]). For a tile of up to
//! [`TILE_ROWS`] rows of the left side, the sums of a panel's columns stay in registers while the loop runs along the depth.
//! Each sum is one chain of multiply-adds from first to last, whatever the tile (with very few columns, a fixed number of
//! chains), so a row's result does not depend on the rows around it, nor on how rows are shared among threads.
//!
//! Sums over the rows of a sequence are in [`crate::outer`].

use crate::instructions::{Instructions, load, mul_add, store};
use bytemuck::{Pod, Zeroable};
use ndarray::{ArrayView2, ArrayView3};
use pulp::{Simd, WithSimd};
use std::ops::Range;

/// The most rows of a tile. With four vectors a panel, a tile has 24 sums, which leaves eight of 32 registers for its
/// operands; with 16 registers a panel has two.
pub(crate) const TILE_ROWS: usize = 6;

/// The vectors of a panel.
pub(crate) const fn panel_vectors<S: Simd>() -> usize {
    if S::REGISTER_COUNT >= 32 { 4 } else { 2 }
}

/// One cache line, so that vectors do not straddle two.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C, align(64))]
struct Line([f32; 16]);

/// Elements from the beginning of a cache line on.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lines(Vec<Line>);

impl Lines {
    pub(crate) const EMPTY: Lines = Lines(Vec::new());

    /// Makes room for this many elements.
    pub(crate) fn resize(&mut self, elements: usize) {
        self.0.resize(elements.div_ceil(16), Line::zeroed());
    }

    pub(crate) fn elements(&self) -> &[f32] {
        bytemuck::cast_slice(&self.0)
    }

    pub(crate) fn elements_mut(&mut self) -> &mut [f32] {
        bytemuck::cast_slice_mut(&mut self.0)
    }
}

/// The right side `B [K, N]` of a product, in the order in which the kernel reads it.
///
/// Panels of [`panel_vectors`] vectors come first, then the remaining columns in panels of one vector, the last filled
/// up with zeros. A panel holds its columns of row 0, then of row 1, and so on. A matrix with very few columns is kept
/// column by column instead, and its products run along the depth.
#[derive(Clone, Debug, Default)]
pub(crate) struct Packed {
    depth: usize,
    width: usize,
    lines: Lines,
    /// Room for the rows' indices while it is packed, kept until the next time.
    indices: Vec<usize>,
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
    /// The output's own values.
    Output,
}

impl Packed {
    /// Packs `B [K, N]`, `B[k, n] = element(k, n)`.
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
                    to.lines.resize(depth * width);
                    for (n, column) in
                        to.lines.elements_mut().chunks_exact_mut(depth.max(1)).take(width).enumerate()
                    {
                        column.iter_mut().enumerate().for_each(|(k, to)| *to = element(k, n));
                    }
                    return;
                }
                to.lines.resize(depth * width.next_multiple_of(S::F32_LANES));
                let mut rest = to.lines.elements_mut();
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

    /// The indices in these ranges, in order, in the list that is kept for them.
    fn take_indices(&mut self, ranges: &[Range<usize>]) -> Vec<usize> {
        let mut indices = std::mem::take(&mut self.indices);
        indices.clear();
        indices.extend(ranges.iter().cloned().flatten());
        indices
    }

    /// Packs `W^T [K, N]` for `x W^T`, from these rows of `W [.., K]`.
    pub(crate) fn pack_transposed(&mut self, set: Instructions, w: ArrayView2<f32>, rows: &[Range<usize>]) {
        let at = self.take_indices(rows);
        let elements = w.as_slice().expect("weights are in standard layout");
        let depth = w.ncols();
        self.pack(set, depth, at.len(), |k, n| elements[at[n] * depth + k]);
        self.indices = at;
    }

    /// Packs `W [K, N]` for `d W`, from these rows of `W [.., N]`.
    pub(crate) fn pack_rows(&mut self, set: Instructions, w: ArrayView2<f32>, rows: &[Range<usize>]) {
        let at = self.take_indices(rows);
        let elements = w.as_slice().expect("weights are in standard layout");
        let width = w.ncols();
        self.pack(set, at.len(), width, |k, n| elements[at[k] * width + n]);
        self.indices = at;
    }

    /// Packs the weight of a convolution, `W [O, I, K]`, as `W^T [K I, O]`.
    pub(crate) fn pack_conv_transposed(&mut self, set: Instructions, w: ArrayView3<f32>) {
        let (output, input, kernel) = w.dim();
        let elements = w.to_slice().expect("weights are in standard layout");
        let element = |at: usize, o: usize| elements[(o * input + at % input) * kernel + at / input];
        self.pack(set, kernel * input, output, element);
    }

    /// Packs the weight of a convolution, `W [O, I, K]`, as `W [O, K I]`.
    pub(crate) fn pack_conv_rows(&mut self, set: Instructions, w: ArrayView3<f32>) {
        let (output, input, kernel) = w.dim();
        let elements = w.to_slice().expect("weights are in standard layout");
        let element = |o: usize, at: usize| elements[(o * input + at % input) * kernel + at / input];
        self.pack(set, output, kernel * input, element);
    }

    /// K
    pub(crate) fn depth(&self) -> usize {
        self.depth
    }

    /// N
    pub(crate) fn width(&self) -> usize {
        self.width
    }

    /// `out = start + A B`, for K columns of `a` and N of `out`, which have the same number of rows.
    pub(crate) fn multiply(&self, set: Instructions, a: Columns, start: Start, out: ColumnsMut) {
        self.multiply_columns(set, 0..self.width, a, start, out);
    }

    /// These columns of [`Packed::multiply`]. Their ends are the last column or multiples of 64, where panels end.
    pub(crate) fn multiply_columns(
        &self,
        set: Instructions,
        columns: Range<usize>,
        a: Columns,
        start: Start,
        out: ColumnsMut,
    ) {
        debug_assert_eq!(a.elements.len() / a.width, out.elements.len() / out.width, "as many rows");
        set.run(Multiply { a, b: self, columns, start, out });
    }
}

/// Whether a matrix has so few columns that most of a vector would be padding.
const fn is_narrow<S: Simd>(depth: usize, width: usize) -> bool {
    width * 4 <= S::F32_LANES && depth >= S::F32_LANES
}

/// The columns of each panel.
#[inline(always)]
pub(crate) fn panels<S: Simd>(width: usize) -> impl Iterator<Item = Range<usize>> {
    let wide = panel_vectors::<S>() * S::F32_LANES;
    let whole = width / wide * wide;
    let wide = (0..whole).step_by(wide).map(move |n| n..n + wide);
    wide.chain((whole..width).step_by(S::F32_LANES).map(move |n| n..(n + S::F32_LANES).min(width)))
}

/// The work of [`Packed::multiply`].
struct Multiply<'a> {
    a: Columns<'a>,
    b: &'a Packed,
    columns: Range<usize>,
    start: Start<'a>,
    out: ColumnsMut<'a>,
}

impl WithSimd for Multiply<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Multiply { a, b, columns: wanted, start, out } = self;
        if is_narrow::<S>(b.depth, b.width) {
            return narrow(simd, a, b, start, out);
        }
        let mut rest = b.lines.elements();
        for columns in panels::<S>(b.width) {
            let panel;
            (panel, rest) = rest.split_at(b.depth * columns.len().next_multiple_of(S::F32_LANES));
            if columns.start < wanted.start || columns.start >= wanted.end {
                continue;
            }
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
        for (n, column) in b.lines.elements().chunks_exact(b.depth).take(b.width).enumerate() {
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
    let height = rows.div_ceil(rows.div_ceil(TILE_ROWS).max(1)).max(1);
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
#[expect(clippy::needless_range_loop, reason = "iterators would keep the sums in memory")]
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
pub(crate) fn load_at<S: Simd, const V: usize>(simd: S, row: &[f32], v: usize) -> S::f32s {
    if V > 1 { S::as_simd_f32s(&row[..V * S::F32_LANES]).0[v] } else { load(simd, row) }
}

#[inline(always)]
pub(crate) fn store_at<S: Simd, const V: usize>(simd: S, row: &mut [f32], v: usize, values: S::f32s) {
    if V > 1 {
        S::as_mut_simd_f32s(&mut row[..V * S::F32_LANES]).0[v] = values;
    } else {
        store(simd, row, values);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use gatefold_reference::Failures;
    use ndarray::{Array2, Axis};

    /// Numbers of every size and sign, the same each time.
    pub(crate) fn numbers(rows: usize, columns: usize, seed: usize) -> Array2<f32> {
        Array2::from_shape_fn((rows, columns), |(r, c)| {
            let n = ((r * columns + c + 1) * 2_654_435_761 + seed * 40_503) % 65_521;
            n as f32 / 32_760.0 - 1.0
        })
    }

    /// `sum |a| |b| u (K + 2)`: the bound for a sum of K products, in any order.
    pub(crate) fn assert_close(found: f32, exact: f64, magnitude: f64, terms: usize, at: &str) {
        let bound = magnitude * f64::from(f32::EPSILON) / 2.0 * (terms + 2) as f64;
        assert!((f64::from(found) - exact).abs() <= bound, "{at}: {found}, expected {exact} within {bound}");
    }

    pub(crate) const SIZES: [(usize, usize, usize); 9] = [
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
}
