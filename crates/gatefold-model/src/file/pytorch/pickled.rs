//! PyTorch's own files, `.pt` and `.pth`: an archive of tensors beside a pickle, of which nothing is executed.

use super::super::tensors::{from_f16, refusal, shown};
use crate::ModelError;
use ndarray::ArrayD;
use pytorch_reader::{DType, PickleValue, PytorchError, PytorchReader, Tensor};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Keys under which training programs keep the state_dict, beside optimisers and settings.
const KEYS: [&str; 3] = ["state_dict", "model_state_dict", "model"];

/// The tensors of a file, by the names that the state_dict has for them.
pub(super) struct Pickled {
    path: PathBuf,
    tensors: BTreeMap<String, Tensor>,
}

impl Pickled {
    pub(super) fn open(path: &Path) -> Result<Pickled, ModelError> {
        let tensors = PytorchReader::new(path).map_err(|error| match error {
            PytorchError::Io(source) => ModelError::Io { path: path.into(), source },
            other => {
                refusal(path, format!("not a file that torch.save wrote: {}", shown(&other.to_string())))
            }
        })?;
        let tensors: BTreeMap<String, Tensor> = tensors.into_tensors().into_iter().collect();
        let below = |key: &str| -> BTreeMap<String, Tensor> {
            let inner = |(name, tensor): (&String, &Tensor)| {
                Some((name.strip_prefix(key)?.strip_prefix('.')?.to_owned(), tensor.clone()))
            };
            tensors.iter().filter_map(inner).collect()
        };
        let root = PytorchReader::read_pickle_data(path, None).ok();
        let inner = KEYS.into_iter().filter(|key| root.as_ref().is_some_and(|root| is_key(root, key)));
        let inner = inner.map(below).find(|inner| !inner.is_empty());
        Ok(Pickled { path: path.into(), tensors: inner.unwrap_or(tensors) })
    }

    pub(super) fn shapes(&self) -> BTreeMap<String, Vec<usize>> {
        self.tensors.iter().map(|(name, tensor)| (name.clone(), tensor.shape().to_vec())).collect()
    }

    pub(super) fn refusal(&self, problem: String) -> ModelError {
        refusal(&self.path, problem)
    }

    /// The values of a tensor. Float16 and bfloat16 convert exactly, float64 is rounded to nearest.
    pub(super) fn values(&self, name: &str) -> Result<ArrayD<f32>, ModelError> {
        let tensor = &self.tensors[name];
        let bytes = tensor.read().map_err(|source| ModelError::Io { path: self.path.clone(), source })?;
        let values: Vec<f32> = match tensor.dtype() {
            DType::F32 => words(&bytes, f32::from_ne_bytes),
            DType::F16 => words(&bytes, |word| from_f16(u16::from_ne_bytes(word))),
            DType::BF16 => words(&bytes, |word| f32::from_bits(u32::from(u16::from_ne_bytes(word)) << 16)),
            DType::F64 => {
                let wide = words(&bytes, f64::from_ne_bytes);
                if let Some(found) =
                    wide.iter().find(|value| value.is_finite() && (**value as f32).is_infinite())
                {
                    let largest = f32::MAX;
                    return Err(self.refusal(format!(
                        "tensor {}: {found:e} is beyond float32, whose largest is {largest:e}",
                        shown(name)
                    )));
                }
                wide.into_iter().map(|value| value as f32).collect()
            }
            other => {
                return Err(self.refusal(format!(
                    "tensor {}: expected floating-point numbers, found {other:?}; save it from module.float(), or ignore it",
                    shown(name)
                )));
            }
        };
        ArrayD::from_shape_vec(tensor.shape(), values)
            .map_err(|error| self.refusal(format!("tensor {}: {error}", shown(name))))
    }
}

/// Whether a dictionary keeps a state_dict under this key. A module called `model` is not one: in a state_dict it is only the
/// beginning of names, and a whole module that holds it holds nothing but modules and tensors, with no dot in their names.
fn is_key(root: &PickleValue, key: &str) -> bool {
    let PickleValue::Dict(entries) = root else { return false };
    let Some(value) = entries.get(key) else { return false };
    let dotted = matches!(value, PickleValue::Dict(inner) if inner.keys().any(|name| name.contains('.')));
    key != "model" || dotted || entries.values().any(holds_settings)
}

/// Whether there is anything but tensors, such as the number of an epoch.
fn holds_settings(value: &PickleValue) -> bool {
    match value {
        PickleValue::Dict(entries) => entries.values().any(holds_settings),
        PickleValue::Unsupported(_) => false,
        _ => true,
    }
}

fn words<T, const N: usize>(bytes: &[u8], number: impl Fn([u8; N]) -> T) -> Vec<T> {
    let (words, _) = bytes.as_chunks();
    words.iter().map(|word| number(*word)).collect()
}
