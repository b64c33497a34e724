// optim/sgd: stochastic gradient descent with momentum, plain or Nesterov's (torch.optim.SGD).
//
//   g = scale d + decay p      m = momentum m + g (m = g at step 1)      p -= rate (g + momentum m if Nesterov, else m)
//
// One invocation per element of a run of parameters, workgroups in two axes. Nothing changes after a failed step, or with
// params.trial, which notes in status whether the step would overflow (optim/overflow).
// Mirror: gatefold-reference, optim::sgd.
struct Sgd {
    offset: u32,
    len: u32,
    groups_x: u32,
    nesterov: u32,
    rate_factor: f32, // of this group of parameters
    momentum: f32,
    decay: f32,
    trial: u32,       // 1 to note an overflow, 0 to write
    first_block: u32, // blocks of elements in the buffers before this one
    _pad0: u32,
    _pad1: u32,
    _pad2: u32,
}

@group(0) @binding(0) var<storage, read>       hyper:     Hyper;
@group(0) @binding(1) var<storage, read_write> status:    Status;
@group(0) @binding(2) var<storage, read>       gradients: array<f32>;
@group(0) @binding(3) var<storage, read_write> values:    array<f32>;
@group(0) @binding(4) var<storage, read_write> momentum:  array<f32>;

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let i = (group.y * params.groups_x + group.x) * WG_SIZE + local;
    if i >= params.len || is_withheld() {
        return;
    }
    let at = params.offset + i;
    let value = values[at];
    let g = status.scale * clip_value(gradients[at], hyper.clip_value) + params.decay * value;
    var step = g;
    var m = g;
    if params.momentum > 0.0 {
        if hyper.step > 1u {
            m += params.momentum * momentum[at];
        }
        step = select(m, g + params.momentum * m, params.nesterov == 1u);
    }
    let value_next = value - hyper.learning_rate * params.rate_factor * step;
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
