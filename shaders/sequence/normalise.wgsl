// sequence/normalise: the params of normalise_rows, its backward and its tangent, and the moments of a row.
struct NormaliseRows {
    rows: u32,
    width: u32,
    x_offset: u32, // of the first element
    d_offset: u32, // of the first element of d_y, or of x_dot
    epsilon: f32,  // added to the variance
    groups_x: u32,
    _pad0: u32,
    _pad1: u32,
}

struct Moments {
    mean: f32,
    scale: f32, // 1 / sqrt(variance + epsilon)
}

// Two barriers, and one more before the next sum of the team.
fn moments(local: u32, begin: u32) -> Moments {
    let first = params.x_offset + begin;
    var part = 0.0;
    for (var k = local % TEAM; k < params.width; k += TEAM) {
        part += x[first + k];
    }
    let mean = team_sum(local, part) / f32(params.width);
    workgroupBarrier();
    part = 0.0;
    for (var k = local % TEAM; k < params.width; k += TEAM) {
        let centred = x[first + k] - mean;
        part += centred * centred;
    }
    let variance = team_sum(local, part) / f32(params.width);
    workgroupBarrier();
    return Moments(mean, 1.0 / sqrt(variance + params.epsilon));
}
