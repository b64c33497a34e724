//! Times a model on one thread of the CPU: `time_model MODEL SECONDS`. Inputs are waves of the fixed shapes in the file.
//!
//! Prints the median of a call in microseconds. benches/onnx/compare calls it, in turns with onnxruntime.

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
    let (began, limit) = (Instant::now(), Duration::from_secs_f64(seconds.parse()?));
    let mut times = Vec::new();
    while began.elapsed() < limit || times.len() < 5 {
        let given = inputs.clone();
        let start = Instant::now();
        session.run(given)?;
        times.push(start.elapsed());
    }
    times.sort_unstable();
    println!("{:.2}", times[times.len() / 2].as_secs_f64() * 1e6);
    Ok(())
}
