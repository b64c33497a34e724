// linear/sum_slices: the second pass of a matrix product whose inner axis was split.
//
//   c[m, n] = act(sum over z of slices[z, m, n] + bias[n])
//
// One invocation per element, workgroups in two axes. No barriers.
// Mirror: gatefold-reference, linear::sum_slices.
struct SumSlices {
    m: u32,
    n: u32,
    slices: u32,
    groups_x: u32,
}

@group(0) @binding(0) var<storage, read>       slices: array<f32>; // [slices, M, N]
@group(0) @binding(1) var<storage, read>       bias:   array<f32>; // [N]; read with BIAS
@group(0) @binding(2) var<storage, read_write> c:      array<f32>; // [M, N]

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let i = (group.y * params.groups_x + group.x) * WG_SIZE + local;
    let len = params.m * params.n;
    if i >= len {
        return;
    }
    var sum = 0.0;
    for (var z = 0u; z < params.slices; z++) {
        sum += slices[z * len + i];
    }
    if BIAS {
        sum += bias[i % params.n];
    }
    c[i] = activate(ACTIVATION, ALPHA, BETA, sum);
}
