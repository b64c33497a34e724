// scan/recurrent_gradient: d_r(t) U^T for ROWS rows and one unit, the part of backward that every scan shares.
//
// Joined with one cell, which gives Gates, Slot and through_weights, with one of the lanes files, and with a kernel that
// declares ut [H, H] K-major and gates [T, B, H].
fn recurrent_gradient(t: u32, first_row: u32, column: u32, lane: u32) -> array<f32, ROWS> {
    let hidden = params.hidden;
    let step_len = params.batch * hidden;
    var dh: array<f32, ROWS>;
    for (var k = 0u; k < hidden; k += LANES) {
        let mine = k + lane;
        let inside = f32(mine < hidden);
        var d_r: array<Slot, ROWS>;
        for (var n = 0u; n < ROWS; n++) {
            let row = min(first_row + n, params.batch - 1u);
            d_r[n] = gates[t * step_len + row * hidden + min(mine, hidden - 1u)] * inside;
        }
        for (var j = 0u; j < LANES; j++) {
            let weights = ut[min(k + j, hidden - 1u) * hidden + column];
            for (var n = 0u; n < ROWS; n++) {
                dh[n] += through_weights(spread_slot(d_r[n], j), weights);
            }
        }
    }
    return dh;
}
