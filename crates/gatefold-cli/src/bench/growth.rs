//! How the time grows when one number is doubled, beside how its floor grows.

use super::floor::Floor;
use super::rates::Rates;
use super::{Arguments, Prepared, Shape, digits, name, prepare};
use crate::describe::Mode;
use crate::failure::Failure;
use crate::page::line;
use gatefold::Device;
use gatefold_check::Workload;
use serde_json::json;
use std::time::{Duration, Instant};

/// Rounds in which every shape has its turn: what slows the machine down for a while touches all of them.
const ROUNDS: usize = 9;
/// Groups of rounds that have to agree before a time is said to grow faster than its floor.
const GROUPS: usize = 3;
/// Growth beyond the floor's that is left unmarked: the rates are measured too.
const MARGIN: f64 = 1.05;
/// Of a turn; at least one run.
const TURN: Duration = Duration::from_millis(30);
const MOST_RUNS: usize = 100;

/// A shape with its layers, and the number that tells it from the base.
struct Variant {
    shape: Shape,
    layers: usize,
}

/// The base, then T, H, B and the layers, each doubled and doubled again.
fn variants(base: Shape, layers: usize) -> Vec<Variant> {
    let mut found = vec![Variant { shape: base, layers }];
    let shapes: [fn(Shape, usize) -> Shape; 3] = [
        |shape, times| Shape { steps: times * shape.steps, ..shape },
        |shape, times| Shape { hidden: times * shape.hidden, ..shape },
        |shape, times| Shape { batch: times * shape.batch, ..shape },
    ];
    for changed in shapes {
        found.extend([2, 4].map(|times| Variant { shape: changed(base, times), layers }));
    }
    found.extend([2, 4].map(|times| Variant { shape: base, layers: times * layers }));
    found
}

/// Times every variant of a base and prints a line for each.
///
/// # Errors
/// Those of the runs, and a wrong result.
pub(super) fn run(
    arguments: &Arguments,
    device: &Device,
    rates: &Rates,
    base: Shape,
    modes: &[Mode],
) -> Result<(), Failure> {
    let variants = variants(base, arguments.layers.into());
    let made = |variant: &Variant| arguments.workload(variant.shape, variant.layers);
    let workloads: Vec<Workload> = variants.iter().map(made).collect::<Result<_, _>>()?;
    if !arguments.json {
        line(format!(
            "{:<17}{:<3}{:<6}{:>11}{:>8}{:>8}",
            "B,T,I,H", "L", "mode", "best ms", "ratio", "floor"
        ));
    }
    for &mode in modes {
        let mut prepared = Vec::new();
        for (variant, workload) in variants.iter().zip(&workloads) {
            prepared.push(prepare(device, workload, variant.shape, mode, !arguments.unchecked)?);
        }
        let floors: Vec<f64> = prepared.iter().map(|one| Floor::of(one.work, rates).ms()).collect();
        let rounds = rounds(&mut prepared)?;
        for (at, variant) in variants.iter().enumerate() {
            let grown = Grown::of(&rounds, at, floors[at] / floors[0]);
            line(if arguments.json { grown.json(variant, mode) } else { grown.row(variant, mode) });
        }
    }
    Ok(())
}

/// The shortest run of each variant in each round: other programs only ever make one longer.
fn rounds(prepared: &mut [Prepared<'_>]) -> Result<Vec<Vec<Duration>>, Failure> {
    for one in prepared.iter_mut() {
        (one.run)()?;
    }
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        rounds.push(prepared.iter_mut().map(turn).collect::<Result<Vec<_>, Failure>>()?);
    }
    Ok(rounds)
}

fn turn(prepared: &mut Prepared<'_>) -> Result<Duration, Failure> {
    let (begin, mut shortest, mut runs) = (Instant::now(), Duration::MAX, 0);
    while runs == 0 || (begin.elapsed() < TURN && runs < MOST_RUNS) {
        let start = Instant::now();
        (prepared.run)()?;
        shortest = shortest.min(start.elapsed());
        runs += 1;
    }
    Ok(shortest)
}

/// The shortest run of a variant and its multiple of the base's.
struct Grown {
    ms: f64,
    ratio: f64,
    /// The same for each group of rounds.
    of_groups: Vec<f64>,
    floor_ratio: f64,
}

impl Grown {
    fn of(rounds: &[Vec<Duration>], at: usize, floor_ratio: f64) -> Grown {
        let shortest = |rounds: &[Vec<Duration>], at: usize| {
            rounds.iter().map(|round| round[at]).min().expect("there are rounds").as_secs_f64()
        };
        let ratio = |rounds: &[Vec<Duration>]| shortest(rounds, at) / shortest(rounds, 0);
        Grown {
            ms: 1e3 * shortest(rounds, at),
            ratio: ratio(rounds),
            of_groups: rounds.chunks(rounds.len().div_ceil(GROUPS)).map(ratio).collect(),
            floor_ratio,
        }
    }

    /// Whether the time grows faster than its floor in every group of rounds.
    fn is_faster(&self) -> bool {
        self.of_groups.iter().all(|&ratio| ratio > MARGIN * self.floor_ratio)
    }

    fn row(&self, variant: &Variant, mode: Mode) -> String {
        let mark = if self.is_faster() { " !" } else { "" };
        format!(
            "{:<17}{:<3}{:<6}{:>11}{:>8}{:>8}{mark}",
            variant.shape.to_string(),
            variant.layers,
            name(mode),
            digits(self.ms),
            digits(self.ratio),
            digits(self.floor_ratio)
        )
    }

    fn json(&self, variant: &Variant, mode: Mode) -> String {
        json!({
            "mode": name(mode),
            "shape": variant.shape.numbers(),
            "layers": variant.layers,
            "min_ms": self.ms,
            "ratio": self.ratio,
            "ratio_of_groups": self.of_groups,
            "floor_ratio": self.floor_ratio,
            "grows_faster": self.is_faster(),
        })
        .to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_number_is_doubled_at_a_time() {
        let base = Shape { batch: 3, steps: 5, input: 2, hidden: 7 };
        let found: Vec<_> = variants(base, 2).iter().map(|v| (v.shape.numbers(), v.layers)).collect();
        let doubled = [([3, 10, 2, 7], 2), ([3, 20, 2, 7], 2), ([3, 5, 2, 14], 2), ([3, 5, 2, 28], 2)];
        assert_eq!(found[0], ([3, 5, 2, 7], 2));
        assert_eq!(found[1..5], doubled);
        assert_eq!(found[5..], [([6, 5, 2, 7], 2), ([12, 5, 2, 7], 2), ([3, 5, 2, 7], 4), ([3, 5, 2, 7], 8)]);
    }

    #[test]
    fn all_groups_of_rounds_have_to_agree() {
        let ms = |times: [u64; 2]| times.map(Duration::from_millis).to_vec();
        // Something slows the machine down in the middle.
        let rounds = [[10, 30], [11, 30], [30, 60], [20, 61], [10, 31], [12, 32]].map(ms);
        let grown = Grown::of(&rounds, 1, 2.8);
        assert_eq!((grown.ms, grown.ratio), (30.0, 3.0));
        assert_eq!(grown.of_groups, [3.0, 3.0, 3.1]);
        assert!(grown.is_faster());
        assert!(!Grown { floor_ratio: 3.0, ..grown }.is_faster(), "within the margin");
        let noisy = [[10, 30], [11, 30], [10, 20], [20, 61], [10, 31], [12, 32]].map(ms);
        assert!(!Grown::of(&noisy, 1, 2.8).is_faster(), "the second group does not agree");
    }
}
