#[cfg(feature = "gpu")]
use crate::gpu::{Gpu, GpuOptions};
use crate::{DeviceChoice, Error, block_on};
use gatefold_cpu::Threads;

/// The device that a network lives and computes on.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Device {
    /// Plain Rust on the CPU.
    Cpu,
    /// A GPU through wgpu.
    #[cfg(feature = "gpu")]
    Gpu(Gpu),
}

impl Device {
    /// Opens the chosen device.
    ///
    /// # Errors
    /// [`Error::NoAdapter`] if a GPU is wanted and none fits; [`Error::Device`] if the driver refuses, or if a GPU is
    /// wanted in a build without the feature `gpu`.
    pub fn open(choice: &DeviceChoice) -> Result<Device, Error> {
        block_on(Device::open_async(choice))
    }

    /// [`Device::open`] for callers that must not block.
    ///
    /// # Errors
    /// Those of [`Device::open`].
    #[cfg(feature = "gpu")]
    pub async fn open_async(choice: &DeviceChoice) -> Result<Device, Error> {
        let gpu = Gpu::request_async(choice, &GpuOptions::default()).await?;
        Ok(gpu.map_or(Device::Cpu, Device::Gpu))
    }

    /// [`Device::open`] for callers that must not block.
    ///
    /// # Errors
    /// Those of [`Device::open`].
    #[cfg(not(feature = "gpu"))]
    pub async fn open_async(choice: &DeviceChoice) -> Result<Device, Error> {
        match choice {
            DeviceChoice::Auto | DeviceChoice::Cpu => Ok(Device::Cpu),
            DeviceChoice::Gpu | DeviceChoice::Named(_) => Err(Error::Device(format!(
                "device \"{choice}\": this build has no GPU support; build with the feature gpu, or use device \"cpu\""
            ))),
        }
    }

    /// A warning to show to the user, if there is one: a software adapter is slower than the CPU device.
    pub fn warning(&self) -> Option<String> {
        match self {
            Device::Cpu => None,
            #[cfg(feature = "gpu")]
            Device::Gpu(gpu) => gpu
                .is_software()
                .then(|| format!("{} is a software adapter, slower than device \"cpu\"", gpu.info().name)),
        }
    }

    /// A one-line description.
    pub fn summary(&self) -> String {
        match self {
            Device::Cpu => format!("cpu ({} threads)", Threads::available().count()),
            #[cfg(feature = "gpu")]
            Device::Gpu(gpu) => gpu.summary(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_is_always_there() {
        let device = Device::open(&DeviceChoice::Cpu).unwrap();
        assert!(device.summary().starts_with("cpu ("), "{}", device.summary());
    }
}
