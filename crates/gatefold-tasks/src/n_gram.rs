//! Models of n-grams, the baseline of a network that writes text.

use std::collections::{BTreeMap, HashMap};

/// A model of n-grams, smoothed as in Witten and Bell 1991: if a context was followed by `total` units of `kinds` kinds, the
/// context that is one unit shorter counts `kinds` times.
#[derive(Clone, Debug)]
pub struct NGrams<'a> {
    order: usize,
    symbols: usize,
    contexts: HashMap<&'a [u32], Followers>,
}

#[derive(Clone, Debug, Default)]
struct Followers {
    total: f64,
    counts: BTreeMap<u32, f64>,
}

impl<'a> NGrams<'a> {
    /// Counts the n-grams of up to `order` units in a text of tokens below `symbols`.
    pub fn new(order: usize, symbols: usize, text: &'a [u32]) -> Self {
        let mut contexts: HashMap<&[u32], Followers> = HashMap::new();
        for at in 0..text.len() {
            for context in 0..order.min(at + 1) {
                let followers = contexts.entry(&text[at - context..at]).or_default();
                followers.total += 1.0;
                *followers.counts.entry(text[at]).or_default() += 1.0;
            }
        }
        NGrams { order, symbols, contexts }
    }

    /// The probability of a token after those before it.
    pub fn probability(&self, before: &[u32], token: u32) -> f64 {
        let longest = self.order.min(before.len() + 1);
        (0..longest).fold(1.0 / self.symbols as f64, |shorter, context| {
            let Some(followers) = self.contexts.get(&before[before.len() - context..]) else {
                return shorter;
            };
            let (kinds, count) = (followers.counts.len() as f64, followers.counts.get(&token));
            (count.unwrap_or(&0.0) + kinds * shorter) / (followers.total + kinds)
        })
    }

    /// The mean bits for a token of `test`, which follows `before`.
    pub fn bits(&self, before: &[u32], test: &[u32]) -> f64 {
        let reach = before.len().saturating_sub(self.order);
        let text = [&before[reach..], test].concat();
        let first = text.len() - test.len();
        let bits = (first..text.len()).map(|at| -self.probability(&text[..at], text[at]).log2());
        bits.sum::<f64>() / test.len() as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_relative_eq;

    const TEXT: [u32; 9] = [0, 1, 0, 2, 0, 1, 1, 0, 1];

    #[test]
    fn probabilities_add_up_to_one_after_any_context() {
        let model = NGrams::new(3, 4, &TEXT);
        for before in [&[][..], &[0], &[1, 0], &[3, 3], &[2, 2, 0, 1]] {
            let sum: f64 = (0..4).map(|token| model.probability(before, token)).sum();
            assert_relative_eq!(sum, 1.0, max_relative = 1e-12);
            assert!((0..4).all(|token| model.probability(before, token) > 0.0), "{before:?}");
        }
    }

    #[test]
    fn a_bigram_by_hand() {
        // Of nine tokens of three kinds, four are 0; the uniform share of 4 symbols is a quarter.
        let of_one = (4.0 + 3.0 / 4.0) / 12.0;
        // Three tokens follow a 1, of two kinds, and two of them are 0.
        let of_two = (2.0 + 2.0 * of_one) / 5.0;
        let model = NGrams::new(2, 4, &TEXT);
        assert_relative_eq!(model.probability(&[], 0), of_one, max_relative = 1e-12);
        assert_relative_eq!(model.probability(&[2, 1], 0), of_two, max_relative = 1e-12);
        assert_relative_eq!(model.bits(&[2, 1], &[0]), -of_two.log2(), max_relative = 1e-12);
    }

    #[test]
    fn a_text_that_was_counted_is_cheaper_than_one_that_was_not() {
        let period: Vec<u32> = (0..300).map(|at| at % 5).collect();
        let model = NGrams::new(3, 5, &period);
        assert!(model.bits(&period, &[0, 1, 2, 3, 4]) < 0.1);
        assert!(model.bits(&period, &[4, 3, 2, 1, 0]) > 5.0);
    }
}
