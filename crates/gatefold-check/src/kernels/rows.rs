//! Initial values, final values, and a scan's output. Nothing is computed, so every bit must match.

use super::{WIDEST, element_groups, element_kernel};
use crate::Random;
use crate::compare::Tolerance;
use crate::data::wide;
use crate::selfcheck::Checks;
use gatefold::hooks::run_kernel;
use gatefold::{Error, Gpu};
use gatefold_reference::scan::kernel::{self, Slots};
use gatefold_shaders::{KernelId, params};
use ndarray::Array3;

/// A buffer of slots, and the columns to look at.
struct Case {
    steps: usize,
    batch: usize,
    width: usize,
    begin: usize,
    columns: usize,
    history: usize,
    /// Slots with a value among those before the first step.
    values: usize,
    reverse: bool,
    lengths: Option<Vec<usize>>,
    h: Vec<f32>,
    widest: u32,
}

fn cases() -> Vec<Case> {
    let mut found = Vec::new();
    for (steps, batch, width, begin, columns) in
        [(1, 1, 1, 0, 1), (5, 7, 9, 2, 3), (4, 33, 65, 0, 65), (3, 5, 70, 6, 64)]
    {
        for (history, values) in [(1, 1), (3, 3), (4, 1)] {
            for reverse in [false, true] {
                for with_lengths in [false, true] {
                    let turn = found.len();
                    let lengths = |row: usize| [steps, 0, 1, steps - 1][row % 4];
                    let len = (steps + history) * batch * width;
                    found.push(Case {
                        steps,
                        batch,
                        width,
                        begin,
                        columns,
                        history,
                        values,
                        reverse,
                        lengths: with_lengths.then(|| (0..batch).map(lengths).collect()),
                        h: Random::new(24, turn as u64).values(len),
                        widest: WIDEST[turn % 2],
                    });
                }
            }
        }
    }
    found
}

impl Case {
    fn slots(&self) -> Slots<'_> {
        let Case { steps, history, reverse, .. } = *self;
        Slots { steps, history, reverse, lengths: self.lengths.as_deref() }
    }

    fn wide_h(&self) -> Array3<f64> {
        let shape = (self.steps + self.history, self.batch, self.width);
        Array3::from_shape_vec(shape, wide(&self.h)).expect("as many as the shape has")
    }

    fn device_lengths(&self) -> Vec<f32> {
        device_lengths(self.lengths.as_deref())
    }

    fn has_lengths(&self) -> (&'static str, u32) {
        ("LENGTHS", u32::from(self.lengths.is_some()))
    }

    fn describe(&self) -> String {
        let Case { steps, batch, width, columns, history, values, reverse, .. } = self;
        let lengths = if self.lengths.is_some() { " lengths" } else { "" };
        format!(
            "T {steps} B {batch} {columns} of {width} k {history} values {values} reverse {reverse}{lengths}"
        )
    }
}

/// The words that a device reads as lengths.
fn device_lengths(lengths: Option<&[usize]>) -> Vec<f32> {
    lengths.map_or(vec![0.0], |lengths| lengths.iter().map(|&len| f32::from_bits(len as u32)).collect())
}

pub(super) fn initial_rows(gpu: &Gpu, checks: &mut Checks) -> Result<(), Error> {
    for (turn, case) in cases().into_iter().enumerate() {
        for with_initial in [false, true] {
            let Case { steps, batch, width, begin, columns, history, values, reverse, .. } = case;
            // More than there are values for, so that a kernel that reads too far finds something.
            let initial = Random::new(25, turn as u64).values((steps + 2 * history) * batch * columns);
            // Without lengths, slots of steps need nothing.
            let (first_slot, slots) = match (&case.lengths, reverse) {
                (Some(_), _) => (0, steps + history),
                (None, false) => (0, history),
                (None, true) => (steps, history),
            };
            let groups = element_groups(slots * batch * columns, case.widest);
            let params = params::InitialRows {
                first_slot: first_slot as u32,
                slots: slots as u32,
                batch: batch as u32,
                width: width as u32,
                begin: begin as u32,
                columns: columns as u32,
                history: history as u32,
                values: values as u32,
                steps: steps as u32,
                reverse: u32::from(reverse),
                groups_x: groups[0],
                ..Default::default()
            };
            let consts = [case.has_lengths(), ("WITH_INITIAL", u32::from(with_initial))];
            let kernel = element_kernel(KernelId::InitialRows, &consts);
            let bindings: [&[f32]; 3] = [&initial, &case.device_lengths(), &case.h];
            let found = run_kernel(gpu, &kernel, params, &bindings, groups)?;

            let initial = wide(&initial[..values * batch * columns]);
            let initial = Array3::from_shape_vec((values, batch, columns), initial).expect("as many");
            let mut want = case.wide_h();
            let initial = with_initial.then(|| initial.view());
            kernel::initial_rows(&case.slots(), begin..begin + columns, initial, want.view_mut());
            checks.case(case.describe());
            let axes = [("slot", steps + history), ("row", batch), ("column", width)];
            let want: Vec<f64> = want.into_iter().collect();
            checks.tensor("h", &axes, &found[2], &want, Tolerance::EXACT);
        }
    }
    Ok(())
}

pub(super) fn final_rows(gpu: &Gpu, checks: &mut Checks) -> Result<(), Error> {
    for case in cases() {
        let Case { steps, batch, width, begin, columns, history, values, reverse, .. } = case;
        let len = values * batch * columns;
        let groups = element_groups(len, case.widest);
        let params = params::FinalRows {
            batch: batch as u32,
            width: width as u32,
            begin: begin as u32,
            columns: columns as u32,
            history: history as u32,
            values: values as u32,
            steps: steps as u32,
            reverse: u32::from(reverse),
            groups_x: groups[0],
            ..Default::default()
        };
        let kernel = element_kernel(KernelId::FinalRows, &[case.has_lengths()]);
        let bindings: [&[f32]; 3] = [&case.h, &case.device_lengths(), &vec![7.0; len]];
        let found = run_kernel(gpu, &kernel, params, &bindings, groups)?;

        let want = kernel::final_rows(&case.slots(), begin..begin + columns, values, case.wide_h().view());
        checks.case(case.describe());
        let axes = [("slot", values), ("row", batch), ("column", columns)];
        let want: Vec<f64> = want.into_iter().collect();
        checks.tensor("out", &axes, &found[2], &want, Tolerance::EXACT);
    }
    Ok(())
}

/// Dilations, batches and lengths around each other and around a workgroup.
fn interleaved_cases() -> impl Iterator<Item = (usize, usize, usize, bool)> {
    let cases = [(2, 3, 7), (3, 1, 2), (5, 13, 5), (7, 64, 20), (4, 33, 8)];
    cases
        .into_iter()
        .flat_map(|(d, batch, steps)| [false, true].map(|with_lengths| (d, batch, steps, with_lengths)))
}

pub(super) fn interleaved_lengths(gpu: &Gpu, checks: &mut Checks) -> Result<(), Error> {
    for (d, batch, steps, with_lengths) in interleaved_cases() {
        let lengths: Vec<usize> =
            (0..batch).map(|b| if with_lengths { b * 7 % (steps + 1) } else { steps }).collect();
        let groups = element_groups(d * batch, WIDEST[d % 2]);
        let params = params::InterleavedLengths {
            batch: batch as u32,
            dilation: d as u32,
            steps: steps as u32,
            groups_x: groups[0],
        };
        let kernel = element_kernel(KernelId::InterleavedLengths, &[("LENGTHS", u32::from(with_lengths))]);
        let given = device_lengths(with_lengths.then_some(&lengths));
        let found = run_kernel(gpu, &kernel, params, &[&given, &vec![7.0; d * batch]], groups)?;

        let found: Vec<f32> = found[1].iter().map(|word| word.to_bits() as f32).collect();
        let want = kernel::interleaved_lengths(&lengths, d);
        let want: Vec<f64> = want.into_iter().map(|length| length as f64).collect();
        checks.case(format!("d {d} B {batch} T {steps} lengths {with_lengths}"));
        checks.tensor("lengths", &[("sequence", d), ("row", batch)], &found, &want, Tolerance::EXACT);
    }
    Ok(())
}

pub(super) fn interleaved_rows(gpu: &Gpu, checks: &mut Checks) -> Result<(), Error> {
    for (d, batch, steps, with_lengths) in interleaved_cases() {
        for back in [false, true] {
            let lengths: Vec<usize> =
                (0..batch).map(|b| if with_lengths { b * 7 % (steps + 1) } else { steps }).collect();
            let (columns, axes) = (5, [("slot", d), ("row", batch), ("column", 5)]);
            let len = d * batch * columns;
            let groups = element_groups(len, WIDEST[d % 2]);
            let params = params::InterleavedRows {
                batch: batch as u32,
                columns: columns as u32,
                dilation: d as u32,
                steps: steps as u32,
                back: u32::from(back),
                groups_x: groups[0],
                ..Default::default()
            };
            let kernel = element_kernel(KernelId::InterleavedRows, &[("LENGTHS", u32::from(with_lengths))]);
            let x = Random::new(27, d as u64).values(len);
            let given = device_lengths(with_lengths.then_some(&lengths));
            let found = run_kernel(gpu, &kernel, params, &[&x, &given, &vec![7.0; len]], groups)?;

            let x = Array3::from_shape_vec((d, batch, columns), wide(&x)).expect("as many");
            let want: Vec<f64> = kernel::interleaved_rows(x.view(), &lengths, back).into_iter().collect();
            checks.case(format!("d {d} B {batch} T {steps} back {back} lengths {with_lengths}"));
            checks.tensor("out", &axes, &found[2], &want, Tolerance::EXACT);
        }
    }
    Ok(())
}

pub(super) fn scan_output(gpu: &Gpu, checks: &mut Checks) -> Result<(), Error> {
    for (turn, case) in cases().into_iter().enumerate() {
        for add in [false, true] {
            let Case { steps, batch, width, begin, columns, history, reverse, .. } = case;
            let (out_width, out_begin) = (columns + 4, 3);
            let out = Random::new(26, turn as u64).values(steps * batch * out_width);
            let groups = element_groups(steps * batch * columns, case.widest);
            let params = params::ScanOutput {
                steps: steps as u32,
                batch: batch as u32,
                width: width as u32,
                begin: begin as u32,
                columns: columns as u32,
                first_slot: if reverse { 0 } else { history as u32 },
                out_width: out_width as u32,
                out_begin,
                groups_x: groups[0],
                ..Default::default()
            };
            let kernel = element_kernel(KernelId::ScanOutput, &[case.has_lengths(), ("ADD", u32::from(add))]);
            let found = run_kernel(gpu, &kernel, params, &[&case.h, &case.device_lengths(), &out], groups)?;

            let output = kernel::scan_output(&case.slots(), begin..begin + columns, case.wide_h().view());
            let shape = (steps, batch, out_width);
            let mut want = Array3::from_shape_vec(shape, wide(&out)).expect("as many");
            for ((t, row, column), &value) in output.indexed_iter() {
                let to = &mut want[[t, row, out_begin as usize + column]];
                *to = if add { *to + value } else { value };
            }
            checks.case(case.describe());
            let tolerance = if add { Tolerance::product(1) } else { Tolerance::EXACT };
            let axes = [("step", steps), ("row", batch), ("column", out_width)];
            let want: Vec<f64> = want.into_iter().collect();
            checks.tensor("out", &axes, &found[2], &want, tolerance);
        }
    }
    Ok(())
}
