// scan/row_backward: one time step backward of one layer, before the product that takes d_r to h(t-1): the chain rule through
// row_forward.
//
//   dh = through + carry_h + d_out(t)     d_h' = (1 - z) dh     (d_pre, carry) = cell_backward(saved, ..., d_h', ...)
//   d_x = norm'(gain_x d_pre)     d_r = norm'(gain_r d_pre)     carry_h = z dh, and what the cell hands on
//
// where through is d_r(t+1) U^T and norm' the chain rule through a normalisation to y with its factor s:
// s (d - mean(d) - y mean(d y)). A row that is not active hands dh on without d_out.
// carry holds [B, H] each: through, carry_h, and the carry of the state; then sums over all steps so far, for the gradients:
// with UNITS 3 those of the peepholes, [3, B, H]; with NORM those of the gains of x and r, [B, H] of lanes each, and of the gain
// and the bias of the state, [B, H] each.
// Joined with one of the gates files, with one cell of one stage, and with rows, row and row_step_backward.
// A workgroup runs a row; workgroups in two axes. Barriers within the sums. Writes each element of step t once: zeros for rows
// that are not active.
// Mirror: gatefold-reference, scan::row::backward.
struct RowBackward {
    t: u32,
    batch: u32,  // B
    hidden: u32, // H
    steps: u32,  // T
    h_from: u32, // the slot of h(t-1)
    state_from: u32,
    d_stride: u32, // of a row of d_out
    d_begin: u32,  // the column of this scan's part
    x_at: u32,     // with NORM, where the normalised x are in gates
    masks_at: u32, // in fixed
    stats_at: u32, // with NORM, where the factors and the state's mean are in state, [T, B, 6]
    groups_x: u32,
}

@group(0) @binding(0) var<storage, read>       fixed:   array<f32>;
@group(0) @binding(1) var<storage, read>       lengths: array<u32>; // [B]           read with LENGTHS
@group(0) @binding(2) var<storage, read>       state:   array<f32>; // [slots, B, H] read with HAS_STATE
@group(0) @binding(3) var<storage, read>       h:       array<f32>; // [slots, B, H]
@group(0) @binding(4) var<storage, read>       d_out:   array<f32>; // [T, B, d_stride]
@group(0) @binding(5) var<storage, read_write> gates:   array<Slot>; // [T, B, H]    saved in, d_pre out; from x_at on d_x out
@group(0) @binding(6) var<storage, read_write> normal:  array<Slot>; // [T, B, H]    with NORM: the normalised r in, d_r out
@group(0) @binding(7) var<storage, read_write> carry:   array<f32>;

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let nth = group.y * params.groups_x + group.x;
    let row = min(nth, params.batch - 1u);
    let step_len = params.batch * params.hidden;
    let first = row * params.hidden;
    let here = params.t * step_len + first;
    row_step_backward(local, RowBack(
        params.t,
        row,
        nth < params.batch,
        nth < params.batch && is_active(params.t, row),
        here,
        params.x_at + here,
        params.h_from * step_len + first,
        params.state_from * step_len + first,
        (params.t * params.batch + row) * params.d_stride + params.d_begin,
    ));
}
