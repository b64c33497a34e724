//! The device as far as plans depend on it.

use crate::Error;
use crate::product::ProductChoice;
use crate::scan::{ScanChoice, Tuning};
use gatefold_shaders::{Lanes, ParamsFrom};
use std::sync::Arc;

/// A device as the planner sees it. Plans can be made for a device that is not present.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Whether invocations of a subgroup share what they load.
    pub lanes: Lanes,
    /// The place from which kernels read their params.
    pub params: ParamsFrom,
    /// Whether it is a software driver, which has few threads and prefers large tiles; a GPU wants many invocations.
    pub software: bool,
    /// Iterations after which the driver silently ends an invocation's loops; `None` for drivers that never do.
    pub max_loop_iterations: Option<u32>,
    /// The most invocations of a workgroup.
    pub max_invocations: u32,
    /// Memory that the invocations of a workgroup share.
    pub max_workgroup_bytes: u32,
    /// Workgroups that a probe saw run at the same time; 0 without a probe, or where workgroups of a dispatch cannot exchange
    /// data.
    pub resident_groups: u32,
    /// The strategies that scans may take.
    pub scan: ScanChoice,
    /// The strategies that timing found fastest, where scans may take any.
    pub tuning: Arc<Tuning>,
    /// The kernels that matrix products may take.
    pub product: ProductChoice,
    /// The largest buffer.
    pub max_buffer_bytes: u64,
    /// The largest part of a buffer that a kernel may see.
    pub max_binding_bytes: u64,
}

impl Target {
    /// A device with the WebGPU default limits and nothing more.
    pub fn webgpu() -> Self {
        Target {
            lanes: Lanes::Single,
            params: ParamsFrom::Uniform,
            software: false,
            max_loop_iterations: None,
            max_invocations: 256,
            max_workgroup_bytes: 16 << 10,
            resident_groups: 0,
            scan: ScanChoice::Auto,
            tuning: Arc::default(),
            product: ProductChoice::Auto,
            max_buffer_bytes: 256 << 20,
            max_binding_bytes: 128 << 20,
        }
    }

    /// The same device, whose scans never take a grid.
    pub fn without_grids(&self) -> Target {
        Target { resident_groups: 0, ..self.clone() }
    }

    /// Checks that a tensor fits into one buffer and one binding of the device.
    ///
    /// # Errors
    /// [`Error::TooLarge`] with the tensor's name.
    pub fn check_size(&self, tensor: &str, needed_bytes: u64) -> Result<(), Error> {
        let (buffer_bytes, binding_bytes) = (self.max_buffer_bytes, self.max_binding_bytes);
        if needed_bytes <= buffer_bytes.min(binding_bytes) {
            return Ok(());
        }
        Err(Error::TooLarge { tensor: tensor.into(), needed_bytes, buffer_bytes, binding_bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_limits_are_named_and_the_tighter_counts() {
        let target = Target::webgpu();
        assert!(target.check_size("h", 128 << 20).is_ok());
        let error = target.check_size("h", (128 << 20) + 1).unwrap_err().to_string();
        assert!(
            error.starts_with(
                "h needs 134217729 bytes; the device allows 268435456 in a buffer and 134217728"
            )
        );
    }
}
