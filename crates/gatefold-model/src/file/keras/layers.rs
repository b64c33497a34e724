//! Keras' layers, as config.json describes them, and the layers here that compute the same.

use super::chain::{Described, Setting, in_short};
use super::shown;
use crate::{
    Activation, Biases, Conv1dConfig, DenseConfig, Direction, EmbeddingConfig, Expansion, GruActivations,
    GruConfig, LayerConfig, LstmActivations, LstmConfig, Reset, RnnConfig,
};
use serde_json::Value;

/// A layer of Keras' as layers here.
#[derive(Debug, Default)]
pub(super) struct Part {
    pub(super) layers: Vec<LayerConfig>,
    /// The groups of weights below the layer's own, each with the layer they belong to (counted within this part) and
    /// whether they are its reverse scan's.
    pub(super) groups: Vec<(&'static str, usize, bool)>,
    /// The number that masks a step.
    pub(super) mask: Option<f32>,
    pub(super) notes: Vec<String>,
    /// A function of the output of the layer before, without weights.
    pub(super) function: Option<Activation>,
}

/// Settings that change nothing here: names, initial values, penalties of training, ways of computing.
const IGNORED: [&str; 27] = [
    "name",
    "trainable",
    "dtype",
    "batch_input_shape",
    "batch_shape",
    "input_shape",
    "input_dim",
    "input_length",
    "seed",
    "implementation",
    "unroll",
    "use_cudnn",
    "unit_forget_bias",
    "zero_output_for_mask",
    "kernel_initializer",
    "recurrent_initializer",
    "bias_initializer",
    "embeddings_initializer",
    "kernel_regularizer",
    "recurrent_regularizer",
    "bias_regularizer",
    "activity_regularizer",
    "embeddings_regularizer",
    "kernel_constraint",
    "recurrent_constraint",
    "bias_constraint",
    "embeddings_constraint",
];

/// The layers that compute the same as one of Keras'.
pub(super) fn part(layer: &Described, keras: u32) -> Result<Part, String> {
    let setting = Setting { layer, keras };
    match layer.class.as_str() {
        "InputLayer" => Ok(Part::default()),
        "Masking" => masking(&setting),
        "Embedding" => embedding(&setting),
        "LSTM" | "GRU" | "SimpleRNN" => recurrent(&setting),
        "Bidirectional" => bidirectional(&setting),
        "Dense" => dense(&setting),
        "TimeDistributed" => time_distributed(&setting),
        "Conv1D" => convolution(&setting),
        "Dropout" => {
            setting.only(&["rate", "noise_shape"])?;
            setting.expect("noise_shape", &Value::Null)?;
            let rate = setting.number("rate")?;
            let layers = if rate > 0.0 { vec![LayerConfig::Dropout { rate }] } else { Vec::new() };
            Ok(Part { layers, ..Part::default() })
        }
        "RepeatVector" => {
            setting.only(&["n"])?;
            let steps = setting.count("n")?;
            Ok(Part {
                layers: vec![LayerConfig::Expand { steps, fill: Expansion::Repeat }],
                ..Part::default()
            })
        }
        "Activation" => {
            setting.only(&["activation"])?;
            function(&setting, setting.get("activation"))
        }
        "LayerNormalization" => normalisation(&setting),
        "GlobalMaxPooling1D" => pool(&setting, LayerConfig::MaxPool),
        "GlobalAveragePooling1D" => pool(&setting, LayerConfig::MeanPool),
        "Softmax" => {
            setting.only(&["axis"])?;
            setting.expect("axis", &Value::from(-1))?;
            Ok(Part { layers: vec![LayerConfig::Softmax], ..Part::default() })
        }
        "ReLU" => {
            setting.only(&["max_value", "negative_slope", "threshold"])?;
            setting.expect("max_value", &Value::Null)?;
            setting.expect("threshold", &Value::from(0.0))?;
            let slope = setting.number_or("negative_slope", 0.0)?;
            let relu = if slope == 0.0 { Activation::Relu } else { Activation::LeakyRelu { alpha: slope } };
            Ok(Part { function: Some(relu), ..Part::default() })
        }
        "LeakyReLU" => {
            setting.only(&["negative_slope", "alpha"])?;
            let old = setting.number_or("alpha", 0.3)?;
            let alpha = setting.number_or("negative_slope", old)?;
            Ok(Part { function: Some(Activation::LeakyRelu { alpha }), ..Part::default() })
        }
        "ELU" => {
            setting.only(&["alpha"])?;
            let alpha = setting.number_or("alpha", 1.0)?;
            Ok(Part { function: Some(Activation::Elu { alpha }), ..Part::default() })
        }
        _ => Err(format!(
            "{layer}: no layer here computes it; known are InputLayer, Masking, Embedding, LSTM, GRU, SimpleRNN, \
             Bidirectional, Dense, TimeDistributed, Conv1D, LayerNormalization, GlobalMaxPooling1D, GlobalAveragePooling1D, \
             Dropout, RepeatVector, Activation, Softmax, ReLU, LeakyReLU, ELU"
        )),
    }
}

/// A function that is a layer of its own.
fn function(setting: &Setting, found: Option<&Value>) -> Result<Part, String> {
    Ok(match activation(setting, "activation", found)? {
        Function::Softmax => Part { layers: vec![LayerConfig::Softmax], ..Part::default() },
        Function::Elementwise(function) => Part { function: Some(function), ..Part::default() },
    })
}

enum Function {
    Elementwise(Activation),
    Softmax,
}

/// The function with a name of Keras'.
fn activation(setting: &Setting, key: &str, found: Option<&Value>) -> Result<Function, String> {
    // A name, or an object that holds one as its config.
    let named = match found {
        None | Some(Value::Null) => Some("linear"),
        Some(Value::String(name)) => Some(name.as_str()),
        Some(Value::Object(object)) => object.get("config").and_then(Value::as_str),
        Some(_) => None,
    };
    let elementwise = match named {
        Some("linear") => Activation::Identity,
        Some("tanh") => Activation::Tanh,
        Some("sigmoid") => Activation::Sigmoid,
        Some("relu") => Activation::Relu,
        Some("softplus") => Activation::Softplus,
        Some("softsign") => Activation::Softsign,
        Some("elu") => Activation::Elu { alpha: 1.0 },
        Some("leaky_relu") => Activation::LeakyRelu { alpha: 0.2 },
        Some("hard_sigmoid") if setting.keras < 3 => Activation::HardSigmoid { alpha: 0.2, beta: 0.5 },
        Some("hard_sigmoid") => Activation::HardSigmoid { alpha: 1.0 / 6.0, beta: 0.5 },
        Some("softmax") => return Ok(Function::Softmax),
        _ => {
            let found = found.unwrap_or(&Value::Null);
            return Err(setting.wrong(
                key,
                "linear, tanh, sigmoid, relu, softplus, softsign, elu, leaky_relu or hard_sigmoid",
                found,
            ));
        }
    };
    Ok(Function::Elementwise(elementwise))
}

fn elementwise(setting: &Setting, key: &str) -> Result<Activation, String> {
    let found = setting.get(key);
    match activation(setting, key, found)? {
        Function::Elementwise(function) => Ok(function),
        Function::Softmax => Err(setting.wrong(key, "a function of one number", &Value::from("softmax"))),
    }
}

fn masking(setting: &Setting) -> Result<Part, String> {
    setting.only(&["mask_value"])?;
    Ok(Part { mask: Some(setting.number_or("mask_value", 0.0)?), ..Part::default() })
}

fn embedding(setting: &Setting) -> Result<Part, String> {
    setting.only(&["output_dim", "mask_zero", "weights", "lora_rank"])?;
    setting.expect("lora_rank", &Value::Null)?;
    let tokens = setting.count("input_dim")?;
    let layer = EmbeddingConfig::new(tokens, setting.count("output_dim")?);
    let mask = setting.truth("mask_zero", false)?.then_some(0.0);
    Ok(Part { layers: vec![layer.into()], groups: vec![("", 0, false)], mask, ..Part::default() })
}

fn dense(setting: &Setting) -> Result<Part, String> {
    setting.only(&["units", "activation", "use_bias", "lora_rank", "quantization_config"])?;
    setting.expect("lora_rank", &Value::Null)?;
    setting.expect("quantization_config", &Value::Null)?;
    let bias = setting.truth("use_bias", true)?;
    let dense = DenseConfig::new(setting.count("units")?).bias(bias);
    let layers = match activation(setting, "activation", setting.get("activation"))? {
        Function::Elementwise(function) => vec![dense.activation(function).into()],
        Function::Softmax => vec![dense.into(), LayerConfig::Softmax],
    };
    Ok(Part { layers, groups: vec![("", 0, false)], ..Part::default() })
}

fn normalisation(setting: &Setting) -> Result<Part, String> {
    let known = ["axis", "epsilon", "center", "scale", "beta_initializer", "gamma_initializer"];
    let more = ["beta_regularizer", "gamma_regularizer", "beta_constraint", "gamma_constraint"];
    setting.only(&[&known[..], &more].concat())?;
    for key in ["center", "scale"] {
        if !setting.truth(key, true)? {
            return Err(setting.wrong(key, "true, since the layer here has both", &Value::from(false)));
        }
    }
    let axis = setting.get("axis").cloned().unwrap_or(Value::from(-1));
    let one = axis.as_array().filter(|axes| axes.len() == 1).map_or(&axis, |axes| &axes[0]);
    if !matches!(one.as_i64(), Some(-1 | 2)) {
        return Err(setting.wrong("axis", "-1, the features", &axis));
    }
    let epsilon = setting.number_or("epsilon", 1e-3)?;
    Ok(Part {
        layers: vec![LayerConfig::Normalise { epsilon }],
        groups: vec![("", 0, false)],
        ..Part::default()
    })
}

fn pool(setting: &Setting, layer: LayerConfig) -> Result<Part, String> {
    setting.only(&["data_format", "keepdims"])?;
    let format = setting.text("data_format", "channels_last")?;
    if format != "channels_last" {
        return Err(setting.wrong("data_format", "channels_last", &Value::from(format)));
    }
    Ok(Part { layers: vec![layer], ..Part::default() })
}

fn time_distributed(setting: &Setting) -> Result<Part, String> {
    setting.only(&["layer"])?;
    let inner = setting.inner("layer")?;
    match inner.class.as_str() {
        "Dense" | "Dropout" | "Activation" | "Softmax" | "ReLU" | "LeakyReLU" | "ELU" => {
            let mut part = part(&inner, setting.keras)?;
            for group in &mut part.groups {
                group.0 = "layer";
            }
            Ok(part)
        }
        _ => Err(format!("{}: no layer here computes {inner} for each step", setting.layer)),
    }
}

fn convolution(setting: &Setting) -> Result<Part, String> {
    let known = ["filters", "kernel_size", "strides", "padding", "data_format", "dilation_rate", "groups"];
    setting.only(&[&known[..], &["activation", "use_bias", "rank", "lora_rank", "auto_pad"]].concat())?;
    setting.expect("groups", &Value::from(1))?;
    setting.expect("lora_rank", &Value::Null)?;
    setting.expect("data_format", &Value::from("channels_last"))?;
    let (kernel, stride) = (setting.one_of("kernel_size", None)?, setting.one_of("strides", Some(1))?);
    let dilation = setting.one_of("dilation_rate", Some(1))?;
    let conv = Conv1dConfig::new(setting.count("filters")?, kernel).stride(stride).dilation(dilation);
    let conv = match setting.text("padding", "valid")? {
        "valid" => conv,
        "causal" => conv.causal(),
        "same" if stride == 1 => {
            // An odd step of zeros comes last.
            let all = dilation.saturating_mul(kernel.saturating_sub(1));
            conv.padding(all / 2, all - all / 2)
        }
        "same" => {
            let found = Value::from("same");
            return Err(setting.wrong("padding", "valid or causal with strides above 1", &found));
        }
        other => return Err(setting.wrong("padding", "valid, causal or same", &Value::from(other))),
    };
    let conv = conv.bias(setting.truth("use_bias", true)?);
    let layers = match activation(setting, "activation", setting.get("activation"))? {
        Function::Elementwise(function) => vec![conv.activation(function).into()],
        Function::Softmax => vec![conv.into(), LayerConfig::Softmax],
    };
    Ok(Part { layers, groups: vec![("", 0, false)], ..Part::default() })
}

/// The settings of LSTM, GRU and SimpleRNN that say something about their results.
const RECURRENT: [&str; 14] = [
    "units",
    "activation",
    "recurrent_activation",
    "use_bias",
    "reset_after",
    "return_sequences",
    "return_state",
    "go_backwards",
    "stateful",
    "dropout",
    "recurrent_dropout",
    "time_major",
    "quantization_config",
    "cell",
];

/// A recurrent layer for one or both directions.
fn cell(setting: &Setting, direction: Direction) -> Result<(LayerConfig, Vec<String>), String> {
    setting.only(&RECURRENT)?;
    for key in ["return_state", "time_major"] {
        setting.expect(key, &Value::from(false))?;
    }
    for key in ["quantization_config", "cell"] {
        setting.expect(key, &Value::Null)?;
    }
    let units = setting.count("units")?;
    let bias = setting.truth("use_bias", true)?;
    let (dropout, recurrent) =
        (setting.number_or("dropout", 0.0)?, setting.number_or("recurrent_dropout", 0.0)?);
    let candidate = elementwise(setting, "activation")?;
    let biases = if bias { Biases::One } else { Biases::None };
    let mut notes = Vec::new();
    if dropout > 0.0 {
        notes.push(format!(
            "{}: dropout {dropout} of its input, with one mask for all steps, is left out; it acts in training only",
            setting.layer
        ));
    }
    if setting.truth("stateful", false)? {
        notes.push(format!(
            "{}: it is stateful; here each run begins with zeros unless states are given",
            setting.layer
        ));
    }
    let mut left_out = || {
        notes.push(format!(
            "{}: recurrent_dropout {recurrent} is left out; a GRU that resets before the product has none",
            setting.layer
        ));
    };
    macro_rules! options {
        ($config:expr) => {{
            let config = $config.direction(direction).biases(biases);
            if recurrent > 0.0 { config.recurrent_dropout(recurrent) } else { config }
        }};
    }
    let layer = match setting.layer.class.as_str() {
        "SimpleRNN" => options!(RnnConfig::new(units)).activation(candidate).into(),
        "LSTM" => {
            let gate = elementwise(setting, "recurrent_activation")?;
            options!(LstmConfig::new(units))
                .activations(LstmActivations { gate, candidate, output: candidate })
                .into()
        }
        _ => {
            let gate = elementwise(setting, "recurrent_activation")?;
            let after = setting.truth("reset_after", setting.keras >= 2)?;
            let config = match after {
                true => options!(GruConfig::new(units)).reset(Reset::After),
                false => {
                    if recurrent > 0.0 {
                        left_out();
                    }
                    GruConfig::new(units).direction(direction).biases(biases).reset(Reset::Before)
                }
            };
            let config = if after && bias { config.biases(Biases::Two) } else { config };
            config.activations(GruActivations { gate, candidate }).into()
        }
    };
    Ok((layer, notes))
}

fn recurrent(setting: &Setting) -> Result<Part, String> {
    let backwards = setting.truth("go_backwards", false)?;
    let every_step = setting.truth("return_sequences", false)?;
    if backwards && every_step {
        return Err(setting.wrong(
            "go_backwards",
            "false with return_sequences, since its steps come out in reverse",
            &Value::from(true),
        ));
    }
    let direction = if backwards { Direction::Reverse } else { Direction::Forward };
    let (layer, notes) = cell(setting, direction)?;
    let mut layers = vec![layer];
    layers.extend(match (every_step, backwards) {
        (true, _) => None,
        (false, false) => Some(LayerConfig::LastStep),
        (false, true) => Some(LayerConfig::FinalState),
    });
    Ok(Part { layers, groups: vec![("cell", 0, backwards)], notes, ..Part::default() })
}

fn bidirectional(setting: &Setting) -> Result<Part, String> {
    setting.only(&["layer", "backward_layer", "merge_mode"])?;
    let forward = setting.inner("layer")?;
    let inner = Setting { layer: &forward, keras: setting.keras };
    if !matches!(forward.class.as_str(), "LSTM" | "GRU" | "SimpleRNN") {
        return Err(format!("{}: no layer here computes {forward} in both directions", setting.layer));
    }
    inner.expect("go_backwards", &Value::from(false))?;
    let every_step = inner.truth("return_sequences", false)?;
    let direction = match setting.text("merge_mode", "none")? {
        "concat" => Direction::Bidirectional,
        "sum" if every_step => Direction::BidirectionalSum,
        other => {
            let expected = if every_step { "concat or sum" } else { "concat, without return_sequences" };
            return Err(setting.wrong("merge_mode", expected, &Value::from(other)));
        }
    };
    if setting.get("backward_layer").is_some_and(|layer| !layer.is_null()) {
        let backward = setting.inner("backward_layer")?;
        let other = Setting { layer: &backward, keras: setting.keras };
        other.expect("go_backwards", &Value::from(true))?;
        let (one, _) = cell(&inner, direction)?;
        if backward.class != forward.class || cell(&other, direction)?.0 != one {
            return Err(format!(
                "{}: {backward} differs from {forward}; expected the same settings",
                setting.layer
            ));
        }
    }
    let (layer, notes) = cell(&inner, direction)?;
    let mut layers = vec![layer];
    layers.extend((!every_step).then_some(LayerConfig::FinalState));
    let groups = vec![("forward_layer/cell", 0, false), ("backward_layer/cell", 0, true)];
    Ok(Part { layers, groups, notes, ..Part::default() })
}

impl Setting<'_> {
    /// Refuses settings that are not known, unless they are off.
    fn only(&self, known: &[&str]) -> Result<(), String> {
        for (key, value) in &self.layer.config {
            let off = matches!(value, Value::Null | Value::Bool(false));
            if !off && !IGNORED.contains(&key.as_str()) && !known.contains(&key.as_str()) {
                return Err(format!(
                    "{}: the setting {} is not known here; found {}",
                    self.layer,
                    shown(key),
                    in_short(value)
                ));
            }
        }
        Ok(())
    }
}
