//! The Jacobian of a recurrent layer's last state with respect to the ones before it.

use crate::network::Tape;
use crate::{Error, Network, Sequences};
use gatefold_model::{Direction, Layer, LayerConfig, LayerState, NetworkConfig, Parameters, States};
use gatefold_reference::scan;
use ndarray::{Array1, Array2, Array3, ArrayView3, Axis};

/// The most rounds of the power iteration at each step, and the relative growth below which it ends. It starts from the
/// vector of the step after.
const ROUNDS: usize = 200;
const GROWTH: f64 = 1e-7;

/// One scan of a recurrent layer as a network of its own, which goes forward in time.
pub(super) fn alone(network: &Network, layer: &Layer, reverse: bool) -> Result<Network, Error> {
    let config = match written(network.config().layer_configs(), layer.owner) {
        Some(LayerConfig::Rnn(rnn)) => rnn.clone().direction(Direction::Forward).into(),
        Some(LayerConfig::Lstm(lstm)) => lstm.clone().direction(Direction::Forward).into(),
        Some(LayerConfig::Gru(gru)) => gru.clone().direction(Direction::Forward).into(),
        Some(LayerConfig::Custom(custom)) => custom.clone().direction(Direction::Forward).into(),
        _ => unreachable!("{} is recurrent", layer.place()),
    };
    let config = NetworkConfig::new(layer.input, [config])?;
    let all = network.parameters()?;
    let mut parameters = Parameters::initial(&config, 0)?;
    for spec in config.parameter_specs() {
        let of = layer.find(spec.role, reverse).expect("both have the same parameters");
        let values = all.get(&of.name).expect("it is the network's");
        parameters.get_mut(&spec.name).expect("it is the layer's").assign(values);
    }
    Network::with_parameters(&network.device(), &config, &parameters)
}

/// The layer with this number as it was written, within its branches.
fn written(configs: &[LayerConfig], number: usize) -> Option<&LayerConfig> {
    fn walk<'a>(configs: &'a [LayerConfig], left: &mut usize) -> Option<&'a LayerConfig> {
        for config in configs {
            if let LayerConfig::Parallel(parallel) = config {
                let found = parallel.branches().iter().find_map(|branch| walk(branch, left));
                if found.is_some() {
                    return found;
                }
            }
            if *left == 0 {
                return Some(config);
            }
            *left -= 1;
        }
        None
    }
    walk(configs, &mut number.clone())
}

/// The spectral norm of the Jacobian of the final state of a network of one layer with respect to its state before each
/// step of `input [T, 1, I]`, from the first row of the initial states. Each row of a batch carries one row of the Jacobian
/// back.
pub(super) fn norms(
    network: &Network,
    input: ArrayView3<f64>,
    initial: &scan::States<f64>,
) -> Result<Vec<f64>, Error> {
    let steps = input.dim().0;
    let one = States::zeros(network.config(), 1);
    let elements = one.layers[0].h.len() + one.layers[0].c.as_ref().map_or(0, Array3::len);
    let repeated = |of: ArrayView3<f64>| {
        let (first, _, last) = of.dim();
        Array3::from_shape_fn((first, elements, last), |(a, _, b)| of[[a, 0, b]] as f32)
    };
    let rows = Sequences::from(repeated(input));
    let mut states = States::zeros(network.config(), elements);
    let state = &mut states.layers[0];
    state.h = repeated(initial.h.view());
    state.c = initial.c.as_ref().map(|c| repeated(c.view()));
    state.y = initial.y.as_ref().map(|y| repeated(y.view().insert_axis(Axis(0))).remove_axis(Axis(0)));
    let mut tapes: Vec<Tape> = Vec::with_capacity(steps);
    for t in 0..steps {
        let states = tapes.last().map_or(&states, Tape::states).clone();
        tapes.push(network.forward_training(rows.window(t..t + 1), Some(&states), None)?);
    }
    let mut d_states = States::zeros(network.config(), elements);
    for element in 0..elements {
        set_state_element(&mut d_states.layers[0], element, element, 1.0);
    }
    let mut norms = Vec::with_capacity(steps);
    let mut vector = Array1::from_elem(elements, 1.0 / (elements as f64).sqrt());
    while let Some(tape) = tapes.pop() {
        d_states = network.backward(tape, None, Some(&d_states))?.read()?.states;
        let state = &d_states.layers[0];
        let jacobian = Array2::from_shape_fn((elements, elements), |(row, element)| {
            f64::from(state_element(state, row, element))
        });
        norms.push(spectral_norm(&jacobian, &mut vector));
    }
    norms.reverse();
    Ok(norms)
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

/// The largest singular value, by power iteration on `J^T J` (Golub and Van Loan, "Matrix computations", 4th edition,
/// section 7.3), from `vector`, which becomes the right singular vector.
pub(super) fn spectral_norm(jacobian: &Array2<f64>, vector: &mut Array1<f64>) -> f64 {
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

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_relative_eq;

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
}
