//! The WGSL of custom cells: whether kernels can be joined with it, and whether they can run without bounds checks.

use gatefold_model::{CustomParts, ModelError};
use gatefold_shaders::{CellStage, CustomStage, ParamsFrom};
use naga::valid::{Capabilities, ModuleInfo, ShaderStages, SubgroupOperationSet, ValidationFlags, Validator};
use naga::{Block, Expression, Function, Module, Statement, TypeInner};

/// Checks that the text of a cell is valid by itself and in every kernel.
///
/// # Errors
/// [`ModelError::Config`] with the line, the place and naga's reason.
pub(crate) fn check(parts: &CustomParts) -> Result<(), ModelError> {
    let refuse = |problem| Err(ModelError::Config { place: parts.place(), problem });
    let lanes = parts.gates.iter().map(|gate| 1 + u32::from(gate.is_split())).sum();
    let stage = CustomStage { name: parts.name, text: parts.wgsl, lanes, has_state: parts.has_state };
    match declarations_problem(stage.text).or_else(|| text_problem(stage)).or_else(|| joined_problem(stage)) {
        Some(problem) => refuse(format!("its WGSL{problem}")),
        None => Ok(()),
    }
}

/// Whether no loop of a cell's text can run on and no index can miss, so that its kernels need no checks by wgpu.
pub(super) fn is_bounded(cell: Option<CellStage>) -> bool {
    let Some(CellStage::Custom(custom)) = cell else { return true };
    let Ok(module) = naga::front::wgsl::parse_str(&custom.alone()) else { return false };
    module.functions.iter().all(|(_, function)| {
        let indexes = |(_, expression): (_, &Expression)| matches!(expression, Expression::Access { .. });
        !function.expressions.iter().any(indexes) && !loops(&function.body)
    })
}

fn loops(block: &Block) -> bool {
    block.iter().any(|statement| match statement {
        Statement::Loop { .. } => true,
        Statement::Block(block) => loops(block),
        Statement::If { accept, reject, .. } => loops(accept) || loops(reject),
        Statement::Switch { cases, .. } => cases.iter().any(|case| loops(&case.body)),
        _ => false,
    })
}

/// The first declaration of a text that a cell may not have.
fn declarations_problem(text: &str) -> Option<String> {
    let plain = without_comments(text);
    let mut depth = 0u32;
    for (line, mut rest) in (1..).zip(plain.lines()) {
        while let Some(c) = rest.chars().next() {
            let word_end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            let (word, after) = rest.split_at(word_end.max(c.len_utf8()));
            rest = after;
            match word {
                "{" => depth += 1,
                "}" => depth = depth.saturating_sub(1),
                "@" | "var" | "override" | "enable" | "requires" | "diagnostic" if depth == 0 => {
                    return Some(format!(
                        ", line {line}: found {word}; expected nothing but functions, constants and types"
                    ));
                }
                "fn" | "const" | "struct" | "alias" if depth == 0 => {
                    let name = after.trim_start();
                    if !["custom_", "Custom", "CUSTOM_"].iter().any(|prefix| name.starts_with(prefix)) {
                        let end = name.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(name.len());
                        return Some(format!(
                            ", line {line}: {word} {}; expected a name that begins with custom_, Custom or CUSTOM_",
                            &name[..end]
                        ));
                    }
                }
                _ => {}
            }
        }
    }
    None
}

/// The text with spaces in place of comments; lines stay where they are.
fn without_comments(text: &str) -> String {
    let mut found = String::with_capacity(text.len());
    let (mut nested, mut to_line_end) = (0u32, false);
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let pair = rest.get(..2).unwrap_or("");
        to_line_end = (to_line_end || (nested == 0 && pair == "//")) && c != '\n';
        let (taken, kept) = match pair {
            "/*" if !to_line_end => {
                nested += 1;
                (2, false)
            }
            "*/" if nested > 0 => {
                nested -= 1;
                (2, false)
            }
            _ => (c.len_utf8(), (nested == 0 && !to_line_end) || c == '\n'),
        };
        found.push_str(if kept { &rest[..taken] } else { " " });
        rest = &rest[taken..];
    }
    found
}

/// The problem of a cell's text by itself.
fn text_problem(stage: CustomStage) -> Option<String> {
    let source = stage.alone();
    let module = match naga::front::wgsl::parse_str(&source) {
        Ok(module) => module,
        Err(error) => {
            let at = error.location(&source).map(|place| place.offset as usize);
            return Some(placed(stage, at, error.message()));
        }
    };
    let info = match validate(&module, Capabilities::empty()) {
        Ok(info) => info,
        Err((at, reasons)) => return Some(placed(stage, at, &reasons)),
    };
    let number =
        |ty: naga::Handle<naga::Type>| module.types[ty].inner == TypeInner::Scalar(naga::Scalar::F32);
    let four = |ty: naga::Handle<naga::Type>| {
        let wanted = TypeInner::Vector { size: naga::VectorSize::Quad, scalar: naga::Scalar::F32 };
        module.types[ty].inner == wanted
    };
    for (name, numbers, result) in
        [("custom_forward", 1, "CustomStep"), ("custom_backward", 4, "CustomGradient")]
    {
        let function = module.functions.iter().find(|(_, function)| function.name.as_deref() == Some(name));
        let fits = |function: &Function| {
            let (first, others) = function.arguments.split_first()?;
            let result_name = module.types[function.result.as_ref()?.ty].name.as_deref()?;
            let rest = others.len() == numbers && others.iter().all(|argument| number(argument.ty));
            Some(four(first.ty) && rest && result_name == result)
        };
        let wanted = match name {
            "custom_forward" => "pre: vec4<f32>, prev: f32",
            _ => "saved: vec4<f32>, prev: f32, state: f32, d_h: f32, d_state: f32",
        };
        let Some((_, function)) = function else {
            return Some(format!(" has no function {name}; expected fn {name}({wanted}) -> {result}"));
        };
        if fits(function) != Some(true) {
            return Some(format!(": {name} has another form; expected fn {name}({wanted}) -> {result}"));
        }
    }
    barrier(&module, &info)
}

/// The problem of a function that waits for other invocations, which run other units and may not come.
fn barrier(module: &Module, info: &ModuleInfo) -> Option<String> {
    let waits =
        |(handle, _): &(naga::Handle<Function>, &Function)| !info[*handle].uniformity.requirements.is_empty();
    let (_, function) = module.functions.iter().find(waits)?;
    let name = function.name.as_deref().unwrap_or("a function");
    Some(format!(
        ": {name} calls a barrier; the invocations of a kernel run different units, and may not meet there"
    ))
}

/// The problem of a kernel that is joined with the cell.
fn joined_problem(stage: CustomStage) -> Option<String> {
    let capabilities = Capabilities::SUBGROUP | Capabilities::MEMORY_DECORATION_COHERENT;
    stage.variants().into_iter().find_map(|variant| {
        let source = variant.source(ParamsFrom::Uniform);
        let problem = |reasons: &str| Some(format!(" does not fit the kernel {variant}: {reasons}"));
        match naga::front::wgsl::parse_str(&source) {
            Ok(module) => validate(&module, capabilities).err().and_then(|(_, reasons)| problem(&reasons)),
            Err(error) => problem(error.message()),
        }
    })
}

/// Validates a module; else gives the place and all reasons, from the outermost in.
fn validate(module: &Module, capabilities: Capabilities) -> Result<ModuleInfo, (Option<usize>, String)> {
    let mut validator = Validator::new(ValidationFlags::all(), capabilities);
    validator.subgroup_stages(ShaderStages::COMPUTE).subgroup_operations(SubgroupOperationSet::all());
    validator.validate(module).map_err(|error| {
        // The shortest span is the innermost: others are whole functions.
        let spans = error.spans().filter_map(|(span, _)| span.to_range());
        let at = spans.min_by_key(|range| range.len()).map(|range| range.start);
        let mut reasons = error.as_inner().to_string();
        let mut source = std::error::Error::source(error.as_inner());
        while let Some(reason) = source {
            reasons = format!("{reasons}: {reason}");
            source = reason.source();
        }
        (at, reasons)
    })
}

/// `, line 3, "let f = sigmod(pre.x);": no definition in scope for identifier: ...`
fn placed(stage: CustomStage, at: Option<usize>, reasons: &str) -> String {
    match at.filter(|&at| at < stage.text.len()) {
        Some(at) => {
            let line = stage.text[..at].matches('\n').count();
            let text = stage.text.lines().nth(line).unwrap_or("").trim();
            format!(", line {}, {text:?}: {reasons}", line + 1)
        }
        None => format!(", at its end: {reasons}"),
    }
}
