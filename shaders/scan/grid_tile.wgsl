// scan/grid_tile: the work of a crew, that is, of SHARERS workgroups that run ROWS rows together, each SHARE units of them.
//
// A unit's product is cut into SLICES, one for each invocation of a team: PARTS neighbours add theirs by combine, and the
// SPLITS sums that are left meet in workgroup memory. Where there are more units than teams, a team has several, BLOCKS in all.
// The values to multiply are staged in workgroup memory, STAGED turns of all slices at a time. The weights of the first KEPT
// turns stay in registers from step to step, those of the next PARKED turns in workgroup memory; others come from a cache.
//
// Joined with a kernel that gives
//   alias Staged, Weights, Sum
//   source(at) -> Staged                         a value of the tensor that is multiplied
//   weights_at(segment, k, unit) -> Weights      k may be past the end
//   times(value, weights) -> Sum
const SLICES = PARTS * SPLITS;
const TEAMS = WG_SIZE / SLICES;
const SHARE = (HIDDEN + SHARERS - 1u) / SHARERS;
const BLOCKS = (SHARE + TEAMS - 1u) / TEAMS;
const SUMS = BLOCKS * ROWS;                            // sums of an invocation's products
const CELLS = (SHARE * ROWS + WG_SIZE - 1u) / WG_SIZE; // cells of an invocation
const TURNS = (HIDDEN + SLICES - 1u) / SLICES;
const STAGES = (TURNS + STAGED - 1u) / STAGED;
const STRIDE = STAGED * SLICES; // of a staged row; zero past H
const KEPT_LEN = max(KEPT * BLOCKS, 1u);
const PARKED_LEN = max(PARKED * BLOCKS * WG_SIZE, 1u);

var<workgroup> staged: array<Staged, ROWS * STRIDE>;
var<workgroup> met: array<Sum, BLOCKS * TEAMS * ROWS * SPLITS>;
var<workgroup> parked: array<Weights, PARKED_LEN>;

// One of an invocation's cells.
struct Place {
    row: u32,   // of the batch
    unit: u32,
    sum: u32,   // the first of its sums in met
    is_there: bool,
}

fn place_of(cell: u32, member: u32, first_row: u32, local: u32) -> Place {
    let i = cell * WG_SIZE + local;
    let mine = i % SHARE;
    let n = i / SHARE;
    let row = first_row + n;
    let unit = member * SHARE + mine;
    return Place(row, unit, (mine * ROWS + n) * SPLITS, n < ROWS && row < params.batch && unit < HIDDEN);
}

// The unit of a block, the last one past the end.
fn unit_of(block: u32, member: u32, local: u32) -> u32 {
    return min(member * SHARE + min(block * TEAMS + local / SLICES, SHARE - 1u), HIDDEN - 1u);
}

// The weights that stay in registers; parks those that stay in workgroup memory, where only the same invocation reads them.
fn keep_weights(member: u32, local: u32) -> array<Weights, KEPT_LEN> {
    var kept: array<Weights, KEPT_LEN>;
    for (var turn = 0u; turn < KEPT + PARKED; turn++) {
        for (var block = 0u; block < BLOCKS; block++) {
            let weights = weights_at(0u, turn * SLICES + local % SLICES, unit_of(block, member, local));
            if turn < KEPT {
                kept[turn * BLOCKS + block] = weights;
            } else {
                parked[((turn - KEPT) * BLOCKS + block) * WG_SIZE + local] = weights;
            }
        }
    }
    return kept;
}

// Adds the product of a segment's weights and the rows that begin at an element of the source.
fn add_product(
    segment: u32, at: u32, member: u32, first_row: u32, local: u32,
    kept: ptr<function, array<Weights, KEPT_LEN>>, before: array<Sum, SUMS>,
) -> array<Sum, SUMS> {
    let slice = local % SLICES;
    var sums = before;
    for (var stage = 0u; stage < STAGES; stage++) {
        for (var i = local; i < ROWS * STRIDE; i += WG_SIZE) {
            let k = stage * STRIDE + i % STRIDE;
            let row = first_row + i / STRIDE;
            var value = Staged();
            if k < HIDDEN && row < params.batch {
                value = source(at + row * HIDDEN + k);
            }
            staged[i] = value;
        }
        workgroupBarrier();
        for (var i = 0u; i < STAGED; i++) {
            let turn = stage * STAGED + i;
            for (var block = 0u; block < BLOCKS; block++) {
                var weights: Weights;
                if segment == 0u && turn < KEPT {
                    weights = (*kept)[turn * BLOCKS + block];
                } else if segment == 0u && turn < KEPT + PARKED {
                    weights = parked[((turn - KEPT) * BLOCKS + block) * WG_SIZE + local];
                } else {
                    weights = weights_at(segment, turn * SLICES + slice, unit_of(block, member, local));
                }
                for (var n = 0u; n < ROWS; n++) {
                    sums[block * ROWS + n] += times(staged[n * STRIDE + i * SLICES + slice], weights);
                }
            }
        }
        workgroupBarrier();
    }
    return sums;
}

// Adds the parts of neighbours, and puts the rest where the cells find it.
fn meet(local: u32, parts: array<Sum, SUMS>) {
    let sums = combine(parts);
    let split = local % SLICES / PARTS;
    if local % PARTS == 0u {
        for (var block = 0u; block < BLOCKS; block++) {
            for (var n = 0u; n < ROWS; n++) {
                met[((block * TEAMS + local / SLICES) * ROWS + n) * SPLITS + split] = sums[block * ROWS + n];
            }
        }
    }
    workgroupBarrier();
}

fn met_sum(place: Place) -> Sum {
    var sum = met[place.sum];
    for (var split = 1u; split < SPLITS; split++) {
        sum += met[place.sum + split];
    }
    return sum;
}
