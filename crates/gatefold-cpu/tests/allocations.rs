//! Steps of a stream and passes over batches of equal shape allocate nothing once the first few were made.

#![allow(unsafe_code, reason = "an allocator is counted by being one")]

use gatefold_cpu::{Batch, Network, Threads};
use gatefold_model::{
    Activation, Conv1dConfig, DenseConfig, Direction, Dropout, GruConfig, InitialState, LayerConfig,
    LstmConfig, Merge, NetworkConfig, ParallelConfig, Parameters, Reset, RnnConfig, branch,
};
use ndarray::{Array2, Array3};
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

// One test alone, since the counts are those of the process.
#[test]
fn memory_is_used_again() {
    steps_of_a_stream_allocate_nothing();
    passes_allocate_nothing();
}

/// The networks whose passes are counted: cells, directions, and layers of every kind.
fn networks() -> [Vec<LayerConfig>; 12] {
    let dense = |width: usize| LayerConfig::from(DenseConfig::new(width).activation(Activation::Tanh));
    let both = LstmConfig::new(9).direction(Direction::Bidirectional).initial_state(InitialState::Learned);
    let sum = GruConfig::new(8).direction(Direction::BidirectionalSum);
    [
        vec![LstmConfig::new(48).into(), GruConfig::new(32).into(), dense(1)],
        vec![both.into(), LayerConfig::Dropout { rate: 0.5 }, sum.into(), LayerConfig::LastStep, dense(2)],
        vec![
            LstmConfig::new(20).peephole().projection(7).skip(3).into(),
            RnnConfig::new(9).direction(Direction::Reverse).into(),
            LayerConfig::Softmax,
        ],
        vec![
            LstmConfig::new(9).dilation(2).into(),
            GruConfig::new(9).dilation(3).into(),
            LayerConfig::Residual { from: 1 },
            LayerConfig::LastStep,
        ],
        vec![
            GruConfig::new(16).reset(Reset::Before).into(),
            RnnConfig::new(9).feedback(4, Activation::Tanh).into(),
        ],
        vec![dense(8), LstmConfig::new(8).into(), LayerConfig::Residual { from: 1 }, LayerConfig::LastStep],
        vec![LstmConfig::new(8).into(), LayerConfig::FinalState, dense(3)],
        vec![
            Conv1dConfig::new(9, 5).padding(2, 2).stride(2).activation(Activation::Softplus).into(),
            LstmConfig::new(8).into(),
            Conv1dConfig::new(7, 3).causal().into(),
        ],
        vec![Conv1dConfig::new(16, 1).into(), LayerConfig::Residual { from: 0 }, LstmConfig::new(8).into()],
        vec![branches(), LayerConfig::LastStep, dense(2)],
        vec![LstmConfig::new(9).into(), NORMALISE, LayerConfig::MaxPool, dense(2)],
        vec![NORMALISE, GruConfig::new(9).into(), LayerConfig::MeanPool],
    ]
}

const NORMALISE: LayerConfig = LayerConfig::Normalise { epsilon: 1e-5 };

/// A sum within a concatenation, beside the input itself.
fn branches() -> LayerConfig {
    let inner = ParallelConfig::new(Merge::Sum, [branch().lstm(5), branch().gru(5), branch().dense(5)]);
    ParallelConfig::new(Merge::Concatenate, [branch().rnn(7), branch(), branch().layer(inner)]).into()
}

/// The passes over batches of equal shape, with and without lengths, on one thread and on two.
fn passes_allocate_nothing() {
    for (layers, threads) in networks().iter().flat_map(|layers| [(layers, 1), (layers, 2)]) {
        for lengths in [None, Some([60, 7, 31, 0, 60, 2].repeat(4))] {
            let config = NetworkConfig::new(16, &layers[..]).unwrap();
            let parameters = Parameters::initial(&config, 3).unwrap();
            let mut network = Network::new(&config, &parameters, Threads::new(threads)).unwrap();
            let input = Array3::from_elem((60, 24, 16), 0.25);
            let batch = Batch {
                lengths: lengths.as_deref(),
                dropout: Some(Dropout { seed: 1, batch: 2, first_step: 0 }),
                ..Batch::new(input.view())
            };
            let output = network.predict(&batch);
            let d_output = Array3::from_elem(output.dim(), 0.5);
            let mut gradients = network.parameters().clone();
            let mut count = |pass: &mut dyn FnMut(&mut Network)| {
                let before = ASKED.load(Ordering::Relaxed);
                pass(&mut network);
                ASKED.load(Ordering::Relaxed) - before
            };
            let mut quiet = 0;
            for round in 0..40 {
                let predicted = count(&mut |network| drop(network.predict(&batch)));
                let trained = count(&mut |network| {
                    network.parameters_mut();
                    let tape = network.forward(&batch);
                    network.accumulate(tape, d_output.view(), None, &mut gradients);
                });
                let case = format!("{config}, {threads} threads, lengths {lengths:?}, round {round}");
                // A prediction asks for its output.
                let nothing = predicted == 1 && trained == 0;
                quiet += usize::from(nothing);
                assert!(
                    threads > 1 || round < 20 || nothing,
                    "{case}: {predicted} and {trained} allocations"
                );
            }
            // With more threads, the number of matrices that are in use at once varies.
            assert!(quiet >= 10, "{config}, {threads} threads: {quiet} rounds without an allocation");
        }
    }
}

fn steps_of_a_stream_allocate_nothing() {
    let dense = |width: usize| LayerConfig::from(DenseConfig::new(width).activation(Activation::Tanh));
    let networks: [&[LayerConfig]; 9] = [
        &[NORMALISE, LstmConfig::new(9).into(), NORMALISE],
        &[LstmConfig::new(9).dilation(3).into()],
        &[Conv1dConfig::new(12, 1).into(), LstmConfig::new(9).into()],
        &[LstmConfig::new(37).into(), dense(3)],
        &[LstmConfig::new(20).peephole().projection(7).skip(3).into(), LayerConfig::Softmax],
        &[GruConfig::new(16).into(), GruConfig::new(16).reset(Reset::Before).into(), dense(1)],
        &[RnnConfig::new(9).feedback(4, Activation::Tanh).into()],
        &[dense(8), LstmConfig::new(8).into(), LayerConfig::Residual { from: 1 }, LayerConfig::LastStep],
        &[branches(), dense(2)],
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
