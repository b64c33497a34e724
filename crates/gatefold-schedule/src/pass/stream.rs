use super::{Axis, InitialFrom, Part, Pass, PassPlan, Shape, predict};
use crate::{Error, StateLayout, StateSet, Target};
use gatefold_model::NetworkConfig;

/// `steps` steps of `batch` streams, which leave the states where they found them. In an encoder-decoder network, the
/// decoder steps.
///
/// # Errors
/// Those of [`predict`].
pub fn stream(
    config: &NetworkConfig,
    target: &Target,
    batch: usize,
    steps: usize,
) -> Result<(Pass, PassPlan), Error> {
    let axis = Axis { steps, lengths: false };
    let decoder = config.decoder();
    let shape = Shape { batch, input: axis, decoder: decoder.map(|_| axis) };
    let pass = Pass {
        part: if decoder.is_some() { Part::Decoder } else { Part::Whole },
        initial: InitialFrom::Given,
        carry: Some(steps),
        ..Pass::whole(shape)
    };
    let mut planned = predict(config, target, &pass, false)?;
    let states = StateLayout::new(config, batch);
    planned.reads.push((states.given(StateSet::Initial), vec![states.len]));
    Ok((pass, planned))
}
