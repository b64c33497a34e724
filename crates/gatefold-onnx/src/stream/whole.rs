//! Chunks of a long input, whose outputs together are those of the whole.

use super::Stream;
use super::elements::Course;
use super::steps::{Follow, Time};
use crate::graph::{Axis, Port};
use crate::tensor::{map_tensor, volume};
use crate::walk::Seen;
use crate::{OnnxError, Tensor};
use ndarray::{Axis as AxisOf, Slice};
use std::collections::BTreeMap;

/// The most ways to place the steps among the axes of the inputs that are tried.
const MOST_WAYS: usize = 64;

/// The axes along which a model goes step by step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepAxes {
    inputs: BTreeMap<String, usize>,
    outputs: BTreeMap<String, usize>,
    /// The steps of each call, if the model fixes them.
    fixed: Option<usize>,
}

impl StepAxes {
    /// The axis of an input with a place for each step; `None` if the input is the same for all.
    pub fn of_input(&self, name: &str) -> Option<usize> {
        self.inputs.get(name).copied()
    }

    /// The axis of an output with a place for each step; `None` if it is made of the states after the last.
    pub fn of_output(&self, name: &str) -> Option<usize> {
        self.outputs.get(name).copied()
    }

    /// The number of steps that the model takes in each call; `None` if it takes any.
    pub fn fixed_steps(&self) -> Option<usize> {
        self.fixed
    }

    /// Refuses chunks of `steps`, and inputs of `all` steps, that do not fit a model that fixes the steps of each call.
    fn check(&self, all: usize, steps: usize) -> Result<(), OnnxError> {
        let Some(fixed) = self.fixed else { return Ok(()) };
        let names = self.inputs.keys().cloned().collect::<Vec<_>>().join(", ");
        let each = format!("since the model fixes {fixed} steps per call");
        if steps != fixed {
            return Err(whole(&names, &format!("chunks of {fixed}, {each}"), format!("chunks of {steps}")));
        }
        if !all.is_multiple_of(fixed) {
            return Err(whole(
                &names,
                &format!("a multiple of {fixed} steps, {each}"),
                format!("{all} steps"),
            ));
        }
        Ok(())
    }
}

impl Stream<'_> {
    /// Runs the model on inputs as long as you like, in chunks of `steps`: goes on from the states of the call before,
    /// and returns the outputs of all chunks together, which are those of the whole. `axes` are those of
    /// [`Stream::step_axes`].
    ///
    /// # Errors
    /// Those of [`Stream::run`]; [`OnnxError::Input`] for inputs of different lengths, for a chunk of 0 steps, or, if the model
    /// fixes the steps of each call, for chunks of others and for inputs that are not made of whole chunks.
    pub fn run_in_chunks(
        &mut self,
        inputs: &BTreeMap<String, Tensor>,
        axes: &StepAxes,
        steps: usize,
    ) -> Result<BTreeMap<String, Tensor>, OnnxError> {
        if steps == 0 {
            return Err(whole("chunk", "at least 1 step", "0".into()));
        }
        let all = length(inputs, &axes.inputs)?;
        axes.check(all, steps)?;
        let mut parts: BTreeMap<String, Vec<Tensor>> = BTreeMap::new();
        for begin in (0..all).step_by(steps) {
            let chunk = cut(inputs, &axes.inputs, begin, (begin + steps).min(all));
            for (name, tensor) in self.run(&chunk)? {
                let parts = parts.entry(name.clone()).or_default();
                if axes.of_output(&name).is_none() {
                    parts.clear();
                }
                parts.push(tensor);
            }
        }
        let join = |(name, parts): (String, Vec<Tensor>)| {
            let axis = axes.of_output(&name).unwrap_or(0);
            Ok((name.clone(), joined(parts, axis).map_err(|found| whole(&name, "chunks that fit", found))?))
        };
        parts.into_iter().map(join).collect()
    }

    /// Finds the axes along which the model goes step by step, by running it on the first `steps` of the inputs; the
    /// streams begin anew afterwards. An axis that the model fixes is one of them only if no open axis is: then the model
    /// fixes the steps of each call.
    ///
    /// # Errors
    /// [`OnnxError::Node`] for the first node that computes a step from later ones, or from all; for one whose state does
    /// not go on; [`OnnxError::Input`] if no axis, or more than one, can be that of the steps, or if the model fixes another
    /// number of steps.
    pub fn step_axes(
        &mut self,
        inputs: &BTreeMap<String, Tensor>,
        steps: usize,
    ) -> Result<StepAxes, OnnxError> {
        if steps == 0 {
            return Err(whole("chunk", "at least 1 step", "0".into()));
        }
        let ports = self.inputs();
        let mut problem: Option<(u8, OnnxError)> = None;
        // The axis of a single step looks like any other of length 1.
        let open = ways(&ports, inputs, None)?;
        let mut found = self.try_ways(inputs, open, None, steps.max(2), &mut problem);
        if found.is_empty() {
            for len in fixed_lens(&ports) {
                let ways = ways(&ports, inputs, Some(len)).unwrap_or_default();
                found.extend(self.try_ways(inputs, ways, Some(len), len, &mut problem));
            }
        }
        let names = ports.iter().map(|port| port.name.as_str()).collect::<Vec<_>>().join(", ");
        let refuse = |found: String| whole(&names, "one axis of steps", found);
        match (found.pop(), found.is_empty()) {
            (Some(axes), true) => {
                axes.check(length(inputs, &axes.inputs)?, steps)?;
                Ok(axes)
            }
            (Some(_), false) => Err(refuse("several that can be it".into())),
            (None, _) => Err(problem.map_or_else(|| refuse("none".into()), |(_, error)| error)),
        }
    }

    /// The ways that are right; notes the problem of the one that got furthest, which tells most.
    fn try_ways(
        &mut self,
        inputs: &BTreeMap<String, Tensor>,
        ways: Vec<BTreeMap<String, usize>>,
        fixed: Option<usize>,
        steps: usize,
        problem: &mut Option<(u8, OnnxError)>,
    ) -> Vec<StepAxes> {
        let mut found = Vec::new();
        for way in ways {
            match self.try_axes(inputs, &way, fixed, steps) {
                Ok(outputs) => found.push(StepAxes { inputs: way, outputs, fixed }),
                Err((rank, error)) if problem.as_ref().is_none_or(|(best, _)| rank > *best) => {
                    *problem = Some((rank, error));
                }
                Err(_) => {}
            }
        }
        found
    }

    /// Follows the steps from these axes to the outputs, in a first chunk of `steps`, or of as many as the model fixes; an
    /// error comes with how much it tells.
    fn try_axes(
        &mut self,
        inputs: &BTreeMap<String, Tensor>,
        way: &BTreeMap<String, usize>,
        fixed: Option<usize>,
        steps: usize,
    ) -> Result<BTreeMap<String, usize>, (u8, OnnxError)> {
        let shallow = |error: OnnxError| (0, error);
        let all = length(inputs, way).map_err(shallow)?;
        self.reset();
        let chunk = match fixed {
            Some(fixed) if fixed > all => repeated(inputs, way, fixed).map_err(shallow)?,
            _ => cut(inputs, way, 0, steps.min(all)),
        };
        let shapes: Vec<_> =
            chunk.iter().map(|(name, tensor)| (name.clone(), tensor.shape().to_vec())).collect();
        let mut seen = Seen::default();
        let ran = self.run_watched(&chunk, Some(&mut seen));
        self.reset();
        ran.map_err(shallow)?;
        seen.shapes.extend(shapes);
        let begun: Vec<&Port> = self.begun().collect();
        for port in &begun {
            let zeros = self.zeros(port).map_err(shallow)?;
            seen.shapes.insert(port.name.clone(), zeros.shape().to_vec());
        }
        let graph = &self.session.model().graph;
        let times = way.iter().map(|(name, &axis)| {
            let port = graph.inputs.iter().find(|port| port.name == *name);
            port.map(|port| (port.name.as_str(), Time::Along(axis)))
        });
        let first = begun.iter().map(|port| (port.name.as_str(), Time::First));
        let shape = |port: &Port| seen.shapes.get(&port.name).cloned();
        let course = Course { shape: &shape, conditions: &seen.conditions };
        let kept = self.states.going_on(graph, &course);
        let follow = Follow { seen: &seen, kept: &kept };
        let times = follow
            .graph(graph, times.flatten().chain(first).collect())
            .map_err(|(node, problem)| (if problem.other_axis { 1 } else { 2 }, node.error(problem.text)))?;
        let carried = self.states.carried.iter().map(|&(_, output)| graph.outputs[output].name.as_str());
        for name in carried {
            if let Some(Time::Along(_) | Time::Lens(_) | Time::First) = times.get(name) {
                let found = "one that is not made of the states after the last step".into();
                return Err((2, whole(name, "a state after the last step", found)));
            }
        }
        let mut outputs = BTreeMap::new();
        for port in self.outputs() {
            match times.get(port.name.as_str()) {
                Some(Time::Along(axis)) => drop(outputs.insert(port.name.clone(), *axis)),
                Some(Time::Lens(_)) => {
                    return Err((
                        1,
                        whole(&port.name, "an output of steps", "one made of their number".into()),
                    ));
                }
                Some(Time::First) => {
                    let found = format!("output {}, made of the first state of a chunk", port.name);
                    return Err((2, OnnxError::Stream(found)));
                }
                _ => {}
            }
        }
        Ok(outputs)
    }
}

fn whole(name: &str, expected: &str, found: String) -> OnnxError {
    OnnxError::Input { name: name.into(), expected: expected.into(), found }
}

/// The lengths that the model fixes, in order of appearance.
fn fixed_lens(ports: &[&Port]) -> Vec<usize> {
    let mut lens = Vec::new();
    for axis in ports.iter().flat_map(|port| port.shape.iter().flatten()) {
        if let Axis::Fixed(len) = axis
            && *len > 0
            && !lens.contains(len)
        {
            lens.push(*len);
        }
    }
    lens
}

/// The ways to give the steps an axis in some of the inputs: at least one, and axes of one length. They are open axes and,
/// with a fixed number of steps in each call, at least one that the model fixes to it.
fn ways(
    ports: &[&Port],
    inputs: &BTreeMap<String, Tensor>,
    fixed: Option<usize>,
) -> Result<Vec<BTreeMap<String, usize>>, OnnxError> {
    let mut ways: Vec<Way> = vec![Way::default()];
    for port in ports {
        let Some(tensor) = inputs.get(&port.name) else {
            return Err(whole(&port.name, &port.to_string(), "none".into()));
        };
        let mut more = Vec::new();
        for (axis, &len) in tensor.shape().iter().enumerate() {
            let is_fixed = match port.shape.as_ref().and_then(|shape| shape.get(axis)) {
                Some(Axis::Fixed(len)) if fixed == Some(*len) => true,
                Some(Axis::Fixed(_)) => continue,
                _ => false,
            };
            for way in ways.iter().filter(|way| way.steps.is_none_or(|steps| steps == len)) {
                let mut way = way.clone();
                way.axes.insert(port.name.clone(), axis);
                (way.steps, way.fixed) = (Some(len), way.fixed || is_fixed);
                more.push(way);
            }
        }
        ways.extend(more);
        if ways.len() > MOST_WAYS {
            let found = format!("more than {MOST_WAYS} ways to give the steps an axis");
            return Err(whole(&port.name, "an input with one axis of this length", found));
        }
    }
    let wanted = |way: &Way| !way.axes.is_empty() && way.fixed == fixed.is_some();
    Ok(ways.into_iter().filter(wanted).map(|way| way.axes).collect())
}

/// An axis of the steps in some of the inputs.
#[derive(Clone, Default)]
struct Way {
    axes: BTreeMap<String, usize>,
    /// The number of all steps.
    steps: Option<usize>,
    /// Whether the model fixes one of these axes.
    fixed: bool,
}

/// The number of steps of all inputs.
fn length(inputs: &BTreeMap<String, Tensor>, axes: &BTreeMap<String, usize>) -> Result<usize, OnnxError> {
    let mut all = None;
    for (name, &axis) in axes {
        let found = inputs.get(name).and_then(|tensor| tensor.shape().get(axis).copied());
        let Some(len) = found.filter(|&len| len > 0) else {
            return Err(whole(name, "an array with steps", "none".into()));
        };
        if *all.get_or_insert(len) != len {
            return Err(whole(name, &format!("{} steps", all.unwrap_or(len)), len.to_string()));
        }
    }
    all.ok_or_else(|| whole("inputs", "an array with steps", "none".into()))
}

/// The steps from `begin` to `end` of each input that has them, and the others whole.
fn cut(
    inputs: &BTreeMap<String, Tensor>,
    axes: &BTreeMap<String, usize>,
    begin: usize,
    end: usize,
) -> BTreeMap<String, Tensor> {
    let part = |tensor: &Tensor, axis: usize| {
        let range = Slice::from(begin..end);
        map_tensor!(tensor, array => array.slice_axis(AxisOf(axis), range).as_standard_layout().into_owned())
    };
    inputs
        .iter()
        .map(|(name, tensor)| {
            (name.clone(), axes.get(name).map_or_else(|| tensor.clone(), |&axis| part(tensor, axis)))
        })
        .collect()
}

/// Inputs with fewer steps than a model takes in a call, repeated.
fn repeated(
    inputs: &BTreeMap<String, Tensor>,
    axes: &BTreeMap<String, usize>,
    steps: usize,
) -> Result<BTreeMap<String, Tensor>, OnnxError> {
    let mut all = inputs.clone();
    for (name, &axis) in axes {
        let Some(tensor) = all.get_mut(name) else { continue };
        let len = tensor.shape()[axis];
        let mut shape = tensor.shape().to_vec();
        shape[axis] = steps;
        volume(&shape).map_err(|problem| whole(name, "a chunk", problem))?;
        let places: Vec<usize> = (0..steps).map(|step| step % len).collect();
        *tensor = map_tensor!(&*tensor, array => array.select(AxisOf(axis), &places));
    }
    Ok(all)
}

/// Parts one after another.
fn joined(mut parts: Vec<Tensor>, axis: usize) -> Result<Tensor, String> {
    if parts.len() == 1 {
        return Ok(parts.remove(0));
    }
    macro_rules! all {
        ($kind:ident) => {{
            let views = parts.iter().map(|part| match part {
                Tensor::$kind(array) => Ok(array.view()),
                other => Err(format!("{} after {}", other.element(), parts[0].element())),
            });
            let views = views.collect::<Result<Vec<_>, String>>()?;
            ndarray::concatenate(AxisOf(axis), &views)
                .map(Tensor::$kind)
                .map_err(|error| error.to_string())?
        }};
    }
    Ok(match parts.first() {
        Some(Tensor::I64(_)) => all!(I64),
        Some(Tensor::I32(_)) => all!(I32),
        Some(Tensor::Bool(_)) => all!(Bool),
        Some(Tensor::U8(_)) => all!(U8),
        Some(Tensor::I8(_)) => all!(I8),
        _ => all!(F32),
    })
}
