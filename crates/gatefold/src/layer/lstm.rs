//! The LSTM: one product for the inputs of all steps, one fused dispatch a step, products over all steps for the gradients.

use super::{Purpose, Sequence};
use crate::Error;
use crate::gpu::Target;
use crate::parameters::ParameterSpans;
use crate::plan::{MAX_GROUPS, Plan, Span};
use crate::product::{self, Matrix, Order};
use gatefold_model::{Activation, Layer, LstmGate, Role};
use gatefold_shaders::{Cell, Columns, KernelId, KernelVariant, TILE_WG_SIZE, params};

const GATES: usize = LstmGate::COUNT;

/// T, B, I and H.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LstmShape {
    pub(crate) steps: usize,
    pub(crate) batch: usize,
    pub(crate) input: usize,
    pub(crate) hidden: usize,
}

impl LstmShape {
    /// Elements of h, or of c, at one step.
    pub(crate) fn step_len(&self) -> usize {
        self.batch * self.hidden
    }
}

/// The weights in the order in which the kernels read them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Packed {
    /// `[I, H]` of gates.
    pub(crate) w: Span,
    /// `[H, H]` of gates, from the unit that sends to the unit that receives.
    pub(crate) u: Span,
    /// `[H]` of gates, both biases together.
    pub(crate) bias: Span,
    /// `[H, gates, I]`, and `[H, H]` of gates from the unit whose gradient it is to the units it came from; training alone.
    pub(crate) transposed: Option<(Span, Span)>,
}

impl Packed {
    /// Names them after the layer that owns the weights; they live outside the plan.
    pub(crate) fn declare(plan: &mut Plan, owner: usize, shape: &LstmShape, purpose: Purpose) -> Packed {
        let LstmShape { input, hidden, .. } = *shape;
        let mut given = |name: &str, len: usize| plan.given(format!("packed{owner}.{name}"), len);
        Packed {
            w: given("w", input * hidden * GATES),
            u: given("u", hidden * hidden * GATES),
            bias: given("bias", hidden * GATES),
            transposed: (purpose == Purpose::Training)
                .then(|| (given("wt", input * hidden * GATES), given("ut", hidden * hidden * GATES))),
        }
    }
}

/// Fills [`Packed`] from the parameters.
pub(crate) fn pack(
    plan: &mut Plan,
    layer: &Layer,
    hidden: usize,
    parameters: &ParameterSpans<'_>,
    purpose: Purpose,
) {
    let input = layer.input;
    let shape = LstmShape { steps: 1, batch: 1, input, hidden };
    let packed = Packed::declare(plan, layer.owner, &shape, purpose);
    let [w, u, b_ih, b_hh] = [Role::InputWeight, Role::RecurrentWeight, Role::InputBias, Role::RecurrentBias]
        .map(|role| parameters.values(plan, layer, role));
    product::pack(plan, w, None, Order::columns_units_gates(GATES, hidden, input), packed.w);
    product::pack(plan, u, None, Order::columns_units_gates(GATES, hidden, hidden), packed.u);
    product::pack(plan, b_ih, Some(b_hh), Order::columns_units_gates(GATES, hidden, 1), packed.bias);
    if let Some((wt, ut)) = packed.transposed {
        product::pack(plan, w, None, Order::units_gates_columns(GATES, hidden, input), wt);
        product::pack(plan, u, None, Order::units_columns_gates(GATES, hidden, hidden), ut);
    }
}

/// What forward leaves: everything that backward needs, or the outputs alone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tape {
    pub(crate) shape: LstmShape,
    pub(crate) x: Sequence,
    /// `[T, B, H]` of gates: the activated gates, after backward the gradient of the pre-activations.
    pub(crate) gates: Span,
    /// `[T+1, B, H]`; in inference `[1, B, H]`, the last alone.
    pub(crate) state: Span,
    /// `[T+1, B, H]`, the initial h in slot 0.
    pub(crate) h: Span,
}

impl Tape {
    /// h without the initial one.
    pub(crate) fn output(&self) -> Sequence {
        let LstmShape { steps, batch, hidden, .. } = self.shape;
        let span = self.h.part(self.shape.step_len(), steps * batch * hidden);
        Sequence { span, steps, batch, width: hidden }
    }

    /// h of the step before each step.
    fn h_before(&self) -> Matrix {
        let LstmShape { steps, batch, hidden, .. } = self.shape;
        Matrix::new(self.h.part(0, steps * batch * hidden), steps * batch, hidden)
    }

    fn d_pre(&self) -> Matrix {
        let LstmShape { steps, batch, hidden, .. } = self.shape;
        Matrix::new(self.gates, steps * batch, hidden * GATES)
    }

    pub(crate) fn declare(
        plan: &mut Plan,
        label: &str,
        shape: &LstmShape,
        x: Sequence,
        purpose: Purpose,
    ) -> Tape {
        let step_len = shape.step_len();
        let state_slots = if purpose == Purpose::Training { shape.steps + 1 } else { 1 };
        Tape {
            shape: *shape,
            x,
            gates: plan.scratch(format!("{label}.gates"), shape.steps * step_len * GATES),
            state: plan.scratch(format!("{label}.state"), state_slots * step_len),
            h: plan.scratch(format!("{label}.h"), (shape.steps + 1) * step_len),
        }
    }
}

/// The input product of all steps, then step after step; the initial h and state are in slot 0. The state has a slot
/// for every step where it keeps them, else one.
pub(crate) fn steps_forward(
    plan: &mut Plan,
    target: &Target,
    label: &str,
    packed: &Packed,
    tape: &Tape,
    purpose: Purpose,
    keeps_states: bool,
) -> Result<(), Error> {
    input_product(plan, target, label, packed, tape)?;
    for t in 0..tape.shape.steps {
        let state = if keeps_states { (t, t + 1) } else { (0, 0) };
        step(plan, target, label, packed, tape, purpose, Slots { t, h: (t, t + 1), state })?;
    }
    Ok(())
}

/// A step of a stream: h goes from one of two slots to the other, the state stays where it is.
pub(crate) fn one_step(
    plan: &mut Plan,
    target: &Target,
    label: &str,
    packed: &Packed,
    tape: &Tape,
    from: usize,
) -> Result<(), Error> {
    input_product(plan, target, label, packed, tape)?;
    let slots = Slots { t: 0, h: (from, 1 - from), state: (0, 0) };
    step(plan, target, label, packed, tape, Purpose::Inference, slots)
}

fn input_product(
    plan: &mut Plan,
    target: &Target,
    label: &str,
    packed: &Packed,
    tape: &Tape,
) -> Result<(), Error> {
    let LstmShape { input, hidden, .. } = tape.shape;
    let w = Matrix::new(packed.w, input, hidden * GATES);
    let what = format!("{label}.x");
    let product = (tape.x.matrix(), w);
    product::matmul(plan, target, &what, product, Some(packed.bias), Activation::Identity, tape.gates)
}

/// Which slots a step reads and writes.
struct Slots {
    t: usize,
    h: (usize, usize),
    state: (usize, usize),
}

fn step(
    plan: &mut Plan,
    target: &Target,
    label: &str,
    packed: &Packed,
    tape: &Tape,
    purpose: Purpose,
    slots: Slots,
) -> Result<(), Error> {
    let LstmShape { batch, hidden, .. } = tape.shape;
    let (kernel, groups) = scan_kernel(target, label, KernelId::StepForward, &tape.shape, purpose)?;
    let params = params::StepForward {
        t: slots.t as u32,
        batch: batch as u32,
        hidden: hidden as u32,
        h_from: slots.h.0 as u32,
        h_to: slots.h.1 as u32,
        state_from: slots.state.0 as u32,
        state_to: slots.state.1 as u32,
        ..params::StepForward::default()
    };
    plan.dispatch(kernel, params, &[packed.u, tape.gates, tape.state, tape.h], groups)
        .note(format!("t={}", slots.t))
        .flops(2 * batch * hidden * hidden * GATES);
    Ok(())
}

/// The gradients that travel against time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Carried {
    /// `[B, H]`, of the final h.
    pub(crate) d_h: Span,
    /// `[B, H]`, of the final c; after backward, of the initial one.
    pub(crate) d_state: Span,
}

impl Carried {
    /// Nothing comes from behind the last step.
    pub(crate) fn zeros(plan: &mut Plan, label: &str, shape: &LstmShape) -> Carried {
        let d_h = plan.scratch(format!("{label}.d_h"), shape.step_len());
        let d_state = plan.scratch(format!("{label}.d_state"), shape.step_len());
        plan.clear(d_h);
        plan.clear(d_state);
        Carried { d_h, d_state }
    }
}

/// Step after step back; leaves the gradient of the pre-activations in the tape's gates.
pub(crate) fn backward(
    plan: &mut Plan,
    target: &Target,
    label: &str,
    packed: &Packed,
    tape: &Tape,
    d_out: Sequence,
    carried: &Carried,
) -> Result<(), Error> {
    let LstmShape { steps, batch, hidden, .. } = tape.shape;
    let (_, ut) = packed.transposed.expect("a plan for training packs both directions");
    let (kernel, groups) =
        scan_kernel(target, label, KernelId::StepBackward, &tape.shape, Purpose::Training)?;
    for t in (0..steps).rev() {
        let params = params::StepBackward {
            t: t as u32,
            steps: steps as u32,
            batch: batch as u32,
            hidden: hidden as u32,
        };
        let bindings = [ut, tape.state, tape.h, d_out.span, carried.d_h, tape.gates, carried.d_state];
        plan.dispatch(kernel.clone(), params, &bindings, groups)
            .note(format!("t={t}"))
            .flops(2 * batch * hidden * hidden * GATES);
    }
    Ok(())
}

/// The gradient of the initial h, after [`backward`].
pub(crate) fn initial_gradient(
    plan: &mut Plan,
    target: &Target,
    label: &str,
    packed: &Packed,
    tape: &Tape,
    d_h: Span,
) -> Result<(), Error> {
    let LstmShape { batch, hidden, .. } = tape.shape;
    let (_, ut) = packed.transposed.expect("a plan for training packs both directions");
    let (kernel, groups) =
        scan_kernel(target, label, KernelId::InitialBackward, &tape.shape, Purpose::Training)?;
    let params = params::InitialBackward { batch: batch as u32, hidden: hidden as u32, ..Default::default() };
    plan.dispatch(kernel, params, &[ut, tape.gates, d_h], groups);
    Ok(())
}

/// dW, dU and db: three products over all steps, after [`backward`].
pub(crate) fn parameter_gradients(
    plan: &mut Plan,
    target: &Target,
    layer: &Layer,
    parameters: &ParameterSpans<'_>,
    tape: &Tape,
) -> Result<(), Error> {
    let LstmShape { input, hidden, .. } = tape.shape;
    let (d_pre, label) = (tape.d_pre(), layer.label());
    let weights = [
        (Role::InputWeight, tape.x.matrix(), input, "w_ih"),
        (Role::RecurrentWeight, tape.h_before(), hidden, "w_hh"),
    ];
    for (role, from, columns, name) in weights {
        if let Some(d) = parameters.gradient(plan, layer, role) {
            let order = Order::columns_units_gates(GATES, hidden, columns);
            let what = format!("{label}.{name}");
            product::add_gradient(plan, target, &what, (from.transposed(), d_pre), order, d)?;
        }
    }
    let biases: Vec<Span> = [Role::InputBias, Role::RecurrentBias]
        .into_iter()
        .filter_map(|role| parameters.gradient(plan, layer, role))
        .collect();
    if !biases.is_empty() {
        let order = Order::columns_units_gates(GATES, hidden, 1);
        product::add_column_sums(plan, target, &format!("{label}.bias"), d_pre, order, &biases)?;
    }
    Ok(())
}

/// The gradient of the layer's inputs, after [`backward`].
pub(crate) fn input_gradient(
    plan: &mut Plan,
    target: &Target,
    label: &str,
    packed: &Packed,
    tape: &Tape,
    d_x: Span,
) -> Result<Sequence, Error> {
    let LstmShape { input, hidden, .. } = tape.shape;
    let (wt, _) = packed.transposed.expect("a plan for training packs both directions");
    let product = (tape.d_pre(), Matrix::new(wt, hidden * GATES, input));
    product::matmul(plan, target, &format!("{label}.d_x"), product, None, Activation::Identity, d_x)?;
    Ok(Sequence { span: d_x, ..tape.x })
}

/// The variant of a scan's kernel for this device and shape, and its workgroups.
fn scan_kernel(
    target: &Target,
    label: &str,
    id: KernelId,
    shape: &LstmShape,
    purpose: Purpose,
) -> Result<(KernelVariant, [u32; 3]), Error> {
    let LstmShape { batch, hidden, .. } = *shape;
    let variant = |rows: u32| {
        let mut consts = vec![("WG_SIZE", TILE_WG_SIZE), ("ROWS", rows)];
        if id == KernelId::StepForward {
            consts.push(("SAVE", u32::from(purpose == Purpose::Training)));
        }
        KernelVariant { id, cell: Some(Cell::Lstm), lanes: target.lanes, columns: Columns::F32, consts }
    };
    let mut rows = product::tile_rows(target, batch, hidden, if hidden <= 64 { 8 } else { 16 });
    while rows > 1 && hidden > product::max_inner(target, &variant(rows)) {
        rows /= 2;
    }
    let kernel = variant(rows);
    let longest = product::max_inner(target, &kernel);
    let groups = [hidden.div_ceil(TILE_WG_SIZE as usize), batch.div_ceil(rows as usize), 1];
    if hidden > longest {
        return Err(Error::Device(format!(
            "{label}: {} units are more than this driver can walk in one step, {longest}; use device \"cpu\"",
            hidden
        )));
    }
    if groups.iter().any(|&count| count > MAX_GROUPS as usize) {
        return Err(Error::Device(format!(
            "{label}: a batch of {batch} takes {groups:?} workgroups, the device allows {MAX_GROUPS} an axis; use a \
             smaller batch"
        )));
    }
    Ok((kernel, groups.map(|count| count as u32)))
}
