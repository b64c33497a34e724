//! Every kernel as naga reads it, without a device. Is each variant valid with only the features that the engine
//! requests? Do the params structs agree field by field, the bindings with the table, the gates with the model's order,
//! the extents with what the text can touch? Can the writers for the other platforms translate it?

use crate::params::{self, Layout, Params};
use crate::touched::touched;
use crate::{
    Access, CellStage, Columns, CustomStage, ELEMENT_WG_SIZE, ElementLossKind, Extents, GAVE_UP,
    GRID_STORAGE_BUFFERS, JOINED, KernelId, KernelVariant, Lanes, MAX_PARAMS_BYTES, MAX_PIECE_LEN, NO_OTHER,
    NO_STEP, OVERFLOW_BLOCK, ParamsFrom, Part, SEEN, SOFTWARE_EACH, SOFTWARE_UPDATE_WG_SIZE, STAGED_DEPTH,
    STAGED_SIDE, SUBGROUP_LANES, SYNC_STRIDE, TILE_WG_SIZE, UPDATE_WG_SIZE,
};
use gatefold_model::{Activation, GruGate, LstmGate};
use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};
use naga::{AddressSpace, Module, ShaderStage, StorageAccess, TypeInner};
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};

/// The values that a constant can have, the plainest first.
fn choices(variant: &KernelVariant, name: &str) -> Vec<u32> {
    let by_row = runs_rows(variant.id);
    let tiled = !by_row && variant.id.spec().consts.iter().any(|constant| constant.name() == "ROWS");
    match name {
        "WG_SIZE" if updates(variant.id) => vec![UPDATE_WG_SIZE, SOFTWARE_UPDATE_WG_SIZE],
        "EACH" => vec![1, SOFTWARE_EACH],
        "WG_SIZE" => vec![if tiled { TILE_WG_SIZE } else { ELEMENT_WG_SIZE }],
        "ROWS" if by_row => vec![1],
        "ROWS" => vec![1, 2, 4, 8, 16],
        "COLUMNS" | "SEGMENTS" | "ROW_QUADS" | "COLUMN_QUADS" => vec![1, 2],
        "UNITS" => match variant.cell {
            Some(CellStage::Lstm) => vec![0, 3],
            Some(CellStage::Readout) => vec![0, 1],
            _ => vec![0],
        },
        "PARTS" => vec![1, 4],
        "SPLITS" => vec![1, 2],
        // Bounds of loops, whose values change nothing else.
        "SHARERS" | "STAGED" | "POLLS" => vec![3],
        "FILLED" => vec![100],
        "HIDDEN" => vec![5, 70],
        "TEAM" => vec![1, 8, ELEMENT_WG_SIZE],
        "HAS_STATE" => vec![u32::from(variant.needed_cell().has_state())],
        "LANES_USED" => vec![3],
        "LOSS" => ElementLossKind::ALL.map(|kind| kind as u32).into(),
        "COUPLED" => vec![0, 1, 2],
        "EPSILON" => vec![1e-5f32.to_bits()],
        "ZONEOUT" | "ZONEOUT_CELL" => vec![0, 0.3f32.to_bits()],
        "CLIP" => vec![0, 3f32.to_bits()],
        name if name == "ACTIVATION" || name.ends_with("FUNCTION") => {
            Activation::ALL.map(Activation::code).into()
        }
        name if name.ends_with("ALPHA") => vec![(-0.3f32).to_bits()],
        name if name.ends_with("BETA") => vec![0.5f32.to_bits()],
        _ => vec![0, 1],
    }
}

/// Whether the workgroups of a kernel run a row of a scan each.
fn runs_rows(id: KernelId) -> bool {
    use KernelId::{RowBackward, RowForward, RowScanBackward, RowScanForward};
    matches!(id, RowForward | RowBackward | RowScanForward | RowScanBackward)
}

/// Whether a kernel belongs to an update: the norm, the optimisers, the average.
fn updates(id: KernelId) -> bool {
    use KernelId::{Adam, Average, FinishNorm, GradientNorm, RmsProp, Sgd};
    matches!(id, GradientNorm | FinishNorm | Sgd | RmsProp | Adam | Average)
}

/// The cells that a kernel is joined with.
fn cells(id: KernelId) -> Vec<Option<CellStage>> {
    let has = |part| id.spec().parts.contains(&part);
    if !has(Part::Gates) {
        return vec![None];
    }
    use KernelId::{GridBackward, GridForward, ScanBackward, ScanForward};
    let whole = matches!(id, ScanForward | ScanBackward | GridForward | GridBackward);
    let custom = CUSTOM.map(CellStage::Custom);
    let custom = custom.into_iter().filter(|_| id != KernelId::StepTangent && !runs_rows(id));
    let all = CellStage::ALL.into_iter().chain(custom);
    if whole || runs_rows(id) {
        return all.filter(|cell| cell.is_whole()).map(Some).collect();
    }
    let backward = !matches!(id, KernelId::StepForward | KernelId::StepTangent);
    all.filter(|cell| !backward || cell.has_backward()).map(Some).collect()
}

/// Cells from outside, with and without a state.
const CUSTOM: [CustomStage; 2] = {
    let text = "
fn custom_forward(pre: vec4<f32>, prev: f32) -> CustomStep {
    let f = sigmoid(pre.x);
    let n = bounded_tanh(pre.y + f * pre.z);
    let state = f * prev + (1.0 - f) * n;
    return CustomStep(vec4(f, n, pre.z, 0.0), state, state);
}

fn custom_backward(saved: vec4<f32>, prev: f32, state: f32, d_h: f32, d_state: f32) -> CustomGradient {
    let d = d_h + d_state;
    let d_n = d * (1.0 - saved.x) * (1.0 - saved.y * saved.y);
    let d_f = (d * (prev - saved.y) + d_n * saved.z) * saved.x * (1.0 - saved.x);
    return CustomGradient(vec4(d_f, d_n, d_n * saved.x, 0.0), d * saved.x);
}
";
    let plain = CustomStage { name: "test_cell", text, lanes: 3, has_state: false };
    [plain, CustomStage { name: "test_state_cell", has_state: true, ..plain }]
};

#[test]
fn names_of_custom_cells_are_theirs_alone() {
    // The names that a custom cell declares begin with custom_; no kernel may have one.
    for id in KernelId::ALL {
        for part in id.spec().parts {
            if let Part::Text(text) = part {
                assert!(!text.to_lowercase().contains("custom"), "{} has a name of a custom cell", id.name());
            }
        }
    }
    for stage in CUSTOM {
        let known: Vec<KernelId> = stage.variants().into_iter().map(|variant| variant.id).collect();
        let joined = |id: &KernelId| {
            id.spec().parts.contains(&Part::Cell) && cells(*id).contains(&Some(CellStage::Custom(stage)))
        };
        let expected: Vec<KernelId> =
            KernelId::ALL.into_iter().filter(joined).flat_map(|id| [id, id]).collect();
        assert_eq!(known, expected, "{}: the kernels that it is checked with", stage.name);
    }
}

/// The choices of constants that are changed at a time.
#[derive(Clone, Copy, PartialEq)]
enum Changed {
    One,
    Two,
}

/// Every kernel with every cell and in every form, with each choice of a constant alone and, of two, each pair of choices.
fn variants(changed: Changed) -> Vec<KernelVariant> {
    let mut found = Vec::new();
    for id in KernelId::ALL {
        let has = |wanted: Part| id.spec().parts.contains(&wanted);
        let lanes: &[Lanes] = if has(Part::Lanes) || has(Part::Parts) {
            &[Lanes::Single, Lanes::Subgroup]
        } else {
            &[Lanes::Single]
        };
        let columns: &[Columns] =
            if has(Part::Columns) { &[Columns::F32, Columns::Vec4] } else { &[Columns::F32] };
        for (&lanes, &columns) in
            lanes.iter().flat_map(|lanes| columns.iter().map(move |columns| (lanes, columns)))
        {
            for cell in cells(id) {
                let mut variant = KernelVariant { id, cell, lanes, columns, consts: Vec::new(), members: 1 };
                let constants = variant.all_consts();
                let choices: Vec<(&'static str, Vec<u32>)> = constants
                    .iter()
                    .map(|constant| (constant.name(), choices(&variant, constant.name())))
                    .collect();
                for consts in changes(&choices, changed) {
                    variant.consts = consts;
                    found.push(variant.clone());
                }
                if !id.spec().places.is_empty() {
                    let last = |(name, values): &(_, Vec<u32>)| (*name, values[values.len() - 1]);
                    variant.consts = choices.iter().map(last).collect();
                    found.push(variant.of_members(3));
                }
            }
        }
    }
    found
}

/// The first choices; these with one changed, for every other choice; and these with two changed, for pairs of other
/// choices. There are many functions, so in pairs only the last one takes part.
fn changes(choices: &[(&'static str, Vec<u32>)], changed: Changed) -> Vec<Vec<(&'static str, u32)>> {
    let plain: Vec<(&'static str, u32)> = choices.iter().map(|(name, values)| (*name, values[0])).collect();
    let with = |changes: &[(usize, u32)]| {
        let mut consts = plain.clone();
        changes.iter().for_each(|&(at, value)| consts[at].1 = value);
        consts
    };
    let mut found = vec![plain.clone()];
    for (one, (_, values)) in choices.iter().enumerate() {
        found.extend(values[1..].iter().map(|&value| with(&[(one, value)])));
        if changed == Changed::One {
            continue;
        }
        let of_pairs = |values: &[u32]| values[1..].iter().rev().take(4).copied().collect::<Vec<u32>>();
        for (other, (_, others)) in choices.iter().enumerate().skip(one + 1) {
            for value in of_pairs(values).into_iter().take(if values.len() > 5 { 1 } else { 4 }) {
                for beside in of_pairs(others).into_iter().take(if others.len() > 5 { 1 } else { 4 }) {
                    found.push(with(&[(one, value), (other, beside)]));
                }
            }
        }
    }
    found
}

/// The capabilities that the engine asks a device for, and no others.
fn promised(variant: &KernelVariant, from: ParamsFrom) -> Capabilities {
    let mut capabilities = Capabilities::empty();
    if variant.uses_subgroups() {
        capabilities |= Capabilities::SUBGROUP;
    }
    if from == ParamsFrom::Immediate {
        capabilities |= Capabilities::IMMEDIATES;
    }
    if variant.id.waits() {
        capabilities |= Capabilities::MEMORY_DECORATION_COHERENT;
    }
    capabilities
}

fn parse(variant: &KernelVariant, from: ParamsFrom) -> (String, Module, ModuleInfo) {
    let source = variant.source(from);
    let module = naga::front::wgsl::parse_str(&source)
        .unwrap_or_else(|error| panic!("{variant}: {}", error.emit_to_string(&source)));
    let info = Validator::new(ValidationFlags::all(), promised(variant, from))
        .subgroup_stages(naga::valid::ShaderStages::COMPUTE)
        .subgroup_operations(naga::valid::SubgroupOperationSet::all())
        .validate(&module)
        .unwrap_or_else(|error| panic!("{variant}: {}", error.emit_to_string(&source)));
    (source, module, info)
}

/// Checks every variant, on all cores.
fn for_all(changed: Changed, check: impl Fn(&KernelVariant) + Sync) {
    let variants = variants(changed);
    assert!(variants.len() > 1000, "only {} variants", variants.len());
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some(variant) = variants.get(next.fetch_add(1, Ordering::Relaxed)) {
            let checked = catch_unwind(AssertUnwindSafe(|| check(variant)));
            // In full: many variants of a kernel and cell share a name.
            assert!(checked.is_ok(), "{variant:?}");
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
}

/// All checks of a module in one test, since parsing and validating it takes most of the time.
#[test]
fn every_variant_is_valid_and_as_the_table_says() {
    for_all(Changed::Two, |variant| {
        for from in [ParamsFrom::Immediate, ParamsFrom::Uniform] {
            let (_, module, info) = parse(variant, from);
            assert_bindings(variant, &module);
            assert_constants(variant, &module);
            assert_extents(variant, &module);
            assert_writable(variant, &module, &info);
        }
    });
}

/// Checks that the bindings are those of the table.
fn assert_bindings(variant: &KernelVariant, module: &Module) {
    let mut found: Vec<(u32, Access)> = module
        .global_variables
        .iter()
        .filter_map(|(_, variable)| match (variable.space, &variable.binding) {
            (AddressSpace::Storage { access }, Some(binding)) => {
                assert_eq!(binding.group, 0, "{variant}");
                let writes = access.contains(StorageAccess::STORE);
                Some((binding.binding, if writes { Access::Write } else { Access::Read }))
            }
            _ => None,
        })
        .collect();
    found.sort_by_key(|(binding, _)| *binding);
    let expected: Vec<(u32, Access)> = (0..).zip(variant.id.spec().bindings.iter().copied()).collect();
    assert_eq!(found, expected, "{variant}");
    // Devices with coherent storage are no browsers.
    let most = if variant.id.waits() { GRID_STORAGE_BUFFERS } else { 8 };
    assert!(expected.len() <= most as usize, "{variant}: WebGPU promises eight storage buffers");
    for (_, variable) in module.global_variables.iter() {
        let is_coherent = variable.memory_decorations.contains(naga::MemoryDecorations::COHERENT);
        let name = variable.name.as_deref().unwrap_or_default();
        assert_eq!(is_coherent, exchanged(variant.id).contains(&name), "{variant}: {name}");
    }
}

/// The buffers through which workgroups of one dispatch tell each other something.
fn exchanged(id: KernelId) -> &'static [&'static str] {
    match id {
        KernelId::GridForward => &["h", "sync"],
        KernelId::GridBackward => &["gates", "sync"],
        KernelId::GridProbe => &["sync"],
        _ => &[],
    }
}

/// Name, type and offset.
type Field = (String, String, u32);

/// Fields and size of a struct in WGSL.
fn struct_layout(module: &Module, name: &str) -> Option<(Vec<Field>, u32)> {
    let scalar = |kind: naga::Handle<naga::Type>| match module.types[kind].inner {
        TypeInner::Scalar(naga::Scalar::U32) | TypeInner::Atomic(naga::Scalar::U32) => "u32".into(),
        TypeInner::Scalar(naga::Scalar::F32) => "f32".into(),
        ref other => format!("{other:?}"),
    };
    module.types.iter().find_map(|(_, kind)| match &kind.inner {
        TypeInner::Struct { members, span } if kind.name.as_deref() == Some(name) => {
            let field = |member: &naga::StructMember| {
                (member.name.clone().unwrap_or_default(), scalar(member.ty), member.offset)
            };
            Some((members.iter().map(field).collect(), *span))
        }
        _ => None,
    })
}

fn assert_layout<P: Layout>(id: KernelId) {
    let variant = variants(Changed::One)
        .into_iter()
        .find(|variant| variant.id == id)
        .expect("every kernel has a variant");
    let (_, module, _) = parse(&variant, ParamsFrom::Uniform);
    let (fields, size) = struct_layout(&module, P::WGSL_NAME)
        .unwrap_or_else(|| panic!("{} has no struct {}", id.name(), P::WGSL_NAME));
    let expected: Vec<Field> = P::FIELDS
        .iter()
        .zip(0..)
        .map(|((name, kind), index)| (name.to_string(), kind.to_string(), 4 * index))
        .collect();
    assert_eq!(fields, expected, "{} of {}", P::WGSL_NAME, id.name());
    assert_eq!(size as usize, size_of::<P>(), "{} of {}", P::WGSL_NAME, id.name());
    assert!(size_of::<P>() <= MAX_PARAMS_BYTES, "{}: the engine asks for room for no more", P::WGSL_NAME);
    assert_eq!(size_of::<P>() % 16, 0, "{}: uniform structs are multiples of 16 bytes", P::WGSL_NAME);
}

/// A question about the params struct of a kernel.
trait Question {
    type Answer;
    fn ask<P: Params>(&self) -> Self::Answer;
}

fn ask<Q: Question>(id: KernelId, question: &Q) -> Q::Answer {
    match id {
        KernelId::StepForward => question.ask::<params::StepForward>(),
        KernelId::StepTangent => question.ask::<params::StepTangent>(),
        KernelId::StepBackward => question.ask::<params::StepBackward>(),
        KernelId::StepBackwardInner => question.ask::<params::StepBackwardInner>(),
        KernelId::RowForward => question.ask::<params::RowForward>(),
        KernelId::RowBackward => question.ask::<params::RowBackward>(),
        KernelId::RowScanForward => question.ask::<params::RowScanForward>(),
        KernelId::RowScanBackward => question.ask::<params::RowScanBackward>(),
        KernelId::ScanForward => question.ask::<params::ScanForward>(),
        KernelId::ScanBackward => question.ask::<params::ScanBackward>(),
        KernelId::GridForward => question.ask::<params::GridForward>(),
        KernelId::GridBackward => question.ask::<params::GridBackward>(),
        KernelId::GridProbe => question.ask::<params::GridProbe>(),
        KernelId::ReadoutBackward => question.ask::<params::ReadoutBackward>(),
        KernelId::InitialBackward => question.ask::<params::InitialBackward>(),
        KernelId::InitialRows => question.ask::<params::InitialRows>(),
        KernelId::FinalRows => question.ask::<params::FinalRows>(),
        KernelId::InterleavedLengths => question.ask::<params::InterleavedLengths>(),
        KernelId::InterleavedRows => question.ask::<params::InterleavedRows>(),
        KernelId::ScanOutput => question.ask::<params::ScanOutput>(),
        KernelId::PeepholeGradient => question.ask::<params::PeepholeGradient>(),
        KernelId::MatMul | KernelId::MatMulStaged => question.ask::<params::MatMul>(),
        KernelId::SumSlices => question.ask::<params::SumSlices>(),
        KernelId::Pack => question.ask::<params::Pack>(),
        KernelId::UnpackGradient => question.ask::<params::UnpackGradient>(),
        KernelId::ColumnSum => question.ask::<params::ColumnSum>(),
        KernelId::ActivationBackward => question.ask::<params::ActivationBackward>(),
        KernelId::ElementLoss => question.ask::<params::ElementLoss>(),
        KernelId::CrossEntropy => question.ask::<params::CrossEntropy>(),
        KernelId::SumLoss => question.ask::<params::SumLoss>(),
        KernelId::GradientNorm => question.ask::<params::GradientNorm>(),
        KernelId::FinishNorm => question.ask::<params::FinishNorm>(),
        KernelId::Sgd => question.ask::<params::Sgd>(),
        KernelId::RmsProp => question.ask::<params::RmsProp>(),
        KernelId::Adam => question.ask::<params::Adam>(),
        KernelId::Average => question.ask::<params::Average>(),
        KernelId::GatherRows => question.ask::<params::GatherRows>(),
        KernelId::RowPlaces => question.ask::<params::RowPlaces>(),
        KernelId::Softmax => question.ask::<params::Softmax>(),
        KernelId::SoftmaxBackward => question.ask::<params::SoftmaxBackward>(),
        KernelId::NormaliseRows | KernelId::NormaliseRowsBackward | KernelId::NormaliseRowsTangent => {
            question.ask::<params::NormaliseRows>()
        }
        KernelId::Pool | KernelId::PoolBackward => question.ask::<params::Pool>(),
        KernelId::Dropout => question.ask::<params::Dropout>(),
        KernelId::Add => question.ask::<params::Add>(),
        KernelId::MaskRows => question.ask::<params::MaskRows>(),
        KernelId::Unfold | KernelId::Fold => question.ask::<params::Convolution>(),
        KernelId::ConvolvedLengths => question.ask::<params::ConvolvedLengths>(),
        KernelId::CopyBlock => question.ask::<params::CopyBlock>(),
        KernelId::Repeat => question.ask::<params::Repeat>(),
        KernelId::Fill => question.ask::<params::Fill>(),
        KernelId::RowCounts | KernelId::PlaceRows => question.ask::<params::SortRows>(),
        KernelId::RunSums | KernelId::AddRuns => question.ask::<params::Runs>(),
        KernelId::LastRows | KernelId::LastRowsBackward => question.ask::<params::RowEnds>(),
    }
}

/// Does the struct agree with the one in the kernel's text?
struct Agreement(KernelId);

impl Question for Agreement {
    type Answer = ();
    fn ask<P: Params>(&self) {
        assert_eq!((self.0.spec().params, self.0.spec().params_bytes), (P::WGSL_NAME, size_of::<P>()));
        assert_layout::<P>(self.0);
    }
}

#[test]
fn params_match_wgsl() {
    for id in KernelId::ALL {
        ask(id, &Agreement(id));
    }
    assert_layout::<params::PackJob>(KernelId::Pack);
    assert_layout::<params::UnpackJob>(KernelId::UnpackGradient);
    for id in [KernelId::GradientNorm, KernelId::Sgd, KernelId::RmsProp, KernelId::Adam, KernelId::Average] {
        assert_layout::<params::Piece>(id);
    }
    for id in [KernelId::FinishNorm, KernelId::Sgd, KernelId::RmsProp, KernelId::Adam, KernelId::Average] {
        assert_layout::<params::Hyper>(id);
        assert_layout::<params::Status>(id);
    }
}

/// How far does a dispatch reach when everything that params can turn on is on? All of them are 1; only a readout
/// begins at column 0, so that it has columns, and joined jobs use all buffers.
struct Reach<'a>(&'a KernelVariant);

impl Question for Reach<'_> {
    type Answer = Extents;
    fn ask<P: Params>(&self) -> Extents {
        let words: Vec<u32> = P::FIELDS
            .iter()
            .map(|field| match *field {
                ("readout_from", _) => 0,
                ("outs" | "sources", _) => JOINED as u32,
                (_, "f32") => 1f32.to_bits(),
                _ => 1,
            })
            .collect();
        let params: P = bytemuck::pod_read_unaligned(bytemuck::cast_slice(&words));
        params.extents(self.0, [1, 1, 1])
    }
}

/// Checks that every binding has an extent, and that it is 0 if and only if no invocation can touch the binding,
/// whatever the params.
fn assert_extents(variant: &KernelVariant, module: &Module) {
    let extents = ask(variant.id, &Reach(variant));
    assert_eq!(extents.lens.len(), variant.id.spec().bindings.len(), "{variant}: an extent for each binding");
    let found: Vec<usize> = (0..extents.lens.len()).filter(|&binding| extents.touches(binding)).collect();
    let expected: Vec<usize> = touched(module).into_iter().collect();
    assert_eq!(found, expected, "{variant}: the bindings that it touches");
}

/// The value of a constant of a module; a boolean is 0 or 1.
fn constant(module: &Module, name: &str) -> u32 {
    let found = module.constants.iter().find(|(_, constant)| constant.name.as_deref() == Some(name));
    let (_, constant) = found.unwrap_or_else(|| panic!("no constant is called {name}"));
    match module.global_expressions[constant.init] {
        naga::Expression::Literal(naga::Literal::U32(value)) => value,
        naga::Expression::Literal(naga::Literal::Bool(value)) => u32::from(value),
        ref other => panic!("{name} is {other:?}"),
    }
}

/// Checks that the constants are those of the host.
fn assert_constants(variant: &KernelVariant, module: &Module) {
    let gates: Vec<(&str, u32)> = match variant.cell {
        _ if !variant.id.spec().parts.contains(&Part::Cell) => Vec::new(),
        Some(CellStage::Lstm) => LstmGate::ALL.map(|gate| (gate.wgsl_name(), gate as u32)).into(),
        Some(CellStage::Gru | CellStage::GruReset | CellStage::GruUpdate) => {
            GruGate::ALL.map(|gate| (gate.wgsl_name(), gate as u32)).into()
        }
        _ => Vec::new(),
    };
    for (name, number) in gates {
        assert_eq!(constant(module, name), number, "{variant}");
    }
    if let Some(cell) = variant.cell.filter(|_| variant.id.spec().parts.contains(&Part::Cell)) {
        let of_any = [("READS_GATES", cell.reads_gates()), ("HAS_STATE", cell.has_state())];
        let of_backward = [("CARRIES", cell.carries()), ("GIVES_INNER", cell.gives_inner())];
        let own = of_any.iter().chain(of_backward.iter().filter(|_| cell.has_backward()));
        for &(name, value) in own {
            assert_eq!(constant(module, name), u32::from(value), "{name} of {variant}");
        }
    }
    if variant.id == KernelId::StepBackward {
        assert_eq!(constant(module, "NO_STEP"), NO_STEP, "{variant}");
    }
    if variant.uses_subgroups() && variant.id.spec().parts.contains(&Part::Lanes) {
        assert_eq!(constant(module, "LANES"), SUBGROUP_LANES, "{variant}");
    }
    if variant.id == KernelId::MatMulStaged {
        assert_eq!(constant(module, "SIDE"), STAGED_SIDE, "{variant}");
        assert_eq!(constant(module, "DEPTH"), STAGED_DEPTH, "{variant}");
        let shared =
            module.global_variables.iter().filter(|(_, found)| found.space == AddressSpace::WorkGroup);
        let bytes: u32 = shared.map(|(_, found)| module.types[found.ty].inner.size(module.to_ctx())).sum();
        assert!(
            bytes <= 16 << 10,
            "{variant}: {bytes} bytes of workgroup memory, and WebGPU promises 16,384"
        );
    }
    if updates(variant.id) && variant.id != KernelId::FinishNorm {
        assert_eq!(constant(module, "MAX_PIECE_LEN"), MAX_PIECE_LEN);
    }
    if matches!(variant.id, KernelId::Sgd | KernelId::RmsProp | KernelId::Adam) {
        assert_eq!(constant(module, "OVERFLOW_BLOCK"), OVERFLOW_BLOCK);
    }
    if variant.id.waits() {
        assert_eq!(constant(module, "SYNC_STRIDE"), SYNC_STRIDE, "{variant}");
        assert_eq!(constant(module, "GAVE_UP"), GAVE_UP as u32, "{variant}");
    }
    if variant.id == KernelId::GridProbe {
        assert_eq!(constant(module, "SEEN"), SEEN as u32, "{variant}");
    }
    if variant.id == KernelId::Pack {
        assert_eq!(constant(module, "NO_OTHER"), NO_OTHER, "{variant}");
    }
    if variant.id == KernelId::ElementLoss {
        for kind in ElementLossKind::ALL {
            assert_eq!(constant(module, kind.wgsl_name()), kind as u32, "{variant}");
        }
    }
    if variant.id == KernelId::SumSlices {
        for activation in Activation::ALL {
            assert_eq!(constant(module, &activation.name().to_uppercase()), activation.code());
        }
    }
}

/// Checks that the writers for the other platforms can translate the module.
fn assert_writable(variant: &KernelVariant, module: &Module, info: &ModuleInfo) {
    use naga::back::{hlsl, msl, spv};
    use naga::proc::BoundsCheckPolicies;
    let entry = Some((ShaderStage::Compute, "main".to_string()));

    let options = spv::Options { lang_version: (1, 3), ..spv::Options::default() };
    spv::write_vec(module, info, &options, None)
        .unwrap_or_else(|error| panic!("{variant} as SPIR-V: {error}"));

    let options = msl::Options {
        lang_version: if variant.id.waits() { (3, 2) } else { (2, 4) },
        fake_missing_bindings: true,
        bounds_check_policies: BoundsCheckPolicies::default(),
        ..msl::Options::default()
    };
    let pipeline = msl::PipelineOptions { entry_point: entry.clone(), ..msl::PipelineOptions::default() };
    msl::write_string(module, info, &options, &pipeline)
        .unwrap_or_else(|error| panic!("{variant} as MSL: {error}"));

    let options = hlsl::Options {
        shader_model: hlsl::ShaderModel::V6_0,
        immediates_target: Some(hlsl::BindTarget { space: 0, register: 0, ..hlsl::BindTarget::default() }),
        fake_missing_bindings: true,
        ..hlsl::Options::default()
    };
    let pipeline = hlsl::PipelineOptions { entry_point: entry };
    let mut text = String::new();
    hlsl::Writer::new(&mut text, &options, &pipeline)
        .write(module, info, None)
        .unwrap_or_else(|error| panic!("{variant} as HLSL: {error}"));
}

/// Runs a checker on a file, if it is installed. Panics with its output if it refuses the file.
fn accepts(program: &str, arguments: &[&str], file: &std::path::Path, what: &KernelVariant) -> bool {
    let output = match std::process::Command::new(program).args(arguments).arg(file).output() {
        Ok(output) => output,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return false,
        Err(error) => panic!("{program}: {error}"),
    };
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{program} refuses {what}: {}", String::from_utf8_lossy(&said));
    true
}

#[test]
fn other_compilers_accept_every_variant_where_they_are_installed() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (by_tint, by_spirv_val, files) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    // A process for each takes long, so pairs of choices are left to the test above.
    for_all(Changed::One, |variant| {
        let file = files.fetch_add(1, Ordering::Relaxed);
        let file = |ending: &str| directory.path().join(format!("{file}.{ending}"));
        // tint has another name for immediates, wants subgroups enabled, and knows no coherent storage.
        let (source, _, _) = parse(variant, ParamsFrom::Uniform);
        let source = source.replace("@coherent ", "");
        let enable = if variant.uses_subgroups() { "enable subgroups;\n" } else { "" };
        std::fs::write(file("wgsl"), format!("{enable}{source}")).expect("the directory takes a file");
        let accepted = accepts("tint", &["--format", "wgsl"], &file("wgsl"), variant);
        by_tint.fetch_add(usize::from(accepted), Ordering::Relaxed);

        let (_, module, info) = parse(variant, ParamsFrom::Immediate);
        let options = naga::back::spv::Options { lang_version: (1, 3), ..Default::default() };
        let words = naga::back::spv::write_vec(&module, &info, &options, None).expect("it is written above");
        std::fs::write(file("spv"), bytemuck::cast_slice::<u32, u8>(&words))
            .expect("the directory takes a file");
        let accepted = accepts("spirv-val", &["--target-env", "vulkan1.1"], &file("spv"), variant);
        by_spirv_val.fetch_add(usize::from(accepted), Ordering::Relaxed);
    });
    // Straight to stderr: the test runner swallows what passing tests print.
    let _ = writeln!(
        std::io::stderr(),
        "variants accepted by tint: {}, by spirv-val: {} (0: not installed)",
        by_tint.into_inner(),
        by_spirv_val.into_inner()
    );
}
