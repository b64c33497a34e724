//! A network run one time step at a time, or chunk by chunk.

use crate::cpu::CpuNetwork;
#[cfg(feature = "gpu")]
use crate::gpu::GpuStream;
use crate::network::{OnDevice, check_states};
use crate::sequences::check_tokens;
use crate::{Error, Network, Refusal, Sequences, block_on};
use gatefold_model::{Direction, InitialState, Layer, LayerKind, NetworkConfig, Parameters, States};
use ndarray::{Array2, Array3, ArrayView2, ArrayView3, ArrayViewMut2, Axis};
use std::sync::Arc;

/// Many streams side by side through one network, one time step at a time or several. The states stay on the device. In an
/// encoder-decoder network, the decoder steps.
///
/// A stream shares the parameters of the network that made it, and may outlive it.
#[derive(Debug)]
pub struct Stream {
    batch: usize,
    kept: Kept,
}

#[derive(Debug)]
enum Kept {
    Cpu {
        network: Arc<CpuNetwork>,
        states: States,
    },
    #[cfg(feature = "gpu")]
    Gpu(Box<GpuStream>),
}

impl Network {
    /// Prepares `batch` streams, which start from the configured initial states.
    ///
    /// # Errors
    /// [`Error::Refused`] for a network with a layer that needs more than the steps so far; [`Error::Shape`] for a
    /// batch of 0; on a GPU also [`Error::TooLarge`], [`Error::Limit`] and [`Error::OutOfMemory`].
    pub fn stream(&self, batch: usize) -> Result<Stream, Error> {
        block_on(self.stream_async(batch))
    }

    /// [`Network::stream`] for callers that must not block.
    ///
    /// # Errors
    /// Those of [`Network::stream`].
    pub async fn stream_async(&self, batch: usize) -> Result<Stream, Error> {
        check(self.config())?;
        if batch == 0 {
            let (what, expected) = ("streams".into(), "at least 1".into());
            return Err(Error::Shape { what, expected, found: "0".into() });
        }
        let kept = match &self.on {
            OnDevice::Cpu(network) => {
                Kept::Cpu { states: States::zeros(&network.config, batch), network: Arc::clone(network) }
            }
            #[cfg(feature = "gpu")]
            OnDevice::Gpu(network) => Kept::Gpu(Box::new(network.stream(batch).await?)),
        };
        let mut stream = Stream { batch, kept };
        stream.reset_async().await?;
        Ok(stream)
    }
}

impl Stream {
    fn on(&self) -> OnDevice {
        match &self.kept {
            Kept::Cpu { network, .. } => OnDevice::Cpu(Arc::clone(network)),
            #[cfg(feature = "gpu")]
            Kept::Gpu(stream) => OnDevice::Gpu(Arc::clone(&stream.network)),
        }
    }

    fn config(&self) -> &NetworkConfig {
        match &self.kept {
            Kept::Cpu { network, .. } => &network.config,
            #[cfg(feature = "gpu")]
            Kept::Gpu(stream) => &stream.network.config,
        }
    }

    /// Advances every stream by one step: reads `input [B, I]`, where a token is its number, and returns the output
    /// `[B, O]`.
    ///
    /// # Errors
    /// [`Error::Shape`] for an input that does not fit; those of the device.
    pub fn step(&mut self, input: ArrayView2<f32>) -> Result<Array2<f32>, Error> {
        block_on(self.step_async(input))
    }

    /// [`Stream::step`] for callers that must not block.
    ///
    /// # Errors
    /// Those of [`Stream::step`].
    pub async fn step_async(&mut self, input: ArrayView2<'_, f32>) -> Result<Array2<f32>, Error> {
        let mut output = Array2::zeros((self.batch, self.config().output()));
        self.step_into_async(input, output.view_mut()).await?;
        Ok(output)
    }

    /// [`Stream::step`], with the output written to `output [B, O]`. On the CPU, steps after the first few allocate
    /// nothing, unless there are so many streams that threads share them.
    ///
    /// ```
    /// use gatefold::{Device, Network, NetworkConfig};
    /// use ndarray::Array2;
    ///
    /// let config = NetworkConfig::with_input(2).lstm(16).dense(3).build()?;
    /// let network = Network::new(&Device::cpu()?, &config, 1)?;
    /// let mut stream = network.stream(1)?;
    /// let (sample, mut output) = (Array2::ones((1, 2)), Array2::zeros((1, 3)));
    /// for _ in 0..100 {
    ///     stream.step_into(sample.view(), output.view_mut())?;
    /// }
    /// # Ok::<(), gatefold::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`Stream::step`]; [`Error::Shape`] for an output that does not fit.
    pub fn step_into(&mut self, input: ArrayView2<f32>, output: ArrayViewMut2<f32>) -> Result<(), Error> {
        block_on(self.step_into_async(input, output))
    }

    /// [`Stream::step_into`] for callers that must not block.
    ///
    /// # Errors
    /// Those of [`Stream::step_into`].
    pub async fn step_into_async(
        &mut self,
        input: ArrayView2<'_, f32>,
        #[cfg_attr(not(feature = "gpu"), expect(unused_mut, reason = "a GPU's output is copied to it"))]
        mut output: ArrayViewMut2<'_, f32>,
    ) -> Result<(), Error> {
        let config = self.config();
        let width = self.width();
        let fits = |what: &str, found: &[usize], name: &str, width: usize| match found == [self.batch, width]
        {
            true => Ok(()),
            false => Err(Error::Shape {
                what: what.into(),
                expected: format!("[batch {}, {name} {width}]", self.batch),
                found: format!("{found:?}"),
            }),
        };
        fits("input of a step", input.shape(), "features", width)?;
        fits("output of a step", output.shape(), "outputs", config.output())?;
        check_tokens("input", input.insert_axis(Axis(0)), None, self.reader())?;
        match &mut self.kept {
            Kept::Cpu { network, states } => network.step(states, input, output),
            #[cfg(feature = "gpu")]
            Kept::Gpu(stream) => {
                output.assign(&stream.step(input).await?);
                Ok(())
            }
        }
    }

    /// Advances every stream by all steps of `input [T, B, I]` and returns the outputs `[T', B, O]`, which are those of
    /// [`Stream::step`] for each of them, up to rounding. A network with one output for all steps, such as with
    /// `last_step`, gives that of the last alone: T' is 1.
    ///
    /// # Errors
    /// [`Error::Shape`] for an input that is empty or does not fit; those of the device.
    pub fn advance(&mut self, input: ArrayView3<f32>) -> Result<Array3<f32>, Error> {
        block_on(self.advance_async(input))
    }

    /// [`Stream::advance`] for callers that must not block.
    ///
    /// # Errors
    /// Those of [`Stream::advance`].
    pub async fn advance_async(&mut self, input: ArrayView3<'_, f32>) -> Result<Array3<f32>, Error> {
        let (steps, batch, width) = input.dim();
        if steps == 0 || [batch, width] != [self.batch, self.width()] {
            return Err(Error::Shape {
                what: "input of a stream".into(),
                expected: format!("[steps, batch {}, features {}]", self.batch, self.width()),
                found: format!("{:?}", input.shape()),
            });
        }
        check_tokens("input", input, None, self.reader())?;
        if self.config().decoder().is_some() {
            // A pass over a decoder alone would need an encoder's states as its own.
            let mut outputs = Vec::with_capacity(steps);
            for step in input.outer_iter() {
                outputs.push(self.step_async(step).await?);
            }
            let views: Vec<_> = outputs.iter().map(|output| output.view()).collect();
            return Ok(ndarray::stack(Axis(0), &views).expect("steps have the same shape"));
        }
        match &mut self.kept {
            Kept::Cpu { network, states } => {
                let (output, after) = network.forward(&Sequences::from(input), Some(states));
                *states = after;
                Ok(output)
            }
            #[cfg(feature = "gpu")]
            Kept::Gpu(stream) => stream.advance(input).await,
        }
    }

    /// The width of a step's input.
    fn width(&self) -> usize {
        let config = self.config();
        config.decoder().map_or(config.input(), |at| config.layers()[at].output)
    }

    /// The layer that reads the input.
    fn reader(&self) -> Option<&LayerKind> {
        let config = self.config();
        config.layers().get(config.decoder().map_or(0, |at| at + 1)).map(|layer| &layer.kind)
    }

    /// The states of all streams after the last step.
    ///
    /// # Errors
    /// On a GPU [`Error::Device`], [`Error::DeviceLost`] and [`Error::OutOfMemory`], from reading back.
    pub fn states(&self) -> Result<States, Error> {
        block_on(self.states_async())
    }

    /// [`Stream::states`] for callers that must not block.
    ///
    /// # Errors
    /// Those of [`Stream::states`].
    pub async fn states_async(&self) -> Result<States, Error> {
        match &self.kept {
            Kept::Cpu { states, .. } => Ok(states.clone()),
            #[cfg(feature = "gpu")]
            Kept::Gpu(stream) => stream.states().await,
        }
    }

    /// Continues from other states, such as those of [`Network::forward`] or [`Network::encode`].
    ///
    /// # Errors
    /// [`Error::Refused`] for states of another network or batch; those of the device.
    pub fn set_states(&mut self, states: &States) -> Result<(), Error> {
        block_on(self.set_states_async(states))
    }

    /// [`Stream::set_states`] for callers that must not block.
    ///
    /// # Errors
    /// Those of [`Stream::set_states`].
    pub async fn set_states_async(&mut self, states: &States) -> Result<(), Error> {
        check_states(self.config(), self.batch, Some(states))?;
        match &mut self.kept {
            Kept::Cpu { states: kept, .. } => *kept = states.clone(),
            #[cfg(feature = "gpu")]
            Kept::Gpu(stream) => stream.set_states(states).await?,
        }
        Ok(())
    }

    /// Resets every stream to its configured initial state. Learned states are taken from the current parameters.
    ///
    /// # Errors
    /// On a GPU [`Error::Device`], [`Error::DeviceLost`] and [`Error::OutOfMemory`], from reading back.
    pub fn reset(&mut self) -> Result<(), Error> {
        block_on(self.reset_async())
    }

    /// [`Stream::reset`] for callers that must not block.
    ///
    /// # Errors
    /// Those of [`Stream::reset`].
    pub async fn reset_async(&mut self) -> Result<(), Error> {
        let states = self.initial_states(self.batch).await?;
        self.set_states_async(&states).await
    }

    /// Resets the streams in these rows, as [`Stream::reset`] does; the others go on. All states are read back to do
    /// so.
    ///
    /// # Errors
    /// Those of [`Stream::reset`]; [`Error::Shape`] for a row that does not exist, before any stream is changed.
    pub fn reset_rows(&mut self, rows: &[usize]) -> Result<(), Error> {
        block_on(self.reset_rows_async(rows))
    }

    /// [`Stream::reset_rows`] for callers that must not block.
    ///
    /// # Errors
    /// Those of [`Stream::reset_rows`].
    pub async fn reset_rows_async(&mut self, rows: &[usize]) -> Result<(), Error> {
        if let Some(row) = rows.iter().find(|row| **row >= self.batch) {
            let (what, expected) = ("stream to reset".into(), format!("0 to {}", self.batch - 1));
            return Err(Error::Shape { what, expected, found: row.to_string() });
        }
        let fresh = self.initial_states(1).await?;
        let mut states = self.states_async().await?;
        for (layer, fresh) in states.layers.iter_mut().zip(&fresh.layers) {
            for &row in rows {
                layer.h.index_axis_mut(Axis(1), row).assign(&fresh.h.index_axis(Axis(1), 0));
                if let (Some(c), Some(fresh)) = (&mut layer.c, &fresh.c) {
                    c.index_axis_mut(Axis(1), row).assign(&fresh.index_axis(Axis(1), 0));
                }
                if let (Some(y), Some(fresh)) = (&mut layer.y, &fresh.y) {
                    y.row_mut(row).assign(&fresh.row(0));
                }
            }
        }
        self.set_states_async(&states).await
    }

    /// The number of streams.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// The configured initial states of `batch` streams.
    async fn initial_states(&self, batch: usize) -> Result<States, Error> {
        let on = self.on();
        let recurrent = on.config().recurrent_layers().filter_map(Layer::recurrent);
        // Reading the parameters back takes time, and most networks have no initial state among them.
        let learned = recurrent.into_iter().any(|recurrent| recurrent.initial == InitialState::Learned);
        let parameters = if learned { on.parameters().await? } else { Parameters::default() };
        Ok(States::initial(on.config(), &parameters, batch))
    }
}

/// Checks that no layer needs more than the steps so far.
fn check(config: &NetworkConfig) -> Result<(), Error> {
    refuse_ahead(config, "so it cannot go step by step; use Network::forward")
}

/// Checks that one batch can continue where another ended.
pub(crate) fn check_goes_on(config: &NetworkConfig) -> Result<(), Error> {
    if let Some(at) = config.decoder() {
        return Err(Error::refused_for(
            Refusal::Decoder,
            at,
            format!("{config}: a decoder starts from its encoder, not from the batch before"),
        ));
    }
    refuse_ahead(
        config,
        "so it cannot continue where a batch ended; train on whole sequences, with Trainer::step",
    )
}

/// Refuses a layer that needs more than the steps so far.
fn refuse_ahead(config: &NetworkConfig, advice: &str) -> Result<(), Error> {
    let begin = config.decoder().map_or(0, |at| at + 1);
    for layer in &config.layers()[begin..] {
        let problem = match layer.kind {
            LayerKind::Recurrent(recurrent) if recurrent.direction != Direction::Forward => {
                "it reads the sequence from its end"
            }
            LayerKind::Conv1d(conv) if !conv.is_pointwise() => "it reads several steps at once",
            LayerKind::Pool(_) => "it reads all steps of a row",
            LayerKind::Expand { .. } => "it makes several steps of one",
            _ => continue,
        };
        let message = format!("{}: {problem}, {advice}", layer.place());
        return Err(Error::refused_for(Refusal::Stream, layer.index, message));
    }
    Ok(())
}
