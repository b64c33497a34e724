//! Gaps of a series: found, drawn, and bridged by straight lines.

use rand::RngExt;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

/// The lengths of the runs of NaN.
pub(crate) fn lengths(values: &[f64]) -> Vec<usize> {
    let runs = values.chunk_by(|a, b| a.is_nan() == b.is_nan());
    runs.filter(|run| run[0].is_nan()).map(<[f64]>::len).collect()
}

/// The places of the values that are known.
pub(crate) fn known(values: &[f64]) -> Vec<usize> {
    (0..values.len()).filter(|at| !values[*at].is_nan()).collect()
}

/// The values without those at some places.
pub(crate) fn without(values: &[f64], places: &[usize]) -> Vec<f64> {
    let mut left = values.to_vec();
    places.iter().for_each(|at| left[*at] = f64::NAN);
    left
}

/// Draws single places among the known values.
pub(crate) fn draw_points(values: &[f64], count: usize, random: &mut ChaCha8Rng) -> Vec<usize> {
    let mut places = known(values);
    places.shuffle(random);
    places.truncate(count);
    places.sort_unstable();
    places
}

/// Draws blocks of known values, of lengths from `lengths`, until there are about `count` places; a block ends early where
/// a value is missing. Blocks do not touch each other.
pub(crate) fn draw_blocks(
    values: &[f64],
    lengths: &[usize],
    count: usize,
    random: &mut ChaCha8Rng,
) -> Vec<usize> {
    let mut free: Vec<bool> = values.iter().map(|value| !value.is_nan()).collect();
    let mut drawn = Vec::new();
    for _ in 0..20 * count {
        if drawn.len() >= count || lengths.is_empty() {
            break;
        }
        let wanted = lengths[random.random_range(0..lengths.len())].min(count - drawn.len());
        let begin = random.random_range(0..values.len());
        let len = free[begin..].iter().take(wanted).take_while(|free| **free).count();
        let end = begin + len;
        if len == 0 || (begin > 0 && drawn.contains(&(begin - 1))) || drawn.contains(&end) {
            continue;
        }
        free[begin..end].fill(false);
        drawn.extend(begin..end);
    }
    drawn.sort_unstable();
    drawn
}

/// Straight lines between known values; the first and the last known one beyond them. NaN without any.
pub(crate) fn interpolated(values: &[f64]) -> Vec<f64> {
    let places = known(values);
    let mut lines = values.to_vec();
    let (Some(first), Some(last)) = (places.first(), places.last()) else { return lines };
    lines[..*first].fill(values[*first]);
    lines[last + 1..].fill(values[*last]);
    for pair in places.windows(2) {
        let step = (values[pair[1]] - values[pair[0]]) / (pair[1] - pair[0]) as f64;
        for at in pair[0] + 1..pair[1] {
            lines[at] = values[pair[0]] + step * (at - pair[0]) as f64;
        }
    }
    lines
}

/// Steps from each place to the nearest known value before it and after it; `values.len()` where there is none.
pub(crate) fn distances(values: &[f64]) -> Vec<(usize, usize)> {
    let n = values.len();
    let mut found = vec![(n, n); n];
    let mut count = n;
    for at in 0..n {
        count = if values[at].is_nan() { (count + 1).min(n) } else { 0 };
        found[at].0 = count;
    }
    count = n;
    for at in (0..n).rev() {
        count = if values[at].is_nan() { (count + 1).min(n) } else { 0 };
        found[at].1 = count;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::rand_core::SeedableRng;

    const N: f64 = f64::NAN;

    #[test]
    fn lines_join_known_values() {
        let values = [N, 2.0, N, N, 5.0, 4.0, N];
        assert_eq!(interpolated(&values), [2.0, 2.0, 3.0, 4.0, 5.0, 4.0, 4.0]);
        assert_eq!(lengths(&values), [1, 2, 1]);
        assert_eq!(distances(&values), [(7, 1), (0, 0), (1, 2), (2, 1), (0, 0), (0, 0), (1, 7)]);
    }

    #[test]
    fn blocks_have_the_lengths_asked_for_and_hit_known_values_alone() {
        let mut values: Vec<f64> = (0..500).map(f64::from).collect();
        values[100..140].fill(N);
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let drawn = draw_blocks(&values, &[4], 60, &mut random);
        assert_eq!(drawn.len(), 60);
        assert!(drawn.iter().all(|at| !values[*at].is_nan()));
        let left = without(&values, &drawn);
        let blocks: Vec<usize> = lengths(&left).into_iter().filter(|len| *len < 40).collect();
        assert!(blocks.iter().filter(|len| **len == 4).count() >= 12, "{blocks:?}");
        assert!(blocks.iter().all(|len| *len <= 4), "{blocks:?}");
        let points = draw_points(&values, 30, &mut random);
        assert_eq!(points.len(), 30);
        assert!(
            points.windows(2).all(|pair| pair[0] < pair[1]) && points.iter().all(|at| !values[*at].is_nan())
        );
    }
}
