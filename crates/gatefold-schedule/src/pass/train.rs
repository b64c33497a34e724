use super::{Pass, PassPlan, carry, check_sizes, lowering, pack_all};
use crate::layer::Purpose;
use crate::network::{self, Wanted};
use crate::{Error, Given, Half, ParameterLayout, ParameterSpans, Plan, Target, layer, loss, optimizer};
use gatefold_model::{NetworkConfig, TrainConfig};
use std::collections::BTreeMap;

/// Forward, loss and backward of one batch, from the parameters as they are; adds to the gradients.
///
/// # Errors
/// [`Error::Shape`] for a batch that the network does not read; [`Error::TooLarge`] and [`Error::Limit`] for what the device
/// has no room for.
pub fn batch(
    network: &NetworkConfig,
    config: &TrainConfig,
    target: &Target,
    pass: &Pass,
) -> Result<PassPlan, Error> {
    check_sizes(network, target, pass)?;
    let mut plan = Plan::default();
    let layout = ParameterLayout::new(network, target);
    let parameters = ParameterSpans::new(&layout, |name| !config.rule(name).frozen);
    pack_all(&mut plan, target, network, &parameters, Purpose::Training);
    let mut low = lowering(&mut plan, target, &parameters, Purpose::Training, pass);
    let forward = network::forward(&mut low, network, pass, false)?;
    let y = forward.output.expect("the whole network has an output");
    let d_y = loss::lower(low.plan, &config.loss, y);
    network::backward(&mut low, network, &forward, Some(d_y), BTreeMap::new(), Wanted::default())?;
    carry(&mut low, network, pass, &forward);
    // Carried states are shared by all batches of one size, so they do not belong to this pass.
    let halves = [Half::Input, Half::Decoder];
    let mut uploads: Vec<Given> =
        halves.into_iter().flat_map(|half| [Given::Input(half), Given::Lengths(half)]).collect();
    uploads.extend([Given::DropoutKey, Given::Target, Given::Weights]);
    Ok(PassPlan::new(plan, target, uploads, Vec::new()))
}

/// The gradient's norm, clipping and the optimiser; the gradient is zero afterwards.
pub fn update(network: &NetworkConfig, config: &TrainConfig, target: &Target) -> Plan {
    let mut plan = Plan::default();
    optimizer::lower(&mut plan, &ParameterLayout::new(network, target), config, target);
    plan
}

/// Adds gradients to those accumulated. They are laid out like the parameters, in the buffers that the second result
/// names. Frozen parameters are skipped.
pub fn add_gradients(layout: &ParameterLayout, config: &TrainConfig) -> (Plan, fn(usize) -> Given) {
    let mut plan = Plan::default();
    for entry in layout.entries.iter().filter(|entry| !config.rule(&entry.name).frozen) {
        let len = layout.chunks[entry.chunk];
        let [from, into] = [Given::Argument(entry.chunk), Given::Gradients(entry.chunk)]
            .map(|given| plan.given(given, len).part(entry.offset, entry.len));
        layer::add_into(&mut plan, from, into);
    }
    (plan, Given::Argument)
}
