//! A kernel with every choice made that the shader compiler must know.

use crate::{CellStage, Const, KernelId, Part, Place, STAGED_DEPTH, SUBGROUP_LANES};
use std::fmt::{self, Write as _};

/// Sharing of loads among the invocations of a subgroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lanes {
    /// Each invocation loads for itself.
    Single,
    /// Groups of [`SUBGROUP_LANES`] pass values around; for devices whose subgroups are at least as wide.
    Subgroup,
}

/// Width of a `Column` in a matrix product.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Columns {
    /// Four neighbouring columns of the matrix.
    Vec4,
    /// One column of the matrix.
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

/// The place that a kernel reads its params from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ParamsFrom {
    /// `var<immediate>`
    Immediate,
    /// `var<uniform>` in group 1, with a dynamic offset; for devices without immediates.
    Uniform,
}

/// A kernel and its constants. Equal variants have the same text.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KernelVariant {
    /// The kernel.
    pub id: KernelId,
    /// The stage of a cell, for kernels of a scan.
    pub cell: Option<CellStage>,
    /// Sharing of loads, for kernels that have the part.
    pub lanes: Lanes,
    /// Width of columns, for kernels that have the part.
    pub columns: Columns,
    /// Constants by name: booleans as 0 or 1, `f32` as bits.
    pub consts: Vec<(&'static str, u32)>,
    /// Members that it runs in one dispatch, at most; see [`Place`].
    pub members: u32,
}

impl KernelVariant {
    /// A variant of a kernel that leaves nothing but constants to choose.
    pub fn new(id: KernelId, consts: &[(&'static str, u32)]) -> Self {
        let (lanes, columns) = (Lanes::Single, Columns::F32);
        KernelVariant { id, cell: None, lanes, columns, consts: consts.into(), members: 1 }
    }

    /// The same kernel for so many members.
    ///
    /// # Panics
    /// If the kernel runs alone.
    pub fn of_members(self, members: u32) -> Self {
        assert!(!self.id.spec().places.is_empty(), "{self} runs alone");
        KernelVariant { members, ..self }
    }

    /// The place that it reads its params from on a device that offers this one: those of several members are a table, for
    /// which there is no room among immediates.
    pub fn params_from(&self, offered: ParamsFrom) -> ParamsFrom {
        if self.members > 1 { ParamsFrom::Uniform } else { offered }
    }

    /// The size of its params, those of all members together.
    pub fn params_bytes(&self) -> usize {
        self.members as usize * self.id.spec().params_bytes
    }

    /// Values of an element of a binding's place.
    pub fn place_width(&self, place: Place) -> usize {
        match place {
            Place::Shared | Place::Values(_) => 1,
            Place::Slots(_) => self.needed_cell().lanes() as usize,
            Place::Products(_) => self.needed_cell().product_lanes() as usize,
        }
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

    /// Every constant that the variant must give: the kernel's, then the cell's where the kernel holds one.
    pub fn all_consts(&self) -> Vec<Const> {
        let spec = self.id.spec();
        let cell = self.cell.filter(|_| spec.parts.contains(&Part::Cell));
        let own = cell.map_or_else(Vec::new, CellStage::consts);
        [spec.consts, own.as_slice()].concat()
    }

    /// The cell of a kernel that needs one.
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
                // As f64, whose shortest decimal form reads back as the same f32.
                Const::F32(name) => format!("const {name}: f32 = {:?};", f64::from(f32::from_bits(value))),
            };
            text.push_str(&line);
            text.push('\n');
        }
        text.push_str(&self.params_text(params));
        for part in spec.parts {
            if let (Part::Cell, Some(CellStage::Custom(custom))) = (part, self.cell) {
                custom.parts().into_iter().for_each(|part| text.extend(["\n", part]));
            }
            text.push('\n');
            text.push_str(match part {
                Part::Text(text) => text,
                Part::Gates if self.needed_cell().lanes() == 1 => include_str!("../cells/gates_f32.wgsl"),
                Part::Gates => include_str!("../cells/gates_vec4.wgsl"),
                Part::Spread if self.needed_cell().lanes() == 1 => include_str!("../cells/spread_f32.wgsl"),
                Part::Spread => include_str!("../cells/spread_vec4.wgsl"),
                Part::Cell => self.needed_cell().text(),
                Part::Lanes => match self.lanes {
                    Lanes::Single => include_str!("../shared/lanes_single.wgsl"),
                    Lanes::Subgroup => include_str!("../shared/lanes_subgroup.wgsl"),
                },
                Part::Parts => match self.lanes {
                    Lanes::Single => include_str!("../scan/parts_shared.wgsl"),
                    Lanes::Subgroup => include_str!("../scan/parts_subgroup.wgsl"),
                },
                Part::GridParts => match self.lanes {
                    Lanes::Single => include_str!("../scan/grid_single.wgsl"),
                    Lanes::Subgroup => include_str!("../scan/grid_subgroup.wgsl"),
                },
                Part::Columns => match self.columns {
                    Columns::Vec4 => include_str!("../linear/columns_vec4.wgsl"),
                    Columns::F32 => include_str!("../linear/columns_f32.wgsl"),
                },
            });
        }
        text
    }

    /// The declaration of the params, and for kernels that can run several members, of the params of each.
    fn params_text(&self, params: ParamsFrom) -> String {
        let (name, members) = (self.id.spec().params, self.members);
        let place = match self.params_from(params) {
            ParamsFrom::Immediate => "var<immediate>",
            ParamsFrom::Uniform => "@group(1) @binding(0) var<uniform>",
        };
        let (declared, of_member) = match members {
            1 => (format!("params: {name}"), "params"),
            _ => (format!("members: array<{name}, {members}>"), "members[n]"),
        };
        let mut text = format!("{place} {declared};\nalias Params = {name};\n");
        if !self.id.spec().places.is_empty() {
            writeln!(text, "fn member(n: u32) -> Params {{ return {of_member}; }}")
                .expect("a string takes every line");
        }
        text
    }

    /// Whether the text calls subgroup functions.
    pub fn uses_subgroups(&self) -> bool {
        let shares = |part: &Part| matches!(part, Part::Lanes | Part::Parts | Part::GridParts);
        self.lanes == Lanes::Subgroup && self.id.spec().parts.iter().any(shares)
    }

    /// The most loop iterations that an invocation runs per inner element of its product (`k`), as if no loop were
    /// unrolled; for drivers that cut long loops short.
    pub fn iterations_per_k(&self) -> u32 {
        let lanes = self.inner_block();
        let per_block = match self.id {
            KernelId::StepForward
            | KernelId::StepTangent
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
            KernelId::MatMulStaged => {
                let (rows, columns) = (self.constant("ROW_QUADS"), self.constant("COLUMN_QUADS"));
                let skip = self.constant("SKIP_INNER") * (1 + STAGED_DEPTH);
                // Once to read, once to write.
                1 + skip + 2 * (rows + columns) + STAGED_DEPTH * (1 + columns + rows * (1 + columns))
            }
            _ => 2,
        };
        per_block.div_ceil(lanes)
    }

    /// Inner elements of a product that an invocation goes through together.
    pub fn inner_block(&self) -> u32 {
        match self.id {
            KernelId::MatMulStaged => STAGED_DEPTH,
            _ if self.uses_subgroups() => SUBGROUP_LANES,
            _ => 1,
        }
    }
}

/// `lstm_step_forward`, `matmul`: the same for all variants of a kernel and cell.
impl fmt::Display for KernelVariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.id.name();
        match self.cell {
            Some(cell) => f.pad(&format!("{}_{name}", cell.name())),
            None => f.pad(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_padded_as_a_whole() {
        let plain = KernelVariant::new(KernelId::StepForward, &[]);
        let lstm = KernelVariant { cell: Some(CellStage::Lstm), ..plain.clone() };
        assert_eq!(format!("{plain:<18}|{lstm:<18}|"), "step_forward      |lstm_step_forward |");
    }
}
