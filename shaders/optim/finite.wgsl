// optim/finite: the test for infinities and NaNs. WGSL has no isNan, and compilers may assume that numbers are finite, so
// it looks at the bits.
const EXPONENT: u32 = 0x7f800000u; // all ones in infinities and NaNs

fn is_finite(x: f32) -> bool {
    return (bitcast<u32>(x) & EXPONENT) != EXPONENT;
}
