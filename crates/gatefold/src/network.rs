pub(crate) mod hessian_free;
mod random;
pub(crate) mod second_order;

use crate::cpu::{CpuNetwork, CpuTape};
#[cfg(feature = "gpu")]
use crate::gpu::{GpuGradients, GpuNetwork, GpuTape};
use crate::{Device, Error, Refusal, Sequences, block_on};
use gatefold_model::file::{Model, pytorch};
use gatefold_model::{Dropout, NetworkConfig, Parameters, States};
#[cfg(feature = "gpu")]
use gatefold_schedule::{Half, pass};
use ndarray::{Array3, ArrayView3};
use std::path::Path;
use std::sync::Arc;

/// A network on a device. It owns its parameters; they stay on the device until asked for.
///
/// Methods that run the network take `&self`: several passes may run at once, each in its own buffers.
#[derive(Debug)]
pub struct Network {
    pub(crate) on: OnDevice,
}

/// A network's parameters and plans, shared with its streams, tapes and gradients.
#[derive(Clone, Debug)]
pub(crate) enum OnDevice {
    Cpu(Arc<CpuNetwork>),
    #[cfg(feature = "gpu")]
    Gpu(Arc<GpuNetwork>),
}

impl OnDevice {
    pub(crate) fn config(&self) -> &NetworkConfig {
        match self {
            OnDevice::Cpu(network) => &network.config,
            #[cfg(feature = "gpu")]
            OnDevice::Gpu(network) => &network.config,
        }
    }

    pub(crate) async fn parameters(&self) -> Result<Parameters, Error> {
        match self {
            OnDevice::Cpu(network) => Ok(network.parameters()),
            #[cfg(feature = "gpu")]
            OnDevice::Gpu(network) => network.parameters().await,
        }
    }
}

/// The result of a forward pass.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Forward {
    /// `[T', B, O]`, where T' is [`NetworkConfig::output_steps`]; zero past a row's end.
    pub output: Array3<f32>,
    /// The final states of the recurrent layers, to continue from.
    pub states: States,
}

/// A recorded forward pass, for [`Network::backward`]. Several tapes can exist at once, each with its own buffers.
#[derive(Debug)]
pub struct Tape {
    output: Array3<f32>,
    states: States,
    batch: usize,
    kept: KeptTape,
}

#[derive(Debug)]
enum KeptTape {
    Cpu(Box<CpuTape>),
    #[cfg(feature = "gpu")]
    Gpu(Box<GpuTape>),
}

impl Tape {
    /// The output, `[T', B, O]`; zero past a row's end.
    pub fn output(&self) -> ArrayView3<'_, f32> {
        self.output.view()
    }

    /// The final states of the recurrent layers.
    pub fn states(&self) -> &States {
        &self.states
    }
}

/// The gradients of a pass, kept on the device. [`Trainer::apply`](crate::Trainer::apply) uses them there;
/// [`Gradients::read`] and [`Gradients::parameters`] read them back.
#[derive(Debug)]
pub struct Gradients {
    pub(crate) kept: KeptGradients,
}

#[derive(Debug)]
pub(crate) enum KeptGradients {
    Cpu(Box<gatefold_cpu::Gradients>, Arc<CpuNetwork>),
    #[cfg(feature = "gpu")]
    Gpu(Box<GpuGradients>),
}

/// The gradients of a pass as arrays.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct GradientArrays {
    /// With respect to the parameters, summed over rows, steps and tied layers.
    pub parameters: Parameters,
    /// With respect to the input, `[T, B, I]`; zero past a row's end, and for tokens.
    pub input: Array3<f32>,
    /// With respect to the decoder's input, `[T', B, I']`, likewise; `None` without a decoder.
    pub decoder_input: Option<Array3<f32>>,
    /// With respect to the initial states, given or configured.
    pub states: States,
}

impl Gradients {
    /// Reads everything back.
    ///
    /// # Errors
    /// On a GPU [`Error::Device`], [`Error::DeviceLost`] and [`Error::OutOfMemory`], from reading back.
    pub fn read(&self) -> Result<GradientArrays, Error> {
        block_on(self.read_async())
    }

    /// [`Gradients::read`] for callers that must not block.
    ///
    /// # Errors
    /// Those of [`Gradients::read`].
    pub async fn read_async(&self) -> Result<GradientArrays, Error> {
        Ok(match &self.kept {
            KeptGradients::Cpu(found, _) => GradientArrays {
                parameters: found.parameters.clone().into_iter().collect(),
                input: found.input.clone(),
                decoder_input: found.decoder_input.clone(),
                states: found.states.clone(),
            },
            #[cfg(feature = "gpu")]
            KeptGradients::Gpu(found) => GradientArrays {
                parameters: found.parameters().await?,
                input: found.input(Half::Input).await?,
                decoder_input: found.decoder_input().await?,
                states: found.states().await?,
            },
        })
    }

    /// Reads back the gradients with respect to the parameters alone.
    ///
    /// # Errors
    /// On a GPU [`Error::Device`], [`Error::DeviceLost`] and [`Error::OutOfMemory`], from reading back.
    pub fn parameters(&self) -> Result<Parameters, Error> {
        block_on(self.parameters_async())
    }

    /// [`Gradients::parameters`] for callers that must not block.
    ///
    /// # Errors
    /// Those of [`Gradients::parameters`].
    pub async fn parameters_async(&self) -> Result<Parameters, Error> {
        match &self.kept {
            KeptGradients::Cpu(found, _) => Ok(found.parameters.clone().into_iter().collect()),
            #[cfg(feature = "gpu")]
            KeptGradients::Gpu(found) => found.parameters().await,
        }
    }
}

impl Network {
    /// A network whose parameters are drawn from the seed, the same on every device.
    ///
    /// # Errors
    /// [`Error::TooLarge`], [`Error::OutOfMemory`] and [`Error::Model`] for a network that the device or the host
    /// cannot hold.
    pub fn new(device: &Device, config: &NetworkConfig, seed: u64) -> Result<Network, Error> {
        block_on(Network::new_async(device, config, seed))
    }

    /// [`Network::new`] for callers that must not block.
    ///
    /// # Errors
    /// Those of [`Network::new`].
    pub async fn new_async(device: &Device, config: &NetworkConfig, seed: u64) -> Result<Network, Error> {
        #[cfg(feature = "gpu")]
        if let Device::Gpu(gpu) = device {
            pass::check_parameters(config, gpu.target())?;
        }
        Network::with_parameters_async(device, config, &Parameters::initial(config, seed)?).await
    }

    /// A network with given parameters.
    ///
    /// # Errors
    /// [`Error::Model`] for parameters that are not this network's; on a GPU also [`Error::TooLarge`] and
    /// [`Error::OutOfMemory`].
    pub fn with_parameters(
        device: &Device,
        config: &NetworkConfig,
        parameters: &Parameters,
    ) -> Result<Network, Error> {
        block_on(Network::with_parameters_async(device, config, parameters))
    }

    /// [`Network::with_parameters`] for callers that must not block.
    ///
    /// # Errors
    /// Those of [`Network::with_parameters`].
    pub async fn with_parameters_async(
        device: &Device,
        config: &NetworkConfig,
        parameters: &Parameters,
    ) -> Result<Network, Error> {
        let on = match device {
            Device::Cpu(cpu) => OnDevice::Cpu(Arc::new(CpuNetwork::new(config, parameters, *cpu)?)),
            #[cfg(feature = "gpu")]
            Device::Gpu(gpu) => OnDevice::Gpu(Arc::new(GpuNetwork::new(gpu, config, parameters).await?)),
        };
        Ok(Network { on })
    }

    /// Reads a network from a file: a model or a checkpoint in our format, or a PyTorch `state_dict` whose modules
    /// follow from its tensors; with the feature `pt` also PyTorch's own files. [`file`](crate::file) has readers with more
    /// options, and says what was taken for granted.
    ///
    /// # Errors
    /// [`Error::Model`] for a file that cannot be read; those of [`Network::with_parameters`].
    pub fn load(device: &Device, path: impl AsRef<Path>) -> Result<Network, Error> {
        block_on(Network::load_async(device, path))
    }

    /// [`Network::load`] for callers that must not wait for the device. The file is read at once.
    ///
    /// # Errors
    /// Those of [`Network::load`].
    pub async fn load_async(device: &Device, path: impl AsRef<Path>) -> Result<Network, Error> {
        let path = path.as_ref();
        let model = if pytorch::is_foreign(path)? {
            pytorch::read(path, &pytorch::ReadOptions::new())?
        } else {
            Model::load(path)?
        };
        Network::with_parameters_async(device, &model.config, &model.parameters).await
    }

    /// Saves the network as a model file in our format (safetensors), written whole or not at all.
    ///
    /// # Errors
    /// [`Error::Model`] for a file that cannot be written; those of reading back from a GPU.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), Error> {
        block_on(self.save_async(path))
    }

    /// [`Network::save`] for callers that must not wait for the device. The file is written at once.
    ///
    /// # Errors
    /// Those of [`Network::save`].
    pub async fn save_async(&self, path: impl AsRef<Path>) -> Result<(), Error> {
        let (config, parameters) = (self.config().clone(), self.parameters_async().await?);
        let model = Model { config, parameters, metadata: Default::default() };
        Ok(model.save(path)?)
    }

    /// The network's description.
    pub fn config(&self) -> &NetworkConfig {
        self.on.config()
    }

    /// The device that the network is on.
    pub fn device(&self) -> Device {
        match &self.on {
            OnDevice::Cpu(network) => Device::Cpu(network.cpu),
            #[cfg(feature = "gpu")]
            OnDevice::Gpu(network) => Device::Gpu(network.gpu.clone()),
        }
    }

    /// A copy of the parameters.
    ///
    /// # Errors
    /// On a GPU [`Error::Device`], [`Error::DeviceLost`] and [`Error::OutOfMemory`], from reading back.
    pub fn parameters(&self) -> Result<Parameters, Error> {
        block_on(self.parameters_async())
    }

    /// [`Network::parameters`] for callers that must not block.
    ///
    /// # Errors
    /// Those of [`Network::parameters`].
    pub async fn parameters_async(&self) -> Result<Parameters, Error> {
        self.on.parameters().await
    }

    /// Replaces every parameter. Streams of this network use the new ones from their next step.
    ///
    /// # Errors
    /// [`Error::Model`] for parameters that are not this network's; the old ones are kept. Those of the device.
    pub fn set_parameters(&mut self, parameters: &Parameters) -> Result<(), Error> {
        block_on(self.set_parameters_async(parameters))
    }

    /// [`Network::set_parameters`] for callers that must not block.
    ///
    /// # Errors
    /// Those of [`Network::set_parameters`].
    pub async fn set_parameters_async(&mut self, parameters: &Parameters) -> Result<(), Error> {
        match &self.on {
            OnDevice::Cpu(network) => network.set_parameters(parameters),
            #[cfg(feature = "gpu")]
            OnDevice::Gpu(network) => network.set_parameters(parameters).await,
        }
    }

    /// The outputs `[T', B, O]` for a batch of sequences, from the configured initial states.
    ///
    /// # Errors
    /// Those of [`Network::forward`].
    pub fn predict<'a>(&self, input: impl Into<Sequences<'a>>) -> Result<Array3<f32>, Error> {
        block_on(self.predict_async(input))
    }

    /// [`Network::predict`] for callers that must not block.
    ///
    /// # Errors
    /// Those of [`Network::forward`].
    pub async fn predict_async<'a>(&self, input: impl Into<Sequences<'a>>) -> Result<Array3<f32>, Error> {
        Ok(self.run(&input.into(), None, false).await?.0)
    }

    /// Outputs and final states for a batch of sequences. `None` for `states` means the configured initial states. A
    /// decoder always starts from its encoder's states.
    ///
    /// # Errors
    /// [`Error::Shape`] for an input that is empty or does not fit the network, [`Error::Refused`] for states that do
    /// not fit it; on a GPU also [`Error::TooLarge`], [`Error::Limit`], [`Error::OutOfMemory`] and
    /// [`Error::DeviceLost`].
    pub fn forward<'a>(
        &self,
        input: impl Into<Sequences<'a>>,
        states: Option<&States>,
    ) -> Result<Forward, Error> {
        block_on(self.forward_async(input, states))
    }

    /// [`Network::forward`] for callers that must not block.
    ///
    /// # Errors
    /// Those of [`Network::forward`].
    pub async fn forward_async<'a>(
        &self,
        input: impl Into<Sequences<'a>>,
        states: Option<&States>,
    ) -> Result<Forward, Error> {
        let (output, states) = self.run(&input.into(), states, true).await?;
        Ok(Forward { output, states })
    }

    async fn run(
        &self,
        input: &Sequences<'_>,
        states: Option<&States>,
        finals: bool,
    ) -> Result<(Array3<f32>, States), Error> {
        input.check(self.config())?;
        check_states(self.config(), input.batch(), states)?;
        Ok(match &self.on {
            OnDevice::Cpu(network) if finals => network.forward(input, states),
            OnDevice::Cpu(network) => (network.predict(input, states), States::default()),
            #[cfg(feature = "gpu")]
            OnDevice::Gpu(network) => {
                let (output, found) = network.forward(pass::Part::Whole, input, states, finals).await?;
                let output = output.expect("the whole network has an output");
                (output, found.unwrap_or_default())
            }
        })
    }

    /// Like [`Network::forward`], and keeps what [`Network::backward`] needs. Dropout layers drop only if `dropout` is
    /// given.
    ///
    /// # Errors
    /// Those of [`Network::forward`].
    pub fn forward_training<'a>(
        &self,
        input: impl Into<Sequences<'a>>,
        states: Option<&States>,
        dropout: Option<Dropout>,
    ) -> Result<Tape, Error> {
        block_on(self.forward_training_async(input, states, dropout))
    }

    /// [`Network::forward_training`] for callers that must not block.
    ///
    /// # Errors
    /// Those of [`Network::forward`].
    pub async fn forward_training_async<'a>(
        &self,
        input: impl Into<Sequences<'a>>,
        states: Option<&States>,
        dropout: Option<Dropout>,
    ) -> Result<Tape, Error> {
        let input = input.into();
        input.check(self.config())?;
        check_states(self.config(), input.batch(), states)?;
        let (output, states, kept) = match &self.on {
            OnDevice::Cpu(network) => {
                let kept = network.forward_training(&input, states, dropout);
                (kept.tape.output().to_owned(), kept.tape.states(), KeptTape::Cpu(Box::new(kept)))
            }
            #[cfg(feature = "gpu")]
            OnDevice::Gpu(network) => {
                let (tape, output, states) = network.forward_training(&input, states, dropout).await?;
                (output, states, KeptTape::Gpu(Box::new(tape)))
            }
        };
        Ok(Tape { output, states, batch: input.batch(), kept })
    }

    /// Backpropagates through time along a tape and returns the gradients with respect to parameters, inputs and
    /// initial states. `d_output [T', B, O]` is the gradient of a loss with respect to the output, ignored past a row's
    /// end; `d_states` is the one with respect to the final states. `None` means zeros.
    ///
    /// # Errors
    /// [`Error::Shape`] for a `d_output` not shaped like the output; [`Error::Refused`] for `d_states` that do not fit, for
    /// a tape of another network and for one that is older than the parameters; those of the device.
    pub fn backward<'a>(
        &self,
        tape: Tape,
        d_output: impl Into<Option<ArrayView3<'a, f32>>>,
        d_states: Option<&States>,
    ) -> Result<Gradients, Error> {
        block_on(self.backward_async(tape, d_output, d_states))
    }

    /// [`Network::backward`] for callers that must not block.
    ///
    /// # Errors
    /// Those of [`Network::backward`].
    pub async fn backward_async<'a>(
        &self,
        tape: Tape,
        d_output: impl Into<Option<ArrayView3<'a, f32>>>,
        d_states: Option<&States>,
    ) -> Result<Gradients, Error> {
        let d_output = d_output.into();
        if let Some(d_output) = d_output.filter(|d_output| d_output.dim() != tape.output.dim()) {
            return Err(Error::Shape {
                what: "gradient with respect to the output".into(),
                expected: format!("{:?}", tape.output.dim()),
                found: format!("{:?}", d_output.dim()),
            });
        }
        check_states(self.config(), tape.batch, d_states)?;
        let (is_ours, is_current) = match (&self.on, &tape.kept) {
            (OnDevice::Cpu(network), KeptTape::Cpu(tape)) => (tape.is_of(network), tape.is_current()),
            #[cfg(feature = "gpu")]
            (OnDevice::Gpu(network), KeptTape::Gpu(tape)) => (tape.is_of(network), tape.is_current()),
            #[cfg(feature = "gpu")]
            _ => (false, true),
        };
        if !is_ours {
            return Err(Error::refused(
                Refusal::ForeignTape,
                "the tape is of another network; use the network that made it",
            ));
        }
        if !is_current {
            return Err(Error::refused(
                Refusal::StaleTape,
                "this tape is stale: parameters changed after its forward pass; run forward again",
            ));
        }
        let kept = match (&self.on, tape.kept) {
            (OnDevice::Cpu(network), KeptTape::Cpu(tape)) => {
                KeptGradients::Cpu(Box::new(tape.backward(d_output, d_states)), Arc::clone(network))
            }
            #[cfg(feature = "gpu")]
            (OnDevice::Gpu(_), KeptTape::Gpu(tape)) => {
                KeptGradients::Gpu(Box::new(tape.backward(d_output, d_states).await?))
            }
            #[cfg(feature = "gpu")]
            _ => unreachable!("a tape of this network is on its device"),
        };
        Ok(Gradients { kept })
    }

    /// Runs the encoder and returns the states that the decoder starts from: the final states of the encoder's layers,
    /// and the initial states that the bridge makes of them for the decoder's layers.
    ///
    /// # Errors
    /// [`Error::Refused`] for a network without a decoder; those of [`Network::forward`].
    pub fn encode<'a>(&self, input: impl Into<Sequences<'a>>) -> Result<States, Error> {
        block_on(self.encode_async(input))
    }

    /// [`Network::encode`] for callers that must not block.
    ///
    /// # Errors
    /// Those of [`Network::encode`].
    pub async fn encode_async<'a>(&self, input: impl Into<Sequences<'a>>) -> Result<States, Error> {
        let input = input.into();
        if self.config().decoder().is_none() {
            let found = format!("{}: there is no decoder to encode for; use Network::forward", self.config());
            return Err(Error::refused(Refusal::Decoder, found));
        }
        input.check_encoder(self.config())?;
        match &self.on {
            OnDevice::Cpu(network) => network.encode(&input),
            #[cfg(feature = "gpu")]
            OnDevice::Gpu(network) => {
                let (_, states) = network.forward(pass::Part::Encoder, &input, None, true).await?;
                Ok(states.expect("an encoder ends with states"))
            }
        }
    }

    /// The number of kernels that a prediction of `steps` steps and `batch` rows starts; `None` on the CPU.
    ///
    /// # Errors
    /// [`Error::TooLarge`] and [`Error::Limit`] for what the device has no room for.
    #[doc(hidden)]
    #[cfg(feature = "gpu")]
    pub fn inference_dispatches(&self, steps: usize, batch: usize) -> Result<Option<usize>, Error> {
        match &self.on {
            OnDevice::Cpu(_) => Ok(None),
            OnDevice::Gpu(network) => network.inference_dispatches(steps, batch).map(Some),
        }
    }
}

/// Checks that states fit a network and `batch` rows.
pub(crate) fn check_states(
    config: &NetworkConfig,
    batch: usize,
    states: Option<&States>,
) -> Result<(), Error> {
    let Some(states) = states else { return Ok(()) };
    states.check(config, batch).map_err(|problem| Error::refused(Refusal::States, problem))
}
