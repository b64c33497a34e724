//! Cells defined outside of the crates: JANET with and without faults, and three cells that the engine has too.

use gatefold::custom::{CellDefinition, CustomGate, Real, UnitGradient, UnitStep, sigmoid};

/// The WGSL of JANET with these terms in place of its own.
macro_rules! janet {
    ($kept:literal, $d_f:literal) => {
        concat!(
            "
fn custom_forward(pre: vec4<f32>, prev: f32) -> CustomStep {
    let f = sigmoid(pre[0]);
    let g = sigmoid(pre[0] - CUSTOM_BETA);
    let n = bounded_tanh(pre[1]);
    return CustomStep(vec4(f, g, n, 0.0), ",
            $kept,
            " + (1.0 - g) * n, 0.0);
}

const CUSTOM_BETA = 1.0; // of the paper
fn custom_backward(saved: vec4<f32>, prev: f32, state: f32, d_h: f32, d_state: f32) -> CustomGradient {
    let f = saved[0];
    let g = saved[1];
    let n = saved[2];
    let d_f = ",
            $d_f,
            " - n * g * (1.0 - g);
    return CustomGradient(vec4(d_h * d_f, d_h * (1.0 - g) * (1.0 - n * n), 9.0, 9.0), d_h * f);
}
"
        )
    };
}

/// JANET (van der Westhuizen and Lasenby 2018): right if FAULT is 0, else with one planted fault.
pub(super) struct Janet<const FAULT: usize>;

pub(super) const FORWARD_FAULT: usize = 1;
pub(super) const BACKWARD_FAULT: usize = 2;
pub(super) const TWIN_FAULT: usize = 3;

impl<const FAULT: usize> CellDefinition for Janet<FAULT> {
    const NAME: &'static str = ["janet", "janet_forward", "janet_backward", "janet_twin"][FAULT];
    const GATES: &'static [CustomGate] = &[CustomGate::summed("forget").bias(1.0), CustomGate::summed("new")];
    const WGSL: &'static str = match FAULT {
        FORWARD_FAULT => janet!("0.999 * f * prev", "prev * f * (1.0 - f)"),
        BACKWARD_FAULT => janet!("f * prev", "f * (1.0 - f)"),
        _ => janet!("f * prev", "prev * f * (1.0 - f)"),
    };

    fn forward<R: Real>(pre: [R; 4], prev: R) -> UnitStep<R> {
        let (f, g, n) = (sigmoid(pre[0]), sigmoid(pre[0] - R::ONE), pre[1].tanh());
        UnitStep { saved: [f, g, n, R::ZERO], h: f * prev + (R::ONE - g) * n, state: R::ZERO }
    }

    fn backward<R: Real>(saved: [R; 4], prev: R, _: R, d_h: R, _: R) -> UnitGradient<R> {
        let [f, g, n, _] = saved;
        let d_f = prev * f * (R::ONE - f) - n * g * (R::ONE - g);
        let slope = if FAULT == TWIN_FAULT { R::ONE - n } else { R::ONE - n * n };
        // The last two lanes are not this cell's, and are ignored.
        UnitGradient { pre: [d_h * d_f, d_h * (R::ONE - g) * slope, R::ONE, R::ONE], prev: d_h * f }
    }
}

/// The engine's LSTM again: four summed gates and a state.
pub(crate) struct OwnLstm;

impl CellDefinition for OwnLstm {
    const NAME: &'static str = "own_lstm";
    const GATES: &'static [CustomGate] = &[
        CustomGate::summed("input"),
        CustomGate::summed("forget").bias(1.0),
        CustomGate::summed("cell"),
        CustomGate::summed("output"),
    ];
    const HAS_STATE: bool = true;
    const WGSL: &'static str = "
fn custom_forward(pre: vec4<f32>, prev: f32) -> CustomStep {
    let gates = vec4(sigmoid(pre.x), sigmoid(pre.y), bounded_tanh(pre.z), sigmoid(pre.w));
    let c = gates.y * prev + gates.x * gates.z;
    return CustomStep(gates, gates.w * bounded_tanh(c), c);
}

fn custom_slope(y: f32) -> f32 {
    return y * (1.0 - y);
}

fn custom_backward(saved: vec4<f32>, prev: f32, state: f32, d_h: f32, d_state: f32) -> CustomGradient {
    let shown = bounded_tanh(state);
    let d_c = d_state + d_h * saved.w * (1.0 - shown * shown);
    let d_i = d_c * saved.z * custom_slope(saved.x);
    let d_f = d_c * prev * custom_slope(saved.y);
    let d_g = d_c * saved.x * (1.0 - saved.z * saved.z);
    return CustomGradient(vec4(d_i, d_f, d_g, d_h * shown * custom_slope(saved.w)), d_c * saved.y);
}
";

    fn forward<R: Real>(pre: [R; 4], prev: R) -> UnitStep<R> {
        let [i, f, g, o] = [sigmoid(pre[0]), sigmoid(pre[1]), pre[2].tanh(), sigmoid(pre[3])];
        let c = f * prev + i * g;
        UnitStep { saved: [i, f, g, o], h: o * c.tanh(), state: c }
    }

    fn backward<R: Real>(saved: [R; 4], prev: R, state: R, d_h: R, d_state: R) -> UnitGradient<R> {
        let [i, f, g, o] = saved;
        let (slope, shown) = (|y: R| y * (R::ONE - y), state.tanh());
        let d_c = d_state + d_h * o * (R::ONE - shown * shown);
        let d_g = d_c * i * (R::ONE - g * g);
        let pre = [d_c * g * slope(i), d_c * prev * slope(f), d_g, d_h * shown * slope(o)];
        UnitGradient { pre, prev: d_c * f }
    }
}

/// The engine's GRU again: two summed gates and a split one.
pub(super) struct OwnGru;

impl CellDefinition for OwnGru {
    const NAME: &'static str = "own_gru";
    const GATES: &'static [CustomGate] =
        &[CustomGate::summed("reset"), CustomGate::summed("update"), CustomGate::split("new")];
    const WGSL: &'static str = "
fn custom_forward(pre: vec4<f32>, prev: f32) -> CustomStep {
    let r = sigmoid(pre.x);
    let z = sigmoid(pre.y);
    let n = bounded_tanh(pre.z + r * pre.w);
    return CustomStep(vec4(r, z, n, pre.w), (1.0 - z) * n + z * prev, 0.0);
}

fn custom_backward(saved: vec4<f32>, prev: f32, state: f32, d_h: f32, d_state: f32) -> CustomGradient {
    let d_n = d_h * (1.0 - saved.y) * (1.0 - saved.z * saved.z);
    let d_z = d_h * (prev - saved.z) * saved.y * (1.0 - saved.y);
    let d_r = d_n * saved.w * saved.x * (1.0 - saved.x);
    return CustomGradient(vec4(d_r, d_z, d_n, d_n * saved.x), d_h * saved.y);
}
";

    fn forward<R: Real>(pre: [R; 4], prev: R) -> UnitStep<R> {
        let (r, z) = (sigmoid(pre[0]), sigmoid(pre[1]));
        let n = (pre[2] + r * pre[3]).tanh();
        UnitStep { saved: [r, z, n, pre[3]], h: (R::ONE - z) * n + z * prev, state: R::ZERO }
    }

    fn backward<R: Real>(saved: [R; 4], prev: R, _: R, d_h: R, _: R) -> UnitGradient<R> {
        let [r, z, n, b_n] = saved;
        let d_n = d_h * (R::ONE - z) * (R::ONE - n * n);
        let d_z = d_h * (prev - n) * z * (R::ONE - z);
        UnitGradient { pre: [d_n * b_n * r * (R::ONE - r), d_z, d_n, d_n * r], prev: d_h * z }
    }
}

/// A cell of one split gate and nothing else, whose unit multiplies its two parts, and has a state that it also shows. A loop
/// and an index keep the checks of wgpu on.
pub(super) struct Product;

impl CellDefinition for Product {
    const NAME: &'static str = "product";
    const GATES: &'static [CustomGate] = &[CustomGate::split("both")];
    const HAS_STATE: bool = true;
    const WGSL: &'static str = "
fn custom_forward(pre: vec4<f32>, prev: f32) -> CustomStep {
    var product = 1.0;
    for (var lane = 0u; lane < 2u; lane++) {
        product *= bounded_tanh(pre[lane]);
    }
    let state = 0.5 * prev + product;
    return CustomStep(vec4(bounded_tanh(pre.x), bounded_tanh(pre.y), 0.0, 0.0), state, state);
}

fn custom_backward(saved: vec4<f32>, prev: f32, state: f32, d_h: f32, d_state: f32) -> CustomGradient {
    let d = (d_h + d_state) * saved.yx * (1.0 - saved.xy * saved.xy);
    return CustomGradient(vec4(d, 0.0, 0.0), 0.5 * (d_h + d_state));
}
";

    fn forward<R: Real>(pre: [R; 4], prev: R) -> UnitStep<R> {
        let (x, r) = (pre[0].tanh(), pre[1].tanh());
        let state = R::from_f64(0.5) * prev + x * r;
        UnitStep { saved: [x, r, R::ZERO, R::ZERO], h: state, state }
    }

    fn backward<R: Real>(saved: [R; 4], _: R, _: R, d_h: R, d_state: R) -> UnitGradient<R> {
        let ([x, r, ..], d) = (saved, d_h + d_state);
        let pre = [d * r * (R::ONE - x * x), d * x * (R::ONE - r * r), R::ZERO, R::ZERO];
        UnitGradient { pre, prev: R::from_f64(0.5) * d }
    }
}
