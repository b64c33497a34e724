/// The gates of an LSTM, in the order in which PyTorch stacks their rows: input, forget, cell, output.
///
/// Row block `gate as usize` of `weight_ih`, `weight_hh`, `bias_ih` and `bias_hh` belongs to that gate; on the
/// device the same number is the lane of a `vec4` that holds one unit's four gates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum LstmGate {
    /// `i`, how much of the candidate enters the cell.
    Input = 0,
    /// `f`, how much of the previous cell stays.
    Forget = 1,
    /// `g`, the candidate.
    Cell = 2,
    /// `o`, how much of the cell is shown.
    Output = 3,
}

impl LstmGate {
    /// The number of gates of an LSTM.
    pub const COUNT: usize = 4;
    /// Every gate, in storage order.
    pub const ALL: [LstmGate; Self::COUNT] =
        [LstmGate::Input, LstmGate::Forget, LstmGate::Cell, LstmGate::Output];

    /// The name of this gate's constant in WGSL.
    pub fn wgsl_name(self) -> &'static str {
        match self {
            LstmGate::Input => "GATE_INPUT",
            LstmGate::Forget => "GATE_FORGET",
            LstmGate::Cell => "GATE_CELL",
            LstmGate::Output => "GATE_OUTPUT",
        }
    }
}

/// The gates of a GRU, in the order in which PyTorch stacks their rows: reset, update, new.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum GruGate {
    /// `r`, how much of the previous state the candidate sees.
    Reset = 0,
    /// `z`, how much of the previous state stays.
    Update = 1,
    /// `n`, the candidate.
    New = 2,
}

impl GruGate {
    /// The number of gates of a GRU.
    pub const COUNT: usize = 3;
    /// Every gate, in storage order.
    pub const ALL: [GruGate; Self::COUNT] = [GruGate::Reset, GruGate::Update, GruGate::New];

    /// The name of this gate's constant in WGSL.
    pub fn wgsl_name(self) -> &'static str {
        match self {
            GruGate::Reset => "GATE_RESET",
            GruGate::Update => "GATE_UPDATE",
            GruGate::New => "GATE_NEW",
        }
    }
}
