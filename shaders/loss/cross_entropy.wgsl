// loss/cross_entropy: softmax and cross-entropy of logits, given whole-number labels, and the gradient with respect to the
// logits.
//
//   e_c = exp(y_c - M), M the largest y        loss = log(sum e) - (y_label - M)        d_y_c = weight (e_c / sum e - [c = label])
//
// No exponential overflows, and one of them is 1, so the logarithm is of 1 or more. Rows of weight 0 or with a negative label
// give exactly 0, whatever they hold.
// With WIDE a workgroup shares a row and its invocations exchange their results; without, each row has one invocation.
// parts[row] = weight loss; sum_loss adds them.
// Mirror: gatefold-reference, loss::cross_entropy.
struct CrossEntropy {
    rows: u32,
    classes: u32,
    groups_x: u32,
    _pad: u32,
}

@group(0) @binding(0) var<storage, read>       y:       array<f32>; // [rows, classes]
@group(0) @binding(1) var<storage, read>       wanted:  array<f32>; // [rows], whole numbers
@group(0) @binding(2) var<storage, read>       weights: array<f32>; // [rows]
@group(0) @binding(3) var<storage, read_write> d_y:     array<f32>; // [rows, classes]
@group(0) @binding(4) var<storage, read_write> parts:   array<f32>; // [rows]

var<workgroup> shared_by_row: array<f32, WG_SIZE>;

// The largest of the values that the row's invocations hold.
fn largest_of(local: u32, mine: f32) -> f32 {
    var found = mine;
    if WIDE {
        shared_by_row[local] = mine;
        workgroupBarrier();
        for (var i = 0u; i < WG_SIZE; i++) {
            found = max(found, shared_by_row[i]);
        }
        workgroupBarrier();
    }
    return found;
}

// The sum of the values that the row's invocations hold, in their order.
fn sum_of(local: u32, mine: f32) -> f32 {
    var found = mine;
    if WIDE {
        shared_by_row[local] = mine;
        workgroupBarrier();
        found = 0.0;
        for (var i = 0u; i < WG_SIZE; i++) {
            found += shared_by_row[i];
        }
    }
    return found;
}

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let index = group.y * params.groups_x + group.x;
    let row = select(index * WG_SIZE + local, index, WIDE);
    let lane = select(0u, local, WIDE);
    let lanes = select(1u, WG_SIZE, WIDE);
    // No early return: every invocation meets the barriers. Those past the last row repeat it and write nothing.
    let inside = row < params.rows;
    let begin = min(row, params.rows - 1u) * params.classes;
    let label = wanted[min(row, params.rows - 1u)];
    let weight = weights[min(row, params.rows - 1u)];
    let counts = weight != 0.0 && label >= 0.0;

    var largest = y[begin];
    for (var c = lane; c < params.classes; c += lanes) {
        largest = max(largest, y[begin + c]);
    }
    largest = largest_of(local, largest);
    var sum = 0.0;
    for (var c = lane; c < params.classes; c += lanes) {
        sum += exp(y[begin + c] - largest);
    }
    sum = sum_of(local, sum);
    if inside {
        for (var c = lane; c < params.classes; c += lanes) {
            let d = exp(y[begin + c] - largest) / sum - select(0.0, 1.0, f32(c) == label);
            d_y[begin + c] = select(0.0, weight * d, counts);
        }
        if lane == 0u {
            let at = min(u32(max(label, 0.0)), params.classes - 1u);
            parts[row] = select(0.0, weight * (log(sum) - (y[begin + at] - largest)), counts);
        }
    }
}
