//! tract, which runs the ONNX model on one thread.

use peer_protocol::{Call, Case, Failure, Mode, serve};
use tract_onnx::prelude::*;

fn load(case: &Case) -> Result<Call, Failure> {
    if case.mode != Mode::Infer {
        return Err("whole sequences, inference only".into());
    }
    let shape = [case.steps, case.batch, case.input];
    let model = tract_onnx::onnx()
        .model_for_path(case.onnx())?
        .with_input_fact(0, f32::fact(shape).into())?
        .into_optimized()?
        .into_runnable()?;
    let input = Tensor::from_shape(&shape, &case.inputs()?)?.into_tvalue();
    Ok(Box::new(move || {
        let outputs = model.run(tvec!(input.clone()))?;
        Ok(outputs[0].to_plain_array_view::<f32>()?.iter().copied().collect())
    }))
}

fn main() -> Result<(), Failure> {
    serve(load)
}
