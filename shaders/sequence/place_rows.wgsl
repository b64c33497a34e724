// sequence/place_rows: rows in order of a digit, those of one digit in their old order.
//
//   sorted[places[blocks, d] + places[block, d] + rank] = order[p]     d = digit(order[p]), with FIRST order[p] = p
//
// rank counts the rows of the same digit before p in its block. One workgroup per block, one invocation per row.
// One barrier.
// Mirror: gatefold-reference, sequence::place_rows.
@group(0) @binding(0) var<storage, read>       numbers: array<f32>; // [rows] token numbers
@group(0) @binding(1) var<storage, read>       order:   array<u32>; // [rows]; read unless FIRST
@group(0) @binding(2) var<storage, read>       places:  array<u32>; // [blocks + 1, WG_SIZE]
@group(0) @binding(3) var<storage, read_write> sorted:  array<u32>; // [rows]

var<workgroup> digits: array<u32, WG_SIZE>;

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let place = group.x * WG_SIZE + local;
    var row = place;
    var digit = WG_SIZE; // none
    if place < params.rows {
        if !FIRST {
            row = min(order[place], params.rows - 1u);
        }
        digit = digit_of(numbers[params.numbers_offset + row]);
    }
    digits[local] = digit;
    workgroupBarrier();
    if place < params.rows {
        var rank = 0u;
        for (var j = 0u; j < local; j++) {
            rank += u32(digits[j] == digit);
        }
        let blocks = (params.rows + WG_SIZE - 1u) / WG_SIZE;
        let at = places[blocks * WG_SIZE + digit] + places[group.x * WG_SIZE + digit] + rank;
        sorted[min(at, params.rows - 1u)] = row;
    }
}
