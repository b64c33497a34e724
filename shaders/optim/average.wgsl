// optim/average: the exponential moving average of the parameters, after an update of them.
//
//   a = p at the first update, where the weight is 1      a = a + (weight p - weight a) after that
//
// Products before their difference, so that nothing overflows and an average that is the value stays so.
// One workgroup per piece of a parameter (optim/piece). Like the parameters, the average stays as it is after a failed step.
// Mirror: gatefold-reference, optim::average.
struct Average {
    pieces: u32,
    groups_x: u32,
    _pad0: u32,
    _pad1: u32,
}

@group(0) @binding(0) var<storage, read>       hyper:    Hyper;
@group(0) @binding(1) var<storage, read>       pieces:   array<Piece>;
@group(0) @binding(2) var<storage, read_write> status:   Status; // only read; atomics cannot be bound so
@group(0) @binding(3) var<storage, read>       values:   array<f32>;
@group(0) @binding(4) var<storage, read_write> averages: array<f32>;

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let index = group.y * params.groups_x + group.x;
    if index >= params.pieces || status.failed_step != 0u || atomicLoad(&status.overflow_step) != 0u {
        return;
    }
    let elements = stretch(pieces[index], min(arrayLength(&values), arrayLength(&averages)));
    let weight = hyper.average_weight;
    for (var at = elements.begin + local; at < elements.end; at += WG_SIZE) {
        let value = values[at];
        let average = averages[at];
        averages[at] = select(average + (weight * value - weight * average), value, weight == 1.0);
    }
}
