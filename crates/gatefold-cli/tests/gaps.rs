//! Values that a fill made up: read by models, and never measured.

use crate::support::{Folder, SMALL, table};

/// The table of [`Folder`] without these months, counted from 0.
fn without(months: &[usize]) -> String {
    let lines = table(240);
    let kept = lines.lines().enumerate().filter(|(line, _)| *line == 0 || !months.contains(&(line - 1)));
    kept.map(|(_, line)| format!("{line}\n")).collect()
}

#[test]
fn values_made_up_to_fill_gaps_are_not_scored() {
    let place = Folder::new();
    // Three months of the validation part, and five of the test part, the last 48.
    place.write("gaps.csv", &without(&[170, 171, 180, 200, 201, 202, 220, 236]));
    for (fill, after) in [("previous", 0), ("linear", 5)] {
        let printed = place.succeed(&format!("forecast gaps.csv {SMALL} --horizon 2 --fill {fill} --out o"));
        assert!(
            printed.contains("made up   3 of 29 validation, 5 of 48 test samples: not scored"),
            "{printed}"
        );
        let (rows, metrics) = (place.rows("o/test.csv"), place.metrics("o"));
        assert_eq!(metrics["made_up"]["test"], 5);
        assert_eq!(rows.len(), 94);
        let empty = rows.iter().filter(|row| row["truth"].is_empty()).count();
        // Each of the months is forecast from two origins; a line is known to the forecasts after it, too.
        assert!(if after == 0 { empty == 10 } else { (15..=20).contains(&empty) }, "{fill}: {empty}");
        for model in metrics["models"].as_array().unwrap() {
            let column = model["name"].as_str().unwrap().replace(' ', "_");
            let errors = rows.iter().filter(|row| !row["truth"].is_empty()).map(|row| {
                (row[&column].parse::<f64>().unwrap() - row["truth"].parse::<f64>().unwrap()).abs()
            });
            let mae = errors.sum::<f64>() / (rows.len() - empty) as f64;
            assert!((mae - model["mae"].as_f64().unwrap()).abs() < 1e-6, "{fill}, {column}: {mae}");
            assert!((0.6..=1.0).contains(&model["coverage"].as_f64().unwrap()), "{fill}: {model}");
        }
        assert!(place.read("o/report.html").contains("5 of the test part were made up to fill gaps"));
        place.succeed("predict o gaps.csv --device cpu --out next.csv");
        assert_eq!(place.read("next.csv"), place.read("o/forecast.csv"));
    }
    let printed =
        place.succeed(&format!("backtest gaps.csv {SMALL} --horizon 2 --windows 24 --fill zero --out b"));
    assert!(printed.contains("5 of 48 window samples: not scored"), "{printed}");
    let rows = place.rows("b/backtest.csv");
    let linear = || rows.iter().filter(|row| row["model"] == "linear");
    assert_eq!(linear().filter(|row| row["truth"].is_empty()).count(), 5);
    let errors = linear()
        .filter(|row| !row["truth"].is_empty())
        .map(|row| (row["forecast"].parse::<f64>().unwrap() - row["truth"].parse::<f64>().unwrap()).abs());
    let mae = errors.sum::<f64>() / 43.0;
    let metrics = place.metrics("b");
    let model = metrics["models"].as_array().unwrap().iter().find(|model| model["name"] == "linear").unwrap();
    assert!((mae - model["mae"].as_f64().unwrap()).abs() < 1e-6, "{mae}: {model}");
    assert_eq!((&model["forecasts"], &metrics["made_up"]["windows"]), (&43.into(), &5.into()));
}

#[test]
fn many_series_with_gaps_are_scored_where_they_were_measured() {
    let place = Folder::new();
    let mut text = String::from("shop,month,sales\n");
    for (shop, row) in (0..12).flat_map(|shop| (0..60).map(move |t| (shop, t))) {
        let value = 20.0
            + shop as f64
            + ((row % 12) as f64 - 5.5).abs()
            + ((row * row * 7919 + shop) % 100) as f64 / 99.0;
        // One month of the test part in every shop, and two of it in the last one.
        let gap = row == 57 || shop == 11 && (56..59).contains(&row);
        let value = if gap { String::new() } else { format!("{value:.3}") };
        text += &format!("s{shop},{}-{:02},{value}\n", 2000 + row / 12, 1 + row % 12);
    }
    place.write("shops.csv", &text);
    let options =
        "--model seasonal,network --ensemble 1 --updates 30 --horizon 3 --fill previous --device cpu --out o";
    let printed = place.succeed(&format!("forecast shops.csv {options}"));
    assert!(printed.contains("made up   1 of 36 validation, 13 of 36 test samples: not scored"), "{printed}");
    let rows = place.rows("o/test.csv");
    let known = rows.iter().filter(|row| !row["truth"].is_empty()).collect::<Vec<_>>();
    assert_eq!(known.len(), 23);
    let metrics = place.metrics("o");
    let model =
        metrics["models"].as_array().unwrap().iter().find(|model| model["name"] == "network").unwrap();
    let errors = known
        .iter()
        .map(|row| (row["network"].parse::<f64>().unwrap() - row["truth"].parse::<f64>().unwrap()).abs());
    let mae = errors.sum::<f64>() / 23.0;
    assert!((mae - model["mae"].as_f64().unwrap()).abs() < 1e-6, "{mae}: {model}");
}
