use crate::cpu::CpuTraining;
#[cfg(feature = "gpu")]
use crate::gpu_training::GpuTraining;
use crate::network::check_input;
use crate::targets::{RowWeights, Targets, TargetsView};
use crate::{Device, Error, Loss, Network, Optimizer, Reduction};
use gatefold_model::file::Checkpoint;
use gatefold_model::{NetworkConfig, Parameters};
use ndarray::ArrayView3;
use std::collections::BTreeMap;

/// How a network is trained.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainConfig {
    pub(crate) optimizer: Optimizer,
    pub(crate) learning_rate: f32,
    pub(crate) loss: Loss,
    pub(crate) reduction: Reduction,
    pub(crate) clip_value: Option<f32>,
    pub(crate) clip_norm: Option<f32>,
    pub(crate) groups: Vec<ParameterGroup>,
}

impl TrainConfig {
    /// Adam at a learning rate of 1e-3, the mean squared error, no clipping, all parameters alike.
    pub fn new() -> Self {
        TrainConfig {
            optimizer: Optimizer::default(),
            learning_rate: 1e-3,
            loss: Loss::default(),
            reduction: Reduction::default(),
            clip_value: None,
            clip_norm: None,
            groups: Vec::new(),
        }
    }

    /// How gradients become new parameters.
    pub fn optimizer(mut self, optimizer: Optimizer) -> Self {
        self.optimizer = optimizer;
        self
    }

    /// The learning rate to begin with; [`Trainer::set_learning_rate`] changes it.
    pub fn learning_rate(mut self, rate: f32) -> Self {
        self.learning_rate = rate;
        self
    }

    /// What training makes small.
    pub fn loss(mut self, loss: Loss) -> Self {
        self.loss = loss;
        self
    }

    /// Whether the losses of a batch are averaged or added up.
    pub fn reduction(mut self, reduction: Reduction) -> Self {
        self.reduction = reduction;
        self
    }

    /// The largest magnitude of any element of the gradient; larger ones are held there, before the norm is taken.
    pub fn clip_value(mut self, limit: Option<f32>) -> Self {
        self.clip_value = limit;
        self
    }

    /// The largest Euclidean norm of the gradient of all parameters that are not frozen; longer ones are shortened.
    pub fn clip_norm(mut self, norm: Option<f32>) -> Self {
        self.clip_norm = norm;
        self
    }

    /// Treats some parameters differently. The first group that fits a parameter's name applies.
    pub fn group(mut self, group: ParameterGroup) -> Self {
        self.groups.push(group);
        self
    }

    /// What applies to the parameter of that name.
    pub(crate) fn rule(&self, name: &str) -> Rule {
        let group = self.groups.iter().find(|group| name.starts_with(&group.prefix));
        group.map_or(Rule { learning_rate_factor: 1.0, frozen: false }, |group| group.rule)
    }

    fn check(&self, network: &NetworkConfig) -> Result<(), Error> {
        self.optimizer.check()?;
        self.loss.check()?;
        self.loss.target_width(network.output())?;
        check_rate(self.learning_rate)?;
        if let Some(norm) = self.clip_norm
            && !(norm > 0.0 && norm.is_finite())
        {
            return Err(Error::Config(format!(
                "the norm to clip at is {norm}; expected a finite number above 0"
            )));
        }
        if let Some(limit) = self.clip_value
            && !(limit > 0.0 && limit.is_finite())
        {
            return Err(Error::Config(format!(
                "the value to clip at is {limit}; expected a finite number above 0"
            )));
        }
        for ParameterGroup { prefix, rule } in &self.groups {
            if !(rule.learning_rate_factor >= 0.0 && rule.learning_rate_factor.is_finite()) {
                return Err(Error::Config(format!(
                    "parameter group \"{prefix}\": the learning rate factor is {}; expected a finite number, 0 or more",
                    rule.learning_rate_factor
                )));
            }
            if !network.parameter_specs().any(|spec| spec.name.starts_with(prefix)) {
                let names: Vec<&str> = network.parameter_specs().map(|spec| spec.name.as_str()).collect();
                return Err(Error::Config(format!(
                    "parameter group \"{prefix}\": no parameter's name starts so; there are {}",
                    names.join(", ")
                )));
            }
        }
        Ok(())
    }
}

impl Default for TrainConfig {
    fn default() -> Self {
        TrainConfig::new()
    }
}

fn check_rate(rate: f32) -> Result<(), Error> {
    if rate >= 0.0 && rate.is_finite() {
        return Ok(());
    }
    Err(Error::Config(format!("the learning rate is {rate}; expected a finite number, 0 or more")))
}

/// Parameters that are trained differently from the rest: those whose names start alike.
#[derive(Clone, Debug, PartialEq)]
pub struct ParameterGroup {
    prefix: String,
    rule: Rule,
}

/// What applies to one parameter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Rule {
    pub(crate) learning_rate_factor: f32,
    pub(crate) frozen: bool,
}

impl ParameterGroup {
    /// The parameters whose names start with `prefix`, such as `rnn0.` or `dense1.weight`.
    pub fn new(prefix: impl Into<String>) -> Self {
        ParameterGroup { prefix: prefix.into(), rule: Rule { learning_rate_factor: 1.0, frozen: false } }
    }

    /// Multiplies the learning rate.
    pub fn learning_rate_factor(mut self, factor: f32) -> Self {
        self.rule.learning_rate_factor = factor;
        self
    }

    /// Leaves them as they are; they do not count for clipping either.
    pub fn frozen(mut self) -> Self {
        self.rule.frozen = true;
        self
    }
}

/// A network in training: gradients, optimiser and losses on the network's device.
#[derive(Debug)]
pub struct Trainer {
    network: Network,
    described: NetworkConfig,
    config: TrainConfig,
    learning_rate: f32,
    steps: u64,
    state: State,
}

/// What the device keeps for training.
#[derive(Debug)]
enum State {
    Cpu(CpuTraining),
    #[cfg(feature = "gpu")]
    Gpu(GpuTraining),
}

impl Trainer {
    /// Takes a network into training.
    ///
    /// # Errors
    /// [`Error::Config`] for an option out of range and for a parameter group that fits no parameter.
    pub fn new(mut network: Network, config: TrainConfig) -> Result<Trainer, Error> {
        config.check(network.config())?;
        let state = match &mut network {
            Network::Cpu(network) => State::Cpu(CpuTraining::new(network, &config)),
            #[cfg(feature = "gpu")]
            Network::Gpu(network) => State::Gpu(GpuTraining::new(network, &config)?),
        };
        let (described, learning_rate) = (network.config().clone(), config.learning_rate);
        Ok(Trainer { network, described, config, learning_rate, steps: 0, state })
    }

    /// One batch: [`Trainer::accumulate`] and [`Trainer::update`].
    ///
    /// # Errors
    /// Those of both.
    pub fn step(&mut self, input: ArrayView3<f32>, target: ArrayView3<f32>) -> Result<(), Error> {
        self.accumulate(input, target)?;
        self.update()
    }

    /// Adds the gradients of a batch, `input [T, B, I]` and `target [T', B, F]`, to those accumulated since the
    /// last update. They are summed, as in PyTorch, not averaged. Every row counts alike.
    ///
    /// # Errors
    /// Those of [`Trainer::accumulate_targets`].
    pub fn accumulate(&mut self, input: ArrayView3<f32>, target: ArrayView3<f32>) -> Result<(), Error> {
        self.accumulate_view(input, TargetsView::of_values(target))
    }

    /// [`Trainer::accumulate`] for targets of any kind, with weights.
    ///
    /// # Errors
    /// [`Error::Shape`] where input or targets do not fit the network, [`Error::Value`] for a label that is none of the
    /// classes, [`Error::Config`] for labels where the loss takes values.
    pub fn accumulate_targets(&mut self, input: ArrayView3<f32>, targets: &Targets) -> Result<(), Error> {
        self.accumulate_view(input, targets.view())
    }

    fn accumulate_view(&mut self, input: ArrayView3<f32>, targets: TargetsView) -> Result<(), Error> {
        self.check_network()?;
        check_input(&self.described, input.dim())?;
        let (steps, batch, _) = input.dim();
        let output = (self.described.output_steps(steps), batch, self.described.output());
        let TrainConfig { loss, reduction, .. } = &self.config;
        let weights = RowWeights::new(loss, *reduction, &targets, None, output)?.single();
        match (&mut self.network, &mut self.state) {
            (Network::Cpu(network), State::Cpu(training)) => {
                training.accumulate(network, &self.config, input, targets.values, &weights);
                Ok(())
            }
            #[cfg(feature = "gpu")]
            (Network::Gpu(network), State::Gpu(training)) => {
                training.accumulate(network, &self.config, input, targets.values, weights)
            }
            #[cfg(feature = "gpu")]
            _ => Err(moved()),
        }
    }

    /// Changes the parameters by what was accumulated, clipped if so configured, and clears it. With nothing
    /// accumulated the gradient is zero.
    ///
    /// # Errors
    /// [`Error::NotFinite`] from the first gradient on that is not finite: the parameters keep their last good
    /// values. On a GPU it comes with the next thing read back. [`Error::Config`] for a learning rate out of range.
    pub fn update(&mut self) -> Result<(), Error> {
        self.check_network()?;
        check_rate(self.learning_rate)?;
        let step = self.steps + 1;
        match (&mut self.network, &mut self.state) {
            (Network::Cpu(network), State::Cpu(training)) => {
                training.update(network, &self.config, self.learning_rate, step)?;
            }
            #[cfg(feature = "gpu")]
            (Network::Gpu(network), State::Gpu(training)) => {
                training.update(network, &self.config, self.learning_rate, step)?;
            }
            #[cfg(feature = "gpu")]
            _ => return Err(moved()),
        }
        self.steps = step;
        Ok(())
    }

    /// Changes the learning rate from the next update on.
    pub fn set_learning_rate(&mut self, rate: f32) {
        self.learning_rate = rate;
    }

    /// The learning rate now.
    pub fn learning_rate(&self) -> f32 {
        self.learning_rate
    }

    /// The loss of every batch since the last call, in order.
    ///
    /// # Errors
    /// On a GPU [`Error::NotFinite`] and those of reading back.
    pub fn take_losses(&mut self) -> Result<Vec<f32>, Error> {
        match (&self.network, &mut self.state) {
            (Network::Cpu(_), State::Cpu(training)) => Ok(training.take_losses()),
            #[cfg(feature = "gpu")]
            (Network::Gpu(network), State::Gpu(training)) => training.take_losses(network),
            #[cfg(feature = "gpu")]
            _ => Err(moved()),
        }
    }

    /// Updates done, those before a resumed checkpoint included. A GPU counts those too that it refused since a gradient
    /// was not finite, until the failure is read back.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// What has been accumulated since the last update; zeros for frozen parameters.
    ///
    /// # Errors
    /// Those of reading back from a GPU.
    pub fn gradients(&mut self) -> Result<Parameters, Error> {
        self.check_network()?;
        match (&mut self.network, &mut self.state) {
            (Network::Cpu(network), State::Cpu(training)) => Ok(training.gradients(network)),
            #[cfg(feature = "gpu")]
            (Network::Gpu(network), State::Gpu(training)) => training.gradients(network),
            #[cfg(feature = "gpu")]
            _ => Err(moved()),
        }
    }

    /// The network, to predict with or to read its parameters.
    pub fn network(&mut self) -> &mut Network {
        &mut self.network
    }

    /// Ends training.
    pub fn into_network(self) -> Network {
        self.network
    }

    /// Everything to go on from here but the [`TrainConfig`], a changed learning rate, and what has been
    /// accumulated or not been taken: call it after an update.
    ///
    /// # Errors
    /// Those of reading back from a GPU.
    pub fn checkpoint(&mut self, seed: u64, metadata: BTreeMap<String, String>) -> Result<Checkpoint, Error> {
        self.check_network()?;
        let optimizer = match (&mut self.network, &mut self.state) {
            (Network::Cpu(network), State::Cpu(training)) => training.moments(network),
            #[cfg(feature = "gpu")]
            (Network::Gpu(network), State::Gpu(training)) => training.moments(network)?,
            #[cfg(feature = "gpu")]
            _ => return Err(moved()),
        };
        let parameters = self.network.parameters()?;
        Ok(Checkpoint {
            config: self.described.clone(),
            parameters,
            optimizer,
            step: self.steps,
            seed,
            metadata,
        })
    }

    /// Goes on from a checkpoint: with the same configuration, batches and device the parameters are, bit for bit,
    /// those of a run that was never interrupted.
    ///
    /// # Errors
    /// [`Error::Config`] if the checkpoint is of another kind of optimiser; [`Error::Model`] for tensors that do not
    /// fit; those of [`Network::with_parameters`] and [`Trainer::new`].
    pub fn resume(device: &Device, checkpoint: &Checkpoint, config: TrainConfig) -> Result<Trainer, Error> {
        let network = Network::with_parameters(device, &checkpoint.config, &checkpoint.parameters)?;
        let mut trainer = Trainer::new(network, config)?;
        let wanted = trainer.config.optimizer.moments();
        if !wanted.iter().copied().eq(checkpoint.optimizer.keys().map(String::as_str)) {
            let found: Vec<&str> = checkpoint.optimizer.keys().map(String::as_str).collect();
            return Err(Error::Config(format!(
                "checkpoint: the optimizer needs the moments [{}], found [{}]; resume with the optimizer it was written by",
                wanted.join(", "),
                found.join(", ")
            )));
        }
        for moments in checkpoint.optimizer.values() {
            moments.check(&checkpoint.config)?;
        }
        match (&trainer.network, &mut trainer.state) {
            (Network::Cpu(_), State::Cpu(training)) => training.set_moments(&checkpoint.optimizer),
            #[cfg(feature = "gpu")]
            (Network::Gpu(network), State::Gpu(training)) => {
                training.set_moments(network, &checkpoint.optimizer)?;
            }
            #[cfg(feature = "gpu")]
            _ => return Err(moved()),
        }
        trainer.steps = checkpoint.step;
        Ok(trainer)
    }

    /// [`Trainer::network`] lets a caller put another network in this one's place.
    fn check_network(&self) -> Result<(), Error> {
        if self.network.config() == &self.described {
            return Ok(());
        }
        Err(Error::Config(format!(
            "the network in training was {}, now it is {}; make a new trainer for it",
            self.described,
            self.network.config()
        )))
    }
}

/// [`Trainer::network`] lets a caller put a network of another device in this one's place.
#[cfg(feature = "gpu")]
fn moved() -> Error {
    Error::Config("the network in training moved to another device; make a new trainer for it".into())
}
