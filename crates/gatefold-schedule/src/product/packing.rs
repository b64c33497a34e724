//! Axes reordered for the kernels' walks, and gradients put back into the order of their parameters.

use super::element_groups;
use super::matrix::{LaneMap, Order};
use crate::{Plan, Span};
use gatefold_shaders::{ELEMENT_WG_SIZE, KernelId, KernelVariant, params};

/// `d += parts`: slices are added in order, and axes put in the order of the parameter.
pub fn unpack(plan: &mut Plan, what: &str, parts: Span, slices: usize, order: Order, d: Span) {
    let (groups, groups_x) = element_groups(order.len());
    let [size0, size1, size2] = order.sizes.map(|size| size as u32);
    let [stride0, stride1, stride2] = order.strides.map(|stride| stride as u32);
    let (slices, (lane_axis, map)) = (slices as u32, order.lane_code());
    assert_ne!(lane_axis, 1, "gradients have their lanes along the last axis");
    plan.dispatch(
        KernelVariant::new(KernelId::UnpackGradient, &[("WG_SIZE", ELEMENT_WG_SIZE)]),
        params::UnpackGradient {
            size0,
            size1,
            size2,
            groups_x,
            stride0,
            stride1,
            stride2,
            slices,
            lane_axis,
            map,
            ..Default::default()
        },
        &[parts.into(), d.into()],
        groups,
    )
    .note(what.into());
}

/// `out = source`, or `source + other`, with its axes reordered.
pub fn pack(plan: &mut Plan, source: Span, other: Option<(Span, LaneMap)>, order: Order, out: Span) {
    pack_part(plan, source, other, order, out, (0, order.sizes[1] * order.sizes[2]));
}

/// [`pack`] into part of `out`, from element `out_begin` on; a step along the first axis is `out_stride` elements
/// there.
pub fn pack_part(
    plan: &mut Plan,
    source: Span,
    other: Option<(Span, LaneMap)>,
    order: Order,
    out: Span,
    (out_begin, out_stride): (usize, usize),
) {
    let (groups, groups_x) = element_groups(order.len());
    let [size0, size1, size2] = order.sizes.map(|size| size as u32);
    let [stride0, stride1, stride2] = order.strides.map(|stride| stride as u32);
    let with_other = u32::from(other.is_some());
    let (lane_axis, map) = order.lane_code();
    let other_map = other.map_or(map, |(_, map)| map.code);
    let other = other.map(|(span, _)| span);
    plan.dispatch(
        KernelVariant::new(KernelId::Pack, &[("WG_SIZE", ELEMENT_WG_SIZE), ("WITH_OTHER", with_other)]),
        params::Pack {
            size0,
            size1,
            size2,
            groups_x,
            stride0,
            stride1,
            stride2,
            lane_axis,
            map,
            other_map,
            out_begin: out_begin as u32,
            out_stride: out_stride as u32,
        },
        &[source.into(), other.into(), out.into()],
        groups,
    );
}
