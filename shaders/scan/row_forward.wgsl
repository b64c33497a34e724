// scan/row_forward: one time step of one layer, after its recurrent product r, with sums over the row within the step: layer
// normalisation of x, r and the state (Ba, Kiros and Hinton 2016), and zoneout and masks of the candidate.
//
//   x = gain_x norm(x) + bias     r = gain_r norm(r)     (h', state', saved) = cell_forward(x, r, ...)
//   with NORM and a state: h' = cell_output(saved, gain norm(state') + bias)
//   h = z h(t-1) + (1 - z) h'     state = z_c state(t-1) + (1 - z_c) state'
//
// Without NORM, x has its bias already. norm takes the groups of lanes that the cell names, over all units of the row.
// Joined with one of the gates files, with one cell of one stage, and with rows, row and row_step.
// A workgroup runs a row; workgroups in two axes. Barriers within the sums. Writes each element of step t once, and nothing in
// rows that are not active.
// Mirror: gatefold-reference, scan::row::forward.
struct RowForward {
    t: u32,
    batch: u32,  // B
    hidden: u32, // H
    steps: u32,  // T
    h_from: u32, // the slot of h(t-1)
    h_to: u32,
    state_from: u32,
    state_to: u32,
    x_at: u32,     // with NORM, where the products of the inputs are in gates
    masks_at: u32, // in fixed
    stats_at: u32, // with NORM and SAVE, where the factors and the state's mean are in state, [T, B, 6]
    groups_x: u32,
}

@group(0) @binding(0) var<storage, read>       fixed:   array<f32>;
@group(0) @binding(1) var<storage, read>       lengths: array<u32>; // [B]           read with LENGTHS
@group(0) @binding(2) var<storage, read>       product: array<Slot>; // [B, H]       the recurrent product
@group(0) @binding(3) var<storage, read_write> gates:   array<Slot>; // [T, B, H]    x in, saved out; with NORM x from x_at on
@group(0) @binding(4) var<storage, read_write> normal:  array<Slot>; // [T, B, H]    with NORM and SAVE: the normalised r
@group(0) @binding(5) var<storage, read_write> state:   array<f32>; // [slots, B, H] touched with HAS_STATE
@group(0) @binding(6) var<storage, read_write> h:       array<f32>; // [slots, B, H]

fn product_of(row: u32, unit: u32) -> Slot {
    return product[row * params.hidden + unit];
}

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let nth = group.y * params.groups_x + group.x;
    let row = min(nth, params.batch - 1u);
    let step_len = params.batch * params.hidden;
    let first = row * params.hidden;
    let here = params.t * step_len + first;
    row_step(local, RowAt(
        params.t,
        row,
        nth < params.batch && is_active(params.t, row),
        here,
        select(0u, params.x_at, NORM) + here,
        params.h_from * step_len + first,
        params.h_to * step_len + first,
        params.state_from * step_len + first,
        params.state_to * step_len + first,
    ));
}
