// scan/order: the steps of a scan in its own order, and the slots that a step reads and writes.
//
// Joined with kernels that run many steps; their params have steps, history and reverse. Slots as in scan/slots.
fn step_at(params: Params, n: u32) -> u32 {
    return select(n, params.steps - 1u - n, params.reverse == 1u);
}

// The slot of h(t-1).
fn h_before(params: Params, t: u32) -> u32 {
    return select(t + params.history - 1u, t + 1u, params.reverse == 1u);
}

// The slot of h(t).
fn h_after(params: Params, t: u32) -> u32 {
    return select(t + params.history, t, params.reverse == 1u);
}

// The slot of h(t-k).
fn h_skipped(params: Params, t: u32) -> u32 {
    return select(t, t + params.history, params.reverse == 1u);
}

// The slots of the state before and after step t, where every step has one.
fn state_before(params: Params, t: u32) -> u32 {
    return select(t, t + 1u, params.reverse == 1u);
}

fn state_after(params: Params, t: u32) -> u32 {
    return select(t + 1u, t, params.reverse == 1u);
}

// Steps up to the end of the longest row of a tile: the same for the whole workgroup.
fn longest(params: Params, first_row: u32) -> u32 {
    var steps = 0u;
    for (var n = 0u; n < ROWS; n++) {
        steps = max(steps, length_of(params, min(first_row + n, params.batch - 1u)));
    }
    return steps;
}
