//! What a dispatch touches: how long each of its buffers must be, and how many loop iterations an invocation runs.
//!
//! Kernels bound their loops and indices by their params, and release builds run them without wgpu's checks; so the
//! params are checked here, against the buffers, when a dispatch is put into a plan.

use bytemuck::{Pod, pod_read_unaligned};
use gatefold_shaders::{Cell, Columns, ElementLossKind, KernelId, KernelVariant, NO_STEP, params};

/// Params of a dispatch, by their type.
fn read<P: Pod>(bytes: &[u8]) -> P {
    pod_read_unaligned(bytes)
}

/// Elements of what the host tells every update.
const HYPER_LEN: u64 = size_of::<params::Hyper>() as u64 / 4;

/// One past the last element that a walk over three axes reaches.
fn walk_end(sizes: [u32; 3], strides: [u32; 3]) -> u64 {
    sizes
        .iter()
        .zip(strides)
        .map(|(&size, stride)| u64::from(size.max(1) - 1) * u64::from(stride))
        .sum::<u64>()
        + 1
}

/// The sizes with gates in the place of lanes: along the axis of lanes as many as the maps name.
fn by_gates(mut sizes: [u32; 3], lane_axis: u32, maps: &[u32]) -> [u32; 3] {
    if lane_axis > 0 {
        let size = &mut sizes[lane_axis as usize];
        let gates = maps.iter().flat_map(|map| (0..(*size).min(8)).map(move |lane| (map >> (4 * lane)) & 15));
        *size = gates.filter(|&gate| gate != 15).max().map_or(0, |gate| gate + 1);
    }
    sizes
}

/// One past the last element that is touched of rows of `width` elements in slots of `batch` rows, up to this slot and
/// these columns.
fn rows_end(slot: u32, batch: u32, width: u32, columns: &[u32]) -> u64 {
    let last_row = (u64::from(slot) + 1) * u64::from(batch) - 1;
    last_row * u64::from(width) + columns.iter().map(|&end| u64::from(end)).max().unwrap_or(0)
}

/// Columns of the second segment of a product.
fn skip_columns(segments: u64, columns: u32) -> u32 {
    if segments == 2 { columns } else { 0 }
}

/// Elements that each binding must hold, in the order of the kernel's bindings.
///
/// `gradient_norm` walks pieces that lie in a buffer; it bounds itself by the length of the gradients.
pub(crate) fn needed_lens(kernel: &KernelVariant, params: &[u8], groups: [u32; 3]) -> Vec<u64> {
    let lanes = kernel.cell.map_or(0, |cell| u64::from(cell.lanes()));
    let product_lanes = kernel.cell.map_or(0, |cell| u64::from(cell.product_lanes()));
    let has_state = kernel.cell.is_some_and(Cell::has_state);
    let has = |name: &str| kernel.consts.iter().any(|(found, _)| *found == name);
    let segments = if has("SEGMENTS") { u64::from(kernel.constant("SEGMENTS")) } else { 1 };
    let units = |hidden: u32| u64::from(kernel.constant("UNITS")) * u64::from(hidden);
    let flag = |name: &str, len: u64| if kernel.constant(name) == 1 { len } else { 0 };
    let product = |factors: &[u32]| factors.iter().map(|&factor| u64::from(factor)).product::<u64>();
    let span = |offset: u32, len: u64| u64::from(offset) + len;
    match kernel.id {
        KernelId::StepForward => {
            let p: params::StepForward = read(params);
            let step = product(&[p.batch, p.hidden]);
            let (skip_len, skip_slot) = if segments == 2 { (p.skip_len, p.skip_slot) } else { (0, 0) };
            let ends =
                [p.r_begin + p.r_len, p.skip_begin + skip_len, p.h_begin + p.hidden, p.to_begin + p.hidden];
            let slot = p.r_slot.max(skip_slot).max(p.h_from).max(p.h_to);
            let state = if has_state { u64::from(p.state_from.max(p.state_to)) + 1 } else { 0 };
            let reads_gates = kernel.cell != Some(Cell::Readout) || kernel.constant("SAVE") == 1;
            vec![
                (u64::from(p.r_len) + u64::from(skip_len)) * u64::from(p.hidden) * product_lanes,
                units(p.hidden),
                flag("LENGTHS", u64::from(p.batch)),
                if reads_gates { (u64::from(p.t) + 1) * step * lanes } else { 0 },
                state * step,
                rows_end(slot, p.batch, p.width, &ends),
            ]
        }
        KernelId::StepBackward => {
            let p: params::StepBackward = read(params);
            let step = product(&[p.batch, p.hidden]);
            let skip_next = if segments == 2 { p.skip_next } else { NO_STEP };
            let last = [p.next, skip_next].into_iter().filter(|&step| step != NO_STEP).fold(p.t, u32::max);
            let state = if has_state { u64::from(p.state_from.max(p.state_to)) + 1 } else { 0 };
            let inner = if kernel.cell == Some(Cell::GruUpdate) { u64::from(p.inner_to) + step } else { 0 };
            vec![
                segments * product(&[p.hidden, p.hidden]) * lanes,
                units(p.hidden),
                flag("LENGTHS", u64::from(p.batch)),
                state * step,
                rows_end(p.h_from, p.batch, p.width, &[p.h_begin + p.hidden]),
                rows_end(p.t, p.batch, p.d_stride, &[p.d_begin + p.hidden]),
                (u64::from(last) + 1) * step * lanes,
                inner.max(step).max(flag("ENDS", (1 + u64::from(p.history)) * step)),
            ]
        }
        KernelId::StepBackwardInner => {
            let p: params::StepBackwardInner = read(params);
            let step = product(&[p.batch, p.hidden]);
            let state = if has_state { u64::from(p.state_from.max(p.state_to)) + 1 } else { 0 };
            let given = if kernel.cell == Some(Cell::GruUpdate) { u64::from(p.inner_to) + step } else { 0 };
            let inner = u64::from(p.inner_from) + product(&[p.batch, p.inner_len]);
            vec![
                product(&[p.inner_len, p.hidden]),
                units(p.hidden),
                flag("LENGTHS", u64::from(p.batch)),
                state * step,
                rows_end(p.h_from, p.batch, p.width, &[p.h_begin + p.hidden]),
                (u64::from(p.t) + 1) * step * lanes,
                given.max(inner).max(step).max(flag("WITH_ROW", u64::from(p.row_from) + step)),
            ]
        }
        KernelId::ReadoutBackward => {
            let p: params::ReadoutBackward = read(params);
            let step = product(&[p.batch, p.hidden]);
            let skip_next = if segments == 2 { p.skip_next } else { NO_STEP };
            let behind = [p.next, skip_next].into_iter().filter(|&step| step != NO_STEP);
            let outputs = p.columns - p.readout_from;
            let readout = product(&[p.batch, outputs]);
            let ends = product(&[p.history, p.batch, p.own]) + product(&[p.batch, p.columns - p.own]);
            let row = if p.readout_from > 0 { step } else { 0 };
            vec![
                product(&[p.hidden, p.columns + skip_columns(segments, p.skip_columns)]) * lanes,
                flag("LENGTHS", u64::from(p.batch)),
                behind.map(|step_behind| (u64::from(step_behind) + 1) * step * lanes).max().unwrap_or(0),
                rows_end(p.t, p.batch, p.d_stride, &[p.d_begin + outputs]),
                (u64::from(p.t) + 1) * readout,
                (u64::from(p.inner_to) + readout + row).max(flag("ENDS", u64::from(p.ends_at) + ends)),
            ]
        }
        KernelId::InitialBackward => {
            let p: params::InitialBackward = read(params);
            let step = product(&[p.batch, p.hidden]);
            let values = product(&[p.history, p.batch, p.own]) + product(&[p.batch, p.columns - p.own]);
            // A reverse scan begins at each row's last step, a skip reaches any.
            let steps = if p.reverse == 1 || segments == 2 { p.steps } else { 1 };
            let carried = if p.carries_h == 1 { step } else { 0 };
            vec![
                product(&[p.hidden, p.columns + skip_columns(segments, p.skip_columns)]) * lanes,
                flag("LENGTHS", u64::from(p.batch)),
                u64::from(steps) * step * lanes,
                carried.max(flag("ENDS", u64::from(p.ends_at) + values)),
                values,
            ]
        }
        KernelId::StartRows => {
            let p: params::StartRows = read(params);
            let last = (p.first_slot + p.slots).saturating_sub(1);
            vec![
                flag("WITH_START", product(&[p.given, p.batch, p.columns])),
                flag("LENGTHS", u64::from(p.batch)),
                rows_end(last, p.batch, p.width, &[p.begin + p.columns]),
            ]
        }
        KernelId::FinalRows => {
            let p: params::FinalRows = read(params);
            let last = if p.reverse == 1 { p.given - 1 } else { p.steps + p.history - 1 };
            vec![
                rows_end(last, p.batch, p.width, &[p.begin + p.columns]),
                flag("LENGTHS", u64::from(p.batch)),
                product(&[p.given, p.batch, p.columns]),
            ]
        }
        KernelId::ScanOutput => {
            let p: params::ScanOutput = read(params);
            vec![
                rows_end(p.steps + p.first_slot - 1, p.batch, p.width, &[p.begin + p.columns]),
                flag("LENGTHS", u64::from(p.batch)),
                rows_end(p.steps - 1, p.batch, p.out_width, &[p.out_begin + p.columns]),
            ]
        }
        KernelId::PeepholeGradient => {
            let p: params::PeepholeGradient = read(params);
            vec![
                product(&[p.rows, p.hidden, 4]),
                (u64::from(p.rows) + u64::from(p.before.max(p.after))) * u64::from(p.hidden),
                product(&[groups[1], 3, p.hidden]),
            ]
        }
        KernelId::MatMul => {
            let p: params::MatMul = read(params);
            let width = match kernel.columns {
                Columns::Vec4 => 4,
                Columns::F32 => 1,
            };
            let columns = product(&[p.n, width]);
            vec![
                u64::from(p.a_offset) + walk_end([p.m, p.k, 1], [p.a_row_stride, p.a_k_stride, 0]),
                span(p.b_offset, walk_end([p.k, p.n, 1], [p.b_k_stride, p.b_column_stride, 0]))
                    * u64::from(width),
                flag("BIAS", columns),
                flag("SKIP_ROWS", u64::from(p.batch)).max(flag("SKIP_INNER", u64::from(p.batch))),
                product(&[groups[2], p.m]) * columns,
            ]
        }
        KernelId::SumSlices => {
            let p: params::SumSlices = read(params);
            let len = product(&[p.m, p.n]);
            vec![u64::from(p.slices) * len, flag("BIAS", u64::from(p.n)), len]
        }
        KernelId::Pack => {
            let p: params::Pack = read(params);
            let sizes = [p.size0, p.size1, p.size2];
            let read = by_gates(sizes, p.lane_axis, &[p.map, p.other_map]);
            let source = walk_end(read, [p.stride0, p.stride1, p.stride2]);
            let rows = u64::from(p.size0.max(1) - 1) * u64::from(p.out_stride) + product(&[p.size1, p.size2]);
            vec![source, flag("WITH_OTHER", source), u64::from(p.out_begin) + rows]
        }
        KernelId::UnpackGradient => {
            let p: params::UnpackGradient = read(params);
            let sizes = [p.size0, p.size1, p.size2];
            let d = walk_end(by_gates(sizes, p.lane_axis, &[p.map]), [p.stride0, p.stride1, p.stride2]);
            vec![u64::from(p.slices) * product(&sizes), d]
        }
        KernelId::ColumnSum => {
            let p: params::ColumnSum = read(params);
            vec![u64::from(p.x_offset) + product(&[p.m, p.n]), product(&[groups[1], p.n])]
        }
        KernelId::ActivationBackward => {
            let p: params::ActivationBackward = read(params);
            vec![u64::from(p.len); 3]
        }
        KernelId::ElementLoss => {
            let p: params::ElementLoss = read(params);
            // A Gaussian takes two blocks of outputs.
            let blocks = 1 + u64::from(kernel.constant("LOSS") == ElementLossKind::Gaussian as u32);
            let rows = u64::from(p.len.div_ceil(p.features.max(1)));
            let before = rows.saturating_sub(1) * u64::from(p.stride) + u64::from(p.offset);
            let outputs = before + blocks * u64::from(p.features);
            let parts = u64::from(p.first_part) + u64::from(p.parts);
            vec![outputs, u64::from(p.len), rows, outputs, parts]
        }
        KernelId::CrossEntropy => {
            let p: params::CrossEntropy = read(params);
            let (rows, logits) = (u64::from(p.rows), product(&[p.rows, p.classes]));
            vec![logits, rows, rows, logits, rows]
        }
        KernelId::SumLoss => {
            let p: params::SumLoss = read(params);
            vec![u64::from(p.parts), u64::from(p.capacity) + 1]
        }
        KernelId::GradientNorm => {
            let p: params::GradientNorm = read(params);
            vec![product(&[p.pieces, 4]), 0, product(&[p.pieces, kernel.constant("WG_SIZE"), 4])]
        }
        KernelId::FinishNorm => {
            let p: params::FinishNorm = read(params);
            vec![product(&[p.partials, 4]), HYPER_LEN, 4]
        }
        KernelId::Sgd => {
            let p: params::Sgd = read(params);
            let end = u64::from(p.offset) + u64::from(p.len);
            vec![HYPER_LEN, 4, end, end, if p.momentum > 0.0 { end } else { 0 }]
        }
        KernelId::RmsProp => {
            let p: params::RmsProp = read(params);
            let end = u64::from(p.offset) + u64::from(p.len);
            let momentum = if p.momentum > 0.0 { end } else { 0 };
            vec![HYPER_LEN, 4, end, end, end, flag("CENTERED", end), momentum]
        }
        KernelId::Adam => {
            let p: params::Adam = read(params);
            let end = u64::from(p.offset) + u64::from(p.len);
            vec![HYPER_LEN, 4, end, end, end, end]
        }
        KernelId::GatherRows => {
            let p: params::GatherRows = read(params);
            let numbers = span(p.numbers_offset, u64::from(p.rows));
            vec![numbers, product(&[p.tokens, p.width]), product(&[p.rows, p.width])]
        }
        KernelId::RowCounts | KernelId::PlaceRows => {
            let p: params::SortRows = read(params);
            let (rows, size) = (u64::from(p.rows), u64::from(kernel.constant("WG_SIZE")));
            let numbers = span(p.numbers_offset, rows);
            let order = if kernel.constant("FIRST") == 1 { 0 } else { rows };
            match kernel.id {
                KernelId::RowCounts => vec![numbers, order, u64::from(groups[0]) * size],
                _ => vec![numbers, order, (rows.div_ceil(size) + 1) * size, rows],
            }
        }
        KernelId::RowPlaces => {
            let p: params::RowPlaces = read(params);
            vec![(u64::from(p.blocks) + 1) * u64::from(kernel.constant("WG_SIZE"))]
        }
        KernelId::RunSums | KernelId::AddRuns => {
            let p: params::Runs = read(params);
            let (rows, values) = (u64::from(p.rows), product(&[p.rows, p.width]));
            let numbers = span(p.numbers_offset, rows);
            match kernel.id {
                KernelId::RunSums => vec![numbers, rows, span(p.d_offset, values), values],
                _ => vec![numbers, rows, values, product(&[p.tokens, p.width])],
            }
        }
        KernelId::Softmax => {
            let p: params::Softmax = read(params);
            let len = product(&[p.rows, p.width]);
            vec![span(p.x_offset, len), len]
        }
        KernelId::SoftmaxBackward => {
            let p: params::SoftmaxBackward = read(params);
            let len = product(&[p.rows, p.width]);
            vec![span(p.y_offset, len), span(p.d_y_offset, len), len]
        }
        KernelId::Dropout => {
            let p: params::Dropout = read(params);
            vec![4, span(p.x_offset, u64::from(p.len)), u64::from(p.len)]
        }
        KernelId::Add => {
            let p: params::Add = read(params);
            let [a, b, out] =
                [p.a_offset, p.b_offset, p.out_offset].map(|offset| span(offset, u64::from(p.len)));
            vec![a, if kernel.constant("INTO") == 1 { 0 } else { b }, out]
        }
        KernelId::MaskRows => {
            let p: params::MaskRows = read(params);
            vec![u64::from(p.batch), span(p.x_offset, product(&[p.steps, p.batch, p.width]))]
        }
        KernelId::LastRows => {
            let p: params::RowEnds = read(params);
            let step = product(&[p.batch, p.width]);
            vec![u64::from(p.batch), span(p.offset, u64::from(p.steps) * step), step]
        }
        KernelId::LastRowsBackward => {
            let p: params::RowEnds = read(params);
            let step = product(&[p.batch, p.width]);
            vec![u64::from(p.batch), span(p.offset, step), u64::from(p.steps) * step]
        }
        KernelId::CopyBlock => {
            let p: params::CopyBlock = read(params);
            let sizes = [p.rows, p.width, 1];
            vec![
                span(p.from_offset, walk_end(sizes, [p.from_stride, 1, 0])),
                span(p.to_offset, walk_end(sizes, [p.to_stride, 1, 0])),
            ]
        }
        KernelId::Repeat => {
            let p: params::Repeat = read(params);
            vec![span(p.x_offset, u64::from(p.period)), span(p.out_offset, u64::from(p.len))]
        }
        KernelId::Fill => {
            let p: params::Fill = read(params);
            vec![span(p.offset, u64::from(p.len))]
        }
    }
}

/// Loop iterations that the busiest invocation runs, all its loops together, as if none were unrolled.
pub(crate) fn iterations(kernel: &KernelVariant, params: &[u8]) -> u64 {
    let per_k = u64::from(kernel.iterations_per_k());
    let rows = || u64::from(kernel.constant("ROWS"));
    let size = u64::from(kernel.constant("WG_SIZE"));
    match kernel.id {
        KernelId::StepForward => {
            let p: params::StepForward = read(params);
            let skip_len = if kernel.constant("SEGMENTS") == 2 { p.skip_len } else { 0 };
            (u64::from(p.r_len) + u64::from(skip_len)) * per_k + 2 * rows()
        }
        KernelId::StepBackward => {
            let hidden = u64::from(read::<params::StepBackward>(params).hidden);
            u64::from(kernel.constant("SEGMENTS")) * (hidden * per_k + rows()) + 2 * rows()
        }
        KernelId::StepBackwardInner => {
            u64::from(read::<params::StepBackwardInner>(params).inner_len) * per_k + 2 * rows()
        }
        KernelId::ReadoutBackward => {
            let hidden = u64::from(read::<params::ReadoutBackward>(params).hidden);
            u64::from(kernel.constant("SEGMENTS")) * (hidden * per_k + 2 * rows()) + 2 * rows()
        }
        KernelId::InitialBackward => {
            let hidden = u64::from(read::<params::InitialBackward>(params).hidden);
            u64::from(kernel.constant("SEGMENTS")) * (hidden * per_k + 2 * rows()) + rows()
        }
        KernelId::PeepholeGradient => {
            let p: params::PeepholeGradient = read(params);
            u64::from(p.slice_len.min(p.rows))
        }
        KernelId::StartRows | KernelId::FinalRows | KernelId::ScanOutput => 0,
        KernelId::MatMul => {
            let p: params::MatMul = read(params);
            let columns = u64::from(kernel.constant("COLUMNS"));
            u64::from(p.slice_len.min(p.k)) * per_k + columns * (1 + rows()) + rows()
        }
        KernelId::SumSlices => u64::from(read::<params::SumSlices>(params).slices),
        KernelId::UnpackGradient => u64::from(read::<params::UnpackGradient>(params).slices),
        KernelId::ColumnSum => {
            let p: params::ColumnSum = read(params);
            u64::from(p.slice_len.min(p.m))
        }
        KernelId::ElementLoss => {
            let p: params::ElementLoss = read(params);
            u64::from(p.len.div_ceil(p.parts.max(1)))
        }
        KernelId::CrossEntropy => {
            let p: params::CrossEntropy = read(params);
            let wide = kernel.constant("WIDE") == 1;
            let (lanes, shared) = if wide { (size, 2 * size) } else { (1, 0) };
            3 * u64::from(p.classes).div_ceil(lanes) + shared
        }
        KernelId::SumLoss => u64::from(read::<params::SumLoss>(params).parts) / size + 1 + size,
        // Two walks over a piece, whose length the kernel bounds.
        KernelId::GradientNorm => 2 * u64::from(gatefold_shaders::MAX_PIECE_LEN) / size,
        KernelId::FinishNorm => {
            2 * (u64::from(read::<params::FinishNorm>(params).partials) / size + 1 + size)
        }
        KernelId::RowCounts | KernelId::PlaceRows => size,
        KernelId::RowPlaces => u64::from(read::<params::RowPlaces>(params).blocks) + size,
        KernelId::RunSums => u64::from(read::<params::Runs>(params).stretch),
        KernelId::AddRuns => {
            let p: params::Runs = read(params);
            u64::from(p.rows.div_ceil(p.stretch.max(1))) + 1
        }
        KernelId::Softmax => {
            let team = kernel.constant("TEAM");
            u64::from(read::<params::Softmax>(params).width.div_ceil(team)) * 3 + 2 * u64::from(team)
        }
        KernelId::SoftmaxBackward => {
            let team = kernel.constant("TEAM");
            u64::from(read::<params::SoftmaxBackward>(params).width.div_ceil(team)) * 2 + u64::from(team)
        }
        KernelId::Pack
        | KernelId::ActivationBackward
        | KernelId::Sgd
        | KernelId::RmsProp
        | KernelId::Adam
        | KernelId::GatherRows
        | KernelId::Dropout
        | KernelId::Add
        | KernelId::MaskRows
        | KernelId::LastRows
        | KernelId::LastRowsBackward
        | KernelId::CopyBlock
        | KernelId::Repeat
        | KernelId::Fill => 0,
    }
}
