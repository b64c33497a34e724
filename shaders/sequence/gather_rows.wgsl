// sequence/gather_rows: rows of a table, by token.
//
//   out[r, c] = table[token(r), c]
//
// One invocation per element, workgroups in two axes. No barriers.
// Mirror: gatefold-reference, sequence::gather_rows.
struct GatherRows {
    rows: u32,
    width: u32,
    tokens: u32,
    numbers_offset: u32, // of the first number
    groups_x: u32,
    _pad0: u32,
    _pad1: u32,
    _pad2: u32,
}

@group(0) @binding(0) var<storage, read>       numbers: array<f32>; // [rows] token numbers
@group(0) @binding(1) var<storage, read>       table:   array<f32>; // [tokens, width]
@group(0) @binding(2) var<storage, read_write> out:     array<f32>; // [rows, width]

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let i = (group.y * params.groups_x + group.x) * WG_SIZE + local;
    if i >= params.rows * params.width {
        return;
    }
    let token = token_of(numbers[params.numbers_offset + i / params.width], params.tokens);
    out[i] = table[token * params.width + i % params.width];
}
