//! `gatefold devices`: the devices to compute on.

use crate::failure::Failure;
use crate::page::{entry, line, size};
use gatefold::Device;
use gatefold::devices::{AdapterSummary, Cpu, Instructions, Threads, adapters};
use serde_json::{Value, json};

/// Lists the CPU and every GPU adapter with its driver and the limits that matter, and says which one `--device auto`
/// takes.
///
/// Real GPUs come before software adapters. `auto` takes the first real GPU, else the CPU: a software adapter is
/// slower than plain CPU code and is only used on request, with `gpu` or by name.
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// Print JSON instead, one object per line: each adapter, then the CPU
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let cpu = Device::cpu()?;
    let found = adapters();
    if arguments.json {
        found.iter().map(adapter_json).chain([cpu_json(&cpu, &found)]).for_each(line);
        return Ok(());
    }
    let auto = found.iter().find(|adapter| adapter.taken_by_auto);
    let taken = match auto {
        Some(adapter) => adapter.name.clone(),
        None if found.is_empty() => "the CPU: there is no GPU adapter".into(),
        None => "the CPU: no adapter is a real GPU".into(),
    };
    line(entry("auto takes", NAMES, &taken));
    for (index, adapter) in found.iter().enumerate() {
        print(adapter, &choice(&found, index));
    }
    line("\ncpu");
    let threads = match (threads(&cpu), Threads::available().count()) {
        (count, cores) if count == cores => count.to_string(),
        (count, cores) => format!("{count}, from GATEFOLD_THREADS; {cores} available"),
    };
    line(entry("  threads", NAMES, &threads));
    line(entry("  instructions", NAMES, &instructions(&cpu)));
    line(entry("  taken by", NAMES, if auto.is_some() { "--device cpu" } else { "--device auto, cpu" }));
    Ok(())
}

/// Columns of the names in front of each entry.
const NAMES: usize = 15;

fn print(adapter: &AdapterSummary, choice: &str) {
    line(format!("\n{}", entry("", 0, &adapter.name)));
    let say = |name: &str, text: String| line(entry(&format!("  {name}"), NAMES, &text));
    let slower = if adapter.kind == "software" { ", slower than the CPU device" } else { "" };
    say("kind", format!("{}{slower}", adapter.kind));
    say("driver", format!("{} on {}", adapter.driver, adapter.backend));
    say("buffer", format!("{} at most", size(adapter.max_buffer_bytes)));
    say("binding", format!("{} of a buffer at most, per kernel", size(adapter.max_binding_bytes)));
    say(
        "workgroup",
        format!(
            "{} invocations, {} of shared memory",
            adapter.max_invocations,
            size(adapter.max_workgroup_bytes.into())
        ),
    );
    say(
        "subgroup",
        match adapter.subgroup_sizes {
            None => "none".into(),
            Some((least, most)) => {
                let lanes = if least == most { format!("{least}") } else { format!("{least} to {most}") };
                let use_of_them = if adapter.shares_loads { "share loads" } else { "too few to share loads" };
                format!("{lanes} lanes, {use_of_them}")
            }
        },
    );
    let params = if adapter.immediates { "immediates" } else { "uniform buffer (no immediates)" };
    say("parameters", params.into());
    if let Some(limit) = adapter.max_loop_iterations {
        say(
            "quirk",
            format!("the driver silently ends loops after {limit} iterations; plans split longer loops"),
        );
    }
    say("taken by", format!("--device {choice}"));
}

/// The values of `--device` that take this adapter.
fn choice(adapters: &[AdapterSummary], index: usize) -> String {
    let mut choices = Vec::new();
    if adapters[index].taken_by_auto {
        choices.push("auto".into());
    }
    if index == 0 {
        choices.push("gpu".into());
    }
    let name = adapters[index].name.to_lowercase();
    // The fewest words of the name that match no earlier adapter. The twin of an earlier one cannot be named.
    let ends = name.match_indices(' ').map(|(at, _)| at).chain([name.len()]);
    let earlier =
        |part: &str| adapters[..index].iter().any(|adapter| adapter.name.to_lowercase().contains(part));
    if let Some(part) = ends.map(|end| &name[..end]).find(|part| !earlier(part)) {
        choices.push(if part.contains(' ') { format!("\"{part}\"") } else { part.into() });
    }
    if choices.is_empty() {
        "nothing: an earlier adapter has the same name".into()
    } else {
        choices.join(", ")
    }
}

fn adapter_json(adapter: &AdapterSummary) -> Value {
    json!({
        "name": adapter.name,
        "kind": adapter.kind,
        "backend": adapter.backend,
        "driver": adapter.driver,
        "max_buffer_bytes": adapter.max_buffer_bytes,
        "max_binding_bytes": adapter.max_binding_bytes,
        "max_workgroup_bytes": adapter.max_workgroup_bytes,
        "max_invocations": adapter.max_invocations,
        "subgroup_sizes": adapter.subgroup_sizes.map(|(least, most)| [least, most]),
        "shares_loads": adapter.shares_loads,
        "immediates": adapter.immediates,
        "max_loop_iterations": adapter.max_loop_iterations,
        "taken_by_auto": adapter.taken_by_auto,
    })
}

fn own(cpu: &Device) -> &Cpu {
    match cpu {
        Device::Cpu(cpu) => cpu,
        _ => unreachable!("Device::cpu opens the CPU"),
    }
}

fn threads(cpu: &Device) -> usize {
    own(cpu).threads.count()
}

/// The instructions that are used, and those that could be.
fn instructions(cpu: &Device) -> String {
    let used = own(cpu).instructions;
    let others = Instructions::available().into_iter().filter(|&set| set != used);
    let others: Vec<&str> = others.map(Instructions::name).collect();
    if others.is_empty() { used.to_string() } else { format!("{used}; also {}", others.join(", ")) }
}

fn cpu_json(cpu: &Device, adapters: &[AdapterSummary]) -> Value {
    json!({
        "name": cpu.summary(),
        "kind": "cpu",
        "threads": threads(cpu),
        "instructions": own(cpu).instructions.name(),
        "taken_by_auto": !adapters.iter().any(|adapter| adapter.taken_by_auto),
    })
}
