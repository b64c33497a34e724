//! If, Loop and Scan: nodes that run the graphs inside them.

use super::{Cell, Host, Program, Step, Value, ValueRef, Work, identity};
use crate::OnnxError;
use crate::graph::{Axis, Graph, Port};
use crate::operators;
use crate::tensor::{ElementType, Tensor, map_tensor, volume};
use ndarray::{ArrayD, Axis as AxisOf, IxDyn, arr0};

impl Step<'_> {
    pub(super) fn control(&mut self, frame: &mut [Cell], host: &mut Host) -> Result<Vec<Value>, OnnxError> {
        let mut programs = match &mut self.work {
            Work::Control(programs) => std::mem::take(programs),
            _ => Vec::new(),
        };
        let results = match &*self.node.operator {
            "If" => self.branch(&mut programs, frame, host),
            "Loop" => self.repeat(&mut programs[0], frame, host),
            _ => self.scan(&mut programs[0], frame, host),
        };
        self.work = Work::Control(programs);
        results
    }

    fn refuse(&self, problem: impl Into<String>) -> OnnxError {
        self.node.error(problem)
    }

    /// The only element of an input, as a truth; `None` if the input is left out.
    fn truth(&self, at: usize, frame: &[Cell]) -> Result<Option<bool>, OnnxError> {
        let tensor = self.tensor(at, frame).map_err(|problem| self.refuse(problem))?;
        tensor.map(|tensor| truth_of(tensor).map_err(|problem| self.refuse(problem))).transpose()
    }

    fn branch(
        &mut self,
        programs: &mut [Program],
        frame: &mut [Cell],
        host: &mut Host,
    ) -> Result<Vec<Value>, OnnxError> {
        let condition = self.truth(0, frame)?.ok_or_else(|| self.refuse("its condition is missing"))?;
        if let Some(seen) = &mut host.seen {
            seen.conditions.insert(identity(self.node), condition);
        }
        let program = &mut programs[usize::from(!condition)];
        let captured = captured(program, frame);
        program.run_inside(Vec::new(), &captured, host)
    }

    fn repeat(
        &mut self,
        body: &mut Program,
        frame: &mut [Cell],
        host: &mut Host,
    ) -> Result<Vec<Value>, OnnxError> {
        let most = self.tensor(0, frame).map_err(|problem| self.refuse(problem))?;
        let most = match most.map(Tensor::integers) {
            None => i64::MAX,
            Some(Some(count)) if count.len() == 1 => count[0],
            Some(_) => return Err(self.refuse("its trip count is not one whole number")),
        };
        let mut goes_on = self.truth(1, frame)?.unwrap_or(true);
        let carried = self.inputs.len().saturating_sub(2);
        let graph = self.node.graph("body").map_err(|problem| self.refuse(problem))?;
        if body.inputs.len() != carried + 2 || body.outputs.len() < carried + 1 {
            return Err(self.refuse(format!("its body does not carry its {carried} values")));
        }
        let mut values = (2..carried + 2)
            .map(|at| self.value(at, frame))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|problem| self.refuse(problem))?;
        let mut stacks: Vec<Vec<Tensor>> = vec![Vec::new(); body.outputs.len() - carried - 1];
        let captured = captured(body, frame);
        let mut trip = 0;
        while goes_on && trip < most {
            self.count_trip(host)?;
            let given = [Tensor::I64(arr0(trip).into_dyn()), Tensor::Bool(arr0(true).into_dyn())];
            let given = given.map(Value::Tensor).into_iter().chain(values).map(Cell::Own);
            let mut results = body.run_inside(given, &captured, host)?;
            let scanned = results.split_off(carried + 1);
            values = results.split_off(1);
            goes_on = match results.pop() {
                Some(Value::Tensor(tensor)) => truth_of(&tensor).map_err(|problem| self.refuse(problem))?,
                _ => return Err(self.refuse("its condition is a list")),
            };
            self.keep(&mut stacks, scanned)?;
            trip += 1;
        }
        for (stack, port) in stacks.into_iter().zip(&graph.outputs[carried + 1..]) {
            let all = stacked(stack, port, 0, false).map_err(|problem| self.refuse(problem))?;
            values.push(Value::Tensor(all));
        }
        Ok(values)
    }

    fn scan(
        &mut self,
        body: &mut Program,
        frame: &mut [Cell],
        host: &mut Host,
    ) -> Result<Vec<Value>, OnnxError> {
        let plan = ScanPlan::of(self, body, frame).map_err(|problem| self.refuse(problem))?;
        let graph = self.node.graph("body").map_err(|problem| self.refuse(problem))?;
        let mut values = (0..plan.states)
            .map(|at| self.value(at, frame))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|problem| self.refuse(problem))?;
        let mut stacks: Vec<Vec<Tensor>> = vec![Vec::new(); body.outputs.len() - plan.states];
        let captured = captured(body, frame);
        for trip in 0..plan.steps {
            self.count_trip(host)?;
            let mut given = values;
            for (k, input) in plan.inputs.iter().enumerate() {
                let tensor = self.tensor(plan.states + k, frame).map_err(|problem| self.refuse(problem))?;
                let tensor = tensor.ok_or_else(|| self.refuse("one of its inputs is missing"))?;
                let at = if input.reversed { plan.steps - 1 - trip } else { trip };
                given.push(Value::Tensor(slice_of(tensor, input.axis, at)));
            }
            let mut results = body.run_inside(given.into_iter().map(Cell::Own), &captured, host)?;
            let scanned = results.split_off(plan.states);
            values = results;
            self.keep(&mut stacks, scanned)?;
        }
        for (k, stack) in stacks.into_iter().enumerate() {
            let (axis, reversed) = plan.outputs[k];
            let port = &graph.outputs[plan.states + k];
            let all = stacked(stack, port, axis, reversed).map_err(|problem| self.refuse(problem))?;
            values.push(Value::Tensor(all));
        }
        Ok(values)
    }

    fn count_trip(&self, host: &mut Host) -> Result<(), OnnxError> {
        let left = host.trips_left.checked_sub(1);
        host.trips_left =
            left.ok_or_else(|| self.refuse("its loop makes too many trips for inputs of this size"))?;
        host.budget.spend(operators::Need::default()).map_err(|problem| self.refuse(problem))
    }

    /// Keeps the outputs of a trip that are stacked at the end.
    fn keep(&self, stacks: &mut [Vec<Tensor>], scanned: Vec<Value>) -> Result<(), OnnxError> {
        for (stack, value) in stacks.iter_mut().zip(scanned) {
            match value {
                Value::Tensor(tensor) => stack.push(tensor),
                Value::List(_) => return Err(self.refuse("its body gives a list to stack")),
            }
        }
        Ok(())
    }
}

/// The values that a graph takes from the frame around it.
fn captured<'f>(program: &Program, frame: &'f [Cell]) -> Vec<ValueRef<'f>> {
    program.captures.iter().filter_map(|(outer, _)| frame[*outer].value()).collect()
}

fn truth_of(tensor: &Tensor) -> Result<bool, String> {
    match tensor {
        Tensor::Bool(array) if array.len() == 1 => Ok(array.iter().any(|&on| on)),
        other => Err(format!("its condition is {} {:?}; expected one bool", other.element(), other.shape())),
    }
}

struct ScanInput {
    axis: usize,
    reversed: bool,
}

/// A Scan with its axes and directions.
struct ScanPlan {
    states: usize,
    steps: usize,
    inputs: Vec<ScanInput>,
    /// The axis to stack along, and whether from the end.
    outputs: Vec<(usize, bool)>,
}

impl ScanPlan {
    fn of(step: &Step, body: &Program, frame: &[Cell]) -> Result<ScanPlan, String> {
        let node = step.node;
        if step.opset < 9 {
            return Err("Scan before opset 9 is not supported; export the model with a newer one".into());
        }
        let count = node.int("num_scan_inputs")?.and_then(|count| usize::try_from(count).ok());
        let count = count.filter(|&count| count > 0 && count <= step.inputs.len());
        let count = count.ok_or("its num_scan_inputs does not fit its inputs")?;
        let states = step.inputs.len() - count;
        if body.inputs.len() != step.inputs.len() || body.outputs.len() < states {
            return Err(format!("its body does not carry its {states} states"));
        }
        let list = |key: &str| Ok::<_, String>(node.ints(key)?.unwrap_or_default());
        let entry = |values: &[i64], k: usize| values.get(k).copied().unwrap_or(0);
        let (axes, directions) = (list("scan_input_axes")?, list("scan_input_directions")?);
        let mut inputs = Vec::new();
        let mut steps = None;
        for k in 0..count {
            let tensor = step.tensor(states + k, frame)?.ok_or("one of its inputs is missing")?;
            let axis = operators::axis(entry(axes, k), tensor.shape().len())?;
            let len = tensor.shape()[axis];
            if *steps.get_or_insert(len) != len {
                return Err(format!("its inputs have {len} and {} steps", steps.unwrap_or(0)));
            }
            inputs.push(ScanInput { axis, reversed: entry(directions, k) != 0 });
        }
        let (axes, directions) = (list("scan_output_axes")?, list("scan_output_directions")?);
        let outputs = (0..body.outputs.len() - states).map(|k| {
            let axis = usize::try_from(entry(axes, k))
                .map_err(|_| "an axis of its outputs is negative".to_string())?;
            Ok((axis, entry(directions, k) != 0))
        });
        let outputs = outputs.collect::<Result<_, String>>()?;
        Ok(ScanPlan { states, steps: steps.unwrap_or(0), inputs, outputs })
    }
}

fn slice_of(tensor: &Tensor, axis: usize, at: usize) -> Tensor {
    map_tensor!(tensor, array => array.index_axis(AxisOf(axis), at).as_standard_layout().into_owned())
}

/// Tensors of one shape and type as one, along a new axis. Of none the port tells the shape.
pub(crate) fn stacked(
    mut tensors: Vec<Tensor>,
    port: &Port,
    axis: usize,
    reversed: bool,
) -> Result<Tensor, String> {
    if reversed {
        tensors.reverse();
    }
    macro_rules! all {
        ($kind:ident) => {{
            let views: Option<Vec<_>> = tensors
                .iter()
                .map(|tensor| match tensor {
                    Tensor::$kind(array) => Some(array.view()),
                    _ => None,
                })
                .collect();
            let views = views.ok_or("its outputs are of different types")?;
            let fits = views.iter().all(|view| view.shape() == views[0].shape() && axis <= view.ndim());
            if !fits {
                return Err("its outputs differ in shape from trip to trip".into());
            }
            let all = ndarray::stack(AxisOf(axis), &views).map_err(|error| error.to_string())?;
            Tensor::$kind(all.as_standard_layout().into_owned())
        }};
    }
    Ok(match tensors.first() {
        None => nothing(port)?,
        Some(Tensor::F32(_)) => all!(F32),
        Some(Tensor::I64(_)) => all!(I64),
        Some(Tensor::I32(_)) => all!(I32),
        Some(Tensor::Bool(_)) => all!(Bool),
        Some(Tensor::U8(_)) => all!(U8),
        Some(Tensor::I8(_)) => all!(I8),
    })
}

/// The stack of no trips; axes of unknown length are empty.
fn nothing(port: &Port) -> Result<Tensor, String> {
    let known = |axis: &Axis| if let Axis::Fixed(len) = axis { *len } else { 0 };
    let lens: Vec<usize> = [0].into_iter().chain(port.shape.iter().flatten().map(known)).collect();
    volume(&lens)?;
    let shape = IxDyn(&lens);
    Ok(match port.element.map_or(ElementType::F32, ElementType::stored) {
        ElementType::I64 => Tensor::I64(ArrayD::zeros(shape)),
        ElementType::I32 => Tensor::I32(ArrayD::zeros(shape)),
        ElementType::Bool => Tensor::Bool(ArrayD::from_elem(shape, false)),
        ElementType::U8 => Tensor::U8(ArrayD::zeros(shape)),
        ElementType::I8 => Tensor::I8(ArrayD::zeros(shape)),
        _ => Tensor::F32(ArrayD::zeros(shape)),
    })
}

/// Checks that a node has the graphs that its operator runs.
pub(crate) fn check(node: &crate::graph::Node) -> Result<(), String> {
    let (graphs, others): (&[&str], &[&str]) = match &*node.operator {
        "If" => (&["else_branch", "then_branch"], &[]),
        "Loop" => (&["body"], &[]),
        "Scan" => (
            &["body"],
            &[
                "num_scan_inputs",
                "scan_input_axes",
                "scan_input_directions",
                "scan_output_axes",
                "scan_output_directions",
            ],
        ),
        _ => return Ok(()),
    };
    node.only(&[graphs, others].concat())?;
    let inputs = |graph: &Graph| graph.inputs.len();
    for key in graphs {
        let graph = node.graph(key)?;
        if node.operator == "If" && inputs(graph) > 0 {
            return Err(format!("attribute {key}: its graph takes {} inputs; expected none", inputs(graph)));
        }
    }
    Ok(())
}
