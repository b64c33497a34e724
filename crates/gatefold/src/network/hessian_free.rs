//! Hessian-free optimisation (Martens 2010; Martens and Sutskever 2011): each update minimises a damped quadratic model of
//! the loss by conjugate gradients, which see the curvature through Gauss-Newton products alone.

use super::Network;
use crate::loss::reference_loss;
use crate::targets::{RowWeights, Targets};
use crate::{Device, Error, Refusal, Sequences};
use gatefold_model::{Loss, NetworkConfig, Parameters, Reduction, Timeline};
use ndarray::{Array3, ArrayD, ArrayView3};

/// The options of [`HessianFree`].
#[derive(Clone, Debug, PartialEq)]
pub struct HessianFreeConfig {
    loss: Loss,
    reduction: Reduction,
    damping: f64,
    structural: f64,
    iterations: usize,
    decay: f64,
    probes: usize,
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
            decay: 0.95,
            probes: 4,
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

    /// The way the losses of a batch become one.
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
        let positive = self.damping > 0.0 && self.damping.is_finite();
        let structural = self.structural >= 0.0 && self.structural.is_finite();
        for (what, holds, expected, found) in [
            ("damping", positive, "a finite number above 0", self.damping.to_string()),
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

/// All that an optimisation continues from, beside its network's parameters.
#[derive(Clone, Debug, PartialEq)]
pub struct HessianFreeState {
    /// The damping of the next update.
    pub damping: f64,
    /// The last iterate of conjugate gradients, from which the next begins.
    pub direction: Parameters,
    /// Updates so far.
    pub updates: u64,
}

/// The course of an update.
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
    pub rate: f64,
    /// The damping of the next update.
    pub damping: f64,
}

/// Inputs with their targets.
type Batch<'a, 'b, 'c> = (&'a Sequences<'b>, &'a Targets<'c>);

/// A network in training by Hessian-free optimisation.
///
/// It computes on the network's device; the vectors of conjugate gradients are on the host, in double precision. The same
/// batches give the same bits, also after [`HessianFree::resume`].
#[derive(Debug)]
pub struct HessianFree {
    network: Network,
    /// For each recurrent layer, the network that ends with it.
    hidden: Vec<Network>,
    config: HessianFreeConfig,
    state: HessianFreeState,
}

/// The growth of the distance between the iterates that are kept to go back to.
const KEPT_GROWTH: f64 = 1.3;
/// The exponent of the preconditioner.
const PRECONDITIONER_POWER: f64 = 0.75;
/// The progress of an iteration, relative to all so far, below which conjugate gradients end.
const LEAST_PROGRESS: f64 = 5e-4;
/// The fraction by which the line search goes back, its most trials, and the share of the slope that it asks for.
const LINE_BACK: f64 = 0.8;
const LINE_TRIALS: usize = 60;
const LINE_SLOPE: f64 = 1e-2;

impl HessianFree {
    /// Begins with a network; `device` is the one that it is on.
    ///
    /// # Errors
    /// [`Error::Value`] for an option out of its range; [`Error::Refused`] for another loss, and for structural damping of a
    /// network with branches; [`Error::Model`] for layers without forward-mode derivatives; those of the device.
    pub fn new(device: &Device, network: Network, config: HessianFreeConfig) -> Result<HessianFree, Error> {
        let parameters = network.parameters()?;
        let zeros = |(name, of): (&str, &ArrayD<f32>)| (name.to_owned(), ArrayD::zeros(of.raw_dim()));
        let direction = parameters.iter().map(zeros).collect();
        let state = HessianFreeState { damping: config.damping, direction, updates: 0 };
        HessianFree::resume(device, network, config, state)
    }

    /// Continues with a network from a state.
    ///
    /// # Errors
    /// Those of [`HessianFree::new`], and [`Error::Model`] for a direction that is not shaped like the parameters.
    pub fn resume(
        device: &Device,
        network: Network,
        config: HessianFreeConfig,
        state: HessianFreeState,
    ) -> Result<HessianFree, Error> {
        config.check()?;
        network.check_gauss_newton(&config.loss)?;
        state.direction.check(network.config())?;
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
                hidden.push(Network::with_parameters(device, &part, &part_of(&part, &parameters))?);
            }
        }
        Ok(HessianFree { network, hidden, config, state })
    }

    /// The network.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// What [`HessianFree::resume`] continues from.
    pub fn state(&self) -> &HessianFreeState {
        &self.state
    }

    /// Updates the parameters: the gradient and the losses come from one batch, the curvature from another, which may be
    /// smaller.
    ///
    /// # Errors
    /// Those of [`Network::gauss_newton`], and [`Error::Value`] for a loss that is not finite; the parameters stay.
    pub fn update(
        &mut self,
        gradient: Batch<'_, '_, '_>,
        curvature: Batch<'_, '_, '_>,
    ) -> Result<HessianFreeUpdate, Error> {
        let parameters = self.network.parameters()?;
        let done = self.try_update(&parameters, gradient, curvature);
        if done.is_err() {
            // A trial may have moved them.
            self.network.set_parameters(&parameters)?;
        }
        done
    }

    fn try_update(
        &mut self,
        parameters: &Parameters,
        gradient: Batch<'_, '_, '_>,
        curvature: Batch<'_, '_, '_>,
    ) -> Result<HessianFreeUpdate, Error> {
        let lambda = self.state.damping;
        let (before, slope) = self.network.loss_and_gradient(gradient, &self.config)?;
        if !before.is_finite() {
            let (what, expected, found) = ("loss".into(), "a finite number".into(), before.to_string());
            return Err(Error::Value { what, expected, found });
        }
        let slope = flat(&slope);
        let diagonal = self.diagonal(curvature)?;
        let preconditioner: Vec<f64> =
            diagonal.iter().map(|d| (d + lambda).powf(PRECONDITIONER_POWER)).collect();
        let start: Vec<f64> = flat(&self.state.direction).iter().map(|x| self.config.decay * x).collect();
        let found = self.minimise(parameters, curvature, &slope, &preconditioner, start)?;

        // Back from the last iterate to the one with the smallest loss.
        let mut best = found.kept.last().expect("there is an iteration");
        let mut after = self.loss_at(parameters, &best.x, 1.0, gradient)?;
        for kept in found.kept.iter().rev().skip(1) {
            let loss = self.loss_at(parameters, &kept.x, 1.0, gradient)?;
            if !(loss < after || after.is_nan()) {
                break;
            }
            (best, after) = (kept, loss);
        }
        let ratio = (after - before) / best.model;
        let damping = match ratio {
            ratio if ratio > 0.75 => lambda * (2.0 / 3.0),
            // Also a loss that is not a number.
            ratio if ratio >= 0.25 => lambda,
            _ => lambda * 1.5,
        };
        let along = dot(&slope, &best.x);
        let mut rate = 1.0;
        for trial in 0.. {
            if after <= before + LINE_SLOPE * rate * along {
                break;
            }
            if trial == LINE_TRIALS {
                (rate, after) = (0.0, before);
                break;
            }
            rate *= LINE_BACK;
            after = self.loss_at(parameters, &best.x, rate, gradient)?;
        }
        self.network.set_parameters(&moved(parameters, &best.x, rate))?;
        self.state = HessianFreeState {
            damping,
            direction: unflat(parameters, &found.kept.last().expect("there is an iteration").x),
            updates: self.state.updates + 1,
        };
        Ok(HessianFreeUpdate { before, after, iterations: found.iterations, rate, damping })
    }

    /// The loss of a batch with parameters moved by `rate x`.
    fn loss_at(
        &mut self,
        from: &Parameters,
        x: &[f64],
        rate: f64,
        batch: Batch<'_, '_, '_>,
    ) -> Result<f64, Error> {
        self.network.set_parameters(&moved(from, x, rate))?;
        let (input, targets) = batch;
        let output = self.network.predict(input)?;
        Ok(self.network.weigh(output.view(), input, targets, &self.config.loss, self.config.reduction)?.0)
    }

    /// Preconditioned conjugate gradients for `B x = -slope`, B the damped Gauss-Newton matrix at the parameters.
    fn minimise(
        &mut self,
        parameters: &Parameters,
        curvature: Batch<'_, '_, '_>,
        slope: &[f64],
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
        let mut r: Vec<f64> = slope.iter().zip(&of_start).map(|(g, b)| -g - b).collect();
        let scaled = |r: &[f64]| -> Vec<f64> { r.iter().zip(preconditioner).map(|(r, m)| r / m).collect() };
        let mut y = scaled(&r);
        let mut p = y.clone();
        let mut before = dot(&r, &y);
        let (mut models, mut kept, mut next) = (Vec::new(), Vec::new(), 1.0f64);
        for iteration in 1..=self.config.iterations {
            let product = self.product(parameters, curvature, &p)?;
            let bend = dot(&p, &product);
            if bend > 0.0 {
                let alpha = before / bend;
                x.iter_mut().zip(&p).for_each(|(x, p)| *x += alpha * p);
                r.iter_mut().zip(&product).for_each(|(r, product)| *r -= alpha * product);
            }
            // x^T B x / 2 + slope x, since B x = -slope - r.
            let model = 0.5 * x.iter().zip(slope.iter().zip(&r)).map(|(x, (g, r))| x * (g - r)).sum::<f64>();
            models.push(model);
            let back = (iteration / 10).max(10);
            let far = iteration > back && model < 0.0;
            let slow = far && (model - models[iteration - back - 1]) / model < back as f64 * LEAST_PROGRESS;
            let ends = bend <= 0.0 || slow || iteration == self.config.iterations;
            if ends || iteration as f64 >= next {
                kept.push(Iterate { x: x.clone(), model });
                next = (next * KEPT_GROWTH).max(iteration as f64 + 1.0);
            }
            if ends {
                return Ok(Minimum { kept, iterations: iteration });
            }
            y = scaled(&r);
            let now = dot(&r, &y);
            let beta = now / before;
            before = now;
            p.iter_mut().zip(&y).for_each(|(p, y)| *p = y + beta * *p);
        }
        unreachable!("the last iteration ends it");
    }

    /// `B v`: the Gauss-Newton matrix, the damping, and the structural damping.
    fn product(&self, like: &Parameters, batch: Batch<'_, '_, '_>, v: &[f64]) -> Result<Vec<f64>, Error> {
        let (input, targets) = batch;
        let HessianFreeConfig { loss, reduction, structural, .. } = &self.config;
        let direction = unflat(like, v);
        let mut sum = flat(&self.network.gauss_newton(input, targets, loss, *reduction, &direction)?);
        let lambda = self.state.damping;
        sum.iter_mut().zip(v).for_each(|(sum, v)| *sum += lambda * v);
        for hidden in &self.hidden {
            let part = part_of(hidden.config(), &direction);
            let shape = (input.steps(), input.batch(), hidden.config().output());
            // The matrix of squared error is 2 J^T J, whatever the targets.
            let zeros = Array3::zeros(shape);
            let found = hidden.gauss_newton(input, &zeros, &Loss::SquaredError, Reduction::Sum, &part)?;
            let scale = structural * lambda / (2.0 * input.batch() as f64);
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
        let mut random = Random(self.config.seed ^ self.state.updates.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let mut sum = Vec::new();
        for _ in 0..self.config.probes {
            let tape = self.network.forward_training(input, None, None)?;
            let weights = self.network.row_weights(
                tape.output().dim(),
                input,
                targets,
                &self.config.loss,
                self.config.reduction,
            )?;
            let width = tape.output().dim().2;
            let mut d = tape.output().mapv(f64::from);
            for (row, weight) in d.as_slice_mut().expect("standard").chunks_mut(width).zip(weights.values()) {
                match self.config.loss {
                    Loss::CrossEntropy => sampled_residual(row, *weight, &mut random),
                    _ => row.iter_mut().for_each(|d| *d = (2.0 * weight).sqrt() * random.sign()),
                }
            }
            let d = d.mapv(|d| d as f32);
            let found = flat(&self.network.backward(tape, d.view(), None)?.parameters()?);
            sum.resize(found.len(), 0.0);
            let share = 1.0 / self.config.probes as f64;
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

    fn row_weights(
        &self,
        output: (usize, usize, usize),
        input: &Sequences<'_>,
        targets: &Targets<'_>,
        loss: &Loss,
        reduction: Reduction,
    ) -> Result<RowWeights, Error> {
        let lengths = input.lengths().filter(|_| self.config().timeline() == Timeline::Input);
        RowWeights::new(loss, reduction, &targets.view(), lengths, output)
    }

    /// The loss of an output, and its derivative.
    fn weigh(
        &self,
        output: ArrayView3<'_, f32>,
        input: &Sequences<'_>,
        targets: &Targets<'_>,
        loss: &Loss,
        reduction: Reduction,
    ) -> Result<(f64, Array3<f64>), Error> {
        let weights = self.row_weights(output.dim(), input, targets, loss, reduction)?;
        let (y, t) = (output.mapv(f64::from), targets.view().values.mapv(f64::from));
        Ok(reference_loss::<f64>(loss).weighted(y.view(), t.view(), weights.values()))
    }

    fn loss_and_gradient(
        &self,
        (input, targets): Batch<'_, '_, '_>,
        config: &HessianFreeConfig,
    ) -> Result<(f64, Parameters), Error> {
        let tape = self.forward_training(input, None, None)?;
        let (loss, d) = self.weigh(tape.output(), input, targets, &config.loss, config.reduction)?;
        let d = d.mapv(|d| d as f32);
        Ok((loss, self.backward(tape, d.view(), None)?.parameters()?))
    }
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

/// SplitMix64 (Steele, Lea and Flood 2014).
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn sign(&mut self) -> f64 {
        if self.next() >> 63 == 0 { 1.0 } else { -1.0 }
    }
}

fn has_branches(config: &NetworkConfig) -> bool {
    config.layer_configs().len() != config.layers().len()
}

/// The parameters of a network that begins like this one.
fn part_of(part: &NetworkConfig, all: &Parameters) -> Parameters {
    part.parameter_specs().map(|spec| (spec.name.clone(), all[spec.name.as_str()].clone())).collect()
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

fn moved(from: &Parameters, x: &[f64], rate: f64) -> Parameters {
    let mut elements = x.iter();
    let mut tensor = |of: &ArrayD<f32>| {
        of.map(|&value| (f64::from(value) + rate * elements.next().expect("an element for each")) as f32)
    };
    from.iter().map(|(name, of)| (name.to_owned(), tensor(of))).collect()
}
