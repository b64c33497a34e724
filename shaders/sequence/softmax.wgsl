// sequence/softmax: the softmax of each row.
//
//   y[k] = exp(x[k] - max x) / sum over j of exp(x[j] - max x)
//
// No exponential of a positive number is taken. NaN anywhere in a row makes all of it NaN.
// TEAM invocations per row, workgroups in two axes. Three barriers.
// Mirror: gatefold-reference, sequence::softmax.
struct Softmax {
    rows: u32,
    width: u32,
    x_offset: u32, // of the first element
    groups_x: u32,
}

@group(0) @binding(0) var<storage, read>       x: array<f32>; // [rows, width]
@group(0) @binding(1) var<storage, read_write> y: array<f32>; // [rows, width]

const LOWEST: f32 = -87.0; // e^-87 is the last power that is a normal number

fn bounded_exp(x: f32) -> f32 {
    return unless_nan(x, select(exp(max(x, LOWEST)), 0.0, x < LOWEST));
}

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let row = (group.y * params.groups_x + group.x) * (WG_SIZE / TEAM) + local / TEAM;
    let member = local % TEAM;
    let begin = min(row, params.rows - 1u) * params.width;
    var largest = x[params.x_offset + begin];
    for (var k = member; k < params.width; k += TEAM) {
        largest = max(largest, x[params.x_offset + begin + k]);
    }
    parts[local] = largest;
    workgroupBarrier();
    for (var j = 0u; j < TEAM; j++) {
        largest = max(largest, parts[local / TEAM * TEAM + j]);
    }
    workgroupBarrier();
    var part = 0.0;
    for (var k = member; k < params.width; k += TEAM) {
        part += bounded_exp(x[params.x_offset + begin + k] - largest);
    }
    let sum = team_sum(local, part);
    if row < params.rows {
        for (var k = member; k < params.width; k += TEAM) {
            y[begin + k] = bounded_exp(x[params.x_offset + begin + k] - largest) / sum;
        }
    }
}
