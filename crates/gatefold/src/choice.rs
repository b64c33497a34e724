use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

/// The device to open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// A real GPU if there is one, else the CPU; a software adapter is never taken.
    #[default]
    Auto,
    /// A GPU, or a software adapter if there is no other.
    Gpu,
    /// The CPU.
    Cpu,
    /// The first adapter with this name, else the first whose name contains this text, regardless of case.
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
}
