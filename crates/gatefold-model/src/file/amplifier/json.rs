use super::{Amplifier, AmplifierFile, function_of, recurrent_of, refusal};
use crate::file::Model;
use crate::{Activation, Cell, GruGate, InitialState, Layer, ModelError, Role};
use serde::Serialize;
use std::collections::BTreeMap;

/// One file for several readers, each of which takes its own keys: RTNeural's loader and AIDA-X the first ones, GuitarML's
/// plugins `model_data` and `state_dict`.
#[derive(Serialize)]
struct JsonFile {
    in_shape: [Option<usize>; 3],
    in_skip: usize,
    layers: Vec<JsonLayer>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<Metadata>,
    #[serde(flatten)]
    guitar_ml: Option<GuitarMl>,
}

#[derive(Serialize)]
struct JsonLayer {
    #[serde(rename = "type")]
    kind: &'static str,
    activation: &'static str,
    shape: [Option<usize>; 3],
    weights: Vec<Values>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Values {
    Vector(Vec<f32>),
    Matrix(Vec<Vec<f32>>),
}

#[derive(Serialize)]
struct Metadata {
    samplerate: f64,
}

#[derive(Serialize)]
struct GuitarMl {
    model_data: ModelData,
    state_dict: BTreeMap<&'static str, Values>,
}

#[derive(Serialize)]
struct ModelData {
    model: &'static str,
    input_size: usize,
    skip: usize,
    output_size: usize,
    unit_type: &'static str,
    num_layers: usize,
    hidden_size: usize,
    bias_fl: bool,
}

/// A network as JSON for [RTNeural](https://github.com/jatinchowdhury18/RTNeural)'s loader and AIDA-X, and where they can
/// run it for GuitarML's plugins NeuralPi and Proteus, all in one file. AIDA-X reads the sound's `sample_rate` in Hz.
///
/// RTNeural itself does not add the input to the output; where the network does, the program around it must. GuitarML's
/// plugins always do, and have one LSTM layer: their part is left out for other networks, which a note says.
///
/// # Errors
/// [`ModelError::Config`] names the layer and the property that the format lacks: anything but LSTM and GRU layers and
/// dense ones after them, initial states other than zeros, functions other than tanh, relu, sigmoid and elu of dense layers,
/// two directions and what else PyTorch's modules lack, and parameters that are not finite.
pub fn json(model: &Model, sample_rate: Option<f64>) -> Result<AmplifierFile, ModelError> {
    let amplifier = Amplifier::of(model, "an RTNeural file")?;
    let width = model.config.input();
    if amplifier.residual && width != 1 {
        let problem =
            format!("the connection from input to output of an RTNeural file adds one value; found {width}");
        return Err(ModelError::Config { place: "network".into(), problem });
    }
    let mut layers = Vec::new();
    for layer in &amplifier.recurrent {
        layers.push(recurrent(&amplifier, layer)?);
    }
    for layer in &amplifier.dense {
        let activation = function(layer)?;
        let kernel = transposed(&amplifier.matrix(layer, Role::DenseWeight));
        let bias = amplifier.vector(layer, Role::DenseBias, layer.output);
        let weights = vec![Values::Matrix(kernel), Values::Vector(bias)];
        layers.push(JsonLayer { kind: "dense", activation, shape: shape(layer.output), weights });
    }
    let mut notes = Vec::new();
    if amplifier.residual {
        notes.push(
            "RTNeural's own loader leaves it to the program around it to add the input to the output; AIDA-X and \
             GuitarML's plugins do"
                .into(),
        );
    }
    let guitar_ml = match not_for_guitar_ml(&amplifier) {
        None => {
            let units = recurrent_of(amplifier.recurrent[0]).hidden;
            if ![20, 40].contains(&units) {
                notes.push(format!("NeuralPi has 20 units and Proteus 40; this network has {units}"));
            }
            Some(guitar_ml(&amplifier))
        }
        Some(reason) => {
            notes.push(format!("the part for GuitarML's NeuralPi and Proteus is left out: {reason}"));
            None
        }
    };
    if sample_rate.is_none() {
        notes.push("no sample rate is given; AIDA-X takes 48000 Hz".into());
    }
    let file = JsonFile {
        in_shape: shape(model.config.input()),
        in_skip: usize::from(amplifier.residual),
        layers,
        metadata: sample_rate.map(|samplerate| Metadata { samplerate }),
        guitar_ml,
    };
    let text = serde_json::to_string(&file).expect("finite numbers and names are JSON");
    Ok(AmplifierFile { text, notes })
}

/// The shape of a value, as Keras writes it: batch and time are not fixed.
fn shape(width: usize) -> [Option<usize>; 3] {
    [None, None, Some(width)]
}

fn recurrent(amplifier: &Amplifier, layer: &Layer) -> Result<JsonLayer, ModelError> {
    let recurrent = recurrent_of(layer);
    if recurrent.initial != InitialState::Zeros {
        let problem = "an RTNeural file has no initial states; expected zeros".into();
        return Err(refusal(layer, problem));
    }
    let (from_input, from_h) =
        (amplifier.matrix(layer, Role::InputWeight), amplifier.matrix(layer, Role::RecurrentWeight));
    let (kind, weights) = match recurrent.cell {
        Cell::Gru(_) => {
            let rows = from_h.len();
            let biases = [Role::InputBias, Role::RecurrentBias]
                .map(|role| zrn_from_rzn(amplifier.vector(layer, role, rows)))
                .to_vec();
            let kernels = [from_input, from_h].map(|rows| Values::Matrix(transposed(&zrn_from_rzn(rows))));
            ("gru", kernels.into_iter().chain([Values::Matrix(biases)]).collect())
        }
        _ => {
            let kernels = [from_input, from_h].map(|rows| Values::Matrix(transposed(&rows)));
            let bias = Values::Vector(amplifier.bias(layer));
            ("lstm", kernels.into_iter().chain([bias]).collect())
        }
    };
    Ok(JsonLayer { kind, activation: "tanh", shape: shape(recurrent.hidden), weights })
}

/// The name of a dense layer's function.
fn function(layer: &Layer) -> Result<&'static str, ModelError> {
    match function_of(layer) {
        Activation::Identity => Ok(""),
        Activation::Tanh => Ok("tanh"),
        Activation::Relu => Ok("relu"),
        Activation::Sigmoid => Ok("sigmoid"),
        Activation::Elu { alpha: 1.0 } => Ok("elu"),
        found => {
            let known = "tanh, relu, sigmoid, or elu with an alpha of 1";
            Err(refusal(layer, format!("an RTNeural file has no function {found}; expected {known}")))
        }
    }
}

/// Moves a GRU's rows from our order of gates, r, z, n, to Keras's, z, r, n.
fn zrn_from_rzn<T: Clone>(rows: Vec<T>) -> Vec<T> {
    let hidden = rows.len() / GruGate::COUNT;
    let of = |gate: GruGate| &rows[gate as usize * hidden..(gate as usize + 1) * hidden];
    [of(GruGate::Update), of(GruGate::Reset), of(GruGate::New)].concat()
}

/// Columns as rows: Keras's kernels are `[input, output]`.
fn transposed(rows: &[Vec<f32>]) -> Vec<Vec<f32>> {
    let columns = rows.first().map_or(0, Vec::len);
    (0..columns).map(|column| rows.iter().map(|row| row[column]).collect()).collect()
}

/// The reason why GuitarML's plugins cannot run a network. They would not say so themselves.
fn not_for_guitar_ml(amplifier: &Amplifier) -> Option<String> {
    let config = &amplifier.model.config;
    let layers = (amplifier.recurrent.len(), amplifier.dense.len());
    if !amplifier.residual {
        Some("they add the input to the output, and this network does not".into())
    } else if (config.input(), config.output()) != (1, 1) {
        Some(format!("it has one value in and out; found {} and {}", config.input(), config.output()))
    } else if layers != (1, 1) || !matches!(recurrent_of(amplifier.recurrent[0]).cell, Cell::Lstm(_)) {
        Some("they have one LSTM layer and one dense layer".into())
    } else if function_of(amplifier.dense[0]) != Activation::Identity {
        Some("they have no function after the dense layer".into())
    } else {
        None
    }
}

/// The state_dict of GuitarML's training program, and its description.
fn guitar_ml(amplifier: &Amplifier) -> GuitarMl {
    let (lstm, head) = (amplifier.recurrent[0], amplifier.dense[0]);
    let hidden_size = recurrent_of(lstm).hidden;
    let matrix = |layer, role| Values::Matrix(amplifier.matrix(layer, role));
    // The plugins add both biases: the second is there for other readers.
    let rows = amplifier.bias(lstm).len();
    let vector = |layer, role, len| Values::Vector(amplifier.vector(layer, role, len));
    let state_dict = BTreeMap::from([
        ("rec.weight_ih_l0", matrix(lstm, Role::InputWeight)),
        ("rec.weight_hh_l0", matrix(lstm, Role::RecurrentWeight)),
        ("rec.bias_ih_l0", vector(lstm, Role::InputBias, rows)),
        ("rec.bias_hh_l0", vector(lstm, Role::RecurrentBias, rows)),
        ("lin.weight", matrix(head, Role::DenseWeight)),
        ("lin.bias", vector(head, Role::DenseBias, 1)),
    ]);
    let model_data = ModelData {
        model: "SimpleRNN",
        input_size: 1,
        skip: 1,
        output_size: 1,
        unit_type: "LSTM",
        num_layers: 1,
        hidden_size,
        bias_fl: true,
    };
    GuitarMl { model_data, state_dict }
}
