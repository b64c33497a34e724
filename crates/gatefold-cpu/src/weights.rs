//! A network's weights in the order in which products read them, packed once for all passes until they change.

use crate::cells::CellStep;
use crate::dressed::{self, Dressing, Norm};
use crate::instructions::Instructions;
use crate::network::Context;
use crate::noise::ScanNoise;
use crate::packing::Walk;
use crate::product::{Columns, ColumnsMut, Packed, Start};
use crate::team::{Products, Team};
use crate::tensors::Values;
use gatefold_model::{
    Activation, Dropout, HandOver, Layer, LayerKind, LayerNorm, NetworkConfig, Recurrent, Role,
};
use ndarray::{Array2, ArrayView2};
use std::ops::Range;
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

/// The direction of the passes that weights are packed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pass {
    /// `x W^T`
    Forward,
    /// `d W`
    Backward,
}

/// The packed weights of one direction of passes, kept by the network.
#[derive(Debug)]
pub(crate) struct Store {
    pass: Pass,
    packed: RwLock<PackedNetwork>,
}

/// The packed weights of each layer.
#[derive(Debug, Default)]
pub(crate) struct PackedNetwork {
    /// Whether these are the weights of now.
    current: bool,
    /// The seed and the batch whose masks the recurrent weights have, if any are dropped.
    masks: Option<(u64, u32)>,
    layers: Vec<PackedLayer>,
}

/// The packed weights of a layer; parts that it does not have are empty.
#[derive(Debug, Default)]
pub(crate) struct PackedLayer {
    /// The forward scan, the reverse scan, or both in this order.
    pub(crate) scans: Vec<PackedScan>,
    /// Of a dense layer or a convolution.
    pub(crate) dense: Packed,
    /// One for each state handed over by a dense bridge, in the order of the graph.
    pub(crate) bridge: Vec<Packed>,
}

/// The packed weights of a scan; parts that it does not have are empty.
#[derive(Debug, Default)]
pub(crate) struct PackedScan {
    /// `[L H]`: the sums of the biases.
    pub(crate) bias: Vec<f32>,
    /// From x, in the order of the lanes, as is `feedback`.
    pub(crate) input: Packed,
    /// From `h(t-1)`.
    pub(crate) recurrent: Packed,
    /// From `r h(t-1)`, where the reset comes before the product.
    pub(crate) reset: Packed,
    /// From `h(t-k)`.
    pub(crate) skip: Packed,
    pub(crate) projection: Packed,
    /// From `y(t-1)`.
    pub(crate) feedback: Packed,
    /// From h to y.
    pub(crate) readout: Packed,
    /// `[lanes of the input H]` and `[lanes of h H]`: the gains of layer normalisation.
    pub(crate) input_gain: Vec<f32>,
    pub(crate) recurrent_gain: Vec<f32>,
}

impl PackedScan {
    /// The products of a step that a team may share.
    pub(crate) fn shared(&self) -> Products<'_> {
        [&self.recurrent, &self.reset, &self.skip]
    }
}

impl Store {
    pub(crate) fn new(pass: Pass) -> Self {
        Store { pass, packed: RwLock::default() }
    }

    /// Notes that the weights change.
    pub(crate) fn forget(&mut self) {
        self.packed.get_mut().unwrap_or_else(PoisonError::into_inner).current = false;
    }

    /// Packs the weights if they changed, and locks them for a pass.
    pub(crate) fn read(
        &self,
        config: &NetworkConfig,
        values: Values,
        set: Instructions,
        dropout: Option<Dropout>,
    ) -> RwLockReadGuard<'_, PackedNetwork> {
        let drops = |layer: &Layer| layer.recurrent().is_some_and(|recurrent| recurrent.noise.weights > 0.0);
        let dropout = dropout.filter(|_| config.layers().iter().any(drops));
        let masks = dropout.map(|dropout| (dropout.seed, dropout.batch));
        loop {
            let packed = self.packed.read().unwrap_or_else(PoisonError::into_inner);
            if packed.current && packed.masks == masks {
                return packed;
            }
            drop(packed);
            let mut packed = self.packed.write().unwrap_or_else(PoisonError::into_inner);
            if !packed.current || packed.masks != masks {
                packed.pack(config, values, set, self.pass, dropout);
                (packed.current, packed.masks) = (true, masks);
            }
        }
    }
}

impl PackedNetwork {
    pub(crate) fn layer(&self, layer: &Layer) -> &PackedLayer {
        &self.layers[layer.index]
    }

    fn pack(
        &mut self,
        config: &NetworkConfig,
        values: Values,
        set: Instructions,
        pass: Pass,
        dropout: Option<Dropout>,
    ) {
        self.layers.resize_with(config.layers().len(), PackedLayer::default);
        for (layer, packed) in config.layers().iter().zip(&mut self.layers) {
            let matrix = |to: &mut Packed, role, reverse, rows: Option<&[Range<usize>]>| {
                let Some(w) = values.matrix(layer, role, reverse) else { return };
                put(to, set, pass, w, rows);
            };
            match layer.kind {
                LayerKind::Recurrent(described) => {
                    let recurrent = &described;
                    let scans = recurrent.direction.scans();
                    packed.scans.resize_with(scans.len(), PackedScan::default);
                    for (&reverse, scan) in scans.iter().zip(&mut packed.scans) {
                        let cell = cell_step(values, layer, recurrent, reverse);
                        scan.bias.clear();
                        scan.bias.resize(cell.lanes() * cell.hidden, 0.0);
                        add_biases(values, layer, &cell, reverse, &mut scan.bias);
                        let inputs = cell.input_rows();
                        let recurrent = [cell.recurrent_block().rows];
                        matrix(&mut scan.input, Role::InputWeight, reverse, Some(&inputs));
                        matrix(&mut scan.feedback, Role::FeedbackWeight, reverse, Some(&inputs));
                        let masked = dropped(values, layer, &described, reverse, dropout);
                        let recurrent_matrix = |to: &mut Packed, rows: &[Range<usize>]| match &masked {
                            Some(w) => put(to, set, pass, w.view(), Some(rows)),
                            None => matrix(to, Role::RecurrentWeight, reverse, Some(rows)),
                        };
                        recurrent_matrix(&mut scan.recurrent, &recurrent);
                        put_gains(values, layer, &cell, reverse, scan);
                        matrix(&mut scan.skip, Role::SkipWeight, reverse, Some(&recurrent));
                        if cell.resets_before() {
                            let rows = [cell.reset_block().rows];
                            recurrent_matrix(&mut scan.reset, &rows);
                        }
                        matrix(&mut scan.projection, Role::ProjectionWeight, reverse, None);
                        matrix(&mut scan.readout, Role::ReadoutWeight, reverse, None);
                    }
                }
                LayerKind::Dense { .. } => matrix(&mut packed.dense, Role::DenseWeight, false, None),
                LayerKind::Conv1d(_) => match pass {
                    Pass::Forward => packed.dense.pack_conv_transposed(set, values.conv_weight(layer)),
                    Pass::Backward => packed.dense.pack_conv_rows(set, values.conv_weight(layer)),
                },
                LayerKind::Decoder { .. } => {
                    let hand_overs = config.graph().hand_overs();
                    packed.bridge.resize_with(hand_overs.len(), Packed::default);
                    for (&HandOver { number, state, .. }, to) in hand_overs.iter().zip(&mut packed.bridge) {
                        matrix(to, Role::BridgeWeight(number, state), false, None);
                    }
                }
                _ => {}
            }
        }
    }
}

/// The recurrent weights after DropConnect, if the pass drops any.
fn dropped(
    values: Values,
    layer: &Layer,
    recurrent: &Recurrent,
    reverse: bool,
    dropout: Option<Dropout>,
) -> Option<Array2<f32>> {
    let noise = ScanNoise::of(dropout, layer, recurrent, reverse);
    let weights = values.matrix(layer, Role::RecurrentWeight, reverse).filter(|_| noise.drops_weights())?;
    let mut masked = weights.to_owned();
    noise.mask_weights(masked.view_mut());
    Some(masked)
}

/// Puts the gains in the order of the lanes that they multiply.
fn put_gains(values: Values, layer: &Layer, cell: &CellStep, reverse: bool, to: &mut PackedScan) {
    if let Some(gain) = values.elements(layer, Role::InputGain, reverse) {
        to.input_gain.clear();
        to.input_gain.extend(cell.input_rows().into_iter().flat_map(|rows| &gain[rows]));
    }
    if let Some(gain) = values.elements(layer, Role::RecurrentGain, reverse) {
        to.recurrent_gain.clear();
        to.recurrent_gain.extend(&gain[cell.recurrent_block().rows]);
    }
}

/// Packs these rows of a matrix, or all.
fn put(to: &mut Packed, set: Instructions, pass: Pass, w: ArrayView2<f32>, rows: Option<&[Range<usize>]>) {
    let all = 0..w.nrows();
    let rows = rows.unwrap_or(std::slice::from_ref(&all));
    match pass {
        Pass::Forward => to.pack_transposed(set, w, rows),
        Pass::Backward => to.pack_rows(set, w, rows),
    }
}

/// Adds both biases to the lanes that their gates have.
fn add_biases(values: Values, layer: &Layer, cell: &CellStep, reverse: bool, lanes: &mut [f32]) {
    let input = cell.input_blocks().map(|block| (Role::InputBias, block));
    for (role, block) in input.chain([(Role::RecurrentBias, cell.recurrent_bias_block())]) {
        let Some(bias) = values.vector(layer, role, reverse) else { continue };
        for (lane, row) in block.lanes.zip(block.rows) {
            lanes[lane] += bias[row];
        }
    }
}

/// The parameters of a scan.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weights<'a> {
    pub(crate) cell: CellStep<'a>,
    pub(crate) walk: Walk,
    /// R
    pub(crate) recurrent_width: usize,
    pub(crate) skips: bool,
    pub(crate) projects: bool,
    pub(crate) feedback: Option<Feedback<'a>>,
    /// How its steps differ from those of the plain cell, if they do.
    pub(crate) dressing: Option<Dressing<'a>>,
    pub(crate) packed: &'a PackedScan,
    /// The threads that share the products of its steps.
    pub(crate) team: Option<&'a Team>,
}

/// A readout that feeds back into the next step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Feedback<'a> {
    pub(crate) activation: Activation,
    /// `[O]`
    pub(crate) bias: &'a [f32],
}

impl<'a> Weights<'a> {
    /// The parameters of the forward or reverse scan of a layer.
    pub(crate) fn of(context: Context<'a>, layer: &Layer, recurrent: &Recurrent, scan: usize) -> Self {
        let reverse = recurrent.direction.scans()[scan];
        let Context { values, packed, dropout, .. } = context;
        let norm = |norm: LayerNorm| Norm {
            epsilon: norm.epsilon,
            cell: values
                .elements(layer, Role::CellGain, reverse)
                .map(|gain| (gain, values.elements(layer, Role::CellBias, reverse))),
        };
        let dressing = recurrent.is_dressed().then(|| Dressing {
            norm: recurrent.norm.map(norm),
            noise: ScanNoise::of(dropout, layer, recurrent, reverse),
        });
        Weights {
            dressing,
            cell: cell_step(values, layer, recurrent, reverse),
            walk: Walk::of(recurrent, reverse),
            recurrent_width: recurrent.recurrent_width(),
            skips: layer.find(Role::SkipWeight, reverse).is_some(),
            projects: layer.find(Role::ProjectionWeight, reverse).is_some(),
            feedback: recurrent.feedback.map(|feedback| Feedback {
                activation: feedback.activation,
                bias: values
                    .elements(layer, Role::ReadoutBias, reverse)
                    .expect("a layer with feedback has it"),
            }),
            packed: &packed.layer(layer).scans[scan],
            team: None,
        }
    }

    /// The same with a team.
    pub(crate) fn with_team(self, team: Option<&'a Team>) -> Self {
        Weights { team, ..self }
    }

    /// [`Packed::multiply`] for a step, shared with the team if there is one.
    pub(crate) fn multiply(
        &self,
        set: Instructions,
        product: &Packed,
        a: Columns,
        start: Start,
        out: ColumnsMut,
    ) {
        match self.team {
            Some(team) => team.multiply(set, self.packed.shared(), product, a, start, out),
            None => product.multiply(set, a, start, out),
        }
    }

    /// The same for a window of the sequence that begins at step `first`.
    pub(crate) fn beginning_at(mut self, first: usize) -> Self {
        if let Some(dressing) = &mut self.dressing {
            dressing.noise = dressing.noise.beginning_at(first);
        }
        self
    }

    /// The elements that a step of at most `rows` rows needs room for.
    pub(crate) fn scratch_len(&self, rows: usize) -> usize {
        let more = self.dressing.map_or(0, |_| dressed::scratch_len(self.cell.hidden, rows));
        self.cell.scratch_len() + more
    }

    /// The walk of states with a single initial value: c and y.
    pub(crate) fn short_walk(&self) -> Walk {
        Walk { history: 1, ..self.walk }
    }
}

fn cell_step<'a>(values: Values<'a>, layer: &Layer, recurrent: &Recurrent, reverse: bool) -> CellStep<'a> {
    CellStep {
        cell: *recurrent.cell_of(reverse),
        hidden: recurrent.hidden,
        clip: recurrent.clip,
        peephole: values.elements(layer, Role::Peephole, reverse),
    }
}
