//! Rules that every model keeps, whatever the series.

use gatefold_series::{
    Ar, Arima, Baseline, Ets, FittedModel, Hmm, Kalman, KalmanForm, Model, Mstl, Naive2, Theta,
};

const SEASON: usize = 12;

fn models() -> Vec<Box<dyn Model>> {
    vec![
        Box::new(Naive2::new(SEASON)),
        Box::new(Ar::automatic()),
        Box::new(Ar::of_order(1)),
        Box::new(Arima::automatic(SEASON)),
        Box::new(Ets::automatic(SEASON)),
        Box::new(Ets::of_form("AAdN".parse().unwrap(), SEASON)),
        Box::new(Theta::new(SEASON)),
        Box::new(Mstl::new(&[SEASON])),
        Box::new(Mstl::new(&[4, SEASON])),
        Box::new(Kalman::automatic(SEASON)),
        Box::new(Kalman::of_form(KalmanForm::LocalTrend, SEASON)),
        Box::new(Kalman::of_form(KalmanForm::General(3), SEASON)),
        Box::new(Hmm::automatic()),
        Box::new(Hmm::of_states(3)),
        Box::new(Baseline::RepeatLast),
    ]
}

/// Even numbers over -0.5 to 0.5 that repeat.
fn noise(n: usize) -> Vec<f64> {
    let mut state = 12345u64;
    let mut next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 11) as f64 / (1u64 << 53) as f64 - 0.5
    };
    (0..n).map(|_| next()).collect()
}

fn season(t: usize) -> f64 {
    (std::f64::consts::TAU * t as f64 / SEASON as f64).sin()
}

fn seasonal(n: usize) -> Vec<f64> {
    noise(n).iter().enumerate().map(|(t, e)| 50.0 + 0.2 * t as f64 + 8.0 * season(t) + 2.0 * e).collect()
}

/// Series that break careless models, each with a name.
fn hard_series() -> Vec<(&'static str, Vec<f64>)> {
    let mut outliers = seasonal(100);
    (outliers[20], outliers[70]) = (1e6, -1e6);
    let with = |change: &dyn Fn(usize, f64) -> f64| -> Vec<f64> {
        seasonal(80).iter().enumerate().map(|(t, y)| change(t, *y)).collect()
    };
    vec![
        ("constant", vec![7.0; 60]),
        ("zero", vec![0.0; 60]),
        ("constant 0.1", vec![0.1; 61]),
        ("n = 4", vec![3.0, 1.0, 4.0, 1.0]),
        ("n = 4, growing", vec![1.0, 10.0, 100.0, 1000.0]),
        ("shorter than a season", seasonal(9)),
        ("one season", seasonal(12)),
        ("two seasons and a bit", seasonal(26)),
        ("a line", (0..50).map(f64::from).collect()),
        ("a parabola", (0..50).map(|t| f64::from(t * t)).collect()),
        ("a pure season", (0..96).map(season).collect()),
        ("growth", (0..60).map(|t| 1.5f64.powi(t)).collect()),
        ("with zeros", with(&|t, y| if t % 5 == 0 { 0.0 } else { y })),
        ("mostly zero", with(&|t, y| if t % 13 == 0 { y } else { 0.0 })),
        ("negative", with(&|_, y| 20.0 - y)),
        ("outliers", outliers),
        ("a jump", with(&|t, y| if t < 40 { y } else { y + 1e4 })),
        ("constant, then a spike", (0..60).map(|t| if t == 59 { 1.0 } else { 0.0 }).collect()),
        ("large", with(&|_, y| 1e90 * y)),
        ("tiny", with(&|_, y| 1e-90 * y)),
        ("far from zero", with(&|_, y| 1e9 + y)),
    ]
}

#[test]
fn forecasts_of_hard_series_are_numbers() {
    for model in models() {
        for (name, series) in hard_series() {
            let fitted =
                model.fit(&series).unwrap_or_else(|error| panic!("{} of {name}: {error}", model.name()));
            // What follows a series may be nothing like it.
            for more in [vec![], vec![0.0; 30], vec![-1e6, 1e6, 3.0, -2.0], seasonal(30)] {
                let past = [series.clone(), more].concat();
                let forecast = fitted.forecast(&past, 40).unwrap();
                let finite = forecast.iter().all(|value| value.is_finite());
                assert!(finite && forecast.len() == 40, "{} of {name}: {forecast:?}", model.name());
            }
        }
    }
}

#[test]
fn a_constant_series_goes_on() {
    for model in models() {
        for level in [7.0, 0.0, 0.1, -3.5e6] {
            let forecast = fit(&*model, &vec![level; 40]).forecast(&vec![level; 45], 15).unwrap();
            let close = |value: &f64| (value - level).abs() <= 1e-9 * f64::abs(level);
            assert!(forecast.iter().all(close), "{} of {level}: {forecast:?}", model.name());
        }
    }
}

fn fit(model: &dyn Model, series: &[f64]) -> Box<dyn FittedModel> {
    model.fit(series).unwrap_or_else(|error| panic!("{}: {error}", model.name()))
}

/// A state that is carried from origin to origin gives what starting anew gives, and sees no later sample.
#[test]
fn forecasts_of_many_origins_are_those_of_each() {
    let series = seasonal(90);
    for model in models() {
        let fitted = fit(&*model, &series[..60]);
        let all = fitted.forecasts(&series, 55..91, 7).unwrap();
        for (row, origin) in all.rows().into_iter().zip(55..91) {
            let alone = fitted.forecast(&series[..origin], 7).unwrap();
            assert_eq!(row.to_vec(), alone, "{} at {origin}", model.name());
        }
        let changed = [&series[..70], &[1e6; 20]].concat();
        let again = fitted.forecasts(&changed, 55..71, 7).unwrap();
        assert_eq!(all.slice(ndarray::s![..16, ..]), again, "{} looks ahead", model.name());
        assert_eq!(fitted.forecasts(&series, 60..60, 7).unwrap().dim(), (0, 7));
        assert_eq!(fitted.forecast(&series, 0).unwrap().len(), 0);
    }
}

#[test]
fn the_state_follows_new_samples() {
    for model in models() {
        let series = seasonal(72);
        let fitted = fit(&*model, &series);
        let raised: Vec<f64> =
            series.iter().copied().chain((72..96).map(|t| 500.0 + 8.0 * season(t))).collect();
        let (before, after) =
            (fitted.forecast(&series, 1).unwrap()[0], fitted.forecast(&raised, 1).unwrap()[0]);
        assert!(after > before + 5.0, "{}: {before}, then {after}", model.name());
    }
}

#[test]
fn fits_repeat() {
    let series = seasonal(100);
    for model in models() {
        let twice = [0, 1].map(|_| fit(&*model, &series).forecast(&series, 9).unwrap());
        assert_eq!(twice[0], twice[1], "{}", model.name());
    }
}

#[test]
fn unfit_input_is_refused_in_one_line() {
    for model in models().iter().filter(|model| model.name() != "repeat last") {
        let name = model.name();
        let kind = name.split(' ').next().unwrap();
        let message = |result: Result<(), gatefold_series::SeriesError>| {
            let message = result.expect_err(&name).to_string();
            assert!(!message.contains('\n') && message.contains(&format!("'{kind}")), "{message}");
            message
        };
        let mut series = seasonal(60);
        let fitted = fit(&**model, &series);
        assert!(message(model.fit(&[]).map(drop)).contains("found 0"), "{name}");
        assert!(message(fitted.forecast(&[], 1).map(drop)).contains("samples"), "{name}");
        assert!(message(fitted.forecasts(&series, 50..62, 1).map(drop)).contains("60 samples"), "{name}");
        series[17] = f64::INFINITY;
        assert!(message(model.fit(&series).map(drop)).contains("found inf at sample 18 of 60"), "{name}");
        if name != "kalman" {
            series[17] = f64::NAN;
            let expected = "found NaN at sample 18 of 60; fill the gaps first, or use 'kalman'";
            assert!(message(model.fit(&series).map(drop)).contains(expected), "{name}");
            assert!(message(fitted.forecast(&series, 1).map(drop)).contains(expected), "{name}");
        }
    }
}

#[test]
fn a_kalman_filter_takes_gaps() {
    let full = seasonal(96);
    let gaps = |missing: &dyn Fn(usize) -> bool| -> Vec<f64> {
        full.iter().enumerate().map(|(t, y)| if missing(t) { f64::NAN } else { *y }).collect()
    };
    let cases: [&dyn Fn(usize) -> bool; 4] =
        [&|t| t % 5 == 2, &|t| (40..70).contains(&t), &|t| !(10..90).contains(&t), &|t| t != 30];
    for form in [None, Some(KalmanForm::LocalTrend), Some(KalmanForm::General(2))] {
        let model = form.map_or(Kalman::automatic(SEASON), |form| Kalman::of_form(form, SEASON));
        for (k, missing) in cases.iter().enumerate() {
            let series = gaps(missing);
            let fitted = model.fit_form(&series).unwrap();
            let smoothed = fitted.smooth(&series).unwrap();
            let forecast = fitted.forecast(&series, 12).unwrap();
            let all = forecast.iter().chain(&smoothed.mean).chain(&smoothed.variance);
            assert!(all.into_iter().all(|value| value.is_finite()), "{form:?}, case {k}");
            assert!(smoothed.variance.iter().all(|value| *value >= 0.0), "{form:?}, case {k}");
        }
    }
    // Between scattered samples, the season is known to about the noise, which is even over -1 to 1.
    let series = gaps(cases[0]);
    let smoothed =
        Kalman::of_form(KalmanForm::LocalTrend, SEASON).fit_form(&series).unwrap().smooth(&series).unwrap();
    let missing: Vec<usize> = (0..96).filter(|t| t % 5 == 2).collect();
    let off =
        missing.iter().map(|t| (smoothed.mean[*t] - full[*t]).abs()).sum::<f64>() / missing.len() as f64;
    assert!(off < 0.75, "a mean error of {off} in the gaps");
    assert!(Kalman::automatic(1).fit_form(&[f64::NAN; 9]).unwrap_err().to_string().contains("found 0"));
}
