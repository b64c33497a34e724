//! Ends a test run at the first complaint of Vulkan's validation layer.
//!
//! wgpu passes the layer's messages to the `log` crate, from inside a callback that the driver calls: a panic there
//! would be caught, and nobody would receive an error. So the logger here writes the message to the standard error
//! stream, with the name of the test, and aborts the process; a test run cannot ignore that.

use log::{Level, LevelFilter, Log, Metadata, Record};
use std::collections::BTreeSet;
use std::io::Write;
use std::sync::{Mutex, Once, PoisonError};

/// The environment variable that turns this on: `GATEFOLD_VALIDATION=1`.
pub const VARIABLE: &str = "GATEFOLD_VALIDATION";

/// The messages of the layer, of the loader, and of wgpu itself about Vulkan.
const TARGET: &str = "wgpu_hal::vulkan";

/// A message that is allowed.
#[derive(Clone, Copy, Debug)]
pub struct Exception {
    /// The message's identifier: a VUID, or whatever stands in its place.
    pub id: &'static str,
    /// Text that the message must contain too; empty for any message with this identifier.
    pub text: &'static str,
    /// The reason why it is not the engine's fault.
    pub reason: &'static str,
}

/// Every message that is allowed. A new one needs a reason that a reader can check.
pub const EXCEPTIONS: &[Exception] = &[Exception {
    id: "UNASSIGNED-CoreValidation-Shader-InconsistentSpirv",
    text: "Invalid source language operand: 10",
    reason: "layers older than 2023, such as 1.3.239, do not know WGSL as the source language that naga names in \
             the debug information",
}];

/// With `GATEFOLD_VALIDATION=1`, ends the process with an error at the first warning or error of Vulkan's validation
/// layer that is not in [`EXCEPTIONS`]. Call it before requesting the first adapter; calling it again changes nothing.
///
/// # Panics
/// If another logger is installed already, since the messages would go unheard.
pub fn install_from_env() {
    static INSTALLED: Once = Once::new();
    if std::env::var_os(VARIABLE).is_none_or(|value| value.is_empty() || value == "0") {
        return;
    }
    INSTALLED.call_once(|| {
        log::set_logger(&Judge).expect("no other logger is installed before the one for validation");
        log::set_max_level(LevelFilter::Warn);
    });
}

/// The verdict on a message.
#[derive(Clone, Copy, Debug)]
enum Verdict {
    /// Not a complaint, or a detail of one that has been judged already.
    Pass,
    Excepted(&'static Exception),
    Fail,
}

fn judge(level: Level, target: &str, message: &str, exceptions: &'static [Exception]) -> Verdict {
    let ours = target == TARGET || target.strip_prefix(TARGET).is_some_and(|rest| rest.starts_with("::"));
    // Separate lines follow a message, with the queues, command buffers and objects that it is about.
    if level > Level::Warn || !ours || message.starts_with('\t') {
        return Verdict::Pass;
    }
    let applies =
        |exception: &&Exception| id(message) == Some(exception.id) && message.contains(exception.text);
    exceptions.iter().find(applies).map_or(Verdict::Fail, Verdict::Excepted)
}

/// `VALIDATION [VUID-vkCmdDispatch-None-02697 (0x7f2f3a1)]\n\tthe message` is how wgpu words it.
fn id(message: &str) -> Option<&str> {
    let (_, rest) = message.lines().next()?.split_once('[')?;
    Some(rest.rsplit_once(" (0x")?.0)
}

struct Judge;

impl Log for Judge {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= Level::Warn
    }

    fn log(&self, record: &Record<'_>) {
        static EXCEPTED: Mutex<BTreeSet<&str>> = Mutex::new(BTreeSet::new());
        let message = record.args().to_string();
        match judge(record.level(), record.target(), &message, EXCEPTIONS) {
            Verdict::Pass => {}
            Verdict::Excepted(exception) => {
                let first = EXCEPTED.lock().unwrap_or_else(PoisonError::into_inner).insert(exception.id);
                if first {
                    say(&format!("validation: {} let through: {}", exception.id, exception.reason));
                }
            }
            Verdict::Fail => {
                let test = std::thread::current().name().unwrap_or("a thread without a name").to_owned();
                say(&format!("validation: {} in {test}: {message}", record.level()));
                std::process::abort();
            }
        }
    }

    fn flush(&self) {}
}

/// Writes to the stream itself: output of tests is captured, and would be lost with the process.
fn say(line: &str) {
    // A closed stream must not hide the abort that follows.
    let _ = writeln!(std::io::stderr(), "{line}");
}

#[cfg(test)]
mod tests {
    use super::{EXCEPTIONS, Exception, VARIABLE, Verdict, id, install_from_env, judge};
    use log::Level;
    use std::process::{Command, Output};

    const MESSAGE: &str =
        "VALIDATION [VUID-vkCmdDispatch-None-02697 (0x7f2f3a1)]\n\tnothing [is (0x1)] bound";

    const LET_THROUGH: &[Exception] = &[
        Exception { id: "VUID-vkCmdDispatch-None-02697", text: "is bound twice", reason: "only an example" },
        Exception {
            id: "VUID-vkCmdDispatch-None",
            text: "",
            reason: "the start of an identifier is not the whole",
        },
    ];

    fn fails(level: Level, target: &str, message: &str) -> bool {
        matches!(judge(level, target, message, LET_THROUGH), Verdict::Fail)
    }

    #[test]
    fn complaints_about_vulkan_fail_and_nothing_else_does() {
        for target in ["wgpu_hal::vulkan", "wgpu_hal::vulkan::instance", "wgpu_hal::vulkan::device"] {
            assert!(fails(Level::Error, target, MESSAGE), "{target}");
            assert!(
                fails(Level::Warn, target, "unable to find layer: VK_LAYER_KHRONOS_validation"),
                "{target}"
            );
            assert!(!fails(Level::Info, target, MESSAGE), "{target}");
            assert!(
                !fails(Level::Error, target, "\tobjects: (type: BUFFER, hndl: 0x1, name: h)"),
                "{target}"
            );
        }
        for target in ["wgpu_hal::gles", "wgpu_core::device", "wgpu_hal::vulkanish", "gatefold"] {
            assert!(!fails(Level::Error, target, MESSAGE), "{target}");
        }
    }

    #[test]
    fn an_exception_needs_the_whole_identifier_and_its_text() {
        assert_eq!(id(MESSAGE), Some("VUID-vkCmdDispatch-None-02697"));
        assert_eq!(id("unable to find layer"), None);
        assert!(fails(Level::Error, "wgpu_hal::vulkan::instance", MESSAGE));
        let twice = MESSAGE.replace("bound", "bound twice").replace("nothing [is (0x1)]", "it is");
        let verdict = judge(Level::Error, "wgpu_hal::vulkan::instance", &twice, LET_THROUGH);
        assert!(
            matches!(verdict, Verdict::Excepted(exception) if exception.reason == "only an example"),
            "{verdict:?}"
        );
    }

    #[test]
    fn every_exception_says_why() {
        for exception in EXCEPTIONS {
            assert!(!exception.id.is_empty() && exception.reason.len() > 20, "{exception:?}");
        }
    }

    /// Runs the test below in a process of its own.
    fn complaining(validation: &str) -> Output {
        Command::new(std::env::current_exe().expect("the path of this test"))
            .args(["--ignored", "--exact", "validation::tests::a_complaint"])
            .env(VARIABLE, validation)
            .output()
            .expect("the test runs again as a child")
    }

    #[test]
    #[ignore = "it aborts its process; another test runs it"]
    fn a_complaint() {
        install_from_env();
        install_from_env();
        // As wgpu does: a panic would go no further.
        let _ = std::panic::catch_unwind(|| {
            log::log!(target: "wgpu_hal::vulkan::instance", Level::Error, "{MESSAGE}");
        });
    }

    #[test]
    fn a_complaint_ends_the_process_and_names_the_test() {
        let output = complaining("1");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{error}");
        let line =
            "validation: ERROR in validation::tests::a_complaint: VALIDATION [VUID-vkCmdDispatch-None-02697";
        assert!(error.contains(line), "{error}");
        assert!(complaining("0").status.success(), "without the variable nobody listens");
    }
}
