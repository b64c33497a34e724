// scan/scan_output: one scan's part of its layer's output.
//
//   out[t, row, out_begin + c] = h[t + first_slot, row, begin + c], or 0 where the row is not active     (+= with ADD)
//
// One invocation per element of the part, workgroups in two axes. No barriers.
// Mirror: gatefold-reference, scan::scan_output.
struct ScanOutput {
    steps: u32, // T
    batch: u32, // B
    width: u32, // of a row of h
    begin: u32, // the first column
    columns: u32,    // C
    first_slot: u32, // of step 0
    out_width: u32,  // of a row of out
    out_begin: u32,
    groups_x: u32,
    _pad0: u32,
    _pad1: u32,
    _pad2: u32,
}

@group(0) @binding(0) var<storage, read>       h:       array<f32>; // [slots, B, width]
@group(0) @binding(1) var<storage, read>       lengths: array<u32>; // [B]            read with LENGTHS
@group(0) @binding(2) var<storage, read_write> out:     array<f32>; // [T, B, out_width]

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let i = (group.y * params.groups_x + group.x) * WG_SIZE + local;
    let plane = params.batch * params.columns;
    if i >= params.steps * plane {
        return;
    }
    let t = i / plane;
    let row = (i % plane) / params.columns;
    let column = i % params.columns;
    var value = 0.0;
    if !LENGTHS || t < lengths[row] {
        value = h[((t + params.first_slot) * params.batch + row) * params.width + params.begin + column];
    }
    let to = (t * params.batch + row) * params.out_width + params.out_begin + column;
    if ADD {
        value += out[to];
    }
    out[to] = value;
}
