//! `gatefold convert`, and `gatefold describe` on models of every kind.

use crate::models::support::{Folder, assert_narrow, fixture};
use gatefold_model::file::{Model, pytorch};
use gatefold_model::{
    Activation, Biases, DenseConfig, Direction, EmbeddingConfig, GruConfig, LayerConfig, LstmConfig,
    NetworkConfig, Parameters, Reset, RnnConfig,
};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

fn save(folder: &Folder, name: &str, input: usize, layers: &[LayerConfig]) -> Model {
    let config = NetworkConfig::new(input, layers).unwrap();
    let mut parameters = Parameters::initial(&config, 5).unwrap();
    // Biases that are all equal would hide a wrong order.
    for spec in config.parameter_specs().filter(|spec| spec.shape.len() == 1) {
        let bias = parameters.get_mut(&spec.name).unwrap();
        bias.iter_mut().enumerate().for_each(|(k, value)| *value += k as f32 / 7.0);
    }
    let model = Model { config, parameters, metadata: BTreeMap::new() };
    model.save(folder.path(name)).unwrap();
    model
}

fn stack() -> [LayerConfig; 5] {
    [
        LstmConfig::new(4).direction(Direction::Bidirectional).into(),
        LstmConfig::new(4).direction(Direction::Bidirectional).into(),
        GruConfig::new(3).into(),
        LayerConfig::LastStep,
        DenseConfig::new(2).activation(Activation::Relu).into(),
    ]
}

#[test]
fn onnx_and_back_gives_the_same_bits() {
    let folder = Folder::new();
    let ours = save(&folder, "a.safetensors", 3, &stack());
    let printed = folder.succeed(&["convert", "a.safetensors", "b.onnx"]);
    assert!(printed.contains("(Gatefold)") && printed.contains("written    b.onnx (ONNX)"), "{printed}");
    assert_narrow(&printed);
    let printed = folder.succeed(&["convert", "b.onnx", "c.safetensors"]);
    assert!(printed.contains("input (steps first) is input"), "{printed}");
    assert_narrow(&printed);
    let back = Model::load(folder.path("c.safetensors")).unwrap();
    assert_eq!(back.config.to_string(), ours.config.to_string());
    assert_eq!(back.parameters, ours.parameters);
    folder.succeed(&["convert", "c.safetensors", "d.onnx", "--quiet"]);
    assert_eq!(fs::read(folder.path("d.onnx")).unwrap(), fs::read(folder.path("b.onnx")).unwrap());
    // A network that ONNX can express and PyTorch cannot.
    let cells: [LayerConfig; 3] = [
        GruConfig::new(4).reset(Reset::Before).clip(0.5).direction(Direction::Reverse).into(),
        LstmConfig::new(3).peephole().into(),
        RnnConfig::new(2).activation(Activation::LeakyRelu { alpha: 0.2 }).into(),
    ];
    let ours = save(&folder, "a.safetensors", 3, &cells);
    folder.succeed(&["convert", "a.safetensors", "b.onnx", "--batch-first", "--lengths", "--states"]);
    let printed = folder.succeed(&["convert", "b.onnx", "c.safetensors"]);
    let said = printed.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in ["input (rows first) is input", "lengths is lengths", "initial_c1 is layer1.c"] {
        assert!(said.contains(part), "{part} is not in\n{printed}");
    }
    let back = Model::load(folder.path("c.safetensors")).unwrap();
    assert_eq!((back.config.to_string(), back.parameters), (ours.config.to_string(), ours.parameters));
}

#[test]
fn pytorch_and_back_gives_the_same_bits() {
    let folder = Folder::new();
    let ours = save(&folder, "a.safetensors", 3, &stack());
    let printed = folder.succeed(&[
        "convert",
        "a.safetensors",
        "b.safetensors",
        "--pytorch",
        "--names",
        "low,high,head",
    ]);
    assert!(printed.contains("written    b.safetensors (PyTorch)"), "{printed}");
    let tensors = crate::models::support::read_tensors(&folder.path("b.safetensors"));
    assert!(tensors.contains_key("low.weight_hh_l1_reverse") && tensors.contains_key("head.bias"));
    let steps = "low, high, last_step, head relu";
    let printed = folder.succeed(&["convert", "b.safetensors", "c.safetensors", "--modules", steps]);
    assert!(printed.contains("b.safetensors (PyTorch)"), "{printed}");
    let back = Model::load(folder.path("c.safetensors")).unwrap();
    assert_eq!((back.config.to_string(), back.parameters), (ours.config.to_string(), ours.parameters));
    save(&folder, "e.safetensors", 3, &[GruConfig::new(4).into()]);
    folder.succeed(&["convert", "e.safetensors", "f.safetensors", "--pytorch", "--names", "."]);
    assert!(crate::models::support::read_tensors(&folder.path("f.safetensors")).contains_key("weight_ih_l0"));
    // From one foreign kind to another.
    folder.succeed(&["convert", "b.safetensors", "b.onnx", "--modules", steps]);
    folder.succeed(&["convert", "a.safetensors", "a.onnx"]);
    assert_eq!(fs::read(folder.path("a.onnx")).unwrap(), fs::read(folder.path("b.onnx")).unwrap());
    folder.succeed(&["convert", "a.onnx", "d.safetensors", "--pytorch", "--names", "low,high,head"]);
    assert_eq!(
        fs::read(folder.path("d.safetensors")).unwrap(),
        fs::read(folder.path("b.safetensors")).unwrap()
    );
}

#[test]
fn what_cannot_be_expressed_is_refused_by_name() {
    let folder = Folder::new();
    fs::write(folder.path("out.onnx"), "as it was").unwrap();
    fs::write(folder.path("out.safetensors"), "as it was").unwrap();
    save(&folder, "a.safetensors", 3, &[RnnConfig::new(3).into(), LstmConfig::new(4).projection(2).into()]);
    let error = folder.fail(1, &["convert", "a.safetensors", "out.onnx"]);
    assert!(error.starts_with("layer 1 (lstm): ") && error.contains("projection"), "{error}");
    save(&folder, "a.safetensors", 3, &[LstmConfig::new(4).peephole().into()]);
    let error = folder.fail(1, &["convert", "a.safetensors", "out.safetensors", "--pytorch"]);
    assert!(error.starts_with("layer 0 (lstm): ") && error.contains("peephole"), "{error}");
    let swish = fixture("onnx/keras3_swish_18.onnx");
    let error = folder.fail(1, &["convert", swish.to_str().unwrap(), "out.safetensors"]);
    assert!(error.ends_with("; gatefold run can run the model as it is"), "{error}");
    assert!(
        error.contains("gru_cell_1/MatMul (MatMul): ") && error.contains("its terms are not those of"),
        "{error}"
    );
    // A network whose modules fit in more than one order.
    let equal = fixture("pytorch/model_equal_widths.safetensors");
    let error = folder.fail(1, &["convert", equal.to_str().unwrap(), "out.onnx"]);
    assert!(error.contains("model_equal_widths.safetensors: "), "{error}");
    for name in ["out.onnx", "out.safetensors"] {
        assert_eq!(fs::read(folder.path(name)).unwrap(), b"as it was", "a failure writes nothing");
    }
}

#[test]
fn wrong_usage_of_convert_is_told_apart() {
    let folder = Folder::new();
    save(&folder, "a.safetensors", 3, &[RnnConfig::new(3).into()]);
    let refusal = |arguments: &str| {
        folder.fail(2, &["convert"].into_iter().chain(arguments.split(' ')).collect::<Vec<_>>())
    };
    assert_eq!(
        refusal("a.safetensors b.pt"),
        "b.pt: expected a model named .safetensors, .onnx, .weights.h5, .nam or .json; rename it"
    );
    assert_eq!(
        refusal("a.safetensors b.onnx --pytorch"),
        "--pytorch applies to a file that ends with .safetensors, found b.onnx; leave it out"
    );
    assert_eq!(
        refusal("a.safetensors b.safetensors --lengths"),
        "--lengths applies to a file that ends with .onnx, found b.safetensors; leave it out"
    );
    assert_eq!(
        refusal("a.safetensors ./a.safetensors --pytorch"),
        "./a.safetensors: this is both the file to read and the file to write; give OUT another name"
    );
    for arguments in [
        &["convert", "a.safetensors"][..],
        &["convert", "a.safetensors", "b.safetensors", "--names", "rnn"],
        &["convert", "a.safetensors", "b.safetensors", "--modules", "a swish"],
    ] {
        assert_eq!(folder.run(arguments).status.code(), Some(2), "{arguments:?}");
    }
    assert!(folder.fail(1, &["convert", "no.onnx", "b.onnx"]).starts_with("no.onnx: "));
}

/// The description of a model, with each run of spaces replaced by one space.
fn described(folder: &Folder, arguments: &[&str]) -> String {
    let printed = folder.succeed(&[&["describe"], arguments, &["--device", "cpu"]].concat());
    assert_narrow(&printed);
    printed.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn describe_reads_every_kind_of_file() {
    let folder = Folder::new();
    save(&folder, "a.safetensors", 3, &stack());
    let steps = ["--steps", "5", "--batch", "2"];
    let network =
        "network 3 -> lstm 4 bidirectional -> lstm 4 bidirectional -> gru 3 -> last step -> dense 2 relu";
    let ours = described(&folder, &[&["a.safetensors"][..], &steps].concat());
    assert!(ours.starts_with(network), "{ours}");
    folder.succeed(&["convert", "a.safetensors", "b.safetensors", "--pytorch", "--names", "low,high,head"]);
    let modules = ["--modules", "low, high, last_step, head relu"];
    assert_eq!(described(&folder, &[&["b.safetensors"], &steps[..], &modules].concat()), ours);
    folder.succeed(&["convert", "a.safetensors", "c.onnx"]);
    let onnx = described(&folder, &[&["c.onnx"][..], &steps].concat());
    let (graph, rest) = onnx.split_once(" network ").unwrap();
    assert!(ours.ends_with(rest), "{onnx}");
    for part in
        ["model ONNX, opset 17", "takes input float32 [steps, batch, 3]", "gives output float32 [batch, 2]"]
    {
        assert!(graph.contains(part), "{part} is not in {graph}");
    }
}

#[test]
fn files_of_torch_save_are_described_and_converted() {
    let folder = Folder::new();
    let (zip, safetensors) = (fixture("pytorch/pt/zip.pt"), fixture("pytorch/pt/expected.safetensors"));
    let [zip, safetensors] = [&zip, &safetensors].map(|path| path.to_str().unwrap());
    assert_eq!(described(&folder, &[zip]), described(&folder, &[safetensors]));
    folder.succeed(&["convert", zip, "back.safetensors", "--pytorch"]);
    let read = |path: &Path| pytorch::read(path, &pytorch::ReadOptions::new()).unwrap();
    let back = folder.path("back.safetensors");
    assert!(read(&back) == read(Path::new(safetensors)), "names and numbers are those that were read");
    let counter = fixture("pytorch/pt/counter.pt");
    let counter = counter.to_str().unwrap();
    let ignored = described(&folder, &[counter, "--ignore", "norm"]);
    assert_eq!(ignored, described(&folder, &[zip]));
}

#[test]
fn a_graph_that_is_no_network_is_still_described() {
    let folder = Folder::new();
    let path = fixture("onnx/keras3_swish_18.onnx");
    let printed = described(&folder, &[path.to_str().unwrap()]);
    assert!(printed.contains("opset 18") && printed.contains("takes keras_tensor float32"), "{printed}");
    assert!(printed.contains("network ") && !printed.contains("Parameters"), "{printed}");
}

/// The sums are done by hand, for three inputs, seven rows and eleven steps.
#[test]
fn describe_counts_every_cell() {
    let folder = Folder::new();
    let has = |printed: &str, parts: &[&str]| {
        for part in parts {
            assert!(printed.contains(part), "{part} is not in\n{printed}");
        }
    };
    let layers = [
        EmbeddingConfig::new(9, 3).into(),
        GruConfig::new(5).direction(Direction::Bidirectional).into(),
        RnnConfig::new(4).biases(Biases::None).skip(2).direction(Direction::Reverse).into(),
        LstmConfig::new(6).projection(2).into(),
        LayerConfig::FinalState,
        DenseConfig::new(3).into(),
    ];
    save(&folder, "a.safetensors", 1, &layers);
    let printed = described(&folder, &["a.safetensors", "--steps", "11", "--batch", "7"]);
    has(
        &printed,
        &[
            "input [11, 7, 1] token numbers",
            "layer 0 (embedding) [11, 7, 3] of 9 tokens",
            "layer 1 (gru) [11, 7, 10] bidirectional",
            "layer 2 (rnn) [11, 7, 4] no biases, reverse, skip 2",
            "t = 11 .. 1: x(t) [7, 10], h(t+1) and h(t+2) [7, 4] -> h(t) [7, 4]",
            "h(t-1) [7, 2], c(t-1) [7, 6] -> gates 4 x [7, 6] -> c(t) -> h(t) [7, 2]",
            "layer 4 (final state) [1, 7, 2]",
            "embedding0.weight [9, 3] 27",
            "rnn0.weight_hh_l0_reverse [15, 5] 75",
            "rnn1.weight_sh_l0_reverse [4, 4] 16",
            "rnn2.weight_hr_l0 [2, 6] 12",
            "Rows of an LSTM's: input, forget, cell, output.",
            "Rows of a GRU's: reset, update, new.",
            "layer 1 (gru), a step 3,360 6,720", // 2 * 2 * 7 * 15 * (3 + 5)
            "layer 2 (rnn), a step 1,008 2,016", // 2 * 7 * 4 * (10 + 4 + 4)
            "layer 3 (lstm), a step 2,184 4,368", // 2 * 7 * (24 * (4 + 2) + 2 * 6)
            "layer 5 (dense), once 84 168",      // 2 * 7 * 2 * 3
            "all, all steps 72,156 144,312",     // 11 * (3360 + 1008 + 2184) + 84
        ],
    );
    assert!(!printed.contains("(embedding), a step"), "a table has no products: {printed}");
}

#[test]
fn describe_counts_a_vanilla_network_without_biases() {
    let folder = Folder::new();
    let options =
        "--cell rnn --no-biases --input 234 --hidden 1024,512 --output 15 --every-step --steps 3 --batch 2";
    let printed = described(&folder, &options.split(' ').collect::<Vec<_>>());
    for part in [
        "network 234 -> rnn 1024 no biases -> rnn 512 no biases -> dense 15 no bias",
        "[1024, 234] 239,616",
        "[1024, 1024] 1,048,576",
        "[512, 1024] 524,288",
        "[512, 512] 262,144",
        "[15, 512] 7,680",
        "2,082,304", // 234 * 1024 + 1024^2 + 1024 * 512 + 512^2 + 512 * 15
        "layer 0 (rnn), a step 5,152,768 10,305,536", // 2 * 2 * (239616 + 1048576)
    ] {
        assert!(printed.contains(part), "{part} is not in\n{printed}");
    }
}

#[test]
fn plugins_files_are_written() {
    let folder = Folder::new();
    let residual = LayerConfig::Residual { from: 0 };
    let mut model = save(
        &folder,
        "amp.safetensors",
        1,
        &[LstmConfig::new(20).into(), DenseConfig::new(1).into(), residual],
    );
    let printed = folder.succeed(&["convert", "amp.safetensors", "amp.nam"]);
    assert!(printed.contains("written    amp.nam (Neural Amp Modeler)"), "{printed}");
    let said = printed.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(said.contains("one more unit, 21 in all") && said.contains("no sample rate is given"), "{said}");
    assert_narrow(&printed);
    let printed = folder.succeed(&["convert", "amp.safetensors", "amp.json", "--sample-rate", "44100"]);
    assert!(printed.contains("written    amp.json (RTNeural)"), "{printed}");
    let read = |name: &str| -> serde_json::Value {
        serde_json::from_slice(&fs::read(folder.path(name)).unwrap()).unwrap()
    };
    let (nam, json) = (read("amp.nam"), read("amp.json"));
    assert_eq!((&nam["architecture"], &nam["config"]["hidden_size"]), (&"LSTM".into(), &21.into()));
    assert_eq!((&json["in_skip"], &json["metadata"]["samplerate"]), (&1.into(), &44100.0.into()));
    assert_eq!(json["state_dict"]["rec.weight_hh_l0"].as_array().unwrap().len(), 80);
    // A model that says its rate needs no option.
    model.metadata.insert("sample_rate".into(), "48000".into());
    model.save(folder.path("said.safetensors")).unwrap();
    folder.succeed(&["convert", "said.safetensors", "said.nam", "--quiet"]);
    assert_eq!(read("said.nam")["sample_rate"], 48000.0);

    save(&folder, "gru.safetensors", 1, &[GruConfig::new(3).into(), DenseConfig::new(1).into()]);
    let error = folder.fail(1, &["convert", "gru.safetensors", "gru.nam"]);
    assert!(error.contains("layer 0 (gru): a .nam file has LSTM layers only; found gru"), "{error}");
    assert!(!folder.path("gru.nam").exists());
    let error = folder.fail(2, &["convert", "amp.nam", "b.safetensors"]);
    assert!(error.contains("plugins' files are written, not read"), "{error}");
    let error = folder.fail(2, &["convert", "amp.safetensors", "b.onnx", "--sample-rate", "48000"]);
    assert!(error.contains("--sample-rate applies to a file that ends with .nam or .json"), "{error}");
    let error = folder.fail(2, &["convert", "amp.safetensors", "b.nam", "--pytorch"]);
    assert!(error.contains("--pytorch applies to a file that ends with .safetensors"), "{error}");
    let error = folder.fail(2, &["convert", "amp.safetensors", "b.nam", "--sample-rate", "0"]);
    assert!(error.contains("--sample-rate 0: expected a number above 0"), "{error}");
}
