// sequence/last_rows: each row's own last step; zeros for a row without steps.
//
//   y[b, f] = x[lengths[b] - 1, b, f]
//
// One invocation per element of y, workgroups in two axes. No barriers.
// Mirror: gatefold-reference, sequence::last_rows.
@group(0) @binding(0) var<storage, read>       lengths: array<u32>; // [B]
@group(0) @binding(1) var<storage, read>       x:       array<f32>; // [T, B, F]
@group(0) @binding(2) var<storage, read_write> y:       array<f32>; // [B, F]

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let i = (group.y * params.groups_x + group.x) * WG_SIZE + local;
    let step_len = params.batch * params.width;
    if i >= step_len {
        return;
    }
    let len = min(lengths[i / params.width], params.steps);
    var value = 0.0;
    if len > 0u {
        value = x[params.offset + (len - 1u) * step_len + i];
    }
    y[i] = value;
}
