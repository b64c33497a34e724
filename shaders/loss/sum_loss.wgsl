// loss/sum_loss: the parts of a loss, added in order and appended to the list of losses.
//
//   losses[1 + count] = sum of parts, count = count + 1        count is the first word of losses
//
// One workgroup: each invocation adds every WG_SIZE-th part, the first then adds their sums.
// Mirror: gatefold-reference, loss::sum_loss.
struct SumLoss {
    parts: u32,
    capacity: u32, // losses that the list can hold; the host empties it before it is full
    _pad0: u32,
    _pad1: u32,
}

@group(0) @binding(0) var<storage, read>       parts:  array<f32>; // [parts]
@group(0) @binding(1) var<storage, read_write> losses: array<u32>; // [1 + capacity], the count, then f32 bits

var<workgroup> sums: array<f32, WG_SIZE>;

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(local_invocation_index) local: u32) {
    var sum = 0.0;
    for (var p = local; p < params.parts; p += WG_SIZE) {
        sum += parts[p];
    }
    sums[local] = sum;
    workgroupBarrier();
    if local == 0u {
        var total = 0.0;
        for (var i = 0u; i < WG_SIZE; i++) {
            total += sums[i];
        }
        let at = losses[0];
        if at < params.capacity {
            losses[1u + at] = bitcast<u32>(total);
            losses[0] = at + 1u;
        }
    }
}
