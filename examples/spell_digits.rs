//! Spells images of digits. The eight rows of eight pixels go in one after another, and the letters of the word come
//! out: many to one to many (1797 digits by 13 people; Alpaydin and Kaynak 1998).
//!
//! A GRU reads the rows from above and from below. Its two final states, through a dense bridge, are the initial state
//! of a decoder. It writes `t`, `h`, `r`, `e`, `e` and an end mark, and must remember the digit while it spells. Words
//! differ in length, so steps past a word's end do not count. In training, images are shifted by up to a pixel. The
//! last 360 images are the test; a word counts if every letter is right. The baseline is the word of the nearest
//! training image.
//!
//! ```text
//! cargo run --release --example spell_digits
//! ```

mod arguments;

use arguments::{Arguments, cosine, data, print_network};
use clap::Parser;
use gatefold::generate::{Decoding, Marks};
use gatefold::layers::{
    Activation, Bridge, DecoderConfig, DenseConfig, Direction, EmbeddingConfig, GruConfig, LayerConfig,
};
use gatefold::{Loss, Network, NetworkConfig, Optimizer, Sequences, Targets, TrainConfig, Trainer};
use gatefold_series::{Fill, Table, TableOptions};
use ndarray::{Array2, Array3, ArrayView2, s};
use rand::RngExt;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use std::error::Error;

const WORDS: [&str; 10] = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"];
const SIZE: usize = 8;
const LONGEST: usize = 5;
const TEST: usize = 360;
const BATCH: usize = 32;
const LEARNING_RATE: f32 = 3e-3;
const LETTERS: u32 = 26;
const MARKS: Marks = Marks { begin: LETTERS + 1, end: LETTERS, max_len: LONGEST + 1 };

struct Digit {
    /// `[rows, pixels]`, from 0 to 1
    image: Array2<f32>,
    number: usize,
}

fn read() -> Result<Vec<Digit>, Box<dyn Error>> {
    let table = Table::read(data("digits_8x8.csv"), &TableOptions::new())?;
    let column = |name: &str| table.numbers(name, Fill::Refuse);
    let pixels: Vec<Vec<f64>> =
        (0..SIZE * SIZE).map(|pixel| column(&format!("p{pixel}"))).collect::<Result<_, _>>()?;
    let digit = |(row, number): (usize, f64)| Digit {
        image: Array2::from_shape_fn((SIZE, SIZE), |(y, x)| pixels[y * SIZE + x][row] as f32 / 16.0),
        number: number as usize,
    };
    Ok(column("label")?.into_iter().enumerate().map(digit).collect())
}

/// Shifts an image by up to a pixel each way and fills with zeros.
fn moved(image: &Array2<f32>, random: &mut ChaCha8Rng) -> Array2<f32> {
    let (down, right) = (random.random_range(0..=2), random.random_range(0..=2));
    let mut framed = Array2::zeros((SIZE + 2, SIZE + 2));
    framed.slice_mut(s![1..=SIZE, 1..=SIZE]).assign(image);
    framed.slice(s![down..down + SIZE, right..right + SIZE]).to_owned()
}

/// `[rows, batch, pixels]`
fn stacked(images: &[ArrayView2<f32>]) -> Sequences<'static> {
    Sequences::time_major(Array3::from_shape_fn((SIZE, images.len(), SIZE), |(y, row, x)| {
        images[row][[y, x]]
    }))
}

/// The letter at a position in a word, then the end mark, then none.
fn letter(number: usize, place: usize) -> Option<u32> {
    let letters = WORDS[number].as_bytes();
    match place {
        _ if place < letters.len() => Some(u32::from(letters[place] - b'a')),
        _ => (place == letters.len()).then_some(MARKS.end),
    }
}

/// The network's inputs and targets. The decoder reads the word one letter late.
fn batch(
    images: &[ArrayView2<f32>],
    numbers: &[usize],
) -> Result<(Sequences<'static>, Targets<'static>), gatefold::Error> {
    let shape = (LONGEST + 1, numbers.len());
    let read = |(t, row): (usize, usize)| match t {
        0 => MARKS.begin,
        _ => letter(numbers[row], t - 1).unwrap_or(MARKS.end),
    };
    let lengths: Vec<usize> = numbers.iter().map(|&number| WORDS[number].len() + 1).collect();
    let decoder = Sequences::tokens(Array2::from_shape_fn(shape, read).view()).with_lengths(lengths)?;
    let write = Array2::from_shape_fn(shape, |(t, row)| letter(numbers[row], t).map_or(-1, i64::from));
    Ok((stacked(images).with_decoder(decoder), Targets::labels(write.view())))
}

/// The digit of the training image that differs least.
fn nearest(training: &[Digit], image: &Array2<f32>) -> usize {
    let distance = |digit: &&Digit| (&digit.image - image).mapv(|d| d * d).sum();
    let found = training.iter().min_by(|a, b| distance(a).total_cmp(&distance(b)));
    found.map_or(0, |digit| digit.number)
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let device = arguments.open()?;
    let mut digits = read()?;
    let test = digits.split_off(digits.len() - TEST);

    let config = NetworkConfig::new(
        SIZE,
        [
            GruConfig::new(128).direction(Direction::Bidirectional).into(),
            DecoderConfig::new(1).bridge(Bridge::Dense { activation: Activation::Tanh }).into(),
            EmbeddingConfig::new(LETTERS as usize + 2, 16).into(),
            GruConfig::new(128).into(),
            LayerConfig::Dropout { rate: 0.2 },
            DenseConfig::new(LETTERS as usize + 1).into(),
        ],
    )?;
    print_network(&config);
    let rule = TrainConfig::new()
        .loss(Loss::CrossEntropy)
        .optimizer(Optimizer::adamw())
        .clip_norm(Some(1.0))
        .dropout_seed(arguments.seed);
    let mut trainer = Trainer::new(Network::new(&device, &config, arguments.seed)?, rule)?;

    let mut random = ChaCha8Rng::seed_from_u64(arguments.seed);
    let epochs = arguments.choose(80, 6);
    println!("\nepoch      loss");
    for epoch in 0..epochs {
        trainer.set_learning_rate(cosine(LEARNING_RATE, epoch, epochs));
        digits.shuffle(&mut random);
        for chosen in digits.chunks(BATCH) {
            let images: Vec<_> = chosen.iter().map(|digit| moved(&digit.image, &mut random)).collect();
            let images: Vec<_> = images.iter().map(|image| image.view()).collect();
            let numbers: Vec<usize> = chosen.iter().map(|digit| digit.number).collect();
            let (input, labels) = batch(&images, &numbers)?;
            trainer.step(&input, &labels)?;
        }
        if (epoch + 1) % epochs.div_ceil(10) == 0 {
            let losses = trainer.take_losses()?;
            println!("{:>5} {:>9.4}", epoch + 1, losses.iter().sum::<f32>() / losses.len() as f32);
        }
    }

    let images: Vec<_> = test.iter().map(|digit| digit.image.view()).collect();
    let written = trainer.network().decode(stacked(&images), MARKS, Decoding::Greedy)?;
    let spell = |letters: &Vec<u32>| letters.iter().map(|&letter| char::from(b'a' + letter as u8)).collect();
    let words: Vec<String> = written.iter().map(spell).collect();
    let share = |right: &dyn Fn(usize) -> bool| {
        100.0 * (0..TEST).filter(|&at| right(at)).count() as f64 / TEST as f64
    };
    println!("\n% of {TEST} test images whose word is right");
    println!("gru             {:>6.1}", share(&|at| words[at] == WORDS[test[at].number]));
    println!("nearest image   {:>6.1}", share(&|at| nearest(&digits, &test[at].image) == test[at].number));
    println!("always \"one\"    {:>6.1}", share(&|at| test[at].number == 1));
    let wrong = words.iter().zip(&test).filter(|(word, digit)| *word != WORDS[digit.number]);
    let wrong: Vec<String> =
        wrong.map(|(word, digit)| format!("{word} for {}", WORDS[digit.number])).collect();
    println!("\nmisspelled      {}", wrong.iter().take(10).cloned().collect::<Vec<_>>().join(", "));
    arguments.print_seconds();
    Ok(())
}
