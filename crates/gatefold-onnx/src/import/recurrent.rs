//! RNN, GRU and LSTM: as nodes, or put together from what is written out step by step.

use super::chain::{Chain, Found, Initial};
use super::trace::{Content, Rows};
use super::{GivenState, Value};
use crate::graph::Node;
use crate::recurrent::{
    INITIAL_C, INITIAL_H, Operator, RecurrentOperator, SEQUENCE_LENS, WEIGHTS, Weights, X, numbers,
};
use crate::tensor::Tensor;
use gatefold_model::Direction;
use ndarray::{Array2, ArrayD, Axis, Ix2, concatenate};

/// The elements of a recurrent layer's outputs: Y `[T, D, B, H]`, Y_h and Y_c `[D, B, H]`.
pub(super) struct Outputs {
    pub(super) y: ArrayD<i64>,
    pub(super) h: ArrayD<i64>,
    pub(super) c: Option<ArrayD<i64>>,
}

impl Chain<'_> {
    pub(super) fn recurrent(&mut self, node: &Node, inputs: &[Option<Value>]) -> Result<Vec<Value>, String> {
        let opset = self.graph.opset;
        let operator = RecurrentOperator::of_node(node, opset)?;
        let given = |at: usize| inputs.get(at).and_then(Option::as_ref);
        let mut tensors: Vec<Option<&Tensor>> = vec![None; inputs.len()];
        for at in WEIGHTS {
            match given(at) {
                None => {}
                Some(Value::Known(tensor)) => tensors[at] = Some(tensor),
                Some(_) => return Err("its weights are not constant".into()),
            }
        }
        let weights = operator.weights_of_node(node, &tensors)?;
        let (_, input) = operator.widths(&weights)?;
        let Some(Value::Traced(x)) = given(X) else {
            return Err("its input X does not come from a layer".into());
        };
        if x.ndim() != 3 || x.shape()[2] != input {
            return Err(format!("its X of shape {:?} does not fit {input} inputs", x.shape()));
        }
        let batch_first = operator.batch_first;
        let x = if batch_first { x.view().permuted_axes(vec![1, 0, 2]) } else { x.view() };
        let x = x.as_standard_layout().into_owned();
        let layer = self.recurrent_layer(
            operator,
            weights,
            x,
            given(SEQUENCE_LENS),
            given(INITIAL_H),
            given(INITIAL_C),
        )?;
        let turned = |ids: ArrayD<i64>, axes: &[usize]| {
            let ids = if batch_first { ids.permuted_axes(axes) } else { ids };
            Value::Traced(ids.as_standard_layout().into_owned())
        };
        let mut results = vec![turned(layer.y, &[2, 0, 1, 3]), turned(layer.h, &[1, 0, 2])];
        results.extend(layer.c.map(|c| turned(c, &[1, 0, 2])));
        Ok(results)
    }

    /// Adds a recurrent layer that reads `[T, B, I]`, or a second direction of the one before.
    pub(super) fn recurrent_layer(
        &mut self,
        mut operator: RecurrentOperator,
        weights: Weights,
        x: ArrayD<i64>,
        lengths: Option<&Value>,
        h: Option<&Value>,
        c: Option<&Value>,
    ) -> Result<Outputs, String> {
        let (hidden, _) = operator.widths(&weights)?;
        let x = self.resolve(&x)?;
        let beside = self.beside(&x);
        let rows = match &beside {
            Some(rows) => rows.clone(),
            None => self.settle(&x)?.0,
        };
        let (steps, batch) = (rows.len() / self.batch.max(1), self.batch);
        // A layer that reads reversed sequences is a layer of the opposite direction.
        let turned: Vec<(usize, usize)> = rows.iter().map(|&(t, b)| (steps - 1 - t, b)).collect();
        let turned = Rows::Steps(turned).are_time_major(steps, batch);
        let straight = Rows::Steps(rows).are_time_major(steps, batch);
        if x.shape()[..2] != [steps, batch] || !(straight || turned) {
            return Err("its input is not laid out as [steps, batch, features]".into());
        }
        let turned = turned && !straight;
        if turned {
            operator.direction = match operator.direction {
                Direction::Forward => Direction::Reverse,
                Direction::Reverse => Direction::Forward,
                _ => return Err("it is bidirectional and its sequences are reversed".into()),
            };
        }
        self.lengths_of(lengths, steps, turned)?;
        let mut outputs = match beside {
            Some(_) => self.join_direction(operator, hidden, weights, (h, c))?,
            None => {
                let initial = self.initial(&operator, hidden, h, c)?.map(Box::new);
                let directions = operator.directions();
                let has_state = operator.operator == Operator::Lstm;
                let weights = Box::new(weights);
                let layer = Found::Recurrent { operator, hidden, weights, initial };
                let y = self.push(layer, Content::Recurrent, vec![steps, directions, batch, hidden])?;
                self.outputs(y, has_state)?
            }
        };
        if turned {
            outputs.y.invert_axis(Axis(0));
        }
        Ok(outputs)
    }

    /// The elements of a new recurrent layer's outputs, of which Y is the source with this number.
    fn outputs(&mut self, y: usize, has_state: bool) -> Result<Outputs, String> {
        let y = self.sources[y].clone();
        let shape = y.shape[1..].to_vec();
        let mut state = |content| -> Result<ArrayD<i64>, String> {
            let source = self.source(content, shape.clone())?;
            Ok(self.sources[source].ids())
        };
        let h = state(Content::FinalH)?;
        let c = if has_state { Some(state(Content::FinalC)?) } else { None };
        Ok(Outputs { y: y.ids(), h, c })
    }

    /// The places of a tensor's rows in the input of the last layer, if that is a recurrent layer in one direction.
    fn beside(&self, x: &ArrayD<i64>) -> Option<Vec<(usize, usize)>> {
        let Found::Recurrent { operator, initial: None, .. } = self.layers.last()? else { return None };
        let tip = &self.sources[self.tip?];
        let fresh = tip.content == Content::Recurrent && operator.directions() == 1 && self.lengths.is_none();
        let read = self.sources.get(*self.reads.last()?)?;
        match super::trace::rows(x, read, None, &[], false) {
            Some(Rows::Steps(rows)) if fresh => Some(rows),
            _ => None,
        }
    }

    /// Makes the last layer bidirectional. Gives the outputs of the new direction.
    fn join_direction(
        &mut self,
        operator: RecurrentOperator,
        hidden: usize,
        weights: Weights,
        (h, c): (Option<&Value>, Option<&Value>),
    ) -> Result<Outputs, String> {
        let zeros = |value: Option<&Value>| match value {
            None => true,
            Some(Value::Known(Tensor::F32(state))) => state.iter().all(|&value| value == 0.0),
            Some(_) => false,
        };
        let layer = self.layers.iter().filter(|layer| matches!(layer, Found::Recurrent { .. })).count();
        if !zeros(h) || !zeros(c) || self.states.iter().any(|state| state.layer + 1 == layer) {
            return Err("it is a second direction of the layer before, with initial states".into());
        }
        let place = self.layers.len();
        let refuse = "it reads the input of the layer before, and is not its second direction";
        let Some(Found::Recurrent { operator: first, hidden: units, weights: of_first, .. }) =
            self.layers.last_mut()
        else {
            return Err(refuse.into());
        };
        let alike = RecurrentOperator {
            direction: operator.direction,
            activations: operator.activations.clone(),
            ..first.clone()
        };
        if alike != operator || *units != hidden || first.direction == operator.direction {
            return Err(refuse.into());
        }
        let second = usize::from(operator.direction == Direction::Reverse);
        let (new, old) = (weights, (**of_first).clone());
        let [forward, reverse] = if second == 1 { [old, new] } else { [new, old] };
        **of_first = beside_each_other(&forward, &reverse)?;
        let [forward, reverse] = match second {
            1 => [&first.activations, &operator.activations],
            _ => [&operator.activations, &first.activations],
        };
        first.activations = vec![forward[0].clone(), reverse[0].clone()];
        first.direction = Direction::Bidirectional;
        let has_state = operator.operator == Operator::Lstm;
        let old_y = self.tip.map(|tip| self.sources[tip].clone()).ok_or(refuse)?;
        let mut shape = old_y.shape.clone();
        shape[1] = 2;
        let of_layer = |content: &Content| {
            self.sources.iter().rev().find(|source| source.content == *content && source.place == place)
        };
        let old_states = [Content::FinalH, Content::FinalC].map(|content| of_layer(&content).cloned());
        let y = self.source(Content::Recurrent, shape)?;
        self.tip = Some(y);
        let all = self.outputs(y, has_state)?;
        let part = |ids: &ArrayD<i64>, axis: usize, direction: usize| {
            let ids = ids.slice_axis(Axis(axis), (direction..direction + 1).into());
            ids.as_standard_layout().into_owned()
        };
        let mut moved = vec![(old_y.ids(), part(&all.y, 1, 1 - second))];
        for (old, new) in old_states.into_iter().zip([Some(&all.h), all.c.as_ref()]) {
            moved.extend(old.zip(new).map(|(old, new)| (old.ids(), part(new, 0, 1 - second))));
        }
        for (old, new) in moved {
            self.same.extend(old.iter().copied().zip(new.iter().copied()));
        }
        Ok(Outputs {
            y: part(&all.y, 1, second),
            h: part(&all.h, 0, second),
            c: all.c.map(|c| part(&c, 0, second)),
        })
    }

    /// Checks that a recurrent layer reads all steps, or the lengths that are an input of the model.
    fn lengths_of(&self, given: Option<&Value>, steps: usize, turned: bool) -> Result<(), String> {
        match (given, &self.lengths) {
            (Some(Value::Lengths), _) if turned => {
                Err("its sequences are reversed together with their padding".into())
            }
            (Some(Value::Lengths), _) | (None, None) => Ok(()),
            (Some(Value::Known(known)), None)
                if known.integers().is_some_and(|lens| lens.iter().all(|&len| len == steps as i64)) =>
            {
                Ok(())
            }
            (None, Some(_)) => Err("it ignores the lengths that are an input of the model".into()),
            _ => Err("its lengths are not those that are an input of the model".into()),
        }
    }

    /// Initial states: `None` for zeros or for states that the caller gives (which are noted), otherwise the graph's.
    fn initial(
        &mut self,
        operator: &RecurrentOperator,
        hidden: usize,
        h: Option<&Value>,
        c: Option<&Value>,
    ) -> Result<Option<Initial>, String> {
        let layer = self.layers.iter().filter(|layer| matches!(layer, Found::Recurrent { .. })).count();
        let shape = [operator.directions(), self.batch, hidden];
        let mut known = [None, None];
        for (cell, value) in [(false, h), (true, c)] {
            match value {
                None => {}
                Some(Value::Known(tensor)) => {
                    known[usize::from(cell)] = self.known_state(operator, tensor, &shape)?;
                }
                Some(Value::Traced(ids)) => {
                    let ids = if operator.batch_first {
                        ids.view().permuted_axes(vec![1, 0, 2])
                    } else {
                        ids.view()
                    };
                    let state =
                        self.given_state(&ids.as_standard_layout().into_owned(), &shape, layer, cell)?;
                    self.states.push(state);
                }
                Some(_) => return Err("its initial states are lengths or tokens".into()),
            }
        }
        let [h, c] = known;
        if h.is_none() && c.is_none() {
            return Ok(None);
        }
        let zeros = || Array2::zeros((operator.directions(), hidden));
        let c = (operator.operator == Operator::Lstm).then(|| c.unwrap_or_else(zeros));
        Ok(Some(Initial { h: h.unwrap_or_else(zeros), c }))
    }

    /// A state stored in the graph, the same for each row of the batch; `None` if it is zero.
    fn known_state(
        &self,
        operator: &RecurrentOperator,
        tensor: &Tensor,
        shape: &[usize],
    ) -> Result<Option<Array2<f32>>, String> {
        let array = numbers("an initial state", Some(tensor))?.ok_or("an initial state is missing")?;
        let array = if operator.batch_first && array.ndim() == 3 {
            array.view().permuted_axes(vec![1, 0, 2])
        } else {
            array.view()
        };
        if array.shape() != shape {
            return Err(format!("an initial state: expected shape {shape:?}, found {:?}", array.shape()));
        }
        if array.iter().all(|&value| value == 0.0) {
            return Ok(None);
        }
        let first = array.index_axis(Axis(1), 0);
        if array.axis_iter(Axis(1)).any(|row| row != first) {
            return Err("its initial states differ between the rows of a batch".into());
        }
        first.to_owned().into_dimensionality::<Ix2>().map(Some).map_err(|error| error.to_string())
    }

    /// Notes a state that the caller gives: consecutive rows of an input.
    fn given_state(
        &self,
        ids: &ArrayD<i64>,
        shape: &[usize],
        layer: usize,
        cell: bool,
    ) -> Result<GivenState, String> {
        let refuse = || "its initial state is neither constant nor rows of an input of the model".to_string();
        let first = *ids.first().ok_or_else(refuse)?;
        let source = self.sources.iter().find(|s| first >= s.first && first < s.first + s.len() as i64);
        let source = source.ok_or_else(refuse)?;
        let Content::Given(input) = &source.content else { return Err(refuse()) };
        let in_order = ids.iter().copied().eq(first..first + ids.len() as i64);
        let row_len = shape[1] * shape[2];
        let row = (first - source.first) as usize;
        if ids.shape() != shape || !in_order || row_len == 0 || !row.is_multiple_of(row_len) {
            return Err(refuse());
        }
        Ok(GivenState { input: input.clone(), row: row / row_len, layer, cell })
    }
}

/// The weights of two directions as those of one operator. Biases that one of them lacks are zero.
fn beside_each_other(forward: &Weights, reverse: &Weights) -> Result<Weights, String> {
    let both = |a: &ndarray::Array3<f32>, b: &ndarray::Array3<f32>| {
        concatenate(Axis(0), &[a.view(), b.view()])
            .map_err(|_| "its two directions have weights of different shapes".to_string())
    };
    let vectors = |a: &Option<Array2<f32>>, b: &Option<Array2<f32>>| match (a, b) {
        (None, None) => Ok(None),
        _ => {
            let filled = |own: &Option<Array2<f32>>, other: &Option<Array2<f32>>| {
                own.clone().or(other.as_ref().map(|other| Array2::zeros(other.raw_dim()))).unwrap_or_default()
            };
            let (a, b) = (filled(a, b), filled(b, a));
            concatenate(Axis(0), &[a.view(), b.view()])
                .map(Some)
                .map_err(|_| "its two directions have biases of different shapes".to_string())
        }
    };
    if forward.p.is_some() != reverse.p.is_some() {
        return Err("only one of its two directions has peepholes".into());
    }
    Ok(Weights {
        w: both(&forward.w, &reverse.w)?,
        r: both(&forward.r, &reverse.r)?,
        b: vectors(&forward.b, &reverse.b)?,
        p: vectors(&forward.p, &reverse.p)?,
    })
}
