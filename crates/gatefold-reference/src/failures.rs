//! Tests that loop over cases run all of them and list every failure.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

/// Runs the cases of a test one by one, keeps those that panic, and lists them at the end.
///
/// ```
/// let mut failures = gatefold_reference::Failures::new();
/// for width in [1, 7, 64] {
///     failures.check(format!("width {width}"), || assert_eq!((width * width) / width, width));
/// }
/// failures.finish();
/// ```
#[derive(Debug, Default)]
#[must_use = "failures are reported by `finish`"]
pub struct Failures {
    cases: usize,
    failed: Vec<String>,
    finished: bool,
}

impl Failures {
    /// A test without cases so far.
    pub fn new() -> Failures {
        Failures::default()
    }

    /// Runs a case. If it panics, keeps the name and the message and returns `None`.
    ///
    /// The panic's place in the source is printed at once, as for any panic.
    pub fn check<T>(&mut self, name: impl Into<String>, case: impl FnOnce() -> T) -> Option<T> {
        self.cases += 1;
        // A case that panics may leave values half changed that later cases see; they can only fail as well.
        let result = catch_unwind(AssertUnwindSafe(case));
        result.map_err(|panic| self.failed.push(format!("{}: {}", name.into(), message(&*panic)))).ok()
    }

    /// Ends the test.
    ///
    /// # Panics
    /// If a case failed, with the names and messages of all that did; if there was no case.
    #[track_caller]
    pub fn finish(mut self) {
        self.finished = true;
        assert!(self.cases > 0, "the test has no cases");
        assert!(
            self.failed.is_empty(),
            "{} of {} cases failed:\n  {}",
            self.failed.len(),
            self.cases,
            self.failed.join("\n").replace('\n', "\n  ")
        );
    }
}

/// A test that forgets to finish must not pass.
impl Drop for Failures {
    fn drop(&mut self) {
        if !self.finished && !thread::panicking() {
            panic!("call `finish`: {} of {} cases failed", self.failed.len(), self.cases);
        }
    }
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without a message")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn odd_cases_fail() -> Failures {
        let mut failures = Failures::new();
        for case in 0..4 {
            let result = failures.check(format!("case {case}"), || {
                assert_eq!(case % 2, 0, "odd");
                case
            });
            assert_eq!(result, (case % 2 == 0).then_some(case));
        }
        failures
    }

    fn panic_of(body: impl FnOnce()) -> String {
        let panic = catch_unwind(AssertUnwindSafe(body)).expect_err("it panics");
        message(&*panic).to_owned()
    }

    #[test]
    fn every_failure_is_listed() {
        let expected = "\
2 of 4 cases failed:
  case 1: assertion `left == right` failed: odd
    left: 1
   right: 0
  case 3: assertion `left == right` failed: odd
    left: 1
   right: 0";
        assert_eq!(panic_of(|| odd_cases_fail().finish()), expected);
    }

    #[test]
    fn literal_messages_are_kept() {
        let mut failures = Failures::new();
        failures.check("a", || panic!("plain"));
        failures.check("b", || std::panic::panic_any(7));
        let expected = "2 of 2 cases failed:\n  a: plain\n  b: a panic without a message";
        assert_eq!(panic_of(|| failures.finish()), expected);
    }

    #[test]
    fn good_cases_pass() {
        let mut failures = Failures::new();
        assert_eq!(failures.check("good", || 5), Some(5));
        failures.finish();
    }

    #[test]
    fn a_test_without_cases_fails() {
        assert_eq!(panic_of(|| Failures::new().finish()), "the test has no cases");
    }

    #[test]
    fn a_test_that_does_not_finish_fails() {
        assert_eq!(panic_of(|| drop(odd_cases_fail())), "call `finish`: 2 of 4 cases failed");
        assert_eq!(panic_of(|| drop(Failures::new())), "call `finish`: 0 of 0 cases failed");
    }

    #[test]
    fn an_unrelated_panic_is_not_hidden() {
        let panic = panic_of(|| {
            let mut failures = Failures::new();
            failures.check("good", || ());
            panic!("elsewhere");
        });
        assert_eq!(panic, "elsewhere");
    }
}
