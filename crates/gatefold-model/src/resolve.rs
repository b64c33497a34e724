//! Resolves configured layers to layers of known widths and parameters, or refuses them.

use crate::graph::{self, Graph, HandOver, Route};
use crate::layer::place;
use crate::parameter_names::{
    Names, conv_parameters, dense_parameters, embedding_parameters, normalise_parameters,
    recurrent_parameters,
};
use crate::recurrent_config::Options;
use crate::{
    Activation, Bridge, Cell, Conv1d, Direction, GruCell, Init, InitialState, Layer, LayerConfig, LayerKind,
    LayerNorm, Merge, ModelError, ParallelConfig, ParameterSpec, Pooling, Recurrent, Reset, Role, Timeline,
};

/// The largest width: widths and token numbers travel as f32 in places, and products of two of them must be countable.
const MAX_WIDTH: usize = 1 << 24;
/// The longest reach of a skip connection and the longest expansion: far above any use, and countable.
const MAX_STEPS: usize = 1 << 24;
/// The most branches within each other: readers of JSON go no deeper than 128 lists and objects, of which each takes three.
const MAX_DEPTH: usize = 16;

/// Works out widths, owners and parameter names from the first layer to the last, then how the layers are connected.
pub(crate) fn resolve(input: usize, configs: &[LayerConfig]) -> Result<(Vec<Layer>, Graph), ModelError> {
    let refuse = |problem: String| Err(ModelError::Config { place: "network".into(), problem });
    if let Some(problem) = width_problem(input) {
        return refuse(format!("the input {problem}"));
    }
    if configs.is_empty() {
        return refuse("there are no layers; add at least one".into());
    }
    let (layers, routes, path) = (Vec::with_capacity(configs.len()), Vec::new(), Vec::new());
    let mut resolver = Resolver { input, layers, routes, path, names: Names::default() };
    resolver.sequence(configs, Arriving { from: None, depth: 0 })?;
    let Resolver { mut layers, routes, .. } = resolver;
    let hand_overs = graph::hand_overs(&layers);
    add_bridge(&mut layers, &hand_overs)?;
    let graph = Graph::new(&layers, &routes, hand_overs);
    Ok((layers, graph))
}

/// The layers resolved so far, those of branches one branch after another.
struct Resolver {
    input: usize,
    layers: Vec<Layer>,
    routes: Vec<Route>,
    /// The layers on the way from the network's input to the next layer, without those of other branches.
    path: Vec<usize>,
    names: Names,
}

/// The value that arrives at a layer.
#[derive(Clone, Copy)]
struct Arriving {
    /// The layer whose output it is; `None` for the network's input.
    from: Option<usize>,
    /// The number of parallel branches around it, each within the next.
    depth: usize,
}

impl Resolver {
    /// Resolves layers that come one after another; returns the last of them, or what arrived if there are none.
    fn sequence(
        &mut self,
        configs: &[LayerConfig],
        mut arriving: Arriving,
    ) -> Result<Option<usize>, ModelError> {
        for config in configs {
            let (layer, branches) = match config {
                LayerConfig::Parallel(parallel) => self.parallel(parallel, arriving)?,
                _ => (self.layer(config, arriving)?, Vec::new()),
            };
            if let Some(problem) = problem(self, &layer, arriving) {
                return Err(ModelError::Config { place: layer.place(), problem });
            }
            self.routes.push(Route { arriving: arriving.from, branches });
            arriving.from = Some(layer.index);
            self.path.push(layer.index);
            self.layers.push(layer);
        }
        Ok(arriving.from)
    }

    /// The layer whose output this value is.
    fn before(&self, arriving: Arriving) -> Option<&Layer> {
        arriving.from.map(|from| &self.layers[from])
    }

    /// Width and time axis of a value.
    fn value(&self, from: Option<usize>) -> (usize, Timeline) {
        from.map_or((self.input, Timeline::Input), |from| {
            (self.layers[from].output, self.layers[from].timeline)
        })
    }

    /// Resolves branches; returns the layer that joins them, and where each of them ends.
    fn parallel(
        &mut self,
        ParallelConfig { merge, branches }: &ParallelConfig,
        arriving: Arriving,
    ) -> Result<(Layer, Vec<Option<usize>>), ModelError> {
        let (path, name) = (self.path.len(), LayerKind::Merge(*merge).name());
        if arriving.depth == MAX_DEPTH {
            let problem = format!("branches are nested more than {MAX_DEPTH} deep; expected fewer");
            return Err(ModelError::Config { place: place(self.layers.len(), name), problem });
        }
        let mut ends = Vec::with_capacity(branches.len());
        for branch in branches {
            self.names.break_stack();
            ends.push(self.sequence(branch, Arriving { depth: arriving.depth + 1, ..arriving })?);
            self.path.truncate(path);
        }
        self.names.break_stack();
        let (index, kind) = (self.layers.len(), LayerKind::Merge(*merge));
        let refuse = |problem| Err(ModelError::Config { place: place(index, name), problem });
        if ends.len() < 2 {
            return refuse(format!("its number of branches is {}; expected 2 or more", ends.len()));
        }
        let mut empty = (0..branches.len()).filter(|&branch| branches[branch].is_empty());
        if let (Some(first), Some(second)) = (empty.next(), empty.next()) {
            return refuse(format!(
                "branches {first} and {second} have no layers; expected at most one such branch"
            ));
        }
        let values: Vec<(usize, Timeline)> = ends.iter().map(|&end| self.value(end)).collect();
        let (width, timeline) = values[0];
        let shape =
            |(width, timeline): (usize, Timeline)| format!("{} of {width} values", timeline.describe());
        for (branch, &value) in values.iter().enumerate().skip(1) {
            let expected = match merge {
                _ if value.1 != timeline => "equal time axes",
                Merge::Sum if value.0 != width => "equal widths",
                Merge::Sum | Merge::Concatenate => continue,
            };
            let (found, first) = (shape(value), shape(values[0]));
            return refuse(format!(
                "branch 0 ends with {first}, branch {branch} with {found}; expected {expected}"
            ));
        }
        let output = match merge {
            Merge::Sum => width,
            Merge::Concatenate => values.iter().map(|(width, _)| width).sum(),
        };
        let (input, _) = self.value(arriving.from);
        Ok((Layer { index, kind, owner: index, input, output, timeline, parameters: Vec::new() }, ends))
    }

    /// Resolves a layer that has no branches.
    fn layer(&mut self, config: &LayerConfig, arriving: Arriving) -> Result<Layer, ModelError> {
        let (width, timeline) = self.value(arriving.from);
        let before = arriving.from.map(|from| &self.layers[from]);
        resolve_layer(config, (width, timeline), before, &self.layers, &mut self.names)
    }
}

/// Resolves a layer that reads a value of this width and time axis, the output of layer `before`; `earlier` are all
/// layers so far.
fn resolve_layer(
    config: &LayerConfig,
    (width, timeline): (usize, Timeline),
    before: Option<&Layer>,
    earlier: &[Layer],
    names: &mut Names,
) -> Result<Layer, ModelError> {
    let index = earlier.len();
    let plain = |kind: LayerKind, output: usize, parameters: Vec<ParameterSpec>| Layer {
        index,
        kind,
        owner: index,
        input: width,
        output,
        timeline,
        parameters,
    };
    let single = |layer: Layer| Layer { timeline: Timeline::Single, ..layer };
    let mut recurrent = |recurrent: Recurrent, options: &Options| {
        let name = names.recurrent(&recurrent);
        let parameters = recurrent_parameters(&name, width, &recurrent, options);
        plain(LayerKind::Recurrent(recurrent), recurrent.output(), parameters)
    };
    let layer = match config {
        LayerConfig::Rnn(rnn) => recurrent(rnn.resolve(), &rnn.options),
        LayerConfig::Lstm(lstm) => recurrent(lstm.resolve(), &lstm.options),
        LayerConfig::Gru(gru) => recurrent(gru.resolve(), &gru.options),
        LayerConfig::Custom(custom) => recurrent(custom.resolve(), &custom.options),
        LayerConfig::Dense(dense) => {
            let parameters = dense_parameters(&names.dense(), width, dense);
            let kind = LayerKind::Dense { activation: dense.activation, bias: dense.bias };
            plain(kind, dense.output, parameters)
        }
        LayerConfig::Conv1d(conv) => {
            let parameters = conv_parameters(&names.conv(), width, conv);
            let resolved = conv.resolve();
            let timeline = timeline.convolved(&resolved);
            Layer { timeline, ..plain(LayerKind::Conv1d(resolved), conv.output, parameters) }
        }
        LayerConfig::Embedding(embedding) => {
            let parameters = embedding_parameters(&names.embedding(), embedding);
            plain(LayerKind::Embedding { tokens: embedding.tokens }, embedding.output, parameters)
        }
        LayerConfig::Dropout { rate } => plain(LayerKind::Dropout { rate: *rate }, width, Vec::new()),
        LayerConfig::Softmax => plain(LayerKind::Softmax, width, Vec::new()),
        LayerConfig::Normalise { epsilon } => {
            let parameters = normalise_parameters(&names.normalise(), width);
            plain(LayerKind::Normalise { epsilon: *epsilon }, width, parameters)
        }
        LayerConfig::Residual { from } => plain(LayerKind::Residual { from: *from }, width, Vec::new()),
        LayerConfig::LastStep => single(plain(LayerKind::LastStep, width, Vec::new())),
        LayerConfig::MaxPool => single(plain(LayerKind::Pool(Pooling::Max), width, Vec::new())),
        LayerConfig::MeanPool => single(plain(LayerKind::Pool(Pooling::Mean), width, Vec::new())),
        LayerConfig::FinalState => {
            let output = before
                .and_then(Layer::recurrent)
                .map_or(width, |recurrent| recurrent.direction.scans().len() * recurrent.recurrent_width());
            single(plain(LayerKind::FinalState, output, Vec::new()))
        }
        LayerConfig::Expand { steps, fill } => Layer {
            timeline: Timeline::Expanded(*steps),
            ..plain(LayerKind::Expand { steps: *steps, fill: *fill }, width, Vec::new())
        },
        LayerConfig::Decoder(decoder) => Layer {
            timeline: Timeline::Decoder,
            ..plain(LayerKind::Decoder { bridge: decoder.bridge }, decoder.input, Vec::new())
        },
        LayerConfig::Tied { to } => {
            let refuse = |problem| Err(ModelError::Config { place: place(index, "tied"), problem });
            let Some(tied) = earlier.get(*to) else {
                let last = index.max(1) - 1;
                return refuse(format!("it is tied to layer {to}; expected a layer before it, 0 to {last}"));
            };
            if tied.parameters.is_empty() {
                return refuse(format!("{} has no parameters to share; write it again", tied.place()));
            }
            if tied.input != width {
                return refuse(format!(
                    "its input is {width} wide, but {} takes {}",
                    tied.place(),
                    tied.input
                ));
            }
            let timeline = match &tied.kind {
                LayerKind::Conv1d(conv) => timeline.convolved(conv),
                _ => timeline,
            };
            Layer { index, timeline, ..tied.clone() }
        }
        LayerConfig::Parallel(_) => unreachable!("branches are resolved one by one"),
    };
    // PyTorch writes the dropout between the layers of a stack into the stack.
    let keeps_stack = matches!(layer.kind, LayerKind::Recurrent(_) | LayerKind::Dropout { .. });
    if !keeps_stack || matches!(config, LayerConfig::Tied { .. }) {
        names.break_stack();
    }
    Ok(layer)
}

fn width_problem(width: usize) -> Option<String> {
    match width {
        0 => Some("width is 0; expected at least 1".into()),
        width if width > MAX_WIDTH => Some(format!("width is {width}; expected at most {MAX_WIDTH}")),
        _ => None,
    }
}

/// The problem with the next layer, if there is one.
fn problem(resolver: &Resolver, layer: &Layer, arriving: Arriving) -> Option<String> {
    let (earlier, before) = (&resolver.layers, resolver.before(arriving));
    if let Some(problem) = width_problem(layer.output) {
        return Some(format!("its {problem}"));
    }
    for spec in &layer.parameters {
        if let Init::Sparse { connections: 0, .. } = spec.init {
            return Some(format!("{} is initialised with 0 connections; expected 1 or more", spec.name));
        }
        if let Init::Constant(value) | Init::Normal(value) | Init::Sparse { std: value, .. } = spec.init
            && !value.is_finite()
        {
            return Some(format!("{} is initialised with {value}; expected a finite number", spec.name));
        }
        if let Init::Normal(std) | Init::Sparse { std, .. } = spec.init
            && std < 0.0
        {
            let name = &spec.name;
            return Some(format!(
                "{name} is initialised with a standard deviation of {std}; expected 0 or more"
            ));
        }
    }
    let decoder = earlier.iter().position(|layer| matches!(layer.kind, LayerKind::Decoder { .. }));
    let in_decoder = decoder.is_some();
    let (width, timeline) = resolver.value(arriving.from);
    match layer.kind {
        LayerKind::Recurrent(recurrent) => recurrent_problem(&recurrent, in_decoder),
        LayerKind::Dense { activation, .. } => activation.problem(),
        LayerKind::Conv1d(conv) => conv_problem(&conv, layer.input, timeline, in_decoder),
        LayerKind::Embedding { tokens } => {
            let first = before.is_none_or(|before| matches!(before.kind, LayerKind::Decoder { .. }));
            if !(1..=MAX_WIDTH).contains(&tokens) {
                return Some(format!("it has {tokens} tokens; expected 1 to {MAX_WIDTH}"));
            }
            if !first || arriving.depth > 0 {
                return Some("it reads token numbers; expected it before all other layers".into());
            }
            (width != 1).then(|| format!("its input is {width} wide; expected 1, the token's number"))
        }
        LayerKind::Dropout { rate } => (!(0.0..1.0).contains(&rate))
            .then(|| format!("the rate is {rate}; expected at least 0 and below 1")),
        LayerKind::Softmax => None,
        LayerKind::Normalise { epsilon } => (!(epsilon > 0.0 && epsilon.is_finite()))
            .then(|| format!("its epsilon is {epsilon}; expected a finite number above 0")),
        LayerKind::Residual { from } => {
            let Some(source) = earlier.get(from) else {
                return Some(format!("it adds the input of layer {from}; expected a layer before it"));
            };
            if !resolver.path.contains(&from) {
                return Some(format!("it adds the input of {}, which is in another branch", source.place()));
            }
            if decoder.is_some_and(|decoder| from <= decoder) {
                return Some(format!("it adds the input of {}, which belongs to the encoder", source.place()));
            }
            let (_, source_timeline) = resolver.value(resolver.routes[from].arriving);
            if source.input != width {
                let problem = format!("it adds {width} values and the {} of {}", source.input, source.place());
                return Some(format!("{problem}; expected equal widths"));
            }
            (source_timeline != timeline)
                .then(|| format!("its time axis is not that of the input of {}", source.place()))
        }
        LayerKind::LastStep | LayerKind::FinalState | LayerKind::Pool(_) if timeline == Timeline::Single => {
            Some("there is only one step already; remove this layer".into())
        }
        LayerKind::LastStep => None,
        LayerKind::Pool(_) => {
            in_decoder.then(|| "a decoder runs step by step; expected pooling before it".into())
        }
        LayerKind::FinalState => before
            .is_none_or(|before| before.recurrent().is_none())
            .then(|| "it keeps the final state of the layer before it; expected a recurrent one there".into()),
        LayerKind::Expand { steps, .. } => {
            if !(1..=MAX_STEPS).contains(&steps) {
                return Some(format!("it makes {steps} steps; expected 1 to {MAX_STEPS}"));
            }
            // The network's input may be one step, which is only known when it arrives.
            (timeline != Timeline::Single && (before.is_some() || arriving.depth > 0))
                .then(|| "it expands one step; expected it first, or after a last step or final state".into())
        }
        LayerKind::Decoder { .. } if arriving.depth > 0 => {
            Some("a decoder begins the second half of a network; expected it outside of branches".into())
        }
        LayerKind::Decoder { .. } if in_decoder => Some("there is a decoder already; remove one".into()),
        LayerKind::Decoder { .. } => before.is_none_or(|before| before.recurrent().is_none()).then(|| {
            "a decoder takes the states of recurrent layers; expected a recurrent layer as the encoder's last".into()
        }),
        LayerKind::Merge(_) => None,
    }
}

/// The problem with a convolution of this input width on this time axis, if there is one.
fn conv_problem(conv: &Conv1d, width: usize, timeline: Timeline, in_decoder: bool) -> Option<String> {
    let Conv1d { kernel, stride, dilation, left, right, activation, .. } = *conv;
    for (name, steps) in [("kernel", kernel), ("stride", stride), ("dilation", dilation)] {
        if !(1..=MAX_STEPS).contains(&steps) {
            return Some(format!("its {name} is {steps}; expected 1 to {MAX_STEPS} steps"));
        }
    }
    let reach = conv.reach();
    if reach > MAX_STEPS {
        return Some(format!("each output step reads from {reach} steps; expected at most {MAX_STEPS}"));
    }
    if let Some(padding) = [left, right].into_iter().find(|&padding| padding > MAX_STEPS) {
        return Some(format!("its padding is {padding}; expected at most {MAX_STEPS} steps"));
    }
    let values = kernel.saturating_mul(width);
    if values > MAX_WIDTH {
        return Some(format!("each output step reads {values} values; expected at most {MAX_WIDTH}"));
    }
    if in_decoder {
        return Some("a decoder runs step by step; expected convolutions before it".into());
    }
    let known = match timeline {
        Timeline::Single => Some(1),
        Timeline::Expanded(steps) => Some(steps),
        Timeline::Input | Timeline::Convolved(_) | Timeline::Decoder => None,
    };
    let least = conv.least();
    known
        .filter(|&steps| steps < least)
        .map(|steps| {
            format!("each output step reads {reach} steps; expected at least {least}, found {steps}")
        })
        .or_else(|| activation.problem())
}

/// The problem with the options of a recurrent layer, if there is one.
fn recurrent_problem(recurrent: &Recurrent, in_decoder: bool) -> Option<String> {
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
        ..
    } = *recurrent;
    for (name, width) in
        [("", Some(hidden)), ("projection ", projection), ("feedback ", feedback.map(|y| y.output))]
    {
        if let Some(problem) = width.and_then(width_problem) {
            return Some(format!("its {name}{problem}"));
        }
    }
    let functions = cell.activations().into_iter().chain(reverse_cell.activations());
    let functions = functions.chain(feedback.map(|feedback| feedback.activation));
    if let Some(problem) = functions.into_iter().find_map(Activation::problem) {
        return Some(problem);
    }
    if !recurrent.forget_bias.is_finite() {
        return Some(format!("the forget bias is {}; expected a finite number", recurrent.forget_bias));
    }
    if let Some(bound) = clip
        && !(bound > 0.0 && bound.is_finite())
    {
        return Some(format!("pre-activations are clipped at {bound}; expected a finite number above 0"));
    }
    if clip.is_some() && matches!(cell, Cell::Custom(_)) {
        return Some("a clip is not available with a custom cell; clip in the cell's own functions".into());
    }
    if let InitialState::Constant(value) = initial
        && !value.is_finite()
    {
        return Some(format!("its initial states are {value}; expected a finite number"));
    }
    if let Some(k) = skip
        && !(2..=MAX_STEPS).contains(&k)
    {
        return Some(format!(
            "it skips {k} steps; expected 2 to {MAX_STEPS}, since every layer recurs from h(t-1) already"
        ));
    }
    if !(1..=MAX_STEPS).contains(&dilation) {
        return Some(format!("its dilation is {dilation}; expected 1 to {MAX_STEPS}"));
    }
    if recurrent.is_dilated() && skip.is_some() {
        return Some("dilation and skip are two reaches of one recurrence; choose one".into());
    }
    if recurrent.is_dilated() && feedback.is_some() {
        return Some(
            "feedback reads the output of the step before, which a dilated layer does not; use dilation 1"
                .into(),
        );
    }
    let resets_before = matches!(cell, Cell::Gru(GruCell { reset: Reset::Before, .. }));
    if resets_before && skip.is_some() {
        return Some("Reset::Before is not available with a skip connection; use Reset::After".into());
    }
    if projection.is_some() && feedback.is_some() {
        return Some("projection and feedback are two readouts of one layer; choose one".into());
    }
    if let Some(problem) = dressing_problem(recurrent) {
        return Some(problem);
    }
    let two_ways = direction.scans().len() == 2;
    if feedback.is_some() && two_ways {
        return Some(
            "feedback reads the output of the step before, which differs between two directions; use one direction".into(),
        );
    }
    if reverse_cell != cell && direction == Direction::Forward {
        return Some(
            "it has activations for a reverse scan but only runs forward; choose a direction".into(),
        );
    }
    if in_decoder && direction != Direction::Forward {
        return Some("a decoder runs step by step; expected direction forward".into());
    }
    if in_decoder && initial != InitialState::Zeros {
        return Some("it takes its initial states from the encoder; expected none of its own".into());
    }
    None
}

/// The problem with layer normalisation or noise, if there is one.
fn dressing_problem(recurrent: &Recurrent) -> Option<String> {
    let Recurrent { cell, norm, noise, .. } = *recurrent;
    if let Some(problem) = noise.problem() {
        return Some(problem);
    }
    if let Some(LayerNorm { epsilon }) = norm
        && !(epsilon > 0.0 && epsilon.is_finite())
    {
        return Some(format!("layer norm's epsilon is {epsilon}; expected a finite number above 0"));
    }
    if noise.zoneout_cell > 0.0 && !cell.has_state() {
        return Some(format!("{} has no cell state; expected zoneout of h only", cell.name()));
    }
    if noise.candidate > 0.0 && matches!(cell, Cell::Rnn { .. }) {
        return Some("a vanilla cell has no candidate to drop; use recurrent dropout".into());
    }
    let option = norm.map(|_| "layer norm").or(noise.in_steps())?;
    let refused = if matches!(cell, Cell::Gru(GruCell { reset: Reset::Before, .. })) {
        "Reset::Before; use Reset::After"
    } else if matches!(cell, Cell::Custom(_)) {
        "a custom cell; use dropout between layers, or DropConnect"
    } else if recurrent.skip.is_some() {
        "a skip connection; choose one"
    } else if recurrent.is_dilated() {
        "dilation; use dilation 1"
    } else if recurrent.feedback.is_some() {
        "feedback; choose one"
    } else if recurrent.projection.is_some() {
        "a projection; use a dense layer after it"
    } else {
        return None;
    };
    Some(format!("{option} is not available with {refused}"))
}

/// Gives the decoder the parameters of its bridge, and refuses states that do not fit without one.
fn add_bridge(layers: &mut [Layer], hand_overs: &[HandOver]) -> Result<(), ModelError> {
    let bridge_of = |layer: &Layer| match layer.kind {
        LayerKind::Decoder { bridge } => Some((layer.index, bridge)),
        _ => None,
    };
    let Some((at, bridge)) = layers.iter().find_map(bridge_of) else { return Ok(()) };
    let refuse = |problem| Err(ModelError::Config { place: layers[at].place(), problem });
    if hand_overs.is_empty() {
        return refuse("no recurrent layer after it takes the encoder's states; add one".into());
    }
    let mut parameters = Vec::new();
    for &HandOver { target, number, state, width, source, source_state, source_width } in hand_overs {
        match bridge {
            Bridge::Same if (source_state, source_width) == (state, width) => {}
            Bridge::Same => {
                let found = if source_state == state { source_width.to_string() } else { "none".into() };
                return refuse(format!(
                    "{} needs {} of width {width}, {} ends with {found}; use Bridge::Dense",
                    layers[target].place(),
                    state.name(),
                    layers[source].place()
                ));
            }
            Bridge::Dense { activation } => {
                if let Some(problem) = activation.problem() {
                    return refuse(problem);
                }
                let mut add = |name: &str, shape, role, init| {
                    let name = format!("bridge0.{name}_{}{number}", state.name());
                    parameters.push(ParameterSpec { name, shape, role, reverse: false, init });
                };
                add("weight", vec![width, source_width], Role::BridgeWeight(number, state), Init::Glorot);
                add("bias", vec![width], Role::BridgeBias(number, state), Init::Constant(0.0));
            }
        }
    }
    layers[at].parameters = parameters;
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::{DenseConfig, Expansion, LayerConfig, LstmConfig, NetworkConfig};

    fn names(config: &NetworkConfig) -> Vec<&str> {
        config.parameter_specs().map(|spec| spec.name.as_str()).collect()
    }

    fn refusal(input: usize, layers: &[LayerConfig]) -> String {
        NetworkConfig::new(input, layers).expect_err("it should be refused").to_string()
    }

    #[test]
    fn equal_consecutive_lstms_share_one_module() {
        let config = NetworkConfig::new(
            3,
            [
                LstmConfig::new(5).into(),
                LstmConfig::new(5).into(),
                LstmConfig::new(4).into(),
                DenseConfig::new(4).into(),
                LstmConfig::new(4).into(),
            ],
        )
        .unwrap();
        let first_weights: Vec<_> = names(&config)
            .into_iter()
            .filter(|name| name.contains("weight_ih") || name.contains("dense"))
            .collect();
        assert_eq!(
            first_weights,
            [
                "rnn0.weight_ih_l0",
                "rnn0.weight_ih_l1",
                "rnn1.weight_ih_l0",
                "dense0.weight",
                "dense0.bias",
                "rnn2.weight_ih_l0"
            ]
        );
    }

    #[test]
    fn a_tied_layer_adds_no_parameters() {
        let once = NetworkConfig::new(4, [LstmConfig::new(4).into()]).unwrap();
        let twice = NetworkConfig::new(4, [LstmConfig::new(4).into(), LayerConfig::Tied { to: 0 }]).unwrap();
        assert_eq!(once.parameter_count(), twice.parameter_count());
        assert_eq!(twice.layers()[1].owner, 0);
        assert_eq!(twice.layers()[1].parameters, twice.layers()[0].parameters);
    }

    #[test]
    fn refusals_name_the_layer() {
        assert_eq!(
            refusal(0, &[LayerConfig::LastStep]),
            "network: the input width is 0; expected at least 1"
        );
        assert_eq!(refusal(1, &[]), "network: there are no layers; add at least one");
        assert_eq!(
            refusal(1, &[LstmConfig::new(2).into(), DenseConfig::new(0).into()]),
            "layer 1 (dense): its width is 0; expected at least 1"
        );
        assert_eq!(
            refusal(1, &[LayerConfig::LastStep, LayerConfig::LastStep]),
            "layer 1 (last step): there is only one step already; remove this layer"
        );
        assert_eq!(
            refusal(3, &[LstmConfig::new(2).into(), LayerConfig::Tied { to: 0 }]),
            "layer 1 (tied): its input is 2 wide, but layer 0 (lstm) takes 3"
        );
        assert_eq!(
            refusal(3, &[LayerConfig::Tied { to: 0 }]),
            "layer 0 (tied): it is tied to layer 0; expected a layer before it, 0 to 0"
        );
    }

    #[test]
    fn dilations_that_contradict_other_options_are_refused() {
        let lstm = || LstmConfig::new(2);
        for (layer, problem) in [
            (lstm().dilation(0), "its dilation is 0; expected 1 to"),
            (lstm().dilation(2).skip(3), "dilation and skip are two reaches of one recurrence; choose one"),
            (
                lstm().dilation(2).feedback(1, crate::Activation::Tanh),
                "feedback reads the output of the step before, which a dilated layer does not; use dilation 1",
            ),
        ] {
            let found = refusal(1, &[layer.into()]);
            assert!(found.starts_with(&format!("layer 0 (lstm): {problem}")), "{found}");
        }
        let config = NetworkConfig::new(1, [lstm().dilation(4).into()]).unwrap();
        assert_eq!(config.to_string(), "1 -> lstm 2 dilation 4");
        let text = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<NetworkConfig>(&text).unwrap(), config);
        assert!(text.contains("\"dilation\":4"));
    }

    #[test]
    fn a_description_survives_json_and_a_broken_one_does_not() {
        let config = NetworkConfig::new(
            3,
            [LstmConfig::new(5).into(), LayerConfig::LastStep, DenseConfig::new(2).into()],
        )
        .unwrap();
        let text = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<NetworkConfig>(&text).unwrap(), config);
        let broken = text.replace("\"output\":2", "\"output\":0");
        let error = serde_json::from_str::<NetworkConfig>(&broken).unwrap_err().to_string();
        assert!(error.contains("layer 2 (dense): its width is 0"), "{error}");
    }

    #[test]
    fn a_description_has_the_names_that_files_have() {
        let expand = |fill| LayerConfig::Expand { steps: 3, fill };
        let layers = [expand(Expansion::Repeat), LayerConfig::LastStep, expand(Expansion::Zeros)];
        let config = NetworkConfig::new(4, layers).unwrap();
        let text = concat!(
            r#"{"input":4,"layers":[{"kind":"expand","steps":3,"fill":"repeat"},{"kind":"last_step"},"#,
            r#"{"kind":"expand","steps":3,"fill":"zeros"}]}"#
        );
        assert_eq!(serde_json::to_string(&config).unwrap(), text);
        assert_eq!(serde_json::from_str::<NetworkConfig>(text).unwrap(), config);
        let short = text.replace(r#","fill":"zeros""#, "");
        assert_eq!(serde_json::from_str::<NetworkConfig>(&short).unwrap(), config, "zeros are the default");
    }
}
