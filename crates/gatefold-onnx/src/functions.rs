//! Local functions of a model, put in place of the nodes that call them.

use crate::proto::{AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto};
use std::collections::BTreeMap;

/// The deepest nesting of functions that call functions.
const MAX_DEPTH: usize = 16;
/// The most nodes of a model after its functions are in place.
const MAX_NODES: usize = 250_000;

/// Puts the bodies of functions in place of the nodes that call them, in the model's graph and the graphs inside.
pub(crate) fn inline(model: &mut ModelProto) -> Result<(), String> {
    let functions = std::mem::take(&mut model.functions);
    if functions.is_empty() {
        return Ok(());
    }
    let by_name = functions.iter().map(|f| ((f.domain.as_str(), f.name.as_str()), f)).collect();
    let mut inlining = Inlining { functions: by_name, calls: 0, nodes: 0 };
    match &mut model.graph {
        Some(graph) => inlining.graph(graph, 0),
        None => Ok(()),
    }
}

struct Inlining<'a> {
    functions: BTreeMap<(&'a str, &'a str), &'a FunctionProto>,
    calls: usize,
    nodes: usize,
}

impl Inlining<'_> {
    fn graph(&mut self, graph: &mut GraphProto, depth: usize) -> Result<(), String> {
        graph.node = self.nodes(std::mem::take(&mut graph.node), depth)?;
        Ok(())
    }

    fn nodes(&mut self, nodes: Vec<NodeProto>, depth: usize) -> Result<Vec<NodeProto>, String> {
        if depth > MAX_DEPTH {
            return Err(format!("functions that call functions more than {MAX_DEPTH} deep"));
        }
        let mut result = Vec::with_capacity(nodes.len());
        for mut node in nodes {
            self.nodes += 1;
            if self.nodes > MAX_NODES {
                return Err(format!("more than {MAX_NODES} nodes with its functions in place"));
            }
            if let Some(function) =
                self.functions.get(&(node.domain.as_str(), node.op_type.as_str())).copied()
            {
                self.calls += 1;
                let body = call(function, &node, self.calls)?;
                result.extend(self.nodes(body, depth + 1)?);
                continue;
            }
            for attribute in &mut node.attribute {
                for graph in attribute.g.iter_mut().chain(&mut attribute.graphs) {
                    self.graph(graph, depth + 1)?;
                }
            }
            result.push(node);
        }
        Ok(result)
    }
}

/// The nodes of a function for one call: its formal names become those of the call, all others are made unique.
fn call(function: &FunctionProto, node: &NodeProto, number: usize) -> Result<Vec<NodeProto>, String> {
    if node.input.len() > function.input.len() || node.output.len() > function.output.len() {
        let found = (node.input.len(), node.output.len());
        return Err(format!(
            "node {}: {} does not take its inputs and outputs {found:?}",
            node.name, function.name
        ));
    }
    let mut names: BTreeMap<&str, &str> = BTreeMap::new();
    for (at, formal) in function.output.iter().enumerate() {
        if let Some(given) = node.output.get(at).filter(|name| !name.is_empty()) {
            names.insert(formal, given);
        }
    }
    for (at, formal) in function.input.iter().enumerate() {
        names.insert(formal, node.input.get(at).map_or("", String::as_str));
    }
    let scope = Scope { names, prefix: format!("{}/{number}/", function.name), function, node };
    let mut body = function.node.clone();
    body.iter_mut().for_each(|inner| scope.node(inner));
    Ok(body)
}

/// One call of a function.
struct Scope<'a> {
    names: BTreeMap<&'a str, &'a str>,
    prefix: String,
    function: &'a FunctionProto,
    node: &'a NodeProto,
}

impl Scope<'_> {
    fn name(&self, name: &mut String) {
        match self.names.get(name.as_str()) {
            _ if name.is_empty() => {}
            Some(given) => *name = (*given).into(),
            None => name.insert_str(0, &self.prefix),
        }
    }

    fn node(&self, node: &mut NodeProto) {
        node.input.iter_mut().chain(&mut node.output).for_each(|name| self.name(name));
        node.attribute.retain_mut(|attribute| self.attribute(attribute));
        for graph in node
            .attribute
            .iter_mut()
            .flat_map(|attribute| attribute.g.iter_mut().chain(&mut attribute.graphs))
        {
            self.graph(graph);
        }
    }

    fn graph(&self, graph: &mut GraphProto) {
        graph.input.iter_mut().chain(&mut graph.output).for_each(|port| self.name(&mut port.name));
        graph.initializer.iter_mut().for_each(|tensor| self.name(&mut tensor.name));
        graph.node.iter_mut().for_each(|node| self.node(node));
    }

    /// Gives an attribute that refers to one of the function its value; tells whether it has one.
    fn attribute(&self, attribute: &mut AttributeProto) -> bool {
        let named = std::mem::take(&mut attribute.ref_attr_name);
        if named.is_empty() {
            return true;
        }
        let given = self.node.attribute.iter().chain(&self.function.attribute_proto);
        let Some(value) = given.into_iter().find(|given| given.name == named) else { return false };
        *attribute = AttributeProto { name: std::mem::take(&mut attribute.name), ..value.clone() };
        true
    }
}
