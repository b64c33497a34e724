use indicatif::{ProgressBar, ProgressStyle};
use std::cell::RefCell;
use std::fmt::Display;
use std::io::{self, IsTerminal, Write};

/// Reports while the command runs: results on stdout, progress on stderr. With `--json`, stdout is for one document alone,
/// and the results go to stderr.
pub(crate) struct Report {
    quiet: bool,
    json: bool,
    printed: RefCell<Vec<String>>,
}

impl Report {
    pub(crate) fn new(quiet: bool) -> Self {
        Report::with_json(quiet, false)
    }

    /// A report that may end with a document.
    pub(crate) fn with_json(quiet: bool, json: bool) -> Self {
        Report { quiet, json, printed: RefCell::default() }
    }

    /// Prints a line of results. If nobody reads it, as after `| head`, the work goes on.
    pub(crate) fn line(&self, text: impl Display) {
        self.printed.borrow_mut().push(text.to_string());
        match (self.quiet, self.json) {
            (true, _) => {}
            (false, true) => eprintln!("{text}"),
            (false, false) => drop(writeln!(io::stdout(), "{text}")),
        }
    }

    /// All lines of results so far, those too that are not printed because the user wants it quiet.
    pub(crate) fn printed(&self) -> Vec<String> {
        self.printed.borrow().clone()
    }

    /// Prints the lines of results.
    pub(crate) fn lines(&self, lines: impl IntoIterator<Item = impl Display>) {
        lines.into_iter().for_each(|line| self.line(line));
    }

    /// Prints the document that `--json` asks for.
    pub(crate) fn document(&self, document: &serde_json::Value) {
        if self.json {
            let _ = writeln!(io::stdout(), "{document:#}");
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
            let style =
                ProgressStyle::with_template("{wide_bar:.blue/black.bright} {msg} {per_sec} {eta} left")
                    .expect("the template is valid")
                    .progress_chars("━╸─");
            ProgressBar::new(length).with_style(style)
        })
    }
}
