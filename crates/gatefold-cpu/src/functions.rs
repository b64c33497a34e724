//! Activations and their slopes over whole slices, chosen once per slice so that the loops do not branch on them.

use crate::instructions::{Instructions, load, mul_add, store, vectors};
use crate::math::{sigmoid, tanh};
use gatefold_model::Activation;
use gatefold_reference::activation::{apply as apply_one, derivative, slope};
use pulp::{Simd, WithSimd};

/// `x = act(x)` for each element.
pub(crate) fn apply(set: Instructions, activation: Activation, x: &mut [f32]) {
    match activation {
        Activation::Identity => {}
        // Not `max`, which would turn NaN into 0 and hide it.
        Activation::Relu => x.iter_mut().for_each(|x| *x = if *x < 0.0 { 0.0 } else { *x }),
        Activation::Tanh => set.run(Tanh { x, alpha: 1.0, beta: 1.0 }),
        Activation::Sigmoid => set.run(Sigmoid { x }),
        Activation::ScaledTanh { alpha, beta } => set.run(Tanh { x, alpha, beta }),
        other => x.iter_mut().for_each(|x| *x = apply_one(other, *x)),
    }
}

/// `act(x)` for each element, in memory that is written once. The same bits as [`apply`].
pub(crate) fn applied(set: Instructions, activation: Activation, x: &[f32]) -> Vec<f32> {
    let (blocks, rest) = x.as_chunks();
    let mut y = Vec::with_capacity(blocks.len() + 1);
    match activation {
        Activation::Tanh => set.run(Blocks::<true> { x: blocks, y: &mut y }),
        Activation::Sigmoid => set.run(Blocks::<false> { x: blocks, y: &mut y }),
        _ => {
            let mut y = x.to_vec();
            apply(set, activation, &mut y);
            return y;
        }
    }
    let mut y = y.into_flattened();
    let from = y.len();
    y.extend_from_slice(rest);
    apply(set, activation, &mut y[from..]);
    y
}

/// A whole number of vectors of every set.
const BLOCK: usize = 16;

/// `y = tanh(x)` or, if not `TANH`, `sigmoid(x)`
struct Blocks<'a, const TANH: bool> {
    x: &'a [[f32; BLOCK]],
    y: &'a mut Vec<[f32; BLOCK]>,
}

impl<const TANH: bool> WithSimd for Blocks<'_, TANH> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        for block in self.x {
            let mut y = [0.0; BLOCK];
            vectors!(S, BLOCK, at => {
                let x = load(simd, &block[at.clone()]);
                store(simd, &mut y[at], if TANH { tanh(simd, x) } else { sigmoid(simd, x) });
            });
            self.y.push(y);
        }
    }
}

/// `d *= act'`, from the outputs `y` and, where the slope does not follow from them, the arguments `x`. Relu passes NaN
/// in `d` only where it is open, as in PyTorch.
pub(crate) fn times_slope(set: Instructions, activation: Activation, x: &[f32], y: &[f32], d: &mut [f32]) {
    let y = &y[..d.len()];
    match activation {
        Activation::Identity => {}
        Activation::Relu => d.iter_mut().zip(y).for_each(|(d, &y)| *d = if y <= 0.0 { 0.0 } else { *d }),
        Activation::Tanh => d.iter_mut().zip(y).for_each(|(d, &y)| *d *= 1.0 - y * y),
        Activation::Sigmoid => d.iter_mut().zip(y).for_each(|(d, &y)| *d *= y * (1.0 - y)),
        // A slope from y would divide by alpha, which may be tiny.
        Activation::ScaledTanh { alpha, beta } => set.run(TimesTanhSlope { x, d, alpha, beta }),
        other if other.slope_from_output() => {
            d.iter_mut().zip(y).for_each(|(d, &y)| *d *= derivative(other, y));
        }
        other => d.iter_mut().zip(x).for_each(|(d, &x)| *d *= slope(other, x)),
    }
}

/// `x = alpha tanh(beta x)`
struct Tanh<'a> {
    x: &'a mut [f32],
    alpha: f32,
    beta: f32,
}

impl WithSimd for Tanh<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (alpha, beta) = (simd.splat_f32s(self.alpha), simd.splat_f32s(self.beta));
        vectors!(S, self.x.len(), at => {
            let y = tanh(simd, simd.mul_f32s(beta, load(simd, &self.x[at.clone()])));
            store(simd, &mut self.x[at], simd.mul_f32s(alpha, y));
        });
    }
}

/// `x = sigmoid(x)`
struct Sigmoid<'a> {
    x: &'a mut [f32],
}

impl WithSimd for Sigmoid<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        vectors!(S, self.x.len(), at => {
            let y = sigmoid(simd, load(simd, &self.x[at.clone()]));
            store(simd, &mut self.x[at], y);
        });
    }
}

/// `d *= alpha beta (1 - tanh(beta x)^2)`
struct TimesTanhSlope<'a> {
    x: &'a [f32],
    d: &'a mut [f32],
    alpha: f32,
    beta: f32,
}

impl WithSimd for TimesTanhSlope<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (scale, beta) = (simd.splat_f32s(self.alpha * self.beta), simd.splat_f32s(self.beta));
        vectors!(S, self.d.len(), at => {
            let y = tanh(simd, simd.mul_f32s(beta, load(simd, &self.x[at.clone()])));
            let slope = mul_add(simd, simd.neg_f32s(y), y, simd.splat_f32s(1.0));
            let d = simd.mul_f32s(load(simd, &self.d[at.clone()]), simd.mul_f32s(scale, slope));
            store(simd, &mut self.d[at], d);
        });
    }
}

/// `x += a b`
pub(crate) fn add_product(set: Instructions, x: &mut [f32], a: &[f32], b: &[f32]) {
    struct AddProduct<'a>(&'a mut [f32], &'a [f32], &'a [f32]);
    impl WithSimd for AddProduct<'_> {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            let AddProduct(x, a, b) = self;
            vectors!(S, x.len(), at => {
                let (a, b) = (load(simd, &a[at.clone()]), load(simd, &b[at.clone()]));
                let sum = mul_add(simd, a, b, load(simd, &x[at.clone()]));
                store(simd, &mut x[at], sum);
            });
        }
    }
    set.run(AddProduct(x, a, b));
}

/// `x = f x' + i g`, with the roundings of the plain LSTM's cell state.
pub(crate) fn carry(set: Instructions, x: &mut [f32], f: &[f32], before: &[f32], i: &[f32], g: &[f32]) {
    struct Carry<'a>(&'a mut [f32], [&'a [f32]; 4]);
    impl WithSimd for Carry<'_> {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            let Carry(x, [f, before, i, g]) = self;
            vectors!(S, x.len(), at => {
                let (i, g) = (load(simd, &i[at.clone()]), load(simd, &g[at.clone()]));
                let (f, before) = (load(simd, &f[at.clone()]), load(simd, &before[at.clone()]));
                let sum = mul_add(simd, f, before, simd.mul_f32s(i, g));
                store(simd, &mut x[at], sum);
            });
        }
    }
    set.run(Carry(x, [f, before, i, g]));
}

/// `x = (1 - z) x + z x'`, with the roundings of the plain GRU.
pub(crate) fn mix(set: Instructions, x: &mut [f32], z: &[f32], before: &[f32]) {
    struct Mix<'a>(&'a mut [f32], &'a [f32], &'a [f32]);
    impl WithSimd for Mix<'_> {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            let Mix(x, z, before) = self;
            vectors!(S, x.len(), at => {
                let (z, before) = (load(simd, &z[at.clone()]), load(simd, &before[at.clone()]));
                let rest = simd.sub_f32s(simd.splat_f32s(1.0), z);
                let sum = mul_add(simd, rest, load(simd, &x[at.clone()]), simd.mul_f32s(z, before));
                store(simd, &mut x[at], sum);
            });
        }
    }
    set.run(Mix(x, z, before));
}

/// Whether [`times_slope`] reads `x`.
pub(crate) fn reads_argument(activation: Activation) -> bool {
    matches!(activation, Activation::ScaledTanh { .. }) || !activation.slope_from_output()
}

/// Clips each element to `+-bound`; NaN stays.
pub(crate) fn clip(bound: Option<f32>, x: &mut [f32]) {
    if let Some(bound) = bound {
        x.iter_mut().for_each(|x| *x = x.clamp(-bound, bound));
    }
}

/// Sets `d` to zero where the clipped argument `x` is at its bound.
pub(crate) fn times_clip_slope(bound: Option<f32>, x: &[f32], d: &mut [f32]) {
    if let Some(bound) = bound {
        d.iter_mut().zip(x).for_each(|(d, x)| *d = if x.abs() >= bound { 0.0 } else { *d });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::abs_diff_eq;
    use gatefold_reference::Failures;

    /// The reference's own tests prove its activations; these must agree with them, and their slopes with central
    /// differences in f64.
    #[test]
    fn slices_are_the_reference_s_functions() {
        let negative = [
            Activation::LeakyRelu { alpha: -0.3 },
            Activation::ThresholdedRelu { alpha: -0.6 },
            Activation::Elu { alpha: -0.8 },
            Activation::ScaledTanh { alpha: 0.0, beta: 0.6 },
        ];
        let x: Vec<f32> = (-40..40).map(|n| 0.1 * n as f32 + 0.037).collect();
        let mut failures = Failures::new();
        let activations = || Activation::ALL.into_iter().chain(negative);
        for (set, activation) in
            Instructions::available().into_iter().flat_map(|set| activations().map(move |one| (set, one)))
        {
            failures.check(format!("{set}, {activation}"), || {
                let mut y = x.clone();
                apply(set, activation, &mut y);
                for len in [0, 5, 32, 77] {
                    assert_eq!(applied(set, activation, &x[..len]), y[..len], "the first {len}");
                }
                let mut d = vec![1.5; x.len()];
                times_slope(set, activation, &x, &y, &mut d);
                let step = 1e-5;
                for ((&x, &y), &d) in x.iter().zip(&y).zip(&d) {
                    let exact = |x: f64| apply_one(activation, x);
                    let x = f64::from(x);
                    assert!(abs_diff_eq!(f64::from(y), exact(x), epsilon = 1e-6), "at {x}: {y}");
                    let slope = (exact(x + step) - exact(x - step)) / (2.0 * step);
                    assert!(abs_diff_eq!(f64::from(d), 1.5 * slope, epsilon = 2e-6), "at {x}: {d}, {slope}");
                }
            });
        }
        failures.finish();
    }

    /// A few roundings of each value and slope, from the smallest normal numbers on; 1e-35 is above all that is flushed.
    /// Where a slope is a small difference from its largest value, that value's roundings remain.
    #[test]
    fn errors_are_relative_near_zero_and_far_away() {
        let magnitudes = (0..=252).map(|at| 1.37 * 2f32.powi(at / 2 - 116) * [1.0, 1.23][at as usize % 2]);
        let x: Vec<f32> = magnitudes.flat_map(|x| [x, -x]).filter(|&x| x > -80.0).collect();
        let u = f64::from(f32::EPSILON) / 2.0;
        let mut failures = Failures::new();
        for set in Instructions::available() {
            for activation in
                Activation::ALL.into_iter().filter(|one| !matches!(one, Activation::Affine { .. }))
            {
                failures.check(format!("{set}, {activation}"), || {
                    let mut y = x.clone();
                    apply(set, activation, &mut y);
                    let mut d = vec![1.0; x.len()];
                    times_slope(set, activation, &x, &y, &mut d);
                    for ((&x, &y), &d) in x.iter().zip(&y).zip(&d) {
                        let exact: f64 = apply_one(activation, f64::from(x));
                        let error = (f64::from(y) - exact).abs();
                        assert!(error <= 8.0 * u * exact.abs(), "at {x:e}: {y:e}, {exact:e}");
                        let exact: f64 = slope(activation, f64::from(x));
                        let error = (f64::from(d) - exact).abs();
                        let cancels = x.abs() > 1.0 && activation != Activation::Softplus;
                        let largest = if cancels { 1.0 } else { exact.abs() };
                        assert!(error <= 12.0 * u * largest, "slope at {x:e}: {d:e}, {exact:e}");
                    }
                });
            }
        }
        failures.finish();
    }

    #[test]
    fn clipping_keeps_nan_and_stops_gradients_at_the_bound() {
        let mut x = [-3.0, -0.5, 0.2, 0.5, f32::NAN];
        clip(Some(0.5), &mut x);
        assert_eq!(x[..4], [-0.5, -0.5, 0.2, 0.5]);
        assert!(x[4].is_nan());
        let mut d = [1.0; 4];
        times_clip_slope(Some(0.5), &x[..4], &mut d);
        assert_eq!(d, [0.0, 0.0, 1.0, 0.0]);
    }
}
