// sequence/runs: what the two kernels share that add up rows of one token, which sort_rows put next to each other: a run.
//
// The order of a run's rows is their own, and sums are taken by stretches of `stretch` places and then over the
// stretches, both in order: the result does not depend on the device. How long a sum is does not depend on how many
// tokens there are.
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
