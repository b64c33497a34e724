// scan/recurrent_gradient: d_pre U^T for ROWS rows and one column, the part of backward that every scan shares.
//
// Joined with gates_vec4 or gates_f32, with one of the lanes files, and with a kernel that declares ut and gates [T, B, H].
// Multiplies the slots of each row's own step by the weights from ut_begin on, [H, columns] K-major, and adds that to
// before. NO_STEP adds nothing.
const NO_STEP: u32 = 0xffffffffu;

fn recurrent_gradient(
    params: Params, first_row: u32, column: u32, lane: u32, steps: array<u32, ROWS>, ut_begin: u32, columns: u32,
    before: array<f32, ROWS>,
) -> array<f32, ROWS> {
    let hidden = params.hidden;
    var sums = before;
    for (var k = 0u; k < hidden; k += LANES) {
        let mine = k + lane;
        var d_pre: array<Slot, ROWS>;
        for (var n = 0u; n < ROWS; n++) {
            let row = min(first_row + n, params.batch - 1u);
            let inside = f32(mine < hidden && steps[n] != NO_STEP);
            let step = select(steps[n], 0u, steps[n] == NO_STEP);
            let at = (step * params.batch + row) * hidden + min(mine, hidden - 1u);
            d_pre[n] = gates[params.gates_at + at] * inside;
        }
        for (var j = 0u; j < LANES; j++) {
            let weights = ut[params.ut_at + ut_begin + min(k + j, hidden - 1u) * columns + column];
            for (var n = 0u; n < ROWS; n++) {
                sums[n] += through_weights(spread_slot(d_pre[n], j), weights);
            }
        }
    }
    return sums;
}
