// optim/clip_value: an element of the gradient held within +-limit, before the norm is taken; 0 holds nothing.
// (torch.nn.utils.clip_grad_value_). What is not finite has stopped training before.
// Mirror: gatefold-reference, optim::clip_value.
fn clip_value(g: f32, limit: f32) -> f32 {
    return select(g, clamp(g, -limit, limit), limit > 0.0);
}
