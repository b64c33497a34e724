//! `gatefold backtest`, its logs and its document, from end to end.

#[cfg(unix)]
use crate::forecast::interrupt_at;
use crate::support::{Folder, SMALL, small, table};
use serde_json::Value;
use std::collections::HashMap;
use std::fs;

const OUTPUTS: [&str; 6] =
    ["backtest.csv", "by_step.csv", "by_series.csv", "by_step.svg", "by_step.png", "run.toml"];

fn number(row: &HashMap<String, String>, name: &str) -> f64 {
    row[name].parse().unwrap_or_else(|_| panic!("{name} of {row:?}"))
}

#[test]
fn every_forecast_is_written_and_the_measures_are_theirs() {
    let place = Folder::new();
    let printed =
        place.succeed(&format!("backtest table.csv {SMALL} --horizon 3 --windows 5 --step 2 --out o"));
    for name in OUTPUTS.into_iter().chain(["metrics.json", "report.html", "log.csv"]) {
        assert!(fs::metadata(place.path("o").join(name)).unwrap().len() > 0, "{name}");
    }
    assert!(printed.contains("windows   5, 2 apart; models are fitted once, before the first"), "{printed}");
    assert!(printed.contains("parts     train 194, calibration 35, windows 11"), "{printed}");
    assert!(printed.lines().all(|line| line.chars().count() <= 76), "{printed}");
    let (metrics, rows) = (place.metrics("o"), place.rows("o/backtest.csv"));
    let models = metrics["models"].as_array().unwrap();
    assert_eq!(models.len(), 4, "three and their combination");
    assert_eq!(rows.len(), 4 * 5 * 3);
    let first: Vec<&str> =
        ["series", "origin", "step", "date"].iter().map(|name| rows[0][*name].as_str()).collect();
    // Eleven samples before the end of 2009-12 is 2009-02, the first that is forecast.
    assert_eq!(first, ["sales", "2009-01", "1", "2009-02"]);
    assert_eq!((rows[59]["origin"].as_str(), rows[59]["date"].as_str()), ("2009-09", "2009-12"));
    for model in models {
        let own: Vec<_> = rows.iter().filter(|row| row["model"] == model["name"].as_str().unwrap()).collect();
        let errors: Vec<f64> = own.iter().map(|row| number(row, "forecast") - number(row, "truth")).collect();
        let mean = |values: Vec<f64>| values.iter().sum::<f64>() / values.len() as f64;
        let same = |name: &str, value: f64| {
            let found = model[name].as_f64().unwrap();
            assert!(
                (found - value).abs() < 1e-6 * (1.0 + value.abs()),
                "{name}: {found}, in the table {value}"
            );
        };
        same("mae", mean(errors.iter().map(|error| error.abs()).collect()));
        same("rmse", mean(errors.iter().map(|error| error * error).collect()).sqrt());
        same("bias", mean(errors.clone()));
        let inside = |row: &&HashMap<String, String>| {
            let within =
                number(row, "lower") <= number(row, "truth") && number(row, "truth") <= number(row, "upper");
            f64::from(u8::from(within))
        };
        same("coverage", mean(own.iter().map(inside).collect()));
        for (k, step) in model["by_step"].as_array().unwrap().iter().enumerate() {
            let of_step = errors.iter().skip(k).step_by(3).map(|error| error.abs()).collect();
            assert!((step["mae"].as_f64().unwrap() - mean(of_step)).abs() < 1e-6);
        }
        assert_eq!(model["by_window"].as_array().unwrap().len(), 5);
    }
    let by_step = place.rows("o/by_step.csv");
    assert!((number(&by_step[1], "crps") - models[0]["by_step"][1]["crps"].as_f64().unwrap()).abs() < 1e-6);
}

#[test]
fn its_configuration_repeats_it_and_refitting_is_another_result() {
    let place = Folder::new();
    let options = format!("{} --horizon 2 --windows 3 --level 80", small("linear,network"));
    place.succeed(&format!("backtest table.csv {options} --out one"));
    place.succeed("backtest table.csv --config one/run.toml --device cpu --out two");
    place.assert_same("one", "two", &OUTPUTS);
    place.succeed("backtest table.csv --config one/run.toml --refit always --device cpu --out three");
    let metrics = |out: &str| place.metrics(out)["models"][0].clone();
    assert_ne!(metrics("one")["mae"], metrics("three")["mae"]);
    // The windows are nothing to a forecast, and its test part is nothing to a backtest.
    place.succeed("forecast table.csv --config one/run.toml --device cpu --out forecast");
    place.succeed("backtest table.csv --config forecast/run.toml --device cpu --windows 3 --out four");
    assert_eq!(metrics("four")["mae"], metrics("one")["mae"]);
    let refused = place.fail(2, "backtest table.csv --test 20");
    assert!(refused.contains("--test is for forecast"), "{refused}");
    let refused = place.fail(1, "backtest table.csv --device cpu --windows 100 --horizon 4");
    assert!(refused.contains("use --windows"), "{refused}");
}

/// The rows of a log of one model, with their seconds: equal seconds say that they are of the same training.
#[cfg(unix)]
pub(crate) fn logged(place: &Folder, out: &str, model: &str) -> Vec<String> {
    let text = place.read(&format!("{out}/log.csv"));
    let of_model = |line: &&str| line.starts_with(&format!("{model},"));
    text.lines().filter(of_model).map(str::to_owned).collect()
}

#[cfg(unix)]
#[test]
fn an_interrupted_backtest_goes_on_and_trains_nothing_twice() {
    let place = Folder::new();
    let options = "--device cpu --threads 1 --model linear,network,dense --hidden 4 --input 12 --batch 8 --ensemble 1 \
                   --updates 1500 --horizon 2 --windows 2 --refit always";
    place.succeed(&format!("backtest table.csv {options} --out whole"));
    let begin = format!("backtest table.csv {options} --out parts");
    let (code, text) = interrupt_at(&place, &begin, "dense 1/1 validation 375/");
    assert_eq!(code, Some(130), "{text}");
    let resume = "backtest table.csv --resume --out parts --device cpu";
    assert!(text.contains(&format!("continue with\n  gatefold {resume}")), "{text}");
    assert!(!place.path("parts/metrics.json").exists(), "it did not end");
    let network = logged(&place, "parts", "network");
    assert!(network.iter().any(|row| row.contains(",1500,")), "it was finished: {text}");
    assert!(place.path("parts/checkpoints/network-window-2-1.safetensors").exists(), "and its windows too");
    let other = place.fail(2, &format!("{resume} --refit never"));
    assert!(other.contains("an option differs") && other.contains("refit = \"never\""), "{other}");
    place.write("other.csv", &table(239));
    let other = place.fail(1, &resume.replace("table.csv", "other.csv"));
    assert!(other.contains("the series are not those"), "{other}");
    // Another version or device would not end with the same bits.
    let begun = place.read("parts/checkpoints/table");
    for (own, other) in [("gatefold ", "gatefold 0.0.0-"), (" on cpu (", " on gpu (")] {
        place.write("parts/checkpoints/table", &begun.replacen(own, other, 1));
        let refused = place.fail(1, resume);
        assert!(refused.contains("the run was not begun with") && refused.contains(other), "{refused}");
    }
    place.write("parts/checkpoints/table", &begun);
    place.succeed(&format!("{resume} --threads 1"));
    place.assert_same("whole", "parts", &OUTPUTS);
    assert_eq!(logged(&place, "parts", "network"), network);
    assert!(!place.path("parts/checkpoints").exists());
    assert!(place.fail(1, resume).contains("there is nothing to resume"));
}

#[test]
fn a_document_is_all_of_stdout_and_has_the_metrics() {
    let place = Folder::new();
    for (command, out) in [("forecast", "f"), ("backtest", "b")] {
        let output = place.run(&format!("{command} table.csv {SMALL} --horizon 2 --json --out {out}"));
        assert!(output.status.success());
        let mut document: Value = serde_json::from_slice(&output.stdout).unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.contains("target    sales") && text.contains("fitting   network"), "{text}");
        assert_eq!(document["out"], out);
        assert_eq!(document["table"][3].as_str().unwrap().split_whitespace().next(), Some("span"));
        if command == "forecast" {
            let rows = place.rows("f/forecast.csv");
            assert_eq!(document["forecast"].as_array().unwrap().len(), rows.len());
            for (row, found) in rows.iter().zip(document["forecast"].as_array().unwrap()) {
                assert_eq!(found["date"], row["date"]);
                for name in ["forecast", "low", "high"] {
                    assert_eq!(found[name].as_f64().unwrap(), number(row, name));
                }
            }
            document.as_object_mut().unwrap().remove("forecast");
        }
        let keys = document.as_object_mut().unwrap();
        keys.remove("out");
        keys.remove("table");
        assert_eq!(document, place.metrics(out), "{command}");
        let output =
            place.run(&format!("{command} table.csv {SMALL} --horizon 2 --json --quiet --out {out}"));
        assert!(output.stderr.is_empty() && serde_json::from_slice::<Value>(&output.stdout).is_ok());
    }
    let output = place.run("predict f table.csv --device cpu --json --out p.csv");
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    let forecast = document["forecast"].as_array().unwrap();
    assert_eq!((document["command"].as_str(), forecast.len()), (Some("predict"), 2));
    assert_eq!(forecast[1]["high"].as_f64().unwrap(), number(&place.rows("p.csv")[1], "high"));
}

#[test]
fn every_update_is_logged() {
    let place = Folder::new();
    let options = small("network").replace("--ensemble 1", "--ensemble 2");
    place.succeed(&format!("forecast table.csv {options} --horizon 2 --out o --tensorboard tb"));
    let rows = place.rows("o/log.csv");
    let of = |stage: &str, network: &str| -> Vec<HashMap<String, String>> {
        let own = rows.iter().filter(|row| row["stage"] == stage && row["network"] == network);
        own.cloned().collect()
    };
    let one = of("validation", "1");
    assert_eq!(one.len(), 24);
    assert_eq!(one[23]["update"], "24");
    // The rate rises over a quarter of the updates, to its highest, and falls.
    let rates: Vec<f64> = one.iter().map(|row| number(row, "learning_rate")).collect();
    assert!(rates[0] < rates[5] && (rates[5] - 3e-3).abs() < 1e-9 && rates[23] < rates[12], "{rates:?}");
    let looks: Vec<&str> =
        one.iter().filter(|row| !row["validation"].is_empty()).map(|row| row["update"].as_str()).collect();
    assert_eq!(looks.len(), 13, "before the first update, and twelve times: {looks:?}");
    assert!(rows.iter().all(|row| number(row, "loss") > 0.0 && row["model"] == "network"));
    assert!(rows.windows(2).all(|pair| number(&pair[0], "seconds") <= number(&pair[1], "seconds")));
    for stage in ["validation", "test", "future"] {
        let logged = of(stage, "2").len();
        let folder = place.path("tb").join(format!("{stage}-network-2"));
        if logged == 0 {
            assert!(!folder.exists());
            continue;
        }
        let files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        let bytes = fs::read(&files[0]).unwrap();
        assert!(files[0].file_name().unwrap().to_str().unwrap().starts_with("events.out.tfevents."));
        let tags = |tag: &[u8]| bytes.windows(tag.len()).filter(|window| *window == tag).count();
        assert_eq!((tags(b"loss"), tags(b"learning_rate"), tags(b"brain.Event:2")), (logged, logged, 1));
    }
    fs::write(place.path("file"), "").unwrap();
    let refused =
        place.fail(1, &format!("forecast table.csv {options} --horizon 2 --out o --tensorboard file"));
    assert!(refused.contains("cannot write the log"), "{refused}");
}

#[test]
fn the_trial_of_ids_comes_before_the_networks() {
    let place = Folder::new();
    let mut shops = String::from("shop,month,sales\n");
    for (shop, month) in (0..12).flat_map(|shop| (0..120).map(move |month| (shop, month))) {
        let value = 20 + shop * 3 + (month % 12) * 2 + (shop * 7 + month * 5) % 4;
        shops += &format!("s{shop},{}-{:02},{value}\n", 2005 + month / 12, month % 12 + 1);
    }
    place.write("shops.csv", &shops);
    let options =
        "--device cpu --model network --hidden 4 --batch 8 --ensemble 1 --updates 12 --horizon 6 --windows 2";
    let stages = |out: &str| {
        let mut stages: Vec<String> =
            place.rows(&format!("{out}/log.csv")).into_iter().map(|row| row["stage"].clone()).collect();
        stages.dedup();
        stages
    };
    place.succeed(&format!("backtest shops.csv {options} --out auto"));
    assert_eq!(stages("auto")[..3], ["trial-without-ids", "trial-with-ids", "validation"]);
    place.succeed(&format!("backtest shops.csv {options} --ids no --out no"));
    assert_eq!(stages("no")[0], "validation");
}

#[cfg(target_os = "linux")]
#[test]
fn a_terminal_shows_a_bar_with_the_rate_and_the_time_left() {
    let place = Folder::new();
    let line =
        format!("{} forecast table.csv {} --horizon 1", env!("CARGO_BIN_EXE_gatefold"), small("network"));
    let mut script = std::process::Command::new("script");
    script.current_dir(place.path("")).args(["-qec", &line, "/dev/null"]).env("TERM", "xterm");
    let output = script.output().expect("`script` of util-linux is there");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    let bars: Vec<&str> = text.split(['\r', '\n']).filter(|line| line.contains("network 1/1")).collect();
    assert!(bars.iter().any(|bar| bar.contains("/s ") && bar.contains("left")), "{text}");
    assert!(bars.iter().all(|bar| bar.contains('\u{1b}') && !bar.contains("updates/s")), "{bars:?}");
}
