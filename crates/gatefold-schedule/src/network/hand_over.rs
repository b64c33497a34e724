//! States on their way from an encoder to its decoder, and their gradients on the way back.

use super::backward::Gathered;
use super::forward::Forward;
use super::{InitialStates, final_state, recurrent_of, repeat};
use crate::layer::{self, Lowering, Sequence};
use crate::product::{self, LaneMap, Matrix, Order};
use crate::scan::ScanState;
use crate::{Error, Plan, Span};
use gatefold_model::{Activation, Bridge, HandOver, Layer, LayerKind, NetworkConfig, Role, StateKind};
use std::collections::BTreeMap;

/// A state handed from an encoder's layer to a decoder's.
#[derive(Clone, Copy, Debug)]
pub(super) struct Handed {
    between: HandOver,
    from: Sequence,
    to: Sequence,
    /// The value that the slope of the bridge's activation is computed from.
    kept: Sequence,
}

/// Makes initial states of the decoder's recurrent layers from final states of the encoder's.
pub(super) fn hand_over(
    low: &mut Lowering<'_>,
    config: &NetworkConfig,
    decoder: &Layer,
    bridge: Bridge,
    found: &mut Forward,
    batch: usize,
) -> Result<Vec<Handed>, Error> {
    let mut all = Vec::new();
    for &between in config.graph().hand_overs() {
        let HandOver { target, number, state, width, source, source_state, .. } = between;
        let from =
            final_state(low.plan, &config.layers()[source], &found.finals[&source], source_state, batch);
        let (to, kept) = match bridge {
            Bridge::Same => (from, from),
            Bridge::Dense { activation } => {
                let weight = low.parameters.values(low.plan, decoder, Role::BridgeWeight(number, state));
                let bias = low.parameters.values(low.plan, decoder, Role::BridgeBias(number, state));
                let weight = Matrix::new(weight, width, from.width).transposed();
                let what = format!("bridge.{}{number}", state.name());
                let (factors, y) = ((from.matrix(), weight), Sequence { width, ..from });
                let saved = layer::dense::product(low, &what, factors, Some(bias), activation, y)?;
                (saved.y, saved.kept)
            }
        };
        all.push(Handed { between, from, to, kept });
        match state {
            StateKind::Hidden => {
                let name = format!("layer{target}.history");
                let h = repeat(low.plan, &name, to.span, recurrent_of(config, target).history());
                found.initial.insert(target, vec![Some(ScanState { h, c: None, y: None })]);
            }
            StateKind::Cell => {
                let initial = found.initial.get_mut(&target).and_then(|scans| scans[0].as_mut());
                let name = format!("layer{target}.c_history");
                let c = repeat(low.plan, &name, to.span, recurrent_of(config, target).dilation);
                initial.expect("h comes before c").c = Some(c);
            }
        }
    }
    Ok(all)
}

/// Passes the gradients with respect to the decoder's initial states back through the bridge, to its parameters and to
/// the encoder's final states.
pub(super) fn hand_back(
    low: &mut Lowering<'_>,
    config: &NetworkConfig,
    decoder: &Layer,
    handed: &[Handed],
    d_initial: &BTreeMap<usize, InitialStates>,
    gathered: &mut Gathered,
) -> Result<(), Error> {
    for Handed { between, from, to, kept } in handed {
        let HandOver { target, number, state, source, source_state, .. } = *between;
        let Some(Some(d_scan)) = d_initial.get(&target).and_then(|scans| scans.first()) else { continue };
        let label = format!("bridge.{}{number}", state.name());
        let d_span = match state {
            StateKind::Hidden => {
                sum_parts(low.plan, &label, d_scan.h, recurrent_of(config, target).history())
            }
            StateKind::Cell => {
                let d_c = d_scan.c.expect("the cell has a state");
                sum_parts(low.plan, &label, d_c, recurrent_of(config, target).dilation)
            }
        };
        let mut d = Sequence { span: d_span, ..*to };
        if let LayerKind::Decoder { bridge: Bridge::Dense { activation } } = decoder.kind {
            d = layer::dense::before_activation(low.plan, &label, activation, *kept, d);
            let (weight, bias) = (Role::BridgeWeight(number, state), Role::BridgeBias(number, state));
            if let Some(d_weight) = low.parameters.gradient(low.plan, decoder, weight) {
                let order = Order::columns_units_lanes(LaneMap::same(1), to.width, from.width);
                let factors = (from.matrix().transposed(), d.matrix());
                product::add_gradient(low.plan, low.target, &label, factors, order, d_weight)?;
            }
            if let Some(d_bias) = low.parameters.gradient(low.plan, decoder, bias) {
                let sums = [(Order::same(d_bias.len), d_bias)];
                product::add_column_sums(low.plan, low.target, &label, d.matrix(), &sums)?;
            }
            let weight = low.parameters.values(low.plan, decoder, weight);
            let weight = Matrix::new(weight, to.width, from.width);
            let d_from = low.plan.scratch(format!("{label}.d_from"), from.len());
            let factors = (d.matrix(), weight);
            product::matmul(low.plan, low.target, &label, factors, None, Activation::Identity, d_from)?;
            d = Sequence { span: d_from, ..*from };
        }
        gathered.add(low.plan, &label, (source, recurrent_of(config, source)), source_state, d);
    }
    Ok(())
}

/// The sum of the equal parts of a span.
fn sum_parts(plan: &mut Plan, label: &str, span: Span, parts: usize) -> Span {
    if parts == 1 {
        return span;
    }
    let len = span.len / parts;
    let sum = plan.scratch(format!("{label}.sum"), len);
    plan.copy(span.part(0, len), sum);
    (1..parts).for_each(|k| layer::add_into(plan, span.part(k * len, len), sum));
    sum
}
