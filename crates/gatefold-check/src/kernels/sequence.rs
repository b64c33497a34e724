//! Softmax, dropout, and kernels that move rows and elements.

use super::{LENGTHS, WIDEST, after_others, element_groups, element_kernel};
use crate::Random;
use crate::compare::Tolerance;
use crate::data::{flat, matrix, wide};
use crate::selfcheck::Checks;
use gatefold::hooks::run_kernel;
use gatefold::{Error, Gpu};
use gatefold_reference::sequence::{self, DropoutStream};
use gatefold_shaders::{KernelId, params};
use ndarray::{Array2, Array3};

/// Elements before a tensor in its buffer, in turn.
pub(super) const BEFORE: [usize; 3] = [0, 1, 67];

/// Rows, width, invocations per row.
pub(super) fn rows() -> Vec<(usize, usize, u32)> {
    let shapes = [(1, 1), (3, 2), (65, 7), (9, 64), (131, 65), (2, 4099)];
    shapes.into_iter().flat_map(|(rows, width)| [1, 8, 64].map(|team| (rows, width, team))).collect()
}

pub(super) fn row_groups(rows: usize, team: u32, widest: u32) -> [u32; 3] {
    element_groups(rows * team as usize, widest)
}

pub(super) fn softmax(gpu: &Gpu, checks: &mut Checks) -> Result<(), Error> {
    for (stream, (rows, width, team)) in rows().into_iter().enumerate() {
        let before = BEFORE[stream % 3];
        let groups = row_groups(rows, team, WIDEST[stream % 2]);
        // Also far below and above zero, where exponentials of x itself would be 0 or infinite.
        let middle = [0.0, -500.0, 500.0][stream / 3 % 3];
        let x = Random::new(50, stream as u64).within(middle - 8.0..middle + 8.0, rows * width);
        let params = params::Softmax {
            rows: rows as u32,
            width: width as u32,
            x_offset: before as u32,
            groups_x: groups[0],
        };
        let kernel = element_kernel(KernelId::Softmax, &[("TEAM", team)]);
        let run = |x: &[f32]| {
            let bindings: [&[f32]; 2] = [&after_others(before, x), &vec![7.0; rows * width]];
            Ok::<_, Error>(run_kernel(gpu, &kernel, params, &bindings, groups)?.swap_remove(1))
        };
        let found = run(&x)?;
        let want = sequence::softmax(matrix(&x, rows, width).view());
        checks.case(format!("{rows} rows of {width}, {team} to a row"));
        let axes = [("row", rows), ("k", width)];
        checks.tensor("y", &axes, &found, &flat(&want), Tolerance::gradient(width));

        // Large numbers of either sign, minus infinity as in a mask, and NaN.
        let mut wild = x;
        for (k, value) in [(1, -1e30), (2, 1e30), (3, f32::NEG_INFINITY), (4, f32::NAN)] {
            let at = k * rows * width / 5;
            if at % width > 0 {
                wild[at] = value;
            }
        }
        let found = run(&wild)?;
        let want = sequence::softmax(matrix(&wild, rows, width).view());
        let bad: Vec<f32> = found.iter().map(|y| f32::from(u8::from(y.is_nan()))).collect();
        let expected: Vec<f64> = want.iter().map(|y| f64::from(u8::from(y.is_nan()))).collect();
        checks.tensor("NaN", &axes, &bad, &expected, Tolerance::EXACT);
        let numbers = |y: f32| if y.is_nan() { 0.0 } else { y };
        let found: Vec<f32> = found.into_iter().map(numbers).collect();
        let want: Vec<f64> = want.into_iter().map(|y: f64| if y.is_nan() { 0.0 } else { y }).collect();
        checks.tensor("y of large x", &axes, &found, &want, Tolerance::gradient(width));
    }
    Ok(())
}

pub(super) fn softmax_backward(gpu: &Gpu, checks: &mut Checks) -> Result<(), Error> {
    for (stream, (rows, width, team)) in rows().into_iter().enumerate() {
        let (before_y, before_d) = (BEFORE[stream % 3], BEFORE[(stream + 1) % 3]);
        let groups = row_groups(rows, team, WIDEST[stream % 2]);
        let mut random = Random::new(51, stream as u64);
        // At most a half, so that a lone d_y - y d_y is not a small difference of large terms.
        let (y, d_y) = (random.within(0.0..0.5, rows * width), random.values(rows * width));
        let params = params::SoftmaxBackward {
            rows: rows as u32,
            width: width as u32,
            y_offset: before_y as u32,
            d_y_offset: before_d as u32,
            groups_x: groups[0],
            ..Default::default()
        };
        let kernel = element_kernel(KernelId::SoftmaxBackward, &[("TEAM", team)]);
        let bindings: [&[f32]; 3] =
            [&after_others(before_y, &y), &after_others(before_d, &d_y), &vec![7.0; rows * width]];
        let found = run_kernel(gpu, &kernel, params, &bindings, groups)?;

        let want =
            sequence::softmax_backward(matrix(&y, rows, width).view(), matrix(&d_y, rows, width).view());
        checks.case(format!("{rows} rows of {width}, {team} to a row"));
        let axes = [("row", rows), ("k", width)];
        checks.tensor("d_x", &axes, &found[2], &flat(&want), Tolerance::product(width + 2));
    }
    Ok(())
}

/// The step with which a chunk of a sequence begins, and the elements of a step: a whole sequence, chunks that begin
/// with either of two elements that share a counter, one of them past 2^32.
const CHUNKS: [(usize, usize); 5] = [(0, 0), (3, 4), (3, 5), (4, 5), (1_000_003, 8191)];

pub(super) fn dropout(gpu: &Gpu, checks: &mut Checks) -> Result<(), Error> {
    for (index, len) in LENGTHS.into_iter().enumerate() {
        for (rate, (first_step, step_len)) in
            [0.0, 0.3, 0.5, 0.99].into_iter().flat_map(|rate| CHUNKS.map(|chunk| (rate, chunk)))
        {
            let before = BEFORE[index % 3];
            let stream =
                DropoutStream { seed: 0x0123_4567_89ab_cdef + len as u64, batch: 5, layer: index as u32 };
            let groups = element_groups(len / 2 + 1, WIDEST[index % 2]);
            let x = Random::new(52, index as u64).within(0.5..1.5, len);
            let params = params::Dropout {
                len: len as u32,
                x_offset: before as u32,
                layer: stream.layer,
                rate,
                scale: 1.0 / (1.0 - rate),
                groups_x: groups[0],
                step_len: step_len as u32,
                ..Default::default()
            };
            let words = [stream.seed as u32, (stream.seed >> 32) as u32, stream.batch, first_step as u32];
            let words = words.map(f32::from_bits);
            let kernel = element_kernel(KernelId::Dropout, &[]);
            let bindings: [&[f32]; 3] = [&words, &after_others(before, &x), &vec![7.0; len]];
            let found = run_kernel(gpu, &kernel, params, &bindings, groups)?;

            // A single product in f32 on both sides: the same bits.
            let want = wide(&sequence::dropout(&x, first_step * step_len, stream, rate));
            checks
                .case(format!("{len} elements, rate {rate}, from step {first_step} of {step_len} elements"));
            checks.tensor("y", &[("element", len)], &found[2], &want, Tolerance::EXACT);
        }
    }
    Ok(())
}

pub(super) fn add(gpu: &Gpu, checks: &mut Checks) -> Result<(), Error> {
    for (stream, len) in LENGTHS.into_iter().enumerate() {
        let [before_a, before_b, before_out] = [0, 1, 2].map(|k| BEFORE[(stream + k) % 3]);
        let groups = element_groups(len, WIDEST[stream % 2]);
        let mut random = Random::new(53, stream as u64);
        let (a, b) = (random.values_for(len, len), random.values_for(len, len));
        let params = params::Add {
            len: len as u32,
            a_offset: before_a as u32,
            b_offset: before_b as u32,
            out_offset: before_out as u32,
            groups_x: groups[0],
            ..Default::default()
        };
        let (a_list, b_list) = (after_others(before_a, &a), after_others(before_b, &b));
        for into in [false, true] {
            let kernel = element_kernel(KernelId::Add, &[("INTO", u32::from(into))]);
            // The output already holds b.
            let there = if into { b.clone() } else { vec![7.0; len] };
            let out = [vec![7.0; before_out], there, vec![7.0]].concat();
            let found = run_kernel(gpu, &kernel, params, &[&a_list, &b_list, &out], groups)?;

            checks.case(format!("{len} elements{}", if into { " into others" } else { "" }));
            let want = around(before_out, sequence::add(&wide(&a), &wide(&b)));
            checks.tensor("out", &[("element", want.len())], &found[2], &want, Tolerance::product(1));
        }
    }
    Ok(())
}

/// The values written, with the 7s that were there before them and the one after them.
fn around(before: usize, written: Vec<f64>) -> Vec<f64> {
    [vec![7.0; before], written, vec![7.0]].concat()
}

/// T, B and F, and lengths, including 0 and more than T.
pub(super) fn sequences() -> Vec<((usize, usize, usize), Vec<usize>)> {
    let shapes = [(1, 1, 1), (3, 5, 2), (7, 13, 5), (31, 3, 65), (2, 131, 1)];
    shapes
        .into_iter()
        .map(|shape @ (steps, batch, _)| (shape, (0..batch).map(|b| (b * 5 + 2) % (steps + 2)).collect()))
        .collect()
}

pub(super) fn bits(lengths: &[usize]) -> Vec<f32> {
    lengths.iter().map(|&len| f32::from_bits(len as u32)).collect()
}

pub(super) fn cube(values: &[f32], shape: (usize, usize, usize)) -> Array3<f64> {
    Array3::from_shape_vec(shape, wide(values)).expect("as many numbers as the shape has")
}

pub(super) fn mask_rows(gpu: &Gpu, checks: &mut Checks) -> Result<(), Error> {
    for (stream, (shape, lengths)) in sequences().into_iter().enumerate() {
        let ((steps, batch, width), before) = (shape, BEFORE[stream % 3]);
        let len = steps * batch * width;
        let groups = element_groups(len, WIDEST[stream % 2]);
        let x = Random::new(54, stream as u64).within(0.5..1.5, len);
        let params = params::MaskRows {
            steps: steps as u32,
            batch: batch as u32,
            width: width as u32,
            x_offset: before as u32,
            groups_x: groups[0],
            ..Default::default()
        };
        let list = [after_others(before, &x), vec![7.0]].concat();
        let kernel = element_kernel(KernelId::MaskRows, &[]);
        let found = run_kernel(gpu, &kernel, params, &[&bits(&lengths), &list], groups)?;

        let mut want = cube(&x, shape);
        sequence::mask_rows(&lengths, &mut want);
        checks.case(format!("T {steps} B {batch} F {width}"));
        let want = [vec![9.0; before], want.into_iter().collect(), vec![7.0]].concat();
        checks.tensor("x", &[("element", want.len())], &found[1], &want, Tolerance::EXACT);
    }
    Ok(())
}

fn row_ends(
    (steps, batch, width): (usize, usize, usize),
    before: usize,
    groups: [u32; 3],
) -> params::RowEnds {
    params::RowEnds {
        steps: steps as u32,
        batch: batch as u32,
        width: width as u32,
        offset: before as u32,
        groups_x: groups[0],
        ..Default::default()
    }
}

pub(super) fn last_rows(gpu: &Gpu, checks: &mut Checks) -> Result<(), Error> {
    for (stream, (shape, lengths)) in sequences().into_iter().enumerate() {
        let ((steps, batch, width), before) = (shape, BEFORE[stream % 3]);
        let groups = element_groups(batch * width, WIDEST[stream % 2]);
        let x = Random::new(55, stream as u64).within(0.5..1.5, steps * batch * width);
        let bindings: [&[f32]; 3] = [&bits(&lengths), &after_others(before, &x), &vec![7.0; batch * width]];
        let kernel = element_kernel(KernelId::LastRows, &[]);
        let found = run_kernel(gpu, &kernel, row_ends(shape, before, groups), &bindings, groups)?;

        let want = sequence::last_rows(&lengths, cube(&x, shape).view());
        checks.case(format!("T {steps} B {batch} F {width}"));
        checks.tensor("y", &[("row", batch), ("k", width)], &found[2], &flat(&want), Tolerance::EXACT);
    }
    Ok(())
}

pub(super) fn last_rows_backward(gpu: &Gpu, checks: &mut Checks) -> Result<(), Error> {
    for (stream, (shape, lengths)) in sequences().into_iter().enumerate() {
        let ((steps, batch, width), before) = (shape, BEFORE[stream % 3]);
        let len = steps * batch * width;
        let groups = element_groups(len, WIDEST[stream % 2]);
        let d_y = Random::new(56, stream as u64).within(0.5..1.5, batch * width);
        let bindings: [&[f32]; 3] = [&bits(&lengths), &after_others(before, &d_y), &vec![7.0; len]];
        let kernel = element_kernel(KernelId::LastRowsBackward, &[]);
        let found = run_kernel(gpu, &kernel, row_ends(shape, before, groups), &bindings, groups)?;

        let want = sequence::last_rows_backward(&lengths, matrix(&d_y, batch, width).view(), steps);
        checks.case(format!("T {steps} B {batch} F {width}"));
        let want: Vec<f64> = want.into_iter().collect();
        let axes = [("step", steps), ("row", batch), ("k", width)];
        checks.tensor("d_x", &axes, &found[2], &want, Tolerance::EXACT);
    }
    Ok(())
}

pub(super) fn copy_block(gpu: &Gpu, checks: &mut Checks) -> Result<(), Error> {
    let cases = [(1, 1, 0, 0), (5, 7, 2, 3), (64, 1, 0, 1), (131, 3, 4, 0), (3, 65, 1, 64)];
    for (stream, (rows, width, more_from, more_to)) in cases.into_iter().enumerate() {
        let (from_width, to_width) = (width + more_from, width + more_to);
        let groups = element_groups(rows * width, WIDEST[stream % 2]);
        let source = Random::new(57, stream as u64).values(rows * from_width);
        let params = params::CopyBlock {
            rows: rows as u32,
            width: width as u32,
            from_offset: more_from as u32,
            from_stride: from_width as u32,
            to_offset: more_to as u32,
            to_stride: to_width as u32,
            groups_x: groups[0],
            ..Default::default()
        };
        let kernel = element_kernel(KernelId::CopyBlock, &[]);
        let found = run_kernel(gpu, &kernel, params, &[&source, &vec![7.0; rows * to_width]], groups)?;

        let source = matrix(&source, rows, from_width);
        let mut want = Array2::from_elem((rows, to_width), 7.0);
        sequence::copy_block(source.slice(ndarray::s![.., more_from..]), more_to, &mut want);
        checks.case(format!("{rows} rows of {width} from {from_width} to {to_width}"));
        let axes = [("row", rows), ("column", to_width)];
        checks.tensor("out", &axes, &found[1], &flat(&want), Tolerance::EXACT);
    }
    Ok(())
}

pub(super) fn repeat(gpu: &Gpu, checks: &mut Checks) -> Result<(), Error> {
    for (stream, (len, period)) in [(1, 1), (63, 5), (64, 64), (65, 1), (4099, 131)].into_iter().enumerate() {
        let (before_x, before_out) = (BEFORE[stream % 3], BEFORE[(stream + 1) % 3]);
        let groups = element_groups(len, WIDEST[stream % 2]);
        let x = Random::new(58, stream as u64).values(period);
        let params = params::Repeat {
            len: len as u32,
            period: period as u32,
            x_offset: before_x as u32,
            out_offset: before_out as u32,
            groups_x: groups[0],
            ..Default::default()
        };
        let kernel = element_kernel(KernelId::Repeat, &[]);
        let bindings: [&[f32]; 2] = [&after_others(before_x, &x), &vec![7.0; before_out + len + 1]];
        let found = run_kernel(gpu, &kernel, params, &bindings, groups)?;

        checks.case(format!("{period} elements to {len}"));
        let want = around(before_out, sequence::repeat(&wide(&x), len));
        checks.tensor("out", &[("element", want.len())], &found[1], &want, Tolerance::EXACT);
    }
    Ok(())
}

pub(super) fn fill(gpu: &Gpu, checks: &mut Checks) -> Result<(), Error> {
    for (stream, len) in LENGTHS.into_iter().enumerate() {
        let before = BEFORE[stream % 3];
        let groups = element_groups(len, WIDEST[stream % 2]);
        let value = 0.5 - stream as f32;
        let params = params::Fill { len: len as u32, offset: before as u32, value, groups_x: groups[0] };
        let kernel = element_kernel(KernelId::Fill, &[]);
        let found = run_kernel(gpu, &kernel, params, &[&vec![7.0; before + len + 1]], groups)?;

        checks.case(format!("{len} elements"));
        let want = around(before, sequence::fill(f64::from(value), len));
        checks.tensor("out", &[("element", want.len())], &found[0], &want, Tolerance::EXACT);
    }
    Ok(())
}
