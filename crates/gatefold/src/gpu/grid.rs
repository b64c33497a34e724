//! Scans whose workgroups wait for each other: the workgroups that a device runs at the same time, and the notice that one gave
//! up. `prepared.rs` computes such a pass again.

use super::adapter::lock;
use super::{Compiled, DeviceBuffer, Gpu};
use crate::Error;
use gatefold_schedule::scan::{ScanChoice, probe};
use gatefold_schedule::{Given, Target};
use gatefold_shaders::{GAVE_UP, GRID_STORAGE_BUFFERS, SEEN, SYNC_STRIDE};
use std::collections::HashMap;

/// The most workgroups that a probe tries.
const MOST_TRIED: u32 = 1024;
/// Tries of a number of workgroups before it counts as too many: a thread of a software driver may have to wait for a core.
const TRIES: usize = 3;

impl Gpu {
    /// The same device with a probe of its workgroups, so that scans may take grids.
    ///
    /// # Errors
    /// Those of running a kernel.
    pub(crate) async fn probed(&self) -> Result<Gpu, Error> {
        let resident_groups = match self.grids().resident.get() {
            Some(&known) => known,
            None => {
                let found = if self.can_exchange() { self.resident_groups().await? } else { 0 };
                *self.grids().resident.get_or_init(|| found)
            }
        };
        Ok(self.with_resident_groups(resident_groups))
    }

    /// [`Gpu::probed`] if scans of this device may take grids.
    pub(super) async fn probed_if_wanted(self) -> Result<Gpu, Error> {
        let target = self.target();
        let wanted = match target.scan {
            ScanChoice::Grid => true,
            ScanChoice::Auto => target.tuning.has_grids(),
            _ => false,
        };
        if wanted { self.probed().await } else { Ok(self) }
    }

    /// The same device with that many workgroups that are taken to run at the same time.
    pub(crate) fn with_resident_groups(&self, resident_groups: u32) -> Gpu {
        self.with_target(Target { resident_groups, ..Target::clone(self.target()) })
    }

    /// Says why scans take no grid any more although they could; `None` as long as no workgroup gave up waiting for others.
    pub fn grid_notice(&self) -> Option<String> {
        lock(&self.grids().notice).clone()
    }

    /// Whether workgroups of a dispatch can exchange data. Metal's barriers order memory for their own workgroup only.
    fn can_exchange(&self) -> bool {
        self.device().features().contains(wgpu::Features::MEMORY_DECORATION_COHERENT)
            && matches!(self.info().backend, wgpu::Backend::Vulkan | wgpu::Backend::Dx12)
            && self.limits().max_storage_buffers_per_shader_stage >= GRID_STORAGE_BUFFERS
    }

    /// The most workgroups that were seen to run at the same time.
    async fn resident_groups(&self) -> Result<u32, Error> {
        let (mut least, mut above) = (0, 1);
        while above <= MOST_TRIED && self.all_run(above).await? {
            (least, above) = (above, 2 * above);
        }
        while least + 1 < above.min(MOST_TRIED + 1) {
            let middle = (least + above) / 2;
            if self.all_run(middle).await? { least = middle } else { above = middle }
        }
        Ok(least)
    }

    /// Whether so many workgroups see each other.
    async fn all_run(&self, groups: u32) -> Result<bool, Error> {
        let plan = probe(self.target(), groups);
        for _ in 0..TRIES {
            let sync = DeviceBuffer::new(self, "sync", 2 * SYNC_STRIDE as usize).await?;
            let given = HashMap::from([(Given::Sync, sync.raw().clone())]);
            Compiled::new(self, &plan, &given).await?.submit().await?;
            let found = sync.read(0, SYNC_STRIDE as usize).await?;
            if found[GAVE_UP].to_bits() == 0 && found[SEEN].to_bits() == groups {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Notes that a workgroup gave up, and says so once.
    pub(super) fn gave_up(&self) {
        let mut notice = lock(&self.grids().notice);
        if notice.is_none() {
            let text = format!(
                "{}: workgroups that wait for each other did not all run at the same time; the pass was computed again without \
                 a grid, and later ones take none",
                self.info().name
            );
            log::warn!(target: "gatefold", "{text}");
            *notice = Some(text);
        }
    }
}

/// The same device after a probe of its workgroups, whatever scans it takes.
///
/// # Errors
/// Those of [`run_kernel`](super::run_kernel).
pub fn probed(gpu: &Gpu) -> Result<Gpu, Error> {
    pollster::block_on(gpu.probed())
}

/// The same device, taken to run that many workgroups at the same time whatever a probe would find, so that tests can ask for
/// one too many.
pub fn with_resident_groups(gpu: &Gpu, groups: u32) -> Gpu {
    gpu.with_resident_groups(groups)
}

/// The same device with the strategies of a tuning, a line for each, as its file has them.
///
/// # Errors
/// The line that is none.
pub fn with_tuning(gpu: &Gpu, tuning: &str) -> Result<Gpu, String> {
    Ok(gpu.with_tuning(tuning.parse()?))
}
