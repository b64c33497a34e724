//! Times a model on one thread of the CPU: `time_model MODEL SECONDS [INPUTS.safetensors]`. Without inputs, they are waves
//! of the fixed shapes in the file.
//!
//! Prints the CPU time of a call in microseconds, which other programs on the machine change little.
//! benches/onnx/compare.py and scripts/real-models call it, in turns with onnxruntime.

use gatefold::Device;
use gatefold_onnx::{Axis, ElementType, OnnxModel, Tensor};
use ndarray::{ArrayD, IxDyn};
use safetensors::{Dtype, SafeTensors};
use std::collections::BTreeMap;
use std::error::Error;
use std::time::{Duration, Instant};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let (path, seconds, given) = match &arguments[..] {
        [_, path, seconds] => (path, seconds, None),
        [_, path, seconds, given] => (path, seconds, Some(given)),
        _ => return Err("usage: time_model MODEL SECONDS [INPUTS.safetensors]".into()),
    };
    let model = OnnxModel::read(path)?;
    let inputs = match given {
        Some(given) => stored(&std::fs::read(given)?)?,
        None => waves(&model),
    };
    let mut session = model.on(&Device::cpu_with_threads(1)?);
    session.run(&inputs)?;
    let (began, limit, mut calls) = (Instant::now(), Duration::from_secs_f64(seconds.parse()?), 0);
    let spent = cpu_time()?;
    while began.elapsed() < limit {
        session.run(&inputs)?;
        calls += 1;
    }
    println!("{:.2}", (cpu_time()? - spent) * 1e6 / f64::from(calls));
    Ok(())
}

/// The arrays of a file, float32 or int64.
fn stored(bytes: &[u8]) -> Result<BTreeMap<String, Tensor>, Box<dyn Error>> {
    let mut inputs = BTreeMap::new();
    for (name, view) in SafeTensors::deserialize(bytes)?.tensors() {
        let shape = IxDyn(view.shape());
        let tensor = match view.dtype() {
            Dtype::F32 => {
                let values =
                    view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
                Tensor::F32(ArrayD::from_shape_vec(shape, values.collect())?)
            }
            Dtype::I64 => {
                let values = view.data().chunks_exact(8).map(|b| b.try_into().map(i64::from_le_bytes));
                Tensor::I64(ArrayD::from_shape_vec(shape, values.collect::<Result<_, _>>()?)?)
            }
            other => return Err(format!("{name}: expected float32 or int64, found {other:?}").into()),
        };
        inputs.insert(name, tensor);
    }
    Ok(inputs)
}

fn waves(model: &OnnxModel) -> BTreeMap<String, Tensor> {
    let wave = |port: &gatefold_onnx::Port| {
        let len = |axis: &Axis| if let Axis::Fixed(len) = axis { *len } else { 1 };
        let shape = IxDyn(&port.shape.iter().flatten().map(len).collect::<Vec<_>>());
        let mut k = 0.0_f32;
        let tensor = match port.element {
            Some(ElementType::I64) => Tensor::I64(ArrayD::ones(shape)),
            _ => Tensor::F32(ArrayD::from_shape_simple_fn(shape, || {
                k += 1.0;
                (k * 0.37).sin()
            })),
        };
        (port.name.clone(), tensor)
    };
    model.inputs().iter().map(wave).collect()
}

/// The seconds that this process has computed. Linux counts them in hundredths.
fn cpu_time() -> Result<f64, Box<dyn Error>> {
    let status = std::fs::read_to_string("/proc/self/stat")?;
    let (_, fields) = status.rsplit_once(')').ok_or("the format of /proc/self/stat is not known")?;
    let ticks = |at: usize| fields.split_whitespace().nth(at).and_then(|field| field.parse::<f64>().ok());
    Ok((ticks(11).unwrap_or(0.0) + ticks(12).unwrap_or(0.0)) / 100.0)
}
