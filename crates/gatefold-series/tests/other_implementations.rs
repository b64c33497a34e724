//! Models against other implementations, whose numbers `tests/fixtures/series/make.py` froze.

use gatefold_series::{Ar, Model};
use serde::Deserialize;
use std::collections::HashMap;
use std::path::Path;

#[derive(Deserialize)]
struct Fixture {
    series: HashMap<String, Vec<f64>>,
    ar: Vec<Autoregression>,
}

#[derive(Deserialize)]
struct Autoregression {
    series: String,
    order: usize,
    up_to_10: usize,
    forecast: Vec<f64>,
}

fn fixture() -> Fixture {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/series/models.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn forecast(model: impl Model, series: &[f64], horizon: usize) -> Vec<f64> {
    model.fit(series).unwrap().forecast(series, horizon).unwrap()
}

fn assert_forecasts(what: &str, found: &[f64], expected: &[f64], relative: f64) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (k, (found, expected)) in found.iter().zip(expected).enumerate() {
        let close = (found - expected).abs() <= relative * expected.abs().max(1e-3);
        assert!(close, "{what}, step {}: {found}; expected {expected}", k + 1);
    }
}

#[test]
fn autoregressions_are_those_of_statsmodels() {
    let fixture = fixture();
    for case in &fixture.ar {
        let series = &fixture.series[&case.series];
        let what = format!("ar ({}) of {}", case.order, case.series);
        let found = forecast(Ar::of_order(case.order), series, case.forecast.len());
        assert_forecasts(&what, &found, &case.forecast, 1e-9);
        let chosen = forecast(Ar::up_to(10), series, 5);
        assert_eq!(chosen, forecast(Ar::of_order(case.up_to_10), series, 5), "{what}, the order chosen");
    }
}
