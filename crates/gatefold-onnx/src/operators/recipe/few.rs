//! Convolutions with few results along their axis, as a product of their windows with the weight: the library computes
//! 32 neighbouring results at a time, and most of those would be for nothing.

use super::super::Convolution;
use super::super::library::{input_name, output_name};
use super::{Call, Recipe};
use crate::graph::Attribute;
use crate::tensor::Tensor;
use ndarray::Ix3;

/// The most results along the axis for which the product is faster.
const MOST: usize = 8;
/// The fewest outputs for which it is.
const FEWEST_OUTPUTS: usize = 16;

impl Recipe {
    /// The recipe for a constant weight; `None` where it would not be faster.
    pub(in super::super) fn few_steps(call: &Call) -> Result<Option<Recipe>, String> {
        let (&[1, channels, steps], Tensor::F32(weight)) = (call.shape(0)?, call.required(1)?) else {
            return Ok(None);
        };
        let conv = Convolution::of_node(call.node, weight.shape())?;
        let results = conv.result(call.shape(0)?, weight.shape())?;
        let (outputs, places) = (results[1], results[2]);
        if conv.groups != 1 || places > MOST || outputs < FEWEST_OUTPUTS {
            return Ok(None);
        }
        let mut recipe = Recipe { by_shape: true, ..Recipe::default() };
        let (kernel, (before, after)) =
            (conv.kernel[0], conv.padding(0, Some(steps)).ok_or("its padding is not known")?);
        let mut x = input_name(0);
        if before + after > 0 {
            recipe.integers("pads", &[0, 0, before as i64, 0, 0, after as i64])?;
            recipe.node("Pad", &[&x, "pads"], "padded", &[]);
            x = "padded".into();
        }
        // [places, channels kernel]: each window, as the weight has it.
        recipe.integers("windows_shape", &[places as i64, (channels * kernel) as i64])?;
        let whole = places == 1 && conv.dilation[0] == 1 && steps + before + after == kernel;
        if !whole {
            let at = |place: usize| (0..kernel).map(move |k| (place, k));
            let steps: Vec<i64> = (0..places)
                .flat_map(at)
                .map(|(place, k)| (place * conv.stride[0] + k * conv.dilation[0]) as i64)
                .collect();
            recipe.integers("steps", &steps)?;
            recipe.node("Gather", &[&x, "steps"], "gathered", &[("axis", Attribute::Int(2))]);
            x = "gathered".into();
            if channels > 1 && places > 1 {
                recipe.integers("apart_shape", &[channels as i64, places as i64, kernel as i64])?;
                recipe.node("Reshape", &[&x, "apart_shape"], "apart", &[]);
                recipe.node("Transpose", &["apart"], "turned", &[("perm", Attribute::Ints(vec![1, 0, 2]))]);
                x = "turned".into();
            }
        }
        recipe.node("Reshape", &[&x, "windows_shape"], "windows", &[]);
        let columns = weight.view().into_dimensionality::<Ix3>().map_err(|error| error.to_string())?;
        let columns =
            columns.into_shape_with_order((outputs, channels * kernel)).map_err(|error| error.to_string())?;
        recipe.constant("columns", &Tensor::F32(columns.t().as_standard_layout().into_owned().into_dyn()))?;
        // The library packs the columns once for MatMul, but in each call for Gemm.
        recipe.node("MatMul", &["windows", "columns"], "product", &[]);
        let mut y = "product";
        if call.optional(2).is_some() {
            recipe.node("Add", &[y, &input_name(2)], "moved", &[]);
            y = "moved";
        }
        if places > 1 {
            recipe.node("Transpose", &[y], "back", &[("perm", Attribute::Ints(vec![1, 0]))]);
            y = "back";
        }
        recipe.integers("shape", &[1, outputs as i64, places as i64])?;
        recipe.node("Reshape", &[y, "shape"], &output_name(0), &[]);
        Ok(Some(recipe))
    }
}
