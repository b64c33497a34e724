use crate::encode::{Encoder, Window};
use crate::network::{Training, TrainingSet, softplus};
use crate::{ForecastError, Settings};
use gatefold::{Device, Network};
use ndarray::Array3;

/// Windows per call of a network outside training: bounds memory, changes no result.
const AT_ONCE: usize = 512;

/// Fits networks to series.
#[derive(Clone, Debug)]
pub struct Forecaster {
    settings: Settings,
}

/// Where training stands, for whoever shows it.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// The network in training, from 0.
    pub member: usize,
    /// Updates of this network done.
    pub update: u64,
    /// The mean loss of its last batch.
    pub loss: f32,
}

impl Forecaster {
    /// A forecaster with these settings.
    pub fn new(settings: Settings) -> Self {
        Forecaster { settings }
    }

    /// Trains the networks on whole series, oldest sample first. `report` is called after each update, and stops the
    /// training by returning false.
    ///
    /// # Errors
    /// [`ForecastError::Settings`] and [`ForecastError::Series`] for series that are too short for the settings,
    /// [`ForecastError::Stopped`], and those of the device.
    pub fn fit(
        &self,
        device: &Device,
        series: &[&[f64]],
        mut report: impl FnMut(Progress) -> bool,
    ) -> Result<Fitted, ForecastError> {
        let settings = &self.settings;
        let encoder = Encoder::fit(settings, series)?;
        let set = TrainingSet::new(&encoder, series, settings.horizon);
        let mut members = Vec::with_capacity(settings.members);
        for member in 0..settings.members {
            let mut training = Training::new(device, &set, settings, settings.seed + member as u64)?;
            for update in 0..settings.updates {
                let loss = training.update()?;
                if !loss.is_finite() {
                    return Err(ForecastError::Settings(format!(
                        "the loss is not finite after {update} updates; use a smaller learning rate, and look for \
                         outliers in the table"
                    )));
                }
                if !report(Progress { member, update: update + 1, loss }) {
                    return Err(ForecastError::Stopped);
                }
            }
            members.push(training.finish()?);
        }
        drop(set);
        Ok(Fitted { settings: settings.clone(), encoder, members })
    }
}

/// Trained networks and what they need to forecast.
#[derive(Debug)]
pub struct Fitted {
    settings: Settings,
    encoder: Encoder,
    members: Vec<Network>,
}

impl Fitted {
    /// The settings of the training.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The networks, one for each seed.
    pub fn networks(&self) -> &[Network] {
        &self.members
    }

    /// The samples that must be known before a forecast.
    pub fn needed(&self) -> usize {
        self.encoder.needed()
    }

    /// Forecasts the horizon after the known samples of several series, given by their number in the training:
    /// `[3, rows, horizon]`, the median, then the ends of an interval of 95 %, not calibrated.
    ///
    /// # Errors
    /// [`ForecastError::Settings`] when too few samples are known; those of the device.
    pub fn forecast(&self, known: &[(usize, &[f64])]) -> Result<Array3<f64>, ForecastError> {
        let horizon = self.settings.horizon;
        let mut out = Array3::zeros((3, known.len(), horizon));
        for (at, known) in known.chunks(AT_ONCE).enumerate() {
            self.forecast_some(known, |end, row, k, value| out[[end, at * AT_ONCE + row, k]] = value)?;
        }
        Ok(out)
    }

    fn forecast_some(
        &self,
        known: &[(usize, &[f64])],
        mut give: impl FnMut(usize, usize, usize, f64),
    ) -> Result<(), ForecastError> {
        if let Some((_, past)) = known.iter().find(|(_, past)| past.len() < self.needed()) {
            return Err(ForecastError::Settings(format!(
                "a forecast needs {} samples before it; found {}; give a table with more rows",
                self.needed(),
                past.len()
            )));
        }
        let windows: Vec<Window> =
            known.iter().map(|(series, past)| self.encoder.window(*series, past)).collect();
        let (steps, width) = self.encoder.shape();
        let input = Array3::from_shape_fn((steps, windows.len(), width), |(t, row, k)| {
            windows[row].input[t * width + k]
        });
        let outputs =
            self.members.iter().map(|network| network.predict(&input)).collect::<Result<Vec<_>, _>>()?;
        let horizon = self.settings.horizon;
        for (row, window) in windows.iter().enumerate() {
            for k in 0..horizon {
                let base = window.base[k];
                let of = |value: fn(&Array3<f32>, usize, usize, usize) -> f32| {
                    median(outputs.iter().map(|output| value(output, row, k, horizon)).collect())
                };
                let middle = of(|output, row, k, _| output[[0, row, k]]);
                let low = of(|output, row, k, horizon| softplus(output[[0, row, horizon + k]]));
                let high = of(|output, row, k, horizon| softplus(output[[0, row, 2 * horizon + k]]));
                for (end, value) in [middle, middle - low, middle + high].into_iter().enumerate() {
                    give(end, row, k, window.unit.decoded(f64::from(base + value)));
                }
            }
        }
        Ok(())
    }
}

fn median(mut values: Vec<f32>) -> f32 {
    values.sort_unstable_by(f32::total_cmp);
    let half = values.len() / 2;
    if values.len() % 2 == 1 { values[half] } else { 0.5 * (values[half - 1] + values[half]) }
}
