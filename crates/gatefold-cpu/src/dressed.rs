//! Steps of cells with layer normalisation or noise. They go row by row through [`crate::cells::dressed`]; the products
//! are those of every scan.

use crate::buffers::{Buffers, Matrix};
use crate::cells::dressed::{BackRow, Row, backward_row, forward_row};
use crate::instructions::Instructions;
use crate::noise::ScanNoise;
use crate::packing::Packing;
use crate::product::{Columns, ColumnsMut, Start};
use crate::scan::Step;
use crate::weights::Weights;
use gatefold_model::NoiseKind;
use std::sync::Arc;

/// How a scan's steps differ from those of the plain cell.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dressing<'a> {
    pub(crate) norm: Option<Norm<'a>>,
    pub(crate) noise: ScanNoise,
}

/// The parameters of layer normalisation; the gains of the two parts are packed with the weights.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Norm<'a> {
    pub(crate) epsilon: f32,
    /// `[H]`, the gain of an LSTM's cell state, and its bias, if it has one.
    pub(crate) cell: Option<(&'a [f32], Option<&'a [f32]>)>,
}

/// The most groups of lanes of a row that are normalised each by itself.
const GROUPS: usize = 2;

/// The normalised parts of some rows, as backward needs them. Backward overwrites them with the gradients of the
/// products before normalisation.
#[derive(Clone, Debug)]
pub(crate) struct NormalRows {
    /// `[N, lanes of the input H]`
    pub(crate) x: Matrix,
    /// `[N, lanes of h H]`
    pub(crate) r: Matrix,
    /// `[N, GROUPS]`: `1 / sqrt(variance + epsilon)`, likewise.
    x_scale: Matrix,
    r_scale: Matrix,
}

impl NormalRows {
    /// Room for so many rows, if the layer is normalised.
    pub(crate) fn new(buffers: &Arc<Buffers>, weights: &Weights, rows: usize) -> Option<Self> {
        weights.dressing?.norm?;
        Some(NormalRows {
            x: buffers.matrix(rows, weights.packed.input_gain.len()),
            r: buffers.matrix(rows, weights.packed.recurrent_gain.len()),
            x_scale: buffers.matrix(rows, GROUPS),
            r_scale: buffers.matrix(rows, GROUPS),
        })
    }

    /// These rows.
    pub(crate) fn rows(&mut self, rows: std::ops::Range<usize>) -> NormalPart<'_> {
        let part = |matrix: &'_ mut Matrix| {
            let width = matrix.ncols();
            rows.start * width..rows.end * width
        };
        let ranges = [part(&mut self.x), part(&mut self.r), part(&mut self.x_scale), part(&mut self.r_scale)];
        let [x, r, x_scale, r_scale] = ranges;
        NormalPart {
            x: &mut self.x.elements_mut()[x],
            r: &mut self.r.elements_mut()[r],
            x_scale: &mut self.x_scale.elements_mut()[x_scale],
            r_scale: &mut self.r_scale.elements_mut()[r_scale],
        }
    }
}

/// Some rows of [`NormalRows`].
pub(crate) struct NormalPart<'a> {
    pub(crate) x: &'a mut [f32],
    pub(crate) r: &'a mut [f32],
    pub(crate) x_scale: &'a mut [f32],
    pub(crate) r_scale: &'a mut [f32],
}

/// Normalises the groups of each row, and keeps their scales.
fn normalise(rows: &mut [f32], groups: &[usize], epsilon: f32, scales: &mut [f32]) {
    let width = groups.iter().sum();
    for (row, scales) in rows.chunks_exact_mut(width).zip(scales.chunks_exact_mut(GROUPS)) {
        let mut rest = row;
        for (&len, scale) in groups.iter().zip(scales) {
            let (group, others) = rest.split_at_mut(len);
            *scale = normalise_group(group, epsilon);
            rest = others;
        }
    }
}

/// `x = (x - mean) / sqrt(variance + epsilon)`; returns the factor.
pub(crate) fn normalise_group(x: &mut [f32], epsilon: f32) -> f32 {
    let count = x.len() as f32;
    let mean = sum(x.iter().copied()) / count;
    x.iter_mut().for_each(|x| *x -= mean);
    let scale = 1.0 / (sum(x.iter().map(|x| x * x)) / count + epsilon).sqrt();
    x.iter_mut().for_each(|x| *x *= scale);
    scale
}

/// `d = scale (d - mean(d) - y mean(d y))`, where `d` is the gradient of the normalised `y`.
pub(crate) fn normalise_group_backward(y: &[f32], scale: f32, d: &mut [f32]) {
    let count = y.len() as f32;
    let mean = sum(d.iter().copied()) / count;
    let along = sum(d.iter().zip(y).map(|(d, y)| d * y)) / count;
    d.iter_mut().zip(y).for_each(|(d, y)| *d = scale * (*d - mean - y * along));
}

/// A sum in single precision whose rounding error does not grow with its length.
fn sum(values: impl Iterator<Item = f32>) -> f32 {
    values.map(f64::from).sum::<f64>() as f32
}

/// The groups of the input's lanes and of the recurrent lanes, by their lengths.
fn groups(weights: &Weights) -> (Vec<usize>, Vec<usize>) {
    let cell = &weights.cell;
    (cell.input_groups(), cell.recurrent_groups())
}

/// [`crate::scan::input_lanes`] of a normalised layer.
pub(crate) fn input_lanes(
    set: Instructions,
    weights: &Weights,
    input: &[f32],
    width: usize,
    lanes: &mut [f32],
    normal: NormalPart,
) {
    let norm = weights.dressing.and_then(|dressing| dressing.norm).expect("the layer is normalised");
    let (all, product) = (weights.cell.lanes() * weights.cell.hidden, &weights.packed.input);
    let own = product.width();
    product.multiply(set, Columns::all(input, width), Start::Zero, ColumnsMut::all(normal.x, own));
    normalise(normal.x, &groups(weights).0, norm.epsilon, normal.x_scale);
    let (bias, gain) = (&weights.packed.bias, &weights.packed.input_gain);
    for (lanes, x) in lanes.chunks_exact_mut(all).zip(normal.x.chunks_exact(own)) {
        lanes.copy_from_slice(bias);
        lanes.iter_mut().zip(x.iter().zip(gain)).for_each(|(lane, (x, gain))| *lane += x * gain);
    }
}

/// Blocks of H of scratch, beyond the cell's own, for each row and for a step.
const ROW_BLOCKS: usize = 5;
const STEP_BLOCKS: usize = 6;

/// The elements of scratch that a step of so many rows needs beyond the cell's own.
pub(crate) fn scratch_len(hidden: usize, rows: usize) -> usize {
    (ROW_BLOCKS * rows + STEP_BLOCKS) * hidden
}

/// The masks of a step.
struct Masks<'a> {
    zoneout: Option<&'a [f32]>,
    zoneout_cell: Option<&'a [f32]>,
    candidate: Option<&'a [f32]>,
    recurrent: Option<&'a [f32]>,
}

/// Room of a step: the masks, `[rows, H]`, and what is left for a row.
fn masks<'a>(
    noise: &ScanNoise,
    place: Option<(&Packing, usize)>,
    hidden: usize,
    rows: usize,
    scratch: &'a mut [f32],
) -> (Masks<'a>, &'a mut [f32], &'a mut [f32]) {
    let (zoneout, rest) = scratch.split_at_mut(rows * hidden);
    let (zoneout_cell, rest) = rest.split_at_mut(rows * hidden);
    let (candidate, rest) = rest.split_at_mut(rows * hidden);
    let (recurrent, rest) = rest.split_at_mut(rows * hidden);
    let (read, rest) = rest.split_at_mut(rows * hidden);
    let masks = Masks {
        zoneout: noise.shares(NoiseKind::Zoneout, place, hidden, zoneout),
        zoneout_cell: noise.shares(NoiseKind::ZoneoutCell, place, hidden, zoneout_cell),
        candidate: noise.candidate(place, hidden, candidate),
        recurrent: noise.recurrent(place, hidden, recurrent),
    };
    (masks, read, rest)
}

/// One row of a mask.
fn row(mask: Option<&[f32]>, row: usize, hidden: usize) -> Option<&[f32]> {
    mask.map(|mask| &mask[row * hidden..(row + 1) * hidden])
}

/// [`crate::scan::step_forward`] of a dressed cell; `place` has the packing and the step, except in a stream.
pub(crate) fn step_forward(
    set: Instructions,
    weights: &Weights,
    dressing: &Dressing,
    place: Option<(&Packing, usize)>,
    step: Step,
    scratch: &mut [f32],
) {
    let Step { lanes, h_prev, h, mut c, normal, .. } = step;
    let (cell, packed, hidden) = (&weights.cell, weights.packed, weights.cell.hidden);
    let (width, first) = (cell.lanes() * hidden, cell.recurrent_block().lanes.start);
    let rows = h.len() / hidden;
    let (masks, read, scratch) = masks(&dressing.noise, place, hidden, rows, scratch);
    let previous = match masks.recurrent {
        Some(mask) => {
            read.iter_mut().zip(h_prev.iter().zip(mask)).for_each(|(read, (h, mask))| *read = h * mask);
            Columns::all(read, hidden)
        }
        None => Columns::all(h_prev, hidden),
    };
    match (dressing.norm, normal) {
        (Some(norm), Some(normal)) => {
            let own = packed.recurrent.width();
            weights.multiply(set, &packed.recurrent, previous, Start::Zero, ColumnsMut::all(normal.r, own));
            normalise(normal.r, &groups(weights).1, norm.epsilon, normal.r_scale);
            for (lanes, r) in lanes.chunks_exact_mut(width).zip(normal.r.chunks_exact(own)) {
                let with_gain = r.iter().zip(&packed.recurrent_gain);
                lanes[first..].iter_mut().zip(with_gain).for_each(|(lane, (r, gain))| *lane += r * gain);
            }
        }
        _ => weights.multiply(
            set,
            &packed.recurrent,
            previous,
            Start::Output,
            ColumnsMut { elements: lanes, width, first },
        ),
    }
    for n in 0..rows {
        let units = n * hidden..(n + 1) * hidden;
        let row = Row {
            cell,
            norm: dressing.norm,
            zoneout: row(masks.zoneout, n, hidden),
            zoneout_cell: row(masks.zoneout_cell, n, hidden),
            candidate: row(masks.candidate, n, hidden),
            h_prev: &h_prev[units.clone()],
            c_prev: c.as_ref().map_or(&[], |(c_prev, _)| &c_prev[units.clone()]),
        };
        let c = c.as_mut().map_or(&mut [][..], |(_, c)| &mut c[units.clone()]);
        forward_row(set, &row, &mut lanes[n * width..(n + 1) * width], c, &mut h[units], scratch);
    }
}

/// Sums over the rows and steps of a scan, in double precision, since they go on for the whole sequence.
#[derive(Clone, Debug)]
pub(crate) struct DressedSums {
    /// `[lanes of the input H]` and `[lanes of h H]`.
    pub(crate) gain_ih: Vec<f64>,
    pub(crate) gain_hh: Vec<f64>,
    /// `[H]`
    pub(crate) gain_c: Vec<f64>,
    pub(crate) bias_c: Vec<f64>,
    /// `[3 H]`
    pub(crate) peephole: Vec<f64>,
}

impl DressedSums {
    pub(crate) fn new(weights: &Weights) -> Option<Self> {
        weights.dressing?;
        let hidden = weights.cell.hidden;
        Some(DressedSums {
            gain_ih: vec![0.0; weights.packed.input_gain.len()],
            gain_hh: vec![0.0; weights.packed.recurrent_gain.len()],
            gain_c: vec![0.0; hidden],
            bias_c: vec![0.0; hidden],
            peephole: vec![0.0; weights.cell.peephole.map_or(0, <[f32]>::len)],
        })
    }
}

/// The rows of a step backward.
pub(crate) struct BackStep<'a> {
    pub(crate) lanes: &'a mut [f32],
    pub(crate) h_prev: &'a [f32],
    pub(crate) c_prev: &'a [f32],
    pub(crate) d_out: &'a [f32],
    pub(crate) d_prev: &'a mut [f32],
    pub(crate) d_c: &'a mut [f32],
    pub(crate) normal: Option<NormalPart<'a>>,
    pub(crate) sums: &'a mut DressedSums,
}

/// A step backward: the gradients of the pre-activations over the lanes, those of the products over the normalised
/// parts, and that of h(t-1), added.
pub(crate) fn step_backward(
    set: Instructions,
    weights: &Weights,
    dressing: &Dressing,
    (packing, t): (&Packing, usize),
    step: BackStep,
    scratch: &mut [f32],
) {
    let BackStep { lanes, h_prev, c_prev, d_out, d_prev, d_c, normal, sums } = step;
    let (cell, packed, hidden) = (&weights.cell, weights.packed, weights.cell.hidden);
    let (width, first) = (cell.lanes() * hidden, cell.recurrent_block().lanes.start);
    let rows = d_out.len() / hidden;
    let (masks, read, scratch) = masks(&dressing.noise, Some((packing, t)), hidden, rows, scratch);
    for n in 0..rows {
        let units = n * hidden..(n + 1) * hidden;
        let row = Row {
            cell,
            norm: dressing.norm,
            zoneout: row(masks.zoneout, n, hidden),
            zoneout_cell: row(masks.zoneout_cell, n, hidden),
            candidate: row(masks.candidate, n, hidden),
            h_prev: &h_prev[units.clone()],
            c_prev: c_prev.get(units.clone()).unwrap_or(&[]),
        };
        let back = BackRow {
            lanes: &mut lanes[n * width..(n + 1) * width],
            d_h: &d_out[units.clone()],
            d_prev: &mut d_prev[units.clone()],
            d_c: d_c.get_mut(units.clone()).unwrap_or(&mut []),
        };
        backward_row(set, &row, back, sums, scratch);
    }
    let d = match (dressing.norm, normal) {
        (Some(_), Some(normal)) => {
            let (of_input, of_h) = groups(weights);
            let x = (&mut *normal.x, &*normal.x_scale, &packed.input_gain[..], &mut sums.gain_ih[..]);
            product_backward((lanes, width, 0), &of_input, x);
            let r = (&mut *normal.r, &*normal.r_scale, &packed.recurrent_gain[..], &mut sums.gain_hh[..]);
            product_backward((lanes, width, first), &of_h, r);
            Columns::all(normal.r, packed.recurrent_gain.len())
        }
        _ => Columns { elements: &*lanes, width, first },
    };
    match masks.recurrent {
        Some(mask) => {
            weights.multiply(set, &packed.recurrent, d, Start::Zero, ColumnsMut::all(read, hidden));
            let through = read.iter().zip(mask);
            d_prev.iter_mut().zip(through).for_each(|(d_prev, (d, mask))| *d_prev += d * mask);
        }
        None => weights.multiply(set, &packed.recurrent, d, Start::Output, ColumnsMut::all(d_prev, hidden)),
    }
}

/// Turns normalised parts into the gradients of the products, from those of the pre-activations in the lanes from `first`
/// on, and adds the gradient of the gain.
fn product_backward(
    (lanes, all, first): (&[f32], usize, usize),
    groups: &[usize],
    (normal, scales, gain, sums): (&mut [f32], &[f32], &[f32], &mut [f64]),
) {
    let width = gain.len();
    let mut d = vec![0.0; width];
    let rows = lanes.chunks_exact(all).zip(normal.chunks_exact_mut(width)).zip(scales.chunks_exact(GROUPS));
    for ((lanes, normal), scales) in rows {
        for (k, lane) in lanes[first..first + width].iter().enumerate() {
            sums[k] += f64::from(*lane) * f64::from(normal[k]);
            d[k] = lane * gain[k];
        }
        let mut begin = 0;
        for (&len, &scale) in groups.iter().zip(scales) {
            normalise_group_backward(&normal[begin..begin + len], scale, &mut d[begin..begin + len]);
            begin += len;
        }
        normal.copy_from_slice(&d);
    }
}
