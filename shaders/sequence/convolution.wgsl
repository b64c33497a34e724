// sequence/convolution: the params of unfold and fold, and the length of a row.
struct Convolution {
    steps: u32,       // T
    out_steps: u32,   // T'
    batch: u32,       // B
    width: u32,       // I
    weights: u32,     // K, steps that an output step reads
    stride: u32,
    dilation: u32,
    left: u32,        // steps of padding before a row
    offset: u32,      // of the first element of x, or of d
    groups_x: u32,
    _pad0: u32,
    _pad1: u32,
}

fn length_of(b: u32) -> u32 {
    if LENGTHS {
        return min(lengths[b], params.steps);
    }
    return params.steps;
}
