// scan/parts_shared: PARTS neighbouring invocations share a unit's products and add their parts in workgroup memory; stands
// in for parts_subgroup on devices without subgroups.
var<workgroup> shared_parts: array<Sum, WG_SIZE * SUMS>;

fn combine(local: u32, parts: array<Sum, SUMS>) -> array<Sum, SUMS> {
    var sums = parts;
    if PARTS > 1u {
        for (var i = 0u; i < SUMS; i++) {
            shared_parts[i * WG_SIZE + local] = sums[i];
        }
        workgroupBarrier();
        let first = local / PARTS * PARTS;
        for (var i = 0u; i < SUMS; i++) {
            sums[i] = shared_parts[i * WG_SIZE + first];
            for (var j = 1u; j < PARTS; j++) {
                sums[i] += shared_parts[i * WG_SIZE + first + j];
            }
        }
    }
    return sums;
}

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    kernel(group, local);
}
