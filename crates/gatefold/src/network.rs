use crate::cpu::{CpuNetwork, CpuTape};
#[cfg(feature = "gpu")]
use crate::gpu_network::{GpuNetwork, GpuTape, check_parameters};
#[cfg(feature = "gpu")]
use crate::lower::Part;
use crate::{Device, Error, Sequences};
use gatefold_cpu::{Dropout, States};
use gatefold_model::{NetworkConfig, Parameters};
use ndarray::{Array3, ArrayView3};

/// A network on a device. It owns its parameters; they stay on the device until asked for.
#[derive(Debug)]
#[non_exhaustive]
#[cfg_attr(
    feature = "gpu",
    expect(clippy::large_enum_variant, reason = "a program holds few networks and moves them seldom")
)]
pub enum Network {
    /// On the CPU.
    Cpu(CpuNetwork),
    /// On a GPU.
    #[cfg(feature = "gpu")]
    Gpu(GpuNetwork),
}

/// What comes out of a network.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Forward {
    /// `[T', B, O]`, with the steps that [`NetworkConfig::output_steps`] counts; zeros behind a row's end.
    pub output: Array3<f32>,
    /// The states of the recurrent layers behind each row's last step, to go on from.
    pub states: States,
}

/// A pass forward that [`Network::backward`] can go back along. Several may live at a time, each with buffers of its own.
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
    /// `[T', B, O]`; zeros behind a row's end.
    pub fn output(&self) -> ArrayView3<'_, f32> {
        self.output.view()
    }

    /// The state of each recurrent layer behind its last step.
    pub fn states(&self) -> &States {
        &self.states
    }
}

/// The gradient by everything that a pass was made from.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Gradients {
    /// By the parameters; what tied layers and all rows and steps contribute is summed.
    pub parameters: Parameters,
    /// By the input, `[T, B, I]`; zeros behind a row's end, and by tokens.
    pub input: Array3<f32>,
    /// By the decoder's input, `[T', B, I']`, likewise; none without a decoder.
    pub decoder_input: Option<Array3<f32>>,
    /// By the states that the recurrent layers started from, given or not.
    pub states: States,
}

impl Network {
    /// A fresh network; the seed gives the same parameters on every device.
    ///
    /// # Errors
    /// Those of [`Network::with_parameters`], but for the parameters'.
    pub fn new(device: &Device, config: &NetworkConfig, seed: u64) -> Result<Network, Error> {
        #[cfg(feature = "gpu")]
        if let Device::Gpu(gpu) = device {
            check_parameters(config, gpu.target())?;
        }
        Network::with_parameters(device, config, &Parameters::initial(config, seed)?)
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
        match device {
            Device::Cpu => Ok(Network::Cpu(CpuNetwork::new(config, parameters)?)),
            #[cfg(feature = "gpu")]
            Device::Gpu(gpu) => Ok(Network::Gpu(GpuNetwork::new(gpu, config, parameters)?)),
        }
    }

    /// What the network was made from.
    pub fn config(&self) -> &NetworkConfig {
        match self {
            Network::Cpu(network) => network.config(),
            #[cfg(feature = "gpu")]
            Network::Gpu(network) => network.config(),
        }
    }

    /// A copy of the parameters.
    ///
    /// # Errors
    /// Those of reading back from a GPU.
    pub fn parameters(&mut self) -> Result<Parameters, Error> {
        match self {
            Network::Cpu(network) => Ok(network.parameters()),
            #[cfg(feature = "gpu")]
            Network::Gpu(network) => network.parameters(),
        }
    }

    /// Replaces every parameter.
    ///
    /// # Errors
    /// [`Error::Model`] for parameters that are not this network's; the old ones stay then. Those of the device.
    pub fn set_parameters(&mut self, parameters: &Parameters) -> Result<(), Error> {
        match self {
            Network::Cpu(network) => network.set_parameters(parameters),
            #[cfg(feature = "gpu")]
            Network::Gpu(network) => network.set_parameters(parameters),
        }
    }

    /// The outputs `[T', B, O]` for inputs `[T, B, I]`, all rows lasting to the end; recurrent layers start as their
    /// descriptions say. [`Network::forward`] takes lengths and states too.
    ///
    /// # Errors
    /// Those of [`Network::forward`].
    pub fn predict(&mut self, input: ArrayView3<f32>) -> Result<Array3<f32>, Error> {
        Ok(self.run(&Sequences::time_major(input.to_owned()), None, false)?.0)
    }

    /// Outputs and final states for a batch of sequences; recurrent layers start from `states`, or as their
    /// descriptions say. A decoder starts from its encoder whatever the states are.
    ///
    /// # Errors
    /// [`Error::Shape`] for an input that is empty or not what the network reads, [`Error::Config`] for states that do
    /// not fit it; on a GPU also [`Error::TooLarge`], [`Error::OutOfMemory`] and [`Error::DeviceLost`].
    pub fn forward(&mut self, input: &Sequences, states: Option<&States>) -> Result<Forward, Error> {
        let (output, states) = self.run(input, states, true)?;
        Ok(Forward { output, states })
    }

    fn run(
        &mut self,
        input: &Sequences,
        states: Option<&States>,
        finals: bool,
    ) -> Result<(Array3<f32>, States), Error> {
        input.check(self.config())?;
        self.check_states(input.batch(), states)?;
        Ok(match self {
            Network::Cpu(network) => {
                let (output, found) = network.forward(input, states);
                (output, if finals { found } else { States::default() })
            }
            #[cfg(feature = "gpu")]
            Network::Gpu(network) => {
                let (output, found) = network.forward(Part::Whole, input, states, finals)?;
                let output = output.expect("the whole network has an output");
                (output, found.unwrap_or_default())
            }
        })
    }

    /// As [`Network::forward`], keeping what [`Network::backward`] needs. Dropout layers drop where `dropout` is given.
    ///
    /// # Errors
    /// Those of [`Network::forward`].
    pub fn forward_training(
        &mut self,
        input: &Sequences,
        states: Option<&States>,
        dropout: Option<Dropout>,
    ) -> Result<Tape, Error> {
        input.check(self.config())?;
        self.check_states(input.batch(), states)?;
        let (output, states, kept) = match self {
            Network::Cpu(network) => {
                let kept = network.forward_training(input, states, dropout);
                (kept.tape.output().to_owned(), kept.tape.states().clone(), KeptTape::Cpu(Box::new(kept)))
            }
            #[cfg(feature = "gpu")]
            Network::Gpu(network) => {
                let (tape, output, states) = network.forward_training(input, states, dropout)?;
                (output, states, KeptTape::Gpu(Box::new(tape)))
            }
        };
        Ok(Tape { output, states, batch: input.batch(), kept })
    }

    /// Backpropagation through time along a tape: the gradients by parameters, inputs and initial states, where
    /// `d_output [T', B, O]` is the gradient of a loss by the output (behind a row's end it is not looked at) and `d_states`
    /// that by the final states, zeros if not given. The parameters must be those of the pass forward.
    ///
    /// # Errors
    /// [`Error::Shape`] for a `d_output` not shaped like the output; [`Error::Config`] for `d_states` that do not fit, for
    /// a tape of another network and for one that is older than the parameters; those of the device.
    pub fn backward(
        &mut self,
        tape: Tape,
        d_output: ArrayView3<f32>,
        d_states: Option<&States>,
    ) -> Result<Gradients, Error> {
        if d_output.dim() != tape.output.dim() {
            return Err(Error::Shape {
                what: "gradient of the output".into(),
                expected: format!("{:?}", tape.output.dim()),
                found: format!("{:?}", d_output.dim()),
            });
        }
        self.check_states(tape.batch, d_states)?;
        match (self, tape.kept) {
            (Network::Cpu(network), KeptTape::Cpu(tape)) => network.backward(*tape, d_output, d_states),
            #[cfg(feature = "gpu")]
            (Network::Gpu(network), KeptTape::Gpu(tape)) => network.backward(*tape, d_output, d_states),
            #[cfg(feature = "gpu")]
            _ => Err(Error::Config("the tape is of another device; use the network that made it".into())),
        }
    }

    /// The states that the decoder starts from, for an input of the encoder: those of the encoder's layers are the final
    /// ones, those of the decoder's what the bridge makes of them.
    ///
    /// # Errors
    /// [`Error::Config`] for a network without a decoder; those of [`Network::forward`].
    pub fn encode(&mut self, input: &Sequences) -> Result<States, Error> {
        if self.config().decoder().is_none() {
            let found = format!("{}: there is no decoder to encode for; use Network::forward", self.config());
            return Err(Error::Config(found));
        }
        input.check_encoder(self.config())?;
        match self {
            Network::Cpu(network) => network.encode(input),
            #[cfg(feature = "gpu")]
            Network::Gpu(network) => {
                let (_, states) = network.forward(Part::Encoder, input, None, true)?;
                Ok(states.expect("an encoder ends with states"))
            }
        }
    }

    pub(crate) fn check_states(&self, batch: usize, states: Option<&States>) -> Result<(), Error> {
        let Some(states) = states else { return Ok(()) };
        states.check(self.config(), batch).map_err(Error::Config)
    }
}
