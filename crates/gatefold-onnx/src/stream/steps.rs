//! The axis of time, followed through a graph: whether each node computes a step from that step alone, or from a
//! state that goes on.
//!
//! A model that does so gives the same outputs for chunks as for the whole. The shapes of all values come from one run on
//! a chunk.

use crate::graph::{Graph, Node};
use crate::operators::{self, LISTS, RECURRENT};
use crate::recurrent::{INITIAL_C, INITIAL_H, RecurrentOperator, SEQUENCE_LENS, WEIGHTS, X};
use crate::tensor::Tensor;
use crate::walk::{Seen, identity};
use std::collections::{BTreeMap, BTreeSet};

/// How a value depends on the number of steps.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Time {
    /// Not at all.
    Free,
    /// This axis has a place for each step.
    Along(usize),
    /// It is made of states after the last step.
    Last,
    /// It is made of states before the first step of a chunk.
    First,
    /// A list of lengths, in which these are the number of steps or made of it.
    Lens(Vec<bool>),
}

/// The context in which a graph is followed.
pub(super) struct Follow<'a> {
    /// A run, with the shapes of its inputs too.
    pub(super) seen: &'a Seen,
    /// The recurrent nodes that go on where they ended.
    pub(super) kept: &'a BTreeSet<usize>,
}

type Times<'a> = BTreeMap<&'a str, Time>;

const ELEMENTWISE: [&str; 66] = [
    "Abs",
    "Acos",
    "Acosh",
    "Add",
    "And",
    "Asin",
    "Asinh",
    "Atan",
    "Atanh",
    "Cast",
    "CastLike",
    "Ceil",
    "Celu",
    "Clip",
    "Cos",
    "Cosh",
    "DequantizeLinear",
    "Div",
    "Dropout",
    "Elu",
    "Equal",
    "Erf",
    "Exp",
    "Floor",
    "Gelu",
    "Greater",
    "GreaterOrEqual",
    "HardSigmoid",
    "HardSwish",
    "Identity",
    "IsInf",
    "IsNaN",
    "LeakyRelu",
    "Less",
    "LessOrEqual",
    "Log",
    "Max",
    "Mean",
    "Min",
    "Mish",
    "Mod",
    "Mul",
    "Neg",
    "Not",
    "Or",
    "PRelu",
    "Pow",
    "Reciprocal",
    "Relu",
    "Round",
    "Selu",
    "Shrink",
    "Sigmoid",
    "Sign",
    "Sin",
    "Sinh",
    "Softplus",
    "Softsign",
    "Sqrt",
    "Sub",
    "Sum",
    "Swish",
    "Tan",
    "Tanh",
    "ThresholdedRelu",
    "Xor",
];
/// Those that reduce some axes.
const REDUCES: [&str; 10] = [
    "ReduceL1",
    "ReduceL2",
    "ReduceLogSum",
    "ReduceLogSumExp",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "ReduceProd",
    "ReduceSum",
    "ReduceSumSquare",
];
/// Those that work along one axis, with its default.
const ALONG: [(&str, i64); 8] = [
    ("ArgMax", 0),
    ("ArgMin", 0),
    ("Concat", 0),
    ("Gather", 0),
    ("Hardmax", -1),
    ("LogSoftmax", -1),
    ("Softmax", -1),
    ("Split", 0),
];

/// A reason why chunks are not the whole.
pub(super) struct Problem {
    pub(super) text: String,
    /// Whether the axis is probably not that of the steps.
    pub(super) other_axis: bool,
}

impl From<String> for Problem {
    fn from(text: String) -> Problem {
        Problem { text, other_axis: false }
    }
}

impl From<&str> for Problem {
    fn from(text: &str) -> Problem {
        text.to_owned().into()
    }
}

fn other_axis(text: &str) -> Problem {
    Problem { text: text.into(), other_axis: true }
}

const MIXES: &str = "it reads several steps at once, so chunks are not the whole";

const FIRST: &str = "it joins a state with more than the node that begins with it, so all steps of a chunk would read the first state";
const BEGINS_ANEW: &str = "its state does not go on from chunk to chunk";

impl Follow<'_> {
    /// Follows the axes of time from the inputs to the outputs. Names that are not known are free.
    ///
    /// # Errors
    /// The first node that mixes steps, and how.
    pub(super) fn graph<'a>(
        &self,
        graph: &'a Graph,
        mut times: Times<'a>,
    ) -> Result<Times<'a>, (&'a Node, Problem)> {
        for node in &graph.nodes {
            // A node that nothing needs has no shapes; lists have none either.
            let known = |name: &String| self.seen.shapes.contains_key(name);
            if !LISTS.contains(&&*node.operator) && !node.outputs.iter().flatten().any(known) {
                continue;
            }
            let found = self.node(graph, node, &times)?;
            times.extend(
                node.outputs.iter().zip(found).filter_map(|(name, time)| Some((name.as_deref()?, time))),
            );
        }
        Ok(times)
    }

    fn node<'a>(
        &self,
        graph: &'a Graph,
        node: &'a Node,
        times: &Times<'a>,
    ) -> Result<Vec<Time>, (&'a Node, Problem)> {
        let named = |problem: Problem| (node, problem);
        let count = node.outputs.len();
        if node.operator == "If" {
            return self.branches(node, times);
        }
        let is = |time: &Time| node.reads().any(|name| times.get(name).is_some_and(|found| found == time));
        let (first, last) = (is(&Time::First), is(&Time::Last));
        let free = |time: &Time| matches!(time, Time::Free | Time::Last | Time::First);
        if node.reads().all(|name| times.get(name).is_none_or(free)) {
            return match &*node.operator {
                operator if RECURRENT.contains(&operator) && self.kept.contains(&identity(node)) => {
                    Err(named("it does not run over the steps".into()))
                }
                "Shape" | "Size" => Ok(vec![Time::Free; count]),
                _ if first && last => Err(named(FIRST.into())),
                _ if first => Ok(vec![Time::First; count]),
                _ => Ok(vec![if last { Time::Last } else { Time::Free }; count]),
            };
        }
        if first && !RECURRENT.contains(&&*node.operator) {
            return Err(named(FIRST.into()));
        }
        if last {
            return Err(named(
                "it joins steps with the state after the last one, so chunks are not the whole".into(),
            ));
        }
        let of = Reads { follow: self, graph, node, times };
        if RECURRENT.contains(&&*node.operator) {
            return of.recurrent().map_err(named);
        }
        if let Some(lens) = of.lens() {
            return lens.map(|time| vec![time; count]).map_err(|problem| named(problem.into()));
        }
        of.one().map(|time| vec![time; count]).map_err(|problem| named(problem.into()))
    }

    /// The branch that was taken.
    fn branches<'a>(&self, node: &'a Node, times: &Times<'a>) -> Result<Vec<Time>, (&'a Node, Problem)> {
        if node.input_name(0).and_then(|name| times.get(name)).is_some_and(|time| *time != Time::Free) {
            return Err((node, "its condition depends on the steps".into()));
        }
        let Some(&condition) = self.seen.conditions.get(&identity(node)) else {
            return Err((node, "it did not run on the first chunk".into()));
        };
        let key = if condition { "then_branch" } else { "else_branch" };
        let inner = node.graph(key).map_err(|problem| (node, problem.into()))?;
        let inside = self.graph(inner, times.clone())?;
        let time = |name: &str| inside.get(name).cloned().unwrap_or(Time::Free);
        Ok(inner.outputs.iter().map(|port| time(&port.name)).collect())
    }
}

/// A node with what is known of its inputs.
struct Reads<'f, 'a> {
    follow: &'f Follow<'f>,
    graph: &'a Graph,
    node: &'a Node,
    times: &'f Times<'a>,
}

impl Reads<'_, '_> {
    fn time(&self, at: usize) -> Time {
        self.node.input_name(at).and_then(|name| self.times.get(name)).cloned().unwrap_or(Time::Free)
    }

    fn shape_of(&self, name: Option<&str>) -> Result<&[usize], String> {
        let name = name.ok_or("one of its inputs is missing")?;
        let constant = self.graph.constants.get(name).map(Tensor::shape);
        let seen = || self.follow.seen.shapes.get(name).map(Vec::as_slice);
        constant.or_else(seen).ok_or_else(|| format!("the shape of {name} is not known"))
    }

    fn shape(&self, at: usize) -> Result<&[usize], String> {
        self.shape_of(self.node.input_name(at))
    }

    fn result(&self) -> Result<&[usize], String> {
        self.shape_of(self.node.outputs.iter().flatten().next().map(String::as_str))
    }

    /// Whole numbers of an attribute or a constant input.
    fn integers(&self, key: &str, at: usize) -> Result<Option<Vec<i64>>, String> {
        if let Some(values) = self.node.ints(key)? {
            return Ok(Some(values.to_vec()));
        }
        match self.node.input_name(at) {
            None => Ok(None),
            Some(name) => match self.graph.constants.get(name).and_then(Tensor::integers) {
                Some(values) => Ok(Some(values)),
                None => Err(format!("its {key} are computed")),
            },
        }
    }

    fn axis(&self, key: &str, default: i64, axes: usize) -> Result<usize, String> {
        operators::axis(self.node.int_or(key, default)?, axes)
    }

    fn recurrent(&self) -> Result<Vec<Time>, Problem> {
        if self.node.input_name(SEQUENCE_LENS).is_some() {
            return Err("its rows have lengths of their own, which are those of the whole".into());
        }
        let kept = self.follow.kept.contains(&identity(self.node));
        for at in [INITIAL_H, INITIAL_C] {
            match self.time(at) {
                Time::Free => {}
                Time::First if kept => {}
                Time::First => return Err(BEGINS_ANEW.into()),
                _ => return Err(other_axis("its initial states depend on the steps")),
            }
        }
        if WEIGHTS.into_iter().any(|at| self.time(at) != Time::Free) {
            return Err("its weights depend on the steps".into());
        }
        let operator = RecurrentOperator::of_node(self.node, self.graph.opset)?;
        let (steps, rows) = if operator.batch_first { (1, 0) } else { (0, 1) };
        let Time::Along(axis) = self.time(X) else { return Err("its input X is made of the steps".into()) };
        if axis == rows {
            // The steps lie side by side in its batch; it runs over something else, and begins anew for each.
            let state = if operator.batch_first { 0 } else { 1 };
            let y = if operator.batch_first { 0 } else { 2 };
            return match kept {
                true => Err(other_axis("the steps are rows of its batch, and it does not run over them")),
                false => Ok(vec![Time::Along(y), Time::Along(state), Time::Along(state)]),
            };
        }
        if axis != steps {
            return Err(other_axis("the steps are not its axis of steps"));
        }
        if operator.direction != gatefold_model::Direction::Forward {
            return Err("it reads the sequence from its end, so chunks are not the whole".into());
        }
        if !kept {
            return Err(BEGINS_ANEW.into());
        }
        Ok(vec![Time::Along(steps), Time::Last, Time::Last])
    }

    /// A list of lengths, if the node makes or changes one.
    fn lens(&self) -> Option<Result<Time, String>> {
        let operator = &*self.node.operator;
        if operator == "Shape" {
            return Some(self.of_shape());
        }
        if operator == "Size" {
            return Some(Ok(Time::Lens(vec![true])));
        }
        let all: Vec<Time> = (0..self.node.inputs.len()).map(|at| self.time(at)).collect();
        if !all.iter().any(|time| matches!(time, Time::Lens(_))) {
            return None;
        }
        if ["Reshape", "Expand", "ConstantOfShape", "Slice", "Tile"].contains(&operator)
            && !matches!(all[0], Time::Lens(_))
        {
            return None;
        }
        Some(self.of_lens(operator, &all))
    }

    fn of_shape(&self) -> Result<Time, String> {
        let Time::Along(axis) = self.time(0) else { return Ok(Time::Free) };
        let axes = self.shape(0)?.len() as i64;
        let place = |value: i64| (if value < 0 { value.saturating_add(axes) } else { value }).clamp(0, axes);
        let (start, end) = (place(self.node.int_or("start", 0)?), place(self.node.int_or("end", axes)?));
        let bits: Vec<bool> = (start..end).map(|at| at == axis as i64).collect();
        Ok(if bits.contains(&true) { Time::Lens(bits) } else { Time::Free })
    }

    fn of_lens(&self, operator: &str, all: &[Time]) -> Result<Time, String> {
        let bits = |at: usize| match &all[at] {
            Time::Lens(bits) => Ok(bits.clone()),
            _ => self.shape(at).map(|shape| vec![false; shape.iter().product()]),
        };
        let found = match operator {
            "ConstantOfShape" => {
                let bits = bits(0)?;
                let mut along = bits.iter().enumerate().filter(|(_, on)| **on).map(|(at, _)| at);
                return match (along.next(), along.next()) {
                    (None, _) => Ok(Time::Free),
                    (Some(axis), None) => Ok(Time::Along(axis)),
                    _ => Err(MIXES.into()),
                };
            }
            "Gather" => {
                let (bits, indices) =
                    (bits(0)?, self.integers("indices", 1)?.ok_or("its indices are missing")?);
                let at = |&index: &i64| operators::axis(index, bits.len()).map(|at| bits[at]);
                indices.iter().map(at).collect::<Result<_, _>>()?
            }
            "Slice" => {
                let bits = bits(0)?;
                let one = |key: &str, at: usize| {
                    Ok::<_, String>(self.integers(key, at)?.and_then(|values| values.first().copied()))
                };
                if one("steps", 4)?.is_some_and(|step| step != 1) {
                    return Err("it turns lengths round".into());
                }
                let len = bits.len() as i64;
                let place = |value: i64| {
                    (if value < 0 { value.saturating_add(len) } else { value }).clamp(0, len) as usize
                };
                let (start, end) = (one("starts", 1)?.unwrap_or(0), one("ends", 2)?.unwrap_or(len));
                bits.get(place(start)..place(end)).unwrap_or_default().to_vec()
            }
            "Concat" => (0..all.len()).map(bits).collect::<Result<Vec<_>, _>>()?.concat(),
            "Unsqueeze" | "Squeeze" | "Cast" | "Identity" | "Reshape" => bits(0)?,
            operator if ELEMENTWISE.contains(&operator) => {
                let any = all.iter().any(|time| matches!(time, Time::Lens(bits) if bits.contains(&true)));
                vec![any; self.result()?.iter().product()]
            }
            _ => return Err("it computes with the number of steps".into()),
        };
        Ok(if found.contains(&true) { Time::Lens(found) } else { Time::Free })
    }

    /// The time of all outputs of a node on arrays.
    fn one(&self) -> Result<Time, String> {
        let operator = &*self.node.operator;
        if ELEMENTWISE.contains(&operator) || operator == "Where" {
            return self.broadcast();
        }
        match operator {
            "Reshape" | "Flatten" => return self.reshaped(),
            "Expand" => return self.expanded(),
            "MatMul" => return self.product(),
            _ => {}
        }
        if let ("Gather", Time::Free, Time::Along(axis)) = (operator, self.time(0), self.time(1)) {
            // A row of a table for each step.
            let along = self.axis("axis", 0, self.shape(0)?.len())?;
            return Ok(Time::Along(along + axis));
        }
        let Time::Along(axis) = self.time(0) else { return Err(MIXES.into()) };
        for at in 1..self.node.inputs.len() {
            if operator != "Concat" && self.time(at) != Time::Free {
                return Err(MIXES.into());
            }
        }
        let axes = self.shape(0)?.len();
        let stays = |mixed: bool| if mixed { Err(MIXES.to_string()) } else { Ok(Time::Along(axis)) };
        match operator {
            "Transpose" => {
                let perm =
                    self.node.ints("perm")?.map_or_else(|| (0..axes as i64).rev().collect(), <[i64]>::to_vec);
                let to = perm.iter().position(|&from| from == axis as i64).ok_or("its perm lacks an axis")?;
                Ok(Time::Along(to))
            }
            "Squeeze" => match self.integers("axes", 1)? {
                Some(gone) => self.without(axis, &gone, axes),
                None => Err("it drops the axes of length 1, which a chunk of one step has".into()),
            },
            "Unsqueeze" => {
                let new = self.integers("axes", 1)?.ok_or("its axes are missing")?;
                let result = axes + new.len();
                let new: Vec<usize> =
                    new.iter().map(|&at| operators::axis(at, result)).collect::<Result<_, _>>()?;
                let to = (0..result).filter(|at| !new.contains(at)).nth(axis).ok_or("its axes do not fit")?;
                Ok(Time::Along(to))
            }
            "Gemm" => stays(axis != 0 || self.node.int_or("transA", 0)? != 0),
            "BatchNormalization" => stays(axis == 1),
            "LayerNormalization" | "RMSNormalization" | "SimplifiedLayerNormalization" => {
                stays(axis >= self.axis("axis", -1, axes)?)
            }
            "Conv" => stays(axis != 0 && !self.is_pointwise(axis)?),
            "Slice" => self.sliced(axis, axes),
            "Pad" => {
                let pads = self.integers("pads", 1)?.ok_or("its pads are missing")?;
                let of = |at: usize| pads.get(at).copied().unwrap_or(0);
                stays(self.node.input_name(3).is_some() || of(axis) != 0 || of(axis + axes) != 0)
            }
            operator if REDUCES.contains(&operator) => self.reduced(axis, axes),
            operator => {
                let Some((_, default)) = ALONG.iter().find(|(name, _)| *name == operator) else {
                    return Err(MIXES.into());
                };
                let default = if self.graph.opset < 13 && operator.ends_with("max") { 1 } else { *default };
                let along = self.axis("axis", default, axes)?;
                let old = self.graph.opset < 13 && ["Softmax", "LogSoftmax", "Hardmax"].contains(&operator);
                let last = || Ok::<_, String>(self.integers("indices", 1)?.as_deref() == Some(&[-1]));
                if along == axis && operator == "Gather" && last()? {
                    return Ok(Time::Last);
                }
                if along == axis || old && axis >= along {
                    return Err(MIXES.into());
                }
                self.beside(operator, axis, along)
            }
        }
    }

    /// A part of the other axes, or the last step.
    fn sliced(&self, axis: usize, axes: usize) -> Result<Time, String> {
        let along = self.integers("axes", 3)?.unwrap_or_else(|| (0..axes as i64).collect());
        let along: Vec<usize> =
            along.iter().map(|&at| operators::axis(at, axes)).collect::<Result<_, _>>()?;
        let Some(at) = along.iter().position(|&at| at == axis) else { return Ok(Time::Along(axis)) };
        let of = |key: &str, input: usize| {
            Ok::<_, String>(self.integers(key, input)?.and_then(|values| values.get(at).copied()))
        };
        let (start, end, step) = (of("starts", 1)?, of("ends", 2)?, of("steps", 4)?.unwrap_or(1));
        match (start, end) {
            _ if step != 1 => Err(MIXES.into()),
            (Some(0), Some(end)) if end >= i64::from(i32::MAX) => Ok(Time::Along(axis)),
            (Some(-1), Some(end)) if end >= i64::from(i32::MAX) => Ok(Time::Last),
            _ => Err(MIXES.into()),
        }
    }

    /// The time after work along another axis.
    fn beside(&self, operator: &str, axis: usize, along: usize) -> Result<Time, String> {
        if operator == "Concat" {
            let same = (0..self.node.inputs.len()).all(|at| self.time(at) == Time::Along(axis));
            return if same { Ok(Time::Along(axis)) } else { Err(MIXES.into()) };
        }
        let replaced = match operator {
            "Gather" => self.shape(1)?.len(),
            "ArgMax" | "ArgMin" if self.node.int_or("keepdims", 1)? == 0 => 0,
            _ => 1,
        };
        Ok(Time::Along(if axis > along { axis + replaced - 1 } else { axis }))
    }

    fn without(&self, axis: usize, gone: &[i64], axes: usize) -> Result<Time, String> {
        let gone: Vec<usize> = gone.iter().map(|&at| operators::axis(at, axes)).collect::<Result<_, _>>()?;
        if gone.contains(&axis) {
            return Err(MIXES.into());
        }
        Ok(Time::Along(axis - gone.iter().filter(|&&at| at < axis).count()))
    }

    fn reduced(&self, axis: usize, axes: usize) -> Result<Time, String> {
        let gone = self.integers("axes", 1)?.unwrap_or_default();
        if gone.is_empty() {
            let nothing = self.node.int_or("noop_with_empty_axes", 0)? != 0;
            return if nothing { Ok(Time::Along(axis)) } else { Err(MIXES.into()) };
        }
        match self.node.int_or("keepdims", 1)? {
            0 => self.without(axis, &gone, axes),
            _ => self.without(axis, &gone, axes).map(|_| Time::Along(axis)),
        }
    }

    /// Whether a convolution reads one place along an axis at a time.
    fn is_pointwise(&self, axis: usize) -> Result<bool, String> {
        let kernel = self.shape(1)?;
        let Some(place) = axis.checked_sub(2) else { return Ok(false) };
        let each = |key: &str, at: usize| {
            Ok::<_, String>(self.node.ints(key)?.and_then(|values| values.get(at).copied()))
        };
        let pads = self.node.ints("pads")?;
        let half = pads.map_or(0, |pads| pads.len() / 2);
        let padded =
            pads.is_some_and(|pads| pads.get(place) != Some(&0) || pads.get(place + half) != Some(&0));
        Ok(kernel.get(axis) == Some(&1) && each("strides", place)?.unwrap_or(1) == 1 && !padded)
    }

    /// Axes of inputs that broadcast are counted from the end.
    fn broadcast(&self) -> Result<Time, String> {
        let axes = self.result()?.len();
        let mut found = None;
        for at in 0..self.node.inputs.len() {
            let Time::Along(axis) = self.time(at) else { continue };
            let axis = (axis + axes).checked_sub(self.shape(at)?.len()).ok_or("its inputs do not fit")?;
            if *found.get_or_insert(axis) != axis {
                return Err("it joins steps with other axes".into());
            }
        }
        let Some(axis) = found else { return Err(MIXES.into()) };
        for at in 0..self.node.inputs.len() {
            if self.time(at) == Time::Free && self.node.input_name(at).is_some() {
                let shape = self.shape(at)?;
                let len = (axis + shape.len()).checked_sub(axes).map(|at| shape[at]);
                if len.is_some_and(|len| len != 1) {
                    return Err("it joins the steps with an array that has its own place for each".into());
                }
            }
        }
        Ok(Time::Along(axis))
    }

    /// The axis stays if as many elements lie before it, and it is as long.
    fn reshaped(&self) -> Result<Time, String> {
        let Time::Along(axis) = self.time(0) else {
            // Steps in the shape alone: something that repeats for each, or that was cut before.
            return Err("its shape is made of the number of steps".into());
        };
        let (from, to) = (self.shape(0)?, self.result()?);
        let before: usize = from[..axis].iter().product();
        let fits = |at: &usize| to[..*at].iter().product::<usize>() == before && to[*at] == from[axis];
        let mut places = (0..to.len()).filter(fits);
        match (places.next(), places.next()) {
            (Some(at), None) => Ok(Time::Along(at)),
            (Some(_), Some(_)) => {
                Err("its result has several axes that can be that of the steps; give more than one step"
                    .into())
            }
            (None, _) => Err("it joins the steps with another axis".into()),
        }
    }

    fn expanded(&self) -> Result<Time, String> {
        match (self.time(0), self.time(1)) {
            (Time::Along(axis), _) => {
                let axes = self.result()?.len();
                Ok(Time::Along(axis + axes - self.shape(0)?.len()))
            }
            (_, Time::Lens(bits)) => {
                let axes = self.result()?.len();
                let mut along = (0..bits.len()).filter(|&at| bits[at]);
                match (along.next(), along.next()) {
                    (Some(at), None) if at + axes >= bits.len() => Ok(Time::Along(at + axes - bits.len())),
                    _ => Err(MIXES.into()),
                }
            }
            _ => Err(MIXES.into()),
        }
    }

    fn product(&self) -> Result<Time, String> {
        let axes = self.result()?.len();
        let (a, b) = (self.shape(0)?.len(), self.shape(1)?.len());
        match (self.time(0), self.time(1)) {
            (Time::Along(axis), Time::Free) if axis + 1 < a => {
                // A right side with a batch of its own would have a place for each step.
                let from_end = a - axis;
                let other =
                    (from_end <= b && from_end > 2).then(|| self.shape(1).map(|shape| shape[b - from_end]));
                match other.transpose()? {
                    Some(len) if len != 1 => {
                        Err("it joins the steps with an array that has its own place for each".into())
                    }
                    _ => Ok(Time::Along(if b == 1 { axis } else { axes - from_end })),
                }
            }
            (Time::Along(one), Time::Along(other)) if a - one == b - other && a - one > 2 => {
                Ok(Time::Along(axes - (a - one)))
            }
            (Time::Free, Time::Along(axis)) if b - axis > 2 => Ok(Time::Along(axes - (b - axis))),
            (Time::Free, Time::Along(axis)) if b > 1 && axis + 1 == b => Ok(Time::Along(axes - 1)),
            _ => Err(MIXES.into()),
        }
    }
}
