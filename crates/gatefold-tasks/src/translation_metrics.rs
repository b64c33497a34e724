//! Measures of translations: exact matches, BLEU and chrF.

use std::collections::HashMap;
use std::hash::Hash;

/// The longest n-grams that BLEU counts.
const BLEU_ORDER: usize = 4;
/// The longest n-grams that chrF counts.
const CHRF_ORDER: usize = 6;
/// The weight of chrF's recall beside its precision.
const CHRF_BETA: f64 = 2.0;

/// The share of translations that are their references, letter by letter, in per cent.
pub fn exact_matches(translations: &[String], references: &[String]) -> f64 {
    let same =
        translations.iter().zip(references).filter(|(translation, reference)| translation == reference);
    100.0 * same.count() as f64 / references.len().max(1) as f64
}

/// BLEU over a corpus (Papineni et al. 2002), from 0 to 100: the geometric mean of the shares of n-grams of one to four
/// words that the reference has too, times a penalty for translations that are too short.
///
/// It is the score that sacrebleu 2 gives under the signature `nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp` (Post 2018).
pub fn bleu(translations: &[String], references: &[String]) -> f64 {
    let mut counts = [Overlap::default(); BLEU_ORDER];
    let (mut translated_len, mut reference_len) = (0, 0);
    for (translation, reference) in translations.iter().zip(references) {
        let (translation, reference) = (mteval_words(translation), mteval_words(reference));
        translated_len += translation.len();
        reference_len += reference.len();
        for (n, count) in (1..).zip(&mut counts) {
            count.add(&n_grams(&translation, n), &n_grams(&reference, n));
        }
    }
    if counts.iter().all(|count| count.matched == 0) {
        return 0.0;
    }
    // An order without a match counts as a half, the next one as a quarter, and so on.
    let mut share_of_one = 1.0;
    let mut log_sum = 0.0;
    for count in counts {
        let matched = if count.matched > 0 {
            count.matched as f64
        } else {
            share_of_one /= 2.0;
            share_of_one
        };
        if count.translated == 0 {
            return 0.0; // every translation is shorter than this order
        }
        log_sum += (matched / count.translated as f64).ln();
    }
    let too_short = (1.0 - reference_len as f64 / translated_len as f64).min(0.0);
    100.0 * (too_short + log_sum / BLEU_ORDER as f64).exp()
}

/// chrF over a corpus (Popovic 2015), from 0 to 100: the F-score of n-grams of one to six characters, spaces left out,
/// with recall counted twice.
///
/// It is the score that sacrebleu 2 gives under the signature `nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no`.
pub fn chrf(translations: &[String], references: &[String]) -> f64 {
    let mut counts = [Overlap::default(); CHRF_ORDER];
    for (translation, reference) in translations.iter().zip(references) {
        let characters = |text: &str| text.chars().filter(|c| !c.is_whitespace()).collect::<Vec<char>>();
        let (translation, reference) = (characters(translation), characters(reference));
        for (n, count) in (1..).zip(&mut counts) {
            let of_reference = n_grams(&reference, n);
            // A reference too short for this order says nothing about the translation's n-grams.
            if !of_reference.is_empty() {
                count.add(&n_grams(&translation, n), &of_reference);
            }
        }
    }
    let counted = counts.iter().filter(|count| count.translated > 0 && count.reference > 0);
    let shares = counted.map(|count| {
        let matched = count.matched as f64;
        (matched / count.translated as f64, matched / count.reference as f64)
    });
    let shares: Vec<(f64, f64)> = shares.collect();
    let mean = |of: fn(&(f64, f64)) -> f64| shares.iter().map(of).sum::<f64>() / shares.len().max(1) as f64;
    let (precision, recall) = (mean(|share| share.0), mean(|share| share.1));
    if precision + recall == 0.0 {
        return 0.0;
    }
    let factor = CHRF_BETA * CHRF_BETA;
    100.0 * (1.0 + factor) * precision * recall / (factor * precision + recall)
}

/// The number of units to insert, delete or replace (Levenshtein 1965); `None` if it is more than `most`.
pub fn edit_distance<T: PartialEq>(a: &[T], b: &[T], most: usize) -> Option<usize> {
    if a.len().abs_diff(b.len()) > most {
        return None;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
        if row.iter().all(|distance| *distance > most) {
            return None;
        }
    }
    (row[b.len()] <= most).then_some(row[b.len()])
}

/// The n-grams of translations and references, and those that both have.
#[derive(Clone, Copy, Default)]
struct Overlap {
    translated: usize,
    reference: usize,
    matched: usize,
}

impl Overlap {
    fn add<T: Hash + Eq>(&mut self, translation: &HashMap<&[T], usize>, reference: &HashMap<&[T], usize>) {
        self.translated += translation.values().sum::<usize>();
        self.reference += reference.values().sum::<usize>();
        // Each n-gram of the reference can be met once.
        let met =
            translation.iter().map(|(gram, count)| reference.get(gram).map_or(0, |most| *count.min(most)));
        self.matched += met.sum::<usize>();
    }
}

fn n_grams<T: Hash + Eq>(units: &[T], n: usize) -> HashMap<&[T], usize> {
    let mut counts = HashMap::new();
    for gram in units.windows(n) {
        *counts.entry(gram).or_default() += 1;
    }
    counts
}

/// The words of a text as the script mteval-v13a of NIST finds them: marks are words of their own, except full stops and
/// commas between digits, and hyphens after letters.
fn mteval_words(text: &str) -> Vec<String> {
    let mut text = text.replace("<skipped>", "").replace("-\n", "").replace('\n', " ");
    for (name, character) in [("&quot;", "\""), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">")] {
        text = text.replace(name, character);
    }
    let text: Vec<char> = format!(" {text} ").chars().collect();
    let set_apart = |c: char| c.is_ascii_punctuation() && !matches!(c, '\'' | ',' | '-' | '.');
    let mut apart: Vec<char> = Vec::with_capacity(2 * text.len());
    for &c in &text {
        if set_apart(c) {
            apart.extend([' ', c, ' ']);
        } else {
            apart.push(c);
        }
    }
    let digit = |c: char| c.is_ascii_digit();
    let stop = |c: char| matches!(c, '.' | ',');
    // Each rule reads the text from left to right, and goes on after the two characters that it has met.
    let after_no_digit = spaced(&apart, |a, b| !digit(a) && stop(b), |a, b| vec![a, ' ', b, ' ']);
    let before_no_digit = spaced(&after_no_digit, |a, b| stop(a) && !digit(b), |a, b| vec![' ', a, ' ', b]);
    let hyphens = spaced(&before_no_digit, |a, b| digit(a) && b == '-', |a, b| vec![a, ' ', b, ' ']);
    String::from_iter(hyphens).split_whitespace().map(str::to_owned).collect()
}

/// Replaces pairs of characters, from left to right, none of them twice.
fn spaced(
    text: &[char],
    met: impl Fn(char, char) -> bool,
    with: impl Fn(char, char) -> Vec<char>,
) -> Vec<char> {
    let mut spaced = Vec::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        match text.get(at + 1) {
            Some(&next) if met(text[at], next) => {
                spaced.extend(with(text[at], next));
                at += 2;
            }
            _ => {
                spaced.push(text[at]);
                at += 1;
            }
        }
    }
    spaced
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_relative_eq;
    use serde::Deserialize;

    #[derive(Deserialize)]
    struct Case {
        name: String,
        translations: Vec<String>,
        references: Vec<String>,
        bleu: f64,
        chrf: f64,
    }

    #[test]
    fn bleu_and_chrf_are_those_of_sacrebleu() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/text/metrics.json");
        let cases: Vec<Case> = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        assert!(cases.len() > 20);
        for Case { name, translations, references, bleu: of_bleu, chrf: of_chrf } in cases {
            let (found_bleu, found_chrf) =
                (bleu(&translations, &references), chrf(&translations, &references));
            assert!((found_bleu - of_bleu).abs() < 1e-9, "{name}: BLEU {found_bleu}, not {of_bleu}");
            assert!((found_chrf - of_chrf).abs() < 1e-9, "{name}: chrF {found_chrf}, not {of_chrf}");
        }
    }

    #[test]
    fn matches_are_exact() {
        let texts = |texts: [&str; 4]| texts.map(str::to_owned);
        let found = exact_matches(&texts(["a", "b ", "C", "é"]), &texts(["a", "b", "c", "é"]));
        assert_relative_eq!(found, 50.0);
    }

    #[test]
    fn distances_are_those_of_levenshtein() {
        let of = |a: &str, b: &str, most| edit_distance(a.as_bytes(), b.as_bytes(), most);
        assert_eq!(of("kitten", "sitting", 9), Some(3));
        assert_eq!(of("kitten", "sitting", 3), Some(3));
        assert_eq!(of("kitten", "sitting", 2), None);
        assert_eq!(of("", "abc", 5), Some(3));
        assert_eq!(of("abc", "", 2), None);
        assert_eq!(of("same", "same", 0), Some(0));
    }
}
