// sequence/add: the sum of two tensors that may begin anywhere in their buffers.
//
//   out[i] = a[i] + b[i]          or with INTO  out[i] = out[i] + a[i]
//
// One invocation per element, workgroups in two axes. No barriers.
// Mirror: gatefold-reference, sequence::add.
struct Add {
    len: u32,
    a_offset: u32,
    b_offset: u32,
    out_offset: u32,
    groups_x: u32,
    _pad0: u32,
    _pad1: u32,
    _pad2: u32,
}

@group(0) @binding(0) var<storage, read>       a:   array<f32>; // [len]
@group(0) @binding(1) var<storage, read>       b:   array<f32>; // [len]; read unless INTO
@group(0) @binding(2) var<storage, read_write> out: array<f32>; // [len]

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let i = (group.y * params.groups_x + group.x) * WG_SIZE + local;
    if i >= params.len {
        return;
    }
    let at = params.out_offset + i;
    if INTO {
        out[at] += a[params.a_offset + i];
    } else {
        out[at] = a[params.a_offset + i] + b[params.b_offset + i];
    }
}
