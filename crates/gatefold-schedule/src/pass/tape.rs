use super::{Pass, PassPlan, check_sizes, finish, inputs, lowering, mask, pack_all};
use crate::layer::{Lowering, Purpose, Sequence};
use crate::network::{self, Forward, Wanted};
use crate::{Error, Given, Half, ParameterLayout, ParameterSpans, Plan, StateLayout, StateSet, Target};
use gatefold_model::NetworkConfig;
use std::collections::BTreeMap;

/// A forward pass that keeps what backward needs, with tangents after it if the pass has any, then the backward pass, with the
/// plan's mark before it. The buffers of the parameters' gradients and tangents belong to this pass.
///
/// # Errors
/// [`Error::Shape`] for a batch that the network does not read; [`Error::TooLarge`] and [`Error::Limit`] for what the device
/// has no room for.
pub fn tape(config: &NetworkConfig, target: &Target, pass: &Pass) -> Result<PassPlan, Error> {
    check_sizes(config, target, pass)?;
    let mut plan = Plan::default();
    let layout = ParameterLayout::new(config, target);
    let parameters = ParameterSpans::new(&layout, |_| true);
    pack_all(&mut plan, target, config, &parameters, Purpose::Training);
    let mut low = lowering(&mut plan, target, &parameters, Purpose::Training, pass);
    let forward = network::forward(&mut low, config, pass, true)?;
    finish(&mut low, config, pass, &forward, true);
    let mut reads = Vec::new();
    if pass.tangent {
        reads.push(tangent(&mut low, &layout, config, pass, &forward)?);
    }
    low.plan.set_mark();

    let gradients: Vec<(Given, Vec<usize>)> =
        layout.chunks.iter().enumerate().map(|(chunk, &len)| (Given::Gradients(chunk), vec![len])).collect();
    for (given, len) in &gradients {
        let span = low.plan.given(given.clone(), len[0]);
        low.plan.clear(span);
    }
    let d_output = forward.output.map(|y| Sequence { span: low.plan.given(Given::DOutput, y.len()), ..y });
    if let Some(d_output) = d_output {
        mask(low.plan, &forward, d_output);
    }
    let mut d_finals = BTreeMap::new();
    for (&index, scans) in &forward.finals {
        let layer = &config.layers()[index];
        let of_scan = |scan| Some(pass.states(low.plan, config, StateSet::DFinal, layer, scan));
        d_finals.insert(index, (0..scans.len()).map(of_scan).collect());
    }
    let wanted = Wanted { inputs: true, initial: true, carried: false };
    let back = network::backward(&mut low, config, &forward, d_output, d_finals, wanted)?;
    reads.extend(gradients);
    for (half, d) in [(Half::Input, back.input), (Half::Decoder, back.decoder_input)] {
        if let Some(d) = d {
            let to = low.plan.given(Given::DInput(half), d.len());
            low.plan.copy(d.span, to);
            reads.push((Given::DInput(half), vec![d.steps, d.batch, d.width]));
        }
    }
    store_initial(low.plan, config, pass, &back, StateSet::DInitial);
    let states = StateLayout::new(config, pass.shape.batch);
    reads.push((Given::Output, pass.output_shape(config).to_vec()));
    let sets = [StateSet::Final, StateSet::DInitial];
    reads.extend(sets.map(|set| (states.given(set), vec![states.len])));
    let mut uploads = inputs(config, pass);
    uploads.extend([Given::DOutput, states.given(StateSet::DFinal), Given::InputTangent(Half::Input)]);
    uploads.extend((0..layout.chunks.len()).map(Given::Tangents));
    Ok(PassPlan::new(plan, target, uploads, reads))
}

/// Lowers the tangent of the output, zero past each row's end, to the buffer where the host finds it.
fn tangent(
    low: &mut Lowering<'_>,
    layout: &ParameterLayout,
    config: &NetworkConfig,
    pass: &Pass,
    forward: &Forward,
) -> Result<(Given, Vec<usize>), Error> {
    let (steps, batch, width) = (pass.shape.input.steps, pass.shape.batch, config.input());
    let span = low.plan.given(Given::InputTangent(Half::Input), steps * batch * width);
    let along = ParameterSpans::tangents(layout);
    let dot = network::tangent(low, &along, config, forward, Sequence { span, steps, batch, width })?;
    let output = low.plan.given(Given::OutputTangent, dot.len());
    low.plan.copy(dot.span, output);
    mask(low.plan, forward, Sequence { span: output, ..dot });
    Ok((Given::OutputTangent, pass.output_shape(config).to_vec()))
}

/// Copies the gradients with respect to initial states into the buffers of a set.
pub(super) fn store_initial(
    plan: &mut Plan,
    config: &NetworkConfig,
    pass: &Pass,
    back: &network::Backward,
    set: StateSet,
) {
    for (&index, scans) in &back.initial {
        let layer = &config.layers()[index];
        for (scan, d) in scans.iter().enumerate() {
            if let Some(d) = d {
                let to = pass.states(plan, config, set, layer, scan);
                d.copy_to(plan, &to);
            }
        }
    }
}
