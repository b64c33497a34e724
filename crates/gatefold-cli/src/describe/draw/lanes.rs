//! The lane of each layer, and the wires that go around layers.

use gatefold::NetworkConfig;
use gatefold::layers::{LayerConfig, LayerKind};
use gatefold_model::Source;
use std::collections::BTreeMap;

/// The lane of each layer: 0 unless it is in a branch after the first.
pub(super) struct Lanes {
    of_layers: Vec<usize>,
    /// The lane that each branch of a merge comes up.
    branches: BTreeMap<usize, Vec<usize>>,
    count: usize,
    sides: Vec<Side>,
    slots: usize,
}

/// A wire that goes around layers, beside the lane of its end: a residual connection, or states handed to a decoder.
#[derive(Clone, Copy)]
pub(super) struct Side {
    pub(super) from: Source,
    /// The layer that it ends at.
    pub(super) to: usize,
    /// Its distance from the lane, counted from 0: wires that go around the same layers have different ones.
    pub(super) slot: usize,
    pub(super) hands_over: bool,
}

impl Lanes {
    pub(super) fn new(config: &NetworkConfig) -> Lanes {
        let mut lanes =
            Lanes { of_layers: Vec::new(), branches: BTreeMap::new(), count: 1, sides: Vec::new(), slots: 0 };
        lanes.count = lanes.take(config.layer_configs(), 0);
        lanes.find_sides(config);
        lanes
    }

    /// Gives lanes to layers from `lane` on; returns how many they take.
    fn take(&mut self, configs: &[LayerConfig], lane: usize) -> usize {
        let mut most = 1;
        for config in configs {
            if let LayerConfig::Parallel(parallel) = config {
                let (mut wide, mut ends) = (0, Vec::new());
                for branch in parallel.branches() {
                    ends.push(lane + wide);
                    wide += self.take(branch, lane + wide);
                }
                most = most.max(wide);
                self.branches.insert(self.of_layers.len(), ends);
            }
            self.of_layers.push(lane);
        }
        most
    }

    fn find_sides(&mut self, config: &NetworkConfig) {
        let mut found = Vec::new();
        for layer in config.layers() {
            if let LayerKind::Residual { .. } = layer.kind {
                found.push((config.graph().node(layer.index).inputs[1], layer.index, false));
            }
        }
        for hand_over in config.graph().hand_overs() {
            let one = (Source::Output(hand_over.source), hand_over.target, true);
            if !found.contains(&one) {
                found.push(one);
            }
        }
        let row = |source: Source| match source {
            Source::Output(layer) | Source::FinalHidden(layer) => layer + 1,
            Source::Input => 0,
            Source::DecoderInput => config.decoder().map_or(0, |at| at + 1),
        };
        // Short wires lie within long ones.
        found.sort_by_key(|&(from, to, _)| to + 1 - row(from));
        for (from, to, hands_over) in found {
            let over = |side: &&Side| row(side.from) < to + 1 && row(from) < side.to + 1;
            let slot = self.sides.iter().filter(over).map(|side| side.slot + 1).max().unwrap_or(0);
            self.slots = self.slots.max(slot + 1);
            self.sides.push(Side { from, to, slot, hands_over });
        }
    }

    pub(super) fn count(&self) -> usize {
        self.count
    }

    pub(super) fn of(&self, layer: usize) -> usize {
        self.of_layers[layer]
    }

    /// The lane of a value.
    pub(super) fn of_value(&self, source: Source) -> usize {
        match source {
            Source::Output(layer) | Source::FinalHidden(layer) => self.of(layer),
            Source::Input | Source::DecoderInput => 0,
        }
    }

    /// The lanes that the branches of a merge come up.
    pub(super) fn of_branches(&self, merge: usize) -> &[usize] {
        &self.branches[&merge]
    }

    pub(super) fn sides(&self) -> &[Side] {
        &self.sides
    }

    /// How many wires go side by side around layers.
    pub(super) fn slots(&self) -> usize {
        self.slots
    }
}
