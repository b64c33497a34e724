// sequence/pool_backward: the gradient with respect to each row's steps: d_y at the first with the largest x or, with MEAN,
// divided among all of them; zeros past the row's end.
//
//   d_x[t, b, f] = d_y[b, f] at the first t below lengths[b] with the largest x[t, b, f], else 0
//
// One invocation per element of d_y, workgroups in two axes. No barriers.
// Mirror: gatefold-reference, pool::pool_backward.
@group(0) @binding(0) var<storage, read>       lengths: array<u32>; // [B]; read with LENGTHS
@group(0) @binding(1) var<storage, read>       x:       array<f32>; // [T, B, F]; read without MEAN
@group(0) @binding(2) var<storage, read>       d_y:     array<f32>; // [B, F]
@group(0) @binding(3) var<storage, read_write> d_x:     array<f32>; // [T, B, F]

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let i = (group.y * params.groups_x + group.x) * WG_SIZE + local;
    let step_len = params.batch * params.width;
    if i >= step_len {
        return;
    }
    let len = length_of(i / params.width);
    let d = d_y[params.v_offset + i];
    if MEAN {
        let share = d / f32(max(len, 1u));
        for (var t = 0u; t < params.steps; t++) {
            d_x[t * step_len + i] = select(0.0, share, t < len);
        }
    } else {
        var best = 0u;
        var largest = x[params.x_offset + i];
        d_x[i] = 0.0;
        for (var t = 1u; t < params.steps; t++) {
            if t < len {
                let value = x[params.x_offset + t * step_len + i];
                if exceeds(value, largest) {
                    best = t;
                    largest = value;
                }
            }
            d_x[t * step_len + i] = 0.0;
        }
        if len > 0u {
            d_x[best * step_len + i] = d;
        }
    }
}
