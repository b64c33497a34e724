// sequence/row_counts: the count of rows of each block with each digit.
//
//   counts[block, digit] = number of places p of the block with digit(order[p]) = digit       with FIRST order[p] = p
//
// One workgroup per block; each invocation reads the digit of one row, then counts one digit. One barrier.
// Mirror: gatefold-reference, sequence::row_counts.
@group(0) @binding(0) var<storage, read>       numbers: array<f32>; // [rows] token numbers
@group(0) @binding(1) var<storage, read>       order:   array<u32>; // [rows]; read unless FIRST
@group(0) @binding(2) var<storage, read_write> counts:  array<u32>; // [blocks, WG_SIZE]

var<workgroup> digits: array<u32, WG_SIZE>;

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let place = group.x * WG_SIZE + local;
    var digit = WG_SIZE; // none
    if place < params.rows {
        var row = place;
        if !FIRST {
            row = min(order[place], params.rows - 1u);
        }
        digit = digit_of(numbers[params.numbers_offset + row]);
    }
    digits[local] = digit;
    workgroupBarrier();
    var count = 0u;
    for (var j = 0u; j < WG_SIZE; j++) {
        count += u32(digits[j] == local);
    }
    counts[place] = count;
}
