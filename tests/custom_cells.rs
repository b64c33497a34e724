//! Cells defined outside of the crates: proved like the engine's own, on the CPU and on a GPU in every scan; what is refused;
//! files.

pub(crate) mod cells;

use cells::{BACKWARD_FAULT, FORWARD_FAULT, Janet, OwnGru, OwnLstm, Product, TWIN_FAULT};
use gatefold::custom::{
    self, CellDefinition, CustomCell, CustomConfig, CustomGate, Real, UnitGradient, UnitStep,
};
use gatefold::devices::{GpuOptions, ScanChoice};
use gatefold::file::{Model, pytorch};
use gatefold::layers::{Direction, GruConfig, LayerConfig, LayerNorm, LstmConfig};
use gatefold::{Device, Error, Network, NetworkConfig, Parameters, TrainConfig, Trainer};
use gatefold_check::{
    Failures, Tolerance, assert_array, assert_parameters, gradient_terms, output_terms, prove_cell,
    test_gpu_with, waves,
};
use std::panic::AssertUnwindSafe;

/// The CPU device, and a GPU with a dispatch for each step and with whole sequences in workgroups.
fn devices() -> Vec<(&'static str, Device)> {
    let gpu = |scan| test_gpu_with(&GpuOptions::new().scan(scan)).map(Device::Gpu);
    let (steps, workgroups) = (gpu(ScanChoice::Step), gpu(ScanChoice::Workgroup));
    let found = [("cpu", Device::cpu().ok()), ("steps", steps), ("workgroups", workgroups)];
    found.into_iter().filter_map(|(name, device)| Some((name, device?))).collect()
}

fn on_each(check: impl Fn(&Device)) {
    let mut failures = Failures::new();
    for (name, device) in &devices() {
        failures.check(*name, AssertUnwindSafe(|| check(device)));
    }
    failures.finish();
}

fn registered<C: CellDefinition>() -> CustomCell {
    custom::register::<C>().unwrap()
}

#[test]
fn janet_is_proved_everywhere() {
    on_each(|device| prove_cell(registered::<Janet<0>>(), device).assert());
}

#[test]
fn a_cell_with_a_state_is_proved_everywhere() {
    on_each(|device| prove_cell(registered::<OwnLstm>(), device).assert());
}

#[test]
fn a_cell_with_a_split_gate_is_proved_everywhere() {
    on_each(|device| prove_cell(registered::<OwnGru>(), device).assert());
}

#[test]
fn a_split_gate_alone_with_a_state_and_a_loop_is_proved_everywhere() {
    on_each(|device| prove_cell(registered::<Product>(), device).assert());
}

/// The failures of a proof, in one text.
fn failures(cell: CustomCell, device: &Device) -> String {
    prove_cell(cell, device).failures().join("\n")
}

#[test]
fn planted_faults_are_found_and_named() {
    let twin = failures(registered::<Janet<TWIN_FAULT>>(), &Device::cpu().unwrap());
    assert!(
        twin.contains("\"janet_twin\" on") && twin.contains("twin: d_pre of new: janet_twin at point"),
        "{twin}"
    );
    let Some(gpu) = test_gpu_with(&GpuOptions::new().scan(ScanChoice::Workgroup)) else { return };
    let device = Device::Gpu(gpu);
    let forward = failures(registered::<Janet<FORWARD_FAULT>>(), &device);
    for found in
        ["step_forward: h: janet_forward B", "scan_forward: h: janet_forward B", "layers: ", "streams: "]
    {
        assert!(forward.contains(found), "no {found} in:\n{forward}");
    }
    assert!(!forward.contains("step_backward: ") && !forward.contains("twin: "), "{forward}");
    let backward = failures(registered::<Janet<BACKWARD_FAULT>>(), &device);
    for found in
        ["step_backward: d_pre: janet_backward B", "scan_backward: d_pre: janet_backward B", "lane 0"]
    {
        assert!(backward.contains(found), "no {found} in:\n{backward}");
    }
    assert!(!backward.contains("step_forward: ") && !backward.contains("streams: "), "{backward}");
}

/// Compares a network of the engine's cell with one of the same cell from outside, from the same parameters.
fn assert_same(device: &Device, engines: LayerConfig, own: LayerConfig) {
    let network = |layer: LayerConfig| NetworkConfig::with_input(3).layer(layer).dense(2).build().unwrap();
    let (engines, own) = (network(engines), network(own));
    let parameters = Parameters::initial(&engines, 5).unwrap();
    assert_parameters("initial", &Parameters::initial(&own, 5).unwrap(), &parameters, Tolerance::EXACT);
    let (input, _) = waves(0, (6, 5), (3, 2));
    let run = |config: &NetworkConfig| {
        let network = Network::with_parameters(device, config, &parameters).unwrap();
        let tape = network.forward_training(&input, None, None).unwrap();
        let output = tape.output().to_owned();
        let d_output = output.mapv(|y| (3.0 * y).cos());
        (output, network.backward(tape, d_output.view(), None).unwrap().read().unwrap())
    };
    let ((found, d_found), (want, d_want)) = (run(&own), run(&engines));
    let tolerance = Tolerance::gradient(gradient_terms(&engines, 6, 5)).times(2);
    assert_array("output", found.view(), want.view(), Tolerance::output(output_terms(&engines)).times(2));
    assert_parameters("gradients", &d_found.parameters, &d_want.parameters, tolerance);
    assert_array("d_input", d_found.input.view(), d_want.input.view(), tolerance);
}

#[test]
fn cells_that_the_engine_has_too_agree_with_it() {
    on_each(|device| {
        for direction in [Direction::Forward, Direction::Bidirectional] {
            let own = |cell| CustomConfig::new(cell, 7).direction(direction).into();
            assert_same(device, LstmConfig::new(7).direction(direction).into(), own(registered::<OwnLstm>()));
            assert_same(device, GruConfig::new(7).direction(direction).into(), own(registered::<OwnGru>()));
        }
    });
}

#[test]
fn it_is_trained_and_resumed() {
    let config =
        NetworkConfig::with_input(2).custom(registered::<Janet<0>>(), 9).last_step().dense(2).build();
    let config = config.unwrap();
    on_each(|device| {
        let options = || TrainConfig::new().learning_rate(0.01).clip_norm(Some(1.0));
        let mut trainer = Trainer::new(Network::new(device, &config, 3).unwrap(), options()).unwrap();
        let train = |trainer: &mut Trainer, numbers: std::ops::Range<usize>| {
            for number in numbers {
                let (input, target) = waves(number, (12, 8), (2, 2));
                trainer.step(&input, &target).unwrap();
            }
        };
        train(&mut trainer, 0..30);
        let checkpoint = trainer.checkpoint(3, Default::default()).unwrap();
        let mut resumed = Trainer::resume(device, &checkpoint, options()).unwrap();
        train(&mut trainer, 30..60);
        train(&mut resumed, 30..60);
        let (found, want) =
            (resumed.network().parameters().unwrap(), trainer.network().parameters().unwrap());
        assert_parameters("resumed", &found, &want, Tolerance::EXACT);
        let losses = trainer.take_losses().unwrap();
        assert!(losses[59] < 0.2 * losses[0], "{losses:?}");
    });
}

/// The text of a right function, for texts that are wrong elsewhere.
macro_rules! forward {
    () => {
        "fn custom_forward(pre: vec4<f32>, prev: f32) -> CustomStep {
    return CustomStep(pre, sigmoid(pre.x), 0.0);
}
"
    };
}
macro_rules! backward {
    ($value:literal) => {
        concat!(
            "fn custom_backward(saved: vec4<f32>, prev: f32, state: f32, d_h: f32, d_state: f32) -> CustomGradient {
    return CustomGradient(",
            $value,
            ", 0.0);
}
"
        )
    };
}

/// Cells with these names, gates and texts, and what registering them says.
macro_rules! refused {
    ($($cell:ident $name:literal [$($gate:expr),*] $text:expr => $message:literal;)*) => {
        $(
            struct $cell;

            impl CellDefinition for $cell {
                const NAME: &'static str = $name;
                const GATES: &'static [CustomGate] = &[$($gate),*];
                const WGSL: &'static str = $text;
                fn forward<R: Real>(pre: [R; 4], prev: R) -> UnitStep<R> {
                    UnitStep { saved: pre, h: prev, state: R::ZERO }
                }
                fn backward<R: Real>(saved: [R; 4], prev: R, _: R, _: R, _: R) -> UnitGradient<R> {
                    UnitGradient { pre: saved, prev }
                }
            }
        )*

        fn refusals() -> Vec<(Result<CustomCell, Error>, &'static str)> {
            vec![$((custom::register::<$cell>(), $message)),*]
        }
    };
}

const ONE: CustomGate = CustomGate::summed("one");
const SPLIT: CustomGate = CustomGate::split("split");

refused! {
    NoBackward "refused" [ONE] forward!() =>
        "custom cell \"refused\": its WGSL has no function custom_backward; expected fn custom_backward(saved:";
    Typo "refused" [ONE] concat!(forward!(), backward!("sigmod(saved)")) =>
        "custom cell \"refused\": its WGSL, line 5, \"return CustomGradient(sigmod(saved), 0.0);\": no definition in scope";
    OtherType "refused" [ONE] concat!(forward!(), backward!("saved.x")) => "its WGSL, line 5, ";
    OtherName "refused" [ONE] concat!(forward!(), "fn slope(y: f32) -> f32 { return y; }", backward!("saved")) =>
        "its WGSL, line 4: fn slope; expected a name that begins with custom_, Custom or CUSTOM_";
    OtherConstant "refused" [ONE] concat!("/* const A = 1; */ // const B = 1;\n  const HIDDEN = 3u;", forward!()) =>
        "its WGSL, line 2: const HIDDEN; expected a name";
    Variable "refused" [ONE] concat!("var<workgroup> custom_sum: f32;", forward!(), backward!("saved")) =>
        "its WGSL, line 1: found var; expected nothing but functions, constants and types";
    Entry "refused" [ONE] concat!(forward!(), backward!("saved"), "@compute @workgroup_size(1) fn custom_main() {}") =>
        "its WGSL, line 7: found @;";
    Engines "refused" [ONE] concat!(forward!(), backward!("saved * f32(params.batch)")) => "line 5, ";
    Barrier "refused" [ONE] concat!(forward!(), backward!("custom_wait(saved)"),
        "fn custom_wait(x: vec4<f32>) -> vec4<f32> { workgroupBarrier(); return x; }") =>
        "its WGSL: custom_wait calls a barrier";
    Form "refused" [ONE] concat!(backward!("saved"), "fn custom_forward(pre: f32) -> CustomStep {
        return CustomStep(vec4(pre), pre, pre);
    }") => "its WGSL: custom_forward has another form; expected fn custom_forward(pre: vec4<f32>, prev: f32) -> CustomStep";
    Unclosed "refused" [ONE] "fn custom_forward(" => "its WGSL, at its end: ";
    Taken "lstm" [ONE] "" => "custom cell \"lstm\": a cell of the engine has that name; choose another";
    NoName "My cell" [ONE] "" => "custom cell \"My cell\": expected a name of at most 32 lower-case letters";
    Wide "refused" [ONE, SPLIT, CustomGate::split("other")] "" =>
        "its gates have 5 lanes, two for each that is split; expected 1 to 4";
    Empty "refused" [] "" => "its gates have 0 lanes";
    Late "refused" [SPLIT, ONE] "" => "the gate one comes after split, which is split; put split gates last";
    Twice "refused" [ONE, ONE] "" => "two gates are called one; expected a name for each";
    Endless "refused" [CustomGate::summed("one").bias(f32::NAN)] "" => "the initial bias of one is NaN";
    Other "janet" [ONE] concat!(forward!(), backward!("saved")) =>
        "custom cell \"janet\": another type is registered under this name; choose another name";
}

#[test]
fn what_no_kernel_could_run_is_refused_with_its_line() {
    let janet = registered::<Janet<0>>();
    assert_eq!(registered::<Janet<0>>(), janet, "the same type is the same cell");
    let mut failures = Failures::new();
    for (found, message) in refusals() {
        failures.check(message, || {
            let found = found.as_ref().expect_err("it is refused").to_string();
            assert!(found.contains(message), "{found}");
        });
    }
    failures.finish();
}

#[test]
fn options_that_reach_into_a_cell_are_refused_by_name() {
    let own = || CustomConfig::new(registered::<Janet<0>>(), 4);
    let refused = [
        (own().layer_norm(LayerNorm::default()), "layer norm is not available with a custom cell"),
        (own().zoneout(0.1), "zoneout is not available with a custom cell"),
        (own().recurrent_dropout(0.1), "is not available with a custom cell"),
        (own().clip(1.0), "a clip is not available with a custom cell"),
    ];
    for (layer, message) in refused {
        let found = NetworkConfig::with_input(2).layer(layer).build().unwrap_err().to_string();
        assert!(found.starts_with("layer 0 (janet): ") && found.contains(message), "{found}");
    }
    let config = NetworkConfig::with_input(2).layer(own()).dense(1).build().unwrap();
    let forward_mode = config.check_forward_mode().unwrap_err().to_string();
    assert!(forward_mode.contains("no forward-mode derivatives of a custom cell"), "{forward_mode}");
    let parameters = Parameters::initial(&config, 1).unwrap();
    let onnx =
        gatefold_onnx::export(&config, &parameters, Default::default()).map(|_| ()).unwrap_err().to_string();
    assert!(onnx.contains("ONNX has no operator for the custom cell \"janet\""), "{onnx}");
    let model = Model { config, parameters, metadata: Default::default() };
    let torch = pytorch::state_dict(&model, &["rnn", "head"]).map(|_| ()).unwrap_err().to_string();
    assert!(torch.contains("PyTorch has no module of the custom cell \"janet\""), "{torch}");
}

#[test]
fn files_are_read_by_programs_that_know_the_cell() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("janet.safetensors");
    let config =
        NetworkConfig::with_input(2).custom(registered::<Janet<0>>(), 4).custom(registered::<OwnGru>(), 3);
    let config = config.dense(1).build().unwrap();
    assert_eq!(config.to_string(), "2 -> janet 4 -> own_gru 3 -> dense 1");
    let parameters = Parameters::initial(&config, 1).unwrap();
    // The forget gates' biases begin at 1.
    let bias: Vec<f32> = parameters["rnn0.bias_ih_l0"].iter().copied().collect();
    assert_eq!(bias, [1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0]);
    let device = Device::cpu().unwrap();
    Network::with_parameters(&device, &config, &parameters).unwrap().save(&path).unwrap();
    let read = Network::load(&device, &path).unwrap();
    assert_eq!(*read.config(), config);
    assert_parameters("read", &read.parameters().unwrap(), &parameters, Tolerance::EXACT);

    // The same length, so that the file's other offsets stay right.
    let bytes = std::fs::read(&path).unwrap();
    let renamed = |from: &str, to: &str| {
        let mut bytes = bytes.clone();
        let place = bytes.windows(from.len()).position(|part| part == from.as_bytes()).unwrap();
        bytes[place..place + to.len()].copy_from_slice(to.as_bytes());
        let path = directory.path().join("other.safetensors");
        std::fs::write(&path, bytes).unwrap();
        Network::load(&device, &path).map(|_| ()).unwrap_err().to_string()
    };
    let unknown = renamed("janet", "jamet");
    assert!(
        unknown.contains("the cell") && unknown.contains("jamet") && unknown.contains("register it first"),
        "{unknown}"
    );
    let other_gates = renamed("forget", "fogged");
    assert!(other_gates.contains("has fogged, new, no state"), "{other_gates}");
    assert!(other_gates.contains("registered has forget, new, no state"), "{other_gates}");
}
