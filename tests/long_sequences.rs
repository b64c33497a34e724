//! 41,000 steps in one batch, with the gradient of all of them, in the memory of a few hundred.

#![allow(unsafe_code, reason = "memory is counted by an allocator of one's own")]

use gatefold::{Device, Network, NetworkConfig, TrainConfig, Trainer};
use ndarray::Array3;
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

/// The system's allocator, the bytes that are taken, and the most that ever were.
struct Counting;

static TAKEN: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let taken = TAKEN.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        MOST.fetch_max(taken, Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        TAKEN.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const STEPS: usize = 41_000;
const BATCH: usize = 8;

/// Uncut, the gates, states and outputs of the LSTM alone take a gigabyte. One test alone, since the count is that of the
/// process.
#[test]
fn a_long_sequence_is_trained_in_little_memory_on_the_cpu() {
    let wave =
        |shift: f32| move |(t, row, _): (usize, usize, usize)| (0.01 * (t * (row + 3)) as f32 + shift).sin();
    let config = NetworkConfig::with_input(1).lstm(128).dense(1).build().unwrap();
    let input = Array3::from_shape_fn((STEPS, BATCH, 1), wave(0.0));
    let target = Array3::from_shape_fn((STEPS, BATCH, 1), wave(0.5));
    let network = Network::new(&Device::cpu().unwrap(), &config, 1).unwrap();
    let mut trainer = Trainer::new(network, TrainConfig::new().recompute(Some(512))).unwrap();
    trainer.step(&input, &target).unwrap();
    let (losses, most) = (trainer.take_losses().unwrap(), MOST.load(Ordering::Relaxed));
    assert!(losses.len() == 1 && losses[0] > 0.0 && losses[0] < 1.0, "{losses:?}");
    assert!(most < 64 << 20, "{most} bytes");
}
