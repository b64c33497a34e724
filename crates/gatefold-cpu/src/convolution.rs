//! Convolutions over time: products of the values that each output step reads, `[rows, K I]`, gathered for a window of
//! steps at a time. The equations are those of the reference's `convolution` module.

use crate::buffers::{Buffers, Matrix, Rows};
use crate::dense::{self, DenseTape};
use crate::network::Context;
use crate::outer::add_outer;
use crate::packing::Packing;
use crate::product::{Columns, ColumnsMut, Packed, Start};
use crate::tensors::Sums;
use gatefold_model::{Conv1d, Layer, Role};
use ndarray::{ArrayView2, s};
use std::ops::Range;
use std::sync::Arc;

/// The values gathered for a product: they are still in cache when it reads them.
const WINDOW: usize = 1 << 15;
/// Those gathered for the gradient of a weight, whose product is shared among threads.
const GRADIENT_WINDOW: usize = 1 << 18;

/// A convolution between two packed sequences of the same rows.
#[derive(Clone, Copy)]
pub(crate) struct Convolution<'a> {
    pub(crate) conv: &'a Conv1d,
    /// The packing of its input.
    pub(crate) from: &'a Packing,
    /// The packing of its output.
    pub(crate) to: &'a Packing,
    /// I
    pub(crate) input: usize,
}

impl Convolution<'_> {
    /// `x [N, I]`, `weight = W^T [K I, O]`, `bias [O]` or none to `[N', O]`.
    pub(crate) fn forward(
        self,
        context: Context,
        x: ArrayView2<f32>,
        weight: &Packed,
        bias: Option<&[f32]>,
    ) -> DenseTape {
        let (values, width) = (self.values(), weight.width());
        let mut y = context.buffers.matrix(self.to.len(), width);
        for steps in self.windows(WINDOW) {
            let rows = self.to.rows_of(&steps);
            let read = self.unfold(context.buffers, x, steps);
            weight.multiply(
                context.set,
                Columns::all(read.view().to_slice().expect("gathered row by row"), values),
                bias.map_or(Start::Zero, Start::Row),
                ColumnsMut::all(&mut y.elements_mut()[rows.start * width..rows.end * width], width),
            );
        }
        dense::activate(context.set, y, self.conv.activation)
    }

    /// The gradient with respect to the input, `[N, I]`, from that with respect to the pre-activations, `d [N', O]`, and
    /// `weight = W [O, K I]`.
    pub(crate) fn input_gradient(self, context: Context, d: ArrayView2<f32>, weight: &Packed) -> Matrix {
        if self.conv.is_pointwise() {
            return dense::product(context, d, weight, None);
        }
        let mut d_x = context.buffers.zeros(self.from.len(), self.input);
        for steps in self.windows(WINDOW) {
            let d = d.slice_move(s![self.to.rows_of(&steps), ..]);
            let d_read = dense::product(context, d, weight, None);
            self.fold(d_read.elements(), steps, d_x.elements_mut());
        }
        d_x
    }

    /// Adds the gradients of weight and bias, from `d [N', O]` as above.
    pub(crate) fn add_gradients(
        self,
        layer: &Layer,
        x: ArrayView2<f32>,
        d: ArrayView2<f32>,
        sums: &mut Sums,
    ) {
        sums.add_bias(layer.find(Role::ConvBias, false), d);
        let spec = layer.find(Role::ConvWeight, false);
        if !sums.wants(spec) {
            return;
        }
        let mut d_w = sums.buffers.zeros(layer.output, self.values());
        for steps in self.windows(GRADIENT_WINDOW) {
            let d = d.slice(s![self.to.rows_of(&steps), ..]);
            let read = self.unfold(sums.buffers, x, steps);
            add_outer(sums.set, sums.threads, d, read.view(), d_w.view_mut());
        }
        let Some(gradient) = sums.elements(spec) else { return };
        let (kernel, input) = (self.conv.kernel, self.input);
        for (to, from) in gradient.chunks_exact_mut(input * kernel).zip(d_w.rows()) {
            for k in 0..kernel {
                for i in 0..input {
                    to[i * kernel + k] += from[k * input + i];
                }
            }
        }
    }

    /// K I
    fn values(self) -> usize {
        self.conv.kernel * self.input
    }

    /// The output steps in windows whose rows read about so many values.
    fn windows(self, most: usize) -> impl Iterator<Item = Range<usize>> {
        let (to, rows) = (self.to, most / self.values());
        let mut begin = 0;
        std::iter::from_fn(move || {
            let first = begin;
            (first < to.steps()).then(|| {
                begin += 1;
                while begin < to.steps() && to.rows_of(&(first..begin + 1)).len() <= rows {
                    begin += 1;
                }
                first..begin
            })
        })
    }

    /// The rows of input that weight `k` meets in output step `t`. Rows of the output whose sequence has ended there come
    /// last, and meet zeros.
    fn source(self, t: usize, k: usize) -> Range<usize> {
        let there = self.conv.source(t, k).filter(|&step| step < self.from.steps());
        there.map_or(0..0, |step| {
            let rows = self.from.at(step);
            rows.start..rows.end.min(rows.start + self.to.rows_at(t))
        })
    }

    /// The values that each row of some output steps reads, `[rows, K I]`, weight after weight.
    fn unfold<'x>(self, buffers: &Arc<Buffers>, x: ArrayView2<'x, f32>, steps: Range<usize>) -> Rows<'x> {
        if self.conv.is_pointwise() {
            return Rows::Kept(x.slice_move(s![self.to.rows_of(&steps), ..]));
        }
        let (width, values) = (self.input, self.values());
        let from = x.to_slice().expect("values are kept in standard layout");
        let mut read = buffers.matrix(self.to.rows_of(&steps).len(), values);
        if self.from.batch() == 1 && self.conv.dilation == 1 {
            let rows = read.elements_mut().chunks_exact_mut(values);
            rows.zip(steps).for_each(|(row, t)| self.unfold_row(from, t, row));
            return Rows::Made(read);
        }
        let mut rest = read.elements_mut();
        for t in steps {
            let rows;
            (rows, rest) = rest.split_at_mut(self.to.rows_at(t) * values);
            for k in 0..self.conv.kernel {
                let source = self.source(t, k);
                let (there, past) = rows.split_at_mut(source.len() * values);
                let from = from[source.start * width..source.end * width].chunks_exact(width);
                for (row, from) in there.chunks_exact_mut(values).zip(from) {
                    row[k * width..][..width].copy_from_slice(from);
                }
                past.chunks_exact_mut(values).for_each(|row| row[k * width..][..width].fill(0.0));
            }
        }
        Rows::Made(read)
    }

    /// The values that output step `t` of a batch of one row reads, which lie side by side.
    fn unfold_row(self, from: &[f32], t: usize, row: &mut [f32]) {
        let first = t * self.conv.stride;
        let before = self.conv.left.saturating_sub(first).min(self.conv.kernel);
        let begin = (first + before).saturating_sub(self.conv.left).min(self.from.steps());
        let count = (self.from.steps() - begin).min(self.conv.kernel - before);
        let (zeros, row) = row.split_at_mut(before * self.input);
        let (there, past) = row.split_at_mut(count * self.input);
        zeros.fill(0.0);
        there.copy_from_slice(&from[begin * self.input..][..count * self.input]);
        past.fill(0.0);
    }

    /// Adds gradients with respect to what [`Convolution::unfold`] gathers to `d_x [N, I]`, step after step.
    fn fold(self, d_read: &[f32], steps: Range<usize>, d_x: &mut [f32]) {
        let (width, values) = (self.input, self.values());
        let mut rest = d_read;
        for t in steps {
            let rows;
            (rows, rest) = rest.split_at(self.to.rows_at(t) * values);
            for k in 0..self.conv.kernel {
                let source = self.source(t, k);
                let to = d_x[source.start * width..source.end * width].chunks_exact_mut(width);
                for (to, row) in to.zip(rows.chunks_exact(values)) {
                    to.iter_mut().zip(&row[k * width..][..width]).for_each(|(to, d)| *to += d);
                }
            }
        }
    }
}
