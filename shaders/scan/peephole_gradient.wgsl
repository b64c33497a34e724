// scan/peephole_gradient: the gradient with respect to an LSTM's peepholes, by slices of rows; unpack_gradient adds the
// slices in order.
//
//   out[z, 0, h] = sum d_pre_i c(t-1)     out[z, 1, h] = sum d_pre_f c(t-1)     out[z, 2, h] = sum d_pre_o c(t)
//
// over the rows of slice z, counting the rows of all steps in order.
// One invocation per unit and slice. No barriers.
// Mirror: gatefold-reference, scan::peephole_gradient.
struct PeepholeGradient {
    rows: u32,   // T B
    hidden: u32, // H
    before: u32, // the first row of the state before step 0
    after: u32,  // the first row of the state after step 0
    slice_len: u32,
    _pad0: u32,
    _pad1: u32,
    _pad2: u32,
}

@group(0) @binding(0) var<storage, read>       gates: array<vec4<f32>>; // [T B, H]        d_pre of i, f, g, o
@group(0) @binding(1) var<storage, read>       state: array<f32>;       // [(T + 1) B, H]
@group(0) @binding(2) var<storage, read_write> out:   array<f32>;       // [slices, 3, H]

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let unit = group.x * WG_SIZE + local;
    if unit >= params.hidden {
        return;
    }
    let begin = group.y * params.slice_len;
    var sum = vec3<f32>();
    for (var row = begin; row < min(begin + params.slice_len, params.rows); row++) {
        let d_pre = gates[row * params.hidden + unit];
        let c_prev = state[(params.before + row) * params.hidden + unit];
        let c = state[(params.after + row) * params.hidden + unit];
        sum += vec3<f32>(d_pre.x * c_prev, d_pre.y * c_prev, d_pre.w * c);
    }
    let at = group.y * 3u * params.hidden + unit;
    out[at] = sum.x;
    out[at + params.hidden] = sum.y;
    out[at + 2u * params.hidden] = sum.z;
}
