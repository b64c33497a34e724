//! Arrays in and out of one of our networks.

use super::{Arrays, check_names, missing};
use crate::failure::Failure;
use crate::npz::Npz;
use gatefold::data::LayerState;
use gatefold::layers::LayerKind;
use gatefold::{Device, Network, NetworkConfig, Sequences, States};
use gatefold_model::Layer;
use gatefold_model::file::{MASK, Model};
use gatefold_onnx::Tensor;
use ndarray::{Array, Array3, Axis, Dimension, Ix1, Ix2, Ix3, concatenate, s};

const INPUT: &str = "input";
const LENGTHS: &str = "lengths";
const DECODER_INPUT: &str = "decoder_input";
const DECODER_LENGTHS: &str = "decoder_lengths";
const OUTPUT: &str = "output";

/// Runs a network on the arrays of a file, using every one of them; in chunks of so many steps, if given.
pub(super) fn run(
    device: &Device,
    model: &Model,
    given: &mut Npz,
    chunk: Option<usize>,
) -> Result<Arrays, Failure> {
    let known = names(&model.config);
    check_names(given, &known.iter().map(String::as_str).collect::<Vec<_>>())?;
    let mut sequences = sequences(&model.config, given)?;
    let mask = model.metadata.get(MASK).and_then(|mask| mask.parse().ok());
    if let (Some(mask), None, None) = (mask, sequences.lengths(), model.config.decoder()) {
        sequences =
            without_masked(&model.config, &sequences, mask).map_err(|problem| given.refusal(problem))?;
    }
    let states = states(model, given, sequences.batch())?;
    let network = Network::with_parameters(device, &model.config, &model.parameters)?;
    let (output, states) = match chunk {
        None => {
            let forward = network.forward(&sequences, states.as_ref())?;
            (forward.output, forward.states)
        }
        Some(chunk) => in_chunks(&network, &sequences, states, chunk)?,
    };
    let mut arrays: Arrays = vec![(OUTPUT.into(), output.into())];
    for (layer, state) in model.config.recurrent_layers().zip(states.layers) {
        let label = layer.label();
        arrays.push((format!("{label}.h"), state.h.into()));
        arrays.extend(state.c.map(|c| (format!("{label}.c"), c.into())));
        arrays.extend(state.y.map(|y| (format!("{label}.y"), y.into_dyn().into())));
    }
    Ok(arrays)
}

/// The sequences without the steps that a mask leaves out, with the lengths that are left. A recurrent layer's state passes
/// over masked steps unchanged, so rows with other steps after them can close ranks.
fn without_masked(
    config: &NetworkConfig,
    sequences: &Sequences,
    mask: f32,
) -> Result<Sequences<'static>, String> {
    let values = sequences.values();
    let mut kept = Array3::from_elem(values.raw_dim(), mask);
    let mut lengths = Vec::with_capacity(sequences.batch());
    for b in 0..sequences.batch() {
        let mut length = 0;
        for (t, step) in values.index_axis(Axis(1), b).outer_iter().enumerate() {
            if step.iter().all(|&value| value == mask) {
                continue;
            }
            if length < t && config.timeline().has_lengths() {
                return Err(format!(
                    "array {INPUT}, row {b}: step {length} is masked and step {t} is not; expected masked steps after all \
                     others, since the network has an output for each step"
                ));
            }
            kept.slice_mut(s![length, b, ..]).assign(&step);
            length += 1;
        }
        lengths.push(length);
    }
    Sequences::time_major(kept).with_lengths(lengths).map_err(|error| error.to_string())
}

/// The output and the final states of a network that runs on chunks of the steps, each from the states after the one before.
fn in_chunks(
    network: &Network,
    sequences: &Sequences,
    states: Option<States>,
    chunk: usize,
) -> Result<(Array3<f32>, States), Failure> {
    let config = network.config();
    if config.decoder().is_some() {
        return Err(Failure::failed(
            "--stream: a decoder starts from the end of its encoder; leave --stream out",
        ));
    }
    // Refuses layers that need more than the steps so far.
    let mut stream = network.stream(sequences.batch())?;
    let each = config.output_steps(chunk) == chunk && config.output_steps(chunk + 1) == chunk + 1;
    if !each && sequences.lengths().is_some() {
        return Err(Failure::failed(
            "--stream: the network has one output for each row, and the rows end in different chunks; leave --stream or \
             the lengths out",
        ));
    }
    if let Some(states) = &states {
        stream.set_states(states)?;
    }
    let mut outputs: Vec<Array3<f32>> = Vec::new();
    for begin in (0..sequences.steps()).step_by(chunk) {
        let end = (begin + chunk).min(sequences.steps());
        let values = sequences.values().slice(s![begin..end, .., ..]).to_owned();
        let output = match sequences.lengths() {
            None => stream.advance(values.view())?,
            Some(lengths) => {
                let within =
                    lengths.iter().map(|&length| length.clamp(begin, end) - begin).collect::<Vec<_>>();
                let part = Sequences::time_major(values).with_lengths(within)?;
                let forward = network.forward(&part, Some(&stream.states()?))?;
                stream.set_states(&forward.states)?;
                forward.output
            }
        };
        if !each {
            outputs.clear();
        }
        outputs.push(output);
    }
    let views: Vec<_> = outputs.iter().map(|output| output.view()).collect();
    let output = concatenate(Axis(0), &views).expect("chunks have the same rows and widths");
    Ok((output, stream.states()?))
}

/// The names of the arrays that the network takes. Layers of a decoder start from the encoder's states.
fn names(config: &NetworkConfig) -> Vec<String> {
    let mut names = vec![INPUT.to_owned()];
    if !expands(config) {
        names.push(LENGTHS.into());
    }
    if config.decoder().is_some() {
        names.extend([DECODER_INPUT.into(), DECODER_LENGTHS.into()]);
    }
    for layer in starting(config) {
        let recurrent = layer.recurrent().expect("only recurrent layers are listed");
        names.push(format!("{}.h", layer.label()));
        names.extend(recurrent.cell.has_state().then(|| format!("{}.c", layer.label())));
        names.extend(recurrent.feedback.map(|_| format!("{}.y", layer.label())));
    }
    names
}

/// The recurrent layers whose initial states a caller can give.
fn starting(config: &NetworkConfig) -> impl Iterator<Item = &Layer> {
    let decoder = config.decoder().unwrap_or(usize::MAX);
    config.recurrent_layers().filter(move |layer| layer.index < decoder)
}

/// Whether the network reads a single step.
fn expands(config: &NetworkConfig) -> bool {
    matches!(config.layers().first().map(|layer| layer.kind), Some(LayerKind::Expand { .. }))
}

fn sequences(config: &NetworkConfig, given: &mut Npz) -> Result<Sequences<'static>, Failure> {
    let sequences = part(config, given, 0, INPUT, LENGTHS)?;
    let Some(decoder) = config.decoder() else { return Ok(sequences) };
    let own = part(config, given, decoder + 1, DECODER_INPUT, DECODER_LENGTHS)?;
    if own.batch() != sequences.batch() {
        return Err(given.refusal(format!(
            "array {DECODER_INPUT}: expected {} rows as in {INPUT}, found {}; give one row for each of them",
            sequences.batch(),
            own.batch()
        )));
    }
    Ok(sequences.with_decoder(own))
}

/// The sequences that the layers from `first` on read, with their lengths.
fn part(
    config: &NetworkConfig,
    given: &mut Npz,
    first: usize,
    name: &str,
    lengths_name: &str,
) -> Result<Sequences<'static>, Failure> {
    let layers = config.layers();
    let width = first.checked_sub(1).map_or(config.input(), |decoder| layers[decoder].output);
    let reads_tokens = matches!(layers.get(first).map(|layer| layer.kind), Some(LayerKind::Embedding { .. }));
    let expected = if reads_tokens {
        "int64 or int32 [steps, batch]".into()
    } else {
        format!("float32 [{}, batch, {width}]", if expands(config) { "1" } else { "steps" })
    };
    let Some(tensor) = given.read(name)? else { return Err(missing(given, name, &expected)) };
    let refuse = |found: &Tensor| unfit(given, name, &expected, found);
    let values: Array3<f32> = match (&tensor, reads_tokens) {
        (Tensor::F32(values), _) => fitting::<f32, Ix3>(values).ok_or_else(|| refuse(&tensor))?,
        (tensor, true) => {
            let tokens = integers(tensor).ok_or_else(|| refuse(tensor))?;
            // A number too large for the table stays too large: f32 has every whole number up to 2^24, and rounds none
            // above to one below.
            let tokens = tokens.mapv(|token| token as f32).into_dimensionality::<Ix2>();
            tokens.map_err(|_| refuse(tensor))?.insert_axis(Axis(2))
        }
        (tensor, false) => return Err(refuse(tensor)),
    };
    if values.dim().2 != width || values.is_empty() {
        return Err(refuse(&tensor));
    }
    let (steps, batch, _) = values.dim();
    let sequences = Sequences::time_major(values);
    let Some(lengths) = given.read(lengths_name)? else { return Ok(sequences) };
    let expected = format!("int64 or int32 [{batch}], each from 0 to {steps}");
    let numbers = integers(&lengths).and_then(|numbers| fitting::<i64, Ix1>(&numbers));
    let numbers = numbers.filter(|numbers| numbers.len() == batch);
    let Some(numbers) = numbers else { return Err(unfit(given, lengths_name, &expected, &lengths)) };
    let counted: Result<Vec<usize>, (usize, i64)> = numbers
        .indexed_iter()
        .map(|(row, &length)| usize::try_from(length).ok().filter(|&l| l <= steps).ok_or((row, length)))
        .collect();
    match counted {
        Ok(lengths) => Ok(sequences.with_lengths(lengths)?),
        Err((row, length)) => Err(given.refusal(format!(
            "array {lengths_name}, row {row}: expected 0 to the {steps} steps of {name}, found {length}"
        ))),
    }
}

/// The initial states of the layers: those given, and the network's own for all others.
fn states(model: &Model, given: &mut Npz, batch: usize) -> Result<Option<States>, Failure> {
    let mut states = States::initial(&model.config, &model.parameters, batch);
    let mut any = false;
    let places: Vec<String> = starting(&model.config).map(Layer::label).collect();
    // The layers of a decoder come after those of the encoder, so zip ends before them.
    for (label, LayerState { h, c, y }) in places.iter().zip(&mut states.layers) {
        any |= replace(given, &format!("{label}.h"), Some(h))?;
        any |= replace(given, &format!("{label}.c"), c.as_mut())?;
        any |= replace(given, &format!("{label}.y"), y.as_mut())?;
    }
    Ok(any.then_some(states))
}

/// Replaces a state with the array of that name, if there is one.
fn replace<D: Dimension>(
    given: &mut Npz,
    name: &str,
    state: Option<&mut Array<f32, D>>,
) -> Result<bool, Failure> {
    let (Some(state), Some(tensor)) = (state, given.read(name)?) else { return Ok(false) };
    let expected = format!("float32 {:?}", state.shape());
    match &tensor {
        Tensor::F32(values) if values.shape() == state.shape() => {
            state.assign(&values.view().into_dimensionality::<D>().expect("the shapes are equal"));
            Ok(true)
        }
        _ => Err(unfit(given, name, &expected, &tensor)),
    }
}

/// The array, if it has the right number of axes.
fn fitting<T: Clone, D: Dimension>(values: &ndarray::ArrayD<T>) -> Option<Array<T, D>> {
    values.view().into_dimensionality::<D>().ok().map(|values| values.to_owned())
}

/// Whole numbers of either width.
fn integers(tensor: &Tensor) -> Option<ndarray::ArrayD<i64>> {
    match tensor {
        Tensor::I64(values) => Some(values.clone()),
        Tensor::I32(values) => Some(values.mapv(i64::from)),
        _ => None,
    }
}

fn unfit(given: &Npz, name: &str, expected: &str, found: &Tensor) -> Failure {
    let (element, shape) = (found.element(), found.shape());
    let problem =
        format!("array {name}: expected {expected}, found {element} {shape:?}; give it that type and shape");
    given.refusal(problem)
}
