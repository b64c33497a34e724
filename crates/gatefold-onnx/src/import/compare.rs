//! Compares a network with the graph that it was put together from, on numbers.

use super::{Imported, Layout};
use crate::ElementType;
use crate::graph::Port;
use crate::model::OnnxModel;
use crate::operators::Budget;
use crate::tensor::Tensor;
use gatefold::{Device, Sequences, States};
use gatefold_model::LayerKind;
use ndarray::{Array3, Axis, Ix3, concatenate, s};
use std::collections::BTreeMap;

/// The largest difference of an output, against the larger of 1 and the largest output: both round, in another order.
const LARGEST: f32 = 1e-4;

/// Refuses a network whose output is not the graph's.
pub(super) fn compare(
    model: &OnnxModel,
    imported: &Imported,
    steps: usize,
    batch: usize,
) -> Result<(), String> {
    let failed = |reason: String| format!("the network cannot be compared with the graph: {reason}");
    let given = Given::new(model, imported, steps, batch).map_err(failed)?;
    let device = Device::cpu().map_err(|error| failed(error.to_string()))?;
    let budget = Some(Budget::walking(model.graph.stored()));
    let outputs = model.on(&device).run_within(&given.inputs, budget);
    let mut outputs = outputs.map_err(|error| failed(error.to_string()))?;
    let expected =
        outputs.remove(&imported.output.0).and_then(|output| time_major(output, imported.output.1));
    let expected = expected.ok_or_else(|| failed("its output has another shape".into()))?;

    let network = imported.network(&device).map_err(|error| failed(error.to_string()))?;
    let mut sequences = Sequences::time_major(given.x);
    if let Some(lengths) = &given.lengths {
        sequences = sequences.with_lengths(lengths.clone()).map_err(|error| failed(error.to_string()))?;
    }
    let forward = network.forward(&sequences, given.states.as_ref());
    let found = forward.map_err(|error| failed(error.to_string()))?.output;
    if found.dim() != expected.dim() {
        return Err(failed(format!(
            "its output is {:?}, that of the graph {:?}",
            found.dim(),
            expected.dim()
        )));
    }
    let most = expected.iter().fold(1.0f32, |most, value| most.max(value.abs()));
    let per_row = imported.config.timeline().has_lengths();
    for ((t, b, k), &value) in expected.indexed_iter() {
        // Past a row's end the graph repeats what the network leaves out.
        let inside = !per_row || given.lengths.as_ref().is_none_or(|lengths| t < lengths[b]);
        let difference = (found[[t, b, k]] - value).abs();
        if inside && (difference.is_nan() || difference > LARGEST * most) {
            return Err(format!(
                "its parts look like layers, but the results differ by {difference} at step {t}, row {b}, value {k}"
            ));
        }
    }
    Ok(())
}

/// Numbers to compare on: for the graph, and the same for the network.
struct Given {
    inputs: BTreeMap<String, Tensor>,
    x: Array3<f32>,
    lengths: Option<Vec<usize>>,
    states: Option<States>,
}

impl Given {
    fn new(model: &OnnxModel, imported: &Imported, steps: usize, batch: usize) -> Result<Given, String> {
        let config = &imported.config;
        let mut numbers = Numbers(1);
        let tokens = config.layers().first().and_then(|layer| match layer.kind {
            LayerKind::Embedding { tokens } => Some(tokens as f32),
            _ => None,
        });
        let mask = imported.mask;
        let shape = (steps, batch, config.input());
        let mut x = Array3::from_shape_simple_fn(shape, || match tokens {
            None => numbers.next(),
            Some(tokens) => {
                let token = ((numbers.next() + 1.0) / 2.0 * tokens).floor().min(tokens - 1.0);
                if Some(token) == mask { (token + 1.0) % tokens } else { token }
            }
        });
        let lengths = (imported.lengths.is_some() || mask.is_some())
            .then(|| (0..batch).map(|b| steps - b % steps.clamp(1, 3)).collect::<Vec<usize>>());
        if let (Some(mask), Some(lengths)) = (mask, &lengths) {
            for (b, &len) in lengths.iter().enumerate() {
                x.slice_mut(s![len.., b, ..]).fill(mask);
            }
        }
        let mut states = (!imported.states.is_empty()).then(|| States::zeros(config, batch));
        let mut inputs = BTreeMap::new();
        for port in model.inputs() {
            let tensor = if port.name == imported.input.0 {
                main_input(&x, imported.input.1, tokens.is_some().then_some(port.element).flatten())
            } else if Some(&port.name) == imported.lengths.as_ref() {
                Tensor::of_integers(lengths.iter().flatten().map(|&len| len as i64).collect())
            } else {
                let states = states.as_mut().ok_or("it has an input that is no state")?;
                state_input(port, imported, states, &mut numbers)?
            };
            inputs.insert(port.name.clone(), tensor);
        }
        Ok(Given { inputs, x, lengths, states })
    }
}

/// The sequences in the graph's layout; tokens of the given type.
fn main_input(x: &Array3<f32>, layout: Layout, tokens: Option<ElementType>) -> Tensor {
    let x = if layout == Layout::BatchFirst { x.view().permuted_axes([1, 0, 2]) } else { x.view() };
    let x = x.as_standard_layout().into_owned().into_dyn();
    match tokens {
        None => Tensor::F32(x),
        Some(ElementType::I32) => Tensor::I32(x.index_axis_move(Axis(2), 0).mapv(|token| token as i32)),
        Some(_) => Tensor::I64(x.index_axis_move(Axis(2), 0).mapv(|token| token as i64)),
    }
}

/// Rows of an input that are initial states; sets the same in the network's.
fn state_input(
    port: &Port,
    imported: &Imported,
    states: &mut States,
    numbers: &mut Numbers,
) -> Result<Tensor, String> {
    let mut rows: Vec<(usize, Array3<f32>)> = Vec::new();
    for given in imported.states.iter().filter(|state| state.input == port.name) {
        let layer = &mut states.layers[given.layer];
        let state = if given.cell { layer.c.as_mut() } else { Some(&mut layer.h) };
        let state = state.ok_or("it has no cell state")?;
        state.mapv_inplace(|_| numbers.next());
        rows.push((given.row, state.clone()));
    }
    rows.sort_by_key(|(row, _)| *row);
    let views: Vec<_> = rows.iter().map(|(_, rows)| rows.view()).collect();
    let all = concatenate(Axis(0), &views).map_err(|error| error.to_string())?.into_dyn();
    let axes = port.shape.as_ref().map_or(3, Vec::len);
    Ok(Tensor::F32(if axes == 2 { all.index_axis_move(Axis(0), 0) } else { all }))
}

/// An output of the graph as `[T, B, F]`.
fn time_major(output: Tensor, layout: Layout) -> Option<Array3<f32>> {
    let Tensor::F32(array) = output else { return None };
    let array = match layout {
        Layout::OneStep => array.insert_axis(Axis(0)),
        Layout::OneDirection => array.index_axis_move(Axis(1), 0),
        Layout::TimeMajor | Layout::BatchFirst => array,
    };
    let array = array.into_dimensionality::<Ix3>().ok()?;
    Some(if layout == Layout::BatchFirst { array.permuted_axes([1, 0, 2]) } else { array })
}

/// Numbers from -1 to 1, always the same.
struct Numbers(u64);

impl Numbers {
    /// Knuth's linear congruential generator, of which the high bits are used.
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }
}
