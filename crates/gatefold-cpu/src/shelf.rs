//! The parts of a pass, kept for the next one over as many rows of the same lengths.

use crate::backward::Back;
use crate::network::PartTape;
use crate::parts::divide;
use crate::threads::lock;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex};

/// The most batches of parts that are kept: those of training and of validation, each with a smaller last batch.
const KEPT: usize = 4;

/// A network's parts that are not in use, those used last at the end.
#[derive(Debug, Default)]
pub(crate) struct Shelf(Mutex<Vec<Parts>>);

/// The parts of a batch.
#[derive(Debug, Default)]
pub(crate) struct Parts {
    /// The rows of the batch.
    rows: usize,
    /// The lengths by which it was divided.
    lengths: Option<Vec<usize>>,
    pub(crate) tapes: Vec<PartTape>,
    /// The results of the backward pass of each part.
    pub(crate) backs: Vec<Back>,
}

/// Parts that return to their shelf when they are dropped.
#[derive(Clone, Debug)]
pub(crate) struct Lent {
    parts: Parts,
    home: Arc<Shelf>,
}

impl Shelf {
    /// The parts of a batch, empty.
    pub(crate) fn take(self: &Arc<Self>, rows: usize, lengths: Option<&[usize]>) -> Lent {
        let mut shelf = lock(&self.0);
        let found = shelf.iter().rposition(|parts| parts.rows == rows && parts.lengths.as_deref() == lengths);
        let parts = found.map(|at| shelf.remove(at));
        drop(shelf);
        Lent { parts: parts.unwrap_or_else(|| Parts::new(rows, lengths)), home: Arc::clone(self) }
    }

    fn put(&self, parts: Parts) {
        let mut shelf = lock(&self.0);
        if shelf.len() == KEPT {
            shelf.remove(0);
        }
        shelf.push(parts);
    }
}

impl Parts {
    fn new(rows: usize, lengths: Option<&[usize]>) -> Self {
        let tapes: Vec<PartTape> = divide(rows, lengths).into_iter().map(PartTape::new).collect();
        let backs = tapes.iter().map(|_| Back::default()).collect();
        Parts { rows, lengths: lengths.map(<[usize]>::to_vec), tapes, backs }
    }
}

impl Clone for Parts {
    /// A copy, but for the results of a backward pass.
    fn clone(&self) -> Self {
        let backs = self.tapes.iter().map(|_| Back::default()).collect();
        Parts { rows: self.rows, lengths: self.lengths.clone(), tapes: self.tapes.clone(), backs }
    }
}

impl Deref for Lent {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.parts
    }
}

impl DerefMut for Lent {
    fn deref_mut(&mut self) -> &mut Parts {
        &mut self.parts
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let mut parts = std::mem::take(&mut self.parts);
        parts.tapes.iter_mut().for_each(PartTape::clear);
        parts.backs.iter_mut().for_each(Back::clear);
        self.home.put(parts);
    }
}
