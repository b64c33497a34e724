// scan/slots: where a row begins and ends.
//
// h has history slots in front of the first step: a forward scan has h(t) in slot t + history and the initial values in
// slots 0 to history - 1; a reverse scan has h(t) in slot t and each row's initial values in the history slots behind
// its own last step. So the final values of a row are history slots from slot len on, or from slot 0 on.
fn length_of(row: u32) -> u32 {
    if LENGTHS {
        return min(lengths[row], params.steps);
    }
    return params.steps;
}

// Which of the final slots holds h(t); history or more if none does.
fn final_slot(t: u32, row: u32) -> u32 {
    return select(t + params.history - length_of(row), t, params.reverse == 1u);
}

// Of the initial or final slots, the one next to the steps.
fn nearest_slot() -> u32 {
    return select(params.history - 1u, 0u, params.reverse == 1u);
}
