// linear/pack: a tensor with its axes reordered, so that a kernel reads it in the order in which it walks.
//
//   out[out_begin + i0 out_stride + i1 size2 + i2] = source[i0 s0 + i1 s1 + i2 s2]     (+ other there, with WITH_OTHER)
//
// With lane_axis 1 or 2, i1 or i2 counts lanes instead of gates, and a map says which gate each lane holds: its j-th four
// bits are the gate of lane j, 15 for a lane of zeros.
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
    lane_axis: u32, // 0 for none
    map: u32,
    other_map: u32,
    out_begin: u32,
    out_stride: u32, // of the first axis
}

@group(0) @binding(0) var<storage, read>       source: array<f32>;
@group(0) @binding(1) var<storage, read>       other:  array<f32>; // read with WITH_OTHER
@group(0) @binding(2) var<storage, read_write> out:    array<f32>; // [size0, size1, size2] from out_begin on

// The place of a lane's element, and whether there is one.
struct Place { at: u32, found: bool }

fn place(i: u32, map: u32) -> Place {
    let plane = params.size1 * params.size2;
    var index = vec3<u32>(i / plane, (i % plane) / params.size2, i % params.size2);
    var found = true;
    if params.lane_axis != 0u {
        let lane = select(index.z, index.y, params.lane_axis == 1u);
        let gate = (map >> (4u * lane)) & 15u;
        found = gate != 15u;
        index = select(vec3<u32>(index.xy, gate), vec3<u32>(index.x, gate, index.z), params.lane_axis == 1u);
    }
    return Place(index.x * params.stride0 + index.y * params.stride1 + index.z * params.stride2, found);
}

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let i = (group.y * params.groups_x + group.x) * WG_SIZE + local;
    if i >= params.size0 * params.size1 * params.size2 {
        return;
    }
    var value = 0.0;
    let plain = place(i, params.map);
    if plain.found {
        value = source[plain.at];
    }
    if WITH_OTHER {
        let beside = place(i, params.other_map);
        if beside.found {
            value += other[beside.at];
        }
    }
    let plane = params.size1 * params.size2;
    out[params.out_begin + (i / plane) * params.out_stride + i % plane] = value;
}
