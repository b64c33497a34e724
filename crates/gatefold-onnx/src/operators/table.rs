//! The list of operators.
//!
//! A row says which attributes an operator has, which of them became inputs and when, how large its results become, how
//! its whole numbers behave and of which types its results are. Operators that are not listed are refused by name.

use super::Call;
use super::size::{self, Need};

/// An operator on arrays.
pub(crate) struct Operator {
    /// Its name, after its domain if that is not ONNX's own.
    pub(crate) name: &'static str,
    pub(crate) attributes: &'static [&'static str],
    /// Attributes that exporters write, which may only have their default.
    pub(crate) defaults: &'static [(&'static str, i64)],
    /// Attributes that became inputs: the attribute, the opset, the input.
    pub(crate) became: &'static [(&'static str, i64, usize)],
    /// Its needs, worked out before it runs.
    pub(crate) need: fn(&Call) -> Result<Need, String>,
    pub(crate) whole: Whole,
    /// The types of its results; the last counts for all that follow.
    pub(crate) gives: &'static [Gives],
}

/// How an operator treats whole numbers, which the library keeps in 32 bits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Whole {
    /// Its results are no larger than its inputs.
    Within,
    /// Adds them, up to all of them.
    Sums,
    /// Multiplies them, up to all of them.
    Products,
    /// Adds products of pairs.
    Matrix,
    /// Raises the first to the power of the second.
    Power,
    /// Adds squares.
    Squares,
    /// Moves those of the inputs from the first number to the second and computes nothing with them.
    Moves(usize, usize),
    /// Moves those of the first input; the others are places that may lie far outside of it.
    Slices,
}

/// The type of a result that the library gives as whole numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Gives {
    /// The type of an input.
    Like(usize),
    I64,
    I32,
    Bool,
    /// The type named by an attribute; without it, that of the first input.
    Named(&'static str),
}

use Gives::{Bool, I32, I64, Like, Named};

/// An operator whose results are together no larger than its inputs, and of the first input's type.
const fn operator(name: &'static str) -> Operator {
    Operator {
        name,
        attributes: &[],
        defaults: &[],
        became: &[],
        need: size::as_inputs,
        whole: Whole::Within,
        gives: &[Like(0)],
    }
}

impl Operator {
    const fn with(mut self, attributes: &'static [&'static str]) -> Operator {
        self.attributes = attributes;
        self
    }

    const fn default(mut self, defaults: &'static [(&'static str, i64)]) -> Operator {
        self.defaults = defaults;
        self
    }

    const fn became(mut self, became: &'static [(&'static str, i64, usize)]) -> Operator {
        self.became = became;
        self
    }

    const fn need(mut self, need: fn(&Call) -> Result<Need, String>) -> Operator {
        self.need = need;
        self
    }

    const fn whole(mut self, whole: Whole) -> Operator {
        self.whole = whole;
        self
    }

    const fn gives(mut self, gives: &'static [Gives]) -> Operator {
        self.gives = gives;
        self
    }
}

/// An operator on two or more tensors that broadcast.
const fn pairs(name: &'static str) -> Operator {
    operator(name).need(size::broadcast)
}

const fn compares(name: &'static str) -> Operator {
    pairs(name).gives(&[Bool])
}

const fn reduces(name: &'static str, whole: Whole, axes_became_input: i64) -> Operator {
    let became: &[(&str, i64, usize)] =
        if axes_became_input == 13 { &[("axes", 13, 1)] } else { &[("axes", 18, 1)] };
    operator(name).with(&["keepdims", "noop_with_empty_axes"]).became(became).whole(whole)
}

const CONVOLUTION: &[&str] = &["auto_pad", "dilations", "group", "kernel_shape", "pads", "strides"];
const POOL: &[&str] = &["auto_pad", "ceil_mode", "dilations", "kernel_shape", "pads", "strides"];
const MOVES: Whole = Whole::Moves(0, 0);

/// Every operator on arrays, by name.
pub(crate) const OPERATORS: &[Operator] = &[
    operator("Abs"),
    operator("Acos"),
    operator("Acosh"),
    pairs("Add").whole(Whole::Sums),
    compares("And"),
    operator("ArgMax").with(&["axis", "keepdims", "select_last_index"]).gives(&[I64]),
    operator("ArgMin").with(&["axis", "keepdims", "select_last_index"]).gives(&[I64]),
    operator("Asin"),
    operator("Asinh"),
    operator("Atan"),
    operator("Atanh"),
    operator("Attention")
        .with(&[
            "is_causal",
            "kv_num_heads",
            "q_num_heads",
            "qk_matmul_output_mode",
            "scale",
            "softcap",
            "softmax_precision",
        ])
        .default(&[("left_window_size", -1), ("right_window_size", -1)])
        .need(size::attention),
    operator("AveragePool")
        .with(&["auto_pad", "ceil_mode", "count_include_pad", "dilations", "kernel_shape", "pads", "strides"])
        .need(size::pool),
    operator("BatchNormalization").with(&["epsilon", "momentum", "spatial", "training_mode"]),
    operator("Cast").with(&["round_mode", "saturate", "to"]).gives(&[Named("to")]),
    operator("CastLike").with(&["round_mode", "saturate"]).gives(&[Like(1)]),
    operator("Ceil"),
    operator("Celu").with(&["alpha"]),
    operator("Clip").became(&[("min", 11, 1), ("max", 11, 2)]),
    operator("Concat").with(&["axis"]).whole(Whole::Moves(0, usize::MAX)),
    operator("Constant").with(size::CONSTANT_VALUES),
    operator("ConstantOfShape").with(&["value"]).need(size::constant_of_shape).gives(&[Named("value")]),
    operator("Conv").with(CONVOLUTION).need(size::convolution),
    operator("ConvInteger").with(CONVOLUTION).need(size::convolution).gives(&[I32]),
    operator("ConvTranspose")
        .with(&[
            "auto_pad",
            "dilations",
            "group",
            "kernel_shape",
            "output_padding",
            "output_shape",
            "pads",
            "strides",
        ])
        .need(size::transposed_convolution),
    operator("Cos"),
    operator("Cosh"),
    operator("CumSum").with(&["exclusive", "reverse"]).whole(Whole::Sums),
    operator("DFT").with(&["axis", "inverse", "onesided"]).need(size::fourier),
    operator("DepthToSpace").with(&["blocksize", "mode"]).whole(MOVES),
    operator("DequantizeLinear").with(&["axis", "block_size", "output_dtype"]),
    pairs("Div"),
    operator("Dropout").with(&["seed"]).became(&[("ratio", 12, 1)]).gives(&[Like(0), Bool]),
    operator("DynamicQuantizeLinear"),
    operator("Einsum").with(&["equation"]).need(size::einsum).whole(Whole::Matrix),
    operator("Elu").with(&["alpha"]),
    compares("Equal"),
    operator("Erf"),
    operator("Exp"),
    operator("Expand").need(size::expand).whole(MOVES),
    operator("EyeLike").with(&["dtype", "k"]).gives(&[Named("dtype")]),
    operator("Flatten").with(&["axis"]).whole(MOVES),
    operator("Floor"),
    operator("Gather").with(&["axis"]).need(size::gather).whole(MOVES),
    operator("GatherElements").with(&["axis"]).need(size::gather_elements).whole(MOVES),
    operator("GatherND").with(&["batch_dims"]).need(size::gather_nd).whole(MOVES),
    operator("Gelu").with(&["approximate"]),
    operator("Gemm").with(&["alpha", "beta", "transA", "transB"]).need(size::gemm).whole(Whole::Matrix),
    operator("GlobalAveragePool"),
    operator("GlobalMaxPool"),
    compares("Greater"),
    compares("GreaterOrEqual"),
    operator("GridSample").with(&["align_corners", "mode", "padding_mode"]).need(size::grid_sample),
    operator("GroupNormalization").with(&["epsilon", "num_groups", "stash_type"]),
    operator("HardSigmoid").with(&["alpha", "beta"]),
    operator("HardSwish"),
    operator("Hardmax").with(&["axis"]),
    operator("Identity").whole(MOVES),
    operator("InstanceNormalization").with(&["epsilon"]),
    operator("IsInf").with(&["detect_negative", "detect_positive"]).gives(&[Bool]),
    operator("IsNaN").gives(&[Bool]),
    operator("LayerNormalization").with(&["axis", "epsilon", "stash_type"]),
    operator("LeakyRelu").with(&["alpha"]),
    compares("Less"),
    compares("LessOrEqual"),
    operator("Log"),
    operator("LogSoftmax").with(&["axis"]),
    operator("LpNormalization").with(&["axis", "p"]),
    operator("MatMul").need(size::mat_mul).whole(Whole::Matrix),
    operator("MatMulInteger").need(size::mat_mul).gives(&[I32]),
    pairs("Max"),
    // The order of its second output, which the library does not give.
    operator("MaxPool").with(POOL).default(&[("storage_order", 0)]).need(size::pool),
    pairs("Mean"),
    pairs("Min"),
    operator("Mish"),
    pairs("Mod").with(&["fmod"]),
    pairs("Mul").whole(Whole::Products),
    operator("Neg"),
    operator("NonZero").need(size::non_zero).gives(&[I64]),
    operator("Not").gives(&[Bool]),
    operator("OneHot").with(&["axis"]).need(size::one_hot).gives(&[Like(2)]),
    compares("Or"),
    pairs("PRelu"),
    operator("Pad").with(&["mode"]).became(&[("pads", 11, 1), ("value", 11, 2)]).need(size::pad).whole(MOVES),
    pairs("Pow").whole(Whole::Power),
    operator("QuantizeLinear").with(&["axis", "block_size", "output_dtype", "precision", "saturate"]),
    operator("RMSNormalization").with(&["axis", "epsilon", "stash_type"]),
    operator("Range").default(&[("stash_type", 1)]).need(size::range),
    operator("Reciprocal"),
    reduces("ReduceL1", Whole::Sums, 18),
    reduces("ReduceL2", Whole::Squares, 18),
    reduces("ReduceLogSum", Whole::Sums, 18),
    reduces("ReduceLogSumExp", Whole::Within, 18),
    reduces("ReduceMax", Whole::Within, 18),
    reduces("ReduceMean", Whole::Sums, 18),
    reduces("ReduceMin", Whole::Within, 18),
    reduces("ReduceProd", Whole::Products, 18),
    reduces("ReduceSum", Whole::Sums, 13),
    reduces("ReduceSumSquare", Whole::Squares, 18),
    operator("Relu"),
    operator("Reshape").with(&["allowzero"]).need(size::reshape).whole(MOVES),
    operator("Resize")
        .with(&[
            "antialias",
            "coordinate_transformation_mode",
            "cubic_coeff_a",
            "exclude_outside",
            "extrapolation_value",
            "keep_aspect_ratio_policy",
            "mode",
            "nearest_mode",
        ])
        .need(size::resize),
    operator("ReverseSequence").with(&["batch_axis", "time_axis"]).whole(MOVES),
    operator("RotaryEmbedding").with(&["interleaved", "num_heads", "rotary_embedding_dim"]),
    operator("Round"),
    operator("STFT").with(&["onesided"]).need(size::fourier_frames),
    operator("Scatter").with(&["axis"]),
    operator("ScatterElements").with(&["axis", "reduction"]),
    operator("ScatterND").with(&["reduction"]),
    operator("Selu").with(&["alpha", "gamma"]),
    operator("Shape").with(&["end", "start"]).gives(&[I64]),
    operator("Shrink").with(&["bias", "lambd"]),
    operator("Sigmoid"),
    operator("Sign"),
    operator("SimplifiedLayerNormalization").with(&["axis", "epsilon", "stash_type"]),
    operator("Sin"),
    operator("Sinh"),
    operator("Size").gives(&[I64]),
    operator("Slice").became(&[("starts", 10, 1), ("ends", 10, 2), ("axes", 10, 3)]).whole(Whole::Slices),
    operator("Softmax").with(&["axis"]),
    operator("Softplus"),
    operator("Softsign"),
    operator("SpaceToDepth").with(&["blocksize", "mode"]),
    operator("Split")
        .with(&["axis", "num_outputs"])
        .became(&[("split", 13, 1)])
        .need(size::split)
        .whole(MOVES),
    operator("Sqrt"),
    operator("Squeeze").became(&[("axes", 13, 1)]).whole(MOVES),
    pairs("Sub").whole(Whole::Sums),
    pairs("Sum").whole(Whole::Sums),
    operator("Swish").with(&["alpha"]),
    operator("Tan"),
    operator("Tanh"),
    operator("ThresholdedRelu").with(&["alpha"]),
    operator("Tile").need(size::tile).whole(MOVES),
    operator("TopK")
        .with(&["axis", "largest", "sorted"])
        .became(&[("k", 10, 1)])
        .need(size::top_k)
        .gives(&[Like(0), I64]),
    operator("Transpose").with(&["perm"]).whole(MOVES),
    operator("Trilu").with(&["upper"]).whole(MOVES),
    operator("Unsqueeze").became(&[("axes", 13, 1)]).whole(MOVES),
    operator("Upsample").with(&["mode"]).became(&[("scales", 9, 1)]).need(size::resize),
    pairs("Where").whole(Whole::Moves(1, 2)).gives(&[Like(1)]),
    compares("Xor"),
    operator("com.microsoft.BiasGelu"),
    operator("com.microsoft.DynamicQuantizeLSTM")
        .with(&[
            "activation_alpha",
            "activation_beta",
            "activations",
            "clip",
            "direction",
            "hidden_size",
            "input_forget",
        ])
        .need(size::quantised_lstm),
    operator("com.microsoft.FastGelu"),
    operator("com.microsoft.Gelu"),
    operator("com.microsoft.QuickGelu").with(&["alpha"]),
    operator("com.microsoft.SkipLayerNormalization").with(&["epsilon"]),
];

/// The operator with this name.
pub(crate) fn find(name: &str) -> Option<&'static Operator> {
    OPERATORS.binary_search_by(|operator| operator.name.cmp(name)).ok().map(|at| &OPERATORS[at])
}

impl Operator {
    /// Refuses attributes that the operator does not have at an opset.
    pub(crate) fn check(&self, call: &Call) -> Result<(), String> {
        for key in call.node.attributes.keys() {
            let became = self.became.iter().find(|(name, ..)| name == key);
            match became {
                Some((_, since, _)) if call.opset < *since => {}
                Some((_, since, _)) => {
                    return Err(format!(
                        "attribute {key}: it is an input since opset {since}; this model uses opset {}",
                        call.opset
                    ));
                }
                None if self.attributes.contains(&key.as_str()) => {}
                None if let Some((_, default)) = self.defaults.iter().find(|(name, _)| name == key) => {
                    match call.node.int(key)? {
                        Some(value) if value != *default => {
                            return Err(format!("attribute {key}: expected {default}, found {value}"));
                        }
                        _ => {}
                    }
                }
                None => {
                    let mut known = self.attributes.to_vec();
                    known.extend(self.became.iter().map(|(name, ..)| name));
                    known.extend(self.defaults.iter().map(|(name, _)| name));
                    return Err(format!("the attribute {key} is not one of {}", known.join(", ")));
                }
            }
        }
        Ok(())
    }

    /// The type of a result.
    pub(crate) fn type_of_result(&self, at: usize) -> Gives {
        *self.gives.get(at).or(self.gives.last()).unwrap_or(&Like(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rows_are_in_order() {
        let wrong: Vec<&str> = OPERATORS
            .windows(2)
            .filter(|pair| pair[0].name >= pair[1].name)
            .map(|pair| pair[1].name)
            .collect();
        assert!(wrong.is_empty(), "{wrong:?}");
    }
}
