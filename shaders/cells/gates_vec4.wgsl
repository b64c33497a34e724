// cells/gates_vec4: a unit's gates as the four lanes of a vector, for cells of two to four gates.
alias Gates = vec4<f32>; // a unit's weights and sums, a lane for each gate
alias Slot = vec4<f32>;  // a unit's share of a step: the saved gates, later their gradients

// The part of another unit's dh that comes from this unit's slot, through the recurrent weights between them.
fn through_weights(d_pre: Slot, weights: Gates) -> f32 {
    return dot(d_pre, weights);
}
