//! Matrices that go back where they came from, so that passes of equal shape ask the system for no memory.

use ndarray::{Array2, ArrayView2};
use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};

/// The elements up to which it does not matter which buffer a matrix takes.
const SMALL: usize = 8;

/// The passes after which a buffer that nobody needed is freed.
const KEPT_PASSES: u64 = 2;

/// A network's buffers that are not in use.
#[derive(Debug, Default)]
pub(crate) struct Buffers(Mutex<Unused>);

#[derive(Debug, Default)]
struct Unused {
    /// The passes so far.
    pass: u64,
    /// By capacity; each with the pass that last used it.
    buffers: BTreeMap<usize, Vec<(u64, Vec<f32>)>>,
}

/// A matrix in standard layout that returns its buffer when it is dropped.
#[derive(Debug)]
pub(crate) struct Matrix {
    elements: Array2<f32>,
    home: Arc<Buffers>,
}

/// Rows that are kept elsewhere, or that were made of such.
#[derive(Debug)]
pub(crate) enum Rows<'a> {
    Kept(ArrayView2<'a, f32>),
    Made(Matrix),
}

impl Rows<'_> {
    pub(crate) fn view(&self) -> ArrayView2<'_, f32> {
        match self {
            Rows::Kept(rows) => rows.view(),
            Rows::Made(rows) => rows.view(),
        }
    }
}

impl Buffers {
    /// Begins a pass: frees what [`KEPT_PASSES`] passes did not need.
    pub(crate) fn begin(&self) {
        let mut unused = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        unused.pass += 1;
        let pass = unused.pass;
        unused.buffers.retain(|_, buffers| {
            buffers.retain(|(used, _)| used + KEPT_PASSES >= pass);
            !buffers.is_empty()
        });
    }

    /// A matrix with unspecified contents, for callers that overwrite them.
    pub(crate) fn matrix(self: &Arc<Self>, rows: usize, columns: usize) -> Matrix {
        let len = rows * columns;
        let mut unused = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A small matrix does not take a large buffer from the next large one.
        let fit = unused.buffers.range_mut(len..=2 * len.max(SMALL)).find_map(|(_, buffers)| buffers.pop());
        drop(unused);
        let mut buffer = fit.map_or_else(Vec::new, |(_, buffer)| buffer);
        buffer.resize(len, 0.0);
        if cfg!(debug_assertions) {
            // Whoever reads what it did not write shows it.
            buffer.fill(f32::NAN);
        }
        let elements = Array2::from_shape_vec((rows, columns), buffer).expect("the buffer has that length");
        Matrix { elements, home: Arc::clone(self) }
    }

    /// A matrix of zeros.
    pub(crate) fn zeros(self: &Arc<Self>, rows: usize, columns: usize) -> Matrix {
        let mut matrix = self.matrix(rows, columns);
        matrix.fill(0.0);
        matrix
    }

    /// A copy.
    pub(crate) fn copy(self: &Arc<Self>, from: ArrayView2<f32>) -> Matrix {
        let mut copy = self.matrix(from.nrows(), from.ncols());
        copy.assign(&from);
        copy
    }
}

impl Matrix {
    /// The elements, row by row.
    pub(crate) fn elements(&self) -> &[f32] {
        self.elements.as_slice().expect("matrices are kept in standard layout")
    }

    /// The elements, row by row.
    pub(crate) fn elements_mut(&mut self) -> &mut [f32] {
        self.elements.as_slice_mut().expect("matrices are kept in standard layout")
    }
}

impl Deref for Matrix {
    type Target = Array2<f32>;

    fn deref(&self) -> &Array2<f32> {
        &self.elements
    }
}

impl DerefMut for Matrix {
    fn deref_mut(&mut self) -> &mut Array2<f32> {
        &mut self.elements
    }
}

impl Clone for Matrix {
    fn clone(&self) -> Self {
        self.home.copy(self.view())
    }
}

impl Drop for Matrix {
    fn drop(&mut self) {
        let (buffer, _) = std::mem::take(&mut self.elements).into_raw_vec_and_offset();
        if buffer.capacity() > 0 {
            let mut unused = self.home.0.lock().unwrap_or_else(PoisonError::into_inner);
            let pass = unused.pass;
            unused.buffers.entry(buffer.capacity()).or_default().push((pass, buffer));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_passes_use_the_same_buffers_and_old_ones_go() {
        let buffers = Arc::new(Buffers::default());
        let place = |matrix: &Matrix| matrix.elements().as_ptr();
        let large = buffers.matrix(100, 10);
        let first = place(&large);
        drop(large);
        assert_ne!(place(&buffers.matrix(3, 10)), first, "too large for that");
        let again = buffers.zeros(90, 11);
        assert_eq!(place(&again), first);
        assert!(again.iter().all(|&element| element == 0.0));
        drop(again);
        for _ in 0..=KEPT_PASSES {
            buffers.begin();
        }
        assert!(buffers.0.lock().unwrap().buffers.is_empty());
    }
}
