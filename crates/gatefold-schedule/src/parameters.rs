//! The place of each parameter on the device: buffers of values, of gradients and of every moment, all laid out alike. One
//! of each is enough unless a binding is too small to show all parameters.

use crate::plan::ALIGNMENT;
use crate::stack::{Beside, places};
use crate::{Given, Plan, Span, Target};
use gatefold_model::{Layer, NetworkConfig, Parameters, Role};
use gatefold_shaders::OVERFLOW_BLOCK;
use ndarray::ArrayD;
use std::collections::BTreeSet;

const BLOCK: usize = OVERFLOW_BLOCK as usize;
const _: () = assert!(ALIGNMENT.is_multiple_of(BLOCK), "no block holds two parameters");

/// The place of each parameter in the buffers of values, gradients and moments.
#[derive(Clone, Debug)]
pub struct ParameterLayout {
    /// Every parameter once, in the order of their places.
    pub entries: Vec<ParameterEntry>,
    /// The elements of each buffer.
    pub chunks: Vec<usize>,
    /// The place of each layer's scans among those that run beside them.
    places: Vec<[Beside; 2]>,
}

/// One parameter's place.
#[derive(Clone, Debug)]
pub struct ParameterEntry {
    /// Its name.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// The layer that owns it.
    pub layer: usize,
    /// The buffer, counted among those of its kind.
    pub chunk: usize,
    /// Its first element there.
    pub offset: usize,
    /// The number of elements.
    pub len: usize,
}

impl ParameterLayout {
    /// Places one parameter after another, each where a binding may begin, and begins a new buffer when the next would
    /// not fit a binding of the device.
    pub fn new(config: &NetworkConfig, target: &Target) -> ParameterLayout {
        let most = usize::try_from(target.max_binding_bytes.min(target.max_buffer_bytes) / 4);
        let most = most.unwrap_or(usize::MAX);
        let mut entries = Vec::new();
        let mut chunks = vec![0];
        for layer in config.layers().iter().filter(|layer| layer.owner == layer.index) {
            for spec in &layer.parameters {
                let len = spec.len();
                let mut chunk = chunks.len() - 1;
                if chunks[chunk] > 0 && chunks[chunk] + len > most {
                    chunks.push(0);
                    chunk += 1;
                }
                let (name, shape) = (spec.name.clone(), spec.shape.clone());
                let offset = chunks[chunk];
                entries.push(ParameterEntry { name, shape, layer: layer.index, chunk, offset, len });
                chunks[chunk] += len.next_multiple_of(ALIGNMENT);
            }
        }
        // A parameter that fills a binding needs no room after it.
        chunks.iter_mut().for_each(|len| *len = (*len).min(most));
        ParameterLayout { entries, chunks, places: places(config) }
    }

    /// The blocks of [`OVERFLOW_BLOCK`] elements in the buffers before this one.
    pub(crate) fn first_block(&self, chunk: usize) -> usize {
        self.chunks[..chunk].iter().map(|len| len.div_ceil(BLOCK)).sum()
    }

    /// The parameter in a block, as an update notes it in the status.
    ///
    /// # Panics
    /// If there are no parameters.
    pub fn in_block(&self, block: u32) -> &ParameterEntry {
        let first = |entry: &ParameterEntry| self.first_block(entry.chunk) + entry.offset / BLOCK;
        let before = self.entries.partition_point(|entry| first(entry) <= block as usize);
        &self.entries[before - 1]
    }

    fn span(&self, plan: &mut Plan, given: fn(usize) -> Given, name: &str) -> Span {
        let entry = self.entries.iter().find(|entry| entry.name == name);
        let entry = entry.unwrap_or_else(|| panic!("no parameter is called {name}"));
        plan.given(given(entry.chunk), self.chunks[entry.chunk]).part(entry.offset, entry.len)
    }

    /// The parameters' values one after another, gaps zero, for each buffer.
    pub fn flatten(&self, parameters: &Parameters) -> Vec<Vec<f32>> {
        let mut flat: Vec<Vec<f32>> = self.chunks.iter().map(|&len| vec![0.0; len]).collect();
        for entry in &self.entries {
            let target = &mut flat[entry.chunk][entry.offset..entry.offset + entry.len];
            for (slot, value) in target.iter_mut().zip(&parameters[&entry.name]) {
                *slot = *value;
            }
        }
        flat
    }

    /// The reverse of [`ParameterLayout::flatten`].
    ///
    /// # Panics
    /// If a buffer is too short.
    pub fn unflatten(&self, flat: &[Vec<f32>]) -> Parameters {
        let tensor = |entry: &ParameterEntry| {
            let values = flat[entry.chunk][entry.offset..entry.offset + entry.len].to_vec();
            ArrayD::from_shape_vec(entry.shape.clone(), values).expect("the layout knows every length")
        };
        self.entries.iter().map(|entry| (entry.name.clone(), tensor(entry))).collect()
    }
}

/// The parameters of layers in a plan, and their gradients.
#[derive(Debug)]
pub struct ParameterSpans<'a> {
    layout: &'a ParameterLayout,
    /// The buffers of their values, or of what stands in their places.
    values: fn(usize) -> Given,
    trained: BTreeSet<&'a str>,
}

impl<'a> ParameterSpans<'a> {
    /// The parameters of a layout; those whose names `is_trained` accepts get gradients.
    pub fn new(layout: &'a ParameterLayout, is_trained: impl Fn(&str) -> bool) -> Self {
        let names = layout.entries.iter().map(|entry| entry.name.as_str());
        let trained = names.filter(|name| is_trained(name)).collect();
        ParameterSpans { layout, values: Given::Parameters, trained }
    }

    /// The tangents of the parameters, in the places of their values.
    pub fn tangents(layout: &'a ParameterLayout) -> Self {
        ParameterSpans { layout, values: Given::Tangents, trained: BTreeSet::new() }
    }

    /// The values of the layer's parameter with that role.
    pub fn values(&self, plan: &mut Plan, layer: &Layer, role: Role) -> Span {
        self.layout.span(plan, self.values, &layer.parameter(role).name)
    }

    /// Its gradient; `None` if it is frozen.
    pub fn gradient(&self, plan: &mut Plan, layer: &Layer, role: Role) -> Option<Span> {
        let name = &layer.parameter(role).name;
        if !self.trained.contains(name.as_str()) {
            return None;
        }
        Some(self.layout.span(plan, Given::Gradients, name))
    }

    /// The values of a parameter of one scan of a recurrent layer, if it has one.
    pub fn find(&self, plan: &mut Plan, layer: &Layer, role: Role, reverse: bool) -> Option<Span> {
        let spec = layer.find(role, reverse)?;
        Some(self.layout.span(plan, self.values, &spec.name))
    }

    /// Its gradient; `None` if it is frozen or not there.
    pub fn find_gradient(&self, plan: &mut Plan, layer: &Layer, role: Role, reverse: bool) -> Option<Span> {
        let spec = layer.find(role, reverse).filter(|spec| self.trained.contains(spec.name.as_str()))?;
        Some(self.layout.span(plan, Given::Gradients, &spec.name))
    }

    /// The place of a scan of a layer among those that run beside it.
    pub(crate) fn beside(&self, layer: usize, reverse: bool) -> Beside {
        self.layout.places[layer][usize::from(reverse)]
    }

    /// Whether any parameter of the layer is trained.
    pub fn trains(&self, layer: &Layer) -> bool {
        layer.parameters.iter().any(|spec| self.trained.contains(spec.name.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gatefold_model::{DenseConfig, LstmConfig};

    /// Buffers are at most as long as a binding, parameters are never torn apart, and what goes in comes out.
    #[test]
    fn parameters_fill_as_many_buffers_as_bindings_need() {
        let layers = [LstmConfig::new(5).into(), LstmConfig::new(5).into(), DenseConfig::new(3).into()];
        let config = NetworkConfig::new(2, layers).unwrap();
        let parameters = Parameters::initial(&config, 3).unwrap();
        let one = ParameterLayout::new(&config, &Target::webgpu());
        assert_eq!(one.chunks.len(), 1);
        for elements in [100, 128, 300, 1000] {
            let target = Target { max_binding_bytes: 4 * elements as u64, ..Target::webgpu() };
            let layout = ParameterLayout::new(&config, &target);
            assert!(layout.chunks.iter().all(|&len| len <= elements), "{elements}: {:?}", layout.chunks);
            for entry in &layout.entries {
                assert!(entry.offset + entry.len <= layout.chunks[entry.chunk], "{entry:?}");
                assert!(entry.offset.is_multiple_of(ALIGNMENT));
            }
            assert_eq!(layout.unflatten(&layout.flatten(&parameters)), parameters);
            for entry in &layout.entries {
                for at in [entry.offset, entry.offset + entry.len - 1] {
                    let block = layout.first_block(entry.chunk) + at / BLOCK;
                    assert_eq!(layout.in_block(block as u32).name, entry.name, "element {at}");
                }
            }
        }
    }
}
