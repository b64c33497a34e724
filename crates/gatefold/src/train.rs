use crate::cpu::CpuTraining;
#[cfg(feature = "gpu")]
use crate::gpu_training::GpuTraining;
use crate::stream::check_goes_on;
use crate::targets::{RowWeights, Targets, TargetsView};
use crate::{Device, Error, Loss, Network, Optimizer, Reduction, Sequences};
use gatefold_cpu::Dropout;
use gatefold_model::file::Checkpoint;
use gatefold_model::{LayerKind, NetworkConfig, Parameters, Timeline};
use ndarray::{ArrayD, ArrayView3};
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
    pub(crate) dropout_seed: u64,
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
            dropout_seed: 0,
            groups: Vec::new(),
        }
    }

    /// How gradients become new parameters; Adam by default.
    pub fn optimizer(mut self, optimizer: Optimizer) -> Self {
        self.optimizer = optimizer;
        self
    }

    /// The learning rate to begin with, 0 or more; 1e-3 by default. [`Trainer::set_learning_rate`] changes it.
    pub fn learning_rate(mut self, rate: f32) -> Self {
        self.learning_rate = rate;
        self
    }

    /// What training makes small; the squared error by default.
    pub fn loss(mut self, loss: Loss) -> Self {
        self.loss = loss;
        self
    }

    /// Whether the losses of a batch are averaged or added up; averaged by default.
    pub fn reduction(mut self, reduction: Reduction) -> Self {
        self.reduction = reduction;
        self
    }

    /// The largest magnitude of any element of the gradient, above 0; larger ones are held there, before the norm is
    /// taken. None by default.
    pub fn clip_value(mut self, limit: Option<f32>) -> Self {
        self.clip_value = limit;
        self
    }

    /// The largest Euclidean norm of the gradient of all parameters that are not frozen, above 0; longer ones are
    /// shortened. None by default.
    pub fn clip_norm(mut self, norm: Option<f32>) -> Self {
        self.clip_norm = norm;
        self
    }

    /// The seed of the masks that dropout layers draw, 0 by default; the same seed draws the same masks on every
    /// device.
    pub fn dropout_seed(mut self, seed: u64) -> Self {
        self.dropout_seed = seed;
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
        if let (Loss::CrossEntropy, Some(last)) = (&self.loss, network.layers().last())
            && last.kind == LayerKind::Softmax
        {
            return Err(Error::Config(format!(
                "loss cross-entropy: it takes logits, and {} makes probabilities of them; leave that layer out",
                last.place()
            )));
        }
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

    /// Multiplies the learning rate by a number, 0 or more.
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
    /// Batches accumulated since the last update.
    accumulated: u32,
    carries: bool,
    /// The rows of the batch whose final states the device holds.
    carried: Option<usize>,
    state: State,
}

/// How the states of one batch meet those of the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Carry {
    /// Whether the batch starts from what was kept.
    pub(crate) read: bool,
    /// After how many steps the states are kept.
    pub(crate) keep: Option<usize>,
}

/// One batch as a device trains on it.
#[derive(Debug)]
pub(crate) struct TrainBatch<'a> {
    pub(crate) input: &'a Sequences,
    pub(crate) target: ArrayView3<'a, f32>,
    /// `[T' B]`
    pub(crate) weights: Vec<f32>,
    pub(crate) dropout: Option<Dropout>,
    pub(crate) carry: Carry,
}

/// Truncated backpropagation through time over long series (Williams and Peng 1990): windows of `horizon` steps, one every
/// `stride` steps, with an update after each. A step's loss counts in the first window that has it, and its gradient goes
/// back to where that window begins: at least `horizon - stride` steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Truncation {
    /// Steps that gradients go back, at most.
    pub horizon: usize,
    /// Steps from one window to the next, 1 to `horizon`.
    pub stride: usize,
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
        Ok(Trainer {
            network,
            described,
            config,
            learning_rate,
            steps: 0,
            accumulated: 0,
            carries: false,
            carried: None,
            state,
        })
    }

    /// One batch, `input [T, B, I]` and `target [T', B, F]`: [`Trainer::accumulate`] and [`Trainer::update`].
    ///
    /// # Errors
    /// Those of both.
    pub fn step(&mut self, input: ArrayView3<f32>, target: ArrayView3<f32>) -> Result<(), Error> {
        self.check_update()?;
        self.accumulate(input, target)?;
        self.update()
    }

    /// Adds the gradients of a batch, `input [T, B, I]` and `target [T', B, F]`, to those accumulated since the
    /// last update. They are summed, as in PyTorch, not averaged. Every row counts alike.
    ///
    /// # Errors
    /// Those of [`Trainer::accumulate_targets`].
    pub fn accumulate(&mut self, input: ArrayView3<f32>, target: ArrayView3<f32>) -> Result<(), Error> {
        let input = Sequences::time_major(input.to_owned());
        self.accumulate_view(&input, TargetsView::of_values(target), self.carry(input.steps()))
    }

    /// [`Trainer::accumulate`] for `input [T, B, I]` and targets of any kind, with weights.
    ///
    /// # Errors
    /// Those of [`Trainer::accumulate_batch`].
    pub fn accumulate_targets(&mut self, input: ArrayView3<f32>, targets: &Targets) -> Result<(), Error> {
        self.accumulate_batch(&Sequences::time_major(input.to_owned()), targets)
    }

    /// Adds the gradients of a batch of sequences of any lengths. What lies behind a row's end counts for nothing.
    ///
    /// # Errors
    /// [`Error::Shape`] where input or targets do not fit the network, [`Error::Value`] for a label that is none of the
    /// classes, [`Error::Config`] for labels where the loss takes values, and for a carried state of another batch size;
    /// on a GPU also [`Error::TooLarge`] and [`Error::OutOfMemory`].
    pub fn accumulate_batch(&mut self, input: &Sequences, targets: &Targets) -> Result<(), Error> {
        self.accumulate_view(input, targets.view(), self.carry(input.steps()))
    }

    /// [`Trainer::accumulate_batch`] and [`Trainer::update`].
    ///
    /// # Errors
    /// Those of both.
    pub fn step_batch(&mut self, input: &Sequences, targets: &Targets) -> Result<(), Error> {
        self.check_update()?;
        self.accumulate_batch(input, targets)?;
        self.update()
    }

    /// Whether each batch starts from the states that the one before ended with, without a gradient between them; the
    /// first from what the layers say. The states stay on the device and are no part of a checkpoint. Off at first.
    ///
    /// # Errors
    /// [`Error::Config`] for a network with a layer that reads the sequence from its end, or with a decoder.
    pub fn carry_state(&mut self, carries: bool) -> Result<(), Error> {
        if carries {
            check_goes_on(&self.described)?;
        }
        self.carries = carries;
        self.reset_state();
        Ok(())
    }

    /// Lets the carried states go: the next batch starts from what the layers say.
    pub fn reset_state(&mut self) {
        self.carried = None;
    }

    /// Truncated backpropagation through time over long series, `input [T, B, I]` and targets of all `T` steps, with an
    /// update after each window. It starts from the carried states where [`Trainer::carry_state`] says so, and carries
    /// states within the series anyway.
    ///
    /// # Errors
    /// [`Error::Config`] for a stride of 0 or above the horizon, and for a network without an output at every step, with a
    /// layer that reads the sequence from its end, or with a decoder; those of [`Trainer::step_batch`].
    pub fn step_truncated(
        &mut self,
        input: &Sequences,
        targets: &Targets,
        truncation: Truncation,
    ) -> Result<(), Error> {
        let Truncation { horizon, stride } = truncation;
        if stride == 0 || stride > horizon {
            return Err(Error::Config(format!(
                "truncation: the horizon is {horizon} and the stride {stride}; expected a stride of 1 to the horizon"
            )));
        }
        check_goes_on(&self.described)?;
        if self.described.timeline() != Timeline::Input {
            let found = format!("{}: truncation needs an output at every step", self.described);
            return Err(Error::Config(found));
        }
        // All of it before the first update, which cannot be taken back.
        self.check_update()?;
        input.check(&self.described)?;
        let output = (input.steps(), input.batch(), self.described.output());
        RowWeights::new(&self.config.loss, self.config.reduction, &targets.view(), input.lengths(), output)?;
        if !self.carries {
            self.reset_state();
        }
        let mut begin = 0;
        let mut counted = 0;
        while counted < input.steps() {
            let end = (begin + horizon).min(input.steps());
            let keep = if end == input.steps() { end - begin } else { stride };
            let carry = Carry { read: self.carried.is_some(), keep: Some(keep) };
            let window = input.window(begin..end);
            self.accumulate_view(&window, targets.view().window(begin..end, counted), carry)?;
            self.update()?;
            counted = end;
            begin += stride;
        }
        if !self.carries {
            self.reset_state();
        }
        Ok(())
    }

    fn carry(&self, steps: usize) -> Carry {
        Carry { read: self.carries && self.carried.is_some(), keep: self.carries.then_some(steps) }
    }

    fn accumulate_view(
        &mut self,
        input: &Sequences,
        targets: TargetsView,
        carry: Carry,
    ) -> Result<(), Error> {
        self.check_network()?;
        input.check(&self.described)?;
        let batch = input.batch();
        if let Some(carried) = self.carried.filter(|&carried| carry.read && carried != batch) {
            return Err(Error::Config(format!(
                "the carried state has {carried} rows and the batch {batch}; call Trainer::reset_state before it"
            )));
        }
        let of_output = input.of_output();
        let output = (self.described.output_steps(of_output.steps()), batch, self.described.output());
        let lengths = of_output.lengths().filter(|_| self.described.timeline().has_lengths());
        let TrainConfig { loss, reduction, .. } = &self.config;
        let weights = RowWeights::new(loss, *reduction, &targets, lengths, output)?.single();
        // Every batch has masks of its own, those behind a checkpoint too. Multiples of 2^32 over the golden ratio keep
        // apart: those of a million updates by more than a thousand, which so many batches may be accumulated in.
        let number = (self.steps as u32).wrapping_mul(0x9E37_79B1).wrapping_add(self.accumulated);
        let drops =
            self.described.layers().iter().any(|layer| matches!(layer.kind, LayerKind::Dropout { .. }));
        let dropout = drops.then_some(Dropout { seed: self.config.dropout_seed, batch: number });
        let given = TrainBatch { input, target: targets.values, weights, dropout, carry };
        match (&mut self.network, &mut self.state) {
            (Network::Cpu(network), State::Cpu(training)) => {
                training.accumulate(network, &self.config, given)?;
            }
            #[cfg(feature = "gpu")]
            (Network::Gpu(network), State::Gpu(training)) => {
                training.accumulate(network, &self.config, given)?;
            }
            #[cfg(feature = "gpu")]
            _ => return Err(moved()),
        }
        self.accumulated = self.accumulated.wrapping_add(1);
        if carry.keep.is_some() {
            self.carried = Some(batch);
        }
        Ok(())
    }

    /// Changes the parameters by what was accumulated, clipped if so configured, and clears it. With nothing
    /// accumulated the gradient is zero.
    ///
    /// # Errors
    /// [`Error::NotFinite`] from the first gradient on that is not finite: the parameters keep their last good
    /// values. On a GPU it comes with the next thing read back. [`Error::Config`] for a learning rate out of range.
    pub fn update(&mut self) -> Result<(), Error> {
        self.check_update()?;
        // A checkpoint may say anything.
        let step = self.steps.saturating_add(1);
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
        self.accumulated = 0;
        Ok(())
    }

    /// Changes the learning rate from the next update on, which refuses one below 0.
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

    /// Everything to go on from here but the [`TrainConfig`], a changed learning rate, carried states, and what has
    /// been accumulated or not been taken: call it after an update. `seed` and `metadata` are the caller's own, and
    /// travel along.
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
        let mut optimizer = checkpoint.optimizer.clone();
        for moments in optimizer.values_mut() {
            // Nothing reads the moments of what is frozen.
            let frozen =
                checkpoint.config.parameter_specs().filter(|spec| trainer.config.rule(&spec.name).frozen);
            for spec in frozen {
                if moments.get(&spec.name).is_none() {
                    moments.insert(&spec.name, ArrayD::zeros(spec.shape.as_slice()));
                }
            }
            moments.check(&checkpoint.config)?;
        }
        match (&trainer.network, &mut trainer.state) {
            (Network::Cpu(_), State::Cpu(training)) => training.set_moments(&optimizer),
            #[cfg(feature = "gpu")]
            (Network::Gpu(network), State::Gpu(training)) => {
                training.set_moments(network, &optimizer)?;
            }
            #[cfg(feature = "gpu")]
            _ => return Err(moved()),
        }
        trainer.steps = checkpoint.step;
        Ok(trainer)
    }

    /// What would stop an update: asked before a batch is accumulated for it, which would count twice if given again.
    fn check_update(&self) -> Result<(), Error> {
        self.check_network()?;
        check_rate(self.learning_rate)
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
