// sequence/unfold: the values that each output step of a convolution reads, side by side; zeros for the padding around rows.
//
//   out[t, b, i K + k] = x[stride t + dilation k - left, b, i], 0 before the row and past its end
//
// One invocation per element of out, workgroups in two axes. No barriers.
// Mirror: gatefold-reference, convolution::unfold.
@group(0) @binding(0) var<storage, read>       lengths: array<u32>; // [B]; read with LENGTHS
@group(0) @binding(1) var<storage, read>       x:       array<f32>; // [T, B, I]
@group(0) @binding(2) var<storage, read_write> out:     array<f32>; // [T', B, I K]

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let index = (group.y * params.groups_x + group.x) * WG_SIZE + local;
    let values = params.width * params.weights;
    let row = index / values;
    let t = row / params.batch;
    let b = row % params.batch;
    if t >= params.out_steps {
        return;
    }
    let i = (index % values) / params.weights;
    let k = index % params.weights;
    let padded = t * params.stride + k * params.dilation;
    var value = 0.0;
    if padded >= params.left && padded - params.left < length_of(b) {
        value = x[params.offset + ((padded - params.left) * params.batch + b) * params.width + i];
    }
    out[index] = value;
}
