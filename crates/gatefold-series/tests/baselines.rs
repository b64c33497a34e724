//! Known errors of the baselines on real data, and the seasons and levels found in it.

use approx::assert_abs_diff_eq;
use gatefold_series::{Baseline, Fill, Metrics, Split, Table, TableOptions, find_season, returns_to_level};
use std::path::Path;

fn column(file: &str, name: &str) -> (Vec<f64>, Option<Vec<String>>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/data").join(file);
    let table = Table::read(path, &TableOptions::new()).unwrap();
    (table.numbers(name, Fill::Linear).unwrap(), table.dates())
}

fn one_step_mae(baseline: Baseline, series: &[f64], test: usize) -> f64 {
    let origins = test..series.len();
    let forecasts = baseline.forecasts(series, origins.clone(), 1).unwrap();
    Metrics::of_forecasts(series, origins, &forecasts, &series[..test]).unwrap().mae
}

/// Compares with a figure from examples/data/SOURCES.md, which is rounded: half a unit of the last digit is allowed.
fn assert_figure(found: f64, expected: f64, last_digit: f64) {
    assert_abs_diff_eq!(found, expected, epsilon = 0.5 * last_digit + 1e-9);
}

#[test]
fn sunspots_last_fifth() {
    let (series, dates) = column("sunspots_monthly.csv", "sunspots");
    assert_eq!((series.len(), dates.unwrap()[3125].as_str()), (3126, "2009-06"));
    let test = Split::new(series.len(), 0.2, 0.0).unwrap().test();
    assert_figure(one_step_mae(Baseline::RepeatLast, &series, test.start), 14.12, 0.01);
    assert_figure(one_step_mae(Baseline::SeasonalNaive(132), &series, test.start), 32.15, 0.01);
}

#[test]
fn seattle_temp_max_2015() {
    let (series, dates) = column("seattle_weather_daily.csv", "temp_max");
    let test = dates.unwrap().iter().position(|date| date == "2015-01-01").unwrap();
    assert_figure(one_step_mae(Baseline::RepeatLast, &series, test), 2.240, 0.001);
    assert_figure(one_step_mae(Baseline::SeasonalNaive(365), &series, test), 3.770, 0.001);
}

#[test]
fn seasons_of_real_series() {
    let season = |file: &str, name: &str| {
        let (series, _) = column(file, name);
        find_season(&series[Split::new(series.len(), 0.2, 0.0).unwrap().past()])
    };
    // The solar cycle lasts 9 to 14 years, 11 on average.
    let sunspots = season("sunspots_monthly.csv", "sunspots").unwrap();
    assert!(sunspots.abs_diff(132) <= 6, "{sunspots}");
    let co2 = season("co2_weekly_missing.csv", "co2").unwrap();
    assert!(co2.abs_diff(52) <= 1, "{co2}");
    let weather = season("seattle_weather_daily.csv", "temp_max").unwrap();
    assert!(weather.abs_diff(365) <= 8, "{weather}");
    assert_eq!(season("seattle_weather_daily.csv", "wind"), None, "a day's wind has no clear year");
}

#[test]
fn levels_of_real_series() {
    let returns = |file: &str, name: &str| returns_to_level(&column(file, name).0);
    assert!(returns("sunspots_monthly.csv", "sunspots"));
    assert!(returns("seattle_weather_daily.csv", "temp_max"));
    assert!(!returns("co2_weekly_missing.csv", "co2"));
}
