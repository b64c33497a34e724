// optim/finish_norm: the global norm from its partials, the factor that clips it, and the sticky failure.
//
//   norm = M sqrt(sum of partial.sum (partial.largest / M)^2), M the largest      scale = min(1, clip / (norm + 1e-6))
//
// (torch.nn.utils.clip_grad_norm_). If the gradient is not finite, status keeps the step and the layer nearest the loss,
// unless an earlier step failed.
// One workgroup: each invocation takes every WG_SIZE-th partial, the first then combines their results.
// Mirror: gatefold-reference, optim::finish_norm.
struct FinishNorm {
    partials: u32,
    clip: f32, // 0 to clip nothing
    _pad0: u32,
    _pad1: u32,
}

@group(0) @binding(0) var<storage, read>       partials: array<Partial>;
@group(0) @binding(1) var<storage, read>       hyper:    Hyper;
@group(0) @binding(2) var<storage, read_write> status:   Status;

var<workgroup> largest_of: array<f32, WG_SIZE>;
var<workgroup> failed_of: array<u32, WG_SIZE>; // 1 + layer, 0 for none
var<workgroup> sum_of: array<f32, WG_SIZE>;

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(local_invocation_index) local: u32) {
    var largest = 0.0;
    var failed = 0u;
    for (var p = local; p < params.partials; p += WG_SIZE) {
        largest = max(largest, partials[p].largest);
        failed = max(failed, partials[p].not_finite * (1u + partials[p].layer));
    }
    largest_of[local] = largest;
    failed_of[local] = failed;
    workgroupBarrier();
    for (var i = 0u; i < WG_SIZE; i++) {
        largest = max(largest, largest_of[i]);
        failed = max(failed, failed_of[i]);
    }
    var sum = 0.0;
    if largest > 0.0 {
        for (var p = local; p < params.partials; p += WG_SIZE) {
            let ratio = share(partials[p].largest, largest);
            sum += partials[p].sum * ratio * ratio;
        }
    }
    sum_of[local] = sum;
    workgroupBarrier();
    if local == 0u {
        var total = 0.0;
        for (var i = 0u; i < WG_SIZE; i++) {
            total += sum_of[i];
        }
        let norm = largest * sqrt(total);
        status.norm = norm;
        status.scale = select(1.0, min(1.0, params.clip / (norm + 1e-6)), params.clip > 0.0);
        if failed > 0u && status.failed_step == 0u && atomicLoad(&status.overflow_step) == 0u {
            status.failed_step = hyper.step;
            status.failed_layer = failed - 1u;
        }
    }
}
