//! Minimisation of functions of a few parameters. A value that is not finite marks a place outside the domain.

/// Minimises a function by the simplex method of Nelder and Mead (1965), "A simplex method for function minimization",
/// from `start` with a first simplex of edges `step`. Needs no derivative and passes over shallow dips, but is slow
/// with more than about five parameters. Returns the best place after `evaluations` or when the simplex has shrunk.
pub(crate) fn nelder_mead(
    f: &mut dyn FnMut(&[f64]) -> f64,
    start: &[f64],
    step: f64,
    evaluations: usize,
) -> Vec<f64> {
    let n = start.len();
    let mut value = |x: &[f64]| finite(f(x));
    let mut simplex: Vec<(Vec<f64>, f64)> = (0..=n)
        .map(|corner| {
            let mut x = start.to_vec();
            if corner > 0 {
                x[corner - 1] += step;
            }
            let at = value(&x);
            (x, at)
        })
        .collect();
    let mut spent = n + 1;
    loop {
        simplex.sort_by(|a, b| a.1.total_cmp(&b.1));
        let size = (1..=n).flat_map(|k| (0..n).map(move |i| (k, i)));
        let size = size.map(|(k, i)| (simplex[k].0[i] - simplex[0].0[i]).abs()).fold(0.0, f64::max);
        let flat = simplex[n].1 - simplex[0].1 <= 1e-10 * (1.0 + simplex[0].1.abs());
        if spent >= evaluations || size < 1e-7 || (flat && size < 1e-3) {
            return simplex.swap_remove(0).0;
        }
        let centre: Vec<f64> =
            (0..n).map(|i| simplex[..n].iter().map(|corner| corner.0[i]).sum::<f64>() / n as f64).collect();
        let worst = simplex[n].clone();
        let along = |factor: f64| -> Vec<f64> {
            centre.iter().zip(&worst.0).map(|(centre, worst)| centre + factor * (worst - centre)).collect()
        };
        let mut attempt = |factor: f64| {
            let x = along(factor);
            let at = value(&x);
            spent += 1;
            (x, at)
        };
        let reflected = attempt(-1.0);
        let accepted = if reflected.1 < simplex[0].1 {
            let expanded = attempt(-2.0);
            Some(if expanded.1 < reflected.1 { expanded } else { reflected })
        } else if reflected.1 < simplex[n - 1].1 {
            Some(reflected)
        } else {
            let contracted = attempt(if reflected.1 < worst.1 { -0.5 } else { 0.5 });
            (contracted.1 < worst.1.min(reflected.1)).then_some(contracted)
        };
        if let Some(corner) = accepted {
            simplex[n] = corner;
            continue;
        }
        let best = simplex[0].0.clone();
        for corner in &mut simplex[1..] {
            corner.0.iter_mut().zip(&best).for_each(|(x, best)| *x = best + 0.5 * (*x - best));
            corner.1 = value(&corner.0);
            spent += 1;
        }
    }
}

/// Minimises a smooth function by the quasi-Newton method of Broyden, Fletcher, Goldfarb and Shanno (Nocedal and Wright,
/// "Numerical optimization", algorithm 6.1), with central differences for the gradient. Each iteration evaluates the
/// function about `2 n` times. Stops when an iteration gains less than `1e-9` of the value.
pub(crate) fn bfgs(f: &mut dyn FnMut(&[f64]) -> f64, start: &[f64], iterations: usize) -> Vec<f64> {
    let n = start.len();
    let mut x = start.to_vec();
    let mut at = finite(f(&x));
    let mut slope = gradient(f, &mut x, at);
    let mut inverse = identity(n); // of the Hessian
    let mut fresh = true;
    for _ in 0..iterations {
        let mut direction: Vec<f64> = inverse.iter().map(|row| -dot(row, &slope)).collect();
        let mut descent = dot(&direction, &slope);
        if descent >= 0.0 {
            inverse = identity(n);
            fresh = true;
            direction = slope.iter().map(|slope| -slope).collect();
            descent = dot(&direction, &slope);
        }
        // The first step of a fresh approximation has no scale; parameters are of the order of 1.
        let length = dot(&direction, &direction).sqrt();
        let mut step = if fresh { 0.5 / length.max(0.5) } else { 2.0 / length.max(2.0) };
        if !length.is_finite() {
            return x; // the start lies outside the domain
        }
        let mut next: Vec<f64>;
        let after = loop {
            next = x.iter().zip(&direction).map(|(x, d)| x + step * d).collect();
            let after = finite(f(&next));
            if after <= at + 1e-4 * step * descent || step * length < 1e-9 {
                break after;
            }
            step *= 0.4;
        };
        if after >= at {
            if fresh {
                return x;
            }
            (inverse, fresh) = (identity(n), true);
            continue;
        }
        let next_slope = gradient(f, &mut next, after);
        let moved: Vec<f64> = next.iter().zip(&x).map(|(next, x)| next - x).collect();
        let bent: Vec<f64> = next_slope.iter().zip(&slope).map(|(next, slope)| next - slope).collect();
        let curvature = dot(&moved, &bent);
        if curvature > 1e-12 * dot(&bent, &bent).sqrt() * dot(&moved, &moved).sqrt() {
            if fresh {
                let scale = curvature / dot(&bent, &bent);
                (0..n).for_each(|i| inverse[i][i] = scale);
            }
            update(&mut inverse, &moved, &bent, curvature);
            fresh = false;
        }
        let gained = at - after;
        (x, at, slope) = (next, after, next_slope);
        if gained <= 1e-9 * (1.0 + at.abs()) {
            return x;
        }
    }
    x
}

/// `H <- (I - s y' / c) H (I - y s' / c) + s s' / c`, with `c = s' y`.
fn update(inverse: &mut [Vec<f64>], moved: &[f64], bent: &[f64], curvature: f64) {
    let through: Vec<f64> = inverse.iter().map(|row| dot(row, bent)).collect();
    let both = (1.0 + dot(bent, &through) / curvature) / curvature;
    for (i, row) in inverse.iter_mut().enumerate() {
        for (j, value) in row.iter_mut().enumerate() {
            *value +=
                both * moved[i] * moved[j] - (through[i] * moved[j] + moved[i] * through[j]) / curvature;
        }
    }
}

fn gradient(f: &mut dyn FnMut(&[f64]) -> f64, x: &mut [f64], at: f64) -> Vec<f64> {
    (0..x.len())
        .map(|i| {
            let (kept, step) = (x[i], 6e-6 * x[i].abs().max(1.0)); // the cube root of the rounding unit
            x[i] = kept + step;
            let above = f(x);
            x[i] = kept - step;
            let below = f(x);
            x[i] = kept;
            match (above.is_finite(), below.is_finite()) {
                (true, true) => (above - below) / (2.0 * step),
                (true, false) => (above - at) / step,
                (false, true) => (at - below) / step,
                (false, false) => 0.0,
            }
        })
        .collect()
}

/// Leaves a value that can be compared: the largest number for every value that is not one.
fn finite(value: f64) -> f64 {
    if value.is_finite() { value } else { f64::MAX }
}

fn identity(n: usize) -> Vec<Vec<f64>> {
    (0..n).map(|i| (0..n).map(|j| f64::from(u8::from(i == j))).collect()).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rosenbrock's valley, with its minimum 0 at (1, 1); undefined left of -2.
    fn valley(x: &[f64]) -> f64 {
        if x[0] < -2.0 { f64::NAN } else { 100.0 * (x[1] - x[0] * x[0]).powi(2) + (1.0 - x[0]).powi(2) }
    }

    #[test]
    fn both_find_the_end_of_a_valley() {
        for x in [nelder_mead(&mut valley, &[-1.9, 2.0], 0.5, 1000), bfgs(&mut valley, &[-1.9, 2.0], 200)] {
            assert!((x[0] - 1.0).abs() < 1e-3 && (x[1] - 1.0).abs() < 1e-3, "{x:?}");
        }
    }

    #[test]
    fn a_stretched_bowl_of_twenty_parameters_is_minimised() {
        let mut bowl = |x: &[f64]| -> f64 {
            x.iter()
                .enumerate()
                .map(|(i, x)| (1.0 + i as f64).powi(2) * (x - 1.0 / (1.0 + i as f64)).powi(2))
                .sum()
        };
        let x = bfgs(&mut bowl, &[0.0; 20], 100);
        assert!(x.iter().enumerate().all(|(i, x)| (x - 1.0 / (1.0 + i as f64)).abs() < 1e-4), "{x:?}");
    }

    #[test]
    fn a_start_outside_the_domain_or_on_a_plain_ends() {
        let wall = |x: &[f64]| if x[0] > 1.0 { 3.0 - x[1] } else { f64::INFINITY };
        assert_eq!(bfgs(&mut { wall }, &[1.0, 2.0], 100), [1.0, 2.0]);
        for mut f in [|_: &[f64]| f64::NAN, |_: &[f64]| 3.0] {
            assert!(nelder_mead(&mut f, &[1.0, 2.0], 0.5, 100).iter().all(|x| x.is_finite()));
            assert_eq!(bfgs(&mut f, &[1.0, 2.0], 100), [1.0, 2.0]);
        }
    }
}
