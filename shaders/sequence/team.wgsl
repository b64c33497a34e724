// sequence/team: TEAM neighbouring invocations share a row, so that narrow rows fill a workgroup, and a whole workgroup walks
// a wide one.
var<workgroup> parts: array<f32, WG_SIZE>;

fn team_sum(local: u32, part: f32) -> f32 {
    parts[local] = part;
    workgroupBarrier();
    let first = local / TEAM * TEAM;
    var sum = 0.0;
    for (var j = 0u; j < TEAM; j++) {
        sum += parts[first + j];
    }
    return sum;
}
