//! Where the states of a network's recurrent layers lie in one buffer: initial ones, final ones, and their gradients alike.

use crate::layer::recurrent::Start;
use crate::plan::{Plan, Span};
use gatefold_cpu::{LayerState, States};
use gatefold_model::{Layer, NetworkConfig};
use ndarray::{Array2, Array3};

/// The states in front of the first step.
pub(crate) const STARTS: &str = "starts";
/// The states behind the last.
pub(crate) const FINALS: &str = "finals";
/// The gradients of [`FINALS`].
pub(crate) const D_FINALS: &str = "d_finals";
/// The gradients of [`STARTS`].
pub(crate) const D_STARTS: &str = "d_starts";

/// Bindings begin at multiples of 256 bytes on every device.
const ALIGNMENT: usize = 64;

/// The places of all states for one batch size.
#[derive(Clone, Debug)]
pub(crate) struct StateLayout {
    batch: usize,
    layers: Vec<LayerPlaces>,
    pub(crate) len: usize,
}

#[derive(Clone, Debug)]
struct LayerPlaces {
    index: usize,
    scans: Vec<ScanPlaces>,
    history: usize,
    width: usize,
    hidden: usize,
    feedback: Option<usize>,
}

/// First elements.
#[derive(Clone, Debug)]
struct ScanPlaces {
    reverse: bool,
    h: usize,
    c: Option<usize>,
    y: Option<usize>,
}

impl ScanPlaces {
    /// Slots on the device are in the order of time; states hold the oldest first, as the scan saw them.
    fn in_time(&self, slot: usize, places: &LayerPlaces) -> usize {
        if self.reverse { places.history - 1 - slot } else { slot }
    }
}

impl StateLayout {
    pub(crate) fn new(config: &NetworkConfig, batch: usize) -> StateLayout {
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
                let mut scan = |&reverse: &bool| ScanPlaces {
                    reverse,
                    h: place(history * batch * width),
                    c: recurrent.cell.has_state().then(|| place(batch * hidden)),
                    y: feedback.map(|output| place(batch * output)),
                };
                let scans = recurrent.direction.scans().iter().map(&mut scan).collect();
                LayerPlaces { index: layer.index, scans, history, width, hidden, feedback }
            })
            .collect();
        StateLayout { batch, layers, len }
    }

    /// The buffer's name; buffers of different batch sizes are different buffers.
    pub(crate) fn name(&self, what: &str) -> String {
        format!("{what}.b{}", self.batch)
    }

    /// The states of one scan in the buffer of that kind.
    pub(crate) fn scan(&self, plan: &mut Plan, what: &str, layer: &Layer, scan: usize) -> Start {
        let whole = plan.given(self.name(what), self.len);
        let found = self.layers.iter().find(|places| places.index == layer.index);
        let places = found.unwrap_or_else(|| panic!("{} has no states", layer.place()));
        let ScanPlaces { h, c, y, .. } = places.scans[scan];
        let part = |at: usize, width: usize| whole.part(at, self.batch * width);
        Start {
            h: part(h, places.history * places.width),
            c: c.map(|at| part(at, places.hidden)),
            y: y.zip(places.feedback).map(|(at, output)| part(at, output)),
        }
    }

    /// Copies the states of a layer into the buffer of that kind.
    pub(crate) fn store(&self, plan: &mut Plan, what: &str, layer: &Layer, scan: usize, from: &Start) {
        let to = self.scan(plan, what, layer, scan);
        let pairs = [(Some(from.h), Some(to.h)), (from.c, to.c), (from.y, to.y)];
        let mut copy = |from: Span, to: Span| plan.copy(from, to);
        pairs.into_iter().for_each(|pair| {
            if let (Some(from), Some(to)) = pair {
                copy(from, to);
            }
        });
    }

    /// All states one behind the other, gaps zero.
    pub(crate) fn flatten(&self, states: &States) -> Vec<f32> {
        let mut flat = vec![0.0; self.len];
        for (places, state) in self.layers.iter().zip(&states.layers) {
            for (scan, at) in places.scans.iter().enumerate() {
                let step = self.batch * places.width;
                for slot in 0..places.history {
                    let h = state
                        .h
                        .index_axis(ndarray::Axis(0), scan * places.history + at.in_time(slot, places));
                    put(&mut flat[at.h + slot * step..], h.iter());
                }
                if let (Some(at), Some(c)) = (at.c, &state.c) {
                    put(&mut flat[at..], c.index_axis(ndarray::Axis(0), scan).iter());
                }
                if let (Some(at), Some(y)) = (at.y, &state.y) {
                    put(&mut flat[at..], y.iter());
                }
            }
        }
        flat
    }

    /// The reverse of [`StateLayout::flatten`].
    pub(crate) fn unflatten(&self, flat: &[f32]) -> States {
        let of_layer = |places: &LayerPlaces| {
            let batch = self.batch;
            let gather = |at: &dyn Fn(&ScanPlaces) -> Option<usize>, len: usize| -> Option<Vec<f32>> {
                let parts = places.scans.iter().map(|scan| at(scan).map(|at| &flat[at..at + len]));
                parts.collect::<Option<Vec<&[f32]>>>().map(|parts| parts.concat())
            };
            let scans = places.scans.len();
            let step = batch * places.width;
            let mut h = Vec::with_capacity(scans * places.history * step);
            for scan in &places.scans {
                for slot in 0..places.history {
                    let at = scan.h + scan.in_time(slot, places) * step;
                    h.extend_from_slice(&flat[at..at + step]);
                }
            }
            let shape = (scans * places.history, batch, places.width);
            let fits = "the layout knows every length";
            LayerState {
                h: Array3::from_shape_vec(shape, h).expect(fits),
                c: gather(&|scan| scan.c, batch * places.hidden)
                    .map(|c| Array3::from_shape_vec((scans, batch, places.hidden), c).expect(fits)),
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
