//! Counts of plans, which no machine and no load on it can change.
//!
//! `tests/fixtures/counts.txt` has a line for every plan. After a change that is meant to alter it, write it anew and
//! look at the difference:
//!
//! ```text
//! GATEFOLD_WRITE_COUNTS=1 cargo test --test engine counts:: && git diff tests/fixtures/counts.txt
//! ```

use gatefold::devices::ScanChoice;
use gatefold::layers::{DenseConfig, GruConfig, LayerConfig, LstmConfig};
use gatefold::schedule::{Plan, Shape, Target, memory_need, schedule};
use gatefold::{NetworkConfig, TrainConfig};
use gatefold_schedule::{Dispatch, Step};
use gatefold_shaders::{Lanes, ParamsFrom};
use std::fmt::Write;
use std::path::PathBuf;

/// B, T, I, H: the shapes that are timed on graphics cards.
const SHAPES: [[usize; 4]; 8] = [
    [1, 25, 100, 100],
    [32, 50, 16, 64],
    [64, 100, 64, 128],
    [64, 128, 256, 256],
    [32, 256, 128, 512],
    [256, 128, 64, 64],
    [16, 1024, 768, 768],
    [128, 512, 512, 1024],
];

/// The iterations after which Mesa's llvmpipe ends the loops of an invocation.
const LLVMPIPE_LOOP: u64 = 65_535;

/// A graphics card, as its Vulkan driver describes it.
fn card(scan: ScanChoice) -> Target {
    Target {
        lanes: Lanes::Subgroup,
        params: ParamsFrom::Immediate,
        max_invocations: 1024,
        max_workgroup_bytes: 48 << 10,
        max_buffer_bytes: 1 << 40,
        max_binding_bytes: 4 * u64::from(u32::MAX),
        scan,
        ..Target::webgpu()
    }
}

/// Mesa's llvmpipe, for large buffers.
fn llvmpipe(scan: ScanChoice) -> Target {
    let max_loop_iterations = u32::try_from(LLVMPIPE_LOOP).ok();
    Target { software: true, max_loop_iterations, max_workgroup_bytes: 32 << 10, ..card(scan) }
}

fn network(cell: &str, layers: usize, [_, _, input, hidden]: [usize; 4]) -> NetworkConfig {
    let layer: LayerConfig =
        if cell == "lstm" { LstmConfig::new(hidden).into() } else { GruConfig::new(hidden).into() };
    let mut stack = vec![layer; layers];
    stack.push(DenseConfig::new(1).into());
    NetworkConfig::new(input, stack).unwrap()
}

fn plan(config: &NetworkConfig, target: &Target, shape: [usize; 4], training: Option<&TrainConfig>) -> Plan {
    schedule(config, target, Shape::plain(config, shape[1], shape[0]), training).unwrap()
}

fn dispatches(plan: &Plan) -> impl Iterator<Item = &Dispatch> {
    plan.steps().iter().filter_map(|step| match step {
        Step::Dispatch(dispatch) => Some(dispatch),
        _ => None,
    })
}

/// Bytes of all bindings that the plan's dispatches read or write, an element once for each dispatch.
fn touched_bytes(plan: &Plan) -> u64 {
    4 * dispatches(plan).map(|dispatch| dispatch.touched).sum::<u64>()
}

fn longest_loop(plan: &Plan) -> u64 {
    dispatches(plan).map(|dispatch| dispatch.iterations).max().unwrap_or(0)
}

/// Bytes of buffers that live only while the plan runs, shared space counted once.
fn scratch_bytes(
    config: &NetworkConfig,
    target: &Target,
    shape: [usize; 4],
    training: Option<&TrainConfig>,
    plan: &Plan,
) -> u64 {
    let need = memory_need(config, target, Shape::plain(config, shape[1], shape[0]), training).unwrap();
    let given = plan.buffers().iter().filter(|buffer| buffer.given.is_some()).map(|buffer| buffer.bytes());
    need.bytes - given.sum::<u64>()
}

/// The table, from the plans.
fn counted() -> String {
    let mut table = format!(
        "{:<18}{:<6}{:<3}{:<7}{:<11}{:>10}{:>15}{:>14}{:>9}{:>10}\n",
        "B,T,I,H",
        "cell",
        "L",
        "mode",
        "scan",
        "dispatches",
        "bytes touched",
        "scratch bytes",
        "loop",
        "llvmpipe"
    );
    let train = TrainConfig::new();
    for shape in SHAPES {
        for (cell, layers) in [("lstm", 1), ("lstm", 2), ("gru", 1), ("gru", 2)] {
            let config = network(cell, layers, shape);
            for (mode, training) in [("infer", None), ("train", Some(&train))] {
                let mut before = String::new();
                for scan in [ScanChoice::Step, ScanChoice::Workgroup] {
                    let target = card(scan);
                    let made = plan(&config, &target, shape, training);
                    let text = made.to_string();
                    if text == before {
                        continue; // no scan of it fits a workgroup
                    }
                    before = text;
                    let software = plan(&config, &llvmpipe(scan), shape, training);
                    let loops = longest_loop(&software);
                    assert!(
                        loops <= LLVMPIPE_LOOP,
                        "{shape:?} {cell} {layers} {mode} {scan}: {loops} iterations"
                    );
                    let b = shape.map(|number| number.to_string()).join(",");
                    writeln!(
                        table,
                        "{b:<18}{cell:<6}{layers:<3}{mode:<7}{scan:<11}{:>10}{:>15}{:>14}{:>9}{loops:>10}",
                        made.dispatches(),
                        touched_bytes(&made),
                        scratch_bytes(&config, &target, shape, training, &made),
                        longest_loop(&made),
                    )
                    .unwrap();
                }
            }
        }
    }
    table
}

#[test]
fn plans_cost_what_they_did() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/counts.txt");
    let found = counted();
    if std::env::var_os("GATEFOLD_WRITE_COUNTS").is_some() {
        std::fs::write(&path, &found).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap();
    let differ: Vec<String> = expected
        .lines()
        .zip(found.lines())
        .filter(|(expected, found)| expected != found)
        .map(|(expected, found)| format!("- {expected}\n+ {found}\n"))
        .collect();
    assert!(
        differ.is_empty() && expected.lines().count() == found.lines().count(),
        "{} of {} lines differ, the first ones:\n{}if that is meant, see the top of tests/counts.rs",
        differ.len(),
        expected.lines().count(),
        differ.iter().take(8).map(String::as_str).collect::<String>()
    );
}

/// One layer of four units on three inputs, five rows, two steps.
#[test]
fn a_step_touches_its_own_slots() {
    let shape = [5, 2, 3, 4];
    let config = network("lstm", 1, shape);
    let touched = |training: Option<&TrainConfig>, kernel: &str| -> Vec<u64> {
        let plan = plan(&config, &card(ScanChoice::Step), shape, training);
        let chosen = dispatches(&plan).filter(|dispatch| dispatch.kernel.to_string() == kernel);
        chosen.map(|dispatch| dispatch.touched).collect()
    };
    let (weights, gates, rows) = (4 * 4 * 4, 5 * 4 * 4, 5 * 4);
    // The state is kept in place; h is read in one slot and written in the next.
    assert_eq!(touched(None, "lstm_step_forward"), [weights + gates + rows + 2 * rows; 2]);
    let train = TrainConfig::new();
    assert_eq!(touched(Some(&train), "lstm_step_forward"), [weights + gates + 2 * rows + 2 * rows; 2]);
    // Both states, h(t-1), d_out and the carry; from the second step on, the gates of the step before too.
    let backward = weights + gates + 2 * rows + rows + rows + rows;
    assert_eq!(touched(Some(&train), "lstm_step_backward"), [backward, backward + gates]);
}

/// A scan that is split touches what each part does, not all of it in each.
#[test]
fn bytes_grow_in_proportion_to_the_steps() {
    let train = TrainConfig::new();
    for scan in ScanChoice::ALL {
        for cell in ["lstm", "gru"] {
            for training in [None, Some(&train)] {
                let bytes = |steps| {
                    let shape = [32, steps, 16, 64];
                    touched_bytes(&plan(&network(cell, 2, shape), &card(scan), shape, training)) as f64
                };
                // The slices of a weight gradient may come in other numbers.
                let growth = (bytes(1600) - bytes(800)) / (bytes(800) - bytes(400));
                assert!((1.9..2.1).contains(&growth), "{scan} {cell} {training:?}: {growth}");
            }
        }
    }
}
