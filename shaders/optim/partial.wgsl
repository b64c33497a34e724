// optim/partial: a part of the gradient's norm, and how parts are joined without overflow.
//
//   largest = max(a.largest, b.largest)      sum = a.sum (a.largest / largest)^2 + b.sum (b.largest / largest)^2
//
// Scaling as in nrm2 of the BLAS (Lawson et al. 1979).
struct Partial {
    largest: f32, // the largest |g|
    sum: f32,     // of (g / largest)^2
    failed: u32,  // 1 + the layer if any g is infinite or NaN; of several, the one nearest the loss
    _pad: u32,
}

// part / whole for |part| <= whole. WGSL promises nothing about divisors below 2^-126 or above 2^126, so both numbers are
// scaled towards 1 by a power of two, which rounds nothing.
fn share(part: f32, whole: f32) -> f32 {
    let middle = select(select(1.0, 0x1p-64f, whole > 0x1p60f), 0x1p64f, whole < 0x1p-60f);
    return (part * middle) / (whole * middle);
}

fn joined(a: Partial, b: Partial) -> Partial {
    let largest = max(a.largest, b.largest);
    var sum = 0.0;
    if largest > 0.0 {
        let of_a = share(a.largest, largest);
        let of_b = share(b.largest, largest);
        sum = a.sum * of_a * of_a + b.sum * of_b * of_b;
    }
    return Partial(largest, sum, max(a.failed, b.failed), 0u);
}

var<workgroup> partial_of: array<Partial, WG_SIZE>;

// The parts of all invocations, joined pair by pair in a fixed order. WG_SIZE is a power of two. A barrier, and one for
// each halving; all invocations of the workgroup call it together.
fn joined_of_workgroup(own: Partial, local: u32) -> Partial {
    partial_of[local] = own;
    workgroupBarrier();
    for (var half = WG_SIZE / 2u; half > 0u; half /= 2u) {
        if local < half {
            partial_of[local] = joined(partial_of[local], partial_of[local + half]);
        }
        workgroupBarrier();
    }
    return partial_of[0];
}
