// sequence/dropout: sets random elements to zero. Backward runs the same kernel on the gradient; nothing is saved.
//
//   y[i] = x[i] scale, or 0 where u(i) < rate        u in [0, 1), from 24 of the 32 bits of a word
//
// Elements 2 j and 2 j + 1 of the whole sequence take the two words of counter (j, batch 0x9E3779B9 ^ layer) under the
// key of the seed. x begins with element first_step step_len of it.
// One invocation per two elements that share a counter, workgroups in two axes. No barriers.
// Mirror: gatefold-reference, sequence::dropout.
struct Dropout {
    len: u32,
    x_offset: u32, // of the first element
    layer: u32,
    rate: f32,
    scale: f32,    // 1 / (1 - rate)
    groups_x: u32,
    step_len: u32, // elements of a step; 0 if x is whole, wherever the sequence is cut
    _pad0: u32,
}

@group(0) @binding(0) var<storage, read>       seed: array<u32>; // [4]: seed low, seed high, batch, first_step
@group(0) @binding(1) var<storage, read>       x:    array<f32>; // [len]
@group(0) @binding(2) var<storage, read_write> y:    array<f32>; // [len]

fn kept(word: u32) -> bool {
    return f32(word >> 8u) / 16777216.0 >= params.rate;
}

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let pair = (group.y * params.groups_x + group.x) * WG_SIZE + local;
    // The counter of the first element, and whether that takes its second word. The product may exceed 32 bits, its half
    // is taken modulo 2^32.
    let first_step = seed[3];
    let counter = first_step * (params.step_len / 2u) + (params.step_len & 1u) * (first_step / 2u);
    let odd = first_step & params.step_len & 1u;
    let i = 2u * pair - odd; // before x if odd and pair = 0, and then not below len
    if i >= params.len && i + 1u >= params.len {
        return;
    }
    let words = threefry(vec2(seed[0], seed[1]), vec2(counter + pair, (seed[2] * 0x9E3779B9u) ^ params.layer));
    if i < params.len {
        y[i] = select(0.0, x[params.x_offset + i] * params.scale, kept(words.x));
    }
    if i + 1u < params.len {
        y[i + 1u] = select(0.0, x[params.x_offset + i + 1u] * params.scale, kept(words.y));
    }
}
