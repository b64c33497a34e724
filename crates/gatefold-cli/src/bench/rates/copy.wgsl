// A copy of a large buffer that adds 1 to every element, so that the result tells how often it ran.
//
//   to = from + 1
//
// One invocation owns one vector; workgroups lie along two axes.
@group(0) @binding(0) var<storage, read>       source: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read_write> result: array<vec4<u32>>;

@compute @workgroup_size(64)
fn main(
    @builtin(global_invocation_id) id: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    let at = id.y * groups.x * 64u + id.x;
    if at < arrayLength(&source) {
        result[at] = source[at] + vec4<u32>(1u);
    }
}
