//! Which kernel runs a matrix product, and in how many slices of its inner axis.

use super::SLICE_LEN;
use super::staged::Block;
use crate::Target;
use gatefold_shaders::{STAGED_DEPTH, SUBGROUP_LANES, TILE_WG_SIZE};
use std::fmt;
use std::str::FromStr;

/// The kernels that a caller allows for matrix products.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ProductChoice {
    /// The one that suits the device and the sizes.
    #[default]
    Auto,
    /// `matmul` everywhere, which reads both sides from the caches.
    Streamed,
    /// `matmul_staged`, whose workgroups keep tiles of both sides in their memory, wherever the device has enough of it.
    Staged,
}

impl ProductChoice {
    /// Every choice.
    pub const ALL: [ProductChoice; 3] = [ProductChoice::Auto, ProductChoice::Streamed, ProductChoice::Staged];

    /// The name that options use.
    pub fn name(self) -> &'static str {
        match self {
            ProductChoice::Auto => "auto",
            ProductChoice::Streamed => "streamed",
            ProductChoice::Staged => "staged",
        }
    }
}

impl fmt::Display for ProductChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for ProductChoice {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        ProductChoice::ALL.into_iter().find(|choice| choice.name() == name).ok_or_else(|| {
            let names = ProductChoice::ALL.map(ProductChoice::name).join(", ");
            format!("no way to multiply matrices is called {name}; expected one of {names}")
        })
    }
}

/// The dispatch that adds the slices of a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SecondPass {
    /// It comes anyway, to add a gradient.
    Needed,
    /// It comes only if there are several slices.
    Extra,
}

/// The kernel of a product, and the inner elements that a slice should have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Way {
    /// The block of an invocation where tiles go through workgroup memory.
    pub(super) block: Option<Block>,
    pub(super) slice_len: usize,
}

/// Above this the slices of a product would cost more memory than they are worth.
const MAX_SLICES_BYTES: usize = 64 << 20;
/// The least rows and columns for which staged tiles are not mostly padding.
const LEAST_SIDE: usize = 32;
/// The least inner elements, two blocks, with which one is read while the other is multiplied.
const LEAST_INNER: usize = 2 * STAGED_DEPTH as usize;
/// The least multiply-adds. Fewer take a large GPU less time than a dispatch, however they are read.
const LEAST_WORK: u64 = 1 << 22;
/// Multiprocessors of a large GPU, an H100. A smaller one only has more waves of workgroups.
pub(super) const MULTIPROCESSORS: usize = 132;
/// Shorter slices save no more than the second pass takes: an invocation of `matmul` walks 128 elements in 4 us on an H100,
/// where a dispatch costs 3.
const SHORTEST_STREAMED: usize = 128;
/// Each element of a slice is written and read again. With 256 inner elements that is a byte for 64 operations, a third of
/// what an H100's memory could serve at its arithmetic rate.
const SHORTEST_STAGED: usize = 256;
/// Longer slices of few workgroups leave multiprocessors idle while the last ones run.
const LONGEST_STAGED: usize = 2048;

/// The way for a product `[m, k]` by `[k, n]` on a device, `n` in `n_columns` columns of `matmul`.
///
/// A rule of thumb for each class of device. A software driver streams, since barriers are slow there. A GPU stages what is
/// large on every axis. Streaming, an invocation reads a number from the caches for 1 to 11 of its multiply-adds; staged,
/// for 32 to 64, and a number from workgroup memory for 2 to 4. So it should come near the arithmetic rate where the other
/// comes near that of the caches. Slices of the inner axis then fill the device: always where a second pass follows anyway,
/// otherwise where at most a quarter of it would be busy and the walk is long. These are counts, and what
/// docs/benchmarks.md has of an H100; staged products have not been timed on a card.
pub(super) fn choose(target: &Target, sizes: [usize; 3], n_columns: usize, second_pass: SecondPass) -> Way {
    let [m, n, k] = sizes;
    let stages = match target.product {
        ProductChoice::Auto => !target.software && is_large(sizes),
        ProductChoice::Streamed => false,
        ProductChoice::Staged => true,
    };
    let affordable = (MAX_SLICES_BYTES / (4 * m * n).max(1)).max(1);
    if stages && Block::fits(target) {
        let most = if second_pass == SecondPass::Needed { affordable.min(k / SHORTEST_STAGED) } else { 1 };
        let block = Block::suiting([m, n], most.max(1));
        let cuts = Cuts {
            launched: block.workgroups([m, n]),
            filling: block.filling(),
            shortest: SHORTEST_STAGED,
            longest: LONGEST_STAGED,
        };
        return Way { block: Some(block), slice_len: cuts.slice_len(k, affordable, second_pass) };
    }
    let slice_len = if target.software {
        match second_pass {
            SecondPass::Needed => {
                SLICE_LEN.max(k.div_ceil(affordable)).next_multiple_of(SUBGROUP_LANES as usize)
            }
            SecondPass::Extra => k,
        }
    } else {
        let across = n_columns.next_multiple_of(TILE_WG_SIZE as usize);
        let (shortest, longest) = (SHORTEST_STREAMED, SLICE_LEN);
        let cuts = Cuts { launched: across * m, filling: 2048 * MULTIPROCESSORS, shortest, longest };
        cuts.slice_len(k, affordable, second_pass)
    };
    Way { block: None, slice_len }
}

/// Whether a product `[m, k]` by `[k, n]` is large on every axis.
fn is_large([m, n, k]: [usize; 3]) -> bool {
    let work = (m as u64 * n as u64).saturating_mul(k as u64);
    m.min(n) >= LEAST_SIDE && k >= LEAST_INNER && work >= LEAST_WORK
}

/// The numbers that decide on the slices of a kernel on a GPU.
struct Cuts {
    /// Invocations or workgroups of a product in one slice, and how many of them fill a large GPU.
    launched: usize,
    filling: usize,
    /// Elements of a slice.
    shortest: usize,
    longest: usize,
}

impl Cuts {
    /// Elements of each slice, whole blocks of either kernel. No more workgroups than fill the device at once, since the rest
    /// would come as another wave.
    fn slice_len(&self, k: usize, affordable: usize, second_pass: SecondPass) -> usize {
        let to_fill = (self.filling / self.launched.max(1)).max(1);
        let wanted = match second_pass {
            SecondPass::Needed => to_fill.max(k.div_ceil(self.longest)),
            SecondPass::Extra if to_fill >= 4 && k >= 4 * self.shortest => to_fill,
            SecondPass::Extra => 1,
        };
        let slices = wanted.min(k / self.shortest).min(affordable).max(1);
        k.div_ceil(slices).next_multiple_of(STAGED_DEPTH as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The choice for a target: rows and columns of a tile, if staged, and slices.
    fn chosen(target: &Target, sizes: [usize; 3], second_pass: SecondPass) -> (Option<[usize; 2]>, usize) {
        let [_, n, k] = sizes;
        let n_columns = if n.is_multiple_of(4) { n / 4 } else { n };
        let way = choose(target, sizes, n_columns, second_pass);
        (way.block.map(Block::tile), k.div_ceil(way.slice_len))
    }

    const EXTRA: SecondPass = SecondPass::Extra;
    const NEEDED: SecondPass = SecondPass::Needed;

    #[test]
    fn a_gpu_stages_what_is_large_on_every_axis() {
        let gpu = Target::webgpu();
        let tile = |sizes| chosen(&gpu, sizes, EXTRA).0;
        assert_eq!(tile([8192, 1024, 256]), Some([128, 128]));
        assert_eq!(tile([6400, 512, 64]), Some([128, 64]), "200 tiles of 128 x 128 leave 64 places empty");
        assert_eq!(tile([65_536, 64, 256]), Some([128, 64]), "half of a wider tile is padding");
        assert_eq!(tile([64, 65_536, 256]), Some([64, 128]));
        assert_eq!(tile([256, 512, 256]), Some([64, 64]));
        for small in [[8192, 31, 256], [31, 8192, 256], [8192, 1024, 31], [100, 400, 100], [6400, 1, 128]] {
            assert_eq!(tile(small), None, "{small:?}");
        }
    }

    #[test]
    fn slices_fill_a_gpu() {
        let gpu = Target::webgpu();
        let slices = |sizes, second_pass| chosen(&gpu, sizes, second_pass);
        // Weight gradients of the benchmarks: [I or H, 4 H] over T B.
        assert_eq!(slices([256, 1024, 8192], NEEDED), (Some([128, 128]), 16), "256 workgroups, 264 places");
        assert_eq!(slices([64, 256, 32_768], NEEDED), (Some([64, 64]), 128));
        assert_eq!(slices([1024, 4096, 65_536], NEEDED), (Some([128, 128]), 4), "all that memory allows");
        assert_eq!(slices([16, 256, 1600], NEEDED), (None, 12), "none shorter than 128");
        assert_eq!(slices([100, 400, 25], NEEDED), (None, 1));
        assert_eq!(slices([512, 1, 8192], NEEDED), (None, 16));
        // A single row, few rows, many.
        assert_eq!(slices([1, 3072, 768], EXTRA), (None, 6));
        assert_eq!(slices([1, 3072, 500], EXTRA), (None, 1), "too short to gain by a second pass");
        assert_eq!(slices([64, 2048, 2048], EXTRA), (Some([64, 64]), 8));
        assert_eq!(slices([8192, 1, 1024], EXTRA), (None, 1));
        assert_eq!(slices([16_384, 3072, 768], EXTRA), (Some([128, 128]), 1));
    }

    #[test]
    fn a_software_driver_streams_and_cuts_as_ever() {
        let software = Target { software: true, ..Target::webgpu() };
        for (sizes, extra, needed) in [
            ([8192, 1024, 256], 1, 1),
            ([256, 1024, 8192], 1, 16),
            ([1, 3072, 768], 1, 2),
            ([1024, 4096, 65_536], 1, 4),
        ] {
            assert_eq!(chosen(&software, sizes, EXTRA), (None, extra), "{sizes:?}");
            assert_eq!(chosen(&software, sizes, NEEDED), (None, needed), "{sizes:?}");
        }
    }

    #[test]
    fn a_choice_is_kept_where_the_device_allows_it() {
        let forced = |product| Target { product, ..Target::webgpu() };
        let (staged, streamed) = (forced(ProductChoice::Staged), forced(ProductChoice::Streamed));
        assert_eq!(chosen(&staged, [1, 1, 1], EXTRA), (Some([64, 64]), 1));
        let software = Target { software: true, ..staged.clone() };
        assert_eq!(chosen(&software, [1, 1, 1], NEEDED), (Some([64, 64]), 1));
        assert_eq!(chosen(&streamed, [8192, 1024, 256], EXTRA), (None, 1));
        for small in [
            Target { max_workgroup_bytes: (16 << 10) - 1, ..staged.clone() },
            Target { max_invocations: 128, ..staged },
        ] {
            assert_eq!(chosen(&small, [8192, 1024, 256], EXTRA), (None, 1));
        }
    }

    #[test]
    fn a_choice_is_read_as_it_is_written() {
        for choice in ProductChoice::ALL {
            assert_eq!(choice.to_string().parse(), Ok(choice));
        }
        let error = "tiled".parse::<ProductChoice>().unwrap_err();
        assert!(error.contains("tiled") && error.contains("auto, streamed, staged"), "{error}");
    }
}
