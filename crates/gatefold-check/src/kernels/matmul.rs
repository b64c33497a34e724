//! The kernels of matrix products: every tile, layout, column width, bias, activation and split of the inner axis, and
//! lengths along either axis.

use super::lanes;
use super::linear::activation_consts;
use crate::Random;
use crate::compare::Tolerance;
use crate::data::{flat, matrix};
use crate::selfcheck::Checks;
use gatefold::hooks::run_kernel;
use gatefold::layers::Activation;
use gatefold::{Error, Gpu};
use gatefold_reference::linear;
use gatefold_shaders::{Columns, KernelId, KernelVariant, Lanes, STAGED_SIDE, TILE_WG_SIZE, params};
use ndarray::{Array2, Array3, ArrayView1, Axis, s};
use std::fmt;

/// The first element of a in its buffer; a scan's output, for one, begins after the initial h.
const A_OFFSET: usize = 5;
/// Columns before b in its buffer.
const B_OFFSET: usize = 3;

struct Case {
    m: usize,
    k: usize,
    n: usize,
    tile: Tile,
    bias: bool,
    activation: Activation,
    /// Inner elements of a slice.
    slice_len: usize,
    a_transposed: bool,
    b_transposed: bool,
    steps: Option<Steps>,
}

/// The kernel, and the part of a product that an invocation owns.
#[derive(Clone, Copy, Debug)]
enum Tile {
    Streamed { rows: u32, columns_each: u32, columns: Columns, lanes: Lanes },
    Staged { row_quads: u32, column_quads: u32 },
}

impl Tile {
    fn columns(self) -> Columns {
        match self {
            Tile::Streamed { columns, .. } => columns,
            Tile::Staged { .. } => Columns::F32,
        }
    }

    /// Rows, and columns of `Column`s, of a workgroup.
    fn of_group(self) -> [u32; 2] {
        match self {
            Tile::Streamed { rows, columns_each, .. } => [rows, TILE_WG_SIZE * columns_each],
            Tile::Staged { row_quads, column_quads } => {
                [row_quads, column_quads].map(|quads| 4 * STAGED_SIDE * quads)
            }
        }
    }

    /// Sequences, if there are lengths: more than a block of inner elements has, so that blocks lie past all ends.
    fn batch(self) -> usize {
        match self {
            Tile::Streamed { .. } => 18,
            Tile::Staged { .. } => 50,
        }
    }

    fn kernel(self, shared: &[(&'static str, u32)]) -> KernelVariant {
        match self {
            Tile::Streamed { rows, columns_each, columns, lanes } => {
                let own = [("WG_SIZE", TILE_WG_SIZE), ("ROWS", rows), ("COLUMNS", columns_each)];
                let kernel = KernelVariant::new(KernelId::MatMul, &[&own, shared].concat());
                KernelVariant { lanes, columns, ..kernel }
            }
            Tile::Staged { row_quads, column_quads } => {
                let own = [("ROW_QUADS", row_quads), ("COLUMN_QUADS", column_quads)];
                KernelVariant::new(KernelId::MatMulStaged, &[&own, shared].concat())
            }
        }
    }
}

/// `tile 4x2 vec4 subgroup`, `tile 128x64`
impl fmt::Display for Tile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Tile::Streamed { rows, columns_each, columns, lanes } => {
                let words = format!("{columns:?} {lanes:?}").to_lowercase();
                write!(f, "tile {rows}x{columns_each} {words}")
            }
            Tile::Staged { .. } => {
                let [rows, columns] = self.of_group();
                write!(f, "tile {rows}x{columns}")
            }
        }
    }
}

/// The axis that holds the steps of sequences of different length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Steps {
    Rows,
    Inner,
}

/// Every tile of `matmul`. The other choices take turns, each with a period of its own.
fn streamed(gpu: &Gpu) -> Vec<Case> {
    let sizes_f32 = [(1, 1, 1), (33, 31, 7), (5, 9, 65), (17, 70, 31), (2, 8, 130)];
    let sizes_vec4 = [(1, 1, 4), (33, 31, 132), (5, 9, 64), (17, 70, 260), (3, 8, 128)];
    let mut found: Vec<Case> = Vec::new();
    for lanes in lanes(gpu) {
        for rows in [1, 2, 4, 8, 16] {
            for columns_each in [1, 2] {
                for (columns, sizes) in [(Columns::F32, sizes_f32), (Columns::Vec4, sizes_vec4)] {
                    for turn in 0..3 {
                        let count = found.len();
                        let (m, k, n) = sizes[count % sizes.len()];
                        // Slices are added up by another kernel, which also applies bias and activation.
                        let sliced = turn == 2;
                        found.push(Case {
                            m,
                            k,
                            n,
                            tile: Tile::Streamed { rows, columns_each, columns, lanes },
                            bias: !sliced && !count.is_multiple_of(3),
                            activation: if sliced {
                                Activation::Identity
                            } else {
                                Activation::ALL[count / 3 % Activation::ALL.len()]
                            },
                            slice_len: if sliced { (k / 3).max(1).next_multiple_of(4) } else { k },
                            a_transposed: count % 2 == 1,
                            b_transposed: columns == Columns::F32 && count / 2 % 2 == 1,
                            steps: [None, Some(Steps::Rows), None, Some(Steps::Inner)][count / 5 % 4],
                        });
                    }
                }
            }
        }
    }
    found
}

/// Every tile of `matmul_staged` at sizes below, at and above those of tiles and blocks. The other choices take turns.
fn staged() -> Vec<Case> {
    const SIZES: [(usize, usize, usize); 8] = [
        (1, 1, 1),
        (3, 17, 63),
        (65, 130, 17),
        (130, 63, 65),
        (17, 3, 130),
        (63, 65, 3),
        (129, 33, 128),
        (64, 48, 64),
    ];
    let mut found: Vec<Case> = Vec::new();
    for (row_quads, column_quads) in [(1, 1), (1, 2), (2, 1), (2, 2)] {
        for (m, k, n) in SIZES {
            let count = found.len();
            let sliced = count % 3 == 2;
            let own = Activation::ALL[count / 2 % Activation::ALL.len()];
            found.push(Case {
                m,
                k,
                n,
                tile: Tile::Staged { row_quads, column_quads },
                bias: !sliced && !count.is_multiple_of(4),
                activation: if sliced { Activation::Identity } else { own },
                slice_len: if sliced { (k / 3).max(1).next_multiple_of(4) } else { k },
                a_transposed: (count + count / 8) % 2 == 1,
                b_transposed: (count / 2 + count / 16) % 2 == 1,
                steps: [None, Some(Steps::Rows), Some(Steps::Inner)][count % 5 % 3],
            });
        }
    }
    found
}

impl Case {
    fn kernel(&self) -> KernelVariant {
        let shared = [
            ("BIAS", u32::from(self.bias)),
            ("SKIP_ROWS", u32::from(self.steps == Some(Steps::Rows))),
            ("SKIP_INNER", u32::from(self.steps == Some(Steps::Inner))),
        ];
        self.tile.kernel(&[&shared[..], &activation_consts(self.activation)].concat())
    }

    fn slices(&self) -> usize {
        self.k.div_ceil(self.slice_len)
    }

    fn params(&self) -> params::MatMul {
        let width = self.tile.columns().width();
        let [m, k, n] = [self.m, self.k, self.n].map(|size| size as u32);
        let (a_row_stride, a_k_stride) = if self.a_transposed { (1, m) } else { (k, 1) };
        let (b_k_stride, b_column_stride) = if self.b_transposed { (1, k) } else { (n / width, 1) };
        params::MatMul {
            m,
            n: n / width,
            k,
            slice_len: self.slice_len as u32,
            a_offset: A_OFFSET as u32,
            a_row_stride,
            a_k_stride,
            b_k_stride,
            b_column_stride,
            b_offset: B_OFFSET as u32,
            batch: if self.steps.is_some() { self.tile.batch() as u32 } else { 0 },
            ..Default::default()
        }
    }

    fn groups(&self) -> [u32; 3] {
        let columns = self.n as u32 / self.tile.columns().width();
        let [rows_each, columns_each] = self.tile.of_group();
        [columns.div_ceil(columns_each), (self.m as u32).div_ceil(rows_each), self.slices() as u32]
    }

    fn describe(&self) -> String {
        let Case { m, k, n, tile, .. } = self;
        let side = |transposed: bool, name: &str| if transposed { format!("{name}^T") } else { name.into() };
        format!(
            "{m} {k} {n} {tile} {}{} {}{} slices {}{}",
            side(self.a_transposed, "a"),
            side(self.b_transposed, "b"),
            self.activation,
            if self.bias { " bias" } else { "" },
            self.slices(),
            self.steps.map_or(String::new(), |axis| format!(
                " lengths along {}",
                format!("{axis:?}").to_lowercase()
            ))
        )
    }

    /// Two sequences have all steps, some half of them, the last none.
    fn lengths(&self) -> Vec<usize> {
        let axis = if self.steps == Some(Steps::Rows) { self.m } else { self.k };
        let batch = self.tile.batch();
        let steps = axis.div_ceil(batch);
        let length = |sequence: usize| match sequence {
            5 | 6 => steps,
            0..10 => steps / 2,
            _ => 0,
        };
        (0..batch).map(length).collect()
    }

    /// Whether each row, or each inner element, is skipped: whole tiles of rows, or blocks of inner elements, that lie past
    /// the ends of all sequences.
    fn skipped(&self) -> Vec<bool> {
        let (batch, lengths) = (self.tile.batch(), self.lengths());
        let is_step = |row: usize| row / batch < lengths[row % batch];
        let (len, slice, group) = match self.steps {
            None => return Vec::new(),
            Some(Steps::Rows) => (self.m, self.m, self.tile.of_group()[0] as usize),
            Some(Steps::Inner) => (self.k, self.slice_len, self.kernel().inner_block() as usize),
        };
        let begin = |at: usize| at / slice * slice + at % slice / group * group;
        (0..len).map(|at| !(begin(at)..begin(at) + group).any(is_step)).collect()
    }
}

/// The elements in the order in which the kernel finds them, transposed or not.
fn stored(values: &Array2<f32>, transposed: bool) -> Vec<f32> {
    if transposed { values.t().iter().copied().collect() } else { values.iter().copied().collect() }
}

pub(super) fn matmul(gpu: &Gpu, checks: &mut Checks) -> Result<(), Error> {
    compare_all(gpu, checks, streamed(gpu))
}

pub(super) fn matmul_staged(gpu: &Gpu, checks: &mut Checks) -> Result<(), Error> {
    compare_all(gpu, checks, staged())
}

fn compare_all(gpu: &Gpu, checks: &mut Checks, cases: Vec<Case>) -> Result<(), Error> {
    for (stream, case) in cases.into_iter().enumerate() {
        let Case { m, k, n, .. } = case;
        let mut random = Random::new(12, stream as u64);
        let mut random_matrix = |rows: usize, columns: usize| {
            Array2::from_shape_vec((rows, columns), random.values_for(m * n, rows * columns))
                .expect("as many as the shape has")
        };
        let (a, b, bias) = (random_matrix(m, k), random_matrix(k, n), random_matrix(1, n));
        let skipped = case.skipped();
        let with_passed_over = |value: f32| {
            let (mut a, mut b) = (a.clone(), b.clone());
            let rows = if case.steps == Some(Steps::Rows) { &mut a } else { &mut b };
            for (at, _) in skipped.iter().enumerate().filter(|(_, passed)| **passed) {
                rows.row_mut(at).fill(value);
            }
            (a, b)
        };
        // Around a, before b and in skipped rows there are numbers that must not be read.
        let (a_given, b_given) = with_passed_over(1e30);
        let a_stored = [vec![1e30; A_OFFSET], stored(&a_given, case.a_transposed), vec![1e30; 3]].concat();
        let in_front = vec![1e30; B_OFFSET * case.tile.columns().width() as usize];
        let b_stored = [in_front, stored(&b_given, case.b_transposed)].concat();
        let before = vec![7.0; case.slices() * m * n];
        let lengths: Vec<f32> = case.lengths().iter().map(|&length| f32::from_bits(length as u32)).collect();
        let bindings: [&[f32]; 5] = [&a_stored, &b_stored, &stored(&bias, false), &lengths, &before];
        let found = run_kernel(gpu, &case.kernel(), case.params(), &bindings, case.groups())?;

        let (a, b) = with_passed_over(0.0);
        let (a, b) = (a.mapv(f64::from), b.mapv(f64::from));
        let mut slices = Array3::zeros((case.slices(), m, n));
        for z in 0..case.slices() {
            let inner = z * case.slice_len..((z + 1) * case.slice_len).min(k);
            let product = linear::matmul(a.slice(s![.., inner.clone()]), b.slice(s![inner, ..]));
            slices.index_axis_mut(Axis(0), z).assign(&product);
        }
        checks.case(case.describe());
        let tolerance = match case.activation {
            Activation::Identity | Activation::Relu => Tolerance::product(k),
            _ => Tolerance::output(k),
        };
        if case.slices() == 1 {
            let bias = matrix(&stored(&bias, false), 1, n);
            let bias: Option<ArrayView1<f64>> = case.bias.then(|| bias.row(0));
            let want = linear::sum_slices(slices.view(), bias, case.activation);
            checks.tensor("c", &[("row", m), ("column", n)], &found[4], &flat(&want), tolerance);
        } else {
            let want: Vec<f64> = slices.iter().copied().collect();
            let axes = [("slice", case.slices()), ("row", m), ("column", n)];
            checks.tensor("c", &axes, &found[4], &want, tolerance);
        }
    }
    Ok(())
}
