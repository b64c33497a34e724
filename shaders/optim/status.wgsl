// optim/status: the values that the host sets before every update, and the state that the device keeps across updates.
//
// failed_step and overflow_step are sticky, and only the first failure sets one of them: failed_step, if the step's gradient
// is not finite; overflow_step, if the step would leave a parameter or a moment infinite or NaN. From then on, and in that
// step itself, no update changes anything. The host clears an overflow that it has reported.
struct Hyper {
    step: u32,              // from 1
    learning_rate: f32,
    correction1: f32,       // 1 - beta1^step
    correction2: f32,       // 1 - beta2^step
    clip_value: f32,        // the largest element of the gradient, 0 for any
    average_weight: f32,    // of the new parameters in their moving average
    _pad0: u32,
    _pad1: u32,
}

struct Status {
    failed_step: u32,  // 0 while all is well
    failed_layer: u32, // the one nearest the loss
    norm: f32,         // of the last gradient
    scale: f32,        // the factor by which clipping shrinks it
    overflow_step: atomic<u32>,  // 0 while all is well
    overflow_block: atomic<u32>, // the last block of elements that overflows, counted through all buffers of parameters
    _pad0: u32,
    _pad1: u32,
}
