//! burn's LSTM for `compare`: on its CPU backend (flex), where `RAYON_NUM_THREADS` bounds the threads, or with the feature
//! `wgpu` on the adapter whose kind is in `PEER_ADAPTER`.

use burn::module::{Module, Param};
use burn::nn::loss::{MseLoss, Reduction};
use burn::nn::{Linear, Lstm, LstmConfig};
use burn::optim::{AdamConfig, GradientsParams};
use burn::prelude::*;
use peer_protocol::{Call, Case, Failure, Mode, serve};
use std::collections::BTreeMap;

type Tensors = BTreeMap<String, peer_protocol::Tensor>;

#[derive(Module, Debug)]
struct Net {
    layers: Vec<Lstm>,
    head: Linear,
}

impl Net {
    fn new(case: &Case, device: &Device) -> Result<Net, Failure> {
        let tensors = case.tensors()?;
        let layer = |index: usize| {
            let input = if index == 0 { case.input } else { case.hidden };
            let mut lstm = LstmConfig::new(input, case.hidden, true).init(device);
            let forget = lstm.forget_gate.as_mut().expect("a gate of its own, unless input_forget is set");
            // PyTorch's order
            let gates = [&mut lstm.input_gate, forget, &mut lstm.cell_gate, &mut lstm.output_gate];
            for (gate, own) in gates.into_iter().enumerate() {
                let rows = gate * case.hidden..(gate + 1) * case.hidden;
                own.input_transform = linear(&tensors, "rnn", &format!("ih_l{index}"), rows.clone(), device);
                own.hidden_transform = linear(&tensors, "rnn", &format!("hh_l{index}"), rows, device);
            }
            lstm
        };
        let layers = (0..case.layers).map(layer).collect();
        Ok(Net { layers, head: linear(&tensors, "head", "", 0..1, device) })
    }

    /// `[B, T, I]` to `[B, T, 1]`
    fn forward(&self, mut x: Tensor<3>) -> Tensor<3> {
        for layer in &self.layers {
            x = layer.forward(x, None).0;
        }
        self.head.forward(x)
    }
}

/// The linear layer of some rows of PyTorch's `weight [N, K]` and `bias [N]`; burn's weight is `[K, N]`.
fn linear(
    tensors: &Tensors,
    module: &str,
    suffix: &str,
    rows: std::ops::Range<usize>,
    device: &Device,
) -> Linear {
    let name = |kind: &str| match suffix {
        "" => format!("{module}.{kind}"),
        _ => format!("{module}.{kind}_{suffix}"),
    };
    let (shape, weight) = &tensors[&name("weight")];
    let (_, bias) = &tensors[&name("bias")];
    let width = shape[1];
    let own = weight[rows.start * width..rows.end * width].to_vec();
    let weight = Tensor::<2>::from_data(TensorData::new(own, [rows.len(), width]), device);
    let bias = Tensor::<1>::from_data(TensorData::new(bias[rows.clone()].to_vec(), [rows.len()]), device);
    // A transposed view would be copied in every product.
    let weight = Tensor::<2>::from_data(weight.transpose().into_data(), device);
    Linear { weight: Param::from_tensor(weight), bias: Some(Param::from_tensor(bias)) }
}

fn floats<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>, Failure> {
    tensor.into_data().try_to_vec::<f32>().map_err(|error| format!("{error:?}").into())
}

/// The device, and whether it is a GPU.
fn device() -> Result<(Device, bool), Failure> {
    match std::env::var("PEER_ADAPTER") {
        Err(_) => Ok((Device::flex(), false)),
        #[cfg(feature = "wgpu")]
        Ok(kind) => {
            use burn::tensor::DeviceKind;
            let kind = match kind.as_str() {
                "software" => DeviceKind::Cpu,
                "discrete GPU" => DeviceKind::DiscreteGpu(0),
                "integrated GPU" => DeviceKind::IntegratedGpu(0),
                "virtual GPU" => DeviceKind::VirtualGpu(0),
                _ => return Err(format!("burn cannot be told to take an adapter of the kind {kind}").into()),
            };
            Ok((Device::wgpu(kind), true))
        }
        #[cfg(not(feature = "wgpu"))]
        Ok(_) => Err("built without the feature wgpu".into()),
    }
}

fn load(case: &Case) -> Result<Call, Failure> {
    if case.cell != "lstm" || case.directions != 1 || case.mode == Mode::Stream {
        return Err("LSTMs in one direction, whole sequences".into());
    }
    let (plain, on_gpu) = device()?;
    let device = if case.mode == Mode::Train { plain.clone().autodiff() } else { plain };
    // A call begins with its batch in memory: a GPU's batch is uploaded by every call.
    let batch = |values: Vec<f32>| {
        let width = values.len() / (case.batch * case.steps);
        let data = TensorData::new(case.batch_first(&values), [case.batch, case.steps, width]);
        let device = device.clone();
        let there = (!on_gpu).then(|| Tensor::<3>::from_data(data.clone(), &device));
        move || there.clone().unwrap_or_else(|| Tensor::<3>::from_data(data.clone(), &device))
    };
    let input = batch(case.inputs()?);
    let net = Net::new(case, &device)?;
    if case.mode == Mode::Infer {
        let case = case.clone();
        return Ok(Box::new(move || Ok(case.time_major(&floats(net.forward(input()))?))));
    }
    let target = batch(case.targets()?);
    let mut adam = AdamConfig::new().with_epsilon(1e-8).init(); // as PyTorch's; 1e-5 by default
    let mut net = Some(net);
    Ok(Box::new(move || {
        let now = net.take().expect("every step gives it back");
        let loss = MseLoss::new().forward(now.forward(input()), target(), Reduction::Mean);
        let gradients = GradientsParams::from_grads(loss.backward(), &now);
        net = Some(adam.step(0.001, now, gradients));
        let loss = floats(loss)?;
        if on_gpu {
            device.sync().map_err(|error| format!("{error:?}"))?; // the update is part of the step
        }
        Ok(loss)
    }))
}

fn main() -> Result<(), Failure> {
    serve(load)
}
