use crate::cpu::Cpu;
#[cfg(feature = "gpu")]
use crate::gpu::{Gpu, GpuOptions};
use crate::{DeviceChoice, Error, block_on};
use gatefold_cpu::{Instructions, Threads};

/// The most threads that the CPU device takes.
pub const MOST_THREADS: usize = 1024;

/// The environment variable that bounds the CPU device's threads where the program gives no number.
const VARIABLE: &str = "GATEFOLD_THREADS";

/// The device that a network lives and computes on.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Device {
    /// The CPU; see [`Device::cpu`].
    Cpu(Cpu),
    /// A GPU through wgpu.
    #[cfg(feature = "gpu")]
    Gpu(Gpu),
}

impl Device {
    /// Opens the chosen device. If that is the CPU, then as [`Device::cpu`] does.
    ///
    /// # Errors
    /// [`Error::NoAdapter`] if a GPU is wanted and none fits; [`Error::Device`] if the driver refuses, or if a GPU is
    /// wanted in a build without the feature `gpu`; those of [`Device::cpu`].
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
        gpu.map_or_else(Device::cpu, |gpu| Ok(Device::Gpu(gpu)))
    }

    /// [`Device::open`] for callers that must not block.
    ///
    /// # Errors
    /// Those of [`Device::open`].
    #[cfg(not(feature = "gpu"))]
    pub async fn open_async(choice: &DeviceChoice) -> Result<Device, Error> {
        match choice {
            DeviceChoice::Auto | DeviceChoice::Cpu => Device::cpu(),
            DeviceChoice::Gpu | DeviceChoice::Named(_) => Err(Error::Device(format!(
                "device \"{choice}\": this build has no GPU support; build with the feature gpu, or use device \"cpu\""
            ))),
        }
    }

    /// The CPU, with the number of threads in the environment variable `GATEFOLD_THREADS`; if that is unset or empty,
    /// with one thread per core that this process may use. Results are the same bits for any number.
    ///
    /// Its vector instructions are the widest that the machine has, unless the variable `GATEFOLD_CPU` names others:
    /// `plain`, `avx2`, `avx512` or `neon`.
    ///
    /// # Errors
    /// [`Error::Value`] if a variable is no number from 1 to [`MOST_THREADS`], or no instructions of this machine.
    pub fn cpu() -> Result<Device, Error> {
        Device::cpu_of(threads_of_environment()?)
    }

    /// The CPU, with this many threads, whatever `GATEFOLD_THREADS` says.
    ///
    /// ```
    /// use gatefold::{Device, Network, NetworkConfig};
    ///
    /// let config = NetworkConfig::with_input(3).lstm(8).dense(1).build()?;
    /// let network = Network::new(&Device::cpu_with_threads(2)?, &config, 7)?; // the same bits as with any other number
    /// # Ok::<(), gatefold::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Value`] for a number that is not from 1 to [`MOST_THREADS`], and if `GATEFOLD_CPU` names no instructions of
    /// this machine.
    pub fn cpu_with_threads(count: usize) -> Result<Device, Error> {
        threads("the CPU device", Some(count), &count.to_string()).and_then(Device::cpu_of)
    }

    /// The CPU with these instructions, whatever the environment says, and the threads of [`Device::cpu`]. The
    /// self-check goes through all that the machine has.
    ///
    /// # Errors
    /// Those of [`Device::cpu`].
    pub fn cpu_with_instructions(instructions: Instructions) -> Result<Device, Error> {
        let threads = threads_of_environment()?;
        Ok(Device::Cpu(Cpu { threads, instructions }))
    }

    fn cpu_of(threads: Threads) -> Result<Device, Error> {
        let instructions = Instructions::choose().map_err(|problem| Error::Value {
            what: Instructions::VARIABLE.into(),
            expected: format!("instructions that this machine has: {}", problem.available.join(", ")),
            found: format!("\"{}\"", problem.found),
        })?;
        Ok(Device::Cpu(Cpu { threads, instructions }))
    }

    /// The threads of the CPU device; `None` for a GPU.
    pub fn threads(&self) -> Option<usize> {
        match self {
            Device::Cpu(Cpu { threads, .. }) => Some(threads.count()),
            #[cfg(feature = "gpu")]
            Device::Gpu(_) => None,
        }
    }

    /// A warning to show to the user, if there is one: a software adapter is slower than the CPU device.
    pub fn warning(&self) -> Option<String> {
        match self {
            Device::Cpu(_) => None,
            #[cfg(feature = "gpu")]
            Device::Gpu(gpu) => gpu
                .is_software()
                .then(|| format!("{} is a software adapter, slower than device \"cpu\"", gpu.info().name)),
        }
    }

    /// A one-line description.
    pub fn summary(&self) -> String {
        match self {
            Device::Cpu(Cpu { threads, instructions }) => match threads.count() {
                1 => format!("cpu (1 thread, {instructions})"),
                count => format!("cpu ({count} threads, {instructions})"),
            },
            #[cfg(feature = "gpu")]
            Device::Gpu(gpu) => gpu.summary(),
        }
    }
}

fn threads_of_environment() -> Result<Threads, Error> {
    let text = std::env::var_os(VARIABLE).unwrap_or_default();
    let text = text.to_string_lossy();
    match text.trim() {
        "" => Ok(Threads::available()),
        text => threads(VARIABLE, text.parse().ok(), &format!("\"{text}\"")),
    }
}

fn threads(what: &str, count: Option<usize>, found: &str) -> Result<Threads, Error> {
    count.filter(|count| (1..=MOST_THREADS).contains(count)).map(Threads::new).ok_or_else(|| Error::Value {
        what: what.into(),
        expected: format!("a number of threads from 1 to {MOST_THREADS}"),
        found: found.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_is_always_there() {
        let device = Device::open(&DeviceChoice::Cpu).unwrap();
        assert!(device.summary().starts_with("cpu ("), "{}", device.summary());
    }

    #[test]
    fn threads_are_counted_and_bounded() {
        for (count, summary) in
            [(1, "cpu (1 thread, "), (3, "cpu (3 threads, "), (1024, "cpu (1024 threads, ")]
        {
            let device = Device::cpu_with_threads(count).unwrap();
            assert!(device.summary().starts_with(summary), "{}", device.summary());
        }
        for count in [0, 1025, usize::MAX] {
            let error = Device::cpu_with_threads(count).unwrap_err().to_string();
            let expected = "expected a number of threads from 1 to 1024";
            assert_eq!(error, format!("the CPU device: {expected}, found {count}"));
        }
    }
}
