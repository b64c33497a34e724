// scan/row_scan_forward: many time steps of one layer in one dispatch, each as in row_forward; a workgroup runs a row of the
// batch.
//
//   r = h(t-1) U        then row_step
//
// h(t-1) and r stay in workgroup memory. Slots as in scan/slots; with SAVE the state has a slot per step, else a single one.
// Joined with one of the gates files, with one cell of one stage, and with rows, slots, order, row and row_step.
// Two barriers a step, and those within the sums.
// Mirror: gatefold-reference, scan::row::forward, step after step.
struct RowScanForward {
    first: u32,  // steps of the scan before this dispatch
    count: u32,  // steps of this dispatch
    steps: u32,  // T
    batch: u32,  // B
    hidden: u32, // HIDDEN
    history: u32,
    reverse: u32,
    x_at: u32,     // see row_forward
    masks_at: u32,
    stats_at: u32,
    _pad0: u32,
    _pad1: u32,
}

@group(0) @binding(0) var<storage, read>       fixed:   array<f32>;
@group(0) @binding(1) var<storage, read>       lengths: array<u32>;  // [B]           read with LENGTHS
@group(0) @binding(2) var<storage, read>       u:       array<Slot>; // [H, H]        K-major, packed
@group(0) @binding(3) var<storage, read_write> gates:   array<Slot>; // [T, B, H]     as in row_forward, like the others
@group(0) @binding(4) var<storage, read_write> normal:  array<Slot>; // [T, B, H]
@group(0) @binding(5) var<storage, read_write> state:   array<f32>;  // [slots, B, H]
@group(0) @binding(6) var<storage, read_write> h:       array<f32>;  // [T + history, B, H]

var<workgroup> h_row: array<f32, HIDDEN>;
var<workgroup> r_row: array<Slot, HIDDEN>; // each element is its invocation's own

fn product_of(row: u32, unit: u32) -> Slot {
    return r_row[unit];
}

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let row = group.x;
    let first = row * HIDDEN;
    let step_len = params.batch * HIDDEN;
    for (var unit = local; unit < HIDDEN; unit += WG_SIZE) {
        h_row[unit] = h[h_before(params, step_at(params, params.first)) * step_len + first + unit];
    }
    for (var step = params.first; step < params.first + params.count; step++) {
        let t = step_at(params, step);
        workgroupBarrier();
        for (var unit = local; unit < HIDDEN; unit += WG_SIZE) {
            var r: Slot;
            for (var k = 0u; k < HIDDEN; k++) {
                r += h_row[k] * u[k * HIDDEN + unit];
            }
            r_row[unit] = r;
        }
        let here = t * step_len + first;
        let h_at = h_after(params, t) * step_len + first;
        row_step(local, RowAt(
            t,
            row,
            is_active(t, row),
            here,
            select(0u, params.x_at, NORM) + here,
            h_before(params, t) * step_len + first,
            h_at,
            select(0u, state_before(params, t), SAVE) * step_len + first,
            select(0u, state_after(params, t), SAVE) * step_len + first,
        ));
        workgroupBarrier();
        // In a row that has not begun, that is the initial h.
        for (var unit = local; unit < HIDDEN; unit += WG_SIZE) {
            h_row[unit] = h[h_at + unit];
        }
    }
}
