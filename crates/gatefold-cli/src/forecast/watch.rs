use super::folder::Folder;
use super::log::{Log, Row};
use super::report::Report;
use crate::failure::Failure;
use gatefold::NetworkConfig;
use gatefold::file::Checkpoint;
use gatefold_forecast::{ForecastError, Progress, Settings, Stage, Watch, Watcher};
use indicatif::ProgressBar;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// A power cut loses at most this much work.
const BETWEEN_SAVES: Duration = Duration::from_secs(20);
/// Lines about one network, where there is no terminal.
const LINES: u64 = 4;

/// Shows progress, keeps logs and checkpoints, and stops when it was asked to.
pub(crate) struct Watching<'a> {
    report: &'a Report,
    /// Where checkpoints are kept, if they are.
    folder: Option<&'a Folder>,
    stop: Arc<AtomicBool>,
    settings: Settings,
    log: Log,
    /// The model and the stage under way.
    now: (String, Stage),
    bar: Option<ProgressBar>,
    begun: Option<(usize, u64, Instant)>,
    /// The last validation error that was seen, and of which network.
    looked: Option<(usize, f64)>,
    saved: Instant,
    networks: Vec<(String, NetworkConfig)>,
    /// A failure of the log, which stopped the run.
    failure: Option<Failure>,
}

impl<'a> Watching<'a> {
    pub(crate) fn new(
        report: &'a Report,
        folder: Option<&'a Folder>,
        stop: Arc<AtomicBool>,
        settings: &Settings,
        log: Log,
    ) -> Self {
        Watching {
            report,
            folder,
            stop,
            settings: settings.clone(),
            log,
            now: (String::new(), Stage::Validation),
            bar: None,
            begun: None,
            looked: None,
            saved: Instant::now(),
            networks: Vec::new(),
            failure: None,
        }
    }

    /// Watches networks with other settings from now on.
    pub(crate) fn train(&mut self, settings: &Settings) {
        self.settings = settings.clone();
    }

    /// Removes the bar and completes the log, also after a failure; gives the networks that were trained, with
    /// the names of their models.
    pub(crate) fn end(&mut self) -> Result<Vec<(String, NetworkConfig)>, Failure> {
        self.clear();
        self.failure.take().map_or(Ok(()), Err)?;
        self.log.finish()?;
        Ok(std::mem::take(&mut self.networks))
    }

    fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    /// The networks of this stage: a trial takes one of each kind.
    fn members(&self) -> usize {
        if self.tries() { 1 } else { self.settings.members }
    }

    /// Whether this stage only chooses options: its networks forecast nothing that is shown.
    fn tries(&self) -> bool {
        matches!(self.now.1, Stage::Trial { .. })
    }

    /// The updates that a network of this stage may take.
    fn updates(&self) -> u64 {
        self.settings.updates
    }
}

/// The stage in names of files and rows of logs.
fn name(stage: Stage) -> String {
    match stage {
        Stage::Trial { ids: false } => "trial-without-ids".into(),
        Stage::Trial { ids: true } => "trial-with-ids".into(),
        Stage::Validation => "validation".into(),
        Stage::Test => "test".into(),
        Stage::Future => "future".into(),
        Stage::Window(window) => format!("window-{}", window + 1),
    }
}

impl Watcher for Watching<'_> {
    fn begin(&mut self, model: &str, stage: Stage) {
        self.clear();
        self.now = (model.into(), stage);
        self.report.progress(format!("fitting   {model}, for the {}", name(stage).replace('-', " ")));
    }

    fn watch(&mut self, model: &str, stage: Stage) -> &mut dyn Watch {
        self.now = (model.into(), stage);
        self.bar = self.report.bar(self.members() as u64 * self.updates());
        (self.begun, self.looked) = (None, None);
        self
    }
}

impl Watch for Watching<'_> {
    fn progress(&mut self, progress: &Progress) -> bool {
        let &Progress { member, update, loss, validation } = progress;
        let (_, first, began) = match self.begun {
            Some(begun) if begun.0 == member => begun,
            _ => *self.begun.insert((member, update - 1, Instant::now())),
        };
        let looked = validation.filter(|error| self.looked != Some((member, *error)));
        self.looked = looked.map(|error| (member, error)).or(self.looked);
        let row = Row {
            model: self.now.0.clone(),
            stage: name(self.now.1),
            network: member + 1,
            update,
            loss,
            learning_rate: self.settings.rate_of(update),
            validation: looked,
            seconds: self.log.seconds(),
        };
        let written = self.log.add(&row);
        let (members, updates) = (self.members() as u64, self.updates());
        let state = || {
            let validation = validation.map_or_else(String::new, |error| format!(" val {error:.4}"));
            let (model, stage) = (&self.now.0, name(self.now.1));
            format!("{model} {}/{members} {stage} {update}/{updates} loss {loss:.4}{validation}", member + 1)
        };
        if let Some(bar) = &self.bar {
            bar.set_message(state());
            bar.set_position(member as u64 * updates + update);
        } else if update.is_multiple_of(updates.div_ceil(LINES)) {
            let rate = (update - first) as f64 / began.elapsed().as_secs_f64().max(1e-9);
            let left = ((members - member as u64) * updates - update) as f64 / rate;
            self.report.progress(format!("          {}  {rate:.0} updates/s, {} left", state(), time(left)));
        }
        written && !self.stop.load(Ordering::Relaxed)
    }

    fn wants_checkpoint(&mut self) -> bool {
        self.folder.is_some() && self.saved.elapsed() > BETWEEN_SAVES
    }

    fn keep(&mut self, member: usize, checkpoint: Checkpoint) -> Result<(), ForecastError> {
        self.saved = Instant::now();
        if !self.tries() && self.networks.iter().all(|(name, _)| *name != self.now.0) {
            self.networks.push((self.now.0.clone(), checkpoint.config.clone()));
        }
        let Some(folder) = self.folder else { return Ok(()) };
        Ok(checkpoint.save(folder.checkpoint(&self.now.0, &name(self.now.1), member))?)
    }

    fn kept(&mut self, member: usize) -> Result<Option<Checkpoint>, ForecastError> {
        let Some(folder) = self.folder else { return Ok(None) };
        let path = folder.checkpoint(&self.now.0, &name(self.now.1), member);
        if !path.exists() {
            return Ok(None);
        }
        let checkpoint = Checkpoint::load(path)?;
        if let Err(failure) =
            self.log.continue_from(&self.now.0, &name(self.now.1), member + 1, checkpoint.step)
        {
            self.failure = Some(failure);
            return Err(ForecastError::Stopped);
        }
        Ok(Some(checkpoint))
    }
}

/// Seconds in words: `8 s`, `12 min`.
fn time(seconds: f64) -> String {
    match seconds {
        seconds if seconds < 100.0 => format!("{seconds:.0} s"),
        seconds if seconds < 6000.0 => format!("{:.0} min", seconds / 60.0),
        seconds => format!("{:.1} h", seconds / 3600.0),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn times_are_short() {
        let found = [0.2, 99.0, 100.0, 5_000.0, 9_000.0].map(super::time);
        assert_eq!(found, ["0 s", "99 s", "2 min", "83 min", "2.5 h"]);
    }
}
