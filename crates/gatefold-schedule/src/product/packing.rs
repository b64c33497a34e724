//! Axes reordered for the kernels' walks, and gradients put back into the order of their parameters. Each is a dispatch
//! with a table of one job; [`Plan::join`] joins them.

use super::element_groups;
use super::matrix::{LaneMap, Order};
use crate::{Binding, Plan, Span};
use bytemuck::{bytes_of, cast_slice};
use gatefold_shaders::params::{self, PackJob, UnpackJob};
use gatefold_shaders::{ELEMENT_WG_SIZE, JOINED, KernelId, KernelVariant, NO_OTHER};

/// A kernel that takes a table of jobs, each invocation `each` elements of one.
pub(crate) fn joined_kernel(id: KernelId, each: u32) -> KernelVariant {
    KernelVariant::new(id, &[("WG_SIZE", ELEMENT_WG_SIZE), ("EACH", each)])
}

/// The bindings of up to [`JOINED`] buffers.
pub(crate) fn joined_bindings(spans: &[Span]) -> [Binding; JOINED] {
    std::array::from_fn(|number| spans.get(number).copied().into())
}

/// The words of a job.
fn job<T: bytemuck::Pod>(job: &T) -> Vec<u32> {
    cast_slice(bytes_of(job)).into()
}

/// `d += parts`: slices are added in order, and axes put in the order of the parameter.
///
/// # Panics
/// If the parts or the parameter are too short.
pub fn unpack(plan: &mut Plan, what: &str, parts: Span, slices: usize, order: Order, d: Span) {
    let (groups, groups_x) = element_groups(order.len());
    let [size0, size1, size2] = order.sizes.map(|size| size as u32);
    let [stride0, stride1, stride2] = order.strides.map(|stride| stride as u32);
    let (slices, (lane_axis, map)) = (slices as u32, order.lane_code());
    assert_ne!(lane_axis, 1, "gradients have their lanes along the last axis");
    let row = UnpackJob {
        size0,
        size1,
        size2,
        stride0,
        stride1,
        stride2,
        slices,
        lane_axis,
        map,
        d_begin: d.offset as u32,
        d_len: d.len as u32,
        ..Default::default()
    };
    let (of_parts, of_d) = row.reach();
    assert!(
        parts.len as u64 >= of_parts && d.len as u64 >= of_d,
        "{what}: {of_parts} of {}, {of_d} of {} elements",
        parts.len,
        d.len
    );
    let table = plan.table("unpack.jobs", job(&row));
    let [s0, s1, s2, s3, s4] = joined_bindings(&[parts]);
    let bindings = [table.into(), s0, s1, s2, s3, s4, plan.whole(d).into()];
    let params = params::UnpackGradient { jobs: 1, groups_x, sources: 1, most_slices: slices };
    let kernel = joined_kernel(KernelId::UnpackGradient, 1);
    plan.dispatch(kernel, params, &bindings, groups).note(what.into());
}

/// `out = source`, or `source + other`, with its axes reordered.
pub fn pack(plan: &mut Plan, source: Span, other: Option<(Span, LaneMap)>, order: Order, out: Span) {
    pack_part(plan, source, other, order, out, (0, order.sizes[1] * order.sizes[2]));
}

/// [`pack`] into part of `out`, from element `out_begin` on; a step along the first axis is `out_stride` elements
/// there. Two parts of one `out` must not overlap: they may be packed in one dispatch.
///
/// # Panics
/// If the sources or the output are too short.
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
    let (lane_axis, map) = order.lane_code();
    let (source, other) = match other {
        Some((span, map)) => {
            let (source, span) = in_one_buffer(plan, source, span);
            (source, Some((span, map)))
        }
        None => (source, None),
    };
    let row = PackJob {
        size0,
        size1,
        size2,
        stride0,
        stride1,
        stride2,
        lane_axis,
        map,
        other_map: other.map_or(map, |(_, map)| map.code),
        from_begin: source.offset as u32,
        other: other.map_or(NO_OTHER, |(span, _)| span.offset as u32),
        out_begin: out_begin as u32,
        out_stride: out_stride as u32,
        ..Default::default()
    };
    let (of_source, of_out) = row.reach();
    let shortest = other.map_or(source.len, |(span, _)| span.len.min(source.len));
    assert!(
        shortest as u64 >= of_source && out.len as u64 >= of_out,
        "packing {}: {of_source} of {shortest}, {of_out} of {} elements",
        plan.name_of(&out),
        out.len
    );
    // Bound whole, as the source is: jobs that fill parts of one buffer can then be joined.
    let row = PackJob { out_begin: row.out_begin + out.offset as u32, ..row };
    let table = plan.table("pack.jobs", job(&row));
    let [o0, o1, o2, o3, o4] = joined_bindings(&[plan.whole(out)]);
    let bindings = [table.into(), plan.whole(source).into(), o0, o1, o2, o3, o4];
    let params = params::Pack { jobs: 1, groups_x, outs: 1, ..Default::default() };
    plan.dispatch(joined_kernel(KernelId::Pack, 1), params, &bindings, groups);
}

/// Both sources of a pack in one buffer, since it reads them through one binding: parameters may lie in several.
fn in_one_buffer(plan: &mut Plan, source: Span, other: Span) -> (Span, Span) {
    if source.buffer == other.buffer {
        return (source, other);
    }
    let both = plan.scratch("pack.sources", source.len + other.len);
    let (first, second) = (both.part(0, source.len), both.part(source.len, other.len));
    plan.copy(source, first);
    plan.copy(other, second);
    (first, second)
}
