use indicatif::{ProgressBar, ProgressStyle};
use std::fmt::Display;
use std::io::{self, IsTerminal, Write};

/// Reports while the command runs: results on stdout, progress on stderr.
pub(crate) struct Report {
    quiet: bool,
}

impl Report {
    pub(crate) fn new(quiet: bool) -> Self {
        Report { quiet }
    }

    /// Prints a line of results. If nobody reads it, as after `| head`, the work goes on.
    pub(crate) fn line(&self, text: impl Display) {
        if !self.quiet {
            let _ = writeln!(io::stdout(), "{text}");
        }
    }

    /// Prints a line of progress where there is no terminal to draw a bar on.
    pub(crate) fn progress(&self, text: impl Display) {
        if !self.quiet && !io::stderr().is_terminal() {
            eprintln!("{text}");
        }
    }

    /// A bar on a terminal.
    pub(crate) fn bar(&self, length: u64) -> Option<ProgressBar> {
        (!self.quiet && io::stderr().is_terminal()).then(|| {
            let style = ProgressStyle::with_template("{wide_bar:.blue/black.bright} {msg} {eta} left")
                .expect("the template is valid")
                .progress_chars("━╸─");
            ProgressBar::new(length).with_style(style)
        })
    }
}
