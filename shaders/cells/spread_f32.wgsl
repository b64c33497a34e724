// cells/spread_f32: a slot passed around among lanes; joined with gates_f32 and one of the lanes files.
fn spread_slot(slot: Slot, j: u32) -> Slot {
    return spread(slot, j);
}
