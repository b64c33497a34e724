//! Training on the CPU: gradients, moments and losses in host memory.

use super::CpuNetwork;
use super::network::batch_of;
use crate::Error;
use crate::batch::{Chunk, TrainBatch};
use crate::loss::reference_loss;
use gatefold_cpu::{LossRoom, Tensors};
use gatefold_model::{NetworkConfig, Optimizer, Parameters, States, TrainConfig};
use gatefold_reference::{loss::Loss, optim};
use ndarray::ArrayD;
use std::collections::BTreeMap;

/// The state of training beside the network's parameters.
#[derive(Debug)]
pub(crate) struct CpuTraining {
    /// The gradients accumulated since the last update, of every parameter that is not frozen.
    gradients: Tensors,
    /// By the moment's name, for the same parameters.
    moments: BTreeMap<&'static str, Tensors>,
    /// The moving average of the same parameters; empty without one.
    average: Tensors,
    /// The parameters and moments from before an update, to put back if it overflows; kept so that it is not made anew.
    before: Vec<f32>,
    /// Room for what an optimiser without moments computes, likewise.
    direction: Vec<f32>,
    loss: Loss<f32>,
    /// The steps of a chunk, if batches are trained in chunks.
    recompute: Option<usize>,
    losses: Vec<f32>,
    /// Room for the loss and its gradient with respect to the output, kept likewise.
    room: LossRoom,
    /// The states that the next batch may start from.
    carried: Option<States>,
    /// The update and the layer at which training stopped.
    stopped: Option<(u64, String)>,
}

impl CpuTraining {
    pub(crate) fn new(network: &CpuNetwork, config: &TrainConfig) -> Self {
        let mut gradients = zeros_like(network.read().parameters());
        gradients.retain(|name, _| !config.rule(name).frozen);
        let moments = config.optimizer.moments().into_iter().map(|name| (name, gradients.clone())).collect();
        let mut average = Tensors::new();
        if config.average.is_some() {
            average.clone_from(network.read().parameters());
            average.retain(|name, _| gradients.contains_key(name));
        }
        CpuTraining {
            gradients,
            moments,
            average,
            before: Vec::new(),
            direction: Vec::new(),
            loss: reference_loss(&config.loss),
            recompute: config.recompute,
            losses: Vec::new(),
            room: LossRoom::default(),
            carried: None,
            stopped: None,
        }
    }

    /// Adds a batch's gradients and its loss.
    pub(crate) fn accumulate(&mut self, network: &CpuNetwork, given: TrainBatch<'_, '_>) {
        if let Some(steps) = self.recompute.filter(|&steps| steps < given.input.steps()) {
            return self.accumulate_chunks(network, &given, steps);
        }
        let TrainBatch { input, target, weights, dropout, carry } = given;
        let states = self.carried.take().filter(|_| carry.read);
        let network = network.read();
        let tape = network.forward(&batch_of(input, states.as_ref(), dropout));
        self.carried = carry.keep.map(|steps| {
            if steps == input.steps() {
                return tape.states();
            }
            // If windows overlap, the next one begins within this one: this one's first steps run again, with the same
            // masks.
            let first = input.window(0..steps);
            network.advance(&batch_of(&first, states.as_ref(), dropout))
        });
        let (loss, d_output) = network.loss(&self.loss, &tape, target, weights, &mut self.room);
        self.losses.push(loss as f32);
        network.accumulate(tape, d_output, None, &mut self.gradients);
    }

    /// Adds a batch's gradients and its loss, chunk by chunk of that many steps.
    fn accumulate_chunks(&mut self, network: &CpuNetwork, given: &TrainBatch<'_, '_>, chunk_len: usize) {
        let TrainBatch { input, carry, .. } = given;
        let network = network.read();
        let begins = (0..input.steps()).step_by(chunk_len);
        let chunks = begins.map(|begin| begin..input.steps().min(begin + chunk_len));
        // The states with which each chunk begins; nothing else is kept between the passes.
        let mut begins = vec![self.carried.take().filter(|_| carry.read)];
        for steps in chunks.clone().take(chunks.len() - 1) {
            let Chunk { input, dropout, .. } = given.chunk(network.config(), steps);
            let begin = begins.last().and_then(Option::as_ref);
            begins.push(Some(network.advance(&batch_of(&input, begin, dropout))));
        }
        let (mut sum, mut d_states) = (0.0, None);
        for (steps, begin) in chunks.zip(&begins).rev() {
            let Chunk { input, target, weights, dropout } = given.chunk(network.config(), steps.clone());
            let tape = network.forward(&batch_of(&input, begin.as_ref(), dropout));
            if let Some(kept) = carry.keep.filter(|kept| (steps.start + 1..=steps.end).contains(kept)) {
                self.carried = Some(match kept - steps.start {
                    all if all == input.steps() => tape.states(),
                    some => network.advance(&batch_of(&input.window(0..some), begin.as_ref(), dropout)),
                });
            }
            let (loss, d_output) = network.loss(&self.loss, &tape, target, &weights, &mut self.room);
            sum += loss;
            d_states =
                Some(network.accumulate_through(tape, d_output, d_states.as_ref(), &mut self.gradients));
        }
        self.losses.push(sum as f32);
    }

    /// Adds gradients that were computed elsewhere.
    pub(crate) fn accumulate_gradients<'g>(&mut self, gradients: impl Fn(&str) -> &'g ArrayD<f32>) {
        for (name, gradient) in &mut self.gradients {
            *gradient += gradients(name);
        }
    }

    /// Sets the states that the next batch starts from.
    pub(crate) fn set_states(&mut self, states: States) {
        self.carried = Some(states);
    }

    /// Clips the gradients, updates the parameters with them, and clears them. `step` counts updates from 1; the new
    /// parameters have a weight of `average_weight` in their moving average, if there is one.
    pub(crate) fn update(
        &mut self,
        network: &CpuNetwork,
        config: &TrainConfig,
        rate: f32,
        average_weight: f32,
        step: u64,
    ) -> Result<(), Error> {
        if self.stopped.is_none() {
            self.stopped = self.first_not_finite(&network.config).map(|layer| (step, layer));
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
        // Held to the end, so that nobody sees an update that is put back.
        let mut network = network.write();
        let (instructions, count) = (network.instructions(), self.moments.len());
        self.before.clear();
        let mut overflowed = Vec::new();
        for (name, gradient) in &mut self.gradients {
            let (parameter, mut moments) = changed(network.parameters_mut(), &mut self.moments, name);
            let moments = &mut moments[..count];
            self.before.extend_from_slice(parameter);
            moments.iter().for_each(|moment| self.before.extend_from_slice(moment));
            let rule = config.rule(name);
            let (rate, optimizer) = (rate * rule.learning_rate_factor, config.optimizer_of(rule));
            let direction = &mut self.direction;
            let finite = instructions.compile(|| {
                apply(&optimizer, parameter, elements(gradient), moments, direction, rate, step);
                all_finite(parameter) && moments.iter().all(|moment| all_finite(moment))
            });
            if !finite {
                overflowed.push(name);
            }
            gradient.fill(0.0);
        }
        let names = network.config().parameter_specs().map(|spec| &spec.name);
        let Some(parameter) = names.filter(|name| overflowed.contains(name)).last().cloned() else {
            for (name, average) in &mut self.average {
                let (average, parameter) = (elements_mut(average), elements(&network.parameters()[name]));
                instructions.compile(|| optim::average(average, parameter, average_weight));
            }
            return Ok(());
        };
        let mut before = &self.before[..];
        for name in self.gradients.keys() {
            let (parameter, moments) = changed(network.parameters_mut(), &mut self.moments, name);
            for values in std::iter::once(parameter).chain(moments.into_iter().take(count)) {
                let (own, rest) = before.split_at(values.len());
                values.copy_from_slice(own);
                before = rest;
            }
        }
        Err(Error::Overflow { step, parameter })
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
        // The list stays, so that the next step need not make one.
        let taken = self.losses.clone();
        self.losses.clear();
        taken
    }

    /// The accumulated gradients; zeros for frozen parameters.
    pub(crate) fn gradients(&self, network: &CpuNetwork) -> Parameters {
        with_zeros(network, &self.gradients)
    }

    /// The moments as a checkpoint holds them; zeros for frozen parameters.
    pub(crate) fn moments(&self, network: &CpuNetwork) -> BTreeMap<String, Parameters> {
        self.moments
            .iter()
            .map(|(name, tensors)| ((*name).to_owned(), with_zeros(network, tensors)))
            .collect()
    }

    /// The moving average of the parameters that are not frozen.
    pub(crate) fn average(&self) -> Parameters {
        self.average.clone().into_iter().collect()
    }

    /// Restores the moving average.
    pub(crate) fn set_average(&mut self, average: &Parameters) {
        for (name, tensor) in &mut self.average {
            tensor.assign(&average[name]);
        }
    }

    /// Restores what [`CpuTraining::moments`] returned.
    pub(crate) fn set_moments(&mut self, moments: &BTreeMap<String, Parameters>) {
        for (moment, tensors) in &mut self.moments {
            for (name, tensor) in tensors {
                tensor.assign(&moments[*moment][name]);
            }
        }
    }
}

/// The most moments of an optimiser: those of RMSProp, centred and with momentum.
const MOST_MOMENTS: usize = 3;

/// The elements that an update of a parameter changes: its own, and its moments' in the order of their names; the
/// places of moments that the optimiser does not have are empty.
fn changed<'a>(
    parameters: &'a mut Tensors,
    moments: &'a mut BTreeMap<&'static str, Tensors>,
    name: &str,
) -> (&'a mut [f32], [&'a mut [f32]; MOST_MOMENTS]) {
    let parameter = parameters.get_mut(name).expect("gradients have parameters' names");
    let mut found: [&mut [f32]; MOST_MOMENTS] = Default::default();
    for (found, tensors) in found.iter_mut().zip(moments.values_mut()) {
        *found = elements_mut(tensors.get_mut(name).expect("what is trained has moments"));
    }
    (elements_mut(parameter), found)
}

/// Whether no element is infinite or NaN. It does not stop at the first that is, so that the loop is over lanes.
fn all_finite(values: &[f32]) -> bool {
    values.iter().fold(true, |all, value| all & value.is_finite())
}

/// Updates one parameter; `moments` are in the order of their names. What `direction` holds does not matter.
fn apply(
    optimizer: &Optimizer,
    p: &mut [f32],
    g: &[f32],
    moments: &mut [&mut [f32]],
    direction: &mut Vec<f32>,
    rate: f32,
    step: u64,
) {
    match (*optimizer, moments) {
        (Optimizer::Sgd { momentum, nesterov, weight_decay }, [b]) => {
            optim::sgd(p, g, b, rate, &optim::Sgd { momentum, nesterov, weight_decay });
        }
        (Optimizer::Sgd { weight_decay, .. }, _) => {
            let options = optim::Sgd { momentum: 0.0, nesterov: false, weight_decay };
            direction.clear();
            direction.resize(p.len(), 0.0);
            optim::sgd(p, g, direction, rate, &options);
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
    let mut all = zeros_like(network.read().parameters());
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
