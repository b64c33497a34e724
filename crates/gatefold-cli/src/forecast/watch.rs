use super::folder::Folder;
use super::report::Report;
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

/// Shows progress, keeps checkpoints, and stops when it was asked to.
pub(super) struct Watching<'a> {
    report: &'a Report,
    folder: &'a Folder,
    stop: Arc<AtomicBool>,
    members: usize,
    updates: u64,
    /// The model and the stage under way.
    now: (String, Stage),
    bar: Option<ProgressBar>,
    begun: Option<(usize, u64, Instant)>,
    saved: Instant,
}

impl<'a> Watching<'a> {
    pub(super) fn new(
        report: &'a Report,
        folder: &'a Folder,
        stop: Arc<AtomicBool>,
        settings: &Settings,
    ) -> Self {
        Watching {
            report,
            folder,
            stop,
            members: settings.members,
            updates: settings.updates,
            now: (String::new(), Stage::Validation),
            bar: None,
            begun: None,
            saved: Instant::now(),
        }
    }

    /// Removes the bar.
    pub(super) fn end(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

fn name(stage: Stage) -> &'static str {
    match stage {
        Stage::Validation => "validation",
        Stage::Test => "test",
        Stage::Future => "future",
    }
}

impl Watcher for Watching<'_> {
    fn begin(&mut self, model: &str, stage: Stage) {
        self.end();
        self.now = (model.into(), stage);
        self.report.progress(format!("fitting   {model}, for the {}", name(stage)));
    }

    fn watch(&mut self, model: &str, stage: Stage) -> &mut dyn Watch {
        self.now = (model.into(), stage);
        self.bar = self.report.bar(self.members as u64 * self.updates);
        self.begun = None;
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
        let state = || {
            let validation = validation.map_or_else(String::new, |error| format!(" val {error:.4}"));
            format!(
                "{} {}/{} {} {update}/{} loss {loss:.4}{validation}",
                self.now.0,
                member + 1,
                self.members,
                name(self.now.1),
                self.updates
            )
        };
        if let Some(bar) = &self.bar {
            bar.set_message(state());
            bar.set_position(member as u64 * self.updates + update);
        } else if update.is_multiple_of(self.updates.div_ceil(LINES)) {
            let rate = (update - first) as f64 / began.elapsed().as_secs_f64().max(1e-9);
            self.report.progress(format!("          {}  {rate:.0} updates/s", state()));
        }
        !self.stop.load(Ordering::Relaxed)
    }

    fn wants_checkpoint(&mut self) -> bool {
        self.saved.elapsed() > BETWEEN_SAVES
    }

    fn keep(&mut self, member: usize, checkpoint: Checkpoint) -> Result<(), ForecastError> {
        self.saved = Instant::now();
        Ok(checkpoint.save(self.folder.checkpoint(&self.now.0, name(self.now.1), member))?)
    }

    fn kept(&mut self, member: usize) -> Result<Option<Checkpoint>, ForecastError> {
        let path = self.folder.checkpoint(&self.now.0, name(self.now.1), member);
        Ok(if path.exists() { Some(Checkpoint::load(path)?) } else { None })
    }
}
