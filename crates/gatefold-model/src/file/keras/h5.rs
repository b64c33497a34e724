//! Keras' weights in HDF5: groups of datasets `vars/0`, `vars/1` and so on.

use super::shown;
use hdf5_pure::{File, FileBuilder, GroupBuilder};
use ndarray::ArrayD;
use std::collections::BTreeMap;

/// A file of weights.
pub(super) struct Weights {
    file: File,
}

impl Weights {
    pub(super) fn open(bytes: Vec<u8>) -> Result<Weights, String> {
        let file = File::from_bytes(bytes)
            .map_err(|error| format!("not an HDF5 file: {}", shown(&error.to_string())))?;
        Ok(Weights { file })
    }

    /// The arrays of a group, which must have these shapes.
    pub(super) fn arrays(&self, path: &str, shapes: &[Vec<usize>]) -> Result<Vec<ArrayD<f32>>, String> {
        let mut arrays = Vec::with_capacity(shapes.len());
        for (at, expected) in shapes.iter().enumerate() {
            let name = format!("{path}/vars/{at}");
            let wrong = |found: &str| {
                format!("weights {}: expected {expected:?}, found {}", shown(&name), shown(found))
            };
            let dataset = self.file.dataset(&name).map_err(|error| wrong(&error.to_string()))?;
            let shape = dataset.shape().map_err(|error| wrong(&error.to_string()))?;
            let same = shape.len() == expected.len()
                && shape.iter().zip(expected).all(|(&found, &len)| u64::try_from(len) == Ok(found));
            if !same {
                return Err(wrong(&format!("{shape:?}")));
            }
            let values = dataset.read_f32().map_err(|error| wrong(&error.to_string()))?;
            let array = ArrayD::from_shape_vec(expected.clone(), values)
                .map_err(|error| wrong(&error.to_string()))?;
            arrays.push(array);
        }
        let more = format!("{path}/vars/{}", shapes.len());
        match self.file.dataset(&more) {
            Ok(_) => Err(format!("weights {}: expected {} arrays, found more", shown(path), shapes.len())),
            Err(_) => Ok(arrays),
        }
    }
}

/// Groups by name, and the arrays that a group holds as `vars`.
#[derive(Default)]
struct Tree {
    below: BTreeMap<String, Tree>,
    arrays: Vec<ArrayD<f32>>,
}

/// The bytes of a file with these groups of arrays.
pub(super) fn file(groups: Vec<(String, Vec<ArrayD<f32>>)>) -> Result<Vec<u8>, String> {
    let mut tree = Tree::default();
    for (path, arrays) in groups {
        let place = path.split('/').fold(&mut tree, |tree, name| tree.below.entry(name.into()).or_default());
        place.arrays = arrays;
    }
    let mut builder = FileBuilder::new();
    // Keras 3.4 wants the group of the model's own weights, of which there are none.
    let own = builder.create_group("vars");
    builder.add_group(own.finish());
    for (name, tree) in tree.below {
        let mut group = builder.create_group(&name);
        fill(&mut group, tree);
        builder.add_group(group.finish());
    }
    builder.finish().map_err(|error| format!("it cannot be written as HDF5: {error}"))
}

fn fill(group: &mut GroupBuilder, tree: Tree) {
    // Keras gives every layer such a group, even without weights.
    let mut vars = group.create_group("vars");
    for (at, array) in tree.arrays.iter().enumerate() {
        let shape: Vec<u64> = array.shape().iter().map(|&len| len as u64).collect();
        let values: Vec<f32> = array.iter().copied().collect();
        vars.create_dataset(&at.to_string()).with_f32_data(&values).with_shape(&shape);
    }
    group.add_group(vars.finish());
    for (name, tree) in tree.below {
        let mut below = group.create_group(&name);
        fill(&mut below, tree);
        group.add_group(below.finish());
    }
}
