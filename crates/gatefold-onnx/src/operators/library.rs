//! Computes an operator with rten: one small model per node, kept as long as the node sees inputs of the same types and
//! numbers of axes.
//!
//! The library's optimiser is off, since it computes constants without limits. A panic in it is an error of the node.

use super::recipe::{Recipe, recipe};
use super::table::{Gives, Operator, Whole, find};
use super::{Budget, Call, functions};
use crate::graph::Node;
use crate::proto::tensor_proto::DataType;
use crate::proto::{GraphProto, ModelProto, OperatorSetIdProto, TensorProto, ValueInfoProto};
use crate::tensor::{ElementType, Tensor, volume};
use ndarray::{ArrayD, IxDyn};
use prost::Message;
use rten::{Model, ModelOptions, NodeId, RunOptions, Value, ValueOrView, ValueView};
use rten_tensor::Layout;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// An input of a node.
#[derive(Clone, Debug)]
pub(crate) enum Given<'a> {
    /// A tensor that others read too.
    Lent(&'a Tensor),
    /// A tensor that is the same whenever this node runs.
    Constant(&'a Tensor),
    /// A tensor that nothing else reads, which may be overwritten.
    Owned(Tensor),
}

impl Given<'_> {
    pub(crate) fn tensor(&self) -> &Tensor {
        match self {
            Given::Lent(tensor) | Given::Constant(tensor) => tensor,
            Given::Owned(tensor) => tensor,
        }
    }
}

/// A node's model in the library, once it has run.
#[derive(Debug, Default)]
pub(crate) struct Kernel(Option<Box<Built>>);

#[derive(Debug)]
struct Built {
    model: Model,
    /// The library's number of each input of the node; `None` if it is left out or stored in the model.
    inputs: Vec<Option<NodeId>>,
    outputs: Vec<NodeId>,
    signature: Vec<Option<(ElementType, Vec<usize>)>>,
    /// Whether the model holds for these shapes only, not for all with the same number of axes.
    by_shape: bool,
    /// Whether it holds for the values of one call only.
    once: bool,
    variant: u8,
}

impl Built {
    fn fits(&self, call: &Call, variant: u8) -> bool {
        let same =
            |(built, given): (&Option<(ElementType, Vec<usize>)>, &Option<&Tensor>)| match (built, given) {
                (None, None) => true,
                (Some((element, shape)), Some(given)) => {
                    *element == given.element()
                        && if self.by_shape {
                            shape == given.shape()
                        } else {
                            shape.len() == given.shape().len()
                        }
                }
                _ => false,
            };
        !self.once
            && self.variant == variant
            && self.signature.len() == call.inputs.len()
            && self.signature.iter().zip(&call.inputs).all(same)
    }
}

impl Kernel {
    /// Runs a node; returns one tensor for each of its outputs.
    pub(crate) fn run(
        &mut self,
        node: &Node,
        opset: i64,
        mut given: Vec<Option<Given>>,
        budget: &mut Budget,
        options: &RunOptions,
    ) -> Result<Vec<Tensor>, String> {
        let operator = find(&node.operator).ok_or("it is not an operator on arrays")?;
        let call =
            Call { node, opset, inputs: given.iter().map(|g| g.as_ref().map(Given::tensor)).collect() };
        if self.0.is_none() {
            operator.check(&call)?;
        }
        if let Some(result) = super::recipe::without_arithmetic(&call)? {
            return Ok(result);
        }
        budget.spend((operator.need)(&call)?)?;
        if let Some(result) = super::recipe::divided(&call)? {
            return Ok(result);
        }
        if let Some(function) = functions::function(&call) {
            drop(call);
            let input = given.swap_remove(0).ok_or("its input 0 is missing")?;
            return functions::applied(function, input).map(|result| vec![result]);
        }
        if let Some(shape) = functions::reshaped(&call)? {
            drop(call);
            let input = given.swap_remove(0).ok_or("its input 0 is missing")?;
            return functions::in_shape(input, &shape).map(|result| vec![result]);
        }
        if wide_inputs(operator, &call) {
            return moved_in_halves(operator, &call, options);
        }
        check_whole_numbers(operator, &call)?;
        let variant = super::recipe::variant(&call);
        if !self.0.as_ref().is_some_and(|built| built.fits(&call, variant)) {
            self.0 = Some(Box::new(build(operator, &call, &given, variant)?));
        }
        let types: Vec<ElementType> = (0..outputs(node))
            .map(|at| type_of(operator.type_of_result(at), &call))
            .collect::<Result<_, _>>()?;
        drop(call);
        let built = self.0.as_ref().ok_or("its model is missing")?;
        let values = built.run(given, operator, options)?;
        values.into_iter().zip(types).map(|(value, element)| tensor(value, element)).collect()
    }
}

impl Built {
    fn run(
        &self,
        given: Vec<Option<Given>>,
        operator: &Operator,
        options: &RunOptions,
    ) -> Result<Vec<Value>, String> {
        let converted: Vec<Option<Converted>> = given
            .into_iter()
            .enumerate()
            .map(|(at, given)| match (given, self.inputs.get(at)) {
                (Some(given), Some(Some(_))) => converted(given, clamps(operator, at)).map(Some),
                _ => Ok(None),
            })
            .collect::<Result<_, String>>()?;
        let mut inputs: Vec<(NodeId, ValueOrView)> = Vec::with_capacity(converted.len());
        let mut kept = Vec::with_capacity(converted.len());
        for (id, value) in self.inputs.iter().zip(converted) {
            match (id, value) {
                (Some(id), Some(Converted::Value(value))) => inputs.push((*id, value.into())),
                (Some(id), Some(Converted::Lent(tensor))) => kept.push((*id, tensor)),
                _ => {}
            }
        }
        for (id, tensor) in kept {
            inputs.push((id, view(tensor)?.into()));
        }
        let run = || self.model.run(inputs, &self.outputs, Some(options.clone()));
        match catch_unwind(AssertUnwindSafe(run)) {
            Ok(Ok(values)) => Ok(values),
            Ok(Err(error)) => Err(one_line(&error)),
            Err(_) => Err("the library that computes it failed on these inputs".into()),
        }
    }
}

/// The message of an error of the library, in one line.
fn one_line(error: &impl std::fmt::Display) -> String {
    let text = error.to_string();
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    // The node is named already.
    let begins = ["in node \"node\": ", "operator error: ", "operator \"node\" failed: "];
    begins.iter().fold(&*text, |text, begin| text.strip_prefix(begin).unwrap_or(text)).into()
}

enum Converted<'a> {
    Lent(&'a Tensor),
    Value(Value),
}

/// The library's value of an input, which is not copied if the library has its type.
fn converted(given: Given, clamp: bool) -> Result<Converted, String> {
    let narrow = |tensor: &Tensor| narrowed(tensor, clamp).map(Converted::Value);
    Ok(match given {
        Given::Lent(tensor) | Given::Constant(tensor) => match tensor {
            Tensor::I64(_) | Tensor::Bool(_) => narrow(tensor)?,
            tensor => Converted::Lent(tensor),
        },
        Given::Owned(tensor) => match tensor {
            Tensor::I64(_) | Tensor::Bool(_) => narrow(&tensor)?,
            Tensor::F32(array) => Converted::Value(value(array)?),
            Tensor::I32(array) => Converted::Value(value(array)?),
            Tensor::U8(array) => Converted::Value(value(array)?),
            Tensor::I8(array) => Converted::Value(value(array)?),
        },
    })
}

fn value<T: Clone>(array: ArrayD<T>) -> Result<Value, String>
where
    Value: From<rten_tensor::Tensor<T>>,
{
    let shape = array.shape().to_vec();
    let values = match array.is_standard_layout() {
        true => {
            let (mut values, offset) = array.into_raw_vec_and_offset();
            // An array may begin and end inside its memory.
            values.drain(..offset.unwrap_or(0));
            values.truncate(shape.iter().product());
            values
        }
        false => array.iter().cloned().collect(),
    };
    Value::from_shape(shape, values).map_err(|error| error.to_string())
}

/// A tensor's elements where they are.
fn view(tensor: &Tensor) -> Result<ValueView<'_>, String> {
    fn of<T>(array: &ArrayD<T>) -> Result<ValueView<'_>, String>
    where
        for<'a> ValueView<'a>: From<rten_tensor::TensorView<'a, T>>,
    {
        let values = array.as_slice().ok_or("its input is not in row-major order")?;
        ValueView::from_shape(array.shape(), values).map_err(|error| error.to_string())
    }
    match tensor {
        Tensor::F32(array) => of(array),
        Tensor::I32(array) => of(array),
        Tensor::U8(array) => of(array),
        Tensor::I8(array) => of(array),
        Tensor::I64(_) | Tensor::Bool(_) => Err("the library has no such type".into()),
    }
}

/// int64 and bool as the library's int32.
fn narrowed(tensor: &Tensor, clamp: bool) -> Result<Value, String> {
    let values: Vec<i32> = match tensor {
        Tensor::Bool(array) => array.iter().map(|&value| i32::from(value)).collect(),
        Tensor::I64(array) if clamp => {
            array.iter().map(|&value| value.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32).collect()
        }
        Tensor::I64(array) => array.iter().map(|&value| narrow(value)).collect::<Result<_, _>>()?,
        other => return Err(format!("{} are not narrowed", other.element())),
    };
    Value::from_shape(tensor.shape(), values).map_err(|error| error.to_string())
}

fn narrow(value: i64) -> Result<i32, String> {
    i32::try_from(value)
        .map_err(|_| format!("its input has the number {value}; whole numbers are computed in 32 bits"))
}

/// A result of the library as a tensor of a type.
fn tensor(value: Value, element: ElementType) -> Result<Tensor, String> {
    fn array<T: Clone>(tensor: rten_tensor::Tensor<T>) -> Result<ArrayD<T>, String> {
        let shape = tensor.shape().to_vec();
        volume(&shape)?;
        ArrayD::from_shape_vec(IxDyn(&shape), tensor.into_data()).map_err(|error| error.to_string())
    }
    Ok(match value {
        Value::FloatTensor(tensor) => Tensor::F32(array(tensor)?),
        Value::UInt8Tensor(tensor) => Tensor::U8(array(tensor)?),
        Value::Int8Tensor(tensor) => Tensor::I8(array(tensor)?),
        Value::Int32Tensor(tensor) => {
            let array = array(tensor)?;
            match element {
                ElementType::I32 => Tensor::I32(array),
                ElementType::I64 => Tensor::I64(array.mapv(i64::from)),
                ElementType::Bool => Tensor::Bool(array.mapv(|value| value != 0)),
                other => return Err(format!("its result is int32; expected {other}")),
            }
        }
        _ => return Err("its result is not a tensor".into()),
    })
}

/// The type of a result, as far as the library does not tell.
fn type_of(gives: Gives, call: &Call) -> Result<ElementType, String> {
    Ok(match gives {
        Gives::I64 => ElementType::I64,
        Gives::I32 => ElementType::I32,
        Gives::Bool => ElementType::Bool,
        Gives::Like(at) => call.optional(at).map_or(ElementType::F32, Tensor::element),
        Gives::Named(key) => match (call.node.attributes.get(key), call.optional(0)) {
            (Some(crate::graph::Attribute::Tensor(value)), _) => value.element(),
            (Some(_), _) => element_named(call.node, key)?,
            (None, _) if key == "value" => ElementType::F32,
            (None, Some(input)) => input.element(),
            (None, None) => return Err(format!("the attribute {key} is missing")),
        },
    })
}

/// The stored type that an attribute names by its number.
pub(super) fn element_named(node: &Node, key: &str) -> Result<ElementType, String> {
    let code = node.int(key)?.ok_or_else(|| format!("the attribute {key} is missing"))?;
    let named = i32::try_from(code).ok().and_then(|code| DataType::try_from(code).ok());
    named.and_then(crate::read::element_of).map(ElementType::stored).ok_or_else(|| {
        let found = named.map_or("an unknown type", |named| named.as_str_name());
        format!("attribute {key}: {found} is not supported")
    })
}

/// Whether an input holds places that may lie far outside of a tensor.
fn clamps(operator: &Operator, at: usize) -> bool {
    operator.whole == Whole::Slices && at > 0
}

/// The inputs that an operator moves without computing.
fn moves(operator: &Operator, at: usize) -> bool {
    match operator.whole {
        Whole::Moves(first, last) => (first..=last).contains(&at),
        Whole::Slices => at == 0,
        _ => false,
    }
}

fn is_wide(tensor: &Tensor) -> bool {
    matches!(tensor, Tensor::I64(array) if array.iter().any(|&value| i32::try_from(value).is_err()))
}

/// Whether an operator moves whole numbers that the library cannot hold.
fn wide_inputs(operator: &Operator, call: &Call) -> bool {
    let mut inputs = call.inputs.iter().enumerate();
    inputs.any(|(at, input)| moves(operator, at) && input.is_some_and(is_wide))
}

/// Moves whole numbers of 64 bits as two of 32.
fn moved_in_halves(operator: &Operator, call: &Call, options: &RunOptions) -> Result<Vec<Tensor>, String> {
    let half = |of: fn(i64) -> i32| -> Result<Vec<Tensor>, String> {
        let halves: Vec<Option<Tensor>> = call
            .inputs
            .iter()
            .enumerate()
            .map(|(at, input)| {
                input.map(|input| match input {
                    Tensor::I64(array) if moves(operator, at) => Tensor::I32(array.mapv(of)),
                    other => other.clone(),
                })
            })
            .collect();
        let call = Call { inputs: halves.iter().map(Option::as_ref).collect(), ..call.clone() };
        let given: Vec<Option<Given>> = call.inputs.iter().map(|input| input.map(Given::Lent)).collect();
        let built = build(operator, &call, &given, 0)?;
        let values = built.run(given, operator, options)?;
        values.into_iter().map(|value| tensor(value, ElementType::I32)).collect()
    };
    let (low, high) = (half(|value| value as i32)?, half(|value| (value >> 32) as i32)?);
    low.into_iter()
        .zip(high)
        .map(|pair| match pair {
            (Tensor::I32(low), Tensor::I32(high)) => {
                let join = |(&low, &high): (&i32, &i32)| (i64::from(high) << 32) | i64::from(low as u32);
                let values = low.iter().zip(&high).map(join).collect();
                ArrayD::from_shape_vec(low.raw_dim(), values)
                    .map(Tensor::I64)
                    .map_err(|error| error.to_string())
            }
            _ => Err("its result is not whole numbers".into()),
        })
        .collect()
}

/// Refuses arithmetic on whole numbers whose results may not fit into 32 bits.
fn check_whole_numbers(operator: &Operator, call: &Call) -> Result<(), String> {
    let sizes = |at: usize| call.optional(at).and_then(Tensor::integers).unwrap_or_default();
    let size = |value: &i64| value.unsigned_abs() as f64;
    let sum = |at: usize| sizes(at).iter().map(size).sum::<f64>();
    let most = |at: usize| sizes(at).iter().map(size).fold(0.0, f64::max);
    let whole = |tensor: &&Tensor| matches!(tensor.element(), ElementType::I64 | ElementType::I32);
    if !call.optional(0).is_some_and(|input| whole(&input)) {
        return match (operator.name, call.optional(0), call.optional(1)) {
            ("Cast", Some(Tensor::F32(array)), _) if element_named(call.node, "to")? == ElementType::I64 => {
                fits_32_bits(array)
            }
            ("CastLike", Some(Tensor::F32(array)), Some(Tensor::I64(_))) => fits_32_bits(array),
            _ => Ok(()),
        };
    }
    let pairs =
        call.node.inputs.len() > 1 && !operator.name.starts_with("Reduce") && operator.name != "CumSum";
    let bound = match operator.whole {
        Whole::Within | Whole::Moves(..) | Whole::Slices => return Ok(()),
        Whole::Sums if pairs => (0..call.inputs.len()).map(most).sum(),
        Whole::Sums => sum(0),
        Whole::Products if pairs => most(0) * most(1),
        Whole::Products => sizes(0).iter().map(|value| size(value).max(1.0)).product(),
        Whole::Matrix => (0..call.inputs.len()).map(sum).product(),
        Whole::Power => {
            let powers = call.optional(1).map(Tensor::integers);
            let floats = || match call.optional(1) {
                Some(Tensor::F32(array)) => array.iter().copied().fold(0.0, f32::max).into(),
                _ => f64::INFINITY,
            };
            most(0).max(1.0).powf(powers.flatten().map_or_else(floats, |_| most(1)))
        }
        Whole::Squares => sizes(0).iter().map(|value| size(value) * size(value)).sum(),
    };
    if bound <= f64::from(i32::MAX) {
        return Ok(());
    }
    Err(format!("its whole numbers may become as large as {bound:.0}; they are computed in 32 bits"))
}

fn fits_32_bits(array: &ArrayD<f32>) -> Result<(), String> {
    const LIMIT: f32 = 2_147_483_648.0;
    match array.iter().find(|value| value.abs() >= LIMIT) {
        Some(value) => {
            Err(format!("its input has the number {value}; whole numbers are computed in 32 bits"))
        }
        None => Ok(()),
    }
}

/// Makes the model of a node.
fn build(operator: &Operator, call: &Call, given: &[Option<Given>], variant: u8) -> Result<Built, String> {
    let Recipe { nodes, mut constants, by_shape, once } = recipe(operator, call, variant)?;
    let mut ports = Vec::new();
    let mut open = vec![false; given.len()];
    for (at, given) in given.iter().enumerate() {
        let Some(given) = given else { continue };
        if !nodes.iter().any(|node| node.input.contains(&input_name(at))) {
            continue;
        }
        if let Given::Constant(tensor) = given
            && is_stored(operator, at, tensor)
        {
            constants.push(stored(&input_name(at), tensor, clamps(operator, at))?);
            continue;
        }
        open[at] = true;
        ports.push(ValueInfoProto { name: input_name(at), ..Default::default() });
    }
    let names: Vec<String> = (0..outputs(call.node)).map(output_name).collect();
    if let Some(at) = names.iter().position(|name| !nodes.iter().any(|node| node.output.contains(name))) {
        return Err(format!("its output {at} is not supported"));
    }
    let output =
        names.iter().map(|name| ValueInfoProto { name: name.clone(), ..Default::default() }).collect();
    let opsets = [("", call.opset), ("com.microsoft", 1)];
    let proto = ModelProto {
        ir_version: 8,
        opset_import: opsets
            .map(|(domain, version)| OperatorSetIdProto { domain: domain.into(), version })
            .to_vec(),
        graph: Some(GraphProto {
            node: nodes,
            initializer: constants,
            input: ports,
            output,
            ..Default::default()
        }),
        ..Default::default()
    };
    let mut options = ModelOptions::with_all_ops();
    options.enable_optimization(false).prepack_weights(true);
    let bytes = proto.encode_to_vec();
    let load = || options.load(bytes);
    let model = match catch_unwind(AssertUnwindSafe(load)) {
        Ok(loaded) => loaded.map_err(|error| one_line(&error))?,
        Err(_) => return Err("the library that computes it cannot read it".into()),
    };
    let node = |name: &String| model.node_id(name).map_err(|error| one_line(&error));
    let inputs = (0..given.len())
        .map(|at| if open[at] { node(&input_name(at)).map(Some) } else { Ok(None) })
        .collect::<Result<_, _>>()?;
    let outputs = names.iter().map(node).collect::<Result<_, _>>()?;
    let signature = call
        .inputs
        .iter()
        .map(|input| input.map(|input| (input.element(), input.shape().to_vec())))
        .collect();
    Ok(Built { model, inputs, outputs, signature, by_shape, once, variant })
}

/// The number of a node's outputs up to the last that is used.
pub(super) fn outputs(node: &Node) -> usize {
    node.outputs.iter().rposition(Option::is_some).map_or(1, |last| last + 1)
}

/// The name of a node's input in its model.
pub(super) fn input_name(at: usize) -> String {
    format!("i{at}")
}

/// The name of a node's output in its model.
pub(super) fn output_name(at: usize) -> String {
    format!("o{at}")
}

/// Whether a constant input is kept in the model: weights, which the library packs once, and types that it lacks.
fn is_stored(operator: &Operator, at: usize, tensor: &Tensor) -> bool {
    let weights =
        matches!(operator.name, "Conv" | "ConvTranspose" | "Gemm" | "MatMul" | "MatMulInteger") && at == 1;
    weights
        || matches!(tensor, Tensor::I64(_) | Tensor::Bool(_)) && (clamps(operator, at) || !is_wide(tensor))
}

/// A tensor as the library stores it.
pub(super) fn stored(name: &str, tensor: &Tensor, clamp: bool) -> Result<TensorProto, String> {
    let (element, raw): (DataType, Vec<u8>) = match tensor {
        Tensor::F32(array) => (DataType::Float, array.iter().flat_map(|value| value.to_le_bytes()).collect()),
        Tensor::I32(array) => (DataType::Int32, array.iter().flat_map(|value| value.to_le_bytes()).collect()),
        Tensor::U8(array) => (DataType::Uint8, array.iter().copied().collect()),
        Tensor::I8(array) => (DataType::Int8, array.iter().map(|&value| value as u8).collect()),
        Tensor::I64(_) | Tensor::Bool(_) => {
            let Value::Int32Tensor(values) = narrowed(tensor, clamp)? else {
                return Err("whole numbers expected".into());
            };
            (DataType::Int32, values.into_data().iter().flat_map(|value| value.to_le_bytes()).collect())
        }
    };
    Ok(TensorProto {
        name: name.into(),
        dims: tensor.shape().iter().map(|&len| len as i64).collect(),
        data_type: element as i32,
        raw_data: raw.into(),
        ..Default::default()
    })
}
