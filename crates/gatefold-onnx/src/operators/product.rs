//! Matrix products.

use super::{Call, broadcast};
use crate::tensor::{Tensor, volume};
use ndarray::{Array2, ArrayD, ArrayView2, Ix2, IxDyn};

fn matrix(array: &ArrayD<f32>) -> Result<ArrayView2<'_, f32>, String> {
    array
        .view()
        .into_dimensionality::<Ix2>()
        .map_err(|_| format!("expected a matrix, found shape {:?}", array.shape()))
}

/// `alpha A B + beta C`, with A and B transposed as the attributes say.
pub(super) fn gemm(call: &Call) -> Result<Vec<Tensor>, String> {
    call.node.only(&["alpha", "beta", "transA", "transB"])?;
    let (mut a, mut b) = (matrix(call.f32(0)?)?, matrix(call.f32(1)?)?);
    if call.node.int_or("transA", 0)? != 0 {
        a = a.reversed_axes();
    }
    if call.node.int_or("transB", 0)? != 0 {
        b = b.reversed_axes();
    }
    if a.ncols() != b.nrows() {
        return Err(format!(
            "[{}, {}] and [{}, {}] do not multiply",
            a.nrows(),
            a.ncols(),
            b.nrows(),
            b.ncols()
        ));
    }
    let shape = [a.nrows(), b.ncols()];
    volume(&shape)?;
    let mut result: Array2<f32> = a.dot(&b) * call.node.float("alpha")?.unwrap_or(1.0);
    if call.optional(2).is_some() {
        let c = call.f32(2)?;
        let wide = c.broadcast(IxDyn(&shape)).and_then(|wide| wide.into_dimensionality::<Ix2>().ok());
        let wide =
            wide.ok_or_else(|| format!("C of shape {:?} does not fit a result of {shape:?}", c.shape()))?;
        result.scaled_add(call.node.float("beta")?.unwrap_or(1.0), &wide);
    }
    Ok(vec![Tensor::F32(result.into_dyn())])
}

/// NumPy's product: matrices in the last two axes, the axes before them broadcast, a vector is a row or a column.
pub(super) fn mat_mul(call: &Call) -> Result<Vec<Tensor>, String> {
    call.node.only(&[])?;
    let (a, b) = (call.f32(0)?, call.f32(1)?);
    let refuse = || format!("shapes {:?} and {:?} do not multiply", a.shape(), b.shape());
    if a.ndim() == 0 || b.ndim() == 0 {
        return Err(refuse());
    }
    let (row, column) = (a.ndim() == 1, b.ndim() == 1);
    let a_shape = if row { vec![1, a.len()] } else { a.shape().to_vec() };
    let b_shape = if column { vec![b.len(), 1] } else { b.shape().to_vec() };
    let (a_outer, a_inner) = a_shape.split_at(a_shape.len() - 2);
    let (b_outer, b_inner) = b_shape.split_at(b_shape.len() - 2);
    let (rows, inner, columns) = (a_inner[0], a_inner[1], b_inner[1]);
    if inner != b_inner[0] {
        return Err(refuse());
    }
    let outer = broadcast(a_outer, b_outer)?;
    let full = [&outer[..], &[rows, columns]].concat();
    let len = volume(&full)?;
    let flat = |array: &ArrayD<f32>| -> Vec<f32> { array.iter().copied().collect() };
    let (a_values, b_values) = (flat(a), flat(b));
    let view = |values: &[f32], at: usize, height: usize, width: usize| -> Result<Array2<f32>, String> {
        let values = values.get(at * height * width..(at + 1) * height * width).ok_or_else(refuse)?;
        Array2::from_shape_vec((height, width), values.to_vec()).map_err(|error| error.to_string())
    };
    let mut result = Vec::with_capacity(len);
    if b_outer.iter().product::<usize>() == 1 && a_outer == outer {
        // One matrix for all takes one product.
        let all = outer.iter().product::<usize>() * rows;
        let a = ArrayView2::from_shape((all, inner), &a_values).map_err(|error| error.to_string())?;
        let b = ArrayView2::from_shape((inner, columns), &b_values).map_err(|error| error.to_string())?;
        result.extend(a.dot(&b));
    } else {
        let batches: usize = outer.iter().product();
        for batch in 0..batches {
            let a = view(&a_values, place(batch, &outer, a_outer), rows, inner)?;
            let b = view(&b_values, place(batch, &outer, b_outer), inner, columns)?;
            result.extend(a.dot(&b));
        }
    }
    let mut shape = outer;
    if !row {
        shape.push(rows);
    }
    if !column {
        shape.push(columns);
    }
    ArrayD::from_shape_vec(IxDyn(&shape), result)
        .map(|array| vec![Tensor::F32(array)])
        .map_err(|error| error.to_string())
}

/// The number, among the matrices of the shape before broadcasting, of matrix `batch` of the broadcast shape.
fn place(batch: usize, full: &[usize], given: &[usize]) -> usize {
    let (mut rest, mut stride, mut place) = (batch, 1, 0);
    for (axis, &len) in full.iter().enumerate().rev() {
        let index = rest % len.max(1);
        rest /= len.max(1);
        if let Some(at) = (axis + given.len()).checked_sub(full.len()) {
            if given[at] > 1 {
                place += index * stride;
            }
            stride *= given[at];
        }
    }
    place
}
