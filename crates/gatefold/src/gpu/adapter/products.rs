//! The kernels of a device's matrix products, kept in checkpoints.

use super::Gpu;
use crate::Error;
use gatefold_schedule::Target;
use gatefold_schedule::product::ProductChoice;
use std::sync::Arc;

impl Gpu {
    /// The kernels that products may take, as a checkpoint stores them.
    pub(crate) fn products(&self) -> String {
        self.1.product.to_string()
    }

    /// The same device with the products of [`Gpu::products`], unless its user chose.
    ///
    /// # Errors
    /// [`Error::Value`] for text that names none.
    pub(crate) fn with_products(&self, text: &str) -> Result<Gpu, Error> {
        if self.1.product != ProductChoice::Auto {
            return Ok(self.clone());
        }
        let product = text.parse::<ProductChoice>().map_err(|problem| Error::Value {
            what: "the products of a checkpoint".into(),
            expected: "the name of a choice".into(),
            found: problem,
        })?;
        Ok(Gpu(Arc::clone(&self.0), Arc::new(Target { product, ..Target::clone(&self.1) })))
    }
}
