use ndarray::ArrayD;
use std::borrow::Cow;
use std::fmt;

/// The most axes that a tensor may have.
pub(crate) const MAX_AXES: usize = 32;
/// The most elements of a tensor computed while a model runs, 1 GiB of `f32`. A hostile shape beyond that is refused
/// before memory is allocated.
pub(crate) const MAX_ELEMENTS: usize = 1 << 28;
/// For a tensor without elements, the largest product of the lengths that are not zero.
pub(crate) const MAX_EMPTY: usize = 1 << 20;

/// An array, row-major, of one of the element types that models of recurrent networks use.
#[derive(Clone, Debug, PartialEq)]
pub enum Tensor {
    /// ONNX's FLOAT; also its FLOAT16 and DOUBLE, which are computed in f32.
    F32(ArrayD<f32>),
    /// ONNX's INT64: shapes, axes, indices, lengths.
    I64(ArrayD<i64>),
    /// ONNX's INT32: lengths of sequences.
    I32(ArrayD<i32>),
    /// ONNX's BOOL: masks, conditions.
    Bool(ArrayD<bool>),
    /// ONNX's UINT8: quantised values, images.
    U8(ArrayD<u8>),
    /// ONNX's INT8: quantised weights.
    I8(ArrayD<i8>),
}

/// The type of a [`Tensor`]'s elements, or that of a model's input or output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ElementType {
    /// `float32`
    F32,
    /// `int64`
    I64,
    /// `int32`
    I32,
    /// `bool`
    Bool,
    /// `uint8`
    U8,
    /// `int8`
    I8,
    /// `float16`, of a port only: its tensors are [`Tensor::F32`]
    F16,
    /// `float64`, of a port only: its tensors are [`Tensor::F32`]
    F64,
}

impl ElementType {
    /// The type of the tensors that hold such elements.
    pub fn stored(self) -> ElementType {
        match self {
            ElementType::F16 | ElementType::F64 => ElementType::F32,
            other => other,
        }
    }

    /// The bytes of a stored element.
    pub(crate) fn bytes(self) -> usize {
        match self.stored() {
            ElementType::I64 => 8,
            ElementType::Bool | ElementType::U8 | ElementType::I8 => 1,
            _ => 4,
        }
    }
}

impl fmt::Display for ElementType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ElementType::F32 => "float32",
            ElementType::I64 => "int64",
            ElementType::I32 => "int32",
            ElementType::Bool => "bool",
            ElementType::U8 => "uint8",
            ElementType::I8 => "int8",
            ElementType::F16 => "float16",
            ElementType::F64 => "float64",
        })
    }
}

/// Applies one expression to an array of any element type; the result is a [`Tensor`] of that type.
macro_rules! map_tensor {
    ($tensor:expr, $array:ident => $result:expr) => {
        match $tensor {
            $crate::Tensor::F32($array) => $crate::Tensor::F32($result),
            $crate::Tensor::I64($array) => $crate::Tensor::I64($result),
            $crate::Tensor::I32($array) => $crate::Tensor::I32($result),
            $crate::Tensor::Bool($array) => $crate::Tensor::Bool($result),
            $crate::Tensor::U8($array) => $crate::Tensor::U8($result),
            $crate::Tensor::I8($array) => $crate::Tensor::I8($result),
        }
    };
}
pub(crate) use map_tensor;

impl Tensor {
    /// The lengths of the axes.
    pub fn shape(&self) -> &[usize] {
        match self {
            Tensor::F32(array) => array.shape(),
            Tensor::I64(array) => array.shape(),
            Tensor::I32(array) => array.shape(),
            Tensor::Bool(array) => array.shape(),
            Tensor::U8(array) => array.shape(),
            Tensor::I8(array) => array.shape(),
        }
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        match self {
            Tensor::F32(array) => array.len(),
            Tensor::I64(array) => array.len(),
            Tensor::I32(array) => array.len(),
            Tensor::Bool(array) => array.len(),
            Tensor::U8(array) => array.len(),
            Tensor::I8(array) => array.len(),
        }
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The type of the elements.
    pub fn element(&self) -> ElementType {
        match self {
            Tensor::F32(_) => ElementType::F32,
            Tensor::I64(_) => ElementType::I64,
            Tensor::I32(_) => ElementType::I32,
            Tensor::Bool(_) => ElementType::Bool,
            Tensor::U8(_) => ElementType::U8,
            Tensor::I8(_) => ElementType::I8,
        }
    }

    /// The elements in order, if they are int32 or int64.
    pub(crate) fn integers(&self) -> Option<Vec<i64>> {
        match self {
            Tensor::I64(array) => Some(array.iter().copied().collect()),
            Tensor::I32(array) => Some(array.iter().map(|&value| i64::from(value)).collect()),
            _ => None,
        }
    }

    /// A list of whole numbers.
    pub(crate) fn of_integers(values: Vec<i64>) -> Tensor {
        Tensor::I64(ndarray::Array1::from(values).into_dyn())
    }

    /// The only element as a number; `None` if there are more, or it is a bool.
    pub(crate) fn scalar(&self) -> Option<f32> {
        if self.len() != 1 {
            return None;
        }
        match self {
            Tensor::F32(array) => array.first().copied(),
            Tensor::I64(array) => array.first().map(|&value| value as f32),
            Tensor::I32(array) => array.first().map(|&value| value as f32),
            _ => None,
        }
    }

    /// The bytes of the elements.
    pub(crate) fn bytes(&self) -> usize {
        self.len() * self.element().bytes()
    }

    /// The tensor with its elements in row-major order.
    pub(crate) fn in_order(&self) -> Cow<'_, Tensor> {
        let ordered = match self {
            Tensor::F32(array) => array.is_standard_layout(),
            Tensor::I64(array) => array.is_standard_layout(),
            Tensor::I32(array) => array.is_standard_layout(),
            Tensor::Bool(array) => array.is_standard_layout(),
            Tensor::U8(array) => array.is_standard_layout(),
            Tensor::I8(array) => array.is_standard_layout(),
        };
        if ordered {
            return Cow::Borrowed(self);
        }
        Cow::Owned(map_tensor!(self, array => array.as_standard_layout().into_owned()))
    }
}

impl<D: ndarray::Dimension> From<ndarray::Array<f32, D>> for Tensor {
    fn from(array: ndarray::Array<f32, D>) -> Tensor {
        Tensor::F32(array.into_dyn())
    }
}

impl<D: ndarray::Dimension> From<ndarray::Array<i64, D>> for Tensor {
    fn from(array: ndarray::Array<i64, D>) -> Tensor {
        Tensor::I64(array.into_dyn())
    }
}

impl<D: ndarray::Dimension> From<ndarray::Array<i32, D>> for Tensor {
    fn from(array: ndarray::Array<i32, D>) -> Tensor {
        Tensor::I32(array.into_dyn())
    }
}

/// The number of elements of a shape, unless it is too large. An empty tensor's other axes are limited too, since some
/// operators make lists as long as an axis.
pub(crate) fn volume(shape: &[usize]) -> Result<usize, String> {
    if shape.len() > MAX_AXES {
        return Err(format!("a tensor of {} axes; at most {MAX_AXES} are supported", shape.len()));
    }
    let (most, len) = if shape.contains(&0) { (MAX_EMPTY, Some(0)) } else { (MAX_ELEMENTS, None) };
    let extent = shape.iter().filter(|&&len| len > 0).try_fold(1usize, |all, &len| all.checked_mul(len));
    match extent {
        Some(extent) if extent <= most => Ok(len.unwrap_or(extent)),
        _ => Err(format!("a tensor of shape {shape:?}; at most {most} elements are supported")),
    }
}
