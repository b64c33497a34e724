use crate::{
    Activation, Cell, Direction, GruActivations, GruCell, InitialState, LstmActivations, LstmCell, Recurrent,
    Reset,
};

/// The first property of a recurrent layer that the layers of other programs lack: PyTorch's, and plugins' that are made
/// like them.
pub(super) fn unusual(recurrent: &Recurrent) -> Option<String> {
    let Recurrent {
        cell,
        reverse_cell,
        hidden,
        projection,
        clip,
        direction,
        initial,
        skip,
        dilation,
        feedback,
        norm,
        noise,
        ..
    } = *recurrent;
    let gates = match cell {
        Cell::Rnn { activation: Activation::Tanh | Activation::Relu } => None,
        Cell::Rnn { activation } => Some(format!("the function {activation}, where it knows tanh and relu")),
        Cell::Lstm(LstmCell { peephole: true, .. }) => Some("peepholes".into()),
        Cell::Lstm(LstmCell { coupling: Some(_), .. }) => Some("coupled gates".into()),
        Cell::Lstm(LstmCell { squashed: true, .. }) => Some("a squashed cell".into()),
        Cell::Lstm(LstmCell { activations, .. }) => (activations != LstmActivations::default())
            .then(|| "functions other than sigmoid and tanh".into()),
        Cell::Gru(GruCell { reset: Reset::Before, .. }) => Some("a reset gate before the product".into()),
        Cell::Gru(GruCell { activations, .. }) => {
            (activations != GruActivations::default()).then(|| "functions other than sigmoid and tanh".into())
        }
        Cell::Custom(cell) => Some(format!("the custom cell {:?}", cell.name())),
    };
    gates
        .or_else(|| (reverse_cell != cell).then(|| "other functions for the reverse scan".into()))
        .or_else(|| clip.map(|bound| format!("pre-activations clipped at {bound}")))
        .or_else(|| match direction {
            Direction::Forward | Direction::Bidirectional => None,
            Direction::Reverse => Some("a reverse scan alone".into()),
            Direction::BidirectionalSum => Some("two directions summed".into()),
        })
        .or_else(|| match initial {
            InitialState::Zeros => None,
            InitialState::Constant(value) => Some(format!("an initial state of {value}")),
            InitialState::Learned => Some("a learned initial state".into()),
        })
        .or_else(|| skip.map(|k| format!("a skip connection from h(t-{k})")))
        .or_else(|| recurrent.is_dilated().then(|| format!("a dilation of {dilation}")))
        .or_else(|| feedback.map(|_| "feedback of its output".into()))
        .or_else(|| norm.map(|_| "layer normalisation".into()))
        // Other noise ends with training, and so leaves the weights as they are.
        .or_else(|| noise.zones_out().then(|| "zoneout, which inference averages".into()))
        .or_else(|| {
            projection
                .filter(|&width| width >= hidden)
                .map(|width| format!("a projection to {width}, not below its {hidden} units"))
        })
}
