//! Quantisation as ONNX rounds it; the library multiplies by the reciprocal of a scale, which rounds other ties.

use super::super::Call;
use super::super::library::{element_named, input_name, output_name};
use super::Recipe;
use crate::graph::Attribute;
use crate::proto::tensor_proto::DataType;
use crate::tensor::{ElementType, Tensor};
use ndarray::arr1;

const FLOAT: [(&str, Attribute); 1] = [("to", Attribute::Int(DataType::Float as i64))];

impl Recipe {
    pub(super) fn quantize(&mut self, call: &Call) -> Result<(), String> {
        let (x, scale) = (call.shape(0)?, call.required(1)?);
        for (key, neutral) in [("block_size", 0), ("precision", 0), ("saturate", 1)] {
            if call.node.int_or(key, neutral)? != neutral {
                return Err(format!("attribute {key}: expected {neutral}"));
            }
        }
        let to = match call.optional(2) {
            Some(zero) => zero.element(),
            None if call.node.int_or("output_dtype", 0)? != 0 => element_named(call.node, "output_dtype")?,
            None => ElementType::U8,
        };
        let scale_name = input_name(1);
        let shape = if scale.len() == 1 {
            vec![1]
        } else {
            let along = super::super::axis(call.node.int_or("axis", 1)?, x.len())?;
            if scale.shape() != [x[along]] {
                return Err(format!(
                    "its scales of shape {:?} do not fit axis {along} of {x:?}",
                    scale.shape()
                ));
            }
            [&[-1][..], &vec![1; x.len() - along - 1]].concat()
        };
        self.integers("along", &shape)?;
        self.node("Reshape", &[&scale_name, "along"], "scale", &[]);
        match call.optional(2) {
            Some(_) => {
                self.node("Cast", &[&input_name(2)], "flat_zero", &FLOAT);
                self.node("Reshape", &["flat_zero", "along"], "zero", &[]);
            }
            None => self.number("zero", 0.0)?,
        }
        self.rounded(&input_name(0), to, &output_name(0))
    }

    /// Values by a scale, rounded and moved by a zero point, within the bounds of a type.
    fn rounded(&mut self, x: &str, to: ElementType, output: &str) -> Result<(), String> {
        let (least, most, code) = match to {
            ElementType::U8 => (0.0, 255.0, DataType::Uint8),
            ElementType::I8 => (-128.0, 127.0, DataType::Int8),
            other => return Err(format!("it quantises to {other}; uint8 and int8 are supported")),
        };
        self.number("least", least)?;
        self.number("most", most)?;
        // By one number the library does not divide, it multiplies by the reciprocal.
        self.node("Shape", &[x], "shape", &[]);
        self.node("Expand", &["scale", "shape"], "scales", &[]);
        self.node("Div", &[x, "scales"], "scaled", &[]);
        self.node("Round", &["scaled"], "whole", &[]);
        self.node("Add", &["whole", "zero"], "moved", &[]);
        self.node("Clip", &["moved", "least", "most"], "bounded", &[]);
        self.node("Cast", &["bounded"], output, &[("to", Attribute::Int(code as i64))]);
        Ok(())
    }

    /// The scale is that of the values and 0; of zeros alone it is 1.
    pub(super) fn dynamic_quantize(&mut self) -> Result<(), String> {
        let x = input_name(0);
        let scalar = [("keepdims", Attribute::Int(0))];
        self.number("nothing", 0.0)?;
        self.number("one", 1.0)?;
        self.number("most_zero", 255.0)?;
        // By one number the library does not divide, so there are two.
        self.constant("levels", &Tensor::F32(arr1(&[255.0, 255.0]).into_dyn()))?;
        self.integers("two", &[2])?;
        for (reduce, bound, name) in [("ReduceMax", "Max", "top"), ("ReduceMin", "Min", "bottom")] {
            self.node(reduce, &[&x], &format!("own_{name}"), &scalar);
            self.node(bound, &[&format!("own_{name}"), "nothing"], name, &[]);
        }
        self.node("Sub", &["top", "bottom"], "range", &[]);
        self.node("Div", &["range", "levels"], "two_levels", &[]);
        self.node("ReduceMax", &["two_levels"], "level", &scalar);
        self.node("Equal", &["top", "bottom"], "is_zero", &[]);
        self.node("Where", &["is_zero", "one", "level"], "scale", &[]);
        self.node("Identity", &["scale"], &output_name(1), &[]);
        self.node("Neg", &["bottom"], "below", &[]);
        self.node("Expand", &["scale", "two"], "two_scales", &[]);
        self.node("Div", &["below", "two_scales"], "two_zeros", &[]);
        self.node("ReduceMax", &["two_zeros"], "far_zero", &scalar);
        self.node("Round", &["far_zero"], "round_zero", &[]);
        self.node("Clip", &["round_zero", "nothing", "most_zero"], "zero", &[]);
        self.node("Cast", &["zero"], &output_name(2), &[("to", Attribute::Int(DataType::Uint8 as i64))]);
        self.rounded(&x, ElementType::U8, &output_name(0))
    }
}
