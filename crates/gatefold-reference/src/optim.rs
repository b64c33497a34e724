//! Gradient norm, clipping and optimisers, over one parameter's numbers at a time.
//!
//! The equations are those of PyTorch's documentation (torch.optim.SGD, RMSprop, Adam, AdamW,
//! torch.nn.utils.clip_grad_norm_ and clip_grad_value_), with dampening 0 and without amsgrad.

use crate::Real;

/// The Euclidean norm of all tensors together: `s sqrt(sum (g / s)^2)` with `s` the largest `|g|`.
///
/// The scale keeps squares from overflowing or vanishing. The sum is in `f64`, since it may have millions of terms. If
/// an element is not finite, neither is the norm.
pub fn global_norm<'a, R: Real>(tensors: impl Iterator<Item = &'a [R]> + Clone) -> R {
    let mut largest = R::ZERO;
    for &g in tensors.clone().flatten() {
        if !g.is_finite() {
            return g.abs();
        }
        if g.abs() > largest {
            largest = g.abs();
        }
    }
    if largest == R::ZERO {
        return R::ZERO;
    }
    let scale = largest.to_f64();
    let sum: f64 = tensors.flatten().map(|&g| (g.to_f64() / scale).powi(2)).sum();
    R::from_f64(scale * sum.sqrt())
}

/// The share of one stretch of the gradient in the norm.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Partial<R> {
    /// The largest `|g|`; 0 without elements.
    pub largest: R,
    /// The sum of `(g / largest)^2`, 0 where an element is not finite.
    pub sum: R,
    /// Whether every element is finite.
    pub finite: bool,
}

/// One stretch's share of [`global_norm`]; elements that are not finite are ignored for the largest.
pub fn gradient_norm<R: Real>(gradients: impl Iterator<Item = R> + Clone) -> Partial<R> {
    let finite = gradients.clone().all(R::is_finite);
    let sizes = gradients.filter(|g| g.is_finite()).map(R::abs);
    let largest = sizes.clone().fold(R::ZERO, |largest, size| if size > largest { size } else { largest });
    let counts = finite && largest > R::ZERO;
    let sum = if counts { sizes.map(|size| (size / largest) * (size / largest)).sum() } else { R::ZERO };
    Partial { largest, sum, finite }
}

/// The norm of the whole gradient from its stretches: `M sqrt(sum of sum (largest / M)^2)` where `M` is the largest of
/// all.
pub fn finish_norm<R: Real>(partials: &[Partial<R>]) -> R {
    let bigger = |largest: R, partial: &Partial<R>| {
        if partial.largest > largest { partial.largest } else { largest }
    };
    let largest = partials.iter().fold(R::ZERO, bigger);
    if largest == R::ZERO {
        return R::ZERO;
    }
    let share = |partial: &Partial<R>| {
        let ratio = partial.largest / largest;
        partial.sum * ratio * ratio
    };
    largest * partials.iter().map(share).sum::<R>().sqrt()
}

/// The factor for every gradient that limits their norm to `clip`: `min(1, clip / (norm + 1e-6))`.
pub fn clip_factor<R: Real>(norm: R, clip: R) -> R {
    let factor = clip / (norm + R::from_f64(1e-6));
    if factor < R::ONE { factor } else { R::ONE }
}

/// An element clipped to `+-limit`; NaN stays NaN. Applied before the norm is taken.
pub fn clip_value<R: Real>(g: R, limit: R) -> R {
    if g > limit {
        limit
    } else if g < -limit {
        -limit
    } else {
        g
    }
}

/// The last element that is infinite or NaN. An update that would leave one is not made.
pub fn last_not_finite<R: Real>(values: &[R]) -> Option<usize> {
    values.iter().rposition(|value| !value.is_finite())
}

/// The exponential moving average of parameters after an update: `a = a + weight (p - a)`, where the weight is one minus
/// the decay. At the first update the weight is 1 and the average becomes a copy.
///
/// Products come before their difference, so that nothing overflows.
pub fn average<R: Real>(a: &mut [R], p: &[R], weight: R) {
    for (a, &p) in a.iter_mut().zip(p) {
        *a = if weight == R::ONE { p } else { *a + (weight * p - weight * *a) };
    }
}

/// Options of [`sgd`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sgd<R> {
    /// The momentum `mu`; 0 for none.
    pub momentum: R,
    /// Whether to look ahead along the momentum.
    pub nesterov: bool,
    /// The weight decay `lambda`, added to the gradient as `lambda p`.
    pub weight_decay: R,
}

/// Stochastic gradient descent with momentum:
///
/// ```text
/// g = g + lambda p
/// b = mu b + g                  (b starts at 0, so the first b is the first g)
/// p = p - rate (g + mu b)       with nesterov, else  p - rate b
/// ```
pub fn sgd<R: Real>(p: &mut [R], g: &[R], b: &mut [R], rate: R, options: &Sgd<R>) {
    let Sgd { momentum, nesterov, weight_decay } = *options;
    for ((p, &g), b) in p.iter_mut().zip(g).zip(b) {
        let g = g + weight_decay * *p;
        *b = momentum * *b + g;
        let direction = if nesterov { g + momentum * *b } else { *b };
        *p = *p - rate * direction;
    }
}

/// Options of [`rmsprop`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RmsProp<R> {
    /// The decay rate of the mean square.
    pub alpha: R,
    /// Added to the denominator to keep the quotient finite.
    pub epsilon: R,
    /// The momentum `mu`; 0 for none.
    pub momentum: R,
    /// Whether to divide by the standard deviation, not by the root of the mean square (Graves 2013).
    pub centered: bool,
    /// The weight decay `lambda`, added to the gradient as `lambda p`.
    pub weight_decay: R,
}

/// The moments that [`rmsprop`] keeps; all start at 0.
#[derive(Debug)]
pub struct RmsPropMoments<'a, R> {
    /// The mean square.
    pub v: &'a mut [R],
    /// The mean, only for the centred form.
    pub mean: Option<&'a mut [R]>,
    /// The momentum buffer, if there is momentum.
    pub b: Option<&'a mut [R]>,
}

/// RMSprop (Tieleman and Hinton 2012):
///
/// ```text
/// g = g + lambda p
/// v = alpha v + (1 - alpha) g^2
/// m = alpha m + (1 - alpha) g       s = sqrt(max(v - m^2, 0))  if centered, else s = sqrt(v)
/// b = mu b + g / (s + epsilon)      p = p - rate b
/// ```
///
/// PyTorch has no `max`; rounding could make `v - m^2` negative, and its root NaN.
///
/// # Panics
/// If the centred form lacks its mean.
pub fn rmsprop<R: Real>(p: &mut [R], g: &[R], moments: RmsPropMoments<R>, rate: R, options: &RmsProp<R>) {
    let RmsProp { alpha, epsilon, momentum, centered, weight_decay } = *options;
    let RmsPropMoments { v, mut mean, mut b } = moments;
    for k in 0..p.len() {
        let g = g[k] + weight_decay * p[k];
        v[k] = alpha * v[k] + (R::ONE - alpha) * g * g;
        let mut square = v[k];
        if centered {
            let mean = mean.as_deref_mut().expect("the centred form keeps the mean");
            mean[k] = alpha * mean[k] + (R::ONE - alpha) * g;
            square = square - mean[k] * mean[k];
            if square < R::ZERO {
                square = R::ZERO;
            }
        }
        let mut direction = g / (square.sqrt() + epsilon);
        if let Some(b) = b.as_deref_mut() {
            b[k] = momentum * b[k] + direction;
            direction = b[k];
        }
        p[k] = p[k] - rate * direction;
    }
}

/// Options of [`adam`] and [`adamw`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adam<R> {
    /// The decay rate of the mean.
    pub beta1: R,
    /// The decay rate of the mean square.
    pub beta2: R,
    /// Added to the denominator to keep the quotient finite.
    pub epsilon: R,
    /// The weight decay `lambda`.
    pub weight_decay: R,
}

/// Adam (Kingma and Ba 2015); `step` counts from 1, both moments start at 0:
///
/// ```text
/// g = g + lambda p
/// m = beta1 m + (1 - beta1) g       v = beta2 v + (1 - beta2) g^2
/// p = p - rate / (1 - beta1^step) m / (sqrt(v) / sqrt(1 - beta2^step) + epsilon)
/// ```
pub fn adam<R: Real>(p: &mut [R], g: &[R], m: &mut [R], v: &mut [R], rate: R, step: u64, options: &Adam<R>) {
    let update = AdamStep::new(rate, step, options);
    for (((p, &g), m), v) in p.iter_mut().zip(g).zip(m).zip(v) {
        *p = *p - update.change(g + options.weight_decay * *p, m, v);
    }
}

/// AdamW (Loshchilov and Hutter 2019): [`adam`] without `lambda p` in the gradient, after `p = p (1 - rate lambda)`.
pub fn adamw<R: Real>(p: &mut [R], g: &[R], m: &mut [R], v: &mut [R], rate: R, step: u64, options: &Adam<R>) {
    let update = AdamStep::new(rate, step, options);
    let keep = R::ONE - rate * options.weight_decay;
    for (((p, &g), m), v) in p.iter_mut().zip(g).zip(m).zip(v) {
        *p = *p * keep - update.change(g, m, v);
    }
}

/// The quantities shared by all elements of a step.
struct AdamStep<R> {
    beta1: R,
    beta2: R,
    epsilon: R,
    rate: R, // rate / (1 - beta1^step)
    root: R, // sqrt(1 - beta2^step)
}

impl<R: Real> AdamStep<R> {
    fn new(rate: R, step: u64, options: &Adam<R>) -> Self {
        // In f64: 1 - 0.999^1 keeps only four digits in f32.
        let correction = |beta: R| 1.0 - beta.to_f64().powf(step as f64);
        AdamStep {
            beta1: options.beta1,
            beta2: options.beta2,
            epsilon: options.epsilon,
            rate: R::from_f64(rate.to_f64() / correction(options.beta1)),
            root: R::from_f64(correction(options.beta2).sqrt()),
        }
    }

    #[inline]
    fn change(&self, g: R, m: &mut R, v: &mut R) -> R {
        *m = self.beta1 * *m + (R::ONE - self.beta1) * g;
        *v = self.beta2 * *v + (R::ONE - self.beta2) * g * g;
        self.rate * *m / (v.sqrt() / self.root + self.epsilon)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Failures;
    use approx::{assert_relative_eq, relative_eq};

    const RATE: f64 = 0.1;
    /// Successive gradients of a single parameter.
    const SEEN: [f64; 5] = [0.3, -1.2, 0.0, 2.5, -0.4];

    fn close(found: f64, expected: f64) {
        assert_relative_eq!(found, expected, epsilon = 1e-14, max_relative = 1e-14);
    }

    /// The parameter after each of the gradients.
    fn run(mut step: impl FnMut(&mut [f64], &[f64], u64), gradients: &[f64]) -> Vec<f64> {
        let mut p = [1.0];
        (1..)
            .zip(gradients)
            .map(|(k, &g)| {
                step(&mut p, &[g], k);
                p[0]
            })
            .collect()
    }

    #[test]
    fn sgd_without_momentum_is_a_sum() {
        let options = Sgd { momentum: 0.0, nesterov: false, weight_decay: 0.0 };
        let mut b = [0.0];
        let found = run(|p, g, _| sgd(p, g, &mut b, RATE, &options), &SEEN);
        close(found[4], 1.0 - RATE * SEEN.iter().sum::<f64>());
    }

    /// Under a constant gradient, `b_n = g (1 - mu^n) / (1 - mu)`.
    #[test]
    fn sgd_with_momentum_under_a_constant_gradient() {
        let (mu, g): (f64, f64) = (0.9, 0.7);
        let mut failures = Failures::new();
        for nesterov in [false, true] {
            failures.check(format!("nesterov {nesterov}"), || {
                let options = Sgd { momentum: mu, nesterov, weight_decay: 0.0 };
                let mut b = [0.0];
                let found = run(|p, g, _| sgd(p, g, &mut b, RATE, &options), &[g; 6]);
                let mut expected = 1.0;
                for n in 1..=6 {
                    let buffer = g * (1.0 - mu.powi(n)) / (1.0 - mu);
                    expected -= RATE * if nesterov { g + mu * buffer } else { buffer };
                    close(found[n as usize - 1], expected);
                }
            });
        }
        failures.finish();
    }

    #[test]
    fn sgd_decay_alone_shrinks_by_the_same_factor() {
        let options = Sgd { momentum: 0.0, nesterov: false, weight_decay: 0.2 };
        let found = run(|p, g, _| sgd(p, g, &mut [0.0], RATE, &options), &[0.0; 5]);
        close(found[4], (1.0f64 - RATE * 0.2).powi(5));
    }

    /// Written as sums over all gradients so far, `m_n = (1 - beta) sum_k beta^(n-k) g_k`, instead of a recursion.
    fn moment(beta: f64, gradients: &[f64], power: i32) -> f64 {
        let n = gradients.len() as i32;
        let sum: f64 = (1..).zip(gradients).map(|(k, g)| beta.powi(n - k) * g.powi(power)).sum();
        (1.0 - beta) * sum / (1.0 - beta.powi(n))
    }

    const ADAM: Adam<f64> = Adam { beta1: 0.8, beta2: 0.95, epsilon: 1e-3, weight_decay: 0.0 };

    #[test]
    fn adam_from_its_definition() {
        let (mut m, mut v) = ([0.0], [0.0]);
        let found = run(|p, g, k| adam(p, g, &mut m, &mut v, RATE, k, &ADAM), &SEEN);
        let mut expected = 1.0;
        for n in 1..=SEEN.len() {
            let (mean, square) = (moment(ADAM.beta1, &SEEN[..n], 1), moment(ADAM.beta2, &SEEN[..n], 2));
            expected -= RATE * mean / (square.sqrt() + ADAM.epsilon);
            close(found[n - 1], expected);
        }
    }

    /// The first step is `rate g / (|g| + epsilon)` whatever the betas.
    #[test]
    fn adam_adds_its_decay_to_the_gradient() {
        let options = Adam { weight_decay: 0.5, ..ADAM };
        let found = run(|p, g, k| adam(p, g, &mut [0.0], &mut [0.0], RATE, k, &options), &[0.25]);
        let g = 0.25 + 0.5;
        close(found[0], 1.0 - RATE * g / (g + ADAM.epsilon));
    }

    #[test]
    fn adamw_keeps_its_decay_apart() {
        let options = Adam { weight_decay: 0.5, ..ADAM };
        let found = run(|p, g, k| adamw(p, g, &mut [0.0], &mut [0.0], RATE, k, &options), &[0.25]);
        close(found[0], 1.0 - RATE * 0.5 - RATE * 0.25 / (0.25 + ADAM.epsilon));
        let (mut m, mut v) = ([0.0], [0.0]);
        let found = run(|p, g, k| adamw(p, g, &mut m, &mut v, RATE, k, &options), &[0.0; 5]);
        close(found[4], (1.0f64 - RATE * 0.5).powi(5));
    }

    const RMSPROP: RmsProp<f64> =
        RmsProp { alpha: 0.9, epsilon: 1e-3, momentum: 0.0, centered: false, weight_decay: 0.0 };

    /// [`moment`] without Adam's correction.
    fn running(alpha: f64, gradients: &[f64], power: i32) -> f64 {
        moment(alpha, gradients, power) * (1.0 - alpha.powi(gradients.len() as i32))
    }

    #[test]
    fn rmsprop_from_its_definition() {
        let mut failures = Failures::new();
        for (momentum, centered) in [(0.0, false), (0.8, false), (0.0, true), (0.7, true)] {
            failures.check(format!("momentum {momentum}, centred {centered}"), || {
                let options = RmsProp { momentum, centered, ..RMSPROP };
                let (mut v, mut mean, mut b) = ([0.0], [0.0], [0.0]);
                let found = run(
                    |p, g, _| {
                        let moments = RmsPropMoments {
                            v: &mut v,
                            mean: centered.then_some(&mut mean[..]),
                            b: (momentum > 0.0).then_some(&mut b[..]),
                        };
                        rmsprop(p, g, moments, RATE, &options);
                    },
                    &SEEN,
                );
                let (mut expected, mut directions) = (1.0, Vec::new());
                for n in 1..=SEEN.len() {
                    let (mean, square) =
                        (running(options.alpha, &SEEN[..n], 1), running(options.alpha, &SEEN[..n], 2));
                    let spread = if centered { square - mean * mean } else { square };
                    directions.push(SEEN[n - 1] / (spread.sqrt() + options.epsilon));
                    let past = (0..n).map(|k| momentum.powi((n - 1 - k) as i32) * directions[k]);
                    expected -= RATE * past.sum::<f64>();
                    close(found[n - 1], expected);
                }
            });
        }
        failures.finish();
    }

    /// The first step is `g / (sqrt(1 - alpha) |g| + epsilon)`.
    #[test]
    fn rmsprop_adds_its_decay_to_the_gradient() {
        let options = RmsProp { weight_decay: 0.5, ..RMSPROP };
        let step = |p: &mut [f64], g: &[f64], _| {
            rmsprop(p, g, RmsPropMoments { v: &mut [0.0], mean: None, b: None }, RATE, &options);
        };
        let found = run(step, &[0.25]);
        let g = 0.25 + 0.5;
        close(found[0], 1.0 - RATE * g / (0.1f64.sqrt() * g + RMSPROP.epsilon));
    }

    /// Constant gradients have no variance; if rounding makes it negative, its root must not be NaN.
    #[test]
    fn a_constant_gradient_stays_finite_when_centred() {
        let options =
            RmsProp { alpha: 0.9f32, epsilon: 1e-3, momentum: 0.0, centered: true, weight_decay: 0.0 };
        let g: Vec<f32> = (1..100).map(|k| k as f32 / 100.0).collect();
        let (mut p, mut v, mut mean) = (vec![1.0; 99], vec![0.0; 99], vec![0.0; 99]);
        let mut negative = false;
        for _ in 0..500 {
            let moments = RmsPropMoments { v: &mut v, mean: Some(&mut mean), b: None };
            rmsprop(&mut p, &g, moments, 1e-6, &options);
            negative |= v.iter().zip(&mean).any(|(v, mean)| v - mean * mean < 0.0);
        }
        assert!(negative, "rounding goes below zero in some of them");
        assert!(p.iter().all(|p| p.is_finite()), "{p:?}");
    }

    #[test]
    fn the_last_element_that_is_not_finite() {
        assert_eq!(last_not_finite(&[1.0, f64::MAX, -f64::MAX]), None);
        assert_eq!(last_not_finite(&[0.0, f64::NEG_INFINITY, 1.0]), Some(1));
        assert_eq!(last_not_finite(&[f64::NAN, f64::INFINITY, f64::NAN]), Some(2));
        assert_eq!(last_not_finite::<f32>(&[]), None);
    }

    #[test]
    fn values_are_held_within_the_limit() {
        let found: Vec<f64> = [-3.0, -0.5, 0.0, 0.5, 0.7].into_iter().map(|g| clip_value(g, 0.5)).collect();
        assert_eq!(found, [-0.5, -0.5, 0.0, 0.5, 0.5]);
        assert!(clip_value(f64::NAN, 0.5).is_nan());
    }

    #[test]
    fn the_norm_neither_overflows_nor_vanishes() {
        let mut failures = Failures::new();
        for scale in [1e30f32, 1.0, 1e-30] {
            failures.check(scale.to_string(), || {
                let tensors = [vec![3.0 * scale], vec![0.0, -4.0 * scale]];
                let norm = global_norm(tensors.iter().map(Vec::as_slice));
                assert!(relative_eq!(norm, 5.0 * scale, epsilon = 0.0, max_relative = 1e-6), "{norm}");
            });
        }
        failures.finish();
        assert_eq!(global_norm([[0.0f32; 3].as_slice()].into_iter()), 0.0);
        assert_eq!(global_norm(std::iter::empty::<&[f32]>()), 0.0);
        assert!(global_norm([[1.0, f32::NAN].as_slice()].into_iter()).is_nan());
        assert_eq!(global_norm([[1.0, -f32::INFINITY].as_slice()].into_iter()), f32::INFINITY);
    }

    #[test]
    fn stretches_make_up_the_norm() {
        let gradient = [3e-200, 0.0, -4e-200, 1e-201, 0.0, 0.0];
        let partials: Vec<_> = gradient.chunks(2).map(|part| gradient_norm(part.iter().copied())).collect();
        let expected: f64 = global_norm([gradient.as_slice()].into_iter());
        assert_relative_eq!(finish_norm(&partials), expected, epsilon = 0.0, max_relative = 1e-14);
        let broken = gradient_norm([1.0, f64::NAN, -2.0].into_iter());
        assert_eq!(broken, Partial { largest: 2.0, sum: 0.0, finite: false });
    }

    #[test]
    fn clipping_shortens_and_never_lengthens() {
        assert_eq!(clip_factor(0.5, 1.0), 1.0);
        close(clip_factor(4.0, 1.0), 1.0 / (4.0 + 1e-6));
        assert_eq!(clip_factor(0.0, 1.0), 1.0);
    }
}
