// sequence/fold: the gradient with respect to a convolution's input, from that with respect to what unfold gathered.
//
//   d_x[s, b, i] = sum over the k with s + left = stride t + dilation k of d[t, b, i K + k], 0 past a row's end
//
// One invocation per element of d_x, workgroups in two axes. No barriers.
// Mirror: gatefold-reference, convolution::fold.
@group(0) @binding(0) var<storage, read>       lengths: array<u32>; // [B]; read with LENGTHS
@group(0) @binding(1) var<storage, read>       d:       array<f32>; // [T', B, I K]
@group(0) @binding(2) var<storage, read_write> d_x:     array<f32>; // [T, B, I]

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let index = (group.y * params.groups_x + group.x) * WG_SIZE + local;
    let row = index / params.width;
    let s = row / params.batch;
    let b = row % params.batch;
    if s >= params.steps {
        return;
    }
    var sum = 0.0;
    if s < length_of(b) {
        // The output steps from 0 to the last give the range of k.
        let padded = s + params.left;
        let last = (params.out_steps - 1u) * params.stride;
        var k = 0u;
        if padded > last {
            k = (padded - last + params.dilation - 1u) / params.dilation;
        }
        let end = min(params.weights, padded / params.dilation + 1u);
        var by = 1u;
        if params.dilation == 1u {
            // Of these, an output step reads s with every stride-th weight.
            by = params.stride;
            k += (padded - min(k, padded)) % params.stride;
        }
        for (; k < end; k += by) {
            let at = padded - k * params.dilation;
            if at % params.stride == 0u {
                let t = at / params.stride;
                sum += d[params.offset + ((t * params.batch + b) * params.width + index % params.width) * params.weights + k];
            }
        }
    }
    d_x[index] = sum;
}
