// optim/overflow: an update is tried before it is made, so that one that overflows changes nothing at all.
//
// An optimiser's kernel runs twice over every run of parameters: with params.trial it computes the new values and only
// notes in status whether one of them is infinite or NaN; without, after the trials of all runs, it writes them. It is the
// same pipeline both times, so both compute the same bits.
// Mirror: gatefold-reference, optim::last_not_finite.
const OVERFLOW_BLOCK: u32 = 64u; // elements; parameters begin at multiples of it

// Whether this dispatch has nothing to do: after a failed step nothing changes. A trial looks at all elements of its own
// step, whatever others have noted, so that status does not depend on their order.
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
