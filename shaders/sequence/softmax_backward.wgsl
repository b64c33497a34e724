// sequence/softmax_backward: the gradient through the softmax of each row, from its output.
//
//   d_x[k] = y[k] (d_y[k] - sum over j of d_y[j] y[j])
//
// TEAM invocations per row, workgroups in two axes. One barrier.
// Mirror: gatefold-reference, sequence::softmax_backward.
struct SoftmaxBackward {
    rows: u32,
    width: u32,
    y_offset: u32,   // of the first element
    d_y_offset: u32, // of the first element
    groups_x: u32,
    _pad0: u32,
    _pad1: u32,
    _pad2: u32,
}

@group(0) @binding(0) var<storage, read>       y:   array<f32>; // [rows, width]
@group(0) @binding(1) var<storage, read>       d_y: array<f32>; // [rows, width]
@group(0) @binding(2) var<storage, read_write> d_x: array<f32>; // [rows, width]

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let row = (group.y * params.groups_x + group.x) * (WG_SIZE / TEAM) + local / TEAM;
    let member = local % TEAM;
    let begin = min(row, params.rows - 1u) * params.width;
    var part = 0.0;
    for (var k = member; k < params.width; k += TEAM) {
        part += d_y[params.d_y_offset + begin + k] * y[params.y_offset + begin + k];
    }
    let sum = team_sum(local, part);
    if row < params.rows {
        for (var k = member; k < params.width; k += TEAM) {
            d_x[begin + k] =
                y[params.y_offset + begin + k] * (d_y[params.d_y_offset + begin + k] - sum);
        }
    }
}
