//! Streams through whole networks on buffers of our own.

use super::{buffer, encode, read, written};
use gatefold::embed::{self, ForwardBuffers};
use gatefold::layers::{Activation, GruConfig, InitialState, LstmConfig, Merge, RnnConfig, Timeline, branch};
use gatefold::{Device, Network, NetworkConfig};
use gatefold_check::{Failures, NetworkCase, test_gpu};
use ndarray::{Array3, Axis};

const TANH: Activation = Activation::Tanh;
/// More than any of the networks below takes until all of its rings are where they were.
const STEPS: usize = 14;
const BATCH: usize = 3;

/// The steps of a sequence one by one are those of the same network's stream through the engine's other door, and those
/// of the whole sequence at once: the same bits, also after a reset in the middle of a ring.
#[test]
fn steps_of_a_network_are_those_of_its_sequence() {
    let Some(gpu) = test_gpu() else { return };
    let input = NetworkConfig::with_input;
    let projected = LstmConfig::new(6).projection(4).peephole().skip(2).initial_state(InitialState::Learned);
    let networks = [
        // Rings of 3 and 4 slots.
        input(2).layer(projected).layer(GruConfig::new(4).feedback(3, TANH).skip(3)),
        input(2)
            .layer(LstmConfig::new(5).dilation(3).initial_state(InitialState::Constant(0.4)))
            .layer(GruConfig::new(4).dilation(2)),
        input(1).embedding(7, 4).gru(4).residual(1).dropout(0.5).dense(7).softmax(),
        input(3).lstm(5).last_step().dense(2),
        // The final state is h, the output is not.
        input(3).layer(RnnConfig::new(5).feedback(4, TANH)).final_state().dense(2),
        input(3).lstm(4).final_state().lstm(3),
        // A ring in each of two branches.
        input(3)
            .parallel(Merge::Concatenate, [branch().lstm(4), branch(), branch().gru(5).dense(2)])
            .dense(2),
    ];
    let mut failures = Failures::new();
    for config in networks.map(|layers| layers.build().unwrap()) {
        failures.check(config.to_string(), || {
            let case = NetworkCase { config: config.clone(), steps: STEPS, batch: BATCH, seed: 9 };
            let (x, parameters) = (case.input(), case.parameters());
            let network = embed::Network::with_parameters(&gpu, &config, &parameters).unwrap();
            let [now, output] = [config.input(), config.output()].map(|width| written(&gpu, BATCH * width));
            let mut stream = network.stream(BATCH, &now, &output).unwrap();
            let whole = buffer(&gpu, x.as_slice().unwrap());
            let mut streamed = |steps: usize| -> Vec<Vec<f32>> {
                let step = |step: usize| {
                    encode(&gpu, |encoder| {
                        encoder.copy_buffer_to_buffer(&whole, step as u64 * now.size(), &now, 0, now.size());
                        stream.step(encoder);
                        if step + 1 == steps && steps < STEPS {
                            stream.reset(encoder);
                        }
                    });
                    read(&gpu, &output)
                };
                (0..steps).map(step).collect()
            };
            let before_reset = streamed(5);
            let found = streamed(STEPS);
            assert_eq!(before_reset, found[..5]);

            let other = Network::with_parameters(&Device::Gpu(gpu.clone()), &config, &parameters).unwrap();
            let mut other = other.stream(BATCH).unwrap();
            for (step, (x, found)) in x.outer_iter().zip(&found).enumerate() {
                let expected: Vec<f32> = other.step(x).unwrap().into_iter().collect();
                assert_eq!(*found, expected, "step {step} of the other door");
            }
            if config.timeline() != Timeline::Input {
                return;
            }
            let all = written(&gpu, STEPS * BATCH * config.output());
            let sequence = network.sequence(STEPS, BATCH, &ForwardBuffers::new(&whole, &all), None).unwrap();
            encode(&gpu, |encoder| sequence.forward(encoder));
            let expected = Array3::from_shape_vec((STEPS, BATCH, config.output()), read(&gpu, &all)).unwrap();
            for (step, found) in found.iter().enumerate() {
                let expected: Vec<f32> = expected.index_axis(Axis(0), step).iter().copied().collect();
                assert_eq!(*found, expected, "step {step} of the sequence");
            }
        });
    }
    failures.finish();
}
