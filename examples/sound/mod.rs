//! Sound for the examples: WAV files, a voice made in code, spectra, and spectrograms as PNG files.

#![allow(dead_code, reason = "each example compiles its own copy of this module, and none needs all of it")]

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rustfft::FftPlannerScalar;
use rustfft::num_complex::Complex;
use std::error::Error;
use std::f32::consts::TAU;
use std::path::Path;

/// One channel of samples from -1 to 1.
pub(crate) struct Sound {
    pub(crate) rate: u32,
    pub(crate) samples: Vec<f32>,
}

impl Sound {
    /// Reads a WAV file; several channels are averaged.
    pub(crate) fn read(path: &Path) -> Result<Sound, Box<dyn Error>> {
        let mut file =
            hound::WavReader::open(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let spec = file.spec();
        let samples: Vec<f32> = match spec.sample_format {
            hound::SampleFormat::Float => file.samples::<f32>().collect::<Result<_, _>>()?,
            hound::SampleFormat::Int => {
                let scale = 1.0 / (1u64 << (spec.bits_per_sample - 1)) as f32;
                file.samples::<i32>()
                    .map(|value| value.map(|value| value as f32 * scale))
                    .collect::<Result<_, _>>()?
            }
        };
        let channels = usize::from(spec.channels);
        let mono = samples.chunks(channels).map(|all| all.iter().sum::<f32>() / channels as f32).collect();
        Ok(Sound { rate: spec.sample_rate, samples: mono })
    }

    /// Writes a WAV file of 16 bits; louder samples than 1 are clipped.
    pub(crate) fn write(&self, path: &Path) -> Result<(), Box<dyn Error>> {
        let spec = hound::WavSpec {
            channels: 1,
            sample_rate: self.rate,
            bits_per_sample: 16,
            sample_format: hound::SampleFormat::Int,
        };
        let mut file = hound::WavWriter::create(path, spec)?;
        for sample in &self.samples {
            file.write_sample((sample.clamp(-1.0, 1.0) * 32767.0).round() as i16)?;
        }
        Ok(file.finalize()?)
    }

    pub(crate) fn seconds(&self) -> f64 {
        self.samples.len() as f64 / f64::from(self.rate)
    }

    /// Adds hiss and a hum of 50 Hz with its harmonics.
    pub(crate) fn with_noise(mut self, level: f32, seed: u64) -> Sound {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        for (at, sample) in self.samples.iter_mut().enumerate() {
            let phase = TAU * 50.0 * at as f32 / self.rate as f32;
            let hum: f32 = (1..=5).map(|k| (phase * k as f32).sin() / k as f32).sum();
            *sample += level * (random.random_range(-1.0..1.0_f32) + 0.3 * hum);
        }
        self
    }
}

/// The first three resonances of a few vowels, in Hz.
const VOWELS: [[f32; 3]; 5] = [
    [730.0, 1090.0, 2440.0],
    [270.0, 2290.0, 3010.0],
    [300.0, 870.0, 2240.0],
    [530.0, 1840.0, 2480.0],
    [570.0, 840.0, 2410.0],
];

/// A voice: phrases of syllables, each a burst of noise and a vowel, with pauses of a second between them. Returns the
/// sound and the phrases' begins and ends in seconds.
pub(crate) fn voice(rate: u32, phrases: usize, seed: u64) -> (Sound, Vec<(f32, f32)>) {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let (mut samples, mut spoken) = (Vec::new(), Vec::new());
    let silence = |seconds: f32| vec![0.0; (seconds * rate as f32) as usize];
    for _ in 0..phrases {
        samples.extend(silence(1.0));
        let begin = samples.len() as f32 / rate as f32;
        let base = random.random_range(95.0..140.0);
        for syllable in 0..random.random_range(5..9) {
            samples.extend(consonant(rate, &mut random));
            // The pitch falls through a phrase.
            let pitch = base * (1.15 - 0.04 * syllable as f32);
            samples.extend(vowel(rate, pitch, VOWELS[random.random_range(0..VOWELS.len())], &mut random));
        }
        spoken.push((begin, samples.len() as f32 / rate as f32));
    }
    samples.extend(silence(1.0));
    let loudest = samples.iter().fold(1e-6_f32, |most, sample| most.max(sample.abs()));
    samples.iter_mut().for_each(|sample| *sample *= 0.6 / loudest);
    (Sound { rate, samples }, spoken)
}

/// High noise that rises and falls.
fn consonant(rate: u32, random: &mut ChaCha8Rng) -> Vec<f32> {
    let len = (random.random_range(0.03..0.08) * rate as f32) as usize;
    let mut before = 0.0;
    (0..len)
        .map(|at| {
            let noise = random.random_range(-1.0..1.0_f32);
            let high = noise - before;
            before = noise;
            0.05 * high * (std::f32::consts::PI * at as f32 / len as f32).sin()
        })
        .collect()
}

/// Pulses of a glottis through three resonances.
fn vowel(rate: u32, pitch: f32, formants: [f32; 3], random: &mut ChaCha8Rng) -> Vec<f32> {
    let len = (random.random_range(0.12..0.22) * rate as f32) as usize;
    let mut phase = 0.0_f32;
    let mut filters = [[0.0_f32; 2]; 3];
    (0..len)
        .map(|at| {
            let vibrato =
                1.0 + 0.02 * (TAU * 5.0 * at as f32 / rate as f32).sin() + random.random_range(-0.01..0.01);
            phase = (phase + pitch * vibrato / rate as f32).fract();
            // Opens slowly, closes at once.
            let mut signal =
                if phase < 0.6 { phase } else { -0.4 * (1.0 - phase) } + random.random_range(-0.02..0.02);
            for (state, formant) in filters.iter_mut().zip(formants) {
                let width = 60.0 + 0.06 * formant;
                let r = (-std::f32::consts::PI * width / rate as f32).exp();
                let (a, b) = (2.0 * r * (TAU * formant / rate as f32).cos(), -r * r);
                let out = signal * (1.0 - a - b) + a * state[0] + b * state[1];
                *state = [out, state[0]];
                signal = out;
            }
            let (rise, fall) = (at as f32 / (0.02 * rate as f32), (len - at) as f32 / (0.04 * rate as f32));
            signal * rise.min(fall).min(1.0)
        })
        .collect()
}

/// The frames of a sound as spectra, and back: a root of Hann's window on both ways, whose squares add up to 1 at half a
/// window's distance.
pub(crate) struct Spectra {
    window: Vec<f32>,
    len: usize,
    hop: usize,
    planner: FftPlannerScalar<f32>,
}

impl Spectra {
    /// With windows of `window` samples, transforms of `len`, and `hop` samples from frame to frame.
    pub(crate) fn new(window: usize, len: usize, hop: usize) -> Spectra {
        let hann = |at: usize| (std::f32::consts::PI * at as f32 / window as f32).sin();
        Spectra { window: (0..window).map(hann).collect(), len, hop, planner: FftPlannerScalar::new() }
    }

    /// The frames' spectra, `len / 2 + 1` numbers each.
    pub(crate) fn of(&mut self, samples: &[f32]) -> Vec<Vec<Complex<f32>>> {
        let transform = self.planner.plan_fft_forward(self.len);
        let frames = samples.len().saturating_sub(self.window.len()) / self.hop + 1;
        (0..frames)
            .map(|frame| {
                let part = samples.iter().skip(frame * self.hop).chain(std::iter::repeat(&0.0));
                let mut values: Vec<Complex<f32>> =
                    part.zip(&self.window).map(|(sample, weight)| Complex::from(sample * weight)).collect();
                values.resize(self.len, Complex::default());
                transform.process(&mut values);
                values.truncate(self.len / 2 + 1);
                values
            })
            .collect()
    }

    /// The sound of spectra: frames are added where they overlap, and divided by what their windows add up to.
    pub(crate) fn sound(&mut self, spectra: &[Vec<Complex<f32>>]) -> Vec<f32> {
        let transform = self.planner.plan_fft_inverse(self.len);
        let all = spectra.len().saturating_sub(1) * self.hop + self.window.len();
        let (mut samples, mut weights) = (vec![0.0; all], vec![0.0_f32; all]);
        for (frame, spectrum) in spectra.iter().enumerate() {
            let mut values = spectrum.clone();
            // The rest of the spectrum of real numbers is the mirror image.
            values.extend((spectrum.len()..self.len).map(|at| spectrum[self.len - at].conj()));
            transform.process(&mut values);
            for (at, (value, weight)) in values.iter().zip(&self.window).enumerate() {
                samples[frame * self.hop + at] += value.re / self.len as f32 * weight;
                weights[frame * self.hop + at] += weight * weight;
            }
        }
        samples.iter().zip(&weights).map(|(sample, weight)| sample / weight.max(1e-3)).collect()
    }
}

/// Writes the power of spectra as a picture: time to the right, frequency up, 80 dB from dark to bright.
pub(crate) fn write_spectrogram(path: &Path, spectra: &[Vec<Complex<f32>>]) -> Result<(), Box<dyn Error>> {
    let (width, height) = (spectra.len(), spectra.first().map_or(0, Vec::len));
    let power = |frame: usize, bin: usize| 10.0 * (spectra[frame][bin].norm_sqr() + 1e-12).log10();
    let loudest =
        (0..width).flat_map(|frame| (0..height).map(move |bin| power(frame, bin))).fold(-120.0, f32::max);
    let mut picture = Picture::new(width, height);
    for frame in 0..width {
        for bin in 0..height {
            let level = ((power(frame, bin) - loudest) / 80.0 + 1.0).clamp(0.0, 1.0);
            picture.set(frame, height - 1 - bin, heat(level));
        }
    }
    picture.write(path)
}

/// Black through violet and orange to white.
fn heat(level: f32) -> [u8; 3] {
    const STOPS: [[f32; 3]; 5] = [
        [0.0, 0.0, 4.0],
        [80.0, 18.0, 123.0],
        [182.0, 54.0, 121.0],
        [251.0, 136.0, 97.0],
        [252.0, 253.0, 191.0],
    ];
    let place = level * (STOPS.len() - 1) as f32;
    let at = (place as usize).min(STOPS.len() - 2);
    std::array::from_fn(|k| {
        let (low, high) = (STOPS[at][k], STOPS[at + 1][k]);
        (low + (high - low) * (place - at as f32)) as u8
    })
}

/// A picture of red, green and blue.
pub(crate) struct Picture {
    width: usize,
    height: usize,
    pixels: Vec<u8>,
}

impl Picture {
    /// A white picture.
    pub(crate) fn new(width: usize, height: usize) -> Picture {
        Picture { width, height, pixels: vec![255; 3 * width * height] }
    }

    pub(crate) fn set(&mut self, x: usize, y: usize, color: [u8; 3]) {
        if x < self.width && y < self.height {
            let at = 3 * (y * self.width + x);
            self.pixels[at..at + 3].copy_from_slice(&color);
        }
    }

    /// A vertical line.
    pub(crate) fn line(&mut self, x: usize, from: usize, to: usize, color: [u8; 3]) {
        for y in from.min(to)..=from.max(to) {
            self.set(x, y, color);
        }
    }

    pub(crate) fn write(&self, path: &Path) -> Result<(), Box<dyn Error>> {
        let file = std::io::BufWriter::new(std::fs::File::create(path)?);
        let mut encoder = png::Encoder::new(file, u32::try_from(self.width)?, u32::try_from(self.height)?);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        Ok(encoder.write_header()?.write_image_data(&self.pixels)?)
    }
}
