//! Tangents of steps, stage by stage, with every cell and option, against the forward step in dual numbers.

use super::scan::{Case, STEPS, T, cases, flat};
use super::stages::Subject;
use crate::compare::Tolerance;
use crate::data::matrix;
use crate::selfcheck::Checks;
use gatefold::hooks::run_kernel;
use gatefold::layers::{Cell, GruGate};
use gatefold::{Error, Gpu};
use gatefold_reference::cells::Gating;
use gatefold_reference::scan::kernel::{self, Stage, StageInput};
use gatefold_reference::{Dual, Real};
use gatefold_shaders::{KernelId, params};
use ndarray::{Array2, Array3, Axis, concatenate, s};

/// Slots of h.
const SLOTS: usize = 5;
/// Columns that the second segment of a product reads.
const SKIPPED: usize = 3;
/// The slots of the product, of its second segment, of the step before, of the result, and of h before those of the state.
const R_SLOT: usize = 2;
const SKIP_SLOT: usize = 0;
const H_FROM: usize = 1;
const H_TO: usize = 3;
const STATE_BACK: usize = 1;

/// The mirror of a stage: a readout is the vanilla cell of its function.
fn mirrored(stage: Stage) -> Stage {
    match stage {
        Stage::Readout(activation) => Stage::Cell(Cell::Rnn { activation }),
        stage => stage,
    }
}

/// A slot as the stage sees it: the second stage of a GRU has z as the first kept it.
fn seen(case: &Case, mut slot: Array3<Dual>) -> Array3<Dual> {
    if let Stage::Update(cell) = case.stage() {
        let gating = Gating::new(&Cell::Gru(cell), case.subject.clip.map(|clip| Dual::from_f64(clip.into())));
        let mut z = slot.slice_mut(s![.., .., GruGate::Update as usize]);
        z.mapv_inplace(|pre| gating.kept(cell.activations.gate, pre));
    }
    slot
}

fn narrow(values: impl IntoIterator<Item = f64>) -> Vec<f32> {
    values.into_iter().map(|value| value as f32).collect()
}

pub(super) fn step_tangent(gpu: &Gpu, checks: &mut Checks) -> Result<(), Error> {
    for mut case in cases(gpu, &Subject::all()) {
        let Case { batch, hidden, segments, .. } = case;
        let (lanes, r_len) = (case.stage().lanes(), if hidden == 1 { 1 } else { hidden + 2 });
        let skip_len = if segments == 2 { SKIPPED } else { 0 };
        let has_state = case.subject.cell().has_state();
        // The product, h(t-1) and the result have different columns.
        let (r_begin, h_begin, to_begin, width) = (2, 1, r_len + 1, r_len + hidden + 3);
        let dot_width = width + if has_state { hidden } else { 0 };
        let shape = (r_len + skip_len, hidden, case.stage().product_lanes());
        let weights = case.weights(shape.0, shape.0 * shape.1 * shape.2);
        let units = if matches!(case.stage(), Stage::Readout(_)) { 0 } else { case.subject.units };
        case.subject.units = units;
        let (own, own_dot) = (case.own(), case.own());
        let step = batch * hidden * lanes;
        let (pre, x) = (case.values(step), case.values(STEPS * step));
        let (h, dots) = (case.values(SLOTS * batch * width), case.values(SLOTS * batch * dot_width));
        let (state_from, state_to) = (H_FROM - STATE_BACK, H_TO - STATE_BACK);
        let state_len = if has_state { (STEPS + 1) * batch * hidden } else { 1 };
        let (mut state, mut gates) = (case.values(state_len), case.values(STEPS * step));

        let (wide_h, wide_dots) = (case.slots(&h, width), case.slots(&dots, dot_width));
        let read = concatenate![
            Axis(1),
            wide_dots.slice(s![R_SLOT, .., r_begin..r_begin + r_len]),
            wide_dots.slice(s![SKIP_SLOT, .., 1..1 + skip_len])
        ];
        let zeros = Array2::zeros((batch, hidden));
        let of_state = |values: &Array3<f64>, slot, columns: std::ops::Range<usize>| match has_state {
            true => values.slice(s![slot, .., columns]).to_owned(),
            false => zeros.clone(),
        };
        let wide_state = if has_state { case.slots(&state, hidden) } else { Array3::zeros((1, 1, 1)) };
        let state_prev = of_state(&wide_state, state_from, 0..hidden);
        let state_prev_dot = of_state(&wide_dots, H_FROM, width..dot_width);
        let own_rows = [&own, &own_dot].map(|own| matrix(own, units.max(1), hidden));
        let own_dual = Dual::join(&own_rows[0], &own_rows[1]);
        let x_dot = case.gates(&x);
        let slot = Dual::join(&case.gates(&pre).index_axis(Axis(0), 0), &x_dot.index_axis(Axis(0), T));
        let h_columns = h_begin..h_begin + hidden;
        let wide_weights = Array3::from_shape_vec(shape, weights.iter().map(|&w| f64::from(w)).collect());
        let wide_weights = wide_weights.expect("as many");
        let h_prev = wide_h.slice(s![H_FROM, .., h_columns.clone()]);
        let want = kernel::step_forward(
            mirrored(case.stage()),
            case.subject.clip.map(|clip| Dual::from_f64(clip.into())),
            &StageInput {
                weights: Dual::constants(&wide_weights).view(),
                read: Dual::join(&Array2::zeros(read.dim()), &read).view(),
                x: seen(&case, slot.to_owned()).view(),
                h_prev: Dual::join(&h_prev, &wide_dots.slice(s![H_FROM, .., h_columns])).view(),
                state_prev: Dual::join(&state_prev, &state_prev_dot).view(),
                own: own_dual.slice(s![..units, ..]),
            },
        );

        gates[T * step..(T + 1) * step].copy_from_slice(&narrow(want.saved.iter().map(|kept| kept.value)));
        if has_state {
            let at = state_to * batch * hidden;
            state[at..at + batch * hidden].copy_from_slice(&narrow(want.state.iter().map(|c| c.value)));
        }
        let leaves = matches!(case.stage(), Stage::Reset(_)) && case.flag;
        let params = params::StepTangent {
            t: T as u32,
            batch: batch as u32,
            hidden: hidden as u32,
            width: width as u32,
            dot_width: dot_width as u32,
            r_slot: R_SLOT as u32,
            r_begin: r_begin as u32,
            r_len: r_len as u32,
            skip_slot: SKIP_SLOT as u32,
            skip_begin: 1,
            skip_len: skip_len as u32,
            h_from: H_FROM as u32,
            h_begin: h_begin as u32,
            h_to: H_TO as u32,
            to_begin: to_begin as u32,
            state_back: STATE_BACK as u32,
            ..Default::default()
        };
        let kernel = case.kernel(KernelId::StepTangent, &[("SAVE", u32::from(leaves))]);
        let lengths = case.device_lengths();
        let units = [&own[..units * hidden], &own_dot[..units * hidden], &[0.0]].concat();
        let bindings: [&[f32]; 8] = [&weights, &units, &lengths, &gates, &state, &h, &x, &dots];
        let found = run_kernel(gpu, &kernel, params, &bindings, case.groups(hidden))?;

        let (mut dots, mut x) = (wide_dots, x_dot);
        for row in (0..batch).filter(|&row| case.is_active(T, row)) {
            let mut to = dots.slice_mut(s![H_TO, row, ..]);
            to.slice_mut(s![to_begin..to_begin + hidden]).assign(&want.h.row(row).map(|h| h.tangent));
            if has_state {
                to.slice_mut(s![width..dot_width]).assign(&want.state.row(row).map(|c| c.tangent));
            }
            for ((unit, lane), x) in x.slice_mut(s![T, row, .., ..]).indexed_iter_mut().filter(|_| leaves) {
                *x += read.row(row).dot(&wide_weights.slice(s![.., unit, lane]));
            }
        }
        checks.case(case.describe());
        let tolerance = Tolerance::output(r_len + skip_len);
        let axes = [("slot", SLOTS), ("row", batch), ("column", dot_width)];
        checks.tensor("dots", &axes, &found[7], &flat(&dots), tolerance);
        let axes = [("step", STEPS), ("row", batch), ("unit", hidden), ("lane", lanes)];
        checks.tensor("x", &axes, &found[6], &flat(&x), tolerance);
    }
    Ok(())
}
