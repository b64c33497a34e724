//! Loops and branches, walked trip by trip: their cells become elements as if an exporter had unrolled them.

use super::Value;
use super::chain::Chain;
use crate::graph::{Graph, Node, Port};
use crate::operators::{self, Need};
use crate::tensor::Tensor;
use crate::walk::stacked;
use ndarray::{ArrayD, Axis, arr0, stack};

impl Chain<'_> {
    /// Walks the graphs inside a node.
    pub(super) fn control(&mut self, node: &Node, inputs: &[Option<Value>]) -> Result<Vec<Value>, String> {
        match &*node.operator {
            "If" => {
                let taken = truth(inputs.first()).ok_or("its condition depends on the data")?;
                let key = if taken { "then_branch" } else { "else_branch" };
                self.body(node.graph(key)?, Vec::new())
            }
            "Loop" => self.repeat(node, inputs),
            _ => self.scan(node, inputs),
        }
    }

    /// Walks a graph inside a node once.
    fn body(&mut self, graph: &Graph, given: Vec<Value>) -> Result<Vec<Value>, String> {
        for (name, constant) in &graph.constants {
            self.values.insert(name.clone(), Value::Known(constant.clone()));
        }
        for (port, value) in graph.inputs.iter().zip(given) {
            self.values.insert(port.name.clone(), value);
        }
        self.inside += 1;
        for node in &graph.nodes {
            self.node(node)
                .map_err(|problem| format!("inside it, node {} ({}): {problem}", node.name, node.operator))?;
        }
        self.inside -= 1;
        let result = |name: &str| self.value(name).ok_or_else(|| format!("inside it, {name} is not known"));
        graph.outputs.iter().map(|port| result(&port.name)).collect()
    }

    fn repeat(&mut self, node: &Node, inputs: &[Option<Value>]) -> Result<Vec<Value>, String> {
        let most = match inputs.first() {
            Some(Some(Value::Known(count))) => match count.integers().as_deref() {
                Some(&[count]) => count,
                _ => return Err("its trip count is not one whole number".into()),
            },
            Some(None) => i64::MAX,
            _ => return Err("the number of its trips depends on the data".into()),
        };
        let mut goes_on = match inputs.get(1) {
            Some(None) | None => true,
            given => truth(given).ok_or("its condition depends on the data")?,
        };
        let graph = node.graph("body")?;
        let mut carried = inputs.get(2..).unwrap_or_default().iter().cloned().collect::<Option<Vec<_>>>();
        let carried = carried.take().ok_or("a value that it carries is not known")?;
        let count = carried.len();
        if graph.inputs.len() != count + 2 || graph.outputs.len() < count + 1 {
            return Err(format!("its body does not carry its {count} values"));
        }
        let mut values = carried;
        let mut stacks: Vec<Vec<Value>> = vec![Vec::new(); graph.outputs.len() - count - 1];
        let mut trip = 0;
        while goes_on && trip < most {
            self.budget.spend(Need::default())?;
            let given = [Tensor::I64(arr0(trip).into_dyn()), Tensor::Bool(arr0(true).into_dyn())];
            let given = given.map(Value::Known).into_iter().chain(values).collect();
            let mut results = self.body(graph, given)?;
            let scanned = results.split_off(count + 1);
            values = results.split_off(1);
            goes_on = truth(Some(&results.pop())).ok_or("its condition depends on the data")?;
            for (stack, value) in stacks.iter_mut().zip(scanned) {
                stack.push(value);
            }
            trip += 1;
        }
        for (values_of, port) in stacks.into_iter().zip(&graph.outputs[count + 1..]) {
            values.push(self.stack(values_of, port, 0, false)?);
        }
        Ok(values)
    }

    fn scan(&mut self, node: &Node, inputs: &[Option<Value>]) -> Result<Vec<Value>, String> {
        let graph = node.graph("body")?;
        let scanned = node.int("num_scan_inputs")?.and_then(|count| usize::try_from(count).ok());
        let states = scanned.and_then(|count| inputs.len().checked_sub(count)).filter(|&s| s < inputs.len());
        let states = states.ok_or("its num_scan_inputs does not fit its inputs")?;
        if graph.inputs.len() != inputs.len() || graph.outputs.len() < states {
            return Err(format!("its body does not carry its {states} states"));
        }
        let given: Vec<Value> = inputs.iter().cloned().collect::<Option<_>>().ok_or("an input is missing")?;
        let entry = |key: &str, at: usize| -> Result<i64, String> {
            Ok(node.ints(key)?.unwrap_or_default().get(at).copied().unwrap_or(0))
        };
        let mut slices: Vec<Vec<Value>> = Vec::new();
        for (at, value) in given[states..].iter().enumerate() {
            let mut of_trips = slices_of(value, entry("scan_input_axes", at)?)?;
            if entry("scan_input_directions", at)? != 0 {
                of_trips.reverse();
            }
            slices.push(of_trips);
        }
        let trips = slices[0].len();
        if slices.iter().any(|slices| slices.len() != trips) {
            return Err("its inputs have different numbers of steps".into());
        }
        let mut values = given[..states].to_vec();
        let mut stacks: Vec<Vec<Value>> = vec![Vec::new(); graph.outputs.len() - states];
        for trip in 0..trips {
            self.budget.spend(Need::default())?;
            let given = values.into_iter().chain(slices.iter().map(|slices| slices[trip].clone())).collect();
            values = self.body(graph, given)?;
            for (stack, value) in stacks.iter_mut().zip(values.split_off(states)) {
                stack.push(value);
            }
        }
        for (at, (values_of, port)) in stacks.into_iter().zip(&graph.outputs[states..]).enumerate() {
            let axis = entry("scan_output_axes", at)?;
            let reversed = entry("scan_output_directions", at)? != 0;
            let axis = usize::try_from(axis).map_err(|_| "an axis of its outputs is negative")?;
            values.push(self.stack(values_of, port, axis, reversed)?);
        }
        Ok(values)
    }

    /// The values of all trips as one, along a new axis.
    fn stack(
        &mut self,
        mut values: Vec<Value>,
        port: &Port,
        axis: usize,
        reversed: bool,
    ) -> Result<Value, String> {
        let known: Option<Vec<Tensor>> = values
            .iter()
            .map(|value| if let Value::Known(tensor) = value { Some(tensor.clone()) } else { None })
            .collect();
        if let Some(known) = known {
            return stacked(known, port, axis, reversed).map(Value::Known);
        }
        if reversed {
            values.reverse();
        }
        let mut all: Vec<ArrayD<i64>> = Vec::with_capacity(values.len());
        for value in self.as_elements(&values.into_iter().map(Some).collect::<Vec<_>>())? {
            match value {
                Some(Value::Traced(ids)) => all.push(ids),
                _ => return Err("it stacks lengths or tokens".into()),
            }
        }
        let views: Vec<_> = all.iter().map(|ids| ids.view()).collect();
        if views.iter().any(|view| view.shape() != views[0].shape() || axis > view.ndim()) {
            return Err("its outputs differ in shape from trip to trip".into());
        }
        let ids = stack(Axis(axis), &views).map_err(|error| error.to_string())?;
        Ok(Value::Traced(ids.as_standard_layout().into_owned()))
    }
}

/// The only element of a known bool.
fn truth(value: Option<&Option<Value>>) -> Option<bool> {
    match value? {
        Some(Value::Known(Tensor::Bool(array))) if array.len() == 1 => array.first().copied(),
        _ => None,
    }
}

/// A value at each index of an axis.
fn slices_of(value: &Value, axis: i64) -> Result<Vec<Value>, String> {
    let of = |axes: usize| operators::axis(axis, axes).map(Axis);
    Ok(match value {
        Value::Traced(ids) => {
            let slices = ids.axis_iter(of(ids.ndim())?);
            slices.map(|ids| Value::Traced(ids.as_standard_layout().into_owned())).collect()
        }
        Value::Known(Tensor::F32(array)) => {
            let slices = array.axis_iter(of(array.ndim())?);
            slices.map(|of| Value::Known(Tensor::F32(of.as_standard_layout().into_owned()))).collect()
        }
        Value::Known(Tensor::Bool(array)) => {
            let slices = array.axis_iter(of(array.ndim())?);
            slices.map(|of| Value::Known(Tensor::Bool(of.as_standard_layout().into_owned()))).collect()
        }
        _ => return Err("it scans something other than sequences or masks".into()),
    })
}
