//! An LSTM learns an amplifier from a dry and a wet recording, for plugins that play it in real time.
//!
//! ```text
//! cargo run --release --example guitar_amp -- --dry dry.wav --wet wet.wav --out amp
//! ```
//!
//! One LSTM and a dense layer make each sample of the amplifier's output from the samples so far, and add the input, as in
//! Wright, Damskägg and Välimäki, Real-Time Black-Box Modelling With Recurrent Neural Networks, DAFx 2019, and Wright,
//! Damskägg, Juvela and Välimäki, Real-Time Guitar Amplifier Emulation with Deep Learning, Applied Sciences 10 (2020). The
//! loss is theirs: the error-to-signal ratio, here with the pre-emphasis filter 1 - 0.95 z^-1 of Damskägg, Juvela, Thuillier
//! and Välimäki, Deep Learning for Tube Amplifier Emulation, ICASSP 2019, and a term for the offset. The recording is cut
//! into strips; each batch is the next samples of every strip and goes on from the states of the batch before, so the
//! network remembers farther back than its gradient reaches.
//!
//! Without recordings it makes some: plucked strings, and an amplifier whose working point and supply follow how loud it has
//! been. The last tenth of the sound is the test. Beside the network stand the best curve without a memory, and the dry sound
//! at the best volume.
//!
//! The network is written for Gatefold, as the JSON that RTNeural, AIDA-X and GuitarML's NeuralPi and Proteus read, and as a
//! .nam file for Neural Amp Modeler; the test as it sounds, with a plot and spectrograms.

mod arguments;
mod guitar;
mod sound;

use arguments::{Arguments, cosine, print_network};
use clap::Parser;
use gatefold::{Device, Network, NetworkConfig, TrainConfig, Trainer};
use gatefold_model::file::{Model, amplifier};
use ndarray::{Array3, ArrayView3};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sound::{Picture, Sound, Spectra, write_spectrogram};
use std::error::Error;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Learns an amplifier from a dry and a wet recording
#[derive(Parser)]
struct Options {
    #[command(flatten)]
    arguments: Arguments,
    /// The sound that went into the amplifier, as WAV; a guitar is made if there is none
    #[arg(long, requires = "wet")]
    dry: Option<PathBuf>,
    /// The sound that came out, with the same rate and the same beginning
    #[arg(long, requires = "dry")]
    wet: Option<PathBuf>,
    /// Units of the LSTM; NeuralPi has 20, Proteus 40
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1024))]
    units: u16,
    /// Passes over the recording [default: 20]
    #[arg(long)]
    epochs: Option<usize>,
    /// Folder for the results
    #[arg(long, default_value = ".")]
    out: PathBuf,
}

/// Samples from one update to the next, and the most that gradients go back.
const WINDOW: usize = 512;
const LEARNING_RATE: f32 = 8e-3;
/// The zero of the pre-emphasis filter.
const EMPHASIS: f32 = 0.95;
/// The power of a sample below which silence counts as that.
const SILENCE: f32 = 1e-5;
/// Samples of a block of the stream, 1.3 ms at 48 kHz.
const BLOCK: usize = 64;

/// A recording of both ends of an amplifier.
struct Recording {
    rate: u32,
    dry: Vec<f32>,
    wet: Vec<f32>,
}

impl Recording {
    fn read(dry: &Path, wet: &Path) -> Result<Recording, Box<dyn Error>> {
        let (dry, wet) = (Sound::read(dry)?, Sound::read(wet)?);
        if dry.rate != wet.rate {
            return Err(
                format!("the dry sound has {} samples a second, the wet one {}", dry.rate, wet.rate).into()
            );
        }
        let (shorter, longer) =
            (dry.samples.len().min(wet.samples.len()), dry.samples.len().max(wet.samples.len()));
        if longer - shorter > dry.rate as usize {
            let found = format!("{:.1} and {:.1} s", dry.seconds(), wet.seconds());
            return Err(
                format!("dry and wet: expected equally long sounds, found {found}; cut them alike").into()
            );
        }
        let cut = |sound: Sound| sound.samples[..shorter].to_vec();
        Ok(Recording { rate: dry.rate, dry: cut(dry), wet: cut(wet) })
    }

    fn made(seconds: f32, seed: u64) -> Recording {
        let rate = 48_000;
        let dry = guitar::guitar(rate, seconds, seed);
        let wet = guitar::amplify(&dry, rate);
        Recording { rate, dry, wet }
    }

    /// The samples for training, for choosing the best epoch, and for the test.
    fn parts(&self) -> Result<[Range<usize>; 3], Box<dyn Error>> {
        let len = self.dry.len();
        if len < 20 * self.rate as usize {
            let found = len as f64 / f64::from(self.rate);
            return Err(
                format!("expected at least 20 s of sound, better three minutes; found {found:.1} s").into()
            );
        }
        let (training, validation) = (len / 10 * 8, len / 10 * 9);
        Ok([0..training, training..validation, validation..len])
    }
}

/// The loss of windows that go on from one to the next.
struct Loss {
    /// For each strip, its last error and its last target.
    last: Vec<[f32; 2]>,
}

impl Loss {
    /// The loss of outputs `[T, B, 1]`, and its gradient with respect to them: the energy of the filtered error as a share of
    /// the filtered target's, plus the square of the mean error of each strip as a share of the target's power.
    fn next(&mut self, output: ArrayView3<f32>, target: ArrayView3<f32>) -> (f32, Array3<f32>) {
        let (steps, strips, _) = output.dim();
        let error = &output - &target;
        let mut filtered = Array3::zeros(output.raw_dim());
        let (mut energy, mut power) = (0.0, 0.0);
        for (strip, [error_before, target_before]) in self.last.iter_mut().enumerate() {
            for t in 0..steps {
                let (error, target) = (error[[t, strip, 0]], target[[t, strip, 0]]);
                filtered[[t, strip, 0]] = error - EMPHASIS * *error_before;
                energy += (target - EMPHASIS * *target_before).powi(2);
                power += target * target;
                (*error_before, *target_before) = (error, target);
            }
        }
        let samples = (steps * strips) as f32;
        let (energy, power) = (energy + samples * SILENCE, power / samples + SILENCE);
        let offsets: Vec<f32> =
            (0..strips).map(|strip| error.slice(ndarray::s![.., strip, 0]).sum() / steps as f32).collect();
        let ratio = filtered.iter().map(|value| value * value).sum::<f32>() / energy;
        let offset = offsets.iter().map(|mean| mean * mean).sum::<f32>() / strips as f32 / power;
        let gradient = Array3::from_shape_fn(output.raw_dim(), |(t, strip, _)| {
            let after = if t + 1 < steps { filtered[[t + 1, strip, 0]] } else { 0.0 };
            2.0 * (filtered[[t, strip, 0]] - EMPHASIS * after) / energy
                + 2.0 * offsets[strip] / (samples * power)
        });
        (ratio + offset, gradient)
    }
}

/// The error-to-signal ratio: the error's energy as a share of the target's, both filtered.
fn error_to_signal(output: &[f32], target: &[f32], emphasis: f32) -> f64 {
    let energy = |value: &dyn Fn(usize) -> f32| -> f64 {
        (1..target.len()).map(|t| f64::from(value(t) - emphasis * value(t - 1)).powi(2)).sum()
    };
    energy(&|t| output[t] - target[t]) / energy(&|t| target[t]).max(1e-12)
}

/// Trains a network, and returns it with the parameters of the epoch that did best on the validation part.
fn train(network: Network, recording: &Recording, options: &Options) -> Result<Network, Box<dyn Error>> {
    let [training, validation, _] = recording.parts()?;
    let arguments = &options.arguments;
    let epochs = options.epochs.unwrap_or(arguments.choose(20, 6)).max(1);
    // Strips that are trained side by side: enough for the device, and few enough for many updates.
    let strips = arguments.choose(48, 16);
    let mut trainer = Trainer::new(network, TrainConfig::new().clip_norm(Some(1.0)))?;
    let mut random = ChaCha8Rng::seed_from_u64(arguments.seed);
    let strip = training.len() / strips;
    // Every epoch begins up to one window later, so that the borders between windows move.
    let windows = strip / WINDOW - 1;
    let (mut best, mut best_ratio) = (trainer.network().parameters()?, f64::INFINITY);
    println!("\nepoch      loss   validation");
    for epoch in 0..epochs {
        let offset = random.random_range(0..WINDOW);
        let window = |samples: &[f32], number: usize| {
            let at = |(t, row, _): (usize, usize, usize)| samples[row * strip + offset + number * WINDOW + t];
            Array3::from_shape_fn((WINDOW, strips, 1), at)
        };
        // The first window only finds the states that the others go on from.
        let mut states = trainer.network().forward(window(&recording.dry, 0), None)?.states;
        let mut loss = Loss { last: vec![[0.0; 2]; strips] };
        let mut sum = 0.0;
        for number in 1..windows {
            let (dry, wet) = (window(&recording.dry, number), window(&recording.wet, number));
            let tape = trainer.network().forward_training(&dry, Some(&states), None)?;
            let (value, d_output) = loss.next(tape.output(), wet.view());
            states = tape.states().clone();
            let gradients = trainer.network().backward(tape, d_output.view(), None)?;
            trainer.set_learning_rate(cosine(LEARNING_RATE, epoch * windows + number, epochs * windows));
            trainer.apply(&gradients)?;
            sum += value;
        }
        let (output, _) = play(trainer.network(), &recording.dry[validation.clone()])?;
        let ratio = error_to_signal(&output, &recording.wet[validation.clone()], EMPHASIS);
        println!("{:>5} {:>9.4} {ratio:>12.4}", epoch + 1, sum / (windows - 1) as f32);
        if ratio < best_ratio {
            (best, best_ratio) = (trainer.network().parameters()?, ratio);
        }
    }
    trainer.set_parameters(&best)?;
    Ok(trainer.into_network())
}

/// Plays a sound through the network block by block, and measures the seconds that it takes.
fn play(network: &Network, dry: &[f32]) -> Result<(Vec<f32>, f64), Box<dyn Error>> {
    let mut stream = network.stream(1)?;
    // The first block sets the stream up.
    stream.advance(Array3::zeros((BLOCK, 1, 1)).view())?;
    stream.reset()?;
    let mut wet = Vec::with_capacity(dry.len());
    let started = Instant::now();
    for block in dry.chunks(BLOCK) {
        wet.extend(stream.advance(ArrayView3::from_shape((block.len(), 1, 1), block)?)?);
    }
    Ok((wet, started.elapsed().as_secs_f64()))
}

/// The best curve from dry to wet sample: the mean of the wet ones for each of many levels of the dry one.
fn curve(dry: &[f32], wet: &[f32]) -> impl Fn(f32) -> f32 {
    const LEVELS: usize = 512;
    let level = |sample: f32| ((sample.clamp(-1.0, 1.0) + 1.0) / 2.0 * (LEVELS - 1) as f32).round() as usize;
    let mut means = vec![(0.0_f64, 0.0_f64); LEVELS];
    for (&dry, &wet) in dry.iter().zip(wet) {
        let (sum, count) = &mut means[level(dry)];
        (*sum, *count) = (*sum + f64::from(wet), *count + 1.0);
    }
    move |sample| {
        let (sum, count) = means[level(sample)];
        (sum / count.max(1.0)) as f32
    }
}

/// The dry sound at the volume that comes nearest to the wet one.
fn volume(dry: &[f32], wet: &[f32]) -> f32 {
    let product = |one: &[f32], other: &[f32]| -> f32 { one.iter().zip(other).map(|(a, b)| a * b).sum() };
    product(dry, wet) / product(dry, dry).max(1e-12)
}

fn print_ratios(name: &str, output: &[f32], wet: &[f32]) {
    let [filtered, plain] = [EMPHASIS, 0.0].map(|emphasis| error_to_signal(output, wet, emphasis));
    println!("{name:<10} {filtered:>10.5} {plain:>10.5}");
}

/// Draws 20 ms around the loudest sample: the amplifier in black, the network in orange over it, their difference below.
fn draw(path: &Path, rate: u32, wet: &[f32], output: &[f32]) -> Result<(), Box<dyn Error>> {
    let (width, height) = (960, 480);
    let shown = rate as usize / 50;
    let loudest = (0..wet.len()).max_by(|&a, &b| wet[a].abs().total_cmp(&wet[b].abs())).unwrap_or(0);
    let begin = loudest.saturating_sub(shown / 2).min(wet.len().saturating_sub(shown));
    let peak = wet[loudest].abs().max(1e-3);
    let mut picture = Picture::new(width, height);
    let mut line = |middle: f32, value: &dyn Fn(usize) -> f32, color: [u8; 3]| {
        let at = |x: usize| (middle - 150.0 * value(begin + x * (shown - 1) / width) / peak) as usize;
        (1..width).for_each(|x| picture.line(x, at(x - 1), at(x), color));
    };
    line(200.0, &|_| 0.0, [200, 200, 200]);
    line(200.0, &|t| wet[t], [0, 0, 0]);
    line(200.0, &|t| output[t], [230, 120, 0]);
    line(420.0, &|_| 0.0, [200, 200, 200]);
    line(420.0, &|t| output[t] - wet[t], [200, 0, 60]);
    picture.write(path)
}

/// Writes the network for plugins, and prints what there is to know about the files.
fn write_model(network: &Network, rate: u32, out: &Path) -> Result<(), Box<dyn Error>> {
    let metadata = [("sample_rate".to_owned(), rate.to_string())].into();
    let model = Model { config: network.config().clone(), parameters: network.parameters()?, metadata };
    model.save(out.join("amp.safetensors"))?;
    let rate = Some(f64::from(rate));
    for (name, file) in
        [("amp.json", amplifier::json(&model, rate)?), ("amp.nam", amplifier::nam(&model, rate)?)]
    {
        file.write(out.join(name))?;
        println!("{name}");
        file.notes.iter().for_each(|note| println!("           {note}"));
    }
    Ok(())
}

/// The learned amplifier, on the test part.
fn test(network: &Network, recording: &Recording, out: &Path) -> Result<(), Box<dyn Error>> {
    let [training, _, part] = recording.parts()?;
    let (dry, wet) = (&recording.dry[part.clone()], &recording.wet[part]);
    let (output, seconds) = play(network, dry)?;
    let (dry_before, wet_before) = (&recording.dry[training.clone()], &recording.wet[training]);
    let (curve, volume) = (curve(dry_before, wet_before), volume(dry_before, wet_before));
    let sound = |samples: Vec<f32>| Sound { rate: recording.rate, samples };
    println!("\nerror-to-signal ratio of the test: filtered, plain");
    print_ratios("lstm", &output, wet);
    print_ratios("curve", &dry.iter().map(|&sample| curve(sample)).collect::<Vec<f32>>(), wet);
    print_ratios("dry", &dry.iter().map(|sample| volume * sample).collect::<Vec<f32>>(), wet);
    draw(&out.join("amp.png"), recording.rate, wet, &output)?;
    let mut spectra = Spectra::new(1024, 1024, 512);
    let sounds = [("dry", sound(dry.to_vec())), ("wet", sound(wet.to_vec())), ("predicted", sound(output))];
    let sound_seconds = sounds[0].1.seconds();
    for (name, sound) in &sounds {
        sound.write(&out.join(format!("{name}_test.wav")))?;
        write_spectrogram(&out.join(format!("{name}_test.png")), &spectra.of(&sound.samples))?;
    }
    println!("\nstream     {seconds:.2} s for {sound_seconds:.2} s in blocks of {BLOCK}");
    println!("factor     {:.4}", seconds / sound_seconds);
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::parse();
    let arguments = &options.arguments;
    std::fs::create_dir_all(&options.out)?;
    let recording = match (&options.dry, &options.wet) {
        (Some(dry), Some(wet)) => Recording::read(dry, wet)?,
        _ => Recording::made(arguments.choose(180, 20) as f32, arguments.seed),
    };
    let device: Device = arguments.open()?;
    let seconds = recording.dry.len() as f64 / f64::from(recording.rate);
    println!("sound    {seconds:.1} s of {} Hz", recording.rate);
    let config =
        NetworkConfig::with_input(1).lstm(usize::from(options.units)).dense(1).residual(0).build()?;
    print_network(&config);
    let network = Network::new(&device, &config, arguments.seed)?;
    let network = train(network, &recording, &options)?;
    test(&network, &recording, &options.out)?;
    write_model(&network, recording.rate, &options.out)?;
    arguments.print_seconds();
    Ok(())
}
