// sequence/pool_rows: the params of pool and its backward, the length of a row, and the order of its values.
struct Pool {
    steps: u32,
    batch: u32,
    width: u32,
    x_offset: u32, // of the first element
    v_offset: u32, // of the first of the values, or of d_y
    groups_x: u32,
    _pad0: u32,
    _pad1: u32,
}

fn length_of(b: u32) -> u32 {
    if LENGTHS {
        return min(lengths[b], params.steps);
    }
    return params.steps;
}

// By its bits, since drivers may assume that there is no NaN.
fn is_nan(value: f32) -> bool {
    return (bitcast<u32>(value) & 0x7fffffffu) > 0x7f800000u;
}

// Whether a later value takes the place of the largest so far: of equal ones the first stays, and a NaN is the largest.
fn exceeds(value: f32, largest: f32) -> bool {
    return !is_nan(largest) && (is_nan(value) || value > largest);
}
