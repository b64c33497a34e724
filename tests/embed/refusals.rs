//! Calls that do not fit are refused when they are prepared.

use super::{buffer, encode, lengths, read, written};
use gatefold::embed::{self, BackwardBuffers, DecoderBuffers, ForwardBuffers, StateBuffers};
use gatefold::layers::{Biases, Direction, Expansion, GruConfig, LstmConfig, RnnConfig};
use gatefold::{Device, Error, Gpu, Network, NetworkConfig, Refusal, wgpu};
use gatefold_check::{Failures, test_gpu};

/// An RNN of 8 units, whose parameters and gradients have as many elements as four steps of four rows.
struct Square {
    network: embed::Network,
    input: wgpu::Buffer,
    output: wgpu::Buffer,
    finals: Vec<StateBuffers>,
    d_output: wgpu::Buffer,
    d_input: wgpu::Buffer,
}

impl Square {
    const SHAPE: (usize, usize) = (4, 4);
    const LEN: usize = 4 * 4 * 8;

    fn new(gpu: &Gpu) -> Square {
        let layer = RnnConfig::new(8).biases(Biases::None);
        let config = NetworkConfig::new(8, [layer.into()]).unwrap();
        let of = |value: f32| buffer(gpu, &[value; Square::LEN]);
        Square {
            network: embed::Network::new(gpu, &config, 1).unwrap(),
            input: of(0.5),
            output: of(7.0),
            finals: Vec::new(),
            d_output: of(1.0),
            d_input: of(7.0),
        }
    }

    fn prepared(&self) -> Result<embed::Sequence, Error> {
        let (steps, batch) = Square::SHAPE;
        let forward = ForwardBuffers::new(&self.input, &self.output).finals(self.finals.clone());
        let backward = BackwardBuffers::new(&self.d_output).input(&self.d_input);
        self.network.sequence(steps, batch, &forward, Some(&backward))
    }

    fn refused(&self, expected: &str) {
        let error = self.prepared().map(|_| ()).expect_err(expected).to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn buffers_that_do_not_fit_are_refused() {
    let Some(gpu) = test_gpu() else { return };
    let with = |change: &dyn Fn(&mut Square), expected: &str| {
        let mut square = Square::new(&gpu);
        change(&mut square);
        square.refused(expected);
        // The network still works with other buffers.
        Square { network: square.network, ..Square::new(&gpu) }.prepared().unwrap();
    };
    let usage = |usage: wgpu::BufferUsages| {
        let size = 4 * Square::LEN as u64;
        let (label, mapped_at_creation) = (None, false);
        gpu.device().create_buffer(&wgpu::BufferDescriptor { label, size, usage, mapped_at_creation })
    };
    let storage = wgpu::BufferUsages::STORAGE;
    let copies = wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;

    with(
        &|square| square.input = buffer(&gpu, &[0.0; Square::LEN - 1]),
        "buffer input: expected [steps 4, batch 4, input 8], 512 bytes, found 508 bytes",
    );
    with(
        &|square| {
            let (h, c, y) = (buffer(&gpu, &[0.0; 33]), None, None);
            square.finals = vec![StateBuffers { h, c, y }];
        },
        "buffer final0.0.h: expected [slots 1, batch 4, h 8], 128 bytes, found 132 bytes",
    );
    // The requirements on a buffer are the same, whether it is bound or copied.
    let all = "expected the usages COPY_SRC, COPY_DST, STORAGE, found";
    with(
        &|square| square.output = usage(storage),
        &format!("buffer output: {all} STORAGE; create it with all of them"),
    );
    with(
        &|square| square.input = usage(copies),
        &format!("buffer input: {all} COPY_SRC, COPY_DST; create it with all of them"),
    );
    with(
        &|square| square.d_input = usage(copies),
        &format!("buffer d_input: {all} COPY_SRC, COPY_DST; create it with all of them"),
    );
    with(
        &|square| square.output = square.input.clone(),
        "buffer output is the same as buffer input; expected a buffer for each",
    );
    // An output must not overwrite the parameters.
    with(
        &|square| {
            square.output = square.network.parameter("rnn0.weight_hh_l0").unwrap().buffer;
        },
        "buffer output is the same as buffer parameters; expected a buffer for each",
    );
    with(
        &|square| {
            square.d_output = square.network.gradient("rnn0.weight_hh_l0").unwrap().buffer;
        },
        "buffer d_output is the same as buffer gradients; expected a buffer for each",
    );
    let square = Square::new(&gpu);
    let same = buffer(&gpu, &[0.0; 32]);
    let error = square.network.stream(4, &same, &same).map(|_| ()).unwrap_err().to_string();
    assert_eq!(error, "buffer output is the same as buffer input; expected a buffer for each");
}

/// A device that the program opened itself.
fn own_device(adapter: &wgpu::Adapter, limits: wgpu::Limits) -> Gpu {
    let descriptor = wgpu::DeviceDescriptor { required_limits: limits, ..Default::default() };
    let (device, queue) = pollster::block_on(adapter.request_device(&descriptor)).unwrap();
    device.on_uncaptured_error(std::sync::Arc::new(|error: wgpu::Error| panic!("uncaptured: {error}")));
    Gpu::from_device(device, queue)
}

/// wgpu reports these errors only when an encoder is finished; the network reports them before the caller has one.
#[test]
fn calls_that_cannot_be_recorded_are_refused() {
    if test_gpu().is_none() {
        return;
    }
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
    let adapter = pollster::block_on(instance.request_adapter(&wgpu::RequestAdapterOptions::default()));
    let adapter = adapter.unwrap();
    let gpu = own_device(&adapter, wgpu::Limits::default());
    let other = own_device(&adapter, wgpu::Limits::default());
    // The input is bound, the output is copied to.
    let mut square = Square::new(&gpu);
    square.input = buffer(&other, &[0.0; Square::LEN]);
    square.refused("doesn't match");
    let mut square = Square::new(&gpu);
    square.output = buffer(&other, &[0.0; Square::LEN]);
    square.refused("doesn't match");

    // 35 columns of tiles are more workgroups than the program's device allows.
    let limits = wgpu::Limits { max_compute_workgroups_per_dimension: 32, ..Default::default() };
    let gpu = own_device(&adapter, limits);
    let wide = NetworkConfig::with_input(2).rnn(1100).build().unwrap();
    let error = embed::Network::new(&gpu, &wide, 1).map(|_| ()).unwrap_err();
    assert!(matches!(error, Error::Limit { .. }), "{error}");
    Square::new(&gpu).prepared().unwrap();
}

/// The kernels have the weights of the parameters that the network was made with, without a call to pack them.
#[test]
fn a_new_network_needs_no_packing() {
    let Some(gpu) = test_gpu() else { return };
    let run = |packed: bool| {
        let square = Square::new(&gpu);
        let (now, h) = (buffer(&gpu, &[0.5; 32]), buffer(&gpu, &[7.0; 32]));
        let (sequence, mut stream) =
            (square.prepared().unwrap(), square.network.stream(4, &now, &h).unwrap());
        encode(&gpu, |encoder| {
            if packed {
                square.network.pack(encoder);
            }
            sequence.forward(encoder);
            stream.step(encoder);
        });
        [read(&gpu, &square.output), read(&gpu, &h)]
    };
    assert_eq!(run(false), run(true));
    assert!(run(true)[0].iter().all(|&h| h != 0.0));
}

#[test]
fn backward_needs_a_forward_for_each() {
    let Some(gpu) = test_gpu() else { return };
    let square = Square::new(&gpu);
    let sequence = square.prepared().unwrap();
    let refused = |encoder: &mut wgpu::CommandEncoder| {
        let error = sequence.backward(encoder).unwrap_err().to_string();
        assert!(error.contains("expected a forward call before each backward, found none"), "{error}");
    };
    let gradient = square.network.gradient("rnn0.weight_hh_l0").unwrap().buffer;
    encode(&gpu, |encoder| {
        refused(encoder);
        sequence.forward(encoder);
        sequence.backward(encoder).unwrap();
    });
    let once = read(&gpu, &gradient);
    encode(&gpu, |encoder| {
        refused(encoder);
        square.network.clear_gradients(encoder);
        sequence.forward(encoder);
        sequence.forward(encoder);
        sequence.backward(encoder).unwrap();
        refused(encoder);
    });
    assert_eq!(read(&gpu, &gradient), once, "refused calls recorded nothing");
}

/// The error comes before the host allocates memory for the parameters.
#[test]
fn layers_beyond_the_device_are_refused_by_name() {
    let Some(gpu) = test_gpu() else { return };
    let config = NetworkConfig::new(2, [LstmConfig::new(1 << 24).into()]).unwrap();
    let error = embed::Network::new(&gpu, &config, 1).map(|_| ()).unwrap_err();
    let named = matches!(&error, Error::TooLarge { tensor, .. } if tensor.starts_with("rnn0.weight_"));
    assert!(named, "{error}");
    let error = Network::new(&Device::Gpu(gpu), &config, 1).map(|_| ()).unwrap_err();
    assert!(matches!(error, Error::TooLarge { .. }), "{error}");
}

/// The lengths of the buffers are right here; their number and the network's layers are not.
#[test]
fn sequences_that_the_network_does_not_read_are_refused() {
    let Some(gpu) = test_gpu() else { return };
    let mut failures = Failures::new();
    let input = NetworkConfig::with_input;
    let [steps, batch, width] = [4, 3, 2];
    let of = |steps: usize| written(&gpu, steps * batch * width);
    let h = || StateBuffers { h: written(&gpu, batch * width), c: None, y: None };
    let h_and_c = || StateBuffers { c: Some(written(&gpu, batch * width)), ..h() };
    let plain = || ForwardBuffers::new(&of(steps), &of(steps));
    let decoder = || DecoderBuffers::new(5, &of(5));
    let both = || ForwardBuffers::new(&of(steps), &of(5)).decoder(decoder());
    let gru = || input(width).gru(width);
    let lstm = || input(width).lstm(width);
    let coder = || gru().decoder(width).gru(width);
    let expand = || input(width).expand(steps, Expansion::Zeros).gru(width);
    let lengths = lengths(&gpu, &[1, 0, 1]);
    let one = || ForwardBuffers::new(&of(1), &of(steps));

    let cases = [
        (gru(), 0, plain(), "sequence: expected at least one step and one row, found steps 0, batch 3"),
        (
            input(width).gru(width).conv1d(width, 5),
            4,
            plain(),
            "sequence: expected at least 5 steps for layer 1 (conv1d), found 4",
        ),
        (gru(), 4, both(), "buffers of the decoder: expected none, found one"),
        (coder(), 4, plain(), "buffers of the decoder: expected one, found none"),
        (
            coder(),
            4,
            ForwardBuffers::new(&of(steps), &written(&gpu, 1))
                .decoder(DecoderBuffers::new(0, &written(&gpu, 1))),
            "decoder's input: expected at least one step and one row, found steps 0, batch 3",
        ),
        (
            coder(),
            4,
            both().decoder(DecoderBuffers::new(5, &of(4))),
            "buffer decoder.input: expected [steps 5, batch 3, input 2], 120 bytes, found 96 bytes",
        ),
        (
            expand(),
            4,
            plain(),
            "input: expected one step of every row, which the first layer expands, found steps 4",
        ),
        (
            expand(),
            1,
            one().lengths(&lengths),
            "input: expected one step of every row, which the first layer expands, found steps 1 with lengths",
        ),
        (
            gru().lstm(width),
            4,
            plain().initial([h()]),
            "states initial: expected 2, one for each direction of each recurrent layer, found 1",
        ),
        (
            gru().lstm(width),
            4,
            plain().initial([h(), h()]),
            "states initial: expected h and c, found h and no c",
        ),
        (gru(), 4, plain().finals([h_and_c()]), "states final: expected h and no c, found h and c"),
        (
            lstm(),
            4,
            plain().finals([StateBuffers { y: Some(of(1)), ..h_and_c() }]),
            "states final: expected no y, since no output is fed back, found y",
        ),
    ];
    for (network, steps, forward, expected) in cases {
        failures.check(expected, || {
            let network = embed::Network::new(&gpu, &network.build().unwrap(), 1).unwrap();
            let found = network.sequence(steps, batch, &forward, None).map(|_| ()).unwrap_err();
            assert!(matches!(found, Error::Shape { .. }), "{found:?}");
            assert_eq!(found.to_string(), expected);
        });
    }
    failures.check("backward", || {
        let network = embed::Network::new(&gpu, &gru().build().unwrap(), 1).unwrap();
        let backward = BackwardBuffers::new(&of(steps)).decoder_input(&of(steps));
        let found = network.sequence(steps, batch, &plain(), Some(&backward)).map(|_| ()).unwrap_err();
        assert_eq!(
            found.to_string(),
            "buffer decoder.d_input: expected none, the network has no decoder, found one"
        );
        let forward_alone = network.sequence(steps, batch, &plain(), None).unwrap();
        encode(&gpu, |encoder| {
            forward_alone.forward(encoder);
            let found = forward_alone.backward(encoder).unwrap_err().to_string();
            assert!(found.contains("prepared for forward alone"), "{found}");
        });
    });
    failures.finish();
}

#[test]
fn networks_that_cannot_go_step_by_step_are_refused() {
    let Some(gpu) = test_gpu() else { return };
    let mut failures = Failures::new();
    let input = NetworkConfig::with_input;
    let cases = [
        (
            input(2).gru(2).layer(GruConfig::new(2).direction(Direction::Reverse)),
            "layer 1 (gru) reads the end of",
        ),
        (input(2).conv1d(2, 3).gru(2), "layer 0 (conv1d) reads several steps at once"),
        (input(2).expand(4, Expansion::Repeat).gru(2), "layer 0 (expand) makes several steps of one"),
        (input(2).gru(2).decoder(2).gru(2), "layer 1 (decoder) starts from an encoder's states"),
    ];
    for (network, expected) in cases {
        failures.check(expected, || {
            let network = embed::Network::new(&gpu, &network.build().unwrap(), 1).unwrap();
            let found = network.stream(3, &written(&gpu, 6), &written(&gpu, 6)).map(|_| ()).unwrap_err();
            let refused = matches!(found, Error::Refused { kind: Refusal::Stream, .. });
            assert!(refused && found.to_string().starts_with(expected), "{found:?}");
        });
    }
    failures.finish();
}
