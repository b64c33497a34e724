use super::super::tensors::shown;
use super::options::ModuleStep;
use std::collections::BTreeMap;
use std::fmt;

/// Tensors by name, with their shapes.
pub(super) type Shapes = BTreeMap<String, Vec<usize>>;

/// A module of a state_dict, derived from the names and shapes of its tensors.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Module {
    pub(super) prefix: String,
    pub(super) kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    Recurrent(Stack),
    Linear {
        input: usize,
        output: usize,
        bias: bool,
    },
    Conv1d {
        input: usize,
        output: usize,
        kernel: usize,
        bias: bool,
    },
    /// A Linear's weight without a bias can be read as one.
    Embedding {
        tokens: usize,
        output: usize,
    },
    /// An `nn.LayerNorm` over the features of a step.
    LayerNorm {
        width: usize,
        bias: bool,
    },
    /// An `nn.BatchNorm1d`, which is folded into a module beside it.
    BatchNorm {
        width: usize,
        affine: bool,
    },
}

/// An `nn.RNN`, `nn.LSTM` or `nn.GRU`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Stack {
    /// 1 for an RNN, 3 for a GRU, 4 for an LSTM.
    pub(super) gates: usize,
    pub(super) input: usize,
    pub(super) hidden: usize,
    pub(super) projection: Option<usize>,
    pub(super) layers: usize,
    pub(super) bidirectional: bool,
    pub(super) biases: bool,
    /// Whether it is an `nn.RNNCell`, `nn.LSTMCell` or `nn.GRUCell`: one layer in one direction, whose tensors have no `_l0`.
    pub(super) cell: bool,
}

impl Stack {
    /// The width of the output.
    pub(super) fn output(&self) -> usize {
        let scans = if self.bidirectional { 2 } else { 1 };
        self.projection.unwrap_or(self.hidden).saturating_mul(scans)
    }

    /// The name of a tensor, such as `weight_ih_l0_reverse`; `reverse` is that suffix or empty.
    pub(super) fn leaf(&self, kind: &str, layer: usize, reverse: &str) -> String {
        if self.cell { kind.into() } else { format!("{kind}_l{layer}{reverse}") }
    }
}

impl Module {
    /// Whether it can take in a normalisation of its input: a zero of its padding would not be normalised.
    pub(super) fn takes_before(&self, said: &ModuleStep) -> bool {
        self.has_bias() && !said.is_padded() && !matches!(self.kind, Kind::LayerNorm { .. })
    }

    /// Whether a function of its output is part of its step.
    pub(super) fn takes_function(&self) -> bool {
        !matches!(self.kind, Kind::Recurrent(_) | Kind::Embedding { .. })
    }

    /// Whether it has biases of its own.
    pub(super) fn has_bias(&self) -> bool {
        match self.kind {
            Kind::Linear { bias, .. } | Kind::Conv1d { bias, .. } => bias,
            Kind::Recurrent(stack) => stack.biases,
            Kind::LayerNorm { bias, .. } => bias,
            Kind::Embedding { .. } | Kind::BatchNorm { .. } => false,
        }
    }

    /// The full name of one of its tensors.
    pub(super) fn tensor(&self, name: &str) -> String {
        if self.prefix.is_empty() { name.into() } else { format!("{}.{name}", self.prefix) }
    }
}

/// Its description in errors, such as `lstm: LSTM 3 to 2x5, 2 layers`.
impl fmt::Display for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefix = if self.prefix.is_empty() { ".".into() } else { shown(&self.prefix) };
        match self.kind {
            Kind::Linear { input, output, bias: true } => write!(f, "{prefix}: Linear {input} to {output}"),
            Kind::Linear { input, output, bias: false } => {
                write!(
                    f,
                    "{prefix}: Linear {input} to {output} or Embedding of {output} tokens, {input} wide"
                )
            }
            Kind::Conv1d { input, output, kernel, .. } => {
                write!(f, "{prefix}: Conv1d {input} to {output}, kernel {kernel}")
            }
            Kind::Embedding { tokens, output } => {
                write!(f, "{prefix}: Embedding of {tokens} tokens, {output} wide")
            }
            Kind::LayerNorm { width, bias: true } => write!(f, "{prefix}: LayerNorm {width}"),
            Kind::LayerNorm { width, bias: false } => {
                write!(f, "{prefix}: LayerNorm {width} without a bias, RMSNorm or PReLU")
            }
            Kind::BatchNorm { width, .. } => write!(f, "{prefix}: BatchNorm1d {width}"),
            Kind::Recurrent(stack) => {
                let name = match stack.gates {
                    1 => "RNN",
                    3 => "GRU",
                    _ => "LSTM",
                };
                let cell = if stack.cell { "Cell" } else { "" };
                write!(f, "{prefix}: {name}{cell} {} to {}", stack.input, stack.output())
            }
        }
    }
}

/// The names of a recurrent module's tensors, up to `_l0`.
const RECURRENT: [&str; 5] = ["weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr"];

/// The names of a cell's tensors.
const CELL: [&str; 4] = ["weight_ih", "weight_hh", "bias_ih", "bias_hh"];

/// Splits a recurrent tensor's name into kind, layer and direction; `None` for other names. A cell's tensors are those of
/// a first layer.
fn recurrent_name(name: &str) -> Option<(&'static str, usize, bool)> {
    if let Some(kind) = CELL.into_iter().find(|known| *known == name) {
        return Some((kind, 0, false));
    }
    let (forward, reverse) = match name.strip_suffix("_reverse") {
        Some(rest) => (rest, true),
        None => (name, false),
    };
    let (kind, layer) = forward.rsplit_once("_l")?;
    let kind = RECURRENT.into_iter().find(|known| *known == kind)?;
    let index: usize = layer.parse().ok()?;
    // `+1` and `01` parse as numbers too, but PyTorch does not write them.
    (index.to_string() == layer).then_some((kind, index, reverse))
}

/// The modules, in the order of their names.
pub(super) fn find(shapes: &Shapes) -> Result<Vec<Module>, String> {
    let mut groups: BTreeMap<&str, BTreeMap<&str, &[usize]>> = BTreeMap::new();
    for (name, shape) in shapes {
        let (prefix, leaf) = name.rsplit_once('.').unwrap_or(("", name));
        groups.entry(prefix).or_default().insert(leaf, shape);
    }
    if groups.is_empty() {
        return Err("there are no tensors; expected a module's state_dict".into());
    }
    let modules = groups.into_iter().map(|(prefix, tensors)| {
        let module = Module { prefix: prefix.into(), kind: Kind::Embedding { tokens: 0, output: 0 } };
        let kind = if tensors.keys().any(|leaf| recurrent_name(leaf).is_some()) {
            Kind::Recurrent(stack(&module, &tensors)?)
        } else if tensors.contains_key("running_mean") {
            batch_norm(&module, &tensors)?
        } else {
            weighted(&module, &tensors)?
        };
        Ok(Module { kind, ..module })
    });
    modules.collect()
}

fn foreign(module: &Module, leaf: &str, shape: &[usize]) -> String {
    let name = shown(&module.tensor(leaf));
    let found = if shape.len() > 8 { format!("{} axes", shape.len()) } else { format!("{shape:?}") };
    if module.prefix.split('.').any(|part| part == "parametrizations") {
        return format!(
            "tensor {name} {found} is of a parametrization other than weight_norm; take it off in PyTorch with \
             torch.nn.utils.parametrize.remove_parametrizations"
        );
    }
    format!(
        "tensor {name} {found} is of no module known here; expected those of nn.RNN, LSTM, GRU, their cells, Linear, Conv1d, \
         LayerNorm, BatchNorm1d and Embedding; or ignore it"
    )
}

/// The tensors of an `nn.BatchNorm1d`. The count of its batches is not read.
fn batch_norm(module: &Module, tensors: &BTreeMap<&str, &[usize]>) -> Result<Kind, String> {
    let width = match tensors["running_mean"] {
        &[width] if width > 0 => width,
        found => {
            let name = shown(&module.tensor("running_mean"));
            return Err(format!("tensor {name}: expected one axis, found {found:?}"));
        }
    };
    for (leaf, shape) in tensors {
        match *leaf {
            "weight" | "bias" | "running_mean" | "running_var" if **shape == [width] => {}
            "num_batches_tracked" => {}
            "weight" | "bias" | "running_var" => {
                let name = shown(&module.tensor(leaf));
                return Err(format!("tensor {name}: expected [{width}], found {shape:?}"));
            }
            leaf => return Err(foreign(module, leaf, shape)),
        }
    }
    let affine = tensors.contains_key("weight");
    let needed = ["running_var"].into_iter().chain(affine.then_some("bias"));
    match needed.into_iter().find(|leaf| !tensors.contains_key(leaf)) {
        Some(leaf) => Err(format!("tensor {} [{width}] is missing", shown(&module.tensor(leaf)))),
        None => Ok(Kind::BatchNorm { width, affine }),
    }
}

/// A module of a weight, and a bias if it has one.
fn weighted(module: &Module, tensors: &BTreeMap<&str, &[usize]>) -> Result<Kind, String> {
    let other = tensors.iter().find(|(leaf, _)| !matches!(**leaf, "weight" | "bias"));
    if let Some((leaf, shape)) = other {
        return Err(foreign(module, leaf, shape));
    }
    match (tensors.get("weight").copied(), tensors.get("bias").copied()) {
        (Some(&[output, input]), None) => Ok(Kind::Linear { input, output, bias: false }),
        (Some(&[output, input]), Some(&[biases])) if biases == output => {
            Ok(Kind::Linear { input, output, bias: true })
        }
        (Some(&[output, input, kernel]), bias) if bias.is_none_or(|bias| *bias == [output]) => {
            Ok(Kind::Conv1d { input, output, kernel, bias: bias.is_some() })
        }
        (Some(&[output, _] | &[output, _, _]), Some(bias)) => {
            Err(format!("tensor {}: expected [{output}], found {bias:?}", shown(&module.tensor("bias"))))
        }
        (Some(&[width]), bias) if width > 0 && bias.is_none_or(|bias| *bias == [width]) => {
            Ok(Kind::LayerNorm { width, bias: bias.is_some() })
        }
        (Some(&[width]), Some(bias)) if *bias != [width] => {
            Err(format!("tensor {}: expected [{width}], found {bias:?}", shown(&module.tensor("bias"))))
        }
        (Some(weight), _) => Err(foreign(module, "weight", weight)),
        (None, bias) => Err(foreign(module, "bias", bias.expect("a module has a tensor"))),
    }
}

fn stack(module: &Module, tensors: &BTreeMap<&str, &[usize]>) -> Result<Stack, String> {
    let name = |leaf: &str| shown(&module.tensor(leaf));
    let mut layers = 0;
    let (mut bidirectional, mut biases, mut projected) = (false, false, false);
    let cell = tensors.keys().any(|leaf| CELL.contains(leaf));
    for (leaf, shape) in tensors {
        let Some((kind, layer, reverse)) = recurrent_name(leaf) else {
            return Err(foreign(module, leaf, shape));
        };
        if cell && !CELL.contains(leaf) {
            return Err(format!("tensor {}: expected a cell's, which have no _l0; found others", name(leaf)));
        }
        // Missing layers are found below, tensor by tensor; a hostile number must not make that take long.
        if layer >= tensors.len() {
            return Err(format!("tensor {}: layers before it are missing", name(leaf)));
        }
        layers = layers.max(layer + 1);
        bidirectional |= reverse;
        biases |= kind.starts_with("bias");
        projected |= kind == "weight_hr";
    }
    let matrix = |leaf: &str| match tensors.get(leaf).copied() {
        Some(&[rows, columns]) if rows > 0 && columns > 0 => Ok((rows, columns)),
        Some(found) => Err(format!("tensor {}: expected rows and columns, found {found:?}", name(leaf))),
        None => Err(format!("tensor {} is missing", name(leaf))),
    };
    let of_first = |kind: &str| if cell { kind.to_owned() } else { format!("{kind}_l0") };
    let (rows, recurrent_width) = matrix(&of_first("weight_hh"))?;
    let input = matrix(&of_first("weight_ih"))?.1;
    let hidden = if projected { matrix("weight_hr_l0")?.1 } else { recurrent_width };
    let gates = match (rows % hidden, rows / hidden) {
        (0, 4) => 4,
        (0, gates @ (1 | 3)) if !projected => gates,
        _ => {
            let expected = if projected {
                "4 (LSTM, since there is a weight_hr)"
            } else {
                "1 (RNN), 3 (GRU) or 4 (LSTM)"
            };
            return Err(format!(
                "tensor {}: expected {expected} times {hidden} rows, found {rows}",
                name(&of_first("weight_hh"))
            ));
        }
    };
    let projection = projected.then_some(recurrent_width);
    let stack = Stack { gates, input, hidden, projection, layers, bidirectional, biases, cell };
    // Checks that the module has these tensors and no others.
    let mut expected = 0;
    for layer in 0..layers {
        let input = if layer == 0 { input } else { stack.output() };
        for reverse in if bidirectional { &["", "_reverse"][..] } else { &[""] } {
            for (kind, shape) in [
                ("weight_ih", vec![rows, input]),
                ("weight_hh", vec![rows, recurrent_width]),
                ("bias_ih", vec![rows]),
                ("bias_hh", vec![rows]),
                ("weight_hr", vec![recurrent_width, hidden]),
            ] {
                if kind.starts_with("bias") && !biases || kind == "weight_hr" && !projected {
                    continue;
                }
                let leaf = stack.leaf(kind, layer, reverse);
                match tensors.get(leaf.as_str()) {
                    Some(found) if *found == shape => expected += 1,
                    Some(found) => {
                        return Err(format!("tensor {}: expected {shape:?}, found {found:?}", name(&leaf)));
                    }
                    None => return Err(format!("tensor {} {shape:?} is missing", name(&leaf))),
                }
            }
        }
    }
    assert_eq!(expected, tensors.len(), "every recurrent name below the number of layers is looked for");
    Ok(stack)
}
