//! An embedding: rows of a table, by token. Backward sorts the rows of the gradient by token and adds up each token's
//! rows in order, so that the sums repeat bit for bit and cost the same however many tokens there are.

use super::elementwise::kernel;
use super::{Lowering, Sequence};
use crate::Error;
use crate::plan::MAX_GROUPS;
use crate::product::element_groups;
use crate::{Element, Span};
use gatefold_model::{Layer, Role};
use gatefold_shaders::{ELEMENT_WG_SIZE, KernelId, params};

/// The length of a stretch: this many rows of a token are added up one after another, then the sums of its stretches.
pub const STRETCH: usize = 256;

pub(crate) fn forward(low: &mut Lowering<'_>, layer: &Layer, tokens: usize, x: Sequence) -> Sequence {
    let table = low.parameters.values(low.plan, layer, Role::EmbeddingWeight);
    let (rows, width) = (x.steps * x.batch, layer.output);
    let y = low.plan.scratch(format!("{}.y", layer.label()), rows * width);
    let (numbers, numbers_offset) = low.plan.bind(x.span);
    let (groups, groups_x) = element_groups(y.len);
    let params = params::GatherRows {
        rows: rows as u32,
        width: width as u32,
        tokens: tokens as u32,
        numbers_offset,
        groups_x,
        ..Default::default()
    };
    low.plan.dispatch(
        kernel(KernelId::GatherRows, &[]),
        params,
        &[numbers.into(), table.into(), y.into()],
        groups,
    );
    Sequence { span: y, width, ..x }
}

/// Adds the gradient of the table. Token numbers have none.
pub(crate) fn backward(
    low: &mut Lowering<'_>,
    layer: &Layer,
    tokens: usize,
    x: Sequence,
    d_y: Sequence,
) -> Result<(), Error> {
    let Some(d_table) = low.parameters.gradient(low.plan, layer, Role::EmbeddingWeight) else {
        return Ok(());
    };
    let label = layer.label();
    let order = sorted_rows(low, &label, tokens, x)?;
    let (rows, width) = (x.steps * x.batch, d_y.width);
    let sums = low.plan.scratch(format!("{label}.sums"), rows * width);
    let (numbers, numbers_offset) = low.plan.bind(x.span);
    let (d, d_offset) = low.plan.bind(d_y.span);
    let (groups, groups_x) = element_groups(rows * width);
    let params = params::Runs {
        rows: rows as u32,
        width: width as u32,
        tokens: tokens as u32,
        numbers_offset,
        d_offset,
        stretch: STRETCH as u32,
        groups_x,
        ..Default::default()
    };
    low.plan.dispatch(
        kernel(KernelId::RunSums, &[]),
        params,
        &[numbers.into(), order.into(), d.into(), sums.into()],
        groups,
    );
    low.plan.dispatch(
        kernel(KernelId::AddRuns, &[]),
        params,
        &[numbers.into(), order.into(), sums.into(), d_table.into()],
        groups,
    );
    Ok(())
}

/// The row numbers sorted by token, with one pass for each digit of a token.
fn sorted_rows(low: &mut Lowering<'_>, label: &str, tokens: usize, x: Sequence) -> Result<Span, Error> {
    let (plan, digits) = (&mut *low.plan, ELEMENT_WG_SIZE as usize);
    let rows = x.steps * x.batch;
    let blocks = rows.div_ceil(digits);
    if blocks > MAX_GROUPS as usize {
        return Err(Error::limit(
            format!("{label}: a sort of {rows} rows"),
            format!("{blocks} workgroups"),
            format!("{MAX_GROUPS} an axis"),
            "use a smaller batch or fewer steps",
        ));
    }
    let (numbers, numbers_offset) = plan.bind(x.span);
    let mut order: Option<Span> = None;
    let mut shift = 0;
    loop {
        let places = plan.scratch_as(format!("{label}.places"), Element::U32, (blocks + 1) * digits);
        let sorted = plan.scratch_as(format!("{label}.order"), Element::U32, rows);
        let consts = [("FIRST", u32::from(order.is_none()))];
        let params = params::SortRows { rows: rows as u32, tokens: tokens as u32, numbers_offset, shift };
        let groups = [blocks as u32, 1, 1];
        plan.dispatch(
            kernel(KernelId::RowCounts, &consts),
            params,
            &[numbers.into(), order.into(), places.into()],
            groups,
        );
        let bounds = params::RowPlaces { blocks: blocks as u32, ..Default::default() };
        plan.dispatch(kernel(KernelId::RowPlaces, &[]), bounds, &[places.into()], [1, 1, 1]);
        plan.dispatch(
            kernel(KernelId::PlaceRows, &consts),
            params,
            &[numbers.into(), order.into(), places.into(), sorted.into()],
            groups,
        );
        shift += digits.trailing_zeros();
        if (tokens - 1) >> shift == 0 {
            return Ok(sorted);
        }
        order = Some(sorted);
    }
}
