// Independent multiply-adds that never leave the registers: the most arithmetic that a kernel can do.
//
//   sum = factor sum + term,   16 times a round, for 12 sums an invocation
//
// One invocation adds up its sums in sums[id]. With factor = term = 1 a sum counts its multiply-adds, exactly below 2^24.
// The sixteen are written out: a loop around them would count as iterations, of which Mesa's llvmpipe runs 65,535.
struct Params {
    rounds: u32,
    factor: f32,
    term: f32,
    _pad: u32,
}
@group(0) @binding(0) var<uniform>             params: Params;
@group(0) @binding(1) var<storage, read_write> sums:   array<f32>;  // [invocations]

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let factor = vec4<f32>(params.factor);
    let term = vec4<f32>(params.term);
    var a = vec4<f32>(f32(id.x % 8u));
    var b = a + 1.0;
    var c = a + 2.0;
    for (var round = 0u; round < params.rounds; round++) {
        a = fma(a, factor, term); b = fma(b, factor, term); c = fma(c, factor, term);
        a = fma(a, factor, term); b = fma(b, factor, term); c = fma(c, factor, term);
        a = fma(a, factor, term); b = fma(b, factor, term); c = fma(c, factor, term);
        a = fma(a, factor, term); b = fma(b, factor, term); c = fma(c, factor, term);
        a = fma(a, factor, term); b = fma(b, factor, term); c = fma(c, factor, term);
        a = fma(a, factor, term); b = fma(b, factor, term); c = fma(c, factor, term);
        a = fma(a, factor, term); b = fma(b, factor, term); c = fma(c, factor, term);
        a = fma(a, factor, term); b = fma(b, factor, term); c = fma(c, factor, term);
        a = fma(a, factor, term); b = fma(b, factor, term); c = fma(c, factor, term);
        a = fma(a, factor, term); b = fma(b, factor, term); c = fma(c, factor, term);
        a = fma(a, factor, term); b = fma(b, factor, term); c = fma(c, factor, term);
        a = fma(a, factor, term); b = fma(b, factor, term); c = fma(c, factor, term);
        a = fma(a, factor, term); b = fma(b, factor, term); c = fma(c, factor, term);
        a = fma(a, factor, term); b = fma(b, factor, term); c = fma(c, factor, term);
        a = fma(a, factor, term); b = fma(b, factor, term); c = fma(c, factor, term);
        a = fma(a, factor, term); b = fma(b, factor, term); c = fma(c, factor, term);
    }
    let all = a + b + c;
    sums[id.x] = all.x + all.y + all.z + all.w;
}
