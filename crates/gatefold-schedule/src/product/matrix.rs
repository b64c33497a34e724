//! Matrices and tensors as walks over the elements of a buffer.

use crate::Span;

/// A matrix in a buffer, and how its two axes are walked.
#[derive(Clone, Copy, Debug)]
pub struct Matrix {
    /// The elements that it lies in.
    pub span: Span,
    /// Its rows.
    pub rows: usize,
    /// Its columns.
    pub columns: usize,
    /// Elements from one row to the next.
    pub row_stride: usize,
    /// Elements from one column to the next.
    pub column_stride: usize,
    /// Set where rows are the steps of sequences of different length, so that products may skip padding.
    pub steps: Option<StepRows>,
}

/// Rows `[T, batch]` that end with their sequences; `lengths [batch]` are `u32`.
#[derive(Clone, Copy, Debug)]
pub struct StepRows {
    /// The length of each sequence.
    pub lengths: Span,
    /// The number of sequences.
    pub batch: usize,
}

impl Matrix {
    /// Row after row, without gaps.
    ///
    /// # Panics
    /// If it does not fill its span.
    pub fn new(span: Span, rows: usize, columns: usize) -> Matrix {
        assert_eq!(span.len, rows * columns, "a matrix fills its span");
        Matrix { span, rows, columns, row_stride: columns, column_stride: 1, steps: None }
    }

    /// The same numbers with rows and columns exchanged; its rows are not steps.
    pub fn transposed(self) -> Matrix {
        Matrix {
            span: self.span,
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            steps: None,
        }
    }
}

/// The gate that each lane of a unit holds, in the code of the kernels: four bits a lane, 15 for a lane that holds zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneMap {
    /// Lanes of a unit.
    pub lanes: usize,
    pub(super) code: u32,
}

impl LaneMap {
    /// A lane for each gate, in order.
    pub fn same(gates: usize) -> LaneMap {
        let lanes: Vec<Option<usize>> = (0..gates).map(Some).collect();
        LaneMap::new(&lanes)
    }

    /// The gate of each lane.
    pub fn new(lanes: &[Option<usize>]) -> LaneMap {
        let of = |(at, gate): (usize, &Option<usize>)| (gate.unwrap_or(15) as u32) << (4 * at);
        LaneMap { lanes: lanes.len(), code: lanes.iter().enumerate().map(of).sum() }
    }
}

/// A tensor `[size0, size1, size2]` whose element `i0, i1, i2` is element `i0 s0 + i1 s1 + i2 s2` of another; along one
/// axis it may count lanes where the other counts gates.
#[derive(Clone, Copy, Debug)]
pub struct Order {
    /// The tensor's axes.
    pub sizes: [usize; 3],
    /// A step along each of them, in the other tensor.
    pub strides: [usize; 3],
    lanes: Option<(u32, LaneMap)>,
}

impl Order {
    /// The same order: nothing moves.
    pub fn same(len: usize) -> Order {
        Order { sizes: [1, 1, len], strides: [0, 0, 1], lanes: None }
    }

    /// `[columns, rows]` from `[rows, columns]`.
    pub fn transposed(rows: usize, columns: usize) -> Order {
        Order { sizes: [1, columns, rows], strides: [0, 1, columns], lanes: None }
    }

    /// From PyTorch's `[gates, hidden, columns]` to `[columns, hidden, lanes]`, as a walk along a row reads it.
    pub fn columns_units_lanes(map: LaneMap, hidden: usize, columns: usize) -> Order {
        let (sizes, strides) = ([columns, hidden, map.lanes], [1, columns, hidden * columns]);
        Order { sizes, strides, lanes: Some((2, map)) }
    }

    /// From PyTorch's `[gates, hidden, columns]` to `[hidden, lanes, columns]`, rows in the order of packed gradients.
    pub fn units_lanes_columns(map: LaneMap, hidden: usize, columns: usize) -> Order {
        let (sizes, strides) = ([hidden, map.lanes, columns], [columns, hidden * columns, 1]);
        Order { sizes, strides, lanes: Some((1, map)) }
    }

    /// From PyTorch's `[gates, hidden, columns]` to `[hidden, columns, lanes]`, as the backward walk reads it.
    pub fn units_columns_lanes(map: LaneMap, hidden: usize, columns: usize) -> Order {
        let (sizes, strides) = ([hidden, columns, map.lanes], [columns, 1, hidden * columns]);
        Order { sizes, strides, lanes: Some((2, map)) }
    }

    /// The number of elements.
    #[expect(clippy::len_without_is_empty, reason = "no axis is 0")]
    pub fn len(&self) -> usize {
        self.sizes.iter().product()
    }

    /// The axis that counts lanes, 0 for none, and the code of the map.
    pub(super) fn lane_code(&self) -> (u32, u32) {
        self.lanes.map_or((0, 0), |(axis, map)| (axis, map.code))
    }
}
