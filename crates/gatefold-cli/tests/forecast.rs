//! `gatefold forecast` and `gatefold predict`, from end to end as a user runs them.

use crate::support::{Folder, SMALL, small, table};
use serde_json::Value;
use std::collections::HashMap;
use std::fs;
use std::process::Command;

const OUTPUTS: [&str; 9] = [
    "forecast.csv",
    "forecast.svg",
    "forecast.png",
    "test.csv",
    "test.svg",
    "model.json",
    "run.toml",
    "network-1.safetensors",
    "network.json",
];

#[test]
fn a_run_writes_every_output_and_forecasts_the_months_that_follow() {
    let place = Folder::new();
    let printed = place.succeed(&format!("forecast table.csv {SMALL} --horizon 3 --out o"));
    for name in OUTPUTS.into_iter().chain(["metrics.json"]) {
        assert!(fs::metadata(place.path("o").join(name)).unwrap().len() > 0, "{name}");
    }
    assert!(!place.path("o/checkpoints").exists(), "nothing is left to resume");
    for text in
        ["target    sales", "season    12 samples", "parts     train 163, validation 29, test 48", "2010-03"]
    {
        assert!(printed.contains(text), "no '{text}' in {printed}");
    }
    assert!(printed.lines().all(|line| line.chars().count() <= 76), "{printed}");

    let future = place.rows("o/forecast.csv");
    let dates: Vec<&str> = future.iter().map(|row| row["date"].as_str()).collect();
    assert_eq!(dates, ["2010-01", "2010-02", "2010-03"]);
    for row in &future {
        let [low, forecast, high] = ["low", "forecast", "high"].map(|name| row[name].parse::<f64>().unwrap());
        assert!(30.0 < low && low < forecast && forecast < high && high < 75.0, "{row:?}");
    }

    // The printed errors are those of test.csv.
    let metrics = place.metrics("o");
    for model in metrics["models"].as_array().unwrap() {
        let column = model["name"].as_str().unwrap().replace(' ', "_");
        let rows = place.rows("o/test.csv");
        let error = |row: &HashMap<String, String>| {
            (row[&column].parse::<f64>().unwrap() - row["truth"].parse::<f64>().unwrap()).abs()
        };
        let mae = rows.iter().map(error).sum::<f64>() / rows.len() as f64;
        assert!((mae - model["mae"].as_f64().unwrap()).abs() < 1e-6, "{column}: {mae}");
        assert_eq!(rows.len(), (48 - 3 + 1) * 3);
    }
    let coverage = metrics["coverage"].as_f64().unwrap();
    assert!((0.7..=1.0).contains(&coverage), "{coverage}");
}

#[test]
fn forecasts_of_the_test_part_know_nothing_of_what_follows() {
    let place = Folder::new();
    place.succeed(&format!("forecast table.csv {SMALL} --horizon 2 --out before"));
    // A shock in the third of the 48 months of the test part: 2006-03.
    let shocked: String = place
        .read("table.csv")
        .lines()
        .map(|line| {
            let changed =
                line.starts_with("2006-03,").then(|| format!("{},500", line.rsplit_once(',').unwrap().0));
            changed.unwrap_or_else(|| line.into()) + "\n"
        })
        .collect();
    place.write("shocked.csv", &shocked);
    place.succeed(&format!("forecast shocked.csv {SMALL} --horizon 2 --out after"));
    let forecasts = |out: &str| -> Vec<(String, Vec<String>)> {
        let models = ["repeat_last", "linear", "network"];
        let rows = place.rows(&format!("{out}/test.csv"));
        rows.iter()
            .map(|row| (row["date"].clone(), models.map(|model| row[model].clone()).to_vec()))
            .collect()
    };
    let (before, after) = (forecasts("before"), forecasts("after"));
    let changed: Vec<usize> = (0..before.len()).filter(|at| before[*at] != after[*at]).collect();
    // Origins 0, 1 and 2 come before the shock: two rows each.
    assert_eq!(changed.first(), Some(&6), "{changed:?}");
}

#[test]
fn the_configuration_that_a_run_wrote_repeats_it() {
    let place = Folder::new();
    place.succeed(&format!(
        "forecast table.csv {} --horizon 2 --seed 7 --level 80 --out one",
        small("network")
    ));
    place.succeed("forecast table.csv --config one/run.toml --device cpu --out two");
    place.assert_same("one", "two", &OUTPUTS);
    // The command line comes before the file.
    place.succeed("forecast table.csv --config one/run.toml --horizon 1 --device cpu --out three");
    assert_eq!(place.rows("three/forecast.csv").len(), 1);
    place.write("bad.toml", "horizon = ");
    assert!(place.fail(1, "forecast table.csv --config bad.toml").starts_with("error: bad.toml: "));
    assert!(place.fail(1, "forecast table.csv --config no.toml").starts_with("error: no.toml: "));
}

#[test]
fn several_columns_are_forecast_together() {
    let place = Folder::new();
    place.succeed(&format!("forecast table.csv {SMALL} --target growth,sales --horizon 2 --out o"));
    let rows = place.rows("o/forecast.csv");
    let series: Vec<&str> = rows.iter().map(|row| row["series"].as_str()).collect();
    assert_eq!(series, ["growth", "growth", "sales", "sales"]);
    // The growth goes on past everything that was seen: 240 * 240 / 100 and more.
    assert!(rows[0]["forecast"].parse::<f64>().unwrap() > 565.0, "{rows:?}");
}

#[test]
fn cells_losses_and_optimisers_are_taken() {
    let place = Folder::new();
    let mut seen = Vec::new();
    for options in [
        "--cell gru",
        "--cell lstm",
        "--cell rnn",
        "--loss squared",
        "--loss huber",
        "--loss quantile",
        "--loss gaussian",
        "--log",
        "--optimizer adamw",
        "--optimizer rmsprop",
        "--optimizer sgd",
        "--layers 2",
        "--dilations 1,2,4 --cell lstm",
        "--dilations 1,2,4",
        "--clip-value 0.001",
        "--mixing 0.5",
        "--seed 2",
    ] {
        place.succeed(&format!(
            "forecast table.csv {} --horizon 1 {options} --quiet --out o",
            small("network")
        ));
        let files =
            ["o/network-1.safetensors", "o/network.json"].map(|name| fs::read(place.path(name)).unwrap());
        seen.push((files, options));
    }
    for (index, (files, options)) in seen.iter().enumerate() {
        for (other, as_well) in &seen[..index] {
            assert!(files != other, "{options} gives the network of {as_well}");
        }
    }
}

#[test]
fn counts_are_forecast_by_their_likelihood_and_nothing_else_is() {
    let place = Folder::new();
    for loss in ["poisson", "negative-binomial"] {
        let arguments = format!("forecast table.csv {} --horizon 4 --loss {loss}", small("linear,network"));
        place.succeed(&format!("{arguments} --target other --out o"));
        for row in place.rows("o/forecast.csv") {
            assert!(row["low"].parse::<f64>().unwrap() >= 0.0, "{loss}: {row:?}");
        }
        let refused = place.fail(1, &format!("{arguments} --target sales --out o"));
        assert!(
            refused.contains(&format!("the loss {loss} needs whole numbers from 0, and sample 2 of sales"))
        );
        let refused = place.fail(2, &format!("{arguments} --target other --mixing 0.5 --out o"));
        assert!(refused.contains("a blend of counts is no count"), "{refused}");
    }
    let refused = place.fail(1, &format!("forecast table.csv {SMALL} --target other --log --out o"));
    assert!(refused.contains("there is no logarithm of 0, sample 1 of other"), "{refused}");
}

#[test]
fn every_model_says_how_good_its_intervals_were_and_what_it_chose() {
    let place = Folder::new();
    let printed = place.succeed(&format!(
        "forecast table.csv {} --horizon 3 --out o",
        small("linear,ar,arima,ets,hmm,kalman,mstl,dense,convolution,network")
    ));
    let flat = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let printed = flat(&printed);
    for (name, choice) in [
        ("linear", "window "),
        ("ar", "order "),
        ("arima", "("),
        ("ets", "A"),
        ("hmm", " states"),
        ("kalman", "states"),
        ("mstl", "seasons of 12, ets "),
        ("dense", "dense 6, window "),
        ("convolution", "channels 6, window "),
        ("network", "gru 6, window "),
    ] {
        let found =
            place.metrics("o")["models"].as_array().unwrap().iter().find(|m| m["name"] == name).cloned();
        let found = found.unwrap_or_else(|| panic!("{name} is missing: {printed}"));
        let text = found["choice"].as_str().unwrap();
        assert!(
            text.contains(choice) && printed.contains(&flat(&format!("{name} {text}"))),
            "{name}: {text}\n{printed}"
        );
        // 46 forecasts of three steps: most of them within, and the score is at least the width.
        let coverage = found["coverage"].as_f64().unwrap();
        assert!((0.6..=1.0).contains(&coverage), "{name}: {coverage}");
        assert!(found["msis"].as_f64().unwrap() > 0.0, "{name}");
    }
}

#[test]
fn ids_are_read_when_asked_for_and_predict_knows_them() {
    let place = Folder::new();
    let mut text = String::from("shop,month,sales\n");
    for (shop, t) in (0..10u32).flat_map(|shop| (0..90u32).map(move |t| (shop, t))) {
        let rough = f64::from((t + 7 * shop).pow(2) * 7919 % 1000) / 1000.0;
        let value = 50.0 + 10.0 * (f64::from(t + shop) * std::f64::consts::TAU / 12.0).sin() + 4.0 * rough;
        text += &format!("s{shop},{}-{:02},{value:.3}\n", 1990 + t / 12, t % 12 + 1);
    }
    place.write("shops.csv", &text);
    let options = small("network")
        .replace("--input 12", "--input 24 --updates 6 --horizon 2")
        .replace("--updates 24", "");
    let choice = |ids: &str| {
        place.succeed(&format!("forecast shops.csv {options} --ids {ids} --out {ids}"));
        place.succeed(&format!("predict {ids} shops.csv --device cpu --out {ids}.csv"));
        assert_eq!(place.read(&format!("{ids}.csv")), place.read(&format!("{ids}/forecast.csv")));
        place.metrics(ids)["models"][0]["choice"].as_str().unwrap().to_owned()
    };
    assert!(choice("yes").contains(", reads ids,"));
    assert!(!choice("no").contains("ids"));
    // The trial trains one network of each kind.
    choice("auto");
    let tried = place.rows("auto/log.csv");
    for stage in ["trial-without-ids", "trial-with-ids", "validation"] {
        assert!(tried.iter().any(|row| row["stage"] == stage), "{stage}");
    }
    // The run shows the networks that forecast.
    for ids in ["auto", "yes"] {
        let rows = place.rows(&format!("{ids}/log.csv"));
        assert!(rows.iter().all(|row| row["model"] == "network"));
        assert_eq!(rows.iter().any(|row| row["stage"].starts_with("trial")), ids == "auto");
        let report = place.read(&format!("{ids}/report.html"));
        assert!(report.contains("Loss, smoothed over updates (validation)"), "{ids}");
        assert!(!report.contains("trial"), "{ids}");
    }
    assert!(
        place
            .fail(2, &format!("forecast table.csv {SMALL} --ids yes"))
            .contains("--ids yes is for the network")
    );
}

#[test]
fn every_cell_of_bench_is_one_of_forecasts_and_tasks() {
    let place = Folder::new();
    for cell in [
        "lstm-peephole",
        "gru-before",
        "layernorm-lstm",
        "layernorm-gru",
        "zoneout-lstm",
        "dropout-lstm",
        "dropconnect-lstm",
    ] {
        let options = small("network").replace("--updates 24", "--updates 3");
        place.succeed(&format!("forecast table.csv {options} --cell {cell} --horizon 2 --out {cell}"));
        let choice = place.metrics(cell)["models"][0]["choice"].as_str().unwrap().to_owned();
        assert!(choice.starts_with(&format!("{cell} 6, window ")), "{choice}");
        place.succeed(&format!("predict {cell} table.csv --device cpu --out {cell}.csv"));
        assert_eq!(place.read(&format!("{cell}.csv")), place.read(&format!("{cell}/forecast.csv")));
    }
    let refused =
        place.fail(1, &format!("forecast table.csv {SMALL} --cell layernorm-gru --dilations 1,2 --out o"));
    assert!(refused.contains("layer norm is not available with dilation"), "{refused}");
    let gap = |line: &str| match line.starts_with("1993-05,") {
        true => format!("{},\n", line.rsplit_once(',').unwrap().0),
        false => format!("{line}\n"),
    };
    let gaps: String = place.read("table.csv").lines().map(gap).collect();
    place.write("gaps.csv", &gaps);
    let printed = place.succeed("impute gaps.csv --quick --cell dropout-lstm --device cpu --out i");
    assert!(printed.contains("network   dropout-lstm 8, in both directions"), "{printed}");
}

#[test]
fn limits_hold_for_forecasts_and_intervals() {
    let place = Folder::new();
    place.succeed(&format!("forecast table.csv {SMALL} --horizon 12 --min 49 --max 51 --out o"));
    for row in place.rows("o/forecast.csv") {
        for name in ["low", "forecast", "high"] {
            assert!((49.0..=51.0).contains(&row[name].parse::<f64>().unwrap()), "{row:?}");
        }
    }
}

#[test]
fn quiet_is_silent_and_progress_is_plain_lines_without_a_terminal() {
    let place = Folder::new();
    let output = place.run(&format!("forecast table.csv {SMALL} --season 0 --horizon 1 --quiet"));
    assert!(output.status.success() && output.stdout.is_empty() && output.stderr.is_empty());
    assert_eq!(place.metrics("gatefold-out")["seasons"], Value::Array(Vec::new()));
    let output = place.run(&format!("forecast table.csv {SMALL} --horizon 1"));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("fitting   network, for the validation\n"), "{text}");
    assert!(text.contains("network 1/1 validation 24/24 loss "), "{text}");
    assert!(!text.contains('\u{1b}'), "no colours and no cursor movements");
}

/// Interrupts the command, as Ctrl-C does, as soon as it shows this line.
#[cfg(unix)]
pub(crate) fn interrupt_at(place: &Folder, arguments: &str, shown: &str) -> (Option<i32>, String) {
    use std::io::{BufRead, BufReader, Read};
    use std::process::Stdio;
    let mut child = place.command(arguments).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap());
    let mut text = String::new();
    while !text.lines().any(|line| line.contains(shown)) {
        assert!(lines.read_line(&mut text).unwrap() > 0, "it ended before {shown}: {text}");
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
    // Enough updates that the signal arrives in the middle of a training.
    let options = "--device cpu --threads 1 --model naive,network --hidden 6 --input 12 --batch 8 --ensemble 2 \
                   --updates 2000 --horizon 2";
    place.succeed(&format!("forecast table.csv {options} --out whole"));
    let mut arguments = format!("forecast table.csv {options} --out parts");
    for shown in ["network 1/2 validation 500/", "network 2/2 validation 1000/"] {
        let (code, text) = interrupt_at(&place, &arguments, shown);
        assert_eq!(code, Some(130), "{text}");
        let advice = "continue with\n  gatefold forecast table.csv --resume --out parts --device cpu";
        assert!(text.contains(advice), "{text}");
        assert!(!place.path("parts/metrics.json").exists(), "it did not end");
        arguments = "forecast table.csv --resume --out parts --device cpu --threads 1".into();
    }
    // A damaged checkpoint is an error, not a training from the start.
    let checkpoint = place.path("parts/checkpoints/network-validation-1.safetensors");
    let bytes = fs::read(&checkpoint).unwrap();
    fs::write(&checkpoint, &bytes[..bytes.len() - 9]).unwrap();
    assert!(place.fail(1, &format!("{arguments} --quiet")).contains("network-validation-1.safetensors"));
    fs::write(&checkpoint, &bytes).unwrap();
    place.succeed(&arguments);
    place.assert_same("whole", "parts", &OUTPUTS);
    let ended = place.fail(1, &arguments);
    assert!(ended.contains("there is nothing to resume"), "{ended}");
}

#[test]
fn predict_continues_the_table() {
    let place = Folder::new();
    for (model, out) in [
        ("network", "n"),
        ("linear", "l"),
        ("naive,linear,network", "c"),
        ("dense", "d"),
        ("dense,convolution", "s"),
    ] {
        place.succeed(&format!("forecast table.csv {} --horizon 3 --out {out}", small(model)));
        place.succeed(&format!("predict {out} table.csv --device cpu --out {out}.csv"));
        assert_eq!(place.read(&format!("{out}.csv")), place.read(&format!("{out}/forecast.csv")), "{model}");
    }
    // Later rows are followed, from the end of the table.
    place.write("later.csv", &table(245));
    let printed = place.succeed("predict n later.csv --device cpu --out later.csv.out --steps 7");
    let rows = place.rows("later.csv.out");
    assert_eq!(rows.len(), 7);
    assert_eq!((rows[0]["date"].as_str(), rows[6]["date"].as_str()), ("2010-06", "2010-12"));
    assert!(rows.iter().all(|row| row["low"].is_empty()), "no errors are known so far ahead");
    assert!(printed.contains("2010-06"), "{printed}");
}

/// A run on a GPU is close to one on the CPU, and its model predicts on both.
#[test]
fn a_gpu_forecasts_and_predicts() {
    if gatefold_check::test_gpu().is_none() {
        return;
    }
    let place = Folder::new();
    let gpu = small("network").replace("--device cpu", "--device gpu");
    place.succeed(&format!("forecast table.csv {gpu} --horizon 2 --out gpu"));
    place.succeed(&format!("forecast table.csv {} --horizon 2 --out cpu", small("network")));
    let mae = |out: &str| place.metrics(out)["models"][0]["mae"].as_f64().unwrap();
    assert!((mae("gpu") - mae("cpu")).abs() < 1e-3 * mae("cpu"), "{} and {}", mae("gpu"), mae("cpu"));
    let predicted = |device: &str| {
        place.succeed(&format!("predict gpu table.csv --device {device} --out {device}.csv"));
        place.rows(&format!("{device}.csv"))[1]["forecast"].parse::<f64>().unwrap()
    };
    let (gpu, cpu) = (predicted("gpu"), predicted("cpu"));
    assert!((gpu - cpu).abs() < 1e-4 * cpu.abs(), "{gpu} on the GPU, {cpu} on the CPU");
}

#[test]
fn a_users_mistakes_are_one_line_each() {
    let place = Folder::new();
    place.write("empty.csv", "");
    place.write("one.csv", "date,v\n2001-01,5\n");
    place.write("constant.csv", &format!("v\n{}", "7\n".repeat(60)));
    place.write("gap.csv", "date,v\n2001-01,1\n2001-02,\n2001-03,3\n2001-04,5\n");
    place.write("file", "");
    let forecast =
        |code: i32, arguments: &str| place.fail(code, &format!("forecast --device cpu {arguments}"));
    let mut missing = Vec::new();
    let mut expect = |code: i32, arguments: &str, text: &str| {
        let found = forecast(code, arguments);
        if !found.contains(text) {
            missing.push(format!("{arguments}: no '{text}' in '{found}'"));
        }
    };
    expect(1, "none.csv", "error: none.csv: there is no such file");
    expect(1, "empty.csv", "error: empty.csv: the table is empty");
    expect(1, "one.csv", "add rows");
    expect(1, "gap.csv", "line 3");
    expect(1, "table.csv --target profit", "profit");
    expect(1, "table.csv --horizon 1000", "use --horizon");
    expect(1, "table.csv --season 500", "a season of 500 samples does not fit");
    expect(2, "table.csv --model oracle", "there is no model 'oracle'; choose from naive, mean");
    expect(2, "table.csv --freq sometimes", "sometimes");
    expect(1, "table.csv --out file", "error: file: cannot create this directory");
    expect(1, "table.csv --resume --out none", "there is no run to resume");
    expect(1, "table.csv --model network --input 230", "do not fit into");
    assert!(missing.is_empty(), "{missing:#?}");
    assert!(place.fail(1, "forecast table.csv --device no-such-adapter").contains("no-such-adapter"));

    for arguments in ["forecast", "forecast table.csv --horizon 0", "forecast table.csv --lr -1", "nonsense"]
    {
        let output = place.run(arguments);
        assert_eq!(output.status.code(), Some(2), "gatefold {arguments}");
        assert!(String::from_utf8(output.stderr).unwrap().contains("--help"), "gatefold {arguments}");
    }
}

#[test]
fn a_model_that_does_not_fit_a_table_says_so() {
    let place = Folder::new();
    place.succeed(&format!("forecast table.csv {} --horizon 2 --out o", small("network")));
    let predict = |arguments: &str| place.fail(1, &format!("predict {arguments} --device cpu"));
    assert!(predict("none table.csv").contains("give the directory that 'gatefold forecast' wrote to"));
    assert!(predict("o none.csv").contains("there is no such file"));
    place.write("other.csv", "month,profit\n2001-01,1\n2001-02,2\n2001-03,4\n");
    assert!(predict("o other.csv").contains("sales"));
    let early = table(240).replacen("1990-01", "1989-12,0,0,50\n1990-01", 1);
    place.write("early.csv", &early);
    assert!(
        predict("o early.csv")
            .contains("the first row of sales is 1989-12, and that of the model's table was 1990-01")
    );
    let network = place.path("o/network-1.safetensors");
    let bytes = fs::read(&network).unwrap();
    fs::write(&network, &bytes[..bytes.len() - 9]).unwrap();
    assert!(predict("o table.csv").contains("network-1.safetensors"));
}

#[test]
fn a_constant_series_is_forecast_by_its_constant() {
    let place = Folder::new();
    place.write("constant.csv", &format!("v\n{}", "7\n".repeat(60)));
    let printed =
        place.succeed("forecast constant.csv --device cpu --ensemble 1 --updates 12 --horizon 2 --out o");
    assert!(place.rows("o/forecast.csv").iter().all(|row| row["forecast"] == "7"), "{printed}");
}

/// The README's first command, with a smaller network: what it claims of the models holds.
#[test]
fn the_readmes_first_command_beats_what_learns_nothing() {
    let place = Folder::new();
    let table = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/data/seattle_weather_daily.csv");
    let options =
        "--target temp_max --device cpu --model naive,seasonal,ets,linear,network --ensemble 1 --updates 300";
    let printed = place.succeed(&format!("forecast {table} {options} --out o"));
    let metrics = place.metrics("o");
    let mae = |name: &str| {
        let models = metrics["models"].as_array().unwrap();
        models.iter().find(|model| model["name"] == name).unwrap()["mae"].as_f64().unwrap()
    };
    let least = ["repeat last", "seasonal naive (7)", "seasonal naive (365)", "ets"]
        .map(mae)
        .into_iter()
        .fold(f64::MAX, f64::min);
    assert!(mae("network") < 0.85 * least && mae("linear") < 0.85 * least, "{printed}");
    assert!((mae("network") / mae("linear") - 1.0).abs() < 0.05, "{printed}");
    assert_eq!(place.rows("o/forecast.csv")[0]["date"], "2016-01-01");
}

/// Prices from 2 to 7 that follow no pattern.
fn price(t: usize) -> f64 {
    2.0 + ((t * t * 7919 + t * 104_729) % 501) as f64 / 100.0
}

/// 120 days of sales that a price of the same day drives, the price of ten more days, and a measurement of each day.
fn priced_days(first: usize) -> String {
    let mut text = String::from("day,price,visitors,sales\n");
    for t in first..130 {
        let day = time_of(t);
        let price = price(t);
        let visitors = 100 + (t * 13) % 17;
        let known = t < 120;
        let sales = 90.0 - 8.0 * price + ((t * t * 31) % 100) as f64 / 50.0;
        let end = if known { format!("{visitors},{sales:.3}") } else { ",".into() };
        text += &format!("{day},{price},{end}\n");
    }
    text
}

/// The date of day `t` after the first of January 2023.
fn time_of(t: usize) -> String {
    let months = [31, 28, 31, 30, 31];
    let (mut month, mut day) = (0, t);
    while day >= months[month] {
        day -= months[month];
        month += 1;
    }
    format!("2023-{:02}-{:02}", month + 1, day + 1)
}

#[test]
fn what_is_known_ahead_is_used() {
    let place = Folder::new();
    place.write("days.csv", &priced_days(0));
    let small = small("naive,linear,network");
    let run =
        |more: &str| place.succeed(&format!("forecast days.csv --target sales --horizon 5 {small} {more}"));
    // Rows without sales are the future, and only the price is known there.
    let printed = run("--out ahead");
    assert!(printed.contains("price: known ahead"), "{printed}");
    assert!(printed.contains("visitors: not used"), "{printed}");
    let mae = |out: &str, name: &str| {
        let metrics = place.metrics(out);
        let models = metrics["models"].as_array().unwrap();
        models.iter().find(|model| model["name"] == name).unwrap()["mae"].as_f64().unwrap()
    };
    run("--past price,visitors --out past");
    // The price moves sales by 40 in all, and what is left by 2.
    assert!(mae("ahead", "linear") < 1.0 && mae("past", "linear") > 3.0, "{}", mae("ahead", "linear"));
    let forecast = place.rows("ahead/forecast.csv");
    let (day, value) = (&forecast[0]["date"], forecast[0]["forecast"].parse::<f64>().unwrap());
    let price = price(120);
    assert_eq!(day, "2023-05-01");
    assert!((value - (91.0 - 8.0 * price)).abs() < 2.0, "{value} at a price of {price}");
    // A table that starts later forecasts the same with the network, and nearly so with the regression.
    place.write("later.csv", &priced_days(20));
    place.succeed("predict ahead later.csv --out later-forecast.csv");
    let later = place.rows("later-forecast.csv")[0]["forecast"].parse::<f64>().unwrap();
    assert!((later - value).abs() < 1.0, "{later} and {value}");
    let error = place.fail(1, &format!("forecast days.csv --target sales --horizon 12 {small}"));
    assert!(error.contains("2 are missing") && error.contains("--horizon 10"), "{error}");
    let error = place.fail(2, &format!("forecast days.csv --target sales --static price {small}"));
    assert!(
        error.contains("--static price: expected a column that does not change within a series"),
        "{error}"
    );
    let calendar = run("--past visitors --calendar --out calendar");
    assert!(calendar.contains("visitors: known up to the newest sample"), "{calendar}");
    assert!(place.read("calendar/run.toml").contains("calendar = true"));
    assert!(place.succeed("forecast days.csv --config calendar/run.toml --out again").contains("visitors"));
}

#[test]
fn targets_read_each_other_where_they_are_asked_to() {
    let place = Folder::new();
    // The first is noise that no past of its own tells, and the second repeats it a day later.
    let noise = |t: usize| ((t * t * 7919 + t * 31) % 1000) as f64 / 100.0;
    let row = |t: usize| format!("{},{:.2},{:.2}\n", time_of(t), noise(t), noise(t.max(1) - 1));
    place.write("pair.csv", &format!("day,lead,follow\n{}", (0..140).map(row).collect::<String>()));
    let mae = |more: &str, out: &str| {
        place.succeed(&format!(
            "forecast pair.csv --target lead,follow --horizon 1 --model mean,linear --season 0 --out {out} {more}"
        ));
        let metrics = place.metrics(out);
        let linear = metrics["models"].as_array().unwrap().iter().find(|model| model["name"] == "linear");
        linear.unwrap()["mae"].as_f64().unwrap()
    };
    let (alone, together) = (mae("", "alone"), mae("--together", "together"));
    // Half of the error is that of the first series, which nothing foretells.
    assert!(together < 0.7 * alone && together > 0.2 * alone, "{together} of {alone}");
    assert!(place.read("together/run.toml").contains("together = true"));
    place.succeed("predict together pair.csv --out next.csv");
    let follow = &place.rows("next.csv")[1];
    assert_eq!(follow["series"], "follow");
    assert!((follow["forecast"].parse::<f64>().unwrap() - noise(139)).abs() < 0.5, "{follow:?}");
}

#[test]
fn futures_are_drawn_and_sampled_intervals_lean() {
    let place = Folder::new();
    // Three days of four lie 1 below the mean, and one 3 above it.
    let value = |t: usize| if (t * t * 7919 + t * 13) % 997 < 250 { 13.0 } else { 9.0 };
    let rows = (0..140).map(|t| format!("{},{:.1}\n", time_of(t), value(t)));
    place.write("days.csv", &format!("day,demand\n{}", rows.collect::<String>()));
    let options = "forecast days.csv --horizon 2 --model mean --season 0 --test 30 --level 60";
    let ends = |out: &str, more: &str| -> [f64; 3] {
        place.succeed(&format!("{options} --out {out} {more}"));
        let row = &place.rows(&format!("{out}/forecast.csv"))[0];
        ["low", "forecast", "high"].map(|name| row[name].parse().unwrap())
    };
    let [low, forecast, high] = ends("same", "");
    assert!((forecast - low - (high - forecast)).abs() < 1e-6);
    // Errors reach further up than down.
    let [low, forecast, high] = ends("lean", "--intervals sampled --samples 200");
    assert!(high - forecast > 2.0 * (forecast - low), "{low} {forecast} {high}");
    let samples = place.rows("lean/samples.csv");
    assert_eq!(samples.len(), 400);
    let near = |row: &std::collections::HashMap<String, String>| {
        let value: f64 = row["value"].parse().unwrap();
        (value - 9.0).abs() < 0.8 || (value - 13.0).abs() < 0.8
    };
    assert!(samples.iter().all(near), "a drawn day is as a day was");
    place.succeed("predict lean days.csv --samples drawn.csv --plot next.svg");
    assert_eq!(place.read("drawn.csv"), place.read("lean/samples.csv"), "the same model, table and seed");
    assert!(place.read("next.svg").contains("demand: mean, the next 2"));
    let error = place.fail(2, "predict lean days.csv --plot next.pdf");
    assert!(error.contains("ends in .svg or .png"), "{error}");
    let error = place.fail(2, "backtest days.csv --samples 5");
    assert!(error.contains("--samples are for forecast and predict"), "{error}");
}

#[test]
fn values_that_end_at_zero_are_not_forecast_below_it() {
    let place = Folder::new();
    let value = |t: usize| if (t * t * 7919 + t * 13) % 997 < 700 { 0 } else { (t * 31) % 7 };
    let rows = (0..140).map(|t| format!("{},{}\n", time_of(t), value(t)));
    place.write("sales.csv", &format!("day,sales\n{}", rows.collect::<String>()));
    let low = |more: &str| {
        let printed = place.succeed(&format!("forecast sales.csv --horizon 2 --model mean --out o {more}"));
        let low: f64 = place.rows("o/forecast.csv")[0]["low"].parse().unwrap();
        (low, printed.contains("no forecast below 0"))
    };
    assert_eq!(low(""), (0.0, true));
    let (low, said) = low("--min=-5");
    assert!(low < 0.0 && !said, "{low}");
    let error = place.fail(2, "forecast sales.csv --min 5 --max 1");
    assert!(error.contains("--min 5 is above --max 1"), "{error}");
}

/// Twelve shops of so many months each.
fn shops(lengths: impl Fn(usize) -> usize, order: &[usize], day: bool) -> String {
    let mut text = "shop,date,sales\n".to_owned();
    for &shop in order {
        for t in 0..lengths(shop) {
            let date = match day {
                true => time_of(t),
                false => format!("{}-{:02}", 2000 + t / 12, 1 + t % 12),
            };
            let season = ((t % 12) as f64 - 5.5).abs();
            let noise = ((t * t * 7919 + t * 31 + shop * 577) % 100) as f64 / 100.0;
            text += &format!("s{shop},{date},{:.2}\n", 20.0 + shop as f64 + season + noise);
        }
    }
    text
}

#[test]
fn a_few_short_series_of_many_are_left_out_and_named() {
    let place = Folder::new();
    let all: Vec<usize> = (0..12).collect();
    let length = |shop: usize| match shop {
        3 => 20,
        5 => 60,
        _ => 132,
    };
    place.write("shops.csv", &shops(length, &all, false));
    let printed = place.succeed(
        "forecast shops.csv --model seasonal,network --ensemble 1 --updates 40 --device cpu --out o",
    );
    assert!(printed.contains("horizon   12 samples"), "{printed}");
    assert!(
        printed.contains("1 of 12 series have fewer than 48 samples, too few for this horizon: s3"),
        "{printed}"
    );
    assert!(
        !printed.contains("left out  network"),
        "a series shorter than the window is forecast too: {printed}"
    );
    let rows = place.rows("o/forecast.csv");
    assert_eq!(rows.len(), 11 * 12);
    let of_short: Vec<f64> =
        rows.iter().filter(|row| row["series"] == "s5").map(|row| row["forecast"].parse().unwrap()).collect();
    assert!(of_short.iter().all(|value| (20.0..40.0).contains(value)), "{of_short:?}");
}

#[test]
fn predict_takes_the_series_of_its_model_in_any_order_and_at_its_frequency() {
    let place = Folder::new();
    let order: Vec<usize> = (0..12).collect();
    place.write("shops.csv", &shops(|_| 60, &order, false));
    place.succeed("forecast shops.csv --model seasonal --horizon 3 --device cpu --out o");
    place.succeed("predict o shops.csv --out same.csv");
    let mut other: Vec<usize> = order.iter().rev().copied().collect();
    other.push(12);
    place.write("other.csv", &shops(|_| 60, &other, false));
    let printed = place.succeed("predict o other.csv --out other-forecast.csv");
    assert!(printed.contains("new       s12: fitted to their own rows"), "{printed}");
    let found = place.read("other-forecast.csv");
    assert!(found.starts_with(&place.read("same.csv")), "the model's own series come first: {found}");
    place.write("fewer.csv", &shops(|_| 60, &order[..11], false));
    let printed = place.succeed("predict o fewer.csv --out fewer-forecast.csv");
    assert!(printed.contains("series of the model that this table lacks: s11"), "{printed}");
    assert!(place.read("same.csv").starts_with(&place.read("fewer-forecast.csv")));
    place.write("days.csv", &shops(|_| 60, &order, true));
    let error = place.fail(1, "predict o days.csv");
    assert!(
        error.contains("its samples are daily, and those that the model was fitted on were monthly"),
        "{error}"
    );
}
