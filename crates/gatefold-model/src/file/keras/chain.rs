//! The order of Keras' layers in config.json: a Sequential model, or a functional one in which each layer reads the one
//! before.

use super::shown;
use serde_json::{Map, Value};
use std::fmt;

/// A layer in config.json.
#[derive(Clone, Debug)]
pub(super) struct Described {
    pub(super) class: String,
    pub(super) name: String,
    pub(super) config: Map<String, Value>,
    /// The shape that it was built with: the batch, then its input's axes.
    input: Option<Vec<Option<u64>>>,
    /// The names of the layers that it reads, in a functional model.
    reads: Vec<String>,
    /// A value that it is called with beside its input.
    called_with: Option<String>,
}

/// `LSTM encoder`
impl fmt::Display for Described {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", shown(&self.class), shown(&self.name))
    }
}

/// The settings of a layer, as a version of Keras means them.
pub(super) struct Setting<'a> {
    pub(super) layer: &'a Described,
    pub(super) keras: u32,
}

/// The layers of a model in the order in which data passes through them, and its input's axes without the batch.
pub(super) struct Sequence {
    pub(super) layers: Vec<Described>,
    pub(super) input: Vec<Option<u64>>,
    /// Classes and names in the order in which Keras keeps the layers, which numbers their groups of weights.
    kept: Vec<(String, String)>,
}

impl Sequence {
    /// The group of a layer's weights in a file: its class in snake case, numbered from the second on.
    pub(super) fn group_of(&self, name: &str) -> String {
        let class = self.kept.iter().find(|(_, other)| other == name).map_or("", |(class, _)| class);
        let before = self.kept.iter().take_while(|(_, other)| other != name);
        let group = snake_case(class);
        match before.filter(|(other, _)| other == class).count() {
            0 => format!("layers/{group}"),
            number => format!("layers/{group}_{number}"),
        }
    }
}

/// `SimpleRNN` as `simple_rnn`, `Conv1D` as `conv1d`, as Keras does.
fn snake_case(class: &str) -> String {
    let letters: Vec<char> = class.chars().collect();
    let mut name = String::new();
    for (at, &letter) in letters.iter().enumerate() {
        let before = at.checked_sub(1).map(|at| letters[at]);
        let next_is_small = letters.get(at + 1).is_some_and(char::is_ascii_lowercase);
        let begins = match before {
            Some(before) if before.is_ascii_lowercase() => letter.is_ascii_uppercase(),
            Some(before) => letter.is_ascii_uppercase() && before.is_ascii_uppercase() && next_is_small,
            None => false,
        };
        if begins {
            name.push('_');
        }
        name.push(letter.to_ascii_lowercase());
    }
    name
}

/// The most layers within each other.
const MOST_DEPTH: usize = 4;

pub(super) fn sequence(config: &Value) -> Result<Sequence, String> {
    let class = config.get("class_name").and_then(Value::as_str).unwrap_or_default();
    let inner = config.get("config").ok_or("it has no config; expected a model's description by Keras")?;
    let list = inner.get("layers").or(Some(inner)).and_then(Value::as_array);
    let list = list.ok_or("its config has no layers")?;
    let all: Vec<Described> = list.iter().map(|layer| described(layer, 0)).collect::<Result<_, String>>()?;
    let layers = match class {
        "Sequential" => all.clone(),
        "Functional" | "Model" => chained(&all, inner)?,
        other => {
            return Err(format!("it is a {}; expected a Sequential or a Functional model", shown(other)));
        }
    };
    let built = || shape(config.get("build_config")?.get("input_shape")?);
    let first = layers.first().and_then(|layer| layer.input.clone()).or_else(built);
    let input =
        first.ok_or("it does not say the shape of its input; give its first layer an Input, or build it")?;
    // A Sequential model does not count its Input as a layer.
    let kept = all.iter().filter(|layer| class != "Sequential" || layer.class != "InputLayer");
    let kept = kept.map(|layer| (layer.class.clone(), layer.name.clone())).collect();
    Ok(Sequence { layers, input: input.into_iter().skip(1).collect(), kept })
}

fn described(layer: &Value, depth: usize) -> Result<Described, String> {
    if depth > MOST_DEPTH {
        return Err("layers within layers too deep".into());
    }
    let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
    let class = text(layer.get("class_name")).ok_or("a layer has no class_name")?;
    let config = layer.get("config").and_then(Value::as_object).cloned();
    let config = config.ok_or_else(|| format!("the layer {} has no config", shown(&class)))?;
    let name = text(layer.get("name")).or(text(config.get("name"))).unwrap_or_default();
    let own = ["batch_shape", "batch_input_shape"].into_iter().find_map(|key| shape(config.get(key)?));
    let built = || shape(layer.get("build_config")?.get("input_shape")?);
    let input = own.or_else(built);
    let (mut reads, mut called_with) = (Vec::new(), None);
    for node in layer.get("inbound_nodes").and_then(Value::as_array).into_iter().flatten() {
        references(node, &mut reads);
        called_with = called_with.or(given_beside(node));
    }
    // Keras 3 registers its layers under their class; a custom layer of the same name is another.
    let module = layer.get("module").and_then(Value::as_str).unwrap_or("keras.layers");
    if !module.starts_with("keras") && !module.starts_with("tf_keras") && !module.starts_with("builtins") {
        return Err(format!(
            "{} {}: it is a layer of {}; expected Keras' own",
            shown(&class),
            shown(&name),
            shown(module)
        ));
    }
    Ok(Described { class, name, config, input, reads, called_with })
}

/// A value of a description, cut short if it is long.
pub(super) fn in_short(value: &Value) -> String {
    const SHOWN: usize = 60;
    match value {
        Value::String(text) => shown(text),
        other => other.to_string().chars().take(SHOWN).collect(),
    }
}

/// The lengths of axes; `None` for one that the data decides.
fn shape(value: &Value) -> Option<Vec<Option<u64>>> {
    Some(value.as_array()?.iter().map(Value::as_u64).collect())
}

/// The names of the layers that a call reads, in Keras 3's form and in Keras 2's.
fn references(node: &Value, found: &mut Vec<String>) {
    match node {
        Value::Object(object) => {
            if let Some(history) = object.get("keras_history").and_then(Value::as_array) {
                found.extend(history.first().and_then(Value::as_str).map(str::to_owned));
                return;
            }
            object.values().for_each(|value| references(value, found));
        }
        Value::Array(list) => match &list[..] {
            [Value::String(name), Value::Number(_), Value::Number(_), ..] => found.push(name.clone()),
            _ => list.iter().for_each(|value| references(value, found)),
        },
        _ => {}
    }
}

/// An argument of a call besides its input.
fn given_beside(node: &Value) -> Option<String> {
    let arguments = match node {
        Value::Object(object) => object.get("kwargs")?.as_object()?,
        // [[["name", 0, 0, {arguments}]]]
        Value::Array(list) => match &list[..] {
            [Value::String(_), _, _, Value::Object(arguments)] => arguments,
            _ => return list.iter().find_map(given_beside),
        },
        _ => return None,
    };
    // A mask comes from a layer before, which is known.
    let off = |key: &str, value: &Value| {
        value.is_null() || key == "mask" || (key == "training" && value == &Value::Bool(false))
    };
    arguments.iter().find(|(key, value)| !off(key, value)).map(|(key, _)| key.clone())
}

/// The layers of a functional model, if each reads the one before.
fn chained(all: &[Described], config: &Value) -> Result<Vec<Described>, String> {
    let named = |key: &str| -> Vec<String> {
        let mut found = Vec::new();
        config.get(key).into_iter().for_each(|value| references(value, &mut found));
        found
    };
    let (inputs, outputs) = (named("input_layers"), named("output_layers"));
    let ([input], [output]) = (&inputs[..], &outputs[..]) else {
        return Err(format!(
            "it has {} inputs and {} outputs; expected one of each",
            inputs.len(),
            outputs.len()
        ));
    };
    let find = |name: &str| {
        all.iter().find(|layer| layer.name == name).ok_or_else(|| format!("it has no layer {}", shown(name)))
    };
    let mut layers = vec![find(input)?.clone()];
    while layers[layers.len() - 1].name != *output {
        let last = layers[layers.len() - 1].name.clone();
        let readers: Vec<&Described> = all.iter().filter(|layer| layer.reads.contains(&last)).collect();
        let [next] = readers[..] else {
            let names: Vec<String> = readers.iter().map(ToString::to_string).collect();
            return Err(format!(
                "{} is read by {}; expected one layer after the other",
                find(&last)?,
                names.join(" and ")
            ));
        };
        if next.reads.len() != 1 {
            let names: Vec<String> = next.reads.iter().map(|name| shown(name)).collect();
            return Err(format!(
                "{next} reads {}; expected one layer before it, called once",
                names.join(" and ")
            ));
        }
        if let Some(argument) = &next.called_with {
            return Err(format!("{next} is called with {}; expected its input alone", shown(argument)));
        }
        if layers.len() > all.len() {
            return Err("its layers read each other in a circle".into());
        }
        layers.push(next.clone());
    }
    Ok(layers)
}

impl Setting<'_> {
    pub(super) fn get(&self, key: &str) -> Option<&Value> {
        self.layer.config.get(key)
    }

    pub(super) fn wrong(&self, key: &str, expected: &str, found: &Value) -> String {
        format!("{}: {key}: expected {expected}, found {}", self.layer, in_short(found))
    }

    /// Refuses another value than this one, if there is any.
    pub(super) fn expect(&self, key: &str, expected: &Value) -> Result<(), String> {
        let same =
            |found: &Value| found == expected || found.as_f64().is_some_and(|f| Some(f) == expected.as_f64());
        match self.get(key) {
            Some(found) if !same(found) => Err(self.wrong(key, &in_short(expected), found)),
            _ => Ok(()),
        }
    }

    /// A count of at least 1.
    pub(super) fn count(&self, key: &str) -> Result<usize, String> {
        let found = self.get(key).unwrap_or(&Value::Null);
        let count = found.as_u64().and_then(|count| usize::try_from(count).ok()).filter(|&count| count > 0);
        count.ok_or_else(|| self.wrong(key, "a whole number above 0", found))
    }

    /// A count, or a list of one.
    pub(super) fn one_of(&self, key: &str, default: Option<usize>) -> Result<usize, String> {
        let found = self.get(key).unwrap_or(&Value::Null);
        let number = match found {
            Value::Array(list) if list.len() == 1 => list[0].as_u64(),
            other => other.as_u64(),
        };
        let count = number.and_then(|count| usize::try_from(count).ok()).filter(|&count| count > 0);
        count
            .or(default.filter(|_| found.is_null()))
            .ok_or_else(|| self.wrong(key, "a whole number above 0", found))
    }

    pub(super) fn number(&self, key: &str) -> Result<f32, String> {
        let found = self.get(key).unwrap_or(&Value::Null);
        // Keras 2 writes numbers as NumPy's, in an object.
        let value = found.as_f64().or_else(|| found.get("config")?.get("value")?.as_f64());
        value.map(|value| value as f32).ok_or_else(|| self.wrong(key, "a number", found))
    }

    pub(super) fn number_or(&self, key: &str, default: f32) -> Result<f32, String> {
        if self.get(key).is_none_or(Value::is_null) { Ok(default) } else { self.number(key) }
    }

    pub(super) fn truth(&self, key: &str, default: bool) -> Result<bool, String> {
        match self.get(key) {
            None | Some(Value::Null) => Ok(default),
            Some(Value::Bool(on)) => Ok(*on),
            Some(found) => Err(self.wrong(key, "true or false", found)),
        }
    }

    pub(super) fn text(&self, key: &str, default: &'static str) -> Result<&str, String> {
        match self.get(key) {
            None | Some(Value::Null) => Ok(default),
            Some(Value::String(text)) => Ok(text),
            Some(found) => Err(self.wrong(key, "a word", found)),
        }
    }

    /// A layer within this one.
    pub(super) fn inner(&self, key: &str) -> Result<Described, String> {
        let found = self.get(key).ok_or_else(|| self.wrong(key, "a layer", &Value::Null))?;
        described(found, 1)
    }
}
