//! The least time that a run can take on a device with given rates.

use super::rates::Rates;
use crate::describe::{Mode, flop};
use gatefold::NetworkConfig;
use gatefold::layers::{Layer, LayerKind, Recurrent};
use gatefold_check::Workload;
use serde_json::{Value, json};

/// Elements that Adam moves for each parameter: it reads the gradient, and reads and writes the parameter and its two
/// moments.
const UPDATED: u128 = 7;

/// The work of a run that no implementation of the same plan can avoid.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Work {
    /// FLOP of the products.
    pub(super) flop: u128,
    /// Bytes that go through memory if every tensor is read or written once for each pass over it.
    pub(super) bytes: u128,
    /// Dispatches, each after the one before; 0 on the CPU.
    pub(super) launches: usize,
}

impl Work {
    pub(super) fn of(workload: &Workload, mode: Mode, launches: usize) -> Work {
        let bytes = 4 * elements(&workload.config, workload.row_steps(), mode);
        Work { flop: operations(workload, mode), bytes, launches }
    }
}

/// A run's least time, by cause.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Floor {
    arithmetic_ms: f64,
    copy_ms: f64,
    launch_ms: f64,
}

impl Floor {
    pub(super) fn of(work: Work, rates: &Rates) -> Floor {
        Floor {
            arithmetic_ms: 1e3 * work.flop as f64 / rates.flop_per_s,
            copy_ms: 1e3 * work.bytes as f64 / rates.bytes_per_s,
            launch_ms: 1e3 * work.launches as f64 * rates.launch_s,
        }
    }

    /// Arithmetic and copies can overlap; dispatches that wait for one another cannot.
    pub(super) fn ms(&self) -> f64 {
        self.arithmetic_ms.max(self.copy_ms) + self.launch_ms
    }

    pub(super) fn json(&self, median_ms: f64) -> Value {
        json!({
            "ms": self.ms(),
            "share": self.ms() / median_ms,
            "arithmetic_ms": self.arithmetic_ms,
            "copy_ms": self.copy_ms,
            "launch_ms": self.launch_ms,
        })
    }
}

/// The FLOP of a run's products, counting only steps within the rows' lengths.
pub(super) fn operations(workload: &Workload, mode: Mode) -> u128 {
    let layers = workload.config.layers();
    let forward: u128 = layers.iter().map(|layer| flop::forward_step(layer, 1)).sum();
    let step = match mode {
        Mode::Infer => forward,
        Mode::Train => 3 * forward - flop::input_gradient_step(&layers[0], 1),
    };
    step * workload.row_steps() as u128
}

/// Elements that go through memory in a run over `row_steps` steps of all rows together (B T), with sums over the
/// inputs computed for all steps at once.
fn elements(config: &NetworkConfig, row_steps: usize, mode: Mode) -> u128 {
    let rows = row_steps as u128;
    let of_layer = |layer: &Layer| match (&layer.kind, mode) {
        (LayerKind::Recurrent(recurrent), _) => recurrent_elements(recurrent, layer, rows, mode),
        (LayerKind::Dense { .. }, Mode::Infer) => rows * sides(layer) + weights(layer),
        // Backward reads d_y for each of its two products, x for one, and writes d_x.
        (LayerKind::Dense { .. }, Mode::Train) => 3 * (rows * sides(layer) + weights(layer)),
        _ => 0,
    };
    let passes: u128 = config.layers().iter().map(of_layer).sum();
    let parameters: usize = config.parameter_specs().map(|spec| spec.len()).sum();
    passes + if mode == Mode::Train { UPDATED * parameters as u128 } else { 0 }
}

/// Values that a row of a dense layer reads and writes.
fn sides(layer: &Layer) -> u128 {
    (layer.input + layer.output) as u128
}

fn weights(layer: &Layer) -> u128 {
    (layer.input * layer.output) as u128
}

/// With `B T` rows, `G` gates, `S` states beside h and `R` values of h, in every direction:
///
/// - forward: x and the weights once; the gates' sums over the inputs written and read again; h written, and for
///   training the gates and states too
/// - backward in the loop: gates read and their gradients written; `d_h` and c read
/// - backward over all steps: the gates' gradients read for dW and dU, and for dx but in the first layer; x, h and
///   the weights read; dx and the gradients of the weights written
fn recurrent_elements(recurrent: &Recurrent, layer: &Layer, rows: u128, mode: Mode) -> u128 {
    let gates = flop::computed_gates(&recurrent.cell) as u128;
    let states = u128::from(recurrent.cell.has_state());
    let (input, hidden, width) =
        (layer.input as u128, recurrent.hidden as u128, recurrent.recurrent_width() as u128);
    let weights = gates * hidden * (input + width);
    let forward = rows * (input + 2 * gates * hidden + width) + weights;
    let scan = match mode {
        Mode::Infer => forward,
        Mode::Train => {
            let saved = rows * hidden * (gates + states);
            let in_the_loop = rows * (2 * gates * hidden + width + states * hidden);
            let d_x = if layer.index == 0 { 0 } else { rows * (gates * hidden + input) };
            let over_all = rows * (2 * gates * hidden + input + width) + d_x + 2 * weights;
            forward + saved + in_the_loop + over_all
        }
    };
    recurrent.direction.scans().len() as u128 * scan
}

#[cfg(test)]
mod tests {
    use super::*;
    use gatefold::layers::{GruConfig, LayerConfig, LstmConfig};

    /// Seven rows of eleven steps, three inputs.
    fn workload(stack: Vec<LayerConfig>) -> Workload {
        Workload::new((7, 11, 3), stack).expect("a valid network")
    }

    #[test]
    fn operations_are_those_of_the_products_that_run() {
        let workload = workload(vec![LstmConfig::new(5).into(); 2]);
        // Two layers of four gates, then the dense layer; everything for 7 rows of 11 steps, 2 operations a term.
        let (first, second, dense) = (4 * 5 * (3 + 5), 4 * 5 * (5 + 5), 5);
        let forward = 2 * 7 * 11 * (first + second + dense);
        assert_eq!(operations(&workload, Mode::Infer), forward);
        let unneeded = 2 * 7 * 11 * (4 * 5 * 3);
        assert_eq!(operations(&workload, Mode::Train), 3 * forward - unneeded);
        // Lengths 11, 10, 8, 7, 5, 4 and 2.
        assert_eq!(operations(&workload.with_falling_lengths(), Mode::Infer), forward / 77 * 47);
    }

    /// By hand, as docs/benchmarks.md has the formulas.
    #[test]
    fn bytes_are_those_of_every_tensor_in_every_pass() {
        let (rows, input, hidden) = (77, 3, 5);
        let elements = |stack: Vec<LayerConfig>, mode| {
            let work = Work::of(&workload(stack), mode, 0);
            assert_eq!(work.bytes % 4, 0);
            work.bytes / 4
        };
        let dense = rows * (hidden + 1) + hidden;
        let lstm: LayerConfig = LstmConfig::new(5).into();
        let infer = rows * input + 4 * hidden * (input + hidden) + 9 * rows * hidden;
        assert_eq!(elements(vec![lstm.clone()], Mode::Infer), infer + dense);
        // B T I + 4 H (I + H) + 14 B T H, then 10 B T H, 8 B T H, B T I, B T H and 8 H (I + H).
        let train = rows * input
            + 4 * hidden * (input + hidden)
            + (14 + 10 + 8 + 1) * rows * hidden
            + rows * input
            + 8 * hidden * (input + hidden);
        let parameters = 4 * hidden * (input + hidden) + 2 * 4 * hidden + hidden + 1;
        assert_eq!(elements(vec![lstm.clone()], Mode::Train), train + 3 * dense + 7 * parameters);
        // The second layer has five inputs and a gradient with respect to them: 4 B T H and B T I more.
        let second = 2 * rows * 5
            + 12 * hidden * (5 + hidden)
            + (14 + 10 + 8 + 1) * rows * hidden
            + rows * (4 * hidden + 5);
        let more = 4 * hidden * (5 + hidden) + 2 * 4 * hidden;
        let both = train + second + 3 * dense + 7 * (parameters + more);
        assert_eq!(elements(vec![lstm; 2], Mode::Train), both);
        // Three gates and no state beside h.
        let gru = rows * input + 3 * hidden * (input + hidden) + 7 * rows * hidden;
        assert_eq!(elements(vec![GruConfig::new(5).into()], Mode::Infer), gru + dense);
    }

    #[test]
    fn a_floor_is_the_slower_of_two_and_the_launches() {
        let rates = Rates { flop_per_s: 1e9, bytes_per_s: 1e8, launch_s: 1e-5 };
        let floor = |flop, bytes, launches| Floor::of(Work { flop, bytes, launches }, &rates);
        assert_eq!(floor(3_000_000, 100_000, 0).ms(), 3.0);
        assert_eq!(floor(3_000_000, 500_000, 0).ms(), 5.0);
        assert_eq!(floor(3_000_000, 500_000, 50).ms(), 5.5);
        let json = floor(3_000_000, 500_000, 50).json(11.0);
        assert_eq!((&json["share"], &json["arithmetic_ms"]), (&0.5.into(), &3.0.into()));
    }
}
