//! The needs of an operator, worked out from its inputs before it runs: elements of memory and steps of arithmetic.
//!
//! The library computes whatever it is asked for, and nothing can catch a process that runs out of memory. So each
//! operator whose results can be larger than its inputs has a formula here.

use super::{Call, Convolution, broadcast as common};
use crate::tensor::{Tensor, volume};

/// The arithmetic that a model may ask for however small it is.
const BASE_WORK: u64 = 1 << 36;
/// How often each element that is given may meet each other one and each weight.
const MEETINGS: u64 = 16;
/// The arithmetic, and the elements, that may be computed of constants while a model is read, however small it is.
const BASE_FOLDING_WORK: u64 = 1 << 31;
const BASE_FOLDED: u64 = 1 << 23;
/// The least that an operator counts for.
pub(crate) const CALL_WORK: u64 = 1 << 12;
/// The attributes that can hold the value of a Constant.
pub(super) const CONSTANT_VALUES: &[&str] =
    &["value", "value_float", "value_floats", "value_int", "value_ints"];

/// The needs of one use of an operator.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Need {
    /// Elements of results and of temporary arrays.
    pub(crate) elements: u64,
    /// Multiplications, or elements visited.
    pub(crate) work: u64,
}

/// The budget that is left for a model. It grows with what is given: a large input may take long, a small file may not.
#[derive(Clone, Debug)]
pub(crate) struct Budget {
    work: u64,
    /// Elements of all results together.
    elements: u64,
    /// Elements of one result.
    room: u64,
}

impl Budget {
    /// For a run on `given` elements of inputs with `stored` elements of weights.
    pub(crate) fn running(given: usize, stored: usize) -> Budget {
        let (given, stored) = (given as u64, stored as u64);
        let meetings = given.saturating_mul(stored.saturating_add(given)).saturating_mul(MEETINGS);
        Budget { work: BASE_WORK.saturating_add(meetings), elements: u64::MAX, room: u64::MAX }
    }

    /// For computing constants from `stored` elements of weights.
    pub(crate) fn folding(stored: usize) -> Budget {
        let stored = stored as u64;
        Budget {
            work: BASE_FOLDING_WORK.saturating_add(stored.saturating_mul(1 << 8)),
            elements: BASE_FOLDED.saturating_add(stored.saturating_mul(4)),
            room: u64::MAX,
        }
    }

    /// For walking a graph of `stored` elements of weights with small sizes.
    pub(crate) fn walking(stored: usize) -> Budget {
        let Budget { work, elements, .. } = Budget::folding(stored);
        Budget { work, elements: u64::MAX, room: elements.saturating_mul(4) }
    }

    /// Sets the bytes that the next result may have.
    pub(crate) fn leave(&mut self, bytes: usize) {
        self.room = bytes as u64 / size_of::<f32>() as u64;
    }

    /// Takes what one use of an operator needs.
    pub(crate) fn spend(&mut self, need: Need) -> Result<(), String> {
        let refuse = |needed: u64, what: &str, left: u64| {
            format!("it needs {needed} {what}; a model and inputs of this size may ask for {left} more")
        };
        let work = need.work.max(CALL_WORK);
        self.work =
            self.work.checked_sub(work).ok_or_else(|| refuse(work, "steps of arithmetic", self.work))?;
        self.elements = self
            .elements
            .checked_sub(need.elements)
            .ok_or_else(|| refuse(need.elements, "elements", self.elements))?;
        match need.elements > self.room {
            true => Err(refuse(need.elements, "elements", self.room)),
            false => Ok(()),
        }
    }
}

impl Need {
    /// A result of this shape, each element computed in `work` steps.
    pub(crate) fn of(shape: &[usize], work: usize) -> Result<Need, String> {
        let elements = volume(shape)? as u64;
        Ok(Need { elements, work: elements.saturating_mul(work as u64) })
    }

    /// A convolution's result of this shape, `[B, O, ...]`, for a weight `w`.
    pub(crate) fn of_convolution(shape: &[usize], w: &[usize]) -> Result<Need, String> {
        Need::of(shape, product(&w[1..]))
    }

    /// More elements for temporary arrays.
    fn and(mut self, temporary: &[usize]) -> Result<Need, String> {
        self.elements = self.elements.saturating_add(volume(temporary)? as u64);
        Ok(self)
    }
}

fn product(lens: &[usize]) -> usize {
    lens.iter().fold(1, |all: usize, &len| all.saturating_mul(len))
}

/// Results no larger than all inputs together.
pub(super) fn as_inputs(call: &Call) -> Result<Need, String> {
    let elements = call.inputs.iter().flatten().map(|input| input.len() as u64).sum();
    Ok(Need { elements, work: elements })
}

pub(super) fn broadcast(call: &Call) -> Result<Need, String> {
    let mut shape = Vec::new();
    for input in call.inputs.iter().flatten() {
        shape = common(&shape, input.shape())?;
    }
    Need::of(&shape, call.inputs.len())
}

/// A shape given as an input, whose lengths must not be negative.
fn lengths(call: &Call, at: usize) -> Result<Vec<usize>, String> {
    let given = call.integers(at)?.ok_or("its shape is missing")?;
    given.iter().map(|&len| usize::try_from(len).map_err(|_| format!("{given:?} is not a shape"))).collect()
}

pub(super) fn constant_of_shape(call: &Call) -> Result<Need, String> {
    Need::of(&lengths(call, 0)?, 1)
}

pub(super) fn expand(call: &Call) -> Result<Need, String> {
    Need::of(&common(call.shape(0)?, &lengths(call, 1)?)?, 1)
}

pub(super) fn tile(call: &Call) -> Result<Need, String> {
    let (shape, repeats) = (call.shape(0)?, lengths(call, 1)?);
    if repeats.len() != shape.len() {
        return Err(format!("repeats {repeats:?} do not fit shape {shape:?}"));
    }
    let tiled: Vec<usize> =
        shape.iter().zip(&repeats).map(|(&len, &times)| len.saturating_mul(times)).collect();
    Need::of(&tiled, 1)
}

pub(super) fn reshape(call: &Call) -> Result<Need, String> {
    let (input, asked) = (call.required(0)?, call.integers(1)?.ok_or("its shape is missing")?);
    let zero_is_zero = call.node.int_or("allowzero", 0)? != 0;
    if zero_is_zero && call.opset < 14 {
        return Err("allowzero exists since opset 14".into());
    }
    let impossible = || format!("shape {:?} cannot become {asked:?}", input.shape());
    let mut shape = Vec::with_capacity(asked.len());
    for (axis, &len) in asked.iter().enumerate() {
        shape.push(match len {
            -1 => 1,
            0 if !zero_is_zero => *input.shape().get(axis).ok_or_else(impossible)?,
            len => usize::try_from(len).map_err(|_| impossible())?,
        });
    }
    let open = asked.iter().filter(|&&len| len == -1).count();
    let known = volume(&shape)?;
    let fits = match open {
        0 => known == input.len(),
        1 => known > 0 && input.len().is_multiple_of(known),
        _ => false,
    };
    if fits { as_inputs(call) } else { Err(impossible()) }
}

pub(super) fn pad(call: &Call) -> Result<Need, String> {
    let input = call.shape(0)?;
    let pads = call.attribute_or_input("pads", 1)?.ok_or("its pads are missing")?;
    let along = match call.integers(3)? {
        Some(along) => {
            along.iter().map(|&axis| super::axis(axis, input.len())).collect::<Result<Vec<_>, _>>()?
        }
        None => (0..input.len()).collect(),
    };
    if pads.len() != 2 * along.len() {
        return Err(format!("its pads are {pads:?}; expected {}", 2 * along.len()));
    }
    let mut shape: Vec<i64> = input.iter().map(|&len| len as i64).collect();
    for (k, &axis) in along.iter().enumerate() {
        shape[axis] = shape[axis].saturating_add(pads[k]).saturating_add(pads[k + along.len()]);
    }
    let shape: Vec<usize> = shape.iter().map(|&len| usize::try_from(len).unwrap_or(0)).collect();
    Need::of(&shape, 1)
}

pub(super) fn range(call: &Call) -> Result<Need, String> {
    let number = |at: usize| -> Result<f64, String> {
        let tensor = call.required(at)?;
        let whole = tensor.integers().and_then(|values| values.first().map(|&value| value as f64));
        let value = whole.or(tensor.scalar().map(f64::from)).filter(|_| tensor.len() == 1);
        value.ok_or_else(|| format!("input {at}: expected one number"))
    };
    let (start, limit, step) = (number(0)?, number(1)?, number(2)?);
    let len = ((limit - start) / step).ceil();
    if !len.is_finite() {
        return Err(format!("a range from {start} to {limit} in steps of {step}"));
    }
    Need::of(&[len.max(0.0) as usize], 1)
}

pub(super) fn gather(call: &Call) -> Result<Need, String> {
    let (data, indices) = (call.shape(0)?, call.shape(1)?);
    let along = super::axis(call.node.int_or("axis", 0)?, data.len())?;
    Need::of(&[&data[..along], indices, &data[along + 1..]].concat(), 1)
}

pub(super) fn gather_elements(call: &Call) -> Result<Need, String> {
    Need::of(call.shape(1)?, 1)
}

pub(super) fn gather_nd(call: &Call) -> Result<Need, String> {
    let (data, indices) = (call.shape(0)?, call.shape(1)?);
    let batch = usize::try_from(call.node.int_or("batch_dims", 0)?).unwrap_or(usize::MAX);
    let (&depth, outer) = indices.split_last().ok_or("its indices have no axis")?;
    let rest =
        data.get(batch.saturating_add(depth)..).ok_or("its indices have more places than its data axes")?;
    Need::of(&[outer, rest].concat(), 1)
}

pub(super) fn one_hot(call: &Call) -> Result<Need, String> {
    let depth = call.required(1)?;
    let whole = depth.integers().and_then(|values| values.first().copied());
    let depth = whole.or(depth.scalar().map(|value| value as i64)).ok_or("its depth is not a number")?;
    let depth = usize::try_from(depth).map_err(|_| format!("its depth is {depth}"))?;
    Need::of(&[call.shape(0)?, &[depth]].concat(), 1)
}

pub(super) fn top_k(call: &Call) -> Result<Need, String> {
    let shape = call.shape(0)?;
    let along = super::axis(call.node.int_or("axis", -1)?, shape.len())?;
    let count = match call.node.int("k")? {
        Some(count) => count,
        None => *call.integers(1)?.and_then(|k| k.first().copied()).as_ref().ok_or("its k is missing")?,
    };
    if usize::try_from(count).map_or(true, |count| count > shape[along]) {
        return Err(format!("k is {count} of {} elements", shape[along]));
    }
    let all = as_inputs(call)?;
    Ok(Need { elements: 2 * all.elements, work: all.work.saturating_mul(8) })
}

pub(super) fn non_zero(call: &Call) -> Result<Need, String> {
    let input = call.required(0)?;
    Need::of(&[input.shape().len().max(1), input.len()], 1)
}

pub(super) fn split(call: &Call) -> Result<Need, String> {
    let shape = call.shape(0)?;
    let along = super::axis(call.node.int_or("axis", 0)?, shape.len())?;
    let (len, parts) = (shape[along], call.node.outputs.len());
    if let Some(number) = call.node.int("num_outputs")?
        && (call.opset < 18 || usize::try_from(number) != Ok(parts))
    {
        return Err(format!("num_outputs is {number}; it has {parts} outputs at opset {}", call.opset));
    }
    match call.attribute_or_input("split", 1)? {
        Some(lens) => {
            let total = lens.iter().try_fold(0i64, |all, &len| all.checked_add(len).filter(|_| len >= 0));
            if lens.len() != parts || total != i64::try_from(len).ok() {
                return Err(format!(
                    "axis {along} of length {len} does not split into {lens:?} for {parts} outputs"
                ));
            }
        }
        None if parts == 0 => return Err("it has no output".into()),
        None if call.opset < 18 && !len.is_multiple_of(parts) => {
            return Err(format!("axis {along} of length {len} does not split into {parts} equal parts"));
        }
        None => {}
    }
    as_inputs(call)
}

pub(super) fn mat_mul(call: &Call) -> Result<Need, String> {
    let (a, b) = (call.shape(0)?, call.shape(1)?);
    let refuse = || format!("shapes {a:?} and {b:?} do not multiply");
    let (a, b) = match (a, b) {
        ([], _) | (_, []) => return Err(refuse()),
        (a, b) => (
            if a.len() == 1 { [&[1], a].concat() } else { a.to_vec() },
            if b.len() == 1 { [b, &[1]].concat() } else { b.to_vec() },
        ),
    };
    let ((outer_a, inner_a), (outer_b, inner_b)) = (a.split_at(a.len() - 2), b.split_at(b.len() - 2));
    if inner_a[1] != inner_b[0] {
        return Err(refuse());
    }
    let outer = common(outer_a, outer_b)?;
    Need::of(&[&outer[..], &[inner_a[0], inner_b[1]]].concat(), inner_a[1])
}

pub(super) fn gemm(call: &Call) -> Result<Need, String> {
    let matrix = |at: usize, key: &str| match call.shape(at)? {
        &[rows, columns] if call.node.int_or(key, 0)? == 0 => Ok((rows, columns)),
        &[rows, columns] => Ok((columns, rows)),
        other => Err(format!("expected a matrix, found shape {other:?}")),
    };
    let ((rows, inner), (same, columns)) = (matrix(0, "transA")?, matrix(1, "transB")?);
    if inner != same {
        return Err(format!("[{rows}, {inner}] and [{same}, {columns}] do not multiply"));
    }
    let shape = [rows, columns];
    if let Some(c) = call.optional(2)
        && common(&shape, c.shape()).as_deref() != Ok(&shape)
    {
        return Err(format!("C of shape {:?} does not fit a result of {shape:?}", c.shape()));
    }
    Need::of(&shape, inner)
}

/// An Einstein sum: bounded by the product of the lengths of all its letters.
pub(super) fn einsum(call: &Call) -> Result<Need, String> {
    let equation = call.node.text("equation")?.ok_or("its equation is missing")?;
    let (terms, result) = match equation.split_once("->") {
        Some((terms, result)) => (terms, Some(result)),
        None => (equation, None),
    };
    let mut lens: std::collections::BTreeMap<String, usize> = std::collections::BTreeMap::new();
    for (at, term) in terms.split(',').enumerate() {
        for (letter, &len) in letters(term, call.shape(at)?.len())?.into_iter().zip(call.shape(at)?) {
            let known = lens.entry(letter).or_insert(1);
            *known = (*known).max(len);
        }
    }
    let all = product(&lens.values().copied().collect::<Vec<_>>());
    let many = call.inputs.len() > 2;
    let shape: Vec<usize> = match result {
        Some(result) if !many => {
            let dots = lens.keys().filter(|letter| letter.starts_with('.')).count();
            let count = result.chars().filter(char::is_ascii_alphabetic).count()
                + if result.contains('.') { dots } else { 0 };
            let found = letters(result, count)?;
            found.iter().map(|letter| lens.get(letter).copied().unwrap_or(1)).collect()
        }
        _ => vec![all],
    };
    Ok(Need { work: all as u64, ..Need::of(&shape, 1)? })
}

/// The letters of a term of an Einstein sum, one an axis; those that its dots stand for count from the end.
fn letters(term: &str, axes: usize) -> Result<Vec<String>, String> {
    let term: String = term.chars().filter(|letter| !letter.is_whitespace()).collect();
    let (before, after) = term.split_once("...").unwrap_or((&term, ""));
    let named = before.chars().count() + after.chars().count();
    let dots = axes.checked_sub(named).filter(|&dots| dots == 0 || term.contains("..."));
    let dots = dots.ok_or_else(|| format!("its term {term} does not fit {axes} axes"))?;
    let name = |letter: char| letter.to_string();
    Ok(before
        .chars()
        .map(name)
        .chain((0..dots).rev().map(|k| format!(".{k}")))
        .chain(after.chars().map(name))
        .collect())
}

pub(super) fn convolution(call: &Call) -> Result<Need, String> {
    let (x, w) = (call.shape(0)?, call.shape(1)?);
    Need::of_convolution(&Convolution::of_node(call.node, w)?.result(x, w)?, w)
}

pub(super) fn transposed_convolution(call: &Call) -> Result<Need, String> {
    let (x, w) = (call.shape(0)?, call.shape(1)?);
    let conv = Convolution::of_node(call.node, w)?;
    let shape = conv.transposed_result(call.node, x, w)?;
    let places = product(x.get(2..).unwrap_or_default());
    Need { work: product(x).saturating_mul(product(&w[1..])) as u64, ..Need::of(&shape, 1)? }
        .and(&[product(&w[1..]).saturating_mul(conv.groups), places])
}

pub(super) fn pool(call: &Call) -> Result<Need, String> {
    let x = call.shape(0)?;
    let kernel = call.node.ints("kernel_shape")?.ok_or("its kernel_shape is missing")?;
    let kernel: Vec<usize> = kernel
        .iter()
        .map(|&len| usize::try_from(len).map_err(|_| format!("a kernel of {len}")))
        .collect::<Result<_, _>>()?;
    if x.len() != kernel.len() + 2 {
        return Err(format!("its kernel of {kernel:?} does not fit an input of shape {x:?}"));
    }
    let weight = [&[x[1], 1], &kernel[..]].concat();
    let mut conv = Convolution::of_node(call.node, &weight)?;
    conv.groups = x[1];
    Need::of(&conv.result(x, &weight)?, product(&kernel))
}

/// Resize and Upsample, by scales or to sizes.
pub(super) fn resize(call: &Call) -> Result<Need, String> {
    let x = call.shape(0)?;
    let (scales, sizes) = if call.node.operator == "Upsample" || call.opset < 11 { (1, 9) } else { (2, 3) };
    if let Some(sizes) = call.integers(sizes)?.filter(|sizes| !sizes.is_empty()) {
        let sizes: Vec<usize> = sizes.iter().map(|&len| usize::try_from(len).unwrap_or(usize::MAX)).collect();
        return Need::of(&sizes, 4);
    }
    let given = call.node.floats("scales")?;
    let scales: Vec<f32> = match call.optional(scales) {
        Some(Tensor::F32(array)) => array.iter().copied().collect(),
        None if !given.is_empty() => given.to_vec(),
        _ => return Err("neither its scales nor its sizes are given".into()),
    };
    if scales.len() != x.len() || scales.iter().any(|scale| !scale.is_finite() || *scale <= 0.0) {
        return Err(format!("scales {scales:?} do not fit an input of shape {x:?}"));
    }
    let shape: Vec<usize> =
        x.iter().zip(&scales).map(|(&len, scale)| (len as f64 * f64::from(*scale)) as usize).collect();
    Need::of(&shape, 4)
}

pub(super) fn grid_sample(call: &Call) -> Result<Need, String> {
    match (call.shape(0)?, call.shape(1)?) {
        (&[batch, channels, ..], &[_, height, width, 2]) => Need::of(&[batch, channels, height, width], 4),
        (x, grid) => {
            Err(format!("its input of shape {x:?} and grid of shape {grid:?} are not over two axes"))
        }
    }
}

/// The dynamically quantised LSTM, which the library runs itself since it rounds at every step.
pub(super) fn quantised_lstm(call: &Call) -> Result<Need, String> {
    let (&[steps, batch, input], &[directions, hidden, rows]) = (call.shape(0)?, call.shape(2)?) else {
        return Err(format!("shapes {:?} and {:?} are not those of X and R", call.shape(0)?, call.shape(2)?));
    };
    let work = rows.div_ceil(hidden.max(1)).saturating_mul(input.saturating_add(hidden));
    Need::of(&[steps, directions, batch, hidden], work)?.and(&[steps, batch, rows])
}

/// Scores of each query with each key, for each head.
pub(super) fn attention(call: &Call) -> Result<Need, String> {
    let (q, k) = (call.shape(0)?, call.shape(1)?);
    let (queries, keys, width) = match (q, k) {
        (&[batch, heads, queries, width], &[_, _, keys, _]) => {
            (product(&[batch, heads, queries]), keys, width)
        }
        (&[batch, queries, width], &[_, keys, _]) => {
            let heads =
                call.node.int("q_num_heads")?.and_then(|heads| usize::try_from(heads).ok()).unwrap_or(1);
            (product(&[batch, heads, queries]), keys, width)
        }
        _ => return Err(format!("shapes {q:?} and {k:?} are not those of queries and keys")),
    };
    let past = call.optional(4).and_then(|past| past.shape().get(2)).copied().unwrap_or(0);
    Need::of(&[queries, keys.saturating_add(past)], width.saturating_mul(2))?.and(&[product(q)])
}

/// A Fourier transform, over as many elements as its second input says.
pub(super) fn fourier(call: &Call) -> Result<Need, String> {
    let input = call.required(0)?;
    let len = call.integers(1)?.and_then(|len| len.first().copied()).unwrap_or(1).max(1);
    let len = usize::try_from(len).unwrap_or(usize::MAX);
    Need::of(&[input.len().max(1), 2, if call.optional(1).is_some() { len } else { 1 }], 32)
}

/// Fourier transforms of frames that overlap.
pub(super) fn fourier_frames(call: &Call) -> Result<Need, String> {
    let one = |at: usize| Ok::<_, String>(call.integers(at)?.and_then(|values| values.first().copied()));
    let step = one(1)?.filter(|&step| step > 0).ok_or("its frame_step is not above 0")? as usize;
    let window = call.optional(2).map(Tensor::len);
    let frame =
        one(3)?.and_then(|len| usize::try_from(len).ok()).or(window).ok_or("its frame_length is missing")?;
    let signal = call.required(0)?.len();
    Need::of(&[signal / step + 1, frame, 2], 32)
}
