//! Missing values of series, from both sides of each gap.

mod combination;
mod gaps;
mod input;
mod regression;
mod rhythm;
mod task;

use crate::examples::{Examples, MOST_STEPS, spread};
use crate::{Long, LongColumns, TaskError};
use gaps::{draw_blocks, draw_points, interpolated, known, without};
use gatefold::{Loss, Network, Sequences, Targets};
use gatefold_series::{ErrorOrder, choose, find_season};
use input::{Guesses, Surroundings, Unit};
use ndarray::{Array2, ArrayView2, Axis};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
pub use regression::Regressions;
pub use rhythm::Rhythm;
use serde::{Deserialize, Serialize};
use std::fmt;
pub use task::{ImputeSettings, ImputeTask};

/// The share of the known values that networks are validated on, and their largest number.
const VALIDATION: (f64, usize) = (0.1, 1000);
/// The share of the known values that are hidden for each of the two tests, unless a number is asked for.
const TEST: (f64, usize) = (0.1, 200);
/// A series with fewer known values is filled, but nothing is hidden in it.
const FEW: usize = 10;
/// The lengths of hidden blocks, where the table has no gap to take them from.
const BLOCKS: [usize; 5] = [1, 2, 3, 5, 8];

/// A way to fill gaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// Straight lines between known values.
    Linear,
    /// The smoother of a linear dynamic system.
    Kalman,
    /// Linear regression on the values around, the smoother, the season and the other channels.
    Regression,
    /// Networks' corrections of one of the others.
    Network,
    /// The mean of all these, with weights.
    Combination,
}

/// Methods that a combination averages: all before it.
const COMBINED: usize = METHODS.len() - 1;

/// All methods, in the order of their numbers.
pub const METHODS: [Method; 5] =
    [Method::Linear, Method::Kalman, Method::Regression, Method::Network, Method::Combination];
/// A value for each of [`METHODS`].
pub type ByMethod = [f64; METHODS.len()];

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Method::Linear => "linear interpolation",
            Method::Kalman => "kalman smoothing",
            Method::Regression => "regression on both sides",
            Method::Network => "network",
            Method::Combination => "combination",
        })
    }
}

/// Places in the channels of sequences: for each sequence and each channel, in rising order.
type Places = Vec<Vec<Vec<usize>>>;

/// Series with gaps, and the known values that are hidden from training.
#[derive(Clone, Debug)]
pub struct ImputeData {
    /// The columns.
    pub columns: LongColumns,
    /// The channels with gaps, or all if there is none.
    pub targets: Vec<usize>,
    /// The season.
    pub rhythm: Rhythm,
    /// The channels of each sequence, NaN in gaps.
    pub series: Vec<Vec<Vec<f64>>>,
    /// The lengths of the gaps.
    pub gaps: Vec<usize>,
    validation: Places,
    points: Places,
    blocks: Places,
}

/// Values to hide: a set of those drawn once, before anything is trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hidden {
    /// Those that choose between networks and methods.
    Validation,
    /// The test: single values.
    Points,
    /// The test: blocks as long as the gaps of the table.
    Blocks,
}

impl ImputeData {
    /// Draws the values to hide: `hide` single ones, or else a tenth of the known values up to 200, as many in blocks like
    /// the gaps of the table, and a tenth for validation. `season` is found in the longest series unless it is given.
    ///
    /// # Errors
    /// [`TaskError::Data`] for a series without any known value, for fewer than 10 known values in all, and for more
    /// values to hide than half of the known ones.
    pub fn new(
        long: &Long,
        season: Option<usize>,
        hide: Option<usize>,
        seed: u64,
    ) -> Result<ImputeData, TaskError> {
        let channels = long.columns.channels.len();
        let series: Vec<Vec<Vec<f64>>> = long.sequences.iter().map(channels_of).collect();
        let missing =
            |channel: &usize| series.iter().any(|one| one[*channel].iter().any(|value| value.is_nan()));
        let mut targets: Vec<usize> = (0..channels).filter(missing).collect();
        if targets.is_empty() {
            targets = (0..channels).collect();
        }
        check_known(long, &series)?;
        let all = || series.iter().flat_map(|one| targets.iter().map(|channel| &one[*channel]));
        let longest = interpolated(all().max_by_key(|values| values.len()).expect("there is a series"));
        let season = season.unwrap_or_else(|| find_season(&longest).unwrap_or(1));
        let lengths: Vec<usize> = all().flat_map(|values| gaps::lengths(values)).collect();
        let mut data = ImputeData {
            columns: long.columns.clone(),
            targets: targets.clone(),
            rhythm: Rhythm::near(season, &longest),
            gaps: lengths,
            validation: Vec::new(),
            points: Vec::new(),
            blocks: Vec::new(),
            series,
        };
        data.draw(hide, seed)?;
        Ok(data)
    }

    fn draw(&mut self, hide: Option<usize>, seed: u64) -> Result<(), TaskError> {
        let count = self.count_known();
        let share = |(share, most): (f64, usize)| ((share * count as f64) as usize).min(most);
        let wanted = hide.unwrap_or_else(|| share(TEST));
        if count < FEW {
            return Err(TaskError::Data(format!("only {count} values are known; expected at least {FEW}")));
        }
        if wanted > count / 2 {
            return Err(TaskError::Data(format!(
                "{wanted} of {count} known values cannot be hidden; expected at most half of them"
            )));
        }
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let lengths = if self.gaps.is_empty() { BLOCKS.to_vec() } else { self.gaps.clone() };
        let mut left = self.series.clone();
        let nothing = vec![vec![Vec::new(); self.columns.channels.len()]; self.series.len()];
        self.points = nothing.clone();
        // Single values are drawn among all, so that every known value is as likely.
        let mut all: Vec<(usize, usize, usize)> = self
            .each()
            .flat_map(|(sequence, channel)| {
                known(&self.series[sequence][channel]).into_iter().map(move |at| (sequence, channel, at))
            })
            .collect();
        rand::seq::SliceRandom::shuffle(all.as_mut_slice(), &mut random);
        for (sequence, channel, at) in all.into_iter().take(wanted) {
            self.points[sequence][channel].push(at);
            left[sequence][channel][at] = f64::NAN;
        }
        self.points.iter_mut().flatten().for_each(|places| places.sort_unstable());
        self.blocks = nothing.clone();
        self.validation = nothing;
        let validation = share(VALIDATION) as f64 / count as f64;
        let blocks = wanted.min(share(TEST)) as f64 / count as f64;
        for (sequence, channel) in self.each().collect::<Vec<_>>() {
            let values = &mut left[sequence][channel];
            let here = known(values).len() as f64;
            let part = |share: f64| (share * here).round() as usize;
            let blocks = draw_blocks(values, &lengths, part(blocks), &mut random);
            *values = without(values, &blocks);
            let mut validated = draw_points(values, part(validation / 2.0), &mut random);
            *values = without(values, &validated);
            validated.extend(draw_blocks(values, &lengths, part(validation / 2.0), &mut random));
            validated.sort_unstable();
            self.blocks[sequence][channel] = blocks;
            self.validation[sequence][channel] = validated;
        }
        Ok(())
    }

    /// The sequences and channels with enough known values to hide some.
    fn each(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        let pairs =
            (0..self.series.len()).flat_map(|sequence| self.targets.iter().map(move |at| (sequence, *at)));
        pairs.filter(|(sequence, channel)| known(&self.series[*sequence][*channel]).len() >= FEW)
    }

    fn count_known(&self) -> usize {
        self.each().map(|(sequence, channel)| known(&self.series[sequence][channel]).len()).sum()
    }

    /// The number of values that are missing.
    pub fn missing(&self) -> usize {
        self.gaps.iter().sum()
    }

    /// The number of values that a set hides.
    pub fn count(&self, hidden: Hidden) -> usize {
        self.places(hidden).iter().flatten().map(Vec::len).sum()
    }

    fn places(&self, hidden: Hidden) -> &Places {
        match hidden {
            Hidden::Validation => &self.validation,
            Hidden::Points => &self.points,
            Hidden::Blocks => &self.blocks,
        }
    }

    /// The values that are visible when a set is hidden. In training and validation all three sets are; a test hides
    /// its own alone.
    fn visible(&self, hidden: Hidden) -> Vec<Vec<Vec<f64>>> {
        let all: Vec<&Places> = match hidden {
            Hidden::Validation => vec![&self.validation, &self.points, &self.blocks],
            test => vec![self.places(test)],
        };
        let mut left = self.series.clone();
        for places in all {
            for (left, places) in left.iter_mut().flatten().zip(places.iter().flatten()) {
                *left = without(left, places);
            }
        }
        left
    }
}

/// The channels of a sequence, one after the other.
fn channels_of(sequence: &crate::LongSequence) -> Vec<Vec<f64>> {
    sequence.values.columns().into_iter().map(|column| column.to_vec()).collect()
}

fn check_known(long: &Long, series: &[Vec<Vec<f64>>]) -> Result<(), TaskError> {
    for (sequence, channels) in long.sequences.iter().zip(series) {
        for (name, values) in long.columns.channels.iter().zip(channels) {
            if known(values).is_empty() {
                let of = if sequence.id.is_empty() { String::new() } else { format!(" of {sequence}") };
                return Err(TaskError::Data(format!(
                    "column {name}{of} has no value at all: nothing says how to fill it; leave it out with --channel"
                )));
            }
        }
    }
    Ok(())
}

/// Everything that filling gaps needs besides networks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ImputerData {
    /// The columns of the table.
    pub columns: LongColumns,
    /// The channels that are filled, by their places among the columns.
    pub targets: Vec<usize>,
    /// The season.
    pub rhythm: Rhythm,
    /// The regressions.
    pub regressions: Regressions,
    /// The method that the values hidden for validation chose.
    pub method: Method,
    /// The weights of all methods before [`Method::Combination`] in it.
    pub weights: [f64; COMBINED],
    /// The method that networks add to.
    pub start: Method,
    /// The absolute errors of the chosen method on the values hidden for validation, in standard deviations of the
    /// smoother, in rising order.
    pub errors: Vec<f64>,
    /// The mean absolute error of each method on the values hidden for validation, in mean changes of the series.
    pub validation: ByMethod,
}

/// Trained networks that fill gaps together, with the methods that need no training.
#[derive(Debug)]
pub struct Imputer {
    /// The facts stored with each network.
    pub data: ImputerData,
    /// The networks, whose mean counts.
    pub networks: Vec<Network>,
}

/// One value that is filled, by every method.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Filled {
    /// The sequence.
    pub sequence: usize,
    /// The channel.
    pub channel: usize,
    /// The step.
    pub step: usize,
    /// The value by each of [`METHODS`].
    pub values: ByMethod,
    /// The standard deviation that the smoother gives it.
    deviation: f64,
    /// The mean change of its series.
    unit: f64,
}

impl ImputerData {
    /// The methods that count in the combination, with their weights: the greatest first.
    pub fn combination(&self) -> Vec<(Method, f64)> {
        let all = METHODS.into_iter().zip(self.weights);
        let mut weighted: Vec<(Method, f64)> = all.filter(|(_, weight)| *weight > 0.0).collect();
        weighted.sort_by(|a, b| b.1.total_cmp(&a.1));
        weighted
    }
}

impl Imputer {
    /// Weighs and chooses methods by the values hidden for validation, for networks that were trained on the rest. The
    /// combination is chosen unless another method is better by more than one standard error. Each of its errors there is
    /// that of weights from other values.
    ///
    /// # Errors
    /// [`TaskError::Series`] where a series cannot be smoothed; those of the device.
    pub fn chosen(
        data: &ImputeData,
        task: &ImputeTask,
        networks: Vec<Network>,
    ) -> Result<Imputer, TaskError> {
        let facts = ImputerData {
            columns: data.columns.clone(),
            targets: data.targets.clone(),
            rhythm: data.rhythm,
            regressions: task.regressions().clone(),
            method: Method::Combination,
            weights: [1.0 / COMBINED as f64; COMBINED],
            start: task.start(),
            errors: Vec::new(),
            validation: [f64::NAN; METHODS.len()],
        };
        let mut imputer = Imputer { data: facts, networks };
        let found = imputer.hidden(data, Hidden::Validation)?;
        let signed = |filled: &Filled| -> [f64; COMBINED] {
            let truth = data.series[filled.sequence][filled.channel][filled.step];
            std::array::from_fn(|method| (filled.values[method] - truth) / filled.unit)
        };
        let rows: Vec<[f64; COMBINED]> = found.iter().map(signed).collect();
        let mut errors: Vec<Vec<f64>> =
            (0..COMBINED).map(|method| rows.iter().map(|row| row[method].abs()).collect()).collect();
        errors.push(combination::out_of_fold(&rows).iter().map(|error| error.abs()).collect());
        // Values of a block lie side by side.
        let overlap = data.missing().div_ceil(data.gaps.len().max(1)).max(1);
        let order = ErrorOrder { origins: found.len().max(1), overlap };
        let errors_by_method: Vec<&[f64]> = errors.iter().map(Vec::as_slice).collect();
        let best = choose(&errors_by_method, Some(COMBINED), order)
            // Without a value to judge by, the smoother.
            .filter(|_| !found.is_empty())
            .unwrap_or(1);
        imputer.data.method = METHODS[best];
        imputer.data.weights = combination::weights(&rows);
        let mean = |errors: &Vec<f64>| errors.iter().sum::<f64>() / errors.len().max(1) as f64;
        imputer.data.validation = std::array::from_fn(|method| mean(&errors[method]));
        let in_deviations = |(error, filled): (&f64, &Filled)| error * filled.unit / filled.deviation;
        let mut scaled: Vec<f64> = errors[best].iter().zip(&found).map(in_deviations).collect();
        scaled.sort_by(f64::total_cmp);
        imputer.data.errors = scaled;
        Ok(imputer)
    }

    /// Fills the values that a set hides, all others being visible.
    ///
    /// # Errors
    /// As [`Imputer::chosen`].
    pub fn hidden(&self, data: &ImputeData, hidden: Hidden) -> Result<Vec<Filled>, TaskError> {
        let visible = data.visible(hidden);
        let mut found = Vec::new();
        for (sequence, (visible, places)) in visible.iter().zip(data.places(hidden)).enumerate() {
            found.extend(self.fill(sequence, visible, places)?);
        }
        Ok(found)
    }

    /// Fills every gap of the targets of a table.
    ///
    /// # Errors
    /// [`TaskError::Data`] for a series without any known value; as [`Imputer::chosen`].
    pub fn fill_gaps(&self, long: &Long) -> Result<Vec<Filled>, TaskError> {
        let series: Vec<Vec<Vec<f64>>> = long.sequences.iter().map(channels_of).collect();
        check_known(long, &series)?;
        let mut found = Vec::new();
        for (sequence, channels) in series.iter().enumerate() {
            let missing = |(channel, values): (usize, &Vec<f64>)| -> Vec<usize> {
                let target = self.data.targets.contains(&channel);
                (0..values.len()).filter(|at| target && values[*at].is_nan()).collect()
            };
            let places: Vec<Vec<usize>> = channels.iter().enumerate().map(missing).collect();
            found.extend(self.fill(sequence, channels, &places)?);
        }
        Ok(found)
    }

    /// Fills some places of the channels of a sequence.
    fn fill(
        &self,
        sequence: usize,
        visible: &[Vec<f64>],
        places: &[Vec<usize>],
    ) -> Result<Vec<Filled>, TaskError> {
        if places.iter().all(Vec::is_empty) {
            return Ok(Vec::new());
        }
        let season = self.data.rhythm.season;
        let units: Vec<Unit> =
            visible.iter().map(|values| Unit::of(values, season)).collect::<Result<_, _>>()?;
        let mut found = Vec::new();
        for (channel, places) in places.iter().enumerate().filter(|(_, places)| !places.is_empty()) {
            let Guessed { guesses, input, change } = self.guessed(channel, visible, &units)?;
            let start = start_of(self.data.start, &guesses);
            let added = match self.networks.is_empty() {
                true => vec![0.0; start.len()],
                false => self.added(input.view())?,
            };
            let value = |step: usize| {
                let network = start[step] + change * added[step];
                let all = [guesses.linear[step], guesses.kalman[step], guesses.regression[step], network];
                let mean = combination::combined(&all, &self.data.weights);
                std::array::from_fn(|method| all.get(method).copied().unwrap_or(mean))
            };
            found.extend(places.iter().map(|&step| Filled {
                sequence,
                channel,
                step,
                values: value(step),
                deviation: guesses.deviation[step],
                unit: change,
            }));
        }
        Ok(found)
    }

    /// A channel with gaps as all methods guess it, and as networks read it.
    fn guessed(&self, channel: usize, visible: &[Vec<f64>], units: &[Unit]) -> Result<Guessed, TaskError> {
        let mut guesses = Guesses::of(&visible[channel], &units[channel])?;
        let around = Surroundings::of(channel, visible, units, self.data.rhythm);
        self.data.regressions.guess(&around, &mut guesses);
        let input = around.input(start_of(self.data.start, &guesses));
        Ok(Guessed { guesses, input, change: around.change() })
    }

    /// At most `count` pieces of the series that are filled, evenly spaced and of up to 200 steps each, in which a tenth
    /// of the known values are hidden. The loss counts at these.
    ///
    /// # Errors
    /// [`TaskError::Data`] for a series without any known value, or if there are fewer than 10 in each; as
    /// [`Imputer::chosen`].
    pub fn examples(&self, long: &Long, count: usize) -> Result<Examples, TaskError> {
        let series: Vec<Vec<Vec<f64>>> = long.sequences.iter().map(channels_of).collect();
        check_known(long, &series)?;
        let mut random = ChaCha8Rng::seed_from_u64(0);
        let mut pieces = Vec::new();
        for channels in &series {
            for &channel in &self.data.targets {
                let hidden = known(&channels[channel]).len() / 10;
                let hidden = draw_points(&channels[channel], hidden, &mut random);
                if !hidden.is_empty() {
                    pieces.extend(self.pieces(channel, channels, &hidden)?);
                }
            }
        }
        let problem = "every series has fewer than 10 known values; expected some to hide";
        let chosen = spread(&pieces, count, |(_, wanted)| wanted.len(), problem)?;
        let rows: Vec<ArrayView2<f32>> = chosen.iter().map(|(input, _)| input.view()).collect();
        let shape = (rows.iter().map(|row| row.nrows()).max().unwrap_or(0), rows.len());
        let wanted = |(t, row): (usize, usize)| chosen[row].1.get(t).copied().flatten();
        let weights = Array2::from_shape_fn(shape, |at| f32::from(u8::from(wanted(at).is_some())));
        let targets = Array2::from_shape_fn(shape, |at| wanted(at).unwrap_or(0.0)).insert_axis(Axis(2));
        let targets = Targets::values(targets).with_weights(weights)?;
        Ok(Examples { input: Sequences::of_rows(&rows)?, targets, loss: Loss::AbsoluteError })
    }

    /// The pieces of a channel with a value that is hidden: what a network reads, and what it should add at each step.
    fn pieces(
        &self,
        channel: usize,
        channels: &[Vec<f64>],
        hidden: &[usize],
    ) -> Result<Vec<Piece>, TaskError> {
        let truth = &channels[channel];
        let mut visible = channels.to_vec();
        visible[channel] = without(truth, hidden);
        let units: Vec<Unit> = visible
            .iter()
            .map(|values| Unit::of(values, self.data.rhythm.season))
            .collect::<Result<_, _>>()?;
        let Guessed { guesses, input, change } = self.guessed(channel, &visible, &units)?;
        let start = start_of(self.data.start, &guesses);
        let wanted = |at: usize| hidden.contains(&at).then(|| ((truth[at] - start[at]) / change) as f32);
        let pieces = (0..truth.len()).step_by(MOST_STEPS).map(|begin| {
            let steps = begin..truth.len().min(begin + MOST_STEPS);
            (around(&input, begin, steps.len()).to_owned(), steps.map(wanted).collect::<Vec<_>>())
        });
        Ok(pieces.filter(|(_, wanted)| wanted.iter().any(Option::is_some)).collect())
    }

    /// The mean of what the networks add, in mean changes of the series.
    fn added(&self, input: ArrayView2<f32>) -> Result<Vec<f64>, TaskError> {
        let mut sum = vec![0.0; input.nrows()];
        for network in &self.networks {
            let output = network.predict(input.insert_axis(Axis(1)))?;
            sum.iter_mut().zip(&output).for_each(|(sum, value)| *sum += f64::from(*value));
        }
        sum.iter_mut().for_each(|sum| *sum /= self.networks.len() as f64);
        Ok(sum)
    }

    /// The value of the chosen method and the ends of its interval of probability `level`, between 0 and 1.
    ///
    /// The interval holds as many standard deviations of the smoother as that share of the errors on the values hidden for
    /// validation (conformal prediction: Vovk, Gammerman and Shafer 2005); NaN where there is no such value.
    pub fn interval(&self, filled: &Filled, level: f64) -> [f64; 3] {
        let errors = &self.data.errors;
        let rank = ((errors.len() + 1) as f64 * level).ceil() as usize;
        let widths = errors.get(rank.max(1) - 1).or(errors.last()).copied().unwrap_or(f64::NAN);
        let value = filled.values[METHODS.iter().position(|method| *method == self.data.method).unwrap_or(0)];
        [value, value - widths * filled.deviation, value + widths * filled.deviation]
    }
}

/// A channel with gaps.
struct Guessed {
    guesses: Guesses,
    /// The networks' input.
    input: Array2<f32>,
    /// The mean change of the channel.
    change: f64,
}

/// Some steps that a network reads, and what it should add at each; `None` where no value is hidden.
type Piece = (Array2<f32>, Vec<Option<f32>>);

fn start_of(start: Method, guesses: &Guesses) -> &[f64] {
    match start {
        Method::Linear => &guesses.linear,
        Method::Kalman => &guesses.kalman,
        Method::Regression | Method::Network | Method::Combination => &guesses.regression,
    }
}

/// Errors of a method on hidden values.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ImputeErrors {
    /// The mean absolute error.
    pub mae: f64,
    /// The root of the mean squared error.
    pub rmse: f64,
}

impl ImputeErrors {
    /// The errors of pairs of truth and guess; NaN without any.
    pub fn of(pairs: impl Iterator<Item = (f64, f64)>) -> ImputeErrors {
        let (mut absolute, mut squares, mut count) = (0.0, 0.0, 0.0);
        for (truth, guess) in pairs {
            absolute += (truth - guess).abs();
            squares += (truth - guess).powi(2);
            count += 1.0;
        }
        ImputeErrors { mae: absolute / count, rmse: (squares / count).sqrt() }
    }
}

/// The rows of an input around a step.
pub(super) fn around(input: &Array2<f32>, begin: usize, len: usize) -> ArrayView2<'_, f32> {
    input.slice(ndarray::s![begin..begin + len, ..])
}

#[cfg(test)]
mod tests;
