//! The reach of dispatches, worked out by hand from the kernels' contracts.

use crate::params::{self, Params};
use crate::{
    CellStage, Columns, ELEMENT_WG_SIZE, ElementLossKind, Extents, KernelId, KernelVariant, NO_STEP,
};

const GROUPS: [u32; 3] = [1, 1, 1];

/// A kernel that treats each element on its own.
fn element_kernel(id: KernelId, consts: &[(&'static str, u32)]) -> KernelVariant {
    KernelVariant::new(id, &[&[("WG_SIZE", ELEMENT_WG_SIZE)], consts].concat())
}

/// Checks elements by binding, and loop iterations.
fn assert_touches(
    id: KernelId,
    consts: &[(&'static str, u32)],
    params: impl Params,
    groups: u32,
    lens: &[u64],
    iterations: u64,
) {
    let kernel = element_kernel(id, consts);
    let expected = Extents { lens: lens.into(), iterations };
    assert_eq!(params.extents(&kernel, [groups, 1, 1]), expected, "{kernel}");
}

#[test]
fn a_length_of_zero_is_a_binding_left_alone() {
    let extents = Extents { lens: vec![3, 0], iterations: 0 };
    assert!(extents.touches(0) && !extents.touches(1));
}

#[test]
fn embeddings() {
    // 131 rows in three blocks of 64, 9 tokens, rows of 5, everything after other elements.
    let gather =
        params::GatherRows { rows: 131, width: 5, tokens: 9, numbers_offset: 3, ..Default::default() };
    assert_touches(KernelId::GatherRows, &[], gather, 11, &[134, 45, 655], 0);
    let sort = params::SortRows { rows: 131, tokens: 9, numbers_offset: 3, shift: 0 };
    assert_touches(KernelId::RowCounts, &[("FIRST", 1)], sort, 3, &[134, 0, 192], 64);
    assert_touches(KernelId::RowCounts, &[("FIRST", 0)], sort, 3, &[134, 131, 192], 64);
    assert_touches(KernelId::PlaceRows, &[("FIRST", 1)], sort, 3, &[134, 0, 256, 131], 64);
    assert_touches(KernelId::PlaceRows, &[("FIRST", 0)], sort, 3, &[134, 131, 256, 131], 64);
    let places = params::RowPlaces { blocks: 3, ..Default::default() };
    assert_touches(KernelId::RowPlaces, &[], places, 1, &[256], 3 + 64);
    let runs = params::Runs {
        rows: 131,
        width: 5,
        tokens: 9,
        numbers_offset: 3,
        d_offset: 7,
        stretch: 16,
        ..Default::default()
    };
    assert_touches(KernelId::RunSums, &[], runs, 11, &[134, 131, 662, 655], 16);
    assert_touches(KernelId::AddRuns, &[], runs, 11, &[134, 131, 655, 45], 10);
}

#[test]
fn rows_and_elements() {
    let softmax = params::Softmax { rows: 3, width: 65, x_offset: 2, ..Default::default() };
    assert_touches(KernelId::Softmax, &[("TEAM", 8)], softmax, 1, &[197, 195], 3 * 9 + 2 * 8);
    let softmax =
        params::SoftmaxBackward { rows: 3, width: 65, y_offset: 2, d_y_offset: 9, ..Default::default() };
    assert_touches(KernelId::SoftmaxBackward, &[("TEAM", 64)], softmax, 3, &[197, 204, 195], 2 * 2 + 64);
    let normalise =
        params::NormaliseRows { rows: 3, width: 65, x_offset: 2, d_offset: 9, ..Default::default() };
    let of = |id, consts: &[(&'static str, u32)], lens: &[u64], iterations| {
        assert_touches(id, consts, normalise, 1, lens, iterations);
    };
    of(KernelId::NormaliseRows, &[("TEAM", 8)], &[197, 65, 65, 195], 3 * 9 + 2 * 8);
    let (backward, iterations) = (KernelId::NormaliseRowsBackward, 4 * 9 + 4 * 8);
    of(backward, &[("TEAM", 8), ("PRODUCTS", 1)], &[197, 65, 204, 195, 195], iterations);
    of(backward, &[("TEAM", 8), ("PRODUCTS", 0)], &[197, 65, 204, 195, 0], iterations);
    of(KernelId::NormaliseRowsTangent, &[("TEAM", 8)], &[197, 65, 204, 65, 65, 195], iterations);
    let pool = params::Pool { steps: 3, batch: 5, width: 2, x_offset: 4, v_offset: 7, ..Default::default() };
    let (largest, mean) = ([("LENGTHS", 1), ("MEAN", 0)], [("LENGTHS", 0), ("MEAN", 1)]);
    assert_touches(KernelId::Pool, &largest, pool, 1, &[5, 34, 37, 10], 3);
    assert_touches(KernelId::Pool, &mean, pool, 1, &[0, 0, 37, 10], 3);
    assert_touches(KernelId::PoolBackward, &largest, pool, 1, &[5, 34, 17, 30], 3);
    assert_touches(KernelId::PoolBackward, &mean, pool, 1, &[0, 0, 17, 30], 3);
    let dropout = params::Dropout { len: 7, x_offset: 2, ..Default::default() };
    assert_touches(KernelId::Dropout, &[], dropout, 1, &[4, 9, 7], 0);
    let add = params::Add { len: 7, a_offset: 1, b_offset: 2, out_offset: 3, ..Default::default() };
    assert_touches(KernelId::Add, &[("INTO", 0)], add, 1, &[8, 9, 10], 0);
    assert_touches(KernelId::Add, &[("INTO", 1)], add, 1, &[8, 0, 10], 0);
    let mask = params::MaskRows { steps: 3, batch: 5, width: 2, x_offset: 4, ..Default::default() };
    assert_touches(KernelId::MaskRows, &[], mask, 1, &[5, 34], 0);
    let ends = params::RowEnds { steps: 3, batch: 5, width: 2, offset: 4, ..Default::default() };
    assert_touches(KernelId::LastRows, &[], ends, 1, &[5, 34, 10], 0);
    assert_touches(KernelId::LastRowsBackward, &[], ends, 1, &[5, 14, 30], 0);
    let convolution = params::Convolution {
        steps: 7,
        out_steps: 3,
        batch: 5,
        width: 2,
        weights: 4,
        stride: 2,
        dilation: 1,
        left: 1,
        offset: 6,
        ..Default::default()
    };
    assert_touches(KernelId::Unfold, &[("LENGTHS", 1)], convolution, 2, &[5, 76, 120], 0);
    assert_touches(KernelId::Fold, &[("LENGTHS", 0)], convolution, 2, &[0, 126, 70], 4);
    let lengths =
        params::ConvolvedLengths { batch: 5, padding: 1, reach: 4, stride: 2, ..Default::default() };
    assert_touches(KernelId::ConvolvedLengths, &[], lengths, 1, &[5, 5], 0);
    let block = params::CopyBlock {
        rows: 3,
        width: 2,
        from_offset: 1,
        from_stride: 4,
        to_offset: 2,
        to_stride: 5,
        ..Default::default()
    };
    assert_touches(KernelId::CopyBlock, &[], block, 1, &[1 + 10, 2 + 12], 0);
    let repeat = params::Repeat { len: 7, period: 3, x_offset: 1, out_offset: 2, ..Default::default() };
    assert_touches(KernelId::Repeat, &[], repeat, 1, &[4, 9], 0);
    let fill = params::Fill { len: 7, offset: 2, ..Default::default() };
    assert_touches(KernelId::Fill, &[], fill, 1, &[9], 0);
}

#[test]
fn products() {
    let consts = |bias: u32, skip: [u32; 2]| {
        [
            ("WG_SIZE", 32),
            ("ROWS", 4),
            ("COLUMNS", 2),
            ("BIAS", bias),
            ("SKIP_ROWS", skip[0]),
            ("SKIP_INNER", skip[1]),
        ]
    };
    let product = params::MatMul {
        m: 2,
        n: 3,
        k: 5,
        slice_len: 4,
        a_offset: 1,
        a_row_stride: 5,
        a_k_stride: 1,
        b_k_stride: 3,
        b_column_stride: 1,
        b_offset: 7,
        batch: 3,
        ..Default::default()
    };
    // b and the columns are counted in fours.
    let kernel =
        KernelVariant { columns: Columns::Vec4, ..KernelVariant::new(KernelId::MatMul, &consts(0, [0, 1])) };
    let found = product.extents(&kernel, [1, 2, 1]);
    assert_eq!(found.lens, [1 + 10, 4 * (7 + 15), 0, 3, 2 * 12]);
    // For an inner element: a step of the loop, its sequence, its rows, and two columns of them.
    let of_k = 1 + 1 + 4 + 1 + 2 * (1 + 4);
    assert_eq!(found.iterations, 4 * of_k + 2 * (1 + 4) + 4);

    let found = product.extents(&KernelVariant::new(KernelId::MatMul, &consts(1, [0, 0])), [1, 2, 2]);
    assert_eq!(found.lens, [11, 22, 3, 0, 2 * 6]);
    let found = product.extents(&KernelVariant::new(KernelId::MatMul, &consts(1, [1, 0])), [1, 2, 1]);
    assert_eq!(found.lens, [11, 22, 3, 3, 6]);
}

#[test]
fn staged_products() {
    let consts = |skip: [u32; 2]| {
        [("ROW_QUADS", 2), ("COLUMN_QUADS", 1), ("BIAS", 1), ("SKIP_ROWS", skip[0]), ("SKIP_INNER", skip[1])]
    };
    // b is transposed.
    let product = params::MatMul {
        m: 2,
        n: 3,
        k: 37,
        slice_len: 20,
        a_offset: 1,
        a_row_stride: 37,
        a_k_stride: 1,
        b_k_stride: 1,
        b_column_stride: 37,
        b_offset: 7,
        batch: 5,
        ..Default::default()
    };
    let found = |skip| {
        let kernel = KernelVariant::new(KernelId::MatMulStaged, &consts(skip));
        product.extents(&kernel, [1, 1, 2])
    };
    let plain = found([0, 0]);
    assert_eq!(plain.lens, [1 + 2 * 37, 7 + 3 * 37, 3, 0, 2 * 6]);
    // Two blocks of 16 inner elements. For each: a step of the loop, three quads moved twice; for each element a step, a
    // quad of columns, and two quads of rows with one of columns.
    let of_block = 1 + 2 * 3 + 16 * (1 + 1 + 2 * (1 + 1));
    let in_the_end = 2 * (1 + 4 * (1 + 1));
    // Rounded up for each inner element.
    let rounded = |of_block: u64| 32 * of_block.div_ceil(16) + 3 + in_the_end;
    assert_eq!(plain.iterations, rounded(of_block));
    let found_rows = found([1, 0]);
    assert_eq!((found_rows.lens[3], found_rows.iterations), (5, rounded(of_block) + 128));
    let found_inner = found([0, 1]);
    assert_eq!((found_inner.lens[3], found_inner.iterations), (5, rounded(of_block + 17)));
}

#[test]
fn sums_and_packing() {
    let sums = params::ColumnSum { m: 3, n: 5, slice_len: 2, x_offset: 4 };
    assert_touches(KernelId::ColumnSum, &[], sums, 1, &[19, 5], 2);
    let sums = params::ColumnSum { x_offset: 0, ..sums };
    let found = sums.extents(&element_kernel(KernelId::ColumnSum, &[]), [1, 2, 1]);
    assert_eq!(found.lens, [15, 10], "two slices");
    let slices = params::SumSlices { m: 3, n: 5, slices: 4, groups_x: 1 };
    assert_touches(KernelId::SumSlices, &[("BIAS", 1)], slices, 1, &[60, 5, 15], 4);
    assert_touches(KernelId::SumSlices, &[("BIAS", 0)], slices, 1, &[60, 0, 15], 4);
    let backward = params::ActivationBackward { len: 9, groups_x: 1, ..Default::default() };
    assert_touches(KernelId::ActivationBackward, &[], backward, 1, &[9, 9, 9], 0);

    // Four lanes that hold gates 2 and 0 and nothing, in [3, 5, gates] and [3, gates, 5].
    let pack = params::PackJob {
        size0: 3,
        size1: 5,
        size2: 4,
        stride0: 15,
        stride1: 3,
        stride2: 1,
        lane_axis: 2,
        map: 0xff02,
        other_map: 0xffff,
        out_begin: 7,
        out_stride: 40,
        ..Default::default()
    };
    assert_eq!(pack.reach(), (2 * 15 + 4 * 3 + 2 + 1, 7 + 80 + 20));
    let pack = params::PackJob { other_map: 0xff0f, size1: 4, size2: 5, lane_axis: 1, ..pack };
    assert_eq!(pack.reach(), (2 * 15 + 2 * 3 + 4 + 1, 7 + 80 + 20));
    let plain = params::PackJob { lane_axis: 0, ..pack };
    assert_eq!(plain.reach(), (2 * 15 + 3 * 3 + 4 + 1, 7 + 80 + 20));
    let joined = params::Pack { jobs: 3, outs: 2, ..Default::default() };
    assert_touches(KernelId::Pack, &[("EACH", 5)], joined, 4, &[3 * 16, 1, 1, 1, 0, 0, 0], 3 + 5);

    let unpack = params::UnpackJob {
        size0: 3,
        size1: 5,
        size2: 4,
        stride0: 15,
        stride1: 3,
        stride2: 1,
        slices: 6,
        lane_axis: 2,
        map: 0xff02,
        ..Default::default()
    };
    assert_eq!(unpack.reach(), (6 * 60, 2 * 15 + 4 * 3 + 2 + 1));
    let joined = params::UnpackGradient { jobs: 3, sources: 2, most_slices: 6, ..Default::default() };
    let iterations = 3 + 5 * (1 + 6);
    assert_touches(
        KernelId::UnpackGradient,
        &[("EACH", 5)],
        joined,
        4,
        &[3 * 16, 1, 1, 0, 0, 0, 1],
        iterations,
    );
}

#[test]
fn losses() {
    // One target of each of 5 rows, from the second of its three outputs on: a mean and a variance where Gaussian.
    let loss = params::ElementLoss {
        len: 5,
        features: 1,
        stride: 3,
        offset: 1,
        parts: 4,
        first_part: 2,
        ..Default::default()
    };
    for (kind, outputs) in [(ElementLossKind::Huber, 14), (ElementLossKind::Gaussian, 15)] {
        let consts = [("LOSS", kind as u32)];
        assert_touches(KernelId::ElementLoss, &consts, loss, 1, &[outputs, 5, 5, outputs, 6], 2);
    }
    let classes = params::CrossEntropy { rows: 5, classes: 70, ..Default::default() };
    let lens = [350, 5, 5, 350, 5];
    assert_touches(KernelId::CrossEntropy, &[("WIDE", 0)], classes, 1, &lens, 3 * 70);
    assert_touches(KernelId::CrossEntropy, &[("WIDE", 1)], classes, 5, &lens, 3 * 2 + 2 * 64);
    let sum = params::SumLoss { parts: 130, capacity: 9, ..Default::default() };
    assert_touches(KernelId::SumLoss, &[], sum, 1, &[130, 10], 3 + 64);
}

#[test]
fn optimisers() {
    // With 64 invocations: walks over a piece of 4096 take 64 steps, and six halvings leave one invocation.
    let norm = params::GradientNorm { pieces: 3, first: 2, ..Default::default() };
    assert_touches(KernelId::GradientNorm, &[], norm, 3, &[3 * 8, 1, 5 * 4], 2 * 64 + 6);
    let finish = params::FinishNorm { partials: 130, ..Default::default() };
    assert_touches(KernelId::FinishNorm, &[], finish, 1, &[520, 8, 8], 3 + 6);
    for (momentum, end) in [(0.0, 0), (0.5, 1)] {
        let sgd = params::Sgd { pieces: 3, momentum, ..Default::default() };
        assert_touches(KernelId::Sgd, &[], sgd, 3, &[8, 24, 8, 1, 1, end], 64);
        let rms = params::RmsProp { pieces: 3, momentum, ..Default::default() };
        assert_touches(KernelId::RmsProp, &[("CENTERED", 0)], rms, 3, &[8, 24, 8, 1, 1, 1, 0, end], 64);
        assert_touches(KernelId::RmsProp, &[("CENTERED", 1)], rms, 3, &[8, 24, 8, 1, 1, 1, 1, end], 64);
    }
    let adam = params::Adam { pieces: 3, ..Default::default() };
    assert_touches(KernelId::Adam, &[("DECOUPLED", 0)], adam, 3, &[8, 24, 8, 1, 1, 1, 1], 64);
    let average = params::Average { pieces: 3, ..Default::default() };
    assert_touches(KernelId::Average, &[], average, 3, &[8, 24, 8, 1, 1], 64);
    let adam = params::Adam { pieces: 0, ..adam };
    assert_touches(KernelId::Adam, &[("DECOUPLED", 0)], adam, 1, &[8, 0, 8, 0, 0, 0, 0], 64);
}

/// A kernel of a scan, two rows a tile.
fn step_kernel(id: KernelId, cell: CellStage, consts: &[(&'static str, u32)]) -> KernelVariant {
    let consts = [&[("WG_SIZE", 32), ("ROWS", 2)], consts].concat();
    KernelVariant { cell: Some(cell), ..KernelVariant::new(id, &consts) }
}

/// Iterations for an inner element of a product in tiles of two rows: a step of the loop, its rows, their weight.
const OF_K: u64 = 1 + 2 + 1 + 2;

#[test]
fn steps_forward() {
    // h at the start of rows of 7, the result at their end; the second segment reads the last of five slots.
    let step = params::StepForward {
        t: 1,
        batch: 5,
        hidden: 3,
        width: 7,
        r_slot: 2,
        r_begin: 0,
        r_len: 3,
        skip_slot: 4,
        skip_begin: 1,
        skip_len: 2,
        h_from: 2,
        h_begin: 0,
        h_to: 3,
        to_begin: 4,
        state_from: 1,
        state_to: 2,
        ..Default::default()
    };
    let found = |cell, units, segments, lengths, save| {
        let consts = [("UNITS", units), ("SEGMENTS", segments), ("LENGTHS", lengths), ("SAVE", save)];
        step.extents(&step_kernel(KernelId::StepForward, cell, &consts), GROUPS)
    };
    let (h, h_by_skip) = (19 * 7 + 7, 24 * 7 + 7);
    let lstm = found(CellStage::Lstm, 3, 1, 1, 0);
    assert_eq!(lstm.lens, [9 * 4, 9, 5, 2 * 15 * 4, 3 * 15, h]);
    assert_eq!(lstm.iterations, 3 * OF_K + 4);
    let skipping = found(CellStage::Gru, 0, 2, 0, 0);
    assert_eq!(skipping.lens, [15 * 4, 0, 0, 2 * 15 * 4, 0, h_by_skip]);
    assert_eq!(skipping.iterations, 5 * OF_K + 4);
    assert_eq!(found(CellStage::GruUpdate, 0, 1, 0, 0).lens, [9, 0, 0, 2 * 15 * 4, 0, h]);
    assert_eq!(found(CellStage::Readout, 1, 1, 0, 0).lens, [9, 3, 0, 0, 0, h]);
    assert_eq!(found(CellStage::Readout, 1, 1, 0, 1).lens, [9, 3, 0, 2 * 15, 0, h]);
}

#[test]
fn tangents_of_steps() {
    // Rows of tangents have those of h and of the state; h has two slots more than steps, the state one.
    let step = params::StepTangent {
        t: 1,
        batch: 5,
        hidden: 3,
        width: 7,
        dot_width: 10,
        r_slot: 2,
        r_begin: 0,
        r_len: 3,
        skip_slot: 4,
        skip_begin: 1,
        skip_len: 2,
        h_from: 2,
        h_begin: 0,
        h_to: 3,
        to_begin: 4,
        state_back: 1,
        ..Default::default()
    };
    let found = |cell, units, segments, lengths| {
        let consts = [("UNITS", units), ("SEGMENTS", segments), ("LENGTHS", lengths), ("SAVE", 0)];
        step.extents(&step_kernel(KernelId::StepTangent, cell, &consts), GROUPS)
    };
    let (gates, h) = (2 * 15 * 4, 14 * 7 + 3);
    let lstm = found(CellStage::Lstm, 3, 1, 1);
    assert_eq!(lstm.lens, [9 * 4, 18, 5, gates, 3 * 15, h, gates, 19 * 10 + 10]);
    assert_eq!(lstm.iterations, 3 * OF_K + 4);
    let skipping = found(CellStage::Gru, 0, 2, 0);
    assert_eq!(skipping.lens, [15 * 4, 0, 0, gates, 0, h, gates, 24 * 10 + 7]);
    assert_eq!(found(CellStage::Readout, 0, 1, 0).lens, [9, 0, 0, 2 * 15, 0, h, 2 * 15, 19 * 10 + 7]);
}

#[test]
fn steps_backward() {
    let step = params::StepBackward {
        t: 1,
        batch: 5,
        hidden: 3,
        width: 7,
        h_from: 2,
        h_begin: 1,
        state_from: 1,
        state_to: 2,
        inner_to: 60,
        next: 2,
        skip_next: 4,
        d_stride: 8,
        d_begin: 2,
        history: 3,
        steps: 6,
        reverse: 0,
        ..Default::default()
    };
    let found = |step: params::StepBackward, cell, units, segments, lengths, finals| {
        let consts = [("UNITS", units), ("SEGMENTS", segments), ("LENGTHS", lengths), ("FINALS", finals)];
        step.extents(&step_kernel(KernelId::StepBackward, cell, &consts), GROUPS)
    };
    let (h, d_out) = (14 * 7 + 4, 9 * 8 + 5);
    let lstm = found(step, CellStage::Lstm, 3, 1, 1, 0);
    assert_eq!(lstm.lens, [9 * 4, 9, 5, 3 * 15, h, d_out, 3 * 15 * 4, 15]);
    assert_eq!(lstm.iterations, 3 * OF_K + 2 + 4);
    let skipping = found(step, CellStage::Gru, 0, 2, 0, 1);
    assert_eq!(skipping.lens, [2 * 9 * 4, 0, 0, 0, h, d_out, 5 * 15 * 4, 4 * 15]);
    assert_eq!(skipping.iterations, 2 * (3 * OF_K + 2) + 4);
    // A vanilla cell passes nothing back around its weights.
    assert_eq!(found(step, CellStage::Rnn, 0, 1, 0, 0).lens, [9, 0, 0, 0, h, d_out, 3 * 15, 0]);
    assert_eq!(found(step, CellStage::Rnn, 0, 1, 0, 1).lens[7], 4 * 15);
    assert_eq!(found(step, CellStage::GruUpdate, 0, 1, 0, 0).lens[7], 60 + 15);
    let last = params::StepBackward { next: NO_STEP, skip_next: NO_STEP, ..step };
    assert_eq!(found(last, CellStage::Gru, 0, 2, 0, 0).lens[6], 2 * 15 * 4, "its own step alone");
}

#[test]
fn steps_backward_from_within() {
    let step = params::StepBackwardInner {
        t: 1,
        batch: 5,
        hidden: 3,
        width: 7,
        h_from: 2,
        h_begin: 1,
        state_from: 1,
        state_to: 2,
        inner_to: 60,
        inner_from: 15,
        inner_len: 2,
        row_from: 25,
        ..Default::default()
    };
    let found = |cell, units, lengths, row| {
        let consts = [("UNITS", units), ("LENGTHS", lengths), ("WITH_ROW", row)];
        step.extents(&step_kernel(KernelId::StepBackwardInner, cell, &consts), GROUPS)
    };
    let h = 14 * 7 + 4;
    let lstm = found(CellStage::Lstm, 3, 1, 0);
    assert_eq!(lstm.lens, [6, 9, 5, 3 * 15, h, 2 * 15 * 4, 15 + 10]);
    assert_eq!(lstm.iterations, 2 * OF_K + 4);
    assert_eq!(found(CellStage::Rnn, 0, 0, 1).lens, [6, 0, 0, 0, h, 2 * 15, 25 + 15]);
    assert_eq!(found(CellStage::GruUpdate, 0, 0, 1).lens[6], 60 + 15);
}

#[test]
fn readouts_backward() {
    // h of 3 columns, then a readout of 2, which has a final value in one slot.
    let step = params::ReadoutBackward {
        t: 1,
        batch: 5,
        hidden: 3,
        columns: 5,
        skip_columns: 3,
        own: 3,
        readout_from: 3,
        next: 2,
        skip_next: 4,
        d_stride: 8,
        d_begin: 2,
        history: 3,
        steps: 6,
        reverse: 0,
        inner_to: 15,
        finals_at: 40,
        ..Default::default()
    };
    let found = |step: params::ReadoutBackward, segments, lengths, finals| {
        let consts = [("SEGMENTS", segments), ("LENGTHS", lengths), ("FINALS", finals)];
        step.extents(&step_kernel(KernelId::ReadoutBackward, CellStage::Lstm, &consts), GROUPS)
    };
    let d_out = 9 * 8 + 4;
    let plain = found(step, 1, 1, 0);
    assert_eq!(plain.lens, [3 * 5 * 4, 5, 3 * 15 * 4, d_out, 2 * 10, 15 + 10 + 15]);
    assert_eq!(plain.iterations, 3 * OF_K + 4 + 4);
    let skipping = found(step, 2, 0, 1);
    assert_eq!(skipping.lens, [3 * 8 * 4, 0, 5 * 15 * 4, d_out, 2 * 10, 40 + 3 * 15 + 10]);
    assert_eq!(skipping.iterations, 2 * (3 * OF_K + 4) + 4);
    let last = params::ReadoutBackward { next: NO_STEP, ..step };
    assert_eq!(found(last, 1, 0, 0).lens[2], 0, "no step follows");
    // A readout in place of h.
    let alone = params::ReadoutBackward { columns: 2, skip_columns: 2, own: 2, readout_from: 0, ..step };
    assert_eq!(found(alone, 1, 0, 0).lens, [3 * 2 * 4, 0, 3 * 15 * 4, d_out, 2 * 10, 15 + 10]);
}

#[test]
fn initial_values_backward() {
    let initial = params::InitialBackward {
        batch: 5,
        hidden: 3,
        columns: 5,
        skip_columns: 3,
        own: 3,
        history: 2,
        steps: 6,
        reverse: 0,
        carries_h: 0,
        finals_at: 40,
        ..Default::default()
    };
    let found = |initial: params::InitialBackward, segments, lengths, finals| {
        let consts = [("SEGMENTS", segments), ("LENGTHS", lengths), ("FINALS", finals)];
        initial.extents(&step_kernel(KernelId::InitialBackward, CellStage::Gru, &consts), GROUPS)
    };
    let values = 2 * 15 + 10;
    let plain = found(initial, 1, 1, 0);
    assert_eq!(plain.lens, [3 * 5 * 4, 5, 15 * 4, 0, values]);
    assert_eq!(plain.iterations, 3 * OF_K + 4 + 2);
    let skipping = found(initial, 2, 0, 1);
    assert_eq!(skipping.lens, [3 * 8 * 4, 0, 6 * 15 * 4, 40 + values, values]);
    assert_eq!(skipping.iterations, 2 * (3 * OF_K + 4) + 2);
    let reverse = params::InitialBackward { reverse: 1, carries_h: 1, ..initial };
    assert_eq!(found(reverse, 1, 0, 0).lens, [3 * 5 * 4, 0, 6 * 15 * 4, 15, values]);
}

/// Three crews of three workgroups: 4 of 11 rows, and 7 of 21 units for two teams of 8 invocations.
fn grid_kernel(id: KernelId, consts: &[(&'static str, u32)]) -> KernelVariant {
    let own = [("WG_SIZE", 16), ("ROWS", 4), ("SHARERS", 3), ("PARTS", 4), ("SPLITS", 2), ("HIDDEN", 21)];
    let more = [("KEPT", 1), ("PARKED", 1), ("STAGED", 2), ("POLLS", 5), ("UNITS", 3), ("LENGTHS", 1)];
    KernelVariant { cell: Some(CellStage::Lstm), ..KernelVariant::new(id, &[&own, &more, consts].concat()) }
}

#[test]
fn scans_of_workgroups_that_wait_for_each_other() {
    // 7 units a workgroup, in 4 blocks of 2; 28 cells, 2 an invocation; 3 turns in 2 stages of 16 values, 4 a row loaded.
    let (around, stages, cells) =
        (4 + 2 * 5 + 2 * 2, 2 * (1 + 4 + 2 * (1 + 4 * 5)), 2 * (1 + 16) + 4 * 5 + 2 * 4);
    let (h, sync) = (21 * 11, 3 * 32 + 1);
    let forward = params::GridForward {
        first: 2,
        count: 3,
        steps: 6,
        batch: 11,
        hidden: 21,
        history: 2,
        reverse: 0,
        spins: 100,
        ..Default::default()
    };
    for (segments, save, state) in [(1, 1, 7), (2, 0, 1)] {
        let kernel = grid_kernel(KernelId::GridForward, &[("SEGMENTS", segments), ("SAVE", save)]);
        let segments = u64::from(segments);
        let iterations = 2 * (around + 3 * (1 + segments * stages + cells)) + 103 * 7;
        let lens = vec![segments * 21 * 21 * 4, 63, 11, 6 * h * 4, state * h, 8 * h, sync];
        assert_eq!(forward.extents(&kernel, [3, 3, 1]), Extents { lens, iterations });
    }
    let backward = params::GridBackward {
        first: 2,
        count: 3,
        steps: 6,
        batch: 11,
        hidden: 21,
        history: 1,
        d_stride: 30,
        d_begin: 2,
        spins: 100,
        ..Default::default()
    };
    for (finals, carry) in [(0, h), (1, 2 * h)] {
        let kernel = grid_kernel(KernelId::GridBackward, &[("SEGMENTS", 1), ("FINALS", finals)]);
        let iterations = 2 * (around + 3 * (1 + stages + cells)) + 103 * 7;
        let d_out = (6 * 11 - 1) * 30 + 23;
        let lens = vec![21 * 21 * 4, 63, 11, 7 * h, 7 * h, d_out, 6 * h * 4, carry, sync];
        assert_eq!(backward.extents(&kernel, [3, 3, 1]), Extents { lens, iterations });
    }
    let probe = params::GridProbe { groups: 7, spins: 100, ..Default::default() };
    let kernel = KernelVariant::new(KernelId::GridProbe, &[("WG_SIZE", 16), ("POLLS", 5), ("FILLED", 33)]);
    assert_eq!(probe.extents(&kernel, [7, 1, 1]), Extents { lens: vec![33], iterations: 3 + 101 * 7 });
}

#[test]
fn rows_of_scans() {
    // Columns 2 to 4 of rows of 7; two of three slots before the first step have values.
    let first = params::InitialRows {
        first_slot: 1,
        slots: 2,
        batch: 5,
        width: 7,
        begin: 2,
        columns: 3,
        history: 3,
        values: 2,
        steps: 6,
        reverse: 0,
        ..Default::default()
    };
    let consts = |with: u32, lengths: u32| [("WITH_INITIAL", with), ("LENGTHS", lengths)];
    let h = 14 * 7 + 5;
    assert_touches(KernelId::InitialRows, &consts(1, 0), first, 1, &[2 * 15, 0, h], 0);
    assert_touches(KernelId::InitialRows, &consts(0, 1), first, 1, &[0, 5, h], 0);

    let last = params::FinalRows {
        batch: 5,
        width: 7,
        begin: 2,
        columns: 3,
        history: 3,
        values: 2,
        steps: 6,
        reverse: 0,
        ..Default::default()
    };
    assert_touches(KernelId::FinalRows, &[("LENGTHS", 1)], last, 1, &[44 * 7 + 5, 5, 2 * 15], 0);
    let reverse = params::FinalRows { reverse: 1, ..last };
    assert_touches(KernelId::FinalRows, &[("LENGTHS", 0)], reverse, 1, &[9 * 7 + 5, 0, 2 * 15], 0);

    let lengths = params::InterleavedLengths { batch: 5, dilation: 3, steps: 7, ..Default::default() };
    assert_touches(KernelId::InterleavedLengths, &[("LENGTHS", 0)], lengths, 1, &[0, 15], 0);
    assert_touches(KernelId::InterleavedLengths, &[("LENGTHS", 1)], lengths, 1, &[5, 15], 0);
    let rows = params::InterleavedRows { batch: 5, columns: 4, dilation: 3, steps: 7, ..Default::default() };
    assert_touches(KernelId::InterleavedRows, &[("LENGTHS", 0)], rows, 1, &[60, 0, 60], 0);
    assert_touches(KernelId::InterleavedRows, &[("LENGTHS", 1)], rows, 1, &[60, 5, 60], 0);

    let output = params::ScanOutput {
        steps: 6,
        batch: 5,
        width: 7,
        begin: 2,
        columns: 3,
        first_slot: 3,
        out_width: 8,
        out_begin: 4,
        ..Default::default()
    };
    let lens = |lengths| [44 * 7 + 5, lengths, 29 * 8 + 7];
    assert_touches(KernelId::ScanOutput, &[("LENGTHS", 1), ("ADD", 0)], output, 1, &lens(5), 0);
    assert_touches(KernelId::ScanOutput, &[("LENGTHS", 0), ("ADD", 1)], output, 1, &lens(0), 0);

    let peepholes = params::PeepholeGradient {
        rows: 30,
        hidden: 3,
        before: 0,
        after: 5,
        slice_len: 16,
        ..Default::default()
    };
    let found = peepholes.extents(&element_kernel(KernelId::PeepholeGradient, &[]), [1, 2, 1]);
    assert_eq!(found, Extents { lens: vec![30 * 3 * 4, 35 * 3, 2 * 3 * 3], iterations: 16 });
}
