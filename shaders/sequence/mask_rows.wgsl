// sequence/mask_rows: zeros past the end of each row, in place.
//
//   x[t, b, f] = 0 where t >= lengths[b]
//
// One invocation per element, workgroups in two axes. No barriers.
// Mirror: gatefold-reference, sequence::mask_rows.
struct MaskRows {
    steps: u32,
    batch: u32,
    width: u32,
    x_offset: u32, // of the first element
    groups_x: u32,
    _pad0: u32,
    _pad1: u32,
    _pad2: u32,
}

@group(0) @binding(0) var<storage, read>       lengths: array<u32>; // [B]
@group(0) @binding(1) var<storage, read_write> x:       array<f32>; // [T, B, F]

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let i = (group.y * params.groups_x + group.x) * WG_SIZE + local;
    let row = i / params.width;
    if row < params.steps * params.batch && row / params.batch >= lengths[row % params.batch] {
        x[params.x_offset + i] = 0.0;
    }
}
