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

fn norm(prefix: &str, width: usize) -> Tensors {
    let [weight, bias] = ["weight", "bias"].map(|leaf| format!("{prefix}.{leaf}"));
    tensors(&[(&weight, &[width]), (&bias, &[width])])
}

/// The order that a message suggests.
fn suggestion(message: &str) -> String {
    message.split('"').nth(1).unwrap_or_else(|| panic!("no suggestion: {message}")).to_owned()
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
    // Notes quote whole orders, which are read as they stand.
    let both = joined([
        recurrent("rnn", 1, 3, 5, 1),
        norm("norm", 5),
        recurrent("top", 1, 5, 4, 2),
        linear("fc", 4, 2),
    ]);
    let order = "rnn, dropout 0.5, norm, top dropout 0.1, final_state, fc";
    let model = read(&both, order).unwrap();
    let [tanh, eps] = pytorch::assumptions(&model)[..] else { panic!("{:?}", pytorch::assumptions(&model)) };
    assert_eq!(
        tanh,
        "rnn and top are taken as tanh, nn.RNN's default; if it has nonlinearity='relu', say \"rnn relu, dropout 0.5, norm, \
         top relu dropout 0.1, final_state, fc\""
    );
    let relu = read(&both, &suggestion(tanh)).unwrap();
    assert_eq!(pytorch::assumptions(&relu).len(), 1);
    assert!(
        pytorch::assumptions(&read(&both, &suggestion(pytorch::assumptions(&relu)[0])).unwrap()).is_empty()
    );
    assert!(
        eps.ends_with("say \"rnn, dropout 0.5, norm eps 1e-3, top dropout 0.1, final_state, fc\""),
        "{eps}"
    );
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
    // An order that is given must say it too, wherever it stands.
    for unsaid in
        ["lstm, hidden, answer", "lstm, hidden, dropout 0.1, answer", "lstm, hidden, last_step, answer"]
    {
        let error = read(&head, unsaid).unwrap_err();
        assert!(error.contains("hidden and answer are Linear layers in a row"), "{unsaid}: {error}");
        let suggested = unsaid.replace("hidden", "hidden relu");
        assert!(error.contains(&format!("such as \"{suggested}\", or identity")), "{unsaid}: {error}");
        assert!(pytorch::assumptions(&read(&head, &suggested).unwrap()).is_empty(), "{suggested}");
    }
    let none = read(&head, "lstm, hidden identity, answer").unwrap();
    assert_eq!(none.config.to_string(), "3 -> lstm 5 -> dense 6 -> dense 2");
    let after = read(&head, "lstm, hidden, dropout 0.1, tanh, answer").unwrap();
    assert_eq!(
        after.config.to_string(),
        "3 -> lstm 5 -> dense 6 -> dropout 0.1 -> dense 6 tanh, no bias -> dense 2"
    );
    // A Linear before anything else may have a function as well, which is noted.
    let first = joined([linear("proj", 3, 4), recurrent("lstm", 4, 4, 5, 1)]);
    assert_eq!(
        pytorch::assumptions(&read(&first, "proj, lstm").unwrap()),
        ["proj is taken without a function after it; for one, say \"proj relu, lstm\""]
    );
    assert!(pytorch::assumptions(&read(&first, "proj identity, lstm").unwrap()).is_empty());
    let conv = joined([tensors(&[("conv.weight", &[4, 3, 5])]), recurrent("gru", 3, 4, 2, 1)]);
    assert_eq!(
        read(&conv, "").unwrap_err(),
        "state_dict: conv: Conv1d 3 to 4, kernel 5: the file does not hold its stride, its dilation, its padding and the \
         function after it; say them with the option modules, such as \"conv relu stride 1 dilation 1 padding 0 0, gru\""
    );
    let groups = "conv is taken as a Conv1d with groups=1, whose input is 3 wide; one with more groups cannot be told from it, \
                  and is read only from ONNX";
    let noted = |options: &str| -> Vec<String> {
        let model = read(&conv, options).unwrap();
        pytorch::assumptions(&model).into_iter().map(str::to_owned).collect()
    };
    assert_eq!(noted("conv relu stride 1 dilation 1 padding 0 0, gru"), [groups]);
    assert_eq!(
        noted("conv, gru"),
        [
            "conv is taken with stride 1, dilation 1, padding 0 0 and no function; for others, say \"conv relu stride 2 \
             dilation 2 padding 1 1, gru\"",
            groups
        ]
    );
    assert_eq!(
        noted("conv causal stride 2, relu, gru"),
        [
            "conv is taken with dilation 1; for others, say \"conv relu causal stride 2 dilation 2, gru\"",
            groups
        ]
    );
    // The widths tell groups from each other where a module comes before.
    let inner = joined([recurrent("rnn", 3, 2, 3, 1), tensors(&[("conv.weight", &[4, 3, 5])])]);
    let said = read(&inner, "rnn, conv identity stride 1 dilation 1 causal").unwrap();
    assert!(pytorch::assumptions(&said).is_empty());
    // Whatever a refusal suggests can be read.
    let many = joined([
        tensors(&[("conv.weight", &[4, 3, 5])]),
        linear("a", 4, 5),
        norm("norm", 5),
        linear("b", 5, 6),
        recurrent("lstm", 4, 6, 7, 1),
    ]);
    let suggested = suggestion(&read(&many, "").unwrap_err());
    assert_eq!(suggested, "conv relu stride 1 dilation 1 padding 0 0, a, norm relu, b, lstm");
    read(&many, &suggested).unwrap();
}

#[test]
fn layer_normalisations_are_layers() {
    let dict = joined([recurrent("lstm", 4, 3, 4, 1), norm("norm", 4), linear("head", 4, 2)]);
    let alone = read(&dict, "").unwrap();
    assert_eq!(alone.config.to_string(), "3 -> lstm 4 -> normalise -> dense 2");
    assert_eq!(
        pytorch::assumptions(&alone)[1],
        "norm is taken as nn.LayerNorm with its default eps of 1e-5; for another, say \"lstm, norm eps 1e-3, head\""
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
    assert!(error.contains("\"hidden, norm relu, answer\""), "{error}");
    for (order, expected) in [
        ("hidden, norm relu, answer", "5 -> dense 6 -> normalise -> dense 6 relu, no bias -> dense 2"),
        (
            "hidden, norm, elu(0.5), answer",
            "5 -> dense 6 -> normalise -> dense 6 elu(0.5), no bias -> dense 2",
        ),
        ("hidden relu, norm, answer", "5 -> dense 6 relu -> normalise -> dense 2"),
        ("hidden, norm identity, answer", "5 -> dense 6 -> normalise -> dense 2"),
    ] {
        let model = read(&head, order).unwrap();
        assert_eq!(model.config.to_string(), expected, "{order}");
        assert_eq!(pytorch::state_dict(&model, &[]).unwrap(), head, "{order}");
    }
    let mut model = read(&head, "hidden, norm relu, answer").unwrap();
    let notes = pytorch::assumptions(&model).join("\n");
    assert!(
        notes.contains("relu after norm is computed by a dense layer with ones on the diagonal"),
        "{notes}"
    );
    assert_eq!(model.parameters["dense1.weight"], ndarray::Array2::<f32>::eye(6).into_dyn());
    model.parameters.get_mut("dense1.weight").unwrap()[[0, 1]] = 0.5;
    let error = pytorch::state_dict(&model, &[]).unwrap_err().to_string();
    assert!(
        error.contains("dense1: its weight has changed, and the modules it was read from have none"),
        "{error}"
    );
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

/// Modules whose names are words for steps, as in PyTorch's word_language_model.
#[test]
fn modules_may_have_the_names_of_steps() {
    let table = |name: &str| tensors(&[(&format!("{name}.weight"), &[9, 3])]);
    let dict = joined([table("encoder"), recurrent("rnn", 4, 3, 4, 2), linear("decoder", 4, 9)]);
    let expected = "1 -> embedding 3 of 9 tokens -> lstm 4 -> lstm 4 -> dense 9";
    for order in
        ["encoder, rnn, decoder", "encoder, rnn, .decoder", "encoder embedding, rnn, decoder identity"]
    {
        let model = read(&dict, order).unwrap();
        assert_eq!(model.config.to_string(), expected, "{order}");
        assert_eq!(pytorch::state_dict(&model, &[]).unwrap(), dict);
    }
    let softmax =
        joined([recurrent("encoder", 4, 8, 8, 1), recurrent("decoder", 4, 8, 8, 1), linear("softmax", 8, 3)]);
    for order in [
        "encoder, decoder 8, decoder, softmax, softmax()",
        "encoder, decoder(8), .decoder, .softmax, softmax()",
    ] {
        let config = read(&softmax, order).unwrap().config.to_string();
        assert_eq!(config, "8 -> lstm 8 -> decoder of 8 -> lstm 8 -> dense 3 -> softmax", "{order}");
    }
    // Where the file has no such module, the word is the step.
    let plain = joined([recurrent("lstm", 4, 3, 5, 1), linear("head", 5, 2)]);
    let config = read(&plain, "lstm, last_step, head, softmax").unwrap().config.to_string();
    assert_eq!(config, "3 -> lstm 5 -> last step -> dense 2 -> softmax");
    let error = read(&plain, "lstm, decoder, head").unwrap_err();
    assert!(
        error.contains("decoder: expected its width, as in decoder 3, or a module of this name"),
        "{error}"
    );
    let error = read(&plain, "lstm, .softmax, head").unwrap_err();
    assert!(error.contains("there is no module softmax; found head"), "{error}");
    // Suggestions keep to the names too.
    let inner = joined([linear("relu", 3, 4), linear("last_step", 4, 4), linear("max_pool", 4, 2)]);
    let error = read(&inner, "relu relu, last_step, last_step(), max_pool").unwrap_err();
    assert_eq!(suggestion(&error), "relu relu, last_step relu, last_step(), max_pool");
    read(&inner, &suggestion(&error)).unwrap();
}

#[test]
fn functions_of_dense_layers_have_words() {
    let dict = joined([recurrent("lstm", 4, 3, 4, 1), linear("hidden", 4, 4), linear("answer", 4, 2)]);
    for (order, expected) in [
        ("lstm, hidden leaky_relu(0.02), answer elu", "lstm 4 -> dense 4 leaky_relu(0.02) -> dense 2 elu(1)"),
        (
            "lstm, hidden hard_sigmoid(0.2, 0.5), answer",
            "lstm 4 -> dense 4 hard_sigmoid(0.2, 0.5) -> dense 2",
        ),
        ("lstm, hidden, leaky_relu, answer", "lstm 4 -> dense 4 leaky_relu(0.01) -> dense 2"),
        ("lstm, last_step, relu, hidden tanh, answer", {
            "lstm 4 -> last step -> dense 4 relu, no bias -> dense 4 tanh -> dense 2"
        }),
        ("relu, lstm, hidden tanh, answer", "dense 3 relu, no bias -> lstm 4 -> dense 4 tanh -> dense 2"),
    ] {
        let model = read(&dict, order).unwrap();
        assert_eq!(model.config.to_string(), format!("3 -> {expected}"), "{order}");
        assert_eq!(pytorch::state_dict(&model, &[]).unwrap(), dict, "{order}");
    }
    let error = read(&dict, "lstm tanh, hidden relu, answer").unwrap_err();
    assert_eq!(suggestion(&error), "lstm, tanh");
    let wide = joined([norm("norm", 10_000), linear("head", 10_000, 1)]);
    let error = read(&wide, "norm relu, head").unwrap_err();
    assert!(error.contains("expected at most 8192 values"), "{error}");
}

#[test]
fn residual_connections_are_steps() {
    let dict = joined([recurrent("low", 4, 4, 4, 2), recurrent("high", 3, 4, 4, 1), linear("head", 4, 2)]);
    let stack = "4 -> lstm 4 -> lstm 4";
    for (order, expected) in [
        ("low, high, residual high, head", "-> gru 4 -> residual from layer 2 -> dense 2"),
        ("low, high, residual, head", "-> gru 4 -> residual from layer 2 -> dense 2"),
        ("low, high, residual low, head", "-> gru 4 -> residual from layer 0 -> dense 2"),
        ("low, residual, high, residual(.high), head", {
            "-> residual from layer 0 -> gru 4 -> residual from layer 3 -> dense 2"
        }),
    ] {
        let model = read(&dict, order).unwrap();
        assert_eq!(model.config.to_string(), format!("{stack} {expected}"), "{order}");
        assert_eq!(pytorch::state_dict(&model, &[]).unwrap(), dict, "{order}");
    }
    for (order, expected) in [
        ("residual, low, high, head", "residual: expected a module that is listed before it; found none"),
        ("low, residual high, high, head", "residual high: expected a module that is listed before it"),
        ("low, high, head, residual", "it adds 2 values and the 4 of layer 3 (dense); expected equal widths"),
    ] {
        let error = read(&dict, order).unwrap_err();
        assert!(error.contains(expected), "{order}: {error}");
    }
}

/// `nn.LayerNorm` without a bias, and without any tensors.
#[test]
fn layer_normalisations_may_lack_tensors() {
    let lone = tensors(&[("norm.weight", &[4])]);
    let dict = joined([recurrent("lstm", 4, 3, 4, 1), lone, linear("head", 4, 2)]);
    for order in ["", "lstm, norm, head"] {
        let error = read(&dict, order).unwrap_err();
        assert!(error.contains("with bias=False, an nn.RMSNorm or an nn.PReLU"), "{error}");
        assert_eq!(suggestion(&error), "norm layer_norm");
    }
    let model = read(&dict, "lstm, norm layer_norm, head").unwrap();
    assert_eq!(model.config.to_string(), "3 -> lstm 4 -> normalise -> dense 2");
    assert_eq!(model.parameters["norm0.weight"], dict["norm.weight"]);
    assert!(model.parameters["norm0.bias"].iter().all(|&bias| bias == 0.0));
    let [eps] = pytorch::assumptions(&model)[..] else { panic!("{:?}", pytorch::assumptions(&model)) };
    assert_eq!(suggestion(eps), "lstm, norm layer_norm eps 1e-3, head");
    assert_eq!(pytorch::state_dict(&model, &[]).unwrap(), dict);
    let mut trained = model.clone();
    trained.parameters.get_mut("norm0.bias").unwrap()[0] = 0.5;
    let error = pytorch::state_dict(&trained, &[]).unwrap_err().to_string();
    assert!(error.contains("its bias has changed"), "{error}");
    let error = read(&dict, "lstm layer_norm, norm layer_norm, head").unwrap_err();
    assert!(error.contains("lstm: LSTM 3 to 4: expected a weight with one axis for layer_norm"), "{error}");

    let bare = joined([recurrent("lstm", 4, 3, 4, 1), linear("head", 4, 2)]);
    let model = read(&bare, "lstm, layer_norm, relu, head").unwrap();
    assert_eq!(model.config.to_string(), "3 -> lstm 4 -> normalise -> dense 4 relu, no bias -> dense 2");
    assert!(model.parameters["norm0.weight"].iter().all(|&weight| weight == 1.0));
    let eps = pytorch::assumptions(&model)[0];
    assert_eq!(suggestion(eps), "lstm, layer_norm eps 1e-3, relu, head");
    let said = read(&bare, &suggestion(eps)).unwrap();
    assert!(said.config.to_string().contains("normalise with epsilon 0.001"), "{}", said.config);
    assert_eq!(pytorch::state_dict(&said, &[]).unwrap(), bare);
    assert_eq!(read(&bare, "lstm, layer_norm(1e-3), relu, head").unwrap().config, said.config);
}
