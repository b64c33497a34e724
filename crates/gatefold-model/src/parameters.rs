use crate::{ModelError, NetworkConfig, ParameterSpec, init};
use ndarray::ArrayD;
use std::collections::BTreeMap;
use std::ops::Index;

/// A network's parameters by PyTorch's names, each in standard (row-major) layout.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Parameters {
    tensors: BTreeMap<String, ArrayD<f32>>,
}

impl Parameters {
    /// Fresh values from a seed; the layers' defaults are documented at [`crate::Init`].
    pub fn initial(config: &NetworkConfig, seed: u64) -> Self {
        init::initial(config, seed)
    }

    /// Zeros of the same shapes, to gather gradients or moments in.
    pub fn zeros(config: &NetworkConfig) -> Self {
        config.parameter_specs().map(|spec| (spec.name.clone(), ArrayD::zeros(spec.shape.clone()))).collect()
    }

    /// The tensors by name, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &ArrayD<f32>)> {
        self.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// The tensor with this name.
    pub fn get(&self, name: &str) -> Option<&ArrayD<f32>> {
        self.tensors.get(name)
    }

    /// The tensor with this name, to change its values.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut ArrayD<f32>> {
        self.tensors.get_mut(name)
    }

    /// Puts a tensor under a name, and returns the one that was there.
    pub fn insert(&mut self, name: impl Into<String>, tensor: ArrayD<f32>) -> Option<ArrayD<f32>> {
        self.tensors.insert(name.into(), tensor.as_standard_layout().into_owned())
    }

    /// Whether these are exactly the parameters of that network.
    ///
    /// # Errors
    /// [`ModelError::Missing`], [`ModelError::Shape`] or [`ModelError::Unexpected`] for the first tensor that is
    /// not as described.
    pub fn check(&self, config: &NetworkConfig) -> Result<(), ModelError> {
        let specs: BTreeMap<&str, &ParameterSpec> =
            config.parameter_specs().map(|spec| (spec.name.as_str(), spec)).collect();
        for (name, spec) in &specs {
            let Some(tensor) = self.get(name) else {
                return Err(ModelError::Missing {
                    name: (*name).into(),
                    expected: spec.shape.clone(),
                    found: self.tensors.keys().map(String::as_str).collect::<Vec<_>>().join(", "),
                });
            };
            if tensor.shape() != spec.shape {
                return Err(ModelError::Shape {
                    name: (*name).into(),
                    expected: spec.shape.clone(),
                    found: tensor.shape().into(),
                });
            }
        }
        match self.iter().find(|(name, _)| !specs.contains_key(name)) {
            Some((name, tensor)) => {
                Err(ModelError::Unexpected { name: name.into(), found: tensor.shape().into() })
            }
            None => Ok(()),
        }
    }
}

impl Index<&str> for Parameters {
    type Output = ArrayD<f32>;
    /// The tensor with this name.
    ///
    /// # Panics
    /// If there is none; [`Parameters::get`] asks first.
    fn index(&self, name: &str) -> &ArrayD<f32> {
        self.get(name).unwrap_or_else(|| panic!("no parameter is called {name}"))
    }
}

impl FromIterator<(String, ArrayD<f32>)> for Parameters {
    fn from_iter<I: IntoIterator<Item = (String, ArrayD<f32>)>>(tensors: I) -> Self {
        let mut parameters = Parameters::default();
        for (name, tensor) in tensors {
            parameters.insert(name, tensor);
        }
        parameters
    }
}
