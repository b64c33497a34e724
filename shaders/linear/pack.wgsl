// linear/pack: tensors with their axes reordered, so that kernels read them in the order in which they walk. Each job:
//
//   out[out_begin + i0 out_stride + i1 size2 + i2] = source[from + i0 s0 + i1 s1 + i2 s2]
//                                                    (+ source[other + ...] there, if there is an other)
//
// With lane_axis 1 or 2, i1 or i2 counts lanes instead of gates, and a map says which gate each lane holds: its j-th four
// bits are the gate of lane j, 15 for a lane of zeros. No two jobs of a dispatch write one element.
// A workgroup packs WG_SIZE * EACH elements of one job, each invocation every WG_SIZE-th of them; the workgroups of the jobs
// follow one another, in two axes. No barriers.
// A software driver reads the row of the table word by word and lane by lane, so there EACH is large.
// Mirror: gatefold-reference, linear::pack.
struct Pack {
    jobs: u32,
    groups_x: u32,
    outs: u32, // bound
    _pad: u32,
}

struct PackJob {
    first_group: u32,
    size0: u32,
    size1: u32,
    size2: u32,
    stride0: u32,
    stride1: u32,
    stride2: u32,
    lane_axis: u32,  // 0 for none
    map: u32,
    other_map: u32,
    from_begin: u32,
    other: u32,      // NO_OTHER for none
    out_number: u32, // from 0
    out_begin: u32,
    out_stride: u32, // of the first axis
    _pad: u32,
}

@group(0) @binding(0) var<storage, read>       jobs:   array<PackJob>;
@group(0) @binding(1) var<storage, read>       source: array<f32>;
@group(0) @binding(2) var<storage, read_write> out0:   array<f32>; // each [size0, size1, size2] from out_begin on
@group(0) @binding(3) var<storage, read_write> out1:   array<f32>;
@group(0) @binding(4) var<storage, read_write> out2:   array<f32>;
@group(0) @binding(5) var<storage, read_write> out3:   array<f32>;
@group(0) @binding(6) var<storage, read_write> out4:   array<f32>;

const NO_OTHER: u32 = 0xffffffffu;

// The element of the source for element i of the packed tensor; 0 for a lane of zeros.
fn element(job: PackJob, i: u32, begin: u32, map: u32) -> f32 {
    let plane = job.size1 * job.size2;
    var index = vec3<u32>(i / plane, (i % plane) / job.size2, i % job.size2);
    if job.lane_axis != 0u {
        let lane = select(index.z, index.y, job.lane_axis == 1u);
        let gate = (map >> (4u * lane)) & 15u;
        if gate == 15u {
            return 0.0;
        }
        index = select(vec3<u32>(index.xy, gate), vec3<u32>(index.x, gate, index.z), job.lane_axis == 1u);
    }
    let at = begin + index.x * job.stride0 + index.y * job.stride1 + index.z * job.stride2;
    if at >= arrayLength(&source) {
        return 0.0;
    }
    return source[at];
}

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let group = workgroup.y * params.groups_x + workgroup.x;
    var number = 0u;
    for (var next = 1u; next < params.jobs && jobs[next].first_group <= group; next++) {
        number = next;
    }
    let job = jobs[number];
    let begin = (group - job.first_group) * (WG_SIZE * EACH);
    let plane = job.size1 * job.size2;
    let end = min(begin + WG_SIZE * EACH, job.size0 * plane);
    for (var i = begin + local; i < end; i += WG_SIZE) {
        var value = element(job, i, job.from_begin, job.map);
        if job.other != NO_OTHER {
            value += element(job, i, job.other, job.other_map);
        }
        store(job, job.out_begin + (i / plane) * job.out_stride + i % plane, value);
    }
}

fn store(job: PackJob, at: u32, value: f32) {
    switch min(job.out_number, params.outs - 1u) {
        case 0u: { if at < arrayLength(&out0) { out0[at] = value; } }
        case 1u: { if at < arrayLength(&out1) { out1[at] = value; } }
        case 2u: { if at < arrayLength(&out2) { out2[at] = value; } }
        case 3u: { if at < arrayLength(&out3) { out3[at] = value; } }
        default: { if at < arrayLength(&out4) { out4[at] = value; } }
    }
}
