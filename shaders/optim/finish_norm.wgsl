// optim/finish_norm: the global norm from its partials, the factor that clips it, and the sticky failure.
//
//   norm = largest sqrt(sum) of all partials joined      scale = min(1, clip / (norm + 1e-6))
//
// (torch.nn.utils.clip_grad_norm_). If the gradient is not finite, status keeps the step and the layer nearest the loss,
// unless an earlier step failed.
// One workgroup: each invocation joins every WG_SIZE-th partial in order, then they join theirs (optim/partial).
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

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(local_invocation_index) local: u32) {
    var own = Partial(0.0, 0.0, 0u, 0u);
    for (var p = local; p < params.partials; p += WG_SIZE) {
        own = joined(own, partials[p]);
    }
    let all = joined_of_workgroup(own, local);
    if local == 0u {
        let norm = all.largest * sqrt(all.sum);
        status.norm = norm;
        status.scale = select(1.0, min(1.0, params.clip / (norm + 1e-6)), params.clip > 0.0);
        if all.failed > 0u && status.failed_step == 0u && atomicLoad(&status.overflow_step) == 0u {
            status.failed_step = hyper.step;
            status.failed_layer = all.failed - 1u;
        }
    }
}
