//! The random masks of recurrent layers. The generator is counter-based, so nothing is kept of them.

use crate::packing::Packing;
use crate::steps::{dropout_of, threefry};
use gatefold_model::{Dropout, Layer, Noise, NoiseKind, Recurrent};
use ndarray::{Array2, ArrayViewMut2};

/// The masks of one scan.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ScanNoise {
    pub(crate) rates: Noise,
    /// The key in training; in inference there are no masks.
    dropout: Option<Dropout>,
    layer: usize,
    owner: usize,
    reverse: bool,
}

/// The places of a mask's elements.
#[derive(Clone, Copy)]
enum Places {
    /// `[T, B, F]`
    Steps,
    /// `[B, F]`, the same at every step.
    Rows,
}

impl ScanNoise {
    pub(crate) fn of(dropout: Option<Dropout>, layer: &Layer, recurrent: &Recurrent, reverse: bool) -> Self {
        let dropout = dropout.map(|dropout| dropout_of(dropout, layer));
        ScanNoise { rates: recurrent.noise, dropout, layer: layer.index, owner: layer.owner, reverse }
    }

    /// The same for a window of the sequence that begins at step `first`.
    pub(crate) fn beginning_at(mut self, first: usize) -> Self {
        if let Some(dropout) = &mut self.dropout {
            dropout.first_step += first;
        }
        self
    }

    /// The share of h(t-1), or of c(t-1), that each unit keeps, `[rows, H]`; `None` without zoneout.
    pub(crate) fn shares<'a>(
        &self,
        kind: NoiseKind,
        packing: Option<(&Packing, usize)>,
        width: usize,
        to: &'a mut [f32],
    ) -> Option<&'a [f32]> {
        let rate = self.rates.rate(kind);
        if rate == 0.0 {
            return None;
        }
        match packing.filter(|_| self.dropout.is_some()) {
            Some((packing, t)) => {
                self.draw(kind, packing, t, Places::Steps, width, to);
                to.iter_mut().for_each(|kept| *kept = if *kept > 0.0 { 0.0 } else { 1.0 });
            }
            None => to.fill(rate),
        }
        Some(to)
    }

    /// The factors of the candidate at step `t`, `[rows, H]`; `None` without a mask.
    pub(crate) fn candidate<'a>(
        &self,
        packing: Option<(&Packing, usize)>,
        width: usize,
        to: &'a mut [f32],
    ) -> Option<&'a [f32]> {
        self.factors(NoiseKind::Candidate, Places::Steps, packing, width, to)
    }

    /// The factors of h(t-1) in the recurrent product at step `t`, `[rows, R]`; `None` without a mask.
    pub(crate) fn recurrent<'a>(
        &self,
        packing: Option<(&Packing, usize)>,
        width: usize,
        to: &'a mut [f32],
    ) -> Option<&'a [f32]> {
        self.factors(NoiseKind::Recurrent, Places::Rows, packing, width, to)
    }

    fn factors<'a>(
        &self,
        kind: NoiseKind,
        places: Places,
        packing: Option<(&Packing, usize)>,
        width: usize,
        to: &'a mut [f32],
    ) -> Option<&'a [f32]> {
        let (packing, t) = packing.filter(|_| self.dropout.is_some() && self.rates.rate(kind) > 0.0)?;
        self.draw(kind, packing, t, places, width, to);
        Some(to)
    }

    /// Multiplies h before each step, `[N, R]`, by the factors of its row, as the recurrent product does.
    pub(crate) fn mask_read(&self, packing: &Packing, read: &mut Array2<f32>) {
        let width = read.ncols();
        let mut mask = vec![0.0; packing.batch() * width];
        for t in 0..packing.steps() {
            let rows = packing.at(t);
            let mask = &mut mask[..rows.len() * width];
            let Some(mask) = self.recurrent(Some((packing, t)), width, mask) else { return };
            let elements = read.as_slice_mut().expect("matrices are kept in standard layout");
            let step = &mut elements[rows.start * width..rows.end * width];
            step.iter_mut().zip(mask).for_each(|(read, factor)| *read *= factor);
        }
    }

    /// Whether recurrent weights are dropped.
    pub(crate) fn drops_weights(&self) -> bool {
        self.dropout.is_some() && self.rates.weights > 0.0
    }

    /// Multiplies `weight_hh`, or its gradient, by its mask.
    pub(crate) fn mask_weights(&self, mut weights: ArrayViewMut2<f32>) {
        let Some(dropout) = self.dropout.filter(|_| self.drops_weights()) else { return };
        let width = weights.ncols();
        let mut mask = vec![0.0; width];
        for (row, mut weights) in weights.rows_mut().into_iter().enumerate() {
            self.row(NoiseKind::Weights, self.owner, dropout, row * width, &mut mask);
            weights.iter_mut().zip(&mask).for_each(|(weight, factor)| *weight *= factor);
        }
    }

    /// Zeros, and `1 / (1 - rate)` for the rows of step `t`.
    fn draw(
        &self,
        kind: NoiseKind,
        packing: &Packing,
        t: usize,
        places: Places,
        width: usize,
        to: &mut [f32],
    ) {
        let dropout = self.dropout.expect("masks are drawn in training");
        for ((t, row), to) in packing.places(t..t + 1).zip(to.chunks_exact_mut(width)) {
            let first = match places {
                Places::Steps => ((dropout.first_step + t) * packing.whole() + row) * width,
                Places::Rows => row * width,
            };
            self.row(kind, self.layer, dropout, first, to);
        }
    }

    /// The mask's elements from number `first` on.
    fn row(&self, kind: NoiseKind, layer: usize, dropout: Dropout, first: usize, to: &mut [f32]) {
        let key = [dropout.seed as u32, (dropout.seed >> 32) as u32];
        let stream = dropout.batch.wrapping_mul(0x9E37_79B9) ^ kind.stream(layer, self.reverse);
        let rate = self.rates.rate(kind);
        let scale = 1.0 / (1.0 - rate);
        let mut pair = (usize::MAX, [0, 0]);
        for (element, to) in (first..).zip(to) {
            if pair.0 != element / 2 {
                pair = (element / 2, threefry(key, [(element / 2) as u32, stream]));
            }
            let u = (pair.1[element % 2] >> 8) as f32 / (1 << 24) as f32;
            *to = if u >= rate { scale } else { 0.0 };
        }
    }
}
