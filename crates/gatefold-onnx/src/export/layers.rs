//! Writes each layer as nodes. Tensors between layers are `[T, B, F]`.

mod dilation;

use super::writer::{Len, Setting, Writer};
use crate::OnnxError;
use crate::proto::tensor_proto::DataType;
use crate::recurrent::{Operator, RecurrentOperator, activation_name};
use gatefold_model::{
    Activation, Bridge, Conv1d, Direction, Expansion, InitialState, Layer, LayerKind, Merge, NetworkConfig,
    Parameters, Pooling, Recurrent, Role, Source, StateKind, Timeline,
};
use ndarray::{Array1, Array3, ArrayD, Axis, Ix2, stack};

pub(super) struct Export<'a> {
    pub(super) writer: Writer,
    config: &'a NetworkConfig,
    parameters: &'a Parameters,
    lengths: bool,
    states: bool,
    /// The final states of the recurrent layers so far.
    finals: Vec<Final>,
    /// How many of them belong to the encoder, once the decoder has begun.
    encoder: Option<usize>,
}

/// A recurrent layer's Y_h and Y_c, `[D, B, H]`.
#[derive(Clone)]
struct Final {
    h: String,
    c: Option<String>,
    directions: usize,
    hidden: usize,
}

impl<'a> Export<'a> {
    pub(super) fn new(
        config: &'a NetworkConfig,
        parameters: &'a Parameters,
        lengths: bool,
        states: bool,
    ) -> Export<'a> {
        let (writer, finals, encoder) = (Writer::default(), Vec::new(), None);
        Export { writer, config, parameters, lengths, states, finals, encoder }
    }

    /// Writes all layers; returns the name of the last one's output.
    pub(super) fn layers(&mut self, input: String, decoder: Option<String>) -> Result<String, OnnxError> {
        let mut outputs: Vec<String> = Vec::new();
        let mut bridge = None;
        for (layer, node) in self.config.layers().iter().zip(self.config.graph().nodes()) {
            let values: Vec<String> = node
                .inputs
                .iter()
                .map(|source| match *source {
                    Source::Input => input.clone(),
                    Source::DecoderInput => decoder.clone().unwrap_or_default(),
                    Source::Output(of) => outputs[of].clone(),
                    Source::FinalHidden(of) => self.final_hidden(of),
                })
                .collect();
            // A decoder reads no value.
            let now = values.first().cloned().unwrap_or_default();
            let ragged = node.inputs.first().is_some_and(|&source| self.is_ragged(source));
            let output = match layer.kind {
                LayerKind::Recurrent(recurrent) => self.recurrent(layer, &recurrent, &now, ragged, bridge)?,
                LayerKind::Dense { activation, .. } => self.dense(layer, &now, activation)?,
                LayerKind::Conv1d(conv) => self.convolution(layer, &now, &conv, ragged)?,
                LayerKind::Embedding { .. } => {
                    if !matches!(node.inputs[..], [Source::Input | Source::DecoderInput]) {
                        return Err(refuse(
                            layer,
                            "it is not the first layer, so in ONNX its input is not whole numbers",
                        ));
                    }
                    let table = self.tensor(layer, Role::EmbeddingWeight)?;
                    let name = format!("layer{}.table", layer.owner);
                    let table = self.writer.numbers(&name, table);
                    self.writer.node("Gather", &[&table, &now], vec![("axis", Setting::Int(0))])
                }
                LayerKind::Dropout { rate } => {
                    let name = format!("layer{}.rate", layer.index);
                    let rate = self.writer.numbers(&name, &ndarray::arr0(rate));
                    self.writer.node("Dropout", &[&now, &rate], vec![])
                }
                LayerKind::Softmax => self.writer.node("Softmax", &[&now], vec![("axis", Setting::Int(-1))]),
                LayerKind::Normalise { epsilon } => self.normalise(layer, &now, epsilon)?,
                LayerKind::Pool(pooling) => self.pool(layer, &now, pooling, ragged)?,
                LayerKind::Residual { .. } | LayerKind::Merge(_) => self.merged(node.merge, &values),
                LayerKind::LastStep => self.last_step(&now, ragged),
                LayerKind::FinalState => now,
                LayerKind::Expand { steps, fill } => self.expand(&now, steps, fill),
                LayerKind::Decoder { bridge: how } => {
                    self.encoder = Some(self.finals.len());
                    bridge = Some((layer, how));
                    decoder.clone().ok_or_else(|| refuse(layer, "the decoder has no input"))?
                }
                _ => return Err(refuse(layer, &format!("ONNX has no {}", layer.kind.name()))),
            };
            outputs.push(output);
        }
        Ok(outputs.pop().unwrap_or(input))
    }

    /// Whether the rows of a value have lengths of their own.
    fn is_ragged(&self, source: Source) -> bool {
        self.lengths
            && match source {
                Source::Input => true,
                Source::DecoderInput | Source::FinalHidden(_) => false,
                Source::Output(of) => {
                    matches!(self.config.layers()[of].timeline, Timeline::Input | Timeline::Convolved(_))
                }
            }
    }

    /// The final h of a recurrent layer, `[1, B, D H]`.
    fn final_hidden(&mut self, layer: usize) -> String {
        let states = self.config.graph().node(layer).states.as_ref().expect("the layer is recurrent");
        let last = self.finals[states.number].clone();
        self.side_by_side(&last.h, last.directions, last.hidden)
    }

    fn merged(&mut self, merge: Merge, values: &[String]) -> String {
        match merge {
            Merge::Sum => {
                let sum = |sum: String, value: &String| self.writer.node("Add", &[&sum, value], vec![]);
                values[1..].iter().fold(values[0].clone(), sum)
            }
            Merge::Concatenate => {
                let values: Vec<&str> = values.iter().map(String::as_str).collect();
                self.writer.node("Concat", &values, vec![("axis", Setting::Int(-1))])
            }
        }
    }

    /// Makes the final states outputs, if the options say so.
    pub(super) fn final_states(&mut self) {
        if !self.states {
            return;
        }
        for (k, states) in self.finals.clone().into_iter().enumerate() {
            let shape = [Len::Fixed(states.directions), Len::Named("batch"), Len::Fixed(states.hidden)];
            self.writer.output(&states.h, &format!("final_h{k}"), &shape);
            if let Some(c) = &states.c {
                self.writer.output(c, &format!("final_c{k}"), &shape);
            }
        }
    }

    fn tensor(&self, layer: &Layer, role: Role) -> Result<&'a ArrayD<f32>, OnnxError> {
        self.find(layer, role, false).ok_or_else(|| refuse(layer, &format!("it has no {role:?}")))
    }

    fn find(&self, layer: &Layer, role: Role, reverse: bool) -> Option<&'a ArrayD<f32>> {
        layer.find(role, reverse).and_then(|spec| self.parameters.get(&spec.name))
    }

    fn recurrent(
        &mut self,
        layer: &Layer,
        recurrent: &Recurrent,
        x: &str,
        ragged: bool,
        bridge: Option<(&Layer, Bridge)>,
    ) -> Result<String, OnnxError> {
        let mut recurrent = *recurrent;
        let dilated =
            recurrent.is_dilated().then(|| self.interleaved(layer, &recurrent, x, ragged)).transpose()?;
        recurrent.dilation = 1;
        let (recurrent, x) = (&recurrent, dilated.as_ref().map_or(x, |dilated| &dilated.x));
        let operator = RecurrentOperator::of_layer(recurrent).map_err(|problem| refuse(layer, &problem))?;
        let weights = operator.weights(layer, self.parameters)?;
        let (directions, hidden) = (operator.directions(), recurrent.hidden);
        let prefix = format!("layer{}", layer.owner);
        let w = self.writer.numbers(&format!("{prefix}.W"), &weights.w);
        let r = self.writer.numbers(&format!("{prefix}.R"), &weights.r);
        let b = weights.b.map_or(String::new(), |b| self.writer.numbers(&format!("{prefix}.B"), &b));
        let p = weights.p.map_or(String::new(), |p| self.writer.numbers(&format!("{prefix}.P"), &p));
        let lengths = if ragged { "lengths" } else { "" };
        let has_c = operator.operator == Operator::Lstm;
        let h = self.initial(layer, recurrent, StateKind::Hidden, x, bridge)?;
        let c =
            if has_c { self.initial(layer, recurrent, StateKind::Cell, x, bridge)? } else { String::new() };
        let mut inputs: Vec<&str> = vec![x, &w, &r, &b, lengths, &h, &c, &p];
        while inputs.last().is_some_and(|last| last.is_empty()) {
            inputs.pop();
        }
        let settings = settings(&operator, hidden);
        let name = operator.operator.name();
        let outputs = self.writer.node_of(name, &inputs, if has_c { 3 } else { 2 }, settings);
        let c = has_c.then(|| outputs[2].clone());
        self.finals.push(Final { h: outputs[1].clone(), c, directions, hidden });
        let y = &outputs[0];
        let output = match recurrent.direction {
            Direction::Forward | Direction::Reverse => {
                let axis = self.writer.integers(&[1]);
                self.writer.node("Squeeze", &[y, &axis], vec![])
            }
            Direction::Bidirectional => {
                // [T, D, B, H], [T, B, D, H], [T, B, D H]
                let turned =
                    self.writer.node("Transpose", &[y], vec![("perm", Setting::Ints(vec![0, 2, 1, 3]))]);
                let shape = self.writer.integers(&[0, 0, -1]);
                self.writer.node("Reshape", &[&turned, &shape], vec![])
            }
            Direction::BidirectionalSum => {
                let parts = self.writer.node_of("Split", &[y], 2, vec![("axis", Setting::Int(1))]);
                let sum = self.writer.node("Add", &[&parts[0], &parts[1]], vec![]);
                let axis = self.writer.integers(&[1]);
                self.writer.node("Squeeze", &[&sum, &axis], vec![])
            }
        };
        let Some(dilated) = dilated else { return Ok(output) };
        let output = self.by_time(&output, &dilated, hidden);
        let last = self.last_step(&output, false);
        self.finals.last_mut().expect("it was added above").h = last;
        Ok(output)
    }

    /// The name of an initial state `[D, B, H]`; an empty one means zeros.
    fn initial(
        &mut self,
        layer: &Layer,
        recurrent: &Recurrent,
        state: StateKind,
        x: &str,
        bridge: Option<(&Layer, Bridge)>,
    ) -> Result<String, OnnxError> {
        let (scans, hidden) = (recurrent.direction.scans(), recurrent.hidden);
        let directions = scans.len();
        if let Some(bridged) = bridge {
            return self.bridged(layer, bridged, state);
        }
        if self.states {
            let name = format!("initial_{}{}", state.name(), self.finals.len());
            let shape = [Len::Fixed(directions), Len::Named("batch"), Len::Fixed(hidden)];
            self.writer.input(&name, DataType::Float, &shape);
            return Ok(name);
        }
        let values = match recurrent.initial {
            InitialState::Zeros => return Ok(String::new()),
            InitialState::Constant(value) => Array3::from_elem((directions, 1, hidden), value),
            InitialState::Learned => {
                let role = if state == StateKind::Hidden { Role::InitialH } else { Role::InitialC };
                let mut rows = Vec::new();
                for &reverse in scans {
                    let row =
                        self.find(layer, role, reverse).and_then(|row| row.view().into_dimensionality().ok());
                    rows.push(row.ok_or_else(|| refuse(layer, &format!("it has no {role:?}")))?);
                }
                let rows: Vec<ndarray::ArrayView1<f32>> = rows;
                let rows = stack(Axis(0), &rows).map_err(|error| refuse(layer, &error.to_string()))?;
                rows.insert_axis(Axis(1))
            }
        };
        let one = self.writer.numbers(&format!("layer{}.initial_{}", layer.owner, state.name()), &values);
        let batch =
            self.writer.node("Shape", &[x], vec![("start", Setting::Int(1)), ("end", Setting::Int(2))]);
        let (front, back) =
            (self.writer.integers(&[directions as i64]), self.writer.integers(&[hidden as i64]));
        let shape = self.writer.node("Concat", &[&front, &batch, &back], vec![("axis", Setting::Int(0))]);
        Ok(self.writer.node("Expand", &[&one, &shape], vec![]))
    }

    /// The initial state of a decoder's layer, made from the encoder's final states.
    fn bridged(
        &mut self,
        layer: &Layer,
        (decoder, how): (&Layer, Bridge),
        state: StateKind,
    ) -> Result<String, OnnxError> {
        let encoder = self.encoder.unwrap_or(0);
        let j = self.finals.len() - encoder;
        let source = self.finals[..encoder].get(j).or_else(|| self.finals[..encoder].last()).cloned();
        let source = source.ok_or_else(|| refuse(layer, "no recurrent layer precedes the decoder"))?;
        let from = match state {
            StateKind::Hidden => source.h.clone(),
            // An encoder without c passes on its h instead.
            StateKind::Cell => source.c.clone().unwrap_or_else(|| source.h.clone()),
        };
        let states = self.side_by_side(&from, source.directions, source.hidden);
        let Bridge::Dense { activation } = how else { return Ok(states) };
        let weight = self.tensor(decoder, Role::BridgeWeight(j, state))?;
        let bias = self.tensor(decoder, Role::BridgeBias(j, state))?;
        let name = format!("bridge.{}{j}", state.name());
        self.product(decoder, &states, &name, weight, Some(bias), activation)
    }

    /// Puts states `[D, B, H]` side by side as `[1, B, D H]`.
    fn side_by_side(&mut self, states: &str, directions: usize, hidden: usize) -> String {
        if directions == 1 {
            return states.into();
        }
        let turned = self.writer.node("Transpose", &[states], vec![("perm", Setting::Ints(vec![1, 0, 2]))]);
        let shape = self.writer.integers(&[1, -1, (directions * hidden) as i64]);
        self.writer.node("Reshape", &[&turned, &shape], vec![])
    }

    fn dense(&mut self, layer: &Layer, x: &str, activation: Activation) -> Result<String, OnnxError> {
        let weight = self.tensor(layer, Role::DenseWeight)?;
        let bias = self.find(layer, Role::DenseBias, false);
        self.product(layer, x, &format!("layer{}", layer.owner), weight, bias, activation)
    }

    /// A convolution, for which ONNX has the steps last: `[B, F, T]`.
    fn convolution(
        &mut self,
        layer: &Layer,
        x: &str,
        conv: &Conv1d,
        ragged: bool,
    ) -> Result<String, OnnxError> {
        if ragged && !conv.is_pointwise() {
            return Err(refuse(
                layer,
                "ONNX's Conv knows no lengths and reads past the ends of rows; write the network without lengths",
            ));
        }
        let name = format!("layer{}", layer.owner);
        let weight = self.tensor(layer, Role::ConvWeight)?;
        let weight = self.writer.numbers(&format!("{name}.weight"), weight);
        let bias = self.find(layer, Role::ConvBias, false);
        let bias = bias.map(|bias| self.writer.numbers(&format!("{name}.bias"), bias));
        let turned = self.writer.node("Transpose", &[x], vec![("perm", Setting::Ints(vec![1, 2, 0]))]);
        let mut inputs = vec![turned.as_str(), &weight];
        inputs.extend(bias.as_deref());
        let ints = |values: &[usize]| Setting::Ints(values.iter().map(|&value| value as i64).collect());
        let settings = vec![
            ("kernel_shape", ints(&[conv.kernel])),
            ("strides", ints(&[conv.stride])),
            ("dilations", ints(&[conv.dilation])),
            ("pads", ints(&[conv.left, conv.right])),
        ];
        let y = self.writer.node("Conv", &inputs, settings);
        let y = self.writer.node("Transpose", &[&y], vec![("perm", Setting::Ints(vec![2, 0, 1]))]);
        Ok(self.function(&y, conv.activation))
    }

    fn normalise(&mut self, layer: &Layer, x: &str, epsilon: f32) -> Result<String, OnnxError> {
        let name = format!("layer{}", layer.owner);
        let (weight, bias) =
            (self.tensor(layer, Role::NormaliseWeight)?, self.tensor(layer, Role::NormaliseBias)?);
        let weight = self.writer.numbers(&format!("{name}.weight"), weight);
        let bias = self.writer.numbers(&format!("{name}.bias"), bias);
        let settings = vec![("axis", Setting::Int(-1)), ("epsilon", Setting::Float(epsilon))];
        Ok(self.writer.node("LayerNormalization", &[x, &weight, &bias], settings))
    }

    /// One step of all, `[1, B, F]`.
    fn pool(&mut self, layer: &Layer, x: &str, pooling: Pooling, ragged: bool) -> Result<String, OnnxError> {
        if ragged {
            return Err(refuse(
                layer,
                "ONNX's ReduceMax and ReduceMean know no lengths and read past the ends of rows; write the network without \
                 lengths",
            ));
        }
        let operator = match pooling {
            Pooling::Max => "ReduceMax",
            Pooling::Mean => "ReduceMean",
        };
        Ok(self.writer.node(operator, &[x], vec![("axes", Setting::Ints(vec![0]))]))
    }

    fn product(
        &mut self,
        layer: &Layer,
        x: &str,
        name: &str,
        weight: &ArrayD<f32>,
        bias: Option<&ArrayD<f32>>,
        activation: Activation,
    ) -> Result<String, OnnxError> {
        let weight = weight.view().into_dimensionality::<Ix2>().map_err(|e| refuse(layer, &e.to_string()))?;
        let weight = self.writer.numbers(&format!("{name}.weight"), &weight.t());
        let mut sum = self.writer.node("MatMul", &[x, &weight], vec![]);
        if let Some(bias) = bias {
            let bias = self.writer.numbers(&format!("{name}.bias"), bias);
            sum = self.writer.node("Add", &[&sum, &bias], vec![]);
        }
        Ok(self.function(&sum, activation))
    }

    /// The activation of a dense layer.
    fn function(&mut self, x: &str, activation: Activation) -> String {
        let alpha = |alpha: f32| ("alpha", Setting::Float(alpha));
        let beta = |beta: f32| ("beta", Setting::Float(beta));
        let (operator, settings) = match activation {
            Activation::Identity => return x.into(),
            Activation::Affine { alpha, beta } => {
                let product = self.with_number("Mul", x, alpha);
                return self.with_number("Add", &product, beta);
            }
            Activation::ScaledTanh { alpha, beta } => {
                let inner = self.with_number("Mul", x, beta);
                let tanh = self.writer.node("Tanh", &[&inner], vec![]);
                return self.with_number("Mul", &tanh, alpha);
            }
            Activation::Relu => ("Relu", vec![]),
            Activation::Tanh => ("Tanh", vec![]),
            Activation::Sigmoid => ("Sigmoid", vec![]),
            Activation::LeakyRelu { alpha: a } => ("LeakyRelu", vec![alpha(a)]),
            Activation::ThresholdedRelu { alpha: a } => ("ThresholdedRelu", vec![alpha(a)]),
            Activation::HardSigmoid { alpha: a, beta: b } => ("HardSigmoid", vec![alpha(a), beta(b)]),
            Activation::Elu { alpha: a } => ("Elu", vec![alpha(a)]),
            Activation::Softsign => ("Softsign", vec![]),
            Activation::Softplus => ("Softplus", vec![]),
        };
        self.writer.node(operator, &[x], settings)
    }

    fn with_number(&mut self, operator: &str, x: &str, number: f32) -> String {
        let name = format!("number_{:08x}", number.to_bits());
        let number = self.writer.numbers(&name, &Array1::from_elem(1, number));
        self.writer.node(operator, &[x, &number], vec![])
    }

    /// The last step as `[1, B, F]`. With lengths it is each row's own, which comes first once every row is reversed.
    fn last_step(&mut self, x: &str, ragged: bool) -> String {
        let axis = self.writer.integers(&[0]);
        if !ragged {
            let (start, end) = (self.writer.integers(&[-1]), self.writer.integers(&[i64::MAX]));
            return self.writer.node("Slice", &[x, &start, &end, &axis], vec![]);
        }
        let lengths =
            self.writer.node("Cast", &["lengths"], vec![("to", Setting::Int(DataType::Int64 as i64))]);
        let axes = vec![("time_axis", Setting::Int(0)), ("batch_axis", Setting::Int(1))];
        let turned = self.writer.node("ReverseSequence", &[x, &lengths], axes);
        let end = self.writer.integers(&[1]);
        self.writer.node("Slice", &[&turned, &axis, &end, &axis], vec![])
    }

    /// Expands `[1, B, F]` to `[steps, B, F]`.
    fn expand(&mut self, x: &str, steps: usize, fill: Expansion) -> String {
        match fill {
            Expansion::Repeat => {
                let shape = self.writer.integers(&[steps as i64, 1, 1]);
                self.writer.node("Expand", &[x, &shape], vec![])
            }
            Expansion::Zeros => {
                let rest = self.writer.node("Shape", &[x], vec![("start", Setting::Int(1))]);
                let more = self.writer.integers(&[steps as i64 - 1]);
                let shape = self.writer.node("Concat", &[&more, &rest], vec![("axis", Setting::Int(0))]);
                let zeros = self.writer.node("ConstantOfShape", &[&shape], vec![]);
                self.writer.node("Concat", &[x, &zeros], vec![("axis", Setting::Int(0))])
            }
        }
    }
}

/// The attributes of an operator that differ from their defaults.
fn settings(operator: &RecurrentOperator, hidden: usize) -> Vec<(&'static str, Setting)> {
    let mut settings = vec![("hidden_size", Setting::Int(hidden as i64))];
    let direction = match operator.direction {
        Direction::Forward => "forward",
        Direction::Reverse => "reverse",
        Direction::Bidirectional | Direction::BidirectionalSum => "bidirectional",
    };
    settings.push(("direction", Setting::Text(direction)));
    if let Some(bound) = operator.clip {
        settings.push(("clip", Setting::Float(bound)));
    }
    if operator.input_forget {
        settings.push(("input_forget", Setting::Int(1)));
    }
    if operator.linear_before_reset {
        settings.push(("linear_before_reset", Setting::Int(1)));
    }
    let default = operator.operator.default_activations();
    if operator.activations.iter().any(|functions| functions != default) {
        let functions: Vec<_> = operator.activations.iter().flatten().map(|&a| activation_name(a)).collect();
        settings.push(("activations", Setting::Texts(functions.iter().map(|f| f.0).collect())));
        let lists = [
            ("activation_alpha", functions.iter().filter_map(|f| f.1).collect::<Vec<f32>>()),
            ("activation_beta", functions.iter().filter_map(|f| f.2).collect()),
        ];
        for (key, values) in lists {
            if !values.is_empty() {
                settings.push((key, Setting::Floats(values)));
            }
        }
    }
    settings
}

fn refuse(layer: &Layer, problem: &str) -> OnnxError {
    OnnxError::Export { place: layer.place(), problem: problem.into() }
}
