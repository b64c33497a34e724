//! The CPU device: the reference's code in `f32`, and no plan.

use crate::train::TrainConfig;
use crate::{Error, Loss, Optimizer};
use gatefold_model::{NetworkConfig, Parameters};
use gatefold_reference::network::Tensors;
use gatefold_reference::{loss, optim};
use ndarray::{Array3, ArrayD, ArrayView3};
use std::collections::BTreeMap;

/// A network on the CPU.
#[derive(Debug)]
pub struct CpuNetwork {
    network: gatefold_reference::Network<f32>,
}

impl CpuNetwork {
    pub(crate) fn new(config: &NetworkConfig, parameters: &Parameters) -> Result<Self, Error> {
        Ok(CpuNetwork { network: gatefold_reference::Network::new(config, parameters)? })
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
        Ok(())
    }

    pub(crate) fn predict(&self, input: ArrayView3<f32>) -> Array3<f32> {
        self.network.predict(input)
    }
}

/// What training keeps beside the network's parameters.
#[derive(Debug)]
pub(crate) struct CpuTraining {
    /// What was accumulated since the last update; nothing stands for zeros.
    gradients: Option<Tensors<f32>>,
    /// By the moment's name, for every parameter that is not frozen.
    moments: BTreeMap<&'static str, Tensors<f32>>,
    losses: Vec<f32>,
    /// The update and the layer that training stopped at.
    stopped: Option<(u64, String)>,
}

impl CpuTraining {
    pub(crate) fn new(network: &CpuNetwork, config: &TrainConfig) -> Self {
        let trained = |name: &String| !config.rule(name).frozen;
        let zeros: Tensors<f32> = network
            .network
            .parameters()
            .iter()
            .filter(|(name, _)| trained(name))
            .map(|(name, tensor)| (name.clone(), ArrayD::zeros(tensor.raw_dim())))
            .collect();
        let moments = config.optimizer.moments().iter().map(|&name| (name, zeros.clone())).collect();
        CpuTraining { gradients: None, moments, losses: Vec::new(), stopped: None }
    }

    /// Adds a batch's gradients and its loss.
    pub(crate) fn accumulate(
        &mut self,
        network: &CpuNetwork,
        config: &TrainConfig,
        input: ArrayView3<f32>,
        target: ArrayView3<f32>,
    ) {
        let tape = network.network.forward(input);
        let d_output = match config.loss {
            Loss::SquaredError => {
                self.losses.push(loss::squared_error(tape.output(), target));
                loss::squared_error_gradient(tape.output(), target)
            }
        };
        let batch = network.network.backward(&tape, d_output.view()).parameters;
        match &mut self.gradients {
            None => self.gradients = Some(batch),
            Some(sums) => {
                for (name, sum) in sums {
                    *sum += &batch[name];
                }
            }
        }
    }

    /// Clips the gradients, changes the parameters by them, and forgets them. `step` counts updates from 1.
    pub(crate) fn update(
        &mut self,
        network: &mut CpuNetwork,
        config: &TrainConfig,
        rate: f32,
        step: u64,
    ) -> Result<(), Error> {
        if self.stopped.is_none() {
            self.stopped = self.first_not_finite(network.config(), config).map(|layer| (step, layer));
        }
        if let Some((step, layer)) = &self.stopped {
            return Err(Error::NotFinite { step: *step, layer: layer.clone() });
        }
        let mut gradients = self.gradients.take().unwrap_or_else(|| zeros_like(network.network.parameters()));
        gradients.retain(|name, _| !config.rule(name).frozen);
        if let Some(clip) = config.clip_norm {
            let norm = optim::global_norm(gradients.values().map(elements));
            let factor = optim::clip_factor(norm, clip);
            if factor < 1.0 {
                gradients.values_mut().for_each(|gradient| *gradient *= factor);
            }
        }
        for (name, gradient) in &gradients {
            let parameter =
                network.network.parameters_mut().get_mut(name).expect("gradients have parameters' names");
            let rate = rate * config.rule(name).learning_rate_factor;
            self.apply(&config.optimizer, name, elements_mut(parameter), elements(gradient), rate, step);
        }
        Ok(())
    }

    fn apply(&mut self, optimizer: &Optimizer, name: &str, p: &mut [f32], g: &[f32], rate: f32, step: u64) {
        let mut moment = |moment: &str| {
            let tensor = self.moments.get_mut(moment).and_then(|tensors| tensors.remove(name));
            tensor.expect("every trained parameter has its moments")
        };
        match *optimizer {
            Optimizer::Sgd { momentum, nesterov, weight_decay } => {
                let options = optim::Sgd { momentum, nesterov, weight_decay };
                if momentum == 0.0 {
                    return optim::sgd(p, g, &mut vec![0.0; p.len()], rate, &options);
                }
                let mut buffer = moment("momentum");
                optim::sgd(p, g, elements_mut(&mut buffer), rate, &options);
                self.keep("momentum", name, buffer);
            }
            Optimizer::Adam { beta1, beta2, epsilon, weight_decay }
            | Optimizer::AdamW { beta1, beta2, epsilon, weight_decay } => {
                let options = optim::Adam { beta1, beta2, epsilon, weight_decay };
                let (mut m, mut v) = (moment("m"), moment("v"));
                let adam =
                    if matches!(optimizer, Optimizer::Adam { .. }) { optim::adam } else { optim::adamw };
                adam(p, g, elements_mut(&mut m), elements_mut(&mut v), rate, step, &options);
                self.keep("m", name, m);
                self.keep("v", name, v);
            }
        }
    }

    fn keep(&mut self, moment: &str, name: &str, tensor: ArrayD<f32>) {
        let tensors = self.moments.get_mut(moment).expect("the optimizer's moments were made with it");
        tensors.insert(name.into(), tensor);
    }

    /// The layer nearest the loss with a gradient that is infinite or NaN.
    fn first_not_finite(&self, network: &NetworkConfig, config: &TrainConfig) -> Option<String> {
        let gradients = self.gradients.as_ref()?;
        let bad = |name: &str| {
            !config.rule(name).frozen && gradients[name].iter().any(|gradient| !gradient.is_finite())
        };
        let layers = network.layers();
        let layer = layers.iter().rev().find(|layer| layer.parameters.iter().any(|spec| bad(&spec.name)))?;
        Some(layers[layer.owner].place())
    }

    pub(crate) fn take_losses(&mut self) -> Vec<f32> {
        std::mem::take(&mut self.losses)
    }

    pub(crate) fn gradients(&self, network: &CpuNetwork, config: &TrainConfig) -> Parameters {
        let parameters = network.network.parameters();
        let mut gradients = self.gradients.clone().unwrap_or_else(|| zeros_like(parameters));
        gradients
            .iter_mut()
            .filter(|(name, _)| config.rule(name).frozen)
            .for_each(|(_, zero)| zero.fill(0.0));
        gradients.into_iter().collect()
    }

    /// The moments as a checkpoint holds them: zeros where a parameter is frozen.
    pub(crate) fn moments(&self, network: &CpuNetwork) -> BTreeMap<String, Parameters> {
        let whole = |tensors: &Tensors<f32>| {
            let mut all = zeros_like(network.network.parameters());
            all.extend(tensors.clone());
            all.into_iter().collect()
        };
        self.moments.iter().map(|(name, tensors)| ((*name).to_owned(), whole(tensors))).collect()
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

fn zeros_like(tensors: &Tensors<f32>) -> Tensors<f32> {
    tensors.iter().map(|(name, tensor)| (name.clone(), ArrayD::zeros(tensor.raw_dim()))).collect()
}

fn elements(tensor: &ArrayD<f32>) -> &[f32] {
    tensor.as_slice().expect("tensors are in standard layout")
}

fn elements_mut(tensor: &mut ArrayD<f32>) -> &mut [f32] {
    tensor.as_slice_mut().expect("tensors are in standard layout")
}
