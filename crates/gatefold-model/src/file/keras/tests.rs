//! Descriptions that are refused, each for the layer and the setting that it names.

use super::network;
use serde_json::{Value, json};

fn layer(class: &str, config: Value) -> Value {
    let mut config = config;
    config["name"] = json!(class.to_lowercase());
    json!({ "module": "keras.layers", "class_name": class, "config": config, "registered_name": null })
}

fn sequential(layers: &[Value]) -> Value {
    let input = layer("InputLayer", json!({ "batch_shape": [null, null, 3] }));
    let layers: Vec<&Value> = [&input].into_iter().chain(layers).collect();
    json!({ "class_name": "Sequential", "config": { "name": "s", "layers": layers } })
}

fn recurrent(class: &str, more: Value) -> Value {
    let mut config = json!({
        "units": 4, "activation": "tanh", "recurrent_activation": "sigmoid", "use_bias": true, "return_sequences": true,
        "return_state": false, "go_backwards": false, "stateful": false, "dropout": 0.0, "recurrent_dropout": 0.0,
        "kernel_initializer": { "class_name": "GlorotUniform" }, "time_major": false,
    });
    for (key, value) in more.as_object().unwrap() {
        config[key] = value.clone();
    }
    layer(class, config)
}

fn refusal(layers: &[Value]) -> String {
    network(&sequential(layers), 3).err().expect("it is refused")
}

fn said(layers: &[Value]) -> String {
    network(&sequential(layers), 3).unwrap_or_else(|problem| panic!("{problem}")).config.to_string()
}

#[test]
fn settings_without_a_counterpart_are_named() {
    let lstm = |more: Value| recurrent("LSTM", more);
    let refused = |more: Value| refusal(&[lstm(more)]);
    assert_eq!(
        refused(json!({ "return_state": true })),
        "LSTM lstm: return_state: expected false, found true"
    );
    assert_eq!(
        refused(json!({ "go_backwards": true })),
        "LSTM lstm: go_backwards: expected false with return_sequences, since its steps come out in reverse, found true"
    );
    assert_eq!(
        refused(json!({ "activation": "gelu" })),
        "LSTM lstm: activation: expected linear, tanh, sigmoid, relu, softplus, softsign, elu, leaky_relu or hard_sigmoid, \
         found gelu"
    );
    assert_eq!(refused(json!({ "units": 0 })), "LSTM lstm: units: expected a whole number above 0, found 0");
    assert_eq!(
        refused(json!({ "clipping": 3 })),
        "LSTM lstm: the setting clipping is not known here; found 3"
    );
    let conv =
        layer("Conv1D", json!({ "filters": 2, "kernel_size": [3], "strides": [2], "padding": "same" }));
    assert_eq!(
        refusal(&[conv]),
        "Conv1D conv1d: padding: expected valid or causal with strides above 1, found same"
    );
    let both = layer("Bidirectional", json!({ "merge_mode": "mul", "layer": lstm(json!({})) }));
    assert_eq!(
        refusal(&[both]),
        "Bidirectional bidirectional: merge_mode: expected concat or sum, found mul"
    );
}

#[test]
fn layers_without_a_counterpart_are_named() {
    let norm = layer("BatchNormalization", json!({}));
    let error = refusal(&[norm]);
    assert!(error.starts_with("BatchNormalization batchnormalization: no layer here computes it"), "{error}");
    let custom = json!({ "module": "mine", "class_name": "LSTM", "config": { "name": "lstm" } });
    assert_eq!(refusal(&[custom]), "LSTM lstm: it is a layer of mine; expected Keras' own");
    let late = layer("Masking", json!({ "mask_value": 0.0 }));
    let error = refusal(&[recurrent("GRU", json!({})), late]);
    assert!(error.starts_with("Masking masking: its mask begins after other layers"), "{error}");
    let relu = layer("ReLU", json!({}));
    let error = refusal(&[recurrent("GRU", json!({})), relu]);
    assert!(error.starts_with("ReLU relu: relu has no layer before it that takes a function"), "{error}");
}

#[test]
fn functions_of_their_own_join_the_layer_before() {
    let dense = layer("Dense", json!({ "units": 2, "activation": "linear", "use_bias": true }));
    let leaky = layer("LeakyReLU", json!({ "negative_slope": 0.25 }));
    let softmax = layer("Activation", json!({ "activation": "softmax" }));
    let gru = recurrent("GRU", json!({ "reset_after": false, "recurrent_dropout": 0.5, "dropout": 0.25 }));
    assert_eq!(
        said(&[gru.clone(), dense, leaky, softmax]),
        "3 -> gru 4 reset before, one bias -> dense 2 leaky_relu(0.25) -> softmax"
    );
    let notes = network(&sequential(&[gru]), 3).unwrap().notes;
    assert_eq!(
        notes,
        [
            "GRU gru: dropout 0.25 of its input, with one mask for all steps, is left out; it acts in training only",
            "GRU gru: recurrent_dropout 0.5 is left out; a GRU that resets before the product has none"
        ]
    );
}

#[test]
fn branches_of_a_functional_model_are_named() {
    let tensor =
        |name: &str| json!({ "class_name": "__keras_tensor__", "config": { "keras_history": [name, 0, 0] } });
    let node = |names: &[&str]| {
        let args: Vec<Value> = names.iter().map(|name| tensor(name)).collect();
        json!([{ "args": args, "kwargs": {} }])
    };
    let model = |join: &[&str]| {
        let mut input = layer("InputLayer", json!({ "batch_shape": [null, null, 3] }));
        (input["name"], input["inbound_nodes"]) = (json!("x"), json!([]));
        let mut gru = recurrent("GRU", json!({}));
        (gru["name"], gru["inbound_nodes"]) = (json!("g"), node(&["x"]));
        let mut dense = layer("Dense", json!({ "units": 2 }));
        (dense["name"], dense["inbound_nodes"]) = (json!("d"), node(join));
        json!({ "class_name": "Functional", "config": { "layers": [input, gru, dense],
            "input_layers": ["x", 0, 0], "output_layers": [["d", 0, 0]] } })
    };
    assert_eq!(network(&model(&["g"]), 3).unwrap().config.to_string(), "3 -> gru 4 -> dense 2");
    assert_eq!(
        network(&model(&["g", "x"]), 3).err().unwrap(),
        "InputLayer x is read by GRU g and Dense d; expected one layer after the other"
    );
}
