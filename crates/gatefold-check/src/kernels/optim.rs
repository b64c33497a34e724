//! The gradient's norm, clipping, the sticky failure, and the optimisers.

use super::{element_groups, element_kernel};
use crate::Random;
use crate::compare::Tolerance;
use crate::data::wide;
use crate::selfcheck::Checks;
use gatefold::hooks::run_kernel;
use gatefold::{Error, Gpu};
use gatefold_reference::optim::{self, Partial};
use gatefold_shaders::{ELEMENT_WG_SIZE, KernelId, params};

const WG: usize = ELEMENT_WG_SIZE as usize;

/// Words as the elements of a buffer.
fn words(values: &[u32]) -> Vec<f32> {
    values.iter().map(|&word| f32::from_bits(word)).collect()
}

/// Whole numbers that the GPU wrote, to compare as numbers.
fn counts(values: impl IntoIterator<Item = f32>) -> Vec<f32> {
    values.into_iter().map(|value| value.to_bits() as f32).collect()
}

/// A gradient in pieces.
struct Pieces {
    lens: &'static [usize],
    /// Factor on every element.
    factor: f32,
    /// The limit to clip at; 0 for none.
    clip: f32,
    /// Elements that are not finite, by place.
    bad: &'static [(usize, f32)],
}

const PIECES: [Pieces; 8] = [
    Pieces { lens: &[1], factor: 1.0, clip: 0.0, bad: &[] },
    Pieces { lens: &[63, 64, 65], factor: 1.0, clip: 0.0, bad: &[] },
    Pieces { lens: &[4096, 5, 200], factor: 1e-30, clip: 0.0, bad: &[] },
    Pieces { lens: &[130, 131], factor: 1e30, clip: 0.0, bad: &[] },
    Pieces { lens: &[64, 70, 3], factor: 1.0, clip: 0.0, bad: &[(70, f32::NAN), (135, f32::INFINITY)] },
    Pieces { lens: &[1, 2], factor: 1e30, clip: 0.0, bad: &[(0, f32::NEG_INFINITY)] },
    Pieces { lens: &[4096, 7], factor: 1.0, clip: 0.3, bad: &[] },
    Pieces { lens: &[64, 70, 3], factor: 1e30, clip: 1e-3, bad: &[(70, f32::NAN), (135, f32::INFINITY)] },
];

pub(super) fn gradient_norm(gpu: &Gpu, checks: &mut Checks) -> Result<(), Error> {
    for (stream, Pieces { lens, factor, clip, bad }) in PIECES.into_iter().enumerate() {
        let mut random = Random::new(20, stream as u64);
        let len: usize = lens.iter().sum();
        let mut gradients: Vec<f32> = random.values(len).into_iter().map(|g| g * factor).collect();
        for &(at, value) in bad {
            gradients[at] = value;
        }
        let mut offset = 0;
        let mut pieces = Vec::new();
        for (layer, &len) in lens.iter().enumerate() {
            pieces.extend([offset as u32, len as u32, layer as u32, 0]);
            offset += len;
        }
        let partials = lens.len() * WG;
        let groups = element_groups(partials, 2);
        let params = params::GradientNorm {
            pieces: lens.len() as u32,
            groups_x: groups[0],
            clip_value: clip,
            ..Default::default()
        };
        let kernel = element_kernel(KernelId::GradientNorm, &[]);
        let bindings: [&[f32]; 3] = [&words(&pieces), &gradients, &vec![7.0; 4 * partials]];
        let found = run_kernel(gpu, &kernel, params, &bindings, groups)?.swap_remove(2);

        let gradients = clipped(&wide(&gradients), clip);
        let mut want = Vec::new();
        let mut begin = 0;
        for &len in lens {
            let piece = &gradients[begin..begin + len];
            want.extend((0..WG).map(|l| optim::gradient_norm(piece.iter().skip(l).step_by(WG).copied())));
            begin += len;
        }
        checks.case(format!("pieces {lens:?} times {factor:e}, clip {clip:e}, {} not finite", bad.len()));
        let axes = [("piece", lens.len()), ("invocation", WG)];
        let field = |k: usize| found.iter().skip(k).step_by(4).copied();
        let column = |read: &dyn Fn(&Partial<f64>) -> f64| want.iter().map(read).collect::<Vec<f64>>();
        let largest: Vec<f32> = field(0).collect();
        checks.tensor("largest", &axes, &largest, &column(&|p| p.largest), Tolerance::EXACT);
        let sums: Vec<f32> = field(1).collect();
        checks.tensor("sum", &axes, &sums, &column(&|p| p.sum), Tolerance::product(64));
        let failed = column(&|p| f64::from(u8::from(!p.finite)));
        checks.tensor("not finite", &axes, &counts(field(2)), &failed, Tolerance::EXACT);
        let layers: Vec<f64> = (0..partials).map(|p| (p / WG) as f64).collect();
        checks.tensor("layer", &axes, &counts(field(3)), &layers, Tolerance::EXACT);
    }
    Ok(())
}

/// Elements clamped to `+-limit`, unless that is 0. Those that are not finite stay so, to be detected.
fn clipped(gradients: &[f64], limit: f32) -> Vec<f64> {
    let clip = |&g: &f64| {
        if limit > 0.0 && g.is_finite() { optim::clip_value(g, f64::from(limit)) } else { g }
    };
    gradients.iter().map(clip).collect()
}

/// Partials of a norm, and the status before.
struct Partials {
    count: usize,
    clip: f32,
    /// Layers whose gradients were not finite.
    failed: &'static [u32],
    /// The failed update and layer in the status before.
    before: [u32; 2],
}

const PARTIALS: [Partials; 8] = [
    Partials { count: 1, clip: 0.0, failed: &[], before: [0, 0] },
    Partials { count: 63, clip: 1.0, failed: &[], before: [0, 0] },
    Partials { count: 64, clip: 1e3, failed: &[], before: [0, 0] },
    Partials { count: 65, clip: 0.5, failed: &[], before: [0, 0] },
    Partials { count: 1000, clip: 2.0, failed: &[3, 1, 2], before: [0, 0] },
    Partials { count: 130, clip: 0.0, failed: &[0], before: [0, 0] },
    Partials { count: 130, clip: 1.0, failed: &[4], before: [2, 1] },
    Partials { count: 130, clip: 1.0, failed: &[], before: [2, 1] },
];

pub(super) fn finish_norm(gpu: &Gpu, checks: &mut Checks) -> Result<(), Error> {
    for (stream, Partials { count, clip, failed, before }) in PARTIALS.into_iter().enumerate() {
        let mut random = Random::new(21, stream as u64);
        // Some partials have nothing but zeros, and none has more than its largest element.
        let (largest, sums) = (random.within(-0.5..2.0, count), random.within(1.0..64.0, count));
        let mut layers = vec![0; count];
        let mut partials: Vec<Partial<f64>> = largest
            .iter()
            .zip(&sums)
            .map(|(&largest, &sum)| {
                let sum = if largest > 0.0 { f64::from(sum) } else { 0.0 };
                Partial { largest: f64::from(largest.max(0.0)), sum, finite: true }
            })
            .collect();
        for (k, &layer) in failed.iter().enumerate() {
            let at = (k * 57 + 11) % count;
            layers[at] = layer;
            (partials[at].finite, partials[at].sum) = (false, 0.0);
        }
        let stored: Vec<f32> = partials
            .iter()
            .zip(&layers)
            .flat_map(|(partial, &layer)| {
                let bad = f32::from_bits(u32::from(!partial.finite));
                [partial.largest as f32, partial.sum as f32, bad, f32::from_bits(layer)]
            })
            .collect();
        let step = 9;
        let hyper = [words(&[step]), vec![0.1, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0]].concat();
        let status = [words(&before), vec![7.0, 7.0]].concat();
        let params = params::FinishNorm { partials: count as u32, clip, ..Default::default() };
        let kernel = element_kernel(KernelId::FinishNorm, &[]);
        let found = run_kernel(gpu, &kernel, params, &[&stored, &hyper, &status], [1, 1, 1])?.swap_remove(2);

        checks.case(format!("{count} partials, clip {clip}, failed {failed:?}, before {}", before[0]));
        let norm = optim::finish_norm(&partials);
        checks.tensor("norm", &[("word", 1)], &found[2..3], &[norm], Tolerance::product(count));
        let scale = if clip > 0.0 { optim::clip_factor(norm, f64::from(clip)) } else { 1.0 };
        checks.tensor("scale", &[("word", 1)], &found[3..], &[scale], Tolerance::product(count));
        let failure = match (before, failed.iter().max()) {
            ([0, _], Some(&layer)) => [step, layer],
            (before, _) => before,
        };
        let axes = [("word", 2)];
        let want = failure.map(f64::from);
        checks.tensor("failed", &axes, &counts(found[..2].iter().copied()), &want, Tolerance::EXACT);
    }
    Ok(())
}

/// A run of parameters in the middle of a buffer, with the step's values from the host and the norm.
struct Run {
    offset: usize,
    len: usize,
    total: usize,
    /// Workgroups.
    groups: [u32; 3],
    step: u32,
    rate: f32,
    scale: f32,
    /// The largest element of the gradient, 0 for any.
    clip: f32,
    failed: bool,
    values: Vec<f32>,
    gradients: Vec<f32>,
    random: Random,
}

const FACTOR: f32 = 0.7;

fn runs(seed: u64) -> Vec<Run> {
    // First element; elements; update; whether an earlier update failed.
    let cases =
        [(0, 1, 1, false), (64, 63, 5, false), (0, 64, 1, false), (128, 1065, 3, false), (64, 65, 4, true)];
    let runs = cases.into_iter().enumerate().map(|(stream, (offset, len, step, failed))| {
        let mut random = Random::new(seed, stream as u64);
        let total = offset + len + 3;
        let groups = element_groups(len, if stream % 2 == 0 { u32::MAX } else { 3 });
        let (values, gradients) = (random.values_for(len, total), random.values_for(len, total));
        let (rate, scale, clip) = (0.1, 0.6, if stream % 2 == 1 { 0.4 } else { 0.0 });
        Run { offset, len, total, groups, step, rate, scale, clip, failed, values, gradients, random }
    });
    runs.collect()
}

impl Run {
    fn hyper(&self, beta1: f32, beta2: f32) -> Vec<f32> {
        let correction = |beta: f32| (1.0 - f64::from(beta).powi(self.step as i32)) as f32;
        let rest = vec![self.rate, correction(beta1), correction(beta2), self.clip, 0.0, 0.0, 0.0];
        [words(&[self.step]), rest].concat()
    }

    fn status(&self) -> Vec<f32> {
        [words(&[u32::from(self.failed), 0]), vec![1.0, self.scale]].concat()
    }

    /// Moments of the step before; zeros at the first step.
    fn moment(&mut self, lowest: f32) -> Vec<f32> {
        if self.step == 1 { vec![0.0; self.total] } else { self.random.within(lowest..1.0, self.total) }
    }

    /// The run's part of a tensor.
    fn part(&self, values: &[f32]) -> Vec<f64> {
        wide(&values[self.offset..self.offset + self.len])
    }

    fn clipped(&self) -> Vec<f64> {
        let held = clipped(&self.part(&self.gradients), self.clip);
        held.into_iter().map(|g| f64::from(self.scale) * g).collect()
    }

    fn rate(&self) -> f64 {
        f64::from(self.rate) * f64::from(FACTOR)
    }

    /// Compares the run, and checks that nothing changed around it, or anywhere after a failure.
    fn compare(&self, checks: &mut Checks, name: &str, found: &[f32], before: &[f32], want: &[f64]) {
        let end = self.offset + self.len;
        if !self.failed {
            let run = &found[self.offset..end];
            checks.tensor(name, &[("element", self.len)], run, want, Tolerance::product(4));
        }
        let mut rest = before.to_vec();
        if !self.failed {
            rest[self.offset..end].copy_from_slice(&found[self.offset..end]);
        }
        let elsewhere = format!("{name} elsewhere");
        checks.tensor(&elsewhere, &[("element", self.total)], found, &wide(&rest), Tolerance::EXACT);
    }

    fn describe(&self, more: &str) -> String {
        let failed = if self.failed { ", after a failure" } else { "" };
        format!("{} from {}, step {}{failed}, clip {}, {more}", self.len, self.offset, self.step, self.clip)
    }
}

pub(super) fn sgd(gpu: &Gpu, checks: &mut Checks) -> Result<(), Error> {
    for (momentum, nesterov, decay) in
        [(0.0, false, 0.0), (0.0, false, 0.3), (0.9, false, 0.0), (0.8, true, 0.2)]
    {
        for mut run in runs(22) {
            let before = run.moment(-1.0);
            let params = params::Sgd {
                offset: run.offset as u32,
                len: run.len as u32,
                groups_x: run.groups[0],
                nesterov: u32::from(nesterov),
                rate_factor: FACTOR,
                momentum,
                decay,
                ..Default::default()
            };
            let bindings: [&[f32]; 5] =
                [&run.hyper(0.0, 0.0), &run.status(), &run.gradients, &run.values, &before];
            let kernel = element_kernel(KernelId::Sgd, &[]);
            let found = run_kernel(gpu, &kernel, params, &bindings, run.groups)?;

            let (mut p, mut b) = (run.part(&run.values), run.part(&before));
            let options =
                optim::Sgd { momentum: f64::from(momentum), nesterov, weight_decay: f64::from(decay) };
            optim::sgd(&mut p, &run.clipped(), &mut b, run.rate(), &options);
            checks.case(run.describe(&format!("momentum {momentum} nesterov {nesterov} decay {decay}")));
            run.compare(checks, "values", &found[3], &run.values, &p);
            // Without momentum the buffer is left alone.
            let b = if momentum > 0.0 { b } else { run.part(&before) };
            run.compare(checks, "momentum", &found[4], &before, &b);
        }
    }
    Ok(())
}

pub(super) fn rmsprop(gpu: &Gpu, checks: &mut Checks) -> Result<(), Error> {
    let alpha = 0.9;
    for centered in [false, true] {
        // A large epsilon where g or v - m^2 may be a small difference of large terms, as for Adam.
        for (momentum, epsilon, decay) in [(0.0, 0.1, 0.3), (0.8, if centered { 0.1 } else { 1e-8 }, 0.0)] {
            for mut run in runs(24) {
                // No mean is larger than the root of the mean square.
                let (v, mean) = (run.moment(0.5), run.moment(-0.5));
                let mean: Vec<f32> = mean.iter().map(|m| m.clamp(-0.5, 0.5)).collect();
                let before = run.moment(-1.0);
                let params = params::RmsProp {
                    offset: run.offset as u32,
                    len: run.len as u32,
                    groups_x: run.groups[0],
                    rate_factor: FACTOR,
                    alpha,
                    epsilon,
                    momentum,
                    decay,
                };
                let bindings: [&[f32]; 7] =
                    [&run.hyper(0.0, 0.0), &run.status(), &run.gradients, &run.values, &v, &mean, &before];
                let kernel = element_kernel(KernelId::RmsProp, &[("CENTERED", u32::from(centered))]);
                let found = run_kernel(gpu, &kernel, params, &bindings, run.groups)?;

                let (mut p, mut want_v) = (run.part(&run.values), run.part(&v));
                let (mut want_mean, mut b) = (run.part(&mean), run.part(&before));
                let options = optim::RmsProp {
                    alpha: f64::from(alpha),
                    epsilon: f64::from(epsilon),
                    momentum: f64::from(momentum),
                    centered,
                    weight_decay: f64::from(decay),
                };
                let moments = optim::RmsPropMoments {
                    v: &mut want_v,
                    mean: centered.then_some(&mut want_mean[..]),
                    b: (momentum > 0.0).then_some(&mut b[..]),
                };
                optim::rmsprop(&mut p, &run.clipped(), moments, run.rate(), &options);
                checks.case(run.describe(&format!(
                    "centered {centered} momentum {momentum} epsilon {epsilon} decay {decay}"
                )));
                run.compare(checks, "values", &found[3], &run.values, &p);
                run.compare(checks, "v", &found[4], &v, &want_v);
                // Moments that the form does not use are left alone.
                run.compare(checks, "mean", &found[5], &mean, &want_mean);
                run.compare(checks, "momentum", &found[6], &before, &b);
            }
        }
    }
    Ok(())
}

pub(super) fn adam(gpu: &Gpu, checks: &mut Checks) -> Result<(), Error> {
    let (beta1, beta2) = (0.9, 0.99);
    for decoupled in [false, true] {
        // With a decay, g may be a small difference of large terms; only a large epsilon keeps its rounding error
        // small.
        for (epsilon, decay) in [(1e-8, 0.0), (0.1, 0.3)] {
            for mut run in runs(23) {
                let (m, v) = (run.moment(-1.0), run.moment(0.01));
                let params = params::Adam {
                    offset: run.offset as u32,
                    len: run.len as u32,
                    groups_x: run.groups[0],
                    rate_factor: FACTOR,
                    beta1,
                    beta2,
                    epsilon,
                    decay,
                };
                let bindings: [&[f32]; 6] =
                    [&run.hyper(beta1, beta2), &run.status(), &run.gradients, &run.values, &m, &v];
                let kernel = element_kernel(KernelId::Adam, &[("DECOUPLED", u32::from(decoupled))]);
                let found = run_kernel(gpu, &kernel, params, &bindings, run.groups)?;

                let (mut p, mut want_m, mut want_v) = (run.part(&run.values), run.part(&m), run.part(&v));
                let options = optim::Adam {
                    beta1: f64::from(beta1),
                    beta2: f64::from(beta2),
                    epsilon: f64::from(epsilon),
                    weight_decay: f64::from(decay),
                };
                let step = if decoupled { optim::adamw } else { optim::adam };
                let (gradients, number) = (run.clipped(), u64::from(run.step));
                step(&mut p, &gradients, &mut want_m, &mut want_v, run.rate(), number, &options);
                let name = if decoupled { "adamw" } else { "adam" };
                checks.case(run.describe(&format!("{name} epsilon {epsilon} decay {decay}")));
                run.compare(checks, "values", &found[3], &run.values, &p);
                run.compare(checks, "m", &found[4], &m, &want_m);
                run.compare(checks, "v", &found[5], &v, &want_v);
            }
        }
    }
    Ok(())
}
