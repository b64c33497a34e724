//! Plans and states that a batch trained in chunks of its steps keeps on the device; see `gatefold_schedule::pass::chunk`.

use crate::Error;
use crate::gpu::prepared::Prepared;
use crate::gpu::{DeviceBuffer, GpuNetwork};
use gatefold_model::TrainConfig;
use gatefold_schedule::pass::{self, ChunkStage, Pass};
use gatefold_schedule::{StateLayout, StateSet};
use std::sync::Arc;

/// The plans of a batch's chunks, and the states that are kept between its passes.
#[derive(Debug)]
pub(super) struct Chunks {
    pub(super) passes: Vec<Pass>,
    /// Chunks of one shape share them.
    plans: Vec<((ChunkStage, Pass), Prepared)>,
    pub(super) states: KeptStates,
}

/// The states at which chunks begin, those carried to the next batch, and the buffers through which chunks pass them on.
#[derive(Debug)]
pub(super) struct KeptStates {
    /// Elements of all states together.
    len: usize,
    kept: Arc<DeviceBuffer>,
    /// The states that a chunk begins with, and, after [`ChunkStage::Advance`], those that it ends with.
    current: Arc<DeviceBuffer>,
    /// The gradient with respect to the states that a chunk ends with, then to those that it begins with.
    d_states: Arc<DeviceBuffer>,
}

impl KeptStates {
    async fn new(network: &GpuNetwork, whole: &Pass, steps: usize) -> Result<KeptStates, Error> {
        let (gpu, shared) = (&network.gpu, &network.shared);
        let layout = StateLayout::new(&network.config, whole.shape.batch);
        let len = pass::kept_len(&network.config, whole, steps);
        Ok(KeptStates {
            len: layout.len,
            kept: DeviceBuffer::new(gpu, "kept states", len).await?,
            current: shared.get(gpu, &layout.given(StateSet::Initial), layout.len).await?,
            d_states: shared.get(gpu, &layout.given(StateSet::DFinal), layout.len).await?,
        })
    }

    pub(super) async fn keep(&self, place: usize) -> Result<(), Error> {
        self.current.copy_to(0, &self.kept, place * self.len, self.len).await
    }

    pub(super) async fn restore(&self, place: usize) -> Result<(), Error> {
        self.kept.copy_to(place * self.len, &self.current, 0, self.len).await
    }

    pub(super) async fn clear_gradients(&self) -> Result<(), Error> {
        self.d_states.write(0, &vec![0.0f32; self.len]).await
    }
}

impl Chunks {
    /// Prepares every plan, so that one for which there is no room is refused before anything has run.
    pub(super) async fn new(
        network: &GpuNetwork,
        config: &TrainConfig,
        whole: &Pass,
        steps: usize,
    ) -> Result<Chunks, Error> {
        let passes = pass::chunks(whole, steps);
        let states = KeptStates::new(network, whole, steps).await?;
        let mut chunks = Chunks { passes, plans: Vec::new(), states };
        chunks.prepare(network, config, ChunkStage::Pack, *whole).await?;
        for (at, pass) in chunks.passes.clone().into_iter().enumerate() {
            if at + 1 < chunks.passes.len() {
                chunks.prepare(network, config, ChunkStage::Advance, pass).await?;
            }
            chunks.prepare(network, config, ChunkStage::Backward, pass).await?;
        }
        Ok(chunks)
    }

    async fn prepare(
        &mut self,
        network: &GpuNetwork,
        config: &TrainConfig,
        stage: ChunkStage,
        pass: Pass,
    ) -> Result<(), Error> {
        if !self.plans.iter().any(|(key, _)| *key == (stage, pass)) {
            let planned = pass::chunk(&network.config, config, network.gpu.target(), &pass, stage)?;
            let prepared = Prepared::new(&network.gpu, &planned, &network.shared).await?;
            self.plans.push(((stage, pass), prepared));
        }
        Ok(())
    }

    pub(super) fn plan(&mut self, stage: ChunkStage, pass: &Pass) -> &mut Prepared {
        let found = self.plans.iter_mut().find(|(key, _)| *key == (stage, *pass));
        &mut found.expect("every plan was prepared").1
    }
}
