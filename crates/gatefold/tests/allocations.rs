//! Steps of a stream on the CPU allocate nothing once the first few were made.

#![allow(unsafe_code, reason = "an allocator is counted by being one")]

use gatefold::{Device, Network, NetworkConfig};
use ndarray::Array2;
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

/// The system's allocator, and the number of times that it was asked.
struct Counting;

static ASKED: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ASKED.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// One test alone, since the count is that of the process.
#[test]
fn steps_of_a_stream_allocate_nothing() {
    let config = NetworkConfig::with_input(5).lstm(24).gru(12).dense(2).build().unwrap();
    let network = Network::new(&Device::cpu().unwrap(), &config, 1).unwrap();
    let mut stream = network.stream(1).unwrap();
    let (input, mut output) = (Array2::from_elem((1, 5), 0.5), Array2::zeros((1, 2)));
    for step in 0..20 {
        let before = ASKED.load(Ordering::Relaxed);
        stream.step_into(input.view(), output.view_mut()).unwrap();
        let asked = ASKED.load(Ordering::Relaxed) - before;
        assert!(step < 3 || asked == 0, "step {step}: {asked} allocations");
    }
}
