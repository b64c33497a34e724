//! A state_dict leaves things open: they are said, refused, or asked for. Its tensors are written back as they were read.

use gatefold_model::file::pytorch::{self, ReadOptions};
use ndarray::ArrayD;
use std::collections::BTreeMap;

pub(crate) type Tensors = BTreeMap<String, ArrayD<f32>>;

/// Different numbers for tensors of these names and shapes.
pub(crate) fn tensors(shapes: &[(&str, &[usize])]) -> Tensors {
    let values = |at: usize, shape: &[usize]| {
        let mut next = 1000.0 * at as f32;
        ArrayD::from_shape_simple_fn(shape, || {
            next += 1.0;
            next.sin()
        })
    };
    shapes.iter().enumerate().map(|(at, (name, shape))| ((*name).to_owned(), values(at, shape))).collect()
}

/// The tensors of an `nn.RNN`, `nn.GRU` or `nn.LSTM` (1, 3 or 4 gates) of `layers` layers.
pub(crate) fn recurrent(prefix: &str, gates: usize, input: usize, hidden: usize, layers: usize) -> Tensors {
    let mut all = Tensors::new();
    for layer in 0..layers {
        let width = if layer == 0 { input } else { hidden };
        let rows = gates * hidden;
        let parts: [(&str, &[usize]); 4] = [
            ("weight_ih", &[rows, width]),
            ("weight_hh", &[rows, hidden]),
            ("bias_ih", &[rows]),
            ("bias_hh", &[rows]),
        ];
        for (name, values) in tensors(&parts) {
            all.insert(format!("{prefix}.{name}_l{layer}"), values);
        }
    }
    all
}

pub(crate) fn linear(prefix: &str, input: usize, output: usize) -> Tensors {
    let [weight, bias] = ["weight", "bias"].map(|leaf| format!("{prefix}.{leaf}"));
    tensors(&[(&weight, &[output, input]), (&bias, &[output])])
}

fn read(dict: &Tensors, options: &str) -> Result<gatefold_model::file::Model, String> {
    let options = if options.is_empty() { ReadOptions::new() } else { options.parse().unwrap() };
    pytorch::from_state_dict(dict, &options).map_err(|error| error.to_string())
}

pub(crate) fn joined(parts: impl IntoIterator<Item = Tensors>) -> Tensors {
    parts.into_iter().flatten().collect()
}

#[test]
fn assumptions_are_listed() {
    let rnn = recurrent("rnn", 1, 3, 5, 1);
    let model = read(&rnn, "").unwrap();
    let tanh = "rnn is taken as tanh, nn.RNN's default; if it has nonlinearity='relu', say \"rnn relu\"";
    assert_eq!(pytorch::assumptions(&model), [tanh]);
    assert_eq!(pytorch::assumptions(&read(&rnn, "rnn").unwrap()), [tanh]);
    assert!(pytorch::assumptions(&read(&rnn, "rnn tanh").unwrap()).is_empty());
    let stack = joined([recurrent("rnns.0", 3, 4, 4, 1), linear("head", 4, 2)]);
    assert_eq!(
        pytorch::assumptions(&read(&stack, "").unwrap()),
        [
            "the modules are taken in the only order that fits, rnns.0, head, with nothing between them: no function, \
             residual connection or last step"
        ]
    );
    assert!(pytorch::assumptions(&read(&stack, "rnns.0, last_step, head").unwrap()).is_empty());
    assert!(pytorch::assumptions(&read(&recurrent("gru", 3, 2, 2, 1), "").unwrap()).is_empty());
}

#[test]
fn a_function_that_nobody_said_is_not_made_up() {
    let head = joined([recurrent("lstm", 4, 3, 5, 1), linear("hidden", 5, 6), linear("answer", 6, 2)]);
    assert_eq!(
        read(&head, "").unwrap_err(),
        "state_dict: hidden and answer are Linear layers in a row, and the file does not hold the function between them; \
         say it with the option modules, such as \"lstm, hidden relu, answer\", or identity for none"
    );
    let said = read(&head, "lstm, hidden relu, answer").unwrap();
    assert_eq!(said.config.to_string(), "3 -> lstm 5 -> dense 6 relu -> dense 2");
    let conv = joined([tensors(&[("conv.weight", &[4, 3, 5])]), recurrent("gru", 3, 4, 2, 1)]);
    assert_eq!(
        read(&conv, "").unwrap_err(),
        "state_dict: conv: Conv1d 3 to 4, kernel 5: the file does not hold its stride, its padding and the function after \
         it; say them with the option modules, such as \"conv relu stride 1 padding 0 0, gru\""
    );
    assert!(read(&conv, "conv relu stride 1 padding 0 0, gru").is_ok());
}

#[test]
fn layer_normalisations_are_layers() {
    let norm = |name: &str, width: usize| {
        let [weight, bias] = ["weight", "bias"].map(|leaf| format!("{name}.{leaf}"));
        tensors(&[(&weight, &[width]), (&bias, &[width])])
    };
    let dict = joined([recurrent("lstm", 4, 3, 4, 1), norm("norm", 4), linear("head", 4, 2)]);
    let alone = read(&dict, "").unwrap();
    assert_eq!(alone.config.to_string(), "3 -> lstm 4 -> normalise -> dense 2");
    assert_eq!(
        pytorch::assumptions(&alone)[1],
        "norm is taken as nn.LayerNorm with its default eps of 1e-5; for another, say \"norm eps 1e-3\""
    );
    let said = read(&dict, "lstm, norm eps 1e-3, max_pool, head").unwrap();
    assert_eq!(said.config.to_string(), "3 -> lstm 4 -> normalise with epsilon 0.001 -> max pool -> dense 2");
    assert!(pytorch::assumptions(&said).is_empty());
    assert_eq!(pytorch::state_dict(&said, &[]).unwrap(), dict);
    let named = pytorch::state_dict(&said, &["a", "b", "c"]).unwrap();
    assert_eq!(named["b.weight"], dict["norm.weight"]);
    assert_eq!(named["b.bias"], dict["norm.bias"]);
    assert_eq!(
        read(&dict, "lstm, norm, mean_pool, head").unwrap().config.layers()[2].kind.name(),
        "mean pool"
    );

    // A file does not say which function stands between two Linear layers, not with a normalisation between them either.
    let head = joined([linear("hidden", 5, 6), norm("norm", 6), linear("answer", 6, 2)]);
    let error = read(&head, "").unwrap_err();
    assert!(error.contains("hidden and answer are Linear layers in a row"), "{error}");
    assert!(error.contains("\"hidden relu, norm, answer\""), "{error}");
    let error = read(&head, "hidden, norm relu, answer").unwrap_err();
    assert!(error.contains("norm: LayerNorm 6: its functions cannot be chosen"), "{error}");
    let error = "hidden max_pool, norm, answer".parse::<ReadOptions>().unwrap_err().to_string();
    assert!(error.contains("\"max_pool\" after hidden is a step of its own"), "{error}");
}

#[test]
fn cells_are_layers() {
    for (gates, kind) in [(1, "rnn"), (3, "gru"), (4, "lstm")] {
        let layer = recurrent("x", gates, 3, 5, 1);
        let cell: Tensors =
            layer.iter().map(|(name, values)| (name.replace("_l0", ""), values.clone())).collect();
        let (of_layer, of_cell) = (read(&layer, "").unwrap(), read(&cell, "").unwrap());
        assert_eq!(of_cell.config.to_string(), format!("3 -> {kind} 5"));
        assert_eq!(of_cell.parameters, of_layer.parameters);
        assert_eq!(pytorch::state_dict(&of_cell, &[]).unwrap(), cell);
    }
    let mut mixed = recurrent("x", 4, 3, 5, 1);
    mixed.extend(tensors(&[("x.weight_hh", &[20, 5])]));
    let error = read(&mixed, "").unwrap_err();
    assert!(error.contains("expected a cell's, which have no _l0"), "{error}");
}

#[test]
fn a_model_is_written_as_it_was_read() {
    let both = joined([recurrent("enc", 4, 8, 8, 2), recurrent("dec", 4, 8, 8, 2), linear("head", 8, 3)]);
    let model = read(&both, "enc, dec, head").unwrap();
    assert_eq!(pytorch::state_dict(&model, &[]).unwrap(), both);
    let decoder = read(&both, "enc, decoder 8, dec, head").unwrap();
    assert!(decoder.config.to_string().contains("decoder"), "{}", decoder.config);
    assert_eq!(pytorch::state_dict(&decoder, &[]).unwrap(), both);
    // Names that are given come first.
    let renamed = pytorch::state_dict(&model, &["all", "answer"]).unwrap();
    assert!(renamed.contains_key("all.weight_ih_l3"));
    // A model that has changed since gets names as any other.
    let mut other = read(&recurrent("gru", 3, 2, 4, 1), "").unwrap();
    other.metadata = model.metadata.clone();
    assert!(pytorch::state_dict(&other, &[]).unwrap().contains_key("rnn0.weight_ih_l0"));
}

#[test]
fn tensors_are_ignored_by_name_and_by_module() {
    let norm = tensors(&[("norm.weight", &[5]), ("norm.bias", &[5]), ("scale", &[1])]);
    let dict = joined([recurrent("lstm", 4, 3, 5, 1), norm]);
    let read = |names: &[&str]| {
        pytorch::from_state_dict(&dict, &ReadOptions::new().ignore(names.iter().copied()))
            .map(|model| model.config.to_string())
            .map_err(|error| error.to_string())
    };
    assert_eq!(read(&["norm", "scale"]).unwrap(), "3 -> lstm 5");
    assert!(read(&["norm"]).unwrap_err().contains("tensor scale [1] is of no module known here"));
    assert_eq!(
        read(&["norm", "scal"]).unwrap_err(),
        "state_dict: there is no tensor or module scal to ignore"
    );
}
