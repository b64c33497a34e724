// optim/adam: Adam (Kingma and Ba 2015) and, with DECOUPLED, AdamW (Loshchilov and Hutter 2019), as in torch.optim.
//
//   Adam: g = scale d + decay p        AdamW: g = scale d, p -= rate decay p
//   m = beta1 m + (1 - beta1) g      v = beta2 v + (1 - beta2) g^2
//   p -= rate / correction1 m / (sqrt(v / correction2) + epsilon)
//
// One workgroup per piece of a parameter (optim/piece). Nothing changes after a failed step; with params.trial the kernel
// notes in status whether the step would overflow, without it the gradient is cleared (optim/update).
// Mirror: gatefold-reference, optim::adam.
struct Adam {
    pieces: u32,
    groups_x: u32,
    beta1: f32,
    beta2: f32,
    epsilon: f32,
    trial: u32,       // 1 to note an overflow, 0 to write
    first_block: u32, // blocks of elements in the buffers before this one
    _pad: u32,
}

@group(0) @binding(0) var<storage, read>       hyper:     Hyper;
@group(0) @binding(1) var<storage, read>       pieces:    array<Piece>;
@group(0) @binding(2) var<storage, read_write> status:    Status;
@group(0) @binding(3) var<storage, read_write> gradients: array<f32>;
@group(0) @binding(4) var<storage, read_write> values:    array<f32>;
@group(0) @binding(5) var<storage, read_write> m:         array<f32>;
@group(0) @binding(6) var<storage, read_write> v:         array<f32>;

fn available() -> u32 {
    return min(min(arrayLength(&gradients), arrayLength(&values)), min(arrayLength(&m), arrayLength(&v)));
}

fn change(at: u32, piece: Piece) {
    let rate = hyper.learning_rate * piece.rate_factor;
    var value = values[at];
    var g = status.scale * clip_value(gradients[at], hyper.clip_value);
    if DECOUPLED {
        value -= rate * piece.decay * value;
    } else {
        g += piece.decay * value;
    }
    let m_next = params.beta1 * m[at] + (1.0 - params.beta1) * g;
    let v_next = params.beta2 * v[at] + (1.0 - params.beta2) * g * g;
    let denominator = sqrt(v_next / hyper.correction2) + params.epsilon;
    let value_next = value - rate / hyper.correction1 * m_next / denominator;
    if params.trial == 1u {
        if !(is_finite(value_next) && is_finite(m_next) && is_finite(v_next)) {
            note_overflow(at);
        }
        return;
    }
    m[at] = m_next;
    v[at] = v_next;
    values[at] = value_next;
}
