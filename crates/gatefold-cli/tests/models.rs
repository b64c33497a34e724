//! `gatefold run`, `convert` and `describe` on models of every kind, from end to end as a user runs them.

mod convert;
mod keras;
mod run;
mod support;
