//! One step of a cell in one row of the batch: the equations of all its units together.

use super::cell::{Gate, Linear, Unit};
use super::chain::Chain;
use super::expression::Function;
use super::trace::Content;
use crate::recurrent::Operator;
use std::collections::{BTreeSet, HashMap};

/// The meaning of an element of a row that meets a matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// An input of the cell.
    Input(usize),
    /// h of the step before; of a candidate that is reset before the product, r h.
    State(usize),
    /// Zero.
    Nothing,
}

/// A sum, told so that it can be compared with the same one at another step.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Sum {
    /// The number of a pattern of places, the matrix and column it meets, and a factor.
    pub(super) dots: Vec<(usize, u32, u32, f64)>,
    /// Inputs, each with a factor.
    pub(super) inputs: Vec<(usize, f64)>,
    pub(super) constant: Option<f64>,
}

/// A gate's function, scale and sum.
pub(super) type Told = (Function, f64, Sum);

/// The step of all units.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) operator: Operator,
    /// Whether a GRU resets before the product.
    pub(super) resets_before: bool,
    /// For each unit its gates, in ONNX's order.
    pub(super) units: Vec<Vec<Told>>,
    /// For each unit of a GRU that resets after the product, the part that is reset.
    pub(super) reset: Vec<Option<Sum>>,
    pub(super) output: Option<Function>,
    /// The cell's input at this step.
    pub(super) x: Vec<i64>,
    /// h of the step before; `None` at the first step from zeros.
    pub(super) before: Option<Vec<i64>>,
    /// An LSTM's cell state, and that of the step before.
    pub(super) c: Option<Vec<i64>>,
    pub(super) c_before: Option<Vec<i64>>,
}

impl Step {
    /// Whether another step has the same weights.
    pub(super) fn is_like(&self, other: &Step) -> bool {
        self.operator == other.operator
            && self.resets_before == other.resets_before
            && self.units == other.units
            && self.reset == other.reset
            && self.output == other.output
    }
}

/// The patterns of places that rows have, each kept once.
pub(super) type Patterns = Vec<Vec<Place>>;

impl Chain<'_> {
    /// Recognises the step of a cell whose h is this row.
    pub(super) fn step(&self, row: &[i64], patterns: &mut Patterns) -> Result<Step, String> {
        let units: Vec<Unit> =
            row.iter().map(|&id| self.expressions.unit(id)).collect::<Result<_, String>>()?;
        let first = &units[0];
        let alike = |unit: &Unit| {
            (unit.operator, unit.output, unit.before.is_some(), unit.gates.len(), unit.reset.is_some())
                == (
                    first.operator,
                    first.output,
                    first.before.is_some(),
                    first.gates.len(),
                    first.reset.is_some(),
                )
        };
        if !units.iter().all(alike) {
            return Err("its units have different equations".into());
        }
        let all_before: Option<Vec<i64>> = units.iter().map(|unit| unit.before).collect();
        let rows = rows_of(&units);
        let (before, c_before) = match first.operator {
            Operator::Gru => (all_before, None),
            Operator::Lstm => (self.state_before(&rows, &units, all_before.as_deref())?, all_before),
            Operator::Rnn => (self.state_before(&rows, &units, None)?, None),
        };
        let mut units = units;
        let reset_row = self.reset_before(&mut units, &rows, before.as_deref())?;
        let mut sorting = Sorting {
            chain: self,
            before: before.as_deref(),
            reset_row,
            x: None,
            numbers: HashMap::new(),
            patterns,
        };
        let rows = rows_of(&units);
        for &row in &rows {
            sorting.pattern(row)?;
        }
        let mut told = Vec::with_capacity(units.len());
        let mut reset = Vec::with_capacity(units.len());
        for unit in &units {
            let gates =
                unit.gates.iter().map(|gate| Ok((gate.function, gate.scale, sorting.sum(&gate.sum)?)));
            told.push(gates.collect::<Result<Vec<Told>, String>>()?);
            reset.push(unit.reset.as_ref().map(|sum| sorting.sum(sum)).transpose()?);
        }
        let x = sorting.x.ok_or("it has no input")?;
        Ok(Step {
            operator: units[0].operator,
            resets_before: reset_row.is_some(),
            units: told,
            reset,
            output: units[0].output,
            x,
            before,
            c: units.iter().map(|unit| unit.c).collect(),
            c_before,
        })
    }

    /// h of the step before, of an LSTM or a vanilla cell: the part of a row that meets a matrix and holds states.
    fn state_before(
        &self,
        rows: &BTreeSet<u32>,
        units: &[Unit],
        c_before: Option<&[i64]>,
    ) -> Result<Option<Vec<i64>>, String> {
        let lstm = units[0].operator == Operator::Lstm;
        let mut found: Vec<&[i64]> = Vec::new();
        for &row in rows {
            let row = &**self.expressions.row(row);
            for window in row.windows(units.len()) {
                let fits = match (lstm, c_before) {
                    (true, None) => false,
                    (true, Some(c)) => {
                        window.iter().zip(c).all(|(&h, &c)| self.cell_state(h) == Some(c))
                            || window.iter().chain(c).all(|&id| self.is_given(id))
                    }
                    (false, _) => {
                        window.iter().all(|&id| self.is_given(id)) || self.is_vanilla(window, units)
                    }
                };
                if fits && !found.contains(&window) {
                    found.push(window);
                }
            }
        }
        match found[..] {
            [] if c_before.is_some() => Err("its cell state is not that of the h it reads".into()),
            [] => Ok(None),
            [only] => Ok(Some(only.to_vec())),
            _ => Err("it can be read as a cell in more than one way".into()),
        }
    }

    /// The cell state in an LSTM's h.
    fn cell_state(&self, h: i64) -> Option<i64> {
        self.expressions.unit(h).ok().and_then(|unit| unit.c)
    }

    /// Whether an element belongs to a state that the caller gives.
    pub(super) fn is_given(&self, id: i64) -> bool {
        id > 0
            && self.sources.iter().any(|source| {
                matches!(source.content, Content::Given(_))
                    && id >= source.first
                    && id < source.first + source.len() as i64
            })
    }

    /// Whether a row holds a vanilla cell's states: functions of sums with the same columns of the same matrices.
    fn is_vanilla(&self, window: &[i64], units: &[Unit]) -> bool {
        window.iter().zip(units).all(|(&id, unit)| {
            let Ok(other) = self.expressions.unit(id) else { return false };
            let columns = |unit: &Unit| -> BTreeSet<(u32, u32)> {
                unit.gates[0].sum.dots.iter().map(|(dot, _)| (dot.matrix, dot.column)).collect()
            };
            let (one, mine) = (columns(&other), columns(unit));
            other.operator == Operator::Rnn
                && other.gates[0].function == unit.gates[0].function
                && other.gates[0].sum.elements.len() == unit.gates[0].sum.elements.len()
                && one.is_subset(&mine)
                && (!one.is_empty() || !other.gates[0].sum.elements.is_empty())
        })
    }

    /// The row r h' that a GRU's candidate reads, if it resets before the product; its gates r join the units.
    fn reset_before(
        &self,
        units: &mut [Unit],
        rows: &BTreeSet<u32>,
        before: Option<&[i64]>,
    ) -> Result<Option<u32>, String> {
        let Some(before) = before.filter(|_| units[0].operator == Operator::Gru && units[0].gates.len() == 2)
        else {
            return Ok(None);
        };
        for &row in rows {
            let ids = self.expressions.row(row);
            let gates: Option<Vec<Gate>> = (ids.len() == before.len())
                .then(|| {
                    let of = ids.iter().zip(before);
                    of.map(|(&id, &h)| {
                        self.expressions
                            .reset_state(id)
                            .filter(|(_, state)| *state == h)
                            .map(|(gate, _)| gate)
                    })
                    .collect()
                })
                .flatten();
            if let Some(gates) = gates {
                for (unit, gate) in units.iter_mut().zip(gates) {
                    unit.gates.insert(1, gate);
                }
                return Ok(Some(row));
            }
        }
        Err("its candidate reads no product r h".into())
    }
}

/// The numbers of the rows that meet matrices.
fn rows_of(units: &[Unit]) -> BTreeSet<u32> {
    units.iter().flat_map(Unit::sums).flat_map(|sum| &sum.dots).map(|(dot, _)| dot.row).collect()
}

/// Sorts the elements of rows into inputs and states.
struct Sorting<'s, 'a> {
    chain: &'s Chain<'a>,
    before: Option<&'s [i64]>,
    reset_row: Option<u32>,
    x: Option<Vec<i64>>,
    /// The patterns of rows.
    numbers: HashMap<u32, usize>,
    patterns: &'s mut Patterns,
}

impl Sorting<'_, '_> {
    fn pattern(&mut self, row: u32) -> Result<usize, String> {
        if let Some(&number) = self.numbers.get(&row) {
            return Ok(number);
        }
        let ids = self.chain.expressions.row(row);
        let mut places = Vec::with_capacity(ids.len());
        let mut inputs = Vec::new();
        for (at, &id) in ids.iter().enumerate() {
            let state = self.before.and_then(|before| before.iter().position(|&h| h == id));
            places.push(match (state, self.chain.expressions.known(id)) {
                _ if self.reset_row == Some(row) => Place::State(at),
                (Some(state), _) => Place::State(state),
                (None, Some(0.0)) => Place::Nothing,
                (None, Some(_)) => return Err("it reads a constant beside its input".into()),
                (None, None) => {
                    inputs.push(id);
                    Place::Input(inputs.len() - 1)
                }
            });
        }
        if !inputs.is_empty() {
            self.input(inputs)?;
        }
        let number = match self.patterns.iter().position(|other| *other == places) {
            Some(number) => number,
            None => {
                self.patterns.push(places);
                self.patterns.len() - 1
            }
        };
        self.numbers.insert(row, number);
        Ok(number)
    }

    /// Notes the cell's input, of which there is one.
    fn input(&mut self, inputs: Vec<i64>) -> Result<(), String> {
        match &self.x {
            Some(x) if *x != inputs => Err("it reads more than one input".into()),
            _ => {
                self.x = Some(inputs);
                Ok(())
            }
        }
    }

    fn sum(&mut self, linear: &Linear) -> Result<Sum, String> {
        let mut sum = Sum { constant: linear.constant, ..Sum::default() };
        for &(dot, factor) in &linear.dots {
            sum.dots.push((self.pattern(dot.row)?, dot.matrix, dot.column, factor));
        }
        sum.dots.sort_unstable_by_key(|&(pattern, matrix, column, _)| (matrix, column, pattern));
        for &(id, factor) in &linear.elements {
            let row = self.chain.row_around(id).ok_or("a gate adds an element that is no input")?;
            let place = row.iter().position(|&other| other == id).unwrap_or(0);
            self.input(row)?;
            sum.inputs.push((place, factor));
        }
        Ok(sum)
    }
}
