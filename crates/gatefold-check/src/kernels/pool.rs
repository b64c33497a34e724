//! Pooling over time, and its gradient.

use super::sequence::{BEFORE, bits, cube, sequences};
use super::{WIDEST, after_others, element_groups, element_kernel};
use crate::Random;
use crate::compare::Tolerance;
use crate::data::{flat, matrix};
use crate::selfcheck::Checks;
use gatefold::hooks::run_kernel;
use gatefold::layers::Pooling;
use gatefold::{Error, Gpu};
use gatefold_reference::pool;
use gatefold_shaders::{KernelId, KernelVariant, params};

/// Sequences, some of whose values are equal: there the first counts.
struct Case {
    shape: (usize, usize, usize),
    lengths: Option<Vec<usize>>,
    pooling: Pooling,
    before: [usize; 2],
    widest: u32,
    x: Vec<f32>,
    stream: u64,
}

impl Case {
    fn all(seed: u64) -> Vec<Case> {
        let mut cases = Vec::new();
        for (stream, (shape, lengths)) in sequences().into_iter().enumerate() {
            for (k, pooling) in [Pooling::Max, Pooling::Mean].into_iter().enumerate() {
                for lengths in [None, Some(lengths.clone())] {
                    let (len, stream) = (shape.0 * shape.1 * shape.2, stream as u64);
                    let mut random = Random::new(seed, stream);
                    let x = match pooling {
                        Pooling::Max => random.within(-3.0..4.0, len).into_iter().map(f32::floor).collect(),
                        Pooling::Mean => random.within(0.5..1.5, len),
                    };
                    let at = stream as usize + k;
                    let before = [BEFORE[at % 3], BEFORE[(at + 1) % 3]];
                    cases.push(Case { shape, lengths, pooling, before, widest: WIDEST[at % 2], x, stream });
                }
            }
        }
        cases
    }

    fn kernel(&self, id: KernelId) -> KernelVariant {
        let mean = u32::from(self.pooling == Pooling::Mean);
        element_kernel(id, &[("LENGTHS", u32::from(self.lengths.is_some())), ("MEAN", mean)])
    }

    fn ends(&self) -> Vec<usize> {
        self.lengths.clone().unwrap_or_else(|| vec![self.shape.0; self.shape.1])
    }

    fn params(&self, groups: [u32; 3]) -> params::Pool {
        let (steps, batch, width) = self.shape;
        params::Pool {
            steps: steps as u32,
            batch: batch as u32,
            width: width as u32,
            x_offset: self.before[0] as u32,
            v_offset: self.before[1] as u32,
            groups_x: groups[0],
            ..Default::default()
        }
    }

    fn groups(&self) -> [u32; 3] {
        element_groups(self.shape.1 * self.shape.2, self.widest)
    }

    /// Sequences as they lie in their buffer, with NaN past the ends of rows.
    fn bound(&self, values: &[f32], before: usize) -> Vec<f32> {
        let ((_, batch, width), ends) = (self.shape, self.ends());
        let past = |at: usize| at / (batch * width) >= ends[at / width % batch];
        let marked = values.iter().enumerate().map(|(at, &x)| if past(at) { f32::NAN } else { x });
        after_others(before, &marked.collect::<Vec<f32>>())
    }

    fn describe(&self) -> String {
        let (steps, batch, width) = self.shape;
        let lengths = if self.lengths.is_some() { ", lengths" } else { "" };
        format!("{} of T {steps} B {batch} F {width}{lengths}", self.pooling)
    }

    fn tolerance(&self) -> Tolerance {
        match self.pooling {
            Pooling::Max => Tolerance::EXACT,
            Pooling::Mean => Tolerance::product(self.shape.0),
        }
    }
}

pub(super) fn pool(gpu: &Gpu, checks: &mut Checks) -> Result<(), Error> {
    for case in Case::all(103) {
        let ((_, batch, width), groups, ends) = (case.shape, case.groups(), case.ends());
        let values = Random::new(104, case.stream).within(0.5..1.5, case.x.len());
        let (x, bound) = (case.bound(&case.x, case.before[0]), case.bound(&values, case.before[1]));
        let bindings: [&[f32]; 4] = [&bits(&ends), &x, &bound, &vec![7.0; batch * width]];
        let found = run_kernel(gpu, &case.kernel(KernelId::Pool), case.params(groups), &bindings, groups)?;

        let (x, values) = (cube(&case.x, case.shape), cube(&values, case.shape));
        let want = pool::pool(&ends, x.view(), values.view(), case.pooling);
        checks.case(case.describe());
        checks.tensor("y", &[("row", batch), ("k", width)], &found[3], &flat(&want), case.tolerance());
    }
    Ok(())
}

pub(super) fn pool_backward(gpu: &Gpu, checks: &mut Checks) -> Result<(), Error> {
    for case in Case::all(105) {
        let ((steps, batch, width), groups, ends) = (case.shape, case.groups(), case.ends());
        let d_y = Random::new(106, case.stream).within(0.5..1.5, batch * width);
        let (x, bound) = (case.bound(&case.x, case.before[0]), after_others(case.before[1], &d_y));
        let bindings: [&[f32]; 4] = [&bits(&ends), &x, &bound, &vec![7.0; case.x.len()]];
        let kernel = case.kernel(KernelId::PoolBackward);
        let found = run_kernel(gpu, &kernel, case.params(groups), &bindings, groups)?;

        let (x, d_y) = (cube(&case.x, case.shape), matrix(&d_y, batch, width));
        let want = pool::pool_backward(&ends, x.view(), d_y.view(), case.pooling);
        checks.case(case.describe());
        let axes = [("step", steps), ("row", batch), ("k", width)];
        let want: Vec<f64> = want.into_iter().collect();
        checks.tensor("d_x", &axes, &found[3], &want, case.tolerance());
    }
    Ok(())
}
