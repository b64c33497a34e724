// linear/pack: the axes of a tensor reordered, so that a kernel reads it in the order in which it walks.
//
//   out[i0, i1, i2] = source[i0 s0 + i1 s1 + i2 s2]     (+ other at the same place, where WITH_OTHER)
//
// One invocation per element, workgroups in two axes. No barriers.
// Mirror: gatefold-reference, linear::pack.
struct Pack {
    size0: u32,
    size1: u32,
    size2: u32,
    groups_x: u32,
    stride0: u32,
    stride1: u32,
    stride2: u32,
    _pad: u32,
}

@group(0) @binding(0) var<storage, read>       source: array<f32>;
@group(0) @binding(1) var<storage, read>       other:  array<f32>; // read where WITH_OTHER
@group(0) @binding(2) var<storage, read_write> out:    array<f32>; // [size0, size1, size2]

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let i = (group.y * params.groups_x + group.x) * WG_SIZE + local;
    let plane = params.size1 * params.size2;
    if i >= params.size0 * plane {
        return;
    }
    let i1 = (i % plane) / params.size2;
    let at = (i / plane) * params.stride0 + i1 * params.stride1 + (i % params.size2) * params.stride2;
    var value = source[at];
    if WITH_OTHER {
        value += other[at];
    }
    out[i] = value;
}
