// scan/grid_probe: do so many workgroups run at the same time?
//
//   sync[SEEN] = the number of workgroups that saw all of them arrive        sync[GAVE_UP] = 1 if one of them did not
//
// Each workgroup holds FILLED words of workgroup memory while it waits, as those of a scan may. Joined with grid_wait.
// Mirror: none; the result is a property of the device.
struct GridProbe {
    groups: u32, // workgroups of the dispatch
    spins: u32,
    _pad0: u32,
    _pad1: u32,
}

@group(0) @binding(0) @coherent var<storage, read_write> sync: array<atomic<u32>>; // [1 + 1 crew, SYNC_STRIDE]

const SEEN: u32 = 1u;

var<workgroup> filled: array<u32, FILLED>;

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(local_invocation_index) local: u32) {
    for (var i = local; i < FILLED; i += WG_SIZE) {
        filled[i] = i;
    }
    arrive(0u, local);
    var spent = 0u;
    if wait_for(0u, params.groups, local, &spent) && local == 0u {
        // Counts one, but only because the memory still holds what was put there.
        let at = spent % FILLED;
        atomicAdd(&sync[SEEN], 1u + filled[at] - at);
    }
}
