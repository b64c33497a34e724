//! Gradients that can be seen: how a loss's gradient fares on its way back through time.

mod gates;
mod jacobian;

use crate::loss::reference_loss;
use crate::network::Tape;
use crate::stream::check_goes_on;
use crate::{Error, Loss, Network, Sequences, Targets};
use gatefold_model::{LayerState, Reduction, Source, States, Timeline};
use gatefold_reference as reference;
pub use gates::GateSaturation;
use gates::saturation;
use ndarray::{Array3, ArrayView3, Axis, s};

/// The rows whose gates are looked at.
const GATE_ROWS: usize = 8;

/// The norms of a loss's gradient at every time step, of each recurrent layer.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct GradientFlow {
    /// The loss.
    pub loss: f64,
    /// The recurrent layers, in order; one in two directions twice, forward first.
    pub layers: Vec<LayerFlow>,
}

/// One recurrent layer of a [`GradientFlow`], in one direction.
///
/// All lists have an entry per time step of the layer, and entry `t` belongs to the state that step `t` begins with. For a
/// layer that goes forward, entry 0 is the initial state's; for one in reverse, the last entry is.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct LayerFlow {
    /// The layer's number in the network.
    pub layer: usize,
    /// The layer's name, such as `layer 0 (lstm)` or `layer 0 (lstm) in reverse`.
    pub place: String,
    /// The Euclidean norm of the gradient with respect to h, over rows and units.
    pub hidden: Vec<f64>,
    /// Likewise with respect to an LSTM's c.
    pub cell: Option<Vec<f64>>,
    /// The spectral norm of the Jacobian of the layer's final state with respect to the state before each step, h and c
    /// together, for the first row. Above 1, a change of the state grows on its way to the end. It has the steps of that
    /// row.
    pub jacobian: Vec<f64>,
    /// The gates, in the order of the cell; for an RNN its output.
    pub gates: Vec<GateSaturation>,
}

/// The norms of a layer's gradients in one direction: with respect to h, and to an LSTM's c.
type Norms = (Vec<f64>, Option<Vec<f64>>);

impl Network {
    /// Follows the gradient of a loss back through time: its norm with respect to every state, the norm of the Jacobian
    /// from every step to the last, and the share of saturated gates.
    ///
    /// A network whose layers all go forward in time is run a step at a time, on its device, which takes several times as
    /// long as a pass; one with layers that read several steps at once, or the sequence from its end, by the reference, on
    /// one core. Training is none the slower for either.
    ///
    /// # Errors
    /// Those of [`Network::forward`], [`Network::backward`] and [`Targets::loss`].
    pub fn gradient_flow<'a>(
        &self,
        input: impl Into<Sequences<'a>>,
        targets: impl Into<Targets<'a>>,
        loss: &Loss,
        reduction: Reduction,
    ) -> Result<GradientFlow, Error> {
        let (input, targets) = (input.into(), targets.into());
        loss.check()?;
        self.gradient_flow_of(&input, |output| {
            let weights = self.row_weights(&input, &targets, loss, reduction)?;
            let wide = |values: ArrayView3<f32>| values.mapv(f64::from);
            let (value, d_output) = reference_loss::<f64>(loss).weighted(
                wide(output).view(),
                wide(targets.view().values).view(),
                weights.values(),
            );
            Ok((value, d_output.mapv(|d| d as f32)))
        })
    }

    /// [`Network::gradient_flow`] with a loss of your own: `loss` takes the network's output `[T', B, O]`, and returns the
    /// loss and its derivative with respect to the output.
    ///
    /// # Errors
    /// Those of [`Network::gradient_flow`] and of `loss`.
    pub fn gradient_flow_of<'a>(
        &self,
        input: impl Into<Sequences<'a>>,
        loss: impl FnOnce(ArrayView3<f32>) -> Result<(f64, Array3<f32>), Error>,
    ) -> Result<GradientFlow, Error> {
        let input = input.into();
        input.check(self.config())?;
        let judge = reference::Network::<f64>::new(self.config(), &self.parameters()?)?;
        let (loss, norms) = match check_goes_on(self.config()) {
            Ok(()) => self.norms_by_steps(&input, loss)?,
            Err(_) => norms_of_reference(&judge, &input, loss)?,
        };
        // Gates and inputs of the layers, of a few rows.
        let wide = Wide::new(&input, input.batch().min(GATE_ROWS));
        let tape = judge.forward(&wide.batch());
        let mut norms = norms.into_iter();
        let mut layers = Vec::new();
        for layer in self.config().recurrent_layers() {
            let recurrent = layer.recurrent().expect("only those are asked for");
            let read = match self.config().graph().node(layer.index).inputs[0] {
                Source::Output(of) => tape.layer_output(of),
                Source::DecoderInput => tape.layer_output(self.config().decoder().expect("it has an input")),
                Source::Input | Source::FinalHidden(_) => wide.values.view(),
            };
            for scan in tape.scans(layer.index).expect("it ran") {
                let (hidden, cell) = norms.next().expect("there are norms of each scan");
                let steps = scan.steps.iter().filter(|step| step.active[0]).count();
                let mut row = read.slice(s![..steps, 0..1, ..]);
                if scan.reverse {
                    row.invert_axis(Axis(0));
                }
                let first = if scan.reverse { steps.saturating_sub(1) } else { 0 };
                let alone = jacobian::alone(self, layer, scan.reverse)?;
                let mut jacobian = jacobian::norms(&alone, row, &scan.steps[first].before)?;
                let mut place = layer.place();
                if scan.reverse {
                    jacobian.reverse();
                    place += " in reverse";
                }
                let gates = saturation(recurrent, scan);
                layers.push(LayerFlow { layer: layer.index, place, hidden, cell, jacobian, gates });
            }
        }
        Ok(GradientFlow { loss, layers })
    }

    /// The loss, and the norms of its gradients with respect to the states before each step, run a step at a time.
    fn norms_by_steps(
        &self,
        input: &Sequences,
        loss: impl FnOnce(ArrayView3<f32>) -> Result<(f64, Array3<f32>), Error>,
    ) -> Result<(f64, Vec<Norms>), Error> {
        let (steps, batch, width) = (input.steps(), input.batch(), self.config().output());
        let mut tapes = Vec::with_capacity(steps);
        let mut outputs = Array3::zeros((steps, batch, width));
        for t in 0..steps {
            let states = tapes.last().map(|tape: &Tape| tape.states().clone());
            let tape = self.forward_training(input.window(t..t + 1), states.as_ref(), None)?;
            outputs.slice_mut(s![t..=t, .., ..]).assign(&tape.output());
            tapes.push(tape);
        }
        // A network with one output for the sequence gives it at each row's last step, and for a row without steps at the
        // first, with the initial state.
        let lengths = input.lengths().map_or_else(|| vec![steps; batch], <[usize]>::to_vec);
        let ends: Vec<usize> = lengths.into_iter().map(|length| length.saturating_sub(1)).collect();
        let single = self.config().timeline() != Timeline::Input;
        let output = if single {
            let last = |(_, row, k): (usize, usize, usize)| outputs[[ends[row], row, k]];
            Array3::from_shape_fn((1, batch, width), last)
        } else {
            outputs
        };
        let (value, d_output) = loss(output.view())?;
        let mut before: Vec<States> = Vec::with_capacity(steps);
        for t in (0..steps).rev() {
            let d_step = Array3::from_shape_fn((1, batch, width), |(_, row, k)| match single {
                true if t == ends[row] => d_output[[0, row, k]],
                true => 0.0,
                false => d_output[[t, row, k]],
            });
            let tape = tapes.pop().expect("one tape for each step");
            let found = self.backward(tape, d_step.view(), before.last())?.read()?.states;
            before.push(found);
        }
        before.reverse();
        let layers = 0..self.config().recurrent_layers().count();
        let norms = layers.map(|at| {
            let of = |state: &dyn Fn(&LayerState) -> Option<f64>| {
                before.iter().map(|states| state(&states.layers[at])).collect::<Option<Vec<f64>>>()
            };
            let hidden = of(&|state| Some(norm(state.h.iter().map(|value| f64::from(*value)))));
            let cell = of(&|state| state.c.as_ref().map(|c| norm(c.iter().map(|value| f64::from(*value)))));
            (hidden.unwrap_or_default(), cell)
        });
        Ok((value, norms.collect()))
    }
}

/// [`Network::norms_by_steps`] by the reference's backward pass, which visits the states of every step: the only way
/// through layers that need more than the steps so far.
fn norms_of_reference(
    judge: &reference::Network<f64>,
    input: &Sequences,
    loss: impl FnOnce(ArrayView3<f32>) -> Result<(f64, Array3<f32>), Error>,
) -> Result<(f64, Vec<Norms>), Error> {
    let tape = judge.forward(&Wide::new(input, input.batch()).batch());
    let (value, d_output) = loss(tape.output().mapv(|value| value as f32).view())?;
    let gradients = judge.backward(&tape, d_output.mapv(f64::from).view(), None);
    let norms = gradients.before.values().flatten().map(|before| {
        let hidden = before.iter().map(|states| norm(states.h.iter().copied())).collect();
        let cell = before.iter().map(|states| Some(norm(states.c.as_ref()?.iter().copied()))).collect();
        (hidden, cell)
    });
    Ok((value, norms.collect()))
}

/// The first rows of a network's input, as the reference takes them.
struct Wide<'a> {
    values: Array3<f64>,
    lengths: Option<&'a [usize]>,
    decoder: Option<Box<Wide<'a>>>,
}

impl<'a> Wide<'a> {
    fn new(input: &'a Sequences, rows: usize) -> Self {
        Wide {
            values: input.values().slice(s![.., ..rows, ..]).mapv(f64::from),
            lengths: input.lengths().map(|lengths| &lengths[..rows]),
            decoder: input.decoder().map(|decoder| Box::new(Wide::new(decoder, rows))),
        }
    }

    fn batch(&self) -> reference::Batch<'_, f64> {
        let decoder = self.decoder.as_ref().map(|decoder| (decoder.values.view(), decoder.lengths));
        reference::Batch { lengths: self.lengths, decoder, ..reference::Batch::new(self.values.view()) }
    }
}

fn norm(values: impl Iterator<Item = f64>) -> f64 {
    values.map(|value| value.powi(2)).sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::{GruConfig, LayerConfig, LstmConfig, RnnConfig};
    use crate::{Device, NetworkConfig};
    use approx::assert_relative_eq;
    use ndarray::{Array1, Array2};

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
        let of = |values: &Array3<f32>| norm(values.iter().map(|value| f64::from(*value)));
        (of(&state.h), state.c.as_ref().map(of))
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
                let largest = jacobian::spectral_norm(&expected, &mut vector);
                // Sums of f32, and two power iterations that end a little below the largest singular value.
                assert_relative_eq!(flow.layers[0].jacobian[t], largest, max_relative = 1e-3);
            }
        }
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

    /// The norms that the reference finds.
    fn of_reference(network: &Network, input: &Sequences, target: &Array3<f32>) -> Vec<Norms> {
        let judge = reference::Network::new(network.config(), &network.parameters().unwrap()).unwrap();
        norms_of_reference(&judge, input, |output| Ok((0.0, (&output - target) * 2.0))).unwrap().1
    }

    fn assert_norms(found: &[Norms], flow: &GradientFlow) {
        assert_eq!(found.len(), flow.layers.len());
        for ((hidden, cell), layer) in found.iter().zip(&flow.layers) {
            let pairs = [(Some(hidden), Some(&layer.hidden)), (cell.as_ref(), layer.cell.as_ref())];
            for (found, expected) in pairs {
                assert_eq!(found.map(Vec::len), expected.map(Vec::len));
                for (found, expected) in found.into_iter().flatten().zip(expected.into_iter().flatten()) {
                    assert_relative_eq!(found, expected, max_relative = 1e-4);
                }
            }
        }
    }

    #[test]
    fn both_ways_find_the_same_norms() {
        for layers in cases() {
            let (network, input, target) = case(layers);
            for lengths in [[7, 7, 7], [7, 4, 2], [7, 0, 2], [0, 4, 0]] {
                let input = Sequences::from(&input).with_lengths(lengths).unwrap();
                let flow =
                    network.gradient_flow(&input, &target, &Loss::SquaredError, Reduction::Sum).unwrap();
                assert_norms(&of_reference(&network, &input, &target), &flow);
            }
        }
    }

    #[test]
    fn a_branch_without_memory_changes_nothing() {
        let recurrent = || vec![GruConfig::new(4).into(), LstmConfig::new(3).into(), LayerConfig::LastStep];
        let convolution: Vec<LayerConfig> =
            vec![crate::layers::Conv1dConfig::new(3, 7).into(), LayerConfig::LastStep];
        let both = crate::layers::ParallelConfig::new(crate::layers::Merge::Sum, [convolution, recurrent()]);
        let (network, input, target) = case(vec![both.into()]);
        let (alone, ..) = case(recurrent());
        let mut parameters = network.parameters().unwrap();
        let own = alone.parameters().unwrap();
        for (name, values) in own.iter() {
            parameters.get_mut(name).unwrap().assign(values);
        }
        for name in ["conv0.weight", "conv0.bias"] {
            parameters.get_mut(name).unwrap().fill(0.0);
        }
        let network = Network::with_parameters(&network.device(), network.config(), &parameters).unwrap();
        let flow = network.gradient_flow(&input, &target, &Loss::SquaredError, Reduction::Sum).unwrap();
        let expected = alone.gradient_flow(&input, &target, &Loss::SquaredError, Reduction::Sum).unwrap();
        assert_relative_eq!(flow.loss, expected.loss, max_relative = 1e-5);
        let norms: Vec<Norms> =
            flow.layers.iter().map(|layer| (layer.hidden.clone(), layer.cell.clone())).collect();
        assert_norms(&norms, &expected);
        for (found, expected) in flow.layers.iter().zip(&expected.layers) {
            assert_eq!(found.gates, expected.gates);
            for (found, expected) in found.jacobian.iter().zip(&expected.jacobian) {
                assert_relative_eq!(found, expected, max_relative = 1e-5);
            }
        }
    }

    /// The gradients with respect to the initial states, which a whole backward pass on the device finds.
    fn initial(network: &Network, input: &Sequences, target: &Array3<f32>) -> States {
        let tape = network.forward_training(input, None, None).unwrap();
        let d_output = (&tape.output() - target) * 2.0;
        network.backward(tape, d_output.view(), None).unwrap().read().unwrap().states
    }

    #[test]
    fn each_direction_has_a_way_of_its_own() {
        let both = crate::layers::Direction::Bidirectional;
        let layers =
            vec![LstmConfig::new(3).direction(both).into(), GruConfig::new(4).direction(both).into()];
        let (network, input, target) = case(layers);
        let short = Sequences::from(&input).with_lengths([7, 4, 2]).unwrap();
        let loss = |output: ArrayView3<f32>| Ok((0.0, (&output - &target) * 2.0));
        let flow = network.gradient_flow_of(&short, loss).unwrap();
        let places: Vec<&str> = flow.layers.iter().map(|layer| layer.place.as_str()).collect();
        let expected =
            ["layer 0 (lstm)", "layer 0 (lstm) in reverse", "layer 1 (gru)", "layer 1 (gru) in reverse"];
        assert_eq!(places, expected);
        let found = initial(&network, &short, &target);
        for (at, layer) in flow.layers.iter().enumerate() {
            let (state, direction) = (&found.layers[at / 2], at % 2);
            let first = if direction == 0 { 0 } else { 6 };
            let of = |values: &Array3<f32>| {
                norm(values.index_axis(Axis(0), direction).iter().map(|value| f64::from(*value)))
            };
            assert_relative_eq!(layer.hidden[first], of(&state.h), max_relative = 1e-4);
            if let (Some(norms), Some(c)) = (&layer.cell, &state.c) {
                assert_relative_eq!(norms[first], of(c), max_relative = 1e-4);
            }
            assert_eq!((layer.jacobian.len(), layer.gates[0].low.len()), (7, 7));
        }
        // A layer in reverse does with a sequence what one that goes forward does with its mirror image.
        let (reverse, input, target) =
            case(vec![GruConfig::new(4).direction(crate::layers::Direction::Reverse).into()]);
        let (forward, ..) = case(vec![GruConfig::new(4).into()]);
        let mut parameters = forward.parameters().unwrap();
        let own = reverse.parameters().unwrap();
        for (name, values) in own.iter() {
            parameters.get_mut(&name.replace("_reverse", "")).unwrap().assign(values);
        }
        let forward = Network::with_parameters(&forward.device(), forward.config(), &parameters).unwrap();
        let mirrored = |values: &Array3<f32>| values.slice(s![..;-1, .., ..]).to_owned();
        let flow =
            forward.gradient_flow(mirrored(&input), mirrored(&target), &Loss::SquaredError, Reduction::Sum);
        let (found, expected) = (
            reverse.gradient_flow(&input, &target, &Loss::SquaredError, Reduction::Sum).unwrap(),
            flow.unwrap(),
        );
        for t in 0..7 {
            let (found, expected) = (&found.layers[0], &expected.layers[0]);
            assert_relative_eq!(found.hidden[t], expected.hidden[6 - t], max_relative = 1e-4);
            assert_relative_eq!(found.jacobian[t], expected.jacobian[6 - t], max_relative = 1e-4);
        }
    }

    #[test]
    fn an_encoder_is_reached_through_its_decoder() {
        let layers = vec![
            LstmConfig::new(3).into(),
            crate::layers::DecoderConfig::new(2).into(),
            LstmConfig::new(3).into(),
        ];
        let config = NetworkConfig::new(2, layers).unwrap();
        let network = Network::new(&Device::cpu().unwrap(), &config, 5).unwrap();
        let (input, decoder, target) = (wave((7, 3, 2), 4), wave((5, 3, 2), 6), wave((5, 3, 3), 9));
        let input = Sequences::from(&input).with_decoder(&decoder);
        let flow = network.gradient_flow(&input, &target, &Loss::SquaredError, Reduction::Sum).unwrap();
        let steps: Vec<usize> = flow.layers.iter().map(|layer| layer.hidden.len()).collect();
        assert_eq!(steps, [7, 5]);
        let found = initial(&network, &input, &target);
        let of = &found.layers[0];
        assert_relative_eq!(flow.layers[0].hidden[0], norms(&found, 0).0, max_relative = 1e-4);
        assert!(of.c.is_some() && flow.layers[1].hidden[0] > 0.0);
    }
}
