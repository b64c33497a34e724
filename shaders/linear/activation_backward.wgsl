// linear/activation_backward: the gradient with respect to a dense layer's pre-activation.
//
//   d_pre = d_y act'     the slope from y; with KEEP_PRE, where it does not follow from y, from the pre-activation
//
// One invocation per element, workgroups in two axes. No barriers.
// Mirror: gatefold-reference, linear::activation_backward.
struct ActivationBackward {
    len: u32,
    groups_x: u32,
    _pad0: u32,
    _pad1: u32,
}

@group(0) @binding(0) var<storage, read>       saved: array<f32>; // y; with KEEP_PRE the pre-activation
@group(0) @binding(1) var<storage, read>       d_y:   array<f32>;
@group(0) @binding(2) var<storage, read_write> d_pre: array<f32>;

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let i = (group.y * params.groups_x + group.x) * WG_SIZE + local;
    if i < params.len {
        let x = saved[i];
        var y = x;
        if KEEP_PRE {
            y = activate(ACTIVATION, ALPHA, BETA, x);
        }
        d_pre[i] = d_y[i] * activation_slope(ACTIVATION, ALPHA, BETA, x, y);
    }
}
