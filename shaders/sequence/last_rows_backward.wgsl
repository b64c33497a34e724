// sequence/last_rows_backward: the gradient with respect to each row's steps: that of its last step, zeros at the others.
//
//   d_x[t, b, f] = d_y[b, f] where t + 1 = lengths[b], else 0
//
// One invocation per element of d_x, workgroups in two axes. No barriers.
// Mirror: gatefold-reference, sequence::last_rows_backward.
@group(0) @binding(0) var<storage, read>       lengths: array<u32>; // [B]
@group(0) @binding(1) var<storage, read>       d_y:     array<f32>; // [B, F]
@group(0) @binding(2) var<storage, read_write> d_x:     array<f32>; // [T, B, F]

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let i = (group.y * params.groups_x + group.x) * WG_SIZE + local;
    let step_len = params.batch * params.width;
    if i >= params.steps * step_len {
        return;
    }
    let at = i % step_len;
    let is_last = i / step_len + 1u == min(lengths[at / params.width], params.steps);
    d_x[i] = select(0.0, d_y[params.offset + at], is_last);
}
