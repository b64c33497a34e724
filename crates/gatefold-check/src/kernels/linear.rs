//! Kernels around the matrix product: sums, reordered axes, the slope of an activation.

use super::{LENGTHS, WIDEST, after_others, element_groups, element_kernel};
use crate::Random;
use crate::compare::Tolerance;
use crate::data::{flat, matrix, wide};
use crate::selfcheck::Checks;
use gatefold::hooks::run_kernel;
use gatefold::layers::Activation;
use gatefold::{Error, Gpu};
use gatefold_reference::{activation, linear};
use gatefold_shaders::{KernelId, params};
use ndarray::{Array2, Array3, s};

/// Every function, including some whose slope does not follow from their value.
pub(crate) const ACTIVATIONS_BOTH_WAYS: [Activation; 16] = {
    let all = Activation::ALL;
    [
        all[0],
        all[1],
        all[2],
        all[3],
        all[4],
        all[5],
        all[6],
        all[7],
        all[8],
        all[9],
        all[10],
        all[11],
        Activation::LeakyRelu { alpha: -0.3 },
        Activation::Elu { alpha: -0.7 },
        Activation::ThresholdedRelu { alpha: -0.4 },
        Activation::ScaledTanh { alpha: 0.0, beta: 0.6 },
    ]
};

/// The constants of a function.
pub(crate) fn activation_consts(activation: Activation) -> [(&'static str, u32); 3] {
    let [alpha, beta] = [activation.alpha(), activation.beta()].map(f32::to_bits);
    [("ACTIVATION", activation.code()), ("ALPHA", alpha), ("BETA", beta)]
}

pub(super) fn sum_slices(gpu: &Gpu, checks: &mut Checks) -> Result<(), Error> {
    let mut stream = 0;
    for activation in Activation::ALL {
        for bias in [false, true] {
            for (m, n, slices) in [(1, 1, 1), (9, 7, 2), (1, 64, 137), (5, 13, 3), (131, 31, 2)] {
                let mut random = Random::new(13, stream);
                let groups = element_groups(m * n, WIDEST[stream as usize % 2]);
                stream += 1;
                let (parts, biases) = (random.values_for(m * n, slices * m * n), random.values_for(m * n, n));
                let consts = [&[("BIAS", u32::from(bias))][..], &activation_consts(activation)].concat();
                let kernel = element_kernel(KernelId::SumSlices, &consts);
                let params = params::SumSlices {
                    m: m as u32,
                    n: n as u32,
                    slices: slices as u32,
                    groups_x: groups[0],
                };
                let found = run_kernel(gpu, &kernel, params, &[&parts, &biases, &vec![7.0; m * n]], groups)?;

                let parts =
                    Array3::from_shape_vec((slices, m, n), wide(&parts)).expect("as many as the shape has");
                let biases = matrix(&biases, 1, n);
                let want = linear::sum_slices(parts.view(), bias.then(|| biases.row(0)), activation);
                checks.case(format!(
                    "{slices} slices of {m} {n} {activation}{}",
                    if bias { " bias" } else { "" }
                ));
                checks.tensor(
                    "c",
                    &[("row", m), ("column", n)],
                    &found[2],
                    &flat(&want),
                    tolerance_of(activation, slices),
                );
            }
        }
    }
    Ok(())
}

/// The tolerance of a function: sigmoid and tanh call exponentials, the others do not.
fn tolerance_of(activation: Activation, terms: usize) -> Tolerance {
    match activation {
        Activation::Identity | Activation::Relu => Tolerance::product(terms),
        _ => Tolerance::output(terms),
    }
}

/// Sizes and strides of the orders that layers use: `[gates, hidden, columns]` read in three ways, and the plain order.
fn orders() -> Vec<([usize; 3], [usize; 3])> {
    let mut found = vec![([1, 1, 1], [0, 0, 1]), ([1, 1, 65], [0, 0, 1]), ([7, 5, 2], [1, 14, 7])];
    for (gates, hidden, columns) in [(4, 3, 5), (4, 16, 1), (1, 31, 13), (4, 33, 31)] {
        let plane = hidden * columns;
        found.push(([columns, hidden, gates], [1, columns, plane]));
        found.push(([hidden, gates, columns], [columns, plane, 1]));
        found.push(([hidden, columns, gates], [columns, 1, plane]));
    }
    found
}

pub(super) fn pack(gpu: &Gpu, checks: &mut Checks) -> Result<(), Error> {
    for (stream, (sizes, strides)) in orders().into_iter().enumerate() {
        for with_other in [false, true] {
            let len: usize = sizes.iter().product();
            let groups = element_groups(len, WIDEST[stream % 2]);
            let mut random = Random::new(14, stream as u64);
            let (source, other) = (random.values_for(len, len), random.values_for(len, len));
            let [size0, size1, size2] = sizes.map(|size| size as u32);
            let [stride0, stride1, stride2] = strides.map(|stride| stride as u32);
            let groups_x = groups[0];
            let params = params::Pack {
                size0,
                size1,
                size2,
                groups_x,
                stride0,
                stride1,
                stride2,
                out_stride: size1 * size2,
                ..Default::default()
            };
            let kernel = element_kernel(KernelId::Pack, &[("WITH_OTHER", u32::from(with_other))]);
            let found = run_kernel(gpu, &kernel, params, &[&source, &other, &vec![7.0; len]], groups)?;

            let other = wide(&other);
            let want = linear::pack(&wide(&source), with_other.then_some(&*other), sizes, strides);
            checks.case(format!("{sizes:?} by {strides:?}{}", if with_other { " with other" } else { "" }));
            let tolerance = if with_other { Tolerance::product(1) } else { Tolerance::EXACT };
            let axes = [("i0", sizes[0]), ("i1", sizes[1]), ("i2", sizes[2])];
            checks.tensor("out", &axes, &found[2], &want, tolerance);
        }
    }
    Ok(())
}

pub(super) fn unpack_gradient(gpu: &Gpu, checks: &mut Checks) -> Result<(), Error> {
    for (stream, (sizes, strides)) in orders().into_iter().enumerate() {
        for slices in [1, 2, 137] {
            let len: usize = sizes.iter().product();
            let groups = element_groups(len, WIDEST[stream % 2]);
            let mut random = Random::new(15, stream as u64);
            let (parts, d) = (random.values_for(len, slices * len), random.values_for(len, len));
            let [size0, size1, size2] = sizes.map(|size| size as u32);
            let [stride0, stride1, stride2] = strides.map(|stride| stride as u32);
            let (groups_x, count) = (groups[0], slices as u32);
            let params = params::UnpackGradient {
                size0,
                size1,
                size2,
                groups_x,
                stride0,
                stride1,
                stride2,
                slices: count,
                ..Default::default()
            };
            let kernel = element_kernel(KernelId::UnpackGradient, &[]);
            let found = run_kernel(gpu, &kernel, params, &[&parts, &d], groups)?;

            let mut want = wide(&d);
            linear::unpack_gradient(&wide(&parts), sizes, strides, &mut want);
            checks.case(format!("{slices} slices of {sizes:?} by {strides:?}"));
            checks.tensor("d", &[("element", len)], &found[1], &want, Tolerance::product(slices + 1));
        }
    }
    Ok(())
}

pub(super) fn column_sum(gpu: &Gpu, checks: &mut Checks) -> Result<(), Error> {
    let cases = [(1usize, 1, 1), (7, 63, 7), (65, 64, 64), (513, 65, 128), (1000, 131, 512), (3000, 2, 3000)];
    for (stream, (m, n, slice_len)) in cases.into_iter().enumerate() {
        let slices: usize = m.div_ceil(slice_len);
        let x = Random::new(16, stream as u64).values_for(slices * n, m * n);
        let before = [0, 7][stream % 2];
        let params = params::ColumnSum {
            m: m as u32,
            n: n as u32,
            slice_len: slice_len as u32,
            x_offset: before as u32,
        };
        let groups = [element_groups(n, u32::MAX)[0], slices as u32, 1];
        let kernel = element_kernel(KernelId::ColumnSum, &[]);
        let found =
            run_kernel(gpu, &kernel, params, &[&after_others(before, &x), &vec![7.0; slices * n]], groups)?;

        let x = matrix(&x, m, n);
        let mut want = Array2::zeros((slices, n));
        for z in 0..slices {
            let rows = z * slice_len..((z + 1) * slice_len).min(m);
            want.row_mut(z).assign(&linear::column_sum(x.slice(s![rows, ..])));
        }
        checks.case(format!("{m} {n} slices {slices}"));
        let axes = [("slice", slices), ("column", n)];
        checks.tensor("out", &axes, &found[1], &flat(&want), Tolerance::product(slice_len));
    }
    Ok(())
}

pub(super) fn activation_backward(gpu: &Gpu, checks: &mut Checks) -> Result<(), Error> {
    for function in ACTIVATIONS_BOTH_WAYS {
        for (stream, len) in LENGTHS.into_iter().enumerate() {
            let groups = element_groups(len, WIDEST[stream % 2]);
            let mut random = Random::new(17, stream as u64);
            let x = random.within(-3.0..3.0, len);
            let keep_pre = !function.slope_from_output();
            let saved: Vec<f32> =
                if keep_pre { x } else { x.iter().map(|&x| activation::apply(function, x)).collect() };
            let d_y = random.values(len);
            let params =
                params::ActivationBackward { len: len as u32, groups_x: groups[0], ..Default::default() };
            let own = [("KEEP_PRE", u32::from(keep_pre))];
            let consts = [&own[..], &activation_consts(function)].concat();
            let kernel = element_kernel(KernelId::ActivationBackward, &consts);
            let found = run_kernel(gpu, &kernel, params, &[&saved, &d_y, &vec![7.0; len]], groups)?;

            let want: Vec<f64> = saved
                .iter()
                .zip(&d_y)
                .map(|(&saved, &d_y)| {
                    let slope = if keep_pre { activation::slope } else { activation::derivative };
                    f64::from(d_y) * slope(function, f64::from(saved))
                })
                .collect();
            checks.case(format!("{function} of {len}"));
            checks.tensor("d_pre", &[("element", len)], &found[2], &want, Tolerance::gradient(1));
        }
    }
    Ok(())
}
