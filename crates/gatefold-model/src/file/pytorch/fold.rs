//! Normalisations that a state_dict holds and a network does not: `weight_norm` and `nn.BatchNorm1d`, folded into the
//! parameters beside them.
//!
//! | | folded | written back |
//! |---|---|---|
//! | `weight_norm` of a weight, dim 0 | `w = g v / abs(v)`, row by row | `v = w`, `g = abs(w)` |
//! | `nn.BatchNorm1d` in inference, `y = scale x + shift` | after a layer: `scale (W x + b) + shift`; before it: `W (scale x + shift) + b` | as one that changes nothing |

use super::super::tensors::shown;
use super::modules::{Kind, Shapes};
use super::order::Resolved;
use super::said;
use crate::{Activation, ModelError};
use ndarray::{Array2, ArrayD, Axis};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The epsilon of an `nn.BatchNorm1d` of which nothing else is said.
const EPS: f64 = 1e-5;

/// A weight that the file holds as magnitudes and directions.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct WeightNorm {
    magnitude: String,
    direction: String,
    parametrized: bool,
}

/// Weights by the names that they have without `weight_norm`.
pub(super) type WeightNorms = BTreeMap<String, WeightNorm>;

/// Finds the weights of `weight_norm`, and puts them into the shapes under their own names.
pub(super) fn weight_norms(shapes: &mut Shapes) -> Result<WeightNorms, String> {
    let mut found = WeightNorms::new();
    for magnitude in shapes.keys() {
        let Some((weight, direction, parametrized)) = of_magnitude(magnitude) else { continue };
        if shapes.contains_key(&direction) {
            found.insert(weight, WeightNorm { magnitude: magnitude.clone(), direction, parametrized });
        }
    }
    for (weight, norm) in &found {
        let magnitude = shapes.remove(&norm.magnitude).expect("it was found there");
        let direction = shapes.remove(&norm.direction).expect("it was found there");
        let mut expected = vec![1; direction.len()];
        expected.iter_mut().zip(&direction).take(1).for_each(|(rows, found)| *rows = *found);
        if direction.len() < 2 || magnitude != expected {
            return Err(format!(
                "tensor {} is of weight_norm: expected a magnitude {expected:?} for each row, which dim=0 gives, of {} \
                 {direction:?}; found {magnitude:?}; take it off in PyTorch with remove_parametrizations",
                shown(&norm.magnitude),
                shown(&norm.direction)
            ));
        }
        if shapes.insert(weight.clone(), direction).is_some() {
            return Err(format!("tensor {} is there twice, with weight_norm and without", shown(weight)));
        }
    }
    Ok(found)
}

/// The weight that a magnitude belongs to, the name of its direction, and whether the names are those of
/// `torch.nn.utils.parametrizations.weight_norm`, not of the older `torch.nn.utils.weight_norm`.
fn of_magnitude(name: &str) -> Option<(String, String, bool)> {
    if let Some(weight) = name.strip_suffix("_g") {
        return Some((weight.into(), format!("{weight}_v"), false));
    }
    let list = name.strip_suffix(".original0")?;
    let (before, leaf) = list.rsplit_once("parametrizations.")?;
    let whole = before.is_empty() || before.ends_with('.');
    (whole && !leaf.contains('.')).then(|| (format!("{before}{leaf}"), format!("{list}.original1"), true))
}

impl WeightNorm {
    /// The names of a weight's magnitudes and directions.
    pub(super) fn names(weight: &str, parametrized: bool) -> [String; 2] {
        if !parametrized {
            return [format!("{weight}_g"), format!("{weight}_v")];
        }
        let (before, leaf) = match weight.rsplit_once('.') {
            Some((module, leaf)) => (format!("{module}."), leaf),
            None => (String::new(), weight),
        };
        ["original0", "original1"].map(|part| format!("{before}parametrizations.{leaf}.{part}"))
    }

    pub(super) fn is_parametrized(&self) -> bool {
        self.parametrized
    }

    /// The weight: each row of the direction, scaled to its magnitude.
    fn weight(
        &self,
        load: &mut impl FnMut(&str) -> Result<ArrayD<f32>, ModelError>,
        refusal: &impl Fn(String) -> ModelError,
    ) -> Result<ArrayD<f32>, ModelError> {
        let (magnitude, mut weight) = (load(&self.magnitude)?, load(&self.direction)?);
        for ((row, mut values), magnitude) in weight.outer_iter_mut().enumerate().zip(&magnitude) {
            let norm = values.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt();
            if norm == 0.0 {
                let name = shown(&self.direction);
                return Err(refusal(format!("tensor {name}: row {row} is all zeros and has no direction")));
            }
            let factor = f64::from(*magnitude) / norm;
            values.mapv_inplace(|value| (f64::from(value) * factor) as f32);
        }
        Ok(weight)
    }
}

/// The magnitudes and directions whose weight is this one. A row of zeros gets the magnitude 0 of some direction.
pub(super) fn magnitudes_and_directions(weight: &ArrayD<f32>) -> [ArrayD<f32>; 2] {
    let mut direction = weight.clone();
    let mut shape = vec![1; weight.ndim()];
    shape[0] = weight.shape()[0];
    let mut magnitude = ArrayD::zeros(shape);
    for (mut row, magnitude) in direction.outer_iter_mut().zip(&mut magnitude) {
        let norm = row.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt();
        *magnitude = norm as f32;
        if norm == 0.0 {
            row.fill(1.0);
        }
    }
    [magnitude, direction]
}

/// An `nn.BatchNorm1d` in inference.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct BatchNorm {
    prefix: String,
    width: usize,
    affine: bool,
    eps: f64,
}

impl BatchNorm {
    fn tensor(&self, leaf: &str) -> String {
        if self.prefix.is_empty() { leaf.into() } else { format!("{}.{leaf}", self.prefix) }
    }

    /// The scale and the shift of each value.
    fn scale_and_shift(
        &self,
        load: &mut impl FnMut(&str) -> Result<ArrayD<f32>, ModelError>,
        refusal: &impl Fn(String) -> ModelError,
    ) -> Result<Vec<(f64, f64)>, ModelError> {
        let mut values = |leaf: &str, otherwise: f64| -> Result<Vec<f64>, ModelError> {
            if !self.affine && !leaf.starts_with("running") {
                return Ok(vec![otherwise; self.width]);
            }
            Ok(load(&self.tensor(leaf))?.iter().map(|&value| f64::from(value)).collect())
        };
        let (gain, bias) = (values("weight", 1.0)?, values("bias", 0.0)?);
        let (mean, variance) = (values("running_mean", 0.0)?, values("running_var", 1.0)?);
        if let Some(found) = variance.iter().find(|variance| **variance < 0.0 || **variance + self.eps <= 0.0)
        {
            let name = shown(&self.tensor("running_var"));
            return Err(refusal(format!("tensor {name}: expected variances above 0, found {found}")));
        }
        let of = |k: usize| {
            let scale = gain[k] / (variance[k] + self.eps).sqrt();
            (scale, bias[k] - scale * mean[k])
        };
        Ok((0..self.width).map(of).collect())
    }
}

/// A batch normalisation that a module takes in.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Fold {
    /// The one that its input has gone through.
    Before(BatchNorm),
    /// The one that its output goes through.
    After(BatchNorm),
}

impl Fold {
    fn norm(&self) -> &BatchNorm {
        match self {
            Fold::Before(norm) | Fold::After(norm) => norm,
        }
    }

    /// The module it was, as it is to be written again: one that changes nothing.
    pub(super) fn written(&self, has_bias: bool) -> WrittenNorm {
        let norm = self.norm();
        let bias = !has_bias && matches!(self, Fold::After(_));
        WrittenNorm { name: norm.prefix.clone(), width: norm.width, affine: norm.affine, eps: norm.eps, bias }
    }
}

/// A batch normalisation that was folded, as it is to be written again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct WrittenNorm {
    name: String,
    width: usize,
    affine: bool,
    eps: f64,
    /// Whether it holds the bias of a module that has none of its own.
    pub(super) bias: bool,
}

impl WrittenNorm {
    /// Its tensors, which change nothing, or only add a bias.
    pub(super) fn tensors(&self, bias: Option<&ArrayD<f32>>) -> Vec<(String, ArrayD<f32>)> {
        let filled = |value: f32| ArrayD::from_elem(vec![self.width], value);
        let mean = bias.map_or_else(|| filled(0.0), |bias| bias.mapv(|value| -value));
        let mut leaves = vec![("running_mean", mean), ("running_var", filled((1.0 - self.eps) as f32))];
        if self.affine {
            leaves.extend([("weight", filled(1.0)), ("bias", filled(0.0))]);
        }
        let norm =
            BatchNorm { prefix: self.name.clone(), width: self.width, affine: self.affine, eps: self.eps };
        leaves.into_iter().map(|(leaf, values)| (norm.tensor(leaf), values)).collect()
    }
}

/// The tensors that a parameter is computed from.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Source {
    /// Its own tensor; `None` for a bias that only folding gives.
    pub(super) tensor: Option<String>,
    /// The weight that the module's input meets; itself, unless it is a bias.
    pub(super) weight: String,
    pub(super) part: Part,
    pub(super) folds: Vec<Fold>,
}

/// The parts of a module that folds change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// The weight that the module's input meets.
    Weight,
    /// The bias beside it.
    Bias,
    /// Any other.
    Other,
    /// No tensor, but a square matrix with ones on the diagonal.
    Diagonal,
    /// No tensor, but ones.
    Ones,
    /// No tensor, but zeros.
    Zeros,
}

impl Part {
    /// The values of a parameter that no tensor is read for; `None` for one of a tensor.
    pub(super) fn made(self, shape: &[usize]) -> Option<ArrayD<f32>> {
        match self {
            Part::Weight | Part::Bias | Part::Other => None,
            Part::Diagonal => Some(Array2::eye(shape[0]).into_dyn()),
            Part::Ones => Some(ArrayD::ones(shape)),
            Part::Zeros => Some(ArrayD::zeros(shape)),
        }
    }
}

/// The value of a parameter of this shape.
pub(super) fn value(
    source: &Source,
    shape: &[usize],
    norms: &WeightNorms,
    load: &mut impl FnMut(&str) -> Result<ArrayD<f32>, ModelError>,
    refusal: &impl Fn(String) -> ModelError,
) -> Result<ArrayD<f32>, ModelError> {
    if let Some(values) = source.part.made(shape) {
        return Ok(values);
    }
    let mut load = |name: &str| match norms.get(name) {
        Some(norm) => norm.weight(load, refusal),
        None => load(name),
    };
    let mut values = match &source.tensor {
        Some(name) => load(name)?,
        None => ArrayD::zeros(shape),
    };
    if source.part == Part::Other {
        return Ok(values);
    }
    for fold in &source.folds {
        let by = fold.norm().scale_and_shift(&mut load, refusal)?;
        match (fold, source.part) {
            (Fold::After(_), Part::Weight) => {
                scale(&mut values, Axis(0), &by);
            }
            (Fold::After(_), _) => {
                let bias = values.iter_mut().zip(&by);
                bias.for_each(|(bias, (scale, shift))| *bias = (scale * f64::from(*bias) + shift) as f32);
            }
            (Fold::Before(_), Part::Weight) => {
                scale(&mut values, Axis(1), &by);
            }
            (Fold::Before(_), _) => {
                let weight = load(&source.weight)?;
                for (bias, row) in values.iter_mut().zip(weight.outer_iter()) {
                    let columns = row.outer_iter().zip(&by);
                    let sum = columns
                        .map(|(column, (_, shift))| column.iter().map(|&w| f64::from(w) * shift).sum::<f64>())
                        .sum::<f64>();
                    *bias = (f64::from(*bias) + sum) as f32;
                }
            }
        }
    }
    Ok(values)
}

/// Multiplies the parts along an axis by the scales.
fn scale(values: &mut ArrayD<f32>, axis: Axis, by: &[(f64, f64)]) {
    for (mut part, (scale, _)) in values.axis_iter_mut(axis).zip(by) {
        part.mapv_inplace(|value| (f64::from(value) * scale) as f32);
    }
}

/// Takes batch normalisations out of the steps, each into the module before or after it. Adds what was assumed.
pub(super) fn folded(steps: Vec<Resolved>, assumed: &mut Vec<String>) -> Result<Vec<Resolved>, String> {
    let mut kept: Vec<Resolved> = Vec::with_capacity(steps.len());
    let mut waiting: Option<BatchNorm> = None;
    let with_eps = said::with_eps(&steps, |kind| matches!(kind, Kind::BatchNorm { .. }));
    let mut steps = steps.into_iter().peekable();
    while let Some(mut step) = steps.next() {
        if let Resolved::Module(module, said, _) = &step
            && let Kind::BatchNorm { width, affine } = module.kind
        {
            let norm =
                BatchNorm { prefix: module.prefix.clone(), width, affine, eps: said.eps.unwrap_or(EPS) };
            let home = match (kept.last_mut(), steps.peek()) {
                (Some(before), _) if waiting.is_none() && takes_after(before) => {
                    let Resolved::Module(home, home_said, folds) = before else {
                        unreachable!("it is a module")
                    };
                    home_said.activation = said.activation;
                    folds.push(Fold::After(norm));
                    home.text()
                }
                (_, Some(Resolved::Module(next, next_said, _)))
                    if waiting.is_none() && said.activation.is_none() && next.takes_before(next_said) =>
                {
                    waiting = Some(norm);
                    next.text()
                }
                _ => return Err(no_home(&module.to_string())),
            };
            let name = module.text();
            assumed.push(match said.eps {
                Some(_) => format!("{name} is folded into {home}, as it is in inference"),
                None => format!(
                    "{name} is folded into {home}, as it is in inference with an eps of 1e-5, nn.BatchNorm1d's default; for \
                     another, say \"{with_eps}\""
                ),
            });
            continue;
        }
        if let (Some(norm), Resolved::Module(_, _, folds)) = (waiting.take(), &mut step) {
            folds.push(Fold::Before(norm));
        }
        kept.push(step);
    }
    Ok(kept)
}

/// Whether a step can take in a normalisation of its output.
fn takes_after(step: &Resolved) -> bool {
    match step {
        Resolved::Module(module, said, folds) => {
            matches!(module.kind, Kind::Linear { .. } | Kind::Conv1d { .. })
                && matches!(said.activation, None | Some(Activation::Identity))
                && !folds.iter().any(|fold| matches!(fold, Fold::After(_)))
        }
        _ => false,
    }
}

fn no_home(module: &str) -> String {
    format!(
        "{module}: it can be folded neither into the module before it, which must be a Linear or a Conv1d without a \
         function, nor into the one after it, which must be a Linear, a Conv1d without padding or a recurrent module, with \
         biases; export the model as ONNX, which gatefold run takes as it is"
    )
}
