//! The comparator: results of the GPU against those of the reference.

use std::fmt;

/// The rounding of one operation in `f32`.
const U: f64 = 1.0 / (1u64 << 24) as f64;
/// Intermediate results and results below the smallest normal number may be flushed to zero.
const FLUSHED: f64 = 2.0 * f32::MIN_POSITIVE as f64;

/// The error that is allowed: `abs + rel scale + own |element|`, with `scale` the largest magnitude in the reference's
/// tensor.
///
/// docs/numerics.md derives the rule. `terms` is the length of the sums that an element went through.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerance {
    abs: f64,
    rel: f64,
    own: f64,
}

impl Tolerance {
    /// The same bits, except for the sign of zero.
    pub const EXACT: Tolerance = Tolerance { abs: 0.0, rel: 0.0, own: 0.0 };

    /// Sums, products and steps of optimisers, which call no exponential: `rel = 4 u sqrt(terms)`.
    pub fn product(terms: usize) -> Tolerance {
        Tolerance { rel: 4.0 * U * (terms as f64).sqrt(), ..Tolerance::EXACT }
    }

    /// Results of gates and activations, which are near 1 where their functions err: `abs = 16 u` on top.
    pub fn output(terms: usize) -> Tolerance {
        Tolerance { abs: 16.0 * U, ..Tolerance::product(terms) }
    }

    /// Gradients through gates and activations: `16 u` of the scale on top.
    pub fn gradient(terms: usize) -> Tolerance {
        Tolerance { rel: Tolerance::product(terms).rel + 16.0 * U, ..Tolerance::EXACT }
    }

    /// A function alone, or its slope: `20 u` of each element, and `roundings` of a term as large as `largest`.
    pub fn function(roundings: u32, largest: f32) -> Tolerance {
        let abs = f64::from(roundings) * U * f64::from(largest.abs());
        Tolerance { abs: abs + FLUSHED, rel: 0.0, own: 20.0 * U }
    }

    /// The tolerance for `errors` errors of this kind added up.
    pub fn times(self, errors: usize) -> Tolerance {
        let errors = errors as f64;
        Tolerance { abs: errors * self.abs, rel: errors * self.rel, own: errors * self.own }
    }

    fn allowed(&self, scale: f64, element: f64) -> f64 {
        // Numbers below the smallest normal one may be flushed to zero.
        (self.abs + self.rel * scale + self.own * element.abs()).max(f64::from(f32::MIN_POSITIVE))
    }
}

/// The result of comparing two tensors.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// Elements compared.
    pub len: usize,
    /// Elements out of tolerance.
    pub outside: usize,
    /// The worst error as a share of the allowed one; infinite if an element is not finite.
    pub share: f64,
    /// The place of the worst error, such as `row 16, unit 3`.
    pub place: String,
    /// The GPU's value there.
    pub gpu: f32,
    /// The reference's value there.
    pub reference: f64,
}

impl Comparison {
    /// Whether every element is within its tolerance.
    pub fn passed(&self) -> bool {
        self.outside == 0
    }
}

/// `3 of 1088 elements out of tolerance; worst at row 16, unit 3: gpu 0.4127, reference 0.41299, 9.7 of the tolerance`
impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Comparison { len, outside, share, place, gpu, reference } = self;
        write!(
            f,
            "{outside} of {len} elements out of tolerance; worst at {place}: gpu {gpu:e}, reference {reference:e}, \
             {share:.2} of the tolerance"
        )
    }
}

/// Compares element by element. `axes` names the axes of both, row-major, with their lengths.
///
/// # Panics
/// If the lengths are not those of the axes, or if there is nothing to compare: a test that compares nothing is broken.
pub fn compare(axes: &[(&str, usize)], gpu: &[f32], reference: &[f64], tolerance: Tolerance) -> Comparison {
    let len: usize = axes.iter().map(|(_, len)| len).product();
    assert_eq!((gpu.len(), reference.len()), (len, len), "gpu and reference have the elements of {axes:?}");
    assert!(len > 0 && !axes.is_empty(), "there is something to compare");
    let scale = reference.iter().fold(0.0, |largest: f64, value| largest.max(value.abs()));
    let share = |at: usize| {
        let allowed = tolerance.allowed(scale, reference[at]);
        let error = (f64::from(gpu[at]) - reference[at]).abs();
        // A reference that is not finite makes `allowed` infinite, and could judge nothing.
        if error.is_finite() && allowed.is_finite() { error / allowed } else { f64::INFINITY }
    };
    let worst = (0..len).fold(0, |worst, at| if share(at) > share(worst) { at } else { worst });
    Comparison {
        len,
        outside: (0..len).filter(|&at| share(at) > 1.0).count(),
        share: share(worst),
        place: place(axes, worst),
        gpu: gpu[worst],
        reference: reference[worst],
    }
}

fn place(axes: &[(&str, usize)], at: usize) -> String {
    let mut rest = at;
    let mut parts: Vec<String> = axes
        .iter()
        .rev()
        .map(|(name, len)| {
            let index = rest % len;
            rest /= len;
            format!("{name} {index}")
        })
        .collect();
    parts.reverse();
    parts.join(", ")
}

/// [`compare`], for tests.
///
/// # Panics
/// If an element is out of tolerance; says the tensor's name, the number of such elements, and the place of the worst.
#[track_caller]
pub fn assert_close(
    name: &str,
    axes: &[(&str, usize)],
    gpu: &[f32],
    reference: &[f64],
    tolerance: Tolerance,
) {
    let comparison = compare(axes, gpu, reference, tolerance);
    assert!(comparison.passed(), "{name}: {comparison}");
}

#[cfg(test)]
mod tests {
    use super::*;

    const AXES: [(&str, usize); 2] = [("row", 2), ("unit", 3)];

    #[test]
    fn equal_tensors_pass() {
        let reference = [0.5, -1.0, 0.25, 0.0, 2.0, 3.0];
        let gpu = reference.map(|value| value as f32);
        for tolerance in [Tolerance::EXACT, Tolerance::product(1), Tolerance::gradient(9)] {
            assert_close("h", &AXES, &gpu, &reference, tolerance);
        }
    }

    #[test]
    #[should_panic(expected = "h: 1 of 6 elements out of tolerance; worst at row 1, unit 2: gpu 5.01")]
    fn one_wrong_element_is_found() {
        let (mut gpu, reference) = ([0.5; 6], [0.5; 6]);
        gpu[5] += 1e-3;
        assert_close("h", &AXES, &gpu, &reference, Tolerance::output(6));
    }

    #[test]
    #[should_panic(expected = "3 of 6 elements out of tolerance; worst at row 0, unit 1")]
    fn the_worst_of_several_is_named() {
        let (mut gpu, reference) = ([0.5; 6], [0.5; 6]);
        (gpu[0], gpu[1], gpu[4]) = (0.51, 0.0, 0.49);
        assert_close("h", &AXES, &gpu, &reference, Tolerance::output(6));
    }

    #[test]
    fn what_is_not_finite_fails_on_either_side() {
        for bad in [f64::NAN, f64::INFINITY] {
            let (mut gpu, reference) = ([0.5; 6], [0.5; 6]);
            gpu[2] = bad as f32;
            let found = compare(&AXES, &gpu, &reference, Tolerance::output(6));
            assert_eq!((found.outside, found.place.as_str()), (1, "row 0, unit 2"));
            let mut reference = [0.5; 6];
            reference[2] = bad;
            assert!(!compare(&AXES, &gpu, &reference, Tolerance::output(6)).passed(), "{bad}");
            assert!(!compare(&AXES, &[0.5; 6], &reference, Tolerance::output(6)).passed(), "{bad}");
        }
    }

    #[test]
    #[should_panic(expected = "there is something to compare")]
    fn nothing_compared_fails() {
        assert_close("h", &[("row", 0), ("unit", 3)], &[], &[], Tolerance::output(6));
    }

    #[test]
    #[should_panic(expected = "have the elements of")]
    fn a_missing_element_fails() {
        assert_close("h", &AXES, &[0.5; 5], &[0.5; 6], Tolerance::output(6));
    }

    /// Each tolerance admits the error that it says and not a tenth more.
    #[test]
    fn tolerances_are_those_of_the_rule() {
        let share = |error: f64, tolerance| {
            let scale = 8.0;
            compare(&[("k", 2)], &[scale as f32, error as f32], &[scale, 0.0], tolerance).share
        };
        let u = 2f64.powi(-24);
        for (tolerance, allowed) in [
            (Tolerance::product(25), 20.0 * u * 8.0),
            (Tolerance::output(25), 20.0 * u * 8.0 + 16.0 * u),
            (Tolerance::gradient(25), 36.0 * u * 8.0),
            (Tolerance::output(25).times(3), 3.0 * (20.0 * u * 8.0 + 16.0 * u)),
            (Tolerance::EXACT, f64::from(f32::MIN_POSITIVE)),
        ] {
            assert!((share(allowed, tolerance) - 1.0).abs() < 1e-6, "{tolerance:?}");
            assert!(share(1.1 * allowed, tolerance) > 1.0, "{tolerance:?}");
        }
    }

    /// A function's error is a share of each element, and of the one term that may cancel.
    #[test]
    fn errors_of_functions_are_relative_to_each_element() {
        let u = 2f64.powi(-24);
        for (element, tolerance, allowed) in [
            (1.0, Tolerance::function(0, 0.0), 20.0 * u),
            (2f64.powi(-60), Tolerance::function(0, 0.0), 20.0 * u * 2f64.powi(-60)),
            (0.0, Tolerance::function(4, -0.5), 2.0 * u),
        ] {
            let share = |error: f64| {
                compare(&[("k", 2)], &[8.0, (element + error) as f32], &[8.0, element], tolerance).share
            };
            assert!(share(0.9 * allowed) <= 1.0 && share(1.1 * allowed) > 1.0, "{element}");
        }
    }

    #[test]
    fn a_tensor_of_zeros_admits_no_error() {
        assert!(compare(&AXES, &[0.0; 6], &[0.0; 6], Tolerance::product(9)).passed());
        assert!(!compare(&AXES, &[1e-30; 6], &[0.0; 6], Tolerance::product(9)).passed());
    }
}
