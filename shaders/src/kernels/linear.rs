//! Matrix products, packing and sums.

use super::Access::{Read, Write};
use super::Part::Text;
use super::{ACTIVATION, ACTIVATIONS, ALPHA, BETA, Const, KEEP_PRE, KernelSpec, Part, ROWS, WG_SIZE};
use crate::params;

const FACTORS: Part = Text(include_str!("../../linear/factors.wgsl"));
const BIAS: Const = Const::Bool("BIAS");
const SKIP_ROWS: Const = Const::Bool("SKIP_ROWS");
const SKIP_INNER: Const = Const::Bool("SKIP_INNER");

pub(super) static MATMUL: KernelSpec = KernelSpec {
    parts: &[
        ACTIVATIONS,
        Part::Lanes,
        Part::Columns,
        FACTORS,
        Text(include_str!("../../linear/matmul.wgsl")),
    ],
    bindings: &[Read, Read, Read, Read, Write],
    consts: &[WG_SIZE, ROWS, Const::U32("COLUMNS"), BIAS, SKIP_ROWS, SKIP_INNER, ACTIVATION, ALPHA, BETA],
    ..KernelSpec::of::<params::MatMul>("matmul")
};

pub(super) static MATMUL_STAGED: KernelSpec = KernelSpec {
    parts: &[
        ACTIVATIONS,
        Text(include_str!("../../linear/columns_f32.wgsl")),
        FACTORS,
        Text(include_str!("../../linear/matmul_staged.wgsl")),
    ],
    bindings: &[Read, Read, Read, Read, Write],
    consts: &[
        Const::U32("ROW_QUADS"),
        Const::U32("COLUMN_QUADS"),
        BIAS,
        SKIP_ROWS,
        SKIP_INNER,
        ACTIVATION,
        ALPHA,
        BETA,
    ],
    ..KernelSpec::of::<params::MatMul>("matmul_staged")
};

pub(super) static SUM_SLICES: KernelSpec = KernelSpec {
    parts: &[ACTIVATIONS, Text(include_str!("../../linear/sum_slices.wgsl"))],
    bindings: &[Read, Read, Write],
    consts: &[WG_SIZE, BIAS, ACTIVATION, ALPHA, BETA],
    ..KernelSpec::of::<params::SumSlices>("sum_slices")
};

pub(super) static PACK: KernelSpec = KernelSpec {
    parts: &[Text(include_str!("../../linear/pack.wgsl"))],
    bindings: &[Read, Read, Write, Write, Write, Write, Write],
    consts: &[WG_SIZE, Const::U32("EACH")],
    ..KernelSpec::of::<params::Pack>("pack")
};

pub(super) static UNPACK_GRADIENT: KernelSpec = KernelSpec {
    parts: &[Text(include_str!("../../linear/unpack_gradient.wgsl"))],
    bindings: &[Read, Read, Read, Read, Read, Read, Write],
    consts: &[WG_SIZE, Const::U32("EACH")],
    ..KernelSpec::of::<params::UnpackGradient>("unpack_gradient")
};

pub(super) static COLUMN_SUM: KernelSpec = KernelSpec {
    parts: &[Text(include_str!("../../linear/column_sum.wgsl"))],
    bindings: &[Read, Write],
    consts: &[WG_SIZE],
    ..KernelSpec::of::<params::ColumnSum>("column_sum")
};

pub(super) static ACTIVATION_BACKWARD: KernelSpec = KernelSpec {
    parts: &[ACTIVATIONS, Text(include_str!("../../linear/activation_backward.wgsl"))],
    bindings: &[Read, Read, Write],
    consts: &[WG_SIZE, ACTIVATION, ALPHA, BETA, KEEP_PRE],
    ..KernelSpec::of::<params::ActivationBackward>("activation_backward")
};
