// shared/activations: the functions of gates and dense layers, and their derivatives by their own outputs.
//
// Safe at any finite input on any driver: exp and tanh see only arguments at which neither they nor a fast-math rewrite
// of them overflows. Beyond the bounds the results are constant in f32. NaN stays NaN: clamp and max may turn it into a
// number, and poisoned data would pass for good.
// Mirror: gatefold-reference, activation.
const SIGMOID_BOUND: f32 = 80.0; // exp(80) is finite; sigmoid(-80) = 2e-35
const TANH_BOUND: f32 = 10.0;    // tanh(10) rounds to 1

// y, or x if that is NaN; by its bits, since drivers may assume that there is none.
fn unless_nan(x: f32, y: f32) -> f32 {
    return select(y, x, (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u);
}

fn sigmoid(x: f32) -> f32 {
    return unless_nan(x, 1.0 / (1.0 + exp(-clamp(x, -SIGMOID_BOUND, SIGMOID_BOUND))));
}

fn bounded_tanh(x: f32) -> f32 {
    return unless_nan(x, tanh(clamp(x, -TANH_BOUND, TANH_BOUND)));
}

// The order of gatefold_model::Activation.
const IDENTITY: u32 = 0u;
const RELU: u32 = 1u;
const TANH: u32 = 2u;
const SIGMOID: u32 = 3u;

fn activate(function: u32, x: f32) -> f32 {
    switch function {
        case RELU: { return unless_nan(x, max(x, 0.0)); }
        case TANH: { return bounded_tanh(x); }
        case SIGMOID: { return sigmoid(x); }
        default: { return x; }
    }
}

// dy/dx from y alone.
fn activation_slope(function: u32, y: f32) -> f32 {
    switch function {
        case RELU: { return select(1.0, 0.0, y <= 0.0); }
        case TANH: { return 1.0 - y * y; }
        case SIGMOID: { return y * (1.0 - y); }
        default: { return 1.0; }
    }
}
