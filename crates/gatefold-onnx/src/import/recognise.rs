//! Turns elements that were walked one by one into layers: a cell written out step by step, or a dense layer.

use super::Value;
use super::chain::{Chain, Found, Snapshot};
use super::expression::Atom;
use super::step::{Patterns, Step};
use super::trace::Content;
use super::weights::{cell_weights, dense_weights};
use crate::recurrent::Operator;
use gatefold_model::Activation;
use ndarray::{Array2, Array3, ArrayD, IxDyn, s};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// The most layers within each other that one tensor may need.
const MOST_DEPTH: usize = 64;

/// Elements that became those of a layer.
pub(super) type Same = HashMap<i64, i64>;

/// A cell written out for one row of the batch: h at each step, with the steps.
struct Written {
    h: Vec<Vec<i64>>,
    steps: Vec<Step>,
}

impl Chain<'_> {
    /// The identity of an element after the layers found so far.
    pub(super) fn mapped(&self, id: i64) -> i64 {
        let mut id = id;
        // A layer's output gets another identity when a second direction joins it.
        while let Some(&other) = self.same.get(&id) {
            id = other;
        }
        id
    }

    pub(super) fn all_mapped(&self, ids: ArrayD<i64>) -> ArrayD<i64> {
        if self.same.is_empty() { ids } else { ids.mapv_into(|id| self.mapped(id)) }
    }

    /// The elements of a tensor as those of layers.
    pub(super) fn resolve(&mut self, ids: &ArrayD<i64>) -> Result<ArrayD<i64>, String> {
        let ids = self.all_mapped(ids.clone());
        if ids.iter().all(|&id| id >= 0) {
            return Ok(ids);
        }
        self.depth += 1;
        if self.depth > MOST_DEPTH {
            return Err(format!("more than {MOST_DEPTH} layers within each other"));
        }
        let done = self.recognise(&ids);
        self.depth -= 1;
        done?;
        let ids = self.all_mapped(ids);
        match ids.iter().all(|&id| id >= 0) {
            true => Ok(ids),
            false => Err("its elements belong to no layer of the engine".into()),
        }
    }

    /// Tries to turn a tensor's elements into layers; leaves everything as it was if they are none.
    pub(super) fn try_to_resolve(&mut self, value: &Value) {
        let Value::Traced(ids) = value else { return };
        if ids.ndim() < 2 || ids.iter().all(|&id| self.mapped(id) >= 0) {
            return;
        }
        let before = Snapshot::of(self);
        if self.resolve(ids).is_err() {
            before.restore(self);
        }
    }

    fn recognise(&mut self, ids: &ArrayD<i64>) -> Result<(), String> {
        let width = ids.shape().last().copied().filter(|&width| width > 0);
        let width = width.ok_or("it holds single numbers, which no layer computes")?;
        let flat: Vec<i64> = ids.iter().copied().collect();
        let rows: Vec<&[i64]> = flat.chunks(width).collect();
        for (from, to) in self.segments(rows[0]) {
            let part: Vec<Vec<i64>> = rows.iter().map(|row| row[from..to].to_vec()).collect();
            let Err(no_cell) = self.cell(&part) else { continue };
            let Err(no_dense) = self.dense_rows(&part) else { continue };
            let problem = if self.looks_like_a_cell(&part[0]) { no_cell } else { no_dense };
            return Err(problem);
        }
        Ok(())
    }

    /// Parts of a row that belong to one layer each: those that read the same rows.
    fn segments(&self, row: &[i64]) -> Vec<(usize, usize)> {
        let mut segments: Vec<(usize, usize)> = Vec::new();
        let mut last: Option<BTreeSet<(u8, i64)>> = None;
        for (at, &id) in row.iter().enumerate() {
            if id >= 0 {
                last = None;
                continue;
            }
            let mut reached = BTreeSet::new();
            self.reach(id, 0, &mut reached);
            match segments.last_mut() {
                Some(segment) if segment.1 == at && last.as_ref() == Some(&reached) => segment.1 = at + 1,
                _ => segments.push((at, at + 1)),
            }
            last = Some(reached);
        }
        segments
    }

    /// The rows that an element reads, without those that the states in it read.
    fn reach(&self, id: i64, depth: usize, reached: &mut BTreeSet<(u8, i64)>) {
        for (atoms, _) in self.expressions.terms(id).iter() {
            for &atom in atoms.iter().flatten() {
                match atom {
                    Atom::Dot(dot) => {
                        reached.insert((0, i64::from(self.expressions.dot(dot).row)));
                    }
                    Atom::Applied(number) if depth < 4 => {
                        self.reach(self.expressions.applied(number).1, depth + 1, reached);
                    }
                    Atom::Element(id) => {
                        if let Some(first) = self.row_around(id).and_then(|row| row.first().copied()) {
                            reached.insert((1, first));
                        }
                    }
                    Atom::Applied(_) => {}
                }
            }
        }
    }

    /// The row of a layer's output, or of the network's input, that an element is in.
    pub(super) fn row_around(&self, id: i64) -> Option<Vec<i64>> {
        let id = self.mapped(id);
        let source = self.sources.iter().find(|s| id >= s.first && id < s.first + s.len() as i64)?;
        let flat = (id - source.first) as usize;
        match (&source.content, &source.shape[..]) {
            (Content::Steps, &[_, _, width]) => {
                let from = source.first + (flat - flat % width) as i64;
                Some((from..from + width as i64).collect())
            }
            (Content::Recurrent, &[_, directions, batch, units]) => {
                let (t, b) = (flat / (directions * batch * units), flat / units % batch);
                let of = |d: usize| (0..units).map(move |h| source.at(&[t, d, b, h]));
                Some((0..directions).flat_map(of).collect())
            }
            _ => None,
        }
    }

    fn looks_like_a_cell(&self, row: &[i64]) -> bool {
        let unit = self.expressions.unit(row[0]);
        !unit.is_ok_and(|unit| unit.operator == Operator::Rnn) || {
            let step = self.step(row, &mut Patterns::new());
            step.is_ok_and(|step| step.before.is_some())
        }
    }

    /// Adds the recurrent layer whose states these rows are: all steps of all rows of the batch, or the last ones.
    fn cell(&mut self, rows: &[Vec<i64>]) -> Result<(), String> {
        let mut patterns = Patterns::new();
        let mut written = self.written(rows, &mut patterns)?;
        let first = written.first().ok_or("it has no step")?;
        let steps = first.steps.len();
        if written.len() != self.batch || written.iter().any(|one| one.steps.len() != steps) {
            return Err("it is not written out for all rows of the batch alike".into());
        }
        if steps < 2 {
            return Err("it is written out for a single step, which shows no recurrence".into());
        }
        let reference = written[0].steps[steps - 1].clone();
        for one in &written {
            for (t, step) in one.steps.iter().enumerate() {
                // The first step from zeros shows only a part of the weights; the comparison of results covers it.
                if (t > 0 || step.before.is_some()) && !step.is_like(&reference) {
                    return Err(format!("its step {} differs from its last", t + 1));
                }
                if step.operator != reference.operator || step.x.len() != reference.x.len() {
                    return Err(format!("its step {} differs from its last", t + 1));
                }
            }
        }
        written.sort_by_key(|one| one.steps[0].x[0].unsigned_abs());
        let (mut weights, operator) = cell_weights(&reference, &patterns, &self.expressions)?;
        let (width, batch, hidden) = (reference.x.len(), written.len(), written[0].h[0].len());
        let x = (0..steps).flat_map(|t| written.iter().flat_map(move |one| one.steps[t].x.iter().copied()));
        let x = ArrayD::from_shape_vec(IxDyn(&[steps, batch, width]), x.collect());
        let mut x = self.all_mapped(x.map_err(|error| error.to_string())?);
        self.take_products_back(&mut x, &mut weights);
        let given = |of: fn(&Step) -> Option<&Vec<i64>>| -> Option<Value> {
            let rows: Vec<&Vec<i64>> = written.iter().map(|one| of(&one.steps[0])).collect::<Option<_>>()?;
            let ids = rows.into_iter().flatten().copied().collect();
            let ids = ArrayD::from_shape_vec(IxDyn(&[1, batch, hidden]), ids).ok()?;
            Some(Value::Traced(ids))
        };
        let (h, c) = (given(|step| step.before.as_ref()), given(|step| step.c_before.as_ref()));
        let layer = self.recurrent_layer(operator, weights, x, None, h.as_ref(), c.as_ref())?;
        for (b, one) in written.iter().enumerate() {
            for (t, row) in one.h.iter().enumerate() {
                for (k, &id) in row.iter().enumerate() {
                    self.same.insert(id, layer.y[[t, 0, b, k]]);
                }
            }
            let last = one.steps.last().and_then(|step| step.c.as_ref());
            if let (Some(c), Some(final_c)) = (last, &layer.c) {
                for (k, &id) in c.iter().enumerate() {
                    self.same.insert(id, final_c[[0, b, k]]);
                }
            }
        }
        self.rebuilt = true;
        Ok(())
    }

    /// Follows the states of these rows back to the first step.
    fn written(&self, rows: &[Vec<i64>], patterns: &mut Patterns) -> Result<Vec<Written>, String> {
        let mut known: BTreeMap<Vec<i64>, Step> = BTreeMap::new();
        let mut earlier: BTreeSet<Vec<i64>> = BTreeSet::new();
        let mut ahead: Vec<Vec<i64>> = rows.to_vec();
        while let Some(row) = ahead.pop() {
            if known.contains_key(&row) {
                continue;
            }
            let step = self.step(&row, patterns)?;
            let before = step.before.clone().filter(|before| !self.is_given(before[0]));
            known.insert(row, step);
            if let Some(before) = before {
                earlier.insert(before.clone());
                ahead.push(before);
            }
        }
        let ends: Vec<Vec<i64>> = known.keys().filter(|row| !earlier.contains(*row)).cloned().collect();
        let mut all = Vec::new();
        for end in ends {
            let (mut h, mut steps) = (vec![end], Vec::new());
            loop {
                let last = &h[h.len() - 1];
                let step = known.get(last).ok_or("two of its steps read one state")?.clone();
                let before = step.before.clone().filter(|before| known.contains_key(before));
                steps.push(step);
                match before {
                    // A cycle cannot be: an element comes after those it reads.
                    Some(before) => h.push(before),
                    None => break,
                }
            }
            h.reverse();
            steps.reverse();
            all.push(Written { h, steps });
        }
        Ok(all)
    }

    /// Takes the products with an input back into a cell, if a dense layer computes them for all steps beforehand.
    fn take_products_back(&mut self, x: &mut ArrayD<i64>, weights: &mut crate::recurrent::Weights) {
        let (steps, batch, width) = (x.shape()[0], x.shape()[1], x.shape()[2]);
        let Some(Found::Dense { weight, bias, activation: Activation::Identity }) = self.layers.last() else {
            return;
        };
        let is_tip = self.tip.is_some_and(|tip| {
            let tip = &self.sources[tip];
            tip.shape == [steps, batch, width]
                && x.iter().copied().eq(tip.first..tip.first + tip.len() as i64)
        });
        // Each row of W takes one element of the products.
        let taken: Option<Vec<usize>> = weights
            .w
            .slice(s![0, .., ..])
            .rows()
            .into_iter()
            .map(|row| {
                let ones: Vec<usize> = (0..width).filter(|&i| row[i] != 0.0).collect();
                (ones.len() == 1 && row[ones[0]] == 1.0).then(|| ones[0])
            })
            .collect();
        let Some(taken) = taken.filter(|_| is_tip) else { return };
        let Some(source) = self.reads.last().and_then(|&read| self.sources.get(read)).cloned() else {
            return;
        };
        if source.content != Content::Steps || source.shape[..2] != [steps, batch] {
            return;
        }
        let input = weight.ncols();
        let rows = taken.len();
        let mut w = Array3::zeros((1, rows, input));
        let mut b = weights.b.clone().unwrap_or_else(|| Array2::zeros((1, 2 * rows)));
        for (row, &at) in taken.iter().enumerate() {
            w.slice_mut(s![0, row, ..]).assign(&weight.row(at));
            b[[0, row]] += bias.as_ref().map_or(0.0, |bias| bias[at]);
        }
        weights.b = (bias.is_some() || weights.b.is_some()).then_some(b);
        weights.w = w;
        *x = source.ids();
        self.layers.pop();
        let read = self.reads.pop();
        self.tip = read;
    }

    /// Adds the dense layer that computes these rows.
    fn dense_rows(&mut self, rows: &[Vec<i64>]) -> Result<(), String> {
        let mut patterns = Patterns::new();
        let mut all = Vec::with_capacity(rows.len());
        for row in rows {
            let step = self.step(row, &mut patterns)?;
            if step.operator != Operator::Rnn || step.before.is_some() {
                return Err("its elements belong to no layer of the engine".into());
            }
            all.push(step);
        }
        let first = &all[0];
        if all.iter().any(|step| !step.is_like(first) || step.x.len() != first.x.len()) {
            return Err("its rows are computed in different ways".into());
        }
        let (weight, bias, activation) = dense_weights(first, &patterns, &self.expressions)?;
        let width = first.x.len();
        let x = all.iter().flat_map(|step| step.x.iter().copied()).collect();
        let x = ArrayD::from_shape_vec(IxDyn(&[rows.len(), width]), x).map_err(|error| error.to_string())?;
        let output = self.dense_layer(&x, weight, bias, activation)?;
        for (row, new) in rows.iter().zip(output.outer_iter()) {
            for (&id, &new) in row.iter().zip(new) {
                self.same.insert(id, new);
            }
        }
        self.rebuilt = true;
        Ok(())
    }
}
