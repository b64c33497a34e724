//! Converts the operators RNN, GRU and LSTM to one-layer networks and back.
//!
//! Shapes, as ONNX names them, with `D` directions and `G` gates: `X [T, B, I]`, `W [D, G H, I]`, `R [D, G H, H]`, `B
//! [D, 2 G H]`, `P [D, 3 H]`, `initial_h` and `initial_c [D, B, H]`, `Y [T, D, B, H]`, `Y_h` and `Y_c [D, B, H]`. With
//! layout 1 the batch is the first axis of X, Y and the states.

use crate::OnnxError;
use crate::gates::{ifgo_from_iofc, ifo_from_iof, iof_from_ifo, iofc_from_ifgo, rzn_from_zrh, zrh_from_rzn};
use gatefold_model::{
    Activation, Biases, Cell, Coupling, Direction, GruActivations, GruCell, GruConfig, GruGate, LayerConfig,
    LstmActivations, LstmCell, LstmConfig, LstmGate, NetworkConfig, Parameters, Recurrent, Reset, RnnConfig,
    Role,
};
use ndarray::{Array2, Array3, ArrayD, Axis, Ix2, concatenate, s};

mod node;
mod sequences;

pub use sequences::Outputs;

pub(crate) use node::{INITIAL_C, INITIAL_H, SEQUENCE_LENS, WEIGHTS, X, numbers};

/// One of the three recurrent operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// The vanilla cell, with one gate.
    Rnn,
    /// Has gates z, r, h.
    Gru,
    /// Has gates i, o, f, c.
    Lstm,
}

impl Operator {
    /// ONNX's name.
    pub fn name(self) -> &'static str {
        match self {
            Operator::Rnn => "RNN",
            Operator::Gru => "GRU",
            Operator::Lstm => "LSTM",
        }
    }

    /// The operator with this name.
    pub fn of_name(name: &str) -> Option<Operator> {
        [Operator::Rnn, Operator::Gru, Operator::Lstm].into_iter().find(|operator| operator.name() == name)
    }

    /// The number of gates, `G`.
    pub fn gates(self) -> usize {
        match self {
            Operator::Rnn => 1,
            Operator::Gru => GruGate::COUNT,
            Operator::Lstm => LstmGate::COUNT,
        }
    }

    /// The default activations of one direction: f of the RNN; f, g of the GRU; f, g, h of the LSTM.
    pub(crate) fn default_activations(self) -> &'static [Activation] {
        const ALL: [Activation; 3] = [Activation::Sigmoid, Activation::Tanh, Activation::Tanh];
        match self {
            Operator::Rnn => &ALL[1..2],
            Operator::Gru => &ALL[..2],
            Operator::Lstm => &ALL,
        }
    }

    /// Reorders rows of one direction from ONNX's gate order to ours.
    fn rows_in<D: ndarray::RemoveAxis>(self, rows: ndarray::ArrayView<f32, D>) -> ndarray::Array<f32, D> {
        match self {
            Operator::Rnn => rows.to_owned(),
            Operator::Gru => rzn_from_zrh(rows),
            Operator::Lstm => ifgo_from_iofc(rows),
        }
    }

    /// Reorders rows of one direction from our gate order to ONNX's.
    fn rows_out<D: ndarray::RemoveAxis>(self, rows: ndarray::ArrayView<f32, D>) -> ndarray::Array<f32, D> {
        match self {
            Operator::Rnn => rows.to_owned(),
            Operator::Gru => zrh_from_rzn(rows),
            Operator::Lstm => iofc_from_ifgo(rows),
        }
    }
}

/// A recurrent operator with its attributes.
#[derive(Clone, Debug, PartialEq)]
pub struct RecurrentOperator {
    pub(crate) operator: Operator,
    pub(crate) direction: Direction,
    /// The activations of each direction.
    pub(crate) activations: Vec<Vec<Activation>>,
    pub(crate) clip: Option<f32>,
    pub(crate) input_forget: bool,
    pub(crate) linear_before_reset: bool,
    pub(crate) batch_first: bool,
}

/// An operator's weights, in ONNX's shapes and orders.
#[derive(Clone, Debug, PartialEq)]
pub struct Weights {
    /// `[D, G H, I]`
    pub w: Array3<f32>,
    /// `[D, G H, H]`
    pub r: Array3<f32>,
    /// `[D, 2 G H]`: the biases of the input, then those of the recurrence. Left out, they are zero.
    pub b: Option<Array2<f32>>,
    /// `[D, 3 H]`. Left out, there are no peepholes.
    pub p: Option<Array2<f32>>,
}

impl RecurrentOperator {
    /// The operator with every attribute at its default.
    pub fn new(operator: Operator) -> RecurrentOperator {
        RecurrentOperator {
            operator,
            direction: Direction::Forward,
            activations: vec![operator.default_activations().to_vec()],
            clip: None,
            input_forget: false,
            linear_before_reset: false,
            batch_first: false,
        }
    }

    /// Sets the direction: `forward`, `reverse` or `bidirectional`. Resets the activations to their defaults.
    ///
    /// # Errors
    /// A message for any other name.
    pub fn direction(mut self, name: &str) -> Result<RecurrentOperator, String> {
        self.direction = match name {
            "forward" => Direction::Forward,
            "reverse" => Direction::Reverse,
            "bidirectional" => Direction::Bidirectional,
            _ => {
                return Err(format!(
                    "attribute direction: expected forward, reverse or bidirectional, found {name}"
                ));
            }
        };
        self.activations = vec![self.operator.default_activations().to_vec(); self.directions()];
        Ok(self)
    }

    /// Sets the activations of all directions by name. Those with an alpha or beta take the next value of
    /// `activation_alpha` or `activation_beta`; once these run out, the default of ONNX's operator of the same name. Values that are left over are ignored, as
    /// onnxruntime does.
    ///
    /// # Errors
    /// A message for a wrong number of names, or an unknown name.
    pub fn activations(
        mut self,
        names: &[String],
        alpha: &[f32],
        beta: &[f32],
    ) -> Result<RecurrentOperator, String> {
        let one = self.operator.default_activations().len();
        if names.len() != one * self.directions() {
            return Err(format!(
                "attribute activations: expected {one} for each of {} directions, found {}",
                self.directions(),
                names.len()
            ));
        }
        let (mut alpha, mut beta) = (alpha.iter().copied(), beta.iter().copied());
        let all = names
            .iter()
            .map(|name| activation(name, &mut alpha, &mut beta))
            .collect::<Result<Vec<_>, _>>()?;
        self.activations = all.chunks(one).map(<[Activation]>::to_vec).collect();
        Ok(self)
    }

    /// Clips the gates' pre-activations to `+-bound`.
    pub fn clip(mut self, bound: Option<f32>) -> RecurrentOperator {
        self.clip = bound;
        self
    }

    /// Whether an LSTM's forget gate is `1 - i`.
    pub fn input_forget(mut self, coupled: bool) -> RecurrentOperator {
        self.input_forget = coupled;
        self
    }

    /// Whether a GRU's reset gate acts after the recurrent product.
    pub fn linear_before_reset(mut self, after: bool) -> RecurrentOperator {
        self.linear_before_reset = after;
        self
    }

    /// Whether the batch is the first axis: layout 1.
    pub fn batch_first(mut self, first: bool) -> RecurrentOperator {
        self.batch_first = first;
        self
    }

    fn error(&self, problem: String) -> OnnxError {
        OnnxError::Recurrent { operator: self.operator.name(), problem }
    }

    /// The number of directions, `D`.
    pub fn directions(&self) -> usize {
        self.direction.scans().len()
    }

    /// The layer that computes the same as the operator.
    pub fn layer(&self, hidden: usize, biases: bool, peepholes: bool) -> LayerConfig {
        // A reverse scan takes the activations of the only direction, or those of the second.
        let first = &self.activations[0];
        let second = (self.directions() == 2).then(|| &self.activations[1]);
        let biases = if biases { Biases::Two } else { Biases::None };
        macro_rules! options {
            ($config:expr) => {{
                let config = $config.direction(self.direction).biases(biases);
                match self.clip {
                    Some(bound) => config.clip(bound),
                    None => config,
                }
            }};
        }
        match self.operator {
            Operator::Rnn => {
                let mut config = options!(RnnConfig::new(hidden)).activation(first[0]);
                if let Some(second) = second {
                    config = config.reverse_activation(second[0]);
                }
                config.into()
            }
            Operator::Gru => {
                let of = |a: &Vec<Activation>| GruActivations { gate: a[0], candidate: a[1] };
                let reset = if self.linear_before_reset { Reset::After } else { Reset::Before };
                let mut config = options!(GruConfig::new(hidden)).activations(of(first)).reset(reset);
                if let Some(second) = second {
                    config = config.reverse_activations(of(second));
                }
                config.into()
            }
            Operator::Lstm => {
                let of = |a: &Vec<Activation>| LstmActivations { gate: a[0], candidate: a[1], output: a[2] };
                let mut config = options!(LstmConfig::new(hidden)).activations(of(first));
                if let Some(second) = second {
                    config = config.reverse_activations(of(second));
                }
                if peepholes {
                    config = config.peephole();
                }
                if self.input_forget {
                    config = config.coupled(Coupling::Input);
                }
                config.into()
            }
        }
    }

    /// A network of this single layer, and its parameters.
    ///
    /// # Errors
    /// [`OnnxError::Recurrent`] for shapes that do not fit the operator, [`OnnxError::Engine`] if the engine refuses
    /// the network.
    pub fn network(&self, weights: &Weights) -> Result<(NetworkConfig, Parameters), OnnxError> {
        let (hidden, input) = self.widths(weights).map_err(|problem| self.error(problem))?;
        let layer = self.layer(hidden, weights.b.is_some(), weights.p.is_some());
        let config = NetworkConfig::new(input, [layer])?;
        let mut parameters = Parameters::zeros(&config)?;
        self.put(weights, &config.layers()[0], &mut parameters);
        Ok((config, parameters))
    }

    /// Checks all shapes; returns `H` and `I`.
    pub(crate) fn widths(&self, weights: &Weights) -> Result<(usize, usize), String> {
        let Weights { w, r, b, p } = weights;
        let (directions, gates) = (self.directions(), self.operator.gates());
        let (hidden, input) = (r.dim().2, w.dim().2);
        let rows = gates.saturating_mul(hidden);
        let refuse = |name: &str, expected: &[usize], found: &[usize]| {
            Err(format!("{name}: expected shape {expected:?}, found {found:?}"))
        };
        if hidden == 0 || input == 0 {
            return Err(format!("it has {hidden} units and {input} inputs; expected more than 0"));
        }
        if w.shape() != [directions, rows, input] {
            return refuse("W", &[directions, rows, input], w.shape());
        }
        if r.shape() != [directions, rows, hidden] {
            return refuse("R", &[directions, rows, hidden], r.shape());
        }
        if let Some(b) = b
            && b.shape() != [directions, 2 * rows]
        {
            return refuse("B", &[directions, 2 * rows], b.shape());
        }
        if let Some(p) = p {
            if self.operator != Operator::Lstm {
                return Err("P: only the LSTM has peepholes".into());
            }
            if p.shape() != [directions, 3 * hidden] {
                return refuse("P", &[directions, 3 * hidden], p.shape());
            }
        }
        Ok((hidden, input))
    }

    /// Inserts weights, whose shapes must fit, under the names of a layer's parameters.
    pub(crate) fn put(&self, weights: &Weights, layer: &gatefold_model::Layer, parameters: &mut Parameters) {
        for (d, &reverse) in self.direction.scans().iter().enumerate() {
            let mut insert = |role: Role, tensor: ArrayD<f32>| {
                if let Some(spec) = layer.find(role, reverse) {
                    parameters.insert(spec.name.clone(), tensor);
                }
            };
            let of = self.operator;
            insert(Role::InputWeight, of.rows_in(weights.w.index_axis(Axis(0), d)).into_dyn());
            insert(Role::RecurrentWeight, of.rows_in(weights.r.index_axis(Axis(0), d)).into_dyn());
            if let Some(b) = &weights.b {
                let rows = b.dim().1 / 2;
                insert(Role::InputBias, of.rows_in(b.slice(s![d, ..rows])).into_dyn());
                insert(Role::RecurrentBias, of.rows_in(b.slice(s![d, rows..])).into_dyn());
            }
            if let Some(p) = &weights.p {
                insert(Role::Peephole, ifo_from_iof(p.index_axis(Axis(0), d)).into_dyn());
            }
        }
    }

    /// Converts a layer's parameters, or their gradients, to the operator's weights.
    ///
    /// # Errors
    /// [`OnnxError::Export`] for a parameter that is missing or has another shape.
    pub fn weights(
        &self,
        layer: &gatefold_model::Layer,
        parameters: &Parameters,
    ) -> Result<Weights, OnnxError> {
        let scans = self.direction.scans();
        let find = |role: Role, reverse: bool| -> Result<Option<&ArrayD<f32>>, OnnxError> {
            let Some(spec) = layer.find(role, reverse) else { return Ok(None) };
            match parameters.get(&spec.name) {
                Some(tensor) if tensor.shape() == spec.shape => Ok(Some(tensor)),
                _ => Err(OnnxError::Export {
                    place: layer.place(),
                    problem: format!("{}: expected a tensor of shape {:?}", spec.name, spec.shape),
                }),
            }
        };
        let matrices = |role: Role| -> Result<Array3<f32>, OnnxError> {
            let mut of_scans = Vec::new();
            for &reverse in scans {
                let matrix = find(role, reverse)?.and_then(|m| m.view().into_dimensionality::<Ix2>().ok());
                let matrix = matrix.ok_or_else(|| OnnxError::Export {
                    place: layer.place(),
                    problem: format!("it has no {role:?}"),
                })?;
                of_scans.push(self.operator.rows_out(matrix).insert_axis(Axis(0)));
            }
            let views: Vec<_> = of_scans.iter().map(|matrix| matrix.view()).collect();
            Ok(concatenate(Axis(0), &views).expect("scans have the same shapes"))
        };
        let (w, r) = (matrices(Role::InputWeight)?, matrices(Role::RecurrentWeight)?);
        let rows = w.dim().1;
        let (mut b, mut p) = (None, None);
        for (d, &reverse) in scans.iter().enumerate() {
            for (role, half) in [(Role::InputBias, 0), (Role::RecurrentBias, rows)] {
                if let Some(bias) = find(role, reverse)? {
                    let all = b.get_or_insert_with(|| Array2::zeros((scans.len(), 2 * rows)));
                    let bias = bias.view().into_shape_with_order(rows).expect("a bias is a vector");
                    all.slice_mut(s![d, half..half + rows]).assign(&self.operator.rows_out(bias));
                }
            }
            if let Some(peephole) = find(Role::Peephole, reverse)? {
                let len = peephole.len();
                let all = p.get_or_insert_with(|| Array2::zeros((scans.len(), len)));
                let peephole = peephole.view().into_shape_with_order(len).expect("peepholes are a vector");
                all.row_mut(d).assign(&iof_from_ifo(peephole));
            }
        }
        Ok(Weights { w, r, b, p })
    }

    /// The operator that computes the same as a layer, or the reason why there is none.
    pub(crate) fn of_layer(recurrent: &Recurrent) -> Result<RecurrentOperator, String> {
        let mut activations = Vec::new();
        for &reverse in recurrent.direction.scans() {
            activations.push(recurrent.cell_of(reverse).activations());
        }
        let (operator, input_forget, linear_before_reset) = match recurrent.cell {
            Cell::Rnn { .. } => (Operator::Rnn, false, false),
            Cell::Gru(GruCell { reset, .. }) => (Operator::Gru, false, reset == Reset::After),
            Cell::Lstm(LstmCell { squashed: true, .. }) => {
                return Err(lacking(Operator::Lstm, "squashed cell"));
            }
            Cell::Lstm(LstmCell { coupling: Some(Coupling::Forget), .. }) => {
                return Err("ONNX's LSTM couples its gates only as f = 1 - i".into());
            }
            Cell::Lstm(LstmCell { coupling, .. }) => (Operator::Lstm, coupling.is_some(), false),
            Cell::Custom(cell) => {
                return Err(format!(
                    "ONNX has no operator for the custom cell {:?}; {ELSEWHERE}",
                    cell.name()
                ));
            }
        };
        let lacks = |what: &str| Err(lacking(operator, what));
        if recurrent.projection.is_some() {
            return lacks("projection");
        }
        if recurrent.skip.is_some() {
            return lacks("second recurrence");
        }
        if recurrent.is_dilated() {
            return lacks("dilation");
        }
        if recurrent.feedback.is_some() {
            return lacks("readout that feeds back");
        }
        if recurrent.norm.is_some() {
            return lacks("layer normalisation");
        }
        if recurrent.noise.zones_out() {
            return lacks("zoneout, which inference averages");
        }
        Ok(RecurrentOperator {
            operator,
            direction: recurrent.direction,
            activations,
            clip: recurrent.clip,
            input_forget,
            linear_before_reset,
            batch_first: false,
        })
    }
}

/// The advice for a layer that ONNX cannot express.
const ELSEWHERE: &str = "save the network as .safetensors, or build the layer without it";

fn lacking(operator: Operator, what: &str) -> String {
    format!("ONNX's {} has no {what}; {ELSEWHERE}", operator.name())
}

/// The activation with this name, in upper or lower case, as runtimes accept it.
fn activation(
    name: &str,
    alpha: &mut impl Iterator<Item = f32>,
    beta: &mut impl Iterator<Item = f32>,
) -> Result<Activation, String> {
    // The defaults are those of ONNX's operators of the same names; ScaledTanh has none.
    let scaled = || "ScaledTanh has no default for alpha and beta".to_string();
    Ok(match name.to_ascii_lowercase().as_str() {
        "relu" => Activation::Relu,
        "tanh" => Activation::Tanh,
        "sigmoid" => Activation::Sigmoid,
        "softsign" => Activation::Softsign,
        "softplus" => Activation::Softplus,
        "affine" => {
            Activation::Affine { alpha: alpha.next().unwrap_or(1.0), beta: beta.next().unwrap_or(0.0) }
        }
        "leakyrelu" => Activation::LeakyRelu { alpha: alpha.next().unwrap_or(0.01) },
        "thresholdedrelu" => Activation::ThresholdedRelu { alpha: alpha.next().unwrap_or(1.0) },
        "scaledtanh" => Activation::ScaledTanh {
            alpha: alpha.next().ok_or_else(scaled)?,
            beta: beta.next().ok_or_else(scaled)?,
        },
        "hardsigmoid" => {
            Activation::HardSigmoid { alpha: alpha.next().unwrap_or(0.2), beta: beta.next().unwrap_or(0.5) }
        }
        "elu" => Activation::Elu { alpha: alpha.next().unwrap_or(1.0) },
        _ => {
            return Err(format!(
                "attribute activations: {name} is not an activation of ONNX's recurrent operators"
            ));
        }
    })
}

/// An activation's name in ONNX, with its alpha and beta. The identity is written as Affine.
pub(crate) fn activation_name(activation: Activation) -> (&'static str, Option<f32>, Option<f32>) {
    match activation {
        Activation::Identity => ("Affine", Some(1.0), Some(0.0)),
        Activation::Relu => ("Relu", None, None),
        Activation::Tanh => ("Tanh", None, None),
        Activation::Sigmoid => ("Sigmoid", None, None),
        Activation::Affine { alpha, beta } => ("Affine", Some(alpha), Some(beta)),
        Activation::LeakyRelu { alpha } => ("LeakyRelu", Some(alpha), None),
        Activation::ThresholdedRelu { alpha } => ("ThresholdedRelu", Some(alpha), None),
        Activation::ScaledTanh { alpha, beta } => ("ScaledTanh", Some(alpha), Some(beta)),
        Activation::HardSigmoid { alpha, beta } => ("HardSigmoid", Some(alpha), Some(beta)),
        Activation::Elu { alpha } => ("Elu", Some(alpha), None),
        Activation::Softsign => ("Softsign", None, None),
        Activation::Softplus => ("Softplus", None, None),
    }
}
