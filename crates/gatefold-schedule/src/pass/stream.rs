use super::{Axis, InitialFrom, Part, Pass, PassPlan, Shape, predict};
use crate::{Error, StateLayout, StateSet, Target};
use gatefold_model::NetworkConfig;

/// One step of `batch` streams, which leaves the states where it found them. In an encoder-decoder network, the decoder
/// steps.
///
/// # Errors
/// Those of [`predict`].
pub fn stream(config: &NetworkConfig, target: &Target, batch: usize) -> Result<(Pass, PassPlan), Error> {
    let axis = Axis { steps: 1, lengths: false };
    let decoder = config.decoder();
    let shape = Shape { batch, input: axis, decoder: decoder.map(|_| axis) };
    let pass = Pass {
        part: if decoder.is_some() { Part::Decoder } else { Part::Whole },
        initial: InitialFrom::Given,
        carry: Some(1),
        ..Pass::whole(shape)
    };
    let mut planned = predict(config, target, &pass, false)?;
    let states = StateLayout::new(config, batch);
    planned.reads.push((states.given(StateSet::Initial), vec![states.len]));
    Ok((pass, planned))
}
