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
    /// Fresh values from a seed; [`crate::Init`] documents the defaults.
    ///
    /// # Errors
    /// [`ModelError::Memory`] if there is not enough memory.
    pub fn initial(config: &NetworkConfig, seed: u64) -> Result<Self, ModelError> {
        Parameters::check_memory(config)?;
        Ok(init::initial(config, seed))
    }

    /// Zeros of the same shapes, to gather gradients or moments in.
    ///
    /// # Errors
    /// [`ModelError::Memory`] if there is not enough memory.
    pub fn zeros(config: &NetworkConfig) -> Result<Self, ModelError> {
        Parameters::check_memory(config)?;
        let zeros = |spec: &ParameterSpec| (spec.name.clone(), ArrayD::zeros(spec.shape.clone()));
        Ok(config.parameter_specs().map(zeros).collect())
    }

    /// Checks that the allocator would grant the memory for one copy of the network's parameters; a refused allocation
    /// would end the process.
    ///
    /// # Errors
    /// [`ModelError::Memory`] with the bytes needed.
    pub fn check_memory(config: &NetworkConfig) -> Result<(), ModelError> {
        let mut trial: Vec<f32> = Vec::new();
        let reserved = trial.try_reserve_exact(config.parameter_count());
        // Keeps the compiler from removing an unused allocation.
        std::hint::black_box(&trial);
        let Err(_) = reserved else { return Ok(()) };
        let bytes = |spec: &ParameterSpec| {
            let len: u128 = spec.shape.iter().map(|&width| width as u128).product();
            len * size_of::<f32>() as u128
        };
        let largest = config.parameter_specs().max_by_key(|spec| bytes(spec));
        let largest = largest.expect("no memory is refused to a network without parameters");
        Err(ModelError::Memory {
            bytes: config.parameter_specs().map(bytes).sum(),
            largest: largest.name.clone(),
            shape: largest.shape.clone(),
        })
    }

    /// The tensors by name, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &ArrayD<f32>)> {
        self.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// The tensor with this name.
    pub fn get(&self, name: &str) -> Option<&ArrayD<f32>> {
        self.tensors.get(name)
    }

    /// The tensor with this name, mutable.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut ArrayD<f32>> {
        self.tensors.get_mut(name)
    }

    /// Inserts a tensor under a name, and returns the one it replaces.
    pub fn insert(&mut self, name: impl Into<String>, tensor: ArrayD<f32>) -> Option<ArrayD<f32>> {
        self.tensors.insert(name.into(), tensor.as_standard_layout().into_owned())
    }

    /// Checks that these are exactly the parameters of that network.
    ///
    /// # Errors
    /// [`ModelError::Missing`], [`ModelError::Shape`] or [`ModelError::Unexpected`] for the first tensor that does not
    /// match.
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
    /// If there is none; [`Parameters::get`] returns an option.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absurd_widths_are_refused_before_memory_is_asked_for() {
        let widest = 1 << 24;
        let config = NetworkConfig::with_input(1).lstm(widest).lstm(widest).build().unwrap();
        let message = "the parameters need 13510800224288768 bytes (12582913.2 GiB), more memory than this machine \
                       gives; the largest is rnn0.weight_hh_l1 with shape [67108864, 16777216]; use smaller widths";
        for refused in [Parameters::initial(&config, 1), Parameters::zeros(&config)] {
            assert_eq!(refused.unwrap_err().to_string(), message);
        }
        // Enough layers for the count of all parameters to exceed 64 bits.
        let mut layers = NetworkConfig::with_input(1);
        for _ in 0..=1 << 13 {
            layers = layers.lstm(widest);
        }
        let config = layers.build().unwrap();
        assert_eq!(config.parameter_count(), usize::MAX);
        assert!(matches!(Parameters::initial(&config, 1), Err(ModelError::Memory { .. })));
    }
}
