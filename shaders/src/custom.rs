//! Cells from outside of this crate.

use crate::{CellStage, Columns, Const, ELEMENT_WG_SIZE, KernelId, KernelVariant, Lanes, TILE_WG_SIZE};

/// A cell from outside, as kernels are joined with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CustomStage {
    /// Its name.
    pub name: &'static str,
    /// The WGSL of `custom_forward` and `custom_backward`, and of whatever else they need.
    pub text: &'static str,
    /// The lanes that it uses: 1 to 4.
    pub lanes: u32,
    /// Whether a unit has a state beside h.
    pub has_state: bool,
}

/// The kernels that a custom cell is joined with.
const JOINED_WITH: [KernelId; 7] = [
    KernelId::StepForward,
    KernelId::StepBackward,
    KernelId::StepBackwardInner,
    KernelId::ScanForward,
    KernelId::ScanBackward,
    KernelId::GridForward,
    KernelId::GridBackward,
];

fn runs_many_steps(id: KernelId) -> bool {
    matches!(
        id,
        KernelId::ScanForward | KernelId::ScanBackward | KernelId::GridForward | KernelId::GridBackward
    )
}

impl CustomStage {
    /// The texts that make a kernel's cell, besides that of [`CellStage::text`].
    pub fn parts(self) -> [&'static str; 2] {
        [include_str!("../cells/custom_unit.wgsl"), self.text]
    }

    /// The cell's text as a module of its own: its lines come first, then everything that it may use.
    pub fn alone(self) -> String {
        let shared = include_str!("../shared/activations.wgsl");
        [self.text, "\n", include_str!("../cells/custom_unit.wgsl"), shared].concat()
    }

    /// The constants of the cell.
    pub fn consts(self) -> [(&'static str, u32); 2] {
        [("HAS_STATE", u32::from(self.has_state)), ("LANES_USED", self.lanes)]
    }

    /// Every kernel joined with the cell, in its plainest form, for each way of sharing loads.
    pub fn variants(self) -> Vec<KernelVariant> {
        let of = |id: KernelId, lanes| {
            let (cell, columns) = (Some(CellStage::Custom(self)), Columns::F32);
            let mut variant =
                KernelVariant { id, cell, lanes, columns, consts: self.consts().into(), members: 1 };
            let missing: Vec<Const> = variant.all_consts();
            for constant in missing {
                let value = match constant.name() {
                    "WG_SIZE" if runs_many_steps(id) => ELEMENT_WG_SIZE,
                    "WG_SIZE" => TILE_WG_SIZE,
                    "ROWS" | "SEGMENTS" | "SHARERS" | "SPLITS" => 2,
                    // Without subgroups, the parts of a grid meet as splits.
                    "PARTS" if id.waits() && lanes == Lanes::Single => 1,
                    "PARTS" => 4,
                    "STAGED" | "POLLS" => 1,
                    "HIDDEN" => 5,
                    "LENGTHS" | "SAVE" | "FINALS" | "WITH_ROW" => 1,
                    _ => 0,
                };
                if variant.consts.iter().all(|(name, _)| *name != constant.name()) {
                    variant.consts.push((constant.name(), value));
                }
            }
            variant
        };
        JOINED_WITH
            .into_iter()
            .flat_map(|id| [Lanes::Single, Lanes::Subgroup].map(|lanes| of(id, lanes)))
            .collect()
    }
}
