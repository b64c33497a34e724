// loss/squared_error: the gradient of the mean squared error, and its sum by parts.
//
//   d_y = 2 (y - wanted) / len        parts[p] = sum of (y - wanted)^2 over the elements p, p + parts, p + 2 parts, ...
//
// One invocation per part; mean_loss adds the parts. No barriers.
// Mirror: gatefold-reference, loss::squared_error.
struct SquaredError {
    len: u32,
    parts: u32,
    _pad0: u32,
    _pad1: u32,
}

@group(0) @binding(0) var<storage, read>       y:      array<f32>;
@group(0) @binding(1) var<storage, read>       wanted: array<f32>;
@group(0) @binding(2) var<storage, read_write> d_y:    array<f32>;
@group(0) @binding(3) var<storage, read_write> parts:  array<f32>;

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let part = group.x * WG_SIZE + local;
    if part >= params.parts {
        return;
    }
    let scale = 2.0 / f32(params.len);
    var sum = 0.0;
    for (var i = part; i < params.len; i += params.parts) {
        let difference = y[i] - wanted[i];
        d_y[i] = scale * difference;
        sum += difference * difference;
    }
    parts[part] = sum;
}
