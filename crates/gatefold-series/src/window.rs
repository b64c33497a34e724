use crate::SeriesError;
use ndarray::Array3;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use std::ops::Range;

/// The shape of a window: an input of `steps` time steps of `width` samples each, and the next `horizon` samples as
/// its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowConfig {
    steps: usize,
    width: usize,
    horizon: usize,
    stride: usize,
}

impl WindowConfig {
    /// Windows of `steps` steps of `width` samples with a target of `horizon` samples, one at every sample.
    pub fn new(steps: usize, width: usize, horizon: usize) -> Self {
        WindowConfig { steps, width, horizon, stride: 1 }
    }

    /// The number of samples from one window to the next; 1 by default.
    pub fn stride(mut self, stride: usize) -> Self {
        self.stride = stride;
        self
    }

    /// The number of samples in the input.
    pub fn input_len(&self) -> usize {
        self.steps * self.width
    }

    /// The number of samples in the target.
    pub fn horizon(&self) -> usize {
        self.horizon
    }

    fn check(&self) -> Result<(), SeriesError> {
        let fields = [
            ("steps", self.steps),
            ("width", self.width),
            ("horizon", self.horizon),
            ("stride", self.stride),
        ];
        match fields.iter().find(|(_, value)| *value == 0) {
            Some((name, _)) => {
                Err(SeriesError::Series(format!("the {name} of a window is 0; expected at least 1")))
            }
            None if self
                .steps
                .checked_mul(self.width)
                .and_then(|len| len.checked_add(self.horizon))
                .is_none() =>
            {
                Err(SeriesError::Series("the window is longer than any series; use fewer samples".into()))
            }
            None => Ok(()),
        }
    }
}

/// Inputs and targets, time-major, ready for the engine.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// `[steps, batch, width]`
    pub input: Array3<f32>,
    /// `[1, batch, horizon]`, or `[steps, batch, horizon]` with a target at every step.
    pub target: Array3<f32>,
}

/// The windows of a series. They are placed from the end backwards, so that the last one holds the newest observation
/// whatever the stride.
///
/// Samples may have any type; batches need `f32`, as the engine does.
#[derive(Clone, Debug)]
pub struct Windows<'a, T = f32> {
    series: &'a [T],
    config: WindowConfig,
    first: usize, // start of the first window
    count: usize,
}

impl<'a, T> Windows<'a, T> {
    /// Every window whose target lies within `targets`, oldest first. Inputs may reach back before that range: a
    /// validation or test part is forecast from the samples before it.
    ///
    /// # Errors
    /// [`SeriesError::Series`] for a size of zero, for `targets` past the end of the series, or when no window fits.
    pub fn new(series: &'a [T], config: WindowConfig, targets: Range<usize>) -> Result<Self, SeriesError> {
        config.check()?;
        let (input, horizon) = (config.input_len(), config.horizon);
        if targets.end > series.len() || targets.start > targets.end {
            return Err(SeriesError::Series(format!(
                "the targets {}..{} are not a range within {} samples",
                targets.start,
                targets.end,
                series.len()
            )));
        }
        let earliest = targets.start.saturating_sub(input); // start of the first possible window
        let Some(last) = targets.end.checked_sub(input + horizon).filter(|last| *last >= earliest) else {
            return Err(SeriesError::Series(format!(
                "a window of {input} input and {horizon} target samples does not fit: there are {} samples, {} of them \
                 to forecast; use a shorter input or horizon",
                targets.end,
                targets.len()
            )));
        };
        let count = (last - earliest) / config.stride + 1;
        Ok(Windows { series, config, first: last - (count - 1) * config.stride, count })
    }

    /// The number of windows.
    #[expect(clippy::len_without_is_empty, reason = "there is at least one window")]
    pub fn len(&self) -> usize {
        self.count
    }

    /// The shape of a window.
    pub fn config(&self) -> WindowConfig {
        self.config
    }

    /// The input samples of window `index`.
    pub fn input(&self, index: usize) -> &'a [T] {
        &self.series[self.origin(index) - self.config.input_len()..self.origin(index)]
    }

    /// The target samples of window `index`.
    pub fn target(&self, index: usize) -> &'a [T] {
        &self.series[self.origin(index)..self.origin(index) + self.config.horizon]
    }

    /// The number of samples known at the end of window `index`'s input: the position of its first target sample.
    pub fn origin(&self, index: usize) -> usize {
        assert!(index < self.count, "window {index} of {}", self.count);
        self.first + index * self.config.stride + self.config.input_len()
    }

    /// The order of an epoch: every window once, shuffled. It depends on seed and epoch alone, so training that stops
    /// within an epoch can resume with the same batches.
    pub fn order(&self, seed: u64, epoch: u64) -> Vec<usize> {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        random.set_stream(epoch);
        let mut order: Vec<usize> = (0..self.count).collect();
        order.shuffle(&mut random);
        order
    }
}

impl Windows<'_, f32> {
    /// A batch of these windows, each with the block that follows it: targets `[1, batch, horizon]`.
    pub fn batch(&self, indices: &[usize]) -> Batch {
        let target = Array3::from_shape_fn((1, indices.len(), self.config.horizon), |(_, row, k)| {
            self.target(indices[row])[k]
        });
        Batch { input: self.inputs(indices), target }
    }

    /// A batch of these windows, each with the block that follows every step: targets `[steps, batch, horizon]`.
    pub fn batch_per_step(&self, indices: &[usize]) -> Batch {
        let WindowConfig { steps, width, horizon, .. } = self.config;
        let target = Array3::from_shape_fn((steps, indices.len(), horizon), |(t, row, k)| {
            let start = self.origin(indices[row]) - steps * width;
            self.series[start + (t + 1) * width + k]
        });
        Batch { input: self.inputs(indices), target }
    }

    /// `[steps, batch, width]`
    fn inputs(&self, indices: &[usize]) -> Array3<f32> {
        let WindowConfig { steps, width, .. } = self.config;
        Array3::from_shape_fn((steps, indices.len(), width), |(t, row, k)| {
            self.input(indices[row])[t * width + k]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A series whose values are their own positions.
    fn counting(len: usize) -> Vec<f32> {
        (0..len).map(|t| t as f32).collect()
    }

    fn shapes() -> impl Strategy<Value = WindowConfig> {
        (1usize..8, 1usize..6, 1usize..9, 1usize..11).prop_map(|(steps, width, horizon, stride)| {
            WindowConfig::new(steps, width, horizon).stride(stride)
        })
    }

    proptest! {
        #[test]
        fn the_newest_observation_is_in_the_last_window(config in shapes(), len in 1usize..200) {
            let series = counting(len);
            match Windows::new(&series, config, 0..len) {
                Ok(windows) => {
                    let newest = *windows.target(windows.len() - 1).last().unwrap();
                    prop_assert_eq!(newest, (len - 1) as f32);
                    // No further window would fit in front.
                    prop_assert!(windows.origin(0) < config.input_len() + config.stride);
                }
                Err(_) => prop_assert!(len < config.input_len() + config.horizon()),
            }
        }

        #[test]
        fn targets_stay_in_range_and_follow_their_input(
            config in shapes(), start in 0usize..100, len in 1usize..100,
        ) {
            let series = counting(200);
            let targets = start..start + len;
            let Ok(windows) = Windows::new(&series, config, targets.clone()) else {
                let fits = len >= config.horizon() && start + len >= config.input_len() + config.horizon();
                prop_assert!(!fits);
                return Ok(());
            };
            for index in 0..windows.len() {
                let (input, target) = (windows.input(index), windows.target(index));
                let samples: Vec<f32> = input.iter().chain(target).copied().collect();
                prop_assert_eq!(&samples[..], &series[samples[0] as usize..][..samples.len()]);
                prop_assert!(targets.contains(&(target[0] as usize)));
                prop_assert!(targets.contains(&(target[target.len() - 1] as usize)));
                if index > 0 {
                    prop_assert_eq!(windows.origin(index) - windows.origin(index - 1), config.stride);
                }
            }
        }

        #[test]
        fn batches_hold_the_windows(config in shapes(), seed in any::<u64>()) {
            let series = counting(120);
            let windows = Windows::new(&series, config, 0..series.len()).unwrap();
            let order = windows.order(seed, 3);
            for indices in order.chunks(7) {
                let (batch, per_step) = (windows.batch(indices), windows.batch_per_step(indices));
                prop_assert_eq!(&batch.input, &per_step.input);
                let (steps, rows, width) = batch.input.dim();
                prop_assert_eq!((steps * width, rows), (config.input_len(), indices.len()));
                prop_assert_eq!(batch.target.dim(), (1, rows, config.horizon()));
                prop_assert_eq!(per_step.target.dim(), (steps, rows, config.horizon()));
                for (row, &index) in indices.iter().enumerate() {
                    let first = windows.input(index)[0];
                    for t in 0..steps {
                        for k in 0..width {
                            prop_assert_eq!(batch.input[[t, row, k]], first + (t * width + k) as f32);
                        }
                        for k in 0..config.horizon() {
                            prop_assert_eq!(per_step.target[[t, row, k]], first + ((t + 1) * width + k) as f32);
                        }
                    }
                    for k in 0..config.horizon() {
                        prop_assert_eq!(batch.target[[0, row, k]], windows.target(index)[k]);
                    }
                }
            }
        }

        #[test]
        fn an_epoch_is_every_window_once(len in 2usize..300, seed in any::<u64>(), epoch in 0u64..50) {
            let series = counting(len);
            let windows = Windows::new(&series, WindowConfig::new(1, 1, 1), 0..len).unwrap();
            let mut order = windows.order(seed, epoch);
            prop_assert_eq!(&order, &windows.order(seed, epoch));
            if len > 50 {
                prop_assert_ne!(&order, &windows.order(seed, epoch + 1));
                prop_assert_ne!(&order, &windows.order(seed ^ 1, epoch));
            }
            order.sort_unstable();
            prop_assert_eq!(order, (0..windows.len()).collect::<Vec<_>>());
        }
    }

    #[test]
    fn impossible_windows_are_refused() {
        let series = counting(10);
        let refusal = |config, targets| Windows::new(&series, config, targets).unwrap_err().to_string();
        assert!(refusal(WindowConfig::new(0, 1, 1), 0..10).starts_with("the steps of a window is 0"));
        assert!(
            refusal(WindowConfig::new(1, 1, 1).stride(0), 0..10).starts_with("the stride of a window is 0")
        );
        assert!(
            refusal(WindowConfig::new(8, 1, 3), 0..10).contains("8 input and 3 target samples does not fit")
        );
        assert!(refusal(WindowConfig::new(2, 1, 1), 5..11).contains("5..11 are not a range within 10"));
        assert!(refusal(WindowConfig::new(usize::MAX, 2, 1), 0..10).contains("longer than any series"));
    }
}
