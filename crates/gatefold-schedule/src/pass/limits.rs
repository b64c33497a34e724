use super::{Axis, Part, Pass, Shape};
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

/// Checks that a batch has rows and the inputs that the network reads.
fn check_shape(config: &NetworkConfig, shape: &Shape) -> Result<(), Error> {
    let wrong = |what: &str, expected: &str, found: String| {
        Err(Error::Shape { what: what.into(), expected: expected.into(), found })
    };
    let has = |there: bool| if there { "one" } else { "none" };
    let Shape { batch, input, decoder } = *shape;
    if decoder.is_some() != config.decoder().is_some() {
        let expected = has(config.decoder().is_some());
        return wrong("decoder's input", expected, has(decoder.is_some()).into());
    }
    for (what, steps) in [("input", input.steps), ("decoder's input", decoder.map_or(1, |axis| axis.steps))] {
        if steps == 0 || batch == 0 {
            return wrong(what, "at least one step and one row", format!("steps {steps}, batch {batch}"));
        }
    }
    if let Err(expected) = config.check_steps(input.steps) {
        return wrong("input", &expected, input.steps.to_string());
    }
    let expands = matches!(config.layers().first().map(|layer| layer.kind), Some(LayerKind::Expand { .. }));
    if expands && input != (Axis { steps: 1, lengths: false }) {
        let found = format!("steps {}{}", input.steps, if input.lengths { " with lengths" } else { "" });
        return wrong("input", "one step of every row, which the first layer expands", found);
    }
    Ok(())
}

/// Checks that the network reads such a batch, and that every parameter and every layer's values over a sequence fit
/// the device. This comes before a plan is made: its errors name more than those of the plan's buffers, and it bears
/// sizes whose elements cannot be counted.
///
/// # Errors
/// [`Error::Shape`]; [`Error::TooLarge`] names the tensor.
pub fn check_sizes(config: &NetworkConfig, target: &Target, pass: &Pass) -> Result<(), Error> {
    if pass.part == Part::Whole {
        check_shape(config, &pass.shape)?;
    }
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
        if let LayerKind::Conv1d(conv) = layer.kind
            && !conv.is_pointwise()
        {
            let len = bytes(&[steps, batch, layer.input, conv.kernel]);
            target.check_size(&format!("{label}.read"), len)?;
        }
        match layer.recurrent() {
            Some(recurrent) => {
                let steps = steps.checked_next_multiple_of(recurrent.dilation).unwrap_or(usize::MAX);
                let len = bytes(&[steps, batch, recurrent.hidden, layer::lanes(layer)]);
                target.check_size(&format!("{label}.gates"), len)?;
            }
            None => target.check_size(&format!("{label}.y"), bytes(&[steps, batch, layer.output]))?,
        }
    }
    Ok(())
}
