//! The weighted mean of several methods.

/// Weights are so many parts of a whole.
const PARTS: usize = 20;
/// Groups of values, each judged with weights from all others.
const FOLDS: usize = 5;

/// The weights, at least 0 and with a sum of 1, whose mean of the methods has the least mean absolute error, found among all
/// in steps of a twentieth; `errors` has a row for each value and the signed error of each method in it. Equal weights
/// without a row.
pub(super) fn weights<const N: usize>(errors: &[[f64; N]]) -> [f64; N] {
    let mut best = ([1.0 / N as f64; N], f64::INFINITY);
    if !errors.is_empty() {
        each(&mut [0; N], 0, PARTS, &mut |parts| {
            let weights = parts.map(|part| part as f64 / PARTS as f64);
            let error = errors.iter().map(|row| combined(row, &weights).abs()).sum::<f64>();
            if error < best.1 {
                best = (weights, error);
            }
        });
    }
    best.0
}

/// The errors of the mean whose weights come from the other values: what new values may expect.
pub(super) fn out_of_fold<const N: usize>(errors: &[[f64; N]]) -> Vec<f64> {
    let bound = |fold: usize| fold * errors.len() / FOLDS;
    let mut found = Vec::with_capacity(errors.len());
    for fold in 0..FOLDS {
        let (from, to) = (bound(fold), bound(fold + 1));
        let weights = weights(&[&errors[..from], &errors[to..]].concat());
        found.extend(errors[from..to].iter().map(|row| combined(row, &weights)));
    }
    found
}

/// `w . x`
pub(super) fn combined<const N: usize>(values: &[f64; N], weights: &[f64; N]) -> f64 {
    values
        .iter()
        .zip(weights)
        .filter(|(_, weight)| **weight > 0.0)
        .map(|(value, weight)| value * weight)
        .sum()
}

/// Gives all ways to divide `left` parts among the methods from number `at` on.
fn each<const N: usize>(parts: &mut [usize; N], at: usize, left: usize, give: &mut impl FnMut(&[usize; N])) {
    if at + 1 == N {
        parts[at] = left;
        give(parts);
        return;
    }
    for part in 0..=left {
        parts[at] = part;
        each(parts, at + 1, left - part, give);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(at: usize) -> f64 {
        ((at * at * 7919 + at * 104_729) % 2000) as f64 / 1000.0 - 1.0
    }

    #[test]
    fn errors_that_cancel_are_found() {
        // The second is a third of the first with the opposite sign: one part of the first for three of the second.
        let errors: Vec<[f64; 3]> =
            (0..50).map(|at| [3.0 * noise(at), -noise(at), 5.0 + noise(3 * at)]).collect();
        assert_eq!(weights(&errors), [0.25, 0.75, 0.0]);
        assert!(out_of_fold(&errors).iter().all(|error| error.abs() < 1e-12));
        assert_eq!(weights::<2>(&[]), [0.5; 2]);
        let mut count = 0;
        each(&mut [0; 3], 0, PARTS, &mut |parts| {
            assert_eq!(parts.iter().sum::<usize>(), PARTS);
            count += 1;
        });
        assert_eq!(count, 22 * 21 / 2);
    }

    #[test]
    fn a_value_has_no_part_in_the_weights_that_judge_it() {
        let errors: Vec<[f64; 2]> = (0..20).map(|at| [noise(at), noise(7 * at + 3)]).collect();
        let before = out_of_fold(&errors);
        assert_eq!(before.len(), errors.len());
        let mut changed = errors.clone();
        changed[0] = [100.0, -300.0]; // would be cancelled by weights of 0.75 and 0.25
        let after = out_of_fold(&changed);
        let share = combined(&errors[1], &weights(&errors[4..]));
        assert_eq!((before[1], after[1]), (share, share), "the other values of its fold");
        assert!(after[0].abs() > 1.0);
        // A method that has no weight may be anything.
        assert_eq!(combined(&[1.0, f64::NAN], &[1.0, 0.0]), 1.0);
    }
}
