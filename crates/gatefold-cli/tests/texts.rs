//! `gatefold generate`, `translate` and `score`, from end to end as a user runs them.

use serde_json::Value;
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

/// A network that takes no time.
const SMALL: &str = "--device cpu --quick";

struct Folder {
    folder: TempDir,
}

impl Folder {
    fn new() -> Self {
        Folder { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.path(name), content).unwrap();
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    fn metrics(&self, out: &str) -> Value {
        serde_json::from_str(&self.read(&format!("{out}/metrics.json"))).unwrap()
    }

    /// The measure of each model of a run, in the order of its table.
    fn measures(&self, out: &str, measure: &str) -> Vec<f64> {
        let metrics = self.metrics(out);
        metrics["test"]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| row[measure].as_f64().unwrap_or(f64::NAN))
            .collect()
    }

    /// Runs a command line; words in quotes are one argument.
    fn run(&self, arguments: &str, input: Option<&str>) -> Output {
        let mut words: Vec<String> = Vec::new();
        for (at, part) in arguments.split('"').enumerate() {
            if at % 2 == 1 {
                words.push(part.into());
            } else {
                words.extend(part.split_whitespace().map(str::to_owned));
            }
        }
        let mut command = Command::new(env!("CARGO_BIN_EXE_gatefold"));
        command.current_dir(self.folder.path()).args(words);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // A command that refuses its options may not read its input.
        let _ = child.stdin.take().unwrap().write_all(input.unwrap_or_default().as_bytes());
        child.wait_with_output().unwrap()
    }

    fn succeed(&self, arguments: &str) -> String {
        self.succeed_with(arguments, "")
    }

    fn succeed_with(&self, arguments: &str, input: &str) -> String {
        let output = self.run(arguments, Some(input));
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "gatefold {arguments}: {:?} {error}", output.status);
        String::from_utf8(output.stdout).unwrap()
    }

    /// The one line on stderr of a command that must fail with this code.
    fn fail(&self, code: i32, arguments: &str) -> String {
        let output = self.run(arguments, None);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "gatefold {arguments}: {error}");
        assert_eq!(error.lines().count(), 1, "gatefold {arguments}: {error}");
        error.trim().strip_prefix("error: ").unwrap().into()
    }
}

/// A text in which a name is always the one that began the line.
pub(crate) fn story(lines: usize) -> String {
    let names = ["Ида", "Émile", "Zoë", "Bo"];
    let line = |k: usize| {
        let (name, other) = (names[k * 7 % 4], names[(k * 5 + 1) % 3]);
        format!("{name} sees {other}, and {other} sees {name}.\n")
    };
    (0..lines).map(line).collect()
}

#[test]
fn a_text_is_continued_and_measured() {
    let place = Folder::new();
    place.write("story.txt", story(150));
    let printed = place.succeed(&format!("generate story.txt {SMALL} --out o --prompt Zoë --length 50"));
    for text in [
        "unit      character; words need a text of a million",
        "parts     train",
        "lstm",
        "5-gram",
        "perplexity",
    ] {
        assert!(printed.contains(text), "no '{text}' in {printed}");
    }
    let bits = place.measures("o", "bits");
    assert_eq!(bits.len(), 4);
    assert!(bits[0] < 4.0 && bits[3] > 3.0, "{bits:?}");
    let metrics = place.metrics("o");
    assert_eq!(metrics["unit"], "char");
    let parts = &metrics["units"];
    let sum: u64 = ["training", "validation", "test"].iter().map(|part| parts[part].as_u64().unwrap()).sum();
    assert_eq!(sum as usize, story(150).chars().count());
    let sample = place.read("o/sample.txt");
    assert!(sample.starts_with("Zoë") && sample.chars().count() == 3 + 50 + 1, "{sample:?}");
    assert!(place.read("o/log.csv").lines().count() > 10);
    assert!(!place.path("o/checkpoints").exists());

    // The saved model writes the same with the same options.
    let use_model =
        |options: &str| place.succeed(&format!("generate use o --device cpu --length 50 {options}"));
    assert_eq!(use_model("--prompt Zoë --seed 1"), sample);
    assert_ne!(use_model("--prompt Zoë --seed 2"), sample);
    let greedy = use_model("--prompt \"Bo sees\" --temperature 0");
    assert_eq!(greedy, use_model("--prompt \"Bo sees\" --top-k 1 --seed 9"));
    assert_eq!(greedy, use_model("--prompt \"Bo sees\" --top-p 0.000001 --seed 9"));
    place.succeed("generate use o --device cpu --quiet --out sample.txt");
    assert_eq!(place.read("sample.txt").chars().count(), 401);

    let refused = |options: &str| place.fail(1, &format!("generate use o --device cpu {options}"));
    assert_eq!(
        refused("--prompt Qué"),
        "prompt: the character \"Q\" (U+0051) is too rare in the training text to be known; leave it out"
    );
    assert!(refused("--prompt \"\"").contains("prompt: the prompt is empty"));
    assert!(refused("--top-p 1.5").contains("top-p is 1.5"));
    assert!(refused("--temperature=-1").contains("the temperature is -1"));
    assert!(place.fail(1, "generate use nothing").contains("there is no model in it"));
    assert!(
        place
            .fail(1, "translate use o --device cpu story.txt")
            .contains("a model of generate, not of translate")
    );
}

#[test]
fn a_text_is_continued_by_words() {
    let place = Folder::new();
    place.write("story.txt", story(200));
    let printed = place.succeed(&format!("generate story.txt {SMALL} --unit word --length 12 --out o"));
    assert!(printed.contains("bits per word"), "{printed}");
    // Whole words alone, though hardly any training puts them in an odd order.
    let mut rest = place.read("o/sample.txt");
    for word in ["Ида", "Émile", "Zoë", "Bo", "sees", "and"] {
        rest = rest.replace(word, "");
    }
    assert!(rest.chars().all(|c| " ,.\n".contains(c)), "{rest}");
}

#[test]
fn texts_that_cannot_be_learnt_are_refused_with_one_line() {
    let place = Folder::new();
    place.write("short.txt", story(3));
    place.write("latin1.txt", [b"abc\n".repeat(500).as_slice(), b"\xe9\n"].concat());
    place.write("story.txt", story(100));
    let refused = |arguments: &str| place.fail(1, &format!("generate {arguments} --device cpu"));
    let length = story(3).chars().count();
    assert_eq!(
        refused("short.txt"),
        format!("short.txt: the text has {length} characters; expected at least 1000")
    );
    assert_eq!(refused("latin1.txt"), "latin1.txt: line 501 is not UTF-8; convert the file first");
    assert_eq!(refused("none.txt"), "none.txt: there is no such file; check the path");
    assert_eq!(refused("."), ".: this is a directory; expected a file");
    assert!(refused("story.txt --prompt Ω").starts_with("prompt: the character \"Ω\" (U+03A9)"));
    assert!(!place.path("gatefold-out").exists(), "nothing is written by a run that is refused");
    let usage = place.run("generate story.txt --dropout 0.5", None);
    assert_eq!(usage.status.code(), Some(2));
    let usage = place.run("generate", None);
    assert_eq!(usage.status.code(), Some(2));
}

#[cfg(unix)]
#[test]
fn an_interrupted_run_continues_to_the_same_model() {
    use std::io::{BufRead, BufReader};
    let place = Folder::new();
    place.write("story.txt", story(100));
    let options = "generate story.txt --device cpu --threads 1 --hidden 24 --updates 800";
    place.succeed(&format!("{options} --out whole"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_gatefold"));
    command.current_dir(place.folder.path()).args(options.split(' ')).args(["--out", "cut"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().starts_with("device")));
    std::thread::sleep(std::time::Duration::from_millis(300));
    // The shell's own `kill`, because a bare Debian has no such program.
    let kill = Command::new("sh").arg("-c").arg(format!("kill -INT {}", child.id())).status().unwrap();
    assert!(kill.success());
    lines.for_each(drop);
    assert_eq!(child.wait().unwrap().code(), Some(130));
    place.succeed(&format!("{options} --out cut --resume"));
    let read = |name: &str| fs::read(place.path(name)).unwrap();
    assert!(read("cut/model.safetensors") == read("whole/model.safetensors"), "the models differ");
    assert_eq!(place.read("cut/log.csv"), place.read("whole/log.csv"));
    assert!(place.fail(1, &format!("{options} --out cut --resume")).contains("there is nothing to resume"));
}

/// Three columns: numbers in figures, in German and in English; every line twice.
pub(crate) fn numbers() -> String {
    let german = ["null", "eins", "zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht", "neun"];
    let english = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"];
    let mut text = String::from("figures\tde\ten\n");
    for number in (0..300usize).chain(0..300) {
        let digits = [number / 100, number / 10 % 10, number % 10];
        let words = |names: [&str; 10]| digits.map(|digit| names[digit]).join(" ");
        text += &format!("{number:03}\t{}\t{}\n", words(german), words(english));
    }
    text
}

#[test]
fn pairs_are_learnt_and_lines_translated() {
    let place = Folder::new();
    place.write("numbers.tsv", numbers());
    let options = "--device cpu --hidden 48 --lr 0.01 --updates 300 --dropout 0";
    let printed = place.succeed(&format!("translate numbers.tsv --from de --to en {options} --out o"));
    for text in [
        "600 pairs; the first line names the columns",
        "columns   from de to en",
        "left out  300 repeated pairs",
        "parts     train 255, validation 15, test 30; no source is in two of them",
        "unit      word; 100 % of the words of new sources and 100 % of new targets",
        "lstm, beam of 4",
    ] {
        assert!(printed.contains(text), "no '{text}' in {printed}");
    }
    let [exact, bleu, chrf, log_likelihood] =
        ["exact", "bleu", "chrf", "log_likelihood"].map(|measure| place.measures("o", measure));
    assert!(exact[0] > 80.0 && exact[2] == 0.0 && exact[3] == 0.0, "{exact:?}");
    assert!(chrf[0] > chrf[2] && chrf[2] > chrf[3], "{chrf:?}");
    assert!(bleu[3] < 1.0, "{bleu:?}");
    assert!(log_likelihood[1] >= log_likelihood[0], "{log_likelihood:?}");

    // No source of the test is among those that were trained on, and the table holds what was measured.
    let test = place.read("o/test.tsv");
    let rows: Vec<Vec<&str>> = test.lines().skip(1).map(|line| line.split('\t').collect()).collect();
    assert_eq!(rows.len(), 30);
    let right = rows.iter().filter(|row| row[1] == row[2]).count() as f64;
    assert!((100.0 * right / 30.0 - exact[1]).abs() < 1e-9);

    let lines: String = rows.iter().map(|row| format!("{}\n", row[0])).collect();
    let found = place.succeed_with("translate use o --device cpu", &lines);
    assert_eq!(found.lines().collect::<Vec<_>>(), rows.iter().map(|row| row[2]).collect::<Vec<_>>());
    place.write("lines.txt", "\u{feff}eins zwei drei\r\n\nneun\n");
    place.succeed("translate use o lines.txt --beam 1 --device cpu --out found.txt");
    assert_eq!(place.read("found.txt").lines().count(), 2);
    place.write("empty.txt", "\n \n");
    assert!(place.fail(1, "translate use o empty.txt --device cpu").contains("there are no lines"));
}

#[test]
fn characters_and_numbers_of_columns_work_too() {
    let place = Folder::new();
    place.write("numbers.tsv", numbers());
    let printed = place.succeed(&format!(
        "translate numbers.tsv --from 1 --to 3 --header yes --unit char {SMALL} --beam 1 --out o"
    ));
    assert!(
        printed.contains("columns   from figures to en")
            && printed.contains("unit      character; as asked for")
    );
    assert!(!printed.contains("beam of"), "{printed}");
    assert_eq!(place.measures("o", "chrf").len(), 3);
}

#[test]
fn tables_without_pairs_are_refused_with_one_line() {
    let place = Folder::new();
    place.write("numbers.tsv", numbers());
    place.write("few.tsv", "a\tb\nc\td\n");
    place.write("same.tsv", "a b\tb a\n".repeat(500));
    place.write("commas.csv", "a,b\nc,d\n");
    let refused = |arguments: &str| place.fail(1, &format!("translate {arguments} --device cpu"));
    assert_eq!(
        refused("numbers.tsv --from fr"),
        "numbers.tsv: there is no column 'fr'; expected one of figures, de, en"
    );
    assert_eq!(refused("few.tsv"), "few.tsv: there are 2 different sources; expected at least 20");
    assert_eq!(refused("same.tsv"), "same.tsv: there are 1 different sources; expected at least 20");
    assert!(refused("commas.csv").contains("the first line has no tab"));
    assert!(!place.path("gatefold-out").exists());
}

/// Sentences of which `not` denies one of two words, so that order alone tells what they say.
pub(crate) fn denials() -> String {
    let mut text = String::from("id,sentence,stars\n");
    for k in 0..480 {
        let thing = ["tea", "room", "song", "walk", "book"][k % 5];
        let good = ["good", "lovely", "bright", "fresh"][k / 5 % 4];
        let bad = ["bad", "dull", "stale", "grim"][k / 20 % 4];
        let (good_first, denied_first) = (k / 80 % 2 == 0, k / 160 % 2 == 0);
        let (first, second) = if good_first { (good, bad) } else { (bad, good) };
        let (one, two) = if denied_first { ("not ", "") } else { ("", "not ") };
        let stars = if good_first == denied_first { 1 } else { 5 };
        // Some rows occur twice: k runs through 320 different ones.
        text += &format!("{k},\"The {thing} was {one}{first}, but {two}{second}.\",{stars}\n");
    }
    text
}

#[test]
fn sentences_are_scored_by_the_order_of_their_words() {
    let place = Folder::new();
    place.write("denials.csv", denials());
    let columns = "--text sentence --target stars --range 1,5";
    let options = "--device cpu --hidden 16 --lr 0.01 --updates 250";
    let printed = place.succeed(&format!("score denials.csv {columns} {options} --out o"));
    for text in [
        "480 rows, comma-separated; texts in column sentence, numbers in column stars",
        "left out  160 repeated rows",
        "parts     train 224, validation 32, test 64; no text is in two of them",
        "counts of words, ridge",
    ] {
        assert!(printed.contains(text), "no '{text}' in {printed}");
    }
    let mae = place.measures("o", "mae");
    assert!(mae[0] < 0.4 && mae[1] > 1.5 && mae[2] > 1.5, "in stars: {mae:?}");
    assert!(place.measures("o", "pearson")[0] > 0.9);
    assert!(place.measures("o", "pearson")[2].is_nan(), "a constant correlates with nothing");

    let texts = "The walk was not dull, but bright.\nThe walk was dull, but not bright.\n";
    let found = place.succeed_with("score use o --device cpu", texts);
    let scores: Vec<f64> =
        found.lines().skip(1).map(|line| line.rsplit(',').next().unwrap().parse().unwrap()).collect();
    assert!(scores[0] > 4.0 && scores[1] < 2.0, "{found}");
    assert!(found.starts_with("text,score\n\"The walk was not dull, but bright.\","), "{found}");
    place.write("lines.txt", texts);
    place.succeed("score use o lines.txt --device cpu --out scores.csv");
    assert_eq!(place.read("scores.csv"), found);
    assert_eq!(place.read("o/test.csv").lines().count(), 65);

    place.write("table.csv", "id,sentence\n1,\"The walk was not dull, but bright.\"\n2,\n3,\"The walk was dull, but not bright.\"\n");
    let of_column = place.succeed("score use o table.csv --text sentence --device cpu");
    let lines: Vec<&str> = found.lines().collect();
    assert_eq!(of_column.lines().collect::<Vec<_>>(), [lines[0], lines[1], ",", lines[2]]);
    let refused = place.fail(1, "score use o table.csv --device cpu");
    assert!(refused.contains("this is a table; name its column of texts with --text"), "{refused}");
}

#[test]
fn tables_without_numbers_are_refused_with_one_line() {
    let place = Folder::new();
    place.write("denials.csv", denials());
    place.write("classes.csv", "text,label\na,good\nb,bad\n");
    place.write("few.csv", "text,score\na,1\nb,0\n");
    let refused = |arguments: &str| place.fail(1, &format!("score {arguments} --device cpu"));
    assert_eq!(
        refused("denials.csv --target stars"),
        "denials.csv: line 82, column stars: 5 is not between -1 and 1; name the range of your numbers with --range \
         LOW,HIGH"
    );
    assert_eq!(
        refused("denials.csv"),
        "denials.csv: there is more than one column of numbers; name it with --target"
    );
    assert_eq!(
        refused("classes.csv --text text --target label"),
        "classes.csv: line 2, column label: 'good' is not a number; write -1 and 1, or others with --range, for two classes"
    );
    assert_eq!(refused("few.csv"), "few.csv: there are 2 different texts; expected at least 30");
    assert_eq!(place.run("score few.csv --range 1", None).status.code(), Some(2));
    assert!(!place.path("gatefold-out").exists());
}
