// optim/clip_value: an element of the gradient clamped to +-limit, before the norm is taken; a limit of 0 clamps nothing
// (torch.nn.utils.clip_grad_value_). Elements that are not finite have stopped training before this.
// Mirror: gatefold-reference, optim::clip_value.
fn clip_value(g: f32, limit: f32) -> f32 {
    return select(g, clamp(g, -limit, limit), limit > 0.0);
}
