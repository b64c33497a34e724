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
use gatefold_shaders::{ELEMENT_WG_SIZE, JOINED, KernelId, NO_OTHER, SOFTWARE_EACH, params};
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

/// The orders, in dispatches of that many jobs each.
fn batches(jobs: usize) -> Vec<Vec<([usize; 3], [usize; 3])>> {
    orders().chunks(jobs).map(<[_]>::to_vec).collect()
}

/// A row of a kernel's table as elements of a buffer.
fn row(words: [u32; 16]) -> [f32; 16] {
    words.map(f32::from_bits)
}

fn words(sizes: [usize; 3]) -> [u32; 3] {
    sizes.map(|size| size as u32)
}

/// The first workgroups of jobs of these lengths, and the workgroups of all together.
fn first_groups(lens: &[usize], each: u32, widest: u32) -> (Vec<u32>, [u32; 3]) {
    let mut all = 0;
    let mut first = Vec::with_capacity(lens.len());
    for &len in lens {
        first.push(all);
        all += (len as u32).div_ceil(ELEMENT_WG_SIZE * each);
    }
    (first, [all.min(widest), all.div_ceil(all.min(widest)), 1])
}

pub(super) fn pack(gpu: &Gpu, checks: &mut Checks) -> Result<(), Error> {
    for (stream, orders) in (1..=JOINED).flat_map(batches).enumerate() {
        let lens: Vec<usize> = orders.iter().map(|(sizes, _)| sizes.iter().product()).collect();
        let each = [1, SOFTWARE_EACH][stream / 2 % 2];
        let mut random = Random::new(14, stream as u64);
        // Every job has its own part of the source, after another that every other job adds.
        let source = random.values(2 * lens.iter().sum::<usize>());
        let (first, groups) = first_groups(&lens, each, WIDEST[stream % 2]);
        let (mut table, mut outs, mut begin) = (Vec::new(), vec![vec![7.0]; JOINED], 0);
        for (job, &(sizes, strides)) in orders.iter().enumerate() {
            let ([size0, size1, size2], [s0, s1, s2]) = (words(sizes), words(strides));
            let other = if job % 2 == 1 { begin as u32 } else { NO_OTHER };
            let from = (begin + lens[job]) as u32;
            // Outputs come last first, after an element of their own.
            let out = orders.len() - 1 - job;
            let place = [from, other, out as u32, 1, size1 * size2, 0];
            let [p0, p1, p2, p3, p4, p5] = place;
            table.extend(row([first[job], size0, size1, size2, s0, s1, s2, 0, 0, 0, p0, p1, p2, p3, p4, p5]));
            outs[out] = vec![7.0; 1 + lens[job]];
            begin += 2 * lens[job];
        }
        let jobs = orders.len() as u32;
        let params = params::Pack { jobs, groups_x: groups[0], outs: jobs, ..Default::default() };
        let kernel = element_kernel(KernelId::Pack, &[("EACH", each)]);
        let bindings: Vec<&[f32]> = [&table, &source].into_iter().chain(&outs).map(Vec::as_slice).collect();
        let found = run_kernel(gpu, &kernel, params, &bindings, groups)?;

        checks.case(format!("{} jobs from {:?}, {each} each", orders.len(), orders[0].0));
        begin = 0;
        for (job, &(sizes, strides)) in orders.iter().enumerate() {
            let own = wide(&source[begin + lens[job]..begin + 2 * lens[job]]);
            let other = (job % 2 == 1).then(|| wide(&source[begin..begin + lens[job]]));
            let want = linear::pack(&own, other.as_deref(), sizes, strides);
            let tolerance = if other.is_some() { Tolerance::product(1) } else { Tolerance::EXACT };
            let axes = [("i0", sizes[0]), ("i1", sizes[1]), ("i2", sizes[2])];
            let out = &found[2 + orders.len() - 1 - job];
            checks.tensor(&format!("out of job {job}"), &axes, &out[1..], &want, tolerance);
            checks.tensor("before it", &[("element", 1)], &out[..1], &[7.0], Tolerance::EXACT);
            begin += 2 * lens[job];
        }
    }
    Ok(())
}

pub(super) fn unpack_gradient(gpu: &Gpu, checks: &mut Checks) -> Result<(), Error> {
    for (stream, orders) in (1..=JOINED).flat_map(batches).enumerate() {
        let lens: Vec<usize> = orders.iter().map(|(sizes, _)| sizes.iter().product()).collect();
        let each = [1, SOFTWARE_EACH][stream / 2 % 2];
        let mut random = Random::new(15, stream as u64);
        let slices = |job: usize| [1, 2, 137][(stream + job) % 3];
        let parts: Vec<Vec<f32>> =
            lens.iter().enumerate().map(|(job, &len)| random.values_for(len, slices(job) * len)).collect();
        let d = random.values(lens.iter().sum());
        let (first, groups) = first_groups(&lens, each, WIDEST[stream % 2]);
        let (mut table, mut sources, mut begin) = (Vec::new(), vec![vec![7.0]; JOINED], 0);
        for (job, &(sizes, strides)) in orders.iter().enumerate() {
            let ([size0, size1, size2], [s0, s1, s2]) = (words(sizes), words(strides));
            let source = orders.len() - 1 - job;
            let (count, len) = (slices(job) as u32, lens[job] as u32);
            table.extend(row([
                first[job],
                size0,
                size1,
                size2,
                s0,
                s1,
                s2,
                count,
                0,
                0,
                source as u32,
                begin as u32,
                len,
                0,
                0,
                0,
            ]));
            sources[source].clone_from(&parts[job]);
            begin += lens[job];
        }
        let jobs = orders.len() as u32;
        let params = params::UnpackGradient { jobs, groups_x: groups[0], sources: jobs, most_slices: 137 };
        let kernel = element_kernel(KernelId::UnpackGradient, &[("EACH", each)]);
        let bindings: Vec<&[f32]> =
            [&table].into_iter().chain(&sources).chain([&d]).map(Vec::as_slice).collect();
        let found = run_kernel(gpu, &kernel, params, &bindings, groups)?.swap_remove(1 + JOINED);

        checks.case(format!("{} jobs from {:?}, {each} each", orders.len(), orders[0].0));
        begin = 0;
        for (job, &(sizes, strides)) in orders.iter().enumerate() {
            let own = begin..begin + lens[job];
            let mut want = wide(&d[own.clone()]);
            linear::unpack_gradient(&wide(&parts[job]), sizes, strides, &mut want);
            let tolerance = Tolerance::product(slices(job) + 1);
            let what = format!("d of job {job}");
            checks.tensor(&what, &[("element", lens[job])], &found[own], &want, tolerance);
            begin += lens[job];
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
