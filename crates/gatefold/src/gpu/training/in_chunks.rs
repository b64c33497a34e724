//! A batch trained in chunks of its steps, the last chunk first.

use super::GpuTraining;
use super::chunks::Chunks;
use crate::batch::{Chunk, TrainBatch};
use crate::gpu::GpuNetwork;
use crate::gpu::network::upload;
use crate::gpu::prepared::Prepared;
use crate::{Error, Sequences};
use gatefold_model::{Dropout, TrainConfig};
use gatefold_schedule::Given;
use gatefold_schedule::pass::{ChunkStage, Pass};

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
