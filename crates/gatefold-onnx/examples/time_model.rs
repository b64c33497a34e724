//! Times a model on one thread of the CPU: `time_model MODEL SECONDS`. Inputs are waves of the fixed shapes in the file.
//!
//! Prints the CPU time of a call in microseconds, which other programs on the machine change little.
//! benches/onnx/compare.py calls it, in turns with onnxruntime.

use gatefold::Device;
use gatefold_onnx::{Axis, ElementType, OnnxModel, Tensor};
use ndarray::{ArrayD, IxDyn};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, path, seconds] = &arguments[..] else { return Err("usage: time_model MODEL SECONDS".into()) };
    let model = OnnxModel::read(path)?;
    let inputs: BTreeMap<String, Tensor> = model
        .inputs()
        .iter()
        .map(|port| {
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
        })
        .collect();
    let mut session = model.on(&Device::cpu_with_threads(1)?);
    session.run(inputs.clone())?;
    let (began, limit, mut calls) = (Instant::now(), Duration::from_secs_f64(seconds.parse()?), 0);
    let spent = cpu_time()?;
    while began.elapsed() < limit {
        session.run(inputs.clone())?;
        calls += 1;
    }
    println!("{:.2}", (cpu_time()? - spent) * 1e6 / f64::from(calls));
    Ok(())
}

/// The seconds that this process has computed. Linux counts them in hundredths.
fn cpu_time() -> Result<f64, Box<dyn std::error::Error>> {
    let status = std::fs::read_to_string("/proc/self/stat")?;
    let (_, fields) = status.rsplit_once(')').ok_or("the format of /proc/self/stat is not known")?;
    let ticks = |at: usize| fields.split_whitespace().nth(at).and_then(|field| field.parse::<f64>().ok());
    Ok((ticks(11).unwrap_or(0.0) + ticks(12).unwrap_or(0.0)) / 100.0)
}
