//! A dilated layer against plain layers with its parameters, each over one of the interleaved sequences: step t of every
//! d-th, t = q d + r, is step q of sequence r.

use crate::common::{Case, Shape, random_states};
use gatefold_model::{
    Direction, GruConfig, InitialState, LayerConfig, LstmConfig, NetworkConfig, Reset, RnnConfig,
};
use gatefold_reference::network::Tensors;
use gatefold_reference::{Batch, Failures, LayerState, Network, States};
use ndarray::{Array3, Axis, s};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

/// The steps of sequence `r` of a row with `length` steps.
fn places(r: usize, d: usize, length: usize) -> impl Iterator<Item = usize> {
    (r..length).step_by(d)
}

/// One row of the dilated layer's case, as plain sequences.
struct Interleaved<'a> {
    case: &'a Case,
    plain: &'a Network<f64>,
    d: usize,
    row: usize,
    length: usize,
    reverse: bool,
}

impl Interleaved<'_> {
    /// The slot, oldest first, of the last value before sequence `r` begins; `None` if it has no step.
    fn initial_slot(&self, r: usize) -> usize {
        // Forward from the times -d to -1, in reverse from length + d - 1 to length.
        if self.reverse { (2 * self.d - 1 + self.length - r) % self.d } else { r }
    }

    /// The slot of the last value of sequence `r`.
    fn final_slot(&self, r: usize) -> usize {
        // The last d times: length - d to length - 1, in reverse d - 1 to 0.
        if self.reverse { self.d - 1 - r } else { (r + self.d * self.length - self.length) % self.d }
    }

    fn sequence(&self, whole: &Array3<f64>, r: usize) -> Array3<f64> {
        let steps: Vec<usize> = places(r, self.d, self.length).collect();
        whole.slice(s![.., self.row..self.row + 1, ..]).select(Axis(0), &steps)
    }

    fn state(&self, states: &States<f64>, slot: usize) -> States<f64> {
        let of = |state: &Array3<f64>| state.slice(s![slot..slot + 1, self.row..self.row + 1, ..]).to_owned();
        let layer = &states.layers[0];
        States { layers: vec![LayerState { h: of(&layer.h), c: layer.c.as_ref().map(of), y: None }] }
    }

    /// Compares every output, gradient and state of this row, and adds the gradients of the parameters.
    fn check(&self, parameters: &mut Tensors<f64>) {
        let (tape, gradients) = (self.case.tape(), self.case.gradients());
        let given = self.case.states.as_ref().expect("states are given");
        for r in 0..self.d {
            let (first, last) = (self.initial_slot(r), self.final_slot(r));
            let input = self.sequence(&self.case.input, r);
            let (initial, d_final) = (self.state(given, first), self.state(&self.case.d_states, last));
            if input.is_empty() {
                close(&self.state(tape.states(), last), &initial);
                close(&self.state(&gradients.states, first), &d_final);
                continue;
            }
            let plain = self.plain.forward(&Batch { states: Some(&initial), ..Batch::new(input.view()) });
            let d_output = self.sequence(&self.case.d_output, r);
            let back = self.plain.backward(&plain, d_output.view(), Some(&d_final));
            assert_near(&self.sequence(&tape.output().to_owned(), r), &plain.output().to_owned());
            assert_near(&self.sequence(&gradients.input, r), &back.input);
            close(&self.state(tape.states(), last), plain.states());
            close(&self.state(&gradients.states, first), &back.states);
            for (name, d) in back.parameters {
                *parameters.get_mut(&name).expect("both have equal parameters") += &d;
            }
        }
    }
}

/// Both sides round the same sums of a few dozen terms of about 1.
fn assert_near(found: &Array3<f64>, expected: &Array3<f64>) {
    assert_eq!(found.dim(), expected.dim());
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() < 1e-12, "found {found}, expected {expected}");
    }
}

fn close(found: &States<f64>, expected: &States<f64>) {
    assert_near(&found.layers[0].h, &expected.layers[0].h);
    assert_eq!(found.layers[0].c.is_some(), expected.layers[0].c.is_some());
    for (found, expected) in found.layers[0].c.iter().zip(&expected.layers[0].c) {
        assert_near(found, expected);
    }
}

fn check(layer: impl Fn(usize) -> LayerConfig, d: usize, steps: usize, lengths: Option<Vec<usize>>) {
    let shape = Shape { lengths: lengths.clone(), ..Shape::new(3, steps, 3) };
    let mut case = Case::new(&shape, &[layer(d)], 5);
    let r = &mut ChaCha8Rng::seed_from_u64(6);
    case.states = Some(random_states(&States::zeros(case.network.config(), 3), r));
    let config = NetworkConfig::new(3, [layer(1)]).unwrap();
    let mut plain =
        Network::<f64>::new(&config, &gatefold_model::Parameters::initial(&config, 1).unwrap()).unwrap();
    plain.parameters_mut().clone_from(case.network.parameters());
    let recurrent = *case.network.config().layers()[0].recurrent().unwrap();
    let zeros = |(name, tensor): (&String, &ndarray::ArrayD<f64>)| {
        (name.clone(), ndarray::ArrayD::zeros(tensor.raw_dim()))
    };
    let mut parameters: Tensors<f64> = case.network.parameters().iter().map(zeros).collect();
    for row in 0..3 {
        let length = lengths.as_ref().map_or(steps, |lengths| lengths[row]);
        let reverse = recurrent.direction == Direction::Reverse;
        Interleaved { case: &case, plain: &plain, d, row, length, reverse }.check(&mut parameters);
    }
    for (name, expected) in &parameters {
        for (found, expected) in case.gradients().parameters[name].iter().zip(expected) {
            assert!((found - expected).abs() < 1e-11, "{name}: found {found}, expected {expected}");
        }
    }
}

#[test]
fn a_dilated_layer_is_plain_layers_on_interleaved_sequences() {
    type Layer = fn(usize, Direction) -> LayerConfig;
    let layers: [(&str, Layer); 5] = [
        ("rnn", |d, direction| RnnConfig::new(4).dilation(d).direction(direction).into()),
        ("lstm", |d, direction| LstmConfig::new(3).peephole().dilation(d).direction(direction).into()),
        ("projected", |d, direction| {
            LstmConfig::new(4).projection(2).dilation(d).direction(direction).into()
        }),
        ("gru", |d, direction| GruConfig::new(3).dilation(d).direction(direction).into()),
        ("gru before", |d, direction| {
            GruConfig::new(3).reset(Reset::Before).clip(0.8).dilation(d).direction(direction).into()
        }),
    ];
    let mut failures = Failures::new();
    for (name, layer) in layers {
        for direction in [Direction::Forward, Direction::Reverse] {
            for d in [1, 2, 3, 7] {
                for (steps, lengths) in [(6, None), (5, None), (7, Some(vec![7, 0, 4]))] {
                    let what = format!("{name}, {direction:?}, dilation {d}, {steps} steps, {lengths:?}");
                    failures.check(&what, || check(|d| layer(d, direction), d, steps, lengths.clone()));
                }
            }
        }
    }
    failures.finish();
}

#[test]
fn a_learned_state_is_that_of_every_slot() {
    let layer = LstmConfig::new(2).dilation(3).initial_state(InitialState::Learned);
    let mut case = Case::new(&Shape::new(2, 5, 2), &[layer.into()], 8);
    let learned = case.gradients();
    let mut states = States::zeros(case.network.config(), 2);
    let parameters = case.network.parameters().clone();
    states.layers[0].h.assign(&parameters["rnn0.h0_l0"]);
    states.layers[0].c.as_mut().unwrap().assign(&parameters["rnn0.c0_l0"]);
    case.states = Some(states);
    let given = case.gradients();
    assert_near(&learned.input, &given.input);
    let sum = |d: &Array3<f64>| d.sum_axis(Axis(0)).sum_axis(Axis(0)).into_dyn();
    let layer = &given.states.layers[0];
    for (name, expected) in [("rnn0.h0_l0", sum(&layer.h)), ("rnn0.c0_l0", sum(layer.c.as_ref().unwrap()))] {
        for (found, expected) in learned.parameters[name].iter().zip(&expected) {
            assert!((found - expected).abs() < 1e-12, "{name}: found {found}, expected {expected}");
        }
    }
}
