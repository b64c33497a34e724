//! The gradient's norm and the optimisers.

use super::Access::{Read, Write};
use super::Part::Text;
use super::{Const, KernelSpec, Part, WG_SIZE};
use crate::params;

const PARTIAL: Part = Text(include_str!("../../optim/partial.wgsl"));
const CLIP_VALUE: Part = Text(include_str!("../../optim/clip_value.wgsl"));
const STATUS: Part = Text(include_str!("../../optim/status.wgsl"));
const FINITE: Part = Text(include_str!("../../optim/finite.wgsl"));
const PIECE: Part = Text(include_str!("../../optim/piece.wgsl"));
const UPDATE: Part = Text(include_str!("../../optim/update.wgsl"));

pub(super) static GRADIENT_NORM: KernelSpec = KernelSpec {
    parts: &[PIECE, PARTIAL, CLIP_VALUE, FINITE, Text(include_str!("../../optim/gradient_norm.wgsl"))],
    bindings: &[Read, Read, Write],
    consts: &[WG_SIZE],
    ..KernelSpec::of::<params::GradientNorm>("gradient_norm")
};

pub(super) static FINISH_NORM: KernelSpec = KernelSpec {
    parts: &[STATUS, PARTIAL, Text(include_str!("../../optim/finish_norm.wgsl"))],
    bindings: &[Read, Read, Write],
    consts: &[WG_SIZE],
    ..KernelSpec::of::<params::FinishNorm>("finish_norm")
};

pub(super) static SGD: KernelSpec = KernelSpec {
    parts: &[STATUS, PIECE, CLIP_VALUE, FINITE, Text(include_str!("../../optim/sgd.wgsl")), UPDATE],
    bindings: &[Read, Read, Write, Write, Write, Write],
    consts: &[WG_SIZE],
    ..KernelSpec::of::<params::Sgd>("sgd")
};

pub(super) static RMSPROP: KernelSpec = KernelSpec {
    parts: &[STATUS, PIECE, CLIP_VALUE, FINITE, Text(include_str!("../../optim/rmsprop.wgsl")), UPDATE],
    bindings: &[Read, Read, Write, Write, Write, Write, Write, Write],
    consts: &[WG_SIZE, Const::Bool("CENTERED")],
    ..KernelSpec::of::<params::RmsProp>("rmsprop")
};

pub(super) static AVERAGE: KernelSpec = KernelSpec {
    parts: &[STATUS, PIECE, Text(include_str!("../../optim/average.wgsl"))],
    bindings: &[Read, Read, Write, Read, Write],
    consts: &[WG_SIZE],
    ..KernelSpec::of::<params::Average>("average")
};

pub(super) static ADAM: KernelSpec = KernelSpec {
    parts: &[STATUS, PIECE, CLIP_VALUE, FINITE, Text(include_str!("../../optim/adam.wgsl")), UPDATE],
    bindings: &[Read, Read, Write, Write, Write, Write, Write],
    consts: &[WG_SIZE, Const::Bool("DECOUPLED")],
    ..KernelSpec::of::<params::Adam>("adam")
};
