// sequence/add_runs: the sums of runs, stretch after stretch, added to their rows of the table's gradient.
//
//   d_table[token, c] += sum of sums[q, c] over q = p and the starts of the further stretches that its run reaches
//
// for every p where a run begins. At most one run writes a row of d_table.
// One invocation per place and column, workgroups in two axes. No barriers.
// Mirror: gatefold-reference, sequence::add_runs.
@group(0) @binding(2) var<storage, read>       sums:    array<f32>; // [rows, width]
@group(0) @binding(3) var<storage, read_write> d_table: array<f32>; // [tokens, width]

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let i = (group.y * params.groups_x + group.x) * WG_SIZE + local;
    if i >= params.rows * params.width {
        return;
    }
    let first = i / params.width;
    let column = i % params.width;
    let token = token_at(first);
    if first > 0u && token_at(max(first, 1u) - 1u) == token {
        return;
    }
    var sum = 0.0;
    for (var place = first; place < params.rows; place = (place / params.stretch + 1u) * params.stretch) {
        if token_at(place) != token {
            break;
        }
        sum += sums[place * params.width + column];
    }
    d_table[token * params.width + column] += sum;
}
