//! Passes of a network on a GPU: a plan for a shape, with the buffers through which data go in and out.

use crate::gpu::Target;
use crate::gpu_network::{Prepared, check_sizes, pack_all};
use crate::layer::{self, DROPOUT, Lowering, Purpose, Sequence};
use crate::lower::{
    self, Axis, DECODER_INPUT, DECODER_LENGTHS, Forward, INPUT, LENGTHS, Part, Pass, Shape, Wanted,
};
use crate::parameters::{GRADIENTS, ParameterLayout, ParameterSpans};
use crate::plan::Plan;
use crate::state_layout::{D_FINALS, D_STARTS, FINALS, STARTS, StateLayout};
use crate::{Error, Sequences};
use gatefold_cpu::Dropout;
use gatefold_model::NetworkConfig;
use std::collections::BTreeMap;

pub(crate) const OUTPUT: &str = "output";
pub(crate) const D_OUTPUT: &str = "d_output";
pub(crate) const D_INPUT: &str = "d_input";
pub(crate) const D_DECODER_INPUT: &str = "decoder.d_input";

impl Shape {
    /// Of a batch that goes through some part of the network.
    pub(crate) fn of_part(part: Part, input: &Sequences) -> Shape {
        let axis = |part: &Sequences| Axis { steps: part.steps(), lengths: part.lengths().is_some() };
        let decoder = match part {
            Part::Decoder => Some(axis(input)),
            _ => input.decoder().map(axis),
        };
        Shape { batch: input.batch(), input: axis(input), decoder }
    }

    /// Of rows that all last so many steps.
    pub(crate) fn plain(steps: usize, batch: usize) -> Shape {
        Shape { batch, input: Axis { steps, lengths: false }, decoder: None }
    }
}

/// The names of the buffers that a pass has for itself; plans have some of them.
pub(crate) fn own_buffers(config: &NetworkConfig, pass: &Pass) -> Vec<String> {
    let states = StateLayout::new(config, pass.shape.batch);
    let names = [INPUT, LENGTHS, DECODER_INPUT, DECODER_LENGTHS, OUTPUT, DROPOUT, GRADIENTS];
    let names = names.into_iter().chain([D_OUTPUT, D_INPUT, D_DECODER_INPUT]).map(String::from);
    names.chain([STARTS, FINALS, D_FINALS, D_STARTS].map(|what| states.name(what))).collect()
}

/// From the input to the output, saving nothing.
pub(crate) fn inference_plan(
    config: &NetworkConfig,
    target: &Target,
    pass: &Pass,
    finals: bool,
) -> Result<Plan, Error> {
    check_sizes(config, target, pass)?;
    let mut plan = Plan::default();
    let layout = ParameterLayout::new(config);
    let parameters = ParameterSpans::new(&layout, |_| false);
    let mut low = Lowering {
        plan: &mut plan,
        target,
        parameters: &parameters,
        purpose: Purpose::Inference,
        drops: false,
    };
    let forward = lower::forward(&mut low, config, pass, finals)?;
    finish(&mut low, config, pass, &forward, finals);
    Ok(plan)
}

/// Output and states into the buffers where the host, or the next pass, finds them.
fn finish(low: &mut Lowering<'_>, config: &NetworkConfig, pass: &Pass, forward: &Forward, finals: bool) {
    let plan = &mut *low.plan;
    if let Some(y) = forward.output {
        let output = plan.given(OUTPUT, y.len());
        plan.copy(y.span, output);
        mask(plan, config, pass, Sequence { span: output, ..y });
    }
    let states = StateLayout::new(config, pass.shape.batch);
    for layer in config.recurrent_layers() {
        if finals {
            // Behind an encoder alone, what the decoder starts from counts as its state.
            let ended = forward.finals.get(&layer.index).map(|scans| scans.iter().map(Some).collect());
            let begun =
                || forward.starts.get(&layer.index).map(|scans| scans.iter().map(Option::as_ref).collect());
            let scans: Vec<_> = ended.or_else(begun).unwrap_or_default();
            for (scan, found) in scans.into_iter().enumerate() {
                if let Some(found) = found {
                    states.store(plan, FINALS, layer, scan, found);
                }
            }
        }
    }
    carry(low, config, pass, forward);
}

/// Zeros behind the end of each row of the network's output, or of its gradient.
fn mask(plan: &mut Plan, config: &NetworkConfig, pass: &Pass, y: Sequence) {
    let (axis, name) = match (pass.part, pass.shape.decoder) {
        (Part::Whole | Part::Decoder, Some(axis)) => (axis, DECODER_LENGTHS),
        _ => (pass.shape.input, LENGTHS),
    };
    if axis.lengths && config.timeline().has_lengths() {
        let lengths = plan.given(name, y.batch);
        layer::mask_rows(plan, y, lengths);
    }
}

/// The states into the buffers that the next pass starts from.
pub(crate) fn carry(low: &mut Lowering<'_>, config: &NetworkConfig, pass: &Pass, forward: &Forward) {
    let Some(step) = pass.carry else { return };
    let states = StateLayout::new(config, pass.shape.batch);
    for layer in config.recurrent_layers() {
        for (scan, found) in forward.states_after(low, layer.index, step).iter().enumerate() {
            states.store(low.plan, STARTS, layer, scan, found);
        }
    }
}

/// Forward keeping what backward needs, then backward, with the plan's mark between the two.
pub(crate) fn tape_plan(config: &NetworkConfig, target: &Target, pass: &Pass) -> Result<Plan, Error> {
    check_sizes(config, target, pass)?;
    let mut plan = Plan::default();
    let layout = ParameterLayout::new(config);
    let parameters = ParameterSpans::new(&layout, |_| true);
    pack_all(&mut plan, target, config, &parameters, Purpose::Training);
    let mut low = Lowering {
        plan: &mut plan,
        target,
        parameters: &parameters,
        purpose: Purpose::Training,
        drops: pass.dropout,
    };
    let forward = lower::forward(&mut low, config, pass, true)?;
    finish(&mut low, config, pass, &forward, true);
    low.plan.mark = low.plan.steps.len();

    let gradients = low.plan.given(GRADIENTS, layout.len);
    low.plan.clear(gradients);
    let d_output = forward.output.map(|y| Sequence { span: low.plan.given(D_OUTPUT, y.len()), ..y });
    if let Some(d_output) = d_output {
        mask(low.plan, config, pass, d_output);
    }
    let states = StateLayout::new(config, pass.shape.batch);
    let mut d_finals = BTreeMap::new();
    for layer in config.recurrent_layers() {
        let scans = 0..forward.finals[&layer.index].len();
        let of_scan = |scan| Some(states.scan(low.plan, D_FINALS, layer, scan));
        d_finals.insert(layer.index, scans.map(of_scan).collect());
    }
    let wanted = Wanted { inputs: true, starts: true };
    let back = lower::backward(&mut low, config, &forward, d_output, d_finals, wanted)?;
    for (name, d) in [(D_INPUT, back.input), (D_DECODER_INPUT, back.decoder_input)] {
        if let Some(d) = d {
            let to = plan.given(name, d.len());
            plan.copy(d.span, to);
        }
    }
    for layer in config.recurrent_layers() {
        let scans = back.starts.get(&layer.index).into_iter().flatten().enumerate();
        for (scan, d) in scans {
            if let Some(d) = d {
                states.store(&mut plan, D_STARTS, layer, scan, d);
            }
        }
    }
    Ok(plan)
}

/// Writes a batch into the buffers of a pass; the states only where they come from there.
pub(crate) fn upload(
    prepared: &Prepared,
    pass: &Pass,
    input: &Sequences,
    dropout: Option<Dropout>,
) -> Result<(), Error> {
    let write = |values: &str, lengths: &str, part: &Sequences| -> Result<(), Error> {
        if let Some(buffer) = prepared.own.get(values) {
            buffer.write(0, part.values().as_slice().expect("sequences are in standard layout"))?;
        }
        if let (Some(buffer), Some(given)) = (prepared.own.get(lengths), part.lengths()) {
            let given: Vec<u32> = given.iter().map(|&length| length as u32).collect();
            buffer.write(0, &given)?;
        }
        Ok(())
    };
    match pass.part {
        Part::Decoder => write(DECODER_INPUT, DECODER_LENGTHS, input)?,
        _ => {
            write(INPUT, LENGTHS, input)?;
            if let Some(decoder) = input.decoder() {
                write(DECODER_INPUT, DECODER_LENGTHS, decoder)?;
            }
        }
    }
    if let (Some(buffer), Some(Dropout { seed, batch })) = (prepared.own.get(DROPOUT), dropout) {
        buffer.write(0, &[seed as u32, (seed >> 32) as u32, batch, 0])?;
    }
    Ok(())
}
