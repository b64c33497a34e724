use super::gaps::{draw_blocks, draw_points, without};
use super::input::{Guesses, Surroundings, Unit, width};
use super::regression::{Regressions, Rows};
use super::{BLOCKS, Hidden, ImputeData, Method, around, start_of};
use crate::{Recurrent, Task, TaskError};
use gatefold::layers::{DenseConfig, Direction, LayerConfig};
use gatefold::{Loss, Network, NetworkConfig, Optimizer, Sequences, Targets, TrainConfig};
use ndarray::{Array2, Array3, ArrayView2, Axis};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use serde::{Deserialize, Serialize};

/// Each series is hidden in so many ways, fewer where the series are long.
const WAYS: usize = 48;
/// The steps of all series in all ways, at most, unless each series has but a few ways.
const STEPS: usize = 300_000;
/// The share of the values that a way hides.
const SHARE: f64 = 0.1;

/// A network that fills gaps, and its training.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ImputeSettings {
    /// The recurrent layers, which read in both directions.
    pub recurrent: Recurrent,
    /// The share of outputs that dropout removes in training.
    pub dropout: f32,
    /// The most steps of a series that an update sees.
    pub window: usize,
    /// Windows per update.
    pub batch: usize,
    /// The seed of the values hidden in training.
    pub seed: u64,
}

/// A series with some values hidden.
#[derive(Clone, Debug)]
struct Example {
    input: Array2<f32>,
    hidden: Vec<usize>,
    /// The change from the start at the hidden places, in mean changes of the series.
    wanted: Vec<f32>,
}

/// The training of networks that fill gaps: they learn what to add to a simpler method where values are hidden.
#[derive(Debug)]
pub struct ImputeTask {
    settings: ImputeSettings,
    start: Method,
    regressions: Regressions,
    width: usize,
    examples: Vec<Example>,
    /// The hidden places up to the end of each example.
    places: Vec<usize>,
    validation: Vec<Example>,
}

impl ImputeTask {
    /// Hides values of the training part in many ways. The method that does best on the values hidden for validation is
    /// the one to start from.
    ///
    /// # Errors
    /// [`TaskError::Data`] when no value can be hidden; [`TaskError::Series`] where a series cannot be smoothed.
    pub fn new(data: &ImputeData, settings: ImputeSettings) -> Result<ImputeTask, TaskError> {
        let visible = data.visible(Hidden::Validation);
        let unit = |values: &Vec<f64>| Unit::of(values, data.rhythm.season);
        let units = visible.iter().map(|channels| channels.iter().map(unit).collect());
        let units: Vec<Vec<Unit>> = units.collect::<Result<_, TaskError>>()?;
        let mut ways = ways(data, &visible, &units, settings.seed)?;
        let mut rows = Rows::new(data.columns.channels.len());
        for way in &ways {
            rows.add(&way.surroundings(data, &units), &way.guesses, &way.hidden, way.truth(data));
        }
        let regressions = rows.solved();
        let mut held_out = Vec::new();
        for (sequence, channel) in data.each() {
            let hidden = data.places(Hidden::Validation)[sequence][channel].clone();
            if !hidden.is_empty() {
                let guesses = Guesses::of(&visible[sequence][channel], &units[sequence][channel])?;
                held_out.push(Way { sequence, channel, visible: visible[sequence].clone(), hidden, guesses });
            }
        }
        for way in ways.iter_mut().chain(&mut held_out) {
            let mut guesses = way.guesses.clone();
            regressions.guess(&way.surroundings(data, &units), &mut guesses);
            way.guesses = guesses;
        }
        let start = best_start(data, &held_out, &units);
        let examples = ways.iter().map(|way| way.example(data, &units, start));
        let examples: Vec<Example> = examples.collect();
        let places = examples.iter().scan(0, |sum, example| {
            *sum += example.hidden.len();
            Some(*sum)
        });
        let places: Vec<usize> = places.collect();
        if places.is_empty() {
            return Err(TaskError::Data("too few values are known to hide some for training".into()));
        }
        let validation = held_out.iter().map(|way| way.example(data, &units, start)).collect();
        let width = width(data.columns.channels.len(), data.rhythm);
        Ok(ImputeTask { settings, start, regressions, width, examples, places, validation })
    }

    /// The regressions on the surroundings of gaps.
    pub fn regressions(&self) -> &Regressions {
        &self.regressions
    }

    /// The method that networks add to.
    pub fn start(&self) -> Method {
        self.start
    }

    /// The values hidden in training, over all ways.
    pub fn hidden(&self) -> usize {
        self.places.last().copied().unwrap_or(0)
    }

    /// A window of a random example that holds a random one of its hidden places: the example, and the first step.
    fn window(&self, random: &mut ChaCha8Rng) -> (&Example, usize, usize) {
        let drawn = random.random_range(0..self.hidden());
        let place = self.places.partition_point(|end| *end <= drawn);
        let example = &self.examples[place];
        let at = example.hidden[drawn - if place == 0 { 0 } else { self.places[place - 1] }];
        let steps = example.input.nrows();
        let len = steps.min(self.settings.window);
        let before = random.random_range(0..len);
        (example, at.saturating_sub(before).min(steps - len), len)
    }
}

/// A channel of a sequence with some values hidden, and all other channels.
struct Way {
    sequence: usize,
    channel: usize,
    visible: Vec<Vec<f64>>,
    hidden: Vec<usize>,
    guesses: Guesses,
}

impl Way {
    fn surroundings<'a>(&'a self, data: &ImputeData, units: &'a [Vec<Unit>]) -> Surroundings<'a> {
        Surroundings::of(self.channel, &self.visible, &units[self.sequence], data.rhythm)
    }

    fn truth<'a>(&self, data: &'a ImputeData) -> &'a [f64] {
        &data.series[self.sequence][self.channel]
    }

    fn example(&self, data: &ImputeData, units: &[Vec<Unit>], start: Method) -> Example {
        let around = self.surroundings(data, units);
        let (start, truth) = (start_of(start, &self.guesses), self.truth(data));
        let wanted =
            self.hidden.iter().map(|at| ((truth[*at] - start[*at]) / around.change()) as f32).collect();
        Example { input: around.input(start), hidden: self.hidden.clone(), wanted }
    }
}

/// Hides values of every series in many ways: single ones, and blocks like the gaps.
fn ways(
    data: &ImputeData,
    visible: &[Vec<Vec<f64>>],
    units: &[Vec<Unit>],
    seed: u64,
) -> Result<Vec<Way>, TaskError> {
    let steps: usize = data.each().map(|(sequence, channel)| data.series[sequence][channel].len()).sum();
    let count = (STEPS / steps.max(1)).clamp(2, WAYS);
    let lengths = if data.gaps.is_empty() { BLOCKS.to_vec() } else { data.gaps.clone() };
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream(u64::MAX);
    let mut ways = Vec::new();
    for (sequence, channel) in data.each() {
        for way in 0..count {
            let values = &visible[sequence][channel];
            let known = values.iter().filter(|value| !value.is_nan()).count();
            let wanted = ((SHARE * known as f64).ceil() as usize).max(1);
            let hidden = match way % 2 {
                0 => draw_points(values, wanted, &mut random),
                _ => draw_blocks(values, &lengths, wanted, &mut random),
            };
            let mut left = visible[sequence].clone();
            left[channel] = without(values, &hidden);
            if !hidden.is_empty() && hidden.len() < known {
                let guesses = Guesses::of(&left[channel], &units[sequence][channel])?;
                ways.push(Way { sequence, channel, visible: left, hidden, guesses });
            }
        }
    }
    Ok(ways)
}

/// Of the methods without a network, the one with the least mean absolute error on the values hidden for validation; the
/// smoother where there are none.
fn best_start(data: &ImputeData, held_out: &[Way], units: &[Vec<Unit>]) -> Method {
    let error = |method: &Method| -> f64 {
        let of = |way: &Way| -> f64 {
            let (guess, truth) = (start_of(*method, &way.guesses), way.truth(data));
            let change = units[way.sequence][way.channel].change;
            way.hidden.iter().map(|at| (guess[*at] - truth[*at]).abs() / change).sum()
        };
        held_out.iter().map(of).sum()
    };
    let candidates = [Method::Linear, Method::Kalman, Method::Regression].iter();
    let best = candidates.min_by(|a, b| error(a).total_cmp(&error(b)));
    if held_out.is_empty() { Method::Kalman } else { best.copied().unwrap_or(Method::Kalman) }
}

impl Task for ImputeTask {
    fn network(&self) -> Result<NetworkConfig, TaskError> {
        let mut layers = self.settings.recurrent.stack(Direction::Bidirectional, self.settings.dropout);
        layers.push(LayerConfig::Dropout { rate: self.settings.dropout });
        layers.push(DenseConfig::new(1).into());
        Ok(NetworkConfig::new(self.width, layers)?)
    }

    fn training(&self) -> TrainConfig {
        TrainConfig::new().loss(Loss::AbsoluteError).optimizer(Optimizer::adamw())
    }

    fn batch(
        &self,
        _update: u64,
        random: &mut ChaCha8Rng,
    ) -> Result<(Sequences<'static>, Targets<'static>), TaskError> {
        let windows: Vec<(&Example, usize, usize)> =
            (0..self.settings.batch).map(|_| self.window(random)).collect();
        let rows: Vec<ArrayView2<f32>> =
            windows.iter().map(|(example, begin, len)| around(&example.input, *begin, *len)).collect();
        let steps = windows.iter().map(|(_, _, len)| *len).max().unwrap_or(0);
        let mut targets = Array3::zeros((steps, windows.len(), 1));
        let mut weights = Array2::zeros((steps, windows.len()));
        for (row, (example, begin, len)) in windows.iter().enumerate() {
            for (at, wanted) in example.hidden.iter().zip(&example.wanted) {
                if (*begin..begin + len).contains(at) {
                    targets[[at - begin, row, 0]] = *wanted;
                    weights[[at - begin, row]] = 1.0;
                }
            }
        }
        Ok((Sequences::of_rows(&rows)?, Targets::values(targets).with_weights(weights)?))
    }

    fn error(&self, network: &Network) -> Result<Option<f64>, TaskError> {
        let (mut sum, mut count) = (0.0, 0usize);
        for example in &self.validation {
            let output = network.predict(example.input.view().insert_axis(Axis(1)))?;
            for (at, wanted) in example.hidden.iter().zip(&example.wanted) {
                sum += f64::from((output[[*at, 0, 0]] - wanted).abs());
                count += 1;
            }
        }
        Ok((count > 0).then(|| sum / count as f64))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Everything that networks see in training, and what they are to answer.
    pub(in super::super) fn inputs(task: &ImputeTask) -> Vec<f32> {
        let numbers = task.examples.iter().flat_map(|example| example.input.iter().chain(&example.wanted));
        numbers.copied().collect()
    }
}
