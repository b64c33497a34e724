use indicatif::{ProgressBar, ProgressStyle};
use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::time::Instant;

/// The most lines that a training run prints without a terminal to draw a bar on.
const MOST_LINES: usize = 20;

/// Reports while the command runs: results on stdout, progress on stderr.
pub(super) struct Report {
    quiet: bool,
}

/// The state of training.
pub(super) struct Moment {
    /// Epochs done.
    pub(super) epoch: usize,
    /// Updates done.
    pub(super) step: u64,
    /// The mean loss of the epoch.
    pub(super) loss: f64,
    /// The loss of the last validation.
    pub(super) validation: Option<f64>,
}

impl Report {
    pub(super) fn new(quiet: bool) -> Self {
        Report { quiet }
    }

    /// Prints a line of results. If nobody reads it, as after `| head`, training goes on.
    pub(super) fn line(&self, text: impl Display) {
        if !self.quiet {
            let _ = writeln!(io::stdout(), "{text}");
        }
    }

    /// Starts to show progress: a bar on a terminal, otherwise plain lines.
    pub(super) fn start(&self, epochs: usize, batches: u64, step: u64) -> Running {
        let bar = (!self.quiet && io::stderr().is_terminal()).then(|| {
            let style = ProgressStyle::with_template("{wide_bar:.blue/black.bright} {msg} {eta} left")
                .expect("the template is valid")
                .progress_chars("━╸─");
            let bar = ProgressBar::new(epochs as u64 * batches).with_style(style).with_position(step);
            bar.reset_eta();
            bar
        });
        Running { quiet: self.quiet, bar, epochs, batches, first_step: step, started: Instant::now() }
    }
}

/// Progress under way.
pub(super) struct Running {
    quiet: bool,
    bar: Option<ProgressBar>,
    epochs: usize,
    batches: u64,
    first_step: u64,
    started: Instant,
}

impl Running {
    /// Shows progress after some steps.
    pub(super) fn step(&self, moment: &Moment) {
        if let Some(bar) = &self.bar {
            bar.set_message(format!(
                "{} {:.0}/s",
                self.state(moment, moment.epoch + 1, " "),
                self.rate(moment)
            ));
            bar.set_position(moment.step);
        }
    }

    /// Shows progress after an epoch.
    pub(super) fn epoch(&self, moment: &Moment) {
        if self.bar.is_some() {
            return self.step(&Moment { epoch: moment.epoch - 1, ..*moment });
        }
        let every = self.epochs.div_ceil(MOST_LINES);
        if self.quiet
            || (moment.epoch > 1 && !moment.epoch.is_multiple_of(every) && moment.epoch < self.epochs)
        {
            return;
        }
        let steps_left = (self.epochs as u64 * self.batches).saturating_sub(moment.step);
        let left = (steps_left as f64 / self.rate(moment).max(1e-9)).ceil() as u64;
        eprintln!(
            "{}  {:.0} steps/s  {}:{:02} left",
            self.state(moment, moment.epoch, "  "),
            self.rate(moment),
            left / 60,
            left % 60
        );
    }

    /// Removes the bar.
    pub(super) fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn state(&self, moment: &Moment, epoch: usize, gap: &str) -> String {
        let validation = moment.validation.map_or_else(String::new, |loss| format!("{gap}val {loss:.4}"));
        format!("epoch {epoch}/{}{gap}loss {:.4}{validation}", self.epochs, moment.loss)
    }

    fn rate(&self, moment: &Moment) -> f64 {
        (moment.step - self.first_step) as f64 / self.started.elapsed().as_secs_f64().max(1e-9)
    }
}
