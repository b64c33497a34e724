use crate::{Activation, DenseConfig, Init, LayerConfig, LstmConfig, LstmGate, ModelError};

/// A layer with its widths and parameters worked out.
#[derive(Clone, Debug, PartialEq)]
pub struct Layer {
    /// Its place in the network, from 0.
    pub index: usize,
    /// What it computes; for a tied layer, what the layer that it repeats computes.
    pub kind: LayerKind,
    /// The layer that owns its parameters: itself, or the one it is tied to.
    pub owner: usize,
    /// Values a time step that go in.
    pub input: usize,
    /// Values a time step that come out.
    pub output: usize,
    /// Its parameters in the order in which they are stored.
    pub parameters: Vec<ParameterSpec>,
}

/// What a layer computes.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum LayerKind {
    /// Long short-term memory.
    Lstm {
        /// The number of units.
        hidden: usize,
        /// The forget gate's bias before training.
        forget_bias: f32,
    },
    /// `act(x W^T + b)`, a step at a time.
    Dense {
        /// The function applied to each output.
        activation: Activation,
    },
    /// The last time step alone.
    LastStep,
}

/// One named parameter of a network.
#[derive(Clone, Debug, PartialEq)]
pub struct ParameterSpec {
    /// PyTorch's name, such as `rnn0.weight_ih_l0`.
    pub name: String,
    /// Rows and columns, or a length.
    pub shape: Vec<usize>,
    /// What it is for.
    pub role: Role,
    /// How it begins; a forget gate's bias is added to it.
    pub init: Init,
}

/// What a parameter is for; decides how it is initialised and packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Role {
    /// `weight_ih`, `[gates H, I]`.
    InputWeight,
    /// `weight_hh`, `[gates H, H]`.
    RecurrentWeight,
    /// `bias_ih`, `[gates H]`.
    InputBias,
    /// `bias_hh`, `[gates H]`.
    RecurrentBias,
    /// A dense layer's `weight`, `[output, input]`.
    DenseWeight,
    /// A dense layer's `bias`, `[output]`.
    DenseBias,
}

impl ParameterSpec {
    /// How many numbers it holds.
    #[expect(clippy::len_without_is_empty, reason = "no width is zero, so no parameter is empty")]
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }
}

impl Layer {
    /// `layer 2 (dense)`, as errors name it.
    pub fn place(&self) -> String {
        place(self.index, self.kind.name())
    }

    /// `layer2`, as schedules name its buffers.
    pub fn label(&self) -> String {
        format!("layer{}", self.index)
    }

    /// The parameter with this role.
    ///
    /// # Panics
    /// If layers of this kind have no such parameter.
    pub fn parameter(&self, role: Role) -> &ParameterSpec {
        self.parameters
            .iter()
            .find(|spec| spec.role == role)
            .unwrap_or_else(|| panic!("{} has no {role:?}", self.place()))
    }
}

impl LayerKind {
    /// `lstm`, `dense` or `last step`.
    pub fn name(&self) -> &'static str {
        match self {
            LayerKind::Lstm { .. } => "lstm",
            LayerKind::Dense { .. } => "dense",
            LayerKind::LastStep => "last step",
        }
    }
}

fn place(index: usize, name: &str) -> String {
    format!("layer {index} ({name})")
}

/// Works out widths, owners and parameter names from the first layer to the last.
pub(crate) fn resolve(input: usize, configs: &[LayerConfig]) -> Result<Vec<Layer>, ModelError> {
    let refuse = |place: String, problem: String| Err(ModelError::Config { place, problem });
    if input == 0 {
        return refuse("network".into(), "the input width is 0; expected at least 1".into());
    }
    if configs.is_empty() {
        return refuse("network".into(), "there are no layers; add at least one".into());
    }
    let mut layers: Vec<Layer> = Vec::with_capacity(configs.len());
    let mut names = Names::default();
    let mut width = input;
    for (index, config) in configs.iter().enumerate() {
        let layer = match config {
            LayerConfig::Lstm(lstm) => Layer {
                index,
                kind: LayerKind::Lstm { hidden: lstm.hidden, forget_bias: lstm.forget_bias },
                owner: index,
                input: width,
                output: lstm.hidden,
                parameters: lstm_parameters(&names.recurrent(lstm.hidden), width, lstm),
            },
            LayerConfig::Dense(dense) => Layer {
                index,
                kind: LayerKind::Dense { activation: dense.activation },
                owner: index,
                input: width,
                output: dense.output,
                parameters: dense_parameters(&names.dense(), width, dense),
            },
            LayerConfig::LastStep => Layer {
                index,
                kind: LayerKind::LastStep,
                owner: index,
                input: width,
                output: width,
                parameters: Vec::new(),
            },
            LayerConfig::Tied { to } => {
                names.break_stack();
                let Some(earlier) = layers.get(*to) else {
                    return refuse(
                        place(index, "tied"),
                        format!(
                            "it is tied to layer {to}; expected a layer before it, 0 to {}",
                            index.max(1) - 1
                        ),
                    );
                };
                if earlier.input != width {
                    return refuse(
                        place(index, "tied"),
                        format!("its input is {width} wide, but {} takes {}", earlier.place(), earlier.input),
                    );
                }
                Layer { index, ..earlier.clone() }
            }
        };
        if layer.output == 0 {
            return refuse(layer.place(), "its width is 0; expected at least 1".into());
        }
        if let LayerKind::Lstm { forget_bias, .. } = layer.kind
            && !forget_bias.is_finite()
        {
            return refuse(
                layer.place(),
                format!("the forget bias is {forget_bias}; expected a finite number"),
            );
        }
        for spec in &layer.parameters {
            if let Init::Constant(value) | Init::Normal(value) = spec.init
                && !value.is_finite()
            {
                return refuse(
                    layer.place(),
                    format!("{} begins with {value}; expected a finite number", spec.name),
                );
            }
        }
        if layer.kind == LayerKind::LastStep && layers.iter().any(|layer| layer.kind == LayerKind::LastStep) {
            return refuse(
                layer.place(),
                "an earlier layer already keeps the last step alone; remove one".into(),
            );
        }
        if !matches!(layer.kind, LayerKind::Lstm { .. }) {
            names.break_stack();
        }
        width = layer.output;
        layers.push(layer);
    }
    Ok(layers)
}

/// Hands out PyTorch's names: equal consecutive recurrent layers form one `nn.LSTM`.
#[derive(Default)]
struct Names {
    stacks: usize,
    dense: usize,
    open: Option<(usize, usize)>, // width and depth of the stack that the next layer may join
}

impl Names {
    /// Module and layer suffix, such as `("rnn0", 1)`.
    fn recurrent(&mut self, hidden: usize) -> (String, usize) {
        let depth = match self.open {
            Some((width, depth)) if width == hidden => depth + 1,
            _ => {
                self.stacks += 1;
                0
            }
        };
        self.open = Some((hidden, depth));
        (format!("rnn{}", self.stacks - 1), depth)
    }

    fn dense(&mut self) -> String {
        self.dense += 1;
        format!("dense{}", self.dense - 1)
    }

    fn break_stack(&mut self) {
        self.open = None;
    }
}

fn lstm_parameters((module, depth): &(String, usize), input: usize, lstm: &LstmConfig) -> Vec<ParameterSpec> {
    let (rows, zero) = (LstmGate::COUNT * lstm.hidden, Init::Constant(0.0));
    [
        ("weight_ih", vec![rows, input], Role::InputWeight, lstm.input_init),
        ("weight_hh", vec![rows, lstm.hidden], Role::RecurrentWeight, lstm.recurrent_init),
        ("bias_ih", vec![rows], Role::InputBias, zero),
        ("bias_hh", vec![rows], Role::RecurrentBias, zero),
    ]
    .map(|(name, shape, role, init)| ParameterSpec {
        name: format!("{module}.{name}_l{depth}"),
        shape,
        role,
        init,
    })
    .into()
}

fn dense_parameters(module: &str, input: usize, dense: &DenseConfig) -> Vec<ParameterSpec> {
    let default = if dense.activation == Activation::Relu { Init::He } else { Init::Glorot };
    [
        ("weight", vec![dense.output, input], Role::DenseWeight, dense.init.unwrap_or(default)),
        ("bias", vec![dense.output], Role::DenseBias, Init::Constant(0.0)),
    ]
    .map(|(name, shape, role, init)| ParameterSpec { name: format!("{module}.{name}"), shape, role, init })
    .into()
}

#[cfg(test)]
mod tests {
    use crate::{DenseConfig, LayerConfig, LstmConfig, NetworkConfig};

    fn names(config: &NetworkConfig) -> Vec<&str> {
        config.parameter_specs().map(|spec| spec.name.as_str()).collect()
    }

    fn refusal(input: usize, layers: &[LayerConfig]) -> String {
        NetworkConfig::new(input, layers).expect_err("it should be refused").to_string()
    }

    #[test]
    fn equal_consecutive_lstms_share_one_module() {
        let config = NetworkConfig::new(
            3,
            [
                LstmConfig::new(5).into(),
                LstmConfig::new(5).into(),
                LstmConfig::new(4).into(),
                DenseConfig::new(4).into(),
                LstmConfig::new(4).into(),
            ],
        )
        .unwrap();
        let first_weights: Vec<_> = names(&config)
            .into_iter()
            .filter(|name| name.contains("weight_ih") || name.contains("dense"))
            .collect();
        assert_eq!(
            first_weights,
            [
                "rnn0.weight_ih_l0",
                "rnn0.weight_ih_l1",
                "rnn1.weight_ih_l0",
                "dense0.weight",
                "dense0.bias",
                "rnn2.weight_ih_l0"
            ]
        );
    }

    #[test]
    fn a_tied_layer_adds_no_parameters() {
        let once = NetworkConfig::new(4, [LstmConfig::new(4).into()]).unwrap();
        let twice = NetworkConfig::new(4, [LstmConfig::new(4).into(), LayerConfig::Tied { to: 0 }]).unwrap();
        assert_eq!(once.parameter_count(), twice.parameter_count());
        assert_eq!(twice.layers()[1].owner, 0);
        assert_eq!(twice.layers()[1].parameters, twice.layers()[0].parameters);
    }

    #[test]
    fn refusals_name_the_layer() {
        assert_eq!(
            refusal(0, &[LayerConfig::LastStep]),
            "network: the input width is 0; expected at least 1"
        );
        assert_eq!(refusal(1, &[]), "network: there are no layers; add at least one");
        assert_eq!(
            refusal(1, &[LstmConfig::new(2).into(), DenseConfig::new(0).into()]),
            "layer 1 (dense): its width is 0; expected at least 1"
        );
        assert_eq!(
            refusal(1, &[LayerConfig::LastStep, LayerConfig::LastStep]),
            "layer 1 (last step): an earlier layer already keeps the last step alone; remove one"
        );
        assert_eq!(
            refusal(3, &[LstmConfig::new(2).into(), LayerConfig::Tied { to: 0 }]),
            "layer 1 (tied): its input is 2 wide, but layer 0 (lstm) takes 3"
        );
        assert_eq!(
            refusal(3, &[LayerConfig::Tied { to: 0 }]),
            "layer 0 (tied): it is tied to layer 0; expected a layer before it, 0 to 0"
        );
    }

    #[test]
    fn a_description_survives_json_and_a_broken_one_does_not() {
        let config = NetworkConfig::new(
            3,
            [LstmConfig::new(5).into(), LayerConfig::LastStep, DenseConfig::new(2).into()],
        )
        .unwrap();
        let text = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<NetworkConfig>(&text).unwrap(), config);
        let broken = text.replace("\"output\":2", "\"output\":0");
        let error = serde_json::from_str::<NetworkConfig>(&broken).unwrap_err().to_string();
        assert!(error.contains("layer 2 (dense): its width is 0"), "{error}");
    }
}
