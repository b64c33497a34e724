// shared/lanes_subgroup: eight neighbouring lanes each load one of eight values and pass them around.
//
// A lane loads element k + lane % LANES of a row that the whole workgroup shares; `spread(value, j)` then gives every lane
// the value that lane j holds. So a row is loaded once per subgroup instead of once per lane. Needs subgroups of at least
// LANES lanes, and control flow that is uniform in the workgroup: indices are clamped, stores are guarded, and no kernel
// returns early.
const LANES: u32 = 8u;

fn spread(value: f32, j: u32) -> f32 {
    return subgroupShuffle(value, j);
}

@compute @workgroup_size(WG_SIZE)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    kernel(group, local, lane % LANES);
}
