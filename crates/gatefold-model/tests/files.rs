//! Models and checkpoints on disk: a round trip changes nothing, and broken files are refused by name.

use gatefold_model::file::{Checkpoint, Model, write_atomically};
use gatefold_model::{
    Activation, Conv1dConfig, DenseConfig, GruConfig, LayerConfig, LstmConfig, Merge, ModelError,
    NetworkConfig, ParallelConfig, Parameters, RnnConfig, branch,
};
use gatefold_reference::Failures;
use ndarray::ArrayD;
use proptest::prelude::*;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

fn small_network() -> NetworkConfig {
    NetworkConfig::new(3, [LstmConfig::new(2).into(), LayerConfig::LastStep, DenseConfig::new(1).into()])
        .unwrap()
}

fn checkpoint(config: NetworkConfig, seed: u64) -> Checkpoint {
    Checkpoint {
        parameters: Parameters::initial(&config, seed).unwrap(),
        optimizer: [("m", 1), ("v", 2)]
            .map(|(moment, offset)| {
                (moment.to_owned(), Parameters::initial(&config, seed.wrapping_add(offset)).unwrap())
            })
            .into(),
        step: u64::MAX - seed,
        seed,
        metadata: BTreeMap::from([("scaler".into(), "mean 1 \"std\" 2\n\u{1F980}".into())]),
        config,
    }
}

/// A file's header and its tensors.
fn split(bytes: &[u8]) -> (Value, &[u8]) {
    let header_bytes = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    (serde_json::from_slice(&bytes[8..8 + header_bytes]).unwrap(), &bytes[8 + header_bytes..])
}

fn joined(header: &str, tensors: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), tensors].concat()
}

/// The error for a small checkpoint with a changed header, without the path at its beginning.
fn refusal(change: impl FnOnce(&mut Value)) -> String {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("checkpoint.safetensors");
    checkpoint(small_network(), 1).save(&path).unwrap();
    let bytes = fs::read(&path).unwrap();
    let (mut header, tensors) = split(&bytes);
    change(&mut header);
    refusal_of(&joined(&header.to_string(), tensors))
}

fn refusal_of(bytes: &[u8]) -> String {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.safetensors");
    fs::write(&path, bytes).unwrap();
    let error = Checkpoint::load(&path).expect_err("it should be refused").to_string();
    assert!(!error.contains('\n'), "more than a line: {error}");
    error.strip_prefix(&format!("{}: ", path.display())).expect("the path comes first").to_owned()
}

fn layer() -> impl Strategy<Value = LayerConfig> {
    prop_oneof![
        (1..9usize, -4.0..4.0f32).prop_map(|(hidden, bias)| LstmConfig::new(hidden).forget_bias(bias).into()),
        (1..9usize, 0..4usize, any::<bool>()).prop_map(|(output, activation, bias)| {
            DenseConfig::new(output).activation(Activation::ALL[activation]).bias(bias).into()
        }),
    ]
}

/// Networks with stacked layers, some tied to the first one, some with a last step, some in branches.
fn network() -> impl Strategy<Value = NetworkConfig> {
    let layers = prop::collection::vec((layer(), any::<bool>()), 1..5);
    (1..9usize, layers, any::<bool>(), any::<bool>()).prop_map(|(input, layers, last_step, in_branches)| {
        let mut layers: Vec<LayerConfig> =
            layers.into_iter().flat_map(|(layer, twice)| vec![layer; 1 + usize::from(twice)]).collect();
        if in_branches {
            let other = vec![LstmConfig::new(3).into()];
            let branches = [layers, Vec::new(), other];
            layers = vec![ParallelConfig::new(Merge::Concatenate, branches).into()];
        }
        if last_step {
            layers.push(LayerConfig::LastStep);
        }
        let mut tied = layers.clone();
        tied.push(LayerConfig::Tied { to: 0 });
        NetworkConfig::new(input, tied).or_else(|_| NetworkConfig::new(input, layers)).unwrap()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(32) })]

    #[test]
    fn what_is_saved_is_loaded(
        config in network(),
        seed: u64,
        step: u64,
        metadata in prop::collection::btree_map(".{0,12}", ".{0,40}", 0..4),
        moments in prop::collection::btree_set("[a-z]{1,6}", 0..3),
    ) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("checkpoint.safetensors");
        let optimizer = moments.into_iter().map(|moment| (moment, Parameters::initial(&config, seed ^ 1).unwrap())).collect();
        let saved = Checkpoint { step, metadata, optimizer, ..checkpoint(config, seed) };
        saved.save(&path).unwrap();
        prop_assert_eq!(&Checkpoint::load(&path).unwrap(), &saved);
        prop_assert_eq!(&Model::load(&path).unwrap(), &saved.model(), "a checkpoint is read as a model");

        let first = fs::read(&path).unwrap();
        saved.save(&path).unwrap();
        prop_assert_eq!(first, fs::read(&path).unwrap(), "the same content gives the same bytes");

        let path = directory.path().join("model.safetensors");
        saved.model().save(&path).unwrap();
        prop_assert_eq!(Model::load(&path).unwrap(), saved.model());
    }
}

#[test]
fn a_model_file_holds_the_parameters_under_pytorch_s_names_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model.safetensors");
    let model = checkpoint(small_network(), 3).model();
    model.save(&path).unwrap();
    let bytes = fs::read(&path).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let mut names = file.names();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "dense0.bias",
            "dense0.weight",
            "rnn0.bias_hh_l0",
            "rnn0.bias_ih_l0",
            "rnn0.weight_hh_l0",
            "rnn0.weight_ih_l0"
        ]
    );
    for (name, tensor) in model.parameters.iter() {
        let found = file.tensor(name).unwrap();
        let bytes: Vec<u8> = tensor.iter().flat_map(|value| value.to_le_bytes()).collect();
        assert_eq!((found.dtype(), found.shape()), (safetensors::Dtype::F32, tensor.shape()), "{name}");
        assert_eq!(found.data(), bytes, "{name}");
    }
    let (header, tensors) = split(&bytes);
    assert_eq!((bytes.len() - tensors.len()) % 8, 0, "the tensors are aligned in a mapped file");
    let network = "{\"input\":3,\"layers\":[{\"kind\":\"lstm\",\"hidden\":2,\"input_init\":\"glorot\",\"recurrent_init\":\"orthogonal\",\"forget_bias\":1.0},\
                   {\"kind\":\"last_step\"},{\"kind\":\"dense\",\"output\":1,\"activation\":\"identity\"}]}";
    let metadata = json!({
        "format": "gatefold", "format_version": "2", "kind": "model", "network": network,
        "metadata.scaler": "mean 1 \"std\" 2\n\u{1F980}"
    });
    assert_eq!(header["__metadata__"], metadata);
}

/// A network is a file of the oldest version that can hold it, so that older programs refuse only what they do not know.
#[test]
fn newer_layers_make_files_of_newer_versions() {
    let conv = Conv1dConfig::new(4, 3).causal().dilation(2).stride(2).activation(Activation::Relu);
    let convolved = NetworkConfig::with_input(2).layer(conv).lstm(3).conv1d(1, 2);
    let branched = NetworkConfig::with_input(2).parallel(Merge::Concatenate, [branch().lstm(3), branch()]);
    let dilated = NetworkConfig::with_input(2)
        .layer(LstmConfig::new(3).dilation(2))
        .layer(GruConfig::new(3).dilation(5))
        .layer(RnnConfig::new(3).dilation(3));
    let plain = NetworkConfig::with_input(2).layer(LstmConfig::new(3).dilation(1));
    for (network, version) in [(plain, "2"), (convolved, "3"), (branched, "3"), (dilated, "4")] {
        comes_back_from(version, network.build().unwrap());
    }
}

fn comes_back_from(version: &str, config: NetworkConfig) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model.safetensors");
    let parameters = Parameters::initial(&config, 3).unwrap();
    let model = Model { config, parameters, metadata: BTreeMap::new() };
    model.save(&path).unwrap();
    let loaded = Model::load(&path).unwrap();
    assert_eq!((loaded.config, loaded.parameters), (model.config, model.parameters));
    let (header, _) = split(&fs::read(&path).unwrap());
    assert_eq!(header["__metadata__"]["format_version"], version);
}

#[test]
fn values_come_back_bit_for_bit() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model.safetensors");
    let mut model = checkpoint(small_network(), 3).model();
    let odd = [f32::NAN, f32::NEG_INFINITY, -0.0, f32::MIN_POSITIVE / 2.0, f32::MAX, f32::EPSILON, 1.0, 2.0];
    model.parameters.insert("rnn0.bias_hh_l0", ArrayD::from_shape_vec(vec![8], odd.to_vec()).unwrap());
    model.save(&path).unwrap();
    let loaded = Model::load(&path).unwrap().parameters;
    let bits: Vec<u32> = loaded["rnn0.bias_hh_l0"].iter().map(|value| value.to_bits()).collect();
    assert_eq!(bits, odd.map(f32::to_bits));
}

#[test]
fn a_frozen_parameter_needs_no_moments_and_a_moment_may_be_empty() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("checkpoint.safetensors");
    let mut saved = checkpoint(small_network(), 3);
    let part = saved.optimizer["m"].iter().filter(|(name, _)| name.starts_with("dense0."));
    let part = part.map(|(name, tensor)| (name.to_owned(), tensor.clone())).collect();
    saved.optimizer = BTreeMap::from([("m".into(), part), ("momentum".into(), Parameters::default())]);
    saved.save(&path).unwrap();
    assert_eq!(Checkpoint::load(&path).unwrap(), saved);
}

#[test]
fn wrong_content_is_not_saved() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("checkpoint.safetensors");
    let refused = |change: &dyn Fn(&mut Checkpoint)| {
        let mut wrong = checkpoint(small_network(), 3);
        change(&mut wrong);
        let error = wrong.save(&path).expect_err("it should be refused").to_string();
        assert!(!path.exists());
        error
    };
    let zeros = |shape: &[usize]| ArrayD::<f32>::zeros(shape);
    assert_eq!(
        refused(&|wrong| drop(wrong.parameters.insert("dense0.weight", zeros(&[1, 3])))),
        "dense0.weight: expected shape [1, 2], found [1, 3]"
    );
    assert_eq!(
        refused(&|wrong| drop(wrong.optimizer.get_mut("m").unwrap().insert("dense0.weight", zeros(&[3])))),
        "optimizer.m.dense0.weight: expected shape [1, 2], found [3]"
    );
    assert_eq!(
        refused(&|wrong| drop(wrong.optimizer.get_mut("v").unwrap().insert("dense7.weight", zeros(&[3])))),
        "tensor optimizer.v.dense7.weight with shape [3] belongs to no layer of this network"
    );
    let dotted = refused(&|wrong| drop(wrong.optimizer.insert("m.v".into(), Parameters::default())));
    assert!(dotted.ends_with(": the moment \"m.v\" needs a name without a dot"), "{dotted}");
    let long = refused(&|wrong| drop(wrong.metadata.insert("notes".into(), "x".repeat(1 << 24))));
    assert!(long.ends_with("at most 16777216 fit; shorten the metadata"), "{long}");
}

#[test]
fn a_model_is_no_checkpoint() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model.safetensors");
    checkpoint(small_network(), 1).model().save(&path).unwrap();
    assert_eq!(
        Checkpoint::load(&path).unwrap_err().to_string(),
        format!("{}: it only holds a model; training continues from a checkpoint", path.display())
    );
}

#[test]
fn mismatched_tensors_are_named_with_shape_and_type() {
    assert_eq!(
        refusal(|header| header["rnn0.weight_ih_l0"]["shape"] = json!([6, 4])),
        "tensor rnn0.weight_ih_l0: expected F32 [8, 3], found F32 [6, 4]"
    );
    assert_eq!(
        refusal(|header| header["rnn0.bias_hh_l0"]["dtype"] = json!("I32")),
        "tensor rnn0.bias_hh_l0: expected F32 [8], found I32 [8]"
    );
    assert_eq!(
        refusal(|header| header["optimizer.v.dense0.weight"]["shape"] = json!([2])),
        "tensor optimizer.v.dense0.weight: expected F32 [1, 2], found F32 [2]"
    );
    assert_eq!(
        refusal(|header| {
            let tensor = header.as_object_mut().unwrap().remove("optimizer.v.rnn0.bias_hh_l0").unwrap();
            header["rnn0.bias\n_hh_l1"] = tensor;
        }),
        "tensor rnn0.bias\\n_hh_l1, F32 [8], belongs to no layer of 3 -> lstm 2 -> last step -> dense 1"
    );
    // The same file with one more layer in its description.
    let refused = refusal(|header| {
        let network = header["__metadata__"]["network"].as_str().unwrap();
        let network = network.replace("]}", ",{\"kind\":\"dense\",\"output\":4,\"activation\":\"tanh\"}]}");
        header["__metadata__"]["network"] = json!(network);
    });
    assert_eq!(
        refused,
        "tensor dense1.weight, F32 [4, 1], is missing; found dense0.bias, dense0.weight, rnn0.bias_hh_l0, \
         rnn0.bias_ih_l0, rnn0.weight_hh_l0, rnn0.weight_ih_l0"
    );
    assert_eq!(
        refusal(|header| header["__metadata__"]["optimizer"] = json!("[\"m\"]")),
        "tensor optimizer.v.dense0.bias, F32 [1], belongs to no layer of 3 -> lstm 2 -> last step -> dense 1"
    );
}

#[test]
fn foreign_and_newer_files_are_named() {
    assert_eq!(
        refusal(|header| header["__metadata__"]["format"] = json!("pt")),
        "not a file of ours: expected format gatefold, found pt"
    );
    assert_eq!(
        refusal(|header| drop(header.as_object_mut().unwrap().remove("__metadata__"))),
        "not a file of ours: expected format gatefold, found none"
    );
    assert_eq!(
        refusal(|header| header["__metadata__"]["format_version"] = json!("8")),
        "format version 8 is newer than 7, the newest known here; update gatefold"
    );
    assert_eq!(
        refusal(|header| header["__metadata__"]["format_version"] = json!("0")),
        "format_version: expected 1 to 7, found 0"
    );
    assert_eq!(
        refusal(|header| drop(header["__metadata__"].as_object_mut().unwrap().remove("seed"))),
        "seed is missing in the header's metadata"
    );
    assert_eq!(
        refusal(|header| header["__metadata__"]["step"] = json!("-1")),
        "step: expected a whole number, found -1"
    );
    assert_eq!(
        refusal(|header| header["__metadata__"]["kind"] = json!("onnx")),
        "kind: expected model or checkpoint, found onnx"
    );
    assert_eq!(
        refusal_of(b"\x89PNG\r\n\x1a\n and so on"),
        "truncated, or not a safetensors file: a header of 727905341920923785 bytes is announced, but the file has \
         18 bytes"
    );
    assert_eq!(refusal_of(b""), "truncated: expected a safetensors header, found 0 bytes");
}

/// As written by version 1: the fields of a layer in another order, and none of the later ones.
#[test]
fn a_file_of_the_first_version_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("checkpoint.safetensors");
    let layers = [LstmConfig::new(2).into(), LayerConfig::LastStep, DenseConfig::new(1).into()];
    let config = NetworkConfig::new(3, layers).unwrap();
    let written = checkpoint(config, 1);
    written.save(&path).unwrap();
    let bytes = fs::read(&path).unwrap();
    let (mut header, tensors) = split(&bytes);
    header["__metadata__"]["format_version"] = json!("1");
    header["__metadata__"]["network"] = json!(
        "{\"input\":3,\"layers\":[{\"kind\":\"lstm\",\"hidden\":2,\"forget_bias\":1.0,\"input_init\":\"glorot\",\
         \"recurrent_init\":\"orthogonal\"},{\"kind\":\"last_step\"},{\"kind\":\"dense\",\"output\":1,\
         \"activation\":\"identity\"}]}"
    );
    fs::write(&path, joined(&header.to_string(), tensors)).unwrap();
    let read = Checkpoint::load(&path).unwrap();
    assert_eq!((read.config, read.parameters), (written.config, written.parameters));
}

#[test]
fn hostile_headers_are_errors() {
    let described = |network: &str| refusal(|header| header["__metadata__"]["network"] = json!(network));
    let lstm = |hidden: &str, bias: &str| {
        described(&format!(
            "{{\"input\":3,\"layers\":[{{\"kind\":\"lstm\",\"hidden\":{hidden},\"forget_bias\":{bias}}}]}}"
        ))
    };
    assert!(lstm("2", "NaN").contains("network: expected value"), "{}", lstm("2", "NaN"));
    assert!(lstm("2", "null").contains("network: invalid type: null, expected f32"), "{}", lstm("2", "null"));
    assert!(lstm("2", "1e39").contains("the forget bias is inf"), "{}", lstm("2", "1e39"));
    assert!(lstm("2", "1e999").contains("network: number out of range"), "{}", lstm("2", "1e999"));
    let widest = lstm("18446744073709551615", "1");
    assert_eq!(
        widest,
        "network: the description holds 18446744073709551615; expected widths of at most 268435456"
    );
    assert!(lstm("16777216", "1").contains("tensor rnn0."), "{}", lstm("16777216", "1"));
    assert!(lstm("268435456", "1").contains("its width is 268435456; expected at most 16777216"));
    assert!(lstm("0", "1").contains("layer 0 (lstm): its width is 0"), "{}", lstm("0", "1"));
    assert!(described(&"[".repeat(1 << 19)).contains("recursion limit"));
    let ties = ",{\"kind\":\"tied\",\"to\":0}".repeat(1 << 16);
    let long = described(&format!("{{\"input\":3,\"layers\":[{{\"kind\":\"last_step\"}}{ties}]}}"));
    assert!(long.contains("expected at most 1048576"), "{long}");

    let wrong =
        |tensors: &str| refusal_of(&joined(&format!("{{\"__metadata__\":{{}},{tensors}}}"), &[0; 16]));
    let huge = usize::MAX / 8;
    let mut many = Vec::new();
    for k in 0..8 {
        many.push(format!(
            "\"t{k}\":{{\"dtype\":\"U8\",\"shape\":[{huge}],\"data_offsets\":[{},{}]}}",
            k * huge,
            (k + 1) * huge
        ));
    }
    // Each size is possible, but not their sum with the header's length.
    assert!(wrong(&many.join(",")).starts_with("truncated: expected 18446744073709551608 bytes"));
    let mut failures = Failures::new();
    for (tensor, problem) in [
        (r#""dtype":"F32","shape":[4],"data_offsets":[16,32]"#, "invalid offset for tensor"),
        (r#""dtype":"F32","shape":[4],"data_offsets":[16,0]"#, "invalid offset for tensor"),
        (r#""dtype":"F32","shape":[4294967296,4294967296,4294967296],"data_offsets":[0,16]"#, "overflow"),
        (r#""dtype":"F32","shape":[5],"data_offsets":[0,16]"#, "invalid shape"),
        (r#""dtype":"F32","shape":[-4],"data_offsets":[0,16]"#, "invalid value"),
        (r#""dtype":"F33","shape":[4],"data_offsets":[0,16]"#, "unknown variant"),
        (r#""dtype":"F32","shape":[3],"data_offsets":[0,12]"#, "as the header announces, found"),
        (
            r#""dtype":"F32","shape":[5],"data_offsets":[0,20]"#,
            "truncated: expected 20 bytes of tensors, found 16",
        ),
    ] {
        failures.check(tensor, || {
            let refused = wrong(&format!("\"x\\ny\":{{{tensor}}}"));
            assert!(refused.contains(problem), "{tensor}: {refused}");
        });
    }
    failures.finish();
}

/// A header announced as 16 EB takes no memory, and neither does one that a sparse file really has.
#[test]
fn a_huge_header_is_not_read() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("sparse.safetensors");
    let header_bytes: u64 = 1 << 40;
    write_atomically(&path, &header_bytes.to_le_bytes()).unwrap();
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(1 << 41).unwrap();
    let refused = Model::load(&path).unwrap_err().to_string();
    assert!(refused.ends_with("the header is 1099511627776 bytes; expected at most 16777216"), "{refused}");
}

#[test]
fn every_truncation_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("checkpoint.safetensors");
    checkpoint(small_network(), 1).save(&path).unwrap();
    let bytes = fs::read(&path).unwrap();
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    let mut failures = Failures::new();
    for length in (0..bytes.len()).rev() {
        failures.check(format!("{length} bytes"), || {
            file.set_len(length as u64).unwrap();
            let error = Checkpoint::load(&path).expect_err("it is not whole").to_string();
            assert!(error.contains(": truncated"), "{length} bytes: {error}");
        });
    }
    failures.finish();
    fs::write(&path, [&bytes[..], &[0]].concat()).unwrap();
    let error = Checkpoint::load(&path).unwrap_err().to_string();
    assert!(error.contains(&format!("expected {} bytes as the header announces", bytes.len())), "{error}");
}

/// Reading a changed file gives an error or a network with all its parameters, whatever the change. Parameters have no
/// checksum: a flipped bit in a value is another value.
#[test]
fn changed_files_never_panic() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("checkpoint.safetensors");
    let original = checkpoint(small_network(), 1);
    original.save(&path).unwrap();
    let bytes = fs::read(&path).unwrap();
    let header_bytes = bytes.len() - split(&bytes).1.len();
    let mut loaded = 0;
    let mut failures = Failures::new();
    let mut load = |name: String, bytes: &[u8]| {
        failures.check(name, || {
            fs::write(&path, bytes).unwrap();
            if let Ok(found) = Checkpoint::load(&path) {
                found.parameters.check(&found.config).unwrap();
                loaded += 1;
            }
            let _ = Model::load(&path).map(|model| model.parameters.check(&model.config).unwrap());
        });
    };
    for place in 0..header_bytes {
        for flip in [1 << (place % 8), 0xff] {
            let mut changed = bytes.clone();
            changed[place] ^= flip;
            load(format!("byte {place} flipped by {flip}"), &changed);
        }
    }
    let mut random = ChaCha8Rng::seed_from_u64(7);
    for k in 0..2000 {
        let mut changed = bytes.clone();
        for _ in 0..random.random_range(1..5) {
            let letters = b"0123456789[]{}\",:.-eE \xff";
            changed[random.random_range(0..header_bytes)] = letters[random.random_range(0..letters.len())];
        }
        load(format!("random change {k}"), &changed);
    }
    failures.finish();
    assert!(loaded > 0, "some changes, as of a seed's digit, leave a valid file");
}

#[test]
fn files_that_cannot_be_written_or_read_say_why() {
    let directory = tempfile::tempdir().unwrap();
    let model = checkpoint(small_network(), 1).model();
    let missing = directory.path().join("nowhere");
    let path = missing.join("model.safetensors");
    assert_eq!(
        model.save(&path).unwrap_err().to_string(),
        format!(
            "{}: cannot be written: No such file or directory (os error 2); make the directory {} first",
            path.display(),
            missing.display()
        )
    );
    let error = Model::load(&path).unwrap_err();
    assert!(matches!(&error, ModelError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound));
    assert!(error.to_string().contains("model.safetensors: cannot be read: "), "{error}");

    let file = directory.path().join("file");
    write_atomically(&file, b"x").unwrap();
    let error = model.save(file.join("model.safetensors")).unwrap_err().to_string();
    assert!(error.contains("; ") && error.contains("is not a directory"), "{error}");
    let error = Model::load(directory.path()).unwrap_err().to_string();
    assert!(error.ends_with("it is not a file; expected a model or a checkpoint"), "{error}");
}

#[cfg(unix)]
#[test]
fn a_directory_without_permission_says_so() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o555)).unwrap();
    let path = directory.path().join("model.safetensors");
    match write_atomically(&path, b"x") {
        Ok(()) => println!("skipped: this user may write anywhere"),
        Err(error) => assert_eq!(
            error.to_string(),
            format!(
                "{}: cannot be written: Permission denied (os error 13); the directory {} must be writable",
                path.display(),
                directory.path().display()
            )
        ),
    }
}

/// Saves two contents in turn forever; `a_killed_writer_leaves_a_whole_file` runs it in another process.
#[cfg(unix)]
#[test]
#[ignore = "it ends only when it is killed; another test runs it"]
fn a_writer_to_be_killed() {
    let Some(path) = std::env::var_os("GATEFOLD_TEST_WRITE") else { return };
    let contents = [killed_content(0.0), killed_content(1.0)];
    for content in contents.iter().cycle() {
        content.save(Path::new(&path)).unwrap();
    }
}

/// Large enough (1.6 MB) that most kills hit a write.
#[cfg(unix)]
fn killed_content(value: f32) -> Checkpoint {
    let config = NetworkConfig::new(64, [LstmConfig::new(150).into()]).unwrap();
    let parameters: Parameters = Parameters::zeros(&config)
        .unwrap()
        .iter()
        .map(|(name, tensor)| (name.to_owned(), tensor.mapv(|zero| zero + value)))
        .collect();
    let optimizer = ["m", "v"].map(|moment| (moment.to_owned(), parameters.clone())).into();
    Checkpoint { config, parameters, optimizer, step: value as u64, seed: 0, metadata: BTreeMap::new() }
}

#[cfg(unix)]
#[test]
fn a_killed_writer_leaves_a_whole_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("checkpoint.safetensors");
    let contents = [killed_content(0.0), killed_content(1.0)];
    contents[0].save(&path).unwrap();
    let mut failures = Failures::new();
    for k in 0..20 {
        failures.check(format!("kill {k}"), || {
            let mut writer = std::process::Command::new(std::env::current_exe().unwrap())
                .args(["--ignored", "--exact", "files::a_writer_to_be_killed"])
                .env("GATEFOLD_TEST_WRITE", &path)
                .stdout(std::process::Stdio::null())
                .spawn()
                .unwrap();
            std::thread::sleep(std::time::Duration::from_millis(20 + 7 * k));
            writer.kill().unwrap();
            writer.wait().unwrap();
            let found = Checkpoint::load(&path).unwrap();
            assert!(contents.contains(&found));
        });
    }
    failures.finish();
    let leftovers = fs::read_dir(directory.path()).unwrap().count() - 1;
    assert!(leftovers > 0, "no kill hit a write: the test proves nothing");
}
