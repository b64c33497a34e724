//! PyTorch's state dicts, read and written, against files written by PyTorch (tests/fixtures/pytorch of the workspace).

use gatefold_model::file::{Model, pytorch};
use gatefold_model::{
    Activation, Biases, Bridge, DecoderConfig, DenseConfig, EmbeddingConfig, GruConfig, LayerConfig,
    LstmConfig, NetworkConfig, Parameters,
};
use gatefold_reference::Failures;
use ndarray::ArrayD;
use proptest::prelude::*;
use pytorch::{ReadOptions, Step};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

type Tensors = BTreeMap<String, ArrayD<f32>>;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/pytorch")
}

fn cases() -> Vec<Value> {
    let index: Value = serde_json::from_slice(&fs::read(folder().join("cases.json")).unwrap()).unwrap();
    let cases = index["cases"].as_array().unwrap().clone();
    assert!(cases.len() >= 37, "{} cases", cases.len());
    cases
}

fn case(name: &str) -> Value {
    cases().into_iter().find(|case| case["name"] == name).expect("a case with this name")
}

fn path(case: &Value) -> PathBuf {
    folder().join(format!("{}.safetensors", case["name"].as_str().unwrap()))
}

/// The tensors of a file, read with nothing but the safetensors crate.
fn tensors(path: &Path) -> Tensors {
    let bytes = fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensors = file.iter().map(|(name, view)| {
        let values = view.data().chunks_exact(4).map(|word| f32::from_le_bytes(word.try_into().unwrap()));
        (name.to_owned(), ArrayD::from_shape_vec(view.shape(), values.collect()).unwrap())
    });
    tensors.collect()
}

/// The options of a case, from the index.
fn options(case: &Value) -> ReadOptions {
    if let Some(text) = case["modules"].as_str() {
        return text.parse().unwrap();
    }
    let mut steps: Vec<Step> = Vec::new();
    for step in case["steps"].as_array().unwrap() {
        match (step["module"].as_str().unwrap(), step["name"].as_str()) {
            ("LastStep", _) => steps.push(LayerConfig::LastStep.into()),
            ("FinalState", _) => steps.push(LayerConfig::FinalState.into()),
            ("ReLU", _) => match steps.last_mut() {
                Some(Step::Module(module)) => *module = module.clone().activation(Activation::Relu),
                _ => panic!("an activation follows a module"),
            },
            (_, Some(name)) if step["options"]["nonlinearity"] == "relu" => {
                steps.push(Step::module(name).activation(Activation::Relu).into());
            }
            (_, Some(name)) => steps.push(Step::module(name).into()),
            (module, None) => panic!("no name for {module}"),
        }
    }
    ReadOptions::new().steps(steps)
}

fn names(case: &Value) -> Vec<&str> {
    case["steps"].as_array().unwrap().iter().filter_map(|step| step["name"].as_str()).collect()
}

fn refusal(tensors: &Tensors, options: &ReadOptions) -> String {
    let error = pytorch::from_state_dict(tensors, options).expect_err("it should be refused").to_string();
    assert!(!error.contains('\n'), "more than a line: {error}");
    error.strip_prefix("state_dict: ").expect("the place comes first").to_owned()
}

fn parsed(text: &str) -> ReadOptions {
    text.parse().unwrap()
}

/// The expected networks, for a case of every kind.
#[test]
fn networks_follow_from_names_and_shapes() {
    let mut failures = Failures::new();
    for (name, expected) in [
        ("rnn_tanh", "3 -> rnn 5"),
        ("rnn_relu_nobias_batch_first", "5 -> rnn 3 relu, no biases"),
        ("rnn_tanh_3_lengths", "3 -> rnn 4 -> rnn 4 -> rnn 4"),
        ("rnn_1x1", "1 -> rnn 1"),
        ("lstm", "3 -> lstm 5"),
        ("lstm_3_bi", "2 -> lstm 3 bidirectional -> lstm 3 bidirectional -> lstm 3 bidirectional"),
        ("lstm_proj_2_nobias_batch_first", {
            "3 -> lstm 6 projected to 2, no biases -> lstm 6 projected to 2, no biases"
        }),
        ("lstm_proj_2_bi_lengths", {
            "3 -> lstm 6 projected to 1, bidirectional -> lstm 6 projected to 1, bidirectional"
        }),
        ("gru_3", "4 -> gru 3 -> gru 3 -> gru 3"),
        ("gru_nobias", "2 -> gru 9 no biases"),
        ("model_tokens", "1 -> embedding 4 of 11 tokens -> lstm 6 -> dense 11"),
        ("model_tagger", "3 -> gru 5 bidirectional -> gru 5 bidirectional -> dense 2"),
        ("model_last_step", "2 -> lstm 7 -> last step -> dense 3"),
        ("model_final_state_lengths", "3 -> gru 4 bidirectional -> final state -> dense 5 no bias"),
        ("model_mixed", "3 -> lstm 6 projected to 4 -> gru 5 -> dense 7 relu -> dense 2"),
        ("model_equal_widths", "4 -> rnn 4 relu -> lstm 4 -> gru 4"),
        ("conv_lstm", { "3 -> conv1d 4, kernel 3, padding 1 1, relu -> lstm 5 -> last step -> dense 2" }),
        ("conv_causal_gru", "2 -> conv1d 5, kernel 4, dilation 2, causal, no bias -> gru 4"),
        ("conv_strided_after_rnn", {
            "3 -> rnn 6 -> conv1d 4, kernel 5, stride 3, padding 0 2 -> lstm 3 bidirectional"
        }),
        ("conv_window", "3 -> conv1d 8, kernel 11, relu -> dense 2"),
        ("norm_max_pool", "3 -> lstm 6 -> normalise -> max pool -> dense 2"),
        ("norm_mean_pool", {
            "3 -> normalise with epsilon 0.0078125 -> lstm 5 -> normalise -> mean pool -> dense 2"
        }),
        ("norm_max_pool_lengths", {
            "3 -> gru 4 bidirectional -> max pool -> normalise with epsilon 0.0078125 -> dense 2"
        }),
        ("norm_mean_pool_lengths", "2 -> lstm 4 -> lstm 4 -> normalise -> mean pool"),
    ] {
        failures.check(name, || {
            let case = case(name);
            assert_eq!(
                pytorch::read(path(&case), &options(&case)).unwrap().config.to_string(),
                expected,
                "{name}"
            );
        });
    }
    failures.finish();
}

/// Walks the index and the network side by side; the names of both are spelled out here independently.
#[test]
fn every_tensor_lands_in_its_layer() {
    let mut failures = Failures::new();
    for case in cases() {
        failures.check(case["name"].to_string(), || {
            let model = pytorch::read(path(&case), &options(&case)).unwrap();
            model.parameters.check(&model.config).unwrap();
            let file = tensors(&path(&case));
            let mut layers = model.config.layers().iter().filter(|layer| !layer.parameters.is_empty());
            let mut seen = 0;
            for step in case["steps"].as_array().unwrap().iter().filter(|step| step["name"].is_string()) {
                let prefix = match step["name"].as_str().unwrap() {
                    "" => String::new(),
                    name => format!("{name}."),
                };
                let depth = step["options"]["num_layers"].as_u64().unwrap_or(1);
                for l in 0..depth {
                    let layer = layers.next().expect("a layer for each of the module's");
                    for spec in &layer.parameters {
                        let (_, leaf) = spec.name.split_once('.').unwrap();
                        let leaf = match leaf.split_once("_l") {
                            Some((kind, _)) if spec.reverse => format!("{kind}_l{l}_reverse"),
                            Some((kind, _)) => format!("{kind}_l{l}"),
                            None => leaf.into(),
                        };
                        match file.get(&format!("{prefix}{leaf}")) {
                            Some(values) => {
                                assert_eq!(&model.parameters[&spec.name], values, "{case}: {leaf}");
                                seen += 1;
                            }
                            None => panic!("{case}: {leaf} is in the network alone"),
                        }
                    }
                }
            }
            assert!(layers.next().is_none() && seen == file.len(), "{case}");
        });
    }
    failures.finish();
}

#[test]
fn an_order_is_taken_only_if_it_is_the_only_one() {
    let mut found = 0;
    let mut failures = Failures::new();
    for case in cases() {
        failures.check(case["name"].to_string(), || {
        // Only the order is compared, so options that the file cannot hold are left out, but for a function that is asked for.
        let plain = names(&case).into_iter().map(|name| match name {
            "hidden" => Step::module(name).activation(Activation::Relu).into(),
            name => Step::module(name).into(),
        });
        let told = pytorch::read(path(&case), &ReadOptions::new().steps(plain.collect::<Vec<Step>>())).unwrap();
        match pytorch::read(path(&case), &ReadOptions::new()) {
            Ok(model) => {
                assert_eq!(model.config, told.config, "{case}");
                assert_eq!(model.parameters, told.parameters, "{case}");
                found += 1;
            }
            Err(error) => {
                let name = case["name"].as_str().unwrap();
                let expected = match name {
                    "model_equal_widths" => {
                        "more than one order of modules fits, such as \"above, between, lower\" and \
                         \"above, lower, between\"; say which with the option modules"
                    }
                    "model_mixed" => {
                        "hidden and answer are Linear layers in a row, and the file does not hold the function between \
                         them; say it with the option modules, such as \"reader, digest, hidden relu, answer\", or \
                         identity for none"
                    }
                    _ => {
                        assert!(name.starts_with("conv_"), "{error}");
                        "the file does not hold its stride, its dilation, its padding and the function after it"
                    }
                };
                assert!(error.to_string().contains(expected), "{error}");
            }
        }
    });
    }
    failures.finish();
    assert_eq!(found, cases().len() - 6);
}

#[test]
fn a_weight_without_a_bias_is_what_fits() {
    let weight = |rows, columns| ArrayD::from_elem(vec![rows, columns], 0.5);
    let lstm = tensors(&path(&case("lstm"))).into_iter().map(|(name, values)| (format!("a.{name}"), values));
    let mut dict: BTreeMap<_, _> = lstm.collect();
    let read = |dict: &BTreeMap<_, _>, options: &str| {
        let options = if options.is_empty() { ReadOptions::new() } else { parsed(options) };
        pytorch::from_state_dict(dict, &options).map(|model| model.config.to_string())
    };
    dict.insert("b.weight".into(), weight(7, 5));
    assert_eq!(read(&dict, "").unwrap(), "3 -> lstm 5 -> dense 7 no bias");
    dict.insert("b.weight".into(), weight(7, 3));
    assert_eq!(read(&dict, "").unwrap(), "1 -> embedding 3 of 7 tokens -> lstm 5");
    // With a width of three and three tokens, it fits as either.
    dict.insert("b.weight".into(), weight(3, 3));
    assert_eq!(
        refusal(&dict, &ReadOptions::new()),
        "more than one order of modules fits, such as \"b, a\" and \"b embedding, a\"; say which with the option modules"
    );
    assert_eq!(
        refusal(&dict, &parsed("b, a")),
        "it can be read as \"b, a\" and as \"b embedding, a\"; write embedding or linear after the lone weight"
    );
    assert_eq!(read(&dict, "b linear, a").unwrap(), "3 -> dense 3 no bias -> lstm 5");
    assert_eq!(read(&dict, "b embedding, a").unwrap(), "1 -> embedding 3 of 3 tokens -> lstm 5");
}

#[test]
fn options_say_what_has_no_tensors() {
    let case = case("model_tagger");
    let read = |text: &str| pytorch::read(path(&case), &parsed(text)).map(|model| model.config.to_string());
    assert_eq!(
        read("gru dropout 0.25, dropout 0.5, linear sigmoid, softmax").unwrap(),
        "3 -> gru 5 bidirectional -> dropout 0.25 -> gru 5 bidirectional -> dropout 0.5 -> dense 2 sigmoid -> softmax"
    );
    let refused = |text| refusal(&tensors(&path(&case)), &parsed(text));
    assert_eq!(
        refused("gru, head"),
        "there is no module head; found gru: GRU 3 to 10, linear: Linear 10 to 2"
    );
    assert_eq!(refused("gru"), "linear: Linear 10 to 2 is not listed; expected every module once");
    assert_eq!(refused("gru, gru, linear"), "module gru is listed twice; expected every module once");
    assert_eq!(
        refused("linear, gru"),
        "in this order widths do not fit: linear: Linear 10 to 2, gru: GRU 3 to 10"
    );
    assert_eq!(
        refused("gru relu, linear"),
        "gru: GRU 3 to 10: its functions cannot be chosen; expected none, or a step of its own for a function of its output: \
         \"gru, relu\""
    );
    assert_eq!(
        refused("gru, linear dropout 0.5"),
        "linear: Linear 10 to 2: dropout is between the layers of a recurrent module; expected a step of its own"
    );
    assert_eq!(
        refused("gru, linear embedding"),
        "linear: Linear 10 to 2: expected only a weight for an embedding"
    );
    assert_eq!(
        refused("gru dropout 2, linear"),
        "layer 1 (dropout): the rate is 2; expected at least 0 and below 1"
    );
    let rnn = tensors(&path(&self::case("rnn_tanh")));
    assert_eq!(
        refusal(&rnn, &parsed(". sigmoid")),
        ".: RNN 3 to 5: its function is sigmoid; expected tanh or relu, or a step of its own for a function of its output: \
         \"., sigmoid\""
    );
}

/// Encoder and decoder in one file, each with an embedding.
#[test]
fn a_decoder_is_a_step() {
    let layers: [LayerConfig; 6] = [
        EmbeddingConfig::new(7, 3).into(),
        LstmConfig::new(4).into(),
        DecoderConfig::new(1).into(),
        EmbeddingConfig::new(5, 3).into(),
        LstmConfig::new(4).into(),
        DenseConfig::new(5).into(),
    ];
    let config = NetworkConfig::new(1, layers).unwrap();
    let model =
        Model { parameters: Parameters::initial(&config, 3).unwrap(), config, metadata: BTreeMap::new() };
    let names = ["source", "encoder", "target", "decoder", "head"];
    let dict = pytorch::state_dict(&model, &names).unwrap();
    let mut steps: Vec<Step> = names.iter().map(|&name| Step::module(name).into()).collect();
    steps.insert(2, LayerConfig::Decoder(DecoderConfig::new(1)).into());
    let read = pytorch::from_state_dict(&dict, &ReadOptions::new().steps(steps)).unwrap();
    assert_eq!(read.config.to_string(), model.config.to_string());
    assert_eq!(read.parameters, model.parameters);
}

#[test]
fn tensors_of_other_modules_and_of_other_shapes_are_refused() {
    let good = tensors(&path(&case("lstm_proj_2_bi")));
    let refused = |change: &dyn Fn(&mut Tensors)| {
        let mut dict = good.clone();
        change(&mut dict);
        refusal(&dict, &ReadOptions::new())
    };
    let zeros = |shape: &[usize]| ArrayD::<f32>::zeros(shape);
    let put = |name: &'static str, shape: &'static [usize]| {
        refused(&move |dict| {
            dict.insert(name.into(), zeros(shape));
        })
    };
    let known = "is of no module known here; expected those of nn.RNN, LSTM, GRU, their cells, Linear, Conv1d, LayerNorm, \
                 BatchNorm1d and Embedding; or ignore it";
    assert_eq!(
        put("norm.weight", &[6]),
        "norm: a lone weight of 6 may be that of an nn.LayerNorm with bias=False, an nn.RMSNorm or an nn.PReLU; for the \
         first, say \"norm layer_norm\" at its place in the option modules; for a PReLU with one slope, ignore the module \
         and say leaky_relu(SLOPE); for others, export the model as ONNX, which gatefold run takes as it is"
    );
    assert_eq!(put("conv.weight", &[6, 3, 3, 3]), format!("tensor conv.weight [6, 3, 3, 3] {known}"));
    assert_eq!(put("scale", &[1]), format!("tensor scale [1] {known}"));
    assert_eq!(put("weight_ih_l01", &[20, 2]), format!("tensor weight_ih_l01 [20, 2] {known}"));
    assert_eq!(
        put("weight_ih_l18446744073709551615", &[20, 2]),
        "tensor weight_ih_l18446744073709551615: layers before it are missing"
    );
    assert_eq!(put("weight_ih_l3", &[20, 6]), "tensor weight_ih_l2 [20, 6] is missing");
    assert_eq!(put("head.bias", &[6]), format!("tensor head.bias [6] {known}"));
    assert_eq!(
        put("weight_hh_l0", &[20, 0]),
        "tensor weight_hh_l0: expected rows and columns, found [20, 0]"
    );
    assert_eq!(
        put("weight_hh_l0", &[15, 3]),
        "tensor weight_hh_l0: expected 4 (LSTM, since there is a weight_hr) times 5 rows, found 15"
    );
    assert_eq!(put("bias_hh_l1_reverse", &[19]), "tensor bias_hh_l1_reverse: expected [20], found [19]");
    assert_eq!(put("weight_ih_l1", &[20, 3]), "tensor weight_ih_l1: expected [20, 6], found [20, 3]");
    let without = |name: &'static str| {
        refused(&move |dict| {
            dict.remove(name).expect("it was there");
        })
    };
    assert_eq!(without("weight_hr_l0_reverse"), "tensor weight_hr_l0_reverse [3, 5] is missing");
    assert_eq!(without("bias_ih_l0"), "tensor bias_ih_l0 [20] is missing");
    assert_eq!(without("weight_hh_l0"), "tensor weight_hh_l0 is missing");
    assert_eq!(refused(&BTreeMap::clear), "there are no tensors; expected a module's state_dict");
    let plain =
        BTreeMap::from([("weight_ih_l0".into(), zeros(&[10, 3])), ("weight_hh_l0".into(), zeros(&[10, 5]))]);
    assert_eq!(
        refusal(&plain, &ReadOptions::new()),
        "tensor weight_hh_l0: expected 1 (RNN), 3 (GRU) or 4 (LSTM) times 5 rows, found 10"
    );
    let apart = BTreeMap::from([
        ("a.weight".into(), zeros(&[4, 3])),
        ("a.bias".into(), zeros(&[4])),
        ("b.weight".into(), zeros(&[4, 3])),
        ("b.bias".into(), zeros(&[4])),
    ]);
    assert_eq!(
        refusal(&apart, &ReadOptions::new()),
        "there is no order in which every width fits the next; found a: Linear 3 to 4, b: Linear 3 to 4"
    );
    let many = (0..40)
        .flat_map(|at| [(format!("m{at}.weight"), zeros(&[2, 2])), (format!("m{at}.bias"), zeros(&[2]))]);
    let error = refusal(&many.collect(), &ReadOptions::new());
    assert!(error.starts_with("more than one order of modules fits, such as \"m0, m1, m10, "), "{error}");
    assert!(error.contains(" and 32 more\""), "{error}");
}

/// Writes a file with an `nn.Linear` from 2 to 2 whose weight and bias have different types.
fn linear(path: &Path, weight: (Dtype, &[u8]), bias: (Dtype, &[u8])) {
    let view = |(dtype, bytes), shape: &[usize]| TensorView::new(dtype, shape.to_vec(), bytes).unwrap();
    let tensors = [("weight", view(weight, &[2, 2])), ("bias", view(bias, &[2]))];
    fs::write(path, safetensors::serialize(tensors, None).unwrap()).unwrap();
}

#[test]
fn numbers_of_other_types_become_float32() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.safetensors");
    let read = || {
        let model = pytorch::read(&path, &ReadOptions::new()).unwrap();
        let values = |name: &str| model.parameters[name].iter().copied().collect::<Vec<f32>>();
        (values("dense0.weight"), values("dense0.bias"))
    };
    let halves = [0x3c00u16, 0xc100, 0x0001, 0x7bff].map(u16::to_le_bytes).concat();
    let brains = [0x3f80u16, 0xc2f6].map(u16::to_le_bytes).concat();
    linear(&path, (Dtype::F16, &halves), (Dtype::BF16, &brains));
    assert_eq!(read(), (vec![1.0, -2.5, 2f32.powi(-24), 65504.0], vec![1.0, -123.0]));

    let doubles = |values: &[f64]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
    // 0.1 is rounded, a value that rounds to the largest number stays finite, and infinities come from infinities.
    let largest = f64::from(f32::MAX);
    let weight = doubles(&[0.1, -2.5, largest * (1.0 + 1e-8), f64::NEG_INFINITY]);
    let bias = doubles(&[1e-300, -7.0]);
    linear(&path, (Dtype::F64, &weight), (Dtype::F64, &bias));
    assert_eq!(read(), (vec![0.1, -2.5, f32::MAX, f32::NEG_INFINITY], vec![0.0, -7.0]));

    let refusal = || pytorch::read(&path, &ReadOptions::new()).unwrap_err().to_string();
    linear(&path, (Dtype::F64, &weight), (Dtype::F64, &doubles(&[0.0, -1e39])));
    let expected = "tensor bias: -1e39 is beyond float32, whose largest is 3.4028235e38";
    assert_eq!(refusal(), format!("{}: {expected}", path.display()));
    linear(&path, (Dtype::I8, &[1; 4]), (Dtype::F32, &[0; 8]));
    let expected =
        "tensor weight: expected F32, F16, BF16 or F64, found I8 [2, 2]; save it from module.float()";
    assert_eq!(refusal(), format!("{}: {expected}", path.display()));
}

/// Reading and writing gives the same tensors.
#[test]
fn a_state_dict_survives_both_ways() {
    let directory = tempfile::tempdir().unwrap();
    let mut failures = Failures::new();
    for case in cases() {
        failures.check(case["name"].to_string(), || {
            let model = pytorch::read(path(&case), &options(&case)).unwrap();
            let written = directory.path().join("out.safetensors");
            pytorch::write(&written, &model, &names(&case)).unwrap();
            assert_eq!(tensors(&written), tensors(&path(&case)), "{case}");
            assert!(pytorch::is_foreign(&written).unwrap());
            assert_eq!(pytorch::read(&written, &options(&case)).unwrap(), model, "{case}");
        });
    }
    failures.finish();
}

#[test]
fn ours_is_not_foreign() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model.safetensors");
    let config = NetworkConfig::new(2, [LstmConfig::new(3).into()]).unwrap();
    Model { parameters: Parameters::initial(&config, 1).unwrap(), config, metadata: BTreeMap::new() }
        .save(&path)
        .unwrap();
    assert!(!pytorch::is_foreign(&path).unwrap());
}

pub(crate) fn model(input: usize, layers: impl Into<Vec<LayerConfig>>) -> Model {
    let config = NetworkConfig::new(input, layers).unwrap();
    Model { parameters: Parameters::initial(&config, 7).unwrap(), config, metadata: BTreeMap::new() }
}

#[test]
fn modules_are_called_as_parameters_are_unless_told() {
    let network = model(
        3,
        [
            LstmConfig::new(4).biases(Biases::One).into(),
            LayerConfig::Dropout { rate: 0.5 },
            LstmConfig::new(4).biases(Biases::One).into(),
            LayerConfig::LastStep,
            DenseConfig::new(2).activation(Activation::Elu { alpha: 1.0 }).into(),
            LayerConfig::Softmax,
        ],
    );
    let dict = pytorch::state_dict(&network, &[]).unwrap();
    let names: Vec<&str> = dict.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "dense0.bias",
            "dense0.weight",
            "rnn0.bias_hh_l0",
            "rnn0.bias_hh_l1",
            "rnn0.bias_ih_l0",
            "rnn0.bias_ih_l1",
            "rnn0.weight_hh_l0",
            "rnn0.weight_hh_l1",
            "rnn0.weight_ih_l0",
            "rnn0.weight_ih_l1",
        ]
    );
    assert!(dict["rnn0.bias_hh_l0"].iter().all(|&bias| bias == 0.0));
    assert_eq!(dict["rnn0.bias_ih_l0"], network.parameters["rnn0.bias_ih_l0"]);
    let renamed = pytorch::state_dict(&network, &["encoder.lstm", "head"]).unwrap();
    assert_eq!(renamed["encoder.lstm.weight_ih_l1"], network.parameters["rnn0.weight_ih_l1"]);
    assert_eq!(renamed["head.bias"], network.parameters["dense0.bias"]);
    // Layers that are modules of their own in PyTorch's code.
    let apart = pytorch::state_dict(&network, &["first", "second", "head"]).unwrap();
    assert_eq!(apart.len(), dict.len());
    assert_eq!(apart["first.weight_ih_l0"], network.parameters["rnn0.weight_ih_l0"]);
    assert_eq!(apart["second.weight_ih_l0"], network.parameters["rnn0.weight_ih_l1"]);
    assert_eq!(apart["second.bias_hh_l0"].shape(), [16]);
    let mut failures = Failures::new();
    for names in [&["one"][..], &["same", "same"], &["a", "b", "c", "d"]] {
        failures.check(names.join(", "), || {
        let error = pytorch::state_dict(&network, names).unwrap_err().to_string();
        let found = names.join(", ");
        assert_eq!(
            error,
            format!(
                "names: expected a different name for each of the modules rnn0, dense0, or 3 where every recurrent layer is a \
                 module; found {found}"
            )
        );
    });
    }
    failures.finish();
    let bridge = Bridge::Dense { activation: Activation::Tanh };
    let bridged = model(
        2,
        [GruConfig::new(3).into(), DecoderConfig::new(2).bridge(bridge).into(), GruConfig::new(4).into()],
    );
    let dict = pytorch::state_dict(&bridged, &[]).unwrap();
    assert_eq!(dict["bridge0_h0.weight"].shape(), [4, 3]);
    assert_eq!(dict["bridge0_h0.bias"].shape(), [4]);
}

/// Reads bytes as a state_dict; whatever they are, the result is a model or a one-line error.
fn read_bytes(bytes: &[u8]) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.safetensors");
    fs::write(&path, bytes).unwrap();
    for options in
        [ReadOptions::new(), parsed("lstm, last_step, linear"), parsed("embedding, lstm, linear relu")]
    {
        match pytorch::read(&path, &options) {
            Ok(model) => model.parameters.check(&model.config).unwrap(),
            Err(error) => assert!(!error.to_string().contains('\n'), "more than a line: {error}"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Bytes changed, removed or inserted, mostly in the header, where everything is decided.
    #[test]
    fn broken_files_are_refused(
        name in prop::sample::select(vec!["model_tokens", "model_last_step", "lstm_proj_2_bi", "gru"]),
        edits in prop::collection::vec((0..1200usize, any::<u8>(), 0..4u8), 1..6),
        keep in prop::option::of(0..3000usize),
    ) {
        let mut bytes = fs::read(folder().join(format!("{name}.safetensors"))).unwrap();
        for (at, value, edit) in edits {
            let at = at % bytes.len();
            match edit {
                0 => bytes[at] = value,
                // A digit stays a digit, so the JSON survives but the sizes are wrong.
                1 if bytes[at].is_ascii_digit() => bytes[at] = b'0' + value % 10,
                1 => bytes[at] = value & 0x7f,
                2 => bytes.insert(at, b'0' + value % 10),
                _ => drop(bytes.remove(at)),
            }
        }
        bytes.truncate(keep.unwrap_or(bytes.len()));
        read_bytes(&bytes);
    }

    /// Well-formed headers: tensors of any name and shape.
    #[test]
    fn any_tensors_are_read_or_refused(
        tensors in prop::collection::btree_map(
            "((a|b)\\.)?(weight|bias|((weight|bias)_(ih|hh|hr)_l[0-2](_reverse)?))",
            prop::collection::vec(0..5usize, 0..4),
            0..12,
        ),
    ) {
        let dict: Tensors =
            tensors.into_iter().map(|(name, shape)| (name, ArrayD::zeros(shape))).collect();
        for options in [ReadOptions::new(), parsed("a, b"), parsed("a embedding, final_state, b tanh"), parsed(".")] {
            match pytorch::from_state_dict(&dict, &options) {
                Ok(model) => model.parameters.check(&model.config).unwrap(),
                Err(error) => assert!(!error.to_string().contains('\n'), "more than a line: {error}"),
            }
        }
    }
}
