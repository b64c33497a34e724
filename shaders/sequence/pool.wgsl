// sequence/pool: the value at the step with the largest x of each row and feature or, with MEAN, the mean of the values;
// zeros for a row without steps.
//
//   y[b, f] = values[t, b, f] at the first t below lengths[b] with the largest x[t, b, f]
//
// One invocation per element of y, workgroups in two axes. No barriers.
// Mirror: gatefold-reference, pool::pool.
@group(0) @binding(0) var<storage, read>       lengths: array<u32>; // [B]; read with LENGTHS
@group(0) @binding(1) var<storage, read>       x:       array<f32>; // [T, B, F]; read without MEAN
@group(0) @binding(2) var<storage, read>       values:  array<f32>; // [T, B, F]
@group(0) @binding(3) var<storage, read_write> y:       array<f32>; // [B, F]

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let i = (group.y * params.groups_x + group.x) * WG_SIZE + local;
    let step_len = params.batch * params.width;
    if i >= step_len {
        return;
    }
    let len = length_of(i / params.width);
    var result = 0.0;
    if len > 0u {
        if MEAN {
            for (var t = 0u; t < len; t++) {
                result += values[params.v_offset + t * step_len + i];
            }
            result /= f32(len);
        } else {
            var best = 0u;
            var largest = x[params.x_offset + i];
            for (var t = 1u; t < len; t++) {
                let value = x[params.x_offset + t * step_len + i];
                if exceeds(value, largest) {
                    best = t;
                    largest = value;
                }
            }
            result = values[params.v_offset + best * step_len + i];
        }
    }
    y[i] = result;
}
