//! Files that `torch.save` wrote (tests/fixtures/pytorch/pt of the workspace), against their tensors as safetensors.

use gatefold_model::file::pytorch::{self, ReadOptions};
use gatefold_model::{Parameters, file::Model};
use std::fs;
use std::path::{Path, PathBuf};

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/pytorch/pt").join(name)
}

fn read(name: &str) -> Model {
    pytorch::read(file(name), &ReadOptions::new()).unwrap_or_else(|error| panic!("{error}"))
}

fn largest_difference(one: &Parameters, other: &Parameters) -> f32 {
    let differences =
        one.iter().flat_map(|(name, values)| values.iter().zip(&other[name]).map(|(a, b)| (a - b).abs()));
    differences.fold(0.0, f32::max)
}

#[test]
fn files_of_torch_save_are_state_dicts() {
    let expected = read("expected.safetensors");
    for name in [
        "zip",
        "legacy",
        "double",
        "module",
        "views",
        "checkpoint",
        "model_key",
        "model_epoch",
        "model_legacy",
        "model_whole",
        "model_alone",
    ] {
        let found = read(&format!("{name}.pt"));
        assert!(
            found == expected,
            "{name}: {} differ",
            largest_difference(&found.parameters, &expected.parameters)
        );
    }
    // Half precision keeps 11 and 8 bits of the fraction; all values are below 1.
    for (name, bits) in [("half", 11), ("bfloat16", 8)] {
        let found = read(&format!("{name}.pt"));
        let difference = largest_difference(&found.parameters, &expected.parameters);
        assert!(difference > 0.0 && difference <= 0.5f32.powi(bits), "{name}: {difference}");
    }
    assert!(pytorch::is_foreign(file("zip.pt")).unwrap());
    assert!(pytorch::is_foreign(file("legacy.pt")).unwrap());
}

#[test]
fn a_module_called_model_keeps_its_name() {
    let expected = read("expected.safetensors");
    for (name, modules) in [
        ("model_child.pt", ["model.lstm", "model.head"]),
        ("model_module.pt", ["model.lstm", "model.head"]),
        ("model_beside.pt", ["model", "head"]),
    ] {
        let found = read(name);
        assert_eq!(found.parameters, expected.parameters, "{name}");
        let written = pytorch::state_dict(&found, &[]).unwrap();
        let of_module = |module: &str| written.keys().any(|name| name.starts_with(&format!("{module}.")));
        assert!(modules.iter().all(|module| of_module(module)), "{name}: {:?}", written.keys());
    }
    // A key of a checkpoint is no part of a name.
    let written = pytorch::state_dict(&read("model_epoch.pt"), &[]).unwrap();
    assert!(written.contains_key("head.weight"), "{:?}", written.keys());
}

#[test]
fn counters_are_ignored_by_name() {
    let counter = file("counter.pt");
    let error = pytorch::read(&counter, &ReadOptions::new()).unwrap_err().to_string();
    assert!(error.contains("norm.num_batches_tracked"), "{error}");
    let found = pytorch::read(&counter, &ReadOptions::new().ignore(["norm"])).unwrap();
    assert!(found == read("expected.safetensors"));
}

#[test]
fn nothing_in_a_pickle_is_executed() {
    let error = pytorch::read(file("evil.pt"), &ReadOptions::new()).unwrap_err().to_string();
    assert!(!error.contains('\n') && error.contains("evil.pt"), "{error}");
    assert!(!Path::new("executed").exists());
}

#[test]
fn damaged_files_are_refused_or_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("damaged.pt");
    for name in ["zip.pt", "legacy.pt", "checkpoint.pt"] {
        let whole = fs::read(file(name)).unwrap();
        let mut damaged = Vec::new();
        for round in 0..150usize {
            damaged.clone_from(&whole);
            // Cut short, or with some bytes changed; both at places spread over the file.
            let place = round * 7919 % whole.len();
            match round % 3 {
                0 => damaged.truncate(place),
                1 => damaged[place] ^= 1 << (round % 8),
                _ => damaged[place..(place + 8).min(whole.len())].fill(0xff),
            }
            fs::write(&path, &damaged).unwrap();
            if let Err(error) = pytorch::read(&path, &ReadOptions::new()) {
                let error = error.to_string();
                assert!(!error.contains('\n'), "{name}, round {round}: more than a line: {error}");
            }
        }
    }
}
