//! Operators that the library lacks, or takes otherwise, in words that it knows.

use super::super::library::{input_name, output_name};
use super::super::{Call, axis};
use super::Recipe;
use crate::graph::Attribute;
use crate::proto::tensor_proto::DataType;
use crate::tensor::Tensor;
use ndarray::arr1;

impl Recipe {
    /// Of equal elements the first; the library finds the last.
    pub(super) fn arg(&mut self, call: &Call) -> Result<(), String> {
        let along = axis(call.node.int_or("axis", 0)?, call.shape(0)?.len())?;
        if call.node.int_or("select_last_index", 0)? != 0 {
            return self.rewritten(call, &call.node.operator, &[("select_last_index", None)]);
        }
        let keep = call.node.int_or("keepdims", 1)?;
        self.first(&call.node.operator, &input_name(0), along, keep, &output_name(0))
    }

    /// The last of the reversed elements, counted from the end.
    fn first(
        &mut self,
        operator: &str,
        input: &str,
        along: usize,
        keep: i64,
        output: &str,
    ) -> Result<(), String> {
        let place = along as i64;
        self.integers("end", &[-1])?;
        self.integers("begin", &[i64::MIN])?;
        self.integers("along", &[place])?;
        self.constant("one", &Tensor::I64(ndarray::arr0(1).into_dyn()))?;
        self.integers("only", &[0])?;
        self.node("Slice", &[input, "end", "begin", "along", "end"], "reversed", &[]);
        let attributes = [("axis", Attribute::Int(place)), ("keepdims", Attribute::Int(keep))];
        self.node(operator, &["reversed"], "from_end", &attributes);
        self.node(
            "Shape",
            &[input],
            "lens",
            &[("start", Attribute::Int(place)), ("end", Attribute::Int(place + 1))],
        );
        self.node("Squeeze", &["lens", "only"], "len", &[]);
        self.node("Sub", &["len", "one"], "last", &[]);
        self.node("Sub", &["last", "from_end"], output, &[]);
        Ok(())
    }

    /// 1 at the first largest element along an axis, 0 elsewhere.
    pub(super) fn hardmax(&mut self, input: &str, along: usize, output: &str) -> Result<(), String> {
        self.first("ArgMax", input, along, 0, "place")?;
        self.constant("zero_one", &Tensor::F32(arr1(&[0.0, 1.0]).into_dyn()))?;
        self.node("OneHot", &["place", "len", "zero_one"], output, &[("axis", Attribute::Int(along as i64))]);
        Ok(())
    }

    /// Relu and Clip, where NaN stays NaN.
    pub(super) fn keeping_nan(&mut self, call: &Call) -> Result<(), String> {
        self.as_written(call)?;
        if let Some(node) = self.nodes.last_mut() {
            node.output = vec!["cut".into()];
        }
        self.node("IsNaN", &[&input_name(0)], "is_nan", &[]);
        self.node("Where", &["is_nan", &input_name(0), "cut"], &output_name(0), &[]);
        Ok(())
    }

    /// Comparisons with 0; the library says that the sign of 0 is 1.
    pub(super) fn sign(&mut self) -> Result<(), String> {
        let input = input_name(0);
        self.constant("zero_whole", &Tensor::I64(ndarray::arr0(0).into_dyn()))?;
        self.node("CastLike", &["zero_whole", &input], "zero", &[]);
        for (operator, name) in [("Greater", "above"), ("Less", "below")] {
            self.node(operator, &[&input, "zero"], name, &[]);
            self.node("CastLike", &[name, &input], &format!("{name}_like"), &[]);
        }
        self.node("Sub", &["above_like", "below_like"], &output_name(0), &[]);
        Ok(())
    }

    /// Matrices times one vector.
    pub(super) fn times_vector(&mut self) -> Result<(), String> {
        self.integers("last", &[-1])?;
        self.node("Unsqueeze", &[&input_name(1), "last"], "column", &[]);
        self.node("MatMul", &[&input_name(0), "column"], "columns", &[]);
        self.node("Squeeze", &["columns", "last"], &output_name(0), &[]);
        Ok(())
    }

    /// A zero point may be a list of one number, which the library takes for one of a row.
    pub(super) fn matmul_integer(&mut self, call: &Call) -> Result<(), String> {
        self.as_written(call)?;
        let lone = |at: &usize| call.optional(*at).is_some_and(|zero| zero.shape() == [1]);
        for at in [2, 3].into_iter().filter(lone) {
            let name = format!("zero{at}");
            let (node, inputs) = (self.nodes.len() - 1, input_name(at));
            self.nodes[node].input[at] = name.clone();
            self.node("Squeeze", &[&inputs], &name, &[]);
            self.nodes.rotate_right(1);
        }
        Ok(())
    }

    /// Indices and the depth may be of any type.
    pub(super) fn one_hot(&mut self, call: &Call) -> Result<(), String> {
        self.as_written(call)?;
        let whole = [("to", Attribute::Int(DataType::Int32 as i64))];
        for at in [0, 1] {
            let name = format!("whole{at}");
            if let Some(node) = self.nodes.last_mut() {
                node.input[at] = name.clone();
            }
            self.node("Cast", &[&input_name(at)], &name, &whole);
            self.nodes.rotate_right(1);
        }
        Ok(())
    }

    pub(super) fn selu(&mut self, call: &Call) -> Result<(), String> {
        // ONNX's defaults, of more digits than f32 has.
        let alpha = call.node.float("alpha")?.unwrap_or(1.673_263_2);
        self.number("gamma", call.node.float("gamma")?.unwrap_or(1.050_701))?;
        self.node("Elu", &[&input_name(0)], "elu", &[("alpha", Attribute::Float(alpha))]);
        self.node("Mul", &["elu", "gamma"], &output_name(0), &[]);
        Ok(())
    }

    pub(super) fn celu(&mut self, call: &Call) -> Result<(), String> {
        self.number("alpha", call.node.float("alpha")?.unwrap_or(1.0))?;
        self.node("Div", &[&input_name(0), "alpha"], "scaled", &[]);
        self.node("Elu", &["scaled"], "elu", &[]);
        self.node("Mul", &["elu", "alpha"], &output_name(0), &[]);
        Ok(())
    }

    pub(super) fn mish(&mut self) {
        let input = input_name(0);
        self.node("Softplus", &[&input], "softplus", &[]);
        self.node("Tanh", &["softplus"], "tanh", &[]);
        self.node("Mul", &[&input, "tanh"], &output_name(0), &[]);
    }

    pub(super) fn thresholded_relu(&mut self, call: &Call) -> Result<(), String> {
        self.number("alpha", call.node.float("alpha")?.unwrap_or(1.0))?;
        self.number("zero", 0.0)?;
        self.node("LessOrEqual", &[&input_name(0), "alpha"], "small", &[]);
        self.node("Where", &["small", "zero", &input_name(0)], &output_name(0), &[]);
        Ok(())
    }

    pub(super) fn shrink(&mut self, call: &Call) -> Result<(), String> {
        let bound = call.node.float("lambd")?.unwrap_or(0.5);
        let input = input_name(0);
        self.number("bias", call.node.float("bias")?.unwrap_or(0.0))?;
        self.number("upper", bound)?;
        self.number("lower", -bound)?;
        self.number("zero", 0.0)?;
        self.node("Greater", &[&input, "upper"], "above", &[]);
        self.node("Less", &[&input, "lower"], "below", &[]);
        self.node("Sub", &[&input, "bias"], "less", &[]);
        self.node("Add", &[&input, "bias"], "more", &[]);
        self.node("Where", &["above", "less", "zero"], "right", &[]);
        self.node("Where", &["below", "more", "right"], &output_name(0), &[]);
        Ok(())
    }

    /// Each group of channels normalised, then scaled: by channel, or before opset 21 by group.
    pub(super) fn group_normalization(&mut self, call: &Call) -> Result<(), String> {
        let groups = call.node.int("num_groups")?.ok_or("its num_groups is missing")?;
        let (axes, count) = (call.shape(0)?.len(), usize::try_from(groups).unwrap_or(0));
        if count == 0 || axes < 2 || !call.shape(0)?[1].is_multiple_of(count) {
            return Err(format!("its {groups} groups do not divide an input of shape {:?}", call.shape(0)?));
        }
        let (input, scale, bias) = (input_name(0), input_name(1), input_name(2));
        let epsilon = [("epsilon", Attribute::Float(call.node.float("epsilon")?.unwrap_or(1e-5)))];
        self.integers("by_group", &[0, groups, -1])?;
        self.node("Reshape", &[&input, "by_group"], "grouped", &[]);
        self.node("Shape", &[&input], "shape", &[]);
        if call.opset < 21 {
            self.node("InstanceNormalization", &["grouped", &scale, &bias], "normal", &epsilon);
            self.node("Reshape", &["normal", "shape"], &output_name(0), &[]);
            return Ok(());
        }
        self.constant("ones", &Tensor::F32(arr1(&vec![1.0; count]).into_dyn()))?;
        self.constant("zeros", &Tensor::F32(arr1(&vec![0.0; count]).into_dyn()))?;
        self.integers("by_channel", &[&[-1][..], &vec![1; axes - 2]].concat())?;
        self.node("InstanceNormalization", &["grouped", "ones", "zeros"], "normal", &epsilon);
        self.node("Reshape", &["normal", "shape"], "back", &[]);
        self.node("Reshape", &[&scale, "by_channel"], "scales", &[]);
        self.node("Reshape", &[&bias, "by_channel"], "biases", &[]);
        self.node("Mul", &["back", "scales"], "scaled", &[]);
        self.node("Add", &["scaled", "biases"], &output_name(0), &[]);
        Ok(())
    }

    /// Blocks of positions as channels: the positions within a block become the outer part of the channels.
    pub(super) fn space_to_depth(&mut self, call: &Call) -> Result<(), String> {
        let &[batch, channels, height, width] = call.shape(0)? else {
            return Err(format!("its input has shape {:?}; expected four axes", call.shape(0)?));
        };
        let block = call.node.int("blocksize")?.and_then(|block| usize::try_from(block).ok());
        let block =
            block.filter(|&block| block > 0 && height.is_multiple_of(block) && width.is_multiple_of(block));
        let block = block.ok_or_else(|| format!("its blocks do not divide {height} by {width} positions"))?;
        let order: &[i64] = match call.node.text("mode")?.unwrap_or("DCR") {
            "DCR" => &[0, 3, 5, 1, 2, 4],
            "CRD" => &[0, 1, 3, 5, 2, 4],
            other => return Err(format!("attribute mode: {other:?} is not known")),
        };
        self.by_shape = true;
        let whole = |lens: &[usize]| {
            Tensor::I64(arr1(&lens.iter().map(|&len| len as i64).collect::<Vec<_>>()).into_dyn())
        };
        let (rows, columns) = (height / block, width / block);
        self.constant("blocks", &whole(&[batch, channels, rows, block, columns, block]))?;
        self.constant("result", &whole(&[batch, channels * block * block, rows, columns]))?;
        self.node("Reshape", &[&input_name(0), "blocks"], "split", &[]);
        self.node("Transpose", &["split"], "turned", &[("perm", Attribute::Ints(order.to_vec()))]);
        self.node("Reshape", &["turned", "result"], &output_name(0), &[]);
        Ok(())
    }
}
