//! Embeddings: rows looked up by token; backward, rows sorted by token and added up.

use super::{WIDEST, after_others, element_groups, element_kernel};
use crate::Random;
use crate::compare::Tolerance;
use crate::data::{flat, matrix, wide};
use crate::selfcheck::Checks;
use gatefold::hooks::run_kernel;
use gatefold::{Error, Gpu};
use gatefold_reference::sequence::{self, Digit};
use gatefold_shaders::{ELEMENT_WG_SIZE, KernelId, params};
use ndarray::Array2;

/// Values of a digit, and rows of a block.
const DIGITS: usize = ELEMENT_WG_SIZE as usize;

/// Rows, tokens, values of a row. Few tokens have long runs, many tokens several digits.
const CASES: [(usize, usize, usize); 7] =
    [(1, 1, 1), (63, 2, 5), (64, 65, 3), (65, 64, 1), (131, 1, 7), (1000, 5000, 2), (4099, 27, 3)];

/// Token numbers, some out of range: kernels clamp them.
fn numbers(random: &mut Random, rows: usize, tokens: usize) -> Vec<f32> {
    let mut found: Vec<f32> = random
        .within(0.0..tokens as f32, rows)
        .into_iter()
        .map(f32::floor)
        .map(|n| n.min(tokens as f32 - 1.0))
        .collect();
    for (at, bad) in [(7, -3.0), (19, 1e20), (40, tokens as f32)] {
        if rows > at {
            found[at] = bad;
        }
    }
    found
}

/// Whole numbers as the bits of a buffer.
fn bits(values: impl IntoIterator<Item = usize>) -> Vec<f32> {
    values.into_iter().map(|value| f32::from_bits(value as u32)).collect()
}

/// The bits of a buffer as whole numbers, to compare.
fn whole(values: &[f32]) -> Vec<f32> {
    values.iter().map(|value| value.to_bits() as f32).collect()
}

fn counted(values: &[usize]) -> Vec<f64> {
    values.iter().map(|&value| value as f64).collect()
}

pub(super) fn gather_rows(gpu: &Gpu, checks: &mut Checks) -> Result<(), Error> {
    for (stream, (rows, tokens, width)) in CASES.into_iter().enumerate() {
        let mut random = Random::new(40, stream as u64);
        let (numbers, table) = (numbers(&mut random, rows, tokens), random.values(tokens * width));
        let (groups, before) = (element_groups(rows * width, WIDEST[stream % 2]), [0, 3][stream % 2]);
        let params = params::GatherRows {
            rows: rows as u32,
            width: width as u32,
            tokens: tokens as u32,
            numbers_offset: before as u32,
            groups_x: groups[0],
            ..Default::default()
        };
        let bindings: [&[f32]; 3] = [&after_others(before, &numbers), &table, &vec![7.0; rows * width]];
        let found = run_kernel(gpu, &element_kernel(KernelId::GatherRows, &[]), params, &bindings, groups)?;

        let want = sequence::gather_rows(&wide(&numbers), matrix(&table, tokens, width).view());
        checks.case(format!("{rows} rows of {width}, {tokens} tokens"));
        checks.tensor("out", &[("row", rows), ("column", width)], &found[2], &flat(&want), Tolerance::EXACT);
    }
    Ok(())
}

/// A pass of the sort: rows in some order or their own, and a digit.
struct Pass {
    numbers: Vec<f32>,
    order: Option<Vec<usize>>,
    digit: Digit,
    before: usize,
    what: String,
}

impl Pass {
    /// Every case with its first digit in the rows' own order, then with its second in another.
    fn all() -> Vec<Pass> {
        let mut found = Vec::new();
        for (stream, (rows, tokens, _)) in CASES.into_iter().enumerate() {
            for first in [true, false] {
                let numbers = numbers(&mut Random::new(41, stream as u64), rows, tokens);
                let digit = Digit { tokens, shift: if first { 0 } else { 6 }, values: DIGITS };
                found.push(Pass {
                    numbers,
                    order: (!first).then(|| (0..rows).rev().collect()),
                    digit,
                    before: [0, 3][stream % 2],
                    what: format!("{rows} rows, {tokens} tokens, shift {}", digit.shift),
                });
            }
        }
        found
    }

    fn params(&self) -> params::SortRows {
        params::SortRows {
            rows: self.numbers.len() as u32,
            tokens: self.digit.tokens as u32,
            numbers_offset: self.before as u32,
            shift: self.digit.shift,
        }
    }

    fn blocks(&self) -> usize {
        self.numbers.len().div_ceil(DIGITS)
    }

    fn consts(&self) -> [(&'static str, u32); 1] {
        [("FIRST", u32::from(self.order.is_none()))]
    }

    /// The token numbers and the order as buffers.
    fn inputs(&self) -> (Vec<f32>, Vec<f32>) {
        (after_others(self.before, &self.numbers), bits(self.order.clone().unwrap_or(vec![0])))
    }

    fn counts(&self) -> Array2<usize> {
        sequence::row_counts(&wide(&self.numbers), self.order.as_deref(), self.digit)
    }
}

pub(super) fn row_counts(gpu: &Gpu, checks: &mut Checks) -> Result<(), Error> {
    for pass in Pass::all() {
        let (numbers, order) = pass.inputs();
        let kernel = element_kernel(KernelId::RowCounts, &pass.consts());
        let bindings: [&[f32]; 3] = [&numbers, &order, &vec![7.0; pass.blocks() * DIGITS]];
        let found = run_kernel(gpu, &kernel, pass.params(), &bindings, [pass.blocks() as u32, 1, 1])?;

        let want: Vec<usize> = pass.counts().into_iter().collect();
        checks.case(pass.what.clone());
        let axes = [("block", pass.blocks()), ("digit", DIGITS)];
        checks.tensor("counts", &axes, &whole(&found[2]), &counted(&want), Tolerance::EXACT);
    }
    Ok(())
}

pub(super) fn row_places(gpu: &Gpu, checks: &mut Checks) -> Result<(), Error> {
    for pass in Pass::all() {
        let (counts, blocks) = (pass.counts(), pass.blocks());
        let list = bits(counts.iter().copied().chain([7; DIGITS]));
        let params = params::RowPlaces { blocks: blocks as u32, ..Default::default() };
        let found = run_kernel(gpu, &element_kernel(KernelId::RowPlaces, &[]), params, &[&list], [1, 1, 1])?;

        let want: Vec<usize> = sequence::row_places(&counts).into_iter().collect();
        checks.case(pass.what);
        let axes = [("block", blocks + 1), ("digit", DIGITS)];
        checks.tensor("places", &axes, &whole(&found[0]), &counted(&want), Tolerance::EXACT);
    }
    Ok(())
}

pub(super) fn place_rows(gpu: &Gpu, checks: &mut Checks) -> Result<(), Error> {
    for pass in Pass::all() {
        let (numbers, order) = pass.inputs();
        let places = sequence::row_places(&pass.counts());
        let rows = pass.numbers.len();
        let kernel = element_kernel(KernelId::PlaceRows, &pass.consts());
        let list = bits(places.iter().copied());
        let bindings: [&[f32]; 4] = [&numbers, &order, &list, &vec![7.0; rows]];
        let found = run_kernel(gpu, &kernel, pass.params(), &bindings, [pass.blocks() as u32, 1, 1])?;

        let want = sequence::place_rows(&wide(&pass.numbers), pass.order.as_deref(), pass.digit, &places);
        checks.case(pass.what.clone());
        let place = [("place", rows)];
        checks.tensor("sorted", &place, &whole(&found[3]), &counted(&want), Tolerance::EXACT);
    }
    Ok(())
}

/// Rows sorted by token, and the gradients to add up.
struct Runs {
    rows: usize,
    tokens: usize,
    width: usize,
    stretch: usize,
    numbers: Vec<f32>,
    order: Vec<usize>,
    d: Vec<f32>,
    table: Vec<f32>,
    before: usize,
    groups: [u32; 3],
}

impl Runs {
    fn all() -> Vec<Runs> {
        let mut found = Vec::new();
        for (stream, (rows, tokens, width)) in CASES.into_iter().enumerate() {
            for stretch in [1, 16, 256] {
                let mut random = Random::new(42, stream as u64);
                let numbers = numbers(&mut random, rows, tokens);
                let mut order: Vec<usize> = (0..rows).collect();
                order.sort_by_key(|&row| (numbers[row] as usize).min(tokens - 1));
                let d = random.values_for(tokens * width, rows * width);
                let table = random.values_for(tokens * width, tokens * width);
                let (before, groups) = ([0, 3][stream % 2], element_groups(rows * width, WIDEST[stream % 2]));
                found.push(Runs { rows, tokens, width, stretch, numbers, order, d, table, before, groups });
            }
        }
        found
    }

    fn params(&self) -> params::Runs {
        params::Runs {
            rows: self.rows as u32,
            width: self.width as u32,
            tokens: self.tokens as u32,
            numbers_offset: self.before as u32,
            d_offset: self.before as u32,
            stretch: self.stretch as u32,
            groups_x: self.groups[0],
            ..Default::default()
        }
    }

    /// The sums where runs and stretches begin, 7 elsewhere.
    fn sums(&self) -> Array2<f64> {
        let mut sums = Array2::from_elem((self.rows, self.width), 7.0);
        let d = matrix(&self.d, self.rows, self.width);
        let numbers = wide(&self.numbers);
        sequence::run_sums(&numbers, &self.order, self.tokens, d.view(), self.stretch, &mut sums);
        sums
    }

    fn case(&self) -> String {
        let Runs { rows, tokens, width, stretch, .. } = self;
        format!("{rows} rows of {width}, {tokens} tokens, by {stretch}")
    }
}

pub(super) fn run_sums(gpu: &Gpu, checks: &mut Checks) -> Result<(), Error> {
    for case in Runs::all() {
        let numbers = after_others(case.before, &case.numbers);
        let (order, d) = (bits(case.order.iter().copied()), after_others(case.before, &case.d));
        let bindings: [&[f32]; 4] = [&numbers, &order, &d, &vec![7.0; case.rows * case.width]];
        let kernel = element_kernel(KernelId::RunSums, &[]);
        let found = run_kernel(gpu, &kernel, case.params(), &bindings, case.groups)?;

        checks.case(case.case());
        let axes = [("place", case.rows), ("column", case.width)];
        let tolerance = Tolerance::product(case.stretch.min(case.rows));
        checks.tensor("sums", &axes, &found[3], &flat(&case.sums()), tolerance);
    }
    Ok(())
}

pub(super) fn add_runs(gpu: &Gpu, checks: &mut Checks) -> Result<(), Error> {
    for case in Runs::all() {
        let numbers = after_others(case.before, &case.numbers);
        let order = bits(case.order.iter().copied());
        let sums: Vec<f32> = case.sums().iter().map(|&sum| sum as f32).collect();
        let bindings: [&[f32]; 4] = [&numbers, &order, &sums, &case.table];
        let kernel = element_kernel(KernelId::AddRuns, &[]);
        let found = run_kernel(gpu, &kernel, case.params(), &bindings, case.groups)?;

        let mut want = matrix(&case.table, case.tokens, case.width);
        let sums = matrix(&sums, case.rows, case.width);
        sequence::add_runs(&wide(&case.numbers), &case.order, sums.view(), case.stretch, &mut want);
        checks.case(case.case());
        let axes = [("token", case.tokens), ("column", case.width)];
        let terms = case.rows.div_ceil(case.stretch) + 1;
        checks.tensor("d_table", &axes, &found[3], &flat(&want), Tolerance::product(terms));
    }
    Ok(())
}
