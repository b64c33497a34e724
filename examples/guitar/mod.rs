//! A guitar and an amplifier made in code, for whoever has no recording of both.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::f32::consts::TAU;

/// Chords and riffs on plucked strings (Karplus and Strong 1983), soft and loud, from the low E to the twelfth fret of the
/// high one.
pub(crate) fn guitar(rate: u32, seconds: f32, seed: u64) -> Vec<f32> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut sound = vec![0.0; (seconds * rate as f32) as usize];
    let mut begin = rate as usize / 5;
    while begin < sound.len() {
        let beat = random.random_range(0.12..0.7_f32);
        // Muted strings stop within a tenth of a second; others ring into what comes next.
        let ringing = if random.random_bool(0.2) { 0.1 } else { beat + random.random_range(0.1..1.2) };
        let loudness = random.random_range(0.08..1.0_f32);
        let root = random.random_range(40..70);
        let chord: &[i32] = match random.random_range(0..5) {
            0 => &[0, 7, 12, 16, 19, 24],
            1 => &[0, 7, 12, 15, 19],
            2 => &[0, 7, 12],
            _ => &[0],
        };
        for (string, interval) in chord.iter().enumerate() {
            let pitch = 440.0 * 2.0_f32.powf((root + interval - 69) as f32 / 12.0);
            // A strum takes its time from string to string.
            let at = begin + string * random.random_range(200..700);
            pluck(&mut sound, at, rate, pitch, ringing, loudness, &mut random);
        }
        begin += (beat * rate as f32) as usize;
        if random.random_bool(0.06) {
            begin += rate as usize / 2;
        }
    }
    let sound = pickup(&sound, rate);
    let loudest = sound.iter().fold(1e-6_f32, |most, sample| most.max(sample.abs()));
    sound.iter().map(|sample| 0.8 * sample / loudest).collect()
}

/// Adds a string: noise that goes round a delay and loses its high tones, until the string is damped.
fn pluck(
    sound: &mut [f32],
    begin: usize,
    rate: u32,
    pitch: f32,
    ringing: f32,
    loudness: f32,
    random: &mut ChaCha8Rng,
) {
    let period = ((rate as f32 / pitch) as usize).max(4);
    let noise: Vec<f32> = (0..period).map(|_| random.random_range(-1.0..1.0_f32)).collect();
    // Plucked at a fifth of its length, where every fifth harmonic is missing.
    let place = period / 5;
    let mut string: Vec<f32> = (0..period).map(|k| noise[k] - noise[(k + place) % period]).collect();
    let (mut held, len) = (0.0_f32, (ringing * rate as f32) as usize);
    for (step, sample) in sound.iter_mut().skip(begin).take(len + rate as usize / 20).enumerate() {
        let at = step % period;
        let damping = if step < len { 0.998 } else { 0.9 };
        let next = damping * (0.5 * string[at] + 0.5 * held);
        held = string[at];
        string[at] = next;
        *sample += loudness * next;
    }
}

/// A pickup: a resonance at 3.5 kHz, and nothing below 60 Hz.
fn pickup(strings: &[f32], rate: u32) -> Vec<f32> {
    let angle = TAU * 3500.0 / rate as f32;
    let radius = 0.7_f32;
    let (a, b) = (2.0 * radius * angle.cos(), -radius * radius);
    let mut high_pass = HighPass::new(60.0, rate);
    let mut past = [0.0_f32; 2];
    let resonate = |sample: &f32| {
        let out = (1.0 - a - b) * sample + a * past[0] + b * past[1];
        past = [out, past[0]];
        high_pass.next(out)
    };
    strings.iter().map(resonate).collect()
}

/// A first-order filter that lets fast changes pass.
struct HighPass {
    factor: f32,
    low: f32,
}

impl HighPass {
    fn new(hertz: f32, rate: u32) -> HighPass {
        HighPass { factor: 1.0 - (-TAU * hertz / rate as f32).exp(), low: 0.0 }
    }

    fn next(&mut self, sample: f32) -> f32 {
        self.low += self.factor * (sample - self.low);
        sample - self.low
    }
}

/// The steps of the amplifier between two samples, so that its distortion makes few tones above half the rate, which would
/// come back as others.
const OVERSAMPLING: u32 = 4;

/// An amplifier with a memory: loud notes charge a capacitor that moves the first stage's working point, and draw the
/// supply down, from which it recovers within a tenth of a second; so the same sample sounds different after a loud one.
pub(crate) fn amplify(dry: &[f32], rate: u32) -> Vec<f32> {
    let fast = OVERSAMPLING * rate;
    let towards = |seconds: f32| 1.0 - (-1.0 / (seconds * fast as f32)).exp();
    let (charge, discharge) = (towards(0.004), towards(0.04));
    let (draw, recover) = (towards(0.01), towards(0.1));
    let (mut input, mut between) = (HighPass::new(70.0, fast), HighPass::new(30.0, fast));
    let mut tone = HighPass::new(5000.0, fast);
    let (mut working_point, mut sag, mut before) = (0.0_f32, 0.0_f32, 0.0_f32);
    let mut out = Vec::with_capacity(dry.len());
    for &sample in dry {
        let mut sum = 0.0;
        for step in 1..=OVERSAMPLING {
            let place = step as f32 / OVERSAMPLING as f32;
            let driven = 7.0 * input.next(before + (sample - before) * place);
            let over = (driven - working_point - 1.0).max(0.0);
            working_point +=
                if over > 0.0 { charge * (over - 0.2 * working_point) } else { -discharge * working_point };
            let first = between.next(triode(driven - working_point));
            let level = first.abs();
            sag += if level > sag { draw } else { recover } * (level - sag);
            let second = (3.0 / (1.0 + 1.5 * sag) * first).tanh();
            sum += second - tone.next(second);
        }
        before = sample;
        out.push(0.7 * sum / OVERSAMPLING as f32);
    }
    out
}

/// A curve that bends sooner upwards than downwards.
fn triode(volts: f32) -> f32 {
    if volts > 0.0 { volts.tanh() } else { 1.5 * (volts / 1.5).atan() }
}
