// sequence/fill: a constant in every element.
//
//   out[i] = value
//
// One invocation per element, workgroups in two axes. No barriers.
// Mirror: gatefold-reference, sequence::fill.
struct Fill {
    len: u32,
    offset: u32,
    value: f32,
    groups_x: u32,
}

@group(0) @binding(0) var<storage, read_write> out: array<f32>; // [len]

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let i = (group.y * params.groups_x + group.x) * WG_SIZE + local;
    if i < params.len {
        out[params.offset + i] = params.value;
    }
}
