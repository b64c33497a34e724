// cells/gates_vec4: a unit's gates as the four lanes of a vector, for cells of two to four gates.
alias Gates = vec4<f32>; // weights and sums of a unit, a lane for each gate
alias Slot = vec4<f32>;  // what is kept of a unit's step: the saved gates, then their gradients

fn spread_slot(slot: Slot, j: u32) -> Slot {
    return Slot(spread(slot.x, j), spread(slot.y, j), spread(slot.z, j), spread(slot.w, j));
}

// What a unit's slot adds to dh of another unit through the recurrent weights between them.
fn through_weights(d_pre: Slot, weights: Gates) -> f32 {
    return dot(d_pre, weights);
}
