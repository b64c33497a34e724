// optim/rmsprop: RMSprop (Tieleman and Hinton 2012) and, with CENTERED, Graves' form (2013), as in torch.optim.
//
//   g = scale d + decay p      v = alpha v + (1 - alpha) g^2      m = alpha m + (1 - alpha) g  with CENTERED
//   s = sqrt(v), CENTERED: sqrt(max(v - m^2, 0))      b = momentum b + g / (s + epsilon)      p -= rate b
//
// One workgroup per piece of a parameter (optim/piece). Nothing changes after a failed step; with params.trial the kernel
// notes in status whether the step would overflow, without it the gradient is cleared (optim/update).
// Mirror: gatefold-reference, optim::rmsprop.
struct RmsProp {
    pieces: u32,
    groups_x: u32,
    alpha: f32,
    epsilon: f32,
    momentum: f32,
    trial: u32,       // 1 to note an overflow, 0 to write
    first_block: u32, // blocks of elements in the buffers before this one
    _pad: u32,
}

@group(0) @binding(0) var<storage, read>       hyper:     Hyper;
@group(0) @binding(1) var<storage, read>       pieces:    array<Piece>;
@group(0) @binding(2) var<storage, read_write> status:    Status;
@group(0) @binding(3) var<storage, read_write> gradients: array<f32>;
@group(0) @binding(4) var<storage, read_write> values:    array<f32>;
@group(0) @binding(5) var<storage, read_write> v:         array<f32>;
@group(0) @binding(6) var<storage, read_write> mean:      array<f32>; // with CENTERED
@group(0) @binding(7) var<storage, read_write> momentum:  array<f32>; // if there is any

fn available() -> u32 {
    var found = min(min(arrayLength(&gradients), arrayLength(&values)), arrayLength(&v));
    if CENTERED {
        found = min(found, arrayLength(&mean));
    }
    return select(found, min(found, arrayLength(&momentum)), params.momentum > 0.0);
}

fn change(at: u32, piece: Piece) {
    let value = values[at];
    let g = status.scale * clip_value(gradients[at], hyper.clip_value) + piece.decay * value;
    let v_next = params.alpha * v[at] + (1.0 - params.alpha) * g * g;
    var square = v_next;
    var m = 0.0;
    if CENTERED {
        m = params.alpha * mean[at] + (1.0 - params.alpha) * g;
        square = max(v_next - m * m, 0.0);
    }
    var step = g / (sqrt(square) + params.epsilon);
    if params.momentum > 0.0 {
        step += params.momentum * momentum[at];
    }
    let value_next = value - hyper.learning_rate * piece.rate_factor * step;
    if params.trial == 1u {
        if !(is_finite(value_next) && is_finite(v_next) && is_finite(m) && is_finite(step)) {
            note_overflow(at);
        }
        return;
    }
    v[at] = v_next;
    if CENTERED {
        mean[at] = m;
    }
    if params.momentum > 0.0 {
        momentum[at] = step;
    }
    values[at] = value_next;
}
