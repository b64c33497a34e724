// sequence/row_places: counts of rows turned into the places that they move to.
//
//   places[block, digit] = sum over the blocks before it of counts[.., digit]
//   places[blocks, digit] = rows of all smaller digits
//
// One workgroup, an invocation per digit. One barrier.
// Mirror: gatefold-reference, sequence::row_places.
struct RowPlaces {
    blocks: u32,
    _pad0: u32,
    _pad1: u32,
    _pad2: u32,
}

@group(0) @binding(0) var<storage, read_write> places: array<u32>; // [blocks + 1, WG_SIZE], counts on entry but for the last row

var<workgroup> totals: array<u32, WG_SIZE>;

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(local_invocation_index) local: u32) {
    var before = 0u;
    for (var block = 0u; block < params.blocks; block++) {
        let at = block * WG_SIZE + local;
        let count = places[at];
        places[at] = before;
        before += count;
    }
    totals[local] = before;
    workgroupBarrier();
    var smaller = 0u;
    for (var digit = 0u; digit < local; digit++) {
        smaller += totals[digit];
    }
    places[params.blocks * WG_SIZE + local] = smaller;
}
