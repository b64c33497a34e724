//! A recurrent layer of a network: its scans, their initial states, and the merge of their outputs.

use crate::network::{Tensors, add_gradient};
use crate::scan::{
    self, Cotangents, Feedback, Forward, MaskStream, Norm, Recurrence, Skip, StepNoise, Weights,
};
use crate::{Dropout, LayerState, Real};
use gatefold_model::{Direction, InitialState, Layer, Recurrent, Role};
use ndarray::{Array2, Array3, ArrayD, ArrayView1, ArrayView2, ArrayView3, Axis, Ix1, Ix2, concatenate, s};

/// A recurrent layer with its parameters.
#[derive(Clone, Copy)]
pub(crate) struct RecurrentLayer<'a, R> {
    pub(crate) layer: &'a Layer,
    pub(crate) recurrent: &'a Recurrent,
    pub(crate) parameters: &'a Tensors<R>,
    pub(crate) dropout: Option<Dropout>,
}

/// The gradients of a recurrent layer's input and initial states; those of its parameters are added to the network's.
pub(crate) struct LayerBackward<R> {
    pub(crate) d_input: Array3<R>,
    pub(crate) d_initial: LayerState<R>,
    /// With respect to the states before each step, of each scan.
    pub(crate) d_before: Vec<Vec<scan::States<R>>>,
}

impl<'a, R: Real> RecurrentLayer<'a, R> {
    fn tensor(&self, role: Role, reverse: bool) -> Option<&'a ArrayD<R>> {
        self.layer.find(role, reverse).map(|spec| &self.parameters[&spec.name])
    }

    fn matrix(&self, role: Role, reverse: bool) -> Option<ArrayView2<'a, R>> {
        let tensor = self.tensor(role, reverse)?;
        Some(tensor.view().into_dimensionality::<Ix2>().expect("weights are matrices"))
    }

    fn vector(&self, role: Role, reverse: bool) -> Option<ArrayView1<'a, R>> {
        let tensor = self.tensor(role, reverse)?;
        Some(tensor.view().into_dimensionality::<Ix1>().expect("biases are vectors"))
    }

    /// The parameters of the forward or reverse scan.
    pub(crate) fn weights(&self, reverse: bool) -> Weights<'a, R> {
        let weight = |role| self.matrix(role, reverse).expect("every recurrent layer has it");
        let skip = self.recurrent.skip.zip(self.matrix(Role::SkipWeight, reverse));
        Weights {
            w_ih: weight(Role::InputWeight),
            b_ih: self.vector(Role::InputBias, reverse),
            b_hh: self.vector(Role::RecurrentBias, reverse),
            recurrence: Recurrence {
                cell: *self.recurrent.cell_of(reverse),
                clip: self.recurrent.clip.map(|bound| R::from_f64(f64::from(bound))),
                w_hh: weight(Role::RecurrentWeight),
                peephole: self.vector(Role::Peephole, reverse),
                projection: self.matrix(Role::ProjectionWeight, reverse),
                skip: skip.map(|(steps, w_sh)| Skip { steps, w_sh }),
                dilation: self.recurrent.dilation,
                feedback: self.recurrent.feedback.map(|feedback| Feedback {
                    w_yh: weight(Role::FeedbackWeight),
                    w_hy: weight(Role::ReadoutWeight),
                    b_y: self.vector(Role::ReadoutBias, reverse).expect("a readout has a bias"),
                    activation: feedback.activation,
                }),
                norm: self.recurrent.norm.map(|norm| {
                    let gain = |role| self.vector(role, reverse).expect("a normalised layer has gains");
                    let cell = self.vector(Role::CellGain, reverse);
                    Norm {
                        epsilon: R::from_f64(f64::from(norm.epsilon)),
                        gain_ih: gain(Role::InputGain),
                        gain_hh: gain(Role::RecurrentGain),
                        cell: cell.map(|gain| (gain, self.vector(Role::CellBias, reverse))),
                    }
                }),
                noise: self.noise(reverse),
            },
        }
    }

    /// The layer's own initial states.
    pub(crate) fn initial(&self, batch: usize) -> LayerState<R> {
        let mut states = LayerState::zeros(self.recurrent, batch);
        match self.recurrent.initial {
            InitialState::Zeros => {}
            InitialState::Constant(value) => {
                let value = R::from_f64(f64::from(value));
                states.h.fill(value);
                states.c.iter_mut().for_each(|c| c.fill(value));
            }
            InitialState::Learned => {
                let (k, slots) = (self.recurrent.history(), self.recurrent.dilation);
                for (d, &reverse) in self.recurrent.direction.scans().iter().enumerate() {
                    let h0 = self.vector(Role::InitialH, reverse).expect("it is learned");
                    states.h.slice_mut(s![d * k..(d + 1) * k, .., ..]).assign(&h0);
                    if let (Some(c), Some(c0)) = (&mut states.c, self.vector(Role::InitialC, reverse)) {
                        c.slice_mut(s![d * slots..(d + 1) * slots, .., ..]).assign(&c0);
                    }
                }
            }
        }
        states
    }

    /// The chain rule through [`RecurrentLayer::initial`]: learned states get the sum over rows and slots.
    pub(crate) fn initial_backward(&self, d_initial: &LayerState<R>, gradients: &mut Tensors<R>) {
        for (d, &reverse) in self.recurrent.direction.scans().iter().enumerate() {
            let sum = |d_state: &Array3<R>, slots: usize| {
                let own = d_state.slice(s![d * slots..(d + 1) * slots, .., ..]);
                own.sum_axis(Axis(0)).sum_axis(Axis(0))
            };
            let d_h0 = sum(&d_initial.h, self.recurrent.history());
            add_gradient(gradients, self.layer, (Role::InitialH, reverse), Some(d_h0.into_dyn()));
            let d_c0 = d_initial.c.as_ref().map(|d_c| sum(d_c, self.recurrent.dilation));
            add_gradient(gradients, self.layer, (Role::InitialC, reverse), d_c0.map(|d| d.into_dyn()));
        }
    }

    /// The noise of the forward or reverse scan.
    fn noise(&self, reverse: bool) -> StepNoise {
        let stream = self.dropout.map(|dropout| MaskStream {
            seed: dropout.seed,
            batch: dropout.batch,
            layer: self.layer.index,
            owner: self.layer.owner,
            reverse,
        });
        StepNoise { rates: self.recurrent.noise, stream }
    }

    /// DropConnect: the mask of the recurrent weights of each scan that has one.
    fn weight_masks(&self) -> Vec<(&'a str, ArrayD<R>)> {
        let masks = self.recurrent.direction.scans().iter().filter_map(|&reverse| {
            let spec = self.layer.find(Role::RecurrentWeight, reverse)?;
            let mask = self.noise(reverse).weight_mask((spec.shape[0], spec.shape[1]))?;
            Some((spec.name.as_str(), mask.into_dyn()))
        });
        masks.collect()
    }

    /// The layer's parameters after DropConnect, if the pass drops any.
    fn dropped(&self) -> Option<Tensors<R>> {
        let masks = self.weight_masks();
        let mut own = Tensors::new();
        for spec in self.layer.parameters.iter().filter(|_| !masks.is_empty()) {
            own.insert(spec.name.clone(), self.parameters[&spec.name].clone());
        }
        for (name, mask) in &masks {
            own.insert((*name).into(), &self.parameters[*name] * mask);
        }
        (!masks.is_empty()).then_some(own)
    }

    /// Runs one scan per direction.
    pub(crate) fn forward(
        &self,
        input: ArrayView3<R>,
        initial: &LayerState<R>,
        lengths: Option<&[usize]>,
    ) -> Vec<Forward<R>> {
        let dropped = self.dropped();
        let own = RecurrentLayer { parameters: dropped.as_ref().unwrap_or(self.parameters), ..*self };
        let scans = self.recurrent.direction.scans().iter().enumerate();
        scans
            .map(|(d, &reverse)| {
                let initial = initial.direction(self.recurrent, d);
                scan::forward(input, &own.weights(reverse), &initial, lengths, reverse)
            })
            .collect()
    }

    /// The layer's output, merged from those of its scans, and its final states.
    pub(crate) fn merged(&self, scans: &[Forward<R>]) -> (Array3<R>, LayerState<R>) {
        let outputs: Vec<_> = scans.iter().map(|forward| forward.output.view()).collect();
        let output = match self.recurrent.direction {
            Direction::BidirectionalSum => &outputs[0] + &outputs[1],
            _ => concatenate(Axis(2), &outputs).expect("directions have equal shapes"),
        };
        let final_states: Vec<_> = scans.iter().map(|forward| forward.final_states.clone()).collect();
        (output, LayerState::of_directions(&final_states))
    }

    /// The chain rule through [`RecurrentLayer::forward`] and [`RecurrentLayer::merged`].
    pub(crate) fn backward(
        &self,
        input: ArrayView3<R>,
        scans: &[Forward<R>],
        d_output: ArrayView3<R>,
        d_final: &LayerState<R>,
        gradients: &mut Tensors<R>,
    ) -> LayerBackward<R> {
        let (dropped, masks) = (self.dropped(), self.weight_masks());
        let own = RecurrentLayer { parameters: dropped.as_ref().unwrap_or(self.parameters), ..*self };
        let width = self.recurrent.scan_width();
        let mut d_input = Array3::zeros(input.dim());
        let (mut d_initial, mut d_before) = (Vec::new(), Vec::new());
        for (d, forward) in scans.iter().enumerate() {
            let output = match self.recurrent.direction {
                Direction::Bidirectional => d_output.slice(s![.., .., d * width..(d + 1) * width]),
                _ => d_output.view(),
            };
            let final_states = d_final.direction(self.recurrent, d);
            let cotangents = Cotangents { output, final_states: Some(&final_states) };
            let mut back = scan::backward(input, &own.weights(forward.reverse), forward, &cotangents);
            let name = self.layer.find(Role::RecurrentWeight, forward.reverse).map(|spec| spec.name.as_str());
            if let Some((_, mask)) = masks.iter().find(|(of, _)| Some(*of) == name) {
                back.d_w_hh = (back.d_w_hh.into_dyn() * mask).into_dimensionality().expect("it is a matrix");
            }
            let mut add = |role, gradient: Option<ArrayD<R>>| {
                add_gradient(gradients, self.layer, (role, forward.reverse), gradient);
            };
            let matrix = |gradient: Option<Array2<R>>| gradient.map(|gradient| gradient.into_dyn());
            add(Role::InputWeight, matrix(Some(back.d_w_ih)));
            add(Role::RecurrentWeight, matrix(Some(back.d_w_hh)));
            add(Role::InputBias, Some(back.d_b_ih.into_dyn()));
            add(Role::RecurrentBias, Some(back.d_b_hh.into_dyn()));
            add(Role::Peephole, back.d_peephole.map(|d| d.into_dyn()));
            if let Some(norm) = back.norm {
                add(Role::InputGain, Some(norm.d_gain_ih.into_dyn()));
                add(Role::RecurrentGain, Some(norm.d_gain_hh.into_dyn()));
                let (gain, bias) = norm.cell.unzip();
                add(Role::CellGain, gain.map(|d| d.into_dyn()));
                add(Role::CellBias, bias.map(|d| d.into_dyn()));
            }
            add(Role::SkipWeight, matrix(back.d_w_sh));
            add(Role::FeedbackWeight, matrix(back.d_w_yh));
            let readout = if self.recurrent.projection.is_some() {
                Role::ProjectionWeight
            } else {
                Role::ReadoutWeight
            };
            add(readout, matrix(back.d_readout));
            add(Role::ReadoutBias, back.d_b_y.map(|d| d.into_dyn()));
            d_input += &back.d_input;
            d_initial.push(back.d_initial);
            d_before.push(back.d_before);
        }
        LayerBackward { d_input, d_initial: LayerState::of_directions(&d_initial), d_before }
    }
}
