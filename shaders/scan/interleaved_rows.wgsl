// scan/interleaved_rows: the d states of a dilated scan past the ends of rows, from the order of time to that of the
// sequences that it interleaves, or back. The state of the j-th step from step len(b) on, or from step len(b) - d on, is one
// of sequence (len(b) + j) mod d.
//
//   out[(len(b) + j) mod d, b, h] = x[j, b, h]        to sequences
//   out[j, b, h] = x[(len(b) + j) mod d, b, h]        back
//
// One invocation per element, workgroups in two axes. No barriers. Writes every element once.
// Mirror: gatefold-reference, scan::interleaved_rows.
struct InterleavedRows {
    batch: u32, // B
    columns: u32, // H
    dilation: u32, // d
    steps: u32, // T; rows count as no longer than this
    back: u32, // 1 for the way back
    groups_x: u32,
    _pad0: u32,
    _pad1: u32,
}

@group(0) @binding(0) var<storage, read>       x:       array<f32>; // [d, B, H]
@group(0) @binding(1) var<storage, read>       lengths: array<u32>; // [B]       read with LENGTHS
@group(0) @binding(2) var<storage, read_write> out:     array<f32>; // [d, B, H]

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let i = (group.y * params.groups_x + group.x) * WG_SIZE + local;
    let plane = params.batch * params.columns;
    if i >= params.dilation * plane {
        return;
    }
    var length = params.steps;
    if LENGTHS {
        length = min(lengths[(i % plane) / params.columns], params.steps);
    }
    let turn = length % params.dilation;
    let by = select(params.dilation - turn, turn, params.back == 1u);
    out[i] = x[(i / plane + by) % params.dilation * plane + i % plane];
}
