//! A kernel with everything decided that its compiler must know.

use crate::{CellStage, Const, KernelId, Part, SUBGROUP_LANES};
use std::fmt::{self, Write as _};

/// How the invocations of a subgroup share what they load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lanes {
    /// Each loads for itself.
    Single,
    /// [`SUBGROUP_LANES`] at a time hand values round; for devices whose subgroups are at least as wide.
    Subgroup,
}

/// How wide a column of a matrix product is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Columns {
    /// Four neighbours at a time.
    Vec4,
    /// One at a time.
    F32,
}

impl Columns {
    /// Columns of the matrix in one `Column`.
    pub fn width(self) -> u32 {
        match self {
            Columns::Vec4 => 4,
            Columns::F32 => 1,
        }
    }
}

/// Where a kernel reads its params.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ParamsFrom {
    /// `var<immediate>`
    Immediate,
    /// `var<uniform>` in group 1, with a dynamic offset; for devices without immediates.
    Uniform,
}

/// A kernel and its constants. Two that are equal have the same text.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KernelVariant {
    /// Which kernel.
    pub id: KernelId,
    /// The cell, for kernels of a scan.
    pub cell: Option<CellStage>,
    /// How lanes share loads, for kernels that have the part.
    pub lanes: Lanes,
    /// How wide columns are, for kernels that have the part.
    pub columns: Columns,
    /// Constants by name; booleans are 0 or 1, numbers of kind f32 their bits.
    pub consts: Vec<(&'static str, u32)>,
}

impl KernelVariant {
    /// A variant with nothing but constants to choose.
    pub fn new(id: KernelId, consts: &[(&'static str, u32)]) -> Self {
        KernelVariant { id, cell: None, lanes: Lanes::Single, columns: Columns::F32, consts: consts.into() }
    }

    /// The value of a constant.
    ///
    /// # Panics
    /// If the kernel has no such constant.
    pub fn constant(&self, name: &str) -> u32 {
        let found = self.consts.iter().find(|(given, _)| *given == name);
        found.unwrap_or_else(|| panic!("{} has no constant {name}", self.id.name())).1
    }

    /// `len` where a boolean constant is set, else 0.
    pub(crate) fn len_if(&self, name: &str, len: u64) -> u64 {
        if self.constant(name) == 1 { len } else { 0 }
    }

    /// Every constant that it must give: the kernel's, then the cell's where the kernel holds one.
    pub fn all_consts(&self) -> Vec<Const> {
        let spec = self.id.spec();
        let cell = self.cell.filter(|_| spec.parts.contains(&Part::Cell));
        let own = cell.map_or_else(Vec::new, CellStage::consts);
        [spec.consts, own.as_slice()].concat()
    }

    /// The cell of a kernel that cannot do without one.
    pub(crate) fn needed_cell(&self) -> CellStage {
        self.cell.unwrap_or_else(|| panic!("{} needs a cell", self.id.name()))
    }

    /// The WGSL of this variant.
    ///
    /// # Panics
    /// If a constant or the cell that the kernel needs was not given.
    pub fn source(&self, params: ParamsFrom) -> String {
        let spec = self.id.spec();
        let mut text = String::new();
        for constant in self.all_consts() {
            let value = self.constant(constant.name());
            let line = match constant {
                Const::U32(name) => format!("const {name}: u32 = {value}u;"),
                Const::Bool(name) => format!("const {name}: bool = {};", value != 0),
                // As f64, whose shortest decimal form is exact enough to give the same f32 again.
                Const::F32(name) => format!("const {name}: f32 = {:?};", f64::from(f32::from_bits(value))),
            };
            text.push_str(&line);
            text.push('\n');
        }
        let place = match params {
            ParamsFrom::Immediate => "var<immediate>",
            ParamsFrom::Uniform => "@group(1) @binding(0) var<uniform>",
        };
        writeln!(text, "{place} params: {};", spec.params).expect("a string takes every line");
        for part in spec.parts {
            text.push('\n');
            text.push_str(match part {
                Part::Text(text) => text,
                Part::Gates if self.needed_cell().lanes() == 1 => include_str!("../cells/gates_f32.wgsl"),
                Part::Gates => include_str!("../cells/gates_vec4.wgsl"),
                Part::Cell => self.needed_cell().text(),
                Part::Lanes => match self.lanes {
                    Lanes::Single => include_str!("../shared/lanes_single.wgsl"),
                    Lanes::Subgroup => include_str!("../shared/lanes_subgroup.wgsl"),
                },
                Part::Columns => match self.columns {
                    Columns::Vec4 => include_str!("../linear/columns_vec4.wgsl"),
                    Columns::F32 => include_str!("../linear/columns_f32.wgsl"),
                },
            });
        }
        text
    }

    /// Whether the text calls subgroup functions.
    pub fn uses_subgroups(&self) -> bool {
        self.lanes == Lanes::Subgroup && self.id.spec().parts.iter().any(|part| matches!(part, Part::Lanes))
    }

    /// Loop iterations that one invocation runs, at most, per inner element of its product (`k`); for drivers that
    /// end long loops. Counts every loop as if none were unrolled.
    pub fn iterations_per_k(&self) -> u32 {
        let lanes = if self.uses_subgroups() { SUBGROUP_LANES } else { 1 };
        let per_block = match self.id {
            KernelId::StepForward
            | KernelId::StepBackward
            | KernelId::StepBackwardInner
            | KernelId::ReadoutBackward
            | KernelId::InitialBackward => {
                let rows = self.constant("ROWS");
                1 + rows + lanes * (1 + rows)
            }
            KernelId::MatMul => {
                let rows = self.constant("ROWS");
                let skip = self.constant("SKIP_INNER") * lanes;
                1 + skip + rows + lanes * (1 + self.constant("COLUMNS") * (1 + rows))
            }
            _ => 2,
        };
        per_block.div_ceil(lanes)
    }
}

/// `lstm_step_forward`, `matmul`
impl fmt::Display for KernelVariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(cell) = self.cell {
            write!(f, "{}_", cell.name())?;
        }
        f.pad(self.id.name())
    }
}
