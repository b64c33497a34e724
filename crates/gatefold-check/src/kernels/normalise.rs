//! Layer normalisation of rows, its gradient and its tangent.

use super::sequence::{BEFORE, row_groups, rows};
use super::{WIDEST, after_others, element_kernel};
use crate::Random;
use crate::compare::Tolerance;
use crate::data::{flat, matrix, wide};
use crate::selfcheck::Checks;
use gatefold::hooks::run_kernel;
use gatefold::{Error, Gpu};
use gatefold_reference::norm;
use gatefold_shaders::{KernelId, params};
use ndarray::{Array1, ArrayView1};

/// Rows with their parameters, some far from zero, and others that come with them.
struct Case {
    rows: usize,
    width: usize,
    team: u32,
    groups: [u32; 3],
    params: params::NormaliseRows,
    x: Vec<f32>,
    /// `[rows, width]`: a gradient or a tangent.
    d: Vec<f32>,
    /// `[width]`: weight, bias, and tangents of both.
    vectors: [Vec<f32>; 4],
}

impl Case {
    fn all(seed: u64) -> Vec<Case> {
        rows().into_iter().enumerate().map(|(stream, shape)| Case::new(seed, stream, shape)).collect()
    }

    fn new(seed: u64, stream: usize, (rows, width, team): (usize, usize, u32)) -> Case {
        let groups = row_groups(rows, team, WIDEST[stream % 2]);
        let mut random = Random::new(seed, stream as u64);
        // A lone value is all mean: its normal is 0, and so is the gradient with respect to it.
        let middle = [0.0, 3.0][stream / 3 % 2];
        let x = random.within(middle - 1.0..middle + 1.0, rows * width);
        let d = random.values(rows * width);
        let vectors = std::array::from_fn(|_| random.within(0.5..1.5, width));
        let params = params::NormaliseRows {
            rows: rows as u32,
            width: width as u32,
            x_offset: BEFORE[stream % 3] as u32,
            d_offset: BEFORE[(stream + 1) % 3] as u32,
            // The gradient of a few values is small, but for an epsilon beside their variance.
            epsilon: if width < 8 { 0.3 } else { [1e-5, 0.1][stream % 2] },
            groups_x: groups[0],
            ..Default::default()
        };
        Case { rows, width, team, groups, params, x, d, vectors }
    }

    fn describe(&self) -> String {
        let Case { rows, width, team, .. } = self;
        format!("{rows} rows of {width}, {team} to a row, epsilon {}", self.params.epsilon)
    }

    /// The given rows after others, as they lie in their buffers.
    fn bound(&self) -> [Vec<f32>; 2] {
        let before = [self.params.x_offset, self.params.d_offset];
        [(before[0], &self.x), (before[1], &self.d)].map(|(before, rows)| after_others(before as usize, rows))
    }

    fn epsilon(&self) -> f64 {
        f64::from(self.params.epsilon)
    }

    fn vector(&self, at: usize) -> Array1<f64> {
        Array1::from(wide(&self.vectors[at]))
    }

    fn untouched(&self) -> Vec<f32> {
        vec![7.0; self.rows * self.width]
    }

    /// Errors of the mean and of the variance reach every value, and divided by a small deviation they grow.
    fn tolerance(&self) -> Tolerance {
        Tolerance::gradient(self.width + 16)
    }
}

pub(super) fn normalise_rows(gpu: &Gpu, checks: &mut Checks) -> Result<(), Error> {
    for case in Case::all(100) {
        let kernel = element_kernel(KernelId::NormaliseRows, &[("TEAM", case.team)]);
        let ([x, _], [weight, bias, ..]) = (case.bound(), &case.vectors);
        let bindings: [&[f32]; 4] = [&x, weight, bias, &case.untouched()];
        let found = run_kernel(gpu, &kernel, case.params, &bindings, case.groups)?;

        let x = matrix(&case.x, case.rows, case.width);
        let (weight, bias) = (case.vector(0), case.vector(1));
        let want = norm::normalise_rows(x.view(), case.epsilon(), weight.view(), bias.view());
        checks.case(case.describe());
        let axes = [("row", case.rows), ("k", case.width)];
        checks.tensor("y", &axes, &found[3], &flat(&want), case.tolerance());
    }
    Ok(())
}

pub(super) fn normalise_rows_backward(gpu: &Gpu, checks: &mut Checks) -> Result<(), Error> {
    for case in Case::all(101) {
        let consts = [("TEAM", case.team), ("PRODUCTS", 1)];
        let kernel = element_kernel(KernelId::NormaliseRowsBackward, &consts);
        let ([x, d_y], [weight, ..]) = (case.bound(), &case.vectors);
        let bindings: [&[f32]; 5] = [&x, weight, &d_y, &case.untouched(), &case.untouched()];
        let found = run_kernel(gpu, &kernel, case.params, &bindings, case.groups)?;

        let [x, d_y] = [&case.x, &case.d].map(|values| matrix(values, case.rows, case.width));
        let weight = case.vector(0);
        let (d_x, products) =
            norm::normalise_rows_backward(x.view(), case.epsilon(), weight.view(), d_y.view());
        checks.case(case.describe());
        let axes = [("row", case.rows), ("k", case.width)];
        checks.tensor("d_x", &axes, &found[3], &flat(&d_x), case.tolerance());
        checks.tensor("products", &axes, &found[4], &flat(&products), case.tolerance());
    }
    Ok(())
}

pub(super) fn normalise_rows_tangent(gpu: &Gpu, checks: &mut Checks) -> Result<(), Error> {
    for case in Case::all(102) {
        let kernel = element_kernel(KernelId::NormaliseRowsTangent, &[("TEAM", case.team)]);
        let ([x, x_dot], [weight, _, weight_dot, bias_dot]) = (case.bound(), &case.vectors);
        let bindings: [&[f32]; 6] = [&x, weight, &x_dot, weight_dot, bias_dot, &case.untouched()];
        let found = run_kernel(gpu, &kernel, case.params, &bindings, case.groups)?;

        let [x, x_dot] = [&case.x, &case.d].map(|values| matrix(values, case.rows, case.width));
        let [weight, weight_dot, bias_dot] = [0, 2, 3].map(|at| case.vector(at));
        let along: (_, ArrayView1<f64>, ArrayView1<f64>) = (x_dot.view(), weight_dot.view(), bias_dot.view());
        let want = norm::normalise_rows_tangent(x.view(), case.epsilon(), weight.view(), along);
        checks.case(case.describe());
        let axes = [("row", case.rows), ("k", case.width)];
        checks.tensor("y_dot", &axes, &found[5], &flat(&want), case.tolerance());
    }
    Ok(())
}
