//! rten, which runs the ONNX model; `RTEN_NUM_THREADS` bounds the threads.

use peer_protocol::{Call, Case, Failure, Mode, serve};
use rten::Model;
use rten_tensor::{AsView, Tensor};

fn load(case: &Case) -> Result<Call, Failure> {
    if case.mode != Mode::Infer {
        return Err("whole sequences, inference only".into());
    }
    let model = Model::load_file(case.onnx())?;
    let input = Tensor::from_data(&[case.steps, case.batch, case.input], case.inputs()?);
    Ok(Box::new(move || {
        let output: Tensor<f32> = model.run_one(input.view().into(), None)?.try_into()?;
        Ok(output.to_vec())
    }))
}

fn main() -> Result<(), Failure> {
    serve(load)
}
