use crate::{Error, Refusal};
use ndarray::ArrayView1;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

/// The rule that draws the next token from a network's logits.
#[derive(Clone, Debug)]
pub struct Sampler {
    temperature: f32,
    top_k: Option<usize>,
    top_p: Option<f32>,
    random: ChaCha8Rng,
}

impl Sampler {
    /// Always draws the likeliest token.
    pub fn greedy() -> Self {
        Sampler { temperature: 0.0, top_k: None, top_p: None, random: ChaCha8Rng::seed_from_u64(0) }
    }

    /// Draws tokens with the probabilities that the network gives them. The same seed draws the same tokens.
    pub fn new(seed: u64) -> Self {
        Sampler { temperature: 1.0, top_k: None, top_p: None, random: ChaCha8Rng::seed_from_u64(seed) }
    }

    /// Sets the number that logits are divided by: below 1, likely tokens become likelier; above 1, less likely; 0 is
    /// greedy. 1 by default.
    ///
    /// # Errors
    /// [`Error::Refused`] for a number below 0 or not finite.
    pub fn temperature(mut self, temperature: f32) -> Result<Self, Error> {
        if !(temperature >= 0.0 && temperature.is_finite()) {
            let found = format!("the temperature is {temperature}; expected a finite number, 0 or more");
            return Err(Error::refused(Refusal::Option, found));
        }
        self.temperature = temperature;
        Ok(self)
    }

    /// Draws only from the `k` likeliest tokens; from all by default.
    ///
    /// # Errors
    /// [`Error::Refused`] for 0.
    pub fn top_k(mut self, k: usize) -> Result<Self, Error> {
        if k == 0 {
            let found = "top-k of 0 leaves no token to draw; expected at least 1";
            return Err(Error::refused(Refusal::Option, found));
        }
        self.top_k = Some(k);
        Ok(self)
    }

    /// Draws only from the likeliest tokens that together have a probability of at least `p`, after temperature and top-k
    /// (nucleus sampling, Holtzman et al. 2020); from all by default.
    ///
    /// # Errors
    /// [`Error::Refused`] for a number that is not above 0 and at most 1.
    pub fn top_p(mut self, p: f32) -> Result<Self, Error> {
        if !(p > 0.0 && p <= 1.0) {
            let found = format!("top-p is {p}; expected a number above 0 and at most 1");
            return Err(Error::refused(Refusal::Option, found));
        }
        self.top_p = Some(p);
        Ok(self)
    }

    /// Draws a token from logits, one for each token. A token whose logit is NaN is never drawn, unless no logit is
    /// above minus infinity: then the first token is.
    ///
    /// # Panics
    /// If there are no logits.
    pub fn draw(&mut self, logits: ArrayView1<f32>) -> u32 {
        let rank = |&token: &usize| if logits[token].is_nan() { f32::NEG_INFINITY } else { logits[token] };
        let mut tokens: Vec<usize> = (0..logits.len()).collect();
        // Equal logits, 0 and -0 among them: the first token first.
        tokens.sort_by(|a, b| rank(b).partial_cmp(&rank(a)).expect("no rank is NaN"));
        if self.temperature == 0.0 {
            return tokens[0] as u32;
        }
        tokens.truncate(self.top_k.unwrap_or(usize::MAX));
        let highest = f64::from(rank(&tokens[0]));
        let weight = |token: &usize| ((f64::from(rank(token)) - highest) / f64::from(self.temperature)).exp();
        let mut weights: Vec<f64> = tokens.iter().map(weight).collect();
        if let Some(p) = self.top_p {
            let enough = f64::from(p) * weights.iter().sum::<f64>();
            let mut sum = 0.0;
            let before_enough = weights.iter().take_while(|weight| {
                sum += **weight;
                sum < enough
            });
            let kept = before_enough.count() + 1;
            weights.truncate(kept);
        }
        let mut left = self.random.random_range(0.0..1.0) * weights.iter().sum::<f64>();
        for (token, weight) in tokens.iter().zip(weights) {
            left -= weight;
            if left < 0.0 {
                return *token as u32;
            }
        }
        tokens[0] as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn draws_are_as_frequent_as_the_logits_say() {
        let logits = array![0.5f32.ln(), 0.3f32.ln(), f32::NAN, 0.2f32.ln()];
        let mut sampler = Sampler::new(7);
        let mut counts = [0usize; 4];
        let draws = 20_000;
        (0..draws).for_each(|_| counts[sampler.draw(logits.view()) as usize] += 1);
        assert_eq!(counts[2], 0, "NaN is never drawn");
        for (token, p) in [(0, 0.5), (1, 0.3), (3, 0.2)] {
            let expected: f64 = p * f64::from(draws);
            let five_sigma = 5.0 * (expected * (1.0 - p)).sqrt();
            assert!((counts[token] as f64 - expected).abs() < five_sigma, "token {token}: {}", counts[token]);
        }
    }

    #[test]
    fn temperature_and_top_k_narrow_the_choice() {
        let logits = array![1.0f32, 3.0, 2.0];
        let mut greedy = Sampler::new(1).temperature(0.0).unwrap();
        let mut first = Sampler::new(1).top_k(1).unwrap();
        let mut cold = Sampler::new(1).temperature(0.01).unwrap();
        let mut two = Sampler::new(1).temperature(100.0).unwrap().top_k(2).unwrap();
        let mut seen = [false; 3];
        for _ in 0..200 {
            assert_eq!(
                [greedy.draw(logits.view()), first.draw(logits.view()), cold.draw(logits.view())],
                [1; 3]
            );
            seen[two.draw(logits.view()) as usize] = true;
        }
        assert_eq!(seen, [false, true, true]);
        assert!(Sampler::new(0).temperature(f32::NAN).is_err() && Sampler::new(0).top_k(0).is_err());
    }

    #[test]
    fn top_p_keeps_the_likeliest_tokens_that_are_probable_enough() {
        let logits = array![0.1f32.ln(), 0.5f32.ln(), f32::NAN, 0.15f32.ln(), 0.25f32.ln()];
        let drawn = |mut sampler: Sampler| {
            let mut seen = [false; 5];
            (0..2000).for_each(|_| seen[sampler.draw(logits.view()) as usize] = true);
            seen
        };
        let of = |p| Sampler::new(1).top_p(p).unwrap();
        assert_eq!(drawn(of(0.4)), [false, true, false, false, false]);
        assert_eq!(drawn(of(0.6)), [false, true, false, false, true]);
        assert_eq!(drawn(of(0.8)), [false, true, false, true, true]);
        assert_eq!(drawn(of(1.0)), [true, true, false, true, true]);
        // Of the two that top-k leaves, the likelier has two thirds.
        assert_eq!(drawn(of(0.6).top_k(2).unwrap()), [false, true, false, false, false]);
        for p in [0.0, -1.0, 1.1, f32::NAN] {
            assert!(Sampler::new(0).top_p(p).is_err(), "{p}");
        }
    }

    #[test]
    fn of_equal_logits_the_first_token_is_drawn() {
        for logits in [[1.0, 2.0, 2.0], [-1.0, -0.0, 0.0], [f32::NAN, 0.0, -0.0]] {
            assert_eq!(Sampler::greedy().draw(ArrayView1::from(&logits)), 1, "{logits:?}");
        }
    }
}
