// scan/final_rows: the final values of each row.
//
//   out[i, row, c] = h[slot, row, begin + c]     for the i-th of the row's `values` slots next to its last step
//
// Slots as in scan/slots. One invocation per element, workgroups in two axes. No barriers.
// Mirror: gatefold-reference, scan::final_rows.
struct FinalRows {
    batch: u32,   // B
    width: u32,   // of a row of h
    begin: u32,   // the first column
    columns: u32, // C
    history: u32,
    values: u32, // slots with a value
    steps: u32, // at most T; rows count as no longer than this
    reverse: u32,
    groups_x: u32,
    _pad0: u32,
    _pad1: u32,
    _pad2: u32,
}

@group(0) @binding(0) var<storage, read>       h:       array<f32>; // [slots, B, width]
@group(0) @binding(1) var<storage, read>       lengths: array<u32>; // [B]            read with LENGTHS
@group(0) @binding(2) var<storage, read_write> out:     array<f32>; // [values, B, C]

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let i = (group.y * params.groups_x + group.x) * WG_SIZE + local;
    let plane = params.batch * params.columns;
    if i >= params.values * plane {
        return;
    }
    let row = (i % plane) / params.columns;
    let last = min(length_of(params, row), params.steps);
    let begin = select(last + params.history - params.values, 0u, params.reverse == 1u);
    let slot = begin + i / plane;
    out[i] = h[(slot * params.batch + row) * params.width + params.begin + i % params.columns];
}
