//! A recurrent network trained with curvature: Gauss-Newton products and conjugate gradients.

use crate::parts::draw;
use gatefold::layers::{DenseConfig, LayerConfig, RnnConfig};
use gatefold::training::Reduction;
use gatefold::{Device, Loss, Network, NetworkConfig, Parameters};
use gatefold_series::plot::LinesPlot;
use ndarray::Array3;
use std::error::Error;

const STEPS: usize = 12;
const ROWS: usize = 32;
/// Products of an update, each of which takes about as long as two gradients.
const PRODUCTS: usize = 20;
const UPDATES: usize = 20;

/// Noise, and the task: to say at the end what the first sample was.
fn task() -> (Array3<f32>, Array3<f32>) {
    let input = Array3::from_shape_fn((STEPS, ROWS, 1), |(t, row, _)| {
        let wild = (12.9898 * (t * ROWS + row) as f64).sin() * 43_758.545_3;
        (2.0 * (wild - wild.floor()) - 1.0) as f32
    });
    let target = Array3::from_shape_fn((1, ROWS, 1), |(_, row, _)| input[[0, row, 0]]);
    (input, target)
}

struct Problem {
    network: Network,
    input: Array3<f32>,
    target: Array3<f32>,
}

impl Problem {
    fn new() -> Result<Problem, Box<dyn Error>> {
        let layers: [LayerConfig; 3] =
            [RnnConfig::new(8).into(), LayerConfig::LastStep, DenseConfig::new(1).into()];
        let network = Network::new(&Device::cpu()?, &NetworkConfig::new(1, layers)?, 1)?;
        let (input, target) = task();
        Ok(Problem { network, input, target })
    }

    /// The mean squared error, and its gradient.
    fn gradient(&self) -> Result<(f64, Parameters), Box<dyn Error>> {
        let tape = self.network.forward_training(&self.input, None, None)?;
        let errors = &tape.output() - &self.target;
        let loss = errors.iter().map(|error| f64::from(*error).powi(2)).sum::<f64>() / ROWS as f64;
        let d_output = errors * (2.0 / ROWS as f32);
        Ok((loss, self.network.backward(tape, d_output.view(), None)?.parameters()?))
    }

    /// The damped curvature times a direction.
    fn product(&self, direction: &Parameters, damping: f64) -> Result<Parameters, Box<dyn Error>> {
        let (loss, reduction) = (Loss::SquaredError, Reduction::Mean);
        let curved = self.network.gauss_newton(&self.input, &self.target, &loss, reduction, direction)?;
        Ok(along(&curved, damping, direction))
    }

    /// The step `d` with `(G + damping) d = -gradient`, as far as some conjugate gradients find it.
    fn step(&self, gradient: &Parameters, damping: f64) -> Result<Parameters, Box<dyn Error>> {
        let mut step = Parameters::zeros(self.network.config())?;
        let mut residual = along(&step, -1.0, gradient);
        let mut direction = residual.clone();
        for _ in 0..PRODUCTS {
            let curved = self.product(&direction, damping)?;
            let before = dot(&residual, &residual);
            let by = before / dot(&direction, &curved);
            step = along(&step, by, &direction);
            residual = along(&residual, -by, &curved);
            direction = along(&residual, dot(&residual, &residual) / before, &direction);
        }
        Ok(step)
    }

    fn moved(&mut self, by: f64, direction: &Parameters) -> Result<(), Box<dyn Error>> {
        let parameters = along(&self.network.parameters()?, by, direction);
        Ok(self.network.set_parameters(&parameters)?)
    }
}

fn dot(a: &Parameters, b: &Parameters) -> f64 {
    let products = a.iter().map(|(name, values)| {
        let other = b.get(name).expect("both have the same parameters");
        values.iter().zip(other).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>()
    });
    products.sum()
}

fn along(at: &Parameters, by: f64, direction: &Parameters) -> Parameters {
    let mut moved = at.clone();
    for (name, values) in direction.iter() {
        moved.get_mut(name).expect("both have the same parameters").scaled_add(by as f32, values);
    }
    moved
}

/// The losses of gradient descent.
fn descent(rate: f64, steps: usize) -> Result<Vec<f64>, Box<dyn Error>> {
    let mut problem = Problem::new()?;
    let mut losses = Vec::new();
    for _ in 0..=steps {
        let (loss, gradient) = problem.gradient()?;
        losses.push(loss);
        problem.moved(-rate, &gradient)?;
    }
    Ok(losses)
}

/// The losses of damped Gauss-Newton updates. A step that makes the loss larger is taken back, and the damping raised
/// (Levenberg 1944; Marquardt 1963).
fn curved() -> Result<Vec<f64>, Box<dyn Error>> {
    let mut problem = Problem::new()?;
    let (mut damping, mut losses) = (0.01, Vec::new());
    for _ in 0..=UPDATES {
        let (loss, gradient) = problem.gradient()?;
        losses.push(loss);
        let step = problem.step(&gradient, damping)?;
        problem.moved(1.0, &step)?;
        if problem.gradient()?.0 < loss {
            damping /= 2.0;
        } else {
            problem.moved(-1.0, &step)?;
            damping *= 4.0;
        }
    }
    Ok(losses)
}

pub(crate) fn run() -> Result<(), Box<dyn Error>> {
    // As many gradients as all products and gradients of the other way cost.
    let steps = UPDATES * (2 * PRODUCTS + 2);
    let (first, second) = (descent(0.1, steps)?, curved()?);
    println!("mean squared error\n");
    println!("at the start                    {:.3}", first[0]);
    println!("{steps} steps of gradient descent   about {:.1e}", first[steps]);
    println!("{UPDATES} steps with curvature         about {:.1e}", second[UPDATES]);
    let cost = (2 * PRODUCTS + 2) as f64;
    let points = |losses: &[f64], cost: f64| -> Vec<(f64, f64)> {
        losses.iter().enumerate().map(|(step, loss)| (step as f64 * cost, *loss)).collect()
    };
    // Every seventh point of the long curve is enough.
    let slow: Vec<(f64, f64)> = points(&first, 1.0).into_iter().step_by(7).collect();
    let lines: &[(&str, &[(f64, f64)])] =
        &[("gradient descent", &slow), ("with curvature", &points(&second, cost))];
    let title = "Remembering the first of twelve samples";
    draw("gauss-newton", &LinesPlot { title, x: "cost in gradients", y: "mean squared error", lines })
}
