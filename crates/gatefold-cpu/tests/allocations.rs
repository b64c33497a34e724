//! Steps of a stream allocate nothing once the first was made, and passes none of their large matrices.

#![allow(unsafe_code, reason = "an allocator is counted by being one")]

use gatefold_cpu::{Batch, Network, Threads};
use gatefold_model::{
    Activation, DenseConfig, GruConfig, LayerConfig, LstmConfig, NetworkConfig, Parameters, Reset, RnnConfig,
};
use ndarray::{Array2, Array3};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

/// The system's allocator, and the number of times that it was asked.
struct Counting;

static ASKED: AtomicUsize = AtomicUsize::new(0);
/// The largest request since it was set to 0, in bytes.
static LARGEST: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ASKED.fetch_add(1, Ordering::Relaxed);
        LARGEST.fetch_max(layout.size(), Ordering::Relaxed);
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

// One test alone, since the counts are those of the process.
#[test]
fn memory_is_used_again() {
    steps_of_a_stream_allocate_nothing();
    passes_allocate_no_large_matrices();
}

/// A pass asks for its output and for much that is small, but for none of its matrices. On one thread, since how many of
/// these are in use at once varies with more.
fn passes_allocate_no_large_matrices() {
    let (steps, batch) = (60, 24);
    let layers = [LstmConfig::new(48).into(), GruConfig::new(32).into(), DenseConfig::new(1).into()];
    let config = NetworkConfig::new(16, &layers).unwrap();
    let mut network =
        Network::new(&config, &Parameters::initial(&config, 3).unwrap(), Threads::new(1)).unwrap();
    let input = Array3::from_elem((steps, batch, 16), 0.25);
    let d_output = Array3::from_elem((steps, batch, 1), 0.5);
    let mut gradients = network.parameters().clone();
    let output = steps * batch * size_of::<f32>();
    for round in 0..12 {
        LARGEST.store(0, Ordering::Relaxed);
        network.predict(&Batch::new(input.view()));
        network.parameters_mut();
        let tape = network.forward(&Batch::new(input.view()));
        network.accumulate(tape, d_output.view(), None, &mut gradients);
        // The hidden states of the smaller layer, for the four rows of a part, are five times as large.
        let largest = LARGEST.load(Ordering::Relaxed);
        assert!(round < 3 || largest <= output, "round {round} asks for {largest} bytes");
    }
}

fn steps_of_a_stream_allocate_nothing() {
    let dense = |width: usize| LayerConfig::from(DenseConfig::new(width).activation(Activation::Tanh));
    let networks: [&[LayerConfig]; 5] = [
        &[LstmConfig::new(37).into(), dense(3)],
        &[LstmConfig::new(20).peephole().projection(7).skip(3).into(), LayerConfig::Softmax],
        &[GruConfig::new(16).into(), GruConfig::new(16).reset(Reset::Before).into(), dense(1)],
        &[RnnConfig::new(9).feedback(4, Activation::Tanh).into()],
        &[dense(8), LstmConfig::new(8).into(), LayerConfig::Residual { from: 1 }, LayerConfig::LastStep],
    ];
    for layers in networks {
        for rows in [1, 5] {
            let config = NetworkConfig::new(6, layers).unwrap();
            let parameters = Parameters::initial(&config, 3).unwrap();
            let network = Network::new(&config, &parameters, Threads::new(2)).unwrap();
            let mut states = network.initial_states(rows);
            let input = Array2::from_elem((rows, 6), 0.25);
            let mut output = Array2::zeros((rows, config.output()));
            for step in 0..20 {
                let before = ASKED.load(Ordering::Relaxed);
                network.step_into(&mut states, input.view(), output.view_mut()).unwrap();
                let asked = ASKED.load(Ordering::Relaxed) - before;
                assert!(step < 3 || asked == 0, "{config}, {rows} rows, step {step}: {asked} allocations");
            }
        }
    }
}
