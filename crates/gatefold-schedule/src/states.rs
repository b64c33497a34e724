//! The places of the states of a network's recurrent layers in one buffer, the same for initial states, final states
//! and their gradients.

use crate::plan::ALIGNMENT;
use crate::scan::ScanState;
use crate::{Given, Plan};
use gatefold_model::{Layer, LayerState, NetworkConfig, States};
use ndarray::{Array2, Array3};

/// A set of states of all recurrent layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum StateSet {
    /// The states before the first step.
    Initial,
    /// The states after the last.
    Final,
    /// The gradients with respect to [`StateSet::Final`].
    DFinal,
    /// The gradients with respect to [`StateSet::Initial`].
    DInitial,
}

impl StateSet {
    /// `initial`, `final`, `d_final`, `d_initial`
    pub fn name(self) -> &'static str {
        match self {
            StateSet::Initial => "initial",
            StateSet::Final => "final",
            StateSet::DFinal => "d_final",
            StateSet::DInitial => "d_initial",
        }
    }
}

/// The places of all states for one batch size.
#[derive(Clone, Debug)]
pub struct StateLayout {
    batch: usize,
    layers: Vec<LayerPlaces>,
    /// Elements of the buffer.
    pub len: usize,
}

#[derive(Clone, Debug)]
struct LayerPlaces {
    index: usize,
    scans: Vec<ScanPlaces>,
    history: usize,
    dilation: usize,
    width: usize,
    hidden: usize,
    feedback: Option<usize>,
}

/// The first element of each state.
#[derive(Clone, Debug)]
struct ScanPlaces {
    reverse: bool,
    h: usize,
    c: Option<usize>,
    y: Option<usize>,
}

impl ScanPlaces {
    /// Slots on the device are in the order of time; states hold the oldest first, as the scan saw them.
    fn in_time(&self, slot: usize, slots: usize) -> usize {
        if self.reverse { slots - 1 - slot } else { slot }
    }
}

impl StateLayout {
    /// Places one state after another, each where a binding may begin.
    pub fn new(config: &NetworkConfig, batch: usize) -> StateLayout {
        let mut len = 0;
        let mut place = |elements: usize| {
            let at = len;
            len += elements.next_multiple_of(ALIGNMENT);
            at
        };
        let layers = config
            .recurrent_layers()
            .map(|layer| {
                let recurrent = layer.recurrent().expect("these are recurrent");
                let (history, width) = (recurrent.history(), recurrent.recurrent_width());
                let (hidden, feedback) = (recurrent.hidden, recurrent.feedback.map(|y| y.output));
                let dilation = recurrent.dilation;
                let mut scan = |&reverse: &bool| ScanPlaces {
                    reverse,
                    h: place(history * batch * width),
                    c: recurrent.cell.has_state().then(|| place(dilation * batch * hidden)),
                    y: feedback.map(|output| place(batch * output)),
                };
                let scans = recurrent.direction.scans().iter().map(&mut scan).collect();
                LayerPlaces { index: layer.index, scans, history, dilation, width, hidden, feedback }
            })
            .collect();
        StateLayout { batch, layers, len }
    }

    /// The buffer of a set.
    pub fn given(&self, set: StateSet) -> Given {
        Given::States { set, batch: self.batch }
    }

    /// The states of one scan in the buffer of a set.
    ///
    /// # Panics
    /// If the layer has no states.
    pub fn scan(&self, plan: &mut Plan, set: StateSet, layer: &Layer, scan: usize) -> ScanState {
        let whole = plan.given(self.given(set), self.len);
        let found = self.layers.iter().find(|places| places.index == layer.index);
        let places = found.unwrap_or_else(|| panic!("{} has no states", layer.place()));
        let ScanPlaces { h, c, y, .. } = places.scans[scan];
        let part = |at: usize, width: usize| whole.part(at, self.batch * width);
        ScanState {
            h: part(h, places.history * places.width),
            c: c.map(|at| part(at, places.dilation * places.hidden)),
            y: y.zip(places.feedback).map(|(at, output)| part(at, output)),
        }
    }

    /// The states of one scan, each in its own buffer.
    ///
    /// # Panics
    /// If the layer has no states.
    pub fn apart(plan: &mut Plan, set: StateSet, layer: &Layer, scan: usize, batch: usize) -> ScanState {
        let recurrent = layer.recurrent().unwrap_or_else(|| panic!("{} has no states", layer.place()));
        let mut state = |part, width: usize| {
            plan.given(Given::State { set, layer: layer.index, scan, part }, batch * width)
        };
        ScanState {
            h: state("h", recurrent.history() * recurrent.recurrent_width()),
            c: recurrent.cell.has_state().then(|| state("c", recurrent.dilation * recurrent.hidden)),
            y: recurrent.feedback.map(|feedback| state("y", feedback.output)),
        }
    }

    /// All states one after another, gaps zero.
    pub fn flatten(&self, states: &States) -> Vec<f32> {
        let mut flat = vec![0.0; self.len];
        for (places, state) in self.layers.iter().zip(&states.layers) {
            for (scan, at) in places.scans.iter().enumerate() {
                let mut put_slots = |first: usize, state: &Array3<f32>, slots: usize| {
                    let (_, batch, width) = state.dim();
                    for slot in 0..slots {
                        let from = state.index_axis(ndarray::Axis(0), scan * slots + at.in_time(slot, slots));
                        put(&mut flat[first + slot * batch * width..], from.iter());
                    }
                };
                put_slots(at.h, &state.h, places.history);
                if let (Some(first), Some(c)) = (at.c, &state.c) {
                    put_slots(first, c, places.dilation);
                }
                if let (Some(at), Some(y)) = (at.y, &state.y) {
                    put(&mut flat[at..], y.iter());
                }
            }
        }
        flat
    }

    /// The reverse of [`StateLayout::flatten`].
    pub fn unflatten(&self, flat: &[f32]) -> States {
        let of_layer = |places: &LayerPlaces| {
            let batch = self.batch;
            let gather = |at: &dyn Fn(&ScanPlaces) -> Option<usize>, len: usize| -> Option<Vec<f32>> {
                let parts = places.scans.iter().map(|scan| at(scan).map(|at| &flat[at..at + len]));
                parts.collect::<Option<Vec<&[f32]>>>().map(|parts| parts.concat())
            };
            let fits = "the layout knows every length";
            let slots_of = |at: &dyn Fn(&ScanPlaces) -> Option<usize>, slots: usize, width: usize| {
                let (step, mut found) = (batch * width, Vec::new());
                for scan in &places.scans {
                    let first = at(scan)?;
                    for slot in 0..slots {
                        let at = first + scan.in_time(slot, slots) * step;
                        found.extend_from_slice(&flat[at..at + step]);
                    }
                }
                let shape = (places.scans.len() * slots, batch, width);
                Some(Array3::from_shape_vec(shape, found).expect(fits))
            };
            LayerState {
                h: slots_of(&|scan| Some(scan.h), places.history, places.width).expect("every scan has h"),
                c: slots_of(&|scan| scan.c, places.dilation, places.hidden),
                y: places.feedback.map(|output| {
                    let y = gather(&|scan| scan.y, batch * output).expect("a layer with feedback has y");
                    Array2::from_shape_vec((batch, output), y).expect(fits)
                }),
            }
        };
        States { layers: self.layers.iter().map(of_layer).collect() }
    }
}

fn put<'a>(slots: &mut [f32], values: impl Iterator<Item = &'a f32>) {
    slots.iter_mut().zip(values).for_each(|(slot, value)| *slot = *value);
}
