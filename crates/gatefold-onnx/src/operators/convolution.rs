//! The options of convolutions and pooling, with their defaults filled in, and the shapes of their results.

use crate::graph::Node;

/// The options of a convolution over any number of axes, `[B, I, ...]` to `[B, O, ...]`: a number an axis.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Convolution {
    pub(crate) kernel: Vec<usize>,
    pub(crate) stride: Vec<usize>,
    pub(crate) dilation: Vec<usize>,
    pub(crate) padding: Padding,
    /// Groups of channels that do not meet.
    pub(crate) groups: usize,
    /// Whether a last incomplete window counts, in pooling.
    ceil: bool,
}

/// The zeros before the first step and after the last.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Padding {
    /// Pairs of numbers before and after, an axis each.
    Steps(Vec<(usize, usize)>),
    /// As many as make `ceil(T / stride)` steps, divided between both ends.
    Same { more_at_end: bool },
}

/// The largest of an option's numbers.
const MOST: usize = 1 << 24;

impl Convolution {
    /// The options of a node whose weight has this shape, `[O, I / groups, K...]`.
    pub(crate) fn of_node(node: &Node, weight: &[usize]) -> Result<Convolution, String> {
        let Some(kernel) = weight.get(2..).filter(|kernel| !kernel.is_empty()) else {
            return Err(format!("its weight has shape {weight:?}; expected [outputs, inputs, kernel...]"));
        };
        if weight.contains(&0) {
            return Err(format!("its weight of shape {weight:?} is empty"));
        }
        let axes = kernel.len();
        let numbers = |key: &str, least: usize, count: usize| -> Result<Vec<usize>, String> {
            let Some(found) = node.ints(key)? else { return Ok(vec![least; count]) };
            let fits =
                |&value: &i64| usize::try_from(value).ok().filter(|value| (least..=MOST).contains(value));
            let numbers: Option<Vec<usize>> = found.iter().map(fits).collect();
            numbers.filter(|numbers| numbers.len() == count).ok_or_else(|| {
                format!("attribute {key}: expected {count} of {least} to 2^24, found {found:?}")
            })
        };
        if let Some(given) = node.ints("kernel_shape")?
            && !given.iter().copied().eq(kernel.iter().map(|&len| len as i64))
        {
            return Err(format!("attribute kernel_shape: expected {kernel:?}, as its weight has"));
        }
        let groups = node.int_or("group", 1)?;
        let groups =
            usize::try_from(groups).ok().filter(|&groups| groups > 0 && weight[0].is_multiple_of(groups));
        let groups =
            groups.ok_or_else(|| format!("its {} outputs cannot be divided into groups", weight[0]))?;
        let pads = numbers("pads", 0, 2 * axes)?;
        let padding = match node.text("auto_pad")?.unwrap_or("NOTSET") {
            "NOTSET" => Padding::Steps((0..axes).map(|k| (pads[k], pads[k + axes])).collect()),
            "VALID" => Padding::Steps(vec![(0, 0); axes]),
            "SAME_UPPER" => Padding::Same { more_at_end: true },
            "SAME_LOWER" => Padding::Same { more_at_end: false },
            other => return Err(format!("attribute auto_pad: {other:?} is not known")),
        };
        Ok(Convolution {
            kernel: kernel.to_vec(),
            stride: numbers("strides", 1, axes)?,
            dilation: numbers("dilations", 1, axes)?,
            padding,
            groups,
            ceil: node.int_or("ceil_mode", 0)? != 0,
        })
    }

    /// The steps from the first to the last that an output step reads, along an axis.
    pub(crate) fn reach(&self, axis: usize) -> usize {
        self.dilation[axis].saturating_mul(self.kernel[axis] - 1).saturating_add(1)
    }

    /// The zeros before and after `steps` steps of an axis; `None` for a padding that depends on their number, if that
    /// is not given.
    pub(crate) fn padding(&self, axis: usize, steps: Option<usize>) -> Option<(usize, usize)> {
        let more_at_end = match &self.padding {
            Padding::Steps(pads) => return Some(pads[axis]),
            Padding::Same { more_at_end } => *more_at_end,
        };
        let total = match steps {
            _ if self.stride[axis] == 1 => self.reach(axis) - 1,
            None => return None,
            Some(steps) => {
                let last =
                    steps.div_ceil(self.stride[axis]).saturating_sub(1).saturating_mul(self.stride[axis]);
                last.saturating_add(self.reach(axis)).saturating_sub(steps)
            }
        };
        let (less, more) = (total / 2, total - total / 2);
        Some(if more_at_end { (less, more) } else { (more, less) })
    }

    /// The zeros before and after each axis of an input of this shape, as the attribute `pads` has them.
    pub(super) fn pads(&self, x: &[usize]) -> Vec<i64> {
        let pairs =
            (0..self.kernel.len()).map(|axis| self.padding(axis, x.get(axis + 2).copied()).unwrap_or((0, 0)));
        let (before, after): (Vec<i64>, Vec<i64>) = pairs.map(|(a, b)| (a as i64, b as i64)).unzip();
        [before, after].concat()
    }

    /// The shape of the result for an input `x` and a weight `w`.
    pub(crate) fn result(&self, x: &[usize], w: &[usize]) -> Result<Vec<usize>, String> {
        if x.len() != w.len() || w[1].checked_mul(self.groups) != Some(x[1]) {
            return Err(format!(
                "its weight of shape {w:?} in {} groups does not fit an input of shape {x:?}",
                self.groups
            ));
        }
        let mut shape = vec![x[0], w[0]];
        for axis in 0..self.kernel.len() {
            let (steps, reach) = (x[axis + 2], self.reach(axis));
            let (left, right) = self.padding(axis, Some(steps)).ok_or("its padding is not known")?;
            let padded = steps.saturating_add(left).saturating_add(right);
            let Some(spare) = padded.checked_sub(reach).filter(|_| steps > 0) else {
                let pads = left + right;
                return Err(format!(
                    "each output step reads {reach} steps; found {steps} and {pads} of padding"
                ));
            };
            let stride = self.stride[axis];
            shape.push(if self.ceil { spare.div_ceil(stride) } else { spare / stride } + 1);
        }
        Ok(shape)
    }

    /// The shape of a transposed convolution's result, whose weight `w` is `[I, O / groups, K...]`.
    pub(super) fn transposed_result(
        &self,
        node: &Node,
        x: &[usize],
        w: &[usize],
    ) -> Result<Vec<usize>, String> {
        if x.len() != w.len() || w[0] != x[1] {
            return Err(format!("its weight of shape {w:?} does not fit an input of shape {x:?}"));
        }
        let more = node.ints("output_padding")?.unwrap_or_default();
        let mut shape = vec![x[0], w[1].saturating_mul(self.groups)];
        for axis in 0..self.kernel.len() {
            let steps = x[axis + 2].saturating_sub(1).saturating_mul(self.stride[axis]);
            let more = usize::try_from(more.get(axis).copied().unwrap_or(0)).unwrap_or(usize::MAX);
            shape.push(steps.saturating_add(self.reach(axis)).saturating_add(more));
        }
        Ok(shape)
    }
}
