//! Checks, gathered into the table that `gatefold selfcheck` prints.

use crate::compare::{Comparison, Tolerance, compare};
use crate::{
    NetworkCase, SequenceCase, can_run, check_backward, check_forward, check_functions, check_kernel,
    check_sequences, check_tangents,
};
use gatefold::devices::Instructions;
use gatefold::{Device, Error, Gpu};
use gatefold_shaders::KernelId;
use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// One tensor of one case.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The tensor and its case, such as `h: B 3 H 31`.
    pub what: String,
    /// The result of comparing it.
    pub comparison: Comparison,
}

/// `h: B 3 H 31: 3 of 1088 elements out of tolerance; worst at ...`
impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.comparison)
    }
}

/// The comparisons of one kernel, or of one direction of whole networks.
#[derive(Clone, Debug, Default)]
pub struct Checks {
    /// Cases so far.
    pub cases: usize,
    /// Every tensor of every case.
    pub outcomes: Vec<Outcome>,
    case: String,
}

impl Checks {
    /// Begins a case; comparisons from now on belong to it.
    pub(crate) fn case(&mut self, case: String) {
        self.cases += 1;
        self.case = case;
    }

    /// Compares a tensor of the case.
    pub(crate) fn tensor(
        &mut self,
        name: &str,
        axes: &[(&str, usize)],
        gpu: &[f32],
        reference: &[f64],
        tolerance: Tolerance,
    ) {
        let what = format!("{name}: {}", self.case);
        self.outcomes.push(Outcome { what, comparison: compare(axes, gpu, reference, tolerance) });
    }

    /// The tensor with the largest share of its tolerance.
    pub fn worst(&self) -> Option<&Outcome> {
        self.outcomes.iter().max_by(|a, b| a.comparison.share.total_cmp(&b.comparison.share))
    }

    /// Whether something was compared and every element is within tolerance.
    pub fn passed(&self) -> bool {
        !self.outcomes.is_empty() && self.outcomes.iter().all(|outcome| outcome.comparison.passed())
    }

    /// Asserts that the checks passed.
    ///
    /// # Panics
    /// If they did not; names every tensor out of tolerance.
    #[track_caller]
    pub fn assert(&self, name: &str) {
        let failed: Vec<String> = self
            .outcomes
            .iter()
            .filter(|outcome| !outcome.comparison.passed())
            .map(Outcome::to_string)
            .collect();
        assert!(
            self.passed(),
            "{name}: {} of {} tensors:\n{}",
            failed.len(),
            self.outcomes.len(),
            failed.join("\n")
        );
        let worst = self.worst().expect("something was compared");
        println!(
            "{name}: {} cases, worst {:.3} of the tolerance, {}",
            self.cases, worst.comparison.share, worst.what
        );
    }
}

/// A line of the report.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Row {
    /// A kernel's name, or a part of whole networks, such as `networks forward` and `cells`.
    pub name: String,
    /// Cases that were run.
    pub cases: usize,
    /// The worst error as a share of its tolerance; infinite if the device could not run it.
    pub share: f64,
    /// The place of the worst error: the tensor and the case; or the reason why the device could not run it.
    pub place: String,
    /// Whether everything is within tolerance.
    pub passed: bool,
    /// The worst comparison in full, if something is not.
    pub failure: Option<String>,
}

impl Row {
    pub(crate) fn new(name: &str, checks: Result<Checks, Error>) -> Row {
        match checks {
            Ok(checks) => Row {
                name: name.into(),
                cases: checks.cases,
                share: checks.worst().map_or(f64::INFINITY, |worst| worst.comparison.share),
                place: checks.worst().map_or("nothing was compared".into(), |worst| worst.what.clone()),
                passed: checks.passed(),
                failure: checks.worst().filter(|_| !checks.passed()).map(Outcome::to_string),
            },
            Err(error) => {
                let place = error.to_string();
                let failure = Some(place.clone());
                Row { name: name.into(), cases: 0, share: f64::INFINITY, place, passed: false, failure }
            }
        }
    }
}

/// The results of [`selfcheck`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Report {
    /// The device, in one line.
    pub device: String,
    /// A row for every kernel, for activations, for networks in each direction, for every cell, for every kind of layer,
    /// and for signals near zero.
    pub rows: Vec<Row>,
}

impl Report {
    /// Whether every row passed.
    pub fn passed(&self) -> bool {
        !self.rows.is_empty() && self.rows.iter().all(|row| row.passed)
    }
}

/// A table of at most 80 columns.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "device  {}", cut(&self.device, 72))?;
        writeln!(f, "{:<19}  {:>5}  {:>9}  {:<4}  worst at", "kernel", "cases", "error", "")?;
        for Row { name, cases, share, place, passed, .. } in &self.rows {
            let verdict = if *passed { "ok" } else { "FAIL" };
            writeln!(f, "{name:<19}  {cases:>5}  {:>9}  {verdict:<4}  {}", amount(*share), cut(place, 35))?;
        }
        write!(f, "the error is the worst, as a share of its tolerance (docs/numerics.md)")
    }
}

fn amount(share: f64) -> String {
    if share < 1e4 { format!("{share:.3}") } else { format!("{share:.1e}") }
}

fn cut(text: &str, width: usize) -> String {
    let line: String = text.chars().map(|c| if c == '\n' { ' ' } else { c }).collect();
    if line.chars().count() <= width {
        return line;
    }
    let head: String = line.chars().take(width - 3).collect();
    format!("{head}...")
}

/// The bit patterns from one argument of the functions to the next: a prime, so that all exponents are met with different
/// fractions, some 65,000 in all.
const FUNCTION_STRIDE: usize = 65_537;

/// Makes a row of the report.
type Check<D> = fn(&D) -> Result<Checks, Error>;

/// The rows about whole networks on a GPU.
const NETWORKS: [(&str, Check<Gpu>); 3] = [
    ("networks backward", |gpu| check_backward(gpu, &NetworkCase::all())),
    ("networks forward", |gpu| check_forward(gpu, &NetworkCase::all())),
    ("functions", |gpu| check_functions(gpu, FUNCTION_STRIDE)),
];

/// The rows about whole networks on any device.
const SEQUENCES: [(&str, Check<Device>); 4] = [
    ("cells", |device| check_sequences(device, &SequenceCase::cells())),
    ("layers, lengths", |device| check_sequences(device, &SequenceCase::networks())),
    ("tangents", |device| check_tangents(device, &SequenceCase::with_tangents())),
    ("small signals", |device| check_sequences(device, &SequenceCase::small_signals())),
];

/// A row to be made on a GPU.
#[derive(Clone, Copy)]
enum Planned {
    Kernel(KernelId),
    Network(usize),
    Sequence(usize),
}

impl Planned {
    fn all() -> impl Iterator<Item = Planned> {
        // The longest first, so that nobody waits for one that began last.
        let networks = (0..NETWORKS.len()).map(Planned::Network);
        let sequences = (0..SEQUENCES.len()).map(Planned::Sequence);
        sequences.chain(networks).chain(KernelId::ALL.iter().copied().map(Planned::Kernel))
    }

    fn name(self) -> &'static str {
        match self {
            Planned::Kernel(id) => id.name(),
            Planned::Network(n) => NETWORKS[n].0,
            Planned::Sequence(n) => SEQUENCES[n].0,
        }
    }

    fn run(self, gpu: &Gpu) -> Row {
        let checks = match self {
            Planned::Kernel(id) => check_kernel(gpu, id),
            Planned::Network(n) => NETWORKS[n].1(gpu),
            Planned::Sequence(n) => SEQUENCES[n].1(&Device::Gpu(gpu.clone())),
        };
        Row::new(self.name(), checks)
    }
}

/// The names of the rows that [`selfcheck`] can make: of kernels, then of networks.
pub fn selfcheck_rows() -> Vec<&'static str> {
    let kernels = Planned::all().filter(|row| matches!(row, Planned::Kernel(_)));
    let others = Planned::all().filter(|row| !matches!(row, Planned::Kernel(_)));
    kernels.chain(others).map(Planned::name).collect()
}

/// Checks every kernel in its variants, the activations over all of `f32`, networks forward and backward, every cell in
/// every direction, every kind of layer with sequences of many lengths, and signals near zero, against the reference in
/// `f64`: those of [`selfcheck_rows`] that are wanted, without those that the device cannot run.
///
/// `gpus` are one adapter, opened once or several times; those share the checks, each on a thread of its own. A software
/// driver compiles the kernels of an opened adapter on one core.
///
/// # Panics
/// If there is no GPU.
pub fn selfcheck(gpus: &[Gpu], wanted: impl Fn(&str) -> bool) -> Report {
    let mut planned: Vec<Planned> = Planned::all().filter(|row| wanted(row.name())).collect();
    planned.retain(|row| match row {
        // A probe that fails is found by the row itself.
        Planned::Kernel(id) => can_run(&gpus[0], *id).unwrap_or(true),
        _ => true,
    });
    let (next, rows) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for gpu in gpus {
            scope.spawn(|| {
                while let Some(row) = planned.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let row = row.run(gpu);
                    rows.lock().expect("a check that panics ends all").push(row);
                }
            });
        }
    });
    let mut rows = rows.into_inner().expect("no check panicked");
    let names = selfcheck_rows();
    rows.sort_by_key(|row: &Row| names.iter().position(|&name| name == row.name));
    Report { device: gpus[0].summary(), rows }
}

/// Checks the CPU device with each set of vector instructions that this machine has: every cell in every direction,
/// every kind of layer with sequences of many lengths, and signals near zero, as far as they are wanted.
///
/// # Errors
/// Those of [`Device::cpu_with_instructions`].
pub fn selfcheck_cpu(wanted: impl Fn(&str) -> bool) -> Result<Vec<Report>, Error> {
    let planned: Vec<_> = SEQUENCES.iter().filter(|(name, _)| wanted(name)).collect();
    if planned.is_empty() {
        return Ok(Vec::new());
    }
    let check = |instructions| {
        let device = Device::cpu_with_instructions(instructions)?;
        let rows = planned.iter().map(|(name, check)| Row::new(name, check(&device))).collect();
        Ok(Report { device: device.summary(), rows })
    };
    Instructions::available().into_iter().map(check).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checks(gpu: f32) -> Checks {
        let mut checks = Checks::default();
        checks.case("B 1 H 2 rows 16 subgroup, a long description".into());
        checks.tensor("h", &[("unit", 2)], &[0.5, gpu], &[0.5, 0.25], Tolerance::output(2));
        checks
    }

    fn report(checks: Result<Checks, Error>) -> Report {
        Report { device: "some device".into(), rows: vec![Row::new("initial_backward", checks)] }
    }

    #[test]
    fn a_report_passes_only_if_all_passed() {
        assert!(report(Ok(checks(0.25))).passed());
        assert!(!report(Ok(checks(0.26))).passed());
        assert!(!report(Ok(checks(f32::NAN))).passed());
        assert!(!report(Ok(Checks::default())).passed(), "nothing was compared");
        assert!(!report(Err(Error::DeviceLost("gone".into()))).passed());
        assert!(!Report { device: String::new(), rows: Vec::new() }.passed());
    }

    #[test]
    fn the_table_fits_a_terminal() {
        for checks in [Ok(checks(0.25)), Ok(checks(1e30)), Err(Error::DeviceLost("gone\nfor good".repeat(9)))]
        {
            let text = report(checks).to_string();
            assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
            assert_eq!(text.lines().count(), 4, "{text}");
        }
        let text = report(Ok(checks(f32::NAN))).to_string();
        assert!(text.contains("initial_backward         1        inf  FAIL  h: B 1 H 2 rows 16"), "{text}");
    }

    #[test]
    #[should_panic(expected = "h: B 1 H 2 rows 16 subgroup, a long description: 1 of 2 elements out of")]
    fn failed_checks_name_the_case() {
        checks(0.26).assert("step_forward");
    }
}
