//! The CPU device: no plan, but gatefold-cpu's networks and the reference's losses and optimisers in `f32`.

use crate::network::Gradients;
use crate::train::{TrainBatch, TrainConfig};
use crate::{Error, Optimizer, Sequences};
use gatefold_cpu::{Batch, Dropout, States, Tape, Tensors, Threads};
use gatefold_model::{NetworkConfig, Parameters};
use gatefold_reference::optim;
use ndarray::{Array2, Array3, ArrayD, ArrayView2, ArrayView3};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A network on the CPU.
#[derive(Debug)]
pub struct CpuNetwork {
    network: gatefold_cpu::Network,
    pub(crate) identity: Arc<()>,
    /// Changes of the parameters so far.
    changes: u64,
}

/// A pass that was run forward, and the network that ran it.
#[derive(Debug)]
pub(crate) struct CpuTape {
    pub(crate) tape: Tape,
    identity: Arc<()>,
    changes: u64,
}

impl CpuNetwork {
    pub(crate) fn new(config: &NetworkConfig, parameters: &Parameters) -> Result<Self, Error> {
        let network = gatefold_cpu::Network::new(config, parameters, Threads::available())?;
        Ok(CpuNetwork { network, identity: Arc::default(), changes: 0 })
    }

    pub(crate) fn config(&self) -> &NetworkConfig {
        self.network.config()
    }

    pub(crate) fn parameters(&self) -> Parameters {
        self.network.parameters().clone().into_iter().collect()
    }

    pub(crate) fn set_parameters(&mut self, parameters: &Parameters) -> Result<(), Error> {
        parameters.check(self.config())?;
        for (name, tensor) in self.network.parameters_mut() {
            tensor.assign(&parameters[name]);
        }
        self.changes += 1;
        Ok(())
    }

    /// Outputs and final states.
    pub(crate) fn forward(&self, input: &Sequences, states: Option<&States>) -> (Array3<f32>, States) {
        self.network.infer(&batch_of(input, states, None))
    }

    /// As [`CpuNetwork::forward`], with everything that backward needs.
    pub(crate) fn forward_training(
        &self,
        input: &Sequences,
        states: Option<&States>,
        dropout: Option<Dropout>,
    ) -> CpuTape {
        let tape = self.network.forward(&batch_of(input, states, dropout));
        CpuTape { tape, identity: Arc::clone(&self.identity), changes: self.changes }
    }

    pub(crate) fn backward(
        &self,
        tape: CpuTape,
        d_output: ArrayView3<f32>,
        d_states: Option<&States>,
    ) -> Result<Gradients, Error> {
        if !Arc::ptr_eq(&tape.identity, &self.identity) {
            return Err(Error::Config("the tape is of another network; use the network that made it".into()));
        }
        check_unchanged(tape.changes, self.changes)?;
        let gatefold_cpu::Gradients { parameters, input, decoder_input, states } =
            self.network.backward(tape.tape, d_output, d_states);
        Ok(Gradients { parameters: parameters.into_iter().collect(), input, decoder_input, states })
    }

    /// What a decoder starts from.
    pub(crate) fn encode(&self, input: &Sequences) -> Result<States, Error> {
        Ok(self.network.encode(&batch_of(input, None, None))?)
    }

    /// One step of streams, whose states it moves on.
    pub(crate) fn step(&self, states: &mut States, input: ArrayView2<f32>) -> Result<Array2<f32>, Error> {
        Ok(self.network.step(states, input)?)
    }
}

/// That the parameters are those of a tape's pass forward.
pub(crate) fn check_unchanged(then: u64, now: u64) -> Result<(), Error> {
    if then == now {
        return Ok(());
    }
    Err(Error::Config(
        "the parameters changed since the pass forward of this tape; expected them as they were, run it again".into(),
    ))
}

fn batch_of<'a>(input: &'a Sequences, states: Option<&'a States>, dropout: Option<Dropout>) -> Batch<'a> {
    let decoder = input.decoder().map(|own| (own.values(), own.lengths()));
    Batch { input: input.values(), lengths: input.lengths(), states, decoder, dropout }
}

/// A caller may put another network, even an equal one, in the place of the one in training.
pub(crate) fn replaced() -> Error {
    Error::Config("the network in training was replaced by another; make a new trainer for it".into())
}

/// What training keeps beside the network's parameters.
#[derive(Debug)]
pub(crate) struct CpuTraining {
    /// What was accumulated since the last update, for every parameter that is not frozen.
    gradients: Tensors,
    /// By the moment's name, for the same parameters.
    moments: BTreeMap<&'static str, Tensors>,
    /// The network in training.
    identity: Arc<()>,
    losses: Vec<f32>,
    /// The states that the next batch may start from.
    carried: Option<States>,
    /// The update and the layer that training stopped at.
    stopped: Option<(u64, String)>,
}

impl CpuTraining {
    pub(crate) fn new(network: &CpuNetwork, config: &TrainConfig) -> Self {
        let mut gradients = zeros_like(network.network.parameters());
        gradients.retain(|name, _| !config.rule(name).frozen);
        let moments = config.optimizer.moments().iter().map(|&name| (name, gradients.clone())).collect();
        let identity = Arc::clone(&network.identity);
        CpuTraining { gradients, moments, identity, losses: Vec::new(), carried: None, stopped: None }
    }

    /// Adds a batch's gradients and its loss.
    pub(crate) fn accumulate(
        &mut self,
        network: &CpuNetwork,
        config: &TrainConfig,
        given: TrainBatch<'_>,
    ) -> Result<(), Error> {
        self.check_same(network)?;
        let TrainBatch { input, target, weights, dropout, carry } = given;
        let states = self.carried.take().filter(|_| carry.read);
        let CpuTape { tape, .. } = network.forward_training(input, states.as_ref(), dropout);
        self.carried = carry.keep.map(|steps| {
            if steps == input.steps() {
                return tape.states().clone();
            }
            // Where windows overlap, the next begins within this one: its first steps again, with the same masks.
            let first = input.window(0..steps);
            network.network.infer(&batch_of(&first, states.as_ref(), dropout)).1
        });
        let (loss, d_output) = config.loss.reference().weighted(tape.output(), target, &weights);
        self.losses.push(loss as f32);
        network.network.accumulate(tape, d_output.view(), None, &mut self.gradients);
        Ok(())
    }

    fn check_same(&self, network: &CpuNetwork) -> Result<(), Error> {
        if Arc::ptr_eq(&self.identity, &network.identity) { Ok(()) } else { Err(replaced()) }
    }

    /// Clips the gradients, changes the parameters by them, and forgets them. `step` counts updates from 1.
    pub(crate) fn update(
        &mut self,
        network: &mut CpuNetwork,
        config: &TrainConfig,
        rate: f32,
        step: u64,
    ) -> Result<(), Error> {
        self.check_same(network)?;
        if self.stopped.is_none() {
            self.stopped = self.first_not_finite(network.config()).map(|layer| (step, layer));
        }
        if let Some((step, layer)) = &self.stopped {
            return Err(Error::NotFinite { step: *step, layer: layer.clone() });
        }
        if let Some(limit) = config.clip_value {
            self.gradients
                .values_mut()
                .for_each(|gradient| gradient.mapv_inplace(|g| optim::clip_value(g, limit)));
        }
        if let Some(clip) = config.clip_norm {
            let norm = optim::global_norm(self.gradients.values().map(elements));
            let factor = optim::clip_factor(norm, clip);
            if factor < 1.0 {
                self.gradients.values_mut().for_each(|gradient| *gradient *= factor);
            }
        }
        network.changes += 1;
        for (name, gradient) in &mut self.gradients {
            let parameter =
                network.network.parameters_mut().get_mut(name).expect("gradients have parameters' names");
            let rate = rate * config.rule(name).learning_rate_factor;
            let mut moments: Vec<&mut [f32]> = self
                .moments
                .values_mut()
                .map(|tensors| elements_mut(tensors.get_mut(name).expect("what is trained has moments")))
                .collect();
            apply(&config.optimizer, elements_mut(parameter), elements(gradient), &mut moments, rate, step);
            gradient.fill(0.0);
        }
        Ok(())
    }

    /// The layer nearest the loss with a gradient that is infinite or NaN.
    fn first_not_finite(&self, network: &NetworkConfig) -> Option<String> {
        let bad = |name: &str| {
            self.gradients
                .get(name)
                .is_some_and(|gradient| gradient.iter().any(|element| !element.is_finite()))
        };
        let layers = network.layers();
        let layer = layers.iter().rev().find(|layer| layer.parameters.iter().any(|spec| bad(&spec.name)))?;
        Some(layers[layer.owner].place())
    }

    pub(crate) fn take_losses(&mut self) -> Vec<f32> {
        std::mem::take(&mut self.losses)
    }

    /// Zeros where a parameter is frozen.
    pub(crate) fn gradients(&self, network: &CpuNetwork) -> Parameters {
        with_zeros(network, &self.gradients)
    }

    /// The moments as a checkpoint holds them: zeros where a parameter is frozen.
    pub(crate) fn moments(&self, network: &CpuNetwork) -> BTreeMap<String, Parameters> {
        self.moments
            .iter()
            .map(|(name, tensors)| ((*name).to_owned(), with_zeros(network, tensors)))
            .collect()
    }

    /// Puts back what [`CpuTraining::moments`] gave.
    pub(crate) fn set_moments(&mut self, moments: &BTreeMap<String, Parameters>) {
        for (moment, tensors) in &mut self.moments {
            for (name, tensor) in tensors {
                tensor.assign(&moments[*moment][name]);
            }
        }
    }
}

/// Changes one parameter; `moments` are in the order of their names.
fn apply(optimizer: &Optimizer, p: &mut [f32], g: &[f32], moments: &mut [&mut [f32]], rate: f32, step: u64) {
    match (*optimizer, moments) {
        (Optimizer::Sgd { momentum, nesterov, weight_decay }, [b]) => {
            optim::sgd(p, g, b, rate, &optim::Sgd { momentum, nesterov, weight_decay });
        }
        (Optimizer::Sgd { weight_decay, .. }, _) => {
            let options = optim::Sgd { momentum: 0.0, nesterov: false, weight_decay };
            optim::sgd(p, g, &mut vec![0.0; p.len()], rate, &options);
        }
        (Optimizer::RmsProp { alpha, epsilon, momentum, centered, weight_decay }, moments) => {
            let options = optim::RmsProp { alpha, epsilon, momentum, centered, weight_decay };
            let moments = match (centered, moments) {
                (false, [v]) => optim::RmsPropMoments { v, mean: None, b: None },
                (false, [b, v]) => optim::RmsPropMoments { v, mean: None, b: Some(b) },
                (true, [mean, v]) => optim::RmsPropMoments { v, mean: Some(mean), b: None },
                (true, [mean, b, v]) => optim::RmsPropMoments { v, mean: Some(mean), b: Some(b) },
                (_, moments) => unreachable!("{} moments for {optimizer:?}", moments.len()),
            };
            optim::rmsprop(p, g, moments, rate, &options);
        }
        (Optimizer::Adam { beta1, beta2, epsilon, weight_decay }, [m, v]) => {
            optim::adam(p, g, m, v, rate, step, &optim::Adam { beta1, beta2, epsilon, weight_decay });
        }
        (Optimizer::AdamW { beta1, beta2, epsilon, weight_decay }, [m, v]) => {
            optim::adamw(p, g, m, v, rate, step, &optim::Adam { beta1, beta2, epsilon, weight_decay });
        }
        (optimizer, moments) => unreachable!("{} moments for {optimizer:?}", moments.len()),
    }
}

/// A tensor for every parameter: those given, else zeros.
fn with_zeros(network: &CpuNetwork, tensors: &Tensors) -> Parameters {
    let mut all = zeros_like(network.network.parameters());
    all.extend(tensors.clone());
    all.into_iter().collect()
}

fn zeros_like(tensors: &Tensors) -> Tensors {
    tensors.iter().map(|(name, tensor)| (name.clone(), ArrayD::zeros(tensor.raw_dim()))).collect()
}

fn elements(tensor: &ArrayD<f32>) -> &[f32] {
    tensor.as_slice().expect("tensors are in standard layout")
}

fn elements_mut(tensor: &mut ArrayD<f32>) -> &mut [f32] {
    tensor.as_slice_mut().expect("tensors are in standard layout")
}
