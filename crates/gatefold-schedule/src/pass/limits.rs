use super::{Part, Pass, Shape};
use crate::{Error, Half, Target, layer};
use gatefold_model::{LayerKind, NetworkConfig};

fn bytes(factors: &[usize]) -> u64 {
    factors.iter().fold(4u64, |product, &factor| product.saturating_mul(factor as u64))
}

/// Checks that every parameter fits the device, before the host makes room for them.
///
/// # Errors
/// [`Error::TooLarge`] names the parameter.
pub fn check_parameters(config: &NetworkConfig, target: &Target) -> Result<(), Error> {
    config.parameter_specs().try_for_each(|spec| target.check_size(&spec.name, bytes(&spec.shape)))
}

/// Checks that every parameter and every layer's values over a sequence fit the device: asked before a plan is made, whose
/// own buffers would name less, and for sizes at which there is no counting elements.
///
/// # Errors
/// [`Error::TooLarge`] names the tensor.
pub fn check_sizes(config: &NetworkConfig, target: &Target, pass: &Pass) -> Result<(), Error> {
    check_parameters(config, target)?;
    let Shape { batch, input, decoder } = pass.shape;
    if pass.part != Part::Decoder {
        target.check_size("input", bytes(&[input.steps, batch, config.input()]))?;
    }
    let mut steps =
        if pass.part == Part::Decoder { pass.shape.axis(Half::Decoder).steps } else { input.steps };
    for layer in &config.layers()[pass.layers(config)] {
        if let (LayerKind::Decoder { .. }, Some(axis)) = (layer.kind, decoder) {
            steps = axis.steps;
        }
        let (label, steps) = (layer.label(), layer.timeline.steps(steps));
        match layer.recurrent() {
            Some(recurrent) => {
                let len = bytes(&[steps, batch, recurrent.hidden, layer::lanes(layer)]);
                target.check_size(&format!("{label}.gates"), len)?;
            }
            None => target.check_size(&format!("{label}.y"), bytes(&[steps, batch, layer.output]))?,
        }
    }
    Ok(())
}
