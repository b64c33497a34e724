// optim/rmsprop: RMSprop (Tieleman and Hinton 2012) and, with CENTERED, Graves' form (2013), as in torch.optim.
//
//   g = scale d + decay p      v = alpha v + (1 - alpha) g^2      m = alpha m + (1 - alpha) g  with CENTERED
//   s = sqrt(v), CENTERED: sqrt(max(v - m^2, 0))      b = momentum b + g / (s + epsilon)      p -= rate b
//
// One invocation per element of a run of parameters, workgroups in two axes. Nothing changes after a failed step, or with
// params.trial, which notes in status whether the step would overflow (optim/overflow).
// Mirror: gatefold-reference, optim::rmsprop.
struct RmsProp {
    offset: u32,
    len: u32,
    groups_x: u32,
    rate_factor: f32, // of this group of parameters
    alpha: f32,
    epsilon: f32,
    momentum: f32,
    decay: f32,
    trial: u32,       // 1 to note an overflow, 0 to write
    first_block: u32, // blocks of elements in the buffers before this one
    _pad0: u32,
    _pad1: u32,
}

@group(0) @binding(0) var<storage, read>       hyper:     Hyper;
@group(0) @binding(1) var<storage, read_write> status:    Status;
@group(0) @binding(2) var<storage, read>       gradients: array<f32>;
@group(0) @binding(3) var<storage, read_write> values:    array<f32>;
@group(0) @binding(4) var<storage, read_write> v:         array<f32>;
@group(0) @binding(5) var<storage, read_write> mean:      array<f32>; // with CENTERED
@group(0) @binding(6) var<storage, read_write> momentum:  array<f32>; // if there is any

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let i = (group.y * params.groups_x + group.x) * WG_SIZE + local;
    if i >= params.len || is_withheld() {
        return;
    }
    let at = params.offset + i;
    let value = values[at];
    let g = status.scale * clip_value(gradients[at], hyper.clip_value) + params.decay * value;
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
    let value_next = value - hyper.learning_rate * params.rate_factor * step;
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
