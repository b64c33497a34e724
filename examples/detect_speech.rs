//! Finds where somebody speaks in a recording, chunk by chunk, with a speech detector's ONNX file.
//!
//! ```text
//! cargo run --release --example detect_speech -- silero_vad.onnx [recording.wav]
//! ```
//!
//! The model reads chunks of samples `[batch, samples]` of 16 kHz and gives the probability of speech for each, as
//! Silero's does (the packages silero-vad and @ricky0123/vad-web have several versions): its newer versions read 512
//! samples after the last 64 of the chunk before, older ones (`--context 0 --chunk 1536`) only their own. An input of
//! whole numbers is the sample rate. States go on from chunk to chunk. Without a recording it makes one: a voice with
//! pauses. Prints the segments and the real-time factor; writes speech.png: the sound above, the probability below,
//! segments in grey.

mod sound;

use clap::Parser;
use gatefold::{Device, DeviceChoice};
use gatefold_onnx::{ElementType, OnnxModel, StreamOptions, Tensor};
use ndarray::{ArrayD, IxDyn};
use sound::{Picture, Sound, voice};
use std::collections::BTreeMap;
use std::error::Error;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Instant;

/// Finds where somebody speaks in a recording with a speech detector's ONNX file
#[derive(Parser)]
struct Arguments {
    /// The detector: chunks of samples in, probabilities out
    model: PathBuf,
    /// The recording, of 16 kHz; a voice with pauses is made if there is none
    recording: Option<PathBuf>,
    /// Folder for the results
    #[arg(long, default_value = ".")]
    out: PathBuf,
    /// auto, gpu, cpu, or part of an adapter's name
    #[arg(long, default_value = "cpu")]
    device: DeviceChoice,
    /// New samples in a call
    #[arg(long, default_value = "512")]
    chunk: NonZeroUsize,
    /// Samples of the chunk before that come first
    #[arg(long, default_value_t = 64)]
    context: usize,
    /// The probability from which on somebody speaks; below it by 0.15, nobody does
    #[arg(long, default_value_t = 0.5)]
    threshold: f32,
}

const RATE: u32 = 16_000;
/// Shorter pauses belong to a segment, in seconds.
const PAUSE: f64 = 0.3;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let model = OnnxModel::read(&arguments.model)?;
    let (recording, spoken) = match &arguments.recording {
        Some(path) => (Sound::read(path)?, None),
        None => {
            let (made, spoken) = voice(RATE, 4, 3);
            (made.with_noise(0.003, 4), Some(spoken))
        }
    };
    if recording.rate != RATE {
        return Err(
            format!("the recording has {} samples a second; the model takes {RATE}", recording.rate).into()
        );
    }
    let device = Device::open(&arguments.device)?;
    println!("device     {}", device.summary());
    let mut stream = model.on(&device).stream(StreamOptions::new(1))?;
    println!("states     {}", stream.state_names().join(", "));
    let output = stream.outputs().first().ok_or("the model has no output")?.name.clone();
    let ports = stream.inputs();
    let inputs = |samples: &[f32]| -> Result<BTreeMap<String, Tensor>, Box<dyn Error>> {
        let mut inputs = BTreeMap::new();
        for port in &ports {
            let tensor = match port.element {
                Some(ElementType::I64 | ElementType::I32) => {
                    let axes = vec![1; port.shape.as_ref().map_or(0, Vec::len)];
                    Tensor::I64(ArrayD::from_elem(IxDyn(&axes), i64::from(RATE)))
                }
                _ => Tensor::F32(ArrayD::from_shape_vec(IxDyn(&[1, samples.len()]), samples.to_vec())?),
            };
            inputs.insert(port.name.clone(), tensor);
        }
        Ok(inputs)
    };
    let padded: Vec<f32> =
        std::iter::repeat_n(0.0, arguments.context).chain(recording.samples.iter().copied()).collect();
    let chunk = arguments.chunk.get();
    let chunks: Vec<&[f32]> = padded.windows(arguments.context + chunk).step_by(chunk).collect();
    match recording.samples.len() % chunk {
        0 => {}
        rest => println!("left out   the last {rest} samples, which fill no chunk"),
    }
    // The first call sets the layers up.
    stream.run(&inputs(chunks.first().ok_or("the recording is shorter than a chunk")?)?)?;
    stream.reset();
    let started = Instant::now();
    let mut probabilities = Vec::with_capacity(chunks.len());
    for samples in chunks {
        match stream.run(&inputs(samples)?)?.remove(&output) {
            Some(Tensor::F32(found)) if found.len() == 1 => probabilities.extend(found),
            _ => return Err(format!("output {output}: expected one probability").into()),
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    let each = chunk as f64 / f64::from(RATE);
    let segments = segments(&probabilities, arguments.threshold, each);
    for (begin, end) in &segments {
        println!("speech     {begin:6.2} to {end:6.2} s");
    }
    for (begin, end) in spoken.iter().flatten() {
        println!("made       {begin:6.2} to {end:6.2} s");
    }
    std::fs::create_dir_all(&arguments.out)?;
    let path = arguments.out.join("speech.png");
    draw(&recording, &probabilities, &segments).write(&path)?;
    recording.write(&arguments.out.join("speech.wav"))?;
    println!("plot       {}", path.display());
    let length = recording.seconds();
    println!("time       {seconds:.2} s for {length:.2} s of sound, factor {:.3}", seconds / length);
    Ok(())
}

/// The times of speech, in seconds, from probabilities that are `each` seconds apart.
fn segments(probabilities: &[f32], threshold: f32, each: f64) -> Vec<(f64, f64)> {
    let mut found: Vec<(f64, f64)> = Vec::new();
    let mut begin = None;
    // Nobody speaks after the end, whatever the threshold.
    for (at, &probability) in probabilities.iter().chain(&[f32::NEG_INFINITY]).enumerate() {
        let time = at as f64 * each;
        match begin {
            None if probability >= threshold => begin = Some(time),
            Some(start) if probability < threshold - 0.15 => {
                match found.last_mut().filter(|last| start - last.1 < PAUSE) {
                    Some(last) => last.1 = time,
                    None => found.push((start, time)),
                }
                begin = None;
            }
            _ => {}
        }
    }
    found
}

/// The sound above and the probability below.
fn draw(recording: &Sound, probabilities: &[f32], segments: &[(f64, f64)]) -> Picture {
    let (width, half) = (1200, 150);
    let mut picture = Picture::new(width, 2 * half + 10);
    let all = recording.samples.len();
    let mut before = 2 * half;
    for x in 0..width {
        let time = (x as f64 + 0.5) / width as f64 * recording.seconds();
        if segments.iter().any(|&(begin, end)| (begin..end).contains(&time)) {
            picture.line(x, 0, 2 * half + 9, [225, 225, 225]);
        }
        let part =
            &recording.samples[x * all / width..((x + 1) * all / width).max(x * all / width + 1).min(all)];
        let (low, high) = part.iter().fold((0.0_f32, 0.0_f32), |(low, high), &s| (low.min(s), high.max(s)));
        let row = |value: f32| (half as f32 / 2.0 * (1.0 - value.clamp(-1.0, 1.0))) as usize;
        picture.line(x, row(high), row(low), [60, 90, 160]);
        let probability = probabilities[(x * probabilities.len() / width).min(probabilities.len() - 1)];
        let now = half + 5 + (half as f32 * (1.0 - probability)) as usize;
        picture.line(x, if x == 0 { now } else { before }, now, [200, 60, 30]);
        before = now;
    }
    picture
}
