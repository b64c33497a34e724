use super::tape::store_initial;
use super::{Pass, PassPlan, carry, check_sizes, lowering, pack_all};
use crate::layer::Purpose;
use crate::network::{self, InitialStates, Wanted};
use crate::{
    Error, Given, Half, ParameterLayout, ParameterSpans, Plan, StateSet, Target, layer, loss, optimizer,
};
use gatefold_model::{Layer, NetworkConfig, TrainConfig};
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
    let layout = ParameterLayout::new(network, target);
    let parameters = ParameterSpans::new(&layout, |name| !config.rule(name).frozen);
    let mut plan = Plan::default();
    pack_all(&mut plan, target, network, &parameters, Purpose::Training);
    train(plan, (network, config), (target, &parameters), pass, false)
}

/// The same of a chunk of a batch, from weights that are packed; the gradients with respect to states pass through
/// [`StateSet::DFinal`].
pub(super) fn chunk(
    network: &NetworkConfig,
    config: &TrainConfig,
    target: &Target,
    pass: &Pass,
) -> Result<PassPlan, Error> {
    check_sizes(network, target, pass)?;
    let layout = ParameterLayout::new(network, target);
    let parameters = ParameterSpans::new(&layout, |name| !config.rule(name).frozen);
    train(Plan::default(), (network, config), (target, &parameters), pass, true)
}

fn train(
    mut plan: Plan,
    (network, config): (&NetworkConfig, &TrainConfig),
    (target, parameters): (&Target, &ParameterSpans<'_>),
    pass: &Pass,
    is_chunk: bool,
) -> Result<PassPlan, Error> {
    let mut low = lowering(&mut plan, target, parameters, Purpose::Training, pass);
    let forward = network::forward(&mut low, network, pass, false)?;
    let y = forward.output.expect("the whole network has an output");
    let d_y = loss::lower(low.plan, &config.loss, y);
    let d_finals = if is_chunk { d_finals(low.plan, network, pass) } else { BTreeMap::new() };
    let wanted = Wanted { carried: is_chunk, ..Wanted::default() };
    let back = network::backward(&mut low, network, &forward, Some(d_y), d_finals, wanted)?;
    if is_chunk {
        store_initial(low.plan, network, pass, &back, StateSet::DFinal);
    }
    carry(&mut low, network, pass, &forward);
    Ok(PassPlan::new(plan, target, uploads(), Vec::new()))
}

/// The gradients with respect to the final states of every recurrent layer, where the host put them.
fn d_finals(plan: &mut Plan, network: &NetworkConfig, pass: &Pass) -> BTreeMap<usize, InitialStates> {
    let of_layer = |layer: &Layer| {
        let scans = layer.recurrent().map_or(0, |recurrent| recurrent.direction.scans().len());
        let of_scan = |scan| Some(pass.states(plan, network, StateSet::DFinal, layer, scan));
        (layer.index, (0..scans).map(of_scan).collect())
    };
    network.recurrent_layers().map(of_layer).collect()
}

/// The buffers that the host writes before a batch. Carried states are shared by all batches of one size, so they do
/// not belong to one pass.
pub(super) fn uploads() -> Vec<Given> {
    let halves = [Half::Input, Half::Decoder];
    let mut uploads: Vec<Given> =
        halves.into_iter().flat_map(|half| [Given::Input(half), Given::Lengths(half)]).collect();
    uploads.extend([Given::DropoutKey, Given::Target, Given::Weights]);
    uploads
}

/// The gradient's norm, clipping, the optimiser and the moving average; the gradient is zero afterwards.
pub fn update(network: &NetworkConfig, config: &TrainConfig, target: &Target) -> Plan {
    let mut plan = Plan::default();
    optimizer::lower(&mut plan, &ParameterLayout::new(network, target), config, target);
    plan
}

/// Starts the moving average from the parameters as they are.
pub fn start_average(layout: &ParameterLayout) -> Plan {
    let mut plan = Plan::default();
    optimizer::start_average(&mut plan, layout);
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
