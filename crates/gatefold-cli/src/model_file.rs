//! Reads models of any kind of file: ours, PyTorch's, Keras' or ONNX's.

use crate::failure::Failure;
use gatefold_model::file::{MASK, Model, keras, pytorch};
use gatefold_onnx::{ElementType, Imported, Layout, OnnxModel};
use pytorch::ReadOptions;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// The option for what a state_dict does not say, shared by several commands.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct ModulesArgument {
    /// For a PyTorch state_dict: its modules in the order in which data passes through them, and the layers between
    /// them, such as "table embedding, rnn relu, last_step, head relu, answer, softmax"; also residual NAME, layer_norm,
    /// max_pool, mean_pool, final_state, dropout RATE, decoder WIDTH and functions such as leaky_relu(0.01). A module that is
    /// called like a step is written .softmax, the step softmax() [default: the only order that fits]
    #[arg(long, value_name = "STEPS")]
    modules: Option<ReadOptions>,
    /// For a PyTorch state_dict: tensors or modules to leave out, separated by commas
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    ignore: Vec<String>,
    /// For Keras' weights alone (.weights.h5): the model's description, as model.to_json() writes it or as config.json of
    /// a .keras file
    #[arg(long, value_name = "JSON")]
    architecture: Option<PathBuf>,
}

/// The kind of a file, from its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Safetensors,
    Onnx,
    /// Neural Amp Modeler's, which is only written.
    Nam,
    /// RTNeural's and GuitarML's, which is only written.
    Json,
    /// Keras' weights, or a whole model of Keras'.
    Keras,
}

impl Kind {
    /// The kind of a file to write.
    ///
    /// # Errors
    /// If the name ends with none of the suffixes.
    pub(crate) fn of(path: &Path) -> Result<Kind, Failure> {
        let found = path.display();
        if extension(path) == "keras" {
            return Err(Failure::Usage(format!(
                "{found}: Keras' weights are written as .weights.h5, for load_weights of a model of the same layers; rename it"
            )));
        }
        Kind::named(path).ok_or_else(|| {
            Failure::Usage(format!(
                "{found}: expected a model named .safetensors, .onnx, .weights.h5, .nam or .json; rename it"
            ))
        })
    }

    fn named(path: &Path) -> Option<Kind> {
        match extension(path).as_str() {
            "safetensors" => Some(Kind::Safetensors),
            "onnx" => Some(Kind::Onnx),
            "nam" => Some(Kind::Nam),
            "json" => Some(Kind::Json),
            "keras" | "h5" => Some(Kind::Keras),
            _ => None,
        }
    }

    /// [`Kind::of`] for a model to read, with advice on other programs' files. PyTorch's own files are state dicts as
    /// safetensors files are.
    fn to_read(path: &Path) -> Result<Kind, Failure> {
        let advice = match extension(path).as_str() {
            "pt" | "pth" | "bin" | "ckpt" => return Ok(Kind::Safetensors),
            "pb" | "tflite" => "export it as .onnx",
            "nam" | "json" => {
                "plugins' files are written, not read; convert from the model that the file was made of"
            }
            _ => "rename it",
        };
        let kind =
            Kind::named(path).filter(|kind| matches!(kind, Kind::Safetensors | Kind::Onnx | Kind::Keras));
        kind.ok_or_else(|| foreign(path, advice))
    }
}

fn extension(path: &Path) -> String {
    path.extension().map(|extension| extension.to_string_lossy().to_lowercase()).unwrap_or_default()
}

fn foreign(path: &Path, advice: &str) -> Failure {
    Failure::Usage(format!(
        "{}: expected a model named .safetensors, .pt, .pth, .keras, .weights.h5 or .onnx; {advice}",
        path.display()
    ))
}

/// A file that has been read.
pub(crate) enum ModelFile {
    /// A network with its parameters, and its origin.
    Network(Model, Origin),
    /// A graph, which may be more than a chain of layers.
    Onnx(OnnxModel),
}

/// The program that a network comes from or goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Gatefold,
    Pytorch,
    Keras,
    Onnx,
    NeuralAmpModeler,
    Rtneural,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Origin::Gatefold => "Gatefold",
            Origin::Pytorch => "PyTorch",
            Origin::Keras => "Keras",
            Origin::Onnx => "ONNX",
            Origin::NeuralAmpModeler => "Neural Amp Modeler",
            Origin::Rtneural => "RTNeural",
        })
    }
}

impl ModelFile {
    /// Reads a model.
    ///
    /// # Errors
    /// If the file cannot be read, or modules are given for a file that is not a state_dict.
    pub(crate) fn read(path: &Path, modules: &ModulesArgument) -> Result<ModelFile, Failure> {
        let kind = Kind::to_read(path)?;
        let foreign = kind == Kind::Safetensors && pytorch::is_foreign(path)?;
        if foreign {
            let options = modules.modules.clone().unwrap_or_default().ignore(&modules.ignore);
            let model = pytorch::read(path, &options)?;
            for assumption in pytorch::assumptions(&model) {
                eprintln!("note      {}: {assumption}", path.display());
            }
            return Ok(ModelFile::Network(model, Origin::Pytorch));
        }
        let given = [
            ("--modules", modules.modules.is_some(), "a PyTorch state_dict"),
            ("--ignore", !modules.ignore.is_empty(), "a PyTorch state_dict"),
            ("--architecture", modules.architecture.is_some() && kind != Kind::Keras, "Keras' weights"),
        ];
        if let Some((option, _, expected)) = given.into_iter().find(|(_, given, _)| *given) {
            return Err(Failure::Usage(format!(
                "{option}: {} is not {expected} and describes its own layers; leave the option out",
                path.display()
            )));
        }
        Ok(match kind {
            Kind::Onnx => ModelFile::Onnx(OnnxModel::read(path)?),
            Kind::Keras => {
                let model = keras::read(path, modules.architecture.as_deref())?;
                for note in keras::notes(&model) {
                    eprintln!("note      {}: {note}", path.display());
                }
                ModelFile::Network(model, Origin::Keras)
            }
            _ => ModelFile::Network(Model::load(path)?, Origin::Gatefold),
        })
    }
}

/// An imported ONNX model as a network, without the names of its inputs and outputs.
pub(crate) fn network_of(imported: Imported) -> Model {
    let metadata = imported.mask.map(|mask| (MASK.to_owned(), mask.to_string())).into_iter().collect();
    Model { config: imported.config, parameters: imported.parameters, metadata }
}

/// The opset and the maker that an ONNX file names, and the type that others are computed in.
pub(crate) fn about(onnx: &OnnxModel) -> String {
    let maker = if onnx.maker().is_empty() { "an unnamed program" } else { onnx.maker() };
    let ports = onnx.inputs().iter().chain(onnx.outputs());
    let mut wide: Vec<ElementType> = ports.filter_map(|port| port.element).collect();
    wide.retain(|element| element.stored() != *element);
    let note =
        wide.first().map_or(String::new(), |element| format!(", {element} computed in {}", element.stored()));
    format!("ONNX, opset {}, by {maker}{note}", onnx.opset())
}

/// Whether both paths name the same existing file.
pub(crate) fn same_file(one: &Path, other: &Path) -> bool {
    matches!((fs::canonicalize(one), fs::canonicalize(other)), (Ok(one), Ok(other)) if one == other)
}

/// The order of steps and rows in a tensor of an ONNX model.
pub(crate) fn layout(layout: Layout) -> &'static str {
    match layout {
        Layout::TimeMajor => "steps first",
        Layout::BatchFirst => "rows first",
        Layout::OneStep => "one step",
        Layout::OneDirection => "steps first, with an axis of one direction",
    }
}
