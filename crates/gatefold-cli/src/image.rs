//! Files of pictures: SVG or PNG, as their names say.

use crate::failure::Failure;
use gatefold_model::file::write_atomically;
use gatefold_series::SeriesError;
use std::fmt;
use std::path::{Path, PathBuf};

/// A file for a picture.
pub(crate) struct Image {
    path: PathBuf,
    is_png: bool,
}

impl Image {
    /// Checks the name that was given to an option.
    ///
    /// # Errors
    /// A name that ends neither in .svg nor in .png.
    pub(crate) fn new(option: &str, path: &Path) -> Result<Image, Failure> {
        let ends = |with: &str| path.extension().is_some_and(|end| end.eq_ignore_ascii_case(with));
        match ends("svg") || ends("png") {
            true => Ok(Image { path: path.to_owned(), is_png: ends("png") }),
            false => Err(Failure::Usage(format!(
                "{option} {}: expected a file that ends in .svg or .png",
                path.display()
            ))),
        }
    }

    /// Writes the picture that one of the two makes.
    pub(crate) fn write(
        &self,
        svg: impl FnOnce() -> Result<String, SeriesError>,
        png: impl FnOnce() -> Result<Vec<u8>, SeriesError>,
    ) -> Result<(), Failure> {
        let bytes = if self.is_png { png()? } else { svg()?.into_bytes() };
        Ok(write_atomically(&self.path, &bytes)?)
    }
}

impl fmt::Display for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.display().fmt(f)
    }
}
