// shared/activations: the functions of gates and dense layers, and their derivatives.
//
// Safe for any finite input on any driver: exp and tanh see only arguments for which neither they nor a fast-math rewrite
// of them overflows. Beyond the bounds the results are constant in f32. NaN stays NaN: clamp and max may turn it into a
// number, and poisoned data would pass as good.
// Mirror: gatefold-reference, activation.
const EXP_BOUND: f32 = 80.0;  // exp(80) is finite; sigmoid(-80) = 2e-35
const TANH_BOUND: f32 = 10.0; // tanh(10) rounds to 1

// y, or x if x is NaN: by its bits, since drivers may assume that there is no NaN.
fn unless_nan(x: f32, y: f32) -> f32 {
    return select(y, x, (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u);
}

fn sigmoid(x: f32) -> f32 {
    return unless_nan(x, 1.0 / (1.0 + exp(-clamp(x, -EXP_BOUND, EXP_BOUND))));
}

fn bounded_tanh(x: f32) -> f32 {
    return unless_nan(x, tanh(clamp(x, -TANH_BOUND, TANH_BOUND)));
}

// exp(-abs(x))
fn decay(x: f32) -> f32 {
    return exp(-min(abs(x), EXP_BOUND));
}

// The order of gatefold_model::Activation.
const IDENTITY: u32 = 0u;
const RELU: u32 = 1u;
const TANH: u32 = 2u;
const SIGMOID: u32 = 3u;
const AFFINE: u32 = 4u;
const LEAKY_RELU: u32 = 5u;
const THRESHOLDED_RELU: u32 = 6u;
const SCALED_TANH: u32 = 7u;
const HARD_SIGMOID: u32 = 8u;
const ELU: u32 = 9u;
const SOFTSIGN: u32 = 10u;
const SOFTPLUS: u32 = 11u;

fn activate(function: u32, alpha: f32, beta: f32, x: f32) -> f32 {
    switch function {
        case RELU: { return unless_nan(x, max(x, 0.0)); }
        case TANH: { return bounded_tanh(x); }
        case SIGMOID: { return sigmoid(x); }
        case AFFINE: { return alpha * x + beta; }
        case LEAKY_RELU: { return x * select(1.0, alpha, x < 0.0); }
        case THRESHOLDED_RELU: { return unless_nan(x, select(0.0, x, x > alpha)); }
        case SCALED_TANH: { return alpha * bounded_tanh(beta * x); }
        case HARD_SIGMOID: { return unless_nan(x, clamp(alpha * x + beta, 0.0, 1.0)); }
        case ELU: { return unless_nan(x, select(x, alpha * (decay(x) - 1.0), x < 0.0)); }
        case SOFTSIGN: { return x / (1.0 + abs(x)); }
        case SOFTPLUS: { return unless_nan(x, max(x, 0.0) + log(1.0 + decay(x))); }
        default: { return x; }
    }
}

// dy/dx from y = activate(x); x itself matters only where the slope does not follow from y.
fn activation_slope(function: u32, alpha: f32, beta: f32, x: f32, y: f32) -> f32 {
    switch function {
        case RELU: { return select(1.0, 0.0, y <= 0.0); }
        case TANH: { return 1.0 - y * y; }
        case SIGMOID: { return y * (1.0 - y); }
        case AFFINE: { return alpha; }
        case LEAKY_RELU: { return select(1.0, alpha, select(y, x, alpha < 0.0) <= 0.0); }
        case THRESHOLDED_RELU: { return select(select(0.0, 1.0, x > alpha), select(1.0, 0.0, y == 0.0), alpha >= 0.0); }
        case SCALED_TANH: {
            if alpha == 0.0 {
                return 0.0;
            }
            return beta * (alpha - y * y / alpha);
        }
        case HARD_SIGMOID: { return select(alpha, 0.0, y <= 0.0 || y >= 1.0); }
        case ELU: { return select(1.0, y + alpha, select(y, x, alpha < 0.0) <= 0.0); }
        case SOFTSIGN: { return (1.0 - abs(y)) * (1.0 - abs(y)); }
        case SOFTPLUS: { return 1.0 - decay(y); }
        default: { return 1.0; }
    }
}
