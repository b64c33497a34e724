use super::*;
use crate::{Beside, Seasons, Settings, candidates};
use gatefold_series::{FittedModel, Model, SeriesError};

fn sales(seed: usize, len: usize) -> Vec<f64> {
    let rough = |t: usize| ((t * t * 7919 + seed * 31) % 1000) as f64 / 500.0 - 1.0;
    (0..len).map(|t| 50.0 + 9.0 * (t as f64 * std::f64::consts::TAU / 12.0).sin() + 2.0 * rough(t)).collect()
}

fn rolled(series: &[&[f64]], plan: &Rolling, all: &[Candidate]) -> Backtest {
    backtest(&Device::cpu().unwrap(), series, plan, all, &mut ()).unwrap()
}

fn every_kind(series: &[&[f64]], horizon: usize) -> Vec<Candidate> {
    let settings = Settings { members: 1, updates: 12, batch: 8, ..Settings::new(horizon, Some(12), &[100]) };
    let names = ["naive", "mean", "seasonal", "linear", "ar", "ets", "theta", "network"].map(str::to_owned);
    candidates(Some(&names), &Seasons::new(&[12]), &settings, series).unwrap()
}

/// The bits of all that is forecast from the windows before `window`, and of that window itself: forecasts, intervals, the
/// choice, and the unit of the errors.
fn bits(results: &Backtest, window: usize) -> Vec<u64> {
    let mut bits = vec![results.best as u64];
    bits.extend(results.units.iter().map(|unit| unit.to_bits()));
    for model in 0..results.models.len() {
        bits.push(results.models[model].validation.to_bits());
        for series in 0..results.truth.len() {
            let rows = (0..=window).flat_map(|window| results.interval(model, series, window));
            bits.extend(rows.flatten().map(f64::to_bits));
        }
    }
    bits
}

/// Whether nothing that is known at the origin of `window` changes with the samples after it.
fn is_blind(plan: &Rolling, window: usize, all: impl Fn(&[&[f64]]) -> Vec<Candidate>) -> bool {
    let (one, two) = (sales(1, 144), sales(2, 130));
    let shocked = |values: &[f64]| -> Vec<f64> {
        let origin = plan.origins(values.len())[window];
        let shock = |(at, value): (usize, &f64)| if at < origin { *value } else { 400.0 - 3.0 * value };
        values.iter().enumerate().map(shock).collect()
    };
    let before = [one.as_slice(), two.as_slice()];
    let (one, two) = (shocked(&one), shocked(&two));
    let after = [one.as_slice(), two.as_slice()];
    bits(&rolled(&before, plan, &all(&before)), window) == bits(&rolled(&after, plan, &all(&after)), window)
}

fn plan(refit: Refit) -> Rolling {
    let (one, two) = (sales(1, 144), sales(2, 130));
    // Windows overlap, so that an earlier one may not have ended.
    Rolling { refit, ..Rolling::new(&[&one, &two], 4, Some(12), Some(5), Some(2)).unwrap() }
}

#[test]
fn nothing_after_an_origin_changes_a_forecast_from_it() {
    for refit in [Refit::Never, Refit::Always] {
        for window in [0, 3] {
            assert!(is_blind(&plan(refit), window, |series| every_kind(series, 4)), "{refit:?}, {window}");
        }
    }
}

/// A model that knows the whole series, whatever it is fitted to.
#[derive(Clone, Debug)]
struct Oracle(Vec<Vec<f64>>);

impl Model for Oracle {
    fn name(&self) -> String {
        "oracle".into()
    }

    fn fit(&self, series: &[f64]) -> Result<Box<dyn FittedModel>, SeriesError> {
        let whole = self.0.iter().find(|whole| whole.starts_with(series)).expect("it is one of them");
        Ok(Box::new(Oracle(vec![whole.clone()])))
    }
}

impl FittedModel for Oracle {
    fn forecasts(
        &self,
        _: &[f64],
        origins: std::ops::Range<usize>,
        horizon: usize,
    ) -> Result<Array2<f64>, SeriesError> {
        let start = origins.start;
        Ok(Array2::from_shape_fn((origins.len(), horizon), |(row, k)| self.0[0][start + row + k]))
    }
}

#[test]
fn a_model_that_looks_ahead_is_found() {
    let oracle = |series: &[&[f64]]| {
        let whole = series.iter().map(|values| values.to_vec()).collect();
        vec![Candidate::PerSeries(Box::new(Oracle(whole)) as Box<dyn Model>, Beside::default())]
    };
    for refit in [Refit::Never, Refit::Always] {
        assert!(!is_blind(&plan(refit), 3, oracle), "{refit:?}");
    }
}

#[test]
fn windows_end_with_the_series_and_know_only_errors_of_those_that_ended() {
    let plan = plan(Refit::Never);
    assert_eq!(plan.origins(100), [88, 90, 92, 94, 96]);
    // 15 % of the 118 samples before the windows of the shorter series.
    assert_eq!((plan.evaluated(), plan.calibration), (12, 18));
    let origins = plan.calibration_origins(100);
    assert_eq!((origins[0], origins[origins.len() - 1], origins.len()), (70, 84, 15));
    let ended: Vec<usize> = (0..5).map(|window| plan.ended_before(window)).collect();
    assert_eq!(ended, [0, 0, 1, 2, 3]);
}

/// Repeating the last sample of a series that rises by 1 each time is `k` too low after `k` steps.
#[test]
fn measures_are_those_of_a_worked_example() {
    let rising: Vec<f64> = (0..60).map(f64::from).collect();
    let plan = Rolling { calibration: 20, ..Rolling::new(&[&rising], 2, None, Some(3), None).unwrap() };
    let naive = candidates(
        Some(&["naive".into()]),
        &Seasons::default(),
        &Settings::new(2, None, &[60]),
        &[rising.as_slice()],
    );
    let results = rolled(&[&rising], &plan, &naive.unwrap());
    let all = results.measures(0);
    assert_eq!((all.mae, all.bias, all.mase, all.forecasts, all.with_intervals), (1.5, -1.5, 1.5, 6, 6));
    assert_eq!(all.rmse, 2.5f64.sqrt());
    let truth = [54.0, 55.0, 56.0, 57.0, 58.0, 59.0f64];
    let smape = truth.iter().zip([1.0, 2.0, 1.0, 2.0, 1.0, 2.0]);
    let smape = smape.map(|(y, error)| 200.0 * error / (2.0 * y - error)).sum::<f64>() / 6.0;
    assert!((all.smape - smape).abs() < 1e-12);
    // All errors are known to be k: every interval is from -k to k, and ends at the truth.
    assert_eq!(results.interval(0, 0, 0), [[53.0, 52.0, 54.0], [53.0, 51.0, 55.0]]);
    assert_eq!((all.coverage, all.msis), (Some(1.0), Some(3.0)));
    // Every quantile above the median is the truth; those below are 2k under it, and the median k.
    let loss = |k: f64| 2.0 * k * (0.1 + 0.2 + 0.3 + 0.4) + 0.5 * k;
    assert!((all.quantile_loss.unwrap() - (loss(1.0) + loss(2.0)) / 2.0 / 9.0).abs() < 1e-12);
    let crps = |k: f64| 2.0 * CRPS_LEVELS[..10].iter().map(|level| level * 2.0 * k).sum::<f64>() / 20.0;
    assert!((all.crps.unwrap() - (crps(1.0) + crps(2.0)) / 2.0).abs() < 1e-12);
    let steps: Vec<f64> = results.by_step(0).iter().map(|step| step.mae).collect();
    assert_eq!(steps, [1.0, 2.0]);
    assert_eq!(results.by_series(0), [all]);
    let windows: Vec<(f64, usize)> = results.by_window(0).iter().map(|w| (w.bias, w.forecasts)).collect();
    assert_eq!(windows, [(-1.5, 2); 3]);
}

#[test]
fn limits_hold_and_are_measured() {
    let series = sales(3, 120);
    let plan = Rolling::new(&[&series], 4, Some(12), None, None).unwrap();
    let bounded = Rolling { limits: (48.0, 52.0), ..plan.clone() };
    let all = every_kind(&[&series], 4);
    let results = rolled(&[&series], &bounded, &all);
    for model in 0..results.models.len() {
        for [forecast, lower, upper] in
            (0..bounded.windows).flat_map(|window| results.interval(model, 0, window))
        {
            assert!(48.0 <= lower && lower <= forecast && forecast <= upper && upper <= 52.0);
        }
    }
    assert!(results.measures(0).mae != rolled(&[&series], &plan, &all).measures(0).mae);
}

#[test]
fn the_calibration_part_has_errors_enough_where_there_is_room() {
    let calibration = |len: usize, count: usize, horizon| {
        let series = vec![sales(0, len); count];
        let series: Vec<&[f64]> = series.iter().map(Vec::as_slice).collect();
        Rolling::new(&series, horizon, None, Some(1), None).unwrap().calibration
    };
    assert_eq!(calibration(213, 1, 13), 30, "15 % of 200");
    assert_eq!(calibration(72, 1, 12), 13, "two origins of twelve steps");
    assert_eq!(calibration(61, 1, 1), 19);
    assert_eq!(calibration(31, 1, 1), 10, "a third is all there is to take");
    assert_eq!((calibration(100, 12, 1), calibration(100, 12, 6)), (2, 6));
}

#[test]
fn too_few_samples_are_refused_with_what_would_do() {
    let series = sales(0, 40);
    let message =
        |horizon, windows| Rolling::new(&[&series], horizon, None, windows, None).unwrap_err().to_string();
    assert!(message(4, Some(10)).contains("use --windows 8 or less"), "{}", message(4, Some(10)));
    assert!(message(30, None).contains("use a shorter horizon"), "{}", message(30, None));
    let plan = Rolling::new(&[&series], 4, None, Some(8), None).unwrap();
    assert!(plan.check(&[&series[..37]]).is_err());
}
