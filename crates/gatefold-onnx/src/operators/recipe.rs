//! The model that the library runs for a node: the node itself, or other nodes that compute the same.
//!
//! The library differs silently from ONNX in some operators (the defaults of a convolution, the axis of an old Softmax,
//! ties of ArgMax, NaN, and more) and lacks others. Each of those has its own words here.

use super::library::{element_named, input_name, output_name, outputs, stored};
use super::table::{Operator, find};
use super::{Call, Convolution, axis};
use crate::graph::{Attribute, Node};
use crate::proto::attribute_proto::AttributeType;
use crate::proto::tensor_proto::DataType;
use crate::proto::{AttributeProto, NodeProto, TensorProto};
use crate::tensor::{ElementType, Tensor};
use ndarray::{ArrayD, IxDyn, arr0, arr1};

mod quantised;
mod words;

/// The nodes of a model in the library, whose inputs are [`input_name`] and whose outputs are [`output_name`].
#[derive(Default)]
pub(super) struct Recipe {
    pub(super) nodes: Vec<NodeProto>,
    pub(super) constants: Vec<TensorProto>,
    /// Whether it holds for the shapes of these inputs only.
    pub(super) by_shape: bool,
    /// Whether it holds for the values of this call only.
    pub(super) once: bool,
}

/// Results that need no arithmetic: constants, shapes, and tensors as they are.
pub(super) fn without_arithmetic(call: &Call) -> Result<Option<Vec<Tensor>>, String> {
    Ok(Some(match &*call.node.operator {
        "Constant" => vec![constant(call.node)?],
        "Identity" => vec![call.required(0)?.clone()],
        "Shape" => vec![shape(call)?],
        "Size" => vec![Tensor::I64(arr0(call.required(0)?.len() as i64).into_dyn())],
        "Dropout" => dropout(call)?,
        _ => return Ok(None),
    }))
}

fn constant(node: &Node) -> Result<Tensor, String> {
    if node.attributes.len() != 1 {
        return Err("expected exactly one attribute, its value".into());
    }
    Ok(if let Some(tensor) = node.tensor("value")? {
        tensor.clone()
    } else if let Some(value) = node.int("value_int")? {
        Tensor::I64(arr0(value).into_dyn())
    } else if let Some(values) = node.ints("value_ints")? {
        Tensor::of_integers(values.to_vec())
    } else if let Some(value) = node.float("value_float")? {
        Tensor::F32(arr0(value).into_dyn())
    } else {
        Tensor::F32(arr1(node.floats("value_floats")?).into_dyn())
    })
}

fn shape(call: &Call) -> Result<Tensor, String> {
    let shape: Vec<i64> = call.shape(0)?.iter().map(|&len| len as i64).collect();
    let axes = shape.len() as i64;
    let clamp =
        |value: i64| (if value < 0 { value.saturating_add(axes) } else { value }).clamp(0, axes) as usize;
    let (start, end) = (clamp(call.node.int_or("start", 0)?), clamp(call.node.int_or("end", axes)?));
    Ok(Tensor::of_integers(shape.get(start..end).unwrap_or_default().to_vec()))
}

/// Dropout in inference, which drops nothing.
fn dropout(call: &Call) -> Result<Vec<Tensor>, String> {
    let input = call.required(0)?;
    let trains = match call.optional(2) {
        None => false,
        Some(Tensor::Bool(mode)) if mode.len() == 1 => mode.iter().any(|&on| on),
        Some(_) => return Err("its training mode is not a single bool".into()),
    };
    if trains {
        return Err("it drops values, as in training; export the model for inference".into());
    }
    // Before opset 10 the mask had the input's type.
    let shape = IxDyn(input.shape());
    Ok(match (outputs(call.node) > 1, input) {
        (false, _) => vec![input.clone()],
        (true, Tensor::F32(_)) if call.opset < 10 => {
            vec![input.clone(), Tensor::F32(ArrayD::from_elem(shape, 1.0))]
        }
        (true, _) => vec![input.clone(), Tensor::Bool(ArrayD::from_elem(shape, true))],
    })
}

/// Floats by one number. The library multiplies by its reciprocal, which rounds otherwise.
pub(super) fn divided(call: &Call) -> Result<Option<Vec<Tensor>>, String> {
    let ("Div", Some(Tensor::F32(a)), Some(Tensor::F32(b))) =
        (&*call.node.operator, call.optional(0), call.optional(1))
    else {
        return Ok(None);
    };
    if b.len() != 1 {
        return Ok(None);
    }
    let (shape, divisor) = (super::broadcast(a.shape(), b.shape())?, b.iter().sum::<f32>());
    let quotient = a.mapv(|value| value / divisor);
    let quotient = quotient.into_shape_with_order(IxDyn(&shape)).map_err(|error| error.to_string())?;
    Ok(Some(vec![Tensor::F32(quotient)]))
}

/// A number that chooses among the models of a node by the values of its inputs.
pub(super) fn variant(call: &Call) -> u8 {
    match (&*call.node.operator, call.optional(0)) {
        ("Relu" | "Clip", Some(Tensor::F32(array))) => u8::from(has_nan(array)),
        _ => 0,
    }
}

fn has_nan(array: &ArrayD<f32>) -> bool {
    let any = |values: &[f32]| {
        // Without a way out of the inner loop, it runs on vectors.
        values.chunks(1024).any(|chunk| chunk.iter().fold(false, |found, value| found | value.is_nan()))
    };
    array.as_slice().map_or_else(|| array.iter().any(|value| value.is_nan()), any)
}

/// The model of a node.
pub(super) fn recipe(operator: &Operator, call: &Call, variant: u8) -> Result<Recipe, String> {
    let mut recipe = Recipe::default();
    match operator.name {
        "ArgMax" | "ArgMin" => recipe.arg(call)?,
        "AveragePool" | "MaxPool" => recipe.pool(call)?,
        "Cast" | "CastLike" => recipe.cast(call)?,
        "Celu" => recipe.celu(call)?,
        "Clip" | "Relu" if variant == 1 => recipe.keeping_nan(call)?,
        "Conv" | "ConvTranspose" => recipe.convolution(call)?,
        "ConvInteger" => recipe.whole_convolution(call)?,
        "DynamicQuantizeLinear" => recipe.dynamic_quantize()?,
        "GroupNormalization" => recipe.group_normalization(call)?,
        "Hardmax" | "LogSoftmax" | "Softmax" => recipe.softmax(call)?,
        "MatMul" if call.shape(1)?.len() == 1 && call.shape(0)?.len() > 1 => recipe.times_vector()?,
        "MatMulInteger" => recipe.matmul_integer(call)?,
        "Mish" => recipe.mish(),
        "OneHot" => recipe.one_hot(call)?,
        "Pad" => recipe.pad(call)?,
        "Pow" => recipe.pow(call)?,
        "QuantizeLinear" => recipe.quantize(call)?,
        "ReduceMax" | "ReduceMin" => recipe.extreme(call)?,
        "Resize" => recipe.resize(call)?,
        "Selu" => recipe.selu(call)?,
        "Shrink" => recipe.shrink(call)?,
        "Sign" => recipe.sign()?,
        "SpaceToDepth" => recipe.space_to_depth(call)?,
        "ThresholdedRelu" => recipe.thresholded_relu(call)?,
        _ => recipe.as_written(call)?,
    }
    Ok(recipe)
}

impl Recipe {
    /// Adds a node with one output.
    fn node(&mut self, operator: &str, inputs: &[&str], output: &str, attributes: &[(&str, Attribute)]) {
        self.nodes.push(NodeProto {
            name: self.nodes.len().to_string(),
            op_type: operator.into(),
            input: inputs.iter().map(|&input| input.into()).collect(),
            output: vec![output.into()],
            attribute: attributes
                .iter()
                .map(|(key, value)| attribute(key, value).expect("a number or a list of them"))
                .collect(),
            ..Default::default()
        });
    }

    /// Adds a constant of one number or a list.
    fn constant(&mut self, name: &str, tensor: &Tensor) -> Result<(), String> {
        self.constants.push(stored(name, tensor, true)?);
        Ok(())
    }

    fn number(&mut self, name: &str, value: f32) -> Result<(), String> {
        self.constant(name, &Tensor::F32(arr0(value).into_dyn()))
    }

    fn integers(&mut self, name: &str, values: &[i64]) -> Result<(), String> {
        self.constant(name, &Tensor::of_integers(values.to_vec()))
    }

    /// The node as it is written, with some attributes changed or, if `None`, left out.
    fn rewritten(
        &mut self,
        call: &Call,
        operator: &str,
        changes: &[(&str, Option<Attribute>)],
    ) -> Result<(), String> {
        let (domain, name) = operator.rsplit_once('.').unwrap_or(("", operator));
        let defaults = find(&call.node.operator).map_or(&[][..], |operator| operator.defaults);
        let kept = call.node.attributes.iter().filter(|(key, _)| {
            let is_default = defaults.iter().any(|(name, _)| name == key);
            !is_default && !changes.iter().any(|(name, _)| name == key)
        });
        let mut attributes =
            kept.map(|(key, value)| attribute(key, value)).collect::<Result<Vec<_>, String>>()?;
        for (key, value) in changes {
            attributes.extend(value.as_ref().map(|value| attribute(key, value)).transpose()?);
        }
        self.nodes.push(NodeProto {
            name: "node".into(),
            op_type: name.into(),
            domain: domain.into(),
            input: call
                .inputs
                .iter()
                .enumerate()
                .map(|(at, input)| input.map_or(String::new(), |_| input_name(at)))
                .collect(),
            output: (0..outputs(call.node)).map(output_name).collect(),
            attribute: attributes,
            ..Default::default()
        });
        Ok(())
    }

    fn as_written(&mut self, call: &Call) -> Result<(), String> {
        self.rewritten(call, &call.node.operator, &[])
    }

    fn convolution(&mut self, call: &Call) -> Result<(), String> {
        let changes = self.convolution_options(call, call.shape(1)?)?;
        self.rewritten(call, &call.node.operator, &changes)
    }

    /// A convolution's options in full; the library takes missing ones for those of no axis.
    fn convolution_options(
        &mut self,
        call: &Call,
        weight: &[usize],
    ) -> Result<Vec<(&'static str, Option<Attribute>)>, String> {
        let conv = Convolution::of_node(call.node, weight)?;
        let axes = conv.kernel.len();
        if axes > 2 {
            return Err(format!("it is over {axes} axes; one or two are supported"));
        }
        let same = (0..axes).any(|axis| conv.padding(axis, None).is_none());
        let transposed = call.node.operator == "ConvTranspose";
        if transposed && !matches!(conv.padding, super::convolution::Padding::Steps(_)) {
            return Err("attribute auto_pad: expected NOTSET or VALID; give pads instead".into());
        }
        self.by_shape |= same;
        let ints =
            |values: &[usize]| Some(Attribute::Ints(values.iter().map(|&value| value as i64).collect()));
        let mut options = vec![
            ("auto_pad", None),
            ("kernel_shape", ints(&conv.kernel)),
            ("pads", Some(Attribute::Ints(conv.pads(call.shape(0)?)))),
            ("strides", ints(&conv.stride)),
        ];
        if !call.node.operator.ends_with("Pool") {
            options.push(("dilations", ints(&conv.dilation)));
        }
        Ok(options)
    }

    fn pool(&mut self, call: &Call) -> Result<(), String> {
        let kernel = call.node.ints("kernel_shape")?.ok_or("its kernel_shape is missing")?;
        let kernel: Vec<usize> = kernel.iter().map(|&len| usize::try_from(len).unwrap_or(0)).collect();
        let changes = self.convolution_options(call, &[&[1, 1], &kernel[..]].concat())?;
        self.rewritten(call, &call.node.operator, &changes)
    }

    /// A convolution of whole numbers, in f32: the library pads with 128 whatever the zero point is. Sums beyond 2^24
    /// are rounded.
    fn whole_convolution(&mut self, call: &Call) -> Result<(), String> {
        let options = self.convolution_options(call, call.shape(1)?)?;
        let axes = call.shape(1)?.len();
        for at in [0, 1] {
            let (name, float, zero) = (input_name(at), format!("float{at}"), input_name(at + 2));
            let shifted = format!("shifted{at}");
            self.node("Cast", &[&name], &float, &[("to", Attribute::Int(DataType::Float as i64))]);
            let Some(point) = call.optional(at + 2) else {
                self.node("Identity", &[&float], &shifted, &[]);
                continue;
            };
            // One zero point for each output channel of the weight.
            let shape = [&[-1][..], &vec![1; axes - 1]].concat();
            let shape = if at == 1 && point.len() > 1 { &shape[..] } else { &[1] };
            let (shape_name, zero_float) = (format!("shape{at}"), format!("zero_float{at}"));
            self.integers(&shape_name, shape)?;
            self.node("Cast", &[&zero], &zero_float, &[("to", Attribute::Int(DataType::Float as i64))]);
            self.node("Reshape", &[&zero_float, &shape_name], &format!("zero{at}"), &[]);
            self.node("Sub", &[&float, &format!("zero{at}")], &shifted, &[]);
        }
        let group = call.node.attributes.get("group").map(|group| ("group", group.clone()));
        let options: Vec<(&str, Attribute)> = options
            .into_iter()
            .filter_map(|(key, value)| value.map(|value| (key, value)))
            .chain(group)
            .collect();
        self.node("Conv", &["shifted0", "shifted1"], "sums", &options);
        self.node("Round", &["sums"], "rounded", &[]);
        self.node("Cast", &["rounded"], &output_name(0), &[("to", Attribute::Int(DataType::Int32 as i64))]);
        Ok(())
    }

    /// The library casts to its int32 where ONNX casts to bool, and there 0.5 is 0.
    fn cast(&mut self, call: &Call) -> Result<(), String> {
        let to = match call.optional(1) {
            Some(like) => like.element(),
            None => element_named(call.node, "to")?,
        };
        let input = call.required(0)?;
        let name = input_name(0);
        if to == ElementType::Bool {
            if let Tensor::F32(_) = input {
                self.number("zero", 0.0)?;
                self.node("Equal", &[&name, "zero"], "is_zero", &[]);
            } else {
                self.constant("zero", &Tensor::I32(arr0(0).into_dyn()))?;
                self.node("Cast", &[&name], "whole", &[("to", Attribute::Int(DataType::Int32 as i64))]);
                self.node("Equal", &["whole", "zero"], "is_zero", &[]);
            }
            self.node("Not", &["is_zero"], &output_name(0), &[]);
            return Ok(());
        }
        let code = match to {
            ElementType::I64 | ElementType::I32 => DataType::Int32,
            ElementType::U8 => DataType::Uint8,
            ElementType::I8 => DataType::Int8,
            _ => DataType::Float,
        };
        self.node("Cast", &[&name], &output_name(0), &[("to", Attribute::Int(code as i64))]);
        Ok(())
    }

    fn pad(&mut self, call: &Call) -> Result<(), String> {
        let data = call.required(0)?.element();
        if call.node.attributes.contains_key("value") && data != ElementType::F32 {
            self.rewritten(call, "Pad", &[("value", None)])?;
            return match call.node.float("value")? {
                Some(value) if value != 0.0 => Err(format!("its value {value} is no {data}")),
                _ => Ok(()),
            };
        }
        match call.integers(3)? {
            Some(along) => self.pad_along(call, &along),
            None => self.as_written(call),
        }
    }

    /// Padding of some axes, as padding of all; the library does not know the input `axes`.
    fn pad_along(&mut self, call: &Call, along: &[i64]) -> Result<(), String> {
        let (count, given) = (call.shape(0)?.len(), call.integers(1)?.unwrap_or_default());
        let mut pads = vec![0; 2 * count];
        for (k, &place) in along.iter().enumerate() {
            let place = axis(place, count)?;
            pads[place] = given[k];
            pads[place + count] = given[k + along.len()];
        }
        self.once = true;
        self.integers("all_pads", &pads)?;
        self.rewritten(call, "Pad", &[])?;
        if let Some(node) = self.nodes.last_mut() {
            node.input.truncate(3);
            node.input[1] = "all_pads".into();
        }
        Ok(())
    }

    /// The largest or smallest of no whole numbers is the least or most of their type, which the library does not know.
    fn extreme(&mut self, call: &Call) -> Result<(), String> {
        let input = call.required(0)?;
        if input.is_empty() && input.element() != ElementType::F32 {
            return Err(format!("it reduces no elements of type {}", input.element()));
        }
        self.as_written(call)
    }

    /// The library raises floats to floats and whole numbers to either.
    fn pow(&mut self, call: &Call) -> Result<(), String> {
        let (base, power) = (call.required(0)?, call.required(1)?);
        if base.element() == ElementType::F32 && power.element() != ElementType::F32 {
            self.node("Cast", &[&input_name(1)], "power", &[("to", Attribute::Int(DataType::Float as i64))]);
            self.node("Pow", &[&input_name(0), "power"], &output_name(0), &[]);
            return Ok(());
        }
        self.as_written(call)
    }

    fn resize(&mut self, call: &Call) -> Result<(), String> {
        if call.node.text("mode")? == Some("cubic") {
            return Err("attribute mode: cubic is not supported; expected nearest or linear".into());
        }
        if call.opset < 11 {
            return self.rewritten(call, "Upsample", &[]);
        }
        let whole = |(&len, scale): (&usize, &f32)| (len as f32 * scale).fract() == 0.0;
        let aligns = call.node.text("coordinate_transformation_mode")? == Some("align_corners");
        if let (true, Some(Tensor::F32(scales))) = (aligns, call.optional(2))
            && !call.shape(0)?.iter().zip(scales).all(whole)
        {
            return Err(
                "it aligns the corners of sizes that are not whole; give sizes instead of scales".into()
            );
        }
        self.as_written(call)
    }

    /// A softmax along one axis; before opset 13, along that axis and all after it, flattened.
    fn softmax(&mut self, call: &Call) -> Result<(), String> {
        let axes = call.shape(0)?.len();
        let flattens = call.opset < 13;
        let along = call.node.int_or("axis", if flattens { 1 } else { -1 })?;
        // Flattening may split after the last axis: rows of one element.
        let ends = flattens && usize::try_from(along) == Ok(axes);
        let along = if ends { axes } else { axis(along, axes)? };
        let (input, output, operator) = (input_name(0), output_name(0), &*call.node.operator);
        if !flattens || along + 1 == axes {
            return self.soft(operator, &input, along, &output);
        }
        self.node("Flatten", &[&input], "flat", &[("axis", Attribute::Int(along as i64))]);
        self.soft(operator, "flat", 1, "result")?;
        self.node("Shape", &[&input], "shape", &[]);
        self.node("Reshape", &["result", "shape"], &output, &[("allowzero", Attribute::Int(1))]);
        Ok(())
    }

    fn soft(&mut self, operator: &str, input: &str, along: usize, output: &str) -> Result<(), String> {
        if operator == "Hardmax" {
            return self.hardmax(input, along, output);
        }
        self.node(operator, &[input], output, &[("axis", Attribute::Int(along as i64))]);
        Ok(())
    }
}

/// An attribute as the file format has it.
fn attribute(key: &str, value: &Attribute) -> Result<AttributeProto, String> {
    let mut proto = AttributeProto { name: key.into(), ..Default::default() };
    let kind = match value {
        Attribute::Int(value) => {
            proto.i = *value;
            AttributeType::Int
        }
        Attribute::Float(value) => {
            proto.f = *value;
            AttributeType::Float
        }
        Attribute::Text(text) => {
            proto.s = text.as_bytes().to_vec();
            AttributeType::String
        }
        Attribute::Ints(values) => {
            proto.ints = values.clone();
            AttributeType::Ints
        }
        Attribute::Floats(values) => {
            proto.floats = values.clone();
            AttributeType::Floats
        }
        Attribute::Texts(texts) => {
            proto.strings = texts.iter().map(|text| text.as_bytes().to_vec()).collect();
            AttributeType::Strings
        }
        Attribute::Tensor(tensor) => {
            proto.t = Some(stored("", tensor, false)?);
            AttributeType::Tensor
        }
        Attribute::Graph(_) => return Err(format!("the attribute {key} is a graph")),
    };
    proto.r#type = kind as i32;
    Ok(proto)
}
