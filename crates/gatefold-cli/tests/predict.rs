//! `gatefold predict` of tables whose series are others than those of the model.

use crate::support::Folder;

/// Months of shops: a kind, a size and a rhythm of their own.
fn shops(shops: &[(usize, &str, usize)]) -> String {
    let mut text = "shop,kind,month,sales\n".to_owned();
    for &(shop, kind, months) in shops {
        for t in 0..months {
            let season = ((t % 12) as f64 - 5.5).abs();
            let noise = ((t * t * 7919 + t * 31 + shop * 577) % 100) as f64 / 100.0;
            let value = (1.0 + shop as f64) * (20.0 + season + noise);
            text += &format!("s{shop},{kind},{}-{:02},{value:.2}\n", 2000 + t / 12, 1 + t % 12);
        }
    }
    text
}

fn twelve() -> Vec<(usize, &'static str, usize)> {
    (0..12).map(|shop| (shop, if shop % 2 == 0 { "kiosk" } else { "hall" }, 72)).collect()
}

const SHARED: &str = "--model seasonal,network --ensemble 1 --updates 40 --horizon 3 --device cpu";

#[test]
fn a_global_model_forecasts_series_it_has_not_seen() {
    let place = Folder::new();
    place.write("shops.csv", &shops(&twelve()));
    for (model, how) in [
        ("network", "scaled by their own rows"),
        ("seasonal,network", "scaled by their own rows"),
        ("seasonal", "fitted to their own rows"),
    ] {
        let options = SHARED.replace("seasonal,network", model);
        place.succeed(&format!("forecast shops.csv {options} --out o"));
        // The first shop again under another name, in thousands, beside one that the model knows.
        let table = shops(&[(0, "kiosk", 72), (3, "hall", 72)]);
        let renamed: String = table
            .lines()
            .map(|line| match line.strip_prefix("s0,") {
                Some(rest) => {
                    let (before, value) = rest.rsplit_once(',').unwrap();
                    format!("new,{before},{}\n", 1000.0 * value.parse::<f64>().unwrap())
                }
                None => format!("{line}\n"),
            })
            .collect();
        place.write("two.csv", &renamed);
        let printed = place.succeed("predict o two.csv --device cpu --out two-forecast.csv");
        assert!(printed.contains(&format!("new       new: {how}, intervals as for all")), "{printed}");
        assert!(printed.contains("series of the model that this table lacks: 11, first s0"), "{printed}");
        let (found, known) = (place.rows("two-forecast.csv"), place.rows("o/forecast.csv"));
        let of = |rows: &[std::collections::HashMap<String, String>], name: &str, column: &str| -> Vec<f64> {
            rows.iter().filter(|row| row["series"] == name).map(|row| row[column].parse().unwrap()).collect()
        };
        assert_eq!(
            of(&found, "s3", "forecast"),
            of(&known, "s3", "forecast"),
            "{model}: known series stay as they are"
        );
        assert_eq!(of(&found, "s3", "low"), of(&known, "s3", "low"));
        for column in ["forecast", "low", "high"] {
            for (new, old) in of(&found, "new", column).into_iter().zip(of(&known, "s0", column)) {
                assert!((new / 1000.0 / old - 1.0).abs() < 2e-3, "{model}, {column}: {new} and {old}");
            }
        }
        // A table of one new series alone.
        place.write(
            "one.csv",
            &renamed
                .lines()
                .filter(|line| !line.starts_with("s3"))
                .map(|line| format!("{line}\n"))
                .collect::<String>(),
        );
        place.succeed("predict o one.csv --device cpu --out one-forecast.csv");
        let alone = place.rows("one-forecast.csv");
        let alone: Vec<f64> = alone.iter().map(|row| row["high"].parse().unwrap()).collect();
        assert_eq!(alone, of(&found, "new", "high"), "{model}");
    }
}

#[test]
fn series_that_are_too_short_are_left_out_and_named() {
    let place = Folder::new();
    place.write("shops.csv", &shops(&twelve()));
    place.succeed(&format!("forecast shops.csv {SHARED} --out o"));
    place.write("more.csv", &shops(&[(20, "hall", 40), (21, "hall", 7), (1, "hall", 72), (2, "kiosk", 5)]));
    let printed = place.succeed("predict o more.csv --device cpu --out f.csv --steps 7");
    assert!(printed.contains("left out  2 of 4 series: s2, s21"), "{printed}");
    assert!(printed.contains("samples before it; found 5"), "{printed}");
    let names: Vec<String> = place.rows("f.csv").iter().map(|row| row["series"].clone()).collect();
    assert_eq!((names.len(), names[0].as_str(), names[13].as_str()), (14, "s1", "s20"));
    // The rest is as if they had not been there.
    place.write("less.csv", &shops(&[(20, "hall", 40), (1, "hall", 72)]));
    place.succeed("predict o less.csv --device cpu --out g.csv --steps 7");
    assert_eq!(place.read("f.csv"), place.read("g.csv"));
    place.write("short.csv", &shops(&[(20, "hall", 5)]));
    let error = place.fail(1, "predict o short.csv --device cpu --quiet");
    assert!(error.contains("found 5; give a table with more rows"), "{error}");
}

#[test]
fn a_category_that_the_model_does_not_know_is_said_and_taken_for_the_mean() {
    let place = Folder::new();
    place.write("shops.csv", &shops(&twelve()));
    let options = SHARED.replace("seasonal,network", "network");
    place.succeed(&format!("forecast shops.csv {options} --static kind --out o"));
    let forecast = |kind: &str| -> (Vec<f64>, String) {
        place.write("other.csv", &shops(&[(3, kind, 72), (4, "kiosk", 72)]));
        let printed = place.succeed("predict o other.csv --device cpu --out f.csv");
        let rows = place.rows("f.csv");
        (rows.iter().take(3).map(|row| row["forecast"].parse().unwrap()).collect(), printed)
    };
    let (known, said) = forecast("hall");
    assert!(!said.contains("unseen"), "{said}");
    let (unknown, said) = forecast("stall");
    let line = "unseen    kind 'stall' of s3: not among the 2 of the training, taken for their mean";
    assert!(said.contains(line), "{said}");
    // Four times 20 to 27.
    for value in known.into_iter().chain(unknown) {
        assert!((70.0..115.0).contains(&value), "{value}");
    }
}

#[test]
fn models_of_wide_tables_are_used_again() {
    let place = Folder::new();
    let names: Vec<String> = (0..40).map(|t| format!("V{}", t + 2)).collect();
    let row = |id: usize, to: usize| {
        let cells: Vec<String> = (0..to).map(|t| format!("{}", 10 * id + (t * t * 7919 + id) % 13)).collect();
        format!("S{id},{}\n", cells.join(","))
    };
    let table = |to: usize| {
        let rows: String = (1..5).map(|id| row(id, to)).collect();
        format!("id,{}\n{rows}", names[..to].join(","))
    };
    place.write("wide.csv", &table(36));
    place.succeed("forecast wide.csv --model mean,naive --horizon 2 --device cpu --out o");
    place.succeed("predict o wide.csv --device cpu --out f.csv");
    assert_eq!(place.read("f.csv"), place.read("o/forecast.csv"));
    place.succeed("forecast wide.csv --config o/run.toml --out p");
    place.assert_same("o", "p", &["forecast.csv", "run.toml"]);
    place.write("later.csv", &table(40));
    place.succeed("predict o later.csv --device cpu --out f.csv");
    assert_eq!(place.rows("f.csv")[0]["row"], "41");
}

#[test]
fn a_short_series_hides_no_errors_of_others() {
    let place = Folder::new();
    place.write("shops.csv", &shops(&twelve()));
    // Of the first shop, the last month of the training and what came after it.
    let later = shops(&[(0, "kiosk", 92), (1, "hall", 77)]);
    let kept = later.lines().filter(|line| !line.starts_with("s0,") || *line >= "s0,kiosk,2005-12");
    place.write("later.csv", &kept.map(|line| format!("{line}\n")).collect::<String>());
    for model in ["network", "seasonal"] {
        let options = SHARED.replace("seasonal,network", model);
        place.succeed(&format!("forecast shops.csv {options} --out {model}"));
        let printed = place.succeed(&format!("predict {model} later.csv --device cpu --json --quiet"));
        let found: serde_json::Value = serde_json::from_str(&printed).unwrap();
        let measured = found["since"]["by_series"].as_array().unwrap();
        assert_eq!((measured.len(), &measured[0]["series"]), (1, &"s1".into()), "{model}");
        assert_eq!(found["since"]["samples"], 5, "{model}");
        let left_out = found["since_unmeasured"].as_array().unwrap();
        assert_eq!((left_out.len(), &left_out[0]["series"]), (1, &"s0".into()), "{model}");
        assert!(left_out[0]["reason"].as_str().unwrap().contains("samples"), "{model}: {}", left_out[0]);
        let printed = place.succeed(&format!("predict {model} later.csv --device cpu"));
        assert!(printed.contains("The rows since the training of s0 were not measured: "), "{printed}");
        assert!(printed.contains("On the 5 rows since the training: MAE "), "{printed}");
    }
}

#[test]
fn files_that_were_asked_for_come_before_the_report() {
    let place = Folder::new();
    place.succeed("forecast table.csv --model naive --horizon 3 --device cpu --quiet --out o");
    place.write("gatefold-predict", "a file where the report's directory should be");
    let error = place.fail(1, "predict o table.csv --device cpu --quiet --out f.csv");
    assert!(error.contains("gatefold-predict"), "{error}");
    assert_eq!(place.rows("f.csv").len(), 3);
}

#[test]
fn a_directory_of_someone_else_is_kept() {
    let place = Folder::new();
    std::fs::create_dir_all(place.path("project/checkpoints")).unwrap();
    place.write("project/checkpoints/epoch-7.pt", "weeks of work");
    let run = "forecast table.csv --model naive --horizon 3 --device cpu --quiet --out project";
    let error = place.fail(1, run);
    assert!(error.contains("checkpoints: this is not from a run like this one"), "{error}");
    assert_eq!(place.read("project/checkpoints/epoch-7.pt"), "weeks of work");
    // An empty one, and one of a run that did not end, make way.
    std::fs::remove_file(place.path("project/checkpoints/epoch-7.pt")).unwrap();
    place.succeed(run);
    std::fs::create_dir_all(place.path("project/checkpoints")).unwrap();
    place.write("project/checkpoints/table", "begun");
    place.succeed(run);
    assert!(!place.path("project/checkpoints").exists());
}
