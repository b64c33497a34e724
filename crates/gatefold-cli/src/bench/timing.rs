use std::time::{Duration, Instant};

const WARM_UPS: usize = 2;
const LEAST_RUNS: usize = 7;
const MOST_RUNS: usize = 200;
/// Short runs are repeated until they have taken this long together: the median of seven runs of a millisecond varies.
const LEAST_TIME: Duration = Duration::from_millis(500);

/// The duration of the runs, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Timing {
    pub(super) runs: usize,
    pub(super) min_ms: f64,
    pub(super) first_quartile_ms: f64,
    pub(super) median_ms: f64,
    pub(super) third_quartile_ms: f64,
    pub(super) max_ms: f64,
}

impl Timing {
    /// # Panics
    /// If there is no run.
    fn of(mut runs: Vec<Duration>) -> Timing {
        runs.sort();
        let ms = |at: usize| runs[at].as_secs_f64() * 1e3;
        let last = runs.len() - 1;
        // Interpolates between two runs: the median of four is the mean of the second and the third.
        let quantile = |quarters: usize| {
            let at = last * quarters;
            let (below, above) = (ms(at / 4), ms(at.div_ceil(4)));
            below + (above - below) * (at % 4) as f64 / 4.0
        };
        Timing {
            runs: runs.len(),
            min_ms: ms(0),
            first_quartile_ms: quantile(1),
            median_ms: quantile(2),
            third_quartile_ms: quantile(3),
            max_ms: ms(last),
        }
    }

    /// Half the distance between the quartiles, as a share of the median.
    pub(super) fn spread(&self) -> f64 {
        (self.third_quartile_ms - self.first_quartile_ms) / (2.0 * self.median_ms)
    }
}

/// Times a function that has finished its work when it returns.
pub(super) fn time<E>(mut run: impl FnMut() -> Result<(), E>) -> Result<Timing, E> {
    for _ in 0..WARM_UPS {
        run()?;
    }
    let begin = Instant::now();
    let mut runs = Vec::new();
    while runs.len() < LEAST_RUNS || (runs.len() < MOST_RUNS && begin.elapsed() < LEAST_TIME) {
        let start = Instant::now();
        run()?;
        runs.push(start.elapsed());
    }
    Ok(Timing::of(runs))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_lie_between_the_runs() {
        let timing = |ms: &[u64]| Timing::of(ms.iter().map(|&ms| Duration::from_millis(ms)).collect());
        let found = timing(&[7, 1, 5, 3]);
        assert_eq!((found.min_ms, found.median_ms, found.max_ms, found.runs), (1.0, 4.0, 7.0, 4));
        assert_eq!((found.first_quartile_ms, found.third_quartile_ms), (2.5, 5.5));
        assert_eq!(found.spread(), 3.0 / 8.0);
        let found = timing(&[5, 4, 3, 2, 1]);
        assert_eq!((found.first_quartile_ms, found.median_ms, found.third_quartile_ms), (2.0, 3.0, 4.0));
        assert_eq!(timing(&[2]).spread(), 0.0);
    }

    #[test]
    fn seven_runs_count_and_two_warm_up() {
        let mut runs = 0;
        let slow = || {
            runs += 1;
            std::thread::sleep(LEAST_TIME / 6);
            Ok::<(), ()>(())
        };
        assert_eq!(time(slow).map(|timing| timing.runs), Ok(LEAST_RUNS));
        assert_eq!(runs, LEAST_RUNS + WARM_UPS);
    }

    #[test]
    fn a_run_that_fails_ends_it() {
        assert_eq!(time(|| Err("lost")), Err("lost"));
    }
}
