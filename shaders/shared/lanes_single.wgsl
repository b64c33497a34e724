// shared/lanes_single: every invocation loads for itself; stands in for lanes_subgroup on devices without subgroups.
const LANES: u32 = 1u;

fn spread(value: f32, j: u32) -> f32 {
    return value;
}

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    kernel(group, local, 0u);
}
