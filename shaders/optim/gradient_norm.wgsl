// optim/gradient_norm: the length of the gradient, piece by piece, without overflow.
//
//   partials[p] = (largest |g|, sum of (g / largest)^2, whether any g is not finite) over the elements of invocation p
//
// g is clipped by value first, except in the check for being finite.
//
// One workgroup per piece of at most MAX_PIECE_LEN elements; invocation l takes its elements l, l + WG_SIZE, ... Devices may
// flush numbers below 2^-126 to zero, and so does this kernel.
// finish_norm combines the partials. No barriers. Scaling as in nrm2 of the BLAS (Lawson et al. 1979).
// Mirror: gatefold-reference, optim::gradient_norm.
struct GradientNorm {
    pieces: u32,
    groups_x: u32,
    clip_value: f32, // 0 to clip nothing
    _pad: u32,
}

struct Piece { offset: u32, len: u32, layer: u32, _pad: u32 }

@group(0) @binding(0) var<storage, read>       pieces:    array<Piece>;
@group(0) @binding(1) var<storage, read>       gradients: array<f32>;
@group(0) @binding(2) var<storage, read_write> partials:  array<Partial>; // [pieces, WG_SIZE]

const MAX_PIECE_LEN: u32 = 4096u;
const SMALLEST_NORMAL: f32 = 0x1p-126f;

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let index = group.y * params.groups_x + group.x;
    if index >= params.pieces {
        return;
    }
    let piece = pieces[index];
    let begin = min(piece.offset, arrayLength(&gradients));
    let len = min(min(piece.len, MAX_PIECE_LEN), arrayLength(&gradients) - begin);
    var largest = 0.0;
    var not_finite = 0u;
    for (var i = local; i < len; i += WG_SIZE) {
        let g = gradients[begin + i];
        if is_finite(g) {
            largest = max(largest, abs(clip_value(g, params.clip_value)));
        } else {
            not_finite = 1u;
        }
    }
    var sum = 0.0;
    if largest < SMALLEST_NORMAL {
        largest = 0.0;
    }
    if largest > 0.0 && not_finite == 0u {
        for (var i = local; i < len; i += WG_SIZE) {
            let part = share(clip_value(gradients[begin + i], params.clip_value), largest);
            sum += part * part;
        }
    }
    partials[index * WG_SIZE + local] = Partial(largest, sum, not_finite, piece.layer);
}
