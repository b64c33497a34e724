//! A cell that the program brought along, one unit after another, through the Rust twin of its WGSL.
//!
//! The blocks of lanes are ordered so that everything from h' is one block: the input's parts of the split gates, the summed
//! gates, the recurrent parts of the split gates. Blocks that the cell does not use come last.

use super::{BackwardRows, Block, ForwardRows};
use gatefold_model::{CUSTOM_LANES, CustomCell};

/// The lanes of `W x`: those of the summed gates, and those of the split ones.
pub(super) fn input_blocks(cell: &CustomCell, h: usize) -> [Block; 2] {
    let (summed, gates) = (cell.summed() * h, cell.gates().len() * h);
    let split = gates - summed;
    [Block { lanes: split..gates, rows: 0..summed }, Block { lanes: 0..split, rows: summed..gates }]
}

/// The lanes of `U h'`.
pub(super) fn recurrent_block(cell: &CustomCell, h: usize) -> Block {
    let gates = cell.gates().len() * h;
    let split = gates - cell.summed() * h;
    Block { lanes: split..split + gates, rows: 0..gates }
}

/// The block of each of the cell's lanes.
fn block_of_lane(cell: &CustomCell) -> [usize; CUSTOM_LANES] {
    let (summed, gates) = (cell.summed(), cell.gates().len());
    std::array::from_fn(|lane| match lane {
        lane if lane < summed => lane + gates - summed,
        lane if lane < gates => lane - summed,
        lane => lane,
    })
}

/// Steps of rows forward.
pub(super) fn forward(cell: &CustomCell, hidden: usize, rows: ForwardRows) {
    let ForwardRows { lanes, h_prev, c_prev, c, out } = rows;
    let (blocks, used) = (block_of_lane(cell), cell.lanes());
    let function = cell.parts().single.forward;
    let prev = if cell.has_state() { c_prev } else { h_prev };
    for (row, lanes) in lanes.chunks_exact_mut(CUSTOM_LANES * hidden).enumerate() {
        for unit in 0..hidden {
            let at = row * hidden + unit;
            let place = |lane: usize| blocks[lane] * hidden + unit;
            let pre = std::array::from_fn(|lane| if lane < used { lanes[place(lane)] } else { 0.0 });
            let step = function(pre, prev[at]);
            step.saved.into_iter().enumerate().for_each(|(lane, value)| lanes[place(lane)] = value);
            out[at] = step.h;
            if cell.has_state() {
                c[at] = step.state;
            }
        }
    }
}

/// Steps of rows backward.
pub(super) fn backward(cell: &CustomCell, hidden: usize, rows: BackwardRows) {
    let BackwardRows { lanes, h_prev, c_prev, c, out: _, d_out, d_prev, d_c } = rows;
    let (blocks, used) = (block_of_lane(cell), cell.lanes());
    let function = cell.parts().single.backward;
    for (row, lanes) in lanes.chunks_exact_mut(CUSTOM_LANES * hidden).enumerate() {
        for unit in 0..hidden {
            let at = row * hidden + unit;
            let place = |lane: usize| blocks[lane] * hidden + unit;
            let saved = std::array::from_fn(|lane| lanes[place(lane)]);
            let found = if cell.has_state() {
                let found = function(saved, c_prev[at], c[at], d_out[at], d_c[at]);
                d_c[at] = found.prev;
                found
            } else {
                let found = function(saved, h_prev[at], 0.0, d_out[at], 0.0);
                d_prev[at] += found.prev;
                found
            };
            for (lane, value) in found.pre.into_iter().enumerate() {
                lanes[place(lane)] = if lane < used { value } else { 0.0 };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gatefold_model::{CustomGate, UnitGradient, UnitStep};
    use gatefold_reference::Real;
    use gatefold_reference::custom::{CellDefinition, parts};

    struct TwoAndOne;

    impl CellDefinition for TwoAndOne {
        const NAME: &'static str = "two_and_one";
        const GATES: &'static [CustomGate] =
            &[CustomGate::summed("a"), CustomGate::summed("b"), CustomGate::split("c")];
        const WGSL: &'static str = "";
        fn forward<R: Real>(pre: [R; 4], prev: R) -> UnitStep<R> {
            UnitStep { saved: pre, h: prev, state: R::ZERO }
        }
        fn backward<R: Real>(saved: [R; 4], prev: R, _: R, _: R, _: R) -> UnitGradient<R> {
            UnitGradient { pre: saved, prev }
        }
    }

    #[test]
    fn what_comes_from_h_is_one_block_of_lanes() {
        let cell = CustomCell::register(parts::<TwoAndOne>()).unwrap();
        // Blocks: c's input, a, b, c's recurrent part; weights: a, b, c.
        let [summed, split] = input_blocks(&cell, 5);
        assert_eq!((summed.lanes, summed.rows), (5..15, 0..10));
        assert_eq!((split.lanes, split.rows), (0..5, 10..15));
        let block = recurrent_block(&cell, 5);
        assert_eq!((block.lanes, block.rows), (5..20, 0..15));
        assert_eq!(block_of_lane(&cell), [1, 2, 0, 3]);
    }
}
