//! Texts as numbers: their units, characters or words, and the vocabulary that numbers these.

use crate::TaskError;
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::collections::HashMap;
use std::fmt;
use unicode_segmentation::UnicodeSegmentation;

/// The units that a text is read and written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unit {
    /// Characters: Unicode's scalar values. An accent of its own is one.
    Char,
    /// Words, numbers and marks as in Unicode's annex 29, each with the space before it, if there is one.
    Word,
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Unit::Char => "character",
            Unit::Word => "word",
        })
    }
}

impl Unit {
    /// The units of a text; joined, they are the text.
    pub fn split(self, text: &str) -> Vec<&str> {
        match self {
            Unit::Char => {
                let ends = text.char_indices().map(|(at, c)| &text[at..at + c.len_utf8()]);
                ends.collect()
            }
            Unit::Word => {
                let mut units = Vec::new();
                let mut space = None;
                for (at, piece) in text.split_word_bound_indices() {
                    let start = space.take().unwrap_or(at);
                    if piece == " " && start == at {
                        space = Some(at);
                    } else {
                        units.push(&text[start..at + piece.len()]);
                    }
                }
                units.extend(space.map(|at| &text[at..]));
                units
            }
        }
    }
}

/// The units that a model knows, numbered: 0 stands for every other one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(into = "Listed", from = "Listed")]
pub struct UnitVocabulary {
    unit: Unit,
    symbols: Vec<String>,
    numbers: HashMap<String, u32>,
}

/// The vocabulary as a file has it.
#[derive(Serialize, Deserialize)]
struct Listed {
    unit: Unit,
    symbols: Vec<String>,
}

impl From<UnitVocabulary> for Listed {
    fn from(UnitVocabulary { unit, symbols, .. }: UnitVocabulary) -> Listed {
        Listed { unit, symbols }
    }
}

impl From<Listed> for UnitVocabulary {
    fn from(Listed { unit, symbols }: Listed) -> UnitVocabulary {
        let numbers = (1..).zip(&symbols).map(|(number, symbol)| (symbol.clone(), number)).collect();
        UnitVocabulary { unit, symbols, numbers }
    }
}

impl UnitVocabulary {
    /// The number of all units that the vocabulary does not have.
    pub const UNKNOWN: u32 = 0;
    /// The text of a unit that the vocabulary does not have.
    pub const UNKNOWN_TEXT: &str = "⁇";

    /// The units that occur at least `least` times in the texts, at most `most` of them, the frequent ones first.
    pub fn new<'a>(
        unit: Unit,
        texts: impl IntoIterator<Item = &'a str>,
        least: usize,
        most: usize,
    ) -> UnitVocabulary {
        let mut counts: HashMap<&str, usize> = HashMap::new();
        for text in texts {
            for symbol in unit.split(text) {
                *counts.entry(symbol).or_default() += 1;
            }
        }
        let mut found: Vec<(&str, usize)> = counts.into_iter().filter(|(_, count)| *count >= least).collect();
        found.sort_unstable_by_key(|(symbol, count)| (Reverse(*count), *symbol));
        let symbols = found.into_iter().take(most).map(|(symbol, _)| symbol.to_owned()).collect();
        UnitVocabulary::from(Listed { unit, symbols })
    }

    /// The units that texts are read and written in.
    pub fn unit(&self) -> Unit {
        self.unit
    }

    /// The number of tokens, with the one for unknown units.
    pub fn tokens(&self) -> usize {
        self.symbols.len() + 1
    }

    /// The units, the frequent ones first.
    pub fn symbols(&self) -> &[String] {
        &self.symbols
    }

    /// The tokens of a text.
    pub fn encode(&self, text: &str) -> Vec<u32> {
        let number = |symbol| self.numbers.get(symbol).copied().unwrap_or(UnitVocabulary::UNKNOWN);
        self.unit.split(text).into_iter().map(number).collect()
    }

    /// The tokens of a text whose units are all known.
    ///
    /// # Errors
    /// [`TaskError::Data`] that names the first unit which is not.
    pub fn encode_known(&self, text: &str) -> Result<Vec<u32>, TaskError> {
        let tokens = self.encode(text);
        match tokens.iter().position(|token| *token == UnitVocabulary::UNKNOWN) {
            None => Ok(tokens),
            Some(at) => {
                let symbol = self.unit.split(text)[at].trim_start_matches(' ');
                let code = match (self.unit, symbol.chars().next()) {
                    (Unit::Char, Some(c)) => format!(" (U+{:04X})", u32::from(c)),
                    _ => String::new(),
                };
                Err(TaskError::Data(format!(
                    "the {} {symbol:?}{code} is too rare in the training text to be known; leave it out",
                    self.unit
                )))
            }
        }
    }

    /// The text of tokens; unknown units are written as [`UnitVocabulary::UNKNOWN_TEXT`].
    pub fn decode(&self, tokens: &[u32]) -> String {
        let text = |token: &u32| match token.checked_sub(1).and_then(|at| self.symbols.get(at as usize)) {
            Some(symbol) => symbol.as_str(),
            None => UnitVocabulary::UNKNOWN_TEXT,
        };
        tokens.iter().map(text).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXTS: [&str; 9] = [
        "",
        " ",
        "  two  spaces, a\ttab and\n\na line.  ",
        "Don't say “no”: it's 3.14 or 1,000 e-mails!",
        "Съешь же ещё этих мягких французских булок",
        "猫がマットの上に座った。",
        "किताबें पढ़ना अच्छा है",
        "ﷺ العربية 👩‍👩‍👧 e\u{301}",
        " leading and trailing ",
    ];

    #[test]
    fn units_of_any_script_joined_are_the_text() {
        for text in TEXTS {
            for unit in [Unit::Char, Unit::Word] {
                assert_eq!(unit.split(text).concat(), text, "{unit}");
                let vocabulary = UnitVocabulary::new(unit, [text], 1, 999);
                assert_eq!(vocabulary.decode(&vocabulary.encode_known(text).unwrap()), text, "{unit}");
            }
        }
    }

    #[test]
    fn words_carry_the_space_before_them() {
        let units = Unit::Word.split("It's  3.14, so \nno.");
        assert_eq!(units, ["It's", "  ", "3.14", ",", " so", " \n", "no", "."]);
        assert_eq!(Unit::Word.split("a b "), ["a", " b", " "]);
        assert_eq!(Unit::Char.split("e\u{301}猫"), ["e", "\u{301}", "猫"]);
    }

    #[test]
    fn rare_units_are_unknown_and_named() {
        let vocabulary = UnitVocabulary::new(Unit::Char, ["abba", "bacd"], 2, 9);
        assert_eq!((vocabulary.symbols(), vocabulary.tokens()), (&["a".into(), "b".into()][..], 3));
        assert_eq!(vocabulary.encode("bad"), [2, 1, 0]);
        assert_eq!(vocabulary.decode(&[2, 1, 0, 99]), "ba⁇⁇");
        let problem = vocabulary.encode_known("bañ").unwrap_err().to_string();
        assert_eq!(
            problem,
            "the character \"ñ\" (U+00F1) is too rare in the training text to be known; leave it out"
        );
        let words = UnitVocabulary::new(Unit::Word, ["one two two", "a two"], 1, 1);
        let problem = words.encode_known("one two").unwrap_err().to_string();
        assert_eq!(problem, "the word \"one\" is too rare in the training text to be known; leave it out");
    }

    #[test]
    fn a_vocabulary_comes_back_from_a_file() {
        let vocabulary = UnitVocabulary::new(Unit::Word, TEXTS, 1, 99);
        let text = serde_json::to_string(&vocabulary).unwrap();
        assert_eq!(serde_json::from_str::<UnitVocabulary>(&text).unwrap(), vocabulary);
    }
}
