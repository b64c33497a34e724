use crate::Error;
#[cfg(feature = "gpu")]
use crate::gpu::{Gpu, GpuOptions};
use gatefold_cpu::Threads;
use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

/// The device to open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// A real GPU if there is one, else the CPU; a software adapter is never taken.
    #[default]
    Auto,
    /// A GPU, and a software adapter where there is no other.
    Gpu,
    /// The CPU.
    Cpu,
    /// The first adapter that is called so, else the first whose name contains this text, whatever the case of its
    /// letters.
    Named(String),
}

/// `auto`, `gpu`, `cpu`, or part of an adapter's name.
impl FromStr for DeviceChoice {
    type Err = Infallible;
    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match text.to_ascii_lowercase().as_str() {
            "auto" => DeviceChoice::Auto,
            "gpu" => DeviceChoice::Gpu,
            "cpu" => DeviceChoice::Cpu,
            _ => DeviceChoice::Named(text.into()),
        })
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DeviceChoice::Auto => "auto",
            DeviceChoice::Gpu => "gpu",
            DeviceChoice::Cpu => "cpu",
            DeviceChoice::Named(name) => name,
        })
    }
}

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
    fn choices_are_read_and_printed() {
        for text in ["auto", "gpu", "cpu", "llvmpipe"] {
            let Ok(choice) = text.parse::<DeviceChoice>();
            assert_eq!(choice.to_string(), text);
        }
        let Ok(choice) = "CPU".parse::<DeviceChoice>();
        assert_eq!(choice, DeviceChoice::Cpu);
    }

    #[test]
    fn the_cpu_is_always_there() {
        let device = Device::open(&DeviceChoice::Cpu).unwrap();
        assert!(device.summary().starts_with("cpu ("), "{}", device.summary());
    }
}
