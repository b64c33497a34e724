//! Timing the strategies of scans on a device.

use crate::data::Sequences;
use crate::gpu::{Gpu, read_tuning, write_tuning};
use crate::{Device, Error, Network, Refusal};
use gatefold_model::{LayerKind, NetworkConfig, Parameters};
use gatefold_schedule::layer::recurrent::forms;
use gatefold_schedule::scan::{Form, Pass, Strategy, Tuning, key};
use ndarray::Array3;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Runs of a candidate that count, after one to warm up.
const RUNS: usize = 7;
/// A candidate whose first run takes this many times as long as the best one so far is not timed further.
const HOPELESS: u32 = 3;
/// The share by which another strategy must be faster than the plain one to be taken: less may be noise.
const GAIN: f64 = 0.03;
/// The largest difference from the plain strategy's results, as a share of the largest of them. Sums in another order
/// differ by a thousandth of that.
const AGREES_WITHIN: f32 = 1e-3;

/// One candidate of a kind of scan.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Candidate {
    /// The strategy as text, such as `step` or `workgroup 1 rows 4 parts 256 invocations 16 kept`.
    pub strategy: String,
    /// The median time of a run of the whole network, forward, or forward and backward; `None` if it was given up.
    pub time: Option<Duration>,
    /// Whether its results agree with those of a dispatch a step.
    pub agrees: bool,
    /// Whether it is used from now on.
    pub chosen: bool,
}

/// A kind of scan, and the strategies that were timed for it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TunedScan {
    /// The kind: cell, pass, hidden units, and the batch rounded up to a power of two, such as `lstm forward H 64 B 32`.
    pub kind: String,
    /// The candidates, the plain one first.
    pub candidates: Vec<Candidate>,
}

/// Times the few strategies that each recurrent layer of a network may take on a GPU with batches of `batch` rows and
/// `steps` steps, and stores the fastest in the user's cache folder, where GPUs that are opened later find them. A
/// strategy counts only if its results agree with those of a dispatch a step. Returns what was timed and the file,
/// `None` if the cache is off.
///
/// # Errors
/// [`Error::Refused`] for a network with a decoder, and for one that reads tokens; those of [`Network::new`],
/// [`Network::predict`] and [`Network::backward`]; [`Error::Model`] if the file cannot be written.
pub fn tune(
    gpu: &Gpu,
    config: &NetworkConfig,
    steps: usize,
    batch: usize,
) -> Result<(Vec<TunedScan>, Option<PathBuf>), Error> {
    let gpu = &crate::block_on(gpu.probed())?;
    let run = Run::new(gpu, config, steps, batch)?;
    let mut tuning = Tuning::clone(&gpu.target().tuning);
    let mut timed = Vec::new();
    for pass in Pass::ALL {
        for form in config.layers().iter().flat_map(forms) {
            // The steps of a dilated layer have that many times as many rows.
            let rows = form.dilation() * batch;
            let kind = key(&form, pass, rows);
            if timed.iter().all(|scan: &TunedScan| scan.kind != kind) {
                timed.push(run.tune(&mut tuning, &form, pass, (rows, kind))?);
            }
        }
    }
    // Together with what was found for other kinds.
    let mut known = read_tuning(gpu.info()).unwrap_or_default();
    known.extend(tuning);
    let file = write_tuning(gpu.info(), &known)?;
    Ok((timed, file))
}

/// A network to time, with its parameters, input and the gradient with respect to its output.
struct Run<'a> {
    gpu: &'a Gpu,
    config: &'a NetworkConfig,
    parameters: Parameters,
    input: Array3<f32>,
}

/// The results of a run, to compare: the outputs, or the gradients of the parameters one after the other.
type Results = Vec<f32>;

impl Run<'_> {
    fn new<'a>(
        gpu: &'a Gpu,
        config: &'a NetworkConfig,
        steps: usize,
        batch: usize,
    ) -> Result<Run<'a>, Error> {
        if config.decoder().is_some() || matches!(config.layers()[0].kind, LayerKind::Embedding { .. }) {
            return Err(Error::refused(
                Refusal::Decoder,
                "tune: expected a network of numbers without a decoder; tune its recurrent layers in a network of their own",
            ));
        }
        let parameters = Network::new(&Device::Gpu(gpu.clone()), config, 1)?.parameters()?;
        // Any bounded numbers will do.
        let input = Array3::from_shape_fn((steps, batch, config.input()), |(t, row, at)| {
            ((t * 31 + row * 17 + at * 7) % 64) as f32 / 32.0 - 1.0
        });
        Ok(Run { gpu, config, parameters, input })
    }

    /// Times the strategies for a kind of scan over so many rows.
    fn tune(
        &self,
        tuning: &mut Tuning,
        form: &Form,
        pass: Pass,
        (rows, kind): (usize, String),
    ) -> Result<TunedScan, Error> {
        let mut found: Vec<(Strategy, Candidate)> = Vec::new();
        let mut expected: Option<Results> = None;
        for strategy in Strategy::candidates(self.gpu.target(), form, pass, rows) {
            let mut with = tuning.clone();
            with.insert(kind.clone(), strategy);
            let network = Network::with_parameters(
                &Device::Gpu(self.gpu.with_tuning(with)),
                self.config,
                &self.parameters,
            )?;
            let best = found.iter().filter_map(|(_, candidate)| candidate.time).min();
            let (results, time) = self.time(&network, pass, best)?;
            let agrees = agree(&results, expected.get_or_insert_with(|| results.clone()));
            // Another scan was timed in the place of a grid whose workgroups gave up.
            let replaced = self.gpu.grid_notice().is_some();
            let time = time.filter(|_| !(replaced && matches!(strategy, Strategy::PersistentGrid(_))));
            let candidate = Candidate { strategy: strategy.to_string(), time, agrees, chosen: false };
            found.push((strategy, candidate));
        }
        let plain = found[0].1.time;
        let wins = |candidate: &Candidate| {
            let least = plain.map(|plain| plain.mul_f64(1.0 - GAIN));
            candidate.agrees && candidate.time.is_some_and(|time| least.is_none_or(|least| time < least))
        };
        let place =
            (1..found.len()).filter(|&at| wins(&found[at].1)).min_by_key(|&at| found[at].1.time).unwrap_or(0);
        found[place].1.chosen = true;
        tuning.insert(kind.clone(), found[place].0);
        Ok(TunedScan { kind, candidates: found.into_iter().map(|(_, candidate)| candidate).collect() })
    }

    /// The results of a candidate and the median time of its runs; `None` if it is far slower than the best.
    fn time(
        &self,
        network: &Network,
        pass: Pass,
        best: Option<Duration>,
    ) -> Result<(Results, Option<Duration>), Error> {
        let mut results = self.once(network, pass)?; // compiles the kernels
        let mut times = Vec::with_capacity(RUNS);
        for run in 0..RUNS {
            let begin = Instant::now();
            results = self.once(network, pass)?;
            times.push(begin.elapsed());
            if run == 0 && best.is_some_and(|best| times[0] > best * HOPELESS) {
                return Ok((results, None));
            }
        }
        times.sort_unstable();
        Ok((results, Some(times[RUNS / 2])))
    }

    fn once(&self, network: &Network, pass: Pass) -> Result<Results, Error> {
        let input = Sequences::from(self.input.view());
        match pass {
            Pass::Forward => Ok(network.predict(input)?.iter().copied().collect()),
            Pass::Backward => {
                let tape = network.forward_training(input, None, None)?;
                let d_output = tape.output().mapv(|y| 0.5 - y);
                let gradients = network.backward(tape, d_output.view(), None)?.parameters()?;
                Ok(gradients.iter().flat_map(|(_, values)| values.iter().copied()).collect())
            }
        }
    }
}

fn agree(found: &[f32], expected: &[f32]) -> bool {
    let largest = expected.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
    found.len() == expected.len()
        && found
            .iter()
            .zip(expected)
            .all(|(found, expected)| (found - expected).abs() <= AGREES_WITHIN * largest)
}
