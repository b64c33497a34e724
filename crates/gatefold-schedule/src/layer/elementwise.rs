//! Whole tensors, which may begin anywhere in their buffers: sums, constants, repetition, blocks side by side, zeros past
//! the ends of rows.

use super::Sequence;
use crate::product::element_groups;
use crate::{Binding, Plan, Span};
use gatefold_shaders::{ELEMENT_WG_SIZE, KernelId, KernelVariant, params};
use std::ops::Range;

/// A kernel that treats elements one by one.
pub(super) fn kernel(id: KernelId, consts: &[(&'static str, u32)]) -> KernelVariant {
    KernelVariant::new(id, &[&[("WG_SIZE", ELEMENT_WG_SIZE)], consts].concat())
}

/// The sum of two tensors of one shape, in a new buffer.
///
/// # Panics
/// If the shapes differ.
pub fn add(plan: &mut Plan, label: &str, a: Sequence, b: Sequence) -> Sequence {
    assert_eq!((a.steps, a.batch, a.width), (b.steps, b.batch, b.width), "{label}: the shapes differ");
    let out = plan.scratch(format!("{label}.sum"), a.len());
    let (((a_span, a_offset), (b_span, b_offset)), len) =
        ((plan.bind(a.span), plan.bind(b.span)), out.len as u32);
    let (groups, groups_x) = element_groups(out.len);
    let params = params::Add { len, a_offset, b_offset, groups_x, ..Default::default() };
    plan.dispatch(
        kernel(KernelId::Add, &[("INTO", 0)]),
        params,
        &[a_span.into(), b_span.into(), out.into()],
        groups,
    );
    Sequence { span: out, ..a }
}

/// `into += from`, in place; two buffers.
///
/// # Panics
/// If the lengths differ.
pub fn add_into(plan: &mut Plan, from: Span, into: Span) {
    assert_eq!(from.len, into.len, "a sum of tensors of one shape");
    let ((a_span, a_offset), (out, out_offset)) = (plan.bind(from), plan.bind(into));
    let (groups, groups_x) = element_groups(from.len);
    let len = from.len as u32;
    let params = params::Add { len, a_offset, out_offset, groups_x, ..Default::default() };
    plan.dispatch(
        kernel(KernelId::Add, &[("INTO", 1)]),
        params,
        &[a_span.into(), Binding::Unused, out.into()],
        groups,
    );
}

/// Fills with a constant.
pub fn fill(plan: &mut Plan, span: Span, value: f32) {
    let (out, offset) = plan.bind(span);
    let (groups, groups_x) = element_groups(span.len);
    let params = params::Fill { len: span.len as u32, offset, value, groups_x };
    plan.dispatch(kernel(KernelId::Fill, &[]), params, &[out.into()], groups);
}

/// Repeats a row: `row [W]` to `out [.., W]`.
///
/// # Panics
/// If `out` does not hold whole rows.
pub fn broadcast_rows(plan: &mut Plan, row: Span, out: Span) {
    assert!(out.len.is_multiple_of(row.len), "as many whole rows as there is room for");
    let ((x, x_offset), (to, out_offset)) = (plan.bind(row), plan.bind(out));
    let (groups, groups_x) = element_groups(out.len);
    let (len, period) = (out.len as u32, row.len as u32);
    let params = params::Repeat { len, period, x_offset, out_offset, groups_x, ..Default::default() };
    plan.dispatch(kernel(KernelId::Repeat, &[]), params, &[x.into(), to.into()], groups);
}

/// A matrix among wider rows: the place of its first element, and the distance between its rows.
struct Block {
    span: Span,
    column: usize,
    stride: usize,
}

fn copy_block(plan: &mut Plan, (rows, width): (usize, usize), from: Block, to: Block) {
    let ((source, from_begin), (out, to_begin)) = (plan.bind(from.span), plan.bind(to.span));
    let (groups, groups_x) = element_groups(rows * width);
    let params = params::CopyBlock {
        rows: rows as u32,
        width: width as u32,
        from_offset: from_begin + from.column as u32,
        from_stride: from.stride as u32,
        to_offset: to_begin + to.column as u32,
        to_stride: to.stride as u32,
        groups_x,
        ..Default::default()
    };
    plan.dispatch(kernel(KernelId::CopyBlock, &[]), params, &[source.into(), out.into()], groups);
}

/// Puts tensors `[T, B, F]` of different widths side by side, as `[T, B, sum of F]`. A single one stays where it is.
pub fn side_by_side(plan: &mut Plan, label: &str, parts: &[Sequence]) -> Sequence {
    let first = parts[0];
    if parts.len() == 1 {
        return first;
    }
    let (rows, width) = (first.steps * first.batch, parts.iter().map(|part| part.width).sum());
    let span = plan.scratch(format!("{label}.y"), rows * width);
    let mut column = 0;
    for part in parts {
        let from = Block { span: part.span, column: 0, stride: part.width };
        copy_block(plan, (rows, part.width), from, Block { span, column, stride: width });
        column += part.width;
    }
    Sequence { span, width, ..first }
}

/// Splits a tensor into `parts` of one width: the reverse of [`side_by_side`].
pub fn split_side_by_side(plan: &mut Plan, label: &str, d: Sequence, parts: usize) -> Vec<Sequence> {
    if parts == 1 {
        return vec![d];
    }
    let width = d.width / parts;
    let mut part = |k: usize| take(plan, format!("{label}.d_part{k}"), d, k * width..(k + 1) * width);
    (0..parts).map(&mut part).collect()
}

/// Some columns of a tensor `[T, B, F]`, in a buffer of their own.
pub fn columns(plan: &mut Plan, label: &str, x: Sequence, columns: Range<usize>) -> Sequence {
    take(plan, format!("{label}.columns{}", columns.start), x, columns)
}

fn take(plan: &mut Plan, name: String, x: Sequence, columns: Range<usize>) -> Sequence {
    let (rows, width) = (x.steps * x.batch, columns.len());
    let span = plan.scratch(name, rows * width);
    let from = Block { span: x.span, column: columns.start, stride: x.width };
    copy_block(plan, (rows, width), from, Block { span, column: 0, stride: width });
    Sequence { span, width, ..x }
}

/// Zeroes each row past its end, in place; `lengths [B]` are `u32`.
pub fn mask_rows(plan: &mut Plan, x: Sequence, lengths: Span) {
    let (out, x_offset) = plan.bind(x.span);
    let (groups, groups_x) = element_groups(x.len());
    let params = params::MaskRows {
        steps: x.steps as u32,
        batch: x.batch as u32,
        width: x.width as u32,
        x_offset,
        groups_x,
        ..Default::default()
    };
    plan.dispatch(kernel(KernelId::MaskRows, &[]), params, &[lengths.into(), out.into()], groups);
}

/// The same tensor where a binding can begin: itself, or a copy.
pub(super) fn aligned(plan: &mut Plan, name: String, x: Sequence) -> Sequence {
    if plan.bind(x.span).1 == 0 {
        return x;
    }
    let span = plan.scratch(name, x.len());
    plan.copy(x.span, span);
    Sequence { span, ..x }
}
