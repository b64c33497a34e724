//! Reads models of any kind of file: ours, PyTorch's or ONNX's.

use crate::failure::Failure;
use gatefold_model::file::{Model, pytorch};
use gatefold_onnx::{ElementType, Imported, Layout, OnnxModel};
use pytorch::ReadOptions;
use std::fmt;
use std::fs;
use std::path::Path;

/// The option for what a state_dict does not say, shared by several commands.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct ModulesArgument {
    /// For a PyTorch state_dict: its modules in the order in which data passes through them, and the layers between
    /// them, such as "table embedding, rnn relu, last_step, head relu, answer, softmax" [default: the only order that
    /// fits]
    #[arg(long, value_name = "STEPS")]
    modules: Option<ReadOptions>,
    /// For a PyTorch state_dict: tensors or modules to leave out, separated by commas
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    ignore: Vec<String>,
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
}

impl Kind {
    /// The kind of a file to write.
    ///
    /// # Errors
    /// If the name ends with none of the suffixes.
    pub(crate) fn of(path: &Path) -> Result<Kind, Failure> {
        Kind::named(path).ok_or_else(|| {
            let found = path.display();
            Failure::Usage(format!(
                "{found}: expected a model named .safetensors, .onnx, .nam or .json; rename it"
            ))
        })
    }

    fn named(path: &Path) -> Option<Kind> {
        match extension(path).as_str() {
            "safetensors" => Some(Kind::Safetensors),
            "onnx" => Some(Kind::Onnx),
            "nam" => Some(Kind::Nam),
            "json" => Some(Kind::Json),
            _ => None,
        }
    }

    /// [`Kind::of`] for a model to read, with advice on other programs' files. PyTorch's own files are state dicts as
    /// safetensors files are.
    fn to_read(path: &Path) -> Result<Kind, Failure> {
        let advice = match extension(path).as_str() {
            "pt" | "pth" | "bin" | "ckpt" => return Ok(Kind::Safetensors),
            "h5" | "keras" | "pb" | "tflite" => "export it as .onnx",
            "nam" | "json" => {
                "plugins' files are written, not read; convert from the model that the file was made of"
            }
            _ => "rename it",
        };
        let kind = Kind::named(path).filter(|kind| matches!(kind, Kind::Safetensors | Kind::Onnx));
        kind.ok_or_else(|| foreign(path, advice))
    }
}

fn extension(path: &Path) -> String {
    path.extension().map(|extension| extension.to_string_lossy().to_lowercase()).unwrap_or_default()
}

fn foreign(path: &Path, advice: &str) -> Failure {
    Failure::Usage(format!(
        "{}: expected a model named .safetensors, .pt, .pth or .onnx; {advice}",
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
    Onnx,
    NeuralAmpModeler,
    Rtneural,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Origin::Gatefold => "Gatefold",
            Origin::Pytorch => "PyTorch",
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
        let given = [("--modules", modules.modules.is_some()), ("--ignore", !modules.ignore.is_empty())];
        if let Some((option, _)) = given.into_iter().find(|(_, given)| *given) {
            return Err(Failure::Usage(format!(
                "{option}: {} is not a PyTorch state_dict and describes its own layers; leave the option out",
                path.display()
            )));
        }
        Ok(match kind {
            Kind::Onnx => ModelFile::Onnx(OnnxModel::read(path)?),
            _ => ModelFile::Network(Model::load(path)?, Origin::Gatefold),
        })
    }
}

/// An imported ONNX model as a network, without the names of its inputs and outputs.
pub(crate) fn network_of(imported: Imported) -> Model {
    Model { config: imported.config, parameters: imported.parameters, metadata: Default::default() }
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
    }
}
