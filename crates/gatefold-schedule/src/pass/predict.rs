use super::{Pass, PassPlan, check_sizes, finish, frozen, inputs, lowering, pack_all};
use crate::layer::Purpose;
use crate::{Error, Given, ParameterLayout, Plan, StateLayout, StateSet, Target, network};
use gatefold_model::NetworkConfig;

/// Packs the weights in the order of the kernels.
pub fn packing(config: &NetworkConfig, target: &Target, purpose: Purpose) -> Plan {
    let mut plan = Plan::default();
    let layout = ParameterLayout::new(config, target);
    pack_all(&mut plan, target, config, &frozen(&layout), purpose);
    plan.join(target);
    plan
}

/// A prediction: from the input to the output and, if wanted, to the final states; it saves nothing. Weights must be
/// packed already.
///
/// # Errors
/// [`Error::Shape`] for a batch that the network does not read; [`Error::TooLarge`] and [`Error::Limit`] for what the device
/// has no room for.
pub fn predict(
    config: &NetworkConfig,
    target: &Target,
    pass: &Pass,
    finals: bool,
) -> Result<PassPlan, Error> {
    check_sizes(config, target, pass)?;
    let mut plan = Plan::default();
    let layout = ParameterLayout::new(config, target);
    let parameters = frozen(&layout);
    let mut low = lowering(&mut plan, target, &parameters, Purpose::Inference, pass);
    let forward = network::forward(&mut low, config, pass, finals)?;
    finish(&mut low, config, pass, &forward, finals);
    let states = StateLayout::new(config, pass.shape.batch);
    let reads = vec![
        (Given::Output, pass.output_shape(config).to_vec()),
        (states.given(StateSet::Final), vec![states.len]),
    ];
    Ok(PassPlan::new(plan, target, inputs(config, pass), reads))
}
