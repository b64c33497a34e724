//! A batch trained in chunks of its steps; see `gatefold_schedule::pass::chunk`.

use super::GpuTraining;
use crate::batch::{Chunk, TrainBatch};
use crate::gpu::network::upload;
use crate::gpu::prepared::Prepared;
use crate::gpu::{DeviceBuffer, GpuNetwork};
use crate::{Error, Sequences};
use gatefold_model::{Dropout, TrainConfig};
use gatefold_schedule::pass::{self, ChunkStage, Pass};
use gatefold_schedule::{Given, StateLayout, StateSet};
use std::sync::Arc;

/// The plans of a batch's chunks, and the states that are kept between its passes.
#[derive(Debug)]
pub(super) struct Chunks {
    passes: Vec<Pass>,
    /// Chunks of one shape share them.
    plans: Vec<((ChunkStage, Pass), Prepared)>,
    states: KeptStates,
}

/// The states at which chunks begin, those carried to the next batch, and the buffers through which chunks pass them on.
#[derive(Debug)]
struct KeptStates {
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

    async fn keep(&self, place: usize) -> Result<(), Error> {
        self.current.copy_to(0, &self.kept, place * self.len, self.len).await
    }

    async fn restore(&self, place: usize) -> Result<(), Error> {
        self.kept.copy_to(place * self.len, &self.current, 0, self.len).await
    }

    async fn clear_gradients(&self) -> Result<(), Error> {
        self.d_states.write(0, &vec![0.0f32; self.len]).await
    }
}

impl Chunks {
    /// Prepares every plan, so that one for which there is no room is refused before anything has run.
    async fn new(
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

    fn plan(&self, stage: ChunkStage, pass: &Pass) -> &Prepared {
        let found = self.plans.iter().find(|(key, _)| *key == (stage, *pass));
        &found.expect("every plan was prepared").1
    }
}

impl GpuTraining {
    /// Adds a batch's gradients and its loss, chunk by chunk of that many steps.
    pub(super) async fn accumulate_chunks(
        &mut self,
        network: &GpuNetwork,
        config: &TrainConfig,
        given: &TrainBatch<'_, '_>,
        (whole, steps): (Pass, usize),
    ) -> Result<(), Error> {
        let chunks = match self.chunks.take(&whole) {
            Some(chunks) => chunks,
            None => Chunks::new(network, config, &whole, steps).await?,
        };
        let (states, count) = (&chunks.states, chunks.passes.len());
        let range = |at: usize| at * steps..given.input.steps().min((at + 1) * steps);
        let of_chunk = |at: usize| given.chunk(&network.config, range(at));

        chunks.plan(ChunkStage::Pack, &whole).compiled.submit().await?;
        for (at, pass) in chunks.passes.iter().enumerate() {
            // Those of the first are there only if they were carried; else nobody reads them.
            states.keep(at).await?;
            if at + 1 < count {
                let Chunk { input, dropout, .. } = of_chunk(at);
                self.run_chunk(network, chunks.plan(ChunkStage::Advance, pass), (&input, dropout)).await?;
            }
        }
        states.clear_gradients().await?;
        for (at, pass) in chunks.passes.iter().enumerate().rev() {
            self.make_room_for_a_loss().await?;
            states.restore(at).await?;
            let prepared = chunks.plan(ChunkStage::Backward, pass);
            let Chunk { input, target, weights, dropout } = of_chunk(at);
            prepared.write_sequence(&Given::Target, target).await?;
            prepared.write(&Given::Weights, &weights).await?;
            self.run_chunk(network, prepared, (&input, dropout)).await?;
            self.waiting.push(at == 0);
            if pass.carry.is_some() {
                states.keep(count).await?;
            }
        }
        if whole.carry.is_some() {
            states.restore(count).await?;
        }
        self.chunks.put(whole, chunks);
        Ok(())
    }

    async fn run_chunk(
        &mut self,
        network: &GpuNetwork,
        prepared: &Prepared,
        (input, dropout): (&Sequences<'_>, Option<Dropout>),
    ) -> Result<(), Error> {
        upload(prepared, input, dropout).await?;
        let submitted = prepared.compiled.submit().await?;
        self.went_under_way(network, submitted)
    }
}
