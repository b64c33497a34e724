//! One dispatch for each step and stage of the cell.

mod backward;

pub(super) use backward::{backward, initial_gradient};

use super::{Columns, Pass, Scan, Slots};
use crate::layer::Lowering;
use crate::plan::MAX_GROUPS;
use crate::product;
use crate::{Error, Span, Target};
use gatefold_model::{Layer, Role};
use gatefold_shaders::{CellStage, Columns as ColumnWidth, KernelId, KernelVariant, TILE_WG_SIZE, params};
use std::ops::Range;

/// Step after step forward.
pub(super) fn forward(
    low: &mut Lowering<'_>,
    layer: &Layer,
    scan: &Scan,
    steps: Range<usize>,
) -> Result<(), Error> {
    scan.in_order(steps).try_for_each(|t| one(low, layer, scan, scan.slots(t)))
}

/// One dispatch for each stage of the cell, and one for the readout.
pub(super) fn one(low: &mut Lowering<'_>, layer: &Layer, scan: &Scan, slots: Slots) -> Result<(), Error> {
    let form = &scan.form;
    let (u, h) = (scan.packed.u, form.h());
    let peepholes = low.parameters.find(low.plan, layer, Role::Peephole, form.reverse);
    let main = Stage {
        cell: form.cell(),
        hidden: form.hidden(),
        units: (form.units(), peepholes),
        weights: u,
        segments: scan.segments(),
        reads: (slots.h_from, form.recurs()),
        gates: Some(scan.gates),
        saves: scan.saves,
        to: h.begin,
    };
    let stage = |low: &mut Lowering<'_>, stage: &Stage| stage.forward(low, scan, &slots);
    if let Some(u_reset) = scan.packed.u_reset {
        // The second stage reads what the first leaves, in inference too.
        let reset = Stage { cell: CellStage::GruReset, saves: true, to: form.reset_h().begin, ..main };
        stage(low, &reset)?;
        stage(low, &Stage { weights: u_reset, segments: 1, reads: (slots.h_to, form.reset_h()), ..main })?;
    } else {
        stage(low, &main)?;
    }
    if let (Some(readout), Some(weights)) = (form.readout(), scan.packed.readout) {
        let bias = readout.bias.and_then(|role| low.parameters.find(low.plan, layer, role, form.reverse));
        let readout = Stage {
            cell: CellStage::Readout,
            hidden: readout.width,
            units: (usize::from(bias.is_some()), bias),
            weights,
            segments: 1,
            reads: (slots.h_to, h),
            gates: scan.readout,
            saves: scan.saves,
            to: form.read_out(&readout).begin,
        };
        stage(low, &readout)?;
    }
    Ok(())
}

/// One dispatch of a step forward.
#[derive(Clone, Copy)]
struct Stage {
    cell: CellStage,
    hidden: usize,
    /// The parameters that each unit has by itself: their number, and where they are.
    units: (usize, Option<Span>),
    weights: Span,
    segments: u32,
    /// The slot and the columns that its product reads.
    reads: (usize, Columns),
    gates: Option<Span>,
    saves: bool,
    /// The column of the result.
    to: usize,
}

impl Stage {
    fn forward(&self, low: &mut Lowering<'_>, scan: &Scan, slots: &Slots) -> Result<(), Error> {
        let (form, batch) = (&scan.form, scan.batch);
        let (read, skipped) = (self.reads.1, form.own());
        let inner = read.len + if self.segments == 2 { skipped.len } else { 0 };
        let own = [
            ("UNITS", self.units.0 as u32),
            ("SEGMENTS", self.segments),
            ("LENGTHS", scan.has_lengths()),
            ("SAVE", u32::from(self.saves)),
        ];
        let consts = [&own[..], &form.consts(self.cell)].concat();
        let shape = Tiles { rows: scan.rows_of(Pass::Forward), batch, columns: self.hidden, inner };
        let (kernel, groups) = shape.kernel(low.target, scan, KernelId::StepForward, self.cell, &consts)?;
        let params = params::StepForward {
            t: slots.t as u32,
            batch: batch as u32,
            hidden: self.hidden as u32,
            width: form.width() as u32,
            r_slot: self.reads.0 as u32,
            r_begin: read.begin as u32,
            r_len: read.len as u32,
            skip_slot: slots.skip as u32,
            skip_begin: skipped.begin as u32,
            skip_len: skipped.len as u32,
            h_from: slots.h_from as u32,
            h_begin: if self.cell == CellStage::Readout { 0 } else { form.h().begin as u32 },
            h_to: slots.h_to as u32,
            to_begin: self.to as u32,
            state_from: slots.state.0 as u32,
            state_to: slots.state.1 as u32,
            ..Default::default()
        };
        let has_units = self.units.0 > 0;
        let bindings = [
            self.weights.into(),
            self.units.1.filter(|_| has_units).into(),
            scan.lengths(),
            self.gates.into(),
            scan.state.into(),
            scan.h.into(),
        ];
        low.plan
            .dispatch(kernel, params, &bindings, groups)
            .note(format!("t={}", slots.t))
            .flops(2 * batch * inner * self.hidden * self.cell.product_lanes() as usize);
        Ok(())
    }
}

/// The rows of an invocation that the kernels are made for.
const ROWS: [u32; 5] = [1, 2, 4, 8, 16];

/// Whether an invocation may run so many rows.
pub(super) fn is_tile(rows: u32) -> bool {
    ROWS.contains(&rows)
}

/// Rows of an invocation worth timing.
pub(super) fn candidate_rows(batch: usize) -> impl Iterator<Item = u32> {
    ROWS.into_iter().filter(move |&rows| rows as usize <= batch.next_power_of_two())
}

/// The work of a tiled kernel in one step: rows of the batch, columns, and the length of its products.
pub(super) struct Tiles {
    /// Rows of an invocation, if they are chosen already.
    pub(super) rows: Option<u32>,
    pub(super) batch: usize,
    pub(super) columns: usize,
    pub(super) inner: usize,
}

impl Tiles {
    /// The variant of a kernel for this device and shape, and its workgroups.
    pub(super) fn kernel(
        &self,
        target: &Target,
        scan: &Scan,
        id: KernelId,
        cell: CellStage,
        consts: &[(&'static str, u32)],
    ) -> Result<(KernelVariant, [u32; 3]), Error> {
        let Tiles { rows: chosen, batch, columns, inner } = *self;
        let variant = |rows: u32| {
            let own = [("WG_SIZE", TILE_WG_SIZE), ("ROWS", rows)];
            let consts = [&own[..], consts].concat();
            KernelVariant {
                id,
                cell: Some(cell),
                lanes: target.lanes,
                columns: ColumnWidth::F32,
                consts,
                members: 1,
            }
        };
        let most = match target.software {
            true if columns <= 64 => 8,
            // An axis has so many workgroups that only huge batches need more than 4 rows.
            false if batch <= 4 * MAX_GROUPS as usize => 4,
            _ => 16,
        };
        let mut rows = chosen.unwrap_or_else(|| product::tile_rows(target, batch, columns, most));
        while rows > 1 && inner > product::max_inner(target, &variant(rows)) {
            rows /= 2;
        }
        let kernel = variant(rows);
        let longest = product::max_inner(target, &kernel);
        let groups = [columns.div_ceil(TILE_WG_SIZE as usize), batch.div_ceil(rows as usize), 1];
        if inner > longest {
            return Err(Error::limit(
                format!("{}: a step", scan.label),
                format!("{inner} units in an invocation's loop"),
                format!("{longest}"),
                "use device \"cpu\"",
            ));
        }
        if groups.iter().any(|&count| count > MAX_GROUPS as usize) {
            return Err(Error::limit(
                format!("{}: a batch of {batch}", scan.label),
                format!("{groups:?} workgroups"),
                format!("{MAX_GROUPS} an axis"),
                "use a smaller batch",
            ));
        }
        Ok((kernel, groups.map(|count| count as u32)))
    }
}
