use super::*;
use crate::distributions::{NegativeBinomial, Poisson};
use crate::{CellKind, Loss};
use gatefold_series::{FittedModel, Linear};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

fn wave(t: usize) -> f64 {
    40.0 + 9.0 * (t as f64 * std::f64::consts::TAU / 12.0).sin() + ((t * t * 7919) % 100) as f64 / 50.0
}

#[test]
fn an_untrained_network_is_the_linear_regression() {
    let series: Vec<f64> = (0..200).map(wave).collect();
    let mut settings = Settings::new(4, Some(12), &[200]);
    (settings.stop_after, settings.members) = (Some(0), 1);
    let fitted =
        Forecaster::new(settings).fit(&Device::cpu().unwrap(), &[&series[..150]], None, &mut ()).unwrap();
    let linear = Linear::new(4).season(Some(12.0)).fit_linear(&series[..150]).unwrap();
    for origin in [150, 163, 190] {
        let forecast = fitted.forecast(&[(0, &series[..origin])]).unwrap();
        let expected = linear.forecast(&series[..origin], 4).unwrap();
        for k in 0..4 {
            let error = (forecast[[0, 0, k]] - expected[k]).abs();
            assert!(error < 1e-5 * expected[k].abs(), "origin {origin}, step {k}: {error}");
            assert!(forecast[[1, 0, k]] < forecast[[0, 0, k]] && forecast[[0, 0, k]] < forecast[[2, 0, k]]);
        }
    }
}

#[test]
fn the_fourier_terms_of_a_regression_are_turned_into_weights() {
    // A season that does not last whole samples, under noise: the moment says more than the window.
    let value = |t: usize| {
        let noise = ((t * t * 7919 + t * 104_729) % 1000) as f64 / 50.0;
        40.0 + 9.0 * (t as f64 * std::f64::consts::TAU / 90.7).sin() + noise
    };
    let series: Vec<f64> = (0..700).map(value).collect();
    let linear = Linear::new(5).season(Some(90.7)).fit_linear(&series[..600]).unwrap();
    assert!(linear.fourier().is_some(), "otherwise there is nothing to test: {linear:?}");
    let mut settings = Settings::new(5, Some(90), &[600]);
    (settings.stop_after, settings.members, settings.longest_season) = (Some(0), 1, Some(90.7));
    let fitted =
        Forecaster::new(settings).fit(&Device::cpu().unwrap(), &[&series[..600]], None, &mut ()).unwrap();
    for origin in [600, 613, 690] {
        let forecast = fitted.forecast(&[(0, &series[..origin])]).unwrap();
        for (k, expected) in linear.forecast(&series[..origin], 5).unwrap().into_iter().enumerate() {
            let error = (forecast[[0, 0, k]] - expected).abs();
            assert!(error < 1e-5 * expected.abs(), "origin {origin}, step {k}: {error}");
        }
    }
}

#[test]
fn the_regressions_of_several_series_stay_outside_an_untrained_network() {
    let series: Vec<Vec<f64>> =
        [1.0, 30.0].map(|scale| (0..200).map(|t| scale * wave(t + scale as usize)).collect()).into();
    let views: Vec<&[f64]> = series.iter().map(|values| &values[..150]).collect();
    let mut settings = Settings::new(3, Some(12), &[150, 150]);
    (settings.stop_after, settings.members) = (Some(0), 1);
    let fitted = Forecaster::new(settings).fit(&Device::cpu().unwrap(), &views, None, &mut ()).unwrap();
    for (at, values) in series.iter().enumerate() {
        let forecast = fitted.forecast(&[(at, &values[..170])]).unwrap();
        let linear = Linear::new(3).season(Some(12.0)).fit_linear(&values[..150]).unwrap();
        for (k, expected) in linear.forecast(&values[..170], 3).unwrap().into_iter().enumerate() {
            assert!((forecast[[0, 0, k]] - expected).abs() < 1e-5 * expected.abs(), "{at} {k}");
        }
    }
}

#[test]
fn an_untrained_network_of_many_series_repeats_their_season() {
    // Seasons of 6 without noise: the last one, repeated, leaves nothing to the regression. The horizon is longer.
    let value = |at: usize, t: usize| 20.0 + at as f64 + ((t % 6 + at) * (t % 6) % 7) as f64;
    let series: Vec<Vec<f64>> = (0..10).map(|at| (0..90).map(|t| value(at, t)).collect()).collect();
    let views: Vec<&[f64]> = series.iter().map(Vec::as_slice).collect();
    let mut settings = Settings::new(8, Some(6), &[90; 10]);
    assert!(settings.shared);
    (settings.stop_after, settings.members, settings.hidden) = (Some(0), 1, 4);
    let fitted = Forecaster::new(settings).fit(&Device::cpu().unwrap(), &views, None, &mut ()).unwrap();
    for (at, values) in views.iter().enumerate() {
        let forecast = fitted.forecast(&[(at, values)]).unwrap();
        for k in 0..8 {
            let error = (forecast[[0, 0, k]] - value(at, 90 + k)).abs();
            assert!(error < 1e-3, "series {at}, step {k}: {error}");
            // Nothing was left on the windows either, so the band is narrow.
            assert!(forecast[[2, 0, k]] - forecast[[1, 0, k]] < 0.1, "series {at}, step {k}");
        }
    }
}

/// Counts with this mean, the reciprocal of a gamma distribution's shape as dispersion, or none (Poisson).
fn counts(len: usize, mean: f64, dispersion: Option<f64>) -> Vec<f64> {
    let mut random = ChaCha8Rng::seed_from_u64(5);
    let poisson = |rate: f64, random: &mut ChaCha8Rng| {
        // Arrivals until one unit of time is over.
        let (mut time, mut count) = (0.0, 0.0);
        loop {
            time -= (1.0 - random.random::<f64>()).ln() / rate;
            if time > 1.0 {
                return count;
            }
            count += 1.0;
        }
    };
    (0..len)
        .map(|_| {
            // A gamma variable with the shape 2 is the sum of two exponential ones.
            let rate = dispersion.map_or(mean, |dispersion| {
                assert_eq!(dispersion, 0.5);
                -(0..2).map(|_| (1.0 - random.random::<f64>()).ln()).sum::<f64>() * mean * dispersion
            });
            poisson(rate, &mut random)
        })
        .collect()
}

#[test]
fn likelihoods_recover_the_distribution_of_counts() {
    for (loss, dispersion) in [
        (Loss::Poisson, None),
        (Loss::NegativeBinomial, Some(0.5)),
        (Loss::Gaussian, None),
        (Loss::Quantile, None),
    ] {
        let series = counts(1600, 8.0, dispersion);
        let mut settings = Settings::new(2, None, &[1200]);
        (settings.members, settings.updates, settings.hidden) = (1, 1500, 4);
        (settings.window, settings.loss) = (Some(4), loss);
        let fitted = Forecaster::new(settings)
            .fit(&Device::cpu().unwrap(), &[&series[..1200]], None, &mut ())
            .unwrap();
        let known: Vec<(usize, &[f64])> = (1200..1598).map(|at| (0, &series[..at])).collect();
        let forecast = fitted.forecast(&known).unwrap();
        let mean = forecast.index_axis(Axis(0), 0).mean().unwrap();
        // The mean of 1,200 counts errs by 0.1 to 0.2 (deviations of 2.8 and 6.3), the network by a little more.
        assert!((mean - 8.0).abs() < 0.8, "{loss}: {mean}");
        let high = forecast.index_axis(Axis(0), 2).mean().unwrap();
        let expected = match dispersion {
            Some(dispersion) => NegativeBinomial { mean: 8.0, dispersion }.interval()[1],
            None => Poisson { rate: 8.0 }.interval()[1],
        };
        assert!((high / expected - 1.0).abs() < 0.15, "{loss}: {high} for {expected}");
        let inside = known.iter().enumerate().flat_map(|(at, (_, past))| {
            let (forecast, series) = (&forecast, &series);
            (0..2).map(move |k| {
                let truth = series[past.len() + k];
                f64::from(forecast[[1, at, k]] <= truth && truth <= forecast[[2, at, k]])
            })
        });
        let coverage = inside.sum::<f64>() / (2 * known.len()) as f64;
        // Intervals of whole numbers hold up to 2 % more; 800 values scatter by 0.8 %.
        assert!((0.92..=0.99).contains(&coverage), "{loss}: {coverage}");
    }
}

#[test]
fn what_the_loss_cannot_take_is_refused_by_name() {
    let refused = |settings: Settings, last: f64| {
        let mut series = counts(200, 8.0, None);
        series[199] = last;
        let fit = Forecaster::new(settings).fit(&Device::cpu().unwrap(), &[&series], None, &mut ());
        fit.unwrap_err().to_string()
    };
    let settings = Settings { members: 1, updates: 2, loss: Loss::Poisson, ..Settings::new(2, None, &[200]) };
    assert!(refused(settings.clone(), 0.5).contains("sample 200 of series 1 is 0.5"));
    assert!(refused(Settings { mixing: 0.5, ..settings.clone() }, 1.0).contains("blends of counts"));
    let settings = Settings { loss: Loss::Absolute, logarithm: true, ..settings };
    assert!(refused(settings, 0.0).contains("no logarithm of 0"));
}

#[test]
fn a_network_learns_what_a_linear_regression_cannot() {
    // The logistic map is a parabola of the sample before: a line through it says nothing.
    let mut series = vec![0.3];
    for t in 1..1500 {
        series.push(3.9 * series[t - 1] * (1.0 - series[t - 1]));
    }
    let mut settings = Settings::new(1, None, &[1200]);
    (settings.members, settings.updates, settings.window, settings.hidden) = (1, 2000, Some(4), 32);
    let fitted =
        Forecaster::new(settings).fit(&Device::cpu().unwrap(), &[&series[..1200]], None, &mut ()).unwrap();
    let known: Vec<(usize, &[f64])> = (1200..1500).map(|origin| (0, &series[..origin])).collect();
    let network = fitted.forecast(&known).unwrap();
    let linear =
        Linear::new(1).fit_linear(&series[..1200]).unwrap().forecasts(&series, 1200..1500, 1).unwrap();
    let mae = |forecast: &dyn Fn(usize) -> f64| {
        (0..300).map(|at| (forecast(at) - series[1200 + at]).abs()).sum::<f64>() / 300.0
    };
    let (ours, line) = (mae(&|at| network[[0, at, 0]]), mae(&|at| linear[[at, 0]]));
    assert!(ours < 0.3 * line, "{ours} beside {line}");
}

#[test]
fn many_series_share_a_network_whatever_their_scale() {
    // The same shape at scales of a thousandth and a thousand: in units of their own the forecasts are equal.
    let shape: Vec<f64> = (0..160).map(wave).collect();
    let scaled = |scale: f64| shape.iter().map(|value| scale * value).collect::<Vec<f64>>();
    let series: Vec<Vec<f64>> = (0..12).map(|at| scaled(10f64.powi(at % 7 - 3))).collect();
    let views: Vec<&[f64]> = series.iter().map(Vec::as_slice).collect();
    let mut settings = Settings::new(6, Some(12), &[160; 12]);
    assert!(settings.shared && settings.window == Some(72), "{settings:?}");
    (settings.members, settings.updates, settings.hidden) = (1, 30, 8);
    let fitted = Forecaster::new(settings).fit(&Device::cpu().unwrap(), &views, None, &mut ()).unwrap();
    let known: Vec<(usize, &[f64])> = views.iter().copied().enumerate().collect();
    let forecast = fitted.forecast(&known).unwrap();
    for (at, values) in views.iter().enumerate() {
        for k in 0..6 {
            let ratio = forecast[[0, at, k]] / values[0] / (forecast[[0, 3, k]] / views[3][0]);
            assert!((ratio - 1.0).abs() < 1e-4, "series {at}, step {k}: {ratio}");
        }
    }
}

#[test]
fn a_validation_error_leaves_out_what_was_made_up() {
    let train: Vec<f64> = (0..150).map(wave).collect();
    let mut settings = Settings::new(4, Some(12), &[150]);
    (settings.stop_after, settings.members) = (Some(0), 1);
    let fitted = Forecaster::new(settings).fit(&Device::cpu().unwrap(), &[&train], None, &mut ()).unwrap();
    let of = |garbage: f64, made_up: MadeUp, origins: &[usize]| {
        let value = |t: usize| if [151, 152].contains(&t) { garbage } else { wave(t) };
        let series: Vec<f64> = (0..170).map(value).collect();
        let origins = origins.iter().map(|origin| (0, *origin)).collect();
        let validation = Validation { series: &[&series], origins, made_up };
        error(&fitted.encoder, &fitted.members[0], &fitted.settings, &validation).unwrap()
    };
    let masked = || MadeUp::new([&[151, 152][..]], false);
    assert_eq!(of(1e6, masked(), &[150]), of(-3.0, masked(), &[150]));
    assert_ne!(of(1e6, MadeUp::default(), &[150]), of(-3.0, MadeUp::default(), &[150]));
    // The mean over what was measured: the first and the last of four steps.
    let forecast = fitted.forecast(&[(0, &train)]).unwrap();
    let window = fitted.encoder.window(0, &train);
    let size = |k: usize| {
        let [found, truth] = [forecast[[0, 0, k]], wave(150 + k)].map(|value| window.unit.encoded(value));
        f64::from((found - truth).abs())
    };
    let expected = 0.5 * (size(0) + size(3));
    assert!((of(1e6, masked(), &[150]) - expected).abs() < 1e-5 * expected);
}

/// Stops a training after five updates, and gives what it kept to the next.
#[derive(Default)]
struct Half {
    kept: Option<Checkpoint>,
}

impl Watch for Half {
    fn progress(&mut self, progress: &Progress) -> bool {
        progress.update != 5
    }

    fn keep(&mut self, _member: usize, checkpoint: Checkpoint) -> Result<(), ForecastError> {
        self.kept = Some(checkpoint);
        Ok(())
    }

    fn kept(&mut self, _member: usize) -> Result<Option<Checkpoint>, ForecastError> {
        Ok(self.kept.take())
    }
}

#[test]
fn noisy_cells_are_noisy_in_training_and_resume_to_the_same_bits() {
    let series: Vec<f64> = (0..120).map(wave).collect();
    let device = Device::cpu().unwrap();
    let fit = |cell: CellKind, watch: &mut dyn Watch| {
        let mut settings = Settings::new(2, Some(12), &[120]);
        (settings.cell, settings.hidden, settings.members) = (cell, 6, 1);
        (settings.updates, settings.batch, settings.window) = (12, 8, Some(12));
        let fitted = Forecaster::new(settings).fit(&device, &[&series], None, watch);
        fitted.map(|fitted| fitted.networks()[0].parameters().unwrap())
    };
    // An LSTM with dropout has the parameters of one without, and is the same network but in training.
    let whole = fit(CellKind::DropoutLstm, &mut ()).unwrap();
    let plain = fit(CellKind::Lstm, &mut ()).unwrap();
    let pairs = whole.iter().zip(plain.iter()).flat_map(|((_, one), (_, other))| one.iter().zip(other));
    let distance = pairs.map(|(one, other)| (one - other).abs()).fold(0.0, f32::max);
    assert!(distance > 1e-3, "{distance}");
    let mut half = Half::default();
    assert!(matches!(fit(CellKind::DropoutLstm, &mut half), Err(ForecastError::Stopped)));
    assert_eq!(fit(CellKind::DropoutLstm, &mut half).unwrap(), whole);
}
