//! One step forward, one step backward, and what is behind the first step.

use super::lanes;
use crate::compare::Tolerance;
use crate::data::wide;
use crate::networks::{NetworkCase, check_backward};
use crate::selfcheck::Checks;
use crate::{Random, data};
use gatefold::{Activation, Error, Gpu, run_kernel};
use gatefold_model::{LstmActivations, LstmCell, LstmGate};
use gatefold_reference::scan::{self, Recurrence, StepCotangents, StepInput, StepSaved};
use gatefold_shaders::{Cell, Columns, KernelId, KernelVariant, Lanes, NO_STEP, TILE_WG_SIZE, params};
use ndarray::{Array2, Array3, ArrayView2};

const GATES: usize = LstmGate::COUNT;

/// The cell as PyTorch has it.
fn lstm() -> gatefold_model::Cell {
    let activations = LstmActivations::default();
    gatefold_model::Cell::Lstm(LstmCell { activations, peephole: false, coupling: None, squashed: false })
}

/// Its constants.
fn plain_lstm() -> Vec<(&'static str, u32)> {
    let (sigmoid, tanh) = (Activation::Sigmoid.code(), Activation::Tanh.code());
    let mut consts = vec![("UNITS", 0), ("COUPLED", 0), ("SQUASHED", 0), ("CLIP", 0), ("KEEP_PRE", 0)];
    consts.extend([("GATE_FUNCTION", sigmoid), ("GATE_ALPHA", 0), ("GATE_BETA", 0)]);
    consts.extend([("CANDIDATE_FUNCTION", tanh), ("CANDIDATE_ALPHA", 0), ("CANDIDATE_BETA", 0)]);
    consts.extend([("OUTPUT_FUNCTION", tanh), ("OUTPUT_ALPHA", 0), ("OUTPUT_BETA", 0)]);
    consts
}

/// Steps in the buffers of a case; the middle one and the last are run.
const STEPS: usize = 3;

/// A batch and a width that some tile does not divide, and the variant to run it with.
struct Case {
    batch: usize,
    hidden: usize,
    rows: u32,
    lanes: Lanes,
    random: Random,
}

/// Every tile with every way of sharing loads; sizes of 1, primes, and one below and above tiles and workgroups.
fn cases(gpu: &Gpu) -> Vec<Case> {
    let mut found = Vec::new();
    for lanes in lanes(gpu) {
        for rows in [1u32, 2, 4, 8, 16] {
            let tile = rows as usize;
            for (batch, hidden) in [(1, 1), (tile + 1, 31), (2 * tile - 1, 33), (3, 65), (tile, 8)] {
                let random = Random::new(11, found.len() as u64);
                found.push(Case { batch, hidden, rows, lanes, random });
            }
        }
    }
    found
}

impl Case {
    fn step_len(&self) -> usize {
        self.batch * self.hidden
    }

    fn kernel(&self, id: KernelId, consts: &[(&'static str, u32)]) -> KernelVariant {
        let own = [("WG_SIZE", TILE_WG_SIZE), ("ROWS", self.rows), ("SEGMENTS", 1), ("LENGTHS", 0)];
        KernelVariant {
            id,
            cell: Some(Cell::Lstm),
            lanes: self.lanes,
            columns: Columns::F32,
            consts: [&own[..], &plain_lstm(), consts].concat(),
        }
    }

    fn groups(&self) -> [u32; 3] {
        [(self.hidden as u32).div_ceil(TILE_WG_SIZE), (self.batch as u32).div_ceil(self.rows), 1]
    }

    fn describe(&self, more: &str) -> String {
        let Case { batch, hidden, rows, lanes, .. } = self;
        format!("B {batch} H {hidden} rows {rows} {} {more}", format!("{lanes:?}").to_lowercase())
            .trim()
            .into()
    }

    fn values(&mut self, len: usize) -> Vec<f32> {
        self.random.values_for(self.step_len(), len)
    }

    /// Recurrent weights of the size that keeps pre-activations around 1.
    fn weights(&mut self) -> Array2<f32> {
        let bound = 1.7 / (self.hidden as f32).sqrt();
        let mut values = self.values(GATES * self.hidden * self.hidden);
        values.iter_mut().for_each(|value| *value *= bound);
        Array2::from_shape_vec((GATES * self.hidden, self.hidden), values).expect("as many as the shape has")
    }

    /// Activated gates of every step, `[T, B, H]` of gates: i, f and o in 0 to 1, g in -1 to 1.
    fn saved(&mut self) -> Vec<f32> {
        let mut gates = self.values(STEPS * self.step_len() * GATES);
        for (k, value) in gates.iter_mut().enumerate() {
            if k % GATES != LstmGate::Cell as usize {
                *value = 0.5 + 0.49 * *value;
            }
        }
        gates
    }

    fn axes(&self) -> [(&'static str, usize); 2] {
        [("row", self.batch), ("unit", self.hidden)]
    }

    fn matrix(&self, values: &[f32]) -> Array2<f64> {
        data::matrix(values, self.batch, self.hidden)
    }

    /// `[B, H]` of gates as the reference has them, `[B, 4 H]` in blocks.
    fn blocks(&self, gates: &[f32]) -> Array2<f64> {
        Array2::from_shape_fn((self.batch, GATES * self.hidden), |(row, column)| {
            let (gate, unit) = (column / self.hidden, column % self.hidden);
            f64::from(gates[(row * self.hidden + unit) * GATES + gate])
        })
    }

    /// The reverse of [`Case::blocks`].
    fn units(&self, blocks: ArrayView2<f64>) -> Vec<f64> {
        let units = Array3::from_shape_fn((self.batch, self.hidden, GATES), |(row, unit, gate)| {
            blocks[[row, gate * self.hidden + unit]]
        });
        units.into_raw_vec_and_offset().0
    }

    /// Compares one slot of a tensor of slots, and that the others are as they were.
    fn slot(
        &self,
        checks: &mut Checks,
        name: &str,
        found: &[f32],
        before: &[f32],
        (slot, want): (usize, &[f64]),
        tolerance: Tolerance,
    ) {
        let len = want.len();
        let gates = len / self.step_len();
        let axes = [("row", self.batch), ("unit", self.hidden), ("gate", gates)];
        let at = slot * len..(slot + 1) * len;
        checks.tensor(name, if gates == 1 { &axes[..2] } else { &axes }, &found[at.clone()], want, tolerance);
        let mut rest = before.to_vec();
        rest[at.clone()].copy_from_slice(&found[at]);
        let axes = [("slot", before.len() / len), ("element", len)];
        checks.tensor(&format!("{name} elsewhere"), &axes, found, &wide(&rest), Tolerance::EXACT);
    }
}

/// Recurrent weights as `step_forward` reads them: `[sending unit, receiving unit]` of gates.
fn by_sender(w_hh: &Array2<f32>) -> Vec<f32> {
    let hidden = w_hh.ncols();
    let packed =
        Array3::from_shape_fn((hidden, hidden, GATES), |(from, to, gate)| w_hh[[gate * hidden + to, from]]);
    packed.into_raw_vec_and_offset().0
}

/// Recurrent weights as backward reads them: `[receiving unit, sending unit]` of gates.
fn by_receiver(w_hh: &Array2<f32>) -> Vec<f32> {
    let hidden = w_hh.ncols();
    let packed =
        Array3::from_shape_fn((hidden, hidden, GATES), |(to, from, gate)| w_hh[[gate * hidden + to, from]]);
    packed.into_raw_vec_and_offset().0
}

pub(super) fn step_forward(gpu: &Gpu, checks: &mut Checks) -> Result<(), Error> {
    for mut case in cases(gpu) {
        let w_hh = case.weights();
        // A step of training, of inference and of a stream: whether gates are saved, and slots of h and of the state.
        for (save, h_slots, state_slots) in [(1, (1, 2), (1, 2)), (0, (1, 2), (0, 0)), (0, (1, 0), (0, 0))] {
            let (t, len) = (1, case.step_len());
            let gates = case.values(STEPS * len * GATES);
            let (state, h) = (case.values((STEPS + 1) * len), case.values((STEPS + 1) * len));
            let params = params::StepForward {
                t: t as u32,
                batch: case.batch as u32,
                hidden: case.hidden as u32,
                width: case.hidden as u32,
                r_slot: h_slots.0 as u32,
                r_len: case.hidden as u32,
                h_from: h_slots.0 as u32,
                h_to: h_slots.1 as u32,
                state_from: state_slots.0 as u32,
                state_to: state_slots.1 as u32,
                ..Default::default()
            };
            let kernel = case.kernel(KernelId::StepForward, &[("SAVE", save)]);
            let bindings: [&[f32]; 6] = [&by_sender(&w_hh), &[0.0], &[0.0], &gates, &state, &h];
            let found = run_kernel(gpu, &kernel, params, &bindings, case.groups())?;

            let part = |all: &'_ [f32], slot: usize| case.matrix(&all[slot * len..(slot + 1) * len]);
            let want = scan::step_forward(
                &Recurrence::new(lstm(), w_hh.mapv(f64::from).view()),
                &StepInput {
                    pre_x: case.blocks(&gates[t * len * GATES..(t + 1) * len * GATES]).view(),
                    h_prev: part(&h, h_slots.0).view(),
                    c_prev: Some(part(&state, state_slots.0).view()),
                    h_skip: None,
                    y_prev: None,
                    active: None,
                },
            );
            checks.case(case.describe(if save == 1 { "saving" } else { "" }));
            let tolerance = Tolerance::output(case.hidden);
            let flat = |states: &Array2<f64>| states.iter().copied().collect::<Vec<f64>>();
            case.slot(checks, "h", &found[5], &h, (h_slots.1, &flat(&want.h)), tolerance);
            case.slot(
                checks,
                "state",
                &found[4],
                &state,
                (state_slots.1, &flat(want.c.as_ref().expect("an LSTM has a cell state"))),
                tolerance,
            );
            if save == 1 {
                case.slot(checks, "gates", &found[3], &gates, (t, &case.units(want.saved.view())), tolerance);
            } else {
                checks.tensor(
                    "gates",
                    &[("element", gates.len())],
                    &found[3],
                    &wide(&gates),
                    Tolerance::EXACT,
                );
            }
        }
    }
    Ok(())
}

pub(super) fn step_backward(gpu: &Gpu, checks: &mut Checks) -> Result<(), Error> {
    for mut case in cases(gpu) {
        let w_hh = case.weights();
        for t in [1, STEPS - 1] {
            let len = case.step_len();
            let mut gates = case.saved();
            let (state, h) = (case.values((STEPS + 1) * len), case.values((STEPS + 1) * len));
            let (d_out, d_h) = (case.values(STEPS * len), case.values(len));
            let carry = case.values(len);
            let last = t + 1 == STEPS;
            if !last {
                // Behind this step lie gradients already.
                let d_pre = case.values(len * GATES);
                gates[(t + 1) * len * GATES..].copy_from_slice(&d_pre);
            }
            let params = params::StepBackward {
                t: t as u32,
                batch: case.batch as u32,
                hidden: case.hidden as u32,
                width: case.hidden as u32,
                h_from: t as u32,
                state_from: t as u32,
                state_to: t as u32 + 1,
                next: if last { NO_STEP } else { t as u32 + 1 },
                d_stride: case.hidden as u32,
                history: 1,
                steps: STEPS as u32,
                ..Default::default()
            };
            let carried = [carry.as_slice(), &d_h].concat();
            let weights = by_receiver(&w_hh);
            let bindings: [&[f32]; 8] = [&weights, &[0.0], &[0.0], &state, &h, &d_out, &gates, &carried];
            let kernel = case.kernel(KernelId::StepBackward, &[("ENDS", u32::from(last))]);
            let found = run_kernel(gpu, &kernel, params, &bindings, case.groups())?;

            let part = |all: &'_ [f32], slot: usize| case.matrix(&all[slot * len..(slot + 1) * len]);
            let gates_of = |slot: usize| case.blocks(&gates[slot * len * GATES..(slot + 1) * len * GATES]);
            let (mut d_out, mut d_pre_next) =
                (part(&d_out, t), Array2::zeros((case.batch, GATES * case.hidden)));
            if last {
                d_out += &case.matrix(&d_h);
            } else {
                d_pre_next = gates_of(t + 1);
            }
            let want = scan::step_backward(
                &Recurrence::new(lstm(), w_hh.mapv(f64::from).view()),
                &StepSaved {
                    saved: gates_of(t).view(),
                    h_prev: part(&h, t).view(),
                    c_prev: Some(part(&state, t).view()),
                    c: Some(part(&state, t + 1).view()),
                    cell: None,
                    active: None,
                },
                &StepCotangents {
                    d_h: d_out.view(),
                    d_c: Some(case.matrix(&carry).view()),
                    d_y: None,
                    d_pre_next: Some(d_pre_next.view()),
                    d_pre_skip: None,
                },
            );
            checks.case(case.describe(if last { "last step" } else { "" }));
            let tolerance = Tolerance::gradient(GATES * case.hidden);
            case.slot(checks, "d_pre", &found[6], &gates, (t, &case.units(want.d_pre.view())), tolerance);
            let d_c: Vec<f64> = want.d_c_prev.iter().flatten().copied().collect();
            checks.tensor("d_c", &case.axes(), &found[7][..len], &d_c, tolerance);
        }
    }
    Ok(())
}

pub(super) fn initial_backward(gpu: &Gpu, checks: &mut Checks) -> Result<(), Error> {
    for mut case in cases(gpu) {
        let w_hh = case.weights();
        let len = case.step_len();
        let (gates, d_h) = (case.values(STEPS * len * GATES), vec![7.0; len]);
        let params = params::InitialBackward {
            batch: case.batch as u32,
            hidden: case.hidden as u32,
            columns: case.hidden as u32,
            own: case.hidden as u32,
            history: 1,
            steps: STEPS as u32,
            ..Default::default()
        };
        let kernel = case.kernel(KernelId::InitialBackward, &[("ENDS", 0)]);
        let bindings: [&[f32]; 5] = [&by_receiver(&w_hh), &[0.0], &gates, &[0.0], &d_h];
        let found = run_kernel(gpu, &kernel, params, &bindings, case.groups())?;
        let d_pre = case.blocks(&gates[..len * GATES]);
        let want =
            scan::initial_backward(&Recurrence::new(lstm(), w_hh.mapv(f64::from).view()), d_pre.view());
        checks.case(case.describe(""));
        let want: Vec<f64> = want.iter().copied().collect();
        checks.tensor("d_h", &case.axes(), &found[4], &want, Tolerance::product(GATES * case.hidden));
    }
    Ok(())
}

/// Kernels that stand behind readouts, second stages and layers put together from scans: by networks that use them.
pub(super) fn by_networks(gpu: &Gpu, checks: &mut Checks) -> Result<(), Error> {
    let cases: Vec<NetworkCase> =
        NetworkCase::all().into_iter().filter(|case| case.steps < 20 && case.batch < 20).collect();
    checks.append(check_backward(gpu, &cases)?);
    Ok(())
}
