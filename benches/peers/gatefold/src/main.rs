//! Gatefold on its CPU device, where `GATEFOLD_THREADS` bounds the threads, or with the feature `gpu` on a GPU.
//!
//! `peer-gatefold` answers requests, on the device in `GATEFOLD_PEER_DEVICE` if that is set; `peer-gatefold export FOLDER`
//! writes the folder's weights as ONNX models: `model.onnx`, and `step.onnx` with states in and out; `peer-gatefold kind
//! DEVICE` says what kind of adapter a device is, if it is the only one of its kind, so that other engines can find it.

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
        #[cfg(feature = "gpu")]
        [word, device] if word == "kind" => kind(device),
        _ => Err("usage: peer-gatefold [export FOLDER | kind DEVICE (with the feature gpu)]".into()),
    }
}

#[cfg(feature = "gpu")]
fn kind(device: &str) -> Result<(), Failure> {
    let Device::Gpu(gpu) = Device::open(&device.parse()?)? else {
        return Err(format!("{device} is no GPU").into());
    };
    let adapters = gatefold::devices::adapters();
    let opened = adapters.iter().find(|adapter| adapter.name == gpu.info().name);
    let kind = opened.ok_or("the opened adapter is not listed")?.kind;
    let alike = adapters.iter().filter(|adapter| adapter.kind == kind).count();
    if alike > 1 {
        return Err(format!("this machine has {alike} adapters of the kind {kind}; hide all but one").into());
    }
    println!("{kind}");
    Ok(())
}

/// The device to compute on.
fn device() -> Result<Device, Failure> {
    match std::env::var("GATEFOLD_PEER_DEVICE") {
        Ok(name) => Ok(Device::open(&name.parse()?)?),
        Err(_) => Ok(Device::cpu()?),
    }
}

fn network(weights: &Path) -> Result<Network, Failure> {
    let model = pytorch::read(weights, &"rnn, head".parse()?)?;
    Ok(Network::with_parameters(&device()?, &model.config, &model.parameters)?)
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
