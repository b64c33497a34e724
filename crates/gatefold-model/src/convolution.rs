use crate::{Activation, Init};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A convolution over time: each step of the output is a dense layer over several steps of the input,
/// `y(t) = act(sum over k of W[.., .., k] x(stride t + dilation k - left) + b)`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Conv1dConfig {
    pub(crate) output: usize,
    pub(crate) kernel: usize,
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub(crate) stride: usize,
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub(crate) dilation: usize,
    #[serde(default, skip_serializing_if = "Padding::is_none")]
    pub(crate) padding: Padding,
    pub(crate) activation: Activation,
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub(crate) bias: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) init: Option<Init>,
}

/// The zeros that a convolution puts around each row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Padding {
    /// None: each output step reads only steps that the row has.
    #[default]
    None,
    /// `dilation (kernel - 1)` steps before the row: no output step reads a step after its own.
    Causal,
    /// As many steps as these.
    Steps {
        /// Before the row's first step.
        left: usize,
        /// After the row's last step.
        right: usize,
    },
}

impl Padding {
    fn is_none(&self) -> bool {
        *self == Padding::None
    }
}

fn one() -> usize {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_one(steps: &usize) -> bool {
    *steps == 1
}

fn yes() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_yes(bias: &bool) -> bool {
    *bias
}

impl Conv1dConfig {
    /// A convolution to `output` channels that reads `kernel` steps at a time, with stride and dilation 1, a bias, no
    /// padding and no activation: `[T, B, input]` in, `[T - kernel + 1, B, output]` out.
    pub fn new(output: usize, kernel: usize) -> Self {
        Conv1dConfig {
            output,
            kernel,
            stride: 1,
            dilation: 1,
            padding: Padding::None,
            activation: Activation::Identity,
            bias: true,
            init: None,
        }
    }

    /// Sets how many input steps one output step is after the other; 1 by default.
    pub fn stride(mut self, stride: usize) -> Self {
        self.stride = stride;
        self
    }

    /// Sets how many steps lie between the steps that one output step reads, counted from one to the next; 1 by default.
    pub fn dilation(mut self, dilation: usize) -> Self {
        self.dilation = dilation;
        self
    }

    /// Puts so many steps of zeros before each row and after it; none by default.
    pub fn padding(mut self, left: usize, right: usize) -> Self {
        self.padding = if left == 0 && right == 0 { Padding::None } else { Padding::Steps { left, right } };
        self
    }

    /// Puts `dilation (kernel - 1)` steps of zeros before each row: with stride 1, there are as many output steps as
    /// input steps, and none reads a step after its own.
    pub fn causal(mut self) -> Self {
        self.padding = Padding::Causal;
        self
    }

    /// Sets the function applied to each output; the identity by default.
    pub fn activation(mut self, activation: Activation) -> Self {
        self.activation = activation;
        self
    }

    /// Adds or removes `b`; it is there by default.
    pub fn bias(mut self, bias: bool) -> Self {
        self.bias = bias;
        self
    }

    /// Sets how `weight` is initialised, as a matrix of `output` rows and `input kernel` columns: by default He if a relu
    /// follows, else Glorot. `bias` is initialised to zero.
    pub fn init(mut self, init: Init) -> Self {
        self.init = Some(init);
        self
    }

    pub(crate) fn resolve(&self) -> Conv1d {
        let Conv1dConfig { kernel, stride, dilation, activation, bias, .. } = *self;
        let (left, right) = match self.padding {
            Padding::None => (0, 0),
            Padding::Causal => (dilation.saturating_mul(kernel.saturating_sub(1)), 0),
            Padding::Steps { left, right } => (left, right),
        };
        Conv1d { kernel, stride, dilation, left, right, activation, bias }
    }
}

/// A convolution over time, with its padding worked out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Conv1d {
    /// The input steps that one output step reads.
    pub kernel: usize,
    /// Input steps from one output step to the next.
    pub stride: usize,
    /// Input steps from one that an output step reads to the next.
    pub dilation: usize,
    /// Steps of zeros before a row's first.
    pub left: usize,
    /// Steps of zeros after a row's last.
    pub right: usize,
    /// The function applied to each output.
    pub activation: Activation,
    /// Whether there is a `b`.
    pub bias: bool,
}

impl Conv1d {
    /// The input steps from the first to the last that one output step reads: `dilation (kernel - 1) + 1`.
    pub fn reach(&self) -> usize {
        self.dilation.saturating_mul(self.kernel.saturating_sub(1)).saturating_add(1)
    }

    /// The output steps of a row of `given` steps, `floor((given + left + right - reach) / stride) + 1`; none for a row
    /// without steps, or one that is shorter with its padding than the [reach](Conv1d::reach).
    pub fn steps(&self, given: usize) -> usize {
        if given == 0 { 0 } else { self.timing().steps(given) }
    }

    /// The input step that output step `t` reads with weight `k`, counted from 0; `None` within the padding before the
    /// row. It may lie after the row's last step.
    pub fn source(&self, t: usize, k: usize) -> Option<usize> {
        (t * self.stride + k * self.dilation).checked_sub(self.left)
    }

    /// Whether each output step reads its own input step and no other.
    pub fn is_pointwise(&self) -> bool {
        self.kernel == 1 && self.stride == 1 && self.left == 0 && self.right == 0
    }

    /// Whether there are as many output steps as input steps, whatever their number.
    pub fn keeps_steps(&self) -> bool {
        self.timing() == Timing::ALL
    }

    /// The fewest steps of a row that has an output step.
    pub(crate) fn least(&self) -> usize {
        self.reach().saturating_sub(self.left.saturating_add(self.right)).max(1)
    }

    pub(crate) fn timing(&self) -> Timing {
        let signed = |steps: usize| i64::try_from(steps).unwrap_or(i64::MAX);
        let stride = signed(self.stride.max(1));
        let padding = signed(self.left).saturating_add(signed(self.right));
        Timing { shift: padding.saturating_sub(signed(self.reach())).saturating_add(stride), stride }
    }
}

/// The steps of a sequence after one or more convolutions: `floor((given + shift) / stride)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    shift: i64,
    stride: i64,
}

impl Timing {
    /// The number of steps when `given` went in, 0 if there is none.
    pub fn steps(self, given: usize) -> usize {
        let given = i64::try_from(given).unwrap_or(i64::MAX);
        let steps = given.saturating_add(self.shift).div_euclid(self.stride);
        if given == 0 { 0 } else { usize::try_from(steps).unwrap_or(0) }
    }

    /// The fewest steps of which `wanted` are left.
    pub(crate) fn least(self, wanted: usize) -> usize {
        let wanted = i64::try_from(wanted).unwrap_or(i64::MAX);
        usize::try_from(wanted.saturating_mul(self.stride).saturating_sub(self.shift)).unwrap_or(0).max(1)
    }

    /// Its steps in a few words.
    pub(crate) fn describe(self) -> String {
        let Timing { shift, stride } = self;
        let sign = if shift < 0 { '-' } else { '+' };
        let sum = if shift == 0 { "T".into() } else { format!("T {sign} {}", shift.unsigned_abs()) };
        match stride {
            1 => format!("{sum} steps for the T of the input"),
            _ => format!("floor(({sum}) / {stride}) steps for the T of the input"),
        }
    }

    /// Every step that went in.
    pub(crate) const ALL: Timing = Timing { shift: 0, stride: 1 };

    /// These steps, then those of another convolution over them. The formulas nest: `floor((floor((n + a) / s) + b) / r)`
    /// is `floor((n + a + b s) / (s r))`.
    pub(crate) fn then(self, next: Timing) -> Timing {
        Timing {
            shift: self.shift.saturating_add(next.shift.saturating_mul(self.stride)),
            stride: self.stride.saturating_mul(next.stride),
        }
    }
}

/// Its options in a few words: `kernel 3, stride 2, causal, relu`.
impl fmt::Display for Conv1d {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "kernel {}", self.kernel)?;
        for (name, steps) in [("stride", self.stride), ("dilation", self.dilation)] {
            if steps != 1 {
                write!(f, ", {name} {steps}")?;
            }
        }
        match (self.left, self.right) {
            (0, 0) => {}
            (left, 0) if left == self.reach() - 1 => f.write_str(", causal")?,
            (left, right) => write!(f, ", padding {left} {right}")?,
        }
        if self.activation != Activation::Identity {
            write!(f, ", {}", self.activation)?;
        }
        if !self.bias {
            f.write_str(", no bias")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DenseConfig, Expansion, LayerConfig, LstmConfig, NetworkConfig, Timeline};

    /// Counts the output steps one by one.
    fn counted(conv: &Conv1d, given: usize) -> usize {
        let last = |t: usize| t * conv.stride + conv.reach();
        (0..).take_while(|&t| given > 0 && last(t) <= given + conv.left + conv.right).count()
    }

    #[test]
    fn steps_are_those_that_fit() {
        for kernel in 1..5 {
            for stride in 1..4 {
                for dilation in 1..3 {
                    for (left, right) in [(0, 0), (1, 0), (2, 3), (0, 7)] {
                        let conv = Conv1dConfig::new(1, kernel).stride(stride).dilation(dilation);
                        let conv = conv.padding(left, right).resolve();
                        for given in 0..20 {
                            assert_eq!(conv.steps(given), counted(&conv, given), "{conv} of {given} steps");
                        }
                    }
                }
            }
        }
        let causal = Conv1dConfig::new(1, 4).causal().dilation(3).resolve();
        assert_eq!((causal.left, causal.right), (9, 0), "the dilation may be set after causal");
        assert_eq!((causal.steps(1), causal.steps(50)), (1, 50));
    }

    #[test]
    fn the_steps_of_several_convolutions_are_those_of_one_after_the_other() {
        let layers = [
            Conv1dConfig::new(2, 3).stride(2),
            Conv1dConfig::new(3, 2).padding(1, 2).dilation(2),
            Conv1dConfig::new(2, 4).stride(3),
            Conv1dConfig::new(2, 2).causal(),
        ];
        let mut builder = NetworkConfig::with_input(1);
        for layer in &layers {
            builder = builder.layer(layer.clone());
        }
        let config = builder.build().unwrap();
        for given in 1..60 {
            let after = layers.iter().map(Conv1dConfig::resolve).fold(given, |steps, conv| conv.steps(steps));
            if config.check_steps(given).is_ok() {
                assert_eq!(config.output_steps(given), after, "{given} steps");
                assert!(after > 0);
            } else {
                assert_eq!(after, 0, "{given} steps");
            }
        }
        assert_eq!(config.check_steps(6).unwrap_err(), "at least 7 steps for layer 2 (conv1d)");
        assert_eq!(config.check_steps(0), Ok(()));
    }

    #[test]
    fn a_causal_convolution_keeps_the_time_axis() {
        let config = NetworkConfig::with_input(3)
            .layer(Conv1dConfig::new(3, 5).causal().activation(Activation::Relu))
            .residual(0)
            .conv1d(2, 24)
            .build()
            .unwrap();
        assert_eq!(config.layers()[0].timeline, Timeline::Input);
        assert!(matches!(config.timeline(), Timeline::Convolved(_)));
        assert_eq!(config.output_steps(168), 145);
        assert_eq!(
            config.to_string(),
            "3 -> conv1d 3, kernel 5, causal, relu -> residual from layer 0 -> conv1d 2, kernel 24"
        );
        let parameters: Vec<_> =
            config.parameter_specs().map(|spec| (spec.name.as_str(), &spec.shape[..])).collect();
        assert_eq!(
            parameters,
            [
                ("conv0.weight", &[3, 3, 5][..]),
                ("conv0.bias", &[3]),
                ("conv1.weight", &[2, 3, 24]),
                ("conv1.bias", &[2])
            ]
        );
    }

    #[test]
    fn steps_that_are_known_are_checked_when_the_network_is_built() {
        let of = |layers: &[LayerConfig]| NetworkConfig::new(2, layers);
        let expand = || LayerConfig::Expand { steps: 9, fill: Expansion::Repeat };
        let conv = |kernel| LayerConfig::from(Conv1dConfig::new(3, kernel));
        let config = of(&[LayerConfig::LastStep, expand(), conv(4), conv(6)]).unwrap();
        assert_eq!(config.layers()[2].timeline, Timeline::Expanded(6));
        assert_eq!(config.timeline(), Timeline::Single);
        let refused = |layers: &[LayerConfig]| of(layers).unwrap_err().to_string();
        assert_eq!(
            refused(&[LayerConfig::LastStep, expand(), conv(10)]),
            "layer 2 (conv1d): each output step reads 10 steps; expected at least 10, found 9"
        );
        assert_eq!(refused(&[conv(0)]), "layer 0 (conv1d): its kernel is 0; expected 1 to 16777216 steps");
        assert_eq!(
            refused(&[Conv1dConfig::new(1, 2).stride(0).into()]),
            "layer 0 (conv1d): its stride is 0; expected 1 to 16777216 steps"
        );
        assert_eq!(
            refused(&[Conv1dConfig::new(1, 2).dilation(usize::MAX).causal().into()]),
            format!("layer 0 (conv1d): its dilation is {}; expected 1 to 16777216 steps", usize::MAX)
        );
        assert_eq!(
            refused(&[Conv1dConfig::new(1, 2).padding(0, usize::MAX).into()]),
            format!("layer 0 (conv1d): its padding is {}; expected at most 16777216 steps", usize::MAX)
        );
        assert_eq!(
            refused(&[Conv1dConfig::new(1, 1 << 14).dilation(1 << 14).into()]),
            "layer 0 (conv1d): each output step reads from 268419073 steps; expected at most 16777216"
        );
        assert_eq!(
            refused(&[conv(1 << 24)]),
            "layer 0 (conv1d): each output step reads 33554432 values; expected at most 16777216"
        );
        assert_eq!(
            refused(&[
                LstmConfig::new(2).into(),
                crate::DecoderConfig::new(2).into(),
                LstmConfig::new(2).into(),
                conv(1)
            ]),
            "layer 3 (conv1d): a decoder runs step by step; expected convolutions before it"
        );
    }

    #[test]
    fn a_tied_convolution_makes_the_sequence_shorter_again() {
        let config = NetworkConfig::with_input(3)
            .layer(Conv1dConfig::new(3, 3).stride(2))
            .tied(0)
            .dense(1)
            .build()
            .unwrap();
        assert_eq!(config.output_steps(11), 2);
        assert_eq!(config.parameter_specs().count(), 4);
    }

    #[test]
    fn a_description_has_the_names_that_files_have() {
        let layers = [
            Conv1dConfig::new(4, 3).causal().stride(2).dilation(5).into(),
            Conv1dConfig::new(4, 3).padding(1, 2).bias(false).init(Init::He).into(),
            DenseConfig::new(1).into(),
        ];
        let config = NetworkConfig::new(4, layers).unwrap();
        let text = concat!(
            r#"{"input":4,"layers":[{"kind":"conv1d","output":4,"kernel":3,"stride":2,"dilation":5,"#,
            r#""padding":"causal","activation":"identity"},{"kind":"conv1d","output":4,"kernel":3,"#,
            r#""padding":{"steps":{"left":1,"right":2}},"activation":"identity","bias":false,"init":"he"},"#,
            r#"{"kind":"dense","output":1,"activation":"identity"}]}"#
        );
        assert_eq!(serde_json::to_string(&config).unwrap(), text);
        assert_eq!(serde_json::from_str::<NetworkConfig>(text).unwrap(), config);
    }
}
