// loss/element_loss: a loss that treats each target on its own: its weighted sum by parts, and the gradient with respect to
// the outputs.
//
//   r = y - wanted                     loss                                       slope
//   SQUARED                            r^2                                        2 r
//   ABSOLUTE                           |r|                                        sign r
//   HUBER     h = r within +-option    h (r - h / 2)                              h
//   QUANTILE                           slope r                                    1 - option above 0, -option below, 0 at 0
//   GAUSSIAN  y = (mean, s)            (s + r^2 e^-s) / 2                         mean: r e^-s, s: (1 - r^2 e^-s) / 2
//
//   d_y = weight slope        parts[first_part + p] = sum of weight loss over the targets p, p + parts, p + 2 parts, ...
//
// Targets are [rows, features]; outputs [rows, stride], of which this dispatch takes `features` from `offset` on, and the
// same number after them for s. Rows of weight 0 give exactly 0, whatever they hold.
// One invocation per part; sum_loss adds the parts. No barriers.
// Mirror: gatefold-reference, loss::Loss.
struct ElementLoss {
    len: u32,        // rows * features
    features: u32,
    stride: u32,     // outputs of a row
    offset: u32,     // the first output of a row
    parts: u32,
    first_part: u32,
    option: f32,     // Huber's delta, the quantile's level
    _pad: u32,
}

@group(0) @binding(0) var<storage, read>       y:       array<f32>; // [rows, stride]
@group(0) @binding(1) var<storage, read>       wanted:  array<f32>; // [rows, features]
@group(0) @binding(2) var<storage, read>       weights: array<f32>; // [rows]
@group(0) @binding(3) var<storage, read_write> d_y:     array<f32>; // [rows, stride]
@group(0) @binding(4) var<storage, read_write> parts:   array<f32>;

// The order of gatefold_shaders::ElementLossKind.
const SQUARED: u32 = 0u;
const ABSOLUTE: u32 = 1u;
const HUBER: u32 = 2u;
const QUANTILE: u32 = 3u;
const GAUSSIAN: u32 = 4u;

struct Term {
    loss: f32,
    slope: f32,
}

// slope, or r if r is NaN: by its bits, since drivers may assume that there is no NaN.
fn unless_nan(r: f32, slope: f32) -> f32 {
    return select(slope, r, (bitcast<u32>(r) & 0x7fffffffu) > 0x7f800000u);
}

fn term(r: f32) -> Term {
    switch LOSS {
        case ABSOLUTE: { return Term(abs(r), unless_nan(r, sign(r))); }
        case HUBER: {
            let held = unless_nan(r, clamp(r, -params.option, params.option));
            return Term(held * (r - 0.5 * held), held);
        }
        case QUANTILE: {
            let slope = select(select(0.0, -params.option, r < 0.0), 1.0 - params.option, r > 0.0);
            return Term(slope * r, unless_nan(r, slope));
        }
        default: { return Term(r * r, 2.0 * r); }
    }
}

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let part = group.x * WG_SIZE + local;
    if part >= params.parts {
        return;
    }
    var sum = 0.0;
    for (var i = part; i < params.len; i += params.parts) {
        let row = i / params.features;
        let at = row * params.stride + params.offset + (i - row * params.features);
        let weight = weights[row];
        let r = y[at] - wanted[i];
        var found = Term(0.0, 0.0);
        if LOSS == GAUSSIAN {
            let s = y[at + params.features];
            let inverse_variance = exp(-s);
            let square = r * r * inverse_variance;
            found = Term(0.5 * (s + square), r * inverse_variance);
            d_y[at + params.features] = select(0.0, weight * 0.5 * (1.0 - square), weight != 0.0);
        } else {
            found = term(r);
        }
        d_y[at] = select(0.0, weight * found.slope, weight != 0.0);
        sum += select(0.0, weight * found.loss, weight != 0.0);
    }
    parts[params.first_part + part] = sum;
}
