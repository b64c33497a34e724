// scan/grid_single: stands in for grid_subgroup on devices without subgroups. PARTS is 1; all parts meet in workgroup memory.
fn combine(parts: array<Sum, SUMS>) -> array<Sum, SUMS> {
    return parts;
}

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    kernel(group, local);
}
