use super::*;
use crate::{Beside, Candidate, Plan, Rolling, backtest, compare};
use gatefold::Device;
use gatefold_series::{FittedModel, Model, SeriesError};
use ndarray::Array2;

#[test]
fn only_true_samples_count_and_a_line_to_the_future_is_not_known() {
    let places: [&[usize]; 2] = [&[3, 4], &[]];
    let values: Vec<f64> = (0..8).map(f64::from).collect();
    let truths = |made_up: &MadeUp, origin: usize| -> Vec<Option<f64>> {
        let truth = (0..3).map(|k| made_up.truth(0, &values, origin, k));
        truth.map(|value| (!value.is_nan()).then_some(value)).collect()
    };
    let previous = MadeUp::new(places, false);
    assert_eq!(truths(&previous, 2), [Some(2.0), None, None]);
    assert_eq!(truths(&previous, 4), [None, Some(5.0), Some(6.0)]);
    let line = MadeUp::new(places, true);
    assert_eq!(truths(&line, 3), [None, None, Some(5.0)], "what comes before the gap was measured");
    assert_eq!(truths(&line, 4), [None; 3]);
    assert_eq!(truths(&line, 5), [None; 3], "the line ends at sample 5");
    assert_eq!(truths(&MadeUp::new([&[1][..]], true), 3), [Some(3.0), Some(4.0), Some(5.0)]);
}

#[test]
fn a_line_of_a_column_beside_the_series_knows_the_future() {
    let values: Vec<f64> = (0..8).map(f64::from).collect();
    let unscored = |places: &[usize], looks_ahead: bool| -> Vec<usize> {
        let made_up = MadeUp::new([places, &[]], looks_ahead).beside([vec![6, 4, 4], vec![]]);
        assert_eq!((made_up.is_empty(), made_up.has(0, 4)), (places.is_empty(), places.contains(&4)));
        assert!((0..8).all(|origin| made_up.counts(1, origin, 7)));
        (0..8).filter(|origin| made_up.truth(0, &values, *origin, 7 - origin).is_nan()).collect()
    };
    assert_eq!(unscored(&[], true), [5, 7]);
    assert_eq!(unscored(&[1, 4], true), [2, 5, 7]);
    assert_eq!(unscored(&[1, 4], false), [0; 0]);
    // Forecasts of two samples from within the lines alone.
    let made_up = MadeUp::new([&[][..]], true).beside([vec![4, 5]]);
    let nothing = |origins: [usize; 2]| made_up.leaves_nothing(&[values.as_slice()], 2, |_| origins.to_vec());
    assert_eq!([[5, 6], [4, 5]].map(nothing), [true, false]);
}

#[test]
fn places_are_counted_within_a_range() {
    let places: [&[usize]; 2] = [&[], &[0, 5, 6, 9]];
    let made_up = MadeUp::new(places, false);
    let found = [0..0, 0..1, 1..5, 5..10, 6..9].map(|range| made_up.within(1, range));
    assert_eq!(found, [0, 1, 0, 3, 1]);
    assert_eq!((made_up.within(0, 0..10), made_up.within(7, 0..10)), (0, 0));
    assert!(MadeUp::new([&[][..]], true).is_empty() && !made_up.is_empty());
}

/// Forecasts zero, so that errors are the samples and nothing else touches them.
#[derive(Clone, Copy, Debug)]
struct Zero;

impl Model for Zero {
    fn name(&self) -> String {
        "zero".into()
    }

    fn fit(&self, _: &[f64]) -> Result<Box<dyn FittedModel>, SeriesError> {
        Ok(Box::new(Zero))
    }
}

impl FittedModel for Zero {
    fn forecasts(
        &self,
        _: &[f64],
        origins: Range<usize>,
        horizon: usize,
    ) -> Result<Array2<f64>, SeriesError> {
        Ok(Array2::zeros((origins.len(), horizon)))
    }
}

fn zero() -> Vec<Candidate> {
    vec![Candidate::PerSeries(Box::new(Zero), Beside::default())]
}

/// Sizes from 1 to 9, with every third sample of the first of two series made up as `value`.
fn with_gaps(value: f64) -> ([Vec<f64>; 2], Vec<usize>) {
    let size = |t: usize| 1.0 + (t * t * 7919 % 89) as f64 / 11.0;
    let places: Vec<usize> = (0..120).filter(|t| t % 3 == 1 || (70..75).contains(t)).collect();
    let sample = |t: usize| if places.contains(&t) { value } else { size(t) };
    ([(0..120).map(sample).collect(), (5..105).map(size).collect()], places)
}

#[test]
fn a_comparison_measures_nothing_at_samples_that_were_made_up() {
    for looks_ahead in [false, true] {
        let judged = |value: f64| {
            let (series, places) = with_gaps(value);
            let series: Vec<&[f64]> = series.iter().map(Vec::as_slice).collect();
            let made_up = MadeUp::new([places.as_slice(), &[]], looks_ahead);
            let plan = Plan { made_up, ..Plan::new(&series, 2, None, None).unwrap() };
            let mut results = compare(&Device::cpu().unwrap(), &series, &plan, &zero(), &mut ()).unwrap();
            (results.models.remove(0), results.units)
        };
        let ((one, units), (other, other_units)) = (judged(1e9), judged(-7e5));
        assert_eq!(
            (one.scores, one.validation, units.clone()),
            (other.scores, other.validation, other_units)
        );
        assert_eq!(one.calibrations, other.calibrations);
        // The same by hand: 20 samples of each series are the test part, in 19 forecasts of two.
        let (series, places) = with_gaps(0.0);
        let (mut absolute, mut scaled) = (Vec::new(), Vec::new());
        for (at, values) in series.iter().enumerate() {
            let len = values.len();
            let measured = |origin: usize, t: usize| {
                let knows = looks_ahead && places.contains(&(origin - 1));
                at == 1 || !places.contains(&t) && !knows
            };
            let own: Vec<f64> = (len - 20..=len - 2)
                .flat_map(|origin| [(origin, origin), (origin, origin + 1)])
                .filter(|(origin, t)| measured(*origin, *t))
                .map(|(_, t)| values[t])
                .collect();
            scaled.push(own.iter().sum::<f64>() / own.len() as f64 / units[at]);
            absolute.extend(own);
        }
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        assert!((one.scores.mae - mean(&absolute)).abs() < 1e-12, "{}", one.scores.mae);
        assert!((one.scores.mase - mean(&scaled)).abs() < 1e-12);
        assert!((one.scores.bias + one.scores.mae).abs() < 1e-12);
        // Intervals reach as far as the samples, 9 at most.
        let calibration = one.calibrations.of(0).unwrap();
        assert!(
            calibration
                .factor(0.95)
                .is_some_and(|factor| factor * calibration.band(0, units[0], None)[0] < 10.0)
        );
        assert!(calibration.sampled(1, 0.8).is_some(), "paths with a gap are kept");
    }
}

#[test]
fn a_backtest_measures_nothing_at_samples_that_were_made_up() {
    let measured = |value: f64| {
        let (series, places) = with_gaps(value);
        let series: Vec<&[f64]> = series.iter().map(Vec::as_slice).collect();
        let made_up = MadeUp::new([places.as_slice(), &[]], false);
        let plan = Rolling { made_up, ..Rolling::new(&series, 2, None, Some(8), None).unwrap() };
        let results = backtest(&Device::cpu().unwrap(), &series, &plan, &zero(), &mut ()).unwrap();
        let intervals: Vec<Vec<[f64; 3]>> = (0..8).map(|window| results.interval(0, 0, window)).collect();
        (
            results.measures(0),
            results.by_series(0),
            results.by_step(0),
            results.models[0].validation,
            intervals,
        )
    };
    let one = measured(1e9);
    assert_eq!(one, measured(-7e5));
    // 16 samples of each series, of which 5 of the first were made up.
    let (series, places) = with_gaps(0.0);
    let truth = series.iter().enumerate().flat_map(|(at, values)| {
        let places = &places;
        let true_ones = (values.len() - 16..values.len()).filter(move |t| at == 1 || !places.contains(t));
        true_ones.map(|t| values[t])
    });
    let truth: Vec<f64> = truth.collect();
    assert_eq!((one.0.forecasts, truth.len()), (27, 27));
    assert!((one.0.mae - truth.iter().sum::<f64>() / 27.0).abs() < 1e-12);
    assert_eq!(one.1.iter().map(|of| of.forecasts).collect::<Vec<_>>(), [11, 16]);
}

#[test]
fn a_part_without_a_true_sample_is_refused() {
    let values: Vec<f64> = (0..60).map(f64::from).collect();
    let series = [values.as_slice()];
    let refused = |from: usize, to: usize| {
        let places: Vec<usize> = (from..to).collect();
        let made_up = MadeUp::new([places.as_slice()], false);
        let plan = Plan { made_up: made_up.clone(), ..Plan::new(&series, 2, None, None).unwrap() };
        let rolling = Rolling { made_up, ..Rolling::new(&series, 2, None, Some(4), None).unwrap() };
        [plan.check(&series), rolling.check(&series)].map(|found| found.err().map(|error| error.to_string()))
    };
    let says = |found: &Option<String>, text: &str| found.as_ref().is_some_and(|found| found.contains(text));
    let found = refused(48, 60);
    assert!(says(&found[0], "the test part has only values that were made up"), "{found:?}");
    assert!(says(&found[1], "the windows have only values"), "{found:?}");
    let found = refused(40, 52);
    assert!(says(&found[0], "the validation part") && says(&found[1], "the calibration part"), "{found:?}");
    assert_eq!(refused(48, 59), [None, None]);
}
