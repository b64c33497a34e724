//! The cells that scans are joined with, stage by stage.

use crate::{Const, CustomStage};

/// A stage of a recurrent cell, joined with a scan. Most cells have one stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CellStage {
    /// The vanilla cell.
    Rnn,
    /// Long short-term memory.
    Lstm,
    /// The gated recurrent unit that resets after the product.
    Gru,
    /// The first stage of a gated recurrent unit that resets before the product.
    GruReset,
    /// The second stage of that unit.
    GruUpdate,
    /// A readout of h within the step; forward only.
    Readout,
    /// A cell from outside of this crate.
    Custom(CustomStage),
}

/// The constants of one function of a cell.
macro_rules! function {
    ($name:literal) => {
        [
            Const::U32(concat!($name, "_FUNCTION")),
            Const::F32(concat!($name, "_ALPHA")),
            Const::F32(concat!($name, "_BETA")),
        ]
    };
}

const GATE: [Const; 3] = function!("GATE");
const CANDIDATE: [Const; 3] = function!("CANDIDATE");
const OUTPUT: [Const; 3] = function!("OUTPUT");

impl CellStage {
    /// Every stage of this crate.
    pub const ALL: [CellStage; 6] = [
        CellStage::Rnn,
        CellStage::Lstm,
        CellStage::Gru,
        CellStage::GruReset,
        CellStage::GruUpdate,
        CellStage::Readout,
    ];

    /// The WGSL of the stage; that of a custom cell also needs [`CustomStage::parts`].
    pub fn text(self) -> &'static str {
        match self {
            CellStage::Rnn => include_str!("../cells/rnn.wgsl"),
            CellStage::Lstm => include_str!("../cells/lstm.wgsl"),
            CellStage::Gru => include_str!("../cells/gru.wgsl"),
            CellStage::GruReset => include_str!("../cells/gru_reset.wgsl"),
            CellStage::GruUpdate => include_str!("../cells/gru_update.wgsl"),
            CellStage::Readout => include_str!("../cells/readout.wgsl"),
            CellStage::Custom(_) => include_str!("../cells/custom.wgsl"),
        }
    }

    /// Lanes of a unit, next to each other on the device: one for each gate, more where a gate needs them.
    pub fn lanes(self) -> u32 {
        match self {
            CellStage::Rnn | CellStage::Readout => 1,
            CellStage::Lstm
            | CellStage::Gru
            | CellStage::GruReset
            | CellStage::GruUpdate
            | CellStage::Custom(_) => 4,
        }
    }

    /// The lanes that a step's recurrent product adds to; as many as `Product` has in the text.
    pub fn product_lanes(self) -> u32 {
        if self == CellStage::GruUpdate { 1 } else { self.lanes() }
    }

    /// Whether it reads the unit's gates; `READS_GATES` in its text.
    pub fn reads_gates(self) -> bool {
        self != CellStage::Readout
    }

    /// Whether there is a state beside h; `HAS_STATE` in its text.
    pub fn has_state(self) -> bool {
        match self {
            CellStage::Custom(custom) => custom.has_state,
            _ => self == CellStage::Lstm,
        }
    }

    /// Whether it is a whole cell: the kernels that run many steps are joined with no other stage. Those that run a row are
    /// joined with no custom cell either.
    pub fn is_whole(self) -> bool {
        matches!(self, CellStage::Rnn | CellStage::Lstm | CellStage::Gru | CellStage::Custom(_))
    }

    /// Whether backward passes something to step t-1 around all weights; `CARRIES` in its text.
    pub fn carries(self) -> bool {
        !matches!(self, CellStage::Rnn | CellStage::Readout)
    }

    /// Whether that something is a part of the gradient with respect to h(t-1), which then goes to the initial h too.
    pub fn carries_h(self) -> bool {
        match self {
            CellStage::Custom(custom) => !custom.has_state,
            _ => matches!(self, CellStage::Gru | CellStage::GruUpdate),
        }
    }

    /// Whether backward passes something to another kernel of the same step; `GIVES_INNER` in its text.
    pub fn gives_inner(self) -> bool {
        self == CellStage::GruUpdate
    }

    /// Whether it has a backward of its own.
    pub fn has_backward(self) -> bool {
        self != CellStage::Readout
    }

    /// The constants that a variant with this stage must give.
    pub fn consts(self) -> Vec<Const> {
        let own: &[&[Const]] = match self {
            CellStage::Rnn | CellStage::Readout => &[&CANDIDATE],
            CellStage::Lstm => {
                &[&GATE, &CANDIDATE, &OUTPUT, &[Const::U32("COUPLED"), Const::Bool("SQUASHED")]]
            }
            CellStage::Gru | CellStage::GruUpdate => &[&GATE, &CANDIDATE],
            CellStage::GruReset => &[&GATE],
            CellStage::Custom(_) => &[&[Const::Bool("HAS_STATE"), Const::U32("LANES_USED")]],
        };
        [own.concat(), vec![Const::F32("CLIP"), Const::Bool("KEEP_PRE")]].concat()
    }

    /// `lstm`, or the name of a custom cell.
    pub fn name(self) -> &'static str {
        match self {
            CellStage::Rnn => "rnn",
            CellStage::Lstm => "lstm",
            CellStage::Gru => "gru",
            CellStage::GruReset => "gru_reset",
            CellStage::GruUpdate => "gru_update",
            CellStage::Readout => "readout",
            CellStage::Custom(custom) => custom.name,
        }
    }
}
