//! The windows that a convolution reads, their gradient, and the lengths that it leaves.

use super::{WIDEST, after_others, element_groups, element_kernel};
use crate::Random;
use crate::compare::Tolerance;
use crate::data::{flat, matrix, wide};
use crate::selfcheck::Checks;
use gatefold::hooks::run_kernel;
use gatefold::layers::{Activation, Conv1d};
use gatefold::{Error, Gpu};
use gatefold_reference::convolution;
use gatefold_shaders::{KernelId, params};
use ndarray::Array3;

/// T, B and I, and a convolution over them: as many weights as steps, gaps, strides with and without gaps, padding that
/// whole output steps lie in, more padding than steps.
fn cases() -> Vec<((usize, usize, usize), Conv1d)> {
    let conv = |kernel, stride, dilation, left, right| Conv1d {
        kernel,
        stride,
        dilation,
        left,
        right,
        activation: Activation::Identity,
        bias: false,
    };
    vec![
        ((1, 1, 1), conv(1, 1, 1, 0, 0)),
        ((7, 3, 2), conv(3, 1, 1, 0, 0)),
        ((13, 5, 3), conv(13, 1, 1, 0, 0)),
        ((9, 4, 5), conv(2, 1, 3, 3, 0)),
        ((31, 2, 3), conv(4, 3, 1, 0, 0)),
        ((17, 3, 2), conv(5, 2, 3, 7, 4)),
        ((12, 3, 67), conv(3, 7, 1, 1, 9)),
        ((5, 131, 1), conv(4, 5, 2, 20, 11)),
        ((3, 2, 5), conv(6, 2, 1, 5, 6)),
    ]
}

/// Lengths of rows: all steps, none, and others; some are too short for an output step.
fn lengths(steps: usize, batch: usize) -> Vec<usize> {
    (0..batch).map(|b| (b * 5 + steps) % (steps + 1)).collect()
}

fn bits(lengths: &[usize]) -> Vec<f32> {
    lengths.iter().map(|&len| f32::from_bits(len as u32)).collect()
}

fn params(
    (steps, batch, width): (usize, usize, usize),
    conv: &Conv1d,
    before: usize,
    groups: [u32; 3],
) -> params::Convolution {
    params::Convolution {
        steps: steps as u32,
        out_steps: conv.steps(steps) as u32,
        batch: batch as u32,
        width: width as u32,
        weights: conv.kernel as u32,
        stride: conv.stride as u32,
        dilation: conv.dilation as u32,
        left: conv.left as u32,
        offset: before as u32,
        groups_x: groups[0],
        ..Default::default()
    }
}

/// Runs a case with lengths and without, from tensors that begin at the start of their buffer and later.
fn each(
    mut run: impl FnMut(u64, (usize, usize, usize), &Conv1d, Option<&[usize]>) -> Result<(), Error>,
) -> Result<(), Error> {
    for (stream, (shape @ (steps, batch, _), conv)) in cases().into_iter().enumerate() {
        let lengths = lengths(steps, batch);
        for (turn, lengths) in [None, Some(&lengths[..])].into_iter().enumerate() {
            run((2 * stream + turn) as u64, shape, &conv, lengths)?;
        }
    }
    Ok(())
}

fn describe(shape: (usize, usize, usize), conv: &Conv1d, lengths: Option<&[usize]>) -> String {
    let (steps, batch, width) = shape;
    let ragged = if lengths.is_some() { ", lengths" } else { "" };
    format!("{conv}, T {steps} B {batch} I {width}{ragged}")
}

pub(super) fn unfold(gpu: &Gpu, checks: &mut Checks) -> Result<(), Error> {
    each(|stream, shape, conv, lengths| {
        let ((steps, batch, width), before) = (shape, [0, 1, 67][stream as usize % 3]);
        let (rows, values) = (conv.steps(steps) * batch, width * conv.kernel);
        let groups = element_groups(rows * values, WIDEST[stream as usize % 2]);
        // Away from zero, which is what padding reads as; past the ends of rows there may be anything.
        let mut x = Random::new(90, stream).within(0.5..1.5, steps * batch * width);
        let all = vec![steps; batch];
        let ends = lengths.unwrap_or(&all);
        let finite = Array3::from_shape_vec(shape, wide(&x)).expect("as many numbers as the shape has");
        for (at, x) in x.iter_mut().enumerate() {
            if at / (batch * width) >= ends[at / width % batch] {
                *x = f32::NAN;
            }
        }
        let bindings: [&[f32]; 3] = [&bits(ends), &after_others(before, &x), &vec![7.0; rows * values]];
        let kernel = element_kernel(KernelId::Unfold, &[("LENGTHS", u32::from(lengths.is_some()))]);
        let found = run_kernel(gpu, &kernel, params(shape, conv, before, groups), &bindings, groups)?;

        let want = convolution::unfold(finite.view(), ends, conv);
        checks.case(describe(shape, conv, lengths));
        checks.tensor("out", &[("row", rows), ("value", values)], &found[2], &flat(&want), Tolerance::EXACT);
        Ok(())
    })
}

pub(super) fn fold(gpu: &Gpu, checks: &mut Checks) -> Result<(), Error> {
    each(|stream, shape, conv, lengths| {
        let ((steps, batch, width), before) = (shape, [0, 1, 67][stream as usize % 3]);
        let (rows, values) = (conv.steps(steps) * batch, width * conv.kernel);
        let groups = element_groups(steps * batch * width, WIDEST[stream as usize % 2]);
        let d = Random::new(91, stream).within(0.5..1.5, rows * values);
        let all = vec![steps; batch];
        let ends = lengths.unwrap_or(&all);
        let bindings: [&[f32]; 3] =
            [&bits(ends), &after_others(before, &d), &vec![7.0; steps * batch * width]];
        let kernel = element_kernel(KernelId::Fold, &[("LENGTHS", u32::from(lengths.is_some()))]);
        let found = run_kernel(gpu, &kernel, params(shape, conv, before, groups), &bindings, groups)?;

        let want = convolution::fold(matrix(&d, rows, values).view(), steps, ends, conv);
        checks.case(describe(shape, conv, lengths));
        let want: Vec<f64> = want.into_iter().collect();
        let axes = [("step", steps), ("row", batch), ("value", width)];
        checks.tensor("d_x", &axes, &found[2], &want, Tolerance::product(conv.kernel));
        Ok(())
    })
}

pub(super) fn convolved_lengths(gpu: &Gpu, checks: &mut Checks) -> Result<(), Error> {
    for (stream, (_, conv)) in cases().into_iter().enumerate() {
        let batch = [1, 63, 64, 65, 131][stream % 5];
        let groups = element_groups(batch, WIDEST[stream % 2]);
        let lengths: Vec<usize> = (0..batch).map(|b| b * 7 % 41).collect();
        let params = params::ConvolvedLengths {
            batch: batch as u32,
            padding: (conv.left + conv.right) as u32,
            reach: conv.reach() as u32,
            stride: conv.stride as u32,
            groups_x: groups[0],
            ..Default::default()
        };
        let kernel = element_kernel(KernelId::ConvolvedLengths, &[]);
        let found = run_kernel(gpu, &kernel, params, &[&bits(&lengths), &vec![7.0; batch]], groups)?;

        let found: Vec<f32> = found[1].iter().map(|word| word.to_bits() as f32).collect();
        let want = convolution::convolved_lengths(&lengths, &conv);
        let want: Vec<f64> = want.into_iter().map(|length| length as f64).collect();
        checks.case(format!("{conv}, {batch} rows"));
        checks.tensor("lengths", &[("row", batch)], &found, &want, Tolerance::EXACT);
    }
    Ok(())
}
