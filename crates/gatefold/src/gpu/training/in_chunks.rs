//! A batch trained in chunks of its steps, the last chunk first.

use super::GpuTraining;
use super::chunks::Chunks;
use crate::batch::{Chunk, TrainBatch};
use crate::gpu::network::upload;
use crate::gpu::{GpuNetwork, Steps};
use crate::{Error, Sequences};
use gatefold_model::{Dropout, TrainConfig};
use gatefold_schedule::pass::{self, ChunkStage, Pass};
use gatefold_schedule::{Given, Target};

impl GpuTraining {
    /// Adds a batch's gradients and its loss, chunk by chunk of that many steps.
    pub(super) async fn accumulate_chunks(
        &mut self,
        network: &GpuNetwork,
        config: &TrainConfig,
        given: &TrainBatch<'_, '_>,
        (whole, steps): (Pass, usize),
    ) -> Result<(), Error> {
        let mut chunks = match self.chunks.take(&whole) {
            Some(chunks) => chunks,
            None => Chunks::new(network, config, &whole, steps).await?,
        };
        let count = chunks.passes.len();
        let range = |at: usize| at * steps..given.input.steps().min((at + 1) * steps);
        let of_chunk = |at: usize| given.chunk(&network.config, range(at));

        chunks.plan(ChunkStage::Pack, &whole).compiled.submit().await?;
        for at in 0..count {
            // Those of the first are there only if they were carried; else nobody reads them.
            chunks.states.keep(at).await?;
            if at + 1 < count {
                let Chunk { input, dropout, .. } = of_chunk(at);
                let stage = (ChunkStage::Advance, chunks.passes[at]);
                self.run_chunk((network, config), &mut chunks, stage, (&input, dropout)).await?;
            }
        }
        chunks.states.clear_gradients().await?;
        for at in (0..count).rev() {
            self.make_room_for_a_loss().await?;
            chunks.states.restore(at).await?;
            let pass = chunks.passes[at];
            let prepared = chunks.plan(ChunkStage::Backward, &pass);
            let Chunk { input, target, weights, dropout } = of_chunk(at);
            prepared.write_sequence(&Given::Target, target).await?;
            prepared.write(&Given::Weights, &weights).await?;
            let stage = (ChunkStage::Backward, pass);
            self.run_chunk((network, config), &mut chunks, stage, (&input, dropout)).await?;
            self.waiting.push(at == 0);
            if pass.carry.is_some() {
                chunks.states.keep(count).await?;
            }
        }
        if whole.carry.is_some() {
            chunks.states.restore(count).await?;
        }
        self.chunks.put(whole, chunks);
        Ok(())
    }

    async fn run_chunk(
        &mut self,
        (network, config): (&GpuNetwork, &TrainConfig),
        chunks: &mut Chunks,
        (stage, pass): (ChunkStage, Pass),
        (input, dropout): (&Sequences<'_>, Option<Dropout>),
    ) -> Result<(), Error> {
        let prepared = chunks.plan(stage, &pass);
        upload(prepared, input, dropout).await?;
        let plan = |target: &Target| pass::chunk(&network.config, config, target, &pass, stage);
        let submitted = prepared.run(&network.gpu, &network.shared, Steps::All, plan).await?;
        self.went_under_way(network, submitted)
    }
}
