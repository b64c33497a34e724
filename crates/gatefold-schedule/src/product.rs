//! Matrix products, packing and sums lowered to plan steps: tiles, slices and workgroups chosen for the device.

mod choice;
mod matrix;
mod packing;
mod staged;
mod sums;

pub use choice::ProductChoice;
pub use matrix::{LaneMap, Matrix, Order, StepRows};
pub(crate) use packing::{joined_bindings, joined_kernel};
pub use packing::{pack, pack_part, unpack};
pub use sums::{RowSlices, add_column_sums, column_sums, row_slices};

use crate::plan::MAX_GROUPS;
use crate::{Dispatch, Error, Plan, Span, Target};
use choice::{SecondPass, Way, choose};
use gatefold_model::Activation;
use gatefold_shaders::{
    Columns, ELEMENT_WG_SIZE, KernelId, KernelVariant, SUBGROUP_LANES, TILE_WG_SIZE, params,
};

/// The rows that one invocation of a tiled kernel owns, at most `max_rows`, if there are `rows` rows of `columns`
/// invocations. Software drivers prefer large tiles, GPUs many invocations.
pub fn tile_rows(target: &Target, rows: usize, columns: usize, max_rows: u32) -> u32 {
    const ENOUGH_INVOCATIONS: usize = 16_384;
    let mut tile = 1;
    while tile < max_rows && (tile as usize) < rows {
        let invocations = rows.div_ceil(2 * tile as usize) * columns;
        if !target.software && invocations < ENOUGH_INVOCATIONS {
            break;
        }
        tile *= 2;
    }
    // On an H100, 8 rows took two to three times as long as 4 in scans, and up to three times in weight gradients.
    if !target.software && tile == 8 { 4 } else { tile }
}

/// The longest inner axis that one invocation of this kernel may walk on this device.
pub fn max_inner(target: &Target, kernel: &KernelVariant) -> usize {
    target.max_loop_iterations.map_or(usize::MAX, |limit| {
        // A quarter is left for the loops around the walk.
        let block = kernel.inner_block().max(SUBGROUP_LANES);
        (limit / 4 * 3 / kernel.iterations_per_k() / block * block) as usize
    })
}

/// Inner elements of a slice: short enough that what the invocations of a slice share stays in a cache.
const SLICE_LEN: usize = 512;

/// A product ready to be put into a plan.
struct Tiled {
    kernel: KernelVariant,
    params: params::MatMul,
    lengths: Option<Span>,
    groups: [u32; 3],
    slices: usize,
}

/// Chooses the kernel, its tile and slices. The device's limits come before what would be fastest.
fn tile(target: &Target, what: &str, a: Matrix, b: Matrix, second_pass: SecondPass) -> Result<Tiled, Error> {
    let (m, n, k) = (a.rows, b.columns, a.columns);
    assert_eq!(k, b.rows, "{what}: the inner axes differ");
    assert!(a.steps.is_none() || b.steps.is_none(), "{what}: steps lie along one axis");
    let steps = a.steps.or(b.steps);
    let whole_columns = [n, b.row_stride, b.span.offset].iter().all(|elements| elements.is_multiple_of(4));
    let vec4 = b.column_stride == 1 && whole_columns;
    let width = if vec4 { Columns::Vec4 } else { Columns::F32 }.width() as usize;
    let way = choose(target, [m, n, k], n / width, second_pass);
    let width = if way.block.is_some() { 1 } else { width };
    let n_columns = n / width;
    let (mut kernel, [rows, columns]) = kernel(target, [m, n_columns, k], width, way);
    for (name, steps) in [("SKIP_ROWS", a.steps), ("SKIP_INNER", b.steps)] {
        set(&mut kernel, name, u32::from(steps.is_some()));
    }
    let slice_len = way.slice_len.min(k).min(max_inner(target, &kernel)).max(1);
    let slices = k.div_ceil(slice_len);
    let groups = [n_columns.div_ceil(columns), m.div_ceil(rows), slices];
    if groups.iter().any(|&count| count > MAX_GROUPS as usize) {
        return Err(Error::limit(
            format!("{what}: a product of [{m}, {k}] and [{k}, {n}]"),
            format!("{groups:?} workgroups"),
            format!("{MAX_GROUPS} an axis"),
            "use a smaller batch or fewer steps",
        ));
    }
    let params = params::MatMul {
        m: m as u32,
        n: n_columns as u32,
        k: k as u32,
        slice_len: slice_len as u32,
        a_row_stride: a.row_stride as u32,
        a_k_stride: a.column_stride as u32,
        b_k_stride: (b.row_stride / width) as u32,
        b_column_stride: if width > 1 { 1 } else { b.column_stride as u32 },
        batch: steps.map_or(0, |rows| rows.batch as u32),
        ..params::MatMul::default()
    };
    let lengths = steps.map(|rows| rows.lengths);
    Ok(Tiled { kernel, params, lengths, groups: groups.map(|count| count as u32), slices })
}

/// The kernel of a product without lengths, bias and activation, and the rows and columns of a workgroup. Columns are
/// `width` elements wide.
fn kernel(
    target: &Target,
    [m, n_columns, k]: [usize; 3],
    width: usize,
    way: Way,
) -> (KernelVariant, [usize; 2]) {
    let plain = [("BIAS", 0), ("SKIP_ROWS", 0), ("SKIP_INNER", 0)];
    let with = |own: &[(&'static str, u32)]| [own, &plain, &activation_consts(Activation::Identity)].concat();
    if let Some(block) = way.block {
        let own = [("ROW_QUADS", block.row_quads), ("COLUMN_QUADS", block.column_quads)];
        return (KernelVariant::new(KernelId::MatMulStaged, &with(&own)), block.tile());
    }
    let wide = target.software && n_columns > TILE_WG_SIZE as usize;
    let per_invocation = if wide { 2 } else { 1 };
    let slices = k.div_ceil(way.slice_len.min(k).max(1));
    let rows = tile_rows(target, m, n_columns.div_ceil(per_invocation) * slices, 16);
    let own = [("WG_SIZE", TILE_WG_SIZE), ("ROWS", rows), ("COLUMNS", per_invocation as u32)];
    let columns = if width > 1 { Columns::Vec4 } else { Columns::F32 };
    let kernel =
        KernelVariant { lanes: target.lanes, columns, ..KernelVariant::new(KernelId::MatMul, &with(&own)) };
    (kernel, [rows as usize, per_invocation * TILE_WG_SIZE as usize])
}

fn set(kernel: &mut KernelVariant, name: &str, value: u32) {
    let slot = kernel.consts.iter_mut().find(|(found, _)| *found == name);
    slot.expect("the kernel has this constant").1 = value;
}

impl Tiled {
    /// Binds `a` whole and reads it from its offset on; `b` too, if a binding cannot begin at its offset.
    fn put(mut self, plan: &mut Plan, note: &str, a: Matrix, b: Matrix, bias: Option<Span>, c: Span) {
        self.params.a_offset = a.span.offset as u32;
        let (b_span, b_offset) = plan.bind(b.span);
        self.params.b_offset = b_offset / self.kernel.columns.width();
        let bindings = [plan.whole(a.span).into(), b_span.into(), bias.into(), self.lengths.into(), c.into()];
        plan.dispatch(self.kernel, self.params, &bindings, self.groups)
            .note(note.into())
            .flops(2 * a.rows * a.columns * b.columns);
    }
}

/// `c = act(a b + bias)`, written whole. Past the ends of `a`'s rows, if they have ends, `c` is either that or
/// `act(bias)`.
///
/// # Errors
/// [`Error::Limit`] for a product of more rows or columns than the device has workgroups for.
pub fn matmul(
    plan: &mut Plan,
    target: &Target,
    what: &str,
    (a, b): (Matrix, Matrix),
    bias: Option<Span>,
    activation: Activation,
    c: Span,
) -> Result<(), Error> {
    let mut tiled = tile(target, what, a, b, SecondPass::Extra)?;
    let (m, n, slices) = (a.rows, b.columns, tiled.slices);
    let has_bias = u32::from(bias.is_some());
    if slices == 1 {
        set(&mut tiled.kernel, "BIAS", has_bias);
        for (name, value) in activation_consts(activation) {
            set(&mut tiled.kernel, name, value);
        }
        tiled.put(plan, what, a, b, bias, c);
        return Ok(());
    }
    let parts = plan.scratch(format!("{what}.slices"), slices * m * n);
    tiled.put(plan, what, a, b, None, parts);
    sum_slices(plan, (parts, slices), (m, n), bias, activation, c);
    Ok(())
}

fn sum_slices(
    plan: &mut Plan,
    (parts, slices): (Span, usize),
    (m, n): (usize, usize),
    bias: Option<Span>,
    activation: Activation,
    c: Span,
) -> &mut Dispatch {
    let (groups, groups_x) = element_groups(m * n);
    let own = [("WG_SIZE", ELEMENT_WG_SIZE), ("BIAS", u32::from(bias.is_some()))];
    plan.dispatch(
        KernelVariant::new(KernelId::SumSlices, &[&own[..], &activation_consts(activation)].concat()),
        params::SumSlices { m: m as u32, n: n as u32, slices: slices as u32, groups_x },
        &[parts.into(), bias.into(), c.into()],
        groups,
    )
}

/// `y = act(x)`, element by element.
pub fn activate(plan: &mut Plan, x: Span, activation: Activation, y: Span) {
    sum_slices(plan, (x, 1), (1, x.len), None, activation, y);
}

/// The constants of a function, under the names that kernels with one function have for them.
pub fn activation_consts(activation: Activation) -> [(&'static str, u32); 3] {
    let [alpha, beta] = [activation.alpha(), activation.beta()].map(f32::to_bits);
    [("ACTIVATION", activation.code()), ("ALPHA", alpha), ("BETA", beta)]
}

/// `d += a b` in the order of the parameter: products over all steps, split along them and added in order. Past the ends
/// of `b`'s rows, if they have ends, `b` counts as zero.
///
/// # Errors
/// [`Error::Limit`] for a product of more rows or columns than the device has workgroups for.
pub fn add_gradient(
    plan: &mut Plan,
    target: &Target,
    what: &str,
    (a, b): (Matrix, Matrix),
    order: Order,
    d: Span,
) -> Result<(), Error> {
    let (m, n) = (a.rows, b.columns);
    let tiled = tile(target, what, a, b, SecondPass::Needed)?;
    let slices = tiled.slices;
    let parts = plan.scratch(format!("{what}.slices"), slices * m * n);
    tiled.put(plan, what, a, b, None, parts);
    unpack(plan, what, parts, slices, order, d);
    Ok(())
}

/// Workgroups for kernels that treat `len` elements one by one, in two axes, and how many there are along the first.
pub fn element_groups(len: usize) -> ([u32; 3], u32) {
    groups(len.div_ceil(ELEMENT_WG_SIZE as usize))
}

/// Spreads workgroups over two axes; returns them, and how many there are along the first, at least one.
pub fn groups(count: usize) -> ([u32; 3], u32) {
    let x = count.clamp(1, MAX_GROUPS as usize);
    ([x as u32, count.div_ceil(x).max(1) as u32, 1], x as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gpu_gets_large_tiles_only_where_invocations_are_enough() {
        let gpu = Target::webgpu();
        let software = Target { software: true, ..Target::webgpu() };
        let tiles = |target: &Target, rows: usize, most: u32| tile_rows(target, rows, 1024, most);
        assert_eq!([16, 30, 32, 64, 128, 240, 256].map(|rows| tiles(&gpu, rows, 16)), [1, 1, 2, 4, 4, 4, 16]);
        assert_eq!([1, 2, 5, 8, 9, 256].map(|rows| tiles(&software, rows, 16)), [1, 2, 8, 8, 16, 16]);
        assert_eq!(tiles(&software, 256, 8), 8);
    }
}
