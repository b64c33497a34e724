// scan/slots: the slots of a row's initial and final values.
//
// h has history slots for the values before the first step. A forward scan has h(t) in slot t + history, and the initial
// values in slots 0 to history - 1. A reverse scan has h(t) in slot t, and each row's initial values in the history slots
// after its own last step. So the final values of a row are in history slots from slot len on, or from slot 0 on.
fn length_of(params: Params, row: u32) -> u32 {
    if LENGTHS {
        return min(lengths[row], params.steps);
    }
    return params.steps;
}

// The final slot that holds h(t); history or more if none does.
fn final_slot(params: Params, t: u32, row: u32) -> u32 {
    return select(t + params.history - length_of(params, row), t, params.reverse == 1u);
}

// The initial or final slot next to the steps.
fn nearest_slot(params: Params) -> u32 {
    return select(params.history - 1u, 0u, params.reverse == 1u);
}
