//! Beam search: the candidates of one row, and the options of decoding.

use ndarray::{ArrayView1, ArrayView2};

/// The way a decoder writes a sequence.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Decoding {
    /// The likeliest token at every step; among equals the first.
    Greedy,
    /// The likeliest sequence that a beam search with `width` candidates per row finds; among equals the first to end.
    /// If none ends in time, the likeliest without an end.
    Beam {
        /// The candidates kept at every step, including those that end there.
        width: usize,
        /// Sequences are ranked by their log-likelihood, divided by this power of their length with the end mark: 0
        /// favours short sequences, 1 compares means (Wu et al. 2016 use about 0.6 in a similar form).
        length_power: f32,
    },
}

/// The tokens that a decoder begins and ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marks {
    /// The token that is read first.
    pub begin: u32,
    /// The token that ends a sequence; it is not returned.
    pub end: u32,
    /// The most tokens written, including the end mark.
    pub max_len: usize,
}

/// Tokens so far and their log-likelihood.
type Candidate = (Vec<u32>, f64);

/// The candidates of one row.
pub(super) struct Beam {
    marks: Marks,
    width: usize,
    /// The most candidates that are open at a time.
    streams: usize,
    power: f32,
    /// At first one, which stands for all.
    open: Vec<Candidate>,
    ended: Vec<Candidate>,
}

impl Beam {
    pub(super) fn new(marks: Marks, width: usize, streams: usize, power: f32) -> Beam {
        Beam { marks, width, streams, power, open: vec![(Vec::new(), 0.0)], ended: Vec::new() }
    }

    /// The most candidates that can be open when the last step begins: at every step before, each wrote one of `tokens`
    /// tokens other than the end.
    pub(super) fn most_open(marks: Marks, width: usize, tokens: usize) -> usize {
        let steps = u32::try_from(marks.max_len.saturating_sub(1)).unwrap_or(u32::MAX);
        width.min((tokens - 1).max(1).saturating_pow(steps))
    }

    /// Whether that stream of the row belongs to an open candidate.
    pub(super) fn is_open(&self, stream: usize) -> bool {
        stream < self.open.len()
    }

    /// The token that each of the row's streams reads next; a stream without a candidate reads the first mark.
    pub(super) fn last_tokens(&self) -> Vec<u32> {
        let last = |(tokens, _): &Candidate| tokens.last().copied().unwrap_or(self.marks.begin);
        let mut read: Vec<u32> = self.open.iter().map(last).collect();
        read.resize(self.streams, self.marks.begin);
        read
    }

    /// Extends every candidate by every token and keeps the best; returns the candidate that each stream continues.
    pub(super) fn extend(&mut self, logits: ArrayView2<f32>) -> Vec<usize> {
        let mut found: Vec<(usize, u32, f64)> = Vec::new();
        for (candidate, (_, score)) in self.open.iter().enumerate() {
            let row = log_softmax(logits.row(candidate));
            found.extend((0..).zip(&row).map(|(token, log_p)| (candidate, token, score + log_p)));
        }
        found.retain(|(.., score)| *score > f64::NEG_INFINITY);
        found.sort_by(|a, b| b.2.total_cmp(&a.2));
        let mut from = Vec::with_capacity(self.streams);
        let mut open = Vec::with_capacity(self.streams);
        // An end takes the place of a candidate, else unlikely ends would crowd in.
        for (candidate, token, score) in found.into_iter().take(self.width) {
            let mut tokens = self.open[candidate].0.clone();
            if token == self.marks.end {
                self.ended.push((tokens, score));
            } else {
                tokens.push(token);
                open.push((tokens, score));
                from.push(candidate);
            }
        }
        self.open = open;
        from.resize(self.streams, 0);
        from
    }

    /// Whether no open candidate can become the best any more; a log-likelihood can only fall.
    pub(super) fn is_done(&self) -> bool {
        let best = self.ended.iter().map(|found| self.rank(found)).fold(f64::NEG_INFINITY, f64::max);
        let longest = self.marks.max_len as f64 + 1.0;
        let hope = |(_, score): &Candidate| score / longest.powf(f64::from(self.power));
        self.open.iter().all(|open| hope(open) <= best)
    }

    /// The log-likelihood divided by a power of the length, which includes the end mark.
    fn rank(&self, (tokens, score): &Candidate) -> f64 {
        score / ((tokens.len() + 1) as f64).powf(f64::from(self.power))
    }

    pub(super) fn best(self) -> Vec<u32> {
        // A candidate that ran out of room counts only if none ended.
        let all = if self.ended.is_empty() { &self.open } else { &self.ended };
        // max_by takes the last of equals.
        let best = all.iter().rev().max_by(|a, b| self.rank(a).total_cmp(&self.rank(b)));
        best.map(|(tokens, _)| tokens.clone()).unwrap_or_default()
    }
}

fn log_softmax(logits: ArrayView1<f32>) -> Vec<f64> {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let shifted = logits.iter().map(|&logit| match logit {
        // Never drawn by a sampler either.
        _ if logit.is_nan() || logit == f32::NEG_INFINITY => f64::NEG_INFINITY,
        // Infinity minus itself would be NaN.
        _ if logit == highest => 0.0,
        _ => f64::from(logit) - f64::from(highest),
    });
    let total = shifted.clone().map(f64::exp).sum::<f64>();
    shifted.map(|value| if total > 0.0 { value - total.ln() } else { value }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array1, Axis, array};

    /// The logits of a chain whose next token depends on the last alone, with token 0 as the end.
    fn chain(last: u32) -> Array1<f32> {
        match last {
            1 => array![0.05f32, 0.4, 0.55].mapv(f32::ln),
            2 => array![0.3f32, 0.36, 0.34].mapv(f32::ln),
            _ => array![0.1f32, 0.52, 0.38].mapv(f32::ln),
        }
    }

    /// Every sequence of at most `max_len` tokens that ends, with its log-likelihood.
    fn all_sequences(max_len: usize) -> Vec<Candidate> {
        let mut open = vec![(Vec::new(), 0.0)];
        let mut ended = Vec::new();
        for _ in 0..max_len {
            let mut next = Vec::new();
            for (tokens, score) in open {
                let row = log_softmax(chain(tokens.last().copied().unwrap_or(3)).view());
                for (token, log_p) in (0u32..).zip(row) {
                    let mut longer: Vec<u32> = tokens.clone();
                    match token {
                        0 => ended.push((longer, score + log_p)),
                        _ => {
                            longer.push(token);
                            next.push((longer, score + log_p));
                        }
                    }
                }
            }
            open = next;
        }
        ended
    }

    fn search(width: usize, power: f32, max_len: usize) -> Vec<u32> {
        let marks = Marks { begin: 3, end: 0, max_len };
        let mut beam = Beam::new(marks, width, Beam::most_open(marks, width, 3), power);
        for _ in 0..max_len {
            let rows: Vec<Array1<f32>> = beam.last_tokens().into_iter().map(chain).collect();
            let views: Vec<_> = rows.iter().map(|row| row.view()).collect();
            beam.extend(ndarray::stack(Axis(0), &views).unwrap().view());
            if beam.is_done() {
                break;
            }
        }
        beam.best()
    }

    /// NaN is never written and does not affect the others; an infinite logit is the likeliest.
    #[test]
    fn logits_that_are_not_finite_are_only_their_own_tokens() {
        let of = |logits: [f32; 3]| log_softmax(ArrayView1::from(&logits));
        let half = 0.5f64.ln();
        assert_eq!(of([f32::NAN, 2.0, 2.0]), [f64::NEG_INFINITY, half, half]);
        assert_eq!(of([f32::NEG_INFINITY, 2.0, 2.0]), [f64::NEG_INFINITY, half, half]);
        assert_eq!(of([f32::INFINITY, 2.0, f32::NAN]), [0.0, f64::NEG_INFINITY, f64::NEG_INFINITY]);
        assert_eq!(of([f32::INFINITY, f32::INFINITY, 0.0]), [half, half, f64::NEG_INFINITY]);
        assert_eq!(of([f32::NEG_INFINITY, f32::NAN, f32::NAN]), [f64::NEG_INFINITY; 3]);
    }

    #[test]
    fn of_equals_the_first_that_ended_is_the_best() {
        let mut beam = Beam::new(Marks { begin: 3, end: 0, max_len: 4 }, 4, 4, 0.0);
        beam.ended = vec![(vec![1], -3.0), (vec![2], -2.0), (vec![2, 1], -2.0)];
        assert_eq!(beam.best(), [2]);
    }

    #[test]
    fn a_wide_beam_finds_the_best_of_all_sequences() {
        for power in [0.0, 0.6, 1.0] {
            let max_len = 6;
            let all = all_sequences(max_len);
            let ranked = Beam::new(Marks { begin: 3, end: 0, max_len }, 1, 1, power);
            let best = all.iter().max_by(|a, b| ranked.rank(a).total_cmp(&ranked.rank(b))).unwrap();
            assert_eq!(search(200, power, max_len), best.0, "length power {power}");
        }
        // If lengths do not count, the shortest way out is the likeliest; a beam of width 1 never sees it.
        assert_eq!(search(200, 0.0, 6), [2]);
        assert_ne!(search(1, 0.0, 6), [2]);
    }
}
