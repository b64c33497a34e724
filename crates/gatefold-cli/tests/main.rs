//! All tests of this crate's public interface, in one program, which is faster to build than one for each file.

mod forecast;
mod machine;
mod models;
mod texts;
