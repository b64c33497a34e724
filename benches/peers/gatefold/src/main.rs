//! Gatefold on its CPU device; `GATEFOLD_THREADS` bounds the threads.
//!
//! `peer-gatefold` answers requests; `peer-gatefold export FOLDER` writes the folder's weights as ONNX models: `model.onnx`,
//! and `step.onnx` with states in and out.

use gatefold::file::pytorch;
use gatefold::{Device, Network, TrainConfig, Trainer};
use gatefold_onnx::{ExportOptions, save};
use ndarray::{Array2, Array3, Axis};
use peer_protocol::{Call, Case, Failure, Mode, serve};
use std::path::Path;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [] => serve(load),
        [word, folder] if word == "export" => export(folder.as_ref()),
        _ => Err("usage: peer-gatefold [export FOLDER]".into()),
    }
}

fn network(weights: &Path) -> Result<Network, Failure> {
    let model = pytorch::read(weights, &"rnn, head".parse()?)?;
    Ok(Network::with_parameters(&Device::cpu()?, &model.config, &model.parameters)?)
}

fn export(folder: &Path) -> Result<(), Failure> {
    let network = network(&folder.join("weights.safetensors"))?;
    save(folder.join("model.onnx"), &network, ExportOptions::new())?;
    save(folder.join("step.onnx"), &network, ExportOptions::new().states(true))?;
    Ok(())
}

fn load(case: &Case) -> Result<Call, Failure> {
    let network = network(&case.weights())?;
    let input = Array3::from_shape_vec((case.steps, case.batch, case.input), case.inputs()?)?;
    Ok(match case.mode {
        Mode::Infer => Box::new(move || Ok(network.predict(&input)?.into_iter().collect())),
        Mode::Train => {
            let target = Array3::from_shape_vec((case.steps, case.batch, 1), case.targets()?)?;
            let mut trainer = Trainer::new(network, TrainConfig::new().learning_rate(0.001))?;
            Box::new(move || {
                trainer.step(&input, &target)?;
                Ok(trainer.take_losses()?)
            })
        }
        Mode::Stream => {
            let mut stream = network.stream(case.batch)?;
            let mut steps = (0..case.steps).cycle();
            let mut output = Array2::zeros((case.batch, 1));
            Box::new(move || {
                let t = steps.next().expect("there are steps");
                stream.step_into(input.index_axis(Axis(0), t), output.view_mut())?;
                Ok(output.iter().copied().collect())
            })
        }
    })
}
