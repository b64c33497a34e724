//! Forward-mode derivatives and Gauss-Newton products of whole networks through the public API, against the reference in
//! `f64`.

use super::{SequenceCase, compare, wide};
use crate::Random;
use crate::compare::Tolerance;
use crate::selfcheck::Checks;
use gatefold::training::{Loss, Reduction};
use gatefold::{Device, Error, Network, Parameters, Targets};
use gatefold_reference as reference;
use ndarray::ArrayD;

impl SequenceCase {
    /// Every cell and kind of layer that has forward-mode derivatives, the cells in one direction after another.
    pub fn with_tangents() -> Vec<SequenceCase> {
        let has_tangents =
            |case: &SequenceCase| case.config.check_forward_mode().is_ok() && !case.config.has_noise();
        let one = |kind: usize| {
            let cases = SequenceCase::of_kind(kind).into_iter().filter(|case| case.steps > 1);
            let mut cases: Vec<SequenceCase> = cases.filter(has_tangents).collect();
            (!cases.is_empty()).then(|| cases.swap_remove(kind % cases.len()))
        };
        let cells = (0..super::cells(1).len()).filter_map(one);
        cells.chain(SequenceCase::networks().into_iter().filter(has_tangents)).collect()
    }

    /// A random direction in the space of the parameters.
    fn direction(&self, stream: u64) -> Parameters {
        let mut random = Random::new(self.seed, stream);
        let specs = self.config.parameter_specs();
        let tensor =
            |shape: &[usize], values| ArrayD::from_shape_vec(shape, values).expect("as many elements");
        specs.map(|spec| (spec.name.clone(), tensor(&spec.shape, random.values(spec.len())))).collect()
    }
}

fn tangents(direction: &Parameters) -> reference::Tangents {
    let widened = direction.iter().map(|(name, tensor)| (name.to_owned(), tensor.mapv(f64::from)));
    reference::Tangents::of_parameters(widened.collect())
}

/// Compares the derivative of the output along a direction in parameters and input, and a Gauss-Newton product, of every
/// case on a device; the losses take turns.
///
/// # Errors
/// Any error of the engine.
pub fn check_tangents(device: &Device, cases: &[SequenceCase]) -> Result<Checks, Error> {
    let mut checks = Checks::default();
    for (turn, case) in cases.iter().enumerate() {
        check(device, case, turn, &mut checks)?;
    }
    Ok(checks)
}

fn check(device: &Device, case: &SequenceCase, turn: usize, checks: &mut Checks) -> Result<(), Error> {
    let SequenceCase { config, .. } = case;
    let (parameters, input) = (case.parameters(), case.input()?);
    let (direction, shape) = (case.direction(6), input.values().dim());
    let input_dot = Random::new(case.seed, 7).sequence(shape);
    let network = Network::with_parameters(device, config, &parameters)?;
    let found = network.jvp(&input, &direction, Some(input_dot.view()))?;

    let judge = reference::Network::<f64>::new(config, &parameters)?;
    let values = wide(input.values());
    let batch = reference::Batch { lengths: input.lengths(), ..reference::Batch::new(values.view()) };
    let along = tangents(&direction);
    let moved = reference::Tangents { input: Some(wide(input_dot.view())), ..along.clone() };
    let want = judge.jvp(&batch, &moved);
    checks.case(case.describe());
    // Each sum of a tangent has twice the terms of that of its value, and its factors have the value's errors.
    let forward = Tolerance::output(3 * case.output_terms());
    compare(checks, "tangent", found.tangent.view(), want.output.view(), forward);

    let output = found.output.dim();
    let target = Random::new(case.seed, 8).sequence(output);
    let counts = |at: usize| {
        let (t, row) = (at / output.1, at % output.1);
        let lengths = case.lengths.as_ref().filter(|_| output.0 == case.steps);
        f64::from(u8::from(lengths.is_none_or(|lengths| t < lengths[row])))
    };
    let weights: Vec<f64> = (0..output.0 * output.1).map(counts).collect();
    let labels =
        ndarray::Array2::from_shape_fn((output.0, output.1), |(t, row)| ((t + 2 * row) % output.2) as i64);
    let label_values = labels.mapv(|label| label as f64).insert_axis(ndarray::Axis(2));
    let backward = Tolerance::gradient(3 * case.output_terms() + case.gradient_terms());
    let (loss, targets, wanted, values) = if turn.is_multiple_of(2) {
        let squared = reference::loss::Loss::Squared;
        (Loss::SquaredError, Targets::from(&target), squared, wide(target.view()))
    } else {
        (Loss::CrossEntropy, Targets::from(&labels), reference::loss::Loss::CrossEntropy, label_values)
    };
    let found = network.gauss_newton(&input, targets, &loss, Reduction::Sum, &direction)?;
    let want = judge.gauss_newton(&batch, &wanted, (values.view(), &weights), &along);
    for (name, want) in &want.parameters {
        compare(checks, &format!("{}, {name}", loss.name()), found[name].view(), want.view(), backward);
    }
    Ok(())
}
