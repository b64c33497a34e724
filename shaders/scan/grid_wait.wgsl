// scan/grid_wait: workgroups of one dispatch that wait for each other.
//
// Workgroups that wait for each other are a crew. Each arrives at the end of a step, and waits for the arrivals of all before
// the next one. Joined with a kernel whose params have spins, and which declares sync, coherent words that are zero before the
// first dispatch: at GAVE_UP whether some workgroup gave up, and for each crew a counter of arrivals.
//
// Written before arrive() by any invocation, coherent storage can be read after wait_for() by any invocation of the crew: the
// barriers make it available to the device and visible from there. The atomic operations by themselves order nothing.
//
// Nothing promises that all workgroups of a crew run at the same time. So a workgroup waits params.spins turns in all, then
// gives up, and every other one finds that out by its next turn. Whatever the dispatch has written is then worthless.
const SYNC_STRIDE: u32 = 32u; // words from one counter to the next: no two share a line of a cache
const GAVE_UP: u32 = 0u;

const NOT_YET: u32 = 0u;
const ALL_ARRIVED: u32 = 1u;
const STOPPED: u32 = 2u;

var<workgroup> verdict: u32;

fn counter_of(crew: u32) -> u32 {
    return (1u + crew) * SYNC_STRIDE;
}

fn arrive(crew: u32, local: u32) {
    storageBarrier();
    if local == 0u {
        atomicAdd(&sync[counter_of(crew)], 1u);
    }
}

fn look(crew: u32, wanted: u32) -> u32 {
    for (var poll = 0u; poll < POLLS; poll++) {
        if atomicLoad(&sync[GAVE_UP]) != 0u {
            return STOPPED;
        }
        if atomicLoad(&sync[counter_of(crew)]) >= wanted {
            return ALL_ARRIVED;
        }
    }
    return NOT_YET;
}

// Waits for so many arrivals in all; false if it or another workgroup gave up. The same for the whole workgroup.
fn wait_for(crew: u32, wanted: u32, local: u32, spent: ptr<function, u32>) -> bool {
    loop {
        if local == 0u {
            verdict = look(crew, wanted);
        }
        let found = workgroupUniformLoad(&verdict);
        if found == ALL_ARRIVED {
            storageBarrier();
            return true;
        }
        if found == STOPPED || *spent >= params.spins {
            break;
        }
        *spent += 1u;
    }
    if local == 0u {
        atomicStore(&sync[GAVE_UP], 1u);
    }
    return false;
}
