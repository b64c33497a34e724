use super::{Amplifier, AmplifierFile, function_of, recurrent_of, refusal};
use crate::file::Model;
use crate::{Activation, Cell, InitialState, Layer, LstmGate, ModelError, Role};
use serde::Serialize;

/// The version of the format whose fields are written; readers of 0.5 take any third number.
const VERSION: &str = "0.5.4";

/// The factor of the input within the unit that passes it on. Twice a tanh, in each layer, makes `x - 2/3 (SMALL x)^2 x` of
/// it, and as a power of two it costs no rounding.
const SMALL: f32 = 1.0 / 1024.0;

/// The bias that holds a gate open; its negative holds one shut. The sigmoid of it is 1 in float32.
const OPEN: f32 = 30.0;

#[derive(Serialize)]
struct NamFile {
    version: &'static str,
    architecture: &'static str,
    config: NamConfig,
    weights: Vec<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sample_rate: Option<f64>,
}

#[derive(Serialize)]
struct NamConfig {
    input_size: usize,
    hidden_size: usize,
    num_layers: usize,
}

/// A network as a `.nam` file of the architecture LSTM, which [Neural Amp Modeler](https://www.neuralampmodeler.com)
/// reads, for sound of `sample_rate` Hz; readers take 48,000 where it is not said.
///
/// The format has no connection from input to output. If the network ends with one, each layer gets one more unit, whose
/// gates are held open and which passes the input on: for input from -1 to 1 within 1e-6 of it per layer, or about one per
/// cent per layer in plugins that approximate tanh.
///
/// # Errors
/// [`ModelError::Config`] names the layer and the property that the format lacks: anything but LSTM layers of equal widths
/// and one dense layer, other inputs or outputs than one value, a function of the dense layer, functions of gates, two
/// directions and what else PyTorch's `nn.LSTM` lacks, and parameters that are not finite.
pub fn nam(model: &Model, sample_rate: Option<f64>) -> Result<AmplifierFile, ModelError> {
    let amplifier = Amplifier::of(model, "a .nam file")?;
    check(&amplifier)?;
    let own = recurrent_of(amplifier.recurrent[0]).hidden;
    let hidden_size = own + usize::from(amplifier.residual);
    let mut weights = Vec::new();
    for layer in &amplifier.recurrent {
        add_cell(&mut weights, &amplifier, layer);
    }
    let head = amplifier.dense[0];
    weights.extend(amplifier.matrix(head, Role::DenseWeight).concat());
    weights.extend(amplifier.residual.then_some(1.0 / SMALL));
    weights.extend(amplifier.vector(head, Role::DenseBias, 1));
    let config = NamConfig { input_size: 1, hidden_size, num_layers: amplifier.recurrent.len() };
    let file = NamFile { version: VERSION, architecture: "LSTM", config, weights, sample_rate };
    let text = serde_json::to_string(&file).expect("finite numbers and names are JSON");
    let mut notes = Vec::new();
    if amplifier.residual {
        notes.push(format!(
            "a .nam file has no connection from input to output: one more unit, {hidden_size} in all, passes the input \
             on, within {}e-6 of it for input from -1 to 1",
            amplifier.recurrent.len()
        ));
    }
    if sample_rate.is_none() {
        notes.push("no sample rate is given; Neural Amp Modeler takes 48000 Hz".into());
    }
    Ok(AmplifierFile { text, notes })
}

/// Refuses what JSON files hold and `.nam` files do not.
fn check(amplifier: &Amplifier) -> Result<(), ModelError> {
    let config = &amplifier.model.config;
    let widths = (config.input(), config.output());
    if widths != (1, 1) {
        let problem =
            format!("a .nam file has one value in and one out; found {} and {}", widths.0, widths.1);
        return Err(ModelError::Config { place: "network".into(), problem });
    }
    let hidden = recurrent_of(amplifier.recurrent[0]).hidden;
    for layer in &amplifier.recurrent {
        let recurrent = recurrent_of(layer);
        if !matches!(recurrent.cell, Cell::Lstm(_)) {
            let found = recurrent.cell.name();
            return Err(refusal(layer, format!("a .nam file has LSTM layers only; found {found}")));
        }
        if recurrent.hidden != hidden {
            let found = recurrent.hidden;
            let problem =
                format!("the layers of a .nam file are equally wide; expected {hidden} units, found {found}");
            return Err(refusal(layer, problem));
        }
    }
    if let [_, second, ..] = amplifier.dense[..] {
        return Err(refusal(second, "a .nam file has one dense layer; expected no second one".into()));
    }
    match function_of(amplifier.dense[0]) {
        Activation::Identity => Ok(()),
        found => {
            let problem = format!("a .nam file has no function after its dense layer; found {found}");
            Err(refusal(amplifier.dense[0], problem))
        }
    }
}

/// Adds the weights of one cell: `[W U]` row by row in the order i, f, g, o, then the bias, h and c.
fn add_cell(weights: &mut Vec<f32>, amplifier: &Amplifier, layer: &Layer) {
    let hidden = recurrent_of(layer).hidden;
    let first = layer.index == amplifier.recurrent[0].index;
    let from_input = amplifier.matrix(layer, Role::InputWeight);
    let from_h = amplifier.matrix(layer, Role::RecurrentWeight);
    let bias = amplifier.bias(layer);
    let passes = amplifier.residual;
    // The unit that passes the input on is the last, of this layer and of the one before.
    let unit_below = (passes && !first).then_some(0.0);
    let unit = passes.then_some(0.0);
    for gate in LstmGate::ALL {
        for row in (0..hidden).map(|unit| gate as usize * hidden + unit) {
            weights.extend(from_input[row].iter().copied().chain(unit_below));
            weights.extend(from_h[row].iter().copied().chain(unit));
        }
        if passes {
            let mut row = vec![0.0; from_input[0].len() + usize::from(!first) + hidden + 1];
            if gate == LstmGate::Cell {
                let (column, factor) = if first { (0, SMALL) } else { (from_input[0].len(), 1.0) };
                row[column] = factor;
            }
            weights.extend(row);
        }
    }
    for gate in LstmGate::ALL {
        let begin = gate as usize * hidden;
        weights.extend(&bias[begin..begin + hidden]);
        let held = match gate {
            LstmGate::Input | LstmGate::Output => OPEN,
            LstmGate::Forget => -OPEN,
            LstmGate::Cell => 0.0,
        };
        weights.extend(passes.then_some(held));
    }
    for role in [Role::InitialH, Role::InitialC] {
        match recurrent_of(layer).initial {
            InitialState::Constant(value) => weights.extend(vec![value; hidden]),
            InitialState::Zeros | InitialState::Learned => {
                weights.extend(amplifier.vector(layer, role, hidden))
            }
        }
        weights.extend(unit);
    }
}
