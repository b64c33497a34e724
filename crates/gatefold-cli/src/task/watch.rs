use crate::forecast::Report;
use gatefold::file::Checkpoint;
use gatefold_tasks::{Look, TaskError, Watch};
use indicatif::ProgressBar;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// A power cut loses at most this much work.
const BETWEEN_SAVES: Duration = Duration::from_secs(20);
/// The least time between lines about one network, where there is no terminal.
const BETWEEN_LINES: Duration = Duration::from_secs(2);

/// Shows the progress of one network, keeps its checkpoint, and stops when it was asked to.
pub(crate) struct Watching<'a> {
    report: &'a Report,
    name: String,
    updates: u64,
    error: &'a str,
    checkpoint: PathBuf,
    stop: Arc<AtomicBool>,
    bar: Option<ProgressBar>,
    /// The first update of this sitting, and its moment.
    begun: Option<(u64, Instant)>,
    done: u64,
    said: Option<Instant>,
    saved: Instant,
}

impl<'a> Watching<'a> {
    pub(super) fn new(
        report: &'a Report,
        name: String,
        updates: u64,
        error: &'a str,
        checkpoint: PathBuf,
        stop: Arc<AtomicBool>,
    ) -> Self {
        let bar = report.bar(updates);
        let now = Instant::now();
        Watching {
            report,
            name,
            updates,
            error,
            checkpoint,
            stop,
            bar,
            begun: None,
            done: 0,
            said: None,
            saved: now,
        }
    }
}

impl Drop for Watching<'_> {
    fn drop(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

impl Watch for Watching<'_> {
    fn progress(&mut self, update: u64) -> bool {
        self.done = update;
        self.begun.get_or_insert_with(|| (update, Instant::now()));
        if let Some(bar) = &self.bar {
            bar.set_position(update);
        }
        !self.stop.load(Ordering::Relaxed)
    }

    fn look(&mut self, look: &Look) {
        let error = look.error.map_or_else(String::new, |error| format!(", {} {error:.4}", self.error));
        let state = format!("{} {}/{} loss {:.4}{error}", self.name, look.update, self.updates, look.loss);
        if let Some(bar) = &self.bar {
            bar.set_message(state);
            return;
        }
        let soon = self.said.is_some_and(|said| said.elapsed() < BETWEEN_LINES);
        if soon && look.update < self.updates {
            return;
        }
        self.said = Some(Instant::now());
        let rate = self.begun.map_or(0.0, |(first, began)| {
            look.update.saturating_sub(first) as f64 / began.elapsed().as_secs_f64().max(1e-9)
        });
        let speed = if rate > 0.0 {
            let left = ((self.updates - look.update) as f64 / rate).round() as u64;
            format!(", {rate:.0} updates/s, {}:{:02} left", left / 60, left % 60)
        } else {
            String::new()
        };
        self.report.progress(format!("{state}{speed}"));
    }

    fn wants_checkpoint(&mut self) -> bool {
        // The last one too, so that a resumed run need not train a finished network again.
        self.saved.elapsed() > BETWEEN_SAVES || self.done == self.updates
    }

    fn keep(&mut self, checkpoint: Checkpoint) -> Result<(), TaskError> {
        self.saved = Instant::now();
        Ok(checkpoint.save(&self.checkpoint)?)
    }

    fn kept(&mut self) -> Result<Option<Checkpoint>, TaskError> {
        Ok(if self.checkpoint.exists() { Some(Checkpoint::load(&self.checkpoint)?) } else { None })
    }
}
