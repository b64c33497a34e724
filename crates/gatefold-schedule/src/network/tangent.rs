use super::forward::{Forward, Kept, KeptTape};
use super::{newest, recurrent_of};
use crate::layer::{self, Lowering, Sequence, recurrent};
use crate::scan::ScanState;
use crate::{Error, ParameterSpans};
use gatefold_model::{Merge, NetworkConfig, Source};
use std::collections::BTreeMap;

/// Lowers the tangent of the output, after a forward pass that saved everything: from that of the input and, `along`, those
/// of the parameters.
///
/// # Errors
/// [`Error::Limit`] for work that the device cannot split.
///
/// # Panics
/// For layers that [`NetworkConfig::check_forward_mode`] refuses.
pub fn tangent(
    low: &mut Lowering<'_>,
    along: &ParameterSpans<'_>,
    config: &NetworkConfig,
    forward: &Forward,
    input: Sequence,
) -> Result<Sequence, Error> {
    let graph = config.graph();
    let mut dots: BTreeMap<Source, Sequence> = [(Source::Input, input)].into();
    let mut finals: BTreeMap<usize, Vec<ScanState>> = BTreeMap::new();
    for (&index, Kept { tape, .. }) in &forward.layers {
        let (layer, node) = (&config.layers()[index], graph.node(index));
        let mut parts = Vec::new();
        for &source in &node.inputs {
            parts.push(match source {
                Source::FinalHidden(of) => {
                    let h = newest(recurrent_of(config, of), &finals[&of], input.batch);
                    layer::side_by_side(low.plan, &format!("{}.dot", layer.label()), &h)
                }
                _ => dots[&source],
            });
        }
        let label = format!("{}.dot_in", layer.label());
        let x_dot = match node.merge {
            Merge::Sum => {
                parts[1..].iter().fold(parts[0], |sum, &part| layer::add(low.plan, &label, sum, part))
            }
            Merge::Concatenate => layer::side_by_side(low.plan, &label, &parts),
        };
        let dot = match tape {
            KeptTape::Recurrent(tape) => {
                let found = recurrent::tangent(low, along, layer, tape, x_dot, forward.configured)?;
                finals.insert(index, found.finals);
                found.output
            }
            KeptTape::Plain(tape) => layer::tangent(low, along, layer, tape, x_dot)?,
            KeptTape::Same => x_dot,
            KeptTape::Decoder(_) => panic!("{} has no tangent", layer.place()),
        };
        dots.insert(Source::Output(index), dot);
    }
    Ok(dots[&graph.output()])
}
