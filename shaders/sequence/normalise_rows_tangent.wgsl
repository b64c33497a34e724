// sequence/normalise_rows_tangent: the derivative of the layer normalisation of each row along tangents of its input, its
// weight and its bias.
//
//   n = (x - mean x) / sqrt(variance x + epsilon)
//   n_dot = (x_dot - mean x_dot - n mean(x_dot n)) / sqrt(variance x + epsilon)
//   y_dot = n_dot weight + n weight_dot + bias_dot
//
// TEAM invocations per row, workgroups in two axes. Six barriers.
// Mirror: gatefold-reference, norm::normalise_rows_tangent.
@group(0) @binding(0) var<storage, read>       x:          array<f32>; // [rows, width]
@group(0) @binding(1) var<storage, read>       weight:     array<f32>; // [width]
@group(0) @binding(2) var<storage, read>       x_dot:      array<f32>; // [rows, width]
@group(0) @binding(3) var<storage, read>       weight_dot: array<f32>; // [width]
@group(0) @binding(4) var<storage, read>       bias_dot:   array<f32>; // [width]
@group(0) @binding(5) var<storage, read_write> y_dot:      array<f32>; // [rows, width]

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let row = (group.y * params.groups_x + group.x) * (WG_SIZE / TEAM) + local / TEAM;
    let begin = min(row, params.rows - 1u) * params.width;
    let found = moments(local, begin);
    var part = 0.0;
    var part_along = 0.0;
    for (var k = local % TEAM; k < params.width; k += TEAM) {
        let normal = (x[params.x_offset + begin + k] - found.mean) * found.scale;
        let dot = x_dot[params.d_offset + begin + k];
        part += dot;
        part_along += dot * normal;
    }
    let mean = team_sum(local, part) / f32(params.width);
    workgroupBarrier();
    let along = team_sum(local, part_along) / f32(params.width);
    if row < params.rows {
        for (var k = local % TEAM; k < params.width; k += TEAM) {
            let normal = (x[params.x_offset + begin + k] - found.mean) * found.scale;
            let dot = found.scale * (x_dot[params.d_offset + begin + k] - mean - normal * along);
            y_dot[begin + k] = dot * weight[k] + normal * weight_dot[k] + bias_dot[k];
        }
    }
}
