//! The scans of a stack side by side. Layer l runs a chunk of steps while the layer above it runs the chunk before, so that
//! T steps of L layers take about T dispatches instead of L T. The products of a layer's inputs stay apart, a chunk at a
//! time: within the steps they would double the walk along H that a step mostly is.

use super::{
    CarriedGradients, Form, Pass, Scan, Strategy, gradients, input_product, steps_backward, steps_forward,
};
use crate::layer::{Lowering, Sequence};
use crate::plan::{ALIGNMENT, most_elements, whole_len};
use crate::{Error, Target};
use gatefold_model::Layer;
use std::ops::Range;

/// Steps below which the products of chunks cost as many dispatches as running side by side saves.
const FEWEST_STEPS: usize = 16;
/// Steps in a workgroup that take as long as what each chunk costs: its dispatches, and weights and h read again. By the times
/// of a step and of a dispatch that docs/benchmarks.md has of an H100.
const STEPS_OF_A_DISPATCH: usize = 12;

/// The chunks of steps in which a stack runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chunks(Vec<Range<usize>>);

impl Chunks {
    /// Those of a stack of scans over `steps` steps of `batch` rows. A chunk of C steps costs dispatches of its own, as long as p
    /// steps, and the layers above run C steps after the lowest: together the least for C = sqrt(p T). `None` where side by
    /// side is no gain, or where a binding cannot hold what all layers save.
    pub(crate) fn of(target: &Target, forms: &[Form], steps: usize, batch: usize) -> Option<Chunks> {
        let first = forms.first()?;
        let strategies = |form: &Form| Pass::ALL.map(|pass| Strategy::choose(target, form, pass, batch));
        let step_len = batch * first.hidden();
        let saved = whole_len(forms.len(), steps * step_len * first.lanes())?;
        // A chunk's products are written from an element on at which a binding may begin.
        let granule = ALIGNMENT / greatest_common_divisor(ALIGNMENT, step_len);
        let by_steps =
            strategies(first).iter().all(|strategy| matches!(strategy, Strategy::StepPerDispatch { .. }));
        let cost = if by_steps { 1 } else { STEPS_OF_A_DISPATCH };
        let len = (cost * steps).isqrt().next_multiple_of(granule);
        let gains = steps >= FEWEST_STEPS && 2 * len <= steps;
        let in_a_grid = |strategy: &Strategy| matches!(strategy, Strategy::PersistentGrid(_));
        let alike = !strategies(first).iter().any(in_a_grid)
            && forms.iter().all(|form| strategies(form) == strategies(first));
        (gains && alike && saved <= most_elements(target)).then(|| Chunks::with_len(steps, len))
    }

    fn with_len(steps: usize, len: usize) -> Chunks {
        Chunks((0..steps).step_by(len).map(|begin| begin..steps.min(begin + len)).collect())
    }

    /// For each diagonal, from first to last, the members that run and the chunks that they run. `order` counts chunks.
    fn diagonals(&self, members: usize) -> impl Iterator<Item = Vec<(usize, usize)>> + '_ {
        let chunks = self.0.len();
        (0..chunks + members - 1).map(move |diagonal| {
            let chunk = |member: usize| diagonal.checked_sub(member).filter(|&chunk| chunk < chunks);
            (0..members).filter_map(|member| Some((member, chunk(member)?))).collect()
        })
    }
}

fn greatest_common_divisor(a: usize, b: usize) -> usize {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

/// All steps of a stack forward, the lowest layer first. Each layer's input is the h of the one below, and the initial states
/// must be in their slots already.
///
/// # Errors
/// Those of [`forward`](super::forward).
pub(crate) fn forward_stack(
    low: &mut Lowering<'_>,
    layers: &[&Layer],
    scans: &[Scan],
    chunks: &Chunks,
) -> Result<(), Error> {
    input_product(low, &scans[0], None)?;
    for running in chunks.diagonals(scans.len()) {
        for &(member, chunk) in running.iter().filter(|(member, _)| *member > 0) {
            input_product(low, &scans[member], Some(&chunks.0[chunk]))?;
        }
        let mut begins = Vec::with_capacity(running.len());
        for (member, chunk) in running {
            begins.push(low.plan.here());
            steps_forward(low, layers[member], &scans[member], chunks.0[chunk].clone())?;
        }
        low.plan.merge(&begins, scans.len());
    }
    Ok(())
}

/// All steps of a stack backward, as [`backward`](super::backward) does it for one layer. `d_outs` are the gradients with
/// respect to the layers' outputs: that of the highest is there, the others are filled.
///
/// # Errors
/// Those of [`forward`](super::forward).
pub(crate) fn backward_stack(
    low: &mut Lowering<'_>,
    layers: &[&Layer],
    scans: &[Scan],
    carried: &[CarriedGradients],
    d_outs: &[Sequence],
    chunks: &Chunks,
) -> Result<(), Error> {
    let (last_scan, last_chunk) = (scans.len() - 1, chunks.0.len() - 1);
    for running in chunks.diagonals(scans.len()) {
        // The highest layer comes first, and its last chunk.
        let running: Vec<(usize, &Range<usize>)> = running
            .into_iter()
            .map(|(member, chunk)| (last_scan - member, &chunks.0[last_chunk - chunk]))
            .collect();
        for &(at, steps) in running.iter().filter(|(at, _)| *at < last_scan) {
            gradients::input_gradient_of(low, &scans[at + 1], steps, d_outs[at].part(steps).span)?;
        }
        let mut begins = Vec::with_capacity(running.len());
        for (at, steps) in running {
            begins.push(low.plan.here());
            steps_backward(low, layers[at], &scans[at], &carried[at], (d_outs[at], 0), steps.clone())?;
        }
        low.plan.merge(&begins, scans.len());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_cover_all_steps_and_diagonals_run_each_once() {
        let chunks = Chunks::with_len(23, 5);
        assert_eq!(chunks.0.iter().map(|chunk| chunk.len()).collect::<Vec<_>>(), [5, 5, 5, 5, 3]);
        let diagonals: Vec<Vec<(usize, usize)>> = chunks.diagonals(3).collect();
        assert_eq!(diagonals.len(), 7);
        assert_eq!(diagonals[0], [(0, 0)]);
        assert_eq!(diagonals[3], [(0, 3), (1, 2), (2, 1)]);
        assert_eq!(diagonals[6], [(2, 4)]);
        for member in 0..3 {
            let run: Vec<usize> =
                diagonals.iter().flatten().filter(|(at, _)| *at == member).map(|(_, chunk)| *chunk).collect();
            assert_eq!(run, [0, 1, 2, 3, 4], "member {member}");
        }
    }
}
