//! The subjects of step checks: every cell, its stages, its options alone and in pairs.

use gatefold_model::{
    Activation, CUSTOM_LANES, Cell, Coupling, CustomCell, GruActivations, GruCell, LstmActivations, LstmCell,
    Reset,
};
use gatefold_reference::scan::kernel::Stage;
use gatefold_shaders::{CellStage, CustomStage};

/// A stage with its options, for the reference and for the kernels.
#[derive(Clone, Copy, Debug)]
pub(super) struct Subject {
    pub(super) name: &'static str,
    pub(super) stage: Stage,
    pub(super) clip: Option<f32>,
    /// Numbers of a unit's own.
    pub(super) units: usize,
}

const SIGMOID: Activation = Activation::Sigmoid;
/// A function whose slope follows from its value, and one whose slope does not.
const HARD: Activation = Activation::HardSigmoid { alpha: 0.2, beta: 0.5 };
const ODD: Activation = Activation::LeakyRelu { alpha: -0.4 };

fn lstm() -> LstmCell {
    LstmCell { activations: LstmActivations::default(), peephole: false, coupling: None, squashed: false }
}

impl Subject {
    fn new(name: &'static str, stage: Stage) -> Subject {
        let peephole = matches!(stage, Stage::Cell(Cell::Lstm(LstmCell { peephole: true, .. })));
        Subject { name, stage, clip: None, units: if peephole { 3 } else { 0 } }
    }

    /// A cell that the program brought along.
    pub(super) fn custom(cell: CustomCell) -> Subject {
        Subject::new(cell.name(), Stage::Cell(Cell::Custom(cell)))
    }

    /// Every cell once, without options.
    pub(super) fn plain() -> Vec<Subject> {
        vec![
            Subject::new("rnn", Stage::Cell(Cell::Rnn { activation: Activation::Tanh })),
            Subject::new("lstm", Stage::Cell(Cell::Lstm(lstm()))),
            Subject::new("gru", Stage::Cell(Cell::Gru(gru(Reset::After, GruActivations::default())))),
        ]
    }

    /// Every stage that takes its gradient from the steps after it.
    pub(super) fn with_recurrence() -> Vec<Subject> {
        let mut found = Subject::plain();
        for activation in Activation::ALL.into_iter().chain([ODD]) {
            found.push(Subject::new("rnn of a function", Stage::Cell(Cell::Rnn { activation })));
        }
        let rnn = found[0];
        found.push(Subject { name: "rnn clipped", clip: Some(0.4), ..rnn });
        found.extend(lstms());
        let odd = GruActivations { gate: HARD, candidate: ODD };
        let after = |activations| Stage::Cell(Cell::Gru(gru(Reset::After, activations)));
        let update = |activations| Stage::Update(gru(Reset::Before, activations));
        for (name, stage) in [
            ("gru", after(GruActivations::default())),
            ("gru of functions", after(odd)),
            ("gru_update", update(GruActivations::default())),
            ("gru_update of functions", update(odd)),
        ] {
            found.push(Subject::new(name, stage));
            found.push(Subject { clip: Some(0.4), ..Subject::new(name, stage) });
        }
        found
    }

    /// Every stage except readouts.
    pub(super) fn with_backward() -> Vec<Subject> {
        let mut found = Subject::with_recurrence();
        let reset = |activations| Stage::Reset(gru(Reset::Before, activations));
        let odd = GruActivations { gate: ODD, candidate: HARD };
        found.push(Subject::new("gru_reset", reset(GruActivations::default())));
        found.push(Subject::new("gru_reset of functions", reset(odd)));
        found.push(Subject { clip: Some(0.4), ..Subject::new("gru_reset clipped", reset(odd)) });
        found
    }

    /// Every stage.
    pub(super) fn all() -> Vec<Subject> {
        let mut found = Subject::with_backward();
        found.push(Subject::new("projection", Stage::Readout(Activation::Identity)));
        for activation in [Activation::Identity, Activation::Tanh, ODD] {
            found.push(Subject { units: 1, ..Subject::new("readout", Stage::Readout(activation)) });
        }
        found
    }

    pub(super) fn cell(&self) -> CellStage {
        match self.stage {
            Stage::Cell(Cell::Rnn { .. }) => CellStage::Rnn,
            Stage::Cell(Cell::Lstm(_)) => CellStage::Lstm,
            Stage::Cell(Cell::Gru(_)) => CellStage::Gru,
            Stage::Cell(Cell::Custom(cell)) => CellStage::Custom(CustomStage {
                name: cell.name(),
                text: cell.parts().wgsl,
                lanes: cell.lanes() as u32,
                has_state: cell.has_state(),
            }),
            Stage::Reset(_) => CellStage::GruReset,
            Stage::Update(_) => CellStage::GruUpdate,
            Stage::Readout(_) => CellStage::Readout,
        }
    }

    /// Whether backward passes something to the previous step around all weights.
    pub(super) fn carries(&self) -> bool {
        !matches!(self.cell(), CellStage::Rnn | CellStage::Readout)
    }

    fn functions(&self) -> Vec<(&'static str, Activation)> {
        match self.stage {
            Stage::Cell(Cell::Rnn { activation }) | Stage::Readout(activation) => {
                vec![("CANDIDATE", activation)]
            }
            Stage::Cell(Cell::Lstm(LstmCell { activations: a, .. })) => {
                vec![("GATE", a.gate), ("CANDIDATE", a.candidate), ("OUTPUT", a.output)]
            }
            Stage::Reset(GruCell { activations: a, .. }) => vec![("GATE", a.gate)],
            Stage::Cell(Cell::Custom(_)) => Vec::new(),
            Stage::Cell(Cell::Gru(GruCell { activations: a, .. }))
            | Stage::Update(GruCell { activations: a, .. }) => {
                vec![("GATE", a.gate), ("CANDIDATE", a.candidate)]
            }
        }
    }

    /// Whether pre-activations are kept instead of gates: the same for all stages of a cell.
    pub(super) fn keeps_pre(&self) -> bool {
        let mut functions = self.functions();
        // The output function of an LSTM sees the state, which is kept anyway.
        functions.retain(|(name, _)| *name != "OUTPUT");
        if let Stage::Reset(cell) = self.stage {
            functions.push(("CANDIDATE", cell.activations.candidate));
        }
        self.clip.is_some() || functions.iter().any(|(_, activation)| !activation.slope_from_output())
    }

    /// The cell's constants in the kernels.
    pub(super) fn consts(&self) -> Vec<(&'static str, u32)> {
        let mut consts = Vec::new();
        for (name, activation) in self.functions() {
            let [alpha, beta] = [activation.alpha(), activation.beta()].map(f32::to_bits);
            let names = match name {
                "GATE" => ["GATE_FUNCTION", "GATE_ALPHA", "GATE_BETA"],
                "OUTPUT" => ["OUTPUT_FUNCTION", "OUTPUT_ALPHA", "OUTPUT_BETA"],
                _ => ["CANDIDATE_FUNCTION", "CANDIDATE_ALPHA", "CANDIDATE_BETA"],
            };
            consts.extend([(names[0], activation.code()), (names[1], alpha), (names[2], beta)]);
        }
        if let Stage::Cell(Cell::Lstm(LstmCell { coupling, squashed, .. })) = self.stage {
            let coupled = match coupling {
                None => 0,
                Some(Coupling::Input) => 1,
                Some(Coupling::Forget) => 2,
            };
            consts.extend([("COUPLED", coupled), ("SQUASHED", u32::from(squashed))]);
        }
        if let CellStage::Custom(custom) = self.cell() {
            consts.extend(custom.consts());
        }
        let clip = self.clip.unwrap_or(0.0).to_bits();
        consts.extend([("CLIP", clip), ("KEEP_PRE", u32::from(self.keeps_pre()))]);
        consts
    }

    /// Numbers from -1 to 1 turned into what a step could have saved: clipped pre-activations, or gates between 0 and
    /// 1.
    pub(super) fn saved(&self, values: &[f32]) -> Vec<f32> {
        if let Stage::Cell(Cell::Custom(cell)) = self.stage {
            // Only the cell knows what it saves.
            let forward = cell.parts().single.forward;
            let saved = |unit: &[f32; CUSTOM_LANES]| forward(used_lanes(cell, *unit), 0.3).saved;
            return values.as_chunks().0.iter().flat_map(saved).collect();
        }
        let bound = self.clip.unwrap_or(1.0);
        let saved = |&value: &f32| {
            if self.keeps_pre() { value.clamp(-bound, bound) } else { 0.05 + 0.9 * value.abs() }
        };
        values.iter().map(saved).collect()
    }
}

/// A unit's lanes, zeros where the cell has none.
fn used_lanes(cell: CustomCell, mut pre: [f32; CUSTOM_LANES]) -> [f32; CUSTOM_LANES] {
    pre[cell.lanes()..].fill(0.0);
    pre
}

fn gru(reset: Reset, activations: GruActivations) -> GruCell {
    GruCell { activations, reset }
}

/// Every option of an LSTM alone, and every pair of two.
fn lstms() -> Vec<Subject> {
    type Change = fn(&mut LstmCell, &mut Option<f32>);
    let changes: [Change; 8] = [
        |cell, _| cell.peephole = true,
        |cell, _| cell.coupling = Some(Coupling::Input),
        |cell, _| cell.coupling = Some(Coupling::Forget),
        |cell, _| cell.squashed = true,
        |_, clip| *clip = Some(0.4),
        |cell, _| cell.activations.gate = HARD,
        |cell, _| cell.activations.candidate = ODD,
        |cell, _| cell.activations.output = Activation::Elu { alpha: -0.7 },
    ];
    let mut found = Vec::new();
    for one in 0..changes.len() {
        for other in one..changes.len() {
            let (mut cell, mut clip) = (lstm(), None);
            changes[one](&mut cell, &mut clip);
            changes[other](&mut cell, &mut clip);
            debug_assert!(cell.activations.gate == SIGMOID || cell.activations.gate == HARD);
            found.push(Subject { clip, ..Subject::new("lstm with options", Stage::Cell(Cell::Lstm(cell))) });
        }
    }
    found
}

/// Whether carry is part of the gradient with respect to h.
pub(super) fn own_lane(stage: Stage) -> bool {
    matches!(stage, Stage::Update(_) | Stage::Cell(Cell::Gru(_)))
}
