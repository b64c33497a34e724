// linear/column_sum: the sum of each column, by slices of rows; unpack_gradient adds the slices in order.
//
//   out[z, n] = sum over the rows m of slice z of x[m, n]
//
// One invocation per column and slice. No barriers.
// Mirror: gatefold-reference, linear::column_sum.
struct ColumnSum {
    m: u32,
    n: u32,
    slice_len: u32, // rows of one slice
    x_offset: u32,  // of the first element
}

@group(0) @binding(0) var<storage, read>       x:   array<f32>; // [M, N]
@group(0) @binding(1) var<storage, read_write> out: array<f32>; // [slices, N]

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let column = group.x * WG_SIZE + local;
    if column >= params.n {
        return;
    }
    let begin = group.y * params.slice_len;
    var sum = 0.0;
    for (var m = begin; m < min(begin + params.slice_len, params.m); m++) {
        sum += x[params.x_offset + m * params.n + column];
    }
    out[group.y * params.n + column] = sum;
}
