//! Losses.

use super::Access::{Read, Write};
use super::Part::Text;
use super::{Const, KernelSpec, WG_SIZE};
use crate::params;

pub(super) static ELEMENT_LOSS: KernelSpec = KernelSpec {
    parts: &[Text(include_str!("../../loss/element_loss.wgsl"))],
    bindings: &[Read, Read, Read, Write, Write],
    consts: &[WG_SIZE, Const::U32("LOSS")],
    ..KernelSpec::of::<params::ElementLoss>("element_loss")
};

pub(super) static CROSS_ENTROPY: KernelSpec = KernelSpec {
    parts: &[Text(include_str!("../../loss/cross_entropy.wgsl"))],
    bindings: &[Read, Read, Read, Write, Write],
    consts: &[WG_SIZE, Const::Bool("WIDE")],
    ..KernelSpec::of::<params::CrossEntropy>("cross_entropy")
};

pub(super) static SUM_LOSS: KernelSpec = KernelSpec {
    parts: &[Text(include_str!("../../loss/sum_loss.wgsl"))],
    bindings: &[Read, Write],
    consts: &[WG_SIZE],
    ..KernelSpec::of::<params::SumLoss>("sum_loss")
};

/// The loss that [`KernelId::ElementLoss`](crate::KernelId::ElementLoss) computes: its constant `LOSS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum ElementLossKind {
    /// The square of the residual.
    Squared,
    /// The magnitude of the residual.
    Absolute,
    /// A square near zero, a line further away.
    Huber,
    /// The pinball loss of one level.
    Quantile,
    /// The Gaussian negative log likelihood, from a mean and the logarithm of a variance.
    Gaussian,
}

impl ElementLossKind {
    /// Every kind.
    pub const ALL: [ElementLossKind; 5] = [
        ElementLossKind::Squared,
        ElementLossKind::Absolute,
        ElementLossKind::Huber,
        ElementLossKind::Quantile,
        ElementLossKind::Gaussian,
    ];

    /// The name of its constant in WGSL.
    pub fn wgsl_name(self) -> &'static str {
        match self {
            ElementLossKind::Squared => "SQUARED",
            ElementLossKind::Absolute => "ABSOLUTE",
            ElementLossKind::Huber => "HUBER",
            ElementLossKind::Quantile => "QUANTILE",
            ElementLossKind::Gaussian => "GAUSSIAN",
        }
    }
}
