//! candle's LSTM and GRU on its CPU device; `RAYON_NUM_THREADS` bounds the threads.

use candle_core::{DType, Device, Tensor};
use candle_nn::rnn::{GRU, GRUConfig, LSTM, LSTMConfig, RNN};
use candle_nn::{AdamW, Linear, Module, Optimizer, ParamsAdamW, VarBuilder, VarMap, gru, linear, loss, lstm};
use peer_protocol::{Call, Case, Failure, Mode, serve};

enum Layer {
    Lstm(LSTM),
    Gru(GRU),
}

impl Layer {
    /// `[B, T, I]` to `[B, T, H]`
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let steps: Vec<Tensor> = match self {
            Layer::Lstm(layer) => layer.seq(x)?.iter().map(|state| state.h.clone()).collect(),
            Layer::Gru(layer) => layer.seq(x)?.iter().map(|state| state.h.clone()).collect(),
        };
        Tensor::stack(&steps, 1)
    }
}

struct Net {
    layers: Vec<Layer>,
    head: Linear,
}

impl Net {
    fn new(case: &Case, weights: &VarBuilder) -> Result<Net, Failure> {
        let rnn = weights.pp("rnn");
        let layer = |index: usize| -> Result<Layer, Failure> {
            let input = if index == 0 { case.input } else { case.hidden };
            match (case.cell.as_str(), index) {
                ("lstm", layer_idx) => {
                    let config = LSTMConfig { layer_idx, ..LSTMConfig::default() };
                    Ok(Layer::Lstm(lstm(input, case.hidden, config, rnn.clone())?))
                }
                ("gru", 0) => Ok(Layer::Gru(gru(input, case.hidden, GRUConfig::default(), rnn.clone())?)),
                _ => Err("LSTMs, and one layer of a GRU".into()),
            }
        };
        let layers = (0..case.layers).map(layer).collect::<Result<_, _>>()?;
        Ok(Net { layers, head: linear(case.hidden, 1, weights.pp("head"))? })
    }

    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let mut x = x.clone();
        for layer in &self.layers {
            x = layer.forward(&x)?;
        }
        self.head.forward(&x)
    }
}

fn load(case: &Case) -> Result<Call, Failure> {
    if case.directions != 1 || case.mode == Mode::Stream {
        return Err("one direction, whole sequences".into());
    }
    let device = Device::Cpu;
    let batch = |values: Vec<f32>| {
        let width = values.len() / (case.batch * case.steps);
        Tensor::from_vec(case.batch_first(&values), (case.batch, case.steps, width), &device)
    };
    let input = batch(case.inputs()?)?;
    if case.mode == Mode::Infer {
        // Plain tensors: variables would record what backward needs.
        let tensors = candle_core::safetensors::load(case.weights(), &device)?;
        let net = Net::new(case, &VarBuilder::from_tensors(tensors, DType::F32, &device))?;
        let case = case.clone();
        return Ok(Box::new(move || {
            Ok(case.time_major(&net.forward(&input)?.flatten_all()?.to_vec1::<f32>()?))
        }));
    }
    let target = batch(case.targets()?)?;
    let mut variables = VarMap::new();
    let net = Net::new(case, &VarBuilder::from_varmap(&variables, DType::F32, &device))?;
    variables.load(case.weights())?;
    let options = ParamsAdamW { lr: 0.001, weight_decay: 0.0, ..ParamsAdamW::default() };
    let mut adam = AdamW::new(variables.all_vars(), options)?;
    Ok(Box::new(move || {
        let loss = loss::mse(&net.forward(&input)?, &target)?;
        adam.backward_step(&loss)?;
        Ok(vec![loss.to_scalar()?])
    }))
}

fn main() -> Result<(), Failure> {
    serve(load)
}
