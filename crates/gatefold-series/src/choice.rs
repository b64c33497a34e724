//! The choice of a model by its errors on a part that none was fitted on.

/// How the errors of that part follow each other.
#[derive(Clone, Copy, Debug)]
pub struct ErrorOrder {
    /// Origins of each series, one series after another.
    pub origins: usize,
    /// Origins whose forecasts share samples.
    pub overlap: usize,
}

impl ErrorOrder {
    /// The order of `len` origins in all, of so many series, forecast `horizon` samples each from every `stride` samples.
    pub fn new(len: usize, series: usize, horizon: usize, stride: usize) -> ErrorOrder {
        ErrorOrder { origins: (len / series.max(1)).max(1), overlap: horizon.div_ceil(stride.max(1)).max(1) }
    }
}

/// The mean of those values that are no NaN, as errors are where there is no truth; NaN without any.
pub fn mean_of(values: impl Iterator<Item = f64>) -> f64 {
    let known = values.filter(|value| !value.is_nan());
    let (sum, count) = known.fold((0.0, 0usize), |(sum, count), value| (sum + value, count + 1));
    sum / count as f64
}

/// Chooses the model with the least mean error, by the error of each model at each origin: all models in the same order, NaN
/// where an error is not known.
///
/// The mean of several models, where there is one, is kept unless another is better by more than one standard error of the
/// difference: a short part cannot tell models apart, and the mean is rarely far from the best (Claeskens et al. 2016, "The
/// forecast combination puzzle"). `None` without any model.
pub fn choose(errors: &[&[f64]], combination: Option<usize>, order: ErrorOrder) -> Option<usize> {
    let mean = |place: usize| mean_of(errors[place].iter().copied());
    let best = (0..errors.len()).min_by(|a, b| mean(*a).total_cmp(&mean(*b)))?;
    let Some(combination) = combination else { return Some(best) };
    Some(if clearly_better(errors[best], errors[combination], order) { best } else { combination })
}

/// The share of an error by which rounding alone may tell two models apart: networks forecast in single precision.
const ROUNDING: f64 = 1e-6;

/// Whether the mean of some errors is below that of others at the same origins by more than one standard error of the
/// difference, and by more than rounding. Those that are NaN are not known, and do not count.
pub fn clearly_better(errors: &[f64], others: &[f64], order: ErrorOrder) -> bool {
    let differences: Vec<f64> = others.iter().zip(errors).map(|(other, error)| other - error).collect();
    let rounding = ROUNDING * mean_of(others.iter().map(|error| error.abs()));
    mean_of(differences.iter().copied()) > standard_error(&differences, order).max(rounding)
}

/// The standard error of the mean of differences whose neighbours in a series share samples: that of Diebold and Mariano
/// (1995), with the weights of Newey and West (1987), which keep the variance from being negative. Infinite for fewer than
/// two differences, and never less than that of independent ones.
fn standard_error(differences: &[f64], order: ErrorOrder) -> f64 {
    let n = differences.iter().filter(|difference| !difference.is_nan()).count() as f64;
    if n < 2.0 {
        return f64::INFINITY;
    }
    let mean = mean_of(differences.iter().copied());
    // One that is not known is taken for the mean, and adds nothing.
    let centred = |difference: &f64| if difference.is_nan() { 0.0 } else { difference - mean };
    let centred: Vec<f64> = differences.iter().map(centred).collect();
    let at_lag = |lag: usize| -> f64 {
        let of_series =
            |series: &[f64]| -> f64 { series.iter().zip(series.iter().skip(lag)).map(|(a, b)| a * b).sum() };
        centred.chunks(order.origins).map(of_series).sum()
    };
    let independent = at_lag(0);
    let shared: f64 =
        (1..order.overlap).map(|lag| (1.0 - lag as f64 / order.overlap as f64) * at_lag(lag)).sum();
    ((independent + 2.0 * shared.max(0.0)) / (n * (n - 1.0))).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALONE: ErrorOrder = ErrorOrder { origins: 1000, overlap: 1 };

    /// Noise of mean 0 and variance 1/12, by the fractional parts of multiples of the golden ratio.
    fn noise(n: usize) -> Vec<f64> {
        (1..=n).map(|t| (t as f64 * 0.618_033_988_749_894_9).fract() - 0.5).collect()
    }

    #[test]
    fn what_rounding_makes_is_no_difference() {
        let order = ErrorOrder::new(40, 1, 1, 1);
        let errors: Vec<f64> = (0..40).map(|n| 0.2 + f64::from(n % 3)).collect();
        let above = |share: f64| errors.iter().map(|error| error * (1.0 + share)).collect::<Vec<_>>();
        assert!(!clearly_better(&errors, &above(1e-8), order));
        assert!(clearly_better(&errors, &above(1e-3), order));
    }

    #[test]
    fn the_mean_of_models_is_kept_unless_another_is_clearly_better() {
        let combination = vec![1.0; 100];
        let alone = |gain: f64| -> Vec<f64> { noise(100).iter().map(|e| 1.0 - gain + e).collect() };
        let chosen = |gain: f64, order: ErrorOrder| choose(&[&alone(gain), &combination], Some(1), order);
        // The standard error of 100 is 0.029, and with 10 that overlap no less.
        assert_eq!([0.02, 0.04].map(|gain| chosen(gain, ALONE)), [Some(1), Some(0)]);
        assert_eq!(chosen(-0.5, ALONE), Some(1), "the combination is the best");
        assert_eq!(choose(&[&alone(0.02), &combination], None, ALONE), Some(0), "nothing to keep");
        assert_eq!(choose(&[], None, ALONE), None);
        // One origin tells nothing.
        assert_eq!(choose(&[&[0.5], &[1.0]], Some(1), ALONE), Some(1));
    }

    #[test]
    fn errors_that_share_samples_count_as_few() {
        let independent = noise(50);
        let repeated: Vec<f64> = independent.iter().flat_map(|e| [*e; 8]).collect();
        let of = |errors: &[f64], origins: usize, overlap: usize| {
            standard_error(errors, ErrorOrder { origins, overlap })
        };
        // Eight copies of each say no more than one; the weights of Newey and West find three quarters of that.
        let ratio = of(&repeated, 400, 8) / of(&independent, 50, 1);
        assert!((0.7..1.05).contains(&ratio), "{ratio}");
        assert!(of(&repeated, 400, 1) < 0.4 * of(&independent, 50, 1));
        // Neighbours of different series share nothing.
        assert_eq!(of(&repeated, 1, 8), of(&repeated, 400, 1));
        let plain = (independent.iter().map(|e| e * e).sum::<f64>() / 49.0 / 50.0).sqrt();
        assert!((of(&independent, 50, 1) / plain - 1.0).abs() < 0.01);
    }
}
