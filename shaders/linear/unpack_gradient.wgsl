// linear/unpack_gradient: slices of packed gradients, added in order into the gradients of their parameters. Each job:
//
//   d[d_begin + i0 s0 + i1 s1 + i2 s2] += sum over z of parts[z, i0, i1, i2]
//
// The inverse of pack. Since it adds, tied layers and accumulated batches need nothing more. With lane_axis 2, i2 counts
// lanes, and the map says which gate each lane holds, as in pack; lanes without a gate are left out. No two jobs of a
// dispatch add to one element.
// A workgroup adds WG_SIZE * EACH elements of one job, as in pack; the workgroups of the jobs follow one another, in two
// axes. No barriers.
// Mirror: gatefold-reference, linear::unpack_gradient.
struct UnpackGradient {
    jobs: u32,
    groups_x: u32,
    sources: u32,     // bound
    most_slices: u32, // of a job
}

struct UnpackJob {
    first_group: u32,
    size0: u32,
    size1: u32,
    size2: u32,
    stride0: u32,
    stride1: u32,
    stride2: u32,
    slices: u32,
    lane_axis: u32,     // 0 for none, else 2
    map: u32,
    source_number: u32, // from 0
    d_begin: u32,
    d_len: u32,         // of the parameter
    _pad0: u32,
    _pad1: u32,
    _pad2: u32,
}

@group(0) @binding(0) var<storage, read>       jobs:    array<UnpackJob>;
@group(0) @binding(1) var<storage, read>       source0: array<f32>; // each [slices, size0, size1, size2]
@group(0) @binding(2) var<storage, read>       source1: array<f32>;
@group(0) @binding(3) var<storage, read>       source2: array<f32>;
@group(0) @binding(4) var<storage, read>       source3: array<f32>;
@group(0) @binding(5) var<storage, read>       source4: array<f32>;
@group(0) @binding(6) var<storage, read_write> d:       array<f32>;

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let group = workgroup.y * params.groups_x + workgroup.x;
    var number = 0u;
    for (var next = 1u; next < params.jobs && jobs[next].first_group <= group; next++) {
        number = next;
    }
    let job = jobs[number];
    let begin = (group - job.first_group) * (WG_SIZE * EACH);
    let end = min(begin + WG_SIZE * EACH, job.size0 * job.size1 * job.size2);
    for (var i = begin + local; i < end; i += WG_SIZE) {
        add(job, i);
    }
}

// Adds element i of a job.
fn add(job: UnpackJob, i: u32) {
    let plane = job.size1 * job.size2;
    let len = job.size0 * plane;
    var i2 = i % job.size2;
    if job.lane_axis != 0u {
        i2 = (job.map >> (4u * i2)) & 15u;
        if i2 == 15u {
            return;
        }
    }
    let slices = min(job.slices, params.most_slices);
    var sum = 0.0;
    switch min(job.source_number, params.sources - 1u) {
        case 0u: {
            for (var at = i; at < min(slices * len, arrayLength(&source0)); at += len) {
                sum += source0[at];
            }
        }
        case 1u: {
            for (var at = i; at < min(slices * len, arrayLength(&source1)); at += len) {
                sum += source1[at];
            }
        }
        case 2u: {
            for (var at = i; at < min(slices * len, arrayLength(&source2)); at += len) {
                sum += source2[at];
            }
        }
        case 3u: {
            for (var at = i; at < min(slices * len, arrayLength(&source3)); at += len) {
                sum += source3[at];
            }
        }
        default: {
            for (var at = i; at < min(slices * len, arrayLength(&source4)); at += len) {
                sum += source4[at];
            }
        }
    }
    let at = (i / plane) * job.stride0 + ((i % plane) / job.size2) * job.stride1 + i2 * job.stride2;
    if at < job.d_len && job.d_begin + at < arrayLength(&d) {
        d[job.d_begin + at] += sum;
    }
}
