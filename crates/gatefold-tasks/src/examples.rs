//! Rows of a table with their right answers, as a trained network's loss sees them.

use crate::TaskError;
use gatefold::training::{GradientFlow, Reduction};
use gatefold::{Loss, Network, Sequences, Targets};
use std::cmp::Reverse;

/// Longer sequences with an answer at each step are read in pieces of so many.
pub(crate) const MOST_STEPS: usize = 200;

/// Rows of a table side by side, their right answers, and the loss that the task's networks are trained on.
#[derive(Debug)]
pub struct Examples {
    /// The input.
    pub input: Sequences<'static>,
    /// The right answers.
    pub targets: Targets<'static>,
    /// The loss, which is averaged over all answers.
    pub loss: Loss,
}

impl Examples {
    /// Follows the gradient of the loss back through a network's recurrent layers; see [`Network::gradient_flow`].
    ///
    /// # Errors
    /// Those of the device.
    pub fn gradient_flow(&self, network: &Network) -> Result<GradientFlow, TaskError> {
        Ok(network.gradient_flow(&self.input, &self.targets, &self.loss, Reduction::Mean)?)
    }
}

/// At most `count` of all items, evenly spaced; those with the most steps first, since a flow's Jacobians are those of the
/// first row.
///
/// # Errors
/// [`TaskError::Data`] with `problem` if there is none.
pub(crate) fn spread<'a, T>(
    all: &'a [T],
    count: usize,
    steps: impl Fn(&T) -> usize,
    problem: &str,
) -> Result<Vec<&'a T>, TaskError> {
    if all.is_empty() {
        return Err(TaskError::Data(problem.into()));
    }
    let count = count.clamp(1, all.len());
    let mut chosen: Vec<&T> = (0..count).map(|at| &all[at * all.len() / count]).collect();
    chosen.sort_by_key(|item| Reverse(steps(item)));
    Ok(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_are_evenly_spaced_and_none_comes_twice() {
        let all: Vec<usize> = (0..10).collect();
        let spread = |count| spread(&all, count, |_| 1, "none").unwrap();
        assert_eq!(spread(3), [&0, &3, &6]);
        assert_eq!(spread(usize::MAX), all.iter().collect::<Vec<_>>());
        let longest = super::spread(&all, 4, |item| item % 4, "none").unwrap();
        assert_eq!(longest, [&7, &2, &5, &0]);
        assert_eq!(super::spread::<usize>(&[], 3, |_| 1, "none").unwrap_err().to_string(), "none");
    }
}
