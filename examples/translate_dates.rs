//! Translates dates as people write them into dates as machines do, with an encoder and a decoder (Sutskever, Vinyals
//! and Le 2014).
//!
//! `Thursday, 12 March 1998` or `3/12/1998` goes in, a character at a time, and `1998-03-12` comes out. The encoder
//! reads in both directions, and a dense bridge turns its final states into the decoder's initial ones. In training the
//! decoder reads the right answer, one step late. Afterwards it reads its own output: greedily, or with a beam of four
//! candidates. The test dates do not occur in training in any format. The baseline is the answer of the training string
//! nearest in edit distance, which gets most characters right and no date.
//!
//! ```text
//! cargo run --release --example translate_dates
//! ```

mod arguments;

use arguments::{Arguments, cosine, print_network};
use clap::Parser;
use gatefold::generate::{Decoding, Marks};
use gatefold::layers::{
    Activation, Bridge, DecoderConfig, DenseConfig, Direction, EmbeddingConfig, LstmConfig,
};
use gatefold::{Loss, Network, NetworkConfig, Sequences, Targets, TrainConfig, Trainer};
use ndarray::Array2;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use std::collections::BTreeSet;
use std::error::Error;

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
/// The characters of input dates; a character's position is its token.
const READ: &str = " ,./0123456789ADFJMNOSTWabcdefghilmnoprstuvy";
/// The characters of output dates, followed by the marks.
const WRITTEN: &str = "0123456789-";
const MARKS: Marks = Marks { begin: 12, end: 11, max_len: 12 };

const BATCH: usize = 64;
const LEARNING_RATE: f32 = 4e-3;
const TEST_DATES: usize = 1000;
const NEIGHBOURS: usize = 1000;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Date {
    year: usize,
    month: usize,
    day: usize,
}

impl Date {
    /// Any day of the twentieth and twenty-first centuries, as commonly counted.
    fn draw(random: &mut ChaCha8Rng) -> Date {
        let (year, month) = (random.random_range(1900..2100), random.random_range(1..=12));
        let leap = year % 4 == 0 && year != 1900;
        let days = [31, if leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
        Date { year, month, day: random.random_range(1..=days[month - 1]) }
    }

    /// Day of the week, 0 for Sunday (Sakamoto's method).
    fn weekday(self) -> usize {
        let year = self.year - usize::from(self.month < 3);
        (year + year / 4 - year / 100
            + year / 400
            + [0, 3, 2, 5, 0, 3, 5, 1, 4, 6, 2, 4][self.month - 1]
            + self.day)
            % 7
    }

    fn iso(self) -> String {
        format!("{}-{:02}-{:02}", self.year, self.month, self.day)
    }

    /// Writes the date in one of ten formats. With slashes the month comes first, with full stops the day.
    fn written(self, random: &mut ChaCha8Rng) -> String {
        let Date { year, month, day } = self;
        let (name, weekday) = (MONTHS[month - 1], WEEKDAYS[self.weekday()]);
        let ending = match day {
            1 | 21 | 31 => "st",
            2 | 22 => "nd",
            3 | 23 => "rd",
            _ => "th",
        };
        match random.random_range(0..10) {
            0 => format!("{day} {name} {year}"),
            1 => format!("{name} {day}, {year}"),
            2 => format!("{weekday}, {day} {name} {year}"),
            3 => format!("{}, {} {day} {year}", &weekday[..3], &name[..3]),
            4 => format!("the {day}{ending} of {name} {year}"),
            5 => format!("{} {day}{ending} {year}", &name[..3]),
            6 => format!("{day}.{month}.{year}"),
            7 => format!("{day:02}.{month:02}.{year}"),
            8 => format!("{month}/{day}/{year}"),
            _ => format!("{month:02}/{day:02}/{year}"),
        }
    }
}

/// The tokens of texts, `[T, B]`, padded with zeros, and their lengths.
fn tokens(texts: &[String], alphabet: &str) -> (Array2<u32>, Vec<usize>) {
    let lengths: Vec<usize> = texts.iter().map(String::len).collect();
    let mut tokens = Array2::zeros((lengths.iter().copied().max().unwrap_or(0), texts.len()));
    for (row, text) in texts.iter().enumerate() {
        for (t, character) in text.chars().enumerate() {
            tokens[[t, row]] = alphabet.find(character).expect("the alphabet has it") as u32;
        }
    }
    (tokens, lengths)
}

fn encoder_input(texts: &[String]) -> Result<Sequences<'static>, gatefold::Error> {
    let (tokens, lengths) = tokens(texts, READ);
    Sequences::tokens(tokens.view()).with_lengths(lengths)
}

/// The network's inputs and targets. The decoder reads the begin mark and the answer, and should write the answer and
/// the end mark.
fn batch(
    texts: &[String],
    answers: &[String],
) -> Result<(Sequences<'static>, Targets<'static>), gatefold::Error> {
    let (answers, _) = tokens(answers, WRITTEN);
    let (steps, rows) = answers.dim();
    let read = |(t, row)| if t == 0 { MARKS.begin } else { answers[[t - 1, row]] };
    let write = |(t, row)| i64::from(if t == steps { MARKS.end } else { answers[[t, row]] });
    let decoder = Sequences::tokens(Array2::from_shape_fn((steps + 1, rows), read).view());
    let labels = Targets::labels(Array2::from_shape_fn((steps + 1, rows), write).view());
    Ok((encoder_input(texts)?.with_decoder(decoder), labels))
}

/// The number of characters to insert, delete or replace (Levenshtein 1965).
fn edit_distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

/// Prints a score: % of dates and of characters that are right.
fn print_score(name: &str, answers: &[String], truth: &[String]) {
    let pairs = || answers.iter().zip(truth);
    let exact = pairs().filter(|(answer, right)| answer == right).count() as f64 / truth.len() as f64;
    let characters = pairs().flat_map(|(answer, right)| {
        right.bytes().enumerate().map(|(at, byte)| answer.as_bytes().get(at) == Some(&byte))
    });
    let hits: Vec<bool> = characters.collect();
    let share = hits.iter().filter(|hit| **hit).count() as f64 / hits.len() as f64;
    println!("{name:<20} {:>6.1} {:>10.1}", 100.0 * exact, 100.0 * share);
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let device = arguments.open()?;
    let config = NetworkConfig::new(
        1,
        [
            EmbeddingConfig::new(READ.len(), 32).into(),
            LstmConfig::new(64).direction(Direction::Bidirectional).into(),
            DecoderConfig::new(1).bridge(Bridge::Dense { activation: Activation::Tanh }).into(),
            EmbeddingConfig::new(WRITTEN.len() + 2, 16).into(),
            LstmConfig::new(128).into(),
            DenseConfig::new(WRITTEN.len() + 1).into(),
        ],
    )?;
    print_network(&config);
    let training = TrainConfig::new().loss(Loss::CrossEntropy).clip_norm(Some(1.0));
    let mut trainer = Trainer::new(Network::new(&device, &config, arguments.seed)?, training)?;

    let mut random = ChaCha8Rng::seed_from_u64(arguments.seed);
    let mut test = BTreeSet::new();
    while test.len() < TEST_DATES {
        test.insert(Date::draw(&mut random));
    }
    let draw = |count: usize, random: &mut ChaCha8Rng| -> (Vec<String>, Vec<String>) {
        let dates = std::iter::repeat_with(|| Date::draw(random)).filter(|date| !test.contains(date));
        let dates: Vec<Date> = dates.take(count).collect();
        dates.into_iter().map(|date| (date.written(random), date.iso())).unzip()
    };
    let updates = arguments.choose(2500, 200);
    println!("\nupdate      loss");
    for update in 0..updates {
        let (texts, answers) = draw(BATCH, &mut random);
        let (input, labels) = batch(&texts, &answers)?;
        trainer.set_learning_rate(cosine(LEARNING_RATE, update, updates));
        trainer.step(&input, &labels)?;
        if (update + 1) % (updates / 10) == 0 {
            let losses = trainer.take_losses()?;
            println!("{:>6} {:>9.4}", update + 1, losses.iter().sum::<f32>() / losses.len() as f32);
        }
    }

    let (known, known_answers) = draw(NEIGHBOURS, &mut random);
    let (texts, truth): (Vec<String>, Vec<String>) =
        test.iter().map(|date| (date.written(&mut random), date.iso())).unzip();
    let input = encoder_input(&texts)?;
    let decode = |decoding| -> Result<Vec<String>, gatefold::Error> {
        let spell = |tokens: Vec<u32>| {
            tokens.into_iter().map(|token| WRITTEN.as_bytes()[token as usize] as char).collect()
        };
        Ok(trainer.network().decode(&input, MARKS, decoding)?.into_iter().map(spell).collect())
    };
    let greedy = decode(Decoding::Greedy)?;
    let beam = decode(Decoding::Beam { width: 4, length_power: 0.0 })?;
    let nearest = texts.iter().map(|text| {
        let nearest = (0..known.len()).min_by_key(|&at| edit_distance(text, &known[at]));
        known_answers[nearest.expect("there are neighbours")].clone()
    });
    let nearest: Vec<String> = nearest.collect();

    println!("\n{:<20} {:>6} {:>10}", format!("% of {TEST_DATES} test dates"), "exact", "characters");
    print_score("lstm, greedy", &greedy, &truth);
    print_score("lstm, beam of 4", &beam, &truth);
    print_score("nearest string", &nearest, &truth);
    println!();
    for (text, answer) in texts.iter().zip(&greedy).step_by(TEST_DATES / 5) {
        println!("{text} -> {answer}");
    }
    arguments.print_seconds();
    Ok(())
}
