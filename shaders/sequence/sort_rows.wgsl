// sequence/sort_rows: what the three kernels of a pass share that sorts rows by a digit of their tokens.
//
// Passes from the lowest digit to the highest (row_counts, row_places, place_rows) leave the rows in the order of their
// tokens, those of one token in their own order: a radix sort, stable and without atomics. A digit has WG_SIZE values,
// and a block is WG_SIZE rows; neither is a choice of the device's, so the order is the same everywhere.
struct SortRows {
    rows: u32,
    tokens: u32,
    numbers_offset: u32, // of the first number
    shift: u32,          // bits below the digit
}

fn digit_of(number: f32) -> u32 {
    return (token_of(number, params.tokens) >> params.shift) % WG_SIZE;
}
