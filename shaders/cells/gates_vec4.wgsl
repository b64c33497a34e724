// cells/gates_vec4: a unit's gates as the four lanes of a vector, for cells of two to four gates.
alias Gates = vec4<f32>; // a unit's weights and sums, a lane for each gate
alias Slot = vec4<f32>;  // a unit's share of a step: the saved gates, later their gradients

const SLOT_LANES: u32 = 4u;

fn slot_of(a: f32, b: f32, c: f32, d: f32) -> Slot {
    return Slot(a, b, c, d);
}

fn lane_of(slot: Slot, lane: u32) -> f32 {
    return slot[lane];
}

// The part of another unit's dh that comes from this unit's slot, through the recurrent weights between them.
fn through_weights(d_pre: Slot, weights: Gates) -> f32 {
    return dot(d_pre, weights);
}
