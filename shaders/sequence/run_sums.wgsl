// sequence/run_sums: the sums of runs of one token, each within a stretch of places.
//
//   sums[p, c] = sum of d[order[q], c] over q = p, p + 1, .. of the same token and stretch
//
// Written only where a run or a stretch begins at p.
// One invocation per place and column, workgroups in two axes. No barriers.
// Mirror: gatefold-reference, sequence::run_sums.
@group(0) @binding(2) var<storage, read>       d:    array<f32>; // [rows, width]
@group(0) @binding(3) var<storage, read_write> sums: array<f32>; // [rows, width]

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let i = (group.y * params.groups_x + group.x) * WG_SIZE + local;
    if i >= params.rows * params.width {
        return;
    }
    let first = i / params.width;
    let column = i % params.width;
    let token = token_at(first);
    if first % params.stretch != 0u && token_at(max(first, 1u) - 1u) == token {
        return;
    }
    let end = min((first / params.stretch + 1u) * params.stretch, params.rows);
    var sum = 0.0;
    for (var place = first; place < end; place++) {
        if token_at(place) != token {
            break;
        }
        sum += d[params.d_offset + row_at(place) * params.width + column];
    }
    sums[i] = sum;
}
