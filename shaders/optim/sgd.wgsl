// optim/sgd: stochastic gradient descent with momentum, plain or Nesterov's (torch.optim.SGD).
//
//   g = scale d + decay p      m = momentum m + g (m = g at step 1)      p -= rate (g + momentum m if Nesterov, else m)
//
// One workgroup per piece of a parameter (optim/piece). Nothing changes after a failed step; with params.trial the kernel
// notes in status whether the step would overflow, without it the gradient is cleared (optim/update).
// Mirror: gatefold-reference, optim::sgd.
struct Sgd {
    pieces: u32,
    groups_x: u32,
    nesterov: u32,
    momentum: f32,
    trial: u32,       // 1 to note an overflow, 0 to write
    first_block: u32, // blocks of elements in the buffers before this one
    _pad0: u32,
    _pad1: u32,
}

@group(0) @binding(0) var<storage, read>       hyper:     Hyper;
@group(0) @binding(1) var<storage, read>       pieces:    array<Piece>;
@group(0) @binding(2) var<storage, read_write> status:    Status;
@group(0) @binding(3) var<storage, read_write> gradients: array<f32>;
@group(0) @binding(4) var<storage, read_write> values:    array<f32>;
@group(0) @binding(5) var<storage, read_write> momentum:  array<f32>; // if there is any

fn available() -> u32 {
    let plain = min(arrayLength(&gradients), arrayLength(&values));
    return select(plain, min(plain, arrayLength(&momentum)), params.momentum > 0.0);
}

fn change(at: u32, piece: Piece) {
    let value = values[at];
    let g = status.scale * clip_value(gradients[at], hyper.clip_value) + piece.decay * value;
    var step = g;
    var m = g;
    if params.momentum > 0.0 {
        if hyper.step > 1u {
            m += params.momentum * momentum[at];
        }
        step = select(m, g + params.momentum * m, params.nesterov == 1u);
    }
    let value_next = value - hyper.learning_rate * piece.rate_factor * step;
    if params.trial == 1u {
        if !(is_finite(value_next) && is_finite(m)) {
            note_overflow(at);
        }
        return;
    }
    if params.momentum > 0.0 {
        momentum[at] = m;
    }
    values[at] = value_next;
}
