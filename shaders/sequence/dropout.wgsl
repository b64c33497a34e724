// sequence/dropout: sets random elements to zero. Backward runs the same kernel on the gradient; nothing is saved.
//
//   y[i] = x[i] scale, or 0 where u(i) < rate        u in [0, 1), from 24 of the 32 bits of a word
//
// Elements 2 j and 2 j + 1 take the two words of counter (j, batch 0x9E3779B9 ^ layer) under the key of the seed.
// One invocation per two elements, workgroups in two axes. No barriers.
// Mirror: gatefold-reference, sequence::dropout.
struct Dropout {
    len: u32,
    x_offset: u32, // of the first element
    layer: u32,
    rate: f32,
    scale: f32,    // 1 / (1 - rate)
    groups_x: u32,
    _pad0: u32,
    _pad1: u32,
}

@group(0) @binding(0) var<storage, read>       seed: array<u32>; // [4]: seed low, seed high, batch, unused
@group(0) @binding(1) var<storage, read>       x:    array<f32>; // [len]
@group(0) @binding(2) var<storage, read_write> y:    array<f32>; // [len]

fn kept(word: u32) -> bool {
    return f32(word >> 8u) / 16777216.0 >= params.rate;
}

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let pair = (group.y * params.groups_x + group.x) * WG_SIZE + local;
    let i = 2u * pair;
    if i >= params.len {
        return;
    }
    let words = threefry(vec2(seed[0], seed[1]), vec2(pair, (seed[2] * 0x9E3779B9u) ^ params.layer));
    y[i] = select(0.0, x[params.x_offset + i] * params.scale, kept(words.x));
    if i + 1u < params.len {
        y[i + 1u] = select(0.0, x[params.x_offset + i + 1u] * params.scale, kept(words.y));
    }
}
