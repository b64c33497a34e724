//! All tests of this crate's public interface, in one program, which is faster to build than one for each file.

mod branches;
mod files;
mod pytorch;
mod state_dicts;
