// optim/gradient_norm: the length of the gradient, piece by piece, without overflow.
//
//   partials[first + p] = (largest |g|, sum of (g / largest)^2, 1 + layer where any g is not finite) over piece p
//
// g is clipped by value first, except in the check for being finite.
//
// One workgroup per piece (optim/piece), whose invocations join their parts (optim/partial); finish_norm joins the pieces.
// Devices may flush numbers below 2^-126 to zero, and so does this kernel.
// Mirror: gatefold-reference, optim::gradient_norm.
struct GradientNorm {
    pieces: u32,
    groups_x: u32,
    first: u32,      // partial to write
    clip_value: f32, // 0 to clip nothing
}

@group(0) @binding(0) var<storage, read>       pieces:    array<Piece>;
@group(0) @binding(1) var<storage, read>       gradients: array<f32>;
@group(0) @binding(2) var<storage, read_write> partials:  array<Partial>; // [first + pieces]

const SMALLEST_NORMAL: f32 = 0x1p-126f;

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let index = group.y * params.groups_x + group.x;
    if index >= params.pieces {
        return;
    }
    let piece = pieces[index];
    let elements = stretch(piece, arrayLength(&gradients));
    var largest = 0.0;
    var failed = 0u;
    for (var at = elements.begin + local; at < elements.end; at += WG_SIZE) {
        let g = gradients[at];
        if is_finite(g) {
            largest = max(largest, abs(clip_value(g, params.clip_value)));
        } else {
            failed = 1u + piece.layer;
        }
    }
    var sum = 0.0;
    if largest < SMALLEST_NORMAL {
        largest = 0.0;
    }
    if largest > 0.0 && failed == 0u {
        for (var at = elements.begin + local; at < elements.end; at += WG_SIZE) {
            let part = share(clip_value(gradients[at], params.clip_value), largest);
            sum += part * part;
        }
    }
    let all = joined_of_workgroup(Partial(largest, sum, failed, 0u), local);
    if local == 0u {
        partials[params.first + index] = all;
    }
}
