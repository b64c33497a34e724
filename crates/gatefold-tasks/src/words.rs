//! Words with a tag each, and the tokens that networks read for them.

use crate::TaskError;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};

/// A sentence: words, with a tag each where they are known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sentence {
    /// The line of its first word, counted from 1.
    pub line: usize,
    /// The words.
    pub words: Vec<String>,
    /// The tag of each word.
    pub tags: Vec<Option<String>>,
}

/// The columns of a file of words, counted from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WordColumns {
    /// The column of words; the first by default.
    pub word: Option<usize>,
    /// The column of tags; the last by default.
    pub tag: Option<usize>,
}

/// Reads sentences as the CoNLL tasks wrote them: a word a line with its tag, columns divided by tabs or else spaces, a
/// blank line between sentences. Lines that begin with `# ` or `-DOCSTART-` are left out. Tags may be missing unless
/// `tagged`.
///
/// # Errors
/// [`TaskError::Data`] with the line that lacks a column; for a text without words.
pub fn read_sentences(text: &str, columns: WordColumns, tagged: bool) -> Result<Vec<Sentence>, TaskError> {
    let mut sentences = vec![Sentence::default()];
    for (at, line) in text.lines().enumerate() {
        let line = line.trim_end_matches('\r');
        if line.trim().is_empty() || line.starts_with("# ") || line.starts_with("-DOCSTART-") {
            if sentences.last().is_some_and(|last| !last.words.is_empty()) {
                sentences.push(Sentence::default());
            }
            continue;
        }
        let cells: Vec<&str> = if line.contains('\t') {
            line.split('\t').map(str::trim).collect()
        } else {
            line.split_whitespace().collect()
        };
        let cell = |column: usize| cells.get(column.wrapping_sub(1)).copied().filter(|cell| !cell.is_empty());
        let word_column = columns.word.unwrap_or(1);
        let tag_column = columns.tag.unwrap_or(cells.len().max(2));
        let lacks = |what: &str, column: usize| {
            TaskError::Data(format!(
                "line {}: expected a {what} in column {column}, found {} column(s); divide word and tag by a tab",
                at + 1,
                cells.len()
            ))
        };
        let word = cell(word_column).ok_or_else(|| lacks("word", word_column))?;
        let tag = cell(tag_column);
        if tagged && tag.is_none() {
            return Err(lacks("tag", tag_column));
        }
        let sentence = sentences.last_mut().expect("there is one");
        if sentence.words.is_empty() {
            sentence.line = at + 1;
        }
        sentence.words.push(word.into());
        sentence.tags.push(tag.map(str::to_owned));
    }
    sentences.retain(|sentence| !sentence.words.is_empty());
    if sentences.is_empty() {
        return Err(TaskError::Data("there are no words; expected a word and its tag on each line".into()));
    }
    Ok(sentences)
}

/// Words that are tokens of their own, and shapes for all others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vocabulary {
    words: BTreeMap<String, u32>,
    shapes: BTreeMap<String, u32>,
}

/// Words seen as rarely as this say which shapes there are.
const RARE: usize = 2;

impl Vocabulary {
    /// The words of training sentences, and the shapes of at least two of their rare words.
    pub fn of<'a>(sentences: impl Iterator<Item = &'a Sentence>) -> Vocabulary {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        sentences.flat_map(|sentence| &sentence.words).for_each(|word| *counts.entry(word).or_default() += 1);
        let mut shapes: BTreeMap<String, usize> = BTreeMap::new();
        for (word, _) in counts.iter().filter(|(_, count)| **count <= RARE) {
            shapes_of(word).into_iter().for_each(|shape| *shapes.entry(shape).or_default() += 1);
        }
        shapes.retain(|_, count| *count >= 2);
        let number = |at: usize| u32::try_from(at).expect("a text has fewer than 2^32 words");
        let first_shape = counts.len() + 1;
        Vocabulary {
            words: counts
                .into_keys()
                .enumerate()
                .map(|(at, word)| (word.to_owned(), number(at + 1)))
                .collect(),
            shapes: shapes
                .into_keys()
                .enumerate()
                .map(|(at, shape)| (shape, number(first_shape + at)))
                .collect(),
        }
    }

    /// The number of tokens.
    pub fn tokens(&self) -> usize {
        1 + self.words.len() + self.shapes.len()
    }

    /// The number of words that are tokens of their own.
    pub fn words(&self) -> usize {
        self.words.len()
    }

    /// The token of a word: its own, that of its lower case, or else that of its shape.
    pub fn token(&self, word: &str) -> u32 {
        let own = self.words.get(word).or_else(|| self.words.get(&word.to_lowercase()));
        own.copied().unwrap_or_else(|| self.shape(word))
    }

    /// The token of a word's shape, for words that were not seen in training; 0 if the shape was not seen either.
    pub fn shape(&self, word: &str) -> u32 {
        shapes_of(word).iter().find_map(|shape| self.shapes.get(shape)).copied().unwrap_or(0)
    }
}

/// The shapes of a word, the finest first: its letters' case and its last letters (as Klein and Manning 2003 did for
/// unknown words).
fn shapes_of(word: &str) -> Vec<String> {
    let any = |is: fn(char) -> bool| word.chars().any(is);
    let case = match word.chars().next() {
        _ if any(|c| c.is_ascii_digit()) => "9",
        _ if !any(char::is_alphabetic) => ".",
        _ if any(char::is_uppercase) && !any(char::is_lowercase) => "AA",
        Some(first) if first.is_uppercase() => "Aa",
        _ if any(char::is_uppercase) => "aA",
        _ if word.contains('-') => "a-a",
        _ => "a",
    };
    let letters: Vec<char> = word.to_lowercase().chars().collect();
    let mut shapes: Vec<String> = [3, 2]
        .into_iter()
        .filter(|len| {
            letters.len() > len + 1 && letters[letters.len() - len..].iter().all(|c| c.is_alphabetic())
        })
        .map(|len| format!("{case}~{}", letters[letters.len() - len..].iter().collect::<String>()))
        .collect();
    shapes.push(case.into());
    shapes
}

/// The most frequent tag of each word: the baseline for tags.
pub(crate) struct WordTags {
    of_word: HashMap<String, usize>,
    of_all: usize,
}

impl WordTags {
    pub(crate) fn of<'a>(tagged: impl Iterator<Item = (&'a str, usize)>) -> WordTags {
        let mut counts: HashMap<&str, BTreeMap<usize, usize>> = HashMap::new();
        let mut all: BTreeMap<usize, usize> = BTreeMap::new();
        for (word, tag) in tagged {
            *counts.entry(word).or_default().entry(tag).or_default() += 1;
            *all.entry(tag).or_default() += 1;
        }
        let most = |counts: &BTreeMap<usize, usize>| {
            counts.iter().rev().max_by_key(|(_, count)| **count).map_or(0, |(tag, _)| *tag)
        };
        let of_word = counts.iter().map(|(word, counts)| ((*word).to_owned(), most(counts))).collect();
        WordTags { of_word, of_all: most(&all) }
    }

    pub(crate) fn tag(&self, word: &str) -> usize {
        self.of_word.get(word).copied().unwrap_or(self.of_all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_end_at_blank_lines() {
        let text = "-DOCSTART- O\n\nThe\tDT\r\ncat  \tNN\n\n\n# a comment\nran\tVB\n";
        let sentences = read_sentences(text, WordColumns::default(), true).unwrap();
        let words: Vec<Vec<String>> = sentences.iter().map(|one| one.words.clone()).collect();
        assert_eq!(words, [vec!["The", "cat"], vec!["ran"]]);
        assert_eq!(sentences[0].tags, [Some("DT".to_owned()), Some("NN".to_owned())]);
        assert_eq!((sentences[0].line, sentences[1].line), (3, 8));
        let columns = WordColumns { word: Some(2), tag: Some(4) };
        let universal = read_sentences("1\tran\trun\tVERB\t_\n", columns, true).unwrap();
        assert_eq!((universal[0].words[0].as_str(), universal[0].tags[0].as_deref()), ("ran", Some("VERB")));
    }

    #[test]
    fn a_line_without_a_tag_is_named() {
        let problem =
            |text: &str| read_sentences(text, WordColumns::default(), true).unwrap_err().to_string();
        assert!(problem("a b\nword\n").starts_with("line 2: expected a tag in column 2, found 1 column(s)"));
        assert!(problem("\n \n").starts_with("there are no words"));
        let bare = read_sentences("word\n", WordColumns::default(), false).unwrap();
        assert_eq!(bare[0].tags, [None]);
    }

    #[test]
    fn unknown_words_have_the_shape_of_rare_ones() {
        let words = ["walking", "talking", "Paris", "Tunis", "1999", "2001", "the", "the", "the"];
        let sentence = Sentence { words: words.map(str::to_owned).to_vec(), ..Default::default() };
        let vocabulary = Vocabulary::of([&sentence].into_iter());
        assert_eq!(vocabulary.words(), 7);
        assert_eq!(vocabulary.token("The"), vocabulary.token("the"));
        assert_eq!(vocabulary.token("baking"), vocabulary.shape("walking"));
        assert_ne!(vocabulary.token("baking"), vocabulary.token("Lutis"));
        assert_eq!(vocabulary.token("1848"), vocabulary.shape("1999"));
        assert_eq!(vocabulary.token("--"), 0);
        assert!((vocabulary.token("1848") as usize) < vocabulary.tokens());
        let tags = WordTags::of([("a", 2), ("a", 1), ("a", 1), ("b", 2), ("c", 2)].into_iter());
        assert_eq!((tags.tag("a"), tags.tag("b"), tags.tag("z")), (1, 2, 2));
    }
}
