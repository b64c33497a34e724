// optim/rmsprop: RMSprop (Tieleman and Hinton 2012) and, with CENTERED, Graves' form (2013), as in torch.optim.
//
//   g = scale d + decay p      v = alpha v + (1 - alpha) g^2      m = alpha m + (1 - alpha) g  with CENTERED
//   s = sqrt(v), CENTERED: sqrt(max(v - m^2, 0))      b = momentum b + g / (s + epsilon)      p -= rate b
//
// One invocation per element of a run of parameters, workgroups in two axes. Nothing changes after a failed step.
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
}

@group(0) @binding(0) var<storage, read>       hyper:     Hyper;
@group(0) @binding(1) var<storage, read>       status:    Status;
@group(0) @binding(2) var<storage, read>       gradients: array<f32>;
@group(0) @binding(3) var<storage, read_write> values:    array<f32>;
@group(0) @binding(4) var<storage, read_write> v:         array<f32>;
@group(0) @binding(5) var<storage, read_write> mean:      array<f32>; // with CENTERED
@group(0) @binding(6) var<storage, read_write> momentum:  array<f32>; // if there is any

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let i = (group.y * params.groups_x + group.x) * WG_SIZE + local;
    if i >= params.len || status.failed_step != 0u {
        return;
    }
    let at = params.offset + i;
    let g = status.scale * clip_value(gradients[at], hyper.clip_value) + params.decay * values[at];
    let v_next = params.alpha * v[at] + (1.0 - params.alpha) * g * g;
    v[at] = v_next;
    var square = v_next;
    if CENTERED {
        let m = params.alpha * mean[at] + (1.0 - params.alpha) * g;
        mean[at] = m;
        square = max(v_next - m * m, 0.0);
    }
    var step = g / (sqrt(square) + params.epsilon);
    if params.momentum > 0.0 {
        step += params.momentum * momentum[at];
        momentum[at] = step;
    }
    values[at] -= hyper.learning_rate * params.rate_factor * step;
}
