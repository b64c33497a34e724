// linear/factors: the params of a matrix product, and the places of rows that are steps of sequences.
struct MatMul {
    m: u32,
    n: u32,               // in Columns
    k: u32,
    slice_len: u32,       // k of one slice
    a_offset: u32,        // of the first element
    a_row_stride: u32,
    a_k_stride: u32,
    b_k_stride: u32,      // in Columns
    b_column_stride: u32, // in Columns
    b_offset: u32,        // of the first element, in Columns
    batch: u32,           // sequences; read with SKIP_ROWS or SKIP_INNER
    _pad0: u32,
}

// A row of [T, batch].
struct Place {
    step: u32,
    sequence: u32,
}

fn place_of(row: u32) -> Place {
    return Place(row / params.batch, row % params.batch);
}
