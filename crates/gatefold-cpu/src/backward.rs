use crate::bridge::{self, add_to_newest};
use crate::dense;
use crate::network::{LayerTape, Network, Tape};
use crate::packing::Packing;
use crate::recurrent;
use crate::steps;
use crate::tensors::{Sums, Tensors};
use crate::threads::add_product;
use gatefold_model::{InitialState, Layer, LayerKind, Recurrent, Role, StateKind};
use gatefold_model::{LayerState, States};
use ndarray::{Array2, Array3, ArrayD, ArrayView2, ArrayView3, Axis, s};
use std::sync::Arc;

/// What the backward pass of a whole network finds.
#[derive(Clone, Debug, PartialEq)]
pub struct Gradients {
    /// By every parameter.
    pub parameters: Tensors,
    /// `[T, B, I]`: by the input; zeros for padding, and for tokens.
    pub input: Array3<f32>,
    /// `[T', B, I']`: by the decoder's input.
    pub decoder_input: Option<Array3<f32>>,
    /// By the initial states that were used, whoever gave them.
    pub states: States,
}

/// The way back through the layers.
struct Back<'a> {
    sums: Sums<'a>,
    /// By the output of the layer that comes next; nothing where only final states count.
    d: Option<Array2<f32>>,
    /// What residual layers have for the inputs of earlier ones.
    waiting: Vec<Option<Array2<f32>>>,
    /// By the final states, and from a layer's own turn on by its initial ones.
    d_states: Vec<Option<LayerState>>,
    d_decoder: Option<Array2<f32>>,
    batch: usize,
}

impl Network {
    /// The gradient of a loss from its derivative by the output, `[T', B, O]`, and by the final states.
    ///
    /// # Panics
    /// If `d_output` is not shaped like the tape's output, or `d_states` not like its states.
    pub fn backward(&self, tape: Tape, d_output: ArrayView3<f32>, d_states: Option<&States>) -> Gradients {
        let zeros = |(name, tensor): (&String, &ArrayD<f32>)| (name.clone(), ArrayD::zeros(tensor.raw_dim()));
        let mut parameters: Tensors = self.parameters.iter().map(zeros).collect();
        let (first, packing) = (tape.first, tape.input_packing.clone());
        let decoder = self.config.decoder().filter(|&at| at >= first).map(|at| tape.packings[at].clone());
        let (input_width, batch) = (tape.input.ncols(), packing.batch());
        let back = self.through(tape, d_output, d_states, &mut parameters, first, true);
        let (d, d_decoder, found) = (back.d, back.d_decoder, back.d_states);
        let mut states = States::zeros(&self.config, batch);
        for (state, found) in states.layers.iter_mut().zip(found) {
            if let Some(found) = found {
                *state = found;
            }
        }
        let unpack = |packing: &Packing, d: Option<Array2<f32>>, width: usize| {
            let d = d.unwrap_or_else(|| Array2::zeros((packing.len(), width)));
            packing.unpack(d.view())
        };
        Gradients {
            input: unpack(&packing, d, input_width),
            decoder_input: decoder.map(|packing| {
                let width = d_decoder.as_ref().map_or(0, |d| d.ncols());
                unpack(&packing, d_decoder, width)
            }),
            states,
            parameters,
        }
    }

    /// Adds the gradient of every parameter that has a place in `gradients`. Layers in front of the first one that needs
    /// a gradient are not visited.
    ///
    /// # Panics
    /// As [`Network::backward`], or if a gradient is not shaped like its parameter.
    pub fn accumulate(
        &self,
        tape: Tape,
        d_output: ArrayView3<f32>,
        d_states: Option<&States>,
        gradients: &mut Tensors,
    ) {
        let wanted = |layer: &Layer| layer.parameters.iter().any(|spec| gradients.contains_key(&spec.name));
        let Some(first) = self.config.layers().iter().position(wanted) else { return };
        let first = first.max(tape.first);
        self.through(tape, d_output, d_states, gradients, first, false);
    }

    /// Back to layer `first`, and to its input if that is wanted.
    fn through<'a>(
        &self,
        mut tape: Tape,
        d_output: ArrayView3<f32>,
        d_states: Option<&States>,
        gradients: &'a mut Tensors,
        first: usize,
        wants_input: bool,
    ) -> Back<'a> {
        assert_eq!(d_output.dim(), tape.output().dim(), "one derivative per output");
        let layers = self.config.layers();
        let batch = tape.input_packing.batch();
        if let Some(states) = d_states
            && let Err(problem) = states.check(&self.config, batch)
        {
            panic!("derivatives by final {problem}");
        }
        let mut back = Back {
            sums: Sums { gradients, threads: self.threads },
            d: Some(tape.packing_of(layers.len()).pack(d_output)),
            waiting: vec![None; layers.len()],
            d_states: match d_states {
                Some(states) => states.layers.iter().cloned().map(Some).collect(),
                None => vec![None; self.config.recurrent_layers().count()],
            },
            d_decoder: None,
            batch,
        };
        let mut state = back.d_states.len();
        for layer in layers[first..].iter().rev() {
            let kept = tape.layers.pop().expect("a tape for every layer");
            let further = wants_input || layer.index > first;
            match layer.kind {
                LayerKind::Recurrent(recurrent) => {
                    state -= 1;
                    let LayerTape::Recurrent(kept) = kept else { unreachable!("it was run as one") };
                    let (d, d_start) = recurrent::backward(
                        self.values(),
                        layer,
                        &recurrent,
                        tape.packing_of(layer.index),
                        tape.input_of(layer.index),
                        *kept,
                        back.d.take(),
                        back.d_states[state].as_ref(),
                        further,
                        &mut back.sums,
                    );
                    // A decoder's layers start from the encoder's states, never from states of their own.
                    let own = !tape.given && self.config.decoder().is_none_or(|at| layer.index < at);
                    if own && recurrent.initial == InitialState::Learned {
                        add_learned(layer, &recurrent, &d_start, &mut back.sums);
                    }
                    back.d = d;
                    back.d_states[state] = Some(d_start);
                }
                LayerKind::Decoder { .. } => {
                    let (encoder, decoder) = back.d_states.split_at_mut(state);
                    let d_starts: Vec<LayerState> =
                        decoder.iter_mut().map(|d| d.clone().expect("its layers had their turn")).collect();
                    let mut d_last: Vec<LayerState> = self
                        .config
                        .recurrent_layers()
                        .zip(encoder.iter_mut())
                        .map(|(layer, d)| d.take().unwrap_or_else(|| zero_state(layer, batch)))
                        .collect();
                    let bridge = tape.bridge.take().expect("the encoder was run");
                    bridge::backward(
                        self.values(),
                        &self.config,
                        bridge,
                        &d_starts,
                        &mut d_last,
                        &mut back.sums,
                    );
                    encoder.iter_mut().zip(d_last).for_each(|(to, d)| *to = Some(d));
                    back.d_decoder = back.d.take();
                }
                _ => self.other_backward(layer, kept, &tape, state, &mut back),
            }
            if let Some(waiting) = back.waiting[layer.index].take() {
                back.d = Some(back.d.take().map_or(waiting.clone(), |d| d + &waiting));
            }
        }
        back
    }

    /// A layer that is neither recurrent nor a decoder; `states` recurrent layers stand before it.
    fn other_backward(&self, layer: &Layer, kept: LayerTape, tape: &Tape, states: usize, back: &mut Back) {
        let (input, packing): (ArrayView2<f32>, &Arc<Packing>) =
            (tape.input_of(layer.index), tape.packing_of(layer.index));
        let Some(mut d) = back.d.take() else { return };
        let output = |kept: LayerTape| match kept {
            LayerTape::Output(output) => output,
            _ => unreachable!("the layer keeps its output"),
        };
        back.d = Some(match layer.kind {
            LayerKind::Dense { activation, .. } => {
                let LayerTape::Dense(kept) = kept else { unreachable!("it was run as one") };
                dense::backward(&kept, activation, &mut d);
                let weight = layer.find(Role::DenseWeight, false);
                back.sums.add_weight(weight, 0..d.ncols(), d.view(), input);
                back.sums.add_bias(layer.find(Role::DenseBias, false), d.view());
                let mut d_input = Array2::zeros(input.raw_dim());
                add_product(self.threads, d.view(), self.dense_parameters(layer).0, d_input.view_mut());
                d_input
            }
            LayerKind::Embedding { .. } => {
                if let Some(table) = back.sums.matrix(layer.find(Role::EmbeddingWeight, false)) {
                    steps::embed_backward(input, d.view(), table);
                }
                Array2::zeros(input.raw_dim())
            }
            LayerKind::Dropout { rate } => {
                if let Some(dropout) = tape.dropout {
                    steps::drop_out(dropout, layer.index, rate, packing, &mut d);
                }
                d
            }
            LayerKind::Softmax => {
                steps::softmax_backward(output(kept).view(), &mut d);
                d
            }
            LayerKind::Residual { from } => {
                let waiting = &mut back.waiting[from];
                *waiting = Some(waiting.take().map_or_else(|| d.clone(), |waiting| waiting + &d));
                d
            }
            LayerKind::LastStep => packing.behind_last_rows(d.view()),
            LayerKind::FinalState => {
                let behind = &self.config.layers()[layer.index - 1];
                let recurrent = behind.recurrent().expect("a final state stands behind a recurrent layer");
                let d_last = back.d_states[states - 1].get_or_insert_with(|| zero_state(behind, back.batch));
                add_to_newest(packing.unsort(d.view()).view(), StateKind::Hidden, recurrent, d_last);
                return;
            }
            LayerKind::Expand { fill, .. } => {
                let d = steps::expand_backward(d.view(), packing.batch(), fill);
                packing.behind_last_rows(d.view())
            }
            kind => unreachable!("{} is run elsewhere", kind.name()),
        });
    }
}

fn zero_state(layer: &Layer, batch: usize) -> LayerState {
    LayerState::zeros(layer.recurrent().expect("only those have states"), batch)
}

/// Learned states are the same for all rows, and h for all slots.
fn add_learned(layer: &Layer, recurrent: &Recurrent, d_start: &LayerState, sums: &mut Sums) {
    let k = recurrent.history();
    for (scan, &reverse) in recurrent.direction.scans().iter().enumerate() {
        if let Some(mut h0) = sums.vector(layer.find(Role::InitialH, reverse)) {
            for j in 0..k {
                h0 += &d_start.h.index_axis(Axis(0), scan * k + j).sum_axis(Axis(0));
            }
        }
        if let (Some(d_c), Some(mut c0)) = (&d_start.c, sums.vector(layer.find(Role::InitialC, reverse))) {
            c0 += &d_c.slice(s![scan, .., ..]).sum_axis(Axis(0));
        }
    }
}
