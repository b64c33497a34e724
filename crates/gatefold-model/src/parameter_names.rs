//! The parameters of each layer: PyTorch's names, shapes and initialisation.

use crate::recurrent_config::Options;
use crate::{
    Activation, Biases, Cell, Conv1dConfig, DenseConfig, Direction, EmbeddingConfig, Init, InitialState,
    LstmCell, ParameterSpec, Recurrent, Role,
};

/// Hands out PyTorch's names: equal consecutive recurrent layers form one `nn.LSTM`.
#[derive(Default)]
pub(crate) struct Names {
    stacks: usize,
    dense: usize,
    conv: usize,
    embedding: usize,
    normalise: usize,
    open: Option<(Recurrent, usize)>, // what the next layer must be to join the stack, and the stack's depth
}

impl Names {
    /// Module and layer suffix, such as `("rnn0", 1)`.
    pub(crate) fn recurrent(&mut self, recurrent: &Recurrent) -> (String, usize) {
        // PyTorch does not know these, and they do not break up a stack.
        let key = Recurrent { forget_bias: 0.0, initial: InitialState::Zeros, ..*recurrent };
        let depth = match self.open {
            Some((open, depth)) if open == key => depth + 1,
            _ => {
                self.stacks += 1;
                0
            }
        };
        let joinable = recurrent.direction != Direction::BidirectionalSum;
        self.open = joinable.then_some((key, depth));
        (format!("rnn{}", self.stacks - 1), depth)
    }

    pub(crate) fn dense(&mut self) -> String {
        self.dense += 1;
        format!("dense{}", self.dense - 1)
    }

    pub(crate) fn conv(&mut self) -> String {
        self.conv += 1;
        format!("conv{}", self.conv - 1)
    }

    pub(crate) fn embedding(&mut self) -> String {
        self.embedding += 1;
        format!("embedding{}", self.embedding - 1)
    }

    pub(crate) fn normalise(&mut self) -> String {
        self.normalise += 1;
        format!("norm{}", self.normalise - 1)
    }

    pub(crate) fn break_stack(&mut self) {
        self.open = None;
    }
}

pub(crate) fn recurrent_parameters(
    (module, depth): &(String, usize),
    input: usize,
    recurrent: &Recurrent,
    options: &Options,
) -> Vec<ParameterSpec> {
    let Recurrent { hidden, biases, .. } = *recurrent;
    // A width that is refused later must not overflow here.
    let rows = recurrent.cell.gates().saturating_mul(hidden);
    let (width, zero) = (recurrent.recurrent_width(), Init::Constant(0.0));
    let (normalised, one) = (recurrent.norm.is_some(), Init::Constant(1.0));
    let shows_state = normalised && recurrent.cell.has_state();
    let peephole = matches!(recurrent.cell, Cell::Lstm(LstmCell { peephole: true, .. }));
    let learned = recurrent.initial == InitialState::Learned;
    let output = recurrent.feedback.map(|feedback| feedback.output);
    let (from_input, from_h) = (options.input_init, options.recurrent_init);
    let tensors = [
        (true, "weight_ih", vec![rows, input], Role::InputWeight, from_input),
        (true, "weight_hh", vec![rows, width], Role::RecurrentWeight, from_h),
        (biases != Biases::None, "bias_ih", vec![rows], Role::InputBias, zero),
        (biases == Biases::Two, "bias_hh", vec![rows], Role::RecurrentBias, zero),
        (
            recurrent.projection.is_some(),
            "weight_hr",
            vec![width, hidden],
            Role::ProjectionWeight,
            Init::Glorot,
        ),
        (peephole, "peephole", vec![3usize.saturating_mul(hidden)], Role::Peephole, zero),
        (normalised, "gain_ih", vec![rows], Role::InputGain, one),
        (normalised, "gain_hh", vec![rows], Role::RecurrentGain, one),
        (shows_state, "gain_c", vec![hidden], Role::CellGain, one),
        (shows_state && biases != Biases::None, "bias_c", vec![hidden], Role::CellBias, zero),
        (recurrent.skip.is_some(), "weight_sh", vec![rows, width], Role::SkipWeight, from_h),
        (output.is_some(), "weight_yh", vec![rows, output.unwrap_or(0)], Role::FeedbackWeight, from_input),
        (output.is_some(), "weight_hy", vec![output.unwrap_or(0), hidden], Role::ReadoutWeight, Init::Glorot),
        (output.is_some(), "bias_y", vec![output.unwrap_or(0)], Role::ReadoutBias, zero),
        (learned, "h0", vec![width], Role::InitialH, zero),
        (learned && recurrent.cell.has_state(), "c0", vec![hidden], Role::InitialC, zero),
    ];
    let scans = recurrent.direction.scans().iter();
    let of_scan = |&reverse: &bool| {
        let suffix = if reverse { "_reverse" } else { "" };
        let present = tensors.clone().into_iter().filter(|(present, ..)| *present);
        present.map(move |(_, name, shape, role, init)| ParameterSpec {
            name: format!("{module}.{name}_l{depth}{suffix}"),
            shape,
            role,
            reverse,
            init,
        })
    };
    scans.flat_map(of_scan).collect()
}

pub(crate) fn dense_parameters(module: &str, input: usize, dense: &DenseConfig) -> Vec<ParameterSpec> {
    let default = if dense.activation == Activation::Relu { Init::He } else { Init::Glorot };
    let spec = |name: &str, shape, role, init| {
        let name = format!("{module}.{name}");
        ParameterSpec { name, shape, role, reverse: false, init }
    };
    let shape = vec![dense.output, input];
    let mut parameters = vec![spec("weight", shape, Role::DenseWeight, dense.init.unwrap_or(default))];
    if dense.bias {
        parameters.push(spec("bias", vec![dense.output], Role::DenseBias, Init::Constant(0.0)));
    }
    parameters
}

pub(crate) fn conv_parameters(module: &str, input: usize, conv: &Conv1dConfig) -> Vec<ParameterSpec> {
    let default = if conv.activation == Activation::Relu { Init::He } else { Init::Glorot };
    let spec = |name: &str, shape, role, init| {
        let name = format!("{module}.{name}");
        ParameterSpec { name, shape, role, reverse: false, init }
    };
    let shape = vec![conv.output, input, conv.kernel];
    let mut parameters = vec![spec("weight", shape, Role::ConvWeight, conv.init.unwrap_or(default))];
    if conv.bias {
        parameters.push(spec("bias", vec![conv.output], Role::ConvBias, Init::Constant(0.0)));
    }
    parameters
}

pub(crate) fn embedding_parameters(module: &str, embedding: &EmbeddingConfig) -> Vec<ParameterSpec> {
    vec![ParameterSpec {
        name: format!("{module}.weight"),
        shape: vec![embedding.tokens, embedding.output],
        role: Role::EmbeddingWeight,
        reverse: false,
        init: embedding.init,
    }]
}

pub(crate) fn normalise_parameters(module: &str, width: usize) -> Vec<ParameterSpec> {
    let spec = |name: &str, role, value| ParameterSpec {
        name: format!("{module}.{name}"),
        shape: vec![width],
        role,
        reverse: false,
        init: Init::Constant(value),
    };
    vec![spec("weight", Role::NormaliseWeight, 1.0), spec("bias", Role::NormaliseBias, 0.0)]
}
