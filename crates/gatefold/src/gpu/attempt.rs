//! Passes whose workgroups may give up waiting for each other: the state before them, to go back to.

use super::{DeviceBuffer, Gpu};
use crate::Error;
use gatefold_schedule::Given;
use gatefold_shaders::GAVE_UP;
use std::sync::Arc;

/// Copies kept by a pass whose workgroups may give up, until it is known that none did.
#[derive(Debug)]
pub(super) struct Attempt {
    sync: Arc<DeviceBuffer>,
    /// Buffers that the pass changes and may depend on, and the places for their content.
    changed: Vec<(Arc<DeviceBuffer>, Arc<DeviceBuffer>)>,
}

impl Attempt {
    /// For a pass that notes in `sync` whether a workgroup gave up, and changes these buffers.
    pub(super) async fn new(
        gpu: &Gpu,
        sync: &Arc<DeviceBuffer>,
        buffers: Vec<(Given, Arc<DeviceBuffer>)>,
    ) -> Result<Attempt, Error> {
        let mut changed = Vec::with_capacity(buffers.len());
        for (given, buffer) in buffers {
            let place = DeviceBuffer::new(gpu, &format!("{given} before"), buffer.len()).await?;
            changed.push((buffer, place));
        }
        Ok(Attempt { sync: Arc::clone(sync), changed })
    }

    /// Copies the buffers before the pass changes them.
    pub(super) async fn keep(&self) -> Result<(), Error> {
        for (buffer, place) in &self.changed {
            buffer.copy_to(0, place, 0, place.len()).await?;
        }
        Ok(())
    }

    /// Undoes the changes of the pass.
    pub(super) async fn put_back(&self) -> Result<(), Error> {
        for (buffer, place) in &self.changed {
            place.copy_to(0, buffer, 0, place.len()).await?;
        }
        Ok(())
    }

    /// Whether a workgroup gave up; waits for the pass.
    pub(super) async fn failed(&self) -> Result<bool, Error> {
        Ok(self.sync.read(GAVE_UP, 1).await?[0].to_bits() != 0)
    }
}
