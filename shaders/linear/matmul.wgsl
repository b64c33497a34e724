// linear/matmul: a matrix product, or one slice of its inner axis.
//
//   c[m, n] = act(sum over k of a[m, k] b[k, n] + bias[n])              with one slice
//   c[z, m, n] = sum over the k of slice z, without bias and act        with several; sum_slices adds them in order
//
// a and b are read through strides, so the same text serves A, A^T, B and B^T.
// The rows of a (SKIP_ROWS) or of b (SKIP_INNER) may be the steps of sequences of different length, [T, batch]. A tile of
// rows, or a block of LANES inner elements, that lies past the ends of all its sequences is skipped as if it were zero.
// One invocation per ROWS rows and COLUMNS columns of one slice; a workgroup shares its rows. No barriers.
// Joined with one of the lanes files, one of the columns files and factors. Strides of b and n are in Columns.
// Mirror: gatefold-reference, linear::matmul.
@group(0) @binding(0) var<storage, read>       a:       array<f32>;    // [M, K] by strides
@group(0) @binding(1) var<storage, read>       b:       array<Column>; // [K, N] by strides
@group(0) @binding(2) var<storage, read>       bias:    array<Column>; // [N]; read with BIAS
@group(0) @binding(3) var<storage, read>       lengths: array<u32>;    // [batch]; read with SKIP_ROWS or SKIP_INNER
@group(0) @binding(4) var<storage, read_write> c:       array<Column>; // [slices, M, N]

// Whether one of the next rows is a step of its sequence; moves past them.
fn any_step(place: ptr<function, Place>, rows: u32) -> bool {
    var found = false;
    for (var n = 0u; n < rows; n++) {
        found |= (*place).step < lengths[(*place).sequence];
        (*place).sequence += 1u;
        if (*place).sequence == params.batch {
            *place = Place((*place).step + 1u, 0u);
        }
    }
    return found;
}

fn kernel(group: vec3<u32>, local: u32, lane: u32) {
    let first_column = group.x * WG_SIZE * COLUMNS + local;
    let first_row = group.y * ROWS;
    let begin = group.z * params.slice_len;
    var end = min(begin + params.slice_len, params.k);
    if SKIP_ROWS {
        var place = place_of(first_row);
        if !any_step(&place, ROWS) {
            end = begin;
        }
    }

    var inner: Place;
    if SKIP_INNER {
        inner = place_of(begin);
    }
    var sums: array<Column, ROWS * COLUMNS>;
    for (var k = begin; k < end; k += LANES) {
        if SKIP_INNER {
            if !any_step(&inner, LANES) {
                continue;
            }
        }
        let mine = k + lane;
        let inside = f32(mine < end);
        var left: array<f32, ROWS>;
        for (var r = 0u; r < ROWS; r++) {
            let row = min(first_row + r, params.m - 1u);
            left[r] = inside
                * a[params.a_offset + row * params.a_row_stride + min(mine, end - 1u) * params.a_k_stride];
        }
        for (var j = 0u; j < LANES; j++) {
            let at_k = min(k + j, end - 1u) * params.b_k_stride;
            for (var i = 0u; i < COLUMNS; i++) {
                let column = min(first_column + i * WG_SIZE, params.n - 1u);
                let right = b[params.b_offset + at_k + column * params.b_column_stride];
                for (var r = 0u; r < ROWS; r++) {
                    sums[r * COLUMNS + i] += spread(left[r], j) * right;
                }
            }
        }
    }

    for (var i = 0u; i < COLUMNS; i++) {
        let column = first_column + i * WG_SIZE;
        if column < params.n {
            for (var r = 0u; r < ROWS; r++) {
                let row = first_row + r;
                if row < params.m {
                    var sum = sums[r * COLUMNS + i];
                    if BIAS {
                        sum += bias[column];
                    }
                    c[(group.z * params.m + row) * params.n + column] = activate_column(sum);
                }
            }
        }
    }
}
