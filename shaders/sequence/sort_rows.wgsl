// sequence/sort_rows: the params and the digit that the kernels of a sorting pass share.
//
// A pass (row_counts, row_places, place_rows) sorts rows by one digit of their tokens. Passes from the lowest digit to the
// highest leave the rows in order of their tokens, those of one token in their old order: a radix sort, stable and without
// atomics. A digit has WG_SIZE values, and a block is WG_SIZE rows. Neither depends on the device, so the order is the same
// everywhere.
struct SortRows {
    rows: u32,
    tokens: u32,
    numbers_offset: u32, // of the first number
    shift: u32,          // bits below the digit
}

fn digit_of(number: f32) -> u32 {
    return (token_of(number, params.tokens) >> params.shift) % WG_SIZE;
}
