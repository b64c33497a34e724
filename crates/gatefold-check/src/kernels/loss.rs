//! Losses, their gradients, and the list of losses.

use super::{element_groups, element_kernel};
use crate::Random;
use crate::compare::Tolerance;
use crate::data::wide;
use crate::selfcheck::Checks;
use gatefold::hooks::run_kernel;
use gatefold::{Error, Gpu};
use gatefold_reference::loss::{self, Loss};
use gatefold_shaders::{ELEMENT_WG_SIZE, ElementLossKind, KernelId, params};

/// Rows and features; outputs of a row and the first that takes part; partial sums and the first of them.
const ELEMENTS: [[usize; 6]; 6] = [
    [1, 1, 2, 0, 1, 0],
    [63, 1, 2, 0, 63, 0],
    [16, 4, 8, 0, 64, 0],
    [200, 5, 17, 3, 65, 2],
    [1366, 3, 6, 0, 1024, 1024],
    [131, 1, 5, 2, 2, 7],
];

pub(super) fn element_loss(gpu: &Gpu, checks: &mut Checks) -> Result<(), Error> {
    for kind in ElementLossKind::ALL {
        for (stream, [rows, features, stride, offset, parts, first_part]) in ELEMENTS.into_iter().enumerate()
        {
            let mut random = Random::new(18, stream as u64);
            let len = rows * features;
            let option = match kind {
                ElementLossKind::Huber => 1.5,
                _ => 0.3,
            };
            // Residuals on both sides of the kinks. Above zero, a lone row's loss is not a small difference of large
            // terms.
            let lowest = if rows == 1 { 0.1 } else { -1.0 };
            let mut y = random.within(lowest..1.0, rows * stride);
            let wanted = random.within(1.2..2.5, len);
            y.iter_mut().step_by(3).for_each(|y| *y += 2.0);
            let mut weights = random.within(0.1..1.0, rows);
            // Rows of weight 0 may hold anything.
            for row in (4..rows).step_by(7) {
                weights[row] = 0.0;
                y[row * stride + offset] = f32::NAN;
            }
            let params = params::ElementLoss {
                len: len as u32,
                features: features as u32,
                stride: stride as u32,
                offset: offset as u32,
                parts: parts as u32,
                first_part: first_part as u32,
                option,
                ..Default::default()
            };
            let (d_before, parts_before) = (vec![7.0; y.len()], vec![7.0; first_part + parts]);
            let bindings: [&[f32]; 5] = [&y, &wanted, &weights, &d_before, &parts_before];
            let kernel = element_kernel(KernelId::ElementLoss, &[("LOSS", kind as u32)]);
            let groups = element_groups(parts, u32::MAX);
            let found = run_kernel(gpu, &kernel, params, &bindings, groups)?;

            let option = f64::from(option);
            let (loss, blocks) = match kind {
                ElementLossKind::Squared => (Loss::Squared, 1),
                ElementLossKind::Absolute => (Loss::Absolute, 1),
                ElementLossKind::Huber => (Loss::Huber { delta: option }, 1),
                ElementLossKind::Quantile => (Loss::Quantile { levels: vec![option] }, 1),
                ElementLossKind::Gaussian => (Loss::Gaussian, 2),
            };
            let (wide_y, wide_wanted, wide_weights) = (wide(&y), wide(&wanted), wide(&weights));
            // Outputs that take no part stay as they were.
            let (mut want_d, mut terms) = (wide(&d_before), Vec::new());
            for row in 0..rows {
                for feature in 0..features {
                    let at = |block: usize| row * stride + offset + block * features + feature;
                    let outputs: Vec<f64> = (0..blocks).map(|block| wide_y[at(block)]).collect();
                    let (mut d, weight) = (vec![0.0; blocks], wide_weights[row]);
                    let cost = loss.row(&outputs, &[wide_wanted[row * features + feature]], &mut d);
                    terms.push(if weight == 0.0 { 0.0 } else { weight * cost });
                    for (block, d) in d.into_iter().enumerate() {
                        want_d[at(block)] = if weight == 0.0 { 0.0 } else { weight * d };
                    }
                }
            }
            let mut want = wide(&parts_before);
            want[first_part..].copy_from_slice(&loss::by_parts(&terms, parts));
            checks.case(format!(
                "{kind:?}, {rows} rows of {features} in {stride} from {offset}, {parts} parts"
            ));
            // The Gaussian calls an exponential.
            let tolerance = |terms| match kind {
                ElementLossKind::Gaussian => Tolerance::gradient(terms),
                _ => Tolerance::product(terms),
            };
            let axes = [("part", want.len())];
            checks.tensor("parts", &axes, &found[4], &want, tolerance(len.div_ceil(parts)));
            let axes = [("row", rows), ("output", stride)];
            checks.tensor("d_y", &axes, &found[3], &want_d, tolerance(1));
        }
    }
    Ok(())
}

pub(super) fn cross_entropy(gpu: &Gpu, checks: &mut Checks) -> Result<(), Error> {
    // Rows and classes; whether a workgroup shares a row; most workgroups along x.
    let cases = [
        (1, 1, false, u32::MAX),
        (3, 2, true, 2),
        (65, 7, false, u32::MAX),
        (131, 64, false, 2),
        (5, 63, true, u32::MAX),
        (4, 64, true, 3),
        (7, 65, true, u32::MAX),
        (9, 1000, true, 4),
    ];
    for (stream, (rows, classes, shared, widest)) in cases.into_iter().enumerate() {
        let mut random = Random::new(26, stream as u64);
        let mut y = random.within(-3.0..3.0, rows * classes);
        // So large that its exponential would overflow, and seen by one invocation only.
        y[(classes - 1) / 2] = 200.0;
        let mut weights = random.within(0.1..1.0, rows);
        let mut labels: Vec<f32> =
            random.within(0.0..1.0, rows).iter().map(|share| (share * classes as f32).floor()).collect();
        for row in (2..rows).step_by(5) {
            labels[row] = -1.0;
        }
        // Rows of weight 0 may hold anything.
        for row in (4..rows).step_by(7) {
            weights[row] = 0.0;
            y[row * classes] = f32::NAN;
        }
        let lanes = if shared { ELEMENT_WG_SIZE as usize } else { 1 };
        let groups = element_groups(rows * lanes, widest);
        let params = params::CrossEntropy {
            rows: rows as u32,
            classes: classes as u32,
            groups_x: groups[0],
            ..Default::default()
        };
        let bindings: [&[f32]; 5] = [&y, &labels, &weights, &vec![7.0; y.len()], &vec![7.0; rows]];
        let kernel = element_kernel(KernelId::CrossEntropy, &[("WIDE", u32::from(shared))]);
        let found = run_kernel(gpu, &kernel, params, &bindings, groups)?;

        let (y, labels, weights) = (wide(&y), wide(&labels), wide(&weights));
        let (mut want, mut want_d) = (Vec::new(), Vec::new());
        for row in 0..rows {
            let mut d = vec![0.0; classes];
            let logits = &y[row * classes..(row + 1) * classes];
            let counts = weights[row] != 0.0;
            let cost = if counts { Loss::CrossEntropy.row(logits, &[labels[row]], &mut d) } else { 0.0 };
            want.push(weights[row] * cost);
            want_d.extend(d.into_iter().map(|d| weights[row] * d));
        }
        checks.case(format!("{rows} rows of {classes}, shared {shared}"));
        checks.tensor("parts", &[("row", rows)], &found[4], &want, Tolerance::output(classes));
        let axes = [("row", rows), ("class", classes)];
        checks.tensor("d_y", &axes, &found[3], &want_d, Tolerance::output(classes));
    }
    Ok(())
}

pub(super) fn sum_loss(gpu: &Gpu, checks: &mut Checks) -> Result<(), Error> {
    const CAPACITY: usize = 5;
    // A full list stays as it is.
    for (stream, (parts, count)) in
        [(1, 0), (63, 1), (64, 2), (65, 3), (1024, 4), (7, 5)].into_iter().enumerate()
    {
        let mut random = Random::new(19, stream as u64);
        let values = random.within(0.0..3.0, parts);
        let listed = random.values(CAPACITY);
        let list = [vec![f32::from_bits(count)], listed.clone()].concat();
        let capacity = CAPACITY as u32;
        let params = params::SumLoss { parts: parts as u32, capacity, ..Default::default() };
        let kernel = element_kernel(KernelId::SumLoss, &[]);
        let found = run_kernel(gpu, &kernel, params, &[&values, &list], [1, 1, 1])?;

        let mut want = wide(&listed);
        let at = count as usize;
        if at < CAPACITY {
            want[at] = loss::sum_loss(&wide(&values));
        }
        checks.case(format!("{parts} parts at {count}"));
        let tolerance = Tolerance::product(parts);
        checks.tensor("losses", &[("place", CAPACITY)], &found[1][1..], &want, tolerance);
        let counted = (found[1][0].to_bits()) as f32;
        let next = (count + 1).min(capacity);
        checks.tensor("count", &[("word", 1)], &[counted], &[f64::from(next)], Tolerance::EXACT);
    }
    Ok(())
}
