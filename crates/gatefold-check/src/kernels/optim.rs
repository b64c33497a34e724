//! The gradient's norm, clipping, the sticky failure, and the optimisers.

mod average;

pub(super) use average::average;

use crate::Random;
use crate::compare::Tolerance;
use crate::data::wide;
use crate::selfcheck::Checks;
use gatefold::hooks::run_kernel;
use gatefold::{Error, Gpu};
use gatefold_reference::Real;
use gatefold_reference::optim::{self, Partial};
use gatefold_shaders::params::{self, Piece};
use gatefold_shaders::{KernelId, KernelVariant, OVERFLOW_BLOCK, SOFTWARE_UPDATE_WG_SIZE, UPDATE_WG_SIZE};
use std::ops::Range;

/// A kernel of an update, in workgroups as on GPUs for two cases, then as on software drivers for two.
fn update_kernel(id: KernelId, case: usize, consts: &[(&'static str, u32)]) -> KernelVariant {
    let wg_size = [UPDATE_WG_SIZE, SOFTWARE_UPDATE_WG_SIZE][case / 2 % 2];
    KernelVariant::new(id, &[&[("WG_SIZE", wg_size)], consts].concat())
}

/// A workgroup for each piece, at most two of them along the first axis if `narrow`.
fn piece_groups(pieces: usize, narrow: bool) -> [u32; 3] {
    let x = if narrow { 2.min(pieces) } else { pieces };
    [x as u32, pieces.div_ceil(x) as u32, 1]
}

/// A table of pieces as the elements of a buffer.
fn table(pieces: &[Piece]) -> Vec<f32> {
    let row = |piece: &Piece| {
        let [offset, len, layer] = [piece.offset, piece.len, piece.layer].map(f32::from_bits);
        [offset, len, layer, piece.rate_factor, piece.decay, 0.0, 0.0, 0.0]
    };
    pieces.iter().flat_map(row).collect()
}

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

const PIECES: [Pieces; 9] = [
    Pieces { lens: &[1], factor: 1.0, clip: 0.0, bad: &[] },
    Pieces { lens: &[63, 64, 65], factor: 1.0, clip: 0.0, bad: &[] },
    Pieces { lens: &[255, 256, 257, 511, 1025], factor: 1.0, clip: 0.0, bad: &[] },
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
        let mut begin = 0;
        let mut pieces = Vec::new();
        for (layer, &len) in (0..).zip(lens) {
            pieces.push(Piece { offset: begin as u32, len: len as u32, layer, ..Default::default() });
            begin += len;
        }
        // The partials of another buffer come first.
        let first = stream % 3;
        let groups = piece_groups(lens.len(), stream % 2 == 1);
        let params = params::GradientNorm {
            pieces: lens.len() as u32,
            groups_x: groups[0],
            first: first as u32,
            clip_value: clip,
        };
        let kernel = update_kernel(KernelId::GradientNorm, stream, &[]);
        let before = vec![7.0; 4 * (first + lens.len())];
        let bindings: [&[f32]; 3] = [&table(&pieces), &gradients, &before];
        let found = run_kernel(gpu, &kernel, params, &bindings, groups)?.swap_remove(2);

        let gradients = clipped(&wide(&gradients), clip);
        let mut rest = gradients.as_slice();
        let want: Vec<Partial<f64>> = lens
            .iter()
            .map(|&len| {
                let (piece, after) = rest.split_at(len);
                rest = after;
                optim::gradient_norm(piece.iter().copied())
            })
            .collect();
        checks.case(format!("pieces {lens:?} times {factor:e}, clip {clip:e}, {} not finite", bad.len()));
        let axes = [("piece", lens.len())];
        let (others, found) = found.split_at(4 * first);
        if first > 0 {
            checks.tensor("others", &[("word", 4 * first)], others, &vec![7.0; 4 * first], Tolerance::EXACT);
        }
        let field = |k: usize| found.iter().skip(k).step_by(4).copied();
        let column = |read: &dyn Fn(&Partial<f64>) -> f64| want.iter().map(read).collect::<Vec<f64>>();
        let largest: Vec<f32> = field(0).collect();
        checks.tensor("largest", &axes, &largest, &column(&|p| p.largest), Tolerance::EXACT);
        // A piece with an element that is not finite fails the update, whatever its sum.
        let finite = |p: usize| want[p].finite;
        let sums: Vec<f32> = field(1).enumerate().map(|(p, sum)| if finite(p) { sum } else { 0.0 }).collect();
        checks.tensor("sum", &axes, &sums, &column(&|p| p.sum), Tolerance::product(4096));
        let failed: Vec<f64> =
            want.iter().enumerate().map(|(p, part)| if part.finite { 0.0 } else { 1.0 + p as f64 }).collect();
        checks.tensor("failed", &axes, &counts(field(2)), &failed, Tolerance::EXACT);
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
    /// The update that overflowed before, 0 for none.
    overflow_step: u32,
}

const PARTIALS: [Partials; 11] = [
    Partials { count: 1, clip: 0.0, failed: &[], before: [0, 0], overflow_step: 0 },
    Partials { count: 63, clip: 1.0, failed: &[], before: [0, 0], overflow_step: 0 },
    Partials { count: 64, clip: 1e3, failed: &[], before: [0, 0], overflow_step: 0 },
    Partials { count: 65, clip: 0.5, failed: &[], before: [0, 0], overflow_step: 0 },
    Partials { count: 255, clip: 0.5, failed: &[], before: [0, 0], overflow_step: 0 },
    Partials { count: 257, clip: 0.0, failed: &[], before: [0, 0], overflow_step: 0 },
    Partials { count: 1000, clip: 2.0, failed: &[3, 1, 2], before: [0, 0], overflow_step: 0 },
    Partials { count: 130, clip: 0.0, failed: &[0], before: [0, 0], overflow_step: 0 },
    Partials { count: 130, clip: 1.0, failed: &[4], before: [2, 1], overflow_step: 0 },
    Partials { count: 130, clip: 1.0, failed: &[], before: [2, 1], overflow_step: 0 },
    Partials { count: 130, clip: 1.0, failed: &[4], before: [0, 0], overflow_step: 2 },
];

pub(super) fn finish_norm(gpu: &Gpu, checks: &mut Checks) -> Result<(), Error> {
    for (stream, Partials { count, clip, failed, before, overflow_step }) in PARTIALS.into_iter().enumerate()
    {
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
                let failed = if partial.finite { 0 } else { 1 + layer };
                [partial.largest as f32, partial.sum as f32, f32::from_bits(failed), 7.0]
            })
            .collect();
        let step = 9;
        let hyper = [words(&[step]), vec![0.1, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0]].concat();
        let overflow = words(&[overflow_step, 6, 0, 0]);
        let status = [words(&before), vec![7.0, 7.0], overflow].concat();
        let params = params::FinishNorm { partials: count as u32, clip, ..Default::default() };
        let kernel = update_kernel(KernelId::FinishNorm, stream, &[]);
        let found = run_kernel(gpu, &kernel, params, &[&stored, &hyper, &status], [1, 1, 1])?.swap_remove(2);

        checks.case(format!(
            "{count} partials, clip {clip}, failed {failed:?}, before {}, overflow {overflow_step}",
            before[0]
        ));
        let norm = optim::finish_norm(&partials);
        checks.tensor("norm", &[("word", 1)], &found[2..3], &[norm], Tolerance::product(count));
        let scale = if clip > 0.0 { optim::clip_factor(norm, f64::from(clip)) } else { 1.0 };
        checks.tensor("scale", &[("word", 1)], &found[3..4], &[scale], Tolerance::product(count));
        let failure = match (before, failed.iter().max()) {
            ([0, _], Some(&layer)) if overflow_step == 0 => [step, layer],
            (before, _) => before,
        };
        let axes = [("word", 2)];
        let want = failure.map(f64::from);
        checks.tensor("failed", &axes, &counts(found[..2].iter().copied()), &want, Tolerance::EXACT);
        let (overflow, want) = (counts(found[4..6].iter().copied()), [f64::from(overflow_step), 6.0]);
        checks.tensor("overflow", &axes, &overflow, &want, Tolerance::EXACT);
    }
    Ok(())
}

/// Parameters in the middle of a buffer, with the step's values from the host and the norm. They are cut into pieces with
/// settings of their own.
struct Run {
    offset: usize,
    len: usize,
    total: usize,
    piece_len: usize,
    step: u32,
    rate: f32,
    scale: f32,
    /// The largest element of the gradient, 0 for any.
    clip: f32,
    failed: bool,
    /// Whether the kernel only looks for an overflow.
    trial: bool,
    /// The update and the block of the overflow in the status before.
    overflow: [u32; 2],
    /// Elements of the run that overflow, and how.
    huge: &'static [usize],
    by: Overflow,
    values: Vec<f32>,
    gradients: Vec<f32>,
    random: Random,
}

/// Factors on the learning rate and on the weight decay of every other piece, the first of them first.
const FACTORS: [(f32, f32); 2] = [(0.7, 1.0), (0.75, 0.5)];
/// Blocks of elements before the buffer.
const FIRST_BLOCK: u32 = 1000;

/// A way to overflow.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Overflow {
    /// Of the parameter, by a huge learning rate; the elements that do not overflow have no gradient.
    Rate,
    /// Of a moment, by a huge gradient; the momentum of SGD does not overflow before the parameter.
    Gradient,
}

/// An update that is tried, or made after a trial.
struct Trial {
    trial: bool,
    failed: bool,
    overflow: [u32; 2],
    huge: &'static [usize],
}

/// All are update 7, of 200 elements from 128 on: blocks 1002 to 1005.
const TRIALS: [Trial; 8] = [
    Trial { trial: true, failed: false, overflow: [0, 0], huge: &[] },
    Trial { trial: true, failed: false, overflow: [0, 0], huge: &[0, 63] },
    Trial { trial: true, failed: false, overflow: [0, 0], huge: &[3, 70, 130] },
    // Another run has overflowed in the same update: both count, wherever it lies.
    Trial { trial: true, failed: false, overflow: [7, 5], huge: &[199] },
    Trial { trial: true, failed: false, overflow: [7, 2000], huge: &[199] },
    // After a failure nothing more is noted.
    Trial { trial: true, failed: false, overflow: [6, 5], huge: &[199] },
    Trial { trial: true, failed: true, overflow: [0, 0], huge: &[199] },
    // The update itself, withheld.
    Trial { trial: false, failed: false, overflow: [7, 1002], huge: &[] },
];

fn runs(seed: u64) -> Vec<Run> {
    // First element; elements; update; whether an earlier update failed.
    let cases =
        [(0, 1, 1, false), (64, 257, 5, false), (0, 64, 1, false), (128, 1065, 3, false), (64, 65, 4, true)];
    let runs = cases.into_iter().enumerate().map(|(stream, (offset, len, step, failed))| {
        let mut random = Random::new(seed, stream as u64);
        let total = offset + len + 3;
        let piece_len = [4096, 64, 300][stream % 3];
        let (values, gradients) = (random.values_for(len, total), random.values_for(len, total));
        let (rate, scale, clip) = (0.1, 0.6, if stream % 2 == 1 { 0.4 } else { 0.0 });
        let (trial, overflow, huge, by) = (false, [0, 0], &[][..], Overflow::Rate);
        Run {
            offset,
            len,
            total,
            piece_len,
            step,
            rate,
            scale,
            clip,
            failed,
            trial,
            overflow,
            huge,
            by,
            values,
            gradients,
            random,
        }
    });
    let trials = TRIALS.into_iter().enumerate().flat_map(|(stream, trial)| {
        [Overflow::Rate, Overflow::Gradient]
            .map(|by| trial_run(&trial, by, Random::new(seed, 100 + stream as u64)))
    });
    runs.chain(trials).collect()
}

fn trial_run(&Trial { trial, failed, overflow, huge }: &Trial, by: Overflow, mut random: Random) -> Run {
    let (offset, len, total, step, scale, clip) = (128, 200, 331, 7, 0.6, 0.0);
    let piece_len = 65;
    let (mut values, mut gradients) = (random.values(total), random.values(total));
    let by_rate = by == Overflow::Rate;
    if by_rate {
        (values, gradients) = (vec![0.0; total], vec![0.0; total]);
    }
    for &at in huge {
        (values[offset + at], gradients[offset + at]) = if by_rate { (0.0, 10.0) } else { (-3.4e38, 3e38) };
    }
    // Adam's rate / (1 - beta1^7) is still finite, RMSprop's first step, of sqrt(10), no longer.
    let rate = if by_rate { 1.7e38 } else { 0.1 };
    Run {
        offset,
        len,
        total,
        piece_len,
        step,
        rate,
        scale,
        clip,
        failed,
        trial,
        overflow,
        huge,
        by,
        values,
        gradients,
        random,
    }
}

impl Run {
    fn hyper(&self, beta1: f32, beta2: f32) -> Vec<f32> {
        let correction = |beta: f32| (1.0 - f64::from(beta).powi(self.step as i32)) as f32;
        let rest = vec![self.rate, correction(beta1), correction(beta2), self.clip, 0.0, 0.0, 0.0];
        [words(&[self.step]), rest].concat()
    }

    fn status(&self) -> Vec<f32> {
        let [step, block] = self.overflow;
        [words(&[u32::from(self.failed), 0]), vec![1.0, self.scale], words(&[step, block, 0, 0])].concat()
    }

    /// Moments of the step before; zeros at the first step.
    fn moment(&mut self, lowest: f32) -> Vec<f32> {
        if self.step == 1 || self.by_rate() {
            vec![0.0; self.total]
        } else {
            self.random.within(lowest..1.0, self.total)
        }
    }

    /// [`Run::moment`] of the first order, large enough for the rate to make its elements overflow.
    fn first_moment(&mut self, lowest: f32) -> Vec<f32> {
        let mut moment = self.moment(lowest);
        if self.by_rate() {
            self.huge.iter().for_each(|at| moment[self.offset + at] = 100.0);
        }
        moment
    }

    fn by_rate(&self) -> bool {
        self.rate > 1.0
    }

    /// Each piece's elements, and its factors on rate and decay.
    fn pieces(&self) -> impl Iterator<Item = (Range<usize>, (f32, f32))> {
        let begins = (0..self.len).step_by(self.piece_len);
        begins.zip(FACTORS.into_iter().cycle()).map(|(begin, factors)| {
            let end = self.len.min(begin + self.piece_len);
            (self.offset + begin..self.offset + end, factors)
        })
    }

    /// The table of the pieces, and the workgroups for them.
    fn table(&self, decay: f32) -> (Vec<Piece>, [u32; 3]) {
        let pieces: Vec<Piece> = self
            .pieces()
            .map(|(elements, (rate_factor, of_decay))| Piece {
                offset: elements.start as u32,
                len: elements.len() as u32,
                rate_factor,
                decay: decay * of_decay,
                ..Default::default()
            })
            .collect();
        let groups = piece_groups(pieces.len(), self.step % 2 == 1);
        (pieces, groups)
    }

    /// Runs the mirror piece by piece; `step` gets a piece's part of each tensor, its gradient, rate and decay.
    fn mirror<R: Real, const N: usize>(
        &self,
        tensors: [&[f32]; N],
        decay: f32,
        mut step: impl FnMut(&mut [Vec<R>; N], &[R], R, f32),
    ) -> [Vec<R>; N] {
        let mut after = [const { Vec::new() }; N];
        for (elements, (rate_factor, of_decay)) in self.pieces() {
            let mut piece = tensors.map(|tensor| part(tensor, elements.clone()));
            let held = clipped(&part(&self.gradients, elements), self.clip);
            let g: Vec<R> = held.into_iter().map(|g| R::from_f64(f64::from(self.scale) * g)).collect();
            let rate = R::from_f64(f64::from(self.rate) * f64::from(rate_factor));
            step(&mut piece, &g, rate, decay * of_decay);
            after.iter_mut().zip(piece).for_each(|(after, piece)| after.extend(piece));
        }
        after
    }

    /// Checks that the gradient is cleared by the dispatch that writes, updating or not, and left alone by a trial.
    fn compare_gradients(&self, checks: &mut Checks, found: &[f32]) {
        let mut want = wide(&self.gradients);
        if !self.trial {
            want[self.offset..self.offset + self.len].fill(0.0);
        }
        checks.tensor("gradients", &[("element", self.total)], found, &want, Tolerance::EXACT);
    }

    /// Whether this dispatch writes new values.
    fn changes(&self) -> bool {
        !self.failed && !self.trial && self.overflow[0] == 0
    }

    /// Compares the status. The mirror computed `after` in `f32`, as the kernel does.
    fn compare_status(&self, checks: &mut Checks, found: &[f32], after: &[Vec<f32>]) {
        let last = after.iter().filter_map(|after| optim::last_not_finite(after)).max();
        assert_eq!(last, self.huge.last().copied(), "the elements that overflow are the huge ones");
        let [step, block] = self.overflow;
        let notes = self.trial && !self.failed && (step == 0 || step == self.step);
        let overflow = match last.filter(|_| notes) {
            Some(at) => [self.step, block.max(FIRST_BLOCK + (self.offset + at) as u32 / OVERFLOW_BLOCK)],
            None => self.overflow,
        };
        let words = [u32::from(self.failed), 0, overflow[0], overflow[1], 0, 0].map(f64::from);
        let found = counts([&found[..2], &found[4..]].concat());
        checks.tensor("status", &[("word", 6)], &found, &words, Tolerance::EXACT);
    }

    /// Compares the run, and checks that nothing changed around it, or anywhere in a trial or after a failure.
    fn compare(&self, checks: &mut Checks, name: &str, found: &[f32], before: &[f32], want: &[f64]) {
        let end = self.offset + self.len;
        if self.changes() {
            let run = &found[self.offset..end];
            checks.tensor(name, &[("element", self.len)], run, want, Tolerance::product(4));
        }
        let mut rest = before.to_vec();
        if self.changes() {
            rest[self.offset..end].copy_from_slice(&found[self.offset..end]);
        }
        let elsewhere = format!("{name} elsewhere");
        checks.tensor(&elsewhere, &[("element", self.total)], found, &wide(&rest), Tolerance::EXACT);
    }

    fn describe(&self, more: &str) -> String {
        let failed = if self.failed { ", after a failure" } else { "" };
        let overflow = match (self.trial, self.overflow) {
            (false, [0, _]) => String::new(),
            (trial, before) => {
                let kind = if trial { "trial" } else { "update" };
                format!(", {kind} with {:?} huge by {:?}, overflow {before:?} before", self.huge, self.by)
            }
        };
        let Run { len, offset, step, clip, .. } = self;
        format!("{len} from {offset}, step {step}{failed}{overflow}, clip {clip}, {more}")
    }
}

/// Part of a tensor.
fn part<R: Real>(tensor: &[f32], elements: Range<usize>) -> Vec<R> {
    tensor[elements].iter().map(|&value| R::from_f64(f64::from(value))).collect()
}

fn sgd_mirror<R: Real>(run: &Run, b: &[f32], momentum: f32, nesterov: bool, decay: f32) -> [Vec<R>; 2] {
    let real = |value| R::from_f64(f64::from(value));
    run.mirror([&run.values, b], decay, |[p, b], g, rate, decay| {
        let options = optim::Sgd { momentum: real(momentum), nesterov, weight_decay: real(decay) };
        optim::sgd(p, g, b, rate, &options);
    })
}

pub(super) fn sgd(gpu: &Gpu, checks: &mut Checks) -> Result<(), Error> {
    for (momentum, nesterov, decay) in
        [(0.0, false, 0.0), (0.0, false, 0.3), (0.9, false, 0.0), (0.8, true, 0.2)]
    {
        for (case, mut run) in runs(22).into_iter().enumerate() {
            let before = run.first_moment(-1.0);
            let (pieces, groups) = run.table(decay);
            let params = params::Sgd {
                pieces: pieces.len() as u32,
                groups_x: groups[0],
                nesterov: u32::from(nesterov),
                momentum,
                trial: u32::from(run.trial),
                first_block: FIRST_BLOCK,
                ..Default::default()
            };
            let bindings: [&[f32]; 6] =
                [&run.hyper(0.0, 0.0), &table(&pieces), &run.status(), &run.gradients, &run.values, &before];
            let kernel = update_kernel(KernelId::Sgd, case, &[]);
            let found = run_kernel(gpu, &kernel, params, &bindings, groups)?;

            let [p, b] = sgd_mirror(&run, &before, momentum, nesterov, decay);
            let after = sgd_mirror(&run, &before, momentum, nesterov, decay);
            checks.case(run.describe(&format!("momentum {momentum} nesterov {nesterov} decay {decay}")));
            run.compare(checks, "values", &found[4], &run.values, &p);
            // Without momentum the buffer is left alone.
            let b = if momentum > 0.0 { b } else { part(&before, run.offset..run.offset + run.len) };
            run.compare(checks, "momentum", &found[5], &before, &b);
            run.compare_status(checks, &found[2], &after);
            run.compare_gradients(checks, &found[3]);
        }
    }
    Ok(())
}

/// Parameters, mean square, mean, momentum.
fn rmsprop_mirror<R: Real>(run: &Run, tensors: [&[f32]; 4], options: &optim::RmsProp<f32>) -> [Vec<R>; 4] {
    let real = |value| R::from_f64(f64::from(value));
    let &optim::RmsProp { alpha, epsilon, momentum, centered, weight_decay } = options;
    run.mirror(tensors, weight_decay, |[p, v, mean, b], g, rate, decay| {
        let options = optim::RmsProp {
            alpha: real(alpha),
            epsilon: real(epsilon),
            momentum: real(momentum),
            centered,
            weight_decay: real(decay),
        };
        let moments = optim::RmsPropMoments {
            v,
            mean: centered.then_some(&mut mean[..]),
            b: (momentum > 0.0).then_some(&mut b[..]),
        };
        optim::rmsprop(p, g, moments, rate, &options);
    })
}

pub(super) fn rmsprop(gpu: &Gpu, checks: &mut Checks) -> Result<(), Error> {
    let alpha = 0.9;
    for centered in [false, true] {
        // A large epsilon where g or v - m^2 may be a small difference of large terms, as for Adam.
        for (momentum, epsilon, decay) in [(0.0, 0.1, 0.3), (0.8, if centered { 0.1 } else { 1e-8 }, 0.0)] {
            for (case, mut run) in runs(24).into_iter().enumerate() {
                // No mean is larger than the root of the mean square.
                let (v, mean) = (run.moment(0.5), run.moment(-0.5));
                let mean: Vec<f32> = mean.iter().map(|m| m.clamp(-0.5, 0.5)).collect();
                let before = run.first_moment(-1.0);
                let (pieces, groups) = run.table(decay);
                let params = params::RmsProp {
                    pieces: pieces.len() as u32,
                    groups_x: groups[0],
                    alpha,
                    epsilon,
                    momentum,
                    trial: u32::from(run.trial),
                    first_block: FIRST_BLOCK,
                    ..Default::default()
                };
                let bindings: [&[f32]; 8] = [
                    &run.hyper(0.0, 0.0),
                    &table(&pieces),
                    &run.status(),
                    &run.gradients,
                    &run.values,
                    &v,
                    &mean,
                    &before,
                ];
                let kernel = update_kernel(KernelId::RmsProp, case, &[("CENTERED", u32::from(centered))]);
                let found = run_kernel(gpu, &kernel, params, &bindings, groups)?;

                let options = optim::RmsProp { alpha, epsilon, momentum, centered, weight_decay: decay };
                let tensors: [&[f32]; 4] = [&run.values, &v, &mean, &before];
                let [p, want_v, want_mean, b] = rmsprop_mirror(&run, tensors, &options);
                let after = rmsprop_mirror(&run, tensors, &options);
                checks.case(run.describe(&format!(
                    "centered {centered} momentum {momentum} epsilon {epsilon} decay {decay}"
                )));
                run.compare(checks, "values", &found[4], &run.values, &p);
                run.compare(checks, "v", &found[5], &v, &want_v);
                // Moments that the form does not use are left alone.
                run.compare(checks, "mean", &found[6], &mean, &want_mean);
                run.compare(checks, "momentum", &found[7], &before, &b);
                run.compare_status(checks, &found[2], &after);
                run.compare_gradients(checks, &found[3]);
            }
        }
    }
    Ok(())
}

/// Parameters and both moments.
fn adam_mirror<R: Real>(
    run: &Run,
    tensors: [&[f32]; 3],
    options: &optim::Adam<f32>,
    decoupled: bool,
) -> [Vec<R>; 3] {
    let real = |value| R::from_f64(f64::from(value));
    run.mirror(tensors, options.weight_decay, |[p, m, v], g, rate, decay| {
        let options = optim::Adam {
            beta1: real(options.beta1),
            beta2: real(options.beta2),
            epsilon: real(options.epsilon),
            weight_decay: real(decay),
        };
        let step = if decoupled { optim::adamw } else { optim::adam };
        step(p, g, m, v, rate, u64::from(run.step), &options);
    })
}

pub(super) fn adam(gpu: &Gpu, checks: &mut Checks) -> Result<(), Error> {
    let (beta1, beta2) = (0.9, 0.99);
    for decoupled in [false, true] {
        // With a decay, g may be a small difference of large terms; only a large epsilon keeps its rounding error
        // small.
        for (epsilon, decay) in [(1e-8, 0.0), (0.1, 0.3)] {
            for (case, mut run) in runs(23).into_iter().enumerate() {
                let (m, v) = (run.first_moment(-1.0), run.moment(0.01));
                let (pieces, groups) = run.table(decay);
                let params = params::Adam {
                    pieces: pieces.len() as u32,
                    groups_x: groups[0],
                    beta1,
                    beta2,
                    epsilon,
                    trial: u32::from(run.trial),
                    first_block: FIRST_BLOCK,
                    ..Default::default()
                };
                let bindings: [&[f32]; 7] = [
                    &run.hyper(beta1, beta2),
                    &table(&pieces),
                    &run.status(),
                    &run.gradients,
                    &run.values,
                    &m,
                    &v,
                ];
                let kernel = update_kernel(KernelId::Adam, case, &[("DECOUPLED", u32::from(decoupled))]);
                let found = run_kernel(gpu, &kernel, params, &bindings, groups)?;

                let options = optim::Adam { beta1, beta2, epsilon, weight_decay: decay };
                let tensors: [&[f32]; 3] = [&run.values, &m, &v];
                let [p, want_m, want_v] = adam_mirror(&run, tensors, &options, decoupled);
                let after = adam_mirror(&run, tensors, &options, decoupled);
                let name = if decoupled { "adamw" } else { "adam" };
                checks.case(run.describe(&format!("{name} epsilon {epsilon} decay {decay}")));
                run.compare(checks, "values", &found[4], &run.values, &p);
                run.compare(checks, "m", &found[5], &m, &want_m);
                run.compare(checks, "v", &found[6], &v, &want_v);
                run.compare_status(checks, &found[2], &after);
                run.compare_gradients(checks, &found[3]);
            }
        }
    }
    Ok(())
}
