//! Gradients with respect to readouts, initial values and peepholes.

use super::scan::{Case, STEPS, T, cases, flat};
use super::stages::{Subject, own_lane};
use crate::Random;
use crate::compare::Tolerance;
use crate::data::{matrix, wide};
use crate::selfcheck::Checks;
use gatefold::hooks::run_kernel;
use gatefold::layers::Activation;
use gatefold::{Error, Gpu};
use gatefold_reference::scan::kernel::{self, Slots};
use gatefold_shaders::{KernelId, params};
use ndarray::{Array1, Array3, s};

pub(super) fn readout_backward(gpu: &Gpu, checks: &mut Checks) -> Result<(), Error> {
    let functions =
        [Activation::Identity, Activation::Tanh, Activation::Softplus, Activation::LeakyRelu { alpha: -0.4 }];
    for (turn, mut case) in cases(gpu, &Subject::plain()).into_iter().enumerate() {
        let Case { batch, hidden, segments, flag: with_finals, .. } = case;
        let (lanes, len, function) = (case.stage().lanes(), batch * hidden, functions[turn % 4]);
        // A readout beside h, or in place of it.
        let (readout_from, outputs) = if turn % 3 == 0 { (0, hidden + 1) } else { (hidden, 4) };
        let (columns, history) = (readout_from + outputs, 2);
        let own = if readout_from == 0 { outputs } else { hidden };
        let (weights_len, skip_len) = (hidden * columns * lanes, hidden * own * lanes);
        let weights = case.weights(hidden * lanes, weights_len + if segments == 2 { skip_len } else { 0 });
        let gates = case.values(STEPS * len * lanes);
        let (d_begin, d_stride) = (1, outputs + 2);
        let d_out = case.values(STEPS * batch * d_stride);
        let keep_pre = !function.slope_from_output();
        let saved: Vec<f32> = case
            .values(STEPS * batch * outputs)
            .iter()
            .map(|y| if keep_pre { *y } else { y.abs() })
            .collect();
        let inner_to = len;
        let finals_at = inner_to + batch * outputs + len;
        let finals_len = history * batch * own + batch * (columns - own);
        let carry = case.values(finals_at + finals_len);
        let params = params::ReadoutBackward {
            t: T as u32,
            batch: batch as u32,
            hidden: hidden as u32,
            columns: columns as u32,
            skip_columns: own as u32,
            own: own as u32,
            readout_from: readout_from as u32,
            next: T as u32 + 1,
            skip_next: 0,
            d_stride: d_stride as u32,
            d_begin,
            history: history as u32,
            steps: STEPS as u32,
            reverse: 0,
            inner_to: inner_to as u32,
            finals_at: finals_at as u32,
            ..Default::default()
        };
        let [alpha, beta] = [function.alpha(), function.beta()].map(f32::to_bits);
        let consts = [
            ("FINALS", u32::from(with_finals)),
            ("ACTIVATION", function.code()),
            ("ALPHA", alpha),
            ("BETA", beta),
            ("KEEP_PRE", u32::from(keep_pre)),
        ];
        let mut kernel = case.kernel(KernelId::ReadoutBackward, &[]);
        kernel.consts.retain(|(name, _)| consts.iter().all(|(own, _)| own != name));
        kernel.consts.extend(consts);
        let lengths = case.device_lengths();
        let bindings: [&[f32]; 6] = [&weights, &lengths, &gates, &d_out, &saved, &carry];
        let found = run_kernel(gpu, &kernel, params, &bindings, case.groups(columns))?;

        let gates = case.gates(&gates);
        let of = |values: &[f32], columns: usize| {
            let shape = (hidden, columns, lanes);
            Array3::from_shape_vec(shape, wide(values)).expect("as many as the shape has")
        };
        let by_next = of(&weights[..weights_len], columns);
        let mut d_row = kernel::recurrent_gradient(gates.slice(s![T + 1, .., .., ..]), by_next.view());
        if segments == 2 {
            let by_skip = of(&weights[weights_len..], own);
            let by_skip = kernel::recurrent_gradient(gates.slice(s![0, .., .., ..]), by_skip.view());
            d_row.slice_mut(s![.., ..own]).zip_mut_with(&by_skip, |sum, &d| *sum += d);
        }
        let slots = Slots { steps: STEPS, history, reverse: false, lengths: case.lengths.as_deref() };
        let (many, lone) = carry[finals_at..].split_at(history * batch * own);
        for row in 0..batch {
            let place = (T + history).checked_sub(slots.end(row, history)).filter(|&place| place < history);
            if let (true, Some(place)) = (with_finals, place) {
                for column in 0..own {
                    d_row[[row, column]] += f64::from(many[(place * batch + row) * own + column]);
                }
                for column in own..columns {
                    let at = row * (columns - own) + column - own;
                    d_row[[row, column]] += if place + 1 == history { f64::from(lone[at]) } else { 0.0 };
                }
            }
        }
        let d_out = case.slots(&d_out, d_stride);
        let d_p = &d_row.slice(s![.., readout_from..]) + &d_out.slice(s![T, .., 1..1 + outputs]);
        let saved_rows = case.slots(&saved, outputs);
        let mut d_pre = kernel::readout_backward(function, saved_rows.slice(s![T, .., ..]), d_p.view());
        let mut d_h = d_row.slice(s![.., ..readout_from]).to_owned();
        for row in (0..batch).filter(|&row| !case.is_active(T, row)) {
            d_pre.row_mut(row).fill(0.0);
            d_h.row_mut(row).fill(0.0);
        }
        checks.case(format!("{} {function}", case.describe()));
        let tolerance = Tolerance::gradient(segments * hidden * lanes);
        let mut want = saved_rows;
        want.slice_mut(s![T, .., ..]).assign(&d_pre);
        let axes = [("step", STEPS), ("row", batch), ("output", outputs)];
        checks.tensor("d_readout", &axes, &found[4], &flat(&want), tolerance);
        let mut expected = wide(&carry);
        expected[inner_to..inner_to + batch * outputs].copy_from_slice(&flat(&d_pre));
        if readout_from > 0 {
            expected[inner_to + batch * outputs..finals_at].copy_from_slice(&flat(&d_h));
        }
        checks.tensor("carry", &[("element", carry.len())], &found[5], &expected, tolerance);
    }
    Ok(())
}

pub(super) fn initial_backward(gpu: &Gpu, checks: &mut Checks) -> Result<(), Error> {
    for (turn, mut case) in cases(gpu, &Subject::plain()).into_iter().enumerate() {
        let Case { batch, hidden, segments, flag: with_finals, .. } = case;
        let (lanes, len) = (case.stage().lanes(), batch * hidden);
        let (history, reverse) = (1 + turn % 4, turn % 5 > 2);
        // With columns that have a value in the nearest slot only, or without.
        let (own, lone) = (hidden, if turn % 3 == 0 { 2 } else { 0 });
        let (columns, carries_h) = (own + lone, own_lane(case.stage()));
        let weights_len = hidden * columns * lanes;
        let skip_len = if segments == 2 { hidden * own * lanes } else { 0 };
        let weights = case.weights(hidden * lanes, weights_len + skip_len);
        let gates = case.values(STEPS * len * lanes);
        let mut gates = case.gates(&gates);
        for row in 0..batch {
            for t in (0..STEPS).filter(|&t| !case.is_active(t, row)) {
                gates.slice_mut(s![t, row, .., ..]).fill(0.0);
            }
        }
        let narrow: Vec<f32> = gates.iter().map(|&value| value as f32).collect();
        let finals_at = len + 3;
        let values_len = history * batch * own + batch * lone;
        let carry = case.values(finals_at + values_len);
        let params = params::InitialBackward {
            batch: batch as u32,
            hidden: hidden as u32,
            columns: columns as u32,
            skip_columns: own as u32,
            own: own as u32,
            history: history as u32,
            steps: STEPS as u32,
            reverse: u32::from(reverse),
            carries_h: u32::from(carries_h),
            finals_at: finals_at as u32,
            ..Default::default()
        };
        let kernel = case.kernel(KernelId::InitialBackward, &[("FINALS", u32::from(with_finals))]);
        let mut groups = case.groups(columns);
        groups[2] = history as u32;
        let lengths = case.device_lengths();
        let bindings: [&[f32]; 5] = [&weights, &lengths, &narrow, &carry, &vec![7.0; values_len]];
        let found = run_kernel(gpu, &kernel, params, &bindings, groups)?;

        let of = |values: &[f32], columns: usize| {
            let shape = (hidden, columns, lanes);
            Array3::from_shape_vec(shape, wide(values)).expect("as many as the shape has")
        };
        let (by_first, by_skip) =
            (of(&weights[..weights_len], columns), of(&weights[weights_len..], own * (segments - 1)));
        let slots = Slots { steps: STEPS, history, reverse, lengths: case.lengths.as_deref() };
        let (many, alone) = carry[finals_at..].split_at(history * batch * own);
        let d_final = Array3::from_shape_vec((history, batch, own), wide(many)).expect("as many");
        let mut want = kernel::initial_backward(
            &slots,
            gates.view(),
            by_first.view(),
            (segments == 2).then(|| by_skip.view()),
            with_finals.then(|| d_final.view()),
        );
        let nearest = if reverse { 0 } else { history - 1 };
        for row in 0..batch {
            for column in 0..hidden {
                if carries_h {
                    want[[nearest, row, column]] += f64::from(carry[row * hidden + column]);
                }
            }
            for column in 0..lone {
                if with_finals && slots.len(row) == 0 {
                    want[[nearest, row, own + column]] += f64::from(alone[row * lone + column]);
                }
            }
        }
        checks.case(format!("{} k {history} reverse {reverse}", case.describe()));
        let many = flat(&want.slice(s![.., .., ..own]).to_owned());
        let alone = flat(&want.slice(s![nearest, .., own..]).to_owned());
        let axes = [("element", values_len)];
        let tolerance = Tolerance::product(segments * lanes * hidden + 2);
        checks.tensor("d_initial", &axes, &found[4], &[many, alone].concat(), tolerance);
    }
    Ok(())
}

pub(super) fn peephole_gradient(gpu: &Gpu, checks: &mut Checks) -> Result<(), Error> {
    for (stream, (steps, batch, hidden, slice_len)) in
        [(1usize, 1usize, 1, 1), (5, 7, 63, 8), (9, 3, 65, 27), (40, 31, 64, 512)].into_iter().enumerate()
    {
        for reverse in [false, true] {
            let (rows, mut random) = (steps * batch, Random::new(23, stream as u64));
            let slices = rows.div_ceil(slice_len);
            let d_pre = random.values_for(rows * hidden, rows * hidden * 4);
            let state = random.values_for(rows * hidden, (rows + batch) * hidden);
            let (before, after) = if reverse { (batch, 0) } else { (0, batch) };
            let params = params::PeepholeGradient {
                rows: rows as u32,
                hidden: hidden as u32,
                before: before as u32,
                after: after as u32,
                slice_len: slice_len as u32,
                ..Default::default()
            };
            let kernel = super::element_kernel(KernelId::PeepholeGradient, &[]);
            let groups = [super::element_groups(hidden, u32::MAX)[0], slices as u32, 1];
            let bindings: [&[f32]; 3] = [&d_pre, &state, &vec![7.0; slices * 3 * hidden]];
            let found = run_kernel(gpu, &kernel, params, &bindings, groups)?;

            let d_pre = Array3::from_shape_vec((rows, hidden, 4), wide(&d_pre)).expect("as many");
            let state = matrix(&state, rows + batch, hidden);
            let mut want = Array1::<f64>::zeros(slices * 3 * hidden);
            for slice in 0..slices {
                let at = slice * slice_len..((slice + 1) * slice_len).min(rows);
                let part = kernel::peephole_gradient(
                    d_pre.slice(s![at.clone(), .., ..]),
                    state.slice(s![before + at.start..before + at.end, ..]),
                    state.slice(s![after + at.start..after + at.end, ..]),
                );
                let to = slice * 3 * hidden..(slice + 1) * 3 * hidden;
                want.slice_mut(s![to]).iter_mut().zip(&part).for_each(|(want, &found)| *want = found);
            }
            checks.case(format!("{rows} rows of {hidden} in {slices} slices, reverse {reverse}"));
            let axes = [("slice", slices), ("block", 3), ("unit", hidden)];
            checks.tensor("out", &axes, &found[2], &flat(&want), Tolerance::product(slice_len));
        }
    }
    Ok(())
}
