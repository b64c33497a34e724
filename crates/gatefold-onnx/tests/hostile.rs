//! Other programs' files with bytes changed, cut out and inserted. Each is read or refused, and none costs more memory
//! than it should. A file that is read is also imported and run. The target in fuzz/ does the same for as long as it
//! runs.

use gatefold::Device;
use gatefold_check::Failures;
use gatefold_onnx::{Axis, ElementType, OnnxError, OnnxModel, Tensor};
use ndarray::{ArrayD, IxDyn};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;
use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Records the largest block that was allocated.
struct Largest;

static LARGEST: AtomicUsize = AtomicUsize::new(0);
/// One test at a time looks at it.
static ALONE: Mutex<()> = Mutex::new(());

#[expect(unsafe_code, reason = "only a global allocator sees every allocation; it passes each call on")]
// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Largest {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LARGEST.fetch_max(layout.size(), Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        LARGEST.fetch_max(size, Ordering::Relaxed);
        unsafe { System.realloc(block, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Largest = Largest;

/// Every model of tests/fixtures/onnx, by name.
fn models() -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/onnx");
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "onnx"))
        .collect();
    paths.sort();
    assert!(paths.len() > 50, "the fixtures are there");
    paths.into_iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

/// The small models of single operators, by name.
fn operators() -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/onnx");
    let mut models = Vec::new();
    for file in ["nodes.safetensors", "rewritten.safetensors"] {
        let bytes = std::fs::read(folder.join(file)).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let of_model = |(name, view): (String, TensorView)| {
            Some((PathBuf::from(name.strip_suffix("/model")?), view.data().to_vec()))
        };
        models.extend(file.iter().filter_map(|(name, view)| of_model((name.into(), view))));
    }
    models.sort();
    models
}

/// Makes one to four changes: flips a bit, sets a byte, cuts out a piece, doubles one, or cuts off the end.
fn mutate(bytes: &mut Vec<u8>, random: &mut ChaCha8Rng) {
    for _ in 0..random.random_range(1..=4) {
        if bytes.is_empty() {
            return;
        }
        let at = random.random_range(0..bytes.len());
        let end = (at + random.random_range(1..=16)).min(bytes.len());
        match random.random_range(0..12) {
            0..=6 => bytes[at] ^= 1 << random.random_range(0..8),
            7 => bytes[at] = random.random(),
            8 => bytes[at] = 0xff,
            9 => drop(bytes.drain(at..end)),
            10 => {
                let piece = bytes[at..end].to_vec();
                bytes.splice(at..at, piece);
            }
            _ => {
                // Most of a model is weights, where a cut tests little, so cut near the end.
                let keep = bytes.len() - random.random_range(0..bytes.len().min(64));
                bytes.truncate(keep);
            }
        }
    }
}

/// Sizes of each input: at most eight of an axis.
const MOST_OF_AN_AXIS: usize = 8;

/// Imports and runs a model; both succeed or are refused. Returns the number of elements that it was given.
fn use_it(model: &OnnxModel) -> usize {
    let one_line =
        |error: OnnxError| assert!(!error.to_string().contains('\n'), "more than one line: {error}");
    model.import().map(drop).unwrap_or_else(one_line);
    let inputs = model.inputs().iter().map(|port| {
        let len = |axis: &Axis| match axis {
            Axis::Fixed(len) => (*len).min(MOST_OF_AN_AXIS),
            _ => 2,
        };
        let shape: Vec<usize> = port.shape.iter().flatten().take(4).map(len).collect();
        let tensor = match port.element {
            Some(ElementType::I64) => Tensor::I64(ArrayD::ones(IxDyn(&shape))),
            Some(ElementType::I32) => Tensor::I32(ArrayD::ones(IxDyn(&shape))),
            Some(ElementType::Bool) => Tensor::Bool(ArrayD::from_elem(IxDyn(&shape), false)),
            Some(ElementType::U8) => Tensor::U8(ArrayD::ones(IxDyn(&shape))),
            Some(ElementType::I8) => Tensor::I8(ArrayD::ones(IxDyn(&shape))),
            _ => Tensor::F32(ArrayD::ones(IxDyn(&shape))),
        };
        (port.name.clone(), tensor)
    });
    let inputs: BTreeMap<String, Tensor> = inputs.collect();
    let given = inputs.values().map(Tensor::len).sum();
    model.run(&Device::cpu().unwrap(), &inputs).map(drop).unwrap_or_else(one_line);
    given
}

/// The largest block that a file of some bytes may make us allocate when it is given some elements, as docs/onnx.md says:
/// 64 MiB, and 4 KiB for each element that is given or stored. Whole numbers take twice the space of others.
fn allowed(bytes: usize, given: usize) -> usize {
    2 * ((64 << 20) + (4 << 10) * (bytes + given))
}

/// With `GATEFOLD_SEED`, other changes than those that every run makes.
#[test]
fn mutated_files_are_read_or_refused() {
    let _alone = ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let (mut read, mut refused) = (0, 0);
    let other: u64 = std::env::var("GATEFOLD_SEED").map_or(0, |seed| seed.parse().expect("a number"));
    let mut failures = Failures::new();
    let large = models().into_iter().map(|model| (model, 150));
    for ((path, original), changes) in large.chain(operators().into_iter().map(|model| (model, 8))) {
        // The changes of one model do not depend on which others there are.
        let name = path.file_name().unwrap().as_encoded_bytes();
        let seed = name.iter().fold(13u64, |seed, &byte| seed.wrapping_mul(31).wrapping_add(byte.into()));
        let mut random = ChaCha8Rng::seed_from_u64(seed.wrapping_add(other));
        for number in 0..changes {
            let mut bytes = original.clone();
            mutate(&mut bytes, &mut random);
            LARGEST.store(0, Ordering::Relaxed);
            let (size, mut given) = (bytes.len(), 0);
            failures.check(format!("{}, mutation {number}", path.display()), || match OnnxModel::from_bytes(
                bytes, &path,
            ) {
                Ok(model) => {
                    given = use_it(&model);
                    read += 1;
                }
                Err(error) => {
                    assert!(!error.to_string().contains('\n'), "more than one line: {error}");
                    refused += 1;
                }
            });
            let largest = LARGEST.load(Ordering::Relaxed);
            let name = format!("{}, mutation {number}: a block of {largest} bytes", path.display());
            failures.check(name, || assert!(largest <= allowed(size, given)));
        }
    }
    failures.finish();
    // Changes to weights and names leave a readable model; changes to its structure do not.
    assert!(read > 500 && refused > 500, "{read} read, {refused} refused");
}

/// Tiny files that ask for gigabytes or for hours are refused at once: while they are read, or when they run.
#[test]
fn files_that_ask_for_too_much_are_refused() {
    let _alone = ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/onnx/hostile");
    let mut failures = Failures::new();
    let shape = |lens: [i64; 3]| Tensor::from(ndarray::arr1(&lens));
    let ones = Tensor::F32(ArrayD::ones(IxDyn(&[2, 2, 3])));
    for (name, inputs) in [
        ("cos_1G", vec![]),
        ("matmul_slow", vec![]),
        ("expand_zero_stride", vec![("X", ones)]),
        ("lstm_long", vec![("s", shape([20_000_000, 1, 3]))]),
    ] {
        failures.check(name, || {
            let began = std::time::Instant::now();
            LARGEST.store(0, Ordering::Relaxed);
            let inputs = inputs.iter().map(|(name, tensor)| (name.to_string(), tensor.clone())).collect();
            let device = Device::cpu().unwrap();
            let refused = OnnxModel::read(folder.join(format!("{name}.onnx"))).and_then(|model| {
                model.import().map(drop).unwrap_or_default();
                model.run(&device, &inputs)
            });
            let refused = refused.expect_err("it is refused").to_string();
            assert!(refused.contains("may ask for"), "{refused}");
            assert!(LARGEST.load(Ordering::Relaxed) <= allowed(1 << 10, 16), "memory");
            assert!(began.elapsed().as_secs() < 20, "time");
        });
    }
    failures.finish();
}
