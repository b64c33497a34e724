// optim/gradient_norm: the length of the gradient, piece by piece, without overflow.
//
//   partials[p] = (largest |g|, sum of (g / largest)^2, whether any g is not finite) over the elements of invocation p
//
// One workgroup per piece of at most PIECE elements; invocation l takes the elements l, l + WG_SIZE, ... of it.
// finish_norm puts the partials together. No barriers. Scaling as in the BLAS' nrm2 (Lawson et al. 1979).
// Mirror: gatefold-reference, optim::gradient_norm.
struct GradientNorm {
    pieces: u32,
    groups_x: u32,
    _pad0: u32,
    _pad1: u32,
}

struct Piece { offset: u32, len: u32, layer: u32, _pad: u32 }
struct Partial { largest: f32, sum: f32, not_finite: u32, layer: u32 }

@group(0) @binding(0) var<storage, read>       pieces:    array<Piece>;
@group(0) @binding(1) var<storage, read>       gradients: array<f32>;
@group(0) @binding(2) var<storage, read_write> partials:  array<Partial>; // [pieces, WG_SIZE]

const EXPONENT: u32 = 0x7f800000u; // all ones in infinities and NaNs; WGSL has no isNan, and drivers may assume none

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let index = group.y * params.groups_x + group.x;
    if index >= params.pieces {
        return;
    }
    let piece = pieces[index];
    var largest = 0.0;
    var not_finite = 0u;
    for (var i = local; i < piece.len; i += WG_SIZE) {
        let g = gradients[piece.offset + i];
        if (bitcast<u32>(g) & EXPONENT) == EXPONENT {
            not_finite = 1u;
        } else {
            largest = max(largest, abs(g));
        }
    }
    var sum = 0.0;
    if largest > 0.0 && not_finite == 0u {
        for (var i = local; i < piece.len; i += WG_SIZE) {
            let part = gradients[piece.offset + i] / largest;
            sum += part * part;
        }
    }
    partials[index * WG_SIZE + local] = Partial(largest, sum, not_finite, piece.layer);
}
