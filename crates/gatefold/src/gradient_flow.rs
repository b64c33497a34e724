//! Gradients that can be seen: how a loss's gradient fares on its way back through time.

use crate::loss::reference_loss;
use crate::network::Tape;
use crate::stream::check_goes_on;
use crate::targets::RowWeights;
use crate::{Error, Loss, Network, Sequences, Targets};
use gatefold_model::{
    Activation, Cell, GruGate, Layer, LayerState, LstmGate, Parameters, Recurrent, Reduction, States,
    Timeline,
};
use gatefold_reference as reference;
use gatefold_reference::cells::Gating;
use ndarray::{Array1, Array2, Array3, ArrayView3, Axis, s};

/// A gate with a value nearer than this to an end of its range counts as saturated, as a share of the range (Karpathy,
/// Johnson and Fei-Fei, "Visualizing and understanding recurrent networks", 2015).
const SATURATED: f64 = 0.1;
/// The rows whose gates are looked at.
const GATE_ROWS: usize = 8;
/// The most rounds of the power iteration at each step, and the relative growth below which it ends. It starts from the
/// vector of the step after.
const ROUNDS: usize = 200;
const GROWTH: f64 = 1e-7;

/// The norms of a loss's gradient at every time step, of each recurrent layer.
///
/// All lists have an entry per time step, and entry `t` belongs to the state that step `t` begins with: entry 0 to the
/// initial state.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct GradientFlow {
    /// The loss.
    pub loss: f64,
    /// The recurrent layers, in order.
    pub layers: Vec<LayerFlow>,
}

/// One recurrent layer of a [`GradientFlow`].
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct LayerFlow {
    /// The layer's number in the network.
    pub layer: usize,
    /// The layer's name, such as `layer 0 (lstm)`.
    pub place: String,
    /// The Euclidean norm of the gradient with respect to h, over rows and units.
    pub hidden: Vec<f64>,
    /// Likewise with respect to an LSTM's c.
    pub cell: Option<Vec<f64>>,
    /// The spectral norm of the Jacobian of the layer's final state with respect to the state before each step, h and c
    /// together, for the first row. Above 1, a change of the state grows on its way to the end.
    pub jacobian: Vec<f64>,
    /// The gates, in the order of the cell; for an RNN its output.
    pub gates: Vec<GateSaturation>,
}

/// The shares of a gate's units that are near an end of their range, over the first eight rows.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct GateSaturation {
    /// The gate's name: `input`, `forget`, `cell`, `output`, `reset`, `update`, `new`, or `output` for an RNN.
    pub gate: &'static str,
    /// The share in the lowest tenth of the range. A relu has no range, and counts where it is 0.
    pub low: Vec<f64>,
    /// The share in the highest tenth.
    pub high: Vec<f64>,
}

impl Network {
    /// Follows the gradient of a loss back through time: its norm with respect to every state, the norm of the Jacobian
    /// from every step to the last, and the share of saturated gates.
    ///
    /// The sequence is run a step at a time, on the network's device, so this takes several times as long as a pass, and
    /// training is none the slower for it.
    ///
    /// # Errors
    /// [`Error::Refused`] for a network that cannot be run step by step: with a decoder, a layer that reads the sequence
    /// from its end or a convolution; those of [`Network::forward`], [`Network::backward`] and [`Targets::loss`].
    pub fn gradient_flow<'a>(
        &self,
        input: impl Into<Sequences<'a>>,
        targets: impl Into<Targets<'a>>,
        loss: &Loss,
        reduction: Reduction,
    ) -> Result<GradientFlow, Error> {
        let (input, targets) = (input.into(), targets.into());
        loss.check()?;
        check_goes_on(self.config())?;
        input.check(self.config())?;
        let (loss, states) = self.state_gradients(&input, &targets, loss, reduction)?;
        let parameters = self.parameters()?;
        let mut saturation = saturation(self, &parameters, &input)?.into_iter();
        let mut layers = Vec::new();
        for (at, layer) in self.config().recurrent_layers().enumerate() {
            let norms = |of: &dyn Fn(&LayerState) -> Option<f64>| {
                states.iter().map(|states| of(&states.layers[at])).collect::<Option<Vec<f64>>>()
            };
            layers.push(LayerFlow {
                layer: layer.index,
                place: layer.place(),
                hidden: norms(&|state| Some(norm(state.h.iter()))).unwrap_or_default(),
                cell: norms(&|state| state.c.as_ref().map(|c| norm(c.iter()))),
                jacobian: self.jacobian_norms(&input, at)?,
                gates: saturation.next().unwrap_or_default(),
            });
        }
        Ok(GradientFlow { loss, layers })
    }

    /// The loss, and its gradients with respect to the states before each step.
    fn state_gradients(
        &self,
        input: &Sequences,
        targets: &Targets,
        loss: &Loss,
        reduction: Reduction,
    ) -> Result<(f64, Vec<States>), Error> {
        let (steps, batch, width) = (input.steps(), input.batch(), self.config().output());
        let mut tapes = Vec::with_capacity(steps);
        let mut outputs = Array3::zeros((steps, batch, width));
        for t in 0..steps {
            let states = tapes.last().map(|tape: &Tape| tape.states().clone());
            let tape = self.forward_training(input.window(t..t + 1), states.as_ref(), None)?;
            outputs.slice_mut(s![t..=t, .., ..]).assign(&tape.output());
            tapes.push(tape);
        }
        // A network with one output for the sequence gives it at each row's last step.
        let ends: Vec<usize> = input.lengths().map_or_else(|| vec![steps; batch], <[usize]>::to_vec);
        let single = self.config().timeline() != Timeline::Input;
        let output = if single {
            let last = |(_, row, k): (usize, usize, usize)| outputs[[ends[row] - 1, row, k]];
            Array3::from_shape_fn((1, batch, width), last)
        } else {
            outputs
        };
        let lengths = input.lengths().filter(|_| !single);
        let weights = RowWeights::new(loss, reduction, &targets.view(), lengths, output.dim())?;
        let wide = |values: ArrayView3<f32>| values.mapv(f64::from);
        let (value, d_output) = reference_loss::<f64>(loss).weighted(
            wide(output.view()).view(),
            wide(targets.view().values).view(),
            weights.values(),
        );
        let mut before = Vec::with_capacity(steps);
        for t in (0..steps).rev() {
            let d_step = Array3::from_shape_fn((1, batch, width), |(_, row, k)| match single {
                true if t + 1 == ends[row] => d_output[[0, row, k]] as f32,
                true => 0.0,
                false => d_output[[t, row, k]] as f32,
            });
            let tape = tapes.pop().expect("one tape for each step");
            let found = self.backward(tape, d_step.view(), before.last())?.read()?.states;
            before.push(found);
        }
        before.reverse();
        Ok((value, before))
    }

    /// The spectral norm of the Jacobian of a recurrent layer's final state with respect to its state before each step,
    /// for the first row. Each row of a batch carries one row of the Jacobian back.
    fn jacobian_norms(&self, input: &Sequences, at: usize) -> Result<Vec<f64>, Error> {
        let steps = input.lengths().map_or(input.steps(), |lengths| lengths[0]);
        let first = input.values().slice(s![..steps, 0..1, ..]).to_owned();
        let one = States::zeros(self.config(), 1);
        let elements = one.layers[at].h.len() + one.layers[at].c.as_ref().map_or(0, Array3::len);
        let rows = first.broadcast((steps, elements, first.dim().2)).expect("one row, repeated").to_owned();
        let rows = Sequences::from(rows);
        let mut tapes: Vec<Tape> = Vec::with_capacity(steps);
        for t in 0..steps {
            let states = tapes.last().map(|tape| tape.states().clone());
            tapes.push(self.forward_training(rows.window(t..t + 1), states.as_ref(), None)?);
        }
        let mut d_states = States::zeros(self.config(), elements);
        for element in 0..elements {
            set_state_element(&mut d_states.layers[at], element, element, 1.0);
        }
        let mut norms = Vec::with_capacity(steps);
        let mut vector = Array1::from_elem(elements, 1.0 / (elements as f64).sqrt());
        while let Some(tape) = tapes.pop() {
            d_states = self.backward(tape, None, Some(&d_states))?.read()?.states;
            let state = &d_states.layers[at];
            let jacobian = Array2::from_shape_fn((elements, elements), |(row, element)| {
                f64::from(state_element(state, row, element))
            });
            norms.push(spectral_norm(&jacobian, &mut vector));
        }
        norms.reverse();
        Ok(norms)
    }
}

/// The place of an element of a row's state in h, or in c after all of h.
fn place(state: &LayerState, row: usize, element: usize) -> (bool, [usize; 3]) {
    let (blocks, _, width) = state.h.dim();
    match element.checked_sub(blocks * width) {
        None => (true, [element / width, row, element % width]),
        Some(element) => {
            let width = state.c.as_ref().map_or(1, |c| c.dim().2);
            (false, [element / width, row, element % width])
        }
    }
}

fn state_element(state: &LayerState, row: usize, element: usize) -> f32 {
    match place(state, row, element) {
        (true, at) => state.h[at],
        (false, at) => state.c.as_ref().expect("elements past h are c's")[at],
    }
}

fn set_state_element(state: &mut LayerState, row: usize, element: usize, value: f32) {
    match place(state, row, element) {
        (true, at) => state.h[at] = value,
        (false, at) => state.c.as_mut().expect("elements past h are c's")[at] = value,
    }
}

fn norm<'a>(values: impl Iterator<Item = &'a f32>) -> f64 {
    values.map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt()
}

/// The largest singular value, by power iteration on `J^T J` (Golub and Van Loan, "Matrix computations", 4th edition,
/// section 7.3), from `vector`, which becomes the right singular vector.
fn spectral_norm(jacobian: &Array2<f64>, vector: &mut Array1<f64>) -> f64 {
    let length = |vector: &Array1<f64>| vector.dot(vector).sqrt();
    let mut found = 0.0;
    for _ in 0..ROUNDS {
        let forward = jacobian.dot(vector);
        let before = std::mem::replace(&mut found, length(&forward));
        if found <= before * (1.0 + GROWTH) {
            break;
        }
        let back = jacobian.t().dot(&forward);
        let scale = length(&back);
        if !(scale.is_normal()) {
            break;
        }
        *vector = back / scale; // of length 1
    }
    found
}

/// The saturated shares of every recurrent layer's gates, computed by the reference.
fn saturation(
    network: &Network,
    parameters: &Parameters,
    input: &Sequences,
) -> Result<Vec<Vec<GateSaturation>>, Error> {
    let judge = reference::Network::<f64>::new(network.config(), parameters)?;
    let rows = input.batch().min(GATE_ROWS);
    let values = input.values().slice_axis(Axis(1), (0..rows).into()).mapv(f64::from);
    let lengths = input.lengths().map(|lengths| &lengths[..rows]);
    let tape = judge.forward(&reference::Batch { lengths, ..reference::Batch::new(values.view()) });
    let of_layer = |layer: &Layer| {
        let recurrent = layer.recurrent().expect("only those are asked for");
        let scan = &tape.scans(layer.index).expect("it ran")[0];
        let gating = Gating::<f64>::new(&recurrent.cell, recurrent.clip.map(f64::from));
        let gates = gates(recurrent).into_iter().enumerate().map(|(lane, (gate, function))| {
            let shares = scan.steps.iter().map(|tape| {
                let units = lane * recurrent.hidden..(lane + 1) * recurrent.hidden;
                let lanes = tape.step.saved.slice(s![.., units]);
                let rows = lanes.rows().into_iter().zip(&tape.active).filter(|(_, active)| **active);
                let values = rows.flat_map(|(row, _)| row.to_vec()).map(|kept| gating.value(function, kept));
                shares(function, values)
            });
            let (low, high) = shares.unzip();
            GateSaturation { gate, low, high }
        });
        gates.collect()
    };
    Ok(network.config().recurrent_layers().map(of_layer).collect())
}

/// A cell's gates with their functions, in the order of its lanes.
fn gates(recurrent: &Recurrent) -> Vec<(&'static str, Activation)> {
    match recurrent.cell {
        Cell::Rnn { activation } => vec![("output", activation)],
        Cell::Lstm(cell) => {
            let name = |gate| match gate {
                LstmGate::Input => ("input", cell.activations.gate),
                LstmGate::Forget => ("forget", cell.activations.gate),
                LstmGate::Cell => ("cell", cell.activations.candidate),
                LstmGate::Output => ("output", cell.activations.gate),
            };
            LstmGate::ALL.map(name).to_vec()
        }
        Cell::Gru(cell) => {
            let name = |gate| match gate {
                GruGate::Reset => ("reset", cell.activations.gate),
                GruGate::Update => ("update", cell.activations.gate),
                GruGate::New => ("new", cell.activations.candidate),
            };
            GruGate::ALL.map(name).to_vec()
        }
    }
}

/// The shares of values near the low and the high end of a function's range.
fn shares(function: Activation, values: impl Iterator<Item = f64>) -> (f64, f64) {
    let range = match function {
        Activation::Sigmoid | Activation::HardSigmoid { .. } => Some((0.0, 1.0)),
        Activation::Tanh | Activation::Softsign => Some((-1.0, 1.0)),
        _ => None,
    };
    let (mut low, mut high, mut count) = (0.0, 0.0, 0.0f64);
    for value in values {
        count += 1.0;
        match range {
            Some((from, to)) => {
                let margin = SATURATED * (to - from);
                low += f64::from(u8::from(value < from + margin));
                high += f64::from(u8::from(value > to - margin));
            }
            None => low += f64::from(u8::from(function == Activation::Relu && value <= 0.0)),
        }
    }
    (low / count.max(1.0), high / count.max(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::{GruConfig, LayerConfig, LstmConfig, RnnConfig};
    use crate::{Device, NetworkConfig};
    use approx::assert_relative_eq;

    fn wave(shape: (usize, usize, usize), seed: usize) -> Array3<f32> {
        let mut at = 1000 * seed;
        Array3::from_shape_simple_fn(shape, || {
            at += 1;
            (at as f32 * 0.7).sin()
        })
    }

    /// A network, its input of 7 steps and 3 rows, and targets.
    fn case(layers: Vec<LayerConfig>) -> (Network, Array3<f32>, Array3<f32>) {
        let config = NetworkConfig::new(2, layers).unwrap();
        let network = Network::new(&Device::cpu().unwrap(), &config, 5).unwrap();
        let target = wave((config.output_steps(7), 3, config.output()), 9);
        (network, wave((7, 3, 2), 4), target)
    }

    fn cases() -> Vec<Vec<LayerConfig>> {
        vec![
            vec![RnnConfig::new(4).into(), crate::layers::DenseConfig::new(2).into()],
            vec![LstmConfig::new(3).into(), LstmConfig::new(4).projection(2).into()],
            vec![GruConfig::new(4).into(), LayerConfig::LastStep, crate::layers::DenseConfig::new(1).into()],
            vec![RnnConfig::new(3).skip(2).into()],
        ]
    }

    fn norms(states: &States, layer: usize) -> (f64, Option<f64>) {
        let state = &states.layers[layer];
        (norm(state.h.iter()), state.c.as_ref().map(|c| norm(c.iter())))
    }

    #[test]
    fn norms_are_those_of_the_rest_of_the_sequence() {
        for layers in cases() {
            let (network, input, target) = case(layers);
            let single = network.config().timeline() != Timeline::Input;
            let flow = network.gradient_flow(&input, &target, &Loss::SquaredError, Reduction::Sum).unwrap();
            for t in [0, 3, 6] {
                // The steps from t on as a sequence of their own.
                let states = (t > 0).then(|| {
                    let past = input.slice(s![..t, .., ..]).to_owned();
                    network.forward(&past, None).unwrap().states
                });
                let rest = input.slice(s![t.., .., ..]).to_owned();
                let tape = network.forward_training(&rest, states.as_ref(), None).unwrap();
                let truth = if single { target.view() } else { target.slice(s![t.., .., ..]) };
                let d_output = (&tape.output() - &truth) * 2.0;
                let found = network.backward(tape, d_output.view(), None).unwrap().read().unwrap().states;
                for layer in 0..flow.layers.len() {
                    let (hidden, cell) = norms(&found, layer);
                    let of = &flow.layers[layer];
                    // The same f32 sums in parts of other lengths.
                    assert_relative_eq!(of.hidden[t], hidden, max_relative = 1e-4);
                    assert_eq!(of.cell.is_some(), cell.is_some());
                    if let (Some(of), Some(cell)) = (&of.cell, cell) {
                        assert_relative_eq!(of[t], cell, max_relative = 1e-4);
                    }
                }
            }
        }
    }

    /// The Jacobian of the final state of the only layer with respect to the state before step `t`, by central
    /// differences of the reference in `f64`.
    fn jacobian(network: &Network, input: &Array3<f32>, t: usize) -> Array2<f64> {
        let judge = reference::Network::<f64>::new(network.config(), &network.parameters().unwrap()).unwrap();
        let wide = input.slice(s![.., 0..1, ..]).mapv(f64::from);
        let past = wide.slice(s![..t, .., ..]);
        let rest = wide.slice(s![t.., .., ..]);
        let before = judge.forward(&reference::Batch::new(past)).states().clone();
        let flat = |states: &reference::States<f64>| -> Vec<f64> {
            let state = &states.layers[0];
            state.h.iter().chain(state.c.iter().flatten()).copied().collect()
        };
        let count = flat(&before).len();
        let mut columns = Array2::zeros((count, count));
        for element in 0..count {
            let moved = |by: f64| {
                let mut states = before.clone();
                let state = &mut states.layers[0];
                let value = state.h.iter_mut().chain(state.c.iter_mut().flatten()).nth(element).unwrap();
                *value += by;
                let batch = reference::Batch { states: Some(&states), ..reference::Batch::new(rest) };
                flat(judge.forward(&batch).states())
            };
            for (row, (up, down)) in moved(1e-5).into_iter().zip(moved(-1e-5)).enumerate() {
                columns[[row, element]] = (up - down) / 2e-5;
            }
        }
        columns
    }

    #[test]
    fn jacobians_are_those_of_central_differences() {
        for layer in [RnnConfig::new(4).into(), LstmConfig::new(3).into(), GruConfig::new(4).into()] {
            let (network, input, target) = case(vec![layer]);
            let flow = network.gradient_flow(&input, &target, &Loss::SquaredError, Reduction::Mean).unwrap();
            for t in [1, 4, 6] {
                let expected = jacobian(&network, &input, t);
                let mut vector = Array1::from_elem(expected.nrows(), 1.0 / (expected.nrows() as f64).sqrt());
                let largest = spectral_norm(&expected, &mut vector);
                // Sums of f32, and two power iterations that end a little below the largest singular value.
                assert_relative_eq!(flow.layers[0].jacobian[t], largest, max_relative = 1e-3);
            }
        }
    }

    #[test]
    fn a_spectral_norm_is_the_largest_singular_value() {
        // Singular values 5 and 1; the start is nearly at right angles to the first.
        let rotation = |angle: f64| {
            let (sin, cos) = angle.sin_cos();
            ndarray::array![[cos, -sin], [sin, cos]]
        };
        let matrix = rotation(0.4).dot(&ndarray::array![[5.0, 0.0], [0.0, 1.0]]).dot(&rotation(1.1));
        let mut vector = rotation(-1.1).dot(&ndarray::array![1e-3, 1.0]);
        assert_relative_eq!(spectral_norm(&matrix, &mut vector), 5.0, max_relative = 1e-6);
    }

    #[test]
    fn rows_that_end_keep_their_gradient() {
        let (network, input, target) = case(vec![LstmConfig::new(3).into()]);
        let short = Sequences::from(&input).with_lengths([7, 4, 2]).unwrap();
        let flow = network.gradient_flow(&short, &target, &Loss::SquaredError, Reduction::Mean).unwrap();
        let tape = network.forward_training(&short, None, None).unwrap();
        let within = |(t, row, k): (usize, usize, usize)| {
            let inside = t < [7, 4, 2][row];
            if inside { 2.0 * (tape.output()[[t, row, k]] - target[[t, row, k]]) / 39.0 } else { 0.0 }
        };
        let d_output = Array3::from_shape_fn((7, 3, 3), within); // 13 steps of 3 outputs count
        let found = network.backward(tape, d_output.view(), None).unwrap().read().unwrap().states;
        assert_relative_eq!(flow.layers[0].hidden[0], norms(&found, 0).0, max_relative = 1e-4);
        let (network, input, target) = case(vec![GruConfig::new(3).into(), LayerConfig::LastStep]);
        let short = Sequences::from(&input).with_lengths([7, 4, 2]).unwrap();
        let flow = network.gradient_flow(&short, &target, &Loss::SquaredError, Reduction::Sum).unwrap();
        let tape = network.forward_training(&short, None, None).unwrap();
        let d_output = (&tape.output() - &target) * 2.0;
        let found = network.backward(tape, d_output.view(), None).unwrap().read().unwrap().states;
        assert_relative_eq!(flow.layers[0].hidden[0], norms(&found, 0).0, max_relative = 1e-4);
        assert_eq!(flow.layers[0].jacobian.len(), 7);
    }

    #[test]
    fn saturated_gates_are_counted() {
        let (network, input, target) = case(vec![LstmConfig::new(3).into()]);
        let mut parameters = network.parameters().unwrap();
        for spec in network.config().parameter_specs() {
            let name = &spec.name;
            let values = parameters.get_mut(name).unwrap();
            values.fill(0.0);
            if name.ends_with("bias_ih_l0") {
                values.slice_mut(s![3..6]).fill(9.0); // forget gates open
                values.slice_mut(s![9..12]).fill(-9.0); // output gates shut
            }
        }
        let network =
            Network::with_parameters(&Device::cpu().unwrap(), network.config(), &parameters).unwrap();
        let flow = network.gradient_flow(&input, &target, &Loss::SquaredError, Reduction::Mean).unwrap();
        let gates: Vec<_> =
            flow.layers[0].gates.iter().map(|gate| (gate.gate, gate.low[2], gate.high[2])).collect();
        let expected = [("input", 0.0, 0.0), ("forget", 0.0, 1.0), ("cell", 0.0, 0.0), ("output", 1.0, 0.0)];
        assert_eq!(gates, expected);
    }

    #[test]
    fn what_cannot_be_run_step_by_step_is_refused() {
        let (network, input, target) =
            case(vec![GruConfig::new(3).direction(crate::layers::Direction::Bidirectional).into()]);
        let error = network
            .gradient_flow(&input, &target, &Loss::SquaredError, Reduction::Mean)
            .unwrap_err()
            .to_string();
        assert!(error.contains("reads the sequence from its end"), "{error}");
    }
}
