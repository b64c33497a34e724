//! The random masks of recurrent layers, which act in training only.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The rates of a recurrent layer's noise; zero means none. docs/numerics.md has the equations.
///
/// Masks come from the counter-based generator of dropout layers, so they depend only on the seed, the batch's number,
/// the layer and the element's place, not on the device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Noise {
    /// Zoneout of h: the probability that a unit keeps h(t-1) (Krueger et al. 2016). Inference takes the expectation.
    #[serde(skip_serializing_if = "is_zero")]
    pub zoneout: f32,
    /// Zoneout of an LSTM's cell state, likewise.
    #[serde(skip_serializing_if = "is_zero")]
    pub zoneout_cell: f32,
    /// Dropout of h(t-1) on its way into the recurrent product, with one mask per sequence (Gal and Ghahramani 2016).
    #[serde(skip_serializing_if = "is_zero")]
    pub recurrent: f32,
    /// Dropout of the candidate, with one mask per step (Semeniuta et al. 2016).
    #[serde(skip_serializing_if = "is_zero")]
    pub candidate: f32,
    /// DropConnect: dropout of `weight_hh`, with one mask per batch (Merity et al. 2018).
    #[serde(skip_serializing_if = "is_zero")]
    pub weights: f32,
}

fn is_zero(rate: &f32) -> bool {
    *rate == 0.0
}

/// One of the masks of [`Noise`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum NoiseKind {
    /// `[T, B, H]`, [`Noise::zoneout`].
    Zoneout = 1,
    /// `[T, B, H]`, [`Noise::zoneout_cell`].
    ZoneoutCell = 2,
    /// `[B, H]`, [`Noise::recurrent`].
    Recurrent = 3,
    /// `[T, B, H]`, [`Noise::candidate`].
    Candidate = 4,
    /// Shaped like `weight_hh`, [`Noise::weights`].
    Weights = 5,
}

impl NoiseKind {
    /// Every mask.
    pub const ALL: [NoiseKind; 5] = [
        NoiseKind::Zoneout,
        NoiseKind::ZoneoutCell,
        NoiseKind::Recurrent,
        NoiseKind::Candidate,
        NoiseKind::Weights,
    ];

    /// The number that stands for this mask of a scan where a dropout layer has its index. It differs from every index.
    pub fn stream(self, layer: usize, reverse: bool) -> u32 {
        layer as u32 ^ ((2 * self as u32 + u32::from(reverse)) << 24)
    }
}

impl Noise {
    /// The rate of one mask.
    pub fn rate(&self, kind: NoiseKind) -> f32 {
        match kind {
            NoiseKind::Zoneout => self.zoneout,
            NoiseKind::ZoneoutCell => self.zoneout_cell,
            NoiseKind::Recurrent => self.recurrent,
            NoiseKind::Candidate => self.candidate,
            NoiseKind::Weights => self.weights,
        }
    }

    /// Whether there is any.
    pub fn is_on(&self) -> bool {
        *self != Noise::default()
    }

    /// Whether steps draw masks in training.
    pub fn in_training_steps(&self) -> bool {
        self.in_steps().is_some()
    }

    /// Whether any zoneout changes inference too.
    pub fn zones_out(&self) -> bool {
        self.zoneout > 0.0 || self.zoneout_cell > 0.0
    }

    /// The option that makes a step differ from that of the plain cell, if there is one; DropConnect only changes weights.
    pub(crate) fn in_steps(&self) -> Option<&'static str> {
        let rates = [
            (self.zoneout, "zoneout"),
            (self.zoneout_cell, "zoneout of the cell state"),
            (self.recurrent, "recurrent dropout"),
            (self.candidate, "dropout of the candidate"),
        ];
        rates.into_iter().find(|&(rate, _)| rate != 0.0).map(|(_, name)| name)
    }

    /// The problem with a rate, if there is one.
    pub(crate) fn problem(&self) -> Option<String> {
        let names = [
            "zoneout",
            "zoneout of the cell state",
            "recurrent dropout",
            "dropout of the candidate",
            "DropConnect",
        ];
        NoiseKind::ALL.into_iter().zip(names).find_map(|(kind, name)| {
            let rate = self.rate(kind);
            let fits = (0.0..1.0).contains(&rate);
            (!fits).then(|| format!("the rate of {name} is {rate}; expected at least 0 and below 1"))
        })
    }
}

/// `zoneout 0.1, cell zoneout 0.2, recurrent dropout 0.3`
impl fmt::Display for Noise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = ["zoneout", "cell zoneout", "recurrent dropout", "candidate dropout", "DropConnect"];
        let said = NoiseKind::ALL.into_iter().zip(names).filter(|(kind, _)| self.rate(*kind) != 0.0);
        let said: Vec<String> = said.map(|(kind, name)| format!("{name} {}", self.rate(kind))).collect();
        f.write_str(&said.join(", "))
    }
}
