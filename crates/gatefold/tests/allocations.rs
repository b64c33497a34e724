//! Steps of streams and of training on the CPU, and predictions, allocate nothing once the first few were made.

#![allow(unsafe_code, reason = "an allocator is counted by being one")]

use gatefold::{Device, Loss, Network, NetworkConfig, Optimizer, TrainConfig, Trainer};
use ndarray::{Array2, Array3};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

/// The system's allocator, and the number of times that it was asked.
struct Counting;

static ASKED: AtomicUsize = AtomicUsize::new(0);

/// The steps after which every matrix has found its buffer.
const SETTLED: usize = 15;

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

/// The times that the allocator is asked during the work.
fn asked(work: impl FnOnce()) -> usize {
    let before = ASKED.load(Ordering::Relaxed);
    work();
    ASKED.load(Ordering::Relaxed) - before
}

// One test alone, since the count is that of the process.
#[test]
fn memory_is_used_again() {
    steps_of_a_stream_allocate_nothing();
    training_and_prediction_allocate_nothing();
}

fn steps_of_a_stream_allocate_nothing() {
    let config = NetworkConfig::with_input(5).lstm(24).gru(12).dense(2).build().unwrap();
    let network = Network::new(&Device::cpu().unwrap(), &config, 1).unwrap();
    let mut stream = network.stream(1).unwrap();
    let (input, mut output) = (Array2::from_elem((1, 5), 0.5), Array2::zeros((1, 2)));
    for step in 0..20 {
        let asked = asked(|| stream.step_into(input.view(), output.view_mut()).unwrap());
        assert!(step < 3 || asked == 0, "step {step}: {asked} allocations");
    }
}

/// Steps of training ask for nothing, and a prediction for its output alone. On one thread, since the number of matrices
/// that are in use at once varies with more.
fn training_and_prediction_allocate_nothing() {
    let optimizers = [
        Optimizer::sgd(),
        Optimizer::Sgd { momentum: 0.9, nesterov: true, weight_decay: 0.0 },
        Optimizer::adam(),
        Optimizer::RmsProp { alpha: 0.9, epsilon: 1e-8, momentum: 0.5, centered: true, weight_decay: 0.1 },
    ];
    for optimizer in optimizers {
        let config = NetworkConfig::with_input(5).lstm(24).dropout(0.1).gru(12).dense(4).build().unwrap();
        let network = Network::new(&Device::cpu_with_threads(1).unwrap(), &config, 1).unwrap();
        let loss = Loss::Quantile { levels: vec![0.1, 0.9] };
        let options = TrainConfig::new().optimizer(optimizer).loss(loss).clip_norm(Some(1.0));
        let mut trainer = Trainer::new(network, options).unwrap();
        let (input, target) = (Array3::from_elem((30, 10, 5), 0.5), Array3::from_elem((30, 10, 2), 0.25));
        for step in 0..30 {
            let trained = asked(|| trainer.step(&input, &target).unwrap());
            let predicted = asked(|| drop(trainer.network().predict(&input).unwrap()));
            assert_eq!(trainer.take_losses().unwrap().len(), 1);
            let settled = step >= SETTLED;
            assert!(!settled || trained == 0, "{optimizer:?}, step {step}: {trained} allocations");
            assert!(!settled || predicted == 1, "prediction {step}: {predicted} allocations");
        }
    }
}
