//! One step turned into several.

use super::elementwise::broadcast_rows;
use super::{Lowering, Sequence};
use crate::Error;
use crate::product;
use gatefold_model::{Expansion, Layer};

pub(crate) fn forward(
    low: &mut Lowering<'_>,
    layer: &Layer,
    (steps, fill): (usize, Expansion),
    x: Sequence,
) -> Sequence {
    assert_eq!(x.steps, 1, "input of {}: the network's description says that it is one step", layer.place());
    if steps == 1 {
        return x;
    }
    let y = low.plan.scratch(format!("{}.y", layer.label()), steps * x.len());
    match fill {
        Expansion::Zeros => {
            low.plan.clear(y);
            low.plan.copy(x.span, y.part(0, x.len()));
        }
        Expansion::Repeat => broadcast_rows(low.plan, x.span, y),
    }
    Sequence { span: y, steps, ..x }
}

pub(crate) fn backward(
    low: &mut Lowering<'_>,
    layer: &Layer,
    fill: Expansion,
    x: Sequence,
    d_y: Sequence,
) -> Result<Sequence, Error> {
    if fill == Expansion::Zeros || d_y.steps == 1 {
        return Ok(Sequence { span: d_y.span.part(0, x.len()), ..x });
    }
    let label = layer.label();
    let d_x = low.plan.scratch(format!("{label}.d_x"), x.len());
    let rows = product::Matrix::new(d_y.span, d_y.steps, x.len());
    product::column_sums(low.plan, low.target, &format!("{label}.d_x"), rows, d_x)?;
    Ok(Sequence { span: d_x, ..x })
}
