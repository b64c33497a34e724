//! Layers in words: folded (all time steps at once) and unrolled (one step at a time).

use super::flop::computed_gates;
use gatefold::NetworkConfig;
use gatefold::layers::{
    Activation, Bridge, Direction, Expansion, LayerKind, LayerNorm, Merge, Pooling, Recurrent,
};
use gatefold_model::{Layer, Source, StateKind, Timeline};

/// A network applied to a batch of a certain shape.
#[derive(Clone, Copy)]
pub(super) struct Shaped<'a> {
    pub(super) config: &'a NetworkConfig,
    pub(super) steps: usize,
    /// Steps of the decoder's own input; ignored in a network without a decoder.
    pub(super) decoder_steps: usize,
    pub(super) batch: usize,
}

impl Shaped<'_> {
    /// Time steps of a timeline.
    fn steps_on(&self, timeline: Timeline) -> usize {
        timeline.steps(if timeline == Timeline::Decoder { self.decoder_steps } else { self.steps })
    }

    /// Time steps that a layer computes.
    pub(super) fn steps_of(&self, layer: &Layer) -> usize {
        match layer.kind {
            // Done once: these look at the end of a sequence or at all of it, or make a sequence from a single step.
            LayerKind::LastStep | LayerKind::FinalState | LayerKind::Pool(_) | LayerKind::Expand { .. } => 1,
            LayerKind::Decoder { .. } => 1,
            LayerKind::Conv1d(_) => self.steps_on(layer.timeline),
            _ => self.steps_into(layer),
        }
    }

    /// Steps of all scans of a layer together.
    pub(super) fn scanned(&self, layer: &Layer) -> usize {
        let scans = layer.recurrent().map_or(0, |recurrent| recurrent.direction.scans().len());
        self.steps_of(layer).saturating_mul(scans)
    }

    /// Time steps that a layer is given.
    fn steps_into(&self, layer: &Layer) -> usize {
        let read = self.config.graph().node(layer.index).inputs.first();
        self.steps_on(match read {
            None | Some(Source::Input) => Timeline::Input,
            Some(Source::DecoderInput) => Timeline::Decoder,
            Some(Source::Output(of) | Source::FinalHidden(of)) => self.config.layers()[*of].timeline,
        })
    }

    /// The steps of the network's input.
    pub(super) fn input_steps(&self) -> usize {
        let layers = self.config.layers();
        let expands = layers.first().is_some_and(|layer| matches!(layer.kind, LayerKind::Expand { .. }));
        if expands { 1 } else { self.steps }
    }

    /// The shape `[T, B, O]` of a layer's output.
    pub(super) fn shape(&self, layer: &Layer) -> String {
        format!("[{}, {}, {}]", self.steps_on(layer.timeline), self.batch, layer.output)
    }

    /// The shape `[T, B, I]` of the network's input.
    pub(super) fn input(&self) -> String {
        let (layers, steps) = (self.config.layers(), self.input_steps());
        let of_tokens = if reads_tokens(layers.first()) { " token numbers" } else { "" };
        format!("[{steps}, {}, {}]{of_tokens}", self.batch, self.config.input())
    }

    /// The output of a layer, all steps together.
    pub(super) fn folded(&self, layer: &Layer) -> String {
        let mut text = self.shape(layer);
        match layer.kind {
            LayerKind::Recurrent(recurrent) => {
                let whole = recurrent.to_string();
                let plain = format!("{} {}", recurrent.cell.name(), recurrent.hidden);
                text += whole.strip_prefix(&plain).unwrap_or_default();
            }
            LayerKind::Dense { activation, bias } => {
                if activation != Activation::Identity {
                    text += &format!(" {activation}");
                }
                if !bias {
                    text += " no bias";
                }
            }
            LayerKind::Conv1d(conv) => text += &format!(" {conv}"),
            LayerKind::Embedding { tokens } => text += &format!(" of {tokens} tokens"),
            LayerKind::Dropout { rate } => text += &format!(" rate {rate}"),
            LayerKind::Normalise { epsilon } if epsilon != LayerNorm::default().epsilon => {
                text += &format!(" with epsilon {epsilon}");
            }
            LayerKind::Residual { from } => text += &format!(" with the input of layer {from}"),
            LayerKind::Merge(_) => text += &format!(" of {}", self.read_by(layer)),
            LayerKind::Decoder { .. } => {
                let next = self.config.layers().get(layer.index + 1);
                let what = if reads_tokens(next) { "token numbers, the decoder's" } else { "the decoder's" };
                text += &format!(" {what} own input");
            }
            _ => {}
        }
        if !matches!(layer.kind, LayerKind::Merge(_)) && self.begins_branch(layer) {
            text += &format!(" reads {}", self.read_by(layer));
        }
        if layer.owner != layer.index {
            text += &format!(" as layer {}", layer.owner);
        }
        text
    }

    /// Whether the first value that a layer reads is not that of the layer listed before it.
    fn begins_branch(&self, layer: &Layer) -> bool {
        match self.config.graph().node(layer.index).inputs.first() {
            Some(Source::Output(of) | Source::FinalHidden(of)) => of + 1 != layer.index,
            Some(Source::Input) => layer.index != 0,
            Some(Source::DecoderInput) => self.config.decoder().is_some_and(|at| at + 1 != layer.index),
            None => false,
        }
    }

    /// The values that a layer reads: `the input`, `layers 1, 3`.
    fn read_by(&self, layer: &Layer) -> String {
        let inputs = &self.config.graph().node(layer.index).inputs;
        let name = |source: &Source| match source {
            Source::Input => "the input".into(),
            Source::DecoderInput => "the decoder's input".into(),
            Source::Output(of) | Source::FinalHidden(of) => format!("layer {of}"),
        };
        let inputs = if let LayerKind::Merge(_) = layer.kind { &inputs[..] } else { &inputs[..1] };
        inputs.iter().map(name).collect::<Vec<String>>().join(", ")
    }

    /// The work of a layer in one step: one line or, with two scans, three.
    pub(super) fn unrolled(&self, layer: &Layer) -> Vec<String> {
        let batch = self.batch;
        let (input, output) = (format!("[{batch}, {}]", layer.input), format!("[{batch}, {}]", layer.output));
        let when = when(self.steps_of(layer), false);
        match layer.kind {
            LayerKind::Recurrent(recurrent) => self.scans(layer, &recurrent),
            LayerKind::Dropout { .. } => {
                vec![format!("{when}: {input} -> {output}, some of them zeroed in training")]
            }
            LayerKind::Residual { from } => {
                vec![format!("{when}: {input} + the input of layer {from} -> {output}")]
            }
            LayerKind::Conv1d(conv) => {
                let (reach, every) = (conv.reach(), conv.stride);
                let read = if conv.dilation == 1 {
                    format!("{} steps of {input}", conv.kernel)
                } else {
                    format!("{} of {reach} steps of {input}", conv.kernel)
                };
                let moves =
                    if every == 1 { String::new() } else { format!(", {every} steps further each time") };
                vec![format!("{when}: {read} -> {output}{moves}")]
            }
            LayerKind::Merge(merge) => {
                let how = match merge {
                    Merge::Sum => "added",
                    Merge::Concatenate => "side by side",
                };
                vec![format!("{when}: {} {how} -> {output}", self.read_by(layer))]
            }
            LayerKind::Embedding { .. } => vec![format!("{when}: a row of the table -> {output}")],
            LayerKind::Pool(pooling) => {
                let (steps, what) = (
                    self.steps_into(layer),
                    match pooling {
                        Pooling::Max => "the largest values",
                        Pooling::Mean => "the means",
                    },
                );
                vec![format!("once: {what} of {steps} steps of {input} -> {output}")]
            }
            LayerKind::LastStep => {
                let last = self.steps_into(layer);
                vec![format!("t = {last}: {input} is passed on, earlier steps are dropped")]
            }
            LayerKind::FinalState => {
                let which = match self.config.graph().node(layer.index).inputs[..] {
                    [Source::FinalHidden(of)] => self.config.layers()[of].recurrent(),
                    _ => None,
                };
                let ways = which.map_or(1, |recurrent| recurrent.direction.scans().len());
                let whose =
                    if ways == 2 { "h of both scans' last steps" } else { "h of the scan's last step" };
                vec![format!("once: {whose} -> {output}")]
            }
            LayerKind::Expand { steps, fill } => {
                let others = if fill == Expansion::Repeat { "copies of it" } else { "zeros" };
                vec![format!("once: {input} is step 1 of {steps}; the others are {others}")]
            }
            LayerKind::Decoder { bridge } => self.bridges(layer, bridge),
            _ => vec![format!("{when}: {input} -> {output}")],
        }
    }

    fn scans(&self, layer: &Layer, recurrent: &Recurrent) -> Vec<String> {
        let one = |&reverse: &bool| {
            let when = when(self.steps_of(layer), reverse);
            format!("{when}: {}", scan(recurrent, layer.input, self.batch, reverse))
        };
        let scans = recurrent.direction.scans();
        if scans.len() == 1 {
            return scans.iter().map(one).collect();
        }
        let mut lines: Vec<String> = scans.iter().map(one).collect();
        let how = if recurrent.direction == Direction::Bidirectional { "side by side" } else { "added" };
        lines.push(format!("both {how}: [{}, {}]", self.batch, layer.output));
        lines
    }

    /// How final states of the encoder become initial states of the decoder.
    fn bridges(&self, decoder: &Layer, bridge: Bridge) -> Vec<String> {
        let (before, after): (Vec<&Layer>, Vec<&Layer>) =
            self.config.recurrent_layers().partition(|layer| layer.index < decoder.index);
        let states = [StateKind::Hidden, StateKind::Cell];
        let pairs = after.iter().enumerate().flat_map(|(j, target)| {
            // Layer j starts from layer j, or from the last one; c starts from h where there is no c.
            let source = before.get(j).or(before.last());
            states.into_iter().filter_map(move |state| Some((source?, *target, state)))
        });
        let lines = pairs.filter_map(|(source, target, state)| {
            let width = state_width(target, state)?;
            let given = if state_width(source, state).is_some() { state } else { StateKind::Hidden };
            let from = state_width(source, given)?;
            let function = match bridge {
                Bridge::Dense { activation: Activation::Identity } => " dense".into(),
                Bridge::Dense { activation } => format!(" dense {activation}"),
                Bridge::Same => String::new(),
            };
            Some(format!(
                "once: last {} of layer {} [{batch}, {from}] ->{function} first {} of layer {} [{batch}, {width}]",
                given.name(),
                source.index,
                state.name(),
                target.index,
                batch = self.batch
            ))
        });
        lines.collect()
    }
}

fn reads_tokens(layer: Option<&Layer>) -> bool {
    layer.is_some_and(|layer| matches!(layer.kind, LayerKind::Embedding { .. }))
}

fn when(steps: usize, reverse: bool) -> String {
    match (steps, reverse) {
        (1, _) => "once".into(),
        (steps, false) => format!("t = 1 .. {steps}"),
        (steps, true) => format!("t = {steps} .. 1"),
    }
}

/// `x(t) [7, 3], h(t-1) and c(t-1) [7, 5] -> gates 4 x [7, 5] -> c(t), h(t)`
fn scan(recurrent: &Recurrent, input: usize, batch: usize, reverse: bool) -> String {
    let cell = recurrent.cell_of(reverse);
    let (hidden, width) = (recurrent.hidden, recurrent.recurrent_width());
    let ago = |steps: usize| if reverse { format!("t+{steps}") } else { format!("t-{steps}") };
    let shape = |width: usize| format!("[{batch}, {width}]");

    let mut read = vec![format!("x(t) {}", shape(input))];
    let before = recurrent.dilation;
    let mut states = vec![format!("h({})", ago(before))];
    states.extend(recurrent.skip.map(|k| format!("h({})", ago(k))));
    if cell.has_state() && width == hidden {
        states.push(format!("c({})", ago(before)));
    }
    read.push(format!("{} {}", listed(&states), shape(width)));
    if cell.has_state() && width != hidden {
        read.push(format!("c({}) {}", ago(before), shape(hidden)));
    }
    read.extend(recurrent.feedback.map(|y| format!("y({}) {}", ago(1), shape(y.output))));

    let gates = computed_gates(cell);
    let mut text = read.join(", ");
    if gates > 1 {
        text += &format!(" -> gates {gates} x {}", shape(hidden));
    }
    if cell.has_state() {
        text += " -> c(t)";
        text += if recurrent.projection.is_some() { " -> " } else { ", " };
    } else {
        text += " -> ";
    }
    text += "h(t)";
    text += &match (recurrent.projection, recurrent.feedback) {
        (Some(width), _) => format!(" {}", shape(width)),
        (_, Some(feedback)) => format!(" -> y(t) {}", shape(feedback.output)),
        _ if gates == 1 => format!(" {}", shape(hidden)),
        _ => String::new(),
    };
    text
}

/// `a`, `a and b`, `a, b and c`
fn listed(words: &[String]) -> String {
    match words {
        [first @ .., last] if !first.is_empty() => format!("{} and {last}", first.join(", ")),
        words => words.concat(),
    }
}

/// The width of the states of all scans together.
fn state_width(layer: &Layer, state: StateKind) -> Option<usize> {
    let recurrent = layer.recurrent()?;
    let scans = recurrent.direction.scans().len();
    match state {
        StateKind::Hidden => Some(scans * recurrent.recurrent_width()),
        StateKind::Cell => recurrent.cell.has_state().then_some(scans * recurrent.hidden),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gatefold::layers::{
        Conv1dConfig, Coupling, DecoderConfig, DenseConfig, EmbeddingConfig, GruConfig, LayerConfig,
        LstmConfig, ParallelConfig, RnnConfig, branch,
    };

    /// The lines of every layer for seven rows of eleven steps, six for a decoder's.
    fn lines(input: usize, stack: &[LayerConfig]) -> (Vec<String>, Vec<Vec<String>>) {
        let config = &NetworkConfig::new(input, stack).unwrap();
        let shaped = Shaped { config, steps: 11, decoder_steps: 6, batch: 7 };
        let layers = config.layers().iter();
        layers.map(|layer| (shaped.folded(layer), shaped.unrolled(layer))).unzip()
    }

    fn unrolled(layer: impl Into<LayerConfig>) -> Vec<String> {
        lines(3, &[layer.into()]).1.remove(0)
    }

    #[test]
    fn each_cell_reads_and_writes_its_own_states() {
        assert_eq!(unrolled(RnnConfig::new(5)), ["t = 1 .. 11: x(t) [7, 3], h(t-1) [7, 5] -> h(t) [7, 5]"]);
        assert_eq!(
            unrolled(GruConfig::new(5)),
            ["t = 1 .. 11: x(t) [7, 3], h(t-1) [7, 5] -> gates 3 x [7, 5] -> h(t)"]
        );
        assert_eq!(
            unrolled(LstmConfig::new(5)),
            ["t = 1 .. 11: x(t) [7, 3], h(t-1) and c(t-1) [7, 5] -> gates 4 x [7, 5] -> c(t), h(t)"]
        );
        assert_eq!(
            unrolled(LstmConfig::new(5).projection(2).coupled(Coupling::Forget)),
            [
                "t = 1 .. 11: x(t) [7, 3], h(t-1) [7, 2], c(t-1) [7, 5] -> gates 3 x [7, 5] -> c(t) -> h(t) [7, 2]"
            ]
        );
    }

    #[test]
    fn reversed_scans_run_from_the_end() {
        assert_eq!(
            unrolled(LstmConfig::new(5).direction(Direction::Reverse).skip(3)),
            ["t = 11 .. 1: x(t) [7, 3], h(t+1), h(t+3) and c(t+1) [7, 5] -> gates 4 x [7, 5] -> c(t), h(t)"]
        );
        let (folded, both) = lines(3, &[GruConfig::new(5).direction(Direction::Bidirectional).into()]);
        assert_eq!(folded, ["[11, 7, 10] bidirectional"]);
        assert_eq!(
            both[0],
            [
                "t = 1 .. 11: x(t) [7, 3], h(t-1) [7, 5] -> gates 3 x [7, 5] -> h(t)",
                "t = 11 .. 1: x(t) [7, 3], h(t+1) [7, 5] -> gates 3 x [7, 5] -> h(t)",
                "both side by side: [7, 10]"
            ]
        );
        let summed = unrolled(RnnConfig::new(5).direction(Direction::BidirectionalSum));
        assert_eq!(summed[2], "both added: [7, 5]");
    }

    #[test]
    fn recurrences_beyond_h_are_named() {
        assert_eq!(
            unrolled(RnnConfig::new(5).skip(4)),
            ["t = 1 .. 11: x(t) [7, 3], h(t-1) and h(t-4) [7, 5] -> h(t) [7, 5]"]
        );
        assert_eq!(
            unrolled(LstmConfig::new(5).dilation(3).direction(Direction::Reverse)),
            ["t = 11 .. 1: x(t) [7, 3], h(t+3) and c(t+3) [7, 5] -> gates 4 x [7, 5] -> c(t), h(t)"]
        );
        assert_eq!(
            unrolled(GruConfig::new(5).feedback(2, Activation::Tanh)),
            [
                "t = 1 .. 11: x(t) [7, 3], h(t-1) [7, 5], y(t-1) [7, 2] -> gates 3 x [7, 5] -> h(t) -> y(t) [7, 2]"
            ]
        );
    }

    #[test]
    fn normalised_and_pooled_values() {
        let layers = [
            GruConfig::new(6).into(),
            LayerConfig::Normalise { epsilon: 0.5 },
            LayerConfig::MaxPool,
            LayerConfig::Normalise { epsilon: 1e-5 },
        ];
        let (folded, unrolled) = lines(3, &layers);
        assert_eq!(folded, ["[11, 7, 6]", "[11, 7, 6] with epsilon 0.5", "[1, 7, 6]", "[1, 7, 6]"]);
        let after: Vec<&str> = unrolled[1..].iter().map(|lines| lines[0].as_str()).collect();
        assert_eq!(
            after,
            [
                "t = 1 .. 11: [7, 6] -> [7, 6]",
                "once: the largest values of 11 steps of [7, 6] -> [7, 6]",
                "once: [7, 6] -> [7, 6]"
            ]
        );
    }

    #[test]
    fn single_steps_are_done_once() {
        let stack = [
            LstmConfig::new(5).direction(Direction::Bidirectional).into(),
            LayerConfig::FinalState,
            LayerConfig::Expand { steps: 4, fill: Expansion::Zeros },
            GruConfig::new(6).clip(2.0).into(),
            LayerConfig::Dropout { rate: 0.5 },
            LayerConfig::Residual { from: 4 },
            LayerConfig::LastStep,
            DenseConfig::new(2).activation(Activation::Relu).into(),
            LayerConfig::Softmax,
        ];
        let (folded, unrolled) = lines(3, &stack);
        assert_eq!(
            folded,
            [
                "[11, 7, 10] bidirectional",
                "[1, 7, 10]",
                "[4, 7, 10]",
                "[4, 7, 6] clip 2",
                "[4, 7, 6] rate 0.5",
                "[4, 7, 6] with the input of layer 4",
                "[1, 7, 6]",
                "[1, 7, 2] relu",
                "[1, 7, 2]"
            ]
        );
        let after: Vec<&str> = unrolled[1..].iter().map(|lines| lines[0].as_str()).collect();
        assert_eq!(
            after,
            [
                "once: h of both scans' last steps -> [7, 10]",
                "once: [7, 10] is step 1 of 4; the others are zeros",
                "t = 1 .. 4: x(t) [7, 10], h(t-1) [7, 6] -> gates 3 x [7, 6] -> h(t)",
                "t = 1 .. 4: [7, 6] -> [7, 6], some of them zeroed in training",
                "t = 1 .. 4: [7, 6] + the input of layer 4 -> [7, 6]",
                "t = 4: [7, 6] is passed on, earlier steps are dropped",
                "once: [7, 6] -> [7, 2]",
                "once: [7, 2] -> [7, 2]"
            ]
        );
    }

    #[test]
    fn convolutions_read_several_steps() {
        let stack = [
            Conv1dConfig::new(5, 3).causal().dilation(2).activation(Activation::Relu).into(),
            Conv1dConfig::new(2, 4).stride(3).into(),
            GruConfig::new(6).into(),
        ];
        let (folded, unrolled) = lines(3, &stack);
        assert_eq!(
            folded,
            ["[11, 7, 5] kernel 3, dilation 2, causal, relu", "[3, 7, 2] kernel 4, stride 3", "[3, 7, 6]"]
        );
        assert_eq!(unrolled[0], ["t = 1 .. 11: 3 of 5 steps of [7, 3] -> [7, 5]"]);
        assert_eq!(unrolled[1], ["t = 1 .. 3: 4 steps of [7, 5] -> [7, 2], 3 steps further each time"]);
        assert!(unrolled[2][0].starts_with("t = 1 .. 3: x(t) [7, 2]"), "{}", unrolled[2][0]);
    }

    #[test]
    fn branches_say_what_they_read() {
        let branches = [
            branch().layer(GruConfig::new(5)).final_state().dense(2),
            branch().last_step().dense(2),
            branch().last_step().dropout(0.5).dense(2),
        ];
        let (folded, unrolled) = lines(3, &[ParallelConfig::new(Merge::Sum, branches).into()]);
        assert_eq!(
            folded,
            [
                "[11, 7, 5]",
                "[1, 7, 5]",
                "[1, 7, 2]",
                "[1, 7, 3] reads the input",
                "[1, 7, 2]",
                "[1, 7, 3] reads the input",
                "[1, 7, 3] rate 0.5",
                "[1, 7, 2]",
                "[1, 7, 2] of layer 2, layer 4, layer 7"
            ]
        );
        assert_eq!(unrolled[3], ["t = 11: [7, 3] is passed on, earlier steps are dropped"]);
        assert_eq!(unrolled[8], ["once: layer 2, layer 4, layer 7 added -> [7, 2]"]);
        let joined = ParallelConfig::new(Merge::Concatenate, [branch(), branch().dense(2)]).into();
        let (folded, unrolled) = lines(3, &[joined]);
        assert_eq!(folded, ["[11, 7, 2]", "[11, 7, 5] of the input, layer 0"]);
        assert_eq!(unrolled[1], ["t = 1 .. 11: the input, layer 0 side by side -> [7, 5]"]);
    }

    #[test]
    fn a_decoder_names_the_source_of_each_state() {
        let stack = [
            EmbeddingConfig::new(9, 4).into(),
            GruConfig::new(3).direction(Direction::Bidirectional).into(),
            DecoderConfig::new(1).bridge(Bridge::Dense { activation: Activation::Tanh }).into(),
            EmbeddingConfig::new(8, 2).into(),
            LstmConfig::new(5).into(),
            RnnConfig::new(4).into(),
        ];
        let (folded, unrolled) = lines(1, &stack);
        assert_eq!(folded[0], "[11, 7, 4] of 9 tokens");
        assert_eq!(folded[2], "[6, 7, 1] token numbers, the decoder's own input");
        assert_eq!(folded[3..], ["[6, 7, 2] of 8 tokens", "[6, 7, 5]", "[6, 7, 4]"]);
        assert_eq!(unrolled[1][0], "t = 1 .. 11: x(t) [7, 4], h(t-1) [7, 3] -> gates 3 x [7, 3] -> h(t)");
        assert_eq!(
            unrolled[2],
            [
                "once: last h of layer 1 [7, 6] -> dense tanh first h of layer 4 [7, 5]",
                "once: last h of layer 1 [7, 6] -> dense tanh first c of layer 4 [7, 5]",
                "once: last h of layer 1 [7, 6] -> dense tanh first h of layer 5 [7, 4]"
            ]
        );
        assert_eq!(
            unrolled[4],
            ["t = 1 .. 6: x(t) [7, 2], h(t-1) and c(t-1) [7, 5] -> gates 4 x [7, 5] -> c(t), h(t)"]
        );
    }

    #[test]
    fn an_input_that_is_expanded_is_one_step() {
        let stack = [LayerConfig::Expand { steps: 4, fill: Expansion::Repeat }, GruConfig::new(2).into()];
        let config = &NetworkConfig::new(3, stack).unwrap();
        let shaped = Shaped { config, steps: 11, decoder_steps: 6, batch: 7 };
        assert_eq!(shaped.input(), "[1, 7, 3]");
        assert_eq!(
            shaped.unrolled(&config.layers()[0]),
            ["once: [7, 3] is step 1 of 4; the others are copies of it"]
        );
        assert_eq!(shaped.steps_of(&config.layers()[1]), 4);
    }
}
