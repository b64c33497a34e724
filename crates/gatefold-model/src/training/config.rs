use super::{Loss, Optimizer, Reduction, Schedule};
use crate::{Direction, LayerKind, ModelError, NetworkConfig, Timeline};

/// The options of training.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct TrainConfig {
    /// The rule that turns gradients into new parameters.
    pub optimizer: Optimizer,
    /// The learning rate that the schedule starts from.
    pub learning_rate: f32,
    /// The learning rate's changes from update to update.
    pub schedule: Schedule,
    /// The loss to minimise.
    pub loss: Loss,
    /// Whether the losses of a batch are averaged or summed.
    pub reduction: Reduction,
    /// The largest magnitude of an element of the gradient; `None` for any.
    pub clip_value: Option<f32>,
    /// The largest norm of the whole gradient; `None` for any.
    pub clip_norm: Option<f32>,
    /// The seed of dropout's masks.
    pub dropout_seed: u64,
    /// The steps of a chunk, of which only the initial states are kept for the backward pass, and the rest is computed
    /// again; `None` to keep everything.
    pub recompute: Option<usize>,
    /// The decay of the exponential moving average of the parameters; `None` for no average.
    pub average: Option<f32>,
    /// Parameters that are trained differently from the rest.
    pub groups: Vec<ParameterGroup>,
}

impl TrainConfig {
    /// Adam at a constant learning rate of 1e-3, the mean squared error, no clipping, all parameters alike.
    pub fn new() -> Self {
        TrainConfig {
            optimizer: Optimizer::default(),
            learning_rate: 1e-3,
            schedule: Schedule::default(),
            loss: Loss::default(),
            reduction: Reduction::default(),
            clip_value: None,
            clip_norm: None,
            dropout_seed: 0,
            recompute: None,
            average: None,
            groups: Vec::new(),
        }
    }

    /// Sets the optimiser; Adam by default.
    pub fn optimizer(mut self, optimizer: Optimizer) -> Self {
        self.optimizer = optimizer;
        self
    }

    /// Sets the learning rate, 0 or more; 1e-3 by default. A schedule multiplies it.
    pub fn learning_rate(mut self, rate: f32) -> Self {
        self.learning_rate = rate;
        self
    }

    /// Sets how the learning rate changes from update to update; constant by default.
    pub fn schedule(mut self, schedule: Schedule) -> Self {
        self.schedule = schedule;
        self
    }

    /// Sets the loss to minimise; the squared error by default.
    pub fn loss(mut self, loss: Loss) -> Self {
        self.loss = loss;
        self
    }

    /// Averages or sums the losses of a batch; averages by default.
    pub fn reduction(mut self, reduction: Reduction) -> Self {
        self.reduction = reduction;
        self
    }

    /// Limits the magnitude of every element of the gradient, before the norm is taken; above 0. No limit by default.
    pub fn clip_value(mut self, limit: Option<f32>) -> Self {
        self.clip_value = limit;
        self
    }

    /// Limits the Euclidean norm of the gradient of all parameters that are not frozen: longer gradients are scaled
    /// down to it. Above 0; no limit by default.
    pub fn clip_norm(mut self, norm: Option<f32>) -> Self {
        self.clip_norm = norm;
        self
    }

    /// Sets the seed of the masks that dropout layers draw, 0 by default; the same seed draws the same masks on every
    /// device.
    pub fn dropout_seed(mut self, seed: u64) -> Self {
        self.dropout_seed = seed;
        self
    }

    /// Trains long sequences in little memory, by recomputation (gradient checkpointing, Chen et al. 2016): sequences are
    /// cut into chunks of that many steps, 1 or more; `None`, the default, for none. Forward keeps the states at which
    /// the chunks begin. Backward goes from the last chunk to the first, and runs each forward again before it goes back
    /// through it. This is backpropagation through the whole sequence, nothing is truncated. The gradients are those of
    /// the uncut sequence up to rounding, for about 4/3 of the time; sequences of one chunk are trained as without it. Of
    /// `T` steps, those of one chunk and `T / steps` states are in memory: least for about `sqrt(T)` steps.
    ///
    /// The network's recurrent layers must read the steps of its input, forward in time. Layers after a last-step or
    /// final-state layer must not be recurrent.
    pub fn recompute(mut self, steps: Option<usize>) -> Self {
        self.recompute = steps;
        self
    }

    /// Keeps an exponential moving average of the parameters beside them: `a = decay a + (1 - decay) p` after every
    /// update, for a decay of at least 0 and below 1, such as 0.999; `None`, the default, for none. The average starts
    /// as a copy of the parameters after the first update (as PyTorch's `AveragedModel` with `get_ema_multi_avg_fn`),
    /// and does not change the training. An update that is not made, because it would overflow or its gradient is not
    /// finite, does not change the average.
    pub fn average(mut self, decay: Option<f32>) -> Self {
        self.average = decay;
        self
    }

    /// Treats some parameters differently. The first group that fits a parameter's name applies.
    pub fn group(mut self, group: ParameterGroup) -> Self {
        self.groups.push(group);
        self
    }

    /// The rule for the parameter with this name.
    pub fn rule(&self, name: &str) -> ParameterRule {
        let group = self.groups.iter().find(|group| name.starts_with(&group.prefix));
        group.map_or(ParameterRule::default(), |group| group.rule)
    }

    /// The optimiser for parameters with this rule: the configured one, with the group's weight decay if it has one.
    pub fn optimizer_of(&self, rule: ParameterRule) -> Optimizer {
        rule.weight_decay.map_or(self.optimizer, |decay| self.optimizer.with_weight_decay(decay))
    }

    /// Checks every option, also against the network to be trained.
    ///
    /// # Errors
    /// [`ModelError::Option`] and [`ModelError::Config`] name the option that is out of range, does not fit the network,
    /// or names no parameter of it.
    pub fn check(&self, network: &NetworkConfig) -> Result<(), ModelError> {
        self.optimizer.check()?;
        self.schedule.check()?;
        self.loss.check()?;
        self.loss.target_width(network.output())?;
        if let (Loss::CrossEntropy, Some(last)) = (&self.loss, network.layers().last())
            && last.kind == LayerKind::Softmax
        {
            let problem = format!(
                "it takes logits, and {} makes probabilities of them; leave that layer out",
                last.place()
            );
            return Err(ModelError::Config { place: "loss cross-entropy".into(), problem });
        }
        check_learning_rate(self.learning_rate)?;
        for (option, limit) in
            [("the norm to clip at", self.clip_norm), ("the value to clip at", self.clip_value)]
        {
            if let Some(limit) = limit
                && !(limit > 0.0 && limit.is_finite())
            {
                return Err(ModelError::option(option, limit, "a finite number above 0"));
            }
        }
        if let Some(decay) = self.average
            && !(0.0..1.0).contains(&decay)
        {
            return Err(ModelError::option(
                "the decay of the average",
                decay,
                "a number of at least 0 and below 1",
            ));
        }
        if let Some(steps) = self.recompute {
            check_recompute(steps, network)?;
        }
        self.groups.iter().try_for_each(|group| group.check(network))
    }
}

impl Default for TrainConfig {
    fn default() -> Self {
        TrainConfig::new()
    }
}

/// Checks a learning rate.
///
/// # Errors
/// [`ModelError::Option`] for one that is negative or not finite.
pub fn check_learning_rate(rate: f32) -> Result<(), ModelError> {
    if rate >= 0.0 && rate.is_finite() {
        return Ok(());
    }
    Err(ModelError::option("the learning rate", rate, "a finite number, 0 or more"))
}

/// Checks that a network can be trained in chunks of that many steps.
fn check_recompute(steps: usize, network: &NetworkConfig) -> Result<(), ModelError> {
    if steps == 0 {
        return Err(ModelError::option("recompute: the steps of a chunk", 0.0, "1 or more, or none"));
    }
    for layer in network.layers() {
        let problem = match layer.kind {
            LayerKind::Decoder { .. } => "it starts from the end of the encoder's sequence",
            LayerKind::Recurrent(recurrent) if recurrent.direction != Direction::Forward => {
                "it reads the sequence from its end"
            }
            LayerKind::Conv1d(conv)
                if !conv.is_pointwise()
                    && matches!(layer.timeline, Timeline::Input | Timeline::Convolved(_)) =>
            {
                "it reads steps on both sides of a cut"
            }
            LayerKind::Pool(_) => "it reads all steps of a row",
            LayerKind::Recurrent(_) if layer.timeline != Timeline::Input => {
                "it does not read the steps of the network's input"
            }
            _ => continue,
        };
        let place = format!("recompute: {}", layer.place());
        return Err(ModelError::Config {
            place,
            problem: format!("{problem}, so sequences cannot be cut into chunks; leave the option out"),
        });
    }
    Ok(())
}

/// A group of parameters, by the prefix of their names, that are trained differently from the rest.
#[derive(Clone, Debug, PartialEq)]
pub struct ParameterGroup {
    prefix: String,
    rule: ParameterRule,
}

/// The rule for training one parameter.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct ParameterRule {
    /// The factor of the learning rate.
    pub learning_rate_factor: f32,
    /// The replacement of the optimiser's weight decay.
    pub weight_decay: Option<f32>,
    /// Whether the parameter is left unchanged.
    pub frozen: bool,
}

impl Default for ParameterRule {
    fn default() -> Self {
        ParameterRule { learning_rate_factor: 1.0, weight_decay: None, frozen: false }
    }
}

impl ParameterGroup {
    /// The parameters whose names start with `prefix`, such as `rnn0.` or `dense1.weight`.
    pub fn new(prefix: impl Into<String>) -> Self {
        ParameterGroup { prefix: prefix.into(), rule: ParameterRule::default() }
    }

    /// Multiplies the learning rate by a number, 0 or more.
    pub fn learning_rate_factor(mut self, factor: f32) -> Self {
        self.rule.learning_rate_factor = factor;
        self
    }

    /// Replaces the optimiser's weight decay for these parameters; 0 or more.
    pub fn weight_decay(mut self, decay: f32) -> Self {
        self.rule.weight_decay = Some(decay);
        self
    }

    /// Leaves these parameters unchanged; clipping ignores them too.
    pub fn frozen(mut self) -> Self {
        self.rule.frozen = true;
        self
    }

    fn check(&self, network: &NetworkConfig) -> Result<(), ModelError> {
        let place = format!("parameter group \"{}\"", self.prefix);
        let ParameterRule { learning_rate_factor, weight_decay, .. } = self.rule;
        for (name, value) in
            [("the learning rate factor", Some(learning_rate_factor)), ("the weight decay", weight_decay)]
        {
            if let Some(value) = value.filter(|value| !(*value >= 0.0 && value.is_finite())) {
                return Err(ModelError::option(
                    format!("{place}: {name}"),
                    value,
                    "a finite number, 0 or more",
                ));
            }
        }
        if network.parameter_specs().any(|spec| spec.name.starts_with(&self.prefix)) {
            return Ok(());
        }
        let names: Vec<&str> = network.parameter_specs().map(|spec| spec.name.as_str()).collect();
        let problem = format!("no parameter's name starts so; there are {}", names.join(", "));
        Err(ModelError::Config { place, problem })
    }
}
