//! All tests of this crate's public interface, in one program, which is faster to build than one for each file.

mod amplifier;
mod branches;
mod files;
mod folds;
#[cfg(feature = "keras")]
mod keras;
#[cfg(feature = "pt")]
mod pickled;
mod pytorch;
mod refusals;
mod state_dicts;
