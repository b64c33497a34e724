// shared/activations: the functions of gates and dense layers, and their derivatives.
//
// Their errors are relative: a few roundings of the result, however small it is. So they call no exp, log or tanh of the
// driver, whose errors may be absolute or grow with the argument, and take no difference of numbers that may be nearly
// equal. docs/numerics.md derives the coefficients and the bounds.
//
// Safe for any finite input on any driver: no intermediate result overflows, nor does a fast-math rewrite of it. NaN stays
// NaN: min and max may turn it into a number, and poisoned data would pass as good.
// Mirror: gatefold-reference, activation.
const LOWEST_EXPONENT: f32 = -87.33655; // e to this is just below 2^-126, the smallest normal number
const LOG2_E: f32 = 1.4426950;
const LN2_HIGH: f32 = 0.693359375; // 355/512: its products with whole numbers up to 126 are exact
const LN2_LOW: f32 = -2.1219444e-4;
const SOFTSIGN_BOUND: f32 = 1e9; // rounds to 1; drivers need not divide by numbers above 2^126

// y, or x if x is NaN: by its bits, since drivers may assume that there is no NaN.
fn unless_nan(x: f32, y: f32) -> f32 {
    return select(y, x, (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u);
}

// e^x = power (1 + above_one), for x of at most 0. above_one is exact to a few roundings, and near 0 power is 1.
struct Exponential { power: f32, above_one: f32 }

fn exponential(x: f32) -> Exponential {
    let bounded = max(x, LOWEST_EXPONENT);
    let k = round(bounded * LOG2_E);
    let r = (bounded - k * LN2_HIGH) - k * LN2_LOW;
    let series = 0.49999997 + r * (0.16666543 + r * (0.0416672 + r * (0.0083665205 + r * 0.0013882521)));
    return Exponential(bitcast<f32>(u32(i32(k) + 127) << 23u), r + r * r * series);
}

// e^x for x of at most 0. Below 2^-126 it is between 0 and 2^-126.
fn decay(x: f32) -> f32 {
    let e = exponential(x);
    return e.power + e.power * e.above_one;
}

// 1 - e^x for x of at most 0. Near 0 it does not even look at the power: a driver that may reorder sums could make a
// difference from 1 of it, which would cancel.
fn rise(x: f32) -> f32 {
    let e = exponential(x);
    return select((1.0 - e.power) - e.power * e.above_one, -e.above_one, e.power == 1.0);
}

// ln(1 + x) = 2 artanh(x / (2 + x)), for x from 0 to 1.
fn log_above_one(x: f32) -> f32 {
    let twice = 2.0 * x / (2.0 + x); // half of it might be too small for a normal number
    let square = 0.25 * twice * twice;
    let series = 0.33333206 + square * (0.20010853 + square * (0.13999507 + square * 0.14012569));
    return twice + twice * (square * series);
}

fn sigmoid(x: f32) -> f32 {
    let e = decay(-abs(x));
    return unless_nan(x, select(1.0, e, x < 0.0) / (1.0 + e));
}

// (1 - e^(-2 abs(x))) / (1 + e^(-2 abs(x))), with the sign of x
fn bounded_tanh(x: f32) -> f32 {
    let y = rise(-2.0 * abs(x));
    return unless_nan(x, select(y, -y, x < 0.0) / (2.0 - y));
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
        case ELU: { return unless_nan(x, select(x, -alpha * rise(-abs(x)), x < 0.0)); }
        case SOFTSIGN: {
            let bounded = clamp(x, -SOFTSIGN_BOUND, SOFTSIGN_BOUND);
            return unless_nan(x, bounded / (1.0 + abs(bounded)));
        }
        case SOFTPLUS: { return unless_nan(x, max(x, 0.0) + log_above_one(decay(-abs(x)))); }
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
            let t = y / alpha; // y y may be too small for a normal number
            return alpha * beta * (1.0 - t * t);
        }
        case HARD_SIGMOID: { return select(alpha, 0.0, y <= 0.0 || y >= 1.0); }
        case ELU: { return select(1.0, y + alpha, select(y, x, alpha < 0.0) <= 0.0); }
        case SOFTSIGN: { return (1.0 - abs(y)) * (1.0 - abs(y)); }
        case SOFTPLUS: { return unless_nan(y, rise(-y)); }
        default: { return 1.0; }
    }
}
