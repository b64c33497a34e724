use crate::ModelError;
use serde::{Deserialize, Serialize};
use std::f64::consts::PI;

/// The learning rate's changes from update to update: a factor of [`TrainConfig::learning_rate`], with an optional
/// warm-up. The curves are those of PyTorch's schedulers of the same names; docs/numerics.md has the equations.
///
/// ```
/// use gatefold_model::{Schedule, ScheduleState};
///
/// let schedule = Schedule::cosine(1_000).warm_up(10);
/// let state = ScheduleState::default();
/// assert_eq!(schedule.factor(0, &state), 0.1);
/// assert_eq!(schedule.factor(10, &state), 1.0);
/// assert!((schedule.factor(510, &state) - 0.5).abs() < 1e-6);
/// ```
///
/// [`TrainConfig::learning_rate`]: super::TrainConfig::learning_rate
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    warm_up: u64,
    floor: f32,
    curve: Curve,
}

/// The curve after the warm-up; `n` counts updates from its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Curve {
    /// 1
    #[default]
    Constant,
    /// `factor^floor(n / every)`
    Step { every: u64, factor: f32 },
    /// `floor + (1 - floor) (1 + cos(pi n / updates)) / 2`
    Cosine { updates: u64 },
    /// From 1/25 up to 1 over the first 30 %, then down to 1/250,000, both along a half cosine (Smith 2018).
    OneCycle { updates: u64 },
    /// `factor^k` after k reductions, each after more than `patience` observations that did not improve.
    Plateau { patience: u32, factor: f32 },
}

/// The part of a schedule that depends on observations: how often a plateau has reduced the rate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ScheduleState {
    best: Option<f64>,
    /// Successive observations without an improvement.
    stalled: u32,
    reductions: u32,
}

impl ScheduleState {
    /// The text stored in a checkpoint's metadata.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("numbers are JSON")
    }

    /// The reverse of [`ScheduleState::to_json`].
    ///
    /// # Errors
    /// [`ModelError::Config`] for any other text.
    pub fn from_json(text: &str) -> Result<Self, ModelError> {
        serde_json::from_str(text).map_err(|error| ModelError::Config {
            place: "checkpoint".into(),
            problem: format!("the state of its learning-rate schedule cannot be read: {error}"),
        })
    }
}

/// The relative amount by which an observation must beat the best one to count as an improvement.
const IMPROVEMENT: f64 = 1e-4;
/// OneCycle's share of rising updates, the divisor of its first rate, and a further divisor of its last rate.
const RISE: f64 = 0.3;
const FIRST_DIVISOR: f64 = 25.0;
const LAST_DIVISOR: f64 = 1e4;

impl Schedule {
    /// The configured learning rate at every update.
    pub fn constant() -> Self {
        Schedule::default()
    }

    /// Multiplies the rate by `factor` after every `every` updates.
    pub fn step(every: u64, factor: f32) -> Self {
        Schedule { curve: Curve::Step { every, factor }, ..Schedule::default() }
    }

    /// Lowers the rate along a half cosine over `updates` updates and keeps it there; see [`Schedule::floor`].
    pub fn cosine(updates: u64) -> Self {
        Schedule { curve: Curve::Cosine { updates }, ..Schedule::default() }
    }

    /// Raises the rate from 1/25 to the configured one over the first 30 % of `updates`, then lowers it to 1/250,000 (Smith
    /// 2018).
    pub fn one_cycle(updates: u64) -> Self {
        Schedule { curve: Curve::OneCycle { updates }, ..Schedule::default() }
    }

    /// Multiplies the rate by `factor` whenever more than `patience` successive observations did not improve by one
    /// part in 10,000. `Trainer::observe` passes the value to watch, such as a validation loss.
    pub fn plateau(patience: u32, factor: f32) -> Self {
        Schedule { curve: Curve::Plateau { patience, factor }, ..Schedule::default() }
    }

    /// Raises the rate linearly over the first `updates` updates, from `1 / updates` of it; the curve begins after that.
    pub fn warm_up(mut self, updates: u64) -> Self {
        self.warm_up = updates;
        self
    }

    /// Sets the smallest factor that the curve reaches after the warm-up, 0 to 1; 0 by default. OneCycle has its own.
    pub fn floor(mut self, factor: f32) -> Self {
        self.floor = factor;
        self
    }

    /// The factor of the learning rate for the update after `done` updates.
    pub fn factor(&self, done: u64, state: &ScheduleState) -> f32 {
        if done < self.warm_up {
            return ((done + 1) as f64 / self.warm_up as f64) as f32;
        }
        let (n, floor) = (done - self.warm_up, f64::from(self.floor));
        let power = |factor: f32, exponent: u64| f64::from(factor).powf(exponent as f64).max(floor);
        let factor = match self.curve {
            Curve::Constant => 1.0,
            Curve::Step { every, factor } => power(factor, n / every.max(1)),
            Curve::Cosine { updates } => {
                let done = n as f64 / updates.max(1) as f64;
                cosine(1.0, floor, done.min(1.0))
            }
            Curve::OneCycle { updates } => {
                // Update 0 stands at the beginning and the last one at the end, as in PyTorch.
                let last = updates.saturating_sub(1) as f64;
                let top = (RISE * updates as f64 - 1.0).max(0.0);
                let at = (n as f64).min(last);
                let first = 1.0 / FIRST_DIVISOR;
                if at < top {
                    cosine(first, 1.0, at / top)
                } else {
                    cosine(1.0, first / LAST_DIVISOR, (at - top) / (last - top).max(1.0))
                }
            }
            Curve::Plateau { factor, .. } => power(factor, u64::from(state.reductions)),
        };
        factor as f32
    }

    /// Observes a value to be minimised, such as a validation loss; only a plateau reacts to it. A NaN is not an
    /// improvement.
    pub fn observe(&self, state: &mut ScheduleState, value: f64) {
        let Curve::Plateau { patience, .. } = self.curve else { return };
        let improved = match state.best {
            None => !value.is_nan(),
            Some(best) => value < best - IMPROVEMENT * best.abs(),
        };
        if improved {
            state.best = Some(value);
            state.stalled = 0;
            return;
        }
        state.stalled += 1;
        if state.stalled > patience {
            state.stalled = 0;
            state.reductions = state.reductions.saturating_add(1);
        }
    }

    /// Refuses options outside their ranges.
    ///
    /// # Errors
    /// [`ModelError::Option`] and [`ModelError::Config`] name the option.
    pub fn check(&self) -> Result<(), ModelError> {
        let within = |name: &str, value: f32, fits: bool, range: &str| {
            if fits { Ok(()) } else { Err(ModelError::option(format!("schedule: {name}"), value, range)) }
        };
        within("the floor", self.floor, (0.0..=1.0).contains(&self.floor), "0 to 1")?;
        match self.curve {
            Curve::Constant => Ok(()),
            Curve::Step { every: 0, .. } | Curve::Cosine { updates: 0 } | Curve::OneCycle { updates: 0 } => {
                Err(ModelError::Config {
                    place: "schedule".into(),
                    problem: "it spans 0 updates; expected at least 1".into(),
                })
            }
            Curve::Cosine { .. } | Curve::OneCycle { .. } => Ok(()),
            Curve::Step { factor, .. } | Curve::Plateau { factor, .. } => {
                within("the factor", factor, factor > 0.0 && factor <= 1.0, "above 0, at most 1")
            }
        }
    }
}

/// A half cosine from `begin` to `end`; `done` runs from 0 to 1.
fn cosine(begin: f64, end: f64, done: f64) -> f64 {
    end + (begin - end) * (1.0 + (PI * done).cos()) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::abs_diff_eq;
    use gatefold_reference::Failures;

    /// Rates of PyTorch's schedulers at a base rate of 1, after 0, 1, 2, 5, 9 updates of 10: StepLR(3, 0.5),
    /// CosineAnnealingLR(10, eta_min=0.1), OneCycleLR(1, total_steps=10), in float64.
    #[test]
    fn curves_are_pytorchs() {
        let at = [0, 1, 2, 5, 9];
        let cases = [
            (Schedule::constant(), [1.0, 1.0, 1.0, 1.0, 1.0]),
            (Schedule::step(3, 0.5), [1.0, 1.0, 1.0, 0.5, 0.125]),
            (
                Schedule::cosine(10).floor(0.1),
                [1.0, 0.9779754323328191, 0.9140576474687263, 0.55, 0.12202456766718092],
            ),
            (Schedule::one_cycle(10), [0.04, 0.52, 1.0, 0.6112620219362892, 0.000004]),
        ];
        let mut failures = Failures::new();
        for (schedule, expected) in cases {
            failures.check(format!("{schedule:?}"), || {
                for (update, expected) in at.into_iter().zip(expected) {
                    let found = schedule.factor(update, &ScheduleState::default());
                    let close = abs_diff_eq!(f64::from(found), expected, epsilon = 1e-7);
                    assert!(close, "after {update}: {found}, expected {expected}");
                }
            });
        }
        failures.finish();
    }

    #[test]
    fn a_warm_up_ends_at_the_whole_rate() {
        let schedule = Schedule::step(2, 0.5).warm_up(4);
        let found: Vec<f32> = (0..8).map(|done| schedule.factor(done, &ScheduleState::default())).collect();
        assert_eq!(found, [0.25, 0.5, 0.75, 1.0, 1.0, 1.0, 0.5, 0.5]);
    }

    #[test]
    fn a_plateau_reduces_after_its_patience_and_not_below_the_floor() {
        let schedule = Schedule::plateau(1, 0.5).floor(0.2);
        let mut state = ScheduleState::default();
        let mut after = |value: f64| {
            schedule.observe(&mut state, value);
            schedule.factor(0, &state)
        };
        let found = [1.0, 0.9, 0.95, 0.8, 0.8, f64::NAN, 0.79999, 0.8, 0.8, 0.8, 0.8, 0.8].map(&mut after);
        assert_eq!(found, [1.0, 1.0, 1.0, 1.0, 1.0, 0.5, 0.5, 0.25, 0.25, 0.2, 0.2, 0.2]);
    }

    #[test]
    fn options_out_of_range_are_named() {
        let problem = |schedule: Schedule| schedule.check().unwrap_err().to_string();
        assert_eq!(problem(Schedule::step(2, 0.0)), "schedule: the factor is 0; expected above 0, at most 1");
        assert_eq!(problem(Schedule::cosine(0)), "schedule: it spans 0 updates; expected at least 1");
        assert_eq!(
            problem(Schedule::constant().floor(f32::NAN)),
            "schedule: the floor is NaN; expected 0 to 1"
        );
    }
}
