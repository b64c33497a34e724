//! Convolutions over time.
//!
//! `w [O, I, K]` and `b [O]` are those of a layer; [`Conv1d`] says which steps it reads. A row's steps past its length count
//! as zeros, and so does the padding around the row: the padding after it begins at the row's own end.

use crate::Real;
use crate::activation;
use crate::linear::{column_sum, matmul, matmul_at};
use gatefold_model::{Activation, Conv1d};
use ndarray::{Array1, Array2, Array3, ArrayView1, ArrayView2, ArrayView3, Zip};

/// The length of each row after a convolution; a row without steps, or shorter than what one output step reads, has none.
pub fn convolved_lengths(lengths: &[usize], conv: &Conv1d) -> Vec<usize> {
    lengths.iter().map(|&length| conv.steps(length)).collect()
}

/// The input step that weight `k` meets in output step `t` of row `b`, if the row has it.
fn source(conv: &Conv1d, (t, k): (usize, usize), length: usize) -> Option<usize> {
    conv.source(t, k).filter(|&from| from < length)
}

/// The values that each output step reads, side by side: `[T, B, I]` to `[T' B, I K]`, with input `i` of weight `k` in
/// column `i K + k`.
pub fn unfold<R: Real>(x: ArrayView3<R>, lengths: &[usize], conv: &Conv1d) -> Array2<R> {
    let (steps, batch, width) = x.dim();
    let shape = (conv.steps(steps) * batch, width * conv.kernel);
    Array2::from_shape_fn(shape, |(row, column)| {
        let (t, b) = (row / batch, row % batch);
        let (i, k) = (column / conv.kernel, column % conv.kernel);
        source(conv, (t, k), lengths[b]).map_or(R::ZERO, |from| x[[from, b, i]])
    })
}

/// The backward of [`unfold`]: `[T' B, I K]` to `[T, B, I]`, sums over the output steps that read a value, in the order of
/// the weights; zeros past each row's end.
pub fn fold<R: Real>(d: ArrayView2<R>, steps: usize, lengths: &[usize], conv: &Conv1d) -> Array3<R> {
    let (batch, width) = (lengths.len(), d.ncols() / conv.kernel);
    let mut d_x = Array3::zeros((steps, batch, width));
    for k in 0..conv.kernel {
        for t in 0..conv.steps(steps) {
            for (b, &length) in lengths.iter().enumerate() {
                let Some(from) = source(conv, (t, k), length) else { continue };
                for i in 0..width {
                    d_x[[from, b, i]] += d[[t * batch + b, i * conv.kernel + k]];
                }
            }
        }
    }
    d_x
}

/// A layer's output `[T', B, O]`:
/// `y(t)_o = act(b_o + sum over k and i of w[o, i, k] x(stride t + dilation k - left)_i)`.
pub fn conv1d_forward<R: Real>(
    x: ArrayView3<R>,
    lengths: &[usize],
    w: ArrayView3<R>,
    bias: Option<ArrayView1<R>>,
    conv: &Conv1d,
) -> Array3<R> {
    let (steps, batch, width) = x.dim();
    Array3::from_shape_fn((conv.steps(steps), batch, w.dim().0), |(t, b, o)| {
        let mut sum = bias.map_or(R::ZERO, |bias| bias[o]);
        for k in 0..conv.kernel {
            let Some(from) = source(conv, (t, k), lengths[b]) else { continue };
            for i in 0..width {
                sum += w[[o, i, k]] * x[[from, b, i]];
            }
        }
        activation::apply(conv.activation, sum)
    })
}

/// The result of [`conv1d_backward`].
#[derive(Clone, Debug)]
pub struct Conv1dBackward<R> {
    /// `[O, I, K]`
    pub d_w: Array3<R>,
    /// `[O]`
    pub d_bias: Array1<R>,
    /// `[T, B, I]`
    pub d_x: Array3<R>,
}

/// The chain rule through [`conv1d_forward`]. With the sums `pre` before the activation and the [unfolded](unfold) input `u`:
/// `d_pre = d_y act'(pre)`, `d_w = d_pre^T u`, `d_b` = column sums of `d_pre`, and `d_x` is `d_pre w`, [folded](fold).
pub fn conv1d_backward<R: Real>(
    x: ArrayView3<R>,
    lengths: &[usize],
    w: ArrayView3<R>,
    bias: Option<ArrayView1<R>>,
    conv: &Conv1d,
    d_y: ArrayView3<R>,
) -> Conv1dBackward<R> {
    let (outputs, inputs, kernel) = w.dim();
    let linear = Conv1d { activation: Activation::Identity, ..*conv };
    let pre = conv1d_forward(x, lengths, w, bias, &linear);
    let d_pre = Zip::from(&d_y).and(&pre).map_collect(|&d, &pre| d * activation::slope(conv.activation, pre));
    let rows = d_pre.len() / outputs;
    let d_pre = d_pre.as_standard_layout().into_owned();
    let d_pre = d_pre.into_shape_with_order((rows, outputs)).expect("the same elements");
    let w = w.to_shape((outputs, inputs * kernel)).expect("the same elements");
    let d_w = matmul_at(d_pre.view(), unfold(x, lengths, conv).view());
    Conv1dBackward {
        d_w: d_w.into_shape_with_order((outputs, inputs, kernel)).expect("the same elements"),
        d_bias: column_sum(d_pre.view()),
        d_x: fold(matmul(d_pre.view(), w.view()).view(), x.dim().0, lengths, conv),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gatefold_model::{LayerKind, NetworkConfig};
    use ndarray::{Axis, array};

    fn conv(config: gatefold_model::Conv1dConfig) -> Conv1d {
        let config = NetworkConfig::with_input(1).layer(config).build().unwrap();
        match config.layers()[0].kind {
            LayerKind::Conv1d(conv) => conv,
            kind => unreachable!("it is {kind:?}"),
        }
    }

    /// Two rows of 5 and 3 steps, `t + 1` and `10 (t + 1)`, with padding on both sides.
    #[test]
    fn unfolding_pads_each_row_at_its_own_ends() {
        let conv = conv(gatefold_model::Conv1dConfig::new(1, 3).stride(2).padding(1, 2));
        let x = array![[[1., 10.], [2., 20.], [3., 30.], [4., f64::NAN], [5., f64::NAN]]];
        let x = x.permuted_axes([1, 2, 0]);
        assert_eq!(convolved_lengths(&[5, 3, 0], &conv), [3, 2, 0]);
        let unfolded = unfold(x.view(), &[5, 3], &conv);
        let expected =
            array![[0., 1., 2.], [0., 10., 20.], [2., 3., 4.], [20., 30., 0.], [4., 5., 0.], [0., 0., 0.]];
        assert_eq!(unfolded, expected);
        // A value that is read n times gets the sum of n gradients.
        let folded = fold(Array2::<f64>::ones((6, 3)).view(), 5, &[5, 3], &conv);
        let reads = array![[1., 1.], [2., 2.], [1., 1.], [2., 0.], [1., 0.]];
        assert_eq!(folded.index_axis(Axis(2), 0), reads);
    }
}
