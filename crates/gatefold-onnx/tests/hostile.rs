//! Other programs' files with bytes changed, cut out and inserted. Each is read or refused, and none costs more memory
//! than it should. A file that is read is also imported and run. The target in fuzz/ does the same for as long as it
//! runs.

use gatefold::Device;
use gatefold_check::Failures;
use gatefold_onnx::{Axis, ElementType, OnnxError, OnnxModel, Tensor};
use ndarray::{ArrayD, IxDyn};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::alloc::{GlobalAlloc, Layout, System};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Records the largest block that was allocated.
struct Largest;

static LARGEST: AtomicUsize = AtomicUsize::new(0);

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

/// Imports and runs a model; both succeed or are refused.
fn use_it(model: &OnnxModel) {
    let one_line =
        |error: OnnxError| assert!(!error.to_string().contains('\n'), "more than one line: {error}");
    model.import().map(drop).unwrap_or_else(one_line);
    let inputs = model.inputs().iter().map(|port| {
        let len = |axis: &Axis| match axis {
            Axis::Fixed(len) => (*len).min(8),
            _ => 2,
        };
        let shape: Vec<usize> = port.shape.iter().flatten().take(4).map(len).collect();
        let tensor = match port.element {
            Some(ElementType::I64) => Tensor::I64(ArrayD::ones(IxDyn(&shape))),
            Some(ElementType::I32) => Tensor::I32(ArrayD::ones(IxDyn(&shape))),
            Some(ElementType::Bool) => Tensor::Bool(ArrayD::from_elem(IxDyn(&shape), false)),
            _ => Tensor::F32(ArrayD::ones(IxDyn(&shape))),
        };
        (port.name.clone(), tensor)
    });
    model.run(&Device::cpu().unwrap(), inputs.collect()).map(drop).unwrap_or_else(one_line);
}

#[test]
fn mutated_files_are_read_or_refused() {
    let (mut read, mut refused) = (0, 0);
    let mut failures = Failures::new();
    for (path, original) in models() {
        // The changes of one model do not depend on which others there are.
        let name = path.file_name().unwrap().as_encoded_bytes();
        let seed = name.iter().fold(13u64, |seed, &byte| seed.wrapping_mul(31).wrapping_add(byte.into()));
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        for number in 0..150 {
            let mut bytes = original.clone();
            mutate(&mut bytes, &mut random);
            failures.check(format!("{}, mutation {number}", path.display()), || match OnnxModel::from_bytes(
                bytes, &path,
            ) {
                Ok(model) => {
                    use_it(&model);
                    read += 1;
                }
                Err(error) => {
                    assert!(!error.to_string().contains('\n'), "more than one line: {error}");
                    refused += 1;
                }
            });
        }
    }
    failures.finish();
    // Changes to weights and names leave a readable model; changes to its structure do not.
    assert!(read > 500 && refused > 500, "{read} read, {refused} refused");
    let largest = LARGEST.load(Ordering::Relaxed);
    assert!(largest < 64 << 20, "a block of {largest} bytes was allocated");
}
