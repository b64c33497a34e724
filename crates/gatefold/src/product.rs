//! Matrix products, packing and sums lowered to plan steps: tiles, slices and workgroups chosen for the device.

use crate::Error;
use crate::gpu::Target;
use crate::plan::{Dispatch, MAX_GROUPS, Plan, Span};
use gatefold_model::Activation;
use gatefold_shaders::{
    Columns, ELEMENT_WG_SIZE, KernelId, KernelVariant, SUBGROUP_LANES, TILE_WG_SIZE, params,
};

/// A matrix in a buffer: where it begins and how its two axes are walked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Matrix {
    pub(crate) span: Span,
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) row_stride: usize,
    pub(crate) column_stride: usize,
    /// Where rows are the steps of sequences of different length, so that products may pass over what lies behind their
    /// ends.
    pub(crate) steps: Option<StepRows>,
}

/// Rows `[T, batch]` that end with their sequences; `lengths [batch]` are `u32`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StepRows {
    pub(crate) lengths: Span,
    pub(crate) batch: usize,
}

impl Matrix {
    /// Row after row, without gaps.
    pub(crate) fn new(span: Span, rows: usize, columns: usize) -> Matrix {
        assert_eq!(span.len, rows * columns, "a matrix fills its span");
        Matrix { span, rows, columns, row_stride: columns, column_stride: 1, steps: None }
    }

    /// The same numbers with rows and columns exchanged; its rows are no steps.
    pub(crate) fn transposed(self) -> Matrix {
        Matrix {
            span: self.span,
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            steps: None,
        }
    }
}

/// Which gate each lane of a unit holds, in the code of the kernels: four bits a lane, 15 for a lane that holds zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LaneMap {
    pub(crate) lanes: usize,
    code: u32,
}

impl LaneMap {
    /// A lane for each gate, in order.
    pub(crate) fn same(gates: usize) -> LaneMap {
        let lanes: Vec<Option<usize>> = (0..gates).map(Some).collect();
        LaneMap::new(&lanes)
    }

    /// The gate of each lane.
    pub(crate) fn new(lanes: &[Option<usize>]) -> LaneMap {
        let of = |(at, gate): (usize, &Option<usize>)| (gate.unwrap_or(15) as u32) << (4 * at);
        LaneMap { lanes: lanes.len(), code: lanes.iter().enumerate().map(of).sum() }
    }
}

/// A tensor `[size0, size1, size2]` whose element `i0, i1, i2` is element `i0 s0 + i1 s1 + i2 s2` of another; along one
/// axis it may count lanes where the other counts gates.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Order {
    pub(crate) sizes: [usize; 3],
    pub(crate) strides: [usize; 3],
    lanes: Option<(u32, LaneMap)>,
}

impl Order {
    /// The same order: nothing moves.
    pub(crate) fn same(len: usize) -> Order {
        Order { sizes: [1, 1, len], strides: [0, 0, 1], lanes: None }
    }

    /// `[columns, rows]` from `[rows, columns]`.
    pub(crate) fn transposed(rows: usize, columns: usize) -> Order {
        Order { sizes: [1, columns, rows], strides: [0, 1, columns], lanes: None }
    }

    /// From PyTorch's `[gates, hidden, columns]` to `[columns, hidden, lanes]`, as a walk along a row reads it.
    pub(crate) fn columns_units_lanes(map: LaneMap, hidden: usize, columns: usize) -> Order {
        let (sizes, strides) = ([columns, hidden, map.lanes], [1, columns, hidden * columns]);
        Order { sizes, strides, lanes: Some((2, map)) }
    }

    /// From PyTorch's `[gates, hidden, columns]` to `[hidden, lanes, columns]`, rows in the order of packed gradients.
    pub(crate) fn units_lanes_columns(map: LaneMap, hidden: usize, columns: usize) -> Order {
        let (sizes, strides) = ([hidden, map.lanes, columns], [columns, hidden * columns, 1]);
        Order { sizes, strides, lanes: Some((1, map)) }
    }

    /// From PyTorch's `[gates, hidden, columns]` to `[hidden, columns, lanes]`, as the backward walk reads it.
    pub(crate) fn units_columns_lanes(map: LaneMap, hidden: usize, columns: usize) -> Order {
        let (sizes, strides) = ([hidden, columns, map.lanes], [columns, 1, hidden * columns]);
        Order { sizes, strides, lanes: Some((2, map)) }
    }

    pub(crate) fn len(&self) -> usize {
        self.sizes.iter().product()
    }

    /// The axis that counts lanes, 0 for none, and the code of the map.
    fn lane_code(&self) -> (u32, u32) {
        self.lanes.map_or((0, 0), |(axis, map)| (axis, map.code))
    }
}

/// Rows that one invocation of a tiled kernel owns when `rows` rows of `columns` invocations are to be done, and a
/// row may cost at most `max_rows`. Software drivers like large tiles, GPUs many invocations.
pub(crate) fn tile_rows(target: &Target, rows: usize, columns: usize, max_rows: u32) -> u32 {
    const ENOUGH_INVOCATIONS: usize = 16_384;
    let mut tile = 1;
    while tile < max_rows && (tile as usize) < rows {
        let invocations = rows.div_ceil(2 * tile as usize) * columns;
        if !target.software && invocations < ENOUGH_INVOCATIONS {
            break;
        }
        tile *= 2;
    }
    tile
}

/// The longest inner axis that one invocation of this kernel may walk on this device.
pub(crate) fn max_inner(target: &Target, kernel: &KernelVariant) -> usize {
    target.max_loop_iterations.map_or(usize::MAX, |limit| {
        // A quarter is left for the loops around the walk.
        (limit / 4 * 3 / kernel.iterations_per_k()) as usize / SUBGROUP_LANES as usize
            * SUBGROUP_LANES as usize
    })
}

/// Inner elements of a slice: short enough that what the invocations of a slice share stays in a cache.
const SLICE_LEN: usize = 512;
/// Above this the slices of a product would cost more memory than they are worth.
const MAX_SLICES_BYTES: usize = 64 << 20;

/// A product ready to be put into a plan.
struct Tiled {
    kernel: KernelVariant,
    params: params::MatMul,
    lengths: Option<Span>,
    groups: [u32; 3],
    slices: usize,
}

/// Chooses tile, columns and slices. `slice_len` is what the caller would like; the device's limits come first.
fn tile(target: &Target, what: &str, a: Matrix, b: Matrix, slice_len: usize) -> Result<Tiled, Error> {
    let (m, n, k) = (a.rows, b.columns, a.columns);
    assert_eq!(k, b.rows, "{what}: the inner axes differ");
    assert!(a.steps.is_none() || b.steps.is_none(), "{what}: steps lie along one axis");
    let steps = a.steps.or(b.steps);
    let whole_columns = [n, b.row_stride, b.span.offset].iter().all(|elements| elements.is_multiple_of(4));
    let vec4 = b.column_stride == 1 && whole_columns;
    let columns = if vec4 { Columns::Vec4 } else { Columns::F32 };
    let width = columns.width() as usize;
    let n_columns = n / width;
    let wide = target.software && n_columns > TILE_WG_SIZE as usize;
    let per_invocation = if wide { 2 } else { 1 };
    let rows = tile_rows(target, m, n_columns.div_ceil(per_invocation), 16);
    let kernel = KernelVariant {
        id: KernelId::MatMul,
        cell: None,
        lanes: target.lanes,
        columns,
        consts: vec![
            ("WG_SIZE", TILE_WG_SIZE),
            ("ROWS", rows),
            ("COLUMNS", per_invocation as u32),
            ("BIAS", 0),
            ("SKIP_ROWS", u32::from(a.steps.is_some())),
            ("SKIP_INNER", u32::from(b.steps.is_some())),
            ("ACTIVATION", Activation::Identity.code()),
            ("ALPHA", 0),
            ("BETA", 0),
        ],
    };
    let slice_len = slice_len.min(k).min(max_inner(target, &kernel)).max(1);
    let slices = k.div_ceil(slice_len);
    let groups =
        [n_columns.div_ceil(per_invocation * TILE_WG_SIZE as usize), m.div_ceil(rows as usize), slices];
    if groups.iter().any(|&count| count > MAX_GROUPS as usize) {
        return Err(Error::Device(format!(
            "{what}: a product of [{m}, {k}] and [{k}, {n}] takes {groups:?} workgroups, the device allows \
             {MAX_GROUPS} an axis; use a smaller batch or fewer steps"
        )));
    }
    let params = params::MatMul {
        m: m as u32,
        n: n_columns as u32,
        k: k as u32,
        slice_len: slice_len as u32,
        a_row_stride: a.row_stride as u32,
        a_k_stride: a.column_stride as u32,
        b_k_stride: (b.row_stride / width) as u32,
        b_column_stride: if vec4 { 1 } else { b.column_stride as u32 },
        batch: steps.map_or(0, |rows| rows.batch as u32),
        ..params::MatMul::default()
    };
    let lengths = steps.map(|rows| rows.lengths);
    Ok(Tiled { kernel, params, lengths, groups: groups.map(|count| count as u32), slices })
}

impl Tiled {
    fn set(&mut self, name: &str, value: u32) {
        let slot = self.kernel.consts.iter_mut().find(|(found, _)| *found == name);
        slot.expect("the kernel has this constant").1 = value;
    }

    /// `a` is bound whole and read from its offset on, and `b` where a binding cannot begin at it.
    fn put(mut self, plan: &mut Plan, note: &str, a: Matrix, b: Matrix, bias: Option<Span>, c: Span) {
        self.params.a_offset = a.span.offset as u32;
        let (b_span, b_offset) = plan.bind(b.span);
        self.params.b_offset = b_offset / self.kernel.columns.width();
        let whole = Span { offset: 0, len: plan.buffers[a.span.buffer.0].len, ..a.span };
        let bias = bias.unwrap_or(b_span);
        let bindings = [whole, b_span, bias, self.lengths.unwrap_or(bias), c];
        plan.dispatch(self.kernel, self.params, &bindings, self.groups)
            .note(note.into())
            .flops(2 * a.rows * a.columns * b.columns);
    }
}

/// `c = act(a b + bias)`, written whole. Behind the ends of `a`'s rows, if it has such, `c` is that or `act(bias)`.
pub(crate) fn matmul(
    plan: &mut Plan,
    target: &Target,
    what: &str,
    (a, b): (Matrix, Matrix),
    bias: Option<Span>,
    activation: Activation,
    c: Span,
) -> Result<(), Error> {
    let mut tiled = tile(target, what, a, b, usize::MAX)?;
    let (m, n, slices) = (a.rows, b.columns, tiled.slices);
    let has_bias = u32::from(bias.is_some());
    if slices == 1 {
        tiled.set("BIAS", has_bias);
        for (name, value) in activation_consts(activation) {
            tiled.set(name, value);
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
        &[parts, bias.unwrap_or(parts), c],
        groups,
    )
}

/// `y = act(x)`, element by element.
pub(crate) fn activate(plan: &mut Plan, x: Span, activation: Activation, y: Span) {
    sum_slices(plan, (x, 1), (1, x.len), None, activation, y);
}

/// The constants of a function, under the names that kernels with one function have for them.
pub(crate) fn activation_consts(activation: Activation) -> [(&'static str, u32); 3] {
    let [alpha, beta] = [activation.alpha(), activation.beta()].map(f32::to_bits);
    [("ACTIVATION", activation.code()), ("ALPHA", alpha), ("BETA", beta)]
}

/// `d += a b` in the order of the parameter: products over all steps, split along them and added in order. Behind the
/// ends of `b`'s rows, if it has such, `b` is zero.
pub(crate) fn add_gradient(
    plan: &mut Plan,
    target: &Target,
    what: &str,
    (a, b): (Matrix, Matrix),
    order: Order,
    d: Span,
) -> Result<(), Error> {
    let (m, n, k) = (a.rows, b.columns, a.columns);
    let affordable = (MAX_SLICES_BYTES / (4 * m * n)).max(1);
    let slice_len = SLICE_LEN.max(k.div_ceil(affordable)).next_multiple_of(SUBGROUP_LANES as usize);
    let tiled = tile(target, what, a, b, slice_len)?;
    let slices = tiled.slices;
    let parts = plan.scratch(format!("{what}.slices"), slices * m * n);
    tiled.put(plan, what, a, b, None, parts);
    unpack(plan, what, parts, slices, order, d);
    Ok(())
}

/// How a sum over rows is split.
#[derive(Debug)]
pub(crate) struct RowSlices {
    pub(crate) count: usize,
    /// Rows of one.
    pub(crate) len: usize,
    /// An invocation for each column of each.
    pub(crate) groups: [u32; 3],
}

/// Slices of the rows of a matrix, for kernels that add rows up.
pub(crate) fn row_slices(
    target: &Target,
    what: &str,
    rows: usize,
    columns: usize,
) -> Result<RowSlices, Error> {
    let longest = target.max_loop_iterations.map_or(usize::MAX, |limit| limit as usize / 4);
    let len = SLICE_LEN.max(rows.div_ceil(MAX_GROUPS as usize));
    if len > longest {
        return Err(Error::Device(format!("{what}: {rows} rows are more than the device can add up")));
    }
    let count = rows.div_ceil(len);
    let groups_x = columns.div_ceil(ELEMENT_WG_SIZE as usize);
    if groups_x > MAX_GROUPS as usize {
        return Err(Error::Device(format!(
            "{what}: {columns} columns take {groups_x} workgroups, the device allows {MAX_GROUPS} an axis; use a narrower layer"
        )));
    }
    Ok(RowSlices { count, len, groups: [groups_x as u32, count as u32, 1] })
}

/// `d += sums of the columns of x` in the order of the parameters, for every one of them.
pub(crate) fn add_column_sums(
    plan: &mut Plan,
    target: &Target,
    what: &str,
    x: Matrix,
    into: &[(Order, Span)],
) -> Result<(), Error> {
    let (parts, slices) = column_slices(plan, target, what, x, None)?;
    for &(order, d) in into {
        unpack(plan, what, parts, slices, order, d);
    }
    Ok(())
}

/// `out = sums of the columns of x`, rows in order.
pub(crate) fn column_sums(
    plan: &mut Plan,
    target: &Target,
    what: &str,
    x: Matrix,
    out: Span,
) -> Result<(), Error> {
    let (parts, slices) = column_slices(plan, target, what, x, Some(out))?;
    if slices > 1 {
        sum_slices(plan, (parts, slices), (1, x.columns), None, Activation::Identity, out).note(what.into());
    }
    Ok(())
}

/// Sums of columns by slices of rows, `[slices, columns]`; one slice goes to `whole`, where there is such a place.
fn column_slices(
    plan: &mut Plan,
    target: &Target,
    what: &str,
    x: Matrix,
    whole: Option<Span>,
) -> Result<(Span, usize), Error> {
    assert_eq!((x.row_stride, x.column_stride), (x.columns, 1), "{what}: rows lie one behind the other");
    let slices = row_slices(target, what, x.rows, x.columns)?;
    let whole = whole.filter(|_| slices.count == 1);
    let parts = whole.unwrap_or_else(|| plan.scratch(format!("{what}.sums"), slices.count * x.columns));
    let (x_span, x_offset) = plan.bind(x.span);
    plan.dispatch(
        KernelVariant::new(KernelId::ColumnSum, &[("WG_SIZE", ELEMENT_WG_SIZE)]),
        params::ColumnSum { m: x.rows as u32, n: x.columns as u32, slice_len: slices.len as u32, x_offset },
        &[x_span, parts],
        slices.groups,
    )
    .note(what.into());
    Ok((parts, slices.count))
}

/// `d += parts`, slices added in order, in the order of the parameter.
pub(crate) fn unpack(plan: &mut Plan, what: &str, parts: Span, slices: usize, order: Order, d: Span) {
    let (groups, groups_x) = element_groups(order.len());
    let [size0, size1, size2] = order.sizes.map(|size| size as u32);
    let [stride0, stride1, stride2] = order.strides.map(|stride| stride as u32);
    let (slices, (lane_axis, map)) = (slices as u32, order.lane_code());
    assert_ne!(lane_axis, 1, "gradients have their lanes along the last axis");
    plan.dispatch(
        KernelVariant::new(KernelId::UnpackGradient, &[("WG_SIZE", ELEMENT_WG_SIZE)]),
        params::UnpackGradient {
            size0,
            size1,
            size2,
            groups_x,
            stride0,
            stride1,
            stride2,
            slices,
            lane_axis,
            map,
            ..Default::default()
        },
        &[parts, d],
        groups,
    )
    .note(what.into());
}

/// `out = source`, or `source + other`, with its axes reordered.
pub(crate) fn pack(plan: &mut Plan, source: Span, other: Option<(Span, LaneMap)>, order: Order, out: Span) {
    pack_part(plan, source, other, order, out, (0, order.sizes[1] * order.sizes[2]));
}

/// [`pack`] into part of `out`: its first element, and what a step along the first axis is there.
pub(crate) fn pack_part(
    plan: &mut Plan,
    source: Span,
    other: Option<(Span, LaneMap)>,
    order: Order,
    out: Span,
    (out_begin, out_stride): (usize, usize),
) {
    let (groups, groups_x) = element_groups(order.len());
    let [size0, size1, size2] = order.sizes.map(|size| size as u32);
    let [stride0, stride1, stride2] = order.strides.map(|stride| stride as u32);
    let with_other = u32::from(other.is_some());
    let (lane_axis, map) = order.lane_code();
    let (other, other_map) = other.map_or((source, map), |(span, map)| (span, map.code));
    plan.dispatch(
        KernelVariant::new(KernelId::Pack, &[("WG_SIZE", ELEMENT_WG_SIZE), ("WITH_OTHER", with_other)]),
        params::Pack {
            size0,
            size1,
            size2,
            groups_x,
            stride0,
            stride1,
            stride2,
            lane_axis,
            map,
            other_map,
            out_begin: out_begin as u32,
            out_stride: out_stride as u32,
        },
        &[source, other, out],
        groups,
    );
}

/// Workgroups for kernels that treat `len` elements one by one, in two axes, and how many there are along the first.
pub(crate) fn element_groups(len: usize) -> ([u32; 3], u32) {
    let groups = len.div_ceil(ELEMENT_WG_SIZE as usize).max(1);
    let x = groups.min(MAX_GROUPS as usize);
    ([x as u32, groups.div_ceil(x) as u32, 1], x as u32)
}
