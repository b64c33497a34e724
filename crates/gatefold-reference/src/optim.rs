//! Gradient norm, clipping and optimisers, over one parameter's numbers at a time.
//!
//! The equations are those of PyTorch's documentation (torch.optim.SGD, Adam, AdamW and
//! torch.nn.utils.clip_grad_norm_), with dampening 0 and without amsgrad.

use crate::Real;

/// The Euclidean norm of all tensors together: `s sqrt(sum (g / s)^2)` with `s` the largest `|g|`.
///
/// The scale keeps squares from overflowing or vanishing. The sum is kept in `f64`, for it may have millions of
/// terms. Where an element is not finite, the norm is not either.
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

/// What every gradient is multiplied by so that their norm is at most `clip`: `min(1, clip / (norm + 1e-6))`.
pub fn clip_factor<R: Real>(norm: R, clip: R) -> R {
    let factor = clip / (norm + R::from_f64(1e-6));
    if factor < R::ONE { factor } else { R::ONE }
}

/// Options of [`sgd`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sgd<R> {
    /// `mu`; 0 for none.
    pub momentum: R,
    /// Whether to look ahead along the momentum.
    pub nesterov: bool,
    /// `lambda`, added to the gradient as `lambda p`.
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

/// Options of [`adam`] and [`adamw`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adam<R> {
    /// How much of the mean stays.
    pub beta1: R,
    /// How much of the mean square stays.
    pub beta2: R,
    /// Keeps the quotient finite.
    pub epsilon: R,
    /// `lambda`
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

/// What is the same for every element of a step.
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
