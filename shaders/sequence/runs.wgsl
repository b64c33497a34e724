// sequence/runs: the part that run_sums and add_runs share. A run is the rows of one token, put next to each other by
// sort_rows.
//
// The rows of a run keep their order, and they are added up within stretches of `stretch` places, then across stretches,
// both in order: the result does not depend on the device. The length of a sum does not depend on the number of tokens.
struct Runs {
    rows: u32,
    width: u32,
    tokens: u32,
    numbers_offset: u32, // of the first number
    d_offset: u32,       // of the first row of d
    stretch: u32,
    groups_x: u32,
    _pad: u32,
}

@group(0) @binding(0) var<storage, read> numbers: array<f32>; // [rows] token numbers
@group(0) @binding(1) var<storage, read> order:   array<u32>; // [rows] sorted by token

fn row_at(place: u32) -> u32 {
    return min(order[place], params.rows - 1u);
}

fn token_at(place: u32) -> u32 {
    return token_of(numbers[params.numbers_offset + row_at(place)], params.tokens);
}
