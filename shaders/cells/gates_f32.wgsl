// cells/gates_f32: one number per unit, for cells without gates.
alias Gates = f32;
alias Slot = f32;

fn through_weights(d_pre: Slot, weights: Gates) -> f32 {
    return d_pre * weights;
}
