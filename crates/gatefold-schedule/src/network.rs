//! The walk over a network's layer graph, forward and back over one plan, on top of what [`crate::layer`] does for each
//! layer.

mod backward;
mod forward;
mod hand_over;
mod tangent;

pub use backward::{Backward, Wanted, backward};
pub use forward::{Forward, forward};
pub use tangent::tangent;

use crate::layer::{self, Sequence};
use crate::scan::ScanState;
use crate::{Half, Plan, Span};
use gatefold_model::{Layer, NetworkConfig, Recurrent, StateKind};

/// The initial states of a recurrent layer, one for each of its scans; `None` means zeros.
pub type InitialStates = Vec<Option<ScanState>>;

fn recurrent_of(config: &NetworkConfig, index: usize) -> &Recurrent {
    config.layers()[index].recurrent().expect("the layer graph says that it is recurrent")
}

/// The h of the last step of each scan, `[1, B, R]`.
fn newest(recurrent: &Recurrent, finals: &[ScanState], batch: usize) -> Vec<Sequence> {
    let width = recurrent.recurrent_width();
    let scans = recurrent.direction.scans().iter().zip(finals);
    let of_scan = |(&reverse, last): (&bool, &ScanState)| {
        let slot = newest_slot(recurrent.history(), reverse);
        let span = last.h.part(slot * batch * width, batch * width);
        Sequence { span, steps: 1, batch, width }
    };
    scans.map(of_scan).collect()
}

/// The slot of the last step's h, or c, among those of a final state.
fn newest_slot(slots: usize, reverse: bool) -> usize {
    if reverse { 0 } else { slots - 1 }
}

/// One final state of a layer, both scans side by side.
fn final_state(
    plan: &mut Plan,
    layer: &Layer,
    finals: &[ScanState],
    state: StateKind,
    batch: usize,
) -> Sequence {
    let recurrent = layer.recurrent().expect("states are those of recurrent layers");
    let parts = match state {
        StateKind::Hidden => newest(recurrent, finals, batch),
        StateKind::Cell => {
            let width = recurrent.hidden;
            let scans = recurrent.direction.scans().iter().zip(finals);
            let of_scan = |(&reverse, last): (&bool, &ScanState)| {
                let slot = newest_slot(recurrent.dilation, reverse);
                let c = last.c.expect("the cell has a state");
                Sequence { span: c.part(slot * batch * width, batch * width), steps: 1, batch, width }
            };
            scans.map(of_scan).collect()
        }
    };
    layer::side_by_side(plan, &format!("{}.final_{}", layer.label(), state.name()), &parts)
}

/// `times` copies of a span, one after another.
fn repeat(plan: &mut Plan, name: &str, span: Span, times: usize) -> Span {
    if times == 1 {
        return span;
    }
    let all = plan.scratch(name, times * span.len);
    (0..times).for_each(|k| plan.copy(span, all.part(k * span.len, span.len)));
    all
}

/// Values a step of the network's input, or of the decoder's own.
pub(crate) fn input_width(config: &NetworkConfig, half: Half) -> usize {
    match (half, config.decoder()) {
        (Half::Decoder, Some(at)) => config.layers()[at].output,
        _ => config.input(),
    }
}
