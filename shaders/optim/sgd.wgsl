// optim/sgd: stochastic gradient descent with momentum, plain or Nesterov's (torch.optim.SGD).
//
//   g = scale d + decay p      m = momentum m + g (m = g at step 1)      p -= rate (g + momentum m if Nesterov, else m)
//
// One invocation per element of a run of parameters, workgroups in two axes. Nothing changes after a failed step.
// Mirror: gatefold-reference, optim::sgd.
struct Sgd {
    offset: u32,
    len: u32,
    groups_x: u32,
    nesterov: u32,
    rate_factor: f32, // of this group of parameters
    momentum: f32,
    decay: f32,
    _pad: u32,
}

@group(0) @binding(0) var<storage, read>       hyper:     Hyper;
@group(0) @binding(1) var<storage, read>       status:    Status;
@group(0) @binding(2) var<storage, read>       gradients: array<f32>;
@group(0) @binding(3) var<storage, read_write> values:    array<f32>;
@group(0) @binding(4) var<storage, read_write> momentum:  array<f32>;

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let i = (group.y * params.groups_x + group.x) * WG_SIZE + local;
    if i >= params.len || status.failed_step != 0u {
        return;
    }
    let at = params.offset + i;
    let g = status.scale * clip_value(gradients[at], hyper.clip_value) + params.decay * values[at];
    var step = g;
    if params.momentum > 0.0 {
        var m = g;
        if hyper.step > 1u {
            m += params.momentum * momentum[at];
        }
        momentum[at] = m;
        step = select(m, g + params.momentum * m, params.nesterov == 1u);
    }
    values[at] -= hyper.learning_rate * params.rate_factor * step;
}
