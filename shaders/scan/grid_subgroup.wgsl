// scan/grid_subgroup: PARTS neighbouring lanes of a subgroup add their parts of a product.
//
// Needs subgroups of at least PARTS lanes, and workgroups of whole subgroups.
fn combine(parts: array<Sum, SUMS>) -> array<Sum, SUMS> {
    var sums = parts;
    for (var distance = 1u; distance < PARTS; distance *= 2u) {
        for (var i = 0u; i < SUMS; i++) {
            sums[i] += subgroupShuffleXor(sums[i], distance);
        }
    }
    return sums;
}

@compute @workgroup_size(WG_SIZE)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(subgroup_size) size: u32,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    // Not local_invocation_index: nothing promises that neighbours there are neighbours in a subgroup.
    kernel(group, subgroup * size + lane);
}
