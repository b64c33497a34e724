//! `gatefold sweep` and `gatefold plot`, from end to end.

#[cfg(unix)]
use crate::backtest::logged;
#[cfg(unix)]
use crate::forecast::interrupt_at;
use crate::support::{Folder, small};
use serde_json::Value;
use std::fs;

fn quick() -> String {
    small("network").replace("--model=network ", "").replace("--ensemble 1 ", "").replace("--hidden 6 ", "")
}

#[test]
fn a_sweep_orders_combinations_and_its_best_is_a_configuration() {
    let place = Folder::new();
    let options = quick();
    let printed = place
        .succeed(&format!("sweep table.csv {options} --horizon 2 --grid hidden=2,6 --grid lr=0.001,0.05 --seeds 2 --windows 3 --out o"));
    let rows = place.rows("o/sweep.csv");
    assert_eq!(rows.len(), 1 + 4 * 2, "the linear regression, and two seeds of each combination");
    let metrics = place.metrics("o");
    let combinations = metrics["combinations"].as_array().unwrap();
    let errors: Vec<f64> = combinations.iter().map(|tried| tried["mase"].as_f64().unwrap()).collect();
    assert!(errors.windows(2).all(|pair| pair[0] <= pair[1]), "{errors:?}");
    // Not in every combination: a network that no update helps stays the regression.
    let mut seeds_differ = false;
    for tried in combinations.iter().filter(|tried| tried["network"] == true) {
        let name = tried["options"].as_str().unwrap();
        let own: Vec<f64> = rows
            .iter()
            .filter(|row| row["options"] == name)
            .map(|row| row["mase"].parse().unwrap())
            .collect();
        let mean = (own[0] + own[1]) / 2.0;
        assert!((mean - tried["mase"].as_f64().unwrap()).abs() < 1e-8, "{name}");
        let (least, most) = (tried["mase_least"].as_f64().unwrap(), tried["mase_most"].as_f64().unwrap());
        assert!(least <= mean && mean <= most, "{name}: {own:?}");
        seeds_differ |= own[0] != own[1] && least < most;
        assert!(printed.contains(name), "{printed}");
    }
    assert!(seeds_differ);
    let best = combinations.iter().find(|tried| tried["network"] == true).unwrap();
    assert_eq!(metrics["best"], best["options"]);
    let words: Vec<&str> = best["options"].as_str().unwrap().split(' ').collect();
    let config = place.read("o/run.toml");
    for word in words {
        assert!(config.contains(&word.replace('=', " = ")), "no {word} in {config}");
    }
    place.succeed(
        "forecast table.csv --config o/run.toml --model linear,network --ensemble 1 --device cpu --out f",
    );
    // The sweep did not see what the forecast was measured on.
    assert_eq!(place.metrics("f")["test"], metrics["test"]);
}

#[test]
fn a_sweep_says_why_the_regression_is_not_beside_its_networks() {
    let place = Folder::new();
    // The short series has six samples before the calibration part; a regression for a horizon of 6 needs ten.
    let mut text = String::from("shop,month,sales\n");
    for (shop, len) in (0..12u32).map(|shop| (shop, if shop == 5 { 24 } else { 90 })) {
        for t in 0..len {
            let rough = f64::from((t + 7 * shop).pow(2) * 7919 % 1000) / 1000.0;
            let value = 50.0 + 10.0 * f64::from(t % 4) + 4.0 * rough;
            text += &format!("s{shop},{}-{:02},{value:.3}\n", 1990 + t / 12, t % 12 + 1);
        }
    }
    place.write("shops.csv", &text);
    let printed = place.succeed(
        "sweep shops.csv --device cpu --horizon 6 --season 4 --windows 1 --seeds 1 --updates 4 --grid hidden=2,4 --out o",
    );
    assert!(printed.contains("left out  linear (no network): "), "{printed}");
    let metrics = place.metrics("o");
    assert!(metrics["beside_linear"].is_null() && metrics["best"].is_string(), "{metrics}");
    let [name, why] = [0, 1].map(|at| metrics["left_out"][0][at].as_str().unwrap());
    assert_eq!(name, "linear (no network)");
    assert!(why.contains("a linear regression needs 10 samples for a horizon of 6"), "{why}");
}

#[test]
fn a_sweep_knows_nothing_of_the_test_part() {
    let place = Folder::new();
    let lines: Vec<String> = place.read("table.csv").lines().map(str::to_owned).collect();
    let shocked = lines.iter().enumerate().map(|(at, line)| match at {
        // 48 months are the test part.
        193.. => format!("{},500\n", line.rsplit_once(',').unwrap().0),
        _ => format!("{line}\n"),
    });
    place.write("shocked.csv", &shocked.collect::<String>());
    let options = quick();
    for (table, out) in [("table.csv", "one"), ("shocked.csv", "two")] {
        place.succeed(&format!(
            "sweep {table} {options} --horizon 2 --grid hidden=2,6 --seeds 1 --windows 2 --out {out}"
        ));
    }
    place.assert_same("one", "two", &["sweep.csv", "run.toml"]);
}

#[cfg(unix)]
#[test]
fn an_interrupted_sweep_goes_on_and_trains_nothing_twice() {
    let place = Folder::new();
    let options = "--device cpu --threads 1 --input 12 --batch 8 --updates 1500 --horizon 2 --windows 2 --seeds 1 \
                   --grid hidden=2,5 --grid cell=gru,rnn";
    place.succeed(&format!("sweep table.csv {options} --out whole"));
    let begin = format!("sweep table.csv {options} --out parts");
    let (code, text) = interrupt_at(&place, &begin, "hidden=2 cell=rnn seed=1 1/1 validation 375/");
    assert_eq!(code, Some(130), "{text}");
    let resume = "sweep table.csv --resume --out parts --device cpu";
    assert!(text.contains(&format!("continue with\n  gatefold {resume}")), "{text}");
    let finished = logged(&place, "parts", "hidden=2 cell=gru seed=1");
    assert!(finished.iter().any(|row| row.contains(",window-1,")), "{text}");
    let other = place.fail(2, &format!("{resume} --grid hidden=2,6"));
    assert!(other.contains("an option differs") && other.contains("grid"), "{other}");
    place.succeed(&format!("{resume} --threads 1"));
    place.assert_same("whole", "parts", &["sweep.csv", "run.toml", "sweep.toml"]);
    assert_eq!(logged(&place, "parts", "hidden=2 cell=gru seed=1"), finished);
    assert!(place.fail(1, resume).contains("there is nothing to resume"));
}

#[test]
fn mistakes_in_a_sweep_are_one_line_each() {
    let place = Folder::new();
    let refused = place.fail(2, "sweep table.csv --device cpu --grid depth=1");
    assert!(refused.contains("no option 'depth'"), "{refused}");
    let refused = place.fail(2, "sweep table.csv --device cpu --model ets");
    assert!(refused.contains("--model is for forecast"), "{refused}");
    let printed = place.succeed(&format!(
        "sweep table.csv {} --horizon 2 --grid input=12,230 --seeds 1 --windows 2 --out o",
        quick().replace("--input 12 ", "")
    ));
    assert!(printed.contains("left out  input=230: ") && printed.contains("input=12 *"), "{printed}");
}

#[test]
fn runs_are_compared_and_unlike_samples_are_told() {
    let place = Folder::new();
    place.succeed(&format!("forecast table.csv {} --horizon 3 --out a", small("linear,network")));
    place.succeed(&format!("forecast table.csv {} --horizon 3 --out b", small("naive")));
    let printed = place.succeed("plot a b --out p");
    assert!(!printed.contains("warning") && printed.contains("repeat last"), "{printed}");
    for file in ["steps.svg", "steps.png", "loss.svg", "loss.png", "runs.csv"] {
        assert!(fs::metadata(place.path("p").join(file)).unwrap().len() > 0, "{file}");
    }
    let rows = place.rows("p/runs.csv");
    assert_eq!((rows[0]["run"].as_str(), rows[1]["run"].as_str()), ("a", "b"), "the least error first");
    let mae = place.metrics("b")["models"][0]["mae"].as_f64().unwrap();
    assert!((rows[1]["mae"].parse::<f64>().unwrap() - mae).abs() < 1e-8 * mae);
    assert!(place.read("p/steps.svg").contains(">\na\n</text>") || place.read("p/steps.svg").contains("a\n"));

    place.succeed(&format!("backtest table.csv {} --horizon 3 --out c", small("linear")));
    let printed = place.succeed("plot a c --out p --model linear");
    assert!(printed.contains("did not forecast the same samples"), "{printed}");
    let output = place.run("plot b --out q --json");
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["runs"][0]["model"]["name"], "repeat last");
    assert!(String::from_utf8(output.stderr).unwrap().contains("no run has a network"));
    assert!(!place.path("q/loss.svg").exists());
    assert!(place.fail(1, "plot none").contains("give directories that forecast or backtest wrote to"));
    assert!(
        place.fail(1, "plot a --model ets").contains("the run has no model 'ets'; it has linear, network")
    );
}
