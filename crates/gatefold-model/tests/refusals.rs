//! Layers that PyTorch's modules lack are refused by name; noise that ends with training is no reason to.

use crate::pytorch::model;
use gatefold_model::file::pytorch;
use gatefold_model::{
    Activation, Coupling, DenseConfig, Direction, GruConfig, InitialState, LayerConfig, LayerNorm,
    LstmActivations, LstmConfig, Reset, RnnConfig,
};
use gatefold_reference::Failures;

#[test]
fn what_pytorch_does_not_have_is_refused_by_name() {
    let lstm = || LstmConfig::new(4);
    let gates = LstmActivations { gate: Activation::Relu, ..LstmActivations::default() };
    let mut failures = Failures::new();
    for (layer, missing) in [
        (lstm().peephole().into(), "lstm): it has peepholes; PyTorch's nn.LSTM"),
        (lstm().coupled(Coupling::Input).into(), "lstm): it has coupled gates; PyTorch's nn.LSTM"),
        (lstm().squashed().into(), "lstm): it has a squashed cell; PyTorch's nn.LSTM"),
        (
            lstm().activations(gates).into(),
            "lstm): it has functions other than sigmoid and tanh; PyTorch's nn.LSTM",
        ),
        (
            lstm().direction(Direction::Bidirectional).reverse_activations(gates).into(),
            "lstm): it has other functions for the reverse scan; PyTorch's nn.LSTM",
        ),
        (lstm().clip(2.0).into(), "lstm): it has pre-activations clipped at 2; PyTorch's nn.LSTM"),
        (
            lstm().direction(Direction::Reverse).into(),
            "lstm): it has a reverse scan alone; PyTorch's nn.LSTM",
        ),
        (
            lstm().direction(Direction::BidirectionalSum).into(),
            "lstm): it has two directions summed; PyTorch's nn.LSTM",
        ),
        (
            lstm().initial_state(InitialState::Constant(0.5)).into(),
            "lstm): it has an initial state of 0.5; PyTorch's nn.LSTM",
        ),
        (
            lstm().initial_state(InitialState::Learned).into(),
            "lstm): it has a learned initial state; PyTorch's nn.LSTM",
        ),
        (lstm().dilation(3).into(), "lstm): it has a dilation of 3; PyTorch's nn.LSTM"),
        (lstm().skip(3).into(), "lstm): it has a skip connection from h(t-3); PyTorch's nn.LSTM"),
        (
            lstm().feedback(2, Activation::Tanh).into(),
            "lstm): it has feedback of its output; PyTorch's nn.LSTM",
        ),
        (
            lstm().projection(4).into(),
            "lstm): it has a projection to 4, not below its 4 units; PyTorch's nn.LSTM",
        ),
        (
            RnnConfig::new(4).activation(Activation::Softsign).into(),
            "rnn): it has the function softsign, where it knows tanh and relu; PyTorch's nn.RNN",
        ),
        (
            GruConfig::new(4).reset(Reset::Before).into(),
            "gru): it has a reset gate before the product; PyTorch's nn.GRU",
        ),
        (
            lstm().layer_norm(LayerNorm::default()).into(),
            "lstm): it has layer normalisation; PyTorch's nn.LSTM",
        ),
        (
            GruConfig::new(4).layer_norm(LayerNorm::default()).direction(Direction::Bidirectional).into(),
            "gru): it has layer normalisation; PyTorch's nn.GRU",
        ),
        (lstm().zoneout(0.1).into(), "lstm): it has zoneout, which inference averages; PyTorch's nn.LSTM"),
        (
            lstm().zoneout_cell(0.1).into(),
            "lstm): it has zoneout, which inference averages; PyTorch's nn.LSTM",
        ),
        (
            RnnConfig::new(4).zoneout(0.2).into(),
            "rnn): it has zoneout, which inference averages; PyTorch's nn.RNN",
        ),
    ] {
        failures.check(missing, || {
            let layer: LayerConfig = layer;
            let network = model(3, [DenseConfig::new(2).into(), layer]);
            let error = pytorch::state_dict(&network, &[]).expect_err("it should be refused").to_string();
            let advice = "save the network as .safetensors, or build the layer without it";
            assert_eq!(error, format!("layer 1 ({missing} has no such thing: {advice}"));
        });
    }
    failures.finish();
}

/// Masks end with training, so the state_dict of such a layer is that of the plain one.
#[test]
fn noise_of_training_leaves_no_trace() {
    let layers: [(LayerConfig, LayerConfig); 3] = [
        (LstmConfig::new(4).recurrent_dropout(0.3).candidate_dropout(0.2).into(), LstmConfig::new(4).into()),
        (GruConfig::new(4).drop_connect(0.5).into(), GruConfig::new(4).into()),
        (RnnConfig::new(4).recurrent_dropout(0.3).into(), RnnConfig::new(4).into()),
    ];
    for (noisy, plain) in layers {
        let (noisy, plain) = (model(3, [noisy]), model(3, [plain]));
        let found = pytorch::state_dict(&noisy, &[]).unwrap();
        assert_eq!(found, pytorch::state_dict(&plain, &[]).unwrap(), "{}", noisy.config);
    }
}
