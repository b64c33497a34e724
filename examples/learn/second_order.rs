//! Curvature: a narrow valley, and three ways down.

use crate::parts::plot;
use std::error::Error;

/// The loss `(x^2 + 100 y^2) / 2`; its second derivatives are 1 and 100.
const CURVATURE: [f64; 2] = [1.0, 100.0];
const START: [f64; 2] = [10.0, 1.0];

type Point = [f64; 2];

fn dot(a: Point, b: Point) -> f64 {
    a[0] * b[0] + a[1] * b[1]
}

/// The curvature times a vector, all that is ever asked of it.
fn product(v: Point) -> Point {
    [CURVATURE[0] * v[0], CURVATURE[1] * v[1]]
}

fn loss(at: Point) -> f64 {
    dot(at, product(at)) / 2.0
}

fn along(at: Point, by: f64, direction: Point) -> Point {
    [at[0] + by * direction[0], at[1] + by * direction[1]]
}

/// Losses of gradient descent, with momentum.
fn descent(rate: f64, momentum: f64, steps: usize) -> Vec<f64> {
    let (mut at, mut speed) = (START, [0.0; 2]);
    let mut losses = vec![loss(at)];
    for _ in 0..steps {
        let gradient = product(at);
        speed = [momentum * speed[0] - rate * gradient[0], momentum * speed[1] - rate * gradient[1]];
        at = along(at, 1.0, speed);
        losses.push(loss(at));
    }
    losses
}

/// Losses of conjugate gradients (Hestenes and Stiefel 1952).
fn conjugate(steps: usize) -> Vec<f64> {
    let mut at = START;
    let mut residual = product(at).map(|value| -value);
    let mut direction = residual;
    let mut losses = vec![loss(at)];
    for _ in 0..steps {
        let before = dot(residual, residual);
        if before > 1e-30 {
            let curved = product(direction);
            let by = before / dot(direction, curved);
            at = along(at, by, direction);
            residual = along(residual, -by, curved);
            direction = along(residual, dot(residual, residual) / before, direction);
        }
        losses.push(loss(at).max(1e-12));
    }
    losses
}

pub(crate) fn run() -> Result<(), Box<dyn Error>> {
    let shown = [0, 1, 2, 10, 50];
    let columns: String = shown.iter().map(|step| format!("{step:>10}")).collect();
    println!("{:<22}{columns}", "loss after steps");
    let ways = [
        ("gradient descent", descent(0.019, 0.0, 60)),
        ("with momentum", descent(0.019, 0.8, 60)),
        ("conjugate gradients", conjugate(60)),
    ];
    for (name, losses) in &ways {
        let numbers: String = shown.iter().map(|step| format!("{:>10.4}", losses[*step])).collect();
        println!("{name:<22}{numbers}");
    }
    plot("second-order", ("Three ways down a narrow valley", "step", "loss"), &ways)
}
