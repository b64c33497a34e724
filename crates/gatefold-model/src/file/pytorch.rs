//! PyTorch's state dicts, as safetensors files or as `torch.save` writes them: `nn.RNN`, `nn.LSTM`, `nn.GRU`, `nn.Linear`,
//! `nn.Conv1d`, `nn.LayerNorm` and `nn.Embedding`; cells such as `nn.LSTMCell` too. `weight_norm` and `nn.BatchNorm1d` are folded into them.
//!
//! A state_dict holds only tensors, named `<module>.<tensor>`. Their names and shapes identify each module:
//!
//! | property | derived from |
//! |---|---|
//! | RNN, LSTM or GRU | rows of `weight_hh`, which are 1, 4 or 3 times H |
//! | H | columns of `weight_hr` if there is one, else of `weight_hh` |
//! | projection | rows of `weight_hr` |
//! | layers, directions | `_l0`, `_l1`.. and `_reverse` |
//! | biases | presence of `bias_ih` and `bias_hh` |
//! | Conv1d, its channels and kernel | a `weight` with three axes |
//! | LayerNorm | a `weight` and a `bias` with one axis, without `running_mean`; a lone `weight` must be said to be one |
//! | BatchNorm1d | `running_mean`; it is folded into the module before or after it, as it is in inference |
//! | `weight_norm`, dim 0 | `weight_g` and `weight_v`, or `parametrizations.weight.original0` and `1` |
//! | Linear or Embedding | a `weight` with a `bias` is a Linear; one without is whichever fits between its neighbours |
//!
//! They do not tell in which order data passes through the modules. If there is exactly one order in which every width
//! fits the next, it is taken. Otherwise the error lists the modules, and [`ReadOptions`] gives the order.
//! Convolutions and batch normalisations are never read without it. Between an `nn.Linear` and another, the order must say the
//! function, or `identity`, since the file does not hold it. Whatever else was taken for granted, such as the function of an
//! `nn.RNN` or the stride of an `nn.Conv1d`, is listed by [`assumptions`].
//! [`ReadOptions`] also adds what has no tensors: the activation of an `nn.RNN` (tanh by default, as in PyTorch) or
//! of any other output, the stride, dilation and padding of an `nn.Conv1d`, residual connections, dropout, the last step. A
//! function that no layer takes in, such as one after an `nn.LayerNorm`, becomes a dense layer with ones on the diagonal. A GRU
//! is PyTorch's, [`Reset::After`](crate::Reset::After).
//! `batch_first` is up to the caller: it concerns the data, not the parameters.
//!
//! Numbers become float32: float16 and bfloat16 exactly, float64 rounded to nearest. A number outside float32's range
//! is refused.
//!
//! ```no_run
//! use gatefold_model::file::pytorch;
//! let options: pytorch::ReadOptions = "embedding, lstm, last_step, head relu, answer".parse()?;
//! let model = pytorch::read("classifier.safetensors", &options)?;
//! println!("{}", model.config);
//! # Ok::<(), gatefold_model::ModelError>(())
//! ```
//!
//! In the other direction, [`write()`] makes a state_dict that PyTorch loads with `strict=True`, and refuses by name
//! what PyTorch's modules lack. Layers without parameters are code in PyTorch, and leave nothing in the file.

mod assemble;
mod fold;
mod modules;
mod options;
mod order;
#[cfg(feature = "pt")]
mod pickled;
mod said;
mod text;
mod write;

pub use options::{ModuleStep, ReadOptions, Step};
pub use write::{state_dict, write};

use super::tensors::{TensorFile, described, first_bytes, is_number, refusal, shown};
use super::{Model, format};
use crate::{ModelError, ParameterSpec, Parameters};
use fold::{Source, WeightNorms};
use modules::Shapes;
use ndarray::ArrayD;
use order::Network;
use std::collections::BTreeMap;
use std::path::Path;

/// Reads a state_dict: a safetensors file, or with the feature `pt` a file that `torch.save` wrote, of a state_dict, of a
/// whole module, or of a dictionary that has one as `state_dict`, `model_state_dict` or `model`.
///
/// # Errors
/// [`ModelError::Io`] if the file cannot be read; [`ModelError::File`] with the reason if it is truncated or no
/// safetensors file, if a tensor holds no floating-point numbers or belongs to another kind of module, if a number is
/// outside float32's range, or if the order of the modules must be given.
pub fn read(path: impl AsRef<Path>, options: &ReadOptions) -> Result<Model, ModelError> {
    if is_pickled(path.as_ref())? {
        return read_pickled(path.as_ref(), options);
    }
    let mut file = TensorFile::open(path.as_ref(), "a state_dict")?;
    let mut shapes = Shapes::new();
    for name in file.header().offset_keys() {
        let info = file.header().info(&name).expect("it is one of the names");
        shapes.insert(name, info.shape.clone());
    }
    leave_out(&mut shapes, options).map_err(|problem| file.refusal(problem))?;
    let names: Vec<String> = shapes.keys().filter(|name| !is_count(name)).cloned().collect();
    let (network, norms) = found(&mut shapes, options).map_err(|problem| file.refusal(problem))?;
    for name in &names {
        let info = file.header().info(name).expect("it is one of the names");
        if !is_number(info.dtype) {
            let (name, found) = (shown(name), described(info));
            let problem = format!(
                "tensor {name}: expected F32, F16, BF16 or F64, found {found}; save it from module.float()"
            );
            return Err(file.refusal(problem));
        }
    }
    let path = path.as_ref().to_owned();
    let load = |name: &str| {
        let info = file.header().info(name).expect("the network is made of the file's tensors").clone();
        file.values(name, &info)
    };
    let parameters = parameters(&network, &norms, load, |problem| refusal(&path, problem))?;
    Ok(model(network, parameters))
}

/// Whether a tensor is the count of batches of an `nn.BatchNorm1d`, which is not read.
fn is_count(name: &str) -> bool {
    name.rsplit('.').next() == Some("num_batches_tracked")
}

/// The network of tensors with these shapes, and which of them have `weight_norm`.
fn found(shapes: &mut Shapes, options: &ReadOptions) -> Result<(Network, WeightNorms), String> {
    let norms = fold::weight_norms(shapes)?;
    Ok((order::network(shapes, &norms, options)?, norms))
}

/// Whether a file is PyTorch's own: a zip archive, or a pickle. A safetensors file begins with the length of a JSON text.
fn is_pickled(path: &Path) -> Result<bool, ModelError> {
    let first = first_bytes::<9>(path)?;
    Ok(first.starts_with(b"PK\x03\x04") || first.first() == Some(&0x80) && first.get(8) != Some(&b'{'))
}

#[cfg(feature = "pt")]
fn read_pickled(path: &Path, options: &ReadOptions) -> Result<Model, ModelError> {
    let file = pickled::Pickled::open(path)?;
    let mut shapes = file.shapes();
    leave_out(&mut shapes, options).map_err(|problem| file.refusal(problem))?;
    let (network, norms) = found(&mut shapes, options).map_err(|problem| file.refusal(problem))?;
    let parameters = parameters(&network, &norms, |name| file.values(name), |problem| file.refusal(problem))?;
    Ok(model(network, parameters))
}

#[cfg(not(feature = "pt"))]
fn read_pickled(path: &Path, _: &ReadOptions) -> Result<Model, ModelError> {
    let problem =
        "PyTorch's own files need the feature pt; save the state_dict with safetensors.torch.save_file";
    Err(refusal(path, problem.into()))
}

/// [`read`] for tensors in memory.
///
/// # Errors
/// [`ModelError::Config`] with the reason.
pub fn from_state_dict(
    tensors: &BTreeMap<String, ArrayD<f32>>,
    options: &ReadOptions,
) -> Result<Model, ModelError> {
    let mut shapes: Shapes =
        tensors.iter().map(|(name, tensor)| (name.clone(), tensor.shape().to_vec())).collect();
    let refusal = |problem| ModelError::Config { place: "state_dict".into(), problem };
    let (network, norms) =
        leave_out(&mut shapes, options).and_then(|()| found(&mut shapes, options)).map_err(refusal)?;
    let parameters = parameters(&network, &norms, |name| Ok(tensors[name].clone()), refusal)?;
    Ok(model(network, parameters))
}

/// Lists the assumptions made when a model was read from a state_dict, a line each; none for any other model.
pub fn assumptions(model: &Model) -> Vec<&str> {
    model.metadata.get(ASSUMED).map_or_else(Vec::new, |text| text.lines().collect())
}

/// The key of a model's metadata that holds the modules it was read from, and that of what was taken for granted.
const MODULES: &str = "pytorch_modules";
const ASSUMED: &str = "pytorch_assumed";

fn model(network: Network, parameters: Parameters) -> Model {
    let modules = serde_json::to_string(&network.modules).expect("names and numbers are JSON");
    let mut metadata = BTreeMap::from([(MODULES.to_owned(), modules)]);
    if !network.assumed.is_empty() {
        metadata.insert(ASSUMED.to_owned(), network.assumed.join("\n"));
    }
    Model { config: network.config, parameters, metadata }
}

/// Takes out the tensors that the options ignore.
fn leave_out(shapes: &mut Shapes, options: &ReadOptions) -> Result<(), String> {
    for ignored in &options.ignored {
        let of_it = |name: &str| {
            name.strip_prefix(ignored.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        let before = shapes.len();
        shapes.retain(|name, _| !of_it(name));
        if shapes.len() == before {
            return Err(format!("there is no tensor or module {} to ignore", shown(ignored)));
        }
    }
    Ok(())
}

/// Whether a file is not one of ours, and so may be a state_dict: PyTorch's own, or any other safetensors file.
///
/// # Errors
/// As [`read`], if it is not a safetensors file.
pub fn is_foreign(path: impl AsRef<Path>) -> Result<bool, ModelError> {
    if is_pickled(path.as_ref())? {
        return Ok(true);
    }
    Ok(!format::is_ours(TensorFile::open(path.as_ref(), "a model or a state_dict")?.header()))
}

fn parameters(
    network: &Network,
    norms: &WeightNorms,
    mut load: impl FnMut(&str) -> Result<ArrayD<f32>, ModelError>,
    refusal: impl Fn(String) -> ModelError,
) -> Result<Parameters, ModelError> {
    let tensors = network.config.parameter_specs().zip(&network.sources);
    let value = |(spec, source): (&ParameterSpec, &Source)| {
        Ok((spec.name.clone(), fold::value(source, &spec.shape, norms, &mut load, &refusal)?))
    };
    tensors.map(value).collect()
}
