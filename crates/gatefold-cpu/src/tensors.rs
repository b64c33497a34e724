use crate::buffers::Buffers;
use crate::instructions::Instructions;
use crate::outer::{Left, Right, add_outer, add_outers, add_row_sums};
use crate::threads::Threads;
use gatefold_model::{Layer, ParameterSpec, Role};
use ndarray::{
    Array2, ArrayD, ArrayView1, ArrayView2, ArrayView3, ArrayViewMut1, ArrayViewMut2, Ix1, Ix2, s,
};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// Tensors by parameter name, each in standard layout.
pub type Tensors = BTreeMap<String, ArrayD<f32>>;

/// A layer's parameters.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Values<'a> {
    pub(crate) tensors: &'a Tensors,
}

impl<'a> Values<'a> {
    /// The matrix with this role, if the layer has one.
    pub(crate) fn matrix(&self, layer: &Layer, role: Role, reverse: bool) -> Option<ArrayView2<'a, f32>> {
        let spec = layer.find(role, reverse)?;
        Some(self.tensors[&spec.name].view().into_dimensionality::<Ix2>().expect("weights are matrices"))
    }

    /// The weight of a convolution, `[O, I, K]`.
    pub(crate) fn conv_weight(&self, layer: &Layer) -> ArrayView3<'a, f32> {
        let weight = self.tensors[&layer.parameter(Role::ConvWeight).name].view();
        weight.into_dimensionality().expect("weights of convolutions have three axes")
    }

    /// The vector with this role, if the layer has one.
    pub(crate) fn vector(&self, layer: &Layer, role: Role, reverse: bool) -> Option<ArrayView1<'a, f32>> {
        let spec = layer.find(role, reverse)?;
        Some(self.tensors[&spec.name].view().into_dimensionality::<Ix1>().expect("biases are vectors"))
    }

    /// The table of an embedding.
    pub(crate) fn table(&self, layer: &Layer) -> ArrayView2<'a, f32> {
        self.matrix(layer, Role::EmbeddingWeight, false).expect("embeddings have a table")
    }

    /// The elements of the vector with this role, if the layer has one.
    pub(crate) fn elements(&self, layer: &Layer, role: Role, reverse: bool) -> Option<&'a [f32]> {
        let vector = self.vector(layer, role, reverse)?;
        Some(vector.to_slice().expect("tensors are in standard layout"))
    }
}

/// The gradients to add to: only those with an entry.
#[derive(Debug)]
pub(crate) struct Sums<'a> {
    pub(crate) gradients: &'a mut Tensors,
    pub(crate) threads: Threads,
    pub(crate) set: Instructions,
    pub(crate) buffers: &'a Arc<Buffers>,
}

impl Sums<'_> {
    /// Whether the gradient has an entry.
    pub(crate) fn wants(&self, spec: Option<&ParameterSpec>) -> bool {
        spec.is_some_and(|spec| self.gradients.contains_key(&spec.name))
    }

    /// The matrix to add to, if it has an entry.
    pub(crate) fn matrix(&mut self, spec: Option<&ParameterSpec>) -> Option<ArrayViewMut2<'_, f32>> {
        let gradient = self.gradients.get_mut(&spec?.name)?;
        Some(gradient.view_mut().into_dimensionality().expect("weights are matrices"))
    }

    /// The vector to add to, if it has an entry.
    pub(crate) fn vector(&mut self, spec: Option<&ParameterSpec>) -> Option<ArrayViewMut1<'_, f32>> {
        let gradient = self.gradients.get_mut(&spec?.name)?;
        Some(gradient.view_mut().into_dimensionality().expect("biases are vectors"))
    }

    /// The elements to add to, if it has an entry.
    pub(crate) fn elements(&mut self, spec: Option<&ParameterSpec>) -> Option<&mut [f32]> {
        let gradient = self.gradients.get_mut(&spec?.name)?;
        Some(gradient.as_slice_mut().expect("gradients are in standard layout"))
    }

    /// The matrix so far, in whose place are zeros, if it has an entry.
    pub(crate) fn set_aside(&mut self, spec: Option<&ParameterSpec>) -> Option<Array2<f32>> {
        let mut gradient = self.matrix(spec)?;
        let own = gradient.to_owned();
        gradient.fill(0.0);
        Some(own)
    }

    /// `d_W += d^T x` for these rows of W.
    pub(crate) fn add_weight(
        &mut self,
        spec: Option<&ParameterSpec>,
        rows: Range<usize>,
        d: ArrayView2<f32>,
        x: ArrayView2<f32>,
    ) {
        let (set, threads) = (self.set, self.threads);
        if let Some(mut gradient) = self.matrix(spec) {
            add_outer(set, threads, d, x, gradient.slice_mut(s![rows, ..]));
        }
    }

    /// `d_W += d^T x` for two weights, for the columns and rows that `lefts` name.
    pub(crate) fn add_weights(
        &mut self,
        d: ArrayView2<f32>,
        lefts: &[Left],
        weights: [(Option<&ParameterSpec>, ArrayView2<f32>); 2],
    ) {
        let mut rights = [None, None];
        for (name, gradient) in self.gradients.iter_mut() {
            let is_wanted = |spec: Option<&ParameterSpec>| spec.is_some_and(|spec| spec.name == *name);
            if let Some(n) = weights.iter().position(|&(spec, _)| is_wanted(spec)) {
                let out = gradient.view_mut().into_dimensionality().expect("weights are matrices");
                rights[n] = Some(Right { b: weights[n].1, out });
            }
        }
        add_outers(self.set, self.threads, d, lefts, &mut rights);
    }

    /// `d_w += column sums of a * b`.
    pub(crate) fn add_products(
        &mut self,
        spec: Option<&ParameterSpec>,
        a: ArrayView2<f32>,
        b: ArrayView2<f32>,
    ) {
        let (set, threads) = (self.set, self.threads);
        if let Some(gradient) = self.vector(spec) {
            add_column_product_sums(set, threads, a, b, gradient);
        }
    }

    /// `d_b += column sums of d`.
    pub(crate) fn add_bias(&mut self, spec: Option<&ParameterSpec>, d: ArrayView2<f32>) {
        let (set, threads) = (self.set, self.threads);
        if let Some(gradient) = self.vector(spec) {
            add_column_sums(set, threads, d, gradient);
        }
    }
}

/// `sums [M] += column sums of d [N, M]`
pub(crate) fn add_column_sums(
    set: Instructions,
    threads: Threads,
    d: ArrayView2<f32>,
    sums: ArrayViewMut1<f32>,
) {
    add_row_sums(set, threads, d.nrows(), sums, |n, columns, sums| {
        let row = d.row(n).to_slice().expect("rows are contiguous");
        sums.iter_mut().zip(&row[columns]).for_each(|(sum, d)| *sum += d);
    });
}

/// `sums [M] += column sums of a * b`, both `[N, M]`.
pub(crate) fn add_column_product_sums(
    set: Instructions,
    threads: Threads,
    a: ArrayView2<f32>,
    b: ArrayView2<f32>,
    sums: ArrayViewMut1<f32>,
) {
    add_row_sums(set, threads, a.nrows(), sums, |n, columns, sums| {
        let (a, b) = (a.row(n), b.row(n));
        let (a, b) = (a.to_slice().expect("rows are contiguous"), b.to_slice().expect("rows are contiguous"));
        let products = a[columns.clone()].iter().zip(&b[columns]).map(|(a, b)| a * b);
        sums.iter_mut().zip(products).for_each(|(sum, product)| *sum += product);
    });
}
