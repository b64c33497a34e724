// sequence/convolved_lengths: the length of each row after a convolution; none for a row without steps, or one shorter than
// what an output step reads.
//
//   out[b] = floor((lengths[b] + padding - reach) / stride) + 1
//
// One invocation per row, workgroups in two axes. No barriers.
// Mirror: gatefold-reference, convolution::convolved_lengths.
struct ConvolvedLengths {
    batch: u32,
    padding: u32, // before and after a row
    reach: u32,   // steps from the first to the last that an output step reads
    stride: u32,
    groups_x: u32,
    _pad0: u32,
    _pad1: u32,
    _pad2: u32,
}

@group(0) @binding(0) var<storage, read>       lengths: array<u32>; // [B]
@group(0) @binding(1) var<storage, read_write> out:     array<u32>; // [B]

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let b = (group.y * params.groups_x + group.x) * WG_SIZE + local;
    if b >= params.batch {
        return;
    }
    let length = lengths[b];
    let padded = length + params.padding;
    var steps = 0u;
    if length > 0u && padded >= params.reach {
        steps = (padded - params.reach) / params.stride + 1u;
    }
    out[b] = steps;
}
