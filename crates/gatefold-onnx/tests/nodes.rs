//! The ONNX project's node cases: every operator that is listed computes what it should, and what is refused is known.

use gatefold::Device;
use gatefold_check::Failures;
use gatefold_onnx::{OnnxModel, Tensor, supported_operators};
use half::f16;
use ndarray::{ArrayD, IxDyn};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/onnx")
}

fn tensor(view: &TensorView) -> Tensor {
    let shape = IxDyn(view.shape());
    fn of<const N: usize, T>(shape: IxDyn, view: &TensorView, from: impl Fn([u8; N]) -> T) -> ArrayD<T> {
        let values = view.data().as_chunks().0.iter().map(|&bytes| from(bytes)).collect();
        ArrayD::from_shape_vec(shape, values).unwrap()
    }
    match view.dtype() {
        Dtype::F32 => Tensor::F32(of(shape, view, f32::from_le_bytes)),
        Dtype::F16 => Tensor::F32(of(shape, view, |bytes| f16::from_le_bytes(bytes).to_f32())),
        Dtype::F64 => Tensor::F32(of(shape, view, |bytes| f64::from_le_bytes(bytes) as f32)),
        Dtype::I64 => Tensor::I64(of(shape, view, i64::from_le_bytes)),
        Dtype::I32 => Tensor::I32(of(shape, view, i32::from_le_bytes)),
        Dtype::U8 => Tensor::U8(of(shape, view, |[byte]| byte)),
        Dtype::I8 => Tensor::I8(of(shape, view, |[byte]| byte as i8)),
        Dtype::BOOL => Tensor::Bool(of(shape, view, |[byte]| byte != 0)),
        other => panic!("{other:?}"),
    }
}

/// A case: its model, and its arrays under the graph's names.
#[derive(Default)]
struct Case {
    model: Vec<u8>,
    inputs: BTreeMap<String, Tensor>,
    outputs: BTreeMap<String, Tensor>,
    /// The relative error of its coarsest values.
    rounding: f64,
}

fn cases(file: &Path) -> BTreeMap<String, Case> {
    let bytes = std::fs::read(file).unwrap();
    let mut cases: BTreeMap<String, Case> = BTreeMap::new();
    for (name, view) in SafeTensors::deserialize(&bytes).unwrap().iter() {
        let (case_name, part) = name.split_once('/').unwrap();
        let case = cases.entry(case_name.into()).or_default();
        let rounding = if view.dtype() == Dtype::F16 { f64::from(f16::EPSILON.to_f32()) } else { 0.0 };
        // This case's outputs are written with four digits.
        let rounding =
            if case_name == "test_averagepool_2d_ceil_last_window_starts_on_pad" { 1e-4 } else { rounding };
        case.rounding = case.rounding.max(rounding);
        match part.split_once('/') {
            None => case.model = view.data().to_vec(),
            Some(("in", name)) => drop(case.inputs.insert(name.into(), tensor(&view))),
            Some((_, name)) => drop(case.outputs.insert(name.into(), tensor(&view))),
        }
    }
    cases
}

/// Runs a case; tells how far off it is, or why it is refused.
fn run(name: &str, case: &Case) -> Result<Result<(), String>, String> {
    let model =
        OnnxModel::from_bytes(case.model.clone(), Path::new(name)).map_err(|error| error.to_string())?;
    let inputs = model.inputs().iter().map(|port| (port.name.clone(), case.inputs[&port.name].clone()));
    let found = model.run(&Device::cpu().unwrap(), &inputs.collect()).map_err(|error| error.to_string())?;
    Ok(case.outputs.iter().try_for_each(|(name, expected)| same(&found[name], expected, case.rounding)))
}

fn same(found: &Tensor, expected: &Tensor, rounding: f64) -> Result<(), String> {
    if found.element() != expected.element() || found.shape() != expected.shape() {
        let say = |tensor: &Tensor| format!("{} {:?}", tensor.element(), tensor.shape());
        return Err(format!("{} instead of {}", say(found), say(expected)));
    }
    let (Tensor::F32(found), Tensor::F32(expected)) = (found, expected) else {
        return if found == expected { Ok(()) } else { Err(format!("{found:?} instead of {expected:?}")) };
    };
    for (&found, &expected) in found.iter().zip(expected) {
        let (a, b) = (f64::from(found), f64::from(expected));
        // The project's own bound is 1e-3; both sides round, functions and sums to a few units.
        let near = (a - b).abs() <= 2e-6 + (2e-5 + 4.0 * rounding) * b.abs();
        if !near && a != b && !(a.is_nan() && b.is_nan()) {
            return Err(format!("{found} instead of {expected}"));
        }
    }
    Ok(())
}

/// The ways around the library's differences, against onnxruntime.
#[test]
fn what_is_rewritten_is_right() {
    let mut failures = Failures::new();
    for (name, case) in cases(&folder().join("rewritten.safetensors")) {
        failures.check(&name, || match run(&name, &case) {
            Ok(Ok(())) => {}
            Ok(Err(problem)) => panic!("{problem}"),
            Err(reason) => panic!("refused: {reason}"),
        });
    }
    failures.finish();
}

#[test]
fn the_documentation_lists_the_operators() {
    let text = std::fs::read_to_string(folder().join("../../../docs/onnx.md")).unwrap();
    let (_, listed) = text.split_once("On the engine:").unwrap();
    let (listed, _) = listed.split_once("Some are rewritten").unwrap();
    let listed: BTreeSet<&str> = listed.split('`').skip(1).step_by(2).collect();
    assert_eq!(listed, supported_operators().collect::<BTreeSet<_>>());
}

/// With `GATEFOLD_NODE_CASES`, another file of cases than the small ones that are kept, to look at.
#[test]
fn every_case_is_right_or_refused() {
    let other = std::env::var_os("GATEFOLD_NODE_CASES");
    let file = other.as_ref().map_or_else(|| folder().join("nodes.safetensors"), PathBuf::from);
    let (mut failures, mut refused) = (Failures::new(), BTreeMap::new());
    let cases = cases(&file);
    for (name, case) in &cases {
        failures.check(name, || match run(name, case) {
            Ok(Ok(())) => {}
            Ok(Err(problem)) => panic!("{problem}"),
            Err(reason) => drop(refused.insert(name.as_str(), reason)),
        });
    }
    let list = folder().join("nodes.refused.txt");
    if std::env::var_os("GATEFOLD_FREEZE").is_some() {
        let lines: String = refused.iter().map(|(name, reason)| format!("{name}: {reason}\n")).collect();
        std::fs::write(&list, lines).unwrap();
    }
    if other.is_some() {
        println!("{} cases, {} refused", cases.len(), refused.len());
        refused.iter().for_each(|(name, reason)| println!("{name}: {reason}"));
    } else {
        let known = std::fs::read_to_string(list).unwrap();
        let known: BTreeSet<&str> = known.lines().filter_map(|line| line.split(':').next()).collect();
        assert_eq!(refused.keys().copied().collect::<BTreeSet<_>>(), known, "what is refused");
    }
    failures.finish();
}
