// optim/piece: a stretch of the gradient within one parameter, with the settings of that parameter. A workgroup treats one
// piece; invocation l takes its elements l, l + WG_SIZE, ...
struct Piece {
    offset: u32,      // its first element in the buffers of gradients, values and moments
    len: u32,         // at most MAX_PIECE_LEN
    layer: u32,
    rate_factor: f32, // on the learning rate
    decay: f32,       // of the weights
    _pad0: u32,
    _pad1: u32,
    _pad2: u32,
}

const MAX_PIECE_LEN: u32 = 4096u;

// The elements of a piece, as far as buffers of `available` elements have them.
struct Stretch { begin: u32, end: u32 }

fn stretch(piece: Piece, available: u32) -> Stretch {
    let begin = min(piece.offset, available);
    return Stretch(begin, min(begin + min(piece.len, MAX_PIECE_LEN), available));
}
