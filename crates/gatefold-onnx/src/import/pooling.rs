//! Pooling over the steps of a sequence.

use super::Value;
use super::chain::{Chain, Found};
use super::trace::Content;
use crate::graph::Node;
use crate::operators;
use gatefold_model::{LayerConfig, Pooling};
use ndarray::{ArrayD, Axis};

/// The operators that pool, each with whether it does so over the axes after the features.
const POOLS: [(&str, Pooling, bool); 4] = [
    ("ReduceMax", Pooling::Max, false),
    ("ReduceMean", Pooling::Mean, false),
    ("GlobalMaxPool", Pooling::Max, true),
    ("GlobalAveragePool", Pooling::Mean, true),
];

/// Whether an operator may pool over time.
pub(super) fn pools(operator: &str) -> bool {
    POOLS.iter().any(|(name, ..)| *name == operator)
}

impl Chain<'_> {
    /// Adds a pool over time.
    pub(super) fn pool(
        &mut self,
        node: &Node,
        ids: &ArrayD<i64>,
        axes: Option<&Value>,
    ) -> Result<Vec<Value>, String> {
        let found = POOLS.iter().find(|(name, ..)| *name == node.operator);
        let &(_, pooling, features_first) = found.ok_or("it is no pool")?;
        if features_first {
            if ids.ndim() != 3 {
                return Err(format!(
                    "it pools {} axes; expected one, that of the steps",
                    ids.ndim().max(2) - 2
                ));
            }
            let steps = ids.view().permuted_axes(vec![0, 2, 1]).as_standard_layout().into_owned();
            let pooled = self.pool_axis(&steps, 1, pooling)?;
            let turned = pooled.insert_axis(Axis(1)).permuted_axes(vec![0, 2, 1]);
            return Ok(vec![Value::Traced(turned.as_standard_layout().into_owned())]);
        }
        let given = match axes {
            None => node.ints("axes")?.map(<[i64]>::to_vec),
            Some(Value::Known(axes)) => axes.integers(),
            Some(_) => None,
        };
        let Some(&[axis]) = given.as_deref() else {
            return Err("it covers several axes; expected that of the steps".into());
        };
        let axis = operators::axis(axis, ids.ndim())?;
        let pooled = self.pool_axis(ids, axis, pooling)?;
        let keeps = node.int_or("keepdims", 1)? != 0;
        Ok(vec![Value::Traced(if keeps { pooled.insert_axis(Axis(axis)) } else { pooled })])
    }

    /// Pools over an axis along which nothing but the steps of a row change; the result has no such axis.
    fn pool_axis(&mut self, ids: &ArrayD<i64>, axis: usize, pooling: Pooling) -> Result<ArrayD<i64>, String> {
        if self.lengths.is_some() || self.mask.is_some() {
            return Err("it covers steps past the ends of rows, whose lengths are their own".into());
        }
        if axis + 1 >= ids.ndim() {
            return Err("it covers the features of a step; expected the axis of the steps".into());
        }
        let (rows, width) = self.settle(ids)?;
        let steps = rows.len() / self.batch.max(1);
        let lens = &ids.shape()[..ids.ndim() - 1];
        let after: usize = lens[axis + 1..].iter().product();
        let mut pooled = Vec::new();
        for first in (0..rows.len()).filter(|place| (place / after).is_multiple_of(lens[axis])) {
            let of_row: Vec<(usize, usize)> = (0..lens[axis]).map(|k| rows[first + k * after]).collect();
            let mut times: Vec<usize> = of_row.iter().map(|(t, _)| *t).collect();
            times.sort_unstable();
            if of_row.iter().any(|(_, b)| *b != of_row[0].1) || !times.into_iter().eq(0..steps) {
                return Err("it covers something else than all steps of each row".into());
            }
            pooled.push((0, of_row[0].1));
        }
        let layer = match pooling {
            Pooling::Max => LayerConfig::MaxPool,
            Pooling::Mean => LayerConfig::MeanPool,
        };
        if steps > 1 {
            self.push(Found::Plain(layer), Content::Steps, vec![1, self.batch, width])?;
        }
        let mut shape = ids.shape().to_vec();
        shape.remove(axis);
        match self.in_rows(&shape, &pooled)? {
            Value::Traced(ids) => Ok(ids),
            _ => Err("its output is not traced".into()),
        }
    }
}
