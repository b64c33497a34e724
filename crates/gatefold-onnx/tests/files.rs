//! The models of other programs in tests/fixtures/onnx: their inputs, outputs and versions.

use gatefold_check::Failures;
use gatefold_onnx::OnnxModel;
use serde_json::Value;
use std::path::{Path, PathBuf};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/onnx")
}

fn cases() -> Vec<Value> {
    let mut cases = Vec::new();
    for index in ["pytorch.json", "keras.json", "node.json"] {
        let text = std::fs::read_to_string(folder().join(index)).unwrap();
        let index: Value = serde_json::from_str(&text).unwrap();
        cases.extend(index["cases"].as_array().unwrap().clone());
    }
    cases
}

fn texts(value: &Value) -> Vec<&str> {
    value.as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect()
}

#[test]
fn every_model_is_read() {
    let mut failures = Failures::new();
    for case in &cases() {
        let name = case["name"].as_str().unwrap();
        failures.check(name, || {
            let model = OnnxModel::read(folder().join(format!("{name}.onnx"))).unwrap();
            let names = |ports: &[gatefold_onnx::Port]| -> Vec<String> {
                ports.iter().map(|port| port.name.clone()).collect()
            };
            assert_eq!(names(model.inputs()), texts(&case["inputs"]), "inputs");
            assert_eq!(names(model.outputs()), texts(&case["outputs"]), "outputs");
            assert_eq!(model.opset(), case["opset"].as_i64().unwrap(), "opset");
        });
    }
    failures.finish();
}
