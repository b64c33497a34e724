// scan/rows: the rows that a step touches.
//
// A row is active at step t if t < lengths[row]; without LENGTHS every row is. Joined with a kernel that declares
// lengths [B].
fn is_active(t: u32, row: u32) -> bool {
    if LENGTHS {
        return t < lengths[row];
    }
    return true;
}

// Whether one of the rows of a tile is active: the same for the whole workgroup.
fn any_active(params: Params, t: u32, first_row: u32) -> bool {
    if LENGTHS {
        var longest = 0u;
        for (var n = 0u; n < ROWS; n++) {
            longest = max(longest, lengths[min(first_row + n, params.batch - 1u)]);
        }
        return t < longest;
    }
    return true;
}
