//! Reads any bytes as an ONNX model. A model that is not refused is imported, if it can be, and run on small inputs.

#![no_main]

use gatefold::Device;
use gatefold_onnx::{Axis, ElementType, OnnxModel, Tensor};
use libfuzzer_sys::fuzz_target;
use ndarray::{ArrayD, IxDyn};
use std::collections::BTreeMap;
use std::path::Path;

fuzz_target!(|bytes: &[u8]| {
    // There are no files beside this path, so no external data is found.
    let Ok(model) = OnnxModel::from_bytes(bytes.to_vec(), Path::new("/nowhere/model.onnx")) else { return };
    let _ = model.import();
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
            Some(ElementType::U8) => Tensor::U8(ArrayD::ones(IxDyn(&shape))),
            Some(ElementType::I8) => Tensor::I8(ArrayD::ones(IxDyn(&shape))),
            _ => Tensor::F32(ArrayD::ones(IxDyn(&shape))),
        };
        (port.name.clone(), tensor)
    });
    let inputs: BTreeMap<String, Tensor> = inputs.collect();
    let _ = model.run(&Device::cpu().unwrap(), &inputs);
});
