//! `gatefold forecast` and `gatefold predict`, from end to end as a user runs them.

use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;

const OUTPUTS: [&str; 6] = [
    "forecast.csv",
    "forecast.svg",
    "loss.svg",
    "metrics.json",
    "model.safetensors",
    "checkpoint.safetensors",
];

/// A folder with a table of 240 months: a yearly rhythm plus deterministic values that look like noise.
struct Folder {
    folder: TempDir,
}

impl Folder {
    fn new() -> Self {
        let place = Folder { folder: tempfile::tempdir().unwrap() };
        let mut text = String::from("month,other,growth,sales\n");
        for t in 0..240_u32 {
            let rough = f64::from(t * t * 7919 % 1000) / 1000.0;
            let value = 50.0 + 10.0 * (f64::from(t) * std::f64::consts::TAU / 12.0).sin() + 4.0 * rough;
            let growth = f64::from(t * t) / 100.0 + 9.0 * rough;
            text += &format!("{}-{:02},{},{growth:.3},{value:.3}\n", 1990 + t / 12, t % 12 + 1, t % 5);
        }
        place.write("table.csv", &text);
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, content: &str) {
        fs::write(self.path(name), content).unwrap();
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gatefold"));
        command.current_dir(self.folder.path()).args(arguments.split_whitespace());
        command
    }

    fn run(&self, arguments: &str) -> Output {
        self.command(arguments).output().unwrap()
    }

    fn succeed(&self, arguments: &str) -> String {
        let output = self.run(arguments);
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "gatefold {arguments}: {:?} {error}", output.status);
        String::from_utf8(output.stdout).unwrap()
    }

    /// The one line on stderr of a command that must fail with this code, and print nothing else.
    fn fail(&self, code: i32, arguments: &str) -> String {
        let output = self.run(arguments);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "gatefold {arguments}: {error}");
        assert_eq!(error.trim_end().lines().count(), 1, "gatefold {arguments}: {error}");
        error.trim_end().into()
    }

    fn assert_same_files(&self, one: &str, other: &str) {
        for name in OUTPUTS {
            let (a, b) = (
                fs::read(self.path(one).join(name)).unwrap(),
                fs::read(self.path(other).join(name)).unwrap(),
            );
            assert!(a == b, "{name} differs between {one} and {other}");
        }
    }
}

/// Small and quick: the tests are about the process, not about skill.
const SMALL: &str = "--device cpu --hidden 6 --input 12 --batch 16";

#[test]
fn forecast_writes_every_output_and_prints_a_table() {
    let place = Folder::new();
    let printed = place.succeed(&format!("forecast table.csv {SMALL} --epochs 30 --lr 0.01"));
    for name in OUTPUTS {
        assert!(place.path("gatefold-out").join(name).metadata().unwrap().len() > 100, "{name}");
    }
    let extra = fs::read_dir(place.path("gatefold-out")).unwrap().count();
    assert_eq!(extra, OUTPUTS.len(), "no other file is left");
    for text in
        ["sales, 240 rows, 1990-01 to 2009-12", "season    12", "device    cpu", "seasonal naive (12)"]
    {
        assert!(printed.contains(text), "{text} is not in:\n{printed}");
    }
    assert!(printed.lines().all(|line| line.chars().count() <= 60), "{printed}");

    let metrics: Value = serde_json::from_str(&place.read("gatefold-out/metrics.json")).unwrap();
    let names: Vec<&str> =
        metrics["models"].as_array().unwrap().iter().map(|m| m["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["lstm", "repeat last", "mean", "drift", "seasonal naive (12)"]);
    for model in metrics["models"].as_array().unwrap() {
        for key in ["mae", "rmse", "mase", "smape"] {
            assert!(model[key].as_f64().unwrap() > 0.0, "{key} of {}", model["name"]);
        }
    }
    assert!(
        metrics["models"][0]["mae"].as_f64() < metrics["models"][1]["mae"].as_f64(),
        "{}",
        metrics["models"]
    );

    // The file holds the forecasts that were measured: 48 rows, the last fifth of 240.
    let text = place.read("gatefold-out/forecast.csv");
    let mut lines = text.lines();
    let header = "row,step,date,truth,forecast,repeat_last,mean,drift,seasonal_naive";
    assert_eq!(lines.next().unwrap(), header);
    let rows: Vec<Vec<&str>> = lines.map(|line| line.split(',').collect()).collect();
    assert_eq!(rows.len(), 48);
    assert_eq!((rows[0][0], rows[0][1], rows[0][2]), ("193", "1", "2006-01"));
    for (column, model) in (4..9).zip(metrics["models"].as_array().unwrap()) {
        let number = |row: &Vec<&str>, column: usize| row[column].parse::<f64>().unwrap();
        let mae = rows.iter().map(|row| (number(row, 3) - number(row, column)).abs()).sum::<f64>() / 48.0;
        // Values are below 100 and written with ten digits: an error of at most 5e-9 per row.
        assert!((mae - model["mae"].as_f64().unwrap()).abs() < 1e-8, "{}", model["name"]);
    }
    assert!(place.read("gatefold-out/forecast.svg").contains("2007"), "dates on the axis");
    assert!(place.read("gatefold-out/loss.svg").contains("epoch"));
}

#[test]
fn the_readmes_first_command_beats_repeat_last_and_seasonal_naive() {
    let place = Folder::new();
    let table = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/data/sunspots_monthly.csv");
    fs::copy(table, place.path("sunspots_monthly.csv")).unwrap();
    let started = std::time::Instant::now();
    place.succeed("forecast sunspots_monthly.csv --device cpu --quiet");
    assert!(started.elapsed().as_secs() < 120, "{:?}", started.elapsed());
    let metrics: Value = serde_json::from_str(&place.read("gatefold-out/metrics.json")).unwrap();
    let mae = |model: usize| metrics["models"][model]["mae"].as_f64().unwrap();
    assert!((mae(1) - 14.12).abs() < 0.005, "repeat last is known: {}", mae(1));
    assert!(mae(0) < mae(1) && mae(0) < mae(4), "{}", metrics["models"]);
}

#[test]
fn blocks_columns_and_steps_of_several_samples_are_taken() {
    let place = Folder::new();
    let options =
        "--target other --horizon 5 --input 12 --samples-per-step 4 --season 5 --layers 1 --clip 0.5";
    let printed = place.succeed(&format!(
        "forecast table.csv --device cpu --hidden 5 --epochs 2 --seed 9 --out o {options}"
    ));
    assert!(printed.contains("network   8 -> lstm 5 -> last step -> dense 5"), "{printed}");
    let rows = place.read("o/forecast.csv").lines().count() - 1;
    assert_eq!(rows, (48 - 5 + 1) * 5, "every origin of the test part, five steps each");
    let metrics: Value = serde_json::from_str(&place.read("o/metrics.json")).unwrap();
    let seasonal = &metrics["models"][4];
    assert_eq!(
        (seasonal["name"].as_str(), seasonal["mae"].as_f64()),
        (Some("seasonal naive (5)"), Some(0.0))
    );
    assert_eq!(metrics["target"], "other");
}

/// With each option training works, ends elsewhere than by default, and resumes as if never interrupted.
#[test]
fn losses_and_optimizers_are_taken() {
    let place = Folder::new();
    place.succeed(&format!("forecast table.csv {SMALL} --epochs 3 --out default"));
    let metrics = |out: &str| -> serde_json::Value {
        serde_json::from_str(&place.read(&format!("{out}/metrics.json"))).unwrap()
    };
    let default = metrics("default");
    assert_eq!((&default["loss"], &default["optimizer"]), (&"squared".into(), &"adam".into()));
    for (k, options) in [
        "--loss absolute",
        "--loss huber --optimizer rmsprop",
        "--optimizer adamw",
        "--optimizer sgd --clip-value 0.01",
        "--clip-value 0.01",
    ]
    .into_iter()
    .enumerate()
    {
        place.succeed(&format!("forecast table.csv {SMALL} {options} --epochs 3 --out whole{k}"));
        place.succeed(&format!("forecast table.csv {SMALL} {options} --epochs 1 --out parts{k}"));
        place.succeed(&format!("forecast table.csv --device cpu --resume --epochs 3 --out parts{k}"));
        place.assert_same_files(&format!("whole{k}"), &format!("parts{k}"));
        let found = metrics(&format!("whole{k}"));
        assert_ne!(found["models"][0], default["models"][0], "{options}");
        assert_ne!(found["validation_loss"], default["validation_loss"], "{options}");
    }
    let differs = place.fail(2, "forecast table.csv --device cpu --resume --out whole1 --loss squared");
    assert!(differs.starts_with("error: --loss squared differs from the checkpoint's huber;"), "{differs}");
    let differs = place.fail(2, "forecast table.csv --device cpu --resume --out whole0 --clip-value 2");
    assert!(differs.starts_with("error: --clip-value 2 differs from the checkpoint's off;"), "{differs}");
}

/// Training in chunks ends where training on whole inputs does, up to rounding, and resumes as if never interrupted.
#[test]
fn a_forecast_is_trained_in_chunks() {
    let place = Folder::new();
    place.succeed(&format!("forecast table.csv {SMALL} --epochs 3 --out default"));
    place.succeed(&format!("forecast table.csv {SMALL} --recompute 5 --epochs 3 --out whole"));
    place.succeed(&format!("forecast table.csv {SMALL} --recompute 5 --epochs 1 --out parts"));
    place.succeed("forecast table.csv --device cpu --resume --epochs 3 --out parts");
    place.assert_same_files("whole", "parts");
    let loss = |out: &str| -> f64 {
        let metrics: serde_json::Value =
            serde_json::from_str(&place.read(&format!("{out}/metrics.json"))).unwrap();
        metrics["validation_loss"][2].as_f64().unwrap()
    };
    let (found, expected) = (loss("whole"), loss("default"));
    assert!((found - expected).abs() <= 1e-4 * expected, "{found} in chunks, {expected} on whole inputs");
    let differs = place.fail(2, "forecast table.csv --device cpu --resume --out parts --recompute 2");
    assert!(differs.starts_with("error: --recompute 2 differs from the checkpoint's 5;"), "{differs}");
}

/// For a network that hardly learns: the mean magnitude is at most the root of the mean square, and Huber's loss is
/// at most half the square and at most the magnitude.
#[test]
fn the_validation_loss_is_the_one_that_was_chosen() {
    let place = Folder::new();
    let loss = |name: &str| {
        let options = format!("--loss {name} --lr 1e-30 --epochs 1");
        place.succeed(&format!("forecast table.csv {SMALL} {options} --out {name}"));
        let metrics: Value = serde_json::from_str(&place.read(&format!("{name}/metrics.json"))).unwrap();
        metrics["validation_loss"][0].as_f64().unwrap()
    };
    let (squared, absolute, huber) = (loss("squared"), loss("absolute"), loss("huber"));
    assert!(absolute < squared.sqrt() && absolute != squared, "{absolute}, {squared}");
    assert!(huber < absolute && huber < squared / 2.0, "{huber}, {absolute}, {squared}");
}

#[test]
fn quiet_is_silent_and_no_season_is_no_baseline() {
    let place = Folder::new();
    let output = place.run(&format!("forecast table.csv {SMALL} --epochs 1 --season 0 --quiet"));
    assert!(output.status.success() && output.stdout.is_empty() && output.stderr.is_empty());
    let metrics: Value = serde_json::from_str(&place.read("gatefold-out/metrics.json")).unwrap();
    assert_eq!(metrics["models"].as_array().unwrap().len(), 4);
    assert_eq!(metrics["season"], Value::Null);
}

#[test]
fn progress_is_plain_lines_without_a_terminal() {
    let place = Folder::new();
    let output = place.run(&format!("forecast table.csv {SMALL} --epochs 3"));
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(text.lines().count(), 3, "{text}");
    for (line, epoch) in text.lines().zip(1..) {
        assert!(line.starts_with(&format!("epoch {epoch}/3  loss ")), "{line}");
        assert!(line.contains("steps/s") && line.ends_with(" left"), "{line}");
        assert!(line.len() <= 60, "{line}");
    }
    assert!(!text.contains('\u{1b}'), "no colours and no cursor movements");
}

#[test]
fn more_epochs_resumed_are_the_same_as_at_once() {
    let place = Folder::new();
    // Fast enough that the learning rate falls, and the best epoch passes, before the run is resumed.
    place.succeed(&format!("forecast table.csv {SMALL} --lr 0.05 --epochs 17 --out whole"));
    place.succeed(&format!("forecast table.csv {SMALL} --lr 0.05 --epochs 12 --out parts"));
    let checkpoint = fs::read(place.path("parts/checkpoint.safetensors")).unwrap();
    let header = String::from_utf8_lossy(&checkpoint);
    assert!(header.contains(r#"\"decays\":1"#), "choose other settings for this test");
    let printed = place.succeed("forecast table.csv --device cpu --epochs 17 --out parts --resume");
    assert!(printed.contains("resumed   after step 120"), "{printed}"); // 163 - 12 windows, 16 a batch: 10 steps an epoch
    place.assert_same_files("whole", "parts");
    // Nothing is left to train: the result is the same.
    place.succeed("forecast table.csv --device cpu --out parts --resume --quiet");
    place.assert_same_files("whole", "parts");
}

/// The same commands on a GPU: a resumed run equals an uninterrupted one bit for bit, and the CPU's up to rounding.
#[test]
fn a_gpu_forecasts_resumes_and_predicts() {
    if gatefold_check::test_gpu().is_none() {
        return;
    }
    let place = Folder::new();
    let gpu = SMALL.replace("--device cpu", "--device gpu");
    place.succeed(&format!("forecast table.csv {gpu} --epochs 4 --out whole"));
    place.succeed(&format!("forecast table.csv {gpu} --epochs 2 --out parts"));
    place.succeed("forecast table.csv --device gpu --epochs 4 --out parts --resume");
    place.assert_same_files("whole", "parts");

    place.succeed(&format!("forecast table.csv {SMALL} --epochs 4 --out cpu"));
    let mae = |out: &str| {
        let metrics: Value = serde_json::from_str(&place.read(&format!("{out}/metrics.json"))).unwrap();
        metrics["models"][0]["mae"].as_f64().unwrap()
    };
    let (on_gpu, on_cpu) = (mae("whole"), mae("cpu"));
    assert!((on_gpu - on_cpu).abs() < 1e-3 * on_cpu, "{on_gpu} on the GPU, {on_cpu} on the CPU");

    let predict = |device: &str| {
        place.succeed(&format!(
            "predict whole/model.safetensors table.csv --device {device} --out {device}.csv"
        ));
        let text = place.read(&format!("{device}.csv"));
        text.trim_end().rsplit(',').next().unwrap().parse::<f64>().unwrap()
    };
    let (gpu, cpu) = (predict("gpu"), predict("cpu"));
    assert!((gpu - cpu).abs() < 1e-4 * cpu.abs(), "{gpu} on the GPU, {cpu} on the CPU");
}

/// Interrupts the command, as Ctrl-C does, as soon as it shows this epoch.
#[cfg(unix)]
fn interrupt_at(place: &Folder, arguments: &str, epoch: &str) -> (Option<i32>, String) {
    use std::io::{BufRead, BufReader, Read};
    use std::process::Stdio;
    let mut child = place.command(arguments).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap());
    let mut text = String::new();
    while !text.lines().any(|line| line.starts_with(epoch)) {
        assert!(lines.read_line(&mut text).unwrap() > 0, "it ended before {epoch}: {text}");
    }
    // The shell's own `kill`, because a bare Debian has no such program.
    let kill = Command::new("sh").arg("-c").arg(format!("kill -INT {}", child.id())).status().unwrap();
    assert!(kill.success());
    lines.read_to_string(&mut text).unwrap();
    (child.wait().unwrap().code(), text)
}

#[cfg(unix)]
#[test]
fn interrupted_and_resumed_is_the_same_as_uninterrupted() {
    let place = Folder::new();
    // Enough batches per epoch that the signal arrives in the middle of one.
    let options = "--device cpu --threads 1 --hidden 6 --input 12 --batch 2 --epochs 14";
    place.succeed(&format!("forecast table.csv {options} --out whole"));
    let mut arguments = format!("forecast table.csv {options} --out parts");
    for epoch in ["epoch 2/", "epoch 5/"] {
        let (code, text) = interrupt_at(&place, &arguments, epoch);
        assert_eq!(code, Some(130), "{text}");
        assert!(
            text.contains(
                "Continue with:\n  gatefold forecast table.csv --out parts --device cpu --threads 1 --resume"
            ),
            "{text}"
        );
        assert!(!place.path("parts/metrics.json").exists(), "it did not end");
        arguments = "forecast table.csv --device cpu --threads 1 --out parts --resume".into();
    }
    place.succeed(&arguments);
    place.assert_same_files("whole", "parts");
}

#[test]
fn the_test_part_is_forecast_by_the_best_epoch_from_the_past_alone() {
    let place = Folder::new();
    // A series that returns to a level and one that grows, since the network sees them differently.
    for target in ["sales", "growth"] {
        check_test_part(&place, target);
    }
}

fn check_test_part(place: &Folder, target: &str) {
    let options = "--epochs 30 --lr 0.05 --horizon 3 --out o";
    place.succeed(&format!("forecast table.csv {SMALL} {options} --target {target}"));
    let metrics: Value = serde_json::from_str(&place.read("o/metrics.json")).unwrap();
    assert_ne!(metrics["best_epoch"], metrics["epochs"], "else the last epoch would do");
    let table = place.read("table.csv");
    let forecast = place.read("o/forecast.csv");
    let column = |row: &str, index: usize| row.split(',').nth(index).unwrap().parse::<f64>().unwrap();
    for origin in [192, 193, 210, 237] {
        let past: Vec<&str> = table.lines().take(1 + origin).collect();
        place.write("past.csv", &past.join("\n"));
        let rows = forecast.lines().skip(1 + 3 * (origin - 192)).take(3);
        let expected: Vec<f64> = rows.map(|row| column(row, 4)).collect();
        for file in ["model", "checkpoint"] {
            place.succeed(&format!("predict o/{file}.safetensors past.csv --device cpu --out next.csv"));
            let found: Vec<f64> = place.read("next.csv").lines().skip(1).map(|row| column(row, 2)).collect();
            for (found, expected) in found.iter().zip(&expected) {
                // One row and many rows are summed in different orders: about 100 f32 roundings in values of at most
                // 10.
                assert!((found - expected).abs() < 1e-4, "{file} after row {origin}: {found} {expected}");
            }
            assert_eq!(found.len(), expected.len());
        }
    }
}

#[test]
fn predict_continues_the_table() {
    let place = Folder::new();
    place.succeed(&format!("forecast table.csv {SMALL} --epochs 3 --horizon 4 --out o"));
    let printed = place.succeed("predict o/model.safetensors table.csv --device cpu --out block.csv");
    assert!(printed.contains("forecast  4 samples, one block"), "{printed}");
    let block = place.read("block.csv");
    let lines: Vec<&str> = block.lines().collect();
    assert_eq!(lines[0], "step,date,forecast");
    assert_eq!(lines.len(), 5);
    assert!(lines[1].starts_with("1,2010-01,") && lines[4].starts_with("4,2010-04,"), "{block}");

    // The checkpoint forecasts with the same parameters, those of the best epoch.
    place.succeed("predict o/checkpoint.safetensors table.csv --device cpu --out same.csv --quiet");
    assert_eq!(place.read("same.csv"), block);

    // In closed loop the first block is the same, and the second is the forecast with the first one appended.
    let printed =
        place.succeed("predict o/model.safetensors table.csv --device cpu --out long.csv --steps 6");
    assert!(printed.contains("forecast  6 samples, 2 blocks in closed loop"), "{printed}");
    let long = place.read("long.csv");
    assert_eq!((long.lines().count(), long.starts_with(&block)), (7, true), "{long}");
    let mut table = place.read("table.csv");
    for line in &lines[1..] {
        let cells: Vec<&str> = line.split(',').collect();
        table += &format!("{},0,0,{}\n", cells[1], cells[2]);
    }
    place.write("longer.csv", &table);
    place.succeed("predict o/model.safetensors longer.csv --device cpu --out second.csv --steps 1");
    let value = |text: &str, line: usize| {
        text.lines().nth(line).unwrap().rsplit(',').next().unwrap().parse::<f64>().unwrap()
    };
    // Appended with ten digits: the last bit of an f32 may change.
    let (appended, looped) = (value(&place.read("second.csv"), 1), value(&long, 5));
    assert!((appended - looped).abs() < 1e-5, "{appended} {looped}");
}

#[test]
fn a_users_mistakes_are_one_line_each() {
    let place = Folder::new();
    place.write("empty.csv", "");
    place.write("names.csv", "a,b\n");
    place.write("one.csv", "date,v\n2001-01,5\n");
    place.write("constant.csv", &format!("v\n{}", "7\n".repeat(60)));
    place.write("text.csv", "v\n1\n2\nthree\n4\n5\n6\n7\n8\n9\n10\n");
    place.write("gap.csv", "date,v\n2001-01,1\n2001-02,\n2001-03,3\n2001-04,5\n");
    place.write("ragged.csv", "a,b\n1,2\n3\n");
    place.write("words.csv", "v\nx\ny\n");
    place.write("file", "");
    let forecast =
        |code: i32, arguments: &str| place.fail(code, &format!("forecast --device cpu {arguments}"));
    assert_eq!(forecast(1, "none.csv"), "error: none.csv: there is no such file; check the path");
    assert!(forecast(1, "empty.csv").starts_with("error: empty.csv: the table is empty"));
    assert!(
        forecast(1, "names.csv").starts_with("error: names.csv: the table has a line of names and no rows")
    );
    assert!(forecast(1, "one.csv").starts_with("error: one.csv: 1 row is too few"));
    assert!(forecast(1, "constant.csv").starts_with("error: constant.csv: the series is constant"));
    assert!(
        forecast(1, "text.csv").starts_with("error: text.csv, line 4, column v: 'three' is not a number")
    );
    assert!(forecast(1, "gap.csv").starts_with("error: gap.csv, line 3, column v: the cell is missing"));
    assert!(forecast(1, "ragged.csv").starts_with("error: ragged.csv, line 3: 1 cell; expected 2"));
    assert!(forecast(1, "words.csv").starts_with("error: words.csv: no column holds numbers"));
    assert_eq!(
        forecast(1, "table.csv --target profit"),
        "error: table.csv: there is no column profit; columns of numbers: other, growth, sales"
    );
    assert!(forecast(1, "table.csv --target month").contains("column month holds dates, such as '1990-01'"));
    assert_eq!(
        forecast(1, "table.csv --horizon 1000"),
        "error: table.csv: a horizon of 1000 does not fit into 240 rows, of which 48 are forecast and 29 choose the best \
         epoch; use --horizon 29 or less, or add rows"
    );
    assert!(forecast(1, "table.csv --input 200").contains("use --input 162 or less"));
    assert!(
        forecast(1, "table.csv --season 500").contains("a season of 500 samples does not fit into the 192")
    );
    assert!(forecast(2, "table.csv --input 10 --samples-per-step 3").contains("use --input 12"));
    assert!(forecast(1, "table.csv --resume").contains("there is no checkpoint to resume"));
    assert!(forecast(1, "table.csv --out file").starts_with("error: file: cannot create this directory"));
    let unknown = place.fail(1, "forecast table.csv --device no-such-adapter");
    assert!(unknown.contains("no-such-adapter"), "{unknown}");
    assert!(!place.path("gatefold-out").exists(), "nothing was written for a mistake");

    for arguments in ["forecast", "forecast table.csv --horizon 0", "forecast table.csv --lr -1", "nonsense"]
    {
        let output = place.run(arguments);
        assert_eq!(output.status.code(), Some(2), "gatefold {arguments}");
        assert!(String::from_utf8(output.stderr).unwrap().contains("--help"), "gatefold {arguments}");
    }
}

#[test]
fn mistakes_with_a_checkpoint_are_one_line_each() {
    let place = Folder::new();
    place.succeed(&format!("forecast table.csv {SMALL} --epochs 2 --out o"));
    let before = fs::read(place.path("o/checkpoint.safetensors")).unwrap();
    let resume = |code: i32, arguments: &str| {
        place.fail(code, &format!("forecast {arguments} --device cpu --out o --resume"))
    };
    let differs = resume(2, "table.csv --hidden 7");
    assert_eq!(
        differs,
        "error: --hidden 7 differs from the checkpoint's 6; leave it out, or train again without --resume"
    );
    assert!(
        resume(2, "table.csv --target other").contains("--target other differs from the checkpoint's sales")
    );
    place.write(
        "changed.csv",
        &place.read("table.csv").replacen("1995-05,", "1995-05,1", 1).replacen(",50", ",51", 1),
    );
    assert!(
        resume(1, "changed.csv")
            .contains("changed.csv: the series is not the one the checkpoint was trained on")
    );
    let predict = |arguments: &str| {
        let out = if arguments.contains("--out") { "" } else { "--out p.csv" };
        place.fail(1, &format!("predict {arguments} --device cpu {out}"))
    };
    assert!(predict("none.safetensors table.csv").contains("none.safetensors"));
    assert!(predict("table.csv table.csv").starts_with("error: table.csv: "));
    assert!(predict("o/model.safetensors none.csv").contains("there is no such file"));
    place.write("few.csv", "month,sales\n2001-01,1\n2001-02,2\n");
    assert_eq!(
        predict("o/model.safetensors few.csv"),
        "error: few.csv: the model sees 12 rows before it forecasts; found 2; give a table with more rows"
    );
    place.write("other.csv", "month,profit\n2001-01,1\n2001-02,2\n");
    assert!(
        predict("o/model.safetensors other.csv")
            .contains("there is no column sales; columns of numbers: profit")
    );
    assert!(predict("o/model.safetensors table.csv --out no/such/folder.csv").contains("no/such"));
    fs::write(place.path("o/checkpoint.safetensors"), &before[..before.len() - 9]).unwrap();
    let truncated = resume(1, "table.csv");
    assert!(
        truncated
            .starts_with(&format!("error: {}: ", Path::new("o").join("checkpoint.safetensors").display()))
    );
    assert!(!place.path("p.csv").exists());
}
