//! The layers around recurrent ones: embeddings, softmax, dropout, and moves of rows and steps.

use crate::Real;
use ndarray::{Array2, Array3, ArrayView2, ArrayView3, Axis, Zip};

/// The token that a number stands for, clamped to the table. NaN is token 0.
fn token_of<R: Real>(number: R, tokens: usize) -> usize {
    (number.to_f64() as usize).min(tokens - 1)
}

/// An embedding: `out[r] = table[token(r)]`, `[N]` numbers and `[tokens, W]` to `[N, W]`.
pub fn gather_rows<R: Real>(numbers: &[R], table: ArrayView2<R>) -> Array2<R> {
    let tokens = table.nrows();
    Array2::from_shape_fn((numbers.len(), table.ncols()), |(r, c)| table[[token_of(numbers[r], tokens), c]])
}

/// The backward of [`gather_rows`]: `d_table[token(r)] += d[r]`, rows in order.
pub fn scatter_rows<R: Real>(numbers: &[R], d: ArrayView2<R>, d_table: &mut Array2<R>) {
    let tokens = d_table.nrows();
    for (&number, d) in numbers.iter().zip(d.rows()) {
        let mut row = d_table.row_mut(token_of(number, tokens));
        row += &d;
    }
}

/// One digit of the tokens in a radix sort of rows, lowest digit first. A block has as many rows as a digit has values.
#[derive(Clone, Copy, Debug)]
pub struct Digit {
    /// The number of tokens.
    pub tokens: usize,
    /// The number of bits below the digit.
    pub shift: u32,
    /// The number of its values.
    pub values: usize,
}

impl Digit {
    /// The row at place `p` of an order, or `p` without one, and its digit.
    fn at<R: Real>(&self, numbers: &[R], order: Option<&[usize]>, p: usize) -> (usize, usize) {
        let row = order.map_or(p, |order| order[p]);
        (row, (token_of(numbers[row], self.tokens) >> self.shift) % self.values)
    }
}

/// The number of rows in each block with each value of the digit: `[blocks, values]`.
pub fn row_counts<R: Real>(numbers: &[R], order: Option<&[usize]>, digit: Digit) -> Array2<usize> {
    let mut counts = Array2::zeros((numbers.len().div_ceil(digit.values), digit.values));
    for p in 0..numbers.len() {
        counts[[p / digit.values, digit.at(numbers, order, p).1]] += 1;
    }
    counts
}

/// For each block and value, the number of rows with that value in earlier blocks; after the blocks, the number of rows
/// with a smaller value: `[blocks + 1, values]`.
pub fn row_places(counts: &Array2<usize>) -> Array2<usize> {
    let (blocks, values) = counts.dim();
    Array2::from_shape_fn((blocks + 1, values), |(block, value)| {
        if block < blocks {
            (0..block).map(|before| counts[[before, value]]).sum()
        } else {
            (0..value).map(|smaller| counts.column(smaller).sum()).sum()
        }
    })
}

/// The rows sorted stably by the digit.
///
/// # Panics
/// If the places are not those of [`row_places`].
pub fn place_rows<R: Real>(
    numbers: &[R],
    order: Option<&[usize]>,
    digit: Digit,
    places: &Array2<usize>,
) -> Vec<usize> {
    let blocks = places.nrows() - 1;
    let mut sorted = vec![usize::MAX; numbers.len()];
    for p in 0..numbers.len() {
        let block = p / digit.values;
        let (row, value) = digit.at(numbers, order, p);
        let rank = (block * digit.values..p).filter(|&q| digit.at(numbers, order, q).1 == value).count();
        let place = places[[blocks, value]] + places[[block, value]] + rank;
        assert_eq!(sorted[place], usize::MAX, "no two rows go to one place");
        sorted[place] = row;
    }
    sorted
}

/// The sums of runs of one token within stretches of `stretch` places, stored where a run or a stretch begins; the
/// other rows of `sums [N, W]` stay unchanged.
pub fn run_sums<R: Real>(
    numbers: &[R],
    order: &[usize],
    tokens: usize,
    d: ArrayView2<R>,
    stretch: usize,
    sums: &mut Array2<R>,
) {
    let token = |p: usize| token_of(numbers[order[p]], tokens);
    let mut first = 0;
    for (p, &row) in order.iter().enumerate() {
        if p % stretch == 0 || token(p) != token(p - 1) {
            first = p;
            sums.row_mut(p).fill(R::ZERO);
        }
        let mut sum = sums.row_mut(first);
        sum += &d.row(row);
    }
}

/// Adds the sums of [`run_sums`] to the rows of their tokens, after adding the stretches of a run in order.
pub fn add_runs<R: Real>(
    numbers: &[R],
    order: &[usize],
    sums: ArrayView2<R>,
    stretch: usize,
    d_table: &mut Array2<R>,
) {
    let tokens = d_table.nrows();
    let token = |p: usize| token_of(numbers[order[p]], tokens);
    let mut p = 0;
    while p < order.len() {
        let run = token(p);
        let mut sum = sums.row(p).to_owned();
        let end = (p..order.len()).find(|&q| token(q) != run).unwrap_or(order.len());
        for q in (p + 1..end).filter(|q| q % stretch == 0) {
            sum += &sums.row(q);
        }
        let mut row = d_table.row_mut(run);
        row += &sum;
        p = end;
    }
}

/// `y_k = exp(x_k - max x) / sum_j exp(x_j - max x)` for every row of `[N, F]`. A NaN anywhere in a row makes all of it
/// NaN.
pub fn softmax<R: Real>(x: ArrayView2<R>) -> Array2<R> {
    let mut y = x.to_owned();
    for mut row in y.rows_mut() {
        let largest = row.iter().fold(row[0], |largest, &x| if x > largest { x } else { largest });
        row.mapv_inplace(|x| (x - largest).exp());
        let sum: R = row.sum();
        row.mapv_inplace(|e| e / sum);
    }
    y
}

/// `d_x_k = y_k (d_y_k - sum_j d_y_j y_j)` for every row of `[N, F]`.
pub fn softmax_backward<R: Real>(y: ArrayView2<R>, d_y: ArrayView2<R>) -> Array2<R> {
    let mut d_x = Array2::zeros(y.dim());
    for ((mut d_x, y), d_y) in d_x.rows_mut().into_iter().zip(y.rows()).zip(d_y.rows()) {
        let sum = y.dot(&d_y);
        Zip::from(&mut d_x).and(&y).and(&d_y).for_each(|d_x, &y, &d_y| *d_x = y * (d_y - sum));
    }
    d_x
}

/// Threefry-2x32 with 20 rounds: two random words determined by a key and a counter (Salmon, Moraes, Dror and Shaw,
/// *Parallel random numbers: as easy as 1, 2, 3*, 2011).
pub fn threefry2x32(key: [u32; 2], counter: [u32; 2]) -> [u32; 2] {
    const ROTATIONS: [u32; 8] = [13, 15, 26, 6, 17, 29, 16, 24];
    let keys = [key[0], key[1], 0x1BD1_1BDA ^ key[0] ^ key[1]];
    let mut x = [counter[0].wrapping_add(keys[0]), counter[1].wrapping_add(keys[1])];
    for round in 0..20 {
        x[0] = x[0].wrapping_add(x[1]);
        x[1] = x[1].rotate_left(ROTATIONS[round % 8]) ^ x[0];
        if round % 4 == 3 {
            let injection = round / 4 + 1;
            x[0] = x[0].wrapping_add(keys[injection % 3]);
            x[1] = x[1].wrapping_add(keys[(injection + 1) % 3]).wrapping_add(injection as u32);
        }
    }
    x
}

/// The source of a layer's random zeros.
#[derive(Clone, Copy, Debug)]
pub struct DropoutStream {
    /// The key of the generator.
    pub seed: u64,
    /// The batch's number.
    pub batch: u32,
    /// The layer's index.
    pub layer: u32,
}

impl DropoutStream {
    /// Whether element `index` of the layer's output, in the order `[T, B, F]`, is kept.
    pub fn keeps(&self, index: usize, rate: f32) -> bool {
        let key = [self.seed as u32, (self.seed >> 32) as u32];
        let counter = [(index / 2) as u32, self.batch.wrapping_mul(0x9E37_79B9) ^ self.layer];
        let word = threefry2x32(key, counter)[index % 2];
        (word >> 8) as f32 / (1 << 24) as f32 >= rate
    }
}

/// Sets random elements to zero and divides the others by `1 - rate`; backward does the same to the gradient. `x` are
/// the layer's elements from number `first` on.
pub fn dropout<R: Real>(x: &[R], first: usize, stream: DropoutStream, rate: f32) -> Vec<R> {
    let scale = R::from_f64(f64::from(1.0 / (1.0 - rate)));
    let value =
        |(index, &x): (usize, &R)| if stream.keeps(first + index, rate) { x * scale } else { R::ZERO };
    x.iter().enumerate().map(value).collect()
}

/// `a + b`, element by element.
pub fn add<R: Real>(a: &[R], b: &[R]) -> Vec<R> {
    a.iter().zip(b).map(|(&a, &b)| a + b).collect()
}

/// Sets `x [T, B, F]` to zero where `t >= lengths[b]`.
pub fn mask_rows<R: Real>(lengths: &[usize], x: &mut Array3<R>) {
    for ((t, b, _), x) in x.indexed_iter_mut() {
        if t >= lengths[b] {
            *x = R::ZERO;
        }
    }
}

/// Each row's own last step of `[T, B, F]`; zeros for a row without steps: `[B, F]`.
pub fn last_rows<R: Real>(lengths: &[usize], x: ArrayView3<R>) -> Array2<R> {
    let (steps, batch, width) = x.dim();
    Array2::from_shape_fn((batch, width), |(b, f)| match lengths[b].min(steps) {
        0 => R::ZERO,
        len => x[[len - 1, b, f]],
    })
}

/// The backward of [`last_rows`]: `d_y [B, F]` at each row's own last step, zeros elsewhere, `[T, B, F]`.
pub fn last_rows_backward<R: Real>(lengths: &[usize], d_y: ArrayView2<R>, steps: usize) -> Array3<R> {
    let (batch, width) = d_y.dim();
    Array3::from_shape_fn((steps, batch, width), |(t, b, f)| {
        if t + 1 == lengths[b].min(steps) { d_y[[b, f]] } else { R::ZERO }
    })
}

/// `to[r, column + c] = from[r, c]`: copies a tensor's columns into a wider one.
pub fn copy_block<R: Real>(from: ArrayView2<R>, column: usize, to: &mut Array2<R>) {
    to.slice_mut(ndarray::s![.., column..column + from.ncols()]).assign(&from);
}

/// Repeats the elements up to a length of `len`.
pub fn repeat<R: Real>(x: &[R], len: usize) -> Vec<R> {
    x.iter().copied().cycle().take(len).collect()
}

/// A vector of `len` copies of one number.
pub fn fill<R: Real>(value: R, len: usize) -> Vec<R> {
    vec![value; len]
}

/// Turns one step into several: `[1, B, F]` to `[steps, B, F]`; the others are zeros or copies of the first.
pub fn expand<R: Real>(x: ArrayView3<R>, steps: usize, fill: gatefold_model::Expansion) -> Array3<R> {
    let (_, batch, width) = x.dim();
    Array3::from_shape_fn((steps, batch, width), |(t, b, f)| match fill {
        gatefold_model::Expansion::Zeros if t > 0 => R::ZERO,
        _ => x[[0, b, f]],
    })
}

/// The backward of [`expand`]: the first step's gradient, or the sum over the steps, in order.
pub fn expand_backward<R: Real>(d_y: ArrayView3<R>, fill: gatefold_model::Expansion) -> Array3<R> {
    match fill {
        gatefold_model::Expansion::Zeros => d_y.slice(ndarray::s![..1, .., ..]).to_owned(),
        gatefold_model::Expansion::Repeat => d_y.sum_axis(Axis(0)).insert_axis(Axis(0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Failures;
    use approx::{abs_diff_eq, assert_abs_diff_eq, relative_eq};
    use gatefold_model::Expansion;
    use ndarray::{Array1, array};

    /// The generator's own test vectors (`threefry2x32 20` in `kat_vectors` of Random123).
    #[test]
    fn threefry_gives_the_published_words() {
        let ones = [u32::MAX; 2];
        assert_eq!(threefry2x32([0, 0], [0, 0]), [0x6b20_0159, 0x99ba_4efe]);
        assert_eq!(threefry2x32(ones, ones), [0x1cb9_96fc, 0xbb00_2be7]);
        let (key, counter) = ([0x1319_8a2e, 0x0370_7344], [0x243f_6a88, 0x85a3_08d3]);
        assert_eq!(threefry2x32(key, counter), [0xc492_3a9c, 0x483d_f7a0]);
    }

    /// The shares of zeros over 2^16 elements are within five standard deviations, and streams differ.
    #[test]
    fn dropout_leaves_the_share_that_it_says() {
        let len = 1 << 16;
        let mut failures = Failures::new();
        for (index, rate) in [0.0, 0.1, 0.5, 0.9f32].into_iter().enumerate() {
            failures.check(format!("rate {rate}"), || {
                let stream = DropoutStream { seed: 7 << 33, batch: 3, layer: index as u32 };
                let y = dropout(&vec![1.0; len], 0, stream, rate);
                let zeros = y.iter().filter(|&&y| y == 0.0).count() as f64;
                let (p, n) = (f64::from(rate), len as f64);
                assert!((zeros - p * n).abs() <= 5.0 * (n * p * (1.0 - p)).sqrt(), "{zeros} zeros");
                assert!(y.iter().all(|&y| y == 0.0 || y == f64::from(1.0 / (1.0 - rate))));
            });
        }
        failures.finish();
        let stream = DropoutStream { seed: 1, batch: 1, layer: 1 };
        let mask = |stream: DropoutStream| (0..64).map(|i| stream.keeps(i, 0.5)).collect::<Vec<_>>();
        let others = [
            DropoutStream { seed: 2, ..stream },
            DropoutStream { seed: 1 | 1 << 32, ..stream },
            DropoutStream { batch: 2, ..stream },
            DropoutStream { layer: 2, ..stream },
        ];
        assert_eq!(mask(stream), mask(stream));
        assert!(others.into_iter().all(|other| mask(other) != mask(stream)));
    }

    /// Pseudo-random numbers in [-1, 1).
    fn numbers(len: usize, seed: u32) -> Vec<f64> {
        let word = |i: usize| threefry2x32([seed, 0], [i as u32, 0])[0];
        (0..len).map(|i| f64::from(word(i)) / f64::from(1u32 << 31) - 1.0).collect()
    }

    fn matrix(rows: usize, columns: usize, seed: u32) -> Array2<f64> {
        Array2::from_shape_vec((rows, columns), numbers(rows * columns, seed)).unwrap()
    }

    /// Compares with five-point differences of the weighted sum of `f(x)`.
    fn assert_gradient(
        x: &Array2<f64>,
        d_x: &Array2<f64>,
        weights: &Array2<f64>,
        f: impl Fn(&Array2<f64>) -> Array2<f64>,
    ) {
        let step = 1e-3;
        for (at, &found) in d_x.indexed_iter() {
            let loss = |by: f64| {
                let mut moved = x.clone();
                moved[at] += by * step;
                (f(&moved) * weights).sum()
            };
            let slope = (8.0 * (loss(1.0) - loss(-1.0)) - (loss(2.0) - loss(-2.0))) / (12.0 * step);
            assert!(
                relative_eq!(found, slope, epsilon = 1e-10, max_relative = 1e-7),
                "{at:?}: {found}, differences {slope}"
            );
        }
    }

    #[test]
    fn softmax_and_its_gradient() {
        let (x, weights) = (matrix(3, 5, 1) * 4.0, matrix(3, 5, 2));
        let y = softmax(x.view());
        assert!(y.rows().into_iter().all(|row| abs_diff_eq!(row.sum(), 1.0, epsilon = 1e-15)));
        assert_abs_diff_eq!(y[[1, 2]] / y[[1, 4]], (x[[1, 2]] - x[[1, 4]]).exp(), epsilon = 1e-12);
        let d_x = softmax_backward(y.view(), weights.view());
        assert_gradient(&x, &d_x, &weights, |x| softmax(x.view()));
        let wild = softmax(array![[1e4, -1e4, 1e4], [f64::NAN, 0.0, 1.0], [0.0, f64::NAN, 1.0]].view());
        assert_eq!(wild.row(0), Array1::from(vec![0.5, 0.0, 0.5]));
        assert!(wild.row(1).iter().chain(wild.row(2)).all(|y| y.is_nan()));
    }

    #[test]
    fn the_embedding_and_its_gradient() {
        let tokens = [3.0, 0.0, 3.0, 1.0, 3.0, 0.0];
        let (table, weights) = (matrix(4, 3, 3), matrix(6, 3, 4));
        let mut d_table = Array2::zeros((4, 3));
        scatter_rows(&tokens, weights.view(), &mut d_table);
        assert_gradient(&table, &d_table, &weights, |table| gather_rows(&tokens, table.view()));
        assert!(d_table.row(2).iter().all(|&d| d == 0.0));
    }

    /// Sorting by digits and summing runs equals the plain scatter.
    #[test]
    fn sorted_runs_add_up_to_the_scatter() {
        let mut failures = Failures::new();
        for (rows, tokens, values, stretch) in
            [(1usize, 1usize, 4usize, 2), (57, 3, 4, 8), (200, 300, 4, 3), (90, 17, 64, 90)]
        {
            failures.check(
                format!("{rows} rows, {tokens} tokens, {values} values, stretches of {stretch}"),
                || {
                    let drawn: Vec<f64> =
                        numbers(rows, 5).iter().map(|x| ((x + 1.0) / 2.0 * tokens as f64).floor()).collect();
                    let d = matrix(rows, 2, 6);
                    let mut order: Option<Vec<usize>> = None;
                    let passes = (0..24).step_by(values.trailing_zeros() as usize);
                    for shift in passes.take_while(|&shift| shift == 0 || (tokens - 1) >> shift > 0) {
                        let digit = Digit { tokens, shift, values };
                        let places = row_places(&row_counts(&drawn, order.as_deref(), digit));
                        order = Some(place_rows(&drawn, order.as_deref(), digit, &places));
                    }
                    let order = order.unwrap();
                    let mut expected: Vec<usize> = (0..rows).collect();
                    expected.sort_by_key(|&row| drawn[row] as usize);
                    assert_eq!(order, expected);

                    let mut sums = Array2::from_elem((rows, 2), f64::NAN);
                    run_sums(&drawn, &order, tokens, d.view(), stretch, &mut sums);
                    let mut found = matrix(tokens, 2, 7);
                    let mut expected = found.clone();
                    add_runs(&drawn, &order, sums.view(), stretch, &mut found);
                    scatter_rows(&drawn, d.view(), &mut expected);
                    assert_eq!(found.dim(), expected.dim());
                    assert!(found.iter().zip(&expected).all(|(a, b)| abs_diff_eq!(a, b, epsilon = 1e-13)));
                },
            );
        }
        failures.finish();
    }

    #[test]
    fn rows_end_where_their_lengths_say() {
        let x = Array3::from_shape_fn((3, 4, 2), |(t, b, f)| (100 * t + 10 * b + f) as f64 + 1.0);
        let lengths = [3, 0, 1, 9];
        let y = last_rows(&lengths, x.view());
        assert_eq!(y, array![[201., 202.], [0., 0.], [21., 22.], [231., 232.]]);
        let d_x = last_rows_backward(&lengths, y.view(), 3);
        let mut masked = x.clone();
        mask_rows(&lengths, &mut masked);
        for (at @ (t, b, _), &d) in d_x.indexed_iter() {
            let last = t + 1 == lengths[b].min(3);
            assert_eq!(d, if last { x[at] } else { 0.0 }, "{at:?}");
            assert_eq!(masked[at], if t < lengths[b] { x[at] } else { 0.0 }, "{at:?}");
        }
    }

    #[test]
    fn expanding_and_its_gradient() {
        let x = matrix(3, 2, 8);
        let mut failures = Failures::new();
        for fill in [Expansion::Zeros, Expansion::Repeat] {
            failures.check(format!("{fill:?}"), || {
                let weights = matrix(5 * 3, 2, 9);
                let forward = |x: &Array2<f64>| {
                    let y = expand(x.view().insert_axis(Axis(0)), 5, fill);
                    y.into_shape_with_order((15, 2)).unwrap()
                };
                let d_y = weights.view().into_shape_with_order((5, 3, 2)).unwrap();
                let d_x = expand_backward(d_y, fill).remove_axis(Axis(0));
                assert_gradient(&x, &d_x, &weights, forward);
            });
        }
        failures.finish();
        assert_eq!(repeat(&[1.0, 2.0], 5), [1.0, 2.0, 1.0, 2.0, 1.0]);
        assert_eq!(fill(2.5, 3), [2.5; 3]);
        assert_eq!(add(&[1.0, 2.0], &[0.5, -2.0]), [1.5, 0.0]);
        let mut wide = Array2::zeros((2, 3));
        copy_block(array![[1.0], [2.0]].view(), 1, &mut wide);
        assert_eq!(wide, array![[0.0, 1.0, 0.0], [0.0, 2.0, 0.0]]);
    }
}
