//! `gatefold run` with our models, PyTorch's and ONNX's, on arrays in .npz files.

use crate::models::support::{Array, Folder, fixture, read_tensors, write_npz};
use gatefold_check::{Tolerance, assert_close, output_terms, test_gpu};
use gatefold_model::file::{Model, pytorch};
use gatefold_model::{
    Activation, Bridge, DecoderConfig, DenseConfig, Direction, EmbeddingConfig, GruConfig, InitialState,
    LayerConfig, LstmConfig, NetworkConfig, Parameters, RnnConfig,
};
use gatefold_onnx::recurrent::{Operator, RecurrentOperator, Weights};
use ndarray::{Array2, Array3, ArrayD, Axis, IxDyn, array, s};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;

/// Saves a model with random parameters in the folder.
fn save(folder: &Folder, name: &str, input: usize, layers: &[LayerConfig]) -> Model {
    let config = NetworkConfig::new(input, layers).unwrap();
    let parameters = Parameters::initial(&config, 3).unwrap();
    let model = Model { config, parameters, metadata: BTreeMap::new() };
    model.save(folder.path(name)).unwrap();
    model
}

/// Numbers between -1 and 1 in no particular order.
fn numbers<const N: usize>(shape: [usize; N]) -> ArrayD<f32> {
    let mut k = 0_u32;
    ArrayD::from_shape_simple_fn(IxDyn(&shape), || {
        k = k.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (k >> 8) as f32 / (1 << 23) as f32 - 1.0
    })
}

#[track_caller]
fn check(what: &str, found: &ArrayD<f32>, expected: &ArrayD<f32>, tolerance: Tolerance) {
    assert_eq!(found.shape(), expected.shape(), "{what}");
    let found: Vec<f32> = found.iter().copied().collect();
    let expected: Vec<f64> = expected.iter().map(|&value| value.into()).collect();
    assert_close(what, &[("element", expected.len())], &found, &expected, tolerance);
}

/// Cutting the sequences in two gives the same bits, if the second half starts from the states in which the first
/// ended.
#[test]
fn states_go_out_and_come_in_again() {
    let folder = Folder::new();
    let layers = [
        LstmConfig::new(5).projection(2).into(),
        GruConfig::new(4).skip(3).into(),
        RnnConfig::new(3).feedback(2, Activation::Tanh).initial_state(InitialState::Constant(0.5)).into(),
        DenseConfig::new(2).activation(Activation::Softsign).into(),
    ];
    save(&folder, "m.safetensors", 3, &layers);
    let input = numbers([9, 2, 3]);
    let whole = folder.outputs("m.safetensors", "cpu", &[("input", input.clone().into())], &[]);
    let names: Vec<&str> = whole.keys().map(String::as_str).collect();
    assert_eq!(names, ["layer0.c", "layer0.h", "layer1.h", "layer2.h", "layer2.y", "output"]);
    assert_eq!(whole["output"].shape(), [9, 2, 2]);
    assert_eq!(whole["layer0.h"].shape(), [1, 2, 2]);
    assert_eq!(whole["layer0.c"].shape(), [1, 2, 5]);
    assert_eq!(whole["layer1.h"].shape(), [3, 2, 4], "the skip connection reaches back three steps");
    assert_eq!(whole["layer2.y"].shape(), [2, 2]);

    let (first, second) = (input.slice(s![..4, .., ..]).to_owned(), input.slice(s![4.., .., ..]).to_owned());
    let mut parts = vec![folder.outputs("m.safetensors", "cpu", &[("input", first.into())], &[])];
    let mut given: Vec<(&str, Array)> = vec![("input", second.into())];
    for name in names.iter().filter(|name| **name != "output") {
        given.push((name, parts[0][*name].clone().into()));
    }
    parts.push(folder.outputs("m.safetensors", "cpu", &given, &[]));
    let halves = [parts[0]["output"].view(), parts[1]["output"].view()];
    assert_eq!(ndarray::concatenate(Axis(0), &halves).unwrap(), whole["output"]);
    for name in names.iter().filter(|name| **name != "output") {
        assert_eq!(parts[1][*name], whole[*name], "{name}");
    }
    // Without the states the second half differs.
    let alone = folder.outputs("m.safetensors", "cpu", &given[..1], &[]);
    assert_ne!(alone["output"], parts[1]["output"]);
    // With only one of them, the others start as the model says.
    let some = folder.outputs("m.safetensors", "cpu", &given[..2], &[]);
    assert!(some["output"] != alone["output"] && some["output"] != parts[1]["output"]);
}

/// Chunks of a long input, the last of them shorter, give the outputs and states of the whole; what cannot go step by step
/// is refused with the layer or node.
#[test]
fn chunks_give_the_outputs_of_the_whole() {
    let folder = Folder::new();
    let layers = [GruConfig::new(4).skip(2).into(), LstmConfig::new(3).into(), DenseConfig::new(2).into()];
    save(&folder, "m.safetensors", 3, &layers);
    let (input, lengths) = (numbers([9, 2, 3]), Array::from(array![9_i64, 3]));
    for given in
        [vec![("input", input.clone().into())], vec![("input", input.clone().into()), ("lengths", lengths)]]
    {
        let whole = folder.outputs("m.safetensors", "cpu", &given, &[]);
        assert_eq!(folder.outputs("m.safetensors", "cpu", &given, &["--stream", "4"]), whole);
    }
    // The second fixes the steps of a call.
    for (name, chunks) in [
        ("pytorch_gru_states_12", &[&["--stream", "4"][..], &["--stream", "1", "--state", "h0=h_n"]][..]),
        ("pytorch_gru_states_8", &[&["--stream", "6"][..]][..]),
    ] {
        let tensors = read_tensors(&fixture(&format!("onnx/{name}.io.safetensors")));
        let path = fixture(&format!("onnx/{name}.onnx"));
        let given: Vec<(&str, Array)> = ["x", "h0"].map(|name| (name, tensors[name].clone())).into();
        for more in chunks {
            let found = folder.outputs(path.to_str().unwrap(), "cpu", &given, more);
            let tolerance = || Tolerance::output(ONNX_TERMS).times(2);
            assert_eq!(found.keys().collect::<Vec<_>>(), ["h_n", "y"], "the names of the graph");
            check("y", &found["y"], tensors["y"].f32s(), tolerance());
            check("the last state", &found["h_n"], tensors["h_n"].f32s(), tolerance());
        }
    }

    let refused = |model: &str, arrays: &[(&str, Array)], more: &[&str]| {
        write_npz(&folder.path("in.npz"), arrays);
        let run =
            ["run", model, "--inputs", "in.npz", "--outputs", "no.npz", "--device", "cpu", "--stream", "2"];
        folder.fail(1, &[&run[..], more].concat())
    };
    save(&folder, "b.safetensors", 3, &[GruConfig::new(4).direction(Direction::Bidirectional).into()]);
    let found = refused("b.safetensors", &[("input", input.clone().into())], &[]);
    assert!(found.contains("layer 0 (gru): it reads the sequence from its end"), "{found}");
    let x = read_tensors(&fixture("onnx/pytorch_conv_lstm_11.io.safetensors"))["x"].clone();
    let convolution = fixture("onnx/pytorch_conv_lstm_11.onnx");
    let found = refused(convolution.to_str().unwrap(), &[("x", x)], &[]);
    assert!(found.contains("node /conv/Conv (Conv): it reads several steps at once"), "{found}");
    let tensors = read_tensors(&fixture("onnx/pytorch_gru_states_8.io.safetensors"));
    let given: Vec<(&str, Array)> = ["x", "h0"].map(|name| (name, tensors[name].clone())).into();
    let found = refused(fixture("onnx/pytorch_gru_states_8.onnx").to_str().unwrap(), &given, &[]);
    assert!(found.contains("the model fixes 6 steps per call, found chunks of 2"), "{found}");
}

#[test]
fn lengths_end_rows() {
    let folder = Folder::new();
    save(&folder, "m.safetensors", 3, &[GruConfig::new(4).direction(Direction::Bidirectional).into()]);
    let input = numbers([5, 3, 3]);
    for lengths in [Array::from(array![5_i64, 2, 0]), Array::I32(array![5, 2, 0].into_dyn())] {
        let arrays = [("lengths", lengths), ("input", input.clone().into())];
        let found = folder.outputs("m.safetensors", "cpu", &arrays, &[]);
        let output = &found["output"];
        assert!(output.slice(s![2.., 1, ..]).iter().chain(output.slice(s![.., 2, ..])).all(|&y| y == 0.0));
        let alone = input.slice(s![..2, 1..2, ..]).to_owned();
        let row = folder.outputs("m.safetensors", "cpu", &[("input", alone.into())], &[]);
        assert_eq!(output.slice(s![..2, 1, ..]), row["output"].slice(s![.., 0, ..]));
        assert_eq!(found["layer0.h"].slice(s![.., 1, ..]), row["layer0.h"].slice(s![.., 0, ..]));
    }
}

#[test]
fn a_decoder_reads_its_own_tokens() {
    let folder = Folder::new();
    let layers = [
        EmbeddingConfig::new(9, 4).into(),
        GruConfig::new(3).direction(Direction::Bidirectional).into(),
        DecoderConfig::new(1).bridge(Bridge::Dense { activation: Activation::Tanh }).into(),
        EmbeddingConfig::new(8, 2).into(),
        LstmConfig::new(5).into(),
        DenseConfig::new(8).into(),
        LayerConfig::Softmax,
    ];
    save(&folder, "m.safetensors", 1, &layers);
    let (source, target) = (array![[1_i64, 2], [8, 0], [3, 3]], array![[0_i64, 7], [5, 1]]);
    let arrays: [(&str, Array); 4] = [
        ("input", source.clone().into()),
        ("decoder_input", target.clone().into()),
        ("lengths", array![3_i64, 2].into()),
        ("decoder_lengths", array![2_i64, 1].into()),
    ];
    let found = folder.outputs("m.safetensors", "cpu", &arrays, &[]);
    assert_eq!(found["output"].shape(), [2, 2, 8]);
    let sums = found["output"].sum_axis(Axis(2));
    assert!((sums[[0, 0]] - 1.0).abs() < 1e-6 && sums[[1, 1]] == 0.0, "{sums}");
    assert_eq!(found.keys().collect::<Vec<_>>(), ["layer1.h", "layer4.c", "layer4.h", "output"]);
    // Tokens may be float32, as in our own programs.
    let floats = source.mapv(|token| token as f32).insert_axis(Axis(2));
    let arrays = [vec![("input", floats.into())], arrays[1..].to_vec()].concat();
    assert_eq!(folder.outputs("m.safetensors", "cpu", &arrays, &[]), found);

    let mut wrong = arrays.clone();
    wrong[1].1 = array![[0_i64, 8], [5, 1]].into();
    write_npz(&folder.path("in.npz"), &wrong);
    let run = ["run", "m.safetensors", "--inputs", "in.npz", "--outputs", "no.npz", "--device", "cpu"];
    let error = folder.fail(1, &run);
    assert_eq!(error, "decoder's input at step 0, row 1: expected a token number, 0 to 7, found 8");
    wrong[1].1 = array![[0_i64], [5]].into();
    write_npz(&folder.path("in.npz"), &wrong[..2]);
    assert_eq!(
        folder.fail(1, &run),
        "in.npz: array decoder_input: expected 2 rows as in input, found 1; give one row for each of them"
    );
    write_npz(&folder.path("in.npz"), &[("layer4.h", numbers([1, 2, 5]).into())]);
    assert_eq!(
        folder.fail(1, &run),
        "in.npz: array layer4.h: expected one of input, lengths, decoder_input, decoder_lengths, layer1.h; rename it or leave it out"
    );
}

/// Every forward case of the conformance vectors, as one of our models with arrays from a file.
#[test]
fn conformance_cases_run_on_the_cpu() {
    conformance("cpu");
}

#[test]
fn conformance_cases_run_on_a_gpu() {
    if test_gpu().is_some() {
        conformance("gpu");
    }
}

fn conformance(device: &str) {
    let folder = Folder::new();
    let text = fs::read_to_string(fixture("../conformance/ort_supplement.json")).unwrap();
    let cases: Vec<Value> = serde_json::from_str(&text).unwrap();
    assert_eq!(cases.len(), 63);
    for case in &cases {
        let name = case["name"].as_str().unwrap();
        let given = |key: &str| case["input"].get(key).map(tensor);
        let (x, [w, r]) = (given("X").unwrap(), ["W", "R"].map(|key| given(key).unwrap()));
        let weights = Weights {
            w: w.into_dimensionality().unwrap(),
            r: r.into_dimensionality().unwrap(),
            b: given("B").map(|b| b.into_dimensionality().unwrap()),
            p: given("P").map(|p| p.into_dimensionality().unwrap()),
        };
        let operator = operator(case);
        let (config, parameters) = operator.network(&weights).unwrap();
        let terms = output_terms(&config);
        Model { config, parameters, metadata: BTreeMap::new() }.save(folder.path("m.safetensors")).unwrap();

        let (steps, batch) = (x.len_of(Axis(0)), x.len_of(Axis(1)));
        let mut arrays: Vec<(&str, Array)> = vec![("input", x.into())];
        arrays.extend(given("initial_h").map(|h| ("layer0.h", h.into())));
        arrays.extend(given("initial_c").map(|c| ("layer0.c", c.into())));
        let lengths: Option<Vec<i64>> =
            given("sequence_lens").map(|lengths| lengths.iter().map(|&length| length as i64).collect());
        arrays.extend(lengths.clone().map(|lengths| ("lengths", ndarray::Array1::from(lengths).into())));
        let mut found = folder.outputs("m.safetensors", device, &arrays, &[]);

        // Y is [T, D, B, H]; our output has the directions side by side.
        let y = tensor(&case["output"]["Y"]);
        let hidden = y.len_of(Axis(3));
        let output = found.remove("output").unwrap();
        let output = output.to_shape((steps, batch, operator.directions(), hidden)).unwrap();
        let output = output.permuted_axes([0, 2, 1, 3]).as_standard_layout().into_owned().into_dyn();
        let tolerance = Tolerance::output(terms).times(2); // both programs round
        check(&format!("{name} Y"), &output, &y, tolerance);
        for (ours, theirs) in [("layer0.h", "Y_h"), ("layer0.c", "Y_c")] {
            let Some(expected) = case["output"].get(theirs).map(tensor) else { continue };
            // A row without steps keeps its initial state; in onnxruntime it is zero.
            let there = |row: &usize| lengths.as_ref().is_none_or(|lengths| lengths[*row] > 0);
            let rows: Vec<usize> = (0..batch).filter(there).collect();
            let [found, expected] = [&found[ours], &expected].map(|state| state.select(Axis(1), &rows));
            check(&format!("{name} {theirs}"), &found, &expected, tolerance);
        }
    }
}

fn operator(case: &Value) -> RecurrentOperator {
    let attribute = |key: &str| case["attrs"].get(key);
    let floats = |key: &str| -> Vec<f32> {
        let values = attribute(key).and_then(Value::as_array).cloned().unwrap_or_default();
        values.iter().map(|value| value.as_f64().unwrap() as f32).collect()
    };
    let is = |key: &str| attribute(key).is_some_and(|value| *value == 1);
    let mut operator = RecurrentOperator::new(Operator::of_name(case["op"].as_str().unwrap()).unwrap())
        .direction(attribute("direction").and_then(Value::as_str).unwrap_or("forward"))
        .unwrap()
        .clip(attribute("clip").and_then(Value::as_f64).map(|bound| bound as f32))
        .input_forget(is("input_forget"))
        .linear_before_reset(is("linear_before_reset"));
    if let Some(names) = attribute("activations").and_then(Value::as_array) {
        let names: Vec<String> = names.iter().map(|name| name.as_str().unwrap().into()).collect();
        let (alpha, beta) = (floats("activation_alpha"), floats("activation_beta"));
        operator = operator.activations(&names, &alpha, &beta).unwrap();
    }
    operator
}

fn tensor(value: &Value) -> ArrayD<f32> {
    let shape: Vec<usize> =
        value["shape"].as_array().unwrap().iter().map(|len| len.as_u64().unwrap() as usize).collect();
    let data = value["data"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect();
    ArrayD::from_shape_vec(shape, data).unwrap()
}

/// The value of --modules for a network in the index of the fixtures.
fn modules(case: &Value) -> String {
    if let Some(text) = case["modules"].as_str() {
        return text.into();
    }
    let mut steps: Vec<String> = Vec::new();
    for step in case["steps"].as_array().unwrap() {
        let name = step["name"].as_str().map(|name| if name.is_empty() { "." } else { name });
        match (step["module"].as_str().unwrap(), name) {
            ("LastStep", _) => steps.push("last_step".into()),
            ("FinalState", _) => steps.push("final_state".into()),
            ("ReLU", _) => steps.last_mut().unwrap().push_str(" relu"),
            (_, Some(name)) if step["options"]["nonlinearity"] == "relu" => {
                steps.push(format!("{name} relu"));
            }
            (_, Some(name)) => steps.push(name.into()),
            (module, None) => panic!("no name for {module}"),
        }
    }
    steps.join(", ")
}

/// Every network from PyTorch, compared with the outputs and final states that PyTorch computed.
#[test]
fn state_dicts_of_pytorch_give_pytorchs_outputs() {
    let folder = Folder::new();
    let index: Value = serde_json::from_slice(&fs::read(fixture("pytorch/cases.json")).unwrap()).unwrap();
    let cases = index["cases"].as_array().unwrap();
    assert!(cases.len() >= 37);
    for case in cases {
        let name = case["name"].as_str().unwrap();
        let path = fixture(&format!("pytorch/{name}.safetensors"));
        let modules = modules(case);
        let config = pytorch::read(&path, &modules.parse().unwrap()).unwrap().config;
        let tensors = read_tensors(&fixture(&format!("pytorch/{name}.io.safetensors")));
        let turned = |array: &Array| match array {
            Array::F32(values) if case["batch_first"] == true && values.ndim() == 3 => {
                let mut values = values.clone();
                values.swap_axes(0, 1);
                values.as_standard_layout().into_owned().into()
            }
            array => array.clone(),
        };
        let mut arrays: Vec<(&str, Array)> = vec![("input", turned(&tensors["input"]))];
        arrays.extend(tensors.get("lengths").map(|lengths| ("lengths", lengths.clone())));
        // PyTorch's h0 and c0 hold all layers, both directions of each.
        let labels: Vec<(String, usize)> = config
            .recurrent_layers()
            .map(|layer| (layer.label(), layer.recurrent().unwrap().direction.scans().len()))
            .collect();
        let of_layer = |key: &str, layer: usize| {
            let scans = labels[layer].1;
            tensors.get(key).map(|all| {
                all.f32s().slice_axis(Axis(0), (layer * scans..(layer + 1) * scans).into()).to_owned()
            })
        };
        let mut names = Vec::new();
        for (layer, (label, _)) in labels.iter().enumerate() {
            for (key, state) in [("h0", "h"), ("c0", "c")] {
                names.extend(of_layer(key, layer).map(|values| (format!("{label}.{state}"), values)));
            }
        }
        arrays.extend(names.iter().map(|(name, values)| (name.as_str(), values.clone().into())));
        let found = folder.outputs(path.to_str().unwrap(), "cpu", &arrays, &["--modules", &modules]);

        let tolerance = Tolerance::output(output_terms(&config));
        let expected = turned(&tensors["output"]).f32s().clone();
        let output = found["output"].to_shape(expected.shape()).unwrap().into_owned();
        check(name, &output, &expected, tolerance);
        for (layer, (label, _)) in labels.iter().enumerate() {
            for (key, state) in [("h_n", "h"), ("c_n", "c")] {
                let Some(expected) = of_layer(key, layer) else { continue };
                check(&format!("{name} {key}"), &found[&format!("{label}.{state}")], &expected, tolerance);
            }
        }
    }
}

/// The longest sums of the ONNX fixtures: two layers of at most 20 inputs and states, and a dense layer of 10.
const ONNX_TERMS: usize = 50;

/// Every ONNX model that other programs wrote, with the names of its own graph.
#[test]
fn onnx_models_give_their_makers_outputs() {
    let folder = Folder::new();
    let mut ran = 0;
    for index in ["pytorch", "keras", "node"] {
        let text = fs::read(fixture(&format!("onnx/{index}.json"))).unwrap();
        let index: Value = serde_json::from_slice(&text).unwrap();
        for case in index["cases"].as_array().unwrap() {
            let name = case["name"].as_str().unwrap();
            let tensors = read_tensors(&fixture(&format!("onnx/{name}.io.safetensors")));
            let names = |key: &str| -> Vec<&str> {
                case[key].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect()
            };
            let arrays: Vec<(&str, Array)> =
                names("inputs").into_iter().map(|input| (input, tensors[input].clone())).collect();
            let path = fixture(&format!("onnx/{name}.onnx"));
            let found = folder.outputs(path.to_str().unwrap(), "cpu", &arrays, &[]);
            assert_eq!(found.len(), names("outputs").len(), "{name}");
            for output in names("outputs") {
                let tolerance = Tolerance::output(ONNX_TERMS).times(2);
                check(&format!("{name} {output}"), &found[output], tensors[output].f32s(), tolerance);
            }
            ran += 1;
        }
    }
    assert_eq!(ran, 87);
}

#[test]
fn arrays_that_do_not_fit_are_refused_in_one_line_each() {
    let folder = Folder::new();
    save(&folder, "m.safetensors", 3, &[LstmConfig::new(4).into(), DenseConfig::new(1).into()]);
    fs::write(folder.path("out.npz"), "as it was").unwrap();
    let run = ["run", "m.safetensors", "--inputs", "in.npz", "--outputs", "out.npz", "--device", "cpu"];
    let input = || ("input", Array::from(numbers([5, 2, 3])));
    let refusal = |arrays: &[(&str, Array)]| {
        write_npz(&folder.path("in.npz"), arrays);
        let error = folder.fail(1, &run);
        error.strip_prefix("in.npz: ").unwrap_or_else(|| panic!("{error}")).to_owned()
    };
    assert_eq!(
        refusal(&[("lengths", array![5_i64, 2].into())]),
        "array input is missing: expected float32 [steps, batch, 3], found lengths; save it under that name"
    );
    assert_eq!(
        refusal(&[]),
        "array input is missing: expected float32 [steps, batch, 3], found no array at all; save it under that name"
    );
    assert_eq!(
        refusal(&[input(), ("X", numbers([1]).into())]),
        "array X: expected one of input, lengths, layer0.h, layer0.c; rename it or leave it out"
    );
    assert_eq!(
        refusal(&[("input", numbers([5, 2]).into())]),
        "array input: expected float32 [steps, batch, 3], found float32 [5, 2]; give it that type and shape"
    );
    assert_eq!(
        refusal(&[("input", Array3::<i64>::zeros((5, 2, 3)).into())]),
        "array input: expected float32 [steps, batch, 3], found int64 [5, 2, 3]; give it that type and shape"
    );
    assert_eq!(
        refusal(&[("input", Array3::<f32>::zeros((0, 2, 3)).into())]),
        "array input: expected float32 [steps, batch, 3], found float32 [0, 2, 3]; give it that type and shape"
    );
    // Doubles are read as float32, so only their shape is wrong.
    assert_eq!(
        refusal(&[("input", Array::F64(ArrayD::zeros(IxDyn(&[5, 2]))))]),
        "array input: expected float32 [steps, batch, 3], found float32 [5, 2]; give it that type and shape"
    );
    assert_eq!(
        refusal(&[input(), ("lengths", array![5_i64].into())]),
        "array lengths: expected int64 or int32 [2], each from 0 to 5, found int64 [1]; give it that type and shape"
    );
    assert_eq!(
        refusal(&[input(), ("lengths", numbers([2]).into())]),
        "array lengths: expected int64 or int32 [2], each from 0 to 5, found float32 [2]; give it that type and shape"
    );
    for wrong in [-1_i64, 6, i64::MAX] {
        assert_eq!(
            refusal(&[input(), ("lengths", array![5, wrong].into())]),
            format!("array lengths, row 1: expected 0 to the 5 steps of input, found {wrong}")
        );
    }
    assert_eq!(
        refusal(&[input(), ("layer0.c", Array2::<f32>::zeros((2, 4)).into())]),
        "array layer0.c: expected float32 [1, 2, 4], found float32 [2, 4]; give it that type and shape"
    );
    // ONNX models have their own names.
    let path = fixture("onnx/test_lstm_with_peepholes.onnx");
    let onnx =
        ["run", path.to_str().unwrap(), "--inputs", "in.npz", "--outputs", "out.npz", "--device", "cpu"];
    write_npz(&folder.path("in.npz"), &[input()]);
    let error = folder.fail(1, &onnx);
    assert!(error.starts_with("in.npz: array input: expected one of X, W, R, B"), "{error}");
    write_npz(&folder.path("in.npz"), &[("X", numbers([1, 1, 1]).into())]);
    let error = folder.fail(1, &onnx);
    assert!(error.starts_with("in.npz: array W is missing: expected float32 ["), "{error}");

    write_npz(&folder.path("in.npz"), &[input()]);
    let whole = fs::read(folder.path("in.npz")).unwrap();
    fs::write(folder.path("in.npz"), &whole[..whole.len() / 2]).unwrap();
    let error = folder.fail(1, &run);
    assert!(error.starts_with("in.npz: not an .npz archive, or a truncated one: "), "{error}");
    fs::remove_file(folder.path("in.npz")).unwrap();
    assert!(folder.fail(1, &run).starts_with("in.npz: "));
    assert_eq!(fs::read(folder.path("out.npz")).unwrap(), b"as it was", "a failure writes nothing");
    assert_eq!(fs::read_dir(folder.path("")).unwrap().count(), 2, "and leaves no other file");
}

#[test]
fn wrong_usage_of_run_is_told_apart() {
    let folder = Folder::new();
    save(&folder, "m.safetensors", 3, &[LstmConfig::new(4).into()]);
    write_npz(&folder.path("in.npz"), &[("input", numbers([2, 1, 3]).into())]);
    let run = |model: &str, more: &[&str]| {
        let arguments = ["run", model, "--inputs", "in.npz", "--outputs", "no.npz", "--device", "cpu"];
        folder.fail(2, &[&arguments[..], more].concat())
    };
    for (name, advice) in
        [("m.pb", "export it as .onnx"), ("m.tflite", "export it as .onnx"), ("m", "rename it")]
    {
        let expected = format!(
            "{name}: expected a model named .safetensors, .pt, .pth, .keras, .weights.h5 or .onnx; {advice}"
        );
        assert_eq!(run(name, &[]), expected);
    }
    assert_eq!(
        run("m.safetensors", &["--modules", "rnn"]),
        "--modules: m.safetensors is not a PyTorch state_dict and describes its own layers; leave the option out"
    );
    for read in ["m.safetensors", "in.npz"] {
        let error = folder.fail(2, &["run", "m.safetensors", "--inputs", "in.npz", "--outputs", read]);
        assert_eq!(error, format!("--outputs {read}: this is a file to read; give another name"));
    }
    let output = folder.run(&["run", "m.safetensors", "--inputs", "in.npz"]);
    assert_eq!(output.status.code(), Some(2));
    let error = folder.fail(
        1,
        &["run", "m.safetensors", "--inputs", "in.npz", "--outputs", "no/such/out.npz", "--device", "cpu"],
    );
    assert!(error.contains("no/such/out.npz: cannot be written"), "{error}");
}
