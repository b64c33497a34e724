//! Rows of a table with their right answers, as a trained network's loss sees them.

use crate::TaskError;
use gatefold::training::{GradientFlow, Reduction};
use gatefold::{Loss, Network, Sequences, Targets};

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

/// At most `count` of all items, evenly spaced.
///
/// # Errors
/// [`TaskError::Data`] with `problem` if there is none.
pub(crate) fn spread<'a, T>(all: &'a [T], count: usize, problem: &str) -> Result<Vec<&'a T>, TaskError> {
    if all.is_empty() {
        return Err(TaskError::Data(problem.into()));
    }
    let count = count.clamp(1, all.len());
    Ok((0..count).map(|at| &all[at * all.len() / count]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_are_evenly_spaced_and_none_comes_twice() {
        let all: Vec<usize> = (0..10).collect();
        assert_eq!(spread(&all, 3, "none").unwrap(), [&0, &3, &6]);
        assert_eq!(spread(&all, 10, "none").unwrap().len(), 10);
        assert_eq!(spread(&all, usize::MAX, "none").unwrap(), all.iter().collect::<Vec<_>>());
        assert_eq!(spread::<usize>(&[], 3, "none").unwrap_err().to_string(), "none");
    }
}
