//! How a scan of a recurrent layer lies on the device: which kernels' cells it takes, their constants, the lanes of its
//! gates, the columns of a row of h.

use crate::product::LaneMap;
use gatefold_model::{Activation, Cell, Coupling, GruCell, GruGate, LstmCell, Recurrent, Reset, Role};
use gatefold_shaders::CellStage;

/// One scan of a recurrent layer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Form {
    pub(crate) recurrent: Recurrent,
    pub(crate) reverse: bool,
    pub(crate) input: usize,
}

/// Columns of a row of h.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Columns {
    pub(crate) begin: usize,
    pub(crate) len: usize,
}

/// What is read out of h within a step and recurs: a projection, or an output fed back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Readout {
    pub(crate) width: usize,
    pub(crate) activation: Activation,
    pub(crate) weight: Role,
    pub(crate) bias: Option<Role>,
    /// Whether it stands in the place of h, which then does not recur itself.
    pub(crate) replaces_h: bool,
}

impl Form {
    pub(crate) fn hidden(&self) -> usize {
        self.recurrent.hidden
    }

    /// k: slots of h in front of the first step.
    pub(crate) fn history(&self) -> usize {
        self.recurrent.history()
    }

    fn described(&self) -> &Cell {
        self.recurrent.cell_of(self.reverse)
    }

    /// Whether the cell has two stages, the first of which resets h.
    pub(crate) fn resets_before(&self) -> bool {
        matches!(self.described(), Cell::Gru(GruCell { reset: Reset::Before, .. }))
    }

    /// The cell that gives h.
    pub(crate) fn cell(&self) -> CellStage {
        match self.described() {
            Cell::Rnn { .. } => CellStage::Rnn,
            Cell::Lstm(_) => CellStage::Lstm,
            Cell::Gru(_) if self.resets_before() => CellStage::GruUpdate,
            Cell::Gru(_) => CellStage::Gru,
        }
    }

    pub(crate) fn lanes(&self) -> usize {
        self.cell().lanes() as usize
    }

    /// Numbers that a unit has of its own.
    pub(crate) fn units(&self) -> usize {
        if self.has_peepholes() { 3 } else { 0 }
    }

    pub(crate) fn has_peepholes(&self) -> bool {
        matches!(self.described(), Cell::Lstm(LstmCell { peephole: true, .. }))
    }

    /// What a kernel joined with that cell must be told of it.
    pub(crate) fn consts(&self, cell: CellStage) -> Vec<(&'static str, u32)> {
        let mut consts = Vec::new();
        let mut function = |names: [&'static str; 3], activation: Activation| {
            let numbers = [activation.alpha(), activation.beta()].map(f32::to_bits);
            consts.extend([(names[0], activation.code()), (names[1], numbers[0]), (names[2], numbers[1])]);
        };
        let gate = ["GATE_FUNCTION", "GATE_ALPHA", "GATE_BETA"];
        let candidate = ["CANDIDATE_FUNCTION", "CANDIDATE_ALPHA", "CANDIDATE_BETA"];
        let (clip, kept) = if cell == CellStage::Readout {
            let activation = self.readout().map_or(Activation::Identity, |readout| readout.activation);
            function(candidate, activation);
            (None, vec![activation])
        } else {
            match *self.described() {
                Cell::Rnn { activation } => function(candidate, activation),
                Cell::Lstm(LstmCell { activations: a, coupling, squashed, .. }) => {
                    function(gate, a.gate);
                    function(candidate, a.candidate);
                    function(["OUTPUT_FUNCTION", "OUTPUT_ALPHA", "OUTPUT_BETA"], a.output);
                    let coupled = match coupling {
                        None => 0,
                        Some(Coupling::Input) => 1,
                        Some(Coupling::Forget) => 2,
                    };
                    consts.extend([("COUPLED", coupled), ("SQUASHED", u32::from(squashed))]);
                }
                Cell::Gru(GruCell { activations: a, .. }) => {
                    function(gate, a.gate);
                    if cell != CellStage::GruReset {
                        function(candidate, a.candidate);
                    }
                }
            }
            (self.recurrent.clip, self.described().activations())
        };
        let keep_pre = clip.is_some() || kept.iter().any(|activation| !activation.slope_from_output());
        consts.extend([("CLIP", clip.unwrap_or(0.0).to_bits()), ("KEEP_PRE", u32::from(keep_pre))]);
        consts
    }

    /// Gates of the lanes of what comes from the input, or from an output fed back.
    pub(crate) fn input_map(&self) -> LaneMap {
        match self.described() {
            Cell::Gru(_) => LaneMap::new(&[Some(RESET), Some(UPDATE), Some(NEW), None]),
            cell => LaneMap::same(cell.gates()),
        }
    }

    /// Gates of the lanes of what comes from h, by a cell's only or first stage.
    pub(crate) fn recurrent_map(&self) -> LaneMap {
        match self.described() {
            Cell::Gru(_) if self.resets_before() => LaneMap::new(&[Some(RESET), Some(UPDATE), None, None]),
            Cell::Gru(_) => LaneMap::new(&[Some(RESET), Some(UPDATE), None, Some(NEW)]),
            cell => LaneMap::same(cell.gates()),
        }
    }

    /// The gate of the one lane of what comes from the reset h.
    pub(crate) fn reset_map(&self) -> LaneMap {
        LaneMap::new(&[Some(NEW)])
    }

    /// Gates of the lanes of the second bias.
    pub(crate) fn recurrent_bias_map(&self) -> LaneMap {
        if self.resets_before() { self.input_map() } else { self.recurrent_map() }
    }

    pub(crate) fn readout(&self) -> Option<Readout> {
        let Recurrent { projection, feedback, .. } = self.recurrent;
        let projected = projection.map(|width| Readout {
            width,
            activation: Activation::Identity,
            weight: Role::ProjectionWeight,
            bias: None,
            replaces_h: true,
        });
        projected.or(feedback.map(|feedback| Readout {
            width: feedback.output,
            activation: feedback.activation,
            weight: Role::ReadoutWeight,
            bias: Some(Role::ReadoutBias),
            replaces_h: false,
        }))
    }

    /// Elements of a row of h: the reset h if there is one, h, the readout if there is one.
    pub(crate) fn width(&self) -> usize {
        self.h().begin + self.hidden() + self.readout().map_or(0, |readout| readout.width)
    }

    /// Where the reset h lies.
    pub(crate) fn reset_h(&self) -> Columns {
        Columns { begin: 0, len: self.hidden() }
    }

    /// Where what the cell gives lies.
    pub(crate) fn h(&self) -> Columns {
        let begin = if self.resets_before() { self.hidden() } else { 0 };
        Columns { begin, len: self.hidden() }
    }

    /// Where the readout lies.
    pub(crate) fn read_out(&self, readout: &Readout) -> Columns {
        Columns { begin: self.h().begin + self.hidden(), len: readout.width }
    }

    /// What carries over from step to step under the name of h.
    pub(crate) fn own(&self) -> Columns {
        match self.readout() {
            Some(readout) if readout.replaces_h => self.read_out(&readout),
            _ => self.h(),
        }
    }

    /// What the next step's product reads: h, the readout, or both.
    pub(crate) fn recurs(&self) -> Columns {
        let own = self.own();
        match self.readout() {
            Some(readout) if !readout.replaces_h => Columns { len: own.len + readout.width, ..own },
            _ => own,
        }
    }

    /// What the layer gives out.
    pub(crate) fn output(&self) -> Columns {
        self.readout().map_or(self.own(), |readout| self.read_out(&readout))
    }

    /// Whether h fills its rows.
    pub(crate) fn is_plain(&self) -> bool {
        self.width() == self.hidden()
    }
}

const RESET: usize = GruGate::Reset as usize;
const UPDATE: usize = GruGate::Update as usize;
const NEW: usize = GruGate::New as usize;
