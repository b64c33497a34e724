// scan/interleaved_lengths: the lengths of the sequences that a dilated scan interleaves. Sequence r of a row has the steps
// r, r + d, r + 2 d and so on.
//
//   out[r, b] = ceil((len(b) - r) / d), 0 if the row ends before step r
//
// One invocation per sequence, workgroups in two axes. No barriers.
// Mirror: gatefold-reference, scan::interleaved_lengths.
struct InterleavedLengths {
    batch: u32, // B
    dilation: u32, // d
    steps: u32, // T, the length of every row without LENGTHS
    groups_x: u32,
}

@group(0) @binding(0) var<storage, read>       lengths: array<u32>; // [B]    read with LENGTHS
@group(0) @binding(1) var<storage, read_write> out:     array<u32>; // [d, B]

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let i = (group.y * params.groups_x + group.x) * WG_SIZE + local;
    if i >= params.dilation * params.batch {
        return;
    }
    let r = i / params.batch;
    var length = params.steps;
    if LENGTHS {
        length = lengths[i % params.batch];
    }
    var steps = 0u;
    if length > r {
        steps = (length - r - 1u) / params.dilation + 1u;
    }
    out[i] = steps;
}
