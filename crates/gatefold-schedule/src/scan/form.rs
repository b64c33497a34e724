//! The form of a scan on the device: the stages of its cell and their constants, the lanes of its gates, the columns of a
//! row of h.

use crate::product::LaneMap;
use gatefold_model::{
    Activation, CUSTOM_LANES, Cell, Coupling, CustomCell, GruCell, GruGate, Layer, LstmCell, Recurrent,
    Reset, Role,
};
use gatefold_shaders::{CellStage, CustomStage};

/// One scan of a recurrent layer.
#[derive(Clone, Copy, Debug)]
pub struct Form {
    /// The layer.
    pub recurrent: Recurrent,
    /// Whether it goes backward in time.
    pub reverse: bool,
    /// I
    pub input: usize,
}

/// Columns of a row of h.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Columns {
    /// The first.
    pub begin: usize,
    /// Their number.
    pub len: usize,
}

/// A value that is read out of h within a step and recurs: a projection, or an output fed back.
#[derive(Clone, Copy, Debug)]
pub struct Readout {
    /// R
    pub width: usize,
    /// Its function.
    pub activation: Activation,
    /// Its weights.
    pub weight: Role,
    /// Its biases.
    pub bias: Option<Role>,
    /// Whether it takes the place of h, which then does not recur itself.
    pub replaces_h: bool,
}

impl Form {
    /// The name of the scan in plans, such as `layer0.reverse`.
    pub(super) fn label(&self, layer: &Layer) -> String {
        if self.reverse { format!("{}.reverse", layer.label()) } else { layer.label() }
    }

    /// H
    pub fn hidden(&self) -> usize {
        self.recurrent.hidden
    }

    /// k: slots of h before the first step.
    pub fn history(&self) -> usize {
        self.recurrent.history()
    }

    /// d: the steps from a step back to the one whose h and state it reads; k with a skip connection is another matter.
    pub fn dilation(&self) -> usize {
        self.recurrent.dilation
    }

    fn described(&self) -> &Cell {
        self.recurrent.cell_of(self.reverse)
    }

    /// Whether the cell has two stages, the first of which resets h.
    pub fn resets_before(&self) -> bool {
        matches!(self.described(), Cell::Gru(GruCell { reset: Reset::Before, .. }))
    }

    /// The stage of the cell that computes h.
    pub fn cell(&self) -> CellStage {
        match self.described() {
            Cell::Rnn { .. } => CellStage::Rnn,
            Cell::Lstm(_) => CellStage::Lstm,
            Cell::Gru(_) if self.resets_before() => CellStage::GruUpdate,
            Cell::Gru(_) => CellStage::Gru,
            Cell::Custom(custom) => CellStage::Custom(stage_of(custom)),
        }
    }

    /// Lanes of a unit.
    pub fn lanes(&self) -> usize {
        self.cell().lanes() as usize
    }

    /// The number of parameters that each unit has by itself: its peepholes.
    pub fn units(&self) -> usize {
        if self.has_peepholes() { 3 } else { 0 }
    }

    /// Whether the gates see the cell state.
    pub fn has_peepholes(&self) -> bool {
        matches!(self.described(), Cell::Lstm(LstmCell { peephole: true, .. }))
    }

    /// The constants of a kernel joined with that stage of the cell.
    pub fn consts(&self, cell: CellStage) -> Vec<(&'static str, u32)> {
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
                Cell::Custom(custom) => consts.extend(stage_of(&custom).consts()),
            }
            (self.recurrent.clip, self.described().activations())
        };
        let keep_pre = clip.is_some() || kept.iter().any(|activation| !activation.slope_from_output());
        consts.extend([("CLIP", clip.unwrap_or(0.0).to_bits()), ("KEEP_PRE", u32::from(keep_pre))]);
        consts
    }

    /// The gate of each lane in products of the input, or of an output fed back.
    pub fn input_map(&self) -> LaneMap {
        match self.described() {
            Cell::Gru(_) => LaneMap::new(&[Some(RESET), Some(UPDATE), Some(NEW), None]),
            Cell::Custom(custom) => custom_map(custom, |gate| gate),
            cell => LaneMap::same(cell.gates()),
        }
    }

    /// The gate of each lane in products of h, in a cell's only or first stage.
    pub fn recurrent_map(&self) -> LaneMap {
        match self.described() {
            Cell::Gru(_) if self.resets_before() => LaneMap::new(&[Some(RESET), Some(UPDATE), None, None]),
            Cell::Gru(_) => LaneMap::new(&[Some(RESET), Some(UPDATE), None, Some(NEW)]),
            Cell::Custom(custom) => custom_map(custom, |gate| custom.recurrent_lane(gate)),
            cell => LaneMap::same(cell.gates()),
        }
    }

    /// The gate of the single lane in products of the reset h.
    pub fn reset_map(&self) -> LaneMap {
        LaneMap::new(&[Some(NEW)])
    }

    /// The gate of each lane in the second bias.
    pub fn recurrent_bias_map(&self) -> LaneMap {
        if self.resets_before() { self.input_map() } else { self.recurrent_map() }
    }

    /// The readout, if there is one.
    pub fn readout(&self) -> Option<Readout> {
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
    pub fn width(&self) -> usize {
        self.h().begin + self.hidden() + self.readout().map_or(0, |readout| readout.width)
    }

    /// The columns of the reset h.
    pub fn reset_h(&self) -> Columns {
        Columns { begin: 0, len: self.hidden() }
    }

    /// The columns of the new h.
    pub fn h(&self) -> Columns {
        let begin = if self.resets_before() { self.hidden() } else { 0 };
        Columns { begin, len: self.hidden() }
    }

    /// The columns of the readout.
    pub fn read_out(&self, readout: &Readout) -> Columns {
        Columns { begin: self.h().begin + self.hidden(), len: readout.width }
    }

    /// The columns that carry over from step to step as h.
    pub fn own(&self) -> Columns {
        match self.readout() {
            Some(readout) if readout.replaces_h => self.read_out(&readout),
            _ => self.h(),
        }
    }

    /// The columns that the next step's product reads: h, the readout, or both.
    pub fn recurs(&self) -> Columns {
        let own = self.own();
        match self.readout() {
            Some(readout) if !readout.replaces_h => Columns { len: own.len + readout.width, ..own },
            _ => own,
        }
    }

    /// The columns of the layer's output.
    pub fn output(&self) -> Columns {
        self.readout().map_or(self.own(), |readout| self.read_out(&readout))
    }

    /// Whether h fills its rows.
    pub fn is_plain(&self) -> bool {
        self.width() == self.hidden()
    }
}

/// A custom cell as kernels are joined with it.
fn stage_of(cell: &CustomCell) -> CustomStage {
    CustomStage {
        name: cell.name(),
        text: cell.parts().wgsl,
        lanes: cell.lanes() as u32,
        has_state: cell.has_state(),
    }
}

/// The gates of a custom cell in their lanes.
fn custom_map(cell: &CustomCell, lane: impl Fn(usize) -> usize) -> LaneMap {
    let mut lanes = [None; CUSTOM_LANES];
    (0..cell.gates().len()).for_each(|gate| lanes[lane(gate)] = Some(gate));
    LaneMap::new(&lanes)
}

const RESET: usize = GruGate::Reset as usize;
const UPDATE: usize = GruGate::Update as usize;
const NEW: usize = GruGate::New as usize;
