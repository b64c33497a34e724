// sequence/normalise_rows: layer normalisation of each row.
//
//   y[k] = (x[k] - mean x) / sqrt(variance x + epsilon) weight[k] + bias[k]
//
// TEAM invocations per row, workgroups in two axes. Four barriers.
// Mirror: gatefold-reference, norm::normalise_rows.
@group(0) @binding(0) var<storage, read>       x:      array<f32>; // [rows, width]
@group(0) @binding(1) var<storage, read>       weight: array<f32>; // [width]
@group(0) @binding(2) var<storage, read>       bias:   array<f32>; // [width]
@group(0) @binding(3) var<storage, read_write> y:      array<f32>; // [rows, width]

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let row = (group.y * params.groups_x + group.x) * (WG_SIZE / TEAM) + local / TEAM;
    let begin = min(row, params.rows - 1u) * params.width;
    let found = moments(local, begin);
    if row < params.rows {
        for (var k = local % TEAM; k < params.width; k += TEAM) {
            let normal = (x[params.x_offset + begin + k] - found.mean) * found.scale;
            y[begin + k] = normal * weight[k] + bias[k];
        }
    }
}
