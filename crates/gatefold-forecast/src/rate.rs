//! The learning rate of a training, update by update.

use crate::Settings;
use gatefold::training::Schedule;
use gatefold_model::ScheduleState;

/// Updates over which the rate rises, unless the whole training is short.
const WARM_UP: u64 = 100;

impl Settings {
    /// The learning rate of an update, the first being 1. The linear branch of a network for one series has a tenth of it.
    pub fn rate_of(&self, update: u64) -> f32 {
        self.learning_rate * self.schedule().factor(update.saturating_sub(1), &ScheduleState::default())
    }

    /// The course of the learning rate.
    pub(crate) fn schedule(&self) -> Schedule {
        Schedule::cosine(self.updates).warm_up(WARM_UP.min(self.updates / 4))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::LINEAR;
    use crate::{ForecastError, Forecaster, OptimizerKind, Progress, Watch};
    use gatefold::Device;
    use gatefold::file::Checkpoint;

    /// Keeps a checkpoint after every update.
    #[derive(Default)]
    struct Every(Vec<Checkpoint>);

    impl Watch for Every {
        fn progress(&mut self, _: &Progress) -> bool {
            true
        }

        fn wants_checkpoint(&mut self) -> bool {
            true
        }

        fn keep(&mut self, _: usize, checkpoint: Checkpoint) -> Result<(), ForecastError> {
            self.0.push(checkpoint);
            Ok(())
        }
    }

    /// Gradient descent with momentum moves a parameter by the rate times the momentum that the checkpoint holds.
    #[test]
    fn it_is_the_rate_that_training_takes() {
        let series: Vec<f64> = (0..90).map(|t| f64::from(t * t % 17)).collect();
        let settings = Settings {
            members: 1,
            updates: 12,
            batch: 4,
            optimizer: OptimizerKind::Sgd,
            ..Settings::new(2, None, &[90])
        };
        let mut every = Every::default();
        let device = Device::cpu().unwrap();
        Forecaster::new(settings.clone()).fit(&device, &[&series], None, &mut every).unwrap();
        for update in 2..=12 {
            let (before, after) = (&every.0[update - 2], &every.0[update - 1]);
            assert_eq!((before.step, after.step), (update as u64 - 1, update as u64));
            let momentum = &after.optimizer["momentum"];
            let (mut moved, mut expected) = (0.0f64, 0.0f64);
            for (name, tensor) in after.parameters.iter().filter(|(name, _)| !name.starts_with(LINEAR)) {
                let Some(momentum) = momentum.get(name) else { continue };
                let old = before.parameters.get(name).unwrap();
                for ((new, old), momentum) in tensor.iter().zip(old).zip(momentum) {
                    moved += f64::from(new - old) * f64::from(*momentum);
                    expected -= f64::from(settings.rate_of(update as u64)) * f64::from(momentum * momentum);
                }
            }
            assert!((moved / expected - 1.0).abs() < 1e-3, "update {update}: {moved}, expected {expected}");
        }
    }
}
