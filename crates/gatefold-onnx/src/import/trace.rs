//! The origin of each element of a tensor.
//!
//! A graph is walked once with small sizes. Instead of values its tensors hold identities: each output of a layer is a
//! source, and the elements of all sources are numbered consecutively. Operators that only move elements run unchanged
//! on these identities. The numbers then show whether a tensor is "all steps of the layer before", "its last step" or
//! "its final states side by side", and in which order of rows, however the exporter got them there.

use ndarray::ArrayD;

/// The meaning of a source's elements.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Content {
    /// `[T, B, F]`: the network's input, or a layer's output.
    Steps,
    /// `[T, D, B, H]`: a recurrent layer's Y.
    Recurrent,
    /// `[D, B, H]`: the final h of a recurrent layer.
    FinalH,
    /// `[D, B, H]`: the final c of a recurrent layer.
    FinalC,
    /// `[T, B, F]`: the steps of the source of this number, with each row's own last step first.
    Ends(usize),
    /// `[N, B, H]`: initial states that a caller gives, under the input's name.
    Given(String),
}

/// Elements numbered from `first`, row-major.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub(super) content: Content,
    pub(super) shape: Vec<usize>,
    pub(super) first: i64,
    /// The number of layers before it.
    pub(super) place: usize,
}

impl Source {
    pub(super) fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// The identity of an element.
    pub(super) fn at(&self, index: &[usize]) -> i64 {
        let flat = index.iter().zip(&self.shape).fold(0, |flat, (&at, &len)| flat * len + at);
        self.first + flat as i64
    }

    /// All identities, in the source's shape.
    pub(super) fn ids(&self) -> ArrayD<i64> {
        let ids = (self.first..self.first + self.len() as i64).collect();
        ArrayD::from_shape_vec(self.shape.clone(), ids).expect("as many as the shape has")
    }
}

/// The meaning of a tensor's rows: its last axis at each index of the others.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Rows {
    /// Whole steps `(t, b)` of the layer before, in the tensor's order.
    Steps(Vec<(usize, usize)>),
    /// The last step of each row `b`, in the tensor's order.
    LastStep(Vec<usize>),
    /// The final states of each row `b`, all directions side by side, in the tensor's order.
    FinalState(Vec<usize>),
}

impl Rows {
    /// Whether the rows are those of a tensor `[T, B, F]`, or `[1, B, F]`.
    pub(super) fn are_time_major(&self, steps: usize, batch: usize) -> bool {
        match self {
            Rows::Steps(rows) => {
                rows.iter().copied().eq((0..steps).flat_map(|t| (0..batch).map(move |b| (t, b))))
            }
            Rows::LastStep(rows) | Rows::FinalState(rows) => rows.iter().copied().eq(0..batch),
        }
    }

    /// Whether the rows are those of a tensor `[B, T, F]`.
    pub(super) fn are_batch_first(&self, steps: usize, batch: usize) -> bool {
        matches!(self, Rows::Steps(rows)
            if rows.iter().copied().eq((0..batch).flat_map(|b| (0..steps).map(move |t| (t, b)))))
    }
}

/// Identifies the rows of a tensor of identities, given the tip (the source that the next layer reads) and the final
/// states of the layer before, if that is recurrent. With lengths, the last step of the tensor is not the last step of
/// each row.
pub(super) fn rows(
    ids: &ArrayD<i64>,
    tip: &Source,
    final_h: Option<&Source>,
    reversed: &[bool],
    lengths: bool,
) -> Option<Rows> {
    let width = *ids.shape().last()?;
    if width == 0 || ids.is_empty() {
        return None;
    }
    let flat: Vec<i64> = ids.iter().copied().collect();
    let (steps, batch) = match (&tip.content, &tip.shape[..]) {
        (Content::Recurrent, [steps, _, batch, _]) | (_, [steps, batch, _]) => (*steps, *batch),
        _ => return None,
    };
    // A whole step, as the next layer reads it.
    let step = |t: usize, b: usize| -> Vec<i64> {
        match (&tip.content, &tip.shape[..]) {
            (Content::Recurrent, [_, directions, _, units]) => (0..*directions)
                .flat_map(|d| (0..*units).map(move |h| (d, h)))
                .map(|(d, h)| tip.at(&[t, d, b, h]))
                .collect(),
            _ => (0..tip.shape[2]).map(|f| tip.at(&[t, b, f])).collect(),
        }
    };
    // A final state, taken from Y_h or from the equal step of Y.
    let ends_with = |row: &[i64], b: usize| -> bool {
        let Some(final_h) = final_h else { return false };
        let (directions, units) = (final_h.shape[0], final_h.shape[2]);
        row.len() == directions * units
            && row.iter().enumerate().all(|(place, &id)| {
                let (d, h) = (place / units, place % units);
                let end = if reversed[d] { 0 } else { steps - 1 };
                let in_y = tip.content == Content::Recurrent && !lengths && id == tip.at(&[end, d, b, h]);
                id == final_h.at(&[d, b, h]) || in_y
            })
    };
    let mut found = Vec::with_capacity(flat.len() / width);
    let (mut whole, mut ends) = (true, true);
    for row in flat.chunks(width) {
        let at = tip_place(tip, row[0]);
        let place = at.filter(|&(t, b)| row == step(t, b));
        let state = (0..batch).find(|&b| ends_with(row, b));
        (whole, ends) = (whole && place.is_some(), ends && state.is_some());
        found.push((place, state));
    }
    let each_once = |rows: &[usize]| rows.len() == batch && (0..batch).all(|b| rows.contains(&b));
    if whole {
        let places: Vec<(usize, usize)> = found.iter().filter_map(|(place, _)| *place).collect();
        let mut sorted = places.clone();
        sorted.sort_unstable();
        if sorted.iter().copied().eq((0..steps).flat_map(|t| (0..batch).map(move |b| (t, b)))) {
            return Some(Rows::Steps(places));
        }
        let rows: Vec<usize> = places.iter().map(|(_, b)| *b).collect();
        if !lengths && places.iter().all(|(t, _)| *t == steps - 1) && each_once(&rows) {
            return Some(Rows::LastStep(rows));
        }
    }
    if ends {
        let rows: Vec<usize> = found.iter().filter_map(|(_, state)| *state).collect();
        return each_once(&rows).then_some(Rows::FinalState(rows));
    }
    None
}

/// The step and row that an element of a source belongs to.
fn tip_place(tip: &Source, id: i64) -> Option<(usize, usize)> {
    let flat = usize::try_from(id.checked_sub(tip.first)?).ok().filter(|&flat| flat < tip.len())?;
    Some(match (&tip.content, &tip.shape[..]) {
        (Content::Recurrent, [_, directions, batch, units]) => {
            (flat / (directions * batch * units), flat / units % batch)
        }
        (_, [_, batch, width]) => (flat / (batch * width), flat / width % batch),
        _ => return None,
    })
}
