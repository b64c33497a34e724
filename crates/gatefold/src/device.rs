#[cfg(feature = "gpu")]
use crate::gpu::{Gpu, GpuOptions};
use crate::{DeviceChoice, Error};
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
    /// [`Error::NoAdapter`] if a GPU is wanted and none fits; [`Error::Device`] if the driver refuses.
    #[cfg(feature = "gpu")]
    pub fn open(choice: &DeviceChoice) -> Result<Device, Error> {
        Ok(Gpu::request(choice, &GpuOptions::default())?.map_or(Device::Cpu, Device::Gpu))
    }

    /// Opens the chosen device.
    ///
    /// # Errors
    /// [`Error::Device`] if a GPU is wanted, which this build does not support.
    #[cfg(not(feature = "gpu"))]
    pub fn open(choice: &DeviceChoice) -> Result<Device, Error> {
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
