//! Conv over one axis, and the padding that exporters write before it.

use super::Call;
use crate::graph::Node;
use crate::tensor::{Tensor, filled, volume};
use ndarray::{Array2, ArrayD, ArrayView3, Axis, Ix3, s};

/// The most steps of padding beyond what keeps the number of steps, and the most that a Pad adds to an axis: far above any
/// use, and a small file cannot ask for much memory with it.
const MOST_PADDING: usize = 1 << 16;
/// The values gathered for one product.
const WINDOW: usize = 1 << 20;

/// The options of a Conv over one axis, `[B, I, T]` to `[B, O, T']`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Convolution {
    pub(crate) kernel: usize,
    pub(crate) stride: usize,
    pub(crate) dilation: usize,
    pub(crate) padding: Padding,
    /// Groups of channels that do not meet.
    pub(crate) groups: usize,
}

/// The zeros before the first step and after the last.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Padding {
    Steps {
        left: usize,
        right: usize,
    },
    /// As many as make `ceil(T / stride)` steps, divided between both ends.
    Same {
        more_at_end: bool,
    },
}

impl Convolution {
    /// The options of a node whose weight has this shape, `[O, I / groups, K]`.
    pub(crate) fn of_node(node: &Node, weight: &[usize]) -> Result<Convolution, String> {
        node.only(&["auto_pad", "dilations", "group", "kernel_shape", "pads", "strides"])?;
        let &[output, _, kernel] = weight else {
            return Err(format!(
                "its weight has shape {weight:?}; expected [outputs, inputs, kernel], a convolution over one axis"
            ));
        };
        if weight.contains(&0) {
            return Err(format!("its weight of shape {weight:?} is empty"));
        }
        let number = |key: &str, least: i64, found: &[i64], count: usize| -> Result<Vec<usize>, String> {
            let fits =
                |&value: &i64| usize::try_from(value).ok().filter(|_| value >= least && value <= 1 << 24);
            let numbers: Option<Vec<usize>> = found.iter().map(fits).collect();
            let expected =
                || format!("attribute {key}: expected {count} of {least} to 2^24, found {found:?}");
            numbers.filter(|numbers| numbers.len() == count).ok_or_else(expected)
        };
        let one = |key: &str| Ok::<_, String>(number(key, 1, node.ints(key)?.unwrap_or(&[1]), 1)?[0]);
        let (stride, dilation) = (one("strides")?, one("dilations")?);
        if node.ints("kernel_shape")?.is_some_and(|shape| shape != [kernel as i64]) {
            return Err(format!("attribute kernel_shape: expected [{kernel}], as its weight has"));
        }
        let groups = number("group", 1, &[node.int_or("group", 1)?], 1)?[0];
        if !output.is_multiple_of(groups) {
            return Err(format!("its {output} outputs cannot be divided into {groups} groups"));
        }
        let pads = number("pads", 0, node.ints("pads")?.unwrap_or(&[0, 0]), 2)?;
        let padding = match node.text("auto_pad")?.unwrap_or("NOTSET") {
            "NOTSET" => Padding::Steps { left: pads[0], right: pads[1] },
            "VALID" => Padding::Steps { left: 0, right: 0 },
            "SAME_UPPER" => Padding::Same { more_at_end: true },
            "SAME_LOWER" => Padding::Same { more_at_end: false },
            other => return Err(format!("attribute auto_pad: {other:?} is not known")),
        };
        let conv = Convolution { kernel, stride, dilation, padding, groups };
        let most = conv.reach() - 1 + MOST_PADDING;
        match conv.padding {
            Padding::Steps { left, right } if left + right > most => {
                Err(format!("attribute pads: expected at most {most} steps, found {pads:?}"))
            }
            _ => Ok(conv),
        }
    }

    /// The steps from the first to the last that an output step reads.
    pub(crate) fn reach(&self) -> usize {
        self.dilation.saturating_mul(self.kernel - 1).saturating_add(1)
    }

    /// The zeros before and after `steps` steps; `None` for a padding that depends on their number, if that is not given.
    pub(crate) fn padding(&self, steps: Option<usize>) -> Option<(usize, usize)> {
        let more_at_end = match self.padding {
            Padding::Steps { left, right } => return Some((left, right)),
            Padding::Same { more_at_end } => more_at_end,
        };
        let total = match steps {
            _ if self.stride == 1 => self.reach() - 1,
            None => return None,
            Some(steps) => {
                let last = steps.div_ceil(self.stride).saturating_sub(1).saturating_mul(self.stride);
                last.saturating_add(self.reach()).saturating_sub(steps)
            }
        };
        let (less, more) = (total / 2, total - total / 2);
        Some(if more_at_end { (less, more) } else { (more, less) })
    }
}

fn three<'a>(array: &'a ArrayD<f32>, what: &str) -> Result<ArrayView3<'a, f32>, String> {
    let view = array.view().into_dimensionality::<Ix3>();
    view.map_err(|_| format!("{what} has shape {:?}; expected three axes", array.shape()))
}

pub(super) fn conv(call: &Call) -> Result<Vec<Tensor>, String> {
    let (x, w) = (three(call.f32(0)?, "its input")?, three(call.f32(1)?, "its weight")?);
    let conv = Convolution::of_node(call.node, w.shape())?;
    let ((batch, input, steps), (output, of_group, kernel)) = (x.dim(), w.dim());
    if of_group.checked_mul(conv.groups) != Some(input) {
        return Err(format!(
            "its weight of shape {:?} in {} groups does not fit {input} inputs",
            w.shape(),
            conv.groups
        ));
    }
    let bias = match call.optional(2) {
        None => None,
        Some(_) => {
            let bias = call.f32(2)?;
            if bias.shape() != [output] {
                return Err(format!("its bias has shape {:?}; expected [{output}]", bias.shape()));
            }
            Some(bias)
        }
    };
    let (left, right) = conv.padding(Some(steps)).ok_or("its padding is not known")?;
    let padded = steps.saturating_add(left).saturating_add(right);
    let Some(spare) = padded.checked_sub(conv.reach()).filter(|_| steps > 0) else {
        let reach = conv.reach();
        return Err(format!(
            "each output step reads {reach} steps; found {steps} and {} of padding",
            left + right
        ));
    };
    let count = spare / conv.stride + 1;
    let mut y = filled(&[batch, output, count], 0.0f32)?;
    let (rows, values) = (output / conv.groups, of_group * kernel);
    let at_once = (WINDOW / values).max(1);
    for (x, mut y) in x.outer_iter().zip(y.outer_iter_mut()) {
        for group in 0..conv.groups {
            let x = x.slice(s![group * of_group..(group + 1) * of_group, ..]);
            let w = w.slice(s![group * rows..(group + 1) * rows, .., ..]);
            let w = w.to_shape((rows, values)).map_err(|error| error.to_string())?;
            let mut y = y.slice_axis_mut(Axis(0), (group * rows..(group + 1) * rows).into());
            for (window, mut y) in y.axis_chunks_iter_mut(Axis(1), at_once).enumerate() {
                // The values that each output step reads, as columns.
                let read = Array2::from_shape_fn((values, y.len_of(Axis(1))), |(value, t)| {
                    let at = (window * at_once + t) * conv.stride + value % kernel * conv.dilation;
                    let at = at.checked_sub(left).filter(|&at| at < steps);
                    at.map_or(0.0, |at| x[[value / kernel, at]])
                });
                y.assign(&w.dot(&read));
            }
        }
        if let Some(bias) = bias {
            y.outer_iter_mut().zip(bias).for_each(|(mut y, &bias)| y += bias);
        }
    }
    Ok(vec![Tensor::F32(y)])
}

/// Pad with a constant: zeros, or the number that is given.
pub(super) fn pad(call: &Call) -> Result<Vec<Tensor>, String> {
    call.node.only(&["mode", "pads", "value"])?;
    let input = call.required(0)?;
    let axes = input.shape().len();
    match call.node.text("mode")?.unwrap_or("constant") {
        "constant" => {}
        mode => return Err(format!("it pads in the mode {mode:?}; expected constant")),
    }
    let pads = call.attribute_or_input("pads", 11, 1)?.ok_or("its pads are missing")?;
    let value = if call.opset < 11 { call.node.float("value")? } else { given_value(call)? };
    let along = match call.integers(3)? {
        Some(along) => along.iter().map(|&axis| super::axis(axis, axes)).collect::<Result<Vec<_>, _>>()?,
        None => (0..axes).collect(),
    };
    let fits = |&pad: &i64| usize::try_from(pad).ok().filter(|&pad| pad <= MOST_PADDING);
    let found: Option<Vec<usize>> = pads.iter().map(fits).collect();
    let found = found.filter(|found| found.len() == 2 * along.len());
    let pads = found.ok_or_else(|| {
        format!("its pads are {pads:?}; expected {} of 0 to {MOST_PADDING}", 2 * along.len())
    })?;
    let mut shape = input.shape().to_vec();
    let mut begin = vec![0; axes];
    for (k, &axis) in along.iter().enumerate() {
        begin[axis] += pads[k];
        let longer =
            pads[k].checked_add(pads[k + along.len()]).and_then(|more| more.checked_add(shape[axis]));
        shape[axis] = longer.ok_or("its pads are too large")?;
    }
    let within = |padded: &[usize]| -> Option<Vec<usize>> {
        let places = padded.iter().zip(&begin).zip(input.shape());
        places.map(|((&at, &begin), &len)| at.checked_sub(begin).filter(|&at| at < len)).collect()
    };
    volume(&shape)?;
    Ok(vec![match input {
        Tensor::F32(array) => Tensor::F32(padded(array, &shape, value.unwrap_or(0.0), within)),
        // Identities of elements, while a graph is imported.
        Tensor::I64(array) if value.unwrap_or(0.0) == 0.0 => Tensor::I64(padded(array, &shape, 0, within)),
        other => return Err(format!("expected float32, found {}", other.element())),
    }])
}

fn given_value(call: &Call) -> Result<Option<f32>, String> {
    match call.optional(2) {
        None => Ok(None),
        Some(value) => value.scalar().map(Some).ok_or_else(|| "its value is not a single number".into()),
    }
}

fn padded<T: Copy>(
    array: &ArrayD<T>,
    shape: &[usize],
    value: T,
    within: impl Fn(&[usize]) -> Option<Vec<usize>>,
) -> ArrayD<T> {
    ArrayD::from_shape_fn(shape, |at| {
        let at: Vec<usize> = (0..shape.len()).map(|axis| at[axis]).collect();
        within(&at).map_or(value, |at| array[&at[..]])
    })
}
