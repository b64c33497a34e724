//! A folder with a table, in which the command runs as a user runs it.

use serde_json::Value;
use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};
use tempfile::TempDir;

/// A network that takes no time, beside two models that need none.
pub(crate) const SMALL: &str =
    "--device cpu --model=naive,linear,network --hidden 6 --input 12 --batch 16 --ensemble 1 --updates 24";

/// A folder with a table of 240 months: a yearly rhythm plus deterministic values that look like noise.
pub(crate) struct Folder {
    folder: TempDir,
}

impl Folder {
    pub(crate) fn new() -> Self {
        let place = Folder { folder: tempfile::tempdir().unwrap() };
        place.write("table.csv", &table(240));
        place
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, content: &str) {
        fs::write(self.path(name), content).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    pub(crate) fn metrics(&self, out: &str) -> Value {
        serde_json::from_str(&self.read(&format!("{out}/metrics.json"))).unwrap()
    }

    /// The rows of a CSV file, each by the names of its columns.
    pub(crate) fn rows(&self, name: &str) -> Vec<HashMap<String, String>> {
        let text = self.read(name);
        let mut lines = text.lines().map(|line| line.split(',').map(str::to_owned).collect::<Vec<_>>());
        let names = lines.next().unwrap();
        lines.map(|cells| names.iter().cloned().zip(cells).collect()).collect()
    }

    pub(crate) fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gatefold"));
        command.current_dir(self.folder.path()).args(arguments.split_whitespace());
        command
    }

    pub(crate) fn run(&self, arguments: &str) -> Output {
        self.command(arguments).output().unwrap()
    }

    pub(crate) fn succeed(&self, arguments: &str) -> String {
        let output = self.run(arguments);
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "gatefold {arguments}: {:?} {error}", output.status);
        String::from_utf8(output.stdout).unwrap()
    }

    /// The one line on stderr of a command that must fail with this code.
    pub(crate) fn fail(&self, code: i32, arguments: &str) -> String {
        let output = self.run(arguments);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "gatefold {arguments}: {error}");
        let lines: Vec<&str> = error.lines().filter(|line| !line.starts_with("fitting")).collect();
        assert_eq!(lines.len(), 1, "gatefold {arguments}: {error}");
        lines[0].into()
    }

    pub(crate) fn assert_same(&self, one: &str, other: &str, names: &[&str]) {
        let read = |folder: &str, name: &str| fs::read(self.path(folder).join(name)).unwrap();
        let differ: Vec<&&str> = names.iter().filter(|name| read(one, name) != read(other, name)).collect();
        assert!(differ.is_empty(), "{one} and {other} differ in {differ:?}");
    }
}

/// [`SMALL`] with other models.
pub(crate) fn small(models: &str) -> String {
    SMALL.replace("naive,linear,network", models)
}

pub(crate) fn table(months: u32) -> String {
    let mut text = String::from("month,other,growth,sales\n");
    for t in 0..months {
        let rough = f64::from(t * t * 7919 % 1000) / 1000.0;
        let value = 50.0 + 10.0 * (f64::from(t) * std::f64::consts::TAU / 12.0).sin() + 4.0 * rough;
        let growth = f64::from(t * t) / 100.0 + 9.0 * rough;
        text += &format!("{}-{:02},{},{growth:.3},{value:.3}\n", 1990 + t / 12, t % 12 + 1, t % 5);
    }
    text
}
