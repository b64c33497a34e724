// scan/initial_rows: the values before each row's first step, and zeros where a row has no step.
//
//   h[slot, row, begin + c] = initial[i, row, c], or 0 without WITH_INITIAL, for the i-th of the row's `values` slots
//
// Slots as in scan/slots; `values` of a row's history slots, those next to the steps, have one. Padded slots, which no step
// writes, get zeros: products over all steps read them. Other slots are left alone.
// One invocation per (row, column) of one slot, workgroups in two axes. No barriers.
// Mirror: gatefold-reference, scan::initial_rows.
struct InitialRows {
    first_slot: u32, // slots to look at
    slots: u32,
    batch: u32,   // B
    width: u32,   // of a row of h
    begin: u32,   // the first column
    columns: u32, // C
    history: u32,
    values: u32, // slots with a value
    steps: u32, // T
    reverse: u32,
    groups_x: u32,
    _pad: u32,
}

@group(0) @binding(0) var<storage, read>       initial: array<f32>; // [values, B, C] read with WITH_INITIAL
@group(0) @binding(1) var<storage, read>       lengths: array<u32>; // [B]            read with LENGTHS
@group(0) @binding(2) var<storage, read_write> h:       array<f32>; // [slots, B, width]

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let i = (group.y * params.groups_x + group.x) * WG_SIZE + local;
    let plane = params.batch * params.columns;
    if i >= params.slots * plane {
        return;
    }
    let slot = params.first_slot + i / plane;
    let row = (i % plane) / params.columns;
    let column = i % params.columns;
    let len = length_of(params, row);
    var written = slot >= len + params.history;
    var place = params.values;
    if params.reverse == 1u {
        written = slot >= len;
        place = slot - len;
    } else if slot < params.history {
        written = true;
        place = slot + params.values - params.history;
    }
    if written {
        var value = 0.0;
        if WITH_INITIAL && place < params.values {
            value = initial[place * plane + row * params.columns + column];
        }
        h[(slot * params.batch + row) * params.width + params.begin + column] = value;
    }
}
