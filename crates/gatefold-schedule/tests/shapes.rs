//! Batches that a network does not read are refused before anything is lowered.

use gatefold_model::{Expansion, LayerConfig, NetworkConfig};
use gatefold_schedule::Target;
use gatefold_schedule::pass::{Axis, InitialFrom, Recording, Shape, memory_need, record, schedule};

fn problem(config: &NetworkConfig, shape: Shape) -> String {
    let target = Target::webgpu();
    let error = schedule(config, &target, shape, None).unwrap_err();
    let recording = Recording { shape, initial: InitialFrom::Configured, finals: false, backward: None };
    assert_eq!(record(config, &target, &recording).unwrap_err(), error);
    assert_eq!(memory_need(config, &target, shape, None).unwrap_err(), error);
    error.to_string()
}

#[test]
fn a_network_that_expands_reads_one_step() {
    let expand = LayerConfig::Expand { steps: 2, fill: Expansion::Zeros };
    let config = NetworkConfig::with_input(3).layer(expand).gru(4).build().unwrap();
    let of = |steps, lengths| Shape { batch: 5, input: Axis { steps, lengths }, decoder: None };
    let expected = "input: expected one step of every row, which the first layer expands, found steps ";
    assert_eq!(problem(&config, of(3, false)), format!("{expected}3"));
    assert_eq!(problem(&config, of(1, true)), format!("{expected}1 with lengths"));
    assert!(schedule(&config, &Target::webgpu(), of(1, false), None).is_ok());
}

#[test]
fn a_decoder_has_an_input_of_its_own() {
    let plain = NetworkConfig::with_input(3).gru(4).build().unwrap();
    let both = NetworkConfig::with_input(3).gru(4).decoder(2).gru(4).build().unwrap();
    let shape = Shape::plain(&both, 6, 5);
    assert_eq!(problem(&plain, shape), "decoder's input: expected none, found one");
    assert_eq!(problem(&both, Shape { decoder: None, ..shape }), "decoder's input: expected one, found none");
    assert_eq!(
        problem(&both, shape.with_decoder_steps(0)),
        "decoder's input: expected at least one step and one row, found steps 0, batch 5"
    );
    assert!(schedule(&both, &Target::webgpu(), shape.with_decoder_steps(2), None).is_ok());
}

#[test]
fn a_batch_has_steps_and_rows() {
    let config = NetworkConfig::with_input(3).gru(4).build().unwrap();
    for (steps, batch) in [(0, 5), (6, 0)] {
        let expected =
            format!("input: expected at least one step and one row, found steps {steps}, batch {batch}");
        assert_eq!(problem(&config, Shape::plain(&config, steps, batch)), expected);
    }
}
