//! A peer's side of the conversation with `compare`: one JSON object a line, requests on stdin, answers on stdout.
//!
//! ```text
//! {"load": {"folder": "…", "cell": "lstm", "batch": 1, …, "mode": "infer"}}   {"values": [0.1, …]} or {"refused": "why"}
//! {"run": {"calls": 20}}                                                      {"us": [81.2, …]}
//! ```
//!
//! `load` prepares a case and gives the results of its first calls, for `compare` to check. `run` times calls.

use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::error::Error;
use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::time::Instant;
use std::{fs, io};

pub type Failure = Box<dyn Error>;

/// One call of what is timed. It returns its results in time-major order: outputs, or the loss of a training step.
pub type Call = Box<dyn FnMut() -> Result<Vec<f32>, Failure>>;

/// A network of recurrent layers and a dense head that gives one value a step, a batch for it, and what to do with them.
#[derive(Clone, Debug, Deserialize)]
pub struct Case {
    /// The folder with the weights and the batch.
    folder: PathBuf,
    /// `lstm`, `gru` or `rnn`.
    pub cell: String,
    pub batch: usize,
    pub steps: usize,
    pub input: usize,
    pub hidden: usize,
    pub layers: usize,
    pub directions: usize,
    pub mode: Mode,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// The outputs of the whole batch.
    Infer,
    /// A training step: forward, mean squared error, backward, Adam at a learning rate of 0.001.
    Train,
    /// One step of one stream, with the state carried on.
    Stream,
}

/// A tensor of the weight file: its shape and its values.
pub type Tensor = (Vec<usize>, Vec<f32>);

impl Case {
    /// PyTorch's state_dict of `rnn` and `head`, as safetensors.
    pub fn weights(&self) -> PathBuf {
        self.folder.join("weights.safetensors")
    }

    /// The tensors of the weight file, by name.
    pub fn tensors(&self) -> Result<BTreeMap<String, Tensor>, Failure> {
        let bytes = fs::read(self.weights())?;
        let (length, rest) = bytes.split_first_chunk::<8>().ok_or("the weight file is empty")?;
        let (header, data) = rest.split_at(u64::from_le_bytes(*length) as usize);
        #[derive(Deserialize)]
        struct Entry {
            shape: Vec<usize>,
            data_offsets: [usize; 2],
        }
        let entries: BTreeMap<String, Entry> = serde_json::from_slice(header)?;
        let tensor = |Entry { shape, data_offsets: [from, to] }| (shape, floats(&data[from..to]));
        Ok(entries.into_iter().map(|(name, entry)| (name, tensor(entry))).collect())
    }

    /// The network as an ONNX model.
    pub fn onnx(&self) -> PathBuf {
        self.folder.join("model.onnx")
    }

    /// `[T, B, I]`
    pub fn inputs(&self) -> Result<Vec<f32>, Failure> {
        Ok(floats(&fs::read(self.folder.join("input.f32"))?))
    }

    /// `[T, B, 1]`
    pub fn targets(&self) -> Result<Vec<f32>, Failure> {
        Ok(floats(&fs::read(self.folder.join("target.f32"))?))
    }

    /// Turns `[T, B, width]` into `[B, T, width]`.
    pub fn batch_first(&self, values: &[f32]) -> Vec<f32> {
        swapped(values, self.steps, self.batch)
    }

    /// Turns `[B, T, width]` into `[T, B, width]`.
    pub fn time_major(&self, values: &[f32]) -> Vec<f32> {
        swapped(values, self.batch, self.steps)
    }

    /// The calls whose results are checked.
    fn checked(&self) -> usize {
        match self.mode {
            Mode::Infer => 1,
            Mode::Train => 3,
            Mode::Stream => self.steps,
        }
    }
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().expect("four bytes"))).collect()
}

/// Swaps the two outer axes of `[outer, inner, width]`.
fn swapped(values: &[f32], outer: usize, inner: usize) -> Vec<f32> {
    let width = values.len() / (outer * inner);
    let row = |at: usize| &values[at * width..(at + 1) * width];
    (0..inner).flat_map(|i| (0..outer).flat_map(move |o| row(o * inner + i))).copied().collect()
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Request {
    Load(Case),
    Run { calls: usize },
}

/// Answers requests until stdin ends. A case that `load` refuses, or whose first calls fail, is reported and left out.
pub fn serve(mut load: impl FnMut(&Case) -> Result<Call, Failure>) -> Result<(), Failure> {
    let mut loaded: Option<Call> = None;
    for line in io::stdin().lock().lines() {
        let answer: Value = match serde_json::from_str(&line?)? {
            Request::Load(case) => {
                loaded = None; // frees the case before
                match load(&case).and_then(|call| first(call, case.checked())) {
                    Ok((call, values)) => {
                        loaded = Some(call);
                        json!({ "values": values })
                    }
                    Err(why) => json!({ "refused": why.to_string() }),
                }
            }
            Request::Run { calls } => {
                let call = loaded.as_mut().ok_or("run before load")?;
                json!({ "us": time(call, calls)? })
            }
        };
        let mut out = io::stdout().lock();
        writeln!(out, "{answer}")?;
        out.flush()?;
    }
    Ok(())
}

fn first(mut call: Call, calls: usize) -> Result<(Call, Vec<f32>), Failure> {
    let mut values = Vec::new();
    for _ in 0..calls {
        values.extend(call()?);
    }
    Ok((call, values))
}

fn time(call: &mut Call, calls: usize) -> Result<Vec<f64>, Failure> {
    let mut times = Vec::with_capacity(calls);
    for _ in 0..calls {
        let start = Instant::now();
        let values = call()?;
        times.push(start.elapsed().as_secs_f64() * 1e6);
        std::hint::black_box(values);
    }
    Ok(times)
}
