// sequence/repeat: a block, repeated.
//
//   out[i] = x[i mod period]
//
// One invocation per element, workgroups in two axes. No barriers.
// Mirror: gatefold-reference, sequence::repeat.
struct Repeat {
    len: u32,
    period: u32,
    x_offset: u32,
    out_offset: u32,
    groups_x: u32,
    _pad0: u32,
    _pad1: u32,
    _pad2: u32,
}

@group(0) @binding(0) var<storage, read>       x:   array<f32>; // [period]
@group(0) @binding(1) var<storage, read_write> out: array<f32>; // [len]

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let i = (group.y * params.groups_x + group.x) * WG_SIZE + local;
    if i < params.len {
        out[params.out_offset + i] = x[params.x_offset + i % params.period];
    }
}
