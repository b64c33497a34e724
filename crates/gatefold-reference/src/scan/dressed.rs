//! Cells with layer normalisation or noise: the parts of a step that differ from those of the plain cell.

use super::step::{is_active, set_unit_lanes, unit_lanes, unit_peephole};
use super::{Part, Recurrence, StepForward, StepInput, StepSaved};
use crate::Real;
use crate::cells::{gru, lstm, rnn};
use crate::linear::{column_sum, matmul, matmul_bt};
use crate::norm::{normalise, normalise_backward, normalise_gates, normalise_gates_backward};
use crate::sequence::threefry2x32;
use gatefold_model::{Cell, LstmGate, Noise, NoiseKind};
use ndarray::{Array1, Array2, ArrayView1, ArrayView2};

/// The parameters of layer normalisation.
#[derive(Clone, Copy, Debug)]
pub struct Norm<'a, R> {
    /// Added to variances.
    pub epsilon: R,
    /// `[G H]`, of the part from the input.
    pub gain_ih: ArrayView1<'a, R>,
    /// `[G H]`, of the part from h.
    pub gain_hh: ArrayView1<'a, R>,
    /// `[H]`, the gain of an LSTM's cell state, and its bias, if it has one.
    pub cell: Option<(ArrayView1<'a, R>, Option<ArrayView1<'a, R>>)>,
}

/// The gradients of those parameters.
#[derive(Clone, Debug)]
pub struct NormGradients<R> {
    /// `[G H]`
    pub d_gain_ih: Array1<R>,
    /// `[G H]`
    pub d_gain_hh: Array1<R>,
    /// `[H]` each, of the gain and the bias of the cell state.
    pub cell: Option<(Array1<R>, Array1<R>)>,
}

impl<R: Real> NormGradients<R> {
    /// Zeros for `rows` rows of the weights and, with a cell state, so many units.
    pub fn zeros(rows: usize, cell: Option<usize>) -> Self {
        NormGradients {
            d_gain_ih: Array1::zeros(rows),
            d_gain_hh: Array1::zeros(rows),
            cell: cell.map(|hidden| (Array1::zeros(hidden), Array1::zeros(hidden))),
        }
    }

    /// Adds those of a step's cell state.
    pub(super) fn add_cell(&mut self, step: Option<&NormGradients<R>>) {
        if let (Some((gain, bias)), Some((d_gain, d_bias))) =
            (&mut self.cell, step.and_then(|step| step.cell.as_ref()))
        {
            *gain += d_gain;
            *bias += d_bias;
        }
    }
}

/// The noise of a scan's steps.
#[derive(Clone, Copy, Debug, Default)]
pub struct StepNoise {
    /// The rates.
    pub rates: Noise,
    /// The source of masks in training; inference has none.
    pub stream: Option<MaskStream>,
}

/// The place of a scan's masks in the generator.
#[derive(Clone, Copy, Debug)]
pub struct MaskStream {
    /// The key of the generator.
    pub seed: u64,
    /// The batch's number.
    pub batch: u32,
    /// The layer's index.
    pub layer: usize,
    /// The layer that owns the weights.
    pub owner: usize,
    /// Whether the scan is reversed.
    pub reverse: bool,
}

impl MaskStream {
    /// Whether element `index` of a mask is kept.
    fn keeps(&self, kind: NoiseKind, index: usize, rate: f32) -> bool {
        let layer = if kind == NoiseKind::Weights { self.owner } else { self.layer };
        let stream = kind.stream(layer, self.reverse);
        let key = [self.seed as u32, (self.seed >> 32) as u32];
        let counter = [(index / 2) as u32, self.batch.wrapping_mul(0x9E37_79B9) ^ stream];
        let word = threefry2x32(key, counter)[index % 2];
        (word >> 8) as f32 / (1 << 24) as f32 >= rate
    }
}

/// The masks of one step; `None` where a rate is zero.
#[derive(Clone, Debug)]
pub struct Masks<R> {
    /// `[B, H]`, the share of h(t-1) that a unit keeps: 0 or 1, in inference the rate.
    pub zoneout: Option<Array2<R>>,
    /// `[B, H]`, that of c(t-1).
    pub zoneout_cell: Option<Array2<R>>,
    /// `[B, R]`, the factors of h(t-1) in the recurrent product.
    pub recurrent: Option<Array2<R>>,
    /// `[B, H]`, the factors of the candidate.
    pub candidate: Option<Array2<R>>,
}

impl StepNoise {
    /// The masks of step `t` for `batch` rows.
    pub fn masks<R: Real>(&self, t: usize, batch: usize, recurrence: &Recurrence<R>) -> Masks<R> {
        let hidden = recurrence.hidden();
        let zoned = |kind| match self.stream {
            _ if self.rates.rate(kind) == 0.0 => None,
            None => Some(Array2::from_elem((batch, hidden), R::from_f64(f64::from(self.rates.rate(kind))))),
            Some(stream) => Some(Array2::from_shape_fn((batch, hidden), |(row, unit)| {
                let kept = stream.keeps(kind, (t * batch + row) * hidden + unit, self.rates.rate(kind));
                if kept { R::ZERO } else { R::ONE }
            })),
        };
        Masks {
            zoneout: zoned(NoiseKind::Zoneout),
            zoneout_cell: zoned(NoiseKind::ZoneoutCell),
            recurrent: self.factors(NoiseKind::Recurrent, (batch, recurrence.width()), 0),
            candidate: self.factors(NoiseKind::Candidate, (batch, hidden), t * batch * hidden),
        }
    }

    /// The factors of `weight_hh`, shaped like it: DropConnect. The weights of a scan have them already.
    pub fn weight_mask<R: Real>(&self, shape: (usize, usize)) -> Option<Array2<R>> {
        self.factors(NoiseKind::Weights, shape, 0)
    }

    /// 0 or `1 / (1 - rate)` for the elements from number `first` on.
    fn factors<R: Real>(&self, kind: NoiseKind, shape: (usize, usize), first: usize) -> Option<Array2<R>> {
        let (rate, stream) = (self.rates.rate(kind), self.stream?);
        let scale = R::from_f64(f64::from(1.0 / (1.0 - rate)));
        (rate > 0.0).then(|| {
            Array2::from_shape_fn(shape, |(row, column)| {
                let kept = stream.keeps(kind, first + row * shape.1 + column, rate);
                if kept { scale } else { R::ZERO }
            })
        })
    }
}

impl<'a, R: Real> Recurrence<'a, R> {
    /// Whether steps differ from those of the plain cell.
    pub fn is_dressed(&self) -> bool {
        let Noise { weights: _, zoneout, zoneout_cell, recurrent, candidate } = self.noise.rates;
        self.norm.is_some() || [zoneout, zoneout_cell, recurrent, candidate].iter().any(|&rate| rate > 0.0)
    }
}

/// `h(t-1)` as the recurrent product reads it.
fn read<R: Real>(h_prev: ArrayView2<R>, masks: Option<&Masks<R>>) -> Array2<R> {
    match masks.and_then(|masks| masks.recurrent.as_ref()) {
        Some(mask) => &h_prev * mask,
        None => h_prev.to_owned(),
    }
}

/// `(m h(t-1)) W_hh^T [B, G H]`, normalised and times its gain if the layer is normalised.
pub(super) fn recurrent_product<R: Real>(
    recurrence: &Recurrence<R>,
    h_prev: ArrayView2<R>,
    masks: Option<&Masks<R>>,
) -> Array2<R> {
    let product = matmul_bt(read(h_prev, masks).view(), recurrence.w_hh);
    match &recurrence.norm {
        Some(norm) => normalise_gates(&recurrence.cell, product.view(), norm.epsilon) * norm.gain_hh,
        None => product,
    }
}

/// The cotangents of the recurrent product.
#[derive(Clone, Debug)]
pub struct ProductBackward<R> {
    /// `[B, R]`, h(t-1) as the product read it.
    pub read: Array2<R>,
    /// `[B, G H]`, of the product before normalisation; with reset before the product, the candidate's part too.
    pub d_product: Array2<R>,
    /// `[B, R]`, of h(t-1) through the product; with reset before the product, without the candidate's part.
    pub d_h: Array2<R>,
    /// `[G H]`, of the gain.
    pub d_gain_hh: Option<Array1<R>>,
}

/// The chain rule through a step's recurrent product, from the cotangents `d_pre [B, L H]` of its pre-activations.
pub fn product_backward<R: Real>(
    recurrence: &Recurrence<R>,
    h_prev: ArrayView2<R>,
    masks: &Masks<R>,
    d_pre: ArrayView2<R>,
) -> ProductBackward<R> {
    let Recurrence { cell, w_hh, .. } = *recurrence;
    let read = read(h_prev, Some(masks));
    let mut d_product = Part::Recurrent.of(&cell, d_pre);
    let mut d_gain_hh = None;
    if let Some(norm) = &recurrence.norm {
        let product = matmul_bt(read.view(), w_hh);
        let normal = normalise_gates(&cell, product.view(), norm.epsilon);
        d_gain_hh = Some(column_sum((&normal * &d_product).view()));
        let d_normal = d_product * norm.gain_hh;
        d_product = normalise_gates_backward(&cell, product.view(), norm.epsilon, d_normal.view());
    }
    let mut d_h = match recurrence.resets_before() {
        true => super::initial_backward(recurrence, d_pre),
        false => matmul(d_product.view(), w_hh),
    };
    if let Some(mask) = &masks.recurrent {
        d_h = d_h * mask;
    }
    ProductBackward { read, d_product, d_h, d_gain_hh }
}

/// One element of a mask, or what stands for a mask that is not there.
fn element<R: Real>(mask: Option<&Array2<R>>, k: [usize; 2], without: R) -> R {
    mask.map_or(without, |mask| mask[k])
}

/// `share prev + (1 - share) new`
fn kept<R: Real>(share: R, prev: R, new: R) -> R {
    share * prev + (R::ONE - share) * new
}

/// The cell state as the output sees it.
fn shown<R: Real>(recurrence: &Recurrence<R>, c: &Array1<R>) -> Array1<R> {
    let norm = recurrence.norm.and_then(|norm| Some((norm.epsilon, norm.cell?)));
    let Some((epsilon, (gain, bias))) = norm else { return c.clone() };
    let shown = normalise(c.view(), epsilon).0 * gain;
    match bias {
        Some(bias) => shown + bias,
        None => shown,
    }
}

/// The cell in every row and unit, then zoneout: `h = z h(t-1) + (1 - z) h'`, and an LSTM's c likewise.
pub(super) fn cells_forward<R: Real>(
    recurrence: &Recurrence<R>,
    input: &StepInput<R>,
    step: &mut StepForward<R>,
) {
    let (gating, hidden, batch) = (recurrence.gating(), recurrence.hidden(), step.cell.nrows());
    let masks = input.masks.expect("a dressed step has masks");
    step.new_c = step.c.clone();
    for row in 0..batch {
        let mask = |unit| element(masks.candidate.as_ref(), [row, unit], R::ONE);
        let new_h: Array1<R> = match recurrence.cell {
            Cell::Rnn { activation } => Array1::from_shape_fn(hidden, |unit| {
                let (saved, h) = rnn::cell_forward(gating, activation, step.pre[[row, unit]]);
                step.saved[[row, unit]] = saved;
                h
            }),
            Cell::Custom(_) => {
                unreachable!("the model refuses layer normalisation and noise in custom cells")
            }
            Cell::Gru(cell) => Array1::from_shape_fn(hidden, |unit| {
                let (pre, h_prev) = (unit_lanes(&step.pre, row, unit, hidden), input.h_prev[[row, unit]]);
                let (saved, h) = gru::after_forward(gating, cell.activations, pre, h_prev, mask(unit));
                set_unit_lanes(&mut step.saved, row, unit, hidden, &saved);
                h
            }),
            Cell::Lstm(cell) => {
                let c_prev = input.c_prev.expect("an LSTM has a cell state");
                let c = Array1::from_shape_fn(hidden, |unit| {
                    let pre = unit_lanes(&step.pre, row, unit, hidden);
                    let peephole = unit_peephole(recurrence.peephole, unit, hidden);
                    let c_prev = c_prev[[row, unit]];
                    let (saved, c) = lstm::gates_forward(gating, &cell, pre, peephole, c_prev, mask(unit));
                    set_unit_lanes(&mut step.saved, row, unit, hidden, &saved);
                    c
                });
                let shown = shown(recurrence, &c);
                for unit in 0..hidden {
                    let k = [row, unit];
                    let share = element(masks.zoneout_cell.as_ref(), k, R::ZERO);
                    step.c.as_mut().expect("an LSTM has a cell state")[k] = kept(share, c_prev[k], c[unit]);
                    step.new_c.as_mut().expect("an LSTM has a cell state")[k] = c[unit];
                }
                Array1::from_shape_fn(hidden, |unit| {
                    lstm::output(gating, &cell, unit_lanes(&step.saved, row, unit, hidden), shown[unit])
                })
            }
        };
        for unit in 0..hidden {
            let k = [row, unit];
            let share = element(masks.zoneout.as_ref(), k, R::ZERO);
            step.cell[k] = kept(share, input.h_prev[k], new_h[unit]);
        }
    }
}

/// The chain rule through [`cells_forward`]: writes `d_pre`, adds the shares of h(t-1) that bypass all weights, and turns
/// the cotangent of c after the step into that before it. Returns the gradients of a normalised cell state.
pub(super) fn cells_backward<R: Real>(
    recurrence: &Recurrence<R>,
    kept: &StepSaved<R>,
    d_cell: &Array2<R>,
    (d_h_prev, d_c_prev): (&mut Array2<R>, &mut Option<Array2<R>>),
    d_pre: &mut Array2<R>,
) -> Option<NormGradients<R>> {
    let (gating, hidden, batch) = (recurrence.gating(), recurrence.hidden(), d_cell.nrows());
    let masks = kept.masks.expect("a dressed step has masks");
    let saved = kept.saved.to_owned();
    let mut found = recurrence.norm.map(|norm| NormGradients::zeros(0, norm.cell.map(|_| hidden)));
    for row in (0..batch).filter(|&row| is_active(kept.active, row)) {
        let mask = |unit| element(masks.candidate.as_ref(), [row, unit], R::ONE);
        let share = |unit| element(masks.zoneout.as_ref(), [row, unit], R::ZERO);
        let d_new: Vec<R> = (0..hidden).map(|unit| d_cell[[row, unit]] * (R::ONE - share(unit))).collect();
        for unit in 0..hidden {
            d_h_prev[[row, unit]] += d_cell[[row, unit]] * share(unit);
        }
        match recurrence.cell {
            Cell::Rnn { activation } => {
                for unit in 0..hidden {
                    d_pre[[row, unit]] =
                        rnn::cell_backward(gating, activation, saved[[row, unit]], d_new[unit]);
                }
            }
            Cell::Custom(_) => {
                unreachable!("the model refuses layer normalisation and noise in custom cells")
            }
            Cell::Gru(cell) => {
                for unit in 0..hidden {
                    let lanes = unit_lanes(&saved, row, unit, hidden);
                    let h_prev = kept.h_prev[[row, unit]];
                    let (d_lanes, past) =
                        gru::after_backward(gating, cell.activations, lanes, h_prev, d_new[unit], mask(unit));
                    set_unit_lanes(d_pre, row, unit, hidden, &d_lanes);
                    d_h_prev[[row, unit]] += past;
                }
            }
            Cell::Lstm(cell) => {
                let (Some(d_c), Some(c_prev)) = (d_c_prev.as_mut(), kept.c_prev) else {
                    panic!("an LSTM has a cell state");
                };
                let lanes = |unit| unit_lanes::<R, { LstmGate::COUNT }>(&saved, row, unit, hidden);
                let c = Array1::from_shape_fn(hidden, |unit| {
                    lstm::state(gating, &cell, lanes(unit), c_prev[[row, unit]], mask(unit))
                });
                let shown = shown(recurrence, &c);
                let mut d_shown = Array1::from_shape_fn(hidden, |unit| {
                    lstm::output_backward(gating, &cell, lanes(unit), shown[unit], d_new[unit])
                });
                if let (Some(norm), Some(found)) = (&recurrence.norm, &mut found)
                    && let (Some((gain, _)), Some((d_gain, d_bias))) = (norm.cell, &mut found.cell)
                {
                    let (normal, scale) = normalise(c.view(), norm.epsilon);
                    *d_gain += &(&d_shown * &normal);
                    *d_bias += &d_shown;
                    let d_normal = d_shown * gain;
                    d_shown = normalise_backward(normal.view(), scale, d_normal.view());
                }
                for unit in 0..hidden {
                    let k = [row, unit];
                    let share = element(masks.zoneout_cell.as_ref(), k, R::ZERO);
                    let back = lstm::gates_backward(
                        gating,
                        &cell,
                        lanes(unit),
                        unit_peephole(recurrence.peephole, unit, hidden),
                        (c_prev[k], c[unit], shown[unit]),
                        mask(unit),
                        d_new[unit],
                        d_c[k] * (R::ONE - share) + d_shown[unit],
                    );
                    set_unit_lanes(d_pre, row, unit, hidden, &back.d_pre);
                    d_c[k] = d_c[k] * share + back.d_c_prev;
                }
            }
        }
    }
    found
}
