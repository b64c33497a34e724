// linear/matmul_staged: the product of linear/matmul through workgroup memory, for GPUs, where barriers are cheap.
//
//   c[m, n] = act(sum over k of a[m, k] b[k, n] + bias[n])              with one slice
//   c[z, m, n] = sum over the k of slice z, without bias and act        with several; sum_slices adds them in order
//
// A workgroup of SIDE x SIDE invocations owns a tile of one slice, each invocation 4 ROW_QUADS rows and 4 COLUMN_QUADS columns of
// it. DEPTH inner elements at a time go to workgroup memory, as quads: four rows of a or four columns of b, a quarter of the
// tile apart. So neighbours read neighbours from storage, whichever axis is stored along. The next block is read from storage
// before the one at hand is multiplied, which hides the wait. Quads of a block are turned (^ k), so that invocations that
// write different k of one quad meet in no bank.
// The rows of a (SKIP_ROWS) or of b (SKIP_INNER) may be the steps of sequences of different length, [T, batch]. A tile of
// rows, or a block of DEPTH inner elements, that lies past the ends of all its sequences is skipped as if it were zero.
// Each sum runs over k in order. Two barriers a block.
// Joined with columns_f32 and factors.
// Mirror: gatefold-reference, linear::matmul.
@group(0) @binding(0) var<storage, read>       a:       array<f32>;    // [M, K] by strides
@group(0) @binding(1) var<storage, read>       b:       array<Column>; // [K, N] by strides
@group(0) @binding(2) var<storage, read>       bias:    array<Column>; // [N]; read with BIAS
@group(0) @binding(3) var<storage, read>       lengths: array<u32>;    // [batch]; read with SKIP_ROWS or SKIP_INNER
@group(0) @binding(4) var<storage, read_write> c:       array<Column>; // [slices, M, N]

const SIDE: u32 = 16u;
const DEPTH: u32 = 16u;                       // at most SIDE: a turn stays within SIDE quads
const LEFT_QUADS: u32 = SIDE * ROW_QUADS;     // of a tile
const RIGHT_QUADS: u32 = SIDE * COLUMN_QUADS;

var<workgroup> left:  array<vec4<f32>, DEPTH * LEFT_QUADS>;  // [DEPTH, LEFT_QUADS], turned
var<workgroup> right: array<vec4<f32>, DEPTH * RIGHT_QUADS>; // [DEPTH, RIGHT_QUADS], turned

// An inner element of a block, and a quad.
struct Item {
    k: u32,
    quad: u32,
}

// The item that an invocation moves: neighbours along the axis that is stored along.
fn item_of(number: u32, quads: u32, along_k: bool) -> Item {
    if along_k {
        return Item(number % DEPTH, number / DEPTH);
    }
    return Item(number / quads, number % quads);
}

fn left_item(local: u32, i: u32) -> Item {
    return item_of(i * SIDE * SIDE + local, LEFT_QUADS, params.a_k_stride < params.a_row_stride);
}

fn right_item(local: u32, i: u32) -> Item {
    return item_of(i * SIDE * SIDE + local, RIGHT_QUADS, params.b_k_stride < params.b_column_stride);
}

fn row_of(first: u32, quad: u32, i: u32) -> u32 {
    return first + quad + i * LEFT_QUADS;
}

fn column_of(first: u32, quad: u32, i: u32) -> u32 {
    return first + quad + i * RIGHT_QUADS;
}

// A quad of a; zeros from `end` on.
fn left_quad(first: u32, item: Item, begin: u32, end: u32) -> vec4<f32> {
    let k = begin + item.k;
    let at = params.a_offset + min(k, end - 1u) * params.a_k_stride;
    let last = params.m - 1u;
    let quad = vec4<f32>(
        a[at + min(row_of(first, item.quad, 0u), last) * params.a_row_stride],
        a[at + min(row_of(first, item.quad, 1u), last) * params.a_row_stride],
        a[at + min(row_of(first, item.quad, 2u), last) * params.a_row_stride],
        a[at + min(row_of(first, item.quad, 3u), last) * params.a_row_stride],
    );
    return select(vec4<f32>(), quad, k < end);
}

// A quad of b; zeros from `end` on.
fn right_quad(first: u32, item: Item, begin: u32, end: u32) -> vec4<f32> {
    let k = begin + item.k;
    let at = params.b_offset + min(k, end - 1u) * params.b_k_stride;
    let last = params.n - 1u;
    let quad = vec4<f32>(
        b[at + min(column_of(first, item.quad, 0u), last) * params.b_column_stride],
        b[at + min(column_of(first, item.quad, 1u), last) * params.b_column_stride],
        b[at + min(column_of(first, item.quad, 2u), last) * params.b_column_stride],
        b[at + min(column_of(first, item.quad, 3u), last) * params.b_column_stride],
    );
    return select(vec4<f32>(), quad, k < end);
}

// An invocation's share of the block that is moved next.
struct Moved {
    left: array<vec4<f32>, ROW_QUADS>,
    right: array<vec4<f32>, COLUMN_QUADS>,
}

fn read_block(first_row: u32, first_column: u32, local: u32, begin: u32, end: u32) -> Moved {
    var moved: Moved;
    for (var i = 0u; i < ROW_QUADS; i++) {
        moved.left[i] = left_quad(first_row, left_item(local, i), begin, end);
    }
    for (var i = 0u; i < COLUMN_QUADS; i++) {
        moved.right[i] = right_quad(first_column, right_item(local, i), begin, end);
    }
    return moved;
}

// Whether one of `count` rows is a step of its sequence. The same for the whole workgroup.
fn any_step(first: u32, count: u32) -> bool {
    var place = place_of(first);
    for (var n = 0u; n < count; n++) {
        if place.step < lengths[place.sequence] {
            return true;
        }
        place.sequence += 1u;
        if place.sequence == params.batch {
            place = Place(place.step + 1u, 0u);
        }
    }
    return false;
}

// The first block from `begin` on that is not skipped; `end` or more if there is none.
fn next_block(begin: u32, end: u32) -> u32 {
    var k = begin;
    if SKIP_INNER {
        while k < end {
            if any_step(k, DEPTH) {
                break;
            }
            k += DEPTH;
        }
    }
    return k;
}

fn write(slice: u32, row: u32, column: u32, value: f32) {
    if row < params.m && column < params.n {
        var sum = value;
        if BIAS {
            sum += bias[column];
        }
        c[(slice * params.m + row) * params.n + column] = activate_column(sum);
    }
}

@compute @workgroup_size(SIDE * SIDE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let first_row = group.y * 4u * LEFT_QUADS;
    let first_column = group.x * 4u * RIGHT_QUADS;
    let row_quad = local / SIDE;
    let column_quad = local % SIDE;
    let begin = group.z * params.slice_len;
    var end = min(begin + params.slice_len, params.k);
    if SKIP_ROWS {
        if !any_step(first_row, 4u * LEFT_QUADS) {
            end = begin;
        }
    }

    var sums: array<vec4<f32>, 4u * ROW_QUADS * COLUMN_QUADS>;
    var moved: Moved;
    var k = next_block(begin, end);
    if k < end {
        moved = read_block(first_row, first_column, local, k, end);
    }
    while k < end {
        workgroupBarrier();
        for (var i = 0u; i < ROW_QUADS; i++) {
            let item = left_item(local, i);
            left[item.k * LEFT_QUADS + (item.quad ^ item.k)] = moved.left[i];
        }
        for (var i = 0u; i < COLUMN_QUADS; i++) {
            let item = right_item(local, i);
            right[item.k * RIGHT_QUADS + (item.quad ^ item.k)] = moved.right[i];
        }
        workgroupBarrier();

        k = next_block(k + DEPTH, end);
        if k < end {
            moved = read_block(first_row, first_column, local, k, end);
        }
        for (var j = 0u; j < DEPTH; j++) {
            let left_at = j * LEFT_QUADS + (row_quad ^ j);
            let right_at = j * RIGHT_QUADS + (column_quad ^ j);
            var columns: array<vec4<f32>, COLUMN_QUADS>;
            for (var i = 0u; i < COLUMN_QUADS; i++) {
                columns[i] = right[right_at + i * SIDE];
            }
            for (var r = 0u; r < ROW_QUADS; r++) {
                let rows = left[left_at + r * SIDE];
                for (var i = 0u; i < COLUMN_QUADS; i++) {
                    let at = 4u * (r * COLUMN_QUADS + i);
                    sums[at] += rows.x * columns[i];
                    sums[at + 1u] += rows.y * columns[i];
                    sums[at + 2u] += rows.z * columns[i];
                    sums[at + 3u] += rows.w * columns[i];
                }
            }
        }
    }

    for (var r = 0u; r < ROW_QUADS; r++) {
        for (var n = 0u; n < 4u; n++) {
            let row = row_of(first_row, row_quad + r * SIDE, n);
            for (var i = 0u; i < COLUMN_QUADS; i++) {
                let quad = column_quad + i * SIDE;
                let sum = sums[4u * (r * COLUMN_QUADS + i) + n];
                write(group.z, row, column_of(first_column, quad, 0u), sum.x);
                write(group.z, row, column_of(first_column, quad, 1u), sum.y);
                write(group.z, row, column_of(first_column, quad, 2u), sum.z);
                write(group.z, row, column_of(first_column, quad, 3u), sum.w);
            }
        }
    }
}
