//! Blocks of `matmul_staged`, whose workgroups keep tiles of both sides in their memory.

use super::choice::MULTIPROCESSORS;
use crate::Target;
use gatefold_shaders::{STAGED_DEPTH, STAGED_SIDE};

/// The part of a tile that an invocation owns, in quads of rows and of columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) row_quads: u32,
    pub(super) column_quads: u32,
}

impl Block {
    /// The blocks of the kernel, the largest first: 8 x 8, 8 x 4, 4 x 8, 4 x 4. A multiply-add reads 1/4, 3/8, 3/8 and 1/2 of a
    /// number from workgroup memory, so large blocks are the best that a device can be filled with.
    const ALL: [Block; 4] = [Block::of(2, 2), Block::of(2, 1), Block::of(1, 2), Block::of(1, 1)];

    const fn of(row_quads: u32, column_quads: u32) -> Block {
        Block { row_quads, column_quads }
    }

    /// The block for a product of `[m, n]` elements in at most so many slices: the largest that fills the device and pads
    /// the product by no more than a quarter beyond what the smallest tiles do, else the smallest.
    pub(super) fn suiting(sizes: [usize; 2], most_slices: usize) -> Block {
        let least = Block::ALL.map(|block| block.padded(sizes)).into_iter().min().unwrap_or(0);
        let suits = |block: &Block| {
            block.workgroups(sizes) * most_slices >= block.filling() && 4 * block.padded(sizes) <= 5 * least
        };
        Block::ALL.into_iter().find(suits).unwrap_or(Block::of(1, 1))
    }

    /// Whether the device can run every block.
    pub(super) fn fits(target: &Target) -> bool {
        let quads = STAGED_DEPTH * STAGED_SIDE * 4;
        target.max_invocations >= STAGED_SIDE * STAGED_SIDE && target.max_workgroup_bytes >= 16 * quads
    }

    /// Workgroups that fill a large GPU: on each multiprocessor two, three or four, as registers for 64, 32 or 16 sums and the
    /// operands leave room for.
    pub(super) fn filling(self) -> usize {
        MULTIPROCESSORS * (6 - self.row_quads - self.column_quads) as usize
    }

    /// Rows and columns of a workgroup's tile.
    pub(super) fn tile(self) -> [usize; 2] {
        [self.row_quads, self.column_quads].map(|quads| (4 * STAGED_SIDE * quads) as usize)
    }

    /// Workgroups for one slice of `[m, n]` elements.
    pub(super) fn workgroups(self, [m, n]: [usize; 2]) -> usize {
        let [rows, columns] = self.tile();
        m.div_ceil(rows) * n.div_ceil(columns)
    }

    /// The elements of `[m, n]` with the edges of tiles that stick out.
    fn padded(self, sizes: [usize; 2]) -> usize {
        let [rows, columns] = self.tile();
        self.workgroups(sizes) * rows * columns
    }
}
