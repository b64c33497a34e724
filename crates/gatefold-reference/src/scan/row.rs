//! Mirrors of the kernels that run a step row by row, after its recurrent product and before the product on the way back,
//! in the layout of the device: a unit's lanes side by side.

use crate::Real;
use crate::cells::{Gating, gru, lanes, lstm, rnn};
use crate::norm::{normalise, normalise_backward};
use gatefold_model::{Cell, GruCell, Reset};
use ndarray::{Array1, Array2, Array3, ArrayView2, ArrayView3, s};

/// A step's inputs. Shares and masks are given for every unit: zeros where h and the state are new, ones where no candidate
/// is dropped.
#[derive(Clone, Copy, Debug)]
pub struct RowStep<'a, R> {
    /// A cell of one stage.
    pub cell: Cell,
    /// The bound of the pre-activations.
    pub clip: Option<R>,
    /// The parameters of layer normalisation.
    pub norm: Option<RowNorm<'a, R>>,
    /// `[3, H]`, zeros without peepholes.
    pub peephole: ArrayView2<'a, R>,
    /// `[B, H]`, the share of h(t-1) that a unit keeps.
    pub share: ArrayView2<'a, R>,
    /// `[B, H]`, that of the state.
    pub state_share: ArrayView2<'a, R>,
    /// `[B, H]`, the factors of the candidate.
    pub candidate: ArrayView2<'a, R>,
    /// `[B, H, L]`, from the inputs: with biases, or before normalisation.
    pub x: ArrayView3<'a, R>,
    /// `[B, H, L]`, the recurrent product.
    pub r: ArrayView3<'a, R>,
    /// `[B, H]`
    pub h_prev: ArrayView2<'a, R>,
    /// `[B, H]`
    pub state_prev: ArrayView2<'a, R>,
}

/// Layer normalisation's parameters, by lanes.
#[derive(Clone, Copy, Debug)]
pub struct RowNorm<'a, R> {
    /// Added to variances.
    pub epsilon: R,
    /// `[H, L]`
    pub bias: ArrayView2<'a, R>,
    /// `[H, L]`
    pub gain_x: ArrayView2<'a, R>,
    /// `[H, L]`
    pub gain_r: ArrayView2<'a, R>,
    /// `[2, H]`, the gain and the bias of the state.
    pub state: ArrayView2<'a, R>,
}

/// A step's results.
#[derive(Clone, Debug)]
pub struct RowForward<R> {
    /// `[B, H, L]`, normalised if there is a norm.
    pub x: Array3<R>,
    /// `[B, H, L]`, likewise.
    pub r: Array3<R>,
    /// `[B, 6]`: the factors of the groups of x and of r, two each; mean and factor of the state.
    pub stats: Array2<R>,
    /// `[B, H, L]`
    pub saved: Array3<R>,
    /// `[B, H]`, the state before zoneout.
    pub new_state: Array2<R>,
    /// `[B, H]`
    pub state: Array2<R>,
    /// `[B, H]`
    pub h: Array2<R>,
}

/// Lanes that are normalised together, of x and of r.
fn groups(cell: &Cell) -> [Vec<Vec<usize>>; 2] {
    match cell {
        Cell::Gru(GruCell { reset: Reset::After, .. }) => {
            [vec![vec![0, 1], vec![2]], vec![vec![0, 1], vec![3]]]
        }
        cell => {
            let all: Vec<usize> = (0..lanes(cell)).collect();
            [vec![all.clone()], vec![all]]
        }
    }
}

/// The elements of a group of a row's lanes `[H, L]`, unit after unit.
fn gather<R: Real>(row: ArrayView2<R>, group: &[usize]) -> Array1<R> {
    let units = row.rows().into_iter();
    units.flat_map(|unit| group.iter().map(move |&lane| unit[lane]).collect::<Vec<_>>()).collect()
}

fn scatter<R: Real>(values: &Array1<R>, group: &[usize], row: &mut Array2<R>) {
    let count = group.len();
    for (at, &value) in values.iter().enumerate() {
        row[[at / count, group[at % count]]] = value;
    }
}

/// A row's lanes normalised, zero in lanes of no group, and the factors of the groups; those of a group that the cell does
/// not have are `1 / sqrt(epsilon)`.
fn normalised<R: Real>(row: ArrayView2<R>, groups: &[Vec<usize>], epsilon: R) -> (Array2<R>, [R; 2]) {
    let mut normal = Array2::zeros(row.dim());
    let mut scales = [R::ONE / epsilon.sqrt(); 2];
    for (group, scale) in groups.iter().zip(&mut scales) {
        let values;
        (values, *scale) = normalise(gather(row, group).view(), epsilon);
        scatter(&values, group, &mut normal);
    }
    (normal, scales)
}

fn unit<R: Real, const L: usize>(values: ArrayView3<R>, row: usize, unit: usize) -> [R; L] {
    std::array::from_fn(|lane| values[[row, unit, lane]])
}

/// The step of every row.
///
/// # Panics
/// For a GRU that resets before the product.
pub fn forward<R: Real>(step: &RowStep<R>) -> RowForward<R> {
    let (batch, hidden) = step.h_prev.dim();
    let gating = Gating::new(&step.cell, step.clip);
    let zeros = || Array2::zeros((batch, hidden));
    let mut out = RowForward {
        x: step.x.to_owned(),
        r: step.r.to_owned(),
        stats: Array2::zeros((batch, 6)),
        saved: Array3::zeros(step.x.dim()),
        new_state: zeros(),
        state: zeros(),
        h: zeros(),
    };
    let mut pre = &step.x + &step.r;
    if let Some(norm) = step.norm {
        let [of_x, of_r] = groups(&step.cell);
        for row in 0..batch {
            let (x, x_scales) = normalised(step.x.slice(s![row, .., ..]), &of_x, norm.epsilon);
            let (r, r_scales) = normalised(step.r.slice(s![row, .., ..]), &of_r, norm.epsilon);
            let sum = &x * &norm.gain_x + norm.bias + &r * &norm.gain_r;
            pre.slice_mut(s![row, .., ..]).assign(&sum);
            out.x.slice_mut(s![row, .., ..]).assign(&x);
            out.r.slice_mut(s![row, .., ..]).assign(&r);
            for (at, scale) in x_scales.into_iter().chain(r_scales).enumerate() {
                out.stats[[row, at]] = scale;
            }
        }
    }
    for row in 0..batch {
        let mut new_h = Array1::zeros(hidden);
        for k in 0..hidden {
            let (at, h_prev, mask) = ([row, k], step.h_prev[[row, k]], step.candidate[[row, k]]);
            let saved = match step.cell {
                Cell::Rnn { activation } => {
                    let (kept, h) = rnn::cell_forward(gating, activation, pre[[row, k, 0]]);
                    new_h[k] = h;
                    vec![kept]
                }
                Cell::Lstm(cell) => {
                    let (pre, peephole) = (unit(pre.view(), row, k), peephole(step, k));
                    let (kept, c) =
                        lstm::gates_forward(gating, &cell, pre, peephole, step.state_prev[at], mask);
                    out.new_state[at] = c;
                    kept.to_vec()
                }
                Cell::Custom(_) => {
                    unreachable!("the model refuses layer normalisation and noise in custom cells")
                }
                Cell::Gru(cell) => {
                    assert_eq!(cell.reset, Reset::After, "reset before the product has two stages");
                    let pre = unit(pre.view(), row, k);
                    let (kept, h) = gru::after_forward(gating, cell.activations, pre, h_prev, mask);
                    new_h[k] = h;
                    kept.to_vec()
                }
            };
            saved.into_iter().enumerate().for_each(|(lane, value)| out.saved[[row, k, lane]] = value);
        }
        if let Cell::Lstm(cell) = step.cell {
            let (shown, _, mean, scale) = shown(step, out.new_state.row(row).to_owned());
            if step.norm.is_some() {
                (out.stats[[row, 4]], out.stats[[row, 5]]) = (mean, scale);
            }
            for k in 0..hidden {
                new_h[k] = lstm::output(gating, &cell, unit(out.saved.view(), row, k), shown[k]);
                let share = step.state_share[[row, k]];
                out.state[[row, k]] =
                    share * step.state_prev[[row, k]] + (R::ONE - share) * out.new_state[[row, k]];
            }
        }
        for k in 0..hidden {
            let share = step.share[[row, k]];
            out.h[[row, k]] = share * step.h_prev[[row, k]] + (R::ONE - share) * new_h[k];
        }
    }
    out
}

fn peephole<R: Real>(step: &RowStep<R>, unit: usize) -> lstm::Peephole<R> {
    std::array::from_fn(|block| step.peephole[[block, unit]])
}

/// A row's state as the output sees it, the normalised state, its mean and its factor.
fn shown<R: Real>(step: &RowStep<R>, c: Array1<R>) -> (Array1<R>, Array1<R>, R, R) {
    let Some(norm) = step.norm else { return (c.clone(), c, R::ZERO, R::ONE) };
    let mean = c.sum() / R::from_f64(c.len() as f64);
    let (normal, scale) = normalise(c.view(), norm.epsilon);
    let shown = &normal * &norm.state.row(0) + norm.state.row(1);
    (shown, normal, mean, scale)
}

/// The gradients of a step; those of parameters are given for each row.
#[derive(Clone, Debug)]
pub struct RowBackward<R> {
    /// `[B, H, L]`, of the pre-activations.
    pub d_pre: Array3<R>,
    /// `[B, H, L]`, of x before normalisation.
    pub d_x: Array3<R>,
    /// `[B, H, L]`, of the recurrent product.
    pub d_r: Array3<R>,
    /// `[B, H]`, of h(t-1) around all weights.
    pub carry_h: Array2<R>,
    /// `[B, H]`, of the state before.
    pub carry_state: Array2<R>,
    /// `[3, B, H]`, of the peepholes.
    pub peephole: Array3<R>,
    /// `[B, H, L]`, of the gain of x.
    pub gain_x: Array3<R>,
    /// `[B, H, L]`, of the gain of r.
    pub gain_r: Array3<R>,
    /// `[2, B, H]`, of the gain and the bias of the state.
    pub state: Array3<R>,
}

/// The chain rule through [`forward`], from the whole gradient of h and that of the state after the step.
pub fn backward<R: Real>(
    step: &RowStep<R>,
    forward: &RowForward<R>,
    d_h: ArrayView2<R>,
    d_state: ArrayView2<R>,
) -> RowBackward<R> {
    let (batch, hidden) = d_h.dim();
    let gating = Gating::new(&step.cell, step.clip);
    let (zeros, lanes_zeros) = (|| Array2::zeros((batch, hidden)), || Array3::zeros(step.x.dim()));
    let mut out = RowBackward {
        d_pre: lanes_zeros(),
        d_x: lanes_zeros(),
        d_r: lanes_zeros(),
        carry_h: zeros(),
        carry_state: zeros(),
        peephole: Array3::zeros((3, batch, hidden)),
        gain_x: lanes_zeros(),
        gain_r: lanes_zeros(),
        state: Array3::zeros((2, batch, hidden)),
    };
    for row in 0..batch {
        let d_new: Vec<R> = (0..hidden).map(|k| d_h[[row, k]] * (R::ONE - step.share[[row, k]])).collect();
        let c = forward.new_state.row(row).to_owned();
        let (shown, normal, _, scale) = shown(step, c.clone());
        let mut d_shown = Array1::zeros(hidden);
        if let Cell::Lstm(cell) = step.cell {
            for k in 0..hidden {
                let saved = unit(forward.saved.view(), row, k);
                d_shown[k] = lstm::output_backward(gating, &cell, saved, shown[k], d_new[k]);
            }
            if let Some(norm) = step.norm {
                out.state.slice_mut(s![0, row, ..]).assign(&(&d_shown * &normal));
                out.state.slice_mut(s![1, row, ..]).assign(&d_shown);
                let d_normal = &d_shown * &norm.state.row(0);
                d_shown = normalise_backward(normal.view(), scale, d_normal.view());
            }
        }
        for k in 0..hidden {
            let (at, mask) = ([row, k], step.candidate[[row, k]]);
            out.carry_h[at] = d_h[at] * step.share[at];
            let d_pre = match step.cell {
                Cell::Rnn { activation } => {
                    vec![rnn::cell_backward(gating, activation, forward.saved[[row, k, 0]], d_new[k])]
                }
                Cell::Lstm(cell) => {
                    let share = step.state_share[at];
                    let back = lstm::gates_backward(
                        gating,
                        &cell,
                        unit(forward.saved.view(), row, k),
                        peephole(step, k),
                        (step.state_prev[at], c[k], shown[k]),
                        mask,
                        d_new[k],
                        d_state[at] * (R::ONE - share) + d_shown[k],
                    );
                    out.carry_state[at] = d_state[at] * share + back.d_c_prev;
                    let [d_i, d_f, _, d_o] = back.d_pre;
                    let sums = [d_i * step.state_prev[at], d_f * step.state_prev[at], d_o * c[k]];
                    for (block, sum) in sums.into_iter().enumerate() {
                        out.peephole[[block, row, k]] = sum;
                    }
                    back.d_pre.to_vec()
                }
                Cell::Custom(_) => {
                    unreachable!("the model refuses layer normalisation and noise in custom cells")
                }
                Cell::Gru(cell) => {
                    let saved = unit(forward.saved.view(), row, k);
                    let h_prev = step.h_prev[at];
                    let (d_pre, past) =
                        gru::after_backward(gating, cell.activations, saved, h_prev, d_new[k], mask);
                    out.carry_h[at] += past;
                    d_pre.to_vec()
                }
            };
            d_pre.into_iter().enumerate().for_each(|(lane, d)| out.d_pre[[row, k, lane]] = d);
        }
    }
    (out.d_x, out.d_r) = (out.d_pre.clone(), out.d_pre.clone());
    if let Some(norm) = step.norm {
        let [of_x, of_r] = groups(&step.cell);
        (out.gain_x, out.gain_r) = (&out.d_pre * &forward.x, &out.d_pre * &forward.r);
        for (groups, gain, normal, first, d) in [
            (of_x, norm.gain_x, &forward.x, 0, &mut out.d_x),
            (of_r, norm.gain_r, &forward.r, 2, &mut out.d_r),
        ] {
            for row in 0..batch {
                let d_normal = &out.d_pre.slice(s![row, .., ..]) * &gain;
                let mut d_row = Array2::zeros(d_normal.dim());
                for (n, group) in groups.iter().enumerate() {
                    let y = gather(normal.slice(s![row, .., ..]), group);
                    let d_y = gather(d_normal.view(), group);
                    let scale = forward.stats[[row, first + n]];
                    scatter(&normalise_backward(y.view(), scale, d_y.view()), group, &mut d_row);
                }
                d.slice_mut(s![row, .., ..]).assign(&d_row);
            }
        }
    }
    out
}
