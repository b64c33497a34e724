//! The layers that forward-mode derivatives cover on devices.

use crate::{Cell, LayerKind, ModelError, NetworkConfig};

impl NetworkConfig {
    /// Checks that the devices have forward-mode derivatives of every layer.
    ///
    /// # Errors
    /// [`ModelError::Config`] names the first layer without.
    pub fn check_forward_mode(&self) -> Result<(), ModelError> {
        for layer in self.layers() {
            let what = match layer.kind {
                LayerKind::Conv1d(_) => "a convolution",
                LayerKind::Decoder { .. } => "a decoder's initial states",
                LayerKind::Recurrent(recurrent) if recurrent.norm.is_some() => "layer normalisation",
                LayerKind::Recurrent(recurrent)
                    if recurrent.is_dressed() || recurrent.noise.weights > 0.0 =>
                {
                    "noise within a cell"
                }
                LayerKind::Recurrent(recurrent) if recurrent.dilation > 1 => "a dilation",
                LayerKind::Recurrent(recurrent) if matches!(recurrent.cell, Cell::Custom(_)) => {
                    "a custom cell"
                }
                _ => continue,
            };
            return Err(ModelError::Config {
                place: layer.place(),
                problem: format!(
                    "there are no forward-mode derivatives of {what}; train with first-order optimisers"
                ),
            });
        }
        Ok(())
    }
}
