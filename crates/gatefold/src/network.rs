use crate::cpu::CpuNetwork;
#[cfg(feature = "gpu")]
use crate::gpu_network::GpuNetwork;
use crate::{Device, Error};
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

impl Network {
    /// A fresh network; the seed gives the same parameters on every device.
    ///
    /// # Errors
    /// Those of [`Network::with_parameters`], but for the parameters'.
    pub fn new(device: &Device, config: &NetworkConfig, seed: u64) -> Result<Network, Error> {
        Network::with_parameters(device, config, &Parameters::initial(config, seed))
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
    /// [`Error::Model`] for parameters that are not this network's; the old ones stay then.
    pub fn set_parameters(&mut self, parameters: &Parameters) -> Result<(), Error> {
        match self {
            Network::Cpu(network) => network.set_parameters(parameters),
            #[cfg(feature = "gpu")]
            Network::Gpu(network) => network.set_parameters(parameters),
        }
    }

    /// The outputs `[T', B, O]` for inputs `[T, B, I]`; `T'` is 1 behind a last-step layer, else `T`. Recurrent
    /// layers start from zeros.
    ///
    /// # Errors
    /// [`Error::Shape`] if the input is empty or not as wide as the network's.
    pub fn predict(&mut self, input: ArrayView3<f32>) -> Result<Array3<f32>, Error> {
        check_input(self.config(), input.dim())?;
        match self {
            Network::Cpu(network) => Ok(network.predict(input)),
            #[cfg(feature = "gpu")]
            Network::Gpu(network) => network.predict(input),
        }
    }
}

/// That an input has steps and rows and the network's width.
pub(crate) fn check_input(config: &NetworkConfig, found: (usize, usize, usize)) -> Result<(), Error> {
    let (steps, batch, width) = found;
    if steps > 0 && batch > 0 && width == config.input() {
        return Ok(());
    }
    Err(Error::Shape {
        what: "input".into(),
        expected: format!("[steps, batch, features {}], none of them 0", config.input()),
        found: format!("[{steps}, {batch}, {width}]"),
    })
}
