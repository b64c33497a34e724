// cells/spread_vec4: a slot passed around among lanes; joined with gates_vec4 and one of the lanes files.
fn spread_slot(slot: Slot, j: u32) -> Slot {
    return Slot(spread(slot.x, j), spread(slot.y, j), spread(slot.z, j), spread(slot.w, j));
}
