// sequence/normalise_rows_backward: the gradient through the layer normalisation of each row, from its input.
//
//   n = (x - mean x) / sqrt(variance x + epsilon)        g = d_y weight
//   d_x = (g - mean g - n mean(g n)) / sqrt(variance x + epsilon)
//   products = d_y n, whose columns add up to the gradient of the weight; with PRODUCTS
//
// TEAM invocations per row, workgroups in two axes. Six barriers.
// Mirror: gatefold-reference, norm::normalise_rows_backward.
@group(0) @binding(0) var<storage, read>       x:        array<f32>; // [rows, width]
@group(0) @binding(1) var<storage, read>       weight:   array<f32>; // [width]
@group(0) @binding(2) var<storage, read>       d_y:      array<f32>; // [rows, width]
@group(0) @binding(3) var<storage, read_write> d_x:      array<f32>; // [rows, width]
@group(0) @binding(4) var<storage, read_write> products: array<f32>; // [rows, width]

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let row = (group.y * params.groups_x + group.x) * (WG_SIZE / TEAM) + local / TEAM;
    let begin = min(row, params.rows - 1u) * params.width;
    let found = moments(local, begin);
    var part = 0.0;
    var part_along = 0.0;
    for (var k = local % TEAM; k < params.width; k += TEAM) {
        let normal = (x[params.x_offset + begin + k] - found.mean) * found.scale;
        let g = d_y[params.d_offset + begin + k] * weight[k];
        part += g;
        part_along += g * normal;
    }
    let mean = team_sum(local, part) / f32(params.width);
    workgroupBarrier();
    let along = team_sum(local, part_along) / f32(params.width);
    if row < params.rows {
        for (var k = local % TEAM; k < params.width; k += TEAM) {
            let normal = (x[params.x_offset + begin + k] - found.mean) * found.scale;
            let d = d_y[params.d_offset + begin + k];
            d_x[begin + k] = found.scale * (d * weight[k] - mean - normal * along);
            if PRODUCTS {
                products[begin + k] = d * normal;
            }
        }
    }
}
