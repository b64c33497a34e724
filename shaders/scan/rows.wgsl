// scan/rows: which rows a step touches, and which numbers of its own a unit has.
//
// A row is active at step t where t < lengths[row]; without LENGTHS it always is. Joined with a kernel that declares
// lengths [B].
fn is_active(t: u32, row: u32) -> bool {
    if LENGTHS {
        return t < lengths[row];
    }
    return true;
}

// Whether one of the rows of a tile is active: the same for the whole workgroup.
fn any_active(t: u32, first_row: u32) -> bool {
    if LENGTHS {
        var longest = 0u;
        for (var n = 0u; n < ROWS; n++) {
            longest = max(longest, lengths[min(first_row + n, params.batch - 1u)]);
        }
        return t < longest;
    }
    return true;
}
