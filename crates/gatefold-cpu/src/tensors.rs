use crate::threads::{Threads, add_product, column_sum};
use gatefold_model::{Layer, ParameterSpec, Role};
use ndarray::{ArrayD, ArrayView1, ArrayView2, ArrayViewMut1, ArrayViewMut2, Ix1, Ix2, s};
use std::collections::BTreeMap;
use std::ops::Range;

/// Tensors by parameter name, each in standard layout.
pub type Tensors = BTreeMap<String, ArrayD<f32>>;

/// A layer's parameters.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Values<'a> {
    pub(crate) tensors: &'a Tensors,
    pub(crate) threads: Threads,
}

impl<'a> Values<'a> {
    /// The matrix with this role, if the layer has one.
    pub(crate) fn matrix(&self, layer: &Layer, role: Role, reverse: bool) -> Option<ArrayView2<'a, f32>> {
        let spec = layer.find(role, reverse)?;
        Some(self.tensors[&spec.name].view().into_dimensionality::<Ix2>().expect("weights are matrices"))
    }

    /// The vector with this role, if the layer has one.
    pub(crate) fn vector(&self, layer: &Layer, role: Role, reverse: bool) -> Option<ArrayView1<'a, f32>> {
        let spec = layer.find(role, reverse)?;
        Some(self.tensors[&spec.name].view().into_dimensionality::<Ix1>().expect("biases are vectors"))
    }
}

/// The gradients to add to: only those with an entry.
#[derive(Debug)]
pub(crate) struct Sums<'a> {
    pub(crate) gradients: &'a mut Tensors,
    pub(crate) threads: Threads,
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

    /// `d_W += d^T x` for these rows of W.
    pub(crate) fn add_weight(
        &mut self,
        spec: Option<&ParameterSpec>,
        rows: Range<usize>,
        d: ArrayView2<f32>,
        x: ArrayView2<f32>,
    ) {
        let threads = self.threads;
        if let Some(mut gradient) = self.matrix(spec) {
            add_product(threads, d.t(), x, gradient.slice_mut(s![rows, ..]));
        }
    }

    /// `d_b += column sums of d`.
    pub(crate) fn add_bias(&mut self, spec: Option<&ParameterSpec>, d: ArrayView2<f32>) {
        let threads = self.threads;
        if let Some(mut gradient) = self.vector(spec) {
            gradient += &column_sum(threads, d);
        }
    }
}
