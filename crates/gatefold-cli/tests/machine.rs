//! `gatefold devices`, `selfcheck`, `describe` and `bench`, from end to end as a user runs them.

use gatefold::devices::Instructions;
use gatefold_check::test_gpu;
use gatefold_model::file::Model;
use gatefold_model::{DecoderConfig, DenseConfig, LayerConfig, LstmConfig, NetworkConfig, Parameters};
use gatefold_shaders::ParamsFrom;
use naga::valid::{Capabilities, ValidationFlags, Validator};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::process::{Command, Output};

fn command(arguments: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gatefold"));
    command.args(arguments.split_whitespace());
    command
}

/// The command on a machine without adapters: the loader finds no driver.
fn without_drivers(arguments: &str) -> Command {
    let mut command = command(arguments);
    for variable in ["VK_DRIVER_FILES", "VK_ICD_FILENAMES"] {
        command.env(variable, "/nowhere/icd.json");
    }
    command
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

fn succeed(mut command: Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    assert!(status.success(), "{command:?}: {status} {}", text(stderr));
    text(stdout)
}

/// The output and the last line on stderr of a command that must fail with this code.
fn fail(code: i32, mut command: Command) -> (String, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let error = text(stderr);
    assert_eq!(status.code(), Some(code), "{command:?}: {error}");
    assert!(!error.contains("panicked"), "{error}");
    (text(stdout), error.trim_end().lines().last().unwrap_or_default().into())
}

fn objects(printed: &str) -> Vec<Value> {
    printed.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
}

/// Checks that lines fit a small terminal.
fn assert_narrow(printed: &str) {
    for line in printed.lines() {
        assert!(line.chars().count() <= 60, "{line:?} in\n{printed}");
    }
}

#[test]
fn devices_without_a_gpu_are_the_cpu() {
    let printed = succeed(without_drivers("devices"));
    assert!(printed.starts_with("auto takes     the CPU: there is no GPU adapter\n"), "{printed}");
    assert_narrow(&printed);
    let found = objects(&succeed(without_drivers("devices --json")));
    assert_eq!(
        (found.len(), &found[0]["kind"], &found[0]["taken_by_auto"]),
        (1, &"cpu".into(), &true.into())
    );
}

#[test]
fn devices_lists_adapters_and_one_that_auto_takes() {
    let Some(gpu) = test_gpu() else { return };
    let name = &gpu.info().name;
    let printed = succeed(command("devices"));
    assert!(printed.contains(&format!("\n{name}\n")), "{name} is not in\n{printed}");
    for word in ["driver", "buffer", "binding", "workgroup", "subgroup", "parameters", "--device gpu"] {
        assert!(printed.contains(word), "{word} is not in\n{printed}");
    }
    assert_narrow(&printed);
    let found = objects(&succeed(command("devices --json")));
    assert_eq!(found.iter().filter(|device| device["taken_by_auto"] == true).count(), 1, "{found:?}");
    let limit = gpu.device().limits().max_storage_buffer_binding_size;
    let listed = found.iter().find(|device| device["name"] == name.as_str()).unwrap();
    assert_eq!(listed["max_binding_bytes"], limit);
    // auto never takes a software adapter.
    for device in found.iter().filter(|device| device["kind"] == "software") {
        assert_eq!(device["taken_by_auto"], false);
    }
}

#[test]
fn threads_of_the_cpu_are_an_option_or_a_variable() {
    let bench = "bench --shape 3,4,2,5 --mode infer --device cpu --json";
    let device = |mut command: Command, variable: &str| {
        command.env("GATEFOLD_THREADS", variable);
        objects(&succeed(command))[0]["device"].clone()
    };
    let available = std::thread::available_parallelism().unwrap();
    let s = if available.get() == 1 { "" } else { "s" };
    let set = Instructions::choose().unwrap();
    assert_eq!(device(command(bench), ""), format!("cpu ({available} thread{s}, {set})"));
    assert_eq!(device(command(bench), " 3 "), format!("cpu (3 threads, {set})"));
    // The option wins, also over a variable that is wrong.
    for variable in ["3", "many"] {
        assert_eq!(
            device(command(&format!("{bench} --threads 1")), variable),
            format!("cpu (1 thread, {set})")
        );
    }
    let auto = "bench --shape 3,4,2,5 --mode infer --json --threads 2";
    assert_eq!(device(without_drivers(auto), ""), format!("cpu (2 threads, {set})"));

    for (variable, found) in [("0", "0"), ("1025", "1025"), ("-1", "-1"), ("many", "many")] {
        for arguments in [bench, "devices"] {
            let mut command = without_drivers(arguments);
            command.env("GATEFOLD_THREADS", variable);
            let (printed, error) = fail(1, command);
            let expected = "GATEFOLD_THREADS: expected a number of threads from 1 to 1024";
            assert_eq!((printed, error), (String::new(), format!("error: {expected}, found \"{found}\"")));
        }
    }
    for arguments in ["--threads 0", "--threads 1025", "--threads many", "--device gpu --threads 2"] {
        fail(2, command(&format!("bench --shape 3,4,2,5 {arguments}")));
    }
    let (_, error) = fail(2, command("bench --shape 3,4,2,5 --device llvm --threads 2"));
    assert!(error.contains("--threads is for the CPU device, and --device llvm asks for a GPU"), "{error}");
}

#[test]
fn devices_says_how_many_threads_the_cpu_takes() {
    let counted = |variable: &str, json: &str| {
        let mut command = without_drivers(&format!("devices{json}"));
        command.env("GATEFOLD_THREADS", variable);
        succeed(command)
    };
    let available = std::thread::available_parallelism().unwrap();
    assert!(counted("", "").contains(&format!("\n  threads      {available}\n")), "{}", counted("", ""));
    let printed = counted("7", "");
    let expected = format!("\n  threads      7, from GATEFOLD_THREADS; {available} available\n");
    assert!(printed.contains(&expected), "{printed}");
    assert_narrow(&printed);
    let found = &objects(&counted("7", " --json"))[0];
    let set = Instructions::choose().unwrap();
    assert_eq!((&found["threads"], &found["name"]), (&7.into(), &format!("cpu (7 threads, {set})").into()));
    assert_eq!(found["instructions"], set.name());
    assert!(printed.contains(&format!("\n  instructions {set}")), "{printed}");
}

/// libwayland, which Mesa's device-select layer calls while adapters are listed, complains without the folder.
#[test]
fn a_session_without_a_runtime_folder_gets_no_complaint() {
    let Some(_) = test_gpu() else { return };
    for arguments in
        ["devices", "devices --json", "describe", "describe --device gpu", "describe --device cpu"]
    {
        for folder in [None, Some(""), Some("relative")] {
            let mut command = command(arguments);
            match folder {
                None => command.env_remove("XDG_RUNTIME_DIR"),
                Some(folder) => command.env("XDG_RUNTIME_DIR", folder),
            };
            let Output { status, stderr, .. } = command.output().unwrap();
            assert!(status.success() && stderr.is_empty(), "{arguments}, {folder:?}: {}", text(stderr));
        }
    }
}

/// Some rows, with the kernels of a release build, which run without wgpu's bounds checks. The other tests check every
/// row with them, and scripts/test-drivers every row without them on two drivers.
#[test]
fn selfcheck_passes_on_a_gpu() {
    let Some(gpu) = test_gpu() else { return };
    let word = gpu.info().name.split(' ').next().unwrap();
    let rows = ["step_forward", "adam", "networks forward", "small signals"];
    let mut check = command(&format!("selfcheck --device {word}"));
    check.args(rows.iter().flat_map(|row| ["--only", row])).env("GATEFOLD_BOUNDS_CHECKS", "off");
    let printed = succeed(check);
    assert!(printed.starts_with("device  "), "{printed}");
    for row in rows {
        let line =
            printed.lines().find(|line| line.starts_with(row)).unwrap_or_else(|| panic!("{row}:\n{printed}"));
        assert!(line.contains("  ok  "), "{line}");
    }
    assert_eq!(printed.lines().filter(|line| line.contains("  ok  ")).count(), rows.len(), "{printed}");
    let refused = command("selfcheck --only step_forwards").output().unwrap();
    let error = text(refused.stderr);
    assert!(error.contains("a similar value exists: 'step_forward'"), "{error}");
    assert_eq!(refused.status.code(), Some(2), "{error}");
}

#[test]
fn selfcheck_without_an_adapter_fails() {
    for arguments in ["selfcheck --device gpu", "selfcheck --device auto --quiet"] {
        let (printed, error) = fail(1, without_drivers(arguments));
        assert!(printed.is_empty() && error.starts_with("error: ") && error.contains("GPU"), "{error}");
    }
    let (_, error) = fail(1, command("selfcheck --device no-such-adapter"));
    assert!(error.contains("no GPU adapter matches \"no-such-adapter\""), "{error}");
}

#[test]
fn selfcheck_goes_through_the_instructions_of_the_cpu() {
    let printed = succeed(command("selfcheck --device cpu"));
    for set in Instructions::available() {
        assert!(printed.contains(&format!(", {set})")), "{set}:\n{printed}");
    }
    assert!(printed.contains("cells ") && printed.contains("layers, lengths ") && !printed.contains("FAIL"));
    let output = without_drivers("selfcheck --quiet").output().unwrap();
    assert!(output.status.success(), "a machine without a GPU has a CPU to check");
    assert_eq!(text(output.stdout), "");
    assert!(text(output.stderr).starts_with("warning   there is no GPU adapter"));
    let mut unknown = command("describe --input 3 --hidden 5 --device cpu");
    unknown.env("GATEFOLD_CPU", "mmx");
    let (_, error) = fail(1, unknown);
    assert!(error.contains("GATEFOLD_CPU: expected instructions that this machine has: plain"), "{error}");
    assert!(error.contains("found \"mmx\""), "{error}");
}

/// The sums are done by hand: 4 gates; 3 inputs, 5 units, 2 outputs; 7 rows, 11 steps.
#[test]
fn describe_counts_parameters_and_operations() {
    let flags = "describe --input 3 --hidden 5 --layers 2 --output 2 --steps 11 --batch 7 --device cpu";
    let printed = succeed(command(flags));
    assert_narrow(&printed);
    let has = |name: &str, values: &[&str]| {
        let found = printed.lines().any(|line| {
            let words: Vec<&str> =
                line.trim_start().strip_prefix(name).unwrap_or("").split("  ").map(str::trim).collect();
            let words: Vec<&str> = words.into_iter().filter(|word| !word.is_empty()).collect();
            words == values
        });
        assert!(found, "{name} {values:?} is not in\n{printed}");
    };
    has("network", &["3 -> lstm 5 -> lstm 5 -> last step -> dense 2"]);
    has("input", &["[11, 7, 3]"]);
    has("layer 1 (lstm)", &["[11, 7, 5]"]);
    has("layer 2 (last step)", &["[1, 7, 5]"]);
    has("layer 3 (dense)", &["once: [7, 5] -> [7, 2]"]);
    has("rnn0.weight_ih_l0", &["[20, 3]", "60"]);
    has("rnn0.weight_hh_l1", &["[20, 5]", "100"]);
    has("dense0.weight", &["[2, 5]", "10"]);
    has("all", &[&(60 + 100 + 40 + 100 + 100 + 40 + 10 + 2).to_string()]);
    // 8 B H (I + H) per step: 8 * 7 * 5 * 8 and 8 * 7 * 5 * 10; 2 B I O for the dense layer, once.
    has("layer 0 (lstm), a step", &["2,240", "4,480"]);
    has("layer 1 (lstm), a step", &["2,800", "5,600"]);
    has("layer 3 (dense), once", &["140", "280"]);
    has("all, all steps", &["55,580", "111,160"]); // 11 * (2240 + 2800) + 140
    assert!(printed.contains("WebGPU") && printed.contains("at most 134,217,728 bytes"), "{printed}");
}

#[test]
fn describe_reads_a_model_and_prints_its_schedule() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let stack: [LayerConfig; 3] =
        [LstmConfig::new(4).into(), LayerConfig::Tied { to: 0 }, DenseConfig::new(2).into()];
    let config = NetworkConfig::new(4, stack).unwrap();
    let parameters = Parameters::initial(&config, 1).unwrap();
    Model { config, parameters, metadata: BTreeMap::new() }.save(&path).unwrap();
    let path = path.to_str().unwrap();

    let printed =
        succeed(command(&format!("describe {path} --steps 3 --batch 2 --plan --scan step --device cpu")));
    assert!(printed.contains("[3, 2, 4] as layer 0"), "the tie is named:\n{printed}");
    assert!(printed.contains("Schedule of a training step"), "{printed}");
    let steps = |text: &str, kernel: &str| text.lines().filter(|line| line.starts_with(kernel)).count();
    assert_eq!(
        (steps(&printed, "lstm_step_forward"), steps(&printed, "lstm_step_backward")),
        (6, 6),
        "{printed}"
    );
    let printed = succeed(command(&format!(
        "describe {path} --steps 3 --batch 2 --plan=infer --scan step --device cpu"
    )));
    assert_eq!(
        (steps(&printed, "lstm_step_forward"), steps(&printed, "lstm_step_backward")),
        (6, 0),
        "{printed}"
    );

    let (_, error) = fail(2, command(&format!("describe {path} --hidden 3")));
    assert!(!error.is_empty());
    let (_, error) = fail(1, command("describe no/such/model.safetensors"));
    assert!(error.contains("no/such/model.safetensors"), "{error}");
}

/// The modules that `--wgsl` prints.
fn modules<'a>(printed: &'a str, kernel: &str) -> Vec<&'a str> {
    let head = format!("// {kernel}");
    let is_head = |line: &str| {
        line.strip_prefix(&head).is_some_and(|rest| rest.is_empty() || rest.starts_with(", variant "))
    };
    let starts: Vec<usize> = printed
        .lines()
        .filter(|line| is_head(line))
        .map(|line| line.as_ptr() as usize - printed.as_ptr() as usize)
        .collect();
    let ends = starts.iter().skip(1).copied().chain([printed.len()]);
    starts.iter().zip(ends).map(|(&start, end)| &printed[start..end]).collect()
}

#[test]
fn describe_prints_the_wgsl_of_every_kernel_of_a_schedule() {
    for scan in ["step", "workgroup"] {
        assert_wgsl_of_every_kernel(
            &format!("describe --hidden 5 --steps 3 --batch 2 --device cpu --scan {scan}"),
            scan,
        );
    }
    let flags = "describe --hidden 5 --steps 3 --batch 2 --device cpu --scan step";
    let printed = |plan: &str| succeed(command(&format!("{flags} {plan} --wgsl lstm_step_forward")));
    let (train, infer, both) = (printed("--plan"), printed("--plan=infer"), printed(""));
    let count = |text: &str| modules(text, "lstm_step_forward").len();
    assert_eq!((count(&train), count(&infer)), (1, 1), "{train}{infer}");
    let expected = if train == infer { 1 } else { 2 };
    assert_eq!(count(&both), expected, "{both}");
    assert!(train.contains("\n// ") && train.contains("ROWS="), "the constants are listed:\n{train}");
}

#[test]
fn a_product_that_is_named_is_taken() {
    let flags = "describe --hidden 5 --steps 3 --batch 2 --device cpu --plan=infer";
    for (product, kernel) in [("staged", "matmul_staged"), ("streamed", "matmul"), ("auto", "matmul")] {
        let printed = succeed(command(&format!("{flags} --product {product}")));
        let products: BTreeSet<&str> = printed
            .lines()
            .filter(|line| line.contains(" groups "))
            .filter_map(|line| line.split_whitespace().next())
            .filter(|name| name.starts_with("matmul"))
            .collect();
        assert_eq!(products, BTreeSet::from([kernel]), "{product}: {printed}");
    }
    let printed = succeed(command(&format!("{flags} --product staged --wgsl matmul_staged")));
    assert!(!modules(&printed, "matmul_staged").is_empty(), "{printed}");
    let (_, error) = fail(2, command("bench --device cpu --product staged"));
    assert!(error.contains("--product is for GPUs"), "{error}");
    fail(2, command("bench --device gpu --product tiled"));
}

fn assert_wgsl_of_every_kernel(flags: &str, scan: &str) {
    let of_scan = if scan == "step" { "lstm_step_forward" } else { "lstm_scan_forward" };
    for (plan, of_both) in [("--plan", false), ("--plan=infer", false), ("", true)] {
        let schedule = succeed(command(&format!("{flags} {}", if of_both { "--plan" } else { plan })));
        let names: BTreeSet<&str> = schedule
            .lines()
            .filter(|line| line.contains(" groups "))
            .filter_map(|line| line.split_whitespace().next())
            .collect();
        assert!(names.contains(of_scan) && names.contains("matmul"), "{names:?}");
        for name in names {
            let printed = succeed(command(&format!("{flags} {plan} --wgsl {name}")));
            let modules = modules(&printed, name);
            assert!(printed.starts_with("// ") && !modules.is_empty(), "{name}:\n{printed}");
            assert_eq!(BTreeSet::from_iter(&modules).len(), modules.len(), "{name}: one is printed twice");
            for source in &modules {
                let count = source.lines().next().unwrap().split(" of ").nth(1).unwrap_or("1");
                assert_eq!(count, modules.len().to_string(), "{name}:\n{source}");
                let module = naga::front::wgsl::parse_str(source)
                    .unwrap_or_else(|error| panic!("{name}: {}", error.emit_to_string(source)));
                Validator::new(ValidationFlags::all(), Capabilities::empty())
                    .validate(&module)
                    .unwrap_or_else(|error| panic!("{name}: {}", error.emit_to_string(source)));
                assert!(module.entry_points.iter().any(|entry| entry.name == "main"), "{name}:\n{source}");
            }
        }
    }
}

#[test]
fn describe_refuses_an_unknown_kernel() {
    let flags = "describe --cell gru --hidden 5 --steps 3 --batch 2 --device cpu --scan step";
    for name in ["lstm_step_forward", "step_forward", "no-such-kernel"] {
        let (printed, error) = fail(2, command(&format!("{flags} --plan=infer --wgsl {name}")));
        assert!(printed.is_empty(), "{printed}");
        for part in [name, "gru_step_forward", "matmul", "pack"] {
            assert!(error.contains(part), "{part} is not in {error}");
        }
        assert!(!error.contains("adam"), "{error}");
    }
}

/// On a GPU, the text is the one that its driver sees.
#[test]
fn describe_prints_the_wgsl_for_the_device() {
    let Some(gpu) = test_gpu() else { return };
    let printed = succeed(command(
        "describe --layers 1 --device gpu --scan step --wgsl lstm_step_forward --plan=infer",
    ));
    let from = match gpu.target().params {
        ParamsFrom::Immediate => "var<immediate> params",
        ParamsFrom::Uniform => "var<uniform> params",
    };
    assert!(printed.contains(from), "{printed}");
}

#[test]
fn describe_takes_the_steps_of_a_decoder() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let stack: [LayerConfig; 4] = [
        LstmConfig::new(4).into(),
        DecoderConfig::new(2).into(),
        LstmConfig::new(4).into(),
        DenseConfig::new(2).into(),
    ];
    let config = NetworkConfig::new(3, stack).unwrap();
    let parameters = Parameters::initial(&config, 1).unwrap();
    Model { config, parameters, metadata: BTreeMap::new() }.save(&path).unwrap();
    let flags =
        format!("describe {} --steps 5 --batch 7 --device cpu --scan step --plan", path.to_str().unwrap());

    let printed = succeed(command(&format!("{flags} --decoder-steps 3")));
    for part in [
        "T = 5 steps, 3 for the decoder, B = 7 rows",
        "[5, 7, 4]",
        "[3, 7, 2] the decoder's own input",
        "[3, 7, 4]",
        "t = 1 .. 5: x(t) [7, 3]",
        "t = 1 .. 3: x(t) [7, 2]",
    ] {
        let words = printed.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words.contains(part), "{part} is not in\n{printed}");
    }
    // 8 B H (I + H) per step of an LSTM, 2 B I O per step of the dense layer.
    let flop = 5 * 8 * 7 * 4 * (3 + 4) + 3 * (8 * 7 * 4 * (2 + 4) + 2 * 7 * 4 * 2);
    assert_eq!(flop, 12_208);
    assert!(printed.contains("12,208"), "{printed}");
    let scans = |text: &str| text.lines().filter(|line| line.starts_with("lstm_step_forward")).count();
    assert_eq!(scans(&printed), 5 + 3);
    assert_eq!(scans(&succeed(command(&flags))), 5 + 5, "as many as the encoder's");

    fail(2, command(&format!("{flags} --decoder-steps 0")));
    let (_, error) = fail(2, command(&format!("{flags} --decoder-steps 524288")));
    assert!(error.contains("--steps 5 --decoder-steps 524288"), "{error}");
    let (_, error) = fail(2, command("describe --decoder-steps 3"));
    assert!(error.contains("has no decoder"), "{error}");
}

#[test]
fn describe_names_the_tensor_that_is_too_large() {
    let (printed, error) = fail(1, command("describe --hidden 100000 --device cpu"));
    assert!(printed.contains("40,000,000,000"), "the description comes before the error:\n{printed}");
    for part in ["rnn0.weight_hh_l", "needs 160000000000 bytes", "134217728 in a binding", "WebGPU"] {
        assert!(error.contains(part), "{part} is not in {error}");
    }
    // The gates of all steps, [T, B, H, 4].
    let (_, error) = fail(1, command("describe --steps 2000 --batch 1000 --hidden 100 --device cpu"));
    assert!(error.contains("layer0") && error.contains("the device allows"), "{error}");
    for wide in [
        "--hidden 524288 --batch 524288 --steps 2",
        "--input 524288 --hidden 500000",
        "--output 500000 --hidden 9000",
    ] {
        fail(1, command(&format!("describe {wide} --layers 1 --every-step --device cpu")));
    }
    fail(2, command("describe --steps 500000"));
    fail(2, command("describe --hidden 0"));
}

#[test]
fn bench_prints_an_object_for_each_mode() {
    let found = objects(&succeed(command("bench --shape 3,4,2,5 --layers 2 --device cpu --json")));
    assert_eq!(found.iter().map(|run| run["mode"].as_str().unwrap()).collect::<Vec<_>>(), ["infer", "train"]);
    for run in &found {
        assert!(run["device"].as_str().unwrap().starts_with("cpu ("), "{run}");
        assert_eq!(run["shape"], serde_json::json!([3, 4, 2, 5]));
        assert_eq!(run["network"], "2 -> lstm 5 -> lstm 5 -> dense 1");
        let ms = |key: &str| run[key].as_f64().unwrap();
        assert!(
            0.0 < ms("min_ms") && ms("min_ms") <= ms("median_ms") && ms("median_ms") <= ms("max_ms"),
            "{run}"
        );
        assert!(run["runs"].as_u64().unwrap() >= 7 && ms("gflops") > 0.0, "{run}");
        assert!(run["dispatches"] == 0 && ms("worst_error") <= 1.0, "{run}");
    }
}

#[test]
fn bench_times_other_cells_directions_and_lengths() {
    let options = "--cell gru-before --bidirectional --lengths --no-biases --mode train --json";
    let found = objects(&succeed(command(&format!("bench --shape 5,4,2,3 --device cpu {options}"))));
    assert_eq!(found.len(), 1);
    assert_eq!(found[0]["network"], "2 -> gru 3 reset before, no biases, bidirectional -> dense 1");
    assert_eq!(found[0]["row_steps"], 14, "4 + 4 + 3 + 2 + 1");
}

#[test]
fn bench_says_that_nothing_was_compared() {
    let found = objects(&succeed(command("bench --shape 3,4,2,5 --device cpu --unchecked --json")));
    assert_eq!(found.len(), 2);
    assert!(
        found.iter().all(|run| run["worst_error"].is_null() && run["runs"].as_u64() >= Some(7)),
        "{found:?}"
    );
}

#[test]
fn bench_counts_the_dispatches_of_a_gpu() {
    let Some(_) = test_gpu() else { return };
    let found = objects(&succeed(command("bench --shape 3,4,2,5 --device gpu --json")));
    let counts: Vec<u64> = found.iter().map(|run| run["dispatches"].as_u64().unwrap()).collect();
    // One layer, four steps: one dispatch per step, and some for the products and the rest.
    assert!(counts[0] >= 4 && counts[0] <= 8, "{counts:?}");
    assert!(counts[1] >= 8 && counts[1] <= 2 * 4 + 16 + 24, "{counts:?}");
    let printed = succeed(command("bench --shape 3,4,2,5 --mode infer --device gpu"));
    assert!(printed.lines().last().unwrap().starts_with("3,4,2,5          infer"), "{printed}");
    assert_narrow(&printed);
}

/// Each run has a floor, made of the rates that are printed with it.
#[test]
fn bench_compares_with_the_rates_of_the_device() {
    let mut devices = vec!["cpu --threads 1"];
    devices.extend(test_gpu().map(|_| "gpu"));
    for device in devices {
        let found =
            objects(&succeed(command(&format!("bench --shape 3,4,2,5 --device {device} --roofline --json"))));
        assert_eq!(found.len(), 2, "{found:?}");
        for run in &found {
            let number = |group: &str, key: &str| run[group][key].as_f64().unwrap();
            let close = |a: f64, b: f64| assert!((a - b).abs() <= 1e-9 * b.abs(), "{a} {b}: {run}");
            assert!(number("rates", "gflops") > 0.0 && number("rates", "copy_gb_s") > 0.0, "{run}");
            let launches = run["dispatches"].as_f64().unwrap();
            close(number("floor", "launch_ms"), 1e-3 * launches * number("rates", "launch_us"));
            assert_eq!(device == "gpu", number("floor", "launch_ms") > 0.0, "{run}");
            let flop = run["gflops"].as_f64().unwrap() * run["median_ms"].as_f64().unwrap();
            close(number("floor", "arithmetic_ms"), flop / number("rates", "gflops"));
            let larger = number("floor", "arithmetic_ms").max(number("floor", "copy_ms"));
            close(number("floor", "ms"), larger + number("floor", "launch_ms"));
            close(number("floor", "share"), number("floor", "ms") / run["median_ms"].as_f64().unwrap());
        }
        let printed =
            succeed(command(&format!("bench --shape 3,4,2,5 --mode infer --device {device} --roofline")));
        for part in ["rates    arithmetic ", "GB/s", "     floor   share\n"] {
            assert!(printed.contains(part), "{part} is not in\n{printed}");
        }
        assert_eq!(printed.contains("a dispatch"), device == "gpu", "{printed}");
    }
    for wrong in ["--roofline --lengths", "--growth --lengths", "--growth --roofline"] {
        fail(2, command(&format!("bench --shape 3,4,2,5 --device cpu {wrong}")));
    }
}

#[test]
fn bench_shows_how_times_grow() {
    let flags = "bench --growth --shape 3,4,2,5 --layers 2 --mode train --device cpu --threads 1";
    let found = objects(&succeed(command(&format!("{flags} --json"))));
    let shapes: Vec<_> =
        found.iter().map(|run| (run["shape"].to_string(), run["layers"].as_u64().unwrap())).collect();
    assert_eq!((shapes[0].clone(), shapes.len()), (("[3,4,2,5]".into(), 2), 9));
    assert!(
        shapes.contains(&("[3,16,2,5]".into(), 2)) && shapes.contains(&("[3,4,2,5]".into(), 8)),
        "{shapes:?}"
    );
    assert_eq!((&found[0]["ratio"], &found[0]["floor_ratio"]), (&1.0.into(), &1.0.into()));
    // Sixteen steps take four times what four do, but for the parameters' updates.
    let steps = found.iter().find(|run| run["shape"] == serde_json::json!([3, 16, 2, 5])).unwrap();
    let floor = steps["floor_ratio"].as_f64().unwrap();
    assert!(1.5 < floor && floor <= 4.0, "{steps}");
    let printed = succeed(command(flags));
    assert_eq!(printed.lines().filter(|line| line.contains(" train ")).count(), 9, "{printed}");
    assert_narrow(&printed);
}

#[test]
fn tune_keeps_what_is_fastest() {
    let Some(_) = test_gpu() else { return };
    let folder = tempfile::tempdir().unwrap();
    let tune = |arguments: &str| {
        let mut command = command(&format!("tune --device gpu --cell rnn {arguments}"));
        command.env("GATEFOLD_CACHE", folder.path());
        succeed(command)
    };
    let printed = tune("--shape 3,4,2,5");
    assert!(printed.contains("rnn forward H 5 B 4") && printed.contains("rnn backward H 5 B 4"), "{printed}");
    assert_eq!(printed.lines().filter(|line| line.starts_with("* ")).count(), 2, "{printed}");
    assert!(!printed.contains("WRONG"), "{printed}");
    let found = objects(&tune("--shape 3,4,2,6 --json"));
    assert_eq!(found.len(), 2);
    for scan in &found {
        let candidates = scan["candidates"].as_array().unwrap();
        assert!(candidates.len() > 2, "{scan}");
        assert_eq!(candidates.iter().filter(|one| one["chosen"] == true).count(), 1, "{scan}");
        assert!(candidates.iter().all(|one| one["agrees"] == true), "{scan}");
    }
    let files = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path());
    let kept: Vec<_> = files.filter(|path| path.to_string_lossy().contains("tuning_")).collect();
    assert_eq!(kept.len(), 1);
    let text = std::fs::read_to_string(&kept[0]).unwrap();
    assert_eq!(text.lines().count(), 4, "both runs are kept: {text}");

    let refused =
        [("tune --device cpu", "tune is for GPUs"), ("tune --device gpu --scan step", "--scan names one")];
    for (arguments, reason) in refused {
        let (_, error) = fail(2, command(arguments));
        assert!(error.contains(reason), "{error}");
    }
}

#[test]
fn wrong_usage_of_bench_has_its_own_exit_code() {
    for arguments in ["--shape 1,2,3", "--shape 1,2,3,0", "--shape a,b,c,d", "--mode both", "--layers 0"] {
        fail(2, command(&format!("bench {arguments}")));
    }
    let (_, error) = fail(1, without_drivers("bench --shape 1,1,1,1 --device gpu"));
    assert!(error.contains("no GPU adapter"), "{error}");
}

#[test]
fn help_describes_each_command_in_full() {
    for (name, part) in [
        ("forecast", "Ctrl-C saves what is done"),
        ("predict", "in closed loop"),
        ("devices", "slower than plain CPU code"),
        ("selfcheck", "Exit code 1 when a check is out of tolerance"),
        ("describe", "Exit code 1 when a tensor is too large"),
        ("bench", "waits for the device"),
        ("bench", "plus dispatches x cost of a dispatch"),
        ("bench", "marks a time that grows faster than its floor"),
        ("run", "`layer0.h` [directions, batch, width]"),
        ("convert", "refused by name"),
    ] {
        let words = |text: String| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let help = words(succeed(command(&format!("{name} --help"))));
        assert!(help.contains(part), "{part} is not in\n{help}");
        assert!(words(succeed(command("--help"))).contains(name));
    }
}
