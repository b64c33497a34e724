// linear/unpack_gradient: slices of a packed gradient, added in order into the parameter's own gradient.
//
//   d[i0 s0 + i1 s1 + i2 s2] += sum over z of slices[z, i0, i1, i2]
//
// The inverse of pack. Since it adds, tied layers and accumulated batches need nothing more. With lane_axis 2, i2 counts
// lanes, and the map says which gate each lane holds, as in pack; lanes without a gate are left out.
// One invocation per element, workgroups in two axes. No barriers.
// Mirror: gatefold-reference, linear::unpack_gradient.
struct UnpackGradient {
    size0: u32,
    size1: u32,
    size2: u32,
    groups_x: u32,
    stride0: u32,
    stride1: u32,
    stride2: u32,
    slices: u32,
    lane_axis: u32, // 0 for none, else 2
    map: u32,
    _pad0: u32,
    _pad1: u32,
}

@group(0) @binding(0) var<storage, read>       slices: array<f32>; // [slices, size0, size1, size2]
@group(0) @binding(1) var<storage, read_write> d:      array<f32>;

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let i = (group.y * params.groups_x + group.x) * WG_SIZE + local;
    let plane = params.size1 * params.size2;
    let len = params.size0 * plane;
    if i >= len {
        return;
    }
    var i2 = i % params.size2;
    if params.lane_axis != 0u {
        i2 = (params.map >> (4u * i2)) & 15u;
        if i2 == 15u {
            return;
        }
    }
    var sum = 0.0;
    for (var z = 0u; z < params.slices; z++) {
        sum += slices[z * len + i];
    }
    let i1 = (i % plane) / params.size2;
    d[(i / plane) * params.stride0 + i1 * params.stride1 + i2 * params.stride2] += sum;
}
