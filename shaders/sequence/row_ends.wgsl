// sequence/row_ends: the params of last_rows and its backward.
struct RowEnds {
    steps: u32,
    batch: u32,
    width: u32,
    offset: u32, // of the first element of x, or of d_y
    groups_x: u32,
    _pad0: u32,
    _pad1: u32,
    _pad2: u32,
}
