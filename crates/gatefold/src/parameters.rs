//! Where each parameter lies on the device: one buffer of values, one of gradients, one for every moment, all laid out alike.

use crate::plan::{ALIGNMENT, Plan, Span};
use gatefold_model::{Layer, NetworkConfig, Parameters, Role};
use ndarray::ArrayD;
use std::collections::BTreeSet;

/// The name of the buffer of values, in every plan.
pub(crate) const VALUES: &str = "parameters";
/// The name of the buffer of gradients.
pub(crate) const GRADIENTS: &str = "gradients";

/// Where each parameter lies in the buffers of values, gradients and moments.
#[derive(Clone, Debug)]
pub(crate) struct ParameterLayout {
    pub(crate) entries: Vec<ParameterEntry>,
    pub(crate) len: usize,
}

/// One parameter's place.
#[derive(Clone, Debug)]
pub(crate) struct ParameterEntry {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) layer: usize,
    pub(crate) offset: usize,
    pub(crate) len: usize,
}

impl ParameterLayout {
    pub(crate) fn new(config: &NetworkConfig) -> ParameterLayout {
        let mut entries = Vec::new();
        let mut offset = 0;
        for layer in config.layers().iter().filter(|layer| layer.owner == layer.index) {
            for spec in &layer.parameters {
                let len = spec.len();
                let (name, shape) = (spec.name.clone(), spec.shape.clone());
                entries.push(ParameterEntry { name, shape, layer: layer.index, offset, len });
                offset += len.next_multiple_of(ALIGNMENT);
            }
        }
        ParameterLayout { entries, len: offset }
    }

    fn part(&self, name: &str, whole: Span) -> Span {
        let entry = self.entries.iter().find(|entry| entry.name == name);
        let entry = entry.unwrap_or_else(|| panic!("no parameter is called {name}"));
        whole.part(entry.offset, entry.len)
    }

    /// The parameters' values one behind the other, gaps zero.
    pub(crate) fn flatten(&self, parameters: &Parameters) -> Vec<f32> {
        let mut flat = vec![0.0; self.len];
        for entry in &self.entries {
            let target = &mut flat[entry.offset..entry.offset + entry.len];
            for (slot, value) in target.iter_mut().zip(&parameters[&entry.name]) {
                *slot = *value;
            }
        }
        flat
    }

    /// The reverse of [`ParameterLayout::flatten`].
    pub(crate) fn unflatten(&self, flat: &[f32]) -> Parameters {
        let tensor = |entry: &ParameterEntry| {
            let values = flat[entry.offset..entry.offset + entry.len].to_vec();
            ArrayD::from_shape_vec(entry.shape.clone(), values).expect("the layout knows every length")
        };
        self.entries.iter().map(|entry| (entry.name.clone(), tensor(entry))).collect()
    }
}

/// Where a plan finds the parameters of a layer and puts their gradients.
#[derive(Debug)]
pub(crate) struct ParameterSpans<'a> {
    layout: &'a ParameterLayout,
    trained: BTreeSet<&'a str>,
}

impl<'a> ParameterSpans<'a> {
    /// Gradients are wanted of the parameters whose names `is_trained` accepts.
    pub(crate) fn new(layout: &'a ParameterLayout, is_trained: impl Fn(&str) -> bool) -> Self {
        let names = layout.entries.iter().map(|entry| entry.name.as_str());
        ParameterSpans { layout, trained: names.filter(|name| is_trained(name)).collect() }
    }

    /// The values of the layer's parameter with that role.
    pub(crate) fn values(&self, plan: &mut Plan, layer: &Layer, role: Role) -> Span {
        let whole = plan.given(VALUES, self.layout.len);
        self.layout.part(&layer.parameter(role).name, whole)
    }

    /// The gradient of it; none if it is frozen.
    pub(crate) fn gradient(&self, plan: &mut Plan, layer: &Layer, role: Role) -> Option<Span> {
        let name = &layer.parameter(role).name;
        if !self.trained.contains(name.as_str()) {
            return None;
        }
        let whole = plan.given(GRADIENTS, self.layout.len);
        Some(self.layout.part(name, whole))
    }

    /// The values of a parameter of one of a recurrent layer's scans, if it has that.
    pub(crate) fn find(&self, plan: &mut Plan, layer: &Layer, role: Role, reverse: bool) -> Option<Span> {
        let spec = layer.find(role, reverse)?;
        let whole = plan.given(VALUES, self.layout.len);
        Some(self.layout.part(&spec.name, whole))
    }

    /// The gradient of it; none if it is frozen or not there.
    pub(crate) fn find_gradient(
        &self,
        plan: &mut Plan,
        layer: &Layer,
        role: Role,
        reverse: bool,
    ) -> Option<Span> {
        let spec = layer.find(role, reverse).filter(|spec| self.trained.contains(spec.name.as_str()))?;
        let whole = plan.given(GRADIENTS, self.layout.len);
        Some(self.layout.part(&spec.name, whole))
    }

    /// Whether any parameter of the layer is trained.
    pub(crate) fn trains(&self, layer: &Layer) -> bool {
        layer.parameters.iter().any(|spec| self.trained.contains(spec.name.as_str()))
    }
}
