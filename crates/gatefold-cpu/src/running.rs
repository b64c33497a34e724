//! A recurrent layer on its way forward over the parts of a batch, and the threads that run its scans.

use crate::buffers::{Buffers, Matrix, Rows};
use crate::dilation::{End, Interleaved, in_scan_order};
use crate::network::{Context, Kept};
use crate::packing::{Packing, Walk};
use crate::parts::PartState;
use crate::recurrent::{Inference, RecurrentTape, begin_scan, finish};
use crate::scan::{self, ScanStates, ScanTape};
use crate::team::{self, Team};
use crate::weights::Weights;
use gatefold_model::{Direction, Layer, Recurrent};
use ndarray::{ArrayView2, ArrayViewMut2, Axis, s};
use std::sync::Arc;

/// A layer on its way over a part: threads share the jobs of its scans.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one for each part")]
pub(crate) enum Running {
    Keeps(RecurrentTape),
    /// `[N, width]`: the outputs, and those of a second scan that are added to them; the sequences of a dilated layer.
    Infers(Matrix, Option<Matrix>, Option<Arc<Interleaved>>),
}

/// One scan over a part.
pub(crate) struct ScanJob<'a> {
    packing: &'a Packing,
    /// `[N, I]`
    input: ArrayView2<'a, f32>,
    scan: usize,
    work: ScanWork<'a>,
}

enum ScanWork<'a> {
    Keeps(&'a mut ScanTape),
    /// The states, initial ones to be replaced by final ones, and the outputs.
    Infers(&'a mut ScanStates, ArrayViewMut2<'a, f32>),
}

impl Running {
    /// Makes room, and puts the initial states on a tape that is kept.
    pub(crate) fn begin(
        context: Context,
        packing: &Packing,
        layer: &Layer,
        recurrent: &Recurrent,
        initial: &mut PartState,
        keeps: bool,
    ) -> Running {
        let interleaved = packing.interleaved(recurrent.dilation);
        if let Some(interleaved) = &interleaved {
            interleaved.take_state(context.buffers, recurrent, End::Initial, initial);
        }
        if !keeps {
            let matrix = || context.buffers.matrix(packing.len(), recurrent.output());
            let adds = recurrent.direction == Direction::BidirectionalSum;
            return Running::Infers(matrix(), adds.then(matrix), interleaved);
        }
        let packing = interleaved.as_ref().map_or(packing, |interleaved| &interleaved.packing);
        let scans = recurrent.direction.scans().len();
        let tape = |scan: usize| {
            let weights = Weights::of(context, layer, recurrent, scan);
            begin_scan(context, packing, &weights, initial.scan(scan))
        };
        let scans = [0, 1].map(|scan| (scan < scans).then(|| tape(scan)));
        Running::Keeps(RecurrentTape::of(scans, interleaved))
    }

    /// The layer's input `[N, I]`, in the order of its scans.
    pub(crate) fn input<'a>(&self, buffers: &Arc<Buffers>, input: Rows<'a>) -> Rows<'a> {
        let (Running::Keeps(RecurrentTape { interleaved, .. }) | Running::Infers(_, _, interleaved)) = self;
        in_scan_order(buffers, interleaved.as_deref(), input)
    }

    /// Puts the layer's output together, and replaces its initial states by the final ones.
    pub(crate) fn finish(
        self,
        context: Context,
        packing: &Packing,
        layer: &Layer,
        recurrent: &Recurrent,
        states: &mut PartState,
    ) -> Kept {
        match self {
            Running::Keeps(mut tape) => {
                finish(context, packing, layer, recurrent, &mut tape, states);
                Kept::Recurrent(tape)
            }
            Running::Infers(mut output, added, interleaved) => {
                added.into_iter().for_each(|added| *output += &*added);
                let Some(interleaved) = interleaved else { return Kept::Rows(output) };
                interleaved.give_state(context.buffers, recurrent, End::Final, states);
                Kept::Rows(interleaved.give_all(context.buffers, output))
            }
        }
    }

    /// The scans to run over the input `[N, I]` that [`Running::input`] made, from these states if no tape has them.
    pub(crate) fn jobs<'a>(
        &'a mut self,
        packing: &'a Packing,
        recurrent: &Recurrent,
        input: ArrayView2<'a, f32>,
        states: &'a mut PartState,
    ) -> [Option<ScanJob<'a>>; 2] {
        let job =
            |packing: &'a Packing, scan: usize, work: ScanWork<'a>| ScanJob { packing, input, scan, work };
        match self {
            Running::Keeps(RecurrentTape { scans, interleaved, .. }) => {
                let [first, second] = scans.each_mut();
                let packing = interleaved.as_ref().map_or(packing, |interleaved| &interleaved.packing);
                let job = |scan, tape: &'a mut Option<ScanTape>| {
                    Some(job(packing, scan, ScanWork::Keeps(tape.as_mut()?)))
                };
                [job(0, first), job(1, second)]
            }
            Running::Infers(output, added, interleaved) => {
                let packing = interleaved.as_ref().map_or(packing, |interleaved| &interleaved.packing);
                let (first, second) = match recurrent.direction {
                    Direction::Bidirectional => {
                        let (first, second) = output.view_mut().split_at(Axis(1), recurrent.scan_width());
                        (first, Some(second))
                    }
                    _ => (output.view_mut(), added.as_mut().map(|added| added.view_mut())),
                };
                let [first_states, second_states] = states.scans.each_mut();
                let job = |scan, states: &'a mut Option<ScanStates>, to: Option<ArrayViewMut2<'a, f32>>| {
                    Some(job(packing, scan, ScanWork::Infers(states.as_mut()?, to?)))
                };
                [job(0, first_states, Some(first)), job(1, second_states, second)]
            }
        }
    }
}

impl ScanJob<'_> {
    pub(crate) fn run(self, context: Context, layer: &Layer, recurrent: &Recurrent, team: Option<&Team>) {
        let ScanJob { packing, input, scan, work } = self;
        let weights = Weights::of(context, layer, recurrent, scan).with_team(team);
        let (width, input) = (input.ncols(), input.to_slice().expect("values are kept in standard layout"));
        match work {
            ScanWork::Keeps(tape) => scan::forward(context, packing, &weights, input, width, tape),
            ScanWork::Infers(states, mut to) => {
                let mut inference = Inference::new(weights, states);
                let walk = Walk { history: 1, ..weights.walk };
                for steps in scan::windows(packing, walk, weights.packed.bias.len()) {
                    let rows = packing.rows_of(&steps);
                    let input = &input[rows.start * width..rows.end * width];
                    let to = to.slice_mut(s![rows, ..]);
                    inference.run(context, packing, steps, input, width, to);
                }
                *states = inference.states;
            }
        }
    }
}

/// Runs the scans of a layer, over parts of which the largest has `rows` rows. Threads share the parts and directions;
/// those left over help with the products of single steps.
pub(crate) fn run_scans<J: Send>(
    context: Context,
    layer: &Layer,
    recurrent: &Recurrent,
    (parts, rows): (usize, usize),
    jobs: impl Iterator<Item = J> + Send,
    work: impl Fn(J, Option<&Team>) + Sync,
) {
    let scans = &context.packed.layer(layer).scans;
    // A step of a dilated layer's scan has a row for each interleaved sequence.
    let size = (parts * scans.len(), rows * recurrent.dilation);
    team::run((context.set, context.threads), size, |n| scans[n % scans.len()].shared(), jobs, work);
}
