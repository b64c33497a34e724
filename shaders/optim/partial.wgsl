// optim/partial: a part of the gradient's norm.
struct Partial {
    largest: f32,    // the largest |g|
    sum: f32,        // of (g / largest)^2
    not_finite: u32, // 1 if any g is infinite or NaN
    layer: u32,
}

// part / whole for |part| <= whole. WGSL promises nothing about divisors below 2^-126 or above 2^126, so both numbers are
// scaled towards 1 by a power of two, which rounds nothing.
fn share(part: f32, whole: f32) -> f32 {
    let middle = select(select(1.0, 0x1p-64f, whole > 0x1p60f), 0x1p64f, whole < 0x1p-60f);
    return (part * middle) / (whole * middle);
}
