//! Hessian-free optimisation (Martens 2010; Martens and Sutskever 2011): each update minimises a damped quadratic model of
//! the loss by conjugate gradients, which see the curvature through Gauss-Newton products alone.

use super::Network;
use super::random::Random;
use crate::loss::reference_loss;
use crate::targets::{RowWeights, Targets};
use crate::{Error, Refusal, Sequences};
use gatefold_model::{Loss, NetworkConfig, Parameters, Reduction};
use ndarray::{Array3, ArrayD, ArrayView3};

/// The options of [`HessianFree`].
#[derive(Clone, Debug, PartialEq)]
pub struct HessianFreeConfig {
    loss: Loss,
    reduction: Reduction,
    damping: f64,
    structural: f64,
    iterations: usize,
    seed: u64,
}

impl Default for HessianFreeConfig {
    fn default() -> Self {
        HessianFreeConfig {
            loss: Loss::SquaredError,
            reduction: Reduction::Mean,
            damping: 1.0,
            structural: 0.0,
            iterations: 100,
            seed: 0,
        }
    }
}

impl HessianFreeConfig {
    /// Mean squared error, damping that begins at 1, no structural damping, at most 100 iterations an update.
    pub fn new() -> Self {
        Self::default()
    }

    /// The loss: squared error or cross-entropy.
    pub fn loss(mut self, loss: Loss) -> Self {
        self.loss = loss;
        self
    }

    /// The way the losses of a batch become one; the mean if it is not set. Structural damping is averaged over rows with
    /// either.
    pub fn reduction(mut self, reduction: Reduction) -> Self {
        self.reduction = reduction;
        self
    }

    /// The damping of the first update, which Levenberg and Marquardt's rule then adapts; above 0.
    pub fn damping(mut self, damping: f64) -> Self {
        self.damping = damping;
        self
    }

    /// The weight of structural damping (Martens and Sutskever 2011), a multiple of the damping; 0 for none. It holds back
    /// changes of the recurrent layers' outputs: half their square, summed over steps and units, averaged over rows.
    pub fn structural_damping(mut self, weight: f64) -> Self {
        self.structural = weight;
        self
    }

    /// The most iterations of conjugate gradients in an update; at least 1.
    pub fn iterations(mut self, most: usize) -> Self {
        self.iterations = most;
        self
    }

    /// The seed of the random vectors that estimate the diagonal for the preconditioner.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    fn check(&self) -> Result<(), Error> {
        check_damping(self.damping)?;
        let structural = self.structural >= 0.0 && self.structural.is_finite();
        for (what, holds, expected, found) in [
            ("structural damping", structural, "a finite number, 0 or more", self.structural.to_string()),
            ("iterations", self.iterations > 0, "at least 1", self.iterations.to_string()),
        ] {
            if !holds {
                return Err(Error::Value { what: what.into(), expected: expected.into(), found });
            }
        }
        Ok(())
    }
}

fn check_damping(damping: f64) -> Result<(), Error> {
    if damping > 0.0 && damping.is_finite() {
        return Ok(());
    }
    Err(unfit("damping", "a finite number above 0", damping))
}

fn unfit(what: &str, expected: &str, found: f64) -> Error {
    Error::Value { what: what.into(), expected: expected.into(), found: found.to_string() }
}

/// All that an optimisation continues from, beside its network's parameters.
#[derive(Clone, Debug, PartialEq)]
pub struct HessianFreeState {
    /// The damping of the next update; above 0.
    pub damping: f64,
    /// The last iterate of conjugate gradients, from which the next begins.
    pub direction: Parameters,
    /// Updates so far.
    pub updates: u64,
}

/// Result of an update.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct HessianFreeUpdate {
    /// The loss of the gradient's batch before the update.
    pub before: f64,
    /// And after it; the same if no step made it smaller.
    pub after: f64,
    /// Iterations of conjugate gradients.
    pub iterations: usize,
    /// The fraction of the direction that was taken; 0 if none made the loss smaller.
    pub step_size: f64,
    /// The change of the loss along the whole direction, divided by the change that the quadratic model without damping
    /// predicts; minus infinity if the loss did not fall, or the model does not.
    pub reduction_ratio: f64,
    /// The damping of the next update.
    pub damping: f64,
}

/// Inputs with their targets.
type Batch<'a, 'b, 'c> = (&'a Sequences<'b>, &'a Targets<'c>);

/// A network in training by Hessian-free optimisation.
///
/// It computes on the network's device; the vectors of conjugate gradients are on the host, in double precision. The same
/// batches give the same bits, also after [`HessianFree::resume`].
///
/// It updates every parameter: there are no groups and no frozen parameters. To hold some, train with
/// [`Trainer`](crate::Trainer). It writes no checkpoint files either: save the network with [`Network::save`], and
/// with them [`HessianFree::state`], whose direction is [`Parameters`] too.
#[derive(Debug)]
pub struct HessianFree {
    network: Network,
    /// For each recurrent layer, the network that ends with it.
    hidden: Vec<Network>,
    config: HessianFreeConfig,
    state: HessianFreeState,
}

/// The share of the last direction that the next begins with.
const DECAY: f64 = 0.95;
/// The random vectors of an estimate of the diagonal.
const PROBES: usize = 4;
/// The growth of the distance between the iterates that are kept to go back to.
const KEPT_GROWTH: f64 = 1.3;
/// The exponent of the preconditioner.
const PRECONDITIONER_POWER: f64 = 0.75;
/// The progress of an iteration, relative to all so far, below which conjugate gradients end: a mean over the last
/// `max(10, i / 10)` of i iterations.
const LEAST_PROGRESS: f64 = 5e-4;
/// The fraction by which the line search goes back, its most trials, and the share of the gradient's promise that it asks for.
const LINE_BACK: f64 = 0.8;
const LINE_TRIALS: usize = 60;
const LINE_SHARE: f64 = 1e-2;

impl HessianFree {
    /// Begins with a network, on its device.
    ///
    /// # Errors
    /// [`Error::Value`] for an option out of its range; [`Error::Refused`] for another loss, and for structural damping of a
    /// network with branches; [`Error::Model`] for layers without forward-mode derivatives; those of the device.
    pub fn new(network: Network, config: HessianFreeConfig) -> Result<HessianFree, Error> {
        let parameters = network.parameters()?;
        let zeros = |(name, of): (&str, &ArrayD<f32>)| (name.to_owned(), ArrayD::zeros(of.raw_dim()));
        let direction = parameters.iter().map(zeros).collect();
        let state = HessianFreeState { damping: config.damping, direction, updates: 0 };
        HessianFree::resume(network, config, state)
    }

    /// Continues with a network from a state, whose damping replaces the configured one.
    ///
    /// # Errors
    /// Those of [`HessianFree::new`]; [`Error::Model`] for a direction that is not shaped like the parameters, and
    /// [`Error::Value`] for one that is not finite, and for a damping that is not a finite number above 0.
    pub fn resume(
        network: Network,
        config: HessianFreeConfig,
        state: HessianFreeState,
    ) -> Result<HessianFree, Error> {
        config.check()?;
        network.check_gauss_newton(&config.loss)?;
        check_damping(state.damping)?;
        state.direction.check(network.config())?;
        check_finite("direction", &flat(&state.direction))?;
        let mut hidden = Vec::new();
        if config.structural > 0.0 {
            let (all, parameters) = (network.config(), network.parameters()?);
            for layer in all.recurrent_layers() {
                let Some(layers) = all.layer_configs().get(..=layer.index).filter(|_| !has_branches(all))
                else {
                    let message = "structural damping is for layers one after another; leave it out";
                    return Err(Error::refused(Refusal::Targets, message));
                };
                let part = NetworkConfig::new(all.input(), layers)?;
                hidden.push(Network::with_parameters(
                    &network.device(),
                    &part,
                    &part_of(&part, &parameters),
                )?);
            }
        }
        Ok(HessianFree { network, hidden, config, state })
    }

    /// The network.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// The state that [`HessianFree::resume`] continues from.
    pub fn state(&self) -> &HessianFreeState {
        &self.state
    }

    /// Updates the parameters: the gradient and the losses come from one batch, the curvature from another, which may be
    /// smaller. A batch is an input `[T, B, I]` with its targets, values `[T', B, F]` or labels `[T', B]`; T and B may
    /// differ between the two.
    ///
    /// # Errors
    /// Those of [`Network::gauss_newton`], and [`Error::Value`] for a loss or a gradient that is not finite; the parameters
    /// stay.
    pub fn update(
        &mut self,
        gradient: Batch<'_, '_, '_>,
        curvature: Batch<'_, '_, '_>,
    ) -> Result<HessianFreeUpdate, Error> {
        let parameters = self.network.parameters()?;
        self.try_update(&parameters, gradient, curvature).inspect_err(|_| {
            // A trial may have moved them. If this fails too, the first error is the one that says why.
            let _ = self.network.set_parameters(&parameters);
        })
    }

    fn try_update(
        &mut self,
        parameters: &Parameters,
        batch: Batch<'_, '_, '_>,
        curvature: Batch<'_, '_, '_>,
    ) -> Result<HessianFreeUpdate, Error> {
        let lambda = self.state.damping;
        let (before, gradient) = self.network.loss_and_gradient(batch, &self.config)?;
        if !before.is_finite() {
            return Err(unfit("loss", "a finite number", before));
        }
        let gradient = flat(&gradient);
        check_finite("gradient", &gradient)?;
        let diagonal = self.diagonal(curvature)?;
        let preconditioner: Vec<f64> =
            diagonal.iter().map(|d| (d + lambda).powf(PRECONDITIONER_POWER)).collect();
        let start: Vec<f64> = flat(&self.state.direction).iter().map(|x| DECAY * x).collect();
        let found = self.minimise(parameters, curvature, &gradient, &preconditioner, start)?;

        // Back from the last iterate to the one with the smallest loss.
        let mut best = found.kept.last().expect("there is an iteration");
        let mut after = self.loss_at(parameters, &best.x, 1.0, batch)?;
        for kept in found.kept.iter().rev().skip(1) {
            let loss = self.loss_at(parameters, &kept.x, 1.0, batch)?;
            if !(loss < after || after.is_nan()) {
                break;
            }
            (best, after) = (kept, loss);
        }
        let damped = self.damping_product(parameters, curvature.0, &best.x)?;
        let model = best.model - 0.5 * dot(&best.x, &damped);
        let falls = after < before && model < 0.0;
        let reduction_ratio = if falls { (after - before) / model } else { f64::NEG_INFINITY };
        let damping = match reduction_ratio {
            ratio if ratio > 0.75 => lambda * (2.0 / 3.0),
            ratio if ratio >= 0.25 => lambda,
            _ => lambda * 1.5,
        };
        let (step_size, after) =
            self.line_search(parameters, (&gradient, &best.x), (before, after), batch)?;
        self.state = HessianFreeState {
            damping,
            direction: unflat(parameters, &found.kept.last().expect("there is an iteration").x),
            updates: self.state.updates + 1,
        };
        let iterations = found.iterations;
        Ok(HessianFreeUpdate { before, after, iterations, step_size, reduction_ratio, damping })
    }

    /// Moves the parameters along a direction as far as makes the loss smaller, or not at all; `after` is the loss with the
    /// whole direction. Returns the fraction taken, and the loss there.
    fn line_search(
        &mut self,
        parameters: &Parameters,
        (gradient, x): (&[f64], &[f64]),
        (before, mut after): (f64, f64),
        batch: Batch<'_, '_, '_>,
    ) -> Result<(f64, f64), Error> {
        // The direction may lead uphill at first: an early iterate, near the last direction.
        let along = dot(gradient, x).min(0.0);
        let trials = if x.iter().all(|&x| x == 0.0) { 0 } else { LINE_TRIALS };
        let mut step_size = 1.0;
        for trial in 0.. {
            if after < before && after <= before + LINE_SHARE * step_size * along {
                self.network.set_parameters(&moved(parameters, x, step_size))?;
                return Ok((step_size, after));
            }
            if trial == trials {
                break;
            }
            step_size *= LINE_BACK;
            after = self.loss_at(parameters, x, step_size, batch)?;
        }
        self.network.set_parameters(parameters)?;
        Ok((0.0, before))
    }

    /// The loss of a batch with parameters moved by `step_size x`.
    fn loss_at(
        &mut self,
        from: &Parameters,
        x: &[f64],
        step_size: f64,
        (input, targets): Batch<'_, '_, '_>,
    ) -> Result<f64, Error> {
        self.network.set_parameters(&moved(from, x, step_size))?;
        let HessianFreeConfig { loss, reduction, .. } = &self.config;
        let weights = self.network.row_weights(input, targets, loss, *reduction)?;
        Ok(weighted(self.network.predict(input)?.view(), targets, loss, &weights).0)
    }

    /// Preconditioned conjugate gradients for `B x = -gradient`, B the damped Gauss-Newton matrix at the parameters.
    fn minimise(
        &mut self,
        parameters: &Parameters,
        curvature: Batch<'_, '_, '_>,
        gradient: &[f64],
        preconditioner: &[f64],
        mut x: Vec<f64>,
    ) -> Result<Minimum, Error> {
        for hidden in &mut self.hidden {
            let part = part_of(hidden.config(), parameters);
            hidden.set_parameters(&part)?;
        }
        let of_start = if x.iter().all(|&x| x == 0.0) {
            vec![0.0; x.len()]
        } else {
            self.product(parameters, curvature, &x)?
        };
        let mut r: Vec<f64> = gradient.iter().zip(&of_start).map(|(g, b)| -g - b).collect();
        let scaled = |r: &[f64]| -> Vec<f64> { r.iter().zip(preconditioner).map(|(r, m)| r / m).collect() };
        let mut y = scaled(&r);
        let mut p = y.clone();
        let mut residual = dot(&r, &y);
        let (mut models, mut kept, mut next) = (Vec::new(), Vec::new(), 1.0f64);
        for iteration in 1..=self.config.iterations {
            let product = self.product(parameters, curvature, &p)?;
            let curvature_along = dot(&p, &product);
            // Not where a product overflows.
            let goes_on = curvature_along > 0.0 && curvature_along.is_finite();
            if goes_on {
                let alpha = residual / curvature_along;
                x.iter_mut().zip(&p).for_each(|(x, p)| *x += alpha * p);
                r.iter_mut().zip(&product).for_each(|(r, product)| *r -= alpha * product);
            }
            // x^T B x / 2 + gradient x, since B x = -gradient - r.
            let model =
                0.5 * x.iter().zip(gradient.iter().zip(&r)).map(|(x, (g, r))| x * (g - r)).sum::<f64>();
            models.push(model);
            let back = (iteration / 10).max(10);
            let far = iteration > back && model < 0.0;
            let slow = far && (model - models[iteration - back - 1]) / model < back as f64 * LEAST_PROGRESS;
            let ends = !goes_on || slow || iteration == self.config.iterations;
            if ends || iteration as f64 >= next {
                kept.push(Iterate { x: x.clone(), model });
                next = (next * KEPT_GROWTH).max(iteration as f64 + 1.0);
            }
            if ends {
                return Ok(Minimum { kept, iterations: iteration });
            }
            y = scaled(&r);
            let now = dot(&r, &y);
            let beta = now / residual;
            residual = now;
            p.iter_mut().zip(&y).for_each(|(p, y)| *p = y + beta * *p);
        }
        unreachable!("the last iteration ends it");
    }

    /// `B v`: the Gauss-Newton matrix, the damping, and the structural damping.
    fn product(&self, like: &Parameters, batch: Batch<'_, '_, '_>, v: &[f64]) -> Result<Vec<f64>, Error> {
        let (input, targets) = batch;
        let HessianFreeConfig { loss, reduction, .. } = &self.config;
        let found = flat(&self.network.gauss_newton(input, targets, loss, *reduction, &unflat(like, v))?);
        let mut sum = self.damping_product(like, input, v)?;
        sum.iter_mut().zip(&found).for_each(|(sum, found)| *sum += found);
        Ok(sum)
    }

    /// `(B - G) v`: both dampings without the Gauss-Newton matrix, at the parameters of the last call of `minimise`.
    fn damping_product(
        &self,
        like: &Parameters,
        input: &Sequences<'_>,
        v: &[f64],
    ) -> Result<Vec<f64>, Error> {
        let (lambda, direction) = (self.state.damping, unflat(like, v));
        let mut sum: Vec<f64> = v.iter().map(|v| lambda * v).collect();
        for hidden in &self.hidden {
            let part = part_of(hidden.config(), &direction);
            let config = hidden.config();
            let shape = (config.output_steps(input.steps()), input.batch(), config.output());
            // The matrix of squared error is 2 J^T J, whatever the targets.
            let zeros = Array3::zeros(shape);
            let found = hidden.gauss_newton(input, &zeros, &Loss::SquaredError, Reduction::Sum, &part)?;
            let scale = self.config.structural * lambda / (2.0 * input.batch() as f64);
            let mut at = 0;
            for (name, tensor) in like.iter() {
                if let Some(found) = found.get(name) {
                    let own = &mut sum[at..at + tensor.len()];
                    own.iter_mut().zip(found).for_each(|(sum, &found)| *sum += scale * f64::from(found));
                }
                at += tensor.len();
            }
        }
        Ok(sum)
    }

    /// An estimate of the Gauss-Newton matrix's diagonal: the mean of squared gradients of random vectors whose covariance
    /// is the Hessian of the loss (Martens, Sutskever and Swersky 2012).
    fn diagonal(&self, batch: Batch<'_, '_, '_>) -> Result<Vec<f64>, Error> {
        let (input, targets) = batch;
        let mut random = Random::of_update(self.config.seed, self.state.updates);
        let HessianFreeConfig { loss, reduction, .. } = &self.config;
        let weights = self.network.row_weights(input, targets, loss, *reduction)?;
        let mut sum = Vec::new();
        for _ in 0..PROBES {
            let tape = self.network.forward_training(input, None, None)?;
            let width = tape.output().dim().2;
            let mut d = tape.output().mapv(f64::from);
            for (row, weight) in d.as_slice_mut().expect("standard").chunks_mut(width).zip(weights.values()) {
                match loss {
                    Loss::CrossEntropy => sampled_residual(row, *weight, &mut random),
                    _ => row.iter_mut().for_each(|d| *d = (2.0 * weight).sqrt() * random.sign()),
                }
            }
            let d = d.mapv(|d| d as f32);
            let found = flat(&self.network.backward(tape, d.view(), None)?.parameters()?);
            sum.resize(found.len(), 0.0);
            let share = 1.0 / PROBES as f64;
            sum.iter_mut().zip(&found).for_each(|(sum, g)| *sum += share * g * g);
        }
        Ok(sum)
    }
}

/// An iterate of conjugate gradients, and the quadratic model there.
#[derive(Debug)]
struct Iterate {
    x: Vec<f64>,
    model: f64,
}

#[derive(Debug)]
struct Minimum {
    /// Iterates further and further apart, the last one last.
    kept: Vec<Iterate>,
    iterations: usize,
}

impl Network {
    fn check_gauss_newton(&self, loss: &Loss) -> Result<(), Error> {
        self.config().check_forward_mode()?;
        super::second_order::check_loss(loss)
    }

    fn loss_and_gradient(
        &self,
        (input, targets): Batch<'_, '_, '_>,
        config: &HessianFreeConfig,
    ) -> Result<(f64, Parameters), Error> {
        let weights = self.row_weights(input, targets, &config.loss, config.reduction)?;
        let tape = self.forward_training(input, None, None)?;
        let (loss, d) = weighted(tape.output(), targets, &config.loss, &weights);
        let d = d.mapv(|d| d as f32);
        Ok((loss, self.backward(tape, d.view(), None)?.parameters()?))
    }
}

/// The loss of an output, and its derivative.
fn weighted(
    output: ArrayView3<'_, f32>,
    targets: &Targets<'_>,
    loss: &Loss,
    weights: &RowWeights,
) -> (f64, Array3<f64>) {
    let (y, t) = (output.mapv(f64::from), targets.view().values.mapv(f64::from));
    reference_loss::<f64>(loss).weighted(y.view(), t.view(), weights.values())
}

/// Logits replaced by `sqrt(weight) (e_k - p)` with k drawn from their softmax p.
fn sampled_residual(row: &mut [f64], weight: f64, random: &mut Random) {
    let largest = row.iter().fold(f64::NEG_INFINITY, |largest, &y| largest.max(y));
    row.iter_mut().for_each(|y| *y = (*y - largest).exp());
    let sum: f64 = row.iter().sum();
    let (mut left, mut drawn) = (random.unit() * sum, row.len() - 1);
    for (k, p) in row.iter().enumerate() {
        left -= p;
        if left < 0.0 {
            drawn = k;
            break;
        }
    }
    row.iter_mut().enumerate().for_each(|(k, p)| {
        *p = weight.sqrt() * (f64::from(u8::from(k == drawn)) - *p / sum);
    });
}

fn has_branches(config: &NetworkConfig) -> bool {
    config.layer_configs().len() != config.layers().len()
}

/// The parameters of a network that begins like this one.
fn part_of(part: &NetworkConfig, all: &Parameters) -> Parameters {
    part.parameter_specs().map(|spec| (spec.name.clone(), all[spec.name.as_str()].clone())).collect()
}

fn check_finite(what: &str, values: &[f64]) -> Result<(), Error> {
    let found = values.iter().find(|value| !value.is_finite());
    found.map_or(Ok(()), |&found| Err(unfit(what, "finite numbers", found)))
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// The elements of all tensors, in the order of their names.
fn flat(parameters: &Parameters) -> Vec<f64> {
    parameters.iter().flat_map(|(_, tensor)| tensor.iter().map(|&value| f64::from(value))).collect()
}

fn unflat(like: &Parameters, x: &[f64]) -> Parameters {
    let mut elements = x.iter();
    let tensor = |of: &ArrayD<f32>, elements: &mut std::slice::Iter<f64>| {
        of.map(|_| *elements.next().expect("an element for each") as f32)
    };
    like.iter().map(|(name, of)| (name.to_owned(), tensor(of, &mut elements))).collect()
}

fn moved(from: &Parameters, x: &[f64], step_size: f64) -> Parameters {
    let mut elements = x.iter();
    let mut tensor = |of: &ArrayD<f32>| {
        of.map(|&value| (f64::from(value) + step_size * elements.next().expect("an element for each")) as f32)
    };
    from.iter().map(|(name, of)| (name.to_owned(), tensor(of))).collect()
}
