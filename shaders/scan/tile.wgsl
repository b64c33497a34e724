// scan/tile: the work of the invocations of a workgroup that runs all units of ROWS rows.
//
// PARTS neighbouring invocations, a team, share the product of a unit, and take turns with the rows: each runs the cell for
// every PARTS-th row. Where there are more units than teams, a team has several, BLOCKS in all.
const TEAMS = WG_SIZE / PARTS;
const BLOCKS = (HIDDEN + TEAMS - 1u) / TEAMS;
const SUMS = BLOCKS * ROWS;                        // sums of an invocation's products
const OWNED = (ROWS + PARTS - 1u) / PARTS;         // rows whose cells an invocation runs
const CELLS = BLOCKS * OWNED;                      // cells of an invocation

// One of an invocation's cells.
struct Place {
    n: u32,     // the row within the tile
    row: u32,   // of the batch
    unit: u32,
    sum: u32,   // among the sums
    is_there: bool,
}

fn place_of(params: Params, cell: u32, first_row: u32, local: u32) -> Place {
    let block = cell / OWNED;
    let n = local % PARTS + cell % OWNED * PARTS;
    let row = first_row + n;
    let unit = block * TEAMS + local / PARTS;
    return Place(n, row, unit, block * ROWS + n, n < ROWS && row < params.batch && unit < HIDDEN);
}

// The unit of a block, the last one past the end.
fn column_of(block: u32, local: u32) -> u32 {
    return min(block * TEAMS + local / PARTS, HIDDEN - 1u);
}
