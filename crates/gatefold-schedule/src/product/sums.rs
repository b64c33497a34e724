//! Sums over the rows of a matrix, split into slices that are added in order.

use super::matrix::{Matrix, Order};
use super::packing::unpack;
use super::{SLICE_LEN, sum_slices};
use crate::plan::MAX_GROUPS;
use crate::{Error, Plan, Span, Target};
use gatefold_model::Activation;
use gatefold_shaders::{ELEMENT_WG_SIZE, KernelId, KernelVariant, params};

/// Slices of a sum over rows.
#[derive(Debug)]
pub struct RowSlices {
    /// Their number.
    pub count: usize,
    /// The rows of one slice.
    pub len: usize,
    /// Workgroups: an invocation for each column of each slice.
    pub groups: [u32; 3],
}

/// Slices of the rows of a matrix, for kernels that add rows up.
///
/// # Errors
/// [`Error::Limit`] for more rows or columns than the device can add up.
pub fn row_slices(target: &Target, what: &str, rows: usize, columns: usize) -> Result<RowSlices, Error> {
    let longest = target.max_loop_iterations.map_or(usize::MAX, |limit| limit as usize / 4);
    let len = SLICE_LEN.max(rows.div_ceil(MAX_GROUPS as usize));
    if len > longest {
        return Err(Error::limit(
            format!("{what}: a sum of {rows} rows"),
            format!("{len} in an invocation's loop"),
            longest.to_string(),
            "use a smaller batch or fewer steps",
        ));
    }
    let count = rows.div_ceil(len);
    let groups_x = columns.div_ceil(ELEMENT_WG_SIZE as usize);
    if groups_x > MAX_GROUPS as usize {
        return Err(Error::limit(
            format!("{what}: a sum of {columns} columns"),
            format!("{groups_x} workgroups"),
            format!("{MAX_GROUPS} an axis"),
            "use a narrower layer",
        ));
    }
    Ok(RowSlices { count, len, groups: [groups_x as u32, count as u32, 1] })
}

/// `d += sums of the columns of x`, in the order of the parameter, for every `d` in `into`.
///
/// # Errors
/// Those of [`row_slices`].
pub fn add_column_sums(
    plan: &mut Plan,
    target: &Target,
    what: &str,
    x: Matrix,
    into: &[(Order, Span)],
) -> Result<(), Error> {
    let (parts, slices) = column_slices(plan, target, what, x, None)?;
    for &(order, d) in into {
        unpack(plan, what, parts, slices, order, d);
    }
    Ok(())
}

/// `out = sums of the columns of x`, rows in order.
///
/// # Errors
/// Those of [`row_slices`].
pub fn column_sums(plan: &mut Plan, target: &Target, what: &str, x: Matrix, out: Span) -> Result<(), Error> {
    let (parts, slices) = column_slices(plan, target, what, x, Some(out))?;
    if slices > 1 {
        sum_slices(plan, (parts, slices), (1, x.columns), None, Activation::Identity, out).note(what.into());
    }
    Ok(())
}

/// Sums of columns by slices of rows, `[slices, columns]`. A single slice goes straight to `whole`, if that is given.
fn column_slices(
    plan: &mut Plan,
    target: &Target,
    what: &str,
    x: Matrix,
    whole: Option<Span>,
) -> Result<(Span, usize), Error> {
    assert_eq!((x.row_stride, x.column_stride), (x.columns, 1), "{what}: rows lie one after another");
    let slices = row_slices(target, what, x.rows, x.columns)?;
    let whole = whole.filter(|_| slices.count == 1);
    let parts = whole.unwrap_or_else(|| plan.scratch(format!("{what}.sums"), slices.count * x.columns));
    let (x_span, x_offset) = plan.bind(x.span);
    plan.dispatch(
        KernelVariant::new(KernelId::ColumnSum, &[("WG_SIZE", ELEMENT_WG_SIZE)]),
        params::ColumnSum { m: x.rows as u32, n: x.columns as u32, slice_len: slices.len as u32, x_offset },
        &[x_span.into(), parts.into()],
        slices.groups,
    )
    .note(what.into());
    Ok((parts, slices.count))
}
