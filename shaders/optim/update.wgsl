// optim/update: the loop of every optimiser over its pieces. An update is tried before it is made, so that one that
// overflows changes nothing at all.
//
// The kernel runs twice over all pieces: with params.trial it computes the new values and only notes in status whether
// one of them is infinite or NaN; without, after the trials of all buffers, it writes them. It is the same pipeline both
// times, so both compute the same bits. The run that writes also clears the gradient, whether or not it updates.
//
// An optimiser gives `available`, the elements that all of its buffers have, and `change`, the update of one element.
// Mirror: gatefold-reference, optim::last_not_finite.
const OVERFLOW_BLOCK: u32 = 64u; // elements; parameters begin at multiples of it

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let index = group.y * params.groups_x + group.x;
    if index >= params.pieces {
        return;
    }
    let piece = pieces[index];
    let elements = stretch(piece, available());
    let withheld = is_withheld();
    for (var at = elements.begin + local; at < elements.end; at += WG_SIZE) {
        if !withheld {
            change(at, piece);
        }
        if params.trial == 0u {
            gradients[at] = 0.0;
        }
    }
}

// Whether parameters stay as they are: after a failed step nothing changes. A trial looks at all elements of its own step,
// whatever others have noted, so that status does not depend on their order.
fn is_withheld() -> bool {
    let overflow_step = atomicLoad(&status.overflow_step);
    let overflowed = overflow_step != 0u && (params.trial == 0u || overflow_step != hyper.step);
    return status.failed_step != 0u || overflowed;
}

// Notes that the element at this place of its buffer overflows.
fn note_overflow(at: u32) {
    atomicStore(&status.overflow_step, hyper.step);
    atomicMax(&status.overflow_block, params.first_block + at / OVERFLOW_BLOCK);
}
