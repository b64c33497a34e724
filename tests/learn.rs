//! The pages of docs/learn say what their commands print. `cargo test` builds the programs beside the tests.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// A command of a page, and the lines that the page says it prints.
struct Run {
    page: String,
    command: String,
    printed: Vec<String>,
}

/// The pages in order, with their text.
fn pages() -> Vec<(String, String)> {
    let folder = Path::new(ROOT).join("docs/learn");
    let files = fs::read_dir(&folder).expect("the course is there").map(|file| file.expect("a file").path());
    let mut files: Vec<PathBuf> =
        files.filter(|file| file.extension().is_some_and(|end| end == "md")).collect();
    files.sort();
    let name = |file: &Path| file.file_name().expect("it has a name").to_string_lossy().into_owned();
    files.iter().map(|file| (name(file), fs::read_to_string(file).expect("text"))).collect()
}

/// The commands in a page: lines that begin with `$ ` in a block, each with the lines below it.
fn runs(page: &str, text: &str) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    let (mut inside, mut open) = (false, false);
    for line in text.lines() {
        if line.starts_with("```") {
            (inside, open) = (!inside, false);
        } else if let Some(command) = line.strip_prefix("$ ").filter(|_| inside) {
            open = true;
            runs.push(Run { page: page.into(), command: command.into(), printed: Vec::new() });
        } else if open && !line.trim().is_empty() {
            runs.last_mut().expect("a command was begun").printed.push(line.into());
        }
    }
    runs
}

/// A program that `cargo test` builds: an example, or the command.
fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test knows where it is");
    let target = test.ancestors().nth(2).expect("tests lie in target/<profile>/deps");
    target.join(format!("{name}{}", std::env::consts::EXE_SUFFIX))
}

/// Runs a command of a page in a folder, and returns what it printed.
fn printed(command: &str, folder: &Path) -> String {
    let (file, words) = match command.strip_prefix("cargo run --release --example learn -- ") {
        Some(words) => (program("examples/learn"), words),
        None => {
            (program("gatefold"), command.strip_prefix("gatefold ").expect("a command of this repository"))
        }
    };
    let data = |word: &str| match word.strip_prefix("examples/") {
        Some(_) => Path::new(ROOT).join(word).to_string_lossy().into_owned(),
        None => word.to_owned(),
    };
    let output = Command::new(&file)
        .args(words.split_whitespace().map(data))
        .current_dir(folder)
        .output()
        .unwrap_or_else(|error| panic!("{}: {error}; `cargo test --no-run` makes it", file.display()));
    let text = String::from_utf8(output.stdout).expect("it prints text");
    assert!(output.status.success(), "{command}: {text}\n{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// Whether a line that was printed is the one of the page. Machines round differently, so decimals may differ by one in
/// their last digit, and what comes from a training by more: numbers with an exponent by a factor
/// of five, those after "about" by two.
fn agrees(said: &str, found: &str) -> bool {
    let (said, found): (Vec<&str>, Vec<&str>) =
        (said.split_whitespace().collect(), found.split_whitespace().collect());
    said.len() == found.len()
        && said.iter().zip(&found).enumerate().all(|(at, (said_word, found_word))| {
            let number = |word: &str| word.trim_end_matches([',', '%']).parse::<f64>().ok();
            match (number(said_word), number(found_word)) {
                _ if said_word == found_word => true,
                (Some(said_number), Some(found_number)) => {
                    let within =
                        |factor: f64| (1.0 / factor..=factor).contains(&(found_number / said_number));
                    if said_word.contains('e') {
                        within(5.0)
                    } else if at > 0 && said[at - 1] == "about" {
                        within(2.0)
                    } else if at > 0 && said.iter().any(|word| word.contains("e-")) {
                        // Per cent of a few units, beside the norms of a trained network.
                        (said_number - found_number).abs() <= 5.0
                    } else {
                        let digits = said_word.split_once('.').map_or(0, |(_, digits)| digits.len());
                        digits > 0 && (said_number - found_number).abs() <= 1.5 * 0.1f64.powi(digits as i32)
                    }
                }
                _ => false,
            }
        })
}

/// The first line of the page that was not printed, in its order; lines of dots stand for any.
fn missing<'a>(said: &'a [String], found: &str) -> Option<&'a str> {
    let mut found = found.lines().filter(|line| !line.trim().is_empty());
    let mut skip = false;
    for line in said {
        if line.trim() == "..." {
            skip = true;
        } else if !(if skip {
            found.any(|found| agrees(line, found))
        } else {
            found.next().is_some_and(|found| agrees(line, found))
        }) {
            return Some(line);
        } else {
            skip = false;
        }
    }
    None
}

#[test]
fn every_command_of_the_course_prints_what_its_page_says() {
    let mut problems = Vec::new();
    let all: Vec<Run> = pages().iter().flat_map(|(page, text)| runs(page, text)).collect();
    assert!(all.len() >= 18 && all.iter().all(|run| !run.command.contains('|')), "{} commands", all.len());
    let folder = tempfile::tempdir().expect("a folder");
    for run in &all {
        let found = printed(&run.command, folder.path());
        let quiet = run.command.contains("--quiet");
        match missing(&run.printed, &found) {
            Some(line) => {
                problems.push(format!("{}: $ {}\nsays {line:?}, and prints\n{found}", run.page, run.command))
            }
            None if run.printed.is_empty() && !quiet => {
                problems.push(format!("{}: no line below {}", run.page, run.command))
            }
            None => {}
        }
    }
    // Every picture of a page is one that its commands drew, and small.
    for (page, text) in pages() {
        for picture in text
            .split("](")
            .filter_map(|rest| rest.split_once(')'))
            .map(|(file, _)| file)
            .filter(|file| file.ends_with(".svg"))
        {
            let size =
                fs::metadata(Path::new(ROOT).join("docs/learn").join(picture)).map(|file| file.len()).ok();
            if size.is_none_or(|size| size > 60_000) {
                problems.push(format!("{page}: {picture} is missing or has more than 60 kB: {size:?}"));
            }
            if !folder.path().join("gatefold-out").join(picture).exists() {
                problems.push(format!("{page}: no command draws {picture}"));
            }
        }
        // Links to other pages and files lead somewhere.
        for link in text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(file, _)| file) {
            if !link.contains("://") && !Path::new(ROOT).join("docs/learn").join(link).exists() {
                problems.push(format!("{page}: {link} leads nowhere"));
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n\n"));
}

#[test]
fn a_page_that_is_wrong_is_found() {
    for (said, found, agree) in [
        ("loss  1.234", "loss 1.235", true),
        ("loss  1.234", "loss 1.237", false),
        ("loss  1.234", "error 1.234", false),
        ("about 0.04", "about 0.03", true),
        ("about 0.04", "about 0.1", false),
        ("1  2.0e-5", "1  3.1e-5", true),
        ("1  2.0e-5", "1  1.1e-4", false),
        ("1  2.0e-5  6", "1  2.1e-5  9", true),
        ("1  2.0e-5  6", "2  2.1e-5  6", false),
        ("a b", "a", false),
    ] {
        assert_eq!(agrees(said, found), agree, "{said}, {found}");
    }
    let said = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
    assert_eq!(missing(&said(&["a", "...", "c"]), "a\nb\n\nc\nd\n"), None);
    assert_eq!(missing(&said(&["a", "c"]), "a\nb\nc\n"), Some("c"));
    assert_eq!(missing(&said(&["...", "d", "c"]), "a\nc\nd\n"), Some("c"));
    let runs = runs("p", "$ not a command\n```text\nx\n$ gatefold a\none\n$ gatefold b\n```\n");
    let found: Vec<(&str, usize)> =
        runs.iter().map(|run| (run.command.as_str(), run.printed.len())).collect();
    assert_eq!(found, [("gatefold a", 1), ("gatefold b", 0)]);
}
