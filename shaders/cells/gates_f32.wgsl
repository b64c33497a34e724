// cells/gates_f32: one number per unit, for cells without gates.
alias Gates = f32;
alias Slot = f32;

const SLOT_LANES: u32 = 1u;

fn slot_of(a: f32, b: f32, c: f32, d: f32) -> Slot {
    return a;
}

fn lane_of(slot: Slot, lane: u32) -> f32 {
    return slot;
}

fn through_weights(d_pre: Slot, weights: Gates) -> f32 {
    return d_pre * weights;
}
