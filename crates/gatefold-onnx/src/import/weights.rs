//! The weights of a cell or a dense layer, taken out of its sums.

use super::expression::{Expressions, Function};
use super::step::{Patterns, Place, Step, Sum, Told};
use crate::recurrent::{Operator, RecurrentOperator, Weights};
use gatefold_model::Activation;
use ndarray::{Array1, Array2, Array3};

/// The function of a gate, and how its sum becomes the function's argument: `(sum - shift) / factor`.
struct Meaning {
    activation: Activation,
    factor: f64,
    shift: f64,
}

/// The largest difference from 1 of the top of a hard sigmoid, which is a product of rounded numbers.
const ROUNDED: f64 = 1e-6;

/// The activation that a scaled function is.
fn meaning(function: Function, scale: f64, sum: &Sum) -> Result<Meaning, String> {
    let plain = |activation| Ok(Meaning { activation, factor: 1.0, shift: 0.0 });
    match function {
        Function::Activation(activation) if scale == 1.0 => plain(activation),
        Function::Clip { low: 0.0, high: f32::INFINITY } if scale == 1.0 => plain(Activation::Relu),
        Function::Clip { low: 0.0, high } if (scale * f64::from(high) - 1.0).abs() < ROUNDED => {
            // `clip(x + 3, 0, 6) / 6` and `clip(0.2 x + 0.5, 0, 1)`: 0.5 at 0, and the slope is a factor of all weights.
            let first = sum.dots.first().map(|dot| dot.3).or(sum.inputs.first().map(|input| input.1));
            let factor = first.filter(|&factor| factor > 0.0).ok_or("a gate has no slope")?;
            let activation = Activation::HardSigmoid { alpha: (scale * factor) as f32, beta: 0.5 };
            Ok(Meaning { activation, factor, shift: f64::from(high) / 2.0 })
        }
        Function::Clip { low, high } => Err(format!("a gate is clipped to {low}..{high}; no cell here is")),
        Function::Activation(activation) => {
            Err(format!("a gate is {scale} times {activation}; no cell here is"))
        }
    }
}

/// One block of rows of the weights.
struct Block {
    activation: Activation,
    /// `[H, I]`
    w: Array2<f64>,
    /// `[H, H]`
    r: Array2<f64>,
    b: Array1<f64>,
    biased: bool,
}

fn block<'t>(
    told: impl Iterator<Item = &'t Told>,
    (units, inputs): (usize, usize),
    patterns: &Patterns,
    expressions: &Expressions,
) -> Result<Block, String> {
    let mut all = Block {
        activation: Activation::Identity,
        w: Array2::zeros((units, inputs)),
        r: Array2::zeros((units, units)),
        b: Array1::zeros(units),
        biased: false,
    };
    for (unit, (function, scale, sum)) in told.enumerate() {
        let Meaning { activation, factor, shift } = meaning(*function, *scale, sum)?;
        if unit > 0 && activation != all.activation {
            return Err("its units have different functions".into());
        }
        all.activation = activation;
        for &(pattern, matrix, column, of) in &sum.dots {
            let weight = expressions.matrix(matrix);
            for (at, place) in patterns[pattern].iter().enumerate() {
                let value = of / factor * f64::from(weight[[at, column as usize]]);
                match *place {
                    Place::Input(i) => all.w[[unit, i]] += value,
                    Place::State(h) => all.r[[unit, h]] += value,
                    Place::Nothing => {}
                }
            }
        }
        for &(i, of) in &sum.inputs {
            all.w[[unit, i]] += of / factor;
        }
        let constant = sum.constant.unwrap_or(0.0) - shift;
        all.biased |= if shift == 0.0 { sum.constant.is_some() } else { constant != 0.0 };
        all.b[unit] = constant / factor;
    }
    Ok(all)
}

/// The weights of a recurrent layer in ONNX's order, and its operator.
pub(super) fn cell_weights(
    step: &Step,
    patterns: &Patterns,
    expressions: &Expressions,
) -> Result<(Weights, RecurrentOperator), String> {
    let (units, inputs) = (step.units.len(), step.x.len());
    let gates = step.operator.gates();
    if step.units.iter().any(|unit| unit.len() != gates) {
        return Err("its units have too few gates".into());
    }
    let blocks: Vec<Block> = (0..gates)
        .map(|gate| block(step.units.iter().map(|unit| &unit[gate]), (units, inputs), patterns, expressions))
        .collect::<Result<_, String>>()?;
    let mut operator = RecurrentOperator::new(step.operator);
    let of = |gate: usize| blocks[gate].activation;
    let mut gate_functions = vec![of(0)];
    let activations = match step.operator {
        Operator::Rnn => vec![of(0)],
        Operator::Gru => {
            gate_functions.push(of(1));
            vec![of(0), of(2)]
        }
        Operator::Lstm => {
            gate_functions.extend([of(1), of(2)]);
            let output = step.output.ok_or("it has no output function")?;
            vec![of(0), of(3), meaning(output, 1.0, &Sum::default())?.activation]
        }
    };
    if gate_functions.iter().any(|function| *function != gate_functions[0]) {
        return Err("its gates have different functions".into());
    }
    operator.activations = vec![activations];
    operator.linear_before_reset = step.operator == Operator::Gru && !step.resets_before;
    let rows = gates * units;
    let mut weights =
        Weights { w: Array3::zeros((1, rows, inputs)), r: Array3::zeros((1, rows, units)), b: None, p: None };
    let mut b = Array2::zeros((1, 2 * rows));
    let mut biased = false;
    for (gate, block) in blocks.iter().enumerate() {
        for unit in 0..units {
            let row = gate * units + unit;
            for i in 0..inputs {
                weights.w[[0, row, i]] = block.w[[unit, i]] as f32;
            }
            for h in 0..units {
                weights.r[[0, row, h]] = block.r[[unit, h]] as f32;
            }
            b[[0, row]] = block.b[unit] as f32;
        }
        biased |= block.biased;
    }
    if operator.linear_before_reset {
        // The part of the candidate that the reset gate multiplies.
        let sums: Option<Vec<&Sum>> = step.reset.iter().map(Option::as_ref).collect();
        let sums = sums.ok_or("its candidate has no reset gate")?;
        let identity = Function::Activation(Activation::Identity);
        let told: Vec<Told> = sums.into_iter().map(|sum| (identity, 1.0, sum.clone())).collect();
        let part = block(told.iter(), (units, inputs), patterns, expressions)?;
        if part.w.iter().any(|&value| value != 0.0) || blocks[2].r.iter().any(|&value| value != 0.0) {
            return Err("its reset gate multiplies the input, or leaves a part of the state alone".into());
        }
        for unit in 0..units {
            for h in 0..units {
                weights.r[[0, 2 * units + unit, h]] = part.r[[unit, h]] as f32;
            }
            b[[0, rows + 2 * units + unit]] = part.b[unit] as f32;
        }
        biased |= part.biased;
    }
    weights.b = biased.then_some(b);
    Ok((weights, operator))
}

/// The weight `[O, I]`, the bias and the function of a dense layer.
pub(super) type DenseWeights = (Array2<f32>, Option<Array1<f32>>, Activation);

/// Those of a step that is one.
pub(super) fn dense_weights(
    step: &Step,
    patterns: &Patterns,
    expressions: &Expressions,
) -> Result<DenseWeights, String> {
    let told = step.units.iter().map(|unit| &unit[0]);
    let block = block(told, (step.units.len(), step.x.len()), patterns, expressions)?;
    let bias = block.biased.then(|| block.b.mapv(|value| value as f32));
    Ok((block.w.mapv(|value| value as f32), bias, block.activation))
}
