//! The WGSL of a kernel, joined from its parts, as the driver sees it.

use crate::failure::Failure;
use crate::page::entry;
use gatefold::schedule::Plan;
use gatefold_shaders::{Const, KernelVariant, ParamsFrom, Part};

/// The text of each variant of a kernel in the plans, printed once under a comment with its constants.
pub(super) fn texts(plans: &[Plan], name: &str, params: ParamsFrom) -> Result<Vec<String>, Failure> {
    let kernels = || plans.iter().flat_map(Plan::kernels);
    let mut variants: Vec<(&KernelVariant, String)> = Vec::new();
    for kernel in kernels().filter(|kernel| kernel.to_string() == name) {
        // Variants that differ only in parts this kernel does not have share one text.
        let source = kernel.source(params);
        if !variants.iter().any(|(_, known)| *known == source) {
            variants.push((kernel, source));
        }
    }
    if variants.is_empty() {
        let mut names: Vec<String> = kernels().map(ToString::to_string).collect();
        names.sort();
        names.dedup();
        return Err(Failure::Usage(format!(
            "--wgsl {name}: the schedule has no kernel of that name; it has {}",
            names.join(", ")
        )));
    }
    let count = variants.len();
    let texts = (1..).zip(&variants).map(|(number, (kernel, source))| {
        let which = if count > 1 { format!(", variant {number} of {count}") } else { String::new() };
        format!("// {name}{which}\n{}\n{}", comment(&constants(kernel)), source.trim_end())
    });
    Ok(texts.collect())
}

/// `ROWS=4, SAVE=true, subgroup lanes, vec4 columns`: everything that tells two variants apart.
fn constants(kernel: &KernelVariant) -> String {
    let mut texts: Vec<String> = Vec::new();
    for constant in kernel.all_consts() {
        let (name, value) = (constant.name(), kernel.constant(constant.name()));
        texts.push(match constant {
            Const::U32(_) => format!("{name}={value}"),
            Const::Bool(_) => format!("{name}={}", value != 0),
            Const::F32(_) => format!("{name}={}", f32::from_bits(value)),
        });
    }
    let parts = kernel.id.spec().parts;
    if parts.iter().any(|part| matches!(part, Part::Lanes)) {
        texts.push(format!("{:?} lanes", kernel.lanes).to_lowercase());
    }
    if parts.iter().any(|part| matches!(part, Part::Columns)) {
        texts.push(format!("{:?} columns", kernel.columns).to_lowercase());
    }
    if texts.is_empty() { "no constants".into() } else { texts.join(", ") }
}

/// A text as comment lines.
fn comment(text: &str) -> String {
    let lines = entry("", 0, text);
    lines.lines().map(|line| format!("// {line}")).collect::<Vec<_>>().join("\n")
}
